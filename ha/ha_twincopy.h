/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The path of a twin's copy of a mirrored disk, before anything is made there: what it
 * holds of somebody else's is not written over, and it has to be large enough. A shell;
 * on a worker thread, as all of this may wait for a disk.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cluster-conf/conf_model.h"
#include "ha/ha_types.h"

struct ha_twincopy {
    const char *path;
    uint64_t bytes, used; /* of the primary's disk */
    bool known;           /* it has been a copy of this VM's disk before */
};

/* Changes nothing. False: why it cannot be the copy, and what to do. */
bool ha_twincopy_look(const struct ha_twincopy *copy,
                      char why[static REASON_LEN_MAX + 1]);

/* The primary's: its size, and what of that is in use. 0, or -errno. */
int ha_twincopy_measure(const char *path, struct ha_twin_disk *ret_disk);
/* True: a disk that its twin would share is a file that each node may have under this
 * name: it would be an old one there. */
bool ha_twincopy_is_own(const struct conf_disk *disk, const char *path,
                        char why[static REASON_LEN_MAX + 1]);

/* Paths of this node that have been a copy of one VM's disks, a line each, in the file
 * `own`. A device is known by its path alone. */
/* 1: it has; 0: not; -errno: nobody can tell, and why, with what to do. */
int ha_twincopy_known(const char *own, const char *path,
                      char why[static REASON_LEN_MAX + 1]);
/* 0, or -errno and why. */
int ha_twincopy_note(const char *own, const char *path,
                     char why[static REASON_LEN_MAX + 1]);
