/* SPDX-License-Identifier: Apache-2.0 */
#include "base/uuid.h"

#include <string.h>

bool uuid_is_none(struct uuid u)
{
    return uuid_equal(u, (struct uuid){{0}});
}

bool uuid_equal(struct uuid a, struct uuid b)
{
    return memcmp(a.b, b.b, sizeof a.b) == 0;
}

/* 8-4-4-4-12: a dash stands before these bytes. */
static bool dash_before(size_t byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_format(struct uuid u, char text[static UUID_STR_LEN + 1])
{
    static const char digit[] = "0123456789abcdef";
    char *p = text;

    for (size_t i = 0; i < sizeof u.b; i++) {
        if (dash_before(i)) {
            *p++ = '-';
        }
        *p++ = digit[u.b[i] >> 4];
        *p++ = digit[u.b[i] & 15];
    }
    *p = '\0';
}

/* 16 for anything but a hexadecimal digit. */
static unsigned hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return (unsigned)(c - '0');
    }
    if (c >= 'a' && c <= 'f') {
        return (unsigned)(c - 'a' + 10);
    }
    if (c >= 'A' && c <= 'F') {
        return (unsigned)(c - 'A' + 10);
    }
    return 16;
}

bool uuid_parse(const char *text, struct uuid *ret_uuid)
{
    struct uuid u;

    for (size_t i = 0; i < sizeof u.b; i++) {
        unsigned high, low;

        if (dash_before(i) && *text++ != '-') {
            return false;
        }
        high = hex_value(text[0]);
        if (high > 15) {
            return false; /* text may end here: do not look further */
        }
        low = hex_value(text[1]);
        if (low > 15) {
            return false;
        }
        u.b[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    if (*text != '\0') {
        return false;
    }
    *ret_uuid = u;
    return true;
}
