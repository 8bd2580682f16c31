/* SPDX-License-Identifier: Apache-2.0 */
/* How gemel-vmm uses vmm/sandbox: who it becomes, and what stays in reach. */
#pragma once

#include "programs/gemel_vmm_opts.h"
#include "vmm/vmm_error.h"

/* Enters the sandbox, or says in the log that there is none. */
int gemel_vmm_walls(const struct vmm_opts *o, struct vmm_error *err);
