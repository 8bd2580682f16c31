/* SPDX-License-Identifier: Apache-2.0 */
/* Changes scripts by lines (mig_script.h), and by bytes now and then. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/mig_script.h"

#define LINES_MAX 160u
size_t LLVMFuzzerMutate(uint8_t *data, size_t len, size_t cap);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t cap, unsigned seed);

static void new_line(uint8_t *line, unsigned *seed)
{
    static const char op[] = "CHYRPPPPFFFFEEESVLNAUUUDXBZWGKOT";

    line[0] = (uint8_t)op[(unsigned)rand_r(seed) % (sizeof op - 1)];
    line[1] = (uint8_t)('0' + rand_r(seed) % 4);
    for (unsigned i = 2; i < MIG_SCRIPT_LINE - 1; i++) {
        int r = rand_r(seed) >> 3;

        line[i] = (uint8_t)(r % 4 < 2    ? '0'
                            : r % 4 == 2 ? '0' + (r >> 4) % 6
                                         : (r >> 4) % 256);
    }
    line[MIG_SCRIPT_LINE - 1] = '\n';
}

/* Space for a line at `at`. */
static void move_up(uint8_t *data, size_t len, size_t at)
{
    memmove(data + at + MIG_SCRIPT_LINE, data + at, len - at);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t cap, unsigned seed)
{
    size_t lines = len / MIG_SCRIPT_LINE, at, from;
    uint8_t line[MIG_SCRIPT_LINE];
    int what = rand_r(&seed) % 16;

    if (lines < 2 || what == 0) {
        return LLVMFuzzerMutate(data, len, cap);
    }
    at = (size_t)rand_r(&seed) % lines * MIG_SCRIPT_LINE;
    from = (size_t)rand_r(&seed) % lines * MIG_SCRIPT_LINE;
    memcpy(line, data + from, sizeof line);
    if (what < 5) {
        new_line(line, &seed);
    }
    if (what < 8 && len + MIG_SCRIPT_LINE <= cap && lines < LINES_MAX) {
        move_up(data, len, at);
        memcpy(data + at, line, sizeof line);
        return len + MIG_SCRIPT_LINE;
    }
    if (what < 11) {
        memmove(data + at, data + at + MIG_SCRIPT_LINE, len - at - MIG_SCRIPT_LINE);
        return len - MIG_SCRIPT_LINE;
    }
    if (what < 12) { /* two change places */
        memcpy(data + from, data + at, sizeof line);
        memcpy(data + at, line, sizeof line);
        return len;
    }
    new_line(line, &seed);
    from = (size_t)rand_r(&seed) % (MIG_SCRIPT_LINE - 1);
    data[at + from] = line[from];
    return len;
}
