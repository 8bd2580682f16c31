/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/log.h"
#include "base/os.h"
#include "vmm/landlock.h"
#include "vmm/sandbox_root.h"

#define FILES_MAX 1024 /* RLIMIT_NOFILE: disks, taps, two eventfds per queue, clients */

static atomic_bool entered;
static struct {
    bool given;
    uid_t uid;
    gid_t gid;
} files; /* set before there are threads */

bool sandbox_entered(void)
{
    return atomic_load(&entered);
}

/* By system call: libc's capset is another library. */
static int get_capabilities(struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3])
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};

    return syscall(SYS_capget, &head, caps) < 0 ? -errno : 0;
}

static int
set_capabilities(const struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3])
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};

    return syscall(SYS_capset, &head, caps) < 0 ? -errno : 0;
}

void sandbox_files_as(uid_t uid, gid_t gid)
{
    files.given = true;
    files.uid = uid;
    files.gid = gid;
}

void sandbox_files_begin(void)
{
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];

    if (!files.given || sandbox_entered()) {
        return;
    }
    (void)setfsgid(files.gid);
    (void)setfsuid(files.uid);
    /* That took the power over files along. The way to them may lead through directories
     * of others; writing is what must not be. */
    if (get_capabilities(caps) == 0) {
        caps[0].effective |= caps[0].permitted & (1u << CAP_DAC_READ_SEARCH);
        (void)set_capabilities(caps);
    }
}

void sandbox_files_end(void)
{
    if (!files.given || sandbox_entered()) {
        return;
    }
    (void)setfsuid(geteuid());
    (void)setfsgid(getegid());
}

/* Steps
 * -------------------------------------------------------------------------------------
 */

/* Who may not raise a limit stays below it: a lower one is no hole. */
static int set_limit(int resource, rlim_t value)
{
    struct rlimit limit = {.rlim_cur = value, .rlim_max = value}, now;

    if (setrlimit(resource, &limit) == 0) {
        return 0;
    }
    if (errno != EPERM || getrlimit(resource, &now) < 0 || now.rlim_max > value) {
        return -errno;
    }
    now.rlim_cur = now.rlim_max;
    return setrlimit(resource, &now) < 0 ? -errno : 0;
}

static int set_limits(const struct sandbox_conf *conf, struct vmm_error *err)
{
    int r = set_limit(RLIMIT_CORE, 0);

    if (r >= 0) {
        r = set_limit(RLIMIT_NOFILE, FILES_MAX);
    }
    if (r >= 0 && conf->memlock_bytes != UINT64_MAX) {
        r = set_limit(RLIMIT_MEMLOCK, conf->memlock_bytes);
    }
    return r < 0 ? vmm_fail(err, r, "cannot set the limits of this process: %s",
                            strerror(-r))
                 : 0;
}

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC), r;

    if (fd < 0) {
        return -errno;
    }
    r = os_write_all(fd, text, strlen(text));
    close(fd);
    return r;
}

/* A user who is not root gets its namespaces inside one of users, in which it stays who
 * it is. */
static int enter_user_namespace(struct vmm_error *err)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    char line[64];
    int r;

    r = unshare(CLONE_NEWUSER) < 0 ? -errno : 0;
    if (r == 0) {
        snprintf(line, sizeof line, "%u %u 1", (unsigned)uid, (unsigned)uid);
        r = write_text("/proc/self/uid_map", line);
    }
    if (r == 0) {
        r = write_text("/proc/self/setgroups", "deny");
    }
    if (r == 0) {
        snprintf(line, sizeof line, "%u %u 1", (unsigned)gid, (unsigned)gid);
        r = write_text("/proc/self/gid_map", line);
    }
    return r < 0 ? vmm_fail(err, r,
                            "this user may not make namespaces (%s), so the VM cannot be "
                            "isolated; start it as root, allow user namespaces, or give "
                            "--insecure-lab to run it without walls",
                            strerror(-r))
                 : 0;
}

static int enter_namespaces(struct vmm_error *err)
{
    static const int kinds = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
    int r = unshare(kinds) < 0 ? -errno : 0;

    if (r == -EPERM) {
        r = enter_user_namespace(err);
        if (r < 0) {
            return r;
        }
        r = unshare(kinds) < 0 ? -errno : 0;
    }
    return r < 0 ? vmm_fail(err, r,
                            "cannot make mount, network, IPC and UTS namespaces: %s; "
                            "--insecure-lab runs the VM without walls",
                            strerror(-r))
                 : 0;
}

static int drop_bounding_set(void)
{
    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
            return -errno;
        }
    }
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ? -errno : 0;
}

static int drop_privileges(const struct sandbox_conf *conf, struct vmm_error *err)
{
    static const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];
    int r = drop_bounding_set();

    if (r == 0 && conf->change_user &&
        (setgroups(0, NULL) < 0 || setresgid(conf->gid, conf->gid, conf->gid) < 0 ||
         setresuid(conf->uid, conf->uid, conf->uid) < 0)) {
        r = -errno;
    }
    if (r == 0) {
        r = set_capabilities(none);
    }
    if (r == 0 && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
                   prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)) {
        r = -errno;
    }
    return r < 0 ? vmm_fail(err, r, "cannot become user %u without capabilities: %s",
                            (unsigned)conf->uid, strerror(-r))
                 : 0;
}

/* Asked before there is a thread that would have to die of the answer. */
static int check_seccomp(struct vmm_error *err)
{
    uint32_t action = SECCOMP_RET_KILL_PROCESS;

    if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0) {
        return vmm_fail(err, -errno,
                        "this kernel cannot filter system calls (CONFIG_SECCOMP_FILTER); "
                        "--insecure-lab runs the VM without walls");
    }
    return 0;
}

static void confine_files(const struct sandbox_conf *conf)
{
    int version = landlock_confine(conf->dir);

    if (version == -EOPNOTSUPP || version == -ENOSYS) {
        log_info("sandbox: no Landlock in this kernel; the other walls stand");
    } else if (version < 0) {
        log_warn("sandbox: Landlock refused: %s; the other walls stand",
                 strerror(-version));
    }
}

int sandbox_enter(const struct sandbox_conf *conf, struct vmm_error *err)
{
    int r;

    BUG_ON(atomic_load(&entered));
    r = check_seccomp(err);
    if (r == 0) {
        r = set_limits(conf, err);
    }
    if (r == 0) {
        r = enter_namespaces(err);
    }
    if (r == 0) {
        r = sandbox_root_enter(conf->dir, err);
    }
    if (r == 0) {
        r = drop_privileges(conf, err);
    }
    if (r < 0) {
        return r;
    }
    confine_files(conf);
    atomic_store(&entered, true);
    return 0;
}

void sandbox_thread(enum sandbox_thread kind)
{
    struct sock_filter code[SYSCALL_FILTER_MAX];
    struct sock_fprog program = {.filter = code};
    long r;

    if (!atomic_load(&entered)) {
        return;
    }
    program.len = (unsigned short)syscall_filter_make(kind, (uint32_t)getpid(), code,
                                                      SYSCALL_FILTER_MAX);
    r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    BUG_ON(r != 0); /* no thread goes on without its walls */
}
