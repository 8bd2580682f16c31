/* SPDX-License-Identifier: Apache-2.0 */
/* The table of local VMs, and what each of them tells. */
#include "ha/ha_vmm_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/uuid.h"
#include "ha/ha_storage.h"
#include "ha/ha_text.h"

/* A VM that freezes by itself so soon after it was entered waits before its next thaw. */
#define QUICK_FREEZE_NS (10 * NSEC_PER_SEC)
/* A paused VM goes on when it has run for so long: a disk that is still away freezes it
 * within milliseconds. */
#define STEADY_NS NSEC_PER_SEC

struct ha_local *ha_local_find(struct ha_vmm *vmm, struct uuid vm)
{
    for (struct ha_local *l = vmm->head; l != NULL; l = l->next) {
        if (uuid_equal(l->vm, vm) && l->predecessor == NULL && !l->superseded) {
            return l;
        }
    }
    return NULL;
}

void ha_local_paths(struct ha_local *l, const char *stem)
{
    const struct ha_vmm *vmm = l->vmm;
    char id[sizeof l->stem];

    ha_text_set(id, sizeof id, stem, NULL);
    ha_text_set(l->stem, sizeof l->stem, stem, NULL);
    snprintf(l->dir, sizeof l->dir, "%s/%s", vmm->node.vmroot, l->name);
    snprintf(l->json_path, sizeof l->json_path, "%s/vm/%s.json", vmm->node.run_dir, id);
    snprintf(l->socket_path, sizeof l->socket_path, "%s/vm/%s.sock", vmm->node.run_dir,
             id);
    snprintf(l->console_path, sizeof l->console_path, "%s/vm/%s.console",
             vmm->node.run_dir, id);
    snprintf(l->storage_path, sizeof l->storage_path, "%s/vm/%s.nbd", vmm->node.run_dir,
             id);
    snprintf(l->exit_path, sizeof l->exit_path, "%s/vm/%s.exit", vmm->node.run_dir, id);
}

/* The VM's id; an instance that is made beside another adds a number. */
static void free_paths(struct ha_vmm *vmm, struct ha_local *l)
{
    char id[UUID_STR_LEN + 1], stem[sizeof l->stem];
    bool taken = true;

    uuid_format(l->vm, id);
    ha_text_set(stem, sizeof stem, id, NULL);
    for (unsigned n = 2; taken; n++) {
        taken = false;
        for (const struct ha_local *o = vmm->head; o != NULL; o = o->next) {
            taken = taken || strcmp(o->stem, stem) == 0;
        }
        if (taken) {
            snprintf(stem, sizeof stem, "%s.%u", id, n);
        }
    }
    ha_local_paths(l, stem);
}

void ha_local_disk_path(const struct ha_local *l, const struct conf_disk *disk,
                        char *ret_path, size_t cap)
{
    bool absolute = disk->path[0] == '/' || conf_disk_is_nbd(disk);

    snprintf(ret_path, cap, "%s%s%s", absolute ? "" : l->dir, absolute ? "" : "/",
             disk->path);
}

struct ha_local *ha_local_new(struct ha_vmm *vmm, struct uuid vm, const char *name)
{
    struct ha_local *l = calloc(1, sizeof *l);

    if (l == NULL) {
        return NULL;
    }
    l->vmm = vmm;
    l->vm = vm;
    l->id = ++vmm->next_id;
    l->fd = l->state_fd = l->came_fd = -1;
    l->child.pidfd = l->storage.pidfd = -1;
    ha_text_set(l->name, sizeof l->name, name, NULL);
    free_paths(vmm, l);
    l->next = vmm->head;
    vmm->head = l;
    return l;
}

void ha_local_free(struct ha_local *l)
{
    struct ha_vmm *vmm = l->vmm;

    for (struct ha_local **at = &vmm->head; *at != NULL; at = &(*at)->next) {
        if (*at == l) {
            *at = l->next;
            break;
        }
    }
    ha_vmmlink_close(l);
    if (l->child.pidfd >= 0) {
        loop_fd_del(vmm->loop, l->child.pidfd);
        os_child_close(&l->child);
    }
    ha_storage_forget(l);
    loop_timer_del(vmm->loop, &l->timer);
    loop_timer_del(vmm->loop, &l->thaw_timer);
    loop_timer_del(vmm->loop, &l->steady_timer);
    loop_timer_del(vmm->loop, &l->release_timer);
    loop_timer_del(vmm->loop, &l->hold_timer);
    if (l->state_fd >= 0) {
        close(l->state_fd);
    }
    if (l->came_fd >= 0) {
        close(l->came_fd);
    }
    ha_vmmsave_free(l);
    ha_vmmmove_free(l);
    ha_vmmtwin_free(l);
    ha_announce_end(l);
    free(l->conf);
    free(l);
}

struct ha_local *ha_local_by_id(struct ha_vmm *vmm, uint64_t id)
{
    for (struct ha_local *l = vmm->head; l != NULL; l = l->next) {
        if (l->id == id) {
            return l;
        }
    }
    return NULL;
}

uint64_t ha_local_open_key(const struct ha_local *l)
{
    uint64_t key;

    memcpy(&key, l->vm.b, sizeof key);
    return key | UINT64_C(1) << 63; /* no id */
}

/* It is not the VM: nothing is said of it, or by it. */
static bool is_silent(const struct ha_local *l)
{
    return l->discarded || l->superseded || l->predecessor != NULL;
}

static enum ha_local_state public_state(const struct ha_local *l)
{
    if (l->stopping || l->task == LOCAL_SUSPEND) {
        return HA_LOCAL_STOPPING;
    }
    if (l->adopted || l->task != LOCAL_TASK_NONE) {
        return HA_LOCAL_STARTING; /* until its VMM has said what it is */
    }
    switch (l->phase) {
    case LOCAL_RUNNING:
        return HA_LOCAL_RUNNING;
    case LOCAL_FROZEN:
        return HA_LOCAL_FROZEN;
    case LOCAL_STARTING:
    case LOCAL_ENDING:
    default:
        return HA_LOCAL_STARTING;
    }
}

void ha_local_publish(struct ha_local *l, bool gone)
{
    struct ha_local_vm vm = {.vm = l->vm,
                             .instance = l->instance,
                             .attempt = l->attempt,
                             .epoch = l->epoch,
                             .state = public_state(l)};

    if (!is_silent(l)) {
        l->vmm->ops->local_vm(l->vmm->ctx, &vm, gone);
    }
}

void ha_local_report(struct ha_local *l, enum ha_vm_outcome outcome, const char *text)
{
    struct ha_vm_report r = {.vm = l->vm,
                             .attempt = l->attempt,
                             .instance = l->instance,
                             .outcome = outcome,
                             .epoch = l->epoch,
                             .guest_shutdown = l->guest_shutdown,
                             .filling = l->filling};

    if (is_silent(l)) {
        return;
    }
    memcpy(r.mirror, l->mirror, sizeof r.mirror);
    ha_text_set(r.text, sizeof r.text, text, NULL);
    l->vmm->ops->report(l->vmm->ctx, &r);
}

void ha_local_copies(struct ha_local *l, const struct claim *highest)
{
    memset(l->mirror, 0, sizeof l->mirror);
    memcpy(l->mirror, highest->mirror_nodes, highest->mirror_count * sizeof l->mirror[0]);
}

/* What it waited for is back. */
void ha_local_goes_on(struct ha_local *l)
{
    loop_timer_del(l->vmm->loop, &l->steady_timer);
    l->paused = false;
    ha_local_report(l, HA_OUTCOME_RUNNING, "goes on after a pause");
}

static void steady_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->steady_timer = 0;
    if (l->phase == LOCAL_RUNNING && !l->stopping) {
        ha_local_goes_on(l);
    }
}

void ha_local_running(struct ha_local *l)
{
    bool thawed = l->thawing, came = l->moving != NULL && l->moving->incoming;
    bool upgraded = came && l->moving->upgrade;
    char text[REASON_LEN_MAX + 1];
    const char *moved = ha_vmmmove_thawed(l, text);
    bool live = l->twin != NULL && !thawed;

    moved = moved != NULL ? moved : ha_vmmtwin_entered(l, text);

    loop_timer_del(l->vmm->loop, &l->timer);
    l->phase = LOCAL_RUNNING;
    l->thawing = false;
    l->ran_since_ns = loop_now_ns();
    ha_local_save(l);
    ha_local_publish(l, false);
    if (l->paused) {
        loop_timer_del(l->vmm->loop, &l->steady_timer);
        if (loop_timer_add(l->vmm->loop, STEADY_NS, steady_timer_fn, l,
                           &l->steady_timer) < 0) {
            ha_local_goes_on(l);
        }
        return;
    }
    l->vmm->ops->step(l->vmm->ctx, l->name,
                      live        ? "guest goes on, as it was replayed here"
                      : thawed    ? "guest thawed"
                      : upgraded  ? "guest entered, in its new gemel-vmm"
                      : came      ? "guest entered, from the other node"
                      : l->resume ? "guest entered, from its suspended state"
                                  : "guest entered");
    ha_local_report(l, HA_OUTCOME_RUNNING,
                    moved != NULL ? moved
                    : thawed      ? "thawed"
                    : l->resume   ? "resumed"
                                  : "started");
    if (upgraded) {
        ha_vmmupgrade_running(l);
    }
    ha_vmmsave_sweep(l);
    if (l->resume && !thawed) {
        ha_vmmsave_forget_state(l);
        ha_announce_begin(l);
    } else if (came || live) {
        ha_announce_begin(l);
    } else {
        ha_announce_end(l);
    }
}

void ha_local_found(struct ha_local *l)
{
    l->phase = LOCAL_RUNNING;
    l->claim_won = true;
    ha_vmmtwin_lives(l);
    (void)ha_local_save(l);
    ha_vmmsave_sweep(l);
    ha_local_publish(l, false);
    ha_local_report(l, HA_OUTCOME_RUNNING,
                    "found running by its agent, which was restarted");
    ha_announce_begin(l); /* the agent before may have ended in the middle of it */
}

void ha_local_frozen(struct ha_local *l, const char *why)
{
    bool quick = loop_now_ns() - l->ran_since_ns < QUICK_FREEZE_NS;
    const char *pause = strstr(why, "; the VM is paused");
    char text[REASON_LEN_MAX + 1];

    loop_timer_del(l->vmm->loop, &l->steady_timer);
    l->paused = pause != NULL;
    if (pause != NULL) {
        ha_text_set(text, sizeof text, HA_PAUSED, why, NULL);
        text[sizeof HA_PAUSED - 1 + (size_t)(pause - why)] = '\0';
        why = text;
    }
    l->phase = LOCAL_FROZEN;
    l->quick_freezes = quick && !l->freezing ? l->quick_freezes + 1 : 0;
    l->freezing = false;
    ha_local_publish(l, false);
    ha_local_report(l, HA_OUTCOME_FROZEN, why);
}
