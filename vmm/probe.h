/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host's KVM can do, found out by running tiny guests: capability bits and
 * CPUID tables say what should be, and software KVMs and nested hosts differ from it.
 * Takes well under a second; touches nothing but its own VMs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/kvm_ops.h"
#include "vmm/vmm_error.h"

#define PROBE_ITEMS_MAX 48

enum probe_verdict { PROBE_NO = 0, PROBE_YES, PROBE_INFO };

struct probe_item {
    const char *key;   /* stable, for --json */
    const char *title; /* for people */
    enum probe_verdict verdict;
    uint64_t value;
    char text[96]; /* may be empty */
};

struct probe_result {
    struct probe_item item[PROBE_ITEMS_MAX];
    unsigned count;
};

/* 0 or -errno with a text (no usable KVM at all). */
int probe_host(const struct kvm_ops *ops, const char *kvm_path,
               struct probe_result *ret_result, struct vmm_error *err);
/* Of SSE alone, which takes some milliseconds: 1, 0 (a guest that uses it does not run
 * here), or -errno with a text. */
#define PROBE_SSE_TITLE "SSE instructions"
int probe_sse(const struct kvm_ops *ops, const char *kvm_path, struct vmm_error *err);
/* The item of that key; NULL when there is none. */
const struct probe_item *probe_find(const struct probe_result *result, const char *key);
bool probe_yes(const struct probe_result *result, const char *key);
