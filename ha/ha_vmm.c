/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_vmm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "base/uuid.h"
#include "fencing/claim.h"
#include "ha/ha_storage.h"
#include "ha/ha_text.h"
#include "ha/ha_vmm_priv.h"

#define CLAIM_WORKERS      4
#define DISK_WORKERS       4
#define DISK_WORKERS_MAX   64u /* storage that hangs takes one for each VM on it */
#define CONNECT_TIMEOUT_NS (10 * NSEC_PER_SEC)
#define KILL_GRACE_NS      (5 * NSEC_PER_SEC)
/* A VM that freezes again soon after each thaw waits before the next one: 0.5 s, then
 * twice as long each time, at most 16 s. */
#define THAW_FIRST_NS  (NSEC_PER_SEC / 2)
#define THAW_DOUBLINGS 6u

/* Start
 * -----------------------------------------------------------------------------------------
 */

static void settle_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->timer = 0;
    ha_local_enter(l);
}

static void start_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->timer = 0;
    ha_local_fail(l, "gemel-vmm did not answer in time");
}

void ha_local_enter(struct ha_local *l)
{
    struct claim_evidence known = ha_local_evidence(l);
    struct claim_disk_verdict verdict;
    uint64_t now_ns = known.now_ns;

    if (!l->claim_won || l->claim_pending || l->entered || l->stopping ||
        (!l->linked && l->task != LOCAL_REVERT)) {
        return;
    }
    /* Its storage lets none of them in any more, from the moment that it is opened. */
    if (!l->thawing && !(l->conf != NULL && conf_vm_is_guarded(l->conf))) {
        ha_vmmhold_verdict(l, &l->claim, &known, &verdict);
        if (verdict.reason == CLAIM_DISK_UNPROVEN || verdict.until_ns == UINT64_MAX) {
            ha_local_fail(l, "an earlier owner's writes are not excluded and no time is "
                             "known when they will be");
            return;
        }
        if (verdict.reason == CLAIM_DISK_SETTLING && verdict.until_ns > now_ns) {
            loop_timer_del(l->vmm->loop, &l->timer);
            loop_timer_add(l->vmm->loop, verdict.until_ns - now_ns, settle_timer_fn, l,
                           &l->timer);
            return;
        }
    }
    if (l->thawing) {
        /* A lease that ran out stays lost until the next one. The claim was just taken in
         * a quorate view: the last renewal if it still holds, else none until the next.
         */
        bool holds =
            l->lease_ms != 0 && now_ns - l->lease_from_ns < l->lease_ms * NSEC_PER_MSEC;

        ha_vmmlink_lease(l, holds ? l->lease_ms : 0, l->lease_from_ns);
    }
    l->entered = true;
    loop_timer_del(l->vmm->loop, &l->timer);
    if (l->task == LOCAL_REVERT) {
        ha_vmmsave_revert(l);
        return;
    }
    loop_timer_add(l->vmm->loop,
                   (l->conf != NULL ? l->conf->start_timeout_ms * NSEC_PER_MSEC
                                    : CONNECT_TIMEOUT_NS) +
                       (l->paused ? l->disk_count * NBD_CONNECT_MS * NSEC_PER_MSEC : 0),
                   start_timer_fn, l, &l->timer);
    if (l->thawing && !ha_vmmfiles_connects(l)) {
        ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__THAW);
    } else if (ha_vmmfiles_start(l) < 0) {
        ha_local_fail(l, "out of memory");
    }
}

void ha_local_linked(struct ha_local *l)
{
    l->linked = true;
    if (l->twin != NULL) {
        loop_timer_del(l->vmm->loop, &l->timer);
        ha_vmmtwin_linked(l);
    } else if (l->moving != NULL && !l->claim_won) {
        loop_timer_del(l->vmm->loop, &l->timer); /* its own ones count */
        ha_vmmmove_linked(l);
    } else if (l->phase == LOCAL_STARTING) {
        ha_local_enter(l);
    }
}

struct ha_local *ha_local_create(struct ha_vmm *vmm, const struct ha_vm *vm,
                                 struct ha_local *beside)
{
    struct ha_local *l = ha_local_new(vmm, vm->uuid, vm->name);

    if (l == NULL) {
        return NULL;
    }
    l->attempt = vm->attempt;
    l->instance = uuid_random();
    l->uid = beside != NULL ? beside->uid : ha_vmmfiles_uid(vmm); /* a VM's own */
    l->predecessor = beside;
    if (beside != NULL) {
        beside->successor = l;
    }
    l->phase = LOCAL_STARTING;
    l->conf = malloc(sizeof *l->conf);
    if (l->conf == NULL || vm->conf == NULL) {
        ha_local_publish(l, false);
        ha_local_fail(l, "its definition cannot be read here");
        return NULL;
    }
    *l->conf = *vm->conf;
    l->disk_count = l->conf->disk_count;
    memcpy(l->disk, l->conf->disk, sizeof l->disk);
    ha_local_publish(l, false);
    if (ha_storage_wanted(l)) {
        l->storage_uid = ha_vmmfiles_uid(vmm);
        if (ha_storage_missing() != NULL) {
            ha_local_fail(l, ha_storage_missing());
            return NULL;
        }
    }
    return l;
}

bool ha_local_launch(struct ha_local *l)
{
    struct ha_vmm *vmm = l->vmm;
    char why[REASON_LEN_MAX + 1] = "";
    int r = ha_local_save(l);

    /* The claim and the process are made side by side: a VMM that was not told START has
     * opened no disk. A migration's destination takes its claim last. */
    if (r == 0 && l->moving == NULL && l->twin == NULL) {
        r = ha_local_begin_claim(l);
    }
    if (r == 0) {
        r = ha_vmmlink_spawn(l, why);
    }
    if (r < 0) {
        ha_local_fail(l, why[0] != '\0' ? why : strerror(-r));
        return false;
    }
    r = l->child.start_time != 0 ? ha_local_watch(l) : -ESRCH;
    if (r < 0 || ha_local_save(l) < 0) {
        ha_local_fail(l, HA_NOT_ON_RECORD);
        return false;
    }
    vmm->ops->step(vmm->ctx, l->name, "VMM started");
    loop_timer_add(vmm->loop, CONNECT_TIMEOUT_NS, start_timer_fn, l, &l->timer);
    ha_vmmlink_connect(l);
    return true;
}

/* Of mirrored disks the first claim says which node's copies hold (R5): none is made
 * where there are none. */
static const char *missing_mirror(const struct conf_vm *conf)
{
    for (unsigned i = 0; conf != NULL && i < conf->disk_count; i++) {
        if (conf->disk[i].mirrored && access(conf->disk[i].path, F_OK) < 0) {
            return conf->disk[i].path;
        }
    }
    return NULL;
}

static void start_new(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_local *l = ha_local_create(vmm, vm, NULL);

    if (l == NULL) {
        return; /* reported; or not, and the coordinator's start timeout moves it */
    }
    if (missing_mirror(l->conf) != NULL) {
        char why[REASON_LEN_MAX + 1];

        ha_text_set(why, sizeof why, "its mirrored disk ", missing_mirror(l->conf),
                    " is not on this node; start it where it is: gemel vm start --node",
                    NULL);
        ha_local_fail(l, why);
        return;
    }
    l->restart = vm->epoch != 0;
    l->discard = vm->task == HA_TASK_DISCARD;
    l->accept = vm->accept_copy;
    (void)ha_local_launch(l);
}

static void thaw_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->thaw_timer = 0;
    l->thaw_at_ns = 0;
    if (l->phase == LOCAL_STARTING && l->thawing && !l->stopping && !l->claim_pending &&
        ha_local_begin_claim(l) < 0) {
        l->phase = LOCAL_FROZEN;
    }
}

/* At once the first time; a VM that freezes again and again, because a disk of it does
 * not come back, waits longer each time: each thaw is a claim. */
static void begin_thaw(struct ha_local *l)
{
    unsigned n = l->quick_freezes < THAW_DOUBLINGS ? l->quick_freezes : THAW_DOUBLINGS;

    if (n == 0) {
        thaw_timer_fn(l);
        return;
    }
    loop_timer_del(l->vmm->loop, &l->thaw_timer);
    l->thaw_at_ns = loop_now_ns() + (THAW_FIRST_NS << (n - 1));
    loop_timer_add(l->vmm->loop, THAW_FIRST_NS << (n - 1), thaw_timer_fn, l,
                   &l->thaw_timer);
}

void ha_vmm_start(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_local *l = ha_local_find(vmm, vm->uuid);

    if (l == NULL) {
        start_new(vmm, vm);
        return;
    }
    if (l->discarded && l->owes) {
        ha_local_kill(l); /* whom it served is gone */
        return;
    }
    if (ha_vmmtwin_is_one(l)) {
        /* Its primary was stopped: it ends, and comes again as what it is then. Late with
         * its claim it is what is wanted here, and speaks as that. */
        if (ha_vmmtwin_goes_live(l)) {
            l->attempt = vm->attempt;
        }
        return;
    }
    if (l->task != LOCAL_TASK_NONE || l->released) {
        log_warn("vm %s: told to start, but it is not done with what it does", vm->name);
        return;
    }
    if (l->phase == LOCAL_FROZEN && !l->stopping) {
        l->attempt = vm->attempt;
        l->phase = LOCAL_STARTING;
        l->thawing = true;
        l->entered = false;
        l->claim_won = false;
        ha_local_publish(l, false);
        begin_thaw(l);
        return;
    }
    if (l->phase == LOCAL_STARTING && l->thawing && !l->stopping) {
        l->attempt = vm->attempt; /* an operator's: it waits no longer */
        if (l->thaw_timer) {
            loop_timer_del(vmm->loop, &l->thaw_timer);
            thaw_timer_fn(l);
        }
        return;
    }
    log_warn("vm %s: told to start, but an instance is still here (%s)", vm->name,
             l->stopping ? "stopping" : "running");
    l->attempt = vm->attempt;
    if (l->phase == LOCAL_RUNNING && !l->stopping && l->paused) {
        ha_local_goes_on(l);
    } else if (l->phase == LOCAL_RUNNING && !l->stopping) {
        ha_local_report(l, HA_OUTCOME_RUNNING, "it runs here already");
    }
}

/* Stop
 * ------------------------------------------------------------------------------------------
 */

static void last_resort_fn(void *data)
{
    struct ha_local *l = data;

    l->timer = 0;
    log_warn("vm %s: gemel-vmm does not end; killed", l->name);
    ha_local_kill(l);
}

static void kill_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->timer = 0;
    log_warn("vm %s: the guest did not power off in time", l->name);
    ha_text_set(l->outcome_text, sizeof l->outcome_text,
                "the guest did not power off within stop_timeout; killed", NULL);
    ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__KILL);
    loop_timer_add(l->vmm->loop, KILL_GRACE_NS, last_resort_fn, l, &l->timer);
}

void ha_vmm_stop(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_local *l = ha_local_find(vmm, vm->uuid);
    struct ha_vm_report gone = {.vm = vm->uuid,
                                .attempt = vm->attempt,
                                .outcome = HA_OUTCOME_STOPPED,
                                .epoch = vm->epoch};

    if (l == NULL) {
        ha_text_set(gone.text, sizeof gone.text, "nothing of it ran here", NULL);
        vmm->ops->report(vmm->ctx, &gone);
        return;
    }
    l->attempt = vm->attempt;
    if (l->save_step == SAVE_COMMIT || l->released) {
        return; /* too late: it says itself what became of it */
    }
    l->stopping = true;
    ha_local_publish(l, false);
    ha_local_save(l);
    loop_timer_del(vmm->loop, &l->timer);
    ha_vmmsave_cancel(l);
    ha_vmmupgrade_stop(l);
    if (l->save != NULL && l->task == LOCAL_REVERT) {
        return; /* goes on when its copies have ended */
    }
    if (l->phase != LOCAL_RUNNING || !l->linked) {
        ha_local_kill(l);
        if (l->child.pidfd < 0 && !l->claim_pending && l->phase != LOCAL_ENDING) {
            l->outcome = HA_OUTCOME_STOPPED;
            ha_local_gone(l);
        }
        return;
    }
    ha_text_set(l->outcome_text, sizeof l->outcome_text, vm->kill ? "killed as told" : "",
                NULL);
    if (vm->kill) {
        ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__KILL);
        loop_timer_add(vmm->loop, KILL_GRACE_NS, last_resort_fn, l, &l->timer);
    } else {
        ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__POWERDOWN);
        loop_timer_add(vmm->loop,
                       (l->conf != NULL ? l->conf->stop_timeout_ms : 60000) *
                           NSEC_PER_MSEC,
                       kill_timer_fn, l, &l->timer);
    }
}

void ha_vmm_discard(struct ha_vmm *vmm, struct uuid vm, const char *why)
{
    struct ha_local *l = ha_local_find(vmm, vm);

    if (l == NULL || l->discarded) {
        return;
    }
    log_warn("vm %s: discarded: %s", l->name, why);
    ha_local_publish(l, true);
    l->discarded = true;
    l->stopping = true;
    ha_text_set(l->outcome_text, sizeof l->outcome_text, "discarded: ", why, NULL);
    ha_vmmsave_cancel(l);
    ha_vmmupgrade_discard(l);
    if (!ha_vmmmove_serves(l)) {
        ha_local_kill(l);
    }
}

void ha_vmm_freeze(struct ha_vmm *vmm, struct uuid vm, const char *why)
{
    struct ha_local *l = ha_local_find(vmm, vm);

    if (l != NULL && l->phase == LOCAL_RUNNING && !l->stopping && l->linked &&
        !l->freezing) {
        log_warn("vm %s: freezing: %s", l->name, why);
        l->freezing = true; /* until it says so, or the connection is made anew */
        ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__FREEZE);
    }
}

void ha_vmm_lease(struct ha_vmm *vmm, struct uuid vm, uint32_t lease_ms, uint64_t from_ns)
{
    struct ha_local *l = ha_local_find(vmm, vm);

    if (l == NULL) {
        return;
    }
    l->lease_ms = lease_ms;
    l->lease_from_ns = from_ns;
    if (l->phase == LOCAL_RUNNING && l->linked && !l->stopping) {
        ha_vmmlink_lease(l, lease_ms, from_ns);
    }
}

unsigned ha_vmm_count(const struct ha_vmm *vmm)
{
    unsigned count = 0;

    for (const struct ha_local *l = vmm->head; l != NULL; l = l->next) {
        count++;
    }
    return count;
}

const char *ha_vmm_guest_agent(const struct ha_vmm *vmm, struct uuid vm)
{
    const struct ha_local *l = ha_local_find((struct ha_vmm *)vmm, vm);

    return l == NULL || l->guest_agent[0] == '\0' ? NULL : l->guest_agent;
}

const char *ha_vmm_guest_event(const struct ha_vmm *vmm, struct uuid vm, uint64_t *ret_ms)
{
    const struct ha_local *l = ha_local_find((struct ha_vmm *)vmm, vm);

    if (l == NULL || l->guest_event == NULL) {
        return NULL;
    }
    *ret_ms = l->guest_event_ms;
    return l->guest_event;
}

bool ha_vmm_next_thaw(const struct ha_vmm *vmm, struct uuid vm, uint64_t *ret_at_ns)
{
    const struct ha_local *l = ha_local_find((struct ha_vmm *)vmm, vm);

    if (l == NULL || !l->paused) {
        return false;
    }
    *ret_at_ns = l->thaw_at_ns;
    return true;
}

bool ha_vmm_balloon(const struct ha_vmm *vmm, struct uuid vm, uint64_t *ret_target,
                    uint64_t *ret_actual)
{
    const struct ha_local *l = ha_local_find((struct ha_vmm *)vmm, vm);

    if (l == NULL || !l->balloon) {
        return false;
    }
    *ret_target = l->balloon_target;
    *ret_actual = l->balloon_actual;
    return true;
}

const char *ha_vmm_balloon_set(struct ha_vmm *vmm, struct uuid vm, uint64_t bytes)
{
    struct ha_local *l = ha_local_find(vmm, vm);

    if (l == NULL || l->phase != LOCAL_RUNNING || l->stopping) {
        return "it does not run on this node";
    }
    if (!l->balloon) {
        return "its machine has no balloon; machine: standard has one";
    }
    if (l->conf != NULL && bytes >= l->conf->memory_bytes) {
        return "that is all the memory it has";
    }
    ha_vmmlink_balloon(l, bytes);
    return NULL;
}

bool ha_vmm_console(const struct ha_vmm *vmm, struct uuid vm, char *ret_path, size_t cap)
{
    const struct ha_local *l = ha_local_find((struct ha_vmm *)vmm, vm);

    if (l == NULL) {
        return false;
    }
    snprintf(ret_path, cap, "%s", l->console_path);
    return true;
}

/* Making
 * ----------------------------------------------------------------------------------
 */

int ha_vmm_new(struct loop *loop, const struct conf_node *node,
               const struct ha_agent_self *self, uint64_t agent_start_ns,
               const struct ha_vmm_ops *ops, void *ctx, struct ha_vmm **ret_vmm)
{
    struct ha_vmm *vmm = calloc(1, sizeof *vmm);
    int r;

    if (vmm == NULL) {
        return -ENOMEM;
    }
    vmm->loop = loop;
    vmm->node = *node;
    vmm->self = *self;
    vmm->agent_start_ns = agent_start_ns;
    vmm->ops = ops;
    vmm->ctx = ctx;
    r = worker_new(loop, CLAIM_WORKERS, &vmm->worker);
    if (r == 0) {
        r = worker_new(loop, DISK_WORKERS, &vmm->disk_worker);
    }
    if (r == 0) {
        worker_may_grow(vmm->disk_worker, DISK_WORKERS_MAX);
    }
    if (r < 0) {
        ha_vmm_free(vmm);
        return r;
    }
    *ret_vmm = vmm;
    return 0;
}

void ha_vmm_free(struct ha_vmm *vmm)
{
    if (vmm == NULL) {
        return;
    }
    worker_free(vmm->worker);
    worker_free(vmm->disk_worker);
    ha_vmmgone_free(vmm);
    while (vmm->head != NULL) {
        ha_local_free(vmm->head);
    }
    free(vmm);
}
