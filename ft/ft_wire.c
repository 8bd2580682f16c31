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
