/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/blk_nbd against a server that does everything wrong: each request is answered
 * once, a lost connection is an error and never a success, and what a FLUSH said is
 * durable is durable. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/units.h"
#include "tests/unit/unit.h"
#include "tests/unit/vmm/nbd_rig.h"
#include "vmm/blk_kept.h"
#include "vmm/blk_nbd.h"

#define SECTORS (NBD_RIG_SIZE / 512)
#define DISK    2

static struct nbd_rig rig;
static struct blk_nbd *blk;
static struct vmm_error err;
static struct {
    unsigned count, errors;
    unsigned lost; /* writes that were answered well and are not durable */
    uint32_t status, len;
    uint8_t data[8192];
} got;

static void on_done(void *ctx, unsigned disk, const struct blk_request *request,
                    uint32_t status, const uint8_t *data, uint32_t len)
{
    (void)ctx;
    ck_assert_uint_eq(disk, DISK);
    got.count++;
    got.errors += status != 0;
    got.lost +=
        status == 0 && request->op == REQUEST_WRITE &&
        memcmp(rig.durable + request->sector * 512, request->data, request->len) != 0;
    got.status = status;
    got.len = len;
    if (data && len <= sizeof got.data) {
        memcpy(got.data, data, len);
    }
}

static void wait_all(void)
{
    for (int i = 0; i < 200 && blk_nbd_in_flight(blk) > 0; i++) {
        struct pollfd p = {.fd = blk_nbd_poll_fd(blk), .events = POLLIN};

        blk_nbd_push(blk);
        if (!blk_nbd_reapable(blk) && !blk_nbd_unpushed(blk)) {
            (void)poll(&p, 1, 1000);
        }
        (void)blk_nbd_reap(blk, on_done, NULL);
    }
    ck_assert_uint_eq(blk_nbd_in_flight(blk), 0);
}

static void submit(enum request_op op, uint64_t sector, uint32_t len, const uint8_t *data)
{
    blk_nbd_submit(
        blk, DISK,
        &(struct blk_request){.op = op, .sector = sector, .len = len, .data = data});
}

static uint32_t ask(enum request_op op, uint64_t sector, uint32_t len,
                    const uint8_t *data)
{
    memset(&got, 0, sizeof got);
    submit(op, sector, len, data);
    wait_all();
    ck_assert_uint_eq(got.count, 1);
    return got.status;
}

static uint32_t write_one(uint64_t sector, uint8_t byte)
{
    uint8_t sector_bytes[512];

    memset(sector_bytes, byte, sizeof sector_bytes);
    return ask(REQUEST_WRITE, sector, sizeof sector_bytes, sector_bytes);
}

static int take(bool read_only, bool keep)
{
    static struct blk_nbd_disk_conf conf;

    conf = (struct blk_nbd_disk_conf){.name = "nbd://test/x",
                                      .export_name = "x",
                                      .read_only = read_only,
                                      .keep = keep,
                                      .sectors = SECTORS};
    return blk_nbd_take(blk, DISK, nbd_rig_start(&rig), &conf, &err);
}

static int take_epoch(struct nbd_rig *of, uint64_t epoch)
{
    static struct blk_nbd_disk_conf conf;

    conf = (struct blk_nbd_disk_conf){.name = "nbd://test/x",
                                      .export_name = "x",
                                      .keep = true,
                                      .by_epoch = true,
                                      .epoch = epoch,
                                      .sectors = SECTORS};
    return blk_nbd_take(blk, DISK, nbd_rig_start(of), &conf, &err);
}

static void setup(void)
{
    nbd_rig_init(&rig);
    err.text[0] = '\0';
    ck_assert_msg(blk_nbd_open(&blk, &err) == 0, "%s", err.text);
}

static void teardown(void)
{
    blk_nbd_close(blk);
    nbd_rig_stop(&rig);
    nbd_rig_free(&rig);
}

static void good_take(bool keep)
{
    ck_assert_msg(take(false, keep) == 0, "%s", err.text);
    ck_assert_ptr_null(blk_nbd_lost(blk, DISK));
}

START_TEST(write_flush_read)
{
    uint8_t bytes[8192];

    good_take(false);
    for (unsigned i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 7);
    }
    ck_assert_uint_eq(ask(REQUEST_WRITE, 3, sizeof bytes, bytes), 0);
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), 0);
    ck_assert_mem_eq(rig.durable + 3 * 512, bytes, sizeof bytes);
    ck_assert_uint_eq(ask(REQUEST_READ, 3, sizeof bytes, NULL), 0);
    ck_assert_uint_eq(got.len, sizeof bytes);
    ck_assert_mem_eq(got.data, bytes, sizeof bytes);
    ck_assert_uint_eq(ask(REQUEST_WRITE_ZEROES, 4, 512, NULL), 0);
    ck_assert_uint_eq(ask(REQUEST_DISCARD, 5, 512, NULL), 0);
    ck_assert_uint_eq(ask(REQUEST_READ, 3, 2048, NULL), 0);
    ck_assert_mem_eq(got.data, bytes, 512);
    ck_assert_uint_eq(got.data[512] | got.data[1024], 0);
    ck_assert_mem_eq(got.data + 1536, bytes + 1536, 512);
}
END_TEST

START_TEST(what_the_guest_must_not_do)
{
    static const uint8_t zero[4096];

    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), ENXIO); /* no connection yet */
    good_take(false);
    ck_assert_uint_eq(ask(REQUEST_READ, SECTORS, 512, NULL), EINVAL);
    ck_assert_uint_eq(ask(REQUEST_WRITE, SECTORS - 1, 1024, zero), EINVAL);
    ck_assert_uint_eq(ask(REQUEST_WRITE, UINT64_MAX, 512, zero), EINVAL);
    ck_assert_uint_eq(ask(REQUEST_WRITE, UINT64_MAX / 512, 512, zero), EINVAL);
    ck_assert_uint_eq(ask(REQUEST_WRITE, 0, 100, zero), EINVAL);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 0, NULL), EINVAL);
    ck_assert_uint_eq(rig.count[NBD_RIG_WRITE] + rig.count[NBD_RIG_READ], 0);
}
END_TEST

START_TEST(large_requests_go_in_parts)
{
    static uint8_t bytes[128 * 1024];

    rig.block_min = 1;
    rig.block_max = 4096 + 100; /* not a multiple of a sector */
    good_take(true);
    memset(bytes, 0xA5, sizeof bytes);
    ck_assert_uint_eq(ask(REQUEST_WRITE, 8, sizeof bytes, bytes), 0);
    ck_assert_uint_eq(rig.count[NBD_RIG_WRITE], 32);
    ck_assert_uint_le(rig.longest, 4096);
    ck_assert_mem_eq(rig.cached + 8 * 512, bytes, sizeof bytes);
    ck_assert_uint_eq(ask(REQUEST_READ, 8, sizeof bytes, NULL), 0);
    ck_assert_uint_eq(got.len, sizeof bytes);
}
END_TEST

START_TEST(many_at_once)
{
    static uint8_t bytes[32][512];

    good_take(false);
    memset(&got, 0, sizeof got);
    for (unsigned i = 0; i < 32; i++) {
        memset(bytes[i], (int)i, 512);
        submit(REQUEST_WRITE, i, 512, bytes[i]);
    }
    ck_assert_uint_eq(blk_nbd_in_flight(blk), 32);
    wait_all();
    ck_assert_uint_eq(got.count, 32);
    ck_assert_uint_eq(got.errors, 0);
    ck_assert_mem_eq(rig.cached, bytes, sizeof bytes);
}
END_TEST

START_TEST(errors_of_the_server)
{
    rig.fault = NBD_RIG_ERROR;
    rig.fault_cmd = NBD_RIG_WRITE;
    rig.fault_at = 1;
    rig.error = 28; /* NBD_ENOSPC */
    good_take(true);
    ck_assert_uint_eq(write_one(0, 1), ENOSPC);
    ck_assert_uint_eq(write_one(0, 1), 0);
    ck_assert(!blk_nbd_flush_failed(blk));
    ck_assert_ptr_null(blk_nbd_lost(blk, DISK));
}
END_TEST

START_TEST(a_failed_flush_is_latched)
{
    rig.fault = NBD_RIG_ERROR;
    rig.fault_cmd = NBD_RIG_FLUSH;
    rig.fault_at = 1;
    rig.error = 5; /* NBD_EIO */
    good_take(true);
    ck_assert_uint_eq(write_one(0, 1), 0);
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), EIO);
    ck_assert(blk_nbd_flush_failed(blk));
    ck_assert(!blk_nbd_may_flush_again(blk, DISK));
    ck_assert(blk_nbd_latched(blk, DISK) && !blk_nbd_latched(blk, DISK + 1));
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), EIO);
    ck_assert_uint_eq(write_one(0, 1), EIO);
    ck_assert_uint_eq(rig.count[NBD_RIG_FLUSH], 1); /* never asked again */
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), 0);
    /* Nor does a new connection make it good. */
    nbd_rig_stop(&rig);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), EIO);
    good_take(true);
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), EIO);
}
END_TEST

/* The server dies with a FLUSH under way, and forgets what it was not told to flush. */
static void die_in_flush(bool keep)
{
    rig.fault = NBD_RIG_DIE;
    rig.fault_cmd = NBD_RIG_FLUSH;
    rig.fault_at = 2;
    good_take(keep);
    ck_assert_uint_eq(write_one(0, 0x11), 0);
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), 0);
    ck_assert_uint_eq(write_one(0, 0x21), 0);
    ck_assert_uint_eq(write_one(1, 0x22), 0);
    ck_assert_uint_eq(write_one(1, 0x23), 0);
    ck_assert_uint_eq(ask(REQUEST_WRITE_ZEROES, 2, 512, NULL), 0);
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), EIO);
    ck_assert_ptr_nonnull(blk_nbd_lost(blk, DISK));
    ck_assert_ptr_nonnull(strstr(blk_nbd_lost(blk, DISK), "connection lost: "));
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), EIO);
    ck_assert_uint_eq(rig.durable[0], 0x11);
    ck_assert_uint_eq(rig.durable[512], 0);
    nbd_rig_stop(&rig);
    rig.durable[1024] = 0x77; /* so that the zeroes show */
    rig.fault = NBD_RIG_NONE;
}

START_TEST(kept_writes_are_written_again)
{
    die_in_flush(true);
    ck_assert(!blk_nbd_flush_failed(blk));
    ck_assert(blk_nbd_may_flush_again(blk, DISK));
    good_take(true);
    ck_assert_uint_eq(rig.count[NBD_RIG_WRITE], 3);
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), 0);
    ck_assert_uint_eq(rig.durable[0], 0x21);
    ck_assert_uint_eq(rig.durable[512], 0x23);
    ck_assert_uint_eq(rig.durable[1024], 0);
    /* They are durable: the next one begins without them. */
    nbd_rig_stop(&rig);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), EIO);
    good_take(true);
    ck_assert_uint_eq(rig.count[NBD_RIG_WRITE], 0);
}
END_TEST

/* A DISCARD is advice: a server that does not know it is not asked, before and after. */
START_TEST(a_discard_is_not_sent_again_to_whom_does_not_know_it)
{
    rig.flags &= (uint16_t) ~(1u << 5); /* NBD_FLAG_SEND_TRIM */
    good_take(true);
    ck_assert_uint_eq(write_one(0, 1), 0);
    ck_assert_uint_eq(ask(REQUEST_DISCARD, 5, 512, NULL), 0);
    nbd_rig_stop(&rig);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), EIO);
    good_take(true);
    ck_assert_uint_eq(rig.count[NBD_RIG_WRITE], 1);
    nbd_rig_stop(&rig);
    rig.flags |= 1u << 5;
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), EIO);
    good_take(true);
    ck_assert_uint_eq(ask(REQUEST_DISCARD, 5, 512, NULL), 0);
    nbd_rig_stop(&rig);
    rig.flags &= (uint16_t) ~(1u << 5);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), EIO);
    good_take(true); /* another server, which does not know it */
}
END_TEST

START_TEST(a_flush_that_was_lost_has_failed_where_nothing_is_kept)
{
    die_in_flush(false);
    ck_assert(blk_nbd_flush_failed(blk));
    ck_assert(!blk_nbd_may_flush_again(blk, DISK));
    good_take(false);
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), EIO);
    ck_assert_uint_eq(write_one(0, 1), EIO);
}
END_TEST

START_TEST(a_break_after_unflushed_writes_is_a_failed_flush)
{
    good_take(false);
    ck_assert_uint_eq(write_one(0, 1), 0);
    nbd_rig_stop(&rig);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), EIO);
    ck_assert(blk_nbd_flush_failed(blk));
    good_take(false);
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), EIO);
}
END_TEST

/* Fails with: blk_nbd_inherit that does nothing. */
START_TEST(what_was_inherited_is_flushed)
{
    good_take(true);
    blk_nbd_inherit(blk, DISK);
    memset(&got, 0, sizeof got);
    wait_all();
    ck_assert_uint_eq(got.count, 0); /* nobody asked but we */
    ck_assert_uint_eq(rig.count[NBD_RIG_FLUSH], 1);
    /* From here on a break is one as ever. */
    nbd_rig_stop(&rig);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), EIO);
    ck_assert(!blk_nbd_flush_failed(blk));
    good_take(true);
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), 0);
}
END_TEST

/* Through: durable when it is answered
 * -------------------------------------------------------- */

static uint8_t block[32][512];

static void submit_through(unsigned count)
{
    memset(&got, 0, sizeof got);
    for (unsigned i = 0; i < count; i++) {
        memset(block[i], (int)(0x40 + i), sizeof block[i]);
        blk_nbd_submit(blk, DISK,
                       &(struct blk_request){.op = REQUEST_WRITE,
                                             .sector = i,
                                             .len = sizeof block[i],
                                             .data = block[i],
                                             .through = true});
    }
}

#define FUA (1u << 3) /* NBD_FLAG_SEND_FUA */

/* Fails with: `through` that is not heeded; with writes of FUA that are kept. */
START_TEST(writes_go_through_by_themselves)
{
    good_take(true);
    submit_through(32);
    wait_all();
    ck_assert_uint_eq(got.count, 32);
    ck_assert_uint_eq(got.errors + got.lost, 0);
    ck_assert_uint_eq(rig.fua, 32);
    ck_assert_uint_eq(rig.count[NBD_RIG_FLUSH], 0);
    /* Nothing of it is to be written again, or flushed. */
    blk_nbd_sync(blk);
    ck_assert_uint_eq(blk_nbd_in_flight(blk), 0);
    nbd_rig_stop(&rig);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), EIO);
    ck_assert(!blk_nbd_flush_failed(blk));
    good_take(true);
    ck_assert_uint_eq(rig.count[NBD_RIG_WRITE], 0);
}
END_TEST

/* Fails with: a write that is answered before its FLUSH; one FLUSH for each. */
START_TEST(several_share_a_flush)
{
    rig.flags &= (uint16_t)~FUA;
    good_take(true);
    submit_through(32);
    wait_all();
    ck_assert_uint_eq(got.count, 32);
    ck_assert_uint_eq(got.errors + got.lost, 0);
    ck_assert_uint_ge(rig.count[NBD_RIG_FLUSH], 1);
    ck_assert_uint_le(rig.count[NBD_RIG_FLUSH], 16);
    ck_assert_uint_eq(rig.fua, 0);
    submit_through(1);
    wait_all();
    ck_assert_uint_eq(got.count, 1);
    ck_assert_uint_eq(got.errors + got.lost, 0);
}
END_TEST

START_TEST(parts_of_a_write_go_through_alike)
{
    static uint8_t bytes[64 * 1024];

    rig.flags &= _i == 0 ? UINT16_MAX : (uint16_t)~FUA;
    rig.block_min = 1;
    rig.block_max = 4096;
    memset(bytes, 0x77, sizeof bytes);
    good_take(true);
    memset(&got, 0, sizeof got);
    blk_nbd_submit(
        blk, DISK,
        &(struct blk_request){
            .op = REQUEST_WRITE, .len = sizeof bytes, .data = bytes, .through = true});
    wait_all();
    ck_assert_uint_eq(got.count, 1);
    ck_assert_uint_eq(got.errors + got.lost, 0);
    ck_assert_uint_eq(rig.fua, _i == 0 ? 16 : 0);
    ck_assert_uint_eq(rig.count[NBD_RIG_FLUSH], _i == 0 ? 0 : 1);
}
END_TEST

/* Fails with: FUA although something older is kept, which is written again. */
START_TEST(nothing_older_is_written_over_it)
{
    good_take(true);
    ck_assert_uint_eq(ask(REQUEST_DISCARD, 0, 512, NULL), 0);
    submit_through(1);
    wait_all();
    ck_assert_uint_eq(got.errors + got.lost, 0);
    ck_assert_uint_eq(rig.count[NBD_RIG_FLUSH], 1);
    nbd_rig_stop(&rig);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), EIO);
    good_take(true);
    ck_assert_uint_eq(rig.count[NBD_RIG_TRIM], 0);
    ck_assert_uint_eq(rig.cached[0], 0x40);
    submit_through(1);
    wait_all();
    ck_assert_uint_eq(rig.fua, 1); /* from here on nothing is */
}
END_TEST

/* The server dies with the FLUSH that they wait for: they failed, and can be tried again.
 */
START_TEST(a_flush_that_breaks_fails_those_that_wait)
{
    rig.flags &= (uint16_t)~FUA;
    rig.fault = NBD_RIG_DIE;
    rig.fault_cmd = NBD_RIG_FLUSH;
    rig.fault_at = 1;
    good_take(true);
    submit_through(4);
    wait_all();
    ck_assert_uint_eq(got.count, 4);
    ck_assert_uint_eq(got.errors, 4);
    ck_assert(!blk_nbd_latched(blk, DISK));
    nbd_rig_stop(&rig);
    rig.fault = NBD_RIG_NONE;
    good_take(true);
    submit_through(4);
    wait_all();
    ck_assert_uint_eq(got.count, 4);
    ck_assert_uint_eq(got.errors + got.lost, 0);
}
END_TEST

START_TEST(a_flush_that_fails_fails_those_that_wait_for_good)
{
    rig.flags &= (uint16_t)~FUA;
    rig.fault = NBD_RIG_ERROR;
    rig.fault_cmd = NBD_RIG_FLUSH;
    rig.fault_at = 1;
    rig.error = 5; /* NBD_EIO */
    good_take(true);
    submit_through(4);
    wait_all();
    ck_assert_uint_eq(got.count, 4);
    ck_assert_uint_eq(got.errors, 4);
    ck_assert(blk_nbd_latched(blk, DISK));
}
END_TEST

static const enum nbd_rig_fault inherited[] = {NBD_RIG_DIE, NBD_RIG_ERROR};

/* The server dies with, or refuses, the first FLUSH: a later one is not answered well. */
START_TEST(what_was_inherited_and_lost_is_a_failed_flush)
{
    rig.fault = inherited[_i];
    rig.fault_cmd = NBD_RIG_FLUSH;
    rig.fault_at = 1;
    rig.error = 5; /* NBD_EIO */
    good_take(true);
    blk_nbd_inherit(blk, DISK);
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), EIO);
    ck_assert(blk_nbd_latched(blk, DISK) && !blk_nbd_may_flush_again(blk, DISK));
    nbd_rig_stop(&rig);
    rig.fault = NBD_RIG_NONE;
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), EIO);
    good_take(true);
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), EIO);
}
END_TEST

START_TEST(what_is_kept_has_a_limit)
{
    static uint8_t bytes[128 * 1024];

    good_take(true);
    memset(bytes, 1, sizeof bytes);
    for (unsigned i = 0; i < BLK_KEPT_MAX / sizeof bytes + 8; i++) {
        ck_assert_uint_eq(ask(REQUEST_WRITE, 0, sizeof bytes, bytes), 0);
    }
    ck_assert_uint_ge(rig.count[NBD_RIG_FLUSH], 3); /* of our own, on the way */
    ck_assert_uint_le(rig.count[NBD_RIG_FLUSH], 6);
    ck_assert(!blk_nbd_flush_failed(blk));
}
END_TEST

START_TEST(a_limit_that_is_passed_is_a_failed_flush)
{
    static uint8_t bytes[128 * 1024];
    struct blk_kept kept = {.on = true};
    struct blk_request rq = {.op = REQUEST_WRITE, .len = sizeof bytes, .data = bytes};

    for (unsigned i = 0; i < BLK_KEPT_MAX / sizeof bytes - 1; i++) {
        blk_kept_add(&kept, &rq);
        ck_assert(!blk_kept_missing(&kept));
    }
    blk_kept_add(&kept, &rq);
    blk_kept_add(&kept, &rq);
    ck_assert(blk_kept_missing(&kept));
    blk_kept_flushed(&kept, kept.seq - 1);
    ck_assert(blk_kept_missing(&kept));
    blk_kept_flushed(&kept, kept.seq);
    ck_assert(!blk_kept_missing(&kept) && !blk_kept_unflushed(&kept));
    ck_assert_ptr_null(kept.head);
    ck_assert_uint_eq(kept.bytes, 0);
    blk_kept_free(&kept);
    good_take(true);
}
END_TEST

START_TEST(sync_flushes_what_was_answered)
{
    good_take(false);
    blk_nbd_sync(blk);
    ck_assert_uint_eq(blk_nbd_in_flight(blk), 0); /* nothing to do */
    ck_assert_uint_eq(write_one(9, 0x42), 0);
    got.count = 0;
    blk_nbd_sync(blk);
    ck_assert_uint_eq(blk_nbd_in_flight(blk), 1);
    wait_all();
    ck_assert_uint_eq(got.count, 0); /* nobody asked for it */
    ck_assert_uint_eq(rig.durable[9 * 512], 0x42);
}
END_TEST

static const enum nbd_rig_fault broken[] = {NBD_RIG_DIE, NBD_RIG_BAD_MAGIC,
                                            NBD_RIG_BAD_COOKIE, NBD_RIG_SHORT};

/* Whatever is under way is answered with an error, once, and the memory of a read is
 * nobody's but libnbd's until then (AddressSanitizer looks). */
START_TEST(broken_replies)
{
    static uint8_t bytes[4][4096];

    rig.fault = broken[_i];
    rig.fault_cmd = NBD_RIG_READ;
    rig.fault_at = 2;
    good_take(true);
    memset(&got, 0, sizeof got);
    submit(REQUEST_WRITE, 0, 4096, bytes[0]);
    for (unsigned i = 0; i < 8; i++) {
        submit(REQUEST_READ, 8 * i, 4096, NULL);
    }
    wait_all();
    ck_assert_uint_eq(got.count, 9);
    ck_assert_uint_ge(got.errors, 7);
    ck_assert_uint_eq(got.status, EIO);
    ck_assert_ptr_nonnull(blk_nbd_lost(blk, DISK));
}
END_TEST

START_TEST(lost_while_idle)
{
    struct pollfd p = {.fd = blk_nbd_poll_fd(blk), .events = POLLIN};

    good_take(true);
    nbd_rig_stop(&rig);
    ck_assert_int_eq(poll(&p, 1, 5000), 1);
    (void)blk_nbd_reap(blk, on_done, NULL);
    ck_assert_ptr_nonnull(blk_nbd_lost(blk, DISK));
    ck_assert_int_eq(poll(&p, 1, 0), 0); /* and it is quiet then */
    good_take(true);
    ck_assert_uint_eq(write_one(1, 1), 0);
}
END_TEST

static const struct {
    uint64_t size;
    uint16_t flags;
    uint32_t block_min;
    const char *text;
} refused[] = {
    {NBD_RIG_SIZE, 1 | 1 << 1 | 1 << 2, 0, "exports it read-only"},
    {NBD_RIG_SIZE, 1, 0, "offers no FLUSH"},
    {NBD_RIG_SIZE, 1 | 1 << 2, 1024, "at least 1024 bytes"},
    {NBD_RIG_SIZE - 512, 1 | 1 << 2, 0, "was resized: 2047 sectors, and 2048"},
    {1000, 1 | 1 << 2, 0, "has 1000 bytes"},
    {0, 1 | 1 << 2, 0, "has 0 bytes"},
};

START_TEST(refused_exports)
{
    rig.flags = refused[_i].flags;
    rig.block_min = refused[_i].block_min;
    rig.block_max = 1 << 20;
    rig.size = refused[_i].size;
    ck_assert_int_lt(take(false, false), 0);
    ck_assert_msg(strstr(err.text, refused[_i].text) != NULL, "%s", err.text);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), ENXIO);
}
END_TEST

START_TEST(read_only_needs_less)
{
    static const uint8_t zero[512];

    rig.flags = 1 | 1 << 1;
    ck_assert_msg(take(true, false) == 0, "%s", err.text);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), 0);
    ck_assert_uint_eq(ask(REQUEST_WRITE, 0, 512, zero), EROFS);
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), 0);
    ck_assert_uint_eq(rig.count[NBD_RIG_FLUSH], 0);
}
END_TEST

START_TEST(not_a_socket)
{
    struct blk_nbd_disk_conf conf = {.name = "d", .export_name = "", .sectors = SECTORS};

    good_take(false);
    ck_assert_int_eq(blk_nbd_take(blk, 0, open("/dev/null", O_RDWR), &conf, &err),
                     -ENOTSOCK);
    ck_assert_ptr_nonnull(strstr(err.text, "no socket"));
}
END_TEST

START_TEST(an_epoch_is_let_in)
{
    rig.tells_epoch = true;
    rig.highest = 5;
    ck_assert_msg(take_epoch(&rig, 5) == 0, "%s", err.text);
    ck_assert_uint_eq(write_one(1, 1), 0);
    ck_assert(!blk_nbd_outdated(blk, DISK, 5) && blk_nbd_outdated(blk, DISK, 6));
}
END_TEST

static const struct {
    bool tells, refuses;
    uint64_t highest, epoch;
    int error;
    const char *text;
} epochs[] = {
    {true, false, 7, 5, -ESHUTDOWN, "a later owner (epoch 7, ours is 5)"},
    {true, true, 5, 5, -EAGAIN, "did not let epoch 5 in"},
    {true, true, 0, 5, -EAGAIN, "did not let epoch 5 in"},
    {false, true, 7, 5, -EAGAIN, "did not let epoch 5 in"},
    {false, false, 0, 5, -EPROTO, "does not know epochs"},
    {true, false, 0, 0, -EINVAL, "needs the epoch of a claim"},
};

START_TEST(refused_epochs)
{
    rig.tells_epoch = epochs[_i].tells;
    rig.refuses = epochs[_i].refuses;
    rig.highest = epochs[_i].highest;
    ck_assert_int_eq(take_epoch(&rig, epochs[_i].epoch), epochs[_i].error);
    ck_assert_msg(strstr(err.text, epochs[_i].text) != NULL, "%s", err.text);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), ENXIO);
}
END_TEST

/* As nbdkit's file plugin with dir=: there is no file of that name. */
START_TEST(a_plain_server)
{
    rig.plain = true;
    ck_assert_int_eq(take_epoch(&rig, 5), -EPROTO);
    ck_assert_msg(strstr(err.text, "nbdkit --filter=gemel-epoch") != NULL, "%s",
                  err.text);
}
END_TEST

/* Fails with: a connection that ends with the first refusal. */
START_TEST(who_was_refused_asks_again)
{
    struct blk_nbd_disk_conf conf = {.name = "nbd://test/x",
                                     .export_name = "x",
                                     .by_epoch = true,
                                     .epoch = 5,
                                     .sectors = SECTORS};

    rig.tells_epoch = true;
    rig.refuses = true;
    rig.highest = 5;
    ck_assert_int_eq(take_epoch(&rig, 5), -EAGAIN);
    ck_assert(blk_nbd_asks_again(blk, DISK));
    ck_assert_int_eq(blk_nbd_take(blk, DISK, -1, &conf, &err), -EAGAIN);
    ck_assert(blk_nbd_asks_again(blk, DISK));
    rig.refuses = false;
    ck_assert_msg(blk_nbd_take(blk, DISK, -1, &conf, &err) == 0, "%s", err.text);
    ck_assert(!blk_nbd_asks_again(blk, DISK));
    ck_assert_uint_eq(write_one(1, 1), 0);
}
END_TEST

static bool stop_later(void *end_ns)
{
    return loop_now_ns() >= *(const uint64_t *)end_ns;
}

/* It is stopped after 0.3 s. */
static int take_and_stop(int fd, struct blk_nbd_disk_conf *conf)
{
    uint64_t since_ns = loop_now_ns(), end_ns = since_ns + 300 * NSEC_PER_MSEC;
    int r;

    conf->stop = stop_later;
    conf->stop_ctx = &end_ns;
    r = blk_nbd_take(blk, DISK, fd, conf, &err);
    conf->stop = NULL;
    ck_assert_uint_lt(loop_now_ns() - since_ns, 3 * NSEC_PER_SEC);
    return r;
}

/* No hello; the same with epochs; no answer to GO. Fails with: a wait that is not ended,
 * a question that is asked twice. */
START_TEST(a_wait_for_the_server_can_be_ended)
{
    struct blk_nbd_disk_conf conf = {.name = "nbd://test/x",
                                     .export_name = "x",
                                     .by_epoch = _i > 0,
                                     .epoch = 5,
                                     .sectors = SECTORS};

    rig.tells_epoch = true;
    rig.silent = _i < 2;
    rig.mute = _i == 2;
    ck_assert_int_eq(take_and_stop(nbd_rig_start(&rig), &conf), -EINTR);
    ck_assert(blk_nbd_asks_again(blk, DISK));
    ck_assert_int_eq(take_and_stop(-1, &conf), -EINTR);
    ck_assert(blk_nbd_asks_again(blk, DISK));
    rig.silent = rig.mute = false;
    ck_assert_msg(blk_nbd_take(blk, DISK, -1, &conf, &err) == 0, "%s", err.text);
    ck_assert(!blk_nbd_asks_again(blk, DISK));
    ck_assert_uint_le(rig.goes, 1);
    ck_assert_uint_eq(write_one(1, 1), 0);
}
END_TEST

/* What it was asked on behalf of one epoch is no answer for another. */
START_TEST(an_answer_for_an_older_epoch_is_none)
{
    struct blk_nbd_disk_conf conf = {.name = "nbd://test/x",
                                     .export_name = "x",
                                     .by_epoch = true,
                                     .epoch = 5,
                                     .sectors = SECTORS};

    rig.tells_epoch = true;
    rig.mute = true;
    ck_assert_int_eq(take_and_stop(nbd_rig_start(&rig), &conf), -EINTR);
    ck_assert_uint_eq(rig.goes, 1);
    rig.mute = false;
    conf.epoch = 6;
    ck_assert_int_eq(blk_nbd_take(blk, DISK, -1, &conf, &err), -ENOTCONN);
    ck_assert(!blk_nbd_asks_again(blk, DISK));
}
END_TEST

START_TEST(who_is_cut_off_has_lost_the_disk)
{
    rig.tells_epoch = true;
    ck_assert_msg(take_epoch(&rig, 5) == 0, "%s", err.text);
    ck_assert_uint_eq(write_one(1, 1), 0);
    rig.fault = NBD_RIG_ERROR;
    rig.fault_cmd = NBD_RIG_WRITE;
    rig.error = ESHUTDOWN;
    ck_assert_uint_eq(write_one(2, 2), EIO);
    ck_assert_ptr_nonnull(strstr(blk_nbd_lost(blk, DISK), "cut off by its server"));
    ck_assert(!blk_nbd_flush_failed(blk));
    nbd_rig_stop(&rig);
    rig.fault = NBD_RIG_NONE;
    rig.highest = 6;
    ck_assert_int_eq(take_epoch(&rig, 5), -ESHUTDOWN);
    nbd_rig_stop(&rig);
    ck_assert_msg(take_epoch(&rig, 6) == 0, "%s", err.text);
    ck_assert_uint_eq(rig.cached[512], 1); /* kept, and written again */
}
END_TEST

/* Back from where it was frozen, under a later claim: somebody may have been there. */
START_TEST(a_later_epoch_connects_anew)
{
    struct nbd_rig second;

    rig.tells_epoch = true;
    ck_assert_msg(take_epoch(&rig, 5) == 0, "%s", err.text);
    nbd_rig_init(&second);
    second.tells_epoch = true;
    ck_assert_msg(take_epoch(&second, 7) == 0, "%s", err.text);
    ck_assert_uint_eq(write_one(1, 1), 0);
    ck_assert_uint_eq(second.count[NBD_RIG_WRITE], 1);
    ck_assert_uint_eq(rig.count[NBD_RIG_WRITE], 0);
    nbd_rig_stop(&second);
    nbd_rig_free(&second);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("blk_nbd");
    TCase *t = tcase_create("blk_nbd");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, write_flush_read);
    tcase_add_test(t, what_the_guest_must_not_do);
    tcase_add_test(t, large_requests_go_in_parts);
    tcase_add_test(t, many_at_once);
    tcase_add_test(t, errors_of_the_server);
    tcase_add_test(t, a_failed_flush_is_latched);
    tcase_add_test(t, kept_writes_are_written_again);
    tcase_add_test(t, a_discard_is_not_sent_again_to_whom_does_not_know_it);
    tcase_add_test(t, a_flush_that_was_lost_has_failed_where_nothing_is_kept);
    tcase_add_test(t, a_break_after_unflushed_writes_is_a_failed_flush);
    tcase_add_test(t, what_was_inherited_is_flushed);
    tcase_add_test(t, writes_go_through_by_themselves);
    tcase_add_test(t, several_share_a_flush);
    tcase_add_loop_test(t, parts_of_a_write_go_through_alike, 0, 2);
    tcase_add_test(t, nothing_older_is_written_over_it);
    tcase_add_test(t, a_flush_that_breaks_fails_those_that_wait);
    tcase_add_test(t, a_flush_that_fails_fails_those_that_wait_for_good);
    tcase_add_loop_test(t, what_was_inherited_and_lost_is_a_failed_flush, 0,
                        ARRAY_SIZE(inherited));
    tcase_add_test(t, what_is_kept_has_a_limit);
    tcase_add_test(t, a_limit_that_is_passed_is_a_failed_flush);
    tcase_add_test(t, sync_flushes_what_was_answered);
    tcase_add_loop_test(t, broken_replies, 0, ARRAY_SIZE(broken));
    tcase_add_test(t, lost_while_idle);
    tcase_add_loop_test(t, refused_exports, 0, ARRAY_SIZE(refused));
    tcase_add_test(t, read_only_needs_less);
    tcase_add_test(t, not_a_socket);
    tcase_add_test(t, an_epoch_is_let_in);
    tcase_add_test(t, a_plain_server);
    tcase_add_loop_test(t, refused_epochs, 0, sizeof epochs / sizeof epochs[0]);
    tcase_add_test(t, who_was_refused_asks_again);
    tcase_add_loop_test(t, a_wait_for_the_server_can_be_ended, 0, 3);
    tcase_add_test(t, an_answer_for_an_older_epoch_is_none);
    tcase_add_test(t, who_is_cut_off_has_lost_the_disk);
    tcase_add_test(t, a_later_epoch_connects_anew);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
