/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vmm/engine_rig.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/units.h"
#include "tests/unit/unit.h"

struct engine_rig er;

static void make_file(char *path, const char *name, off_t len)
{
    int fd = mkstemp(temp_path(path, name));

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, len), 0);
    close(fd);
}

void er_setup(void)
{
    memset(&er, 0, sizeof er);
    fake_kvm_reset();
    make_file(er.rom_path, "rom", 4096);
    make_file(er.disk_path, "disk", 1 << 20);
}

void er_close(void)
{
    engine_close(er.e);
    er.e = NULL;
}

void er_teardown(void)
{
    er_close();
    unlink(er.rom_path);
    unlink(er.disk_path);
}

void er_open(unsigned cpus, uint64_t ram_len)
{
    struct engine_conf conf = {.kvm = &fake_kvm,
                               .kvm_path = "fake",
                               .machine = cpus ? MACHINE_STANDARD : MACHINE_LOCKSTEP,
                               .transport = er.transport,
                               .cpu_count = cpus,
                               .rom_path = er.rom_path,
                               .ram_len = ram_len,
                               .disk_count = 1,
                               .disks_by_path = true,
                               .debug_output = true};

    snprintf(conf.disk[0].path, sizeof conf.disk[0].path, "%s", er.disk_path);
    fake_guest.greeted = false;
    ck_assert_msg(engine_open(&conf, &er.e, &er.err) == 0, "%s", er.err.text);
}

void er_go(unsigned cpus, uint64_t ram_len)
{
    er_open(cpus, ram_len);
    ck_assert_msg(engine_go(er.e, &er.err) == 0, "%s", er.err.text);
}

static void drain_debug(void)
{
    char bytes[4096];

    while (byte_ring_get(engine_debug_ring(er.e), bytes, sizeof bytes) > 0) {
    }
}

static void wait_event(void)
{
    struct pollfd p = {.fd = engine_event_fd(er.e), .events = POLLIN};

    (void)poll(&p, 1, 100);
    engine_event_clear(er.e);
    drain_debug();
}

bool er_wait(enum run_state state)
{
    uint64_t end = loop_now_ns() + 10 * NSEC_PER_SEC;

    while (loop_now_ns() < end) {
        struct engine_status s;

        while (engine_take_notice(er.e, &s)) {
            if (s.state == state) {
                return true;
            }
        }
        wait_event();
    }
    return false;
}

void er_start(uint64_t epoch)
{
    ck_assert_int_eq(engine_start(er.e, epoch, "test"), RUN_DONE);
    ck_assert(er_wait(RUN_RUNNING));
}

void er_freeze(void)
{
    ck_assert_int_eq(engine_freeze(er.e, "test"), RUN_DONE);
    ck_assert(er_wait(RUN_FROZEN));
}

void er_sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    while (nanosleep(&t, &t) < 0) {
    }
}

bool er_runs_grow(unsigned from)
{
    for (int i = 0; i < 1000 && atomic_load(&fake_guest.runs) <= from; i++) {
        er_sleep_ms(5);
    }
    return atomic_load(&fake_guest.runs) > from;
}

int er_save(void)
{
    int fd = memfd_create("state", MFD_CLOEXEC);
    uint64_t end = loop_now_ns() + 10 * NSEC_PER_SEC;
    struct engine_saved saved;

    ck_assert_int_ge(fd, 0);
    if (engine_save(er.e, dup(fd), "test.gms", ENGINE_RAM_IN_STATE) < 0) {
        close(fd);
        return -1;
    }
    while (!engine_take_saved(er.e, &saved)) {
        ck_assert(loop_now_ns() < end);
        wait_event();
    }
    if (saved.result < 0) {
        er.err = saved.err;
        close(fd);
        return -1;
    }
    ck_assert_uint_eq(saved.bytes, (uint64_t)lseek(fd, 0, SEEK_END));
    (void)lseek(fd, 0, SEEK_SET);
    return fd;
}

uint8_t *er_read(int fd, size_t *ret_len)
{
    struct stat st;
    uint8_t *bytes;

    ck_assert_int_eq(fstat(fd, &st), 0);
    bytes = malloc((size_t)st.st_size + 1);
    ck_assert_int_eq(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
    *ret_len = (size_t)st.st_size;
    return bytes;
}

int er_file(const uint8_t *bytes, size_t len)
{
    int fd = memfd_create("state", MFD_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, bytes, len, 0), (ssize_t)len);
    return fd;
}
