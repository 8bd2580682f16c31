/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cpuid_model.h"

#include <string.h>

#include "base/units.h"

#define BIT(n) (UINT32_C(1) << (n))

/* What AMD repeats in 80000001 EDX of leaf 1 EDX (APM vol. 3, E.4.2). */
#define AMD_REPEATED UINT32_C(0x0183F3FF)
/* Switches of MSRs that a saved state does not hold: tsx-ctrl, misc-package-ctls,
 * energy-filtering-ctl, fb-clear-ctrl, xapic-disable-status, overclocking-status,
 * gds-ctrl. */
#define CAPS_HIDDEN (BIT(7) | BIT(10) | BIT(11) | BIT(18) | BIT(21) | BIT(23) | BIT(25))
#define CAPS_FLAWS  (BIT(2) | BIT(19)) /* rsba, rrsba */

enum reg { EAX, EBX, ECX, EDX };

/* Where each word is, and which of its bits are no part of a model. */
static const struct {
    uint32_t function, index;
    enum reg reg;
    uint32_t other;
} place[CPU_WORD_ARCH_CAPS_LO] = {
    [CPU_WORD_1_EDX] = {1, 0, EDX, BIT(28)}, /* HTT */
    [CPU_WORD_1_ECX] = {1, 0, ECX, BIT(27)}, /* OSXSAVE */
    [CPU_WORD_6_EAX] = {6, 0, EAX, 0},
    [CPU_WORD_7_EBX] = {7, 0, EBX, 0},
    [CPU_WORD_7_ECX] = {7, 0, ECX, BIT(4)}, /* OSPKE */
    [CPU_WORD_7_EDX] = {7, 0, EDX, 0},
    [CPU_WORD_7_1_EAX] = {7, 1, EAX, 0},
    [CPU_WORD_7_1_EDX] = {7, 1, EDX, 0},
    [CPU_WORD_7_2_EDX] = {7, 2, EDX, 0},
    [CPU_WORD_D_1_EAX] = {0xD, 1, EAX, 0},
    [CPU_WORD_80000001_ECX] = {0x80000001, 0, ECX, BIT(1)},       /* CmpLegacy */
    [CPU_WORD_80000001_EDX] = {0x80000001, 0, EDX, AMD_REPEATED}, /* cut by leaf 1 */
    [CPU_WORD_80000007_EDX] = {0x80000007, 0, EDX, 0},
    [CPU_WORD_80000008_EBX] = {0x80000008, 0, EBX, 0},
    [CPU_WORD_80000021_EAX] = {0x80000021, 0, EAX, 0},
    [CPU_WORD_80000021_ECX] = {0x80000021, 0, ECX, 0},
    [CPU_WORD_KVM] = {0x40000001, 0, EAX, 0},
};

static uint32_t *reg_of(struct kvm_cpuid_entry2 *e, enum reg reg)
{
    __u32 *const at[] = {&e->eax, &e->ebx, &e->ecx, &e->edx};

    return at[reg];
}

static struct kvm_cpuid_entry2 *find(const union cpuid_table *table, uint32_t function,
                                     uint32_t index)
{
    for (uint32_t i = 0; i < table->list.nent; i++) {
        const struct kvm_cpuid_entry2 *e = &table->list.entries[i];

        if (e->function == function && e->index == index) {
            return (struct kvm_cpuid_entry2 *)e;
        }
    }
    return NULL;
}

static void get_signature(const struct kvm_cpuid_entry2 *e, struct cpu_model *m)
{
    m->family = e->eax >> 8 & 0xF;
    m->family += m->family == 0xF ? e->eax >> 20 & 0xFF : 0;
    m->model = (e->eax >> 4 & 0xF) | (e->eax >> 12 & 0xF0);
    m->stepping = e->eax & 0xF;
}

/* SDM vol. 2, CPUID, figure 3-6. */
static void set_signature(struct kvm_cpuid_entry2 *e, const struct cpu_model *m)
{
    uint32_t base = m->family < 0xF ? m->family : 0xF;

    e->eax &= ~UINT32_C(0x0FFF0FFF);
    e->eax |= base << 8 | (m->family - base) << 20 | (m->model & 0xF) << 4 |
              (m->model >> 4) << 16 | m->stepping;
}

void cpuid_model_get(const union cpuid_table *table, uint64_t arch_caps,
                     struct cpu_model *ret_model)
{
    struct cpu_model m = {.vendor = ""};
    const struct kvm_cpuid_entry2 *e = find(table, 0, 0);

    if (e) {
        m.level = e->eax;
        memcpy(m.vendor, &e->ebx, 4);
        memcpy(m.vendor + 4, &e->edx, 4);
        memcpy(m.vendor + 8, &e->ecx, 4);
    }
    e = find(table, 0x80000000, 0);
    m.xlevel = e ? e->eax : 0;
    e = find(table, 1, 0);
    if (e) {
        get_signature(e, &m);
    }
    e = find(table, 0x80000008, 0);
    m.phys_bits = e ? e->eax & 0xFF : 0;
    m.linear_bits = e ? e->eax >> 8 & 0xFF : 0;
    for (unsigned w = 0; w < ARRAY_SIZE(place); w++) {
        struct kvm_cpuid_entry2 *at = find(table, place[w].function, place[w].index);

        m.word[w] = at ? *reg_of(at, place[w].reg) & ~place[w].other : 0;
    }
    if (m.word[CPU_WORD_7_EDX] & BIT(29)) {
        m.word[CPU_WORD_ARCH_CAPS_LO] = (uint32_t)arch_caps & ~CAPS_HIDDEN;
        m.word[CPU_WORD_ARCH_CAPS_HI] = (uint32_t)(arch_caps >> 32);
    }
    *ret_model = m;
}

uint64_t cpuid_model_arch_caps(const struct cpu_model *model, uint64_t host)
{
    uint64_t caps = (uint64_t)model->word[CPU_WORD_ARCH_CAPS_HI] << 32 |
                    model->word[CPU_WORD_ARCH_CAPS_LO];

    return (caps & (host | CAPS_FLAWS)) | (host & CAPS_FLAWS);
}

/* XSAVE components whose feature the model has (SDM vol. 1, 13.1). */
static uint32_t components(const struct cpu_model *m)
{
    return BIT(0) | BIT(1) | (cpu_model_has(m, "avx") ? BIT(2) : 0) |
           (cpu_model_has(m, "mpx") ? BIT(3) | BIT(4) : 0) |
           (cpu_model_has(m, "avx512f") ? BIT(5) | BIT(6) | BIT(7) : 0) |
           (cpu_model_has(m, "pku") ? BIT(9) : 0);
}

/* Leaf 0xD, subleaf 0: the components, and the size of an area with all of them. EBX
 * KVM works out by itself, from what the guest switches on. */
static void set_xsave(union cpuid_table *table, const struct cpu_model *m)
{
    struct kvm_cpuid_entry2 *e = find(table, 0xD, 0);
    uint32_t size = 576; /* legacy area and header */

    if (!e) {
        return;
    }
    e->eax &= components(m);
    for (uint32_t i = 2; i < 32; i++) {
        const struct kvm_cpuid_entry2 *part = find(table, 0xD, i);

        if ((e->eax & BIT(i)) && part && part->eax + part->ebx > size) {
            size = part->eax + part->ebx;
        }
    }
    e->ecx = size;
    e = find(table, 0xD, 1);
    if (e && !cpu_model_has(m, "xsaves")) {
        e->ecx = e->edx = 0; /* supervisor components */
    }
}

/* Leaves that say nothing, or nothing true, without a feature of the model. */
static bool gone(const struct kvm_cpuid_entry2 *e, const struct cpu_model *m)
{
    switch (e->function) {
    case 0xD:
        return !cpu_model_has(m, "xsave") ||
               (e->index >= 2 && e->index < 32 && !(components(m) & BIT(e->index)) &&
                !cpu_model_has(m, "xsaves"));
    case 0x24:
        return !cpu_model_has(m, "avx10");
    case 0x8000001D:
    case 0x8000001E:
        return !cpu_model_has(m, "topoext");
    default:
        return (e->function < 0x40000000 && m->level != 0 && e->function > m->level) ||
               (e->function >= 0x80000000 && m->xlevel != 0 && e->function > m->xlevel);
    }
}

static void set_limits(union cpuid_table *table, const struct cpu_model *m)
{
    struct kvm_cpuid_entry2 *e = find(table, 0, 0);

    if (e && m->level != 0 && e->eax > m->level) {
        e->eax = m->level;
    }
    e = find(table, 0x80000000, 0);
    if (e && m->xlevel != 0 && e->eax > m->xlevel) {
        e->eax = m->xlevel;
    }
    e = find(table, 0x80000008, 0);
    if (e && m->phys_bits != 0) { /* bits 16..23: what a nested guest has */
        e->eax = (e->eax & ~UINT32_C(0xFF)) | m->phys_bits;
        e->eax &= (e->eax >> 16 & 0xFF) > m->phys_bits ? ~UINT32_C(0xFF0000) : UINT32_MAX;
    }
    if (e && m->linear_bits != 0) {
        e->eax = (e->eax & ~UINT32_C(0xFF00)) | m->linear_bits << 8;
    }
}

void cpuid_model_set(union cpuid_table *table, const struct cpu_model *model)
{
    struct kvm_cpuid_entry2 *e;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < table->list.nent; i++) {
        if (!gone(&table->list.entries[i], model)) {
            table->list.entries[kept++] = table->list.entries[i];
        }
    }
    table->list.nent = kept;
    for (unsigned w = 0; w < ARRAY_SIZE(place); w++) {
        e = find(table, place[w].function, place[w].index);
        if (e) {
            *reg_of(e, place[w].reg) &= model->word[w] | place[w].other;
        }
    }
    e = find(table, 0x80000001, 0);
    if (e) {
        e->edx &= ~AMD_REPEATED | model->word[CPU_WORD_1_EDX];
    }
    e = find(table, 1, 0);
    if (e && model->family != 0) {
        set_signature(e, model);
    }
    set_limits(table, model);
    set_xsave(table, model);
}
