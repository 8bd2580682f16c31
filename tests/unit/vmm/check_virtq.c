/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues against hostile drivers: every ring of size 2 against a model written
 * another way, jumps, loops, heads twice in flight, and memory that changes behind every
 * read (gmem_read is wrapped at link time): nothing may be read twice.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/virtq.h"

#define RAM_LEN  0x10000
#define ROM_BASE 0x10000
#define ROM_LEN  0x1000
#define DESC     UINT64_C(0x1000)
#define AVAIL    UINT64_C(0x3000)
#define USED     UINT64_C(0x4000)
#define DATA     UINT64_C(0x8000)

static uint8_t ram[RAM_LEN] __attribute__((aligned(4096)));
static uint8_t rom[ROM_LEN] __attribute__((aligned(4096)));
static uint64_t dirty[1];
static struct gmem gm;
static struct virtq q;
static struct virtq_chain chain;

/* A vCPU that races
 * ----------------------------------------------------------------------- */

bool __real_gmem_read(const struct gmem *g, struct gpa addr, void *dst, size_t len);
bool __wrap_gmem_read(const struct gmem *g, struct gpa addr, void *dst, size_t len);
bool __real_gmem_load16(const struct gmem *g, struct gpa addr, uint16_t *ret_value);
bool __wrap_gmem_load16(const struct gmem *g, struct gpa addr, uint16_t *ret_value);

static bool racing;
static uint8_t times_read[RAM_LEN];
static unsigned reads, outside;

/* Descriptors, and what of the avail ring a device may look at: nothing else of a queue
 * of this size is ever read by a pop. */
static bool in_ring(uint64_t addr, size_t len)
{
    return (addr >= DESC && addr + len <= DESC + q.size * 16) ||
           (addr >= AVAIL + 2 && addr + len <= AVAIL + 4 + 2 * q.size);
}

static void race(struct gpa addr, size_t len)
{
    reads++;
    outside += !in_ring(addr.v, len);
    if (!racing || addr.v + len > RAM_LEN) {
        return;
    }
    for (size_t i = 0; i < len; i++) {
        times_read[addr.v + i]++;
        ram[addr.v + i] ^= 0xFF;
    }
}

bool __wrap_gmem_read(const struct gmem *g, struct gpa addr, void *dst, size_t len)
{
    bool ok = __real_gmem_read(g, addr, dst, len);

    race(addr, len);
    return ok;
}

bool __wrap_gmem_load16(const struct gmem *g, struct gpa addr, uint16_t *ret_value)
{
    bool ok = __real_gmem_load16(g, addr, ret_value);

    race(addr, 2);
    return ok;
}

/* Rings
 * ----------------------------------------------------------------------------------- */

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

static void put_desc(unsigned index, struct desc d)
{
    memcpy(ram + DESC + index * 16, &d, 16);
}

static void put16(uint64_t addr, uint16_t value)
{
    memcpy(ram + addr, &value, 2);
}

static uint16_t get16(uint64_t addr)
{
    uint16_t value;

    memcpy(&value, ram + addr, 2);
    return value;
}

static void offer(uint16_t size, uint16_t head)
{
    uint16_t idx = get16(AVAIL + 2);

    put16(AVAIL + 4 + 2 * (idx % size), head);
    put16(AVAIL + 2, (uint16_t)(idx + 1));
}

static void setup(uint16_t size)
{
    racing = false;
    reads = 0;
    memset(ram, 0, sizeof ram);
    memset(times_read, 0, sizeof times_read);
    memset(&gm, 0, sizeof gm);
    ck_assert_int_eq(gmem_add(&gm, (struct gpa){0}, RAM_LEN, ram, false, dirty), 0);
    ck_assert_int_eq(gmem_add(&gm, (struct gpa){ROM_BASE}, ROM_LEN, rom, true, NULL), 0);
    virtq_reset(&q, VIRTQ_SIZE_MAX);
    q.size = size;
    q.desc = DESC;
    q.avail = AVAIL;
    q.used = USED;
    ck_assert(virtq_enable(&q, &gm));
}

/* The model: follows a chain by recursion and judges each descriptor on its own. -1: bad.
 */
static bool model_desc_ok(const struct desc *d)
{
    unsigned __int128 last = (unsigned __int128)d->addr + d->len - 1;

    if (d->len == 0 || d->flags > 3) {
        return false;
    }
    if (d->addr < RAM_LEN) {
        return last < RAM_LEN;
    }
    return d->addr >= ROM_BASE && last < ROM_BASE + ROM_LEN && (d->flags & 2) == 0;
}

static int model_walk(const struct desc *descs, unsigned size, unsigned index,
                      unsigned visited, bool writable_seen)
{
    int rest;

    if (index >= size || (visited & (1u << index)) != 0 ||
        !model_desc_ok(&descs[index]) ||
        (writable_seen && (descs[index].flags & 2) == 0)) {
        return -1;
    }
    if ((descs[index].flags & 1) == 0) {
        return 1;
    }
    rest = model_walk(descs, size, descs[index].next, visited | 1u << index,
                      writable_seen || (descs[index].flags & 2) != 0);
    return rest < 0 ? -1 : rest + 1;
}

static void check_chain(const struct desc *descs, unsigned head, int expected_len)
{
    unsigned index = head;

    ck_assert_uint_eq(chain.head, head);
    ck_assert_int_eq(chain.readable_count + chain.writable_count, expected_len);
    for (int i = 0; i < expected_len; i++) {
        ck_assert_uint_eq(chain.seg[i].addr.v, descs[index].addr);
        ck_assert_uint_eq(chain.seg[i].len, descs[index].len);
        ck_assert_int_eq(i >= chain.readable_count, (descs[index].flags & 2) != 0);
        index = descs[index].next;
    }
}

/* One pop against the model, in bounded work and without a look outside the rings. */
static bool check_pop(const struct desc *descs, unsigned size, uint16_t head)
{
    int expected = head < size && virtq_is_in_flight(&q, head)
                       ? -1
                       : model_walk(descs, size, head, 0, false);
    enum virtq_status status;

    reads = outside = 0;
    status = virtq_pop(&q, &gm, &chain);
    if (outside > 0 || reads > 2 + size) {
        ck_abort_msg("head %u: %u reads, %u outside", head, reads, outside);
    }
    if (status != (expected < 0 ? VIRTQ_BROKEN : VIRTQ_CHAIN)) {
        ck_abort_msg("head %u: %d, the model says %d", head, status, expected);
    }
    if (expected >= 0) {
        check_chain(descs, head, expected);
    }
    return expected >= 0;
}

static struct desc nth_desc(unsigned n)
{
    static const uint64_t addrs[] = {DATA, RAM_LEN - 1, ROM_BASE, 0x20000, UINT64_MAX};
    static const uint32_t lens[] = {0, 1, 2, UINT32_MAX};
    static const uint16_t nexts[] = {0, 1, 2, 0xFFFF};

    return (struct desc){.addr = addrs[n % 5],
                         .len = lens[n / 5 % 4],
                         .flags = n / 20 % 8,
                         .next = nexts[n / 160 % 4]};
}

START_TEST(every_ring_of_two)
{
    static const uint16_t heads[] = {0, 1, 2, 0xFFFF};
    unsigned good = 0, bad = 0;

    setup(2);
    for (unsigned i = 2; i < 8;
         i++) { /* what lies behind the table would pass as a chain */
        put_desc(i, (struct desc){DATA, 1, 2, 0});
    }
    for (unsigned a = 0; a < 640; a++) {
        for (unsigned b = 0; b < 640; b++) {
            struct desc descs[2] = {nth_desc(a), nth_desc(b)};

            put_desc(0, descs[0]);
            put_desc(1, descs[1]);
            for (unsigned h = 0; h < 4; h++) {
                put16(AVAIL + 4, heads[h]);
                put16(AVAIL + 2, 1);
                if (check_pop(descs, 2, heads[h])) {
                    good++;
                    virtq_unpop(&q, &chain);
                } else {
                    bad++;
                }
                if (q.in_flight[0] != 0) {
                    ck_abort_msg("%u %u %u: in flight", a, b, heads[h]);
                }
            }
        }
    }
    /* The enumeration reached both sides in earnest. */
    ck_assert_uint_gt(good, 10000);
    ck_assert_uint_gt(bad, 1000000);
}
END_TEST

/* Two chains at once, over every pair of descriptors whose addresses and lengths pass:
 * a head that is in flight already is refused. Given back in the other order. */
START_TEST(every_two_chains)
{
    unsigned both = 0;

    setup(2);
    for (unsigned n = 0; n < 640 * 640; n++) {
        struct desc descs[2] = {nth_desc(n % 640), nth_desc(n / 640)};

        put_desc(0, descs[0]);
        put_desc(1, descs[1]);
        for (unsigned h = 0; h < 4; h++) {
            struct virtq_chain first;
            uint16_t heads[2] = {h & 1, h >> 1};

            put16(AVAIL + 4, heads[0]);
            put16(AVAIL + 6, heads[1]);
            put16(AVAIL + 2, 2);
            if (!check_pop(descs, 2, heads[0])) {
                continue;
            }
            first = chain;
            if (check_pop(descs, 2, heads[1])) {
                both++;
                virtq_unpop(&q, &chain);
            }
            virtq_unpop(&q, &first);
        }
    }
    ck_assert_uint_gt(both, 1000);
}
END_TEST

/* 3 is no size (2.7: a power of two). Rings of 4 are too many for all: a sample, with
 * descriptors that mostly pass. */
START_TEST(rings_of_four)
{
    uint64_t random = 4;
    unsigned good = 0, longest = 0;

    setup(4);
    for (unsigned n = 0; n < 300000; n++) {
        struct desc descs[4];
        uint16_t head;

        for (unsigned i = 0; i < 4; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            descs[i] = nth_desc((unsigned)(random >> 33) % 640);
            if ((random >> 20) % 4 != 0) {
                descs[i].addr = DATA + i * 64;
                descs[i].len = 1 + (random >> 24) % 64;
                descs[i].flags = (random >> 54) % 4;
                descs[i].next = (random >> 58) % 5;
            }
            put_desc(i, descs[i]);
        }
        head = (random >> 46) % 5;
        put16(AVAIL + 4, head);
        put16(AVAIL + 2, 1);
        if (check_pop(descs, 4, head)) {
            unsigned count = chain.readable_count + chain.writable_count;

            good++;
            longest = count > longest ? count : longest;
            virtq_unpop(&q, &chain);
        }
    }
    ck_assert_uint_gt(good, 30000);
    ck_assert_uint_eq(longest, 4);
}
END_TEST

START_TEST(avail_jumps)
{
    static const uint16_t starts[] = {0, 1, 0x7FFF, 0xFFFE, 0xFFFF};

    setup(2);
    put_desc(0, (struct desc){DATA, 16, 0, 0});
    for (unsigned s = 0; s < 5; s++) {
        for (uint32_t delta = 0; delta < 0x10000; delta++) {
            enum virtq_status expected = delta == 0   ? VIRTQ_EMPTY
                                         : delta <= 2 ? VIRTQ_CHAIN
                                                      : VIRTQ_BROKEN;

            q.last_avail = starts[s];
            put16(AVAIL + 2, (uint16_t)(starts[s] + delta));
            if (virtq_pop(&q, &gm, &chain) != expected) {
                ck_abort_msg("start %u delta %u", starts[s], delta);
            }
            if (expected == VIRTQ_CHAIN) {
                virtq_unpop(&q, &chain);
            }
        }
    }
}
END_TEST

START_TEST(long_loops_end)
{
    for (unsigned length = 1; length <= VIRTQ_SIZE_MAX; length++) {
        setup(VIRTQ_SIZE_MAX);
        for (unsigned i = 0; i < length; i++) { /* a loop of `length` descriptors */
            put_desc(i, (struct desc){DATA, 1, 1, (uint16_t)((i + 1) % length)});
        }
        offer(VIRTQ_SIZE_MAX, 0);
        ck_assert_int_eq(virtq_pop(&q, &gm, &chain), VIRTQ_BROKEN);
        ck_assert_uint_le(reads, VIRTQ_SIZE_MAX + 2);
        put_desc(length - 1, (struct desc){DATA, 1, 0, 0}); /* the same, with an end */
        ck_assert_int_eq(virtq_pop(&q, &gm, &chain), VIRTQ_CHAIN);
        ck_assert_uint_eq(chain.readable_count, length);
        ck_assert_uint_eq(chain.readable_len, length);
    }
}
END_TEST

START_TEST(total_length_overflow)
{
    static uint8_t *big;
    const uint64_t big_len = UINT64_C(1) << 32, base = UINT64_C(1) << 33;

    setup(4);
    big = malloc(1); /* never touched: pop only checks ranges */
    ck_assert_int_eq(gmem_add(&gm, (struct gpa){base}, big_len, big, false, NULL), 0);
    put_desc(0, (struct desc){base, UINT32_MAX, 1, 1});
    put_desc(1, (struct desc){base, 1, 0, 0});
    offer(4, 0);
    ck_assert_int_eq(virtq_pop(&q, &gm, &chain), VIRTQ_BROKEN);
    put_desc(1, (struct desc){base, 1, 2, 0}); /* each side has its own 4 GiB */
    ck_assert_int_eq(virtq_pop(&q, &gm, &chain), VIRTQ_CHAIN);
    ck_assert_uint_eq(chain.readable_len, UINT32_MAX);
    free(big);
}
END_TEST

START_TEST(head_twice_in_flight)
{
    setup(4);
    put_desc(1, (struct desc){DATA, 16, 2, 0});
    offer(4, 1);
    ck_assert_int_eq(virtq_pop(&q, &gm, &chain), VIRTQ_CHAIN);
    ck_assert(virtq_is_in_flight(&q, 1));
    offer(4, 1);
    ck_assert_int_eq(virtq_pop(&q, &gm, &chain), VIRTQ_BROKEN);
    ck_assert(virtq_push(&q, &gm, 1, 16));
    ck_assert(!virtq_is_in_flight(&q, 1));
    ck_assert_int_eq(virtq_pop(&q, &gm, &chain), VIRTQ_CHAIN);
}
END_TEST

START_TEST(used_ring)
{
    setup(2);
    q.used_idx = 0xFFFF;
    for (uint16_t i = 0; i < 5; i++) {
        uint32_t elem[2];
        uint16_t idx = (uint16_t)(0xFFFF + i);

        dirty[0] = 0;
        ck_assert(virtq_push(&q, &gm, i % 2, 100u + i));
        memcpy(elem, ram + USED + 4 + 8 * (idx % 2), 8);
        ck_assert_uint_eq(elem[0], i % 2);
        ck_assert_uint_eq(elem[1], 100u + i);
        ck_assert_uint_eq(get16(USED + 2), (uint16_t)(idx + 1));
        ck_assert_uint_eq(dirty[0], UINT64_C(1) << (USED >> 12)); /* migration sees it */
    }
}
END_TEST

/* VIRTIO 1.2, 2.7.7.2 by counting: an interrupt when used_event is the index of one of
 * the elements written since. */
static bool model_event(uint16_t before, uint16_t now, uint16_t event)
{
    for (uint16_t i = before; i != now; i++) {
        if (i == event) {
            return true;
        }
    }
    return false;
}

START_TEST(event_idx)
{
    setup(4);
    for (int b = -6; b <= 6; b++) {
        for (int n = 0; n <= 4; n++) {
            for (int e = -12; e <= 12; e++) {
                uint16_t before = (uint16_t)b, now = (uint16_t)(b + n),
                         event = (uint16_t)e;

                q.signalled_used = before;
                q.signalled_valid = true;
                q.used_idx = now;
                put16(AVAIL + 4 + 2 * 4, event);
                ck_assert_int_eq(virtq_wants_interrupt(&q, &gm, true),
                                 model_event(before, now, event));
            }
        }
    }
    q.signalled_valid = false; /* nothing is known: better one too many */
    ck_assert(virtq_wants_interrupt(&q, &gm, true));
    put16(AVAIL, 1);
    ck_assert(!virtq_wants_interrupt(&q, &gm, false));
    put16(AVAIL, 0);
    ck_assert(virtq_wants_interrupt(&q, &gm, false));
    q.last_avail = 7;
    put16(AVAIL + 2, 7);
    ck_assert(!virtq_rearm(&q, &gm, true));
    ck_assert_uint_eq(get16(USED + 4 + 8 * 4), 7);
    put16(AVAIL + 2, 8);
    ck_assert(virtq_rearm(&q, &gm, true));
}
END_TEST

/* A driver on another processor: it says from where on it wants an interrupt, then looks
 * whether there is something already, while the device does the reverse. One of the two
 * must notice. */
#define LITMUS_ROUNDS 100000
static _Atomic unsigned arrived;
static bool driver_saw[LITMUS_ROUNDS + 1];

static void meet(unsigned round)
{
    atomic_fetch_add(&arrived, 1);
    for (unsigned spins = 0; atomic_load(&arrived) < 2 * round; spins++) {
        if (spins > 2000) { /* there may be one processor only */
            sched_yield();
        }
    }
}

static void *litmus_driver(void *event_at)
{
    uint16_t *event = event_at, *idx = (uint16_t *)(void *)(ram + USED + 2);

    for (unsigned i = 1; i <= LITMUS_ROUNDS; i++) {
        meet(2 * i - 1);
        for (volatile unsigned wait = i % 128; wait > 0; wait--) {
        }
        __atomic_store_n(event, (uint16_t)(i - 1), __ATOMIC_RELEASE);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        driver_saw[i] = __atomic_load_n(idx, __ATOMIC_ACQUIRE) == (uint16_t)i;
        meet(2 * i);
    }
    return NULL;
}

START_TEST(no_interrupt_is_lost)
{
    struct gmem plain = {.region_count = 0}; /* its dirty bitmap would be a fence */
    pthread_t driver;

    setup(4);
    ck_assert_int_eq(gmem_add(&plain, (struct gpa){0}, RAM_LEN, ram, false, NULL), 0);
    q.signalled_valid = true;
    atomic_store(&arrived, 0);
    ck_assert_int_eq(
        pthread_create(&driver, NULL, litmus_driver, ram + AVAIL + 4 + 2 * 4), 0);
    for (unsigned i = 1; i <= LITMUS_ROUNDS; i++) {
        bool wanted;

        meet(2 * i - 1);
        (void)virtq_publish(&q, &plain, 1);
        wanted = virtq_wants_interrupt(&q, &plain, true);
        meet(2 * i);
        ck_assert_msg(wanted || driver_saw[i], "round %u", i);
    }
    pthread_join(driver, NULL);
}
END_TEST

START_TEST(bad_configurations)
{
    static const struct {
        uint32_t size;
        uint64_t desc, avail, used;
    } bad[] = {
        {0, DESC, AVAIL, USED},
        {3, DESC, AVAIL, USED},
        {VIRTQ_SIZE_MAX * 2, DESC, AVAIL, USED},
        {0x10000, DESC, AVAIL, USED},
        {0x80000000, DESC, AVAIL, USED},
        {4, DESC + 8, AVAIL, USED},
        {4, DESC, AVAIL + 1, USED},
        {4, DESC, AVAIL, USED + 2},
        {4, RAM_LEN + ROM_LEN, AVAIL, USED},
        {4, RAM_LEN + ROM_LEN - 16, AVAIL, USED},
        {4, UINT64_MAX - 15, AVAIL, USED},
        {4, DESC, UINT64_MAX - 1, USED},
        {4, DESC, AVAIL, UINT64_MAX - 3},
        {4, DESC, RAM_LEN + ROM_LEN - 12, USED},
        {4, DESC, AVAIL, ROM_BASE}, /* not writable */
        {4, DESC, AVAIL, RAM_LEN - 4},
    };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        setup(4);
        q.ready = false;
        q.size = bad[i].size;
        q.desc = bad[i].desc;
        q.avail = bad[i].avail;
        q.used = bad[i].used;
        ck_assert_msg(!virtq_enable(&q, &gm) && !q.ready, "configuration %zu", i);
        ck_assert_int_eq(virtq_pop(&q, &gm, &chain), VIRTQ_EMPTY);
    }
    setup(4);
    q.desc = ROM_BASE; /* descriptors and avail may lie in ROM */
    ck_assert(virtq_enable(&q, &gm));
}
END_TEST

START_TEST(nothing_is_read_twice)
{
    for (unsigned length = 1; length <= 8; length++) {
        struct desc descs[8];

        setup(8);
        for (unsigned i = 0; i < length; i++) {
            descs[i] = (struct desc){DATA + i * 64, 8 + i, i + 1 < length ? 1 : 0,
                                     (uint16_t)(i + 1)};
            descs[i].flags |= i >= length / 2 ? 2 : 0;
            put_desc(i, descs[i]);
        }
        offer(8, 0);
        racing = true;
        ck_assert_int_eq(virtq_pop(&q, &gm, &chain), VIRTQ_CHAIN);
        racing = false;
        check_chain(descs, 0, (int)length);
        for (size_t i = 0; i < RAM_LEN; i++) {
            ck_assert_msg(times_read[i] <= 1, "byte %zx read %u times", i, times_read[i]);
        }
    }
}
END_TEST

START_TEST(copies)
{
    uint64_t random = 99;

    setup(4);
    for (unsigned round = 0; round < 20000; round++) {
        struct virtq_seg seg[4];
        uint8_t flat[64], buf[64];
        unsigned seg_count = 1 + round % 4;
        uint32_t total = 0, offset, len;
        bool ok;

        for (unsigned i = 0; i < seg_count; i++) {
            random = random * 6364136223846793005u + 1;
            seg[i].addr.v = DATA + 32 * i + (random >> 60);
            seg[i].len = 1 + (random >> 50) % 15;
            memcpy(flat + total, ram + seg[i].addr.v, seg[i].len);
            total += seg[i].len;
        }
        offset = (uint32_t)(random >> 33) % (total + 2);
        len = (uint32_t)(random >> 20) % 40;
        memset(buf, (int)round, sizeof buf);
        ok = offset + len <= total;
        if (round % 2 == 0) {
            ck_assert_int_eq(virtq_copy_to(&gm, seg, seg_count, offset, buf, len),
                             ok || len == 0);
            if (ok) {
                memcpy(flat + offset, buf, len);
            }
            for (unsigned i = 0, at = 0; ok && i < seg_count; at += seg[i++].len) {
                ck_assert(memcmp(flat + at, ram + seg[i].addr.v, seg[i].len) == 0);
            }
        } else {
            ck_assert_int_eq(virtq_copy_from(&gm, seg, seg_count, offset, buf, len),
                             ok || len == 0);
            ck_assert(!ok || memcmp(buf, flat + offset, len) == 0);
        }
    }
}
END_TEST

static Suite *virtq_suite(void)
{
    Suite *suite = suite_create("virtq");
    TCase *tc = tcase_create("virtq");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, every_ring_of_two);
    tcase_add_test(tc, every_two_chains);
    tcase_add_test(tc, rings_of_four);
    tcase_add_test(tc, avail_jumps);
    tcase_add_test(tc, long_loops_end);
    tcase_add_test(tc, total_length_overflow);
    tcase_add_test(tc, head_twice_in_flight);
    tcase_add_test(tc, used_ring);
    tcase_add_test(tc, event_idx);
    tcase_add_test(tc, no_interrupt_is_lost);
    tcase_add_test(tc, bad_configurations);
    tcase_add_test(tc, nothing_is_read_twice);
    tcase_add_test(tc, copies);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(virtq_suite)
