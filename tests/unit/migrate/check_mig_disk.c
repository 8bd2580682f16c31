/* SPDX-License-Identifier: Apache-2.0 */
/* DISK frames: round trips, everything that is refused, and the bytes on the wire. */
#include <stdlib.h>
#include <string.h>

#include "migrate/mig_disk.h"
#include "tests/unit/golden.h"
#include "tests/unit/unit.h"

#define MIB   (UINT64_C(1) << 20)
#define BYTES (64 * MIB + 1536) /* of disk 1: the last granule in part */

static const struct mig_disk_conf conf = {
    .stream = 1, .n_streams = 2, .bytes = {[1] = BYTES, [3] = 4 * MIB, [4] = MIB}};
static const struct mig_disk_run good = {.disk = 1,
                                         .kind = MIG_DISK_RAW,
                                         .round = 7,
                                         .offset = 3 * DISK_GRANULE,
                                         .len = 2 * DISK_GRANULE};

static enum mig_disk_reason judge(const struct mig_disk_run *run, uint32_t body_len,
                                  struct mig_disk_run *ret_run)
{
    /* Of exactly its size, so that ASan sees a read past its end. */
    uint8_t *head = malloc(MIG_DISK_HEAD_LEN);
    enum mig_disk_reason reason;

    mig_disk_encode(run, head);
    reason = mig_disk_decode(&conf, head, body_len, ret_run);
    free(head);
    return reason;
}

static uint32_t body_of(const struct mig_disk_run *run)
{
    return MIG_DISK_HEAD_LEN + (run->kind == MIG_DISK_RAW ? (uint32_t)run->len : 0);
}

START_TEST(runs_go_round)
{
    const struct mig_disk_run runs[] = {
        {1, MIG_DISK_RAW, 7, 3 * DISK_GRANULE, 2 * DISK_GRANULE},
        {3, MIG_DISK_RAW, 7, 3 * DISK_GRANULE, 2 * DISK_GRANULE},
        {1, MIG_DISK_RAW, 7, 0, 2 * DISK_GRANULE},
        {1, MIG_DISK_RAW, 7, 3 * DISK_GRANULE, MIG_DISK_RAW_MAX},
        {1, MIG_DISK_ZERO, 1, 0, BYTES},
        {1, MIG_DISK_ZERO, UINT32_MAX, 64 * MIB, 1536},
        {1, MIG_DISK_RAW, 1, 64 * MIB, 1536},
        {1, MIG_DISK_RAW, 1, 64 * MIB - DISK_GRANULE, DISK_GRANULE + 1536},
    };

    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        struct mig_disk_run run = {0};

        ck_assert_int_eq(judge(&runs[i], body_of(&runs[i]), &run), MIG_DISK_OK);
        ck_assert_uint_eq(run.disk, runs[i].disk);
        ck_assert_int_eq(run.kind, runs[i].kind);
        ck_assert_uint_eq(run.round, runs[i].round);
        ck_assert_uint_eq(run.offset, runs[i].offset);
        ck_assert_uint_eq(run.len, runs[i].len);
    }
}
END_TEST

START_TEST(what_is_refused)
{
    const struct {
        struct mig_disk_run run;
        enum mig_disk_reason reason;
    } bad[] = {
        {{1, (enum mig_disk_kind)0, 7, 3 * DISK_GRANULE, 2 * DISK_GRANULE},
         MIG_DISK_BAD_KIND},
        {{1, (enum mig_disk_kind)3, 7, 3 * DISK_GRANULE, 2 * DISK_GRANULE},
         MIG_DISK_BAD_KIND},
        {{0, MIG_DISK_RAW, 7, 3 * DISK_GRANULE, 2 * DISK_GRANULE}, MIG_DISK_NO_DISK},
        {{VM_DISKS_MAX, MIG_DISK_RAW, 7, 3 * DISK_GRANULE, 2 * DISK_GRANULE},
         MIG_DISK_NO_DISK},
        {{UINT16_MAX, MIG_DISK_RAW, 7, 3 * DISK_GRANULE, 2 * DISK_GRANULE},
         MIG_DISK_NO_DISK},
        {{4, MIG_DISK_RAW, 7, 3 * DISK_GRANULE, 2 * DISK_GRANULE}, MIG_DISK_BAD_STREAM},
        {{1, MIG_DISK_RAW, 0, 3 * DISK_GRANULE, 2 * DISK_GRANULE}, MIG_DISK_BAD_ROUND},
        {{1, MIG_DISK_RAW, 7, 3 * DISK_GRANULE, 0}, MIG_DISK_BAD_RUN},
        {{1, MIG_DISK_RAW, 7, 3 * DISK_GRANULE, MIG_DISK_RAW_MAX + DISK_GRANULE},
         MIG_DISK_BAD_RUN},
        {{1, MIG_DISK_RAW, 7, 3 * DISK_GRANULE, 512}, MIG_DISK_BAD_RUN},
        {{1, MIG_DISK_RAW, 7, 512, 2 * DISK_GRANULE}, MIG_DISK_BAD_RUN},
        {{1, MIG_DISK_RAW, 7, 64 * MIB, 2 * DISK_GRANULE}, MIG_DISK_BAD_RUN},
        {{1, MIG_DISK_RAW, 7, 128 * MIB, 2 * DISK_GRANULE}, MIG_DISK_BAD_RUN},
        {{1, MIG_DISK_RAW, 7, UINT64_MAX - DISK_GRANULE + 1, 2 * DISK_GRANULE},
         MIG_DISK_BAD_RUN},
        {{1, MIG_DISK_ZERO, 1, 0, BYTES + 512}, MIG_DISK_BAD_RUN},
        {{1, MIG_DISK_ZERO, 1, DISK_GRANULE, UINT64_MAX}, MIG_DISK_BAD_RUN},
        {{1, MIG_DISK_ZERO, 1, DISK_GRANULE, UINT64_MAX - 2 * DISK_GRANULE + 1},
         MIG_DISK_BAD_RUN},
    };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct mig_disk_run run = {.disk = 99};

        ck_assert_msg(judge(&bad[i].run, body_of(&bad[i].run), &run) == bad[i].reason,
                      "%zu", i);
        ck_assert_uint_eq(run.disk, 99);
        ck_assert_str_ne(mig_disk_reason_str(bad[i].reason), "unknown reason");
    }
}
END_TEST

START_TEST(lengths_of_the_body)
{
    struct mig_disk_run run, zero = good;

    zero.kind = MIG_DISK_ZERO;
    ck_assert_int_eq(judge(&good, body_of(&good) - 1, &run), MIG_DISK_BAD_LENGTH);
    ck_assert_int_eq(judge(&good, body_of(&good) + 1, &run), MIG_DISK_BAD_LENGTH);
    ck_assert_int_eq(judge(&good, MIG_DISK_HEAD_LEN, &run), MIG_DISK_BAD_LENGTH);
    ck_assert_int_eq(judge(&zero, body_of(&good), &run), MIG_DISK_BAD_LENGTH);
}
END_TEST

START_TEST(golden_bytes)
{
    size_t len;
    unsigned char *golden = golden_load("wire/v1/mig_disk.bin", &len);
    uint8_t head[MIG_DISK_HEAD_LEN];

    ck_assert_uint_eq(len, sizeof head);
    mig_disk_encode(&good, head);
    ck_assert_mem_eq(head, golden, len);
    free(golden);
}
END_TEST

static Suite *disk_suite(void)
{
    Suite *suite = suite_create("mig_disk");
    TCase *tc = tcase_create("mig_disk");

    tcase_add_test(tc, runs_go_round);
    tcase_add_test(tc, what_is_refused);
    tcase_add_test(tc, lengths_of_the_body);
    tcase_add_test(tc, golden_bytes);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(disk_suite)
