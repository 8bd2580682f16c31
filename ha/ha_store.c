/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_store.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/os.h"
#include "base/version.h"

#define STORE_MAGIC       UINT32_C(0x474f4c47) /* "GLOG" */
#define STORE_FRAME_MAGIC UINT32_C(0x43455247) /* "GREC" */
#define STORE_HEADER_LEN  4096
#define STORE_FILE_MAX    (256u * 1024 * 1024)
#define STORE_REWRITE_MIN (4u * 1024 * 1024)

/* A job: bytes to append, or (whole) the new content of the file. */
struct job {
    struct job *next;
    bool whole;
    uint64_t line; /* of versions: a rewrite begins another */
    uint64_t version;
    size_t len;
    uint8_t bytes[];
};

struct ha_store {
    struct loop *loop;
    const struct ha_store_ops *ops;
    void *ctx;
    char path[PATH_LEN_MAX];
    int wake_fd;
    pthread_t worker;
    bool worker_started;
    uint64_t base_len; /* file length after the last rewrite; loop thread */
    uint64_t file_len; /* loop thread's count of what is queued */
    uint64_t line;     /* the last queued; loop thread */
    /* Shared with the worker: */
    pthread_mutex_t lock;
    pthread_cond_t wanted;
    struct job *head, **tail;
    bool closing;
    uint64_t done_line, done_version;
    int error;
    /* Worker only: */
    int fd;
    bool header_dirty; /* written, not yet durable */
    uint64_t end;
};

static void header_put(uint8_t header[STORE_HEADER_LEN], uint64_t durable_len)
{
    struct bytes_wr wr = bytes_wr_make(header, STORE_HEADER_LEN);

    memset(header, 0, STORE_HEADER_LEN);
    bytes_wr_u32(&wr, STORE_MAGIC);
    bytes_wr_u16(&wr, RECORD_LOG_VERSION);
    bytes_wr_u16(&wr, 0);
    bytes_wr_u64(&wr, durable_len);
    bytes_wr_u32(&wr, crc32c(0, header, 16));
}

static bool header_get(const uint8_t *file, size_t len, uint64_t *ret_durable_len,
                       const char **ret_why)
{
    struct bytes_rd rd;
    uint16_t version;

    if (len < STORE_HEADER_LEN) {
        *ret_why = "shorter than its header";
        return false;
    }
    rd = bytes_rd_make(file, STORE_HEADER_LEN);
    if (bytes_rd_u32(&rd) != STORE_MAGIC) {
        *ret_why = "not a record log";
        return false;
    }
    version = bytes_rd_u16(&rd);
    (void)bytes_rd_u16(&rd);
    *ret_durable_len = bytes_rd_u64(&rd);
    if (bytes_rd_u32(&rd) != crc32c(0, file, 16)) {
        *ret_why = "the header's checksum is wrong";
        return false;
    }
    if (version != RECORD_LOG_VERSION) {
        *ret_why = "written by another version";
        return false;
    }
    return true;
}

enum ha_store_found ha_store_parse(const uint8_t *file, size_t len, ha_store_item_fn item,
                                   void *ctx, size_t *ret_good_len, const char **ret_why)
{
    size_t at = STORE_HEADER_LEN;
    uint64_t durable_len;

    if (!header_get(file, len, &durable_len, ret_why)) {
        return HA_STORE_TORN;
    }
    if (durable_len > len) {
        *ret_why = "shorter than what was durable";
        return HA_STORE_TORN;
    }
    while (at < len) {
        struct frame frame;
        enum frame_reason reason =
            frame_check(file + at, len - at, STORE_FRAME_MAGIC, HA_ITEM_MAX, &frame);

        if (reason != FRAME_OK) {
            if (at < durable_len) {
                *ret_why = frame_reason_str(reason);
                return HA_STORE_TORN;
            }
            break; /* an append that never became durable */
        }
        if (item(ctx, (enum ha_item_kind)frame.type, frame.body, frame.body_len,
                 frame.seq) < 0) {
            *ret_why = "an item is not valid";
            return HA_STORE_TORN;
        }
        at += FRAME_HEADER_LEN + frame.body_len;
    }
    *ret_good_len = at;
    *ret_why = "intact";
    return HA_STORE_INTACT;
}

/* Worker
 * ---------------------------------------------------------------------------------------
 */

static int write_at(int fd, const uint8_t *bytes, size_t len, uint64_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, len, (off_t)at);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? -EIO : -errno;
        }
        bytes += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static int make_durable(int fd)
{
#ifdef MUT_AGENT_NO_FSYNC
    (void)fd;
    return 0;
#else
    return fdatasync(fd) < 0 ? -errno : 0;
#endif
}

static int worker_append(struct ha_store *store, const struct job *jobs)
{
    uint8_t header[STORE_HEADER_LEN];
    int r;

    for (const struct job *job = jobs; job != NULL; job = job->next) {
        r = write_at(store->fd, job->bytes, job->len, store->end);
        if (r < 0) {
            return r;
        }
        store->end += job->len;
    }
    r = make_durable(store->fd);
    if (r < 0) {
        return r;
    }
    header_put(header, store->end);
    store->header_dirty = true;
    return write_at(store->fd, header, sizeof header, 0);
}

static int worker_replace(struct ha_store *store, const struct job *job)
{
    int fd, r;

    r = os_file_replace(store->path, job->bytes, job->len, 0600);
    if (r < 0) {
        return r;
    }
    fd = open(store->path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    if (store->fd >= 0) {
        close(store->fd);
    }
    store->fd = fd;
    store->end = job->len;
    store->header_dirty = false; /* the file was replaced whole, header and all */
    return 0;
}

/* A run of appends shares one fdatasync; a replacement stands alone. */
static struct job *take_batch(struct ha_store *store)
{
    struct job *batch = store->head, *last = batch;

    while (!last->whole && last->next != NULL && !last->next->whole) {
        last = last->next;
    }
    store->head = last->next;
    if (store->head == NULL) {
        store->tail = &store->head;
    }
    last->next = NULL;
    return batch;
}

/* Nobody waits for this, but a log that is cut short must show it: so the durable length
 * follows the data as soon as there is a pause. */
static int header_sync(struct ha_store *store)
{
    int r = store->header_dirty ? make_durable(store->fd) : 0;

    store->header_dirty = false;
    return r;
}

static void *worker(void *data)
{
    struct ha_store *store = data;
    uint64_t one = 1;

    pthread_mutex_lock(&store->lock);
    for (;;) {
        struct job *batch, *job;
        uint64_t version = 0, line = 0;
        int r;

        if (store->head == NULL && store->header_dirty && store->error == 0) {
            pthread_mutex_unlock(&store->lock);
            r = header_sync(store);
            pthread_mutex_lock(&store->lock);
            if (r < 0) {
                store->error = r;
                (void)!write(store->wake_fd, &one, sizeof one);
            }
        }
        while (store->head == NULL && !store->closing) {
            pthread_cond_wait(&store->wanted, &store->lock);
        }
        if (store->head == NULL) {
            break;
        }
        batch = take_batch(store);
        /* A failed fsync is never retried into success: only a file that is written anew,
         * whole, ends an error. */
        r = batch->whole ? 0 : store->error;
        pthread_mutex_unlock(&store->lock);
        if (r == 0) {
            r = batch->whole ? worker_replace(store, batch) : worker_append(store, batch);
        }
        while ((job = batch) != NULL) {
            version = job->version;
            line = job->line;
            batch = job->next;
            free(job);
        }
        pthread_mutex_lock(&store->lock);
        store->error = r;
        if (r == 0) {
            store->done_line = line;
            store->done_version = version;
        }
        (void)!write(store->wake_fd, &one, sizeof one);
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

/* Loop thread
 * ------------------------------------------------------------------------------------ */

static int on_wake(int fd, int revents, void *data)
{
    struct ha_store *store = data;
    uint64_t line, version, count;
    int error;

    (void)revents;
    (void)!read(fd, &count, sizeof count);
    pthread_mutex_lock(&store->lock);
    line = store->done_line;
    version = store->done_version;
    error = store->error;
    pthread_mutex_unlock(&store->lock);
    if (error < 0) {
        store->ops->failed(store->ctx, error);
    } else if (line == store->line) {
        /* Of an older line: a state transfer has replaced those items, and its versions
         * may be lower. */
        store->ops->persisted(store->ctx, version);
    }
    return 0;
}

static void enqueue(struct ha_store *store, struct job *job)
{
    job->next = NULL;
    store->line += job->whole;
    job->line = store->line;
    pthread_mutex_lock(&store->lock);
    *store->tail = job;
    store->tail = &job->next;
    pthread_cond_signal(&store->wanted);
    pthread_mutex_unlock(&store->lock);
}

static size_t put_frame(uint8_t *buf, size_t cap, enum ha_item_kind kind,
                        const void *body, size_t len, uint64_t version)
{
    struct frame frame = {.type = (uint16_t)kind,
                          .version = RECORD_LOG_VERSION,
                          .seq = version,
                          .body = body,
                          .body_len = (uint32_t)len};

    return frame_encode(&frame, STORE_FRAME_MAGIC, buf, cap);
}

int ha_store_append(struct ha_store *store, enum ha_item_kind kind, const void *body,
                    size_t len, uint64_t version)
{
    size_t cap = FRAME_HEADER_LEN + len;
    struct job *job = malloc(sizeof *job + cap);

    if (job == NULL) {
        store->line++; /* a gap: nothing is vouched for before the next rewrite */
        return -ENOMEM;
    }
    job->whole = false;
    job->version = version;
    job->len = put_frame(job->bytes, cap, kind, body, len, version);
    store->file_len += job->len;
    enqueue(store, job);
    return 0;
}

int ha_store_rewrite(struct ha_store *store, const struct ha_state *state)
{
    size_t cap = STORE_HEADER_LEN + HA_ITEM_MAX + FRAME_HEADER_LEN,
           len = STORE_HEADER_LEN;
    struct job *job = malloc(sizeof *job + cap);
    uint8_t *body = malloc(HA_ITEM_MAX);
    enum ha_item_kind kind;
    unsigned cursor = 0;
    size_t body_len;
    int r;

    if (job == NULL || body == NULL) {
        r = -ENOMEM;
        goto out;
    }
    while (ha_state_next_item(state, &cursor, &kind, body, HA_ITEM_MAX, &body_len)) {
        if (len + body_len + FRAME_HEADER_LEN > cap) {
            struct job *grown = realloc(job, sizeof *job + cap * 2);

            if (grown == NULL) {
                r = -ENOMEM;
                goto out;
            }
            job = grown;
            cap *= 2;
        }
        len +=
            put_frame(job->bytes + len, cap - len, kind, body, body_len, state->version);
    }
    header_put(job->bytes, len);
    job->whole = true;
    job->version = state->version;
    job->len = len;
    store->base_len = store->file_len = len;
    enqueue(store, job);
    job = NULL;
    r = 0;
out:
    free(job);
    free(body);
    return r;
}

bool ha_store_wants_rewrite(const struct ha_store *store)
{
    return store->file_len > STORE_REWRITE_MIN && store->file_len > 4 * store->base_len;
}

static int open_new(struct ha_store *store)
{
    uint8_t header[STORE_HEADER_LEN];
    int r;

    header_put(header, sizeof header);
    r = os_file_replace(store->path, header, sizeof header, 0600);
    if (r < 0) {
        return r;
    }
    store->fd = open(store->path, O_RDWR | O_CLOEXEC);
    store->end = sizeof header;
    return store->fd < 0 ? -errno : 0;
}

static int load(struct ha_store *store, ha_store_item_fn item,
                enum ha_store_found *ret_found, char *text, size_t cap)
{
    char aside[PATH_LEN_MAX + 8];
    const char *why = "";
    uint8_t *file = NULL;
    size_t len, good_len = 0;
    struct stat st;
    int r;

    if (stat(store->path, &st) < 0) {
        if (errno != ENOENT) {
            return -errno;
        }
        *ret_found = HA_STORE_NEW;
        snprintf(text, cap, "%s: new", store->path);
        return open_new(store);
    }
    if ((uint64_t)st.st_size > STORE_FILE_MAX) {
        return -EFBIG;
    }
    file = malloc((size_t)st.st_size + 1);
    if (file == NULL) {
        return -ENOMEM;
    }
    r = os_file_read(store->path, file, (size_t)st.st_size, &len);
    if (r < 0) {
        goto out;
    }
    *ret_found = ha_store_parse(file, len, item, store->ctx, &good_len, &why);
    if (*ret_found == HA_STORE_TORN) {
        snprintf(aside, sizeof aside, "%s.torn", store->path);
        snprintf(text, cap,
                 "%s: torn (%s); kept as %s; this node waits for the others' state",
                 store->path, why, aside);
        r = rename(store->path, aside) < 0 ? -errno : open_new(store);
        goto out;
    }
    snprintf(text, cap, "%s: intact, %zu bytes", store->path, good_len);
    store->fd = open(store->path, O_RDWR | O_CLOEXEC);
    if (store->fd < 0 || ftruncate(store->fd, (off_t)good_len) < 0) {
        r = -errno;
        goto out;
    }
    store->end = good_len;
    r = 0;
out:
    free(file);
    return r;
}

int ha_store_open(struct loop *loop, const char *path, const struct ha_store_ops *ops,
                  void *ctx, ha_store_item_fn item, enum ha_store_found *ret_found,
                  char *ret_text, size_t text_cap, struct ha_store **ret_store)
{
    struct ha_store *store = calloc(1, sizeof *store);
    int r;

    if (store == NULL) {
        return -ENOMEM;
    }
    store->loop = loop;
    store->ops = ops;
    store->ctx = ctx;
    store->fd = store->wake_fd = -1;
    store->tail = &store->head;
    snprintf(store->path, sizeof store->path, "%s", path);
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->wanted, NULL);
    r = load(store, item, ret_found, ret_text, text_cap);
    if (r < 0) {
        goto out;
    }
    store->base_len = store->file_len = store->end;
    store->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (store->wake_fd < 0) {
        r = -errno;
        goto out;
    }
    r = loop_fd_add(loop, store->wake_fd, POLLIN, on_wake, store);
    if (r < 0) {
        goto out;
    }
    r = -pthread_create(&store->worker, NULL, worker, store);
    if (r < 0) {
        goto out;
    }
    store->worker_started = true;
    *ret_store = store;
    store = NULL;
out:
    ha_store_close(store);
    return r;
}

void ha_store_close(struct ha_store *store)
{
    if (store == NULL) {
        return;
    }
    if (store->worker_started) {
        pthread_mutex_lock(&store->lock);
        store->closing = true;
        pthread_cond_signal(&store->wanted);
        pthread_mutex_unlock(&store->lock);
        pthread_join(store->worker, NULL);
    }
    if (store->wake_fd >= 0) {
        loop_fd_del(store->loop, store->wake_fd);
        close(store->wake_fd);
    }
    if (store->fd >= 0) {
        close(store->fd);
    }
    pthread_cond_destroy(&store->wanted);
    pthread_mutex_destroy(&store->lock);
    free(store);
}
