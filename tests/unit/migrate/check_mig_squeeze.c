/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_squeeze.h"

#include "base/units.h"
#include "tests/unit/unit.h"

#define MIB   (UINT64_C(1) << 20)
#define FRAME (2 * MIB)

/* A sender on paper: a socket that holds `buffer` bytes, a link that empties it. */
struct path {
    uint64_t link_bps, pack_bps, permille; /* what is left of a page */
    uint64_t buffer;
    uint64_t now_ns;
    uint64_t held_at_ns, held; /* in the socket, when it was looked at */
    uint64_t frames, compressed;
    struct mig_squeeze s;
};

static uint64_t time_for(uint64_t bytes, uint64_t bps)
{
    return bytes * 1000 / (bps / 1000) * 1000;
}

static void drain(struct path *p)
{
    uint64_t gone = p->link_bps / 1000 * ((p->now_ns - p->held_at_ns) / 1000) / 1000;

    p->held = gone < p->held ? p->held - gone : 0;
    p->held_at_ns = p->now_ns;
}

static void send_one(struct path *p)
{
    uint64_t wire = FRAME, began;

    if (mig_squeeze_wants(&p->s)) {
        uint64_t ns = time_for(FRAME, p->pack_bps);

        p->now_ns += ns;
        wire = FRAME / 1000 * p->permille;
        mig_squeeze_packed(&p->s, FRAME, wire, ns);
        wire = wire < FRAME ? wire : FRAME;
        p->compressed++;
    }
    began = p->now_ns;
    p->now_ns += time_for(wire, 4000 * MIB); /* the copy into the socket */
    drain(p);
    if (p->held + wire > p->buffer) {
        p->now_ns += time_for(p->held + wire - p->buffer, p->link_bps);
        drain(p);
    }
    p->held += wire;
    p->frames++;
    mig_squeeze_sent(&p->s, p->now_ns, wire, p->now_ns - began);
}

/* Page bytes per second over so many seconds. */
static uint64_t run(struct path *p, uint64_t seconds)
{
    uint64_t began = p->now_ns, frames = p->frames;

    while (p->now_ns - began < seconds * NSEC_PER_SEC) {
        send_one(p);
    }
    return (p->frames - frames) * FRAME / seconds;
}

static struct path path_make(uint64_t link_mib, uint64_t pack_mib, uint64_t permille)
{
    struct path p = {.link_bps = link_mib * MIB,
                     .pack_bps = pack_mib * MIB,
                     .permille = permille,
                     .buffer = 4 * MIB,
                     .now_ns = NSEC_PER_SEC};

    p.held_at_ns = p.now_ns;
    mig_squeeze_init(&p.s, p.now_ns);
    return p;
}

/* 1 Gb/s and less, with pages that shrink to a third: nearly all the compressor allows.
 */
START_TEST(a_slow_link_carries_more)
{
    static const uint64_t link[] = {5, 12, 50, 110};

    for (size_t i = 0; i < ARRAY_SIZE(link); i++) {
        struct path p = path_make(link[i], 350, 330);
        uint64_t can = link[i] * 3 < 300 ? link[i] * 3 : 300, bps;

        bps = run(&p, 20);
        ck_assert_uint_gt(bps, can * MIB * 85 / 100);
        ck_assert(p.s.on);
    }
}
END_TEST

/* Never much slower than without. */
START_TEST(it_keeps_out_of_the_way)
{
    static const struct {
        uint64_t link, pack, permille;
    } at[] = {{1000, 350, 330}, {300, 350, 100}, {110, 350, 1000},
              {110, 350, 950},  {110, 60, 330},  {20, 350, 990}};

    for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
        struct path p = path_make(at[i].link, at[i].pack, at[i].permille);
        uint64_t bps = run(&p, 20);

        ck_assert_uint_gt(bps, at[i].link * MIB * 94 / 100);
        ck_assert_uint_lt(p.compressed, p.frames / 20 + 16);
    }
}
END_TEST

START_TEST(it_notices_what_changes)
{
    struct path p = path_make(20, 350, 330);

    run(&p, 5);
    ck_assert(p.s.on);
    p.permille = 1000; /* other pages */
    run(&p, 2);
    ck_assert(!p.s.on);
    p.permille = 330;
    run(&p, 20);
    ck_assert(p.s.on);
    p.link_bps = 1500 * MIB; /* another link */
    run(&p, 6);
    ck_assert(!p.s.on);
    ck_assert_uint_gt(run(&p, 10), 1300 * MIB);
    p.link_bps = 20 * MIB;
    run(&p, 20);
    ck_assert(p.s.on);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_squeeze");
    TCase *tc = tcase_create("squeeze");

    tcase_add_test(tc, a_slow_link_carries_more);
    tcase_add_test(tc, it_keeps_out_of_the_way);
    tcase_add_test(tc, it_notices_what_changes);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
