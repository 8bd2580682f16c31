/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox's file system: an empty read-only root. For sandbox.c. */
#pragma once

#include "vmm/vmm_error.h"

/* In a mount namespace of this process's own. The directories (absolute, NULL ends) are
 * there under their names, without devices, set-id and execution; the current directory
 * stays if it is one of them. 0, or -errno with a text. */
int sandbox_root_enter(const char *const dirs[], struct vmm_error *err);
