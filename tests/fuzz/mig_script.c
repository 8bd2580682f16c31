/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/mig_script.h"

#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "base/crc32c.h"
#include "base/frame.h"
#include "base/text.h"
#include "migrate/mig_conn.h"
#include "migrate/mig_disk.h"
#include "migrate/mig_holes.h"
#include "migrate/mig_msg.h"
#include "migrate/mig_verify.h"
#include "migrate/mig_zstd.h"

#define BODY_ROOM (MIG_RAM_BODY_MAX + 256)

struct twist {
    uint8_t kind, value;
    uint16_t at;
};

/* One connection, as an honest source counts. */
struct stream {
    uint64_t seq, frames, pages; /* in this round */
    uint32_t round;              /* that ended last */
    size_t frame_len;
    uint8_t *frame; /* the last one */
};

static struct {
    const struct mig_script_env *env;
    struct stream stream[MIG_SCRIPT_CONNS];
    struct mig_ram runs; /* remembered */
    struct twist twist[MIG_SCRIPT_TWISTS];
    unsigned twist_count;
    uint32_t round; /* told */
    uint64_t frames, pages, missing, hashes, state_bytes;
    bool twisted;
} s;

static uint8_t body[BODY_ROOM], wire[FRAME_HEADER_LEN + BODY_ROOM];

void mig_script_page(uint64_t page, uint8_t fill, uint8_t *bytes)
{
    memset(bytes, fill, MIG_PAGE);
    if (fill != 0) {
        memcpy(bytes + page * 8 % MIG_PAGE, &page, sizeof page);
    }
}

/* Frames ----------------------------------------------------------------------------- */

struct built {
    uint16_t type, version;
    size_t len, crc_len; /* of the body; of what its checksum covers */
    uint64_t seq;
    size_t cut; /* SIZE_MAX: none */
};

static void twist_body(const struct twist *t, struct built *b)
{
    if (t->kind == MIG_TWIST_BODY && b->len > 0) {
        body[t->at % b->len] ^= t->value;
    } else if (t->kind == MIG_TWIST_SHORT && t->at < b->len) {
        b->len = t->at;
    } else if (t->kind == MIG_TWIST_GROW && b->len + (t->at & 255) <= sizeof body) {
        memset(body + b->len, t->value, t->at & 255);
        b->len += t->at & 255;
    } else if (t->kind == MIG_TWIST_TYPE) {
        b->type = (uint16_t)(t->value | (t->at & 8) << 12);
    } else if (t->kind == MIG_TWIST_SEQ) {
        b->seq += t->value;
    } else if (t->kind == MIG_TWIST_VERSION) {
        b->version ^= (uint16_t)((t->value & 127) | (t->value & 128) << 8);
    } else if (t->kind == MIG_TWIST_CUT) {
        b->cut = t->at;
    }
}

static void keep(struct stream *st, size_t len)
{
    free(st->frame);
    st->frame = malloc(len);
    BUG_ON(st->frame == NULL);
    memcpy(st->frame, wire, len);
    st->frame_len = len;
}

/* The body lies in `body`. */
static void send_frame(unsigned conn, uint16_t type, uint16_t version, size_t len)
{
    struct stream *st = &s.stream[conn];
    struct built b = {
        .type = type, .version = version, .len = len, .seq = ++st->seq, .cut = SIZE_MAX};
    struct frame f;

    for (unsigned i = 0; i < s.twist_count; i++) {
        twist_body(&s.twist[i], &b);
    }
    f = (struct frame){
        .type = b.type, .version = b.version, .seq = b.seq, .body_len = (uint32_t)b.len};
    frame_header(&f, MIG_CONN_MAGIC,
                 b.version & MIG_CONN_NO_CRC ? 0 : crc32c(0, body, b.len), wire);
    memcpy(wire + FRAME_HEADER_LEN, body, b.len);
    len = FRAME_HEADER_LEN + b.len;
    for (unsigned i = 0; i < s.twist_count; i++) {
        if (s.twist[i].kind == MIG_TWIST_WIRE) {
            wire[s.twist[i].at % len] ^= s.twist[i].value;
        }
    }
    s.twist_count = 0;
    len = b.cut < len ? b.cut : len;
    keep(st, len);
    s.env->put(s.env->ctx, conn, wire, len);
}

static void send_again(unsigned conn)
{
    const struct stream *st = &s.stream[conn];

    if (st->frame_len > FRAME_HEADER_LEN) {
        memcpy(body, st->frame + FRAME_HEADER_LEN, st->frame_len - FRAME_HEADER_LEN);
        send_frame(conn, (uint16_t)(st->frame[4] | st->frame[5] << 8),
                   (uint16_t)(st->frame[6] | st->frame[7] << 8),
                   st->frame_len - FRAME_HEADER_LEN);
    }
}

static void send_msg(unsigned conn, const struct mig_msg *msg)
{
    ssize_t len = mig_msg_pack(msg, body, MIG_CONTROL_MAX);

    if (len >= 0) {
        send_frame(conn, (uint16_t)(MIG_FRAME_CONTROL + msg->kind), 1, (size_t)len);
    }
}

/* Lines ------------------------------------------------------------------------------ */

static void send_open(const struct mig_script_line *l)
{
    struct mig_open_msg msg = s.env->open;

    msg.index = (uint16_t)(l->conn + l->v[0]);
    msg.count = (uint16_t)(msg.count + l->v[1]);
    msg.token.b[3] ^= l->v[2];
    msg.version_max += l->v[3];
    msg.version_min += l->v[3];
    mig_open_encode(&msg, body);
    send_frame(l->conn, MIG_TYPE_OPEN, 1, MIG_OPEN_LEN);
}

static void send_hello(const struct mig_script_line *l)
{
    static struct mig_msg msg;

    msg.kind = MIG_HELLO;
    msg.hello = s.env->hello;
    msg.hello.stream_count += l->v[0];
    msg.hello.cpu_count += l->v[1];
    msg.hello.ram_len += l->v[2] * MIG_PAGE;
    msg.hello.features ^= l->v[3];
    msg.hello.vm.b[0] ^= l->v[4];
    send_msg(l->conn, &msg);
}

static void remember(const struct mig_script_line *l)
{
    uint64_t first = l->v[1] | (uint64_t)l->v[2] << 8;
    uint32_t count = 1 + (l->v[3] | (uint32_t)l->v[4] << 8);

    if (s.runs.run_count < MIG_RAM_RUNS_MAX) {
        s.runs.run[s.runs.run_count++] =
            (struct mig_ram_run){first, count, (enum mig_ram_kind)(l->v[0] & 3)};
        s.runs.pages += count;
        s.runs.raw_pages += (l->v[0] & 3) == MIG_RAM_RAW ? count : 0;
    }
}

static size_t fill_pages(uint8_t *at, uint8_t fill)
{
    uint8_t *p = at;

    for (uint32_t i = 0; i < s.runs.run_count; i++) {
        const struct mig_ram_run *run = &s.runs.run[i];

        for (uint32_t k = 0; run->kind == MIG_RAM_RAW && k < run->count; k++) {
            mig_script_page(run->first + k, fill, p);
            p += MIG_PAGE;
        }
    }
    return (size_t)(p - at);
}

/* Compressed if asked to and worth it; the length of the payload at `at`. */
static uint32_t pack_pages(uint8_t *at, size_t len)
{
    struct iovec iov = {at, len};
    struct mig_zstd *z = mig_zstd_new();
    const uint8_t *packed;
    uint32_t n = z != NULL ? mig_zstd_pack(z, &iov, 1, &packed) : 0;

    if (n > 0) {
        memcpy(at, packed, n);
    }
    mig_zstd_free(z);
    return n;
}

static void send_ram(const struct mig_script_line *l)
{
    struct stream *st = &s.stream[l->conn];
    size_t head = MIG_RAM_FIXED_LEN + s.runs.run_count * MIG_RAM_RUN_LEN, len;

    if (s.runs.run_count > 0 && s.runs.raw_pages <= MIG_RAM_PAGES_MAX) {
        len = fill_pages(body + head, l->v[1]);
        s.runs.round = st->round + 1 + l->v[2];
        s.runs.has_crc = (l->v[0] & 2) != 0;
        s.runs.packed = (l->v[0] & 1) != 0 && len > 0 ? pack_pages(body + head, len) : 0;
        len = s.runs.packed > 0 ? s.runs.packed : len;
        BUG_ON(mig_ram_encode(&s.runs, body) != head);
        st->frames++;
        st->pages += s.runs.pages;
        send_frame(l->conn, MIG_FRAME_RAM, 1 | MIG_CONN_NO_CRC, head + len);
    }
    mig_ram_begin(&s.runs, 0);
}

static void send_disk(const struct mig_script_line *l)
{
    struct stream *st = &s.stream[l->conn];
    struct mig_disk_run run = {.disk = l->v[4],
                               .kind = l->v[0] != 0 ? MIG_DISK_ZERO : MIG_DISK_RAW,
                               .round = st->round + 1,
                               .offset = l->v[2] * DISK_GRANULE,
                               .len = (l->v[3] + UINT64_C(1)) * DISK_GRANULE};
    size_t len = run.kind == MIG_DISK_RAW ? (size_t)run.len : 0;

    if (MIG_DISK_HEAD_LEN + len > sizeof body) {
        return;
    }
    mig_disk_encode(&run, body);
    memset(body + MIG_DISK_HEAD_LEN, l->v[1], len);
    st->frames++;
    send_frame(l->conn, MIG_FRAME_DISK, 1, MIG_DISK_HEAD_LEN + len);
}

static void send_round_end(const struct mig_script_line *l)
{
    struct stream *st = &s.stream[l->conn];
    struct mig_round_end end = {.round = st->round + 1 + l->v[0],
                                .frames = st->frames + l->v[1],
                                .pages = st->pages + l->v[2]};

    mig_round_end_encode(&end, body);
    s.frames += st->frames;
    s.pages += st->pages;
    st->round++;
    st->frames = st->pages = 0;
    send_frame(l->conn, MIG_FRAME_ROUND_END, 1, MIG_ROUND_END_LEN);
}

static void send_round(const struct mig_script_line *l)
{
    struct mig_msg msg = {.kind = MIG_ROUND};

    msg.round.round = ++s.round + l->v[0];
    msg.round.last = l->v[1] != 0;
    send_msg(l->conn, &msg);
}

static void send_state(const struct mig_script_line *l)
{
    memcpy(body, s.env->state, s.env->state_len);
    s.state_bytes = s.env->state_len;
    send_frame(l->conn, MIG_FRAME_STATE, 1, s.env->state_len);
}

static void send_verify(const struct mig_script_line *l)
{
    static struct mig_msg msg;
    const struct engine_ram *ram = s.env->memory(s.env->ctx);
    uint64_t blocks = (ram->page_count + MIG_BLOCK_PAGES - 1) / MIG_BLOCK_PAGES;
    struct mig_verify_seen seen = {0};

    msg.kind = MIG_VERIFY;
    msg.verify.disk = l->v[2];
    if (l->v[2] != 0) {
        msg.verify.first_block = l->v[0];
        msg.verify.count = 1;
        msg.verify.hash[0] = s.env->disk_sum(s.env->ctx);
        s.hashes++;
        send_msg(l->conn, &msg);
        return;
    }
    msg.verify.first_block = l->v[0];
    msg.verify.count = l->v[1] != 0 ? l->v[1] : (uint32_t)blocks;
    for (uint32_t i = 0; i < msg.verify.count; i++) {
        msg.verify.hash[i] =
            mig_verify_hash(ram, &seen, msg.verify.first_block + (uint64_t)i);
    }
    s.hashes += msg.verify.count;
    send_msg(l->conn, &msg);
}

static void send_missing(const struct mig_script_line *l)
{
    static uint64_t word[1024];
    struct mig_bitmap bm;
    uint64_t at = 0;

    BUG_ON(mig_bitmap_words(s.env->page_count) > sizeof word / sizeof word[0]);
    mig_bitmap_init(&bm, word, s.env->page_count);
    for (uint32_t i = 0; i < s.runs.run_count; i++) {
        const struct mig_ram_run *run = &s.runs.run[i];

        if (run->first < bm.page_count && run->count <= bm.page_count - run->first) {
            mig_bitmap_set(&bm, run->first, run->count);
        }
    }
    mig_ram_begin(&s.runs, 0);
    s.missing = mig_bitmap_count(&bm);
    send_frame(l->conn, MIG_FRAME_MISSING, 1, mig_holes_encode(&bm, &at, body));
}

static void send_finish(const struct mig_script_line *l)
{
    struct mig_msg msg = {.kind = MIG_FINISH};

    msg.finish = (struct mig_finish){.rounds = s.stream[1].round + l->v[0],
                                     .ram_frames = s.frames + l->v[1],
                                     .pages = s.pages + l->v[2],
                                     .state_bytes = s.state_bytes + l->v[4],
                                     .verify_blocks = s.hashes,
                                     .missing = s.missing + l->v[3]};
    send_msg(l->conn, &msg);
}

static void send_abort(const struct mig_script_line *l)
{
    struct mig_msg msg = {.kind = MIG_ABORT};

    msg.abort.code = MIG_END_CANCELLED + l->v[0] % 15;
    (void)text_copy(msg.abort.text, sizeof msg.abort.text, "the script says so");
    send_msg(l->conn, &msg);
}

static void add_twist(const struct mig_script_line *l)
{
    if (s.twist_count < MIG_SCRIPT_TWISTS) {
        s.twist[s.twist_count++] =
            (struct twist){.kind = l->v[0] % MIG_TWISTS,
                           .at = (uint16_t)(l->v[1] | l->v[2] << 8),
                           .value = l->v[3]};
    }
}

/* Lines that a frame, or the wire, takes as they are. */
static size_t take_lines(const struct mig_script_line *l, const uint8_t *bytes,
                         size_t len)
{
    size_t want = (l->v[2] & 63) * MIG_SCRIPT_LINE;

    s.twisted = true;
    want = want < len ? want : len;
    memcpy(body, bytes, want);
    if (l->op == 'X') {
        send_frame(l->conn, (uint16_t)(l->v[0] | l->v[1] << 8), 1, want);
    } else {
        s.env->put(s.env->ctx, l->conn, body, want);
    }
    return want;
}

static const struct {
    uint8_t op;
    void (*send)(const struct mig_script_line *line);
} table[] = {
    {'H', send_hello},  {'R', send_round},   {'P', remember},       {'F', send_ram},
    {'I', send_disk},   {'S', send_state},   {'E', send_round_end}, {'A', send_abort},
    {'V', send_verify}, {'L', send_missing}, {'N', send_finish},    {'U', add_twist},
};

bool mig_script_is_twisted(void)
{
    return s.twisted;
}

static void do_line(const struct mig_script_line *l)
{
    s.twisted = s.twisted || l->op == 'U' || l->op == 'D' ||
                (l->op == 'H' && memcmp(l->v, (uint8_t[5]){0}, 5) != 0);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].op == l->op) {
            table[i].send(l);
            return;
        }
    }
    s.env->act(s.env->ctx, l);
    if (l->op == 'C') {
        send_open(l);
    } else if (l->op == 'D') {
        send_again(l->conn);
    }
}

struct mig_script_setup mig_script_setup(const uint8_t *bytes, size_t len)
{
    uint8_t v[3] = {0};

    for (size_t i = 0; i < 3 && i + 1 < len; i++) {
        v[i] = bytes[i + 1] ^ '0';
    }
    return (struct mig_script_setup){.streams = 1 + (v[0] & 3u),
                                     .postcopy = (v[1] & 1) != 0,
                                     .verify = (v[1] & 2) != 0,
                                     .no_zstd = (v[1] & 4) != 0,
                                     .disk = (v[1] & 8) != 0,
                                     .piece = v[2] * 16u};
}

void mig_script_run(const struct mig_script_env *env, const uint8_t *bytes, size_t len)
{
    memset(&s, 0, sizeof s);
    s.env = env;
    for (size_t at = MIG_SCRIPT_LINE;
         len >= MIG_SCRIPT_LINE - 1 && at <= len - (MIG_SCRIPT_LINE - 1);) {
        struct mig_script_line l = {.op = bytes[at],
                                    .conn = (bytes[at + 1] ^ '0') % MIG_SCRIPT_CONNS};

        for (unsigned i = 0; i < sizeof l.v; i++) {
            l.v[i] = bytes[at + 2 + i] ^ '0';
        }
        at += MIG_SCRIPT_LINE;
        if (l.op == 'X' || l.op == 'B') {
            at += at < len ? take_lines(&l, bytes + at, len - at) : 0;
        } else {
            do_line(&l);
        }
    }
    for (unsigned i = 0; i < MIG_SCRIPT_CONNS; i++) {
        free(s.stream[i].frame);
    }
}
