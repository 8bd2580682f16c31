/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng (VIRTIO 1.2, 5.4). Entropy is an input like any other: the device asks for
 * it (effects.entropy_wanted) while the driver's queue has buffers, and INPUT_ENTROPY
 * fills one buffer. Nothing is kept between the two, so entropy that comes late, twice or
 * after a reset does no harm.
 */
#pragma once

#include "vmm/dev_virtio.h"

#define VRNG_QUEUE_SIZE 64
#define VRNG_SAVED_MAX  1024

struct vrng {
    struct virtio virtio; /* first: dev_virtio.h */
};

extern const struct dev_class dev_vrng_class;

void vrng_init(struct vrng *rng);
