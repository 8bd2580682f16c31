/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may use an export: the newest connection of the highest epoch that ever asked.
 * Whoever comes with a later epoch, or again with the same one, cuts off all connections
 * before it: their later requests fail, and it is let in when their requests under way
 * are finished. An epoch below the highest is refused for ever: the highest stands in a
 * file that is durable before anybody is let in.
 *
 * Any thread may call anything here. Knows nothing of NBD.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "storage/epoch_name.h"

#define EPOCH_WHY_MAX 1024
#define EPOCH_MARKER  "gemel-epochs" /* a file that says: epochs are kept in here */

struct epoch_gate; /* one server */
struct epoch_pass; /* one connection */

/* `dir` is there and has EPOCH_MARKER, so it is not the empty place where a file system
 * should be mounted (-ENOENT); one server at a time uses it (-EBUSY). `drain_ms`: how
 * long a newcomer waits for requests under way. On failure a sentence in `why`. */
int epoch_gate_open(struct epoch_gate **ret_gate, const char *dir, unsigned drain_ms,
                    char why[static EPOCH_WHY_MAX]);
/* NULL is fine. While somebody has not left it does nothing: it goes with the process. */
void epoch_gate_close(struct epoch_gate *gate);

/*
 * 0: in. -ESTALE: a later epoch, or a later connection, is there. -ETIMEDOUT: earlier
 * requests are still under way; they are cut off, and the same may be asked again.
 * Others: the file. On failure a sentence in `why`.
 */
int epoch_gate_enter(struct epoch_gate *gate, const struct epoch_name *name,
                     struct epoch_pass **ret_pass, char why[static EPOCH_WHY_MAX]);
void epoch_gate_leave(struct epoch_pass *pass); /* nothing of it is under way */

/* Around each request. False: cut off, or NAME@0: carry nothing out, call no end. */
bool epoch_gate_begin(struct epoch_pass *pass);
void epoch_gate_end(struct epoch_pass *pass);

/* Highest epoch of the export, 0: none yet. */
uint64_t epoch_gate_highest(const struct epoch_pass *pass);
/* It came with NAME@EPOCH. */
bool epoch_gate_has_epoch(const struct epoch_pass *pass);
