/* SPDX-License-Identifier: Apache-2.0 */
#include "ft/ft_log.h"

#include <string.h>

#include "base/crc32c.h"
#include "vmm/machine.h"

#define ALIGN  8u
#define CRC_AT 24u

_Static_assert(4 + 2 + 2 + 8 + 8 + 4 + 4 == FT_HEADER_LEN, "record header layout");
_Static_assert(FT_RECORD_MAX % ALIGN == 0, "the longest record is a whole one");
_Static_assert(BLK_REQUEST_MAX + 128 < FT_BODY_MAX, "the longest input fits");

/* Writing -------------------------------------------------------------------------- */

static void put_zeros(struct bytes_wr *wr, size_t count)
{
    while (count-- > 0) {
        bytes_wr_u8(wr, 0);
    }
}

void ft_begin(struct bytes_wr *wr, void *buf, size_t cap, enum ft_type type,
              uint16_t flags, uint64_t exits, uint32_t device)
{
    *wr = bytes_wr_make(buf, cap < FT_RECORD_MAX ? cap : FT_RECORD_MAX);
    bytes_wr_u32(wr, 0);
    bytes_wr_u16(wr, (uint16_t)type);
    bytes_wr_u16(wr, flags);
    bytes_wr_u64(wr, 0);
    bytes_wr_u64(wr, exits);
    bytes_wr_u32(wr, 0);
    bytes_wr_u32(wr, device);
}

size_t ft_finish(struct bytes_wr *wr, uint64_t seq)
{
    struct bytes_wr head;
    size_t len;

    put_zeros(wr, (ALIGN - wr->pos % ALIGN) % ALIGN);
    if (wr->failed) {
        return 0;
    }
    len = wr->pos;
    head = bytes_wr_make(wr->buf, FT_HEADER_LEN);
    bytes_wr_u32(&head, (uint32_t)len);
    head.pos = 8;
    bytes_wr_u64(&head, seq);
    head.pos = CRC_AT;
    bytes_wr_u32(&head, crc32c(0, wr->buf, len));
    return len;
}

static void put_sum(struct bytes_wr *wr, const struct ft_sum *sum)
{
    bytes_wr_copy(wr, sum->b, sizeof sum->b);
}

void ft_put_head(struct bytes_wr *wr, const struct ft_head *head)
{
    uint16_t cmdline = (uint16_t)strnlen(head->cmdline, sizeof head->cmdline);

    bytes_wr_u32(wr, FT_FORMAT);
    bytes_wr_u32(wr, head->machine);
    bytes_wr_u64(wr, head->ram_len);
    bytes_wr_u64(wr, head->cpuid);
    put_sum(wr, &head->firmware);
    put_sum(wr, &head->kernel);
    put_sum(wr, &head->initrd);
    bytes_wr_u64(wr, head->epoch);
    bytes_wr_u8(wr, head->crash_on_triple_fault);
    bytes_wr_u8(wr, head->disk_count);
    bytes_wr_u8(wr, head->nic_count);
    bytes_wr_u8(wr, 0);
    bytes_wr_u16(wr, cmdline);
    bytes_wr_u16(wr, 0);
    for (unsigned i = 0; i < head->disk_count; i++) {
        bytes_wr_u64(wr, head->disk[i].sectors);
        bytes_wr_u8(wr, head->disk[i].read_only);
        bytes_wr_copy(wr, head->disk[i].serial, 20);
        put_zeros(wr, 3);
    }
    for (unsigned i = 0; i < head->nic_count; i++) {
        bytes_wr_copy(wr, head->mac[i], 6);
        bytes_wr_u16(wr, 0);
    }
    bytes_wr_copy(wr, head->cmdline, cmdline);
}

void ft_put_input(struct bytes_wr *wr, const struct dev_input *in)
{
    bytes_wr_u32(wr, (uint32_t)in->type);
    bytes_wr_u32(wr, in->len);
    bytes_wr_u64(wr, in->now_ns);
    bytes_wr_u64(wr, in->value);
    bytes_wr_u32(wr, in->slot);
    bytes_wr_u32(wr, in->generation);
    bytes_wr_u32(wr, in->status);
    bytes_wr_u32(wr, 0);
    bytes_wr_copy(wr, in->data, in->len);
}

void ft_put_exit(struct bytes_wr *wr, const struct ft_exit *x)
{
    bytes_wr_u32(wr, x->kind);
    bytes_wr_u32(wr, x->size);
    bytes_wr_u64(wr, x->address);
    bytes_wr_u64(wr, x->chain);
    bytes_wr_u32(wr, x->len);
    bytes_wr_u32(wr, x->changed | x->boundary << 31);
    for (unsigned i = 0; i < TAPE_REGS; i++) {
        if ((x->changed >> i & 1) != 0) {
            bytes_wr_u64(wr, x->reg[i]);
        }
    }
    bytes_wr_copy(wr, x->data, x->len);
}

void ft_put_output(struct bytes_wr *wr, const struct ft_output *out)
{
    bytes_wr_u64(wr, out->ordinal);
    bytes_wr_u32(wr, out->kind);
    bytes_wr_u32(wr, out->len);
    put_sum(wr, &out->sum);
}

void ft_put_state(struct bytes_wr *wr, uint32_t total, uint32_t offset, const void *bytes,
                  uint32_t len)
{
    bytes_wr_u32(wr, total);
    bytes_wr_u32(wr, offset);
    bytes_wr_u32(wr, len);
    bytes_wr_u32(wr, 0);
    bytes_wr_copy(wr, bytes, len);
}

void ft_put_sums(struct bytes_wr *wr, const uint64_t *page_and_sum, uint32_t count)
{
    bytes_wr_u32(wr, count);
    bytes_wr_u32(wr, 0);
    for (size_t i = 0; i < (size_t)count * 2; i++) {
        bytes_wr_u64(wr, page_and_sum[i]);
    }
}

void ft_put_disk(struct bytes_wr *wr, const struct ft_disk *disk)
{
    bytes_wr_u64(wr, disk->sector);
    bytes_wr_u32(wr, disk->op);
    bytes_wr_u32(wr, disk->len);
    if (disk->op == REQUEST_WRITE) {
        bytes_wr_copy(wr, disk->bytes, disk->len);
    }
}

void ft_put_said(struct bytes_wr *wr, const struct ft_said *said)
{
    bytes_wr_u64(wr, said->ordinal);
    bytes_wr_u32(wr, said->kind);
    bytes_wr_u32(wr, said->len);
    bytes_wr_copy(wr, said->bytes, said->len);
}

void ft_put_end(struct bytes_wr *wr, const struct ft_end *end)
{
    bytes_wr_u64(wr, end->inputs);
    bytes_wr_u64(wr, end->outputs);
    bytes_wr_u64(wr, end->pages);
    bytes_wr_u64(wr, end->chain);
    put_sum(wr, &end->state);
    put_sum(wr, &end->ram);
}

void ft_put_held(struct bytes_wr *wr, uint64_t ordinal, const struct tape_out *out)
{
    bytes_wr_u64(wr, ordinal);
    bytes_wr_u64(wr, out->sector);
    bytes_wr_u32(wr, (uint32_t)out->kind);
    bytes_wr_u32(wr, out->op);
    bytes_wr_u32(wr, out->kind == TAPE_OUT_DISK ? out->slot : out->queue);
    bytes_wr_u32(wr, out->size);
    bytes_wr_u32(wr, out->len);
    bytes_wr_u32(wr, 0);
    bytes_wr_copy(wr, out->data, out->len);
}

void ft_put_u64(struct bytes_wr *wr, uint64_t v)
{
    bytes_wr_u64(wr, v);
}

/* Reading -------------------------------------------------------------------------- */

static bool zeros(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
    return true;
}

uint32_t ft_length(const void *header)
{
    struct bytes_rd rd = bytes_rd_make(header, FT_HEADER_LEN);
    uint32_t len = bytes_rd_u32(&rd);

    return len >= FT_HEADER_LEN && len <= FT_RECORD_MAX && len % ALIGN == 0 ? len : 0;
}

static uint32_t crc_of(const uint8_t *buf, uint32_t len)
{
    static const uint8_t none[4];
    uint32_t crc = crc32c(0, buf, CRC_AT);

    crc = crc32c(crc, none, sizeof none);
    return crc32c(crc, buf + CRC_AT + 4, len - CRC_AT - 4);
}

enum ft_reason ft_check(const void *buf, size_t len, struct ft_record *ret)
{
    struct bytes_rd rd = bytes_rd_make(buf, len);
    struct ft_record r = {0};
    uint32_t crc;

    if (len < FT_HEADER_LEN) {
        return FT_NEED_MORE;
    }
    r.len = ft_length(buf);
    if (r.len == 0) {
        return FT_BAD_LENGTH;
    }
    if (len < r.len) {
        return FT_NEED_MORE;
    }
    (void)bytes_rd_u32(&rd);
    r.type = bytes_rd_u16(&rd);
    r.flags = bytes_rd_u16(&rd);
    r.seq = bytes_rd_u64(&rd);
    r.exits = bytes_rd_u64(&rd);
    crc = bytes_rd_u32(&rd);
    r.device = bytes_rd_u32(&rd);
    if (crc_of(buf, r.len) != crc) {
        return FT_BAD_CRC;
    }
    if ((r.flags & ~FT_FLAG_OPTIONAL) != 0) {
        return FT_BAD_FLAGS;
    }
    if ((r.type == 0 || r.type >= FT_TYPE_COUNT) && (r.flags & FT_FLAG_OPTIONAL) == 0) {
        return FT_BAD_TYPE;
    }
    r.body = (const uint8_t *)buf + FT_HEADER_LEN;
    r.body_len = r.len - FT_HEADER_LEN;
    *ret = r;
    return FT_OK;
}

enum ft_reason ft_follow(struct ft_follow *f, const struct ft_record *record)
{
    if (record->seq != f->seq + 1) {
        return FT_BAD_SEQUENCE;
    }
    if (record->exits < f->exits) {
        return FT_BAD_EXITS;
    }
    f->seq = record->seq;
    f->exits = record->exits;
    return FT_OK;
}

/* What is left must be padding. */
static enum ft_reason finish(struct bytes_rd *rd, enum ft_reason reason)
{
    size_t left = bytes_rd_left(rd);

    if (rd->failed || left >= ALIGN || !zeros(bytes_rd_view(rd, left), left)) {
        return FT_BAD_BODY;
    }
    return reason;
}

static void get_sum(struct bytes_rd *rd, struct ft_sum *sum)
{
    bytes_rd_copy(rd, sum->b, sizeof sum->b);
}

static bool get_disks(struct bytes_rd *rd, struct ft_head *h)
{
    bool good = true;

    for (unsigned i = 0; i < h->disk_count; i++) {
        h->disk[i].sectors = bytes_rd_u64(rd);
        h->disk[i].read_only = bytes_rd_u8(rd);
        bytes_rd_copy(rd, h->disk[i].serial, 20);
        good &= h->disk[i].read_only <= 1;
        good &= bytes_rd_u8(rd) == 0 && bytes_rd_u16(rd) == 0;
    }
    for (unsigned i = 0; i < h->nic_count; i++) {
        bytes_rd_copy(rd, h->mac[i], 6);
        good &= bytes_rd_u16(rd) == 0;
    }
    return good;
}

enum ft_reason ft_get_head(const struct ft_record *record, struct ft_head *ret)
{
    struct bytes_rd rd = bytes_rd_make(record->body, record->body_len);
    uint32_t format = bytes_rd_u32(&rd);
    uint16_t cmdline, reserved;
    bool good;

    memset(ret, 0, sizeof *ret);
    if (!rd.failed && format != FT_FORMAT) {
        return FT_BAD_FORMAT;
    }
    ret->machine = bytes_rd_u32(&rd);
    ret->ram_len = bytes_rd_u64(&rd);
    ret->cpuid = bytes_rd_u64(&rd);
    get_sum(&rd, &ret->firmware);
    get_sum(&rd, &ret->kernel);
    get_sum(&rd, &ret->initrd);
    ret->epoch = bytes_rd_u64(&rd);
    ret->crash_on_triple_fault = bytes_rd_u8(&rd);
    ret->disk_count = bytes_rd_u8(&rd);
    ret->nic_count = bytes_rd_u8(&rd);
    reserved = bytes_rd_u8(&rd);
    cmdline = bytes_rd_u16(&rd);
    reserved |= bytes_rd_u16(&rd);
    if (ret->disk_count > VM_DISKS_MAX || ret->nic_count > VM_NICS_MAX ||
        cmdline > GUEST_CMDLINE_MAX || ret->crash_on_triple_fault > 1 || reserved != 0) {
        memset(ret, 0, sizeof *ret);
        return FT_BAD_VALUE;
    }
    good = get_disks(&rd, ret);
    bytes_rd_copy(&rd, ret->cmdline, cmdline);
    good &= rd.failed || strlen(ret->cmdline) == cmdline;
    return finish(&rd, good ? FT_OK : FT_BAD_VALUE);
}

enum ft_reason ft_get_input(const struct ft_record *record, struct dev_input *ret)
{
    struct bytes_rd rd = bytes_rd_make(record->body, record->body_len);
    uint32_t type = bytes_rd_u32(&rd), reserved;

    memset(ret, 0, sizeof *ret);
    ret->len = bytes_rd_u32(&rd);
    ret->now_ns = bytes_rd_u64(&rd);
    ret->value = bytes_rd_u64(&rd);
    ret->slot = bytes_rd_u32(&rd);
    ret->generation = bytes_rd_u32(&rd);
    ret->status = bytes_rd_u32(&rd);
    reserved = bytes_rd_u32(&rd);
    ret->data = ret->len > 0 ? bytes_rd_view(&rd, ret->len) : NULL;
    if (type <= INPUT_NONE || type >= INPUT_TYPE_COUNT || reserved != 0 ||
        record->device >= MACHINE_DEV_COUNT) {
        return FT_BAD_VALUE;
    }
    ret->type = (enum input_type)type;
    return finish(&rd, FT_OK);
}

enum ft_reason ft_get_exit(const struct ft_record *record, struct ft_exit *ret)
{
    struct bytes_rd rd = bytes_rd_make(record->body, record->body_len);
    uint32_t changed;

    ret->kind = bytes_rd_u32(&rd);
    ret->size = bytes_rd_u32(&rd);
    ret->address = bytes_rd_u64(&rd);
    ret->chain = bytes_rd_u64(&rd);
    ret->len = bytes_rd_u32(&rd);
    changed = bytes_rd_u32(&rd);
    ret->boundary = changed >> 31;
    ret->changed = changed & ~(UINT32_C(1) << 31);
    if (ret->kind == 0 || ret->kind >= TAPE_EXIT_KINDS || ret->len > FT_EXIT_DATA ||
        ret->changed >> TAPE_REGS != 0) {
        return FT_BAD_VALUE;
    }
    for (unsigned i = 0; i < TAPE_REGS; i++) {
        if ((ret->changed >> i & 1) != 0) {
            ret->reg[i] = bytes_rd_u64(&rd);
        }
    }
    ret->data = ret->len > 0 ? bytes_rd_view(&rd, ret->len) : NULL;
    return finish(&rd, FT_OK);
}

enum ft_reason ft_get_output(const struct ft_record *record, struct ft_output *ret)
{
    struct bytes_rd rd = bytes_rd_make(record->body, record->body_len);

    ret->ordinal = bytes_rd_u64(&rd);
    ret->kind = bytes_rd_u32(&rd);
    ret->len = bytes_rd_u32(&rd);
    get_sum(&rd, &ret->sum);
    return finish(&rd, ret->kind == 0 || ret->kind >= TAPE_OUT_KINDS || ret->ordinal == 0
                           ? FT_BAD_VALUE
                           : FT_OK);
}

enum ft_reason ft_get_state(const struct ft_record *record, struct ft_state *ret)
{
    struct bytes_rd rd = bytes_rd_make(record->body, record->body_len);
    uint32_t reserved;

    ret->total = bytes_rd_u32(&rd);
    ret->offset = bytes_rd_u32(&rd);
    ret->len = bytes_rd_u32(&rd);
    reserved = bytes_rd_u32(&rd);
    if (ret->total == 0 || ret->total > FT_STATE_MAX || ret->len == 0 || reserved != 0 ||
        ret->offset > ret->total || ret->len > ret->total - ret->offset) {
        return FT_BAD_VALUE;
    }
    ret->bytes = bytes_rd_view(&rd, ret->len);
    return finish(&rd, FT_OK);
}

enum ft_reason ft_get_sums(const struct ft_record *record, struct ft_sums *ret)
{
    struct bytes_rd rd = bytes_rd_make(record->body, record->body_len);
    uint32_t count = bytes_rd_u32(&rd), reserved;

    reserved = bytes_rd_u32(&rd);
    ret->count = 0;
    if (count > FT_SUMS_MAX || reserved != 0) {
        return FT_BAD_VALUE;
    }
    for (uint32_t i = 0; i < count; i++) {
        ret->pair[i][0] = bytes_rd_u64(&rd);
        ret->pair[i][1] = bytes_rd_u64(&rd);
        if (!rd.failed && i > 0 && ret->pair[i][0] <= ret->pair[i - 1][0]) {
            return FT_BAD_VALUE;
        }
    }
    ret->count = rd.failed ? 0 : count;
    return finish(&rd, FT_OK);
}

enum ft_reason ft_get_disk(const struct ft_record *record, struct ft_disk *ret)
{
    struct bytes_rd rd = bytes_rd_make(record->body, record->body_len);

    ret->sector = bytes_rd_u64(&rd);
    ret->op = bytes_rd_u32(&rd);
    ret->len = bytes_rd_u32(&rd);
    ret->bytes = NULL;
    if (ret->op < REQUEST_WRITE || ret->op > REQUEST_WRITE_ZEROES ||
        record->device >= VM_DISKS_MAX || ret->sector > INT64_MAX / 512 ||
        (ret->op == REQUEST_WRITE && (ret->len == 0 || ret->len > BLK_REQUEST_MAX))) {
        return FT_BAD_VALUE;
    }
    if (ret->op == REQUEST_WRITE) {
        ret->bytes = bytes_rd_view(&rd, ret->len);
    }
    return finish(&rd, FT_OK);
}

bool ft_disk_fits(const struct ft_disk *disk, uint64_t sectors)
{
    return disk->op == REQUEST_FLUSH ||
           (disk->len % 512 == 0 && disk->sector <= sectors &&
            disk->len / 512 <= sectors - disk->sector);
}

enum ft_reason ft_get_said(const struct ft_record *record, struct ft_said *ret)
{
    struct bytes_rd rd = bytes_rd_make(record->body, record->body_len);

    ret->ordinal = bytes_rd_u64(&rd);
    ret->kind = bytes_rd_u32(&rd);
    ret->len = bytes_rd_u32(&rd);
    if (ret->ordinal == 0 || ret->len == 0 ||
        (ret->kind != TAPE_OUT_SERIAL && ret->kind != TAPE_OUT_DEBUG)) {
        return FT_BAD_VALUE;
    }
    ret->bytes = bytes_rd_view(&rd, ret->len);
    return finish(&rd, FT_OK);
}

enum ft_reason ft_get_end(const struct ft_record *record, struct ft_end *ret)
{
    struct bytes_rd rd = bytes_rd_make(record->body, record->body_len);

    ret->inputs = bytes_rd_u64(&rd);
    ret->outputs = bytes_rd_u64(&rd);
    ret->pages = bytes_rd_u64(&rd);
    ret->chain = bytes_rd_u64(&rd);
    get_sum(&rd, &ret->state);
    get_sum(&rd, &ret->ram);
    return finish(&rd, FT_OK);
}

enum ft_reason ft_get_held(const struct ft_record *record, uint64_t *ret_ordinal,
                           struct tape_out *ret)
{
    struct bytes_rd rd = bytes_rd_make(record->body, record->body_len);
    uint32_t kind, unit, reserved;

    *ret = (struct tape_out){.unit = record->device};
    *ret_ordinal = bytes_rd_u64(&rd);
    ret->sector = bytes_rd_u64(&rd);
    kind = bytes_rd_u32(&rd);
    ret->kind = (enum tape_output)kind;
    ret->op = bytes_rd_u32(&rd);
    unit = bytes_rd_u32(&rd);
    ret->queue = kind == TAPE_OUT_DISK ? 0 : unit;
    ret->slot = kind == TAPE_OUT_DISK ? unit : 0;
    ret->size = bytes_rd_u32(&rd);
    ret->len = bytes_rd_u32(&rd);
    reserved = bytes_rd_u32(&rd);
    if (kind == 0 || kind >= TAPE_OUT_KINDS || reserved != 0 ||
        ret->len > FT_RECORD_MAX ||
        (kind == TAPE_OUT_DISK &&
         (ret->op < REQUEST_WRITE || ret->op > REQUEST_WRITE_ZEROES ||
          (ret->len != 0 && ret->len != ret->size)))) {
        return FT_BAD_VALUE;
    }
    ret->data = bytes_rd_view(&rd, ret->len);
    return finish(&rd, FT_OK);
}

enum ft_reason ft_get_u64(const struct ft_record *record, uint64_t *ret, unsigned count)
{
    struct bytes_rd rd = bytes_rd_make(record->body, record->body_len);

    for (unsigned i = 0; i < count; i++) {
        ret[i] = bytes_rd_u64(&rd);
    }
    return finish(&rd, FT_OK);
}

/* Words ---------------------------------------------------------------------------- */

const char *ft_reason_str(enum ft_reason reason)
{
    static const char *const text[FT_REASON_COUNT] = {
        [FT_OK] = "good",
        [FT_NEED_MORE] = "cut short",
        [FT_BAD_LENGTH] = "impossible length",
        [FT_BAD_CRC] = "wrong checksum",
        [FT_BAD_TYPE] = "a type of record that this build does not know",
        [FT_BAD_FLAGS] = "unknown flags",
        [FT_BAD_SEQUENCE] = "sequence number out of turn",
        [FT_BAD_EXITS] = "position goes back",
        [FT_BAD_BODY] = "body of the wrong length",
        [FT_BAD_VALUE] = "impossible value",
        [FT_BAD_FORMAT] = "a format that this build does not read",
    };

    return (unsigned)reason < FT_REASON_COUNT ? text[reason] : "?";
}

const char *ft_type_str(unsigned type)
{
    static const char *const text[FT_TYPE_COUNT] = {
        [0] = "nothing",
        [FT_HEAD] = "a head",
        [FT_INPUT] = "an input",
        [FT_CLOCK] = "a clock read",
        [FT_EXIT] = "an exit",
        [FT_OUTPUT] = "an output",
        [FT_CONTROL] = "a reset",
        [FT_BARRIER] = "a barrier",
        [FT_PAGES] = "pages",
        [FT_STATE] = "a state",
        [FT_END] = "the end",
        [FT_BEAT] = "a beat",
        [FT_SUMS] = "page sums",
        [FT_DISK] = "disk write",
        [FT_SET] = "a repair",
        [FT_HELD] = "an output of a repair",
        [FT_SAID] = "console bytes",
    };

    return type < FT_TYPE_COUNT ? text[type] : "something";
}
