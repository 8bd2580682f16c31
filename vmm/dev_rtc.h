/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MC146818 real-time clock and its 128 bytes of CMOS (Motorola MC146818A datasheet).
 * Wall time enters only as INPUT_RTC_BASE; from there on it is machine time plus an
 * offset that the guest may set. Nothing is counted: seconds, alarms and periodic ticks
 * that passed are worked out at each clock input. IRQ 8 is a level, up until register C
 * is read.
 */
#pragma once

#include "vmm/dev.h"

#define RTC_CMOS_LEN     128
#define RTC_OFFSET_INDEX 0
#define RTC_OFFSET_DATA  1

struct dev_rtc {
    uint64_t now_ns;
    int64_t offset_ns; /* wall time minus machine time */
    uint64_t seen_sec; /* updates and alarms up to this wall second are in the flags */
    uint64_t seen_periodic; /* periodic ticks, likewise; counted in periods of the rate in
                               register A */
    uint8_t index;
    uint8_t cmos[RTC_CMOS_LEN]; /* time fields are current only while the clock is stopped
                                   (SET, or divider reset) */
};

extern const struct dev_class dev_rtc_class;

/* What firmware looks for in CMOS: sizes of memory, of which low_max is the most below 4
 * GiB, and the number of processors. */
void dev_rtc_init(struct dev_rtc *rtc, uint64_t ram_len, uint64_t low_max,
                  unsigned cpu_count);
