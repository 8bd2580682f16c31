/* SPDX-License-Identifier: Apache-2.0 */
#include "ft/ft_sum.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t ft_sum64(uint64_t seed, const void *bytes, size_t len)
{
    return XXH3_64bits_withSeed(bytes, len, seed);
}

static struct ft_sum sum128(uint64_t seed, const void *bytes, size_t len)
{
    XXH128_canonical_t c;
    struct ft_sum sum;

    XXH128_canonicalFromHash(&c, XXH3_128bits_withSeed(bytes, len, seed));
    memcpy(sum.b, c.digest, sizeof sum.b);
    return sum;
}

struct ft_sum ft_sum128(const void *bytes, size_t len)
{
    return sum128(0, bytes, len);
}

uint64_t ft_chain_exit(uint64_t chain, const struct tape_exit *x)
{
    uint64_t fixed[4 + TAPE_REGS] = {(uint64_t)x->kind, x->address, x->size,
                                     (uint64_t)x->len << 1 | x->boundary};

    memcpy(fixed + 4, x->reg, sizeof x->reg);
    chain = ft_sum64(chain, fixed, sizeof fixed);
    return x->len > 0 ? ft_sum64(chain, x->data, x->len) : chain;
}

uint64_t ft_chain_control(uint64_t chain, const struct tape_exit *x)
{
    uint64_t fixed[5] = {(uint64_t)x->kind, x->address, x->size,
                         (uint64_t)x->len << 1 | x->boundary, x->reg[TAPE_REG_RIP]};

    chain = ft_sum64(chain, fixed, sizeof fixed);
    return x->len > 0 ? ft_sum64(chain, x->data, x->len) : chain;
}

uint64_t ft_chain_inject(uint64_t chain, uint8_t vector)
{
    return ft_sum64(chain, &vector, sizeof vector);
}

struct ft_sum ft_output_sum(const struct tape_out *out)
{
    uint64_t fixed[4] = {(uint64_t)out->kind, out->unit, out->op, out->sector};

    return sum128(ft_sum64(0, fixed, sizeof fixed), out->data, out->len);
}
