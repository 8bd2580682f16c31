/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_twin.h"

#include <string.h>

#include "base/uuid.h"
#include "ha/ha_text.h"
#include "ha/ha_twinplace.h"

#define RETRY_FIRST_NS  (2 * NSEC_PER_SEC)
#define RETRY_DOUBLINGS 7u
#define ALONE           "goes on without its twin: "
#define ROW_MS          UINT64_C(3600000) /* of struct ha_diverged's row */

static const struct uuid no_op = {{0}};

static const char *node_name(const struct ha_agent *agent, uint32_t nodeid)
{
    const struct ha_node *node = ha_state_node(&agent->state, nodeid);

    return node != NULL ? node->name : "a node that is not in the cluster definition";
}

static void emit(struct ha_agent *agent, const struct ha_vm *vm, const char *what)
{
    char event[REASON_LEN_MAX + 1] = "";

    if (what[0] != '\0') {
        ha_text_set(event, sizeof event, vm->name, ": ", what, NULL);
    }
    ha_coord_emit_vm(agent, vm, no_op, event);
}

void ha_twin_copies(struct ha_vm *vm, const uint32_t nodes[static CLAIM_MIRRORS_MAX])
{
    if (vm->conf != NULL && conf_vm_has_mirrors(vm->conf)) {
        memcpy(vm->mirror, nodes, sizeof vm->mirror);
    }
}

void ha_twin_mirrors(struct ha_vm *vm, uint32_t first, uint32_t second)
{
    ha_twin_copies(vm, (uint32_t[CLAIM_MIRRORS_MAX]){first, second});
}

/* In records
 * ------------------------------------------------------------------------------- */

void ha_twin_begin(struct ha_agent *agent, struct ha_vm *vm, const struct ha_node *node,
                   uint8_t commit)
{
    memset(&vm->twin, 0, sizeof vm->twin);
    vm->twin.to = node->nodeid;
    vm->twin.to_incarnation = node->incarnation;
    vm->twin.id = agent->ops->new_uuid(agent->ctx);
    vm->twin.commit = commit;
    vm->twin_at_once = false;
    vm->last[0] = '\0';
}

void ha_twin_over(struct ha_vm *vm, bool failed, const char *how)
{
    char text[REASON_LEN_MAX + 1];

    ha_text_set(text, sizeof text, how, NULL); /* may be vm's own */
    if (failed && vm->twin.step != HA_TWIN_ON) {
        vm->twin_tries++;
        vm->twin_avoid = vm->twin.to;
    } else {
        vm->twin_tries = vm->twin_avoid = 0;
    }
    memset(&vm->twin, 0, sizeof vm->twin);
    vm->last_failed = failed;
    ha_text_set(vm->last, sizeof vm->last, text, NULL);
}

static bool stays_down(const struct ha_vm *vm)
{
    return vm->diverged.down && vm->conf->ft_mode != CONF_FT_LOCKSTEP;
}

uint8_t ha_twin_rule(const struct ha_vm *vm)
{
    return (uint8_t)(vm->conf->ft_mode == CONF_FT_CHECKPOINT ||
                             vm->conf->machine != CONF_MACHINE_LOCKSTEP || stays_down(vm)
                         ? CONF_FT_EPOCHS
                         : vm->conf->ft_commit);
}

void ha_twin_rule_why(const struct ha_vm *vm, char why[static REASON_LEN_MAX + 1])
{
    const struct conf_vm *conf = vm->conf;
    bool lockstep = ha_twin_rule(vm) != CONF_FT_EPOCHS;

    ha_text_set(why, REASON_LEN_MAX + 1,
                lockstep ? "in lockstep, because " : "in checkpoint mode, because ",
                conf->ft_mode == CONF_FT_CHECKPOINT ? "ft.mode of its definition says so"
                : conf->machine != CONF_MACHINE_LOCKSTEP
                    ? "machine: standard cannot be followed in lockstep"
                : stays_down(vm) ? "its twin went another way too often"
                : conf->ft_mode == CONF_FT_LOCKSTEP ? "ft.mode of its definition says so"
                                                    : "its machine can",
                NULL);
}

void ha_twin_step_up(struct ha_vm *vm)
{
    vm->diverged.down = false;
    vm->diverged.row = 0;
}

/* Choosing
 * --------------------------------------------------------------------------------- */

const char *ha_twin_cannot(const struct ha_vm *vm)
{
    const char *why;

    if (vm->conf == NULL) {
        return "its definition cannot be read by this version: apply it again";
    }
    if (conf_vm_untwinnable(vm->conf, &why) >= 0) {
        return "a disk of it is qcow2, which a twin cannot take over; convert it to raw "
               "(qemu-img convert), or serve it by NBD";
    }
    if (ha_vm_holds(vm)) {
        return "its writes are still held until its old host is known to write no more; "
               "it can have a twin then: gemel explain says what is waited for";
    }
    return NULL;
}

bool ha_twin_wanted(const struct ha_vm *vm)
{
    return vm->twin.to == 0 && !vm->twin_off && vm->conf != NULL &&
           vm->conf->ft_mode > CONF_FT_OFF && ha_twin_cannot(vm) == NULL &&
           vm->state == HA_VM_RUNNING && vm->desired == HA_DESIRED_RUNNING &&
           vm->task == HA_TASK_NONE && vm->move.to == 0 && vm->memory_from == 0;
}

/* In lockstep again, whatever came of that: its definition says so. */
static unsigned tries(const struct ha_vm *vm)
{
    bool again = vm->conf != NULL && vm->conf->ft_mode == CONF_FT_LOCKSTEP;
    unsigned n =
        again && vm->diverged.row > vm->twin_tries ? vm->diverged.row : vm->twin_tries;

    return n < RETRY_DOUBLINGS ? n : RETRY_DOUBLINGS;
}

uint64_t ha_twin_due_ns(const struct ha_vm *vm, const struct ha_times *times)
{
    unsigned n = tries(vm);

    if (vm->twin_at_once && vm->twin_tries == 0) {
        return vm->twin_changed_ns;
    }
    /* A twin goes live before the ring has noticed that a node is lost. What the two
     * sides say to each other then waits for the next one, while the guest stands. */
    return vm->twin_changed_ns +
           (n == 0 ? times->ring_ns + NSEC_PER_SEC : RETRY_FIRST_NS << (n - 1));
}

/* The twin
 * ------------------------------------------------------------------------------------ */

/* It runs, and has just lost its twin by becoming it. */
static void say_bare(const struct ha_vm *vm, char how[static REASON_LEN_MAX + 1])
{
    const size_t cap = REASON_LEN_MAX + 1;

    ha_text_add(how, cap, "; without a twin ");
    if (ha_twin_wanted(vm)) {
        ha_text_add(how, cap,
                    "for some seconds, until the next one follows: till then it is "
                    "restarted if its node dies");
    } else if (ha_vm_holds(vm)) {
        ha_text_add(how, cap, "at least until its writes are held no more");
    } else {
        ha_text_add(how, cap, "from now on: gemel vm protect ");
        ha_text_add(how, cap, vm->name);
    }
}

void ha_twin_went_live(struct ha_agent *agent, struct ha_vm *vm, struct uuid instance,
                       uint64_t epoch, const char *text)
{
    char how[REASON_LEN_MAX + 1];

    ha_text_set(how, sizeof how, "its twin on ", node_name(agent, vm->twin.to),
                vm->twin.switchover ? " has taken over from " : " went live without ",
                node_name(agent, vm->owner), text[0] != '\0' ? ": " : "", text, NULL);
    memset(&vm->held, 0, sizeof vm->held);
    /* Until its owner's VMM has said what it holds (HOLDS, EXCLUDED). */
    if (vm->conf != NULL && conf_vm_unguarded_disks(ha_vm_runs_as(vm)) != 0) {
        vm->held = (struct ha_held){.node = vm->owner,
                                    .incarnation = vm->owner_incarnation,
                                    .instance = instance};
    }
    vm->owner = vm->twin.to;
    vm->owner_incarnation = vm->twin.to_incarnation;
    vm->instance = instance;
    vm->epoch = epoch;
    vm->attempt = vm->twin.id;
    vm->state = HA_VM_RUNNING;
    vm->failures = vm->restarts = 0;
    vm->avoid = 0;
    ha_twin_mirrors(vm, vm->owner, 0);
    vm->diverged.row = 0;
    ha_twin_over(vm, false, how);
    say_bare(vm, how);
    ha_text_set(vm->reason, sizeof vm->reason, how, NULL);
    ha_text_set(vm->last, sizeof vm->last, how, NULL);
    emit(agent, vm, how);
}

uint64_t ha_twin_lives_here(const struct ha_agent *agent, const struct ha_vm *vm)
{
    for (unsigned i = 0; i < agent->local_vm_count; i++) {
        const struct ha_local_vm *l = &agent->local_vm[i];

        if (uuid_equal(l->vm, vm->uuid) && l->state == HA_LOCAL_RUNNING &&
            vm->twin.to == agent->self.nodeid && l->epoch > vm->epoch) {
            return l->epoch;
        }
    }
    return 0;
}

/* Both sides are gone. On a node that is there its agent may start it again; else its
 * death must be proven: policy. */
static void none_left(struct ha_agent *agent, struct ha_vm *vm, const char *how)
{
    if (ha_agent_is_participant(agent, vm->owner)) {
        vm->state = HA_VM_FAILED;
        vm->failures++;
    }
    ha_text_set(vm->reason, sizeof vm->reason, how, NULL);
    ha_twin_over(vm, true, how);
    emit(agent, vm, how);
}

static void twin_gone(struct ha_agent *agent, struct ha_vm *vm, const char *why)
{
    char how[REASON_LEN_MAX + 1];

    if (vm->state == HA_VM_STOPPING) {
        ha_twin_over(vm, false, vm->last); /* as it should */
        emit(agent, vm, "");
        return;
    }
    ha_text_set(how, sizeof how,
                vm->twin.step == HA_TWIN_ON ? "its twin is lost: " : "not protected: ",
                node_name(agent, vm->twin.to), ": ", why, NULL);
    if (vm->state == HA_VM_UNKNOWN) {
        none_left(agent, vm, how);
        return;
    }
    ha_text_set(vm->reason, sizeof vm->reason, how, NULL);
    ha_twin_over(vm, true, how);
    emit(agent, vm, how);
}

static void report_of_twin(struct ha_agent *agent, struct ha_vm *vm,
                           const struct ha_vm_report *report)
{
    switch (report->outcome) {
    case HA_OUTCOME_TWIN_OFFER:
        vm->twin.dest = report->offer;
        vm->twin.instance = report->instance;
        emit(agent, vm, "");
        break;
    case HA_OUTCOME_TWIN_FOLLOWS: /* its primary does not wait for this to be told */
        if (vm->twin.step < HA_TWIN_FOLLOWS) {
            vm->twin.step = HA_TWIN_FOLLOWS;
            emit(agent, vm, "");
        }
        break;
    case HA_OUTCOME_RUNNING:
        if (report->epoch > vm->epoch) {
            ha_twin_went_live(agent, vm, report->instance, report->epoch, report->text);
        }
        break;
    case HA_OUTCOME_TWIN_OFF:
    case HA_OUTCOME_START_FAILED:
    case HA_OUTCOME_ENDED:
    case HA_OUTCOME_STOPPED:
        twin_gone(agent, vm, report->text);
        break;
    case HA_OUTCOME_INVALID:
    case HA_OUTCOME_FROZEN:
    case HA_OUTCOME_SUSPENDED:
    case HA_OUTCOME_NOT_RESUMED:
    case HA_OUTCOME_SNAPSHOT:
    case HA_OUTCOME_REVERTED:
    case HA_OUTCOME_MOVE_OFFER:
    case HA_OUTCOME_MOVE_FAILED:
    case HA_OUTCOME_MOVED:
    case HA_OUTCOME_TWIN_COPIED:
    case HA_OUTCOME_TWIN_ON:
    case HA_OUTCOME_EXCLUDED:
    case HA_OUTCOME_HOLDS:
    case HA_OUTCOME_COUNT:
    default:
        break;
    }
}

/* The owner
 * ----------------------------------------------------------------------------------- */

static void is_on(struct ha_agent *agent, struct ha_vm *vm,
                  const struct ha_vm_report *report)
{
    char how[REASON_LEN_MAX + 1], apart[REASON_LEN_MAX + 1];

    ha_twin_apart_text(&agent->state, vm, apart);
    ha_text_set(how, sizeof how,
                vm->twin.commit == CONF_FT_EPOCHS
                    ? "protected by checkpoints: its twin is on "
                    : "protected in lockstep: its twin is on ",
                node_name(agent, vm->twin.to), apart[0] != '\0' ? ", " : "", apart,
                report->text[0] != '\0' ? ", " : "", report->text, NULL);
    vm->twin.step = HA_TWIN_ON;
    vm->twin.epoch = vm->epoch = report->epoch;
    vm->twin_tries = vm->twin_avoid = 0;
    vm->last_failed = false;
    ha_twin_mirrors(vm, vm->owner, vm->twin.to);
    ha_text_set(vm->last, sizeof vm->last, how, NULL);
    ha_text_set(vm->reason, sizeof vm->reason, how, NULL);
    emit(agent, vm, how);
}

/* Lockstep came to nothing: the next twin is given checkpoints, unless its definition
 * asks for lockstep. `how` begins what is told. */
static void note_diverged(struct ha_vm *vm, const struct ha_vm_report *report,
                          char how[static REASON_LEN_MAX + 1])
{
    struct ha_diverged *d = &vm->diverged;
    bool insists = vm->conf != NULL && vm->conf->ft_mode == CONF_FT_LOCKSTEP;

    d->row = report->diverged_ms - d->at_ms < ROW_MS ? d->row + 1 : 1;
    d->count++;
    d->at_ms = report->diverged_ms;
    d->down = !insists;
    vm->twin_at_once = !insists;
    ha_text_set(d->why, sizeof d->why, report->text, NULL);
    ha_text_set(how, REASON_LEN_MAX + 1,
                insists ? "goes on without its twin, to be tried again (ft.mode is "
                          "lockstep): "
                        : "steps down from lockstep to checkpoint mode: ",
                report->text, NULL);
}

static void goes_alone(struct ha_agent *agent, struct ha_vm *vm,
                       const struct ha_vm_report *report)
{
    bool wanted = vm->twin.ending;
    char how[REASON_LEN_MAX + 1];

    ha_text_set(how, sizeof how,
                wanted                        ? "not protected any more: "
                : vm->twin.step == HA_TWIN_ON ? ALONE
                                              : "not protected: ",
                report->text, NULL);
    if (report->diverged_ms != 0 && !wanted) {
        note_diverged(vm, report, how);
    } else {
        vm->diverged.row = 0;
    }
    vm->epoch = report->epoch > vm->epoch ? report->epoch : vm->epoch;
    ha_twin_mirrors(vm, vm->owner, 0);
    ha_text_set(vm->reason, sizeof vm->reason, how, NULL);
    ha_twin_over(vm, !wanted, how);
    emit(agent, vm, how);
}

/* Its twin said first that it is not wanted any more. */
static bool diverged_late(struct ha_agent *agent, struct ha_vm *vm,
                          const struct ha_vm_report *report)
{
    char how[REASON_LEN_MAX + 1];

    if (report->outcome != HA_OUTCOME_TWIN_OFF || report->diverged_ms == 0 ||
        report->diverged_ms == vm->diverged.at_ms) {
        return false;
    }
    note_diverged(vm, report, how);
    vm->epoch = report->epoch > vm->epoch ? report->epoch : vm->epoch;
    vm->twin_tries = vm->twin_avoid = 0;
    ha_text_set(vm->reason, sizeof vm->reason, how, NULL);
    emit(agent, vm, how);
    return true;
}

/* Its primary was quicker, and knows only that it does not hear its twin any more. */
static bool twin_died(struct ha_agent *agent, uint32_t from,
                      const struct ha_vm_report *report, struct ha_vm *vm)
{
    char how[REASON_LEN_MAX + 1];

    if (report->outcome != HA_OUTCOME_TWIN_OFF || from != vm->twin_was_on ||
        !uuid_equal(report->attempt, vm->twin_was) || vm->state != HA_VM_RUNNING ||
        strncmp(vm->last, ALONE, sizeof ALONE - 1) != 0) {
        return false;
    }
    ha_text_set(how, sizeof how, ALONE, node_name(agent, from), ": ", report->text, NULL);
    if (strcmp(vm->reason, vm->last) == 0) {
        ha_text_set(vm->reason, sizeof vm->reason, how, NULL);
    }
    ha_text_set(vm->last, sizeof vm->last, how, NULL);
    emit(agent, vm, how);
    return true;
}

/* Its process is gone, and its claim was left to the twin. */
static void waits_for_twin(struct ha_agent *agent, struct ha_vm *vm, const char *text)
{
    vm->state = HA_VM_UNKNOWN;
    vm->instance = (struct uuid){{0}};
    ha_text_set(vm->reason, sizeof vm->reason, text, "; its twin on ",
                node_name(agent, vm->twin.to), " takes over", NULL);
    emit(agent, vm, vm->reason);
}

static bool report_of_owner(struct ha_agent *agent, struct ha_vm *vm,
                            const struct ha_vm_report *report)
{
    bool of_this = uuid_equal(report->attempt, vm->twin.id);

    switch (report->outcome) {
    case HA_OUTCOME_TWIN_OFFER:
        if (of_this) {
            vm->twin.source = report->offer;
            memcpy(vm->twin.disk, report->disk, sizeof vm->twin.disk);
            emit(agent, vm, "");
        }
        return true;
    case HA_OUTCOME_TWIN_ON:
        if (of_this) {
            is_on(agent, vm, report);
        }
        return true;
    case HA_OUTCOME_TWIN_OFF:
        if (of_this) {
            goes_alone(agent, vm, report);
        }
        return true;
    case HA_OUTCOME_ENDED:
        if (ha_vm_protected(vm) && !report->guest_shutdown &&
            vm->desired == HA_DESIRED_RUNNING && vm->state == HA_VM_RUNNING &&
            uuid_equal(report->instance, vm->instance)) {
            waits_for_twin(agent, vm, report->text);
            return true;
        }
        return false;
    case HA_OUTCOME_RUNNING:
    case HA_OUTCOME_STOPPED:
    case HA_OUTCOME_START_FAILED:
    case HA_OUTCOME_INVALID:
    case HA_OUTCOME_FROZEN:
    case HA_OUTCOME_SUSPENDED:
    case HA_OUTCOME_NOT_RESUMED:
    case HA_OUTCOME_SNAPSHOT:
    case HA_OUTCOME_REVERTED:
    case HA_OUTCOME_MOVE_OFFER:
    case HA_OUTCOME_MOVE_FAILED:
    case HA_OUTCOME_MOVED:
    case HA_OUTCOME_TWIN_COPIED:
    case HA_OUTCOME_TWIN_FOLLOWS:
    case HA_OUTCOME_EXCLUDED:
    case HA_OUTCOME_HOLDS:
    case HA_OUTCOME_COUNT:
    default:
        return false;
    }
}

static void is_excluded(struct ha_agent *agent, uint32_t from,
                        const struct ha_vm_report *report, struct ha_vm *vm)
{
    /* While it is held somewhere, its owner's VMM says when it is no more. */
    bool old_host =
        from == vm->held.node && (!ha_vm_holds(vm) || vm->state == HA_VM_STARTING);
    char how[REASON_LEN_MAX + 1];

    if ((from == vm->owner || old_host) && vm->held.node != 0 &&
        uuid_equal(report->instance, vm->held.instance)) {
        ha_text_set(how, sizeof how, "its writes are held no more: ", report->text, NULL);
        memset(&vm->held, 0, sizeof vm->held);
        if (!ha_vm_rests(vm)) {
            ha_text_set(vm->reason, sizeof vm->reason, how, NULL);
        }
        emit(agent, vm, how);
    }
}

/* The record thought otherwise: nobody would fence, or acknowledge, what the guest waits
 * for. */
static void it_holds(struct ha_agent *agent, uint32_t from,
                     const struct ha_vm_report *report, struct ha_vm *vm)
{
    struct ha_held held = {.node = report->held.node_id,
                           .incarnation = report->held.inc,
                           .instance = report->instance};
    char how[REASON_LEN_MAX + 1];

    if (from != vm->owner || !uuid_equal(report->instance, vm->instance) ||
        ha_vm_rests(vm) || ha_state_node(&agent->state, held.node) == NULL ||
        (ha_vm_holds(vm) && held.node == vm->held.node &&
         incarnation_equal(&held.incarnation, &vm->held.incarnation))) {
        return;
    }
    vm->held = held;
    ha_text_set(how, sizeof how, "its writes are held: what it was on ",
                node_name(agent, held.node), " may still write", NULL);
    ha_text_set(vm->reason, sizeof vm->reason, how, NULL);
    emit(agent, vm, how);
}

/* True: it was about that. */
static bool report_of_held(struct ha_agent *agent, uint32_t from,
                           const struct ha_vm_report *report, struct ha_vm *vm)
{
    if (report->outcome == HA_OUTCOME_EXCLUDED) {
        is_excluded(agent, from, report, vm);
    } else if (report->outcome == HA_OUTCOME_HOLDS) {
        it_holds(agent, from, report, vm);
    } else {
        return false;
    }
    return true;
}

bool ha_twin_report(struct ha_agent *agent, uint32_t from,
                    const struct ha_vm_report *report, struct ha_vm *vm)
{
    if (report_of_held(agent, from, report, vm)) {
        return true;
    }
    if (vm->twin.to == 0) {
        return from == vm->owner ? diverged_late(agent, vm, report)
                                 : twin_died(agent, from, report, vm);
    }
    if (from == vm->twin.to && uuid_equal(report->attempt, vm->twin.id)) {
        report_of_twin(agent, vm, report);
        return true;
    }
    return from == vm->owner && report_of_owner(agent, vm, report);
}

/* A new term
 * ---------------------------------------------------------------------------------- */

/* Nobody of that life of the node has a process of it; one that is away may have. */
static bool is_empty(struct ha_agent *agent, uint32_t nodeid,
                     const struct incarnation *inc, const struct ha_vm *vm)
{
    const struct ha_member *m = ha_agent_member(agent, nodeid);

    return m != NULL && ha_agent_is_participant(agent, nodeid) &&
           (!incarnation_equal(&m->incarnation, inc) ||
            ha_member_vm(m, vm->uuid) == NULL);
}

bool ha_twin_review(struct ha_agent *agent, const struct ha_vm *record)
{
    struct ha_vm vm = *record;
    bool owner_here = ha_agent_is_participant(agent, vm.owner);
    bool twin_here = ha_agent_is_participant(agent, vm.twin.to);

    if (vm.twin.to == 0 || vm.state == HA_VM_STOPPING) {
        return false;
    }
    if (is_empty(agent, vm.twin.to, &vm.twin.to_incarnation, &vm)) {
        twin_gone(agent, &vm, "nothing of it is there any more");
        return true;
    }
    if (!ha_vm_protected(&vm) && (!owner_here || !twin_here)) {
        twin_gone(agent, &vm,
                  owner_here ? "left the view" : "the VM's own node left the view");
        return true;
    }
    if (ha_vm_protected(&vm) && vm.state == HA_VM_RUNNING &&
        is_empty(agent, vm.owner, &vm.owner_incarnation, &vm)) {
        waits_for_twin(agent, &vm, "its node says that it runs no more");
        return true;
    }
    return false;
}
