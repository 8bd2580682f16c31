/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cpuid_lockstep.h"

#include <stdbool.h>
#include <stddef.h>

#include "base/units.h"

#define BIT(n)            (UINT32_C(1) << (n))

#define BASIC_LEAF_MAX    0x0Du
#define EXTENDED_LEAF_MAX 0x80000008u

/* and_*: what may pass. or_*: what is set for everybody. A leaf or subleaf that is not
 * listed does not exist. */
struct leaf_rule {
    uint32_t function, index;
    uint32_t and_eax, and_ebx, and_ecx, and_edx;
    uint32_t or_ebx;
};

#define ALL UINT32_MAX

static const struct leaf_rule rules[] = {
    {0x0, 0, 0, ALL, ALL, ALL, 0}, /* eax: set below */
    /* ebx: cache line only; no APIC id, one logical CPU (or_ebx). ecx: no MONITOR 3,
     * DS-CPL 4, VMX 5, SMX 6, EST 7, TM2 8, context id 10, PDCM 15, PCID 17, DCA 18,
     * x2APIC 21, TSC deadline 24, RDRAND 30, hypervisor 31, DTES64 2, SDBG 11. edx: no
     * TSC 4, MCE 7, APIC 9, MCA 14, DS 21, ACPI 22, HTT 28, TM 29, PBE 31. */
    {0x1, 0, ALL, 0x0000FF00,
     ~(BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(10) | BIT(11) |
       BIT(15) | BIT(17) | BIT(18) | BIT(21) | BIT(24) | BIT(30) | BIT(31)),
     ~(BIT(4) | BIT(7) | BIT(9) | BIT(14) | BIT(21) | BIT(22) | BIT(28) | BIT(29) |
       BIT(31)),
     BIT(16)},
    {0x2, 0, ALL, ALL, ALL, ALL, 0},
    /* eax: no counts of cores and of sharers */
    {0x4, 0, 0x3FFF, ALL, ALL, ALL, 0},
    {0x4, 1, 0x3FFF, ALL, ALL, ALL, 0},
    {0x4, 2, 0x3FFF, ALL, ALL, ALL, 0},
    {0x4, 3, 0x3FFF, ALL, ALL, ALL, 0},
    /* ebx: FSGSBASE 0, BMI1 3, AVX2 5, SMEP 7, BMI2 8, ERMS 9, ADX 19, SMAP 20,
     * CLFLUSHOPT 23, CLWB 24, SHA 29. Not: TSC_ADJUST, SGX, TSX, INVPCID, RDT, MPX,
     * AVX-512, RDSEED, PT. ecx: UMIP 2, GFNI 8, VAES 9, VPCLMULQDQ 10. Not: WAITPKG,
     * RDPID, PKU, CET. edx: FSRM 4 only; the others announce MSRs that the filter
     * refuses. */
    {0x7, 0, 0,
     BIT(0) | BIT(3) | BIT(5) | BIT(7) | BIT(8) | BIT(9) | BIT(19) | BIT(20) | BIT(23) |
         BIT(24) | BIT(29),
     BIT(2) | BIT(8) | BIT(9) | BIT(10), BIT(4), 0},
    /* XCR0: x87, SSE, AVX. Subleaf 1 (XSAVEOPT, XSAVEC, XSAVES, XGETBV1) is absent: they
       leak XINUSE. */
    {0xD, 0, BIT(0) | BIT(1) | BIT(2), ALL, ALL, 0, 0},
    {0xD, 2, ALL, ALL, ALL, ALL, 0},
    {0x80000000, 0, 0, ALL, ALL, ALL, 0}, /* eax: set below */
    /* ecx: LAHF 0, ABM 5, SSE4A 6, 3DNOWPREFETCH 8, XOP 11, FMA4 16, TBM 21. edx: no MCE
       7, APIC 9, MCA 14, RDTSCP 27, TSC 4. */
    {0x80000001, 0, ALL, 0,
     BIT(0) | BIT(5) | BIT(6) | BIT(8) | BIT(11) | BIT(16) | BIT(21),
     ~(BIT(4) | BIT(7) | BIT(9) | BIT(14) | BIT(27)), 0},
    {0x80000002, 0, ALL, ALL, ALL, ALL, 0},
    {0x80000003, 0, ALL, ALL, ALL, ALL, 0},
    {0x80000004, 0, ALL, ALL, ALL, ALL, 0},
    {0x80000005, 0, ALL, ALL, ALL, ALL, 0},
    {0x80000006, 0, ALL, ALL, ALL, ALL, 0},
    {0x80000007, 0, 0, 0, 0, 0, 0},
    /* eax: address widths. ebx would announce RDPRU, IBPB and the like; ecx counts cores.
     */
    {0x80000008, 0, 0xFFFF, 0, 0, 0, 0},
};

static const struct leaf_rule *rule_of(uint32_t function, uint32_t index, bool indexed)
{
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
        if (rules[i].function == function && (!indexed || rules[i].index == index)) {
            return &rules[i];
        }
    }
    return NULL;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

void cpuid_lockstep_filter(union cpuid_table *table)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < table->list.nent; i++) {
        struct kvm_cpuid_entry2 e = table->list.entries[i];
        bool indexed = (e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
        const struct leaf_rule *rule = rule_of(e.function, e.index, indexed);
        uint32_t eax = e.eax;

        if (!rule) {
            continue;
        }
        e.eax &= rule->and_eax;
        e.ebx = (e.ebx & rule->and_ebx) | rule->or_ebx;
        e.ecx &= rule->and_ecx;
        e.edx &= rule->and_edx;
        if (e.function == 0) {
            e.eax = min_u32(eax, BASIC_LEAF_MAX);
        } else if (e.function == 0x80000000) {
            e.eax = min_u32(eax, EXTENDED_LEAF_MAX);
        }
        table->list.entries[kept++] = e;
    }
    table->list.nent = kept;
}
