/* SPDX-License-Identifier: Apache-2.0 */
#include "programs/gemel_vmm_walls.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/sandbox.h"

/* For who starts a VM as root without saying which user it is to be: above the range of
 * container managers, below what is signed (systemd's UIDS-GIDS); a process id is used by
 * one process at a time. */
#define UID_BASE 0x70000000u

/* The directory of a log file, if it is this VM's own: then its rotation goes on. */
static bool own_dir(const char *path, uid_t uid, char dir[PATH_MAX])
{
    const char *slash;
    struct stat st;
    int len;

    if (!path || stat(path, &st) < 0 || !S_ISREG(st.st_mode)) {
        return false;
    }
    slash = strrchr(path, '/');
    len = slash ? (int)(slash - path) : 0;
    if (path[0] == '/') {
        len = snprintf(dir, PATH_MAX, "%.*s", len, path);
    } else {
        char cwd[PATH_MAX];

        len = getcwd(cwd, sizeof cwd)
                  ? snprintf(dir, PATH_MAX, "%s%s%.*s", cwd, slash ? "/" : "", len, path)
                  : -1;
    }
    return len > 1 && len < PATH_MAX && stat(dir, &st) == 0 && st.st_uid == uid;
}

static int enter(const struct vmm_opts *o, struct sandbox_conf *conf,
                 struct vmm_error *err)
{
    const char *const file[] = {o->log_path, o->console_log, o->debug_log};
    char dir[ARRAY_SIZE(file)][PATH_MAX];
    unsigned count = 0;

    for (size_t i = 0; o->user_given && i < ARRAY_SIZE(file); i++) {
        if (!own_dir(file[i], conf->uid, dir[count])) {
            continue;
        }
        conf->dir[count] = dir[count];
        count += count == 0 || strcmp(dir[count], dir[count - 1]) != 0;
    }
    conf->dir[count] = NULL;
    return sandbox_enter(conf, err);
}

int gemel_vmm_walls(const struct vmm_opts *o, struct vmm_error *err)
{
    struct sandbox_conf conf = {
        .uid = geteuid(), .gid = getegid(), .memlock_bytes = o->memlock_bytes};
    int r;

    if (o->uffd_fd >= 0 && fcntl(o->uffd_fd, F_SETFD, FD_CLOEXEC) < 0) {
        return vmm_fail(err, -errno, "--uffd-fd %d: %s", o->uffd_fd, strerror(errno));
    }
    if (o->insecure_lab) {
        log_warn("vm %s: --insecure-lab: no sandbox; a guest that breaks out of it is "
                 "user %u on this host",
                 o->name, (unsigned)conf.uid);
        return 0;
    }
    if (o->user_given || geteuid() == 0) {
        conf.change_user = true;
        conf.uid = o->user_given ? o->uid : UID_BASE + (uid_t)getpid();
        conf.gid = o->gid ? o->gid : conf.uid;
    }
    /* The time zone is read once: later its file is out of reach. */
    (void)setenv("TZ", ":/etc/localtime", 0);
    tzset();
    r = enter(o, &conf, err);
    if (r == 0) {
        log_info("vm %s: sandboxed as user %u", o->name, (unsigned)conf.uid);
    }
    return r;
}
