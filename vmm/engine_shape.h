/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM is made of, for whoever must know before its state comes: a live migration's
 * other end. Does not change after engine_open, but for the disks' sizes, which are those
 * of when it was made.
 */
#pragma once

#include "vmm/engine.h"
#include "vmm/machine.h"

struct engine_shape {
    enum machine_type machine;
    enum machine_transport transport;
    bool kernel; /* booted without firmware */
    unsigned cpu_count;
    struct cpu_model cpu; /* of standard: what the guest sees */
    uint64_t ram_len, ram_low_len;
    bool hugepages;
    unsigned disk_count, nic_count;
    struct {
        const char *serial, *path;
        uint64_t sectors; /* of 512 bytes */
        bool read_only;
    } disk[VM_DISKS_MAX];
    struct {
        uint8_t mac[6];
        unsigned queue_pairs;
        bool offloads;
    } nic[VM_NICS_MAX];
};

void engine_shape(const struct engine *e, struct engine_shape *ret_shape);
/* The sections of its state in a stream, as machine_section counts them, then those of
 * KVM. */
bool engine_section(const struct engine *e, unsigned index,
                    struct machine_section *ret_section);
