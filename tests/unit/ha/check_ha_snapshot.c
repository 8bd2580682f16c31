/* SPDX-License-Identifier: Apache-2.0 */
/* Copies, digests and snapshots in a directory of their own. */
#include "tests/unit/ha/fit_state.h"
#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ha/ha_copies.h"

static char dir[TEMP_PATH_MAX];
static char why[REASON_LEN_MAX + 1];

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(temp_path(dir, "ha-snapshot")));
    why[0] = '\0';
}

static void teardown(void)
{
    (void)ha_vmdir_remove(dir);
}

static const char *in_dir(const char *name)
{
    static char path[4][512];
    static unsigned next;

    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", dir, name);
    return path[next];
}

/* `len` bytes of a pattern at `at`, in a file that is `size` long. */
static void make(const char *name, size_t size, size_t at, size_t len, uint8_t seed)
{
    int fd = open(in_dir(name), O_RDWR | O_CREAT | O_TRUNC, 0640);
    uint8_t *bytes = malloc(len);

    ck_assert_int_ge(fd, 0);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(seed + i / 7);
    }
    ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
    ck_assert_int_eq(pwrite(fd, bytes, len, (off_t)at), (ssize_t)len);
    free(bytes);
    close(fd);
}

static void digest(const char *name, uint8_t *ret)
{
    int fd = open(in_dir(name), O_RDONLY);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ha_vmdir_digest(fd, ret), 0);
    ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 0); /* who reads it next begins at 0 */
    close(fd);
}

static bool same(const char *a, const char *b)
{
    uint8_t x[CLAIM_DIGEST_LEN], y[CLAIM_DIGEST_LEN];

    digest(a, x);
    digest(b, y);
    return memcmp(x, y, sizeof x) == 0;
}

START_TEST(flat_names_are_different_for_different_paths)
{
    char name[64];

    ha_vmdir_flat_name("disk0.img", name, sizeof name);
    ck_assert_str_eq(name, "disk0.img");
    ha_vmdir_flat_name("a/b%2F", name, sizeof name);
    ck_assert_str_eq(name, "a%2Fb%252F");
}
END_TEST

START_TEST(a_digest_tells_files_apart)
{
    uint8_t a[CLAIM_DIGEST_LEN], b[CLAIM_DIGEST_LEN];

    make("a", 5u << 20, 0, 3u << 20, 1);
    digest("a", a);
    ck_assert_mem_eq(a, "C1\0\0\0\0\0\0\0\0\x50", 11);
    for (size_t at = 0; at < (5u << 20); at += (1u << 20) + 4711) {
        int fd = open(in_dir("a"), O_RDWR);
        uint8_t byte = 0, other;

        ck_assert_int_eq(pread(fd, &byte, 1, (off_t)at), 1);
        other = byte ^ 1;
        ck_assert_int_eq(pwrite(fd, &other, 1, (off_t)at), 1);
        digest("a", b);
        ck_assert(memcmp(a, b, sizeof a) != 0);
        ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
        close(fd);
    }
    make("b", 0, 0, 0, 0);
    digest("b", b);
    ck_assert(memcmp(a, b, sizeof a) != 0);
}
END_TEST

START_TEST(a_copy_has_the_bytes_and_the_holes)
{
    struct stat from, to;

    make("a", 64u << 20, 33u << 20, 1u << 20, 5);
    ck_assert_int_eq(ha_vmdir_copy(in_dir("a"), in_dir("b"), NULL, why), 0);
    ck_assert(same("a", "b"));
    ck_assert_int_eq(stat(in_dir("a"), &from), 0);
    ck_assert_int_eq(stat(in_dir("b"), &to), 0);
    ck_assert_int_eq(to.st_mode & 0777, 0640);
    ck_assert_int_le(to.st_blocks, from.st_blocks + 64);
}
END_TEST

START_TEST(a_copy_replaces_nothing_and_leaves_nothing_half)
{
    atomic_bool cancel = true;

    make("a", 4096, 0, 4096, 5);
    make("b", 1, 0, 1, 5);
    ck_assert_int_eq(ha_vmdir_copy(in_dir("a"), in_dir("b"), NULL, why), -EEXIST);
    ck_assert_ptr_nonnull(strstr(why, "/b: "));
    ck_assert_int_eq(ha_vmdir_copy(in_dir("none"), in_dir("c"), NULL, why), -ENOENT);
    ck_assert_int_eq(ha_vmdir_copy(dir, in_dir("c"), NULL, why), -EINVAL);
    if (ha_vmdir_copy(in_dir("a"), in_dir("c"), &cancel, why) < 0) { /* no reflink */
        ck_assert_int_ne(access(in_dir("c"), F_OK), 0);
    }
}
END_TEST

static struct ha_snapshot one(void)
{
    struct ha_snapshot s = {
        .id = "one", .node = "n1", .disks = {.count = 1, .path = {"disk0.img"}}};

    snprintf(s.dir, sizeof s.dir, "%s", dir);
    return s;
}

static void take_with(struct ha_snapshot *s, const void *state, size_t len)
{
    struct ha_snapshot_info info = {.vm = "web1", .epoch = 7, .state = true};
    int fd;

    ck_assert_int_eq(ha_snapshot_begin(s, why), 0);
    ck_assert_int_eq(ha_snapshot_open_state(s, &fd, why), 0);
    ck_assert_int_eq(write(fd, state, len), (ssize_t)len);
    close(fd);
    ck_assert_int_eq(ha_snapshot_fill(s, &info, NULL, why), 0);
    ck_assert_int_eq(ha_snapshot_commit(s, why), 0);
}

/* With a state of some bytes. */
static void take(struct ha_snapshot *s)
{
    take_with(s, "state", 5);
}

START_TEST(a_state_that_does_not_fit_is_refused_before_anything_is_replaced)
{
    struct ha_snapshot s = one();
    static struct conf_vm conf;
    struct ha_snapshot_info back;
    char text[1024];
    uint8_t buf[FIT_STATE_MAX];

    make("disk0.img", 1u << 20, 0, 4096, 1);
    fit_conf(&conf);
    ha_fit_of_conf(&conf, NULL, &s.fit);
    take_with(&s, buf, fit_state(buf, 0));
    ck_assert_int_eq(ha_snapshot_check(&s, why), 0);
    conf.memory_bytes = 64u << 20;
    ha_fit_of_conf(&conf, NULL, &s.fit);
    make("disk0.img", 1u << 20, 0, 4096, 9);
    make("kept", 1u << 20, 0, 4096, 9);
    ck_assert_int_eq(ha_snapshot_check(&s, why), -EXDEV);
    ck_assert_int_eq(ha_snapshot_copy_back(&s, &back, NULL, why), -EXDEV);
    ck_assert(same("disk0.img", "kept"));
    ck_assert_int_ne(access(in_dir("disk0.img.revert.tmp"), F_OK), 0);
    ck_assert_int_eq(ha_snapshot_fits(&s, text, sizeof text), -EXDEV);
    ck_assert_ptr_nonnull(strstr(text, "defined now: memory 32MiB, now 64MiB; apply"));
    ck_assert_ptr_nonnull(strstr(text, "gemel vm clone web1 NEW --snapshot one"));
    s.fit = (struct ha_fit){0}; /* a clone takes the disks alone */
    ck_assert_int_eq(ha_snapshot_check(&s, why), 0);
}
END_TEST

START_TEST(a_snapshot_that_does_not_say_fits)
{
    struct ha_snapshot s = one();
    static struct conf_vm conf;

    make("disk0.img", 4096, 0, 4096, 1);
    take(&s);
    fit_conf(&conf);
    ha_fit_of_conf(&conf, NULL, &s.fit);
    ck_assert_int_eq(ha_snapshot_check(&s, why), 0);
}
END_TEST

/* Two disks and a suspended state that are all "old"; the snapshot's disks are "new". */
static struct ha_snapshot ready_to_put_back(struct ha_snapshot_info *ret_info)
{
    struct ha_snapshot s = one();

    s.disks.count = 2;
    strcpy(s.disks.path[1], "disk1.img");
    make("disk0.img", 4096, 0, 4096, 1);
    make("disk1.img", 4096, 0, 4096, 1);
    make("new", 4096, 0, 4096, 1);
    take(&s);
    make("disk0.img", 4096, 0, 4096, 9);
    make("disk1.img", 4096, 0, 4096, 9);
    make(VMDIR_STATE, 4096, 0, 4096, 9);
    make("old", 4096, 0, 4096, 9);
    ck_assert_int_eq(ha_snapshot_copy_back(&s, ret_info, NULL, why), 0);
    return s;
}

static void nothing_beside(void)
{
    static const char *const name[] = {
        "disk0.img.revert.old", "disk1.img.revert.old", VMDIR_STATE ".revert.old",
        "disk0.img.revert.tmp", "disk1.img.revert.tmp", VMDIR_STATE ".revert.tmp",
        "revert.done"};

    for (size_t i = 0; i < ARRAY_SIZE(name); i++) {
        ck_assert_msg(access(in_dir(name[i]), F_OK) < 0, "%s", name[i]);
    }
}

START_TEST(a_revert_leaves_nothing_beside)
{
    struct ha_snapshot_info info;
    struct ha_snapshot s = ready_to_put_back(&info);
    bool undone;

    ck_assert_int_eq(ha_snapshot_put_back(&s, &info, &undone, why), 0);
    ck_assert(same("disk0.img", "new"));
    ck_assert(same("disk1.img", "new"));
    ck_assert(!same(VMDIR_STATE, "old"));
    nothing_beside();
}
END_TEST

START_TEST(a_revert_that_fails_half_way_gives_the_disks_back)
{
    struct ha_snapshot_info info;
    struct ha_snapshot s = ready_to_put_back(&info);
    bool undone = false;

    ck_assert_int_eq(unlink(in_dir("disk1.img.revert.tmp")), 0);
    ck_assert_int_eq(ha_snapshot_put_back(&s, &info, &undone, why), -ENOENT);
    ck_assert(undone);
    ck_assert_ptr_nonnull(strstr(why, "disk1.img: "));
    ck_assert(same("disk0.img", "old"));
    ck_assert(same("disk1.img", "old"));
    ck_assert(same(VMDIR_STATE, "old"));
    nothing_beside();
}
END_TEST

/* Killed between two renames, and killed when all was in place. */
START_TEST(a_revert_that_was_interrupted_is_settled)
{
    struct ha_snapshot_info info;
    struct ha_snapshot s = ready_to_put_back(&info);

    ck_assert_int_eq(link(in_dir("disk0.img"), in_dir("disk0.img.revert.old")), 0);
    ck_assert_int_eq(link(in_dir("disk1.img"), in_dir("disk1.img.revert.old")), 0);
    ck_assert_int_eq(rename(in_dir("disk0.img.revert.tmp"), in_dir("disk0.img")), 0);
    ck_assert(ha_snapshot_torn(&s));
    ck_assert_int_eq(ha_snapshot_settle(&s, why), 0);
    ha_snapshot_drop_copies(&s);
    ck_assert(same("disk0.img", "old"));
    ck_assert(same("disk1.img", "old"));
    nothing_beside();
    ck_assert_int_eq(rename(in_dir("disk0.img"), in_dir("disk0.img.revert.old")), 0);
    make("disk0.img", 4096, 0, 4096, 1);
    make("revert.done", 0, 0, 0, 0);
    ck_assert(!ha_snapshot_torn(&s));
    ck_assert_int_eq(ha_snapshot_settle(&s, why), 0);
    ck_assert(same("disk0.img", "new"));
    nothing_beside();
}
END_TEST

START_TEST(a_snapshot_comes_back)
{
    struct ha_snapshot s = one();
    struct ha_snapshot_info info[2], back;
    bool undone;

    make("disk0.img", 1u << 20, 0, 4096, 1);
    make("kept", 1u << 20, 0, 4096, 1);
    take(&s);
    ck_assert_int_eq(ha_snapshot_list(dir, info, 2, why), 1);
    ck_assert_str_eq(info[0].id, "one");
    ck_assert(info[0].state);
    ck_assert_uint_eq(info[0].epoch, 7);
    make("disk0.img", 1u << 20, 0, 4096, 9);
    ck_assert_int_eq(ha_snapshot_copy_back(&s, &back, NULL, why), 0);
    ck_assert(!same("disk0.img", "kept")); /* not before every copy is there */
    ck_assert_int_eq(ha_snapshot_put_back(&s, &back, &undone, why), 0);
    ck_assert(same("disk0.img", "kept"));
    digest(VMDIR_STATE, info[1].digest);
    ck_assert_mem_eq(info[1].digest, back.digest, sizeof back.digest);
    ck_assert_int_eq(ha_snapshot_begin(&s, why), -EEXIST);
    ck_assert_int_eq(ha_snapshot_delete(&s, why), 0);
    ck_assert_int_eq(ha_snapshot_delete(&s, why), -ENOENT);
    ck_assert_int_eq(ha_snapshot_list(dir, info, 2, why), 0);
}
END_TEST

START_TEST(a_damaged_state_is_not_put_back)
{
    struct ha_snapshot s = one();
    struct ha_snapshot_info back;
    int fd;

    make("disk0.img", 1u << 20, 0, 4096, 1);
    make("kept", 1u << 20, 0, 4096, 1);
    take(&s);
    fd = open(in_dir("snapshots/one/state.gms"), O_WRONLY);
    ck_assert_int_eq(write(fd, "S", 1), 1);
    close(fd);
    ck_assert_int_eq(ha_snapshot_copy_back(&s, &back, NULL, why), -EBADMSG);
    ck_assert_ptr_nonnull(strstr(why, "state.gms: is damaged"));
    ck_assert_int_ne(access(in_dir("disk0.img.revert.tmp"), F_OK), 0);
    ck_assert(same("disk0.img", "kept"));
}
END_TEST

START_TEST(a_disk_that_came_later_is_missed)
{
    struct ha_snapshot s = one();

    make("disk0.img", 4096, 0, 4096, 1);
    take(&s);
    s.disks.count = 2;
    strcpy(s.disks.path[1], "disk1.img");
    ck_assert_int_eq(ha_snapshot_check(&s, why), -ENOENT);
    ck_assert_ptr_nonnull(strstr(why, "no copy of disk disk1.img"));
}
END_TEST

START_TEST(disks_elsewhere_are_refused_unless_read_only)
{
    static struct conf_vm conf = {.disk_count = 3,
                                  .disk = {{.path = "a.img"},
                                           {.path = "/iso/x.iso", .read_only = true},
                                           {.path = "/dev/sdx"}}};
    struct ha_vmdir_disks disks;

    ck_assert(!ha_vmdir_disks_of(&conf, &disks, why));
    ck_assert_ptr_nonnull(strstr(why, "/dev/sdx"));
    conf.disk_count = 2;
    ck_assert(ha_vmdir_disks_of(&conf, &disks, why));
    ck_assert_uint_eq(disks.count, 1);
}
END_TEST

START_TEST(a_clone_has_another_name_uuid_and_macs)
{
    static struct conf_vm conf = {.name = "web1", .nic_count = 1};
    static const uint8_t random[VM_NICS_MAX][3] = {{1, 2, 3}};
    static const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};
    struct uuid uuid = {{9}};

    ha_copies_redefine(&conf, "web2", uuid, random);
    ck_assert_str_eq(conf.name, "web2");
    ck_assert_mem_eq(&conf.uuid, &uuid, sizeof uuid);
    ck_assert_mem_eq(conf.nic[0].mac, mac, sizeof mac);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_snapshot");
    TCase *tc = tcase_create("snapshot");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, flat_names_are_different_for_different_paths);
    tcase_add_test(tc, a_digest_tells_files_apart);
    tcase_add_test(tc, a_copy_has_the_bytes_and_the_holes);
    tcase_add_test(tc, a_copy_replaces_nothing_and_leaves_nothing_half);
    tcase_add_test(tc, a_state_that_does_not_fit_is_refused_before_anything_is_replaced);
    tcase_add_test(tc, a_snapshot_that_does_not_say_fits);
    tcase_add_test(tc, a_snapshot_comes_back);
    tcase_add_test(tc, a_revert_leaves_nothing_beside);
    tcase_add_test(tc, a_revert_that_fails_half_way_gives_the_disks_back);
    tcase_add_test(tc, a_revert_that_was_interrupted_is_settled);
    tcase_add_test(tc, a_damaged_state_is_not_put_back);
    tcase_add_test(tc, a_disk_that_came_later_is_missed);
    tcase_add_test(tc, disks_elsewhere_are_refused_unless_read_only);
    tcase_add_test(tc, a_clone_has_another_name_uuid_and_macs);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
