/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_rtc.h"

#include <string.h>

enum rtc_reg {
    REG_SEC = 0,
    REG_SEC_ALARM,
    REG_MIN,
    REG_MIN_ALARM,
    REG_HOUR,
    REG_HOUR_ALARM,
    REG_WEEKDAY,
    REG_DAY,
    REG_MONTH,
    REG_YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    REG_SHUTDOWN = 0x0F,
    REG_CENTURY = 0x32,
};

#define A_UIP         0x80
#define A_RATE        0x0F
#define B_SET         0x80
#define B_PIE         0x40
#define B_AIE         0x20
#define B_UIE         0x10
#define B_BINARY      0x04
#define B_24H         0x02
#define C_IRQF        0x80
#define C_FLAGS       0x70 /* PF, AF, UF: the enables of register B in the same places */
#define C_PF          0x40
#define C_AF          0x20
#define C_UF          0x10
#define D_VALID       0x80
#define HOUR_PM       0x80
#define ALARM_ANY     0xC0 /* both top bits: any value matches */
#define UIP_BEFORE_NS (244 * NSEC_PER_USEC)
#define DIVIDER_START_NS                                                                 \
    (NSEC_PER_SEC / 2) /* first update after the divider was released */
#define OSCILLATOR_HZ UINT64_C(32768)
#define SEC_PER_DAY   86400
#define NEVER         UINT64_MAX
#define WALL_SEC_MAX                                                                     \
    UINT64_C(7258118400) /* the year 2200: keeps every sum of nanoseconds in range */

/* Civil time ---------------------------------------------------------------------- */

struct civil {
    unsigned year, month, day, weekday, hour, min,
        sec; /* month, day from 1; weekday 1 is Sunday */
};

static bool is_leap(unsigned year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static unsigned days_before_month(unsigned year, unsigned month)
{
    static const uint16_t before[12] = {0,   31,  59,  90,  120, 151,
                                        181, 212, 243, 273, 304, 334};

    return before[month - 1] + (month > 2 && is_leap(year) ? 1u : 0u);
}

/* Days from 1970-01-01 to the first of January. */
static uint64_t days_before_year(unsigned year)
{
    unsigned y = year - 1;

    return (uint64_t)y * 365 + y / 4 - y / 100 + y / 400 - 719162;
}

static uint64_t civil_to_sec(const struct civil *c)
{
    uint64_t days =
        days_before_year(c->year) + days_before_month(c->year, c->month) + c->day - 1;

    return days * SEC_PER_DAY + c->hour * 3600u + c->min * 60u + c->sec;
}

static struct civil sec_to_civil(uint64_t sec)
{
    uint64_t days = sec / SEC_PER_DAY, rest = sec % SEC_PER_DAY;
    struct civil c = {
        .year = 1970 + (unsigned)(days / 366),
        .month = 12,
        .weekday = (unsigned)((days + 4) % 7) + 1,
        .hour = (unsigned)(rest / 3600),
        .min = (unsigned)(rest / 60 % 60),
        .sec = (unsigned)(rest % 60),
    };

    while (days_before_year(c.year + 1) <= days) {
        c.year++;
    }
    days -= days_before_year(c.year);
    while (days_before_month(c.year, c.month) > days) {
        c.month--;
    }
    c.day = (unsigned)days - days_before_month(c.year, c.month) + 1;
    return c;
}

/* Registers and time -------------------------------------------------------------- */

static uint8_t encode(const struct dev_rtc *rtc, unsigned v)
{
    return (uint8_t)((rtc->cmos[REG_B] & B_BINARY) != 0 ? v
                                                        : (v / 10 % 10) << 4 | v % 10);
}

static unsigned decode(const struct dev_rtc *rtc, uint8_t v)
{
    return (rtc->cmos[REG_B] & B_BINARY) != 0 ? v : (v >> 4) * 10u + (v & 15u);
}

static uint8_t encode_hour(const struct dev_rtc *rtc, unsigned hour)
{
    if ((rtc->cmos[REG_B] & B_24H) != 0) {
        return encode(rtc, hour);
    }
    return (uint8_t)(encode(rtc, hour % 12 == 0 ? 12 : hour % 12) |
                     (hour >= 12 ? HOUR_PM : 0));
}

static unsigned decode_hour(const struct dev_rtc *rtc, uint8_t v)
{
    if ((rtc->cmos[REG_B] & B_24H) != 0) {
        return decode(rtc, v);
    }
    return decode(rtc, v & (uint8_t)~HOUR_PM) % 12 + ((v & HOUR_PM) != 0 ? 12 : 0);
}

static bool divider_held(uint8_t reg_a)
{
    return (reg_a & 0x60) == 0x60;
}

static bool is_stopped(const struct dev_rtc *rtc)
{
    return (rtc->cmos[REG_B] & B_SET) != 0 || divider_held(rtc->cmos[REG_A]);
}

static uint64_t wall_ns(const struct dev_rtc *rtc)
{
    return rtc->now_ns + (uint64_t)rtc->offset_ns;
}

static void time_to_fields(struct dev_rtc *rtc)
{
    struct civil c = sec_to_civil(wall_ns(rtc) / NSEC_PER_SEC);

    rtc->cmos[REG_SEC] = encode(rtc, c.sec);
    rtc->cmos[REG_MIN] = encode(rtc, c.min);
    rtc->cmos[REG_HOUR] = encode_hour(rtc, c.hour);
    rtc->cmos[REG_WEEKDAY] = encode(rtc, c.weekday);
    rtc->cmos[REG_DAY] = encode(rtc, c.day);
    rtc->cmos[REG_MONTH] = encode(rtc, c.month);
    rtc->cmos[REG_YEAR] = encode(rtc, c.year % 100);
    rtc->cmos[REG_CENTURY] = encode(rtc, c.year / 100);
}

static unsigned clamp(unsigned v, unsigned low, unsigned high)
{
    return v < low ? low : v > high ? high : v;
}

/* The guest's fields become the time; nonsense is brought into range rather than
 * believed. */
static void fields_to_time(struct dev_rtc *rtc, uint64_t fraction_ns)
{
    unsigned year =
        decode(rtc, rtc->cmos[REG_CENTURY]) * 100 + decode(rtc, rtc->cmos[REG_YEAR]);
    struct civil c = {
        .year = clamp(year, 1970, 2199),
        .month = clamp(decode(rtc, rtc->cmos[REG_MONTH]), 1, 12),
        .day = clamp(decode(rtc, rtc->cmos[REG_DAY]), 1, 31),
        .hour = clamp(decode_hour(rtc, rtc->cmos[REG_HOUR]), 0, 23),
        .min = clamp(decode(rtc, rtc->cmos[REG_MIN]), 0, 59),
        .sec = clamp(decode(rtc, rtc->cmos[REG_SEC]), 0, 59),
    };
    uint64_t wall = civil_to_sec(&c) * NSEC_PER_SEC + fraction_ns;

    rtc->offset_ns = (int64_t)(wall - rtc->now_ns);
    rtc->seen_sec = wall / NSEC_PER_SEC;
}

/* What comes due ------------------------------------------------------------------ */

static uint64_t periodic_shift(const struct dev_rtc *rtc)
{
    unsigned rate = rtc->cmos[REG_A] & A_RATE;

    return rate <= 2 ? rate + 6 : rate - 1; /* rates 1 and 2 are 8 and 9 */
}

static bool periodic_on(const struct dev_rtc *rtc)
{
    return (rtc->cmos[REG_A] & A_RATE) != 0 && !divider_held(rtc->cmos[REG_A]);
}

static uint64_t periodic_index(const struct dev_rtc *rtc)
{
    return (uint64_t)((unsigned __int128)rtc->now_ns * OSCILLATOR_HZ / NSEC_PER_SEC) >>
           periodic_shift(rtc);
}

static uint64_t periodic_next_ns(const struct dev_rtc *rtc)
{
    unsigned __int128 ticks = (unsigned __int128)(periodic_index(rtc) + 1)
                              << periodic_shift(rtc);

    return (uint64_t)((ticks * NSEC_PER_SEC + OSCILLATOR_HZ - 1) / OSCILLATOR_HZ);
}

/* The first second from `sec` on that the alarm registers match, or NEVER (they can hold
 * what no clock shows). */
static uint64_t next_alarm_sec(const struct dev_rtc *rtc, uint64_t sec)
{
    const uint8_t *cmos = rtc->cmos;
    bool any_sec = cmos[REG_SEC_ALARM] >= ALARM_ANY,
         any_min = cmos[REG_MIN_ALARM] >= ALARM_ANY;
    bool any_hour = cmos[REG_HOUR_ALARM] >= ALARM_ANY;
    unsigned at_sec = decode(rtc, cmos[REG_SEC_ALARM]),
             at_min = decode(rtc, cmos[REG_MIN_ALARM]);
    unsigned at_hour = decode_hour(rtc, cmos[REG_HOUR_ALARM]);

    if ((!any_sec && at_sec > 59) || (!any_min && at_min > 59) ||
        (!any_hour && at_hour > 23)) {
        return NEVER;
    }
    for (;;) { /* at most 25 hours, 60 minutes and 60 seconds are skipped */
        if (!any_hour && sec / 3600 % 24 != at_hour) {
            sec = (sec / 3600 + 1) * 3600;
        } else if (!any_min && sec / 60 % 60 != at_min) {
            sec = (sec / 60 + 1) * 60;
        } else if (!any_sec && sec % 60 != at_sec) {
            sec++;
        } else {
            return sec;
        }
    }
}

static void collect_flags(struct dev_rtc *rtc)
{
    uint64_t sec = wall_ns(rtc) / NSEC_PER_SEC, periodic;

    if (!is_stopped(rtc) && sec > rtc->seen_sec) {
        rtc->cmos[REG_C] |= C_UF;
        if (next_alarm_sec(rtc, rtc->seen_sec + 1) <= sec) {
            rtc->cmos[REG_C] |= C_AF;
        }
    }
    rtc->seen_sec = sec;
    if (periodic_on(rtc)) {
        periodic = periodic_index(rtc);
        if (periodic != rtc->seen_periodic) {
            rtc->cmos[REG_C] |= C_PF;
        }
        rtc->seen_periodic = periodic;
    }
}

static uint64_t machine_ns_of_sec(const struct dev_rtc *rtc, uint64_t sec)
{
    return sec > WALL_SEC_MAX ? NEVER : sec * NSEC_PER_SEC - (uint64_t)rtc->offset_ns;
}

/* A flag that is already up asks for no wake-up: the line is up until the guest reads
 * register C. */
static uint64_t next_event_ns(const struct dev_rtc *rtc)
{
    uint8_t wanted = rtc->cmos[REG_B] & (uint8_t)~rtc->cmos[REG_C] & C_FLAGS;
    uint64_t next = NEVER, at;

    if (!is_stopped(rtc) && (wanted & C_UF) != 0) {
        next = machine_ns_of_sec(rtc, rtc->seen_sec + 1);
    }
    if (!is_stopped(rtc) && (wanted & C_AF) != 0) {
        at = next_alarm_sec(rtc, rtc->seen_sec + 1);
        at = machine_ns_of_sec(rtc, at);
        next = at < next ? at : next;
    }
    if (periodic_on(rtc) && (wanted & C_PF) != 0) {
        at = periodic_next_ns(rtc);
        next = at < next ? at : next;
    }
    return next;
}

static void update(struct dev_rtc *rtc, struct effects *fx)
{
    bool irq;

    collect_flags(rtc);
    irq = (rtc->cmos[REG_C] & rtc->cmos[REG_B] & C_FLAGS) != 0;
    rtc->cmos[REG_C] = (rtc->cmos[REG_C] & C_FLAGS) | (irq ? C_IRQF : 0);
    effects_irq(fx, irq);
    effects_wake(fx, next_event_ns(rtc));
}

/* Accesses ------------------------------------------------------------------------ */

static bool is_time_field(unsigned index)
{
    return index == REG_SEC || index == REG_MIN || index == REG_HOUR ||
           (index >= REG_WEEKDAY && index <= REG_YEAR) || index == REG_CENTURY;
}

/* Registers A and B stop and start the clock; both keep what the other holds. */
static void write_control(struct dev_rtc *rtc, unsigned index, uint8_t value)
{
    bool was_stopped = is_stopped(rtc), was_held = divider_held(rtc->cmos[REG_A]);
    uint64_t fraction_ns = wall_ns(rtc) % NSEC_PER_SEC;

    if (!was_stopped) {
        time_to_fields(rtc); /* in the format of before */
    }
    if (index == REG_A) {
        rtc->cmos[REG_A] = value & (uint8_t)~A_UIP;
        rtc->seen_periodic = periodic_on(rtc) ? periodic_index(rtc) : 0;
    } else {
        rtc->cmos[REG_B] = (value & B_SET) != 0 ? value & (uint8_t)~B_UIE : value;
    }
    if (was_stopped && !is_stopped(rtc)) {
        fields_to_time(rtc, was_held ? DIVIDER_START_NS : fraction_ns);
    }
}

static void write_data(struct dev_rtc *rtc, uint8_t value)
{
    unsigned index = rtc->index;

    if (index == REG_A || index == REG_B) {
        write_control(rtc, index, value);
    } else if (index == REG_C || index == REG_D) {
        return;
    } else if (is_time_field(index) && !is_stopped(rtc)) {
        uint64_t fraction_ns = wall_ns(rtc) % NSEC_PER_SEC;

        time_to_fields(rtc);
        rtc->cmos[index] = value;
        fields_to_time(rtc, fraction_ns);
    } else {
        rtc->cmos[index] = value;
    }
}

static uint8_t read_data(struct dev_rtc *rtc)
{
    unsigned index = rtc->index;
    uint8_t value;

    switch (index) {
    case REG_A:
        value = rtc->cmos[REG_A];
        if (!is_stopped(rtc) &&
            wall_ns(rtc) % NSEC_PER_SEC >= NSEC_PER_SEC - UIP_BEFORE_NS) {
            value |= A_UIP;
        }
        return value;
    case REG_C:
        value = rtc->cmos[REG_C];
        rtc->cmos[REG_C] = 0;
        return value;
    case REG_D:
        return D_VALID;
    default:
        if (is_time_field(index) && !is_stopped(rtc)) {
            time_to_fields(rtc);
        }
        return rtc->cmos[index];
    }
}

static uint64_t rtc_read(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                         struct effects *fx)
{
    struct dev_rtc *rtc = dev;
    uint8_t value;

    (void)gm;
    (void)len;
    if (offset != RTC_OFFSET_DATA) {
        return 0xFF;
    }
    value = read_data(rtc);
    update(rtc, fx);
    return value;
}

static void rtc_write(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                      uint64_t value, struct effects *fx)
{
    struct dev_rtc *rtc = dev;

    (void)gm;
    (void)len;
    if (offset != RTC_OFFSET_DATA) {
        rtc->index = (uint8_t)value &
                     (RTC_CMOS_LEN - 1); /* bit 7 masks NMI, of which there is none */
        return;
    }
    write_data(rtc, (uint8_t)value);
    update(rtc, fx);
}

static void rtc_input(void *dev, struct gmem *gm, const struct dev_input *in,
                      struct effects *fx)
{
    struct dev_rtc *rtc = dev;
    uint64_t base;

    (void)gm;
    if (in->type == INPUT_CLOCK) {
        rtc->now_ns = in->now_ns > rtc->now_ns ? in->now_ns : rtc->now_ns;
    } else if (in->type == INPUT_RTC_BASE) {
        base = in->now_ns < WALL_SEC_MAX * NSEC_PER_SEC ? in->now_ns : 0;
        rtc->offset_ns = (int64_t)base;
        rtc->seen_sec = wall_ns(rtc) / NSEC_PER_SEC;
        if (is_stopped(rtc)) {
            time_to_fields(rtc);
        }
    } else {
        return;
    }
    update(rtc, fx);
}

static void rtc_reset(void *dev, struct effects *fx)
{
    struct dev_rtc *rtc = dev;

    /* RESET clears the enables and the flags; time, format and CMOS stay (datasheet,
     * RESET pin). */
    rtc->cmos[REG_B] &= (uint8_t) ~(B_PIE | B_AIE | B_UIE);
    rtc->cmos[REG_C] = 0;
    rtc->cmos[REG_SHUTDOWN] = 0; /* else firmware takes the next start for a resume */
    rtc->index = 0;
    update(rtc, fx);
}

void dev_rtc_init(struct dev_rtc *rtc, uint64_t ram_len, uint64_t low_max,
                  unsigned cpu_count)
{
    const uint64_t mib = 1024 * 1024;
    uint64_t low = ram_len < low_max ? ram_len : low_max, high = ram_len - low;
    uint64_t ext_kib = low > mib ? (low - mib) / 1024 : 0;
    uint64_t ext_64k = low > 16 * mib ? (low - 16 * mib) / 65536 : 0;
    uint64_t high_64k = high / 65536;

    memset(rtc, 0, sizeof *rtc);
    ext_kib = ext_kib < 0xFFFF ? ext_kib : 0xFFFF;
    rtc->cmos[REG_A] = 0x26; /* 32.768 kHz, 1024 Hz */
    rtc->cmos[REG_B] = B_24H;
    rtc->cmos[0x15] = 640 & 0xFF;
    rtc->cmos[0x16] = 640 >> 8;
    rtc->cmos[0x17] = rtc->cmos[0x30] = (uint8_t)ext_kib;
    rtc->cmos[0x18] = rtc->cmos[0x31] = (uint8_t)(ext_kib >> 8);
    rtc->cmos[0x34] = (uint8_t)ext_64k;
    rtc->cmos[0x35] = (uint8_t)(ext_64k >> 8);
    rtc->cmos[0x5B] = (uint8_t)high_64k;
    rtc->cmos[0x5C] = (uint8_t)(high_64k >> 8);
    rtc->cmos[0x5D] = (uint8_t)(high_64k >> 16);
    rtc->cmos[0x5F] = (uint8_t)(cpu_count > 1 ? cpu_count - 1 : 0);
}

static int rtc_xfer(void *dev, struct state_io *io)
{
    struct dev_rtc *rtc = dev;
    uint64_t offset = (uint64_t)rtc->offset_ns;

    /* While the clock runs the fields are a cache of whenever they were last read: not
     * state. */
    if (io->mode == STATE_SAVE && !is_stopped(rtc)) {
        time_to_fields(rtc);
    }
    state_u64(io, &rtc->now_ns);
    state_u64(io, &offset);
    state_u64(io, &rtc->seen_sec);
    state_u64(io, &rtc->seen_periodic);
    state_u8(io, &rtc->index);
    state_bytes(io, rtc->cmos, sizeof rtc->cmos);
    rtc->offset_ns = (int64_t)offset;
    if (rtc->index >= RTC_CMOS_LEN) {
        state_refuse(io, "index");
    }
    if (rtc->seen_sec != wall_ns(rtc) / NSEC_PER_SEC) {
        state_refuse(io, "seen_sec");
    }
    if ((rtc->cmos[REG_A] & A_UIP) != 0 || rtc->cmos[REG_D] != 0) {
        state_refuse(io, "cmos");
    }
    return state_end(io);
}

const struct dev_class dev_rtc_class = {
    .name = "rtc",
    .version = 1,
    .min_reader = 1,
    .state_size = sizeof(struct dev_rtc),
    .reads_clock = true,
    .reset = rtc_reset,
    .read = rtc_read,
    .write = rtc_write,
    .input = rtc_input,
    .xfer = rtc_xfer,
};
