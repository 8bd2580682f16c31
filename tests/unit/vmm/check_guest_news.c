/* SPDX-License-Identifier: Apache-2.0 */
/* Panics and watchdog bites: told at once, not as often as the guest likes, never lost.
 */
#include "vmm/guest_news.h"

#include "tests/unit/unit.h"

#define SECOND UINT64_C(1000000000)

static struct guest_news news;
static uint64_t times, wait_ns;

static void setup(void)
{
    news = (struct guest_news){0};
}

static enum guest_event take(uint64_t now_ns)
{
    return guest_news_take(&news, now_ns, now_ns + 1, &times, &wait_ns);
}

START_TEST(the_first_of_each_kind_at_once)
{
    ck_assert_int_eq(take(SECOND), GUEST_EVENT_NONE);
    ck_assert_uint_eq(wait_ns, 0);
    guest_news_add(&news, GUEST_EVENT_WATCHDOG, 1);
    guest_news_add(&news, GUEST_EVENT_PANIC, 1);
    ck_assert_int_eq(take(SECOND), GUEST_EVENT_PANIC);
    ck_assert_uint_eq(times, 1);
    ck_assert_int_eq(take(SECOND), GUEST_EVENT_WATCHDOG);
    ck_assert_int_eq(news.last, GUEST_EVENT_WATCHDOG);
    ck_assert_uint_eq(news.last_ns, SECOND + 1);
    ck_assert_uint_eq(news.told, 2);
    ck_assert_int_eq(take(SECOND), GUEST_EVENT_NONE);
    ck_assert_uint_eq(wait_ns, 0);
    ck_assert_str_eq(guest_event_str(GUEST_EVENT_PANIC), "guest panicked");
    ck_assert_str_eq(guest_event_str(GUEST_EVENT_WATCHDOG), "watchdog expired");
}
END_TEST

/* Class 16 of bugs: a guest does not fill the host's logs. */
START_TEST(class_16_log_flood)
{
    uint64_t now_ns = SECOND, all = 0;
    unsigned told = 0;

    for (unsigned i = 0; i < 100000; i++, now_ns += SECOND / 1000) { /* 100 s */
        guest_news_add(&news, GUEST_EVENT_PANIC, 3);
        if (take(now_ns) != GUEST_EVENT_NONE) {
            told++;
            all += times;
        } else {
            ck_assert_uint_gt(wait_ns, 0);
            ck_assert_uint_le(wait_ns, GUEST_NEWS_NS);
        }
    }
    ck_assert_uint_eq(told, 10);
    guest_news_add(&news, GUEST_EVENT_WATCHDOG, 1);
    ck_assert_int_eq(take(now_ns - 1), GUEST_EVENT_WATCHDOG); /* another kind: at once */
    ck_assert_int_eq(take(now_ns - 1), GUEST_EVENT_NONE);
    ck_assert_int_eq(take(now_ns - 1 + wait_ns), GUEST_EVENT_PANIC);
    ck_assert_uint_eq(all + times, 300000); /* none is lost */
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("guest_news");
    TCase *t = tcase_create("guest_news");

    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, the_first_of_each_kind_at_once);
    tcase_add_test(t, class_16_log_flood);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
