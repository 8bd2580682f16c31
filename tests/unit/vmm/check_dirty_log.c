/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/dirty_log on a KVM of our own: no write is lost while guest and devices run, in
 * each of the ways that a host's KVM may have; and what is said about order holds. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "base/units.h"
#include "tests/unit/unit.h"
#include "tests/unit/vmm/fake_kvm.h"
#include "vmm/dirty_log.h"

#define LOW_PAGES  128 /* whole words, as there is a high part */
#define HIGH_PAGES 100
#define PAGES      (LOW_PAGES + HIGH_PAGES)
#define WORDS      4
#define HALVES     (4096 / 2)

/* KVM's abilities: none; manual protect; and all pages marked at the beginning. */
static const int caps[] = {0, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
                           KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
                               KVM_DIRTY_LOG_INITIALLY_SET};

static struct vm vm;
static struct dirty_log dl;
static uint8_t *ram, rom[4096] __attribute__((aligned(4096)));
static uint64_t bitmap[WORDS];

static void add(unsigned slot, uint64_t base, uint64_t len, uint8_t *host, bool is_rom)
{
    const struct kvm_userspace_memory_region region = {
        .slot = slot,
        .flags = is_rom ? KVM_MEM_READONLY : 0,
        .guest_phys_addr = base,
        .memory_size = len,
        .userspace_addr = (uint64_t)(uintptr_t)host};

    ck_assert_int_eq(gmem_add(&vm.gmem, (struct gpa){base}, len, host, is_rom, NULL), 0);
    ck_assert_int_eq(fake_kvm.vm_memory(-1, &region), 0);
}

static void setup_caps(int host)
{
    fake_kvm_reset();
    fake_host.dirty_caps = host;
    ram = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
               0);
    ck_assert(ram != MAP_FAILED);
    vm = (struct vm){.ops = &fake_kvm, .ram = ram, .ram_len = PAGES * 4096};
    dl = (struct dirty_log){.vm = &vm};
    add(VM_SLOT_RAM, 0, LOW_PAGES * 4096, ram, false);
    add(VM_SLOT_RAM_HIGH, VM_RAM_HIGH_BASE, HIGH_PAGES * 4096, ram + LOW_PAGES * 4096,
        false);
    add(VM_SLOT_ROM, VM_ROM_TOP - sizeof rom, sizeof rom, rom, true);
    dirty_log_offer(&vm);
    memset(bitmap, 0, sizeof bitmap);
}

static void teardown(void)
{
    dirty_log_end(&dl);
    dirty_log_close(&dl);
    munmap(ram, PAGES * 4096);
}

static void begin(void)
{
    struct vmm_error err;

    ck_assert_msg(dirty_log_begin(&dl, DIRTY_AUTO, &err) == 0, "%s", err.text);
}

static uint64_t collect(void)
{
    uint64_t pages;

    ck_assert_int_eq(dirty_log_collect(&dl, bitmap, &pages), 0);
    return pages;
}

static bool marked(uint64_t page)
{
    return (bitmap[page / 64] >> (page % 64) & 1) != 0;
}

static void guest_write(uint64_t page, uint16_t value)
{
    if (page < LOW_PAGES) {
        fake_guest_write(VM_SLOT_RAM, page * 4096 + value % HALVES * 2, value);
    } else {
        fake_guest_write(VM_SLOT_RAM_HIGH, (page - LOW_PAGES) * 4096 + value % HALVES * 2,
                         value);
    }
}

static void device_write(uint64_t page, uint16_t value)
{
    uint64_t gpa =
        page < LOW_PAGES ? page * 4096 : VM_RAM_HIGH_BASE + (page - LOW_PAGES) * 4096;

    (void)gmem_store16(&vm.gmem, (struct gpa){gpa + value % HALVES * 2}, value);
}

/* Everything is marked, protected, and nothing is left to report. */
static void settle(void)
{
    (void)collect();
    ck_assert_int_eq(dirty_log_protect(&dl, 0, PAGES), 0);
    memset(bitmap, 0, sizeof bitmap);
    ck_assert_uint_eq(collect(), 0);
}

START_TEST(states)
{
    struct vmm_error err;
    uint64_t pages;

    setup_caps(caps[_i]);
    ck_assert_int_eq(dirty_log_collect(&dl, bitmap, &pages), -EINVAL);
    ck_assert_int_eq(dirty_log_begin(&dl, DIRTY_RING, &err), -EOPNOTSUPP);
    dirty_log_end(&dl);
    begin();
    ck_assert_int_eq(dirty_log_begin(&dl, DIRTY_BITMAP, &err), -EBUSY);
    ck_assert(fake_vm.log[VM_SLOT_RAM].on && fake_vm.log[VM_SLOT_RAM_HIGH].on);
    ck_assert(!fake_vm.log[VM_SLOT_ROM].on);
    device_write(3, 1);
    dirty_log_end(&dl);
    dirty_log_end(&dl);
    ck_assert(!fake_vm.log[VM_SLOT_RAM].on && !fake_vm.log[VM_SLOT_RAM_HIGH].on);
    ck_assert(vm.gmem.region[0].dirty == NULL && vm.gmem.region[1].dirty == NULL);
    ck_assert_int_eq(dirty_log_protect(&dl, 0, PAGES), 0);
    device_write(4, 1);
    begin(); /* nothing of the first time is left */
    settle();
}
END_TEST

START_TEST(one_slot_refused)
{
    struct vmm_error err;

    setup_caps(caps[_i]);
    fake_vm.refuse_log = VM_SLOT_RAM_HIGH;
    ck_assert_int_eq(dirty_log_begin(&dl, DIRTY_AUTO, &err), -ENOMEM);
    ck_assert(!fake_vm.log[VM_SLOT_RAM].on && vm.gmem.region[0].dirty == NULL);
    fake_vm.refuse_log = -1;
    begin();
}
END_TEST

/* Both kinds of writers, both parts of RAM, each first and last page. */
START_TEST(each_page)
{
    static const uint64_t page[] = {0, 1, 63, 64, LOW_PAGES - 1, LOW_PAGES, PAGES - 1};

    setup_caps(caps[_i]);
    begin();
    settle();
    for (size_t i = 0; i < ARRAY_SIZE(page); i++) {
        for (int device = 0; device < 2; device++) {
            (device ? device_write : guest_write)(page[i], 7);
            ck_assert_uint_eq(collect(), 1);
            ck_assert(marked(page[i]));
            ck_assert_uint_eq(collect(), 0); /* marked already */
            ck_assert_int_eq(dirty_log_protect(&dl, page[i], 1), 0);
            memset(bitmap, 0, sizeof bitmap);
            ck_assert_uint_eq(collect(), 0);
        }
    }
    device_write(5, 1);
    guest_write(5, 2);
    guest_write(LOW_PAGES + 5, 2);
    ck_assert_uint_eq(collect(), 2);
}
END_TEST

/* A page that is written between collect and protect is not sent twice, where the host
 * can; one that nobody protects stays reported. */
START_TEST(late_protection)
{
    bool manual = caps[_i] != 0;

    setup_caps(caps[_i]);
    begin();
    settle();
    guest_write(10, 1);
    guest_write(LOW_PAGES + 64, 1);
    ck_assert_uint_eq(collect(), 2);
    guest_write(10, 2);
    ck_assert_int_eq(dirty_log_protect(&dl, 0, 64), 0);
    memset(bitmap, 0, sizeof bitmap);
    ck_assert_uint_eq(collect(), 1);
    ck_assert(marked(10) == !manual);
    ck_assert(marked(LOW_PAGES + 64) == manual);
    guest_write(10, 3); /* after the read */
    memset(bitmap, 0, sizeof bitmap);
    (void)collect();
    ck_assert(marked(10));
}
END_TEST

/* Where all pages begin marked, what is written before they are first protected costs
 * nothing. No call to KVM where there is nothing to protect. */
START_TEST(begins_with_all)
{
    unsigned clears;

    setup_caps(caps[2]);
    begin();
    guest_write(1, 1);
    ck_assert_int_eq(dirty_log_protect(&dl, 0, PAGES), 0);
    ck_assert_uint_eq(collect(), 0);
    clears = fake_vm.log_clears;
    ck_assert_uint_eq(clears, 2);
    ck_assert_int_eq(dirty_log_protect(&dl, 0, PAGES), 0);
    ck_assert_uint_eq(fake_vm.log_clears, clears);
    guest_write(70, 1);
    ck_assert_uint_eq(collect(), 1);
    ck_assert_int_eq(dirty_log_protect(&dl, 0, 64), 0);
    ck_assert_uint_eq(fake_vm.log_clears, clears);
    ck_assert_int_eq(dirty_log_protect(&dl, 0, PAGES), 0);
    ck_assert_uint_eq(fake_vm.log_clears, clears + 1);
}
END_TEST

/* A look between the moment in which a page is given back and its mark. */
static bool look_in_madvise;

int __real_madvise(void *p, size_t len, int advice);
int __wrap_madvise(void *p, size_t len, int advice);

int __wrap_madvise(void *p, size_t len, int advice)
{
    int r = __real_madvise(p, len, advice);

    if (look_in_madvise && advice == MADV_REMOVE) {
        (void)collect();
        ck_assert_int_eq(dirty_log_protect(&dl, 0, PAGES), 0);
        memset(bitmap, 0, sizeof bitmap);
    }
    return r;
}

/* A discarded page is marked after it was given back. */
START_TEST(discarded)
{
    setup_caps(caps[_i]);
    begin();
    settle();
    memset(ram + 8 * 4096, 0x55, 4096);
    look_in_madvise = true;
    vm_ram_discard(&vm, (struct gpa){8 * 4096}, 2 * 4096);
    look_in_madvise = false;
    ck_assert_uint_eq(ram[8 * 4096], 0);
    ck_assert_uint_eq(collect(), 2);
    ck_assert(marked(8) && marked(9));
}
END_TEST

/* Nothing is lost
 * -----------------------------------------------------------------------------------
 * In bursts: a lost write is seen only if the page is not written again. */

#define BURSTS     200
#define BULK_PAGES 32

static _Atomic unsigned running;

static uint64_t next(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* A write that takes a while. */
static void device_bulk(uint64_t page, uint16_t value)
{
    static uint8_t bytes[BULK_PAGES * 4096];

    memset(bytes, value & 0xFF, sizeof bytes);
    (void)gmem_write(&vm.gmem, (struct gpa){page % (LOW_PAGES - BULK_PAGES) * 4096},
                     bytes, sizeof bytes);
}

struct writer {
    void (*write)(uint64_t page, uint16_t value);
    unsigned count; /* of a burst */
    uint64_t seed;
    pthread_t thread;
};

static void *write_burst(void *arg)
{
    struct writer *w = arg;

    for (unsigned i = 0; i < w->count; i++) {
        uint64_t v = next(&w->seed);

        w->write(v % PAGES, (uint16_t)(v >> 32));
    }
    atomic_fetch_sub(&running, 1);
    return NULL;
}

static void copy_page(uint8_t *to, uint64_t page)
{
    for (unsigned i = 0; i < HALVES; i++) {
        uint16_t v =
            __atomic_load_n((const uint16_t *)(const void *)(ram + page * 4096 + i * 2),
                            __ATOMIC_ACQUIRE);

        memcpy(to + page * 4096 + i * 2, &v, 2);
    }
}

/* As a sender does it. */
static void send_round(uint8_t *to)
{
    (void)collect();
    for (uint64_t page = 0; page < PAGES; page++) {
        if (marked(page)) {
            bitmap[page / 64] &= ~(UINT64_C(1) << (page % 64));
            ck_assert_int_eq(dirty_log_protect(&dl, page, 1), 0);
            copy_page(to, page);
        }
    }
}

static void run_burst(struct writer *w, unsigned count, uint8_t *mirror)
{
    atomic_store(&running, count);
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_eq(pthread_create(&w[i].thread, NULL, write_burst, &w[i]), 0);
    }
    while (atomic_load(&running) > 0) {
        send_round(mirror);
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(w[i].thread, NULL);
    }
    send_round(mirror);
}

START_TEST(nothing_is_lost)
{
    static uint8_t mirror[PAGES * 4096];
    struct writer w[] = {
        {.write = guest_write, .count = 300, .seed = 1},
        {.write = device_write, .count = 300, .seed = 2},
#ifndef __SANITIZE_THREAD__ /* plain bytes, as guest memory is */
        {.write = device_bulk, .count = 3, .seed = 3},
#endif
    };

    setup_caps(caps[_i]);
    for (unsigned burst = 0; burst < BURSTS; burst++) {
        if (burst % 32 == 0) { /* cancelled, and from the beginning */
            dirty_log_end(&dl);
            begin();
            memset(bitmap, 0xFF, sizeof bitmap);
        }
        run_burst(w, ARRAY_SIZE(w), mirror);
        for (uint64_t page = 0; page < PAGES; page++) {
            ck_assert_msg(memcmp(mirror + page * 4096, ram + page * 4096, 4096) == 0,
                          "burst %u: page %llu differs", burst, (unsigned long long)page);
        }
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("dirty_log");
    TCase *t = tcase_create("log");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_loop_test(t, states, 0, (int)ARRAY_SIZE(caps));
    tcase_add_loop_test(t, one_slot_refused, 0, (int)ARRAY_SIZE(caps));
    tcase_add_loop_test(t, each_page, 0, (int)ARRAY_SIZE(caps));
    tcase_add_loop_test(t, late_protection, 0, (int)ARRAY_SIZE(caps));
    tcase_add_test(t, begins_with_all);
    tcase_add_loop_test(t, discarded, 0, (int)ARRAY_SIZE(caps));
    tcase_add_loop_test(t, nothing_is_lost, 0, (int)ARRAY_SIZE(caps));
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
