/* SPDX-License-Identifier: Apache-2.0 */
/* The secondary's vCPU thread at a position: what of the log comes next (struct
 * engine_tape_ops, next). */
#include <string.h>

#include "base/bug.h"
#include "base/loop.h"
#include "ft/ft_session_priv.h"

static enum tape_next next_input(struct ft_session *s, struct tape_item *ret)
{
    if (ft_get_input(&s->record, &ret->in) != FT_OK) {
        ft_sec_differs(s, "an input that cannot be read");
        return TAPE_NEXT_WAIT;
    }
    s->seen[s->seen_count % FT_SEEN_MAX] =
        (struct ft_seen_input){s->record.exits,
                               s->record.device,
                               {.type = ret->in.type,
                                .slot = ret->in.slot,
                                .len = ret->in.len,
                                .now_ns = ret->in.now_ns}};
    s->seen_count++;
    if (ret->in.len > 0) { /* it may lead to outputs, which look at the next record */
        memcpy(s->state, ret->in.data, ret->in.len);
        ret->in.data = s->state;
    }
    if (ret->in.type == INPUT_CLOCK) {
        ft_sec_saw_time(s, ret->in.now_ns);
    }
    ret->dev_index = s->record.device;
    ft_sec_take(s);
    return TAPE_NEXT_INPUT;
}

static enum tape_next next_control(struct ft_session *s, struct tape_item *ret)
{
    uint64_t what;

    if (ft_get_u64(&s->record, &what, 1) != FT_OK || what == 0 || what >= TAPE_CONTROLS) {
        ft_sec_differs(s, "a control record that cannot be read");
        return TAPE_NEXT_WAIT;
    }
    ret->control = (enum tape_control)what;
    ft_sec_take(s);
    return TAPE_NEXT_CONTROL;
}

bool ft_set_pages(struct ft_session *s, const struct ft_record *record,
                  struct tape_item *ret)
{
    struct engine_ram ram;
    const uint8_t *bytes;

    engine_ram(s->conf.engine, &ram);
    if (ft_pages_get(record, ram.page_count, &s->ram, &bytes) != FT_OK ||
        s->ram.run_count != 1) {
        return false;
    }
    ret->page = s->ram.run[0].first;
    ret->page_count = s->ram.run[0].count;
    ret->bytes = s->ram.run[0].kind == MIG_RAM_RAW ? bytes : NULL;
    return true;
}

static enum tape_next set_pages(struct ft_session *s, const struct ft_record *record,
                                struct tape_item *ret)
{
    if (!ft_set_pages(s, record, ret)) {
        ft_sec_event(s, FT_SEC_HOST_ERROR, 0, "pages of a barrier that cannot be read");
        return TAPE_NEXT_WAIT;
    }
    for (uint64_t page = ret->page; page < ret->page + ret->page_count; page++) {
        s->dirty[page / 64] |= UINT64_C(1) << page % 64;
    }
    s->set.at += record->len;
    return TAPE_NEXT_PAGES;
}

static enum tape_next set_state(struct ft_session *s, struct ft_record *record,
                                struct tape_item *ret)
{
    struct ft_set *set = &s->set;
    uint32_t have = 0, total = 0;

    do {
        struct ft_state piece;

        if (record->type != FT_STATE || ft_get_state(record, &piece) != FT_OK ||
            piece.offset != have || (have > 0 && piece.total != total)) {
            ft_sec_event(s, FT_SEC_HOST_ERROR, 0,
                         "a state of a barrier that cannot be read");
            return TAPE_NEXT_WAIT;
        }
        total = piece.total;
        memcpy(s->state + have, piece.bytes, piece.len);
        have += piece.len;
        set->at += record->len;
        if (have < total &&
            ft_check(set->bytes + set->at, set->len - set->at, record) != FT_OK) {
            record->type = 0;
        }
    } while (have < total);
    ret->bytes = s->state;
    ret->len = total;
    set->len = 0; /* all of it is taken */
    set->whole = false;
    pthread_cond_broadcast(&s->room);
    return TAPE_NEXT_STATE;
}

/* A barrier of which all is here. */
static enum tape_next next_of_set(struct ft_session *s, struct tape_item *ret)
{
    struct ft_set *set = &s->set;
    struct ft_record record;

    BUG_ON(ft_check(set->bytes + set->at, set->len - set->at, &record) != FT_OK);
    ret->position = record.exits;
    return record.type == FT_PAGES ? set_pages(s, &record, ret)
                                   : set_state(s, &record, ret);
}

static enum tape_next next_of_record(struct ft_session *s, uint64_t position,
                                     struct tape_item *ret)
{
    ret->position = position;
    switch (s->record.type) {
    case FT_INPUT:
        return next_input(s, ret);
    case FT_CONTROL:
        return next_control(s, ret);
    case FT_EXIT: /* it came after the exit */
        ft_sec_compare(s);
        return TAPE_NEXT_WAIT;
    case FT_BARRIER:
        ft_repair_at(s, &s->record);
        return TAPE_NEXT_WAIT;
    default:
        ft_sec_differs(s, "the primary made an output, or looked at its clock, here not");
        return TAPE_NEXT_WAIT;
    }
}

static enum tape_next next(struct ft_session *s, uint64_t position, struct tape_item *ret)
{
    if (s->sec.state == FT_SEC_SYNC) {
        ft_sec_event(s, FT_SEC_SYNCED, 0, NULL);
    }
    if (s->stopped) {
        return TAPE_NEXT_WAIT;
    }
    if ((s->sec.state != FT_SEC_REPLAY && s->sec.state != FT_SEC_QUIET) || s->differs) {
        ft_repair_turn(s);
        return TAPE_NEXT_WAIT;
    }
    if (ft_sec_peek(s) && s->record.exits < position) {
        ft_sec_differs(s, "the primary did something at an exit that is over here");
        return TAPE_NEXT_WAIT;
    }
    if (s->have_record && s->record.exits == position) {
        return next_of_record(s, position, ret);
    }
    if (s->set.whole && !s->set.number && s->set.position == position + 1) {
        return next_of_set(s, ret);
    }
    if (s->have_record || position < s->head.exits) {
        return TAPE_NEXT_RUN;
    }
    if (s->takeover) {
        ft_sec_event(s, FT_SEC_AT_TAKEOVER, 0, NULL);
    } else if (s->sec.state == FT_SEC_QUIET) {
        ft_sec_event(s, FT_SEC_CAUGHT_UP, 0, NULL);
    }
    return TAPE_NEXT_WAIT;
}

enum tape_next ft_sec_next(void *ctx, uint64_t position, struct tape_item *ret)
{
    struct ft_session *s = ctx;
    enum tape_next what;
    uint64_t at;

    *ret = (struct tape_item){.position = position};
    pthread_mutex_lock(&s->lock);
    do { /* a digest is taken, and what comes after it is looked at */
        at = s->log.head;
        what = next(s, position, ret);
    } while (what == TAPE_NEXT_WAIT && s->log.head != at);
    s->run_since_ns = what == TAPE_NEXT_RUN ? loop_now_ns() : 0;
    pthread_mutex_unlock(&s->lock);
    return what;
}
