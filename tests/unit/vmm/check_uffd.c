/* SPDX-License-Identifier: Apache-2.0 */
/* With the kernel's own userfaultfd, on a memfd as guest memory is; skipped where it is
 * not permitted. */
#include "vmm/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define PAGE  4096u
#define PAGES 64u

static uint8_t *ram;
static int fd = -1, file = -1;

static bool setup_all(void)
{
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    struct vmm_error err;
    int r = uffd_open(device, &fd, &err);

    if (device >= 0) {
        close(device);
    }
    if (r < 0) {
        fprintf(stderr, "# skipped: %s\n", err.text);
        return false;
    }
    file = memfd_create("ram", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(file, PAGES * PAGE), 0);
    ram = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ck_assert_ptr_ne(ram, MAP_FAILED);
    memset(ram, 0x11, PAGE); /* page 0 is here */
    ck_assert_int_eq(uffd_register(fd, ram, PAGES * PAGE), 0);
    return true;
}

static void teardown_all(void)
{
    ck_assert_int_eq(uffd_unregister(fd, ram, PAGES * PAGE), 0);
    munmap(ram, PAGES * PAGE);
    close(file);
    close(fd);
}

static void *read_it(void *data)
{
    return (void *)(uintptr_t) * (volatile uint8_t *)data;
}

/* The kernel's access, in a system call. */
static void *write_it(void *data)
{
    int pipes[2];
    ssize_t n;

    ck_assert_int_eq(pipe(pipes), 0);
    n = write(pipes[1], data, 1);
    close(pipes[0]);
    close(pipes[1]);
    return (void *)n;
}

static uint64_t wait_for_fault(void)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    uint64_t address = 0;

    ck_assert_int_eq(poll(&poll_fd, 1, 5000), 1);
    ck_assert_int_eq(uffd_read(fd, &address, 1), 1);
    return address;
}

START_TEST(who_touches_a_missing_page_waits_for_it)
{
    void *(*touch[])(void *) = {read_it, write_it};
    uint8_t page[PAGE];

    if (!setup_all()) {
        return;
    }
    memset(page, 0x5a, sizeof page);
    ck_assert_int_eq(*ram, 0x11); /* that one is not */
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *at = ram + (3 + i) * PAGE;
        pthread_t thread;
        void *value;

        ck_assert_int_eq(pthread_create(&thread, NULL, touch[i], at + 100), 0);
        ck_assert_uint_eq(wait_for_fault() / PAGE, (uintptr_t)at / PAGE);
        ck_assert_int_eq(uffd_copy(fd, at, page, PAGE), 0);
        ck_assert_int_eq(pthread_join(thread, &value), 0);
        ck_assert_uint_eq((uintptr_t)value, i == 0 ? 0x5a : 1);
        ck_assert_mem_eq(at, page, PAGE);
    }
    teardown_all();
}
END_TEST

START_TEST(what_is_here_is_not_written_over)
{
    uint8_t pages[3 * PAGE];

    if (!setup_all()) {
        return;
    }
    memset(pages, 0x33, sizeof pages);
    ck_assert_int_eq(uffd_copy(fd, ram, pages, PAGE), -EEXIST);
    ck_assert_int_eq(uffd_zero(fd, ram, PAGE), -EEXIST);
    ck_assert_int_eq(ram[5], 0x11);
    ck_assert_int_eq(uffd_zero(fd, ram + 8 * PAGE, 2 * PAGE), 0);
    ck_assert_int_eq(ram[9 * PAGE], 0);
    /* What comes before it is done. */
    ck_assert_int_eq(uffd_copy(fd, ram + 6 * PAGE, pages, 3 * PAGE), -EEXIST);
    ck_assert_int_eq(ram[6 * PAGE], 0x33);
    ck_assert_int_eq(ram[7 * PAGE], 0x33);
    ck_assert_int_eq(ram[8 * PAGE], 0);
    teardown_all();
}
END_TEST

START_TEST(nobody_waits_is_no_error)
{
    uint64_t address;

    if (!setup_all()) {
        return;
    }
    ck_assert_int_eq(uffd_read(fd, &address, 1), 0);
    ck_assert_int_eq(uffd_wake(fd, ram, PAGE), 0);
    teardown_all();
}
END_TEST

/* A page that was taken away is missing again. */
START_TEST(a_hole_is_a_missing_page)
{
    pthread_t thread;
    void *value;

    if (!setup_all()) {
        return;
    }
    ck_assert_int_eq(madvise(ram, PAGE, MADV_REMOVE), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, read_it, ram), 0);
    ck_assert_uint_eq(wait_for_fault() / PAGE, (uintptr_t)ram / PAGE);
    ck_assert_int_eq(uffd_zero(fd, ram, PAGE), 0);
    ck_assert_int_eq(pthread_join(thread, &value), 0);
    ck_assert_uint_eq((uintptr_t)value, 0);
    teardown_all();
}
END_TEST

START_TEST(without_permission_it_says_what_it_takes)
{
    struct vmm_error err = {""};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), got = -1;

    ck_assert_int_lt(uffd_open(null, &got, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.text, "/dev/userfaultfd"));
    ck_assert_int_eq(got, -1);
    close(null);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("uffd");
    TCase *tc = tcase_create("uffd");

    tcase_add_test(tc, who_touches_a_missing_page_waits_for_it);
    tcase_add_test(tc, what_is_here_is_not_written_over);
    tcase_add_test(tc, nobody_waits_is_no_error);
    tcase_add_test(tc, a_hole_is_a_missing_page);
    tcase_add_test(tc, without_permission_it_says_what_it_takes);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
