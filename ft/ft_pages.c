/* SPDX-License-Identifier: Apache-2.0 */
#include "ft/ft_pages.h"

_Static_assert(MIG_RAM_HEAD_MAX + FT_PAGES_MAX * MIG_PAGE <= FT_BODY_MAX,
               "pages fit a record");

uint64_t ft_pages_fit(uint64_t first, uint64_t count, bool zero)
{
    uint64_t n = MIG_RAM_PAGES_MAX - first % MIG_RAM_PAGES_MAX;

    n = !zero && n > FT_PAGES_MAX ? FT_PAGES_MAX : n;
    return n < count ? n : count;
}

void ft_pages_put_head(struct bytes_wr *wr, struct mig_ram *ram, uint64_t first,
                       uint64_t count, bool zero)
{
    uint8_t head[MIG_RAM_HEAD_MAX];

    mig_ram_begin(ram, 0);
    mig_ram_add(ram, zero ? MIG_RAM_ZERO : MIG_RAM_RAW, first, (uint32_t)count);
    bytes_wr_copy(wr, head, mig_ram_encode(ram, head));
}

void ft_pages_put(struct bytes_wr *wr, struct mig_ram *ram, uint64_t first,
                  uint64_t count, const uint8_t *bytes)
{
    ft_pages_put_head(wr, ram, first, count, bytes == NULL);
    bytes_wr_copy(wr, bytes, mig_ram_payload(ram));
}

enum ft_reason ft_pages_get(const struct ft_record *record, uint64_t page_count,
                            struct mig_ram *ram, const uint8_t **ret_bytes)
{
    struct mig_ram_conf conf = {.page_count = page_count, .n_streams = 1};
    enum mig_ram_reason reason;
    size_t head;

    if (record->body_len < MIG_RAM_FIXED_LEN ||
        (head = mig_ram_head_len(record->body, record->body_len, &reason)) == 0 ||
        head > record->body_len ||
        mig_ram_decode(&conf, record->body, head, record->body_len, ram) != MIG_RAM_OK ||
        head + ram->raw_pages * MIG_PAGE != record->body_len) {
        return FT_BAD_BODY;
    }
    *ret_bytes = record->body + head;
    return FT_OK;
}
