/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_uart.h"

#include <string.h>

enum uart_reg {
    REG_DATA = 0,
    REG_IER,
    REG_IIR_FCR,
    REG_LCR,
    REG_MCR,
    REG_LSR,
    REG_MSR,
    REG_SCR
};

#define IER_RX       0x01
#define IER_THRE     0x02
#define IER_LINE     0x04
#define IER_MODEM    0x08
#define IIR_NONE     0x01
#define IIR_MODEM    0x00
#define IIR_THRE     0x02
#define IIR_RX       0x04
#define IIR_LINE     0x06
#define IIR_TIMEOUT  0x0C
#define IIR_FIFOS_ON 0xC0
#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define FCR_KEPT     0xC9 /* enable, DMA mode, trigger */
#define LCR_DLAB     0x80
#define MCR_DTR      0x01
#define MCR_RTS      0x02
#define MCR_OUT1     0x04
#define MCR_OUT2     0x08
#define MCR_LOOP     0x10
#define MCR_WRITABLE 0x1F
#define LSR_DR       0x01
#define LSR_OE       0x02
#define LSR_TX_EMPTY 0x60 /* THRE and TEMT */
#define MSR_CTS      0x10
#define MSR_DSR      0x20
#define MSR_RI       0x40
#define MSR_DCD      0x80
#define MSR_TERI     0x04

static void ring_push(struct uart_ring *ring, uint8_t byte)
{
    ring->byte[(ring->first + ring->count) % UART_WIRE_LEN] = byte;
    ring->count++;
}

static uint8_t ring_pop(struct uart_ring *ring)
{
    uint8_t byte = ring->byte[ring->first];

    ring->first = (uint16_t)((ring->first + 1) % UART_WIRE_LEN);
    ring->count--;
    return byte;
}

static unsigned fifo_cap(const struct dev_uart *uart)
{
    return (uart->fcr & FCR_ENABLE) != 0 ? UART_FIFO_LEN : 1;
}

static void refill(struct dev_uart *uart)
{
    while (uart->wire.count > 0 && uart->fifo.count < fifo_cap(uart)) {
        ring_push(&uart->fifo, ring_pop(&uart->wire));
    }
}

static unsigned rx_trigger(const struct dev_uart *uart)
{
    static const uint8_t trigger[4] = {1, 4, 8, 14};

    return (uart->fcr & FCR_ENABLE) != 0 ? trigger[uart->fcr >> 6] : 1;
}

/* Bits 4-7 of MSR: a peer that is always ready, or our own outputs when looped back. */
static uint8_t modem_lines(uint8_t mcr)
{
    if ((mcr & MCR_LOOP) == 0) {
        return MSR_DCD | MSR_DSR | MSR_CTS;
    }
    return (uint8_t)(((mcr & MCR_RTS) != 0 ? MSR_CTS : 0) |
                     ((mcr & MCR_DTR) != 0 ? MSR_DSR : 0) |
                     ((mcr & MCR_OUT1) != 0 ? MSR_RI : 0) |
                     ((mcr & MCR_OUT2) != 0 ? MSR_DCD : 0));
}

/* The pending interrupt of highest priority, as IIR shows it. The receive timeout needs
 * no clock: a FIFO below its trigger counts as timed out at once. */
static uint8_t interrupt_id(const struct dev_uart *uart)
{
    if ((uart->ier & IER_LINE) != 0 && uart->overrun) {
        return IIR_LINE;
    }
    if ((uart->ier & IER_RX) != 0 && uart->fifo.count > 0) {
        return uart->fifo.count >= rx_trigger(uart) ? IIR_RX : IIR_TIMEOUT;
    }
    if ((uart->ier & IER_THRE) != 0 && uart->thre_pending) {
        return IIR_THRE;
    }
    if ((uart->ier & IER_MODEM) != 0 && uart->msr_delta != 0) {
        return IIR_MODEM;
    }
    return IIR_NONE;
}

static void update_irq(const struct dev_uart *uart, struct effects *fx)
{
    effects_irq(fx, interrupt_id(uart) != IIR_NONE);
}

static void write_data(struct dev_uart *uart, uint8_t byte, struct effects *fx)
{
    if ((uart->mcr & MCR_LOOP) == 0) {
        effects_byte(fx, byte);
    } else if (uart->fifo.count < fifo_cap(uart)) {
        ring_push(&uart->fifo, byte);
    } else {
        uart->overrun = true;
    }
    uart->thre_pending = true; /* sent at once: empty again */
}

static void write_fcr(struct dev_uart *uart, uint8_t value)
{
    bool toggled = ((uart->fcr ^ value) & FCR_ENABLE) != 0;

    uart->fcr = (value & FCR_ENABLE) != 0 ? value & FCR_KEPT : 0;
    if (toggled || (value & FCR_CLEAR_RX) != 0) {
        uart->fifo.first = uart->fifo.count = 0;
    }
}

static void write_mcr(struct dev_uart *uart, uint8_t value)
{
    uint8_t before = modem_lines(uart->mcr), after;

    uart->mcr = value & MCR_WRITABLE;
    after = modem_lines(uart->mcr);
    uart->msr_delta |= (uint8_t)((before ^ after) >> 4) & (uint8_t)~MSR_TERI;
    if ((before & MSR_RI) != 0 &&
        (after & MSR_RI) == 0) { /* only the trailing edge counts */
        uart->msr_delta |= MSR_TERI;
    }
}

static void uart_write(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                       uint64_t value, struct effects *fx)
{
    struct dev_uart *uart = dev;
    uint8_t byte = (uint8_t)value;
    bool dlab = (uart->lcr & LCR_DLAB) != 0;

    (void)gm;
    (void)len;
    switch ((enum uart_reg)(offset & 7)) {
    case REG_DATA:
        if (dlab) {
            uart->dll = byte;
        } else {
            write_data(uart, byte, fx);
        }
        break;
    case REG_IER:
        if (dlab) {
            uart->dlm = byte;
            break;
        }
        if ((byte & ~uart->ier & IER_THRE) != 0) {
            uart->thre_pending = true; /* enabling it while empty asks at once */
        }
        uart->ier = byte & 0x0F;
        break;
    case REG_IIR_FCR:
        write_fcr(uart, byte);
        break;
    case REG_LCR:
        uart->lcr = byte;
        break;
    case REG_MCR:
        write_mcr(uart, byte);
        break;
    case REG_LSR:
    case REG_MSR: /* factory test only */
        break;
    case REG_SCR:
        uart->scr = byte;
        break;
    }
    refill(uart);
    update_irq(uart, fx);
}

static uint8_t read_iir(struct dev_uart *uart)
{
    uint8_t id = interrupt_id(uart);

    if (id == IIR_THRE) {
        uart->thre_pending = false;
    }
    return id | ((uart->fcr & FCR_ENABLE) != 0 ? IIR_FIFOS_ON : 0);
}

static uint8_t read_lsr(struct dev_uart *uart)
{
    uint8_t lsr = LSR_TX_EMPTY;

    if (uart->fifo.count > 0) {
        lsr |= LSR_DR;
    }
    if (uart->overrun) {
        lsr |= LSR_OE;
    }
    uart->overrun = false;
    return lsr;
}

static uint8_t read_msr(struct dev_uart *uart)
{
    uint8_t msr = modem_lines(uart->mcr) | uart->msr_delta;

    uart->msr_delta = 0;
    return msr;
}

static uint8_t read_register(struct dev_uart *uart, enum uart_reg reg)
{
    bool dlab = (uart->lcr & LCR_DLAB) != 0;

    switch (reg) {
    case REG_DATA:
        if (dlab) {
            return uart->dll;
        }
        return uart->fifo.count > 0 ? ring_pop(&uart->fifo) : 0;
    case REG_IER:
        return dlab ? uart->dlm : uart->ier;
    case REG_IIR_FCR:
        return read_iir(uart);
    case REG_LCR:
        return uart->lcr;
    case REG_MCR:
        return uart->mcr;
    case REG_LSR:
        return read_lsr(uart);
    case REG_MSR:
        return read_msr(uart);
    case REG_SCR:
        return uart->scr;
    }
    return 0xFF;
}

static uint64_t uart_read(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                          struct effects *fx)
{
    struct dev_uart *uart = dev;
    uint8_t value = read_register(uart, (enum uart_reg)(offset & 7));

    (void)gm;
    (void)len;
    refill(uart);
    update_irq(uart, fx);
    return value;
}

uint32_t dev_uart_rx_room(const struct dev_uart *uart)
{
    return UART_WIRE_LEN - (uint32_t)uart->wire.count;
}

static void uart_input(void *dev, struct gmem *gm, const struct dev_input *in,
                       struct effects *fx)
{
    struct dev_uart *uart = dev;

    (void)gm;
    if (in->type != INPUT_SERIAL_RX) {
        return;
    }
    for (uint32_t i = 0; i < in->len; i++) {
        if (uart->wire.count < UART_WIRE_LEN) {
            ring_push(&uart->wire, in->data[i]);
        } else {
            uart->overrun = true;
            uart->lost++;
            fx->dropped++;
        }
    }
    refill(uart);
    update_irq(uart, fx);
}

static void uart_reset(void *dev, struct effects *fx)
{
    struct dev_uart *uart = dev;
    uint64_t lost = uart->lost;

    memset(uart, 0, sizeof *uart);
    uart->lost = lost;
    uart->dll = 12; /* 9600 baud, for who reads it back */
    effects_irq(fx, false);
}

static void ring_xfer(struct uart_ring *ring, unsigned cap, struct state_io *io)
{
    state_u16(io, &ring->first);
    state_u16(io, &ring->count);
    if (ring->first >= UART_WIRE_LEN || ring->count > cap) {
        state_refuse(io, "ring");
        ring->first = ring->count = 0;
    }
    state_bytes(io, ring->byte, sizeof ring->byte);
}

static int uart_xfer(void *dev, struct state_io *io)
{
    struct dev_uart *uart = dev;

    state_u8(io, &uart->ier);
    state_u8(io, &uart->fcr);
    state_u8(io, &uart->lcr);
    state_u8(io, &uart->mcr);
    state_u8(io, &uart->scr);
    state_u8(io, &uart->dll);
    state_u8(io, &uart->dlm);
    state_u8(io, &uart->msr_delta);
    state_bool(io, &uart->thre_pending);
    state_bool(io, &uart->overrun);
    ring_xfer(&uart->fifo, fifo_cap(uart), io);
    ring_xfer(&uart->wire, UART_WIRE_LEN, io);
    state_u64(io, &uart->lost);
    if (uart->ier > 0x0F || uart->msr_delta > 0x0F || (uart->mcr & ~MCR_WRITABLE) != 0) {
        state_refuse(io, "registers");
    }
    if ((uart->fcr & ~FCR_KEPT) != 0) {
        state_refuse(io, "fcr");
    }
    return state_end(io);
}

const struct dev_class dev_uart_class = {
    .name = "uart",
    .version = 1,
    .min_reader = 1,
    .state_size = sizeof(struct dev_uart),
    .reset = uart_reset,
    .read = uart_read,
    .write = uart_write,
    .input = uart_input,
    .xfer = uart_xfer,
};
