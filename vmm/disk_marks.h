/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which parts of a disk the guest has written to: a bit per granule of 64 KiB, kept
 * twice. *Fresh*: since the last collect, for a copy that is being made. *Since base*:
 * since another node's copy was equal to this disk (a base has a name), so that this copy
 * can be brought up to date later without the rest.
 *
 * A granule is marked when a write of it was answered, whatever the answer, and before
 * the guest hears of it. Who collects first and reads the disk then loses nothing: a
 * write that was under way is marked afterwards. Words change by atomic operations: one
 * thread or several may mark while another collects. Pure; the words are the caller's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/units.h"

#define DISK_GRANULE_SHIFT 16
#define DISK_GRANULE       (UINT64_C(1) << DISK_GRANULE_SHIFT) /* bytes */

struct disk_marks {
    uint64_t granules;
    uint64_t *fresh, *since; /* bit g % 64 of word g / 64 is granule g */
    struct uuid base;        /* none: there is none */
};

static inline uint64_t disk_marks_granules(uint64_t sectors)
{
    return (sectors + DISK_GRANULE / 512 - 1) / (DISK_GRANULE / 512);
}
/* Words of one of the two maps. */
static inline uint64_t disk_marks_words(uint64_t sectors)
{
    return (disk_marks_granules(sectors) + 63) / 64;
}

/* `words`: twice disk_marks_words(sectors), all zeros. */
void disk_marks_init(struct disk_marks *m, uint64_t *words, uint64_t sectors);
/* `sector` and `bytes` come from the guest: what is not on the disk is not marked. */
void disk_marks_add(struct disk_marks *m, uint64_t sector, uint64_t bytes);
/* Or-s what is fresh into `bitmap` (disk_marks_words words), and forgets it. How many
 * granules were fresh. */
uint64_t disk_marks_collect(struct disk_marks *m, uint64_t *bitmap);
/* Or-s what was written since `base` into `bitmap`. False: that is not its base. */
bool disk_marks_since(const struct disk_marks *m, const struct uuid *base,
                      uint64_t *bitmap);
/* There is a copy that is equal to the disk as it is now: nothing may be under way. */
void disk_marks_rebase(struct disk_marks *m, const struct uuid *base);
