/* SPDX-License-Identifier: Apache-2.0 */
#include "programs/gemel_vmm_twin.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "migrate/mig_transfer.h"

bool vmm_twin_is_for(const Gemel__VmmRequest *rq)
{
    return rq->kind >= GEMEL__VMM_REQUEST__KIND__FT_PROTECT &&
           rq->kind <= GEMEL__VMM_REQUEST__KIND__FT_EXCLUDED;
}

static void close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

static void params_of(const struct vmm_twin *twin, const Gemel__VmmRequest *rq,
                      struct ft_params *ret)
{
    *ret = (struct ft_params){.commit = rq->ft_commit <= FT_COMMIT_HYBRID
                                            ? (enum ft_commit_rule)rq->ft_commit
                                            : FT_COMMIT_VERIFIED,
                              .checkpoint = rq->ft_mode == 1,
                              .suspect_ms = rq->ft_suspect_ms,
                              .mirror = rq->ft_mirror,
                              .barrier_ms = rq->ft_barrier_ms,
                              .diverge_max = rq->ft_diverge_max};
    (void)ctl_take_bytes(&rq->mig_transfer, ret->transfer.b, sizeof ret->transfer.b);
    (void)ctl_take_bytes(&rq->mig_token, ret->token.b, sizeof ret->token.b);
    /* proto_ctl: 32 bytes, or none */
    if (ctl_take_bytes(&rq->mig_peer_key, ret->peer.b, sizeof ret->peer.b)) {
        ret->key = mig_transfer_key(twin->transfer);
    }
}

static const char *begin(struct vmm_twin *twin, const Gemel__VmmRequest *rq,
                         const int *fds, size_t count)
{
    bool follows = rq->kind == GEMEL__VMM_REQUEST__KIND__FT_FOLLOW;
    struct ft_params params;
    struct vmm_error err;
    int r;

    if (count != 1 + (follows ? rq->disk_count : 0)) {
        close_all(fds, count);
        return "it came with other files than it announces";
    }
    params_of(twin, rq, &params);
    for (unsigned i = 0, at = 1; i < VM_DISKS_MAX; i++) {
        bool comes = follows && (params.mirror >> i & 1) != 0 && at < count;

        params.disk[i] =
            params.checkpoint && comes ? fcntl(fds[at], F_DUPFD_CLOEXEC, 0) : -1;
        at += comes;
    }
    if (rq->mig_peer_key.len != 0 && params.key == NULL) {
        close_all(fds, count);
        return "there is no key for its channel: no migration brought a twin";
    }
    if (follows) {
        twin->mirror = params.mirror;
        r = engine_twin_disks(twin->engine, params.mirror, fds + 1, (unsigned)count - 1,
                              &err);
        if (r < 0) {
            close(fds[0]);
            close_all(params.disk, VM_DISKS_MAX);
        } else {
            r = ft_session_follow(twin->session, fds[0], &params, &err);
        }
    } else {
        r = ft_session_protect(twin->session, fds[0], &params, &err);
    }
    if (r < 0) {
        snprintf(twin->error, sizeof twin->error, "%s", err.text);
        return twin->error;
    }
    return NULL;
}

/* R1: the disks that both sides share come with the claim, not before. */
static const char *claim_won(struct vmm_twin *twin, const Gemel__VmmRequest *rq,
                             const int *fds, size_t count)
{
    struct vmm_error err;
    const char *why;

    if (engine_twin_disks(twin->engine, ~twin->mirror, fds, (unsigned)count, &err) < 0) {
        snprintf(twin->error, sizeof twin->error, "%s", err.text);
        return twin->error;
    }
    engine_hold(twin->engine, rq->ft_hold & ~twin->mirror);
    why = ft_session_order(twin->session, FT_ORDER_CLAIM_WON, rq->epoch);
    if (why != NULL) {
        engine_hold(twin->engine, 0);
        engine_twin_disks_drop(twin->engine, ~twin->mirror);
    }
    return why;
}

const char *vmm_twin_holds(struct vmm_twin *twin)
{
    uint64_t bytes;

    if (!twin->session || engine_held(twin->engine, &bytes) == 0) {
        return NULL;
    }
    snprintf(twin->error, sizeof twin->error,
             "its disks hold %llu bytes of writes until its old host is known to write "
             "no more (FT_EXCLUDED); try again then",
             (unsigned long long)bytes);
    return twin->error;
}

const char *vmm_twin_request(struct vmm_twin *twin, const Gemel__VmmRequest *rq,
                             const int *fds, size_t count)
{
    static const enum ft_order order[] = {
        [GEMEL__VMM_REQUEST__KIND__FT_TWIN_WON] = FT_ORDER_TWIN_WON,
        [GEMEL__VMM_REQUEST__KIND__FT_ALONE_WON] = FT_ORDER_ALONE_WON,
        [GEMEL__VMM_REQUEST__KIND__FT_CLAIM_LOST] = FT_ORDER_CLAIM_LOST,
        [GEMEL__VMM_REQUEST__KIND__FT_SWITCHOVER] = FT_ORDER_SWITCHOVER,
        [GEMEL__VMM_REQUEST__KIND__FT_WINNER_RUNS] = FT_ORDER_WINNER_RUNS,
        [GEMEL__VMM_REQUEST__KIND__FT_GO_ON] = FT_ORDER_GO_ON,
        [GEMEL__VMM_REQUEST__KIND__FT_END] = FT_ORDER_END,
        [GEMEL__VMM_REQUEST__KIND__FT_PEER_DEAD] = FT_ORDER_PEER_DEAD,
    };

    if (!twin->session) {
        close_all(fds, count);
        return "this VM cannot have a twin: its machine is not lockstep, or it is "
               "recorded";
    }
    if (rq->kind == GEMEL__VMM_REQUEST__KIND__FT_CLAIM_WON) {
        return claim_won(twin, rq, fds, count);
    }
    if (rq->kind == GEMEL__VMM_REQUEST__KIND__FT_EXCLUDED) {
        close_all(fds, count);
        engine_excluded(twin->engine, rq->ft_hold);
        return NULL;
    }
    if (rq->kind == GEMEL__VMM_REQUEST__KIND__FT_PROTECT && vmm_twin_holds(twin)) {
        close_all(fds, count);
        return twin->error;
    }
    if (rq->kind == GEMEL__VMM_REQUEST__KIND__FT_PROTECT ||
        rq->kind == GEMEL__VMM_REQUEST__KIND__FT_FOLLOW) {
        return begin(twin, rq, fds, count);
    }
    close_all(fds, count);
    return ft_session_order(twin->session, order[rq->kind], rq->epoch);
}

void vmm_twin_report(struct vmm_twin *twin, Gemel__VmmReport *report)
{
    struct ft_session_status *s = &twin->status;

    if (!twin->session) {
        return;
    }
    ft_session_status(twin->session, s);
    report->ft_role = s->role;
    report->ft_held = engine_held(twin->engine, &report->ft_held_bytes);
    if (s->role == FT_ROLE_NONE) {
        return;
    }
    report->ft_state = (char *)(uintptr_t)s->state_name;
    report->ft_text = s->text;
    report->ft_reason = s->reason == FT_SESSION_DIVERGES
                            ? GEMEL__FT_REASON__FT_REASON_DIVERGES
                            : GEMEL__FT_REASON__FT_REASON_NONE;
    report->ft_over = s->over;
    report->ft_exits = s->exits;
    report->ft_replayed = s->replayed;
    report->ft_outputs = s->outputs;
    report->ft_verified = s->verified;
    report->ft_released = s->released;
    report->ft_lag_us = s->lag_ns / 1000;
    report->ft_log_bytes = s->log_bytes;
    report->ft_epoch = s->epoch;
    report->ft_checkpoints = s->checkpoints;
    report->ft_pages = s->pages;
    report->ft_stood_pages = s->stood;
    report->ft_pause_us = s->pause_ns / 1000;
    report->ft_ack_us = s->ack_ns / 1000;
    report->ft_barriers = s->counts.barriers;
    report->ft_repairs = s->counts.repairs;
    report->ft_repair_pages = s->counts.repair_pages;
    report->ft_repair_states = s->counts.repair_states;
    report->ft_repair_outputs = s->counts.repair_outputs;
    report->ft_diverged = s->counts.diverged;
    report->ft_diverged_output = s->counts.diverged_output;
    report->ft_diverged_data = s->counts.diverged_data;
    report->ft_hashed_pages = s->counts.hashed_pages;
    report->ft_barrier_us = s->counts.pause_us;
    report->ft_barrier_max_us = s->counts.pause_max_us;
}

/* A divergence, line by line. */
static void log_bundle(struct vmm_twin *twin, const char *bundle)
{
    while (*bundle) {
        size_t len = strcspn(bundle, "\n");

        log_info("vm %s: twin: %.*s", twin->name, (int)len, bundle);
        bundle += len + (bundle[len] == '\n');
    }
}

static int on_session(int fd, int revents, void *data)
{
    struct vmm_twin *twin = data;
    struct ft_session_status *s = &twin->status;

    (void)fd, (void)revents;
    ft_session_clear(twin->session);
    ft_session_status(twin->session, s);
    if (s->bundle_count != twin->bundles) {
        twin->bundles = s->bundle_count;
        log_bundle(twin, s->bundle);
    }
    if (s->change == twin->told) {
        return 0;
    }
    twin->told = s->change;
    log_info("vm %s: %s: %s%s%s", twin->name,
             s->role == FT_ROLE_PRIMARY ? "primary" : "twin", s->state_name,
             s->text[0] ? ": " : "", s->text);
    if (twin->ctl) {
        vmm_ctl_moved(twin->ctl);
    }
    return 0;
}

int vmm_twin_open(struct vmm_twin *twin, struct loop *loop,
                  const struct ft_session_conf *conf, struct mig_transfer *transfer,
                  struct vmm_error *err)
{
    int r = ft_session_new(conf, &twin->session, err);

    if (r < 0) {
        return r;
    }
    twin->name = conf->vm_name;
    twin->engine = conf->engine;
    twin->transfer = transfer;
    r = loop_fd_add(loop, ft_session_fd(twin->session), POLLIN, on_session, twin);
    return r < 0 ? vmm_fail(err, r, "cannot watch a twin: %s", strerror(-r)) : 0;
}

int vmm_twin_go(struct vmm_twin *twin, struct vmm_error *err)
{
    return twin->session ? ft_session_go(twin->session, err) : 0;
}

void vmm_twin_stop(struct vmm_twin *twin)
{
    ft_session_stop(twin->session);
}

void vmm_twin_close(struct vmm_twin *twin)
{
    ft_session_free(twin->session);
    twin->session = NULL;
}

void vmm_twin_look(struct vmm_twin *twin)
{
    uint64_t bytes;
    uint32_t held = twin->session ? engine_held(twin->engine, &bytes) : 0;
    char why[REASON_LEN_MAX + 1];

    if (twin->session && engine_twin_waits(twin->engine, why, sizeof why)) {
        log_warn("vm %s: the twin has its claim and waits for a disk: %s; it is asked "
                 "again until it says yes",
                 twin->name, why);
    }
    if (held == twin->held) {
        return;
    }
    log_info("vm %s: %s", twin->name,
             held ? "writes of the disks that it shared are held in memory"
                  : "what was held is on its disks");
    twin->held = held;
    if (twin->ctl) {
        vmm_ctl_moved(twin->ctl);
    }
}

/* A guest that did not flush cannot say that it was promised anything. */
static void tell_lost(struct vmm_twin *twin)
{
    uint64_t bytes;

    if (engine_held(twin->engine, &bytes) != 0) {
        log_warn("vm %s: it ends while its disks are held: %llu bytes that it wrote, and "
                 "no FLUSH of which was answered, are lost",
                 twin->name, (unsigned long long)bytes);
    }
}

bool vmm_twin_alike(struct vmm_twin *twin)
{
    if (!twin->session) {
        return false;
    }
    ft_session_status(twin->session, &twin->status);
    return twin->status.alike;
}

void vmm_twin_engine(struct vmm_twin *twin, const struct engine_status *status)
{
    if (twin->session && status->state == RUN_ENDED) {
        tell_lost(twin);
    }
    if (twin->session) {
        ft_session_engine(twin->session, status);
    }
}
