/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_storage.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/nbd_uri.h"
#include "ha/ha_text.h"
#include "ha/ha_vmm_priv.h"

#define PROGRAM    "qemu-storage-daemon"
#define END_NS     (10 * NSEC_PER_SEC) /* to flush and close; then it is killed */
#define CONNECT_MS 5000
#define BACKLOG    16
#define ARGS_MAX   64
#define ARG_LEN    256

bool ha_storage_wanted(const struct ha_local *l)
{
    for (unsigned i = 0; i < l->disk_count; i++) {
        if (l->disk[i].format == CONF_DISK_QCOW2) {
            return true;
        }
    }
    return false;
}

bool ha_storage_up(const struct ha_local *l)
{
    return l->storage.pidfd >= 0;
}

/* As execvp would find it. */
static bool in_path(const char *name)
{
    const char *path = getenv("PATH");
    char file[PATH_LEN_MAX * 2];

    for (const char *at = path != NULL ? path : "/usr/bin:/bin"; *at != '\0';) {
        size_t len = strcspn(at, ":");

        snprintf(file, sizeof file, "%.*s/%s", (int)len, at, name);
        if (access(file, X_OK) == 0) {
            return true;
        }
        at += len + (at[len] == ':');
    }
    return false;
}

const char *ha_storage_missing(void)
{
    return in_path(PROGRAM) ? NULL
                            : "it has a qcow2 disk, and there is no " PROGRAM
                              " on this node; install the package qemu-system-common";
}

/* The end
 * ---------------------------------------------------------------------------------------
 */

static void storage_log(const struct ha_local *l, char *path, size_t cap)
{
    snprintf(path, cap, "%s/storage.log", l->log_dir);
}

/* What it said last: why it could not begin. */
static void last_words(const struct ha_local *l, char *text, size_t cap)
{
    char path[PATH_LEN_MAX * 2 + 16], buf[1024] = "";
    ssize_t n = 0;
    char *line, *save = NULL;
    struct stat st;
    int fd;

    storage_log(l, path, sizeof path);
    ha_text_set(text, cap, PROGRAM " ended; see ", path, NULL);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && fstat(fd, &st) == 0) {
        off_t from =
            st.st_size > (off_t)sizeof buf - 1 ? st.st_size - ((off_t)sizeof buf - 1) : 0;

        n = pread(fd, buf, sizeof buf - 1, from);
    }
    if (fd >= 0) {
        close(fd);
    }
    buf[n > 0 ? n : 0] = '\0';
    for (line = strtok_r(buf, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        ha_text_set(text, cap, line, NULL);
    }
}

static void end_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->storage_timer = 0;
    log_warn("vm %s: " PROGRAM " does not end; killed", l->name);
    (void)os_child_kill_group(&l->storage, SIGKILL);
}

static int on_storage_end(int fd, int revents, void *data)
{
    struct ha_local *l = data;
    char why[REASON_LEN_MAX + 1];
    int status = -1, r;

    (void)revents;
    r = os_child_reap(&l->storage, &status);
    if (r == -EAGAIN) {
        return 0;
    }
    loop_fd_del(l->vmm->loop, fd);
    loop_timer_del(l->vmm->loop, &l->storage_timer);
    os_child_close(&l->storage);
    l->storage.pidfd = -1;
    (void)unlink(l->storage_path);
    if (l->storage_ending) {
        l->storage_ending = false;
        ha_local_gone(l);
        return 0;
    }
    if (l->save_step == SAVE_STORAGE) {
        ha_vmmsave_storage_gone(l);
        return 0;
    }
    if (l->moving != NULL && l->moving->step == MOVE_STORAGE) {
        ha_vmmmove_storage_gone(l);
        return 0;
    }
    last_words(l, why, sizeof why);
    log_err("vm %s: its " PROGRAM " ended by itself (status %d): %s", l->name, status,
            why);
    (void)ha_local_save(l);
    if (l->phase == LOCAL_STARTING && !l->thawing && !l->stopping) {
        ha_local_fail(l, why);
    }
    return 0; /* a VM that runs finds its connection lost: its disks' on_error says what
                 then */
}

void ha_storage_quit(struct ha_local *l)
{
    (void)os_child_kill_group(&l->storage, l->discarded ? SIGKILL : SIGTERM);
    loop_timer_del(l->vmm->loop, &l->storage_timer);
    loop_timer_add(l->vmm->loop, END_NS, end_timer_fn, l, &l->storage_timer);
}

void ha_storage_end(struct ha_local *l)
{
    l->storage_ending = true;
    l->phase = LOCAL_ENDING;
    ha_storage_quit(l);
}

void ha_storage_forget(struct ha_local *l)
{
    if (!ha_storage_up(l)) {
        return;
    }
    loop_fd_del(l->vmm->loop, l->storage.pidfd);
    loop_timer_del(l->vmm->loop, &l->storage_timer);
    os_child_close(&l->storage);
    l->storage.pidfd = -1;
}

static int watch(struct ha_local *l)
{
    return loop_fd_add(l->vmm->loop, l->storage.pidfd, POLLIN, on_storage_end, l);
}

int ha_storage_adopt(struct ha_local *l, int pid, unsigned long long start_time)
{
    struct os_child child;
    int r = pid > 0 ? os_child_reopen(pid, start_time, &child) : -ESRCH;

    if (r < 0) {
        return r == -ESRCH ? 0 : r;
    }
    l->storage = child;
    return watch(l);
}

/* The beginning
 * --------------------------------------------------------------------------------- */

struct command {
    const char *argv[ARGS_MAX];
    char text[ARGS_MAX][ARG_LEN];
    unsigned count;
};

__attribute__((format(printf, 2, 3))) static void arg(struct command *c,
                                                      const char *format, ...)
{
    va_list args;

    if (c->count + 1 >= ARGS_MAX) {
        return; /* 8 disks need fewer */
    }
    va_start(args, format);
    vsnprintf(c->text[c->count], ARG_LEN, format, args);
    va_end(args);
    c->argv[c->count] = c->text[c->count];
    c->count++;
}

/* Neither network nor privileges: what it needs comes open. */
static void put_walls(struct command *c, uint32_t uid)
{
    if (uid == 0) {
        return;
    }
    arg(c, "unshare");
    arg(c, "--net");
    arg(c, "--ipc");
    arg(c, "--");
    arg(c, "setpriv");
    arg(c, "--reuid=%u", (unsigned)uid);
    arg(c, "--regid=%u", (unsigned)uid);
    arg(c, "--clear-groups");
    arg(c, "--no-new-privs");
    arg(c, "--bounding-set=-all");
    arg(c, "--inh-caps=-all");
    arg(c, "--");
}

/* Past the page cache where the file system can: other nodes see the same image. */
static bool can_direct(int fd)
{
    void *p = NULL;
    int flags = fcntl(fd, F_GETFL);
    bool can;

    if (flags < 0 || posix_memalign(&p, 4096, 4096) != 0) {
        return false;
    }
    can = fcntl(fd, F_SETFL, flags | O_DIRECT) == 0 && pread(fd, p, 512, 0) == 512;
    (void)fcntl(fd, F_SETFL, flags);
    free(p);
    return can;
}

/* No lock on the image: see doc/decisions.md, "No file lock on disks". */
static void put_disk(struct command *c, unsigned i, int fd, bool read_only)
{
    const char *direct = can_direct(fd) ? "on" : "off";
    const char *ro = read_only ? "on" : "off";

    arg(c, "--blockdev");
    arg(c,
        "driver=file,node-name=file%u,filename=/proc/self/fd/%d,locking=off,"
        "cache.direct=%s,discard=unmap,read-only=%s",
        i, fd, direct, ro);
    arg(c, "--blockdev");
    arg(c,
        "driver=qcow2,node-name=disk%u,file=file%u,cache.direct=%s,discard=unmap,"
        "read-only=%s",
        i, i, direct, ro);
}

static void build(struct command *c, const struct ha_local *l, const int *image_fd,
                  int listen_fd)
{
    c->count = 0;
    put_walls(c, l->storage_uid);
    arg(c, PROGRAM);
    for (unsigned i = 0; i < l->disk_count; i++) {
        if (image_fd[i] >= 0) {
            put_disk(c, i, image_fd[i], l->disk[i].read_only);
        }
    }
    arg(c, "--nbd-server");
    arg(c, "addr.type=fd,addr.str=%d", listen_fd);
    for (unsigned i = 0; i < l->disk_count; i++) {
        if (image_fd[i] >= 0) {
            arg(c, "--export");
            arg(c, "type=nbd,id=export%u,node-name=disk%u,name=disk%u,writable=%s", i, i,
                i, l->disk[i].read_only ? "off" : "on");
        }
    }
    c->argv[c->count] = NULL;
}

/* Nobody but root gets to it: run_dir is root's. */
static int listen_on(const char *path, int *ret_fd)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd, r = 0;

    if (strlen(path) >= sizeof un.sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(un.sun_path, path, strlen(path));
    (void)unlink(path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (bind(fd, (struct sockaddr *)&un, sizeof un) < 0 || chmod(path, 0600) < 0 ||
        listen(fd, BACKLOG) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

/* An image of a VM without walls stays whose it is. */
static int give_images(const struct ha_local *l, const int *image_fd)
{
    for (unsigned i = 0; l->storage_uid != 0 && i < l->disk_count; i++) {
        if (image_fd[i] >= 0 && !l->disk[i].read_only &&
            fchown(image_fd[i], l->storage_uid, l->storage_uid) < 0) {
            return -errno;
        }
    }
    return 0;
}

static int open_log(const struct ha_local *l)
{
    char path[PATH_LEN_MAX * 2 + 16];

    storage_log(l, path, sizeof path);
    (void)unlink(path); /* the directory is in the hands of the VM's user */
    return open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
}

static int run(struct ha_local *l, const int *image_fd, int listen_fd)
{
    struct command *c = calloc(1, sizeof *c);
    int stdio[3] = {-1, -1, -1}, pass[VM_DISKS_MAX + 1], r;
    size_t pass_count = 0;

    if (c == NULL) {
        return -ENOMEM;
    }
    build(c, l, image_fd, listen_fd);
    pass[pass_count++] = listen_fd;
    for (unsigned i = 0; i < l->disk_count; i++) {
        if (image_fd[i] >= 0) {
            pass[pass_count++] = image_fd[i];
        }
    }
    stdio[1] = stdio[2] = open_log(l);
    r = os_spawn(c->argv, NULL, stdio, pass, pass_count, &l->storage);
    if (r < 0) {
        l->storage.pidfd = -1;
    }
    if (stdio[1] >= 0) {
        close(stdio[1]);
    }
    free(c);
    return r;
}

int ha_storage_spawn(struct ha_local *l, const int *image_fd, char *why)
{
    int listen_fd = -1, r = give_images(l, image_fd);

    if (r < 0) {
        ha_text_set(why, REASON_LEN_MAX + 1,
                    "an image cannot be given to the user of its " PROGRAM ": ",
                    strerror(-r), NULL);
        return r;
    }
    r = listen_on(l->storage_path, &listen_fd);
    if (r == 0) {
        r = run(l, image_fd, listen_fd);
        close(listen_fd);
    }
    if (r == 0) {
        r = watch(l);
    }
    if (r == 0) {
        r = ha_local_save(l);
    }
    if (r < 0) {
        ha_text_set(why, REASON_LEN_MAX + 1, PROGRAM ": ", strerror(-r), NULL);
    }
    return r;
}

int ha_storage_connect(struct ha_local *l, int *ret_fd)
{
    struct nbd_uri uri = {.is_unix = true};

    if (strlen(l->storage_path) >= sizeof uri.path) {
        return -ENAMETOOLONG;
    }
    memcpy(uri.path, l->storage_path, strlen(l->storage_path));
    return nbd_uri_connect(&uri, CONNECT_MS, ret_fd);
}
