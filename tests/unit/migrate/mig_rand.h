/* SPDX-License-Identifier: Apache-2.0 */
/* Repeatable random numbers for tests of migrate/ (splitmix64, Steele et al. 2014). */
#pragma once

#include <stdint.h>

static inline uint64_t mig_rand(uint64_t *seed)
{
    uint64_t z = (*seed += UINT64_C(0x9E3779B97F4A7C15));

    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* From 0 to bound - 1. */
static inline uint64_t mig_rand_below(uint64_t *seed, uint64_t bound)
{
    return mig_rand(seed) % bound;
}
