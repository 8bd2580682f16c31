/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: each request type, framing, limits, order of overlapping requests, resets
 * with I/O under way, flush rules. */
#include "tests/unit/vmm/machine_rig.h"

#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/dev_vblk.h"

#define T_IN      0
#define T_OUT     1
#define T_FLUSH   4
#define T_GET_ID  8
#define T_DISCARD 11
#define T_ZEROES  13
#define F_MQ      (1u << 12)
#define F_DISCARD (1u << 13)
#define F_ZEROES  (1u << 14)
#define F_FLUSH   (1u << 9)
#define HEADERS   0x4000
#define STATUS    0x4800
#define DATA      0x8000

static struct rig rig;
static struct rig_ring ring;

static void start(uint64_t features, unsigned queue_size)
{
    rig.queue_size = queue_size;
    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1 | features, &ring, 1, 0x1000);
}

static void setup(void)
{
    rig_init(&rig, NULL);
    start(F_FLUSH, 128);
}

static void teardown(void)
{
    rig_free(&rig);
}

static uint64_t data_addr(unsigned n)
{
    return DATA + n % 16 * 0x800;
}

/* Request n in three descriptors from 3n on. */
static void request(unsigned n, uint32_t type, uint64_t sector, uint32_t len)
{
    uint64_t header[2] = {type, sector};
    uint16_t d = (uint16_t)(n % 42 * 3);
    uint8_t status = 0xEE;

    gmem_write(&rig.gm, (struct gpa){HEADERS + n % 42 * 16}, header, sizeof header);
    gmem_write(&rig.gm, (struct gpa){STATUS + n % 42}, &status, 1);
    rig_desc(&rig, &ring, d, HEADERS + n % 42 * 16, 16, 1, len > 0 ? d + 1 : d + 2);
    rig_desc(&rig, &ring, d + 1u, data_addr(n), len, type == T_OUT ? 1 : 3, d + 2);
    rig_desc(&rig, &ring, d + 2u, STATUS + n % 42, 1, 2, 0);
    rig_offer(&rig, &ring, d);
    rig_notify(&rig, &ring);
}

static uint8_t status_of(unsigned n)
{
    return rig.ram[STATUS + n % 42];
}

static void expect_used(unsigned n, uint8_t status, uint32_t written)
{
    uint32_t id, len;

    ck_assert(rig_used(&rig, &ring, &id, &len));
    ck_assert_uint_eq(id, n % 42 * 3);
    ck_assert_uint_eq(len, written);
    ck_assert_uint_eq(status_of(n), status);
}

static bool is_broken(void)
{
    return (rig_vreg_in(&rig, 0, VMMIO_STATUS) & VIRTIO_STATUS_NEEDS_RESET) != 0;
}

START_TEST(reading)
{
    request(0, T_IN, 7, 1024);
    ck_assert_uint_eq(rig.pending_count, 1);
    ck_assert_int_eq(rig.pending[0].request.op, REQUEST_READ);
    ck_assert_uint_eq(rig.pending[0].request.sector, 7);
    ck_assert_uint_eq(rig.pending[0].request.len, 1024);
    ck_assert_uint_eq(machine_io_in_flight(rig.m), 1);
    ck_assert_uint_eq(rig.ram[DATA],
                      0); /* guest memory is touched by the completion only */
    rig.dirty[0] = 0;
    rig_blk_done(&rig, 0, 0);
    expect_used(0, 0, 1025);
    ck_assert_uint_eq(rig.ram[DATA], 7);
    ck_assert_uint_eq(rig.ram[DATA + 512], 8);
    ck_assert_uint_ne(rig.dirty[0] & 1u << (DATA >> 12), 0);
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, VMMIO_INTERRUPT_STATUS), VIRTIO_IRQ_USED);
    request(1, T_IN, 3, 512);
    rig.ram[data_addr(1)] = 0x77;
    rig_blk_done(&rig, 0, 5);
    expect_used(1, 1, 1);
    ck_assert_uint_eq(rig.ram[data_addr(1)], 0x77);
}
END_TEST

START_TEST(writing)
{
    memset(rig.ram + DATA, 0x42, 1024);
    request(0, T_OUT, 9, 1024);
    memset(rig.ram + DATA, 0x43, 1024); /* copied at the notification */
    ck_assert_int_eq(rig.pending[0].request.op, REQUEST_WRITE);
    for (unsigned i = 0; i < 1024; i++) {
        ck_assert_uint_eq(rig.pending[0].request.data[i], 0x42);
    }
    rig_blk_done(&rig, 0, 0);
    expect_used(0, 0, 1);
    request(1, T_OUT, 9, 512);
    rig_blk_done(&rig, 0, 28);
    expect_used(1, 1, 1);
}
END_TEST

START_TEST(identity_and_unknown)
{
    request(0, T_GET_ID, 0, 20);
    expect_used(0, 0, 21);
    ck_assert_mem_eq(rig.ram + DATA, "rig-disk-0\0\0\0\0\0\0\0\0\0\0", 20);
    memset(rig.ram + data_addr(1), 0x55, 20);
    request(1, T_GET_ID, 0, 4);
    expect_used(1, 0, 5);
    ck_assert_mem_eq(rig.ram + data_addr(1), "rig-\x55", 5);
    for (uint32_t type = 2; type < 64; type++) {
        if (type != T_FLUSH && type != T_GET_ID) {
            request(type, type, 0, 512);
            expect_used(type, 2, 1);
        }
    }
    ck_assert_uint_eq(rig.submitted_count, 0);
}
END_TEST

START_TEST(ranges)
{
    static const struct {
        uint64_t sector;
        uint32_t len;
        bool ok;
    } c[] = {
        {0, 512, true},
        {RIG_SECTORS - 1, 512, true},
        {RIG_SECTORS - 1, 1024, false},
        {RIG_SECTORS, 512, false},
        {UINT64_MAX, 512, false},
        {UINT64_MAX - 1, 1024, false},
        {0, 511, false},
        {0, 0, false},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
        for (uint32_t type = T_IN; type <= T_OUT; type++) {
            unsigned n = i * 2 + type;

            request(n, type, c[i].sector, c[i].len);
            ck_assert_uint_eq(rig.pending_count, c[i].ok);
            if (c[i].ok) {
                rig_blk_done(&rig, 0, 0);
            }
            expect_used(n, c[i].ok ? 0 : 1, c[i].ok && type == T_IN ? c[i].len + 1 : 1);
        }
    }
    ck_assert(!is_broken());
}
END_TEST

START_TEST(read_only)
{
    struct machine_conf conf = rig.conf;

    conf.disk[0].read_only = true;
    rig_free(&rig);
    rig_init(&rig, &conf);
    ck_assert_uint_ne(rig_vreg_in(&rig, 0, VMMIO_DEVICE_FEATURES) & 1u << 5, 0);
    start(F_FLUSH, 128);
    request(0, T_OUT, 0, 512);
    expect_used(0, 1, 1);
    request(1, T_IN, 0, 512);
    ck_assert_uint_eq(rig.submitted_count, 1);
}
END_TEST

/* Header, data and status cut into pieces anywhere: only the bytes count (2.7.4.1). */
START_TEST(any_framing)
{
    for (unsigned cut = 1; cut < 16; cut++) {
        for (unsigned cut2 = 1; cut2 < 513; cut2 += 64) {
            uint64_t header[2] = {T_IN, 5};
            uint32_t id, len;

            memset(rig.ram + DATA, 0, 1024);
            gmem_write(&rig.gm, (struct gpa){HEADERS}, header, sizeof header);
            rig_desc(&rig, &ring, 0, HEADERS, cut, 1, 1);
            rig_desc(&rig, &ring, 1, HEADERS + cut, 16 - cut, 1, 2);
            rig_desc(&rig, &ring, 2, DATA, cut2, 3, 3);
            rig_desc(&rig, &ring, 3, DATA + cut2, 513 - cut2, 2,
                     0); /* status in the last byte */
            rig_offer(&rig, &ring, 0);
            rig_notify(&rig, &ring);
            rig_blk_done(&rig, 0, 0);
            ck_assert(rig_used(&rig, &ring, &id, &len));
            ck_assert_uint_eq(len, 513);
            for (unsigned i = 0; i < 512; i++) {
                ck_assert_uint_eq(rig.ram[DATA + i], 5);
            }
            ck_assert_uint_eq(rig.ram[DATA + 512], 0);
        }
    }
    for (unsigned cut = 1; cut < 520;
         cut += 13) { /* a write whose data begins with the header */
        uint64_t header[2] = {T_OUT, 5};
        uint32_t id, len;

        gmem_write(&rig.gm, (struct gpa){DATA}, header, sizeof header);
        memset(rig.ram + DATA + 16, 0x66, 512);
        rig_desc(&rig, &ring, 0, DATA, cut, 1, 1);
        rig_desc(&rig, &ring, 1, DATA + cut, 528 - cut, 1, 2);
        rig_desc(&rig, &ring, 2, STATUS, 1, 2, 0);
        rig_offer(&rig, &ring, 0);
        rig_notify(&rig, &ring);
        ck_assert_uint_eq(rig.pending[0].request.len, 512);
        for (unsigned i = 0; i < 512; i++) {
            ck_assert_uint_eq(rig.pending[0].request.data[i], 0x66);
        }
        rig_blk_done(&rig, 0, 0);
        ck_assert(rig_used(&rig, &ring, &id, &len));
    }
}
END_TEST

START_TEST(unanswerable)
{
    static const struct {
        uint32_t header_len, status_len;
        uint16_t status_flags;
    } c[] = {{15, 1, 2}, {16, 1, 0}, {1, 1, 2}};

    for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
        start(F_FLUSH, 128);
        rig_desc(&rig, &ring, 0, HEADERS, c[i].header_len, 1, 1);
        rig_desc(&rig, &ring, 1, STATUS, c[i].status_len, c[i].status_flags, 0);
        rig_offer(&rig, &ring, 0);
        rig_notify(&rig, &ring);
        ck_assert(is_broken());
    }
    ck_assert_uint_eq(rig.submitted_count, 0);
}
END_TEST

START_TEST(too_many_segments)
{
    uint64_t header[2] = {T_IN, 0};
    uint32_t id, len;

    gmem_write(&rig.gm, (struct gpa){HEADERS}, header, sizeof header);
    rig_desc(&rig, &ring, 0, HEADERS, 16, 1, 1);
    for (uint16_t i = 1; i <= 64; i++) {
        rig_desc(&rig, &ring, i, DATA + i * 16u, 8, 3, i + 1);
    }
    rig_desc(&rig, &ring, 65, STATUS, 1, 2, 0);
    rig_offer(&rig, &ring, 0);
    rig_notify(&rig, &ring);
    ck_assert(rig_used(&rig, &ring, &id, &len));
    ck_assert_uint_eq(rig.ram[STATUS], 1);
    ck_assert_uint_eq(machine_io_in_flight(rig.m), 0);
}
END_TEST

START_TEST(overlapping_requests_wait)
{
    static const struct {
        uint32_t first, second;
        uint64_t sector;
        bool waits;
    } c[] = {
        {T_IN, T_IN, 10, false},   {T_IN, T_OUT, 10, true},  {T_OUT, T_IN, 10, true},
        {T_OUT, T_OUT, 10, true},  {T_OUT, T_OUT, 11, true}, {T_OUT, T_OUT, 9, true},
        {T_OUT, T_OUT, 12, false}, {T_OUT, T_IN, 8, false},  {T_OUT, T_FLUSH, 10, false},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
        unsigned n = 2 * i;

        request(n, c[i].first, 10, 1024);
        request(n + 1, c[i].second, c[i].sector, c[i].second == T_FLUSH ? 0 : 1024);
        ck_assert_uint_eq(rig.pending_count, c[i].waits ? 1 : 2);
        ck_assert_uint_eq(machine_io_in_flight(rig.m), 2);
        rig_blk_done(&rig, 0, 0);
        ck_assert_uint_eq(rig.pending_count, 1);
        rig_blk_done(&rig, 0, 0);
        expect_used(n, 0, c[i].first == T_IN ? 1025 : 1);
        expect_used(n + 1, 0, c[i].second == T_IN ? 1025 : 1);
    }
    /* In order of arrival, also behind one that waits itself. */
    for (unsigned n = 20; n < 26; n++) {
        memset(rig.ram + data_addr(n), (int)n, 512);
        request(n, T_OUT, 50, 512);
    }
    for (unsigned n = 20; n < 26; n++) {
        ck_assert_uint_eq(rig.pending_count, 1);
        ck_assert_uint_eq(rig.pending[0].request.data[0], n);
        rig_blk_done(&rig, 0, 0);
        expect_used(n, 0, 1);
    }
}
END_TEST

START_TEST(full_slots)
{
    for (unsigned n = 0; n < 40; n++) {
        request(n, T_IN, n, 512);
    }
    ck_assert_uint_eq(rig.pending_count, VBLK_SLOTS);
    ck_assert_uint_eq(machine_io_in_flight(rig.m), VBLK_SLOTS);
    for (unsigned n = 0; n < 40; n++) { /* each answer lets one in from the ring */
        rig_blk_done(&rig, 0, 0);
        expect_used(n, 0, 513);
    }
    ck_assert_uint_eq(machine_io_in_flight(rig.m), 0);
    ck_assert_uint_eq(rig.submitted_count, 40);
}
END_TEST

START_TEST(reset_with_requests_under_way)
{
    struct rig_request old;
    struct dev_input in = {.type = INPUT_BLK_DONE};

    request(0, T_OUT, 10, 512);
    request(1, T_OUT, 10, 512); /* waits */
    request(2, T_IN, 20, 512);
    ck_assert_uint_eq(rig.pending_count, 2);
    old = rig.pending[0];
    start(F_FLUSH, 128);
    ck_assert_uint_eq(machine_io_in_flight(rig.m), 2); /* the waiting one is gone */
    memset(rig.ram + data_addr(2), 0x99, 512);
    request(3, T_OUT, 10, 512); /* must not overtake the old write of the same sector */
    request(4, T_OUT, 30, 512);
    ck_assert_uint_eq(rig.pending_count, 3);
    ck_assert_uint_eq(rig.pending[2].request.sector, 30);
    rig_blk_done(&rig, 0, 0); /* the old write */
    ck_assert_uint_eq(rig.pending_count, 3);
    ck_assert_uint_eq(rig.pending[2].request.sector, 10);
    rig_blk_done(&rig, 0, 0); /* the old read: nothing goes to the guest */
    ck_assert_uint_eq(rig.ram[data_addr(2)], 0x99);
    rig_blk_done(&rig, 0, 0);
    expect_used(4, 0, 1);
    in.slot = old.request.slot; /* answered twice, and under an old name */
    in.generation = old.request.generation;
    machine_input(rig.m, machine_disk_dev(rig.m, 0), &in);
    in.slot = UINT32_MAX;
    machine_input(rig.m, machine_disk_dev(rig.m, 0), &in);
    ck_assert_uint_eq(machine_io_in_flight(rig.m), 1);
    rig_blk_done(&rig, 0, 0);
    expect_used(3, 0, 1);
    machine_reset(rig.m);
    ck_assert_uint_eq(machine_io_in_flight(rig.m), 0);
}
END_TEST

START_TEST(short_answers_are_errors)
{
    static uint8_t data[1024];
    struct dev_input in = {.type = INPUT_BLK_DONE, .data = data};

    for (uint32_t len = 0; len <= 1024; len += 256) {
        unsigned n = len / 256;

        request(n, T_IN, 0, 512);
        in.slot = rig.pending[0].request.slot;
        in.generation = rig.pending[0].request.generation;
        in.len = len;
        rig.pending_count = 0;
        machine_input(rig.m, machine_disk_dev(rig.m, 0), &in);
        expect_used(n, len == 512 ? 0 : 1, len == 512 ? 513 : 1);
    }
}
END_TEST

START_TEST(failed_flush_is_latched)
{
    request(0, T_FLUSH, 0, 0);
    ck_assert_int_eq(rig.pending[0].request.op, REQUEST_FLUSH);
    rig_blk_done(&rig, 0, 0);
    expect_used(0, 0, 1);
    request(1, T_FLUSH, 0, 0);
    request(2, T_FLUSH, 0, 0);
    rig_blk_done(&rig, 0, 5);
    rig_blk_done(&rig, 0, 0); /* the back end tells one caller only */
    expect_used(1, 1, 1);
    expect_used(2, 1, 1);
    request(3, T_FLUSH, 0, 0);
    expect_used(3, 1, 1);
    ck_assert_uint_eq(rig.pending_count,
                      0); /* asking again would clear the error below */
    request(4, T_OUT, 0, 512);
    rig_blk_done(&rig, 0, 0);
    expect_used(4, 0, 1);
    start(F_FLUSH, 128); /* no reset heals it */
    request(5, T_FLUSH, 0, 0);
    expect_used(5, 1, 1);
    machine_reset(rig.m);
    start(0, 128);
    request(6, T_OUT, 0, 512);
    rig_blk_done(&rig, 0, 0);
    expect_used(6, 1, 1); /* not durable: without F_FLUSH that is a failed write */
}
END_TEST

START_TEST(write_through_without_flush_feature)
{
    struct dev_input stale = {.type = INPUT_BLK_DONE};

    start(0, 128);
    request(0, T_OUT, 3, 512);
    stale.slot = rig.pending[0].request.slot;
    stale.generation = rig.pending[0].request.generation;
    rig_blk_done(&rig, 0, 0);
    ck_assert_uint_eq(rig.pending_count, 1);
    ck_assert_int_eq(rig.pending[0].request.op, REQUEST_FLUSH);
    ck_assert_uint_eq(status_of(0), 0xEE); /* not told yet */
    machine_input(rig.m, machine_disk_dev(rig.m, 0),
                  &stale); /* the write again is not the flush */
    ck_assert_uint_eq(status_of(0), 0xEE);
    rig_blk_done(&rig, 0, 0);
    expect_used(0, 0, 1);
    request(1, T_OUT, 3, 512);
    rig_blk_done(&rig, 0, 5); /* the write itself failed: no flush */
    expect_used(1, 1, 1);
    request(2, T_OUT, 3, 512);
    rig_blk_done(&rig, 0, 0);
    rig_blk_done(&rig, 0, 5);
    expect_used(2, 1, 1);
}
END_TEST

START_TEST(reissue_after_go_live)
{
    struct rig_request before[4];
    uint8_t *state;
    size_t len;
    struct state_io io;

    for (unsigned n = 0; n < 4; n++) {
        memset(rig.ram + data_addr(n), (int)n + 1, 512);
        request(n,
                n == 1   ? T_IN
                : n == 2 ? T_FLUSH
                         : T_OUT,
                n == 3 ? 0 : n, n == 2 ? 0 : 512);
    }
    ck_assert_uint_eq(rig.pending_count, 3); /* the last waits for the first */
    memcpy(before, rig.pending, sizeof before);
    for (unsigned moved = 0; moved < 2; moved++) {
        if (moved == 1) {
            len = rig_save(&rig, &state);
            rig_renew(&rig);
            ck_assert_int_eq(rig_load(&rig, state, len, &io), 0);
            free(state);
        }
        rig.pending_count = 0;
        machine_reissue(rig.m);
        ck_assert_uint_eq(rig.pending_count, 3);
        for (unsigned i = 0; i < 3; i++) {
            ck_assert_int_eq(rig.pending[i].request.op, before[i].request.op);
            ck_assert_uint_eq(rig.pending[i].request.slot, before[i].request.slot);
            ck_assert_uint_eq(rig.pending[i].request.generation,
                              before[i].request.generation);
            ck_assert_uint_eq(rig.pending[i].request.sector, before[i].request.sector);
        }
        ck_assert_uint_eq(rig.pending[0].request.data[511], 1);
    }
    for (unsigned n = 0; n < 3; n++) {
        rig_blk_done(&rig, 0, 0);
    }
    ck_assert_uint_eq(rig.pending_count, 1);
    ck_assert_uint_eq(rig.pending[0].request.data[0], 4);
    rig_blk_done(&rig, 0, 0);
    for (unsigned n = 0; n < 4; n++) {
        expect_used(n, 0, n == 1 ? 513 : 1);
    }
}
END_TEST

/* A twin that copied other bytes than its primary: after the repair it has the memory's,
 * and of what the primary told, the primary's. */
START_TEST(reissue_after_a_repair)
{
    static uint8_t told[512], wrong[512];
    struct blk_request rq = {.op = REQUEST_WRITE, .len = 512, .data = wrong};

    for (unsigned n = 0; n < 3; n++) {
        memset(rig.ram + data_addr(n), 0xbad >> 4, 512);
        request(n, T_OUT, n == 2 ? 0 : n, 512);
    }
    ck_assert_uint_eq(rig.pending_count, 2); /* the last waits for the first */
    for (unsigned n = 0; n < 3; n++) {
        memset(rig.ram + data_addr(n), (int)n + 1, 512);
    }
    memset(told, 0x77, sizeof told);
    memset(wrong, 0x66, sizeof wrong);
    machine_disks_forget(rig.m);
    rq.slot = rig.pending[1].request.slot;
    rq.sector = 7; /* not what it waits for */
    machine_disk_bytes(rig.m, 0, &rq);
    rq.slot = 2;
    rq.sector = 0; /* this one was not told: it waits itself */
    machine_disk_bytes(rig.m, 0, &rq);
    rq.slot = UINT32_MAX;
    machine_disk_bytes(rig.m, 0, &rq);
    machine_disk_bytes(rig.m, VM_DISKS_MAX, &rq);
    rq = rig.pending[1].request;
    rq.data = told;
    machine_disk_bytes(rig.m, 0, &rq);
    rig.pending_count = 0;
    machine_reissue(rig.m);
    ck_assert_uint_eq(rig.pending_count, 2);
    ck_assert_uint_eq(rig.pending[0].request.data[511], 1);
    ck_assert_uint_eq(rig.pending[1].request.data[511], 0x77);
    rig_blk_done(&rig, 0, 0);
    ck_assert_uint_eq(rig.pending[1].request.data[511], 3);
}
END_TEST

/* A write whose data begins in the middle of a segment is gathered again from there. */
START_TEST(reissue_with_framing)
{
    uint64_t header[2] = {T_OUT, 5};
    uint8_t *state;
    size_t len;
    struct state_io io;

    gmem_write(&rig.gm, (struct gpa){DATA}, header, sizeof header);
    for (unsigned i = 0; i < 512; i++) {
        rig.ram[DATA + 16 + i] = (uint8_t)i;
    }
    rig_desc(&rig, &ring, 0, DATA, 100, 1, 1);
    rig_desc(&rig, &ring, 1, DATA + 100, 428, 1, 2);
    rig_desc(&rig, &ring, 2, STATUS, 1, 2, 0);
    rig_offer(&rig, &ring, 0);
    rig_notify(&rig, &ring);
    len = rig_save(&rig, &state);
    rig_renew(&rig);
    ck_assert_int_eq(rig_load(&rig, state, len, &io), 0);
    free(state);
    rig.pending_count = 0;
    machine_reissue(rig.m);
    ck_assert_uint_eq(rig.pending_count, 1);
    for (unsigned i = 0; i < 512; i++) {
        ck_assert_uint_eq(rig.pending[0].request.data[i], (uint8_t)i);
    }
}
END_TEST

/* Machine standard ---------------------------------------------------------------- */

static struct rig_ring mq[VBLK_QUEUES_MAX];

static void start_standard(uint64_t features, unsigned queues)
{
    rig.queue_size = 8;
    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1 | features, mq, queues, 0x1000);
}

static void setup_standard(void)
{
    const struct machine_conf conf = {
        .type = MACHINE_STANDARD,
        .cpu_count = 3,
        .ram_len = RIG_RAM_LEN,
        .disk_count = 2,
        .disk = {{.sectors = RIG_SECTORS}, {.sectors = RIG_SECTORS, .read_only = true}},
    };

    rig_init(&rig, &conf);
    start_standard(F_FLUSH | F_MQ | F_DISCARD | F_ZEROES, 3);
}

/* A request of 3 descriptors in queue q; its status lies at STATUS + q. */
static void request_on(unsigned q, uint32_t type, uint64_t sector, uint32_t len)
{
    uint64_t header[2] = {type, sector};
    bool reads = type == T_IN;

    memcpy(rig.ram + HEADERS + q * 16, header, sizeof header);
    rig.ram[STATUS + q] = 0xEE;
    rig_desc(&rig, &mq[q], 0, HEADERS + q * 16, 16, 1, 1);
    rig_desc(&rig, &mq[q], 1, data_addr(q), len, reads ? 3 : 1, 2);
    rig_desc(&rig, &mq[q], 2, STATUS + q, 1, 2, 0);
    rig_offer(&rig, &mq[q], 0);
    rig_notify(&rig, &mq[q]);
}

static void range_on(unsigned q, uint32_t type, uint64_t sector, uint32_t count,
                     uint32_t flags)
{
    uint32_t words[2] = {count, flags};

    memcpy(rig.ram + data_addr(q), &sector, 8);
    memcpy(rig.ram + data_addr(q) + 8, words, 8);
    request_on(q, type, 0, 16);
}

static void expect_on(unsigned q, uint8_t status)
{
    uint32_t id, len;

    ck_assert(rig_used(&rig, &mq[q], &id, &len));
    ck_assert_uint_eq(rig.ram[STATUS + q], status);
}

START_TEST(standard_configuration)
{
    static const uint32_t want[] = {RIG_SECTORS,
                                    0,
                                    VBLK_SEG_SIZE,
                                    VBLK_SEG_MAX,
                                    0,
                                    512,
                                    0,
                                    0,
                                    3u << 16,
                                    131072,
                                    1,
                                    8,
                                    131072,
                                    1,
                                    1,
                                    0,
                                    0};

    for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
        rig_vreg_out(&rig, 0, 0x100 + 4 * i, UINT32_MAX);
        ck_assert_uint_eq(rig_vreg_in(&rig, 0, 0x100 + 4 * i), want[i]);
    }
    for (unsigned q = 0; q < 10; q++) {
        rig_vreg_out(&rig, 0, VMMIO_QUEUE_SEL, q);
        ck_assert_uint_eq(rig_vreg_in(&rig, 0, VMMIO_QUEUE_NUM_MAX), q < 3 ? 128 : 0);
    }
    rig_vreg_out(&rig, 1, VMMIO_DEVICE_FEATURES_SEL, 0); /* read-only: nothing to free */
    ck_assert_uint_eq(rig_vreg_in(&rig, 1, VMMIO_DEVICE_FEATURES) & 7u << 12, F_MQ);
}
END_TEST

START_TEST(queues_share_the_order)
{
    request_on(2, T_OUT, 4, 1024);
    request_on(0, T_IN, 5, 512); /* waits for the write, whatever queue it came by */
    request_on(1, T_IN, 9, 512);
    ck_assert_uint_eq(rig.pending_count, 2);
    rig_blk_done(&rig, 1, 0);
    expect_on(1, 0);
    ck_assert_uint_eq(rig.pending_count, 1);
    rig_blk_done(&rig, 0, 0);
    expect_on(2, 0);
    ck_assert_uint_eq(rig.pending_count, 1);
    rig_blk_done(&rig, 0, 0);
    expect_on(0, 0);
}
END_TEST

START_TEST(ranges_of_discard_and_zeroes)
{
    static const struct {
        uint32_t type;
        uint64_t sector;
        uint32_t count, flags;
        int status; /* -1: goes to the back end */
    } want[] = {
        {T_DISCARD, 8, 16, 0, -1},
        {T_ZEROES, 8, 16, 0, -1},
        {T_ZEROES, 0, RIG_SECTORS, 1, -1},
        {T_DISCARD, 8, 16, 1, 2}, /* flags that are reserved */
        {T_DISCARD, 8, 16, 0x80000000, 2},
        {T_ZEROES, 8, 16, 2, 2},
        {T_DISCARD, 8, 0, 0, 1},
        {T_DISCARD, RIG_SECTORS, 1, 0, 1},
        {T_DISCARD, RIG_SECTORS - 1, 2, 0, 1},
        {T_ZEROES, UINT64_MAX, 2, 0, 1},
        {T_ZEROES, 0, UINT32_MAX, 0, 1},
        {T_ZEROES, 0, 0x00800000, 0, 1}, /* bytes that wrap to 0 in 32 bits */
    };

    range_on(1, want[_i].type, want[_i].sector, want[_i].count, want[_i].flags);
    if (want[_i].status >= 0) {
        ck_assert_uint_eq(rig.pending_count, 0);
        expect_on(1, (uint8_t)want[_i].status);
        return;
    }
    ck_assert_uint_eq(rig.pending_count, 1);
    ck_assert_int_eq(rig.pending[0].request.op,
                     want[_i].type == T_DISCARD ? REQUEST_DISCARD : REQUEST_WRITE_ZEROES);
    ck_assert_uint_eq(rig.pending[0].request.sector, want[_i].sector);
    ck_assert_uint_eq(rig.pending[0].request.len, want[_i].count * 512);
    request_on(0, T_IN, want[_i].sector, 512); /* overlaps */
    ck_assert_uint_eq(rig.pending_count, 1);
    rig_blk_done(&rig, 0, 0);
    expect_on(1, 0);
    ck_assert_uint_eq(rig.pending_count, 1);
}
END_TEST

START_TEST(zeroes_that_the_disk_cannot)
{
    range_on(0, T_ZEROES, 0, 8, 0);
    rig_blk_done(&rig, 0, 95); /* EOPNOTSUPP: the driver writes them */
    expect_on(0, 2);
    range_on(0, T_ZEROES, 0, 8, 0);
    rig_blk_done(&rig, 0, 5);
    expect_on(0, 1);
    request_on(0, T_DISCARD, 0, 32); /* two ranges: max_discard_seg is 1 */
    expect_on(0, 1);
    start_standard(F_FLUSH, 1);
    range_on(0, T_ZEROES, 0, 8, 0); /* not negotiated */
    expect_on(0, 2);
}
END_TEST

START_TEST(zeroes_without_flush_feature)
{
    start_standard(F_ZEROES, 1);
    range_on(0, T_ZEROES, 0, 8, 0);
    rig_blk_done(&rig, 0, 0);
    ck_assert_uint_eq(rig.pending_count, 1);
    ck_assert_int_eq(rig.pending[0].request.op, REQUEST_FLUSH);
    rig_blk_done(&rig, 0, 0);
    expect_on(0, 0);
}
END_TEST

START_TEST(standard_save_load_save)
{
    uint8_t *first, *second;
    struct state_io io;
    size_t len;

    request_on(2, T_OUT, 4, 1024);
    range_on(1, T_DISCARD, 100, 8, 0);
    request_on(0, T_IN, 5, 512);
    len = rig_save(&rig, &first);
    rig_renew(&rig);
    ck_assert_int_eq(rig_load(&rig, first, len, &io), 0);
    ck_assert_uint_eq(rig_save(&rig, &second), len);
    ck_assert_mem_eq(first, second, len);
    rig.pending_count = 0;
    machine_reissue(rig.m);
    ck_assert_uint_eq(rig.pending_count, 2);
    rig_blk_done(&rig, 0, 0);
    expect_on(2, 0);
    rig_blk_done(&rig, 0, 0);
    expect_on(1, 0);
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
        .disk_count = 1,
        .disk = {{.sectors = RIG_SECTORS, .bytes_per_s = 10240, .requests_per_s = 1000}},
    };

    rig_init(&rig, &conf);
    rig.queue_size = 128;
    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1 | F_FLUSH, &ring, 1, 0x1000);
    rig_clock(&rig, 1000 * MSEC);
}

START_TEST(limits_hold_requests_back)
{
    request(0, T_IN, 0, 1024); /* 100 ms worth */
    request(1, T_IN, 8, 1024); /* overdraws */
    request(2, T_IN, 16, 512);
    request(3, T_FLUSH, 0, 0); /* behind the one that waits */
    ck_assert_uint_eq(rig.pending_count, 2);
    rig_blk_done(&rig, 0, 0);
    rig_blk_done(&rig, 0, 0);
    ck_assert_uint_eq(rig.pending_count, 0);
    ck_assert_uint_eq(machine_next_wake_ns(rig.m), 1100 * MSEC);
    rig_clock(&rig, 1100 * MSEC - 1);
    ck_assert_uint_eq(rig.pending_count, 0);
    rig_clock(&rig, 1100 * MSEC);
    ck_assert_uint_eq(rig.pending_count, 1); /* overdraws again: 50 ms */
    ck_assert_uint_eq(machine_next_wake_ns(rig.m), 1150 * MSEC);
    rig_clock(&rig, 1150 * MSEC);
    ck_assert_uint_eq(rig.pending_count, 2);
    ck_assert_int_eq(rig.pending[1].request.op, REQUEST_FLUSH);
}
END_TEST

START_TEST(limits_survive_a_save)
{
    uint8_t *first, *second;
    struct state_io io;
    size_t len;

    for (unsigned i = 0; i < 3; i++) {
        request(i, T_IN, 8 * i, 1024);
    }
    ck_assert_uint_eq(rig.pending_count, 2);
    rig_blk_done(&rig, 0, 0);
    rig_blk_done(&rig, 0, 0);
    len = rig_save(&rig, &first);
    rig_renew(&rig);
    ck_assert_int_eq(rig_load(&rig, first, len, &io), 0);
    ck_assert_uint_eq(rig_save(&rig, &second), len);
    ck_assert_mem_eq(first, second, len);
    ck_assert_uint_eq(machine_next_wake_ns(rig.m), 1100 * MSEC);
    rig_clock(&rig, 1100 * MSEC);
    ck_assert_uint_eq(rig.pending_count, 1);
    rig_vreg_out(&rig, 0, VMMIO_STATUS, 0); /* what waits is forgotten */
    rig_blk_done(&rig, 0, 0);
    rig_clock(&rig, 5000 * MSEC);
    ck_assert_uint_eq(rig.pending_count, 0);
    free(first);
    free(second);
}
END_TEST

static Suite *vblk_suite(void)
{
    Suite *suite = suite_create("vblk");
    TCase *tc = tcase_create("vblk");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, reading);
    tcase_add_test(tc, writing);
    tcase_add_test(tc, identity_and_unknown);
    tcase_add_test(tc, ranges);
    tcase_add_test(tc, read_only);
    tcase_add_test(tc, any_framing);
    tcase_add_test(tc, unanswerable);
    tcase_add_test(tc, too_many_segments);
    tcase_add_test(tc, overlapping_requests_wait);
    tcase_add_test(tc, full_slots);
    tcase_add_test(tc, reset_with_requests_under_way);
    tcase_add_test(tc, short_answers_are_errors);
    tcase_add_test(tc, failed_flush_is_latched);
    tcase_add_test(tc, write_through_without_flush_feature);
    tcase_add_test(tc, reissue_after_go_live);
    tcase_add_test(tc, reissue_after_a_repair);
    tcase_add_test(tc, reissue_with_framing);
    suite_add_tcase(suite, tc);
    tc = tcase_create("limits");
    tcase_add_checked_fixture(tc, setup_limited, teardown);
    tcase_add_test(tc, limits_hold_requests_back);
    tcase_add_test(tc, limits_survive_a_save);
    suite_add_tcase(suite, tc);
    tc = tcase_create("standard");
    tcase_add_checked_fixture(tc, setup_standard, teardown);
    tcase_add_test(tc, standard_configuration);
    tcase_add_test(tc, queues_share_the_order);
    tcase_add_loop_test(tc, ranges_of_discard_and_zeroes, 0, 12);
    tcase_add_test(tc, zeroes_that_the_disk_cannot);
    tcase_add_test(tc, zeroes_without_flush_feature);
    tcase_add_test(tc, standard_save_load_save);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(vblk_suite)
