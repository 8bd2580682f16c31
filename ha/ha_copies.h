/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verbs that work on the directories of VMs that no agent runs now: snapshots of a VM at
 * rest, their list and their end, clones. One job per request, on a worker of the agent
 * that was asked. That a VM is at rest, and stayed so while it was copied, is read from
 * its claims: every entry into the guest takes the next one first (R1).
 */
#pragma once

#include "ha/ha_snapshot.h"

enum ha_copies_kind {
    HA_COPIES_NONE = 0,
    HA_COPIES_LIST,     /* json: the snapshots */
    HA_COPIES_SNAPSHOT, /* of a VM at rest */
    HA_COPIES_DELETE,
    HA_COPIES_CHECK, /* before a revert: is it there, and whole? */
    HA_COPIES_CLONE, /* yaml: the definition to apply */
};

struct ha_copies {
    enum ha_copies_kind kind;
    bool dry_run;
    struct uuid vm;
    struct conf_vm conf;
    char vmroot[PATH_LEN_MAX];
    /* On a worker that runs one order after another: leftovers of this node are removed.
     */
    struct ha_snapshot snapshot; /* dir of the VM; id empty: none */
    char clone[VM_NAME_MAX + 1];
    char runs_on[NODE_NAME_MAX + 1]; /* as its owner reported; empty: not known */
    /* Out: */
    uint32_t exit_code; /* of design 11 */
    char text[REASON_LEN_MAX * 4];
    char *body; /* json or yaml; the caller frees it */
};

void ha_copies_work(void *data); /* struct ha_copies */
/* A clone whose definition was not taken. */
void ha_copies_undo(void *data);
/* The definition of a clone: another name, uuid and other MACs; `random` feeds the MACs.
 */
void ha_copies_redefine(struct conf_vm *conf, const char *name, struct uuid uuid,
                        const uint8_t random[VM_NICS_MAX][3]);
