/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/byte_ring: bytes come out as they went in, what does not fit is counted, and no
 * wake-up is lost between threads. */
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "vmm/byte_ring.h"

static struct byte_ring ring;

START_TEST(wraps_and_counts_what_it_drops)
{
    uint8_t buf[16];

    ck_assert_int_eq(byte_ring_init(&ring, 8), 0);
    ck_assert(byte_ring_empty(&ring));
    for (int i = 0; i < 100; i++) {
        ck_assert(byte_ring_put(&ring, "abcde", 5)); /* was empty: wake the reader */
        ck_assert(!byte_ring_put(&ring, "f", 1));
        ck_assert_uint_eq(byte_ring_room(&ring), 2);
        ck_assert_uint_eq(byte_ring_get(&ring, buf, 4), 4);
        ck_assert_mem_eq(buf, "abcd", 4);
        ck_assert_uint_eq(byte_ring_get(&ring, buf, sizeof buf), 2);
        ck_assert_mem_eq(buf, "ef", 2);
    }
    ck_assert(byte_ring_put(&ring, "0123456789", 10));
    ck_assert_uint_eq(byte_ring_get(&ring, buf, sizeof buf), 8);
    ck_assert_mem_eq(buf, "01234567", 8);
    ck_assert_uint_eq(ring.dropped, 2);
    ck_assert(!byte_ring_put(&ring, "", 0));
    byte_ring_free(&ring);
}
END_TEST

#define TOTAL (1 << 20)

static int wake_fd;

/* Sleeps only when the ring was seen empty after its eventfd was cleared, as the loop
 * thread does. */
static void *reader(void *data)
{
    uint32_t *sum = data;
    size_t got = 0;
    uint8_t buf[100];

    while (got < TOTAL) {
        struct pollfd p = {.fd = wake_fd, .events = POLLIN};
        uint64_t count;
        size_t n;

        if (poll(&p, 1, 5000) <= 0) {
            return (void *)1; /* a lost wake-up */
        }
        (void)!read(wake_fd, &count, sizeof count);
        while ((n = byte_ring_get(&ring, buf, sizeof buf)) > 0) {
            for (size_t i = 0; i < n; i++) {
                *sum = *sum * 31 + buf[i];
            }
            got += n;
        }
    }
    return NULL;
}

START_TEST(two_threads)
{
    uint32_t sum = 0, want = 0, sent = 0;
    pthread_t thread;
    void *lost;

    ck_assert_int_eq(byte_ring_init(&ring, 256), 0);
    wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ck_assert_int_eq(pthread_create(&thread, NULL, reader, &sum), 0);
    while (sent < TOTAL) {
        uint8_t byte = (uint8_t)(sent * 7);
        uint64_t one = 1;

        if (byte_ring_room(&ring) == 0) {
            continue;
        }
        want = want * 31 + byte;
        sent++;
        if (byte_ring_put(&ring, &byte, 1)) {
            ck_assert_int_eq(write(wake_fd, &one, sizeof one), sizeof one);
        }
    }
    pthread_join(thread, &lost);
    ck_assert_ptr_null(lost);
    ck_assert_uint_eq(sum, want);
    ck_assert_uint_eq(ring.dropped, 0);
    close(wake_fd);
    byte_ring_free(&ring);
}
END_TEST

/* What was read is not yet where it should go. */
START_TEST(done_is_what_the_reader_says)
{
    uint8_t bytes[40] = {0};

    ck_assert_int_eq(byte_ring_init(&ring, 64), 0);
    (void)byte_ring_put(&ring, bytes, 40);
    ck_assert_uint_eq(byte_ring_total(&ring), 40);
    ck_assert_uint_eq(byte_ring_get(&ring, bytes, 30), 30);
    ck_assert(byte_ring_reached(&ring, 0));
    ck_assert(!byte_ring_reached(&ring, 1));
    byte_ring_done(&ring);
    ck_assert(byte_ring_reached(&ring, 30));
    ck_assert(!byte_ring_reached(&ring, 31));
    (void)byte_ring_put(&ring, bytes, 40);
    ck_assert_uint_eq(byte_ring_total(&ring), 80);
    ck_assert_uint_eq(byte_ring_get(&ring, bytes, 40), 40);
    ck_assert_uint_eq(byte_ring_get(&ring, bytes, 40), 10);
    byte_ring_done(&ring);
    ck_assert(byte_ring_reached(&ring, byte_ring_total(&ring)));
    byte_ring_free(&ring);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("byte_ring");
    TCase *t = tcase_create("byte_ring");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, wraps_and_counts_what_it_drops);
    tcase_add_test(t, two_threads);
    tcase_add_test(t, done_is_what_the_reader_says);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
