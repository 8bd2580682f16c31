/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_moved.h"

#include <string.h>

#include "ha/ha_text.h"

static bool skip(const char **at, const char *words)
{
    size_t len = strlen(words);

    if (strncmp(*at, words, len) != 0) {
        return false;
    }
    *at += len;
    return true;
}

/* A name, up to a space or a colon. */
static bool name(const char **at, char ret[static NODE_NAME_MAX + 1])
{
    size_t len = strcspn(*at, " :");

    if (len == 0 || len > NODE_NAME_MAX) {
        return false;
    }
    memcpy(ret, *at, len);
    ret[len] = '\0';
    *at += len;
    return true;
}

static bool number(const char **at, uint64_t *ret)
{
    const char *begin = *at;

    *ret = 0;
    while (**at >= '0' && **at <= '9' && *at - begin < 16) {
        *ret = *ret * 10 + (uint64_t)(**at - '0');
        (*at)++;
    }
    return *at != begin;
}

bool ha_moved_read(const char *last, struct ha_moved *ret)
{
    const char *at = last, *still;
    struct ha_moved m = {.verified = strstr(last, ", memory compared") != NULL};

    if (!skip(&at, "migrated from ") || !name(&at, m.from) || !skip(&at, " to ") ||
        !name(&at, m.to) || !skip(&at, ": ") || !number(&at, &m.bytes) ||
        !skip(&at, " MiB in ") || !number(&at, &m.rounds) || !skip(&at, " rounds and ") ||
        !number(&at, &m.total_ms) || !skip(&at, " ms")) {
        return false;
    }
    still = strstr(at, "stood still for about ");
    if (still == NULL || !skip(&still, "stood still for about ") ||
        !number(&still, &m.downtime_ms)) {
        return false;
    }
    m.bytes <<= 20;
    *ret = m;
    return true;
}

static void add_rate(char *text, size_t cap, const char *what, uint64_t bps)
{
    bool large = bps >= 1 << 20;

    ha_text_add(text, cap, what);
    ha_text_add_u64(text, cap, large ? bps >> 20 : bps >> 10);
    ha_text_add(text, cap, large ? " MiB/s" : " KiB/s");
}

void ha_moving_text(const struct ha_state *state, const struct ha_vm *vm,
                    const struct ha_move_progress *p, char *text, size_t cap)
{
    const struct ha_node *from = ha_state_node(state, vm->owner);
    const struct ha_node *to = ha_state_node(state, vm->move.to);

    ha_text_set(text, cap, from != NULL ? from->name : "?", " -> ",
                to != NULL ? to->name : "?", NULL);
    if (p == NULL || p->round == 0) {
        return;
    }
    ha_text_add(text, cap, ", round ");
    ha_text_add_u64(text, cap, p->round);
    if (p->bps != 0) {
        add_rate(text, cap, ", ", p->bps);
    }
    if (p->round > 1) { /* known behind the first */
        add_rate(text, cap, ", dirty ", p->dirty_bps);
    }
    if (p->throttle > 0) {
        ha_text_add(text, cap, ", vCPUs held back ");
        ha_text_add_u64(text, cap, p->throttle / 10);
        ha_text_add(text, cap, " %");
    }
    if (p->eta_ms == UINT64_MAX) {
        ha_text_add(text, cap, p->bps != 0 ? ", does not converge yet" : "");
    } else {
        ha_text_add(text, cap, ", about ");
        ha_text_add_u64(text, cap, (p->eta_ms + 999) / 1000);
        ha_text_add(text, cap, " s left");
    }
}
