/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is anybody there? Corosync notices a silent node after a quarter of a second; who is to
 * take over a VM within a few milliseconds asks by ICMP echo whether its own links work.
 * Loop thread only; nothing waits.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"

struct ha_reach;

/* heard: one of them has answered. */
typedef void (*ha_reach_fn)(bool heard, void *data);

/* Asks these addresses (numeric; others are left out). `fn` is called once, never from
 * within: at the first answer, or after timeout_ns. 0 or -errno (-ENOENT: there is nobody
 * to ask), and no call. */
int ha_reach_ask(struct loop *loop, const char *const *address, unsigned count,
                 uint64_t timeout_ns, ha_reach_fn fn, void *data);
