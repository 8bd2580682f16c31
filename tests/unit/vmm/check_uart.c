/* SPDX-License-Identifier: Apache-2.0 */
/* The 16550: every register with every value, interrupt identities, FIFO levels,
 * loopback, bounds. */
#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/dev_uart.h"

static struct dev_uart uart;
static struct effects fx;
static bool line; /* the interrupt pin as the effects have moved it */

static void take_effects(void)
{
    if (fx.irq_set) {
        line = fx.irq_level;
    }
}

static void out(unsigned reg, uint8_t value)
{
    effects_clear(&fx);
    dev_uart_class.write(&uart, NULL, reg, 1, value, &fx);
    take_effects();
}

static uint8_t in(unsigned reg)
{
    uint64_t value;

    effects_clear(&fx);
    value = dev_uart_class.read(&uart, NULL, reg, 1, &fx);
    take_effects();
    return (uint8_t)value;
}

static void receive(const char *text, uint32_t len)
{
    struct dev_input input = {
        .type = INPUT_SERIAL_RX, .data = (const uint8_t *)text, .len = len};

    effects_clear(&fx);
    dev_uart_class.input(&uart, NULL, &input, &fx);
    take_effects();
}

static void setup(void)
{
    memset(&uart, 0, sizeof uart);
    line = false;
    effects_clear(&fx);
    dev_uart_class.reset(&uart, &fx);
}

START_TEST(registers)
{
    for (unsigned value = 0; value < 256; value++) {
        uint8_t v = (uint8_t)value;

        setup();
        out(7, v);
        ck_assert_uint_eq(in(7), v);
        out(1, v);
        ck_assert_uint_eq(in(1), v & 0x0F);
        out(1, 0);
        out(4, v);
        ck_assert_uint_eq(in(4), v & 0x1F);
        out(4, 0);
        out(2, v); /* FCR: seen only in IIR */
        ck_assert_uint_eq(in(2), (v & 1) != 0 ? 0xC1 : 0x01);
        out(5, v); /* LSR and MSR cannot be written */
        out(6, v);
        ck_assert_uint_eq(in(5), 0x60);
        in(6);
        ck_assert_uint_eq(in(6), 0xB0);
        out(3, v);
        ck_assert_uint_eq(in(3), v);
        out(3, 0x80);
        out(0, v);
        out(1, (uint8_t)~v);
        ck_assert_uint_eq(in(0), v);
        ck_assert_uint_eq(in(1), (uint8_t)~v);
        ck_assert_uint_eq(fx.byte_count, 0); /* divisor bytes are not sent */
        out(3, 0x03);
        ck_assert_uint_eq(in(1), 0);
        out(0, v);
        ck_assert_uint_eq(fx.byte_count, 1);
        ck_assert_uint_eq(fx.bytes[0], v);
    }
}
END_TEST

START_TEST(transmit_interrupt)
{
    setup();
    ck_assert(!line);
    out(1, 0x02);
    ck_assert(line); /* empty when enabled */
    ck_assert_uint_eq(in(2), 0x02);
    ck_assert(!line); /* reading IIR took it back */
    ck_assert_uint_eq(in(2), 0x01);
    out(0, 'x');
    ck_assert(line);
    ck_assert_uint_eq(in(2), 0x02);
    out(1, 0x02); /* no new enabling: no new interrupt */
    ck_assert(!line);
    out(1, 0x00);
    out(1, 0x02);
    ck_assert(line);
    out(1, 0x00);
    ck_assert(!line);
}
END_TEST

START_TEST(fifo_levels)
{
    static const unsigned trigger[4] = {1, 4, 8, 14};

    for (unsigned t = 0; t < 4; t++) {
        for (unsigned count = 0; count <= UART_FIFO_LEN; count++) {
            setup();
            out(2, (uint8_t)(t << 6 | 1));
            out(1, 0x01);
            receive("0123456789abcdef", count);
            ck_assert_int_eq(line, count > 0);
            ck_assert_uint_eq(in(2), count == 0            ? 0xC1
                                     : count >= trigger[t] ? 0xC4
                                                           : 0xCC);
            ck_assert_uint_eq(in(5) & 1, count > 0);
            for (unsigned i = 0; i < count; i++) {
                ck_assert_uint_eq(in(0), "0123456789abcdef"[i]);
            }
            ck_assert(!line);
            ck_assert_uint_eq(in(0), 0);
        }
    }
}
END_TEST

START_TEST(wire_and_overrun)
{
    char text[SERIAL_RX_MAX];
    unsigned sent = 0, got = 0;

    setup();
    out(2, 0x01);
    out(1, 0x05);
    for (unsigned round = 0; round < 8; round++) {
        for (unsigned i = 0; i < sizeof text; i++) {
            text[i] = (char)(sent + i);
        }
        receive(text, sizeof text);
        sent += sizeof text;
    }
    ck_assert_uint_eq(uart.lost, sent - UART_FIFO_LEN - UART_WIRE_LEN);
    ck_assert_uint_eq(in(2), 0xC6); /* overrun first */
    ck_assert_uint_eq(in(5), 0x63);
    ck_assert_uint_eq(in(5), 0x61); /* read once */
    while ((in(5) & 1) != 0) {
        ck_assert_uint_eq(in(0), (uint8_t)got);
        got++;
    }
    ck_assert_uint_eq(got, UART_FIFO_LEN + UART_WIRE_LEN);
    receive("ab", 2);
    out(2, 0x03); /* clears the FIFO */
    ck_assert_uint_eq(in(5) & 1, 0);
    out(2, 0x00); /* without FIFOs one byte at a time, nothing lost */
    receive("xyz", 3);
    ck_assert_uint_eq(in(0), 'x');
    ck_assert_uint_eq(in(0), 'y');
    ck_assert_uint_eq(in(0), 'z');
}
END_TEST

START_TEST(loopback)
{
    for (unsigned mcr = 0; mcr < 32; mcr++) {
        uint8_t expected = 0xB0;

        setup();
        out(4, (uint8_t)mcr);
        if ((mcr & 0x10) != 0) {
            expected = (uint8_t)((mcr & 1) << 5 | (mcr & 2) << 3 | (mcr & 4) << 4 |
                                 (mcr & 8) << 4);
        }
        ck_assert_uint_eq(in(6) & 0xF0, expected);
        ck_assert_uint_eq(in(6) & 0x0F, 0); /* changes are told once */
    }
    setup();
    out(2, 0x01);
    out(4, 0x10);
    in(6);
    out(1, 0x0D);
    for (unsigned i = 0; i < 20; i++) {
        out(0, (uint8_t)('a' + i));
        ck_assert_uint_eq(fx.byte_count, 0); /* nothing leaves */
    }
    ck_assert_uint_eq(in(5), 0x63); /* four too many */
    ck_assert_uint_eq(in(0), 'a');
    out(2, 0x03);
    out(4, 0x14); /* OUT1 drives RI: only its falling edge is reported */
    ck_assert_uint_eq(in(2), 0xC1);
    out(4, 0x10);
    ck_assert_uint_eq(in(2), 0xC0);
    ck_assert_uint_eq(in(6), 0x04);
    ck_assert(!line);
}
END_TEST

START_TEST(flood)
{
    uint8_t bytes[SERIAL_RX_MAX] = {0};

    setup();
    out(2, 0xC1);
    for (unsigned i = 0; i < 1000000;
         i++) { /* nobody reads: everything stays in bounds */
        out(0, (uint8_t)i);
        ck_assert_uint_eq(fx.byte_count, 1);
        if (i % 16 == 0) {
            receive((const char *)bytes, sizeof bytes);
        }
    }
    ck_assert_uint_eq(uart.fifo.count, UART_FIFO_LEN);
    ck_assert_uint_eq(uart.wire.count, UART_WIRE_LEN);
    ck_assert_uint_eq(dev_uart_rx_room(&uart), 0);
}
END_TEST

static Suite *uart_suite(void)
{
    Suite *suite = suite_create("uart");
    TCase *tc = tcase_create("uart");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, registers);
    tcase_add_test(tc, transmit_interrupt);
    tcase_add_test(tc, fifo_levels);
    tcase_add_test(tc, wire_and_overrun);
    tcase_add_test(tc, loopback);
    tcase_add_test(tc, flood);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(uart_suite)
