/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both machines and the output rule as they are, with an abstract claim store and agents
 * that follow design 5 (R5), by the rules `received` and `verified`; every interleaving,
 * with silence that is false, a channel that breaks, acknowledgements under way, claims
 * that take effect late, outcomes heard late, and crashes. The log is counted in outputs:
 * made, received, acknowledged, left.
 *
 * In every state: an output that has left is in the log of whoever may still go live; two
 * guests never both reach the outside; nothing leaves here once the twin lives. And from
 * every state in which somebody is left there is a way to one guest that is free to send.
 * Mutants show that this notices.
 */
#include <stdlib.h>
#include <string.h>

#include "ft/ft_primary.h"
#include "ft/ft_secondary.h"
#include "tests/unit/unit.h"

enum mutant {
    M_NONE = 0,
    M_ACK_WHILE_CLAIMING,    /* a drained secondary acknowledges what comes */
    M_LEAVES_BEFORE_ACK,     /* outputs leave when they are made */
    M_LEAVES_WHEN_LOST,      /* the rule goes on after another claim was seen */
    M_LIVE_BEFORE_DRAINED,   /* the claim is used before the log is replayed */
    M_LIVE_WHILE_ACKING,     /* the claim is used while the log is followed */
    M_CLAIM_OVER_ALONE,      /* the store lets a twin claim that is named no more */
    M_LEAVES_AFTER_TAKEOVER, /* the rule goes on after TAKEOVER */
    M_ALONE_WITHOUT_CLAIM,   /* the primary's agent does not ask the store */
    M_COUNT,
};

#define OUTPUTS 2
enum owner { PRIMARY_ALONE = 0, PRIMARY_WITH_TWIN, TWIN };
enum request { IDLE = 0, SUBMITTED, WON, REFUSED };

/* Only bytes: states are compared and hashed as memory. */
struct world {
    uint8_t pri, pri_broken, pri_dead, pri_told; /* told: the agent was asked */
    uint8_t sec, sec_broken, sec_dead, sec_told;
    uint8_t link; /* 1: the channel carries */
    uint8_t made, received, replayed, left;
    uint8_t ack_on_way, has_ack; /* the newest that was sent */
    uint8_t acked;
    uint8_t barrier;    /* 0 none; 1 in the log; 2 hashes came; 3 set came; 4 done sent */
    uint8_t barrier_at; /* outputs before it */
    uint8_t takeover;   /* in the log */
    uint8_t end;        /* in the log, or told */
    uint8_t owner, armed; /* of the newest claim; the one with the twin was won */
    uint8_t pri_req, sec_req;
    uint8_t lives, late; /* an output left where none may */
};

#define WORLDS_MAX (1u << 21)
#define EDGES_MAX  (1u << 24)
static struct world *worlds;
static uint32_t *table, *edge_from, *edge_to, *parent;
static uint32_t world_count, edge_count, current;
static enum mutant mutant;
static bool verified; /* the rule: what was replayed is acknowledged, not what came */
static char broken[128];
static bool reached_pri[FT_PRI_STATES][FT_PRI_EVENTS];
static bool reached_sec[FT_SEC_STATES][FT_SEC_EVENTS];

/* How it came to that, the last step first. */
static void tell_way(void)
{
    for (uint32_t i = world_count - 1; getenv("FT_TRACE") != NULL; i = parent[i]) {
        const struct world *w = &worlds[i];

        fprintf(stderr,
                "# %s%s %s%s link %u made %u received %u replayed %u acked %u left %u "
                "barrier %u owner %u requests %u %u\n",
                ft_primary_state_str((enum ft_primary_state)w->pri),
                w->pri_dead ? " (dead)" : "",
                ft_secondary_state_str((enum ft_secondary_state)w->sec),
                w->sec_dead ? " (dead)" : "", w->link, w->made, w->received, w->replayed,
                w->acked, w->left, w->barrier, w->owner, w->pri_req, w->sec_req);
        if (i == 0) {
            break;
        }
    }
}

static void broke(const char *what)
{
    if (broken[0] == '\0') {
        snprintf(broken, sizeof broken, "%s", what);
        tell_way();
    }
}

static uint32_t hash_of(const struct world *w)
{
    const uint8_t *b = (const uint8_t *)w;
    uint64_t h = UINT64_C(1469598103934665603);

    for (size_t i = 0; i < sizeof *w; i++) {
        h = (h ^ b[i]) * UINT64_C(1099511628211);
    }
    return (uint32_t)(h ^ h >> 32);
}

static bool free_here(const struct world *w)
{
    return !w->pri_dead && (w->pri == FT_PRI_ALONE || w->pri == FT_PRI_SYNC);
}

static void check(const struct world *w)
{
    bool twin_runs = !w->sec_dead && w->sec == FT_SEC_LIVE;

    /* One that was acknowledged may still leave after the twin went live: it comes twice
     * (a disk that both share excludes the old host first). */
    if (w->late) {
        broke("an output left though the claim is, or may be, another's");
    }
    if (w->lives && w->left > w->replayed) {
        broke("an output left that the twin does not know");
    }
    if (w->lives && w->pri == FT_PRI_ALONE) {
        broke("two guests are free to send");
    }
    if (twin_runs && w->owner != TWIN) {
        broke("the twin runs without its claim");
    }
    if (!w->pri_dead && w->pri == FT_PRI_ALONE && w->owner != PRIMARY_ALONE) {
        broke("the primary is alone without its claim");
    }
}

static void reach(const struct world *w)
{
    uint32_t at = hash_of(w) % (WORLDS_MAX * 2);

    while (table[at] != 0 && memcmp(&worlds[table[at] - 1], w, sizeof *w) != 0) {
        at = (at + 1) % (WORLDS_MAX * 2);
    }
    if (table[at] == 0) {
        ck_assert_uint_lt(world_count, WORLDS_MAX);
        worlds[world_count++] = *w;
        table[at] = world_count;
        parent[world_count - 1] = current;
        check(w);
    }
    ck_assert_uint_lt(edge_count, EDGES_MAX);
    edge_from[edge_count] = current;
    edge_to[edge_count++] = table[at] - 1;
}

/* The machines ----------------------------------------------------------------------- */
static bool may_release(const struct world *w)
{
    struct ft_primary p = {.state = (enum ft_primary_state)w->pri};

    return ft_primary_may_release(&p) ||
           (mutant == M_LEAVES_WHEN_LOST && w->pri == FT_PRI_LOST) ||
           (mutant == M_LEAVES_AFTER_TAKEOVER && w->pri == FT_PRI_SWITCH);
}

static void leave(struct world *w)
{
    if (!w->pri_dead && may_release(w) && w->acked > w->left) {
        w->left = w->acked;
        if (w->pri == FT_PRI_LOST || w->pri == FT_PRI_SWITCH) {
            w->late = 1;
        }
    }
}

static void pri_does(struct world *w, uint32_t bits)
{
    if ((bits & FT_PRI_DO_SEND_BARRIER) != 0) {
        w->barrier = 1;
        w->barrier_at = w->made;
    }
    if ((bits & FT_PRI_DO_SEND_TAKEOVER) != 0) {
        w->takeover = 1;
    }
    if ((bits & FT_PRI_DO_SEND_END) != 0) {
        w->end = w->link;
    }
    if ((bits & FT_PRI_DO_RELEASE) != 0) {
        w->left = w->made;
    }
    if ((bits & FT_PRI_DO_CLOSE) != 0) {
        w->link = 0;
    }
    if ((bits & FT_PRI_DO_TELL_HOLD) != 0) {
        w->pri_told = 1;
    }
    if ((bits & FT_PRI_DO_TELL_HEARD) != 0) {
        w->pri_told = 2;
    }
    if ((bits & FT_PRI_DO_DISCARD) != 0) {
        w->pri_dead = 1;
    }
}

static uint32_t pri_step(struct world *w, enum ft_primary_event event, uint64_t epoch)
{
    struct ft_primary p = {
        .state = (enum ft_primary_state)w->pri, .epoch = 1, .broken = w->pri_broken};
    struct ft_acts acts;

    reached_pri[w->pri][event] = true;
    ft_primary_step(&p, &(struct ft_input){.event = event, .epoch = epoch}, &acts);
    w->pri = (uint8_t)p.state;
    w->pri_broken = p.broken;
    pri_does(w, acts.bits);
    return acts.bits;
}

static uint32_t sec_step(struct world *w, enum ft_secondary_event event, uint64_t epoch)
{
    struct ft_secondary s = {
        .state = (enum ft_secondary_state)w->sec, .epoch = 1, .broken = w->sec_broken};
    struct ft_acts acts;

    reached_sec[w->sec][event] = true;
    ft_secondary_step(&s, &(struct ft_input){.event = event, .epoch = epoch}, &acts);
    w->sec = (uint8_t)s.state;
    w->sec_broken = s.broken;
    if ((acts.bits & FT_SEC_DO_TELL_DRAINED) != 0) {
        w->sec_told = 1;
    }
    if ((acts.bits & FT_SEC_DO_TELL_HEARD) != 0) {
        w->sec_told = 2;
    }
    if ((acts.bits & FT_SEC_DO_SEND_HASHES) != 0 && w->link) {
        w->barrier = 2;
    }
    if ((acts.bits & FT_SEC_DO_GO_LIVE) != 0) {
        w->lives = 1;
    }
    if ((acts.bits & FT_SEC_DO_DISCARD) != 0) {
        w->sec_dead = 1;
    }
    return acts.bits;
}

static void pri_event(const struct world *w, enum ft_primary_event event, uint64_t epoch)
{
    struct world n = *w;

    (void)pri_step(&n, event, epoch);
    leave(&n);
    reach(&n);
}

static void sec_event(const struct world *w, enum ft_secondary_event event,
                      uint64_t epoch)
{
    struct world n = *w;

    (void)sec_step(&n, event, epoch);
    reach(&n);
}

static void primary_moves(const struct world *w)
{
    struct world n = *w;
    bool runs = w->pri == FT_PRI_ON || w->pri == FT_PRI_HOLD;

    if (w->pri_dead) {
        return;
    }
    if (w->pri == FT_PRI_SYNC && w->sec == FT_SEC_READY && w->link) {
        pri_event(w, FT_PRI_SYNCED, 0);
    }
    if (runs && w->made < OUTPUTS) {
        n.made++;
        if (mutant == M_LEAVES_BEFORE_ACK) {
            n.left = n.made;
        }
        reach(&n);
    }
    pri_event(w, FT_PRI_SILENT, 0);
    pri_event(w, FT_PRI_HOST_ERROR, 0);
    if (w->barrier == 0) {
        pri_event(w, FT_PRI_BARRIER_DUE, 0);
        pri_event(w, FT_PRI_SWITCHOVER, 0);
    }
    if (w->pri == FT_PRI_ON && w->left == w->made && w->takeover == 0) {
        pri_event(w, FT_PRI_GUEST_OFF, 0);
    }
    if (!w->link && w->pri != FT_PRI_SYNC) {
        pri_event(w, FT_PRI_BROKEN, 0);
    }
}

static bool quiet(const struct world *w)
{
    return w->sec >= FT_SEC_QUIET && w->sec <= FT_SEC_QUIET_DIVERGED;
}

static bool may_ack(const struct world *w)
{
    struct ft_secondary s = {.state = (enum ft_secondary_state)w->sec};

    return ft_secondary_may_ack(&s) || (mutant == M_ACK_WHILE_CLAIMING && quiet(w));
}

static void secondary_moves(const struct world *w)
{
    struct world n = *w;

    if (w->sec_dead || w->sec == FT_SEC_LIVE) {
        return;
    }
    if (w->sec == FT_SEC_SYNC && w->pri == FT_PRI_SYNC && w->link) {
        sec_event(w, FT_SEC_SYNCED, 0);
    }
    sec_event(w, FT_SEC_SILENT, 0);
    sec_event(w, FT_SEC_PEER_DEAD, 0);
    sec_event(w, FT_SEC_HOST_ERROR, 0);
    if (!w->link) {
        sec_event(w, FT_SEC_BROKEN, 0);
    }
    if (w->sec == FT_SEC_READY && w->armed && w->link && !w->pri_dead) {
        sec_event(w, FT_SEC_START, 1);
    }
    /* One record more is whole. */
    if (w->link && w->received < w->made && w->sec >= FT_SEC_READY) {
        n.received++;
        if (quiet(&n) && mutant != M_ACK_WHILE_CLAIMING) {
            (void)sec_step(&n, FT_SEC_HEARD, 0);
        }
        reach(&n);
    }
    n = *w;
    if ((w->sec == FT_SEC_REPLAY || w->sec == FT_SEC_QUIET) &&
        w->replayed < w->received) {
        if (w->barrier == 0 || w->replayed < w->barrier_at) {
            n.replayed++;
            reach(&n);
            n = *w;
        }
        if (verified) { /* else it is the window that README.md tells of */
            sec_event(w, FT_SEC_DIFFERS, 0);
        }
    }
    if (w->barrier == 1 && w->replayed == w->barrier_at && (w->link || quiet(w))) {
        sec_event(w, FT_SEC_AT_BARRIER, 0);
    }
    if (w->takeover && w->replayed == w->made) {
        sec_event(w, FT_SEC_AT_TAKEOVER, 0);
    }
    if (w->sec == FT_SEC_QUIET && w->replayed == w->received) {
        sec_event(w, FT_SEC_CAUGHT_UP, 0);
    }
    if (w->end) {
        n = *w;
        n.end = 0;
        (void)sec_step(&n, FT_SEC_GOT_END, 0);
        reach(&n);
    }
    if (w->link && may_ack(w)) {
        n = *w;
        n.has_ack = 1;
        n.ack_on_way = verified ? w->replayed : w->received;
        reach(&n);
    }
}

static void channel_moves(const struct world *w)
{
    struct world n = *w;

    if (w->link) {
        n.link = 0;
        reach(&n);
    }
    /* What was sent may arrive after the channel broke, or never. */
    if (w->has_ack && !w->pri_dead) {
        n = *w;
        n.has_ack = 0;
        n.acked = w->ack_on_way > w->acked ? w->ack_on_way : w->acked;
        if (!n.pri_broken) {
            (void)pri_step(&n, FT_PRI_HEARD, 0);
        }
        leave(&n);
        reach(&n);
    }
    if (!w->link || w->pri_dead || w->sec_dead) {
        return;
    }
    n = *w;
    if (w->sec == FT_SEC_DIVERGED && w->barrier == 0) {
        (void)pri_step(&n, FT_PRI_DIVERGED, 0);
        if (n.barrier == 1) {
            n.barrier = 2; /* it stands, and has said what it wrote to */
        }
        reach(&n);
    }
    if (w->barrier == 2 && (w->sec == FT_SEC_BARRIER || w->sec == FT_SEC_DIVERGED)) {
        n = *w; /* the set: all of it */
        n.barrier = 3;
        n.received = n.replayed = w->barrier_at;
        (void)sec_step(&n, FT_SEC_SET_COMPLETE, 0);
        reach(&n);
    }
    if (w->barrier == 3 && may_ack(w)) {
        n = *w;
        n.barrier = 0;
        (void)pri_step(&n, FT_PRI_BARRIER_DONE, 0);
        leave(&n);
        reach(&n);
    }
}

/* Agents and the store --------------------------------------------------------------- */
static void submit(struct world *n, bool twin)
{
    bool allowed = twin ? n->owner == PRIMARY_WITH_TWIN ||
                              (mutant == M_CLAIM_OVER_ALONE && n->owner == PRIMARY_ALONE)
                        : n->owner != TWIN;

    *(twin ? &n->sec_req : &n->pri_req) = allowed ? WON : REFUSED;
    if (allowed) {
        n->owner = twin ? TWIN : PRIMARY_ALONE;
    }
}

static void agents_move(const struct world *w)
{
    struct world n = *w;

    /* Armed: the claim with the twin takes effect, and is heard of. */
    if (!w->pri_dead && w->pri == FT_PRI_ARM && !w->armed && w->pri_req == IDLE) {
        n.armed = 1;
        n.owner = PRIMARY_WITH_TWIN;
        reach(&n);
    }
    if (!w->pri_dead && w->pri == FT_PRI_ARM && w->armed) {
        pri_event(w, FT_PRI_TWIN_WON, 2);
    }
    if (!w->pri_dead && w->pri_told == 1 && w->pri_req == IDLE) {
        n = *w;
        n.pri_req = SUBMITTED;
        reach(&n);
        if (mutant == M_ALONE_WITHOUT_CLAIM) {
            n.pri_req = WON;
            reach(&n);
        }
    }
    if (!w->pri_dead && w->pri_told == 2 && w->pri_req == IDLE) {
        n = *w;
        n.pri_told = 0;
        (void)pri_step(&n, FT_PRI_GO_ON, 0);
        reach(&n);
    }
    if (!w->pri_dead && w->pri == FT_PRI_SWITCH && w->pri_req == IDLE) {
        n = *w; /* it takes too long: back */
        n.pri_req = SUBMITTED;
        reach(&n);
    }
    if (!w->sec_dead && w->sec_told == 1 && w->sec_req == IDLE && w->armed) {
        n = *w;
        n.sec_req = SUBMITTED;
        reach(&n);
    }
    if (!w->sec_dead && w->sec_told == 2 && w->sec_req == IDLE) {
        n = *w;
        n.sec_told = 0;
        (void)sec_step(&n, FT_SEC_GO_ON, 0);
        reach(&n);
    }
    /* A request takes effect some time after it was submitted, its sender gone or not. */
    if (w->pri_req == SUBMITTED) {
        n = *w;
        submit(&n, false);
        reach(&n);
    }
    if (w->sec_req == SUBMITTED) {
        n = *w;
        submit(&n, true);
        reach(&n);
    }
    /* And is heard of later still. */
    if (!w->pri_dead && w->pri_req == WON) {
        pri_event(w, FT_PRI_ALONE_WON, 2);
    }
    if (!w->pri_dead && (w->pri_req == REFUSED || w->owner == TWIN)) {
        pri_event(w, FT_PRI_CLAIM_LOST, 0);
    }
    if (!w->pri_dead && w->lives) {
        pri_event(w, FT_PRI_WINNER_RUNS, 0);
    }
    if (!w->sec_dead && w->sec_req == WON) {
        if ((mutant == M_LIVE_BEFORE_DRAINED && w->sec == FT_SEC_QUIET) ||
            (mutant == M_LIVE_WHILE_ACKING && w->sec == FT_SEC_REPLAY)) {
            n = *w;
            n.sec = FT_SEC_DRAINED;
            sec_event(&n, FT_SEC_CLAIM_WON, 2);
        }
        sec_event(w, FT_SEC_CLAIM_WON, 2);
    }
    if (((mutant == M_LIVE_BEFORE_DRAINED && w->sec == FT_SEC_QUIET) ||
         (mutant == M_LIVE_WHILE_ACKING && w->sec == FT_SEC_REPLAY)) &&
        !w->sec_dead && w->sec_req == IDLE && w->armed) {
        n = *w;
        n.sec_req = SUBMITTED;
        reach(&n);
    }
    if (!w->sec_dead && (w->sec_req == REFUSED ||
                         (w->owner == PRIMARY_ALONE && (w->armed || w->pri_dead)))) {
        sec_event(w, FT_SEC_DISCARD, 0);
    }
}

static void crashes(const struct world *w)
{
    struct world n = *w;

    if (!w->pri_dead) {
        n.pri_dead = 1;
        n.link = 0;
        reach(&n);
    }
    if (!w->sec_dead && w->sec != FT_SEC_LIVE) {
        n = *w;
        n.sec_dead = 1;
        n.link = 0;
        reach(&n);
    }
}

/* Is there one guest that may send? Or is nobody left who could: HA restarts it. */
static bool good_end(const struct world *w)
{
    bool twin = !w->sec_dead && w->sec == FT_SEC_LIVE;

    return free_here(w) || twin || (w->pri_dead && w->sec_dead) ||
           (!w->pri_dead && w->pri == FT_PRI_ENDED) ||
           (!w->pri_dead && w->pri == FT_PRI_ON && !w->sec_dead && w->link);
}

static void expect_a_way_out(void)
{
    bool *ok = calloc(world_count, 1), more = true;

    for (uint32_t i = 0; i < world_count; i++) {
        ok[i] = good_end(&worlds[i]);
    }
    while (more) {
        more = false;
        for (uint32_t e = edge_count; e-- > 0;) {
            if (!ok[edge_from[e]] && ok[edge_to[e]]) {
                ok[edge_from[e]] = more = true;
            }
        }
    }
    for (uint32_t i = 0; i < world_count; i++) {
        const struct world *w = &worlds[i];

        if (!ok[i]) {
            char text[128];

            snprintf(text, sizeof text, "no way out: primary %s%s, secondary %s%s",
                     ft_primary_state_str((enum ft_primary_state)w->pri),
                     w->pri_dead ? " (dead)" : "",
                     ft_secondary_state_str((enum ft_secondary_state)w->sec),
                     w->sec_dead ? " (dead)" : "");
            broke(text);
            break;
        }
    }
    free(ok);
}

static void explore(enum mutant which)
{
    struct world first = {.link = 1};

    mutant = which;
    broken[0] = '\0';
    world_count = edge_count = current = 0;
    memset(table, 0, WORLDS_MAX * 2 * sizeof *table);
    reach(&first);
    for (; current < world_count && (which == M_NONE || broken[0] == '\0'); current++) {
        struct world w = worlds[current];

        primary_moves(&w);
        secondary_moves(&w);
        channel_moves(&w);
        agents_move(&w);
        crashes(&w);
    }
    if (broken[0] == '\0') {
        expect_a_way_out();
    }
}

static void setup(void)
{
    parent = malloc(WORLDS_MAX * sizeof *parent);
    worlds = malloc(WORLDS_MAX * sizeof *worlds);
    table = malloc(WORLDS_MAX * 2 * sizeof *table);
    edge_from = malloc(EDGES_MAX * sizeof *edge_from);
    edge_to = malloc(EDGES_MAX * sizeof *edge_to);
    ck_assert(worlds != NULL && table != NULL && edge_from != NULL && edge_to != NULL);
}

static void teardown(void)
{
    free(parent);
    free(worlds);
    free(table);
    free(edge_from);
    free(edge_to);
}

START_TEST(every_interleaving)
{
    unsigned states = 0;

    verified = _i == 1;
    explore(M_NONE);
    ck_assert_msg(broken[0] == '\0', "%s", broken);
    fprintf(stderr, "# %u states, %u steps\n", world_count, edge_count);
    if (!verified) {
        return;
    }
    for (unsigned s = 0; s < FT_PRI_STATES; s++) {
        for (unsigned e = 0, any = 0; e < FT_PRI_EVENTS; e++) {
            states += !any && reached_pri[s][e];
            any |= reached_pri[s][e];
        }
    }
    for (unsigned s = 0; s < FT_SEC_STATES; s++) {
        for (unsigned e = 0, any = 0; e < FT_SEC_EVENTS; e++) {
            states += !any && reached_sec[s][e];
            any |= reached_sec[s][e];
        }
    }
    /* LIVE and GONE are not fed; ENDED has nothing to say. */
    ck_assert_uint_ge(states, FT_PRI_STATES + FT_SEC_STATES - 3);
}
END_TEST

START_TEST(mutants_are_noticed)
{
    explore((enum mutant)_i);
    if (broken[0] == '\0') {
        verified = true;
        explore((enum mutant)_i);
    }
    ck_assert_msg(broken[0] != '\0', "mutant %d was not noticed in %u states", _i,
                  world_count);
    fprintf(stderr, "# mutant %d: %s\n", _i, broken);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ft_model");
    TCase *tc = tcase_create("model");

    tcase_set_timeout(tc, 300);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, every_interleaving, 0, 2);
    tcase_add_loop_test(tc, mutants_are_noticed, 1, M_COUNT);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
