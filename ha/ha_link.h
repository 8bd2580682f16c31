/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is the link to a node silent? Suspicion only: it asks for a power reading, it never
 * shoots. knet's own verdict is late on a young link (its timeout starts at ten times its
 * value and comes down with every answer: seen 1.8-2.1 s after a power cut, at token
 * 1000, on links 8 s old), so packets are counted as well. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ha_link {
    bool known; /* read at least once */
    bool up;
    uint64_t received; /* packets, as last read */
    uint64_t heard_ns; /* when that number last moved */
    uint64_t read_ns;
};

/* One reading: knet's verdict, and the number of packets received so far. True when
 * `link->up` changed; the first reading is no change. */
bool ha_link_read(struct ha_link *link, bool connected, uint64_t received,
                  uint64_t now_ns, uint64_t quiet_ns);
