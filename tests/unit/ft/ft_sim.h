/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides of a protected VM in one process (check_ft_sim.c): the guest, the two sides,
 * the channel between them, and the world around. */
#pragma once

#include <inttypes.h>
#include <string.h>

#include "ft/ft_commit.h"
#include "ft/ft_log.h"
#include "ft/ft_primary.h"
#include "ft/ft_secondary.h"
#include "ft/ft_sum.h"
#include "tests/unit/migrate/mig_rand.h"
#include "tests/unit/unit.h"

#define TICKS        600
#define LONGER       300
#define CALM         400 /* no disaster later, so that it comes to an end */
#define PAGES        4   /* of the guest's memory: one number each */
#define OUTPUTS_MAX  ((TICKS + LONGER) * 3)
#define CHANNEL_MAX  (64u * 1024)
#define RECORD_ROOM  512u
#define QUEUE_MAX    2048u /* records that wait for their replay */
#define EXITS_A_SUM  4u
#define SUSPECT      12u
#define CONTROL_STOP 77u /* TAKEOVER, as a control record of this test */
#define CONTROL_END  78u

/* Check writes a mark for each of its assertions; here are millions. */
#define EXPECT(condition, ...)                                                           \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            ck_abort_msg(__VA_ARGS__);                                                   \
        }                                                                                \
    } while (0)

/* The guest: each exit mixes its memory; every third makes an output, about. */
struct guest {
    uint64_t exits, chain, made;
    uint64_t page[PAGES];
    uint64_t dirty; /* bits, since the last barrier */
};

static inline void guest_mix(struct guest *g, uint64_t value)
{
    unsigned at = (unsigned)(g->page[g->exits % PAGES] % PAGES);

    g->page[at] = ft_sum64(g->page[at], &value, sizeof value);
    g->dirty |= 1u << at;
}

/* One exit; *ret_output is what it makes, if so. */
static inline bool guest_exit(struct guest *g, uint64_t *ret_output)
{
    g->exits++;
    guest_mix(g, g->exits);
    g->chain = ft_sum64(g->chain, g->page, sizeof g->page);
    *ret_output = g->chain;
    g->made += g->chain % 3 == 0;
    return g->chain % 3 == 0;
}

enum owner { ALONE = 0, WITH_TWIN, TWIN };
enum request { IDLE = 0, SUBMITTED, WON, REFUSED };

/* What waits to be heard, later. */
struct later {
    uint32_t at;
    unsigned event;
    uint64_t epoch;
};

struct side {
    bool dead, told_hold; /* the agent was asked */
    enum request request;
    uint32_t request_at, heard_at;
    struct later word; /* the agent's, at its time; at 0: none */
};

struct set { /* of a barrier */
    uint64_t number, exits, chain, made;
    uint64_t page[PAGES];
    uint64_t mask;
    bool whole;
};

enum { SPOIL_NOTHING = 0, SPOIL_DROP, SPOIL_TWICE, SPOIL_SHIFT, SPOIL_ALTER, SPOILS };

struct sim {
    uint64_t seed, number;
    uint32_t now;
    enum ft_commit_rule rule;
    bool told;

    struct guest at_pri, at_sec;
    struct ft_primary pri;
    struct ft_secondary sec;
    struct ft_commit commit;
    struct side p, s;
    uint64_t seq, barrier, barrier_done;
    bool running, switching;
    uint32_t ran_at;

    /* Towards the secondary: bytes; back: the newest of each. */
    uint8_t bytes[CHANNEL_MAX];
    uint32_t head, tail, slow_until;
    bool cut, cut_back, closed, dies_writing;
    struct ft_ack ack_on_way;
    uint32_t ack_at;
    bool hashes, hashes_wanted, diverged_sent;
    uint64_t sec_mask;
    struct set set_on_way, staged;
    uint32_t set_at;

    /* The secondary's. */
    struct ft_follow follow;
    uint8_t queue[QUEUE_MAX][RECORD_ROOM];
    uint32_t queued, next;
    struct ft_ack ack;
    uint64_t out_sec[OUTPUTS_MAX]; /* as it made them */

    /* A negative control: what is done to which input, where, and when that was seen. */
    unsigned spoil;
    uint64_t spoil_at, inputs, spoilt_exits, noticed_exits;
    bool spoilt, noticed;

    /* The world's. */
    uint64_t out_pri[OUTPUTS_MAX], seen[OUTPUTS_MAX], seen_count;
    enum owner owner;
    uint64_t epoch;
    bool live, alone;
};

/* What happened, in all runs. */
struct sim_stats {
    uint64_t live, alone, both_dead, repaired, diverged, switched, torn, cut_set;
};
extern struct sim_stats sim_stats;

#define TELL(sim, ...)                                                                   \
    do {                                                                                 \
        if ((sim)->told) {                                                               \
            fprintf(stderr, "# %4u ", (sim)->now);                                       \
            fprintf(stderr, __VA_ARGS__);                                                \
            fprintf(stderr, "\n");                                                       \
        }                                                                                \
    } while (0)

static inline uint64_t below(struct sim *sim, uint64_t bound)
{
    return mig_rand_below(&sim->seed, bound);
}

/* The outside sees an output: each in its turn, and never two values of one. */
void sim_outside_sees(struct sim *sim, uint64_t ordinal, uint64_t value);
/* One of the two sides sends without asking from here on. */
void sim_may_send(const struct sim *sim);
/* The agent's word, at its time. */
static inline void sim_word_to(struct side *side, uint32_t at, unsigned event,
                               uint64_t epoch)
{
    side->word = (struct later){at, event, epoch};
}

/* What happens to each, and what it does in a tick. */
void sim_pri_event(struct sim *sim, enum ft_primary_event event, uint64_t epoch);
void sim_sec_event(struct sim *sim, enum ft_secondary_event event, uint64_t epoch);
/* Outputs that may leave, leave. */
void sim_let_out(struct sim *sim);
void sim_primary_turn(struct sim *sim);
void sim_secondary_turn(struct sim *sim);
void sim_channel_turn(struct sim *sim);
void sim_agents_turn(struct sim *sim);
void sim_disaster(struct sim *sim);
