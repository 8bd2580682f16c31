/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a VM is now: a guest that goes on elsewhere does not know that it has moved, and
 * bridges and switches go on sending to where they heard its address last. So a frame
 * goes out as if it were the guest's own: a RARP request (RFC 903), which names no IP
 * address and asks nobody anything. A few times, as the port may not forward yet.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "ha/ha_vmm_priv.h"

#define FRAME_LEN       60
#define ANNOUNCE_TIMES  5
#define ANNOUNCE_GAP_NS (50 * NSEC_PER_MSEC) /* doubled each time */

static void frame_of(const uint8_t mac[6], uint8_t frame[FRAME_LEN])
{
    static const uint8_t rarp[] = {0x80, 0x35,             /* EtherType */
                                   0,    1,    8, 0, 6, 4, /* Ethernet, IPv4 */
                                   0,    3};               /* request reverse */

    memset(frame, 0, FRAME_LEN);
    memset(frame, 0xff, 6);
    memcpy(frame + 6, mac, 6);
    memcpy(frame + 12, rarp, sizeof rarp);
    memcpy(frame + 22, mac, 6);
    memcpy(frame + 32, mac, 6);
}

static void announce_timer_fn(void *data)
{
    struct ha_local *l = data;
    uint8_t frame[FRAME_LEN];

    l->announce_timer = 0;
    for (unsigned i = 0; i < l->tap_count && l->conf != NULL; i++) {
        frame_of(l->conf->nic[i].mac, frame);
        if (write(l->tap_fd[i], frame, sizeof frame) < 0) {
            log_debug("vm %s: announcement: %s", l->name, strerror(errno));
        }
    }
    if (++l->announced == ANNOUNCE_TIMES ||
        loop_timer_add(l->vmm->loop, ANNOUNCE_GAP_NS << l->announced, announce_timer_fn,
                       l, &l->announce_timer) < 0) {
        ha_announce_end(l);
    }
}

void ha_announce_begin(struct ha_local *l)
{
    l->announced = 0;
    announce_timer_fn(l);
}

void ha_announce_end(struct ha_local *l)
{
    loop_timer_del(l->vmm->loop, &l->announce_timer);
    for (unsigned i = 0; i < l->tap_count; i++) {
        close(l->tap_fd[i]);
    }
    l->tap_count = 0;
}
