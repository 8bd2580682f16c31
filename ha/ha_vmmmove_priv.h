/* SPDX-License-Identifier: Apache-2.0 */
/* Between ha_vmmmove.c (a migration's two ends), ha_vmmhandover.c (its source lets go, or
 * goes on), ha_vmmpostcopy.c (post-copy, afterwards) and ha_vmmupgrade.c (both ends
 * here).
 */
#pragma once

#include "ha/ha_vmm_priv.h"

struct ha_moving *ha_vmmmove_new(struct ha_local *l, const struct ha_vm *vm,
                                 bool incoming);
void ha_vmmmove_start_timer(struct ha_local *l, uint64_t ns, void (*fn)(void *data));
void ha_vmmmove_stop_timer(struct ha_local *l);
/* The source: as it is, or by the next claim; called off, by what its step allows. */
void ha_vmmmove_go_on(struct ha_local *l, const char *why);
void ha_vmmmove_cancel(struct ha_local *l, const char *why);
/* The source's VMM moves no more by itself: whatever it has to do with its disks is done,
 * and its claim is released. */
void ha_vmmmove_let_go(struct ha_local *l);
/* Post-copy, after it was entered at the one end and discarded at the other. */
void ha_vmmmove_report_of_holes(struct ha_local *l, const Gemel__VmmReport *r);
/* MIGRATE_OUT or MIGRATE_IN. peer NULL: in plaintext. The files stay the caller's. */
void ha_vmmmove_hand_sockets(struct ha_local *l, const int *fds, size_t count,
                             const struct ha_move_end *peer);
/* The destination: it ends; READY, it looks for its claim now; its source is gone, and
 * what that released shows soon. */
void ha_vmmmove_dest_fail(struct ha_local *l, const char *why);
void ha_vmmmove_look(struct ha_local *l);
void ha_vmmmove_orphan(struct ha_local *l);

/* The source's VMM is prepared: its memory is in l->came_fd. The destination's is. */
void ha_vmmupgrade_prepared(struct ha_local *l);
void ha_vmmupgrade_connect(struct ha_local *l);
/* The source goes on: nothing is to take over from it. */
void ha_vmmupgrade_drop(struct ha_local *l, const char *why);
