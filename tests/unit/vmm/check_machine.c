/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine as a whole: the address map, interrupt lines, the small devices (PM,
 * fw_cfg, reset, debug), the door for inputs, wake-ups, and its state as a hostile
 * stream.
 */
#include "tests/unit/vmm/machine_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "tests/unit/unit.h"
#include "vmm/dev_fwcfg.h"

static struct rig rig;

static void setup(void)
{
    rig_init(&rig, NULL);
    rig_pic_init(&rig);
}

static void teardown(void)
{
    rig_free(&rig);
}

START_TEST(nobody_answers)
{
    for (unsigned len = 1; len <= 8; len *= 2) {
        uint64_t ones = len == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * len)) - 1;

        ck_assert_uint_eq(rig_in(&rig, 0x5000, len), ones);
        ck_assert_uint_eq(rig_in(&rig, 0xFFFF, len), ones); /* wraps nowhere */
        rig_out(&rig, 0xFFFF, len, 0);
        ck_assert_uint_eq(rig_mmio_in(&rig, 0xFEC00000, len), ones);
        ck_assert_uint_eq(rig_mmio_in(&rig, UINT64_MAX, len), ones);
        ck_assert_uint_eq(
            rig_mmio_in(&rig, MACHINE_MMIO_BASE + 2 * MACHINE_MMIO_STRIDE, len), ones);
        rig_mmio_out(&rig, UINT64_MAX, len, 0);
    }
    ck_assert_uint_eq(rig_in(&rig, 0x3F8, 3) & 0xFFFFFF, 0xFFFFFF);
    ck_assert_uint_eq(rig.log_len, 0);
}
END_TEST

START_TEST(wide_accesses_reach_every_byte)
{
    rig_out(&rig, 0x70, 2, 0x40 | 0xAB00); /* index and data at once */
    rig_out(&rig, 0x70, 1, 0x40);
    ck_assert_uint_eq(rig_in(&rig, 0x71, 1), 0xAB);
    ck_assert_uint_eq(rig_in(&rig, 0x70, 2), 0xABFF);
    rig_out(&rig, 0x20, 2, 0x5500); /* OCW2 and the mask */
    ck_assert_uint_eq(rig_in(&rig, 0x21, 1), 0x55);
    ck_assert_uint_eq(rig_in(&rig, 0x3FD, 4),
                      UINT64_C(0x0000B060) | rig_in(&rig, 0x400, 1) << 24);
    ck_assert_uint_eq(rig_in(&rig, MACHINE_DEBUG_PORT, 1), 0xE9);
    rig_out(&rig, MACHINE_DEBUG_PORT, 1, 'g');
    ck_assert_mem_eq(rig.log, "Dg", 2);
}
END_TEST

static uint8_t expect_irq(void)
{
    uint8_t vector;

    ck_assert(machine_irq_pending(rig.m));
    vector = machine_irq_ack(rig.m);
    if (vector >= 0x28) {
        rig_out(&rig, 0xA0, 1, 0x20);
    }
    rig_out(&rig, 0x20, 1, 0x20);
    return vector;
}

START_TEST(interrupt_lines)
{
    static const uint8_t byte = 'x';
    struct rig_ring ring[2];

    rig_out(&rig, 0x43, 1, 0x34);
    rig_out(&rig, 0x40, 1, 0x00);
    rig_out(&rig, 0x40, 1, 0x10);
    rig_clock(&rig, machine_next_wake_ns(rig.m));
    ck_assert_uint_eq(expect_irq(), 0x20);
    ck_assert(!machine_irq_pending(rig.m));

    rig_out(&rig, 0x3F9, 1, 1);
    machine_input(rig.m, MACHINE_DEV_SERIAL,
                  &(struct dev_input){.type = INPUT_SERIAL_RX, .data = &byte, .len = 1});
    ck_assert_uint_eq(expect_irq(), 0x24);
    ck_assert(!machine_irq_pending(rig.m)); /* an edge: once until it falls */

    rig_out(&rig, 0x602, 2, 0x100);
    machine_input(rig.m, MACHINE_DEV_PM, &(struct dev_input){.type = INPUT_POWER_BUTTON});
    ck_assert_uint_eq(expect_irq(), 0x29);
    ck_assert_uint_eq(expect_irq(), 0x29); /* a level: again until it is cleared */
    ck_assert_uint_eq(rig_in(&rig, 0x600, 2), 0x100);
    rig_out(&rig, 0x600, 2, 0x100);
    ck_assert(!machine_irq_pending(rig.m));

    rig_out(&rig, 0x70, 1, 0x0B);
    rig_out(&rig, 0x71, 1, 0x12);
    rig_out(&rig, 0x43, 1, 0x30); /* the PIT rests */
    rig_clock(&rig, machine_next_wake_ns(rig.m));
    ck_assert_uint_eq(expect_irq(), 0x28);

    rig_virtio_start(&rig, 1, VIRTIO_F_VERSION_1 | 1u << 16, ring, 2, 0x2000);
    machine_input(rig.m, machine_nic_dev(rig.m, 0),
                  &(struct dev_input){.type = INPUT_LINK, .value = 0});
    ck_assert_uint_eq(expect_irq(), 0x2A); /* slot 1: IRQ 10 */
    ck_assert_uint_eq(rig_vreg_in(&rig, 1, VMMIO_INTERRUPT_STATUS), VIRTIO_IRQ_CONFIG);
    rig_vreg_out(&rig, 1, VMMIO_INTERRUPT_ACK, 3);
    ck_assert(!machine_irq_pending(rig.m));
}
END_TEST

START_TEST(shared_line)
{
    struct machine_conf conf = {.ram_len = RIG_RAM_LEN, .nic_count = 8};
    struct rig_ring ring[2];
    static const unsigned slots[2] = {1, 4}; /* both on IRQ 10 */

    rig_free(&rig);
    rig_init(&rig, &conf);
    rig_pic_init(&rig);
    for (unsigned i = 0; i < 2; i++) {
        rig_virtio_start(&rig, slots[i], VIRTIO_F_VERSION_1 | 1u << 16, ring, 2,
                         0x2000 + i * 0x1000);
        machine_input(rig.m, machine_nic_dev(rig.m, slots[i]),
                      &(struct dev_input){.type = INPUT_LINK, .value = 0});
    }
    ck_assert_uint_eq(expect_irq(), 0x2A);
    rig_vreg_out(&rig, 1, VMMIO_INTERRUPT_ACK, 3);
    ck_assert_uint_eq(expect_irq(), 0x2A); /* the other one still holds it up */
    rig_vreg_out(&rig, 4, VMMIO_INTERRUPT_ACK, 3);
    ck_assert(!machine_irq_pending(rig.m));
}
END_TEST

START_TEST(power_management)
{
    uint64_t ns = UINT64_C(123456789);

    rig_out(&rig, 0x43, 1, 0x30); /* stops the 8254, whose wake-ups would come first */
    ck_assert_uint_eq(rig_in(&rig, 0x604, 2),
                      0x0001); /* SCI_EN: ACPI mode from the start */
    rig.now_ns = ns;
    ck_assert_uint_eq(rig_in(&rig, 0x608, 4), ns * 3579545 / 1000000000);
    ns = UINT64_C(3000) * NSEC_PER_SEC; /* past 32 bits */
    rig.now_ns = ns;
    ck_assert_uint_eq(rig_in(&rig, 0x608, 4), (uint32_t)(UINT64_C(3000) * 3579545));
    ck_assert_uint_eq(rig_in(&rig, 0x609, 1),
                      (uint32_t)(UINT64_C(3000) * 3579545) >> 8 & 0xFF);
    ck_assert_uint_eq(rig_in(&rig, 0x600, 2), 0x0001); /* the top bit has changed */
    rig_out(&rig, 0x600, 2, 1);
    ck_assert_uint_eq(rig_in(&rig, 0x600, 2), 0);
    rig_out(&rig, 0x602, 2, 1);
    rig_clock(&rig, machine_next_wake_ns(rig.m));
    ck_assert_uint_eq(rig.now_ns, (UINT64_C(6) << 31) * 1000000000 / 3579545 + 1);
    ck_assert_uint_eq(expect_irq(), 0x29);
    for (unsigned type = 1; type < 8; type++) {
        rig_out(&rig, 0x604, 2,
                0x2000 | type << 10); /* other sleep states are not there */
    }
    ck_assert_uint_eq(rig.shutdowns, 0);
    rig_out(&rig, 0x604, 2, 0x2000);
    ck_assert_uint_eq(rig.shutdowns, 1);
    ck_assert_uint_eq(rig_in(&rig, 0x604, 2), 0x0001);
}
END_TEST

START_TEST(reset_ports)
{
    for (unsigned value = 0; value < 256; value++) {
        unsigned before = rig.resets;

        rig_out(&rig, 0xCF9, 1, value);
        ck_assert_uint_eq(rig.resets - before, value >> 2 & 1);
        ck_assert_uint_eq(rig_in(&rig, 0xCF9, 1), value & 0x0A);
        before = rig.resets;
        rig_out(&rig, 0x64, 1, value);
        ck_assert_uint_eq(rig.resets - before, value == 0xFE);
        ck_assert_uint_eq(rig_in(&rig, 0x64, 1), 0xFF);
    }
}
END_TEST

static void fw_read(unsigned key, uint8_t *buf, unsigned len)
{
    rig_out(&rig, 0x510, 2, key);
    for (unsigned i = 0; i < len; i++) {
        buf[i] = (uint8_t)rig_in(&rig, 0x511, 1);
    }
}

/* As a guest finds a file: through the directory. */
static unsigned fw_file(const char *name, uint8_t *buf)
{
    uint8_t dir[4 + 64 * FWCFG_FILES];

    fw_read(FWCFG_KEY_DIR, dir, sizeof dir);
    for (unsigned i = 0; i < dir[3]; i++) {
        const uint8_t *entry = dir + 4 + 64 * i;
        unsigned size = (unsigned)entry[2] << 8 | entry[3];

        if (strcmp((const char *)entry + 8, name) == 0) {
            fw_read((unsigned)entry[4] << 8 | entry[5], buf, size + 4);
            ck_assert_mem_eq(buf + size, "\0\0\0\0", 4); /* zeros past the end */
            return size;
        }
    }
    ck_abort_msg("no file %s", name);
}

START_TEST(fw_cfg)
{
    uint8_t buf[64];

    fw_read(FWCFG_KEY_SIGNATURE, buf, 4);
    ck_assert_mem_eq(buf, "QEMU", 4);
    fw_read(FWCFG_KEY_ID, buf, 4);
    ck_assert_mem_eq(buf, "\3\0\0\0", 4);
    fw_read(FWCFG_KEY_NB_CPUS, buf, 2);
    ck_assert_mem_eq(buf, "\1\0", 2);
    fw_read(FWCFG_KEY_RAM_SIZE, buf, 8);
    ck_assert_mem_eq(buf, "\0\0\1\0\0\0\0\0", 8);
    ck_assert_uint_eq(fw_file(FWCFG_FILE_CMDLINE, buf), strlen("console=rig"));
    ck_assert_mem_eq(buf, "console=rig", 11);
    ck_assert_uint_eq(fw_file(FWCFG_FILE_EPOCH, buf), 8);
    ck_assert_mem_eq(buf, "\0\0\0\0\0\0\0\0", 8);
    machine_input(
        rig.m, MACHINE_DEV_FWCFG,
        &(struct dev_input){.type = INPUT_EPOCH, .value = UINT64_C(0x1122334455667788)});
    ck_assert_uint_eq(fw_file(FWCFG_FILE_EPOCH, buf), 8);
    ck_assert_mem_eq(buf, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
    machine_reset(rig.m);
    ck_assert_uint_eq(fw_file(FWCFG_FILE_EPOCH, buf), 8);
    ck_assert_mem_eq(buf, "\x88\x77\x66\x55\x44\x33\x22\x11",
                     8); /* a reset is not a new claim */
    for (unsigned key = 0; key < 0x10000; key++) {
        fw_read(key, buf, 1);
    }
    rig_out(&rig, 0x511, 1, 0x55); /* read-only */
    fw_read(FWCFG_KEY_SIGNATURE, buf, 4);
    ck_assert_mem_eq(buf, "QEMU", 4);
}
END_TEST

START_TEST(refused_configurations)
{
    struct machine_conf conf = {.ram_len = RIG_RAM_LEN};
    static const struct machine_ops none;
    char line[GUEST_CMDLINE_MAX + 2];
    struct machine *m = NULL;
    void *memory;

    conf.disk_count = VM_DISKS_MAX + 1;
    conf.nic_count = 4;
    memory = aligned_alloc(64, machine_size(&rig.conf) / 64 * 64 + 64);
    ck_assert_int_eq(machine_init(memory, &conf, &rig.gm, &none, NULL, &m), -EINVAL);
    conf.disk_count = conf.nic_count = 0;
    ck_assert_int_eq(machine_init(memory, &conf, &rig.gm, &none, NULL, &m), -EINVAL);
    ck_assert_ptr_null(m);
    free(memory);
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    rig_free(&rig);
    line[GUEST_CMDLINE_MAX] = '\0'; /* the longest that fits */
    conf.cmdline = line;
    rig_init(&rig, &conf);
    rig_save(&rig, (uint8_t **)&memory);
    free(memory);
}
END_TEST

START_TEST(the_door)
{
    static uint8_t bulk[BLK_REQUEST_MAX + 1];
    static const struct {
        enum input_type type;
        uint32_t max;
    } limit[] = {{INPUT_CLOCK, 0},
                 {INPUT_SERIAL_RX, SERIAL_RX_MAX},
                 {INPUT_NET_RX, NET_HEADER_LEN + NET_FRAME_MAX},
                 {INPUT_BLK_DONE, BLK_REQUEST_MAX},
                 {INPUT_POWER_BUTTON, 0}};
    struct dev_input in = {.type = INPUT_CLOCK, .data = bulk};

    ck_assert_int_eq(machine_input(rig.m, MACHINE_DEV_COUNT, &in), -ENODEV);
    ck_assert_int_eq(machine_input(rig.m, UINT32_MAX, &in), -ENODEV);
    ck_assert_int_eq(machine_input(rig.m, MACHINE_DEV_VIRTIO0 + 2, &in), -ENODEV);
    for (unsigned dev = 0; dev < MACHINE_DEV_VIRTIO0 + 2; dev++) {
        if (dev >= MACHINE_DEV_PCI && dev < MACHINE_DEV_VIRTIO0) { /* not on lockstep */
            ck_assert_int_eq(machine_input(rig.m, dev, &in), -ENODEV);
            continue;
        }
        in.type = INPUT_NONE;
        ck_assert_int_eq(machine_input(rig.m, dev, &in), -EINVAL);
        in.type = INPUT_TYPE_COUNT;
        ck_assert_int_eq(machine_input(rig.m, dev, &in), -EINVAL);
        for (size_t i = 0; i < ARRAY_SIZE(limit); i++) {
            in = (struct dev_input){
                .type = limit[i].type, .data = bulk, .len = limit[i].max};
            ck_assert_int_eq(machine_input(rig.m, dev, &in), 0);
            in.len++;
            ck_assert_int_eq(machine_input(rig.m, dev, &in), -EINVAL);
            in.len = 1;
            in.data = NULL;
            ck_assert_int_eq(machine_input(rig.m, dev, &in), -EINVAL);
        }
    }
}
END_TEST

static unsigned clocks_seen, last_dev;

static void count_clocks(struct rig *r, unsigned dev_index, const struct dev_input *in)
{
    (void)r;
    clocks_seen += in->type == INPUT_CLOCK;
    last_dev = dev_index;
}

START_TEST(clocks_come_through_the_door)
{
    static const struct {
        uint16_t port;
        int dev; /* -1: this device reads no clock */
    } access[] = {{0x40, MACHINE_DEV_PIT},
                  {0x61, MACHINE_DEV_PIT},
                  {0x71, MACHINE_DEV_RTC},
                  {0x608, MACHINE_DEV_PM},
                  {0x3F8, -1},
                  {0x20, -1},
                  {0x402, -1},
                  {0x511, -1},
                  {0xCF9, -1}};

    rig.on_input = count_clocks;
    for (size_t i = 0; i < ARRAY_SIZE(access); i++) {
        clocks_seen = 0;
        rig_in(&rig, access[i].port, 1);
        ck_assert_uint_eq(clocks_seen, access[i].dev >= 0);
        ck_assert(access[i].dev < 0 || last_dev == (unsigned)access[i].dev);
    }
}
END_TEST

START_TEST(reset_keeps_and_clears)
{
    rig.now_ns = 5 * NSEC_PER_SEC;
    rig_in(&rig, 0x608, 4);
    rig_out(&rig, 0x70, 1, 0x40);
    rig_out(&rig, 0x71, 1, 0x77);
    rig_out(&rig, 0x43, 1, 0x34);
    rig_out(&rig, 0x40, 1, 1);
    rig_out(&rig, 0x40, 1, 1);
    rig_out(&rig, 0x602, 2, 0x100);
    machine_input(rig.m, MACHINE_DEV_PM, &(struct dev_input){.type = INPUT_POWER_BUTTON});
    ck_assert(machine_irq_pending(rig.m));
    machine_reset(rig.m);
    ck_assert(!machine_irq_pending(rig.m));
    /* The 8254's counter 0 runs anew, from 65536. */
    ck_assert_uint_eq(machine_next_wake_ns(rig.m), 5 * NSEC_PER_SEC + 54925402);
    ck_assert_uint_eq(rig_in(&rig, 0x600, 4), 0);
    rig_out(&rig, 0x70, 1, 0x40);
    ck_assert_uint_eq(rig_in(&rig, 0x71, 1), 0x77);
    rig.now_ns = 0; /* machine time never goes back */
    ck_assert_uint_ge(rig_in(&rig, 0x608, 4), 5 * 3579545);
}
END_TEST

/* State
 * ----------------------------------------------------------------------------------- */

static void make_busy(struct rig_ring *ring)
{
    static const uint8_t frame[60] = {1};
    uint64_t header[2] = {1, 3};

    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | 1u << 9, ring, 1,
                     0x1000);
    gmem_write(&rig.gm, (struct gpa){0x3000}, header, sizeof header);
    rig_desc(&rig, ring, 0, 0x3000, 16, 1, 1);
    rig_desc(&rig, ring, 1, 0x8000, 1024, 1, 2);
    rig_desc(&rig, ring, 2, 0x3010, 1, 2, 0);
    rig_offer(&rig, ring, 0);
    rig_notify(&rig, ring);
    rig_virtio_start(&rig, 1, VIRTIO_F_VERSION_1, ring + 1, 2, 0x2000);
    machine_input(
        rig.m, machine_nic_dev(rig.m, 0),
        &(struct dev_input){.type = INPUT_NET_RX, .data = frame, .len = sizeof frame});
    machine_input(rig.m, MACHINE_DEV_SERIAL,
                  &(struct dev_input){.type = INPUT_SERIAL_RX, .data = frame, .len = 40});
    rig_out(&rig, 0x43, 1, 0x34);
    rig_out(&rig, 0x40, 1, 0);
    rig_out(&rig, 0x40, 1, 0x20);
}

static void fix_checksums(uint8_t *bytes, size_t len)
{
    for (size_t pos = 8; pos < len;) {
        size_t covered = 1 + (size_t)bytes[pos] + 12;
        uint32_t body_len, crc;

        if (len - pos < covered + 4) {
            return;
        }
        memcpy(&body_len, bytes + pos + covered - 4, 4);
        if (body_len > len - pos - covered - 4) {
            return;
        }
        crc =
            crc32c(crc32c(0, bytes + pos, covered), bytes + pos + covered + 4, body_len);
        memcpy(bytes + pos + covered, &crc, 4);
        pos += covered + 4 + body_len;
    }
}

START_TEST(every_byte_damaged)
{
    struct rig_ring ring[3];
    uint8_t *state, *copy, *again;
    size_t len;
    unsigned refused = 0, taken = 0;
    struct state_io io;

    make_busy(ring);
    len = rig_save(&rig, &state);
    copy = malloc(len);
    for (size_t at = 8; at < len - 17; at++) { /* the end marker is its reader's affair */
        static const uint8_t flips[] = {0x01, 0x80, 0xFF};

        for (unsigned f = 0; f < 3; f++) {
            memcpy(copy, state, len);
            copy[at] ^= flips[f];
            if (f == 0) { /* with the wrong checksum nothing passes */
                ck_assert_int_eq(rig_load(&rig, copy, len, &io), -EBADMSG);
                ck_assert_int_ne(io.error, STATE_OK);
            }
            fix_checksums(copy, len);
            if (rig_load(&rig, copy, len, &io) != 0) {
                ck_assert_int_ne(io.error, STATE_OK);
                refused++;
            } else {
                taken++;
            }
            rig_save(&rig, &again); /* aborts if the machine cannot be saved now */
            free(again);
        }
    }
    ck_assert_uint_gt(refused, 500);
    ck_assert_uint_gt(taken, 500); /* most fields can have any value */
    ck_assert_int_eq(rig_load(&rig, state, len, &io), 0);
    rig_blk_done(&rig, 0, 0); /* and the good state still works */
    ck_assert_uint_eq(machine_io_in_flight(rig.m), 0);
    free(state);
    free(copy);
}
END_TEST

START_TEST(every_prefix_and_every_small_buffer)
{
    struct rig_ring ring[3];
    uint8_t *state, *again, *small;
    size_t len;
    struct state_io io;

    make_busy(ring);
    len = rig_save(&rig, &state);
    ck_assert_uint_le(len, machine_state_max(rig.m));
    small = malloc(len);
    for (size_t cap = 0; cap < len; cap++) {
        state_save_init(&io, small, cap);
        ck_assert(machine_xfer(rig.m, &io) != 0 || state_save_finish(&io) == 0);
    }
    ck_assert_uint_eq(rig_save(&rig, &again), len); /* failed saves change nothing */
    ck_assert_mem_eq(state, again, len);
    for (size_t cut = 0; cut + 20 < len; cut += 3) {
        ck_assert_int_eq(rig_load(&rig, state, cut, &io), -EBADMSG);
    }
    free(state);
    free(again);
    free(small);
}
END_TEST

START_TEST(other_configurations)
{
    uint8_t *state;
    size_t len = rig_save(&rig, &state);
    struct machine_conf base = rig.conf;
    struct state_io io;

    for (unsigned i = 0; i < 7; i++) {
        static const char *const field[] = {"ram_len",  "devices", "devices", "sectors",
                                            "features", "mac",     NULL};
        struct machine_conf conf = base;

        conf.ram_len += i == 0;
        conf.disk_count += i == 1;
        conf.nic_count -= i == 2;
        conf.disk[0].sectors += i == 3;
        conf.disk[0].read_only = i == 4;
        conf.nic[0].mac[5] ^= i == 5;
        rig_free(&rig);
        rig_init(&rig, &conf);
        ck_assert_int_eq(rig_load(&rig, state, len, &io), i == 6 ? 0 : -EBADMSG);
        if (i < 6) {
            ck_assert_int_eq(io.error, STATE_BAD_VALUE);
            ck_assert_str_eq(io.refused_field, field[i]);
        }
    }
    free(state);
}
END_TEST

START_TEST(timer_status_travels)
{
    uint8_t *state;
    size_t len;
    struct state_io io;

    rig.now_ns = 3000 * NSEC_PER_SEC; /* the timer's top bit has changed several times */
    ck_assert_uint_eq(rig_in(&rig, 0x600, 2), 1);
    rig_out(&rig, 0x600, 2, 1);
    len = rig_save(&rig, &state);
    rig_renew(&rig);
    ck_assert_int_eq(rig_load(&rig, state, len, &io), 0);
    ck_assert_uint_eq(rig_in(&rig, 0x600, 2), 0); /* told once, also across hosts */
    free(state);
}
END_TEST

START_TEST(command_line_travels)
{
    uint8_t *state, buf[64];
    size_t len = rig_save(&rig, &state);
    struct machine_conf conf = rig.conf;
    struct state_io io;

    conf.cmdline = "edited since";
    rig_free(&rig);
    rig_init(&rig, &conf);
    ck_assert_int_eq(rig_load(&rig, state, len, &io), 0);
    ck_assert_uint_eq(fw_file(FWCFG_FILE_CMDLINE, buf), 11);
    ck_assert_mem_eq(buf, "console=rig", 11);
    free(state);
}
END_TEST

/* A twin's ops in place of those that reach the outside, and back. */
static size_t aside;

static void serial_aside(void *ctx, const uint8_t *bytes, uint32_t len)
{
    (void)ctx;
    (void)bytes;
    aside += len;
}

START_TEST(other_ops_and_back)
{
    struct machine_ops other = *rig_ops;

    other.serial_out = serial_aside;
    aside = 0;
    machine_set_ops(rig.m, &other);
    rig_out(&rig, 0x3F8, 1, 'x');
    ck_assert_uint_eq(aside, 1);
    ck_assert_uint_eq(rig.serial_len, 0);
    machine_set_ops(rig.m, rig_ops);
    rig_out(&rig, 0x3F8, 1, 'y');
    ck_assert_uint_eq(aside, 1);
    ck_assert_uint_eq(rig.serial_len, 1);
    ck_assert_uint_eq(rig.serial[0], 'y');
}
END_TEST

static Suite *machine_suite(void)
{
    Suite *suite = suite_create("machine");
    TCase *tc = tcase_create("machine");

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, nobody_answers);
    tcase_add_test(tc, wide_accesses_reach_every_byte);
    tcase_add_test(tc, interrupt_lines);
    tcase_add_test(tc, shared_line);
    tcase_add_test(tc, power_management);
    tcase_add_test(tc, reset_ports);
    tcase_add_test(tc, fw_cfg);
    tcase_add_test(tc, refused_configurations);
    tcase_add_test(tc, the_door);
    tcase_add_test(tc, clocks_come_through_the_door);
    tcase_add_test(tc, reset_keeps_and_clears);
    tcase_add_test(tc, every_byte_damaged);
    tcase_add_test(tc, every_prefix_and_every_small_buffer);
    tcase_add_test(tc, other_configurations);
    tcase_add_test(tc, timer_status_travels);
    tcase_add_test(tc, command_line_travels);
    tcase_add_test(tc, other_ops_and_back);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(machine_suite)
