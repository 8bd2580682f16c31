/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recording as a file, written or replayed (ft/README.md, "The log"). The vCPU thread
 * fills a ring, a thread of ours writes it: a slow disk slows the guest down only when
 * the ring is full. A file that cannot be written ends the recording, not the VM. What is
 * read is hostile; a record that is not whole was never there.
 *
 *     ft_tape_record or ft_tape_replay     opens the file; conf.tape = ft_tape_hooks
 *     engine_open
 *     ft_tape_begin                        writes HEAD, or compares it
 *     sandbox_enter
 *     ft_tape_go
 *     engine_go ... engine_close
 *     ft_tape_end, ft_tape_print, ft_tape_free
 */
#pragma once

#include <stdio.h>

#include "ft/ft_pos.h"
#include "vmm/engine.h"

struct ft_tape;

/* 0 or -errno with a text. The file is made; one with something in it is refused, and a
 * block device. */
int ft_tape_record(const char *path, struct ft_tape **ret_tape, struct vmm_error *err);
/* `until`: stop at this position (UINT64_MAX exits: at the end of the recording), the
 * instructions behind an exit in single steps. */
int ft_tape_replay(const char *path, struct ft_pos until, struct ft_tape **ret_tape,
                   struct vmm_error *err);
const struct engine_tape *ft_tape_hooks(const struct ft_tape *tape);
/* The VM is open. A replay with other options than the recording: -EINVAL, the text says
 * which. */
int ft_tape_begin(struct ft_tape *tape, struct engine *e, const struct engine_conf *conf,
                  struct vmm_error *err);
/* Starts the writer. */
int ft_tape_go(struct ft_tape *tape, struct vmm_error *err);
/* Why the recording ended before the VM, once; NULL: it goes on, or that was told. */
const char *ft_tape_trouble(struct ft_tape *tape);
/* After the vCPU thread has ended: what was recorded is in the file and synced. 0 or
 * -errno with a text. */
int ft_tape_end(struct ft_tape *tape, struct vmm_error *err);
/* Replay: how it ended, as one line (with `json` as an object, with registers where it
 * stopped at `until`). True: equal, or stopped where it was to. */
bool ft_tape_print(const struct ft_tape *tape, FILE *out, bool json);
void ft_tape_free(struct ft_tape *tape); /* NULL is fine */
