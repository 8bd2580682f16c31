/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads of a transfer, made when the process begins: later it makes none (its
 * system calls are filtered). They wait; each has one job at a time.
 */
#pragma once

#include "vmm/vmm_error.h"

#define MIG_POOL_MAX 8

struct mig_pool;
typedef void (*mig_job_fn)(void *data);

/* Before the sandbox is entered; `prepare` runs first in each thread, once it is: there
 * it gives up what it does not need. */
int mig_pool_new(unsigned count, void (*prepare)(void), struct mig_pool **ret_pool,
                 struct vmm_error *err);
/* When no job runs; NULL is fine. */
void mig_pool_free(struct mig_pool *pool);
/* Thread `index` must have no job. */
void mig_pool_run(struct mig_pool *pool, unsigned index, mig_job_fn fn, void *data);
/* Until thread `index` has no job. */
void mig_pool_wait(struct mig_pool *pool, unsigned index);
