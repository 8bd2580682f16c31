/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record log: what is read back is what was acknowledged, or the node says that it
 * has lost its memory. Cut at every byte, every bit flipped, both on a log with a stale
 * header and one that is up to date.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/frame.h"
#include "base/loop.h"
#include "ha/ha_store.h"
#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"

#define HEADER_LEN 4096
#define ITEMS      7

struct item {
    enum ha_item_kind kind;
    uint64_t version;
    size_t len;
    uint8_t bytes[512];
};

static struct item want[ITEMS], got[64];
static size_t end_of[ITEMS]; /* of each item in the file */
static unsigned got_count;
static char dir[TEMP_PATH_MAX], path[TEMP_PATH_MAX + 16];
static struct loop *loop;
static uint64_t persisted_version;
static uint64_t reported[64];
static unsigned reported_count;
static int failed_with; /* 1: a failure is no surprise */

static int keep(void *ctx, enum ha_item_kind kind, const void *body, size_t len,
                uint64_t version)
{
    (void)ctx;
    ck_assert_uint_lt(got_count, 64);
    ck_assert_uint_le(len, sizeof got[0].bytes);
    got[got_count] = (struct item){.kind = kind, .version = version, .len = len};
    memcpy(got[got_count++].bytes, body, len);
    return 0;
}

static void persisted(void *ctx, uint64_t version)
{
    (void)ctx;
    persisted_version = version;
    ck_assert_uint_lt(reported_count, ARRAY_SIZE(reported));
    reported[reported_count++] = version;
    if (version == ITEMS) {
        loop_stop(loop);
    }
}

static void failed(void *ctx, int error)
{
    (void)ctx;
    ck_assert_msg(failed_with == 1, "the store failed: %d", error);
    failed_with = error;
    loop_stop(loop);
}

static const struct ha_store_ops ops = {.persisted = persisted, .failed = failed};

static enum ha_store_found open_store(struct ha_store **ret_store, char *text, size_t cap)
{
    enum ha_store_found found;

    got_count = 0;
    ck_assert_int_eq(
        ha_store_open(loop, path, &ops, NULL, keep, &found, text, cap, ret_store), 0);
    return found;
}

static uint8_t *read_file(size_t *ret_len)
{
    struct stat st;
    uint8_t *bytes;
    int fd = open(path, O_RDONLY);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    bytes = malloc((size_t)st.st_size + 1);
    ck_assert_int_eq(read(fd, bytes, (size_t)st.st_size), st.st_size);
    close(fd);
    *ret_len = (size_t)st.st_size;
    return bytes;
}

static void write_file(const uint8_t *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

/* A log of ITEMS items, written by the store itself. */
static void setup(void)
{
    struct ha_store *store;
    size_t at = HEADER_LEN;
    char text[256];

    ck_assert_ptr_nonnull(mkdtemp(temp_path(dir, "ha-store")));
    snprintf(path, sizeof path, "%s/records.log", dir);
    ck_assert_int_eq(loop_new(&loop), 0);
    ck_assert_int_eq(open_store(&store, text, sizeof text), HA_STORE_NEW);
    for (unsigned i = 0; i < ITEMS; i++) {
        want[i].kind = i % 2 ? HA_ITEM_VM : HA_ITEM_NODE;
        want[i].version = i + 1;
        want[i].len = 1 + 13 * i;
        memset(want[i].bytes, 0xa0 + (int)i, want[i].len);
        at += FRAME_HEADER_LEN + want[i].len;
        end_of[i] = at;
        ck_assert_int_eq(ha_store_append(store, want[i].kind, want[i].bytes, want[i].len,
                                         want[i].version),
                         0);
    }
    persisted_version = 0;
    reported_count = 0;
    failed_with = 0;
    loop_run(loop);
    ck_assert_uint_eq(persisted_version, ITEMS);
    ha_store_close(store);
}

static void teardown(void)
{
    char aside[sizeof path + 8];

    loop_free(loop);
    snprintf(aside, sizeof aside, "%s.torn", path);
    unlink(path);
    unlink(aside);
    rmdir(dir);
}

/* What was read is a prefix of what was written: nothing else is ever a state. */
static void expect_prefix(void)
{
    ck_assert_uint_le(got_count, ITEMS);
    for (unsigned i = 0; i < got_count; i++) {
        ck_assert_int_eq(got[i].kind, want[i].kind);
        ck_assert_uint_eq(got[i].version, want[i].version);
        ck_assert_uint_eq(got[i].len, want[i].len);
        ck_assert_mem_eq(got[i].bytes, want[i].bytes, want[i].len);
    }
}

/* Bytes in memory of their own length, so that a sanitizer sees every byte too far. */
static enum ha_store_found parse(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len != 0 ? len : 1);
    enum ha_store_found found;
    const char *why = NULL;
    size_t good = 0;

    memcpy(copy, bytes, len);
    got_count = 0;
    found = ha_store_parse(copy, len, keep, NULL, &good, &why);
    free(copy);
    ck_assert_ptr_nonnull(why);
    ck_assert(found == HA_STORE_INTACT || found == HA_STORE_TORN);
    if (found == HA_STORE_INTACT) {
        ck_assert_uint_le(good, len);
        ck_assert_uint_eq(good, got_count == 0 ? HEADER_LEN : end_of[got_count - 1]);
    }
    return found;
}

START_TEST(what_was_written_is_read)
{
    size_t len;
    uint8_t *file = read_file(&len);

    ck_assert_uint_eq(len, end_of[ITEMS - 1]);
    ck_assert_int_eq(parse(file, len), HA_STORE_INTACT);
    ck_assert_uint_eq(got_count, ITEMS);
    expect_prefix();
    free(file);
}
END_TEST

START_TEST(cut_at_any_byte_is_torn)
{
    size_t len;
    uint8_t *file = read_file(&len);

    for (size_t cut = 0; cut < len; cut++) {
        ck_assert_msg(parse(file, cut) == HA_STORE_TORN, "cut at %zu of %zu", cut, len);
        expect_prefix();
    }
    free(file);
}
END_TEST

/* A header that lags (it is written after the data): what lies behind it is taken as far
 * as it is whole; what it vouches for is not given up. */
START_TEST(cut_behind_a_lagging_header_is_a_prefix)
{
    for (unsigned durable = 0; durable < ITEMS; durable++) {
        size_t len, durable_len;
        uint8_t *file;

        teardown();
        setup();
        file = read_file(&len);
        durable_len = durable == 0 ? HEADER_LEN : end_of[durable - 1];
        /* The header that the store itself wrote when it was that long. */
        {
            struct ha_store *store;
            char text[256];
            uint8_t *shorter;
            size_t shorter_len;

            unlink(path);
            ck_assert_int_eq(open_store(&store, text, sizeof text), HA_STORE_NEW);
            for (unsigned i = 0; i < durable; i++) {
                ha_store_append(store, want[i].kind, want[i].bytes, want[i].len,
                                want[i].version);
            }
            ha_store_close(store);
            shorter = read_file(&shorter_len);
            ck_assert_uint_eq(shorter_len, durable_len);
            memcpy(file, shorter, HEADER_LEN);
            free(shorter);
        }
        for (size_t cut = HEADER_LEN; cut <= len; cut++) {
            enum ha_store_found found = parse(file, cut);

            ck_assert_int_eq(found, cut < durable_len ? HA_STORE_TORN : HA_STORE_INTACT);
            expect_prefix();
            if (found == HA_STORE_INTACT) {
                ck_assert_uint_ge(got_count, durable);
            }
        }
        free(file);
    }
}
END_TEST

START_TEST(any_bit_flipped_is_torn_or_changes_nothing)
{
    size_t len, harmless = 0;
    uint8_t *file = read_file(&len);

    for (size_t bit = 0; bit < len * 8; bit++) {
        enum ha_store_found found;

        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
        found = parse(file, len);
        expect_prefix();
        if (found == HA_STORE_INTACT) {
            /* Only the padding of the header is of no account. */
            ck_assert_uint_ge(bit / 8, 20);
            ck_assert_uint_lt(bit / 8, HEADER_LEN);
            ck_assert_uint_eq(got_count, ITEMS);
            harmless++;
        }
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_uint_eq(harmless, (HEADER_LEN - 20) * 8);
    free(file);
}
END_TEST

static int refuse(void *ctx, enum ha_item_kind kind, const void *body, size_t len,
                  uint64_t version)
{
    (void)ctx;
    (void)kind;
    (void)body;
    (void)len;
    return version == 3 ? -EBADMSG : 0;
}

START_TEST(an_item_that_the_state_refuses_is_torn)
{
    const char *why = NULL;
    size_t len, good = 0;
    uint8_t *file = read_file(&len);

    ck_assert_int_eq(ha_store_parse(file, len, refuse, NULL, &good, &why), HA_STORE_TORN);
    free(file);
}
END_TEST

/* Through the door that the agent uses: moved aside, named, and a blank log begun. */
START_TEST(a_torn_log_is_kept_and_a_blank_one_begun)
{
    struct ha_store *store;
    char text[256], aside[sizeof path + 8];
    size_t len;
    uint8_t *file = read_file(&len);

    write_file(file, len - 1);
    ck_assert_int_eq(open_store(&store, text, sizeof text), HA_STORE_TORN);
    ck_assert_ptr_nonnull(strstr(text, ".torn"));
    ha_store_close(store);
    snprintf(aside, sizeof aside, "%s.torn", path);
    ck_assert_int_eq(access(aside, F_OK), 0);
    ck_assert_int_eq(open_store(&store, text, sizeof text), HA_STORE_INTACT);
    ck_assert_uint_eq(got_count, 0);
    ha_store_close(store);
    free(file);
}
END_TEST

/* Appends go on behind the good part of a log that has an unacknowledged tail. */
START_TEST(an_unacknowledged_tail_is_cut_off)
{
    struct ha_store *store;
    char text[256];
    size_t len;
    uint8_t *file = read_file(&len);
    uint8_t *longer = malloc(len + 5);

    memcpy(longer, file, len);
    memcpy(longer + len, "GREC!", 5);
    write_file(longer, len + 5);
    ck_assert_int_eq(open_store(&store, text, sizeof text), HA_STORE_INTACT);
    ck_assert_uint_eq(got_count, ITEMS);
    ha_store_append(store, HA_ITEM_NODE, "x", 1, ITEMS);
    ha_store_close(store);
    ck_assert_int_eq(open_store(&store, text, sizeof text), HA_STORE_INTACT);
    ck_assert_uint_eq(got_count, ITEMS + 1);
    ha_store_close(store);
    free(file);
    free(longer);
}
END_TEST

static const struct ha_mem mem = {.alloc = malloc, .free = free};

/* After a state transfer versions may be lower than before: what was written of the old
 * state says nothing about the new one. */
START_TEST(a_rewrite_begins_another_line_of_versions)
{
    struct ha_store *store;
    struct ha_state state;
    char text[256];

    ck_assert_int_eq(open_store(&store, text, sizeof text), HA_STORE_INTACT);
    ha_state_init(&state, &mem);
    state.version = ITEMS - 1;
    reported_count = 0;
    ck_assert_int_eq(ha_store_append(store, HA_ITEM_NODE, "x", 1, ITEMS + 90), 0);
    ck_assert_int_eq(ha_store_rewrite(store, &state), 0);
    ck_assert_int_eq(ha_store_append(store, HA_ITEM_NODE, "x", 1, ITEMS), 0);
    loop_run(loop);
    ck_assert_uint_ge(reported_count, 1);
    for (unsigned i = 0; i < reported_count; i++) {
        ck_assert_uint_le(reported[i], ITEMS);
    }
    ha_store_close(store);
}
END_TEST

/* A disk that failed and is well again: only a log that was written anew ends the error.
 */
START_TEST(a_failed_log_is_written_anew)
{
    struct rlimit limit, small;
    struct ha_store *store;
    struct ha_state state;
    char text[256];

    ck_assert_int_eq(open_store(&store, text, sizeof text), HA_STORE_INTACT);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = HEADER_LEN;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    failed_with = 1;
    reported_count = 0;
    ck_assert_int_eq(ha_store_append(store, HA_ITEM_NODE, "x", 1, ITEMS + 1), 0);
    loop_run(loop);
    ck_assert_int_eq(failed_with, -EFBIG);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    failed_with = 1;
    ck_assert_int_eq(ha_store_append(store, HA_ITEM_NODE, "x", 1, ITEMS + 2), 0);
    loop_run(loop);
    ck_assert_int_lt(failed_with, 0); /* not by trying again */
    ck_assert_uint_eq(reported_count, 0);
    ha_state_init(&state, &mem);
    state.version = ITEMS;
    ck_assert_int_eq(ha_store_rewrite(store, &state), 0);
    loop_run(loop);
    ck_assert_uint_eq(persisted_version, ITEMS);
    ha_store_close(store);
    ck_assert_int_eq(open_store(&store, text, sizeof text), HA_STORE_INTACT);
    ha_store_close(store);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_store");
    TCase *tc = tcase_create("log");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, what_was_written_is_read);
    tcase_add_test(tc, cut_at_any_byte_is_torn);
    tcase_add_test(tc, cut_behind_a_lagging_header_is_a_prefix);
    tcase_add_test(tc, any_bit_flipped_is_torn_or_changes_nothing);
    tcase_add_test(tc, an_item_that_the_state_refuses_is_torn);
    tcase_add_test(tc, a_torn_log_is_kept_and_a_blank_one_begun);
    tcase_add_test(tc, an_unacknowledged_tail_is_cut_off);
    tcase_add_test(tc, a_rewrite_begins_another_line_of_versions);
    tcase_add_test(tc, a_failed_log_is_written_anew);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
