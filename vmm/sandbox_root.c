/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/sandbox_root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/os.h"
#include "vmm/sandbox.h"

/* A directory that every system has. What is mounted over it here is seen by this process
 * only. */
#define PLACE "/proc"
#define BARE  (MS_NOSUID | MS_NODEV | MS_NOEXEC)

/* Attached nowhere, so that it can be taken along when PLACE covers its name. */
static int detach_copies(const char *const dirs[], int fds[SANDBOX_DIRS_MAX],
                         struct vmm_error *err)
{
    for (unsigned i = 0; i < SANDBOX_DIRS_MAX && dirs[i]; i++) {
        fds[i] = open_tree(AT_FDCWD, dirs[i], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (fds[i] < 0) {
            return vmm_fail(err, -errno, "cannot take %s into the sandbox: %s", dirs[i],
                            strerror(errno));
        }
    }
    return 0;
}

/* Flags of a mount that a user namespace may not take away. */
static unsigned long kept_flags(const char *path)
{
    struct statvfs fs;

    return statvfs(path, &fs) == 0 && (fs.f_flag & ST_RDONLY) ? MS_RDONLY : 0;
}

/* Below PLACE, under its own name. */
static int attach(int fd, const char *dir)
{
    char path[PATH_MAX];
    int r;

    r = snprintf(path, sizeof path, PLACE "%s", dir);
    if (r < 0 || (size_t)r >= sizeof path) {
        return -ENAMETOOLONG;
    }
    r = os_mkdir_p(path, 0755);
    if (r < 0) {
        return r;
    }
    if (move_mount(fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0 ||
        mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | BARE | kept_flags(path), NULL) <
            0) {
        return -errno;
    }
    return 0;
}

/* The old root goes away. An initial ramfs cannot: it stays below, out of reach of a
 * process that may not mount. */
static int make_root(void)
{
    if (chdir(PLACE) < 0) {
        return -errno;
    }
    if (syscall(SYS_pivot_root, ".", ".") == 0) {
        if (umount2(".", MNT_DETACH) < 0) {
            return -errno;
        }
    } else if (errno != EINVAL || mount(".", "/", NULL, MS_MOVE, NULL) < 0 ||
               chroot(".") < 0) {
        return -errno;
    }
    return chdir("/") < 0 ? -errno : 0;
}

static int build(const char *const dirs[], const int fds[SANDBOX_DIRS_MAX])
{
    int r;

    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("sandbox", PLACE, "tmpfs", BARE, "size=64k,nr_inodes=64,mode=0755") < 0) {
        return -errno;
    }
    for (unsigned i = 0; i < SANDBOX_DIRS_MAX && dirs[i]; i++) {
        r = attach(fds[i], dirs[i]);
        if (r < 0) {
            return r;
        }
    }
    r = make_root();
    if (r < 0) {
        return r;
    }
    return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | BARE, NULL) < 0
               ? -errno
               : 0;
}

int sandbox_root_enter(const char *const dirs[], struct vmm_error *err)
{
    int fds[SANDBOX_DIRS_MAX] = {-1, -1, -1, -1};
    char cwd[PATH_MAX];
    bool known = getcwd(cwd, sizeof cwd) != NULL;
    int r;

    r = detach_copies(dirs, fds, err);
    if (r == 0) {
        r = build(dirs, fds);
        if (r < 0) {
            vmm_fail(err, r,
                     "cannot make the empty root of the sandbox: %s; --insecure-lab runs "
                     "the VM without walls",
                     strerror(-r));
        }
    }
    for (unsigned i = 0; i < SANDBOX_DIRS_MAX; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    if (r == 0 && known) {
        (void)!chdir(cwd); /* relative names of log files */
    }
    return r;
}
