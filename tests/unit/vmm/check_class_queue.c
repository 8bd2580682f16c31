/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Classes of bugs in virtio devices, those that come in through a queue: one test each,
 * over every queue of every device and both transports. The table of all classes is in
 * vmm/README.md; tests/mutants/lines takes out the line that each of them guards.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "tests/unit/vmm/class_rig.h"
#include "vmm/dev_vblk.h"
#include "vmm/dev_vcon.h"
#include "vmm/dev_vnet.h"

#define NEXT      VIRTQ_DESC_NEXT
#define WRITE     VIRTQ_DESC_WRITE
#define INDIRECT  VIRTQ_DESC_INDIRECT
#define READS_MAX (4 * RIG_QUEUE_SIZE + 64) /* of guest memory by one bad chain */
#define CANARY    0xC7

static void setup_mmio(void)
{
    class_open(MACHINE_TRANSPORT_MMIO);
}

static void setup_pci(void)
{
    class_open(MACHINE_TRANSPORT_PCI);
}

/* The queue is broken, the guest's memory is as it was, and everything else lives. */
static void expect_broken(const struct class_queue *q, const char *what, unsigned n)
{
    uint8_t *before = malloc(RIG_RAM_LEN);

    memcpy(before, class_rig.ram, RIG_RAM_LEN);
    class_reads = 0;
    class_poke(q);
    ck_assert_msg(class_broken(q->slot), "%s: %s %u goes through", q->name, what, n);
    ck_assert_msg(class_reads <= READS_MAX, "%s: %s %u: %u reads", q->name, what, n,
                  class_reads);
    ck_assert_msg(memcmp(before + CLASS_DATA, class_rig.ram + CLASS_DATA,
                         RIG_RAM_LEN - CLASS_DATA) == 0,
                  "%s: %s %u writes to a buffer", q->name, what, n);
    class_others_live(q->slot);
    free(before);
}

static void offer_and_break(const struct class_queue *q, uint16_t head, const char *what,
                            unsigned n)
{
    rig_offer(&class_rig, class_ring_of(q), head);
    expect_broken(q, what, n);
}

/* The first request of all works: what is refused later is refused for its own sake. */
static void expect_served(const struct class_queue *q)
{
    class_prime(q);
    class_request(q, 0);
    rig_offer(&class_rig, class_ring_of(q), 0);
    class_poke(q);
    ck_assert_msg(!class_broken(q->slot), "%s: a good request is refused", q->name);
}

/* Loops of every length, and a chain that is as long as the queue and still goes on. */
START_TEST(class_01_descriptor_loop)
{
    for (unsigned i = 0; i < CLASS_QUEUES; i++) {
        const struct class_queue *q = &class_queue[i];

        expect_served(q);
        for (unsigned length = 1; length <= RIG_QUEUE_SIZE; length++) {
            class_prime(q);
            for (unsigned d = 0; d < length; d++) {
                rig_desc(&class_rig, class_ring_of(q), d, CLASS_DATA + d * 16, 16,
                         q->flags | NEXT, (uint16_t)((d + 1) % length));
            }
            offer_and_break(q, 0, "loop of", length);
        }
    }
}
END_TEST

#define FAR_DESC UINT64_C(0xF000) /* behind all tables */

START_TEST(class_02_index_out_of_range)
{
    for (unsigned i = 0; i < CLASS_QUEUES; i++) {
        const struct class_queue *q = &class_queue[i];
        struct rig_ring *ring = class_ring_of(q);
        const uint16_t bad[] = {(uint16_t)((FAR_DESC - ring->desc) / 16),
                                RIG_QUEUE_SIZE,
                                RIG_QUEUE_SIZE + 1,
                                0x7FFF,
                                0x8000,
                                0xFFFF};

        for (unsigned n = 0; n < ARRAY_SIZE(bad); n++) {
            class_prime(q);
            /* What lies behind the table would be a fine descriptor. */
            rig_desc(&class_rig, ring, bad[0], CLASS_DATA, 16, q->flags, 0);
            offer_and_break(q, bad[n], "head", bad[n]);

            class_prime(q);
            rig_desc(&class_rig, ring, bad[0], CLASS_DATA, 16, q->flags, 0);
            rig_desc(&class_rig, ring, 0, CLASS_DATA, 16, q->flags | NEXT, bad[n]);
            offer_and_break(q, 0, "next", bad[n]);

            class_prime(q);
            class_request(q, 0);
            ring->avail_idx = bad[n] > RIG_QUEUE_SIZE ? bad[n] - 1 : bad[n];
            offer_and_break(q, 0, "avail jump of", ring->avail_idx + 1u);
        }
    }
}
END_TEST

/* Nobody offers indirect tables; a driver that uses them all the same is broken, whatever
 * stands in the table. */
START_TEST(class_03_indirect_tables)
{
    static const uint32_t lens[] = {
        0, 1, 15, 16, 17, 32, 16 * RIG_QUEUE_SIZE, 0x10000, UINT32_MAX};
    static const uint64_t tables[] = {CLASS_DATA, CLASS_DATA + 1, RIG_RAM_LEN - 16,
                                      RIG_RAM_LEN, UINT64_MAX - 15};
    static const uint16_t flags[] = {INDIRECT, INDIRECT | NEXT, INDIRECT | WRITE,
                                     INDIRECT | NEXT | WRITE};

    for (unsigned i = 0; i < CLASS_QUEUES; i++) {
        const struct class_queue *q = &class_queue[i];

        for (unsigned n = 0; n < ARRAY_SIZE(lens) * ARRAY_SIZE(tables) * 4; n++) {
            uint64_t table = tables[n / 4 % ARRAY_SIZE(tables)];

            class_prime(q);
            class_request(q, 1);
            memcpy(class_rig.ram + CLASS_DATA,
                   class_rig.ram + class_ring_of(q)->desc + 16, 48);
            rig_desc(&class_rig, class_ring_of(q), 0, table,
                     lens[n / 4 / ARRAY_SIZE(tables)], flags[n % 4], 1);
            offer_and_break(q, 0, "indirect table", n);
        }
    }
}
END_TEST

/* One side of the check is arithmetic without limits. Two regions of RAM that touch each
 * other in the guest and not in the host, a hole, ROM. */
START_TEST(class_04_ranges)
{
    static uint8_t low[0x2000] __attribute__((aligned(4096)));
    static uint8_t high[0x1000] __attribute__((aligned(4096)));
    static const struct {
        uint64_t base, len;
        bool rom;
    } region[] = {{0, 0x2000, false}, {0x2000, 0x1000, false}, {0x5000, 0x1000, true}};
    static const uint64_t edges[] = {0,
                                     0x1000,
                                     0x2000,
                                     0x3000,
                                     0x5000,
                                     0x6000,
                                     UINT64_C(1) << 32,
                                     UINT64_C(1) << 63,
                                     UINT64_MAX};
    struct gmem gm = {0};
    unsigned inside = 0;

    ck_assert_int_eq(gmem_add(&gm, (struct gpa){0}, 0x2000, low, false, NULL), 0);
    ck_assert_int_eq(gmem_add(&gm, (struct gpa){0x2000}, 0x1000, high, false, NULL), 0);
    ck_assert_int_eq(gmem_add(&gm, (struct gpa){0x5000}, 0x1000, high, true, NULL), 0);
    for (unsigned a = 0; a < ARRAY_SIZE(edges) * 5; a++) {
        for (unsigned b = 0; b < ARRAY_SIZE(edges) * 5; b++) {
            uint64_t addr = edges[a / 5] + a % 5 - 2, len = edges[b / 5] + b % 5 - 2;
            bool readable = false, writable = false;

            for (unsigned r = 0; r < 3 && len > 0; r++) {
                bool in = addr >= region[r].base &&
                          (unsigned __int128)addr + len <=
                              (unsigned __int128)region[r].base + region[r].len;

                readable = readable || in;
                writable = writable || (in && !region[r].rom);
            }
            inside += readable;
            ck_assert_msg(gmem_check(&gm, (struct gpa){addr}, len, false) == readable &&
                              gmem_check(&gm, (struct gpa){addr}, len, true) == writable,
                          "%llx + %llx", (unsigned long long)addr,
                          (unsigned long long)len);
            ck_assert((gmem_slice(&gm, (struct gpa){addr}, len, true) != NULL) ==
                      writable);
        }
    }
    ck_assert_uint_gt(inside, 50);
    for (unsigned i = 0; i < CLASS_QUEUES; i++) { /* and so for descriptors */
        static const struct {
            uint64_t addr;
            uint32_t len;
        } bad[] = {{RIG_RAM_LEN - 16, 17}, {RIG_RAM_LEN, 1},  {CLASS_DATA, UINT32_MAX},
                   {UINT64_MAX, 1},        {UINT64_MAX, 2},   {UINT64_MAX - 15, 32},
                   {CLASS_DATA, 0},        {1ull << 63, 4096}};

        for (unsigned n = 0; n < ARRAY_SIZE(bad); n++) {
            class_prime(&class_queue[i]);
            rig_desc(&class_rig, class_ring_of(&class_queue[i]), 0, bad[n].addr,
                     bad[n].len, class_queue[i].flags, 0);
            offer_and_break(&class_queue[i], 0, "range", n);
        }
    }
}
END_TEST

/* A buffer of `len` bytes between canaries, for the device to fill. */
static void fill_between_canaries(const struct class_queue *q, unsigned index,
                                  uint32_t len, uint16_t flags)
{
    memset(class_rig.ram + CLASS_DATA + index * 0x800, CANARY, 0x800);
    rig_desc(&class_rig, class_ring_of(q), index, CLASS_DATA + index * 0x800 + 0x100, len,
             flags, (uint16_t)(index + 1));
}

static void expect_canaries(unsigned index, uint32_t len, const char *what)
{
    const uint8_t *area = class_rig.ram + CLASS_DATA + index * 0x800;

    for (unsigned i = 0; i < 0x800; i++) {
        if (area[i] != CANARY && (i < 0x100 || i >= 0x100 + len)) {
            ck_abort_msg("%s: byte %d of a buffer of %u is written", what, (int)i - 0x100,
                         len);
        }
    }
}

/* What the other side has to give is longer or shorter than the buffer for it. */
START_TEST(class_05_two_lengths)
{
    static uint8_t bulk[1024];
    const struct class_queue *blk = &class_queue[0], *rx = &class_queue[1],
                             *rng = &class_queue[4], *control = &class_queue[5];
    static const uint64_t identify[2] = {8, 0}, read_header[2] = {0, 0};

    memset(bulk, 0x33, sizeof bulk);
    memset(bulk, 0, NET_HEADER_LEN);
    for (uint32_t len = 1; len <= 40; len++) {
        uint32_t id, used;

        class_prime(rng); /* entropy: 64 bytes, or fewer */
        fill_between_canaries(rng, 0, len, WRITE);
        rig_offer(&class_rig, class_ring_of(rng), 0);
        rig_notify(&class_rig, class_ring_of(rng));
        class_input(SLOT_RNG, INPUT_ENTROPY, bulk + 64, len % 2 == 0 ? 64 : 20);
        expect_canaries(0, len, "entropy");
        ck_assert(rig_used(&class_rig, class_ring_of(rng), &id, &used));
        ck_assert_uint_eq(used, len % 2 == 0 || len < 20 ? len : 20);

        class_prime(blk); /* the serial number: 20 bytes */
        memcpy(class_rig.ram + CLASS_DATA, identify, 16);
        rig_desc(&class_rig, class_ring_of(blk), 0, CLASS_DATA, 16, NEXT, 1);
        fill_between_canaries(blk, 1, len, WRITE | NEXT);
        fill_between_canaries(blk, 2, 1, WRITE);
        rig_offer(&class_rig, class_ring_of(blk), 0);
        rig_notify(&class_rig, class_ring_of(blk));
        expect_canaries(1, len < 20 ? len : 20, "serial number");
        expect_canaries(2, 1, "status");

        class_prime(rx); /* a frame into buffers of any length */
        for (unsigned d = 0; d < 4; d++) {
            fill_between_canaries(rx, d, len, WRITE);
            rig_offer(&class_rig, class_ring_of(rx), (uint16_t)d);
        }
        rig_notify(&class_rig, class_ring_of(rx));
        class_input(SLOT_NET, INPUT_NET_RX, bulk, NET_HEADER_LEN + 14 + len * 2);
        for (unsigned d = 0; d < 4; d++) {
            expect_canaries(d, len, "frame");
        }

        class_prime(control); /* 8 bytes of a message, or no room: broken */
        fill_between_canaries(control, 0, len, WRITE);
        rig_offer(&class_rig, class_ring_of(control), 0);
        rig_notify(&class_rig, class_ring_of(control));
        expect_canaries(0, len, "control message");
        ck_assert_int_eq(class_broken(SLOT_CON), len < 8);
    }
    for (uint32_t len = 0; len <= 1024; len += 256) { /* a back end that answers short */
        struct dev_input done = {.type = INPUT_BLK_DONE, .data = bulk, .len = len};

        class_prime(blk);
        memcpy(class_rig.ram + CLASS_DATA, read_header, 16);
        rig_desc(&class_rig, class_ring_of(blk), 0, CLASS_DATA, 16, NEXT, 1);
        fill_between_canaries(blk, 1, 512, WRITE | NEXT);
        fill_between_canaries(blk, 2, 1, WRITE);
        rig_offer(&class_rig, class_ring_of(blk), 0);
        rig_notify(&class_rig, class_ring_of(blk));
        ck_assert_uint_eq(class_rig.pending_count, 1);
        done.slot = class_rig.pending[0].request.slot;
        done.generation = class_rig.pending[0].request.generation;
        ck_assert_int_eq(machine_input(class_rig.m, MACHINE_DEV_VIRTIO0, &done), 0);
        expect_canaries(1, len == 512 ? 512 : 0, "disk data");
        ck_assert_uint_eq(class_rig.ram[CLASS_DATA + 0x1100], len == 512 ? 0 : 1);
    }
}
END_TEST

/* A vCPU that races
 * ----------------------------------------------------------------------- */

static uint8_t times_read[RIG_RAM_LEN];
static unsigned race_at;

/* Bytes that a device may look at again: avail.idx, avail.flags and used_event. */
static bool is_shared_word(uint64_t addr)
{
    for (unsigned i = 0; i < CLASS_QUEUES; i++) {
        const struct rig_ring *ring = class_ring_of(&class_queue[i]);

        if (addr >= ring->avail &&
            (addr < ring->avail + 4 || addr >= ring->avail + 4 + 2 * ring->size) &&
            addr < ring->used) {
            return true;
        }
    }
    return false;
}

/* Every byte turns into its opposite as soon as it was read. */
static void flip_what_was_read(uint64_t addr, size_t len)
{
    for (size_t i = 0; i < len && addr + i < RIG_RAM_LEN; i++) {
        if (!is_shared_word(addr + i)) {
            times_read[addr + i]++;
            class_rig.ram[addr + i] ^= 0xFF;
        }
    }
}

/* Everything that a guest can write changes at one moment. */
static void scramble_once(uint64_t addr, size_t len)
{
    uint64_t random = race_at * 977u;

    (void)addr;
    (void)len;
    if (class_reads != race_at) {
        return;
    }
    for (uint64_t i = CLASS_RINGS; i < RIG_RAM_LEN; i += 1 + rig_random(&random) % 7) {
        class_rig.ram[i] = (uint8_t)rig_random(&random);
    }
}

/* What went out: the log, which has disk requests, frames, bytes, and entropy wishes. */
static uint8_t *outcome(const struct class_queue *q, void (*hook)(uint64_t, size_t),
                        size_t *ret_len)
{
    uint8_t *log;

    class_prime(q);
    class_request(q, 0);
    rig_offer(&class_rig, class_ring_of(q), 0);
    rig_log_clear(&class_rig);
    class_reads = 0;
    class_on_read = hook;
    class_poke(q);
    class_on_read = NULL;
    *ret_len = class_rig.log_len;
    log = malloc(class_rig.log_len + 1);
    memcpy(log, class_rig.log, class_rig.log_len);
    return log;
}

/* Nothing is fetched twice, so it does not matter that it changes behind the fetch; and
 * what changes in the middle of everything leaves a device that works or says that it
 * does not. */
START_TEST(class_06_double_fetch)
{
    for (unsigned i = 0; i < CLASS_QUEUES; i++) {
        const struct class_queue *q = &class_queue[i];
        size_t quiet_len, racing_len, len;
        uint8_t *quiet = outcome(q, NULL, &quiet_len), *racing;
        unsigned reads = class_reads;
        uint32_t id, used;

        memset(times_read, 0, sizeof times_read);
        racing = outcome(q, flip_what_was_read, &racing_len);
        for (size_t at = 0; at < RIG_RAM_LEN; at++) {
            /* The rng looks at its queue, asks, and looks again with the answer. */
            ck_assert_msg(times_read[at] <= (q->slot == SLOT_RNG ? 2 : 1),
                          "%s: byte %zx is read %u times", q->name, at, times_read[at]);
        }
        ck_assert_msg(quiet_len == racing_len && memcmp(quiet, racing, quiet_len) == 0,
                      "%s: another outcome", q->name);
        ck_assert_msg(q->slot == SLOT_RNG || !class_broken(q->slot), "%s", q->name);
        (void)rig_used(&class_rig, class_ring_of(q), &id, &used);
        ck_assert_uint_gt(reads, 2);
        for (race_at = 1; race_at <= reads + 1; race_at++) {
            free(outcome(q, scramble_once, &len));
            class_others_live(q->slot);
        }
        free(quiet);
        free(racing);
    }
}
END_TEST

/* Heads
 * -------------------------------------------------------------------------------------
 */

static void write_request(unsigned head)
{
    class_request(&class_queue[0], head);
    rig_offer(&class_rig, class_ring_of(&class_queue[0]), (uint16_t)head);
    rig_notify(&class_rig, class_ring_of(&class_queue[0]));
}

static void complete(uint32_t slot, uint32_t generation)
{
    struct dev_input done = {
        .type = INPUT_BLK_DONE, .slot = slot, .generation = generation};

    ck_assert_int_eq(machine_input(class_rig.m, MACHINE_DEV_VIRTIO0, &done), 0);
}

/* A head that is under way is refused; answers come in any order, once. */
START_TEST(class_08_head_in_flight)
{
    const struct class_queue *blk = &class_queue[0];
    uint64_t random = 8;

    class_prime(blk);
    write_request(0);
    ck_assert_uint_eq(class_rig.pending_count, 1);
    offer_and_break(blk, 0, "head in flight", 0);
    for (unsigned round = 0; round < 500; round++) {
        unsigned answered = 0;
        bool seen[RIG_QUEUE_SIZE] = {0};

        class_prime(blk);
        write_request(0);
        write_request(3);
        ck_assert_uint_eq(class_rig.pending_count, 2);
        while (class_rig.pending_count > 0) {
            unsigned i = (unsigned)(rig_random(&random) % class_rig.pending_count);
            struct blk_request r = class_rig.pending[i].request;
            uint32_t id, len;

            complete(r.slot, r.generation + 1); /* of another time: nobody's */
            complete(r.slot + VBLK_SLOTS, r.generation);
            ck_assert(!rig_used(&class_rig, class_ring_of(blk), &id, &len));
            rig_blk_done(&class_rig, i, 0);
            complete(r.slot, r.generation); /* again: nobody waits for it */
            ck_assert(rig_used(&class_rig, class_ring_of(blk), &id, &len));
            ck_assert(!rig_used(&class_rig, class_ring_of(blk), &id, &len));
            ck_assert(id < RIG_QUEUE_SIZE && !seen[id]);
            seen[id] = true;
            answered++;
        }
        ck_assert_uint_eq(answered, 2);
        ck_assert(!class_broken(SLOT_BLK));
    }
}
END_TEST

/* Three kinds of reset between a request and its answer: the answer goes nowhere. */
START_TEST(class_09_reset_with_requests_in_flight)
{
    static const uint64_t header[2] = {0, 5};
    const struct class_queue *blk = &class_queue[0];

    for (unsigned kind = 0; kind < 3; kind++) {
        struct rig_request old;
        uint8_t *before = malloc(RIG_RAM_LEN);
        uint32_t id, len;

        class_prime(blk);
        memcpy(class_rig.ram + CLASS_DATA, header, 16);
        rig_desc(&class_rig, class_ring_of(blk), 0, CLASS_DATA, 16, NEXT, 1);
        rig_desc(&class_rig, class_ring_of(blk), 1, CLASS_DATA + 0x800, 512, NEXT | WRITE,
                 2);
        rig_desc(&class_rig, class_ring_of(blk), 2, CLASS_DATA + 0x1000, 1, WRITE, 0);
        rig_offer(&class_rig, class_ring_of(blk), 0);
        rig_notify(&class_rig, class_ring_of(blk));
        ck_assert_uint_eq(class_rig.pending_count, 1);
        old = class_rig.pending[0];
        if (kind == 0) {
            class_write_status(SLOT_BLK, 0);
        } else if (kind == 1) {
            machine_reset(class_rig.m);
        } else {
            class_write_status(SLOT_BLK, 0);
            class_start(SLOT_BLK); /* a new driver is there already */
        }
        ck_assert_uint_eq(machine_io_in_flight(class_rig.m), 1);
        memcpy(before, class_rig.ram, RIG_RAM_LEN);
        rig_blk_done(&class_rig, 0, 0);
        ck_assert_msg(memcmp(before, class_rig.ram, RIG_RAM_LEN) == 0,
                      "reset %u: guest memory is written", kind);
        ck_assert_uint_eq(machine_io_in_flight(class_rig.m), 0);
        if (kind == 2) { /* the slot's next user has another name */
            write_request(0);
            ck_assert(class_rig.pending[0].request.slot != old.request.slot ||
                      class_rig.pending[0].request.generation != old.request.generation);
            complete(old.request.slot, old.request.generation);
            ck_assert(!rig_used(&class_rig, class_ring_of(blk), &id, &len));
        }
        free(before);
    }
}
END_TEST

/* Descriptors, rings and fw_cfg's DMA that point at what devices answer to: memory is RAM
 * and ROM, nothing else can be reached from a device. */
START_TEST(class_10_dma_into_mmio)
{
    const uint64_t window[] = {BOARD_VIRTIO_BASE,
                               BOARD_VIRTIO_BASE + VMMIO_QUEUE_NOTIFY,
                               BOARD_ECAM_BASE,
                               BOARD_PCI_MMIO_BASE,
                               BOARD_PCI_VIRTIO_BAR4(0) + VPCI_NOTIFY,
                               BOARD_PCI_VIRTIO_BAR1(0),
                               BOARD_IOAPIC_BASE,
                               BOARD_LAPIC_BASE,
                               BOARD_KVM_TSS_BASE};

    for (unsigned i = 0; i < CLASS_QUEUES; i++) {
        for (unsigned n = 0; n < ARRAY_SIZE(window); n++) {
            const struct class_queue *q = &class_queue[i];

            class_prime(q);
            rig_desc(&class_rig, class_ring_of(q), 0, window[n], 16, q->flags, 0);
            offer_and_break(q, 0, "window", n);
            class_prime(q); /* the second half of a request */
            rig_desc(&class_rig, class_ring_of(q), 0, CLASS_DATA, 16, q->flags | NEXT, 1);
            rig_desc(&class_rig, class_ring_of(q), 1, window[n], 16, q->flags, 0);
            offer_and_break(q, 0, "window behind RAM", n);
        }
    }
    for (unsigned n = 0; n < ARRAY_SIZE(window); n++) {
        /* big-endian: control (read item 0x19), length, address */
        uint8_t dma[16] = {0, 0x19, 0, 0x0A, 0, 0, 0, 16};

        for (unsigned b = 0; b < 8; b++) {
            dma[8 + b] = (uint8_t)(window[n] >> (56 - 8 * b));
        }
        class_prime(&class_queue[0]);
        memcpy(class_rig.ram + CLASS_DATA, dma, sizeof dma);
        rig_out(&class_rig, BOARD_FWCFG_DMA_PORT, 4, 0);
        rig_out(&class_rig, BOARD_FWCFG_DMA_PORT + 4, 4,
                __builtin_bswap32((uint32_t)CLASS_DATA));
        ck_assert_uint_eq(class_rig.ram[CLASS_DATA + 3], 1); /* the error bit */
        class_others_live(CLASS_SLOTS);
    }
}
END_TEST

static void serial_calls_back(void *ctx, const uint8_t *bytes, uint32_t len)
{
    (void)bytes;
    (void)len;
    rig_out(ctx, BOARD_DEBUG_PORT, 1, 0);
}

/* A device that is entered while it runs is our bug, and ends us at once (SIGABRT). */
START_TEST(class_10_no_device_is_entered_twice)
{
    struct machine_ops ops = *rig_ops;

    ops.serial_out = serial_calls_back;
    ck_assert_int_eq(machine_init(class_rig.memory, &class_rig.conf, &class_rig.gm, &ops,
                                  &class_rig, &class_rig.m),
                     0);
    rig_out(&class_rig, BOARD_DEBUG_PORT, 1, 'x'); /* the test's own way works */
    rig_out(&class_rig, BOARD_SERIAL_PORT, 1, 'x');
}
END_TEST

/* The used ring against a model, over a wrap of its index and with a guest that writes
 * into it: our index is our own, and a length is what was written. */
START_TEST(class_11_used_ring)
{
    static const uint8_t entropy[64] = {7};
    const struct class_queue *rng = &class_queue[4];
    struct rig_ring *ring = class_ring_of(rng);
    uint64_t random = 11;

    class_prime(rng);
    for (uint32_t n = 0; n < 70000; n++) {
        uint32_t len = 1 + (uint32_t)(rig_random(&random) % 100), elem[2];
        uint16_t idx;

        /* a guest's scribble over all of the used ring but its flags */
        memset(class_rig.ram + ring->used + 2, (int)n, 2 + 8 * ring->size);
        rig_desc(&class_rig, ring, n % RIG_QUEUE_SIZE, CLASS_DATA, len, WRITE, 0);
        rig_offer(&class_rig, ring, (uint16_t)(n % RIG_QUEUE_SIZE));
        rig_notify(&class_rig, ring);
        class_input(SLOT_RNG, INPUT_ENTROPY, entropy, sizeof entropy);
        memcpy(&idx, class_rig.ram + ring->used + 2, 2);
        memcpy(elem, class_rig.ram + ring->used + 4 + 8 * (n % ring->size), 8);
        if (idx != (uint16_t)(n + 1) || elem[0] != n % RIG_QUEUE_SIZE ||
            elem[1] != (len < sizeof entropy ? len : sizeof entropy)) {
            ck_abort_msg("request %u: idx %u, id %u, len %u of %u", n, idx, elem[0],
                         elem[1], len);
        }
    }
}
END_TEST

static void add_all(Suite *suite, const char *name, void (*setup)(void))
{
    TCase *tc = tcase_create(name);

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, class_close);
    tcase_add_test(tc, class_01_descriptor_loop);
    tcase_add_test(tc, class_02_index_out_of_range);
    tcase_add_test(tc, class_03_indirect_tables);
    tcase_add_test(tc, class_04_ranges);
    tcase_add_test(tc, class_05_two_lengths);
    tcase_add_test(tc, class_06_double_fetch);
    tcase_add_test(tc, class_08_head_in_flight);
    tcase_add_test(tc, class_09_reset_with_requests_in_flight);
    tcase_add_test(tc, class_10_dma_into_mmio);
    tcase_add_test_raise_signal(tc, class_10_no_device_is_entered_twice, SIGABRT);
    tcase_add_test(tc, class_11_used_ring);
    suite_add_tcase(suite, tc);
}

static Suite *class_suite(void)
{
    Suite *suite = suite_create("class_queue");

    add_all(suite, "mmio", setup_mmio);
    add_all(suite, "pci", setup_pci);
    return suite;
}

UNIT_MAIN(class_suite)
