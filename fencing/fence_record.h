/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What gemel-fenced remembers of one OFF or ON request: the intent, made durable before
 * anything is run, and its result. Pure codec (one frame of base/frame.h); the files are
 * fencing/fence_store's.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/units.h"
#include "fencing/fence_req.h"

#define FENCE_RECORD_LEN_MAX 1024

struct fence_record {
    struct uuid uid;
    enum fence_action action;
    char node[NODE_NAME_MAX + 1];
    struct uuid boot_id; /* incarnation that is to be fenced */
    uint64_t join_counter;
    uint32_t timeout_ms;
    enum fence_result result; /* PENDING: in flight when it was written */
    char device[NODE_NAME_MAX + 1];
    char detail[REASON_LEN_MAX + 1];
    uint32_t elapsed_ms;
    uint32_t attempts;
    uint64_t order; /* grows with every request: which one is older */
};

/* Length, 0 if it does not fit (FENCE_RECORD_LEN_MAX always does). */
size_t fence_record_encode(const struct fence_record *record, void *buf, size_t cap);
/* 0, or -EBADMSG for anything that encode did not write. */
int fence_record_decode(const void *buf, size_t len, struct fence_record *ret_record);
