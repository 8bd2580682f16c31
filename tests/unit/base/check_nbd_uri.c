/* SPDX-License-Identifier: Apache-2.0 */
#include "base/nbd_uri.h"

#include <string.h>

#include "base/units.h"
#include "tests/unit/unit.h"

static const struct {
    const char *text, *address, *path, *export_name;
    unsigned port;
} good[] = {
    {"nbd://10.0.0.1", "10.0.0.1", "", "", 10809},
    {"nbd://10.0.0.1/", "10.0.0.1", "", "", 10809},
    {"nbd://10.0.0.1:9/vm1", "10.0.0.1", "", "vm1", 9},
    {"nbd://[fd00::1]/a/b", "fd00::1", "", "a/b", 10809},
    {"nbd://[fd00::1]:65535/", "fd00::1", "", "", 65535},
    {"nbd+unix:///?socket=/run/x", "", "/run/x", "", 0},
    {"nbd+unix://?socket=/run/x", "", "/run/x", "", 0},
    {"nbd+unix:///a%20b%2C?socket=/run/%41", "", "/run/A", "a b,", 0},
};

START_TEST(what_is_one)
{
    struct nbd_uri uri;
    const char *why = nbd_uri_parse(good[_i].text, &uri);

    ck_assert_msg(why == NULL, "%s: %s", good[_i].text, why);
    ck_assert_str_eq(uri.address, good[_i].address);
    ck_assert_str_eq(uri.path, good[_i].path);
    ck_assert_str_eq(uri.export_name, good[_i].export_name);
    ck_assert_uint_eq(uri.port, good[_i].port);
    ck_assert_int_eq(uri.is_unix, good[_i].path[0] != '\0');
}
END_TEST

static const struct {
    const char *text, *why;
} bad[] = {
    {"", "an NBD disk is"},
    {"http://10.0.0.1/", "an NBD disk is"},
    {"nbds://10.0.0.1/x", "TLS is not there"},
    {"nbds+unix:///x?socket=/y", "TLS is not there"},
    {"nbd://", "must be an IPv4 address"},
    {"nbd://server/x", "must be an IPv4 address"},
    {"nbd://10.0.0.1:0/x", "the port is"},
    {"nbd://10.0.0.1:65536/x", "the port is"},
    {"nbd://10.0.0.1:12345678901/x", "after the address"},
    {"nbd://10.0.0.1:/x", "the port is"},
    {"nbd://[fd00::1/x", "in brackets"},
    {"nbd://[fd00::1]9/x", "after the address"},
    {"nbd://me@10.0.0.1/x", "no user"},
    {"nbd://10.0.0.1/x?tls=1", "no query"},
    {"nbd://10.0.0.1/a%2", "bad %"},
    {"nbd://10.0.0.1/a%00b", "bad %"},
    {"nbd://10.0.0.1/a%zz", "bad %"},
    {"nbd://1111111111111111111111111111111111111111111111111111111", "too long"},
    {"nbd+unix:///x", "is written nbd+unix"},
    {"nbd+unix:///x?socket=run", "an absolute path"},
    {"nbd+unix:///x?socket=", "an absolute path"},
    {"nbd+unix://host/x?socket=/run/x", "has no host"},
    {"nbd+unix:///x?socket=/run/x&tls=1", "is written nbd+unix"},
};

START_TEST(what_is_none)
{
    struct nbd_uri uri = {.port = 77};
    const char *why = nbd_uri_parse(bad[_i].text, &uri);

    ck_assert_msg(why != NULL, "%s was taken", bad[_i].text);
    ck_assert_msg(strstr(why, bad[_i].why) != NULL, "%s: %s", bad[_i].text, why);
    ck_assert_uint_eq(uri.port, 77);
}
END_TEST

START_TEST(long_parts)
{
    char text[1024];
    struct nbd_uri uri;

    memset(text, 'e', sizeof text);
    memcpy(text, "nbd://1.2.3.4/", 14);
    text[14 + NBD_EXPORT_MAX - 1] = '\0';
    ck_assert_ptr_null(nbd_uri_parse(text, &uri));
    ck_assert_uint_eq(strlen(uri.export_name), NBD_EXPORT_MAX - 1);
    text[14 + NBD_EXPORT_MAX - 1] = 'e';
    text[14 + NBD_EXPORT_MAX] = '\0';
    ck_assert_ptr_nonnull(nbd_uri_parse(text, &uri));
}
END_TEST

START_TEST(nobody_there)
{
    struct nbd_uri uri;
    int fd;

    ck_assert_ptr_null(nbd_uri_parse("nbd+unix:///?socket=/nonexistent/x", &uri));
    ck_assert_int_lt(nbd_uri_connect(&uri, 100, &fd), 0);
    ck_assert_ptr_null(nbd_uri_parse("nbd://1.2.3.4.5/", &uri));
    ck_assert_int_lt(nbd_uri_connect(&uri, 100, &fd), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("nbd_uri");
    TCase *t = tcase_create("nbd_uri");

    tcase_add_loop_test(t, what_is_one, 0, ARRAY_SIZE(good));
    tcase_add_loop_test(t, what_is_none, 0, ARRAY_SIZE(bad));
    tcase_add_test(t, long_parts);
    tcase_add_test(t, nobody_there);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
