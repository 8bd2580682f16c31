/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI fixed hardware (ACPI 6.4, 4.8.3): PM1a event and control block, PM timer
 * of 3.579545 MHz, 32 bits (TMR_VAL_EXT). No SMI: SCI_EN always reads 1. S5 is SLP_TYP 0,
 * as with QEMU's Q35, so one ROM powers off on both.
 */
#pragma once

#include "vmm/dev.h"

#define PM_OFFSET_STATUS  0x0
#define PM_OFFSET_ENABLE  0x2
#define PM_OFFSET_CONTROL 0x4
#define PM_OFFSET_TIMER   0x8
#define PM_RANGE_LEN      0x10

#define PM_TIMER_HZ       UINT64_C(3579545)
#define PM1_TIMER         0x0001 /* in status and enable */
#define PM1_GLOBAL        0x0020
#define PM1_POWER_BUTTON  0x0100
#define PM1_SLEEP_BUTTON  0x0200
#define PM1_RTC           0x0400
#define PM1_WAKE          0x8000 /* status only */
#define PM_SLP_TYP_S5     0

struct dev_pm {
    uint64_t now_ns;
    uint64_t toggles_seen; /* half periods of the timer's top bit, already in TMR_STS */
    uint16_t status, enable, control;
};

extern const struct dev_class dev_pm_class;
