/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock (landlock(7)), where the kernel has it. For sandbox.c. */
#pragma once

/* From now on nothing can be opened, made or removed but regular files below these
 * directories (absolute, NULL ends), no TCP port used, and no process outside signalled.
 * The version of Landlock, or -errno; needs no_new_privs. */
int landlock_confine(const char *const dirs[]);
