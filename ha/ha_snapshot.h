/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of a VM: DIR/snapshots/ID/ with snapshot.yaml, state.gms (if it ran or was
 * suspended) and a copy of every disk that it can write to. One appears whole, by the
 * rename of its directory, or not at all. Blocking: worker threads only; `why`
 * (REASON_LEN_MAX + 1) on error.
 */
#pragma once

#include "ha/ha_fit.h"
#include "ha/ha_vmdir.h"

struct ha_snapshot {
    char dir[PATH_LEN_MAX * 2]; /* of the VM */
    char id[SNAPSHOT_ID_MAX + 1];
    char node[NODE_NAME_MAX + 1]; /* this one: in the names of what is not whole yet */
    struct ha_vmdir_disks disks;
    struct ha_fit fit; /* of the definition; empty: anything fits */
};

struct ha_snapshot_info {
    char id[SNAPSHOT_ID_MAX + 1];
    char created[32]; /* UTC */
    char vm[VM_NAME_MAX + 1];
    uint64_t epoch;
    bool state; /* has state.gms */
    uint64_t bytes;
    uint8_t digest[CLAIM_DIGEST_LEN]; /* of state.gms */
};

/* DIR/snapshots/.ID@NODE.tmp, empty. -EEXIST: there is such a snapshot. */
int ha_snapshot_begin(const struct ha_snapshot *s, char *why);
/* A file in there, created. */
int ha_snapshot_open_state(const struct ha_snapshot *s, int *ret_fd, char *why);
/* The disks and snapshot.yaml, beside the state that lies there already if info->state;
 * fills in created, bytes and digest. */
int ha_snapshot_fill(const struct ha_snapshot *s, struct ha_snapshot_info *info,
                     const atomic_bool *cancel, char *why);
int ha_snapshot_commit(const struct ha_snapshot *s, char *why);
void ha_snapshot_abort(const struct ha_snapshot *s);

int ha_snapshot_read(const struct ha_snapshot *s, struct ha_snapshot_info *ret_info,
                     char *why);
/* Has it every disk of s->disks, the state that snapshot.yaml speaks of, and does that
 * fit s->fit? */
int ha_snapshot_check(const struct ha_snapshot *s, char *why);
/* The last question alone. -EXDEV: no; ret_text is every difference and what to do. Older
 * snapshots do not say: 0. */
int ha_snapshot_fits(const struct ha_snapshot *s, char *ret_text, size_t cap);
/* In order of creation; at most `cap`. The count, or -errno. */
int ha_snapshot_list(const char *dir, struct ha_snapshot_info *ret_info, unsigned cap,
                     char *why);
int ha_snapshot_delete(const struct ha_snapshot *s, char *why);

/*
 * Revert (ha_revert.c). First half: copies beside the disks and suspend.gms; nothing that
 * counts is touched. The claim is ours (R1).
 */
int ha_snapshot_copy_back(const struct ha_snapshot *s, struct ha_snapshot_info *ret_info,
                          const atomic_bool *cancel, char *why);
/*
 * Second half: renames. What was there keeps a second name until the new set is whole and
 * synced, and gets its first one back if that fails (*ret_undone: all of it did). What
 * fails here is done again, from the first half on.
 */
int ha_snapshot_put_back(const struct ha_snapshot *s, const struct ha_snapshot_info *info,
                         bool *ret_undone, char *why);
/* After a second half that was interrupted: takes it back, or, if all was in place, lets
 * go of the old set. Before the disks are opened; the claim is ours. */
int ha_snapshot_settle(const struct ha_snapshot *s, char *why);
/* Is there one that settle would take back? */
bool ha_snapshot_torn(const struct ha_snapshot *s);
void ha_snapshot_drop_copies(const struct ha_snapshot *s);
