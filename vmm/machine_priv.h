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
#include "vmm/machine.h"

#define NO_LINE           0xFF
#define FRAME_ARENA_LEN   (256 * 1024)
#define MACHINE_PORTS_MAX 3

_Static_assert(FRAME_ARENA_LEN >= NET_FRAME_MAX, "one frame always fits");
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
    uint64_t wake_at_ns;
};

struct machine {
    struct machine_conf conf;
    struct gmem *gm;
    const struct machine_ops *ops;
    void *ctx;
    struct bus ports, mmio;
    struct machine_dev_state dev[MACHINE_DEV_COUNT];
    struct vmmio vmmio[MACHINE_VIRTIO_SLOTS];
    /* bit i: device i holds this line up; a shared line is their OR */
    uint32_t line_devs[BOARD_GSI_COUNT];
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

/* machine.c */
int machine_power_on(struct machine *m); /* all devices and the board as from the shop */
/* Tells the interrupt controller what a line's devices add up to. */
void machine_line_out(struct machine *m, unsigned line);

/* machine_board.c */
const struct board_dev *machine_board_dev(enum machine_type type, unsigned dev_index);
uint8_t machine_virtio_line(const struct machine_conf *conf, unsigned slot);
