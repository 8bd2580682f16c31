/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSI-X (PCI Local Bus 3.0, 6.8.2): a function's vector table, pending bits and their
 * masks. Message control lives in configuration space. A vector that is masked when it is
 * due stays pending and goes out when it may.
 */
#pragma once

#include "vmm/pci.h"

#define MSIX_VECTORS_MAX  (VIRTIO_QUEUES_MAX + 1)
#define MSIX_TABLE_OFFSET 0
#define MSIX_PBA_OFFSET   0x800
#define MSIX_BAR_SIZE     0x1000
#define MSIX_CAP_LEN      12
#define MSIX_CONTROL      2 /* of the capability: size, mask, enable */
#define MSIX_CONTROL_MASK 0x4000
#define MSIX_CONTROL_ON   0x8000
#define MSIX_ENTRY_LEN    16
#define MSIX_ENTRY_MASKED 1 /* in the entry's last word */

struct msix_entry {
    uint64_t address;
    uint32_t data;
    bool masked;
};

struct msix {
    /* From the configuration */
    unsigned count;
    uint8_t cap;
    /* State */
    uint32_t pending;
    struct msix_entry entry[MSIX_VECTORS_MAX];
};

/* Adds the capability to f: table and pending bits in `bar`, at the offsets above. */
void msix_init(struct msix *x, struct pci_func *f, unsigned count, unsigned bar);
void msix_reset(struct msix *x);
bool msix_on(const struct msix *x, const struct pci_func *f);
/* Aligned accesses of 4 and 8 bytes; others read 0 and are ignored, as is what lies
 * outside. */
uint64_t msix_read(const struct msix *x, uint64_t offset, unsigned len);
void msix_write(struct msix *x, uint64_t offset, unsigned len, uint64_t value);
/* Vectors beyond the table are ignored. */
void msix_raise(struct msix *x, unsigned vector);
/* The pending vectors that may go out now, which are then no longer pending. */
uint32_t msix_take(struct msix *x, const struct pci_func *f);
void msix_xfer(struct msix *x, struct state_io *io);
