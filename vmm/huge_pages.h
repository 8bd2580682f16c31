/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Huge pages of 2 MiB of this host: how many are free, and what to do when they are too
 * few (Linux Documentation/admin-guide/mm/hugetlbpage). Read before the sandbox.
 */
#pragma once

#include <stdint.h>

#include "vmm/vmm_error.h"

#define HUGE_PAGE_SIZE (UINT64_C(2) << 20)
#define HUGE_PAGES_DIR "/sys/kernel/mm/hugepages/hugepages-2048kB"

/* Fills `err` with why `bytes` of guest memory cannot be had in huge pages: how many it
 * needs, how many are free, which sysctl gives them. `dir`: HUGE_PAGES_DIR, or a test's;
 * cause: errno of what failed. Returns -cause. */
int huge_pages_fail(const char *dir, uint64_t bytes, int cause, struct vmm_error *err);
