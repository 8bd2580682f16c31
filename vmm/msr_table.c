/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/msr_table.h"

#include "base/units.h"

#define MSR_EFER    0xC0000080u
#define MSR_MTRRCAP 0xFEu

/* MSRs that the guest may use directly: state of the processor, saved and restored. All
 * others exit to us. */
const uint32_t msr_guest[] = {
    0xFE,                                                         /* MTRRcap, read-only */
    0x174,      0x175,      0x176,                                /* SYSENTER */
    0x200,      0x201,      0x202,      0x203,      0x204, 0x205, /* MTRR, variable */
    0x206,      0x207,      0x208,      0x209,      0x20A, 0x20B, 0x20C,
    0x20D,      0x20E,      0x20F,      0x250,      0x258, 0x259, /* MTRR, fixed */
    0x268,      0x269,      0x26A,      0x26B,      0x26C, 0x26D, 0x26E,
    0x26F,      0x277,                              /* PAT */
    0x2FF,                                          /* MTRRdefType */
    0xC0000080,                                     /* EFER: set through sregs */
    0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, /* STAR, LSTAR, CSTAR, SFMASK */
    0xC0000100, 0xC0000101, 0xC0000102,             /* FS, GS, KernelGS base */
};
/* What a standard machine has besides. The TSC itself is not one of them: setting it
 * would make the vCPUs differ. Order: the deadline after the local APIC, which vcpu_load
 * sees to. */
const uint32_t msr_standard[] = {
    0x3A,                   /* feature control */
    0x3B,                   /* TSC_ADJUST */
    0x48,                   /* SPEC_CTRL */
    0x1A0,                  /* misc enable */
    0x6E0,                  /* TSC deadline */
    0x140,                  /* misc features */
    0xD90,      0xDA0,      /* BNDCFGS, XSS */
    0xC0000103, 0xC0000104, /* TSC_AUX, AMD TSC ratio */
    0xC0010015, 0xC001011F, /* HWCR, VIRT_SPEC_CTRL */
    0x4B564D00, 0x4B564D01, /* kvm-clock: wall clock, system time */
    0x11,       0x12,       /* the same by their old numbers */
    0x4B564D02, 0x4B564D03, /* asynchronous page faults, steal time */
    0x4B564D04, 0x4B564D05, /* PV EOI, poll control */
    0x4B564D06,             /* asynchronous page fault vector */
};
_Static_assert(ARRAY_SIZE(msr_guest) + ARRAY_SIZE(msr_standard) <= MSR_TABLE_MAX,
               "room for every MSR");

const size_t msr_guest_count = ARRAY_SIZE(msr_guest);
const size_t msr_standard_count = ARRAY_SIZE(msr_standard);

static bool listed(const uint32_t *table, size_t count, uint32_t index)
{
    for (size_t i = 0; i < count; i++) {
        if (table[i] == index) {
            return true;
        }
    }
    return false;
}

bool msr_known(uint32_t index, bool standard)
{
    if (index == MSR_EFER || index == MSR_MTRRCAP) {
        return false; /* set through sregs; read-only */
    }
    return listed(msr_guest, msr_guest_count, index) ||
           (standard && listed(msr_standard, msr_standard_count, index));
}
