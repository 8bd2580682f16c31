/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs ClusterLabs fence agents (FenceAgentAPI): no argv, key=value lines on stdin, a
 * clean environment, an own process group, bounded time and output. Secrets go from
 * NAME.secret straight to the agent's stdin: never into argv, environment, logs or
 * replies. One loop thread owns all of it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "cluster-conf/conf_model.h"
#include "fencing/fence_input.h"
#include "fencing/fence_req.h"

struct fence_runner; /* the agents of one daemon */
struct fence_exec;   /* one run of one agent */

struct fence_run_result {
    enum fence_end end;
    int code; /* exit code or signal */
    uint32_t elapsed_ms;
    uint64_t output_bytes; /* all of it, discarded ones included */
    char detail[REASON_LEN_MAX +
                1]; /* last line of its output without secrets, or why it did not run */
};

/* Called once per run, when the agent and its process group are gone. The exec is freed
 * after it. */
typedef void (*fence_exec_fn)(struct fence_exec *exec,
                              const struct fence_run_result *result, void *data);

/* Makes this process the reaper of agents' descendants that left their process group. */
int fence_runner_new(struct loop *loop, const char *agents_dir, const char *secrets_dir,
                     struct fence_runner **ret_runner);
/* Kills what still runs, without calling back. */
void fence_runner_free(struct fence_runner *runner);

/*
 * Starts the device's agent. 0, or -errno with *ret_error: nothing runs. The action is
 * status, off, on or monitor. `held`: started ahead of its use, as status (that is what
 * it does if its input should end early): it gets its parameters with fence_exec_release,
 * and has no time limit before that.
 */
int fence_exec_start(struct fence_runner *runner, const struct conf_fence_device *device,
                     enum fence_action action, bool held, uint32_t timeout_ms,
                     fence_exec_fn fn, void *data, struct fence_exec **ret_exec,
                     struct fence_error *ret_error);
/*
 * Action, parameters and secrets for a held agent; from now on as if just started. The
 * device must have the agent that it was started with. The last `action` counts
 * (FenceAgentAPI); an agent that takes the first one has only read the power. -ESRCH: it
 * has ended meanwhile.
 */
int fence_exec_release(struct fence_exec *exec, const struct conf_fence_device *device,
                       enum fence_action action, uint32_t timeout_ms, fence_exec_fn fn,
                       void *data, struct fence_error *ret_error);
/* Who is told of its end from now on. */
void fence_exec_watch(struct fence_exec *exec, fence_exec_fn fn, void *data);
/* SIGKILL to its group; ends with FENCE_END_PREEMPTED. fn NULL: nobody is told. */
void fence_exec_kill(struct fence_exec *exec, fence_exec_fn fn, void *data);

/*
 * Reads SECRETS_DIR/NAME.secret into `buf` (FENCE_SECRET_LEN_MAX + 1). No file: 0 bytes,
 * success. Refused unless it is a regular file of this process's user (root in
 * production), of mode 0600 or less, in a directory only that user can write.
 */
int fence_secret_read(const char *secrets_dir, const char *name, char *buf,
                      size_t *ret_len, struct fence_error *ret_error);
