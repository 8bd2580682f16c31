/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of a protected VM's two sides: ha_vmmtwin.c (their steps),
 * ha_vmmtwinclaim.c (their claims), ha_vmmtwindisk.c (the twin's disks). */
#pragma once

#include "base/tcp_dial.h"
#include "ha/ha_vmm_priv.h"

enum twin_step {
    TWIN_PREPARE = 0, /* VMM: a key */
    TWIN_FIRST,       /* a worker looks at its disks. Twin: makes the copies' files */
    TWIN_OFFERED,     /* until the record has the other end's offer */
    TWIN_DIAL,        /* primary */
    TWIN_COPYING,     /* memory, and mirrored disks */
    TWIN_COPIED,      /* primary: all is there, the guest stands; one more connection */
    TWIN_JOINING,     /* the two VMMs connect */
    TWIN_ARMED,       /* primary: the claim that names the twin */
    TWIN_ON,          /* primary: protected. Twin: it follows */
    TWIN_BACK,        /* primary: it came to nothing, it goes on as it was */
    TWIN_LIVE,        /* twin: the claim is its own, it enters the guest */
};

/* The twin's own file of a mirrored disk, and what tells it from another one. */
struct ha_twin_copy {
    uint64_t dev, ino, bytes, changed_ns; /* dev 0: not known */
};

struct ha_twin_copies {
    int fill_fd[VM_DISKS_MAX];   /* what its contents are written to; -1 */
    int follow_fd[VM_DISKS_MAX]; /* the session's; -1 */
    struct ha_twin_copy copy[VM_DISKS_MAX];
    struct uuid
        base; /* the protection after which they were equal last; none: not known */
};

/* Either side of a protection, for as long as it lasts. */
struct ha_twinning {
    bool twin; /* this is the twin; else the primary */
    enum twin_step step;
    struct ha_twin record;    /* as on record; of an adopted one what was kept */
    struct ha_move_end offer; /* ours */
    struct ha_twin_disk disk[VM_DISKS_MAX]; /* primary: of its offer */
    struct ha_twin_copies copies;           /* twin */
    struct tcp_dial *dial;
    int listen_fd;            /* -1 */
    uint64_t seq;             /* of the request that must not be refused */
    enum claim_kind claiming; /* a claim of this kind is under way; NONE: none is */
    bool submitted;           /* and its link was tried */
    bool equal;               /* twin: its copies were, as of this protection's begin */
    bool found;               /* by an agent that was restarted, and not heard since */
    bool inherited;           /* twin: found by an agent that was restarted */
    bool unwanted;            /* twin: only a claim that it has already counts */
    bool winding;             /* twin: its VM is being stopped; it follows to the end */
    bool joined;              /* what its VMM says of a session is of this one */
    bool busy;                /* a worker has disks in hand */
    bool claimed;             /* primary: the claim that names the twin is won */
    bool ordered;             /* primary: told to switch over */
    char state[24];           /* as its VMM said last */
    uint64_t lag_us, log_bytes, diverged, exits, replayed;
    uint64_t opens_ns; /* twin: when it first tried to open its shared disks */
    uint64_t began_ns, stood_ns, disk_sent; /* disk_sent: bytes of its disks that went */
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

/* Primary: how large its mirrored disks are. Twin: files for its copies, opened, and what
 * is known of them. ha_vmmtwin_disks is called then, with why not, or NULL. */
void ha_vmmtwin_look_at_disks(struct ha_local *l);
void ha_vmmtwin_disks(struct ha_local *l, const char *why);
/* Where this node keeps which paths have been copies (ha_twincopy.h). */
void ha_vmmtwin_own_path(const struct ha_vmm *vmm, struct uuid vm, char *ret_path,
                         size_t cap);
/* Those that nobody has taken. */
void ha_vmmtwin_close_copies(struct ha_twinning *t);

/* ha_vmmtwin.c: what both sides do. */
#define TWIN_DISKS_NS (60 * NSEC_PER_SEC)
#define TWIN_JOIN_NS  (10 * NSEC_PER_SEC)
extern const struct os_tcp_opts ha_vmmtwin_tcp;

/* NULL: no memory. */
struct ha_twinning *ha_vmmtwin_new(struct ha_local *l, const struct ha_twin *record,
                                   bool twin);
void ha_vmmtwin_start_timer(struct ha_local *l, uint64_t ns, void (*fn)(void *data));
void ha_vmmtwin_stop_timer(struct ha_local *l);
/* A report about this protection. */
void ha_vmmtwin_tell(struct ha_local *l, enum ha_vm_outcome outcome, const char *text);
/* Requests that must not be refused. hand_over: MIGRATE_OUT, MIGRATE_IN, FT_PROTECT,
 * FT_FOLLOW; the files stay the caller's. */
void ha_vmmtwin_send(struct ha_local *l, Gemel__VmmRequest *m, const int *fds,
                     size_t count);
void ha_vmmtwin_order(struct ha_local *l, Gemel__VmmRequest__Kind kind);
void ha_vmmtwin_hand_over(struct ha_local *l, Gemel__VmmRequest__Kind kind,
                          const int *fds, size_t count);
/* Asks its VMM now, and every second from then on. */
void ha_vmmtwin_ask(void *data);
/* For the timeline. */
void ha_vmmtwin_step(struct ha_local *l, const char *what);
/* Its VMM said this state last. */
bool ha_vmmtwin_is(const struct ha_local *l, const char *state);
/* The other side is heard again: as before, if no claim of ours was tried meanwhile. */
void ha_vmmtwin_heard_again(struct ha_local *l);

/* The claim is won: opens the disks that it shares, and lets its VMM go live. */
void ha_vmmhold_go_live(struct ha_local *l);
/* Disks, bit by bit, that the twin has before: its own, or what nobody writes to. */
uint32_t ha_vmmtwin_mirrors(const struct ha_local *l);

/* ha_vmmtwinpri.c: the primary. */
void ha_vmmpri_begin(struct ha_local *l, const struct ha_vm *vm);
void ha_vmmpri_told(struct ha_local *l, const struct ha_vm *vm);
void ha_vmmpri_memory(struct ha_local *l, const Gemel__VmmReport *r);
void ha_vmmpri_session(struct ha_local *l, const Gemel__VmmReport *r);
/* It waits for a claim without its twin, or for the word to go on with it. */
bool ha_vmmpri_holds(const struct ha_local *l);
void ha_vmmpri_claimed(struct ha_local *l, enum claim_kind kind, enum twin_claimed what,
                       const char *text);
/* Its disks were looked at. */
void ha_vmmpri_offers(struct ha_local *l);
/* Nothing comes of it: it goes on as it was. */
void ha_vmmpri_give_up(struct ha_local *l, const char *why);
/* A disk of it has paused it (`on_error: pause`). */
void ha_vmmpri_paused(struct ha_local *l, const char *reason);
/* After an agent restart, in the middle of it. True: that was all there is to it. */
bool ha_vmmpri_found(struct ha_local *l, const Gemel__VmmReport *r);

/* ha_vmmtwinsec.c: the twin. */
void ha_vmmsec_begin(struct ha_vmm *vmm, const struct ha_vm *vm);
void ha_vmmsec_told(struct ha_local *l, const struct ha_vm *vm);
void ha_vmmsec_memory(struct ha_local *l, const Gemel__VmmReport *r);
void ha_vmmsec_session(struct ha_local *l, const Gemel__VmmReport *r);
/* All of its primary's log is replayed, or as much as can be. */
bool ha_vmmsec_may_take_over(const struct ha_local *l);
void ha_vmmsec_take_over(struct ha_local *l, const char *why);
void ha_vmmsec_claimed(struct ha_local *l, enum twin_claimed what, const char *text);
/* The files of its disks are there: its process. */
void ha_vmmsec_launch(struct ha_local *l);
void ha_vmmsec_fail(struct ha_local *l, const char *why);
void ha_vmmsec_late_fn(void *data); /* the primary has not answered */
