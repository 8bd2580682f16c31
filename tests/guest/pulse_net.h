/* SPDX-License-Identifier: Apache-2.0 */
/* pulse: the network. Answers ARP, ICMP echo and questions on UDP port 7000, in the
 * buffer they came in. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct net {
    uint32_t ip; /* host order */
    uint8_t mac[6];
    bool answers; /* false until the disk was read: no answer that could go backwards */
    uint32_t answered, ignored;
};

extern struct net net;

bool net_init(void);
/* Handles what came in; true if there was something. */
bool net_step(void);
/* One gratuitous ARP: bridges learn where the address lives now. */
void net_announce(void);
