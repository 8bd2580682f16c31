/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_agent.h"

#include <string.h>

#include "base/bug.h"
#include "base/uuid.h"
#include "ha/ha_text.h"

#define PROGRESS_KEPT_NS (3 * NSEC_PER_SEC)

void ha_agent_init(struct ha_agent *agent, const struct ha_agent_self *self,
                   const struct ha_mem *mem, const struct ha_agent_ops *ops, void *ctx)
{
    static const struct ha_times_in start = {.token_ms = 1000,
                                             .node_count = 3,
                                             .fence_retry_ms = 2000,
                                             .fence_timeout_ms = 20000};
    bool derived;

    memset(agent, 0, sizeof *agent);
    agent->self = *self;
    agent->ops = ops;
    agent->ctx = ctx;
    agent->next_due_ns = UINT64_MAX;
    ha_state_init(&agent->state, mem);
    derived = ha_times_derive(&start, &agent->times);
    BUG_ON(!derived);
}

/* What was sent in the last view, and what waited for it, is void. */
void ha_agent_held_clear(struct ha_agent *agent)
{
    while (agent->held_count > 0) {
        agent->state.mem->free(agent->held[--agent->held_count].bytes);
    }
    for (unsigned i = 0; i < agent->state.vm_count; i++) {
        agent->state.vm[i]->sent = 0;
    }
    for (unsigned i = 0; i < agent->state.node_count; i++) {
        agent->state.node[i].sent = 0;
    }
}

void ha_agent_free(struct ha_agent *agent)
{
    ha_agent_held_clear(agent);
    for (unsigned i = 0; i < ARRAY_SIZE(agent->member); i++) {
        agent->state.mem->free(agent->member[i].vm);
    }
    for (unsigned i = 0; i < agent->early_count; i++) {
        agent->state.mem->free(agent->early[i].bytes);
    }
    if (agent->receiving) {
        ha_state_clear(&agent->incoming);
    }
    ha_state_clear(&agent->state);
}

void ha_agent_times_refresh(struct ha_agent *agent)
{
    const struct conf_cluster *conf = agent->state.cluster.conf;
    struct ha_times_in in;

    if (conf == NULL) {
        return;
    }
    in = (struct ha_times_in){
        .token_ms = conf->token_ms,
        .token_coefficient_ms = conf->token_coefficient_ms,
        .node_count = conf->node_count,
        .fence_retry_ms = conf->fence_retry_ms,
        .fence_timeout_ms = 1000,
    };
    for (unsigned i = 0; i < conf->device_count; i++) {
        if (conf->device[i].timeout_ms > in.fence_timeout_ms) {
            in.fence_timeout_ms = conf->device[i].timeout_ms;
        }
    }
    (void)ha_times_derive(&in, &agent->times); /* refused: the times before stay */
}

int ha_agent_load_item(struct ha_agent *agent, enum ha_item_kind kind, const void *body,
                       size_t len, uint64_t version, uint64_t now_ns)
{
    int r = ha_state_apply(&agent->state, kind, body, len, version, now_ns);

    if (r == 0 && kind == HA_ITEM_CLUSTER) {
        ha_agent_times_refresh(agent);
    }
    return r;
}

void ha_agent_trace(struct ha_agent *agent, const char *a, const char *b, const char *c)
{
    char text[REASON_LEN_MAX + 1];

    ha_text_set(text, sizeof text, a, b, c, NULL);
    agent->ops->trace(agent->ctx, text);
}

bool ha_agent_is_participant(const struct ha_agent *agent, uint32_t nodeid)
{
    for (unsigned i = 0; i < agent->sync.participant_count; i++) {
        if (agent->sync.participant[i].nodeid == nodeid) {
            return true;
        }
    }
    return false;
}

bool ha_agent_is_coordinator(const struct ha_agent *agent)
{
    return agent->phase == HA_PHASE_SYNCED && agent->view.quorate &&
           agent->sync.coordinator == agent->self.nodeid;
}

void ha_agent_send(struct ha_agent *agent, struct ha_msg *msg,
                   const struct ha_local_vm *vms)
{
    size_t len;

    msg->from.ring = agent->view.ring;
    msg->from.nodeid = agent->self.nodeid;
    msg->from.incarnation = agent->self.incarnation;
    msg->from.term = agent->state.term;
    if (msg->type != HA_MSG_UPDATE) {
        msg->from.version = agent->state.version;
    }
    len = ha_msg_encode(msg, vms, ++agent->send_seq, agent->frame, sizeof agent->frame);
    if (len == 0) {
        ha_agent_trace(agent, "a message does not fit 64 KiB and was not sent", "", "");
        return;
    }
    agent->ops->mcast(agent->ctx, agent->frame, len);
}

/* Views
 * ---------------------------------------------------------------------------------- */

/* A message may come before the view that it belongs to; it is kept until then. */
static void early_keep(struct ha_agent *agent, uint32_t nodeid, const void *buf,
                       size_t len)
{
    struct ha_early_message *m;

    if (agent->early_count == HA_EARLY_MAX) {
        agent->count.dropped_ring++;
        return; /* summaries are repeated */
    }
    m = &agent->early[agent->early_count];
    m->bytes = agent->state.mem->alloc(len);
    if (m->bytes == NULL) {
        return;
    }
    memcpy(m->bytes, buf, len);
    m->len = len;
    m->nodeid = nodeid;
    agent->early_count++;
}

static bool is_early(const struct ha_agent *agent, struct ha_ring ring)
{
    return ring.seq > agent->view.ring.seq ||
           (!agent->view.agreed && ha_ring_equal(ring, agent->view.ring));
}

/* Once the view is agreed; what is still younger is kept again. */
static void early_replay(struct ha_agent *agent, uint64_t now_ns)
{
    struct ha_early_message kept[HA_EARLY_MAX];
    unsigned count = agent->early_count;

    if (!agent->view.agreed || count == 0) {
        return;
    }
    memcpy(kept, agent->early, count * sizeof kept[0]);
    agent->early_count = 0;
    for (unsigned i = 0; i < count; i++) {
        ha_agent_deliver(agent, kept[i].nodeid, kept[i].bytes, kept[i].len, now_ns);
        agent->state.mem->free(kept[i].bytes);
    }
}

void ha_agent_view(struct ha_agent *agent, const struct ha_view *view, uint64_t now_ns)
{
    bool same = view->agreed && agent->view.agreed &&
                memcmp(view, &agent->view, sizeof *view) == 0;

    if (same) {
        return;
    }
    agent->view = *view;
    agent->renew_echo_count = 0; /* echoes of an old ring do not count */
    agent->renew_seq++;
    agent->fence_wait = false;
    ha_sync_begin(agent, now_ns);
    early_replay(agent, now_ns);
}

/* Persistence
 * ------------------------------------------------------------------------------ */

bool ha_agent_is_persisted(const struct ha_agent *agent, uint64_t version)
{
    unsigned nodes = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(agent->member); i++) {
        nodes += agent->member[i].present && agent->member[i].persisted >= version;
    }
    return nodes >= agent->view.votes_needed;
}

void ha_agent_check_persisted(struct ha_agent *agent)
{
    ha_order_persisted(agent);
    if (agent->fence_wait && ha_agent_is_persisted(agent, agent->fence_wait_version)) {
        agent->fence_wait = false;
        for (unsigned i = 0; i < agent->state.node_count; i++) {
            const struct ha_node *node = &agent->state.node[i];

            if (node->fence == HA_FENCE_PENDING &&
                node->fence_executor == agent->self.nodeid &&
                !ha_view_has(&agent->view, node->nodeid)) {
                agent->ops->fence_off(agent->ctx, node);
            }
        }
    }
}

void ha_agent_persisted(struct ha_agent *agent, uint64_t version, uint64_t now_ns)
{
    struct ha_msg msg = {.type = HA_MSG_PERSISTED, .number = version};

    (void)now_ns;
    if (agent->phase == HA_PHASE_SYNCED) {
        ha_agent_send(agent, &msg, NULL);
    }
}

/* Messages
 * --------------------------------------------------------------------------------- */

/* The isolation lease (R6): a renewal is a fresh round, echoed by a strict majority of
 * expected votes in this ring, and it counts from the moment it was sent: never a cached
 * "quorate". */
static void on_renew(struct ha_agent *agent, uint32_t from, uint64_t seq)
{
    struct ha_msg msg = {.type = HA_MSG_RENEW_ECHO, .number = seq, .echo_to = from};

    if (agent->phase == HA_PHASE_SYNCED && ha_agent_is_participant(agent, from)) {
        ha_agent_send(agent, &msg, NULL);
    }
}

static void on_renew_echo(struct ha_agent *agent, uint32_t from, const struct ha_msg *msg)
{
    if (msg->echo_to != agent->self.nodeid || msg->number != agent->renew_seq ||
        agent->renew_done || agent->renew_echo_count == NODES_MAX) {
        return;
    }
    for (unsigned i = 0; i < agent->renew_echo_count; i++) {
        if (agent->renew_echo[i] == from) {
            return;
        }
    }
    agent->renew_echo[agent->renew_echo_count++] = from;
    if (agent->renew_echo_count >= agent->view.votes_needed && agent->view.quorate) {
        agent->renew_done = true;
        if (agent->ops->lease_renewed != NULL) {
            agent->ops->lease_renewed(agent->ctx, agent->renew_sent_ns);
        }
    }
}

static void renew(struct ha_agent *agent, uint64_t now_ns)
{
    struct ha_msg msg = {.type = HA_MSG_RENEW};

    if (!agent->lease_wanted || agent->phase != HA_PHASE_SYNCED || !agent->view.quorate ||
        now_ns < agent->renew_sent_ns + agent->times.lease_renew_ns) {
        return;
    }
    msg.number = ++agent->renew_seq;
    agent->renew_sent_ns = now_ns;
    agent->renew_done = false;
    agent->renew_echo_count = 0;
    ha_agent_send(agent, &msg, NULL);
}

void ha_agent_lease_want(struct ha_agent *agent, bool wanted)
{
    agent->lease_wanted = wanted;
}

/* The oldest makes room. */
static void on_progress(struct ha_agent *agent, const struct ha_msg *msg, uint64_t now_ns)
{
    struct ha_progress *to = &agent->progress[0];

    for (unsigned i = 0; i < HA_PROGRESS_MAX; i++) {
        struct ha_progress *p = &agent->progress[i];

        if (uuid_equal(p->vm, msg->progress.vm)) {
            to = p;
            break;
        }
        to = p->at_ns < to->at_ns ? p : to;
    }
    *to = (struct ha_progress){msg->progress.vm, now_ns, msg->progress.move};
}

void ha_agent_progress(struct ha_agent *agent, struct uuid vm,
                       const struct ha_move_progress *progress)
{
    struct ha_msg msg = {.type = HA_MSG_PROGRESS,
                         .progress = {.vm = vm, .move = *progress}};

    if (agent->phase == HA_PHASE_SYNCED) {
        ha_agent_send(agent, &msg, NULL);
    }
}

void ha_agent_twin_look(struct ha_agent *agent, const struct ha_twin_look *look)
{
    struct ha_msg msg = {.type = HA_MSG_TWIN_LOOK, .twin_look = *look};

    if (agent->phase == HA_PHASE_SYNCED) {
        ha_agent_send(agent, &msg, NULL);
    }
}

const struct ha_move_progress *ha_agent_progress_of(const struct ha_agent *agent,
                                                    struct uuid vm, uint64_t now_ns)
{
    const struct ha_vm *record = ha_state_vm(&agent->state, vm);

    for (unsigned i = 0; i < HA_PROGRESS_MAX; i++) {
        const struct ha_progress *p = &agent->progress[i];

        /* Not what was said of an earlier migration of it. */
        if (uuid_equal(p->vm, vm) && p->at_ns != 0 && record != NULL &&
            p->at_ns >= record->changed_ns && now_ns - p->at_ns < PROGRESS_KEPT_NS) {
            return &p->move;
        }
    }
    return NULL;
}

static bool from_this_view(struct ha_agent *agent, uint32_t nodeid,
                           const struct ha_msg *msg)
{
#ifndef MUT_OLD_RING
    /* Corosync delivers queued messages after eviction and rejoin, and a cut-off node its
     * own to itself. */
    if (!agent->view.agreed || !ha_ring_equal(msg->from.ring, agent->view.ring)) {
        agent->count.dropped_ring++;
        ha_agent_trace(agent, "message dropped: it belongs to another ring", "", "");
        return false;
    }
#endif
    if (msg->from.nodeid != nodeid || !ha_view_has(&agent->view, nodeid)) {
        agent->count.dropped_sender++;
        ha_agent_trace(agent,
                       "message dropped: its sender is not who it says, or not in view",
                       "", "");
        return false;
    }
    return true;
}

/* An update carries a whole record. One that is made from a record while another update
 * of it is under way would undo that one: an operator's change may be any record, a
 * report is one. */
static bool must_wait(const struct ha_agent *agent, const struct ha_msg *msg)
{
    const struct ha_node *node;
    const struct ha_vm *vm;

    if (msg->type == HA_MSG_VM_REPORT) {
        vm = ha_state_vm(&agent->state, msg->vm_report.vm);
        return vm != NULL && vm->sent > agent->state.version;
    }
    if (msg->type == HA_MSG_FENCE_REPORT) {
        node = ha_state_node(&agent->state, msg->fence_report.target);
        return node != NULL && node->sent > agent->state.version;
    }
    return agent->sent_version != agent->state.version;
}

static void coordinate(struct ha_agent *agent, uint32_t nodeid, const struct ha_msg *msg,
                       uint64_t now_ns)
{
    if (msg->type == HA_MSG_OP) {
        ha_coord_op(agent, &msg->op, now_ns);
    } else if (!ha_agent_is_participant(agent, nodeid)) {
        return;
    } else if (msg->type == HA_MSG_VM_REPORT) {
        ha_coord_vm_report(agent, nodeid, &msg->vm_report, now_ns);
    } else {
        ha_coord_fence_report(agent, nodeid, &msg->fence_report, now_ns);
    }
}

static void held_keep(struct ha_agent *agent, uint32_t nodeid, const void *buf,
                      size_t len)
{
    struct ha_early_message *m = &agent->held[agent->held_count];

    if (agent->held_count == ARRAY_SIZE(agent->held)) {
        ha_agent_trace(agent, "a report or a change dropped: too many wait", "", "");
        return;
    }
    m->bytes = agent->state.mem->alloc(len);
    if (m->bytes == NULL) {
        return;
    }
    memcpy(m->bytes, buf, len);
    m->len = len;
    m->nodeid = nodeid;
    agent->held_count++;
}

/* In their order, as far as nothing is in the way. */
static void held_release(struct ha_agent *agent, uint64_t now_ns)
{
    unsigned done = 0;

    for (; done < agent->held_count && ha_agent_is_coordinator(agent); done++) {
        struct ha_early_message *m = &agent->held[done];
        struct ha_msg msg;

        if (ha_msg_decode(m->bytes, m->len, &msg) == NULL) {
            if (must_wait(agent, &msg)) {
                break;
            }
            coordinate(agent, m->nodeid, &msg, now_ns);
        }
        agent->state.mem->free(m->bytes);
    }
    if (done > 0) {
        agent->held_count -= done;
        memmove(agent->held, agent->held + done,
                agent->held_count * sizeof agent->held[0]);
    }
}

void ha_agent_deliver(struct ha_agent *agent, uint32_t nodeid, const void *buf,
                      size_t len, uint64_t now_ns)
{
    struct ha_msg msg;
    struct ha_member *member;
    const char *wrong = ha_msg_decode(buf, len, &msg);

    if (wrong != NULL) {
        agent->count.dropped_malformed++;
        ha_agent_trace(agent, "message dropped: ", wrong, "");
        return;
    }
    if (is_early(agent, msg.from.ring)) {
        early_keep(agent, nodeid, buf, len);
        return;
    }
    if (!from_this_view(agent, nodeid, &msg)) {
        return;
    }
    member = ha_agent_member(agent, nodeid);
    switch (msg.type) {
    case HA_MSG_SUMMARY:
        ha_sync_summary(agent, &msg, now_ns);
        break;
    case HA_MSG_NODE_CPU:
        ha_sync_cpu(agent, &msg);
        break;
    case HA_MSG_NODE_KVM:
        ha_sync_kvm(agent, &msg);
        break;
    case HA_MSG_SYNC:
        ha_sync_proposed(agent, &msg, now_ns);
        break;
    case HA_MSG_SNAP_ITEM:
        ha_sync_snap_item(agent, &msg, now_ns);
        break;
    case HA_MSG_SNAP_END:
        ha_sync_snap_end(agent, &msg, now_ns);
        break;
    case HA_MSG_UPDATE:
        ha_update_deliver(agent, &msg, now_ns);
        break;
    case HA_MSG_PERSISTED:
        if (member != NULL && msg.from.term == agent->state.term) {
            member->persisted =
                msg.number > member->persisted ? msg.number : member->persisted;
            ha_agent_check_persisted(agent);
        }
        break;
    case HA_MSG_VM_REPORT:
    case HA_MSG_FENCE_REPORT:
    case HA_MSG_OP:
        if (!ha_agent_is_coordinator(agent)) {
            break;
        }
        if (agent->held_count > 0 || must_wait(agent, &msg)) {
            held_keep(agent, nodeid, buf, len);
        } else {
            coordinate(agent, nodeid, &msg, now_ns);
        }
        break;
    case HA_MSG_OP_RESULT:
        /* Its updates came before it: outside of this phase they were dropped. */
        if (agent->phase == HA_PHASE_SYNCED) {
            ha_order_result(agent, &msg.op_result);
        }
        break;
    case HA_MSG_PROGRESS:
        on_progress(agent, &msg, now_ns);
        break;
    case HA_MSG_TWIN_LOOK:
        if (agent->phase == HA_PHASE_SYNCED && agent->ops->twin_look != NULL) {
            agent->ops->twin_look(agent->ctx, &msg.twin_look);
        }
        break;
    case HA_MSG_RENEW:
        on_renew(agent, nodeid, msg.number);
        break;
    case HA_MSG_RENEW_ECHO:
        on_renew_echo(agent, nodeid, &msg);
        break;
    case HA_MSG_INVALID:
    default:
        break;
    }
    held_release(agent, now_ns);
    ha_coord_decide(agent, now_ns);
}

/* Local events
 * ------------------------------------------------------------------------------ */

const struct ha_local_vm *ha_member_vm(const struct ha_member *m, struct uuid vm)
{
    for (unsigned i = 0; i < m->vm_count; i++) {
        if (uuid_equal(m->vm[i].vm, vm)) {
            return &m->vm[i];
        }
    }
    return NULL;
}

void ha_agent_local_vm(struct ha_agent *agent, const struct ha_local_vm *vm, bool gone)
{
    for (unsigned i = 0; i < agent->local_vm_count; i++) {
        if (uuid_equal(agent->local_vm[i].vm, vm->vm)) {
            if (gone) {
                agent->local_vm[i] = agent->local_vm[--agent->local_vm_count];
            } else {
                agent->local_vm[i] = *vm;
            }
            return;
        }
    }
    if (!gone && agent->local_vm_count < ARRAY_SIZE(agent->local_vm)) {
        agent->local_vm[agent->local_vm_count++] = *vm;
    }
}

void ha_agent_vm_report(struct ha_agent *agent, const struct ha_vm_report *report,
                        uint64_t now_ns)
{
    struct ha_msg msg = {.type = HA_MSG_VM_REPORT, .vm_report = *report};

    (void)now_ns;
    if (agent->phase == HA_PHASE_SYNCED) {
        ha_agent_send(agent, &msg, NULL);
    } else if (agent->deferred_count < ARRAY_SIZE(agent->deferred)) {
        agent->deferred[agent->deferred_count++] = *report;
    }
}

void ha_agent_fence_report(struct ha_agent *agent, const struct ha_fence_report *report,
                           uint64_t now_ns)
{
    struct ha_msg msg = {.type = HA_MSG_FENCE_REPORT, .fence_report = *report};

    (void)now_ns;
    if (agent->phase == HA_PHASE_SYNCED) {
        ha_agent_send(agent, &msg, NULL);
    }
    /* Else: the executor keeps the result and is asked again by the next request (same
     * uid or a status reading). */
}

void ha_agent_tick(struct ha_agent *agent, uint64_t now_ns)
{
    if (agent->phase == HA_PHASE_EXCHANGING &&
        now_ns >= agent->summary_sent_ns + agent->times.summary_ns) {
        agent->summary_sent_ns = now_ns;
        ha_sync_summary_send(agent);
    }
    ha_sync_consider(agent, now_ns);
    renew(agent, now_ns);
    agent->decide_wanted = agent->decide_wanted || now_ns >= agent->next_due_ns;
    ha_coord_decide(agent, now_ns);
}

uint64_t ha_agent_due_ns(const struct ha_agent *agent)
{
    if (agent->phase == HA_PHASE_EXCHANGING && agent->view.quorate) {
        return agent->phase_since_ns + agent->times.summary_ns;
    }
    return agent->next_due_ns;
}
