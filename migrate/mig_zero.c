/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_zero.h"

#include <string.h>

#include "base/bug.h"

/* Look at this much before going on: most pages differ from zero early. */
#define STEP 256

static bool zero_by_words(const uint8_t *page)
{
    for (size_t at = 0; at < MIG_PAGE; at += 32) {
        uint64_t word[4];

        memcpy(word, page + at, sizeof word);
        if ((word[0] | word[1] | word[2] | word[3]) != 0) {
            return false;
        }
    }
    return true;
}

#if defined(__x86_64__)
typedef long long sse_t __attribute__((vector_size(16), may_alias));
typedef long long avx_t __attribute__((vector_size(32), may_alias));

static bool zero_by_sse2(const uint8_t *page)
{
    for (size_t at = 0; at < MIG_PAGE; at += STEP) {
        const sse_t *v = (const sse_t *)(page + at);
        sse_t any = v[0];

        for (unsigned i = 1; i < STEP / sizeof(sse_t); i++) {
            any |= v[i];
        }
        if ((any[0] | any[1]) != 0) {
            return false;
        }
    }
    return true;
}

__attribute__((target("avx2"))) static bool zero_by_avx2(const uint8_t *page)
{
    for (size_t at = 0; at < MIG_PAGE; at += STEP) {
        const avx_t *v = (const avx_t *)(page + at);
        avx_t any = v[0] | v[1] | v[2] | v[3] | v[4] | v[5] | v[6] | v[7];

        if (!__builtin_ia32_ptestz256(any, any)) {
            return false;
        }
    }
    return true;
}

bool mig_zero_has(enum mig_zero_way way)
{
    return way != MIG_ZERO_AVX2 || __builtin_cpu_supports("avx2");
}

bool mig_page_is_zero_by(enum mig_zero_way way, const void *page)
{
    switch (way) {
    case MIG_ZERO_AVX2:
        return zero_by_avx2(page);
    case MIG_ZERO_SSE2:
        return zero_by_sse2(page);
    default:
        return zero_by_words(page);
    }
}

bool mig_page_is_zero(const void *page)
{
    return __builtin_cpu_supports("avx2") ? zero_by_avx2(page) : zero_by_sse2(page);
}
#else
bool mig_zero_has(enum mig_zero_way way)
{
    return way == MIG_ZERO_WORDS;
}

bool mig_page_is_zero_by(enum mig_zero_way way, const void *page)
{
    (void)way;
    return zero_by_words(page);
}

bool mig_page_is_zero(const void *page)
{
    return zero_by_words(page);
}
#endif

void mig_zero_classify(struct mig_ram *ram, const uint8_t *base,
                       const struct mig_run *run)
{
    uint64_t end = run->first + run->count;

    BUG_ON(run->count > mig_ram_room(ram));
    for (uint64_t page = run->first; page < end;) {
        uint64_t first = page;
        bool zero = mig_page_is_zero(base + page * MIG_PAGE);

        do {
            page++;
        } while (page < end && mig_page_is_zero(base + page * MIG_PAGE) == zero);
        mig_ram_add(ram, zero ? MIG_RAM_ZERO : MIG_RAM_RAW, first,
                    (uint32_t)(page - first));
    }
}
