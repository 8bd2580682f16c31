/* SPDX-License-Identifier: Apache-2.0 */
/* What operators ask of this node: sent to the coordinator, and answered when a majority
 * has it on disk. */
#include <string.h>

#include "base/uuid.h"
#include "ha/ha_agent.h"
#include "ha/ha_text.h"

/* The result that is waited for under this id; without one, a free place for another. */
static struct ha_op_result *wait_for(struct ha_agent *agent, struct uuid uid)
{
    for (unsigned i = 0; i < ARRAY_SIZE(agent->waiting_op); i++) {
        if (uuid_equal(agent->waiting_op[i].result.uid, uid)) {
            return &agent->waiting_op[i].result;
        }
    }
    return NULL;
}

static void answer(struct ha_agent *agent, struct ha_op_result *result)
{
    agent->ops->op_done(agent->ctx, result);
    memset(result, 0, sizeof *result);
}

void ha_order_persisted(struct ha_agent *agent)
{
    for (unsigned i = 0; i < ARRAY_SIZE(agent->waiting_op); i++) {
        struct ha_op_result *r = &agent->waiting_op[i].result;

        if (!uuid_is_none(r->uid) && ha_agent_is_persisted(agent, r->version)) {
            answer(agent, r);
        }
    }
}

void ha_order_result(struct ha_agent *agent, const struct ha_op_result *result)
{
    struct ha_op_result *r =
        uuid_is_none(result->uid) ? NULL : wait_for(agent, result->uid);

    if (r == NULL) {
        return;
    }
    *r = *result;
    if (result->version == 0) {
        answer(agent, r);
    } else {
        ha_agent_check_persisted(agent);
    }
}

/* A state of its own accord: this node's word that there is none to wait for. */
static void begin_alone(struct ha_agent *agent, uint64_t now_ns)
{
    agent->alone_allowed = true;
    agent->phase_since_ns = now_ns;
    ha_sync_summary_send(agent);
}

/* The first `cluster apply`: all nodes of the definition are here and none has a state.
 */
static bool set_up_first(struct ha_agent *agent, const struct ha_op *op,
                         struct ha_op_result *result, uint64_t now_ns)
{
    struct ha_cluster first = {.definition = (char *)op->body,
                               .definition_len = op->body_len};
    struct conf_cluster *conf = agent->state.mem->alloc(sizeof *conf);
    bool done = false;
    size_t len;

    if (conf == NULL ||
        !agent->ops->check_cluster(agent->ctx, op->body, op->body_len, conf, result->text,
                                   sizeof result->text)) {
        result->exit_code = 1;
        goto out;
    }
    for (unsigned i = 0; i < conf->node_count; i++) {
        const struct ha_member *m = ha_agent_member(agent, conf->node[i].nodeid);

        if (m == NULL || !uuid_is_none(m->generation)) {
            ha_text_set(
                result->text, sizeof result->text, "cluster apply: ", conf->node[i].name,
                m == NULL ? " is not in the view; the first definition needs every node"
                          : " already has a cluster's state; wait for it, or clear it",
                NULL);
            result->exit_code = 4;
            goto out;
        }
    }
    first.generation = agent->ops->new_uuid(agent->ctx);
    len = ha_item_put_cluster(&first, agent->scratch, sizeof agent->scratch);
    if (ha_state_apply(&agent->state, HA_ITEM_CLUSTER, agent->scratch, len, 1, now_ns) <
        0) {
        ha_text_set(result->text, sizeof result->text, "cluster apply: out of memory",
                    NULL);
        result->exit_code = 1;
        goto out;
    }
    agent->ops->persist_all(agent->ctx);
    ha_agent_times_refresh(agent);
    ha_text_set(result->text, sizeof result->text, "cluster ", conf->name, ": set up",
                NULL);
    result->exit_code = 0;
    result->version = 1;
    done = true;
out:
    agent->state.mem->free(conf);
    return done;
}

/* What only this node can do, because there is no coordinator yet. */
static bool op_without_coordinator(struct ha_agent *agent, const struct ha_op *op,
                                   struct ha_op_result *result, uint64_t now_ns)
{
    struct ha_op_result *waits;

    if (agent->phase != HA_PHASE_EXCHANGING || !agent->view.quorate) {
        return false;
    }
    if (strcmp(op->verb, "cluster apply") == 0 && !ha_state_set_up(&agent->state)) {
        if (!set_up_first(agent, op, result, now_ns)) {
            agent->ops->op_done(agent->ctx, result);
            return true;
        }
        begin_alone(agent, now_ns);
        waits = wait_for(agent, (struct uuid){{0}});
        if (waits != NULL) {
            *waits = *result; /* answered when a majority has it */
        }
        return true;
    }
    if (strcmp(op->verb, "cluster recover") == 0 && ha_state_set_up(&agent->state)) {
        result->exit_code = 0;
        ha_text_set(result->text, sizeof result->text, "cluster recover: the state of ",
                    agent->self.name, " holds from now on", NULL);
        agent->ops->op_done(agent->ctx, result);
        begin_alone(agent, now_ns);
        return true;
    }
    return false;
}

void ha_agent_op(struct ha_agent *agent, const struct ha_op *op, uint64_t now_ns)
{
    struct ha_op_result result = {.uid = op->uid, .exit_code = 6};
    struct ha_msg msg = {.type = HA_MSG_OP, .op = *op};
    struct ha_op_result *waits;

    if (op_without_coordinator(agent, op, &result, now_ns)) {
        return;
    }
    if (agent->phase != HA_PHASE_SYNCED || !agent->view.quorate) {
        ha_text_set(result.text, sizeof result.text, op->verb, ": not now: ",
                    agent->waiting[0] != '\0' ? agent->waiting : "no quorum", NULL);
        agent->ops->op_done(agent->ctx, &result);
        return;
    }
    waits = wait_for(agent, (struct uuid){{0}});
    if (waits != NULL) {
        *waits = result;
        waits->version = UINT64_MAX; /* not answered by the coordinator yet */
        ha_agent_send(agent, &msg, NULL);
        return;
    }
    result.exit_code = 1;
    ha_text_set(result.text, sizeof result.text, op->verb,
                ": too many changes under way at this node; try again", NULL);
    agent->ops->op_done(agent->ctx, &result);
}
