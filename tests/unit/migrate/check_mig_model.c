/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both state machines as they are, with an abstract claim store, agents that follow
 * design 5, and HA that restarts what is dead; every interleaving, with messages that are
 * lost, requests to the store that take effect late or never, and crashes at every step
 * (at most `faults` of them). In every state at most one guest runs, by its claim, and
 * none was thrown away while nothing failed; from every state there is a way to one that
 * runs, with nothing left over. Mutants show that this notices: each must break one of
 * the two. The source may switch to post-copy: then pages are owed until the destination
 * says that it has all, and who loses the other meanwhile is of no use any more.
 *
 * Agents remember nothing here: all they do follows from the store and from what the VMM
 * says, so an agent's crash is a pause, which is in every interleaving.
 */
#include <stdlib.h>
#include <string.h>

#include "migrate/mig_dst.h"
#include "migrate/mig_src.h"
#include "tests/unit/unit.h"

enum mutant {
    M_NONE = 0,
    M_DST_RUNS_BEFORE_CLAIM,  /* START as soon as the release is there */
    M_DST_RUNS_WHEN_CHECKED,  /* without its agent's word (QEMU, cloud-hypervisor) */
    M_SRC_RESUMES_WHEN_LOST,  /* a lost connection after Ready thaws (QEMU) */
    M_SRC_CANCEL_AFTER_READY, /* CANCEL thaws under the old claim */
    M_THAW_BEFORE_CLAIM,      /* the source's agent thaws before its claim is won */
    M_RELEASE_BEFORE_READY,   /* released as soon as it is frozen */
    M_END_BEFORE_CLAIM,       /* the source is discarded once the release is there */
    M_ABORT_IGNORED,          /* a destination in READY that is not wanted stays */
    M_OWED_SRC_RESUMES,       /* post-copy: the source goes on when it loses who runs */
    M_OWED_SRC_ENDED,         /* post-copy: the source is discarded as after pre-copy */
    M_HOLES_STAY,             /* post-copy: a guest whose source is lost waits for ever */
    M_COUNT,
};

enum who { NOBODY = 0, SRC, DST, HA };
enum request { NOT_SENT = 0, PENDING, IN_EFFECT, NEVER };
enum message { NO_MESSAGE = 0, HELLO, FINISH, ABORT, ACK, READY, IT_RUNS, HAS_ALL };
enum guest { GONE = 0, RUNS, FREEZES, FROZEN };

/* Only bytes: states are compared and hashed as memory. */
struct world {
    uint8_t src, dst;           /* states of the machines */
    uint8_t src_dead, dst_dead; /* the process is gone */
    uint8_t guest;              /* at the source */
    uint8_t late_freeze;        /* a freeze that was called off may still end */
    uint8_t src_epoch;
    uint8_t ha_runs;
    uint8_t off;                      /* the guest powered off: nothing has to run */
    uint8_t link, src_told, dst_told; /* connection: 0 not yet, 1 up, 2 lost; LOST told */
    uint8_t to_dst[3], to_src[3];     /* messages on their way, first first */
    uint8_t
        holes; /* post-copy: 1 the source says so, 2 the destination knows, 3 it has all
                */
    uint8_t release;            /* of claim 1, to the destination */
    uint8_t claim2, claim3;     /* who */
    uint8_t src_link, dst_link; /* requests for claim 2 */
    uint8_t faults;
};

#define WORLDS_MAX (1u << 20)
#define EDGES_MAX  (1u << 24)
static struct world *worlds;
static uint32_t *table, *edge_from, *edge_to;
static uint32_t world_count, edge_count, current;
static enum mutant mutant;
static uint8_t faults_at_start;
static bool two_ran;
static char broken[128];

static void broke(const char *what)
{
    if (broken[0] == '\0') {
        snprintf(broken, sizeof broken, "%s", what);
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

static bool dst_runs(const struct world *w)
{
    return !w->dst_dead && (w->dst == MIG_DST_RUNNING || w->dst == MIG_DST_FILLING);
}

/* Safety: what may never be. */
static void check(const struct world *w)
{
    bool src = !w->src_dead && (w->guest == RUNS || w->guest == FREEZES);
    bool dst = dst_runs(w);
    enum who owner = w->claim3 != NOBODY   ? (enum who)w->claim3
                     : w->claim2 != NOBODY ? (enum who)w->claim2
                                           : SRC;

    if (src + dst + w->ha_runs > 1) {
        two_ran = true;
        broke("two guests run");
    }
    if (w->ha_runs && w->faults == faults_at_start) {
        broke("a guest was thrown away although nothing failed");
    }
    if ((src && owner != SRC) || (dst && owner != DST) || (w->ha_runs && owner != HA)) {
        broke("a guest runs without its claim");
    }
    if (src && w->release != NOT_SENT && w->claim2 != SRC) {
        broke("the source runs after it submitted the release");
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
        check(w);
    }
    ck_assert_uint_lt(edge_count, EDGES_MAX);
    edge_from[edge_count] = current;
    edge_to[edge_count++] = table[at] - 1;
}

/* The machines ----------------------------------------------------------------------- */
static void post(const struct world *w, uint8_t queue[3], enum message message)
{
    if (w->link != 1) {
        return;
    }
    for (unsigned i = 0; i < 3; i++) {
        if (queue[i] == NO_MESSAGE) {
            queue[i] = (uint8_t)message;
            return;
        }
    }
    ck_abort_msg("more messages than the model holds");
}

static enum message take(uint8_t queue[3])
{
    enum message first = (enum message)queue[0];

    queue[0] = queue[1];
    queue[1] = queue[2];
    queue[2] = NO_MESSAGE;
    return first;
}

static void src_does(struct world *w, uint32_t bits)
{
    if ((bits & MIG_SRC_DO_SEND_HELLO) != 0) {
        post(w, w->to_dst, HELLO);
    }
    if ((bits & MIG_SRC_DO_FREEZE) != 0) {
        w->guest = FREEZES;
    }
    if ((bits & MIG_SRC_DO_SEND_STATE) != 0) {
        post(w, w->to_dst, FINISH);
    }
    if ((bits & MIG_SRC_DO_THAW) != 0 && w->guest != GONE) {
        w->late_freeze = w->guest == FREEZES;
        w->guest = RUNS;
    }
    if ((bits & MIG_SRC_DO_RUN) != 0 && w->guest != GONE) {
        w->guest = RUNS;
    }
    if ((bits & MIG_SRC_DO_SEND_ABORT) != 0) {
        post(w, w->to_dst, ABORT);
    }
    if ((bits & MIG_SRC_DO_CLOSE) != 0 && w->holes > 0 && w->link == 1) {
        w->link = 2; /* who waits for pages sees it */
    }
    if ((bits & MIG_SRC_DO_DISCARD) != 0) {
        w->guest = GONE;
        w->src_dead = 1;
    }
}

static uint32_t src_step(struct world *w, enum mig_src_event event, uint64_t epoch)
{
    static const struct mig_times times = MIG_TIMES_DEFAULT;
    struct mig_src src;
    struct mig_acts acts;
    bool turn = w->src == MIG_SRC_READY || w->src == MIG_SRC_RELEASED;

    if (mutant == M_OWED_SRC_RESUMES && w->src == MIG_SRC_SERVING &&
        event == MIG_SRC_LOST) {
        w->src = MIG_SRC_FAILED;
        src_does(w, MIG_SRC_DO_RUN);
        return 0;
    }
    if (turn && ((mutant == M_SRC_RESUMES_WHEN_LOST && event == MIG_SRC_LOST) ||
                 (mutant == M_SRC_CANCEL_AFTER_READY && event == MIG_SRC_CANCEL))) {
        w->src = MIG_SRC_FAILED;
        src_does(w, MIG_SRC_DO_THAW);
        return 0;
    }
    mig_src_init(&src, &times, w->src_epoch, 0);
    src.state = (enum mig_src_state)w->src;
    src.holes = w->holes > 0;
    mig_src_step(&src, &(struct mig_input){.event = event, .epoch = epoch}, &acts);
    w->src = (uint8_t)src.state;
    w->holes = src.holes                ? (w->holes > 0 ? w->holes : 1)
               : w->src < MIG_SRC_READY ? 0
                                        : w->holes;
    w->src_epoch = (uint8_t)src.epoch;
    src_does(w, acts.bits);
    return acts.bits;
}

static void dst_step(struct world *w, enum mig_dst_event event, uint64_t epoch)
{
    static const struct mig_times times = MIG_TIMES_DEFAULT;
    struct mig_dst dst;
    struct mig_acts acts;

    if (mutant == M_ABORT_IGNORED && w->dst == MIG_DST_READY &&
        (event == MIG_DST_GOT_ABORT || event == MIG_DST_CANCEL)) {
        return;
    }
    if (mutant == M_HOLES_STAY && (event == MIG_DST_LOST || event == MIG_DST_SILENT) &&
        (w->dst == MIG_DST_HOLES || w->dst == MIG_DST_FILLING)) {
        return;
    }
    mig_dst_init(&dst, &times, 0);
    dst.state = (enum mig_dst_state)w->dst;
    mig_dst_step(&dst, &(struct mig_input){.event = event, .epoch = epoch}, &acts);
    w->dst = (uint8_t)dst.state;
    if ((acts.bits & MIG_DST_DO_SEND_ACK) != 0 && w->dst == MIG_DST_RECEIVING) {
        post(w, w->to_src, ACK);
    }
    if ((acts.bits & MIG_DST_DO_SEND_READY) != 0) {
        post(w, w->to_src, READY);
    }
    if ((acts.bits & MIG_DST_DO_SEND_RUNS) != 0) {
        post(w, w->to_src, IT_RUNS);
    }
    if ((acts.bits & MIG_DST_DO_SEND_ALL) != 0) {
        post(w, w->to_src, HAS_ALL);
    }
    if ((acts.bits & MIG_DST_DO_SEND_ABORT) != 0) {
        post(w, w->to_src, ABORT);
    }
    if ((acts.bits & MIG_DST_DO_CLOSE) != 0 && w->holes > 0 && w->link == 1) {
        w->link = 2;
    }
    if ((acts.bits & MIG_DST_DO_DISCARD) != 0) {
        w->dst_dead = 1;
    }
    if (mutant == M_DST_RUNS_WHEN_CHECKED && event == MIG_DST_CHECK_OK &&
        w->dst == MIG_DST_READY) {
        w->dst = MIG_DST_RUNNING;
    }
}

static void src_event(const struct world *w, enum mig_src_event event, uint64_t epoch)
{
    struct world n = *w;

    (void)src_step(&n, event, epoch);
    reach(&n);
}

static void dst_event(const struct world *w, enum mig_dst_event event, uint64_t epoch)
{
    struct world n = *w;

    dst_step(&n, event, epoch);
    reach(&n);
}

static void source_moves(const struct world *w)
{
    struct world n = *w;

    if (w->src == MIG_SRC_PRECOPY) {
        src_event(w, MIG_SRC_ROUND_SWITCH, 0);
        src_event(w, MIG_SRC_ROUND_GIVE_UP, 0);
        src_event(w, MIG_SRC_ROUND_HOLES, 0);
    }
    if (w->src < MIG_SRC_READY) { /* any deadline, error or operator, any time */
        src_event(w, MIG_SRC_TIME_OVER, 0);
    }
    if (w->src == MIG_SRC_SERVING && w->link == 2) { /* without a fault none is over */
        src_event(w, MIG_SRC_SILENT, 0);
    }
    src_event(w, MIG_SRC_CANCEL, 0);
    if (w->guest == FREEZES || (w->guest == RUNS && w->late_freeze)) {
        n.guest = FROZEN;
        n.late_freeze = 0;
        (void)src_step(&n, MIG_SRC_FROZEN, 0);
        reach(&n);
        n = *w;
        n.guest = RUNS;
        n.late_freeze = 0;
        if (w->guest == FREEZES) {
            (void)src_step(&n, MIG_SRC_FREEZE_REFUSED, 0);
        }
        reach(&n);
    }
    if (w->src == MIG_SRC_LAST) {
        src_event(w, MIG_SRC_LAST_SENT, 0);
    }
    if (w->guest == RUNS || w->guest == FREEZES) {
        src_event(w, MIG_SRC_GUEST_RESET, 0);
        n = *w;
        n.guest = GONE;
        n.off = 1;
        (void)src_step(&n, MIG_SRC_GUEST_OFF, 0);
        reach(&n);
    }
}

static void destination_moves(const struct world *w)
{
    if (w->dst < MIG_DST_READY) {
        dst_event(w, MIG_DST_TIME_OVER, 0);
    }
    if (w->dst == MIG_DST_CHECKING) {
        dst_event(w, w->holes > 0 ? MIG_DST_CHECK_HOLES : MIG_DST_CHECK_OK, 0);
        dst_event(w, MIG_DST_CHECK_BAD, 0);
    }
    /* Pages come while both live, and the last may have come before the link breaks. */
    if (w->dst == MIG_DST_FILLING && w->link == 1 && !w->src_dead) {
        dst_event(w, MIG_DST_ALL_HERE, 0);
    }
    if (w->dst == MIG_DST_FILLING && w->link == 2) {
        dst_event(w, MIG_DST_SILENT, 0);
    }
    if (w->dst == MIG_DST_FILLING) {
        struct world n = *w;

        n.off = 1;
        dst_step(&n, MIG_DST_GUEST_OFF, 0);
        n.dst_dead = 1;
        n.link = w->link == 1 ? 2 : w->link;
        reach(&n);
    }
}

static void link_moves(const struct world *w)
{
    struct world n = *w;

    if (w->link == 0 && !w->src_dead && !w->dst_dead && w->src == MIG_SRC_CONNECTING &&
        w->dst == MIG_DST_LISTENING) {
        n.link = 1;
        (void)src_step(&n, MIG_SRC_CONNECTED, 0);
        dst_step(&n, MIG_DST_CONNECTED, 0);
        reach(&n);
    }
    /* Messages that were sent may arrive after the link broke, or not. */
    if (!w->dst_dead && w->dst_told == 0 && w->to_dst[0] != NO_MESSAGE) {
        enum message m;

        n = *w;
        m = take(n.to_dst);
        dst_step(&n,
                 m == HELLO    ? MIG_DST_HELLO_FITS
                 : m == FINISH ? MIG_DST_GOT_FINISH
                               : MIG_DST_GOT_ABORT,
                 0);
        reach(&n);
    }
    if (!w->src_dead && w->src_told == 0 && w->to_src[0] != NO_MESSAGE) {
        enum message m;

        n = *w;
        m = take(n.to_src);
        (void)src_step(&n,
                       m == ACK       ? MIG_SRC_ACK_OK
                       : m == READY   ? MIG_SRC_GOT_READY
                       : m == IT_RUNS ? MIG_SRC_GOT_RUNS
                       : m == HAS_ALL ? MIG_SRC_GOT_ALL
                                      : MIG_SRC_GOT_ABORT,
                       0);
        reach(&n);
    }
    if (w->link == 2 && !w->src_dead && w->src_told == 0) {
        n = *w;
        n.src_told = 1;
        memset(n.to_src, 0, sizeof n.to_src);
        (void)src_step(&n, MIG_SRC_LOST, 0);
        reach(&n);
    }
    if (w->link == 2 && !w->dst_dead && w->dst_told == 0) {
        n = *w;
        n.dst_told = 1;
        memset(n.to_dst, 0, sizeof n.to_dst);
        dst_step(&n, MIG_DST_LOST, 0);
        reach(&n);
    }
}

/* Agents and the store --------------------------------------------------------------- */
static void source_agent_moves(const struct world *w)
{
    bool turn = w->src == MIG_SRC_READY || w->src == MIG_SRC_RELEASED;
    struct world n = *w;

    if (w->src_dead) {
        return;
    }
    if (w->src == MIG_SRC_READY && w->claim2 == NOBODY) {
        (void)src_step(&n, MIG_SRC_RELEASING, 0);
        reach(&n);
    }
    if ((w->src == MIG_SRC_RELEASED ||
         (mutant == M_RELEASE_BEFORE_READY && w->src == MIG_SRC_STATE_SENT)) &&
        w->release == NOT_SENT) {
        n = *w;
        n.release = PENDING;
        reach(&n);
    }
    if (turn && w->claim2 == NOBODY && w->src_link == NOT_SENT) {
        n = *w;
        n.src_link = PENDING; /* take it back */
        reach(&n);
    }
    if (turn &&
        (w->claim2 == SRC || (mutant == M_THAW_BEFORE_CLAIM && w->src_link == PENDING))) {
        src_event(w, MIG_SRC_THAW, 2);
    }
    /* One that owes pages to who runs is left alone, until it is of no use. */
    if (turn &&
        (w->claim2 == DST || w->claim2 == HA ||
         (mutant == M_END_BEFORE_CLAIM && w->release == IN_EFFECT)) &&
        (w->holes == 0 || w->claim2 != DST || w->src_told || w->claim3 == HA ||
         mutant == M_OWED_SRC_ENDED)) {
        src_event(w, MIG_SRC_END, 0);
    }
    if (w->src == MIG_SRC_SERVING && mutant == M_OWED_SRC_ENDED) {
        src_event(w, MIG_SRC_END, 0);
    }
}

static void destination_agent_moves(const struct world *w)
{
    struct world n = *w;

    if (w->dst_dead || (w->dst != MIG_DST_READY && w->dst != MIG_DST_HOLES)) {
        return;
    }
    if (w->release == IN_EFFECT && w->claim2 == NOBODY && w->dst_link == NOT_SENT) {
        n.dst_link = PENDING;
        reach(&n);
    }
    if ((w->claim2 == DST && w->claim3 == NOBODY) ||
        (mutant == M_DST_RUNS_BEFORE_CLAIM && w->release == IN_EFFECT)) {
        dst_event(w, MIG_DST_START, 2);
    }
    /* It learns from the record that the VM is elsewhere, or that the transfer is over.
     */
    if (w->claim2 == SRC || w->claim2 == HA ||
        (w->src >= MIG_SRC_DONE && w->claim2 != DST)) {
        dst_event(w, MIG_DST_CANCEL, 0);
    }
}

/* A request takes effect, late perhaps, even if who made it is gone; or never, which its
 * sender learns. */
static void store_moves(const struct world *w)
{
    struct world n = *w;

    if (w->release == PENDING) {
        n.release = IN_EFFECT;
        reach(&n);
        n.release = NEVER; /* it was submitted all the same */
        reach(&n);
    }
    if (w->src_link == PENDING) {
        n = *w;
        n.src_link = NOT_SENT;
        reach(&n);
        if (w->claim2 == NOBODY) {
            n.claim2 = SRC;
            reach(&n);
        }
    }
    if (w->dst_link == PENDING) {
        n = *w;
        n.dst_link = NOT_SENT;
        reach(&n);
        if (w->claim2 == NOBODY) {
            n.claim2 = DST;
            reach(&n);
        }
    }
}

/* HA starts the VM again where its owner is proven dead. */
static void ha_moves(const struct world *w)
{
    struct world n = *w;

    if (w->off || w->ha_runs) {
        return;
    }
    if (w->claim2 == NOBODY && w->src_dead) {
        n.claim2 = HA;
        n.ha_runs = 1;
        reach(&n);
    } else if (w->claim3 == NOBODY &&
               ((w->claim2 == SRC && w->src_dead) || (w->claim2 == DST && w->dst_dead))) {
        n.claim3 = HA;
        n.ha_runs = 1;
        reach(&n);
    }
}

static void fault_moves(const struct world *w)
{
    struct world n = *w;

    if (w->faults == 0) {
        return;
    }
    n.faults--;
    if (w->link == 1) {
        n.link = 2;
        reach(&n);
    }
    n = *w;
    n.faults--;
    if (!w->src_dead) {
        n.src_dead = 1;
        n.guest = GONE;
        n.link = w->link == 1 ? 2 : w->link;
        reach(&n);
    }
    n = *w;
    n.faults--;
    if (!w->dst_dead) {
        n.dst_dead = 1;
        n.link = w->link == 1 ? 2 : w->link;
        reach(&n);
    }
}

/* One guest runs, or it ended itself, and nothing of the transfer is left. */
static bool is_good(const struct world *w)
{
    bool src = !w->src_dead && w->guest == RUNS;
    bool dst = dst_runs(w);

    return (w->src_dead || w->src >= MIG_SRC_DONE) &&
           (w->dst_dead || w->dst >= MIG_DST_RUNNING) &&
           (src + dst + w->ha_runs == 1 || w->off);
}

/* Without another fault, and without the guest's help. */
static bool by_itself(uint32_t edge)
{
    const struct world *from = &worlds[edge_from[edge]], *to = &worlds[edge_to[edge]];

    return from->faults == to->faults && from->off == to->off;
}

/* Liveness: from where no good world can be reached. */
static uint32_t count_stuck(void)
{
    uint8_t *good = calloc(world_count, 1);
    uint32_t stuck = 0;
    bool more = true;

    ck_assert_ptr_nonnull(good);
    for (uint32_t i = 0; i < world_count; i++) {
        good[i] = is_good(&worlds[i]);
    }
    while (more) {
        more = false;
        for (uint32_t i = edge_count; i-- > 0;) {
            if (good[edge_to[i]] && !good[edge_from[i]] && by_itself(i)) {
                good[edge_from[i]] = 1;
                more = true;
            }
        }
    }
    for (uint32_t i = 0; i < world_count; i++) {
        stuck += !good[i];
    }
    free(good);
    return stuck;
}

static void explore(enum mutant with, uint8_t faults)
{
    struct world w = {.guest = RUNS, .src_epoch = 1, .faults = faults};

    mutant = with;
    faults_at_start = faults;
    two_ran = false;
    broken[0] = '\0';
    world_count = edge_count = current = 0;
    memset(table, 0, WORLDS_MAX * 2 * sizeof *table);
    reach(&w);
    for (current = 0; current < world_count; current++) {
        struct world here = worlds[current];

        if (!here.src_dead) {
            source_moves(&here);
        }
        if (!here.dst_dead) {
            destination_moves(&here);
        }
        link_moves(&here);
        source_agent_moves(&here);
        destination_agent_moves(&here);
        store_moves(&here);
        ha_moves(&here);
        fault_moves(&here);
    }
    if (count_stuck() > 0) {
        broke("nothing runs, and nothing ever will");
    }
}

static void setup(void)
{
    worlds = malloc(WORLDS_MAX * sizeof *worlds);
    table = malloc(WORLDS_MAX * 2 * sizeof *table);
    edge_from = malloc(EDGES_MAX * sizeof *edge_from);
    edge_to = malloc(EDGES_MAX * sizeof *edge_to);
    ck_assert(worlds != NULL && table != NULL && edge_from != NULL && edge_to != NULL);
}

static void teardown(void)
{
    free(worlds);
    free(table);
    free(edge_from);
    free(edge_to);
}

START_TEST(never_two_and_never_none)
{
    explore(M_NONE, 3);
    ck_assert_msg(broken[0] == '\0', "%s", broken);
    ck_assert_uint_gt(world_count, 2500);
    fprintf(stderr, "# %u worlds, %u steps\n", world_count, edge_count);
}
END_TEST

START_TEST(mutants_are_noticed)
{
    explore((enum mutant)_i, 2);
    ck_assert_msg(broken[0] != '\0', "mutant %d was not noticed in %u worlds", _i,
                  world_count);
    /* Those that leave out a claim do what it is there to prevent. */
    ck_assert(two_ran || _i == M_END_BEFORE_CLAIM || _i == M_ABORT_IGNORED ||
              _i == M_RELEASE_BEFORE_READY || _i == M_OWED_SRC_ENDED ||
              _i == M_HOLES_STAY);
    fprintf(stderr, "# mutant %d: %s%s\n", _i, broken, two_ran ? "; two guests ran" : "");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_model");
    TCase *tc = tcase_create("model");

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, never_two_and_never_none);
    tcase_add_loop_test(tc, mutants_are_noticed, 1, M_COUNT);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
