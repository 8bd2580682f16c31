/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files in a VM's directory on the shared file system: digests of saved states, copies of
 * disks. Everything here blocks (hard mounts): worker threads only. On error `why`
 * (REASON_LEN_MAX + 1) says what failed, on which file.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cluster-conf/conf_model.h"
#include "fencing/claim.h"

#define VMDIR_STATE     "suspend.gms"
#define VMDIR_STATE_TMP "suspend.gms.tmp"

/*
 * What a release says about suspend.gms: "C1" and 6 zero bytes, the length (u64), and the
 * crc32c of each of four stripes (1 MiB blocks, in turn). It tells files apart and finds
 * damage; it is no proof against forgery, which would need the right to write there.
 */
int ha_vmdir_digest(int fd, uint8_t ret_digest[CLAIM_DIGEST_LEN]);

/* The disks that a copy of the VM needs: those it can write to. */
struct ha_vmdir_disks {
    unsigned count;
    char path[VM_DISKS_MAX][PATH_LEN_MAX]; /* relative to the directory */
};
/* False: one lies elsewhere, and cannot be copied with the directory. */
bool ha_vmdir_disks_of(const struct conf_vm *conf, struct ha_vmdir_disks *ret_disks,
                       char *why);
/* The name of a disk's copy in one flat directory: "a/b" is "a%2Fb". */
void ha_vmdir_flat_name(const char *path, char *ret_name, unsigned cap);

/* A new file with the same bytes and holes, synced: a reflink where the file system can.
 * Ends early with -ECANCELED when *cancel (NULL: never) is set. */
int ha_vmdir_copy(const char *from, const char *to, const atomic_bool *cancel, char *why);
/* A directory with all that is in it; links are not followed. Not there: 0. */
int ha_vmdir_remove(const char *path);
