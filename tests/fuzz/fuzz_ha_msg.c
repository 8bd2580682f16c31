/* SPDX-License-Identifier: Apache-2.0 */
/* A whole agent core fed with messages of a member: the frame's checksums are made right,
 * so that the fuzzer gets behind them. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "ha/ha_agent.h"
#include "tests/fuzz/fuzz.h"

static void no_mcast(void *ctx, const void *frame, size_t len)
{
    (void)ctx;
    (void)frame;
    (void)len;
}

static void no_persist(void *ctx, enum ha_item_kind kind, const void *body, size_t len,
                       uint64_t version)
{
    (void)ctx;
    (void)kind;
    (void)body;
    (void)len;
    (void)version;
}

static void no_ctx(void *ctx)
{
    (void)ctx;
}

static void no_vm(void *ctx, const struct ha_vm *vm)
{
    (void)ctx;
    (void)vm;
}

static void no_discard(void *ctx, struct uuid vm, const char *why)
{
    (void)ctx;
    (void)vm;
    (void)why;
}

static void no_node(void *ctx, const struct ha_node *node)
{
    (void)ctx;
    (void)node;
}

static void no_result(void *ctx, const struct ha_op_result *result)
{
    (void)ctx;
    (void)result;
}

static void no_event(void *ctx, uint64_t version, const char *text)
{
    (void)ctx;
    (void)version;
    (void)text;
}

static void no_trace(void *ctx, const char *text)
{
    (void)ctx;
    (void)text;
}

static struct uuid some_uuid(void *ctx)
{
    static uint8_t n;
    struct uuid u = {{1, ++n}};

    (void)ctx;
    return u;
}

static bool refuse_vm(void *ctx, const struct ha_state *state, const char *yaml,
                      size_t len, struct conf_vm *ret, char *text, size_t cap)
{
    (void)ctx;
    (void)state;
    (void)yaml;
    (void)len;
    (void)ret;
    (void)cap;
    text[0] = '\0';
    return false;
}

static bool refuse_cluster(void *ctx, const char *yaml, size_t len,
                           struct conf_cluster *ret, char *text, size_t cap)
{
    (void)ctx;
    (void)yaml;
    (void)len;
    (void)ret;
    (void)cap;
    text[0] = '\0';
    return false;
}

static const struct ha_agent_ops ops = {
    .mcast = no_mcast,
    .persist = no_persist,
    .persist_all = no_ctx,
    .vm_start = no_vm,
    .vm_stop = no_vm,
    .vm_save = no_vm,
    .vm_holder_dead = no_discard,
    .vm_discard = no_discard,
    .fence_off = no_node,
    .fence_cancel = no_node,
    .fence_on = no_node,
    .op_done = no_result,
    .event = no_event,
    .trace = no_trace,
    .new_uuid = some_uuid,
    .check_vm = refuse_vm,
    .check_cluster = refuse_cluster,
};
static const struct ha_mem mem = {.alloc = malloc, .free = free};

static void put_u32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

/* data: repeated {u16 length, bytes}: each becomes one frame with right checksums, from
 * node 1 or 2. */
FUZZ_ONE(data, size)
{
    static struct ha_agent agent;
    static uint8_t frame[CPG_MSG_MAX];
    struct ha_agent_self self = {.nodeid = 1, .name = "n1", .memory_bytes = 1 << 30};
    struct ha_view view = {.agreed = true,
                           .quorate = true,
                           .ring = {1, 4},
                           .member_count = 2,
                           .member = {1, 2},
                           .votes_needed = 1};

    ha_agent_init(&agent, &self, &mem, &ops, NULL);
    ha_agent_view(&agent, &view, 1);
    while (size > 4) {
        size_t len = (size_t)(data[0] | data[1] << 8);
        uint16_t type = data[2];
        uint32_t from = 1 + (data[3] & 1);
        struct frame f = {
            .type = type, .version = 1, .seq = 1, .body = frame + FRAME_HEADER_LEN};

        data += 4;
        size -= 4;
        len = len > size ? size : len;
        len =
            len > sizeof frame - FRAME_HEADER_LEN ? sizeof frame - FRAME_HEADER_LEN : len;
        memcpy(frame + FRAME_HEADER_LEN, data, len);
        /* The ring and the sender are mostly right. */
        if (len >= 16 && (data[0] & 0x80) == 0) {
            put_u32(frame + FRAME_HEADER_LEN, 1);
            put_u32(frame + FRAME_HEADER_LEN + 4, 4);
            put_u32(frame + FRAME_HEADER_LEN + 8, 0);
            put_u32(frame + FRAME_HEADER_LEN + 12, from);
        }
        f.body_len = (uint32_t)len;
        ha_agent_deliver(&agent, from, frame,
                         frame_encode(&f, HA_MSG_MAGIC, frame, sizeof frame), 2);
        data += len;
        size -= len;
    }
    ha_agent_tick(&agent, 1000000000);
    ha_agent_free(&agent);
    return 0;
}
