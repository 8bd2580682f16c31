/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/cpuid_standard: the topology that a guest works out, what is hidden from it, and
 * the TSC's frequency. */
#include <string.h>

#include "base/units.h"
#include "tests/unit/unit.h"
#include "vmm/cpuid_standard.h"

#define BIT(n) (UINT32_C(1) << (n))

static const unsigned counts[] = {1, 2, 3, 64};
static union cpuid_table table;

static void add(uint32_t function, uint32_t index, uint32_t eax)
{
    struct kvm_cpuid_entry2 *e = &table.list.entries[table.list.nent++];

    memset(e, 0xFF, sizeof *e);
    e->function = function;
    e->index = index;
    e->eax = eax;
}

/* A host with everything, of both makers. */
static void host(void)
{
    static const uint32_t leaf[] = {0x1,        0x2,        0x5,        0x6,
                                    0xA,        0x12,       0x14,       0x16,
                                    0x1D,       0x1E,       0x40000001, 0x40000010,
                                    0x80000000, 0x80000001, 0x80000008, 0x8000000A,
                                    0x8000001E, 0x8000001F, 0x80000022};

    memset(&table, 0, sizeof table);
    add(0, 0, 0x1F);
    for (uint32_t i = 0; i < 4; i++) { /* L1 data, L1 code, L2, L3 */
        add(4, i, (i < 2 ? i + 1 : 3) | (i < 2 ? 1 : i) << 5 | 0xFFFFC000);
        add(0x8000001D, i, (i < 2 ? i + 1 : 3) | (i < 2 ? 1 : i) << 5 | 0x3FFC000);
    }
    add(4, 4, 0);
    add(7, 0, 1);
    add(7, 1, UINT32_MAX);
    add(0xB, 0, 99);
    add(0xB, 1, 99);
    add(0x1F, 0, 99);
    add(0xD, 0, UINT32_MAX);
    add(0xD, 1, UINT32_MAX);
    add(0xD, 2, 256);
    add(0xD, 17, 64);
    add(0xD, 18, 8192);
    add(0x40000000, 0, 0x40000001);
    for (size_t i = 0; i < ARRAY_SIZE(leaf); i++) {
        add(leaf[i], 0, UINT32_MAX);
    }
}

static const struct kvm_cpuid_entry2 *find(uint32_t function, uint32_t index)
{
    for (uint32_t i = 0; i < table.list.nent; i++) {
        if (table.list.entries[i].function == function &&
            table.list.entries[i].index == index) {
            return &table.list.entries[i];
        }
    }
    return NULL;
}

static const struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
    const struct kvm_cpuid_entry2 *e = find(function, index);

    ck_assert_msg(e != NULL, "leaf %#x.%u is missing", function, index);
    return e;
}

static void make(unsigned id, unsigned count)
{
    struct cpuid_standard_conf conf = {
        .id = id, .count = count, .tsc_khz = 2100000, .tsc_deadline = true};

    host();
    cpuid_standard_make(&table, &conf);
}

static unsigned bits_for(unsigned count)
{
    unsigned bits = 0;

    while (BIT(bits) < count) {
        bits++;
    }
    return bits;
}

START_TEST(topology)
{
    unsigned count = counts[_i], bits = bits_for(count);

    for (unsigned id = 0; id < count; id++) {
        make(id, count);
        ck_assert_uint_eq(leaf(1, 0)->ebx >> 24, id); /* APIC id */
        ck_assert_uint_eq(leaf(1, 0)->ebx >> 16 & 0xFF, count);
        ck_assert_uint_eq(leaf(1, 0)->edx >> 28 & 1, count > 1);
        for (uint32_t i = 0; i < 3; i++) {
            ck_assert_uint_eq(leaf(0xB, i)->edx, id);
            ck_assert_uint_eq(leaf(0xB, i)->ecx & 0xFF, i);
            ck_assert_uint_ne(leaf(0xB, i)->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX, 0);
        }
        ck_assert_uint_eq(leaf(0xB, 0)->eax, 0); /* no SMT: thread bits 0 */
        ck_assert_uint_eq(leaf(0xB, 0)->ebx, 1);
        ck_assert_uint_eq(leaf(0xB, 0)->ecx >> 8, 1);
        ck_assert_uint_eq(leaf(0xB, 1)->eax, bits);
        ck_assert_uint_eq(leaf(0xB, 1)->ebx, count);
        ck_assert_uint_eq(leaf(0xB, 1)->ecx >> 8, 2);
        ck_assert_uint_eq(leaf(0xB, 2)->ecx >> 8, 0);
        ck_assert_uint_eq(leaf(0xB, 2)->ebx, 0);
        ck_assert_uint_eq(leaf(0x80000008, 0)->ecx & 0xFF, count - 1);
        ck_assert_uint_eq(leaf(0x80000008, 0)->ecx >> 12 & 0xF, bits);
        ck_assert_uint_eq(leaf(0x8000001E, 0)->eax, id);
        ck_assert_uint_eq(leaf(0x8000001E, 0)->ebx & 0xFFFF, id);
        ck_assert_uint_eq(leaf(0x80000001, 0)->ecx >> 1 & 1, count > 1);
    }
}
END_TEST

/* All vCPUs are in one package and their ids differ in its bits only. */
START_TEST(caches)
{
    unsigned count = counts[_i], bits = bits_for(count);
    static const uint32_t function[] = {4, 0x8000001D};

    for (size_t f = 0; f < ARRAY_SIZE(function); f++) {
        make(0, count);
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t eax = leaf(function[f], i)->eax;

            ck_assert_uint_eq(eax >> 14 & 0xFFF, i == 3 ? BIT(bits) - 1 : 0);
            ck_assert_uint_eq(eax >> 26, f == 0 ? (BIT(bits) - 1) & 0x3F : 0);
            ck_assert_uint_eq(eax & 0x1F, i < 2 ? i + 1 : 3);
        }
    }
    ck_assert_uint_eq(leaf(4, 4)->eax, 0);
}
END_TEST

START_TEST(hidden)
{
    static const uint32_t gone[] = {0xA,  0x12,       0x14,       0x1D,      0x1E,
                                    0x1F, 0x8000000A, 0x8000001F, 0x80000022};

    make(0, 2);
    for (size_t i = 0; i < ARRAY_SIZE(gone); i++) {
        ck_assert_msg(find(gone[i], 0) == NULL, "leaf %#x", gone[i]);
    }
    ck_assert_ptr_null(find(0xD, 17));
    ck_assert_ptr_null(find(0xD, 18));
    ck_assert_ptr_nonnull(find(0xD, 2));
    ck_assert_uint_eq(leaf(0xD, 0)->eax & (BIT(17) | BIT(18)), 0);
    ck_assert_uint_eq(leaf(1, 0)->ecx & (BIT(3) | BIT(5) | BIT(6) | BIT(15)), 0);
    ck_assert_uint_eq(leaf(7, 0)->ebx & (BIT(2) | BIT(25)), 0);
    ck_assert_uint_eq(leaf(7, 0)->edx & (BIT(22) | BIT(24) | BIT(25)), 0);
    ck_assert_uint_eq(leaf(0x80000001, 0)->ecx & BIT(2), 0); /* SVM */
    ck_assert_uint_ne(leaf(1, 0)->ecx & BIT(31), 0);         /* hypervisor */
    ck_assert_uint_ne(leaf(1, 0)->ecx & BIT(21), 0);         /* x2APIC */
    ck_assert_uint_ne(leaf(1, 0)->ecx & BIT(24), 0);         /* TSC deadline */
    for (uint32_t i = 0; i < table.list.nent; i++) {         /* nothing twice */
        const struct kvm_cpuid_entry2 *e = &table.list.entries[i];

        ck_assert_ptr_eq(find(e->function, e->index), e);
    }
}
END_TEST

START_TEST(tsc_frequency)
{
    struct cpuid_standard_conf conf = {.count = 1};

    make(0, 1);
    ck_assert_uint_eq(leaf(0x40000010, 0)->eax, 2100000);
    ck_assert_uint_eq(leaf(0x40000000, 0)->eax, 0x40000010);
    host(); /* unknown: not told, not the host's leaf either */
    cpuid_standard_make(&table, &conf);
    ck_assert_ptr_null(find(0x40000010, 0));
    ck_assert_uint_eq(leaf(0x40000000, 0)->eax, 0x40000001);
    ck_assert_uint_eq(leaf(1, 0)->ecx & BIT(24), 0);
}
END_TEST

/* A host whose leaves end before topology has none; a full table does not overflow. */
START_TEST(small_and_full)
{
    struct cpuid_standard_conf conf = {.count = 2, .tsc_khz = 1};

    memset(&table, 0, sizeof table);
    add(0, 0, 4);
    add(1, 0, 0);
    cpuid_standard_make(&table, &conf);
    ck_assert_uint_eq(table.list.nent, 2);
    memset(&table, 0, sizeof table);
    cpuid_standard_make(&table, &conf);
    ck_assert_uint_eq(table.list.nent, 0);
    add(0, 0, 0x1F);
    while (table.list.nent < CPUID_ENTRIES_MAX) {
        add(0x40000000, table.list.nent, 0);
    }
    cpuid_standard_make(&table, &conf);
    ck_assert_uint_eq(table.list.nent, CPUID_ENTRIES_MAX);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cpuid_standard");
    TCase *t = tcase_create("cpuid_standard");
    int n = ARRAY_SIZE(counts);

    tcase_add_loop_test(t, topology, 0, n);
    tcase_add_loop_test(t, caches, 0, n);
    tcase_add_test(t, hidden);
    tcase_add_test(t, tsc_frequency);
    tcase_add_test(t, small_and_full);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
