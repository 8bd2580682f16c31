/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoint mode, primary: the guest runs for an epoch, stands still while what it wrote
 * to is copied aside, and runs on while that is sent. What it sent out in an epoch leaves
 * when the twin has all of that epoch. */
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "base/loop.h"
#include "ft/ft_session_priv.h"

static bool grow(struct ft_grow *g, size_t more)
{
    if (g->len + more > g->cap) {
        size_t cap = g->cap + g->cap / 2 + more + 65536;
        uint8_t *at = realloc(g->at, cap);

        if (at == NULL) {
            return false;
        }
        g->at = at;
        g->cap = cap;
    }
    return true;
}

/* Room for twice as much as there was is made while the guest runs. Without it the next
 * one that is larger stands still for longer, and that is all. */
void ft_epoch_make_room(struct ft_staged *st)
{
    uint64_t slots = st->pages.slots, all = st->pages.page_count;
    uint64_t want = slots > FT_EPOCH_ROOM / 2 ? 2 * slots : FT_EPOCH_ROOM;

    (void)ft_stage_room(&st->pages, want < all ? want : all);
    ft_stage_clear(&st->pages);
}

static bool append(struct ft_grow *g, const void *bytes, size_t len)
{
    if (!grow(g, len)) {
        return false;
    }
    memcpy(g->at + g->len, bytes, len);
    g->len += len;
    return true;
}

void ft_epoch_free(struct ft_epoch *ep)
{
    ft_stage_free(&ep->staged.pages);
    free(ep->staged.state.at);
    free(ep->staged.writes.at);
    free(ep->writes.at);
    free(ep->frame);
    memset(ep, 0, sizeof *ep);
}

static void trouble(struct ft_session *s, const char *why)
{
    pthread_mutex_lock(&s->lock);
    s->epoch.trouble = true;
    ft_pri_event(s, FT_PRI_HOST_ERROR, 0, why);
    pthread_mutex_unlock(&s->lock);
}

/* The engine's threads
 * --------------------------------------------------------------------------- */

static bool epoch_due(void *ctx)
{
    struct ft_session *s = ctx;

    return s->epoch.due && !s->epoch.trouble;
}

static bool epoch_full(void *ctx)
{
    struct ft_session *s = ctx;
    bool full = s->epoch.full;

    if (full) {
        pthread_mutex_lock(&s->lock);
        full = !s->released_all && !s->stopped && !s->epoch.trouble;
        pthread_mutex_unlock(&s->lock);
    }
    return full;
}

static bool epoch_stands(void *ctx)
{
    struct ft_session *s = ctx;
    bool stands;

    pthread_mutex_lock(&s->lock);
    stands = s->stand && s->epoch.last != 0 && !s->released_all && !s->stopped;
    pthread_mutex_unlock(&s->lock);
    return stands;
}

static bool epoch_over(void *ctx)
{
    struct ft_session *s = ctx;

    return s->released_all;
}

/* Under lock, the guest is off: what it wrote last goes with one more epoch. */
static bool copies_are_alike(struct ft_session *s)
{
    enum ft_alike_step step =
        ft_alike_next(&s->alike, s->params.mirror != 0, s->pri.state == FT_PRI_ON,
                      s->epoch.staged.number);

    if (step == FT_ALIKE_BEGIN) {
        pthread_cond_broadcast(&s->more); /* it is due at once */
    }
    return step == FT_ALIKE_MAY_END;
}

static bool epoch_may_end(void *ctx)
{
    struct ft_session *s = ctx;
    bool may;

    pthread_mutex_lock(&s->lock);
    may = s->stopped || s->epoch.trouble ||
          (s->epoch.left == s->epoch.made && copies_are_alike(s));
    pthread_mutex_unlock(&s->lock);
    return may;
}

/* Under lock. Console bytes that follow one another become one output. */
static bool joins_last(struct ft_session *s, const struct tape_out *out)
{
    struct ft_out *last = &s->kept[s->epoch.made % FT_HELD_MAX];
    uint8_t *more;

    if (s->epoch.made == s->epoch.left || last->ordinal != s->epoch.made ||
        s->epoch.made == s->epoch.staged.outputs || out->kind == TAPE_OUT_FRAME ||
        last->out.kind != out->kind || last->out.len > 65536) {
        return false;
    }
    more = realloc((void *)(uintptr_t)last->out.data, last->out.len + out->len);
    if (more == NULL) {
        return false;
    }
    memcpy(more + last->out.len, out->data, out->len);
    last->out.data = more;
    last->out.len += out->len;
    return true;
}

static void epoch_output(void *ctx, const struct tape_out *out)
{
    struct ft_session *s = ctx;
    struct ft_epoch *ep = &s->epoch;

    pthread_mutex_lock(&s->lock);
    if (s->released_all) {
        engine_put_out(s->conf.engine, out);
    } else if (!joins_last(s, out)) {
        /* Full: as a network, or a serial line that nobody reads, it loses what is new.
         */
        if (ep->made - ep->left < FT_HELD_MAX - 1 &&
            ft_keep_out(s, ep->made + 1, out, false)) {
            ep->made++;
            pthread_cond_broadcast(&s->more); /* it may be due sooner now */
        } else {
            ep->dropped++;
        }
    }
    pthread_mutex_unlock(&s->lock);
}

/* The guest stands until the epoch before is at the twin; then this one ends at once. */
static void become_full(struct ft_session *s)
{
    pthread_mutex_lock(&s->lock);
    s->epoch.full = true;
    pthread_cond_broadcast(&s->more);
    pthread_mutex_unlock(&s->lock);
    engine_nudge(s->conf.engine);
}

static void epoch_write(void *ctx, unsigned disk, const struct blk_request *request)
{
    struct ft_session *s = ctx;
    struct ft_epoch *ep = &s->epoch;
    struct ft_write w = {.sector = request->sector,
                         .disk = disk,
                         .op = (uint32_t)request->op,
                         .len = request->len};
    bool good = true;

    if ((s->params.mirror >> disk & 1) == 0 || s->released_all || ep->trouble) {
        return; /* no epoch comes any more */
    }
    good = append(&ep->writes, &w, sizeof w);
    if (good && request->op == REQUEST_WRITE) {
        good = append(&ep->writes, request->data, request->len);
    }
    if (ep->writes.len > FT_KEPT_BYTES && !ep->full) {
        become_full(s);
    }
    s->written |= 1u << disk;
    if (!good) {
        trouble(s, "no memory for what the guest writes to its disks");
    }
}

/* The epoch that is being made. */
static uint64_t epoch_holds(void *ctx, unsigned disk)
{
    struct ft_session *s = ctx;
    uint64_t number;

    if ((s->params.mirror >> disk & 1) != 0) {
        return 0;
    }
    pthread_mutex_lock(&s->lock);
    number = s->epoch.staged.number + 1;
    if (s->epoch.shared != number) {
        s->epoch.shared = number;
        pthread_cond_broadcast(&s->more); /* it is due sooner now */
    }
    pthread_mutex_unlock(&s->lock);
    return number;
}

static uint64_t epoch_released(void *ctx)
{
    struct ft_session *s = ctx;
    uint64_t released;

    pthread_mutex_lock(&s->lock);
    released = s->released_all ? UINT64_MAX : s->epoch.released;
    pthread_mutex_unlock(&s->lock);
    return released;
}

/* The guest stands still. */
static void epoch_take(void *ctx, uint64_t since_ns, const uint64_t *dirty,
                       const uint8_t *state, size_t len, const char *why)
{
    struct ft_session *s = ctx;
    struct ft_epoch *ep = &s->epoch;
    struct ft_staged *st = &ep->staged;
    struct ft_grow writes = st->writes;
    struct engine_ram ram;
    uint64_t stood;

    if (why != NULL) {
        trouble(s, why);
        return;
    }
    engine_ram(s->conf.engine, &ram);
    st->state.len = 0;
    if (!ft_stage_rest(&st->pages, ram.host, dirty, &stood) ||
        !append(&st->state, state, len)) {
        trouble(s, "no memory for a checkpoint");
        return;
    }
    st->writes = ep->writes; /* the two change places */
    ep->writes = writes;
    ep->writes.len = 0;
    pthread_mutex_lock(&s->lock);
    st->number++;
    ep->last = s->stand ? st->number : 0;
    st->outputs = ep->made;
    st->ends = st->number == s->alike.number;
    st->ready = true;
    ep->full = false;
    ep->due = false; /* not before: the sender would ask for another one */
    ep->taken_ns = since_ns;
    ep->pause_ns = loop_now_ns() - since_ns;
    ep->pages = st->pages.count;
    ep->stood = stood;
    ep->copying = false;
    ft_ahead_stopped(&ep->ahead, ep->pages, stood);
    pthread_cond_broadcast(&s->more);
    pthread_mutex_unlock(&s->lock);
}

const struct engine_epoch_ops ft_epoch_pri_ops = {
    .due = epoch_due,
    .take = epoch_take,
    .full = epoch_full,
    .output = epoch_output,
    .write = epoch_write,
    .holds = epoch_holds,
    .released = epoch_released,
    .may_end = epoch_may_end,
    .stands = epoch_stands,
    .over = epoch_over,
};

/* The sender
 * ---------------------------------------------------------------------------------- */

/* When the guest should stand still next; 0: not before something is acknowledged. Under
 * lock. */
uint64_t ft_epoch_due_ns(const struct ft_session *s)
{
    const struct ft_epoch *ep = &s->epoch;
    bool waits = ep->made > ep->staged.outputs || ep->shared > ep->staged.number;
    uint64_t ms = ep->length_ms > FT_EPOCH_MIN_MS ? ep->length_ms : FT_EPOCH_MIN_MS;

    if (ep->acked < ep->staged.number || ep->staged.ready ||
        (s->pri.state != FT_PRI_ON && s->pri.state != FT_PRI_SWITCHING)) {
        return 0;
    }
    if (s->pri.state == FT_PRI_SWITCHING) {
        return ep->last == 0; /* at once, and once */
    }
    if (s->alike.number > ep->staged.number || ep->full) {
        return 1; /* at once */
    }
    if (!waits && ms < s->params.barrier_ms) {
        ms = s->params.barrier_ms;
    }
    return ep->taken_ns + ms * NSEC_PER_MSEC;
}

/* Records into a frame, frames onto the wire. */
struct writer {
    struct ft_session *s;
    size_t len;
    bool good;
};

static void flush(struct writer *w)
{
    struct iovec iov = {w->s->epoch.frame, w->len};

    if (w->good && w->len > FT_LOG_HEAD_LEN) {
        w->s->log_bytes += w->len;
        w->good = ft_send_body(w->s, FT_FRAME_LOG, &iov, 1);
    }
    w->len = FT_LOG_HEAD_LEN;
}

static void put(struct writer *w, struct bytes_wr *wr)
{
    struct ft_session *s = w->s;
    size_t len = ft_finish(wr, s->seq + 1);

    BUG_ON(len == 0);
    if (w->len + len > FT_LOG_HEAD_LEN + FT_LOG_BODY_MAX) {
        flush(w);
    }
    memcpy(s->epoch.frame + w->len, wr->buf, len);
    w->len += len;
    s->seq++;
    pthread_mutex_lock(&s->lock);
    ft_commit_logged(&s->commit, s->seq, 0);
    pthread_mutex_unlock(&s->lock);
}

static void begin(const struct writer *w, struct bytes_wr *wr, enum ft_type type,
                  uint32_t device)
{
    ft_begin(wr, w->s->buf, FT_RECORD_MAX, type, 0, 0, device);
}

/* Of the last epoch: flushed, whether the guest did it or not. */
static void put_flushes(struct writer *w)
{
    for (uint32_t disk = 0; disk < VM_DISKS_MAX && w->good; disk++) {
        struct bytes_wr wr;

        if ((w->s->written >> disk & 1) != 0) {
            begin(w, &wr, FT_DISK, disk);
            ft_put_disk(&wr, &(struct ft_disk){.op = REQUEST_FLUSH});
            put(w, &wr);
        }
    }
}

static void put_writes(struct writer *w)
{
    const struct ft_grow *g = &w->s->epoch.staged.writes;

    for (size_t at = 0; at < g->len && w->good;) {
        struct ft_write write;
        struct bytes_wr wr;

        memcpy(&write, g->at + at, sizeof write);
        at += sizeof write;
        begin(w, &wr, FT_DISK, write.disk);
        ft_put_disk(&wr, &(struct ft_disk){.sector = write.sector,
                                           .op = write.op,
                                           .len = write.len,
                                           .bytes = g->at + at});
        at += write.op == REQUEST_WRITE ? write.len : 0;
        put(w, &wr);
    }
}

/* Frames may be lost, as on any network; what a console said may not. */
static void put_said(struct writer *w)
{
    struct ft_session *s = w->s;

    for (uint64_t i = s->epoch.left + 1; i <= s->epoch.staged.outputs && w->good; i++) {
        struct tape_out out;
        struct bytes_wr wr;

        pthread_mutex_lock(&s->lock);
        out = s->kept[i % FT_HELD_MAX].out; /* stays: nothing of it leaves before */
        pthread_mutex_unlock(&s->lock);
        if (out.kind != TAPE_OUT_FRAME && out.len > 0 && out.data != NULL) {
            begin(w, &wr, FT_SAID, 0);
            ft_put_said(&wr, &(struct ft_said){.ordinal = i,
                                               .kind = (uint32_t)out.kind,
                                               .len = out.len,
                                               .bytes = out.data});
            put(w, &wr);
        }
    }
}

/* Goes into the record that has n pages from `first` on. */
static bool follows(uint64_t first, size_t n, bool zero, uint64_t page,
                    const uint8_t *bytes)
{
    return page == first + n && zero == (bytes == NULL) &&
           ft_pages_fit(first, n + 1, zero) > n;
}

static void put_pages(struct writer *w)
{
    const struct ft_stage *st = &w->s->epoch.staged.pages;
    const uint8_t *run[FT_PAGES_MAX], *bytes;
    uint64_t page = 0, first;
    bool more = ft_stage_next(st, &page, &bytes);

    while (more && w->good) {
        bool zero = bytes == NULL;
        struct bytes_wr wr;
        size_t n = 0;

        first = page;
        do {
            if (!zero) {
                run[n] = bytes;
            }
            n++;
            page++;
            more = ft_stage_next(st, &page, &bytes);
        } while (more && follows(first, n, zero, page, bytes));
        begin(w, &wr, FT_PAGES, 0);
        ft_pages_put_head(&wr, &w->s->ram, first, n, zero);
        for (size_t i = 0; !zero && i < n; i++) {
            bytes_wr_copy(&wr, run[i], GMEM_PAGE_SIZE);
        }
        put(w, &wr);
    }
}

static void put_state(struct writer *w)
{
    const struct ft_grow *g = &w->s->epoch.staged.state;

    for (size_t at = 0; at < g->len && w->good; at += FT_STATE_CHUNK) {
        size_t n = g->len - at < FT_STATE_CHUNK ? g->len - at : FT_STATE_CHUNK;
        struct bytes_wr wr;

        begin(w, &wr, FT_STATE, 0);
        ft_put_state(&wr, (uint32_t)g->len, (uint32_t)at, g->at + at, (uint32_t)n);
        put(w, &wr);
    }
}

/* Without the lock: what is staged is the sender's. */
bool ft_epoch_send(struct ft_session *s)
{
    struct ft_log_head head = {.released = s->told.ordinal};
    struct writer w = {.s = s, .len = FT_LOG_HEAD_LEN, .good = true};
    struct bytes_wr wr;

    ft_log_head_put(&head, s->epoch.frame);
    put_writes(&w);
    if (s->epoch.staged.ends) {
        put_flushes(&w);
    }
    put_said(&w);
    put_pages(&w);
    put_state(&w);
    begin(&w, &wr, FT_BARRIER, 0);
    ft_put_u64(&wr, s->epoch.staged.number);
    ft_put_u64(&wr, s->epoch.staged.outputs);
    put(&w, &wr);
    flush(&w);
    ft_epoch_make_room(&s->epoch.staged);
    pthread_mutex_lock(&s->lock);
    s->epoch.staged.ready = false;
    s->epoch.sent_ns = loop_now_ns();
    pthread_mutex_unlock(&s->lock);
    return w.good;
}

/* Under lock: the twin has all of checkpoint `number`. */
void ft_epoch_acked(struct ft_session *s, uint64_t number)
{
    struct ft_epoch *ep = &s->epoch;
    uint64_t cost_ms;

    if (number != ep->staged.number || number <= ep->acked) {
        return;
    }
    ep->acked = number;
    ft_alike_acked(&s->alike, number);
    ep->stop_to_ack_ns = loop_now_ns() - ep->taken_ns;
    cost_ms = ep->pause_ns / NSEC_PER_MSEC;
    ep->length_ms = 4 * cost_ms < FT_EPOCH_CAP_MS ? 4 * cost_ms : FT_EPOCH_CAP_MS;
    if (ft_primary_may_release(&s->pri)) {
        while (ep->left < ep->staged.outputs) {
            ft_let_out(s, ++ep->left);
        }
        ep->released = number;
        if (ep->shared != 0) { /* the disks are the engine's */
            engine_nudge(s->conf.engine);
        }
    }
    if (number == ep->last) {
        ft_pri_event(s, FT_PRI_BARRIER_DONE, 0, NULL);
    }
    pthread_cond_broadcast(&s->more);
}

/* Under lock: without a twin from now on. */
void ft_epoch_release_all(struct ft_session *s)
{
    while (s->epoch.left < s->epoch.made) {
        ft_let_out(s, ++s->epoch.left);
    }
}
