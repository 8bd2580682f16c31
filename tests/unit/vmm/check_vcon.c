/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console: the control protocol as Linux speaks it, bytes both ways, bounds, wrong
 * chains, save and load. */
#include "vmm/dev_vcon.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "tests/unit/vmm/machine_rig.h"

#define AREA 0x8000 /* buffers: one KiB per queue */

static struct rig rig;
static struct rig_ring ring[VCON_QUEUES];

static void start(uint64_t features)
{
    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1 | features, ring, VCON_QUEUES, 0x1000);
}

static void setup(void)
{
    const struct machine_conf conf = {.type = MACHINE_STANDARD,
                                      .ram_len = RIG_RAM_LEN,
                                      .extras = 1u << MACHINE_EXTRA_CONSOLE};

    rig_init(&rig, &conf);
    start(VCON_F_MULTIPORT);
}

static void teardown(void)
{
    rig_free(&rig);
}

static uint64_t area(unsigned queue)
{
    return AREA + queue * 0x400u;
}

static bool broken(void)
{
    return (rig_vreg_in(&rig, 0, VMMIO_STATUS) & VIRTIO_STATUS_NEEDS_RESET) != 0;
}

static void offer(unsigned queue, uint16_t head, uint64_t addr, uint32_t len,
                  uint16_t flags)
{
    rig_desc(&rig, &ring[queue], head, addr, len, flags, 0);
    rig_offer(&rig, &ring[queue], head);
    rig_notify(&rig, &ring[queue]);
}

static void buffer(unsigned queue, uint16_t head, uint32_t len)
{
    offer(queue, head, area(queue) + head * 0x80u, len, 2);
}

static void say(uint32_t port, uint16_t event, uint16_t value)
{
    uint8_t message[8] = {(uint8_t)port, 0, 0, 0, (uint8_t)event, 0, (uint8_t)value, 0};
    uint32_t id, len;

    memcpy(rig.ram + area(VCON_QUEUE_CONTROL_TX), message, sizeof message);
    offer(VCON_QUEUE_CONTROL_TX, 0, area(VCON_QUEUE_CONTROL_TX), 8, 0);
    ck_assert(rig_used(&rig, &ring[VCON_QUEUE_CONTROL_TX], &id, &len));
}

static void expect(uint16_t head, uint16_t event, uint16_t value, const char *text)
{
    const uint8_t *at = rig.ram + area(VCON_QUEUE_CONTROL_RX) + head * 0x80;
    uint8_t message[8] = {VCON_PORT_AGENT, 0, 0, 0, (uint8_t)event, 0, (uint8_t)value, 0};
    uint32_t id, len;

    ck_assert(rig_used(&rig, &ring[VCON_QUEUE_CONTROL_RX], &id, &len));
    ck_assert_uint_eq(id, head);
    ck_assert_uint_eq(len, 8 + strlen(text));
    ck_assert_mem_eq(at, message, 8);
    ck_assert_mem_eq(at + 8, text, strlen(text));
}

static void open_port(void)
{
    for (uint16_t i = 0; i < 4; i++) {
        buffer(VCON_QUEUE_CONTROL_RX, i, 0x80);
    }
    say(UINT32_MAX & 0xFF, VCON_DEVICE_READY, 1);
    expect(0, VCON_DEVICE_ADD, 1, "");
    say(VCON_PORT_AGENT, VCON_PORT_READY, 1);
    expect(1, VCON_PORT_NAME, 1, VCON_AGENT_NAME);
    expect(2, VCON_PORT_OPEN, 1, "");
    say(VCON_PORT_AGENT, VCON_PORT_OPEN, 1);
    ck_assert(rig.port_is_open);
    ck_assert(machine_port_open(rig.m));
}

static void receive(const void *data, uint32_t len)
{
    struct dev_input in = {.type = INPUT_PORT_RX, .data = data, .len = len};

    ck_assert_int_eq(
        machine_input(rig.m, machine_extra_dev(rig.m, MACHINE_EXTRA_CONSOLE), &in), 0);
}

START_TEST(configuration)
{
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, VMMIO_DEVICE_ID), VIRTIO_ID_CONSOLE);
    for (unsigned offset = 0; offset < 0x100; offset += 4) {
        rig_vreg_out(&rig, 0, 0x100 + offset, UINT32_MAX);
        ck_assert_uint_eq(rig_vreg_in(&rig, 0, 0x100 + offset),
                          offset == 4 ? VCON_PORTS : 0);
    }
}
END_TEST

START_TEST(bytes_both_ways)
{
    uint32_t id, len;
    uint8_t *sent;

    open_port();
    receive("hello", 5); /* waits for a buffer */
    buffer(VCON_QUEUE_RX1, 0, 3);
    buffer(VCON_QUEUE_RX1, 1, 0x80);
    ck_assert(rig_used(&rig, &ring[VCON_QUEUE_RX1], &id, &len));
    ck_assert_uint_eq(len, 3);
    ck_assert_mem_eq(rig.ram + area(VCON_QUEUE_RX1), "hel", 3);
    ck_assert(rig_used(&rig, &ring[VCON_QUEUE_RX1], &id, &len));
    ck_assert_uint_eq(len, 2);
    ck_assert_mem_eq(rig.ram + area(VCON_QUEUE_RX1) + 0x80, "lo", 2);
    for (unsigned i = 0; i < 1000; i++) {
        rig.ram[area(VCON_QUEUE_TX1) + i] = (uint8_t)(i * 3);
    }
    rig_log_clear(&rig);
    offer(VCON_QUEUE_TX1, 0, area(VCON_QUEUE_TX1), 1000, 0); /* four pieces */
    ck_assert(rig_used(&rig, &ring[VCON_QUEUE_TX1], &id, &len));
    ck_assert_uint_eq(rig.log_len, 1000 + 4);
    sent = rig.log;
    for (unsigned i = 0; i < 1000; i++) {
        sent += i % EFFECT_BYTES_MAX == 0; /* the tag */
        ck_assert_uint_eq(*sent++, (uint8_t)(i * 3));
    }
    say(VCON_PORT_AGENT, VCON_PORT_OPEN, 0);
    ck_assert(!rig.port_is_open);
    receive("lost", 4);
    ck_assert_uint_eq(machine_dropped(rig.m), 4);
}
END_TEST

START_TEST(bounds)
{
    static uint8_t bulk[PORT_RX_MAX];

    open_port();
    for (unsigned i = 0; i < VCON_RX_MAX / PORT_RX_MAX; i++) {
        receive(bulk, sizeof bulk);
    }
    ck_assert_uint_eq(machine_dropped(rig.m), 0);
    receive(bulk, 1);
    ck_assert_uint_eq(machine_dropped(rig.m), 1);
    buffer(VCON_QUEUE_CONTROL_RX, 4, 0x80);
    for (unsigned i = 0; i < VCON_CONTROL_MAX + 5; i++) { /* nobody takes the answers */
        say(0, VCON_DEVICE_READY, 1);
    }
    ck_assert_uint_gt(machine_dropped(rig.m), 1);
    ck_assert(!broken());
}
END_TEST

START_TEST(nonsense_on_control)
{
    static const uint16_t values[] = {0, 1, 2, UINT16_MAX};
    uint32_t id, len;

    for (uint16_t event = 0; event < 20; event++) {
        for (unsigned v = 0; v < 4; v++) {
            say(0, event, values[v]);
            say(2, event, values[v]);
            say(77, event, values[v]);
        }
    }
    ck_assert(!broken());
    ck_assert(!rig.port_is_open);
    offer(VCON_QUEUE_CONTROL_TX, 1, AREA, 7, 0); /* too short: says nothing */
    ck_assert(rig_used(&rig, &ring[VCON_QUEUE_CONTROL_TX], &id, &len));
    ck_assert(!broken());
    buffer(VCON_QUEUE_CONTROL_RX, 0, 7); /* can hold no message */
    ck_assert(broken());
}
END_TEST

START_TEST(wrong_chains)
{
    static const struct {
        unsigned queue;
        uint64_t addr;
        uint32_t len;
        uint16_t flags;
    } wrong[] = {
        {VCON_QUEUE_TX1, AREA, VCON_CHAIN_MAX + 1, 0},
        {VCON_QUEUE_TX1, AREA, 0, 0},
        {VCON_QUEUE_TX1, RIG_RAM_LEN - 4, 8, 0},
        {VCON_QUEUE_TX1, AREA, 8, 1},
        {VCON_QUEUE_RX1, AREA, 8, 0},
        {VCON_QUEUE_RX1, UINT64_MAX - 4, 8, 2},
        {VCON_QUEUE_CONTROL_TX, AREA, 8, 4},
        {VCON_QUEUE_TX0, AREA, 8, 5},
    };

    open_port();
    receive("x", 1);
    offer(wrong[_i].queue, 0, wrong[_i].addr, wrong[_i].len, wrong[_i].flags);
    ck_assert(broken());
    receive("x", 1);
    rig_vreg_out(&rig, 0, VMMIO_STATUS, 0);
    ck_assert(!rig.port_is_open); /* the shell hears of it */
    start(VCON_F_MULTIPORT);
    open_port();
}
END_TEST

START_TEST(without_multiport)
{
    uint32_t id, len;

    start(0);
    rig_log_clear(&rig);
    offer(VCON_QUEUE_TX0, 0, AREA, 100, 0);
    ck_assert(rig_used(&rig, &ring[VCON_QUEUE_TX0], &id, &len));
    ck_assert_uint_eq(rig.log_len, 0);
    offer(VCON_QUEUE_TX1, 0, AREA, 100, 0);
    ck_assert(!rig_used(&rig, &ring[VCON_QUEUE_TX1], &id, &len));
    ck_assert_uint_eq(rig.log_len, 0);
}
END_TEST

START_TEST(save_load_save)
{
    uint8_t *first, *second;
    size_t len, again;
    struct state_io io;
    uint32_t id, written;

    open_port();
    receive("kept", 4);
    for (unsigned i = 0; i < 3; i++) {
        say(0, VCON_DEVICE_READY, 1);
    }
    len = rig_save(&rig, &first);
    rig_renew(&rig);
    ck_assert(!machine_port_open(rig.m));
    ck_assert_int_eq(rig_load(&rig, first, len, &io), 0);
    ck_assert(machine_port_open(rig.m));
    again = rig_save(&rig, &second);
    ck_assert_uint_eq(again, len);
    ck_assert_mem_eq(first, second, len);
    buffer(VCON_QUEUE_RX1, 0, 0x80);
    ck_assert(rig_used(&rig, &ring[VCON_QUEUE_RX1], &id, &written));
    ck_assert_mem_eq(rig.ram + area(VCON_QUEUE_RX1), "kept", 4);
    free(first);
    free(second);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("vcon");
    TCase *t = tcase_create("vcon");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, configuration);
    tcase_add_test(t, bytes_both_ways);
    tcase_add_test(t, bounds);
    tcase_add_test(t, nonsense_on_control);
    tcase_add_loop_test(t, wrong_chains, 0, 8);
    tcase_add_test(t, without_multiport);
    tcase_add_test(t, save_load_save);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
