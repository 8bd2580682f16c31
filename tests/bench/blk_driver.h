/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of a virtio-blk device with one split queue, in host memory: what a
 * guest's driver would do, without a guest. It shares nothing with vmm/virtq, so that a
 * mistake there shows here. One thread; the device is in another process, which sees the
 * same memory from guest address 0.
 *
 * Every block of 4 KiB begins with its number, and each read checks that.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define BLKD_MEM_LEN (64u << 20)
#define BLKD_RING_BASE                                                                   \
    (16u << 20) /* guest address of the descriptors; 3 areas, 64 KiB apart */
#define BLKD_DATA_BASE   (32u << 20)
#define BLKD_QUEUE_LEN   128
#define BLKD_BLOCK       4096u
#define BLKD_DEPTH_MAX   32

#define BLKD_F_EVENT_IDX (UINT64_C(1) << 29)
#define BLKD_F_VERSION_1 (UINT64_C(1) << 32)
#define BLKD_F_FLUSH     (UINT64_C(1) << 9)
#define BLKD_FEATURES    (BLKD_F_VERSION_1 | BLKD_F_EVENT_IDX | BLKD_F_FLUSH)

static inline uint64_t blkd_area(unsigned n) /* 0 descriptors, 1 avail, 2 used */
{
    return BLKD_RING_BASE + n * 0x10000u;
}

struct blkd {
    const char *name;
    uint8_t *mem;         /* guest memory, BLKD_MEM_LEN bytes */
    int kick_fd, call_fd; /* eventfds: doorbell, interrupt */
    pid_t server;         /* whose CPU time counts */
    uint16_t avail, used; /* free-running indexes */
    uint64_t seed;
};

struct blkd_load {
    const char *name;
    bool write, sequential;
    unsigned depth; /* requests in flight, <= BLKD_DEPTH_MAX */
    unsigned
        blocks; /* per request, each a segment of 4 KiB; depth * (blocks + 2) <= 128 */
};

struct blkd_result {
    double seconds, cpu_s;
    uint64_t requests, kicks, calls; /* calls: times that the driver was woken */
};

/* Runs a load for so long on a disk of so many blocks. Ends the program with a message if
 * the device does something wrong, or nothing for 10 s. */
struct blkd_result blkd_run(struct blkd *d, const struct blkd_load *load, unsigned ms,
                            uint64_t disk_blocks);
/* CPU seconds (user and system, all threads) that a process has used. */
double blkd_cpu_s(pid_t pid);
__attribute__((noreturn, format(printf, 1, 2))) void blkd_die(const char *format, ...);
