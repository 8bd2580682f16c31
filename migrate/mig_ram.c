/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_ram.h"

#include "base/bug.h"
#include "base/bytes.h"

#define KIND_SHIFT 60
#define PAGE_MASK  ((UINT64_C(1) << KIND_SHIFT) - 1)

/* Does [first, first + count) lie in one block? count from 1. */
static bool in_one_block(uint64_t first, uint64_t count)
{
    return count <= MIG_BLOCK_PAGES - first % MIG_BLOCK_PAGES;
}

/* Building --------------------------------------------------------------------------- */
void mig_ram_begin(struct mig_ram *ram, uint32_t round)
{
    ram->round = round;
    ram->has_crc = false;
    ram->crc = 0;
    ram->run_count = 0;
    ram->raw_pages = 0;
    ram->packed = 0;
    ram->pages = 0;
}

uint32_t mig_ram_room(const struct mig_ram *ram)
{
    uint32_t runs = MIG_RAM_RUNS_MAX - ram->run_count;
    uint32_t pages = MIG_RAM_PAGES_MAX - ram->raw_pages;

    return runs < pages ? runs : pages;
}

void mig_ram_add(struct mig_ram *ram, enum mig_ram_kind kind, uint64_t first,
                 uint32_t count)
{
    struct mig_ram_run *last = ram->run_count > 0 ? &ram->run[ram->run_count - 1] : NULL;

    BUG_ON(count == 0 || !in_one_block(first, count) || first > PAGE_MASK - count);
    BUG_ON(last != NULL && first < last->first + last->count);
    if (kind == MIG_RAM_RAW) {
        BUG_ON(count > MIG_RAM_PAGES_MAX - ram->raw_pages);
        ram->raw_pages += count;
    }
    ram->pages += count;
    if (last != NULL && last->kind == kind && last->first + last->count == first &&
        in_one_block(last->first, (uint64_t)last->count + count)) {
        last->count += count;
        return;
    }
    BUG_ON(ram->run_count == MIG_RAM_RUNS_MAX);
    ram->run[ram->run_count++] = (struct mig_ram_run){first, count, kind};
}

size_t mig_ram_encode(const struct mig_ram *ram, uint8_t head[static MIG_RAM_HEAD_MAX])
{
    struct bytes_wr wr = bytes_wr_make(head, MIG_RAM_HEAD_MAX);

    BUG_ON(ram->run_count == 0);
    bytes_wr_u16(&wr, (uint16_t)((ram->has_crc ? MIG_RAM_F_CRC : 0) |
                                 (ram->packed != 0 ? MIG_RAM_F_ZSTD : 0)));
    bytes_wr_u16(&wr, (uint16_t)ram->run_count);
    bytes_wr_u32(&wr, mig_ram_payload(ram));
    bytes_wr_u32(&wr, ram->round);
    bytes_wr_u32(&wr, ram->has_crc ? ram->crc : 0);
    for (uint32_t i = 0; i < ram->run_count; i++) {
        bytes_wr_u64(&wr, ram->run[i].first | (uint64_t)ram->run[i].kind << KIND_SHIFT);
        bytes_wr_u32(&wr, ram->run[i].count);
        bytes_wr_u32(&wr, 0);
    }
    BUG_ON(wr.failed);
    return wr.pos;
}

uint32_t mig_ram_payload(const struct mig_ram *ram)
{
    return ram->packed != 0 ? ram->packed : ram->raw_pages * (uint32_t)MIG_PAGE;
}

size_t mig_ram_iov(const struct mig_ram *ram, uint8_t *base,
                   struct iovec iov[static MIG_RAM_RUNS_MAX])
{
    size_t count = 0;

    for (uint32_t i = 0; i < ram->run_count; i++) {
        const struct mig_ram_run *run = &ram->run[i];
        uint8_t *host = base + run->first * MIG_PAGE;

        if (run->kind != MIG_RAM_RAW) {
            continue;
        }
        if (count > 0 &&
            (uint8_t *)iov[count - 1].iov_base + iov[count - 1].iov_len == host) {
            iov[count - 1].iov_len += run->count * MIG_PAGE;
        } else {
            iov[count++] = (struct iovec){host, run->count * MIG_PAGE};
        }
    }
    return count;
}

/* Receiving -------------------------------------------------------------------------- */
size_t mig_ram_head_len(const uint8_t fixed[static MIG_RAM_FIXED_LEN], uint64_t body_len,
                        enum mig_ram_reason *ret_reason)
{
    struct bytes_rd rd = bytes_rd_make(fixed + 2, 2);
    uint32_t runs = bytes_rd_u16(&rd);
    size_t len = MIG_RAM_FIXED_LEN + (size_t)runs * MIG_RAM_RUN_LEN;

    *ret_reason = runs == 0 || runs > MIG_RAM_RUNS_MAX ? MIG_RAM_BAD_COUNT
                  : len > body_len                     ? MIG_RAM_SHORT
                                                       : MIG_RAM_OK;
    return *ret_reason == MIG_RAM_OK ? len : 0;
}

static enum mig_ram_reason decode_run(const struct mig_ram_conf *conf,
                                      struct bytes_rd *rd, uint64_t behind,
                                      struct mig_ram_run *ret)
{
    uint64_t where = bytes_rd_u64(rd), first = where & PAGE_MASK;
    uint64_t kind = where >> KIND_SHIFT;
    uint32_t count = bytes_rd_u32(rd);

    if (bytes_rd_u32(rd) != 0) {
        return MIG_RAM_BAD_RESERVED;
    }
    if (kind > MIG_RAM_DISCARD || (kind == MIG_RAM_DISCARD && !conf->discard)) {
        return MIG_RAM_BAD_KIND;
    }
    if (count == 0 || first >= conf->page_count || count > conf->page_count - first ||
        !in_one_block(first, count)) {
        return MIG_RAM_BAD_RANGE;
    }
    if (first < behind) {
        return MIG_RAM_BAD_ORDER;
    }
    if (mig_stream_of(first, conf->n_streams) != conf->stream) {
        return MIG_RAM_BAD_STREAM;
    }
    *ret = (struct mig_ram_run){first, count, (enum mig_ram_kind)kind};
    return MIG_RAM_OK;
}

static enum mig_ram_reason decode_runs(const struct mig_ram_conf *conf,
                                       struct bytes_rd *rd, struct mig_ram *ram)
{
    uint64_t behind = 0;

    for (uint32_t i = 0; i < ram->run_count; i++) {
        struct mig_ram_run *run = &ram->run[i];
        enum mig_ram_reason reason = decode_run(conf, rd, behind, run);

        if (reason != MIG_RAM_OK) {
            return reason;
        }
        behind = run->first + run->count;
        ram->pages += run->count;
        if (run->kind == MIG_RAM_RAW) {
            ram->raw_pages += run->count;
        }
    }
    return MIG_RAM_OK;
}

enum mig_ram_reason mig_ram_decode(const struct mig_ram_conf *conf, const uint8_t *head,
                                   size_t len, uint64_t body_len, struct mig_ram *ret)
{
    struct bytes_rd rd = bytes_rd_make(head, len);
    enum mig_ram_reason reason;
    uint16_t flags;
    uint32_t payload;

    if (len < MIG_RAM_FIXED_LEN) {
        return MIG_RAM_SHORT;
    }
    if (mig_ram_head_len(head, body_len, &reason) != len) {
        return reason != MIG_RAM_OK ? reason : MIG_RAM_SHORT;
    }
    mig_ram_begin(ret, 0);
    flags = bytes_rd_u16(&rd);
    ret->run_count = bytes_rd_u16(&rd);
    payload = bytes_rd_u32(&rd);
    ret->round = bytes_rd_u32(&rd);
    ret->crc = bytes_rd_u32(&rd);
    ret->has_crc = (flags & MIG_RAM_F_CRC) != 0;
    if ((flags & ~(MIG_RAM_F_CRC | MIG_RAM_F_ZSTD)) != 0 ||
        ((flags & MIG_RAM_F_ZSTD) != 0 && !conf->zstd) || ret->has_crc != conf->crc ||
        (!ret->has_crc && ret->crc != 0)) {
        return MIG_RAM_BAD_FLAGS;
    }
    reason = decode_runs(conf, &rd, ret);
    if (reason != MIG_RAM_OK) {
        return reason;
    }
    if (ret->raw_pages > MIG_RAM_PAGES_MAX || body_len - len != payload) {
        return MIG_RAM_BAD_SUM;
    }
    if ((flags & MIG_RAM_F_ZSTD) != 0) {
        ret->packed = payload;
        return payload > 0 && payload < ret->raw_pages * MIG_PAGE ? MIG_RAM_OK
                                                                  : MIG_RAM_BAD_SUM;
    }
    return payload == ret->raw_pages * MIG_PAGE ? MIG_RAM_OK : MIG_RAM_BAD_SUM;
}

const char *mig_ram_reason_str(enum mig_ram_reason reason)
{
    static const char *const text[] = {
        [MIG_RAM_OK] = "ok",
        [MIG_RAM_SHORT] = "frame is shorter than its list of runs",
        [MIG_RAM_BAD_FLAGS] = "flags that were not agreed on",
        [MIG_RAM_BAD_COUNT] = "no run of pages, or too many",
        [MIG_RAM_BAD_RESERVED] = "reserved bytes are not zero",
        [MIG_RAM_BAD_KIND] = "a kind of run that was not agreed on",
        [MIG_RAM_BAD_RANGE] = "pages outside of memory, or across a 2 MiB block",
        [MIG_RAM_BAD_ORDER] = "runs overlap, or are not in order",
        [MIG_RAM_BAD_STREAM] = "pages of another stream",
        [MIG_RAM_BAD_SUM] = "length disagrees with the pages",
    };

    return (size_t)reason < sizeof text / sizeof text[0] ? text[reason]
                                                         : "unknown reason";
}

/* ROUND_END -------------------------------------------------------------------------- */
void mig_round_end_encode(const struct mig_round_end *end,
                          uint8_t body[static MIG_ROUND_END_LEN])
{
    struct bytes_wr wr = bytes_wr_make(body, MIG_ROUND_END_LEN);

    bytes_wr_u32(&wr, end->round);
    bytes_wr_u32(&wr, 0);
    bytes_wr_u64(&wr, end->frames);
    bytes_wr_u64(&wr, end->pages);
    BUG_ON(wr.failed);
}

bool mig_round_end_decode(const void *body, size_t len, struct mig_round_end *ret)
{
    struct bytes_rd rd = bytes_rd_make(body, len);
    struct mig_round_end end;
    uint32_t reserved;

    end.round = bytes_rd_u32(&rd);
    reserved = bytes_rd_u32(&rd);
    end.frames = bytes_rd_u64(&rd);
    end.pages = bytes_rd_u64(&rd);
    if (!bytes_rd_done(&rd) || reserved != 0) {
        return false;
    }
    *ret = end;
    return true;
}
