/* SPDX-License-Identifier: Apache-2.0 */
#include "ft/ft_commit.h"

#include "base/bug.h"

void ft_commit_init(struct ft_commit *c, enum ft_commit_rule rule, uint64_t lag_ns)
{
    c->rule = rule;
    c->lag_ns = lag_ns;
    c->differs = false;
    c->made = c->left = c->sent_seq = c->sent_exits = 0;
    c->ack = (struct ft_ack){0};
}

bool ft_commit_full(const struct ft_commit *c)
{
    return c->made - c->left == FT_HELD_MAX;
}

void ft_commit_logged(struct ft_commit *c, uint64_t seq, uint64_t exits)
{
    BUG_ON(seq <= c->sent_seq || exits < c->sent_exits);
    c->sent_seq = seq;
    c->sent_exits = exits;
}

static struct ft_held *held_at(struct ft_commit *c, uint64_t ordinal)
{
    return &c->held[ordinal % FT_HELD_MAX];
}

uint64_t ft_commit_hold(struct ft_commit *c, uint64_t seq, uint64_t now_ns,
                        uint64_t cookie, bool flush)
{
    BUG_ON(ft_commit_full(c) || seq > c->sent_seq);
    c->made++;
    *held_at(c, c->made) =
        (struct ft_held){.seq = seq, .held_ns = now_ns, .cookie = cookie, .flush = flush};
    return c->made;
}

bool ft_commit_acked(struct ft_commit *c, const struct ft_ack *ack)
{
    const struct ft_ack *old = &c->ack;

    if (ack->received > c->sent_seq || ack->replayed > c->sent_exits ||
        ack->verified > c->made || ack->flushed > c->made) {
        return false;
    }
    if (ack->received < old->received || ack->replayed < old->replayed ||
        ack->verified < old->verified || ack->flushed < old->flushed ||
        ack->barrier < old->barrier) {
        return false;
    }
    c->ack = *ack;
    return true;
}

void ft_commit_differs(struct ft_commit *c)
{
    c->differs = true;
}

void ft_commit_barrier_done(struct ft_commit *c)
{
    c->differs = false;
}

/* Hybrid: how long the oldest output that is not verified has waited for that. Outputs
 * that left are remembered as long as nothing took their place. */
static bool verified_in_time(struct ft_commit *c, uint64_t now_ns)
{
    uint64_t oldest = c->ack.verified + 1;

    if (oldest > c->made) {
        return true;
    }
    return c->made - oldest < FT_HELD_MAX &&
           now_ns - held_at(c, oldest)->held_ns <= c->lag_ns;
}

static bool may_leave(struct ft_commit *c, uint64_t ordinal, uint64_t now_ns)
{
    const struct ft_held *held = held_at(c, ordinal);

    if (held->flush && c->ack.flushed < ordinal) {
        return false;
    }
    if (c->ack.verified >= ordinal) {
        return true;
    }
    return c->rule != FT_COMMIT_VERIFIED && c->ack.received >= held->seq &&
           (c->rule == FT_COMMIT_RECEIVED ||
            (!c->differs && verified_in_time(c, now_ns)));
}

bool ft_commit_next(struct ft_commit *c, uint64_t now_ns, uint64_t *ret_cookie)
{
    return c->left < c->made && may_leave(c, c->left + 1, now_ns) &&
           ft_commit_next_free(c, ret_cookie);
}

bool ft_commit_next_free(struct ft_commit *c, uint64_t *ret_cookie)
{
    if (c->left == c->made) {
        return false;
    }
    c->left++;
    *ret_cookie = held_at(c, c->left)->cookie;
    return true;
}

uint64_t ft_commit_age_ns(const struct ft_commit *c, uint64_t now_ns)
{
    const struct ft_held *oldest = &c->held[(c->left + 1) % FT_HELD_MAX];

    return c->left == c->made ? 0 : now_ns - oldest->held_ns;
}
