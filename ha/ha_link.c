/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_link.h"

bool ha_link_read(struct ha_link *link, bool connected, uint64_t received,
                  uint64_t now_ns, uint64_t quiet_ns)
{
    bool was = link->up, heard = link->received != received;

    if (!link->known) {
        *link = (struct ha_link){.known = true,
                                 .up = connected,
                                 .received = received,
                                 .heard_ns = now_ns,
                                 .read_ns = now_ns};
        return false;
    }
    if (now_ns - link->read_ns > quiet_ns / 2) {
        /* We were not looking (stopped, starved), and perhaps corosync neither: that time
         * does not count. */
        link->heard_ns += now_ns - link->read_ns;
    }
    link->read_ns = now_ns;
    if (heard) {
        link->received = received;
        link->heard_ns = now_ns;
    }
    if (!connected || now_ns - link->heard_ns >= quiet_ns) {
        link->up = false;
    } else if (heard) {
        link->up = true; /* and not because it is merely not silent for long enough */
    }
    return link->up != was;
}
