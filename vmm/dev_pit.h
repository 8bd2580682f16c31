/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An 8254 (Intel 8254 datasheet): three counters of 1.193182 MHz and the PC's port 0x61.
 * OUT0 is IRQ 0 and is reported as one pulse per rising edge; edges that passed unseen
 * are merged. Simplifications: a new count loads at once in every mode, and periodic
 * wake-ups are at least PIT_WAKE_MIN_NS apart, so that a guest cannot buy a host timer
 * storm.
 */
#pragma once

#include "vmm/dev.h"

#define PIT_HZ             UINT64_C(1193182)
#define PIT_WAKE_MIN_NS    (100 * NSEC_PER_USEC)
#define PIT_OFFSET_CONTROL 3
#define PIT_OFFSET_PORT61  4

struct pit_channel {
    uint8_t mode;   /* 0-5 */
    uint8_t access; /* 1 low byte, 2 high byte, 3 low then high */
    bool bcd;
    bool gate;
    bool armed;                 /* a count has been written since the mode was */
    bool triggered;             /* modes 1 and 5: the gate has risen since */
    uint16_t count;             /* 0: 65536, or 10000 in BCD */
    bool write_high, read_high; /* access 3: which byte is next */
    uint8_t write_low;
    uint8_t latched_bytes; /* of latched_count, still to be read */
    uint16_t latched_count;
    bool status_latched;
    uint8_t latched_status;
    uint64_t start_tick; /* of the count; meaningful while the gate lets it run */
    uint64_t held_ticks; /* counted before the gate stopped it */
};

struct dev_pit {
    uint64_t now_ns;
    uint64_t seen_tick; /* edges of OUT0 up to here have been reported */
    struct pit_channel channel[3];
    bool speaker;
};

extern const struct dev_class dev_pit_class;
