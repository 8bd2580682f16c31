/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_priv.h"

#include <errno.h>
#include <string.h>

#include "base/crc32c.h"
#include "vmm/dev_pic.h"
#include "vmm/dev_vballoon.h"
#include "vmm/dev_vblk.h"
#include "vmm/dev_vcon.h"
#include "vmm/dev_vnet.h"
#include "vmm/dev_vrng.h"

#define MACHINE_VERSION     1
#define TRANSPORT_VERSION   1
#define TRANSPORT_SAVED_MAX 2048
#define FIXED_STATE_MAX     4096 /* of any fixed device's section */

/* What belongs to no single device, and what a stream must agree on with this
 * configuration. */
static int board_xfer(void *state, struct state_io *io)
{
    struct machine *m = state;
    uint64_t ram_len = m->conf.ram_len;
    uint8_t disk_count = (uint8_t)m->conf.disk_count,
            nic_count = (uint8_t)m->conf.nic_count, extras = (uint8_t)m->conf.extras;
    uint8_t type = (uint8_t)m->conf.type, transport = (uint8_t)m->conf.transport;
    uint32_t cpu_count = m->conf.cpu_count;

    state_u8(io, &type);
    state_u8(io, &transport);
    state_u32(io, &cpu_count);
    state_u64(io, &ram_len);
    state_u8(io, &disk_count);
    state_u8(io, &nic_count);
    state_u8(io, &extras);
    if (type != m->conf.type || transport != m->conf.transport) {
        state_refuse(io, "machine");
    }
    if (cpu_count != m->conf.cpu_count) {
        state_refuse(io, "cpu_count");
    }
    if (ram_len != m->conf.ram_len) {
        state_refuse(io, "ram_len");
    }
    if (disk_count != m->conf.disk_count || nic_count != m->conf.nic_count ||
        extras != m->conf.extras) {
        state_refuse(io, "devices");
    }
    for (unsigned i = 0; i < BOARD_GSI_COUNT; i++) {
        uint32_t allowed = 0;

        state_u32(io, &m->line_devs[i]);
        for (unsigned d = 0; d < MACHINE_DEV_COUNT; d++) {
            allowed |= m->dev[d].line == i ? UINT32_C(1) << d : 0;
        }
        if ((m->line_devs[i] & ~allowed) != 0) {
            state_refuse(io, "line_devs");
        }
    }
    for (unsigned i = 0; i < MACHINE_DEV_COUNT; i++) {
        state_u64(io, &m->dev[i].wake_at_ns);
        if (m->dev[i].class == NULL && m->dev[i].wake_at_ns != UINT64_MAX) {
            state_refuse(io, "wake_at_ns");
        }
    }
    return state_end(io);
}

/* Opens the section of this name and instance, written or expected next; false when the
 * stream has another. */
static bool section_open(struct state_io *io, const char *name, uint16_t instance,
                         uint16_t version, uint16_t min_reader)
{
    if (io->mode == STATE_SAVE) {
        state_section_begin(io, name, instance, version, min_reader);
        return true;
    }
    if (!state_section_next(io)) {
        state_fail(io, STATE_MISSING); /* unless another error came first */
        return false;
    }
    if (strcmp(io->section.name, name) != 0 || io->section.instance != instance) {
        state_fail(io, STATE_UNKNOWN);
        return false;
    }
    return state_section_accept(io, version);
}

/* One section: opened, its fields given to `xfer`, closed. */
static int section_xfer(struct state_io *io, const char *name, unsigned instance,
                        uint16_t version, uint16_t min_reader,
                        int (*xfer)(void *state, struct state_io *io), void *state)
{
    int r;

    if (!section_open(io, name, (uint16_t)instance, version, min_reader)) {
        return -EBADMSG;
    }
    r = xfer(state, io);
    if (r == 0 && io->mode == STATE_SAVE) {
        state_section_end(io);
    }
    return r;
}

static int transport_xfer(struct machine *m, unsigned dev_index, struct state_io *io)
{
    unsigned slot = dev_index - MACHINE_DEV_VIRTIO0;

    return m->conf.transport == MACHINE_TRANSPORT_PCI
               ? section_xfer(io, "vpci", dev_index, TRANSPORT_VERSION, 1, vpci_xfer,
                              &m->vpci[slot])
               : section_xfer(io, "vmmio", dev_index, TRANSPORT_VERSION, 1, vmmio_xfer,
                              &m->vmmio[slot]);
}

static int sections_xfer(struct machine *m, struct state_io *io)
{
    int r = section_xfer(io, "machine", 0, MACHINE_VERSION, 1, board_xfer, m);

    for (unsigned i = 0; i < MACHINE_DEV_COUNT && r == 0; i++) {
        const struct dev_class *class = m->dev[i].class;

        if (class == NULL) {
            continue;
        }
        r = section_xfer(io, class->name, i, class->version, class->min_reader,
                         class->xfer, m->dev[i].state);
        if (r == 0 && machine_is_virtio(m, i)) {
            r = transport_xfer(m, i, io);
        }
    }
    return r;
}

/* The PIC's pins and the board's lines are saved apart; a stream in which they differ is
 * not one of ours. */
static bool pins_agree(const struct machine *m)
{
    const struct dev_pic *pic = m->dev[MACHINE_DEV_PIC].state;

    for (unsigned i = 0; i < PIC_LINES; i++) {
        bool pin = (pic->chip[i / 8].lines & (1u << (i % 8))) != 0;

        if (i != PIC_CASCADE && pin != (m->line_devs[i] != 0)) {
            return false;
        }
    }
    return true;
}

/* So are the virtio devices' interrupts. */
static bool virtio_lines_agree(const struct machine *m)
{
    for (unsigned i = MACHINE_DEV_VIRTIO0; i < MACHINE_DEV_COUNT; i++) {
        const struct virtio *v = m->dev[i].state;

        if (m->dev[i].class != NULL) {
            bool is = (m->line_devs[m->dev[i].line] >> i & 1) != 0;
            bool should = machine_is_vpci(m, i)
                              ? vpci_intx(&m->vpci[i - MACHINE_DEV_VIRTIO0], v)
                              : v->isr != 0;

            if (is != should) {
                return false;
            }
        }
    }
    return true;
}

static bool lines_agree(const struct machine *m)
{
    return virtio_lines_agree(m) && (m->conf.type == MACHINE_STANDARD || pins_agree(m));
}

/* The outside has not seen the state that the machine has now. */
static void tell_all(struct machine *m)
{
    machine_pci_remap(m);
    machine_pci_doorbells(m);
    if (m->conf.type == MACHINE_STANDARD) {
        machine_lines_again(m);
    }
}

int machine_xfer(struct machine *m, struct state_io *io)
{
    int r = sections_xfer(m, io);

    if (io->mode == STATE_SAVE) {
        return r;
    }
    if (r == 0 && !lines_agree(m)) {
        state_refuse(io, "lines");
        r = -EBADMSG;
    }
    if (r < 0) { /* half a state must not run; this has worked before */
        BUG_ON(machine_power_on(m) != 0);
    }
    for (unsigned slot = 0; slot < machine_virtio_count(m); slot++) {
        if (machine_is_vpci(m, MACHINE_DEV_VIRTIO0 + slot)) {
            vpci_settle(&m->vpci[slot], m->dev[MACHINE_DEV_VIRTIO0 + slot].state);
        }
    }
    tell_all(m);
    return r;
}

size_t machine_state_max(const struct machine *m)
{
    return (MACHINE_DEV_VIRTIO0 + 1) * (size_t)FIXED_STATE_MAX +
           machine_virtio_count(m) * (size_t)TRANSPORT_SAVED_MAX +
           m->conf.disk_count * (size_t)VBLK_SAVED_MAX +
           m->conf.nic_count * (size_t)VNET_SAVED_MAX + VRNG_SAVED_MAX + VCON_SAVED_MAX +
           VBALLOON_SAVED_MAX;
}

uint32_t machine_digest(struct machine *m, void *scratch, size_t scratch_len)
{
    struct state_io io;
    size_t len;

    state_save_init(&io, scratch, scratch_len);
    BUG_ON(machine_xfer(m, &io) != 0);
    len = state_save_finish(&io);
    BUG_ON(len == 0); /* scratch_len is below machine_state_max */
    return crc32c(0, scratch, len);
}

bool machine_section(const struct machine *m, unsigned index,
                     struct machine_section *ret_section)
{
    unsigned at = 0;

    if (index == at++) {
        *ret_section = (struct machine_section){"machine", 0, MACHINE_VERSION, 1};
        return true;
    }
    for (unsigned i = 0; i < MACHINE_DEV_COUNT; i++) {
        const struct dev_class *class = m->dev[i].class;

        if (class == NULL) {
            continue;
        }
        if (index == at++) {
            *ret_section = (struct machine_section){class->name, (uint16_t)i,
                                                    class->version, class->min_reader};
            return true;
        }
        if (machine_is_virtio(m, i) && index == at++) {
            *ret_section = (struct machine_section){
                m->conf.transport == MACHINE_TRANSPORT_PCI ? "vpci" : "vmmio",
                (uint16_t)i, TRANSPORT_VERSION, 1};
            return true;
        }
    }
    return false;
}
