/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-pci transport, modern only (VIRTIO 1.2, 4.1): a PCI function 1AF4:1040+id
 * over a struct virtio. BAR4 has the registers, BAR1 the MSI-X table and pending bits.
 * Vector q + 1 is usual for queue q and 0 for the configuration, but that is the driver's
 * choice. With MSI-X off, the interrupt status and INTx are used instead.
 *
 * After every call that can change something the machine asks vpci_deliver what goes out.
 */
#pragma once

#include "vmm/dev_virtio.h"
#include "vmm/msix.h"
#include "vmm/pci.h"

#define VPCI_BAR_MSIX      1
#define VPCI_BAR_REGS      4
#define VPCI_BAR_REGS_SIZE 0x4000
#define VPCI_NO_VECTOR     0xFFFF
#define VPCI_NOTIFY_STRIDE 4 /* notify_off_multiplier; queue q has offset q */

enum vpci_area { /* of BAR4; each has 4 KiB */
                 VPCI_COMMON = 0x0000,
                 VPCI_ISR = 0x1000,
                 VPCI_DEVICE = 0x2000,
                 VPCI_NOTIFY = 0x3000,
};

enum vpci_cap_type { /* cfg_type of the vendor capabilities, 4.1.4 */
                     VPCI_CAP_COMMON = 1,
                     VPCI_CAP_NOTIFY,
                     VPCI_CAP_ISR,
                     VPCI_CAP_DEVICE,
                     VPCI_CAP_PCI,
};

enum vpci_common_reg { /* 4.1.4.3 */
                       VPCI_DEVICE_FEATURE_SELECT = 0x00,
                       VPCI_DEVICE_FEATURE = 0x04,
                       VPCI_DRIVER_FEATURE_SELECT = 0x08,
                       VPCI_DRIVER_FEATURE = 0x0C,
                       VPCI_CONFIG_VECTOR = 0x10,
                       VPCI_NUM_QUEUES = 0x12,
                       VPCI_STATUS = 0x14,
                       VPCI_CONFIG_GENERATION = 0x15,
                       VPCI_QUEUE_SELECT = 0x16,
                       VPCI_QUEUE_SIZE = 0x18,
                       VPCI_QUEUE_VECTOR = 0x1A,
                       VPCI_QUEUE_ENABLE = 0x1C,
                       VPCI_QUEUE_NOTIFY_OFF = 0x1E,
                       VPCI_QUEUE_DESC = 0x20,
                       VPCI_QUEUE_DRIVER = 0x28,
                       VPCI_QUEUE_DEVICE = 0x30,
                       VPCI_QUEUE_NOTIFY_DATA = 0x38, /* not offered: 0 */
                       VPCI_QUEUE_RESET = 0x3A,       /* not offered: 0 */
                       VPCI_COMMON_LEN = 0x3C,
};

struct vpci {
    struct pci_func func;
    uint8_t window; /* offset of the PCI configuration access capability */
    struct msix msix;
    uint32_t device_features_sel, driver_features_sel;
    uint16_t queue_sel;
    uint16_t config_vector, queue_vector[VIRTIO_QUEUES_MAX];
};

/* Homes of the BARs: 0 for none. */
void vpci_init(struct vpci *vp, const struct virtio *v, uint64_t bar1, uint64_t bar4);
void vpci_reset(struct vpci *vp); /* of the bus; v is reset by its device */
/* After init, reset or load: whether v reaches memory is what the registers say. */
void vpci_settle(const struct vpci *vp, struct virtio *v);

/* len 1, 2, 4 or 8; offset within the BAR. */
uint64_t vpci_read(struct vpci *vp, struct virtio *v, unsigned bar, uint64_t offset,
                   unsigned len);
void vpci_write(struct vpci *vp, struct virtio *v, struct gmem *gm, unsigned bar,
                uint64_t offset, unsigned len, uint64_t value, struct effects *fx);
uint32_t vpci_config_read(struct vpci *vp, struct virtio *v, unsigned reg, unsigned len);
/* True: what the function decodes may have changed. */
bool vpci_config_write(struct vpci *vp, struct virtio *v, struct gmem *gm, unsigned reg,
                       unsigned len, uint32_t value, struct effects *fx);

/* Takes in what the device wants to be heard (effects.queue_irq) and returns the vectors
 * whose messages go out now; *ret_intx: level of the interrupt pin. */
uint32_t vpci_deliver(struct vpci *vp, struct virtio *v, uint32_t queue_irq,
                      bool *ret_intx);
/* The level of the interrupt pin as it is. */
bool vpci_intx(const struct vpci *vp, const struct virtio *v);
int vpci_xfer(void *vpci, struct state_io *io); /* a section of its own */
