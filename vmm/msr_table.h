/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MSRs that are state of a VM's processor: what a lockstep guest may touch without an
 * exit, what a standard machine has besides, and so what is saved and restored. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MSR_TABLE_MAX    80
#define MSR_TSC          0x10u
#define MSR_TSC_DEADLINE 0x6E0u

extern const uint32_t msr_guest[], msr_standard[];
extern const size_t msr_guest_count, msr_standard_count;

/* May it be saved, and set from a file? */
bool msr_known(uint32_t index, bool standard);
