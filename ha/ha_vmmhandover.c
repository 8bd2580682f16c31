/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handover of a live migration, at the source: what its VMM has done is released to
 * the destination's instance, once its disks are drained; or it goes on, as it is or by
 * the next claim. Until the release is submitted that is this agent's choice; from then
 * on the link decides (R4).
 */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/tcp_dial.h"
#include "fencing/claim_store.h"
#include "ha/ha_storage.h"
#include "ha/ha_text.h"
#include "ha/ha_vmmmove_priv.h"

#define HANDOVER_NS (10 * NSEC_PER_SEC) /* released, and nobody says that it runs */
#define CANCEL_NS   (5 * NSEC_PER_SEC)

/* As it is, or by the next claim. `why` may be l's own. */
void ha_vmmmove_go_on(struct ha_local *l, const char *why)
{
    struct ha_moving *m = l->moving;
    char because[REASON_LEN_MAX + 1];

    if (m->step == MOVE_BACK) {
        return;
    }
    ha_text_set(because, sizeof because, why, NULL);
    ha_text_set(m->why, sizeof m->why,
                m->upgrade ? "not upgraded: " : "not migrated: ", because, NULL);
    log_warn("vm %s: %s", l->name, m->why);
    ha_vmmmove_stop_timer(l);
    tcp_dial_cancel(m->dial);
    m->dial = NULL;
    m->step = MOVE_BACK;
    ha_vmmupgrade_drop(l, m->why);
    if (l->phase == LOCAL_RUNNING) {
        char text[REASON_LEN_MAX + 1];

        ha_text_set(text, sizeof text, m->why, NULL);
        ha_vmmmove_free(l);
        ha_local_publish(l, false);
        ha_local_report(l, HA_OUTCOME_RUNNING, text);
        return;
    }
    l->phase = LOCAL_STARTING;
    l->thawing = true;
    l->entered = false;
    l->claim_won = false;
    if (ha_local_begin_claim(l) < 0) {
        ha_local_fail(l, "out of memory");
    }
}

/* It may answer later: it is told again then. */
static void cancel_timer_fn(void *data)
{
    struct ha_local *l = data;
    char why[REASON_LEN_MAX + 1];

    l->moving->timer = 0;
    ha_text_set(why, sizeof why, l->moving->why, "; its gemel-vmm does not answer", NULL);
    ha_vmmmove_go_on(l, why);
}

/* Called off by the agent: the VMM says what that led to. */
void ha_vmmmove_cancel(struct ha_local *l, const char *why)
{
    struct ha_moving *m = l->moving;

    switch (m->step) {
    case MOVE_SENDING:
    case MOVE_RELEASING:
        if (!m->cancelled) {
            m->cancelled = true;
            ha_text_set(m->why, sizeof m->why, why, NULL);
            ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__MIGRATE_CANCEL);
            ha_vmmmove_start_timer(l, CANCEL_NS, cancel_timer_fn);
        }
        break;
    case MOVE_STORAGE:
    case MOVE_RELEASE:
        m->cancelled = true; /* when the worker is done: the claim decides */
        ha_text_set(m->why, sizeof m->why, why, NULL);
        break;
    case MOVE_HANDED_OVER:
        ha_vmmmove_go_on(l, why);
        break;
    case MOVE_PREPARE:
    case MOVE_OFFERED:
    case MOVE_DIAL:
    case MOVE_RECEIVING:
    case MOVE_READY:
        ha_vmmmove_go_on(l, why);
        break;
    case MOVE_BACK:
    default:
        break;
    }
}

static void handover_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->moving->timer = 0;
    ha_vmmmove_go_on(l, "the destination did not take it over in time");
}

struct handover_job {
    struct ha_vmm *vmm;
    uint64_t local_id;
    char dir[PATH_LEN_MAX * 2];
    struct ha_disk_list disks;
    struct claim_release release;
    enum claim_outcome outcome;
    bool submitted;
    char why[REASON_LEN_MAX + 1];
    int r;
};

static void handover_work(void *data)
{
    struct handover_job *job = data;

    job->r = ha_disks_drain(&job->disks, job->why, sizeof job->why);
    if (job->r < 0) {
        return;
    }
    job->submitted = true;
    job->r = claim_store_release(job->dir, &job->release, &job->outcome, job->why,
                                 sizeof job->why);
    if (job->r == 0 && job->outcome != CLAIM_OUTCOME_WON) {
        job->r = -EALREADY;
        ha_text_set(job->why, sizeof job->why, "its claim is released already", NULL);
    }
}

static void handover_done(void *data)
{
    struct handover_job *job = data;
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);

    if (l != NULL && l->moving != NULL) {
        l->take_back = l->take_back || job->submitted;
        l->moving->step = MOVE_HANDED_OVER;
        l->moving->busy = false;
        if (l->ended) {
            l->outcome = l->take_back ? HA_OUTCOME_MOVED : l->outcome;
            ha_vmmupgrade_ended(l);
            ha_local_gone(l);
        } else if (job->r < 0) {
            ha_vmmmove_go_on(l, job->why);
        } else if (l->moving->cancelled) {
            ha_vmmmove_go_on(l, l->moving->why);
        } else {
            l->vmm->ops->step(l->vmm->ctx, l->name, "released to the destination");
            ha_vmmmove_start_timer(l, HANDOVER_NS, handover_timer_fn);
            if (l->successor != NULL) {
                ha_vmmmove_look(l->successor);
            }
        }
    }
    free(job);
}

static void release(struct ha_local *l)
{
    struct handover_job *job = calloc(1, sizeof *job);

    l->moving->step = MOVE_RELEASE;
    if (job != NULL) {
        job->vmm = l->vmm;
        job->local_id = l->id;
        ha_text_set(job->dir, sizeof job->dir, l->dir, NULL);
        ha_local_disks(l, &job->disks);
        job->release = (struct claim_release){.vm = l->vm,
                                              .epoch = l->epoch,
                                              .instance = l->instance,
                                              .to = l->moving->move.instance};
    }
    if (job == NULL ||
        worker_submit(l->vmm->worker, l->id, handover_work, handover_done, job) < 0) {
        free(job);
        ha_vmmmove_go_on(l, "out of memory");
        return;
    }
    l->moving->busy = true;
}

void ha_vmmmove_storage_gone(struct ha_local *l)
{
    release(l);
}

/* The VMM moves no more by itself: whatever it has to do with its disks is done. */
void ha_vmmmove_let_go(struct ha_local *l)
{
    if (l->moving->cancelled) {
        ha_vmmmove_go_on(l, l->moving->why);
    } else if (ha_storage_up(l)) {
        l->moving->step = MOVE_STORAGE;
        ha_storage_quit(l); /* a thaw brings another one */
    } else {
        release(l);
    }
}
