/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of struct ft_session, for ft_session*.c only. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "ft/ft_alike.h"
#include "ft/ft_epoch_priv.h"
#include "ft/ft_log.h"
#include "ft/ft_pages.h"
#include "ft/ft_primary.h"
#include "ft/ft_secondary.h"
#include "ft/ft_session.h"
#include "ft/ft_sum.h"
#include "ft/ft_wire.h"
#include "migrate/mig_pool.h"
#include "vmm/engine_epoch.h"
#include "vmm/engine_ram.h"

#define FT_LOG_BUFFER ((size_t)16 << 20)
#define FT_WORDS_MAX  16
#define FT_BEAT_MS    10
#define FT_LAG_MS     100                /* default of ft_params.lag_ms */
#define FT_KEPT_BYTES ((size_t)64 << 20) /* of outputs, on each side */
#define FT_SEEN_MAX   32u                /* inputs that a divergence tells of */

enum { FT_THREAD_HEAR = 0, FT_THREAD_SEND, FT_THREADS };

/* Whole records on their way: the primary's to the sender, the secondary's to its vCPU
 * thread. Offsets only grow; `tail` is where what may be taken ends, `end` what was
 * written. */
struct ft_buf {
    uint8_t *at;
    uint64_t head, tail, end;
};

/* An output that was made: held (primary), or not known to have left (secondary). */
struct ft_out {
    struct tape_out out; /* data is ours */
    uint64_t ordinal;    /* 0: none */
    bool write;          /* of a disk: kept until the twin has made the same */
};

/* PAGES and STATE of a barrier, aside until all of it is here. */
struct ft_set {
    uint8_t *bytes;
    size_t len, cap, at; /* at: of whole: what was taken */
    uint64_t position;
    bool whole;
    bool open;       /* of a barrier (FT_SET), not of a forced one */
    uint64_t number; /* of that barrier */
    uint64_t records;
    uint64_t end[FT_SET_FIELDS]; /* its last record */
};

/* The newest output that the outside has for certain: what was let out is so once bytes
 * that it said are in their files. */
struct ft_told {
    uint64_t ordinal;
    uint64_t next; /* is, too, once `said` is out */
    struct engine_said said;
};

/* Pages that were written to, and their sums: from the twin, or on their way. */
struct ft_sums_of {
    struct ft_hashes head;
    uint8_t *entries; /* FT_HASH_LEN each */
    uint64_t done;    /* came, or were sent */
    bool ready;       /* all of it is here, or is to be sent */
};

struct ft_queued_word {
    struct ft_word word;
    uint64_t after; /* what was written to the log before it */
};

/* For people: an input that was replayed. */
struct ft_seen_input {
    uint64_t position;
    unsigned dev_index;
    struct dev_input in; /* without its data */
};

struct ft_session {
    struct ft_session_conf conf;
    struct engine_tape tape;
    struct engine_epoch checkpoints;
    struct ft_params params;
    struct mig_pool *pool;
    struct mig_stop stop;
    int event_fd;
    bool stopped; /* ft_session_stop */

    pthread_mutex_t lock; /* of what follows */
    /* For the sender; for who writes to `log`; for the twin's vCPU in the middle of an
     * exit. */
    pthread_cond_t more, room, come;
    struct ft_session_status status;
    enum ft_role role;

    /* From here on zeros when another session begins. */
    bool busy;    /* a session is under way, its threads run */
    bool closed;  /* the channel: nothing is sent or comes any more */
    bool closing; /* after what is queued */
    bool sending_ack, tell_waits;
    bool sending; /* one at a time; the lock is let go meanwhile */
    bool lingers; /* the sender, until more is there or LINGER_NS are over */
    char told_text[REASON_LEN_MAX + 1];
    char lost_text[REASON_LEN_MAX + 1]; /* why the channel is of no more use */
    struct ft_primary pri;
    struct ft_secondary sec;
    struct ft_buf log;
    struct ft_queued_word word[FT_WORDS_MAX];
    unsigned word_count;
    struct ft_out kept[FT_HELD_MAX];
    uint64_t log_bytes;
    size_t kept_bytes;
    uint64_t *dirty; /* vCPU thread: pages written to since the last barrier */
    uint64_t page_count;
    struct ft_sums_of sums; /* primary: what came; secondary: what is to be sent */
    struct ft_session_counts counts;
    enum ft_session_reason reason;
    struct ft_alike alike; /* primary */
    uint32_t written;      /* mirrored disks that the guest wrote to: a bit each */

    /* The channel. */
    int fd;
    struct mig_conn_conf conn_conf;
    struct mig_streams streams;
    uint64_t heard_ns, heard_bytes; /* when, and how many then */
    bool silent, heard;             /* heard: anything of this session */
    bool reading;                   /* the hearing thread waits for bytes, not for room */
    uint8_t *frame; /* FT_LOG_HEAD_LEN + FT_LOG_BODY_MAX: the hearing thread's */

    /* The vCPU thread's, both roles. */
    uint8_t *buf; /* FT_RECORD_MAX */
    uint64_t chain, exits, outputs;
    uint64_t seq;

    /* Primary. */
    struct ft_commit commit;
    struct mig_ram ram;
    struct ft_epoch epoch;
    bool stand, barrier_wanted;
    _Atomic bool released_all; /* without a twin from now on */
    uint64_t barrier;          /* number of the newest one */
    enum ft_barrier_reason barrier_reason;
    bool barrier_open;   /* both: written, or replayed up to, and not done */
    bool barrier_over;   /* done: the vCPU thread has not seen it yet */
    uint64_t barrier_at; /* its position */
    bool barrier_ends;   /* twin: its reason is FT_BARRIER_END */
    uint64_t barrier_ns, barrier_due_ns, barrier_exits;
    uint64_t diverged_ns, diverged_recent; /* control: since diverged_ns */
    struct ft_told told;
    uint64_t dropped;   /* outputs up to here are not kept any more */
    uint64_t disk_lost; /* the newest mirrored write that is not kept, not verified */
    char refusal[REASON_LEN_MAX + 1];
    uint64_t last_digest; /* ordinal of the outputs that one covered */
    uint64_t digest_exits;
    uint64_t published_exits;
    uint64_t flush[VM_DISKS_MAX][32]; /* by slot: ordinal of the FLUSH under way */

    /* Secondary. */
    struct ft_follow follow;
    struct ft_log_head head; /* the newest that came */
    struct ft_ack ack;       /* to be sent */
    bool ack_new, have_record, differs;
    bool out_differs;            /* bytes of an output; it replays on */
    bool withheld[VM_DISKS_MAX]; /* its own copy does not get what it writes */
    bool hash_wanted, hash_busy, applying;
    uint64_t run_since_ns, equal_exits;
    struct ft_record record; /* in buf */
    uint64_t seen_ns;
    bool takeover;
    struct ft_set set;
    char difference[REASON_LEN_MAX + 1];
    struct tape_exit last; /* without its data */
    struct ft_seen_input seen[FT_SEEN_MAX];
    uint64_t seen_count;
    uint8_t *state;               /* FT_STATE_MAX */
    bool taking;                  /* checkpoint: an epoch, without the lock */
    size_t state_len, state_have; /* checkpoint: of the newest one; of one that comes */
    uint64_t flushing[VM_DISKS_MAX][32];
    uint64_t flush_newest;
};

/* Under lock: the status has changed. */
void ft_tell(struct ft_session *s, const char *text);
/* Under lock: the same, where it may have been to a barrier or back only, which is no
 * news. */
void ft_moved(struct ft_session *s, const char *text, bool was_routine);
/* Under lock: a step, and what it asks for. */
void ft_pri_event(struct ft_session *s, enum ft_primary_event event, uint64_t epoch,
                  const char *text);
void ft_sec_event(struct ft_session *s, enum ft_secondary_event event, uint64_t epoch,
                  const char *text);
/* The same for an order; NULL: accepted. */
const char *ft_pri_order(struct ft_session *s, enum ft_primary_event event,
                         uint64_t epoch);
const char *ft_sec_order(struct ft_session *s, enum ft_secondary_event event,
                         uint64_t epoch);
/* Under lock: something is to be sent, and may leave with more of its kind. */
void ft_wake_sender(struct ft_session *s);
/* Under lock: after what is in the log now. */
void ft_queue_word(struct ft_session *s, enum ft_word_kind kind, uint64_t epoch,
                   uint64_t number);
/* Under lock: nothing comes or goes any more. */
void ft_close(struct ft_session *s);
/* Under lock: an output leaves. */
void ft_let_out(struct ft_session *s, uint64_t ordinal);
/* Twin, live: what its primary is not known to have let out. */
void ft_let_out_rest(struct ft_session *s);
/* Under lock: a copy of `out` is kept under its ordinal; false: no memory. `write`: a
 * disk's, whose bytes are kept, too, and longer. */
bool ft_keep_out(struct ft_session *s, uint64_t ordinal, const struct tape_out *out,
                 bool write);
void ft_drop_out(struct ft_session *s, uint64_t ordinal);
/* Of a disk of which the twin has its own copy; other disks are shared. */
bool ft_is_mirrored(const struct ft_session *s, const struct tape_out *out);
/* The output of that ordinal, if it is kept. */
const struct tape_out *ft_kept_out(const struct ft_session *s, uint64_t ordinal);

/* The primary's log; its vCPU thread. */
void ft_pri_record(struct ft_session *s, struct bytes_wr *wr, enum ft_type type,
                   uint64_t position, uint32_t device);
void ft_pri_emit(struct ft_session *s, struct bytes_wr *wr, uint64_t position);
void ft_pri_digest(struct ft_session *s, uint64_t position, const struct tape_exit *x);
void ft_pri_publish(struct ft_session *s, uint64_t position);
void ft_pri_pages(void *ctx, uint64_t position, uint64_t first, uint64_t count,
                  const uint8_t *bytes);
void ft_pri_state(void *ctx, uint64_t position, const uint8_t *bytes, size_t len);

/* Barriers, primary (ft_session_barrier.c). The vCPU thread, at a position: whatever is
 * to be done about one. */
void ft_barrier_turn(struct ft_session *s, uint64_t position);
/* Under lock: time for one? */
void ft_barrier_clock(struct ft_session *s);
/* Under lock: a HASHES frame; the twin's words; done. */
bool ft_barrier_hashes(struct ft_session *s, const uint8_t *body, size_t len,
                       const char **why);
void ft_barrier_diverged(struct ft_session *s, bool output);
void ft_barrier_done(struct ft_session *s);

/* Barriers, secondary (ft_session_repair.c). Under lock, vCPU thread: it stands at one,
 * or went another way; lets the lock go while it hashes and applies. */
void ft_repair_turn(struct ft_session *s);
/* Under lock, vCPU thread: replayed up to this BARRIER record, which is taken. */
void ft_repair_at(struct ft_session *s, const struct ft_record *record);
/* Under lock: a SET record, or one of an open set, that came. */
bool ft_repair_set(struct ft_session *s, const struct ft_record *record,
                   const char **why);
/* Under lock, vCPU thread: going live: what its own disks were not given. */
void ft_repair_withheld(struct ft_session *s);

/* Under lock: a twin that makes no exit where the primary made one. */
void ft_sec_watch(struct ft_session *s);
/* Secondary, vCPU thread under lock. */
bool ft_sec_peek(struct ft_session *s);
void ft_sec_take(struct ft_session *s);
void ft_sec_differs(struct ft_session *s, const char *what);
void ft_sec_replayed(struct ft_session *s);
void ft_sec_compare(struct ft_session *s); /* the digest of this exit, in s->record */
void ft_sec_saw_time(struct ft_session *s, uint64_t now_ns);
enum tape_next ft_sec_next(void *ctx, uint64_t position, struct tape_item *ret);

/* Frames that came: under lock. False: what came cannot be; *why says what. */
bool ft_pri_frame(struct ft_session *s, uint16_t type, const uint8_t *body, size_t len,
                  const char **why);
bool ft_sec_frame(struct ft_session *s, uint16_t type, const uint8_t *body, size_t len,
                  const char **why);

void ft_pri_begin(struct ft_session *s);
void ft_sec_begin(struct ft_session *s);
extern const struct engine_tape_ops ft_pri_ops, ft_sec_ops;

/* Pages of a record of a barrier into *ret; false: it cannot be read. */
bool ft_set_pages(struct ft_session *s, const struct ft_record *record,
                  struct tape_item *ret);
/* The sender, without the lock. False: the channel broke. */
bool ft_send_body(struct ft_session *s, uint16_t type, struct iovec *iov, size_t count);

/* Checkpoint mode: see the definitions. */
extern const struct engine_epoch_ops ft_epoch_pri_ops, ft_epoch_sec_ops;
uint64_t ft_epoch_due_ns(const struct ft_session *s);
bool ft_epoch_turn(struct ft_session *s);
bool ft_epoch_send(struct ft_session *s);
void ft_epoch_acked(struct ft_session *s, uint64_t number);
void ft_epoch_release_all(struct ft_session *s);
void ft_epoch_free(struct ft_epoch *ep);
void ft_epoch_make_room(struct ft_staged *st);
void ft_epoch_whole(struct ft_session *s, const struct ft_record *barrier);
