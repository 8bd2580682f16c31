/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/input_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void input_queue_init(struct input_queue *q)
{
    memset(q, 0, sizeof *q);
    pthread_mutex_init(&q->lock, NULL);
}

void input_queue_free(struct input_queue *q)
{
    struct queued_input *item;

    while ((item = input_queue_pop(q))) {
        free(item);
    }
    pthread_mutex_destroy(&q->lock);
}

int input_queue_push(struct input_queue *q, unsigned dev_index,
                     const struct dev_input *in)
{
    struct queued_input *item = malloc(sizeof *item + in->len);
    int r = 0;

    if (!item) {
        return -ENOMEM;
    }
    item->dev_index = dev_index;
    item->in = *in;
    item->in.data = item->bytes;
    if (in->len > 0) {
        memcpy(item->bytes, in->data, in->len);
    }
    pthread_mutex_lock(&q->lock);
    if (q->count == INPUT_QUEUE_MAX || q->bytes + in->len > INPUT_QUEUE_BYTES_MAX) {
        q->dropped++;
        r = -ENOSPC;
    } else {
        q->slot[(q->head + q->count) % INPUT_QUEUE_MAX] = item;
        q->count++;
        q->bytes += in->len;
        item = NULL;
    }
    pthread_mutex_unlock(&q->lock);
    free(item);
    return r;
}

struct queued_input *input_queue_pop(struct input_queue *q)
{
    struct queued_input *item = NULL;

    pthread_mutex_lock(&q->lock);
    if (q->count > 0) {
        item = q->slot[q->head];
        q->head = (q->head + 1) % INPUT_QUEUE_MAX;
        q->count--;
        q->bytes -= item->in.len;
    }
    pthread_mutex_unlock(&q->lock);
    return item;
}

bool input_queue_empty(struct input_queue *q)
{
    bool empty;

    pthread_mutex_lock(&q->lock);
    empty = q->count == 0;
    pthread_mutex_unlock(&q->lock);
    return empty;
}
