/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cluster-conf/conf_scalar.h"
#include "tests/unit/unit.h"

START_TEST(test_size)
{
    static const struct {
        const char *s;
        enum conf_scalar_reason reason;
        uint64_t bytes;
    } cases[] = {
        {"512MiB", CONF_SCALAR_OK, UINT64_C(512) << 20},
        {"64M", CONF_SCALAR_OK, UINT64_C(64) << 20},
        {"1GiB", CONF_SCALAR_OK, UINT64_C(1) << 30},
        {"2T", CONF_SCALAR_OK, UINT64_C(2) << 40},
        {"7K", CONF_SCALAR_OK, 7168},
        {"0B", CONF_SCALAR_OK, 0},
        {"18446744073709551615B", CONF_SCALAR_OK, UINT64_MAX},
        {"18446744073709551616B", CONF_SCALAR_TOO_LARGE, 0},
        {"16777216TiB", CONF_SCALAR_TOO_LARGE, 0},
        {"16777215TiB", CONF_SCALAR_OK, UINT64_C(16777215) << 40},
        {"", CONF_SCALAR_EMPTY, 0},
        {"MiB", CONF_SCALAR_NOT_NUMBER, 0},
        {"-1MiB", CONF_SCALAR_NOT_NUMBER, 0},
        {"+1MiB", CONF_SCALAR_NOT_NUMBER, 0},
        {" 1MiB", CONF_SCALAR_NOT_NUMBER, 0},
        {"1 MiB", CONF_SCALAR_BAD_UNIT, 0},
        {"1MiB ", CONF_SCALAR_BAD_UNIT, 0},
        {"1mib", CONF_SCALAR_BAD_UNIT, 0},
        {"1.5GiB", CONF_SCALAR_BAD_UNIT, 0},
        {"1e3", CONF_SCALAR_BAD_UNIT, 0},
        {"0x10M", CONF_SCALAR_BAD_UNIT, 0},
        {"10MB", CONF_SCALAR_DECIMAL_UNIT, 0},
        {"10kB", CONF_SCALAR_DECIMAL_UNIT, 0},
        {"4096", CONF_SCALAR_NO_UNIT, 0},
        {"010M", CONF_SCALAR_LEADING_ZERO, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t bytes = 99;

        ck_assert_msg(conf_scalar_size(cases[i].s, &bytes) == cases[i].reason, "%s",
                      cases[i].s);
        ck_assert_uint_eq(bytes, cases[i].reason == CONF_SCALAR_OK ? cases[i].bytes : 99);
    }
}
END_TEST

START_TEST(test_duration)
{
    static const struct {
        const char *s;
        enum conf_scalar_reason reason;
        uint32_t ms;
    } cases[] = {
        {"500ms", CONF_SCALAR_OK, 500},
        {"10s", CONF_SCALAR_OK, 10000},
        {"5m", CONF_SCALAR_OK, 300000},
        {"2h", CONF_SCALAR_OK, 7200000},
        {"4294967295ms", CONF_SCALAR_OK, UINT32_MAX},
        {"4294967296ms", CONF_SCALAR_TOO_LARGE, 0},
        {"1193h", CONF_SCALAR_OK, 4294800000u},
        {"1194h", CONF_SCALAR_TOO_LARGE, 0},
        {"10", CONF_SCALAR_NO_UNIT, 0},
        {"10 s", CONF_SCALAR_BAD_UNIT, 0},
        {"1m30s", CONF_SCALAR_BAD_UNIT, 0},
        {"010s", CONF_SCALAR_LEADING_ZERO, 0},
        {"s", CONF_SCALAR_NOT_NUMBER, 0},
        {"", CONF_SCALAR_EMPTY, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint32_t ms = 99;

        ck_assert_msg(conf_scalar_duration(cases[i].s, &ms) == cases[i].reason, "%s",
                      cases[i].s);
        ck_assert_uint_eq(ms, cases[i].reason == CONF_SCALAR_OK ? cases[i].ms : 99);
    }
}
END_TEST

START_TEST(test_count)
{
    static const struct {
        const char *s;
        enum conf_scalar_reason reason;
        uint64_t count;
    } cases[] = {
        {"0", CONF_SCALAR_OK, 0},
        {"17", CONF_SCALAR_OK, 17},
        {"18446744073709551615", CONF_SCALAR_OK, UINT64_MAX},
        {"18446744073709551616", CONF_SCALAR_TOO_LARGE, 0},
        {"10abc", CONF_SCALAR_NOT_NUMBER, 0},
        {"1e3", CONF_SCALAR_NOT_NUMBER, 0},
        {"010", CONF_SCALAR_LEADING_ZERO, 0},
        {"00", CONF_SCALAR_LEADING_ZERO, 0},
        {"0x1f", CONF_SCALAR_NOT_NUMBER, 0},
        {"-1", CONF_SCALAR_NOT_NUMBER, 0},
        {"1_000", CONF_SCALAR_NOT_NUMBER, 0},
        {"\xd9\xa1", CONF_SCALAR_NOT_NUMBER, 0}, /* an Arabic digit */
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t count = 99;

        ck_assert_msg(conf_scalar_count(cases[i].s, &count) == cases[i].reason, "%s",
                      cases[i].s);
        ck_assert_uint_eq(count, cases[i].reason == CONF_SCALAR_OK ? cases[i].count : 99);
    }
}
END_TEST

START_TEST(test_mac_uuid)
{
    static const char *const bad_macs[] = {
        "",
        "52:54:00:12:34",
        "52:54:00:12:34:5",
        "52:54:00:12:34:567",
        "52-54-00-12-34-56",
        "52:54:00:12:34:5g",
        "52:54:00:12:34:56 ",
        "5254:00:12:34:56:",
    };
    static const uint8_t want[] = {0x52, 0x54, 0, 0xab, 0xcd, 0xef};
    uint8_t mac[6] = {0};
    struct uuid uuid;

    ck_assert_int_eq(conf_scalar_mac("52:54:00:aB:Cd:EF", mac), CONF_SCALAR_OK);
    ck_assert_mem_eq(mac, want, 6);
    for (size_t i = 0; i < ARRAY_SIZE(bad_macs); i++) {
        ck_assert_int_eq(conf_scalar_mac(bad_macs[i], mac), CONF_SCALAR_MALFORMED);
    }
    ck_assert_mem_eq(mac, want, 6);
    ck_assert_int_eq(conf_scalar_uuid("00112233-4455-6677-8899-aabbccddeeff", &uuid),
                     CONF_SCALAR_OK);
    ck_assert_uint_eq(uuid.b[15], 0xff);
    ck_assert_int_eq(conf_scalar_uuid("00112233445566778899aabbccddeeff", &uuid),
                     CONF_SCALAR_MALFORMED);
}
END_TEST

START_TEST(test_names)
{
    static const char *const good[] = {"web1", "a", "9", "a.b-c_d", "A.."};
    static const char *const bad[] = {"",    ".",   "..",  ".hidden", "-x",
                                      "a/b", "a b", "a\n", "\xc3\xa4"};

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        ck_assert_msg(conf_name_ok(good[i]), "%s", good[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        ck_assert_msg(!conf_name_ok(bad[i]), "%s", bad[i]);
    }
}
END_TEST

START_TEST(test_addresses)
{
    static const struct {
        const char *s;
        enum conf_addr kind;
    } cases[] = {
        {"10.0.0.1", CONF_ADDR_IPV4},
        {"255.255.255.255", CONF_ADDR_IPV4},
        {"0.0.0.0", CONF_ADDR_IPV4},
        {"10.0.0.256", CONF_ADDR_BAD},
        {"10.0.0", CONF_ADDR_BAD},
        {"10.0.0.1.2", CONF_ADDR_BAD},
        {"10.0.0.", CONF_ADDR_BAD},
        {"10.0.00.1", CONF_ADDR_BAD},
        {"::1", CONF_ADDR_IPV6},
        {"::", CONF_ADDR_IPV6},
        {"fe80::1", CONF_ADDR_IPV6},
        {"1:2:3:4:5:6:7:8", CONF_ADDR_IPV6},
        {"1::", CONF_ADDR_IPV6},
        {"1:2:3:4:5:6:7::", CONF_ADDR_IPV6},
        {"1:2:3:4:5:6:7", CONF_ADDR_BAD},
        {"1:2:3:4:5:6:7:8:9", CONF_ADDR_BAD},
        {"1::2::3", CONF_ADDR_BAD},
        {":1", CONF_ADDR_BAD},
        {"1:", CONF_ADDR_BAD},
        {":::", CONF_ADDR_BAD},
        {"12345::", CONF_ADDR_BAD},
        {"fe80::1%eth0", CONF_ADDR_BAD},
        {"n1.example.org", CONF_ADDR_NAME},
        {"n-1", CONF_ADDR_NAME},
        {"", CONF_ADDR_BAD},
        {"a b", CONF_ADDR_BAD},
        {"a}", CONF_ADDR_BAD},
        {"10.0.0.1\n", CONF_ADDR_BAD},
        {"-a", CONF_ADDR_BAD},
        {"a_b", CONF_ADDR_BAD},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        ck_assert_msg(conf_addr_kind(cases[i].s) == cases[i].kind, "%s", cases[i].s);
    }
}
END_TEST

/* Whatever number is written reads as that number, and in its shortest unit. */
START_TEST(test_write_read)
{
    uint64_t x = 88172645463325252u;

    for (int i = 0; i < 20000; i++) {
        char buf[64];
        struct conf_text text = conf_text_make(buf, sizeof buf);
        uint64_t bytes, value;
        uint32_t ms;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        value = x >> (x % 64);
        conf_scalar_size_write(&text, value);
        ck_assert_int_eq(conf_scalar_size(buf, &bytes), CONF_SCALAR_OK);
        ck_assert_uint_eq(bytes, value);
        conf_text_cut(&text, 0);
        conf_scalar_duration_write(&text, (uint32_t)value);
        ck_assert_int_eq(conf_scalar_duration(buf, &ms), CONF_SCALAR_OK);
        ck_assert_uint_eq(ms, (uint32_t)value);
    }
}
END_TEST

START_TEST(test_text_bounds)
{
    char buf[8];
    struct conf_text text = conf_text_make(buf, sizeof buf);

    conf_text_str(&text, "1234567");
    ck_assert(!text.truncated);
    conf_text_str(&text, "");
    ck_assert(!text.truncated);
    conf_text_u64(&text, 8);
    ck_assert(text.truncated);
    ck_assert_str_eq(buf, "1234567");
    conf_text_cut(&text, 2);
    ck_assert_str_eq(buf, "12");
    conf_text_quoted(&text, "a\nb\x7f");
    ck_assert_str_eq(buf, "12a?b?");
}
END_TEST

static Suite *conf_scalar_suite(void)
{
    Suite *suite = suite_create("conf_scalar");
    TCase *tcase = tcase_create("scalar");

    tcase_add_test(tcase, test_size);
    tcase_add_test(tcase, test_duration);
    tcase_add_test(tcase, test_count);
    tcase_add_test(tcase, test_mac_uuid);
    tcase_add_test(tcase, test_names);
    tcase_add_test(tcase, test_addresses);
    tcase_add_test(tcase, test_write_read);
    tcase_add_test(tcase, test_text_bounds);
    suite_add_tcase(suite, tcase);
    return suite;
}

UNIT_MAIN(conf_scalar_suite)
