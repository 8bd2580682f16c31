/* SPDX-License-Identifier: Apache-2.0 */
/* Claims on a directory: races between processes, crashes between steps, lying links,
 * garbage. */
#include "fencing/claim_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "base/units.h"
#include "base/uuid.h"
#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"

#define RACES 1000

static char dir[TEMP_PATH_MAX], text[1024];
static const struct uuid VM = {{0xAA, 1}};

static void make_dir(void)
{
    ck_assert_ptr_nonnull(mkdtemp(temp_path(dir, "claims")));
    text[0] = '\0';
}

static void remove_dir(void)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    char path[512];

    if (d) {
        while ((entry = readdir(d))) {
            snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
            if (unlink(path) < 0) {
                (void)rmdir(path);
            }
        }
        closedir(d);
    }
    ck_assert_int_eq(rmdir(dir), 0);
}

static struct claim a_claim(uint64_t epoch, uint8_t who)
{
    struct claim c = {
        .vm = VM,
        .epoch = epoch,
        .node_name = "n1",
        .owner = {.node_id = who, .inc = {{{0xB0, who}}, 1}, .instance = {{0xC0, who}}},
    };

    c.attempt = uuid_random();
    return c;
}

static struct claim_release a_release(const struct claim *of)
{
    return (struct claim_release){
        .vm = VM, .epoch = of->epoch, .instance = of->owner.instance};
}

static void put_file(const char *name, const void *bytes, size_t len)
{
    char path[512];
    int fd;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(os_write_all(fd, bytes, len), 0);
    close(fd);
}

static unsigned count_files(const char *prefix)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    unsigned count = 0;

    while ((entry = readdir(d))) {
        count += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    }
    closedir(d);
    return count;
}

static int take(const struct claim *c, enum claim_outcome *ret_outcome)
{
    return claim_store_link(dir, c, ret_outcome, text, sizeof text);
}

static int look(struct claim_found *ret_found)
{
    return claim_store_read(dir, VM, ret_found, text, sizeof text);
}

START_TEST(takes_reads_and_releases)
{
    struct claim c1 = a_claim(1, 1), c2 = a_claim(2, 2);
    struct claim_release rel = a_release(&c2);
    enum claim_outcome outcome;
    struct claim_found found;

    ck_assert_int_eq(look(&found), 0);
    ck_assert(!found.have_claim && !found.have_release);
    ck_assert_int_eq(take(&c1, &outcome), 0);
    ck_assert_int_eq(outcome, CLAIM_OUTCOME_WON);
    ck_assert_int_eq(take(&c2, &outcome), 0);
    ck_assert_int_eq(outcome, CLAIM_OUTCOME_WON);
    ck_assert_int_eq(look(&found), 0);
    ck_assert_mem_eq(&found.claim, &c2, sizeof c2);
    ck_assert(!found.have_release);

    /* One-way, and the first one stands. */
    ck_assert_int_eq(claim_store_release(dir, &rel, &outcome, text, sizeof text), 0);
    ck_assert_int_eq(outcome, CLAIM_OUTCOME_WON);
    ck_assert_int_eq(claim_store_release(dir, &rel, &outcome, text, sizeof text), 0);
    ck_assert_int_eq(outcome, CLAIM_OUTCOME_WON);
    rel.suspended = true;
    ck_assert_int_eq(claim_store_release(dir, &rel, &outcome, text, sizeof text), 0);
    ck_assert_int_eq(outcome, CLAIM_OUTCOME_LOST);
    ck_assert_int_eq(look(&found), 0);
    ck_assert(found.have_release && !found.release.suspended);
    ck_assert_uint_eq(count_files(".claim-"), 0);
}
END_TEST

START_TEST(two_processes_race)
{
    /* wins[epoch] counts winners; each process tries every epoch as soon as it can. */
    uint8_t *wins = mmap(NULL, 2 * (RACES + 1), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    volatile uint8_t *at = wins;
    pid_t pids[2];

    for (uint8_t who = 0; who < 2; who++) {
        pids[who] = fork();
        if (pids[who] == 0) {
            for (uint64_t epoch = 1; epoch <= RACES; epoch++) {
                struct claim c = a_claim(epoch, (uint8_t)(who + 1));
                enum claim_outcome outcome;

                if (take(&c, &outcome) != 0) {
                    _exit(2);
                }
                at[2 * epoch + who] = outcome == CLAIM_OUTCOME_WON ? 1 : 2;
                while (at[2 * epoch + !who] == 0 &&
                       getppid() != 1) { /* the next one together */
                }
            }
            _exit(0);
        }
    }

    unsigned by[2] = {0};

    for (int who = 0; who < 2; who++) {
        int status;

        ck_assert_int_eq(waitpid(pids[who], &status, 0), pids[who]);
        ck_assert_int_eq(status, 0);
    }
    for (unsigned epoch = 1; epoch <= RACES; epoch++) {
        const uint8_t *w = &wins[2 * epoch];

        ck_assert_msg((w[0] == 1) + (w[1] == 1) == 1, "epoch %u: %u winners", epoch,
                      (w[0] == 1) + (w[1] == 1));
        by[0] += w[0] == 1;
        by[1] += w[1] == 1;
    }
    ck_assert_msg(by[0] > 0 && by[1] > 0, "no race happened: %u to %u", by[0], by[1]);
    munmap(wins, 2 * (RACES + 1));
}
END_TEST

/* A process that dies at its nth call of sync or link. */
static int calls_left;

static void die_at_zero(void)
{
    if (calls_left-- == 0) {
        _exit(77);
    }
}

static int dying_sync(int fd)
{
    die_at_zero();
    return fsync(fd);
}

static int dying_link(const char *from, const char *to)
{
    die_at_zero();
    int r = link(from, to);
    die_at_zero();
    return r;
}

static const struct claim_store_ops DYING = {.link = dying_link, .sync = dying_sync};

START_TEST(crash_between_steps)
{
    unsigned after_crash_mine = 0;

    for (int n = 0; n < 4; n++) {
        struct claim c = a_claim((uint64_t)n + 1, 1), other = a_claim((uint64_t)n + 1, 2);
        enum claim_outcome outcome;
        struct claim_found found;
        int status;
        pid_t pid = fork();

        if (pid == 0) {
            calls_left = n;
            (void)claim_store_link_with(&DYING, dir, &c, &outcome, text, sizeof text);
            _exit(0);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(WEXITSTATUS(status), 77);

        /* Whole or not at all; and the next one gets an answer that agrees with it. */
        ck_assert_int_eq(look(&found), 0);
        bool mine = found.have_claim && found.claim.epoch == c.epoch;

        after_crash_mine += mine;
        ck_assert_int_eq(take(&other, &outcome), 0);
        ck_assert_int_eq(outcome, mine ? CLAIM_OUTCOME_LOST : CLAIM_OUTCOME_WON);
    }
    ck_assert_uint_eq(after_crash_mine,
                      2); /* died after the link, and before the directory's fsync */
    ck_assert_uint_ge(count_files(".claim-"), 2);
}
END_TEST

/* Links that answer what they like. */
static int answer_errno;
static bool do_link;

static int lying_link(const char *from, const char *to)
{
    if (do_link && link(from, to) < 0 && errno != EEXIST) {
        return -1;
    }
    errno = answer_errno;
    return answer_errno ? -1 : 0;
}

static const struct claim_store_ops LYING = {.link = lying_link, .sync = fsync};

START_TEST(content_decides_not_the_return_code)
{
    static const int answers[] = {EEXIST, EIO, ETIMEDOUT, 0};

    for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
        struct claim c = a_claim(i + 1, 1), other = a_claim(i + 1, 2);
        enum claim_outcome outcome;
        int r;

        answer_errno = answers[i];
        do_link = false; /* nothing arrived, whatever was said: unknown, never "lost" */
        r = claim_store_link_with(&LYING, dir, &c, &outcome, text, sizeof text);
        ck_assert_int_eq(r, -ENOENT);
        do_link = true; /* it arrived, whatever is said: won */
        r = claim_store_link_with(&LYING, dir, &c, &outcome, text, sizeof text);
        ck_assert_int_eq(r, 0);
        ck_assert_int_eq(outcome, CLAIM_OUTCOME_WON);
        /* The same attempt again meets its own file; another meets a foreign one. */
        r = claim_store_link_with(&LYING, dir, &c, &outcome, text, sizeof text);
        ck_assert_int_eq(r, 0);
        ck_assert_int_eq(outcome, CLAIM_OUTCOME_WON);
        r = claim_store_link_with(&LYING, dir, &other, &outcome, text, sizeof text);
        ck_assert_int_eq(r, 0);
        ck_assert_int_eq(outcome, CLAIM_OUTCOME_LOST);
    }
}
END_TEST

static int syncs_until_failure;

static int failing_sync(int fd)
{
    if (syncs_until_failure-- == 0) {
        errno = EIO;
        return -1;
    }
    return fsync(fd);
}

static const struct claim_store_ops FAILING = {.link = link, .sync = failing_sync};

START_TEST(not_won_before_it_is_durable)
{
    struct claim c = a_claim(1, 1);
    enum claim_outcome outcome = CLAIM_OUTCOME_UNKNOWN;

    syncs_until_failure = 1; /* the directory */
    ck_assert_int_eq(
        claim_store_link_with(&FAILING, dir, &c, &outcome, text, sizeof text), -EIO);
    ck_assert_int_eq(outcome, CLAIM_OUTCOME_UNKNOWN);
    ck_assert_ptr_nonnull(strstr(text, "directory"));
    ck_assert_int_eq(take(&c, &outcome), 0);
    ck_assert_int_eq(outcome, CLAIM_OUTCOME_WON);
}
END_TEST

static int no_sync(int fd)
{
    (void)fd;
    errno = ENOSPC;
    return -1;
}

static const struct claim_store_ops FULL = {.link = link, .sync = no_sync};

START_TEST(unsynced_bytes_are_never_linked)
{
    struct claim c = a_claim(1, 1);
    enum claim_outcome outcome;
    struct claim_found found;

    ck_assert_int_lt(claim_store_link_with(&FULL, dir, &c, &outcome, text, sizeof text),
                     0);
    ck_assert_ptr_nonnull(strstr(text, "No space"));
    ck_assert_int_eq(look(&found), 0);
    ck_assert(!found.have_claim);
    ck_assert_uint_eq(count_files(".claim-"), 0);
}
END_TEST

static void need_refused(const char *name, const char *why)
{
    struct claim_found found;

    ck_assert_int_eq(look(&found), -EBADMSG);
    ck_assert_msg(strstr(text, name) && strstr(text, why), "wanted '%s' and '%s': %s",
                  name, why, text);
}

START_TEST(garbage_is_refused_by_name)
{
    struct claim c1 = a_claim(1, 1), c3 = a_claim(3, 1);
    uint8_t buf[CLAIM_ENCODED_MAX];
    enum claim_outcome outcome;
    char path[512];
    size_t len = claim_encode(&c3, buf, sizeof buf);

    ck_assert_int_eq(take(&c1, &outcome), 0);
    for (size_t cut = 0; cut < len; cut++) { /* torn at every byte */
        put_file("owner.2", buf, cut);
        need_refused("owner.2", cut == 0 ? "empty" : "torn");
    }
    put_file("owner.2", buf, len); /* intact, but of another epoch than its name says */
    need_refused("owner.2", "another epoch");
    for (size_t bit = 0; bit < len * 8; bit++) {
        struct claim_found found;

        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        put_file("owner.3", buf, len);
        ck_assert_int_eq(look(&found), -EBADMSG);
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    memset(buf + len, 0, sizeof buf - len);
    put_file("owner.3", buf, len + 1);
    need_refused("owner.3", "followed");
    snprintf(path, sizeof path, "%s/owner.3", dir);
    unlink(path);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    need_refused("owner.3", "regular");
    unlink(path);
    ck_assert_int_eq(symlink("owner.1", path), 0);
    need_refused("owner.3", "");
    /* A claim is never made over garbage either. */
    c3.attempt = uuid_random();
    ck_assert_int_eq(take(&c3, &outcome), -EBADMSG);
    unlink(path);
}
END_TEST

START_TEST(names_are_refused)
{
    static const char *const names[] = {"owner.0",
                                        "owner.01",
                                        "owner.x",
                                        "owner.",
                                        "owner.1.bak",
                                        "owner.-1",
                                        "owner.18446744073709551615",
                                        "owner.99999999999999999999"};
    char path[512];

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        put_file(names[i], "x", 1);
        need_refused(names[i], "operator");
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    put_file("owner.7.released", "x", 1);
    need_refused("owner.7", "missing");
}
END_TEST

START_TEST(other_vm_and_missing_directory)
{
    struct claim c = a_claim(1, 1);
    enum claim_outcome outcome;
    struct claim_found found;

    c.vm = (struct uuid){{0xDD}};
    ck_assert_int_eq(take(&c, &outcome), 0);
    need_refused("owner.1", "another VM");
    ck_assert_int_eq(claim_store_read("/nonexistent/web1", VM, &found, text, sizeof text),
                     -ENOENT);
    ck_assert_ptr_nonnull(strstr(text, "mounted"));
    ck_assert_int_lt(
        claim_store_link("/nonexistent/web1", &c, &outcome, text, sizeof text), 0);
}
END_TEST

START_TEST(a_former_vm_is_found)
{
    static const struct uuid heir = {{0xEE, 7}};
    struct claim c = a_claim(1, 1);
    struct claim_release rel = {.vm = VM, .epoch = 2, .instance = {{0xC0, 1}}};
    enum claim_outcome outcome;
    struct claim_found found;

    ck_assert_int_eq(claim_store_former(dir, heir, &found, text, sizeof text), -ENOENT);
    ck_assert_int_eq(take(&c, &outcome), 0);
    c = a_claim(2, 1);
    ck_assert_int_eq(take(&c, &outcome), 0);
    ck_assert_int_eq(claim_store_former(dir, heir, &found, text, sizeof text), 0);
    ck_assert(uuid_equal(found.claim.vm, VM));
    ck_assert_uint_eq(found.claim.epoch, 2);
    ck_assert(!found.have_release);
    ck_assert_int_eq(claim_store_release(dir, &rel, &outcome, text, sizeof text), 0);
    ck_assert_int_eq(claim_store_former(dir, heir, &found, text, sizeof text), 0);
    ck_assert(found.have_release);
    /* It goes on in the same row, and is then the one who is there. */
    c = a_claim(3, 2);
    c.vm = heir;
    ck_assert_int_eq(take(&c, &outcome), 0);
    ck_assert_int_eq(claim_store_read(dir, heir, &found, text, sizeof text), 0);
    ck_assert_uint_eq(found.claim.epoch, 3);
    /* A claim of the former one above it: that is no inheritance. */
    c = a_claim(4, 1);
    ck_assert_int_eq(take(&c, &outcome), 0);
    ck_assert_int_eq(claim_store_former(dir, heir, &found, text, sizeof text), -EBADMSG);
    ck_assert_ptr_nonnull(strstr(text, "owner.3: of this VM"));
}
END_TEST

/* A displaced owner's agent says later that it is gone: by the release of its last epoch.
 */
START_TEST(displaced_owners_give_up)
{
    struct claim first = a_claim(1, 1), second = a_claim(2, 2), third = a_claim(3, 3);
    struct claim_release release = a_release(&first);
    struct claim_halt halts[CLAIM_UNEXCLUDED_MAX];
    enum claim_outcome outcome;
    struct claim_found found;

    third.unexcluded_count = 2;
    third.unexcluded[0] = (struct claim_displaced){.who = first.owner, .epoch = 1};
    third.unexcluded[1] = (struct claim_displaced){.who = second.owner, .epoch = 2};
    ck_assert_int_eq(claim_store_link(dir, &first, &outcome, text, sizeof text), 0);
    ck_assert_int_eq(claim_store_link(dir, &second, &outcome, text, sizeof text), 0);
    ck_assert_int_eq(claim_store_link(dir, &third, &outcome, text, sizeof text), 0);
    ck_assert_uint_eq(claim_store_gave_up(dir, &third, halts), 0);
    ck_assert_int_eq(claim_store_release(dir, &release, &outcome, text, sizeof text), 0);
    ck_assert_int_eq(outcome, CLAIM_OUTCOME_WON);
    ck_assert_uint_eq(claim_store_gave_up(dir, &third, halts), 1);
    ck_assert(uuid_equal(halts[0].instance, first.owner.instance));
    ck_assert_uint_eq(halts[0].epoch, 1);
    ck_assert_int_eq(halts[0].kind, CLAIM_HALT_GONE);
    /* Nobody may start by it: the highest claim is not released. */
    ck_assert_int_eq(claim_store_read(dir, VM, &found, text, sizeof text), 0);
    ck_assert_uint_eq(found.claim.epoch, 3);
    ck_assert(!found.have_release);
    /* Of another instance: not the one that was displaced. */
    release = a_release(&second);
    release.instance = third.owner.instance;
    (void)claim_store_release(dir, &release, &outcome, text, sizeof text);
    ck_assert_uint_eq(claim_store_gave_up(dir, &third, halts), 1);
    put_file("owner.2.released", "rubbish", 7);
    ck_assert_uint_eq(claim_store_gave_up(dir, &third, halts), 1);
}
END_TEST

START_TEST(stale_temporary_files_go)
{
    struct claim c = a_claim(1, 1);
    enum claim_outcome outcome;
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    char path[512];

    put_file(".claim-old", "x", 1);
    put_file(".claim-new", "x", 1);
    snprintf(path, sizeof path, "%s/.claim-old", dir);
    ck_assert_int_eq(utimensat(AT_FDCWD, path, old, 0), 0);
    ck_assert_int_eq(take(&c, &outcome), 0);
    ck_assert_uint_eq(count_files(".claim-"), 1);
    ck_assert_uint_eq(count_files(".claim-new"), 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("claim_store");
    TCase *tc = tcase_create("directory");

    tcase_add_checked_fixture(tc, make_dir, remove_dir);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, takes_reads_and_releases);
    tcase_add_test(tc, two_processes_race);
    tcase_add_test(tc, crash_between_steps);
    tcase_add_test(tc, content_decides_not_the_return_code);
    tcase_add_test(tc, not_won_before_it_is_durable);
    tcase_add_test(tc, unsynced_bytes_are_never_linked);
    tcase_add_test(tc, garbage_is_refused_by_name);
    tcase_add_test(tc, names_are_refused);
    tcase_add_test(tc, other_vm_and_missing_directory);
    tcase_add_test(tc, a_former_vm_is_found);
    tcase_add_test(tc, displaced_owners_give_up);
    tcase_add_test(tc, stale_temporary_files_go);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
