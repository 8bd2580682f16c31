/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoint mode of a session (ft_epoch_pri.c, ft_epoch_sec.c); part of
 * ft_session_priv.h. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ft/ft_ahead.h"
#include "ft/ft_stage.h"

/* Lengths of an epoch: at least, while something waits to leave; at most, else
 * (ft_params.barrier_ms; its default). One that costs more than a quarter of the time
 * gets longer. */
#define FT_EPOCH_MIN_MS 5
#define FT_EPOCH_MAX_MS 50
#define FT_EPOCH_CAP_MS 500
/* Places for the pages of an epoch, at least: 8 MiB. */
#define FT_EPOCH_ROOM 2048u

/* Bytes that grow. */
struct ft_grow {
    uint8_t *at;
    size_t len, cap;
};

/* What an epoch was, from the moment in which the guest stood still until it is sent.
 * Before that moment its pages are the sender's until the epoch is `due`. */
struct ft_staged {
    struct ft_stage pages;
    struct ft_grow state;
    struct ft_grow writes; /* of disks: struct ft_write and its bytes, in order */
    uint64_t number, outputs;
    bool ready; /* the sender's; else the engine's */
    bool ends;  /* the guest is off: the last one */
};

struct ft_write {
    uint64_t sector;
    uint32_t disk, op, len, pad;
};

/* Primary. */
struct ft_epoch {
    struct ft_staged staged;
    struct ft_grow writes; /* of the epoch that runs */
    uint64_t made, left;   /* ordinals of outputs */
    uint64_t last;         /* number of the one after which the guest stands; 0: none */
    uint64_t acked;        /* number of the newest checkpoint that is at the twin */
    uint64_t shared;       /* in which a shared disk was written to last */
    uint64_t released;     /* what was written to shared disks up to there may leave */
    uint64_t taken_ns, sent_ns, length_ms;
    uint64_t dropped;                         /* outputs: more than could be held */
    uint64_t pause_ns, stop_to_ack_ns, pages; /* of the newest one */
    uint64_t stood; /* its pages that were copied while the guest stood */
    struct ft_ahead ahead;
    bool copying; /* a pass is under way */
    _Atomic bool due, trouble;
    _Atomic bool full; /* `writes` has what is kept at most: the guest stands */
    uint8_t *frame;    /* FT_LOG_HEAD_LEN + FT_LOG_BODY_MAX */
};
