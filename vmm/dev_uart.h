/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A (National PC16550D datasheet). Sending takes no time: the transmitter is
 * always empty. Received bytes wait in a bounded "wire" behind the 16-byte FIFO, so that
 * a host may paste more than a FIFO full; what does not fit there is lost and shows as an
 * overrun. The interrupt pin is a level, as on the chip; OUT2 does not gate it (firmware
 * forgets that).
 */
#pragma once

#include "vmm/dev.h"

#define UART_FIFO_LEN 16
#define UART_WIRE_LEN 256

struct uart_ring {
    uint8_t byte[UART_WIRE_LEN];
    uint16_t first, count;
};

struct dev_uart {
    uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
    uint8_t msr_delta; /* bits 0-3 of MSR */
    bool thre_pending, overrun;
    struct uart_ring fifo; /* at most UART_FIFO_LEN, or 1 with FIFOs off */
    struct uart_ring wire;
    uint64_t lost; /* received bytes that found no room */
};

extern const struct dev_class dev_uart_class;

/* Bytes that INPUT_SERIAL_RX can deliver now without loss. */
uint32_t dev_uart_rx_room(const struct dev_uart *uart);
