/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cpuid_standard.h"

#include <string.h>

#include "base/units.h"

#define BIT(n)         (UINT32_C(1) << (n))

#define LEAF_KVM       0x40000000u
#define LEAF_KVM_TSC   0x40000010u
#define LEAF_TOPOLOGY  0xBu
#define LEAF_TOPOLOGY2 0x1Fu

/* Bits of the id that name a core of the package. */
static uint32_t core_bits(unsigned count)
{
    uint32_t bits = 0;

    while ((1u << bits) < count) {
        bits++;
    }
    return bits;
}

/* Leaves that do not exist for the guest. */
static bool hidden(const struct kvm_cpuid_entry2 *e)
{
    switch (e->function) {
    case 0xA:           /* performance counters: their values cannot be saved */
    case 0x12:          /* SGX */
    case 0x14:          /* processor trace */
    case 0x1D:          /* AMX tiles */
    case 0x1E:          /* AMX multiplication */
    case LEAF_TOPOLOGY: /* written anew */
    case LEAF_TOPOLOGY2:
    case LEAF_KVM_TSC:
    case 0x8000000A: /* SVM */
    case 0x8000001F: /* memory encryption */
    case 0x80000022: /* AMD performance counters */
        return true;
    case 0xD: /* CET; AMX needs more state than struct kvm_xsave holds */
        return e->index == 11 || e->index == 12 || e->index == 17 || e->index == 18;
    default:
        return false;
    }
}

static void leaf_basic(struct kvm_cpuid_entry2 *e, const struct cpuid_standard_conf *conf)
{
    e->ebx =
        (e->ebx & 0x0000FFFF) | (uint32_t)conf->count << 16 | (uint32_t)conf->id << 24;
    /* no MONITOR 3, VMX 5, SMX 6, EST 7, TM2 8, PDCM 15; x2APIC 21, hypervisor 31 */
    e->ecx &= ~(BIT(3) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(15) | BIT(24));
    e->ecx |= BIT(21) | BIT(31) | (conf->tsc_deadline ? BIT(24) : 0);
    /* no DS 21, ACPI 22, TM 29, PBE 31; APIC 9; HTT 28 where there is more than one */
    e->edx &= ~(BIT(21) | BIT(22) | BIT(28) | BIT(29) | BIT(31));
    e->edx |= BIT(9) | (conf->count > 1 ? BIT(28) : 0);
}

static void leaf_features(struct kvm_cpuid_entry2 *e)
{
    if (e->index == 0) {
        e->ebx &= ~(BIT(2) | BIT(12) | BIT(15) | BIT(25)); /* SGX, RDT, PT */
        /* WAITPKG; CET (7, and 20 of EDX), whose MSRs are not saved */
        e->ecx &= ~(BIT(5) | BIT(7));
        e->edx &= ~(BIT(20) | BIT(22) | BIT(24) | BIT(25)); /* AMX */
    } else if (e->index == 1) {
        e->eax &= ~(BIT(17) | BIT(21)); /* FRED: MSRs; AMX */
        e->edx &= ~(BIT(8) | BIT(18));  /* AMX, CET */
    }
}

/* Caches: level 1 and 2 are a core's own, level 3 is shared by all. */
static void leaf_cache(struct kvm_cpuid_entry2 *e, unsigned count)
{
    uint32_t level = e->eax >> 5 & 7;
    uint32_t sharers = level >= 3 ? (1u << core_bits(count)) - 1 : 0;

    if ((e->eax & 0x1F) != 0) {
        e->eax &= 0x3FFF;
        e->eax |= sharers << 14;
        e->eax |= (((1u << core_bits(count)) - 1) & 0x3F) << 26;
    }
}

static void leaf_amd_topology(struct kvm_cpuid_entry2 *e,
                              const struct cpuid_standard_conf *conf)
{
    e->eax = conf->id;
    e->ebx = (e->ebx & ~UINT32_C(0xFFFF)) | conf->id; /* core id, one thread each */
    e->ecx = 0;
}

static void adjust(struct kvm_cpuid_entry2 *e, const struct cpuid_standard_conf *conf)
{
    switch (e->function) {
    case 0x1:
        leaf_basic(e, conf);
        break;
    case 0x4:
        leaf_cache(e, conf->count);
        break;
    case 0x7:
        leaf_features(e);
        break;
    case 0xD:
        if (e->index == 0) {
            e->eax &= ~(BIT(17) | BIT(18));
        } else if (e->index == 1) {
            e->ecx &= ~(BIT(11) | BIT(12)); /* CET */
        }
        break;
    case LEAF_KVM:
        e->eax = conf->tsc_khz != 0 ? LEAF_KVM_TSC : e->eax;
        break;
    case 0x80000001:
        /* no SVM 2, extended APIC space 3, OSVW 9, IBS 10, SKINIT 12, WDT 13, LWP 15,
         * node id 19, topology extensions 22 stays, counters 23 24 28 */
        e->ecx &= ~(BIT(2) | BIT(3) | BIT(9) | BIT(10) | BIT(12) | BIT(13) | BIT(15) |
                    BIT(19) | BIT(23) | BIT(24) | BIT(28));
        e->ecx = (e->ecx & ~BIT(1)) | (conf->count > 1 ? BIT(1) : 0); /* CmpLegacy */
        break;
    case 0x80000008:
        e->ecx = core_bits(conf->count) << 12 | (conf->count - 1);
        break;
    case 0x8000001D:
        leaf_cache(e, conf->count);
        e->eax &= 0x03FFFFFF; /* reserved here, unlike in leaf 4 */
        break;
    case 0x8000001E:
        leaf_amd_topology(e, conf);
        break;
    default:
        break;
    }
}

static void append(union cpuid_table *table, const struct kvm_cpuid_entry2 *e)
{
    if (table->list.nent < CPUID_ENTRIES_MAX) {
        table->list.entries[table->list.nent++] = *e;
    }
}

static void append_topology(union cpuid_table *table,
                            const struct cpuid_standard_conf *conf)
{
    struct kvm_cpuid_entry2 e = {.function = LEAF_TOPOLOGY,
                                 .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                                 .edx = conf->id};

    e.ebx = 1; /* subleaf 0: threads of a core */
    e.ecx = 1u << 8;
    append(table, &e);
    e.index = 1; /* cores of the package */
    e.eax = core_bits(conf->count);
    e.ebx = conf->count;
    e.ecx = 2u << 8 | 1;
    append(table, &e);
    e.index = 2;
    e.eax = e.ebx = 0;
    e.ecx = 2;
    append(table, &e);
}

void cpuid_standard_make(union cpuid_table *table, const struct cpuid_standard_conf *conf)
{
    struct kvm_cpuid_entry2 tsc = {.function = LEAF_KVM_TSC, .eax = conf->tsc_khz};
    uint32_t kept = 0, basic_max = 0;
    bool kvm = false;

    for (uint32_t i = 0; i < table->list.nent; i++) {
        struct kvm_cpuid_entry2 e = table->list.entries[i];

        if (hidden(&e)) {
            continue;
        }
        adjust(&e, conf);
        kvm |= e.function == LEAF_KVM;
        basic_max = e.function == 0 ? e.eax : basic_max;
        table->list.entries[kept++] = e;
    }
    table->list.nent = kept;
    if (basic_max >= LEAF_TOPOLOGY) {
        append_topology(table, conf);
    }
    if (kvm && conf->tsc_khz != 0) {
        append(table, &tsc);
    }
}
