/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk_marks.h"

#include "base/uuid.h"

#define WORD_BITS 64u
#define SECTOR    512u

void disk_marks_init(struct disk_marks *m, uint64_t *words, uint64_t sectors)
{
    *m = (struct disk_marks){.granules = disk_marks_granules(sectors),
                             .fresh = words,
                             .since = words + disk_marks_words(sectors)};
}

static void set(uint64_t *words, uint64_t granule)
{
    uint64_t *word = &words[granule / WORD_BITS];
    uint64_t bit = UINT64_C(1) << granule % WORD_BITS;

    if ((__atomic_load_n(word, __ATOMIC_RELAXED) & bit) == 0) {
        __atomic_fetch_or(word, bit, __ATOMIC_RELEASE);
    }
}

void disk_marks_add(struct disk_marks *m, uint64_t sector, uint64_t bytes)
{
    uint64_t first = sector / (DISK_GRANULE / SECTOR);
    uint64_t last = sector + (bytes > 0 ? (bytes - 1) / SECTOR : 0);

    if (bytes == 0 || first >= m->granules || last < sector) {
        return;
    }
    last /= DISK_GRANULE / SECTOR;
    last = last < m->granules ? last : m->granules - 1;
    for (uint64_t g = first; g <= last; g++) {
        set(m->fresh, g);
        if (!uuid_is_none(m->base)) {
            set(m->since, g);
        }
    }
}

uint64_t disk_marks_collect(struct disk_marks *m, uint64_t *bitmap)
{
    uint64_t words = (m->granules + WORD_BITS - 1) / WORD_BITS, count = 0;

    for (uint64_t i = 0; i < words; i++) {
        uint64_t word = 0;

        if (__atomic_load_n(&m->fresh[i], __ATOMIC_RELAXED) != 0) {
            word = __atomic_exchange_n(&m->fresh[i], 0, __ATOMIC_ACQ_REL);
        }
        bitmap[i] |= word;
        count += (uint64_t)__builtin_popcountll(word);
    }
    return count;
}

bool disk_marks_since(const struct disk_marks *m, const struct uuid *base,
                      uint64_t *bitmap)
{
    uint64_t words = (m->granules + WORD_BITS - 1) / WORD_BITS;

    if (uuid_is_none(*base) || !uuid_equal(*base, m->base)) {
        return false;
    }
    for (uint64_t i = 0; i < words; i++) {
        bitmap[i] |= __atomic_load_n(&m->since[i], __ATOMIC_ACQUIRE);
    }
    return true;
}

void disk_marks_rebase(struct disk_marks *m, const struct uuid *base)
{
    uint64_t words = (m->granules + WORD_BITS - 1) / WORD_BITS;

    for (uint64_t i = 0; i < words; i++) {
        __atomic_store_n(&m->since[i], 0, __ATOMIC_RELAXED);
    }
    m->base = *base;
}
