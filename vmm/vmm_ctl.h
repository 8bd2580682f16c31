/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VMM's end of the control socket (design 2, base/proto_ctl.proto), on the loop
 * thread. Peers are root or this process's user. After the Hello one agent at a time is
 * listened to: the newest incarnation (join counter, then start time) wins, an older one
 * is refused even after the newer has gone. The VM runs on whether anybody is connected
 * or not.
 */
#pragma once

#include "base/loop.h"
#include "base/proto_ctl.h"
#include "base/units.h"
#include "vmm/engine.h"
#include "vmm/guest_agent.h"
#include "vmm/vmm_error.h"

/* Live migration, which is not the VMM's own business (migrate/). Both may be NULL. */
struct vmm_ctl_move {
    /* A MIGRATE_* request and the files that came with it, which are taken. NULL: done;
     * else why not. */
    const char *(*request)(void *ctx, const Gemel__VmmRequest *rq, const int *fds,
                           size_t count);
    /* Fills the mig_* fields; what they point to is valid until the next call. */
    void (*report)(void *ctx, Gemel__VmmReport *report);
    void *ctx;
};

struct vmm_ctl_conf {
    int listen_fd; /* SOCK_SEQPACKET, listening; closed by vmm_ctl_close */
    struct uuid vm, instance;
    struct engine *engine;
    struct guest_agent *guest_agent;
    const struct guest_news *guest_news; /* what was told last; NULL: nothing ever */
    struct vmm_ctl_move move;
};

struct vmm_ctl;

int vmm_ctl_open(struct loop *loop, const struct vmm_ctl_conf *conf,
                 struct vmm_ctl **ret_ctl, struct vmm_error *err);
void vmm_ctl_close(struct vmm_ctl *ctl);
/* Sends a change of state to the agent, and the replies that waited for it. */
void vmm_ctl_notice(struct vmm_ctl *ctl, const struct engine_status *status);
/* The guest agent's state, or what the guest did last (guest_news), has changed: the
 * agent is told at once. */
void vmm_ctl_guest(struct vmm_ctl *ctl);
/* A migration has something to tell. */
void vmm_ctl_moved(struct vmm_ctl *ctl);
/* engine_take_saved had an outcome. */
void vmm_ctl_saved(struct vmm_ctl *ctl, const struct engine_saved *saved);
