/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sentence for people that travels with an error code: library code returns it, main()
 * prints it. What failed, on which object, why, what to do next. Shell side of vmm/ only.
 */
#pragma once

#define VMM_ERROR_MAX 512

struct vmm_error {
    char text[VMM_ERROR_MAX];
};

/* Formats into `err` (NULL is fine) and returns `error`, so that one line fills and
 * fails. */
int vmm_fail(struct vmm_error *err, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
