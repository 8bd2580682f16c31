/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy at the destination: the guest runs while pages of it are still at the source.
 * Those that are here in an older form are taken away first, so that whoever touches one
 * waits in the kernel (vmm/uffd); a thread hears of that and asks the source for it, and
 * the threads that receive put pages into their places, each in one piece.
 *
 * A page that is neither here nor missing is one of zeros. Until all is here the
 * userfaultfd stays as it is, also in an end: to close it would let a guest go on with
 * zeros where its memory should be.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/loop.h"
#include "migrate/mig_holes.h"
#include "migrate/mig_in_priv.h"
#include "migrate/mig_zstd.h"
#include "vmm/uffd.h"

#define LOOK_MS 1000

static uint8_t *page_at(const struct in *in, uint64_t page)
{
    return in->t->ram.host + (page << MIG_PAGE_SHIFT);
}

/* The list
 * -------------------------------------------------------------------------------------
 */

static bool make_lists(struct in *in)
{
    struct in_holes *h = &in->holes;
    uint64_t pages = in->t->ram.page_count;
    uint64_t *missing = calloc(mig_bitmap_words(pages), sizeof *missing);
    uint64_t *unasked = calloc(mig_bitmap_words(pages), sizeof *unasked);

    h->urgent = calloc(1, sizeof *h->urgent);
    if (missing == NULL || unasked == NULL || h->urgent == NULL) {
        free(missing);
        free(unasked);
        return false;
    }
    h->urgent->in = in;
    mig_bitmap_init(&h->missing, missing, pages);
    mig_bitmap_init(&h->unasked, unasked, pages);
    return true;
}

bool mig_in_holes_take(struct in *in, uint32_t body_len, struct vmm_error *err)
{
    struct in_holes *h = &in->holes;
    uint8_t *body = malloc(body_len);
    struct iovec iov = {.iov_base = body, .iov_len = body_len};
    enum mig_holes_reason reason;
    bool good;

    if ((in->features & MIG_FEATURE_POSTCOPY) == 0) {
        free(body);
        (void)vmm_fail(err, -EPROTO, "a list of missing pages that nobody agreed on");
        return false;
    }
    if (body == NULL || (h->missing.word == NULL && !make_lists(in))) {
        free(body);
        (void)vmm_fail(err, -ENOMEM, "no memory for the list of missing pages");
        return false;
    }
    good = mig_conn_recv_body(in->t->streams.conn[0], &iov, 1, err) == 0;
    if (good) {
        reason = mig_holes_decode(body, body_len, &h->at, &h->missing);
        good = reason == MIG_HOLES_OK;
        if (!good) {
            (void)vmm_fail(err, -EPROTO, "%s", mig_holes_reason_str(reason));
        }
    }
    free(body);
    return good;
}

/* Who waits
 * ------------------------------------------------------------------------------------
 */

/* Page by page: it is asked for once. One that is not missing is zeros, or has come
 * since.
 */
static int look_at(struct in *in, uint64_t address, struct mig_want *want)
{
    uint64_t page = (address - (uintptr_t)in->t->ram.host) >> MIG_PAGE_SHIFT;
    int r = 0;

    if (page >= in->t->ram.page_count) {
        return -ERANGE;
    }
    if (!mig_bitmap_test(&in->holes.missing, page)) {
        r = uffd_zero(in->t->uffd, page_at(in, page), MIG_PAGE);
        return r == -EEXIST ? uffd_wake(in->t->uffd, page_at(in, page), MIG_PAGE) : r;
    }
    if (mig_bitmap_claim(&in->holes.unasked, page)) {
        want->page[want->count++] = page;
        in->holes.faults++;
        in->holes.asked_page = page;
        in->holes.asked_ns = loop_now_ns();
    }
    return 0;
}

static void fault_main(void *data)
{
    struct in *in = data;
    struct pollfd fds[] = {{.fd = in->t->uffd, .events = POLLIN},
                           {.fd = in->t->stop.fd, .events = POLLIN}};
    uint64_t address[MIG_WANT_MAX];
    struct mig_msg msg = {.kind = MIG_WANT};
    struct vmm_error err = {""};
    int n = 0, r = 0;

    while (n >= 0 && r >= 0 && !mig_stop_raised(&in->t->stop)) {
        (void)poll(fds, 2, LOOK_MS);
        msg.want.count = 0;
        n = uffd_read(in->t->uffd, address, MIG_WANT_MAX);
        for (int i = 0; i < n && r >= 0; i++) {
            r = look_at(in, address[i], &msg.want);
        }
        if (msg.want.count > 0 && !mig_send_msg(in->t, &msg, &err)) {
            mig_note_post(in->t, MIG_DST_LOST, MIG_END_LOST, err.text);
            return;
        }
    }
    if (n < 0 || r < 0) {
        (void)vmm_fail(&err, n, "the userfaultfd failed: %s", strerror(n < 0 ? -n : -r));
        mig_note_post(in->t, MIG_DST_HOST_ERROR, MIG_END_HOST, err.text);
    }
}

/* Begin and end
 * --------------------------------------------------------------------------------- */

/* What is here of them is old. */
static void discard(struct in *in)
{
    uint64_t at = 0;
    struct mig_run run, old;

    while (mig_bitmap_next(&in->holes.missing, at, 0, &run)) {
        uint64_t end = run.first + run.count;

        for (at = run.first;
             at < end && mig_bitmap_next(&in->filled, at, end - at, &old) &&
             old.first < end;
             at = old.first + old.count) {
            old.count = old.first + old.count < end ? old.count : end - old.first;
            engine_ram_zero(&in->t->ram, old.first, old.count);
        }
        at = end;
    }
}

/* The first missing page at or after `from` that exists all the same: it would be read
 * instead of waited for. */
static bool next_stale(struct in *in, uint64_t from, uint64_t *ret_page)
{
    uint64_t end;
    struct mig_run run;

    for (; engine_ram_data(&in->t->ram, &from, &end); from = end) {
        if (mig_bitmap_next(&in->holes.missing, from, 1, &run) && run.first < end) {
            *ret_page = run.first;
            return true;
        }
    }
    return false;
}

/* A huge page that the kernel would not split now (Linux then clears the part that is
 * taken away, and keeps it): it goes as a whole, and what is not old comes back. */
static bool rebuild_block(struct in *in, uint64_t block)
{
    uint64_t first = block * MIG_BLOCK_PAGES, left = in->t->ram.page_count - first;
    uint64_t count = left < MIG_BLOCK_PAGES ? left : MIG_BLOCK_PAGES;
    uint8_t *copy = malloc(count * MIG_PAGE);

    if (copy == NULL) {
        return false;
    }
    memcpy(copy, page_at(in, first), count * MIG_PAGE);
    engine_ram_zero(&in->t->ram, first, count);
    for (uint64_t i = 0; i < count; i++) {
        if (mig_bitmap_test(&in->filled, first + i) &&
            !mig_bitmap_test(&in->holes.missing, first + i)) {
            memcpy(page_at(in, first + i), copy + i * MIG_PAGE, MIG_PAGE);
        }
    }
    free(copy);
    return true;
}

static int make_holes(struct in *in)
{
    uint64_t page = 0, block = UINT64_MAX;

    while (next_stale(in, page, &page)) {
        if (page / MIG_BLOCK_PAGES == block ||
            !rebuild_block(in, page / MIG_BLOCK_PAGES)) {
            return vmm_fail(&in->err, -EIO,
                            "the host did not give page %" PRIu64
                            " of the guest's memory back: no post-copy",
                            page);
        }
        block = page / MIG_BLOCK_PAGES;
        in->holes.rebuilt++;
        page = block * MIG_BLOCK_PAGES;
    }
    return 0;
}

int mig_in_holes_begin(struct in *in)
{
    struct in_holes *h = &in->holes;
    struct engine_ram *ram = &in->t->ram;
    uint64_t began = loop_now_ns();
    int r;

    /* Nor may the kernel make huge pages of them, with zeros in the holes. */
    (void)madvise(ram->host, ram->len, MADV_NOHUGEPAGE);
    discard(in);
    r = make_holes(in);
    if (r < 0) {
        return r;
    }
    r = uffd_register(in->t->uffd, ram->host, ram->len);
    if (r < 0) {
        return vmm_fail(&in->err, r, "userfaultfd cannot watch the guest's memory: %s",
                        strerror(-r));
    }
    mig_bitmap_merge(&h->unasked, 0, h->missing.word, ram->page_count);
    h->left = in->finish.missing;
    h->on = true;
    h->took_ns = loop_now_ns() - began;
    mig_pool_run(in->t->pool, MIG_THREAD_FAULT, fault_main, in);
    return 0;
}

/* The source ends by itself if it does not hear of it. */
static void send_all(struct in *in)
{
    struct mig_msg msg = {.kind = MIG_ALL,
                          .all = {.pages = in->pages, .faults = in->holes.faults}};

    (void)mig_send_msg(in->t, &msg, &in->err);
}

void mig_in_holes_end(struct in *in)
{
    struct engine_ram *ram = &in->t->ram;

    (void)uffd_unregister(in->t->uffd, ram->host, ram->len);
    (void)madvise(ram->host, ram->len, MADV_HUGEPAGE);
    send_all(in);
}

void mig_in_holes_runs(struct in *in, uint64_t epoch)
{
    struct mig_msg msg = {.kind = MIG_RUNS, .runs = {.epoch = epoch}};

    in->holes.begun_ns = loop_now_ns();
    if (!mig_send_msg(in->t, &msg, &in->err)) {
        mig_note_post(in->t, MIG_DST_LOST, MIG_END_LOST, in->err.text);
    }
    mig_tell(in->t, MIG_PHASE_FILLING, "");
    if (in->holes.left == 0) {
        mig_note_post(in->t, MIG_DST_ALL_HERE, MIG_OK, NULL);
    }
}

static double ms_of(uint64_t ns)
{
    return (double)ns / (double)NSEC_PER_MSEC;
}

void mig_in_holes_tell(struct in *in)
{
    char text[MIG_TEXT_MAX + 1];

    snprintf(
        text, sizeof text,
        "post-copy: the last %" PRIu64 " MiB came in %" PRIu64 " ms, %" PRIu64
        " waits of the guest for %" PRIu64 " ms in all, the longest %.1f ms (holes made "
        "in %" PRIu64 " ms, %" PRIu64 " huge pages rebuilt)",
        in->finish.missing * MIG_PAGE >> 20,
        (loop_now_ns() - in->holes.begun_ns) / NSEC_PER_MSEC, (uint64_t)in->holes.faults,
        in->holes.waited_ns / NSEC_PER_MSEC, ms_of(in->holes.longest_ns),
        in->holes.took_ns / NSEC_PER_MSEC, in->holes.rebuilt);
    mig_tell_missing(in->t, 0, in->holes.faults);
    mig_tell(in->t, MIG_PHASE_DONE, text);
}

/* With pages missing it must not run, whoever has said START: its VMM ends. */
void mig_in_holes_lost(struct in *in, const char *why)
{
    char text[REASON_LEN_MAX + 1];

    snprintf(text, sizeof text,
             "post-copy: the source was lost while %" PRIu64
             " MiB of the guest's memory were missing: %.150s",
             ((uint64_t)in->holes.left * MIG_PAGE + (1u << 20) - 1) >> 20, why);
    mig_tell(in->t, MIG_PHASE_FAILED, text);
    (void)engine_end(in->t->conf.engine, RUN_END_HOST, text);
}

void mig_in_holes_free(struct in *in)
{
    free(in->holes.missing.word);
    free(in->holes.unasked.word);
    if (in->holes.urgent != NULL) {
        mig_zstd_free(in->holes.urgent->zstd);
        free(in->holes.urgent->bounce);
    }
    free(in->holes.urgent);
}

/* Pages
 * --------------------------------------------------------------------------------------
 */

static bool all_missing(const struct in *in, const struct mig_ram_run *run)
{
    for (uint64_t i = 0; i < run->count; i++) {
        if (!mig_bitmap_test(&in->holes.missing, run->first + i)) {
            return false;
        }
    }
    return true;
}

/* How long it took, as far as one is looked at at a time. */
static void note_wait(struct in_holes *h, const struct mig_ram_run *run)
{
    uint64_t asked_ns = h->asked_ns, took;

    if (asked_ns != 0 && h->asked_page - run->first < run->count) {
        took = loop_now_ns() - asked_ns;
        h->asked_ns = 0;
        h->waited_ns += took;
        if (took > h->longest_ns) {
            h->longest_ns = took;
        }
    }
}

/* In place, then no longer missing: a fault that looks between the two asks for nothing,
 * and was woken. */
static bool put(struct in_data *d, const struct mig_ram_run *run, const uint8_t *from,
                struct vmm_error *err)
{
    struct in *in = d->in;
    uint64_t len = (uint64_t)run->count << MIG_PAGE_SHIFT, came = 0;
    int r;

    if (!all_missing(in, run)) {
        return mig_in_bad_frame(d, "a page that was not missing", err);
    }
    r = run->kind == MIG_RAM_RAW
            ? uffd_copy(in->t->uffd, page_at(in, run->first), from, len)
            : uffd_zero(in->t->uffd, page_at(in, run->first), len);
    if (r < 0) {
        (void)vmm_fail(err, r, "a page of the guest cannot be put in place: %s",
                       strerror(-r));
        return false;
    }
    note_wait(&in->holes, run);
    for (uint64_t i = 0; i < run->count; i++) {
        came += mig_bitmap_claim(&in->holes.missing, run->first + i);
    }
    if (came > 0 && atomic_fetch_sub(&in->holes.left, came) == came) {
        mig_note_post(in->t, MIG_DST_ALL_HERE, MIG_OK, NULL);
    }
    return true;
}

static bool put_runs(struct in_data *d, struct vmm_error *err)
{
    const uint8_t *from = d->bounce;

    for (uint32_t i = 0; i < d->ram.run_count; i++) {
        const struct mig_ram_run *run = &d->ram.run[i];

        if (!put(d, run, from, err)) {
            return false;
        }
        from += run->kind == MIG_RAM_RAW ? (uint64_t)run->count << MIG_PAGE_SHIFT : 0;
    }
    return true;
}

bool mig_in_holes_pages(struct in_data *d, struct mig_conn *conn, bool urgent,
                        uint32_t body_len, struct vmm_error *err)
{
    struct in *in = d->in;
    struct mig_ram_conf conf = {.page_count = in->t->ram.page_count,
                                .stream = urgent ? 0 : d->index,
                                .n_streams = urgent ? 1 : in->data_count,
                                .discard = (in->ack.features & MIG_FEATURE_DISCARD) != 0,
                                .zstd = (in->ack.features & MIG_FEATURE_ZSTD) != 0};

    if (d->bounce == NULL) {
        d->bounce = malloc(MIG_RAM_PAGES_MAX * MIG_PAGE);
    }
    if (d->bounce == NULL) {
        (void)vmm_fail(err, -ENOMEM, "no memory for pages that come");
        return false;
    }
    if (!mig_in_ram_head(d, conn, &conf, body_len, err)) {
        return false;
    }
    d->iov[0] = (struct iovec){d->bounce, d->ram.raw_pages * MIG_PAGE};
    if (d->ram.packed != 0
            ? !mig_in_packed(d, conn, 1, err)
            : d->ram.raw_pages > 0 && mig_conn_recv_body(conn, d->iov, 1, err) < 0) {
        return false;
    }
    in->heard_ns = loop_now_ns();
    in->pages += d->ram.pages;
    in->bytes += body_len;
    return put_runs(d, err);
}
