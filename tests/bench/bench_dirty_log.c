/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs to know which pages a guest wrote to, in three ways: "bitmap" (manual
 * protect, vmm/dirty_log), "plain" (reading clears, vmm/dirty_log on a KVM without the
 * former), "ring" (KVM_CAP_DIRTY_LOG_RING; here only). And what a page of a destination
 * costs that is touched first. Needs /dev/kvm: bench_dirty_log [--quick]. JSON lines.
 *
 * The guest is a loop of three instructions that writes one word to each of N pages,
 * `step` pages apart.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "base/units.h"
#include "vmm/dirty_log.h"
#include "vmm/engine_ram.h"

#define RING_ENTRIES 65536u
#define CODE         0x1000
#define FIRST_PAGE   16
#define RUNS_MAX     64

enum way { WAY_BITMAP = 0, WAY_PLAIN, WAY_RING, WAY_COUNT };
static const char *const way_name[] = {"bitmap", "plain", "ring"};

static struct rig {
    enum way way;
    struct vm vm;
    struct dirty_log log;
    struct kvm_ops ops;
    int vcpu;
    struct kvm_run *run;
    struct kvm_dirty_gfn *ring;
    uint32_t ring_at;
    uint64_t *bitmap;
    uint64_t words;
} rig;

static unsigned runs = 25;

static void must(int r, const char *what)
{
    if (r < 0) {
        printf("bench: dirty_log FAIL %s: %s\n", what, strerror(-r));
        exit(EXIT_FAILURE);
    }
}

/* The guest
 * ----------------------------------------------------------------------------------- */

/* 32-bit, flat, no paging: write [edi]; edi += ebp; loop; out 0x10 */
static const uint8_t code[] = {0x89, 0x07,        /* mov %eax,(%edi) */
                               0x01, 0xEF,        /* add %ebp,%edi */
                               0x49,              /* dec %ecx */
                               0x75, 0xF9,        /* jnz */
                               0xE6, 0x10,        /* out %al,$0x10 */
                               0xEB, 0xF5, 0x90}; /* again, with what registers say */

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
    return (struct kvm_segment){.limit = UINT32_MAX,
                                .selector = selector,
                                .type = type,
                                .present = 1,
                                .db = 1,
                                .s = 1,
                                .g = 1};
}

static void guest_setup(void)
{
    struct kvm_sregs s;

    must(rig.ops.vcpu_get(rig.vcpu, KVM_PART_SREGS, &s), "KVM_GET_SREGS");
    s.cs = flat(8, 11);
    s.ds = s.es = s.ss = s.fs = s.gs = flat(16, 3);
    s.cr0 |= 1;
    must(rig.ops.vcpu_set(rig.vcpu, KVM_PART_SREGS, &s), "KVM_SET_SREGS");
    memcpy(rig.vm.ram + CODE, code, sizeof code);
}

/* Microseconds that it took the guest. */
static double guest_writes(uint32_t pages, uint32_t step)
{
    struct kvm_regs regs = {.rip = CODE,
                            .rflags = 2,
                            .rax = (uint32_t)loop_now_ns(),
                            .rcx = pages,
                            .rdi = FIRST_PAGE * GMEM_PAGE_SIZE,
                            .rbp = step * GMEM_PAGE_SIZE};
    uint64_t start;

    if (pages == 0) {
        return 0;
    }
    must(rig.ops.vcpu_set(rig.vcpu, KVM_PART_REGS, &regs), "KVM_SET_REGS");
    start = loop_now_ns();
    must(rig.ops.vcpu_run(rig.vcpu), "KVM_RUN");
    if (rig.run->exit_reason != KVM_EXIT_IO) {
        must(-EPROTO, "the guest does not come to its end");
    }
    return (double)(loop_now_ns() - start) / 1e3;
}

/* Ways
 * ------------------------------------------------------------------------------------ */

static int check_plain(int fd, int capability)
{
    return capability == KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2
               ? 0
               : kvm_linux.check(fd, capability);
}

static int ring_enable(void)
{
    struct kvm_enable_cap cap = {.cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
                                 .args = {RING_ENTRIES * sizeof(struct kvm_dirty_gfn)}};

    return rig.ops.vm_enable(rig.vm.vm_fd, &cap);
}

static void open_rig(enum way way, uint64_t ram_len)
{
    struct vm_conf conf = {.kvm_path = "/dev/kvm", .ram_len = ram_len, .standard = true};
    struct vmm_error err;

    rig = (struct rig){.way = way, .ops = kvm_linux};
    rig.ops.check = way == WAY_BITMAP ? kvm_linux.check : check_plain;
    if (vm_open(&rig.ops, &conf, &rig.vm, &err) < 0) {
        must(-EIO, err.text);
    }
    if (way == WAY_RING) {
        must(ring_enable(), "the dirty ring");
    }
    rig.vcpu = rig.ops.vm_create_vcpu(rig.vm.vm_fd, 0);
    must(rig.vcpu, "KVM_CREATE_VCPU");
    must(rig.ops.vcpu_map(rig.vcpu, (size_t)rig.vm.run_size, &rig.run), "vCPU");
    if (way == WAY_RING) {
        rig.ring = mmap(NULL, RING_ENTRIES * sizeof *rig.ring, PROT_READ | PROT_WRITE,
                        MAP_SHARED, rig.vcpu, KVM_DIRTY_LOG_PAGE_OFFSET * 4096);
        must(rig.ring == MAP_FAILED ? -errno : 0, "mapping the ring");
    }
    rig.log.vm = &rig.vm;
    rig.words = ram_len / GMEM_PAGE_SIZE / 64 + 1;
    rig.bitmap = calloc(rig.words, 8);
    BUG_ON(!rig.bitmap);
    guest_setup();
}

static void close_rig(void)
{
    dirty_log_end(&rig.log);
    if (rig.ring) {
        munmap(rig.ring, RING_ENTRIES * sizeof *rig.ring);
    }
    rig.ops.vcpu_unmap(rig.run, (size_t)rig.vm.run_size);
    close(rig.vcpu);
    dirty_log_close(&rig.log);
    vm_close(&rig.vm);
    free(rig.bitmap);
}

/* In slots of RAM as vm.c makes them; pages of the high part follow the low one's. */
static uint64_t ring_take(void)
{
    uint64_t pages = 0, low = rig.vm.gmem.region[0].len / GMEM_PAGE_SIZE;

    for (;;) {
        struct kvm_dirty_gfn *gfn = &rig.ring[rig.ring_at % RING_ENTRIES];
        uint64_t page;

        if (__atomic_load_n(&gfn->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY) {
            break;
        }
        page = gfn->offset + (gfn->slot == VM_SLOT_RAM ? 0 : low);
        rig.bitmap[page / 64] |= UINT64_C(1) << (page % 64);
        __atomic_store_n(&gfn->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
        rig.ring_at++;
        pages++;
    }
    must(ioctl(rig.vm.vm_fd, KVM_RESET_DIRTY_RINGS, 0) < 0 ? -errno : 0, "the reset");
    return pages;
}

/* As a sender does it: 2 MiB at a time. */
static void protect_marked(void)
{
    for (uint64_t i = 0; i < rig.words; i += 8) {
        uint64_t any = 0;

        for (uint64_t k = i; k < i + 8 && k < rig.words; k++) {
            any |= rig.bitmap[k];
        }
        if (any) {
            must(dirty_log_protect(&rig.log, i * 64, 512), "protecting");
        }
    }
}

/* One look: what was written is known, and protected. */
static uint64_t look(void)
{
    uint64_t pages;

    memset(rig.bitmap, 0, rig.words * 8);
    if (rig.way == WAY_RING) {
        return ring_take();
    }
    must(dirty_log_collect(&rig.log, rig.bitmap, &pages), "collecting");
    protect_marked();
    return pages;
}

/* Measuring
 * ---------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *v, unsigned n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

static void say(const char *name, const char *metric, const char *unit, double value,
                unsigned n)
{
    printf("{\"bench\":\"dirty_log\",\"case\":\"%s\",\"metric\":\"%s\",\"unit\":\"%s\","
           "\"value\":%.3f,\"n\":%u}\n",
           name, metric, unit, value, n);
    fflush(stdout);
}

static void measure_looks(uint64_t gib, uint32_t pages, uint32_t step)
{
    double look_us[RUNS_MAX], write_us[RUNS_MAX];
    char name[64];

    for (unsigned i = 0; i < runs; i++) {
        uint64_t start, found;

        write_us[i] = guest_writes(pages, step);
        start = loop_now_ns();
        found = look();
        look_us[i] = (double)(loop_now_ns() - start) / 1e3;
        if (found < pages || found > pages + 16) { /* and KVM's own */
            fprintf(stderr, "%llu pages found, %u written\n", (unsigned long long)found,
                    pages);
            must(-EPROTO, "the log");
        }
    }
    snprintf(name, sizeof name, "%s,%llu GiB,%u dirty,step %u", way_name[rig.way],
             (unsigned long long)gib, pages, step);
    say(name, "look", "us", median(look_us, runs), runs);
    if (pages > 0) {
        say(name, "guest_write", "us/page", median(write_us, runs) / pages, runs);
    }
}

static void measure_way(enum way way, uint64_t gib)
{
    static const uint32_t counts[] = {0, 1000, 10000};
    uint64_t start;
    char name[64];
    struct vmm_error err;

    open_rig(way, gib << 30);
    snprintf(name, sizeof name, "%s,%llu GiB", way_name[way], (unsigned long long)gib);
    (void)guest_writes(50000, 1);
    say(name, "guest_write_unlogged", "us/page", guest_writes(50000, 1) / 50000, 1);
    start = loop_now_ns();
    must(dirty_log_begin(&rig.log, DIRTY_AUTO, &err), "begin");
    say(name, "begin", "us", (double)(loop_now_ns() - start) / 1e3, 1);
    if (way != WAY_RING) {
        start = loop_now_ns();
        (void)look();
        say(name, "first_look", "us", (double)(loop_now_ns() - start) / 1e3, 1);
    }
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        measure_looks(gib, counts[i], 1);
    }
    measure_looks(gib, 1000, 16);
    start = loop_now_ns();
    dirty_log_end(&rig.log);
    say(name, "end", "us", (double)(loop_now_ns() - start) / 1e3, 1);
    close_rig();
}

static double cpu_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* How a destination's page comes to be. */
static void measure_first_touch(const char *how, uint64_t mib)
{
    struct vm_conf conf = {.kvm_path = "/dev/kvm", .ram_len = mib << 20};
    static uint8_t bytes[1 << 20];
    double cost[3];
    struct vmm_error err;

    memset(bytes, 5, sizeof bytes);
    for (unsigned run = 0; run < ARRAY_SIZE(cost); run++) {
        struct engine_ram ram;
        struct vm vm;
        double start;

        if (vm_open(&kvm_linux, &conf, &vm, &err) < 0) {
            must(-EIO, err.text);
        }
        ram = (struct engine_ram){.host = vm.ram,
                                  .len = vm.ram_len,
                                  .page_count = vm.ram_len / GMEM_PAGE_SIZE,
                                  .fd = vm.ram_fd};
        start = cpu_s();
        if (strcmp(how, "populate") == 0) {
            must(engine_ram_populate(&ram, 0, ram.page_count, NULL), "populate");
        }
        for (uint64_t at = 0; strcmp(how, "touch") == 0 && at < ram.len;
             at += GMEM_PAGE_SIZE) {
            ram.host[at] = 1;
        }
        for (uint64_t at = 0; strcmp(how, "pwrite") == 0 && at < ram.len;
             at += sizeof bytes) {
            must(pwrite(ram.fd, bytes, sizeof bytes, (off_t)at) < 0 ? -errno : 0,
                 "pwrite");
        }
        cost[run] = (cpu_s() - start) * 1024 / (double)mib;
        vm_close(&vm);
    }
    say(how, "first_touch", "cpu_s_per_gib", median(cost, ARRAY_SIZE(cost)),
        ARRAY_SIZE(cost));
}

int main(int argc, char **argv)
{
    static const uint64_t gib[] = {1, 4};
    static const char *const how[] = {"touch", "populate", "pwrite"};

    if (argc > 1 && strcmp(argv[1], "--quick") == 0) {
        runs = 9;
    }
    if (access("/dev/kvm", R_OK | W_OK) < 0) {
        must(-errno, "/dev/kvm");
    }
    for (size_t g = 0; g < ARRAY_SIZE(gib); g++) {
        for (int way = 0; way < WAY_COUNT; way++) {
            int can = kvm_linux.sys_open("/dev/kvm"), ring;

            ring = kvm_linux.check(can, KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
            close(can);
            if (way != WAY_RING || ring > 0) {
                measure_way((enum way)way, gib[g]);
            }
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(how); i++) {
        measure_first_touch(how[i], 512);
    }
    printf("bench: dirty_log ok\n");
    return 0;
}
