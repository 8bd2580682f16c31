/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both sides of a protected VM in one process, by seed: the state machines, the output
 * rule and the log's codec as they are; a guest that is a number; a channel of bytes that
 * is slow, is cut in the middle of a record, goes one way, flips a bit; agents that are
 * slow; a claim store; crashes at any moment; a secondary that goes another way now and
 * then. FT_SIM_SEEDS: how many (default 100000); FT_SIM_SEED: one, with its story.
 *
 * In every run: at most one side is free to send; every output that the outside has seen
 * is one that whoever goes on has made, with the same value (0 lost, 0 contradicted);
 * what differs at a barrier is applied as a whole or not at all; and it ends with a guest
 * that runs, unless both sides are dead.
 *
 * Negative controls: records that are dropped, doubled, moved by a position or altered
 * (sums mended) must be noticed by the next EXIT record.
 */
#include <stdlib.h>

#include "tests/unit/ft/ft_sim.h"

static bool goes_on(const struct sim *sim)
{
    bool pair = !sim->cut && !sim->closed && sim->now - sim->ran_at < 100;

    return (!sim->p.dead && (sim->alone || pair)) || (!sim->s.dead && sim->live);
}

/* A twin that died with the claim is HA's matter, as any VM that runs alone. */
static bool is_for_ha(const struct sim *sim)
{
    return sim->s.dead && (sim->p.dead || sim->owner == TWIN);
}

static void run(struct sim *sim, uint64_t number, unsigned spoil)
{
    uint32_t at[3];

    memset(sim, 0, offsetof(struct sim, bytes));
    memset(&sim->head, 0, offsetof(struct sim, queue) - offsetof(struct sim, head));
    memset(&sim->queued, 0, offsetof(struct sim, out_sec) - offsetof(struct sim, queued));
    memset(&sim->seen_count, 0, sizeof *sim - offsetof(struct sim, seen_count));
    sim->number = sim->seed = number;
    sim->told = getenv("FT_SIM_SEED") != NULL;
    sim->spoil = spoil;
    sim->spoil_at = 1 + below(sim, 60);
    /* `received` only where nothing differs: else it is the window of README.md. */
    sim->rule = below(sim, 3) == 0 ? FT_COMMIT_RECEIVED : FT_COMMIT_VERIFIED;
    sim->switching = below(sim, 3) == 0;
    sim->epoch = 1;
    for (unsigned i = 0; i < PAGES; i++) {
        sim->at_pri.page[i] = below(sim, UINT64_MAX);
    }
    sim->at_sec = sim->at_pri;
    ft_commit_init(&sim->commit, sim->rule, 0);
    ft_primary_init(&sim->pri, 1);
    ft_secondary_init(&sim->sec);
    for (unsigned i = 0; i < 3; i++) {
        at[i] = spoil == SPOIL_NOTHING && (i == 0 || below(sim, 3) == 0)
                    ? 5 + (uint32_t)below(sim, CALM)
                    : 0;
    }
    sim_sec_event(sim, FT_SEC_SYNCED, 0);
    sim_pri_event(sim, FT_PRI_SYNCED, 0);
    /* A little longer where something is under way at the end. */
    for (sim->now = 1; sim->now < TICKS ||
                       (!goes_on(sim) && !is_for_ha(sim) && sim->now < TICKS + LONGER);
         sim->now++) {
        for (unsigned i = 0; i < 3; i++) {
            if (at[i] == sim->now) {
                sim_disaster(sim);
            }
        }
        if (sim->cut && !sim->closed) {
            sim->tail = sim->head; /* nothing arrives; what was on its way is gone */
        }
        sim_primary_turn(sim);
        sim_secondary_turn(sim);
        sim_channel_turn(sim);
        sim_agents_turn(sim);
    }
    EXPECT(goes_on(sim) || is_for_ha(sim),
           "seed %" PRIu64 ": nobody goes on: primary %s%s, secondary %s%s", number,
           ft_primary_state_str(sim->pri.state), sim->p.dead ? " (dead)" : "",
           ft_secondary_state_str(sim->sec.state), sim->s.dead ? " (dead)" : "");
    sim_stats.live += sim->live;
    sim_stats.alone += sim->alone;
    sim_stats.both_dead += is_for_ha(sim);
    sim_stats.switched += sim->live && !sim->p.dead && sim->pri.state >= FT_PRI_SWITCH;
}

START_TEST(seeds)
{
    const char *count = getenv("FT_SIM_SEEDS"), *one = getenv("FT_SIM_SEED");
    uint64_t n = count != NULL ? strtoull(count, NULL, 10) : 100000;
    struct sim *sim = calloc(1, sizeof *sim);

    ck_assert_ptr_nonnull(sim);
    if (one != NULL) {
        run(sim, strtoull(one, NULL, 10), SPOIL_NOTHING);
    } else {
        for (uint64_t i = 1; i <= n; i++) {
            run(sim, i, SPOIL_NOTHING);
        }
        fprintf(stderr,
                "# %" PRIu64 " seeds: twin live %" PRIu64 ", primary alone %" PRIu64
                ", both dead %" PRIu64 ", repaired %" PRIu64 ", diverged %" PRIu64
                ", switched over %" PRIu64 ", torn records %" PRIu64 ", sets cut %" PRIu64
                "\n",
                n, sim_stats.live, sim_stats.alone, sim_stats.both_dead,
                sim_stats.repaired, sim_stats.diverged, sim_stats.switched,
                sim_stats.torn, sim_stats.cut_set);
        /* It is no proof if it did not happen. */
        ck_assert(sim_stats.live > n / 10 && sim_stats.alone > n / 20 &&
                  sim_stats.repaired > n / 10);
        ck_assert(sim_stats.diverged > n / 20 && sim_stats.switched > 0 &&
                  sim_stats.torn > n / 100);
        ck_assert(sim_stats.cut_set > n / 1000);
    }
    free(sim);
}
END_TEST

/* An input that is lost, twice, elsewhere or another is noticed by the next EXIT record,
 * an output at the latest: before the outside sees what it led to. */
START_TEST(negative_controls)
{
    struct sim *sim = calloc(1, sizeof *sim);
    unsigned spoilt = 0;

    ck_assert_ptr_nonnull(sim);
    for (uint64_t i = 1; i <= 500; i++) {
        run(sim, i, (unsigned)_i);
        spoilt += sim->spoilt;
        ck_assert_msg(!sim->spoilt || sim->noticed,
                      "seed %" PRIu64 ": an input was spoilt, nobody noticed", i);
        ck_assert_msg(!sim->spoilt ||
                          sim->noticed_exits <= sim->spoilt_exits + EXITS_A_SUM + 1,
                      "seed %" PRIu64 ": spoilt at %" PRIu64 ", noticed at %" PRIu64, i,
                      sim->spoilt_exits, sim->noticed_exits);
    }
    ck_assert_uint_gt(spoilt, 450);
    free(sim);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ft_sim");
    TCase *tc = tcase_create("sim");

    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, seeds);
    tcase_add_loop_test(tc, negative_controls, SPOIL_DROP, SPOILS);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
