/* SPDX-License-Identifier: Apache-2.0 */
#include "programs/gemel_vmm_move.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define PROGRESS_NS (200 * NSEC_PER_MSEC) /* the agent hears so often, at most */

static Gemel__MigState state_of(enum mig_phase phase)
{
    static const Gemel__MigState state[] = {
        [MIG_PHASE_NONE] = GEMEL__MIG_STATE__MIG_NONE,
        [MIG_PHASE_PREPARED] = GEMEL__MIG_STATE__MIG_PREPARED,
        [MIG_PHASE_CONNECTING] = GEMEL__MIG_STATE__MIG_CONNECTING,
        [MIG_PHASE_COPYING] = GEMEL__MIG_STATE__MIG_COPYING,
        [MIG_PHASE_READY] = GEMEL__MIG_STATE__MIG_READY,
        [MIG_PHASE_RELEASED] = GEMEL__MIG_STATE__MIG_RELEASED,
        [MIG_PHASE_FAILED] = GEMEL__MIG_STATE__MIG_FAILED,
        [MIG_PHASE_FILLING] = GEMEL__MIG_STATE__MIG_FILLING,
        [MIG_PHASE_SERVING] = GEMEL__MIG_STATE__MIG_SERVING,
        [MIG_PHASE_DONE] = GEMEL__MIG_STATE__MIG_DONE,
    };

    return state[phase];
}

static void fill_report(void *ctx, Gemel__VmmReport *report)
{
    struct vmm_move *move = ctx;
    struct mig_status *s = &move->status;

    vmm_twin_report(move->twin, report);
    if (!move->transfer) {
        return;
    }
    mig_transfer_status(move->transfer, s);
    report->mig_state = state_of(s->phase);
    if (s->phase == MIG_PHASE_NONE) {
        return;
    }
    report->mig_text = s->text;
    if (s->phase == MIG_PHASE_PREPARED) {
        report->mig_key = (ProtobufCBinaryData){sizeof move->key.b, move->key.b};
        report->mig_token = (ProtobufCBinaryData){sizeof move->token.b, move->token.b};
    }
    report->mig_percent = s->percent;
    report->mig_round = s->round;
    report->mig_rate = s->bps;
    report->mig_dirty_rate = s->dirty_bps;
    report->mig_eta_ms = s->eta_ms;
    report->mig_sent = s->sent;
    report->mig_disk_sent = s->disk_sent;
    report->mig_throttle = s->throttle;
    report->mig_frozen_ms = s->frozen_ms;
    report->mig_missing = s->missing;
    report->mig_faults = s->faults;
}

static void params_of(const Gemel__VmmRequest *rq, struct mig_params *ret)
{
    *ret = (struct mig_params){.plaintext = rq->mig_peer_key.len == 0,
                               .verify = rq->mig_verify,
                               .no_compress = rq->mig_no_compress,
                               .postcopy = rq->mig_postcopy,
                               .timeout_ms = rq->mig_timeout_ms,
                               .downtime_ms = rq->mig_downtime_ms,
                               .slowdown = rq->mig_slowdown,
                               .rate_bps = rq->mig_rate,
                               .memory_there = rq->mig_memory,
                               .mirror = rq->ft_mirror};
    (void)ctl_take_bytes(&rq->mig_copy_base, ret->copy_base.b, sizeof ret->copy_base.b);
    (void)ctl_take_bytes(&rq->mig_transfer, ret->transfer.b, sizeof ret->transfer.b);
    (void)ctl_take_bytes(&rq->mig_token, ret->token.b, sizeof ret->token.b);
    /* proto_ctl: 32 bytes, or none */
    (void)ctl_take_bytes(&rq->mig_peer_key, ret->peer.b, sizeof ret->peer.b);
}

static const char *begin(struct vmm_move *move, const Gemel__VmmRequest *rq,
                         const int *fds, size_t count)
{
    bool out = rq->kind == GEMEL__VMM_REQUEST__KIND__MIGRATE_OUT;
    struct mig_params params;
    struct vmm_error err;
    int r;

    if (count == 0 ||
        (!out && (count - 1 != rq->disk_count || count > 1 + VM_DISKS_MAX))) {
        for (size_t i = 0; i < count; i++) {
            close(fds[i]);
        }
        return "it came with other sockets or disks than it needs";
    }
    params_of(rq, &params);
    if (!out) {
        params.copy_count = (unsigned)count - 1;
        memcpy(params.copy, fds + 1, (count - 1) * sizeof fds[0]);
    }
    r = out ? mig_transfer_out(move->transfer, fds, (unsigned)count, &params, &err)
            : mig_transfer_in(move->transfer, fds[0], &params, &err);
    if (r < 0) {
        snprintf(move->error, sizeof move->error, "%s", err.text);
        return move->error;
    }
    return NULL;
}

static const char *request(void *ctx, const Gemel__VmmRequest *rq, const int *fds,
                           size_t count)
{
    struct vmm_move *move = ctx;
    struct vmm_error err;

    if (vmm_twin_is_for(rq)) {
        return vmm_twin_request(move->twin, rq, fds, count);
    }
    if (rq->kind == GEMEL__VMM_REQUEST__KIND__MIGRATE_OUT && vmm_twin_holds(move->twin)) {
        for (size_t i = 0; i < count; i++) {
            close(fds[i]);
        }
        return move->twin->error;
    }
    if (rq->kind == GEMEL__VMM_REQUEST__KIND__MIGRATE_OUT ||
        rq->kind == GEMEL__VMM_REQUEST__KIND__MIGRATE_IN) {
        return begin(move, rq, fds, count);
    }
    for (size_t i = 0; i < count; i++) {
        close(fds[i]);
    }
    if (rq->kind == GEMEL__VMM_REQUEST__KIND__MIGRATE_CANCEL) {
        mig_transfer_cancel(move->transfer);
    } else if (rq->kind == GEMEL__VMM_REQUEST__KIND__MIGRATE_RELEASING) {
        mig_transfer_releasing(move->transfer);
    } else if (mig_transfer_prepare(move->transfer, &move->key, &move->token, &err) < 0) {
        snprintf(move->error, sizeof move->error, "%s", err.text);
        return move->error;
    }
    return NULL;
}

struct vmm_ctl_move vmm_move_hooks(struct vmm_move *move)
{
    return (struct vmm_ctl_move){.request = request, .report = fill_report, .ctx = move};
}

/* Each phase, and progress now and then. */
static int on_transfer(int fd, int revents, void *data)
{
    struct vmm_move *move = data;
    uint64_t now = loop_now_ns();
    struct mig_status s;

    (void)fd, (void)revents;
    mig_transfer_clear(move->transfer);
    mig_transfer_status(move->transfer, &s);
    if (s.change != move->told) {
        if (s.text[0] != '\0' && s.phase != MIG_PHASE_RELEASED) {
            log_info("vm %s: migration: %s%s", move->name,
                     s.phase == MIG_PHASE_READY ? "ready: " : "", s.text);
        }
    } else if (now - move->told_ns < PROGRESS_NS) {
        return 0;
    }
    move->told = s.change;
    move->told_ns = now;
    if (move->ctl) {
        vmm_ctl_moved(move->ctl);
    }
    return 0;
}

int vmm_move_open(struct vmm_move *move, struct loop *loop,
                  const struct mig_transfer_conf *conf, struct vmm_error *err)
{
    int r = mig_transfer_new(conf, &move->transfer, err);

    if (r < 0) {
        return r;
    }
    move->name = conf->vm_name;
    r = loop_fd_add(loop, mig_transfer_fd(move->transfer), POLLIN, on_transfer, move);
    return r < 0 ? vmm_fail(err, r, "cannot watch migrations: %s", strerror(-r)) : 0;
}

int vmm_move_go(struct vmm_move *move, struct vmm_error *err)
{
    return move->transfer ? mig_transfer_go(move->transfer, err) : 0;
}

bool vmm_move_holes(struct vmm_move *move)
{
    return move->transfer && mig_transfer_has_holes(move->transfer);
}

void vmm_move_close(struct vmm_move *move)
{
    mig_transfer_free(move->transfer);
    move->transfer = NULL;
}

void vmm_move_engine(struct vmm_move *move, const struct engine_status *status)
{
    if (move->transfer) {
        mig_transfer_engine(move->transfer, status);
    }
}

void vmm_move_reset(struct vmm_move *move)
{
    if (move->transfer) {
        mig_transfer_guest_reset(move->transfer);
    }
}
