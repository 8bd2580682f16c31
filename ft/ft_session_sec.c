/* SPDX-License-Identifier: Apache-2.0 */
/* The secondary: records become what its vCPU thread does; what it makes is compared and
 * kept, until the primary is known to have let it out, or this side goes live. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bug.h"
#include "base/loop.h"
#include "base/text.h"
#include "ft/ft_session_priv.h"

#define SPECULATE_MS 50   /* in the middle of an exit: the rest of it does not come */
#define STUCK_MS     1000 /* without an exit; a slow host only costs a repair */

/* Steps
 * ----------------------------------------------------------------------------------- */

#define TELLS                                                                            \
    (FT_SEC_DO_TELL_READY | FT_SEC_DO_TELL_DRAINED | FT_SEC_DO_TELL_HEARD |              \
     FT_SEC_DO_TELL_END)

/* In the order of the bits. */
static void does(struct ft_session *s, enum ft_secondary_state before,
                 const struct ft_acts *acts)
{
    uint32_t bits = acts->bits;

    if ((bits & FT_SEC_DO_DROP_SET) && !s->applying) {
        s->set.len = 0;
        s->set.whole = s->set.open = false;
        pthread_cond_broadcast(&s->room);
    }
    if (bits & (FT_SEC_DO_SEND_HASHES | FT_SEC_DO_SEND_DIVERGED)) {
        s->hash_wanted = true;
    }
    if (bits & FT_SEC_DO_SEND_READY) {
        ft_queue_word(s, FT_WORD_READY, 0, 0);
    }
    if (bits & FT_SEC_DO_SEND_DIVERGED) {
        ft_queue_word(s, FT_WORD_DIVERGED, 0, s->exits);
    }
    if (bits & FT_SEC_DO_GO_LIVE) {
        (void)engine_live(s->conf.engine, acts->epoch, acts->text);
    }
    if (bits & FT_SEC_DO_CLOSE) {
        ft_close(s);
    }
    if ((bits & TELLS) != 0) {
        ft_tell(s, acts->text);
    } else if (s->sec.state != before) {
        ft_moved(s, acts->text, before == FT_SEC_REPLAY || before == FT_SEC_BARRIER);
    }
    if (bits & FT_SEC_DO_DISCARD) {
        (void)engine_end(s->conf.engine, RUN_END_KILLED, acts->text);
    }
    engine_poke(s->conf.engine);
    pthread_cond_broadcast(&s->more);
}

static struct ft_acts step(struct ft_session *s, enum ft_secondary_event event,
                           uint64_t epoch, const char *text)
{
    enum ft_secondary_state before = s->sec.state;
    struct ft_acts acts;

    ft_secondary_step(
        &s->sec, &(struct ft_input){.event = event, .epoch = epoch, .text = text}, &acts);
    does(s, before, &acts);
    if (s->params.checkpoint && s->sec.state == FT_SEC_QUIET) {
        /* What is whole was taken when it came. */
        (void)step(s, FT_SEC_CAUGHT_UP, 0, text);
    }
    return acts;
}

void ft_sec_event(struct ft_session *s, enum ft_secondary_event event, uint64_t epoch,
                  const char *text)
{
    (void)step(s, event, epoch, text != NULL && text[0] != '\0' ? text : NULL);
}

const char *ft_sec_order(struct ft_session *s, enum ft_secondary_event event,
                         uint64_t epoch)
{
    struct ft_acts acts;

    while (s->taking) {
        pthread_cond_wait(&s->room, &s->lock);
    }
    acts = step(s, event, epoch, NULL);
    if ((acts.bits & FT_SEC_DO_REFUSE) == 0) {
        return NULL;
    }
    text_copy(s->refusal, sizeof s->refusal, acts.text);
    return s->refusal;
}

void ft_sec_begin(struct ft_session *s)
{
    s->follow = (struct ft_follow){0};
    (void)engine_follow(s->conf.engine, "the twin of a protected VM");
    if (s->params.checkpoint) {
        ft_sec_event(s, FT_SEC_SYNCED, 0, NULL);
    }
}

/* What comes
 * -------------------------------------------------------------------------------- */

static bool has_room(const struct ft_session *s, size_t len)
{
    return s->log.tail + len - s->log.head <= FT_LOG_BUFFER;
}

/* Under lock; lets it go while it waits. */
static bool wait_for_room(struct ft_session *s, size_t len)
{
    while (!has_room(s, len) && !s->closed) {
        engine_poke(s->conf.engine); /* what is here already makes room */
        pthread_cond_wait(&s->room, &s->lock);
    }
    return !s->closed;
}

/* PAGES and STATE are put aside until all of a barrier is here. */
static bool put_aside(struct ft_session *s, const struct ft_record *record,
                      const uint8_t *bytes, const char **why)
{
    struct ft_set *set = &s->set;
    struct ft_state piece;

    if (set->len > s->page_count * 2 * GMEM_PAGE_SIZE + FT_KEPT_BYTES * 2) {
        *why = "a barrier brings more than there is";
        return false;
    }
    while (set->whole && !s->closed && !s->params.checkpoint) {
        engine_poke(s->conf.engine);
        pthread_cond_wait(&s->room, &s->lock);
    }
    if (s->closed) {
        return true;
    }
    if (set->len + record->len > set->cap) {
        size_t cap = set->cap + set->cap / 2 + FT_RECORD_MAX;
        uint8_t *more = realloc(set->bytes, cap);

        if (more == NULL) {
            *why = "no memory for what a barrier brings";
            return false;
        }
        set->bytes = more;
        set->cap = cap;
    }
    memcpy(set->bytes + set->len, bytes, record->len);
    set->len += record->len;
    set->position = record->exits;
    set->records++;
    if (s->params.checkpoint) {
        if (record->type == FT_BARRIER) {
            ft_epoch_whole(s, record);
        }
    } else if (!set->open && record->type == FT_STATE &&
               ft_get_state(record, &piece) == FT_OK &&
               piece.offset + piece.len == piece.total) {
        set->whole = true;
        set->at = 0;
    }
    return true;
}

static bool take_record(struct ft_session *s, const struct ft_record *record,
                        const uint8_t *bytes, const char **why)
{
    size_t at, first;

    if (record->type == FT_SET && !s->params.checkpoint) {
        return ft_repair_set(s, record, why);
    }
    if (record->type == FT_HELD && !s->set.open) {
        *why = "an output of a repair where there is none";
        return false;
    }
    if (record->type == FT_PAGES || record->type == FT_STATE || record->type == FT_HELD ||
        s->params.checkpoint) {
        return put_aside(s, record, bytes, why);
    }
    if (!wait_for_room(s, record->len)) {
        return true;
    }
    at = s->log.tail % FT_LOG_BUFFER;
    first = record->len < FT_LOG_BUFFER - at ? record->len : FT_LOG_BUFFER - at;
    memcpy(s->log.at + at, bytes, first);
    memcpy(s->log.at, bytes + first, record->len - first);
    s->log.tail += record->len;
    return true;
}

static bool take_log(struct ft_session *s, const uint8_t *body, size_t len,
                     const char **why)
{
    size_t at = FT_LOG_HEAD_LEN;
    struct ft_log_head head;

    if (len == FT_LOG_HEAD_LEN && !ft_secondary_has_begun(&s->sec)) {
        return true; /* a heartbeat */
    }
    if (s->sec.state >= FT_SEC_LIVE) {
        return true;
    }
    if (!ft_secondary_has_begun(&s->sec)) {
        *why = "its log comes before it has begun";
        return false;
    }
    ft_log_head_get(body, &head);
    while (at < len) {
        struct ft_record record;
        enum ft_reason reason = ft_check(body + at, len - at, &record);

        if (reason == FT_OK) {
            reason = ft_follow(&s->follow, &record);
        }
        if (reason != FT_OK) {
            *why = ft_reason_str(reason);
            return false;
        }
        if (record.exits > s->head.exits + 1) { /* all that comes before it is here */
            s->head.exits = record.exits - 1;
        }
        if (!take_record(s, &record, body + at, why)) {
            return false;
        }
        at += record.len;
        s->ack.received = record.seq;
        s->ack_new = true;
    }
    head.exits = head.exits > s->head.exits ? head.exits : s->head.exits;
    head.released = head.released > s->head.released ? head.released : s->head.released;
    s->head = head;
    s->log_bytes += len - FT_LOG_HEAD_LEN;
    engine_poke(s->conf.engine);
    pthread_cond_broadcast(&s->come);
    return true;
}

static bool take_word(struct ft_session *s, const struct ft_word *word, const char **why)
{
    switch (word->kind) {
    case FT_WORD_START:
        ft_sec_event(s, FT_SEC_START, word->epoch, NULL);
        return true;
    case FT_WORD_TAKEOVER:
        s->takeover = true;
        if (s->params.checkpoint) {
            ft_sec_event(s, FT_SEC_AT_TAKEOVER, 0, NULL);
        }
        engine_poke(s->conf.engine);
        return true;
    case FT_WORD_END:
        ft_sec_event(s, FT_SEC_GOT_END, 0, NULL);
        return true;
    default:
        *why = "the primary sends what only a twin sends";
        return false;
    }
}

bool ft_sec_frame(struct ft_session *s, uint16_t type, const uint8_t *body, size_t len,
                  const char **why)
{
    struct ft_word word;

    if (type == FT_FRAME_LOG) {
        return take_log(s, body, len, why);
    }
    if (type == FT_FRAME_WORD && ft_word_get(body, len, &word)) {
        return take_word(s, &word, why);
    }
    *why = "the primary sends what only a twin sends";
    return false;
}

/* The vCPU thread, under lock
 * ---------------------------------------------------------------- */

/* s->record: the next one, in s->buf. False: none is here. */
bool ft_sec_peek(struct ft_session *s)
{
    size_t at = s->log.head % FT_LOG_BUFFER, first;
    uint8_t head[FT_HEADER_LEN];
    uint32_t len;

    if (s->have_record || s->log.head == s->log.tail) {
        return s->have_record;
    }
    for (unsigned i = 0; i < sizeof head; i++) {
        head[i] = s->log.at[(at + i) % FT_LOG_BUFFER];
    }
    len = ft_length(head);
    first = len < FT_LOG_BUFFER - at ? len : FT_LOG_BUFFER - at;
    memcpy(s->buf, s->log.at + at, first);
    memcpy(s->buf + first, s->log.at, len - first);
    s->have_record = true;
    BUG_ON(ft_check(s->buf, len, &s->record) != FT_OK);
    return true;
}

void ft_sec_take(struct ft_session *s)
{
    s->log.head += s->record.len;
    s->have_record = false;
    pthread_cond_broadcast(&s->room);
}

void ft_sec_differs(struct ft_session *s, const char *what)
{
    if (!s->differs) {
        s->differs = true;
        s->counts.diverged++;
        text_copy(s->difference, sizeof s->difference, what);
        ft_sec_event(s, FT_SEC_DIFFERS, 0, what);
    }
}

/* In the middle of an exit: the record that must be next. False: it does not come. */
static bool next_is(struct ft_session *s, enum ft_type type, uint64_t exits)
{
    uint64_t until_ns = loop_now_ns() + SPECULATE_MS * NSEC_PER_MSEC;

    while (!ft_sec_peek(s) && !s->closed && !s->stopped &&
           (s->sec.state == FT_SEC_REPLAY || loop_now_ns() < until_ns)) {
        uint64_t at_ns = loop_now_ns() + FT_BEAT_MS * NSEC_PER_MSEC;
        struct timespec at = {.tv_sec = (time_t)(at_ns / NSEC_PER_SEC),
                              .tv_nsec = (long)(at_ns % NSEC_PER_SEC)};

        (void)pthread_cond_timedwait(&s->come, &s->lock, &at);
    }
    if (!s->have_record || s->differs) {
        return false;
    }
    if (s->record.type != type || s->record.exits != exits) {
        ft_sec_differs(s, "it did something else than the primary");
        return false;
    }
    return true;
}

void ft_sec_saw_time(struct ft_session *s, uint64_t now_ns)
{
    s->seen_ns = now_ns > s->seen_ns ? now_ns : s->seen_ns;
}

/* The digest of this exit. */
void ft_sec_compare(struct ft_session *s)
{
    struct ft_exit there = {.kind = 0};

    if (ft_get_exit(&s->record, &there) != FT_OK) {
        ft_sec_differs(s, "a digest that cannot be read");
        return;
    }
    ft_sec_take(s);
    if (there.chain != s->chain) {
        ft_sec_differs(s, "the chain of exits is another one");
        return;
    }
    s->equal_exits = s->exits;
    if (s->outputs > s->ack.verified && !s->out_differs) {
        s->ack.verified = s->outputs;
        s->ack_new = true;
        ft_wake_sender(s);
    }
}

void ft_sec_replayed(struct ft_session *s)
{
    s->ack.replayed = s->exits < s->follow.exits ? s->exits : s->follow.exits;
    s->ack_new = true;
}

/* The vCPU thread
 * ---------------------------------------------------------------------------- */

static bool sec_exit(void *ctx, const struct tape_exit *x)
{
    struct ft_session *s = ctx;

    pthread_mutex_lock(&s->lock);
    s->exits = s->published_exits = x->number;
    s->chain = ft_chain_control(s->chain, x);
    s->last = *x;
    s->last.data = NULL;
    s->run_since_ns = 0;
    if (ft_sec_peek(s) && !s->differs && s->record.type == FT_EXIT &&
        s->record.exits == x->number) {
        ft_sec_compare(s);
    }
    ft_sec_replayed(s);
    pthread_mutex_unlock(&s->lock);
    return true;
}

static bool sec_inject(void *ctx, uint64_t position, uint8_t vector)
{
    struct ft_session *s = ctx;

    (void)position;
    s->chain = ft_chain_inject(s->chain, vector);
    return true;
}

static bool sec_clock(void *ctx, uint64_t position, uint64_t *now_ns)
{
    struct ft_session *s = ctx;
    uint64_t v;

    pthread_mutex_lock(&s->lock);
    *now_ns = s->seen_ns;
    if (next_is(s, FT_CLOCK, position) && ft_get_u64(&s->record, &v, 1) == FT_OK) {
        *now_ns = v;
        ft_sec_take(s);
    }
    ft_sec_saw_time(s, *now_ns);
    pthread_mutex_unlock(&s->lock);
    return true;
}

/* It does the same with other bytes: that is made good at the next barrier. */
static void output_differs(struct ft_session *s)
{
    if (!s->out_differs) {
        s->out_differs = true;
        s->counts.diverged_output++;
        ft_queue_word(s, FT_WORD_OUTPUT, 0, s->outputs);
    }
}

/* True: the primary made the same. */
static bool compare_output(struct ft_session *s, const struct tape_out *out)
{
    struct ft_sum sum = ft_output_sum(out);
    struct ft_output there;
    bool same;

    if (ft_get_output(&s->record, &there) != FT_OK) {
        ft_sec_differs(s, "an output's record that cannot be read");
        return false;
    }
    if (there.kind != (uint32_t)out->kind || s->record.device != out->unit ||
        there.ordinal != s->outputs) {
        ft_sec_differs(s, "an output is another one");
        return false;
    }
    same = there.len == out->len && memcmp(&there.sum, &sum, sizeof sum) == 0;
    if (!same) {
        output_differs(s);
    }
    ft_sec_take(s);
    return same;
}

/* A mirrored disk gets only what the primary's got, too, in its order; or, once the guest
 * is live here, all of it (ft_repair_withheld). */
static bool withheld(struct ft_session *s, const struct tape_out *out, bool same)
{
    if (out->kind != TAPE_OUT_DISK || (s->params.mirror >> out->unit & 1) == 0) {
        return false;
    }
    s->withheld[out->unit] = s->withheld[out->unit] || !same;
    return s->withheld[out->unit];
}

static bool sec_output(void *ctx, uint64_t position, const struct tape_out *out)
{
    struct ft_session *s = ctx;
    bool same = false, held;

    pthread_mutex_lock(&s->lock);
    s->outputs++;
    if (next_is(s, FT_OUTPUT, position)) {
        same = compare_output(s, out);
    }
    held = withheld(s, out, same);
    if (!ft_keep_out(s, s->outputs, out, held)) {
        ft_sec_event(s, FT_SEC_HOST_ERROR, 0, "no memory for an output");
    }
    if (s->disk_lost > s->ack.verified || s->kept_bytes > FT_KEPT_BYTES) {
        ft_sec_event(s, FT_SEC_HOST_ERROR, 0,
                     "more of its outputs differ than are kept until a barrier");
    }
    s->written |= ft_is_mirrored(s, out) ? 1u << out->unit : 0;
    if (out->kind == TAPE_OUT_DISK && out->op == REQUEST_FLUSH && out->slot < 32 &&
        (s->params.mirror >> out->unit & 1) != 0) {
        s->flushing[out->unit][out->slot] = s->flush_newest = s->outputs;
    }
    pthread_mutex_unlock(&s->lock);
    return true;
}

static bool sec_may_write(void *ctx, unsigned disk)
{
    struct ft_session *s = ctx;

    return !s->withheld[disk];
}

static void sec_trouble(void *ctx, uint64_t position, const char *what)
{
    struct ft_session *s = ctx;

    (void)position;
    pthread_mutex_lock(&s->lock);
    ft_sec_differs(s, what);
    pthread_mutex_unlock(&s->lock);
}

static void sec_verdict(void *ctx, struct tape_verdict *ret)
{
    (void)ctx;
    *ret = (struct tape_verdict){.good = true};
}

static void sec_mirrored(void *ctx, unsigned disk, uint32_t slot, uint32_t op,
                         uint32_t status)
{
    struct ft_session *s = ctx;
    uint64_t oldest = UINT64_MAX;

    pthread_mutex_lock(&s->lock);
    if (status != 0) {
        ft_sec_event(s, FT_SEC_HOST_ERROR, 0,
                     "its own copy of a mirrored disk cannot be written to");
    }
    if (op == REQUEST_FLUSH && slot < 32) {
        s->flushing[disk][slot] = 0;
    }
    for (unsigned d = 0; d < VM_DISKS_MAX; d++) {
        for (unsigned i = 0; i < 32; i++) {
            if (s->flushing[d][i] != 0 && s->flushing[d][i] < oldest) {
                oldest = s->flushing[d][i];
            }
        }
    }
    oldest = oldest == UINT64_MAX ? s->flush_newest : oldest - 1;
    if (oldest > s->ack.flushed) {
        s->ack.flushed = oldest;
        s->ack_new = true;
        pthread_cond_broadcast(&s->more);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Going live
 * --------------------------------------------------------------------------------- */

static uint64_t sec_live_ns(void *ctx)
{
    struct ft_session *s = ctx;

    return s->head.now_ns > s->seen_ns ? s->head.now_ns : s->seen_ns;
}

/* What the primary is not known to have let out. */
static void sec_live(void *ctx)
{
    struct ft_session *s = ctx;

    pthread_mutex_lock(&s->lock);
    ft_repair_withheld(s);
    ft_let_out_rest(s);
    pthread_mutex_unlock(&s->lock);
}

static bool sec_wants_position(void *ctx)
{
    struct ft_session *s = ctx;
    bool wants;

    pthread_mutex_lock(&s->lock);
    wants = s->differs;
    pthread_mutex_unlock(&s->lock);
    return wants;
}

void ft_sec_watch(struct ft_session *s)
{
    if (s->role == FT_ROLE_SECONDARY && s->run_since_ns != 0 && !s->differs &&
        loop_now_ns() - s->run_since_ns > STUCK_MS * NSEC_PER_MSEC) {
        ft_sec_differs(s, "it makes no exit where the primary made one");
        engine_nudge(s->conf.engine);
    }
}

const struct engine_tape_ops ft_sec_ops = {
    .wants_position = sec_wants_position,
    .may_write = sec_may_write,
    .exit = sec_exit,
    .output = sec_output,
    .inject = sec_inject,
    .clock = sec_clock,
    .trouble = sec_trouble,
    .verdict = sec_verdict,
    .next = ft_sec_next,
    .mirrored = sec_mirrored,
    .live_ns = sec_live_ns,
    .live = sec_live,
};
