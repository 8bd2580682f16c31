/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_priv.h"

#include "vmm/dev_debug.h"
#include "vmm/dev_fwcfg.h"
#include "vmm/dev_i6300esb.h"
#include "vmm/dev_pic.h"
#include "vmm/dev_pit.h"
#include "vmm/dev_pm.h"
#include "vmm/dev_pvpanic.h"
#include "vmm/dev_reset.h"
#include "vmm/dev_rtc.h"
#include "vmm/dev_uart.h"

/* In the order in which they are reset, saved and woken. */
static const struct board_dev lockstep_dev[MACHINE_DEV_VIRTIO0] = {
    [MACHINE_DEV_PIC] = {&dev_pic_class,
                         NO_LINE,
                         {{0x20, 2, PIC_OFFSET_MASTER, 1},
                          {0xA0, 2, PIC_OFFSET_SLAVE, 1},
                          {0x4D0, 2, PIC_OFFSET_ELCR, 1}}},
    [MACHINE_DEV_PIT] = {&dev_pit_class,
                         0,
                         {{0x40, 4, 0, 1}, {0x61, 1, PIT_OFFSET_PORT61, 1}}},
    [MACHINE_DEV_PM] = {&dev_pm_class,
                        BOARD_SCI_IRQ,
                        {{BOARD_PM_PORT, PM_RANGE_LEN, 0, 4}}},
    [MACHINE_DEV_RTC] = {&dev_rtc_class,
                         BOARD_RTC_IRQ,
                         {{BOARD_RTC_PORT, 2, RTC_OFFSET_INDEX, 1}}},
    [MACHINE_DEV_SERIAL] = {&dev_uart_class,
                            BOARD_SERIAL_IRQ,
                            {{BOARD_SERIAL_PORT, 8, 0, 1}}},
    [MACHINE_DEV_DEBUG] = {&dev_debug_class, NO_LINE, {{BOARD_DEBUG_PORT, 1, 0, 1}}},
    [MACHINE_DEV_RESET] = {&dev_reset_class,
                           NO_LINE,
                           {{BOARD_RESET_PORT, 1, RESET_OFFSET_CF9, 1},
                            {BOARD_KBD_PORT, 1, RESET_OFFSET_KBD, 1}}},
    [MACHINE_DEV_FWCFG] = {&dev_fwcfg_class,
                           NO_LINE,
                           {{BOARD_FWCFG_PORT, 2, FWCFG_OFFSET_SELECT, 2},
                            {BOARD_FWCFG_DMA_PORT, FWCFG_DMA_RANGE_LEN, FWCFG_OFFSET_DMA,
                             4}}},
};

/* Interrupt controllers and the 8254 are KVM's. 0xCF9 lies among the host bridge's ports,
 * which pass it on. The host bridge's ECAM window, and BARs: machine_pci.c. */
static const struct board_dev standard_dev[MACHINE_DEV_VIRTIO0] = {
    [MACHINE_DEV_PM] = {&dev_pm_class,
                        BOARD_SCI_IRQ,
                        {{BOARD_PM_PORT, PM_RANGE_LEN, 0, 4}}},
    [MACHINE_DEV_RTC] = {&dev_rtc_class,
                         BOARD_RTC_IRQ,
                         {{BOARD_RTC_PORT, 2, RTC_OFFSET_INDEX, 1}}},
    [MACHINE_DEV_SERIAL] = {&dev_uart_class,
                            BOARD_SERIAL_IRQ,
                            {{BOARD_SERIAL_PORT, 8, 0, 1}}},
    [MACHINE_DEV_DEBUG] = {&dev_debug_class, NO_LINE, {{BOARD_DEBUG_PORT, 1, 0, 1}}},
    [MACHINE_DEV_RESET] = {&dev_reset_class,
                           NO_LINE,
                           {{BOARD_KBD_PORT, 1, RESET_OFFSET_KBD, 1}}},
    [MACHINE_DEV_FWCFG] = {&dev_fwcfg_class,
                           NO_LINE,
                           {{BOARD_FWCFG_PORT, 2, FWCFG_OFFSET_SELECT, 2},
                            {BOARD_FWCFG_DMA_PORT, FWCFG_DMA_RANGE_LEN, FWCFG_OFFSET_DMA,
                             4}}},
    [MACHINE_DEV_PCI] = {&pci_host_class,
                         NO_LINE,
                         {{BOARD_PCI_PORT, 8, PCI_OFFSET_PORTS, 4}}},
    [MACHINE_DEV_PVPANIC] = {&dev_pvpanic_class,
                             NO_LINE,
                             {{BOARD_PVPANIC_PORT, 1, 0, 1}}},
    [MACHINE_DEV_WATCHDOG] = {&dev_i6300esb_class, NO_LINE, {{0}}},
};

const struct board_dev *machine_board_dev(enum machine_type type, unsigned dev_index)
{
    return type == MACHINE_STANDARD ? &standard_dev[dev_index] : &lockstep_dev[dev_index];
}

uint8_t machine_virtio_line(const struct machine_conf *conf, unsigned slot)
{
    if (conf->type == MACHINE_STANDARD) {
        return (uint8_t)(conf->transport == MACHINE_TRANSPORT_PCI
                             ? BOARD_PCI_GSI(BOARD_PCI_VIRTIO_DEV(slot))
                             : BOARD_VIRTIO_GSI(slot));
    }
    return (uint8_t)BOARD_LOCKSTEP_VIRTIO_IRQ(slot);
}
