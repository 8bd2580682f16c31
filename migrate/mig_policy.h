/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pre-copy: when to freeze, whether to slow the guest down, when to give up, and what to
 * promise before the start. Pure: time and measurements come in. All rates are bytes per
 * second, all times monotonic ns; slowdown and throttle are permille of vCPU time.
 *
 * Stop rule: what is left to send / bandwidth + fixed part <= downtime target. Then up to
 * MIG_EXTRA_MAX rounds more while each at least halves what is left: they cost less time
 * than they save of the guest's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "migrate/mig_types.h"
#include "vmm/rate.h"

struct mig_policy_conf {
    uint64_t ram_bytes;
    uint64_t downtime_ns;  /* target */
    uint64_t fixed_ns;     /* freeze, drain, state, load, claim: what is lost besides */
    uint64_t timeout_ns;   /* of the whole pre-copy; 0: none */
    uint64_t stall_ns;     /* give up after so long without progress */
    uint32_t max_slowdown; /* permille, at most MIG_THROTTLE_MAX; 0: never */
    uint64_t cap_bps;      /* bandwidth cap; 0: none */
};
#define MIG_DOWNTIME_DEFAULT_NS (UINT64_C(300) * NSEC_PER_MSEC)
#define MIG_FIXED_DEFAULT_NS    (UINT64_C(20) * NSEC_PER_MSEC)
#define MIG_STALL_DEFAULT_NS    (UINT64_C(10) * NSEC_PER_SEC)
#define MIG_THROTTLE_MAX        990u
#define MIG_EXTRA_MAX           4u
#define MIG_EXTRA_WORTH_NS      (UINT64_C(3) * NSEC_PER_MSEC) /* less is not worth a round */

/* Average that one odd sample cannot move: the median of the latest samples, each of
 * them weighed by its time. */
#define MIG_SAMPLES 9
struct mig_rate {
    uint64_t bytes[MIG_SAMPLES], ns[MIG_SAMPLES];
    unsigned count, next;
};
/* Samples shorter than 1 ms, or without a byte (a frame goes out at once, and behind a
 * cap nothing for long), are joined with the next. */
void mig_rate_add(struct mig_rate *rate, uint64_t bytes, uint64_t ns);
uint64_t mig_rate_bps(const struct mig_rate *rate); /* 0: nothing is known */

/*
 * How much a guest dirties in a time: distinct bytes against time, measured by reading
 * the dirty log several times without clearing what was found. Grows ever slower, as
 * guests write the same pages again.
 */
#define MIG_CURVE_MAX 8
struct mig_curve {
    unsigned count;
    uint64_t ns[MIG_CURVE_MAX], bytes[MIG_CURVE_MAX]; /* ascending */
};
/* False (nothing added): full, or not ascending. */
bool mig_curve_add(struct mig_curve *curve, uint64_t ns, uint64_t bytes);
/* Between points a straight line; beyond the last one its slope goes on; at most
 * `ram_bytes`. */
uint64_t mig_curve_bytes(const struct mig_curve *curve, uint64_t ns, uint64_t ram_bytes);

/* Prediction ----------------------------------------------------------------------- */
struct mig_prediction {
    bool converges;
    uint32_t throttle; /* that it takes, permille; 0: none */
    uint32_t rounds;
    uint64_t total_ns, downtime_ns;
    uint64_t bytes;
    /* When it does not converge: any one of these would do. 0: that alone does not. */
    uint64_t needs_downtime_ns, needs_bps;
    uint32_t needs_slowdown;
    char text[MIG_TEXT_MAX + 1]; /* "converges in about 3 s, downtime about 80 ms" */
};
/* `used_bytes`: of RAM that is not zero; `bps`: what the link was measured to carry. */
void mig_predict(const struct mig_policy_conf *conf, uint64_t used_bytes, uint64_t bps,
                 const struct mig_curve *dirty, struct mig_prediction *ret);

/* While it runs -------------------------------------------------------------------- */
enum mig_verdict {
    MIG_GO_ON = 0, /* another round */
    MIG_SWITCH,    /* freeze now */
    MIG_GIVE_UP,   /* code and text say why */
};

struct mig_decision {
    enum mig_verdict verdict;
    uint32_t throttle;    /* from now on; 0: none */
    uint64_t downtime_ns; /* expected if it were frozen now */
    enum mig_code code;
    char text[MIG_TEXT_MAX + 1];
};

struct mig_policy {
    struct mig_policy_conf conf;
    struct rate cap;
    struct mig_rate sent;
    uint64_t round_bytes, round_ns; /* sent in the round under way */
    uint64_t start_ns;
    uint32_t round;     /* finished ones */
    uint64_t dirty_bps; /* of the last round, with the throttle it had */
    uint64_t full_bps;  /* estimate without any */
    uint64_t left_bytes, best_bytes, best_ns; /* best: least that was ever left, when */
    uint32_t extra;                           /* rounds since the target was met */
    uint32_t throttle, stuck; /* stuck: rounds in a row that did not shrink */
    uint64_t sent_bytes, sent_ns;
    uint64_t done_bytes; /* of finished rounds, pages that were passed over included */
    uint32_t percent;    /* highest shown */
};

/* True: the target is below what it takes in any case; ret_text (MIG_TEXT_MAX + 1) says
 * so. */
bool mig_policy_hopeless(const struct mig_policy_conf *conf, char *ret_text);
void mig_policy_init(struct mig_policy *p, const struct mig_policy_conf *conf,
                     uint64_t now_ns);
/* Any time: so much went out in so long (while there was something to send). */
void mig_policy_sent(struct mig_policy *p, uint64_t bytes, uint64_t ns);
/* What a round did; the dirty log was merged behind it. */
struct mig_round_done {
    uint64_t now_ns, took_ns;
    uint64_t dirtied_bytes; /* distinct, while it ran */
    uint64_t left_bytes;    /* to send now: dirtied and given back */
};
void mig_policy_round(struct mig_policy *p, const struct mig_round_done *round,
                      struct mig_decision *ret);
/* The timeout, between rounds too. True: time is over. */
bool mig_policy_over(const struct mig_policy *p, uint64_t now_ns);

/* Bandwidth cap: may something be sent now? Else when (*ret_at_ns). Then charge what was
 * sent. */
bool mig_policy_may_send(const struct mig_policy *p, uint64_t now_ns,
                         uint64_t *ret_at_ns);
void mig_policy_charge(struct mig_policy *p, uint64_t now_ns, uint64_t bytes);

struct mig_progress {
    uint32_t percent;       /* never goes back; 100 only when the caller is done */
    uint64_t eta_ns;        /* UINT64_MAX: it does not converge as things are */
    uint64_t bandwidth_bps; /* 0: nothing can be said yet */
    uint64_t dirty_bps;
};
/* `left_bytes`: of the round under way. */
void mig_policy_progress(struct mig_policy *p, uint64_t left_bytes,
                         struct mig_progress *ret);
