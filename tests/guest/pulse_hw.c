/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/pulse_hw.h"

#include "tests/guest/record.h"

#define PIT_HZ      1193182
#define SERIAL_BASE 0x3f8
#define PM_BASE     0x600
#define FW_CFG_SEL  0x510
#define FW_CFG_DATA 0x511

volatile uint32_t pulse_ticks, pulse_wakes;
volatile bool pulse_power_button;
uint8_t pulse_tick_to_debug;
uint32_t pulse_hz;
uint32_t serial_lines_dropped;

static bool pm_present;

/* What the compiler may call. */
void *memcpy(void *to, const void *from, size_t len);
void *memcpy(void *to, const void *from, size_t len)
{
    void *at = to;

    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(len) : : "memory");
    return to;
}

void *memset(void *to, int value, size_t len);
void *memset(void *to, int value, size_t len)
{
    void *at = to;

    __asm__ volatile("rep stosb" : "+D"(at), "+c"(len) : "a"(value) : "memory");
    return to;
}

/* Interrupts and time -------------------------------------------------------------------
 */

/* IRQ n at vector 0x20 + n. PCI-style lines 5, 9, 10, 11 are level triggered (ELCR). */
void hw_pic_init(void)
{
    out8(0x20, 0x11);
    out8(0xa0, 0x11);
    out8(0x21, 0x20);
    out8(0xa1, 0x28);
    out8(0x21, 0x04);
    out8(0xa1, 0x02);
    out8(0x21, 0x01);
    out8(0xa1, 0x01);
    out8(0x4d0, 1u << 5);
    out8(0x4d1, (1u << 1) | (1u << 2) | (1u << 3));
    hw_pic_unmask();
}

void hw_pic_unmask(void)
{
    /* All but keyboard, both serial ports, and RTC: the others are timer, cascade, virtio
     * (QEMU: 5-12) and SCI. */
    out8(0x21, (1u << 1) | (1u << 3) | (1u << 4));
    out8(0xa1, 1u << 0);
}

void hw_pic_mask(uint32_t irq)
{
    uint16_t port = irq < 8 ? 0x21 : 0xa1;

    out8(port, (uint8_t)(in8(port) | 1u << (irq & 7)));
}

void hw_pit_init(uint32_t hz)
{
    uint32_t divisor = PIT_HZ / hz;

    pulse_hz = hz;
    out8(0x43, 0x34); /* counter 0, low then high, rate generator */
    out8(0x40, (uint8_t)divisor);
    out8(0x40, (uint8_t)(divisor >> 8));
}

/* PM1a event block at 0x600: status, enable. Absent ports read as all ones (microvm). */
void hw_pm_init(void)
{
    pm_present = in16(PM_BASE) != 0xffff;
    if (pm_present) {
        pulse_power_button =
            (in16(PM_BASE) & 0x100) != 0; /* pressed while we were starting */
        out16(PM_BASE + 2, 0x100);        /* PWRBTN_EN */
    } else {
        /* QEMU's microvm has a local APIC in the way: enable it, LINT0 passes the 8259 on
         * (ExtINT). */
        *(volatile uint32_t *)UINT64_C(0xfee000f0) = 0x1ff;
        *(volatile uint32_t *)UINT64_C(0xfee00350) = 0x700;
    }
}

void hw_idle(uint32_t seen_wakes)
{
    cpu_irqs_off();
    if (pulse_wakes == seen_wakes) {
        cpu_irqs_on_and_halt();
    } else {
        cpu_irqs_on();
    }
}

/* Called by virtio's part of the interrupt handler for the lines it shares with. */
void hw_pm_irq(void);
void hw_pm_irq(void)
{
    if (pm_present && (in16(PM_BASE) & 0x100) != 0) {
        out16(PM_BASE, 0x100);
        pulse_power_button = true;
    }
}

static _Noreturn void triple_fault(void)
{
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) empty = {0, 0};

    __asm__ volatile("lidt %0; ud2" : : "m"(empty));
    __builtin_unreachable();
}

_Noreturn void hw_power_off(void)
{
    serial_drain();
    cpu_irqs_off();
    out16(PM_BASE + 4, 1u << 13); /* PM1a_CNT: SLP_EN; S5 is type 0 here, as on PIIX4 */
    /* Machines without it (microvm -no-reboot) end by a triple fault. */
    triple_fault();
}

_Noreturn void hw_reset(void)
{
    serial_drain();
    cpu_irqs_off();
    out8(0xcf9, 0x02);
    out8(0xcf9, 0x06);
    triple_fault();
}

_Noreturn void hw_crash(void)
{
    serial_drain();
    triple_fault();
}

_Noreturn void hw_hang(void)
{
    serial_drain();
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

static uint8_t cmos_read(uint8_t index)
{
    out8(0x70, index);
    return in8(0x71);
}

uint32_t hw_entropy(void)
{
    uint32_t mix;

    out8(0x43, 0x00); /* latch counter 0 */
    mix = in8(0x40);
    mix |= (uint32_t)in8(0x40) << 8;
    mix ^= (uint32_t)cmos_read(0) << 24 | (uint32_t)cmos_read(2) << 16;
    return mix ^ (uint32_t)cmos_read(4) << 9;
}

/* fw_cfg --------------------------------------------------------------------------------
 */

void fw_cfg_read(uint16_t selector, void *to, size_t len)
{
    out16(FW_CFG_SEL, selector);
    in8_string(FW_CFG_DATA, to, len);
}

static bool fw_cfg_present(void)
{
    uint8_t id[4];

    fw_cfg_read(0, id, sizeof(id));
    return id[0] == 'Q' && id[1] == 'E' && id[2] == 'M' && id[3] == 'U';
}

static bool name_equals(const char *name, const char *other, size_t cap)
{
    for (size_t i = 0; i < cap; i++) {
        if (name[i] != other[i]) {
            return false;
        }
        if (name[i] == '\0') {
            return true;
        }
    }
    return false;
}

bool fw_cfg_find(const char *name, uint16_t *ret_selector, size_t *ret_len)
{
    struct {
        uint32_t size_be;
        uint16_t select_be, reserved;
        char name[56];
    } entry;
    uint32_t count;

    if (!fw_cfg_present()) {
        return false;
    }
    fw_cfg_read(0x19, &count, sizeof(count));
    count = __builtin_bswap32(count);
    for (uint32_t i = 0; i < count && i < 256; i++) {
        in8_string(FW_CFG_DATA, &entry, sizeof(entry));
        if (name_equals(name, entry.name, sizeof(entry.name))) {
            *ret_selector = __builtin_bswap16(entry.select_be);
            *ret_len = __builtin_bswap32(entry.size_be);
            return true;
        }
    }
    return false;
}

uint64_t fw_cfg_ram_size(void)
{
    uint64_t size = 0;

    if (fw_cfg_present()) {
        fw_cfg_read(3, &size, sizeof(size));
    }
    return size;
}

/* Console -------------------------------------------------------------------------------
 */

#define QUEUE_BYTES 4096
#define LINE_BYTES  256

static char queue[QUEUE_BYTES];
static uint32_t queue_head, queue_tail; /* free running */
static char line[LINE_BYTES];
static uint32_t line_len;

void serial_init(void)
{
    out8(SERIAL_BASE + 1, 0x00);
    out8(SERIAL_BASE + 3, 0x80);
    out8(SERIAL_BASE + 0, 0x01); /* 115200 */
    out8(SERIAL_BASE + 1, 0x00);
    out8(SERIAL_BASE + 3, 0x03); /* 8n1 */
    out8(SERIAL_BASE + 2, 0x07); /* FIFOs on and empty: 16 bytes may follow each THRE */
    out8(SERIAL_BASE + 4, 0x0b);
}

bool serial_pump(void)
{
    uint32_t at = queue_tail % QUEUE_BYTES, count = queue_head - queue_tail;

    if (count == 0 || (in8(SERIAL_BASE + 5) & 0x20) == 0) {
        return false;
    }
    count = count < 16 ? count : 16;
    count = count < QUEUE_BYTES - at ? count : QUEUE_BYTES - at;
    out8_string(SERIAL_BASE, queue + at, count);
    queue_tail += count;
    return true;
}

void serial_drain(void)
{
    /* Bounded: a console nobody reads must not keep the machine from stopping. */
    for (uint32_t tries = 0; queue_head != queue_tail && tries < 100000; tries++) {
        serial_pump();
    }
}

static void line_char(char c)
{
    if (line_len < LINE_BYTES - 1) {
        line[line_len++] = c;
    }
}

/* Interpreted guests pay for every instruction: few of them per character. */
void line_text(const char *text)
{
    char *to = line + line_len, *end = line + LINE_BYTES - 1;

    while (*text != '\0' && to < end) {
        *to++ = *text++;
    }
    line_len = (uint32_t)(to - line);
}

void line_u64(uint64_t value)
{
    char digits[20];
    unsigned count = 0;

    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (count > 0) {
        line_char(digits[--count]);
    }
}

void line_hex(uint64_t value)
{
    int shift = 60;

    while (shift > 0 && (value >> shift & 15) == 0) {
        shift -= 4;
    }
    line_text("0x");
    for (; shift >= 0; shift -= 4) {
        line_char("0123456789abcdef"[value >> shift & 15]);
    }
}

void line_ip(uint32_t ip)
{
    for (int shift = 24; shift >= 0; shift -= 8) {
        line_u64(ip >> shift & 255);
        if (shift > 0) {
            line_char('.');
        }
    }
}

void line_mac(const uint8_t mac[6])
{
    for (int i = 0; i < 6; i++) {
        line_char("0123456789abcdef"[mac[i] >> 4]);
        line_char("0123456789abcdef"[mac[i] & 15]);
        if (i < 5) {
            line_char(':');
        }
    }
}

void line_end(void)
{
    uint32_t at = queue_head % QUEUE_BYTES, first;

    line[line_len++] = '\n';
    first = line_len < QUEUE_BYTES - at ? line_len : QUEUE_BYTES - at;
    if (QUEUE_BYTES - (queue_head - queue_tail) < line_len) {
        serial_lines_dropped++;
    } else {
        memcpy(queue + at, line, first);
        memcpy(queue, line + first, line_len - first);
        queue_head += line_len;
    }
    line_len = 0;
}
