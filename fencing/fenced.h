/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemel-fenced: takes fence requests on a socket, runs them (fence_req decides,
 * fence_exec acts), remembers them on disk. One loop thread owns all of it.
 * programs/gemel_fenced.c is its main().
 */
#pragma once

#include <stdbool.h>

#include "base/loop.h"
#include "cluster-conf/conf_model.h"

struct fenced;

struct fenced_options {
    const char *socket_path; /* NULL: no socket */
    const char *secrets_dir;
    const char *state_dir;
    const char *agents_dir;
    bool levels_parallel;
};

/*
 * Loads what was in flight, and the last configuration; opens the socket. OFF and ON
 * requests found in flight are read again, never assumed. 0 or -errno, with the object in
 * the log.
 */
int fenced_new(struct loop *loop, const struct fenced_options *options,
               struct fenced **ret_fenced);
/* Kills running agents; what was in flight stays recorded as such. */
void fenced_free(struct fenced *fenced);
