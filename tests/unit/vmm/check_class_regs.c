/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Classes of bugs in devices, those that come in through registers and by mere quantity:
 * see check_class_queue.c. 16 is in check_guest_agent.c, where the log lines are that a
 * guest can cause.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "tests/unit/vmm/class_rig.h"
#include "vmm/byte_ring.h"
#include "vmm/dev_vblk.h"
#include "vmm/dev_vcon.h"
#include "vmm/dev_vnet.h"

#define RSS_SLACK (256 * 1024)
#define UNTOUCHED 0xA5

/* Sanitizers keep what was freed, and shadows of it: nothing to measure then. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define RSS_IS_OURS false
#else
#define RSS_IS_OURS true
#endif

static void setup_mmio(void)
{
    class_open(MACHINE_TRANSPORT_MMIO);
}

static void setup_pci(void)
{
    class_open(MACHINE_TRANSPORT_PCI);
}

/* Where the transport's registers of a slot begin, and how far they go. */
static uint64_t window_of(unsigned slot, uint64_t *ret_len)
{
    if (class_rig.conf.transport == MACHINE_TRANSPORT_PCI) {
        *ret_len = VPCI_BAR_REGS_SIZE;
        return rig_pci_bar(&class_rig, BOARD_PCI_VIRTIO_DEV(slot), VPCI_BAR_REGS);
    }
    *ret_len = BOARD_VIRTIO_STRIDE;
    return BOARD_VIRTIO_BASE + slot * BOARD_VIRTIO_STRIDE;
}

/* Saving changes nothing, and what was saved comes back as it was. */
static void expect_equal_bytes(const char *after, unsigned n)
{
    uint8_t *first, *again;
    struct state_io io;
    size_t len = rig_save(&class_rig, &first), again_len;

    ck_assert_msg(rig_load(&class_rig, first, len, &io) == 0, "after %s %x: %s.%s", after,
                  n, io.section.name, io.refused_field ? io.refused_field : "?");
    again_len = rig_save(&class_rig, &again);
    ck_assert_msg(len == again_len && memcmp(first, again, len) == 0,
                  "after %s %x: other bytes", after, n);
    free(first);
    free(again);
}

/* Registers of one queue: all but its vector, which a driver may change at any time. */
static const unsigned mmio_regs[] = {
    VMMIO_QUEUE_NUM,       VMMIO_QUEUE_READY,     VMMIO_QUEUE_DESC_LOW,
    VMMIO_QUEUE_DESC_HIGH, VMMIO_QUEUE_AVAIL_LOW, VMMIO_QUEUE_AVAIL_HIGH,
    VMMIO_QUEUE_USED_LOW,  VMMIO_QUEUE_USED_HIGH, VMMIO_DRIVER_FEATURES};
static const unsigned pci_regs[] = {
    VPCI_QUEUE_SIZE,     VPCI_QUEUE_ENABLE,     VPCI_QUEUE_DESC,
    VPCI_QUEUE_DESC + 4, VPCI_QUEUE_DRIVER,     VPCI_QUEUE_DRIVER + 4,
    VPCI_QUEUE_DEVICE,   VPCI_QUEUE_DEVICE + 4, VPCI_QUEUE_NOTIFY_OFF,
    VPCI_QUEUE_RESET,    VPCI_DRIVER_FEATURE};

/* Every register of every queue of every device, in every width, in every status that
 * DRIVER_OK is a part of: nothing changes (CVE-2026-5747). */
START_TEST(class_07_queue_config_after_activation)
{
    static const uint8_t statuses[] = {0x0F, 0x8F, 0x4F};
    static const uint64_t values[] = {0, 1, 3, 8, 256, 0x10000, UINT64_MAX};
    bool pci = class_rig.conf.transport == MACHINE_TRANSPORT_PCI;
    const unsigned *regs = pci ? pci_regs : mmio_regs;
    size_t count = pci ? ARRAY_SIZE(pci_regs) : ARRAY_SIZE(mmio_regs);

    for (unsigned i = 0; i < CLASS_QUEUES * ARRAY_SIZE(statuses); i++) {
        const struct class_queue *q = &class_queue[i / ARRAY_SIZE(statuses)];
        uint8_t status = statuses[i % ARRAY_SIZE(statuses)];
        uint64_t len, at;
        uint32_t digest;

        class_prime(q);
        at = window_of(q->slot, &len);
        if (status == 0x4F) {
            rig_offer(&class_rig, class_ring_of(q), 999);
            class_poke(q);
        } else {
            class_write_status(q->slot, status);
        }
        ck_assert_uint_eq(class_status(q->slot), status);
        rig_mmio_out(&class_rig,
                     at + (pci ? (unsigned)VPCI_QUEUE_SELECT : VMMIO_QUEUE_SEL),
                     pci ? 2 : 4, q->queue);
        digest = rig_digest(&class_rig);
        for (size_t r = 0; r < count; r++) {
            for (unsigned v = 0; v < ARRAY_SIZE(values) * 4; v++) {
                rig_mmio_out(&class_rig, at + regs[r], 1u << v % 4, values[v / 4]);
                ck_assert_msg(rig_digest(&class_rig) == digest,
                              "%s, status %x: register %x = %llx", q->name, status,
                              regs[r], (unsigned long long)values[v / 4]);
            }
        }
        if (status == 0x0F) { /* and it goes on where the rings were */
            uint32_t id, used;

            class_request(q, 0);
            rig_offer(&class_rig, class_ring_of(q), 0);
            class_poke(q);
            ck_assert(!class_broken(q->slot));
            if (q->slot == SLOT_BLK) {
                rig_blk_done(&class_rig, 0, 0);
            }
            ck_assert_msg(rig_used(&class_rig, class_ring_of(q), &id, &used) ||
                              q->slot == SLOT_BALLOON,
                          "%s", q->name);
        }
    }
}
END_TEST

/* Quantity
 * ---------------------------------------------------------------------------------- */

static size_t rss(void)
{
    unsigned long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fscanf(f, "%lu %lu", &size, &resident), 2);
    fclose(f);
    return RSS_IS_OURS ? resident * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

static struct byte_ring unread;

static void serial_to_ring(void *ctx, const uint8_t *bytes, uint32_t len)
{
    (void)ctx;
    byte_ring_put(&unread, bytes, len);
}

/* 10^6 bytes out of a serial port, a debug port and the agent's port, and as many into
 * the serial port, and nobody reads at either end. */
START_TEST(class_12_nobody_reads)
{
    const unsigned total = 1000000;
    const struct class_queue *port = &class_queue[7];
    struct machine_ops ops = *rig_ops;
    uint64_t dropped;
    size_t before;

    class_prime(port);
    ops.serial_out = ops.debug_out = ops.port_out = serial_to_ring;
    ck_assert_int_eq(byte_ring_init(&unread, 65536), 0);
    memset(unread.buf, 0, unread.cap);
    ck_assert_int_eq(machine_init(class_rig.memory, &class_rig.conf, &class_rig.gm, &ops,
                                  &class_rig, &class_rig.m),
                     0);
    for (unsigned n = 0; n < total; n++) {
        if (n == 1000) {
            before = rss();
        }
        rig_out(&class_rig, BOARD_SERIAL_PORT, 1, n);
        rig_out(&class_rig, BOARD_DEBUG_PORT, 1, n);
    }
    ck_assert_uint_eq(atomic_load(&unread.dropped), 2 * total - unread.cap);
    dropped = machine_dropped(class_rig.m);
    for (unsigned n = 0; n < total / SERIAL_RX_MAX; n++) {
        static const uint8_t keys[SERIAL_RX_MAX] = {'x'};
        struct dev_input in = {.type = INPUT_SERIAL_RX, .data = keys, .len = sizeof keys};

        ck_assert_int_eq(machine_input(class_rig.m, MACHINE_DEV_SERIAL, &in), 0);
        ck_assert_uint_le(machine_serial_room(class_rig.m), 256);
    }
    ck_assert_uint_ge(machine_dropped(class_rig.m) - dropped, total - 512);
    rig_out(&class_rig, BOARD_SERIAL_PORT + 2, 1, 1); /* FIFOs on, and looped back */
    rig_out(&class_rig, BOARD_SERIAL_PORT + 4, 1, 0x10);
    for (unsigned n = 0; n < total; n++) {
        rig_out(&class_rig, BOARD_SERIAL_PORT, 1, n);
    }
    ck_assert_uint_le(rss(), before + RSS_SLACK);
    expect_equal_bytes("a million bytes", 0);
    byte_ring_free(&unread);
}
END_TEST

/* What a guest asks for never outgrows what was made for it at the start. */
START_TEST(class_14_fixed_pools)
{
    static const uint8_t frame[NET_HEADER_LEN + 1514] = {0};
    static const uint8_t text[PORT_RX_MAX] = {0};
    const struct class_queue *blk = &class_queue[0], *control = &class_queue[6];
    unsigned answered = 0;
    uint64_t dropped;
    uint32_t id, len;
    size_t before;

    class_prime(control);
    dropped = machine_dropped(class_rig.m);
    expect_equal_bytes("nothing", 0); /* its buffers are there now */
    before = rss();
    for (unsigned n = 0; n < 20000; n++) { /* frames and no buffers for them */
        class_input(SLOT_NET, INPUT_NET_RX, frame, sizeof frame);
    }
    ck_assert_uint_ge(machine_dropped(class_rig.m) - dropped,
                      20000 - VNET_BACKLOG_LEN / sizeof frame);
    for (unsigned n = 0; n < 20000;
         n++) { /* control messages and no buffers for answers */
        class_request(control, 0);
        rig_offer(&class_rig, class_ring_of(control), 0);
        rig_notify(&class_rig, class_ring_of(control));
        ck_assert(rig_used(&class_rig, class_ring_of(control), &id, &len));
        class_input(SLOT_CON, INPUT_PORT_RX, text, sizeof text);
    }
    ck_assert(!class_broken(SLOT_CON));
    ck_assert_uint_le(rss(), before + VNET_BACKLOG_LEN + RSS_SLACK);
    expect_equal_bytes("floods", 0);

    class_rig.queue_size = VBLK_QUEUE_SIZE; /* more requests than slots */
    rig_restart(&class_rig);
    if (class_rig.conf.transport == MACHINE_TRANSPORT_PCI) {
        rig_pci_out(&class_rig, BOARD_PCI_VIRTIO_DEV(SLOT_BLK), PCI_REG_COMMAND, 2,
                    PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    }
    rig_virtio_start(&class_rig, SLOT_BLK, VIRTIO_F_VERSION_1, class_ring[SLOT_BLK], 1,
                     CLASS_RINGS);
    for (unsigned n = 0; n < VBLK_QUEUE_SIZE / 2; n++) {
        const uint64_t header[2] = {0, n};

        memcpy(class_rig.ram + CLASS_DATA + n * 32, header, sizeof header);
        rig_desc(&class_rig, class_ring_of(blk), 2 * n, CLASS_DATA + n * 32, 16, 1,
                 (uint16_t)(2 * n + 1));
        rig_desc(&class_rig, class_ring_of(blk), 2 * n + 1, 0xC000, 513, 2, 0);
        rig_offer(&class_rig, class_ring_of(blk), (uint16_t)(2 * n));
        rig_notify(&class_rig, class_ring_of(blk));
    }
    ck_assert_uint_eq(class_rig.pending_count, VBLK_SLOTS);
    ck_assert_uint_eq(machine_io_in_flight(class_rig.m), VBLK_SLOTS);
    while (class_rig.pending_count > 0) {
        ck_assert_uint_le(class_rig.pending_count, VBLK_SLOTS);
        rig_blk_done(&class_rig, 0, 0);
        answered += rig_used(&class_rig, class_ring_of(blk), &id, &len);
    }
    ck_assert_uint_eq(answered, VBLK_QUEUE_SIZE / 2); /* nobody was forgotten */
    class_rig.queue_size = 0;
}
END_TEST

/* Offsets
 * ----------------------------------------------------------------------------------- */

/* A read gives as many bytes as were asked for, and no more. */
static uint64_t read_exactly(bool mmio, uint64_t addr, unsigned len)
{
    uint8_t bytes[16];
    uint64_t value = 0;

    memset(bytes, UNTOUCHED, sizeof bytes);
    if (mmio) {
        machine_mmio(class_rig.m, (struct gpa){addr}, false, len, bytes);
    } else {
        machine_pio(class_rig.m, (uint16_t)addr, false, len, bytes);
    }
    for (unsigned i = len; i < sizeof bytes; i++) {
        if (bytes[i] != UNTOUCHED) { /* an assertion writes to a pipe each time */
            ck_abort_msg("%u bytes at %llx: more", len, (unsigned long long)addr);
        }
    }
    memcpy(&value, bytes, len);
    return value;
}

/* Each port in each width, each value of a byte: whatever state comes of it can be saved,
 * loaded and saved again. */
START_TEST(class_13_every_port)
{
    static const uint32_t wide[] = {0, 1, 0x55AA55AA, 0x80000000, UINT32_MAX};

    for (unsigned port = 0; port < 0x10000; port++) {
        bool somebody = false;

        for (unsigned len = 1; len <= 8; len *= 2) {
            uint64_t value = read_exactly(false, port, len);

            somebody = somebody ||
                       value != (len == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * len) - 1);
            for (unsigned v = 0; v < ARRAY_SIZE(wide); v++) {
                rig_out(&class_rig, (uint16_t)port, len, wide[v]);
            }
        }
        for (unsigned v = 0; v < 256 && somebody; v++) {
            rig_out(&class_rig, (uint16_t)port, 1, v);
            (void)read_exactly(false, port, 1);
        }
        if (somebody) {
            expect_equal_bytes("port", port);
        }
    }
    ck_assert_uint_gt(class_rig.resets, 0);
}
END_TEST

/* Each offset of each device's registers in each width. What a device says about itself
 * ends where its configuration ends, and the rest reads as zeros. */
START_TEST(class_13_every_offset)
{
    static const uint64_t values[] = {0, 1, 0x5A5A5A5A5A5A5A5A, UINT64_MAX};
    static const unsigned config_len[CLASS_SLOTS] = {60, 12, 0, 12, 16};
    bool pci = class_rig.conf.transport == MACHINE_TRANSPORT_PCI;

    for (unsigned slot = 0; slot < CLASS_SLOTS; slot++) {
        uint64_t len, at = window_of(slot, &len);
        uint64_t config = at + (pci ? (uint64_t)VPCI_DEVICE : VMMIO_CONFIG);
        uint64_t config_end = pci ? (uint64_t)VPCI_DEVICE + 0x1000 : len;

        for (uint64_t offset = config - at + (config_len[slot] + 7u) / 8 * 8;
             offset < config_end; offset++) {
            for (unsigned width = 1; width <= 8; width *= 2) {
                if (offset + width <= config_end &&
                    read_exactly(true, at + offset, width) != 0) {
                    ck_abort_msg("slot %u: %u bytes at %llx of the configuration", slot,
                                 width, (unsigned long long)(at + offset - config));
                }
            }
        }
        for (uint64_t offset = 0; offset < len; offset++) {
            for (unsigned width = 1; width <= 8; width *= 2) {
                for (unsigned v = 0; v < ARRAY_SIZE(values); v++) {
                    rig_mmio_out(&class_rig, at + offset, width, values[v]);
                    (void)read_exactly(true, at + offset, width);
                }
            }
            if (offset < 0x200 || offset % 64 == 0) {
                expect_equal_bytes("offset", (unsigned)offset);
            }
        }
    }
}
END_TEST

/* Configuration space of every function in every width, MSI-X tables, the watchdog. */
START_TEST(class_13_every_pci_register)
{
    static const uint32_t values[] = {0, 0x5A5A5A5A, UINT32_MAX};

    for (unsigned dev = 0; dev < 32; dev++) {
        for (unsigned reg = 0; reg < 4096; reg++) {
            for (unsigned len = 1; len <= 8; len *= 2) {
                uint64_t at = BOARD_ECAM_BASE + (dev << 15) + reg;

                for (unsigned v = 0; v < ARRAY_SIZE(values); v++) {
                    rig_mmio_out(&class_rig, at, len, values[v]);
                    (void)read_exactly(true, at, len);
                }
            }
            if (reg < 256) {
                expect_equal_bytes("register", dev << 12 | reg);
            }
        }
        rig_pci_out(&class_rig, dev, PCI_REG_COMMAND, 2, 7);
    }
    for (uint64_t at = BOARD_PCI_MMIO_BASE; at < BOARD_PCI_WATCHDOG_BAR0 + 0x1000; at++) {
        for (unsigned len = 1; len <= 8; len *= 2) {
            rig_mmio_out(&class_rig, at, len, UINT64_MAX);
            (void)read_exactly(true, at, len);
        }
    }
    expect_equal_bytes("all of it", 0);
}
END_TEST

/* Cells
 * -------------------------------------------------------------------------------------
 */

/* What a status becomes, from the text of VIRTIO 1.2, 2.1 and 3.1.1. */
static uint8_t model_status(uint8_t status, uint8_t write, bool features_fit)
{
    uint8_t next = status | (write & 0x8F);

    if (write == 0) {
        return 0;
    }
    if ((next & 8) != 0 && (status & 8) == 0 && !features_fit) {
        next &= 0xF7;
    }
    if ((next & 4) != 0 && (status & 4) == 0 && (next & 8) == 0) {
        next &= 0xFB;
    }
    return next;
}

/* Every (status, write) of every device, with features that fit and that do not. */
START_TEST(class_15_every_cell_of_the_status)
{
    bool pci = class_rig.conf.transport == MACHINE_TRANSPORT_PCI;

    for (unsigned slot = 0; slot < CLASS_SLOTS; slot++) {
        uint64_t len, at = window_of(slot, &len);
        uint64_t sel =
            at + (pci ? (uint64_t)VPCI_DRIVER_FEATURE_SELECT : VMMIO_DRIVER_FEATURES_SEL);
        uint64_t features =
            at + (pci ? (uint64_t)VPCI_DRIVER_FEATURE : VMMIO_DRIVER_FEATURES);
        uint64_t reg = at + (pci ? (uint64_t)VPCI_STATUS : VMMIO_STATUS);

        for (unsigned cell = 0; cell < 2 * 256 * 256; cell++) {
            uint8_t first = (uint8_t)cell, second = (uint8_t)(cell >> 8), expected;
            bool fit = cell >> 16 != 0;

            rig_mmio_out(&class_rig, reg, pci ? 1 : 4, 0);
            rig_mmio_out(&class_rig, sel, 4, 1);
            rig_mmio_out(&class_rig, features, 4, fit ? 1 : 0x80000001);
            rig_mmio_out(&class_rig, reg, pci ? 1 : 4, first);
            rig_mmio_out(&class_rig, reg, pci ? 1 : 4, second);
            /* a reset takes the features with it */
            expected =
                model_status(model_status(0, first, fit), second, fit && first != 0);
            if (rig_mmio_in(&class_rig, reg, pci ? 1 : 4) != expected) {
                ck_abort_msg("slot %u: status %02x, write %02x, fit %d: not %02x", slot,
                             first, second, fit, expected);
            }
        }
    }
}
END_TEST

/* Every control message to the console: only PORT_OPEN to the agent's port opens it. */
START_TEST(class_15_every_control_message)
{
    static const uint32_t ports[] = {0, 1, 2, 3, 0x80000000, UINT32_MAX};
    static const uint16_t values[] = {0, 1, 2, 0xFFFF};
    const struct class_queue *control = &class_queue[6];

    for (unsigned event = 0; event < 0x100; event++) {
        for (unsigned n = 0; n < ARRAY_SIZE(ports) * ARRAY_SIZE(values); n++) {
            uint32_t port = ports[n / 4];
            uint16_t value = values[n % 4];
            uint8_t message[8] = {(uint8_t)port,         (uint8_t)(port >> 8),
                                  (uint8_t)(port >> 16), (uint8_t)(port >> 24),
                                  (uint8_t)event,        (uint8_t)(event >= 0x80),
                                  (uint8_t)value,        (uint8_t)(value >> 8)};
            uint32_t id, len;

            class_start(SLOT_CON);
            class_request(control, 0);
            memcpy(class_rig.ram + CLASS_DATA, message, sizeof message);
            rig_offer(&class_rig, class_ring_of(control), 0);
            rig_notify(&class_rig, class_ring_of(control));
            ck_assert(rig_used(&class_rig, class_ring_of(control), &id, &len));
            ck_assert(!class_broken(SLOT_CON));
            ck_assert_int_eq(class_rig.port_is_open,
                             port == 1 && event == VCON_PORT_OPEN && value != 0);
        }
    }
}
END_TEST

/* Every input to every device, with a device of each kind there: what a device does not
 * know it ignores, and nobody breaks. */
START_TEST(class_15_every_input)
{
    static const uint8_t bytes[SERIAL_RX_MAX] = {0};

    for (unsigned dev = 0; dev <= MACHINE_DEV_COUNT; dev++) {
        for (unsigned type = 0; type <= INPUT_TYPE_COUNT; type++) {
            for (unsigned n = 0; n < 8; n++) {
                struct dev_input in = {.type = (enum input_type)type,
                                       .now_ns = n * UINT64_C(1000000000),
                                       .value = n < 4 ? n : UINT64_MAX >> n,
                                       .slot = n * 100,
                                       .generation = n,
                                       .data = bytes};

                if (type == INPUT_SERIAL_RX || type == INPUT_NET_RX ||
                    type == INPUT_BLK_DONE || type == INPUT_ENTROPY ||
                    type == INPUT_PORT_RX) {
                    in.len = n * 9;
                }
                (void)machine_input(class_rig.m, dev, &in);
            }
        }
        expect_equal_bytes("inputs to device", dev);
    }
    for (unsigned slot = 0; slot < CLASS_SLOTS; slot++) {
        ck_assert(!class_broken(slot));
    }
}
END_TEST

static void add_all(Suite *suite, const char *name, void (*setup)(void))
{
    TCase *tc = tcase_create(name);

    tcase_set_timeout(tc, 240);
    tcase_add_checked_fixture(tc, setup, class_close);
    tcase_add_test(tc, class_07_queue_config_after_activation);
    tcase_add_test(tc, class_12_nobody_reads);
    tcase_add_test(tc, class_13_every_port);
    tcase_add_test(tc, class_13_every_offset);
    if (setup == setup_pci) {
        tcase_add_test(tc, class_13_every_pci_register);
    }
    tcase_add_test(tc, class_14_fixed_pools);
    tcase_add_test(tc, class_15_every_cell_of_the_status);
    tcase_add_test(tc, class_15_every_control_message);
    tcase_add_test(tc, class_15_every_input);
    suite_add_tcase(suite, tc);
}

static Suite *class_suite(void)
{
    Suite *suite = suite_create("class_regs");

    add_all(suite, "mmio", setup_mmio);
    add_all(suite, "pci", setup_pci);
    return suite;
}

UNIT_MAIN(class_suite)
