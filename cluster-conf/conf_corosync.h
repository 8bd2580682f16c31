/* SPDX-License-Identifier: Apache-2.0 */
/* corosync.conf of a cluster definition. Pure. */
#pragma once

#include <stddef.h>

#include "cluster-conf/conf_model.h"

/* Where things are on this node; NULL: Corosync's own default. */
struct conf_corosync_paths {
    const char *keyfile;   /* default /etc/corosync/authkey */
    const char *state_dir; /* default /var/lib/corosync */
    const char *log_file;  /* default: syslog only */
};

/*
 * Length without the NUL, or 0: does not fit (32 KiB always suffices), or `local` is not
 * a node of the cluster. With insecure_lab Corosync runs without real-time priority,
 * which would starve a small lab machine.
 */
size_t conf_corosync_write(const struct conf_cluster *cluster, const char *local,
                           const struct conf_corosync_paths *paths, char *buf,
                           size_t cap);
