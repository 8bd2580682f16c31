/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/mig_dst_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "tests/unit/vmm/fake_kvm.h"
#include "vmm/uffd.h"

#define ROM_LEN 4096
#define AROUND  (UINT64_C(64) << 10)
#define PATTERN 0xa5
#define NAP_NS  200000
#define LEFT_NS                                                                          \
    (8 * NSEC_PER_SEC) /* threads that were joined are seen for a moment more */

struct counts {
    unsigned fds, threads;
};

struct mig_dst_rig dst;
static struct counts with, without; /* it */
static uint8_t *around[2];          /* NULL: something else is there */
static char disk_path[32], rom_path[32];

void mig_dst_rig_nap(void)
{
    const struct timespec moment = {.tv_nsec = NAP_NS};
    struct pollfd p = {.fd = dst.t != NULL ? mig_transfer_fd(dst.t) : -1,
                       .events = POLLIN};

    if (ppoll(&p, 1, &moment, NULL) > 0) {
        mig_transfer_clear(dst.t);
    }
}

/* But for pipes: the sanitizer's, to its symbolizer. */
static unsigned entries(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    unsigned count = 0;
    char link[8];

    BUG_ON(dir == NULL);
    while ((entry = readdir(dir)) != NULL) {
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof link);

        count += n < 5 || memcmp(link, "pipe:", 5) != 0;
    }
    closedir(dir);
    return count;
}

static struct counts count_all(void)
{
    return (struct counts){entries("/proc/self/fd"), entries("/proc/self/task")};
}

/* Making it -------------------------------------------------------------------------- */

/* Open for good, and no file that a crash would leave behind. */
static void make_file(char path[32], const char *name, off_t len)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    BUG_ON(fd < 0 || ftruncate(fd, len) < 0);
    snprintf(path, 32, "/proc/self/fd/%d", fd);
}

static struct engine *make_engine(void)
{
    struct engine_conf conf = {.kvm = &fake_kvm,
                               .kvm_path = "fake",
                               .machine = MACHINE_STANDARD,
                               .transport = MACHINE_TRANSPORT_PCI,
                               .cpu_count = 1,
                               .rom_path = rom_path,
                               .ram_len = MIG_DST_RIG_RAM,
                               .disk_count = 1,
                               .disks_by_path = true};
    struct engine *engine;
    struct vmm_error err;

    snprintf(conf.disk[0].path, sizeof conf.disk[0].path, "%s", disk_path);
    fake_kvm_reset();
    BUG_ON(engine_open(&conf, &engine, &err) < 0 || engine_go(engine, &err) < 0);
    return engine;
}

static void wait_for(struct engine *engine, enum run_state wanted)
{
    struct engine_status s;

    do {
        mig_dst_rig_nap();
        engine_status(engine, &s);
    } while (s.state != wanted);
}

/* That of a VM that ran for a moment. */
static void make_state(void)
{
    struct engine *engine = make_engine();
    struct engine_saved saved;
    int fd = engine_state_fd(engine);
    uint8_t *state;

    BUG_ON(engine_start(engine, 1, "fuzz") != RUN_DONE);
    wait_for(engine, RUN_RUNNING);
    BUG_ON(engine_freeze(engine, "fuzz") != RUN_DONE);
    wait_for(engine, RUN_FROZEN);
    BUG_ON(engine_save_wait(engine, fd, "fuzz", ENGINE_RAM_APART, &saved) < 0);
    state = malloc(saved.bytes);
    BUG_ON(state == NULL || pread(fd, state, saved.bytes, 0) != (ssize_t)saved.bytes);
    dst.state = state;
    dst.state_len = (uint32_t)saved.bytes;
    engine_close(engine);
}

static uint8_t *put_around(uint8_t *at)
{
    void *p = mmap(at, AROUND, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (p == MAP_FAILED) {
        return NULL;
    }
    memset(p, PATTERN, AROUND);
    return p;
}

static void look_around(void)
{
    for (int i = 0; i < 2; i++) {
        const uint8_t *p = around[i];

        BUG_ON(p != NULL && (p[0] != PATTERN || memcmp(p, p + 1, AROUND - 1) != 0));
    }
}

static int make_uffd(void)
{
    struct vmm_error err;
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd;

    if (uffd_open(device, &fd, &err) < 0) {
        fd = -1;
    }
    if (device >= 0) {
        close(device);
    }
    return fd;
}

static void make_dst(void)
{
    struct mig_transfer_conf conf = {.vm = {{1}},
                                     .vm_name = "fuzz",
                                     .build = "fuzz",
                                     .uffd = make_uffd(),
                                     .no_uffd = "no userfaultfd here"};
    struct mig_fingerprint key;
    struct mig_token token;
    struct vmm_error err;

    conf.engine = dst.engine = make_engine();
    dst.postcopy = conf.uffd >= 0;
    engine_ram(dst.engine, &dst.ram);
    BUG_ON(mig_transfer_new(&conf, &dst.t, &err) < 0 || mig_transfer_go(dst.t, &err) < 0);
    BUG_ON(mig_transfer_prepare(dst.t, &key, &token, &err) < 0);
    /* Behind the pages that vm.c keeps out of reach. */
    around[0] = put_around(dst.ram.host - MIG_PAGE - AROUND);
    around[1] = put_around(dst.ram.host + dst.ram.len + MIG_PAGE);
    with = count_all();
}

static void end_dst(void)
{
    mig_transfer_free(dst.t);
    engine_close(dst.engine);
    look_around();
    for (int i = 0; i < 2; i++) {
        if (around[i] != NULL) {
            munmap(around[i], AROUND);
        }
    }
    dst.engine = NULL;
    dst.t = NULL;
}

void mig_dst_rig_open(void)
{
    static bool done;

    if (!done) {
        done = true;
        make_file(disk_path, "fuzz-disk", MIG_DST_RIG_DISK);
        make_file(rom_path, "fuzz-rom", ROM_LEN);
        make_state();
        without = count_all();
    }
    if (dst.engine == NULL) {
        make_dst();
    }
}

/* Afterwards ------------------------------------------------------------------------- */

static bool comes_to(const char *path, unsigned count)
{
    uint64_t end = loop_now_ns() + LEFT_NS;

    while (entries(path) != count && loop_now_ns() < end) {
        mig_dst_rig_nap();
    }
    return entries(path) == count;
}

static void nothing_left(const struct counts *before)
{
    BUG_ON(!comes_to("/proc/self/fd", before->fds));
    BUG_ON(!comes_to("/proc/self/task", before->threads));
}

void mig_dst_rig_check(void)
{
    struct engine_status s;

    look_around();
    engine_status(dst.engine, &s);
    if (s.state != RUN_CREATED) { /* a guest that will never be whole */
        end_dst();
        nothing_left(&without);
    } else {
        nothing_left(&with);
    }
}
