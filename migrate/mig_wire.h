/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What travels: frames of base/frame with this magic. Stream 0 is control, both ways;
 * streams 1..N carry RAM and ROUND_END from source to destination. A control frame's type
 * is MIG_FRAME_CONTROL + its kind. `seq` counts per stream and direction from 1. Numbers
 * are never reused. Anyone in migrate/ may include this.
 */
#pragma once

#include <stdint.h>

#define MIG_VERSION     1
#define MIG_VERSION_MIN 1

enum mig_frame {
    /* 1..15: the channel's own (migrate/mig_conn) */
    MIG_FRAME_RAM = 16,       /* migrate/mig_ram */
    MIG_FRAME_ROUND_END = 17, /* migrate/mig_ram */
    MIG_FRAME_STATE = 18,     /* control: a whole vmm/state_stream without RAM frames */
    MIG_FRAME_MISSING = 19,   /* control: migrate/mig_holes */
    MIG_FRAME_DISK = 20,      /* migrate/mig_disk */
    MIG_FRAME_CONTROL = 32,   /* + enum mig_kind: migrate/mig_msg */
};

/* Pages and their numbering are vmm/state_stream's: through RAM as the VMM maps it, low
 * part first. */
#define MIG_PAGE_SHIFT  12
#define MIG_PAGE        (UINT64_C(1) << MIG_PAGE_SHIFT)
#define MIG_BLOCK_SHIFT 9 /* pages per block: 2 MiB */
#define MIG_BLOCK_PAGES (UINT64_C(1) << MIG_BLOCK_SHIFT)
#define MIG_BLOCK_MANY  128u /* of them: worth a frame, and a huge page, of their own */
#define MIG_BLOCK_BYTES (MIG_BLOCK_PAGES * MIG_PAGE)

#define MIG_STREAMS_MAX 16                /* data streams */
#define MIG_CONTROL_MAX (64 * 1024)       /* body of a control message */
#define MIG_STATE_MAX   (4 * 1024 * 1024) /* body of STATE */
/* Post-copy: how long the guest may stand still for pages that do not come. */
#define MIG_HOLES_SILENCE_MS 10000
#define MIG_HANDSHAKE_MS     5000
