/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_text.h"

#include <stdarg.h>

#include "base/bug.h"
#include "base/units.h"

struct mig_text mig_text_make(char *buf, size_t cap)
{
    BUG_ON(cap == 0);
    buf[0] = '\0';
    return (struct mig_text){buf, cap, 0};
}

static void put(struct mig_text *text, char c)
{
    if (text->len + 1 < text->cap) {
        text->buf[text->len++] = c >= 0x20 && c < 0x7f ? c : '?';
        text->buf[text->len] = '\0';
    }
}

static void put_str(struct mig_text *text, const char *s)
{
    while (*s != '\0') {
        put(text, *s++);
    }
}

static void put_u64(struct mig_text *text, uint64_t value)
{
    char digit[20];
    unsigned count = 0;

    do {
        digit[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    while (count > 0) {
        put(text, digit[--count]);
    }
}

/* value / unit: with one decimal below ten, unless it is even. */
static void put_ratio(struct mig_text *text, uint64_t value, uint64_t unit,
                      const char *name)
{
    uint64_t tenths = value / unit * 10 + value % unit / (unit / 10 > 0 ? unit / 10 : 1);

    if (value / unit < 10 && unit >= 10 && tenths % 10 != 0) {
        put_u64(text, tenths / 10);
        put(text, '.');
        put(text, (char)('0' + tenths % 10));
    } else {
        put_u64(text, value / unit);
    }
    put_str(text, name);
}

struct unit {
    uint64_t value;
    const char *name;
};

/* The largest unit of which there is at least one; the last fits all. */
static void put_in_unit(struct mig_text *text, uint64_t value, const struct unit *unit)
{
    while (value < unit->value && unit[1].name != NULL) {
        unit++;
    }
    put_ratio(text, value, unit->value, unit->name);
}

static void put_number(struct mig_text *text, char kind, uint64_t value)
{
    static const struct unit bytes[] = {{UINT64_C(1) << 40, " TiB"},
                                        {UINT64_C(1) << 30, " GiB"},
                                        {UINT64_C(1) << 20, " MiB"},
                                        {UINT64_C(1) << 10, " KiB"},
                                        {1, " bytes"},
                                        {0, NULL}};
    static const struct unit time[] = {{3600 * NSEC_PER_SEC, " h"},
                                       {60 * NSEC_PER_SEC, " min"},
                                       {NSEC_PER_SEC, " s"},
                                       {NSEC_PER_MSEC, " ms"},
                                       {NSEC_PER_USEC, " us"},
                                       {1, " ns"},
                                       {0, NULL}};

    switch (kind) {
    case 'u':
        put_u64(text, value);
        break;
    case 'b':
        put_in_unit(text, value, bytes);
        break;
    case 't':
        put_in_unit(text, value, time);
        break;
    case 'p':
        put_ratio(text, value, 10, " %");
        break;
    default:
        BUG_ON(true);
    }
}

void mig_text_add(struct mig_text *text, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    for (; *fmt != '\0'; fmt++) {
        if (*fmt != '%') {
            put(text, *fmt);
        } else if (*++fmt == 's') {
            put_str(text, va_arg(args, const char *));
        } else if (*fmt == '%') {
            put(text, '%');
        } else {
            put_number(text, *fmt, va_arg(args, uint64_t));
        }
    }
    va_end(args);
}
