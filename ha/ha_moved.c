/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_moved.h"

#include <string.h>

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
