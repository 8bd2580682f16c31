/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of a session, with their threads and a channel between them, around engines
 * that are none (fake_engine.h): this thread is both vCPUs, so that what comes when is as
 * each test has it. Each test says what it was seen to fail with. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/os.h"
#include "ft/ft_session_priv.h"
#include "tests/unit/ft/fake_engine.h"
#include "tests/unit/unit.h"

#define PAGES   64u
#define SECTORS UINT64_C(4096)
#define HOUR_MS (3600u * 1000)
#define SERIAL  TAPE_OUT_SERIAL
#define WAIT_NS (20 * NSEC_PER_SEC) /* what comes, comes long before */

struct side {
    struct ft_session *s;
    struct fake_engine engine;
    const struct engine_tape_ops *ops;
    const struct engine_epoch_ops *epochs;
};

static uint8_t ram[2][PAGES * GMEM_PAGE_SIZE];
static struct side pri, twin;
static int twin_disk = -1;

/* Until `condition` of what the lock of that side guards is true. */
#define UNTIL(side, condition)                                                           \
    do {                                                                                 \
        uint64_t end_ns = loop_now_ns() + WAIT_NS;                                       \
        bool is;                                                                         \
        do {                                                                             \
            pthread_mutex_lock(&(side)->s->lock);                                        \
            is = (condition);                                                            \
            pthread_mutex_unlock(&(side)->s->lock);                                      \
            if (!is) {                                                                   \
                usleep(500);                                                             \
            }                                                                            \
        } while (!is && loop_now_ns() < end_ns);                                         \
        ck_assert_msg(is, "never: " #condition);                                         \
    } while (0)

/* fdatasync of the twin's disk ---------------------------------------------------- */

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

static struct {
    unsigned count;
    uint8_t first[512]; /* of the disk, when it was called last */
    uint64_t acked;     /* the newest epoch that was acknowledged by then */
} synced;

int __wrap_fdatasync(int fd)
{
    synced.count++;
    ck_assert_int_eq(pread(fd, synced.first, sizeof synced.first, 0), 512);
    synced.acked = twin.s->ack.barrier;
    return __real_fdatasync(fd);
}

/* Both sides ---------------------------------------------------------------------- */

static void make(struct side *side, uint8_t *at, bool is_twin)
{
    struct ft_session_conf conf = {.engine = fake_engine(&side->engine), .vm_name = "vm"};
    struct vmm_error err = {""};

    *side = (struct side){
        .engine = {
            .ram = at, .page_count = PAGES, .disk_sectors = SECTORS, .twin = is_twin}};
    ck_assert_int_eq(ft_session_new(&conf, &side->s, &err), 0);
    ck_assert_int_eq(ft_session_go(side->s, &err), 0);
}

static void attached(struct side *side)
{
    UNTIL(side, atomic_load(&side->engine.attached));
    side->ops = side->s->tape.ops;
    side->epochs = side->s->checkpoints.ops;
}

/* The twin: up to where nothing of the log is for it yet; whatever it has to do. */
static enum tape_next next(struct tape_item *item)
{
    return twin.ops->next(twin.s, twin.engine.position, item);
}

static struct ft_params params_of(bool checkpoint, uint32_t barrier_ms)
{
    struct ft_params params = {.commit = FT_COMMIT_VERIFIED,
                               .suspect_ms = 60000, /* nobody is lost by chance */
                               .barrier_ms = barrier_ms,
                               .mirror = 1,
                               .checkpoint = checkpoint};

    memset(params.disk, -1, sizeof params.disk);
    return params;
}

static void protect(bool checkpoint, uint32_t barrier_ms)
{
    struct ft_params params = params_of(checkpoint, barrier_ms);
    struct os_tcp_opts opts = {.lost_ms = 10000};
    struct vmm_error err = {""};
    struct tape_item item;
    uint16_t port;
    int fd[2];

    make(&pri, ram[0], false);
    make(&twin, ram[1], true);
    params.token = mig_token_new();
    ck_assert_int_eq(os_tcp_listen("127.0.0.1", 0, 0, 4, &opts, &fd[1], &port), 0);
    ck_assert_int_eq(os_tcp_connect("127.0.0.1", port, &opts, &fd[0]), 0);
    ck_assert_int_eq(os_tcp_wait(fd[0], 1000), 0);
    ck_assert_int_eq(ft_session_protect(pri.s, fd[0], &params, &err), 0);
    if (checkpoint) {
        twin_disk = memfd_create("disk", MFD_CLOEXEC);
        ck_assert_int_eq(ftruncate(twin_disk, SECTORS * 512), 0);
        params.disk[0] = dup(twin_disk);
    }
    ck_assert_int_eq(ft_session_follow(twin.s, fd[1], &params, &err), 0);
    attached(&twin);
    attached(&pri);
    if (!checkpoint) {
        ck_assert_int_eq(next(&item), TAPE_NEXT_WAIT); /* position 0 is here: ready */
    }
    UNTIL(&pri, pri.s->pri.state == FT_PRI_ARM);
    ck_assert_ptr_null(ft_session_order(pri.s, FT_ORDER_TWIN_WON, 1));
    UNTIL(&twin, twin.s->sec.state == FT_SEC_REPLAY);
}

static void setup_lockstep(void)
{
    protect(false, HOUR_MS);
}

static void setup_epochs(void)
{
    protect(true, 1);
}

static void setup_long_epochs(void)
{
    protect(true, HOUR_MS);
}

/* A test that fails ends its process: nothing is left to be taken away then. */
static void teardown(void)
{
    ft_session_free(pri.s);
    ft_session_free(twin.s);
    if (twin_disk >= 0) {
        close(twin_disk);
    }
}

/* The primary's host is gone; its twin has the claim, and lives. */
static void twin_goes_live(void)
{
    ft_session_free(pri.s);
    pri.s = NULL;
    UNTIL(&twin, twin.s->sec.state == FT_SEC_QUIET ||
                     twin.s->sec.state == FT_SEC_DRAINED ||
                     twin.s->sec.state == FT_SEC_QUIET_DIVERGED);
    if (!twin.s->params.checkpoint) {
        struct tape_item item;

        ck_assert_int_eq(next(&item), TAPE_NEXT_WAIT); /* all of it is replayed */
    }
    UNTIL(&twin, twin.s->sec.state == FT_SEC_DRAINED);
    ck_assert_ptr_null(ft_session_order(twin.s, FT_ORDER_CLAIM_WON, 2));
    ck_assert(atomic_load(&twin.engine.live));
}

/* One guest, twice ------------------------------------------------------------------ */

static void leave(struct side *side, uint64_t number, const char *byte)
{
    struct tape_exit x = {.number = number,
                          .kind = TAPE_EXIT_OUT,
                          .address = 0xe9,
                          .size = 1,
                          .len = 1,
                          .data = (const uint8_t *)byte,
                          .boundary = true};

    ck_assert(side->ops->exit(side->s, &x));
    side->engine.position = number;
}

static void says(struct side *side, uint64_t position, const char *text)
{
    struct tape_out out = {
        .kind = SERIAL, .data = (const uint8_t *)text, .len = (uint32_t)strlen(text)};

    ck_assert(side->ops->output(side->s, position, &out));
}

static void disk(struct side *side, uint64_t position, enum request_op op, uint32_t slot,
                 const char *bytes)
{
    struct tape_out out = {.kind = TAPE_OUT_DISK,
                           .op = op,
                           .slot = slot,
                           .sector = op == REQUEST_WRITE ? 8 : 0,
                           .data = (const uint8_t *)bytes,
                           .len = op == REQUEST_WRITE ? 512 : 0,
                           .size = op == REQUEST_WRITE ? 512 : 0};

    ck_assert(side->ops->output(side->s, position, &out));
}

/* The primary has told all of this position; the twin may come to the exit after it. */
static void tells(uint64_t position)
{
    ck_assert(pri.ops->may_leave(pri.s, position));
    UNTIL(&twin, twin.s->head.exits >= position);
}

static void runs(void)
{
    struct tape_item item;

    ck_assert_int_eq(next(&item), TAPE_NEXT_RUN);
}

/* Exits without an output, then one with it, whose digest is the twin's to compare. */
static void three_exits(const char *theirs)
{
    leave(&pri, 1, "a");
    leave(&pri, 2, "b");
    says(&pri, 3, "out");
    leave(&pri, 3, "c");
    tells(3);
    runs();
    leave(&twin, 1, "a");
    runs();
    leave(&twin, 2, theirs);
    runs();
    says(&twin, 3, "out");
    leave(&twin, 3, "c");
}

START_TEST(the_same_exits_let_an_output_out)
{
    three_exits("b");
    ck_assert(!twin.s->differs);
    UNTIL(&pri, pri.s->commit.left == 1);
    ck_assert_uint_eq(pri.engine.said_len, 3);
    ck_assert_mem_eq(pri.engine.said, "out", 3);
}
END_TEST

/* Fails with: the chain not compared (ft_sec_compare). */
START_TEST(another_exit_is_seen_at_the_next_digest)
{
    three_exits("B");
    ck_assert(twin.s->differs);
    UNTIL(&pri, pri.s->pri.state == FT_PRI_BARRIER);
    ck_assert_uint_eq(pri.s->counts.diverged, 1);
    ck_assert_uint_eq(pri.s->commit.ack.verified, 0);
    ck_assert_uint_eq(pri.engine.said_len, 0);
}
END_TEST

static bool may_answer(uint32_t slot)
{
    return pri.ops->may_answer(pri.s, 0, slot);
}

/* Fails with: each of pri_may_answer always true, `oldest` acknowledged in sec_mirrored,
 * one that is answered early by an output. */
START_TEST(a_flush_is_answered_when_the_twins_disk_has_it)
{
    for (int side = 0; side < 2; side++) {
        struct side *it = side == 0 ? &pri : &twin;

        if (side == 1) {
            tells(1);
            runs();
        }
        disk(it, 1, REQUEST_WRITE, 0, (const char *)ram[0]);
        disk(it, 1, REQUEST_FLUSH, 1, NULL);
        disk(it, 1, REQUEST_FLUSH, 2, NULL);
        leave(it, 1, "a");
        if (side == 0) {
            (void)pri.ops->may_leave(pri.s, 1);
        }
    }
    UNTIL(&pri, pri.s->commit.ack.verified == 3);
    ck_assert(!may_answer(1) && !may_answer(2));
    /* In the order in which a disk may have them done. */
    twin.ops->mirrored(twin.s, 0, 0, REQUEST_WRITE, 0);
    ck_assert_uint_eq(twin.s->ack.flushed, 1);
    UNTIL(&pri, pri.s->commit.ack.flushed == 1);
    ck_assert(!may_answer(1) && !may_answer(2));
    twin.ops->mirrored(twin.s, 0, 2, REQUEST_FLUSH, 0);
    ck_assert_uint_eq(twin.s->ack.flushed, 1);
    ck_assert(!may_answer(1) && !may_answer(2));
    twin.ops->mirrored(twin.s, 0, 1, REQUEST_FLUSH, 0);
    ck_assert_uint_eq(twin.s->ack.flushed, 3);
    UNTIL(&pri, pri.s->commit.ack.flushed == 3);
    ck_assert(may_answer(1) && may_answer(2));
}
END_TEST

/* Fails with: 0, only what it replayed, only what it was told (sec_live_ns). */
START_TEST(the_clock_goes_on_from_the_newest_that_is_known)
{
    struct dev_input in = {.type = INPUT_CLOCK, .now_ns = 5 * NSEC_PER_SEC};
    struct tape_item item;

    pri.ops->input(pri.s, 0, 0, &in);
    ck_assert(pri.ops->may_leave(pri.s, 0));
    UNTIL(&twin, twin.s->log.tail > 0);
    ck_assert_int_eq(next(&item), TAPE_NEXT_INPUT);
    ck_assert_uint_eq(item.in.now_ns, 5 * NSEC_PER_SEC);
    atomic_store(&pri.engine.guest_ns, 3 * NSEC_PER_SEC);
    UNTIL(&twin, twin.s->head.now_ns == 3 * NSEC_PER_SEC);
    ck_assert_uint_eq(twin.ops->live_ns(twin.s), 5 * NSEC_PER_SEC);
    atomic_store(&pri.engine.guest_ns, 7 * NSEC_PER_SEC);
    UNTIL(&twin, twin.s->head.now_ns == 7 * NSEC_PER_SEC);
    ck_assert_uint_eq(twin.ops->live_ns(twin.s), 7 * NSEC_PER_SEC);
}
END_TEST

/* A write of which the twin makes other bytes. */
static void another_write(void)
{
    static char right[512] = "right", wrong[512] = "wrong";

    disk(&pri, 1, REQUEST_WRITE, 0, right);
    leave(&pri, 1, "a");
    tells(1);
    runs();
    disk(&twin, 1, REQUEST_WRITE, 0, wrong);
    ck_assert(!twin.ops->may_write(twin.s, 0)); /* fails with: may_write true */
    leave(&twin, 1, "a");
    UNTIL(&pri, pri.s->pri.state == FT_PRI_BARRIER);
    ck_assert_uint_eq(pri.s->counts.diverged_output, 1);
}

static void check_wrote(unsigned i, enum request_op op, char byte)
{
    ck_assert_uint_lt(i, twin.engine.wrote_count);
    ck_assert_uint_eq(twin.engine.wrote[i].op, op);
    ck_assert_int_eq(twin.engine.wrote_byte[i], byte);
}

/* A turn of both guests, which stand at a barrier. True: it is over. */
static bool barrier_turn(void)
{
    struct tape_item item;
    bool over;

    (void)pri.ops->may_leave(pri.s, 1);
    (void)next(&item);
    pthread_mutex_lock(&pri.s->lock);
    over = pri.s->pri.state == FT_PRI_ON;
    pthread_mutex_unlock(&pri.s->lock);
    return over;
}

/* Fails with: no FLUSH behind a repair's writes (apply). */
START_TEST(a_repair_writes_what_the_primary_did_and_flushes_it)
{
    uint64_t limit_ns = loop_now_ns() + WAIT_NS;

    another_write();
    while (!barrier_turn() && loop_now_ns() < limit_ns) {
        usleep(500);
    }
    ck_assert_int_eq(pri.s->pri.state, FT_PRI_ON);
    ck_assert_uint_eq(twin.engine.wrote_count, 2);
    check_wrote(0, REQUEST_WRITE, 'r');
    check_wrote(1, REQUEST_FLUSH, 0);
    ck_assert_uint_eq(pri.s->commit.ack.flushed, 1);
    ck_assert_uint_eq(pri.s->counts.repair_outputs, 1);
    ck_assert(twin.ops->may_write(twin.s, 0));
}
END_TEST

/* Fails with: nothing written (ft_repair_withheld). */
START_TEST(what_was_withheld_is_written_at_go_live)
{
    another_write();
    ck_assert_uint_eq(twin.engine.wrote_count, 0);
    twin_goes_live();
    twin.ops->live(twin.s);
    ck_assert_uint_eq(twin.engine.wrote_count, 1);
    check_wrote(0, REQUEST_WRITE, 'w');
}
END_TEST

/* Its primary may not have let it out: once more. Fails with: nothing (sec_live). */
START_TEST(a_twin_lets_out_what_its_primary_may_not_have)
{
    pri.engine.console_stands = true;
    three_exits("b");
    UNTIL(&pri, pri.engine.said_len == 3);
    twin_goes_live();
    twin.ops->live(twin.s);
    ck_assert_uint_eq(twin.engine.said_len, 3);
    ck_assert_mem_eq(twin.engine.said, "out", 3);
}
END_TEST

/* And nothing that it is told is outside. */
START_TEST(a_twin_does_not_say_twice_what_is_outside)
{
    three_exits("b");
    UNTIL(&twin, twin.s->head.released == 1);
    twin_goes_live();
    twin.ops->live(twin.s);
    ck_assert_uint_eq(twin.engine.said_len, 0);
}
END_TEST

/* Checkpoint mode ------------------------------------------------------------------- */

static void epoch_write(enum request_op op, uint64_t sector, uint32_t len, uint8_t byte)
{
    static uint8_t bytes[BLK_REQUEST_MAX];
    struct blk_request rq = {.op = op, .sector = sector, .len = len};

    ck_assert_uint_le(len, sizeof bytes);
    memset(bytes, byte, len);
    rq.data = op == REQUEST_WRITE ? bytes : NULL;
    pri.epochs->write(pri.s, 0, &rq);
}

static void take_with(const uint64_t *dirty)
{
    UNTIL(&pri, pri.epochs->due(pri.s));
    pri.epochs->take(pri.s, loop_now_ns(), dirty, pri.engine.state,
                     sizeof pri.engine.state, NULL);
}

static void take(void)
{
    static const uint64_t dirty[PAGES / 64 + 1] = {FAKE_DIRTY};

    take_with(dirty);
}

static void check_disk(uint64_t at, uint8_t byte)
{
    uint8_t got[512], want[512];

    memset(want, byte, sizeof want);
    ck_assert_int_eq(pread(twin_disk, got, sizeof got, (off_t)at), sizeof got);
    ck_assert_mem_eq(got, want, sizeof got);
}

/* Fails with: a page of the bitmap not sent, not taken. */
START_TEST(an_epoch_brings_every_page_that_was_written_to)
{
    static const uint8_t marked[] = {0, 2, 3, 4, 31, 62, 63};
    uint64_t dirty[PAGES / 64 + 1] = {0};

    for (unsigned i = 0; i < PAGES; i++) {
        memset(ram[0] + i * GMEM_PAGE_SIZE, (int)(i + 1), GMEM_PAGE_SIZE);
    }
    for (unsigned i = 0; i < sizeof marked; i++) {
        dirty[0] |= UINT64_C(1) << marked[i];
    }
    take_with(dirty);
    UNTIL(&pri, pri.s->epoch.acked == 1);
    for (unsigned i = 0; i < PAGES; i++) {
        bool is = (dirty[0] >> i & 1) != 0;
        const uint8_t *page = ram[1] + i * GMEM_PAGE_SIZE;

        ck_assert_uint_eq(page[0], is ? i + 1 : 0);
        ck_assert_uint_eq(page[GMEM_PAGE_SIZE - 1], is ? i + 1 : 0);
    }
}
END_TEST

/* Fails with: WRITE_ZEROES not taken (take_disk). */
START_TEST(an_epoch_brings_what_was_written)
{
    epoch_write(REQUEST_WRITE, 0, 4096, 'x');
    epoch_write(REQUEST_WRITE_ZEROES, 2, 1024, 0);
    take();
    UNTIL(&pri, pri.s->epoch.acked == 1);
    check_disk(0, 'x');
    check_disk(512, 'x');
    check_disk(1024, 0);
    check_disk(1536, 0);
    check_disk(2048, 'x');
    ck_assert_uint_eq(synced.count, 0);
}
END_TEST

/* Fails with: no fdatasync (take_disk). */
START_TEST(an_epochs_flush_is_one_before_it_is_acknowledged)
{
    epoch_write(REQUEST_WRITE, 0, 512, 'x');
    epoch_write(REQUEST_FLUSH, 0, 0, 0);
    take();
    UNTIL(&pri, pri.s->epoch.acked == 1);
    ck_assert_uint_eq(synced.count, 1);
    ck_assert_uint_eq(synced.first[511], 'x');
    ck_assert_uint_eq(synced.acked, 0);
}
END_TEST

/* Fails with: no disks_fit. */
START_TEST(an_epoch_with_a_write_past_the_end_is_not_begun)
{
    epoch_write(REQUEST_WRITE, 0, 512, 'x');
    epoch_write(REQUEST_WRITE, SECTORS - 1, 1024, 'y');
    take();
    UNTIL(&twin, twin.s->sec.state == FT_SEC_GONE);
    ck_assert_ptr_nonnull(strstr(twin.s->status.text, "past the end of disk 0"));
    check_disk(0, 0);
    ck_assert_int_eq(lseek(twin_disk, 0, SEEK_END), SECTORS * 512);
    ck_assert_uint_eq(twin.s->ack.barrier, 0);
}
END_TEST

/* What the console said is not known to be outside when the primary is lost: once more,
 * by the twin. Fails with: no SAID records (put_said). */
START_TEST(a_twin_says_what_its_primary_may_not_have)
{
    pri.engine.console_stands = true;
    pri.epochs->output(
        pri.s,
        &(struct tape_out){.kind = SERIAL, .data = (const uint8_t *)"word", .len = 4});
    take();
    UNTIL(&pri, pri.s->epoch.acked == 1 && pri.engine.said_len == 4);
    twin_goes_live();
    twin.epochs->live(twin.s);
    ck_assert_uint_eq(twin.engine.said_len, 4);
    ck_assert_mem_eq(twin.engine.said, "word", 4);
}
END_TEST

static bool full(void)
{
    return pri.epochs->full(pri.s);
}

/* FT_KEPT_BYTES, and what is kept beside each write. */
static void fill(void)
{
    for (size_t i = 0; i < FT_KEPT_BYTES / BLK_REQUEST_MAX; i++) {
        ck_assert(!full());
        epoch_write(REQUEST_WRITE, 0, BLK_REQUEST_MAX, (uint8_t)i);
    }
    ck_assert(full());
}

/* Fails with: no limit, one that stays, a full epoch that lasts as long as any. */
START_TEST(a_full_epoch_ends_when_the_one_before_is_acknowledged)
{
    fill();
    pthread_mutex_lock(&twin.s->lock); /* it acknowledges nothing */
    take();
    fill();
    usleep(30000);
    ck_assert(!pri.epochs->due(pri.s) && full());
    pthread_mutex_unlock(&twin.s->lock);
    take();
    ck_assert(!full());
    UNTIL(&pri, pri.s->epoch.acked == 2);
    check_disk(0, (uint8_t)(FT_KEPT_BYTES / BLK_REQUEST_MAX - 1));
}
END_TEST

/* Without a twin, or when its epochs are over, the guest goes on, and nothing is kept.
 * Fails with: full until the next epoch whatever comes; writes that are kept for none. */
START_TEST(nobody_waits_for_an_epoch_that_will_not_come)
{
    size_t len;

    fill();
    len = pri.s->epoch.writes.len;
    if (_i == 0) {
        ck_assert_ptr_null(ft_session_order(pri.s, FT_ORDER_ALONE_WON, 2));
    } else {
        pri.epochs->take(pri.s, 0, NULL, NULL, 0, "its state cannot be told");
    }
    ck_assert(!full());
    epoch_write(REQUEST_WRITE, 0, 512, 'x');
    ck_assert_uint_eq(pri.s->epoch.writes.len, len);
}
END_TEST

static Suite *session_suite(void)
{
    Suite *suite = suite_create("ft_session");
    TCase *lockstep = tcase_create("lockstep"), *epochs = tcase_create("checkpoints");
    TCase *long_epochs = tcase_create("long_epochs");

    tcase_add_checked_fixture(lockstep, setup_lockstep, teardown);
    tcase_add_test(lockstep, the_same_exits_let_an_output_out);
    tcase_add_test(lockstep, another_exit_is_seen_at_the_next_digest);
    tcase_add_test(lockstep, a_flush_is_answered_when_the_twins_disk_has_it);
    tcase_add_test(lockstep, the_clock_goes_on_from_the_newest_that_is_known);
    tcase_add_test(lockstep, a_repair_writes_what_the_primary_did_and_flushes_it);
    tcase_add_test(lockstep, what_was_withheld_is_written_at_go_live);
    tcase_add_test(lockstep, a_twin_lets_out_what_its_primary_may_not_have);
    tcase_add_test(lockstep, a_twin_does_not_say_twice_what_is_outside);
    tcase_set_timeout(lockstep, 60);
    suite_add_tcase(suite, lockstep);

    tcase_add_checked_fixture(epochs, setup_epochs, teardown);
    tcase_add_test(epochs, an_epoch_brings_every_page_that_was_written_to);
    tcase_add_test(epochs, an_epoch_brings_what_was_written);
    tcase_add_test(epochs, an_epochs_flush_is_one_before_it_is_acknowledged);
    tcase_add_test(epochs, an_epoch_with_a_write_past_the_end_is_not_begun);
    tcase_add_test(epochs, a_twin_says_what_its_primary_may_not_have);
    tcase_set_timeout(epochs, 60);
    suite_add_tcase(suite, epochs);

    tcase_add_checked_fixture(long_epochs, setup_long_epochs, teardown);
    tcase_add_test(long_epochs, a_full_epoch_ends_when_the_one_before_is_acknowledged);
    tcase_add_loop_test(long_epochs, nobody_waits_for_an_epoch_that_will_not_come, 0, 2);
    tcase_set_timeout(long_epochs, 60);
    suite_add_tcase(suite, long_epochs);
    return suite;
}

UNIT_MAIN(session_suite)
