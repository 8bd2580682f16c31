/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: frames both ways, what is dropped and counted, the bounded backlog, the
 * link, event indexes. */
#include "tests/unit/vmm/machine_rig.h"

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
    return suite;
}

UNIT_MAIN(vnet_suite)
