/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 8259A pair of a PC (Intel 8259A datasheet; ELCR: 82371AB datasheet 4.2.3). The
 * slave's output is wired to the master's IR2 and follows it as a level: an edge there
 * would be lost when the slave keeps its output high across an acknowledge. A latched
 * edge stays until it is acknowledged, so one-call pulses (the 8254) are safe. ICW1's
 * LTIM is ignored: ELCR decides.
 */
#pragma once

#include "vmm/dev.h"

#define PIC_LINES         16
#define PIC_CASCADE       2
#define PIC_OFFSET_MASTER 0 /* ports 0x20, 0x21 */
#define PIC_OFFSET_SLAVE  2 /* ports 0xA0, 0xA1 */
#define PIC_OFFSET_ELCR   4 /* ports 0x4D0, 0x4D1 */

enum pic_init { PIC_READY = 0, PIC_WANTS_ICW2, PIC_WANTS_ICW3, PIC_WANTS_ICW4 };

struct pic_chip {
    uint8_t lines; /* input pins, now */
    uint8_t irr, imr, isr;
    uint8_t elcr;
    uint8_t vector_base;
    uint8_t lowest_plus_one; /* the line of highest priority: 0 unless rotated */
    uint8_t init;            /* enum pic_init */
    bool single, wants_icw4;
    bool read_isr, poll;
    bool auto_eoi, rotate_on_auto_eoi, special_mask, fully_nested;
};

struct dev_pic {
    struct pic_chip chip[2]; /* master, slave */
};

extern const struct dev_class dev_pic_class;

void dev_pic_set_line(struct dev_pic *pic, unsigned line, bool level);
bool dev_pic_intr(const struct dev_pic *pic);
/* INTA: the vector of the line of highest priority, or the spurious one (IR7 of the chip
 * whose request went away). */
uint8_t dev_pic_ack(struct dev_pic *pic);
