/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a CPU model from a definition, a message or a saved state: refused with a
 * sentence, or the same after it was printed and read again. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "base/bug.h"
#include "base/cpu_model.h"

FUZZ_ONE(data, len)
{
    static char text[2 * CPU_MODEL_TEXT_MAX], again[CPU_MODEL_TEXT_MAX], missing[64];
    struct cpu_model_error err = {""};
    struct cpu_model a, b;

    len = len < sizeof text ? len : sizeof text - 1;
    memcpy(text, data, len);
    text[len] = '\0';
    if (!cpu_model_parse(text, &a, &err)) {
        BUG_ON(err.text[0] == '\0');
        return 0;
    }
    BUG_ON(cpu_model_missing(&a, &a, missing, sizeof missing) != 0);
    if (cpu_model_print(&a, again, sizeof again) != 0) {
        BUG_ON(!cpu_model_parse(again, &b, &err) || !cpu_model_equal(&a, &b));
    }
    return 0;
}
