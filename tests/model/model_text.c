/* SPDX-License-Identifier: Apache-2.0 */
/* Names, and one readable line per step of a counterexample. */
#include <stdio.h>

#include "tests/model/model.h"

const char *model_clause_str(unsigned clause)
{
#define NAME(c) [c] = #c
    static const char *const names[MODEL_CLAUSE_COUNT] = {

        NAME(R1_DISPLACED_STAYS),
        NAME(R1_CONTENT_DECIDES),
        NAME(R2_BASIS),
        NAME(R2_RELEASE_NAMES),
        NAME(R2_HALT_THAT_EPOCH),
        NAME(R2_EXCLUDE),
        NAME(R2_SETTLE),
        NAME(R2_LIST_UNPROVEN),
        NAME(R2_INHERIT_PROVEN),
        NAME(R2_INHERIT),
        NAME(R3_THAT_INCARNATION),
        NAME(R3_CLEAN_STOP_LISTED),
        NAME(R3_RETURN_NEW_BOOT),
        NAME(R3_WDOG_PUBLISHED),
        NAME(R3_WDOG_WITHDRAWN),
        NAME(R3_WDOG_QUORUM),
        NAME(R3_WDOG_ELAPSED),
        NAME(R4_RELEASED_TO_ME),
        NAME(R4_FROZEN_FIRST),
        NAME(R4_DRAINED_FIRST),
        NAME(R4_MEMORY_FIRST),
        NAME(R4_SUBMITTED_IS_GONE),
        NAME(R5_TWIN_NAMED),
        NAME(R5_GO_LIVE_NAMES_NONE),
        NAME(R5_TWIN_SYNCED),
        NAME(R5_COMMIT_ON_FIRST),
        NAME(R5_OLDER_DRAINED),
        NAME(R5_MIRROR_OPEN),
        NAME(R5_MIRROR_IN_SYNC),
        NAME(R5_MIRROR_DROPPED),
        NAME(R6_QUORUM),
        NAME(R8_ACK_IS_FINAL),
        NAME(M_R1_CLAIM_FIRST),
        NAME(M_R1_NEVER_PRUNED),
        NAME(M_R1_LINK_ATOMIC),
        NAME(M_R2_ACK_DRAINED),
        NAME(M_R3_TIMEOUT_UNKNOWN),
        NAME(M_R5_OUTPUT_WAITS),
        NAME(M_R5_COMMIT_OFF_LATE),
        NAME(M_R5_UNKNOWN_COMMIT),
        NAME(M_R5_NO_ACK_SUBMITTED),
        NAME(M_R5_HOLD_WRITES),
    };
#undef NAME
    return names[clause];
}

const char *model_action_str(enum action act)
{
    static const char *const names[ACT_COUNT] = {
        [ACT_NONE] = "begin",
        [ACT_CRASH] = "node loses power",
        [ACT_REBOOT] = "node boots again",
        [ACT_CUT] = "node is cut off",
        [ACT_HEAL] = "the cut heals",
        [ACT_VIEW] = "node learns whether it has quorum",
        [ACT_PROVE] = "node proven off (fence or operator)",
        [ACT_FENCE_TIMEOUT] = "fence times out and is taken for an off",
        [ACT_SETTLE] = "storage.settle passes for a dead life",
        [ACT_TICK] = "time: one watchdog tick",
        [ACT_WDOG_PROOF] = "watchdog bound taken as a proof",
        [ACT_POLICY] = "node withdraws its watchdog proof and feeds always",
        [ACT_AGENT_STOP] = "agent stops cleanly",
        [ACT_REJOIN] = "agent joins again (same boot)",
        [ACT_STORAGE_FENCE] = "storage refuses its writes from now on",
        [ACT_SUBMIT] = "submits a claim",
        [ACT_LINK] = "link(2) is executed",
        [ACT_READ_BACK] = "reads its claim back",
        [ACT_ENTER] = "ENTERS THE GUEST",
        [ACT_LET_GO] = "held writes are let go",
        [ACT_DISCARD] = "is discarded",
        [ACT_FREEZE] = "is frozen",
        [ACT_ACK_FROZEN] = "agent acknowledges: frozen",
        [ACT_ACK_GONE] = "agent acknowledges: gone",
        [ACT_KILL] = "process dies",
        [ACT_MIGRATE] = "migration begins",
        [ACT_PAUSE_SOURCE] = "freezes, for the switch or the stop",
        [ACT_FINAL_COPY] = "destination has all memory",
        [ACT_RELEASE] = "submits its release",
        [ACT_RELEASE_LANDS] = "the release becomes visible",
        [ACT_STOP] = "stop is asked for",
        [ACT_PROTECT_BEGIN] = "a twin is started",
        [ACT_SYNC] = "the twin is synced",
        [ACT_COMMIT_ON] = "output commit goes on",
        [ACT_TWIN_DROPPED] = "the twin is given up, commit off",
        [ACT_RECEIVE] = "the twin receives and acknowledges",
        [ACT_PRODUCE] = "guest produces output, held",
        [ACT_OUTPUT] = "OUTPUT leaves (packet, disk write)",
        [ACT_LAND] = "a write lands on the disk",
    };

    return names[act];
}

const char *model_invariant_str(enum invariant inv)
{
    static const char *const names[INV_COUNT] = {
        [INV_ONE_ABLE] = "never two instances that execute and externalise",
        [INV_NO_STALE_OUTPUT] = "no output of a superseded instance",
        [INV_NO_OLD_WRITE] = "no old write after a newer owner's first access",
        [INV_GO_LIVE_KNOWS] = "a twin goes live knowing all that was seen",
        [INV_MEMORY] = "a migrated guest has all of its memory",
        [INV_FLUSH_KEPT] = "an owner finds every completed FLUSH",
        [INV_START_QUORATE] = "a recovery is decided with quorum",
        [INV_KEPT] = "a guest is not thrown away while nothing failed",
        [INV_WAY_BACK] = "there is always a way back",
    };

    return names[inv];
}

static const char *state_str(uint8_t st)
{
    static const char *const names[] = {"free",    "cold",   "incoming", "twin",
                                        "running", "frozen", "gone"};

    return names[st];
}

static bool is_about_node(uint8_t act)
{
    return act >= ACT_CRASH && act <= ACT_REJOIN;
}

static void print_inst(const struct state *s, unsigned k)
{
    const struct inst *in = &s->in[k];

    if (in->st == FREE) {
        return;
    }
    printf(" n%u/%u:%s", in->node + 1u, in->inc, state_str(in->st));
    if (in->won) {
        printf(",won%u", in->won);
    }
    if (in->link) {
        printf(",%s%u", in->link == LINK_SENT ? "tries" : "has", in->target);
    }
    if (s->top_owner == k + 1) {
        printf(",OWNER%u", s->top_epoch);
    }
    printf("%s%s%s%s%s%s", s->top_twin == k + 1 ? ",named-twin" : "",
           s->top_unex >> k & 1 ? ",unexcluded" : "", in->write ? ",write" : "",
           in->commit ? ",commit" : "", in->synced ? ",synced" : "",
           in->ahead ? ",ahead" : "");
    if (in->halt_frozen || in->halt_gone) {
        printf(",acked%u", in->halt_frozen ? in->halt_frozen : in->halt_gone);
    }
}

void model_print_step(const struct state *before, const struct step *step,
                      const struct state *after)
{
    if (is_about_node(step->act)) {
        printf("n%u: %s", step->a + 1u, model_action_str(step->act));
    } else {
        const struct inst *in = &before->in[step->a];

        if (in->st == FREE) {
            printf("new: %s", model_action_str(step->act));
        } else {
            printf("n%u %s: %s", in->node + 1u, state_str(in->st),
                   model_action_str(step->act));
        }
        if (step->act == ACT_SUBMIT) {
            printf(" (%s)", claim_kind_str((enum claim_kind)step->b));
        }
        if (step->act == ACT_READ_BACK) {
            printf(" (%s)", step->b == CLAIM_OUTCOME_WON ? "won" : "lost");
        }
    }
    printf("%s%s  |", step->broken ? "  VIOLATES: " : "",
           step->broken ? model_invariant_str((enum invariant)step->inv) : "");
    for (unsigned k = 0; k < INSTS; k++) {
        print_inst(after, k);
    }
    printf("\n");
}
