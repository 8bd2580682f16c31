/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The payload of a RAM frame through libzstd (level 1). Guest memory is copied first: it
 * changes while it is read, and a compressor that sees two versions of a byte may write
 * anything. Memory is taken once, when the object is made: a context and two buffers of
 * 2 MiB, used by one thread.
 */
#pragma once

#include <stdint.h>
#include <sys/uio.h>

struct mig_zstd;

/* NULL: no memory. */
struct mig_zstd *mig_zstd_new(void);
void mig_zstd_free(struct mig_zstd *z);
/* What `iov` holds (at most MIG_RAM_PAGES_MAX pages), compressed. Length, or 0: it does
 * not become smaller. *ret_data is valid until the next call. */
uint32_t mig_zstd_pack(struct mig_zstd *z, const struct iovec *iov, size_t count,
                       const uint8_t **ret_data);
/* Where the receiver reads `len` (below MIG_RAM_PAGES_MAX pages) bytes into, before it
 * calls unpack. */
uint8_t *mig_zstd_room(struct mig_zstd *z);
/* `len` bytes in mig_zstd_room, hostile, become what `iov` has room for, exactly. 0, or a
 * sentence why not; `iov` is written only with 0. */
const char *mig_zstd_unpack(struct mig_zstd *z, uint32_t len, const struct iovec *iov,
                            size_t count);
