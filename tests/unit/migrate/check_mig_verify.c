/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes of two copies of memory that came about in different ways. */
#include "migrate/mig_verify.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "migrate/mig_wire.h"
#include "tests/unit/unit.h"

#define BLOCKS 4
#define PAGES  (BLOCKS * MIG_BLOCK_PAGES - 100) /* the last one is short */

static struct engine_ram make_ram(void)
{
    struct engine_ram ram = {.len = PAGES * MIG_PAGE, .page_count = PAGES};

    ram.fd = memfd_create("check", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(ram.fd, (off_t)ram.len), 0);
    ram.host = mmap(NULL, ram.len, PROT_READ | PROT_WRITE, MAP_SHARED, ram.fd, 0);
    ck_assert_ptr_ne(ram.host, MAP_FAILED);
    return ram;
}

static void free_ram(struct engine_ram *ram)
{
    munmap(ram->host, ram->len);
    close(ram->fd);
}

static void hash_all(const struct engine_ram *ram, uint64_t hash[BLOCKS])
{
    struct mig_verify_seen seen = {0};

    for (uint64_t i = 0; i < BLOCKS; i++) {
        hash[i] = mig_verify_hash(ram, &seen, i);
    }
}

/* Across a border of blocks, alone in one, the very last; block 2 has nothing. */
static const uint64_t touched[] = {0, 7, 510, 511, 512, 513, 1000, PAGES - 1};
#define TOUCHED (sizeof touched / sizeof touched[0])

START_TEST(zeros_are_as_if_not_there_and_all_else_counts)
{
    struct engine_ram a = make_ram(), b = make_ram();
    uint64_t x[BLOCKS], y[BLOCKS];

    for (size_t i = 0; i < TOUCHED; i++) {
        a.host[touched[i] * MIG_PAGE + i] = b.host[touched[i] * MIG_PAGE + i] = 1;
    }
    memset(b.host + 20 * MIG_PAGE, 0, 490 * MIG_PAGE);
    for (size_t i = 0; i < TOUCHED; i++) {
        b.host[touched[i] * MIG_PAGE + i] = 1;
    }
    hash_all(&a, x);
    hash_all(&b, y);
    ck_assert_mem_eq(x, y, sizeof x);
    for (size_t i = 0; i < TOUCHED; i++) {
        uint8_t *byte = &b.host[touched[i] * MIG_PAGE + 4000];

        *byte = 1;
        hash_all(&b, y);
        for (uint64_t block = 0; block < BLOCKS; block++) {
            ck_assert_int_eq(x[block] != y[block], block == touched[i] / MIG_BLOCK_PAGES);
        }
        *byte = 0;
    }
    free_ram(&a);
    free_ram(&b);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_verify");
    TCase *t = tcase_create("verify");

    tcase_add_test(t, zeros_are_as_if_not_there_and_all_else_counts);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
