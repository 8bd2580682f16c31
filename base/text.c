/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include <string.h>

#include "base/bug.h"

bool text_copy(char *dst, size_t cap, const char *src)
{
    size_t len = strlen(src);
    bool fits = len < cap;

    BUG_ON(cap == 0);
    if (!fits) {
        len = cap - 1;
    }
    memcpy(dst, src, len);
    dst[len] = '\0';
    return fits;
}

bool text_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value)) {
            return false;
        }
    }
    if (value < min || value > max) {
        return false;
    }
    *ret_value = value;
    return true;
}

void text_hex(char *dst, const void *bytes, size_t len)
{
    static const char digit[] = "0123456789abcdef";
    const uint8_t *p = bytes;

    for (size_t i = 0; i < len; i++) {
        *dst++ = digit[p[i] >> 4];
        *dst++ = digit[p[i] & 15];
    }
    *dst = '\0';
}
