/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI bus of `standard`: which function a configuration access reaches, which BARs
 * answer where, which doorbells the shell may catch.
 *
 * A BAR that would lie over something else is not mapped until it is moved away; guests
 * pass through such states while they assign addresses, so it is no error.
 */
#include "vmm/machine_priv.h"

#include "vmm/dev_i6300esb.h"
#include "vmm/dev_reset.h"

static unsigned watchdog_dev(const struct machine *m)
{
    return 1 + (m->conf.transport == MACHINE_TRANSPORT_PCI ? machine_virtio_count(m) : 0);
}

unsigned machine_watchdog_pci_dev(const struct machine *m)
{
    return watchdog_dev(m);
}

void machine_pci_power_on(struct machine *m, unsigned dev_index)
{
    void *state = m->dev[dev_index].state;

    if (dev_index == MACHINE_DEV_PCI) {
        pci_host_init(state);
    } else if (dev_index == MACHINE_DEV_WATCHDOG) {
        dev_i6300esb_init(state, BOARD_PCI_WATCHDOG_BAR0);
    } else if (machine_is_vpci(m, dev_index)) {
        unsigned slot = dev_index - MACHINE_DEV_VIRTIO0;

        vpci_init(&m->vpci[slot], state, BOARD_PCI_VIRTIO_BAR1(slot),
                  BOARD_PCI_VIRTIO_BAR4(slot));
        vpci_settle(&m->vpci[slot], state);
    }
}

/* The function of a device of the machine, or NULL. */
static struct pci_func *func_of(struct machine *m, unsigned dev_index)
{
    if (m->dev[dev_index].class == NULL) {
        return NULL;
    }
    if (dev_index == MACHINE_DEV_PCI) {
        return &((struct pci_host *)m->dev[dev_index].state)->func;
    }
    if (dev_index == MACHINE_DEV_WATCHDOG) {
        return &((struct dev_i6300esb *)m->dev[dev_index].state)->func;
    }
    return machine_is_vpci(m, dev_index) ? &m->vpci[dev_index - MACHINE_DEV_VIRTIO0].func
                                         : NULL;
}

/* Configuration space --------------------------------------------------------------- */

/* The device of the machine that sits at a number of bus 0, or MACHINE_DEV_COUNT. */
static unsigned dev_at(const struct machine *m, unsigned pci_dev)
{
    if (pci_dev == 0) {
        return MACHINE_DEV_PCI;
    }
    if (pci_dev == watchdog_dev(m)) {
        return MACHINE_DEV_WATCHDOG;
    }
    return pci_dev < watchdog_dev(m) ? MACHINE_DEV_VIRTIO0 + pci_dev - 1
                                     : MACHINE_DEV_COUNT;
}

static uint32_t config_read(struct machine *m, unsigned dev_index, unsigned reg,
                            unsigned len)
{
    if (machine_is_vpci(m, dev_index)) {
        return vpci_config_read(&m->vpci[dev_index - MACHINE_DEV_VIRTIO0],
                                m->dev[dev_index].state, reg, len);
    }
    return pci_func_read(func_of(m, dev_index), reg, len);
}

static bool config_write(struct machine *m, unsigned dev_index, unsigned reg,
                         unsigned len, uint32_t value)
{
    void *state = m->dev[dev_index].state;

    if (machine_is_vpci(m, dev_index)) {
        return vpci_config_write(&m->vpci[dev_index - MACHINE_DEV_VIRTIO0], state, m->gm,
                                 reg, len, value, &m->fx);
    }
    if (dev_index == MACHINE_DEV_WATCHDOG) {
        return dev_i6300esb_config_write(state, reg, len, value, &m->fx);
    }
    return pci_func_write(func_of(m, dev_index), reg, len, value);
}

static uint64_t config_access(struct machine *m, unsigned pci_dev, unsigned reg,
                              bool is_write, unsigned len, uint64_t value)
{
    unsigned dev_index = dev_at(m, pci_dev);

    if (dev_index == MACHINE_DEV_COUNT) {
        return UINT64_MAX;
    }
    machine_clock_before_access(m, dev_index);
    machine_effects_begin(m);
    if (is_write) {
        m->remap |= config_write(m, dev_index, reg, len, (uint32_t)value);
        m->rebell = true;
    } else {
        value = config_read(m, dev_index, reg, len);
    }
    machine_effects_end(m, dev_index);
    return value;
}

static uint64_t reset_access(struct machine *m, bool is_write, uint64_t value)
{
    const struct machine_dev_state *dev = &m->dev[MACHINE_DEV_RESET];

    machine_effects_begin(m);
    if (is_write) {
        dev->class->write(dev->state, m->gm, RESET_OFFSET_CF9, 1, value, &m->fx);
    } else {
        value = dev->class->read(dev->state, m->gm, RESET_OFFSET_CF9, 1, &m->fx);
    }
    machine_effects_end(m, MACHINE_DEV_RESET);
    return value;
}

uint64_t machine_pci_access(struct machine *m, uint64_t offset, bool is_write,
                            unsigned len, uint64_t value)
{
    struct pci_host *host = m->dev[MACHINE_DEV_PCI].state;
    unsigned pci_dev, reg;

    switch (pci_host_decode(host, offset, len, &pci_dev, &reg)) {
    case PCI_TARGET_ADDRESS:
        if (is_write) {
            host->address = (uint32_t)value & PCI_ADDRESS_KEPT;
        }
        return host->address;
    case PCI_TARGET_CONFIG:
        return config_access(m, pci_dev, reg, is_write, len, value);
    case PCI_TARGET_RESET:
        return reset_access(m, is_write, value);
    case PCI_TARGET_NONE:
        break;
    }
    return UINT64_MAX;
}

/* What answers where ---------------------------------------------------------------- */

static void map_bars(struct machine *m, unsigned dev_index)
{
    const struct pci_func *f = func_of(m, dev_index);

    for (unsigned bar = 0; f != NULL && bar < PCI_BARS; bar++) {
        uint64_t address;

        if (pci_func_bar(f, bar, &address)) {
            bus_add(&m->mmio, &(struct bus_range){
                                  .base = address,
                                  .len = f->bar_size[bar],
                                  .dev_offset = bar << MACHINE_BAR_SHIFT,
                                  .dev_index = (uint8_t)dev_index,
                                  .access_max = 8,
                              });
        }
    }
}

void machine_pci_remap(struct machine *m)
{
    m->remap = false;
    m->mmio.range_count = 0;
    if (m->dev[MACHINE_DEV_PCI].class != NULL) {
        BUG_ON(bus_add(&m->mmio, &(struct bus_range){
                                     .base = BOARD_ECAM_BASE,
                                     .len = BOARD_ECAM_LEN,
                                     .dev_offset = PCI_OFFSET_ECAM,
                                     .dev_index = MACHINE_DEV_PCI,
                                     .access_max = 4,
                                 }) != 0);
    }
    for (unsigned slot = 0; slot < machine_virtio_count(m); slot++) {
        if (m->conf.transport == MACHINE_TRANSPORT_MMIO) {
            BUG_ON(bus_add(&m->mmio,
                           &(struct bus_range){
                               .base = BOARD_VIRTIO_BASE + slot * BOARD_VIRTIO_STRIDE,
                               .len = BOARD_VIRTIO_STRIDE,
                               .dev_index = (uint8_t)(MACHINE_DEV_VIRTIO0 + slot),
                               .access_max = 8,
                           }) != 0);
        }
    }
    for (unsigned i = 0; i < MACHINE_DEV_COUNT; i++) {
        map_bars(m, i);
    }
}

/* Doorbells ------------------------------------------------------------------------- */

/* Where BAR4 of a slot is on the bus now; 0: nowhere. */
static uint64_t registers_at(struct machine *m, unsigned slot)
{
    const struct bus_range *range;
    uint64_t address;

    if (!pci_func_bar(&m->vpci[slot].func, VPCI_BAR_REGS, &address)) {
        return 0;
    }
    range = bus_find(&m->mmio, address, 1);
    return range != NULL && range->base == address &&
                   range->dev_index == MACHINE_DEV_VIRTIO0 + slot
               ? address
               : 0;
}

static void slot_doorbells(struct machine *m, unsigned slot, bool on)
{
    const struct virtio *v = m->dev[MACHINE_DEV_VIRTIO0 + slot].state;
    uint64_t base = registers_at(m, slot);

    for (unsigned q = 0; q < v->queue_count; q++) {
        uint64_t *is = &m->doorbell[slot][q];
        uint64_t want = base != 0 && v->queue[q].ready
                            ? base + VPCI_NOTIFY + (uint64_t)q * VPCI_NOTIFY_STRIDE
                            : 0;

        if (!on && *is != 0 && *is != want) {
            m->ops->doorbell(m->ctx, MACHINE_DEV_VIRTIO0 + slot, q, *is, false);
            *is = 0;
        } else if (on && *is != want) {
            m->ops->doorbell(m->ctx, MACHINE_DEV_VIRTIO0 + slot, q, want, true);
            *is = want;
        }
    }
}

void machine_pci_doorbells(struct machine *m)
{
    m->rebell = false;
    if (m->conf.transport != MACHINE_TRANSPORT_PCI || m->ops->doorbell == NULL) {
        return;
    }
    /* All that go first: two functions may have changed places. */
    for (unsigned on = 0; on < 2; on++) {
        for (unsigned slot = 0; slot < machine_virtio_count(m); slot++) {
            slot_doorbells(m, slot, on != 0);
        }
    }
}
