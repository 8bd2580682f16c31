/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proofs of death (design 5, R3): which incarnation of which node can execute nothing any
 * more, and how that is known. A proof names (node, incarnation); one about an older
 * incarnation says nothing about a newer one. Pure: the caller owns the arrays, and
 * `now_ns` is its own CLOCK_MONOTONIC. Used by fencing/claim and ha/; any thread that
 * owns the table.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/units.h"

/* One life of a node. A new join after each clean stop, a new boot_id after each boot.
 * All zero: none. */
struct incarnation {
    struct uuid boot_id;
    uint64_t join;
};

bool incarnation_is_none(const struct incarnation *inc);
bool incarnation_equal(const struct incarnation *a, const struct incarnation *b);

enum proof_kind {
    PROOF_NONE = 0,
    PROOF_FENCED_OFF,  /* a fence device confirmed off, and a second reading said off */
    PROOF_RETURNED,    /* the node is back under another boot id */
    PROOF_CLEAN_STOP,  /* covers only the stopped instances listed with it */
    PROOF_WATCHDOG,    /* proof_wdog_elapsed() said so */
    PROOF_CONFIRM_OFF, /* an operator typed the node's name and a reason */
    PROOF_KIND_COUNT,
};
const char *proof_kind_str(enum proof_kind kind);

/* One VM's end, as listed in a clean-stop record: the instance was gone and its I/O
 * drained. */
struct proof_stopped {
    struct uuid vm;
    uint64_t epoch;
    struct uuid instance;
};

struct proof {
    enum proof_kind kind;
    uint32_t node_id;
    struct incarnation inc;         /* the one that is dead (or stopped) */
    struct incarnation returned_as; /* PROOF_RETURNED only */
    char source[NODE_NAME_MAX + 1]; /* fence device, observing node, or operator */
    char reason[REASON_LEN_MAX + 1];
    uint64_t known_ns; /* when *this* node learnt it: the start of storage.settle here;
                          never replicated */
    uint32_t stopped_first; /* into the table's stopped[]; PROOF_CLEAN_STOP only */
    uint32_t stopped_count;
};

/* The caller's arrays. Entries keep the order in which they were learnt. */
struct proof_table {
    struct proof *proofs;
    uint32_t count, cap;
    struct proof_stopped *stopped;
    uint32_t stopped_count, stopped_cap;
};

/*
 * Adds what was learnt; `stopped` (stopped_count of them) only with PROOF_CLEAN_STOP. A
 * duplicate has no effect and keeps the first known_ns (also 0). -EINVAL: no such kind,
 * no node, no incarnation, PROOF_RETURNED under the same boot id; -ENOSPC: the arrays are
 * full.
 */
int proof_table_add(struct proof_table *table, const struct proof *proof,
                    const struct proof_stopped *stopped, uint32_t stopped_count);
/* Drops everything about this incarnation, once no claim names it. */
void proof_table_forget(struct proof_table *table, uint32_t node_id,
                        const struct incarnation *inc);

struct proof_answer {
    enum proof_kind kind;
    bool drained; /* nothing of this instance is under way any more: no need to wait for
                     storage.settle */
    uint64_t known_ns; /* the earliest proof that this node holds */
    const struct proof *proof;
};
/* Is the whole incarnation proven dead? A clean-stop record never says that. */
bool proof_is_dead(const struct proof_table *table, uint32_t node_id,
                   const struct incarnation *inc, struct proof_answer *ret_answer);
/* Is this instance, as the owner at `epoch`, proven ended: its incarnation dead, or
 * listed in its clean-stop record? */
bool proof_covers(const struct proof_table *table, uint32_t node_id,
                  const struct incarnation *inc, struct uuid vm, uint64_t epoch,
                  struct uuid instance, struct proof_answer *ret_answer);

/*
 * R3, the node is back: its old incarnation is dead when the boot id differs. Under the
 * same boot id a VMM may have outlived its agent, so there only the clean-stop record and
 * acknowledged halts count.
 */
bool proof_return_is_death(const struct incarnation *old_inc,
                           const struct incarnation *new_inc);

/* R3, the watchdog: what the deciding view knows about the target's self-fencing. */
struct proof_wdog {
    bool hardware;           /* a hardware watchdog, not a software timer */
    bool published_as_proof; /* armed and announced before the loss, with bound_ns, by
                                that incarnation */
    bool withdrawn; /* ... and taken back (acknowledged) before its feeding policy changed
                     */
    bool hypervisor;          /* CPUID shows one: its watchdog may be paused with it */
    bool hypervisor_override; /* the operator vouches for it */
    bool view_quorate;
    bool view_has_target;
    uint32_t expected_votes;
    bool has_arbiter; /* with two votes, "lost quorum" exists only with an arbiter */
    uint64_t bound_ns, margin_ns;
    uint64_t last_receipt_ns; /* latest receipt from the target by ANY member of the view;
                                 0 unknown */
};
enum proof_wdog_reason {
    PROOF_WDOG_ELAPSED = 0, /* it is a proof */
    PROOF_WDOG_WAIT,        /* until *ret_due_ns */
    PROOF_WDOG_NOT_HARDWARE,
    PROOF_WDOG_NOT_PUBLISHED,
    PROOF_WDOG_WITHDRAWN,
    PROOF_WDOG_HYPERVISOR,
    PROOF_WDOG_NO_QUORUM,
    PROOF_WDOG_IN_VIEW,
    PROOF_WDOG_TWO_NODES,
    PROOF_WDOG_NO_RECEIPT,
    PROOF_WDOG_REASON_COUNT,
};
enum proof_wdog_reason proof_wdog_elapsed(const struct proof_wdog *wdog, uint64_t now_ns,
                                          uint64_t *ret_due_ns);
const char *proof_wdog_reason_str(enum proof_wdog_reason reason);

/* R3, `gemel node confirm-off`: why the operator's word is not taken. */
enum proof_confirm_reason {
    PROOF_CONFIRM_OK = 0,
    PROOF_CONFIRM_NAME_DIFFERS,
    PROOF_CONFIRM_NO_REASON,
    PROOF_CONFIRM_NODE_ANSWERS,
    PROOF_CONFIRM_REASON_COUNT,
};
enum proof_confirm_reason proof_confirm_check(const char *node_name,
                                              const char *typed_name, const char *reason,
                                              bool node_answers);
const char *proof_confirm_reason_str(enum proof_confirm_reason reason);

/*
 * Codec, for replication: a frame (magic PROOF_MAGIC, type PROOF_FRAME_TYPE) per proof
 * with its stopped list. known_ns does not travel: it is set by the receiver.
 */
#define PROOF_MAGIC       UINT32_C(0x46525047) /* "GPRF" */
#define PROOF_FRAME_TYPE  1
#define PROOF_VERSION     1
#define PROOF_STOPPED_MAX 1024 /* per proof, so that one fits a CPG message */
#define PROOF_ENCODED_MAX (CPG_MSG_MAX - 1024)
enum proof_decode_reason {
    PROOF_DECODE_OK = 0,
    PROOF_DECODE_BAD_FRAME,
    PROOF_DECODE_BAD_VERSION,
    PROOF_DECODE_BAD_KIND,
    PROOF_DECODE_TRUNCATED,
    PROOF_DECODE_TRAILING,
    PROOF_DECODE_TOO_MANY,
    PROOF_DECODE_BAD_VALUE,
};
/* Length, or 0 when it does not fit. `stopped` is the table's array that stopped_first
 * points into. */
size_t proof_encode(const struct proof *proof, const struct proof_stopped *stopped,
                    void *buf, size_t cap);
/* Fills *ret_proof (stopped_first 0) and ret_stopped (room for PROOF_STOPPED_MAX).
 * *ret_len: bytes consumed. */
enum proof_decode_reason proof_decode(const void *buf, size_t len,
                                      struct proof *ret_proof,
                                      struct proof_stopped *ret_stopped, size_t *ret_len);
const char *proof_decode_reason_str(enum proof_decode_reason reason);
