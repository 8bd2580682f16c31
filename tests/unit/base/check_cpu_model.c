/* SPDX-License-Identifier: Apache-2.0 */
/* base/cpu_model: text and back, what is refused, what hosts have in common, what a host
 * lacks. */
#include <string.h>

#include "base/cpu_model.h"
#include "base/units.h"
#include "tests/unit/unit.h"

#define OLD                                                                              \
    "vendor=GenuineIntel family=6 model=85 stepping=4 level=13 xlevel=2147483656 "       \
    "phys=46 linear=48 features=fpu,tsc,pni,avx,ssbd,arch_capabilities,lm,rsba,rdctl-no"
#define NEW                                                                              \
    "vendor=GenuineIntel family=6 model=106 stepping=0 level=27 xlevel=2147483656 "      \
    "phys=52 linear=57 features=fpu,tsc,pni,avx,avx2,la57,ssbd,arch_capabilities,"       \
    "xsaves,lm,invtsc,rdctl-no,mds-no"

static struct cpu_model_error err;

static struct cpu_model model(const char *text)
{
    struct cpu_model m;

    ck_assert_msg(cpu_model_parse(text, &m, &err), "%s", err.text);
    return m;
}

START_TEST(text_and_back)
{
    static const char *const text[] = {OLD, NEW};
    char buf[CPU_MODEL_TEXT_MAX];
    struct cpu_model a, b;

    for (size_t i = 0; i < ARRAY_SIZE(text); i++) {
        a = model(text[i]);
        ck_assert_uint_ne(cpu_model_print(&a, buf, sizeof buf), 0);
        b = model(buf);
        ck_assert(cpu_model_equal(&a, &b));
        ck_assert(cpu_model_has(&a, "avx"));
        ck_assert(cpu_model_has(&a, "avx2") == (i == 1));
    }
    ck_assert_uint_eq(model(OLD).model, 85);
    ck_assert_uint_eq(model(OLD).phys_bits, 46);
    ck_assert_uint_eq(model(OLD).word[CPU_WORD_1_ECX], UINT32_C(1) | UINT32_C(1) << 28);
    ck_assert_uint_eq(cpu_model_print(&a, buf, 40), 0);
    ck_assert_uint_eq(model("features=fpu vendor=__Shanghai__\n").vendor[0], ' ');
}
END_TEST

/* Every bit has one name, by which it is found. */
START_TEST(every_bit)
{
    for (unsigned w = 0; w < CPU_WORD_COUNT; w++) {
        for (unsigned b = 0; b < 32; b++) {
            char buf[32];
            const char *name = cpu_model_feature_name((enum cpu_word)w, b, buf);
            enum cpu_word word;
            unsigned bit;

            ck_assert(cpu_model_feature(name, &word, &bit));
            ck_assert_msg(word == (enum cpu_word)w && bit == b, "%s", name);
            ck_assert_ptr_null(strpbrk(name, ", =\n"));
        }
    }
}
END_TEST

/* As KVM numbers them: the SDM's and the APM's places of a few that matter. */
START_TEST(places)
{
    static const struct {
        const char *name;
        enum cpu_word word;
        unsigned bit;
    } place[] = {{"sse2", CPU_WORD_1_EDX, 26},
                 {"ht", CPU_WORD_1_EDX, 28},
                 {"vmx", CPU_WORD_1_ECX, 5},
                 {"aes", CPU_WORD_1_ECX, 25},
                 {"avx", CPU_WORD_1_ECX, 28},
                 {"hypervisor", CPU_WORD_1_ECX, 31},
                 {"arat", CPU_WORD_6_EAX, 2},
                 {"avx2", CPU_WORD_7_EBX, 5},
                 {"avx512f", CPU_WORD_7_EBX, 16},
                 {"sha_ni", CPU_WORD_7_EBX, 29},
                 {"avx512vl", CPU_WORD_7_EBX, 31},
                 {"pku", CPU_WORD_7_ECX, 3},
                 {"gfni", CPU_WORD_7_ECX, 8},
                 {"la57", CPU_WORD_7_ECX, 16},
                 {"rdpid", CPU_WORD_7_ECX, 22},
                 {"fsrm", CPU_WORD_7_EDX, 4},
                 {"spec-ctrl", CPU_WORD_7_EDX, 26},
                 {"ssbd", CPU_WORD_7_EDX, 31},
                 {"avx_vnni", CPU_WORD_7_1_EAX, 4},
                 {"xsaves", CPU_WORD_D_1_EAX, 3},
                 {"svm", CPU_WORD_80000001_ECX, 2},
                 {"topoext", CPU_WORD_80000001_ECX, 22},
                 {"lm", CPU_WORD_80000001_EDX, 29},
                 {"invtsc", CPU_WORD_80000007_EDX, 8},
                 {"ibpb", CPU_WORD_80000008_EBX, 12},
                 {"virt_ssbd", CPU_WORD_80000008_EBX, 25},
                 {"kvmclock2", CPU_WORD_KVM, 3},
                 {"taa-no", CPU_WORD_ARCH_CAPS_LO, 8},
                 {"rfds-clear", CPU_WORD_ARCH_CAPS_LO, 28},
                 {"auto-ibrs", CPU_WORD_80000021_EAX, 8}};

    for (size_t i = 0; i < ARRAY_SIZE(place); i++) {
        enum cpu_word word;
        unsigned bit;

        ck_assert_msg(cpu_model_feature(place[i].name, &word, &bit), "%s", place[i].name);
        ck_assert_msg(word == place[i].word && bit == place[i].bit, "%s", place[i].name);
    }
}
END_TEST

START_TEST(refused)
{
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"", "vendor= is missing"},
        {"vendor=GenuineIntel", "features= is missing"},
        {"vendor=Genuine\tIntel features=fpu", "vendor: 1 to 12"},
        {"vendor=ThirteenChars features=fpu", "vendor: 1 to 12"},
        {"vendor= features=fpu", "vendor: 1 to 12"},
        {"vendor=X features=fpu,avx9", "'avx9' is not a feature"},
        {"vendor=X features=fpu,fpu", "fpu stands there twice"},
        {"vendor=X features=fpu,", "after the last comma"},
        {"vendor=X features=,fpu", "'' is not a feature"},
        {"vendor=X features=fpu features=tsc", "features stands there twice"},
        {"vendor=X vendor=X features=fpu", "vendor stands there twice"},
        {"vendor=X features=7.0.ecx.32", "not a feature"},
        {"vendor=X family=6a features=fpu", "family: not a number"},
        {"vendor=X phys=65 features=fpu", "phys: not a number"},
        {"vendor=X colour=red features=fpu", "'colour' is no part"},
        {"vendor=X features=fpu x", "key=value"},
        {"vendor=X features=fpu\nx", "key=value"},
        {"vendor=X features=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "31 characters"},
        {"vendor=X level=00000000000000000000000000000000000 features=a", "too long"},
    };
    struct cpu_model m;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        ck_assert_msg(!cpu_model_parse(bad[i].text, &m, &err), "%s", bad[i].text);
        ck_assert_msg(strstr(err.text, bad[i].why) != NULL, "%s: %s", bad[i].text,
                      err.text);
    }
}
END_TEST

START_TEST(in_common)
{
    struct cpu_model old = model(OLD), new = model(NEW), m, other;
    const struct cpu_model *host[] = {&new, &old, &new};
    char buf[256];

    ck_assert(cpu_model_common(host, 3, &m, &err));
    other = model("vendor=GenuineIntel family=6 model=85 stepping=4 level=13 "
                  "xlevel=2147483656 phys=46 linear=48 "
                  "features=fpu,tsc,pni,avx,ssbd,arch_capabilities,lm,rdctl-no,rsba");
    ck_assert(cpu_model_equal(&m, &other));
    /* Each of them can run it: the flaw of one is no missing feature of the other. */
    ck_assert_uint_eq(cpu_model_missing(&m, &old, buf, sizeof buf), 0);
    ck_assert_uint_eq(cpu_model_missing(&m, &new, buf, sizeof buf), 0);
    ck_assert_str_eq(buf, "");
    ck_assert(cpu_model_common(host, 1, &m, &err));
    ck_assert(!cpu_model_has(&m, "invtsc")); /* also of one */
    ck_assert(!cpu_model_common(host, 0, &m, &err));
    other = model("vendor=AuthenticAMD features=fpu");
    host[2] = &other;
    ck_assert(!cpu_model_common(host, 3, &m, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "GenuineIntel"));
}
END_TEST

START_TEST(what_a_host_lacks)
{
    struct cpu_model old = model(OLD), new = model(NEW), amd;
    char buf[256];

    ck_assert_uint_eq(cpu_model_missing(&new, &old, buf, sizeof buf), 7);
    ck_assert_str_eq(buf, "52 bits of physical address (this host: 46), 57 bits of "
                          "linear address (this host: 48), avx2, la57, xsaves, invtsc, "
                          "mds-no");
    amd = model("vendor=AuthenticAMD features=fpu,tsc");
    ck_assert_uint_eq(cpu_model_missing(&amd, &old, buf, sizeof buf), 1);
    ck_assert_str_eq(buf, "vendor AuthenticAMD (this host: GenuineIntel)");
    /* Too little room: how many are left is said, at any length. */
    for (size_t cap = 1; cap < sizeof buf; cap++) {
        memset(buf, 'x', sizeof buf);
        ck_assert_uint_eq(cpu_model_missing(&new, &old, buf, cap), 7);
        ck_assert_uint_lt(strlen(buf), cap);
        if (cap >= 20 && cap < 140) {
            ck_assert_msg(strstr(buf, "more") || strstr(buf, "features"), "%s", buf);
        }
    }
    ck_assert_uint_eq(cpu_model_missing(&new, &old, buf, 100), 7);
    ck_assert_str_eq(buf, "52 bits of physical address (this host: 46), and 6 more");
    ck_assert_uint_eq(cpu_model_missing(&new, &old, buf, 0), 7);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cpu_model");
    TCase *t = tcase_create("cpu_model");

    tcase_add_test(t, text_and_back);
    tcase_add_test(t, every_bit);
    tcase_add_test(t, places);
    tcase_add_test(t, refused);
    tcase_add_test(t, in_common);
    tcase_add_test(t, what_a_host_lacks);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
