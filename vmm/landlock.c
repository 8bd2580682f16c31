/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/units.h"
#include "vmm/sandbox.h"

/*
 * What the versions can refuse, by their bits in the uapi header; the system's may be
 * older than the kernel. Files: execute .. make_sym is 13 bits in version 1, then refer,
 * truncate, and (5) ioctl_dev. Network (4): bind and connect of TCP. Scope (6): abstract
 * Unix sockets, signals.
 */
static const uint8_t fs_bits[] = {13, 14, 15, 15, 16};

/* The kernel looks at the size, so that an old one takes the fields it knows. */
struct ruleset {
    uint64_t fs, net, scoped;
};

/* Also what truncates, which is not in every header. */
#define LOG_RIGHTS                                                                       \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |                      \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE | (UINT64_C(1) << 14))

static int add_dir(int ruleset, uint64_t known, const char *dir)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = LOG_RIGHTS & known};
    int r = 0;

    rule.parent_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (rule.parent_fd < 0) {
        return -errno;
    }
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) <
        0) {
        r = -errno;
    }
    close(rule.parent_fd);
    return r;
}

int landlock_confine(const char *const dirs[])
{
    struct ruleset set = {0};
    size_t len = sizeof set.fs;
    int version, fd, r = 0;

    version = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
                           LANDLOCK_CREATE_RULESET_VERSION);
    if (version <= 0) {
        return version < 0 ? -errno : -EOPNOTSUPP;
    }
    set.fs = (UINT64_C(1) << fs_bits[version < 5 ? version - 1 : 4]) - 1;
    if (version >= 4) {
        set.net = 3;
        len = offsetof(struct ruleset, scoped);
    }
    if (version >= 6) {
        set.scoped = 3;
        len = sizeof set;
    }
    fd = (int)syscall(SYS_landlock_create_ruleset, &set, len, 0);
    if (fd < 0) {
        return -errno;
    }
    for (unsigned i = 0; r == 0 && i < SANDBOX_DIRS_MAX && dirs[i]; i++) {
        r = add_dir(fd, set.fs, dirs[i]);
    }
    if (r == 0 && syscall(SYS_landlock_restrict_self, fd, 0) < 0) {
        r = -errno;
    }
    close(fd);
    return r < 0 ? r : version;
}
