/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/cpuid_model: tables become models and are cut down to them. */
#include <string.h>

#include "base/units.h"
#include "tests/unit/unit.h"
#include "vmm/cpuid_model.h"

#define BIT(n) (UINT32_C(1) << (n))

static union cpuid_table table;

static struct kvm_cpuid_entry2 *add(uint32_t function, uint32_t index)
{
    struct kvm_cpuid_entry2 *e = &table.list.entries[table.list.nent++];

    memset(e, 0, sizeof *e);
    e->function = function;
    e->index = index;
    e->eax = e->ebx = e->ecx = e->edx = UINT32_MAX;
    return e;
}

/* An AMD host with every bit. */
static void host(void)
{
    static const uint32_t leaf[] = {6,          0xB,        0x24,
                                    0x40000001, 0x80000001, 0x80000007,
                                    0x8000001D, 0x8000001E, 0x80000021};
    static const struct {
        uint32_t index, size, offset;
    } part[] = {
        {2, 256, 576}, {5, 64, 1088}, {6, 512, 1152}, {7, 1024, 1664}, {9, 8, 2688}};
    struct kvm_cpuid_entry2 *e;

    memset(&table, 0, sizeof table);
    e = add(0, 0);
    e->eax = 0x1F;
    memcpy(&e->ebx, "Auth", 4);
    memcpy(&e->edx, "enti", 4);
    memcpy(&e->ecx, "cAMD", 4);
    add(1, 0)->eax = 0x00A20F12; /* family 25, model 33, stepping 2 */
    for (uint32_t i = 0; i < 3; i++) {
        add(7, i);
    }
    e = add(0xD, 0);
    e->eax = 0x2E7;
    e->ecx = 2696;
    add(0xD, 1);
    for (size_t i = 0; i < ARRAY_SIZE(part); i++) {
        e = add(0xD, part[i].index);
        e->eax = part[i].size;
        e->ebx = part[i].offset;
    }
    for (size_t i = 0; i < ARRAY_SIZE(leaf); i++) {
        add(leaf[i], 0);
    }
    add(0x80000000, 0)->eax = 0x80000021;
    add(0x80000008, 0)->eax = 0x303030;
}

static const struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
    for (uint32_t i = 0; i < table.list.nent; i++) {
        if (table.list.entries[i].function == function &&
            table.list.entries[i].index == index) {
            return &table.list.entries[i];
        }
    }
    return NULL;
}

static struct cpu_model model(const char *text)
{
    struct cpu_model m;
    struct cpu_model_error err;

    ck_assert_msg(cpu_model_parse(text, &m, &err), "%s", err.text);
    return m;
}

/* Agents judge by the one what the other shows a guest. */
START_TEST(lockstep_shows_what_base_says)
{
    struct cpu_model said, shown;

    host();
    for (uint32_t i = 0; i < table.list.nent; i++) { /* as KVM marks them */
        struct kvm_cpuid_entry2 *e = &table.list.entries[i];

        e->flags =
            e->function == 7 || e->function == 0xD ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
    }
    cpuid_model_get(&table, UINT64_MAX, &said);
    cpu_model_lockstep(&said);
    cpuid_lockstep_filter(&table);
    cpuid_model_get(&table, UINT64_MAX, &shown);
    for (unsigned w = 0; w < CPU_WORD_COUNT; w++) {
        ck_assert_msg(said.word[w] == shown.word[w], "word %u: %08x, shown %08x", w,
                      said.word[w], shown.word[w]);
    }
    ck_assert_uint_ne(shown.word[CPU_WORD_7_EBX], 0);
}
END_TEST

START_TEST(of_a_table)
{
    struct cpu_model m;

    host();
    cpuid_model_get(&table, UINT64_MAX, &m);
    ck_assert_str_eq(m.vendor, "AuthenticAMD");
    ck_assert_uint_eq(m.family, 25);
    ck_assert_uint_eq(m.model, 33);
    ck_assert_uint_eq(m.stepping, 2);
    ck_assert_uint_eq(m.phys_bits, 48);
    ck_assert_uint_eq(m.linear_bits, 48);
    ck_assert(cpu_model_has(&m, "avx512f") && cpu_model_has(&m, "rdctl-no"));
    /* the topology's, the guest's own, what a state cannot hold */
    ck_assert(!cpu_model_has(&m, "ht") && !cpu_model_has(&m, "cmp_legacy"));
    ck_assert(!cpu_model_has(&m, "osxsave") && !cpu_model_has(&m, "ospke"));
    ck_assert(!cpu_model_has(&m, "tsx-ctrl"));
    ck_assert_uint_eq(m.word[CPU_WORD_80000001_EDX] & 0x0183F3FF, 0);
    table.list.nent = 0;
    cpuid_model_get(&table, UINT64_MAX, &m);
    for (unsigned w = 0; w < CPU_WORD_COUNT; w++) {
        ck_assert_uint_eq(m.word[w], 0);
    }
}
END_TEST

/* A table that is cut down to a model is that model; to its own, it stays as it is. */
START_TEST(and_back)
{
    static const char *const text[] = {
        "vendor=AuthenticAMD family=23 model=1 stepping=2 level=13 xlevel=2147483678 "
        "phys=40 linear=48 features=fpu,sse2,xsave,avx,avx2,xsaves,lm,topoext,pku,"
        "kvmclock,ibpb,arch_capabilities,rdctl-no",
        "vendor=AuthenticAMD family=6 model=3 stepping=0 level=1 xlevel=2147483656 "
        "phys=36 linear=48 features=fpu,lm"};
    static union cpuid_table before;
    struct cpu_model m, got;

    for (size_t i = 0; i < ARRAY_SIZE(text); i++) {
        host();
        m = model(text[i]);
        cpuid_model_set(&table, &m);
        cpuid_model_get(&table,
                        cpuid_model_arch_caps(&m, UINT64_MAX & ~BIT(2) & ~BIT(19)), &got);
        ck_assert(cpu_model_equal(&m, &got));
    }
    host();
    before = table;
    cpuid_model_get(&table, UINT64_MAX, &m);
    cpuid_model_set(&table, &m);
    ck_assert_mem_eq(&before, &table, sizeof table);
}
END_TEST

START_TEST(what_hangs_on_a_feature)
{
    struct cpu_model m;

    host(); /* AVX-512 and its state go together; AMD's repeated bits follow leaf 1 */
    m = model("vendor=AuthenticAMD family=25 level=36 xlevel=2147483681 phys=48 "
              "features=fpu,mmx,xsave,avx,pku,topoext");
    cpuid_model_set(&table, &m);
    ck_assert_uint_eq(leaf(0xD, 0)->eax, 0x207);
    ck_assert_uint_eq(leaf(0xD, 0)->ecx, 2696); /* pku lies behind where AVX-512 was */
    ck_assert_ptr_nonnull(leaf(0xD, 2));
    ck_assert_ptr_null(leaf(0xD, 6));
    ck_assert_uint_eq(leaf(0xD, 1)->ecx, 0);
    ck_assert_uint_eq(leaf(0x80000001, 0)->edx & 0x0183F3FF, BIT(0) | BIT(23));
    ck_assert_ptr_null(leaf(0x24, 0));
    ck_assert_ptr_nonnull(leaf(0x8000001E, 0));
    host();
    m = model("vendor=AuthenticAMD level=36 xlevel=2147483681 features=fpu,xsave,avx");
    cpuid_model_set(&table, &m);
    ck_assert_uint_eq(leaf(0xD, 0)->ecx, 832);
    ck_assert_ptr_null(leaf(0x8000001E, 0));
    host();
    m = model("vendor=AuthenticAMD level=7 xlevel=2147483656 features=fpu");
    cpuid_model_set(&table, &m);
    ck_assert_ptr_null(leaf(0xD, 0));
    ck_assert_ptr_null(leaf(0xB, 0));
    ck_assert_ptr_null(leaf(0x80000021, 0));
    ck_assert_uint_eq(leaf(0, 0)->eax, 7);
    ck_assert_uint_eq(leaf(0x80000000, 0)->eax, 0x80000008);
}
END_TEST

/* A flaw of the host is never hidden; a promise is never made for it. */
START_TEST(arch_caps)
{
    struct cpu_model m = model("vendor=X features=arch_capabilities,rdctl-no,mds-no");

    ck_assert_uint_eq(cpuid_model_arch_caps(&m, BIT(0) | BIT(2) | BIT(8)),
                      BIT(0) | BIT(2));
    m = model("vendor=X features=arch_capabilities,rsba,its-no");
    ck_assert(cpuid_model_arch_caps(&m, UINT64_C(1) << 62) ==
              (UINT64_C(1) << 62 | BIT(2)));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cpuid_model");
    TCase *t = tcase_create("cpuid_model");

    tcase_add_test(t, lockstep_shows_what_base_says);
    tcase_add_test(t, of_a_table);
    tcase_add_test(t, and_back);
    tcase_add_test(t, what_hangs_on_a_feature);
    tcase_add_test(t, arch_caps);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
