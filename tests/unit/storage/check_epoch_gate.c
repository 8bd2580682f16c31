/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/epoch_gate.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/os.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

#define DRAIN_MS 100

static struct epoch_gate *gate;
static char why[EPOCH_WHY_MAX];

static void start(void)
{
    ck_assert_msg(epoch_gate_open(&gate, scratch_dir, DRAIN_MS, why) == 0, "%s", why);
}

static void stop(void)
{
    epoch_gate_close(gate);
    gate = NULL;
}

static void touch(const char *name)
{
    ck_assert_int_eq(os_file_replace(scratch_path(name), "", 0, 0600), 0);
}

static void setup(void)
{
    scratch_setup();
    touch(EPOCH_MARKER);
    start();
}

static void teardown(void)
{
    stop();
    scratch_teardown();
}

static int enter(const char *text, struct epoch_pass **ret_pass)
{
    struct epoch_name name;

    ck_assert_ptr_null(epoch_name_parse(text, &name));
    return epoch_gate_enter(gate, &name, ret_pass, why);
}

static struct epoch_pass *in(const char *text)
{
    struct epoch_pass *p;
    int r = enter(text, &p);

    ck_assert_msg(r == 0, "%s: %s", text, why);
    return p;
}

static void refused(const char *text, int error)
{
    struct epoch_pass *p;

    why[0] = '\0';
    ck_assert_int_eq(enter(text, &p), error);
    ck_assert_int_gt(strlen(why), 0);
}

static bool works(struct epoch_pass *p)
{
    if (!epoch_gate_begin(p)) {
        return false;
    }
    epoch_gate_end(p);
    return true;
}

START_TEST(later_epoch_cuts_off)
{
    struct epoch_pass *old = in("d@3"), *other = in("e@1"), *new;

    ck_assert(works(old));
    new = in("d@5");
    ck_assert(!works(old) && works(new) && works(other));
    ck_assert_uint_eq(epoch_gate_highest(old), 5);
    refused("d@4", -ESTALE);
    refused("d@3", -ESTALE);
    refused("d", -ESTALE);
    ck_assert(works(new));
    epoch_gate_leave(old);
    epoch_gate_leave(new);
    refused("d@4", -ESTALE);
    epoch_gate_leave(other);
}
END_TEST

START_TEST(same_epoch_again)
{
    struct epoch_pass *first = in("d@3"), *second = in("d@3");

    ck_assert(!works(first) && works(second));
    epoch_gate_leave(second);
    ck_assert(!works(first)); /* not back */
    epoch_gate_leave(first);
    epoch_gate_leave(in("d@3"));
}
END_TEST

START_TEST(only_asks)
{
    struct epoch_pass *owner = in("d@3"), *asks = in("d@0");

    ck_assert(works(owner) && !works(asks));
    ck_assert_uint_eq(epoch_gate_highest(asks), 3);
    epoch_gate_leave(asks);
    asks = in("new@0");
    ck_assert_uint_eq(epoch_gate_highest(asks), 0);
    ck_assert(!works(asks));
    epoch_gate_leave(asks);
    epoch_gate_leave(owner);
}
END_TEST

START_TEST(without_epochs)
{
    struct epoch_pass *a = in("d"), *b = in("d"), *new;

    ck_assert(works(a) && works(b));
    new = in("d@1");
    ck_assert(!works(a) && !works(b) && works(new));
    refused("d", -ESTALE);
    epoch_gate_leave(a);
    epoch_gate_leave(b);
    epoch_gate_leave(new);
}
END_TEST

START_TEST(restart)
{
    epoch_gate_leave(in("d@18446744073709551615"));
    epoch_gate_leave(in("a/b@7"));
    stop();
    start();
    refused("d@18446744073709551614", -ESTALE);
    refused("a/b@6", -ESTALE);
    refused("a/b", -ESTALE);
    epoch_gate_leave(in("a/b@7"));
    epoch_gate_leave(in("a/b@8"));
    stop();
    start();
    refused("a/b@7", -ESTALE);
}
END_TEST

struct slow {
    struct epoch_pass *pass;
    _Atomic bool ended;
};

static void *end_later(void *arg)
{
    struct slow *s = arg;

    usleep(DRAIN_MS * 1000 / 3);
    atomic_store(&s->ended, true);
    epoch_gate_end(s->pass);
    return NULL;
}

START_TEST(waits_for_requests)
{
    struct slow s = {.pass = in("d@1")};
    struct epoch_pass *new;
    pthread_t thread;

    ck_assert(epoch_gate_begin(s.pass));
    ck_assert_int_eq(pthread_create(&thread, NULL, end_later, &s), 0);
    new = in("d@2");
    ck_assert(atomic_load(&s.ended));
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    epoch_gate_leave(new);
    epoch_gate_leave(s.pass);
}
END_TEST

/* Every later attempt waits as well, also after a connection of the same epoch. */
START_TEST(slow_requests_have_a_limit)
{
    struct epoch_pass *old = in("d@1"), *new;

    ck_assert(epoch_gate_begin(old));
    refused("d@2", -ETIMEDOUT);
    ck_assert_ptr_nonnull(strstr(why, "1 requests"));
    ck_assert_ptr_nonnull(strstr(why, "100 ms"));
    refused("d@2", -ETIMEDOUT);
    refused("d@1", -ESTALE);
    ck_assert(!works(old));
    epoch_gate_end(old);
    new = in("d@2");
    ck_assert(works(new));
    epoch_gate_leave(old);
    epoch_gate_leave(new);
}
END_TEST

static void *enter_third(void *arg)
{
    usleep(DRAIN_MS * 1000 / 4);
    *(int *)arg = enter("d@3", &(struct epoch_pass *){NULL});
    return NULL;
}

/* Who waits learns that somebody later came. */
START_TEST(two_wait)
{
    struct epoch_pass *old = in("d@1"), *p;
    pthread_t thread;
    int third = 0;
    char text[EPOCH_WHY_MAX];
    struct epoch_name name;

    ck_assert(epoch_gate_begin(old));
    ck_assert_int_eq(pthread_create(&thread, NULL, enter_third, &third), 0);
    ck_assert_ptr_null(epoch_name_parse("d@2", &name));
    ck_assert_int_eq(epoch_gate_enter(gate, &name, &p, text), -ESTALE);
    ck_assert_ptr_nonnull(strstr(text, "later"));
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(third, -ETIMEDOUT);
    epoch_gate_end(old);
    epoch_gate_leave(old);
}
END_TEST

START_TEST(spoilt_file)
{
    static const char *const texts[] = {"",
                                        "gemel-epoch\n",
                                        "gemel-epoch 0\n",
                                        "gemel-epoch 5",
                                        "gemel-epoch -5\n",
                                        "gemel-epoch 5\nx",
                                        "gemel-epoch 99999999999999999999\n",
                                        "7\n"};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ck_assert_int_eq(
            os_file_replace(scratch_path("epoch-d"), texts[i], strlen(texts[i]), 0600),
            0);
        refused("d@9", -EBADMSG);
        refused("d", -EBADMSG);
    }
    ck_assert_ptr_nonnull(strstr(why, "epoch-d"));
    ck_assert_int_eq(
        os_file_replace(scratch_path("epoch-d"), "gemel-epoch 5\n", 14, 0600), 0);
    refused("d@4", -ESTALE);
    epoch_gate_leave(in("d@5"));
}
END_TEST

/* The file can be neither written nor read: who knows what stands there? Nobody is in. */
START_TEST(no_file)
{
    struct epoch_pass *old = in("d@1"), *new;

    ck_assert_int_eq(unlink(scratch_path("epoch-d")), 0);
    ck_assert_int_eq(mkdir(scratch_path("epoch-d"), 0700), 0);
    refused("d@2", -EISDIR);
    ck_assert(!works(old));
    ck_assert_int_eq(rmdir(scratch_path("epoch-d")), 0);
    new = in("d@2");
    ck_assert(works(new));
    epoch_gate_leave(old);
    epoch_gate_leave(new);
}
END_TEST

/* It cannot be written, and still says who was there: who is in stays in. */
START_TEST(not_written)
{
    struct epoch_pass *old = in("d@1"), *new;
    struct rlimit limit, none;

    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
    ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
    refused("d@2", -EFBIG);
    ck_assert_ptr_nonnull(strstr(why, "cannot be written"));
    ck_assert(works(old));
    ck_assert_uint_eq(epoch_gate_highest(old), 1);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    new = in("d@2");
    ck_assert(!works(old) && works(new));
    epoch_gate_leave(old);
    epoch_gate_leave(new);
}
END_TEST

/* An empty directory is no directory of epochs, and nothing is made there. */
START_TEST(not_mounted)
{
    struct epoch_gate *second;

    ck_assert_int_eq(mkdir(scratch_path("mnt"), 0700), 0);
    ck_assert_int_eq(epoch_gate_open(&second, scratch_path("mnt"), DRAIN_MS, why),
                     -ENOENT);
    ck_assert_ptr_nonnull(strstr(why, "is its file system mounted"));
    ck_assert_int_eq(rmdir(scratch_path("mnt")), 0);
}
END_TEST

/* The server runs, and its directory is another one: no file there proves nothing. */
START_TEST(unmounted)
{
    struct epoch_pass *asks, *other = in("e@2");
    char aside[TEMP_PATH_MAX + 8];

    epoch_gate_leave(in("d@5"));
    snprintf(aside, sizeof aside, "%s.aside", scratch_dir);
    ck_assert_int_eq(rename(scratch_dir, aside), 0);
    ck_assert_int_eq(mkdir(scratch_dir, 0700), 0);
    refused("d@4", -ENOMEDIUM);
    refused("d", -ENOMEDIUM);
    refused("d@6", -ENOMEDIUM);
    ck_assert(works(other));
    refused("e@3", -ENOMEDIUM);
    ck_assert_int_eq(rmdir(scratch_dir), 0); /* nothing was written there */
    ck_assert_int_eq(rename(aside, scratch_dir), 0);
    refused("d@4", -ESTALE);
    asks = in("d@0");
    ck_assert_uint_eq(epoch_gate_highest(asks), 5);
    epoch_gate_leave(asks);
    epoch_gate_leave(other);
}
END_TEST

START_TEST(one_server)
{
    struct epoch_gate *second;

    ck_assert_int_eq(epoch_gate_open(&second, scratch_dir, DRAIN_MS, why), -EBUSY);
    ck_assert_ptr_nonnull(strstr(why, "another server"));
    ck_assert_int_eq(epoch_gate_open(&second, scratch_path("none"), DRAIN_MS, why),
                     -ENOENT);
    ck_assert_ptr_nonnull(strstr(why, "make the directory"));
}
END_TEST

/* One that nobody has open takes no memory; its epochs count all the same. */
START_TEST(many_names)
{
    struct epoch_pass *owner = in("d@1");
    char text[32];

    for (unsigned i = 0; i < 2000; i++) {
        snprintf(text, sizeof text, "n%u@%u", i, 2 + i % 3);
        epoch_gate_leave(in(text));
    }
    for (unsigned i = 0; i < 2000; i += 97) {
        snprintf(text, sizeof text, "n%u@%u", i, 1 + i % 3);
        refused(text, -ESTALE);
        snprintf(text, sizeof text, "n%u", i);
        refused(text, -ESTALE);
    }
    ck_assert(works(owner));
    epoch_gate_leave(owner);
}
END_TEST

/* A disk for another VM, whose epochs begin anew: the file is removed while nobody has
 * it open. While somebody has, that changes nothing. */
START_TEST(given_away)
{
    struct epoch_pass *old = in("d@7"), *new;

    ck_assert_int_eq(unlink(scratch_path("epoch-d")), 0);
    refused("d@1", -ESTALE);
    epoch_gate_leave(old);
    new = in("d@1");
    ck_assert(works(new));
    epoch_gate_leave(new);
}
END_TEST

static _Atomic int writing;
static _Atomic unsigned clashes, lets;

static void *owner_loop(void *arg)
{
    uint64_t seed = (uintptr_t)arg;

    for (unsigned i = 0; i < 200; i++) {
        struct epoch_name name = {.export_name = "d", .shown = "d", .has_epoch = true};
        struct epoch_pass *p;
        char text[EPOCH_WHY_MAX];

        name.epoch = i + seed;
        if (epoch_gate_enter(gate, &name, &p, text) < 0) {
            continue;
        }
        for (unsigned n = 0; n < 20 && epoch_gate_begin(p); n++) {
            if (n == 0) {
                atomic_fetch_add(&lets, 1);
            }
            /* Between begin and end nobody else may be there. */
            atomic_fetch_add(&clashes, atomic_fetch_add(&writing, 1) != 0);
            atomic_fetch_sub(&writing, 1);
            epoch_gate_end(p);
        }
        epoch_gate_leave(p);
    }
    return NULL;
}

START_TEST(never_two_at_once)
{
    pthread_t thread[4];

    for (uintptr_t i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_create(&thread[i], NULL, owner_loop, (void *)(i + 1)),
                         0);
    }
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
    }
    ck_assert_uint_gt(atomic_load(&lets), 50);
    ck_assert_uint_eq(atomic_load(&clashes), 0);
}
END_TEST

/* nbdkit unloads its filters while connections are open. */
START_TEST(closed_with_somebody_in)
{
    struct epoch_pass *owner = in("d@3");

    epoch_gate_close(gate);
    ck_assert(works(owner));
    epoch_gate_leave(owner);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("storage/epoch_gate");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, later_epoch_cuts_off);
    tcase_add_test(tc, same_epoch_again);
    tcase_add_test(tc, only_asks);
    tcase_add_test(tc, without_epochs);
    tcase_add_test(tc, restart);
    tcase_add_test(tc, waits_for_requests);
    tcase_add_test(tc, slow_requests_have_a_limit);
    tcase_add_test(tc, two_wait);
    tcase_add_test(tc, spoilt_file);
    tcase_add_test(tc, no_file);
    tcase_add_test(tc, not_written);
    tcase_add_test(tc, not_mounted);
    tcase_add_test(tc, unmounted);
    tcase_add_test(tc, given_away);
    tcase_add_test(tc, one_server);
    tcase_add_test(tc, many_names);
    tcase_add_test(tc, closed_with_somebody_in);
    tcase_add_test(tc, never_two_at_once);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
