/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmm_error.h"

#include <stdarg.h>
#include <stdio.h>

int vmm_fail(struct vmm_error *err, int error, const char *format, ...)
{
    va_list args;

    if (!err) {
        return error;
    }
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return error;
}
