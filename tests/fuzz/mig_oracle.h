/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the bytes of a migration amount to, found by another way than the receiver's:
 * whole connections, one after the other, and no threads. It knows when all of a VM has
 * come, and what its memory is then; it uses the decoders of single frames, which have
 * fuzz targets of their own. Not thread-safe; one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "migrate/mig_listen.h"
#include "migrate/mig_types.h"
#include "vmm/engine_ram.h"

#define MIG_ORACLE_CONNS 8u

/* A new transfer: `open` is what an honest OPEN of stream 0 says. */
void mig_oracle_begin(uint64_t page_count, const struct mig_open_msg *open);
void mig_oracle_free(void);
/* Disk 0 is mirrored, and the destination's copy has these bytes, which stay where they
 * are. */
void mig_oracle_has_disk(const uint8_t *bytes, size_t len);
/* The destination was given these bytes on a connection. */
void mig_oracle_take(unsigned conn, const uint8_t *bytes, size_t len);
/* It can no longer be told which bytes came when: nothing is claimed but what is always
 * so. */
void mig_oracle_blur(void);
bool mig_oracle_is_blurred(void);
/* Streams that have joined. */
unsigned mig_oracle_joined(void);
/* All of them, and Hello came as their first frame. */
bool mig_oracle_has_hello(void);

/* Whether all that Finish tells of has come, on all streams; NULL: yes, else what is
 * missing. */
const char *mig_oracle_incomplete(void);
/* Complete, and no connection has had anything that is not part of it. */
bool mig_oracle_is_clean(void);
/* STATE, as it came. */
const uint8_t *mig_oracle_state(uint32_t *ret_len);
uint64_t mig_oracle_missing(void);
struct mig_oracle_seen {
    bool finish, hashes, packed, optional, list; /* list: of missing pages */
    bool disk, disk_hashes;
};
struct mig_oracle_seen mig_oracle_seen(void);

/* The copy of disk 0 after the rounds that Finish tells of. Valid until the next call. */
const uint8_t *mig_oracle_disk(void);
/* Memory after the rounds that Finish tells of (all so far, before it came). Pages that
 * were never sent do not exist. Valid until the next call. */
const struct engine_ram *mig_oracle_memory(void);
/* The first page in which `ram` differs from it; UINT64_MAX: none. Missing pages are not
 * touched; with `filled`, they have to be what came for them later. */
uint64_t mig_oracle_compare(const struct engine_ram *ram, bool filled);
