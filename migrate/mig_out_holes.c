/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy at the source: what is left when the guest is frozen is told, not sent; when
 * it runs at the destination, the pages go: first those that somebody waits for, on the
 * control stream, and all others on theirs, in small frames, so that the first find a
 * free link. Each page goes once: whoever takes its bit sends it.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/loop.h"
#include "migrate/mig_holes.h"
#include "migrate/mig_out_priv.h"
#include "migrate/mig_zero.h"

#define PUSH_PAGES  32u /* of a frame */
#define AHEAD_PAGES 8u  /* with one that is waited for, its neighbours */

/* Pages that do not exist were not sent in a first round that was cut, and read as zeros
 * at the destination as they do here. */
static void forget_nothing(struct out *o)
{
    uint64_t at = 0, begin = 0, end;

    for (; engine_ram_data(&o->t->ram, &begin, &end); begin = at = end) {
        mig_bitmap_clear(&o->owed, at, begin - at);
    }
    mig_bitmap_clear(&o->owed, at, o->t->ram.page_count - at);
}

bool mig_out_holes_begin(struct out *o)
{
    uint64_t pages = o->t->ram.page_count;
    uint64_t *word = calloc(mig_bitmap_words(pages), sizeof *word);

    o->urgent = calloc(1, sizeof *o->urgent);
    if (word == NULL || o->urgent == NULL) {
        free(word);
        (void)vmm_fail(&o->err, -ENOMEM, "no memory for the list of missing pages");
        return false;
    }
    mig_bitmap_init(&o->owed, word, pages);
    mig_bitmap_merge(&o->owed, 0, o->bitmap.word, pages);
    mig_bitmap_clear(&o->bitmap, 0, pages);
    if (o->round == 1) {
        forget_nothing(o);
    }
    o->urgent->out = o;
    return true;
}

bool mig_out_holes_tell(struct out *o)
{
    uint8_t *body = malloc(MIG_HOLES_LEN_MAX);
    struct iovec iov = {.iov_base = body};
    uint64_t at = 0;
    int r = 0;

    while (body != NULL && r == 0 &&
           (iov.iov_len = mig_holes_encode(&o->owed, &at, body)) > 0) {
        r = mig_conn_send(o->t->streams.conn[0], MIG_FRAME_MISSING, 1, 0, &iov, 1,
                          &o->err);
    }
    if (body == NULL) {
        r = vmm_fail(&o->err, -ENOMEM, "no memory for the list of missing pages");
    }
    free(body);
    return r == 0;
}

void mig_out_holes_serve(struct out *o)
{
    pthread_mutex_lock(&o->lock);
    o->serving = true;
    pthread_cond_broadcast(&o->cond);
    pthread_mutex_unlock(&o->lock);
}

/* A data thread: all that nobody asked for. */
bool mig_out_holes_push(struct out_data *d, struct vmm_error *err)
{
    struct out *o = d->out;
    struct mig_cursor cursor = mig_cursor_make(d->index, o->data_count);
    struct mig_conn *conn = o->t->streams.conn[1 + d->index];
    bool more = true;

    while (more && !mig_stop_raised(&o->t->stop)) {
        uint64_t began_ns = loop_now_ns();
        struct mig_run run;

        mig_out_wait_for_cap(o); /* before: what is taken cannot be sent out of turn */
        mig_ram_begin(&d->ram, o->round);
        do {
            more = mig_bitmap_take(&o->owed, &cursor, &run, 1,
                                   PUSH_PAGES - d->ram.pages) > 0;
            if (more) {
                mig_zero_classify(&d->ram, o->t->ram.host, &run);
            }
        } while (more && d->ram.pages < PUSH_PAGES && mig_ram_room(&d->ram) > 0);
        if (d->ram.run_count > 0 &&
            !mig_out_frame(d, conn, mig_out_payload(d), began_ns, err)) {
            return false;
        }
    }
    return true;
}

/* The hearing thread. What does not fit comes with the others. */
void mig_out_holes_wanted(struct out *o, const struct mig_want *want)
{
    bool first;

    pthread_mutex_lock(&o->lock);
    first = o->want_count == 0;
    for (uint32_t i = 0; i < want->count && o->want_count < WANT_QUEUE; i++) {
        o->want[(o->want_head + o->want_count++) % WANT_QUEUE] = want->page[i];
    }
    pthread_mutex_unlock(&o->lock);
    if (first) {
        mig_note_post(o->t, MIG_NOTE_WANT, MIG_OK, NULL);
    }
}

static bool next_wanted(struct out *o, uint64_t *ret_page)
{
    bool have;

    pthread_mutex_lock(&o->lock);
    have = o->want_count > 0;
    if (have) {
        *ret_page = o->want[o->want_head];
        o->want_head = (o->want_head + 1) % WANT_QUEUE;
        o->want_count--;
    }
    pthread_mutex_unlock(&o->lock);
    return have;
}

/* The control thread. */
void mig_out_holes_answer(struct out *o)
{
    struct out_data *d = o->urgent;
    uint64_t page;

    while (d != NULL && o->owed.word != NULL && next_wanted(o, &page)) {
        uint64_t end = (page | (AHEAD_PAGES - 1)) + 1;

        if (page >= o->owed.page_count) {
            mig_note_post(o->t, MIG_SRC_BAD_PEER, MIG_END_PROTOCOL,
                          "the destination wants a page behind the end of memory");
            return;
        }
        mig_ram_begin(&d->ram, o->round);
        for (uint64_t p = page; p < end && p < o->owed.page_count; p++) {
            struct mig_run run = {p, 1};

            if (mig_bitmap_claim(&o->owed, p)) {
                mig_zero_classify(&d->ram, o->t->ram.host, &run);
            }
        }
        if (d->ram.run_count > 0 &&
            !mig_out_frame(d, o->t->streams.conn[0], mig_out_payload(d), 0, &o->err)) {
            mig_note_post(o->t, MIG_SRC_LOST, MIG_END_LOST, o->err.text);
            return;
        }
    }
}

void mig_out_holes_free(struct out *o)
{
    free(o->owed.word);
    free(o->urgent);
}
