/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/guest_agent.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DELIMITER  0xFF /* no byte of UTF-8: whatever stood before it is over */
#define JSON_DEPTH 8

enum waiting { FOR_NOTHING = 0, FOR_SYNC, FOR_PING };

struct guest_agent {
    void (*send)(void *ctx, const uint8_t *bytes, uint32_t len);
    void *ctx;
    enum guest_agent_state state, told;
    uint64_t next_news_ns;
    enum waiting waiting;
    int64_t sync_id;
    struct json_tokener *parser;
    bool skip; /* the line is too long: until its end */
    size_t line_len;
    char line[GUEST_AGENT_LINE_MAX];
};

struct guest_agent *
guest_agent_new(void (*send)(void *ctx, const uint8_t *bytes, uint32_t len), void *ctx)
{
    struct guest_agent *ga = calloc(1, sizeof *ga);
    struct json_object *first;

    if (!ga) {
        return NULL;
    }
    ga->send = send;
    ga->ctx = ctx;
    ga->parser = json_tokener_new_ex(JSON_DEPTH);
    first = json_tokener_parse("{\"a\":1}"); /* seeds its hash now, not in the sandbox */
    if (!ga->parser || !first) {
        json_object_put(first);
        guest_agent_free(ga);
        return NULL;
    }
    json_object_put(first);
    return ga;
}

void guest_agent_free(struct guest_agent *ga)
{
    if (ga) {
        json_tokener_free(ga->parser);
        free(ga);
    }
}

static void send_text(struct guest_agent *ga, const char *text, size_t len)
{
    ga->send(ga->ctx, (const uint8_t *)text, (uint32_t)len);
}

/* The delimiter makes the agent forget half a command, and asks it to put one before its
 * answer. */
static void send_sync(struct guest_agent *ga)
{
    char text[128];
    int len;

    ga->sync_id++;
    len =
        snprintf(text, sizeof text,
                 "%c{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%lld}}\n",
                 DELIMITER, (long long)ga->sync_id);
    ga->waiting = FOR_SYNC;
    send_text(ga, text, (size_t)len);
}

static void send_ping(struct guest_agent *ga)
{
    static const char text[] = "{\"execute\":\"guest-ping\"}\n";

    ga->waiting = FOR_PING;
    send_text(ga, text, sizeof text - 1);
}

void guest_agent_port(struct guest_agent *ga, bool open)
{
    if (open == (ga->state != GUEST_AGENT_NONE)) {
        return;
    }
    ga->line_len = 0;
    ga->skip = false;
    ga->waiting = FOR_NOTHING;
    ga->state = open ? GUEST_AGENT_CONNECTED : GUEST_AGENT_NONE;
    if (open) {
        send_sync(ga);
    }
}

void guest_agent_tick(struct guest_agent *ga)
{
    if (ga->state == GUEST_AGENT_NONE) {
        return;
    }
    if (ga->waiting != FOR_NOTHING) {
        ga->state = GUEST_AGENT_CONNECTED;
    }
    if (ga->state == GUEST_AGENT_ANSWERS) {
        send_ping(ga);
    } else {
        send_sync(ga);
    }
}

bool guest_agent_shutdown(struct guest_agent *ga)
{
    static const char text[] =
        "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"powerdown\"}}\n";

    if (ga->state != GUEST_AGENT_ANSWERS) {
        return false;
    }
    send_text(ga, text, sizeof text - 1); /* has no answer when it works */
    return true;
}

/* An agent that refuses a ping (its administrator may have said so) is there all the
 * same. */
static bool is_answer(const struct guest_agent *ga, struct json_object *reply)
{
    struct json_object *value;

    if (!json_object_is_type(reply, json_type_object)) {
        return false;
    }
    if (ga->waiting == FOR_SYNC) {
        return json_object_object_get_ex(reply, "return", &value) &&
               json_object_is_type(value, json_type_int) &&
               json_object_get_int64(value) == ga->sync_id;
    }
    return ga->waiting == FOR_PING &&
           (json_object_object_get_ex(reply, "error", &value) ||
            (json_object_object_get_ex(reply, "return", &value) &&
             json_object_is_type(value, json_type_object)));
}

static void take_line(struct guest_agent *ga)
{
    struct json_object *reply;

    json_tokener_reset(ga->parser);
    reply = json_tokener_parse_ex(ga->parser, ga->line, (int)ga->line_len);
    if (reply && is_answer(ga, reply)) {
        ga->waiting = FOR_NOTHING;
        ga->state = GUEST_AGENT_ANSWERS;
    }
    json_object_put(reply);
}

static void take_byte(struct guest_agent *ga, uint8_t byte)
{
    if (byte == DELIMITER) {
        ga->line_len = 0;
        ga->skip = false;
    } else if (byte == '\n') {
        if (!ga->skip && ga->line_len > 0) {
            take_line(ga);
        }
        ga->line_len = 0;
        ga->skip = false;
    } else if (ga->line_len == sizeof ga->line) {
        ga->skip = true;
    } else {
        ga->line[ga->line_len++] = (char)byte;
    }
}

void guest_agent_take(struct guest_agent *ga, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len && ga->state != GUEST_AGENT_NONE; i++) {
        take_byte(ga, bytes[i]);
    }
}

bool guest_agent_news(struct guest_agent *ga, uint64_t now_ns, uint64_t *ret_wait_ns)
{
    *ret_wait_ns = 0;
    if (ga->state == ga->told) {
        return false;
    }
    if (now_ns < ga->next_news_ns) {
        *ret_wait_ns = ga->next_news_ns - now_ns;
        return false;
    }
    ga->told = ga->state;
    ga->next_news_ns = now_ns + GUEST_AGENT_NEWS_NS;
    return true;
}

enum guest_agent_state guest_agent_state(const struct guest_agent *ga)
{
    return ga->state;
}

const char *guest_agent_state_str(enum guest_agent_state state)
{
    static const char *const text[] = {
        [GUEST_AGENT_NONE] = "none",
        [GUEST_AGENT_CONNECTED] = "connected",
        [GUEST_AGENT_ANSWERS] = "answers",
    };

    return text[state];
}
