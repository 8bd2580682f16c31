/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May this VM come here? The destination's answer to Hello: every blocker at once, before
 * the first page. A pure function of what the source says and what is here.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cpu_model.h"
#include "migrate/mig_types.h"

/* A disk as the destination would use it. */
struct mig_here_disk {
    struct mig_disk disk;
    char name[MIG_NAME_MAX + 1]; /* for messages: its path or URI */
    bool reachable;
    char error[MIG_TEXT_MAX + 1]; /* why not */
};

/* This VMM, made from the VM's definition and not yet entered, and its host. */
struct mig_here {
    uint32_t version, version_min;
    uint64_t features;
    struct uuid vm, transfer; /* that are expected */
    char node[NODE_NAME_MAX + 1], build[MIG_NAME_MAX + 1];
    bool plaintext_allowed; /* insecure_lab */
    bool encrypted;         /* this connection is */
    uint32_t stream_count;  /* that were accepted */
    const char *machine, *transport, *boot;
    uint32_t cpu_count;
    const struct cpu_model *cpu; /* of this host */
    uint64_t kvm_caps;           /* bits of enum mig_kvm_cap */
    uint32_t tsc_khz;            /* 0: not known */
    bool tsc_scaling;
    uint64_t ram_len, ram_low_len;
    uint64_t
        ram_file; /* as mig_hello's: it was started with this memory; 0: it was not */
    bool ram_populated; /* the memory is already taken: memory_free does not count it */
    bool hugepages;     /* its memory shall be of them */
    uint64_t hugepages_free, memory_free; /* bytes */
    const char *no_postcopy;              /* why it cannot; NULL: it can */
    bool busy; /* another transfer runs in this instance, or it was entered */
    uint32_t device_count, disk_count, nic_count;
    const struct mig_device *device; /* what can be read */
    const struct mig_here_disk *disk;
    const struct mig_nic *nic;
};

/* TSCs that differ by at most so many parts per million are one frequency. */
#define MIG_TSC_TOLERANCE_PPM 250

/* Fills in the whole answer; true: no blocker. */
bool mig_fit(const struct mig_hello *hello, const struct mig_here *here,
             struct mig_hello_ack *ret_ack);
