/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_pm.h"

#include <string.h>

#define PM1_STATUS_BITS                                                                  \
    (PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC | PM1_WAKE)
#define PM1_ENABLE_BITS                                                                  \
    (PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC)
#define CONTROL_SCI_EN 0x0001
#define CONTROL_KEPT   0x1C02 /* BM_RLD, SLP_TYP */
#define CONTROL_SLP_EN 0x2000
#define SLP_TYP_SHIFT  10
#define TIMER_TOP_BIT  31

static uint64_t timer_ticks(uint64_t now_ns)
{
    return (uint64_t)((unsigned __int128)now_ns * PM_TIMER_HZ / NSEC_PER_SEC);
}

/* The first nanosecond at which timer_ticks() reaches `ticks`. */
static uint64_t ticks_ns(uint64_t ticks)
{
    unsigned __int128 ns =
        ((unsigned __int128)ticks * NSEC_PER_SEC + PM_TIMER_HZ - 1) / PM_TIMER_HZ;

    return ns < UINT64_MAX ? (uint64_t)ns : UINT64_MAX;
}

/* TMR_STS is set whenever the top bit changes; the next change matters only while its
 * interrupt is enabled. */
static void update(struct dev_pm *pm, struct effects *fx)
{
    uint64_t toggles = timer_ticks(pm->now_ns) >> TIMER_TOP_BIT;

    if (toggles != pm->toggles_seen) {
        pm->toggles_seen = toggles;
        pm->status |= PM1_TIMER;
    }
    effects_irq(fx, (pm->status & pm->enable) != 0);
    effects_wake(fx, (pm->enable & PM1_TIMER) != 0
                         ? ticks_ns((toggles + 1) << TIMER_TOP_BIT)
                         : UINT64_MAX);
}

static uint16_t control_value(const struct dev_pm *pm)
{
    return pm->control | CONTROL_SCI_EN;
}

/* The register file as bytes, so that any access width works. */
static uint8_t byte_at(const struct dev_pm *pm, uint64_t offset)
{
    uint16_t word[3] = {pm->status, pm->enable, control_value(pm)};
    uint32_t timer = (uint32_t)timer_ticks(pm->now_ns);

    if (offset < 6) {
        return (uint8_t)(word[offset / 2] >> (8 * (offset % 2)));
    }
    if (offset >= PM_OFFSET_TIMER && offset < PM_OFFSET_TIMER + 4) {
        return (uint8_t)(timer >> (8 * (offset - PM_OFFSET_TIMER)));
    }
    return 0;
}

static uint64_t pm_read(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                        struct effects *fx)
{
    const struct dev_pm *pm = dev;
    uint64_t value = 0;

    (void)gm;
    (void)fx;
    for (unsigned i = 0; i < len; i++) {
        value |= (uint64_t)byte_at(pm, offset + i) << (8 * i);
    }
    return value;
}

static void write_control(struct dev_pm *pm, uint16_t value, struct effects *fx)
{
    pm->control = value & CONTROL_KEPT;
    if ((value & CONTROL_SLP_EN) != 0 &&
        ((value >> SLP_TYP_SHIFT) & 7) == PM_SLP_TYP_S5) {
        fx->shutdown = true;
    }
}

static void pm_write(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                     uint64_t value, struct effects *fx)
{
    struct dev_pm *pm = dev;
    uint16_t control = pm->control;
    bool control_written = false;

    (void)gm;
    for (unsigned i = 0; i < len; i++) {
        unsigned shift = 8 * ((offset + i) % 2);
        uint16_t bits = (uint16_t)(((value >> (8 * i)) & 0xFF) << shift);
        uint16_t keep = (uint16_t)(0xFF00 >> shift);

        switch ((offset + i) & ~UINT64_C(1)) {
        case PM_OFFSET_STATUS: /* write one to clear */
            pm->status &= (uint16_t)~bits;
            break;
        case PM_OFFSET_ENABLE:
            pm->enable = ((pm->enable & keep) | bits) & PM1_ENABLE_BITS;
            break;
        case PM_OFFSET_CONTROL:
            control = (control & keep) | bits;
            control_written = true;
            break;
        default:
            break;
        }
    }
    if (control_written) {
        write_control(pm, control, fx);
    }
    update(pm, fx);
}

static void pm_input(void *dev, struct gmem *gm, const struct dev_input *in,
                     struct effects *fx)
{
    struct dev_pm *pm = dev;

    (void)gm;
    if (in->type == INPUT_CLOCK) {
        pm->now_ns = in->now_ns > pm->now_ns ? in->now_ns : pm->now_ns;
    } else if (in->type == INPUT_POWER_BUTTON) {
        pm->status |= PM1_POWER_BUTTON;
    } else {
        return;
    }
    update(pm, fx);
}

static void pm_reset(void *dev, struct effects *fx)
{
    struct dev_pm *pm = dev;

    pm->status = pm->enable = pm->control = 0;
    pm->toggles_seen = timer_ticks(pm->now_ns) >> TIMER_TOP_BIT;
    update(pm, fx);
}

static int pm_xfer(void *dev, struct state_io *io)
{
    struct dev_pm *pm = dev;

    state_u64(io, &pm->now_ns);
    state_u64(io, &pm->toggles_seen);
    state_u16(io, &pm->status);
    state_u16(io, &pm->enable);
    state_u16(io, &pm->control);
    if ((pm->status & ~PM1_STATUS_BITS) != 0 || (pm->enable & ~PM1_ENABLE_BITS) != 0 ||
        (pm->control & ~CONTROL_KEPT) != 0) {
        state_refuse(io, "pm1");
    }
    if (pm->toggles_seen > timer_ticks(pm->now_ns) >> TIMER_TOP_BIT) {
        state_refuse(io, "toggles_seen");
    }
    return state_end(io);
}

const struct dev_class dev_pm_class = {
    .name = "pm",
    .version = 1,
    .min_reader = 1,
    .state_size = sizeof(struct dev_pm),
    .reads_clock = true,
    .reset = pm_reset,
    .read = pm_read,
    .write = pm_write,
    .input = pm_input,
    .xfer = pm_xfer,
};
