/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One gemel-vmm's end of a protected VM, for its main(): as primary it records what the
 * guest does and holds its outputs, as secondary it replays, until it goes live or is not
 * wanted any more (ft/README.md). Memory comes by a migration (migrate/) whose both ends
 * are READY; its keys, and who is who, go on. What the agent decides comes as events; who
 * may run is its matter. A session may be followed by another one of either role.
 *
 * Functions here are for the loop thread and do not wait. The work is done by the vCPU
 * thread (struct engine_tape) and two threads of a pool.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ft/ft_commit.h"
#include "migrate/mig_listen.h"
#include "vmm/engine.h"

#define FT_SUSPECT_MS        60  /* default of ft_params.suspect_ms */
#define FT_BARRIER_MS        200 /* of barrier_ms */
#define FT_DIVERGE_MAX       3   /* of diverge_max */
#define FT_DIVERGE_WINDOW_MS (10 * 60 * 1000)

struct ft_session;

/* Why a session is, or is about to be, over: what an agent acts on. */
enum ft_session_reason {
    FT_SESSION_AS_SAID = 0, /* as the text says */
    FT_SESSION_DIVERGES,    /* more than diverge_max in FT_DIVERGE_WINDOW_MS */
};

enum ft_role { FT_ROLE_NONE = 0, FT_ROLE_PRIMARY, FT_ROLE_SECONDARY };

struct ft_session_conf {
    struct engine *engine;
    const char *vm_name;
};

struct ft_params {
    struct uuid transfer; /* of the migration that brought the twin */
    struct mig_token token;
    const struct mig_key *key; /* NULL: no TLS (insecure_lab); outlives the session */
    struct mig_fingerprint peer;
    enum ft_commit_rule commit;
    uint32_t suspect_ms;    /* 0: the default */
    uint32_t lag_ms;        /* hybrid; 0: the default */
    uint32_t mirror;        /* bit i: disk i is mirrored */
    bool checkpoint;        /* else lockstep */
    int disk[VM_DISKS_MAX]; /* checkpoint, twin: mirrored disks, which the session takes
                             */
    uint32_t barrier_ms;    /* primary; checkpoint: the longest epoch; 0: the default */
    uint32_t diverge_max;   /* primary: in FT_DIVERGE_WINDOW_MS; 0: the default */
};

/* What the agent has to say; those of a secondary from PEER_DEAD on. */
enum ft_order {
    FT_ORDER_TWIN_WON = 0,
    FT_ORDER_ALONE_WON,
    FT_ORDER_CLAIM_LOST,
    FT_ORDER_SWITCHOVER,
    FT_ORDER_WINNER_RUNS,
    FT_ORDER_GO_ON, /* both */
    FT_ORDER_END,   /* both: the agent ends this side */
    FT_ORDER_PEER_DEAD,
    FT_ORDER_CLAIM_WON,
    FT_ORDERS,
};

/* What barriers found; the primary's. */
struct ft_session_counts {
    uint64_t barriers;
    uint64_t repairs; /* barriers that found a difference */
    uint64_t repair_pages, repair_states, repair_outputs; /* that were sent */
    /* By class: control (it went another way), output, only data. */
    uint64_t diverged, diverged_output, diverged_data;
    uint64_t hashed_pages;
    uint64_t pause_us, pause_max_us; /* of the newest barrier, of the longest */
};

struct ft_session_status {
    enum ft_role role;
    uint64_t change; /* grows with each word to the agent */
    unsigned state;  /* enum ft_primary_state, ft_secondary_state */
    const char *state_name;
    bool over;                     /* no twin any more: alone, live, ended, gone */
    char text[REASON_LEN_MAX + 1]; /* why it is in this state, for people */
    enum ft_session_reason reason; /* of this session */
    bool alike; /* primary, its guest is off: the twin's copies of mirrored disks have all
                   that this side's have, durable */
    uint64_t epoch;
    uint64_t exits, replayed, verified, outputs, released; /* so far */
    uint64_t lag_ns; /* primary: age of the oldest output that is held */
    uint64_t log_bytes;
    /* Checkpoint, primary: number of the newest; of that one: pages, how long the guest
     * stood still, and from then until the twin had it. */
    uint64_t checkpoints, pages, stood, pause_ns, ack_ns;
    struct ft_session_counts counts;
    char bundle[2048]; /* twin: of the newest control divergence, lines for people */
    uint64_t bundle_count;
};

/* Before the sandbox; 0 or -errno with a text. */
int ft_session_new(const struct ft_session_conf *conf, struct ft_session **ret_s,
                   struct vmm_error *err);
/* Behind it: makes the threads. */
int ft_session_go(struct ft_session *s, struct vmm_error *err);
/* Ends what is under way. NULL is fine. Before engine_close: see ft_session_stop. */
void ft_session_free(struct ft_session *s);
/* The engine is about to be closed: no thread of the session waits for the vCPU thread,
 * nor the other way round. */
void ft_session_stop(struct ft_session *s);

/* FROZEN: this VM gets the twin that connects through `fd` (a connected socket, taken in
 * any case). The state is `arm` when the twin is ready. */
int ft_session_protect(struct ft_session *s, int fd, const struct ft_params *params,
                       struct vmm_error *err);
/* CREATED: this VM follows the one that connects to `listen_fd`, which is taken in any
 * case. Mirrored disks were given to engine_disks before. */
int ft_session_follow(struct ft_session *s, int listen_fd, const struct ft_params *params,
                      struct vmm_error *err);
/* NULL: done; else why not, until the next call. */
const char *ft_session_order(struct ft_session *s, enum ft_order order, uint64_t epoch);
/* The engine changed its state. */
void ft_session_engine(struct ft_session *s, const struct engine_status *status);

/* Readable when the status has changed; ft_session_clear before looking. */
int ft_session_fd(const struct ft_session *s);
void ft_session_clear(struct ft_session *s);
void ft_session_status(struct ft_session *s, struct ft_session_status *ret_status);
