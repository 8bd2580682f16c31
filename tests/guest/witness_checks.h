/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The oracles of the witness, without any I/O: fed with times and facts seen from outside
 * the guest, they say what was broken. All times are CLOCK_MONOTONIC in ns of one
 * machine. Used by one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/guest/record.h"

#define EMITTERS_MAX     64
#define EMITTER_NAME_MAX 128
#define OUTAGES_MAX      1024
#define QUESTIONS_KEPT   65536 /* power of two: 10 minutes at 100 per second */

/* Two live copies
 * ------------------------------------------------------------------------- */
/*
 * An emitter is a tap (frames from the guest's MAC) or a storage node (writes of the VM).
 * Its *interval* is a run of events with no gap longer than gap_ns between two of them.
 * Intervals of different emitters must be disjoint: an event of B between two events of A
 * that belong to one interval of A means both were live. Events may be added out of
 * order; dual_settle() sorts and judges what is older than the given time.
 */
struct dual_event {
    uint64_t t_ns;
    uint64_t epoch; /* of the answer in the frame, or of the record; only if has_epoch */
    uint32_t emitter;
    bool has_epoch;
};

struct emitter {
    char name[EMITTER_NAME_MAX];
    uint64_t first_ns, last_ns, interval_start_ns, events, intervals;
};

struct dual {
    uint64_t gap_ns;
    struct emitter emitter[EMITTERS_MAX];
    uint32_t emitter_count;
    struct dual_event *pending;
    size_t pending_count, pending_cap;
    uint64_t events, overlaps, old_epoch_events, epoch_max;
    uint64_t lost_events; /* no memory, too many emitters: the oracle is not complete */
    /* The first violation, to look at. */
    struct {
        uint32_t a, b; /* b was active inside a's interval */
        uint64_t from_ns, to_ns;
    } first_overlap;
};

void dual_init(struct dual *dual, uint64_t gap_ns);
void dual_free(struct dual *dual);
/* The number of an emitter by name, made if new; EMITTERS_MAX if there are too many
 * (counted in lost_events). */
uint32_t dual_emitter(struct dual *dual, const char *name);
void dual_add(struct dual *dual, const struct dual_event *event);
void dual_settle(struct dual *dual, uint64_t until_ns);

/* Answers: outage and lost acknowledged writes
 * -------------------------------------------- */
struct outage {
    uint64_t from_ns, len_ns;
    uint64_t epoch; /* after it */
    bool boot_changed, open;
};

struct answers {
    uint64_t outage_min_ns; /* shorter gaps are not listed */
    uint64_t count, first_ns, last_ns, longest_gap_ns;
    struct outage outage[OUTAGES_MAX];
    uint32_t outage_count, outages_not_listed;
    uint64_t max_acked, max_epoch;
    uint64_t lost_acked; /* the most that an answer was behind what had been acknowledged
                            before it was asked for */
    uint64_t epoch_backwards; /* answers of an older epoch than one seen before they were
                                 asked for */
    uint64_t duplicates; /* more answers to a question already answered: by the network,
                            or ... */
    uint64_t two_boots;  /* ... by another boot: two copies took the same question */
    uint64_t strange;    /* wrong magic or length, or to a question not asked */
    uint32_t boots, last_boot;
    /* What was known when a question was sent: an answer to it must not be older than
     * that. */
    struct {
        uint64_t sent_ns, floor_acked, floor_epoch;
        uint32_t token, boot; /* boot: of the first answer */
        bool asked, answered;
    } question[QUESTIONS_KEPT];
    uint64_t *rtt_ns;
    size_t rtt_count, rtt_cap;
};

void answers_init(struct answers *answers, uint64_t outage_min_ns);
void answers_free(struct answers *answers);
void answers_asked(struct answers *answers, uint32_t token, uint64_t now_ns);
/* Returns the gap that this answer ended if it counts as an outage, else 0. */
uint64_t answers_got(struct answers *answers, const void *bytes, size_t len,
                     uint64_t now_ns);
/* The run ends: a gap still open counts. */
void answers_end(struct answers *answers, uint64_t now_ns);
uint64_t answers_rtt(struct answers *answers, unsigned percent);

/* The storage's log of writes
 * --------------------------------------------------------------- */
/*
 * A record is logged when a node submits it, and may be again when it is durable, in the
 * store that every node sees. The two are judged apart: a durable line of an old epoch is
 * a slow old write that landed after newer ones.
 */
enum log_event { LOG_SUBMIT, LOG_DURABLE };

struct log_write {
    enum log_event event; /* "ev":"submit" or "durable"; a line without it is a submit */
    uint64_t t_ns, lba, epoch, seq;
    char node[EMITTER_NAME_MAX];
    char vm[EMITTER_NAME_MAX];
};

enum log_line {
    LOG_LINE_WRITE,
    LOG_LINE_OTHER, /* another VM, another event */
    LOG_LINE_EMPTY,
    LOG_LINE_BAD,
};

/* One JSON object per line; keys may come in any order, unknown keys are skipped. */
enum log_line log_line_parse(const char *line, const char *vm_wanted,
                             struct log_write *ret_write);

struct write_log {
    struct log_write *write;
    size_t count, cap;
    uint64_t bad_lines;
    /* Results of write_log_judge(). */
    uint64_t old_epoch_writes; /* after the first write of a newer epoch of the same VM */
    uint64_t lost_acked_writes; /* a seq written again below the last one, which its
                                   writer knew durable */
    struct log_write first_old;
};

void write_log_init(struct write_log *log);
void write_log_free(struct write_log *log);
void write_log_line(struct write_log *log, const char *line, const char *vm_wanted);
/* Sorts by time; gives every submit to `writers` too: two nodes that write at once. */
void write_log_judge(struct write_log *log, struct dual *writers);

/* The disk afterwards
 * -------------------------------------------------------------------------- */
struct disk_report {
    uint64_t slots, records, newest;
    uint64_t lost_acked; /* records up to `acked` that should be there and are not, or are
                            damaged */
    uint64_t first_lost; /* 0: none */
    uint64_t torn;      /* damaged records of any kind; one beyond acked is normal after a
                           power cut */
    uint64_t misplaced; /* valid but in a slot that is not theirs */
    uint64_t epoch_backwards; /* a newer seq with an older epoch */
    uint64_t foreign;         /* slots that hold something else */
};

/*
 * `read_slot` gives RECORD_SLOT_BYTES of slot n, false if it cannot: that slot then
 * counts as damaged. -ENOMEM, or 0 and the report.
 */
int disk_check(bool (*read_slot)(void *ctx, uint64_t slot, uint8_t *bytes), void *ctx,
               uint64_t slots, uint64_t acked, struct disk_report *ret_report);
