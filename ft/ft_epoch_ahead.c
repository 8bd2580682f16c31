/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoint mode, primary: the sender copies pages aside while the guest still runs, so
 * that it stands still for the rest only. What is copied when: ft_ahead.h. */
#include "ft/ft_session_priv.h"

#define SLICE_PAGES 2048u /* some ms; heartbeats go in between */

static int harvest(void *ctx, uint64_t *bitmap, uint64_t *ret_pages)
{
    return engine_epoch_harvest(ctx, bitmap, ret_pages);
}

static int protect(void *ctx, uint64_t first, uint64_t count)
{
    return engine_epoch_protect(ctx, first, count);
}

/* Without the lock: as long as the epoch is not due, its pages are the sender's. 1: there
 * may be more to copy; 0: the guest is to stop; or -errno. */
static int work(struct ft_session *s)
{
    struct ft_epoch *ep = &s->epoch;
    struct ft_stage *pages = &ep->staged.pages;
    struct ft_stage_source from = {
        .harvest = harvest, .protect = protect, .ctx = s->conf.engine};
    struct engine_ram ram;
    int r;

    engine_ram(s->conf.engine, &ram);
    from.ram = ram.host;
    if (!ep->copying) {
        r = ft_stage_harvest(pages, &from);
        ep->copying = r == 0 && ft_ahead_next(&ep->ahead, pages->marked) == FT_AHEAD_COPY;
        return r < 0 ? r : ep->copying;
    }
    r = ft_stage_copy(pages, &from, SLICE_PAGES);
    ep->copying = pages->marked > 0;
    return r < 0 ? r : 1;
}

/* Under lock, when the epoch is to end: copies a part ahead, without the lock; false:
 * nothing more is copied, and the guest is told to stand still. */
bool ft_epoch_turn(struct ft_session *s)
{
    int r;

    pthread_mutex_unlock(&s->lock);
    r = work(s);
    pthread_mutex_lock(&s->lock);
    if (r > 0) {
        return true;
    }
    if (ft_epoch_due_ns(s) == 0) { /* over meanwhile */
        return false;
    }
    if (r < 0) {
        s->epoch.trouble = true;
        ft_pri_event(s, FT_PRI_HOST_ERROR, 0,
                     "pages of a checkpoint cannot be copied while the guest runs: no "
                     "memory, or KVM does not tell which were written to");
        return false;
    }
    s->epoch.due = true;
    engine_nudge(s->conf.engine);
    return false;
}
