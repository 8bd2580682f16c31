/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine on a bench: RAM, ops that write down what they are told, and a hand-driven
 * clock and disk. Shared by the unit tests of vmm/ and its fuzz targets; no KVM, no
 * threads.
 */
#pragma once

#include "vmm/dev_vmmio.h"
#include "vmm/dev_vpci.h"
#include "vmm/machine.h"

#define RIG_RAM_LEN     (64 * 1024)
#define RIG_PENDING_MAX 64
#define RIG_SECTORS     256

struct rig_request {
    unsigned disk;
    struct blk_request request; /* data is what the device points at */
};

struct rig {
    struct machine_conf conf;
    struct gmem gm;
    uint8_t *ram;
    uint64_t dirty[1];
    void *memory;
    struct machine *m;
    uint64_t now_ns;
    unsigned queue_size;
    /* What the machine did since rig_log_clear: tagged bytes. Grows; never cut. */
    uint8_t *log;
    size_t log_len, log_cap;
    uint8_t *serial; /* every byte ever sent */
    size_t serial_len;
    struct rig_request pending[RIG_PENDING_MAX]; /* submitted, not completed */
    unsigned pending_count, submitted_count, frame_count;
    uint8_t frame[NET_HEADER_LEN + NET_FRAME_MAX]; /* the last one */
    uint32_t frame_len;
    unsigned frame_queue;
    unsigned resets, shutdowns;
    /* Machine standard */
    bool gsi[BOARD_GSI_COUNT];
    unsigned gsi_calls, msi_count;
    uint64_t msi_address; /* the last one */
    uint32_t msi_data;
    uint64_t doorbell[MACHINE_VIRTIO_SLOTS][VIRTIO_QUEUES_MAX]; /* 0: none */
    unsigned panics, bites;
    uint32_t panic_value;
    uint32_t entropy_wanted; /* asked for last */
    bool port_is_open;
    unsigned net_offload, net_offloads; /* the last one; how often */
    unsigned range_count;
    uint64_t range_bytes;
    struct gpa_range range; /* the last one */
    bool forgetful; /* fuzzing: of too many pending requests the oldest is lost, not an
                       error */
    /* Hooks */
    uint64_t (*clock)(struct rig *rig);
    void (*on_input)(struct rig *rig, unsigned dev_index, const struct dev_input *in);
    void *user;
};

extern const struct machine_ops *const rig_ops; /* of every rig; ctx is the rig */

/* One disk of RIG_SECTORS and one nic unless conf says otherwise (NULL: those). Aborts
 * when that cannot be. */
void rig_init(struct rig *rig, const struct machine_conf *conf);
void rig_free(struct rig *rig);
/* Throws the machine away and makes another in memory full of rubbish. RAM and the back
 * end's view stay. */
void rig_renew(struct rig *rig);
/* The same rig from the start, in the memory it has: much cheaper than rig_init. */
void rig_restart(struct rig *rig);
void rig_log_clear(struct rig *rig);
void rig_log(struct rig *rig, char tag, const void *data, size_t len);

uint64_t rig_in(struct rig *rig, uint16_t port, unsigned len);
void rig_out(struct rig *rig, uint16_t port, unsigned len, uint64_t value);
uint64_t rig_mmio_in(struct rig *rig, uint64_t addr, unsigned len);
void rig_mmio_out(struct rig *rig, uint64_t addr, unsigned len, uint64_t value);
uint32_t rig_vreg_in(struct rig *rig, unsigned slot, unsigned reg);
void rig_vreg_out(struct rig *rig, unsigned slot, unsigned reg, uint32_t value);
/* PCI configuration space through ECAM. */
uint32_t rig_pci_in(struct rig *rig, unsigned dev, unsigned reg, unsigned len);
void rig_pci_out(struct rig *rig, unsigned dev, unsigned reg, unsigned len,
                 uint32_t value);
/* Offset of a capability: of this id, and, for the vendor's, of this cfg_type; 0: none.
 */
unsigned rig_pci_cap(struct rig *rig, unsigned dev, unsigned id, unsigned cfg_type);
/* Where BAR n of a device is, as its registers say. */
uint64_t rig_pci_bar(struct rig *rig, unsigned dev, unsigned bar);
void rig_clock(struct rig *rig,
               uint64_t now_ns); /* moves time and delivers due wake-ups */
/* ICW1-4: vectors 0x20 and 0x28, everything unmasked, ELCR for 5, 9, 10, 11. */
void rig_pic_init(struct rig *rig);
/* Whole state: returns its length; the buffer is the caller's to free. */
size_t rig_save(struct rig *rig, uint8_t **ret_buf);
int rig_load(struct rig *rig, const uint8_t *buf, size_t len, struct state_io *ret_io);
uint32_t rig_digest(struct rig *rig);

/* A virtio driver of few words, for both transports. Rings of queue q of a slot lie at
 * ring_base. */
#define RIG_QUEUE_SIZE 8 /* unless rig.queue_size says otherwise */
struct rig_ring {
    unsigned slot, queue, size;
    uint64_t desc, avail, used;
    uint16_t avail_idx, used_seen;
};
void rig_virtio_start(struct rig *rig, unsigned slot, uint64_t features,
                      struct rig_ring *rings, unsigned ring_count, uint64_t ring_base);
void rig_desc(struct rig *rig, const struct rig_ring *ring, unsigned index, uint64_t addr,
              uint32_t len, uint16_t flags, uint16_t next);
void rig_offer(struct rig *rig, struct rig_ring *ring,
               uint16_t head); /* publishes; does not notify */
void rig_notify(struct rig *rig, const struct rig_ring *ring);
/* The next used element; false when there is none. */
bool rig_used(struct rig *rig, struct rig_ring *ring, uint32_t *ret_id,
              uint32_t *ret_len);
/* Completes pending request i as a disk whose sector n is filled with byte n would. */
void rig_blk_done(struct rig *rig, unsigned i, uint32_t status);

uint64_t rig_random(uint64_t *state); /* splitmix64 */
