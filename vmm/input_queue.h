/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the loop thread has for the guest (network frames, console input, power button,
 * link): bounded, handed to the vCPU thread, which alone applies it (design 4.2). Any
 * thread may push; the vCPU thread pops.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/dev.h"

#define INPUT_QUEUE_MAX       512
#define INPUT_QUEUE_BYTES_MAX (1024 * 1024)

struct queued_input {
    unsigned dev_index;
    struct dev_input in; /* in.data points into bytes */
    uint8_t bytes[];
};

struct input_queue {
    pthread_mutex_t lock;
    struct queued_input *slot[INPUT_QUEUE_MAX];
    unsigned head, count;
    size_t bytes;
    uint64_t dropped;
};

void input_queue_init(struct input_queue *q);
void input_queue_free(struct input_queue *q);
/* Copies the input and its data. 0, -ENOSPC (full: dropped and counted), -ENOMEM. */
int input_queue_push(struct input_queue *q, unsigned dev_index,
                     const struct dev_input *in);
/* The oldest, for the caller to free(); NULL when there is none. */
struct queued_input *input_queue_pop(struct input_queue *q);
bool input_queue_empty(struct input_queue *q);
