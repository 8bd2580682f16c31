/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/throttle, alone and in both engines: a guest gets about its share, an idle one is
 * left alone, and whoever sleeps is not waited for. */
#include <string.h>
#include <time.h>

#include "base/loop.h"
#include "base/units.h"
#include "tests/unit/unit.h"
#include "tests/unit/vmm/engine_rig.h"
#include "vmm/throttle.h"

START_TEST(shares)
{
    static const unsigned permille[] = {1, 100, 500, 800, 990};

    for (size_t i = 0; i < ARRAY_SIZE(permille); i++) {
        uint64_t slice = throttle_slice_ns(permille[i]);
        uint64_t sleep = throttle_sleep_ns(permille[i], slice);

        ck_assert_uint_ge(slice, NSEC_PER_MSEC / 5);
        ck_assert_uint_le(slice, 10 * NSEC_PER_MSEC);
        ck_assert_uint_le(sleep, 20 * NSEC_PER_MSEC);
        ck_assert_uint_eq((sleep * 1000 + (slice + sleep) / 2) / (slice + sleep),
                          permille[i]);
    }
    ck_assert_uint_le(throttle_sleep_ns(990, NSEC_PER_SEC), 50 * NSEC_PER_MSEC);
}
END_TEST

/* CPU time of this process that the guest took in `ms`, as a share of one processor. */
static double taken(unsigned ms)
{
    struct timespec t;
    double from, cpu;
    uint64_t start = loop_now_ns();

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    from = (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
    er_sleep_ms(ms);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    cpu = (double)t.tv_sec * 1e9 + (double)t.tv_nsec - from;
    return cpu / (double)(loop_now_ns() - start);
}

static void burning(unsigned cpus)
{
    atomic_store(&fake_guest.computes, true);
    atomic_store(&fake_guest.burns, true);
    er_go(cpus, ENGINE_RIG_RAM);
    er_start(1);
}

/* Upper bounds: others may use this machine, and then it takes less. */
START_TEST(takes_its_share)
{
    uint64_t before;
    double least;

    burning(_i ? 1 : 0);
    engine_throttle(er.e, 800);
    ck_assert_double_le(taken(400), 0.35);
    engine_throttle(er.e, 950);
    least = taken(400);
    ck_assert_double_le(least, 0.12);
    before = atomic_load(&fake_guest.work);
    er_sleep_ms(200);
    ck_assert_uint_gt(atomic_load(&fake_guest.work), before); /* not dead */
    engine_throttle(er.e, 0);
    er_sleep_ms(30);
    ck_assert_double_ge(taken(400), 2 * least);
}
END_TEST

/* As often as not it sleeps when it is told. */
START_TEST(freeze_is_not_late)
{
    uint64_t best = UINT64_MAX, worst = 0, epoch = 1;

    burning(_i ? 2 : 0);
    engine_throttle(er.e, THROTTLE_MAX);
    for (int i = 0; i < 20; i++) {
        uint64_t start, took;

        er_sleep_ms(13);
        start = loop_now_ns();
        ck_assert_int_eq(engine_freeze(er.e, "test"), RUN_DONE);
        ck_assert_int_eq(engine_freeze_wait(er.e, 5000, &er.err), 0);
        took = loop_now_ns() - start;
        best = took < best ? took : best;
        worst = took > worst ? took : worst;
        ck_assert_uint_eq(atomic_load(&fake_guest.inside), 0);
        ck_assert_int_eq(engine_thaw(er.e, ++epoch, "test"), RUN_DONE);
    }
    ck_assert_uint_lt(best, 2 * NSEC_PER_MSEC);
    ck_assert_uint_lt(worst, 500 * NSEC_PER_MSEC);
}
END_TEST

/* Frozen, halted, and told anything: nothing hangs. */
START_TEST(told_at_any_time)
{
    er_go(_i ? 2 : 0, ENGINE_RIG_RAM);
    engine_throttle(er.e, 2000);
    er_start(1);
    er_freeze();
    engine_throttle(er.e, 100);
    ck_assert_int_eq(engine_thaw(er.e, 2, "test"), RUN_DONE);
    ck_assert(er_wait(RUN_RUNNING));
    engine_throttle(er.e, 500);
    ck_assert_double_le(taken(100), 0.3); /* idle as before */
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("throttle");
    TCase *t = tcase_create("throttle");

    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, er_setup, er_teardown);
    tcase_add_test(t, shares);
    tcase_add_loop_test(t, takes_its_share, 0, 2);
    tcase_add_loop_test(t, freeze_is_not_late, 0, 2);
    tcase_add_loop_test(t, told_at_any_time, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
