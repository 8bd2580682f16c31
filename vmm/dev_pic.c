/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_pic.h"

#include "vmm/dev_none.h"

#define ICW1_SELECT 0x10 /* on the even port */
#define ICW1_IC4    0x01
#define ICW1_SNGL   0x02
#define ICW4_AEOI   0x02
#define ICW4_SFNM   0x10
#define OCW3_SELECT 0x08
#define OCW3_RIS    0x01
#define OCW3_RR     0x02
#define OCW3_POLL   0x04
#define OCW3_SMM    0x20
#define OCW3_ESMM   0x40
#define NO_IRQ      8
#define SPURIOUS_IR 7

/* Lines whose trigger mode software may choose: not the timer, keyboard, cascade, RTC and
 * FPU. */
static const uint8_t elcr_writable[2] = {0xF8, 0xDE};

/* Rank (0 is the highest) of the best line in mask, or NO_IRQ. */
static unsigned best_rank(const struct pic_chip *chip, uint8_t mask)
{
    unsigned rank = 0;

    while (rank < NO_IRQ && (mask & (1u << ((rank + chip->lowest_plus_one) & 7))) == 0) {
        rank++;
    }
    return rank;
}

static unsigned line_of_rank(const struct pic_chip *chip, unsigned rank)
{
    return (rank + chip->lowest_plus_one) & 7;
}

/* The line this chip asks for on its INT pin, or NO_IRQ. */
static unsigned chip_request(const struct pic_chip *chip, bool is_master)
{
    uint8_t in_service = chip->isr;
    unsigned rank = best_rank(chip, chip->irr & (uint8_t)~chip->imr);

    if (rank == NO_IRQ || chip->init != PIC_READY) {
        return NO_IRQ;
    }
    if (chip->special_mask) { /* masked lines in service block nobody */
        in_service &= (uint8_t)~chip->imr;
    }
    if (chip->fully_nested && is_master) { /* the slave may interrupt its own handler */
        in_service &= (uint8_t) ~(1u << PIC_CASCADE);
    }
    return rank < best_rank(chip, in_service) ? line_of_rank(chip, rank) : NO_IRQ;
}

static void update_cascade(struct dev_pic *pic)
{
    if (chip_request(&pic->chip[1], false) != NO_IRQ) {
        pic->chip[0].irr |= 1u << PIC_CASCADE;
        pic->chip[0].lines |= 1u << PIC_CASCADE;
    } else {
        pic->chip[0].irr &= (uint8_t) ~(1u << PIC_CASCADE);
        pic->chip[0].lines &= (uint8_t) ~(1u << PIC_CASCADE);
    }
}

void dev_pic_set_line(struct dev_pic *pic, unsigned line, bool level)
{
    struct pic_chip *chip = &pic->chip[(line / 8) & 1];
    uint8_t bit = (uint8_t)(1u << (line % 8));
    bool rising = level && (chip->lines & bit) == 0;

    if (line >= PIC_LINES || line == PIC_CASCADE) {
        return;
    }
    chip->lines = level ? chip->lines | bit : chip->lines & (uint8_t)~bit;
    if ((chip->elcr & bit) != 0) {
        chip->irr = level ? chip->irr | bit : chip->irr & (uint8_t)~bit;
    } else if (rising) {
        chip->irr |= bit;
    }
    update_cascade(pic);
}

bool dev_pic_intr(const struct dev_pic *pic)
{
    return chip_request(&pic->chip[0], true) != NO_IRQ;
}

/* A chip's part of an acknowledge; the line, or SPURIOUS_IR without any change. */
static unsigned chip_ack(struct pic_chip *chip, bool is_master)
{
    unsigned line = chip_request(chip, is_master);
    uint8_t bit;

    if (line == NO_IRQ) {
        return SPURIOUS_IR;
    }
    bit = (uint8_t)(1u << line);
    if (!chip->auto_eoi) {
        chip->isr |= bit;
    } else if (chip->rotate_on_auto_eoi) {
        chip->lowest_plus_one = (uint8_t)((line + 1) & 7);
    }
    if ((chip->elcr & bit) ==
        0) { /* the cascade's is worked out anew by update_cascade */
        chip->irr &= (uint8_t)~bit;
    }
    return line;
}

uint8_t dev_pic_ack(struct dev_pic *pic)
{
    bool real = dev_pic_intr(pic);
    unsigned line = chip_ack(&pic->chip[0], true);
    const struct pic_chip *answers = &pic->chip[0];

    if (real && line == PIC_CASCADE) {
        line = chip_ack(&pic->chip[1], false);
        answers = &pic->chip[1];
    }
    update_cascade(pic);
    return (uint8_t)(answers->vector_base + line);
}

static void begin_init(struct pic_chip *chip, uint8_t icw1)
{
    chip->irr &= chip->elcr; /* the edge sense circuit is reset: a new edge is needed */
    chip->imr = chip->isr = 0;
    chip->lowest_plus_one = 0;
    chip->read_isr = chip->poll = chip->special_mask = false;
    chip->auto_eoi = chip->rotate_on_auto_eoi = chip->fully_nested = false;
    chip->single = (icw1 & ICW1_SNGL) != 0;
    chip->wants_icw4 = (icw1 & ICW1_IC4) != 0;
    chip->init = PIC_WANTS_ICW2;
}

static void write_ocw3(struct pic_chip *chip, uint8_t value)
{
    if ((value & OCW3_POLL) != 0) {
        chip->poll = true;
    }
    if ((value & OCW3_RR) != 0) {
        chip->read_isr = (value & OCW3_RIS) != 0;
    }
    if ((value & OCW3_ESMM) != 0) {
        chip->special_mask = (value & OCW3_SMM) != 0;
    }
}

static void end_of_interrupt(struct pic_chip *chip, bool specific, unsigned line,
                             bool rotate)
{
    uint8_t candidates = chip->isr;

    if (!specific) {
        if (chip->special_mask) { /* a non-specific EOI does not clear masked lines then
                                   */
            candidates &= (uint8_t)~chip->imr;
        }
        line = best_rank(chip, candidates);
        if (line == NO_IRQ) {
            return;
        }
        line = line_of_rank(chip, line);
    }
    chip->isr &= (uint8_t) ~(1u << line);
    if (rotate) {
        chip->lowest_plus_one = (uint8_t)((line + 1) & 7);
    }
}

static void write_ocw2(struct pic_chip *chip, uint8_t value)
{
    unsigned line = value & 7;

    switch (value >> 5) {
    case 0: /* stop rotating on automatic EOI */
    case 4: /* rotate on automatic EOI */
        chip->rotate_on_auto_eoi = (value >> 5) == 4;
        break;
    case 1: /* non-specific EOI */
    case 5: /* and rotate */
        end_of_interrupt(chip, false, 0, (value >> 5) == 5);
        break;
    case 3: /* specific EOI */
    case 7: /* and rotate */
        end_of_interrupt(chip, true, line, (value >> 5) == 7);
        break;
    case 6: /* set priority */
        chip->lowest_plus_one = (uint8_t)((line + 1) & 7);
        break;
    default: /* 2: no operation */
        break;
    }
}

static void write_odd(struct pic_chip *chip, uint8_t value)
{
    switch (chip->init) {
    case PIC_WANTS_ICW2:
        chip->vector_base = value & 0xF8;
        if (!chip->single) {
            chip->init = PIC_WANTS_ICW3;
            break;
        }
        chip->init = chip->wants_icw4 ? PIC_WANTS_ICW4 : PIC_READY;
        break;
    case PIC_WANTS_ICW3: /* the wiring is fixed */
        chip->init = chip->wants_icw4 ? PIC_WANTS_ICW4 : PIC_READY;
        break;
    case PIC_WANTS_ICW4:
        chip->auto_eoi = (value & ICW4_AEOI) != 0;
        chip->fully_nested = (value & ICW4_SFNM) != 0;
        chip->init = PIC_READY;
        break;
    default:
        chip->imr = value;
        break;
    }
}

static void write_elcr(struct pic_chip *chip, unsigned which, uint8_t value)
{
    uint8_t level = value & elcr_writable[which];

    /* A level line requests while its pin is high; going back to edge keeps what is
     * latched. */
    chip->irr = (chip->irr & (uint8_t)~level) | (chip->lines & level);
    chip->elcr = level;
}

static void pic_write(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                      uint64_t value, struct effects *fx)
{
    struct dev_pic *pic = dev;
    unsigned which = (offset / 2) & 1;
    struct pic_chip *chip = &pic->chip[which];
    uint8_t byte = (uint8_t)value;

    (void)gm;
    (void)len;
    (void)fx;
    if (offset >= PIC_OFFSET_ELCR) {
        which = offset & 1;
        write_elcr(&pic->chip[which], which, byte);
    } else if ((offset & 1) != 0) {
        write_odd(chip, byte);
    } else if ((byte & ICW1_SELECT) != 0) {
        begin_init(chip, byte);
    } else if ((byte & OCW3_SELECT) != 0) {
        write_ocw3(chip, byte);
    } else {
        write_ocw2(chip, byte);
    }
    update_cascade(pic);
}

static uint64_t pic_read(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                         struct effects *fx)
{
    struct dev_pic *pic = dev;
    unsigned which = (offset / 2) & 1;
    struct pic_chip *chip = &pic->chip[which];
    bool requested;
    unsigned line;

    (void)gm;
    (void)len;
    (void)fx;
    if (offset >= PIC_OFFSET_ELCR) {
        return pic->chip[offset & 1].elcr;
    }
    if (chip->poll) { /* a poll is an acknowledge without INTA */
        chip->poll = false;
        requested = chip_request(chip, which == 0) != NO_IRQ;
        line = chip_ack(chip, which == 0);
        update_cascade(pic);
        return requested ? 0x80 | line : 0;
    }
    if ((offset & 1) != 0) {
        return chip->imr;
    }
    return chip->read_isr ? chip->isr : chip->irr;
}

static void pic_reset(void *dev, struct effects *fx)
{
    struct dev_pic *pic = dev;

    (void)fx;
    for (unsigned i = 0; i < 2; i++) {
        /* The pins are not ours to reset; nothing is requested until ICW1..4 have been
         * written. */
        pic->chip[i] = (struct pic_chip){.lines = pic->chip[i].lines, .imr = 0xFF};
    }
    update_cascade(pic);
}

static int pic_xfer(void *dev, struct state_io *io)
{
    struct dev_pic *pic = dev;

    for (unsigned i = 0; i < 2; i++) {
        struct pic_chip *chip = &pic->chip[i];

        state_u8(io, &chip->lines);
        state_u8(io, &chip->irr);
        state_u8(io, &chip->imr);
        state_u8(io, &chip->isr);
        state_u8(io, &chip->elcr);
        state_u8(io, &chip->vector_base);
        state_u8(io, &chip->lowest_plus_one);
        state_u8(io, &chip->init);
        state_bool(io, &chip->single);
        state_bool(io, &chip->wants_icw4);
        state_bool(io, &chip->read_isr);
        state_bool(io, &chip->poll);
        state_bool(io, &chip->auto_eoi);
        state_bool(io, &chip->rotate_on_auto_eoi);
        state_bool(io, &chip->special_mask);
        state_bool(io, &chip->fully_nested);
        if (chip->lowest_plus_one > 7) {
            state_refuse(io, "lowest_plus_one");
        }
        if (chip->init > PIC_WANTS_ICW4) {
            state_refuse(io, "init");
        }
        if ((chip->vector_base & 7) != 0) {
            state_refuse(io, "vector_base");
        }
        if ((chip->elcr & ~elcr_writable[i]) != 0) {
            state_refuse(io, "elcr");
        }
    }
    return state_end(io);
}

const struct dev_class dev_pic_class = {
    .name = "pic",
    .version = 1,
    .min_reader = 1,
    .state_size = sizeof(struct dev_pic),
    .reset = pic_reset,
    .read = pic_read,
    .write = pic_write,
    .input = dev_none_input,
    .xfer = pic_xfer,
};
