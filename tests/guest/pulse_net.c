/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/pulse_net.h"

#include "tests/guest/pulse_blk.h"
#include "tests/guest/pulse_hw.h"
#include "tests/guest/pulse_virtio.h"
#include "tests/guest/record.h"

#define FEATURE_MAC  (1u << 5)
#define HDR_LEN      12 /* struct virtio_net_hdr with VERSION_1 */
#define BUFFER_BYTES 2048
#define PACKET_MIN   14
#define ARP_LEN      28
#define RX_BUFFERS   (VQ_SIZE - 1)
#define ARP_BUFFER                                                                       \
    RX_BUFFERS /* the last one never is in the receive queue: to announce with */

/* What is in the buffer; fields in network order have names that end in _be. */
struct frame {
    uint8_t hdr[HDR_LEN];
    uint8_t to[6], from[6];
    uint16_t type_be;
    union {
        struct {
            uint16_t hw_be, proto_be;
            uint8_t hw_len, proto_len;
            uint16_t op_be;
            uint8_t sender_mac[6], sender_ip_be[4], target_mac[6], target_ip_be[4];
        } __attribute__((packed)) arp;
        struct {
            uint8_t version_len, tos;
            uint16_t len_be, id_be, fragment_be;
            uint8_t ttl, protocol;
            uint16_t sum_be;
            uint32_t source_be, target_be;
            union {
                struct {
                    uint8_t type, code;
                    uint16_t sum_be;
                } __attribute__((packed)) icmp;
                struct {
                    uint16_t source_be, target_be, len_be, sum_be;
                    union {
                        struct question question;
                        struct answer answer;
                    } __attribute__((packed)) body;
                } __attribute__((packed)) udp;
            };
        } __attribute__((packed)) ip;
    };
} __attribute__((packed));

struct net net;

static struct virtq rx, tx;
static uint8_t buffers[VQ_SIZE][BUFFER_BYTES]
    __attribute__((aligned(4096), section(".bss.noinit")));
static bool started, announce_in_flight;

static uint16_t swap16(uint16_t x)
{
    return __builtin_bswap16(x);
}

static void copy_mac(uint8_t *to, const uint8_t *from)
{
    uint32_t low;
    uint16_t high;

    __builtin_memcpy(&low, from, 4);
    __builtin_memcpy(&high, from + 4, 2);
    __builtin_memcpy(to, &low, 4);
    __builtin_memcpy(to + 4, &high, 2);
}

bool net_init(void)
{
    struct virtio_device *device = virtio_find(VIRTIO_ID_NET, 0);
    uint32_t offered;

    if (device == NULL || !virtio_start(device, FEATURE_MAC, &offered) ||
        !virtio_queue_start(device, &rx, 0) || !virtio_queue_start(device, &tx, 1)) {
        return false;
    }
    for (uint32_t i = 0; i < 6; i++) {
        net.mac[i] = mmio_read8(device->base + VIRTIO_REG_CONFIG + i);
    }
    tx.avail.flags =
        1; /* no interrupts: sent buffers are collected when the next frame comes */
    for (uint16_t i = 0; i < RX_BUFFERS; i++) {
        rx.desc[i] =
            (struct virtq_desc){(uintptr_t)buffers[i], BUFFER_BYTES, VQ_WRITE, 0};
        virtq_push(&rx, i);
    }
    virtio_driver_ok(device);
    virtq_notify(&rx);
    started = true;
    return true;
}

/* A buffer has the same descriptor in both queues: its index. */
static void send(uint16_t buffer, uint32_t len)
{
    struct frame *frame = (struct frame *)buffers[buffer];

    __builtin_memset(frame->hdr, 0, HDR_LEN);
    tx.desc[buffer] = (struct virtq_desc){(uintptr_t)frame, len, 0, 0};
    virtq_push(&tx, buffer);
    virtq_notify(&tx);
}

static bool tx_collect(void)
{
    bool any = false;

    while (virtq_pending(&tx)) {
        uint32_t len;
        uint16_t id = (uint16_t)(virtq_pop(&tx, &len) % VQ_SIZE);

        if (id == ARP_BUFFER) {
            announce_in_flight = false;
        } else {
            virtq_push(&rx, id);
            any = true;
        }
    }
    return any;
}

/* 0 if this is not a question to us. */
static uint32_t answer_arp(struct frame *frame, uint32_t len)
{
    uint32_t target;

    __builtin_memcpy(&target, frame->arp.target_ip_be, 4);
    if (len < HDR_LEN + PACKET_MIN + ARP_LEN || frame->arp.op_be != swap16(1) ||
        frame->arp.proto_be != swap16(0x800) || target != __builtin_bswap32(net.ip)) {
        return 0;
    }
    frame->arp.op_be = swap16(2);
    copy_mac(frame->arp.target_mac, frame->arp.sender_mac);
    __builtin_memcpy(frame->arp.target_ip_be, frame->arp.sender_ip_be, 4);
    copy_mac(frame->arp.sender_mac, net.mac);
    __builtin_memcpy(frame->arp.sender_ip_be, &target, 4);
    return HDR_LEN + PACKET_MIN + ARP_LEN;
}

static uint16_t ip_header_sum(const void *header)
{
    const uint16_t *word = header;
    uint32_t sum = 0;

    for (int i = 0; i < 10; i++) {
        sum += word[i];
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static uint32_t answer_echo(struct frame *frame, uint32_t ip_len)
{
    uint32_t sum;

    if (ip_len < 28 || frame->ip.icmp.type != 8 || frame->ip.icmp.code != 0) {
        return 0;
    }
    frame->ip.icmp.type = 0;
    /* Type 8 -> 0 adds 0x0800 to the complemented sum (RFC 1624). */
    sum = (uint32_t)swap16(frame->ip.icmp.sum_be) + 0x0800;
    frame->ip.icmp.sum_be = swap16((uint16_t)(sum + (sum >> 16)));
    return ip_len;
}

static uint32_t answer_udp(struct frame *frame, uint32_t ip_len)
{
    uint16_t port = frame->ip.udp.source_be;
    uint32_t token = 0;

    if (ip_len < 28 || frame->ip.udp.target_be != swap16(ANSWER_PORT) || !net.answers) {
        return 0;
    }
    if (ip_len >= 28 + sizeof(struct question) &&
        frame->ip.udp.body.question.magic == QUESTION_MAGIC) {
        token = frame->ip.udp.body.question.token;
    }
    frame->ip.udp.source_be = frame->ip.udp.target_be;
    frame->ip.udp.target_be = port;
    frame->ip.udp.len_be = swap16(8 + sizeof(struct answer));
    frame->ip.udp.sum_be = 0; /* none: allowed over IPv4 */
    frame->ip.udp.body.answer = (struct answer){
        .magic = ANSWER_MAGIC,
        .token = token,
        .acked_seq = blk.acked_seq,
        .epoch = blk.epoch,
        .boot = blk.boot,
        .ticks = pulse_ticks,
    };
    net.answered++;
    return 28 + sizeof(struct answer);
}

static uint32_t answer_ip(struct frame *frame, uint32_t len)
{
    uint32_t ip_len = swap16(frame->ip.len_be), source = frame->ip.source_be;

    /* No options, no fragments, for us, whole. */
    if (len < HDR_LEN + PACKET_MIN + 20 || frame->ip.version_len != 0x45 ||
        (frame->ip.fragment_be & swap16(0x3fff)) != 0 ||
        frame->ip.target_be != __builtin_bswap32(net.ip) ||
        ip_len > len - HDR_LEN - PACKET_MIN) {
        return 0;
    }
    if (frame->ip.protocol == 1) {
        ip_len = answer_echo(frame, ip_len);
    } else if (frame->ip.protocol == 17) {
        ip_len = answer_udp(frame, ip_len);
    } else {
        return 0;
    }
    if (ip_len == 0) {
        return 0;
    }
    frame->ip.target_be = source;
    frame->ip.source_be = __builtin_bswap32(net.ip);
    frame->ip.len_be = swap16((uint16_t)ip_len);
    frame->ip.fragment_be = 0;
    frame->ip.ttl = 64;
    frame->ip.sum_be = 0;
    frame->ip.sum_be = ip_header_sum(&frame->ip);
    return HDR_LEN + PACKET_MIN + ip_len;
}

/* Length of the answer that now is in the buffer, 0 for none. */
static uint32_t answer(struct frame *frame, uint32_t len)
{
    uint32_t out = 0;

    if (len < HDR_LEN + PACKET_MIN || len > BUFFER_BYTES) {
        return 0;
    }
    if (frame->type_be == swap16(0x800)) {
        out = answer_ip(frame, len);
    } else if (frame->type_be == swap16(0x806)) {
        out = answer_arp(frame, len);
    }
    if (out > 0) {
        copy_mac(frame->to, frame->from);
        copy_mac(frame->from, net.mac);
    }
    return out;
}

bool net_step(void)
{
    bool refilled, any = false;

    if (!started) {
        return false;
    }
    refilled = tx_collect();
    while (virtq_pending(&rx)) {
        uint32_t len, out;
        uint16_t id = (uint16_t)(virtq_pop(&rx, &len) % VQ_SIZE);

        any = true;
        out = answer((struct frame *)buffers[id], len);
        if (out > 0) {
            send(id, out);
        } else {
            net.ignored++;
            virtq_push(&rx, id);
            refilled = true;
        }
    }
    /* Most devices send at once: the buffers are back already. */
    refilled |= tx_collect();
    if (refilled) {
        /* The device may stop listening only after it saw no buffer: our index must be
         * out before we look. */
        __asm__ volatile("lock; orl $0, (%%rsp)" : : : "memory", "cc");
    }
    if (refilled && (*(volatile uint16_t *)&rx.used.flags & 1) == 0) {
        virtq_notify(&rx);
    }
    return any;
}

void net_announce(void)
{
    struct frame *frame = (struct frame *)buffers[ARP_BUFFER];
    uint32_t ip_be = __builtin_bswap32(net.ip);

    if (announce_in_flight || !started || net.ip == 0) {
        return;
    }
    __builtin_memset(frame->to, 0xff, 6);
    copy_mac(frame->from, net.mac);
    frame->type_be = swap16(0x806);
    frame->arp.hw_be = swap16(1);
    frame->arp.proto_be = swap16(0x800);
    frame->arp.hw_len = 6;
    frame->arp.proto_len = 4;
    frame->arp.op_be = swap16(1);
    copy_mac(frame->arp.sender_mac, net.mac);
    __builtin_memcpy(frame->arp.sender_ip_be, &ip_be, 4);
    __builtin_memset(frame->arp.target_mac, 0, 6);
    __builtin_memcpy(frame->arp.target_ip_be, &ip_be, 4);
    announce_in_flight = true;
    send(ARP_BUFFER, HDR_LEN + PACKET_MIN + ARP_LEN);
}
