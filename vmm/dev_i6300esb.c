/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_i6300esb.h"

#include <string.h>

#define TIMER_MASK    0xFFFFF
#define CLOCK_NS      30 /* of the 33 MHz bus */
#define SHIFT_SLOW    15 /* bus clocks of a tick */
#define SHIFT_FAST    5
#define CONFIG_BITS   (ESB_CONFIG_TYPE | ESB_CONFIG_FAST | ESB_CONFIG_NO_RST)
#define LOCK_BITS     (ESB_LOCK_LOCKED | ESB_LOCK_ENABLE | ESB_LOCK_FREE)
#define UNLOCKED      2
#define LINUX_TIMEOUT 0x1000 /* where the Linux driver looks for ESB_TIMED_OUT */

static uint32_t config_of(const struct dev_i6300esb *esb)
{
    return pci_func_read(&esb->func, ESB_REG_CONFIG, 2);
}

static uint32_t lock_of(const struct dev_i6300esb *esb)
{
    return pci_func_read(&esb->func, ESB_REG_LOCK, 1);
}

void dev_i6300esb_init(struct dev_i6300esb *esb, uint64_t bar0)
{
    static const struct pci_ident ident = {
        .vendor = 0x8086,
        .device = 0x25AB,
        .subsystem_vendor = 0x1AF4,
        .subsystem = 0x1100,
        .class = 0x088000,
    };

    memset(esb, 0, sizeof *esb);
    pci_func_init(&esb->func, &ident);
    pci_func_add_bar(&esb->func, 0, ESB_BAR_SIZE, false, bar0);
    pci_func_let_write(&esb->func, ESB_REG_CONFIG, 2, CONFIG_BITS);
    pci_func_let_write(&esb->func, ESB_REG_LOCK, 1, LOCK_BITS);
}

/* Timer ---------------------------------------------------------------------------- */

static uint64_t stage_ns(const struct dev_i6300esb *esb)
{
    unsigned shift = (config_of(esb) & ESB_CONFIG_FAST) != 0 ? SHIFT_FAST : SHIFT_SLOW;
    uint64_t ticks = esb->timer[esb->stage];

    return ((ticks != 0 ? ticks : 1) << shift) * CLOCK_NS; /* at most 2^40 ns */
}

static void start_stage(struct dev_i6300esb *esb, uint8_t stage, struct effects *fx)
{
    if ((lock_of(esb) & ESB_LOCK_ENABLE) == 0) {
        return;
    }
    esb->stage = stage;
    if (__builtin_add_overflow(esb->now_ns, stage_ns(esb), &esb->deadline_ns)) {
        esb->deadline_ns = UINT64_MAX;
    }
    effects_wake(fx, esb->deadline_ns);
}

static void stop(struct dev_i6300esb *esb, struct effects *fx)
{
    esb->stage = 0;
    esb->deadline_ns = UINT64_MAX;
    effects_wake(fx, UINT64_MAX);
}

static void bite(struct dev_i6300esb *esb, struct effects *fx)
{
    bool again = (lock_of(esb) & ESB_LOCK_FREE) != 0;

    if ((config_of(esb) & ESB_CONFIG_NO_RST) == 0) {
        esb->timed_out = true;
        fx->watchdog = true;
        fx->reset = true;
    }
    if (again) {
        start_stage(esb, 0, fx);
    } else {
        stop(esb, fx);
    }
}

static void esb_input(void *dev, struct gmem *gm, const struct dev_input *in,
                      struct effects *fx)
{
    struct dev_i6300esb *esb = dev;

    (void)gm;
    if (in->type != INPUT_CLOCK) {
        return;
    }
    esb->now_ns = in->now_ns > esb->now_ns ? in->now_ns : esb->now_ns;
    if (esb->now_ns < esb->deadline_ns) {
        effects_wake(fx, esb->deadline_ns);
    } else if (esb->stage == 0) {
        /* A host that was away gives the guest its whole second stage. */
        esb->stage1_passed = true;
        start_stage(esb, 1, fx);
    } else {
        bite(esb, fx);
    }
}

/* Registers ------------------------------------------------------------------------ */

bool dev_i6300esb_config_write(struct dev_i6300esb *esb, unsigned reg, unsigned len,
                               uint32_t value, struct effects *fx)
{
    uint32_t before = lock_of(esb), after;
    bool moved;

    if (pci_access_ok(reg, len) && reg <= ESB_REG_LOCK && reg + len > ESB_REG_LOCK &&
        (before & ESB_LOCK_LOCKED) != 0) {
        return false;
    }
    moved = pci_func_write(&esb->func, reg, len, value);
    after = lock_of(esb);
    if ((after & ~before & ESB_LOCK_ENABLE) != 0) {
        start_stage(esb, 0, fx);
    } else if ((before & ~after & ESB_LOCK_ENABLE) != 0) {
        stop(esb, fx);
    }
    return moved;
}

static uint64_t esb_read(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                         struct effects *fx)
{
    const struct dev_i6300esb *esb = dev;

    (void)gm;
    (void)len;
    (void)fx;
    switch (offset) {
    case ESB_TIMER1:
        return esb->timer[0];
    case ESB_TIMER2:
        return esb->timer[1];
    case ESB_INTERRUPT:
        return esb->stage1_passed;
    case ESB_RELOAD:
        return esb->timed_out ? ESB_TIMED_OUT | LINUX_TIMEOUT : 0;
    default:
        return 0;
    }
}

/* True: the write was part of the sequence. Anything else ends it. */
static bool unlock_step(struct dev_i6300esb *esb, uint64_t offset, uint64_t value)
{
    if (offset == ESB_RELOAD && value == ESB_UNLOCK1) {
        esb->unlock = 1;
        return true;
    }
    if (offset == ESB_RELOAD && value == ESB_UNLOCK2 && esb->unlock == 1) {
        esb->unlock = UNLOCKED;
        return true;
    }
    return false;
}

static void write_unlocked(struct dev_i6300esb *esb, uint64_t offset, unsigned len,
                           uint32_t value, struct effects *fx)
{
    if (offset == ESB_RELOAD && len >= 2) {
        if ((value & ESB_TIMED_OUT) != 0) {
            esb->timed_out = false;
        }
        if ((value & ESB_RELOAD_NOW) != 0) {
            start_stage(esb, 0, fx);
        }
    } else if ((offset == ESB_TIMER1 || offset == ESB_TIMER2) && len == 4) {
        esb->timer[offset == ESB_TIMER2] = value & TIMER_MASK;
    }
}

static void esb_write(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                      uint64_t value, struct effects *fx)
{
    struct dev_i6300esb *esb = dev;

    (void)gm;
    if (offset == ESB_INTERRUPT) { /* not behind the sequence */
        esb->stage1_passed &= (value & 1) == 0;
    }
    if (unlock_step(esb, offset, value)) {
        return;
    }
    if (esb->unlock == UNLOCKED) {
        write_unlocked(esb, offset, len, (uint32_t)value, fx);
    }
    esb->unlock = 0;
}

static void esb_reset(void *dev, struct effects *fx)
{
    struct dev_i6300esb *esb = dev;

    pci_func_reset(&esb->func);
    esb->timer[0] = esb->timer[1] = TIMER_MASK;
    esb->unlock = 0;
    esb->stage1_passed = false;
    stop(esb, fx);
}

static int esb_xfer(void *dev, struct state_io *io)
{
    struct dev_i6300esb *esb = dev;

    pci_func_xfer(&esb->func, io);
    state_u64(io, &esb->now_ns);
    state_u64(io, &esb->deadline_ns);
    state_u32(io, &esb->timer[0]);
    state_u32(io, &esb->timer[1]);
    state_u8(io, &esb->stage);
    state_u8(io, &esb->unlock);
    state_bool(io, &esb->stage1_passed);
    state_bool(io, &esb->timed_out);
    if (esb->timer[0] > TIMER_MASK || esb->timer[1] > TIMER_MASK) {
        state_refuse(io, "timer");
    }
    if (esb->stage > 1 || esb->unlock > UNLOCKED) {
        state_refuse(io, "stage");
    }
    if (esb->deadline_ns != UINT64_MAX && (lock_of(esb) & ESB_LOCK_ENABLE) == 0) {
        state_refuse(io, "deadline_ns");
    }
    return state_end(io);
}

const struct dev_class dev_i6300esb_class = {
    .name = "i6300esb",
    .version = 1,
    .min_reader = 1,
    .state_size = sizeof(struct dev_i6300esb),
    .reads_clock = true,
    .reset = esb_reset,
    .read = esb_read,
    .write = esb_write,
    .input = esb_input,
    .xfer = esb_xfer,
};
