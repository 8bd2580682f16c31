/* SPDX-License-Identifier: Apache-2.0 */
/* XXH3 (https://xxhash.com, xxhash.h of Debian's libxxhash-dev, inlined): sums of pages,
 * outputs and files, and the chain of exits. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ft/ft_log.h"

/* 64 bits of XXH3, of `seed` and `len` bytes. */
uint64_t ft_sum64(uint64_t seed, const void *bytes, size_t len);
/* 128 bits, in canonical order. */
struct ft_sum ft_sum128(const void *bytes, size_t len);
/* The chain after this exit: over its kind, address, size, bytes and registers. */
uint64_t ft_chain_exit(uint64_t chain, const struct tape_exit *x);
/* The same without the general registers but RIP: whether it is the same thing that both
 * sides do (ft/README.md, "Words"). */
uint64_t ft_chain_control(uint64_t chain, const struct tape_exit *x);
uint64_t ft_chain_inject(uint64_t chain, uint8_t vector);
/* An output: where it goes and its bytes. */
struct ft_sum ft_output_sum(const struct tape_out *out);
