/* SPDX-License-Identifier: Apache-2.0 */
/* gemel-vmm: between the control socket and the migrations (migrate/mig_transfer.h). */
#pragma once

#include "base/loop.h"
#include "migrate/mig_transfer.h"
#include "programs/gemel_vmm_twin.h"
#include "vmm/vmm_ctl.h"

struct vmm_move {
    struct mig_transfer *transfer; /* NULL: an agent is needed, and there is none */
    struct vmm_twin *twin;         /* requests about it go there */
    struct vmm_ctl *ctl;           /* set when it is open */
    const char *name;              /* of the VM, for the log */
    struct mig_fingerprint key;
    struct mig_token token;
    struct mig_status status;
    uint64_t told; /* status.change that was told last */
    uint64_t told_ns;
    char error[VMM_ERROR_MAX];
};

/* Before the sandbox. */
int vmm_move_open(struct vmm_move *move, struct loop *loop,
                  const struct mig_transfer_conf *conf, struct vmm_error *err);
/* Behind it. */
int vmm_move_go(struct vmm_move *move, struct vmm_error *err);
/* Post-copy: memory is missing here. */
bool vmm_move_holes(struct vmm_move *move);
void vmm_move_close(struct vmm_move *move);
struct vmm_ctl_move vmm_move_hooks(struct vmm_move *move);
void vmm_move_engine(struct vmm_move *move, const struct engine_status *status);
void vmm_move_reset(struct vmm_move *move);
