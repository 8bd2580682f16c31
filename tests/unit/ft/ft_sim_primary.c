/* SPDX-License-Identifier: Apache-2.0 */
/* The primary of check_ft_sim: its guest, its log, and what it lets out. */
#include "tests/unit/ft/ft_sim.h"

#include "vmm/machine.h"

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

void sim_let_out(struct sim *sim)
{
    uint64_t ordinal;

    while (!sim->p.dead && ft_primary_may_release(&sim->pri) &&
           ft_commit_next(&sim->commit, sim->now, &ordinal)) {
        sim_outside_sees(sim, ordinal, sim->out_pri[ordinal]);
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
        sim_may_send(sim);
        while (ft_commit_next_free(&sim->commit, &ordinal)) {
            sim_outside_sees(sim, ordinal, sim->out_pri[ordinal]);
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
            sim_word_to(&sim->p, sim->now + 1, FT_PRI_GO_ON, 0);
        }
    }
    if (bits & FT_PRI_DO_TELL_ARMED) {
        sim->owner = WITH_TWIN;
        sim_word_to(&sim->p, sim->now + 1 + (uint32_t)below(sim, 6), FT_PRI_TWIN_WON,
                    ++sim->epoch);
    }
    if (bits & FT_PRI_DO_DISCARD) {
        sim->p.dead = true;
    }
}

void sim_pri_event(struct sim *sim, enum ft_primary_event event, uint64_t epoch)
{
    enum ft_primary_state before = sim->pri.state;
    struct ft_acts acts;

    ft_primary_step(&sim->pri, &(struct ft_input){.event = event, .epoch = epoch}, &acts);
    if (sim->pri.state != before) {
        TELL(sim, "primary %s: %s -> %s", ft_primary_event_str(event),
             ft_primary_state_str(before), ft_primary_state_str(sim->pri.state));
    }
    if (event == FT_PRI_GO_ON && (acts.bits & FT_PRI_DO_REFUSE) != 0) {
        sim->p.told_hold = true; /* a claim after all, as the agent does */
    }
    pri_does(sim, &acts);
    sim_let_out(sim);
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
                sim_outside_sees(sim, ordinal, value);
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

void sim_primary_turn(struct sim *sim)
{
    if (sim->p.dead) {
        return;
    }
    if (sim->p.word.at != 0 && sim->now >= sim->p.word.at) {
        struct later word = sim->p.word;

        sim->p.word.at = 0;
        sim_pri_event(sim, (enum ft_primary_event)word.event, word.epoch);
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
            sim_pri_event(sim, FT_PRI_SILENT, 0);
        }
    }
    if (sim->pri.state == FT_PRI_ON && sim->spoil == SPOIL_NOTHING &&
        below(sim, 25) == 0) {
        sim_pri_event(sim, FT_PRI_BARRIER_DUE, 0);
    }
    if (sim->pri.state == FT_PRI_ON && sim->switching && below(sim, 40) == 0) {
        sim_pri_event(sim, FT_PRI_SWITCHOVER, 0);
    }
    if (sim->pri.state == FT_PRI_BARRIER || sim->pri.state == FT_PRI_HOLD_BARRIER ||
        sim->pri.state == FT_PRI_SWITCHING) {
        send_set(sim);
    }
    if (sim->closed && sim->pri.state >= FT_PRI_ARM && !sim->pri.broken) {
        sim_pri_event(sim, FT_PRI_BROKEN, 0);
    }
    sim_let_out(sim);
}
