/* SPDX-License-Identifier: Apache-2.0 */
/* The world of check_ft_sim: who sees outputs, the way back, agents and the claim store,
 * disasters. */
#include "tests/unit/ft/ft_sim.h"

struct sim_stats sim_stats;

void sim_outside_sees(struct sim *sim, uint64_t ordinal, uint64_t value)
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

void sim_may_send(const struct sim *sim)
{
    EXPECT(!(sim->live && sim->alone), "seed %" PRIu64 ": two are free to send",
           sim->number);
}

void sim_channel_turn(struct sim *sim)
{
    bool to_pri = !sim->cut_back && !sim->p.dead;

    if (sim->ack_at != 0 && sim->now >= sim->ack_at) {
        sim->ack_at = 0;
        if (to_pri) {
            EXPECT(ft_commit_acked(&sim->commit, &sim->ack_on_way),
                   "seed %" PRIu64 ": an acknowledgement that cannot be", sim->number);
            sim->p.heard_at = sim->now;
            if (!sim->closed) {
                sim_pri_event(sim, FT_PRI_HEARD, 0);
            }
            if (sim->ack_on_way.barrier == sim->barrier &&
                sim->barrier_done < sim->barrier) {
                sim->barrier_done = sim->barrier;
                sim_pri_event(sim, FT_PRI_BARRIER_DONE, 0);
            }
            sim_let_out(sim);
        }
    }
    if (sim->closed || !to_pri) {
        return;
    }
    if (sim->diverged_sent) {
        sim->diverged_sent = false;
        sim_pri_event(sim, FT_PRI_DIVERGED, 0);
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
            sim_stats.cut_set++;
        } else if (sim->sec.state == FT_SEC_BARRIER ||
                   sim->sec.state == FT_SEC_DIVERGED) {
            sim->staged = sim->set_on_way;
            sim->s.heard_at = sim->now;
            sim_sec_event(sim, FT_SEC_SET_COMPLETE, 0);
        }
    }
}

void sim_agents_turn(struct sim *sim)
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
        sim_word_to(&sim->p, sim->now + 1 + (uint32_t)below(sim, 8),
                    sim->p.request == WON ? FT_PRI_ALONE_WON : FT_PRI_CLAIM_LOST,
                    sim->epoch);
    }
    if (sim->s.request == SUBMITTED && sim->now >= sim->s.request_at) {
        sim->s.request = sim->owner == WITH_TWIN ? WON : REFUSED;
        if (sim->s.request == WON) {
            sim->owner = TWIN;
            sim->epoch++;
        }
        TELL(sim, "the twin's claim: %s", sim->s.request == WON ? "won" : "lost");
        sim_word_to(&sim->s, sim->now + 1 + (uint32_t)below(sim, 8),
                    sim->s.request == WON ? FT_SEC_CLAIM_WON : FT_SEC_DISCARD,
                    sim->epoch);
    }
    /* The record tells each of them, some time. */
    if (sim->owner == TWIN && !sim->p.dead && below(sim, 20) == 0) {
        sim_pri_event(sim, FT_PRI_CLAIM_LOST, 0);
    }
    if (sim->owner == ALONE && sim->epoch > 2 && !sim->s.dead && !sim->live &&
        below(sim, 20) == 0) {
        sim_sec_event(sim, FT_SEC_DISCARD, 0);
    }
    if (sim->p.dead && !sim->s.dead && !sim->live && below(sim, 30) == 0) {
        sim_sec_event(sim, FT_SEC_PEER_DEAD, 0);
    }
}

void sim_disaster(struct sim *sim)
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
