/* SPDX-License-Identifier: Apache-2.0 */
#include "ft/ft_wire.h"

#include "base/bytes.h"

void ft_log_head_put(const struct ft_log_head *head, uint8_t body[static FT_LOG_HEAD_LEN])
{
    struct bytes_wr wr = bytes_wr_make(body, FT_LOG_HEAD_LEN);

    bytes_wr_u64(&wr, head->released);
    bytes_wr_u64(&wr, head->now_ns);
    bytes_wr_u64(&wr, head->exits);
}

void ft_log_head_get(const uint8_t body[static FT_LOG_HEAD_LEN],
                     struct ft_log_head *ret_head)
{
    struct bytes_rd rd = bytes_rd_make(body, FT_LOG_HEAD_LEN);

    ret_head->released = bytes_rd_u64(&rd);
    ret_head->now_ns = bytes_rd_u64(&rd);
    ret_head->exits = bytes_rd_u64(&rd);
}

void ft_ack_put(const struct ft_ack *ack, uint8_t body[static FT_ACK_LEN])
{
    struct bytes_wr wr = bytes_wr_make(body, FT_ACK_LEN);

    bytes_wr_u64(&wr, ack->received);
    bytes_wr_u64(&wr, ack->replayed);
    bytes_wr_u64(&wr, ack->verified);
    bytes_wr_u64(&wr, ack->flushed);
    bytes_wr_u64(&wr, ack->barrier);
}

bool ft_ack_get(const void *body, size_t len, struct ft_ack *ret_ack)
{
    struct bytes_rd rd = bytes_rd_make(body, len);

    ret_ack->received = bytes_rd_u64(&rd);
    ret_ack->replayed = bytes_rd_u64(&rd);
    ret_ack->verified = bytes_rd_u64(&rd);
    ret_ack->flushed = bytes_rd_u64(&rd);
    ret_ack->barrier = bytes_rd_u64(&rd);
    return bytes_rd_done(&rd);
}

void ft_word_put(const struct ft_word *word, uint8_t body[static FT_WORD_LEN])
{
    struct bytes_wr wr = bytes_wr_make(body, FT_WORD_LEN);

    bytes_wr_u32(&wr, (uint32_t)word->kind);
    bytes_wr_u32(&wr, 0);
    bytes_wr_u64(&wr, word->epoch);
    bytes_wr_u64(&wr, word->number);
}

bool ft_word_get(const void *body, size_t len, struct ft_word *ret_word)
{
    struct bytes_rd rd = bytes_rd_make(body, len);
    uint32_t kind = bytes_rd_u32(&rd), zero = bytes_rd_u32(&rd);

    ret_word->kind = (enum ft_word_kind)kind;
    ret_word->epoch = bytes_rd_u64(&rd);
    ret_word->number = bytes_rd_u64(&rd);
    return bytes_rd_done(&rd) && kind > 0 && kind < FT_WORD_KINDS && zero == 0;
}

#define F_DIVERGED UINT32_C(1)

void ft_hashes_put(const struct ft_hashes *h, uint8_t body[static FT_HASHES_HEAD_LEN])
{
    struct bytes_wr wr = bytes_wr_make(body, FT_HASHES_HEAD_LEN);

    bytes_wr_u64(&wr, h->barrier);
    bytes_wr_u64(&wr, h->verified);
    bytes_wr_u64(&wr, h->total);
    bytes_wr_u64(&wr, h->first);
    bytes_wr_u32(&wr, h->count);
    bytes_wr_u32(&wr, h->diverged ? F_DIVERGED : 0);
    bytes_wr_copy(&wr, h->state.b, sizeof h->state.b);
    bytes_wr_u64(&wr, 0);
}

void ft_hash_put(const struct ft_hash *hash, uint8_t entry[static FT_HASH_LEN])
{
    struct bytes_wr wr = bytes_wr_make(entry, FT_HASH_LEN);

    bytes_wr_u64(&wr, hash->page);
    bytes_wr_copy(&wr, hash->sum.b, sizeof hash->sum.b);
}

void ft_hash_get(const uint8_t entry[static FT_HASH_LEN], struct ft_hash *ret)
{
    struct bytes_rd rd = bytes_rd_make(entry, FT_HASH_LEN);

    ret->page = bytes_rd_u64(&rd);
    bytes_rd_copy(&rd, ret->sum.b, sizeof ret->sum.b);
}

static bool ascending(const struct ft_hashes *h, uint64_t page_count)
{
    struct ft_hash hash;
    uint64_t least = h->first; /* so many smaller ones came before */

    for (uint32_t i = 0; i < h->count; i++) {
        ft_hash_get(h->entries + i * FT_HASH_LEN, &hash);
        if (hash.page < least || hash.page >= page_count) {
            return false;
        }
        least = hash.page + 1;
    }
    return true;
}

bool ft_hashes_get(const void *body, size_t len, uint64_t page_count,
                   struct ft_hashes *ret)
{
    struct bytes_rd rd = bytes_rd_make(body, len);
    uint32_t flags;
    uint64_t zero;

    ret->barrier = bytes_rd_u64(&rd);
    ret->verified = bytes_rd_u64(&rd);
    ret->total = bytes_rd_u64(&rd);
    ret->first = bytes_rd_u64(&rd);
    ret->count = bytes_rd_u32(&rd);
    flags = bytes_rd_u32(&rd);
    bytes_rd_copy(&rd, ret->state.b, sizeof ret->state.b);
    zero = bytes_rd_u64(&rd);
    if (rd.failed || zero != 0 || flags > F_DIVERGED || ret->barrier == 0 ||
        ret->total > page_count || ret->count > FT_HASHES_MAX ||
        ret->first > ret->total || ret->count > ret->total - ret->first ||
        (ret->count == 0) != (ret->total == 0)) {
        return false;
    }
    ret->diverged = flags != 0;
    ret->entries = bytes_rd_view(&rd, ret->count * FT_HASH_LEN);
    return bytes_rd_done(&rd) && ascending(ret, page_count);
}
