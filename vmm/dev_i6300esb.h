/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watchdog of an Intel 6300ESB I/O controller hub (datasheet, 16): PCI 8086:25AB,
 * registers in configuration space and in 16 bytes of BAR0. Two stages of up to about
 * 1,031 s each: the first may interrupt (not done here: no driver asks for it), the
 * second resets the machine, and after that the guest can read that it was the watchdog.
 */
#pragma once

#include "vmm/pci.h"

#define ESB_BAR_SIZE      16
#define ESB_TIMER1        0x0 /* 20 bits each, in ticks; behind the unlock sequence */
#define ESB_TIMER2        0x4
#define ESB_INTERRUPT     0x8 /* stage 1 has passed; write 1 to clear */
#define ESB_RELOAD        0xC
#define ESB_UNLOCK1       0x80 /* written to RELOAD, one after the other */
#define ESB_UNLOCK2       0x86
#define ESB_RELOAD_NOW    0x0100
#define ESB_TIMED_OUT     0x0200 /* reads 1 after a bite; write 1 to clear */

#define ESB_REG_CONFIG    0x60   /* configuration space, 16 bits */
#define ESB_CONFIG_TYPE   0x0003 /* of the first stage's interrupt */
#define ESB_CONFIG_FAST   0x0004 /* ticks of about 1 us, not 1 ms */
#define ESB_CONFIG_NO_RST 0x0020 /* no reset at the end of the second stage */
#define ESB_REG_LOCK      0x68   /* configuration space, 8 bits */
#define ESB_LOCK_LOCKED   0x01   /* until the next reset */
#define ESB_LOCK_ENABLE   0x02
#define ESB_LOCK_FREE     0x04 /* start again after the second stage */

struct dev_i6300esb {
    struct pci_func func;
    /* State */
    uint64_t now_ns, deadline_ns; /* deadline: UINT64_MAX when stopped */
    uint32_t timer[2];
    uint8_t stage;  /* 0 and 1 */
    uint8_t unlock; /* steps of the sequence seen */
    bool stage1_passed;
    bool timed_out; /* survives a reset: it is what the reset was for */
};

extern const struct dev_class dev_i6300esb_class;

void dev_i6300esb_init(struct dev_i6300esb *esb, uint64_t bar0);
/* A write to configuration space. True: what the function decodes may have changed. */
bool dev_i6300esb_config_write(struct dev_i6300esb *esb, unsigned reg, unsigned len,
                               uint32_t value, struct effects *fx);
