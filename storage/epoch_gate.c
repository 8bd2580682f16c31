/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/epoch_gate.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/limits.h"
#include "base/os.h"
#include "base/text.h"
#include "base/units.h"

#define LOCK_NAME   "lock"
#define FILE_PREFIX "epoch-" /* so that no name is hidden, or the lock */
#define FILE_TEXT   "gemel-epoch %llu\n"
#define TEXT_MAX    64

struct export
{
    struct export *next;
    struct epoch_gate *gate;
    struct epoch_name name;
    uint64_t epoch;  /* highest */
    bool durable;    /* this process wrote it down, to the end */
    uint64_t newest; /* serial of the connection that may use it; 0: none yet */
    struct epoch_pass *passes;
};

struct epoch_pass {
    struct epoch_pass *next;
    struct export *export;
    uint64_t serial;
    uint32_t running; /* requests under way */
    bool has_epoch, only_asks;
};

struct epoch_gate {
    char *dir;
    int lock_fd;
    unsigned drain_ms;
    pthread_mutex_t files; /* taken before `lock`; while a file is written */
    pthread_mutex_t lock;
    pthread_cond_t drained;
    struct export *exports; /* with connections; of the others the files know */
    uint64_t serial;
};

static int init_locks(struct epoch_gate *g)
{
    pthread_condattr_t attr;
    int r = pthread_condattr_init(&attr);

    if (r != 0) {
        return -r;
    }
    BUG_ON(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) != 0);
    r = pthread_cond_init(&g->drained, &attr);
    pthread_condattr_destroy(&attr);
    if (r == 0) {
        BUG_ON(pthread_mutex_init(&g->files, NULL) != 0 ||
               pthread_mutex_init(&g->lock, NULL) != 0);
    }
    return -r;
}

/* A directory without it may be a mount point whose file system is not mounted: all of
 * its exports would be without epochs, and every old owner let in. */
static int find_marker(const char *dir, char why[static EPOCH_WHY_MAX])
{
    char path[PATH_LEN_MAX];
    int r;

    snprintf(path, sizeof path, "%s/" EPOCH_MARKER, dir);
    if (access(path, F_OK) == 0) {
        return 0;
    }
    r = -errno;
    if (r != -ENOENT || access(dir, F_OK) < 0) {
        snprintf(why, EPOCH_WHY_MAX,
                 "epochs=%s: %s; make the directory, and let the server write there", dir,
                 strerror(-r));
    } else {
        snprintf(why, EPOCH_WHY_MAX,
                 "epochs=%s: no file " EPOCH_MARKER
                 " is there: is its file system mounted? If it is new: touch %s",
                 dir, path);
    }
    return r;
}

/* For as long as the process lives, and those that it forks. */
static int lock_dir(const char *dir, int *ret_fd, char why[static EPOCH_WHY_MAX])
{
    char path[PATH_LEN_MAX];
    int fd, r;

    if (strlen(dir) + sizeof FILE_PREFIX + EPOCH_SHOWN_MAX > sizeof path) {
        snprintf(why, EPOCH_WHY_MAX, "epochs: the directory's path is too long");
        return -ENAMETOOLONG;
    }
    r = find_marker(dir, why);
    if (r < 0) {
        return r;
    }
    snprintf(path, sizeof path, "%s/" LOCK_NAME, dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        r = -errno;
        snprintf(why, EPOCH_WHY_MAX, "epochs=%s: %s; let the server write there", dir,
                 strerror(-r));
        return r;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        r = errno == EWOULDBLOCK ? -EBUSY : -errno;
        snprintf(why, EPOCH_WHY_MAX, "epochs=%s: %s", dir,
                 r == -EBUSY ? "another server uses it; each needs a directory of its own"
                             : strerror(-r));
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int epoch_gate_open(struct epoch_gate **ret_gate, const char *dir, unsigned drain_ms,
                    char why[static EPOCH_WHY_MAX])
{
    struct epoch_gate *g = calloc(1, sizeof *g);
    int r = -ENOMEM;

    if (!g) {
        goto out;
    }
    g->drain_ms = drain_ms;
    g->dir = strdup(dir);
    if (!g->dir) {
        goto out;
    }
    r = lock_dir(dir, &g->lock_fd, why);
    if (r < 0) {
        free(g->dir);
        free(g);
        return r;
    }
    r = init_locks(g);
    if (r < 0) {
        close(g->lock_fd);
        goto out;
    }
    *ret_gate = g;
    return 0;
out:
    snprintf(why, EPOCH_WHY_MAX, "no memory for the epochs of exports");
    if (g) {
        free(g->dir);
    }
    free(g);
    return r;
}

/* nbdkit ends with connections open: their threads may still look, and all goes with the
 * process. */
static bool is_used(struct epoch_gate *gate)
{
    bool used = false;

    pthread_mutex_lock(&gate->lock);
    for (const struct export *e = gate->exports; e; e = e->next) {
        used = used || e->passes != NULL;
    }
    pthread_mutex_unlock(&gate->lock);
    return used;
}

void epoch_gate_close(struct epoch_gate *gate)
{
    if (!gate || is_used(gate)) {
        return;
    }
    while (gate->exports) {
        struct export *e = gate->exports;

        gate->exports = e->next;
        free(e);
    }
    pthread_cond_destroy(&gate->drained);
    pthread_mutex_destroy(&gate->lock);
    pthread_mutex_destroy(&gate->files);
    close(gate->lock_fd);
    free(gate->dir);
    free(gate);
}

/* The file
 * ----------------------------------------------------------------------------------- */

static void path_of(const struct export *e, char *path, size_t cap)
{
    snprintf(path, cap, "%s/" FILE_PREFIX "%s", e->gate->dir, e->name.shown);
}

/* The directory is the one that was locked, not what an umount left in its place, where
 * every export would be without epochs. */
static int in_place(const struct epoch_gate *g, char why[static EPOCH_WHY_MAX])
{
    char path[PATH_LEN_MAX];
    struct stat locked, now;

    snprintf(path, sizeof path, "%s/" LOCK_NAME, g->dir);
    if (fstat(g->lock_fd, &locked) == 0 && stat(path, &now) == 0 &&
        locked.st_dev == now.st_dev && locked.st_ino == now.st_ino) {
        return 0;
    }
    snprintf(why, EPOCH_WHY_MAX,
             "epochs=%s is not the directory that it was when the server began (its lock "
             "is another file): nobody is let in; mount it again, and restart the server",
             g->dir);
    return -ENOMEDIUM;
}

/* No file: 0. Anything but what store() writes is refused: taking it for 0 would let
 * everybody in. */
static int load(const struct export *e, uint64_t *ret_epoch,
                char why[static EPOCH_WHY_MAX])
{
    char path[PATH_LEN_MAX], text[TEXT_MAX], again[TEXT_MAX] = "";
    unsigned long long epoch = 0;
    int r, place;

    path_of(e, path, sizeof path);
    r = os_file_read(path, text, sizeof text - 1, NULL);
    place = in_place(e->gate, why);
    if (place < 0) {
        return place;
    }
    if (r == -ENOENT) {
        *ret_epoch = 0;
        return 0;
    }
    if (r < 0) {
        snprintf(why, EPOCH_WHY_MAX, "%s: %s", path, strerror(-r));
        return r;
    }
    if (sscanf(text, FILE_TEXT, &epoch) == 1) {
        snprintf(again, sizeof again, FILE_TEXT, epoch);
    }
    if (epoch == 0 || strcmp(text, again) != 0) {
        snprintf(
            why, EPOCH_WHY_MAX,
            "%s is spoilt: nobody is let in; write there 'gemel-epoch N', N the epoch "
            "of the VM's newest claim",
            path);
        return -EBADMSG;
    }
    *ret_epoch = epoch;
    return 0;
}

/* What stands in the file afterwards decides, whatever came back. */
static int store(const struct export *e, uint64_t epoch, uint64_t *ret_epoch,
                 char why[static EPOCH_WHY_MAX])
{
    char path[PATH_LEN_MAX], text[TEXT_MAX];
    int r, len = snprintf(text, sizeof text, FILE_TEXT, (unsigned long long)epoch);

    *ret_epoch = epoch;
    r = in_place(e->gate, why);
    if (r < 0) {
        return r;
    }
    path_of(e, path, sizeof path);
    r = os_file_replace(path, text, (size_t)len, 0600);
    if (r < 0) {
        char ignored[EPOCH_WHY_MAX];

        if (load(e, ret_epoch, ignored) < 0) {
            *ret_epoch = epoch;
        }
        snprintf(why, EPOCH_WHY_MAX, "%s cannot be written: %s", path, strerror(-r));
        return r;
    }
    *ret_epoch = epoch;
    return in_place(e->gate, why);
}

/* Entering
 * --------------------------------------------------------------------------------- */

static bool is_cut(const struct epoch_pass *p)
{
    const struct export *e = p->export;

    return p->has_epoch ? p->serial != e->newest : e->epoch > 0;
}

static void add_pass(struct export *e, struct epoch_pass *p)
{
    p->next = e->passes;
    e->passes = p;
}

static void remove_pass(struct epoch_pass *p)
{
    struct epoch_pass **at = &p->export->passes;

    while (*at != p) {
        BUG_ON(*at == NULL);
        at = &(*at)->next;
    }
    *at = p->next;
}

/* What nobody has open is looked up in its file again. Under both locks, or with its last
 * connection: nobody else has it. */
static void forget(struct export *e)
{
    struct epoch_gate *g = e->gate;
    struct export **at = &g->exports;

    if (e->passes) {
        return;
    }
    while (*at != e) {
        BUG_ON(*at == NULL);
        at = &(*at)->next;
    }
    *at = e->next;
    free(e);
}

/* With both locks. */
static int find(struct epoch_gate *g, const struct epoch_name *name,
                struct export **ret_export, char why[static EPOCH_WHY_MAX])
{
    struct export *e = g->exports;
    int r;

    while (e && strcmp(e->name.export_name, name->export_name) != 0) {
        e = e->next;
    }
    if (e) {
        *ret_export = e;
        return 0;
    }
    e = calloc(1, sizeof *e);
    if (!e) {
        snprintf(why, EPOCH_WHY_MAX, "export %s: no memory", name->shown);
        return -ENOMEM;
    }
    e->gate = g;
    e->name = *name;
    r = load(e, &e->epoch, why);
    if (r < 0) {
        free(e);
        return r;
    }
    e->next = g->exports;
    g->exports = e;
    *ret_export = e;
    return 0;
}

static int refuse_stale(const struct export *e, const struct epoch_name *name,
                        char why[static EPOCH_WHY_MAX])
{
    if (!name->has_epoch) {
        snprintf(why, EPOCH_WHY_MAX,
                 "export %s: it had epoch %llu; who wants it asks for %s@EPOCH",
                 e->name.shown, (unsigned long long)e->epoch, e->name.shown);
    } else {
        snprintf(why, EPOCH_WHY_MAX,
                 "export %s: epoch %llu is over: a later owner, %llu, was let in (a disk "
                 "that was given to another VM: see storage/README.md)",
                 e->name.shown, (unsigned long long)name->epoch,
                 (unsigned long long)e->epoch);
    }
    return -ESTALE;
}

/* With `files`, not `lock`: requests go on while the file is written. */
static int raise_epoch(struct epoch_gate *g, struct export *e, uint64_t epoch,
                       char why[static EPOCH_WHY_MAX])
{
    uint64_t now;
    int r = store(e, epoch, &now, why);

    pthread_mutex_lock(&g->lock);
    if (now > e->epoch) {
        e->epoch = now;
        e->newest = 0;
    }
    e->durable = r >= 0;
    pthread_mutex_unlock(&g->lock);
    return r;
}

/* The newcomer is the newest from here; those before it are cut off. */
static int take_over(struct epoch_gate *g, const struct epoch_name *name,
                     struct epoch_pass *p, char why[static EPOCH_WHY_MAX])
{
    struct export *e;
    int r;

    pthread_mutex_lock(&g->files);
    pthread_mutex_lock(&g->lock);
    r = find(g, name, &e, why);
    if (r < 0) {
        goto out;
    }
    p->export = e;
    p->has_epoch = name->has_epoch;
    p->only_asks = name->has_epoch && name->epoch == 0;
    if (!p->only_asks && (name->has_epoch ? name->epoch : 0) < e->epoch) {
        r = refuse_stale(e, name, why);
        forget(e);
        goto out;
    }
    add_pass(e, p); /* keeps `e` */
    if (name->epoch > e->epoch || (name->epoch > 0 && !e->durable)) {
        pthread_mutex_unlock(&g->lock);
        r = raise_epoch(g, e, name->epoch, why);
        pthread_mutex_lock(&g->lock);
    }
    if (r < 0) {
        remove_pass(p);
        forget(e);
        goto out;
    }
    p->serial = ++g->serial;
    if (p->has_epoch && !p->only_asks) {
        e->newest = p->serial;
    }
out:
    pthread_mutex_unlock(&g->lock);
    pthread_mutex_unlock(&g->files);
    return r;
}

static uint32_t running_before(const struct epoch_pass *p)
{
    uint32_t count = 0;

    for (const struct epoch_pass *o = p->export->passes; o; o = o->next) {
        count += o != p && is_cut(o) ? o->running : 0;
    }
    return count;
}

static struct timespec after_ms(unsigned ms)
{
    struct timespec t;
    uint64_t ns;

    BUG_ON(clock_gettime(CLOCK_MONOTONIC, &t) != 0);
    ns = (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec + ms * NSEC_PER_MSEC;
    return (struct timespec){.tv_sec = (time_t)(ns / NSEC_PER_SEC),
                             .tv_nsec = (long)(ns % NSEC_PER_SEC)};
}

/* Until what others have under way is finished. */
static int drain(struct epoch_gate *g, struct epoch_pass *p,
                 char why[static EPOCH_WHY_MAX])
{
    struct timespec end = after_ms(g->drain_ms);
    const char *name = p->export->name.shown;
    uint32_t count;
    int r = 0;

    pthread_mutex_lock(&g->lock);
    while ((count = running_before(p)) > 0 && !is_cut(p) && r == 0) {
        r = pthread_cond_timedwait(&g->drained, &g->lock, &end);
    }
    if (is_cut(p)) {
        snprintf(why, EPOCH_WHY_MAX, "export %s: a later connection came meanwhile",
                 name);
        r = -ESTALE;
    } else if (count > 0) {
        snprintf(
            why, EPOCH_WHY_MAX,
            "export %s: %u requests of the owner before are still under way after %u "
            "ms (the storage behind is slow or hangs); nobody is let in until they are "
            "finished; ask again",
            name, count, g->drain_ms);
        r = -ETIMEDOUT;
    } else {
        r = 0;
    }
    pthread_mutex_unlock(&g->lock);
    return r;
}

int epoch_gate_enter(struct epoch_gate *gate, const struct epoch_name *name,
                     struct epoch_pass **ret_pass, char why[static EPOCH_WHY_MAX])
{
    struct epoch_pass *p = calloc(1, sizeof *p);
    int r;

    if (!p) {
        snprintf(why, EPOCH_WHY_MAX, "export %s: no memory", name->shown);
        return -ENOMEM;
    }
    r = take_over(gate, name, p, why);
    if (r < 0) {
        free(p);
        return r;
    }
    if (p->has_epoch && !p->only_asks) {
        r = drain(gate, p, why);
    }
    if (r < 0) {
        epoch_gate_leave(p);
        return r;
    }
    *ret_pass = p;
    return 0;
}

void epoch_gate_leave(struct epoch_pass *pass)
{
    struct export *e = pass->export;
    struct epoch_gate *g = e->gate;

    pthread_mutex_lock(&g->lock);
    BUG_ON(pass->running > 0);
    remove_pass(pass);
    forget(e);
    pthread_mutex_unlock(&g->lock);
    free(pass);
}

bool epoch_gate_begin(struct epoch_pass *pass)
{
    struct epoch_gate *g = pass->export->gate;
    bool ok;

    pthread_mutex_lock(&g->lock);
    ok = !pass->only_asks && !is_cut(pass);
    pass->running += ok;
    pthread_mutex_unlock(&g->lock);
    return ok;
}

void epoch_gate_end(struct epoch_pass *pass)
{
    struct epoch_gate *g = pass->export->gate;

    pthread_mutex_lock(&g->lock);
    BUG_ON(pass->running == 0);
    pass->running--;
    if (pass->running == 0 && is_cut(pass)) {
        pthread_cond_broadcast(&g->drained);
    }
    pthread_mutex_unlock(&g->lock);
}

uint64_t epoch_gate_highest(const struct epoch_pass *pass)
{
    struct epoch_gate *g = pass->export->gate;
    uint64_t epoch;

    pthread_mutex_lock(&g->lock);
    epoch = pass->export->epoch;
    pthread_mutex_unlock(&g->lock);
    return epoch;
}

bool epoch_gate_has_epoch(const struct epoch_pass *pass)
{
    return pass->has_epoch;
}
