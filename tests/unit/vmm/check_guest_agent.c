/* SPDX-License-Identifier: Apache-2.0 */
/* The guest agent's client: sync, ping, silence, shutdown, and guests that say anything.
 */
#include "vmm/guest_agent.h"

#include <string.h>

#include "tests/unit/unit.h"

static struct guest_agent *ga;
static char sent[1024];
static unsigned sends;

static void on_send(void *ctx, const uint8_t *bytes, uint32_t len)
{
    (void)ctx;
    ck_assert_uint_lt(len, sizeof sent);
    memcpy(sent, bytes, len);
    sent[len] = '\0';
    sends++;
}

static void setup(void)
{
    sends = 0;
    ga = guest_agent_new(on_send, NULL);
    ck_assert_ptr_nonnull(ga);
}

static void teardown(void)
{
    guest_agent_free(ga);
}

static void take(const char *text)
{
    guest_agent_take(ga, (const uint8_t *)text, strlen(text));
}

static void expect(enum guest_agent_state state)
{
    ck_assert_str_eq(guest_agent_state_str(guest_agent_state(ga)),
                     guest_agent_state_str(state));
}

START_TEST(life)
{
    guest_agent_tick(ga);
    take("\xff{\"return\":1}\n");
    expect(GUEST_AGENT_NONE);
    ck_assert_uint_eq(sends, 0);
    guest_agent_port(ga, true);
    ck_assert_str_eq(
        sent, "\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":1}}\n");
    expect(GUEST_AGENT_CONNECTED);
    ck_assert(!guest_agent_shutdown(ga));
    take("\xff{\"return\": 1}\n");
    expect(GUEST_AGENT_ANSWERS);
    guest_agent_tick(ga);
    ck_assert_str_eq(sent, "{\"execute\":\"guest-ping\"}\n");
    take("{\"return\": {}}\n");
    guest_agent_tick(ga);
    expect(GUEST_AGENT_ANSWERS);
    guest_agent_tick(ga); /* the ping before had no answer */
    expect(GUEST_AGENT_CONNECTED);
    ck_assert_ptr_nonnull(strstr(sent, "\"id\":2}"));
    take("{\"return\": {}}\n{\"return\": 1}\n"); /* too late */
    expect(GUEST_AGENT_CONNECTED);
    take("{\"return\": 2}\n");
    expect(GUEST_AGENT_ANSWERS);
    ck_assert(guest_agent_shutdown(ga));
    ck_assert_ptr_nonnull(strstr(sent, "guest-shutdown"));
    guest_agent_port(ga, false);
    expect(GUEST_AGENT_NONE);
    ck_assert(!guest_agent_shutdown(ga));
}
END_TEST

START_TEST(refused_ping_is_an_answer)
{
    guest_agent_port(ga, true);
    take("{\"return\":1}\n");
    guest_agent_tick(ga);
    take("{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"disabled\"}}\n");
    guest_agent_tick(ga);
    expect(GUEST_AGENT_ANSWERS);
}
END_TEST

START_TEST(half_a_line_is_cut_by_the_delimiter)
{
    guest_agent_port(ga, true);
    take("{\"return\": {\"x\":");
    take("\xff{\"ret");
    take("urn\":1");
    take("}\n");
    expect(GUEST_AGENT_ANSWERS);
}
END_TEST

START_TEST(nonsense)
{
    static const char *const text[] = {
        "\n\n\n",
        "null\n",
        "[]\n",
        "1\n",
        "{}\n",
        "{\"return\":\"1\"}\n",
        "{\"return\":1.0}\n",
        "{\"return\":{}}\n",
        "{\"return\":18446744073709551617}\n",
        "{\"error\":{}}\n",
        "{\"return\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}\n",
        "\xff\xff\xff\x01\x02\xc3\x28\n",
        "{\"return\":1",
    };

    guest_agent_port(ga, true);
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        take(text[i]);
        expect(GUEST_AGENT_CONNECTED);
    }
}
END_TEST

START_TEST(a_line_without_end)
{
    guest_agent_port(ga, true);
    for (unsigned i = 0; i < 3 * GUEST_AGENT_LINE_MAX; i++) {
        take(" ");
    }
    take("{\"return\":1}\n"); /* its end is not an answer */
    expect(GUEST_AGENT_CONNECTED);
    take("{\"return\":1}\n");
    expect(GUEST_AGENT_ANSWERS);
}
END_TEST

/* A port that opens and closes all the time is told of a few times a second (class 16 of
 * bugs: a guest does not fill the host's logs), and how it ended is not lost. */
START_TEST(class_16_log_flood)
{
    const uint64_t second = 1000000000;
    unsigned told = 0, waits = 0;
    uint64_t now_ns = second, wait_ns;

    ck_assert(!guest_agent_news(ga, now_ns, &wait_ns));
    ck_assert_uint_eq(wait_ns, 0);
    for (unsigned i = 0; i <= 100000; i++, now_ns += 100000) { /* 10 s */
        guest_agent_port(ga, i % 2 == 0);
        told += guest_agent_news(ga, now_ns, &wait_ns);
        waits += wait_ns > 0;
    }
    ck_assert_uint_le(told, 10 * 10);
    ck_assert_uint_ge(told, 10);
    ck_assert_uint_gt(waits, 10000);
    now_ns += second;
    (void)guest_agent_news(ga, now_ns, &wait_ns);
    now_ns += second;
    guest_agent_port(ga, guest_agent_state(ga) == GUEST_AGENT_NONE);
    ck_assert(guest_agent_news(ga, now_ns, &wait_ns)); /* at once after a pause */
    guest_agent_port(ga, guest_agent_state(ga) == GUEST_AGENT_NONE);
    ck_assert(!guest_agent_news(ga, now_ns + 1, &wait_ns));
    ck_assert_uint_eq(wait_ns, GUEST_AGENT_NEWS_NS - 1);
    ck_assert(guest_agent_news(ga, now_ns + 1 + wait_ns, &wait_ns));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("guest_agent");
    TCase *t = tcase_create("guest_agent");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, life);
    tcase_add_test(t, class_16_log_flood);
    tcase_add_test(t, refused_ping_is_an_answer);
    tcase_add_test(t, half_a_line_is_cut_by_the_delimiter);
    tcase_add_test(t, nonsense);
    tcase_add_test(t, a_line_without_end);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
