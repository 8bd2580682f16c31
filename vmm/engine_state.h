/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole VM to a file and back, as vmm/state_stream says. Part of the engine: saved
 * while FROZEN, loaded at START instead of a boot, on the thread that owns the machine. A
 * load looks at everything before it sets anything in KVM; a VM whose load failed never
 * ran.
 */
#pragma once

#include "vmm/engine.h"

/* To `fd` (written from its current place, not synced); `name` for messages. 0 or -errno
 * with a text; what was written is then of no use. */
int engine_state_save(struct engine *e, int fd, const char *name, uint64_t *ret_bytes,
                      struct vmm_error *err);
int engine_state_load(struct engine *e, int fd, const char *name, struct vmm_error *err);
