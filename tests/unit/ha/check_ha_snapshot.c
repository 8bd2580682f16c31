/* SPDX-License-Identifier: Apache-2.0 */
/* Copies, digests and snapshots in a directory of their own. */
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

static void remove_in(const char *sub)
{
    char path[512];

    snprintf(path, sizeof path, "%s%s", dir, sub);
    (void)ha_vmdir_remove(path);
}

static void teardown(void)
{
    remove_in("/snapshots/one");
    remove_in("/snapshots/.one.tmp");
    remove_in("/snapshots");
    remove_in("");
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
    struct ha_snapshot s = {.id = "one", .disks = {.count = 1, .path = {"disk0.img"}}};

    snprintf(s.dir, sizeof s.dir, "%s", dir);
    return s;
}

/* With a state of some bytes. */
static void take(struct ha_snapshot *s)
{
    struct ha_snapshot_info info = {.vm = "web1", .epoch = 7, .state = true};
    int fd;

    ck_assert_int_eq(ha_snapshot_begin(s, why), 0);
    ck_assert_int_eq(ha_snapshot_open_state(s, &fd, why), 0);
    ck_assert_int_eq(write(fd, "state", 5), 5);
    close(fd);
    ck_assert_int_eq(ha_snapshot_fill(s, &info, NULL, why), 0);
    ck_assert_int_eq(ha_snapshot_commit(s, why), 0);
}

START_TEST(a_snapshot_comes_back)
{
    struct ha_snapshot s = one();
    struct ha_snapshot_info info[2], back;

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
    ck_assert_int_eq(ha_snapshot_put_back(&s, &back, why), 0);
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
    tcase_add_test(tc, a_snapshot_comes_back);
    tcase_add_test(tc, a_damaged_state_is_not_put_back);
    tcase_add_test(tc, a_disk_that_came_later_is_missed);
    tcase_add_test(tc, disks_elsewhere_are_refused_unless_read_only);
    tcase_add_test(tc, a_clone_has_another_name_uuid_and_macs);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
