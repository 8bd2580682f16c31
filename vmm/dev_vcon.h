/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console with multiport (VIRTIO 1.2, 5.3). The one port that exists is the guest
 * agent's, number 1 (queues 4 and 5); the main console is the 16550, so port 0 (queues 0
 * and 1) only swallows what a driver without multiport sends.
 *
 * Bounds: answers to the driver that wait for control buffers (VCON_CONTROL_MAX), bytes
 * that wait for the port's buffers (VCON_RX_MAX), bytes of one chain (VCON_CHAIN_MAX).
 * What does not fit is dropped and counted; the protocol above resynchronises.
 */
#pragma once

#include "vmm/dev_virtio.h"

#define VCON_PORTS       2
#define VCON_PORT_AGENT  1
#define VCON_AGENT_NAME  "org.qemu.guest_agent.0"
#define VCON_QUEUES      (2 * (VCON_PORTS + 1))
#define VCON_QUEUE_SIZE  64
#define VCON_CONTROL_MAX 16
#define VCON_RX_MAX      4096
#define VCON_CHAIN_MAX   (64 * 1024)
#define VCON_SAVED_MAX   (2048 + VCON_RX_MAX)

#define VCON_F_MULTIPORT (UINT64_C(1) << 1)

enum vcon_queue { /* of port 0, of control, of port 1; as seen by the driver */
                  VCON_QUEUE_RX0 = 0,
                  VCON_QUEUE_TX0,
                  VCON_QUEUE_CONTROL_RX,
                  VCON_QUEUE_CONTROL_TX,
                  VCON_QUEUE_RX1,
                  VCON_QUEUE_TX1,
};

enum vcon_event { /* 5.3.6.2 */
                  VCON_DEVICE_READY = 0,
                  VCON_DEVICE_ADD,
                  VCON_DEVICE_REMOVE,
                  VCON_PORT_READY,
                  VCON_CONSOLE_PORT,
                  VCON_RESIZE,
                  VCON_PORT_OPEN,
                  VCON_PORT_NAME,
};

struct vcon_control {
    uint32_t port;
    uint16_t event, value;
};

struct vcon {
    struct virtio virtio; /* first: dev_virtio.h */
    bool guest_open;      /* somebody in the guest has the agent's port open */
    uint32_t tx_done;     /* bytes of the chain at the head of the agent's TX queue */
    uint32_t control_count, rx_len;
    struct vcon_control control[VCON_CONTROL_MAX]; /* wait for buffers, oldest first */
    uint8_t rx[VCON_RX_MAX];                       /* the same */
};

extern const struct dev_class dev_vcon_class;

void vcon_init(struct vcon *con);
