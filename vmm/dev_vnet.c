/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_vnet.h"

#include <string.h>

#define NET_F_CSUM       (UINT64_C(1) << 0)
#define NET_F_GUEST_CSUM (UINT64_C(1) << 1)
#define NET_F_GUEST_TSO4 (UINT64_C(1) << 7)
#define NET_F_GUEST_TSO6 (UINT64_C(1) << 8)
#define NET_F_HOST_TSO4  (UINT64_C(1) << 11)
#define NET_F_HOST_TSO6  (UINT64_C(1) << 12)
#define NET_F_MRG_RXBUF  (UINT64_C(1) << 15)
#define NET_F_CTRL_VQ    (UINT64_C(1) << 17)
#define NET_F_ANNOUNCE   (UINT64_C(1) << 21)
#define NET_F_MQ         (UINT64_C(1) << 22)
#define NET_S_ANNOUNCE   2
#define NET_OFFLOADS                                                                     \
    (NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 |               \
     NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_MRG_RXBUF | NET_F_CTRL_VQ |               \
     NET_F_ANNOUNCE)
/* The header, 5.1.6 */
#define HDR_NEEDS_CSUM  1
#define HDR_DATA_VALID  2
#define HDR_GSO_TCPV4   1
#define HDR_GSO_TCPV6   4
#define HDR_FLAGS       0
#define HDR_GSO_TYPE    1
#define HDR_NUM_BUFFERS 10
/* Control, 5.1.6.5 */
#define CTRL_ANNOUNCE 3
#define CTRL_ACK      0
#define CTRL_MQ       4 /* 5.1.6.5.6 */
#define CTRL_MQ_PAIRS 0
#define CTRL_OK       0
#define CTRL_ERR      1
#define NET_F_MAC     (UINT64_C(1) << 5)
#define NET_F_STATUS  (UINT64_C(1) << 16)
#define NET_S_LINK_UP 1
#define CONFIG_LEN    8  /* mac, status */
#define CONFIG_LEN_MQ 10 /* and the number of pairs */
#define BACKLOG_HEAD  4

_Static_assert(VNET_BACKLOG_LEN >= NET_FRAME_MAX + NET_HEADER_LEN + BACKLOG_HEAD &&
                   VNET_EXTRA_LEN >= NET_FRAME_MAX + NET_HEADER_LEN + BACKLOG_HEAD,
               "one frame always fits");
_Static_assert(2 * VNET_PAIRS_MAX + 1 <= VIRTIO_QUEUES_MAX, "all pairs, and control");

static void vnet_config(const void *dev, uint8_t *buf)
{
    const struct vnet *net = dev;

    memcpy(buf, net->mac, sizeof net->mac);
    buf[6] = (uint8_t)((net->link_up ? NET_S_LINK_UP : 0) |
                       (net->announce ? NET_S_ANNOUNCE : 0));
    buf[7] = 0;
    if (net->pairs > 1) {
        buf[8] = (uint8_t)net->pairs;
        buf[9] = 0;
    }
}

/* Queues -------------------------------------------------------------------------- */

/* Pairs in use: without MQ, and until the driver has said otherwise, one (5.1.5). */
static unsigned pairs_on(const struct vnet *net)
{
    return virtio_has(&net->virtio, NET_F_MQ) ? net->pairs_on : 1;
}

static unsigned rx_queue(unsigned pair)
{
    return 2 * pair + VNET_QUEUE_RX;
}

static unsigned tx_queue(unsigned pair)
{
    return 2 * pair + VNET_QUEUE_TX;
}

static unsigned control_queue(const struct vnet *net)
{
    return virtio_has(&net->virtio, NET_F_MQ) ? 2 * net->pairs : VNET_QUEUE_CTRL;
}

static uint8_t *waiting(struct vnet *net, unsigned pair)
{
    return pair == 0 ? net->waiting : net->waiting_extra[pair - 1];
}

static uint32_t waiting_cap(unsigned pair)
{
    return pair == 0 ? VNET_BACKLOG_LEN : VNET_EXTRA_LEN;
}

static bool event_idx(const struct vnet *net)
{
    return virtio_has(&net->virtio, VIRTIO_F_EVENT_IDX);
}

/* Limits -------------------------------------------------------------------------- */

static bool rate_open(const struct vnet *net, const struct vnet_rate *rate)
{
    return rate_ready(&rate->bytes, net->now_ns) &&
           rate_ready(&rate->packets, net->now_ns);
}

static void rate_count(const struct vnet *net, struct vnet_rate *rate, uint32_t len)
{
    rate_charge(&rate->bytes, net->now_ns, len);
    rate_charge(&rate->packets, net->now_ns, 1);
}

static uint64_t rate_opens_at(const struct vnet *net, const struct vnet_rate *rate)
{
    uint64_t bytes = rate_ready_at(&rate->bytes), packets = rate_ready_at(&rate->packets);

    return rate_open(net, rate) ? UINT64_MAX : bytes > packets ? bytes : packets;
}

/* One direction is shut: to be woken when the first of them opens. */
static void wake_for_rates(const struct vnet *net, struct effects *fx)
{
    uint64_t rx = rate_opens_at(net, &net->rx_rate),
             tx = rate_opens_at(net, &net->tx_rate);

    effects_wake(fx, rx < tx ? rx : tx);
}

/* Receiving ----------------------------------------------------------------------- */

enum rx_result { RX_DONE = 0, RX_NO_BUFFER, RX_TOO_BIG, RX_BROKEN };

/* Bytes before the frame in the backlog, in inputs and in what is sent. */
static uint32_t header_len(const struct vnet *net)
{
    return net->offloads ? VNET_HEADER_LEN : 0;
}

/* Whether a header asks for no more than these features allow; gso for each direction. */
static bool header_ok(const struct vnet *net, const uint8_t *header, uint64_t csum,
                      uint64_t tso4, uint64_t tso6)
{
    bool needs = (header[HDR_FLAGS] & HDR_NEEDS_CSUM) != 0;

    if (needs && !virtio_has(&net->virtio, csum)) {
        return false;
    }
    switch (header[HDR_GSO_TYPE]) {
    case 0:
        return true;
    case HDR_GSO_TCPV4:
        return needs && virtio_has(&net->virtio, tso4);
    case HDR_GSO_TCPV6:
        return needs && virtio_has(&net->virtio, tso6);
    default:
        return false;
    }
}

/* A frame on its way into the driver's buffers. */
struct rx_frame {
    uint8_t header[VNET_HEADER_LEN];
    const uint8_t *data;
    uint32_t len, placed; /* of data */
    uint16_t count;       /* buffers used */
    uint16_t head[VIRTQ_SIZE_MAX];
    uint32_t written[VIRTQ_SIZE_MAX];
};

/* As much as fits into one more buffer; the first takes the header too. */
static bool rx_fill(struct gmem *gm, const struct virtq_chain *chain,
                    struct rx_frame *frame)
{
    const struct virtq_seg *seg = chain->seg + chain->readable_count;
    uint32_t before = frame->count == 0 ? VNET_HEADER_LEN : 0, part;

    if (chain->writable_len < before || chain->writable_len == 0) {
        return false; /* can never hold any frame: the driver is wrong */
    }
    part = chain->writable_len - before;
    part = part < frame->len - frame->placed ? part : frame->len - frame->placed;
    if (!virtq_copy_to(gm, seg, chain->writable_count, before,
                       frame->data + frame->placed, part)) {
        return false;
    }
    frame->head[frame->count] = chain->head;
    frame->written[frame->count++] = before + part;
    frame->placed += part;
    return true;
}

static void rx_undo(struct virtq *q, const struct rx_frame *frame)
{
    for (uint16_t i = frame->count; i > 0; i--) {
        virtq_unpop(q, &(struct virtq_chain){.head = frame->head[i - 1]});
    }
}

/* The driver must see all buffers of a frame or none, and the header says how many. */
static bool rx_publish(struct virtq *q, struct gmem *gm, const struct virtq_chain *first,
                       struct rx_frame *frame)
{
    frame->header[HDR_NUM_BUFFERS] = (uint8_t)frame->count;
    frame->header[HDR_NUM_BUFFERS + 1] = (uint8_t)(frame->count >> 8);
    if (!virtq_copy_to(gm, first->seg + first->readable_count, first->writable_count, 0,
                       frame->header, VNET_HEADER_LEN)) {
        return false;
    }
    for (uint16_t i = 0; i < frame->count; i++) {
        if (!virtq_fill(q, gm, i, frame->head[i], frame->written[i])) {
            return false;
        }
    }
    return virtq_publish(q, gm, frame->count);
}

/* One frame into the next chains of the driver: one, or as many as it takes where buffers
 * can be merged. Chains that do not hold it stay in the ring. */
static enum rx_result rx_place(struct vnet *net, struct gmem *gm, unsigned pair,
                               struct rx_frame *frame)
{
    struct virtq *q = &net->virtio.queue[rx_queue(pair)];
    bool merge = virtio_has(&net->virtio, NET_F_MRG_RXBUF);
    struct virtq_chain first, chain;

    do {
        struct virtq_chain *next = frame->count == 0 ? &first : &chain;

        if (frame->count == q->size) { /* all there are, and it does not fit */
            rx_undo(q, frame);
            return RX_TOO_BIG;
        }
        switch (virtq_pop(q, gm, next)) {
        case VIRTQ_EMPTY: /* a doorbell for the next one, beyond those that we had */
            if (virtq_rearm(q, gm, event_idx(net))) {
                continue;
            }
            rx_undo(q, frame);
            return RX_NO_BUFFER;
        case VIRTQ_BROKEN:
            return RX_BROKEN;
        case VIRTQ_CHAIN:
            break;
        }
        if (!rx_fill(gm, next, frame)) {
            return RX_BROKEN;
        }
    } while (frame->count == 0 || (merge && frame->placed < frame->len));
    if (frame->placed < frame->len) {
        rx_undo(q, frame);
        return RX_TOO_BIG;
    }
    return rx_publish(q, gm, &first, frame) ? RX_DONE : RX_BROKEN;
}

/* `entry`: a frame as it lies in the backlog. False: this driver cannot take it. */
static bool rx_begin(const struct vnet *net, const uint8_t *entry, uint32_t len,
                     struct rx_frame *frame)
{
    uint32_t before = header_len(net);

    memset(frame->header, 0, sizeof frame->header);
    memcpy(frame->header, entry, before);
    frame->data = entry + before;
    frame->len = len - before;
    frame->placed = 0;
    frame->count = 0;
    if (!virtio_has(&net->virtio, NET_F_GUEST_CSUM)) {
        frame->header[HDR_FLAGS] &= (uint8_t)~HDR_DATA_VALID;
    }
    return header_ok(net, frame->header, NET_F_GUEST_CSUM, NET_F_GUEST_TSO4,
                     NET_F_GUEST_TSO6);
}

static void rx_drop(struct vnet *net, struct effects *fx)
{
    net->rx_dropped++;
    fx->dropped++;
}

static void backlog_add(struct vnet *net, unsigned pair, const uint8_t *frame,
                        uint32_t len, struct effects *fx)
{
    struct vnet_backlog *b = &net->backlog[pair];
    uint32_t cap = waiting_cap(pair);
    uint8_t *bytes = waiting(net, pair);

    if (len + BACKLOG_HEAD > cap - b->len) {
        rx_drop(net, fx);
        return;
    }
    if (b->first + b->len + BACKLOG_HEAD + len > cap) {
        memmove(bytes, bytes + b->first, b->len);
        b->first = 0;
    }
    memcpy(bytes + b->first + b->len, &len, BACKLOG_HEAD);
    memcpy(bytes + b->first + b->len + BACKLOG_HEAD, frame, len);
    b->len += BACKLOG_HEAD + len;
}

/* Gives waiting frames to a driver that has new buffers. */
static void rx_drain(struct vnet *net, struct gmem *gm, unsigned pair, struct effects *fx)
{
    struct virtq *q = &net->virtio.queue[rx_queue(pair)];
    struct vnet_backlog *b = &net->backlog[pair];
    uint16_t used_before = q->used_idx;

    while (b->len > 0 && virtio_running(&net->virtio)) {
        const uint8_t *entry = waiting(net, pair) + b->first;
        uint32_t len;
        enum rx_result result = RX_TOO_BIG;
        struct rx_frame frame;

        if (!rate_open(net, &net->rx_rate)) {
            wake_for_rates(net, fx);
            break;
        }

        memcpy(&len, entry, BACKLOG_HEAD);
        if (rx_begin(net, entry + BACKLOG_HEAD, len, &frame)) {
            result = rx_place(net, gm, pair, &frame);
        }
        if (result == RX_NO_BUFFER) {
            break;
        }
        if (result == RX_BROKEN) {
            virtio_broken(&net->virtio, fx);
            break;
        }
        if (result == RX_TOO_BIG) {
            rx_drop(net, fx);
        } else {
            rate_count(net, &net->rx_rate, len);
        }
        b->first += BACKLOG_HEAD + len;
        b->len -= BACKLOG_HEAD + len;
    }
    if (b->len == 0) {
        b->first = 0;
    }
    if (q->used_idx != used_before) {
        virtio_signal(&net->virtio, gm, rx_queue(pair), fx);
    }
}

/* in->value: by which of the tap's queues it came; the host keeps a flow on one, and we
 * do too, also where the driver uses fewer. */
static void rx_frame(struct vnet *net, struct gmem *gm, const struct dev_input *in,
                     struct effects *fx)
{
    unsigned pair = (unsigned)(in->value % pairs_on(net));

    if (!virtio_running(&net->virtio) || !net->virtio.queue[rx_queue(pair)].ready ||
        !net->link_up || in->len < header_len(net) + VNET_FRAME_MIN ||
        in->len - header_len(net) > NET_FRAME_MAX) {
        rx_drop(net, fx);
        return;
    }
    backlog_add(net, pair, in->data, in->len, fx);
    rx_drain(net, gm, pair, fx);
}

/* Sending ------------------------------------------------------------------------- */

/* Copied already. What is not used is cleared: it goes to the host's network. */
static bool tx_header(const struct vnet *net, uint8_t *header)
{
    header[HDR_FLAGS] &= HDR_NEEDS_CSUM;
    header[HDR_NUM_BUFFERS] = header[HDR_NUM_BUFFERS + 1] = 0;
    return header_ok(net, header, NET_F_CSUM, NET_F_HOST_TSO4, NET_F_HOST_TSO6);
}

static void tx_frame(struct vnet *net, struct gmem *gm, unsigned pair,
                     const struct virtq_chain *chain, struct effects *fx)
{
    uint8_t *frame = fx->frame_bytes + fx->frame_bytes_len;
    uint32_t skip = VNET_HEADER_LEN - header_len(net), len;

    if (chain->readable_len < VNET_HEADER_LEN + VNET_FRAME_MIN ||
        chain->readable_len - VNET_HEADER_LEN > NET_FRAME_MAX || !net->link_up) {
        net->tx_dropped++;
        fx->dropped++;
        return;
    }
    len = chain->readable_len - skip;
    if (!virtq_copy_from(gm, chain->seg, chain->readable_count, skip, frame, len) ||
        (net->offloads && !tx_header(net, frame))) {
        net->tx_dropped++;
        fx->dropped++;
        return;
    }
    fx->frame[fx->frame_count++] =
        (struct net_frame_out){.data = frame, .len = len, .queue = (uint8_t)pair};
    fx->frame_bytes_len += len;
}

static bool tx_room(const struct effects *fx)
{
    return fx->frame_count < EFFECT_FRAMES_MAX &&
           fx->frame_bytes_cap - fx->frame_bytes_len >= VNET_HEADER_LEN + NET_FRAME_MAX;
}

/* Sends what is queued; when the arena is full, it is emptied and we are called again. */
static void tx_drain(struct vnet *net, struct gmem *gm, unsigned pair, struct effects *fx)
{
    struct virtq *q = &net->virtio.queue[tx_queue(pair)];
    uint16_t used_before = q->used_idx;
    struct virtq_chain chain;

    while (q->ready && virtio_running(&net->virtio)) {
        enum virtq_status status;

        if (!tx_room(fx)) {
            fx->again = true;
            break;
        }
        if (!rate_open(net, &net->tx_rate)) {
            wake_for_rates(net, fx);
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
        tx_frame(net, gm, pair, &chain, fx);
        rate_count(net, &net->tx_rate, chain.readable_len);
        if (!virtq_push(q, gm, chain.head, 0)) {
            virtio_broken(&net->virtio, fx);
            break;
        }
    }
    if (q->used_idx != used_before) {
        virtio_signal(&net->virtio, gm, tx_queue(pair), fx);
    }
}

/* Control ------------------------------------------------------------------------- */

/* How many pairs the driver uses from now on: `le` is its le16. What waits for a pair
 * that is not used any more is lost, as on a wire. */
static bool set_pairs(struct vnet *net, const uint8_t le[2])
{
    unsigned pairs = le[0] | (unsigned)le[1] << 8;

    if (pairs == 0 || pairs > net->pairs) {
        return false;
    }
    for (unsigned p = pairs; p < net->pairs; p++) {
        net->backlog[p] = (struct vnet_backlog){0};
    }
    net->pairs_on = (uint16_t)pairs;
    return true;
}

static uint8_t control(struct vnet *net, struct gmem *gm, const struct virtq_chain *chain,
                       const uint8_t command[2])
{
    uint8_t le[2];

    if (command[0] == CTRL_MQ && command[1] == CTRL_MQ_PAIRS &&
        virtio_has(&net->virtio, NET_F_MQ) &&
        virtq_copy_from(gm, chain->seg, chain->readable_count, 2, le, sizeof le)) {
        return set_pairs(net, le) ? CTRL_OK : CTRL_ERR;
    }
    if (command[0] == CTRL_ANNOUNCE && command[1] == CTRL_ACK &&
        virtio_has(&net->virtio, NET_F_ANNOUNCE)) {
        net->announce = false;
        return CTRL_OK;
    }
    return CTRL_ERR;
}

static void control_drain(struct vnet *net, struct gmem *gm, struct effects *fx)
{
    struct virtq *q = &net->virtio.queue[control_queue(net)];
    uint16_t used_before = q->used_idx;
    struct virtq_chain chain;

    while (virtio_running(&net->virtio)) {
        enum virtq_status status = virtq_pop(q, gm, &chain);
        uint8_t command[2], ack;

        if (status == VIRTQ_EMPTY) {
            if (!virtq_rearm(q, gm, event_idx(net))) {
                break;
            }
            continue;
        }
        if (status == VIRTQ_BROKEN ||
            !virtq_copy_from(gm, chain.seg, chain.readable_count, 0, command,
                             sizeof command)) {
            virtio_broken(&net->virtio, fx);
            break;
        }
        ack = control(net, gm, &chain, command);
        if (!virtq_copy_to(gm, chain.seg + chain.readable_count, chain.writable_count, 0,
                           &ack, sizeof ack) ||
            !virtq_push(q, gm, chain.head, sizeof ack)) {
            virtio_broken(&net->virtio, fx);
            break;
        }
    }
    if (q->used_idx != used_before) {
        virtio_signal(&net->virtio, gm, control_queue(net), fx);
    }
}

static void announce(struct vnet *net, struct effects *fx)
{
    if (virtio_running(&net->virtio) && virtio_has(&net->virtio, NET_F_ANNOUNCE)) {
        net->announce = true;
        virtio_config_changed(&net->virtio, fx);
    }
}

/* Device -------------------------------------------------------------------------- */

static void vnet_notify(void *dev, struct gmem *gm, unsigned queue, struct effects *fx)
{
    struct vnet *net = dev;
    unsigned pair = queue / 2;

    if (net->offloads && queue == control_queue(net)) {
        control_drain(net, gm, fx);
    } else if (pair >= pairs_on(net)) {
        return; /* not in use, whatever the driver rings there */
    } else if (queue == tx_queue(pair)) {
        tx_drain(net, gm, pair, fx);
    } else {
        virtq_rearm(&net->virtio.queue[queue], gm, event_idx(net));
        rx_drain(net, gm, pair, fx);
    }
}

static void tx_drain_all(struct vnet *net, struct gmem *gm, struct effects *fx)
{
    for (unsigned p = 0; p < pairs_on(net) && virtio_running(&net->virtio); p++) {
        tx_drain(net, gm, p, fx);
    }
}

static void vnet_resume(void *dev, struct gmem *gm, struct effects *fx)
{
    tx_drain_all(dev, gm, fx);
}

static void vnet_input(void *dev, struct gmem *gm, const struct dev_input *in,
                       struct effects *fx)
{
    struct vnet *net = dev;

    if (in->type == INPUT_NET_RX) {
        rx_frame(net, gm, in, fx);
    } else if (in->type == INPUT_CLOCK) {
        net->now_ns = in->now_ns;
        tx_drain_all(net, gm, fx);
        for (unsigned p = 0; p < pairs_on(net); p++) {
            rx_drain(net, gm, p, fx);
        }
    } else if (in->type == INPUT_ANNOUNCE) {
        announce(net, fx);
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

    memset(net->backlog, 0, sizeof net->backlog);
    net->pairs_on = 1;
    net->announce = false;
    if (net->offloads) {
        fx->net_offload_set = true;
        fx->net_offload = 0;
    }
}

unsigned vnet_offload(const struct vnet *net)
{
    const struct virtio *v = &net->virtio;

    if (!virtio_running(v) || !virtio_has(v, NET_F_GUEST_CSUM)) {
        return 0; /* segments without checksums are no use */
    }
    return NET_OFFLOAD_CSUM | (virtio_has(v, NET_F_GUEST_TSO4) ? NET_OFFLOAD_TSO4 : 0) |
           (virtio_has(v, NET_F_GUEST_TSO6) ? NET_OFFLOAD_TSO6 : 0);
}

static void vnet_started(void *dev, struct effects *fx)
{
    const struct vnet *net = dev;

    if (net->offloads) {
        fx->net_offload_set = true;
        fx->net_offload = (uint8_t)vnet_offload(net);
    }
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

static const struct virtio_class vnet_virtio_offloads = {
    .device_id = VIRTIO_ID_NET,
    .queue_count = 3,
    .queue_size_max = VNET_QUEUE_SIZE,
    .config_len = CONFIG_LEN,
    .config = vnet_config,
    .notify = vnet_notify,
    .started = vnet_started,
    .reset = vnet_driver_reset,
};

/* The same with MQ; as many of its queues exist as the nic has. */
static const struct virtio_class vnet_virtio_mq = {
    .device_id = VIRTIO_ID_NET,
    .queue_count = 2 * VNET_PAIRS_MAX + 1,
    .queue_size_max = VNET_QUEUE_SIZE,
    .config_len = CONFIG_LEN_MQ,
    .config = vnet_config,
    .notify = vnet_notify,
    .started = vnet_started,
    .reset = vnet_driver_reset,
};

void vnet_init(struct vnet *net, const struct vnet_conf *conf)
{
    bool mq = conf->pairs > 1;

    memset(net, 0, offsetof(struct vnet, waiting));
    virtio_init(&net->virtio,
                mq               ? &vnet_virtio_mq
                : conf->offloads ? &vnet_virtio_offloads
                                 : &vnet_virtio,
                VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | NET_F_MAC | NET_F_STATUS |
                    (conf->offloads ? NET_OFFLOADS : 0) | (mq ? NET_F_MQ : 0));
    net->pairs = mq ? conf->pairs : 1;
    net->pairs_on = 1;
    if (mq) {
        net->virtio.queue_count = 2 * net->pairs + 1;
    }
    net->offloads = conf->offloads;
    net->rx_rate = net->tx_rate = (struct vnet_rate){
        .bytes = rate_make(conf->bytes_per_s), .packets = rate_make(conf->packets_per_s)};
    memcpy(net->mac, conf->mac, sizeof net->mac);
    net->link_up = true;
}

static void vnet_reset(void *dev, struct effects *fx)
{
    struct vnet *net = dev;

    virtio_reset(&net->virtio, fx);
    vnet_driver_reset(net, fx);
}

/* Whether the backlog is a row of whole frames. */
static bool backlog_ok(struct vnet *net, unsigned pair)
{
    const struct vnet_backlog *b = &net->backlog[pair];
    uint32_t pos = 0, len;

    while (pos < b->len) {
        if (b->len - pos < BACKLOG_HEAD) {
            return false;
        }
        memcpy(&len, waiting(net, pair) + b->first + pos, BACKLOG_HEAD);
        pos += BACKLOG_HEAD;
        if (len < header_len(net) + VNET_FRAME_MIN ||
            len > header_len(net) + NET_FRAME_MAX || len > b->len - pos) {
            return false;
        }
        pos += len;
    }
    return true;
}

static void backlog_xfer(struct vnet *net, unsigned pair, struct state_io *io)
{
    struct vnet_backlog *b = &net->backlog[pair];
    uint32_t len = b->len;

    state_u32(io, &len);
    if (io->mode == STATE_LOAD) {
        *b = (struct vnet_backlog){0};
    }
    if (len > waiting_cap(pair)) {
        state_refuse(io, "backlog_len");
        return;
    }
    state_bytes(io, waiting(net, pair) + b->first, len);
    if (io->error == STATE_OK) {
        b->len = len;
    }
    if (!backlog_ok(net, pair)) {
        state_refuse(io, "backlog");
        b->len = 0;
    }
}

static int vnet_xfer(void *dev, struct state_io *io)
{
    struct vnet *net = dev;
    uint8_t mac[6];

    memcpy(mac, net->mac, sizeof mac);
    state_bytes(io, mac, sizeof mac);
    if (memcmp(mac, net->mac, sizeof mac) != 0) {
        state_refuse(io, "mac");
    }
    virtio_xfer(&net->virtio, io);
    state_bool(io, &net->link_up);
    state_bool(io, &net->announce);
    state_u64(io, &net->rx_dropped);
    state_u64(io, &net->tx_dropped);
    state_u64(io, &net->now_ns);
    rate_xfer(&net->rx_rate.bytes, io);
    rate_xfer(&net->rx_rate.packets, io);
    rate_xfer(&net->tx_rate.bytes, io);
    rate_xfer(&net->tx_rate.packets, io);
    backlog_xfer(net, 0, io);
    if (net->pairs > 1) { /* the features say so: others were refused above */
        state_u16(io, &net->pairs_on);
        if (net->pairs_on == 0 || net->pairs_on > net->pairs) {
            state_refuse(io, "pairs_on");
            net->pairs_on = 1;
        }
        for (unsigned p = 1; p < net->pairs; p++) {
            backlog_xfer(net, p, io);
        }
    }
    for (unsigned i = 0; i < net->virtio.queue_count; i++) {
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
