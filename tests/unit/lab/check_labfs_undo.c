/* SPDX-License-Identifier: Apache-2.0 */
/* Random changes of names, a power cut at any moment, even between a note and its change:
 * then the directory is as it was when it was fsynced last. */
#include "lab/labfs_undo.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "lab/lab_util.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

#define NAMES 5
#define DIR   ((ino_t)7)

static struct labfs_undo undo;
static int root_fd, note_fd;

static void setup(void)
{
    scratch_setup();
    ck_assert_int_eq(mkdir(scratch_path("root"), 0700), 0);
    ck_assert_int_eq(mkdir(scratch_path("notes"), 0700), 0);
    root_fd = open(scratch_path("root"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    note_fd = open(scratch_path("notes"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(labfs_undo_open(&undo, root_fd, note_fd), 0);
}

static void teardown(void)
{
    labfs_undo_commit(&undo, 0);
    close(root_fd);
    close(note_fd);
    scratch_teardown();
}

/* The content of every name: files hold a number, made once. */
struct picture {
    unsigned long content[NAMES]; /* 0: not there */
};

static struct lab_path name_of(unsigned i)
{
    return lab_path("f%u", i);
}

static struct picture look(void)
{
    struct picture p = {0};
    char buf[32];

    for (unsigned i = 0; i < NAMES; i++) {
        struct lab_path path = lab_path("%s/root/f%u", scratch_dir, i);
        if (lab_read_file(path.s, buf, sizeof buf) > 0) {
            p.content[i] = strtoul(buf, NULL, 10);
        }
    }
    return p;
}

static uint32_t next_random(uint32_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 17;
    *x ^= *x << 5;
    return *x;
}

/* One change as labfs makes it; `stop` ends it between note and change, as a power cut
 * does. */
static void change(uint32_t *x, unsigned long content, bool stop)
{
    unsigned i = next_random(x) % NAMES, k = next_random(x) % NAMES;
    struct lab_path name = name_of(i), to = name_of(k);
    unsigned long number = 0;
    char text[32];
    int fd, failed = 0;

    switch (next_random(x) % 4) {
    case 0:
        ck_assert_int_eq(labfs_undo_create(&undo, DIR, name.s, &number), 0);
        if (!stop) {
            fd = openat(root_fd, name.s, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
            failed = fd < 0;
            if (fd >= 0) {
                int n = snprintf(text, sizeof text, "%lu", content);
                ck_assert_int_eq(write(fd, text, (size_t)n), n);
                close(fd);
            }
        }
        break;
    case 1:
        ck_assert_int_eq(labfs_undo_unlink(&undo, DIR, name.s, &number), 0);
        failed = !stop && unlinkat(root_fd, name.s, 0) < 0;
        break;
    case 2:
        ck_assert_int_eq(labfs_undo_create(&undo, DIR, to.s, &number), 0); /* link */
        failed = !stop && linkat(root_fd, name.s, root_fd, to.s, 0) < 0;
        break;
    default:
        if (i == k) {
            return;
        }
        ck_assert_int_eq(labfs_undo_rename(&undo, DIR, name.s, DIR, to.s, &number), 0);
        failed = !stop && renameat(root_fd, name.s, root_fd, to.s) < 0;
    }
    if (failed) {
        labfs_undo_cancel(&undo, number);
    }
}

START_TEST(a_power_cut_takes_back_what_was_not_fsynced)
{
    uint32_t x = (uint32_t)_i * 2654435761u + 1;
    unsigned long content = 1;

    for (unsigned life = 0; life < 10; life++) {
        struct picture durable = look();
        for (unsigned step = next_random(&x) % 20; step > 0; step--) {
            if (next_random(&x) % 6 == 0) {
                labfs_undo_commit(&undo, DIR);
                durable = look();
            }
            change(&x, content++, false);
        }
        change(&x, content++, next_random(&x) % 2 == 0);
        /* The power is cut: the next life knows only the files. */
        while (undo.notes != NULL) {
            struct labfs_note *n = undo.notes;
            undo.notes = n->next;
            free(n);
        }
        ck_assert_int_ge(labfs_undo_open(&undo, root_fd, note_fd), 0);
        struct picture now = look();
        ck_assert_mem_eq(&now, &durable, sizeof now);
        ck_assert_int_eq(labfs_undo_open(&undo, root_fd, note_fd),
                         0); /* no notes are left */
    }
}
END_TEST

START_TEST(torn_and_foreign_notes_do_no_harm)
{
    static const char *const bad[] = {"",        "c",         "c\n",         "c\nf1",
                                      "c\nf1\n", "x\nf1\n\n", "r\nf9\nf8\n", "u\nf9\n\n"};

    ck_assert_int_eq(lab_write_file(scratch_path("root/f1"), "1", 0600), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(
            lab_write_file(scratch_path("notes/000000000009.note"), bad[i], 0600), 0);
        ck_assert_int_eq(
            lab_write_file(scratch_path("notes/zzzzzzzzzzzz.note"), "c\nf1\n\n", 0600),
            0);
        labfs_undo_open(&undo, root_fd, note_fd);
        ck_assert_uint_eq(look().content[1], 1);
    }
}
END_TEST

START_TEST(without_a_place_for_notes_names_are_durable)
{
    unsigned long number = 5;

    ck_assert_int_eq(labfs_undo_open(&undo, root_fd, -1), 0);
    ck_assert_int_eq(labfs_undo_create(&undo, DIR, "f1", &number), 0);
    ck_assert_uint_eq(number, 0);
    ck_assert_ptr_null(undo.notes);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("labfs_undo");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_power_cut_takes_back_what_was_not_fsynced, 0, 50);
    tcase_add_test(t, torn_and_foreign_notes_do_no_harm);
    tcase_add_test(t, without_a_place_for_notes_names_are_durable);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
