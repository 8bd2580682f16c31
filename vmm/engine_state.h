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
int engine_state_save(struct engine *e, int fd, const char *name,
                      enum engine_ram_place place, uint64_t *ret_bytes,
                      struct vmm_error *err);
/* Both steps. */
int engine_state_load(struct engine *e, int fd, const char *name,
                      enum engine_ram_place place, struct vmm_error *err);
/* Reads and looks at all of it; devices and (ENGINE_RAM_IN_STATE) RAM are as it says
 * then. KVM has heard of doorbells and interrupt lines only. */
int engine_state_decode(struct engine *e, int fd, const char *name,
                        enum engine_ram_place place, struct vmm_error *err);
/* What was decoded goes into KVM; any number of times before the VM runs. */
int engine_state_apply(struct engine *e, struct vmm_error *err);
bool engine_state_decoded(const struct engine *e);
void engine_state_forget(struct engine *e);
