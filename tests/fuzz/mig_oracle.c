/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/mig_oracle.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/frame.h"
#include "migrate/mig_conn.h"
#include "migrate/mig_disk.h"
#include "migrate/mig_holes.h"
#include "migrate/mig_msg.h"
#include "migrate/mig_ram.h"
#include "migrate/mig_verify.h"
#include "migrate/mig_zstd.h"

/* A RAM frame of a connection, or one of a disk. */
struct ram_frame {
    bool disk;
    size_t at; /* its body */
    uint32_t len;
    uint32_t in_round; /* of the stream, when it came */
    uint64_t pages;    /* as it says */
    struct ram_frame *next;
};

struct conn {
    uint8_t *bytes;
    size_t len, room, at;
    uint64_t seq;
    bool opened, bad;
    unsigned index;
    uint32_t round;
    uint64_t round_frames, round_pages;
    struct ram_frame *ram, **ram_end;
};

static struct {
    struct conn conn[MIG_ORACLE_CONNS];
    struct mig_roll roll;
    struct engine_ram ram;
    bool optional, packed, broken, blurred, have_hello, have_state, have_finish, aborted,
        after;
    struct mig_hello hello;
    struct mig_finish finish;
    size_t state_at;
    uint32_t state_len;
    uint64_t hash_count, hash[64];
    struct mig_bitmap missing;
    uint64_t missing_at;
    const uint8_t *disk_was;
    size_t disk_len;
    uint8_t *disk;
    uint64_t disk_hash_count, disk_hash;
    bool disk_seen;
} o;

static struct mig_msg msg; /* too large for a stack */

void mig_oracle_begin(uint64_t page_count, const struct mig_open_msg *open)
{
    struct engine_ram ram = o.ram;

    mig_oracle_free();
    memset(&o, 0, sizeof o);
    o.ram = ram;
    if (o.ram.host == NULL) {
        o.ram.len = page_count * MIG_PAGE;
        o.ram.page_count = page_count;
        o.ram.fd = memfd_create("oracle", MFD_CLOEXEC);
        BUG_ON(o.ram.fd < 0 || ftruncate(o.ram.fd, (off_t)o.ram.len) < 0);
        o.ram.host =
            mmap(NULL, o.ram.len, PROT_READ | PROT_WRITE, MAP_SHARED, o.ram.fd, 0);
        BUG_ON(o.ram.host == MAP_FAILED);
    }
    o.roll.transfer = open->transfer;
    o.roll.token = open->token;
    for (unsigned i = 0; i < MIG_ORACLE_CONNS; i++) {
        o.conn[i].ram_end = &o.conn[i].ram;
    }
}

void mig_oracle_free(void)
{
    for (unsigned i = 0; i < MIG_ORACLE_CONNS; i++) {
        struct conn *c = &o.conn[i];

        while (c->ram != NULL) {
            struct ram_frame *next = c->ram->next;

            free(c->ram);
            c->ram = next;
        }
        free(c->bytes);
        c->bytes = NULL;
    }
    free(o.missing.word);
    o.missing.word = NULL;
    free(o.disk);
    o.disk = NULL;
}

void mig_oracle_has_disk(const uint8_t *bytes, size_t len)
{
    o.disk_was = bytes;
    o.disk_len = len;
    o.disk = malloc(len);
    BUG_ON(o.disk == NULL);
}

void mig_oracle_blur(void)
{
    o.blurred = true;
}

bool mig_oracle_is_blurred(void)
{
    return o.blurred;
}

unsigned mig_oracle_joined(void)
{
    return (unsigned)__builtin_popcount(o.roll.joined);
}

bool mig_oracle_has_hello(void)
{
    return mig_roll_complete(&o.roll) && o.have_hello && !o.blurred;
}

/* One frame -------------------------------------------------------------------------- */

static void take_open(struct conn *c, const uint8_t *body, uint32_t len)
{
    struct mig_open_msg open;
    enum mig_open_reason reason = mig_open_decode(body, len, &open)
                                      ? mig_roll_join(&o.roll, &open)
                                      : MIG_OPEN_BAD_FORM;

    c->opened = true;
    c->index = open.index;
    c->bad = reason != MIG_OPEN_OK;
    /* Which of two comes first is the kernel's to say. */
    o.blurred = o.blurred || reason == MIG_OPEN_TAKEN || reason == MIG_OPEN_BAD_COUNT;
}

static bool decode_ram(const struct conn *c, const struct ram_frame *f,
                       struct mig_ram *ret)
{
    const uint8_t *body = c->bytes + f->at;
    struct mig_ram_conf conf = {.page_count = o.ram.page_count,
                                .stream = c->index > 0 ? c->index - 1 : 0,
                                .n_streams = c->index > 0 ? o.roll.count - 1u : 1,
                                .discard = (o.hello.features & MIG_FEATURE_DISCARD) != 0,
                                .zstd = (o.hello.features & MIG_FEATURE_ZSTD) != 0};
    enum mig_ram_reason reason;
    size_t head = f->disk ? 0 : mig_ram_head_len(body, f->len, &reason);

    return head > 0 && mig_ram_decode(&conf, body, head, f->len, ret) == MIG_RAM_OK;
}

static bool decode_disk(const struct conn *c, const struct ram_frame *f,
                        struct mig_disk_run *ret)
{
    struct mig_disk_conf conf = {.stream = c->index > 0 ? c->index - 1 : 0,
                                 .n_streams = c->index > 0 ? o.roll.count - 1u : 1,
                                 .bytes = {o.disk_len}};

    return mig_disk_decode(&conf, c->bytes + f->at, f->len, ret) == MIG_DISK_OK;
}

static struct ram_frame *add_frame(struct conn *c, size_t at, uint32_t len)
{
    struct ram_frame *f = calloc(1, sizeof *f);

    BUG_ON(f == NULL);
    *f = (struct ram_frame){.at = at, .len = len, .in_round = c->round + 1};
    *c->ram_end = f;
    c->ram_end = &f->next;
    return f;
}

static void take_disk(struct conn *c, size_t at, uint32_t len)
{
    add_frame(c, at, len)->disk = true;
    c->round_frames++;
    o.disk_seen = true;
}

static void take_ram(struct conn *c, size_t at, uint32_t len)
{
    struct ram_frame *f = add_frame(c, at, len);
    struct bytes_rd rd = bytes_rd_make(c->bytes + at + 2, 2);
    uint32_t runs = bytes_rd_u16(&rd);

    for (size_t end = 32; runs > 0 && end <= len; end += 16, runs--) {
        rd = bytes_rd_make(c->bytes + at + end - 8, 4);
        f->pages += bytes_rd_u32(&rd);
    }
    c->round_frames++;
    c->round_pages += f->pages;
}

static void take_round_end(struct conn *c, const uint8_t *body, uint32_t len)
{
    struct mig_round_end end;

    if (!mig_round_end_decode(body, len, &end) || end.round != c->round + 1 ||
        end.frames != c->round_frames || end.pages != c->round_pages) {
        c->bad = true;
        return;
    }
    c->round++;
    c->round_frames = c->round_pages = 0;
}

static void take_missing(struct conn *c, const uint8_t *body, uint32_t len)
{
    if (o.missing.word == NULL) {
        uint64_t *word = calloc(mig_bitmap_words(o.ram.page_count), sizeof *word);

        BUG_ON(word == NULL);
        mig_bitmap_init(&o.missing, word, o.ram.page_count);
    }
    c->bad = (o.hello.features & MIG_FEATURE_POSTCOPY) == 0 ||
             mig_holes_decode(body, len, &o.missing_at, &o.missing) != MIG_HOLES_OK;
}

static void take_msg(struct conn *c, unsigned kind, const uint8_t *body, uint32_t len)
{
    if (mig_msg_unpack(kind, body, len, &msg) != MIG_MSG_OK) {
        c->bad = true;
        return;
    }
    if (msg.kind == MIG_HELLO && !o.have_hello) {
        o.hello = msg.hello;
        o.have_hello = true;
    } else if (msg.kind == MIG_FINISH) {
        o.finish = msg.finish;
        o.have_finish = true;
    } else if (msg.kind == MIG_VERIFY && msg.verify.disk == 1 && o.disk != NULL &&
               o.disk_hash_count == 0 && msg.verify.first_block == 0 &&
               msg.verify.count == 1) {
        o.disk_hash = msg.verify.hash[0];
        o.disk_hash_count = 1;
    } else if (msg.kind == MIG_VERIFY && msg.verify.disk == 0 &&
               msg.verify.first_block == o.hash_count &&
               o.hash_count + msg.verify.count <= sizeof o.hash / sizeof o.hash[0]) {
        memcpy(o.hash + o.hash_count, msg.verify.hash,
               msg.verify.count * sizeof o.hash[0]);
        o.hash_count += msg.verify.count;
    } else if (msg.kind == MIG_ABORT) {
        o.aborted = true;
    } else if (msg.kind != MIG_ROUND) {
        c->bad = true;
    }
}

static void take_control(struct conn *c, uint16_t type, size_t at, uint32_t len)
{
    if (o.have_finish) {
        /* Nothing may follow but pages that are asked for, and an end. */
        o.after = true;
        o.aborted = o.aborted || type == MIG_FRAME_CONTROL + MIG_ABORT;
        if (type == MIG_FRAME_RAM) {
            take_ram(c, at, len);
        }
        return;
    }
    if (type == MIG_FRAME_STATE) {
        c->bad = o.have_state;
        o.have_state = true;
        o.state_at = at;
        o.state_len = len;
    } else if (type == MIG_FRAME_MISSING) {
        take_missing(c, c->bytes + at, len);
    } else if (type >= MIG_FRAME_CONTROL) {
        take_msg(c, type - MIG_FRAME_CONTROL, c->bytes + at, len);
    } else {
        c->bad = true;
    }
}

static void take_frame(struct conn *c, const struct frame *f, size_t at)
{
    const uint8_t *body = c->bytes + at;

    if (c->opened && (f->type & FRAME_TYPE_OPTIONAL) != 0) {
        c->bad = f->body_len > MIG_CONN_OPTIONAL_MAX;
        o.optional = o.optional || !c->bad;
    } else if (!c->opened) {
        c->bad = f->type != MIG_TYPE_OPEN;
        if (!c->bad) {
            take_open(c, body, f->body_len);
        }
    } else if (c->index == 0) {
        take_control(c, f->type, at, f->body_len);
    } else if (f->type == MIG_FRAME_RAM && f->body_len >= MIG_RAM_FIXED_LEN) {
        take_ram(c, at, f->body_len);
    } else if (f->type == MIG_FRAME_DISK && f->body_len >= MIG_DISK_HEAD_LEN) {
        take_disk(c, at, f->body_len);
    } else if (f->type == MIG_FRAME_ROUND_END) {
        take_round_end(c, body, f->body_len);
    } else {
        c->bad = true;
    }
}

/* The next whole frame; false: none, or none that is right. */
static bool next_frame(struct conn *c)
{
    size_t left = c->len - c->at;
    struct frame f;
    uint32_t crc;

    if (c->bad || left < FRAME_HEADER_LEN) {
        return false;
    }
    c->bad = frame_check_header(c->bytes + c->at, left, MIG_CONN_MAGIC, MIG_CONN_BODY_MAX,
                                &f, &crc) != FRAME_OK ||
             f.seq != c->seq + 1 || (f.version & 0x7fff) != 1;
    if (c->bad || left - FRAME_HEADER_LEN < f.body_len) {
        return false;
    }
    c->bad = crc != (f.version & MIG_CONN_NO_CRC
                         ? 0
                         : crc32c(0, c->bytes + c->at + FRAME_HEADER_LEN, f.body_len));
    if (c->bad) {
        return false;
    }
    c->seq++;
    take_frame(c, &f, c->at + FRAME_HEADER_LEN);
    c->at += FRAME_HEADER_LEN + f.body_len;
    return true;
}

void mig_oracle_take(unsigned conn, const uint8_t *bytes, size_t len)
{
    struct conn *c = &o.conn[conn];

    if (c->room < c->len + len) {
        c->room = (c->len + len) * 2;
        c->bytes = realloc(c->bytes, c->room);
        BUG_ON(c->bytes == NULL);
    }
    memcpy(c->bytes + c->len, bytes, len);
    c->len += len;
    while (next_frame(c)) {
    }
}

/* All of it -------------------------------------------------------------------------- */

static const struct conn *stream(unsigned index)
{
    for (unsigned i = 0; i < MIG_ORACLE_CONNS; i++) {
        if (o.conn[i].opened && o.conn[i].index == index &&
            (o.roll.joined & 1u << index) != 0) {
            return &o.conn[i];
        }
    }
    return NULL;
}

/* Part of what Finish tells of, or of all so far. */
static bool counts(const struct ram_frame *f)
{
    return !o.have_finish || f->in_round <= o.finish.rounds;
}

static const char *data_incomplete(void)
{
    static struct mig_ram ram;
    struct mig_disk_run run;
    uint64_t frames = 0, pages = 0;

    for (unsigned i = 1; i < o.roll.count; i++) {
        const struct conn *c = stream(i);

        if (c == NULL || c->round < o.finish.rounds) {
            return "a round has not ended on every stream";
        }
        for (const struct ram_frame *f = c->ram; f != NULL && counts(f); f = f->next) {
            if (f->disk ? !decode_disk(c, f, &run) || run.round != f->in_round
                        : !decode_ram(c, f, &ram) || ram.round != f->in_round) {
                return "a frame is none";
            }
            frames++;
            pages += f->pages;
        }
    }
    return o.broken ? "compressed pages are none"
           : frames != o.finish.ram_frames || pages != o.finish.pages
               ? "pages are missing"
               : NULL;
}

/* Its sum, by way of a file, as everybody makes it. */
static bool disk_differs(void)
{
    static uint8_t buffer[MIG_BLOCK_BYTES] __attribute__((aligned(4096)));
    uint64_t sum;
    int fd;

    if (o.disk_hash_count == 0) {
        return false;
    }
    fd = memfd_create("oracle-disk", MFD_CLOEXEC);
    BUG_ON(fd < 0 ||
           pwrite(fd, mig_oracle_disk(), o.disk_len, 0) != (ssize_t)o.disk_len ||
           mig_verify_disk(fd, o.disk_len, 0, buffer, &sum) < 0);
    close(fd);
    return sum != o.disk_hash;
}

static bool hashes_differ(const struct engine_ram *ram)
{
    struct mig_verify_seen seen = {0};

    for (uint64_t i = 0; i < o.hash_count; i++) {
        if (mig_verify_hash(ram, &seen, i) != o.hash[i]) {
            return true;
        }
    }
    return disk_differs();
}

const char *mig_oracle_incomplete(void)
{
    const struct engine_ram *ram = mig_oracle_memory(); /* judges every frame */
    const char *why = !mig_roll_complete(&o.roll)           ? "streams are missing"
                      : !o.have_hello                       ? "Hello is missing"
                      : !o.have_finish                      ? "Finish is missing"
                      : !o.have_state                       ? "the state is missing"
                      : o.state_len != o.finish.state_bytes ? "the state was cut"
                                                            : data_incomplete();

    if (why == NULL && (o.hash_count + o.disk_hash_count != o.finish.verify_blocks ||
                        mig_oracle_missing() != o.finish.missing)) {
        why = "hashes, or the list of missing pages";
    }
    return why == NULL && hashes_differ(ram) ? "memory differs" : why;
}

bool mig_oracle_is_clean(void)
{
    bool clean = !o.blurred && !o.after && !o.aborted && mig_oracle_incomplete() == NULL;

    for (unsigned i = 0; i < MIG_ORACLE_CONNS; i++) {
        const struct conn *c = &o.conn[i];

        clean = clean && !c->bad && c->at == c->len && c->round_frames == 0 &&
                (!c->opened || c->index == 0 || c->round == o.finish.rounds);
    }
    return clean;
}

const uint8_t *mig_oracle_state(uint32_t *ret_len)
{
    const struct conn *c = stream(0);

    *ret_len = o.state_len;
    return c != NULL && o.have_state ? c->bytes + o.state_at : NULL;
}

uint64_t mig_oracle_missing(void)
{
    return o.missing.word == NULL            ? 0
           : o.missing_at < o.ram.page_count ? UINT64_MAX
                                             : mig_bitmap_count(&o.missing);
}

struct mig_oracle_seen mig_oracle_seen(void)
{
    return (struct mig_oracle_seen){.finish = o.have_finish,
                                    .hashes = o.hash_count > 0,
                                    .packed = o.packed,
                                    .optional = o.optional,
                                    .list = o.missing.word != NULL,
                                    .disk = o.disk_seen,
                                    .disk_hashes = o.disk_hash_count > 0};
}

/* Memory ----------------------------------------------------------------------------- */

/* The pages of a frame in order; NULL: it has none. To be freed. */
static uint8_t *payload(const struct conn *c, const struct ram_frame *f,
                        const struct mig_ram *ram)
{
    size_t len = ram->raw_pages * MIG_PAGE;
    uint8_t *pages = malloc(len + 1);
    const uint8_t *from = c->bytes + f->at + f->len - mig_ram_payload(ram);
    struct iovec iov = {pages, len};
    struct mig_zstd *z;

    BUG_ON(pages == NULL);
    if (ram->packed == 0) {
        memcpy(pages, from, len);
        return pages;
    }
    o.packed = true;
    z = mig_zstd_new();
    BUG_ON(z == NULL);
    memcpy(mig_zstd_room(z), from, ram->packed);
    if (mig_zstd_unpack(z, ram->packed, &iov, 1) != NULL) {
        o.broken = true;
        memset(pages, 0, len);
    }
    mig_zstd_free(z);
    return pages;
}

static void apply(const struct conn *c, const struct ram_frame *f,
                  const struct mig_ram *ram)
{
    uint8_t *pages = payload(c, f, ram), *from = pages;

    for (uint32_t i = 0; i < ram->run_count; i++) {
        const struct mig_ram_run *run = &ram->run[i];
        uint8_t *at = o.ram.host + run->first * MIG_PAGE;
        size_t len = run->count * MIG_PAGE;

        if (run->kind == MIG_RAM_RAW) {
            memcpy(at, from, len);
            from += len;
        } else {
            engine_ram_zero(&o.ram, run->first, run->count);
        }
    }
    free(pages);
}

static bool is_missing(uint64_t page)
{
    return o.missing.word != NULL && mig_bitmap_test(&o.missing, page);
}

/* As the destination has it when it is ready. */
static void take_away_missing(void)
{
    for (uint64_t page = 0; page < o.ram.page_count; page++) {
        if (o.have_finish && is_missing(page)) {
            engine_ram_zero(&o.ram, page, 1);
        }
    }
}

const struct engine_ram *mig_oracle_memory(void)
{
    static struct mig_ram ram;

    o.broken = false;
    engine_ram_zero(&o.ram, 0, o.ram.page_count);
    for (unsigned i = 1; i < MIG_OPEN_STREAMS_MAX; i++) {
        const struct conn *c = stream(i);

        for (const struct ram_frame *f = c != NULL ? c->ram : NULL; f != NULL;
             f = f->next) {
            if (counts(f) && decode_ram(c, f, &ram)) {
                apply(c, f, &ram);
            }
        }
    }
    take_away_missing();
    return &o.ram;
}

const uint8_t *mig_oracle_disk(void)
{
    memcpy(o.disk, o.disk_was, o.disk_len);
    for (unsigned i = 1; i < MIG_OPEN_STREAMS_MAX; i++) {
        const struct conn *c = stream(i);

        for (const struct ram_frame *f = c != NULL ? c->ram : NULL; f != NULL;
             f = f->next) {
            struct mig_disk_run run;

            if (!f->disk || !counts(f) || !decode_disk(c, f, &run)) {
                continue;
            }
            if (run.kind == MIG_DISK_RAW) {
                memcpy(o.disk + run.offset, c->bytes + f->at + MIG_DISK_HEAD_LEN,
                       run.len);
            } else {
                memset(o.disk + run.offset, 0, run.len);
            }
        }
    }
    return o.disk;
}

/* Whether a frame that came later has this page so. */
static bool came_so(const struct conn *c, const struct ram_frame *f, uint64_t page,
                    const uint8_t *bytes)
{
    static const uint8_t zeros[MIG_PAGE];
    static struct mig_ram ram;
    uint8_t *pages, *from;
    bool same = false;

    if ((c->index > 0 && counts(f)) || !decode_ram(c, f, &ram)) {
        return false;
    }
    pages = from = payload(c, f, &ram);
    for (uint32_t i = 0; i < ram.run_count; i++) {
        const struct mig_ram_run *run = &ram.run[i];
        const uint8_t *at = run->kind == MIG_RAM_RAW && page >= run->first
                                ? from + (page - run->first) * MIG_PAGE
                                : zeros;

        same =
            same || (page - run->first < run->count && memcmp(at, bytes, MIG_PAGE) == 0);
        from += run->kind == MIG_RAM_RAW ? run->count * MIG_PAGE : 0;
    }
    free(pages);
    return same;
}

static bool came_later(uint64_t page, const uint8_t *bytes)
{
    for (unsigned i = 0; i < MIG_ORACLE_CONNS; i++) {
        const struct conn *c = &o.conn[i];

        for (const struct ram_frame *f = c->opened ? c->ram : NULL; f != NULL;
             f = f->next) {
            if (came_so(c, f, page, bytes)) {
                return true;
            }
        }
    }
    return false;
}

/* A page through the file: to touch the memory of a post-copy may mean to wait. */
static const uint8_t *look_at(const struct engine_ram *ram, uint64_t page,
                              struct mig_verify_seen *seen,
                              uint8_t bytes[static MIG_PAGE])
{
    if (page >= seen->end) {
        seen->begin = page;
        if (!engine_ram_data(ram, &seen->begin, &seen->end)) {
            seen->begin = seen->end = UINT64_MAX;
        }
    }
    if (page < seen->begin) {
        memset(bytes, 0, MIG_PAGE);
    } else {
        BUG_ON(pread(ram->fd, bytes, MIG_PAGE, (off_t)(page * MIG_PAGE)) !=
               (ssize_t)MIG_PAGE);
    }
    return bytes;
}

uint64_t mig_oracle_compare(const struct engine_ram *ram, bool filled)
{
    uint8_t bytes[2][MIG_PAGE];
    struct mig_verify_seen seen[2] = {{0}};

    (void)mig_oracle_memory();
    for (uint64_t page = 0; page < ram->page_count; page++) {
        const uint8_t *theirs = look_at(ram, page, &seen[0], bytes[0]);
        const uint8_t *mine = look_at(&o.ram, page, &seen[1], bytes[1]);

        if (is_missing(page) ? filled && !came_later(page, theirs)
                             : memcmp(theirs, mine, MIG_PAGE) != 0) {
            return page;
        }
    }
    return UINT64_MAX;
}
