/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_zstd.h"

#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "migrate/mig_ram.h"
#include "tests/unit/migrate/mig_rand.h"
#include "tests/unit/unit.h"

#define BYTES (MIG_RAM_PAGES_MAX * MIG_PAGE)

static struct mig_zstd *z;
static uint8_t *from, *to;

static void setup(void)
{
    z = mig_zstd_new();
    from = calloc(1, BYTES);
    to = calloc(1, BYTES);
    ck_assert(z != NULL && from != NULL && to != NULL);
}

static void teardown(void)
{
    mig_zstd_free(z);
    free(from);
    free(to);
}

static uint32_t pack(size_t len, const uint8_t **ret_data)
{
    struct iovec iov[2] = {{from, len / 2}, {from + len / 2, len - len / 2}};

    return mig_zstd_pack(z, iov, 2, ret_data);
}

static void text(size_t len)
{
    for (size_t i = 0; i < len; i++) {
        from[i] = (uint8_t)(i / 64 * 7 + i % 13);
    }
}

/* What two runs held comes back into three. */
START_TEST(pages_come_back)
{
    static const size_t lens[] = {MIG_PAGE, 3 * MIG_PAGE, BYTES};

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        size_t len = lens[i];
        struct iovec iov[3] = {
            {to, 100}, {to + 100, len / 2}, {to + 100 + len / 2, len - len / 2 - 100}};
        const uint8_t *data;
        uint32_t packed;

        text(len);
        packed = pack(len, &data);
        ck_assert_uint_gt(packed, 0);
        ck_assert_uint_lt(packed, len / 2);
        memmove(mig_zstd_room(z), data, packed);
        memset(to, 0xee, BYTES);
        ck_assert_ptr_null(mig_zstd_unpack(z, packed, iov, 3));
        ck_assert_mem_eq(from, to, len);
        ck_assert(len == BYTES || to[len] == 0xee);
    }
}
END_TEST

START_TEST(noise_is_not_packed)
{
    uint64_t seed = 7;
    const uint8_t *data;

    for (size_t i = 0; i < BYTES; i++) {
        from[i] = (uint8_t)mig_rand(&seed);
    }
    ck_assert_uint_eq(pack(BYTES, &data), 0);
    ck_assert_uint_eq(pack(0, &data), 0);
}
END_TEST

/* Nothing of a frame that is wrong is written. */
START_TEST(hostile_frames_are_refused)
{
    struct iovec iov = {to, 8 * MIG_PAGE}, wider = {to, 9 * MIG_PAGE},
                 narrower = {to, 7 * MIG_PAGE};
    uint64_t seed = 11;
    uint8_t *good = malloc(BYTES);
    const uint8_t *data;
    uint32_t packed, refused = 0;

    text(8 * MIG_PAGE);
    packed = pack(8 * MIG_PAGE, &data);
    memcpy(good, data, packed);
    memset(to, 0xee, BYTES);
    memcpy(mig_zstd_room(z), good, packed);
    ck_assert_ptr_nonnull(mig_zstd_unpack(z, packed, &wider, 1));
    ck_assert_ptr_nonnull(mig_zstd_unpack(z, packed, &narrower, 1));
    ck_assert_ptr_nonnull(mig_zstd_unpack(z, packed - 1, &iov, 1));
    ck_assert_ptr_nonnull(mig_zstd_unpack(z, 0, &iov, 1));
    for (size_t i = 0; i < BYTES; i++) {
        ck_assert_uint_eq(to[i], 0xee);
    }
    for (int i = 0; i < 2000; i++) {
        memcpy(mig_zstd_room(z), good, packed);
        mig_zstd_room(z)[mig_rand_below(&seed, packed)] ^=
            (uint8_t)(1 + mig_rand_below(&seed, 255));
        refused += mig_zstd_unpack(z, packed, &iov, 1) != NULL;
    }
    ck_assert_uint_gt(refused, 0); /* others become wrong pages: TCP or TLS see those */
    free(good);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_zstd");
    TCase *tc = tcase_create("zstd");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, pages_come_back);
    tcase_add_test(tc, noise_is_not_packed);
    tcase_add_test(tc, hostile_frames_are_refused);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
