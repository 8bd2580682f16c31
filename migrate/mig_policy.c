/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_policy.h"

#include <string.h>

#include "base/bug.h"
#include "base/limits.h"
#include "migrate/mig_remedy.h"
#include "migrate/mig_text.h"

#define PERMILLE    1000u
#define PATIENCE_NS NSEC_PER_SEC
/* Progress says no rate, and nothing of zero pages, before so much was sent or done. */
#define KNOWN_NS        (100 * NSEC_PER_MSEC)
#define KNOWN_CAPPED_NS NSEC_PER_SEC /* the bucket of a cap lets some through at once */
#define KNOWN_BYTES     (UINT64_C(8) << 20)
/* What the later rounds take is not known during the first. */
#define FIRST_PERCENT_MAX 90u
/* What an operator may allow. */
#define SLOWDOWN_MAX (MIGRATE_SLOWDOWN_MAX * 10u)

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* a * b / c without overflow on the way; UINT64_MAX when it does not fit, or c is 0. */
static uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c)
{
    unsigned __int128 r = c == 0 ? UINT64_MAX : (unsigned __int128)a * b / c;

    return r > UINT64_MAX ? UINT64_MAX : (uint64_t)r;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t time_for(uint64_t bytes, uint64_t bps)
{
    return mul_div(bytes, NSEC_PER_SEC, bps);
}

/* Measurements ----------------------------------------------------------------------- */
void mig_rate_add(struct mig_rate *rate, uint64_t bytes, uint64_t ns)
{
    unsigned last = (rate->next + MIG_SAMPLES - 1) % MIG_SAMPLES;

    if (rate->count > 0 && (rate->ns[last] < NSEC_PER_MSEC || rate->bytes[last] == 0)) {
        rate->bytes[last] += bytes;
        rate->ns[last] += ns;
        return;
    }
    rate->bytes[rate->next] = bytes;
    rate->ns[rate->next] = ns;
    rate->next = (rate->next + 1) % MIG_SAMPLES;
    if (rate->count < MIG_SAMPLES) {
        rate->count++;
    }
}

uint64_t mig_rate_bps(const struct mig_rate *rate)
{
    uint64_t bps[MIG_SAMPLES], ns[MIG_SAMPLES], total = 0, below = 0;
    unsigned count = 0;

    for (unsigned i = 0; i < rate->count; i++) { /* insertion sort by rate */
        uint64_t value = mul_div(rate->bytes[i], NSEC_PER_SEC, rate->ns[i]);
        unsigned at = count;

        if (rate->ns[i] == 0) {
            continue;
        }
        for (; at > 0 && bps[at - 1] > value; at--) {
            bps[at] = bps[at - 1];
            ns[at] = ns[at - 1];
        }
        bps[at] = value;
        ns[at] = rate->ns[i];
        total += rate->ns[i];
        count++;
    }
    for (unsigned i = 0; i < count; i++) {
        below += ns[i];
        if (below >= (total + 1) / 2) {
            return bps[i];
        }
    }
    return 0;
}

/* Behind a cap, frames of several streams go out in bursts with pauses between them, and
 * most of the time is in samples that are too low. */
static uint64_t mean_bps(const struct mig_rate *rate)
{
    uint64_t bytes = 0, ns = 0;

    for (unsigned i = 0; i < rate->count; i++) {
        bytes = plus(bytes, rate->bytes[i]);
        ns = plus(ns, rate->ns[i]);
    }
    return ns == 0 ? 0 : mul_div(bytes, NSEC_PER_SEC, ns);
}

bool mig_curve_add(struct mig_curve *curve, uint64_t ns, uint64_t bytes)
{
    uint64_t last_ns = curve->count > 0 ? curve->ns[curve->count - 1] : 0;
    uint64_t last_bytes = curve->count > 0 ? curve->bytes[curve->count - 1] : 0;

    if (curve->count == MIG_CURVE_MAX || ns <= last_ns || bytes < last_bytes) {
        return false;
    }
    curve->ns[curve->count] = ns;
    curve->bytes[curve->count++] = bytes;
    return true;
}

uint64_t mig_curve_bytes(const struct mig_curve *curve, uint64_t ns, uint64_t ram_bytes)
{
    uint64_t from_ns = 0, from_bytes = 0, bytes;
    unsigned i = 0;

    if (curve->count == 0) {
        return 0;
    }
    while (i + 1 < curve->count && curve->ns[i] < ns) {
        from_ns = curve->ns[i];
        from_bytes = curve->bytes[i];
        i++;
    }
    bytes = plus(from_bytes, mul_div(curve->bytes[i] - from_bytes, ns - from_ns,
                                     curve->ns[i] - from_ns));
    return smaller(bytes, ram_bytes);
}

/* Prediction ------------------------------------------------------------------------- */
#define ROUNDS_MAX 100u

/* The target is met: does one more round, of `next_ns`, pay? `then`: what it leaves. */
static bool worth_another(const struct mig_policy_conf *conf, uint32_t extra,
                          uint64_t spent_ns, uint64_t left, uint64_t next_ns,
                          uint64_t then)
{
    return extra < MIG_EXTRA_MAX && next_ns > MIG_EXTRA_WORTH_NS && then < left / 2 &&
           (conf->timeout_ns == 0 || plus(spent_ns, next_ns) < conf->timeout_ns);
}

/* Pre-copy on paper: does it come below the target? Fills in rounds, bytes, times. */
static bool converges(const struct mig_policy_conf *conf, uint64_t used, uint64_t bps,
                      const struct mig_curve *dirty, uint32_t throttle,
                      struct mig_prediction *ret)
{
    uint64_t left = used;
    uint32_t extra = 0;

    ret->throttle = throttle;
    ret->total_ns = ret->bytes = 0;
    for (ret->rounds = 1; ret->rounds <= ROUNDS_MAX; ret->rounds++) {
        uint64_t round_ns = time_for(left, bps);
        uint64_t window = mul_div(round_ns, PERMILLE - throttle, PERMILLE);
        uint64_t next = mig_curve_bytes(dirty, window, conf->ram_bytes);

        ret->total_ns = plus(ret->total_ns, round_ns);
        ret->bytes = plus(ret->bytes, left);
        ret->downtime_ns = plus(time_for(next, bps), conf->fixed_ns);
        if (conf->timeout_ns != 0 && ret->total_ns > conf->timeout_ns) {
            return false;
        }
        if (ret->downtime_ns <= conf->downtime_ns) {
            uint64_t next_ns = time_for(next, bps);
            uint64_t then = mig_curve_bytes(
                dirty, mul_div(next_ns, PERMILLE - throttle, PERMILLE), conf->ram_bytes);

            if (worth_another(conf, extra, ret->total_ns, next, next_ns, then)) {
                extra++;
                left = next;
                continue;
            }
            ret->total_ns = plus(ret->total_ns, ret->downtime_ns);
            ret->bytes = plus(ret->bytes, next);
            return true;
        }
        if (next >= left - left / 50) { /* as good as it gets */
            return false;
        }
        left = next;
    }
    return false;
}

/* The least throttle in (low, high] with which it converges; `high` does. */
static uint32_t least_throttle(const struct mig_policy_conf *conf, uint64_t used,
                               uint64_t bps, const struct mig_curve *dirty, uint32_t low,
                               uint32_t high)
{
    struct mig_prediction scratch;

    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;

        if (converges(conf, used, bps, dirty, middle, &scratch)) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return high;
}

/* A bandwidth that would do, at the throttle that is allowed; 0: none up to 1000 times.
 */
static uint64_t least_bps(const struct mig_policy_conf *conf, uint64_t used, uint64_t bps,
                          const struct mig_curve *dirty)
{
    struct mig_prediction scratch;
    uint64_t low = bps, high = bps;

    do {
        low = high;
        high = plus(high, high / 2 + 1);
        if (high / 1000 > bps) {
            return 0;
        }
    } while (!converges(conf, used, high, dirty, conf->max_slowdown, &scratch));
    for (unsigned i = 0; i < 6; i++) {
        uint64_t middle = low + (high - low) / 2;

        if (converges(conf, used, middle, dirty, conf->max_slowdown, &scratch)) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return high;
}

static void cannot_keep(const struct mig_policy_conf *conf, struct mig_text *t)
{
    mig_text_add(t,
                 "cannot keep a downtime of %t: stopping and starting alone takes about "
                 "%t",
                 conf->downtime_ns, conf->fixed_ns);
}

static void explain_refusal(const struct mig_policy_conf *conf, uint64_t bps,
                            const struct mig_curve *dirty, struct mig_prediction *p)
{
    struct mig_text t = mig_text_make(p->text, sizeof p->text);
    bool any = false;

    if (bps == 0) {
        mig_text_add(&t, "no prediction: the bandwidth of the link is not known");
        return;
    }
    if (conf->fixed_ns >= conf->downtime_ns) {
        cannot_keep(conf, &t);
    } else {
        mig_text_add(&t,
                     "does not converge%s: the guest writes about %b in 1 s, the link "
                     "carries %b/s; downtime about %t",
                     p->throttle > 0 ? " even slowed down" : "",
                     mig_curve_bytes(dirty, NSEC_PER_SEC, conf->ram_bytes), bps,
                     p->downtime_ns);
    }
    if (p->needs_downtime_ns != 0) {
        mig_remedy_downtime(&t, &any, p->needs_downtime_ns);
    }
    if (p->needs_bps != 0 && conf->cap_bps == bps) {
        mig_remedy_rate(&t, &any, p->needs_bps);
    } else if (p->needs_bps != 0) {
        mig_remedy_begin(&t, &any);
        mig_text_add(&t, "a link of %b/s", p->needs_bps);
    }
    if (p->needs_slowdown != 0) {
        mig_remedy_slowdown(&t, &any, p->needs_slowdown);
    }
}

/* What alone would make it converge; every answer is tried out. */
static void find_remedies(const struct mig_policy_conf *conf, uint64_t used, uint64_t bps,
                          const struct mig_curve *dirty, struct mig_prediction *p)
{
    struct mig_prediction scratch;
    struct mig_policy_conf longer = *conf;

    /* The best it came to, and a tenth more for what moves meanwhile. */
    longer.downtime_ns = plus(p->downtime_ns, p->downtime_ns / 10);
    if (converges(&longer, used, bps, dirty, conf->max_slowdown, &scratch)) {
        p->needs_downtime_ns = longer.downtime_ns;
    }
    p->needs_bps = least_bps(conf, used, bps, dirty);
    if (conf->max_slowdown < SLOWDOWN_MAX &&
        converges(conf, used, bps, dirty, SLOWDOWN_MAX, &scratch)) {
        p->needs_slowdown =
            least_throttle(conf, used, bps, dirty, conf->max_slowdown, SLOWDOWN_MAX);
    }
}

void mig_predict(const struct mig_policy_conf *conf, uint64_t used_bytes, uint64_t bps,
                 const struct mig_curve *dirty, struct mig_prediction *ret)
{
    struct mig_text t;

    memset(ret, 0, sizeof *ret);
    if (conf->cap_bps != 0) {
        bps = smaller(bps, conf->cap_bps);
    }
    if (bps == 0) {
        explain_refusal(conf, bps, dirty, ret);
        return;
    }
    ret->converges = converges(conf, used_bytes, bps, dirty, 0, ret);
    if (!ret->converges && conf->max_slowdown > 0) {
        ret->converges = converges(conf, used_bytes, bps, dirty, conf->max_slowdown, ret);
        if (ret->converges) {
            uint32_t least =
                least_throttle(conf, used_bytes, bps, dirty, 0, conf->max_slowdown);

            (void)converges(conf, used_bytes, bps, dirty, least, ret);
        }
    }
    if (!ret->converges) {
        find_remedies(conf, used_bytes, bps, dirty, ret);
        explain_refusal(conf, bps, dirty, ret);
        return;
    }
    t = mig_text_make(ret->text, sizeof ret->text);
    mig_text_add(&t, "converges in about %t, downtime about %t", ret->total_ns,
                 ret->downtime_ns);
    if (ret->throttle > 0) {
        mig_text_add(&t, ", with the guest slowed down by %p", (uint64_t)ret->throttle);
    }
}

/* While it runs ---------------------------------------------------------------------- */
bool mig_policy_hopeless(const struct mig_policy_conf *conf, char *ret_text)
{
    struct mig_text t = mig_text_make(ret_text, MIG_TEXT_MAX + 1);
    bool any = false;

    if (conf->fixed_ns < conf->downtime_ns) {
        return false;
    }
    cannot_keep(conf, &t);
    mig_remedy_downtime(&t, &any, conf->fixed_ns * 2);
    return true;
}

void mig_policy_init(struct mig_policy *p, const struct mig_policy_conf *conf,
                     uint64_t now_ns)
{
    BUG_ON(conf->max_slowdown > MIG_THROTTLE_MAX);
    *p = (struct mig_policy){.conf = *conf,
                             .cap = rate_make(conf->cap_bps),
                             .start_ns = now_ns,
                             .left_bytes = conf->ram_bytes,
                             .best_bytes = UINT64_MAX,
                             .best_ns = now_ns};
}

void mig_policy_sent(struct mig_policy *p, uint64_t bytes, uint64_t ns)
{
    mig_rate_add(&p->sent, bytes, ns);
    p->sent_bytes += bytes;
    p->sent_ns += ns;
    p->round_bytes += bytes;
    p->round_ns += ns;
}

/* What may be counted on: the median, or this round's average when that is lower and
 * means something. */
static uint64_t bandwidth(const struct mig_policy *p)
{
    uint64_t bps = p->conf.cap_bps != 0 ? mean_bps(&p->sent) : mig_rate_bps(&p->sent);

    if (p->round_ns >= 5 * NSEC_PER_MSEC && p->round_bytes > 0) {
        bps = smaller(bps, mul_div(p->round_bytes, NSEC_PER_SEC, p->round_ns));
    }
    return bps;
}

bool mig_policy_over(const struct mig_policy *p, uint64_t now_ns)
{
    return p->conf.timeout_ns != 0 && now_ns - p->start_ns >= p->conf.timeout_ns;
}

/* The throttle that makes the next round end with what the target allows, or at least
 * with 7/10 of what is left now. */
static uint32_t throttle_needed(const struct mig_policy *p, uint64_t left, uint64_t bps)
{
    const struct mig_policy_conf *conf = &p->conf;
    uint64_t next_ns = time_for(left, bps);
    uint64_t unslowed = mul_div(p->full_bps, next_ns, NSEC_PER_SEC);
    uint64_t allowed =
        conf->downtime_ns > conf->fixed_ns
            ? mul_div(bps, conf->downtime_ns - conf->fixed_ns, NSEC_PER_SEC)
            : 0;
    uint64_t want = larger(allowed, left / 10 * 7);

    return unslowed <= want ? 0 : PERMILLE - (uint32_t)mul_div(want, PERMILLE, unslowed);
}

/* Two rounds in a row that did not shrink, and a second without progress, are no burst.
 * More than is needed is given back at once. */
static void set_throttle(struct mig_policy *p, uint64_t now_ns, uint64_t left,
                         uint64_t bps)
{
    uint32_t needed = throttle_needed(p, left, bps);

    if (p->stuck < 2 || now_ns - p->best_ns < PATIENCE_NS) {
        p->throttle = (uint32_t)smaller(p->throttle, needed);
        return;
    }
    if (p->throttle > 0) { /* it was not enough, whatever the estimate says */
        needed = (uint32_t)larger(needed, p->throttle + PERMILLE / 10);
    }
    p->throttle = (uint32_t)smaller(needed, p->conf.max_slowdown);
}

/* It is the operator's limit that it comes up against, rather than the link. */
static bool is_capped(const struct mig_policy_conf *conf, uint64_t bps)
{
    return conf->cap_bps != 0 && bps >= conf->cap_bps / 2;
}

/*
 * What would have let it through, from what was measured. A guest that writes the same
 * pages again and again looks slower the longer the rounds are, so that `full_bps` is too
 * low for the short rounds of one that converges: what depends on it is proposed with
 * room. A slowdown and a rate are only used as far as they are needed.
 */
static void propose(const struct mig_policy *p, enum mig_code code, uint64_t now_ns,
                    uint64_t bps, struct mig_text *t)
{
    const struct mig_policy_conf *conf = &p->conf;
    bool any = false;
    uint64_t full = larger(p->full_bps, 1), slowdown;
    /* What was left last, not the least that ever was: that was luck. With room: on a
     * busy node the same guest left 13 % more the next time. */
    uint64_t left = plus(p->left_bytes, p->left_bytes / 2);
    uint64_t downtime = plus(time_for(left, bps), conf->fixed_ns);

    if (code == MIG_END_TIMEOUT && p->dirty_bps < bps / 10 * 9) {
        uint64_t rest = mul_div(p->left_bytes, bps, bps - p->dirty_bps);
        uint64_t total = plus(now_ns - p->start_ns, time_for(rest, bps) * 2);

        mig_remedy_begin(t, &any);
        mig_text_add(t, "--timeout %us", mig_remedy_round(total / NSEC_PER_SEC + 1));
    }
    if (downtime > conf->downtime_ns) {
        mig_remedy_downtime(t, &any, downtime);
    }
    if (is_capped(conf, bps)) {
        /* `bps` is that of pages, which may be compressed on the way. */
        mig_remedy_rate(t, &any, mul_div(larger(full, bps) * 3, conf->cap_bps, bps));
    }
    slowdown = PERMILLE - smaller(mul_div(bps, PERMILLE / 4, full), PERMILLE);
    slowdown = smaller((slowdown + 49) / 50 * 50, SLOWDOWN_MAX);
    /* One that was held back for half of the time, and wrote as before, was not busy. */
    if (slowdown > conf->max_slowdown && code != MIG_END_TIMEOUT &&
        p->throttle < PERMILLE / 2) {
        mig_remedy_slowdown(t, &any, slowdown);
    }
    if (!any) {
        mig_text_add(t, "; no option would do, a faster link would");
    }
}

static void give_up(const struct mig_policy *p, enum mig_code code, uint64_t now_ns,
                    uint64_t bps, struct mig_decision *ret)
{
    struct mig_text t = mig_text_make(ret->text, sizeof ret->text);

    ret->verdict = MIG_GIVE_UP;
    ret->code = code;
    mig_text_add(&t,
                 "%s after %u rounds: the guest writes %b/s, %s %b/s, "
                 "downtime would be %t (target %t)",
                 code == MIG_END_TIMEOUT ? "out of time" : "does not converge",
                 (uint64_t)p->round, p->dirty_bps,
                 is_capped(&p->conf, bps) ? "--rate gave" : "the link carries", bps,
                 ret->downtime_ns, p->conf.downtime_ns);
    propose(p, code, now_ns, bps, &t);
}

void mig_policy_round(struct mig_policy *p, const struct mig_round_done *round,
                      struct mig_decision *ret)
{
    uint64_t bps = bandwidth(p), left = round->left_bytes;
    bool shrunk = left < p->left_bytes / 10 * 8;

    memset(ret, 0, sizeof *ret);
    p->round++;
    p->done_bytes = plus(p->done_bytes, p->left_bytes);
    p->round_bytes = p->round_ns = 0;
    p->dirty_bps = mul_div(round->dirtied_bytes, NSEC_PER_SEC,
                           larger(round->took_ns, NSEC_PER_USEC));
    p->full_bps = mul_div(p->dirty_bps, PERMILLE, PERMILLE - p->throttle);
    p->left_bytes = left;
    p->stuck = shrunk ? 0 : p->stuck + 1;
    if (p->best_bytes == UINT64_MAX || left < p->best_bytes / 100 * 95) {
        p->best_bytes = left;
        p->best_ns = round->now_ns;
    }
    ret->downtime_ns =
        left == 0 ? p->conf.fixed_ns : plus(time_for(left, bps), p->conf.fixed_ns);
    if (ret->downtime_ns <= p->conf.downtime_ns) {
        uint64_t next_ns = time_for(left, bps);

        ret->throttle = p->throttle;
        if (left > 0 &&
            worth_another(&p->conf, p->extra, round->now_ns - p->start_ns, left, next_ns,
                          mul_div(p->dirty_bps, next_ns, NSEC_PER_SEC))) {
            p->extra++;
        } else {
            ret->verdict = MIG_SWITCH;
        }
        return;
    }
    if (mig_policy_over(p, round->now_ns)) {
        give_up(p, MIG_END_TIMEOUT, round->now_ns, bps, ret);
        return;
    }
    if (p->stuck >= 3 && p->throttle >= p->conf.max_slowdown &&
        round->now_ns - p->best_ns >= p->conf.stall_ns) {
        give_up(p, MIG_END_CONVERGE, round->now_ns, bps, ret);
        return;
    }
    set_throttle(p, round->now_ns, left, bps);
    ret->throttle = p->throttle;
}

bool mig_policy_may_send(const struct mig_policy *p, uint64_t now_ns, uint64_t *ret_at_ns)
{
    *ret_at_ns = rate_ready_at(&p->cap);
    return rate_ready(&p->cap, now_ns);
}

void mig_policy_charge(struct mig_policy *p, uint64_t now_ns, uint64_t bytes)
{
    rate_charge(&p->cap, now_ns, bytes);
}

/* Pages that are zero, or do not exist, are passed over: of the round under way, how much
 * goes out for what is done. Until something can be said, all of it. */
static uint64_t wire_bytes(const struct mig_policy *p, uint64_t done, uint64_t left)
{
    if (done < KNOWN_BYTES || p->round_bytes >= done) {
        return left;
    }
    return mul_div(left, p->round_bytes, done);
}

void mig_policy_progress(struct mig_policy *p, uint64_t left_bytes,
                         struct mig_progress *ret)
{
    uint64_t bps = bandwidth(p), dirty = p->dirty_bps, rest = UINT64_MAX, wire;
    uint64_t begun = larger(p->left_bytes, left_bytes), done = begun - left_bytes;
    uint32_t percent = 0;

    wire = wire_bytes(p, done, left_bytes);
    /* Rounds shrink by dirty / bps: what is left of all of them is a geometric series. */
    if (dirty < bps) {
        rest = mul_div(wire, bps, bps - dirty);
        done = plus(done, p->done_bytes);
        percent = (uint32_t)mul_div(
            done, 100, larger(plus(done, mul_div(left_bytes, bps, bps - dirty)), 1));
    }
    percent = (uint32_t)smaller(percent, p->round == 0 ? FIRST_PERCENT_MAX : 99);
    p->percent = (uint32_t)larger(p->percent, percent);
    *ret = (struct mig_progress){
        .percent = p->percent,
        .eta_ns =
            rest == UINT64_MAX ? UINT64_MAX : plus(time_for(rest, bps), p->conf.fixed_ns),
        .bandwidth_bps =
            p->sent_ns >= (p->conf.cap_bps != 0 ? KNOWN_CAPPED_NS : KNOWN_NS) ? bps : 0,
        .dirty_bps = dirty};
}
