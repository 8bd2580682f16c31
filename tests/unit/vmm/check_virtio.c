/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device without a bus, with as many queues as there may be; the same device
 * under both transports; machine standard with virtio-mmio. */
#include "vmm/dev_virtio.h"

#include <string.h>

#include "base/crc32c.h"
#include "tests/unit/unit.h"
#include "tests/unit/vmm/machine_rig.h"

/* A device that counts what it is told. */
struct fake {
    struct virtio virtio;
    unsigned notified, last_queue, resets, config_writes;
    uint8_t config[20];
};

static void fake_config(const void *dev, uint8_t *buf)
{
    memcpy(buf, ((const struct fake *)dev)->config, 20);
}

static void fake_config_write(void *dev, uint32_t offset, unsigned len, uint32_t value,
                              struct effects *fx)
{
    struct fake *fake = dev;

    (void)fx;
    ck_assert_uint_le(offset + len, 20);
    fake->config_writes++;
    memcpy(fake->config + offset, &value, len);
}

static void fake_notify(void *dev, struct gmem *gm, unsigned queue, struct effects *fx)
{
    struct fake *fake = dev;

    (void)gm;
    (void)fx;
    fake->notified++;
    fake->last_queue = queue;
}

static void fake_reset(void *dev, struct effects *fx)
{
    (void)fx;
    ((struct fake *)dev)->resets++;
}

static const struct virtio_class fake_class = {
    .device_id = 42,
    .queue_count = VIRTIO_QUEUES_MAX,
    .queue_size_max = 8,
    .config_len = 20,
    .config = fake_config,
    .config_write = fake_config_write,
    .notify = fake_notify,
    .reset = fake_reset,
};

static struct fake fake;
static struct effects fx;
static struct gmem gm;
static uint8_t ram[0x10000] __attribute__((aligned(4096)));
static uint64_t dirty[1];

static void setup(void)
{
    memset(&gm, 0, sizeof gm);
    memset(ram, 0, sizeof ram);
    ck_assert_int_eq(gmem_add(&gm, (struct gpa){0}, sizeof ram, ram, false, dirty), 0);
    memset(&fake, 0, sizeof fake);
    virtio_init(&fake.virtio, &fake_class, VIRTIO_F_VERSION_1 | 1);
    effects_clear(&fx);
    virtio_reset(&fake.virtio, &fx);
}

static void run(void)
{
    struct virtio *v = &fake.virtio;

    virtio_write_status(v, 0, &fx);
    virtio_write_status(v, 3, &fx);
    virtio_write_driver_features(v, 1, 1);
    virtio_write_status(v, 0x0B, &fx);
    for (unsigned i = 0; i < v->queue_count; i++) {
        struct virtq *q = virtio_queue_to_configure(v, i);

        ck_assert_ptr_nonnull(q);
        q->desc = 0x1000 + i * 0x400;
        q->avail = q->desc + 0x100;
        q->used = q->desc + 0x200;
        virtio_queue_enable(v, &gm, q, &fx);
        ck_assert(q->ready);
    }
    virtio_write_status(v, 0x0F, &fx);
    ck_assert(virtio_running(v));
    effects_clear(&fx);
}

START_TEST(every_queue)
{
    struct virtio *v = &fake.virtio;

    run();
    for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++) {
        virtio_notify(v, &gm, q, &fx);
        ck_assert_uint_eq(fake.last_queue, q);
        effects_clear(&fx);
        v->queue[q].used_idx++;
        virtio_signal(v, &gm, q, &fx);
        ck_assert_uint_eq(fx.queue_irq, UINT32_C(1) << q);
        ck_assert(fx.irq_set && fx.irq_level);
    }
    ck_assert_uint_eq(fake.notified, VIRTIO_QUEUES_MAX);
    virtio_notify(v, &gm, VIRTIO_QUEUES_MAX, &fx);
    virtio_notify(v, &gm, UINT64_C(1) << 32, &fx);
    ck_assert_uint_eq(fake.notified, VIRTIO_QUEUES_MAX);
    ck_assert_ptr_null(virtio_queue(v, VIRTIO_QUEUES_MAX));
    ck_assert_ptr_null(virtio_queue(v, UINT32_MAX));
    effects_clear(&fx);
    virtio_config_changed(v, &fx);
    ck_assert_uint_eq(fx.queue_irq, EFFECT_IRQ_CONFIG);
    effects_clear(&fx);
    virtio_broken(v, &fx);
    ck_assert_uint_eq(fx.queue_irq, EFFECT_IRQ_CONFIG);
    effects_clear(&fx);
    virtio_broken(v, &fx); /* once */
    ck_assert_uint_eq(fx.queue_irq, 0);
    virtio_notify(v, &gm, 0, &fx);
    ck_assert_uint_eq(fake.notified, VIRTIO_QUEUES_MAX);
}
END_TEST

/* What each pair of status writes leads to; a queue is open to changes exactly while
 * DRIVER_OK was never said and it is not enabled (reliability.md 2.2, class 7). */
START_TEST(every_status_after_every_status)
{
    struct virtio *v = &fake.virtio;

    for (unsigned features = 0; features < 2; features++) {
        for (unsigned first = 0; first < 256; first++) {
            for (unsigned second = 0; second < 256; second++) {
                uint8_t before;

                virtio_write_status(v, 0, &fx);
                virtio_write_driver_features(v, 1, features);
                virtio_write_status(v, (uint8_t)first, &fx);
                before = v->status;
                virtio_write_status(v, (uint8_t)second, &fx);
                ck_assert_uint_eq(v->status & 0x70, 0);
                ck_assert(second == 0 ? v->status == 0 : (before & ~v->status) == 0);
                ck_assert(features == 1 || (v->status & 0x0C) == 0);
                ck_assert((v->status & 4) == 0 || (v->status & 8) != 0);
                ck_assert_int_eq(virtio_queue_to_configure(v, 0) != NULL,
                                 (v->status & 4) == 0);
                ck_assert_int_eq(virtio_running(v), (v->status & 0x84) == 4);
                virtio_write_driver_features(v, 0, 1);
                ck_assert_int_eq((v->driver_features & 1) != 0, (v->status & 8) == 0);
            }
        }
    }
    run();
    for (unsigned q = 0; q < VIRTIO_QUEUES_MAX + 2; q++) {
        ck_assert_ptr_null(virtio_queue_to_configure(v, q));
    }
    virtio_write_status(v, 0, &fx);
    ck_assert_uint_gt(fake.resets, 256);
    ck_assert_ptr_nonnull(virtio_queue_to_configure(v, 0));
}
END_TEST

START_TEST(every_offset_of_the_configuration)
{
    struct virtio *v = &fake.virtio;

    for (uint64_t offset = 0; offset < 0x1010; offset++) {
        for (unsigned len = 1; len <= 8; len *= 2) {
            bool inside = offset % len == 0 && offset + len <= 20 && len <= 4;
            unsigned before = fake.config_writes;
            uint64_t mask = len == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * len) - 1;

            virtio_config_write(v, offset, len, UINT64_C(0x1122334455667788), &fx);
            ck_assert_uint_eq(fake.config_writes - before, inside);
            if (inside) {
                ck_assert_uint_eq(virtio_config_read(v, offset, len),
                                  UINT64_C(0x1122334455667788) & mask & UINT32_MAX);
            } else if (offset >= 20) {
                ck_assert_uint_eq(virtio_config_read(v, offset, len), 0);
            }
        }
    }
    ck_assert_uint_eq(virtio_config_read(v, UINT64_MAX - 7, 8), 0);
}
END_TEST

static int fake_xfer(void *dev, struct state_io *io)
{
    virtio_xfer(&((struct fake *)dev)->virtio, io);
    return state_end(io);
}

static size_t save(uint8_t *buf, size_t cap)
{
    struct state_io io;

    state_save_init(&io, buf, cap);
    state_section_begin(&io, "fake", 0, 1, 1);
    ck_assert_int_eq(fake_xfer(&fake, &io), 0);
    state_section_end(&io);
    return state_save_finish(&io);
}

static int load(const uint8_t *buf, size_t len)
{
    struct state_io io;

    state_load_init(&io, buf, len);
    ck_assert(state_section_next(&io) && state_section_accept(&io, 1));
    return fake_xfer(&fake, &io);
}

/* Of the stream that save() makes: 8 bytes, then the section's header with its crc. */
#define HEADER_AT 8
#define COVERED   (1 + 4 + 12)
#define BODY_AT   (HEADER_AT + COVERED + 4)

static void put_checksum_right(uint8_t *buf)
{
    uint32_t body_len, crc;

    memcpy(&body_len, buf + HEADER_AT + COVERED - 4, 4);
    crc = crc32c(crc32c(0, buf + HEADER_AT, COVERED), buf + BODY_AT, body_len);
    memcpy(buf + HEADER_AT + COVERED, &crc, 4);
}

START_TEST(impossible_states_are_refused)
{
    static const struct {
        unsigned at;
        uint8_t value;
        bool fine;
    } change[] = {
        {0, 1, true},                      /* nothing changed */
        {0, 3, false},                     /* offered features */
        {14, 4, false},                    /* driver features: one that was not offered */
        {16, 0x1F, false},                 /* status: an unknown bit */
        {16, 0x07, false},                 /* DRIVER_OK without FEATURES_OK */
        {16, 0x4F, true},                  /* broken */
        {17, 3, true},                     /* interrupt status */
        {17, 4, false},    {22, 7, false}, /* size of queue 0 */
        {26, 2, false},                    /* ready: neither 0 nor 1 */
    };
    static uint8_t good[4096], bad[4096], again[4096];
    size_t len;

    run();
    len = save(good, sizeof good);
    setup();
    ck_assert_int_eq(load(good, len), 0);
    ck_assert_uint_eq(save(again, sizeof again), len);
    ck_assert_mem_eq(good, again, len);
    for (size_t i = 0; i < ARRAY_SIZE(change); i++) {
        memcpy(bad, good, len);
        bad[BODY_AT + change[i].at] = change[i].value;
        put_checksum_right(bad);
        setup();
        ck_assert_int_eq(load(bad, len) == 0, change[i].fine);
    }
}
END_TEST

/* Machines -------------------------------------------------------------------------- */

static struct machine_conf conf_of(enum machine_transport transport)
{
    return (struct machine_conf){
        .type = MACHINE_STANDARD,
        .transport = transport,
        .ram_len = RIG_RAM_LEN,
        .disk_count = 1,
        .nic_count = 1,
        .disk = {{.sectors = RIG_SECTORS, .serial = "same"}},
        .nic = {{.mac = {2, 0, 0, 0, 0, 1}}},
    };
}

/* The section of this name, without its header. */
static size_t section_of(const uint8_t *state, size_t len, const char *name,
                         const uint8_t **ret_body)
{
    struct state_io io;

    state_load_init(&io, state, len);
    while (state_section_next(&io)) {
        const uint8_t *body = io.rd.buf + io.rd.pos;
        size_t body_len = bytes_rd_left(&io.rd);

        if (strcmp(io.section.name, name) == 0) {
            *ret_body = body;
            return body_len;
        }
        ck_assert(state_section_accept(&io, io.section.version));
        bytes_rd_view(&io.rd, body_len);
        ck_assert_int_eq(state_end(&io), 0);
    }
    ck_abort_msg("no section %s", name);
    return 0;
}

/* The same driver on both transports leaves the same device section behind. */
START_TEST(a_device_does_not_know_its_transport)
{
    struct rig rig[2];
    uint8_t *state[2];
    const uint8_t *blk[2], *net[2];
    size_t blk_len[2], net_len[2];

    for (unsigned t = 0; t < 2; t++) {
        struct machine_conf conf = conf_of((enum machine_transport)t);
        struct rig_ring ring[3];
        uint64_t header[2] = {0, 1};
        size_t len;

        rig_init(&rig[t], &conf);
        rig_virtio_start(&rig[t], 0, VIRTIO_F_VERSION_1, ring, 1, 0x1000);
        rig_virtio_start(&rig[t], 1, VIRTIO_F_VERSION_1, ring + 1, 2, 0x2000);
        gmem_write(&rig[t].gm, (struct gpa){0x3000}, header, sizeof header);
        rig_desc(&rig[t], &ring[0], 0, 0x3000, 16, 1, 1);
        rig_desc(&rig[t], &ring[0], 1, 0x4000, 513, 2, 0);
        rig_offer(&rig[t], &ring[0], 0);
        rig_notify(&rig[t], &ring[0]);
        ck_assert_uint_eq(rig[t].submitted_count, 1);
        len = rig_save(&rig[t], &state[t]);
        blk_len[t] = section_of(state[t], len, "vblk", &blk[t]);
        net_len[t] = section_of(state[t], len, "vnet", &net[t]);
    }
    ck_assert_uint_eq(blk_len[0], blk_len[1]);
    ck_assert_mem_eq(blk[0], blk[1], blk_len[0]);
    ck_assert_uint_eq(net_len[0], net_len[1]);
    ck_assert_mem_eq(net[0], net[1], net_len[0]);
    for (unsigned t = 0; t < 2; t++) {
        free(state[t]);
        rig_free(&rig[t]);
    }
}
END_TEST

START_TEST(standard_with_mmio)
{
    struct machine_conf conf = conf_of(MACHINE_TRANSPORT_MMIO);
    struct rig rig;
    struct rig_ring ring[1];
    uint64_t header[2] = {4, 0};

    rig_init(&rig, &conf);
    ck_assert(!machine_irq_pending(rig.m));
    ck_assert_uint_eq(machine_watchdog_pci_dev(rig.m), 1);
    ck_assert_uint_eq(rig_pci_in(&rig, 1, 0, 4), 0x25AB8086);
    ck_assert_uint_eq(rig_pci_in(&rig, 2, 0, 4), UINT32_MAX);
    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1 | 1u << 9, ring, 1, 0x1000);
    gmem_write(&rig.gm, (struct gpa){0x3000}, header, sizeof header);
    rig_desc(&rig, &ring[0], 0, 0x3000, 16, 1, 1);
    rig_desc(&rig, &ring[0], 1, 0x4000, 1, 2, 0);
    rig_offer(&rig, &ring[0], 0);
    rig_notify(&rig, &ring[0]);
    rig_blk_done(&rig, 0, 0);
    ck_assert(rig.gsi[16] && !rig.gsi[17]);
    rig_vreg_out(&rig, 0, VMMIO_INTERRUPT_ACK, 1);
    ck_assert(!rig.gsi[16]);
    ck_assert_uint_eq(rig.doorbell[0][0], 0);
    rig_free(&rig);
}
END_TEST

/* Devices that share a line: it stays up until the last of them lets go. */
START_TEST(shared_lines)
{
    struct machine_conf conf = conf_of(MACHINE_TRANSPORT_PCI);
    struct rig_ring ring[5];
    struct rig rig;

    conf.disk_count = 5; /* devices 1 and 5 share GSI 17 */
    for (unsigned i = 0; i < 5; i++) {
        conf.disk[i] = conf.disk[0];
    }
    rig_init(&rig, &conf);
    for (unsigned i = 0; i < 5; i += 4) {
        rig_virtio_start(&rig, i, VIRTIO_F_VERSION_1, &ring[i], 1, 0x1000 + i * 0x400);
        rig_offer(&rig, &ring[i], 99);
        rig_notify(&rig, &ring[i]); /* broken: says so */
        ck_assert(rig.gsi[17]);
    }
    rig_mmio_in(&rig, BOARD_PCI_VIRTIO_BAR4(0) + VPCI_ISR, 1);
    ck_assert(rig.gsi[17]);
    rig_mmio_in(&rig, BOARD_PCI_VIRTIO_BAR4(4) + VPCI_ISR, 1);
    ck_assert(!rig.gsi[17]);
    ck_assert_uint_eq(rig.gsi_calls, 2); /* changes only */
    rig_free(&rig);
}
END_TEST

START_TEST(edges_and_levels_of_the_board)
{
    struct machine_conf conf = conf_of(MACHINE_TRANSPORT_PCI);
    struct rig rig;

    rig_init(&rig, &conf);
    rig_out(&rig, BOARD_SERIAL_PORT + 1, 1, 2); /* transmitter empty */
    ck_assert(rig.gsi[BOARD_SERIAL_IRQ]);
    rig_in(&rig, BOARD_SERIAL_PORT + 2, 1);
    ck_assert(!rig.gsi[BOARD_SERIAL_IRQ]);
    rig_out(&rig, BOARD_PM_PORT + 2, 2, 0x100);
    machine_input(rig.m, MACHINE_DEV_PM, &(struct dev_input){.type = INPUT_POWER_BUTTON});
    ck_assert(rig.gsi[BOARD_SCI_IRQ]);
    rig_out(&rig, BOARD_PM_PORT, 2, 0x100);
    ck_assert(!rig.gsi[BOARD_SCI_IRQ]);
    ck_assert_uint_eq(rig_in(&rig, 0x20, 1), 0xFF); /* KVM's, not ours */
    ck_assert_uint_eq(rig_in(&rig, 0x40, 1), 0xFF);
    rig_free(&rig);
}
END_TEST

static Suite *virtio_suite(void)
{
    Suite *suite = suite_create("virtio");
    TCase *tc = tcase_create("virtio");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, every_queue);
    tcase_add_test(tc, every_status_after_every_status);
    tcase_add_test(tc, every_offset_of_the_configuration);
    tcase_add_test(tc, impossible_states_are_refused);
    tcase_add_test(tc, a_device_does_not_know_its_transport);
    tcase_add_test(tc, standard_with_mmio);
    tcase_add_test(tc, shared_lines);
    tcase_add_test(tc, edges_and_levels_of_the_board);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(virtio_suite)
