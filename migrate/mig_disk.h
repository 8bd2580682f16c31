/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A DISK frame: one run of a mirrored disk, on data stream `disk % streams`, so that what
 * a disk gets keeps its order. Little endian:
 *
 *   u16 disk  u16 kind (1 RAW, 2 ZERO)  u32 round  u64 offset  u64 length
 *
 * then the bytes of a RAW run, MIG_DISK_RAW_MAX at most. Bytes count from the disk's
 * begin. A run begins and ends at a granule (vmm/disk_marks.h), or ends with the disk.
 * ZERO may be of any length: what it covers reads as zeros. Pure.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "vmm/disk_marks.h"

#define MIG_DISK_HEAD_LEN 24u
#define MIG_DISK_RAW_MAX  (1u << 20)

enum mig_disk_kind { MIG_DISK_RAW = 1, MIG_DISK_ZERO = 2 };

struct mig_disk_run {
    unsigned disk;
    enum mig_disk_kind kind;
    uint32_t round;
    uint64_t offset, len; /* bytes */
};

enum mig_disk_reason {
    MIG_DISK_OK = 0,
    MIG_DISK_BAD_LENGTH, /* the body is not what the run says */
    MIG_DISK_BAD_KIND,
    MIG_DISK_NO_DISK,    /* there is none of this number, or it is not mirrored */
    MIG_DISK_BAD_STREAM, /* it does not travel on this one */
    MIG_DISK_BAD_ROUND,  /* 0 */
    MIG_DISK_BAD_RUN,    /* empty, behind the end, not of whole granules, too long */
};

/* What may come on one stream. */
struct mig_disk_conf {
    unsigned stream, n_streams;
    uint64_t bytes[VM_DISKS_MAX]; /* of a disk; 0: it is not mirrored */
};

void mig_disk_encode(const struct mig_disk_run *run,
                     uint8_t head[static MIG_DISK_HEAD_LEN]);
/* Of a hostile head, and the length of the whole body. *ret_run only with MIG_DISK_OK. */
enum mig_disk_reason mig_disk_decode(const struct mig_disk_conf *conf,
                                     const uint8_t head[static MIG_DISK_HEAD_LEN],
                                     uint32_t body_len, struct mig_disk_run *ret_run);
const char *mig_disk_reason_str(enum mig_disk_reason reason);
