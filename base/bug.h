/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Always-on assertions, for programmer errors only: never for what a guest, a peer, a
 * file or a user sent. The condition must have no side effect. Anyone may include this.
 */
#pragma once

#include <stdbool.h>

/* Reports the failed condition on stderr and aborts. The only function a pure core may
 * not return from. */
_Noreturn void base_panic(const char *file, int line, const char *condition);

#define BUG_ON(condition)                                                                \
    do {                                                                                 \
        if (__builtin_expect(!!(condition), 0)) {                                        \
            base_panic(__FILE__, __LINE__, #condition);                                  \
        }                                                                                \
    } while (0)
