/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_msg.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "tests/unit/golden.h"
#include "tests/unit/migrate/mig_rand.h"
#include "tests/unit/unit.h"

static struct mig_msg msg, got;
static uint8_t buf[MIG_CONTROL_MAX];

static void make_hello(struct mig_hello *h)
{
    h->version = h->version_min = 1;
    h->features = 3;
    h->features_required = 1;
    for (uint8_t i = 0; i < 16; i++) {
        h->vm.b[i] = i;
        h->transfer.b[i] = (uint8_t)(16 + i);
    }
    text_copy(h->vm_name, sizeof h->vm_name, "web1");
    text_copy(h->node, sizeof h->node, "n1");
    text_copy(h->build, sizeof h->build, "gemel 0.1.0");
    h->stream_count = 2;
    text_copy(h->machine, sizeof h->machine, "standard");
    text_copy(h->transport, sizeof h->transport, "pci");
    text_copy(h->boot, sizeof h->boot, "kernel");
    h->cpu_count = 2;
    text_copy(h->cpu_model, sizeof h->cpu_model,
              "vendor=AuthenticAMD family=23 model=1 stepping=2 level=13 "
              "xlevel=2147483679 phys=40 linear=48 features=fpu,sse2");
    h->kvm_needs = 0x15;
    h->tsc_khz = 2500000;
    h->ram_len = UINT64_C(5) << 30;
    h->ram_low_len = UINT64_C(3) << 30;
    h->device_count = 2;
    h->device[0] = (struct mig_device){"machine", 0, 1, 1};
    h->device[1] = (struct mig_device){"virtio-blk", 1, 2, 1};
    h->disk_count = 1;
    h->disk[0] = (struct mig_disk){"data", 2097152, false, true, false};
    h->nic_count = 1;
    h->nic[0] = (struct mig_nic){{0x52, 0x54, 0x00, 0x12, 0x34, 0x56}, 2, true};
    h->verify = true;
    h->downtime_ms = 300;
    h->ram_file = 0; /* as before there was one: the golden bytes */
}

/* The values of tests/golden/wire/v1/mig_*.bin. */
static void make(struct mig_msg *m, enum mig_kind kind)
{
    memset(m, 0, sizeof *m);
    m->kind = kind;
    switch (kind) {
    case MIG_HELLO:
        make_hello(&m->hello);
        break;
    case MIG_HELLO_ACK:
        m->hello_ack = (struct mig_hello_ack){.version = 1,
                                              .features = 1,
                                              .node = "n2",
                                              .build = "gemel 0.1.0",
                                              .memory_free = UINT64_C(1) << 30,
                                              .blocker_count = 1};
        m->hello_ack.blocker[0] = (struct mig_blocker){MIG_NO_MEMORY, "memory",
                                                       "5 GiB are needed, 1 GiB is free"};
        break;
    case MIG_ROUND:
        m->round = (struct mig_round){3,       true,    1000, 123456789, 30000,
                                      1 << 20, 1 << 30, 250,  80};
        break;
    case MIG_STATS:
        m->stats = (struct mig_stats){123456000, 29990, 2};
        break;
    case MIG_VERIFY:
        m->verify.first_block = 7;
        m->verify.count = 2;
        m->verify.hash[0] = UINT64_C(0x0123456789abcdef);
        m->verify.hash[1] = 1;
        break;
    case MIG_FINISH:
        m->finish = (struct mig_finish){3, 77, 31000, 40000, 2560, 0};
        break;
    case MIG_READY:
        m->ready = (struct mig_ready){31000, 1500};
        break;
    case MIG_WANT:
        m->want.count = 2;
        m->want.page[0] = 4711;
        m->want.page[1] = UINT64_C(0x0123456789);
        break;
    case MIG_RUNS:
        m->runs.epoch = 18;
        break;
    case MIG_ALL:
        m->all = (struct mig_all){35000, 123};
        break;
    default:
        m->abort.code = MIG_END_CANCELLED;
        text_copy(m->abort.text, sizeof m->abort.text, "cancelled by root");
        break;
    }
}

static const char *golden_name(enum mig_kind kind)
{
    static const char *const name[MIG_KIND_COUNT] = {
        [MIG_HELLO] = "wire/v1/mig_hello.bin",
        [MIG_HELLO_ACK] = "wire/v1/mig_hello_ack.bin",
        [MIG_ROUND] = "wire/v1/mig_round.bin",
        [MIG_STATS] = "wire/v1/mig_stats.bin",
        [MIG_VERIFY] = "wire/v1/mig_verify.bin",
        [MIG_FINISH] = "wire/v1/mig_finish.bin",
        [MIG_READY] = "wire/v1/mig_ready.bin",
        [MIG_ABORT] = "wire/v1/mig_abort.bin",
        [MIG_WANT] = "wire/v1/mig_want.bin",
        [MIG_RUNS] = "wire/v1/mig_runs.bin",
        [MIG_ALL] = "wire/v1/mig_all.bin",
    };

    return name[kind];
}

START_TEST(every_message_goes_round)
{
    size_t len;

    make(&msg, (enum mig_kind)_i);
    len = (size_t)mig_msg_pack(&msg, buf, sizeof buf);
    ck_assert_uint_gt(len, 0);
    ck_assert_int_eq(mig_msg_unpack((unsigned)_i, buf, len, &got), MIG_MSG_OK);
    ck_assert_mem_eq(&got, &msg, sizeof msg);
    ck_assert_int_eq(mig_msg_pack(&msg, buf, len), (ssize_t)len);
    ck_assert_int_eq(mig_msg_pack(&msg, buf, len - 1), -1);
    for (size_t cut = 1; cut < len; cut++) { /* shorter: refused, or another value */
        if (mig_msg_unpack((unsigned)_i, buf, len - cut, &got) == MIG_MSG_OK) {
            ck_assert_int_ne(memcmp(&got, &msg, sizeof msg), 0);
        }
    }
}
END_TEST

START_TEST(golden_bytes)
{
    size_t golden_len, len;
    unsigned char *golden = golden_load(golden_name((enum mig_kind)_i), &golden_len);

    make(&msg, (enum mig_kind)_i);
    ck_assert_int_eq(mig_msg_unpack((unsigned)_i, golden, golden_len, &got), MIG_MSG_OK);
    ck_assert_mem_eq(&got, &msg, sizeof msg);
    len = (size_t)mig_msg_pack(&msg, buf, sizeof buf);
    ck_assert_uint_eq(len, golden_len);
    ck_assert_mem_eq(buf, golden, len);
    free(golden);
}
END_TEST

/* The largest valid ones: every list full, every text as long as it may be. */
START_TEST(the_largest_fits)
{
    size_t len;

    make(&msg, MIG_HELLO);
    memset(msg.hello.cpu_model, 'x', sizeof msg.hello.cpu_model - 1);
    msg.hello.device_count = MIG_DEVICES_MAX;
    for (unsigned i = 0; i < MIG_DEVICES_MAX; i++) {
        struct mig_device *d = &msg.hello.device[i];

        memset(d->name, 'n', sizeof d->name - 1);
        d->instance = d->version = d->min_reader = UINT16_MAX;
    }
    msg.hello.disk_count = VM_DISKS_MAX;
    msg.hello.nic_count = VM_NICS_MAX;
    for (unsigned i = 0; i < VM_NICS_MAX; i++) {
        msg.hello.nic[i].queue_pairs = UINT32_MAX;
    }
    len = (size_t)mig_msg_pack(&msg, buf, sizeof buf);
    ck_assert_uint_gt(len, 10000);
    ck_assert_int_eq(mig_msg_unpack(MIG_HELLO, buf, len, &got), MIG_MSG_OK);
    ck_assert_mem_eq(&got, &msg, sizeof msg);

    make(&msg, MIG_HELLO_ACK);
    msg.hello_ack.blocker_count = MIG_BLOCKERS_MAX;
    for (unsigned i = 0; i < MIG_BLOCKERS_MAX; i++) {
        struct mig_blocker *b = &msg.hello_ack.blocker[i];

        b->code = MIG_NO_MORE;
        memset(b->object, 'o', sizeof b->object - 1);
        memset(b->sentence, 's', sizeof b->sentence - 1);
    }
    len = (size_t)mig_msg_pack(&msg, buf, sizeof buf);
    ck_assert_int_eq(mig_msg_unpack(MIG_HELLO_ACK, buf, len, &got), MIG_MSG_OK);
    ck_assert_mem_eq(&got, &msg, sizeof msg);

    make(&msg, MIG_VERIFY);
    msg.verify.count = MIG_HASHES_MAX;
    len = (size_t)mig_msg_pack(&msg, buf, sizeof buf);
    ck_assert_int_eq(mig_msg_unpack(MIG_VERIFY, buf, len, &got), MIG_MSG_OK);
}
END_TEST

#define REFUSED(kind, change)                                                            \
    do {                                                                                 \
        make(&msg, kind);                                                                \
        ck_assert_int_gt(mig_msg_pack(&msg, buf, sizeof buf), 0);                        \
        change;                                                                          \
        ck_assert_msg(mig_msg_pack(&msg, buf, sizeof buf) < 0, #change);                 \
    } while (0)

START_TEST(what_would_be_refused_is_not_sent)
{
    struct mig_hello *h = &msg.hello;

    REFUSED(MIG_HELLO, h->version = 0);
    REFUSED(MIG_HELLO, h->version_min = 2);
    REFUSED(MIG_HELLO, h->vm = (struct uuid){{0}});
    REFUSED(MIG_HELLO, h->transfer = (struct uuid){{0}});
    REFUSED(MIG_HELLO, h->stream_count = 0);
    REFUSED(MIG_HELLO, h->stream_count = MIG_STREAMS_MAX + 1);
    REFUSED(MIG_HELLO, h->cpu_count = 0);
    REFUSED(MIG_HELLO, h->ram_len = 0);
    REFUSED(MIG_HELLO, h->ram_len++);
    REFUSED(MIG_HELLO, h->ram_len = UINT64_C(1) << 60);
    REFUSED(MIG_HELLO, h->ram_low_len = h->ram_len + MIG_PAGE);
    REFUSED(MIG_HELLO, h->device_count = MIG_DEVICES_MAX + 1);
    REFUSED(MIG_HELLO, h->device[1].name[0] = '\0');
    REFUSED(MIG_HELLO, h->device[1].min_reader = 3);
    REFUSED(MIG_HELLO, h->device[1].version = 0);
    REFUSED(MIG_HELLO, h->disk_count = VM_DISKS_MAX + 1);
    REFUSED(MIG_HELLO, h->nic_count = VM_NICS_MAX + 1);
    REFUSED(MIG_HELLO, h->nic[0].queue_pairs = 0);
    REFUSED(MIG_HELLO, memset(h->vm_name, 'x', sizeof h->vm_name));
    REFUSED(MIG_HELLO, text_copy(h->node, sizeof h->node, "n\xff"));
    REFUSED(MIG_HELLO_ACK, msg.hello_ack.blocker[0].code = (enum mig_code)63);
    REFUSED(MIG_HELLO_ACK, msg.hello_ack.blocker[0].code = MIG_OK);
    REFUSED(MIG_HELLO_ACK, msg.hello_ack.blocker[0].sentence[0] = '\0');
    REFUSED(MIG_HELLO_ACK, msg.hello_ack.blocker_count = MIG_BLOCKERS_MAX + 1);
    REFUSED(MIG_HELLO_ACK, msg.hello_ack.version = msg.hello_ack.blocker_count = 0);
    REFUSED(MIG_ROUND, msg.round.round = 0);
    REFUSED(MIG_ROUND, msg.round.throttle_permille = 1001);
    REFUSED(MIG_VERIFY, msg.verify.count = 0);
    REFUSED(MIG_VERIFY, msg.verify.disk = VM_DISKS_MAX + 1);
    REFUSED(MIG_HELLO_ACK, memset(msg.hello_ack.copy_base, 'a', UUID_STR_LEN + 1));
    REFUSED(MIG_VERIFY, msg.verify.count = MIG_HASHES_MAX + 1);
    REFUSED(MIG_VERIFY, msg.verify.first_block = UINT32_MAX);
    REFUSED(MIG_WANT, msg.want.count = 0);
    REFUSED(MIG_RUNS, msg.runs.epoch = 0);
    REFUSED(MIG_WANT, msg.want.count = MIG_WANT_MAX + 1);
    REFUSED(MIG_ABORT, msg.abort.code = (enum mig_code)200);
    REFUSED(MIG_ABORT, msg.abort.code = MIG_NO_MEMORY);
    REFUSED(MIG_ABORT, msg.abort.text[0] = '\xc0');
}
END_TEST

/* `unit` repeated to `len` bytes. */
static enum mig_msg_reason repeat(unsigned kind, const char *unit, size_t unit_len,
                                  size_t len)
{
    for (size_t i = 0; i < len; i++) {
        buf[i] = (uint8_t)unit[i % unit_len];
    }
    return mig_msg_unpack(kind, buf, len - len % unit_len, &got);
}

START_TEST(amplification_ends_at_the_budget)
{
    size_t len;

    /* Empty devices; empty blockers; unknown fields, outside and inside of a device. */
    ck_assert_int_eq(repeat(MIG_HELLO, "\xb2\x01\x00", 3, sizeof buf),
                     MIG_MSG_OVER_BUDGET);
    ck_assert_int_eq(repeat(MIG_HELLO_ACK, "\x32\x00", 2, sizeof buf),
                     MIG_MSG_OVER_BUDGET);
    ck_assert_int_eq(repeat(MIG_STATS, "\x7a\x00", 2, sizeof buf), MIG_MSG_OVER_BUDGET);
    ck_assert_int_eq(repeat(MIG_HELLO, "\xb2\x01\x00", 3, 900), MIG_MSG_BAD_FIELD);
    make(&msg, MIG_HELLO);
    len = (size_t)mig_msg_pack(&msg, buf, sizeof buf);
    buf[len] = 0xb2;
    buf[len + 1] = 0x01;
    buf[len + 2] = 80;
    for (unsigned i = 0; i < 80; i += 2) {
        buf[len + 3 + i] = 0x7a;
        buf[len + 4 + i] = 0x00;
    }
    ck_assert_int_eq(mig_msg_unpack(MIG_HELLO, buf, len + 83, &got), MIG_MSG_OVER_BUDGET);
}
END_TEST

START_TEST(limits_come_before_parsing)
{
    static uint8_t long_one[MIG_CONTROL_MAX + 1];

    ck_assert_int_eq(mig_msg_unpack(MIG_STATS, long_one, sizeof long_one, &got),
                     MIG_MSG_TOO_LONG);
    ck_assert_int_eq(mig_msg_unpack(0, "", 0, &got), MIG_MSG_UNKNOWN_KIND);
    ck_assert_int_eq(mig_msg_unpack(MIG_KIND_COUNT, "", 0, &got), MIG_MSG_UNKNOWN_KIND);
    ck_assert_int_eq(mig_msg_unpack(UINT32_MAX, "", 0, &got), MIG_MSG_UNKNOWN_KIND);
    ck_assert_int_eq(mig_msg_unpack(MIG_HELLO, "", 0, &got), MIG_MSG_BAD_FIELD);
    ck_assert_int_eq(mig_msg_unpack(MIG_STATS, "", 0, &got), MIG_MSG_OK);
    ck_assert_int_eq(mig_msg_unpack(MIG_STATS, "\x08", 1, &got), MIG_MSG_MALFORMED);
}
END_TEST

/* Appended to a valid Hello: the last value of a field counts, items are added. */
START_TEST(ids_and_lists_have_one_length)
{
    static const char id[] = "\x2a\x10"
                             "0123456789abcdef";
    size_t len;

    make(&msg, MIG_HELLO);
    len = (size_t)mig_msg_pack(&msg, buf, sizeof buf);
    memcpy(buf + len, id, 18);
    ck_assert_int_eq(mig_msg_unpack(MIG_HELLO, buf, len + 18, &got), MIG_MSG_OK);
    buf[len + 1] = 15;
    ck_assert_int_eq(mig_msg_unpack(MIG_HELLO, buf, len + 17, &got), MIG_MSG_BAD_FIELD);
    for (unsigned i = 1; i <= VM_DISKS_MAX; i++) {
        memcpy(buf + len + 3 * (i - 1), "\xba\x01\x00", 3);
        ck_assert_int_eq(mig_msg_unpack(MIG_HELLO, buf, len + 3 * i, &got),
                         i < VM_DISKS_MAX ? MIG_MSG_OK : MIG_MSG_BAD_FIELD);
    }
}
END_TEST

START_TEST(unknown_fields_are_ignored)
{
    size_t len;

    make(&msg, MIG_READY);
    len = (size_t)mig_msg_pack(&msg, buf, sizeof buf);
    memcpy(buf + len, "\x7a\x02hi", 4); /* field 15 */
    ck_assert_int_eq(mig_msg_unpack(MIG_READY, buf, len + 4, &got), MIG_MSG_OK);
    ck_assert_mem_eq(&got, &msg, sizeof msg);
}
END_TEST

START_TEST(flipped_bits_are_refused_or_sane)
{
    uint64_t seed = 7;

    for (int i = 0; i < 20000; i++) {
        enum mig_kind kind =
            (enum mig_kind)(1 + mig_rand_below(&seed, MIG_KIND_COUNT - 1));
        size_t len;

        make(&msg, kind);
        len = (size_t)mig_msg_pack(&msg, buf, sizeof buf);
        buf[mig_rand_below(&seed, len)] ^= (uint8_t)(1u << mig_rand_below(&seed, 8));
        if (mig_msg_unpack(kind, buf, len, &got) == MIG_MSG_OK) {
            ck_assert_int_ge(mig_msg_pack(&got, buf, sizeof buf), 0);
        }
    }
}
END_TEST

/* Nothing received yet is a message too. */
START_TEST(all_defaults)
{
    memset(&msg, 0, sizeof msg);
    memset(&got, 0xff, sizeof got);
    msg.kind = MIG_STATS;
    ck_assert_int_eq(mig_msg_pack(&msg, buf, sizeof buf), 0);
    ck_assert_int_eq(mig_msg_unpack(MIG_STATS, buf, 0, &got), MIG_MSG_OK);
    ck_assert_int_eq(got.kind, MIG_STATS);
    ck_assert_uint_eq(got.stats.bytes + got.stats.pages + got.stats.round, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_msg");
    TCase *tc = tcase_create("msg");

    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, every_message_goes_round, 1, MIG_KIND_COUNT);
    tcase_add_loop_test(tc, golden_bytes, 1, MIG_KIND_COUNT);
    tcase_add_test(tc, the_largest_fits);
    tcase_add_test(tc, all_defaults);
    tcase_add_test(tc, what_would_be_refused_is_not_sent);
    tcase_add_test(tc, amplification_ends_at_the_budget);
    tcase_add_test(tc, limits_come_before_parsing);
    tcase_add_test(tc, ids_and_lists_have_one_length);
    tcase_add_test(tc, unknown_fields_are_ignored);
    tcase_add_test(tc, flipped_bits_are_refused_or_sane);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
