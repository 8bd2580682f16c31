/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of gemel-fenced: acts of fence_req carried out, one agent per device at a
 * time. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/units.h"
#include "base/uuid.h"
#include "fencing/fence_store.h"
#include "fencing/fenced_int.h"

#define TIMEOUT_MS_DEFAULT 60000
#define TIMEOUT_MS_MAX     600000
#define RETRY_MS_MIN       200
#define REREAD_MS          200
#define REREADS_MAX        5
#define STATUS_ROUNDS_MAX  2
/* So long after its start the reading of a suspected node may hold up its off. */
#define READING_NS NSEC_PER_SEC
/* From a reading on suspicion to the view: 2.2 x token, less the suspicion. */
#define READY_NS (20 * NSEC_PER_SEC)

static void dispatch(struct fenced *f);
static void request_event(struct fenced_request *r, struct fence_event event);

struct fenced_request *fenced_request_find(struct fenced *f, struct uuid uid)
{
    for (size_t i = 0; i < FENCE_REQUESTS_MAX; i++) {
        if (f->request[i].used && uuid_equal(f->request[i].record.uid, uid)) {
            return &f->request[i];
        }
    }
    return NULL;
}

static bool request_settled(const struct fenced_request *r)
{
    return r->record.result > FENCE_RESULT_PENDING;
}

static bool request_durable(const struct fenced_request *r)
{
    return r->record.action == FENCE_ACTION_OFF || r->record.action == FENCE_ACTION_ON;
}

void fenced_request_drop(struct fenced_request *r)
{
    struct fenced *f = r->fenced;

    loop_timer_del(f->loop, &r->timer);
    fenced_snapshot_unref(r->snapshot);
    memset(r, 0, sizeof(*r));
}

/* Readings and health checks are forgotten first: nobody asks for them again after a
 * restart. */
struct fenced_request *fenced_request_new(struct fenced *f)
{
    struct fenced_request *oldest = NULL;

    for (size_t i = 0; i < FENCE_REQUESTS_MAX; i++) {
        struct fenced_request *r = &f->request[i];

        if (!r->used) {
            oldest = r;
            break;
        }
        if (request_settled(r) &&
            (oldest == NULL || request_durable(r) < request_durable(oldest) ||
             (request_durable(r) == request_durable(oldest) &&
              r->record.order < oldest->record.order))) {
            oldest = r;
        }
    }
    if (oldest == NULL) {
        return NULL;
    }
    if (oldest->used) {
        if (request_durable(oldest)) {
            fence_store_remove(f->state_dir, oldest->record.uid);
        }
        fenced_request_drop(oldest);
    }
    *oldest = (struct fenced_request){.used = true, .fenced = f};
    oldest->record.order = ++f->order_last;
    oldest->record.result = FENCE_RESULT_PENDING;
    return oldest;
}

/* Text
 * -----------------------------------------------------------------------------------------------------------
 */

static void append(char *text, size_t cap, const char *a, const char *b, const char *c)
{
    size_t len = strlen(text);

    snprintf(text + len, cap - len, "%s%s%s", a, b, c);
}

/* "bmc1 says on; pdu1 does not answer in time: LINE" */
static void describe_legs(const struct fenced_request *r, char *text, size_t cap)
{
    for (unsigned i = 0; i < r->req.conf.leg_count; i++) {
        const struct fenced_leg *leg = &r->leg[i];

        if (r->req.leg[i].last == FENCE_ANSWER_NONE && leg->detail[0] == '\0') {
            continue;
        }
        append(text, cap, "; ", leg->device->name, " ");
        append(text, cap, fence_answer_str(r->req.leg[i].last),
               leg->detail[0] != '\0' ? ": " : "", leg->detail);
    }
}

void fenced_request_describe(struct fenced_request *r)
{
    struct fence_record *rec = &r->record;
    const struct fence_req *req = &r->req;
    bool named = req->result == FENCE_RESULT_OK || req->cause == FENCE_CAUSE_CONTRARY;

    if (r->req.result == FENCE_RESULT_NONE) {
        return; /* loaded, or refused before it began: the record says all */
    }
    if (!request_settled(r)) {
        rec->elapsed_ms = (uint32_t)((loop_now_ns() - req->begin_ns) / NSEC_PER_MSEC);
    }
    rec->attempts = fence_req_attempts(req);
    snprintf(rec->device, sizeof(rec->device), "%s",
             named ? r->leg[req->decider].device->name : "");
    if (req->result == FENCE_RESULT_OK) {
        /* The device is named beside it. */
        snprintf(rec->detail, sizeof(rec->detail), "%s%s",
                 fence_answer_str(req->leg[req->decider].last),
                 request_durable(r) ? ", confirmed by a second reading" : "");
        return;
    }
    snprintf(rec->detail, sizeof(rec->detail), "%s",
             req->result == FENCE_RESULT_PENDING ? "under way"
                                                 : fence_cause_str(req->cause));
    describe_legs(r, rec->detail, sizeof(rec->detail));
}

/* Runs
 * -----------------------------------------------------------------------------------------------------------
 */

/* What may push what aside on a device. */
static unsigned priority(const struct fenced_request *r)
{
    static const unsigned table[FENCE_ACTION_COUNT] = {
        [FENCE_ACTION_MONITOR] = 1,
        [FENCE_ACTION_STATUS] = 2,
        [FENCE_ACTION_ON] = 3,
        [FENCE_ACTION_OFF] = 4,
    };

    return table[r->record.action];
}

/*
 * A suspected node whose power is on is about to be switched off, once the ring has
 * re-formed without it: the agent for that starts now, and is told only then what to do.
 */
static void ready_ended(struct fence_exec *exec, const struct fence_run_result *result,
                        void *data)
{
    struct fenced_ready *ready = data;

    (void)exec;
    (void)result;
    loop_timer_del(ready->fenced->loop, &ready->timer);
    ready->exec = NULL;
}

static void ready_timer(void *data)
{
    struct fenced_ready *ready = data;

    ready->timer = 0;
    fence_exec_kill(ready->exec, NULL, NULL);
    ready->exec = NULL;
}

static struct fenced_ready *ready_find(struct fenced *f,
                                       const struct conf_fence_device *device)
{
    for (size_t i = 0; i < FENCED_READY_MAX; i++) {
        if (f->ready[i].exec != NULL && strcmp(f->ready[i].device, device->name) == 0 &&
            strcmp(f->ready[i].agent, device->agent) == 0) {
            return &f->ready[i];
        }
    }
    return NULL;
}

static void ready_start_one(struct fenced *f, const struct conf_fence_device *device)
{
    struct fenced_ready *ready = NULL;
    struct fence_error error;

    for (size_t i = 0; i < FENCED_READY_MAX && ready == NULL; i++) {
        ready = f->ready[i].exec == NULL ? &f->ready[i] : NULL;
    }
    if (ready == NULL || fence_exec_start(f->runner, device, FENCE_ACTION_STATUS, true, 0,
                                          ready_ended, ready, &ready->exec, &error) < 0) {
        return; /* then it starts when it is wanted */
    }
    ready->fenced = f;
    snprintf(ready->device, sizeof(ready->device), "%s", device->name);
    snprintf(ready->agent, sizeof(ready->agent), "%s", device->agent);
    if (loop_timer_add(f->loop, READY_NS, ready_timer, ready, &ready->timer) < 0) {
        ready_timer(ready);
    }
}

static void ready_start(struct fenced *f, const struct conf_fence_device *device)
{
    if (ready_find(f, device) == NULL) {
        ready_start_one(f, device); /* the action */
        ready_start_one(f, device); /* its reading */
    }
}

/* The held agent for this device, which is the caller's from now on, or NULL. */
static struct fence_exec *ready_take(struct fenced *f,
                                     const struct conf_fence_device *device)
{
    struct fenced_ready *ready = ready_find(f, device);
    struct fence_exec *exec = ready != NULL ? ready->exec : NULL;

    if (exec != NULL) {
        loop_timer_del(f->loop, &ready->timer);
        ready->exec = NULL;
    }
    return exec;
}

void fenced_ready_free(struct fenced *f)
{
    for (size_t i = 0; i < FENCED_READY_MAX; i++) {
        loop_timer_del(f->loop, &f->ready[i].timer);
    }
}

static void warm_ended(struct fence_exec *exec, const struct fence_run_result *result,
                       void *data)
{
    struct fenced_leg *leg = data;

    (void)exec;
    (void)result;
    leg->warm = NULL;
}

static void warm_drop(struct fenced_leg *leg)
{
    if (leg->warm != NULL) {
        fence_exec_kill(leg->warm, NULL, NULL);
        leg->warm = NULL;
    }
}

static void leg_answer(struct fenced_leg *leg, enum fence_end end, int code)
{
    struct fenced_request *r = leg->request;

    leg->state = FENCED_LEG_IDLE;
    leg->exec = NULL;
    request_event(
        r, (struct fence_event){.kind = FENCE_EVENT_ANSWER,
                                .leg = (unsigned)(leg - r->leg),
                                .run = leg->act.run,
                                .answer = fence_answer_of(leg->act.action, end, code)});
}

static void run_ended(struct fence_exec *exec, const struct fence_run_result *result,
                      void *data)
{
    struct fenced_leg *leg = data;
    struct fenced *f = leg->request->fenced;

    (void)exec;
    if (result->end == FENCE_END_PREEMPTED) {
        snprintf(leg->detail, sizeof(leg->detail),
                 "stopped for a more important request");
    } else {
        snprintf(leg->detail, sizeof(leg->detail), "%s", result->detail);
    }
    log_info(
        "agent action=%s node=%s device=%s %s code=%d elapsed_ms=%u output_bytes=%llu: "
        "%s",
        fence_action_str(leg->act.action), leg->device->node, leg->device->name,
        fence_answer_str(fence_answer_of(leg->act.action, result->end, result->code)),
        result->code, result->elapsed_ms, (unsigned long long)result->output_bytes,
        leg->detail);
    if (leg->request->record.action == FENCE_ACTION_STATUS &&
        fence_answer_of(leg->act.action, result->end, result->code) == FENCE_ANSWER_ON) {
        ready_start(f, leg->device);
    }
    leg_answer(leg, result->end, result->code);
    dispatch(f);
}

/*
 * The reading after an action starts its agent together with the action's, so that the
 * interpreter's start and imports (half of a status) are over when the reading is due. It
 * learns the address of the device only then.
 */
static void warm_start(struct fenced_leg *leg)
{
    struct fenced *f = leg->request->fenced;
    struct fence_error error;

    warm_drop(leg);
    leg->warm = ready_take(f, leg->device);
    if (leg->warm != NULL) {
        fence_exec_watch(leg->warm, warm_ended, leg);
    } else if (fence_exec_start(f->runner, leg->device, FENCE_ACTION_STATUS, true, 0,
                                warm_ended, leg, &leg->warm, &error) < 0) {
        leg->warm = NULL;
    }
}

/* Puts an agent that is already there to work. False: it could not be used, and is gone.
 */
static bool leg_release(struct fenced_leg *leg, struct fence_exec *exec)
{
    struct fence_error error;

    if (exec == NULL) {
        return false;
    }
    if (fence_exec_release(exec, leg->device, leg->act.action, leg->act.timeout_ms,
                           run_ended, leg, &error) < 0) {
        fence_exec_kill(exec, NULL, NULL);
        return false;
    }
    leg->exec = exec;
    return true;
}

static int leg_start(struct fenced_leg *leg, struct fence_error *ret_error)
{
    struct fenced *f = leg->request->fenced;
    struct fence_exec *exec = NULL;
    int r = 0;

    if (leg->act.action == FENCE_ACTION_STATUS) {
        exec = leg->warm;
        leg->warm = NULL;
    } else if (leg->act.action == FENCE_ACTION_OFF) {
        exec = ready_take(f, leg->device);
    }
    if (!leg_release(leg, exec)) {
        r = fence_exec_start(f->runner, leg->device, leg->act.action, false,
                             leg->act.timeout_ms, run_ended, leg, &leg->exec, ret_error);
    }
    if (r == 0 && request_durable(leg->request) &&
        leg->act.action != FENCE_ACTION_STATUS) {
        warm_start(leg);
    }
    return r;
}

static bool device_dying(const struct fenced *f, const char *device)
{
    for (size_t i = 0; i < FENCED_DYING_MAX; i++) {
        if (f->dying[i].exec != NULL && strcmp(f->dying[i].device, device) == 0) {
            return true;
        }
    }
    return false;
}

static void dying_ended(struct fence_exec *exec, const struct fence_run_result *result,
                        void *data)
{
    struct fenced_dying *dying = data;

    (void)exec;
    (void)result;
    dying->exec = NULL;
    dispatch(dying->fenced);
}

/* Nobody waits for its answer any more, but the next agent on this device waits for its
 * end. */
static void leg_kill(struct fenced_leg *leg)
{
    struct fenced *f = leg->request->fenced;

    for (size_t i = 0; i < FENCED_DYING_MAX; i++) {
        struct fenced_dying *dying = &f->dying[i];

        if (dying->exec == NULL) {
            dying->fenced = f;
            dying->exec = leg->exec;
            snprintf(dying->device, sizeof(dying->device), "%s", leg->device->name);
            fence_exec_kill(leg->exec, dying_ended, dying);
            return;
        }
    }
    fence_exec_kill(leg->exec, NULL, NULL);
}

static struct fenced_leg *device_user(struct fenced *f, const char *device)
{
    for (size_t i = 0; i < FENCE_REQUESTS_MAX; i++) {
        struct fenced_request *r = &f->request[i];

        for (unsigned n = 0; r->used && n < r->req.conf.leg_count; n++) {
            if (r->leg[n].state == FENCED_LEG_RUNNING &&
                strcmp(r->leg[n].device->name, device) == 0) {
                return &r->leg[n];
            }
        }
    }
    return NULL;
}

static bool goes_before(const struct fenced_request *a, const struct fenced_request *b)
{
    return priority(a) != priority(b) ? priority(a) > priority(b)
                                      : a->record.order < b->record.order;
}

static void dispatch_timer(void *data)
{
    struct fenced *f = data;

    f->dispatch_timer = 0;
    dispatch(f);
}

/*
 * `off` is asked and the reading that was asked on suspicion is still under way: it may
 * say `off` any moment now, which is the proof that everybody waits for, and to kill it
 * would only mean to start another interpreter. So it may finish, for a while, and
 * meanwhile the agents for the action start.
 */
static bool reading_may_finish(struct fenced *f, const struct fenced_leg *user)
{
    uint64_t age_ns = loop_now_ns() - user->begin_ns;

    if (user->request->record.action != FENCE_ACTION_STATUS || age_ns >= READING_NS) {
        return false;
    }
    ready_start(f, user->device);
    return f->dispatch_timer != 0 ||
           loop_timer_add(f->loop, READING_NS - age_ns, dispatch_timer, f,
                          &f->dispatch_timer) == 0;
}

/* The most important waiting leg whose device is free. Users of wanted devices that are
 * less important are stopped on the way. */
static struct fenced_leg *next_startable(struct fenced *f)
{
    struct fenced_leg *best = NULL;

    for (size_t i = 0; i < FENCE_REQUESTS_MAX; i++) {
        struct fenced_request *r = &f->request[i];

        for (unsigned n = 0; r->used && n < r->req.conf.leg_count; n++) {
            struct fenced_leg *user;

            if (r->leg[n].state != FENCED_LEG_WAITING) {
                continue;
            }
            user = device_user(f, r->leg[n].device->name);
            if (device_dying(f, r->leg[n].device->name)) {
                continue;
            }
            if (user == NULL) {
                best = best == NULL || goes_before(r, best->request) ? &r->leg[n] : best;
            } else if (priority(user->request) < priority(r) &&
                       !reading_may_finish(f, user)) {
                fence_exec_kill(user->exec, run_ended,
                                user); /* ends, and then we come again */
            }
        }
    }
    return best;
}

static void dispatch(struct fenced *f)
{
    struct fence_error error;
    struct fenced_leg *leg;

    if (f->dispatching) {
        return; /* the loop below goes on anyway */
    }
    f->dispatching = true;
    while ((leg = next_startable(f)) != NULL) {
        leg->state = FENCED_LEG_RUNNING;
        leg->begin_ns = loop_now_ns();
        leg->detail[0] = '\0';
        if (leg_start(leg, &error) < 0) {
            snprintf(leg->detail, sizeof(leg->detail), "%s", error.text);
            log_err("agent action=%s node=%s device=%s not run: %s",
                    fence_action_str(leg->act.action), leg->device->node,
                    leg->device->name, error.text);
            leg_answer(leg, FENCE_END_NOT_RUN, 0);
        }
    }
    f->dispatching = false;
}

/* Requests
 * -------------------------------------------------------------------------------------------------------
 */

static void request_timer(void *data)
{
    struct fenced_request *r = data;
    struct fenced *f = r->fenced;

    r->timer = 0;
    request_event(r, (struct fence_event){.kind = FENCE_EVENT_TICK});
    dispatch(f);
}

static void request_settle(struct fenced_request *r)
{
    struct fence_record *rec = &r->record;
    char uid[UUID_STR_LEN + 1];
    int error;

    for (unsigned i = 0; i < r->req.conf.leg_count; i++) {
        warm_drop(&r->leg[i]);
    }
    fenced_request_describe(r); /* while it still counts as pending: takes the time */
    rec->result = r->req.result;
    uuid_format(rec->uid, uid);
    log_info("request uid=%s action=%s node=%s result=%s elapsed_ms=%u attempts=%u: %s",
             uid, fence_action_str(rec->action), rec->node, fence_result_str(rec->result),
             rec->elapsed_ms, rec->attempts, rec->detail);
    /* The report first: if we die between the two, the next fenced reads the power again.
     */
    fenced_report(r);
    error = request_durable(r) ? fence_store_put(r->fenced->state_dir, rec) : 0;
    if (error < 0) {
        log_err("cannot record the result of %s in %s: %s; make room there", uid,
                r->fenced->state_dir, strerror(-error));
    }
}

static void act_do(struct fenced_request *r, const struct fence_act *act)
{
    struct fenced_leg *leg = &r->leg[act->leg];

    if (act->what == FENCE_DO_RUN) {
        leg->act = *act;
        leg->state = FENCED_LEG_WAITING;
        return;
    }
    if (leg->state == FENCED_LEG_RUNNING && leg->exec != NULL) {
        leg_kill(leg);
    }
    leg->exec = NULL;
    leg->state = FENCED_LEG_IDLE;
}

/* One event to the machine and what follows from it, but for starting agents: dispatch()
 * does that. */
static void request_event(struct fenced_request *r, struct fence_event event)
{
    struct fence_acts acts;
    uint64_t now_ns = loop_now_ns();

    event.now_ns = now_ns;
    fence_req_step(&r->req, &event, &acts);
    for (unsigned i = 0; i < acts.count; i++) {
        act_do(r, &acts.act[i]);
    }
    loop_timer_del(r->fenced->loop, &r->timer);
    if (acts.settled) {
        request_settle(r);
    } else if (acts.wake_ns != 0 &&
               loop_timer_add(r->fenced->loop,
                              acts.wake_ns > now_ns ? acts.wake_ns - now_ns : 0,
                              request_timer, r, &r->timer) < 0) {
        /* Without its timer it could stay pending for ever. */
        fence_req_step(
            &r->req, &(struct fence_event){.kind = FENCE_EVENT_CANCEL, .now_ns = now_ns},
            &acts);
        for (unsigned i = 0; i < acts.count; i++) {
            act_do(r, &acts.act[i]);
        }
        request_settle(r);
    }
}

/* Which devices, and the limits. */
static void request_conf(struct fenced_request *r, bool read_only,
                         struct fence_req_conf *conf)
{
    struct fenced *f = r->fenced;
    uint32_t timeout_ms = r->record.timeout_ms;

    *conf = (struct fence_req_conf){
        .action = r->record.action,
        .levels_parallel = f->levels_parallel,
        .read_only = read_only,
        .timeout_ms = timeout_ms == 0               ? TIMEOUT_MS_DEFAULT
                      : timeout_ms > TIMEOUT_MS_MAX ? TIMEOUT_MS_MAX
                                                    : timeout_ms,
        .reread_ms = REREAD_MS,
        .rereads_max = REREADS_MAX,
        .rounds_max = r->record.action == FENCE_ACTION_MONITOR ? 1
                      : r->record.action == FENCE_ACTION_STATUS || read_only
                          ? STATUS_ROUNDS_MAX
                          : 0,
    };
    if (f->snapshot == NULL) {
        return;
    }
    r->snapshot = f->snapshot;
    r->snapshot->refs++;
    conf->retry_ms = f->snapshot->conf.fence_retry_ms > RETRY_MS_MIN
                         ? f->snapshot->conf.fence_retry_ms
                         : RETRY_MS_MIN;
    for (unsigned i = 0; i < r->snapshot->conf.device_count; i++) {
        const struct conf_fence_device *device = &r->snapshot->conf.device[i];

        /* fenced_configure saw to it that they fit. */
        if (strcmp(device->node, r->record.node) == 0 &&
            conf->leg_count < FENCE_LEGS_MAX) {
            r->leg[conf->leg_count] = (struct fenced_leg){.request = r, .device = device};
            conf->leg[conf->leg_count++] = (struct fence_leg_conf){
                .level = device->level, .timeout_ms = device->timeout_ms};
        }
    }
}

void fenced_request_begin(struct fenced_request *r, bool read_only)
{
    struct fence_req_conf conf;
    char uid[UUID_STR_LEN + 1];
    int error;

    request_conf(r, read_only, &conf);
    fence_req_init(&r->req, &conf);
    uuid_format(r->record.uid, uid);
    log_info(
        "request uid=%s action=%s node=%s join_counter=%llu timeout_ms=%u devices=%u%s",
        uid, fence_action_str(r->record.action), r->record.node,
        (unsigned long long)r->record.join_counter, conf.timeout_ms, conf.leg_count,
        read_only ? ": was in flight at a restart, only read" : "");
    /* Design R7: the intent is durable before anything is done. */
    error = request_durable(r) ? fence_store_put(r->fenced->state_dir, &r->record) : 0;
    if (error < 0) {
        r->record.result = FENCE_RESULT_UNKNOWN;
        snprintf(r->record.detail, sizeof(r->record.detail),
                 "nothing done: cannot record the intent in %.128s: %s; make room there",
                 r->fenced->state_dir, strerror(-error));
        log_err("request uid=%s: %s", uid, r->record.detail);
        fenced_report(r);
        return;
    }
    request_event(r, (struct fence_event){.kind = FENCE_EVENT_BEGIN});
    dispatch(r->fenced);
}

void fenced_request_cancel(struct fenced_request *r)
{
    if (!request_settled(r)) {
        struct fenced *f = r->fenced;

        request_event(r, (struct fence_event){.kind = FENCE_EVENT_CANCEL});
        dispatch(f);
    }
}
