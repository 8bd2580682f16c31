/* SPDX-License-Identifier: Apache-2.0 */
/* In the io library, so that the one panic function is an undefined symbol of every core,
 * and the only one. */
#include "base/bug.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void base_panic(const char *file, int line, const char *condition)
{
    fprintf(stderr, "BUG %s:%d: %s\n", file, line, condition);
    fflush(stderr);
    abort();
}
