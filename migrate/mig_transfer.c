/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_transfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/text.h"
#include "migrate/mig_dst.h"
#include "migrate/mig_src.h"
#include "migrate/mig_transfer_priv.h"
#include "vmm/priority.h"
#include "vmm/sandbox.h"

#define ENDING_NS NSEC_PER_SEC

/* Status
 * -------------------------------------------------------------------------------------
 */

static void wake_loop(struct mig_transfer *t)
{
    uint64_t one = 1;

    (void)!write(t->event_fd, &one, sizeof one);
}

void mig_tell(struct mig_transfer *t, enum mig_phase phase, const char *text)
{
    pthread_mutex_lock(&t->lock);
    t->status.phase = phase;
    t->status.change++;
    text_copy(t->status.text, sizeof t->status.text, text);
    pthread_mutex_unlock(&t->lock);
    wake_loop(t);
}

void mig_tell_ready(struct mig_transfer *t, const char *text, uint64_t frozen_ms)
{
    pthread_mutex_lock(&t->lock);
    t->status.frozen_ms = frozen_ms;
    pthread_mutex_unlock(&t->lock);
    mig_tell(t, MIG_PHASE_READY, text);
}

void mig_tell_missing(struct mig_transfer *t, uint64_t bytes, uint64_t faults)
{
    pthread_mutex_lock(&t->lock);
    t->status.missing = bytes;
    t->status.faults = faults;
    pthread_mutex_unlock(&t->lock);
    wake_loop(t);
}

void mig_tell_progress(struct mig_transfer *t, const struct mig_status *progress)
{
    pthread_mutex_lock(&t->lock);
    t->status.percent = progress->percent;
    t->status.round = progress->round;
    t->status.throttle = progress->throttle;
    t->status.bps = progress->bps;
    t->status.dirty_bps = progress->dirty_bps;
    t->status.sent = progress->sent;
    t->status.disk_sent = progress->disk_sent;
    t->status.eta_ms = progress->eta_ms;
    pthread_mutex_unlock(&t->lock);
    wake_loop(t);
}

int mig_transfer_fd(const struct mig_transfer *t)
{
    return t->event_fd;
}

void mig_transfer_clear(struct mig_transfer *t)
{
    uint64_t count;

    (void)!read(t->event_fd, &count, sizeof count);
}

bool mig_transfer_has_holes(struct mig_transfer *t)
{
    bool holes;

    pthread_mutex_lock(&t->lock);
    holes = t->incoming && t->status.missing > 0;
    pthread_mutex_unlock(&t->lock);
    return holes;
}

void mig_transfer_status(struct mig_transfer *t, struct mig_status *ret_status)
{
    pthread_mutex_lock(&t->lock);
    *ret_status = t->status;
    pthread_mutex_unlock(&t->lock);
}

/* Notes
 * --------------------------------------------------------------------------------------
 */

static void post(struct mig_transfer *t, unsigned event, enum mig_code code,
                 uint64_t epoch, const char *text)
{
    pthread_mutex_lock(&t->lock);
    if (t->busy && t->note_count < MIG_NOTES_MAX) {
        struct mig_note *note =
            &t->note[(t->note_head + t->note_count++) % MIG_NOTES_MAX];

        note->event = event;
        note->code = code;
        note->epoch = epoch;
        text_copy(note->text, sizeof note->text, text != NULL ? text : "");
        pthread_cond_broadcast(&t->cond);
    }
    pthread_mutex_unlock(&t->lock);
}

void mig_note_post(struct mig_transfer *t, unsigned event, enum mig_code code,
                   const char *text)
{
    post(t, event, code, 0, text);
}

void mig_note_post_epoch(struct mig_transfer *t, unsigned event, uint64_t epoch)
{
    post(t, event, MIG_OK, epoch, NULL);
}

bool mig_note_wait(struct mig_transfer *t, uint64_t until_ns, struct mig_note *ret_note)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / NSEC_PER_SEC),
                             .tv_nsec = (long)(until_ns % NSEC_PER_SEC)};
    bool have;
    int r = 0;

    pthread_mutex_lock(&t->lock);
    while (t->note_count == 0 && r == 0) {
        r = until_ns == UINT64_MAX ? pthread_cond_wait(&t->cond, &t->lock)
                                   : pthread_cond_timedwait(&t->cond, &t->lock, &until);
    }
    have = t->note_count > 0;
    if (have) {
        *ret_note = t->note[t->note_head];
        t->note_head = (t->note_head + 1) % MIG_NOTES_MAX;
        t->note_count--;
    }
    pthread_mutex_unlock(&t->lock);
    return have;
}

bool mig_send_msg(struct mig_transfer *t, const struct mig_msg *msg,
                  struct vmm_error *err)
{
    uint8_t *body = malloc(MIG_CONTROL_MAX);
    struct iovec iov = {.iov_base = body};
    int r = -ENOMEM;

    if (body != NULL) {
        ssize_t len = mig_msg_pack(msg, body, MIG_CONTROL_MAX);

        iov.iov_len = len < 0 ? 0 : (size_t)len;
        pthread_mutex_lock(&t->send_lock);
        r = len < 0 ? vmm_fail(err, -EINVAL, "a %s message has values out of range",
                               mig_kind_str(msg->kind))
                    : mig_conn_send(t->streams.conn[0],
                                    (uint16_t)(MIG_FRAME_CONTROL + msg->kind), 1, 0, &iov,
                                    1, err);
        pthread_mutex_unlock(&t->send_lock);
    } else {
        (void)vmm_fail(err, r, "no memory for a message");
    }
    free(body);
    return r == 0;
}

void mig_send_abort(struct mig_transfer *t, const struct mig_acts *acts)
{
    struct mig_msg msg = {.kind = MIG_ABORT};
    struct vmm_error ignored;

    msg.abort.code = acts->code;
    text_copy(msg.abort.text, sizeof msg.abort.text, acts->text);
    if (t->streams.count > 0) {
        (void)mig_send_msg(t, &msg, &ignored);
    }
}

/* Life
 * ---------------------------------------------------------------------------------------
 */

static void prepare_thread(void)
{
    priority_usual();
    sandbox_thread(SANDBOX_TRANSFER);
}

int mig_transfer_new(const struct mig_transfer_conf *conf, struct mig_transfer **ret_t,
                     struct vmm_error *err)
{
    struct mig_transfer *t = calloc(1, sizeof *t);
    pthread_condattr_t attr;
    int r;

    if (t == NULL) {
        return vmm_fail(err, -ENOMEM, "no memory for migrations");
    }
    t->conf = *conf;
    t->uffd = conf->uffd;
    pthread_mutex_init(&t->lock, NULL);
    pthread_mutex_init(&t->send_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->cond, &attr);
    pthread_condattr_destroy(&attr);
    t->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = t->event_fd < 0 ? vmm_fail(err, -errno, "eventfd: %s", strerror(errno)) : 0;
    if (r == 0) {
        r = mig_key_init(err);
    }
    if (r == 0) {
        r = mig_stop_open(&t->stop);
        r = r < 0 ? vmm_fail(err, r, "eventfd: %s", strerror(-r)) : 0;
    }
    if (r < 0) {
        mig_transfer_free(t);
        return r;
    }
    *ret_t = t;
    return 0;
}

int mig_transfer_go(struct mig_transfer *t, struct vmm_error *err)
{
    return mig_pool_new(MIG_THREAD_DATA0 + MIG_DATA_MAX, prepare_thread, &t->pool, err);
}

void mig_transfer_free(struct mig_transfer *t)
{
    if (t == NULL) {
        return;
    }
    if (t->pool != NULL) {
        pthread_mutex_lock(&t->lock);
        t->closing = true;
        pthread_mutex_unlock(&t->lock);
        t->cancelled = true;
        mig_note_post(t, t->incoming ? (unsigned)MIG_DST_CANCEL : (unsigned)MIG_SRC_END,
                      MIG_END_AGENT, "the VM ends");
        mig_stop_raise(&t->stop);
        mig_pool_wait(t->pool, MIG_THREAD_CONTROL);
        mig_pool_free(t->pool);
    }
    mig_stop_close(&t->stop);
    mig_key_free(t->key);
    if (t->event_fd >= 0) {
        close(t->event_fd);
    }
    if (t->uffd >= 0) {
        close(t->uffd);
    }
    pthread_cond_destroy(&t->cond);
    pthread_mutex_destroy(&t->lock);
    pthread_mutex_destroy(&t->send_lock);
    free(t);
}

/* What the agent wants
 * -------------------------------------------------------------------------- */

/* One that is over and only ends its threads is waited for, briefly: a VM that has just
 * come may be sent on at once. */
static bool is_busy(struct mig_transfer *t)
{
    uint64_t until_ns = loop_now_ns() + ENDING_NS;
    struct timespec until = {.tv_sec = (time_t)(until_ns / NSEC_PER_SEC),
                             .tv_nsec = (long)(until_ns % NSEC_PER_SEC)};
    bool busy;
    int r = 0;

    pthread_mutex_lock(&t->lock);
    while (t->busy && t->ending && r == 0) {
        r = pthread_cond_timedwait(&t->cond, &t->lock, &until);
    }
    busy = t->busy;
    pthread_mutex_unlock(&t->lock);
    return busy;
}

void mig_transfer_ending(struct mig_transfer *t)
{
    pthread_mutex_lock(&t->lock);
    t->ending = t->busy;
    pthread_mutex_unlock(&t->lock);
}

void mig_transfer_ended(struct mig_transfer *t)
{
    pthread_mutex_lock(&t->lock);
    t->busy = t->ending = false;
    pthread_cond_broadcast(&t->cond);
    pthread_mutex_unlock(&t->lock);
}

int mig_transfer_prepare(struct mig_transfer *t, struct mig_fingerprint *ret_key,
                         struct mig_token *ret_token, struct vmm_error *err)
{
    int r;

    if (is_busy(t)) {
        return vmm_fail(err, -EBUSY, "a migration is under way already");
    }
    mig_key_free(t->key);
    t->key = NULL;
    r = mig_key_new(&t->key, err);
    if (r < 0) {
        return r;
    }
    *ret_key = mig_key_fingerprint(t->key);
    *ret_token = t->token = mig_token_new();
    mig_tell(t, MIG_PHASE_PREPARED, "");
    return 0;
}

const struct mig_key *mig_transfer_key(const struct mig_transfer *t)
{
    return t->key;
}

static void close_fds(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        close(fds[i]);
    }
}

/* Everything of an earlier one is gone; the threads begin. */
static int begin(struct mig_transfer *t, const int *fds, unsigned count,
                 const struct mig_params *params, bool incoming, struct vmm_error *err)
{
    int r = 0;

    if (t->pool == NULL || is_busy(t)) {
        r = vmm_fail(err, -EBUSY, "a migration is under way already");
    } else if (count == 0 || count > MIG_TRANSFER_STREAMS_MAX) {
        r = vmm_fail(err, -EINVAL, "%u sockets came; 1 to %u can be used", count,
                     MIG_TRANSFER_STREAMS_MAX);
    } else if (t->key == NULL) {
        r = vmm_fail(err, -EINVAL, "no key was made for this migration");
    }
    if (r < 0) {
        close_fds(fds, count);
        close_fds(params->copy, params->copy_count);
        return r;
    }
    mig_pool_wait(t->pool, MIG_THREAD_CONTROL);
    mig_stop_reset(&t->stop);
    t->params = *params;
    memcpy(t->fd, fds, count * sizeof fds[0]);
    t->fd_count = count;
    t->cancelled = false;
    memset(&t->streams, 0, sizeof t->streams);
    engine_ram(t->conf.engine, &t->ram);
    pthread_mutex_lock(&t->lock);
    t->note_head = t->note_count = 0;
    t->incoming = incoming;
    t->busy = true;
    t->ending = false;
    t->status = (struct mig_status){.change = t->status.change};
    pthread_mutex_unlock(&t->lock);
    mig_tell(t, MIG_PHASE_CONNECTING, "");
    mig_pool_run(t->pool, MIG_THREAD_CONTROL, incoming ? mig_in_main : mig_out_main, t);
    return 0;
}

int mig_transfer_out(struct mig_transfer *t, const int *fds, unsigned count,
                     const struct mig_params *params, struct vmm_error *err)
{
    struct engine_status now;

    engine_status(t->conf.engine, &now);
    if (now.state != RUN_RUNNING) {
        close_fds(fds, count);
        return vmm_fail(err, -EINVAL, "the VM is %s; only a running one is migrated",
                        run_state_str(now.state));
    }
    return begin(t, fds, count, params, false, err);
}

int mig_transfer_in(struct mig_transfer *t, int listen_fd,
                    const struct mig_params *params, struct vmm_error *err)
{
    struct engine_status now;

    engine_status(t->conf.engine, &now);
    if (now.state != RUN_CREATED) {
        close(listen_fd);
        close_fds(params->copy, params->copy_count);
        return vmm_fail(err, -EINVAL, "the VM is %s already", run_state_str(now.state));
    }
    return begin(t, &listen_fd, 1, params, true, err);
}

void mig_transfer_releasing(struct mig_transfer *t)
{
    mig_note_post(t, MIG_SRC_RELEASING, MIG_OK, NULL);
}

void mig_transfer_cancel(struct mig_transfer *t)
{
    mig_note_post(t, t->incoming ? (unsigned)MIG_DST_CANCEL : (unsigned)MIG_SRC_CANCEL,
                  MIG_END_CANCELLED, "cancelled");
}

void mig_transfer_engine(struct mig_transfer *t, const struct engine_status *status)
{
    bool over = status->state == RUN_ENDING || status->state == RUN_ENDED;

    if (over) {
        t->cancelled = true;
        mig_note_post(
            t, t->incoming ? (unsigned)MIG_DST_GUEST_OFF : (unsigned)MIG_SRC_GUEST_OFF,
            MIG_END_GUEST_OFF, status->reason);
    } else if (status->state == RUN_RUNNING) {
        if (t->incoming && !mig_transfer_has_holes(t)) {
            mig_transfer_ending(t);
        }
        mig_note_post_epoch(
            t, t->incoming ? (unsigned)MIG_DST_START : (unsigned)MIG_SRC_THAW,
            status->epoch);
    }
}

void mig_transfer_guest_reset(struct mig_transfer *t)
{
    if (!t->incoming) {
        mig_note_post(t, MIG_SRC_GUEST_RESET, MIG_OK, NULL);
    }
}
