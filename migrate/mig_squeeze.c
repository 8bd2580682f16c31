/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_squeeze.h"

#include "base/units.h"

#define WINDOW_NS    (100 * NSEC_PER_MSEC)
#define BUSY_PERCENT 70u /* of a window, sending: the link is what it waits for */
#define IDLE_PERCENT 10u
#define GAIN_PERCENT 115u /* less than that is not worth the processor */
#define LOOK_NS      (4 * NSEC_PER_SEC)
#define PAUSE_MIN_NS (500 * NSEC_PER_MSEC)
#define PAUSE_MAX_NS (4 * NSEC_PER_SEC)

void mig_squeeze_init(struct mig_squeeze *s, uint64_t now_ns)
{
    *s = (struct mig_squeeze){.window_ns = now_ns, .pause_ns = PAUSE_MIN_NS};
}

bool mig_squeeze_wants(const struct mig_squeeze *s)
{
    return s->on || s->trial;
}

void mig_squeeze_packed(struct mig_squeeze *s, uint64_t raw, uint64_t packed, uint64_t ns)
{
    s->raw_in += raw;
    s->packed_out += packed < raw ? packed : raw;
    s->pack_ns += ns;
}

/* bytes * NSEC_PER_SEC / ns, for frames and windows: no overflow below 18 GB. */
static uint64_t per_second(uint64_t bytes, uint64_t ns)
{
    return ns == 0 ? UINT64_MAX : bytes * NSEC_PER_SEC / ns;
}

/* Page bytes per second if all went through the compressor: what the link carries of them
 * when they are small, or what the compressor makes; they overlap, for the socket has a
 * buffer. */
static uint64_t packed_bps(const struct mig_squeeze *s)
{
    uint64_t pack = per_second(s->raw_in, s->pack_ns);
    uint64_t out = s->packed_out == 0 ? 1 : s->packed_out;
    uint64_t link = s->link_bps / 1024 * (s->raw_in * 1024 / out);

    return pack < link ? pack : link;
}

static void give_up(struct mig_squeeze *s, uint64_t now_ns)
{
    s->on = s->trial = false;
    s->retry_ns = now_ns + s->pause_ns;
    s->pause_ns = s->pause_ns >= PAUSE_MAX_NS / 2 ? PAUSE_MAX_NS : s->pause_ns * 2;
}

/* A trial or a window with the compressor ended. */
static void judge(struct mig_squeeze *s, uint64_t now_ns, uint64_t busy)
{
    if (packed_bps(s) / GAIN_PERCENT < s->link_bps / 100) {
        give_up(s, now_ns);
        return;
    }
    if (!s->on) {
        s->look_ns = now_ns + LOOK_NS;
    } else if (busy < IDLE_PERCENT && now_ns >= s->look_ns) {
        s->on = false;
        s->retry_ns = 0;
        return;
    }
    s->on = true;
    s->trial = false;
    s->pause_ns = PAUSE_MIN_NS;
}

static void decide(struct mig_squeeze *s, uint64_t now_ns, uint64_t took_ns)
{
    uint64_t busy = s->busy_ns * 100 / took_ns;
    uint64_t bps = per_second(s->wire_bytes, took_ns);

    if (busy >= BUSY_PERCENT && !s->trial) {
        s->link_bps = bps;
    }
    if (s->raw_in > 0) {
        judge(s, now_ns, busy);
    } else if (!s->on) {
        s->trial =
            busy >= BUSY_PERCENT && bps <= MIG_SQUEEZE_BPS_MAX && now_ns >= s->retry_ns;
    }
}

void mig_squeeze_sent(struct mig_squeeze *s, uint64_t now_ns, uint64_t wire, uint64_t ns)
{
    uint64_t took_ns = now_ns - s->window_ns;

    s->wire_bytes += wire;
    s->busy_ns += ns;
    if (took_ns < WINDOW_NS) {
        return;
    }
    decide(s, now_ns, took_ns);
    s->window_ns = now_ns;
    s->busy_ns = s->wire_bytes = s->raw_in = s->packed_out = s->pack_ns = 0;
}
