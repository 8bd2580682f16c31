/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio-mmio transport: every register in every width, feature and status rules,
 * frozen queues. */
#include "tests/unit/vmm/machine_rig.h"

#include <string.h>

#include "tests/unit/unit.h"

#define BLK_FEATURES                                                                     \
    (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | 1u << 1 | 1u << 2 | 1u << 6 | 1u << 9)

static struct rig rig;
static struct rig_ring ring[2];

static void setup(void)
{
    rig_init(&rig, NULL);
}

static void teardown(void)
{
    rig_free(&rig);
}

static uint32_t in(unsigned reg)
{
    return rig_vreg_in(&rig, 0, reg);
}

static void out(unsigned reg, uint32_t value)
{
    rig_vreg_out(&rig, 0, reg, value);
}

START_TEST(identity)
{
    ck_assert_uint_eq(in(VMMIO_MAGIC), 0x74726976);
    ck_assert_uint_eq(in(VMMIO_VERSION), 2);
    ck_assert_uint_eq(in(VMMIO_DEVICE_ID), VIRTIO_ID_BLK);
    ck_assert_uint_eq(rig_vreg_in(&rig, 1, VMMIO_DEVICE_ID), VIRTIO_ID_NET);
    ck_assert_uint_eq(in(VMMIO_DEVICE_FEATURES), (uint32_t)BLK_FEATURES);
    out(VMMIO_DEVICE_FEATURES_SEL, 1);
    ck_assert_uint_eq(in(VMMIO_DEVICE_FEATURES), 1);
    out(VMMIO_DEVICE_FEATURES_SEL, 2);
    ck_assert_uint_eq(in(VMMIO_DEVICE_FEATURES), 0);
    ck_assert_uint_eq(in(VMMIO_QUEUE_NUM_MAX), 128);
    out(VMMIO_QUEUE_SEL, 1);
    ck_assert_uint_eq(in(VMMIO_QUEUE_NUM_MAX), 0);
    ck_assert_uint_eq(in(VMMIO_SHM_LEN_LOW), UINT32_MAX);
    ck_assert_uint_eq(in(VMMIO_SHM_LEN_LOW + 4), UINT32_MAX);
}
END_TEST

/* Offset x width x value, in a device that runs: only what may change does. */
START_TEST(every_offset_and_width)
{
    static const uint64_t values[] = {0x5A, UINT64_MAX};
    uint64_t config[4];

    rig_virtio_start(&rig, 0, BLK_FEATURES, ring, 1, 0x1000);
    for (unsigned i = 0; i < 4; i++) {
        config[i] = rig_mmio_in(&rig, MACHINE_MMIO_BASE + 0x100 + i * 8, 8);
    }
    ck_assert_uint_eq(config[0], RIG_SECTORS);
    ck_assert_uint_eq(config[1], 4096 | UINT64_C(32) << 32);
    ck_assert_uint_eq(config[2], UINT64_C(512) << 32);
    ck_assert_uint_eq(config[3], 0);
    for (unsigned offset = 0; offset < 512; offset++) {
        for (unsigned len = 1; len <= 8; len *= 2) {
            for (unsigned v = 0; v < 2; v++) {
                bool is_register = len == 4 && offset % 4 == 0 && offset < 0x100;

                if (!is_register ||
                    (offset != VMMIO_STATUS && offset != VMMIO_QUEUE_SEL)) {
                    rig_mmio_out(&rig, MACHINE_MMIO_BASE + offset, len, values[v]);
                }
                ck_assert(is_register || offset >= 0x100 || offset + len > 512 ||
                          rig_mmio_in(&rig, MACHINE_MMIO_BASE + offset, len) == 0);
                ck_assert_uint_eq(in(VMMIO_STATUS), 0x0F);
                ck_assert_uint_eq(in(VMMIO_QUEUE_READY), 1);
            }
            if (offset >= 0x100 &&
                offset % len == 0) { /* config: any aligned piece of it */
                uint64_t whole = offset < 0x120 ? config[(offset - 0x100) / 8] : 0;
                uint64_t mask = len == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * len) - 1;

                ck_assert_uint_eq(rig_mmio_in(&rig, MACHINE_MMIO_BASE + offset, len),
                                  whole >> 8 * (offset % 8) & mask);
            } else if (offset >= 0x100 && offset + len <= 512) {
                ck_assert_uint_eq(rig_mmio_in(&rig, MACHINE_MMIO_BASE + offset, len), 0);
            }
        }
    }
}
END_TEST

static void negotiate(uint64_t features)
{
    out(VMMIO_STATUS, 0);
    out(VMMIO_STATUS, 1);
    out(VMMIO_STATUS, 3);
    out(VMMIO_DRIVER_FEATURES_SEL, 0);
    out(VMMIO_DRIVER_FEATURES, (uint32_t)features);
    out(VMMIO_DRIVER_FEATURES_SEL, 1);
    out(VMMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
    out(VMMIO_STATUS, 0x0B);
}

START_TEST(features)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t feature = UINT64_C(1) << bit;
        bool ok = (feature & ~BLK_FEATURES) == 0;

        negotiate(VIRTIO_F_VERSION_1 | feature);
        ck_assert_uint_eq(in(VMMIO_STATUS), ok ? 0x0B : 0x03);
        negotiate(feature); /* a legacy driver */
        ck_assert_uint_eq(in(VMMIO_STATUS), feature == VIRTIO_F_VERSION_1 ? 0x0B : 0x03);
        out(VMMIO_STATUS, 0x0F); /* and DRIVER_OK does not help it */
        ck_assert_uint_eq(in(VMMIO_STATUS)&4, feature == VIRTIO_F_VERSION_1 ? 4 : 0);
    }
    negotiate(VIRTIO_F_VERSION_1);
    out(VMMIO_DRIVER_FEATURES, UINT32_MAX); /* frozen: not seen by anyone */
    out(VMMIO_STATUS, 0x0F);
    ck_assert_uint_eq(in(VMMIO_STATUS), 0x0F);
    out(VMMIO_DRIVER_FEATURES_SEL, 7);
    out(VMMIO_DRIVER_FEATURES, UINT32_MAX);
}
END_TEST

START_TEST(status_bits_only_grow)
{
    for (unsigned from = 1; from < 256; from++) {
        for (unsigned to = 1; to < 256; to++) {
            uint32_t before, after;

            negotiate(VIRTIO_F_VERSION_1);
            out(VMMIO_STATUS, from);
            before = in(VMMIO_STATUS);
            out(VMMIO_STATUS, to);
            after = in(VMMIO_STATUS);
            ck_assert_uint_eq(before & after, before);
            ck_assert_uint_eq(after & 0x70, 0); /* ours or nobody's */
        }
    }
    out(VMMIO_STATUS, 0);
    ck_assert_uint_eq(in(VMMIO_STATUS), 0);
}
END_TEST

/* CVE-2026-5747's class: a queue changed after DRIVER_OK. */
START_TEST(queues_are_frozen)
{
    static const unsigned regs[] = {VMMIO_QUEUE_NUM,       VMMIO_QUEUE_READY,
                                    VMMIO_QUEUE_DESC_LOW,  VMMIO_QUEUE_DESC_HIGH,
                                    VMMIO_QUEUE_AVAIL_LOW, VMMIO_QUEUE_AVAIL_HIGH,
                                    VMMIO_QUEUE_USED_LOW,  VMMIO_QUEUE_USED_HIGH};
    static const uint32_t values[] = {0, 1, 3, 0x10000, UINT32_MAX};
    uint32_t digest;

    rig_virtio_start(&rig, 0, BLK_FEATURES, ring, 1, 0x1000);
    digest = rig_digest(&rig);
    for (size_t r = 0; r < ARRAY_SIZE(regs); r++) {
        for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
            out(regs[r], values[v]);
            ck_assert_uint_eq(rig_digest(&rig), digest);
        }
    }
    negotiate(
        VIRTIO_F_VERSION_1); /* before DRIVER_OK: frozen while ready, free again after */
    out(VMMIO_QUEUE_NUM, 8);
    out(VMMIO_QUEUE_DESC_LOW, 0x1000);
    out(VMMIO_QUEUE_AVAIL_LOW, 0x1100);
    out(VMMIO_QUEUE_USED_LOW, 0x1200);
    out(VMMIO_QUEUE_READY, 1);
    digest = rig_digest(&rig);
    out(VMMIO_QUEUE_NUM, 16);
    ck_assert_uint_eq(rig_digest(&rig), digest);
    out(VMMIO_QUEUE_READY, 0);
    ck_assert_uint_eq(in(VMMIO_QUEUE_READY), 0);
    out(VMMIO_QUEUE_NUM, 3);
    out(VMMIO_QUEUE_READY, 1); /* cannot work: said so at once */
    ck_assert_uint_eq(in(VMMIO_QUEUE_READY), 0);
    ck_assert_uint_eq(in(VMMIO_STATUS), 0x4B);
    out(VMMIO_STATUS, 0x0F);
    ck_assert_uint_eq(in(VMMIO_STATUS), 0x4F);
    out(VMMIO_QUEUE_NOTIFY, 0);
    out(VMMIO_QUEUE_NOTIFY, 1);
    out(VMMIO_QUEUE_NOTIFY, UINT32_MAX);
    out(VMMIO_STATUS, 0);
    ck_assert_uint_eq(in(VMMIO_STATUS), 0);
}
END_TEST

START_TEST(nothing_runs_before_driver_ok)
{
    uint64_t header[2] = {0, 0};
    uint32_t id, len;

    rig_virtio_start(&rig, 0, BLK_FEATURES, ring, 1, 0x1000);
    negotiate(VIRTIO_F_VERSION_1);
    out(VMMIO_QUEUE_SEL, 0);
    out(VMMIO_QUEUE_NUM, ring[0].size);
    out(VMMIO_QUEUE_DESC_LOW, (uint32_t)ring[0].desc);
    out(VMMIO_QUEUE_AVAIL_LOW, (uint32_t)ring[0].avail);
    out(VMMIO_QUEUE_USED_LOW, (uint32_t)ring[0].used);
    out(VMMIO_QUEUE_READY, 1);
    gmem_write(&rig.gm, (struct gpa){0x3000}, header, sizeof header);
    rig_desc(&rig, &ring[0], 0, 0x3000, 16, 1, 1);
    rig_desc(&rig, &ring[0], 1, 0x4000, 513, 2, 0);
    rig_offer(&rig, &ring[0], 0);
    rig_notify(&rig, &ring[0]);
    ck_assert_uint_eq(rig.submitted_count, 0);
    out(VMMIO_STATUS, 0x0F);
    rig_notify(&rig, &ring[0]);
    ck_assert_uint_eq(rig.submitted_count, 1);
    rig_blk_done(&rig, 0, 0);
    ck_assert(rig_used(&rig, &ring[0], &id, &len));
    ck_assert_uint_eq(len, 513);
    rig_offer(&rig, &ring[0], 0);
    out(VMMIO_STATUS, 0x8F); /* the driver gave up */
    rig_notify(&rig, &ring[0]);
    ck_assert_uint_eq(rig.submitted_count, 1);
}
END_TEST

START_TEST(broken_devices_say_so)
{
    rig_pic_init(&rig);
    rig_virtio_start(&rig, 0, BLK_FEATURES, ring, 1, 0x1000);
    rig_offer(&rig, &ring[0], 99); /* no such descriptor */
    rig_notify(&rig, &ring[0]);
    ck_assert_uint_eq(in(VMMIO_STATUS), 0x4F);
    ck_assert_uint_eq(in(VMMIO_INTERRUPT_STATUS), VIRTIO_IRQ_CONFIG);
    ck_assert(machine_irq_pending(rig.m));
    out(VMMIO_INTERRUPT_ACK, UINT32_MAX);
    ck_assert_uint_eq(in(VMMIO_INTERRUPT_STATUS), 0);
    rig_notify(&rig, &ring[0]); /* nothing more until a reset */
    ck_assert_uint_eq(in(VMMIO_INTERRUPT_STATUS), 0);
    rig_virtio_start(&rig, 0, BLK_FEATURES, ring, 1, 0x1000);
    ck_assert_uint_eq(in(VMMIO_STATUS), 0x0F);
}
END_TEST

static Suite *vmmio_suite(void)
{
    Suite *suite = suite_create("vmmio");
    TCase *tc = tcase_create("vmmio");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, identity);
    tcase_add_test(tc, every_offset_and_width);
    tcase_add_test(tc, features);
    tcase_add_test(tc, status_bits_only_grow);
    tcase_add_test(tc, queues_are_frozen);
    tcase_add_test(tc, nothing_runs_before_driver_ok);
    tcase_add_test(tc, broken_devices_say_so);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(vmmio_suite)
