/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of struct machine, for machine*.c only. machine.c: making it, effects,
 * accesses, inputs. machine_board.c: which devices a board has, where. machine_pci.c:
 * configuration space, BARs, doorbells. machine_state.c: save and load.
 */
#pragma once

#include "base/bug.h"
#include "vmm/bus.h"
#include "vmm/dev_vmmio.h"
#include "vmm/dev_vpci.h"
#include "vmm/machine.h"

#define NO_LINE           0xFF
#define FRAME_ARENA_LEN   (256 * 1024)
#define MACHINE_PORTS_MAX 3
#define MACHINE_BAR_SHIFT 16 /* BAR n begins at n << 16 of a function's offsets */

_Static_assert(FRAME_ARENA_LEN >= NET_HEADER_LEN + NET_FRAME_MAX,
               "one frame always fits");
_Static_assert(MACHINE_DEV_COUNT <= 32, "a line's devices are bits of a u32");

struct port_range {
    uint16_t base, len, dev_offset;
    uint8_t access_max;
};

/* A fixed device of a board: class NULL means that the board has none. */
struct board_dev {
    const struct dev_class *class;
    uint8_t line;
    struct port_range port[MACHINE_PORTS_MAX];
};

struct machine_dev_state {
    const struct dev_class *class; /* NULL: not in this machine */
    void *state;                   /* of a virtio device: begins with its struct virtio */
    uint8_t line;
    bool reads_clock; /* its class does, or it has a rate limit */
    uint64_t wake_at_ns;
};

struct machine {
    struct machine_conf conf;
    struct gmem *gm;
    const struct machine_ops *ops;
    void *ctx;
    struct bus ports, mmio;
    struct machine_dev_state dev[MACHINE_DEV_COUNT];
    /* One of the two is in use, see conf.transport. */
    struct vmmio vmmio[MACHINE_VIRTIO_SLOTS];
    struct vpci vpci[MACHINE_VIRTIO_SLOTS];
    /* What the shell was told last: 0 for no doorbell. Not saved. */
    uint64_t doorbell[MACHINE_VIRTIO_SLOTS][VIRTIO_QUEUES_MAX];
    /* bit i: device i holds this line up; a shared line is their OR */
    uint32_t line_devs[BOARD_GSI_COUNT];
    bool remap;  /* BARs have moved: the MMIO bus is to be made anew */
    bool rebell; /* doorbells may have come or gone */
    char cmdline[GUEST_CMDLINE_MAX + 1];
    uint64_t dropped;
    bool busy; /* a device or an op is running: nobody may call in */
    struct effects fx;
    uint8_t frame_arena[FRAME_ARENA_LEN];
};

static inline bool machine_is_virtio(const struct machine *m, unsigned dev_index)
{
    return dev_index >= MACHINE_DEV_VIRTIO0 && m->dev[dev_index].class != NULL;
}

static inline bool machine_is_vpci(const struct machine *m, unsigned dev_index)
{
    return machine_is_virtio(m, dev_index) && m->conf.transport == MACHINE_TRANSPORT_PCI;
}

static inline unsigned machine_virtio_count(const struct machine *m)
{
    return m->conf.disk_count + m->conf.nic_count +
           (unsigned)__builtin_popcount(m->conf.extras);
}

/* machine.c */
int machine_power_on(struct machine *m); /* all devices and the board as from the shop */
void machine_effects_begin(struct machine *m);
/* Carries out what dev_index did since machine_effects_begin. */
void machine_effects_end(struct machine *m, unsigned dev_index);
void machine_clock_before_access(struct machine *m, unsigned dev_index);

/* machine_board.c */
const struct board_dev *machine_board_dev(enum machine_type type, unsigned dev_index);
uint8_t machine_virtio_line(const struct machine_conf *conf, unsigned slot);

/* machine_pci.c */
void machine_pci_power_on(struct machine *m, unsigned dev_index);
/* An access to the host bridge's ports or ECAM window. */
uint64_t machine_pci_access(struct machine *m, uint64_t offset, bool is_write,
                            unsigned len, uint64_t value);
/* Makes the MMIO bus from the fixed windows and the BARs as they are. */
void machine_pci_remap(struct machine *m);
/* Tells the shell what has changed since it was told last. */
void machine_pci_doorbells(struct machine *m);
