/* SPDX-License-Identifier: Apache-2.0 */
/* The secondary of check_ft_sim: it replays, is repaired at a barrier, and goes live. */
#include "tests/unit/ft/ft_sim.h"

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
        sim_stats.repaired += differed;
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
        sim_stats.diverged++;
    }
    if (bits & FT_SEC_DO_TELL_DRAINED) {
        sim->s.told_hold = true;
    }
    if (bits & FT_SEC_DO_TELL_HEARD) {
        if (sim->s.request == IDLE) {
            sim->s.told_hold = false;
            sim_word_to(&sim->s, sim->now + 1, FT_SEC_GO_ON, 0);
        }
    }
    if (bits & FT_SEC_DO_GO_LIVE) {
        sim->live = true;
        sim_may_send(sim);
        EXPECT(sim->at_sec.made >= sim->seen_count,
               "seed %" PRIu64 ": output %" PRIu64 " was seen, the twin made %" PRIu64,
               sim->number, sim->seen_count, sim->at_sec.made);
        for (uint64_t i = 1; i <= sim->at_sec.made; i++) {
            sim_outside_sees(sim, i, sim->out_sec[i]);
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

void sim_sec_event(struct sim *sim, enum ft_secondary_event event, uint64_t epoch)
{
    enum ft_secondary_state before = sim->sec.state;
    struct ft_acts acts;

    ft_secondary_step(&sim->sec, &(struct ft_input){.event = event, .epoch = epoch},
                      &acts);
    if (sim->sec.state != before) {
        TELL(sim, "secondary %s: %s -> %s", ft_secondary_event_str(event),
             ft_secondary_state_str(before), ft_secondary_state_str(sim->sec.state));
    }
    if (event == FT_SEC_GO_ON && (acts.bits & FT_SEC_DO_REFUSE) != 0 &&
        sim->sec.state >= FT_SEC_QUIET && sim->sec.state < FT_SEC_LIVE) {
        sim->s.told_hold = true; /* a claim after all, as the agent does */
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
            sim_stats.torn += sim->closed;
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
            sim_sec_event(sim, FT_SEC_HEARD, 0);
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
        sim_sec_event(sim, FT_SEC_START, sim->epoch);
    }
    if (!replay_to(sim, record.exits)) {
        notice(sim);
        sim_sec_event(sim, FT_SEC_DIFFERS, 0);
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
            sim_sec_event(sim, FT_SEC_DIFFERS, 0);
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
        sim_sec_event(sim, FT_SEC_DIFFERS, 0);
        break;
    case FT_BARRIER:
        sim_sec_event(sim, FT_SEC_AT_BARRIER, 0);
        break;
    case FT_CONTROL:
        EXPECT(ft_get_u64(&record, value, 1) == FT_OK,
               "seed %" PRIu64 ": a record cannot be read", sim->number);
        sim_sec_event(sim, value[0] == CONTROL_END ? FT_SEC_GOT_END : FT_SEC_AT_TAKEOVER,
                      0);
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

void sim_secondary_turn(struct sim *sim)
{
    uint64_t count = 1 + below(sim, 8), value;

    if (sim->s.dead) {
        return;
    }
    if (sim->s.word.at != 0 && sim->now >= sim->s.word.at) {
        struct later word = sim->s.word;

        sim->s.word.at = 0;
        sim_sec_event(sim, (enum ft_secondary_event)word.event, word.epoch);
    }
    if (sim->live) {
        if (guest_exit(&sim->at_sec, &value)) {
            sim_outside_sees(sim, sim->at_sec.made, value);
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
        sim_sec_event(sim, FT_SEC_CAUGHT_UP, 0);
    }
    if (sim->closed && !sim->sec.broken && !sim->s.dead && !sim->live) {
        sim_sec_event(sim, FT_SEC_BROKEN, 0);
    } else if (sim->now - sim->s.heard_at > SUSPECT) {
        sim_sec_event(sim, FT_SEC_SILENT, 0);
    }
    if (ft_secondary_may_ack(&sim->sec) && sim->ack_at == 0 && below(sim, 2)) {
        sim->ack_on_way = sim->ack;
        sim->ack_at = sim->now + 1 + (uint32_t)below(sim, 4);
    }
}
