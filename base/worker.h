/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocking work (fsync, link on a hard mount) off the loop thread: a fixed number of
 * threads, results handed back through an eventfd, so that `done` runs on the loop
 * thread. Jobs of one key run one after the other, in order.
 */
#pragma once

#include <stdint.h>

#include "base/loop.h"

struct worker;

typedef void (*worker_fn)(void *data);

int worker_new(struct loop *loop, unsigned threads, struct worker **ret_worker);
/* While all of its threads are busy it makes another one for a job of a key that nobody
 * works on, up to this many (64 at most): so jobs that hang, of some keys, hold up no
 * others. */
void worker_may_grow(struct worker *worker, unsigned threads);
/* Waits for what runs; jobs not begun are dropped without `done`. */
void worker_free(struct worker *worker);
/* `work` runs on a thread, then `done` on the loop thread. key 0: no order. 0 or -ENOMEM.
 */
int worker_submit(struct worker *worker, uint64_t key, worker_fn work, worker_fn done,
                  void *data);
