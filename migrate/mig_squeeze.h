/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the pages of one data stream are worth compressing, decided from what its
 * sender saw of its link and of the compressor. Only a sender that waits for its link has
 * the time to compress; a link that carries more than MIG_SQUEEZE_BPS_MAX a stream is
 * faster than the compressor. So: watch a window; if the link is slow and most of the
 * window was waiting, try it for a window; compress from then on if that sends more pages
 * in the same time. Look again now and then when nothing is waited for any more (the link
 * may be faster than it was), and give up where pages do not shrink. Pure. Owned by the
 * stream's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MIG_SQUEEZE_BPS_MAX (UINT64_C(192) << 20)

struct mig_squeeze {
    bool on;
    bool trial; /* this window is compressed to see what that does */
    uint64_t window_ns, busy_ns, wire_bytes; /* of the window: began, in sending, sent */
    uint64_t raw_in, packed_out, pack_ns;    /* of the window: the compressor's */
    uint64_t link_bps;                       /* seen last while the link was waited for */
    uint64_t retry_ns, pause_ns; /* no trial before; doubles while trials fail */
    uint64_t look_ns;            /* when it may go without again, to see the link */
};

void mig_squeeze_init(struct mig_squeeze *s, uint64_t now_ns);
/* Is the frame that goes out now to be compressed? */
bool mig_squeeze_wants(const struct mig_squeeze *s);
/* The compressor made `packed` bytes of `raw` in `ns`; packed >= raw: no use. */
void mig_squeeze_packed(struct mig_squeeze *s, uint64_t raw, uint64_t packed,
                        uint64_t ns);
/* A frame of `wire` bytes went out, and that took `ns` (waiting for the link, or for a
 * cap, is most of it when the link is slow). Decides at the end of a window. */
void mig_squeeze_sent(struct mig_squeeze *s, uint64_t now_ns, uint64_t wire, uint64_t ns);
