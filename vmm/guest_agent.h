/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small client of the QEMU guest agent, on the bytes of its virtio port: does it
 * answer, and please power off. Protocol: guest-sync-delimited, guest-ping,
 * guest-shutdown (QEMU docs, interop/qemu-ga-ref).
 *
 * Every byte from the guest is hostile: a line has a bound, JSON a depth, and what is not
 * the answer that we wait for is ignored. Owned by the loop thread; no threads, clocks or
 * fds of its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_AGENT_PERIOD_MS 5000 /* between two calls of guest_agent_tick */
#define GUEST_AGENT_LINE_MAX  4096
#define GUEST_AGENT_NEWS_NS   200000000 /* at least, between two pieces of news */

enum guest_agent_state {
    GUEST_AGENT_NONE = 0,  /* nobody has the port open */
    GUEST_AGENT_CONNECTED, /* somebody has, and does not answer (yet) */
    GUEST_AGENT_ANSWERS,
};

struct guest_agent;

/* `send` carries bytes to the guest's port; it may lose them. NULL: no memory. */
struct guest_agent *
guest_agent_new(void (*send)(void *ctx, const uint8_t *bytes, uint32_t len), void *ctx);
void guest_agent_free(struct guest_agent *ga); /* NULL is fine */

/* The guest has opened or closed the port; the same again is no news. */
void guest_agent_port(struct guest_agent *ga, bool open);
void guest_agent_take(struct guest_agent *ga, const uint8_t *bytes, size_t len);
/* Asks again; who has not answered since the last call no longer answers. */
void guest_agent_tick(struct guest_agent *ga);
/* False: nobody answers who could do it. */
bool guest_agent_shutdown(struct guest_agent *ga);

/* Whether there is a state to tell that was not told yet. How often it changes is the
 * guest's choice, how often it is told (logged, sent to the agent of the node) is not:
 * at most once in GUEST_AGENT_NEWS_NS. False: ask again in *ret_wait_ns; 0: not before
 * the next change. */
bool guest_agent_news(struct guest_agent *ga, uint64_t now_ns, uint64_t *ret_wait_ns);

enum guest_agent_state guest_agent_state(const struct guest_agent *ga);
const char *guest_agent_state_str(enum guest_agent_state state);
