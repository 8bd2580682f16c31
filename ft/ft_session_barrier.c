/* SPDX-License-Identifier: Apache-2.0 */
/* The primary's part of a barrier: when, what it sends, what it counts (ft/README.md,
 * "Barrier and repair"). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "base/loop.h"
#include "ft/ft_session_priv.h"

#define WINDOW_NS (FT_DIVERGE_WINDOW_MS * NSEC_PER_MSEC)

/* The channel's threads, under lock
 * ---------------------------------------------------------------- */

/* A guest that has come to no exit since the last one has nothing to compare but what it
 * computes: that is seen when it matters. */
void ft_barrier_clock(struct ft_session *s)
{
    if (!s->params.checkpoint && s->pri.state == FT_PRI_ON &&
        loop_now_ns() >= s->barrier_due_ns && s->published_exits != s->barrier_exits) {
        s->barrier_reason = FT_BARRIER_DUE;
        ft_pri_event(s, FT_PRI_BARRIER_DUE, 0, NULL);
    }
}

void ft_barrier_done(struct ft_session *s)
{
    s->barrier_open = false;
    s->barrier_over = true;
    s->barrier_due_ns = loop_now_ns() + s->params.barrier_ms * NSEC_PER_MSEC;
    s->barrier_exits = s->barrier_at;
}

static void count_control(struct ft_session *s)
{
    uint64_t now = loop_now_ns();

    s->counts.diverged++;
    if (s->diverged_ns == 0 || now - s->diverged_ns > WINDOW_NS) {
        s->diverged_ns = now;
        s->diverged_recent = 0;
    }
    if (++s->diverged_recent > s->params.diverge_max) {
        char text[REASON_LEN_MAX + 1];

        snprintf(text, sizeof text,
                 "the twin went another way %llu times in ten minutes (diverge_max is "
                 "%u): this guest cannot be followed exit by exit",
                 (unsigned long long)s->diverged_recent, s->params.diverge_max);
        s->reason = FT_SESSION_DIVERGES;
        ft_pri_event(s, FT_PRI_HOST_ERROR, 0, text);
    }
}

void ft_barrier_diverged(struct ft_session *s, bool output)
{
    if (output) {
        s->counts.diverged_output++;
        s->barrier_reason = FT_BARRIER_OUTPUT;
        ft_commit_differs(&s->commit);
        ft_pri_event(s, FT_PRI_BARRIER_DUE, 0, NULL);
    } else {
        s->barrier_reason = FT_BARRIER_DIVERGED;
        ft_pri_event(s, FT_PRI_DIVERGED, 0, NULL);
        count_control(s);
    }
}

static bool begin_sums(struct ft_session *s, const struct ft_hashes *h, const char **why)
{
    struct ft_sums_of *sums = &s->sums;

    free(sums->entries);
    *sums = (struct ft_sums_of){.head = *h};
    sums->entries = malloc(h->total * FT_HASH_LEN + 1);
    if (sums->entries == NULL) {
        *why = "no memory for the sums of a barrier";
    }
    return sums->entries != NULL;
}

/* The newest page that came. */
static uint64_t last_page(const struct ft_sums_of *sums)
{
    struct ft_hash hash;

    ft_hash_get(sums->entries + (sums->done - 1) * FT_HASH_LEN, &hash);
    return hash.page;
}

static bool follows_on(const struct ft_sums_of *sums, const struct ft_hashes *h)
{
    struct ft_hash hash;

    if (sums->entries == NULL || sums->ready || h->first != sums->done ||
        h->barrier != sums->head.barrier || h->total != sums->head.total) {
        return false;
    }
    ft_hash_get(h->entries, &hash);
    return hash.page > last_page(sums);
}

bool ft_barrier_hashes(struct ft_session *s, const uint8_t *body, size_t len,
                       const char **why)
{
    struct ft_hashes h;

    *why = "sums of a barrier that cannot be";
    if (s->params.checkpoint || !ft_hashes_get(body, len, s->page_count, &h) ||
        h.barrier > s->barrier || h.verified > s->commit.made) {
        return false;
    }
    if (h.barrier < s->barrier || !s->barrier_open) {
        return true; /* of one that is over */
    }
    if (h.first == 0 ? !begin_sums(s, &h, why) : !follows_on(&s->sums, &h)) {
        return false;
    }
    memcpy(s->sums.entries + h.first * FT_HASH_LEN, h.entries,
           (size_t)h.count * FT_HASH_LEN);
    s->sums.done += h.count;
    s->sums.ready = s->sums.done == h.total;
    if (s->sums.ready) {
        engine_poke(s->conf.engine);
    }
    return true;
}

/* The vCPU thread, at a position
 * ------------------------------------------------------------------- */

static void write_barrier(struct ft_session *s, uint64_t position,
                          enum ft_barrier_reason reason)
{
    static const struct tape_exit nothing = {.kind = TAPE_EXIT_BARRIER, .boundary = true};
    struct bytes_wr wr;

    if (s->digest_exits != position || s->last_digest != s->outputs) {
        ft_pri_digest(s, position, &nothing);
    }
    ft_pri_record(s, &wr, FT_BARRIER, position, 0);
    ft_put_u64(&wr, s->barrier);
    ft_put_u64(&wr, (uint64_t)reason);
    ft_pri_emit(s, &wr, position);
}

struct answer {
    uint64_t position, records;
    uint64_t pages, outputs, looked_at;
    bool state;
    uint32_t flags;
};

static void put_set(struct ft_session *s, const struct answer *a, enum ft_set_part part)
{
    struct bytes_wr wr;
    uint64_t field[FT_SET_FIELDS] = {
        [FT_SET_NUMBER] = s->barrier,  [FT_SET_PART] = part,
        [FT_SET_OUTPUTS] = s->outputs, [FT_SET_CHAIN] = s->chain,
        [FT_SET_FLAGS] = a->flags,     [FT_SET_COUNT] = a->records,
    };

    ft_pri_record(s, &wr, FT_SET, a->position, 0);
    for (unsigned i = 0; i < FT_SET_FIELDS; i++) {
        ft_put_u64(&wr, field[i]);
    }
    ft_pri_emit(s, &wr, a->position);
}

static bool marked(const struct ft_session *s, uint64_t page)
{
    return (s->dirty[page / 64] >> page % 64 & 1) != 0;
}

/* The next page of either side from `page` on; page_count: none. */
static uint64_t next_page(const struct ft_session *s, uint64_t page, uint64_t theirs)
{
    while (page < s->page_count && page < theirs && !marked(s, page)) {
        page = s->dirty[page / 64] == 0 ? (page / 64 + 1) * 64 : page + 1;
    }
    return page < theirs ? page : theirs;
}

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, GMEM_PAGE_SIZE - 1) == 0;
}

/* A run of pages that are sent. */
struct run {
    uint64_t first, count;
    bool zero;
};

static void put_run(struct ft_session *s, const struct engine_ram *ram, struct answer *a,
                    struct run *run)
{
    if (run->count > 0) {
        ft_pri_pages(s, a->position, run->first, run->count,
                     run->zero ? NULL : ram->host + run->first * GMEM_PAGE_SIZE);
        a->pages += run->count;
    }
    run->count = 0;
}

static void put_page(struct ft_session *s, const struct engine_ram *ram, struct answer *a,
                     struct run *run, uint64_t page)
{
    bool zero = is_zero(ram->host + page * GMEM_PAGE_SIZE);

    if (run->count > 0 && (run->first + run->count != page || run->zero != zero)) {
        put_run(s, ram, a, run);
    }
    if (run->count++ == 0) {
        run->first = page;
        run->zero = zero;
    }
}

/* Pages of either side that differ, or that only this side has; of those that only the
 * twin has, those that differ. */
static void put_pages(struct ft_session *s, const struct ft_sums_of *sums,
                      struct answer *a)
{
    struct run run = {.count = 0};
    struct engine_ram ram;
    struct ft_hash hash = {.page = 0};
    uint64_t at = 0, page = 0;

    engine_ram(s->conf.engine, &ram);
    for (;;) {
        uint64_t theirs = s->page_count;

        if (at < sums->head.total) {
            ft_hash_get(sums->entries + at * FT_HASH_LEN, &hash);
            theirs = hash.page;
        }
        page = next_page(s, page, theirs);
        if (page >= s->page_count) {
            break;
        }
        a->looked_at++;
        if (page == theirs) {
            struct ft_sum sum =
                ft_sum128(ram.host + page * GMEM_PAGE_SIZE, GMEM_PAGE_SIZE);

            at++;
            if (memcmp(&sum, &hash.sum, sizeof sum) == 0) {
                page++;
                continue;
            }
        }
        put_page(s, &ram, a, &run, page++);
    }
    put_run(s, &ram, a, &run);
}

static void put_state(struct ft_session *s, const struct ft_sums_of *sums,
                      struct answer *a)
{
    const uint8_t *bytes;
    size_t len = engine_repair_save(s->conf.engine, &bytes, &a->flags);
    struct ft_sum sum;

    if (len == 0) {
        return;
    }
    sum = ft_sum128(bytes, len);
    a->state = sums->head.diverged || memcmp(&sum, &sums->head.state, sizeof sum) != 0;
    if (a->state) {
        ft_pri_state(s, a->position, bytes, len);
    }
}

static void put_output(struct ft_session *s, uint64_t ordinal, struct answer *a)
{
    const struct tape_out *out;
    struct bytes_wr wr;

    pthread_mutex_lock(&s->lock); /* what leaves meanwhile is freed */
    out = ft_kept_out(s, ordinal);
    if (out != NULL) {
        ft_pri_record(s, &wr, FT_HELD, a->position, out->unit);
        ft_put_held(&wr, ordinal, out);
        a->outputs++;
    }
    pthread_mutex_unlock(&s->lock);
    if (out != NULL) {
        ft_pri_emit(s, &wr, a->position);
    }
}

/* What the twin has not made the same: frames and bytes that have not left, writes. */
static bool put_outputs(struct ft_session *s, uint64_t verified, struct answer *a)
{
    if (s->disk_lost > verified) {
        pthread_mutex_lock(&s->lock);
        ft_pri_event(s, FT_PRI_HOST_ERROR, 0,
                     "the twin went another way, and writes of the mirrored disks since "
                     "then are not kept any more");
        pthread_mutex_unlock(&s->lock);
        return false;
    }
    for (uint64_t i = verified + 1; i <= s->outputs; i++) {
        put_output(s, i, a);
    }
    return true;
}

static void answer(struct ft_session *s, const struct ft_sums_of *sums, uint64_t position)
{
    struct answer a = {.position = position};
    uint64_t before;

    if (!engine_repair_dirty(s->conf.engine, s->dirty)) {
        return;
    }
    put_set(s, &a, FT_SET_BEGINS);
    before = s->seq;
    put_pages(s, sums, &a);
    put_state(s, sums, &a);
    if (!put_outputs(s, sums->head.verified, &a)) {
        return;
    }
    a.records = s->seq - before;
    put_set(s, &a, FT_SET_WHOLE);
    pthread_mutex_lock(&s->lock);
    s->counts.hashed_pages += a.looked_at;
    s->counts.repair_pages += a.pages;
    s->counts.repair_states += a.state;
    s->counts.repair_outputs += a.outputs;
    s->counts.repairs += a.pages > 0 || a.state || a.outputs > 0;
    s->counts.diverged_data +=
        a.pages > 0 && s->barrier_reason == FT_BARRIER_DUE && !sums->head.diverged;
    pthread_mutex_unlock(&s->lock);
}

static void over(struct ft_session *s)
{
    uint64_t us = (loop_now_ns() - s->barrier_ns) / 1000;

    memset(s->dirty, 0, (s->page_count / 64 + 1) * sizeof *s->dirty);
    s->counts.barriers++;
    s->counts.pause_us = us;
    s->counts.pause_max_us = us > s->counts.pause_max_us ? us : s->counts.pause_max_us;
}

void ft_barrier_turn(struct ft_session *s, uint64_t position)
{
    enum ft_barrier_reason reason = FT_BARRIER_DUE;
    struct ft_sums_of sums = {.ready = false};
    bool begins;

    pthread_mutex_lock(&s->lock);
    if (s->barrier_over) {
        s->barrier_over = false;
        over(s);
    }
    begins = s->barrier_wanted && !s->released_all;
    if (begins) {
        s->barrier_wanted = false;
        s->barrier_open = true;
        s->barrier_at = position;
        s->barrier_ns = loop_now_ns();
        s->barrier++;
        /* Whatever else asked for one meanwhile. */
        reason = s->barrier == s->alike.number ? FT_BARRIER_END : s->barrier_reason;
    } else if (s->barrier_open && s->sums.ready && !s->released_all) {
        sums = s->sums;
        s->sums = (struct ft_sums_of){.entries = NULL};
    }
    pthread_mutex_unlock(&s->lock);
    if (begins) {
        write_barrier(s, position, reason);
    } else if (sums.ready) {
        answer(s, &sums, position);
        free(sums.entries);
    }
}
