/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/ha/fit_state.h"

START_TEST(a_state_says_what_it_is_of)
{
    static struct ha_fit fit, now, again;
    static struct conf_vm conf;
    static char text[HA_FIT_TEXT_MAX];
    struct conf_text out = conf_text_make(text, sizeof text);
    uint8_t buf[FIT_STATE_MAX];
    size_t len = fit_state(buf, 0);

    ck_assert(ha_fit_of_frames(buf, len, &fit));
    ck_assert_str_eq(fit.value[HA_FIT_BOOT], "");
    fit_conf(&conf);
    ha_fit_of_conf(&conf, NULL, &now);
    ck_assert_uint_eq(ha_fit_differences(&fit, &now, &out), 0);
    ha_fit_write(&fit, &out);
    ck_assert_str_eq(text, "machine: lockstep\ntransport: mmio\ncpus: 1\nmemory: 32MiB\n"
                           "disks: 2\nnics: 52:54:00:01:02:03\n");
    ha_fit_read(text, &again);
    for (unsigned i = 0; i < HA_FIT_KEYS; i++) {
        ck_assert_str_eq(again.value[i], fit.value[i]);
    }
}
END_TEST

START_TEST(a_state_that_is_none_says_nothing)
{
    static struct ha_fit fit;
    uint8_t buf[FIT_STATE_MAX];
    size_t len = fit_state(buf, 0);

    for (size_t n = 0; n < len; n++) {
        ck_assert(!ha_fit_of_frames(buf, n, &fit));
    }
    for (size_t i = FRAME_HEADER_LEN; i < len; i++) {
        buf[i] ^= 1;
        ck_assert(!ha_fit_of_frames(buf, len, &fit));
        buf[i] ^= 1;
    }
    len = fit_state(buf, 2); /* no such machine */
    ck_assert(!ha_fit_of_frames(buf, len, &fit));
    ck_assert_str_eq(fit.value[HA_FIT_MEMORY], "");
}
END_TEST

START_TEST(every_difference_is_named)
{
    static struct ha_fit was, now;
    static struct conf_vm conf;
    char text[1024];
    struct conf_text out = conf_text_make(text, sizeof text);

    fit_conf(&conf);
    ha_fit_of_conf(&conf, NULL, &was);
    conf.machine = CONF_MACHINE_STANDARD;
    conf.cpus = 2;
    conf.memory_bytes = 64u << 20;
    conf.disk_count = 1;
    conf.nic_count = 0;
    strcpy(conf.kernel, "/k");
    ha_fit_of_conf(&conf, "vendor=x features=fpu", &now);
    ck_assert_uint_eq(ha_fit_differences(&was, &now, &out), HA_FIT_KEYS);
    ck_assert_str_eq(text, "machine lockstep, now standard; transport mmio, now pci; "
                           "cpus 1, now 2; memory 32MiB, now 64MiB; disks 2, now 1; "
                           "nics 52:54:00:01:02:03, now none; boot firmware, now kernel");
    strcpy(was.cpu_model, "vendor=y features=fpu");
    out = conf_text_make(text, sizeof text);
    ck_assert_uint_eq(ha_fit_differences(&was, &now, &out), HA_FIT_KEYS + 1);
    ck_assert_ptr_nonnull(strstr(text, "; cpu: another model"));
    strcpy(was.cpu_model, "features=fpu vendor=x"); /* the order is no difference */
    out = conf_text_make(text, sizeof text);
    ck_assert_uint_eq(ha_fit_differences(&was, &now, &out), HA_FIT_KEYS);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_fit");
    TCase *tc = tcase_create("fit");

    tcase_add_test(tc, a_state_says_what_it_is_of);
    tcase_add_test(tc, a_state_that_is_none_says_nothing);
    tcase_add_test(tc, every_difference_is_named);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
