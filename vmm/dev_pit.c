/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_pit.h"

#include <string.h>

#define ACCESS_LATCH   0
#define ACCESS_LOW     1
#define ACCESS_HIGH    2
#define ACCESS_BOTH    3
#define PORT61_GATE2   0x01
#define PORT61_SPEAKER 0x02
#define PORT61_REFRESH 0x10
#define PORT61_OUT2    0x20
#define REFRESH_NS     15085 /* half a period of the DRAM refresh toggle */
#define NEVER          UINT64_MAX

static uint64_t tick_of_ns(uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * PIT_HZ / NSEC_PER_SEC);
}

/* The first nanosecond at which tick_of_ns() reaches `tick`. */
static uint64_t ns_of_tick(uint64_t tick)
{
    unsigned __int128 ns = ((unsigned __int128)tick * NSEC_PER_SEC + PIT_HZ - 1) / PIT_HZ;

    return ns < UINT64_MAX ? (uint64_t)ns : UINT64_MAX;
}

static uint64_t bcd_decode(uint16_t v)
{
    return (v & 15u) + 10 * ((v >> 4) & 15u) + 100 * ((v >> 8) & 15u) + 1000 * (v >> 12);
}

static uint16_t bcd_encode(uint64_t v)
{
    return (uint16_t)(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 |
                      v / 1000 % 10 << 12);
}

/* Ticks of one period or until the terminal count. */
static uint64_t period_of(const struct pit_channel *ch)
{
    uint64_t count = ch->bcd ? bcd_decode(ch->count) : ch->count;

    if (count == 0) {
        return ch->bcd ? 10000 : 65536;
    }
    return count;
}

static bool is_triggered_mode(const struct pit_channel *ch)
{
    return ch->mode == 1 || ch->mode == 5;
}

static bool is_running(const struct pit_channel *ch)
{
    return ch->armed && (is_triggered_mode(ch) ? ch->triggered : ch->gate);
}

static uint64_t elapsed(const struct pit_channel *ch, uint64_t now_tick)
{
    if (!is_running(ch)) {
        return ch->held_ticks;
    }
    return now_tick > ch->start_tick ? now_tick - ch->start_tick : 0;
}

static bool out_pin(const struct pit_channel *ch, uint64_t now_tick)
{
    uint64_t d = elapsed(ch, now_tick), period = period_of(ch);

    switch (ch->mode) {
    case 0:
        return ch->armed && d >= period;
    case 1:
        return !is_running(ch) || d >= period;
    case 2:
        return !is_running(ch) || d % period != period - 1;
    case 3:
        return !is_running(ch) || d % period < (period + 1) / 2;
    default: /* 4, 5: one low tick at the terminal count */
        return !is_running(ch) || d != period;
    }
}

static uint16_t counter_value(const struct pit_channel *ch, uint64_t now_tick)
{
    uint64_t d = elapsed(ch, now_tick), period = period_of(ch), value;
    uint64_t modulus = ch->bcd ? 10000 : 65536;

    switch (ch->mode) {
    case 2:
        value = period - d % period;
        break;
    case 3: /* counts by two */
        value = period - (d % period * 2) % period;
        break;
    default: /* runs on past zero */
        value = (period + modulus - d % modulus) % modulus;
        break;
    }
    return ch->bcd ? bcd_encode(value % 10000) : (uint16_t)value;
}

/* The first tick after `after` at which OUT rises, or NEVER. */
static uint64_t next_rise(const struct pit_channel *ch, uint64_t after)
{
    uint64_t period = period_of(ch), at;

    if (!is_running(ch)) {
        return NEVER;
    }
    switch (ch->mode) {
    case 0:
    case 1:
        at = ch->start_tick + period;
        return at > after ? at : NEVER;
    case 2:
    case 3:
        at = after < ch->start_tick ? 0 : (after - ch->start_tick) / period;
        return ch->start_tick + (at + 1) * period;
    default:
        at = ch->start_tick + period + 1;
        return at > after ? at : NEVER;
    }
}

/* Reports edges of OUT0 that have come due and asks for the next one. */
static void update(struct dev_pit *pit, struct effects *fx)
{
    const struct pit_channel *ch = &pit->channel[0];
    uint64_t now_tick = tick_of_ns(pit->now_ns), rise = next_rise(ch, pit->seen_tick);
    uint64_t wake_ns;

    if (rise <= now_tick) {
        fx->irq_edge = true;
    }
    pit->seen_tick = now_tick;
    rise = next_rise(ch, now_tick);
    if (rise == NEVER) {
        effects_wake(fx, UINT64_MAX);
        return;
    }
    wake_ns = ns_of_tick(rise);
    if ((ch->mode == 2 || ch->mode == 3) && wake_ns < pit->now_ns + PIT_WAKE_MIN_NS) {
        wake_ns = pit->now_ns + PIT_WAKE_MIN_NS;
    }
    effects_wake(fx, wake_ns);
}

static void load_count(struct pit_channel *ch, uint16_t count, uint64_t now_tick)
{
    ch->count = count;
    ch->armed = true;
    ch->held_ticks = 0;
    ch->start_tick = now_tick;
}

static void write_counter(struct pit_channel *ch, uint8_t byte, uint64_t now_tick)
{
    switch (ch->access) {
    case ACCESS_LOW:
        load_count(ch, byte, now_tick);
        break;
    case ACCESS_HIGH:
        load_count(ch, (uint16_t)(byte << 8), now_tick);
        break;
    default:
        if (ch->write_high) {
            load_count(ch, (uint16_t)(ch->write_low | byte << 8), now_tick);
        } else {
            ch->write_low = byte;
        }
        ch->write_high = !ch->write_high;
        break;
    }
}

static uint8_t read_counter(struct pit_channel *ch, uint64_t now_tick)
{
    uint16_t value;
    bool high;

    if (ch->status_latched) {
        ch->status_latched = false;
        return ch->latched_status;
    }
    value = ch->latched_bytes > 0 ? ch->latched_count : counter_value(ch, now_tick);
    high = ch->access == ACCESS_HIGH || (ch->access == ACCESS_BOTH && ch->read_high);
    if (ch->access == ACCESS_BOTH) {
        ch->read_high = !ch->read_high;
    }
    if (ch->latched_bytes > 0) {
        ch->latched_bytes--;
    }
    return (uint8_t)(high ? value >> 8 : value);
}

static void latch_count(struct pit_channel *ch, uint64_t now_tick)
{
    if (ch->latched_bytes ==
        0) { /* a second latch before the first was read is ignored */
        ch->latched_count = counter_value(ch, now_tick);
        ch->latched_bytes = ch->access == ACCESS_BOTH ? 2 : 1;
    }
}

static void latch_status(struct pit_channel *ch, uint64_t now_tick)
{
    if (!ch->status_latched) {
        ch->latched_status =
            (uint8_t)((out_pin(ch, now_tick) ? 0x80 : 0) | (ch->armed ? 0 : 0x40) |
                      ch->access << 4 | ch->mode << 1 | (ch->bcd ? 1 : 0));
        ch->status_latched = true;
    }
}

static void set_mode(struct pit_channel *ch, uint8_t control)
{
    uint8_t mode = (control >> 1) & 7;

    ch->mode = mode > 5 ? mode & 3 : mode; /* 6 and 7 are 2 and 3 */
    ch->access = (control >> 4) & 3;
    ch->bcd = (control & 1) != 0;
    ch->armed = ch->triggered = false;
    ch->write_high = ch->read_high = false;
    ch->latched_bytes = 0;
    ch->status_latched = false;
    ch->held_ticks = 0;
}

static void write_control(struct dev_pit *pit, uint8_t value, uint64_t now_tick)
{
    unsigned select = value >> 6;

    if (select < 3) {
        if (((value >> 4) & 3) == ACCESS_LATCH) {
            latch_count(&pit->channel[select], now_tick);
        } else {
            set_mode(&pit->channel[select], value);
        }
        return;
    }
    for (unsigned i = 0; i < 3;
         i++) { /* read-back command; bits 4 and 5 are active low */
        if ((value & (2u << i)) != 0) {
            if ((value & 0x20) == 0) {
                latch_count(&pit->channel[i], now_tick);
            }
            if ((value & 0x10) == 0) {
                latch_status(&pit->channel[i], now_tick);
            }
        }
    }
}

static void set_gate(struct pit_channel *ch, bool gate, uint64_t now_tick)
{
    bool rising = gate && !ch->gate;

    if (!gate && ch->gate && !is_triggered_mode(ch)) {
        ch->held_ticks = elapsed(ch, now_tick);
    }
    ch->gate = gate;
    if (!rising || !ch->armed) {
        return;
    }
    if (ch->mode == 0 || ch->mode == 4) { /* goes on where it stopped */
        ch->start_tick =
            now_tick - (ch->held_ticks < now_tick ? ch->held_ticks : now_tick);
    } else { /* starts anew */
        ch->triggered = true;
        ch->start_tick = now_tick;
        ch->held_ticks = 0;
    }
}

static uint8_t read_port61(const struct dev_pit *pit, uint64_t now_tick)
{
    const struct pit_channel *ch = &pit->channel[2];

    return (uint8_t)((ch->gate ? PORT61_GATE2 : 0) | (pit->speaker ? PORT61_SPEAKER : 0) |
                     (pit->now_ns / REFRESH_NS % 2 != 0 ? PORT61_REFRESH : 0) |
                     (out_pin(ch, now_tick) ? PORT61_OUT2 : 0));
}

static uint64_t pit_read(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                         struct effects *fx)
{
    struct dev_pit *pit = dev;
    uint64_t now_tick = tick_of_ns(pit->now_ns);

    (void)gm;
    (void)len;
    (void)fx;
    if (offset == PIT_OFFSET_PORT61) {
        return read_port61(pit, now_tick);
    }
    if (offset >= PIT_OFFSET_CONTROL) {
        return 0xFF; /* the control word cannot be read */
    }
    return read_counter(&pit->channel[offset], now_tick);
}

static void pit_write(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                      uint64_t value, struct effects *fx)
{
    struct dev_pit *pit = dev;
    uint64_t now_tick = tick_of_ns(pit->now_ns);
    uint8_t byte = (uint8_t)value;

    (void)gm;
    (void)len;
    if (offset == PIT_OFFSET_PORT61) {
        pit->speaker = (byte & PORT61_SPEAKER) != 0;
        set_gate(&pit->channel[2], (byte & PORT61_GATE2) != 0, now_tick);
    } else if (offset == PIT_OFFSET_CONTROL) {
        write_control(pit, byte, now_tick);
    } else {
        write_counter(&pit->channel[offset], byte, now_tick);
    }
    update(pit, fx);
}

static void pit_input(void *dev, struct gmem *gm, const struct dev_input *in,
                      struct effects *fx)
{
    struct dev_pit *pit = dev;

    (void)gm;
    if (in->type == INPUT_CLOCK) {
        pit->now_ns = in->now_ns > pit->now_ns ? in->now_ns : pit->now_ns;
        update(pit, fx);
    }
}

/* Counter 0 runs from the start, as a PC's firmware leaves it (and QEMU's 8254 is): Linux
 * without a TSC reads it before it has programmed it, and waits without a limit for a
 * count; neither SeaBIOS for microvm nor a direct boot programs it. */
static void pit_reset(void *dev, struct effects *fx)
{
    struct dev_pit *pit = dev;

    for (unsigned i = 0; i < 3; i++) {
        pit->channel[i] = (struct pit_channel){.access = ACCESS_BOTH, .gate = i < 2};
    }
    pit->speaker = false;
    pit->seen_tick = tick_of_ns(pit->now_ns);
    pit->channel[0].mode = 3;
    load_count(&pit->channel[0], 0, pit->seen_tick);
    update(pit, fx);
}

static void channel_xfer(struct pit_channel *ch, uint64_t now_tick, struct state_io *io)
{
    state_u8(io, &ch->mode);
    state_u8(io, &ch->access);
    state_bool(io, &ch->bcd);
    state_bool(io, &ch->gate);
    state_bool(io, &ch->armed);
    state_bool(io, &ch->triggered);
    state_u16(io, &ch->count);
    state_bool(io, &ch->write_high);
    state_bool(io, &ch->read_high);
    state_u8(io, &ch->write_low);
    state_u8(io, &ch->latched_bytes);
    state_u16(io, &ch->latched_count);
    state_bool(io, &ch->status_latched);
    state_u8(io, &ch->latched_status);
    state_u64(io, &ch->start_tick);
    state_u64(io, &ch->held_ticks);
    if (ch->mode > 5 || ch->access < ACCESS_LOW || ch->access > ACCESS_BOTH) {
        state_refuse(io, "mode");
    }
    if (ch->latched_bytes > 2) {
        state_refuse(io, "latched_bytes");
    }
    if (ch->start_tick > now_tick || ch->held_ticks > now_tick) {
        state_refuse(io, "start_tick");
    }
}

static int pit_xfer(void *dev, struct state_io *io)
{
    struct dev_pit *pit = dev;

    state_u64(io, &pit->now_ns);
    state_u64(io, &pit->seen_tick);
    if (pit->seen_tick != tick_of_ns(pit->now_ns)) {
        state_refuse(io, "seen_tick");
    }
    for (unsigned i = 0; i < 3; i++) {
        channel_xfer(&pit->channel[i], tick_of_ns(pit->now_ns), io);
    }
    state_bool(io, &pit->speaker);
    if (!pit->channel[0].gate || !pit->channel[1].gate) {
        state_refuse(io, "gate");
    }
    return state_end(io);
}

const struct dev_class dev_pit_class = {
    .name = "pit",
    .version = 1,
    .min_reader = 1,
    .state_size = sizeof(struct dev_pit),
    .reads_clock = true,
    .reset = pit_reset,
    .read = pit_read,
    .write = pit_write,
    .input = pit_input,
    .xfer = pit_xfer,
};
