/* SPDX-License-Identifier: Apache-2.0 */
/* The MC146818: the calendar against the C library's, formats, setting the time, alarms
 * by brute force, rates, flags. */
#include <string.h>
#include <time.h>

#include "tests/unit/unit.h"
#include "vmm/dev_rtc.h"

#define BASE_SEC INT64_C(1700000000) /* Tue 2023-11-14 22:13:20 UTC */

static struct dev_rtc rtc;
static struct effects fx;
static uint64_t wake_ns;
static bool line;

static void take_effects(void)
{
    if (fx.irq_set) {
        line = fx.irq_level;
    }
    if (fx.wake_set) {
        wake_ns = fx.wake_at_ns;
    }
}

static void input(enum input_type type, uint64_t ns)
{
    effects_clear(&fx);
    dev_rtc_class.input(&rtc, NULL, &(struct dev_input){.type = type, .now_ns = ns}, &fx);
    take_effects();
}

static void clock_to(uint64_t ns)
{
    input(INPUT_CLOCK, ns);
}

static void set(unsigned index, uint8_t value)
{
    effects_clear(&fx);
    dev_rtc_class.write(&rtc, NULL, RTC_OFFSET_INDEX, 1, index, &fx);
    dev_rtc_class.write(&rtc, NULL, RTC_OFFSET_DATA, 1, value, &fx);
    take_effects();
}

static uint8_t get(unsigned index)
{
    uint64_t value;

    effects_clear(&fx);
    dev_rtc_class.write(&rtc, NULL, RTC_OFFSET_INDEX, 1, index, &fx);
    value = dev_rtc_class.read(&rtc, NULL, RTC_OFFSET_DATA, 1, &fx);
    take_effects();
    return (uint8_t)value;
}

static void setup(int64_t wall_sec)
{
    dev_rtc_init(&rtc, 256 * 1024 * 1024, UINT64_MAX, 1);
    effects_clear(&fx);
    dev_rtc_class.reset(&rtc, &fx);
    line = false;
    wake_ns = UINT64_MAX;
    input(INPUT_RTC_BASE, (uint64_t)wall_sec * NSEC_PER_SEC);
}

static unsigned bcd(uint8_t v)
{
    return (v >> 4) * 10u + (v & 15u);
}

static void check_time(int64_t expected_sec)
{
    time_t t = expected_sec;
    struct tm tm;

    gmtime_r(&t, &tm);
    ck_assert_uint_eq(bcd(get(0)), (unsigned)tm.tm_sec);
    ck_assert_uint_eq(bcd(get(2)), (unsigned)tm.tm_min);
    ck_assert_uint_eq(bcd(get(4)), (unsigned)tm.tm_hour);
    ck_assert_uint_eq(bcd(get(6)), (unsigned)tm.tm_wday + 1);
    ck_assert_uint_eq(bcd(get(7)), (unsigned)tm.tm_mday);
    ck_assert_uint_eq(bcd(get(8)), (unsigned)tm.tm_mon + 1);
    ck_assert_uint_eq(bcd(get(0x32)) * 100 + bcd(get(9)), (unsigned)tm.tm_year + 1900);
}

START_TEST(calendar)
{
    uint64_t random = 5;

    for (unsigned i = 0; i < 20000; i++) {
        int64_t sec;

        random = random * 6364136223846793005u + 1;
        sec = (int64_t)(random >> 11) % INT64_C(7258118400);
        if (i < 1000) { /* around every new year and every 1 March */
            struct tm tm = {
                .tm_year = 70 + (int)i % 230, .tm_mon = i % 2 ? 0 : 2, .tm_mday = 1};

            sec = timegm(&tm) - (i % 3 == 0 && i % 230 > 0);
        }
        setup(sec);
        check_time(sec);
    }
}
END_TEST

/* As Linux' mc146818_set_time: stop, write, start. */
START_TEST(setting_the_time)
{
    for (unsigned format = 0; format < 4; format++) {
        uint8_t reg_b = (uint8_t)(format << 1); /* bit 1: 24 hours, bit 2: binary */

        for (unsigned hour = 0; hour < 24; hour++) {
            bool pm = (reg_b & 2) == 0 && hour >= 12, binary = (reg_b & 4) != 0;
            unsigned shown = (reg_b & 2) != 0 ? hour : hour % 12 == 0 ? 12 : hour % 12;
            uint8_t raw[] = {41, 59, 29, 2, 24, 20}; /* 2024-02-29 hh:59:41 */
            uint8_t hour_raw = (uint8_t)((binary ? shown : shown / 10 << 4 | shown % 10) |
                                         (pm ? 0x80 : 0));

            setup(BASE_SEC);
            clock_to(3 * NSEC_PER_SEC);
            set(11, 0x80 | reg_b);
            for (size_t i = 0; i < sizeof raw && !binary; i++) {
                raw[i] = (uint8_t)(raw[i] / 10 << 4 | raw[i] % 10);
            }
            set(0, raw[0]);
            set(2, raw[1]);
            set(4, hour_raw);
            set(7, raw[2]);
            set(8, raw[3]);
            set(9, raw[4]);
            set(0x32, raw[5]);
            clock_to(10 * NSEC_PER_SEC); /* stands still */
            ck_assert_uint_eq(get(0), raw[0]);
            ck_assert_uint_eq(get(4), hour_raw);
            set(11, reg_b);
            clock_to(12 * NSEC_PER_SEC);
            ck_assert_uint_eq(get(4), hour_raw);
            set(11, 0x02); /* read it back in the plain format */
            {
                struct tm tm = {.tm_year = 124,
                                .tm_mon = 1,
                                .tm_mday = 29,
                                .tm_hour = (int)hour,
                                .tm_min = 59,
                                .tm_sec = 43};

                check_time(timegm(&tm));
                clock_to(12 * NSEC_PER_SEC + 17 * NSEC_PER_SEC);
                check_time(timegm(&tm) + 17);
            }
        }
    }
}
END_TEST

START_TEST(fields_one_by_one)
{
    setup(BASE_SEC); /* without SET: each write changes the running clock */
    set(0, 0x59);
    set(2, 0x01);
    set(4, 0x00);
    check_time(BASE_SEC - 22 * 3600 - 13 * 60 - 20 + 60 + 59);
    clock_to(NSEC_PER_SEC);
    check_time(BASE_SEC - 22 * 3600 - 13 * 60 - 20 + 120);
    for (unsigned index = 0; index < RTC_CMOS_LEN; index++) { /* nonsense is survived */
        for (unsigned value = 0; value < 256; value++) {
            set(index, (uint8_t)value);
            get(index);
            clock_to(rtc.now_ns + 1000003);
        }
    }
}
END_TEST

START_TEST(cmos)
{
    setup(BASE_SEC);
    for (unsigned index = 0x0E; index < RTC_CMOS_LEN; index++) {
        for (unsigned value = 0; value < 256; value++) {
            if (index != 0x32) {
                set(index | (value & 0x80),
                    (uint8_t)value); /* bit 7 of the index: NMI mask */
                ck_assert_uint_eq(get(index), value);
            }
        }
    }
    set(0x0F, 5);
    set(0x40, 7);
    effects_clear(&fx);
    dev_rtc_class.reset(&rtc, &fx);
    ck_assert_uint_eq(get(0x0F), 0);
    ck_assert_uint_eq(get(0x40), 7);
    ck_assert_uint_eq(get(13), 0x80);
    check_time(BASE_SEC);
    setup(BASE_SEC); /* 256 MiB: 255 MiB above the first, 240 above the sixteenth */
    ck_assert_uint_eq(get(0x34) | get(0x35) << 8, 240 * 16);
    ck_assert_uint_eq(get(0x30) | get(0x31) << 8, 0xFFFF);
}
END_TEST

START_TEST(update_interrupt)
{
    unsigned interrupts = 0;

    setup(BASE_SEC);
    clock_to(250 * NSEC_PER_MSEC);
    ck_assert_uint_eq(wake_ns, UINT64_MAX); /* nobody asked */
    set(11, 0x12);
    ck_assert_uint_eq(wake_ns, NSEC_PER_SEC);
    while (wake_ns <= 10 * NSEC_PER_SEC) {
        clock_to(wake_ns - 1);
        ck_assert(!line);
        clock_to(wake_ns);
        ck_assert(line);
        interrupts++;
        ck_assert_uint_eq(wake_ns, UINT64_MAX);  /* until register C is read */
        ck_assert_uint_eq(get(12) & 0xBF, 0x90); /* PF runs without PIE */
        ck_assert(!line);
        ck_assert_uint_eq(get(12), 0);
    }
    ck_assert_uint_eq(interrupts, 10);
    clock_to(11 * NSEC_PER_SEC - 200 * NSEC_PER_USEC);
    ck_assert_uint_eq(get(10) & 0x80, 0x80); /* update in progress */
    clock_to(11 * NSEC_PER_SEC);
    ck_assert_uint_eq(get(10) & 0x80, 0);
}
END_TEST

START_TEST(periodic_rates)
{
    for (unsigned rate = 1; rate < 16; rate++) {
        unsigned hz = rate <= 2 ? 256 >> (rate - 1) : 32768 >> (rate - 1), interrupts = 0;

        setup(BASE_SEC);
        set(10, (uint8_t)(0x20 | rate));
        set(11, 0x42);
        while (wake_ns <= NSEC_PER_SEC) {
            clock_to(wake_ns);
            ck_assert(line);
            ck_assert_uint_eq(get(12) & 0xC0, 0xC0);
            interrupts++;
        }
        ck_assert_uint_eq(interrupts, hz);
    }
    setup(BASE_SEC);
    set(10, 0x20);
    set(11, 0x42);
    ck_assert_uint_eq(wake_ns, UINT64_MAX);
}
END_TEST

static bool field_matches(uint8_t alarm, unsigned value)
{
    return alarm >= 0xC0 || bcd(alarm) == value;
}

START_TEST(alarms)
{
    static const uint8_t seconds[] = {0x00, 0x20, 0x59, 0xFF},
                         minutes[] = {0x13, 0x12, 0xC0},
                         hours[] = {0x22, 0x21, 0x00, 0xFF};

    for (unsigned n = 0; n < 4 * 3 * 4; n++) {
        uint8_t s = seconds[n % 4], m = minutes[n / 4 % 3], h = hours[n / 12];
        int64_t expected = BASE_SEC + 1;

        while (!field_matches(s, (unsigned)(expected % 60)) ||
               !field_matches(m, (unsigned)(expected / 60 % 60)) ||
               !field_matches(h, (unsigned)(expected / 3600 % 24))) {
            expected++;
        }
        setup(BASE_SEC);
        set(1, s);
        set(3, m);
        set(5, h);
        set(11, 0x22);
        ck_assert_uint_eq(wake_ns, (uint64_t)(expected - BASE_SEC) * NSEC_PER_SEC);
        clock_to(wake_ns - 1);
        ck_assert(!line);
        clock_to((uint64_t)(expected - BASE_SEC) * NSEC_PER_SEC);
        ck_assert(line);
        ck_assert_uint_eq(get(12) & 0xA0, 0xA0);
    }
    setup(BASE_SEC);
    set(5, 0x77); /* an hour that never comes */
    set(11, 0x22);
    ck_assert_uint_eq(wake_ns, UINT64_MAX);
    clock_to(UINT64_C(100000) * NSEC_PER_SEC);
    ck_assert(!line);
}
END_TEST

static Suite *rtc_suite(void)
{
    Suite *suite = suite_create("rtc");
    TCase *tc = tcase_create("rtc");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, calendar);
    tcase_add_test(tc, setting_the_time);
    tcase_add_test(tc, fields_one_by_one);
    tcase_add_test(tc, cmos);
    tcase_add_test(tc, update_interrupt);
    tcase_add_test(tc, periodic_rates);
    tcase_add_test(tc, alarms);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(rtc_suite)
