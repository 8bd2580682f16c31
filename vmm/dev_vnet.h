/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (VIRTIO 1.2, 5.1), one queue pair or several (MQ). Frames for a driver
 * without buffers wait in a bounded backlog; beyond it, and where a buffer is too small,
 * they are dropped and counted, as a wire does it.
 *
 * Without offloads (lockstep) a frame is what was on the wire, after a 12-byte header
 * that is ours to fill and to ignore. With them (standard) the header travels along with
 * the frame in both directions: checksums and TCP segments are left to who can do them.
 * Headers that ask for what was not negotiated are dropped, whoever made them.
 * GUEST_ANNOUNCE: INPUT_ANNOUNCE makes the guest say where it is.
 */
#pragma once

#include "vmm/dev_virtio.h"
#include "vmm/rate.h"

#define VNET_QUEUE_RX    0 /* of pair p: 2 * p */
#define VNET_QUEUE_TX    1
#define VNET_QUEUE_CTRL  2 /* with offloads; with MQ behind the last pair */
#define VNET_PAIRS_MAX   8
#define VNET_QUEUE_SIZE  256
#define VNET_HEADER_LEN  NET_HEADER_LEN
#define VNET_FRAME_MIN   14 /* an Ethernet header */
#define VNET_BACKLOG_LEN (128 * 1024)
#define VNET_EXTRA_LEN   (72 * 1024) /* of each pair but the first: one frame fits */
#define VNET_SAVED_MAX   (2048 + VNET_BACKLOG_LEN + (VNET_PAIRS_MAX - 1) * VNET_EXTRA_LEN)

struct vnet_conf {
    uint8_t mac[6];
    bool offloads;
    unsigned pairs;                      /* 0 and 1: one; more with offloads only */
    uint64_t bytes_per_s, packets_per_s; /* in each direction; 0: no limit */
};

/* Limits of one direction. */
struct vnet_rate {
    struct rate bytes, packets;
};

/* {u32 len, frame} one after the other, for a driver without buffers. */
struct vnet_backlog {
    uint32_t first, len;
};

struct vnet {
    struct virtio virtio; /* first: dev_virtio.h */
    /* From the configuration */
    uint8_t mac[6];
    bool offloads;
    unsigned pairs;
    /* State */
    bool link_up, announce;
    uint64_t rx_dropped, tx_dropped;
    uint64_t now_ns; /* with limits: of the last INPUT_CLOCK */
    struct vnet_rate rx_rate, tx_rate;
    uint16_t pairs_on; /* that the driver uses */
    struct vnet_backlog backlog[VNET_PAIRS_MAX];
    uint8_t waiting[VNET_BACKLOG_LEN]; /* of the first pair */
    uint8_t waiting_extra[VNET_PAIRS_MAX - 1][VNET_EXTRA_LEN];
};

extern const struct dev_class dev_vnet_class;

void vnet_init(struct vnet *net, const struct vnet_conf *conf);
/* Bits of NET_OFFLOAD_ that the driver has negotiated; 0 while it does not run. */
unsigned vnet_offload(const struct vnet *net);
