/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source of a transfer: the control thread follows mig_src, a thread hears the
 * destination; mig_out_data.c sends the pages, round by round.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/text.h"
#include "migrate/mig_extent.h"
#include "migrate/mig_memfd.h"
#include "migrate/mig_out_priv.h"
#include "migrate/mig_verify.h"

#define FREEZE_SLICE_MS 20
#define TELL_NS         (200 * NSEC_PER_MSEC)
#define ALIVE_NS        NSEC_PER_SEC /* it is heard of at least so often */
/* A VM that takes a while is watched for a moment before the first page, and when the
 * link is known as well, it is said what that will lead to. Others are there sooner than
 * the watching pays (150 of 470 ms for 1 GiB, doc/bench.md): of them it is said after the
 * first round, if it was a long one. */
#define PREDICT_BPS (UINT64_C(1) << 30) /* a fast link */
#define LONG_NS     (1500 * NSEC_PER_MSEC)
#define SAMPLE_NS   (50 * NSEC_PER_MSEC)
#define SAMPLES     3
#define PREDICT_NS  (300 * NSEC_PER_MSEC)

static const struct mig_conn_rule rules[] = {
    {MIG_FRAME_CONTROL + MIG_HELLO_ACK, 1, 1, 0, MIG_CONTROL_MAX},
    {MIG_FRAME_CONTROL + MIG_STATS, 1, 1, 0, MIG_CONTROL_MAX},
    {MIG_FRAME_CONTROL + MIG_READY, 1, 1, 0, MIG_CONTROL_MAX},
    {MIG_FRAME_CONTROL + MIG_ABORT, 1, 1, 0, MIG_CONTROL_MAX},
    {MIG_FRAME_CONTROL + MIG_WANT, 1, 1, 0, MIG_CONTROL_MAX},
    {MIG_FRAME_CONTROL + MIG_RUNS, 1, 1, 0, MIG_CONTROL_MAX},
    {MIG_FRAME_CONTROL + MIG_ALL, 1, 1, 0, MIG_CONTROL_MAX},
};

/* Hearing
 * -------------------------------------------------------------------------------------
 */

/* Of compressed pages: that they came. Of disks: that they are durable (rounds end with
 * that), or it would be waited for while the guest stands. */
static bool has_all(const struct out *o)
{
    return o->stats.pages >= o->pages && (o->disks == 0 || o->stats.round >= o->round);
}

static void take_stats(struct out *o, const struct mig_stats *stats)
{
    bool caught_up;

    pthread_mutex_lock(&o->t->lock);
    o->stats = *stats;
    caught_up = o->behind && has_all(o);
    o->behind = o->behind && !caught_up;
    pthread_mutex_unlock(&o->t->lock);
    if (caught_up) {
        mig_note_post(o->t, MIG_NOTE_CAUGHT_UP, MIG_OK, NULL);
    }
}

/* Compressed pages are small on the way and take their time where they come to: what the
 * sockets hold may be more memory than the downtime allows. */
static bool is_behind(struct out *o)
{
    bool behind;

    pthread_mutex_lock(&o->t->lock);
    behind = (o->disks > 0 || o->page_bytes > o->bytes) && !has_all(o);
    o->behind = behind;
    pthread_mutex_unlock(&o->t->lock);
    return behind;
}

static void heard(struct out *o, const struct mig_msg *msg)
{
    char text[MIG_TEXT_MAX + 1];

    o->heard_ns = loop_now_ns();
    switch (msg->kind) {
    case MIG_HELLO_ACK:
        o->ack = msg->hello_ack;
        mig_blockers_text(&o->ack, text, sizeof text);
        mig_note_post(o->t,
                      o->ack.blocker_count > 0 ? MIG_SRC_ACK_BLOCKED : MIG_SRC_ACK_OK,
                      o->ack.blocker_count > 0 ? MIG_END_BLOCKED : MIG_OK, text);
        break;
    case MIG_STATS:
        take_stats(o, &msg->stats);
        break;
    case MIG_READY:
        mig_note_post(o->t, MIG_SRC_GOT_READY, MIG_OK, NULL);
        break;
    case MIG_ABORT:
        mig_note_post(o->t, MIG_SRC_GOT_ABORT, MIG_END_PEER, msg->abort.text);
        break;
    case MIG_WANT:
        mig_out_holes_wanted(o, &msg->want);
        break;
    case MIG_RUNS:
        mig_note_post(o->t, MIG_SRC_GOT_RUNS, MIG_OK, NULL);
        break;
    case MIG_ALL:
        mig_note_post(o->t, MIG_SRC_GOT_ALL, MIG_OK, NULL);
        break;
    case MIG_KIND_INVALID:
    case MIG_HELLO:
    case MIG_ROUND:
    case MIG_VERIFY:
    case MIG_FINISH:
    case MIG_KIND_COUNT:
    default:
        mig_note_post(o->t, MIG_SRC_BAD_PEER, MIG_END_PROTOCOL,
                      "the destination sent what only a source sends");
        break;
    }
}

static void hear_main(void *data)
{
    struct out *o = data;
    struct mig_conn *conn = o->t->streams.conn[0];
    uint8_t *body = malloc(MIG_CONTROL_MAX);
    struct mig_msg *msg = malloc(sizeof *msg);
    struct mig_conn_head head;
    struct vmm_error err = {"no memory"};

    while (body != NULL && msg != NULL && mig_conn_recv_known(conn, &head, &err) == 0) {
        struct iovec iov = {.iov_base = body, .iov_len = head.body_len};
        enum mig_msg_reason reason;

        if (mig_conn_recv_body(conn, &iov, 1, &err) < 0) {
            break;
        }
        reason = mig_msg_unpack(head.type - MIG_FRAME_CONTROL, body, head.body_len, msg);
        if (reason != MIG_MSG_OK) {
            mig_note_post(o->t, MIG_SRC_BAD_PEER, MIG_END_PROTOCOL,
                          mig_msg_reason_str(reason));
            break;
        }
        heard(o, msg);
    }
    mig_note_post(o->t, MIG_SRC_LOST, MIG_END_LOST, err.text);
    free(msg);
    free(body);
}

/* Control: what mig_src wants done
 * ----------------------------------------------------------- */

static void host_error(struct out *o)
{
    mig_note_post(o->t, MIG_SRC_HOST_ERROR, MIG_END_HOST, o->err.text);
}

static void send_hello(struct out *o)
{
    struct mig_msg *msg = calloc(1, sizeof *msg);

    if (msg == NULL) {
        (void)vmm_fail(&o->err, -ENOMEM, "no memory for Hello");
        host_error(o);
        return;
    }
    msg->kind = MIG_HELLO;
    mig_describe(o->t, &msg->hello);
    memcpy(o->mirror, msg->hello.disk, sizeof o->mirror);
    if (!mig_send_msg(o->t, msg, &o->err)) {
        mig_note_post(o->t, MIG_SRC_LOST, MIG_END_LOST, o->err.text);
    }
    free(msg);
}

/* What went out since the last look, for the bandwidth. */
static void count_sent(struct out *o, uint64_t now_ns)
{
    uint64_t bytes = o->page_bytes, ns = now_ns - o->counted_ns;

    if (ns == 0) {
        return;
    }
    mig_policy_sent(&o->policy, bytes - o->counted_bytes, ns);
    o->counted_bytes = bytes;
    o->counted_ns = now_ns;
}

/* Of memory and disks, to be sent. */
static uint64_t left_bytes(const struct out *o)
{
    return mig_bitmap_count(&o->bitmap) * MIG_PAGE + mig_out_disks_left(o);
}

static void tell_progress(struct out *o, uint64_t left)
{
    struct mig_progress p;
    struct mig_status s = {
        .round = o->round, .sent = o->bytes, .disk_sent = o->disk_bytes};

    mig_policy_progress(&o->policy, left, &p);
    s.percent = p.percent;
    s.throttle = o->policy.throttle;
    s.bps = p.bandwidth_bps;
    s.dirty_bps = p.dirty_bps;
    s.eta_ms = p.eta_ns == UINT64_MAX ? UINT64_MAX : p.eta_ns / NSEC_PER_MSEC;
    mig_tell_progress(o->t, &s);
    o->told_ns = loop_now_ns();
}

/* What it is at; also to be heard of while nothing else is sent. */
static bool tell_round(struct out *o, uint32_t round, bool last)
{
    struct mig_msg msg = {.kind = MIG_ROUND};

    msg.round = (struct mig_round){.round = round,
                                   .last = last,
                                   .pages_dirty = mig_bitmap_count(&o->bitmap),
                                   .bytes_sent = o->bytes,
                                   .pages_sent = o->pages,
                                   .dirty_bps = o->policy.dirty_bps,
                                   .throttle_permille = o->policy.throttle};
    if (!mig_send_msg(o->t, &msg, &o->err)) {
        mig_note_post(o->t, MIG_SRC_LOST, MIG_END_LOST, o->err.text);
        return false;
    }
    return true;
}

static void send_round(struct out *o, bool last)
{
    if (tell_round(o, o->round + 1, last)) {
        mig_out_round_begin(o, last);
    }
}

static uint64_t used_bytes(const struct engine_ram *ram)
{
    uint64_t begin = 0, end, pages = 0;

    for (; engine_ram_data(ram, &begin, &end); begin = end) {
        pages += end - begin;
    }
    return pages * MIG_PAGE;
}

/* The log begins with every page; from a clean one on, what is found grows from look to
 * look, for nothing is protected again meanwhile. */
static void sample(struct out *o)
{
    uint64_t began, pages, sum = 0, bps = o->policy.conf.cap_bps;

    bps = bps != 0 && bps < PREDICT_BPS ? bps : PREDICT_BPS;

    o->used_bytes = used_bytes(&o->t->ram);
    o->predicts = o->used_bytes >= bps * (LONG_NS / NSEC_PER_MSEC) / 1000 &&
                  engine_dirty_protect(o->t->conf.engine, 0, o->t->ram.page_count) == 0;
    began = loop_now_ns();
    for (unsigned i = 0; o->predicts && i < SAMPLES; i++) {
        struct timespec pause = {.tv_nsec = SAMPLE_NS};

        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        if (engine_dirty_collect(o->t->conf.engine, o->bitmap.word, &pages) < 0) {
            o->predicts = false; /* it will be seen in the rounds */
            return;
        }
        sum += pages * MIG_PAGE;
        (void)mig_curve_add(&o->curve, loop_now_ns() - began, sum);
    }
}

/* For people: it is tried all the same, and given up when it is certain. */
static void tell_prediction(struct out *o, uint64_t took_ns)
{
    struct mig_prediction p;

    o->predicts = false;
    mig_predict(&o->policy.conf, o->used_bytes,
                o->page_bytes * 1000 / (took_ns / NSEC_PER_MSEC), &o->curve, &p);
    mig_tell(o->t, MIG_PHASE_COPYING, p.text);
}

/* While the first round runs. */
static void predict(struct out *o)
{
    uint64_t took = loop_now_ns() - o->round_began_ns;

    if (o->predicts && o->round == 1 && took >= PREDICT_NS) {
        tell_prediction(o, took);
    }
}

/* After a long first round of a VM that was not watched. A page was on its own since it
 * was sent: on the average for half the round. */
static void predict_late(struct out *o, const struct mig_round_done *done)
{
    if (o->round == 1 && o->curve.count == 0 && done->took_ns >= LONG_NS &&
        mig_curve_add(&o->curve, done->took_ns / 2, done->dirtied_bytes)) {
        tell_prediction(o, done->took_ns);
    }
}

static bool allows_holes(const struct out *o)
{
    return o->disks == 0 && (o->features & MIG_FEATURE_POSTCOPY) != 0;
}

static void track(struct out *o)
{
    struct mig_policy_conf conf = {
        .ram_bytes = o->t->ram.len,
        .downtime_ns = o->t->params.downtime_ms != 0
                           ? o->t->params.downtime_ms * NSEC_PER_MSEC
                           : MIG_DOWNTIME_DEFAULT_NS,
        .fixed_ns = MIG_FIXED_DEFAULT_NS,
        .timeout_ns = o->t->params.timeout_ms * NSEC_PER_MSEC,
        .stall_ns = MIG_STALL_DEFAULT_NS,
        .max_slowdown = o->t->params.slowdown * 10,
        .cap_bps = o->t->params.rate_bps,
    };

    char text[MIG_TEXT_MAX + 1];

    mig_policy_init(&o->policy, &conf, loop_now_ns());
    if (o->t->params.memory_there) {
        mig_tell(o->t, MIG_PHASE_COPYING, "");
        mig_note_post(o->t, MIG_SRC_ROUND_SWITCH, MIG_OK, NULL);
        return;
    }
    if (mig_policy_hopeless(&conf, text) && !allows_holes(o)) {
        mig_note_post(o->t, MIG_SRC_ROUND_GIVE_UP, MIG_END_CONVERGE, text);
        return;
    }
    if (!mig_out_disks_begin(o) ||
        engine_dirty_begin(o->t->conf.engine, DIRTY_AUTO, &o->err) < 0) {
        host_error(o);
        return;
    }
    o->tracking = true;
    sample(o);
    mig_bitmap_set_all(&o->bitmap);
    mig_tell(o->t, MIG_PHASE_COPYING, "");
    send_round(o, false);
}

/* In slices, so that a cancel is heard. */
static void freeze(struct out *o)
{
    enum run_answer answer =
        engine_freeze_try(o->t->conf.engine, "live migration: the last of its memory");

    o->frozen_ns = loop_now_ns();
    if (answer != RUN_DONE && answer != RUN_ALREADY) {
        mig_note_post(o->t, MIG_SRC_FREEZE_REFUSED, MIG_END_FREEZE,
                      run_answer_str(answer));
        return;
    }
    o->freezing = true;
}

/* While freezing: has it come? */
static void look_frozen(struct out *o)
{
    int r = engine_freeze_wait(o->t->conf.engine, FREEZE_SLICE_MS, &o->err);

    if (r == -ETIMEDOUT) {
        if (loop_now_ns() - o->told_ns >= ALIVE_NS) {
            o->told_ns = loop_now_ns();
            (void)tell_round(o, o->round > 0 ? o->round : 1, false);
        }
        return;
    }
    o->freezing = false;
    o->stopped_ns = loop_now_ns();
    mig_note_post(o->t, r == 0 ? MIG_SRC_FROZEN : MIG_SRC_FREEZE_REFUSED,
                  r == 0 ? MIG_OK : MIG_END_FREEZE, o->err.text);
}

/* The state first: to bring vCPUs and devices to rest may write to guest memory, and the
 * last look at the log must see that. */
static bool save_state(struct out *o)
{
    int fd = engine_state_fd(o->t->conf.engine);

    if (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
        (void)vmm_fail(&o->err, -errno, "the VM's state cannot be kept: %s",
                       strerror(errno));
        return false;
    }
    if (engine_save_wait(o->t->conf.engine, fd, "of the migration", ENGINE_RAM_APART,
                         &o->saved) < 0) {
        (void)vmm_fail(&o->err, -EIO, "%s",
                       o->saved.err.text[0] != '\0' ? o->saved.err.text
                                                    : "the VM's state cannot be saved");
        return false;
    }
    return true;
}

static void send_last(struct out *o)
{
    uint64_t pages;

    engine_throttle(o->t->conf.engine, 0);
    if (!save_state(o)) {
        host_error(o);
        return;
    }
    if (o->tracking &&
        engine_dirty_collect(o->t->conf.engine, o->bitmap.word, &pages) < 0) {
        (void)vmm_fail(&o->err, -EIO, "KVM's dirty log cannot be read");
        host_error(o);
        return;
    }
    (void)mig_out_disks_collect(o);
    o->cut = false;
    if (o->src.holes && !mig_out_holes_begin(o)) {
        host_error(o);
        return;
    }
    send_round(o, true);
}

static bool send_state_frame(struct out *o, int fd, uint64_t len)
{
    uint8_t *body = malloc(len);
    struct iovec iov = {.iov_base = body, .iov_len = len};
    bool good = body != NULL && pread(fd, body, len, 0) == (ssize_t)len;

    if (!good) {
        (void)vmm_fail(&o->err, -EIO, "the VM's state cannot be read back");
    }
    good = good && mig_conn_send(o->t->streams.conn[0], MIG_FRAME_STATE, 1, 0, &iov, 1,
                                 &o->err) == 0;
    free(body);
    return good;
}

/* Of the blocks of one thing: of memory (disk 0), or of a disk (its number + 1). */
static bool send_hashes_of(struct out *o, struct mig_msg *msg, unsigned disk,
                           uint64_t blocks)
{
    uint8_t *buffer = disk > 0 ? mig_extent_buffer(MIG_BLOCK_BYTES) : NULL;
    struct mig_verify_seen seen = {0};
    bool good = disk == 0 || buffer != NULL;

    for (uint64_t first = 0; good && first < blocks; first += MIG_HASHES_MAX) {
        uint64_t count =
            blocks - first < MIG_HASHES_MAX ? blocks - first : MIG_HASHES_MAX;

        msg->kind = MIG_VERIFY;
        msg->verify.disk = disk;
        msg->verify.first_block = (uint32_t)first;
        msg->verify.count = (uint32_t)count;
        for (uint64_t i = 0; good && i < count; i++) {
            if (disk == 0) {
                msg->verify.hash[i] = mig_verify_hash(&o->t->ram, &seen, first + i);
            } else {
                good = mig_verify_disk(o->disk[disk - 1].fd, o->disk[disk - 1].bytes,
                                       first + i, buffer, &msg->verify.hash[i]) == 0;
            }
        }
        good = good && mig_send_msg(o->t, msg, &o->err);
    }
    free(buffer);
    return good;
}

static bool send_hashes(struct out *o, uint64_t *ret_blocks)
{
    uint64_t blocks = (o->t->ram.page_count + MIG_BLOCK_PAGES - 1) / MIG_BLOCK_PAGES;
    struct mig_msg *msg = calloc(1, sizeof *msg);
    bool good = msg != NULL && send_hashes_of(o, msg, 0, blocks);

    *ret_blocks = blocks;
    for (unsigned i = 0; good && i < VM_DISKS_MAX; i++) {
        if (o->disk[i].todo.word != NULL) {
            blocks = mig_verify_disk_blocks(o->disk[i].bytes);
            *ret_blocks += blocks;
            good = send_hashes_of(o, msg, i + 1, blocks);
        }
    }
    free(msg);
    return good;
}

static void send_state(struct out *o)
{
    int fd = engine_state_fd(o->t->conf.engine);
    struct mig_msg finish = {.kind = MIG_FINISH};
    bool good =
        o->saved.bytes <= MIG_STATE_MAX && send_state_frame(o, fd, o->saved.bytes);

    if (good && (o->features & MIG_FEATURE_VERIFY) != 0) {
        good = send_hashes(o, &finish.finish.verify_blocks);
    }
    if (good && o->src.holes) {
        good = mig_out_holes_tell(o);
        finish.finish.missing = mig_bitmap_count(&o->owed);
    }
    finish.finish.rounds = o->round;
    finish.finish.ram_frames = o->frames;
    finish.finish.pages = o->pages;
    finish.finish.state_bytes = o->saved.bytes;
    if (!good || !mig_send_msg(o->t, &finish, &o->err)) {
        mig_note_post(o->t, MIG_SRC_LOST, MIG_END_LOST, o->err.text);
    }
    o->state_ns = loop_now_ns();
}

static double ms_between(uint64_t from_ns, uint64_t to_ns)
{
    return (double)(to_ns - from_ns) / (double)NSEC_PER_MSEC;
}

static void tell_ready(struct out *o)
{
    uint64_t now = loop_now_ns();
    char packed[64] = "", what[80];

    if (o->page_bytes > o->bytes) {
        snprintf(packed, sizeof packed, ", compressed from %" PRIu64 " MiB",
                 (uint64_t)o->page_bytes >> 20);
    }
    if (o->t->params.memory_there) {
        (void)mig_memfd_text(&o->t->ram, what, sizeof what);
    } else {
        snprintf(what, sizeof what, "%" PRIu64 " MiB in %" PRIu32 " rounds",
                 (uint64_t)o->bytes >> 20, o->round);
    }
    snprintf(
        o->summary, sizeof o->summary,
        "%s and %" PRIu64 " ms, frozen for %" PRIu64
        " ms so far (stop %.1f, pages %.1f, state %.1f, check %.1f)%s%s",
        what, (now - o->began_ns) / NSEC_PER_MSEC, (now - o->frozen_ns) / NSEC_PER_MSEC,
        ms_between(o->frozen_ns, o->stopped_ns), ms_between(o->stopped_ns, o->last_ns),
        ms_between(o->last_ns, o->state_ns), ms_between(o->state_ns, now), packed,
        (o->features & MIG_FEATURE_VERIFY) != 0 ? ", memory compared" : "");
    if (o->src.holes) {
        mig_tell_missing(o->t, mig_bitmap_count(&o->owed) * MIG_PAGE, 0);
        mig_out_holes_serve(o);
    }
    tell_progress(o, 0);
    mig_tell_ready(o->t, o->summary, (now - o->frozen_ns) / NSEC_PER_MSEC);
}

/* Ends the data threads and the hearing one. */
static void close_streams(struct out *o)
{
    pthread_mutex_lock(&o->lock);
    o->over = true;
    pthread_cond_broadcast(&o->cond);
    pthread_mutex_unlock(&o->lock);
    mig_stop_raise(&o->t->stop);
    for (unsigned i = 0; i < o->data_count; i++) {
        mig_pool_wait(o->t->pool, MIG_THREAD_DATA0 + i);
    }
    if (o->hearing) {
        mig_pool_wait(o->t->pool, MIG_THREAD_HEAR);
    }
    o->hearing = false;
    o->data_count = 0;
    mig_streams_close(&o->t->streams);
}

static void untrack(struct out *o)
{
    engine_throttle(o->t->conf.engine, 0);
    if (o->tracking) {
        engine_dirty_end(o->t->conf.engine);
    }
    o->tracking = false;
}

/* Called off before it was FROZEN: it goes on. A frozen one waits for its agent. */
static void thaw(struct out *o)
{
    o->freezing = false;
    (void)engine_freeze_undo(o->t->conf.engine, "the migration ended");
}

static void act(struct out *o, const struct mig_acts *acts)
{
    uint32_t bits = acts->bits;

    if (bits & MIG_SRC_DO_SEND_HELLO) {
        send_hello(o);
    }
    if (bits & MIG_SRC_DO_TRACK) {
        o->features = o->ack.features;
        mig_out_compress(o);
        track(o);
    }
    if (bits & MIG_SRC_DO_MARK_ALL && o->tracking) {
        mig_bitmap_set_all(&o->bitmap);
    }
    if (bits & MIG_SRC_DO_NEXT_ROUND) {
        send_round(o, false);
    }
    if (bits & MIG_SRC_DO_FREEZE) {
        freeze(o);
    }
    if (bits & MIG_SRC_DO_SEND_LAST) {
        send_last(o);
    }
    if (bits & MIG_SRC_DO_SEND_STATE) {
        send_state(o);
    }
    if (bits & MIG_SRC_DO_TELL_READY) {
        mig_out_disks_equal(o);
        tell_ready(o);
    }
    if (bits & MIG_SRC_DO_THAW) {
        thaw(o);
    }
    if (bits & MIG_SRC_DO_TELL_SERVING) {
        engine_give_away(o->t->conf.engine);
        mig_tell(o->t, MIG_PHASE_SERVING, "");
    }
    if (bits & MIG_SRC_DO_TELL_ABORT) {
        mig_tell(o->t, MIG_PHASE_FAILED, acts->text); /* its turn all the same */
    }
    if (bits & MIG_SRC_DO_ACCEPT && o->src.state == MIG_SRC_RELEASED) {
        mig_tell(o->t, MIG_PHASE_RELEASED, o->summary);
    }
    if (bits & MIG_SRC_DO_SEND_ABORT) {
        mig_send_abort(o->t, acts);
    }
    if (bits & MIG_SRC_DO_CLOSE) {
        close_streams(o);
    }
    if (bits & MIG_SRC_DO_UNTRACK) {
        untrack(o);
    }
    if (bits & MIG_SRC_DO_TELL_END) {
        mig_tell(o->t, o->src.state == MIG_SRC_DONE ? MIG_PHASE_DONE : MIG_PHASE_FAILED,
                 acts->text);
    }
    if (bits & MIG_SRC_DO_DISCARD && !(bits & MIG_SRC_DO_ACCEPT)) {
        (void)engine_end(o->t->conf.engine, RUN_END_KILLED,
                         o->src.state == MIG_SRC_DONE
                             ? "all of its memory is where it runs"
                             : acts->text);
    }
    /* ACCEPT and REFUSE of THAW and END are the engine's own answers; RUN, ANNOUNCE and
     * DISCARD its and the agent's work. */
}

static void step(struct out *o, unsigned event, const struct mig_note *note)
{
    struct mig_input in = {.event = event, .now_ns = loop_now_ns()};
    struct mig_acts acts;

    if (note != NULL) {
        in.epoch = note->epoch;
        in.code = note->code;
        in.text = note->text[0] != '\0' ? note->text : NULL;
    }
    mig_src_step(&o->src, &in, &acts);
    act(o, &acts);
}

/* The data threads are done with a round, and the destination nearly so. */
static void round_done(struct out *o)
{
    struct mig_round_done done = {.now_ns = loop_now_ns()};
    struct mig_decision decision;
    struct mig_note note = {.event = MIG_SRC_ROUND_AGAIN};
    uint64_t pages = 0;

    if (o->last) {
        o->last_ns = done.now_ns;
        step(o, MIG_SRC_LAST_SENT, NULL);
        return;
    }
    if (o->src.state != MIG_SRC_PRECOPY || is_behind(o)) {
        return;
    }
    if (!o->tracking) {
        step(o, MIG_SRC_ROUND_SWITCH, NULL); /* nothing is left to be sent */
        return;
    }
    if (engine_dirty_collect(o->t->conf.engine, o->bitmap.word, &pages) < 0) {
        (void)vmm_fail(&o->err, -EIO, "KVM's dirty log cannot be read");
        host_error(o);
        return;
    }
    done.took_ns = done.now_ns - o->round_began_ns;
    done.dirtied_bytes = pages * MIG_PAGE + mig_out_disks_collect(o);
    done.left_bytes = left_bytes(o);
    count_sent(o, done.now_ns);
    if (o->cut) {
        step(o, MIG_SRC_ROUND_HOLES, NULL);
        return;
    }
    mig_policy_round(&o->policy, &done, &decision);
    engine_throttle(o->t->conf.engine, decision.throttle);
    tell_progress(o, done.left_bytes);
    if (decision.verdict == MIG_GO_ON) {
        predict_late(o, &done);
    }
    if (decision.verdict == MIG_SWITCH) {
        note.event = MIG_SRC_ROUND_SWITCH;
    } else if (decision.verdict == MIG_GIVE_UP && allows_holes(o)) {
        mig_tell(o->t, MIG_PHASE_COPYING, decision.text);
        note.event = MIG_SRC_ROUND_HOLES;
    } else if (decision.verdict == MIG_GIVE_UP) {
        note.event = MIG_SRC_ROUND_GIVE_UP;
        note.code = decision.code;
        text_copy(note.text, sizeof note.text, decision.text);
    }
    step(o, note.event, &note);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Until it is over, or the agent has the word for good. */
static void follow(struct out *o)
{
    struct mig_note note;

    while (!mig_src_over(&o->src)) {
        uint64_t now = loop_now_ns(), next = UINT64_MAX, heard_ns = o->heard_ns;
        enum mig_src_event due;

        if (heard_ns != 0) {
            mig_src_heard(&o->src, heard_ns);
        }
        due = mig_src_due(&o->src, now, &next);
        if (due != MIG_SRC_EVENTS) {
            step(o, due, NULL);
            continue;
        }
        if (o->src.state == MIG_SRC_PRECOPY || o->src.holes) {
            next = earlier(next, now + TELL_NS);
        }
        if (o->freezing) {
            look_frozen(o);
            next = now;
        }
        if (!mig_note_wait(o->t, next, &note)) {
            if (o->src.holes && o->src.state >= MIG_SRC_READY) {
                (void)tell_round(o, o->round, true);
                mig_out_holes_answer(o);
            } else if (o->src.state == MIG_SRC_PRECOPY && now - o->told_ns >= TELL_NS) {
                o->cut = o->cut || (allows_holes(o) && mig_policy_over(&o->policy, now));
                count_sent(o, now);
                tell_progress(o, left_bytes(o));
                predict(o);
                (void)tell_round(o, o->round, false); /* a round may take long */
            }
            continue;
        }
        if (note.event == MIG_NOTE_ROUND_DONE || note.event == MIG_NOTE_CAUGHT_UP) {
            round_done(o);
        } else if (note.event == MIG_NOTE_WANT) {
            mig_out_holes_answer(o);
        } else {
            step(o, note.event, &note);
        }
    }
}

/* Begin and end
 * ------------------------------------------------------------------------------- */

static void connect_streams(struct out *o)
{
    struct mig_transfer *t = o->t;
    struct mig_join_conf join = {
        .conn = &t->conn,
        .transfer = t->params.transfer,
        .token = t->params.token,
        .name = t->conf.vm_name,
        .count = t->fd_count,
        .timeout_ms = MIG_HANDSHAKE_MS,
    };

    t->conn = (struct mig_conn_conf){
        .key = t->params.plaintext ? NULL : t->key,
        .peer = t->params.peer,
        .body_crc = t->params.plaintext,
        .silence_ms = MIG_CONN_SILENCE_MS,
        .stop = &t->stop,
        .rules = rules,
        .rule_count = sizeof rules / sizeof rules[0],
    };
    if (mig_open(t->fd, &join, &t->streams, &o->err) < 0) {
        mig_note_post(t, MIG_SRC_LOST, MIG_END_LOST, o->err.text);
    } else if (t->streams.count < 2 || !mig_out_data_start(o)) {
        mig_note_post(t, MIG_SRC_HOST_ERROR, MIG_END_HOST, "no memory for its streams");
    } else {
        mig_note_post(t, MIG_SRC_CONNECTED, MIG_OK, NULL); /* before what is heard */
        o->hearing = true;
        mig_pool_run(t->pool, MIG_THREAD_HEAR, hear_main, o);
    }
}

void mig_out_main(void *transfer)
{
    struct mig_transfer *t = transfer;
    struct mig_times times = MIG_TIMES_DEFAULT;
    struct out *o = calloc(1, sizeof *o);
    uint64_t *word = calloc(mig_bitmap_words(t->ram.page_count), sizeof *word);
    struct engine_status now;
    pthread_condattr_t attr;

    engine_status(t->conf.engine, &now);
    if (o == NULL || word == NULL) {
        for (unsigned i = 0; i < t->fd_count; i++) {
            close(t->fd[i]);
        }
        mig_tell(t, MIG_PHASE_FAILED, "no memory for a migration");
    } else {
        o->t = t;
        o->began_ns = loop_now_ns();
        pthread_mutex_init(&o->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&o->cond, &attr);
        pthread_condattr_destroy(&attr);
        mig_bitmap_init(&o->bitmap, word, t->ram.page_count);
        if (!t->params.postcopy) { /* else the end of pre-copy (mig_policy_over) */
            times.timeout_ns = t->params.timeout_ms * NSEC_PER_MSEC;
        }
        mig_src_init(&o->src, &times, now.epoch, o->began_ns);
        connect_streams(o);
        follow(o);
        mig_transfer_ending(t);
        close_streams(o);
        untrack(o);
        for (unsigned i = 0; i < MIG_DATA_MAX; i++) {
            mig_out_data_free(o->data[i]);
        }
        mig_out_holes_free(o);
        mig_out_disks_free(o);
        pthread_cond_destroy(&o->cond);
        pthread_mutex_destroy(&o->lock);
    }
    free(word);
    free(o);
    mig_transfer_ended(t);
}
