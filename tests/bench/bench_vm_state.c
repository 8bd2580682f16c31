/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Speed of saving and restoring a VM's state, without KVM: bench_vm_state FILE [MIB].
 * Three times each: all of RAM random, half of it, and none of it touched. JSON lines.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "base/units.h"
#include "tests/unit/temp_path.h"
#include "tests/unit/vmm/fake_kvm.h"
#include "vmm/engine.h"
#include "vmm/engine_state.h"

static const char *rom_path;

static struct engine *open_engine(uint64_t ram_len)
{
    struct engine_conf conf = {
        .kvm = &fake_kvm, .kvm_path = "fake", .rom_path = rom_path, .ram_len = ram_len};
    struct engine *e;
    struct vmm_error err;

    fake_kvm_reset();
    if (engine_open(&conf, &e, &err) < 0) {
        fprintf(stderr, "bench_vm_state: %s\n", err.text);
        exit(EXIT_FAILURE);
    }
    return e;
}

static void fill(uint64_t len)
{
    uint64_t x = 88172645463325252;

    for (uint64_t i = 0; i < len / 8; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(fake_vm.ram + 8 * i, &x, 8);
    }
}

static double seconds_since(uint64_t start_ns)
{
    return (double)(loop_now_ns() - start_ns) / (double)NSEC_PER_SEC;
}

static double cpu_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / (double)NSEC_PER_SEC;
}

static void check(int r, const struct vmm_error *err)
{
    if (r < 0) {
        fprintf(stderr, "bench_vm_state: %s\n", err->text);
        exit(EXIT_FAILURE);
    }
}

static void measure(const char *path, uint64_t ram_len, uint64_t used)
{
    struct engine *e = open_engine(ram_len);
    double save_s, sync_s, load_s, save_cpu, load_cpu, mib = (double)ram_len / (1 << 20);
    struct vmm_error err;
    uint64_t start, bytes;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    BUG_ON(fd < 0);
    fill(used);
    start = loop_now_ns();
    save_cpu = cpu_s();
    check(engine_state_save(e, fd, path, ENGINE_RAM_IN_STATE, &bytes, &err), &err);
    save_s = seconds_since(start);
    save_cpu = cpu_s() - save_cpu;
    (void)fsync(fd);
    sync_s = seconds_since(start);
    engine_close(e);
    e = open_engine(ram_len);
    BUG_ON(lseek(fd, 0, SEEK_SET) < 0);
    start = loop_now_ns();
    load_cpu = cpu_s();
    check(engine_state_load(e, fd, path, ENGINE_RAM_IN_STATE, &err), &err);
    load_s = seconds_since(start);
    load_cpu = cpu_s() - load_cpu;
    engine_close(e);
    close(fd);
    printf("{\"ram_mib\":%.0f,\"used_mib\":%.0f,\"file_bytes\":%llu,\"save_s\":%.3f,"
           "\"save_synced_s\":%.3f,\"save_cpu_s\":%.3f,\"restore_s\":%.3f,"
           "\"restore_cpu_s\":%.3f}\n",
           mib, (double)used / (1 << 20), (unsigned long long)bytes, save_s, sync_s,
           save_cpu, load_s, load_cpu);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    uint64_t ram_len = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1024) << 20;
    char rom[TEMP_PATH_MAX];
    int fd;

    if (argc < 2) {
        fprintf(stderr, "usage: bench_vm_state FILE [MIB]\n");
        return 2;
    }
    fd = mkstemp(temp_path(rom, "bench-rom"));
    BUG_ON(fd < 0 || ftruncate(fd, 4096) < 0);
    close(fd);
    rom_path = rom;
    for (int i = 0; i < 3; i++) {
        measure(argv[1], ram_len, ram_len);
        measure(argv[1], ram_len, ram_len / 2);
        measure(argv[1], ram_len, 0);
    }
    unlink(rom);
    unlink(argv[1]);
    return 0;
}
