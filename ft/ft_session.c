/* SPDX-License-Identifier: Apache-2.0 */
/* A session's life, its threads and the bytes of its channel. What the two roles do is in
 * ft_session_pri.c and ft_session_sec.c. */
#include "ft/ft_session_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "base/text.h"
#include "vmm/priority.h"
#include "vmm/sandbox.h"

#define OPEN_MS      5000
#define LAST_WORD_MS 500   /* the other side hears that it is over */
#define SILENCE_MS   10000 /* a send that does not move for so long fails */

/* Outputs that come thick leave in batches: a frame, its acknowledgement and their
 * wake-ups are dearer than what made one output (doc/decisions.md). */
#define LINGER_NS      (250 * NSEC_PER_USEC)
#define LINGER_OUTPUTS 4    /* on their way, before more of them linger */
#define LINGER_LOG     8192 /* bytes to be sent; more do not linger */
#define LINGER_BEHIND  2048 /* bytes of log that the twin has and did not replay */

static const struct mig_conn_rule rules[] = {
    {FT_FRAME_LOG, 1, 1, FT_LOG_HEAD_LEN, FT_LOG_HEAD_LEN + FT_LOG_BODY_MAX},
    {FT_FRAME_ACK, 1, 1, FT_ACK_LEN, FT_ACK_LEN},
    {FT_FRAME_WORD, 1, 1, FT_WORD_LEN, FT_WORD_LEN},
    {FT_FRAME_HASHES, 1, 1, FT_HASHES_HEAD_LEN, FT_HASHES_LEN_MAX},
};

/* Status
 * ---------------------------------------------------------------------------------- */

static void wake_loop(struct ft_session *s)
{
    uint64_t one = 1;

    (void)!write(s->event_fd, &one, sizeof one);
}

static bool is_over(const struct ft_session *s)
{
    return s->role == FT_ROLE_PRIMARY
               ? s->pri.state == FT_PRI_ALONE || s->pri.state == FT_PRI_ENDED
               : s->sec.state == FT_SEC_LIVE || s->sec.state == FT_SEC_GONE;
}

static void append(char *text, size_t cap, const char *more)
{
    size_t len = strlen(text);

    text_copy(text + len, cap - len, more);
}

/* A twin that has lost its primary says with everything why; a primary, where nothing
 * newer is to be said (the barrier that was under way is done). */
static void say(struct ft_session *s, const char *text)
{
    char *out = s->status.text;

    text_copy(out, sizeof s->status.text,
              s->sec.state == FT_SEC_DIVERGED                 ? s->difference
              : s->role == FT_ROLE_PRIMARY && text[0] == '\0' ? s->lost_text
                                                              : text);
    if (s->role == FT_ROLE_SECONDARY && s->lost_text[0] != '\0') {
        append(out, sizeof s->status.text, text[0] != '\0' ? ": " : "");
        append(out, sizeof s->status.text, s->lost_text);
    }
}

static void note_state(struct ft_session *s)
{
    s->status.role = s->role;
    s->status.over = is_over(s);
    if (s->role == FT_ROLE_PRIMARY) {
        s->status.state = (unsigned)s->pri.state;
        s->status.state_name = ft_primary_state_str(s->pri.state);
        s->status.epoch = s->pri.epoch;
    } else {
        s->status.state = (unsigned)s->sec.state;
        s->status.state_name = ft_secondary_state_str(s->sec.state);
        s->status.epoch = s->sec.epoch;
    }
}

/* To a barrier and back is no news. */
static bool is_routine(const struct ft_session *s)
{
    return s->role == FT_ROLE_PRIMARY
               ? s->pri.state == FT_PRI_ON || s->pri.state == FT_PRI_BARRIER
               : s->sec.state == FT_SEC_REPLAY || s->sec.state == FT_SEC_BARRIER;
}

void ft_moved(struct ft_session *s, const char *text, bool was_routine)
{
    if (was_routine && is_routine(s)) {
        note_state(s);
    } else {
        ft_tell(s, text);
    }
}

/* Nobody is told that this side could take over while an acknowledgement is being sent:
 * its sender tells it then. */
void ft_tell(struct ft_session *s, const char *text)
{
    text_copy(s->told_text, sizeof s->told_text, text);
    if (s->sending_ack && !ft_secondary_may_ack(&s->sec)) {
        s->tell_waits = true;
        return;
    }
    s->tell_waits = false;
    s->status.change++;
    note_state(s);
    say(s, text);
    wake_loop(s);
}

void ft_session_status(struct ft_session *s, struct ft_session_status *ret_status)
{
    pthread_mutex_lock(&s->lock);
    *ret_status = s->status;
    ret_status->outputs = s->role == FT_ROLE_PRIMARY ? s->commit.made : s->outputs;
    ret_status->exits = s->published_exits;
    if (s->role == FT_ROLE_PRIMARY) {
        ret_status->replayed = s->commit.ack.replayed;
        ret_status->verified = s->commit.ack.verified;
        ret_status->released = s->commit.left;
        ret_status->lag_ns = ft_commit_age_ns(&s->commit, loop_now_ns());
    } else {
        ret_status->replayed = s->ack.replayed;
        ret_status->verified = s->ack.verified;
        ret_status->released = s->head.released;
    }
    if (s->params.checkpoint && s->role == FT_ROLE_PRIMARY) {
        ret_status->outputs = s->epoch.made;
        ret_status->released = s->epoch.left;
        ret_status->verified = s->epoch.left;
        ret_status->checkpoints = s->epoch.acked;
        ret_status->pages = s->epoch.pages;
        ret_status->stood = s->epoch.stood;
        ret_status->pause_ns = s->epoch.pause_ns;
        ret_status->ack_ns = s->epoch.stop_to_ack_ns;
    }
    ret_status->log_bytes = s->log_bytes;
    ret_status->counts = s->counts;
    ret_status->reason = s->reason;
    ret_status->alike = s->role == FT_ROLE_PRIMARY && s->alike.done;
    pthread_mutex_unlock(&s->lock);
}

int ft_session_fd(const struct ft_session *s)
{
    return s->event_fd;
}

void ft_session_clear(struct ft_session *s)
{
    uint64_t count;

    (void)!read(s->event_fd, &count, sizeof count);
}

bool ft_is_mirrored(const struct ft_session *s, const struct tape_out *out)
{
    return out->kind == TAPE_OUT_DISK && (s->params.mirror >> out->unit & 1) != 0;
}

/* Outputs
 * --------------------------------------------------------------------------------- */

static struct ft_out *out_at(struct ft_session *s, uint64_t ordinal)
{
    return &s->kept[ordinal % FT_HELD_MAX];
}

void ft_drop_out(struct ft_session *s, uint64_t ordinal)
{
    struct ft_out *o = out_at(s, ordinal);

    if (o->ordinal == ordinal && ordinal != 0) {
        s->kept_bytes -= o->out.data ? o->out.len : 0;
        free((void *)(uintptr_t)o->out.data);
        *o = (struct ft_out){.ordinal = 0};
    }
}

const struct tape_out *ft_kept_out(const struct ft_session *s, uint64_t ordinal)
{
    const struct ft_out *o = &s->kept[ordinal % FT_HELD_MAX];

    return o->ordinal == ordinal ? &o->out : NULL;
}

bool ft_keep_out(struct ft_session *s, uint64_t ordinal, const struct tape_out *out,
                 bool write)
{
    struct ft_out *o = out_at(s, ordinal);
    uint8_t *copy = NULL;

    if (out->len > 0 && (out->kind != TAPE_OUT_DISK || write)) {
        copy = malloc(out->len);
        if (copy == NULL) {
            return false;
        }
        memcpy(copy, out->data, out->len);
    }
    if (o->ordinal != 0 && o->write && ft_is_mirrored(s, &o->out)) {
        s->disk_lost = o->ordinal;
    }
    ft_drop_out(s, o->ordinal);
    o->out = *out;
    o->out.data = copy;
    o->ordinal = ordinal;
    o->write = write;
    s->kept_bytes += copy ? out->len : 0;
    return true;
}

void ft_let_out(struct ft_session *s, uint64_t ordinal)
{
    struct ft_out *o = out_at(s, ordinal);

    if (o->ordinal == ordinal) {
        if (o->out.kind != TAPE_OUT_DISK) {
            engine_put_out(s->conf.engine, &o->out);
        }
        if (!o->write) { /* of a disk: until the twin is known to have made the same */
            ft_drop_out(s, ordinal);
        }
    }
}

void ft_let_out_rest(struct ft_session *s)
{
    uint64_t count = s->outputs > s->head.released ? s->outputs - s->head.released : 0;

    count = count < FT_HELD_MAX ? count : FT_HELD_MAX; /* no more are kept */
    while (count > 0) {
        ft_let_out(s, s->outputs - --count);
    }
}

static void drop_outs(struct ft_session *s)
{
    for (unsigned i = 0; i < FT_HELD_MAX; i++) {
        ft_drop_out(s, s->kept[i].ordinal);
    }
}

/* Sending
 * --------------------------------------------------------------------------------- */

void ft_queue_word(struct ft_session *s, enum ft_word_kind kind, uint64_t epoch,
                   uint64_t number)
{
    BUG_ON(s->word_count == FT_WORDS_MAX);
    s->word[s->word_count++] =
        (struct ft_queued_word){.word = {kind, epoch, number}, .after = s->log.tail};
    pthread_cond_broadcast(&s->more);
}

void ft_close(struct ft_session *s)
{
    s->closed = true;
    mig_stop_raise(&s->stop);
    pthread_cond_broadcast(&s->more);
    pthread_cond_broadcast(&s->room);
    pthread_cond_broadcast(&s->come);
    engine_poke(s->conf.engine);
}

static void lost(struct ft_session *s, const char *why)
{
    pthread_mutex_lock(&s->lock);
    if (!s->closed) {
        ft_close(s);
        text_copy(s->lost_text, sizeof s->lost_text, why);
        if (s->role == FT_ROLE_PRIMARY) {
            ft_pri_event(s, FT_PRI_BROKEN, 0, why);
        } else {
            ft_sec_event(s, FT_SEC_BROKEN, 0, why);
        }
    }
    pthread_mutex_unlock(&s->lock);
}

bool ft_send_body(struct ft_session *s, uint16_t type, struct iovec *iov, size_t count)
{
    struct vmm_error err;

    if (mig_conn_send(s->streams.conn[0], type, 1, 0, iov, count, &err) < 0) {
        lost(s, err.text);
        return false;
    }
    return true;
}

/* The parts of the ring from `from` to `to`. */
static size_t parts(const struct ft_session *s, uint64_t from, uint64_t to,
                    struct iovec *iov)
{
    size_t at = from % FT_LOG_BUFFER, len = (size_t)(to - from);
    size_t first = len < FT_LOG_BUFFER - at ? len : FT_LOG_BUFFER - at;

    iov[0] = (struct iovec){s->log.at + at, first};
    iov[1] = (struct iovec){s->log.at, len - first};
    return len == 0 ? 0 : len > first ? 2 : 1;
}

static uint32_t length_at(const struct ft_session *s, uint64_t at)
{
    uint8_t head[FT_HEADER_LEN];

    for (unsigned i = 0; i < sizeof head; i++) {
        head[i] = s->log.at[(at + i) % FT_LOG_BUFFER];
    }
    return ft_length(head);
}

/* As many whole records as one frame takes. */
static uint64_t frame_end(const struct ft_session *s, uint64_t from, uint64_t to)
{
    uint64_t end = from;

    if (to - from <= FT_LOG_BODY_MAX) {
        return to;
    }
    while (end + length_at(s, end) - from <= FT_LOG_BODY_MAX) {
        end += length_at(s, end);
    }
    return end;
}

static bool word_due(const struct ft_session *s)
{
    return s->word_count > 0 && s->word[0].after <= s->log.head;
}

static bool send_word(struct ft_session *s)
{
    uint8_t body[FT_WORD_LEN];
    struct iovec iov = {body, sizeof body};

    ft_word_put(&s->word[0].word, body);
    s->word_count--;
    memmove(s->word, s->word + 1, s->word_count * sizeof s->word[0]);
    pthread_mutex_unlock(&s->lock);
    bool good = ft_send_body(s, FT_FRAME_WORD, &iov, 1);
    pthread_mutex_lock(&s->lock);
    return good;
}

/* The primary may die at any moment after this: what its twin takes for outside is. */
static uint64_t outside(struct ft_session *s)
{
    uint64_t left = s->params.checkpoint ? s->epoch.left : s->commit.left;

    if (engine_said_is_out(s->conf.engine, &s->told.said)) {
        s->told.ordinal = s->told.next;
        s->told.next = left;
        engine_said(s->conf.engine, &s->told.said);
        if (engine_said_is_out(s->conf.engine, &s->told.said)) {
            s->told.ordinal = left;
        }
    }
    return s->told.ordinal;
}

/* Primary. Without a record it is a heartbeat. */
static bool send_log(struct ft_session *s)
{
    uint64_t from = s->log.head, limit = s->log.tail, to;
    uint8_t body[FT_LOG_HEAD_LEN];
    struct iovec iov[3] = {{body, sizeof body}};
    struct ft_log_head head = {.released = outside(s)};
    struct engine_status now;
    size_t count;
    bool good;

    if (s->word_count > 0 && s->word[0].after < limit) {
        limit = s->word[0].after;
    }
    to = frame_end(s, from, limit);
    head.exits = to == s->log.tail ? s->published_exits : 0;
    count = 1 + parts(s, from, to, iov + 1);
    pthread_mutex_unlock(&s->lock);
    engine_status(s->conf.engine, &now);
    head.now_ns = now.guest_ns;
    ft_log_head_put(&head, body);
    good = ft_send_body(s, FT_FRAME_LOG, iov, count);
    pthread_mutex_lock(&s->lock);
    s->log.head = to;
    s->log_bytes += to - from;
    pthread_cond_broadcast(&s->room);
    return good;
}

/* Secondary. */
static bool send_ack(struct ft_session *s)
{
    uint8_t body[FT_ACK_LEN];
    struct iovec iov = {body, sizeof body};
    bool good;

    ft_ack_put(&s->ack, body);
    s->ack_new = false;
    s->sending_ack = true;
    pthread_mutex_unlock(&s->lock);
    good = ft_send_body(s, FT_FRAME_ACK, &iov, 1);
    pthread_mutex_lock(&s->lock);
    s->sending_ack = false;
    if (s->tell_waits) {
        ft_tell(s, s->told_text);
    }
    return good;
}

/* Nothing heard for too long, or heard again. Any byte counts: a long frame is no
 * silence, one that stops in its middle is; so the sending thread watches, too. The other
 * side may take its time until it has begun. */
static void watch(struct ft_session *s)
{
    uint64_t now = loop_now_ns();
    uint64_t limit_ns = (s->heard ? s->params.suspect_ms : OPEN_MS) * NSEC_PER_MSEC;
    uint64_t received = mig_conn_bytes(s->streams.conn[0]).received;
    bool pri = s->role == FT_ROLE_PRIMARY, heard = received != s->heard_bytes;

    s->heard_bytes = received;
    if (!s->reading) {
        s->heard_ns = now; /* it is us who do not listen: no room for what came */
    }
    if (heard) {
        s->heard = true;
        s->heard_ns = now;
    }
    if (heard && s->silent) {
        s->silent = false;
        if (pri) {
            ft_pri_event(s, FT_PRI_HEARD, 0, NULL);
        } else {
            ft_sec_event(s, FT_SEC_HEARD, 0, NULL);
        }
    } else if (!heard && !s->silent && now - s->heard_ns > limit_ns) {
        s->silent = true;
        if (pri) {
            ft_pri_event(s, FT_PRI_SILENT, 0, NULL);
        } else {
            ft_sec_event(s, FT_SEC_SILENT, 0, NULL);
        }
    }
}

/* Secondary: a part of its answer to a barrier. */
static bool send_hashes(struct ft_session *s)
{
    uint8_t body[FT_HASHES_HEAD_LEN];
    struct ft_hashes head = s->sums.head;
    struct iovec iov[2] = {{body, sizeof body}};
    uint64_t left = head.total - s->sums.done;
    bool good;

    head.first = s->sums.done;
    head.count = (uint32_t)(left < FT_HASHES_MAX ? left : FT_HASHES_MAX);
    ft_hashes_put(&head, body);
    iov[1] = (struct iovec){s->sums.entries + head.first * FT_HASH_LEN,
                            (size_t)head.count * FT_HASH_LEN};
    s->hash_busy = true;
    pthread_mutex_unlock(&s->lock);
    good = ft_send_body(s, FT_FRAME_HASHES, iov, head.count > 0 ? 2 : 1);
    pthread_mutex_lock(&s->lock);
    s->hash_busy = false;
    s->sums.done += head.count;
    s->sums.ready = s->sums.done < head.total;
    pthread_cond_broadcast(&s->room);
    return good;
}

static bool hashes_due(const struct ft_session *s)
{
    return s->role == FT_ROLE_SECONDARY && s->sums.ready && ft_secondary_may_ack(&s->sec);
}

static bool wait_more(struct ft_session *s, uint64_t until_ns)
{
    struct timespec at = {.tv_sec = (time_t)(until_ns / NSEC_PER_SEC),
                          .tv_nsec = (long)(until_ns % NSEC_PER_SEC)};

    return pthread_cond_timedwait(&s->more, &s->lock, &at) == 0;
}

static bool anything(const struct ft_session *s)
{
    return word_due(s) || hashes_due(s) || s->epoch.staged.ready ||
           (s->role == FT_ROLE_PRIMARY ? s->log.tail > s->log.head
                                       : s->ack_new && ft_secondary_may_ack(&s->sec));
}

/* So much is under way that a little more may be sent with the next: who waits for it
 * waits for what came before anyway. Under lock. */
static bool may_linger(const struct ft_session *s)
{
    uint64_t log = s->log.tail - s->log.head;

    if (s->params.checkpoint || s->closing || s->word_count > 0) {
        return false;
    }
    if (s->role == FT_ROLE_SECONDARY) { /* `log` is what it has not replayed yet */
        return s->params.commit == FT_COMMIT_VERIFIED && !s->sums.ready &&
               log >= LINGER_BEHIND;
    }
    return !s->barrier_open && log < LINGER_LOG && !ft_commit_full(&s->commit) &&
           s->commit.made - s->commit.left >= LINGER_OUTPUTS;
}

void ft_wake_sender(struct ft_session *s)
{
    if (!s->lingers || !may_linger(s)) {
        pthread_cond_broadcast(&s->more);
    }
}

/* The hearing thread, under lock: who waits for this acknowledgement need not wait for
 * the sender to wake up. The primary's hearing thread sends nothing, so it always takes
 * what comes. */
static void ack_at_once(struct ft_session *s)
{
    if (s->params.commit == FT_COMMIT_VERIFIED) {
        return; /* nobody waits for what is received */
    }
    if (s->ack_new && !s->sending && !s->closed && !s->closing &&
        ft_secondary_may_ack(&s->sec)) {
        s->sending = true;
        (void)send_ack(s);
        s->sending = false;
    }
    if (s->closing || anything(s)) {
        pthread_cond_broadcast(&s->more);
    }
}

static void send_next(struct ft_session *s)
{
    s->sending = true;
    if (word_due(s)) {
        (void)send_word(s);
    } else if (s->epoch.staged.ready) {
        pthread_mutex_unlock(&s->lock);
        (void)ft_epoch_send(s);
        pthread_mutex_lock(&s->lock);
    } else if (s->role == FT_ROLE_PRIMARY) {
        ft_barrier_clock(s);
        (void)send_log(s);
    } else if (hashes_due(s)) {
        (void)send_hashes(s);
    } else if (ft_secondary_may_ack(&s->sec)) {
        (void)send_ack(s);
    }
    s->sending = false;
}

static void send_main(void *data)
{
    struct ft_session *s = data;
    uint64_t beat_ns = 0, due_ns, sent_ns = 0;

    pthread_mutex_lock(&s->lock);
    while (!s->closed) {
        uint64_t now = loop_now_ns();

        watch(s);
        ft_sec_watch(s);
        if (s->sending) { /* an acknowledgement, at once */
            (void)wait_more(s, now + FT_BEAT_MS * NSEC_PER_MSEC);
            continue;
        }
        if (s->closing && !anything(s)) {
            ft_close(s);
            break;
        }
        due_ns = s->params.checkpoint ? ft_epoch_due_ns(s) : 0;
        if (due_ns != 0 && now >= due_ns && !s->epoch.due && ft_epoch_turn(s) &&
            now < beat_ns) {
            continue;
        }
        if (!anything(s) && now < beat_ns) {
            (void)wait_more(s, due_ns > now && due_ns < beat_ns ? due_ns : beat_ns);
            continue;
        }
        if (now < sent_ns + LINGER_NS && may_linger(s)) {
            s->lingers = true;
            (void)wait_more(s, sent_ns + LINGER_NS);
            s->lingers = false;
            continue;
        }
        sent_ns = now;
        beat_ns = now + FT_BEAT_MS * NSEC_PER_MSEC;
        send_next(s);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Hearing
 * --------------------------------------------------------------------------------- */

/* False: the channel is of no more use. */
static bool hear_one(struct ft_session *s, struct vmm_error *err)
{
    struct mig_conn *conn = s->streams.conn[0];
    struct mig_conn_head head;
    const char *why = "";
    bool good;
    int r = mig_conn_recv_head(conn, FT_BEAT_MS, &head, err);

    if (r == -ETIMEDOUT) {
        pthread_mutex_lock(&s->lock);
        watch(s);
        pthread_mutex_unlock(&s->lock);
        return true;
    }
    if (r == 0 && head.body_len > 0) {
        struct iovec iov = {s->frame, head.body_len};

        r = mig_conn_recv_body(conn, &iov, 1, err);
    }
    if (r < 0) {
        return false;
    }
    pthread_mutex_lock(&s->lock);
    watch(s);
    s->reading = false;
    good = s->role == FT_ROLE_PRIMARY
               ? ft_pri_frame(s, head.type, s->frame, head.body_len, &why)
               : ft_sec_frame(s, head.type, s->frame, head.body_len, &why);
    s->reading = true;
    if (good && s->role == FT_ROLE_SECONDARY && !s->params.checkpoint) {
        ack_at_once(s);
    }
    pthread_mutex_unlock(&s->lock);
    if (!good) {
        (void)vmm_fail(err, -EPROTO, "%s", why);
    }
    return good;
}

static int open_channel(struct ft_session *s, struct vmm_error *err)
{
    struct mig_join_conf join = {.conn = &s->conn_conf,
                                 .transfer = s->params.transfer,
                                 .token = s->params.token,
                                 .name = s->conf.vm_name,
                                 .count = 1,
                                 .timeout_ms = OPEN_MS};
    struct mig_listen_counts counts;
    int fd = s->fd;

    s->fd = -1;
    s->conn_conf = (struct mig_conn_conf){.key = s->params.key,
                                          .peer = s->params.peer,
                                          .server = s->role == FT_ROLE_SECONDARY,
                                          .body_crc = s->params.key == NULL,
                                          .silence_ms = SILENCE_MS,
                                          .stop = &s->stop,
                                          .rules = rules,
                                          .rule_count = ARRAY_SIZE(rules)};
    return s->role == FT_ROLE_SECONDARY ? mig_listen(fd, &join, &s->streams, &counts, err)
                                        : mig_open(&fd, &join, &s->streams, err);
}

static void hear_main(void *data)
{
    struct ft_session *s = data;
    struct vmm_error err = {""};
    int r = open_channel(s, &err);

    if (r == 0) {
        r = s->params.checkpoint
                ? engine_epoch_attach(s->conf.engine, &s->checkpoints, &err)
                : engine_tape_attach(s->conf.engine, &s->tape, &err);
    }
    if (r < 0) {
        lost(s, err.text);
    } else {
        pthread_mutex_lock(&s->lock);
        s->heard_ns = loop_now_ns();
        s->reading = true;
        s->heard_bytes = mig_conn_bytes(s->streams.conn[0]).received;
        if (s->role == FT_ROLE_PRIMARY) {
            ft_pri_begin(s);
        } else {
            ft_sec_begin(s);
        }
        pthread_mutex_unlock(&s->lock);
        mig_pool_run(s->pool, FT_THREAD_SEND, send_main, s);
        while (!mig_stop_raised(&s->stop) && hear_one(s, &err)) {
        }
        lost(s, err.text);
        mig_pool_wait(s->pool, FT_THREAD_SEND);
    }
    mig_streams_close(&s->streams);
    engine_dirty_tidy(s->conf.engine);
    pthread_mutex_lock(&s->lock);
    s->busy = false;
    pthread_mutex_unlock(&s->lock);
}

/* Life
 * ------------------------------------------------------------------------------------ */

static void prepare_thread(void)
{
    sandbox_thread(SANDBOX_TRANSFER);
}

int ft_session_new(const struct ft_session_conf *conf, struct ft_session **ret_s,
                   struct vmm_error *err)
{
    struct ft_session *s = calloc(1, sizeof *s);
    pthread_condattr_t attr;
    int r;

    if (s == NULL) {
        return vmm_fail(err, -ENOMEM, "no memory for a twin");
    }
    s->conf = *conf;
    s->fd = s->stop.fd = -1;
    s->status.state_name = "none";
    priority_mutex_init(&s->lock);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->more, &attr);
    pthread_cond_init(&s->room, &attr);
    pthread_cond_init(&s->come, &attr);
    pthread_condattr_destroy(&attr);
    s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = s->event_fd < 0 ? -errno : mig_stop_open(&s->stop);
    if (r < 0) {
        ft_session_free(s);
        return vmm_fail(err, r, "eventfd: %s", strerror(-r));
    }
    *ret_s = s;
    return 0;
}

int ft_session_go(struct ft_session *s, struct vmm_error *err)
{
    return mig_pool_new(FT_THREADS, prepare_thread, &s->pool, err);
}

/* False: it takes too long. */
static bool wait_closed(struct ft_session *s, uint64_t until_ns)
{
    struct timespec at = {.tv_sec = (time_t)(until_ns / NSEC_PER_SEC),
                          .tv_nsec = (long)(until_ns % NSEC_PER_SEC)};

    return pthread_cond_timedwait(&s->room, &s->lock, &at) == 0;
}

void ft_session_stop(struct ft_session *s)
{
    uint64_t until_ns = loop_now_ns() + LAST_WORD_MS * NSEC_PER_MSEC;

    if (s == NULL || s->pool == NULL) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    while (s->closing && !s->closed && wait_closed(s, until_ns)) {
    }
    s->stopped = true;
    ft_close(s);
    pthread_mutex_unlock(&s->lock);
    mig_pool_wait(s->pool, FT_THREAD_HEAR);
}

/* Those of a twin in checkpoint mode. */
static void close_disks(const struct ft_params *params)
{
    for (unsigned i = 0; params->checkpoint && i < VM_DISKS_MAX; i++) {
        if (params->disk[i] >= 0) {
            close(params->disk[i]);
        }
    }
}

static void free_buffers(struct ft_session *s)
{
    drop_outs(s);
    ft_epoch_free(&s->epoch);
    free(s->log.at);
    free(s->frame);
    free(s->buf);
    free(s->state);
    free(s->set.bytes);
    free(s->dirty);
    free(s->sums.entries);
    s->sums = (struct ft_sums_of){.entries = NULL};
    s->dirty = NULL;
    s->set = (struct ft_set){.bytes = NULL};
    s->log = (struct ft_buf){.at = NULL};
    s->frame = s->buf = s->state = NULL;
}

void ft_session_free(struct ft_session *s)
{
    if (s == NULL) {
        return;
    }
    ft_session_stop(s);
    mig_pool_free(s->pool);
    close_disks(&s->params);
    free_buffers(s);
    mig_stop_close(&s->stop);
    if (s->event_fd >= 0) {
        close(s->event_fd);
    }
    pthread_cond_destroy(&s->more);
    pthread_cond_destroy(&s->room);
    pthread_cond_destroy(&s->come);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static bool make_buffers(struct ft_session *s)
{
    struct engine_ram ram;

    s->log.at = malloc(FT_LOG_BUFFER);
    s->frame = malloc(FT_LOG_HEAD_LEN + FT_LOG_BODY_MAX);
    s->buf = malloc(FT_RECORD_MAX);
    s->state = malloc(FT_STATE_MAX);
    s->epoch.frame = malloc(FT_LOG_HEAD_LEN + FT_LOG_BODY_MAX);
    engine_ram(s->conf.engine, &ram);
    s->page_count = ram.page_count;
    s->dirty = calloc(ram.page_count / 64 + 1, sizeof *s->dirty);
    return ft_stage_init(&s->epoch.staged.pages, ram.page_count) &&
           s->epoch.frame != NULL && s->dirty != NULL && s->log.at != NULL &&
           s->frame != NULL && s->buf != NULL && s->state != NULL;
}

/* Everything of an earlier one is gone; the hearing thread begins. */
static int begin(struct ft_session *s, int fd, const struct ft_params *params,
                 enum ft_role role, struct vmm_error *err)
{
    bool busy;

    pthread_mutex_lock(&s->lock);
    busy = s->busy && !s->closed;
    pthread_mutex_unlock(&s->lock);
    if (busy || s->pool == NULL) {
        close(fd);
        close_disks(params);
        return vmm_fail(err, -EBUSY, "this VM has a twin already, or is one");
    }
    mig_pool_wait(s->pool, FT_THREAD_HEAR);
    close_disks(&s->params);
    s->params.checkpoint = false;
    free_buffers(s);
    memset((uint8_t *)s + offsetof(struct ft_session, busy), 0,
           sizeof *s - offsetof(struct ft_session, busy));
    if (!make_buffers(s)) {
        close(fd);
        close_disks(params);
        return vmm_fail(err, -ENOMEM, "no memory for a twin's log");
    }
    mig_stop_reset(&s->stop);
    s->params = *params;
    s->params.suspect_ms = params->suspect_ms > 0 ? params->suspect_ms : FT_SUSPECT_MS;
    s->params.barrier_ms = params->barrier_ms > 0 ? params->barrier_ms
                           : params->checkpoint   ? FT_EPOCH_MAX_MS
                                                  : FT_BARRIER_MS;
    s->params.diverge_max =
        params->diverge_max > 0 ? params->diverge_max : FT_DIVERGE_MAX;
    s->fd = fd;
    s->tape =
        (struct engine_tape){.ops = role == FT_ROLE_PRIMARY ? &ft_pri_ops : &ft_sec_ops,
                             .ctx = s,
                             .replay = role == FT_ROLE_SECONDARY,
                             .twin = true,
                             .mirror = params->mirror,
                             .exit_gap_ms = TAPE_EXIT_GAP_MS};
    s->checkpoints = (struct engine_epoch){
        .ops = role == FT_ROLE_PRIMARY ? &ft_epoch_pri_ops : &ft_epoch_sec_ops,
        .ctx = s,
        .twin = role == FT_ROLE_SECONDARY};
    ft_primary_init(&s->pri, 0);
    ft_secondary_init(&s->sec);
    ft_commit_init(&s->commit, s->params.commit,
                   (params->lag_ms > 0 ? params->lag_ms : FT_LAG_MS) * NSEC_PER_MSEC);
    pthread_mutex_lock(&s->lock);
    s->role = role;
    s->busy = true;
    ft_tell(s, "");
    pthread_mutex_unlock(&s->lock);
    mig_pool_run(s->pool, FT_THREAD_HEAR, hear_main, s);
    return 0;
}

static int wrong_state(int fd, const struct ft_params *params, enum run_state state,
                       const char *wanted, struct vmm_error *err)
{
    close(fd);
    close_disks(params);
    return vmm_fail(err, -EINVAL, "the VM is %s, not %s", run_state_str(state), wanted);
}

int ft_session_protect(struct ft_session *s, int fd, const struct ft_params *params,
                       struct vmm_error *err)
{
    struct engine_status now;

    engine_status(s->conf.engine, &now);
    return now.state == RUN_FROZEN
               ? begin(s, fd, params, FT_ROLE_PRIMARY, err)
               : wrong_state(fd, params, now.state, "frozen, with its memory at the twin",
                             err);
}

int ft_session_follow(struct ft_session *s, int listen_fd, const struct ft_params *params,
                      struct vmm_error *err)
{
    struct engine_status now;

    engine_status(s->conf.engine, &now);
    return now.state == RUN_CREATED
               ? begin(s, listen_fd, params, FT_ROLE_SECONDARY, err)
               : wrong_state(listen_fd, params, now.state, "created", err);
}

/* Orders
 * ---------------------------------------------------------------------------------- */

const char *ft_session_order(struct ft_session *s, enum ft_order order, uint64_t epoch)
{
    static const struct {
        signed char pri, sec; /* -1: not for this role */
    } map[FT_ORDERS] = {
        [FT_ORDER_TWIN_WON] = {FT_PRI_TWIN_WON, -1},
        [FT_ORDER_ALONE_WON] = {FT_PRI_ALONE_WON, -1},
        [FT_ORDER_CLAIM_LOST] = {FT_PRI_CLAIM_LOST, -1},
        [FT_ORDER_SWITCHOVER] = {FT_PRI_SWITCHOVER, -1},
        [FT_ORDER_WINNER_RUNS] = {FT_PRI_WINNER_RUNS, -1},
        [FT_ORDER_GO_ON] = {FT_PRI_GO_ON, FT_SEC_GO_ON},
        [FT_ORDER_END] = {FT_PRI_END, FT_SEC_DISCARD},
        [FT_ORDER_PEER_DEAD] = {-1, FT_SEC_PEER_DEAD},
        [FT_ORDER_CLAIM_WON] = {-1, FT_SEC_CLAIM_WON},
    };
    const char *why = "this VM has no twin, and is none";

    pthread_mutex_lock(&s->lock);
    if (s->role == FT_ROLE_PRIMARY && map[order].pri >= 0) {
        why = ft_pri_order(s, (enum ft_primary_event)map[order].pri, epoch);
    } else if (s->role == FT_ROLE_SECONDARY && map[order].sec >= 0) {
        why = ft_sec_order(s, (enum ft_secondary_event)map[order].sec, epoch);
    } else if (s->role != FT_ROLE_NONE) {
        why = s->role == FT_ROLE_PRIMARY ? "this VM is the primary" : "this VM is a twin";
    }
    if (order == FT_ORDER_GO_ON &&
        why == NULL) { /* a silence from here on is a new one */
        s->silent = false;
        s->heard_ns = loop_now_ns();
    }
    pthread_mutex_unlock(&s->lock);
    return why;
}

void ft_session_engine(struct ft_session *s, const struct engine_status *status)
{
    bool over = status->state == RUN_ENDING || status->state == RUN_ENDED;

    pthread_mutex_lock(&s->lock);
    if (over && s->role == FT_ROLE_PRIMARY && status->end == RUN_END_SHUTDOWN) {
        ft_pri_event(s, FT_PRI_GUEST_OFF, 0, status->reason);
    } else if (over && s->role == FT_ROLE_PRIMARY && status->end == RUN_END_HOST) {
        ft_close(s); /* as if this process had died: the twin is there for that */
    } else if (over && s->role == FT_ROLE_PRIMARY && !is_over(s)) {
        ft_pri_event(s, FT_PRI_END, 0, status->reason);
    } else if (over && s->role == FT_ROLE_SECONDARY && !is_over(s)) {
        ft_sec_event(s, FT_SEC_HOST_ERROR, 0, status->reason);
    }
    pthread_mutex_unlock(&s->lock);
}
