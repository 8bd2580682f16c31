/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster-conf/conf_text.h"

#include <stdarg.h>
#include <string.h>

#define QUOTED_MAX 40

struct conf_text conf_text_make(char *buf, size_t cap)
{
    buf[0] = '\0';
    return (struct conf_text){.buf = buf, .cap = cap};
}

void conf_text_bytes(struct conf_text *text, const char *bytes, size_t len)
{
    size_t room = text->cap - 1 - text->len;

    if (len > room) {
        len = room;
        text->truncated = true;
    }
    memcpy(text->buf + text->len, bytes, len);
    text->len += len;
    text->buf[text->len] = '\0';
}

void conf_text_str(struct conf_text *text, const char *str)
{
    conf_text_bytes(text, str, strlen(str));
}

void conf_text_u64(struct conf_text *text, uint64_t value)
{
    char digits[20];
    size_t pos = sizeof digits;

    do {
        digits[--pos] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    conf_text_bytes(text, digits + pos, sizeof digits - pos);
}

void conf_text_strs(struct conf_text *text, ...)
{
    va_list args;
    const char *str;

    va_start(args, text);
    while ((str = va_arg(args, const char *)) != NULL) {
        conf_text_str(text, str);
    }
    va_end(args);
}

void conf_text_cut(struct conf_text *text, size_t len)
{
    if (len < text->len) {
        text->len = len;
        text->buf[len] = '\0';
    }
}

void conf_text_quoted(struct conf_text *text, const char *str)
{
    size_t i;

    for (i = 0; str[i] != '\0' && i < QUOTED_MAX; i++) {
        unsigned char c = (unsigned char)str[i];

        conf_text_bytes(text, c < 0x20 || c == 0x7f ? "?" : &str[i], 1);
    }
    if (str[i] != '\0') {
        conf_text_str(text, "...");
    }
}
