/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 8259 pair: the datasheet's modes one by one, then a million random operations
 * against a model that keeps priorities as a list of lines instead of ranks, one chip at
 * a time.
 */
#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/dev_pic.h"

static struct dev_pic pic;
static struct effects fx;

static void out(unsigned offset, uint8_t value)
{
    dev_pic_class.write(&pic, NULL, offset, 1, value, &fx);
}

static uint8_t in(unsigned offset)
{
    return (uint8_t)dev_pic_class.read(&pic, NULL, offset, 1, &fx);
}

static void init_pair(uint8_t icw4)
{
    memset(&pic, 0, sizeof pic);
    effects_clear(&fx);
    dev_pic_class.reset(&pic, &fx);
    out(0, 0x11);
    out(1, 0x20);
    out(1, 0x04);
    out(1, icw4);
    out(2, 0x11);
    out(3, 0x28);
    out(3, 0x02);
    out(3, icw4);
    out(1, 0);
    out(3, 0);
}

static void pulse(unsigned line)
{
    dev_pic_set_line(&pic, line, true);
    dev_pic_set_line(&pic, line, false);
}

START_TEST(every_line_has_its_vector)
{
    for (unsigned line = 0; line < PIC_LINES; line++) {
        init_pair(0x01);
        ck_assert(!dev_pic_intr(&pic));
        pulse(line);
        if (line == PIC_CASCADE) { /* no device can be there */
            ck_assert(!dev_pic_intr(&pic));
            continue;
        }
        ck_assert(dev_pic_intr(&pic));
        ck_assert_uint_eq(dev_pic_ack(&pic), 0x20 + line);
        ck_assert(!dev_pic_intr(&pic)); /* in service */
        pulse(line);
        ck_assert(!dev_pic_intr(&pic));
        if (line >= 8) {
            out(2, 0x20);
        }
        out(0, 0x20);
        ck_assert(dev_pic_intr(&pic)); /* the second edge was latched */
        ck_assert_uint_eq(dev_pic_ack(&pic), 0x20 + line);
    }
}
END_TEST

START_TEST(edge_and_level)
{
    init_pair(0x01);
    dev_pic_set_line(&pic, 5, true);
    ck_assert_uint_eq(dev_pic_ack(&pic), 0x25);
    out(0, 0x20);
    ck_assert(!dev_pic_intr(&pic)); /* an edge counts once however long it stays */
    dev_pic_set_line(&pic, 5, true);
    ck_assert(!dev_pic_intr(&pic));
    out(4, 0x20); /* level: a line that is up requests at once, and again after EOI */
    ck_assert(dev_pic_intr(&pic));
    ck_assert_uint_eq(dev_pic_ack(&pic), 0x25);
    ck_assert(!dev_pic_intr(&pic));
    out(0, 0x20);
    ck_assert(dev_pic_intr(&pic));
    dev_pic_set_line(&pic, 5,
                     false); /* withdrawn before INTA: spurious, nothing in service */
    ck_assert(!dev_pic_intr(&pic));
    ck_assert_uint_eq(dev_pic_ack(&pic), 0x27);
    out(0, 0x0B);
    ck_assert_uint_eq(in(0), 0);
}
END_TEST

START_TEST(spurious_on_the_slave)
{
    init_pair(0x01);
    out(5, 0x0E);
    dev_pic_set_line(&pic, 10, true);
    ck_assert(dev_pic_intr(&pic));
    dev_pic_set_line(&pic, 10,
                     false); /* the cascade follows: nothing is left at the master */
    ck_assert(!dev_pic_intr(&pic));
    ck_assert_uint_eq(dev_pic_ack(&pic), 0x27);
}
END_TEST

START_TEST(slave_request_survives_auto_eoi)
{
    init_pair(0x03); /* AEOI: the slave keeps INT high from one request to the next */
    pulse(8);
    pulse(9);
    ck_assert_uint_eq(dev_pic_ack(&pic), 0x28);
    ck_assert(dev_pic_intr(&pic));
    ck_assert_uint_eq(dev_pic_ack(&pic), 0x29);
    ck_assert(!dev_pic_intr(&pic));
}
END_TEST

START_TEST(elcr_bits)
{
    for (unsigned value = 0; value < 256; value++) {
        init_pair(0x01);
        out(4, (uint8_t)value);
        out(5, (uint8_t)value);
        ck_assert_uint_eq(in(4), value & 0xF8); /* not the timer, keyboard and cascade */
        ck_assert_uint_eq(in(5), value & 0xDE); /* not the RTC and the FPU */
    }
}
END_TEST

START_TEST(every_mask_and_every_request)
{
    for (unsigned mask = 0; mask < 256; mask++) {
        for (unsigned requests = 0; requests < 256; requests += 3) {
            unsigned open = requests & ~mask & ~4u, first = 0;

            init_pair(0x01);
            out(1, (uint8_t)mask);
            ck_assert_uint_eq(in(1), mask);
            for (unsigned line = 0; line < 8; line++) {
                if ((requests >> line & 1) != 0) {
                    pulse(line);
                }
            }
            ck_assert_uint_eq(in(0), requests & ~4u); /* IRR is selected after ICW1 */
            ck_assert_int_eq(dev_pic_intr(&pic), open != 0);
            while (open != 0 && (open >> first & 1) == 0) {
                first++;
            }
            ck_assert_uint_eq(dev_pic_ack(&pic), 0x20 + (open != 0 ? first : 7));
            out(0, 0x0B);
            ck_assert_uint_eq(in(0), open != 0 ? 1u << first : 0);
        }
    }
}
END_TEST

START_TEST(poll_and_modes)
{
    init_pair(0x01);
    pulse(3);
    out(0, 0x0C);
    ck_assert_uint_eq(in(0), 0x83);
    ck_assert(!dev_pic_intr(&pic));
    out(0, 0x0C);
    ck_assert_uint_eq(in(0), 0); /* nobody asks */
    ck_assert_uint_eq(in(0), 0); /* a poll is one read: this is IRR */
    out(0, 0x63);                /* specific EOI */
    out(0, 0x0B);
    ck_assert_uint_eq(in(0), 0);

    init_pair(0x01); /* special mask mode: a masked line in service blocks nobody */
    pulse(1);
    dev_pic_ack(&pic);
    pulse(6);
    ck_assert(!dev_pic_intr(&pic));
    out(1, 0x02);
    ck_assert(!dev_pic_intr(&pic));
    out(0, 0x68);
    ck_assert(dev_pic_intr(&pic));
    ck_assert_uint_eq(dev_pic_ack(&pic), 0x26);
    out(0, 0x20); /* a non-specific EOI leaves the masked one alone */
    out(0, 0x0B);
    ck_assert_uint_eq(in(0), 0x02);
    out(0, 0x48);

    init_pair(0x11); /* special fully nested: the slave may interrupt its own handler */
    pulse(12);
    ck_assert_uint_eq(dev_pic_ack(&pic), 0x2C);
    pulse(9);
    ck_assert(dev_pic_intr(&pic));
    ck_assert_uint_eq(dev_pic_ack(&pic), 0x29);
    init_pair(0x01); /* and without it may not */
    pulse(12);
    dev_pic_ack(&pic);
    pulse(9);
    ck_assert(!dev_pic_intr(&pic));
}
END_TEST

START_TEST(icw1_clears_edges)
{
    init_pair(0x01);
    out(4, 0x20);
    pulse(3);
    dev_pic_set_line(&pic, 5, true);
    dev_pic_set_line(&pic, 6, true);
    ck_assert_uint_eq(in(0), 0x68);
    out(0, 0x11);
    ck_assert_uint_eq(in(0), 0x20); /* a level stays; an edge has to come again */
    out(1, 0x20);
    out(1, 0x04);
    out(1, 0x01);
    ck_assert_uint_eq(dev_pic_ack(&pic), 0x25);
}
END_TEST

START_TEST(nothing_before_icw)
{
    memset(&pic, 0, sizeof pic);
    dev_pic_class.reset(&pic, &fx);
    for (unsigned line = 0; line < PIC_LINES; line++) {
        pulse(line);
    }
    ck_assert(!dev_pic_intr(&pic));
    out(0, 0x11); /* half an initialisation requests nothing either */
    ck_assert(!dev_pic_intr(&pic));
    dev_pic_set_line(&pic, 99, true);
    ck_assert(!dev_pic_intr(&pic));
}
END_TEST

/* The model: one chip, priorities as a list of lines from highest to lowest
 * -------------------------- */

struct model {
    unsigned order[8];
    bool irr[8], isr[8], imr[8], level[8], pin[8];
    bool aeoi, rotate_aeoi, special;
};

static int model_request(const struct model *m)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned line = m->order[i];

        if (m->isr[line] && !(m->special && m->imr[line])) {
            return -1;
        }
        if (m->irr[line] && !m->imr[line]) {
            return (int)line;
        }
    }
    return -1;
}

static void model_demote(struct model *m, unsigned line)
{
    for (unsigned i = 0; i < 8; i++) {
        m->order[i] = (line + 1 + i) % 8;
    }
}

static void model_pin(struct model *m, unsigned line, bool up)
{
    if (m->level[line]) {
        m->irr[line] = up;
    } else if (up && !m->pin[line]) {
        m->irr[line] = true;
    }
    m->pin[line] = up;
}

static unsigned model_ack(struct model *m)
{
    int line = model_request(m);

    if (line < 0) {
        return 7;
    }
    if (m->aeoi) {
        if (m->rotate_aeoi) {
            model_demote(m, (unsigned)line);
        }
    } else {
        m->isr[line] = true;
    }
    if (!m->level[line]) {
        m->irr[line] = false;
    }
    return (unsigned)line;
}

static void model_eoi(struct model *m, int line, bool rotate)
{
    for (unsigned i = 0; line < 0 && i < 8; i++) {
        unsigned candidate = m->order[i];

        if (m->isr[candidate] && !(m->special && m->imr[candidate])) {
            line = (int)candidate;
        }
    }
    if (line >= 0) {
        m->isr[line] = false;
        if (rotate) {
            model_demote(m, (unsigned)line);
        }
    }
}

static void model_ocw2(struct model *m, uint8_t value)
{
    unsigned line = value & 7;

    if ((value >> 5) == 0 || (value >> 5) == 4) {
        m->rotate_aeoi = value >= 0x80;
    } else if ((value >> 5) == 6) {
        model_demote(m, line);
    } else if ((value >> 5) != 2) {
        model_eoi(m, (value & 0x40) != 0 ? (int)line : -1, value >= 0x80);
    }
}

static uint8_t pack(const bool bits[8])
{
    uint8_t value = 0;

    for (unsigned i = 0; i < 8; i++) {
        value |= (uint8_t)(bits[i] << i);
    }
    return value;
}

START_TEST(random_against_model)
{
    uint64_t random = 1;
    struct model m;

    for (unsigned n = 0; n < 1000000; n++) {
        uint8_t byte;
        unsigned line;

        random = random * 6364136223846793005u + 1442695040888963407u;
        byte = (uint8_t)(random >> 40);
        line = byte & 7;
        if (n % 500 == 0) { /* master alone; line 2 stays out of it */
            bool aeoi = (byte & 0x80) != 0;

            init_pair(aeoi ? 0x03 : 0x01);
            memset(&m, 0, sizeof m);
            model_demote(&m, 7);
            m.aeoi = aeoi;
            out(4, byte);
            for (unsigned i = 3; i < 8; i++) {
                m.level[i] = (byte >> i & 1) != 0;
            }
        }
        switch ((random >> 33) % 6) {
        case 0:
        case 1:
            if (line != PIC_CASCADE) {
                dev_pic_set_line(&pic, line, (byte & 0x40) != 0);
                model_pin(&m, line, (byte & 0x40) != 0);
            }
            break;
        case 2:
            ck_assert_uint_eq(dev_pic_ack(&pic), 0x20 + model_ack(&m));
            break;
        case 3:
            out(0, byte & 0xE7);
            model_ocw2(&m, byte & 0xE7);
            break;
        case 4:
            out(1, byte & 0x5B);
            for (unsigned i = 0; i < 8; i++) {
                m.imr[i] = (byte & 0x5B) >> i & 1;
            }
            break;
        default:
            out(0, (byte & 0x60) | 0x08 | 0x02 | (byte & 1));
            if ((byte & 0x40) != 0) {
                m.special = (byte & 0x20) != 0;
            }
            ck_assert_uint_eq(in(0), (byte & 1) != 0 ? pack(m.isr) : pack(m.irr));
            break;
        }
        ck_assert_msg(dev_pic_intr(&pic) == (model_request(&m) >= 0), "operation %u", n);
    }
}
END_TEST

/* The struct is bytes only, so that a forgotten field shows as a byte that differs. */
START_TEST(every_field_is_saved)
{
    uint64_t random = 77;
    uint8_t buf[256];

    for (unsigned n = 0; n < 5000; n++) {
        struct dev_pic before;
        struct state_io io;
        size_t len;

        if (n % 50 == 0) {
            init_pair(n % 100 == 0 ? 0x01 : 0x13);
        }
        random = random * 6364136223846793005u + 1442695040888963407u;
        out((random >> 60) % 6, (uint8_t)(random >> 40));
        dev_pic_set_line(&pic, random >> 50 & 15, (random >> 33 & 1) != 0);
        before = pic;
        state_save_init(&io, buf, sizeof buf);
        state_section_begin(&io, "pic", 0, 1, 1);
        ck_assert_int_eq(dev_pic_class.xfer(&pic, &io), 0);
        state_section_end(&io);
        len = state_save_finish(&io);
        ck_assert_uint_gt(len, 0);
        memset(&pic, 0, sizeof pic);
        state_load_init(&io, buf, len);
        ck_assert(state_section_next(&io) && state_section_accept(&io, 1));
        ck_assert_int_eq(dev_pic_class.xfer(&pic, &io), 0);
        ck_assert_mem_eq(&pic, &before, sizeof pic);
    }
}
END_TEST

static Suite *pic_suite(void)
{
    Suite *suite = suite_create("pic");
    TCase *tc = tcase_create("pic");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, every_line_has_its_vector);
    tcase_add_test(tc, edge_and_level);
    tcase_add_test(tc, spurious_on_the_slave);
    tcase_add_test(tc, slave_request_survives_auto_eoi);
    tcase_add_test(tc, elcr_bits);
    tcase_add_test(tc, every_mask_and_every_request);
    tcase_add_test(tc, poll_and_modes);
    tcase_add_test(tc, icw1_clears_edges);
    tcase_add_test(tc, nothing_before_icw);
    tcase_add_test(tc, random_against_model);
    tcase_add_test(tc, every_field_is_saved);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(pic_suite)
