/* SPDX-License-Identifier: Apache-2.0 */
#include "fencing/fence_input.h"

#include <errno.h>
#include <string.h>

#include "base/units.h"

/* Keys that a definition or a secret may not set, and why. */
static const struct refused_key {
    const char *key;
    const char *why;
} refused[] = {
    {"action", "the action is chosen by gemel; remove it"},
    {"option", "the action is chosen by gemel; remove it"},
    {"nodename", "it is filled in by gemel; remove it"},
    {"verbose", "a verbose agent writes passwords to its log; remove it"},
    {"verbose_level", "a verbose agent writes passwords to its log; remove it"},
    {"debug", "a debug file would hold passwords; remove it"},
    {"debug_file", "a debug file would hold passwords; remove it"},
};

static const char *const default_param[][2] = {
    /* Our own readings replace the agent's blind wait (2 s in fence_ipmilan). */
    {"power_wait", "0"},
};

/* Texts are put together without stdio: this file is pure. */
struct text {
    char *buf;
    size_t cap, len;
    bool full;
};

static void text_add(struct text *t, const char *s, size_t len)
{
    if (t->full || len >= t->cap - t->len) {
        t->full = true;
        return;
    }
    memcpy(t->buf + t->len, s, len);
    t->len += len;
    t->buf[t->len] = '\0';
}

static void text_str(struct text *t, const char *s)
{
    text_add(t, s, strlen(s));
}

static void text_pair(struct text *t, const char *key, const char *value)
{
    text_str(t, key);
    text_str(t, "=");
    text_str(t, value);
    text_str(t, "\n");
}

/* "fence device 'ipmi1': KEY: why". Too long is shortened at the end. */
static int fail(struct fence_error *ret_error, const char *what, const char *name,
                const char *where, const char *why)
{
    struct text t = {.buf = ret_error->text, .cap = sizeof(ret_error->text)};

    t.buf[0] = '\0';
    text_str(&t, what);
    text_str(&t, " '");
    text_str(&t, name);
    text_str(&t, "': ");
    text_str(&t, where);
    text_str(&t, ": ");
    text_str(&t, why);
    return -EINVAL;
}

static bool key_char_ok(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '-';
}

static bool key_ok(const char *key, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!key_char_ok(key[i])) {
            return false;
        }
    }
    return len > 0;
}

/* Controls would start a new line or end the text in the agent's eyes. */
static bool value_ok(const char *value, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

static const char *key_refused(const char *key, size_t len)
{
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        if (strlen(refused[i].key) == len && memcmp(refused[i].key, key, len) == 0) {
            return refused[i].why;
        }
    }
    return NULL;
}

static const char *param_find(const struct conf_fence_device *device, const char *key)
{
    for (unsigned i = 0; i < device->param_count; i++) {
        if (strcmp(device->param[i].key, key) == 0) {
            return device->param[i].value;
        }
    }
    return NULL;
}

static bool agent_ok(const char *agent)
{
    size_t len = strlen(agent);

    if (strncmp(agent, "fence_", 6) != 0 || len == 6) {
        return false;
    }
    return key_ok(agent, len);
}

static bool name_ok(const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < len; i++) {
        if (!key_char_ok(name[i]) && name[i] != '.') {
            return false;
        }
    }
    return len > 0 && name[0] != '.' && name[0] != '-';
}

int fence_device_check(const struct conf_fence_device *device,
                       struct fence_error *ret_error)
{
    const char *what = "fence device", *cipher = param_find(device, "cipher"), *why;

    if (!name_ok(device->name)) {
        return fail(ret_error, what, "?", "name",
                    "use letters, digits, '.', '_' and '-' only");
    }
    if (!name_ok(device->node)) {
        return fail(ret_error, what, device->name, "node", "no such name of a node");
    }
    if (!agent_ok(device->agent)) {
        return fail(ret_error, what, device->name, "agent",
                    "must be the name of a fence agent, as fence_ipmilan; no directory");
    }
    if (device->level < 1 || device->level > FENCE_LEVELS_MAX) {
        return fail(ret_error, what, device->name, "level", "must be 1 to 4");
    }
    if (device->param_count > FENCE_PARAMS_MAX) {
        return fail(ret_error, what, device->name, "parameters", "too many (64 at most)");
    }
    for (unsigned i = 0; i < device->param_count; i++) {
        const struct conf_param *p = &device->param[i];

        if (!key_ok(p->key, strlen(p->key))) {
            return fail(ret_error, what, device->name, "parameters",
                        "a key has characters that no agent takes");
        }
        if (!value_ok(p->value, strlen(p->value))) {
            return fail(ret_error, what, device->name, p->key,
                        "the value holds a control character");
        }
        why = key_refused(p->key, strlen(p->key));
        if (why != NULL) {
            return fail(ret_error, what, device->name, p->key, why);
        }
    }
    if (cipher != NULL && strcmp(cipher, "0") == 0) {
        return fail(
            ret_error, what, device->name, "cipher",
            "suite 0 accepts any password; use 3 or 17, and switch it off in the BMC");
    }
    return 0;
}

/* The next line of `text` from *pos; false at the end. */
static bool next_line(const char *text, size_t len, size_t *pos, const char **ret_line,
                      size_t *ret_line_len)
{
    size_t start = *pos, end;

    if (start >= len) {
        return false;
    }
    for (end = start; end < len && text[end] != '\n'; end++) {
    }
    *pos = end + 1;
    *ret_line = text + start;
    *ret_line_len = end - start;
    return true;
}

static bool line_skipped(const char *line, size_t len)
{
    return len == 0 || line[0] == '#';
}

static void number_str(unsigned n, char buf[static 12])
{
    char digits[12];
    size_t count = 0, i = 0;

    do {
        digits[count++] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    while (count > 0) {
        buf[i++] = digits[--count];
    }
    buf[i] = '\0';
}

int fence_secret_check(const char *name, const char *secret, size_t secret_len,
                       struct fence_error *ret_error)
{
    const char *line, *equals, *why;
    char where[24] = "line ";
    size_t pos = 0, len;

    for (unsigned n = 1; next_line(secret, secret_len, &pos, &line, &len); n++) {
        number_str(n, where + 5);
        if (line_skipped(line, len)) {
            continue;
        }
        equals = memchr(line, '=', len);
        if (equals == NULL || !key_ok(line, (size_t)(equals - line))) {
            return fail(ret_error, "secret of fence device", name, where,
                        "must be key=value without spaces round '=', as password=...");
        }
        if (!value_ok(line, len)) {
            return fail(ret_error, "secret of fence device", name, where,
                        "the value holds a control character");
        }
        why = key_refused(line, (size_t)(equals - line));
        if (why != NULL) {
            return fail(ret_error, "secret of fence device", name, where, why);
        }
    }
    return 0;
}

size_t fence_input_head(const struct conf_fence_device *device, enum fence_action action,
                        char *buf, size_t cap)
{
    struct text t = {.buf = buf, .cap = cap};

    text_pair(&t, "action", fence_action_str(action));
    text_pair(&t, "nodename", device->node);
    return t.full ? 0 : t.len;
}

size_t fence_input_tail(const struct conf_fence_device *device, enum fence_action action,
                        const char *secret, size_t secret_len, char *buf, size_t cap)
{
    struct text t = {.buf = buf, .cap = cap};
    const char *line;
    size_t pos = 0, len;

    for (unsigned i = 0; i < device->param_count; i++) {
        text_pair(&t, device->param[i].key, device->param[i].value);
    }
    for (size_t i = 0; i < ARRAY_SIZE(default_param); i++) {
        if ((action == FENCE_ACTION_OFF || action == FENCE_ACTION_ON) &&
            param_find(device, default_param[i][0]) == NULL) {
            text_pair(&t, default_param[i][0], default_param[i][1]);
        }
    }
    while (next_line(secret, secret_len, &pos, &line, &len)) {
        if (!line_skipped(line, len)) {
            text_add(&t, line, len);
            text_str(&t, "\n");
        }
    }
    return t.full ? 0 : t.len;
}

static size_t scrub_value(char *buf, size_t len, const char *value, size_t value_len)
{
    size_t in = 0, out = 0;

    while (in < len) {
        if (len - in >= value_len && memcmp(buf + in, value, value_len) == 0) {
            for (size_t i = 0; i < 3 && i < value_len; i++) {
                buf[out++] = '*';
            }
            in += value_len;
        } else {
            buf[out++] = buf[in++];
        }
    }
    return out;
}

size_t fence_scrub(char *buf, size_t len, const char *secret, size_t secret_len)
{
    const char *line, *equals;
    size_t pos = 0, line_len;

    while (next_line(secret, secret_len, &pos, &line, &line_len)) {
        equals = line_skipped(line, line_len) ? NULL : memchr(line, '=', line_len);
        if (equals != NULL) {
            size_t value_len = line_len - (size_t)(equals + 1 - line);

            /* The agents' reader strips blanks at the end of a line. */
            while (value_len > 0 && equals[value_len] == ' ') {
                value_len--;
            }
            if (value_len > 0) {
                len = scrub_value(buf, len, equals + 1, value_len);
            }
        }
    }
    return len;
}

void fence_output_line(const char *buf, size_t len, bool cut, char *line, size_t cap)
{
    size_t start = 0, end = 0, out = 0;
    const char *found;
    size_t pos = 0, found_len;

    if (cut) {
        while (len > 0 && buf[len - 1] != '\n') {
            len--;
        }
    }
    while (next_line(buf, len, &pos, &found, &found_len)) {
        for (size_t i = 0; i < found_len; i++) {
            if (found[i] > 0x20 && found[i] < 0x7f) {
                start = (size_t)(found - buf);
                end = start + found_len;
                break;
            }
        }
    }
    for (size_t i = start; i < end && out + 1 < cap; i++) {
        line[out++] = buf[i] >= 0x20 && buf[i] < 0x7f ? buf[i] : '?';
    }
    line[out] = '\0';
}
