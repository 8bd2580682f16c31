/* SPDX-License-Identifier: Apache-2.0 */
/* The primary: what its vCPU thread tells becomes the log; outputs are held until they
 * may leave (ft/README.md). */
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "base/loop.h"
#include "base/text.h"
#include "ft/ft_session_priv.h"

#define DIGEST_EXITS 64u   /* an EXIT record at least so often */
#define HELD_SPARE   1024u /* outputs of one position */
#define LOG_SPARE    (FT_LOG_BUFFER / 4)

/* Steps
 * ----------------------------------------------------------------------------------- */

static void let_out_due(struct ft_session *s)
{
    uint64_t cookie, now = loop_now_ns();
    bool sends = false;

    if (!ft_primary_may_release(&s->pri)) {
        return;
    }
    while (ft_commit_next(&s->commit, now, &cookie)) {
        const struct tape_out *out = ft_kept_out(s, cookie);

        sends |= out != NULL && out->kind == TAPE_OUT_DISK && !ft_is_mirrored(s, out);
        ft_let_out(s, cookie);
    }
    if (sends) { /* only its own thread has the disks */
        engine_nudge(s->conf.engine);
    }
    while (s->dropped < s->commit.left && s->dropped < s->commit.ack.verified) {
        ft_drop_out(s, ++s->dropped);
    }
    pthread_cond_broadcast(&s->room);
}

static void release_all(struct ft_session *s)
{
    uint64_t cookie;

    while (ft_commit_next_free(&s->commit, &cookie)) {
        ft_let_out(s, cookie);
    }
    ft_epoch_release_all(s);
    s->released_all = true;
    pthread_cond_broadcast(&s->room);
}

static void stop_for_good(struct ft_session *s, const char *why)
{
    s->stand = true;
    (void)engine_freeze(s->conf.engine, why);
}

/* The vCPU stands at a position, or the VM is frozen: as it was before. */
static void run(struct ft_session *s, uint64_t epoch, const char *why)
{
    s->stand = false;
    s->epoch.last = 0;
    (void)engine_thaw(s->conf.engine, epoch, why);
    engine_nudge(s->conf.engine);
}

#define TELLS                                                                            \
    (FT_PRI_DO_TELL_ARMED | FT_PRI_DO_TELL_HOLD | FT_PRI_DO_TELL_HEARD |                 \
     FT_PRI_DO_TELL_SWITCH | FT_PRI_DO_TELL_LOST | FT_PRI_DO_TELL_END)

/* In the order of the bits. */
static void does(struct ft_session *s, enum ft_primary_state before,
                 const struct ft_acts *acts)
{
    uint32_t bits = acts->bits;

    if (bits & FT_PRI_DO_STOP) {
        s->stand = true;
        if (s->pri.state == FT_PRI_LOST) {
            stop_for_good(s, acts->text);
        }
        engine_nudge(s->conf.engine);
    }
    if (bits & FT_PRI_DO_SEND_START) {
        ft_queue_word(s, FT_WORD_START, acts->epoch, 0);
    }
    if (bits & FT_PRI_DO_SEND_BARRIER) {
        s->barrier_wanted = true;
        if (s->pri.state == FT_PRI_SWITCHING) {
            s->barrier_reason = FT_BARRIER_SWITCHOVER;
        }
        pthread_cond_broadcast(&s->more);
        engine_nudge(s->conf.engine);
    }
    if (bits & FT_PRI_DO_SEND_TAKEOVER) {
        ft_queue_word(s, FT_WORD_TAKEOVER, s->pri.epoch, 0);
    }
    if (bits & FT_PRI_DO_SEND_END) {
        ft_queue_word(s, FT_WORD_END, s->pri.epoch, 0);
    }
    if (bits & FT_PRI_DO_RELEASE) {
        release_all(s);
    }
    if (bits & FT_PRI_DO_RUN) {
        run(s, acts->epoch, acts->text);
    }
    if (bits & FT_PRI_DO_CLOSE) {
        s->closing = true;
        pthread_cond_broadcast(&s->more);
    }
    if ((bits & TELLS) != 0) {
        ft_tell(s, acts->text);
    } else if (s->pri.state != before) {
        ft_moved(s, acts->text, before == FT_PRI_ON || before == FT_PRI_BARRIER);
    }
    if (bits & FT_PRI_DO_DISCARD) {
        s->stand = true;
        (void)engine_end(s->conf.engine, RUN_END_KILLED, acts->text);
    }
}

static struct ft_acts step(struct ft_session *s, enum ft_primary_event event,
                           uint64_t epoch, const char *text)
{
    enum ft_primary_state before = s->pri.state;
    struct ft_acts acts;

    ft_primary_step(
        &s->pri, &(struct ft_input){.event = event, .epoch = epoch, .text = text}, &acts);
    does(s, before, &acts);
    return acts;
}

void ft_pri_event(struct ft_session *s, enum ft_primary_event event, uint64_t epoch,
                  const char *text)
{
    if (event == FT_PRI_HOST_ERROR && text != NULL && s->lost_text[0] == '\0') {
        text_copy(s->lost_text, sizeof s->lost_text, text);
    }
    (void)step(s, event, epoch, text != NULL && text[0] != '\0' ? text : NULL);
}

const char *ft_pri_order(struct ft_session *s, enum ft_primary_event event,
                         uint64_t epoch)
{
    struct ft_acts acts = step(s, event, epoch, NULL);

    if ((acts.bits & FT_PRI_DO_REFUSE) == 0) {
        return NULL;
    }
    text_copy(s->refusal, sizeof s->refusal, acts.text);
    return s->refusal;
}

void ft_pri_begin(struct ft_session *s)
{
    s->stand = true; /* until the claim names the twin */
    if (s->params.checkpoint) {
        ft_epoch_make_room(&s->epoch.staged);
    }
    s->barrier_due_ns = loop_now_ns() + s->params.barrier_ms * NSEC_PER_MSEC;
}

bool ft_pri_frame(struct ft_session *s, uint16_t type, const uint8_t *body, size_t len,
                  const char **why)
{
    struct ft_word word;
    struct ft_ack ack;

    if (type == FT_FRAME_ACK && ft_ack_get(body, len, &ack)) {
        bool flushed = ack.flushed > s->commit.ack.flushed;
        bool barrier = ack.barrier > s->commit.ack.barrier;

        if ((!s->params.checkpoint &&
             (ack.barrier > s->barrier || (barrier && !s->barrier_open))) ||
            !ft_commit_acked(&s->commit, &ack)) {
            *why = "the twin acknowledges what it was never sent";
            return false;
        }
        if (barrier && s->params.checkpoint) {
            ft_epoch_acked(s, ack.barrier);
        } else if (barrier && ack.barrier == s->barrier) {
            ft_commit_barrier_done(&s->commit);
            ft_barrier_done(s);
            ft_alike_acked(&s->alike, ack.barrier);
            ft_pri_event(s, FT_PRI_BARRIER_DONE, 0, NULL);
        }
        let_out_due(s);
        if (s->lingers) {
            ft_wake_sender(s);
        }
        if (flushed) {
            engine_nudge(s->conf.engine);
        }
        return true;
    }
    if (type == FT_FRAME_WORD && ft_word_get(body, len, &word)) {
        if (word.kind == FT_WORD_READY) {
            ft_pri_event(s, FT_PRI_SYNCED, 0, NULL);
            return true;
        }
        if (word.kind == FT_WORD_DIVERGED || word.kind == FT_WORD_OUTPUT) {
            ft_barrier_diverged(s, word.kind == FT_WORD_OUTPUT);
            return true;
        }
    }
    if (type == FT_FRAME_HASHES) {
        return ft_barrier_hashes(s, body, len, why);
    }
    *why = "the twin sends what only a primary sends";
    return false;
}

/* The log
 * --------------------------------------------------------------------------------- */

/* What is written may be sent. */
void ft_pri_publish(struct ft_session *s, uint64_t position)
{
    if (s->log.end == s->log.tail && position == s->published_exits) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->log.tail = s->log.end;
    s->published_exits = position;
    ft_wake_sender(s);
    pthread_mutex_unlock(&s->lock);
}

static bool has_room(const struct ft_session *s, uint64_t len)
{
    return s->log.end + len - s->log.head <= FT_LOG_BUFFER;
}

/* Waits for room; what is over needs no log. */
static bool room_for(struct ft_session *s, uint64_t len)
{
    bool room;

    pthread_mutex_lock(&s->lock);
    while (!has_room(s, len) && !s->released_all && !s->closed && !s->stopped) {
        s->log.tail = s->log.end;
        pthread_cond_broadcast(&s->more);
        pthread_cond_wait(&s->room, &s->lock);
    }
    room = has_room(s, len) && !s->released_all && !s->stopped;
    pthread_mutex_unlock(&s->lock);
    return room;
}

void ft_pri_emit(struct ft_session *s, struct bytes_wr *wr, uint64_t position)
{
    size_t len = ft_finish(wr, s->seq + 1), at = s->log.end % FT_LOG_BUFFER, first;

    BUG_ON(len == 0);
    if (!room_for(s, len)) {
        return;
    }
    first = len < FT_LOG_BUFFER - at ? len : FT_LOG_BUFFER - at;
    memcpy(s->log.at + at, wr->buf, first);
    memcpy(s->log.at, wr->buf + first, len - first);
    s->log.end += len;
    s->seq++;
    pthread_mutex_lock(&s->lock);
    ft_commit_logged(&s->commit, s->seq, position);
    pthread_mutex_unlock(&s->lock);
}

void ft_pri_record(struct ft_session *s, struct bytes_wr *wr, enum ft_type type,
                   uint64_t position, uint32_t device)
{
    ft_begin(wr, s->buf, FT_RECORD_MAX, type, 0, position, device);
}

static void emit_u64(struct ft_session *s, enum ft_type type, uint64_t position,
                     uint64_t a)
{
    struct bytes_wr wr;

    ft_pri_record(s, &wr, type, position, 0);
    ft_put_u64(&wr, a);
    ft_pri_emit(s, &wr, position);
}

/* The vCPU thread
 * ---------------------------------------------------------------------------- */

void ft_pri_digest(struct ft_session *s, uint64_t position, const struct tape_exit *x)
{
    struct ft_exit rec = {.kind = (uint32_t)x->kind,
                          .address = x->address,
                          .size = x->size,
                          .len = x->len,
                          .data = x->data,
                          .chain = s->chain,
                          .boundary = x->boundary};
    struct bytes_wr wr;

    s->last_digest = s->outputs;
    s->digest_exits = position;
    ft_pri_record(s, &wr, FT_EXIT, position, 0);
    ft_put_exit(&wr, &rec);
    ft_pri_emit(s, &wr, position);
}

static bool pri_exit(void *ctx, const struct tape_exit *x)
{
    struct ft_session *s = ctx;

    s->exits = x->number;
    s->chain = ft_chain_control(s->chain, x);
    if (!x->boundary ||
        (s->last_digest == s->outputs && x->number - s->digest_exits < DIGEST_EXITS)) {
        return true;
    }
    ft_pri_digest(s, x->number, x);
    ft_pri_publish(s, x->number - 1); /* nothing is said yet of what comes at it */
    return true;
}

/* Room in the list of outputs; at most a position's worth is missing (HELD_SPARE). */
static void wait_for_list(struct ft_session *s)
{
    while (ft_commit_full(&s->commit) && !s->released_all && !s->stopped) {
        s->log.tail = s->log.end;
        pthread_cond_broadcast(&s->more);
        pthread_cond_wait(&s->room, &s->lock);
    }
}

static bool pri_output(void *ctx, uint64_t position, const struct tape_out *out)
{
    struct ft_session *s = ctx;
    struct ft_output rec = {.ordinal = ++s->outputs,
                            .kind = (uint32_t)out->kind,
                            .len = out->len,
                            .sum = ft_output_sum(out)};
    struct bytes_wr wr;
    bool disk = out->kind == TAPE_OUT_DISK;

    ft_pri_record(s, &wr, FT_OUTPUT, position, out->unit);
    ft_put_output(&wr, &rec);
    ft_pri_emit(s, &wr, position);
    pthread_mutex_lock(&s->lock);
    wait_for_list(s);
    if (s->released_all) {
        if (!disk) {
            engine_put_out(s->conf.engine, out);
        }
    } else if (!s->stopped && ft_keep_out(s, s->outputs, out, disk)) {
        (void)ft_commit_hold(&s->commit, s->seq, loop_now_ns(), s->outputs, false);
        if (ft_is_mirrored(s, out) && out->op == REQUEST_FLUSH && out->slot < 32) {
            s->flush[out->unit][out->slot] = s->outputs;
        }
    } else if (!s->stopped) {
        ft_pri_event(s, FT_PRI_HOST_ERROR, 0, "no memory for an output");
    }
    pthread_mutex_unlock(&s->lock);
    return true;
}

static bool pri_inject(void *ctx, uint64_t position, uint8_t vector)
{
    struct ft_session *s = ctx;

    (void)position;
    s->chain = ft_chain_inject(s->chain, vector);
    return true;
}

static bool pri_clock(void *ctx, uint64_t position, uint64_t *now_ns)
{
    emit_u64(ctx, FT_CLOCK, position, *now_ns);
    return true;
}

static void pri_control(void *ctx, uint64_t position, enum tape_control what)
{
    emit_u64(ctx, FT_CONTROL, position, (uint64_t)what);
}

static void pri_input(void *ctx, uint64_t position, unsigned dev_index,
                      const struct dev_input *in)
{
    struct ft_session *s = ctx;
    struct bytes_wr wr;

    ft_pri_record(s, &wr, FT_INPUT, position, dev_index);
    ft_put_input(&wr, in);
    ft_pri_emit(s, &wr, position);
}

void ft_pri_pages(void *ctx, uint64_t position, uint64_t first, uint64_t count,
                  const uint8_t *bytes)
{
    struct ft_session *s = ctx;

    for (uint64_t i = first; i < first + count; i++) {
        s->dirty[i / 64] |= UINT64_C(1) << i % 64; /* the twin may not come to take it */
    }
    while (count > 0) {
        uint64_t n = ft_pages_fit(first, count, bytes == NULL);
        struct bytes_wr wr;

        ft_pri_record(s, &wr, FT_PAGES, position, 0);
        ft_pages_put(&wr, &s->ram, first, n, bytes);
        ft_pri_emit(s, &wr, position);
        bytes = bytes ? bytes + n * GMEM_PAGE_SIZE : NULL;
        first += n;
        count -= n;
    }
}

void ft_pri_state(void *ctx, uint64_t position, const uint8_t *bytes, size_t len)
{
    struct ft_session *s = ctx;

    for (size_t at = 0; at < len; at += FT_STATE_CHUNK) {
        size_t n = len - at < FT_STATE_CHUNK ? len - at : FT_STATE_CHUNK;
        struct bytes_wr wr;

        ft_pri_record(s, &wr, FT_STATE, position, 0);
        ft_put_state(&wr, (uint32_t)len, (uint32_t)at, bytes + at, (uint32_t)n);
        ft_pri_emit(s, &wr, position);
    }
}

static void pri_trouble(void *ctx, uint64_t position, const char *what)
{
    struct ft_session *s = ctx;

    (void)position;
    pthread_mutex_lock(&s->lock);
    ft_pri_event(s, FT_PRI_HOST_ERROR, 0, what);
    pthread_mutex_unlock(&s->lock);
}

static void pri_verdict(void *ctx, struct tape_verdict *ret)
{
    (void)ctx;
    *ret = (struct tape_verdict){.good = true};
}

/* What an input led to (an answer of a disk: the write that waited for its slot) is not
 * in the digest of the exit before it, and the guest may sleep until it has left. */
static void digest_inputs(struct ft_session *s, uint64_t position)
{
    static const struct tape_exit nothing = {.kind = TAPE_EXIT_BARRIER, .boundary = true};

    if (s->last_digest != s->outputs && !s->released_all) {
        ft_pri_digest(s, position, &nothing);
    }
}

static bool pri_may_leave(void *ctx, uint64_t position)
{
    struct ft_session *s = ctx;
    bool may;

    digest_inputs(s, position);
    ft_barrier_turn(s, position);
    ft_pri_publish(s, position);
    pthread_mutex_lock(&s->lock);
    may = s->released_all ||
          (!s->stand && has_room(s, LOG_SPARE) && s->kept_bytes < FT_KEPT_BYTES &&
           s->commit.made - s->commit.left < FT_HELD_MAX - HELD_SPARE);
    pthread_mutex_unlock(&s->lock);
    return may;
}

/* Under lock, the guest is off and all that it made has left: both copies get the rest.
 */
static bool copies_are_alike(struct ft_session *s)
{
    enum ft_alike_step step = ft_alike_next(&s->alike, s->params.mirror != 0,
                                            s->pri.state == FT_PRI_ON, s->barrier);

    if (step == FT_ALIKE_BEGIN) {
        s->barrier_reason = FT_BARRIER_END;
        ft_pri_event(s, FT_PRI_BARRIER_DUE, 0, NULL);
    }
    return step == FT_ALIKE_MAY_END;
}

static bool pri_may_end(void *ctx)
{
    struct ft_session *s = ctx;
    bool may;

    pthread_mutex_lock(&s->lock);
    may = s->released_all || s->stopped ||
          (!s->stand && s->commit.made == s->commit.left && copies_are_alike(s));
    pthread_mutex_unlock(&s->lock);
    return may;
}

static bool pri_wants_position(void *ctx)
{
    struct ft_session *s = ctx;
    bool wants;

    pthread_mutex_lock(&s->lock);
    wants = s->stand;
    pthread_mutex_unlock(&s->lock);
    return wants;
}

static uint64_t pri_holds(void *ctx, unsigned disk)
{
    struct ft_session *s = ctx;

    return (s->params.mirror >> disk & 1) != 0 ? 0 : s->outputs;
}

static uint64_t pri_released(void *ctx)
{
    struct ft_session *s = ctx;
    uint64_t left;

    pthread_mutex_lock(&s->lock);
    left = s->released_all ? UINT64_MAX : s->commit.left;
    pthread_mutex_unlock(&s->lock);
    return left;
}

static bool pri_may_answer(void *ctx, unsigned disk, uint32_t slot)
{
    struct ft_session *s = ctx;
    bool may;

    pthread_mutex_lock(&s->lock);
    may = s->released_all || slot >= 32 || s->commit.ack.flushed >= s->flush[disk][slot];
    pthread_mutex_unlock(&s->lock);
    return may;
}

static bool pri_over(void *ctx)
{
    struct ft_session *s = ctx;

    return s->released_all;
}

const struct engine_tape_ops ft_pri_ops = {
    .exit = pri_exit,
    .output = pri_output,
    .inject = pri_inject,
    .clock = pri_clock,
    .trouble = pri_trouble,
    .verdict = pri_verdict,
    .input = pri_input,
    .control = pri_control,
    .pages = ft_pri_pages,
    .state = ft_pri_state,
    .may_leave = pri_may_leave,
    .may_end = pri_may_end,
    .wants_position = pri_wants_position,
    .holds = pri_holds,
    .released = pri_released,
    .may_answer = pri_may_answer,
    .over = pri_over,
};
