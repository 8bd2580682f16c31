/* SPDX-License-Identifier: Apache-2.0 */
/* gemel-vmm: between the control socket and the twin of a protected VM (ft/ft_session.h).
 */
#pragma once

#include "base/loop.h"
#include "ft/ft_session.h"
#include "vmm/vmm_ctl.h"

struct mig_transfer;

struct vmm_twin {
    struct ft_session *session; /* NULL: no agent, or a machine that has no twins */
    struct mig_transfer *transfer;
    struct engine *engine;
    struct vmm_ctl *ctl; /* set when it is open */
    const char *name;    /* of the VM, for the log */
    struct ft_session_status status;
    uint64_t told;    /* status.change that was told last */
    uint64_t bundles; /* divergences that were logged */
    uint32_t mirror;  /* of FT_FOLLOW: disks that it has its own copies of */
    uint32_t held;    /* that was told last */
    char error[VMM_ERROR_MAX];
};

/* Before the sandbox. */
int vmm_twin_open(struct vmm_twin *twin, struct loop *loop,
                  const struct ft_session_conf *conf, struct mig_transfer *transfer,
                  struct vmm_error *err);
/* Behind it. */
int vmm_twin_go(struct vmm_twin *twin, struct vmm_error *err);
/* Before the engine is closed. */
void vmm_twin_stop(struct vmm_twin *twin);
void vmm_twin_close(struct vmm_twin *twin);
/* The guest is off, and the twin's copies of its mirrored disks have all that is here. */
bool vmm_twin_alike(struct vmm_twin *twin);
void vmm_twin_engine(struct vmm_twin *twin, const struct engine_status *status);
/* The engine has news: are its disks held still? */
void vmm_twin_look(struct vmm_twin *twin);
/* Why it cannot be given to anybody else now; NULL: it can. */
const char *vmm_twin_holds(struct vmm_twin *twin);
bool vmm_twin_is_for(const Gemel__VmmRequest *rq);
/* Takes the files. NULL, or why not. */
const char *vmm_twin_request(struct vmm_twin *twin, const Gemel__VmmRequest *rq,
                             const int *fds, size_t count);
void vmm_twin_report(struct vmm_twin *twin, Gemel__VmmReport *report);
