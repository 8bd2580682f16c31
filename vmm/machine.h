/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine (design 6) as one pure value: devices, their addresses and interrupt lines,
 * and the door through which every input goes. The shell turns KVM exits into
 * machine_pio/machine_mmio and carries out effects through machine_ops. FT records and
 * replays at machine_input. Addresses: vmm/board.h.
 *
 * `lockstep` has its 8259 pair and 8254 in here; the shell asks for the interrupt to
 * inject. virtio-mmio slots, IRQ 5, 10, 11 (level).
 *
 * `standard` leaves interrupt controllers and the 8254 to KVM and says gsi() and msi().
 * It has PCI with the virtio functions (or virtio-mmio), pvpanic and a watchdog. Several
 * vCPUs may run: one of them at a time may call in here.
 *
 * Slots of virtio devices are used in order: disks, nics, then the extras.
 */
#pragma once

#include "vmm/board.h"
#include "vmm/dev.h"

#define MACHINE_VIRTIO_SLOTS BOARD_VIRTIO_SLOTS
#define MACHINE_MMIO_BASE    BOARD_VIRTIO_BASE
#define MACHINE_MMIO_STRIDE  BOARD_VIRTIO_STRIDE
#define MACHINE_DEBUG_PORT   BOARD_DEBUG_PORT
#define MACHINE_PM_BASE      BOARD_PM_PORT
#define MACHINE_SERIAL_BASE  BOARD_SERIAL_PORT

struct machine;
struct acpi_conf;

enum machine_type { MACHINE_LOCKSTEP = 0, MACHINE_STANDARD };
/* How a guest reaches the virtio devices. Lockstep has MMIO only. */
enum machine_transport { MACHINE_TRANSPORT_MMIO = 0, MACHINE_TRANSPORT_PCI };

/* Virtio devices of which there is at most one; bits of machine_conf.extras. Standard
 * only. */
enum machine_extra {
    MACHINE_EXTRA_RNG = 0,
    MACHINE_EXTRA_CONSOLE, /* the guest agent's port */
    MACHINE_EXTRA_BALLOON,
    MACHINE_EXTRA_COUNT
};
#define MACHINE_EXTRAS_ALL ((1u << MACHINE_EXTRA_COUNT) - 1)

struct machine_disk_conf {
    uint64_t sectors; /* of 512 bytes */
    char serial[21];  /* VIRTIO_BLK_ID, at most 20 bytes */
    bool read_only;
    uint64_t bytes_per_s, requests_per_s; /* standard; 0: no limit */
};

struct machine_nic_conf {
    uint8_t mac[6];
    bool offloads;        /* standard only: frames come and go with a virtio_net_hdr_v1 */
    unsigned queue_pairs; /* 0 and 1: one; more (VNET_PAIRS_MAX) with offloads only */
    uint64_t bytes_per_s, packets_per_s; /* standard, each direction; 0: no limit */
};

struct machine_conf {
    enum machine_type type;
    enum machine_transport transport;
    unsigned cpu_count; /* 0 means 1 */
    uint64_t ram_len;
    unsigned disk_count, nic_count;
    unsigned extras; /* bits of enum machine_extra */
    struct machine_disk_conf disk[VM_DISKS_MAX];
    struct machine_nic_conf nic[VM_NICS_MAX];
    const char *cmdline; /* fw_cfg file opt/gemel/cmdline, at most GUEST_CMDLINE_MAX
                            bytes; NULL: empty. Copied. */
};

/* Bytes; MACHINE_STAT_UNKNOWN: the guest has not said. */
struct machine_balloon {
    uint64_t target, actual;
    uint64_t free, total, available, caches;
    uint64_t swapped_in, swapped_out;
};
#define MACHINE_STAT_UNKNOWN UINT64_MAX

/* What a guest wants its operators to know. */
enum machine_event {
    MACHINE_EVENT_PANIC = 1, /* value: pvpanic's bits */
    MACHINE_EVENT_WATCHDOG,  /* the watchdog has bitten; a reset follows */
};

/*
 * Carried out by the shell, on the vCPU thread, in the order given. None of them may call
 * back into the machine: note what is wanted and do it when the machine_*() call has
 * returned (reset: machine_reset then). All but on_input, doorbell and guest_event must
 * be set; gsi and msi by `standard` only, those of the extras by who has
 * them.
 */
struct machine_ops {
    void (*serial_out)(void *ctx, const uint8_t *bytes, uint32_t len);
    void (*debug_out)(void *ctx, const uint8_t *bytes, uint32_t len);
    /* request and its list are the caller's; request->data stays until the completion
     * with its slot and generation. */
    void (*blk_submit)(void *ctx, unsigned disk, const struct blk_request *request);
    void (*net_send)(void *ctx, unsigned nic, unsigned queue, const uint8_t *frame,
                     uint32_t len);
    void (*reset)(void *ctx);
    void (*shutdown)(void *ctx);
    /* Machine time now, in ns: the live shell reads its clock (and records it); replay
     * answers from the log. */
    uint64_t (*clock)(void *ctx);
    /* Every input on its way to a device, live or replayed: the record point. May be
     * NULL. */
    void (*on_input)(void *ctx, unsigned dev_index, const struct dev_input *in);
    /* Standard: the level of an interrupt line, when it changes (and for all lines after
     * a load and in machine_lines_again). */
    void (*gsi)(void *ctx, unsigned gsi, bool level);
    void (*msi)(void *ctx, uint64_t address, uint32_t data);
    /* Transport pci: a queue's notify address came into use, or went. A write of any
     * width there means INPUT_NOTIFY to that device, so the shell may put an ioeventfd
     * (any data) there; writes that still come as MMIO are understood too. */
    void (*doorbell)(void *ctx, unsigned dev_index, unsigned queue, uint64_t address,
                     bool on);
    /* Standard: so many bytes as INPUT_ENTROPY for the rng, soon. */
    void (*entropy)(void *ctx, uint32_t len);
    /* Which frames the nic's driver can take from now on (bits of NET_OFFLOAD_). May be
     * NULL without offloads. */
    void (*net_offload)(void *ctx, unsigned nic, unsigned offload);
    /* What the guest sends to its agent's port, and whether it has it open. */
    void (*port_out)(void *ctx, const uint8_t *bytes, uint32_t len);
    void (*port_open)(void *ctx, bool open);
    /* Pages that the guest does without: the host may have them, and they read as zeros
     * from now on. Whole pages of one region of RAM. */
    void (*ram_discard)(void *ctx, struct gpa base, uint64_t len);
    void (*guest_event)(void *ctx, enum machine_event event, uint32_t value);
};

enum machine_dev { /* index of fixed devices; virtio slot i is MACHINE_DEV_VIRTIO0 + i */
                   MACHINE_DEV_PIC = 0,
                   MACHINE_DEV_PIT,
                   MACHINE_DEV_PM,
                   MACHINE_DEV_RTC,
                   MACHINE_DEV_SERIAL,
                   MACHINE_DEV_DEBUG,
                   MACHINE_DEV_RESET,
                   MACHINE_DEV_FWCFG,
                   MACHINE_DEV_PCI,      /* standard: host bridge, configuration space */
                   MACHINE_DEV_PVPANIC,  /* standard */
                   MACHINE_DEV_WATCHDOG, /* standard: i6300esb */
                   MACHINE_DEV_VIRTIO0,
                   MACHINE_DEV_COUNT = MACHINE_DEV_VIRTIO0 + MACHINE_VIRTIO_SLOTS,
};

/* Bytes of memory a machine of this configuration needs; the caller allocates (64-byte
 * aligned; need not be zeroed, and most of it is buffers that are touched only when
 * used), so that the core stays pure. */
size_t machine_size(const struct machine_conf *conf);
/* 0 or -EINVAL (too many devices, command line too long, an op missing). `gm` and `ops`
 * outlive the machine. */
int machine_init(void *memory, const struct machine_conf *conf, struct gmem *gm,
                 const struct machine_ops *ops, void *ctx, struct machine **ret_machine);
/* Other ops from now on, between two calls. */
void machine_set_ops(struct machine *m, const struct machine_ops *ops);
/* System reset of all devices. Machine time, CMOS and what back ends still have to answer
 * survive it. */
void machine_reset(struct machine *m);

/* One port or MMIO access; reads fill data (all ones where nobody answers). */
void machine_pio(struct machine *m, uint16_t port, bool is_write, unsigned size,
                 void *data);
void machine_mmio(struct machine *m, struct gpa addr, bool is_write, unsigned len,
                  void *data);
/* The one door. dev_index: enum machine_dev. 0, -ENODEV (no such device here), -EINVAL
 * (type or length out of range): then nothing has happened and on_input was not called.
 * An input that its device does not know does nothing. */
int machine_input(struct machine *m, unsigned dev_index, const struct dev_input *in);
/* virtio slots: disks first, then nics, then extras */
unsigned machine_disk_dev(const struct machine *m,
                          unsigned disk); /* dev_index of a disk, of a nic */
unsigned machine_nic_dev(const struct machine *m, unsigned nic);
/* MACHINE_DEV_COUNT: this machine has none. */
unsigned machine_extra_dev(const struct machine *m, enum machine_extra extra);
/* What the ACPI tables of this machine describe. */
void machine_acpi_conf(const struct machine *m, struct acpi_conf *ret_conf);
/* The sections of its saved state, in their order; false: there is none of this index. */
struct machine_section {
    const char *name;
    uint16_t instance, version, min_reader;
};
bool machine_section(const struct machine *m, unsigned index,
                     struct machine_section *ret_section);
/* Bytes that INPUT_SERIAL_RX can deliver now without loss. */
uint32_t machine_serial_room(const struct machine *m);

/* False: there is no balloon. */
bool machine_balloon(const struct machine *m, struct machine_balloon *ret_balloon);
/* What machine_ops.net_offload was told last. */
unsigned machine_net_offload(const struct machine *m, unsigned nic);
/* Somebody in the guest listens at the agent's port. */
bool machine_port_open(const struct machine *m);

/* Standard: says the level of every line again, for an interrupt controller that has lost
 * them. */
void machine_lines_again(struct machine *m);
/* PCI device number of the i6300esb on bus 0 (ACPI needs no more: the rest is probed). */
unsigned machine_watchdog_pci_dev(const struct machine *m);

/* The PIC asserts INTR. Never on standard. */
bool machine_irq_pending(const struct machine *m);
/* INTA: the vector to inject (or the spurious one). Only when irq_pending and the vCPU is
 * ready. */
uint8_t machine_irq_ack(struct machine *m);
/* Earliest wake-up any device asked for, UINT64_MAX for none; the shell sends it on with
 * machine_wake. */
uint64_t machine_next_wake_ns(const struct machine *m);
/* Gives INPUT_CLOCK(now) to every device whose wake-up is due, in device order. */
void machine_wake(struct machine *m, uint64_t now_ns);

/* All devices, in device order (design 4.3). 0 or -EBADMSG with io->error, io->section,
 * io->refused_field set. A failed load leaves the machine as machine_init made it. A load
 * must be given the configuration that was saved (checked). */
int machine_xfer(struct machine *m, struct state_io *io);
/* A buffer of this size always holds what machine_xfer saves. */
size_t machine_state_max(const struct machine *m);
/* crc32c of the saved state, for comparing twins; `scratch` holds machine_state_max
 * bytes. */
uint32_t machine_digest(struct machine *m, void *scratch, size_t scratch_len);
/* Requests that a back end has not answered yet: 0 before state may be saved for another
 * host. */
unsigned machine_io_in_flight(const struct machine *m);
/* FT go-live: submits again, in order and under the same generations, what back ends had
 * been given and not answered. */
void machine_reissue(struct machine *m);
/* A twin that made other outputs than its primary, when its memory is right: the bytes of
 * writes that its disks have not answered, or were not even given, are taken from there
 * anew; and those of one that is not answered are these. */
void machine_disks_forget(struct machine *m);
void machine_disk_bytes(struct machine *m, unsigned disk,
                        const struct blk_request *request);
/* Bytes, frames and inputs that were dropped because a bound was reached; for metrics,
 * not part of the state. */
uint64_t machine_dropped(const struct machine *m);
