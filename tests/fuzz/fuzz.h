/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzz target: FUZZ_ONE(data, len) { ... return 0; }. Broken properties end in BUG_ON,
 * which libFuzzer reports with the input.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bug.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/*
 * Goals: places that inputs must come to for the target to be worth its time, such as a
 * disk request that was answered. tests/fuzz/run asks for them (FUZZ_GOALS=1) and demands
 * that the committed seeds reach every one. FUZZ_GOALS("name", ...) names them in order,
 * fuzz_reach(i, condition) counts.
 */
#define FUZZ_GOALS(...)                                                                  \
    static const char *const fuzz_goal[] = {__VA_ARGS__};                                \
    static unsigned long fuzz_reached[sizeof fuzz_goal / sizeof fuzz_goal[0]];           \
    static void fuzz_reach(unsigned goal, bool reached)                                  \
    {                                                                                    \
        fuzz_reached[goal] += reached;                                                   \
    }                                                                                    \
    __attribute__((destructor)) static void fuzz_tell_goals(void)                        \
    {                                                                                    \
        for (size_t i = 0;                                                               \
             getenv("FUZZ_GOALS") != NULL && i < sizeof fuzz_goal / sizeof fuzz_goal[0]; \
             i++) {                                                                      \
            fprintf(stderr, "goal::%s: %lu\n", fuzz_goal[i], fuzz_reached[i]);           \
        }                                                                                \
    }

#define FUZZ_ONE(data, len) int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
