/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pulse: the chips of the lockstep machine (design 6) and of QEMU's microvm: 8259 pair,
 * 8254, 16550, PM1a, fw_cfg. One CPU, no threads. Interrupt handlers only acknowledge and
 * set flags; all work is done by the main loop.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline uint16_t in16(uint16_t port)
{
    uint16_t value;

    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline void in8_string(uint16_t port, void *to, size_t len)
{
    __asm__ volatile("rep insb" : "+D"(to), "+c"(len) : "d"(port) : "memory");
}

static inline void out8_string(uint16_t port, const void *from, size_t len)
{
    __asm__ volatile("rep outsb" : "+S"(from), "+c"(len) : "d"(port) : "memory");
}

static inline void fill64(void *to, uint64_t value, size_t count)
{
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory");
}

static inline void cpu_irqs_off(void)
{
    __asm__ volatile("cli" : : : "memory");
}

static inline void cpu_irqs_on(void)
{
    __asm__ volatile("sti" : : : "memory");
}

/* sti takes effect after the next instruction: no interrupt can slip in between and be
 * slept through. */
static inline void cpu_irqs_on_and_halt(void)
{
    __asm__ volatile("sti; hlt" : : : "memory");
}

/* Written by the interrupt handlers. wakes counts every interrupt, ticks the timer's. */
extern volatile uint32_t pulse_ticks, pulse_wakes;
extern volatile bool pulse_power_button;
extern uint8_t pulse_tick_to_debug; /* the timer handler writes '.' to the debug port */
extern uint32_t pulse_hz;

/* One byte on the debug port: milestones of the start, to be timed from outside. */
static inline void hw_milestone(char c)
{
    out8(0x402, (uint8_t)c);
}

void hw_pic_init(void);
void hw_pic_mask(uint32_t irq);
void hw_pic_unmask(void); /* all lines in use */
void hw_pit_init(uint32_t hz);
void hw_pm_init(void);
/* Sleeps until the next interrupt, unless one came since `seen_wakes` was read. */
void hw_idle(uint32_t seen_wakes);
_Noreturn void hw_power_off(void);
_Noreturn void hw_reset(void);
_Noreturn void hw_crash(void); /* triple fault */
_Noreturn void hw_hang(void);  /* interrupts off, for good */
/* Not two boots alike where there is a clock: from the RTC and the timer's count. */
uint32_t hw_entropy(void);

/* The selector and size of a fw_cfg file; false if there is none. */
bool fw_cfg_find(const char *name, uint16_t *ret_selector, size_t *ret_len);
/* The first len bytes of a file; cheap enough to ask again. */
void fw_cfg_read(uint16_t selector, void *to, size_t len);
/* RAM size in bytes as the machine states it, 0 if it does not. */
uint64_t fw_cfg_ram_size(void);

/*
 * Console: a line is put together with the line_ functions and queued whole by
 * line_end(), or dropped whole and counted when the queue is full. serial_pump() moves
 * queued bytes to the 16550 as far as it takes them.
 */
void serial_init(void);
bool serial_pump(void);  /* true if it moved something */
void serial_drain(void); /* everything, before power off */
extern uint32_t serial_lines_dropped;

void line_text(const char *text);
void line_u64(uint64_t value);
void line_hex(uint64_t value);
void line_ip(uint32_t ip);
void line_mac(const uint8_t mac[6]);
void line_end(void);
