/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pci.h"

#include <string.h>

#include "base/bug.h"
#include "vmm/board.h"

#define REG_CACHE_LINE   0x0C
#define REG_SUBSYSTEM    0x2C
#define REG_PIN          0x3D
#define CAPS_BASE        0x40 /* the first byte of ours */
#define BAR_64           0x4
#define BAR_FLAGS        0xF
#define COMMAND_PARITY   0x0040
#define COMMAND_SERR     0x0100
#define ADDRESS_ENABLE   (UINT32_C(1) << 31)
#define PCIEXBAR_ENABLED 1 /* with 256 buses */
#define HOST_REG_SMRAM   0x9D
#define COMMAND_WRITABLE                                                                 \
    (PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | COMMAND_PARITY |         \
     COMMAND_SERR | PCI_COMMAND_INTX_OFF)

static uint32_t get(const uint8_t *p, unsigned len)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < len; i++) {
        value |= (uint32_t)p[i] << (8 * i);
    }
    return value;
}

static void put(uint8_t *p, unsigned len, uint32_t value)
{
    for (unsigned i = 0; i < len; i++) {
        p[i] = (uint8_t)(value >> (8 * i));
    }
}

/* Making a function ---------------------------------------------------------------- */

void pci_func_set(struct pci_func *f, unsigned reg, unsigned len, uint32_t value)
{
    BUG_ON(reg + len > PCI_CONFIG_LEN);
    put(f->config + reg, len, value);
}

void pci_func_let_write(struct pci_func *f, unsigned reg, unsigned len, uint32_t mask)
{
    BUG_ON(reg + len > PCI_CONFIG_LEN);
    put(f->writable + reg, len, mask);
}

void pci_func_init(struct pci_func *f, const struct pci_ident *ident)
{
    memset(f, 0, sizeof *f);
    pci_func_set(f, 0, 2, ident->vendor);
    pci_func_set(f, 2, 2, ident->device);
    pci_func_set(f, 8, 4, ident->class << 8 | ident->revision);
    pci_func_set(f, REG_SUBSYSTEM, 2, ident->subsystem_vendor);
    pci_func_set(f, REG_SUBSYSTEM + 2, 2, ident->subsystem);
    pci_func_set(f, REG_PIN, 1, ident->pin);
    pci_func_let_write(f, PCI_REG_COMMAND, 2, COMMAND_WRITABLE);
    pci_func_let_write(f, REG_CACHE_LINE, 1, 0xFF);
    pci_func_let_write(f, PCI_REG_LINE, 1, 0xFF);
    f->cap_last = PCI_REG_CAPS - 1; /* whose "next" is the head of the list */
    f->cap_end = CAPS_BASE;
}

void pci_func_add_bar(struct pci_func *f, unsigned bar, uint32_t size, bool is_64,
                      uint64_t home)
{
    unsigned reg = PCI_REG_BAR0 + 4 * bar;

    BUG_ON(bar + is_64 >= PCI_BARS || size < 16 || (size & (size - 1)) != 0 ||
           home % size != 0);
    f->bar_size[bar] = size;
    f->bar_home[bar] = home;
    pci_func_set(f, reg, 4, is_64 ? BAR_64 : 0);
    pci_func_let_write(f, reg, 4, ~(size - 1));
    if (is_64) {
        pci_func_let_write(f, reg + 4, 4, UINT32_MAX);
    }
}

uint8_t pci_func_add_cap(struct pci_func *f, uint8_t id, unsigned len)
{
    uint8_t cap = f->cap_end;

    BUG_ON(cap + len > PCI_CONFIG_LEN - 4); /* the list's end fits a byte, aligned */
    pci_func_set(f, f->cap_last + 1u, 1, cap);
    pci_func_set(f, cap, 1, id);
    pci_func_set(f, PCI_REG_STATUS, 2, PCI_STATUS_CAPS);
    f->cap_last = cap;
    f->cap_end = (uint8_t)((cap + len + 3) & ~3u);
    return cap;
}

void pci_func_reset(struct pci_func *f)
{
    bool at_home = false;

    for (unsigned i = 0; i < PCI_CONFIG_LEN; i++) {
        f->config[i] &= (uint8_t)~f->writable[i];
    }
    for (unsigned bar = 0; bar < PCI_BARS; bar++) {
        unsigned reg = PCI_REG_BAR0 + 4 * bar;

        if (f->bar_size[bar] == 0) {
            continue;
        }
        at_home |= f->bar_home[bar] != 0;
        pci_func_write(f, reg, 4, (uint32_t)f->bar_home[bar]);
        if ((f->config[reg] & BAR_64) != 0) {
            pci_func_write(f, reg + 4, 4, (uint32_t)(f->bar_home[bar] >> 32));
        }
    }
    pci_func_write(f, PCI_REG_COMMAND, 2, at_home ? PCI_COMMAND_MEMORY : 0);
    pci_func_intx(f, false);
}

/* Using it ------------------------------------------------------------------------- */

bool pci_access_ok(unsigned reg, unsigned len)
{
    return (len == 1 || len == 2 || len == 4) && reg % len == 0 &&
           reg <= PCI_CONFIG_LEN - len;
}

uint32_t pci_func_read(const struct pci_func *f, unsigned reg, unsigned len)
{
    return pci_access_ok(reg, len) ? get(f->config + reg, len) : UINT32_MAX;
}

bool pci_func_write(struct pci_func *f, unsigned reg, unsigned len, uint32_t value)
{
    uint32_t old, mask;

    if (!pci_access_ok(reg, len)) {
        return false;
    }
    old = get(f->config + reg, len);
    mask = get(f->writable + reg, len);
    put(f->config + reg, len, (old & ~mask) | (value & mask));
    return reg <= PCI_REG_COMMAND + 1u
               ? reg >= PCI_REG_COMMAND
               : reg >= PCI_REG_BAR0 && reg < PCI_REG_BAR0 + 4 * PCI_BARS;
}

uint16_t pci_func_command(const struct pci_func *f)
{
    return (uint16_t)get(f->config + PCI_REG_COMMAND, 2);
}

bool pci_func_bar(const struct pci_func *f, unsigned bar, uint64_t *ret_address)
{
    unsigned reg = PCI_REG_BAR0 + 4 * bar;
    uint64_t address, end;

    if (f->bar_size[bar] == 0 || (pci_func_command(f) & PCI_COMMAND_MEMORY) == 0) {
        return false;
    }
    address = get(f->config + reg, 4) & ~(uint32_t)BAR_FLAGS;
    if ((f->config[reg] & BAR_64) != 0) {
        address |= (uint64_t)get(f->config + reg + 4, 4) << 32;
    }
    if (address == 0 || __builtin_add_overflow(address, f->bar_size[bar], &end)) {
        return false; /* not assigned, or being sized */
    }
    *ret_address = address;
    return true;
}

void pci_func_intx(struct pci_func *f, bool pending)
{
    uint16_t status = (uint16_t)get(f->config + PCI_REG_STATUS, 2);

    status = pending ? status | PCI_STATUS_INTX : status & (uint16_t)~PCI_STATUS_INTX;
    put(f->config + PCI_REG_STATUS, 2, status);
}

/* The whole space is saved: a load finds out whether this is the function that it was. */
void pci_func_xfer(struct pci_func *f, struct state_io *io)
{
    uint8_t config[PCI_CONFIG_LEN];

    memcpy(config, f->config, sizeof config);
    state_bytes(io, config, sizeof config);
    for (unsigned i = 0; i < PCI_CONFIG_LEN; i++) {
        uint8_t ours = f->writable[i];

        if (i == PCI_REG_STATUS) {
            ours |= PCI_STATUS_INTX;
        }
        if (((config[i] ^ f->config[i]) & ~ours) != 0) {
            state_refuse(io, "config");
            return;
        }
    }
    memcpy(f->config, config, sizeof config);
}

/* The host bridge ------------------------------------------------------------------ */

void pci_host_init(struct pci_host *host)
{
    static const struct pci_ident ident = {
        .vendor = 0x8086,
        .device = 0x29C0,
        .subsystem_vendor = 0x1AF4,
        .subsystem = 0x1100,
        .class = 0x060000,
    };

    memset(host, 0, sizeof *host);
    pci_func_init(&host->func, &ident);
    /* Firmware of a Q35 writes this value; nothing can move the window. */
    pci_func_set(&host->func, PCI_HOST_REG_PCIEXBAR, 4,
                 (uint32_t)BOARD_ECAM_BASE | PCIEXBAR_ENABLED);
    /* The RAM behind the PAM registers is always there and writable: they remember only.
     * Cleared by a reset, which tells SeaBIOS to copy itself from the ROM again. */
    for (unsigned i = 0; i < PCI_HOST_PAMS; i++) {
        pci_func_let_write(&host->func, PCI_HOST_REG_PAM0 + i, 1, 0x33);
    }
    pci_func_let_write(&host->func, HOST_REG_SMRAM, 1, 0x7F);
}

enum pci_target pci_host_decode(const struct pci_host *host, uint64_t offset,
                                unsigned len, unsigned *ret_dev, unsigned *ret_reg)
{
    uint32_t bus_dev_func;
    unsigned reg;

    if (offset >= PCI_OFFSET_ECAM) {
        bus_dev_func = (uint32_t)(offset - PCI_OFFSET_ECAM) >> 12;
        reg = (uint32_t)offset & 0xFFF;
    } else if (offset < 4) {
        if (offset == 1 && len == 1) {
            return PCI_TARGET_RESET;
        }
        return offset == 0 && len == 4 ? PCI_TARGET_ADDRESS : PCI_TARGET_NONE;
    } else {
        if ((host->address & ADDRESS_ENABLE) == 0) {
            return PCI_TARGET_NONE;
        }
        bus_dev_func = (host->address & ~ADDRESS_ENABLE) >> 8;
        reg = (host->address & 0xFC) + ((uint32_t)offset & 3);
    }
    if ((bus_dev_func & 7) != 0 || bus_dev_func >> 3 >= PCI_DEVS ||
        !pci_access_ok(reg, len)) {
        return PCI_TARGET_NONE;
    }
    *ret_dev = bus_dev_func >> 3;
    *ret_reg = reg;
    return PCI_TARGET_CONFIG;
}

static void host_reset(void *dev, struct effects *fx)
{
    struct pci_host *host = dev;

    (void)fx;
    host->address = 0;
    pci_func_reset(&host->func);
}

static void host_input(void *dev, struct gmem *gm, const struct dev_input *in,
                       struct effects *fx)
{
    (void)dev;
    (void)gm;
    (void)in;
    (void)fx;
}

static int host_xfer(void *dev, struct state_io *io)
{
    struct pci_host *host = dev;

    state_u32(io, &host->address);
    if ((host->address & ~PCI_ADDRESS_KEPT) != 0) {
        state_refuse(io, "address");
    }
    pci_func_xfer(&host->func, io);
    return state_end(io);
}

const struct dev_class pci_host_class = {
    .name = "pci",
    .version = 1,
    .min_reader = 1,
    .state_size = sizeof(struct pci_host),
    .reset = host_reset,
    .input = host_input,
    .xfer = host_xfer,
};
