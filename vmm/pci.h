/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI configuration space (PCI Local Bus 3.0, 6): one function's 256 bytes with what may
 * be written, its memory BARs and capabilities; the host bridge, which decodes the two
 * ways to that space (ports 0xCF8/0xCFC and ECAM) on bus 0. What is not there reads as
 * all ones. Which function answers, and what its BARs decode, is vmm/machine_pci.c's.
 */
#pragma once

#include "vmm/dev.h"

#define PCI_CONFIG_LEN       256
#define PCI_BARS             6
#define PCI_DEVS             32 /* on bus 0, one function each */
#define PCI_FUNC_SAVED_MAX   PCI_CONFIG_LEN

#define PCI_REG_COMMAND      0x04
#define PCI_REG_STATUS       0x06
#define PCI_REG_BAR0         0x10
#define PCI_REG_CAPS         0x34
#define PCI_REG_LINE         0x3C

#define PCI_COMMAND_IO       0x0001
#define PCI_COMMAND_MEMORY   0x0002
#define PCI_COMMAND_MASTER   0x0004
#define PCI_COMMAND_INTX_OFF 0x0400
#define PCI_STATUS_INTX      0x0008
#define PCI_STATUS_CAPS      0x0010

#define PCI_CAP_VENDOR       0x09
#define PCI_CAP_MSIX         0x11

/* Host bridge registers (Intel 3 Series chipset datasheet, 5.1) that firmware looks at */
#define PCI_HOST_REG_PCIEXBAR 0x60
#define PCI_HOST_REG_PAM0     0x90
#define PCI_HOST_PAMS         7

struct pci_ident {
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint32_t class; /* base class, sub-class, interface */
    uint8_t revision;
    uint8_t pin; /* 0: no interrupt, 1: INTA */
};

struct pci_func {
    /* From pci_func_init and its helpers */
    uint8_t writable[PCI_CONFIG_LEN]; /* bits that a guest may change */
    uint32_t bar_size[PCI_BARS];      /* 0: none, or the upper half of the one before */
    uint64_t bar_home[PCI_BARS];      /* where it is after a reset */
    uint8_t cap_last, cap_end;
    /* State */
    uint8_t config[PCI_CONFIG_LEN];
};

void pci_func_init(struct pci_func *f, const struct pci_ident *ident);
/* A memory BAR; size is a power of 2, >= 16; 64-bit ones take two. */
void pci_func_add_bar(struct pci_func *f, unsigned bar, uint32_t size, bool is_64,
                      uint64_t home);
/* Appends a capability of len bytes to the list and returns its offset. */
uint8_t pci_func_add_cap(struct pci_func *f, uint8_t id, unsigned len);
/* Values and writable bits of a field while it is being made. */
void pci_func_set(struct pci_func *f, unsigned reg, unsigned len, uint32_t value);
void pci_func_let_write(struct pci_func *f, unsigned reg, unsigned len, uint32_t mask);
/* Power-on values of what a guest may change; BARs at home and decoded. */
void pci_func_reset(struct pci_func *f);

/* reg + len within the space, len 1, 2, 4, aligned: else all ones, or ignored. */
uint32_t pci_func_read(const struct pci_func *f, unsigned reg, unsigned len);
/* True: what the function decodes may have changed. */
bool pci_func_write(struct pci_func *f, unsigned reg, unsigned len, uint32_t value);
bool pci_access_ok(unsigned reg, unsigned len);
uint16_t pci_func_command(const struct pci_func *f);
/* Where a BAR answers now; false when it does not. */
bool pci_func_bar(const struct pci_func *f, unsigned bar, uint64_t *ret_address);
/* Sets the interrupt status bit, which is there whether the pin is disabled or not. */
void pci_func_intx(struct pci_func *f, bool pending);
void pci_func_xfer(struct pci_func *f, struct state_io *io); /* part of a section */

/* The host bridge ------------------------------------------------------------------ */

struct pci_host {
    struct pci_func func; /* 00:00.0 */
    uint32_t address;     /* port 0xCF8 */
};

#define PCI_ADDRESS_KEPT UINT32_C(0x80FFFFFC) /* what the address register remembers */

extern const struct dev_class pci_host_class; /* no read and write: vmm/machine_pci.c */

void pci_host_init(struct pci_host *host);

/* What an access through one of the windows means. */
enum pci_target {
    PCI_TARGET_NONE = 0, /* nobody: all ones */
    PCI_TARGET_ADDRESS,  /* the address register */
    PCI_TARGET_CONFIG,   /* register ret_reg of device ret_dev */
    PCI_TARGET_RESET,    /* a byte at 0xCF9 */
};
/* Offsets of ports 0xCF8-0xCFF within the host, and of the ECAM window. */
#define PCI_OFFSET_PORTS UINT32_C(0)
#define PCI_OFFSET_ECAM  UINT32_C(0x10000000)
enum pci_target pci_host_decode(const struct pci_host *host, uint64_t offset,
                                unsigned len, unsigned *ret_dev, unsigned *ret_reg);
