/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes into a fence agent (key=value lines on stdin) and what comes out of it (text,
 * without our secrets). Pure. Callers hold secrets in their own buffers and wipe them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "cluster-conf/conf_model.h"
#include "fencing/fence_req.h"

#define FENCE_SECRET_LEN_MAX 4096
#define FENCE_INPUT_LEN_MAX  (FENCE_PARAMS_MAX * 164 + FENCE_SECRET_LEN_MAX + 512)

struct fence_error {
    char text[REASON_LEN_MAX + 1]; /* what, where, why, what to do; never a value */
};

/* A device's definition as far as we can judge it: agent's name, keys, values. 0 or
 * -EINVAL with *ret_error. */
int fence_device_check(const struct conf_fence_device *device,
                       struct fence_error *ret_error);
/*
 * The content of NAME.secret: key=value lines, '#' lines and empty lines. 0 or -EINVAL;
 * the error names the line's number, never its text.
 */
int fence_secret_check(const char *name, const char *secret, size_t secret_len,
                       struct fence_error *ret_error);
/*
 * The first lines for the agent: action and node. Written at once where an agent is
 * started ahead of its use, so that an end of input at any later moment means this action
 * without parameters, never the agent's default (reboot).
 */
size_t fence_input_head(const struct conf_fence_device *device, enum fence_action action,
                        char *buf, size_t cap);
/* The rest: parameters, then the secret lines. Length, or 0 if it does not fit. */
size_t fence_input_tail(const struct conf_fence_device *device, enum fence_action action,
                        const char *secret, size_t secret_len, char *buf, size_t cap);

/* Replaces every value of `secret` in buf by "***"; returns the new length. */
size_t fence_scrub(char *buf, size_t len, const char *secret, size_t secret_len);
/*
 * The last line with text, printable ASCII only, shortened to fit: the only part of an
 * agent's output that we show. `cut`: the buffer ends in the middle of the output; then
 * its last, partial line (perhaps with half a secret) is not used.
 */
void fence_output_line(const char *buf, size_t len, bool cut, char *line, size_t cap);
