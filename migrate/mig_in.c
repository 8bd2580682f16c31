/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination of a transfer: the control thread follows mig_dst, a thread hears the
 * source, one for each data stream reads pages straight into guest memory. Nothing of it
 * runs before its agent's START.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/text.h"
#include "base/uuid.h"
#include "migrate/mig_holes.h"
#include "migrate/mig_in_priv.h"
#include "migrate/mig_memfd.h"
#include "migrate/mig_verify.h"
#include "migrate/mig_zstd.h"

#define STATS_NS (100 * NSEC_PER_MSEC)

static const struct mig_conn_rule rules[] = {
    {MIG_FRAME_RAM, 1, 1, MIG_RAM_FIXED_LEN, MIG_RAM_BODY_MAX},
    {MIG_FRAME_ROUND_END, 1, 1, MIG_ROUND_END_LEN, MIG_ROUND_END_LEN},
    {MIG_FRAME_DISK, 1, 1, MIG_DISK_HEAD_LEN, MIG_DISK_HEAD_LEN + MIG_DISK_RAW_MAX},
    {MIG_FRAME_STATE, 1, 1, 1, MIG_CONN_BODY_MAX},
    {MIG_FRAME_MISSING, 1, 1, MIG_HOLES_FIXED_LEN, MIG_HOLES_LEN_MAX},
    {MIG_FRAME_CONTROL + MIG_HELLO, 1, 1, 0, MIG_CONTROL_MAX},
    {MIG_FRAME_CONTROL + MIG_ROUND, 1, 1, 0, MIG_CONTROL_MAX},
    {MIG_FRAME_CONTROL + MIG_VERIFY, 1, 1, 0, MIG_CONTROL_MAX},
    {MIG_FRAME_CONTROL + MIG_FINISH, 1, 1, 0, MIG_CONTROL_MAX},
    {MIG_FRAME_CONTROL + MIG_ABORT, 1, 1, 0, MIG_CONTROL_MAX},
};

uint64_t mig_in_block_count(const struct in *in)
{
    return (in->t->ram.page_count + MIG_BLOCK_PAGES - 1) / MIG_BLOCK_PAGES;
}

/* Hearing
 * -------------------------------------------------------------------------------------
 */

static bool take_state(struct in *in, uint32_t body_len, struct vmm_error *err)
{
    int fd = engine_state_fd(in->t->conf.engine);
    uint8_t *body = malloc(body_len);
    struct iovec iov = {.iov_base = body, .iov_len = body_len};
    bool good = body != NULL && !in->have_state &&
                mig_conn_recv_body(in->t->streams.conn[0], &iov, 1, err) == 0;

    if (good &&
        (ftruncate(fd, 0) < 0 || pwrite(fd, body, body_len, 0) != (ssize_t)body_len)) {
        (void)vmm_fail(err, -EIO, "no memory for the VM's state");
        good = false;
    } else if (in->have_state) {
        (void)vmm_fail(err, -EPROTO, "the VM's state came twice");
    }
    free(body);
    pthread_mutex_lock(&in->lock);
    in->have_state = in->have_state || good;
    in->state_bytes = body_len;
    pthread_mutex_unlock(&in->lock);
    return good;
}

static bool take_hashes(struct in *in, const struct mig_verify *verify)
{
    uint64_t blocks = mig_in_block_count(in);
    bool good;

    pthread_mutex_lock(&in->lock);
    if (verify->disk > 0) {
        good = mig_in_disk_hashes(in, verify);
        pthread_mutex_unlock(&in->lock);
        return good;
    }
    if (in->hash == NULL) {
        in->hash = calloc(blocks, sizeof *in->hash);
    }
    good = in->hash != NULL && verify->first_block == in->hash_count &&
           verify->count <= blocks - in->hash_count;
    if (good) {
        memcpy(in->hash + in->hash_count, verify->hash,
               verify->count * sizeof verify->hash[0]);
        in->hash_count += verify->count;
    }
    pthread_mutex_unlock(&in->lock);
    return good;
}

static bool heard(struct in *in, const struct mig_msg *msg, struct vmm_error *err)
{
    switch (msg->kind) {
    case MIG_HELLO:
        if (in->hello.version != 0) {
            (void)vmm_fail(err, -EPROTO, "Hello came twice");
            return false;
        }
        in->hello = msg->hello;
        mig_note_post(in->t, MIG_NOTE_HELLO, MIG_OK, NULL);
        return true;
    case MIG_ROUND:
        pthread_mutex_lock(&in->lock);
        in->round = msg->round;
        in->last_ns = msg->round.last && in->last_ns == 0 ? loop_now_ns() : in->last_ns;
        pthread_mutex_unlock(&in->lock);
        return true;
    case MIG_VERIFY:
        if (!take_hashes(in, &msg->verify)) {
            (void)vmm_fail(err, -EPROTO, "hashes of blocks that do not exist, or twice");
            return false;
        }
        return true;
    case MIG_FINISH:
        in->finish = msg->finish;
        in->finished = true;
        mig_note_post(in->t, MIG_NOTE_FINISH, MIG_OK, NULL);
        return true;
    case MIG_ABORT:
        mig_note_post(in->t, MIG_DST_GOT_ABORT, MIG_END_PEER, msg->abort.text);
        return true;
    case MIG_WANT:
    case MIG_RUNS:
    case MIG_ALL:
    case MIG_KIND_INVALID:
    case MIG_HELLO_ACK:
    case MIG_STATS:
    case MIG_READY:
    case MIG_KIND_COUNT:
    default:
        (void)vmm_fail(err, -EPROTO, "the source sent what only a destination sends");
        return false;
    }
}

/* Finish says what was sent: nothing of that may change while it is checked. */
static bool may_follow_finish(uint16_t type)
{
    return type == MIG_FRAME_RAM || type == MIG_FRAME_CONTROL + MIG_ROUND ||
           type == MIG_FRAME_CONTROL + MIG_ABORT;
}

static bool take_control(struct in *in, const struct mig_conn_head *head, uint8_t *body,
                         struct mig_msg *msg, struct vmm_error *err)
{
    struct iovec iov = {.iov_base = body, .iov_len = head->body_len};
    enum mig_msg_reason reason;

    if (in->finished && !may_follow_finish(head->type)) {
        (void)vmm_fail(err, -EPROTO, "a message that may not follow Finish");
        return false;
    }
    if (head->type == MIG_FRAME_STATE) {
        return take_state(in, head->body_len, err);
    }
    if (head->type == MIG_FRAME_MISSING) {
        return mig_in_holes_take(in, head->body_len, err);
    }
    if (head->type == MIG_FRAME_RAM && in->holes.on) {
        return mig_in_holes_pages(in->holes.urgent, in->t->streams.conn[0], true,
                                  head->body_len, err);
    }
    if (head->type < MIG_FRAME_CONTROL) {
        (void)vmm_fail(err, -EPROTO, "pages came on the control stream");
        return false;
    }
    if (mig_conn_recv_body(in->t->streams.conn[0], &iov, 1, err) < 0) {
        return false;
    }
    reason = mig_msg_unpack(head->type - MIG_FRAME_CONTROL, body, head->body_len, msg);
    if (reason != MIG_MSG_OK) {
        (void)vmm_fail(err, -EPROTO, "%s", mig_msg_reason_str(reason));
        return false;
    }
    return heard(in, msg, err);
}

static void hear_main(void *data)
{
    struct in *in = data;
    uint8_t *body = malloc(MIG_CONTROL_MAX);
    struct mig_msg *msg = malloc(sizeof *msg);
    struct vmm_error err = {"no memory"};
    struct mig_conn_head head;
    bool good = body != NULL && msg != NULL;
    int r = 0;

    while (good && (r = mig_conn_recv_known(in->t->streams.conn[0], &head, &err)) == 0) {
        in->heard_ns = loop_now_ns();
        good = take_control(in, &head, body, msg, &err);
    }
    mig_in_post_end(in, good && r != -EPROTO, &err);
    free(msg);
    free(body);
}

/* Control: what mig_dst wants done
 * ----------------------------------------------------------- */

static void host_error(struct in *in)
{
    mig_note_post(in->t, MIG_DST_HOST_ERROR, MIG_END_HOST, in->err.text);
}

static void send_ack(struct in *in)
{
    struct mig_msg *msg = calloc(1, sizeof *msg);

    if (msg == NULL) {
        (void)vmm_fail(&in->err, -ENOMEM, "no memory for an answer");
        host_error(in);
        return;
    }
    msg->kind = MIG_HELLO_ACK;
    msg->hello_ack = in->ack;
    if (!mig_send_msg(in->t, msg, &in->err)) {
        mig_note_post(in->t, MIG_DST_LOST, MIG_END_LOST, in->err.text);
    }
    free(msg);
}

static void receive(struct in *in)
{
    unsigned count = in->t->streams.count - 1;

    if (engine_receive(in->t->conf.engine, &in->err) < 0) {
        host_error(in);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        in->data[i] = calloc(1, sizeof *in->data[i]);
        if (in->data[i] == NULL) {
            (void)vmm_fail(&in->err, -ENOMEM, "no memory for data streams");
            host_error(in);
            return;
        }
        in->data[i]->in = in;
        in->data[i]->index = i;
    }
    in->data_count = count;
    for (unsigned i = 0; i < count; i++) {
        mig_pool_run(in->t->pool, MIG_THREAD_DATA0 + i, mig_in_data_main, in->data[i]);
    }
    in->receiving = true;
    mig_tell(in->t, MIG_PHASE_COPYING, "");
}

/* Whether all that Finish tells of has come; then nothing more may. *ret_beyond: more has
 * come already. */
static bool all_here(struct in *in, bool *ret_beyond)
{
    bool here, beyond = false;

    pthread_mutex_lock(&in->lock);
    here = in->have_state;
    for (unsigned i = 0; i < in->data_count; i++) {
        const struct in_data *d = in->data[i];
        uint32_t reached = d->round + (d->round_frames > 0);

        here = here && d->round == in->finish.rounds;
        beyond = beyond || reached > in->finish.rounds;
    }
    here = here && !beyond;
    in->sealed = in->sealed || here;
    pthread_mutex_unlock(&in->lock);
    *ret_beyond = beyond;
    return here;
}

/* All of the list has come, or none. */
static uint64_t missing_of(const struct in *in)
{
    const struct in_holes *h = &in->holes;

    return h->missing.word == NULL         ? 0
           : h->at < in->t->ram.page_count ? UINT64_MAX
                                           : mig_bitmap_count(&h->missing);
}

static uint64_t hashes_of(const struct in *in)
{
    uint64_t count = in->hash_count;

    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        count += in->copy[i].hash_count;
    }
    return count;
}

static const char *counts_differ(struct in *in)
{
    uint64_t frames = 0, pages = 0;

    for (unsigned i = 0; i < in->data_count; i++) {
        frames += in->data[i]->frames;
        pages += in->data[i]->pages;
    }
    return frames != in->finish.ram_frames || pages != in->finish.pages
               ? "pages are missing"
           : in->state_bytes != in->finish.state_bytes ? "the VM's state was cut"
           : hashes_of(in) != in->finish.verify_blocks
               ? "hashes of its memory or of its disks are missing"
           : missing_of(in) != in->finish.missing ? "the list of missing pages was cut"
                                                  : NULL;
}

/* All pages are here: hashed while the source hashes its own. */
static void hash_mine(struct in *in)
{
    struct mig_verify_seen seen = {0};

    in->mine =
        in->mine != NULL ? in->mine : calloc(mig_in_block_count(in), sizeof *in->mine);
    for (uint64_t i = 0;
         in->mine != NULL && i < mig_in_block_count(in) && !in->t->cancelled; i++) {
        in->mine[i] = mig_verify_hash(&in->t->ram, &seen, i);
    }
}

/* Whether the last round has ended on every stream. */
static bool all_pages_here(struct in *in)
{
    bool here;

    pthread_mutex_lock(&in->lock);
    here = in->round.last && in->receiving;
    for (unsigned i = 0; here && i < in->data_count; i++) {
        here = in->data[i]->round == in->round.round;
    }
    pthread_mutex_unlock(&in->lock);
    return here;
}

static bool memory_differs(struct in *in, char *text, size_t cap)
{
    uint64_t bad = 0, first = 0;

    if (in->hash_count > 0 && in->mine == NULL) {
        hash_mine(in);
    }
    for (uint64_t i = 0; i < in->hash_count && !in->t->cancelled; i++) {
        if (in->mine == NULL || in->mine[i] != in->hash[i]) {
            first = bad++ == 0 ? i : first;
        }
    }
    if (bad > 0) {
        snprintf(text, cap,
                 "memory differs in %" PRIu64 " of %" PRIu64
                 " blocks of 2 MiB, first in block %" PRIu64,
                 bad, in->hash_count, first);
    }
    for (unsigned i = 0; bad == 0 && i < VM_DISKS_MAX; i++) {
        bad = mig_in_disk_differs(in, i, text, cap);
    }
    return bad > 0;
}

static void check(struct in *in)
{
    const char *wrong = counts_differ(in);
    char text[MIG_TEXT_MAX + 1];

    if (wrong != NULL) {
        mig_note_post(in->t, MIG_DST_CHECK_BAD, MIG_END_PROTOCOL, wrong);
    } else if (in->holes.missing.word != NULL && mig_in_holes_begin(in) < 0) {
        mig_note_post(in->t, MIG_DST_CHECK_BAD, MIG_END_HOST, in->err.text);
    } else if (memory_differs(in, text, sizeof text)) {
        mig_note_post(in->t, MIG_DST_CHECK_BAD, MIG_END_VERIFY, text);
    } else if (engine_state_check(in->t->conf.engine, engine_state_fd(in->t->conf.engine),
                                  "of the migration", ENGINE_RAM_APART, &in->err) < 0) {
        mig_note_post(in->t, MIG_DST_CHECK_BAD, MIG_END_STATE, in->err.text);
    } else {
        mig_note_post(in->t, in->holes.on ? MIG_DST_CHECK_HOLES : MIG_DST_CHECK_OK,
                      MIG_OK, NULL);
    }
}

static void send_ready(struct in *in)
{
    struct mig_msg msg = {.kind = MIG_READY};

    msg.ready.pages = in->pages;
    if (!mig_send_msg(in->t, &msg, &in->err)) {
        mig_note_post(in->t, MIG_DST_LOST, MIG_END_LOST, in->err.text);
    }
}

static void tell_ready(struct in *in)
{
    char text[MIG_TEXT_MAX + 1], what[80];
    uint64_t last_ns;

    if (in->t->ram.kept) {
        (void)mig_memfd_text(&in->t->ram, what, sizeof what);
    } else {
        snprintf(what, sizeof what, "%" PRIu64 " MiB in %" PRIu32 " rounds and",
                 (uint64_t)in->bytes >> 20, in->finish.rounds);
    }
    snprintf(text, sizeof text, "%s%s %" PRIu64 " ms%s", what,
             in->t->ram.kept ? " in" : "", (loop_now_ns() - in->began_ns) / NSEC_PER_MSEC,
             in->hash_count > 0 ? ", memory compared" : "");
    pthread_mutex_lock(&in->lock);
    last_ns = in->last_ns;
    pthread_mutex_unlock(&in->lock);
    if (in->holes.on) {
        mig_tell_missing(in->t, in->holes.left * MIG_PAGE, 0);
    }
    mig_tell_ready(in->t, text,
                   last_ns != 0 ? (loop_now_ns() - last_ns) / NSEC_PER_MSEC : 0);
}

static void close_streams(struct in *in)
{
    mig_stop_raise(&in->t->stop);
    for (unsigned i = 0; in->receiving && i < in->data_count; i++) {
        mig_pool_wait(in->t->pool, MIG_THREAD_DATA0 + i);
    }
    if (in->hearing) {
        mig_pool_wait(in->t->pool, MIG_THREAD_HEAR);
    }
    if (in->holes.on) {
        mig_pool_wait(in->t->pool, MIG_THREAD_FAULT);
    }
    in->hearing = in->receiving = false;
    mig_streams_close(&in->t->streams);
}

static void act(struct in *in, const struct mig_acts *acts)
{
    uint32_t bits = acts->bits;

    if (bits & MIG_DST_DO_SEND_ACK) {
        send_ack(in);
    }
    if (bits & MIG_DST_DO_RECEIVE) {
        receive(in);
    }
    if (bits & MIG_DST_DO_CHECK) {
        check(in);
    }
    if (bits & MIG_DST_DO_SEND_READY) {
        send_ready(in);
    }
    if (bits & MIG_DST_DO_TELL_READY) {
        tell_ready(in);
    }
    if (bits & MIG_DST_DO_SEND_RUNS) {
        mig_in_holes_runs(in, acts->epoch);
    }
    if (bits & MIG_DST_DO_SEND_ALL) {
        mig_in_holes_end(in);
    }
    if (bits & MIG_DST_DO_SEND_ABORT) {
        mig_send_abort(in->t, acts);
    }
    if (bits & MIG_DST_DO_CLOSE) {
        close_streams(in);
    }
    if (bits & MIG_DST_DO_TELL_ALL) {
        mig_in_holes_tell(in);
    }
    if (bits & MIG_DST_DO_TELL_END && in->holes.on) {
        mig_in_holes_lost(in, acts->text);
    } else if (bits & MIG_DST_DO_TELL_END) {
        mig_tell(in->t, MIG_PHASE_FAILED, acts->text);
    }
    /* ACCEPT, REFUSE, RUN and DISCARD are the engine's own answers and the agent's work.
     */
}

static void step(struct in *in, unsigned event, const struct mig_note *note)
{
    struct mig_input input = {.event = event, .now_ns = loop_now_ns()};
    struct mig_acts acts;

    if (note != NULL) {
        input.epoch = note->epoch;
        input.code = note->code;
        input.text = note->text[0] != '\0' ? note->text : NULL;
    }
    mig_dst_step(&in->dst, &input, &acts);
    act(in, &acts);
}

static void judge_hello(struct in *in)
{
    struct mig_note note = {.event = MIG_DST_HELLO_BLOCKED, .code = MIG_END_BLOCKED};

    mig_describe_here(in->t, &in->local);
    if (mig_fit(&in->hello, &in->local.here, &in->ack)) {
        mig_in_disks_begin(in);
        if (!uuid_is_none(in->t->params.copy_base)) {
            uuid_format(in->t->params.copy_base, in->ack.copy_base);
        }
        note = (struct mig_note){.event = MIG_DST_HELLO_FITS};
        in->features = in->ack.features;
    } else {
        mig_blockers_text(&in->ack, note.text, sizeof note.text);
    }
    step(in, note.event, &note);
}

static void send_stats(struct in *in)
{
    struct mig_msg msg = {.kind = MIG_STATS};
    struct mig_status s = {0};

    msg.stats.bytes = in->bytes;
    msg.stats.pages = in->pages;
    pthread_mutex_lock(&in->lock);
    msg.stats.round = in->data_count > 0 ? in->data[0]->round : 0;
    for (unsigned i = 1; i < in->data_count; i++) {
        msg.stats.round =
            in->data[i]->round < msg.stats.round ? in->data[i]->round : msg.stats.round;
    }
    s.round = in->round.round;
    s.dirty_bps = in->round.dirty_bps;
    s.bps = in->round.bandwidth_bps;
    s.eta_ms = in->round.eta_ms;
    pthread_mutex_unlock(&in->lock);
    s.sent = in->bytes;
    s.disk_sent = in->disk_bytes;
    if (in->dst.state == MIG_DST_FILLING) {
        mig_tell_missing(in->t, in->holes.left * MIG_PAGE, in->holes.faults);
    }
    mig_tell_progress(in->t, &s);
    if (!mig_send_msg(in->t, &msg, &in->err)) {
        mig_note_post(in->t, MIG_DST_LOST, MIG_END_LOST, in->err.text);
    }
    in->told_ns = loop_now_ns();
}

static void look_for_all(struct in *in)
{
    const struct mig_note late = {.code = MIG_END_PROTOCOL,
                                  .text = "more rounds came than Finish tells of"};
    bool beyond;

    if (in->dst.state != MIG_DST_RECEIVING || !in->have_finish || !in->receiving) {
        return;
    }
    if (all_here(in, &beyond)) {
        step(in, MIG_DST_GOT_FINISH, NULL);
    } else if (beyond) {
        step(in, MIG_DST_BAD_PEER, &late);
    }
}

static void take_note(struct in *in, const struct mig_note *note)
{
    switch (note->event) {
    case MIG_NOTE_HELLO:
        judge_hello(in);
        break;
    case MIG_NOTE_FINISH:
        in->have_finish = true;
        break;
    case MIG_NOTE_ROUND_END:
        if (in->dst.state == MIG_DST_RECEIVING &&
            (in->t->params.copy_count > 0 || in->bytes < in->pages * MIG_PAGE)) {
            send_stats(in); /* of compressed rounds and disks the source waits for that */
        }
        if ((in->ack.features & MIG_FEATURE_VERIFY) != 0 && in->mine == NULL &&
            all_pages_here(in)) {
            hash_mine(in);
        }
        break;
    default:
        step(in, note->event, note);
        break;
    }
    look_for_all(in);
}

static void follow(struct in *in)
{
    struct mig_note note;

    while (!mig_dst_over(&in->dst)) {
        uint64_t now = loop_now_ns(), next = UINT64_MAX, heard_ns = in->heard_ns;
        bool tells = in->dst.state == MIG_DST_RECEIVING ||
                     in->dst.state == MIG_DST_CHECKING ||
                     in->dst.state == MIG_DST_HOLES || in->dst.state == MIG_DST_FILLING;
        enum mig_dst_event due;

        if (heard_ns != 0) {
            mig_dst_heard(&in->dst, heard_ns);
        }
        due = mig_dst_due(&in->dst, now, &next);
        if (due != MIG_DST_EVENTS) {
            step(in, due, NULL);
            continue;
        }
        if (tells && now - in->told_ns >= STATS_NS) {
            send_stats(in);
        }
        if (tells && in->told_ns + STATS_NS < next) {
            next = in->told_ns + STATS_NS;
        }
        if (mig_note_wait(in->t, next, &note)) {
            take_note(in, &note);
        }
    }
}

/* Begin and end
 * ------------------------------------------------------------------------------- */

static void join(struct in *in)
{
    struct mig_transfer *t = in->t;
    struct mig_listen_counts counts = {0};
    struct mig_join_conf join = {
        .conn = &t->conn,
        .transfer = t->params.transfer,
        .token = t->params.token,
        .name = t->conf.vm_name,
        .timeout_ms = 2 * MIG_HANDSHAKE_MS,
    };

    t->conn = (struct mig_conn_conf){
        .key = t->params.plaintext ? NULL : t->key,
        .peer = t->params.peer,
        .server = true,
        .body_crc = t->params.plaintext,
        .silence_ms = MIG_CONN_SILENCE_MS,
        .stop = &t->stop,
        .rules = rules,
        .rule_count = sizeof rules / sizeof rules[0],
    };
    if (mig_listen(t->fd[0], &join, &t->streams, &counts, &in->err) < 0) {
        mig_note_post(t, MIG_DST_LOST, MIG_END_HANDSHAKE, in->err.text);
    } else if (t->streams.count < 2 || t->streams.count > MIG_TRANSFER_STREAMS_MAX) {
        mig_note_post(t, MIG_DST_BAD_PEER, MIG_END_PROTOCOL,
                      "the source opened more streams than are served here");
    } else {
        mig_note_post(t, MIG_DST_CONNECTED, MIG_OK, NULL); /* before what is heard */
        in->hearing = true;
        mig_pool_run(t->pool, MIG_THREAD_HEAR, hear_main, in);
    }
}

void mig_in_main(void *transfer)
{
    struct mig_transfer *t = transfer;
    struct mig_times times = MIG_TIMES_DEFAULT;
    struct in *in = calloc(1, sizeof *in);
    uint64_t *word = calloc(mig_bitmap_words(t->ram.page_count), sizeof *word);
    uint64_t blocks = (t->ram.page_count + MIG_BLOCK_PAGES - 1) / MIG_BLOCK_PAGES;
    uint64_t *whole = calloc(mig_bitmap_words(blocks), sizeof *whole);

    if (in == NULL || word == NULL || whole == NULL) {
        close(t->fd[0]);
        for (unsigned i = 0; i < t->params.copy_count; i++) {
            close(t->params.copy[i]);
        }
        mig_tell(t, MIG_PHASE_FAILED, "no memory for a migration");
    } else {
        in->t = t;
        in->began_ns = loop_now_ns();
        pthread_mutex_init(&in->lock, NULL);
        mig_bitmap_init(&in->filled, word, t->ram.page_count);
        mig_bitmap_init(&in->whole, whole, blocks);
        if (!t->params.postcopy) {
            times.timeout_ns = t->params.timeout_ms * NSEC_PER_MSEC;
        }
        mig_dst_init(&in->dst, &times, in->began_ns);
        join(in);
        follow(in);
        mig_transfer_ending(t);
        t->cancelled = true;
        close_streams(in);
        for (unsigned i = 0; i < MIG_DATA_MAX; i++) {
            if (in->data[i] != NULL) {
                mig_zstd_free(in->data[i]->zstd);
                free(in->data[i]->bounce);
                free(in->data[i]->piece);
            }
            free(in->data[i]);
        }
        mig_in_holes_free(in);
        mig_in_disks_free(in);
        free(in->hash);
        free(in->mine);
        pthread_mutex_destroy(&in->lock);
    }
    free(whole);
    free(word);
    free(in);
    mig_transfer_ended(t);
}
