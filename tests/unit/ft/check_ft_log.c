/* SPDX-License-Identifier: Apache-2.0 */
#include "ft/ft_log.h"

#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "tests/unit/golden.h"
#include "tests/unit/unit.h"
#include "vmm/machine.h"

#define STREAM_MAX (64 * 1024)

static uint8_t stream[STREAM_MAX];
static size_t stream_len;
static uint64_t seq;

static void add(struct bytes_wr *wr)
{
    size_t len = ft_finish(wr, ++seq);

    ck_assert_uint_gt(len, FT_HEADER_LEN - 1);
    stream_len += len;
}

static void start(struct bytes_wr *wr, enum ft_type type, uint64_t exits, uint32_t device)
{
    ft_begin(wr, stream + stream_len, STREAM_MAX - stream_len, type, 0, exits, device);
}

static const struct ft_head head = {
    .machine = MACHINE_LOCKSTEP,
    .ram_len = 16 << 20,
    .cpuid = UINT64_C(0x1122334455667788),
    .firmware.b = {1, 2, 3},
    .epoch = 7,
    .crash_on_triple_fault = 1,
    .disk_count = 2,
    .nic_count = 1,
    .disk = {{8192, 0, "first"}, {UINT64_C(1) << 33, 1, "twenty characters..."}},
    .mac = {{0x52, 0x54, 0, 0, 0, 1}},
    .cmdline = "rate=50 tick",
};
static const uint8_t bytes[] = {'a', 'b', 'c', 'd', 'e'};
static const struct dev_input input = {.type = INPUT_BLK_DONE,
                                       .now_ns = 11,
                                       .value = 12,
                                       .slot = 13,
                                       .generation = 14,
                                       .status = 15,
                                       .data = bytes,
                                       .len = sizeof bytes};
static const struct ft_exit ft_exit_in = {
    .kind = TAPE_EXIT_OUT,
    .address = 0x3F8,
    .size = 1,
    .len = 3,
    .data = bytes,
    .chain = UINT64_C(0xFEDCBA9876543210),
    .boundary = 1,
    .changed = 1u << 1 | 1u << TAPE_REG_RIP,
    .reg = {0, 0xB, [TAPE_REG_RIP] = 0xFFF0},
};
static const struct ft_output output = {
    .ordinal = 1, .kind = TAPE_OUT_SERIAL, .len = 3, .sum.b = {9, 8}};
static const struct ft_end end = {
    .inputs = 1, .outputs = 2, .pages = 3, .chain = 4, .state.b = {5}, .ram.b = {6}};
static const uint64_t sums[] = {3, 33, 4, 44};

/* One record of each type, as tests/golden/wire/v1/ft_log.bin. */
static void example(void)
{
    struct bytes_wr wr;

    stream_len = 0;
    seq = 0;
    start(&wr, FT_HEAD, 0, 0);
    ft_put_head(&wr, &head);
    add(&wr);
    start(&wr, FT_INPUT, 0, MACHINE_DEV_VIRTIO0);
    ft_put_input(&wr, &input);
    add(&wr);
    start(&wr, FT_CLOCK, 1, 0);
    ft_put_u64(&wr, 123456789);
    add(&wr);
    start(&wr, FT_OUTPUT, 1, 0);
    ft_put_output(&wr, &output);
    add(&wr);
    start(&wr, FT_EXIT, 1, 0);
    ft_put_exit(&wr, &ft_exit_in);
    add(&wr);
    start(&wr, FT_CONTROL, 1, 0);
    ft_put_u64(&wr, TAPE_CONTROL_RESET);
    add(&wr);
    start(&wr, FT_BARRIER, 1, 0);
    ft_put_u64(&wr, 5);
    ft_put_u64(&wr, 6);
    add(&wr);
    start(&wr, FT_STATE, 2, 0);
    ft_put_state(&wr, 10, 5, bytes, sizeof bytes);
    add(&wr);
    start(&wr, FT_BEAT, 2, 0);
    ft_put_u64(&wr, 7);
    ft_put_u64(&wr, 8);
    add(&wr);
    start(&wr, FT_SUMS, 2, 0);
    ft_put_sums(&wr, sums, 2);
    add(&wr);
    start(&wr, FT_DISK, 2, 1);
    ft_put_disk(
        &wr, &(struct ft_disk){
                 .sector = 9, .op = REQUEST_WRITE, .len = sizeof bytes, .bytes = bytes});
    add(&wr);
    start(&wr, FT_SAID, 2, 0);
    ft_put_said(&wr, &(struct ft_said){.ordinal = 3,
                                       .kind = TAPE_OUT_SERIAL,
                                       .len = sizeof bytes,
                                       .bytes = bytes});
    add(&wr);
    start(&wr, FT_END, 2, 0);
    ft_put_end(&wr, &end);
    add(&wr);
}

static const struct tape_out held = {.kind = TAPE_OUT_FRAME,
                                     .unit = 1,
                                     .queue = 2,
                                     .op = 3,
                                     .sector = 4,
                                     .size = 5,
                                     .data = bytes,
                                     .len = sizeof bytes};

/* Those of a repair, as tests/golden/wire/v1/ft_repair.bin. */
static void repair_example(void)
{
    struct bytes_wr wr;

    stream_len = 0;
    seq = 0;
    start(&wr, FT_SET, 7, 0);
    for (unsigned i = 0; i < FT_SET_FIELDS; i++) {
        ft_put_u64(&wr, 10 + i);
    }
    add(&wr);
    start(&wr, FT_HELD, 7, held.unit);
    ft_put_held(&wr, 99, &held);
    add(&wr);
}

/* The nth record of the example, in memory of exactly its size. */
static struct ft_record nth(unsigned n, uint8_t **ret_copy)
{
    struct ft_record r;
    size_t at = 0;

    example();
    for (unsigned i = 0;; i++) {
        ck_assert_int_eq(ft_check(stream + at, stream_len - at, &r), FT_OK);
        if (i == n) {
            break;
        }
        at += r.len;
    }
    *ret_copy = malloc(r.len);
    memcpy(*ret_copy, stream + at, r.len);
    ck_assert_int_eq(ft_check(*ret_copy, r.len, &r), FT_OK);
    return r;
}

/* Changes a byte of a record and mends its crc; what ft_check says. */
static enum ft_reason poke(uint8_t *record, size_t at, uint8_t value,
                           struct ft_record *ret)
{
    uint32_t len = ft_length(record), crc;

    record[at] = value;
    memset(record + 24, 0, 4);
    crc = crc32c(0, record, len);
    memcpy(record + 24, &crc, 4);
    return ft_check(record, len, ret);
}

START_TEST(golden)
{
    size_t len;
    unsigned char *want = golden_load("wire/v1/ft_log.bin", &len);

    example();
    ck_assert_uint_eq(stream_len, len);
    ck_assert_mem_eq(stream, want, len);
    free(want);
}
END_TEST

START_TEST(a_stream_is_followed)
{
    struct ft_follow f = {0};
    struct ft_record r;
    unsigned type = 0, seen = 0;

    example();
    for (size_t at = 0; at < stream_len; at += r.len) {
        ck_assert_int_eq(ft_check(stream + at, stream_len - at, &r), FT_OK);
        ck_assert_int_eq(ft_follow(&f, &r), FT_OK);
        ck_assert_int_eq(ft_follow(&f, &r), FT_BAD_SEQUENCE); /* twice */
        seen |= 1u << r.type;
        type = r.type;
    }
    ck_assert_uint_eq(type, FT_END);
    ck_assert_uint_eq(seen | 1u << FT_PAGES | 1u << FT_SET | 1u << FT_HELD,
                      (1u << FT_TYPE_COUNT) - 2);
    r.seq = f.seq + 1;
    r.exits = f.exits - 1;
    ck_assert_int_eq(ft_follow(&f, &r), FT_BAD_EXITS);
    r.exits = f.exits;
    r.seq++; /* a gap */
    ck_assert_int_eq(ft_follow(&f, &r), FT_BAD_SEQUENCE);
}
END_TEST

START_TEST(repairs_come_back)
{
    size_t len;
    unsigned char *want = golden_load("wire/v1/ft_repair.bin", &len);
    uint64_t field[FT_SET_FIELDS], ordinal;
    struct tape_out out;
    struct ft_record r;
    uint32_t at;

    repair_example();
    ck_assert_uint_eq(stream_len, len);
    ck_assert_mem_eq(stream, want, len);
    ck_assert_int_eq(ft_check(want, len, &r), FT_OK);
    ck_assert_int_eq(ft_get_u64(&r, field, FT_SET_FIELDS), FT_OK);
    ck_assert_uint_eq(field[FT_SET_COUNT], 10 + FT_SET_COUNT);
    at = r.len;
    ck_assert_int_eq(ft_check(want + at, len - at, &r), FT_OK);
    ck_assert_int_eq(ft_get_held(&r, &ordinal, &out), FT_OK);
    ck_assert_uint_eq(ordinal, 99);
    ck_assert_int_eq(out.kind, held.kind);
    ck_assert_uint_eq(out.unit, 1);
    ck_assert_uint_eq(out.queue, 2);
    ck_assert_uint_eq(out.op, 3);
    ck_assert_uint_eq(out.sector, 4);
    ck_assert_uint_eq(out.size, 5);
    ck_assert_uint_eq(out.len, held.len);
    ck_assert_mem_eq(out.data, bytes, held.len);
    ck_assert_int_eq(poke(want + at, 32 + 16, TAPE_OUT_KINDS, &r), FT_OK);
    ck_assert_int_eq(ft_get_held(&r, &ordinal, &out), FT_BAD_VALUE);
    /* A disk's bytes are all of it, or none. */
    ck_assert_int_eq(poke(want + at, 32 + 16, TAPE_OUT_DISK, &r), FT_OK);
    ck_assert_int_eq(ft_get_held(&r, &ordinal, &out), FT_OK);
    ck_assert_int_eq(poke(want + at, 32 + 28, 6, &r), FT_OK);
    ck_assert_int_eq(ft_get_held(&r, &ordinal, &out), FT_BAD_VALUE);
    /* More than the record has. */
    ck_assert_int_eq(poke(want + at, 32 + 28, 200, &r), FT_OK);
    ck_assert_int_eq(poke(want + at, 32 + 32, 200, &r), FT_OK);
    ck_assert_int_eq(ft_get_held(&r, &ordinal, &out), FT_BAD_BODY);
    free(want);
}
END_TEST

START_TEST(bodies_come_back)
{
    struct ft_head h;
    struct dev_input in;
    struct ft_exit x = {.reg = {1, 2, 3}};
    struct ft_output o;
    struct ft_state s;
    struct ft_sums *m = malloc(sizeof *m);
    struct ft_disk d;
    struct ft_said w;
    struct ft_end e;
    uint64_t v[2];
    uint8_t *copy;
    struct ft_record r = nth(0, &copy);

    ck_assert_int_eq(ft_get_head(&r, &h), FT_OK);
    ck_assert_mem_eq(&h, &head, sizeof h);
    free(copy);
    r = nth(1, &copy);
    ck_assert_int_eq(ft_get_input(&r, &in), FT_OK);
    ck_assert_uint_eq(r.device, MACHINE_DEV_VIRTIO0);
    ck_assert_int_eq(in.type, input.type);
    ck_assert_uint_eq(in.now_ns, input.now_ns);
    ck_assert_uint_eq(in.value, input.value);
    ck_assert_uint_eq(in.slot, input.slot);
    ck_assert_uint_eq(in.generation, input.generation);
    ck_assert_uint_eq(in.status, input.status);
    ck_assert_uint_eq(in.len, input.len);
    ck_assert_mem_eq(in.data, bytes, sizeof bytes);
    free(copy);
    r = nth(2, &copy);
    ck_assert_int_eq(ft_get_u64(&r, v, 1), FT_OK);
    ck_assert_uint_eq(v[0], 123456789);
    ck_assert_int_eq(ft_get_u64(&r, v, 2), FT_BAD_BODY);
    free(copy);
    r = nth(3, &copy);
    ck_assert_int_eq(ft_get_output(&r, &o), FT_OK);
    ck_assert_mem_eq(&o, &output, sizeof o);
    free(copy);
    r = nth(4, &copy);
    ck_assert_int_eq(ft_get_exit(&r, &x), FT_OK);
    ck_assert_uint_eq(x.kind, ft_exit_in.kind);
    ck_assert_uint_eq(x.address, ft_exit_in.address);
    ck_assert_uint_eq(x.chain, ft_exit_in.chain);
    ck_assert_uint_eq(x.boundary, 1);
    ck_assert_uint_eq(x.changed, ft_exit_in.changed);
    ck_assert_uint_eq(x.reg[0], 1); /* did not change: left alone */
    ck_assert_uint_eq(x.reg[1], 0xB);
    ck_assert_uint_eq(x.reg[TAPE_REG_RIP], 0xFFF0);
    ck_assert_uint_eq(x.len, 3);
    ck_assert_mem_eq(x.data, "abc", 3);
    free(copy);
    r = nth(7, &copy);
    ck_assert_int_eq(ft_get_state(&r, &s), FT_OK);
    ck_assert_uint_eq(s.total, 10);
    ck_assert_uint_eq(s.offset, 5);
    ck_assert_uint_eq(s.len, sizeof bytes);
    free(copy);
    r = nth(9, &copy);
    ck_assert_int_eq(ft_get_sums(&r, m), FT_OK);
    ck_assert_uint_eq(m->count, 2);
    ck_assert_mem_eq(m->pair, sums, sizeof sums);
    free(copy);
    r = nth(10, &copy);
    ck_assert_int_eq(ft_get_disk(&r, &d), FT_OK);
    ck_assert_uint_eq(d.sector, 9);
    ck_assert_uint_eq(d.op, REQUEST_WRITE);
    ck_assert_uint_eq(d.len, sizeof bytes);
    ck_assert_mem_eq(d.bytes, bytes, sizeof bytes);
    ck_assert_uint_eq(r.device, 1);
    free(copy);
    r = nth(11, &copy);
    ck_assert_int_eq(ft_get_said(&r, &w), FT_OK);
    ck_assert_uint_eq(w.ordinal, 3);
    ck_assert_uint_eq(w.kind, TAPE_OUT_SERIAL);
    ck_assert_uint_eq(w.len, sizeof bytes);
    ck_assert_mem_eq(w.bytes, bytes, sizeof bytes);
    free(copy);
    r = nth(12, &copy);
    ck_assert_int_eq(ft_get_end(&r, &e), FT_OK);
    ck_assert_mem_eq(&e, &end, sizeof e);
    free(copy);
    free(m);
}
END_TEST

START_TEST(headers_are_judged)
{
    struct ft_record r;
    uint8_t *copy;

    (void)nth(2, &copy); /* a CLOCK of 40 bytes */
    for (size_t len = 0; len < 40; len++) {
        ck_assert_int_eq(ft_check(copy, len, &r), FT_NEED_MORE);
    }
    for (size_t at = 8; at < 40; at++) { /* any byte behind the length and type */
        copy[at] ^= 4;
        ck_assert_int_eq(ft_check(copy, 40, &r), FT_BAD_CRC);
        copy[at] ^= 4;
    }
    ck_assert_int_eq(poke(copy, 6, FT_FLAG_OPTIONAL, &r), FT_OK);
    ck_assert_int_eq(poke(copy, 6, 2, &r), FT_BAD_FLAGS);
    ck_assert_int_eq(poke(copy, 6, 0, &r), FT_OK);
    ck_assert_int_eq(poke(copy, 4, FT_TYPE_COUNT, &r), FT_BAD_TYPE);
    ck_assert_int_eq(poke(copy, 6, FT_FLAG_OPTIONAL, &r), FT_OK);
    ck_assert_int_eq(poke(copy, 4, 0, &r), FT_OK); /* optional: somebody skips it */
    for (unsigned bad = 0; bad < 4; bad++) {
        static const uint32_t len[] = {41, 24, 0, FT_RECORD_MAX + 8};

        memcpy(copy, &len[bad], 4);
        ck_assert_int_eq(ft_check(copy, 40, &r), FT_BAD_LENGTH);
    }
    free(copy);
}
END_TEST

/* A poked record of the example, and what its decoder says. */
static enum ft_reason poked(unsigned n, size_t at, uint8_t value)
{
    static struct ft_sums m;
    struct ft_disk d;
    struct ft_said w;
    struct ft_record r;
    struct ft_head h;
    struct dev_input in;
    struct ft_exit x = {.kind = 0};
    struct ft_output o;
    struct ft_state s;
    struct ft_end e;
    enum ft_reason reason = FT_OK;
    uint64_t v[2];
    uint8_t *copy;

    (void)nth(n, &copy);
    ck_assert_int_eq(poke(copy, FT_HEADER_LEN + at, value, &r), FT_OK);
    switch (r.type) {
    case FT_HEAD:
        reason = ft_get_head(&r, &h);
        break;
    case FT_INPUT:
        reason = ft_get_input(&r, &in);
        break;
    case FT_EXIT:
        reason = ft_get_exit(&r, &x);
        break;
    case FT_OUTPUT:
        reason = ft_get_output(&r, &o);
        break;
    case FT_STATE:
        reason = ft_get_state(&r, &s);
        break;
    case FT_SUMS:
        reason = ft_get_sums(&r, &m);
        break;
    case FT_DISK:
        reason = ft_get_disk(&r, &d);
        break;
    case FT_SAID:
        reason = ft_get_said(&r, &w);
        break;
    case FT_END:
        reason = ft_get_end(&r, &e);
        break;
    default:
        reason = ft_get_u64(&r, v, 1);
        break;
    }
    free(copy);
    return reason;
}

static const struct {
    uint64_t sector;
    uint32_t op, len;
    bool fits;
} fits[] = {
    {0, REQUEST_WRITE, 512, true},
    {0, REQUEST_WRITE, 4096, true},
    {0, REQUEST_WRITE, 4608, false},
    {7, REQUEST_WRITE, 512, true},
    {7, REQUEST_WRITE, 1024, false},
    {8, REQUEST_WRITE, 512, false},
    {8, REQUEST_WRITE_ZEROES, 0, true},
    {0, REQUEST_WRITE_ZEROES, UINT32_MAX / 512 * 512, false},
    {INT64_MAX / 512, REQUEST_WRITE, 512, false},
    {0, REQUEST_WRITE, 100, false},
    {3, REQUEST_DISCARD, 4096, false},
    {9, REQUEST_FLUSH, 0, true},
};

START_TEST(a_write_lies_within_its_disk)
{
    for (size_t i = 0; i < sizeof fits / sizeof fits[0]; i++) {
        ck_assert_msg(ft_disk_fits(&(struct ft_disk){.sector = fits[i].sector,
                                                     .op = fits[i].op,
                                                     .len = fits[i].len},
                                   8) == fits[i].fits,
                      "row %zu", i);
    }
}
END_TEST

START_TEST(bodies_are_judged)
{
    ck_assert_int_eq(poked(0, 0, 2), FT_BAD_FORMAT);
    ck_assert_int_eq(poked(0, 80, 2), FT_BAD_VALUE); /* a bool */
    ck_assert_int_eq(poked(0, 81, VM_DISKS_MAX + 1), FT_BAD_VALUE);
    ck_assert_int_eq(poked(0, 81, 1), FT_BAD_BODY);     /* one disk too many follows */
    ck_assert_int_eq(poked(0, 83, 1), FT_BAD_VALUE);    /* reserved */
    ck_assert_int_eq(poked(0, 84, 11), FT_BAD_BODY);    /* a letter where padding is */
    ck_assert_int_eq(poked(0, 85, 0xFF), FT_BAD_VALUE); /* command line too long */
    ck_assert_int_eq(poked(1, 0, 0), FT_BAD_VALUE);
    ck_assert_int_eq(poked(1, 0, INPUT_TYPE_COUNT), FT_BAD_VALUE);
    ck_assert_int_eq(poked(1, 4, 9), FT_BAD_BODY); /* longer than the record */
    ck_assert_int_eq(poked(1, 4, 4), FT_BAD_BODY); /* padding that is not 0 */
    ck_assert_int_eq(poked(1, 36, 1), FT_BAD_VALUE);
    ck_assert_int_eq(poked(3, 0, 0), FT_BAD_VALUE); /* ordinals begin with 1 */
    ck_assert_int_eq(poked(3, 8, TAPE_OUT_KINDS), FT_BAD_VALUE);
    ck_assert_int_eq(poked(4, 0, TAPE_EXIT_KINDS), FT_BAD_VALUE);
    ck_assert_int_eq(poked(4, 26, 0xFF), FT_BAD_VALUE); /* registers that there are not */
    ck_assert_int_eq(poked(4, 28, 0x0F), FT_BAD_BODY);
    ck_assert_int_eq(poked(7, 4, 6), FT_BAD_VALUE); /* beyond the total */
    ck_assert_int_eq(poked(7, 12, 1), FT_BAD_VALUE);
    ck_assert_int_eq(poked(9, 24, 2), FT_BAD_VALUE); /* pages out of order */
    ck_assert_int_eq(poked(9, 0, 3), FT_BAD_BODY);
    ck_assert_int_eq(poked(9, 4, 1), FT_BAD_VALUE);
    ck_assert_int_eq(poked(10, 8, REQUEST_READ), FT_BAD_VALUE);
    ck_assert_int_eq(poked(10, 7, 0xFF), FT_BAD_VALUE); /* far beyond any disk */
    ck_assert_int_eq(poked(10, 12, 0), FT_BAD_VALUE);
    ck_assert_int_eq(poked(10, 12, 200), FT_BAD_BODY);
    ck_assert_int_eq(poked(11, 0, 0), FT_BAD_VALUE);
    ck_assert_int_eq(poked(11, 8, TAPE_OUT_FRAME), FT_BAD_VALUE);
    ck_assert_int_eq(poked(11, 12, 0), FT_BAD_VALUE);
    ck_assert_int_eq(poked(11, 12, 200), FT_BAD_BODY);
}
END_TEST

START_TEST(what_does_not_fit_is_not_made)
{
    uint8_t small[48];
    struct bytes_wr wr;

    ft_begin(&wr, small, sizeof small, FT_INPUT, 0, 0, 0);
    ft_put_input(&wr, &input);
    ck_assert_uint_eq(ft_finish(&wr, 1), 0);
}
END_TEST

START_TEST(everything_has_a_word)
{
    for (int i = 0; i < FT_REASON_COUNT; i++) {
        ck_assert_str_ne(ft_reason_str((enum ft_reason)i), "?");
    }
    ck_assert_str_eq(ft_reason_str(FT_REASON_COUNT), "?");
    ck_assert_str_eq(ft_type_str(FT_TYPE_COUNT), "something");
    ck_assert_str_eq(ft_type_str(FT_SUMS), "page sums");
}
END_TEST

static Suite *ft_log_suite(void)
{
    Suite *suite = suite_create("ft_log");
    TCase *tc = tcase_create("ft_log");

    tcase_add_test(tc, golden);
    tcase_add_test(tc, a_stream_is_followed);
    tcase_add_test(tc, bodies_come_back);
    tcase_add_test(tc, repairs_come_back);
    tcase_add_test(tc, headers_are_judged);
    tcase_add_test(tc, a_write_lies_within_its_disk);
    tcase_add_test(tc, bodies_are_judged);
    tcase_add_test(tc, what_does_not_fit_is_not_made);
    tcase_add_test(tc, everything_has_a_word);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(ft_log_suite)
