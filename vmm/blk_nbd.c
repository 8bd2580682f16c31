/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/blk_nbd.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/limits.h"
#include "vmm/blk_kept.h"
#include "vmm/blk_nbd_conn.h"
#include "vmm/blk_request.h"

#define SECTOR_LEN BLK_SECTOR_LEN
#define REPLAY_MS  30000
#define WHY_MAX    200

struct job {
    struct job *next; /* queued or answered */
    struct blk_nbd *blk;
    unsigned disk;
    bool internal; /* a FLUSH of our own */
    struct blk_request request;
    uint8_t *buffer;     /* of a read */
    uint32_t done, part; /* bytes: finished, and in the command under way */
    uint64_t kept_seq;   /* FLUSH: what it covers; a write that waits for one: its own */
    bool replied;        /* `status` is the server's word */
    bool through, fua;   /* a write that is durable when it is answered; by itself */
    bool synced;         /* it was answered, and the FLUSH that it waited for as well */
    uint32_t status;
};

struct job_list {
    struct job *head, *tail;
};

struct disk {
    struct nbd_handle *nbd;            /* NULL: no connection */
    bool taken;                        /* had one once */
    struct blk_nbd_greeting *greeting; /* to ask again, or to wait on; NULL: none */
    bool inheriting;                   /* blk_nbd_inherit's FLUSH is not answered */
    struct job_list after;             /* the guest's, which wait for that */
    struct job_list unsynced;          /* writes that are to be durable first */
    struct blk_nbd_disk_conf conf;
    struct blk_nbd_traits traits;
    struct blk_kept kept;
    bool flush_failed, flush_asked; /* the latter: by ourselves, under way */
    uint32_t events;                /* that epoll waits for */
    char why[WHY_MAX];
};

struct blk_nbd {
    struct disk disk[VM_DISKS_MAX];
    struct job_list queued, answered;
    int epoll_fd;
    _Atomic unsigned in_flight;
    _Atomic bool flush_failed;
};

static void list_add(struct job_list *list, struct job *job)
{
    job->next = NULL;
    if (list->tail) {
        list->tail->next = job;
    } else {
        list->head = job;
    }
    list->tail = job;
}

static struct job *list_take(struct job_list *list)
{
    struct job *job = list->head;

    if (job) {
        list->head = job->next;
        if (!list->head) {
            list->tail = NULL;
        }
    }
    return job;
}

static void answer(struct job *job, uint32_t status)
{
    job->status = status;
    list_add(&job->blk->answered, job);
}

int blk_nbd_open(struct blk_nbd **ret_blk, struct vmm_error *err)
{
    struct blk_nbd *blk;
    int r = nbd_lib_load(err);

    if (r < 0) {
        return r;
    }
    blk = calloc(1, sizeof *blk);
    if (!blk) {
        return vmm_fail(err, -ENOMEM, "no memory for network disks");
    }
    blk->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (blk->epoll_fd < 0) {
        r = vmm_fail(err, -errno, "cannot make an epoll fd: %s", strerror(errno));
        free(blk);
        return r;
    }
    *ret_blk = blk;
    return 0;
}

static void drop_jobs(struct job_list *list)
{
    struct job *job;

    while ((job = list_take(list))) {
        free(job->buffer);
        free(job);
    }
}

void blk_nbd_close(struct blk_nbd *blk)
{
    if (!blk) {
        return;
    }
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (blk->disk[i].nbd) {
            (void)nbd_lib.aio_disconnect(blk->disk[i].nbd, 0);
            nbd_lib.close(blk->disk[i].nbd); /* answers what is under way */
        }
        blk_nbd_greeting_free(blk->disk[i].greeting);
        drop_jobs(&blk->disk[i].after);
        drop_jobs(&blk->disk[i].unsynced);
        blk_kept_free(&blk->disk[i].kept);
    }
    drop_jobs(&blk->queued);
    drop_jobs(&blk->answered);
    close(blk->epoll_fd);
    free(blk);
}

/* Connections
 * ----------------------------------------------------------------------------- */

static void latch(struct blk_nbd *blk, struct disk *d)
{
    d->flush_failed = true;
    atomic_store(&blk->flush_failed, true);
}

/* What waits for a FLUSH that will not come. */
static void unsynced_fail(struct disk *d)
{
    struct job *job;

    while ((job = list_take(&d->unsynced))) {
        answer(job, EIO);
    }
}

/* libnbd closes the socket of a dead handle, and answers what was under way. */
static void lose(struct blk_nbd *blk, struct disk *d, const char *why)
{
    struct nbd_handle *nbd = d->nbd;

    if (!nbd) {
        return;
    }
    snprintf(d->why, sizeof d->why, "connection lost: %s",
             why && *why ? why : "closed by the server");
    d->nbd = NULL;
    d->events = 0;
    d->flush_asked = false;
    nbd_lib.close(nbd);
    unsynced_fail(d);
    if (blk_kept_missing(&d->kept)) {
        latch(blk, d); /* the server answered writes that it may not have any more */
    }
}

static bool is_dead(const struct disk *d)
{
    return nbd_lib.aio_is_dead(d->nbd) > 0 || nbd_lib.aio_is_closed(d->nbd) > 0;
}

/* What the handle waits for, told to epoll. */
static void watch(struct blk_nbd *blk, struct disk *d)
{
    struct epoll_event event = {.data.ptr = d};
    unsigned direction;

    if (!d->nbd) {
        return;
    }
    if (is_dead(d)) {
        lose(blk, d, nbd_lib.get_error());
        return;
    }
    direction = nbd_lib.aio_get_direction(d->nbd);
    event.events = (direction & LIBNBD_AIO_DIRECTION_READ ? EPOLLIN : 0u) |
                   (direction & LIBNBD_AIO_DIRECTION_WRITE ? EPOLLOUT : 0u);
    if (event.events == d->events) {
        return;
    }
    if (epoll_ctl(blk->epoll_fd, d->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
                  nbd_lib.aio_get_fd(d->nbd), &event) < 0) {
        lose(blk, d, strerror(errno));
        return;
    }
    d->events = event.events;
}

struct replay {
    bool done;
    int error;
};

static int on_replayed(void *data, int *error)
{
    struct replay *a = data;

    a->error = *error;
    a->done = true;
    return 1;
}

static int64_t issue(struct nbd_handle *nbd, const struct blk_nbd_traits *t,
                     const struct blk_request *rq, uint8_t *buffer, uint32_t done,
                     bool fua, uint32_t *ret_part, nbd_completion_callback callback)
{
    uint32_t flags = fua ? LIBNBD_CMD_FLAG_FUA : 0;
    uint64_t offset = rq->sector * SECTOR_LEN + done;
    uint32_t len = rq->len - done;

    len = len < t->chunk_len ? len : t->chunk_len;
    *ret_part = len;
    switch (rq->op) {
    case REQUEST_READ:
        return nbd_lib.aio_pread(nbd, buffer + done, len, offset, callback, 0);
    case REQUEST_WRITE:
        return nbd_lib.aio_pwrite(nbd, rq->data + done, len, offset, callback, flags);
    case REQUEST_DISCARD:
        return nbd_lib.aio_trim(nbd, len, offset, callback, 0);
    case REQUEST_WRITE_ZEROES:
        return nbd_lib.aio_zero(nbd, len, offset, callback, flags);
    case REQUEST_FLUSH:
        break;
    }
    return nbd_lib.aio_flush(nbd, callback, 0);
}

/* Writes again what the server may have lost. 0 or -errno. */
static int replay(const struct disk *d, struct nbd_handle *nbd,
                  const struct blk_nbd_traits *t, const struct blk_nbd_stop *stop)
{
    for (const struct blk_kept_write *w = d->kept.head; w; w = w->next) {
        uint32_t done = 0, part;

        if (w->request.op == REQUEST_DISCARD && !t->can_trim) {
            continue; /* advice that this server does not take */
        }

        while (done < w->request.len) {
            struct replay a = {.done = false};
            nbd_completion_callback callback = {.callback = on_replayed, .user_data = &a};
            int r;

            if (issue(nbd, t, &w->request, NULL, done, false, &part, callback) < 0) {
                return -EIO;
            }
            r = blk_nbd_wait(nbd, &a.done, REPLAY_MS, stop);
            if (r < 0 || a.error != 0) {
                return r < 0 ? r : -a.error;
            }
            done += part;
        }
    }
    return 0;
}

int blk_nbd_take(struct blk_nbd *blk, unsigned disk, int fd,
                 const struct blk_nbd_disk_conf *conf, struct vmm_error *err)
{
    const struct blk_nbd_ask ask = {.export_name = conf->export_name,
                                    .name = conf->name,
                                    .read_only = conf->read_only,
                                    .by_epoch = conf->by_epoch,
                                    .epoch = conf->epoch,
                                    .stop = {conf->stop, conf->stop_ctx}};
    struct disk *d = &blk->disk[disk];
    struct blk_nbd_traits traits;
    struct nbd_handle *nbd;
    int r;

    BUG_ON(disk >= VM_DISKS_MAX);
    if (d->nbd && !blk_nbd_outdated(blk, disk, conf->epoch)) {
        close(fd);
        return 0;
    }
    if (fd >= 0) { /* a newer one */
        blk_nbd_greeting_free(d->greeting);
        d->greeting = NULL;
    }
    r = blk_nbd_greet(fd, &ask, &d->greeting, &nbd, &traits, err);
    if (r < 0) {
        return r;
    }
    if (traits.sectors != conf->sectors) {
        r = vmm_fail(err, -ESTALE,
                     "disk %s was resized: %llu sectors, and %llu when this VMM was "
                     "made; start the VM again",
                     conf->name, (unsigned long long)traits.sectors,
                     (unsigned long long)conf->sectors);
        goto out;
    }
    r = replay(d, nbd, &traits, &ask.stop);
    if (r < 0) {
        r = vmm_fail(err, r, "disk %s: cannot write again what was not flushed: %s",
                     conf->name, strerror(-r));
        goto out;
    }
    if (d->nbd) {
        nbd_lib.close(d->nbd); /* of the epoch before: cut off by now */
        d->events = 0;
    }
    d->nbd = nbd;
    d->conf = *conf;
    d->traits = traits;
    d->kept.on = conf->keep;
    d->taken = true;
    d->why[0] = '\0';
    watch(blk, d);
    return 0;
out:
    nbd_lib.close(nbd);
    return r;
}

/* Requests
 * -------------------------------------------------------------------------------- */

static uint32_t check_request(const struct disk *d, const struct blk_request *rq)
{
    return blk_request_check(rq, &(struct blk_request_limits){d->taken, d->conf.read_only,
                                                              d->flush_failed,
                                                              d->conf.sectors});
}

/* What this server does not know: a DISCARD is advice, a FLUSH of a disk that is only
 * read has nothing to do. */
static bool needs_nothing(const struct disk *d, const struct blk_request *rq)
{
    return (rq->op == REQUEST_DISCARD && !d->traits.can_trim) ||
           (rq->op == REQUEST_FLUSH && !d->traits.can_flush);
}

static struct job *new_job(struct blk_nbd *blk, unsigned disk,
                           const struct blk_request *rq)
{
    struct job *job = calloc(1, sizeof *job);

    BUG_ON(!job); /* an answer could not be remembered without it */
    job->blk = blk;
    job->disk = disk;
    job->request = *rq;
    job->through =
        rq->through && (rq->op == REQUEST_WRITE || rq->op == REQUEST_WRITE_ZEROES);
    atomic_fetch_add(&blk->in_flight, 1);
    return job;
}

void blk_nbd_submit(struct blk_nbd *blk, unsigned disk, const struct blk_request *rq)
{
    struct job *job;
    uint32_t status;

    BUG_ON(disk >= VM_DISKS_MAX || rq->op < REQUEST_READ ||
           rq->op > REQUEST_WRITE_ZEROES);
    job = new_job(blk, disk, rq);
    status = check_request(&blk->disk[disk], rq);
    if (status == 0 && rq->op == REQUEST_READ) {
        job->buffer = malloc(rq->len);
        status = job->buffer ? 0 : ENOMEM;
    }
    if (status != 0) {
        answer(job, status);
        return;
    }
    list_add(&blk->queued, job);
}

/* Both are called within calls of libnbd, and only note what it says. The second comes
 * once for each command, whatever became of it: the connection may end first, or the
 * command may not even have been sent. */
static int on_reply(void *data, int *error)
{
    struct job *job = data;

    job->status = *error > 0 ? (uint32_t)*error : 0;
    job->replied = true;
    return 1;
}

static void on_over(void *data)
{
    struct job *job = data;

    answer(job, job->replied ? job->status : EIO);
}

static void send_job(struct blk_nbd *blk, struct job *job)
{
    struct disk *d = &blk->disk[job->disk];
    nbd_completion_callback callback = {
        .callback = on_reply, .free = on_over, .user_data = job};

    if (d->inheriting && job->request.op == REQUEST_FLUSH && !job->internal) {
        list_add(&d->after, job); /* a server may tell of an error once only */
        return;
    }
    if (!d->nbd) {
        answer(job, EIO);
        return;
    }
    if (needs_nothing(d, &job->request)) {
        job->part = job->request.len - job->done;
        answer(job, 0);
        return;
    }
    if (job->request.op == REQUEST_WRITE_ZEROES && !d->traits.can_zero) {
        answer(job, EOPNOTSUPP);
        return;
    }
    job->kept_seq = d->kept.seq;
    job->replied = false;
    if (job->done == 0) {
        /* What is kept would be written over it after a break. */
        job->fua = job->through && d->traits.can_fua && !blk_kept_unflushed(&d->kept);
    }
    (void)issue(d->nbd, &d->traits, &job->request, job->buffer, job->done, job->fua,
                &job->part, callback); /* on_over comes when this fails, too */
}

void blk_nbd_push(struct blk_nbd *blk)
{
    struct job *job;

    while ((job = list_take(&blk->queued))) {
        send_job(blk, job);
    }
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        watch(blk, &blk->disk[i]);
    }
}

bool blk_nbd_unpushed(const struct blk_nbd *blk)
{
    return blk->queued.head || blk->answered.head;
}

static void ask_flush(struct blk_nbd *blk, unsigned disk)
{
    struct job *job = new_job(blk, disk, &(struct blk_request){.op = REQUEST_FLUSH});

    job->internal = true;
    blk->disk[disk].flush_asked = true;
    list_add(&blk->queued, job);
}

void blk_nbd_inherit(struct blk_nbd *blk, unsigned disk)
{
    struct disk *d = &blk->disk[disk];

    if (d->conf.read_only) {
        return;
    }
    blk_kept_inherit(&d->kept);
    if (!d->nbd) {
        latch(blk, d); /* broken since it was taken */
    } else if (!d->inheriting) {
        d->inheriting = true;
        ask_flush(blk, disk);
    }
}

void blk_nbd_sync(struct blk_nbd *blk)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        const struct disk *d = &blk->disk[i];

        if (d->nbd && !d->flush_asked && !d->flush_failed && d->traits.can_flush &&
            blk_kept_unflushed(&d->kept)) {
            ask_flush(blk, i);
        }
    }
}

void blk_nbd_latch(struct blk_nbd *blk, unsigned disk)
{
    latch(blk, &blk->disk[disk]);
}

bool blk_nbd_latched(const struct blk_nbd *blk, unsigned disk)
{
    return blk->disk[disk].flush_failed;
}

bool blk_nbd_may_flush_again(const struct blk_nbd *blk, unsigned disk)
{
    const struct disk *d = &blk->disk[disk];

    return d->taken && !d->nbd && d->kept.on && !d->flush_failed;
}

/* Writes that a FLUSH made durable, and the next FLUSH if some wait still. */
static void unsynced_go_on(struct blk_nbd *blk, unsigned disk)
{
    struct disk *d = &blk->disk[disk];

    while (d->unsynced.head && d->unsynced.head->kept_seq <= d->kept.flushed_seq) {
        struct job *job = list_take(&d->unsynced);

        job->synced = true;
        answer(job, 0);
    }
    if (d->flush_failed) {
        unsynced_fail(d);
    } else if (d->unsynced.head && d->nbd && !d->flush_asked) {
        ask_flush(blk, disk);
    }
}

static void go_on_after(struct blk_nbd *blk, struct disk *d)
{
    struct job *job;

    d->inheriting = false;
    while ((job = list_take(&d->after))) {
        if (d->flush_failed) {
            answer(job, EIO);
        } else {
            list_add(&blk->queued, job);
        }
    }
}

/* A FLUSH that an error ended has failed; one that the connection ended has not, if
 * everything that it was to cover can be written again. */
static void flush_done(struct blk_nbd *blk, struct disk *d, const struct job *job,
                       uint32_t status)
{
    unsigned disk = job->disk;

    if (status == 0) {
        blk_kept_flushed(&d->kept, job->kept_seq);
    } else if (!blk_nbd_may_flush_again(blk, disk)) {
        latch(blk, d);
    }
    if (job->internal) {
        d->flush_asked = false;
        go_on_after(blk, d);
    }
    unsynced_go_on(blk, disk);
}

/* It is answered when a FLUSH that is sent from now on is. */
static void sync_first(struct blk_nbd *blk, struct job *job)
{
    struct disk *d = &blk->disk[job->disk];

    job->kept_seq = blk_kept_pass(&d->kept);
    job->part = 0;
    list_add(&d->unsynced, job);
    if (!d->flush_asked) {
        ask_flush(blk, job->disk);
    }
}

static void keep(struct blk_nbd *blk, const struct job *job)
{
    struct disk *d = &blk->disk[job->disk];

    blk_kept_add(&d->kept, &job->request);
    if (d->nbd && d->kept.bytes > BLK_KEPT_FLUSH && !d->flush_asked) {
        ask_flush(blk, job->disk);
    }
}

static void finish(struct blk_nbd *blk, struct job *job, blk_done_fn done, void *ctx)
{
    struct disk *d = &blk->disk[job->disk];
    const struct blk_request *rq = &job->request;
    bool durable = job->fua || job->synced, read_ok;
    uint32_t status;

    if (job->status == ESHUTDOWN && d->conf.by_epoch) {
        lose(blk, d, "cut off by its server: a later owner was let in, or it shuts down");
    }
    status = job->status != 0 && !d->nbd && d->taken ? EIO : job->status;
    if (status == 0 && job->through && !durable && !d->nbd) {
        status = EIO; /* there was no time for its FLUSH */
    }
    read_ok = status == 0 && rq->op == REQUEST_READ;

    if (rq->op == REQUEST_FLUSH) {
        flush_done(blk, d, job, status);
    } else if (status == 0 && rq->op != REQUEST_READ && !durable &&
               !needs_nothing(d, rq)) {
        if (job->through) {
            sync_first(blk, job);
            return;
        }
        keep(blk, job);
    }
    atomic_fetch_sub(&blk->in_flight, 1);
    if (!job->internal) {
        done(ctx, job->disk, rq, status, read_ok ? job->buffer : NULL,
             read_ok ? rq->len : 0);
    }
    free(job->buffer);
    free(job);
}

/* Another part of the same request is to be sent. */
static bool goes_on(struct job *job)
{
    if (job->status != 0 || job->request.op == REQUEST_FLUSH) {
        return false;
    }
    job->done += job->part;
    return job->done < job->request.len;
}

/* Tells libnbd what its socket is ready for; once, as it may want something else then. */
static void notify(struct blk_nbd *blk, struct disk *d, short ready)
{
    unsigned direction = nbd_lib.aio_get_direction(d->nbd);
    int r = 0;

    if ((ready & (POLLIN | POLLHUP | POLLERR)) &&
        (direction & LIBNBD_AIO_DIRECTION_READ)) {
        r = nbd_lib.aio_notify_read(d->nbd);
    } else if ((ready & (POLLOUT | POLLHUP | POLLERR)) &&
               (direction & LIBNBD_AIO_DIRECTION_WRITE)) {
        r = nbd_lib.aio_notify_write(d->nbd);
    }
    if (r < 0) {
        lose(blk, d, nbd_lib.get_error());
    }
    watch(blk, d);
}

static void look_at_sockets(struct blk_nbd *blk)
{
    struct pollfd fds[VM_DISKS_MAX];
    unsigned of[VM_DISKS_MAX], count = 0;

    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        const struct disk *d = &blk->disk[i];

        if (d->nbd) {
            fds[count] =
                (struct pollfd){.fd = nbd_lib.aio_get_fd(d->nbd),
                                .events = (short)((d->events & EPOLLIN ? POLLIN : 0) |
                                                  (d->events & EPOLLOUT ? POLLOUT : 0))};
            of[count++] = i;
        }
    }
    if (count == 0 || poll(fds, count, 0) <= 0) {
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        if (fds[i].revents) {
            notify(blk, &blk->disk[of[i]], fds[i].revents);
        }
    }
}

unsigned blk_nbd_reap(struct blk_nbd *blk, blk_done_fn done, void *ctx)
{
    struct job_list answered;
    struct job *job;
    unsigned count = 0;

    look_at_sockets(blk);
    answered = blk->answered; /* what `done` leads to comes next time */
    blk->answered = (struct job_list){NULL, NULL};
    while ((job = list_take(&answered))) {
        if (goes_on(job)) {
            list_add(&blk->queued, job);
            continue;
        }
        finish(blk, job, done, ctx);
        count++;
    }
    return count;
}

bool blk_nbd_reapable(const struct blk_nbd *blk)
{
    return blk->answered.head != NULL;
}

unsigned blk_nbd_in_flight(const struct blk_nbd *blk)
{
    return atomic_load(&blk->in_flight);
}

bool blk_nbd_flush_failed(const struct blk_nbd *blk)
{
    return atomic_load(&blk->flush_failed);
}

int blk_nbd_poll_fd(const struct blk_nbd *blk)
{
    return blk->epoll_fd;
}

const char *blk_nbd_lost(const struct blk_nbd *blk, unsigned disk)
{
    const struct disk *d = &blk->disk[disk];

    return d->taken && !d->nbd ? d->why : NULL;
}

bool blk_nbd_asks_again(const struct blk_nbd *blk, unsigned disk)
{
    return blk->disk[disk].greeting != NULL;
}

bool blk_nbd_outdated(const struct blk_nbd *blk, unsigned disk, uint64_t epoch)
{
    const struct disk *d = &blk->disk[disk];

    return d->nbd && d->conf.by_epoch && d->conf.epoch < epoch;
}
