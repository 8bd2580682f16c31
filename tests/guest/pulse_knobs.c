/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/pulse_knobs.h"

#include <stddef.h>

#include "tests/guest/pulse_hw.h"

static bool number(const char **at, uint64_t *ret_value)
{
    const char *text = *at;
    uint64_t value = 0;

    if (*text < '0' || *text > '9') {
        return false;
    }
    for (; *text >= '0' && *text <= '9'; text++) {
        value = value * 10 + (uint64_t)(*text - '0');
    }
    *at = text;
    *ret_value = value;
    return true;
}

static bool whole_number(const char *text, uint64_t *ret_value)
{
    uint64_t value;

    if (!number(&text, &value) || *text != '\0') {
        return false;
    }
    *ret_value = value;
    return true;
}

static bool ip_address(const char *text, uint32_t *ret_ip)
{
    uint32_t ip = 0;

    for (int i = 0; i < 4; i++) {
        uint64_t part;

        if (!number(&text, &part) || part > 255 || *text != (i < 3 ? '.' : '\0')) {
            return false;
        }
        ip = ip << 8 | (uint32_t)part;
        text++;
    }
    *ret_ip = ip;
    return true;
}

static bool rate_and_size(const char *text, uint64_t *ret_rate, uint64_t *ret_mib)
{
    uint64_t rate, mib;

    if (!number(&text, &rate) || *text++ != ':' || !number(&text, &mib) ||
        *text != '\0' || mib == 0) {
        return false;
    }
    *ret_rate = rate;
    *ret_mib = mib;
    return true;
}

static bool equal(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static bool size_and_content(const char *text, uint64_t *ret_mib,
                             enum fill_content *ret_content)
{
    static const char *const names[] = {
        [FILL_RANDOM] = "random", [FILL_ZERO] = "zero", [FILL_MIXED] = "mixed"};
    uint64_t mib;

    if (!number(&text, &mib) || *text++ != ':') {
        return false;
    }
    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (equal(text, names[i])) {
            *ret_mib = mib;
            *ret_content = (enum fill_content)i;
            return true;
        }
    }
    return false;
}

static bool knob_set(struct knobs *knobs, const char *key, const char *value)
{
    const struct {
        const char *key;
        uint64_t *to;
    } numbers[] = {
        {"rate", &knobs->rate},   {"count", &knobs->count},  {"reset", &knobs->reset},
        {"body", &knobs->body},   {"tick", &knobs->tick_ms}, {"compute", &knobs->compute},
        {"epoch", &knobs->epoch}, {"crash", &knobs->crash},  {"hang", &knobs->hang},
    };

    for (uint32_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (equal(key, numbers[i].key) && *value != '\0') {
            return whole_number(value, numbers[i].to);
        }
    }
    if (equal(key, "ip")) {
        return ip_address(value, &knobs->ip);
    }
    if (equal(key, "dirty")) {
        return rate_and_size(value, &knobs->dirty_rate, &knobs->dirty_mib);
    }
    if (equal(key, "fill")) {
        return size_and_content(value, &knobs->fill_mib, &knobs->fill_content);
    }
    if (equal(key, "hostile")) {
        knobs->hostile = *value != '\0' ? value : "all";
    } else if (equal(key, "compute")) {
        knobs->compute = 20;
    } else if (equal(key, "tick")) {
        knobs->tick_ms = 2;
    } else if (equal(key, "filled")) {
        knobs->filled = true;
    } else if (equal(key, "progress")) {
        knobs->progress = true;
    } else if (equal(key, "nodisk")) {
        knobs->no_disk = true;
    } else if (equal(key, "nonet")) {
        knobs->no_net = true;
    } else if (equal(key, "noflush")) {
        knobs->no_flush = true;
    } else if (equal(key, "quiet")) {
        knobs->quiet = true;
    } else {
        return false;
    }
    return true;
}

void knobs_parse(struct knobs *knobs, char *cmdline)
{
    char *at = cmdline;

    for (;;) {
        char *key, *end, *value;

        while (*at == ' ' || *at == '\n') {
            at++;
        }
        if (*at == '\0') {
            return;
        }
        key = at;
        while (*at != '\0' && *at != ' ' && *at != '\n') {
            at++;
        }
        end = at;
        if (*at != '\0') {
            at++;
        }
        *end = '\0';
        for (value = key; *value != '\0' && *value != '='; value++) {
        }
        if (*value == '=') {
            *value++ = '\0';
        }
        if (!knob_set(knobs, key, value)) {
            line_text("pulse: knob not understood: ");
            line_text(key);
            line_text("=");
            line_text(value);
            line_end();
        }
    }
}
