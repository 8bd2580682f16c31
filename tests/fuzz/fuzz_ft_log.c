/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lockstep log: a stream of records, as a file or a twin may bring it. First byte:
 * bit 0: checksums are mended, so that bodies are looked at. What is accepted encodes to
 * the same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "ft/ft_log.h"
#include "tests/fuzz/fuzz.h"

FUZZ_GOALS("a record", "several records", "an optional one", "a head", "an input",
           "an exit", "an output", "a state", "sums", "an end", "wrong crc", "wrong type",
           "out of turn", "bad body", "bad value", "a repair", "an output of a repair")

static uint8_t again[FT_RECORD_MAX];

static void same(struct bytes_wr *wr, const struct ft_record *r)
{
    BUG_ON(ft_finish(wr, r->seq) != r->len);
    BUG_ON(memcmp(again + FT_HEADER_LEN, r->body, r->body_len) != 0);
}

static void begin(struct bytes_wr *wr, const struct ft_record *r)
{
    ft_begin(wr, again, sizeof again, (enum ft_type)r->type, r->flags, r->exits,
             r->device);
}

static enum ft_reason body(const struct ft_record *r)
{
    static struct ft_sums sums;
    struct ft_disk disk;
    struct ft_said said;
    struct ft_head head;
    struct dev_input in;
    struct ft_exit x = {.kind = 0};
    struct ft_output out;
    struct ft_state state;
    struct ft_end end;
    struct bytes_wr wr;
    enum ft_reason reason = FT_BAD_TYPE;
    struct tape_out held;
    uint64_t v[2], set[FT_SET_FIELDS];

    begin(&wr, r);
    switch (r->type) {
    case FT_HEAD:
        reason = ft_get_head(r, &head);
        if (reason == FT_OK) {
            ft_put_head(&wr, &head);
        }
        break;
    case FT_INPUT:
        reason = ft_get_input(r, &in);
        if (reason == FT_OK) {
            ft_put_input(&wr, &in);
        }
        break;
    case FT_EXIT:
        reason = ft_get_exit(r, &x);
        if (reason == FT_OK) {
            ft_put_exit(&wr, &x);
        }
        break;
    case FT_OUTPUT:
        reason = ft_get_output(r, &out);
        if (reason == FT_OK) {
            ft_put_output(&wr, &out);
        }
        break;
    case FT_STATE:
        reason = ft_get_state(r, &state);
        if (reason == FT_OK) {
            ft_put_state(&wr, state.total, state.offset, state.bytes, state.len);
        }
        break;
    case FT_SUMS:
        reason = ft_get_sums(r, &sums);
        if (reason == FT_OK) {
            ft_put_sums(&wr, sums.pair[0], sums.count);
        }
        break;
    case FT_DISK:
        reason = ft_get_disk(r, &disk);
        if (reason == FT_OK) {
            ft_put_disk(&wr, &disk);
        }
        break;
    case FT_SAID:
        reason = ft_get_said(r, &said);
        if (reason == FT_OK) {
            ft_put_said(&wr, &said);
        }
        break;
    case FT_END:
        reason = ft_get_end(r, &end);
        if (reason == FT_OK) {
            ft_put_end(&wr, &end);
        }
        break;
    case FT_CLOCK:
    case FT_CONTROL:
        reason = ft_get_u64(r, v, 1);
        if (reason == FT_OK) {
            ft_put_u64(&wr, v[0]);
        }
        break;
    case FT_SET:
        reason = ft_get_u64(r, set, FT_SET_FIELDS);
        for (unsigned i = 0; reason == FT_OK && i < FT_SET_FIELDS; i++) {
            ft_put_u64(&wr, set[i]);
        }
        break;
    case FT_HELD:
        reason = ft_get_held(r, &v[0], &held);
        if (reason == FT_OK) {
            ft_put_held(&wr, v[0], &held);
        }
        break;
    default:
        return FT_BAD_TYPE;
    }
    if (reason == FT_OK) {
        same(&wr, r);
    }
    return reason;
}

static void mend(uint8_t *p, size_t len)
{
    uint32_t n, crc;

    for (size_t at = 0; len - at >= FT_HEADER_LEN; at += n) {
        n = ft_length(p + at);
        if (n == 0 || n > len - at) {
            return;
        }
        memset(p + at + 24, 0, sizeof crc);
        crc = crc32c(0, p + at, n);
        memcpy(p + at + 24, &crc, sizeof crc);
    }
}

static void stream(const uint8_t *data, size_t len)
{
    struct ft_follow follow = {0};
    struct ft_record r;
    unsigned count = 0;

    for (size_t at = 0; at < len; at += r.len) {
        enum ft_reason reason = ft_check(data + at, len - at, &r);

        fuzz_reach(10, reason == FT_BAD_CRC);
        fuzz_reach(11, reason == FT_BAD_TYPE);
        if (reason != FT_OK) {
            break;
        }
        BUG_ON(r.len > len - at || r.len < FT_HEADER_LEN);
        reason = ft_follow(&follow, &r);
        fuzz_reach(12, reason != FT_OK);
        fuzz_reach(0, true);
        fuzz_reach(1, ++count > 1);
        fuzz_reach(2, r.type >= FT_TYPE_COUNT);
        reason = body(&r);
        fuzz_reach(13, reason == FT_BAD_BODY);
        fuzz_reach(14, reason == FT_BAD_VALUE);
        fuzz_reach(15, reason == FT_OK && r.type == FT_SET);
        fuzz_reach(16, reason == FT_OK && r.type == FT_HELD);
        fuzz_reach(3, reason == FT_OK && r.type == FT_HEAD);
        fuzz_reach(4, reason == FT_OK && r.type == FT_INPUT);
        fuzz_reach(5, reason == FT_OK && r.type == FT_EXIT);
        fuzz_reach(6, reason == FT_OK && r.type == FT_OUTPUT);
        fuzz_reach(7, reason == FT_OK && r.type == FT_STATE);
        fuzz_reach(8, reason == FT_OK && r.type == FT_SUMS);
        fuzz_reach(9, reason == FT_OK && r.type == FT_END);
    }
}

FUZZ_ONE(data, len)
{
    uint8_t *copy;

    if (len < 2) {
        return 0;
    }
    copy = malloc(len - 1);
    memcpy(copy, data + 1, len - 1);
    if ((data[0] & 1) != 0) {
        mend(copy, len - 1);
    }
    stream(copy, len - 1);
    free(copy);
    return 0;
}
