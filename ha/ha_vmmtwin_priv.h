/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of a protected VM's two sides: ha_vmmtwin.c (their steps),
 * ha_vmmtwinclaim.c (their claims), ha_vmmtwindisk.c (the twin's disks). */
#pragma once

#include "base/tcp_dial.h"
#include "ha/ha_vmm_priv.h"

enum twin_step {
    TWIN_PREPARE = 0, /* VMM: a key */
    TWIN_FIRST,       /* a worker copies disks for the first time */
    TWIN_OFFERED,     /* until the record has the other end's offer */
    TWIN_DIAL,        /* primary */
    TWIN_COPYING,     /* memory */
    TWIN_DISKS,       /* memory is there, the guest stands; a worker copies disks */
    TWIN_WAITING,     /* for the other end to come so far: the record says so */
    TWIN_JOINING,     /* the two VMMs connect */
    TWIN_ARMED,       /* primary: the claim that names the twin */
    TWIN_ON,          /* primary: protected. Twin: it follows */
    TWIN_BACK,        /* primary: it came to nothing, it goes on as it was */
    TWIN_LIVE,        /* twin: the claim is its own, it enters the guest */
};

/* Either side of a protection, for as long as it lasts. */
struct ha_twinning {
    bool twin; /* this is the twin; else the primary */
    enum twin_step step;
    struct ha_twin record;    /* as on record; of an adopted one what was kept */
    struct ha_move_end offer; /* ours */
    struct tcp_dial *dial;
    int listen_fd;            /* -1 */
    uint64_t seq;             /* of the request that must not be refused */
    enum claim_kind claiming; /* a claim of this kind is under way; NONE: none is */
    bool submitted; /* and its link was tried */
    bool found;     /* by an agent that was restarted, and not heard since */
    bool joined;    /* what its VMM says of a session is of this one */
    bool busy;      /* a worker has disks in hand */
    bool claimed;   /* primary: the claim that names the twin is won */
    bool ordered;   /* primary: told to switch over */
    char state[24]; /* as its VMM said last */
    uint64_t lag_us, log_bytes, diverged, exits, replayed;
    uint64_t began_ns, stood_ns;
    loop_timer timer, ask_timer;
    char why[REASON_LEN_MAX + 1];
};

/* A claim of this kind: read, judged, linked, and asked again until its outcome is known.
 * ha_vmmtwin_claimed is called then. */
void ha_vmmtwin_claim(struct ha_local *l, enum claim_kind kind);

/* True: it was asked for, its link was not tried yet, and will not be. */
bool ha_vmmtwin_unclaim(struct ha_local *l);

enum twin_claimed {
    TWIN_CLAIM_WON,
    TWIN_CLAIM_LOST,    /* somebody else has it */
    TWIN_CLAIM_REFUSED, /* the rules forbid it; text */
};
void ha_vmmtwin_claimed(struct ha_local *l, enum claim_kind kind, enum twin_claimed what,
                        const char *text);

/* Primary, its guest stands: its mirrored disks go to the VM's directory. Twin: from
 * there to this node's own, which are then opened. ha_vmmtwin_disks is called with the
 * files (the callee's; 0 for a primary), or with why not. */
void ha_vmmtwin_copy(struct ha_local *l);
/* The same while its guest runs: not whole, but most of it. The files have the right size
 * then, as a gemel-vmm looks for when it begins. */
void ha_vmmtwin_copy_first(struct ha_local *l);
void ha_vmmtwin_disks(struct ha_local *l, const int *fds, unsigned count,
                      const char *why);
/* NULL, or why its mirrored disks are not copied (they are too large). */
const char *ha_vmmtwin_cannot_copy(const struct ha_local *l,
                                   char why[static REASON_LEN_MAX + 1]);
/* What lies in the VM's directory for a twin, goes. */
void ha_vmmtwin_unstage(struct ha_local *l);
