/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: frames both ways, what is dropped and counted, the bounded backlog, the
 * link, event indexes. */
#include "tests/unit/vmm/machine_rig.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/dev_vnet.h"

#define F_STATUS (1u << 16)
#define BUFFERS  0x8000

static struct rig rig;
static struct rig_ring ring[2];
static uint8_t frame[NET_FRAME_MAX];

static void start(uint64_t features)
{
    rig_virtio_start(&rig, 1, VIRTIO_F_VERSION_1 | F_STATUS | features, ring, 2, 0x1000);
}

static void setup(void)
{
    rig_init(&rig, NULL);
    start(0);
    for (size_t i = 0; i < sizeof frame; i++) {
        frame[i] = (uint8_t)(i * 7);
    }
}

static void teardown(void)
{
    rig_free(&rig);
}

static void receive(uint32_t len)
{
    ck_assert_int_eq(machine_input(rig.m, machine_nic_dev(rig.m, 0),
                                   &(struct dev_input){
                                       .type = INPUT_NET_RX, .data = frame, .len = len}),
                     0);
}

static void link_to(bool up)
{
    machine_input(rig.m, machine_nic_dev(rig.m, 0),
                  &(struct dev_input){.type = INPUT_LINK, .value = up});
}

static void give_buffer(uint16_t head, uint32_t len)
{
    rig_desc(&rig, &ring[0], head, BUFFERS + head * 0x800u, len, 2, 0);
    rig_offer(&rig, &ring[0], head);
    rig_notify(&rig, &ring[0]);
}

static void expect_frame(uint16_t head, uint32_t len)
{
    static const uint8_t header[12] = {[10] = 1};
    uint32_t id, written;

    ck_assert(rig_used(&rig, &ring[0], &id, &written));
    ck_assert_uint_eq(id, head);
    ck_assert_uint_eq(written, len + 12);
    ck_assert_mem_eq(rig.ram + BUFFERS + head * 0x800, header, 12);
    ck_assert_mem_eq(rig.ram + BUFFERS + head * 0x800 + 12, frame, len);
}

static void send(uint16_t head, uint64_t addr, uint32_t len)
{
    rig_desc(&rig, &ring[1], head, addr, len, 0, 0);
    rig_offer(&rig, &ring[1], head);
}

START_TEST(receiving)
{
    give_buffer(0, 0x800);
    give_buffer(1, 0x800);
    receive(60);
    expect_frame(0, 60);
    ck_assert_uint_eq(rig_vreg_in(&rig, 1, VMMIO_INTERRUPT_STATUS), VIRTIO_IRQ_USED);
    receive(1514);
    expect_frame(1, 1514);
    receive(100); /* no buffer: waits */
    receive(200);
    ck_assert_uint_eq(machine_dropped(rig.m), 0);
    give_buffer(2, 0x800);
    expect_frame(2, 100);
    give_buffer(3, 0x800);
    expect_frame(3, 200);
}
END_TEST

START_TEST(small_buffers)
{
    uint32_t id, written;

    give_buffer(0, 72);
    receive(61); /* one byte too long: dropped, the buffer stays */
    ck_assert(!rig_used(&rig, &ring[0], &id, &written));
    ck_assert_uint_eq(machine_dropped(rig.m), 1);
    receive(60);
    expect_frame(0, 60);
    give_buffer(1, 11); /* not even a header fits: the driver is wrong */
    receive(60);
    ck_assert_uint_ne(rig_vreg_in(&rig, 1, VMMIO_STATUS) & VIRTIO_STATUS_NEEDS_RESET, 0);
}
END_TEST

START_TEST(backlog_is_bounded)
{
    unsigned waiting = 0, got = 0;
    uint32_t id, written;

    while (machine_dropped(rig.m) == 0) {
        receive(1514);
        waiting++;
        ck_assert_uint_lt(waiting, 1000);
    }
    waiting--;
    ck_assert_uint_eq(waiting, VNET_BACKLOG_LEN / (1514 + 4));
    receive(VNET_BACKLOG_LEN % 1518 - 4 -
            17); /* leaves 17 bytes, one short of the smallest */
    ck_assert_uint_eq(machine_dropped(rig.m), 1);
    receive(14);
    ck_assert_uint_eq(machine_dropped(rig.m), 2);
    for (unsigned i = 0; i < waiting; i++) {
        give_buffer((uint16_t)(i % 8), 0x800);
        expect_frame((uint16_t)(i % 8), 1514);
        got++;
    }
    ck_assert_uint_eq(got, waiting);
    give_buffer(0, 0x800);
    ck_assert(rig_used(&rig, &ring[0], &id, &written));
    ck_assert_uint_eq(written, VNET_BACKLOG_LEN % 1518 - 4 - 17 + 12);
    receive(NET_FRAME_MAX); /* the longest frame fits an empty backlog */
    ck_assert_uint_eq(machine_dropped(rig.m), 2);
    for (unsigned i = 0; i < 100; i++) { /* and it stays in place while it rolls over */
        give_buffer(1, 0x800);
        receive(1000 + i);
    }
}
END_TEST

START_TEST(sending)
{
    uint32_t id, written;

    memcpy(rig.ram + BUFFERS + 12, frame, 1514);
    send(0, BUFFERS, 12 + 1514);
    rig_notify(&rig, &ring[1]);
    ck_assert_uint_eq(rig.frame_count, 1);
    ck_assert_uint_eq(rig.frame_len, 1514);
    ck_assert_mem_eq(rig.frame, frame, 1514);
    ck_assert(rig_used(&rig, &ring[1], &id, &written));
    ck_assert_uint_eq(written, 0);
    rig_desc(&rig, &ring[1], 1, BUFFERS, 5, 1, 2); /* header and frame in pieces */
    rig_desc(&rig, &ring[1], 2, BUFFERS + 5, 20, 1, 3);
    rig_desc(&rig, &ring[1], 3, BUFFERS + 25, 37, 0, 0);
    rig_offer(&rig, &ring[1], 1);
    rig_notify(&rig, &ring[1]);
    ck_assert_uint_eq(rig.frame_len, 50);
    ck_assert_mem_eq(rig.frame, frame, 50);
    send(4, BUFFERS, 25); /* no Ethernet header */
    send(5, BUFFERS, 3);
    rig_notify(&rig, &ring[1]);
    ck_assert_uint_eq(rig.frame_count, 2);
    ck_assert_uint_eq(machine_dropped(rig.m), 2);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(rig_used(&rig, &ring[1], &id, &written)); /* given back all the same */
    }
}
END_TEST

START_TEST(more_than_the_arena_holds)
{
    static const struct machine_conf conf = {.ram_len = RIG_RAM_LEN, .nic_count = 2};
    struct dev_input up = {.type = INPUT_LINK, .value = 1};
    uint32_t id, written;

    rig_free(&rig);
    rig_init(&rig, &conf);
    start(0);
    machine_input(rig.m, machine_nic_dev(rig.m, 1), &up);
    for (uint16_t i = 0; i < 8; i++) { /* 8 x 60000 bytes against an arena of 256 KiB */
        send(i, 0, 60000 + i);
    }
    rig_notify(&rig, &ring[1]);
    ck_assert_uint_eq(rig.frame_count, 8);
    ck_assert_uint_eq(rig.frame_len, 60007 - 12);
    for (unsigned i = 0; i < 8; i++) {
        ck_assert(rig_used(&rig, &ring[1], &id, &written));
    }
    ck_assert_uint_eq(machine_dropped(rig.m), 0);
}
END_TEST

START_TEST(link_state)
{
    uint64_t mac_and_status = rig_mmio_in(&rig, MACHINE_MMIO_BASE + 0x300, 8);
    uint32_t generation = rig_vreg_in(&rig, 1, VMMIO_CONFIG_GENERATION);

    ck_assert_uint_eq(mac_and_status, UINT64_C(0x0001010000000002));
    give_buffer(0, 0x800);
    link_to(false);
    ck_assert_uint_eq(rig_mmio_in(&rig, MACHINE_MMIO_BASE + 0x306, 2), 0);
    ck_assert_uint_ne(rig_vreg_in(&rig, 1, VMMIO_CONFIG_GENERATION), generation);
    ck_assert_uint_eq(rig_vreg_in(&rig, 1, VMMIO_INTERRUPT_STATUS), VIRTIO_IRQ_CONFIG);
    rig_vreg_out(&rig, 1, VMMIO_INTERRUPT_ACK, 3);
    link_to(false); /* no change: nothing to tell */
    ck_assert_uint_eq(rig_vreg_in(&rig, 1, VMMIO_INTERRUPT_STATUS), 0);
    receive(60);
    send(0, BUFFERS, 100);
    rig_notify(&rig, &ring[1]);
    ck_assert_uint_eq(rig.frame_count, 0);
    ck_assert_uint_eq(machine_dropped(rig.m), 2);
    link_to(true);
    receive(60);
    expect_frame(0, 60);
}
END_TEST

START_TEST(event_index_saves_interrupts)
{
    start(VIRTIO_F_EVENT_IDX);
    for (uint16_t i = 0; i < 8; i++) {
        give_buffer(i, 0x800);
    }
    receive(60); /* the first is always told */
    ck_assert_uint_eq(rig_vreg_in(&rig, 1, VMMIO_INTERRUPT_STATUS), 1);
    rig_vreg_out(&rig, 1, VMMIO_INTERRUPT_ACK, 1);
    ck_assert(gmem_store16(&rig.gm, (struct gpa){ring[0].avail + 4 + 2 * 8},
                           3)); /* used_event */
    receive(60);
    receive(60);
    ck_assert_uint_eq(rig_vreg_in(&rig, 1, VMMIO_INTERRUPT_STATUS), 0);
    receive(60);
    ck_assert_uint_eq(rig_vreg_in(&rig, 1, VMMIO_INTERRUPT_STATUS), 1);
}
END_TEST

START_TEST(not_ready_is_dropped)
{
    receive(13);
    rig_vreg_out(&rig, 1, VMMIO_STATUS, 0);
    receive(60);
    ck_assert_uint_eq(machine_dropped(rig.m), 2);
    start(0);
    give_buffer(0, 0x800);
    receive(60);
    expect_frame(0, 60);
}
END_TEST

/* Offloads ------------------------------------------------------------------------ */

#define F_CSUM       (1u << 0)
#define F_GUEST_CSUM (1u << 1)
#define F_GUEST_TSO4 (1u << 7)
#define F_GUEST_TSO6 (1u << 8)
#define F_HOST_TSO4  (1u << 11)
#define F_HOST_TSO6  (1u << 12)
#define F_MRG_RXBUF  (1u << 15)
#define F_CTRL_VQ    (1u << 17)
#define F_ANNOUNCE   (1u << 21)
#define F_ALL                                                                            \
    (F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_HOST_TSO4 | F_HOST_TSO6 |   \
     F_MRG_RXBUF | F_CTRL_VQ | F_ANNOUNCE)

static struct rig_ring oring[3];

static void ostart(uint64_t features)
{
    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1 | F_STATUS | features, oring, 3, 0x1000);
}

static void setup_offloads(void)
{
    const struct machine_conf conf = {
        .type = MACHINE_STANDARD,
        .ram_len = RIG_RAM_LEN,
        .nic_count = 1,
        .nic = {{.mac = {2, 0, 0, 0, 0, 1}, .offloads = true}},
    };

    rig_init(&rig, &conf);
    for (size_t i = 0; i < sizeof frame; i++) {
        frame[i] = (uint8_t)(i * 7);
    }
    ostart(F_ALL);
}

/* A frame of `len` bytes behind a header with these two fields. */
static void oreceive(uint8_t flags, uint8_t gso, uint32_t len)
{
    static uint8_t bytes[NET_HEADER_LEN + NET_FRAME_MAX];
    struct dev_input in = {
        .type = INPUT_NET_RX, .data = bytes, .len = NET_HEADER_LEN + len};

    memset(bytes, 0x77, NET_HEADER_LEN); /* what is in the rest passes through */
    bytes[0] = flags;
    bytes[1] = gso;
    memcpy(bytes + NET_HEADER_LEN, frame, len);
    ck_assert_int_eq(machine_input(rig.m, machine_nic_dev(rig.m, 0), &in), 0);
}

static void obuffer(uint16_t head, uint32_t len)
{
    rig_desc(&rig, &oring[0], head, BUFFERS + head * 0x800u, len, 2, 0);
    rig_offer(&rig, &oring[0], head);
    rig_notify(&rig, &oring[0]);
}

static bool oused(unsigned q, uint32_t *ret_id, uint32_t *ret_len)
{
    return rig_used(&rig, &oring[q], ret_id, ret_len);
}

static bool obroken(void)
{
    return (rig_vreg_in(&rig, 0, VMMIO_STATUS) & VIRTIO_STATUS_NEEDS_RESET) != 0;
}

START_TEST(offloads_follow_the_features)
{
    static const struct {
        uint64_t features;
        unsigned want;
    } cases[] = {
        {0, 0},
        {F_GUEST_TSO4 | F_GUEST_TSO6, 0}, /* no use without checksums */
        {F_GUEST_CSUM, NET_OFFLOAD_CSUM},
        {F_GUEST_CSUM | F_GUEST_TSO4, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4},
        {F_ALL, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned before = rig.net_offloads;

        ostart(cases[i].features);
        ck_assert_uint_eq(rig.net_offloads, before + 2); /* reset, DRIVER_OK */
        ck_assert_uint_eq(rig.net_offload, cases[i].want);
        ck_assert_uint_eq(machine_net_offload(rig.m, 0), cases[i].want);
    }
    rig_vreg_out(&rig, 0, VMMIO_STATUS, 0);
    ck_assert_uint_eq(rig.net_offload, 0);
    ck_assert_uint_eq(machine_net_offload(rig.m, 0), 0);
}
END_TEST

START_TEST(merged_buffers)
{
    uint32_t id, len;
    const uint8_t *at = rig.ram + BUFFERS;

    oreceive(1, 1, 3000);
    for (uint16_t i = 0; i < 3; i++) {
        ck_assert(!oused(0, &id, &len)); /* all or none */
        obuffer(i, 1000);
    }
    ck_assert(!oused(0, &id, &len));
    obuffer(3, 1000);
    for (uint16_t i = 0; i < 4; i++) {
        ck_assert(oused(0, &id, &len));
        ck_assert_uint_eq(id, i);
        ck_assert_uint_eq(len, i < 3 ? 1000 : 12);
    }
    ck_assert_uint_eq(at[0], 1);
    ck_assert_uint_eq(at[1], 1);
    ck_assert_uint_eq(at[2], 0x77);
    ck_assert_uint_eq(at[10], 4);
    ck_assert_uint_eq(at[11], 0);
    ck_assert_mem_eq(at + 12, frame, 988);
    ck_assert_mem_eq(at + 0x800, frame + 988, 1000);
    ck_assert_mem_eq(at + 0x1800, frame + 2988, 12);
    ck_assert(!obroken());
}
END_TEST

START_TEST(a_frame_larger_than_all_buffers)
{
    uint32_t id, len;

    for (uint16_t i = 0; i < RIG_QUEUE_SIZE; i++) {
        obuffer(i, 100);
    }
    oreceive(0, 0, 100 * RIG_QUEUE_SIZE - 11);
    ck_assert_uint_eq(machine_dropped(rig.m), 1);
    ck_assert(!oused(0, &id, &len));
    oreceive(0, 0, 100 * RIG_QUEUE_SIZE - 12);
    ck_assert(oused(0, &id, &len));
    ck_assert_uint_eq(rig.ram[BUFFERS + 10], RIG_QUEUE_SIZE);
    ck_assert(!obroken());
}
END_TEST

START_TEST(a_bad_buffer_after_good_ones)
{
    uint32_t id, len;

    obuffer(0, 100);
    rig_desc(&rig, &oring[0], 1, RIG_RAM_LEN - 10, 100, 2, 0);
    rig_offer(&rig, &oring[0], 1);
    oreceive(0, 0, 150);
    ck_assert(obroken());
    ck_assert(!oused(0, &id, &len));
}
END_TEST

START_TEST(received_headers_are_checked)
{
    static const struct {
        uint64_t features;
        uint8_t flags, gso;
        bool taken;
    } cases[] = {
        {0, 0, 0, true},
        {0, 1, 0, false}, /* meant for the driver before */
        {0, 2, 0, true},  /* without the hint */
        {F_GUEST_CSUM, 1, 0, true},
        {F_GUEST_CSUM, 2, 0, true},
        {F_GUEST_CSUM, 1, 1, false},
        {F_GUEST_CSUM | F_GUEST_TSO4, 1, 1, true},
        {F_GUEST_CSUM | F_GUEST_TSO4, 0, 1, false},
        {F_GUEST_CSUM | F_GUEST_TSO4, 1, 4, false},
        {F_GUEST_CSUM | F_GUEST_TSO6, 1, 4, true},
        {F_ALL, 1, 3, false}, /* UFO */
        {F_ALL, 1, 0x81, false},
    };
    uint32_t id, len;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ostart(cases[i].features);
        obuffer(0, 0x800);
        oreceive(cases[i].flags, cases[i].gso, 100);
        ck_assert_int_eq(oused(0, &id, &len), cases[i].taken);
        if (cases[i].taken && cases[i].flags == 2) {
            ck_assert_uint_eq(rig.ram[BUFFERS], cases[i].features != 0 ? 2 : 0);
        }
        ck_assert(!obroken());
    }
}
END_TEST

START_TEST(sent_headers_are_checked)
{
    static const struct {
        uint64_t features;
        uint8_t flags, gso;
        bool sent;
    } cases[] = {
        {0, 0, 0, true},
        {0, 1, 0, false},
        {F_CSUM, 1, 0, true},
        {F_CSUM, 0xFF, 0, true}, /* only the flag that has a meaning goes out */
        {F_CSUM, 1, 1, false},
        {F_CSUM | F_HOST_TSO4, 1, 1, true},
        {F_CSUM | F_HOST_TSO4, 0, 1, false},
        {F_CSUM | F_HOST_TSO4, 1, 4, false},
        {F_CSUM | F_HOST_TSO6, 1, 4, true},
        {F_ALL, 1, 2, false},
    };
    uint32_t id, len;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned before = rig.frame_count;

        ostart(cases[i].features);
        memset(rig.ram + BUFFERS, 0x55, 12);
        rig.ram[BUFFERS] = cases[i].flags;
        rig.ram[BUFFERS + 1] = cases[i].gso;
        memcpy(rig.ram + BUFFERS + 12, frame, 4000);
        rig_desc(&rig, &oring[1], 0, BUFFERS, 4012, 0, 0);
        rig_offer(&rig, &oring[1], 0);
        rig_notify(&rig, &oring[1]);
        ck_assert(oused(1, &id, &len));
        ck_assert_uint_eq(rig.frame_count - before, cases[i].sent);
        if (cases[i].sent) {
            ck_assert_uint_eq(rig.frame_len, 4012);
            ck_assert_uint_eq(rig.frame[0], cases[i].flags & 1);
            ck_assert_uint_eq(rig.frame[2], 0x55);
            ck_assert_uint_eq(rig.frame[10] | rig.frame[11], 0);
            ck_assert_mem_eq(rig.frame + 12, frame, 4000);
        }
    }
}
END_TEST

static uint8_t command(uint8_t class, uint8_t cmd)
{
    uint32_t id, len;

    rig.ram[BUFFERS] = class;
    rig.ram[BUFFERS + 1] = cmd;
    rig.ram[BUFFERS + 16] = 0xEE;
    rig_desc(&rig, &oring[2], 0, BUFFERS, 2, 1, 1);
    rig_desc(&rig, &oring[2], 1, BUFFERS + 16, 1, 2, 0);
    rig_offer(&rig, &oring[2], 0);
    rig_notify(&rig, &oring[2]);
    ck_assert(oused(2, &id, &len));
    return rig.ram[BUFFERS + 16];
}

static void announce(void)
{
    machine_input(rig.m, machine_nic_dev(rig.m, 0),
                  &(struct dev_input){.type = INPUT_ANNOUNCE});
}

static uint8_t net_status(void)
{
    return (uint8_t)rig_mmio_in(&rig, MACHINE_MMIO_BASE + 0x106, 1);
}

START_TEST(announcing)
{
    announce();
    ck_assert_uint_eq(net_status(), 3);
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, VMMIO_INTERRUPT_STATUS), VIRTIO_IRQ_CONFIG);
    for (unsigned class = 0; class < 256; class ++) {
        ck_assert_uint_eq(command((uint8_t) class, class == 3), 1);
    }
    ck_assert_uint_eq(net_status(), 3);
    ck_assert_uint_eq(command(3, 0), 0);
    ck_assert_uint_eq(net_status(), 1);
    announce();
    rig_vreg_out(&rig, 0, VMMIO_STATUS, 0);
    ck_assert_uint_eq(net_status(), 1);
    announce(); /* no driver */
    ck_assert_uint_eq(net_status(), 1);
    ostart(F_CTRL_VQ);
    announce(); /* not negotiated */
    ck_assert_uint_eq(net_status(), 1);
    ck_assert_uint_eq(command(3, 0), 1);
    rig_desc(&rig, &oring[2], 0, BUFFERS, 1, 0, 0); /* no command, no answer */
    rig_offer(&rig, &oring[2], 0);
    rig_notify(&rig, &oring[2]);
    ck_assert(obroken());
}
END_TEST

START_TEST(offloads_save_load_save)
{
    uint8_t *first, *second;
    struct state_io io;
    uint32_t id, written;
    size_t len;

    oreceive(1, 1, 2000);
    announce();
    len = rig_save(&rig, &first);
    rig_renew(&rig);
    ck_assert_int_eq(rig_load(&rig, first, len, &io), 0);
    ck_assert_uint_eq(rig_save(&rig, &second), len);
    ck_assert_mem_eq(first, second, len);
    ck_assert_uint_eq(net_status(), 3);
    ck_assert_uint_eq(machine_net_offload(rig.m, 0), 7);
    obuffer(0, 0x800);
    ck_assert(oused(0, &id, &written));
    ck_assert_uint_eq(written, 2012);
    free(first);
    free(second);
}
END_TEST

/* Several queue pairs ------------------------------------------------------------- */

#define F_MQ  (1u << 22)
#define PAIRS 3
#define CTRL  (2 * PAIRS)

static struct rig_ring mring[CTRL + 1];

static void mstart(uint64_t features)
{
    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1 | F_STATUS | features, mring, CTRL + 1,
                     0x1000);
}

static void setup_pairs(void)
{
    const struct machine_conf conf = {
        .type = MACHINE_STANDARD,
        .ram_len = RIG_RAM_LEN,
        .nic_count = 1,
        .nic = {{.mac = {2, 0, 0, 0, 0, 1}, .offloads = true, .queue_pairs = PAIRS}},
    };

    rig_init(&rig, &conf);
    mstart(F_ALL | F_MQ);
}

/* VQ_PAIRS_SET: the answer. */
static uint8_t set_pairs(unsigned ring_index, uint16_t pairs)
{
    const uint8_t bytes[4] = {4, 0, (uint8_t)pairs, (uint8_t)(pairs >> 8)};
    struct rig_ring *r = &mring[ring_index];
    uint32_t id, len;
    uint8_t ack = 0xFF;

    ck_assert(gmem_write(&rig.gm, (struct gpa){0x3000}, bytes, sizeof bytes));
    ck_assert(gmem_write(&rig.gm, (struct gpa){0x3100}, &ack, 1));
    rig_desc(&rig, r, 0, 0x3000, sizeof bytes, 1, 1);
    rig_desc(&rig, r, 1, 0x3100, 1, 2, 0);
    rig_offer(&rig, r, 0);
    rig_notify(&rig, r);
    return rig_used(&rig, r, &id, &len) ? rig.ram[0x3100] : 0xEE;
}

static void mbuffer(unsigned pair, uint16_t head)
{
    struct rig_ring *r = &mring[2 * pair];

    rig_desc(&rig, r, head, BUFFERS + (pair * 8 + head) * 0x200u, 0x200, 2, 0);
    rig_offer(&rig, r, head);
    rig_notify(&rig, r);
}

/* By queue `queue` of the tap. */
static void mreceive(unsigned queue)
{
    static uint8_t bytes[NET_HEADER_LEN + 60];

    (void)machine_input(
        rig.m, machine_nic_dev(rig.m, 0),
        &(struct dev_input){
            .type = INPUT_NET_RX, .data = bytes, .len = sizeof bytes, .value = queue});
}

static bool arrived(unsigned pair)
{
    uint32_t id, len;

    return rig_used(&rig, &mring[2 * pair], &id, &len);
}

static bool sends(unsigned pair)
{
    struct rig_ring *r = &mring[2 * pair + 1];
    unsigned before = rig.frame_count;
    static const uint8_t bytes[12 + 60];

    ck_assert(gmem_write(&rig.gm, (struct gpa){0x3200}, bytes, sizeof bytes));
    rig_desc(&rig, r, 0, 0x3200, sizeof bytes, 0, 0);
    rig_offer(&rig, r, 0);
    rig_notify(&rig, r);
    return rig.frame_count == before + 1 && rig.frame_queue == pair;
}

START_TEST(pairs_as_the_driver_says)
{
    ck_assert_uint_eq(rig_mmio_in(&rig, MACHINE_MMIO_BASE + 0x108, 2), PAIRS);
    for (unsigned p = 0; p < PAIRS; p++) {
        for (uint16_t i = 0; i < 8; i++) {
            mbuffer(p, i);
        }
    }
    mreceive(2); /* one pair at first, whatever queue of the tap it came by */
    ck_assert(arrived(0) && !arrived(2));
    ck_assert(sends(0));
    ck_assert(!sends(1));
    ck_assert_uint_eq(set_pairs(CTRL, 0), 1);
    ck_assert_uint_eq(set_pairs(CTRL, PAIRS + 1), 1);
    ck_assert_uint_eq(set_pairs(CTRL, 0x100 + PAIRS), 1);
    ck_assert_uint_eq(set_pairs(CTRL, PAIRS), 0);
    for (unsigned q = 0; q < PAIRS; q++) {
        mreceive(q);
        ck_assert(arrived(q));
        ck_assert(q == 1 || sends(q));
    }
    ck_assert_uint_eq(set_pairs(CTRL, 2), 0);
    mreceive(2);
    ck_assert(arrived(0) && !arrived(2));
    mreceive(3);
    ck_assert(arrived(1));
    /* A driver without MQ: the third queue is for control, and there is one pair. */
    mstart(F_ALL);
    ck_assert_uint_eq(set_pairs(2, 1), 1);
    mbuffer(0, 0);
    mreceive(1);
    ck_assert(arrived(0));
    ck_assert(!sends(1));
}
END_TEST

/* A pair without buffers holds nobody up; what waits is kept through a load. */
START_TEST(pairs_wait_for_themselves)
{
    uint8_t *first, *second;
    struct state_io io;
    size_t len;

    ck_assert_uint_eq(set_pairs(CTRL, PAIRS), 0);
    mbuffer(1, 0);
    mreceive(0);
    mreceive(2);
    mreceive(1);
    ck_assert(arrived(1) && !arrived(0) && !arrived(2));
    len = rig_save(&rig, &first);
    rig_renew(&rig);
    ck_assert_int_eq(rig_load(&rig, first, len, &io), 0);
    ck_assert_uint_eq(rig_save(&rig, &second), len);
    ck_assert_mem_eq(first, second, len);
    mbuffer(2, 0);
    ck_assert(arrived(2) && !arrived(0));
    mbuffer(0, 0);
    ck_assert(arrived(0));
    for (unsigned i = 0; i < 2000; i++) { /* bounded */
        mreceive(1);
    }
    ck_assert_uint_gt(machine_dropped(rig.m), 900);
    rig_vreg_out(&rig, 0, VMMIO_STATUS, 0); /* and one pair again after a reset */
    mstart(F_ALL | F_MQ);
    ck_assert(!sends(1));
    free(first);
    free(second);
}
END_TEST

/* Limits -------------------------------------------------------------------------- */

#define MSEC UINT64_C(1000000)

static void setup_limited(void)
{
    const struct machine_conf conf = {
        .type = MACHINE_STANDARD,
        .ram_len = RIG_RAM_LEN,
        .nic_count = 1,
        .nic = {{.mac = {2, 0, 0, 0, 0, 1}, .packets_per_s = 10, .offloads = true}},
    };

    rig_init(&rig, &conf);
    rig_clock(&rig, 1000 * MSEC);
    ostart(F_ALL);
}

START_TEST(limits_hold_frames_back)
{
    uint32_t id, len;

    for (uint16_t i = 0; i < 4; i++) {
        obuffer(i, 0x400);
        rig_desc(&rig, &oring[1], i, BUFFERS + 0x4000, 100, 0, 0);
        rig_offer(&rig, &oring[1], i);
    }
    rig_notify(&rig, &oring[1]);
    ck_assert_uint_eq(rig.frame_count, 2); /* 100 ms worth, and one that overdraws */
    for (unsigned i = 0; i < 4; i++) {
        oreceive(0, 0, 100);
    }
    ck_assert(oused(0, &id, &len));
    ck_assert(oused(0, &id, &len));
    ck_assert(!oused(0, &id, &len));
    ck_assert_uint_eq(machine_next_wake_ns(rig.m), 1100 * MSEC);
    rig_clock(&rig, 1100 * MSEC);
    ck_assert_uint_eq(rig.frame_count, 3);
    ck_assert(oused(0, &id, &len));
    ck_assert(!oused(0, &id, &len));
    rig_clock(&rig, 1200 * MSEC);
    ck_assert_uint_eq(rig.frame_count, 4);
    ck_assert(oused(0, &id, &len));
    ck_assert_uint_eq(machine_dropped(rig.m), 0);
}
END_TEST

static Suite *vnet_suite(void)
{
    Suite *suite = suite_create("vnet");
    TCase *tc = tcase_create("vnet");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, receiving);
    tcase_add_test(tc, small_buffers);
    tcase_add_test(tc, backlog_is_bounded);
    tcase_add_test(tc, sending);
    tcase_add_test(tc, more_than_the_arena_holds);
    tcase_add_test(tc, link_state);
    tcase_add_test(tc, event_index_saves_interrupts);
    tcase_add_test(tc, not_ready_is_dropped);
    suite_add_tcase(suite, tc);
    tc = tcase_create("limits");
    tcase_add_checked_fixture(tc, setup_limited, teardown);
    tcase_add_test(tc, limits_hold_frames_back);
    suite_add_tcase(suite, tc);
    tc = tcase_create("offloads");
    tcase_add_checked_fixture(tc, setup_offloads, teardown);
    tcase_add_test(tc, offloads_follow_the_features);
    tcase_add_test(tc, merged_buffers);
    tcase_add_test(tc, a_frame_larger_than_all_buffers);
    tcase_add_test(tc, a_bad_buffer_after_good_ones);
    tcase_add_test(tc, received_headers_are_checked);
    tcase_add_test(tc, sent_headers_are_checked);
    tcase_add_test(tc, announcing);
    tcase_add_test(tc, offloads_save_load_save);
    suite_add_tcase(suite, tc);
    tc = tcase_create("pairs");
    tcase_add_checked_fixture(tc, setup_pairs, teardown);
    tcase_add_test(tc, pairs_as_the_driver_says);
    tcase_add_test(tc, pairs_wait_for_themselves);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(vnet_suite)
