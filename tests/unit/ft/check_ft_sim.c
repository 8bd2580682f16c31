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
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ft/ft_commit.h"
#include "ft/ft_log.h"
#include "ft/ft_primary.h"
#include "ft/ft_secondary.h"
#include "ft/ft_sum.h"
#include "tests/unit/migrate/mig_rand.h"
#include "tests/unit/unit.h"
#include "vmm/machine.h"

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

static void guest_mix(struct guest *g, uint64_t value)
{
    unsigned at = (unsigned)(g->page[g->exits % PAGES] % PAGES);

    g->page[at] = ft_sum64(g->page[at], &value, sizeof value);
    g->dirty |= 1u << at;
}

/* One exit; *ret_output is what it makes, if so. */
static bool guest_exit(struct guest *g, uint64_t *ret_output)
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

static uint64_t stat_live, stat_alone, stat_both_dead, stat_repaired, stat_diverged,
    stat_switched, stat_torn, stat_cut_set;

#define TELL(sim, ...)                                                                   \
    do {                                                                                 \
        if ((sim)->told) {                                                               \
            fprintf(stderr, "# %4u ", (sim)->now);                                       \
            fprintf(stderr, __VA_ARGS__);                                                \
            fprintf(stderr, "\n");                                                       \
        }                                                                                \
    } while (0)

static uint64_t below(struct sim *sim, uint64_t bound)
{
    return mig_rand_below(&sim->seed, bound);
}

/* The outside ------------------------------------------------------------------------ */
static void outside_sees(struct sim *sim, uint64_t ordinal, uint64_t value)
{
    EXPECT(ordinal <= OUTPUTS_MAX - 1, "%s", "ordinal");
    if (ordinal <= sim->seen_count) { /* twice: the same */
        EXPECT(sim->seen[ordinal] == value,
               "seed %" PRIu64 ": output %" PRIu64 " contradicts what was seen",
               sim->number, ordinal);
        return;
    }
    EXPECT(ordinal == sim->seen_count + 1,
           "seed %" PRIu64 ": output %" PRIu64 " left before %" PRIu64, sim->number,
           ordinal, sim->seen_count + 1);
    sim->seen[ordinal] = value;
    sim->seen_count = ordinal;
}

static void may_send(const struct sim *sim)
{
    EXPECT(!(sim->live && sim->alone), "seed %" PRIu64 ": two are free to send",
           sim->number);
}

/* The channel ------------------------------------------------------------------------ */
static void put_record(struct sim *sim, struct bytes_wr *wr, const uint8_t *buf)
{
    size_t len = ft_finish(wr, ++sim->seq);

    EXPECT(len > 0, "%s", "len");
    ft_commit_logged(&sim->commit, sim->seq, sim->at_pri.exits);
    if (sim->closed || sim->cut || sim->tail + len > CHANNEL_MAX) {
        return; /* the shell would stop the vCPU; here the channel is as good as dead */
    }
    if (sim->dies_writing && !sim->p.dead) {
        len = below(sim, len); /* the rest is never sent */
        sim->p.dead = sim->closed = true;
        sim->running = false;
    }
    memcpy(sim->bytes + sim->tail, buf, len);
    sim->tail += (uint32_t)len;
}

static void put_u64(struct sim *sim, enum ft_type type, uint64_t a, uint64_t b)
{
    uint8_t buf[RECORD_ROOM];
    struct bytes_wr wr;

    ft_begin(&wr, buf, sizeof buf, type, 0, sim->at_pri.exits, 0);
    ft_put_u64(&wr, a);
    if (type == FT_BARRIER || type == FT_BEAT) {
        ft_put_u64(&wr, b);
    }
    put_record(sim, &wr, buf);
}

enum { SPOIL_NOTHING = 0, SPOIL_DROP, SPOIL_TWICE, SPOIL_SHIFT, SPOIL_ALTER, SPOILS };

static void put_input(struct sim *sim, uint64_t value)
{
    struct dev_input in = {.type = INPUT_CLOCK, .now_ns = value};
    uint8_t buf[RECORD_ROOM];
    struct bytes_wr wr;
    unsigned spoil = ++sim->inputs == sim->spoil_at ? sim->spoil : SPOIL_NOTHING;

    if (spoil != SPOIL_NOTHING) {
        sim->spoilt = true;
        sim->spoilt_exits = sim->at_pri.exits;
    }
    if (spoil == SPOIL_DROP) {
        return; /* and nobody counts it */
    }
    in.now_ns ^= spoil == SPOIL_ALTER;

    for (unsigned i = 0; i < (spoil == SPOIL_TWICE ? 2u : 1u); i++) {
        ft_begin(&wr, buf, sizeof buf, FT_INPUT, 0,
                 sim->at_pri.exits + (spoil == SPOIL_SHIFT), MACHINE_DEV_PM);
        ft_put_input(&wr, &in);
        put_record(sim, &wr, buf);
    }
}

static void put_output(struct sim *sim, uint64_t ordinal, uint64_t value)
{
    struct ft_output out = {.ordinal = ordinal,
                            .kind = TAPE_OUT_FRAME,
                            .len = sizeof value,
                            .sum = ft_sum128(&value, sizeof value)};
    uint8_t buf[RECORD_ROOM];
    struct bytes_wr wr;

    ft_begin(&wr, buf, sizeof buf, FT_OUTPUT, 0, sim->at_pri.exits, 0);
    ft_put_output(&wr, &out);
    put_record(sim, &wr, buf);
}

static void put_exit(struct sim *sim)
{
    struct ft_exit x = {.kind = TAPE_EXIT_OUT, .chain = sim->at_pri.chain};
    uint8_t buf[RECORD_ROOM];
    struct bytes_wr wr;

    ft_begin(&wr, buf, sizeof buf, FT_EXIT, 0, sim->at_pri.exits, 0);
    ft_put_exit(&wr, &x);
    put_record(sim, &wr, buf);
}

/* The primary ------------------------------------------------------------------------ */
static void word_to(struct side *side, uint32_t at, unsigned event, uint64_t epoch)
{
    side->word = (struct later){at, event, epoch};
}

static void pri_event(struct sim *sim, enum ft_primary_event event, uint64_t epoch);

static void let_out(struct sim *sim)
{
    uint64_t ordinal;

    while (!sim->p.dead && ft_primary_may_release(&sim->pri) &&
           ft_commit_next(&sim->commit, sim->now, &ordinal)) {
        outside_sees(sim, ordinal, sim->out_pri[ordinal]);
    }
}

static void pri_does(struct sim *sim, const struct ft_acts *acts)
{
    uint32_t bits = acts->bits;
    uint64_t ordinal;

    if (bits & FT_PRI_DO_STOP) {
        sim->running = false;
    }
    if (bits & FT_PRI_DO_SEND_START) {
        put_u64(sim, FT_BEAT, sim->now, 0);
    }
    if (bits & FT_PRI_DO_SEND_BARRIER) {
        put_u64(sim, FT_BARRIER, ++sim->barrier, 0);
    }
    if (bits & FT_PRI_DO_SEND_TAKEOVER) {
        put_u64(sim, FT_CONTROL, CONTROL_STOP, 0);
    }
    if (bits & FT_PRI_DO_SEND_END) {
        put_u64(sim, FT_CONTROL, CONTROL_END, 0);
    }
    if (bits & FT_PRI_DO_RELEASE) {
        sim->alone = true;
        may_send(sim);
        while (ft_commit_next_free(&sim->commit, &ordinal)) {
            outside_sees(sim, ordinal, sim->out_pri[ordinal]);
        }
    }
    if (bits & FT_PRI_DO_RUN) {
        sim->running = true;
    }
    if (bits & (FT_PRI_DO_TELL_HOLD | FT_PRI_DO_TELL_SWITCH)) {
        sim->p.told_hold = true;
    }
    if (bits & FT_PRI_DO_TELL_HEARD) {
        if (sim->p.request == IDLE) {
            sim->p.told_hold = false;
            word_to(&sim->p, sim->now + 1, FT_PRI_GO_ON, 0);
        }
    }
    if (bits & FT_PRI_DO_TELL_ARMED) {
        sim->owner = WITH_TWIN;
        word_to(&sim->p, sim->now + 1 + (uint32_t)below(sim, 6), FT_PRI_TWIN_WON,
                ++sim->epoch);
    }
    if (bits & FT_PRI_DO_DISCARD) {
        sim->p.dead = true;
    }
}

static void pri_event(struct sim *sim, enum ft_primary_event event, uint64_t epoch)
{
    enum ft_primary_state before = sim->pri.state;
    struct ft_acts acts;

    ft_primary_step(&sim->pri, &(struct ft_input){.event = event, .epoch = epoch}, &acts);
    if (sim->pri.state != before) {
        TELL(sim, "primary %s: %s -> %s", ft_primary_event_str(event),
             ft_primary_state_str(before), ft_primary_state_str(sim->pri.state));
    }
    pri_does(sim, &acts);
    let_out(sim);
}

static void primary_runs(struct sim *sim)
{
    uint64_t value, count = 1 + below(sim, 3);

    for (uint64_t i = 0; i < count && sim->running; i++) {
        if (below(sim, 3) == 0) { /* at a position: recorded first */
            value = below(sim, 1u << 20);
            put_input(sim, value);
            guest_mix(&sim->at_pri, value);
        }
        if (guest_exit(&sim->at_pri, &value)) {
            uint64_t ordinal = sim->at_pri.made;

            EXPECT(ordinal < OUTPUTS_MAX, "%s", "ordinal");
            sim->out_pri[ordinal] = value;
            if (sim->alone) {
                outside_sees(sim, ordinal, value);
                continue;
            }
            put_exit(sim);
            put_output(sim, ordinal, value);
            ft_commit_hold(&sim->commit, sim->seq, sim->now, ordinal, false);
        } else if (!sim->alone && sim->at_pri.exits % EXITS_A_SUM == 0) {
            put_exit(sim);
        }
    }
}

/* The pages that either wrote to, if the secondary said which. */
static void send_set(struct sim *sim)
{
    struct set *set = &sim->set_on_way;

    if (sim->set_at != 0 || !sim->hashes) {
        return;
    }
    sim->hashes = false;
    set->number = sim->barrier;
    set->exits = sim->at_pri.exits;
    set->chain = sim->at_pri.chain;
    set->made = sim->at_pri.made;
    set->mask = sim->at_pri.dirty | sim->sec_mask;
    memcpy(set->page, sim->at_pri.page, sizeof set->page);
    set->whole = !sim->cut;
    sim->at_pri.dirty = 0;
    sim->set_at = sim->now + 1 + (uint32_t)below(sim, 5);
}

static void primary_turn(struct sim *sim)
{
    if (sim->p.dead) {
        return;
    }
    if (sim->p.word.at != 0 && sim->now >= sim->p.word.at) {
        struct later word = sim->p.word;

        sim->p.word.at = 0;
        pri_event(sim, (enum ft_primary_event)word.event, word.epoch);
    }
    if (sim->running) {
        sim->ran_at = sim->now;
        primary_runs(sim);
    }
    if (!sim->alone && sim->pri.state >= FT_PRI_ON &&
        sim->pri.state <= FT_PRI_SWITCHING) {
        if (sim->now % 4 == 0) {
            put_u64(sim, FT_BEAT, sim->now, sim->commit.left);
        }
        if (sim->now - sim->p.heard_at > SUSPECT) {
            pri_event(sim, FT_PRI_SILENT, 0);
        }
    }
    if (sim->pri.state == FT_PRI_ON && sim->spoil == SPOIL_NOTHING &&
        below(sim, 25) == 0) {
        pri_event(sim, FT_PRI_BARRIER_DUE, 0);
    }
    if (sim->pri.state == FT_PRI_ON && sim->switching && below(sim, 40) == 0) {
        pri_event(sim, FT_PRI_SWITCHOVER, 0);
    }
    if (sim->pri.state == FT_PRI_BARRIER || sim->pri.state == FT_PRI_HOLD_BARRIER ||
        sim->pri.state == FT_PRI_SWITCHING) {
        send_set(sim);
    }
    if (sim->closed && sim->pri.state >= FT_PRI_ARM && !sim->pri.broken) {
        pri_event(sim, FT_PRI_BROKEN, 0);
    }
    let_out(sim);
}

/* The secondary ---------------------------------------------------------------------- */
static void sec_does(struct sim *sim, const struct ft_acts *acts)
{
    uint32_t bits = acts->bits;

    if (bits & FT_SEC_DO_ACKS_OFF) {
        sim->ack_at = sim->ack_at != 0 && below(sim, 2) ? sim->ack_at : 0;
    }
    if (bits & FT_SEC_DO_DROP_SET) {
        sim->staged.whole = false;
    }
    if (bits & FT_SEC_DO_APPLY) {
        const struct set *set = &sim->staged;
        bool differed = sim->at_sec.chain != set->chain;

        for (unsigned i = 0; i < PAGES; i++) {
            if (set->mask >> i & 1) {
                differed |= sim->at_sec.page[i] != set->page[i];
                sim->at_sec.page[i] = set->page[i];
            }
        }
        stat_repaired += differed;
        sim->at_sec.exits = set->exits;
        sim->at_sec.chain = set->chain;
        sim->at_sec.made = set->made;
        sim->at_sec.dirty = 0;
        EXPECT(memcmp(sim->at_sec.page, set->page, sizeof set->page) == 0,
               "seed %" PRIu64 ": half a set", sim->number);
        sim->ack.barrier = set->number;
        sim->ack.verified = set->made;
        sim->ack.replayed = set->exits;
        for (uint64_t i = 1; i <= set->made; i++) {
            sim->out_sec[i] = sim->out_pri[i];
        }
        sim->staged.whole = false;
    }
    if (bits & FT_SEC_DO_SEND_HASHES) {
        sim->hashes_wanted = true;
    }
    if (bits & FT_SEC_DO_SEND_DIVERGED) {
        sim->diverged_sent = true;
        stat_diverged++;
    }
    if (bits & FT_SEC_DO_TELL_DRAINED) {
        sim->s.told_hold = true;
    }
    if (bits & FT_SEC_DO_TELL_HEARD) {
        if (sim->s.request == IDLE) {
            sim->s.told_hold = false;
            word_to(&sim->s, sim->now + 1, FT_SEC_GO_ON, 0);
        }
    }
    if (bits & FT_SEC_DO_GO_LIVE) {
        sim->live = true;
        may_send(sim);
        EXPECT(sim->at_sec.made >= sim->seen_count,
               "seed %" PRIu64 ": output %" PRIu64 " was seen, the twin made %" PRIu64,
               sim->number, sim->seen_count, sim->at_sec.made);
        for (uint64_t i = 1; i <= sim->at_sec.made; i++) {
            outside_sees(sim, i, sim->out_sec[i]);
        }
    }
    if (bits & FT_SEC_DO_CLOSE) {
        sim->closed = true;
    }
    if (bits & FT_SEC_DO_DISCARD) {
        sim->s.dead = true;
        sim->closed = true;
    }
}

static void sec_event(struct sim *sim, enum ft_secondary_event event, uint64_t epoch)
{
    enum ft_secondary_state before = sim->sec.state;
    struct ft_acts acts;

    ft_secondary_step(&sim->sec, &(struct ft_input){.event = event, .epoch = epoch},
                      &acts);
    if (sim->sec.state != before) {
        TELL(sim, "secondary %s: %s -> %s", ft_secondary_event_str(event),
             ft_secondary_state_str(before), ft_secondary_state_str(sim->sec.state));
    }
    sec_does(sim, &acts);
}

static void notice(struct sim *sim)
{
    if (sim->spoilt && !sim->noticed) {
        sim->noticed = true;
        sim->noticed_exits = sim->at_sec.exits;
    }
}

/* Bytes become whole records, or the channel is broken. */
static void take_bytes(struct sim *sim)
{
    while (sim->tail > sim->head && sim->queued < QUEUE_MAX) {
        const uint8_t *at = sim->bytes + sim->head;
        struct ft_record record;
        enum ft_reason reason = ft_check(at, sim->tail - sim->head, &record);

        if (reason == FT_NEED_MORE) {
            stat_torn += sim->closed;
            return;
        }
        if (reason != FT_OK || ft_follow(&sim->follow, &record) != FT_OK) {
            TELL(sim, "a record is refused: %s", ft_reason_str(reason));
            sim->closed = true;
            sim->head = sim->tail;
            notice(sim);
            return;
        }
        EXPECT(record.len <= RECORD_ROOM, "%s", "record.len");
        memcpy(sim->queue[sim->queued++], at, record.len);
        sim->head += record.len;
        sim->ack.received = record.seq;
        sim->s.heard_at = sim->now;
        if (sim->sec.state >= FT_SEC_QUIET && sim->sec.state <= FT_SEC_QUIET_DIVERGED) {
            sec_event(sim, FT_SEC_HEARD, 0);
        }
    }
}

/* To a position. False: stopped there. */
static bool replay_to(struct sim *sim, uint64_t exits)
{
    uint64_t value;

    while (sim->at_sec.exits < exits) {
        if (guest_exit(&sim->at_sec, &value)) {
            sim->out_sec[sim->at_sec.made] = value;
        }
    }
    return sim->at_sec.exits == exits;
}

static void replay_one(struct sim *sim)
{
    struct ft_record record;
    struct dev_input in;
    struct ft_output out;
    struct ft_exit x;
    uint64_t value[2];

    EXPECT(ft_check(sim->queue[sim->next], RECORD_ROOM, &record) == FT_OK,
           "seed %" PRIu64 ": a record cannot be read", sim->number);
    if (sim->sec.state == FT_SEC_READY) { /* the first one: START */
        sec_event(sim, FT_SEC_START, sim->epoch);
    }
    if (!replay_to(sim, record.exits)) {
        notice(sim);
        sec_event(sim, FT_SEC_DIFFERS, 0);
        return;
    }
    sim->next++;
    sim->ack.replayed = record.exits;
    switch (record.type) {
    case FT_INPUT:
        EXPECT(ft_get_input(&record, &in) == FT_OK,
               "seed %" PRIu64 ": a record cannot be read", sim->number);
        guest_mix(&sim->at_sec, in.now_ns);
        if (sim->spoil == SPOIL_NOTHING && sim->rule == FT_COMMIT_VERIFIED &&
            below(sim, 150) == 0) { /* it goes another way */
            guest_mix(&sim->at_sec, 1);
            TELL(sim, "the secondary goes another way at %" PRIu64, sim->at_sec.exits);
        }
        break;
    case FT_EXIT:
        EXPECT(ft_get_exit(&record, &x) == FT_OK,
               "seed %" PRIu64 ": a record cannot be read", sim->number);
        if (x.chain != sim->at_sec.chain) {
            notice(sim);
            sec_event(sim, FT_SEC_DIFFERS, 0);
        }
        break;
    case FT_OUTPUT:
        EXPECT(ft_get_output(&record, &out) == FT_OK,
               "seed %" PRIu64 ": a record cannot be read", sim->number);
        value[0] = sim->out_sec[out.ordinal];
        if (sim->at_sec.made == out.ordinal) {
            struct ft_sum mine = ft_sum128(value, sizeof value[0]);

            if (memcmp(&mine, &out.sum, sizeof mine) == 0) {
                sim->ack.verified = out.ordinal;
                break;
            }
        }
        notice(sim);
        sec_event(sim, FT_SEC_DIFFERS, 0);
        break;
    case FT_BARRIER:
        sec_event(sim, FT_SEC_AT_BARRIER, 0);
        break;
    case FT_CONTROL:
        EXPECT(ft_get_u64(&record, value, 1) == FT_OK,
               "seed %" PRIu64 ": a record cannot be read", sim->number);
        sec_event(sim, value[0] == CONTROL_END ? FT_SEC_GOT_END : FT_SEC_AT_TAKEOVER, 0);
        break;
    default: /* BEAT */
        break;
    }
}

/* A secondary that went another way waits for the barrier, and drops what is before it.
 */
static void skip_to_barrier(struct sim *sim)
{
    struct ft_record record;

    while (sim->next < sim->queued) {
        EXPECT(ft_check(sim->queue[sim->next++], RECORD_ROOM, &record) == FT_OK,
               "seed %" PRIu64 ": a record cannot be read", sim->number);
        if (record.type == FT_BARRIER) {
            sim->hashes_wanted = true;
            return;
        }
    }
}

static void secondary_turn(struct sim *sim)
{
    uint64_t count = 1 + below(sim, 8), value;

    if (sim->s.dead) {
        return;
    }
    if (sim->s.word.at != 0 && sim->now >= sim->s.word.at) {
        struct later word = sim->s.word;

        sim->s.word.at = 0;
        sec_event(sim, (enum ft_secondary_event)word.event, word.epoch);
    }
    if (sim->live) {
        if (guest_exit(&sim->at_sec, &value)) {
            outside_sees(sim, sim->at_sec.made, value);
        }
        return;
    }
    if (sim->next == sim->queued) {
        sim->next = sim->queued = 0;
    }
    if (sim->now >= sim->slow_until && !sim->sec.broken) {
        take_bytes(sim);
    }
    if (sim->head == sim->tail) {
        sim->head = sim->tail = 0;
    }
    if (sim->sec.state == FT_SEC_READY && sim->queued > 0) {
        replay_one(sim);
    }
    while (count-- > 0 && sim->next < sim->queued &&
           (sim->sec.state == FT_SEC_REPLAY || sim->sec.state == FT_SEC_QUIET)) {
        replay_one(sim);
    }
    if (sim->sec.state == FT_SEC_DIVERGED) {
        skip_to_barrier(sim);
    }
    if (sim->sec.state == FT_SEC_QUIET && sim->next == sim->queued) {
        sec_event(sim, FT_SEC_CAUGHT_UP, 0);
    }
    if (sim->closed && !sim->sec.broken && !sim->s.dead && !sim->live) {
        sec_event(sim, FT_SEC_BROKEN, 0);
    } else if (sim->now - sim->s.heard_at > SUSPECT) {
        sec_event(sim, FT_SEC_SILENT, 0);
    }
    if (ft_secondary_may_ack(&sim->sec) && sim->ack_at == 0 && below(sim, 2)) {
        sim->ack_on_way = sim->ack;
        sim->ack_at = sim->now + 1 + (uint32_t)below(sim, 4);
    }
}

/* The way back, and sets ------------------------------------------------------------- */
static void channel_turn(struct sim *sim)
{
    bool to_pri = !sim->cut_back && !sim->p.dead;

    if (sim->ack_at != 0 && sim->now >= sim->ack_at) {
        sim->ack_at = 0;
        if (to_pri) {
            EXPECT(ft_commit_acked(&sim->commit, &sim->ack_on_way),
                   "seed %" PRIu64 ": an acknowledgement that cannot be", sim->number);
            sim->p.heard_at = sim->now;
            if (!sim->closed) {
                pri_event(sim, FT_PRI_HEARD, 0);
            }
            if (sim->ack_on_way.barrier == sim->barrier &&
                sim->barrier_done < sim->barrier) {
                sim->barrier_done = sim->barrier;
                pri_event(sim, FT_PRI_BARRIER_DONE, 0);
            }
            let_out(sim);
        }
    }
    if (sim->closed || !to_pri) {
        return;
    }
    if (sim->diverged_sent) {
        sim->diverged_sent = false;
        pri_event(sim, FT_PRI_DIVERGED, 0);
    }
    if (sim->hashes_wanted) {
        sim->hashes_wanted = false;
        sim->hashes = true;
        sim->sec_mask = sim->at_sec.dirty;
        if (sim->sec.state == FT_SEC_DIVERGED) {
            sim->sec_mask = (1u << PAGES) - 1;
        }
    }
    if (sim->set_at != 0 && sim->now >= sim->set_at) {
        sim->set_at = 0;
        if (sim->cut || !sim->set_on_way.whole || sim->s.dead) {
            stat_cut_set++;
        } else if (sim->sec.state == FT_SEC_BARRIER ||
                   sim->sec.state == FT_SEC_DIVERGED) {
            sim->staged = sim->set_on_way;
            sim->s.heard_at = sim->now;
            sec_event(sim, FT_SEC_SET_COMPLETE, 0);
        }
    }
}

/* Agents and the store --------------------------------------------------------------- */
static void agents_turn(struct sim *sim)
{
    if (sim->p.told_hold && sim->p.request == IDLE && !sim->p.dead &&
        below(sim, sim->pri.state == FT_PRI_SWITCH ? 60 : 6) == 0) {
        sim->p.request = SUBMITTED;
        sim->p.request_at = sim->now + (uint32_t)below(sim, 10);
    }
    if (sim->s.told_hold && sim->s.request == IDLE && !sim->s.dead &&
        below(sim, 6) == 0) {
        sim->s.request = SUBMITTED;
        sim->s.request_at = sim->now + (uint32_t)below(sim, 10);
    }
    if (sim->p.request == SUBMITTED && sim->now >= sim->p.request_at) {
        sim->p.request = sim->owner != TWIN ? WON : REFUSED;
        if (sim->p.request == WON) {
            sim->owner = ALONE;
            sim->epoch++;
        }
        TELL(sim, "the primary's claim: %s", sim->p.request == WON ? "won" : "lost");
        word_to(&sim->p, sim->now + 1 + (uint32_t)below(sim, 8),
                sim->p.request == WON ? FT_PRI_ALONE_WON : FT_PRI_CLAIM_LOST, sim->epoch);
    }
    if (sim->s.request == SUBMITTED && sim->now >= sim->s.request_at) {
        sim->s.request = sim->owner == WITH_TWIN ? WON : REFUSED;
        if (sim->s.request == WON) {
            sim->owner = TWIN;
            sim->epoch++;
        }
        TELL(sim, "the twin's claim: %s", sim->s.request == WON ? "won" : "lost");
        word_to(&sim->s, sim->now + 1 + (uint32_t)below(sim, 8),
                sim->s.request == WON ? FT_SEC_CLAIM_WON : FT_SEC_DISCARD, sim->epoch);
    }
    /* The record tells each of them, some time. */
    if (sim->owner == TWIN && !sim->p.dead && below(sim, 20) == 0) {
        pri_event(sim, FT_PRI_CLAIM_LOST, 0);
    }
    if (sim->owner == ALONE && sim->epoch > 2 && !sim->s.dead && !sim->live &&
        below(sim, 20) == 0) {
        sec_event(sim, FT_SEC_DISCARD, 0);
    }
    if (sim->p.dead && !sim->s.dead && !sim->live && below(sim, 30) == 0) {
        sec_event(sim, FT_SEC_PEER_DEAD, 0);
    }
}

/* A disaster, at its time ------------------------------------------------------------ */
static void disaster(struct sim *sim)
{
    unsigned what = (unsigned)below(sim, 9);

    TELL(sim, "disaster %u", what);
    switch (what) {
    case 0: /* the primary's host dies in the middle of its next record */
        sim->dies_writing = true;
        break;
    case 1: /* or between two; a part of what it sent may arrive */
        sim->p.dead = true;
        sim->running = false;
        sim->closed = true;
        sim->tail = sim->head + (uint32_t)below(sim, sim->tail - sim->head + 1u);
        break;
    case 2:
        sim->s.dead = true;
        sim->closed = true;
        break;
    case 3: /* both ways */
        sim->closed = sim->cut = sim->cut_back = true;
        break;
    case 4: /* to the secondary */
        sim->cut = true;
        break;
    case 5: /* back */
        sim->cut_back = true;
        break;
    case 6: /* a byte on its way */
        if (sim->tail > sim->head) {
            sim->bytes[sim->head + below(sim, sim->tail - sim->head)] ^=
                (uint8_t)(1u << below(sim, 8));
        }
        break;
    case 7: /* slow for a while: false suspicion */
        sim->slow_until = sim->now + 5 + (uint32_t)below(sim, 60);
        break;
    default: /* one and then the other */
        sim->cut = true;
        sim->p.dead = sim->p.dead || below(sim, 2);
        sim->closed = sim->closed || sim->p.dead;
        break;
    }
}

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
    sec_event(sim, FT_SEC_SYNCED, 0);
    pri_event(sim, FT_PRI_SYNCED, 0);
    /* A little longer where something is under way at the end. */
    for (sim->now = 1; sim->now < TICKS ||
                       (!goes_on(sim) && !is_for_ha(sim) && sim->now < TICKS + LONGER);
         sim->now++) {
        for (unsigned i = 0; i < 3; i++) {
            if (at[i] == sim->now) {
                disaster(sim);
            }
        }
        if (sim->cut && !sim->closed) {
            sim->tail = sim->head; /* nothing arrives; what was on its way is gone */
        }
        primary_turn(sim);
        secondary_turn(sim);
        channel_turn(sim);
        agents_turn(sim);
    }
    EXPECT(goes_on(sim) || is_for_ha(sim),
           "seed %" PRIu64 ": nobody goes on: primary %s%s, secondary %s%s", number,
           ft_primary_state_str(sim->pri.state), sim->p.dead ? " (dead)" : "",
           ft_secondary_state_str(sim->sec.state), sim->s.dead ? " (dead)" : "");
    stat_live += sim->live;
    stat_alone += sim->alone;
    stat_both_dead += is_for_ha(sim);
    stat_switched += sim->live && !sim->p.dead && sim->pri.state >= FT_PRI_SWITCH;
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
                n, stat_live, stat_alone, stat_both_dead, stat_repaired, stat_diverged,
                stat_switched, stat_torn, stat_cut_set);
        /* It is no proof if it did not happen. */
        ck_assert(stat_live > n / 10 && stat_alone > n / 20 && stat_repaired > n / 10);
        ck_assert(stat_diverged > n / 20 && stat_switched > 0 && stat_torn > n / 100);
        ck_assert(stat_cut_set > n / 1000);
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
