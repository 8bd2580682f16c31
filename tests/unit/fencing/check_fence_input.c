/* SPDX-License-Identifier: Apache-2.0 */
/* What an agent is given and what of its output is shown. */
#include "fencing/fence_input.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct conf_fence_device device;
static struct fence_error error;
static char buf[FENCE_INPUT_LEN_MAX];

static void param(const char *key, const char *value)
{
    struct conf_param *p = &device.param[device.param_count++];

    strcpy(p->key, key);
    strcpy(p->value, value);
}

static void setup(void)
{
    device = (struct conf_fence_device){
        .name = "ipmi1", .agent = "fence_ipmilan", .node = "n1", .level = 1};
    param("ip", "10.0.0.1");
    param("lanplus", "1");
}

START_TEST(lines)
{
    static const char secret[] = "# BMC of n1\n\npassword=a=b c#\nusername=admin";
    size_t len = fence_input_head(&device, FENCE_ACTION_OFF, buf, sizeof(buf));

    ck_assert_uint_eq(len, strlen("action=off\nnodename=n1\n"));
    ck_assert_str_eq(buf, "action=off\nnodename=n1\n");
    len = fence_input_tail(&device, FENCE_ACTION_OFF, secret, sizeof(secret) - 1, buf,
                           sizeof(buf));
    ck_assert_uint_eq(len, strlen(buf));
    ck_assert_str_eq(
        buf, "ip=10.0.0.1\nlanplus=1\npower_wait=0\npassword=a=b c#\nusername=admin\n");
    param("power_wait", "4");
    ck_assert_uint_gt(
        fence_input_tail(&device, FENCE_ACTION_OFF, "", 0, buf, sizeof(buf)), 0);
    ck_assert_str_eq(buf, "ip=10.0.0.1\nlanplus=1\npower_wait=4\n");
    for (size_t cap = 1; cap < 36; cap++) {
        ck_assert_uint_eq(fence_input_tail(&device, FENCE_ACTION_OFF, "", 0, buf, cap),
                          0);
    }
}
END_TEST

START_TEST(the_largest_device_fits)
{
    static char secret[FENCE_SECRET_LEN_MAX];
    static char value[128];

    device.param_count = 0;
    memset(value, 'v', 127);
    for (unsigned i = 0; i < FENCE_PARAMS_MAX; i++) {
        param("a-key-of-thirty-one-characters-", value);
    }
    memset(device.node, 'n', NODE_NAME_MAX);
    memset(secret, 's', sizeof(secret));
    secret[1] = '=';
    ck_assert_int_eq(fence_device_check(&device, &error), 0);
    ck_assert_uint_gt(fence_input_head(&device, FENCE_ACTION_MONITOR, buf, 128), 0);
    ck_assert_uint_gt(fence_input_tail(&device, FENCE_ACTION_OFF, secret, sizeof(secret),
                                       buf, sizeof(buf)),
                      FENCE_SECRET_LEN_MAX);
}
END_TEST

/* {key, value, word that the error must hold}; NULL: accepted */
static const char *const params[][3] = {
    {"port", "7", NULL},
    {"passwd", "with spaces and = #", NULL},
    {"action", "reboot", "chosen by gemel"},
    {"option", "cycle", "chosen by gemel"},
    {"verbose", "1", "passwords"},
    {"debug_file", "/tmp/x", "passwords"},
    {"nodename", "n2", "filled in"},
    {"cipher", "0", "any password"},
    {"cipher", "3", NULL},
    {"", "1", "key"},
    {"a b", "1", "key"},
    {"a=b", "1", "key"},
    {"a\nb", "1", "key"},
    {"port", "7\naction=reboot", "control"},
    {"port", "\x7f", "control"},
};

START_TEST(bad_params)
{
    param(params[_i][0], params[_i][1]);
    if (params[_i][2] == NULL) {
        ck_assert_int_eq(fence_device_check(&device, &error), 0);
        return;
    }
    ck_assert_int_eq(fence_device_check(&device, &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, params[_i][2]));
    ck_assert_ptr_nonnull(strstr(error.text, "ipmi1"));
}
END_TEST

START_TEST(bad_devices)
{
    static const char *const agents[] = {"",        "ipmilan",      "fence_",
                                         "/bin/sh", "fence_/../sh", "fence_a b"};
    static const char *const names[] = {"", ".", "..", "../x", "a/b", "-a", "a\nb"};

    for (size_t i = 0; i < ARRAY_SIZE(agents); i++) {
        strcpy(device.agent, agents[i]);
        ck_assert_int_eq(fence_device_check(&device, &error), -EINVAL);
    }
    strcpy(device.agent, "fence_apc_snmp");
    ck_assert_int_eq(fence_device_check(&device, &error), 0);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        strcpy(device.name, names[i]);
        ck_assert_int_eq(fence_device_check(&device, &error), -EINVAL);
    }
    strcpy(device.name, "pdu-a.1");
    device.level = 5;
    ck_assert_int_eq(fence_device_check(&device, &error), -EINVAL);
}
END_TEST

START_TEST(bad_secrets)
{
    static const char *const bad[] = {"password",
                                      "=x",
                                      "pass word=x",
                                      "password =x",
                                      "password=x\n\nhunter2\n",
                                      "password=x\naction=on\n",
                                      "password=x\r\n",
                                      "verbose=1"};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        ck_assert_int_eq(fence_secret_check("ipmi1", bad[i], strlen(bad[i]), &error),
                         -EINVAL);
        ck_assert_ptr_null(strstr(error.text, "hunter2"));
    }
    ck_assert_int_eq(fence_secret_check("ipmi1", bad[4], strlen(bad[4]), &error),
                     -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "line 3"));
    ck_assert_int_eq(fence_secret_check("ipmi1", "password=\n#", 11, &error), 0);
    ck_assert_int_eq(fence_secret_check("ipmi1", "", 0, &error), 0);
    ck_assert_int_eq(fence_secret_check("ipmi1", "a=b\0c=d", 7, &error), -EINVAL);
}
END_TEST

START_TEST(scrub)
{
    static const char secret[] = "# x=y\npassword=hunter2 \ntoken=ab\nempty=\n";
    char text[] = "-P hunter2 hunter2hunter2 abc y hunter";
    size_t len = fence_scrub(text, sizeof(text) - 1, secret, sizeof(secret) - 1);

    text[len] = '\0';
    ck_assert_str_eq(text, "-P *** ****** **c y hunter");
}
END_TEST

START_TEST(last_line)
{
    static const struct {
        const char *text;
        bool cut;
        const char *line;
    } cases[] = {
        {"", false, ""},
        {"\n \n", false, ""},
        {"one", false, "one"},
        {"one\ntwo\n\n \t\n", false, "two"},
        {"one\ntw", true, "one"},
        {"one", true, ""},
        {"a\tb\x1b[2J\xff", false, "a?b?[2J?"},
    };
    char line[16], small[4];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        fence_output_line(cases[i].text, strlen(cases[i].text), cases[i].cut, line,
                          sizeof(line));
        ck_assert_str_eq(line, cases[i].line);
    }
    fence_output_line("abcdef", 6, false, small, sizeof(small));
    ck_assert_str_eq(small, "abc");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("fence_input");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, lines);
    tcase_add_test(tc, the_largest_device_fits);
    tcase_add_loop_test(tc, bad_params, 0, ARRAY_SIZE(params));
    tcase_add_test(tc, bad_devices);
    tcase_add_test(tc, bad_secrets);
    tcase_add_test(tc, scrub);
    tcase_add_test(tc, last_line);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
