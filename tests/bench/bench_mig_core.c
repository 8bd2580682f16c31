/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Speed of what migration does for every page: bench_mig_core [MIB]. One JSON object per
 * line; the median of nine runs each. Needs neither root nor KVM.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bug.h"
#include "base/loop.h"
#include "migrate/mig_bitmap.h"
#include "migrate/mig_zero.h"

#define RUNS 9

static volatile uint64_t sink;

static int smaller_first(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Median seconds of `work`. */
static double median_s(void (*work)(void *arg), void *arg)
{
    double s[RUNS];

    work(arg);
    for (unsigned i = 0; i < RUNS; i++) {
        uint64_t start = loop_now_ns();

        work(arg);
        s[i] = (double)(loop_now_ns() - start) / 1e9;
    }
    qsort(s, RUNS, sizeof s[0], smaller_first);
    return s[RUNS / 2];
}

static void tell(const char *what, const char *metric, const char *unit, double value)
{
    printf("{\"bench\":\"mig_core\",\"case\":\"%s\",\"metric\":\"%s\",\"unit\":\"%s\","
           "\"value\":%.3f}\n",
           what, metric, unit, value);
}

struct ram {
    uint8_t *base;
    uint64_t pages;
    enum mig_zero_way way;
};

static void scan(void *arg)
{
    const struct ram *ram = arg;
    uint64_t zeros = 0;

    for (uint64_t p = 0; p < ram->pages; p++) {
        zeros += mig_page_is_zero_by(ram->way, ram->base + p * MIG_PAGE);
    }
    sink = zeros;
}

static void classify(void *arg)
{
    const struct ram *ram = arg;
    static struct mig_ram frame;

    for (uint64_t p = 0; p < ram->pages; p += MIG_BLOCK_PAGES) {
        struct mig_run run = {p, MIG_BLOCK_PAGES};

        mig_ram_begin(&frame, 1);
        mig_zero_classify(&frame, ram->base, &run);
        sink = frame.run_count;
    }
}

static void zero_scan(uint64_t len)
{
    static const char *const name[MIG_ZERO_WAYS] = {"zero-words", "zero-sse2",
                                                    "zero-avx2"};
    struct ram ram = {mmap(NULL, len, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0),
                      len / MIG_PAGE, MIG_ZERO_WORDS};
    double gib = (double)len / (1 << 30);

    BUG_ON(ram.base == MAP_FAILED);
    memset(ram.base, 1, len); /* pages of its own, not the shared zero page */
    memset(ram.base, 0, len);
    for (unsigned way = 0; way < MIG_ZERO_WAYS; way++) {
        ram.way = (enum mig_zero_way)way;
        if (mig_zero_has(ram.way)) {
            tell(name[way], "rate", "GiB/s", gib / median_s(scan, &ram));
        }
    }
    tell("classify-zero", "rate", "GiB/s", gib / median_s(classify, &ram));
    for (uint64_t p = 0; p < ram.pages; p += 2) {
        ram.base[p * MIG_PAGE + 4000] = 1;
    }
    tell("classify-mixed", "rate", "GiB/s", gib / median_s(classify, &ram));
    munmap(ram.base, len);
}

#define BITMAP_PAGES (UINT64_C(4) << 20) /* 16 GiB */
static uint64_t words[BITMAP_PAGES / 64], log_words[BITMAP_PAGES / 64];
static struct mig_bitmap bm;

static void take_all(void *arg)
{
    unsigned n = *(unsigned *)arg;
    uint64_t runs = 0;

    for (unsigned s = 0; s < n; s++) {
        struct mig_cursor cursor = mig_cursor_make(s, n);
        struct mig_run run[512];
        size_t count;

        while ((count = mig_bitmap_take(&bm, &cursor, run, 512, 512)) > 0) {
            runs += count;
        }
    }
    sink = runs;
}

static void count_all(void *arg)
{
    (void)arg;
    sink = mig_bitmap_count(&bm);
}

static void merge_all(void *arg)
{
    (void)arg;
    mig_bitmap_merge(&bm, 0, log_words, BITMAP_PAGES);
}

static void merge_and_take(void *arg)
{
    merge_all(NULL);
    take_all(arg);
}

static void bitmaps(void)
{
    unsigned one = 1, four = 4;

    mig_bitmap_init(&bm, words, BITMAP_PAGES);
    tell("scan-16GiB-empty-1-stream", "time", "ms", 1e3 * median_s(take_all, &one));
    tell("scan-16GiB-empty-4-streams", "time", "ms", 1e3 * median_s(take_all, &four));
    tell("count-16GiB", "time", "ms", 1e3 * median_s(count_all, NULL));
    tell("merge-16GiB-empty", "time", "ms", 1e3 * median_s(merge_all, NULL));
    for (uint64_t p = 0; p < BITMAP_PAGES; p += 100) {
        log_words[p / 64] |= UINT64_C(1) << p % 64;
    }
    tell("merge-take-16GiB-every-100th", "time", "ms",
         1e3 * median_s(merge_and_take, &four));
    memset(log_words, 0xff, sizeof log_words);
    tell("merge-take-16GiB-full", "time", "ms", 1e3 * median_s(merge_and_take, &four));
}

int main(int argc, char **argv)
{
    uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 512;

    if (mib == 0) {
        fprintf(stderr, "usage: bench_mig_core [MIB]\n");
        return 2;
    }
    zero_scan((mib + 1) / 2 * MIG_BLOCK_BYTES);
    bitmaps();
    printf("bench: mig_core ok\n");
    return 0;
}
