/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_text.h"

#include <stdarg.h>
#include <string.h>

char *ha_text_add(char *buf, size_t cap, const char *s)
{
    size_t at = strlen(buf);

    while (*s != '\0' && at + 1 < cap) {
        buf[at++] = *s++;
    }
    buf[at] = '\0';
    return buf;
}

char *ha_text_add_u64(char *buf, size_t cap, uint64_t v)
{
    char digits[21];
    size_t at = sizeof digits - 1;

    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0);
    return ha_text_add(buf, cap, &digits[at]);
}

char *ha_text_set(char *buf, size_t cap, ...)
{
    const char *piece;
    va_list pieces;

    va_start(pieces, cap);
    piece = va_arg(pieces, const char *);
    if (piece != buf) { /* else: the text stays, the rest is added */
        buf[0] = '\0';
        if (piece != NULL) {
            ha_text_add(buf, cap, piece);
        }
    }
    while (piece != NULL && (piece = va_arg(pieces, const char *)) != NULL) {
        ha_text_add(buf, cap, piece);
    }
    va_end(pieces);
    return buf;
}
