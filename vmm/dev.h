/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device contract (design 4.2). A device is a const class and a plain state struct.
 * It never touches KVM, fds, clocks, threads or interrupt lines: it gets guest memory
 * through gmem, returns effects, and everything nondeterministic enters through input().
 * That call is the record point, the replay point and the unit test's stimulus: the same
 * inputs at the same places give the same state bytes and the same effects.
 *
 * Time: a device with reads_clock set is given INPUT_CLOCK before each register access;
 * wake-ups asked for with effect wake_at_ns come back as INPUT_CLOCK too. Virtual machine
 * time is in ns since the machine was made.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/state_io.h"
#include "vmm/gmem.h"

enum input_type {
    INPUT_NONE = 0,
    INPUT_CLOCK,     /* now_ns */
    INPUT_SERIAL_RX, /* data, len <= SERIAL_RX_MAX */
    INPUT_NET_RX, /* data: one frame of at most NET_FRAME_MAX; a nic with offloads: after
                     its virtio_net_hdr_v1 (NET_HEADER_LEN), which the network made */
    INPUT_BLK_DONE, /* slot, generation, status, data (reads: the bytes read) */
    INPUT_POWER_BUTTON,
    INPUT_RTC_BASE, /* now_ns: wall-clock seconds x 1e9 at machine time 0; once, before
                       the first entry */
    INPUT_LINK,     /* value: 0 down, 1 up */
    INPUT_EPOCH,    /* value: the claim's epoch, for the guest's fw_cfg; before the first
                       entry, and after each claim */
    INPUT_NOTIFY,   /* value: queue whose doorbell rang (machine_ops.doorbell) */
    INPUT_ENTROPY,  /* data: random bytes, len <= ENTROPY_MAX; the answer to
                       effects.entropy_wanted */
    INPUT_PORT_RX,  /* data: bytes for the guest agent's port, len <= PORT_RX_MAX */
    INPUT_BALLOON,  /* value: pages that the balloon should have */
    INPUT_BALLOON_POLL, /* fresh statistics are wanted */
    INPUT_ANNOUNCE,     /* the guest should tell its network where it is now */
    INPUT_TYPE_COUNT,
};

struct dev_input {
    enum input_type type;
    uint64_t now_ns;
    uint32_t slot, generation;
    uint32_t status; /* 0, or an errno */
    uint64_t value;
    const uint8_t *data;
    uint32_t len;
};

enum request_op {
    REQUEST_READ = 1,
    REQUEST_WRITE,
    REQUEST_FLUSH,
    REQUEST_DISCARD,
    REQUEST_WRITE_ZEROES
};

/* A request to a block back end. The device's slot holds the guest segments; lockstep
 * machines copy writes out at submission (`data`, owned by the slot until its completion
 * input) and reads in at INPUT_BLK_DONE. */
struct blk_request {
    enum request_op op;
    uint32_t slot, generation;
    uint64_t sector; /* of 512 bytes */
    uint32_t len;
    const uint8_t *data; /* writes */
    uint8_t *room; /* reads: len bytes that the back end may use for what it reads, or
                      NULL; the slot's until the completion */
    bool through;  /* write: answered when it is past every cache, of this host and of an
                      NBD server */
};

#define EFFECT_BYTES_MAX    256
#define EFFECT_REQUESTS_MAX VIRTQ_SIZE_MAX
#define EFFECT_FRAMES_MAX   VIRTQ_SIZE_MAX
#define NET_FRAME_MAX       65550
#define NET_HEADER_LEN      12
#define SERIAL_RX_MAX       64
#define ENTROPY_MAX         256
#define PORT_RX_MAX         1024
#define EFFECT_RANGES_MAX   64
#define EFFECT_IRQ_CONFIG   (UINT32_C(1) << 31)

/* What a guest can do with frames from the network (effects.net_offload). */
#define NET_OFFLOAD_CSUM 1u
#define NET_OFFLOAD_TSO4 2u
#define NET_OFFLOAD_TSO6 4u

struct net_frame_out {
    const uint8_t *data; /* in effects->frame_bytes */
    uint32_t len;
    uint8_t queue; /* of the nic's pairs */
};

struct gpa_range {
    struct gpa base;
    uint64_t len;
};

/* What an access or an input led to. The caller clears it before a call and carries it
 * out after; a device only adds. */
struct effects {
    bool irq_set; /* irq_level is meaningful */
    bool irq_level;
    bool irq_edge; /* raise and lower at once: the 8254, whose output pin is a pulse */
    /* Virtio: bit q: buffers of queue q were used and the driver wants to hear of it; bit
     * 31 (EFFECT_IRQ_CONFIG): the configuration changed. The level says the same to a
     * transport with one line. */
    uint32_t queue_irq;
    bool wake_set; /* replace this device's wake-up: UINT64_MAX for none */
    uint64_t wake_at_ns;
    bool reset;                      /* system reset wanted */
    bool shutdown;                   /* power off wanted */
    bool watchdog;                   /* the guest's watchdog has bitten */
    uint8_t panic;                   /* pvpanic event bits, 0: none */
    uint8_t bytes[EFFECT_BYTES_MAX]; /* serial, debug port, agent's port */
    uint32_t byte_count;
    struct blk_request request[EFFECT_REQUESTS_MAX];
    uint32_t request_count;
    struct net_frame_out frame[EFFECT_FRAMES_MAX];
    uint32_t frame_count;
    bool net_offload_set;
    uint8_t net_offload;      /* bits of NET_OFFLOAD_ */
    bool port_set, port_open; /* the guest has opened or closed the agent's port */
    struct gpa_range range[EFFECT_RANGES_MAX]; /* whole pages of RAM for the host */
    uint32_t range_count;
    uint32_t entropy_wanted; /* bytes that a driver waits for */
    uint8_t *frame_bytes;    /* arena of the caller for outgoing frames */
    uint32_t frame_bytes_len, frame_bytes_cap;
    uint32_t dropped; /* what did not fit: counted, never overflowed */
    bool again; /* more work of the same call is left: carry this out, clear, then call
                   resume() */
};

/* Cheap enough for every access: the arrays are left as they are. frame_bytes and its cap
 * stay. */
static inline void effects_clear(struct effects *fx)
{
    fx->irq_set = fx->irq_level = fx->irq_edge = fx->wake_set = false;
    fx->reset = fx->shutdown = fx->watchdog = fx->again = false;
    fx->panic = 0;
    fx->queue_irq = 0;
    fx->entropy_wanted = fx->range_count = 0;
    fx->port_set = fx->port_open = fx->net_offload_set = false;
    fx->net_offload = 0;
    fx->wake_at_ns = UINT64_MAX;
    fx->byte_count = fx->request_count = fx->frame_count = fx->frame_bytes_len =
        fx->dropped = 0;
}

static inline void effects_irq(struct effects *fx, bool level)
{
    fx->irq_set = true;
    fx->irq_level = level;
}

static inline void effects_wake(struct effects *fx, uint64_t at_ns)
{
    fx->wake_set = true;
    fx->wake_at_ns = at_ns;
}

static inline void effects_byte(struct effects *fx, uint8_t byte)
{
    if (fx->byte_count == EFFECT_BYTES_MAX) {
        fx->dropped++;
        return;
    }
    fx->bytes[fx->byte_count++] = byte;
}

struct dev_class {
    const char *name; /* of the state section and of log lines */
    uint16_t version, min_reader;
    size_t state_size;
    bool reads_clock;
    void (*reset)(void *dev, struct effects *fx);
    /* NULL for virtio devices, whose registers are their transport's. offset within the
     * device's range; len 1, 2, 4 or 8, already checked to lie inside
     * it. Unknown registers read as all ones (ports) or 0 (virtio), writes to them are
     * ignored. */
    uint64_t (*read)(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                     struct effects *fx);
    void (*write)(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                  uint64_t value, struct effects *fx);
    void (*input)(void *dev, struct gmem *gm, const struct dev_input *in,
                  struct effects *fx);
    /* Only for devices that set effects.again; terminates after finitely many calls. May
     * be NULL. */
    void (*resume)(void *dev, struct gmem *gm, struct effects *fx);
    /* One field list for save and load; a load validates everything before it is used. 0
     * or -EBADMSG. */
    int (*xfer)(void *dev, struct state_io *io);
};
