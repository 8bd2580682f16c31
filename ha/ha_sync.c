/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a view to a common state. Every member multicasts a summary; the lowest member,
 * once all have spoken (or after summary_ns), proposes a term: who takes part, whose
 * state holds, who coordinates. The total order makes the first proposal with a new term
 * the one that counts, so a proposer that dies is simply followed by the next.
 */
#include <string.h>

#include "base/kvm_can.h"
#include "base/uuid.h"
#include "base/version.h"
#include "ha/ha_agent.h"
#include "ha/ha_text.h"

#define TERMS_PER_RING_BITS 20

struct ha_member *ha_agent_member(struct ha_agent *agent, uint32_t nodeid)
{
    for (unsigned i = 0; i < ARRAY_SIZE(agent->member); i++) {
        if (agent->member[i].present && agent->member[i].nodeid == nodeid) {
            return &agent->member[i];
        }
    }
    return NULL;
}

static void wait_for(struct ha_agent *agent, const char *what)
{
    ha_text_set(agent->waiting, sizeof agent->waiting, what, NULL);
}

static void members_clear(struct ha_agent *agent)
{
    for (unsigned i = 0; i < ARRAY_SIZE(agent->member); i++) {
        agent->state.mem->free(agent->member[i].vm);
    }
    memset(agent->member, 0, sizeof agent->member);
}

static void send_cpu(struct ha_agent *agent)
{
    char text[CPU_MODEL_TEXT_MAX];
    struct ha_msg msg = {.type = HA_MSG_NODE_CPU, .cpu.text = text};

    msg.cpu.len = agent->self.cpu_known
                      ? (uint32_t)cpu_model_print(&agent->self.cpu, text, sizeof text)
                      : 0;
    if (msg.cpu.len != 0) {
        ha_agent_send(agent, &msg, NULL);
    }
}

static void send_kvm(struct ha_agent *agent)
{
    char text[KVM_CAN_TEXT_MAX];
    struct ha_msg msg = {.type = HA_MSG_NODE_KVM, .cpu.text = text};

    if (agent->self.kvm_known) {
        msg.cpu.len = (uint32_t)kvm_can_print(agent->self.kvm_can, text, sizeof text);
        ha_agent_send(agent, &msg, NULL);
    }
}

void ha_sync_kvm(struct ha_agent *agent, const struct ha_msg *msg)
{
    char text[KVM_CAN_TEXT_MAX];

    memcpy(text, msg->cpu.text, msg->cpu.len);
    text[msg->cpu.len] = '\0';
    ha_cpus_put_kvm(&agent->cpus, msg->from.nodeid, kvm_can_parse(text));
}

void ha_sync_summary_send(struct ha_agent *agent)
{
    struct ha_msg msg = {.type = HA_MSG_SUMMARY};

    ha_text_set(msg.summary.name, sizeof msg.summary.name, agent->self.name, NULL);
    msg.summary.proto_version = PROTO_CPG_VERSION;
    msg.summary.features = FEATURE_NONE;
    msg.summary.generation = agent->state.cluster.generation;
    msg.summary.alone = agent->alone_allowed;
    msg.summary.coordinator = agent->state.coordinator;
    msg.summary.memory_bytes = agent->self.memory_bytes;
    msg.summary.vm_count = agent->local_vm_count;
    ha_agent_send(agent, &msg, agent->local_vm);
    send_cpu(agent);
    send_kvm(agent);
}

void ha_sync_cpu(struct ha_agent *agent, const struct ha_msg *msg)
{
    char text[CPU_MODEL_TEXT_MAX];
    struct cpu_model_error why;
    struct cpu_model model;

    memcpy(text, msg->cpu.text, msg->cpu.len);
    text[msg->cpu.len] = '\0';
    if (cpu_model_parse(text, &model, &why)) {
        ha_cpus_put(&agent->cpus, msg->from.nodeid, &model);
    } else {
        ha_cpus_drop(&agent->cpus, msg->from.nodeid);
        ha_agent_trace(agent, "CPU model of a node is not understood: ", why.text, "");
    }
}

/* Nobody will answer these: the coordinator that heard them, if it did, belonged to the
 * last view; and what it answered with is void where its update was dropped with that
 * view (the next term's items get the same versions). `all`: the state that held them has
 * been replaced. */
static void ops_give_up(struct ha_agent *agent, bool all)
{
    for (unsigned i = 0; i < ARRAY_SIZE(agent->waiting_op); i++) {
        struct ha_op_result result = agent->waiting_op[i].result;

        if (uuid_is_none(result.uid) ||
            (!all && result.version <= agent->state.version)) {
            continue;
        }
        memset(&agent->waiting_op[i], 0, sizeof agent->waiting_op[i]);
        result.exit_code = 1;
        ha_text_set(result.text, sizeof result.text,
                    "the membership changed before the coordinator answered; look "
                    "whether it happened (gemel "
                    "status), and try again",
                    NULL);
        agent->ops->op_done(agent->ctx, &result);
    }
}

void ha_sync_begin(struct ha_agent *agent, uint64_t now_ns)
{
    members_clear(agent);
    memset(&agent->sync, 0, sizeof agent->sync);
    agent->sync_proposed_ns = 0;
    agent->deferred_count = 0; /* the summary says what is */
    ha_agent_held_clear(agent);
    ops_give_up(agent, false);
    if (agent->receiving) {
        ha_state_clear(&agent->incoming);
        agent->receiving = false;
    }
    agent->phase_since_ns = now_ns;
    if (!agent->view.agreed || !ha_view_has(&agent->view, agent->self.nodeid)) {
        agent->phase = HA_PHASE_ALONE;
        wait_for(agent, "Corosync has not settled on a membership");
        return;
    }
    agent->phase = HA_PHASE_EXCHANGING;
    agent->summary_sent_ns = now_ns;
    wait_for(agent, agent->view.quorate ? "state exchange" : "no quorum");
    ha_sync_summary_send(agent);
}

void ha_sync_summary(struct ha_agent *agent, const struct ha_msg *msg, uint64_t now_ns)
{
    const struct ha_summary *s = &msg->summary;
    struct ha_member *m = ha_agent_member(agent, msg->from.nodeid);
    struct ha_local_vm *vms = NULL;

    if (s->proto_version < PROTO_CPG_VERSION_MIN) {
        ha_agent_trace(agent, "summary of a version too old, ignored: ", s->name, "");
        return;
    }
    if (s->vm_count != 0) {
        vms = agent->state.mem->alloc(s->vm_count * sizeof *vms);
        if (vms == NULL) {
            return; /* left out of this term: it will ask again in the next view */
        }
        for (uint32_t i = 0; i < s->vm_count; i++) {
            vms[i] = ha_summary_vm(s, i);
        }
    }
    for (unsigned i = 0; m == NULL && i < ARRAY_SIZE(agent->member); i++) {
        m = agent->member[i].present ? NULL : &agent->member[i];
    }
    if (m == NULL) {
        agent->state.mem->free(vms);
        return;
    }
    agent->state.mem->free(m->vm);
    *m = (struct ha_member){
        .present = true,
        .nodeid = msg->from.nodeid,
        .incarnation = msg->from.incarnation,
        .term = msg->from.term,
        .version = msg->from.version,
        .generation = s->generation,
        .alone = s->alone,
        .coordinator = s->coordinator,
        .memory_bytes = s->memory_bytes,
        .vm_count = s->vm_count,
        .vm = vms,
    };
    agent->sync_proposed_ns = 0;
    ha_sync_consider(agent, now_ns);
}

static bool has_state(const struct ha_member *m)
{
    return m->present && !uuid_is_none(m->generation);
}

static bool newer(const struct ha_member *a, const struct ha_member *b)
{
    return a->term > b->term || (a->term == b->term && a->version > b->version);
}

/* The member whose state holds, or NULL and waiting says why. */
static const struct ha_member *choose_source(struct ha_agent *agent)
{
    const struct ha_member *best = NULL;
    unsigned with_state = 0;
    bool alone = false;

    for (unsigned i = 0; i < ARRAY_SIZE(agent->member); i++) {
        const struct ha_member *m = &agent->member[i];

        if (!has_state(m)) {
            continue;
        }
        if (best != NULL && !uuid_equal(best->generation, m->generation)) {
            wait_for(
                agent,
                "two nodes carry the state of different clusters: remove one, or clear "
                "its state directory");
            return NULL;
        }
        with_state++;
        alone = alone || m->alone;
        if (best == NULL || newer(m, best) ||
            (!newer(best, m) && m->nodeid < best->nodeid)) {
            best = m;
        }
    }
    if (best == NULL) {
        wait_for(agent, "no node has a cluster definition: gemel cluster apply -f FILE");
        return NULL;
    }
    if (with_state < agent->view.votes_needed && !alone) {
        wait_for(
            agent,
            "too few nodes still have the cluster's state: start the others, or accept "
            "what is here with gemel cluster recover");
        return NULL;
    }
    return best;
}

static bool is_lowest_speaker(const struct ha_agent *agent)
{
    for (unsigned i = 0; i < ARRAY_SIZE(agent->member); i++) {
        if (agent->member[i].present && agent->member[i].nodeid < agent->self.nodeid) {
            return false;
        }
    }
    return true;
}

static bool everybody_spoke(const struct ha_agent *agent)
{
    unsigned spoke = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(agent->member); i++) {
        spoke += agent->member[i].present;
    }
    return spoke == agent->view.member_count;
}

static bool all_take_part(const struct ha_agent *agent)
{
    for (unsigned i = 0; i < ARRAY_SIZE(agent->member); i++) {
        if (agent->member[i].present &&
            !ha_agent_is_participant(agent, agent->member[i].nodeid)) {
            return false;
        }
    }
    return true;
}

static void propose(struct ha_agent *agent, const struct ha_member *source)
{
    struct ha_msg msg = {.type = HA_MSG_SYNC};
    struct ha_sync *s = &msg.sync;
    uint32_t lowest = UINT32_MAX;

    s->source = source->nodeid;
    for (unsigned i = 0; i < ARRAY_SIZE(agent->member); i++) {
        const struct ha_member *m = &agent->member[i];

        if (!m->present) {
            continue;
        }
        s->participant[s->participant_count++] =
            (struct ha_participant){m->nodeid, m->incarnation};
        s->term = m->term > s->term ? m->term : s->term;
        s->transfer = s->transfer || m->term != source->term ||
                      m->version != source->version || uuid_is_none(m->generation);
        if (has_state(m) && m->nodeid < lowest) {
            lowest = m->nodeid;
        }
        if (has_state(m) && m->nodeid == source->coordinator) {
            s->coordinator = m->nodeid; /* the incumbent stays */
        }
    }
    s->term++;
    /* A cut-off proposer may have delivered its term to itself only, and the others begin
     * one without having heard of it. Their ring is younger: so theirs is the higher. */
    if (s->term < agent->view.ring.seq << TERMS_PER_RING_BITS) {
        s->term = agent->view.ring.seq << TERMS_PER_RING_BITS;
    }
    if (agent->sync.term >= s->term) {
        s->term = agent->sync.term + 1;
    }
    if (s->coordinator == 0) {
        s->coordinator = lowest;
    }
    ha_agent_send(agent, &msg, NULL);
}

/* Called after each summary and by the tick: is it on me to propose, and are we ready? */
void ha_sync_consider(struct ha_agent *agent, uint64_t now_ns)
{
    const struct ha_member *source;

    if (agent->phase == HA_PHASE_ALONE || !agent->view.quorate ||
        (agent->phase == HA_PHASE_SYNCED && all_take_part(agent)) ||
        agent->phase == HA_PHASE_TRANSFER) {
        return;
    }
    if (!everybody_spoke(agent) &&
        now_ns < agent->phase_since_ns + agent->times.summary_ns) {
        return;
    }
    source = choose_source(agent);
    if (source == NULL || !is_lowest_speaker(agent)) {
        return;
    }
    if (agent->sync_proposed_ns != 0 &&
        now_ns < agent->sync_proposed_ns + agent->times.summary_ns) {
        return; /* under way */
    }
    agent->sync_proposed_ns = now_ns;
    propose(agent, source);
}

/* Requests that this node was to execute when the last view ended, or its agent: asked
 * again, under the same uid. */
static void fences_resume(struct ha_agent *agent)
{
    for (unsigned i = 0; i < agent->state.node_count; i++) {
        const struct ha_node *node = &agent->state.node[i];

        if (node->fence_executor == agent->self.nodeid &&
            node->fence == HA_FENCE_PENDING) {
            agent->fence_wait = true;
            agent->fence_wait_version = agent->state.version;
        } else if (node->fence_executor == agent->self.nodeid &&
                   node->fence == HA_FENCE_CANCELLING) {
            agent->ops->fence_cancel(agent->ctx, node);
        }
    }
}

static void synced(struct ha_agent *agent, uint64_t now_ns)
{
    struct bytes_wr wr = bytes_wr_make(agent->scratch, sizeof agent->scratch);

    bytes_wr_u64(&wr, agent->sync.term);
    bytes_wr_u32(&wr, agent->sync.coordinator);
    /* The same item on every participant, so that positions stay equal. */
    ha_state_apply(&agent->state, HA_ITEM_TERM, wr.buf, wr.pos, agent->state.version + 1,
                   now_ns);
    agent->ops->persist(agent->ctx, HA_ITEM_TERM, wr.buf, wr.pos, agent->state.version);
    agent->sent_version = agent->state.version;
    agent->phase = HA_PHASE_SYNCED;
    agent->phase_since_ns = now_ns;
    agent->alone_allowed = false;
    agent->waiting[0] = '\0';
    for (unsigned i = 0; i < agent->deferred_count; i++) {
        struct ha_msg msg = {.type = HA_MSG_VM_REPORT, .vm_report = agent->deferred[i]};

        ha_agent_send(agent, &msg, NULL);
    }
    agent->deferred_count = 0;
    fences_resume(agent);
    ha_agent_discard_superseded(agent);
    if (ha_agent_is_coordinator(agent)) {
        ha_coord_synced(agent, now_ns);
    }
}

static void send_snapshot(struct ha_agent *agent)
{
    struct ha_msg msg = {.type = HA_MSG_SNAP_ITEM};
    unsigned cursor = 0;
    size_t len;

    while (ha_state_next_item(&agent->state, &cursor, &msg.item.kind, agent->scratch,
                              sizeof agent->scratch, &len)) {
        msg.item.version = agent->state.version;
        msg.item.body = agent->scratch;
        msg.item.body_len = (uint32_t)len;
        ha_agent_send(agent, &msg, NULL);
    }
    msg = (struct ha_msg){.type = HA_MSG_SNAP_END, .number = cursor - 1};
    ha_agent_send(agent, &msg, NULL);
}

void ha_sync_proposed(struct ha_agent *agent, const struct ha_msg *msg, uint64_t now_ns)
{
    const struct ha_sync *s = &msg->sync;
    const struct ha_member *me = ha_agent_member(agent, agent->self.nodeid);
    const struct ha_member *source = ha_agent_member(agent, s->source);

    if (s->term <= agent->sync.term || s->term <= agent->state.term || me == NULL ||
        source == NULL || !agent->view.quorate) {
        ha_agent_trace(agent, "sync dropped: an older term, or unknown members", "", "");
        return;
    }
    if (agent->receiving) {
        ha_state_clear(&agent->incoming);
        agent->receiving = false;
    }
    agent->sync = *s;
    agent->snap_count = 0;
    if (!ha_agent_is_participant(agent, agent->self.nodeid)) {
        agent->phase = HA_PHASE_EXCHANGING;
        wait_for(agent, "this node spoke too late: it joins in the next term");
        ha_sync_summary_send(agent);
        return;
    }
    if (!s->transfer) {
        synced(agent, now_ns);
        return;
    }
    agent->phase = HA_PHASE_TRANSFER;
    agent->phase_since_ns = now_ns;
    wait_for(agent, "state transfer");
    if (s->source == agent->self.nodeid) {
        send_snapshot(agent);
    } else if (agent->state.term != source->term ||
               agent->state.version != source->version ||
               !ha_state_set_up(&agent->state)) {
        ha_state_init(&agent->incoming, agent->state.mem);
        agent->receiving = true;
    }
}

void ha_sync_snap_item(struct ha_agent *agent, const struct ha_msg *msg, uint64_t now_ns)
{
    const struct ha_item_msg *item = &msg->item;

    if (agent->phase != HA_PHASE_TRANSFER || msg->from.nodeid != agent->sync.source) {
        return;
    }
    agent->snap_count++;
    if (agent->receiving && ha_state_apply(&agent->incoming, item->kind, item->body,
                                           item->body_len, item->version, now_ns) < 0) {
        ha_agent_trace(agent, "state transfer: an item was refused", "", "");
        agent->snap_count =
            UINT32_MAX / 2; /* never matches the end: this node stays out of the term */
    }
}

void ha_sync_snap_end(struct ha_agent *agent, const struct ha_msg *msg, uint64_t now_ns)
{
    if (agent->phase != HA_PHASE_TRANSFER || msg->from.nodeid != agent->sync.source) {
        return;
    }
    if (agent->snap_count != msg->number) {
        ha_agent_trace(agent,
                       "state transfer: items are missing; waiting for the next term", "",
                       "");
        if (agent->receiving) {
            ha_state_clear(&agent->incoming);
            agent->receiving = false;
        }
        agent->phase = HA_PHASE_EXCHANGING;
        return;
    }
    if (agent->receiving) {
        ha_state_clear(&agent->state);
        agent->state = agent->incoming;
        /* The table points into its own state: set it right after the copy. */
        agent->state.proofs.proofs = agent->state.proof_slots;
        agent->state.proofs.stopped = agent->state.stopped_slots;
        agent->receiving = false;
        ops_give_up(agent, true);
        agent->ops->persist_all(agent->ctx);
    }
    synced(agent, now_ns);
}
