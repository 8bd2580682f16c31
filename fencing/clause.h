/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clauses of the ownership rules (design 5) that fencing/claim.c and fencing/proof.c
 * implement, by name. In production every clause holds, and CLAUSE() is a constant.
 * tests/model builds the same two files with CLAIM_MUTANTS and takes one clause out at a
 * time: each must make its checker fail. Only those two files and the model include this.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum claim_clause {
    R1_DISPLACED_STAYS, /* a displaced instance takes no claim any more */
    R1_CONTENT_DECIDES, /* a link's outcome is the content read back, not its absence or
                           return code */
    R2_BASIS,           /* a claim over a foreign one needs a permission at all */
    R2_RELEASE_NAMES,   /* a release to one instance is not a release to anyone */
    R2_HALT_THAT_EPOCH, /* an acknowledged freeze counts for its epoch only */
    R2_EXCLUDE,         /* old writes are excluded before the disk is touched */
    R2_SETTLE,          /* dead is not drained: storage.settle after the proof */
    R2_LIST_UNPROVEN,   /* a claim made without a proof lists whom it displaces */
    R2_INHERIT,         /* every later claim inherits the list */
    R2_INHERIT_PROVEN,  /* ... also of those proven dead since, until they have settled */
    R3_THAT_INCARNATION,  /* a proof about an older incarnation changes nothing */
    R3_CLEAN_STOP_LISTED, /* a clean-stop record covers what it lists */
    R3_RETURN_NEW_BOOT,   /* a rejoin under the same boot id proves no VMM dead */
    R3_WDOG_PUBLISHED,    /* a watchdog is a proof only if armed and published before */
    R3_WDOG_WITHDRAWN,    /* ... and not withdrawn */
    R3_WDOG_QUORUM,       /* ... judged by a quorate view, which the target is not in */
    R3_WDOG_ELAPSED,      /* ... after bound and margin since the latest receipt */
    R4_RELEASED_TO_ME, /* the destination runs only by a release that names its instance
                        */
    R4_FROZEN_FIRST,   /* the source froze before it released */
    R4_DRAINED_FIRST,  /* ... and drained */
    R4_MEMORY_FIRST,   /* ... and the destination has all of its memory */
    R4_SUBMITTED_IS_GONE, /* from the submission of the release on, only the next claim
                             brings it back */
    R5_TWIN_NAMED,        /* only the twin named in the claim goes live without a proof */
    R5_GO_LIVE_NAMES_NONE, /* a go-live claim names no twin */
    R5_TWIN_SYNCED,        /* protect: the twin is synced */
    R5_COMMIT_ON_FIRST, /* protect: output commit is on before the claim names the twin */
    R5_OLDER_DRAINED,   /* protect: what left before is known to the twin and complete */
    R5_MIRROR_OPEN,    /* no twin writes a mirror that an earlier owner may still write */
    R5_MIRROR_IN_SYNC, /* only a mirror named in the claim starts */
    R5_MIRROR_DROPPED, /* a claim without a twin no longer names its mirror */
    R6_QUORUM,         /* no new claim without quorum but R4/R5 */
    R8_ACK_IS_FINAL,   /* after an acknowledged halt nothing enters under that epoch */
    CLAIM_CLAUSE_COUNT,
};

#ifdef CLAIM_MUTANTS
extern uint64_t claim_clauses_off; /* a bit per clause; model only */
#define CLAUSE(name) (!(claim_clauses_off & (UINT64_C(1) << (name))))
#else
#define CLAUSE(name) true
#endif
