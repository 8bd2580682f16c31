/* SPDX-License-Identifier: Apache-2.0 */
#include "base/worker.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WORKER_THREADS_MAX 64

struct worker_job {
    struct worker_job *next;
    uint64_t key;
    worker_fn work, done;
    void *data;
};

struct worker {
    struct loop *loop;
    int wake_fd;
    unsigned thread_count, thread_max;
    pthread_t thread[WORKER_THREADS_MAX];
    pthread_mutex_t lock;
    pthread_cond_t wanted;
    struct worker_job *head, **tail;           /* to do, in order */
    struct worker_job *done_head, **done_tail; /* for the loop thread */
    uint64_t busy_key[WORKER_THREADS_MAX];     /* keys being worked on; 0: none */
    unsigned running;                          /* threads that work */
    bool closing;
};

struct thread_arg {
    struct worker *worker;
    unsigned index;
};

static bool key_is_busy(const struct worker *w, uint64_t key)
{
    for (unsigned i = 0; key != 0 && i < w->thread_count; i++) {
        if (w->busy_key[i] == key) {
            return true;
        }
    }
    return false;
}

/* The first job whose key nobody works on. Called with the lock held. */
static struct worker_job *take(struct worker *w)
{
    for (struct worker_job **at = &w->head; *at != NULL; at = &(*at)->next) {
        struct worker_job *job = *at;

        if (!key_is_busy(w, job->key)) {
            *at = job->next;
            if (w->tail == &job->next) {
                w->tail = at;
            }
            return job;
        }
    }
    return NULL;
}

static void *thread_main(void *data)
{
    struct thread_arg arg = *(struct thread_arg *)data;
    struct worker *w = arg.worker;
    uint64_t one = 1;

    free(data);
    pthread_mutex_lock(&w->lock);
    for (;;) {
        struct worker_job *job = NULL;

        while (!w->closing && (job = take(w)) == NULL) {
            pthread_cond_wait(&w->wanted, &w->lock);
        }
        if (w->closing) {
            break;
        }
        w->busy_key[arg.index] = job->key;
        w->running++;
        pthread_mutex_unlock(&w->lock);
        job->work(job->data);
        pthread_mutex_lock(&w->lock);
        w->busy_key[arg.index] = 0;
        w->running--;
        job->next = NULL;
        *w->done_tail = job;
        w->done_tail = &job->next;
        pthread_cond_broadcast(&w->wanted); /* a job of this key may wait */
        (void)!write(w->wake_fd, &one, sizeof one);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static int on_wake(int fd, int revents, void *data)
{
    struct worker *w = data;
    struct worker_job *job;
    uint64_t count;

    (void)revents;
    (void)!read(fd, &count, sizeof count);
    pthread_mutex_lock(&w->lock);
    job = w->done_head;
    w->done_head = NULL;
    w->done_tail = &w->done_head;
    pthread_mutex_unlock(&w->lock);
    while (job != NULL) {
        struct worker_job *next = job->next;

        job->done(job->data);
        free(job);
        job = next;
    }
    return 0;
}

static int start_threads(struct worker *w, unsigned threads);

/* No thread is left for the last job: each one works, or is about to. Called with the
 * lock held. */
static bool all_are_busy(const struct worker *w)
{
    unsigned wanted = w->running;

    for (const struct worker_job *job = w->head; job != NULL; job = job->next) {
        wanted += !key_is_busy(w, job->key);
    }
    return wanted > w->thread_count;
}

int worker_submit(struct worker *w, uint64_t key, worker_fn work, worker_fn done,
                  void *data)
{
    struct worker_job *job = malloc(sizeof *job);
    bool more;

    if (job == NULL) {
        return -ENOMEM;
    }
    *job = (struct worker_job){.key = key, .work = work, .done = done, .data = data};
    pthread_mutex_lock(&w->lock);
    *w->tail = job;
    w->tail = &job->next;
    more = all_are_busy(w) && w->thread_count < w->thread_max && !key_is_busy(w, key);
    pthread_cond_broadcast(&w->wanted);
    pthread_mutex_unlock(&w->lock);
    if (more) {
        (void)start_threads(w, w->thread_count + 1); /* without it, it waits */
    }
    return 0;
}

void worker_may_grow(struct worker *w, unsigned threads)
{
    w->thread_max = threads < WORKER_THREADS_MAX ? threads : WORKER_THREADS_MAX;
}

static int start_threads(struct worker *w, unsigned threads)
{
    while (w->thread_count < threads && w->thread_count < WORKER_THREADS_MAX) {
        struct thread_arg *arg = malloc(sizeof *arg);
        int r;

        if (arg == NULL) {
            return -ENOMEM;
        }
        /* Before it begins: its key counts from its first job on. */
        pthread_mutex_lock(&w->lock);
        *arg = (struct thread_arg){w, w->thread_count++};
        pthread_mutex_unlock(&w->lock);
        r = pthread_create(&w->thread[arg->index], NULL, thread_main, arg);
        if (r != 0) {
            pthread_mutex_lock(&w->lock);
            w->thread_count--;
            pthread_mutex_unlock(&w->lock);
            free(arg);
            return -r;
        }
    }
    return 0;
}

int worker_new(struct loop *loop, unsigned threads, struct worker **ret_worker)
{
    struct worker *w = calloc(1, sizeof *w);
    int r;

    if (w == NULL) {
        return -ENOMEM;
    }
    w->loop = loop;
    w->tail = &w->head;
    w->done_tail = &w->done_head;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wanted, NULL);
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->wake_fd < 0) {
        r = -errno;
        goto out;
    }
    r = loop_fd_add(loop, w->wake_fd, POLLIN, on_wake, w);
    if (r < 0) {
        goto out;
    }
    r = start_threads(w, threads);
    if (r < 0) {
        goto out;
    }
    *ret_worker = w;
    w = NULL;
out:
    worker_free(w);
    return r;
}

static void drop(struct worker_job *job)
{
    while (job != NULL) {
        struct worker_job *next = job->next;

        free(job);
        job = next;
    }
}

void worker_free(struct worker *w)
{
    if (w == NULL) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_cond_broadcast(&w->wanted);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->thread_count; i++) {
        pthread_join(w->thread[i], NULL);
    }
    if (w->wake_fd >= 0) {
        loop_fd_del(w->loop, w->wake_fd);
        close(w->wake_fd);
    }
    drop(w->head);
    drop(w->done_head);
    pthread_cond_destroy(&w->wanted);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
