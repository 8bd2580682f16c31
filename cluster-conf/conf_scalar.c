/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster-conf/conf_scalar.h"

#include <string.h>

#include "base/uuid.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int hex_value(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

/* Digits at the start of `s`; *ret_end is what follows them. */
static enum conf_scalar_reason read_digits(const char *s, uint64_t *ret_value,
                                           const char **ret_end)
{
    uint64_t value = 0;
    const char *p = s;

    if (*s == '\0') {
        return CONF_SCALAR_EMPTY;
    }
    if (!is_digit(*s)) {
        return CONF_SCALAR_NOT_NUMBER;
    }
    if (s[0] == '0' && is_digit(s[1])) {
        return CONF_SCALAR_LEADING_ZERO;
    }
    for (; is_digit(*p); p++) {
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value)) {
            return CONF_SCALAR_TOO_LARGE;
        }
    }
    *ret_value = value;
    *ret_end = p;
    return CONF_SCALAR_OK;
}

struct unit {
    const char *name;
    uint64_t factor;
};

/* In the order in which a writer tries them: the first of each factor is the one written.
 */
static const struct unit size_units[] = {
    {"TiB", UINT64_C(1) << 40},
    {"GiB", UINT64_C(1) << 30},
    {"MiB", UINT64_C(1) << 20},
    {"KiB", UINT64_C(1) << 10},
    {"B", 1},
    {"T", UINT64_C(1) << 40},
    {"G", UINT64_C(1) << 30},
    {"M", UINT64_C(1) << 20},
    {"K", UINT64_C(1) << 10},
};

static const struct unit duration_units[] = {
    {"h", 3600000},
    {"m", 60000},
    {"s", 1000},
    {"ms", 1},
};

static enum conf_scalar_reason read_with_unit(const char *s, const struct unit *units,
                                              size_t unit_count, uint64_t *ret_value)
{
    uint64_t value;
    const char *end;
    enum conf_scalar_reason reason = read_digits(s, &value, &end);

    if (reason != CONF_SCALAR_OK) {
        return reason;
    }
    if (*end == '\0') {
        return CONF_SCALAR_NO_UNIT;
    }
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(end, units[i].name) == 0) {
            return __builtin_mul_overflow(value, units[i].factor, ret_value)
                       ? CONF_SCALAR_TOO_LARGE
                       : CONF_SCALAR_OK;
        }
    }
    return CONF_SCALAR_BAD_UNIT;
}

enum conf_scalar_reason conf_scalar_size(const char *s, uint64_t *ret_bytes)
{
    uint64_t value;
    enum conf_scalar_reason reason =
        read_with_unit(s, size_units, ARRAY_SIZE(size_units), &value);
    size_t len = strlen(s);

    if (reason == CONF_SCALAR_BAD_UNIT && len >= 2 && s[len - 1] == 'B' &&
        strchr("KkMmGgTt", s[len - 2]) != NULL && s[len - 2] != '\0') {
        return CONF_SCALAR_DECIMAL_UNIT;
    }
    if (reason == CONF_SCALAR_OK) {
        *ret_bytes = value;
    }
    return reason;
}

enum conf_scalar_reason conf_scalar_duration(const char *s, uint32_t *ret_ms)
{
    uint64_t value;
    enum conf_scalar_reason reason =
        read_with_unit(s, duration_units, ARRAY_SIZE(duration_units), &value);

    if (reason != CONF_SCALAR_OK) {
        return reason;
    }
    if (value > UINT32_MAX) {
        return CONF_SCALAR_TOO_LARGE;
    }
    *ret_ms = (uint32_t)value;
    return CONF_SCALAR_OK;
}

enum conf_scalar_reason conf_scalar_count(const char *s, uint64_t *ret_count)
{
    uint64_t value;
    const char *end;
    enum conf_scalar_reason reason = read_digits(s, &value, &end);

    if (reason != CONF_SCALAR_OK) {
        return reason;
    }
    if (*end != '\0') {
        return CONF_SCALAR_NOT_NUMBER;
    }
    *ret_count = value;
    return CONF_SCALAR_OK;
}

enum conf_scalar_reason conf_scalar_bool(const char *s, bool *ret_value)
{
    if (strcmp(s, "true") == 0) {
        *ret_value = true;
    } else if (strcmp(s, "false") == 0) {
        *ret_value = false;
    } else {
        return *s == '\0' ? CONF_SCALAR_EMPTY : CONF_SCALAR_MALFORMED;
    }
    return CONF_SCALAR_OK;
}

enum conf_scalar_reason conf_scalar_mac(const char *s, uint8_t ret_mac[static 6])
{
    uint8_t mac[6];

    if (strlen(s) != 17) {
        return CONF_SCALAR_MALFORMED;
    }
    for (int i = 0; i < 6; i++) {
        int high = hex_value(s[i * 3]), low = hex_value(s[i * 3 + 1]);

        if (high < 0 || low < 0 || (i < 5 && s[i * 3 + 2] != ':')) {
            return CONF_SCALAR_MALFORMED;
        }
        mac[i] = (uint8_t)(high << 4 | low);
    }
    memcpy(ret_mac, mac, sizeof mac);
    return CONF_SCALAR_OK;
}

enum conf_scalar_reason conf_scalar_uuid(const char *s, struct uuid *ret_uuid)
{
    return uuid_parse(s, ret_uuid) ? CONF_SCALAR_OK : CONF_SCALAR_MALFORMED;
}

static void write_with_unit(struct conf_text *text, const struct unit *units,
                            size_t unit_count, uint64_t value)
{
    for (size_t i = 0; i < unit_count; i++) {
        if (units[i].factor == 1 || (value != 0 && value % units[i].factor == 0)) {
            conf_text_u64(text, value / units[i].factor);
            conf_text_str(text, units[i].name);
            return;
        }
    }
}

void conf_scalar_size_write(struct conf_text *text, uint64_t bytes)
{
    write_with_unit(text, size_units, ARRAY_SIZE(size_units), bytes);
}

void conf_scalar_duration_write(struct conf_text *text, uint32_t ms)
{
    write_with_unit(text, duration_units, ARRAY_SIZE(duration_units), ms);
}

static void write_hex(struct conf_text *text, uint8_t byte)
{
    static const char digits[] = "0123456789abcdef";

    conf_text_bytes(text, &digits[byte >> 4], 1);
    conf_text_bytes(text, &digits[byte & 15], 1);
}

void conf_scalar_mac_write(struct conf_text *text, const uint8_t mac[static 6])
{
    for (int i = 0; i < 6; i++) {
        if (i > 0) {
            conf_text_str(text, ":");
        }
        write_hex(text, mac[i]);
    }
}

void conf_scalar_uuid_write(struct conf_text *text, struct uuid uuid)
{
    char canonical[UUID_STR_LEN + 1];

    uuid_format(uuid, canonical);
    conf_text_str(text, canonical);
}

const char *conf_scalar_why(enum conf_scalar_reason reason)
{
    static const char *const why[] = {
        [CONF_SCALAR_OK] = "is fine",
        [CONF_SCALAR_EMPTY] = "has no value",
        [CONF_SCALAR_NOT_NUMBER] = "is not a whole number",
        [CONF_SCALAR_LEADING_ZERO] = "begins with 0, which some readers take for octal",
        [CONF_SCALAR_NO_UNIT] = "has no unit",
        [CONF_SCALAR_BAD_UNIT] = "has an unknown unit",
        [CONF_SCALAR_DECIMAL_UNIT] = "is ambiguous (powers of 1000 or of 1024)",
        [CONF_SCALAR_TOO_LARGE] = "is too large",
        [CONF_SCALAR_MALFORMED] = "is malformed",
    };

    return (size_t)reason < ARRAY_SIZE(why) ? why[reason] : "is malformed";
}

bool conf_name_ok(const char *s)
{
    if (!is_alnum(s[0])) {
        return false;
    }
    for (const char *p = s; *p != '\0'; p++) {
        if (!is_alnum(*p) && *p != '.' && *p != '_' && *p != '-') {
            return false;
        }
    }
    return true;
}

/* Four numbers up to 255; 10.0.0.300 is no host name either. */
static bool is_ipv4(const char *s)
{
    for (int part = 0; part < 4; part++) {
        uint64_t value;
        const char *end;

        if (read_digits(s, &value, &end) != CONF_SCALAR_OK || value > 255 ||
            *end != (part < 3 ? '.' : '\0')) {
            return false;
        }
        s = end + 1;
    }
    return true;
}

/* RFC 4291 2.2, without the mixed and the zone form: eight groups, or fewer around one
 * "::". */
static bool is_ipv6(const char *s)
{
    unsigned groups = 0;
    bool gap = false;

    if (s[0] == ':' && s[1] == ':') {
        gap = true;
        s += 2;
    }
    while (*s != '\0') {
        unsigned digits = 0;

        for (; hex_value(*s) >= 0; s++) {
            digits++;
        }
        if (digits == 0 || digits > 4) {
            return false;
        }
        groups++;
        if (s[0] == ':' && s[1] == ':' && !gap) {
            gap = true;
            s += 2;
        } else if (s[0] == ':' && s[1] != '\0') {
            s++;
        } else if (s[0] != '\0') {
            return false;
        }
    }
    return gap ? groups < 8 : groups == 8;
}

enum conf_addr conf_addr_kind(const char *s)
{
    if (strchr(s, ':') != NULL) {
        return is_ipv6(s) ? CONF_ADDR_IPV6 : CONF_ADDR_BAD;
    }
    if (s[strspn(s, "0123456789.")] == '\0') {
        return is_ipv4(s) ? CONF_ADDR_IPV4 : CONF_ADDR_BAD;
    }
    return conf_name_ok(s) && strchr(s, '_') == NULL ? CONF_ADDR_NAME : CONF_ADDR_BAD;
}
