/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/bug.h"

#define STACK_BYTES (256 * 1024)

struct pool_thread {
    struct mig_pool *pool;
    unsigned index;
    pthread_t thread;
    mig_job_fn fn; /* NULL: none */
    void *data;
};

struct mig_pool {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    void (*prepare)(void);
    bool closing;
    unsigned count;
    struct pool_thread thread[MIG_POOL_MAX];
};

static void *pool_main(void *data)
{
    struct pool_thread *t = data;
    struct mig_pool *pool = t->pool;
    char name[16];

    snprintf(name, sizeof name, "move%u", t->index);
    (void)prctl(PR_SET_NAME, name);
    if (pool->prepare != NULL) {
        pool->prepare();
    }
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (t->fn == NULL && !pool->closing) {
            pthread_cond_wait(&pool->cond, &pool->lock);
        }
        if (t->fn == NULL) {
            break;
        }
        pthread_mutex_unlock(&pool->lock);
        t->fn(t->data);
        pthread_mutex_lock(&pool->lock);
        t->fn = NULL;
        pthread_cond_broadcast(&pool->cond);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int mig_pool_new(unsigned count, void (*prepare)(void), struct mig_pool **ret_pool,
                 struct vmm_error *err)
{
    struct mig_pool *pool = calloc(1, sizeof *pool);
    pthread_attr_t attr;
    sigset_t all, before;
    int r = 0;

    BUG_ON(count > MIG_POOL_MAX);
    if (pool == NULL) {
        return vmm_fail(err, -ENOMEM, "no memory for the threads of a migration");
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->cond, NULL);
    pool->prepare = prepare;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the loop thread */
    for (unsigned i = 0; r == 0 && i < count; i++) {
        pool->thread[i].pool = pool;
        pool->thread[i].index = i;
        r = pthread_create(&pool->thread[i].thread, &attr, pool_main, &pool->thread[i]);
        pool->count += r == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (r != 0) {
        mig_pool_free(pool);
        return vmm_fail(err, -r, "cannot make the threads of a migration: %s",
                        strerror(r));
    }
    *ret_pool = pool;
    return 0;
}

void mig_pool_free(struct mig_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->cond);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->count; i++) {
        pthread_join(pool->thread[i].thread, NULL);
    }
    pthread_cond_destroy(&pool->cond);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void mig_pool_run(struct mig_pool *pool, unsigned index, mig_job_fn fn, void *data)
{
    struct pool_thread *t = &pool->thread[index];

    pthread_mutex_lock(&pool->lock);
    BUG_ON(index >= pool->count || t->fn != NULL);
    t->data = data;
    t->fn = fn;
    pthread_cond_broadcast(&pool->cond);
    pthread_mutex_unlock(&pool->lock);
}

void mig_pool_wait(struct mig_pool *pool, unsigned index)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->thread[index].fn != NULL) {
        pthread_cond_wait(&pool->cond, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
}
