/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/lab_node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/uuid.h"
#include "lab/lab_ipc.h"
#include "lab/labfs.h"

struct keeper {
    const struct lab *lab;
    unsigned node;
    const struct lab_node_fds *fds;
    struct lab_path self; /* our executable, a path that is valid in the node too */
    struct lab_path home; /* D/nodes/nX */
    int shared_fd, state_fd, undo_fd; /* directories behind the two labfs */
};

_Noreturn static void fail(const struct keeper *k, const char *what, int error)
{
    struct lab_text text = {0};

    lab_text_add(&text, "failed n%u could not be switched on: %s: %s", k->node, what,
                 strerror(error));
    lab_ipc_send(k->fds->keeper, text.buf, text.len, -1);
    /* The group's other members go with the leader: their parent-death signal is SIGKILL.
     */
    _exit(1);
}

#define TRY(k, what, call)                                                               \
    do {                                                                                 \
        if ((call) < 0) {                                                                \
            fail((k), (what), errno);                                                    \
        }                                                                                \
    } while (0)

static void run_ip(const struct keeper *k, struct lab_text *batch)
{
    static const char *const argv[] = {"ip", "-batch", "-", NULL};
    char *output = NULL;

    int r = lab_run(argv, batch->buf, &output);
    if (r != 0) {
        struct lab_text text = {0};
        lab_text_add(&text, "failed n%u could not be switched on: ip -batch: %.500s",
                     k->node, output != NULL ? output : strerror(-r));
        lab_ipc_send(k->fds->keeper, text.buf, text.len, -1);
        _exit(1);
    }
    free(output);
    lab_text_free(batch);
}

/* Runs in the hub's network namespace: the ports of the node's three cables. */
static void ports(const struct keeper *k, int hub_fd, bool remove)
{
    int status = 1;

    pid_t pid = fork();
    if (pid == 0) {
        struct lab_text batch = {0};
        if (setns(hub_fd, CLONE_NEWNET) < 0) {
            fail(k, "entering the hub's network", errno);
        }
        if (remove) {
            /* Those of an earlier life may still be there: the kernel ends network
             * namespaces later. */
            for (size_t i = 0; i < 3; i++) {
                static const char *const names[] = {"cl", "bmc", "vm"};
                struct lab_path name = lab_path("%s-n%u", names[i], k->node);
                const char *const argv[] = {"ip", "link", "del", name.s, NULL};
                free((lab_run(argv, NULL, NULL), NULL));
            }
            _exit(0);
        }
        lab_ip_ports(k->node, &batch);
        run_ip(k, &batch);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0) {
        fail(k, "joining the lab's bridges", pid < 0 ? errno : EIO);
    }
}

static void write_proc(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        (void)!write(fd, text, strlen(text));
        close(fd);
    }
}

static void network(struct keeper *k, int hub_fd)
{
    struct lab_text batch = {0};

    ports(k, hub_fd, true);
    /* Until now an earlier life's sockets could have said goodbye through the old ports;
     * the switch may open. */
    lab_ipc_send(k->fds->keeper, "ports", 5, -1);
    write_proc("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    lab_ip_node(k->lab, k->node, &batch);
    run_ip(k, &batch);
    ports(k, hub_fd, false);
}

/* ---- the node's file tree ---- */

static bool in_list(const char *name, const char *const list[])
{
    for (size_t i = 0; list[i] != NULL; i++) {
        if (strcmp(name, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void bind(const struct keeper *k, const char *from, const char *to)
{
    struct lab_path what = lab_path("binding %s to %s", from, to);

    if ((mkdir(to, 0755) < 0 && errno != EEXIST) ||
        mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0) {
        fail(k, what.s, errno);
    }
}

/* Makes `dir` (under the new root) with a symbolic link for each entry of the machine's
 * own, but those in `except`. */
static void mirror(const struct keeper *k, const char *root, const char *dir,
                   const char *const except[])
{
    struct lab_path from = lab_path("%s", dir), to = lab_path("%s%s", root, dir);
    struct dirent *entry;

    TRY(k, to.s, mkdir(to.s, 0755) < 0 && errno != EEXIST ? -1 : 0);
    DIR *d = opendir(from.s);
    if (d == NULL) {
        fail(k, from.s, errno);
    }
    while ((entry = readdir(d)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            in_list(entry->d_name, except)) {
            continue;
        }
        struct lab_path target = lab_path("/.host%s/%s", dir, entry->d_name);
        struct lab_path link = lab_path("%s/%s", to.s, entry->d_name);
        TRY(k, link.s, symlink(target.s, link.s));
    }
    closedir(d);
}

/* The machine's own top level: its directories bound, its links copied, but those that a
 * node has of its own. */
static void top_level(const struct keeper *k, const char *root)
{
    static const char *const own[] = {".",   "..",  "proc", "sys",        "run",   "etc",
                                      "var", "srv", "dev",  "lost+found", ".host", NULL};
    struct dirent *entry;

    DIR *d = opendir("/");
    if (d == NULL) {
        fail(k, "/", errno);
    }
    while ((entry = readdir(d)) != NULL) {
        struct lab_path from = lab_path("/%s", entry->d_name),
                        to = lab_path("%s/%s", root, entry->d_name);
        struct stat st;
        char target[PATH_LEN_MAX];
        if (in_list(entry->d_name, own) || lstat(from.s, &st) < 0) {
            continue;
        }
        if (S_ISDIR(st.st_mode)) {
            bind(k, from.s, to.s);
        } else if (S_ISLNK(st.st_mode)) {
            ssize_t n = readlink(from.s, target, sizeof target - 1);
            target[n > 0 ? n : 0] = '\0';
            TRY(k, to.s, symlink(target, to.s));
        }
    }
    closedir(d);
}

static void tmpfs(const struct keeper *k, const char *root, const char *dir,
                  const char *options)
{
    struct lab_path to = lab_path("%s%s", root, dir);

    TRY(k, to.s, mkdir(to.s, 0755) < 0 && errno != EEXIST ? -1 : 0);
    TRY(k, to.s, mount("tmpfs", to.s, "tmpfs", MS_NOSUID | MS_NODEV, options));
}

/* What a node has of its own, from D/nodes/nX. labfs puts /var/lib/gemel and /srv/gemel
 * over it. */
static void own_dirs(const struct keeper *k, const char *root)
{
    static const char *const dirs[][2] = {
        {"etc/corosync", "/etc/corosync"},   {"etc/gemel", "/etc/gemel"},
        {"etc/pacemaker", "/etc/pacemaker"}, {"corosync", "/var/lib/corosync"},
        {"pacemaker", "/var/lib/pacemaker"}, {"log", "/var/log"},
    };
    static const char *const empty[] = {"/var/lib/gemel", "/srv", "/srv/gemel"};

    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        struct lab_path from = lab_path("%s/%s", k->home.s, dirs[i][0]);
        struct lab_path to = lab_path("%s%s", root, dirs[i][1]);
        bind(k, from.s, to.s);
    }
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        struct lab_path dir = lab_path("%s%s", root, empty[i]);
        TRY(k, dir.s, mkdir(dir.s, 0755));
    }
    struct lab_path hostname = lab_path("%s/etc/hostname", root),
                    name = lab_path("n%u\n", k->node);
    TRY(k, hostname.s, lab_write_file(hostname.s, name.s, 0644));
}

/* pivot_root onto a tree of our own; the machine's stays visible under /.host. */
static void file_tree(struct keeper *k)
{
    static const char *const etc_own[] = {"corosync", "gemel", "pacemaker", "hostname",
                                          NULL};
    static const char *const var_own[] = {"lib", "log", "run", "lock", NULL};
    static const char *const lib_own[] = {"corosync", "gemel", "pacemaker", NULL};
    struct lab_path root = lab_path("%s/root", k->home.s), p;

    TRY(k, "mount propagation", mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
    p = lab_path("%s/.host", root.s);
    TRY(k, root.s, mount("tmpfs", root.s, "tmpfs", 0, "mode=755"));
    bind(k, "/", p.s);
    top_level(k, root.s);
    mirror(k, root.s, "/etc", etc_own);
    mirror(k, root.s, "/var", var_own);
    mirror(k, root.s, "/var/lib", lib_own);
    tmpfs(k, root.s, "/run", "mode=755,size=64m");
    p = lab_path("%s/run/lock", root.s);
    TRY(k, p.s, mkdir(p.s, 01777));
    p = lab_path("%s/var/run", root.s);
    TRY(k, p.s, symlink("/run", p.s));
    p = lab_path("%s/var/lock", root.s);
    TRY(k, p.s, symlink("/run/lock", p.s));
    p = lab_path("%s/dev", root.s);
    bind(k, "/dev", p.s);
    tmpfs(k, root.s, "/dev/shm", "mode=1777,size=256m");
    own_dirs(k, root.s);
    p = lab_path("%s/sys", root.s);
    TRY(k, p.s, mkdir(p.s, 0755));
    TRY(k, p.s, mount("sysfs", p.s, "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    p = lab_path("%s/proc", root.s);
    TRY(k, p.s, mkdir(p.s, 0755));
    /* The keeper and labfs need one as well; PID 1 puts its own over it. */
    TRY(k, p.s, mount("proc", p.s, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    TRY(k, root.s, chdir(root.s));
    TRY(k, "pivot_root", (int)syscall(SYS_pivot_root, ".", "."));
    TRY(k, "leaving the machine's tree", umount2(".", MNT_DETACH));
    TRY(k, "/", chdir("/"));
}

/* ---- children ---- */

/* A child that dies with the keeper, however that ends. */
static pid_t child(const struct keeper *k)
{
    pid_t parent = getpid();

    pid_t pid = fork();
    if (pid < 0) {
        fail(k, "fork", errno);
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* In a new PID namespace the parent reads as 0. */
        if (getppid() != parent && getppid() != 0) {
            _exit(1);
        }
    }
    return pid;
}

static pid_t start_labfs(struct keeper *k, const char *name, int source_fd,
                         const char *mountpoint, int control_fd)
{
    int ready[2];
    char c;

    TRY(k, "pipe", pipe2(ready, O_CLOEXEC));
    pid_t pid = child(k);
    if (pid == 0) {
        struct lab_path log = lab_path("/.host%s/log/storage.jsonl", k->lab->dir);
        struct lab_path node = lab_path("n%u", k->node);
        struct labfs_config config = {
            .name = name,
            .node = node.s,
            .source_fd = source_fd,
            .mountpoint = mountpoint,
            .control_fd = control_fd,
            .ready_fd = ready[1],
            .undo_fd = source_fd == k->state_fd ? k->undo_fd : -1,
            .log_path = strcmp(name, "shared") == 0 ? log.s : NULL,
        };
        prctl(PR_SET_NAME, "gemel-labfs");
        close(ready[0]);
        _exit(labfs_main(&config));
    }
    close(ready[1]);
    if (read(ready[0], &c, 1) != 1) {
        fail(k, "labfs did not start; see log/labfs.err", EIO);
    }
    close(ready[0]);
    return pid;
}

static void become_init(const struct keeper *k)
{
    struct lab_path fd = lab_path("%d", k->fds->init),
                    agents = lab_path("%d", k->lab->agents ? 1 : 0);
    const char *const argv[] = {"gemel-labinit", "--dir", k->lab->dir, "_init", fd.s,
                                agents.s,        NULL};
    struct lab_path boot_id =
        lab_path("/.host%s/nodes/n%u/boot_id", k->lab->dir, k->node);

    TRY(k, "/proc",
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    TRY(k, "boot id",
        mount(boot_id.s, "/proc/sys/kernel/random/boot_id", NULL, MS_BIND, NULL));
    fcntl(k->fds->init, F_SETFD, 0);
    execv(k->self.s, (char *const *)argv);
    fail(k, k->self.s, errno);
}

/* The node runs until its PID 1 ends. An orderly halt (exit 0) lets labfs write
 * everything; else it is a power loss. */
_Noreturn static void keep(pid_t init, const pid_t labfs[2])
{
    int status;

    for (;;) {
        pid_t pid = wait(&status);
        if (pid < 0 && errno == EINTR) {
            continue;
        }
        if (pid != init) {
            break; /* labfs died: the node has lost its disks */
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            for (size_t i = 0; i < 2; i++) {
                kill(labfs[i], SIGTERM);
            }
            while (wait(&status) > 0) {
            }
        }
        break;
    }
    kill(0, SIGKILL);
    _exit(1);
}

_Noreturn void lab_node_keeper(const struct lab *lab, unsigned node,
                               const struct lab_node_fds *fds)
{
    struct keeper k = {.lab = lab, .node = node, .fds = fds};
    char boot_id[UUID_STR_LEN + 2];
    pid_t labfs[2];

    prctl(PR_SET_NAME, "gemel-labkeep");
    signal(SIGPIPE, SIG_DFL);
    k.home = lab_path("%s/nodes/n%u", lab->dir, node);
    k.self = lab_self();
    struct lab_path hostname = lab_path("n%u", node),
                    path = lab_path("%s/boot_id", k.home.s);
    uuid_format(uuid_random(), boot_id);
    memcpy(boot_id + UUID_STR_LEN, "\n", 2);
    int r = lab_write_file(path.s, boot_id, 0444);
    if (r < 0) {
        fail(&k, path.s, -r);
    }
    path = lab_path("%s/shared", lab->dir);
    TRY(&k, path.s, k.shared_fd = open(path.s, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    path = lab_path("%s/gemel", k.home.s);
    TRY(&k, path.s, k.state_fd = open(path.s, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    path = lab_path("%s/undo", k.home.s);
    TRY(&k, path.s, k.undo_fd = open(path.s, O_RDONLY | O_DIRECTORY | O_CLOEXEC));

    int hub_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    TRY(&k, "the hub's network", hub_fd);
    TRY(&k, "namespaces",
        unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC));
    TRY(&k, "host name", sethostname(hostname.s, strlen(hostname.s)));
    network(&k, hub_fd);
    close(hub_fd);
    file_tree(&k);
    labfs[0] = start_labfs(&k, "shared", k.shared_fd, "/srv/gemel", fds->labfs_shared);
    labfs[1] = start_labfs(&k, "state", k.state_fd, "/var/lib/gemel", fds->labfs_state);

    TRY(&k, "PID namespace", unshare(CLONE_NEWPID));
    pid_t init = child(&k);
    if (init == 0) {
        become_init(&k);
    }
    struct lab_text up = {0};
    lab_text_add(&up, "up %d", (int)init);
    lab_ipc_send(fds->keeper, up.buf, up.len, -1);
    keep(init, labfs);
}
