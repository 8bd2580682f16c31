/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block path, driven by a host-side virtqueue (tests/bench/blk_driver):
 * bench_blk FILE [--ms N] [--rounds N] [--case NAME] [--peer SOCKET PID]. FILE has its
 * blocks' numbers in it after bench_blk --make FILE MIB. The sides take turns, N ms each,
 * on every load. One line of JSON per slice; tests/bench/vmm makes medians of them.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/units.h"
#include "tests/bench/blk_engine.h"
#include "tests/bench/blk_vhost.h"

/* 4 KiB at random; in order, as a guest's page cache asks: many segments of 4 KiB. */
static const struct blkd_load loads[] = {
    {"randread-1", false, false, 1, 1}, {"randread-32", false, false, 32, 1},
    {"randwrite-1", true, false, 1, 1}, {"randwrite-32", true, false, 32, 1},
    {"seqread", false, true, 7, 16},    {"seqwrite", true, true, 7, 16},
};

static void make_file(const char *path, unsigned mib)
{
    static uint8_t block[BLKD_BLOCK];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    for (uint64_t i = 0; fd >= 0 && i < (uint64_t)mib * 256; i++) {
        memset(block, (int)i, sizeof block);
        memcpy(block, &i, sizeof i);
        if (write(fd, block, sizeof block) != sizeof block) {
            blkd_die("cannot write %s", path);
        }
    }
    if (fd < 0 || fsync(fd) < 0) {
        blkd_die("cannot make %s", path);
    }
    close(fd);
}

static void measure(struct blkd *d, const struct blkd_load *load, unsigned ms,
                    uint64_t blocks)
{
    struct blkd_result r = blkd_run(d, load, ms, blocks);
    double n = (double)r.requests;

    printf(
        "{\"case\":\"%s\",\"side\":\"%s\",\"iops\":%.1f,\"cpu_us\":%.3f,\"mib_s\":%.2f,"
        "\"kicks\":%.3f,\"interrupts\":%.3f}\n",
        load->name, d->name, n / r.seconds, r.cpu_s * 1e6 / n,
        n * load->blocks * BLKD_BLOCK / (1 << 20) / r.seconds, (double)r.kicks / n,
        (double)r.calls / n);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct blkd side[2];
    unsigned ms = 500, rounds = 3, sides = 1;
    const char *only = NULL;
    struct stat st;

    if (argc == 4 && strcmp(argv[1], "--make") == 0) {
        make_file(argv[2], (unsigned)strtoul(argv[3], NULL, 10));
        return EXIT_SUCCESS;
    }
    if (argc < 2 || stat(argv[1], &st) < 0) {
        blkd_die("usage: bench_blk FILE [--ms N] [--rounds N] [--peer SOCKET PID]");
    }
    for (int i = 2; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--ms") == 0) {
            ms = (unsigned)strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--rounds") == 0) {
            rounds = (unsigned)strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--case") == 0) {
            only = argv[i + 1];
        } else if (strcmp(argv[i], "--peer") == 0 && i + 2 < argc) {
            blk_vhost_open(argv[i + 1], (pid_t)strtol(argv[i + 2], NULL, 10),
                           &side[sides++]);
            i++;
        } else {
            blkd_die("unknown option %s", argv[i]);
        }
    }
    blk_engine_open(argv[1], &side[0]);
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(loads); i++) {
            for (unsigned s = 0; s < sides && (!only || !strcmp(only, loads[i].name));
                 s++) {
                measure(&side[s], &loads[i], ms, (uint64_t)st.st_size / BLKD_BLOCK);
            }
        }
    }
    blk_engine_close(&side[0]);
    return EXIT_SUCCESS;
}
