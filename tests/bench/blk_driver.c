/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/blk_driver.h"

#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/units.h"

#define DESC_NEXT  1
#define DESC_WRITE 2
#define TYPE_IN    0
#define TYPE_OUT   1
#define SILENCE_MS 10000
#define SLOT_LEN   (64u << 10) /* data of one request */
#define HEADS_BASE (31u << 20) /* headers and status bytes, 64 apart */

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};
struct avail {
    uint16_t flags, idx, ring[BLKD_QUEUE_LEN], used_event;
};
struct used {
    uint16_t flags, idx;
    struct {
        uint32_t id, len;
    } ring[BLKD_QUEUE_LEN];
    uint16_t avail_event;
};
struct header {
    uint32_t type, reserved;
    uint64_t sector;
    uint8_t status;
};

void blkd_die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("bench_blk: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(EXIT_FAILURE);
}

double blkd_cpu_s(pid_t pid)
{
    struct timespec t;
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) < 0) {
        blkd_die("cannot read the CPU time of process %d", (int)pid);
    }
    return (double)t.tv_sec + (double)t.tv_nsec / (double)NSEC_PER_SEC;
}

static struct desc *descs(const struct blkd *d)
{
    return (struct desc *)(void *)(d->mem + blkd_area(0));
}

static struct avail *avail(const struct blkd *d)
{
    return (struct avail *)(void *)(d->mem + blkd_area(1));
}

static struct used *used(const struct blkd *d)
{
    return (struct used *)(void *)(d->mem + blkd_area(2));
}

static struct header *header(const struct blkd *d, unsigned slot)
{
    return (struct header *)(void *)(d->mem + HEADS_BASE + 64 * slot);
}

static uint8_t *data(const struct blkd *d, unsigned slot)
{
    return d->mem + BLKD_DATA_BASE + (uint64_t)SLOT_LEN * slot;
}

static uint64_t random64(struct blkd *d)
{
    d->seed ^= d->seed << 13;
    d->seed ^= d->seed >> 7;
    d->seed ^= d->seed << 17;
    return d->seed;
}

/* The chain of a slot: header, blocks, status. It is the same for each request. */
static void make_chain(const struct blkd *d, const struct blkd_load *load, unsigned slot)
{
    unsigned first = slot * (load->blocks + 2), i = first;
    struct desc *desc = descs(d);

    desc[i++] =
        (struct desc){HEADS_BASE + 64 * slot, 16, DESC_NEXT, (uint16_t)(first + 1)};
    for (unsigned b = 0; b < load->blocks; b++, i++) {
        desc[i] = (struct desc){
            BLKD_DATA_BASE + (uint64_t)SLOT_LEN * slot + (uint64_t)BLKD_BLOCK * b,
            BLKD_BLOCK, (uint16_t)(DESC_NEXT | (load->write ? 0 : DESC_WRITE)),
            (uint16_t)(i + 1)};
    }
    desc[i] = (struct desc){HEADS_BASE + 64 * slot + offsetof(struct header, status), 1,
                            DESC_WRITE, 0};
}

static void submit(struct blkd *d, const struct blkd_load *load, unsigned slot,
                   uint64_t block)
{
    struct header *h = header(d, slot);
    struct avail *a = avail(d);

    h->type = load->write ? TYPE_OUT : TYPE_IN;
    h->sector = block * (BLKD_BLOCK / 512);
    h->status = 0xFF;
    for (unsigned b = 0; b < load->blocks; b++) {
        uint64_t stamp = load->write ? block + b : UINT64_MAX;

        memcpy(data(d, slot) + BLKD_BLOCK * b, &stamp, sizeof stamp);
    }
    a->ring[d->avail % BLKD_QUEUE_LEN] = (uint16_t)(slot * (load->blocks + 2));
    d->avail++;
}

/* Publishes what was submitted since `before`, and rings if the device asked for it. */
static void publish(struct blkd *d, uint16_t before, struct blkd_result *result)
{
    uint64_t one = 1;
    uint16_t event;

    __atomic_store_n(&avail(d)->idx, d->avail, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    event = __atomic_load_n(&used(d)->avail_event, __ATOMIC_ACQUIRE);
    if ((uint16_t)(d->avail - event - 1) < (uint16_t)(d->avail - before)) {
        result->kicks++;
        (void)!write(d->kick_fd, &one, sizeof one);
    }
}

static bool any_used(const struct blkd *d)
{
    return __atomic_load_n(&used(d)->idx, __ATOMIC_ACQUIRE) != d->used;
}

/* As a driver's interrupt handler would: asks for an interrupt at the next one, looks
 * once more, sleeps. */
static void await_used(struct blkd *d, struct blkd_result *result)
{
    struct pollfd p = {.fd = d->call_fd, .events = POLLIN};
    uint64_t count;

    while (!any_used(d)) {
        __atomic_store_n(&avail(d)->used_event, d->used, __ATOMIC_RELEASE);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (any_used(d)) {
            return;
        }
        if (poll(&p, 1, SILENCE_MS) == 0) {
            blkd_die("%s: no answer for %d s", d->name, SILENCE_MS / 1000);
        }
        (void)!read(d->call_fd, &count, sizeof count);
        result->calls++;
    }
}

static void check_answer(const struct blkd *d, const struct blkd_load *load,
                         unsigned slot)
{
    const struct header *h = header(d, slot);
    uint64_t block = h->sector / (BLKD_BLOCK / 512), stamp;

    if (h->status != 0) {
        blkd_die("%s: %s: request at block %llu: status %u", d->name, load->name,
                 (unsigned long long)block, h->status);
    }
    for (unsigned b = 0; b < load->blocks && !load->write; b++) {
        memcpy(&stamp, data(d, slot) + BLKD_BLOCK * b, sizeof stamp);
        if (stamp != block + b) {
            blkd_die("%s: %s: block %llu reads as block %llu", d->name, load->name,
                     (unsigned long long)(block + b), (unsigned long long)stamp);
        }
    }
}

static uint64_t next_block(struct blkd *d, const struct blkd_load *load, uint64_t blocks,
                           uint64_t *at)
{
    if (load->sequential) {
        *at = *at + 2 * load->blocks > blocks ? 0 : *at + load->blocks;
        return *at;
    }
    return random64(d) % (blocks - load->blocks + 1);
}

struct blkd_result blkd_run(struct blkd *d, const struct blkd_load *load, unsigned ms,
                            uint64_t disk_blocks)
{
    struct blkd_result result = {0};
    uint64_t begin, until, at = 0;
    uint16_t before = d->avail;
    unsigned in_flight = load->depth;
    double cpu = blkd_cpu_s(d->server);

    for (unsigned slot = 0; slot < load->depth; slot++) {
        make_chain(d, load, slot);
        submit(d, load, slot, next_block(d, load, disk_blocks, &at));
    }
    begin = loop_now_ns();
    until = begin + ms * NSEC_PER_MSEC;
    publish(d, before, &result);
    while (in_flight > 0) {
        bool go_on = loop_now_ns() < until;

        await_used(d, &result);
        before = d->avail;
        while (any_used(d)) {
            uint32_t id = used(d)->ring[d->used++ % BLKD_QUEUE_LEN].id;
            unsigned slot = id / (load->blocks + 2);

            if (id % (load->blocks + 2) != 0 || slot >= load->depth) {
                blkd_die("%s: an answer names chain %u", d->name, id);
            }
            check_answer(d, load, slot);
            result.requests++;
            if (go_on) {
                submit(d, load, slot, next_block(d, load, disk_blocks, &at));
            } else {
                in_flight--;
            }
        }
        if (d->avail != before) {
            publish(d, before, &result);
        }
    }
    result.seconds = (double)(loop_now_ns() - begin) / (double)NSEC_PER_SEC;
    result.cpu_s = blkd_cpu_s(d->server) - cpu;
    return result;
}
