/* SPDX-License-Identifier: Apache-2.0 */
/* A virtqueue whose whole memory is the input: configuration, then RAM. Chains are
 * popped, used in full and pushed. */
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/virtq.h"

#define RAM_LEN 0x2000

static uint8_t ram[RAM_LEN] __attribute__((aligned(4096)));
static uint64_t dirty[1];
static uint8_t buf[RAM_LEN * 4];

static void use_chain(struct gmem *gm, struct virtq *q, const struct virtq_chain *chain)
{
    unsigned count = chain->readable_count + chain->writable_count;
    uint32_t readable = chain->readable_len, writable = chain->writable_len;

    BUG_ON(count == 0 || count > q->size || chain->head >= q->size);
    for (unsigned i = 0; i < count; i++) {
        BUG_ON(!gmem_check(gm, chain->seg[i].addr, chain->seg[i].len,
                           i >= chain->readable_count));
    }
    readable = readable < sizeof buf ? readable : sizeof buf;
    writable = writable < sizeof buf ? writable : sizeof buf;
    BUG_ON(!virtq_copy_from(gm, chain->seg, chain->readable_count, 0, buf, readable));
    BUG_ON(!virtq_copy_to(gm, chain->seg + chain->readable_count, chain->writable_count,
                          0, buf, writable));
    BUG_ON(virtq_copy_from(gm, chain->seg, chain->readable_count, chain->readable_len,
                           buf, 1));
    BUG_ON(!virtq_push(q, gm, chain->head, chain->writable_len));
}

enum { SERVED, SEVERAL, BOTH_SIDES, BROKEN };
FUZZ_GOALS("chain served", "chain of several", "readable and writable", "broken")

FUZZ_ONE(data, len)
{
    struct gmem gm = {0};
    struct virtq q;
    struct virtq_chain chain;
    uint16_t config[4];
    bool event_idx;

    if (len < sizeof config) {
        return 0;
    }
    memcpy(config, data, sizeof config);
    data += sizeof config;
    len -= sizeof config;
    memset(ram, 0, sizeof ram);
    memcpy(ram, data, len < RAM_LEN ? len : RAM_LEN);
    BUG_ON(gmem_add(&gm, (struct gpa){0}, RAM_LEN, ram, false, dirty) != 0);
    virtq_reset(&q, VIRTQ_SIZE_MAX);
    q.size = config[0] & 0x3FF;
    event_idx = config[0] >> 15 != 0;
    q.desc = config[1] & 0x3FF0;
    q.avail = config[2] & 0x3FFF;
    q.used = config[3] & 0x3FFF;
    if (!virtq_enable(&q, &gm)) {
        return 0;
    }
    for (unsigned i = 0; i < 600; i++) {
        enum virtq_status status = virtq_pop(&q, &gm, &chain);

        fuzz_reach(BROKEN, status == VIRTQ_BROKEN);
        if (status != VIRTQ_CHAIN) {
            break;
        }
        fuzz_reach(SERVED, true);
        fuzz_reach(SEVERAL, chain.readable_count + chain.writable_count > 1);
        fuzz_reach(BOTH_SIDES, chain.readable_count > 0 && chain.writable_count > 0);
        BUG_ON(virtq_in_flight_count(&q) != 1);
        if (i % 7 == 3) {
            virtq_unpop(&q, &chain);
            BUG_ON(virtq_pop(&q, &gm, &chain) != VIRTQ_CHAIN);
        }
        use_chain(&gm, &q, &chain);
        virtq_wants_interrupt(&q, &gm, event_idx);
    }
    virtq_rearm(&q, &gm, event_idx);
    BUG_ON(virtq_in_flight_count(&q) != 0);
    return 0;
}
