/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/pulse_hw.h"

_Noreturn void pulse_main(void);
_Noreturn void pulse_exception(uint64_t vector, uint64_t error, uint64_t rip, uint64_t address);
void pulse_irq(uint32_t irq);

_Noreturn void pulse_exception(uint64_t vector, uint64_t error, uint64_t rip, uint64_t address)
{
    line_text("pulse: PANIC exception=");
    line_u64(vector);
    line_text(" error=");
    line_hex(error);
    line_text(" rip=");
    line_hex(rip);
    line_text(" cr2=");
    line_hex(address);
    line_end();
    hw_power_off();
}

void pulse_irq(uint32_t irq)
{
    pulse_wakes++;
    if (irq >= 8) {
        out8(0xa0, 0x20);
    }
    out8(0x20, 0x20);
}

_Noreturn void pulse_main(void)
{
    char cmdline[256];
    size_t len = 0;

    serial_init();
    line_text("pulse: hello");
    line_end();
    serial_drain();
    if (fw_cfg_file("opt/gemel/cmdline", cmdline, sizeof(cmdline) - 1, &len)) {
        cmdline[len] = '\0';
        line_text(cmdline);
        line_end();
    }
    hw_pic_init();
    hw_pm_init();
    hw_pit_init(100);
    cpu_irqs_on();
    for (;;) {
        uint32_t wakes = pulse_wakes;

        if (pulse_ticks % 100 == 0) {
            line_text("tick ");
            line_u64(pulse_ticks);
            line_end();
        }
        if (pulse_ticks >= 300) {
            hw_power_off();
        }
        serial_drain();
        hw_idle(wakes);
    }
}
