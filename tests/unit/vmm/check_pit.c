/* SPDX-License-Identifier: Apache-2.0 */
/* The 8254: when edges come, what counters read, latches, read-back, access modes, gates,
 * wake-up bounds. */
#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/dev_pit.h"

static struct dev_pit pit;
static struct effects fx;
static uint64_t wake_ns;
static unsigned edges;

static void take_effects(void)
{
    edges += fx.irq_edge;
    if (fx.wake_set) {
        wake_ns = fx.wake_at_ns;
    }
}

static void clock_to(uint64_t ns)
{
    effects_clear(&fx);
    dev_pit_class.input(&pit, NULL,
                        &(struct dev_input){.type = INPUT_CLOCK, .now_ns = ns}, &fx);
    take_effects();
}

static void out(unsigned reg, uint8_t value)
{
    effects_clear(&fx);
    dev_pit_class.write(&pit, NULL, reg, 1, value, &fx);
    take_effects();
}

static uint8_t in(unsigned reg)
{
    effects_clear(&fx);
    return (uint8_t)dev_pit_class.read(&pit, NULL, reg, 1, &fx);
}

static uint16_t in16(unsigned reg)
{
    uint8_t low = in(reg);

    return (uint16_t)(low | in(reg) << 8);
}

/* The first nanosecond of a tick. */
static uint64_t tick_ns(uint64_t tick)
{
    return (uint64_t)(((unsigned __int128)tick * NSEC_PER_SEC + PIT_HZ - 1) / PIT_HZ);
}

static void setup(void)
{
    memset(&pit, 0, sizeof pit);
    effects_clear(&fx);
    dev_pit_class.reset(&pit, &fx);
    wake_ns = UINT64_MAX;
    edges = 0;
}

static void program(unsigned channel, unsigned mode, uint16_t count)
{
    out(3, (uint8_t)(channel << 6 | 0x30 | mode << 1));
    out(channel, (uint8_t)count);
    out(channel, (uint8_t)(count >> 8));
}

START_TEST(one_shots)
{
    static const struct {
        unsigned mode;
        unsigned extra; /* ticks after the terminal count at which OUT rises */
    } shot[] = {{0, 0}, {4, 1}};

    for (unsigned s = 0; s < 2; s++) {
        for (unsigned count = 2; count < 65536; count += 997) {
            uint64_t due;

            setup();
            clock_to(tick_ns(1000));
            program(0, shot[s].mode, (uint16_t)count);
            due = tick_ns(1000 + count + shot[s].extra);
            ck_assert_uint_eq(wake_ns, due);
            clock_to(due - 1);
            ck_assert_uint_eq(edges, 0);
            clock_to(due);
            ck_assert_uint_eq(edges, 1);
            ck_assert_uint_eq(wake_ns, UINT64_MAX);
            clock_to(due + NSEC_PER_SEC);
            ck_assert_uint_eq(edges, 1); /* once */
        }
    }
}
END_TEST

START_TEST(periodic_rate)
{
    for (unsigned mode = 2; mode <= 3; mode++) {
        for (unsigned count = 150; count < 65536; count = count * 3 + 1) {
            setup();
            program(0, mode, (uint16_t)count);
            while (wake_ns <= NSEC_PER_SEC) {
                clock_to(wake_ns);
            }
            ck_assert_uint_eq(edges, PIT_HZ / count);
        }
        setup();
        program(0, mode, 0); /* 65536: the PC's 18.2 Hz */
        while (wake_ns <= 10 * NSEC_PER_SEC) {
            clock_to(wake_ns);
        }
        ck_assert_uint_eq(edges, 182);
        clock_to(wake_ns + NSEC_PER_SEC); /* late: one edge for all that were missed */
        ck_assert_uint_eq(edges, 183);
    }
}
END_TEST

START_TEST(no_timer_storm)
{
    setup();
    program(0, 2, 1); /* asks for 1.19 million interrupts a second */
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t before = pit.now_ns;

        ck_assert_uint_ge(wake_ns, before + PIT_WAKE_MIN_NS);
        clock_to(wake_ns);
    }
    ck_assert_uint_eq(edges, 1000);
}
END_TEST

START_TEST(counters)
{
    setup();
    for (unsigned ch = 0; ch < 3; ch++) {
        out(4, 1);
        for (unsigned mode = 0; mode < 6; mode++) {
            if (mode == 1 || mode == 5) {
                continue; /* need a trigger */
            }
            for (unsigned d = 0; d < 5000; d += 37) {
                uint64_t base = pit.now_ns + 5000;
                uint64_t tick =
                    (uint64_t)((unsigned __int128)base * PIT_HZ / NSEC_PER_SEC);
                uint16_t expected = (uint16_t)(1000 - d);

                clock_to(base);
                program(ch, mode, 1000);
                clock_to(tick_ns(tick + d));
                if (mode == 2) {
                    expected = (uint16_t)(1000 - d % 1000);
                } else if (mode == 3) {
                    expected = (uint16_t)(1000 - d * 2 % 1000);
                }
                ck_assert_uint_eq(in16(ch), expected);
            }
        }
    }
}
END_TEST

START_TEST(latch_and_read_back)
{
    setup();
    clock_to(tick_ns(10));
    program(0, 2, 1000);
    clock_to(tick_ns(110));
    out(3, 0x00); /* latch channel 0 */
    clock_to(tick_ns(200));
    out(3, 0x00); /* ignored until read */
    ck_assert_uint_eq(in16(0), 900);
    ck_assert_uint_eq(in16(0), 810);
    out(3, 0xC2); /* read-back: status and count of channel 0 */
    clock_to(tick_ns(300));
    ck_assert_uint_eq(in(0), 0x80 | 0x30 | 2 << 1); /* OUT high, count loaded */
    ck_assert_uint_eq(in16(0), 810);
    out(3, 0x34 | 0x40);
    out(3, 0xE4); /* status of channel 1: mode written, no count yet */
    ck_assert_uint_eq(in(1), 0x80 | 0x40 | 0x34);
    out(3, 0x10 | 0x08); /* low byte only, mode 4 */
    out(0, 77);
    ck_assert_uint_eq(in(0), 77);
    ck_assert_uint_eq(in(0), 77);
    out(3, 0x20 | 0x08); /* high byte only */
    out(0, 2);
    ck_assert_uint_eq(in(0), 2);
    out(3, 0x31); /* BCD, mode 0 */
    out(0, 0x34);
    out(0, 0x12);
    ck_assert_uint_eq(in16(0), 0x1234);
    clock_to(tick_ns(300 + 235));
    ck_assert_uint_eq(in16(0), 0x0999);
}
END_TEST

/* Linux without a TSC reads counter 0 before it has programmed it, until bit 6 is clear.
 */
START_TEST(counter_0_runs_after_a_reset)
{
    unsigned first;

    setup();
    out(3, 0xC2); /* read-back: status and count */
    ck_assert_uint_eq(in(0) & 0x7F, 0x30 | 3 << 1);
    first = in16(0);
    clock_to(tick_ns(1000));
    out(3, 0xC2);
    ck_assert_uint_eq(in(0) & 0x40, 0);
    ck_assert_uint_ne(in16(0), first);
}
END_TEST

START_TEST(channel_2_and_port_61)
{
    setup();
    ck_assert_uint_eq(in(4) & 0x23, 0);
    out(4, 0x00);
    program(2, 0, 1193); /* one millisecond, as calibration loops use it */
    clock_to(2 * NSEC_PER_MSEC);
    ck_assert_uint_eq(in(4) & 0x20, 0); /* the gate is shut: nothing counts */
    ck_assert_uint_eq(in16(2), 1193);
    out(4, 0x01);
    clock_to(2 * NSEC_PER_MSEC + 990 * NSEC_PER_USEC);
    ck_assert_uint_eq(in(4) & 0x21, 0x01);
    clock_to(3 * NSEC_PER_MSEC);
    ck_assert_uint_eq(in(4) & 0x21, 0x21);
    ck_assert_uint_eq(edges, 0); /* not a line of the PIC */
    program(2, 1, 100);          /* one-shot, triggered by the gate */
    ck_assert_uint_eq(in(4) & 0x20, 0x20);
    out(4, 0x00);
    out(4, 0x01);
    ck_assert_uint_eq(in(4) & 0x20, 0);
    clock_to(3 * NSEC_PER_MSEC + 100 * NSEC_PER_USEC);
    ck_assert_uint_eq(in(4) & 0x20, 0x20);
    program(2, 3, 1000); /* speaker: a square wave, high for the first half */
    out(4, 0x03);
    ck_assert_uint_eq(in(4) & 0x23, 0x23);
    clock_to(pit.now_ns + 600 * 1000 * 1000 / 1193);
    ck_assert_uint_eq(in(4) & 0x23, 0x03);
}
END_TEST

START_TEST(every_control_word)
{
    for (unsigned word = 0; word < 256; word++) {
        for (unsigned count = 0; count < 256; count += 5) {
            setup();
            clock_to(12345678);
            out(3, (uint8_t)word);
            for (unsigned ch = 0; ch < 3; ch++) {
                out(ch, (uint8_t)count);
                out(ch, (uint8_t)~count);
                in(ch);
            }
            for (unsigned n = 0; n < 20; n++) {
                clock_to(wake_ns != UINT64_MAX ? wake_ns : pit.now_ns + 1000000);
                ck_assert(wake_ns > pit.now_ns);
            }
            ck_assert_uint_le(edges, 21);
        }
    }
}
END_TEST

static Suite *pit_suite(void)
{
    Suite *suite = suite_create("pit");
    TCase *tc = tcase_create("pit");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, one_shots);
    tcase_add_test(tc, periodic_rate);
    tcase_add_test(tc, no_timer_storm);
    tcase_add_test(tc, counters);
    tcase_add_test(tc, latch_and_read_back);
    tcase_add_test(tc, counter_0_runs_after_a_reset);
    tcase_add_test(tc, channel_2_and_port_61);
    tcase_add_test(tc, every_control_word);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(pit_suite)
