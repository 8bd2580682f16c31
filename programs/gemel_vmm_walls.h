/* SPDX-License-Identifier: Apache-2.0 */
/* How gemel-vmm uses vmm/sandbox: who it becomes, and what stays in reach. */
#pragma once

#include "programs/gemel_vmm_opts.h"
#include "vmm/vmm_error.h"

/* Log files are opened in between: as the VM's user, if the starter named one. */
void gemel_vmm_files_begin(const struct vmm_opts *o);
void gemel_vmm_files_end(const struct vmm_opts *o);
/* Enters the sandbox, or says in the log that there is none. */
int gemel_vmm_walls(const struct vmm_opts *o, struct vmm_error *err);
