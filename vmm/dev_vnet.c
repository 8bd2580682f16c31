/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_vnet.h"

#include <string.h>

#define NET_F_MAC     (UINT64_C(1) << 5)
#define NET_F_STATUS  (UINT64_C(1) << 16)
#define NET_S_LINK_UP 1
#define CONFIG_LEN    8 /* mac, status */
#define BACKLOG_HEAD  4

_Static_assert(VNET_BACKLOG_LEN >= NET_FRAME_MAX + BACKLOG_HEAD, "one frame always fits");

static void vnet_config(const void *dev, uint8_t *buf)
{
    const struct vnet *net = dev;

    memcpy(buf, net->mac, sizeof net->mac);
    buf[6] = net->link_up ? NET_S_LINK_UP : 0;
    buf[7] = 0;
}

static bool event_idx(const struct vnet *net)
{
    return virtio_has(&net->virtio, VIRTIO_F_EVENT_IDX);
}

/* Receiving ----------------------------------------------------------------------- */

enum rx_result { RX_DONE = 0, RX_NO_BUFFER, RX_TOO_BIG, RX_BROKEN };

/* One frame into the next chain of the driver. A chain that is too small stays in the
 * ring. */
static enum rx_result rx_place(struct vnet *net, struct gmem *gm, const uint8_t *frame,
                               uint32_t len)
{
    static const uint8_t header[VNET_HEADER_LEN] = {[10] = 1}; /* num_buffers = 1 */
    struct virtq *q = &net->virtio.queue[VNET_QUEUE_RX];
    struct virtq_chain chain;
    const struct virtq_seg *seg;

    switch (virtq_pop(q, gm, &chain)) {
    case VIRTQ_EMPTY:
        return RX_NO_BUFFER;
    case VIRTQ_BROKEN:
        return RX_BROKEN;
    case VIRTQ_CHAIN:
        break;
    }
    seg = chain.seg + chain.readable_count;
    if (chain.writable_len <
        VNET_HEADER_LEN) { /* can never hold any frame: the driver is wrong */
        return RX_BROKEN;
    }
    if (chain.writable_len - VNET_HEADER_LEN < len) {
        virtq_unpop(q, &chain);
        return RX_TOO_BIG;
    }
    if (!virtq_copy_to(gm, seg, chain.writable_count, 0, header, VNET_HEADER_LEN) ||
        !virtq_copy_to(gm, seg, chain.writable_count, VNET_HEADER_LEN, frame, len) ||
        !virtq_push(q, gm, chain.head, VNET_HEADER_LEN + len)) {
        return RX_BROKEN;
    }
    return RX_DONE;
}

static void rx_drop(struct vnet *net, struct effects *fx)
{
    net->rx_dropped++;
    fx->dropped++;
}

static void backlog_add(struct vnet *net, const uint8_t *frame, uint32_t len,
                        struct effects *fx)
{
    uint8_t *end;

    if (len + BACKLOG_HEAD > VNET_BACKLOG_LEN - net->backlog_len) {
        rx_drop(net, fx);
        return;
    }
    if (net->backlog_first + net->backlog_len + BACKLOG_HEAD + len > VNET_BACKLOG_LEN) {
        memmove(net->backlog, net->backlog + net->backlog_first, net->backlog_len);
        net->backlog_first = 0;
    }
    end = net->backlog + net->backlog_first + net->backlog_len;
    memcpy(end, &len, BACKLOG_HEAD);
    memcpy(end + BACKLOG_HEAD, frame, len);
    net->backlog_len += BACKLOG_HEAD + len;
}

/* Gives waiting frames to a driver that has new buffers. */
static void rx_drain(struct vnet *net, struct gmem *gm, struct effects *fx)
{
    struct virtq *q = &net->virtio.queue[VNET_QUEUE_RX];
    uint16_t used_before = q->used_idx;

    while (net->backlog_len > 0 && virtio_running(&net->virtio)) {
        const uint8_t *entry = net->backlog + net->backlog_first;
        uint32_t len;
        enum rx_result result;

        memcpy(&len, entry, BACKLOG_HEAD);
        result = rx_place(net, gm, entry + BACKLOG_HEAD, len);
        if (result == RX_NO_BUFFER && !virtq_rearm(q, gm, event_idx(net))) {
            break;
        }
        if (result == RX_BROKEN) {
            virtio_broken(&net->virtio, fx);
            break;
        }
        if (result == RX_NO_BUFFER) {
            continue; /* a buffer came between the look and the re-arm */
        }
        if (result == RX_TOO_BIG) {
            rx_drop(net, fx);
        }
        net->backlog_first += BACKLOG_HEAD + len;
        net->backlog_len -= BACKLOG_HEAD + len;
    }
    if (net->backlog_len == 0) {
        net->backlog_first = 0;
    }
    if (q->used_idx != used_before) {
        virtio_signal(&net->virtio, gm, VNET_QUEUE_RX, fx);
    }
}

static void rx_frame(struct vnet *net, struct gmem *gm, const struct dev_input *in,
                     struct effects *fx)
{
    if (!virtio_running(&net->virtio) || !net->virtio.queue[VNET_QUEUE_RX].ready ||
        !net->link_up || in->len < VNET_FRAME_MIN) {
        rx_drop(net, fx);
        return;
    }
    backlog_add(net, in->data, in->len, fx);
    rx_drain(net, gm, fx);
}

/* Sending ------------------------------------------------------------------------- */

static void tx_frame(struct vnet *net, struct gmem *gm, const struct virtq_chain *chain,
                     struct effects *fx)
{
    uint8_t *frame = fx->frame_bytes + fx->frame_bytes_len;
    uint32_t len;

    if (chain->readable_len < VNET_HEADER_LEN + VNET_FRAME_MIN ||
        chain->readable_len - VNET_HEADER_LEN > NET_FRAME_MAX || !net->link_up) {
        net->tx_dropped++;
        fx->dropped++;
        return;
    }
    len = chain->readable_len - VNET_HEADER_LEN;
    if (!virtq_copy_from(gm, chain->seg, chain->readable_count, VNET_HEADER_LEN, frame,
                         len)) {
        net->tx_dropped++;
        fx->dropped++;
        return;
    }
    fx->frame[fx->frame_count++] = (struct net_frame_out){.data = frame, .len = len};
    fx->frame_bytes_len += len;
}

static bool tx_room(const struct effects *fx)
{
    return fx->frame_count < EFFECT_FRAMES_MAX &&
           fx->frame_bytes_cap - fx->frame_bytes_len >= NET_FRAME_MAX;
}

/* Sends what is queued; when the arena is full, it is emptied and we are called again. */
static void tx_drain(struct vnet *net, struct gmem *gm, struct effects *fx)
{
    struct virtq *q = &net->virtio.queue[VNET_QUEUE_TX];
    uint16_t used_before = q->used_idx;
    struct virtq_chain chain;

    while (virtio_running(&net->virtio)) {
        enum virtq_status status;

        if (!tx_room(fx)) {
            fx->again = true;
            break;
        }
        status = virtq_pop(q, gm, &chain);
        if (status == VIRTQ_EMPTY) {
            if (!virtq_rearm(q, gm, event_idx(net))) {
                break;
            }
            continue;
        }
        if (status == VIRTQ_BROKEN) {
            virtio_broken(&net->virtio, fx);
            break;
        }
        tx_frame(net, gm, &chain, fx);
        if (!virtq_push(q, gm, chain.head, 0)) {
            virtio_broken(&net->virtio, fx);
            break;
        }
    }
    if (q->used_idx != used_before) {
        virtio_signal(&net->virtio, gm, VNET_QUEUE_TX, fx);
    }
}

/* Device -------------------------------------------------------------------------- */

static void vnet_notify(void *dev, struct gmem *gm, unsigned queue, struct effects *fx)
{
    struct vnet *net = dev;

    if (queue == VNET_QUEUE_TX) {
        tx_drain(net, gm, fx);
    } else {
        virtq_rearm(&net->virtio.queue[VNET_QUEUE_RX], gm, event_idx(net));
        rx_drain(net, gm, fx);
    }
}

static void vnet_resume(void *dev, struct gmem *gm, struct effects *fx)
{
    struct vnet *net = dev;

    if (virtio_running(&net->virtio)) {
        tx_drain(net, gm, fx);
    }
}

static void vnet_input(void *dev, struct gmem *gm, const struct dev_input *in,
                       struct effects *fx)
{
    struct vnet *net = dev;

    if (in->type == INPUT_NET_RX) {
        rx_frame(net, gm, in, fx);
    } else if (in->type == INPUT_LINK && net->link_up != (in->value != 0)) {
        net->link_up = in->value != 0;
        if (virtio_has(&net->virtio, NET_F_STATUS)) {
            virtio_config_changed(&net->virtio, fx);
        }
    }
}

static void vnet_driver_reset(void *dev, struct effects *fx)
{
    struct vnet *net = dev;

    (void)fx;
    net->backlog_first = net->backlog_len = 0;
}

static const struct virtio_class vnet_virtio = {
    .device_id = VIRTIO_ID_NET,
    .queue_count = 2,
    .queue_size_max = VNET_QUEUE_SIZE,
    .config_len = CONFIG_LEN,
    .config = vnet_config,
    .notify = vnet_notify,
    .reset = vnet_driver_reset,
};

void vnet_init(struct vnet *net, const uint8_t mac[6])
{
    memset(net, 0, offsetof(struct vnet, backlog));
    virtio_init(&net->virtio, &vnet_virtio,
                VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | NET_F_MAC | NET_F_STATUS);
    memcpy(net->mac, mac, sizeof net->mac);
    net->link_up = true;
}

static void vnet_reset(void *dev, struct effects *fx)
{
    struct vnet *net = dev;

    virtio_reset(&net->virtio, fx);
    vnet_driver_reset(net, fx);
}

/* Whether the backlog is a row of whole frames. */
static bool backlog_ok(const struct vnet *net)
{
    uint32_t pos = 0, len;

    while (pos < net->backlog_len) {
        if (net->backlog_len - pos < BACKLOG_HEAD) {
            return false;
        }
        memcpy(&len, net->backlog + net->backlog_first + pos, BACKLOG_HEAD);
        pos += BACKLOG_HEAD;
        if (len < VNET_FRAME_MIN || len > NET_FRAME_MAX || len > net->backlog_len - pos) {
            return false;
        }
        pos += len;
    }
    return true;
}

static int vnet_xfer(void *dev, struct state_io *io)
{
    struct vnet *net = dev;
    uint8_t mac[6];
    uint32_t backlog_len = net->backlog_len;

    memcpy(mac, net->mac, sizeof mac);
    state_bytes(io, mac, sizeof mac);
    if (memcmp(mac, net->mac, sizeof mac) != 0) {
        state_refuse(io, "mac");
    }
    virtio_xfer(&net->virtio, io);
    state_bool(io, &net->link_up);
    state_u64(io, &net->rx_dropped);
    state_u64(io, &net->tx_dropped);
    state_u32(io, &backlog_len);
    if (io->mode == STATE_LOAD) {
        net->backlog_first = net->backlog_len = 0;
    }
    if (backlog_len > VNET_BACKLOG_LEN) {
        state_refuse(io, "backlog_len");
        return state_end(io);
    }
    state_bytes(io, net->backlog + net->backlog_first, backlog_len);
    if (io->error == STATE_OK) {
        net->backlog_len = backlog_len;
    }
    if (!backlog_ok(net)) {
        state_refuse(io, "backlog");
        net->backlog_len = 0;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (virtq_in_flight_count(&net->virtio.queue[i]) > 0 &&
            (net->virtio.status & VIRTIO_STATUS_NEEDS_RESET) == 0) {
            state_refuse(io, "in_flight");
        }
    }
    return state_end(io);
}

const struct dev_class dev_vnet_class = {
    .name = "vnet",
    .version = 1,
    .min_reader = 1,
    .state_size = sizeof(struct vnet),
    .reset = vnet_reset,
    .input = vnet_input,
    .resume = vnet_resume,
    .xfer = vnet_xfer,
};
