/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine with one of every virtio device, its drivers started, for the tests of the
 * classes of bugs (check_class_*.c): what is wrong in one device is looked for in all.
 * Each queue that a device looks at has a well-formed request and a way to make the
 * device look. Reads of guest memory pass a hook (gmem_read and gmem_load16 are wrapped
 * at link time), so that memory can change behind every one of them.
 */
#pragma once

#include "tests/unit/vmm/machine_rig.h"

#define CLASS_DATA     0x8000 /* buffers: 0x800 bytes per descriptor */
#define CLASS_QUEUES   10
#define CLASS_SLOTS    5
#define CLASS_RINGS    UINT64_C(0x1000) /* where the rings lie: to 0x4800 */
#define CLASS_FRAMELEN (NET_HEADER_LEN + 60)

enum class_slot { SLOT_BLK = 0, SLOT_NET, SLOT_RNG, SLOT_CON, SLOT_BALLOON };

struct class_queue {
    const char *name;
    enum class_slot slot;
    unsigned queue;
    uint16_t flags; /* VIRTQ_DESC_WRITE: its buffers are the device's to fill */
};
extern const struct class_queue class_queue[CLASS_QUEUES];

extern struct rig class_rig;
extern struct rig_ring class_ring[CLASS_SLOTS][6];
/* Called after each read of guest memory by a device; NULL: nothing. */
extern void (*class_on_read)(uint64_t addr, size_t len);
extern unsigned class_reads;

void class_open(enum machine_transport transport);
void class_close(void);
/* Negotiates again: all rings empty, everything ready. */
void class_start(enum class_slot slot);
/* The same for all, and what a queue needs before its device looks at it (a port that is
 * open, a message that waits). */
void class_prime(const struct class_queue *q);
struct rig_ring *class_ring_of(const struct class_queue *q);
/* A request that the device likes, from descriptor `head` on, not offered yet; returns
 * how many descriptors it has. */
unsigned class_request(const struct class_queue *q, unsigned head);
/* Doorbell, and what else makes the device look at its queue. */
void class_poke(const struct class_queue *q);
uint8_t class_status(enum class_slot slot);
bool class_broken(enum class_slot slot);
/* Everything else must be as if nothing had happened: no device but this one is broken,
 * and the whole machine can be saved, loaded and saved to equal bytes. */
void class_others_live(enum class_slot slot);
void class_input(enum class_slot slot, enum input_type type, const void *data,
                 uint32_t len);
/* A register of the transport. */
void class_write_status(enum class_slot slot, uint8_t value);
