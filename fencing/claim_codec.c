/* SPDX-License-Identifier: Apache-2.0 */
/* owner.N and owner.N.released on disk: one frame each. The reader treats every byte as
 * hostile. */
#include <string.h>

#include "base/bytes.h"
#include "base/frame.h"
#include "base/uuid.h"
#include "fencing/claim.h"

#define RELEASE_SUSPENDED UINT32_C(1)

static void put_uuid(struct bytes_wr *wr, struct uuid u)
{
    bytes_wr_copy(wr, u.b, sizeof(u.b));
}

static struct uuid get_uuid(struct bytes_rd *rd)
{
    struct uuid u = {{0}};

    bytes_rd_copy(rd, u.b, sizeof(u.b));
    return u;
}

static void put_who(struct bytes_wr *wr, const struct claim_who *who)
{
    bytes_wr_u32(wr, who->node_id);
    put_uuid(wr, who->inc.boot_id);
    bytes_wr_u64(wr, who->inc.join);
    put_uuid(wr, who->instance);
}

static struct claim_who get_who(struct bytes_rd *rd)
{
    struct claim_who who;

    memset(&who, 0, sizeof(who));
    who.node_id = bytes_rd_u32(rd);
    who.inc.boot_id = get_uuid(rd);
    who.inc.join = bytes_rd_u64(rd);
    who.instance = get_uuid(rd);
    return who;
}

static bool who_is_sane(const struct claim_who *who)
{
    return who->node_id != 0 && !incarnation_is_none(&who->inc) &&
           !uuid_is_none(who->instance);
}

static bool who_is_blank(const struct claim_who *who)
{
    return who->node_id == 0 && incarnation_is_none(&who->inc) &&
           uuid_is_none(who->instance);
}

static bool name_is_sane(const char *name)
{
    size_t len = strnlen(name, NODE_NAME_MAX + 1);

    if (len == 0 || len > NODE_NAME_MAX) {
        return false;
    }
    /* Shown on terminals and put into commands. */
    for (size_t i = 0; i < len; i++) {
        if (name[i] <= ' ' || name[i] > '~') {
            return false;
        }
    }
    return true;
}

static bool displaced_are_sane(const struct claim *c)
{
    for (uint32_t i = 0; i < c->unexcluded_count; i++) {
        const struct claim_displaced *d = &c->unexcluded[i];

        if (!who_is_sane(&d->who) || d->epoch == 0 || d->epoch >= c->epoch ||
            uuid_equal(d->who.instance, c->owner.instance)) {
            return false;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (uuid_equal(d->who.instance, c->unexcluded[k].who.instance)) {
                return false;
            }
        }
    }
    return true;
}

static bool mirrors_are_sane(const struct claim *c)
{
    for (uint32_t i = 0; i < c->mirror_count; i++) {
        if (c->mirror_nodes[i] == 0) {
            return false;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (c->mirror_nodes[i] == c->mirror_nodes[k]) {
                return false;
            }
        }
    }
    return true;
}

/* One rule for what is written and what is read: an insane claim is never linked. */
static bool claim_is_sane(const struct claim *c)
{
    if (uuid_is_none(c->vm) || c->epoch == 0 || uuid_is_none(c->attempt) ||
        !name_is_sane(c->node_name) || !who_is_sane(&c->owner)) {
        return false;
    }
    if (!who_is_blank(&c->twin) &&
        (!who_is_sane(&c->twin) || uuid_equal(c->twin.instance, c->owner.instance))) {
        return false;
    }
    return c->mirror_count <= CLAIM_MIRRORS_MAX &&
           c->unexcluded_count <= CLAIM_UNEXCLUDED_MAX && mirrors_are_sane(c) &&
           displaced_are_sane(c);
}

static bool release_is_sane(const struct claim_release *r)
{
    if (uuid_is_none(r->vm) || r->epoch == 0 || uuid_is_none(r->instance) ||
        uuid_equal(r->instance, r->to)) {
        return false;
    }
    return !r->suspended || uuid_is_none(r->to);
}

static size_t finish(struct bytes_wr *wr, uint16_t type, uint64_t epoch, void *buf,
                     size_t cap)
{
    if (wr->failed) {
        return 0;
    }

    const struct frame frame = {
        .type = type,
        .version = CLAIM_VERSION,
        .seq = epoch,
        .body = wr->buf,
        .body_len = (uint32_t)wr->pos,
    };

    return frame_encode(&frame, CLAIM_MAGIC, buf, cap);
}

size_t claim_encode(const struct claim *c, void *buf, size_t cap)
{
    if (cap < FRAME_HEADER_LEN || !claim_is_sane(c)) {
        return 0;
    }

    struct bytes_wr wr =
        bytes_wr_make((uint8_t *)buf + FRAME_HEADER_LEN, cap - FRAME_HEADER_LEN);

    put_uuid(&wr, c->vm);
    bytes_wr_u64(&wr, c->epoch);
    put_uuid(&wr, c->attempt);
    bytes_wr_str(&wr, c->node_name);
    put_who(&wr, &c->owner);
    put_who(&wr, &c->twin);
    bytes_wr_u32(&wr, c->mirror_count);
    for (uint32_t i = 0; i < c->mirror_count; i++) {
        bytes_wr_u32(&wr, c->mirror_nodes[i]);
    }
    bytes_wr_u32(&wr, c->unexcluded_count);
    for (uint32_t i = 0; i < c->unexcluded_count; i++) {
        put_who(&wr, &c->unexcluded[i].who);
        bytes_wr_u64(&wr, c->unexcluded[i].epoch);
    }
    return finish(&wr, CLAIM_FRAME_TYPE, c->epoch, buf, cap);
}

size_t claim_release_encode(const struct claim_release *r, void *buf, size_t cap)
{
    if (cap < FRAME_HEADER_LEN || !release_is_sane(r)) {
        return 0;
    }

    struct bytes_wr wr =
        bytes_wr_make((uint8_t *)buf + FRAME_HEADER_LEN, cap - FRAME_HEADER_LEN);

    put_uuid(&wr, r->vm);
    bytes_wr_u64(&wr, r->epoch);
    put_uuid(&wr, r->instance);
    put_uuid(&wr, r->to);
    bytes_wr_u32(&wr, r->suspended ? RELEASE_SUSPENDED : 0);
    bytes_wr_copy(&wr, r->digest, sizeof(r->digest));
    return finish(&wr, RELEASE_FRAME_TYPE, r->epoch, buf, cap);
}

static enum claim_decode_reason open_frame(const void *buf, size_t len, uint16_t type,
                                           struct frame *ret_frame)
{
    if (len == 0) {
        return CLAIM_DECODE_EMPTY;
    }
    if (len > CLAIM_ENCODED_MAX) {
        return CLAIM_DECODE_TOO_LONG;
    }
    switch (frame_check(buf, len, CLAIM_MAGIC, CLAIM_ENCODED_MAX, ret_frame)) {
    case FRAME_OK:
        break;
    case FRAME_NEED_MORE:
        return CLAIM_DECODE_TORN;
    case FRAME_BAD_MAGIC:
        return CLAIM_DECODE_BAD_MAGIC;
    case FRAME_BAD_HEADER_CRC:
    case FRAME_BAD_BODY_CRC:
        return CLAIM_DECODE_BAD_CRC;
    case FRAME_BAD_VERSION:
        return CLAIM_DECODE_BAD_VERSION;
    case FRAME_TOO_LONG:
        return CLAIM_DECODE_TOO_LONG;
    case FRAME_BAD_TYPE:
        return CLAIM_DECODE_BAD_TYPE;
    case FRAME_BAD_RESERVED:
        return CLAIM_DECODE_BAD_VALUE;
    }
    if (ret_frame->type != type) {
        return CLAIM_DECODE_BAD_TYPE;
    }
    if (ret_frame->version != CLAIM_VERSION) {
        return CLAIM_DECODE_BAD_VERSION;
    }
    if (FRAME_HEADER_LEN + (size_t)ret_frame->body_len != len) {
        return CLAIM_DECODE_TRAILING;
    }
    return CLAIM_DECODE_OK;
}

static enum claim_decode_reason check_identity(struct uuid vm, uint64_t epoch,
                                               struct uuid got_vm, uint64_t got_epoch,
                                               uint64_t frame_seq)
{
    if (got_epoch != frame_seq) {
        return CLAIM_DECODE_BAD_VALUE;
    }
    if (!uuid_is_none(vm) && !uuid_equal(vm, got_vm)) {
        return CLAIM_DECODE_WRONG_VM;
    }
    if (epoch != 0 && epoch != got_epoch) {
        return CLAIM_DECODE_WRONG_EPOCH;
    }
    return CLAIM_DECODE_OK;
}

static bool get_claim(struct bytes_rd *rd, struct claim *c)
{
    c->vm = get_uuid(rd);
    c->epoch = bytes_rd_u64(rd);
    c->attempt = get_uuid(rd);
    bytes_rd_str(rd, c->node_name, sizeof(c->node_name));
    c->owner = get_who(rd);
    c->twin = get_who(rd);
    c->mirror_count = bytes_rd_u32(rd);
    if (rd->failed || c->mirror_count > CLAIM_MIRRORS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < c->mirror_count; i++) {
        c->mirror_nodes[i] = bytes_rd_u32(rd);
    }
    c->unexcluded_count = bytes_rd_u32(rd);
    if (rd->failed || c->unexcluded_count > CLAIM_UNEXCLUDED_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < c->unexcluded_count; i++) {
        c->unexcluded[i].who = get_who(rd);
        c->unexcluded[i].epoch = bytes_rd_u64(rd);
    }
    return bytes_rd_done(rd);
}

enum claim_decode_reason claim_decode(const void *buf, size_t len, struct uuid vm,
                                      uint64_t epoch, struct claim *ret_claim)
{
    struct frame frame;
    struct claim c;
    enum claim_decode_reason r = open_frame(buf, len, CLAIM_FRAME_TYPE, &frame);

    if (r != CLAIM_DECODE_OK) {
        return r;
    }

    struct bytes_rd rd = bytes_rd_make(frame.body, frame.body_len);

    memset(&c, 0, sizeof(c));
    if (!get_claim(&rd, &c) || !claim_is_sane(&c)) {
        return CLAIM_DECODE_BAD_VALUE;
    }
    r = check_identity(vm, epoch, c.vm, c.epoch, frame.seq);
    if (r == CLAIM_DECODE_OK) {
        *ret_claim = c;
    }
    return r;
}

enum claim_decode_reason claim_release_decode(const void *buf, size_t len, struct uuid vm,
                                              uint64_t epoch,
                                              struct claim_release *ret_release)
{
    struct frame frame;
    struct claim_release rel;
    enum claim_decode_reason r = open_frame(buf, len, RELEASE_FRAME_TYPE, &frame);

    if (r != CLAIM_DECODE_OK) {
        return r;
    }

    struct bytes_rd rd = bytes_rd_make(frame.body, frame.body_len);

    memset(&rel, 0, sizeof(rel));
    rel.vm = get_uuid(&rd);
    rel.epoch = bytes_rd_u64(&rd);
    rel.instance = get_uuid(&rd);
    rel.to = get_uuid(&rd);
    uint32_t flags = bytes_rd_u32(&rd);
    bytes_rd_copy(&rd, rel.digest, sizeof(rel.digest));
    rel.suspended = (flags & RELEASE_SUSPENDED) != 0;
    if (!bytes_rd_done(&rd) || (flags & ~RELEASE_SUSPENDED) != 0 ||
        !release_is_sane(&rel)) {
        return CLAIM_DECODE_BAD_VALUE;
    }
    r = check_identity(vm, epoch, rel.vm, rel.epoch, frame.seq);
    if (r == CLAIM_DECODE_OK) {
        *ret_release = rel;
    }
    return r;
}
