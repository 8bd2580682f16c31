/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ownership of a VM (design 5): claims, releases, and the rules that decide who may take
 * the next claim, who may enter the guest and who may touch its disk. Pure; called by the
 * agent, by tests and by tests/model, which explores exactly these functions. Whoever is
 * named in the highest claim owns the VM; every entry into the guest takes the next claim
 * first (R1).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/units.h"
#include "fencing/proof.h"

#define CLAIM_MIRRORS_MAX 4
#define CLAIM_DIGEST_LEN  32

/* An instance (one gemel-vmm process, never reused) and where it lives. instance all
 * zero: none. */
struct claim_who {
    uint32_t node_id;
    struct incarnation inc;
    struct uuid instance;
};

/* An owner that was displaced while its writes could still arrive. */
struct claim_displaced {
    struct claim_who who;
    uint64_t epoch; /* the last one it owned: an acknowledged freeze counts for that epoch
                       only */
};

/* owner.N: immutable. */
struct claim {
    struct uuid vm;
    uint64_t epoch; /* from 1 */
    struct uuid
        attempt; /* of this one attempt at linking; what is read back decides by it */
    char node_name[NODE_NAME_MAX + 1];
    struct claim_who owner;
    struct claim_who twin;                    /* instance none: no twin */
    uint32_t mirror_count;                    /* 0: the disks are shared, not mirrored */
    uint32_t mirror_nodes[CLAIM_MIRRORS_MAX]; /* nodes whose copy of the disks has every
                                                 completed FLUSH */
    uint32_t unexcluded_count;
    struct claim_displaced unexcluded[CLAIM_UNEXCLUDED_MAX];
};

/* owner.N.released: one-way, made by the owner of epoch N after it froze, drained and
 * flushed. */
struct claim_release {
    struct uuid vm;
    uint64_t epoch;
    struct uuid instance; /* the owner that gives up */
    struct uuid to;       /* the destination instance, or none: anyone (clean stop) */
    bool suspended;       /* suspend.gms holds the VM's state, with this digest */
    uint8_t digest[CLAIM_DIGEST_LEN];
};

/* Why the guest is to be entered. Numbers are stable. */
enum claim_kind {
    CLAIM_KIND_NONE = 0,
    CLAIM_START,      /* cold boot, first or after an owner that is gone */
    CLAIM_RESTART,    /* as START; the policy's word for a recovery */
    CLAIM_RESUME,     /* from suspend.gms */
    CLAIM_THAW,       /* the owner again, after an acknowledged freeze */
    CLAIM_MIGRATE_IN, /* the destination, after the release to it */
    CLAIM_TAKE_BACK,  /* the source, after it submitted a release */
    CLAIM_GO_LIVE,    /* the twin, without its primary */
    CLAIM_GO_ALONE,   /* the primary, without its twin */
    CLAIM_PROTECT,    /* the primary names a synced twin */
    CLAIM_UNPROTECT,
    CLAIM_KIND_COUNT,
};
const char *claim_kind_str(enum claim_kind kind);

/* R2: the owner's own agent acknowledged that this instance runs no more and its I/O is
 * drained. */
enum claim_halt_kind {
    CLAIM_HALT_NONE = 0,
    CLAIM_HALT_FROZEN, /* valid for `epoch` only: it may thaw, by the next claim */
    CLAIM_HALT_GONE,   /* its cgroup is empty */
};
struct claim_halt {
    struct uuid vm;
    uint64_t epoch;
    struct uuid instance;
    enum claim_halt_kind kind;
};

/* What is known about displaced owners, here and now. */
struct claim_evidence {
    const struct proof_table *proofs; /* NULL: none */
    const struct claim_halt *halts;
    uint32_t halt_count;
    const struct uuid
        *fenced_by_storage; /* instances whose writes the storage refuses from now on */
    uint32_t fenced_by_storage_count;
    uint64_t now_ns;
    uint64_t
        settle_ns; /* storage.settle; UINT64_MAX: on this storage time excludes nothing */
};

struct claim_view {
    struct uuid vm;
    enum claim_kind kind;
    struct claim_who me;
    const char *node_name;
    struct uuid attempt;         /* fresh */
    const struct claim *highest; /* NULL: the directory was read and holds no claim */
    const struct claim_release *release; /* of the highest claim; NULL: none was there */
    struct claim_evidence evidence;
    bool quorate;    /* the view of R0 holds and is quorate */
    bool links_down; /* this node's own links are down (R5: a twin delays) */
    bool mirrored;   /* the disks are mirrored per node; decides the mirrors of a first
                        claim */
    bool mirror_override;   /* START, RESTART: an operator accepts this node's copy as it
                               is */
    bool discard_suspended; /* the operator gives up the suspended state */
    const uint8_t
        *suspend_digest; /* RESUME: of the suspend.gms at hand, CLAIM_DIGEST_LEN bytes */
    /* PROTECT only */
    struct claim_who twin;
    bool twin_synced;   /* memory, devices and (mirrored) disk */
    bool commit_on;     /* no output leaves without the twin ... */
    bool older_drained; /* ... and what left before is complete */
};

/* Numbers are stable: events, `gemel explain --json` and tests carry them. */
enum claim_reason {
    CLAIM_OK = 0,
    CLAIM_NO_BAD_VIEW,      /* a programmer's or a corrupt input: never taken */
    CLAIM_NO_INSTANCE_USED, /* an instance serves once: start a new one */
    CLAIM_NO_QUORUM,
    CLAIM_NO_OWNER_NOT_PROVEN_DEAD,
    CLAIM_NO_NOT_OWNER, /* the highest claim names another instance: discard */
    CLAIM_NO_RELEASED,  /* given up: only TAKE_BACK or the destination go on from here */
    CLAIM_NO_NOT_RELEASED_TO_ME,
    CLAIM_NO_NOT_TWIN,
    CLAIM_NO_LINKS_DOWN,
    CLAIM_NO_NO_TWIN, /* nothing to leave */
    CLAIM_NO_TWIN_SAME_NODE,
    CLAIM_NO_TWIN_NOT_SYNCED,
    CLAIM_NO_COMMIT_OFF,
    CLAIM_NO_NOT_DRAINED,
    CLAIM_NO_MIRROR_STALE,
    CLAIM_NO_SUSPENDED, /* a suspended state would be lost */
    CLAIM_NO_NOT_SUSPENDED,
    CLAIM_NO_DIGEST_DIFFERS,
    CLAIM_NO_LIST_FULL, /* CLAIM_UNEXCLUDED_MAX displaced owners, none proven dead */
    CLAIM_REASON_COUNT,
};
/* One line: what is missing. */
const char *claim_reason_str(enum claim_reason reason);

/* What permitted a claim (R2). */
enum claim_basis {
    CLAIM_BASIS_NONE = 0,
    CLAIM_BASIS_FIRST, /* no claim existed */
    CLAIM_BASIS_OWN,   /* the highest claim is this instance's */
    CLAIM_BASIS_RELEASED,
    CLAIM_BASIS_PROOF,
    CLAIM_BASIS_HALTED,
    CLAIM_BASIS_TWIN,
    CLAIM_BASIS_COUNT,
};
const char *claim_basis_str(enum claim_basis basis);

struct claim_verdict {
    bool may;
    enum claim_reason reason;
    enum claim_basis basis;
    enum proof_kind proof; /* with CLAIM_BASIS_PROOF */
    struct claim claim; /* exactly what to link as owner.<claim.epoch>; only when may */
};

/* R1-R6: may this instance try to link the next claim? */
void claim_may_take(const struct claim_view *view, struct claim_verdict *ret_verdict);
/*
 * The first claim of a VM on a directory that was another one's, which is defined no
 * more: `view` is that one's, START or RESTART, with its highest claim. What R2 asks of a
 * claimant of that VM is asked of this one, and its claim goes on in the same row of
 * epochs, with the same `unexcluded`: nothing is removed, and whoever might still try to
 * link the former VM's next claim loses against this one, or wins (the link decides).
 * `former_defined`: its record is there; then it is refused (NOT_OWNER). A claim of `vm`
 * in there is the caller's to look for (claim_store_former).
 */
void claim_may_inherit(const struct claim_view *view, struct uuid vm, bool former_defined,
                       struct claim_verdict *ret_verdict);
/* The verdict as a sentence for people: what, on which object, why, what to do next. */
void claim_explain(const struct claim_view *view, const struct claim_verdict *verdict,
                   char text[static REASON_LEN_MAX + 1]);

/* R2, excluding old writes. */
enum claim_disk_reason {
    CLAIM_DISK_OK = 0,
    CLAIM_DISK_SETTLING, /* all are proven dead; wait until until_ns */
    CLAIM_DISK_UNPROVEN, /* `who` is neither dead nor drained: no time is known */
};
struct claim_disk_verdict {
    enum claim_disk_reason reason;
    uint64_t until_ns; /* SETTLING: on the evidence's clock; UINT64_MAX: only storage or
                          an acknowledged halt will do */
    struct claim_displaced who; /* which one is waited for */
};
/*
 * May the owner by `claim` touch the disk? Before the first access, reads included, of a
 * cold boot; before held writes are let go after GO_LIVE and everything that inherits
 * from it.
 */
void claim_may_touch_disk(const struct claim *claim,
                          const struct claim_evidence *evidence,
                          struct claim_disk_verdict *ret_verdict);
/*
 * May a twin on `node_id` begin to write its mirror, under the primary's `claim`? Not
 * while an earlier owner on that same node could still write to the same copy. Before the
 * first byte of a sync.
 */
void claim_may_open_mirror(const struct claim *claim, uint32_t node_id,
                           const struct claim_evidence *evidence,
                           struct claim_disk_verdict *ret_verdict);
/* Are the writes that `who` made as the owner excluded? *ret_until_ns: when they will be,
 * UINT64_MAX if not known. */
bool claim_is_excluded(const struct claim_displaced *who, struct uuid vm,
                       const struct claim_evidence *evidence, uint64_t *ret_until_ns);

/* The outcome of a link, decided by the content read back at its epoch (NULL: no such
 * file). */
enum claim_outcome {
    CLAIM_OUTCOME_UNKNOWN = 0, /* nothing there: an earlier request may still arrive. Link
                                  again with the same attempt */
    CLAIM_OUTCOME_WON,
    CLAIM_OUTCOME_LOST,
};
enum claim_outcome claim_outcome_of(const struct claim *tried,
                                    const struct claim *read_back);

/* R1, R4, R8: may this instance enter the guest under `won`? */
struct claim_enter {
    const struct claim *won;     /* read back as ours */
    const struct claim *highest; /* as read last; NULL: not read again */
    struct uuid me;
    uint64_t release_submitted_epoch; /* the latest epoch this instance ever submitted a
                                         release for; 0 none */
    const struct claim_halt *halts;   /* what was acknowledged about this instance */
    uint32_t halt_count;
};
enum claim_enter_reason {
    CLAIM_ENTER_OK = 0,
    CLAIM_ENTER_NOT_MINE,
    CLAIM_ENTER_SUPERSEDED,        /* kill it, without another instruction */
    CLAIM_ENTER_RELEASE_SUBMITTED, /* take it back by the next claim */
    CLAIM_ENTER_HALTED, /* acknowledged under this epoch: thaw by the next claim */
    CLAIM_ENTER_REASON_COUNT,
};
enum claim_enter_reason claim_may_enter(const struct claim_enter *enter);
const char *claim_enter_reason_str(enum claim_enter_reason reason);

/* R4, clean stop: may the owner submit a release of its claim? */
struct claim_give_up {
    bool frozen; /* or ended */
    bool drained;
    bool flushed;
    bool memory_complete; /* only with a destination: it has every page and device */
};
bool claim_may_release(const struct claim_give_up *facts, bool to_instance);

/* Codec: one frame per file (base/frame.h), magic CLAIM_MAGIC.
 * ---------------------------------------------------- */
#define CLAIM_MAGIC        UINT32_C(0x4D4C4347) /* "GCLM" */
#define CLAIM_FRAME_TYPE   1
#define RELEASE_FRAME_TYPE 2
#define CLAIM_VERSION      1
#define CLAIM_ENCODED_MAX  4096
enum claim_decode_reason {
    CLAIM_DECODE_OK = 0,
    CLAIM_DECODE_EMPTY,
    CLAIM_DECODE_TOO_LONG,
    CLAIM_DECODE_TORN, /* shorter than it says */
    CLAIM_DECODE_BAD_MAGIC,
    CLAIM_DECODE_BAD_CRC,
    CLAIM_DECODE_BAD_VERSION,
    CLAIM_DECODE_BAD_TYPE,
    CLAIM_DECODE_TRAILING,
    CLAIM_DECODE_BAD_VALUE,   /* checksums fit, the meaning does not */
    CLAIM_DECODE_WRONG_VM,    /* of another VM: a copied directory */
    CLAIM_DECODE_WRONG_EPOCH, /* differs from the file's name */
    CLAIM_DECODE_REASON_COUNT,
};
/* Length, or 0 when it does not fit or is not a valid claim. */
size_t claim_encode(const struct claim *claim, void *buf, size_t cap);
size_t claim_release_encode(const struct claim_release *release, void *buf, size_t cap);
/* `vm` and `epoch`: what the caller expects (vm none or epoch 0: anything). */
enum claim_decode_reason claim_decode(const void *buf, size_t len, struct uuid vm,
                                      uint64_t epoch, struct claim *ret_claim);
enum claim_decode_reason claim_release_decode(const void *buf, size_t len, struct uuid vm,
                                              uint64_t epoch,
                                              struct claim_release *ret_release);
const char *claim_decode_reason_str(enum claim_decode_reason reason);
