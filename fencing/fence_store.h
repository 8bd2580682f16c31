/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state directory of gemel-fenced: UID.fence (one fence_record each), cluster.yaml
 * (the definition last accepted; no secrets), lock. Every write is durable when it
 * returns.
 */
#pragma once

#include <stddef.h>

#include "fencing/fence_record.h"

/* Makes the directory (0700) and takes its lock, held until *ret_lock_fd is closed.
 * -EAGAIN: another fenced has it. */
int fence_store_open(const char *dir, int *ret_lock_fd);
int fence_store_put(const char *dir, const struct fence_record *record);
int fence_store_remove(const char *dir, struct uuid uid);
/* Calls fn for every readable record; a broken file is renamed to NAME.bad and counted in
 * *ret_bad. */
int fence_store_load(const char *dir,
                     void (*fn)(const struct fence_record *record, void *data),
                     void *data, unsigned *ret_bad);
int fence_store_put_config(const char *dir, const char *yaml, size_t len);
/* Allocates *ret_yaml (NUL-terminated). -ENOENT: none yet. */
int fence_store_get_config(const char *dir, char **ret_yaml, size_t *ret_len);
