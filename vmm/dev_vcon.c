/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_vcon.h"

#include <string.h>

#include "base/le.h"

#define CONFIG_LEN  12 /* cols, rows, max_nr_ports, emerg_wr */
#define CONFIG_NR   4
#define CONTROL_LEN 8
#define NAME_LEN    ((uint32_t)sizeof VCON_AGENT_NAME - 1)

struct guest_control {
    struct le32 port;
    struct le16 event, value;
};

_Static_assert(sizeof(struct guest_control) == CONTROL_LEN, "VIRTIO 1.2, 5.3.6.2");

static void vcon_config(const void *dev, uint8_t *buf)
{
    const struct le32 ports = le32_make(VCON_PORTS);

    (void)dev;
    memset(buf, 0, CONFIG_LEN);
    memcpy(buf + CONFIG_NR, &ports, sizeof ports);
}

static bool rearm(struct vcon *con, struct gmem *gm, unsigned queue)
{
    return virtq_rearm(&con->virtio.queue[queue], gm,
                       virtio_has(&con->virtio, VIRTIO_F_EVENT_IDX));
}

/* The next chain of a queue, after asking for a doorbell when there is none. False: none,
 * or the device is broken. */
static bool next_chain(struct vcon *con, struct gmem *gm, unsigned queue,
                       struct virtq_chain *ret_chain, struct effects *fx)
{
    while (virtio_running(&con->virtio)) {
        switch (virtq_pop(&con->virtio.queue[queue], gm, ret_chain)) {
        case VIRTQ_CHAIN:
            return true;
        case VIRTQ_BROKEN:
            virtio_broken(&con->virtio, fx);
            return false;
        case VIRTQ_EMPTY:
            if (!rearm(con, gm, queue)) {
                return false;
            }
        }
    }
    return false;
}

static void push(struct vcon *con, struct gmem *gm, unsigned queue, uint16_t head,
                 uint32_t written_len, struct effects *fx)
{
    if (!virtq_push(&con->virtio.queue[queue], gm, head, written_len)) {
        virtio_broken(&con->virtio, fx);
        return;
    }
    virtio_signal(&con->virtio, gm, queue, fx);
}

/* `len` bytes into a buffer of the driver; false when it does not hold them. */
static bool fill(struct gmem *gm, const struct virtq_chain *chain, uint32_t offset,
                 const void *src, uint32_t len)
{
    return virtq_copy_to(gm, chain->seg + chain->readable_count, chain->writable_count,
                         offset, src, len);
}

/* Control ------------------------------------------------------------------------- */

static void control_drain(struct vcon *con, struct gmem *gm, struct effects *fx)
{
    struct virtq_chain chain;

    while (con->control_count > 0 &&
           next_chain(con, gm, VCON_QUEUE_CONTROL_RX, &chain, fx)) {
        const struct vcon_control *c = &con->control[0];
        const struct guest_control message = {.port = le32_make(c->port),
                                              .event = le16_make(c->event),
                                              .value = le16_make(c->value)};
        uint32_t len = CONTROL_LEN;
        bool ok = fill(gm, &chain, 0, &message, CONTROL_LEN);

        if (ok && c->event == VCON_PORT_NAME) {
            ok = fill(gm, &chain, CONTROL_LEN, VCON_AGENT_NAME, NAME_LEN);
            len += NAME_LEN;
        }
        if (!ok) { /* can hold no message: the driver is wrong */
            virtio_broken(&con->virtio, fx);
            return;
        }
        con->control_count--;
        memmove(&con->control[0], &con->control[1],
                con->control_count * sizeof con->control[0]);
        push(con, gm, VCON_QUEUE_CONTROL_RX, chain.head, len, fx);
    }
}

static void tell(struct vcon *con, uint16_t event, uint16_t value, struct effects *fx)
{
    if (con->control_count == VCON_CONTROL_MAX) {
        fx->dropped++;
        return;
    }
    con->control[con->control_count++] =
        (struct vcon_control){.port = VCON_PORT_AGENT, .event = event, .value = value};
}

static void set_open(struct vcon *con, bool open, struct effects *fx)
{
    if (con->guest_open != open) {
        con->guest_open = open;
        con->rx_len = 0; /* was meant for who had it open before */
        fx->port_set = true;
        fx->port_open = open;
    }
}

static void control_message(struct vcon *con, const struct guest_control *message,
                            struct effects *fx)
{
    uint16_t event = le16_get(message->event), value = le16_get(message->value);

    if (event == VCON_DEVICE_READY) {
        if (value == 1) {
            tell(con, VCON_DEVICE_ADD, 1, fx);
        }
        return;
    }
    if (le32_get(message->port) != VCON_PORT_AGENT) {
        return;
    }
    if (event == VCON_PORT_READY && value == 1) {
        tell(con, VCON_PORT_NAME, 1, fx);
        tell(con, VCON_PORT_OPEN, 1, fx); /* our side always listens */
    } else if (event == VCON_PORT_OPEN) {
        set_open(con, value != 0, fx);
    }
}

static void control_take(struct vcon *con, struct gmem *gm, struct effects *fx)
{
    struct guest_control message;
    struct virtq_chain chain;

    while (next_chain(con, gm, VCON_QUEUE_CONTROL_TX, &chain, fx)) {
        if (virtq_copy_from(gm, chain.seg, chain.readable_count, 0, &message,
                            sizeof message)) { /* shorter ones say nothing */
            control_message(con, &message, fx);
        }
        push(con, gm, VCON_QUEUE_CONTROL_TX, chain.head, 0, fx);
    }
    control_drain(con, gm, fx);
}

/* Bytes --------------------------------------------------------------------------- */

static void rx_drain(struct vcon *con, struct gmem *gm, struct effects *fx)
{
    struct virtq_chain chain;

    while (con->rx_len > 0 && next_chain(con, gm, VCON_QUEUE_RX1, &chain, fx)) {
        uint32_t len =
            chain.writable_len < con->rx_len ? chain.writable_len : con->rx_len;

        if (len == 0 || !fill(gm, &chain, 0, con->rx, len)) {
            virtio_broken(&con->virtio, fx);
            return;
        }
        con->rx_len -= len;
        memmove(con->rx, con->rx + len, con->rx_len);
        push(con, gm, VCON_QUEUE_RX1, chain.head, len, fx);
    }
}

static void rx_take(struct vcon *con, struct gmem *gm, const struct dev_input *in,
                    struct effects *fx)
{
    uint32_t room = VCON_RX_MAX - con->rx_len;

    if (!con->guest_open ||
        in->len > room) { /* all or nothing: a half line helps nobody */
        fx->dropped += in->len;
        return;
    }
    if (in->len > 0) {
        memcpy(con->rx + con->rx_len, in->data, in->len);
        con->rx_len += in->len;
    }
    rx_drain(con, gm, fx);
}

/* What the guest sends goes out in pieces of the effects' room. */
static void tx_drain(struct vcon *con, struct gmem *gm, struct effects *fx)
{
    struct virtq_chain chain;

    while (next_chain(con, gm, VCON_QUEUE_TX1, &chain, fx)) {
        uint32_t left, part;

        if (chain.readable_len > VCON_CHAIN_MAX || con->tx_done > chain.readable_len) {
            virtio_broken(&con->virtio, fx);
            return;
        }
        left = chain.readable_len - con->tx_done;
        part = left < EFFECT_BYTES_MAX - fx->byte_count
                   ? left
                   : EFFECT_BYTES_MAX - fx->byte_count;
        if (!virtq_copy_from(gm, chain.seg, chain.readable_count, con->tx_done,
                             fx->bytes + fx->byte_count, part)) {
            virtio_broken(&con->virtio, fx);
            return;
        }
        fx->byte_count += part;
        if (part < left) {
            con->tx_done += part;
            virtq_unpop(&con->virtio.queue[VCON_QUEUE_TX1], &chain);
            fx->again = true;
            return;
        }
        con->tx_done = 0;
        push(con, gm, VCON_QUEUE_TX1, chain.head, 0, fx);
    }
}

static void tx0_swallow(struct vcon *con, struct gmem *gm, struct effects *fx)
{
    struct virtq_chain chain;

    while (next_chain(con, gm, VCON_QUEUE_TX0, &chain, fx)) {
        push(con, gm, VCON_QUEUE_TX0, chain.head, 0, fx);
    }
}

/* Device -------------------------------------------------------------------------- */

static void vcon_notify(void *dev, struct gmem *gm, unsigned queue, struct effects *fx)
{
    struct vcon *con = dev;

    if (queue != VCON_QUEUE_TX0 && !virtio_has(&con->virtio, VCON_F_MULTIPORT)) {
        return; /* these queues are not there */
    }
    switch ((enum vcon_queue)queue) {
    case VCON_QUEUE_TX0:
        tx0_swallow(con, gm, fx);
        break;
    case VCON_QUEUE_CONTROL_RX:
        control_drain(con, gm, fx);
        break;
    case VCON_QUEUE_CONTROL_TX:
        control_take(con, gm, fx);
        break;
    case VCON_QUEUE_RX1:
        rx_drain(con, gm, fx);
        break;
    case VCON_QUEUE_TX1:
        tx_drain(con, gm, fx);
        break;
    case VCON_QUEUE_RX0:
        break; /* we have nothing to say there */
    }
}

static void vcon_resume(void *dev, struct gmem *gm, struct effects *fx)
{
    tx_drain(dev, gm, fx);
}

static void vcon_input(void *dev, struct gmem *gm, const struct dev_input *in,
                       struct effects *fx)
{
    struct vcon *con = dev;

    if (in->type == INPUT_PORT_RX && virtio_running(&con->virtio)) {
        rx_take(con, gm, in, fx);
    }
}

static void vcon_driver_reset(void *dev, struct effects *fx)
{
    struct vcon *con = dev;

    set_open(con, false, fx);
    con->control_count = con->rx_len = con->tx_done = 0;
}

static const struct virtio_class vcon_virtio = {
    .device_id = VIRTIO_ID_CONSOLE,
    .queue_count = VCON_QUEUES,
    .queue_size_max = VCON_QUEUE_SIZE,
    .config_len = CONFIG_LEN,
    .config = vcon_config,
    .notify = vcon_notify,
    .reset = vcon_driver_reset,
};

void vcon_init(struct vcon *con)
{
    memset(con, 0, sizeof *con);
    virtio_init(&con->virtio, &vcon_virtio,
                VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VCON_F_MULTIPORT);
}

static void vcon_reset(void *dev, struct effects *fx)
{
    virtio_reset(dev, fx);
    vcon_driver_reset(dev, fx);
}

static void control_xfer(struct vcon_control *c, struct state_io *io)
{
    c->port = VCON_PORT_AGENT;
    state_u16(io, &c->event);
    state_u16(io, &c->value);
    if (c->event > VCON_PORT_NAME) {
        state_refuse(io, "control");
    }
}

static int vcon_xfer(void *dev, struct state_io *io)
{
    struct vcon *con = dev;

    virtio_xfer(&con->virtio, io);
    state_bool(io, &con->guest_open);
    state_u32(io, &con->tx_done);
    state_u32(io, &con->control_count);
    state_u32(io, &con->rx_len);
    if (con->tx_done > VCON_CHAIN_MAX || con->control_count > VCON_CONTROL_MAX ||
        con->rx_len > VCON_RX_MAX) {
        state_refuse(io, "lengths");
        con->tx_done = con->control_count = con->rx_len = 0;
        return state_end(io);
    }
    for (uint32_t i = 0; i < con->control_count; i++) {
        control_xfer(&con->control[i], io);
    }
    state_bytes(io, con->rx, con->rx_len);
    for (unsigned i = 0; i < VCON_QUEUES; i++) {
        if (virtq_in_flight_count(&con->virtio.queue[i]) > 0 &&
            (con->virtio.status & VIRTIO_STATUS_NEEDS_RESET) == 0) {
            state_refuse(io, "in_flight");
        }
    }
    return state_end(io);
}

const struct dev_class dev_vcon_class = {
    .name = "vcon",
    .version = 1,
    .min_reader = 1,
    .state_size = sizeof(struct vcon),
    .reset = vcon_reset,
    .input = vcon_input,
    .resume = vcon_resume,
    .xfer = vcon_xfer,
};
