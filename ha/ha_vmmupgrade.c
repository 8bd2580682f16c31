/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live upgrade: a migration both of whose ends are on this node. The VM goes on in a new
 * process of the installed gemel-vmm, with the same guest memory (a memfd); the claim
 * decides between the two, as ever (R4). The steps are those of ha_vmmmove.c; what the
 * ends must know of each other does not go through the record:
 *
 *     old instance                 agent                     new instance (its successor)
 *     PREPARE, and its memory  ->  starts it with that    ->  PREPARE
 *     MIGRATE_OUT              <-  two ends of a socket   ->  MIGRATE_IN
 *     READY, RELEASING         ->  releases to the new one -> claim, START
 *
 * Until the new one has the claim it is nobody: not published, not found, and what it
 * says is for the old one. From then on that holds for the old one, until it is killed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/uuid.h"
#include "ha/ha_pending.h"
#include "ha/ha_text.h"
#include "ha/ha_vmmmove_priv.h"

#define STREAMS 2 /* control, and one of data, on which nothing comes */

static void unpair(struct ha_local *old, struct ha_local *new)
{
    old->successor = NULL;
    new->predecessor = NULL;
}

/* Before the transfer
 * ---------------------------------------------------------------------------- */

void ha_vmmupgrade_prepared(struct ha_local *l)
{
    struct ha_vm vm = {.uuid = l->vm,
                       .attempt = l->attempt,
                       .owner = l->vmm->self.nodeid,
                       .move = l->moving->move,
                       .conf = l->conf};
    const struct ha_vm *record = l->vmm->ops->record(l->vmm->ctx, l->vm);
    struct ha_local *new;
    struct conf_vm conf;
    int memory_fd = l->came_fd;

    l->came_fd = -1;
    l->moving->step = MOVE_OFFERED;
    if (memory_fd < 0) {
        ha_vmmmove_go_on(l, "its gemel-vmm is too old to hand its memory over; migrate "
                            "it, or stop and start it");
        return;
    }
    if (vm.conf == NULL && record != NULL && ha_pending_goes_on(record, &conf)) {
        vm.conf = &conf; /* looked at: it is the same machine */
    }
    ha_text_set(vm.name, sizeof vm.name, l->name, NULL);
    new = ha_local_create(l->vmm, &vm, l);
    if (new == NULL || ha_vmmmove_new(new, &vm, true) == NULL) {
        close(memory_fd);
        if (new != NULL) {
            ha_local_fail(new, "out of memory");
        } else if (l->successor == NULL && l->moving != NULL) {
            ha_vmmmove_go_on(l, "out of memory");
        }
        return;
    }
    new->moving->memory_fd = memory_fd;
    (void)ha_local_launch(new);
}

void ha_vmmupgrade_connect(struct ha_local *l)
{
    char path[sizeof l->socket_path], why[REASON_LEN_MAX + 1];
    struct ha_local *old = l->predecessor;
    int fds[STREAMS], listen_fd, r;

    if (old == NULL || old->moving == NULL || old->moving->step != MOVE_OFFERED) {
        ha_vmmmove_dest_fail(l, "what it was to take over from is gone");
        return;
    }
    snprintf(path, sizeof path, "%s/vm/%s.move", l->vmm->node.run_dir, l->stem);
    r = os_unix_streams(path, &listen_fd, fds, STREAMS);
    if (r < 0) {
        ha_text_set(why, sizeof why, path, ": ", strerror(-r), NULL);
        ha_vmmmove_dest_fail(l, why);
        return;
    }
    ha_vmmmove_stop_timer(old);
    old->moving->move.instance = l->instance;
    memcpy(old->moving->move.dest.token, l->moving->offer.token,
           sizeof l->moving->offer.token);
    l->moving->step = MOVE_RECEIVING;
    old->moving->step = MOVE_SENDING;
    ha_vmmmove_hand_sockets(l, &listen_fd, 1, NULL);
    ha_vmmmove_hand_sockets(old, fds, STREAMS, NULL);
    close(listen_fd);
    for (unsigned i = 0; i < STREAMS; i++) {
        close(fds[i]);
    }
}

/* Who is the VM
 * ---------------------------------------------------------------------------------- */

static void kill_superseded(const struct ha_local *l)
{
    for (struct ha_local *o = l->vmm->head; o != NULL; o = o->next) {
        if (o != l && o->superseded && uuid_equal(o->vm, l->vm)) {
            ha_local_kill(o);
        }
    }
}

void ha_vmmupgrade_won(struct ha_local *l)
{
    struct ha_local *old = l->predecessor;

    if (l->successor != NULL) {
        ha_vmmmove_dest_fail(l->successor, "its predecessor has the claim again");
    }
    if (old == NULL) {
        return;
    }
    unpair(old, l);
    old->superseded = old->discarded = old->stopping = true;
    l->lease_ms = old->lease_ms;
    l->lease_from_ns = old->lease_from_ns;
    loop_timer_del(l->vmm->loop, &old->timer);
    loop_timer_del(l->vmm->loop, &old->thaw_timer);
    if (old->moving != NULL) {
        ha_vmmmove_stop_timer(old);
        l->moving->ready_ns = old->moving->ready_ns;
        l->moving->frozen_ms = old->moving->frozen_ms;
    }
    ha_local_publish(l, false);
    if (l->ended || l->stopping) {
        kill_superseded(l);
    }
}

void ha_vmmupgrade_running(struct ha_local *l)
{
    /* Its predecessor's, until the next renewal; one that ran out stays lost (R6). */
    if (loop_now_ns() - l->lease_from_ns < l->lease_ms * NSEC_PER_MSEC) {
        ha_vmmlink_lease(l, l->lease_ms, l->lease_from_ns);
    }
    kill_superseded(l);
}

/* What was released to its successor is that one's, or nobody's; else nothing was, and
 * there is nothing to take over. */
void ha_vmmupgrade_ended(struct ha_local *l)
{
    struct ha_local *new = l->successor;

    if (new == NULL) {
        if (l->outcome == HA_OUTCOME_MOVED && l->moving != NULL && l->moving->upgrade) {
            l->outcome = HA_OUTCOME_ENDED; /* both are gone */
        }
        return;
    }
    unpair(l, new);
    if (!l->take_back) {
        new->discarded = true;
        ha_local_kill(new);
        return;
    }
    l->superseded = true;
    new->stopping = l->stopping;
    new->attempt = l->attempt;
    ha_local_publish(new, false);
    ha_vmmmove_orphan(new);
}

/* One that is just about to take the claim is left to it: the link decides. */
void ha_vmmupgrade_drop(struct ha_local *l, const char *why)
{
    if (l->successor != NULL && !l->successor->claim_pending) {
        ha_vmmmove_dest_fail(l->successor, why);
    }
}

void ha_vmmupgrade_forget(struct ha_local *l)
{
    struct ha_local *old = l->predecessor;

    if (old != NULL) {
        unpair(old, l);
        if (old->moving != NULL && old->moving->step != MOVE_BACK) {
            ha_vmmmove_cancel(old, l->outcome_text);
        }
    } else if (!l->superseded) {
        kill_superseded(l);
    }
}

/* An operator's order, or the end of its claim
 * --------------------------------------------------- */

void ha_vmmupgrade_stop(struct ha_local *l)
{
    if (l->successor != NULL && !l->take_back &&
        (l->moving == NULL || !l->moving->busy)) {
        ha_vmmupgrade_discard(l);
    }
}

void ha_vmmupgrade_discard(struct ha_local *l)
{
    struct ha_local *new = l->successor;

    if (new != NULL) {
        unpair(l, new);
        new->discarded = true;
        ha_local_kill(new);
    }
}

/* After an agent restart
 * ------------------------------------------------------------------------- */

static void supersede(struct ha_local *old, struct ha_local *by)
{
    log_warn("vm %s: the instance of epoch %llu was upgraded to that of epoch %llu; it "
             "ends",
             old->name, (unsigned long long)old->epoch, (unsigned long long)by->epoch);
    old->superseded = old->discarded = true;
    ha_local_kill(old);
    ha_local_publish(by, false);
}

void ha_vmmupgrade_adopted(struct ha_vmm *vmm)
{
    for (struct ha_local *l = vmm->head; l != NULL; l = l->next) {
        for (struct ha_local *o = vmm->head; o != NULL; o = o->next) {
            if (o != l && uuid_equal(o->vm, l->vm) && !o->superseded && !l->superseded &&
                o->epoch < l->epoch) {
                supersede(o, l);
            }
        }
    }
}
