/* SPDX-License-Identifier: Apache-2.0 */
/* Records of fence requests: as bytes, and as files that a crash or a person damaged. */
#include "fencing/fence_record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "base/uuid.h"
#include "fencing/fence_store.h"
#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"

static struct fence_record sample(void)
{
    struct fence_record r;

    memset(&r, 0, sizeof(r)); /* padding too: compared with memcmp below */
    r.uid = uuid_random();
    r.action = FENCE_ACTION_OFF;
    strcpy(r.node, "n1");
    r.boot_id = uuid_random();
    r.join_counter = 7;
    r.timeout_ms = 30000;
    r.result = FENCE_RESULT_UNKNOWN;
    strcpy(r.device, "bmc1");
    strcpy(r.detail, "no confirmation within the time of the request");
    r.elapsed_ms = 30001;
    r.attempts = 3;
    r.order = 42;
    return r;
}

START_TEST(round_trip)
{
    struct fence_record a = sample(), b;
    uint8_t buf[FENCE_RECORD_LEN_MAX];
    size_t len;

    memset(a.node, 'n', NODE_NAME_MAX);
    memset(a.device, 'd', NODE_NAME_MAX);
    memset(a.detail, 'x', REASON_LEN_MAX);
    len = fence_record_encode(&a, buf, sizeof(buf));
    ck_assert_uint_gt(len, 0);
    memset(&b, 0, sizeof(b));
    ck_assert_int_eq(fence_record_decode(buf, len, &b), 0);
    ck_assert_str_eq(b.detail, a.detail);
    ck_assert_str_eq(b.node, a.node);
    ck_assert(uuid_equal(a.uid, b.uid) && uuid_equal(a.boot_id, b.boot_id));
    ck_assert_uint_eq(b.order, 42);
    ck_assert_uint_eq(b.join_counter, 7);
    ck_assert_int_eq(b.result, FENCE_RESULT_UNKNOWN);
    ck_assert_uint_eq(b.timeout_ms, 30000);
    ck_assert_uint_eq(b.attempts, 3);
}
END_TEST

START_TEST(every_damage_is_seen)
{
    struct fence_record a = sample(), b;
    uint8_t buf[FENCE_RECORD_LEN_MAX];
    size_t len = fence_record_encode(&a, buf, sizeof(buf));

    for (size_t n = 0; n < len; n++) {
        ck_assert_int_eq(fence_record_decode(buf, n, &b), -EBADMSG);
    }
    for (size_t bit = 0; bit < len * 8; bit++) {
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(fence_record_decode(buf, len, &b), -EBADMSG);
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf[len] = 0;
    ck_assert_int_eq(fence_record_decode(buf, len + 1, &b), -EBADMSG);
}
END_TEST

START_TEST(meaning_is_checked)
{
    uint8_t buf[FENCE_RECORD_LEN_MAX];
    struct fence_record b;

    for (int i = 0; i < 4; i++) {
        struct fence_record a = sample();

        a.action = i == 0 ? FENCE_ACTION_STATUS : i == 1 ? FENCE_ACTION_COUNT : a.action;
        a.result = i == 2 ? FENCE_RESULT_NONE : a.result;
        a.node[0] = i == 3 ? '\0' : a.node[0];
        ck_assert_int_eq(
            fence_record_decode(buf, fence_record_encode(&a, buf, sizeof(buf)), &b),
            -EBADMSG);
    }
}
END_TEST

static unsigned loaded;
static struct uuid loaded_uid;

static void on_record(const struct fence_record *record, void *data)
{
    (void)data;
    loaded++;
    loaded_uid = record->uid;
}

START_TEST(damaged_files_are_set_aside)
{
    char dir[TEMP_PATH_MAX], path[TEMP_PATH_MAX + 64], name[UUID_STR_LEN + 1],
        command[TEMP_PATH_MAX + 32];
    struct fence_record a = sample(), b = sample();
    int lock_fd, second_fd;
    unsigned bad;

    ck_assert_ptr_nonnull(mkdtemp(temp_path(dir, "fence-record")));
    ck_assert_int_eq(fence_store_open(dir, &lock_fd), 0);
    ck_assert_int_eq(fence_store_open(dir, &second_fd), -EAGAIN);
    ck_assert_int_eq(fence_store_put(dir, &a), 0);
    ck_assert_int_eq(fence_store_put(dir, &b), 0);
    ck_assert_int_eq(fence_store_load(dir, on_record, NULL, &bad), 0);
    ck_assert_uint_eq(loaded, 2);
    ck_assert_uint_eq(bad, 0);

    uuid_format(a.uid, name);
    snprintf(path, sizeof(path), "%s/%s.fence", dir, name);
    ck_assert_int_eq(truncate(path, 40), 0);
    loaded = 0;
    ck_assert_int_eq(fence_store_load(dir, on_record, NULL, &bad), 0);
    ck_assert_uint_eq(loaded, 1);
    ck_assert_uint_eq(bad, 1);
    ck_assert(uuid_equal(loaded_uid, b.uid));
    ck_assert_int_eq(access(path, F_OK), -1);
    strcat(path, ".bad");
    ck_assert_int_eq(access(path, F_OK), 0);

    ck_assert_int_eq(fence_store_remove(dir, b.uid), 0);
    loaded = 0;
    ck_assert_int_eq(fence_store_load(dir, on_record, NULL, &bad), 0);
    ck_assert_uint_eq(loaded, 0);
    close(lock_fd);
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("fence_record");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, round_trip);
    tcase_add_test(tc, every_damage_is_seen);
    tcase_add_test(tc, meaning_is_checked);
    tcase_add_test(tc, damaged_files_are_set_aside);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
