/* SPDX-License-Identifier: Apache-2.0 */
/* One local VM, shared by ha_local.c (the table), ha_vmm.c (its life), ha_vmmend.c (its
 * end) and ha_vmmlink.c (its process and socket). */
#pragma once

#include <json-c/json.h>
#include <net/if.h>

#include "base/limits.h"
#include "base/os.h"
#include "base/proto_ctl.h"
#include "base/worker.h"
#include "ha/ha_vmm.h"

enum local_phase {
    LOCAL_STARTING = 1, /* claim and process under way */
    LOCAL_RUNNING,
    LOCAL_FROZEN,
    LOCAL_ENDING, /* the process is gone, the claim is being released */
};

/* What is done with a VM here besides running it (ha_vmmsave.c). */
enum local_task {
    LOCAL_TASK_NONE = 0,
    LOCAL_SUSPEND,
    LOCAL_SNAPSHOT,
    LOCAL_REVERT,
    LOCAL_MIGRATE, /* the source (ha_vmmmove.c) */
    LOCAL_PROTECT  /* the primary, until its twin follows (ha_vmmtwin.c) */
};

struct ha_twinning;

enum move_step {
    MOVE_PREPARE = 0, /* VMM: a key */
    MOVE_OFFERED,     /* until the record has the other end's offer */
    MOVE_DIAL,
    MOVE_SENDING,
    MOVE_RELEASING, /* VMM: it moves no more by itself */
    MOVE_STORAGE,   /* its qemu-storage-daemon ends */
    MOVE_RELEASE,   /* worker; cannot be called off */
    MOVE_HANDED_OVER,
    MOVE_BACK, /* it goes on here: claim and thaw */
    MOVE_RECEIVING,
    MOVE_READY, /* all of it is here: looks for the release */
};

/* Either end of a migration. */
struct ha_moving {
    bool incoming;
    enum move_step step;
    struct ha_move move;      /* as on record */
    struct ha_move_end offer; /* ours */
    struct tcp_dial *dial;
    int listen_fd; /* -1 */
    bool upgrade;  /* both ends are here (ha_vmmupgrade.c) */
    int memory_fd; /* its destination, until that has it; -1 */
    uint64_t seq;  /* of the request that must not be refused */
    bool cancelled, busy;
    uint64_t began_ns, orphan_ns;
    uint64_t ready_ns, frozen_ms; /* destination: when all was there, frozen by then */
    loop_timer timer;
    char why[REASON_LEN_MAX + 1], summary[REASON_LEN_MAX + 1];
};

enum save_step {
    SAVE_NONE = 0,
    SAVE_PREPARE, /* worker: the file to write to */
    SAVE_FREEZE,  /* VMM: until no I/O is in flight */
    SAVE_WRITE,   /* VMM: its state */
    SAVE_STORAGE, /* its qemu-storage-daemon closes the images: nothing else writes then
                   */
    SAVE_FINISH,  /* worker: digest, drain; copies of disks */
    SAVE_COMMIT,  /* worker: rename, release. Cannot be called off */
};

struct save_job;

#define NBD_CONNECT_MS 5000u /* for each network disk, at most */

struct ha_disk_list {
    unsigned count;
    char path[VM_DISKS_MAX][PATH_LEN_MAX * 3]; /* that it could write to */
};

struct ha_local {
    struct ha_local *next;
    struct ha_vmm *vmm;
    uint64_t id; /* key of its jobs */
    struct uuid vm, instance, attempt;
    char name[VM_NAME_MAX + 1];
    uint64_t epoch;
    uint32_t uid; /* user of its process, its alone on this node; 0: ours */
    enum local_phase phase;
    struct conf_vm *conf; /* it was started with; NULL: adopted from an older agent */
    unsigned disk_count;  /* of its process, adopted or not */
    struct conf_disk disk[VM_DISKS_MAX];
    struct claim claim;
    struct claim_halt halts[1 + 2 * CLAIM_UNEXCLUDED_MAX];
    struct uuid kept_away[CLAIM_UNEXCLUDED_MAX]; /* by its storage: ha_local_evidence */
    uint32_t halt_count;
    bool claim_pending, claim_won;
    bool claim_unsure; /* won, or not made: its storage did not say */
    bool linked;       /* hello exchanged */
    bool entered;      /* START or THAW sent */
    bool freezing;     /* FREEZE sent, not answered */
    bool restart, thawing, stopping, discarded, adopted, ended, guest_shutdown;
    char
        guest_agent[16]; /* as the VMM last said; empty: its machine has no port for it */
    const char *guest_event; /* that the VMM told last; NULL: none */
    uint64_t guest_event_count, guest_event_ms;
    bool balloon; /* its machine has one; bytes, as the VMM last said */
    uint64_t balloon_target, balloon_actual;
    struct ha_moving *moving; /* NULL: not */
    struct ha_twinning *twin; /* a side of a protected VM; NULL: not */
    uint64_t twin_claims;     /* that were asked for, so far */
    struct uuid diverged_id;  /* the protection that ended because its twin went another
                                 way too often */
    uint64_t diverged_ms;     /* UTC since 1970; 0: none did */
    /* A live upgrade: the instance that is to take over from this one, and the other way
     * round until that has the claim. Who has a predecessor is not the VM yet, who is
     * superseded is it no more: neither is published, reports, or is found. */
    struct ha_local *successor, *predecessor;
    bool superseded;
    int came_fd; /* with the message that is being looked at; -1 */
    /* Post-copy. filling: it runs here, and a part of its memory is at its source. owes:
     * that source: it may run there, and is not ended as long as it serves. */
    bool filling, owes;
    char dead_holder[NODE_NAME_MAX + 1]; /* filling: that node is proven dead; or "" */
    unsigned unneeded; /* how often in a row nobody wanted what it owes */
    enum local_task task;
    enum save_step save_step;
    struct save_job *save;
    uint64_t save_seq, start_seq;       /* of SAVE, of START; 0: not sent */
    char snapshot[SNAPSHOT_ID_MAX + 1]; /* SNAPSHOT, REVERT */
    bool released;                      /* as suspended: only to be ended */
    bool take_back; /* a release was submitted and its outcome is not known (R4) */
    bool discard;   /* a suspended state may be given up */
    bool accept;    /* its copies of mirrored disks, though they may not count */
    bool resume;    /* its claim was taken over a release with this digest: */
    uint8_t digest[CLAIM_DIGEST_LEN];
    int state_fd;        /* of suspend.gms, as it was digested; -1 */
    bool refused;        /* by the VMM: START, so the guest was never entered */
    bool resume_refused; /* nothing of it ran, for a reason that stays */
    bool reverted_state; /* REVERT: digest names a state to go on from */
    enum ha_vm_outcome outcome;
    char outcome_text[REASON_LEN_MAX + 1];
    struct os_child child;
    struct os_child storage; /* its qemu-storage-daemon (ha_storage.h); pidfd -1: none */
    uint32_t storage_uid;    /* as uid */
    bool storage_ending;
    loop_timer storage_timer, thaw_timer;
    unsigned release_tries; /* that failed */
    loop_timer release_timer;
    uint64_t ran_since_ns; /* when it was last entered */
    uint32_t held;         /* disks whose writes its VMM holds (ha_vmmhold.c) */
    uint64_t held_bytes;
    unsigned hold_looks;
    bool ended_well; /* its process ended in good order */
    bool
        alike; /* and its twin's copies of mirrored disks had then all that its own had */
    uint32_t mirror[CLAIM_MIRRORS_MAX]; /* for its last report: as its claims say */
    bool settled;                       /* storage.settle has passed since it ended */
    bool hold_busy, hold_heard;         /* heard: its VMM has said what it holds */
    uint64_t hold_told_ns; /* that it holds, when the record did not say so */
    loop_timer hold_timer;
    unsigned quick_freezes; /* how often it then froze again at once */
    uint64_t thaw_at_ns;    /* of thaw_timer, while that runs */
    /* A disk of it paused it. Until it has run for a moment, thaws are no news. */
    bool paused;
    loop_timer steady_timer; /* that moment */
    int fd;
    uint64_t seq;
    uint32_t lease_ms; /* the last renewal (R6) */
    uint64_t lease_from_ns;
    loop_timer timer, connect_timer, announce_timer;
    unsigned tap_count, announced, announce_looks;
    int tap_fd[VM_NICS_MAX]; /* until the guest runs, and is announced */
    char dir[PATH_LEN_MAX * 2], json_path[PATH_LEN_MAX * 2],
        socket_path[PATH_LEN_MAX * 2];
    char console_path[PATH_LEN_MAX * 2], exit_path[PATH_LEN_MAX * 2];
    char storage_path[PATH_LEN_MAX * 2]; /* socket */
    char stem[UUID_STR_LEN + 16];        /* of the names of all these */
    char version[32];                    /* of its gemel-vmm; "": not heard yet */
    char log_dir[PATH_LEN_MAX * 2];
};

struct ha_vmm {
    struct loop *loop;
    struct conf_node node;
    struct ha_agent_self self;
    uint64_t agent_start_ns;
    const struct ha_vmm_ops *ops;
    void *ctx;
    struct worker *worker;      /* claims */
    struct worker *disk_worker; /* disks that do not answer hold up no claim */
    uint64_t next_id;
    struct ha_local *head;
    struct gone_left *left; /* what instances that ended here could write to */
    struct gone_job *gone;  /* ends that are to be acknowledged (ha_vmmgone.c) */
};

struct ha_local *ha_local_new(struct ha_vmm *vmm, struct uuid vm, const char *name);
/* What its files in run_dir/vm are called. */
void ha_local_paths(struct ha_local *l, const char *stem);
struct ha_local *ha_local_find(struct ha_vmm *vmm, struct uuid vm);
struct ha_local *ha_local_by_id(struct ha_vmm *vmm, uint64_t id); /* NULL: gone */
/* Of disk_worker, for what opens the VM's disks: one at a time, however many instances of
 * the VM come and go while its storage hangs. */
uint64_t ha_local_open_key(const struct ha_local *l);
void ha_local_disk_path(const struct ha_local *l, const struct conf_disk *disk,
                        char *ret_path, size_t cap);
void ha_local_free(struct ha_local *l);
/* What it waited for is back: it is paused no longer. */
void ha_local_goes_on(struct ha_local *l);
void ha_local_publish(struct ha_local *l, bool gone);
/* 0 or -errno, which it has logged. A VM that is not on record must not be told START:
 * after an agent restart its process would be taken for gone. */
int ha_local_save(struct ha_local *l);
/* Fields of such a record (ha_vmmrecord.c): false, or 0, if it has none of that name. */
bool ha_record_uuid(json_object *doc, const char *key, struct uuid *ret_uuid);
uint64_t ha_record_number(json_object *doc, const char *key);
void ha_record_put_uuid(json_object *doc, const char *key, struct uuid id);
void ha_record_put_number(json_object *doc, const char *key, uint64_t value);
/* The disks of the process; of the definition, if an older agent wrote the record. */
void ha_record_disks(struct ha_local *l, json_object *doc);
/* l->conf, as it was started; NULL, if an older agent wrote the record. */
void ha_record_definition(struct ha_local *l, json_object *doc);
/* Ends the task with which it was told to begin; the process goes on. */
void ha_local_report(struct ha_local *l, enum ha_vm_outcome outcome, const char *text);
/* Its last report says which copies count: those of its highest claim. */
void ha_local_copies(struct ha_local *l, const struct claim *highest);
/* The end: releases the claim (stopped, or suspended with l->digest), tells, forgets. */
void ha_local_gone(struct ha_local *l);
void ha_local_kill(struct ha_local *l);
int ha_local_begin_claim(struct ha_local *l);
/* What is known here about owners that were displaced. */
struct claim_evidence ha_local_evidence(struct ha_local *l);
/* Of the displaced owners in a claim: those that were of this life of this node, and are
 * gone, as its table says. */
uint32_t ha_local_gone_here(const struct ha_vmm *vmm, const struct claim *claim,
                            struct claim_halt ret[static CLAIM_UNEXCLUDED_MAX]);
/* Claim taken, process linked, old writes excluded: START, THAW, or its task. Later if
 * one of them is missing. */
void ha_local_enter(struct ha_local *l);
#define HA_NOT_ON_RECORD                                                                 \
    "it cannot be written to run_dir, and would not be found after an agent restart"
/* How its process ended, as that has written it. */
void ha_local_read_exit(struct ha_local *l);
int ha_local_watch(struct ha_local *l);
/* Its VMM is gone or frozen: what it wrote goes out of this node's caches; blocks. */
void ha_local_disks(const struct ha_local *l, struct ha_disk_list *ret_disks);
/* Its process is gone, and a server may still carry out what that asked it for. */
bool ha_local_settles(const struct ha_local *l);
int ha_disks_drain(const struct ha_disk_list *disks, char *text, size_t cap);
void ha_local_running(struct ha_local *l);
/* An adopted one has said that it runs. */
void ha_local_found(struct ha_local *l);
void ha_local_frozen(struct ha_local *l, const char *why);
void ha_local_linked(struct ha_local *l);
/* The start did not work: ends the process if there is one, releases the claim, reports.
 */
void ha_local_fail(struct ha_local *l, const char *why);

/* Makes taps and the control socket and runs gemel-vmm; ret_why (REASON_LEN_MAX + 1) on
 * error. */
int ha_vmmlink_spawn(struct ha_local *l, char *ret_why);
void ha_vmmlink_connect(struct ha_local *l);
void ha_vmmlink_close(struct ha_local *l);
void ha_vmmlink_balloon(struct ha_local *l, uint64_t bytes);
void ha_vmmlink_lease(struct ha_local *l, uint32_t lease_ms, uint64_t from_ns);
void ha_vmmlink_request(struct ha_local *l, Gemel__VmmRequest__Kind kind);
/* START, with the disks and, in a resume, the state (l->state_fd); or THAW, with new
 * connections for disks that may have lost theirs. */
void ha_vmmlink_start(struct ha_local *l, const int *disk_fds, unsigned count);
/* SAVE, to this file. */
void ha_vmmlink_save(struct ha_local *l, int fd);
/* Hears what is still to be read, before the end of its process is judged. */
void ha_vmmlink_hear(struct ha_local *l);

/* With these files, under the current epoch. */
void ha_vmmlink_send(struct ha_local *l, Gemel__VmmRequest *m, const int *fds,
                     size_t count);

/* A process without a claim: NULL, or false (failed and reported). beside: the instance
 * that it is to take over from; NULL: none. */
struct ha_local *ha_local_create(struct ha_vmm *vmm, const struct ha_vm *vm,
                                 struct ha_local *beside);
bool ha_local_launch(struct ha_local *l);

/* A migration: hello exchanged; a report of the VMM; its daemon has ended. */
void ha_vmmmove_linked(struct ha_local *l);
void ha_vmmmove_report(struct ha_local *l, const Gemel__VmmReport *m);
void ha_vmmmove_storage_gone(struct ha_local *l);
/* The destination's claim was refused: true if it is looked for again. */
bool ha_vmmmove_not_yet(struct ha_local *l, enum claim_reason reason);
/* It runs here, entered or thawed: ends it, with the words for the report. NULL: it was
 * no migration. */
/* It runs elsewhere, and needs what is here: true if its process lives on for that, until
 * it says that it is done. */
bool ha_vmmmove_serves(struct ha_local *l);
const char *ha_vmmmove_thawed(struct ha_local *l, char text[REASON_LEN_MAX + 1]);
void ha_vmmmove_free(struct ha_local *l);

/* A protected VM (ha_vmmtwin.c): as for a migration. */
void ha_vmmtwin_linked(struct ha_local *l);
void ha_vmmtwin_report(struct ha_local *l, const Gemel__VmmReport *m);
const char *ha_vmmtwin_entered(struct ha_local *l, char text[REASON_LEN_MAX + 1]);
void ha_vmmtwin_free(struct ha_local *l);
/* A VMM froze with this reason (NULL: none). */
void ha_vmmtwin_frozen(struct ha_local *l, const char *reason);
/* It was found running: if it was a twin, it is nobody's any more. */
void ha_vmmtwin_lives(struct ha_local *l);
/* Its process has ended by itself, and its twin is to have the claim: not released. */
bool ha_vmmtwin_leaves_claim(const struct ha_local *l);
/* By a signal that is not its agent's: a twin's node says so, before its primary's can
 * only say that it is not heard. */
void ha_vmmtwin_killed(struct ha_local *l);
/* It is the twin of a protected VM; and has asked for the claim, or has it. */
bool ha_vmmtwin_is_one(const struct ha_local *l);
bool ha_vmmtwin_goes_live(const struct ha_local *l);
/* Its process has ended while it was protected: the twin's copies of mirrored disks have
 * every FLUSH that the guest was told is done. */
bool ha_vmmtwin_has_all(const struct ha_local *l);
/* Its process is gone: what is known of a twin's copies of disks is kept, before anybody
 * hears of the end and may change them. True: ha_local_gone is called again then. */
bool ha_vmmtwin_ended(struct ha_local *l);
/* R8: what an agent that is restarted must know of it, in run_dir. */
void ha_vmmtwin_put(const struct ha_local *l, json_object *doc);
void ha_vmmtwin_adopt(struct ha_local *l, json_object *doc);

/* Shared disks of a VM whose twin went live (ha_vmmhold.c): a report of its VMM; a
 * record.
 */
void ha_vmmhold_report(struct ha_local *l, const Gemel__VmmReport *m);
void ha_vmmhold_told(struct ha_vmm *vmm, const struct ha_vm *vm);
/* The node of its old owner: acknowledges that nothing is left there. */
void ha_vmmgone_told(struct ha_vmm *vmm, const struct ha_vm *vm);
/* It ends: keeps what it could write to, should its end be asked for. */
void ha_vmmgone_note(const struct ha_local *l);
void ha_vmmgone_free(struct ha_vmm *vmm);
/* Disks, bit by bit, that are shared and written to, and of which nothing but a proof
 * keeps an old owner away. */
uint32_t ha_vmmhold_unguarded(const struct ha_local *l);
/* claim_may_touch_disk, for all of its disks: some may be mirrored, and others shared. */
void ha_vmmhold_verdict(const struct ha_local *l, const struct claim *claim,
                        const struct claim_evidence *known,
                        struct claim_disk_verdict *ret_verdict);

/* Live upgrade (ha_vmmupgrade.c). It has the claim: what it takes over from is the VM no
 * more, or what was to take over from it comes to nothing; its guest runs; its process
 * has ended, and no claim of its own is pending. */
void ha_vmmupgrade_won(struct ha_local *l);
void ha_vmmupgrade_running(struct ha_local *l);
void ha_vmmupgrade_ended(struct ha_local *l);
/* It is about to be forgotten. */
void ha_vmmupgrade_forget(struct ha_local *l);
/* The VM is to be ended: so is its successor, unless that may have the claim. */
void ha_vmmupgrade_stop(struct ha_local *l);
void ha_vmmupgrade_discard(struct ha_local *l);
/* All that an earlier agent left is on the list: of two instances of a VM, one goes on.
 */
void ha_vmmupgrade_adopted(struct ha_vmm *vmm);

/* Its VMM said FROZEN, answered SAVE (error NULL: done), or the connection is gone. */
void ha_vmmsave_frozen(struct ha_local *l);
void ha_vmmsave_saved(struct ha_local *l, const char *error);
void ha_vmmsave_lost(struct ha_local *l);
/* SAVE_STORAGE: it has ended. */
void ha_vmmsave_storage_gone(struct ha_local *l);
/* REVERT: the claim is taken, old writes are excluded. */
void ha_vmmsave_revert(struct ha_local *l);
void ha_vmmsave_cancel(struct ha_local *l);
void ha_vmmsave_free(struct ha_local *l);
/* It runs under its claim: what interrupted orders left in its directory goes. */
void ha_vmmsave_sweep(struct ha_local *l);
/* After a resume: suspend.gms is history. */
void ha_vmmsave_forget_state(struct ha_local *l);

/* A guest that was resumed is heard from where it is now. end: lets go of the taps. */
void ha_announce_begin(struct ha_local *l);
/* Of the tap of that nic. */
void ha_vmmlink_tap_name(const struct ha_local *l, unsigned index, char name[IFNAMSIZ]);
void ha_announce_end(struct ha_local *l);

/* A free one of the node's range; 0: without a sandbox, or we are not root. */
uint32_t ha_vmmfiles_uid(const struct ha_vmm *vmm);
/* Makes its directory for logs and gives it to its user; why (REASON_LEN_MAX + 1) on
 * error. */
int ha_vmmfiles_logs(struct ha_local *l, char *why);
/* R1: with the claim taken and old writes excluded, opens the disks, off the loop thread,
 * and then sends START, or ends the start with the reason. A THAW of a VM with network
 * disks goes the same way, and is sent without them if one of them is out of reach: the
 * VMM says what that means. */
int ha_vmmfiles_start(struct ha_local *l);
bool ha_vmmfiles_connects(const struct ha_local *l);
