/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/witness_checks.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Room for one more element, or NULL: the old array stays. */
static void *array_grow(void *array, size_t count, size_t *cap, size_t element_bytes)
{
    size_t new_cap = *cap == 0 ? 1024 : *cap * 2;
    void *bigger;

    if (count < *cap) {
        return array;
    }
    bigger = reallocarray(array, new_cap, element_bytes);
    if (bigger != NULL) {
        *cap = new_cap;
    }
    return bigger;
}

/* Two live copies
 * ------------------------------------------------------------------------- */

void dual_init(struct dual *dual, uint64_t gap_ns)
{
    memset(dual, 0, sizeof(*dual));
    dual->gap_ns = gap_ns;
}

void dual_free(struct dual *dual)
{
    free(dual->pending);
    dual->pending = NULL;
}

uint32_t dual_emitter(struct dual *dual, const char *name)
{
    for (uint32_t i = 0; i < dual->emitter_count; i++) {
        if (strcmp(dual->emitter[i].name, name) == 0) {
            return i;
        }
    }
    if (dual->emitter_count == EMITTERS_MAX || strlen(name) >= EMITTER_NAME_MAX) {
        dual->lost_events++;
        return EMITTERS_MAX;
    }
    strcpy(dual->emitter[dual->emitter_count].name, name);
    return dual->emitter_count++;
}

void dual_add(struct dual *dual, const struct dual_event *event)
{
    struct dual_event *pending = array_grow(dual->pending, dual->pending_count,
                                            &dual->pending_cap, sizeof(*pending));

    if (pending == NULL || event->emitter >= dual->emitter_count) {
        dual->lost_events++;
        return;
    }
    dual->pending = pending;
    pending[dual->pending_count++] = *event;
}

static void dual_overlap(struct dual *dual, uint32_t a, uint32_t b, uint64_t to_ns)
{
    if (dual->overlaps++ == 0) {
        dual->first_overlap.a = a;
        dual->first_overlap.b = b;
        dual->first_overlap.from_ns = dual->emitter[a].last_ns;
        dual->first_overlap.to_ns = to_ns;
    }
}

/* Events come in order of time. */
static void dual_judge(struct dual *dual, const struct dual_event *event)
{
    struct emitter *self = &dual->emitter[event->emitter];
    bool continues = self->events > 0 && event->t_ns - self->last_ns <= dual->gap_ns;

    for (uint32_t i = 0; continues && i < dual->emitter_count; i++) {
        const struct emitter *other = &dual->emitter[i];

        if (other != self && other->events > 0 && other->last_ns > self->last_ns) {
            dual_overlap(dual, event->emitter, i, event->t_ns);
        }
    }
    if (self->events == 0) {
        self->first_ns = event->t_ns;
    }
    if (!continues) {
        self->intervals++;
        self->interval_start_ns = event->t_ns;
    }
    self->events++;
    self->last_ns = event->t_ns;
    dual->events++;
    if (event->has_epoch) {
        if (event->epoch < dual->epoch_max) {
            dual->old_epoch_events++;
        } else {
            dual->epoch_max = event->epoch;
        }
    }
}

static int event_compare(const void *a, const void *b)
{
    const struct dual_event *x = a, *y = b;

    if (x->t_ns != y->t_ns) {
        return x->t_ns < y->t_ns ? -1 : 1;
    }
    return x->emitter < y->emitter ? -1 : x->emitter > y->emitter;
}

void dual_settle(struct dual *dual, uint64_t until_ns)
{
    size_t done = 0;

    if (dual->pending_count == 0) {
        return;
    }
    qsort(dual->pending, dual->pending_count, sizeof(*dual->pending), event_compare);
    while (done < dual->pending_count && dual->pending[done].t_ns <= until_ns) {
        dual_judge(dual, &dual->pending[done++]);
    }
    dual->pending_count -= done;
    memmove(dual->pending, dual->pending + done,
            dual->pending_count * sizeof(*dual->pending));
}

/* Answers
 * ------------------------------------------------------------------------------------ */

void answers_init(struct answers *answers, uint64_t outage_min_ns)
{
    memset(answers, 0, sizeof(*answers));
    answers->outage_min_ns = outage_min_ns;
}

void answers_free(struct answers *answers)
{
    free(answers->rtt_ns);
    answers->rtt_ns = NULL;
}

void answers_asked(struct answers *answers, uint32_t token, uint64_t now_ns)
{
    size_t at = token % QUESTIONS_KEPT;

    answers->question[at].token = token;
    answers->question[at].asked = true;
    answers->question[at].answered = false;
    answers->question[at].sent_ns = now_ns;
    answers->question[at].floor_acked = answers->max_acked;
    answers->question[at].floor_epoch = answers->max_epoch;
}

static void outage_add(struct answers *answers, uint64_t now_ns, uint64_t epoch,
                       bool boot_changed, bool open)
{
    if (answers->outage_count == OUTAGES_MAX) {
        answers->outages_not_listed++;
        return;
    }
    answers->outage[answers->outage_count++] = (struct outage){
        .from_ns = answers->last_ns,
        .len_ns = now_ns - answers->last_ns,
        .epoch = epoch,
        .boot_changed = boot_changed,
        .open = open,
    };
}

static void rtt_add(struct answers *answers, uint64_t rtt_ns)
{
    uint64_t *bigger = array_grow(answers->rtt_ns, answers->rtt_count, &answers->rtt_cap,
                                  sizeof(*bigger));

    if (bigger != NULL) {
        answers->rtt_ns = bigger;
        bigger[answers->rtt_count++] = rtt_ns;
    }
}

uint64_t answers_got(struct answers *answers, const void *bytes, size_t len,
                     uint64_t now_ns)
{
    struct answer answer;
    uint64_t gap_ns = 0;
    bool boot_changed;
    size_t at;

    if (len != sizeof(answer)) {
        answers->strange++;
        return 0;
    }
    memcpy(&answer, bytes, sizeof(answer));
    at = answer.token % QUESTIONS_KEPT;
    if (answer.magic != ANSWER_MAGIC || !answers->question[at].asked ||
        answers->question[at].token != answer.token) {
        answers->strange++;
        return 0;
    }
    if (answer.acked_seq < answers->question[at].floor_acked) {
        uint64_t lost = answers->question[at].floor_acked - answer.acked_seq;

        answers->lost_acked = lost > answers->lost_acked ? lost : answers->lost_acked;
    }
    if (answer.epoch < answers->question[at].floor_epoch) {
        answers->epoch_backwards++;
    }
    if (answers->question[at].answered) {
        answers->duplicates++;
        answers->two_boots += answers->question[at].boot != answer.boot;
        return 0;
    }
    answers->question[at].answered = true;
    answers->question[at].boot = answer.boot;
    boot_changed = answers->count == 0 || answer.boot != answers->last_boot;
    if (answers->count > 0) {
        gap_ns = now_ns - answers->last_ns;
        answers->longest_gap_ns =
            gap_ns > answers->longest_gap_ns ? gap_ns : answers->longest_gap_ns;
    } else {
        answers->first_ns = now_ns;
    }
    if (gap_ns > answers->outage_min_ns) {
        outage_add(answers, now_ns, answer.epoch, boot_changed, false);
    } else {
        gap_ns = 0;
    }
    rtt_add(answers, now_ns - answers->question[at].sent_ns);
    answers->boots += boot_changed;
    answers->last_boot = answer.boot;
    answers->max_acked =
        answer.acked_seq > answers->max_acked ? answer.acked_seq : answers->max_acked;
    answers->max_epoch =
        answer.epoch > answers->max_epoch ? answer.epoch : answers->max_epoch;
    answers->last_ns = now_ns;
    answers->count++;
    return gap_ns;
}

void answers_end(struct answers *answers, uint64_t now_ns)
{
    uint64_t gap_ns = now_ns - answers->last_ns;

    if (answers->count == 0 || now_ns < answers->last_ns) {
        return;
    }
    answers->longest_gap_ns =
        gap_ns > answers->longest_gap_ns ? gap_ns : answers->longest_gap_ns;
    if (gap_ns > answers->outage_min_ns) {
        outage_add(answers, now_ns, answers->max_epoch, false, true);
    }
}

static int u64_compare(const void *a, const void *b)
{
    uint64_t x, y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x < y ? -1 : x > y;
}

uint64_t answers_rtt(struct answers *answers, unsigned percent)
{
    if (answers->rtt_count == 0) {
        return 0;
    }
    qsort(answers->rtt_ns, answers->rtt_count, sizeof(uint64_t), u64_compare);
    return answers->rtt_ns[(answers->rtt_count - 1) * percent / 100];
}

/* The storage's log
 * --------------------------------------------------------------------------- */

static const char *skip_space(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n') {
        at++;
    }
    return at;
}

/* A JSON string without escapes other than \" and \\, cut to cap - 1; NULL if it does not
 * end. */
static const char *scan_string(const char *at, char *to, size_t cap)
{
    size_t len = 0;

    if (*at++ != '"') {
        return NULL;
    }
    while (*at != '"') {
        if (*at == '\\') {
            at++;
        }
        if (*at == '\0') {
            return NULL;
        }
        if (len + 1 < cap) {
            to[len++] = *at;
        }
        at++;
    }
    to[len] = '\0';
    return at + 1;
}

/* An unsigned integer in full 64 bits (json-c would do; a double would not). */
static const char *scan_u64(const char *at, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (!isdigit((unsigned char)*at)) {
        return NULL;
    }
    for (; isdigit((unsigned char)*at); at++) {
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value)) {
            return NULL;
        }
    }
    *ret_value = value;
    return at;
}

/* A value of a key that is not ours: string, number, or word. Nested values are not part
 * of this format. */
static const char *skip_value(const char *at)
{
    char rest[2];

    if (*at == '"') {
        return scan_string(at, rest, sizeof(rest));
    }
    if (*at == '\0' || strchr(",}{[]", *at) != NULL) {
        return NULL;
    }
    while (*at != '\0' && *at != ',' && *at != '}') {
        at++;
    }
    return at;
}

enum {
    HAVE_T = 1,
    HAVE_NODE = 2,
    HAVE_VM = 4,
    HAVE_LBA = 8,
    HAVE_EPOCH = 16,
    HAVE_SEQ = 32
};

static const char *scan_member(const char *at, struct log_write *write,
                               char event[EMITTER_NAME_MAX], unsigned *have)
{
    const struct {
        const char *key;
        unsigned flag;
        uint64_t *number;
        char *text;
    } members[] = {
        {"ev", 0, NULL, event},
        {"t_ns", HAVE_T, &write->t_ns, NULL},
        {"node", HAVE_NODE, NULL, write->node},
        {"vm", HAVE_VM, NULL, write->vm},
        {"lba", HAVE_LBA, &write->lba, NULL},
        {"epoch", HAVE_EPOCH, &write->epoch, NULL},
        {"seq", HAVE_SEQ, &write->seq, NULL},
    };
    char key[32];

    at = scan_string(at, key, sizeof(key));
    if (at == NULL || *(at = skip_space(at)) != ':') {
        return NULL;
    }
    at = skip_space(at + 1);
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (strcmp(key, members[i].key) == 0) {
            *have |= members[i].flag;
            return members[i].number != NULL
                       ? scan_u64(at, members[i].number)
                       : scan_string(at, members[i].text, EMITTER_NAME_MAX);
        }
    }
    return skip_value(at);
}

enum log_line log_line_parse(const char *line, const char *vm_wanted,
                             struct log_write *ret_write)
{
    struct log_write write = {0};
    char event[EMITTER_NAME_MAX] = "submit";
    const char *at = skip_space(line);
    unsigned have = 0;

    if (*at == '\0') {
        return LOG_LINE_EMPTY;
    }
    if (*at++ != '{') {
        return LOG_LINE_BAD;
    }
    for (;;) {
        at = scan_member(skip_space(at), &write, event, &have);
        if (at == NULL) {
            return LOG_LINE_BAD;
        }
        at = skip_space(at);
        if (*at == '}') {
            break;
        }
        if (*at++ != ',') {
            return LOG_LINE_BAD;
        }
    }
    if ((have & (HAVE_T | HAVE_NODE | HAVE_EPOCH | HAVE_SEQ)) !=
        (HAVE_T | HAVE_NODE | HAVE_EPOCH | HAVE_SEQ)) {
        return LOG_LINE_BAD;
    }
    if (vm_wanted != NULL && strcmp(vm_wanted, write.vm) != 0) {
        return LOG_LINE_OTHER;
    }
    if (strcmp(event, "durable") == 0) {
        write.event = LOG_DURABLE;
    } else if (strcmp(event, "submit") != 0) {
        return LOG_LINE_OTHER;
    }
    *ret_write = write;
    return LOG_LINE_WRITE;
}

void write_log_init(struct write_log *log)
{
    memset(log, 0, sizeof(*log));
}

void write_log_free(struct write_log *log)
{
    free(log->write);
    log->write = NULL;
}

void write_log_line(struct write_log *log, const char *line, const char *vm_wanted)
{
    struct log_write write, *bigger;

    switch (log_line_parse(line, vm_wanted, &write)) {
    case LOG_LINE_WRITE:
        bigger = array_grow(log->write, log->count, &log->cap, sizeof(*bigger));
        if (bigger == NULL) {
            log->bad_lines++;
            return;
        }
        log->write = bigger;
        bigger[log->count++] = write;
        return;
    case LOG_LINE_BAD:
        log->bad_lines++;
        return;
    case LOG_LINE_OTHER:
    case LOG_LINE_EMPTY:
        return;
    }
}

static int write_compare(const void *a, const void *b)
{
    const struct log_write *x = a, *y = b;
    int by_vm = strcmp(x->vm, y->vm);

    if (by_vm != 0) {
        return by_vm;
    }
    if (x->event != y->event) {
        return x->event < y->event ? -1 : 1;
    }
    return x->t_ns < y->t_ns ? -1 : x->t_ns > y->t_ns;
}

/*
 * One kind of event of one VM, in order of time. A guest writes seq + 1 only when seq is
 * durable: so when seq was submitted by anyone, seq - 1 was acknowledged, and whoever
 * continues must not start below seq.
 */
static void log_judge_vm(struct write_log *log, const struct log_write *write,
                         size_t count)
{
    uint64_t epoch_max = 0, seq_max = 0;

    for (size_t i = 0; i < count; i++) {
        if (write[i].epoch < epoch_max) {
            if (log->old_epoch_writes++ == 0) {
                log->first_old = write[i];
            }
            continue; /* its seq would only repeat the complaint */
        }
        epoch_max = write[i].epoch;
        if (write[i].event == LOG_SUBMIT && write[i].seq < seq_max) {
            uint64_t lost = seq_max - write[i].seq;

            log->lost_acked_writes =
                lost > log->lost_acked_writes ? lost : log->lost_acked_writes;
        } else if (write[i].seq > seq_max) {
            seq_max = write[i].seq;
        }
    }
}

/* One VM's nodes are one set of emitters; the first VM's set is the one reported by name.
 */
static void log_judge_writers(struct write_log *log, size_t from, size_t to,
                              struct dual *writers)
{
    for (size_t i = from; i < to; i++) {
        uint32_t emitter = dual_emitter(writers, log->write[i].node);

        if (emitter < EMITTERS_MAX) {
            dual_add(writers, &(struct dual_event){.t_ns = log->write[i].t_ns,
                                                   .emitter = emitter});
        }
    }
    dual_settle(writers, UINT64_MAX);
}

void write_log_judge(struct write_log *log, struct dual *writers)
{
    size_t from = 0;

    if (log->count == 0) {
        return;
    }
    qsort(log->write, log->count, sizeof(*log->write), write_compare);
    while (from < log->count) {
        size_t to = from;

        while (to < log->count && log->write[to].event == log->write[from].event &&
               strcmp(log->write[to].vm, log->write[from].vm) == 0) {
            to++;
        }
        log_judge_vm(log, log->write + from, to - from);
        if (log->write[from].event != LOG_SUBMIT) {
            /* Durable lines come when they come: no sign of who is writing. */
        } else if (writers->emitter_count == 0) {
            log_judge_writers(log, from, to, writers);
        } else {
            struct dual other;

            dual_init(&other, writers->gap_ns);
            log_judge_writers(log, from, to, &other);
            writers->overlaps += other.overlaps;
            writers->events += other.events;
            writers->lost_events += other.lost_events;
            dual_free(&other);
        }
        from = to;
    }
}

/* The disk
 * ---------------------------------------------------------------------------------------
 */

enum slot_state { SLOT_EMPTY, SLOT_VALID, SLOT_TORN, SLOT_MISPLACED, SLOT_FOREIGN };

static bool all_zero(const uint8_t *bytes, size_t len)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

static enum slot_state slot_judge(const uint8_t *bytes, uint64_t slot, uint64_t slots,
                                  struct record_header *ret_header)
{
    /* Aligned for record_body_ok(). */
    uint64_t copy[RECORD_SLOT_BYTES / 8];
    const struct record_header *header = (const struct record_header *)copy;

    memcpy(copy, bytes, sizeof(copy));
    switch (record_header_check(header)) {
    case RECORD_OK:
        break;
    case RECORD_NONE:
        return all_zero(bytes, RECORD_SLOT_BYTES) ? SLOT_EMPTY : SLOT_FOREIGN;
    case RECORD_BAD_CRC:
    case RECORD_BAD_FIELD:
        return SLOT_TORN;
    }
    if (!record_body_ok(header)) {
        return SLOT_TORN;
    }
    *ret_header = *header;
    return (header->seq - 1) % slots == slot ? SLOT_VALID : SLOT_MISPLACED;
}

struct slot_fact {
    uint64_t seq, epoch; /* seq 0: nothing valid */
};

/*
 * Up to acked, every slot's newest lap must be there: slot of seq s holds s or a later
 * lap of it. The one that record acked + 1 was about to replace may be torn.
 */
static void disk_judge_acked(const struct slot_fact *fact, uint64_t slots, uint64_t acked,
                             struct disk_report *report)
{
    uint64_t oldest = acked + 1 > slots ? acked + 2 - slots : 1;

    for (uint64_t seq = oldest; seq <= acked; seq++) {
        if (fact[(seq - 1) % slots].seq < seq) {
            report->lost_acked++;
            if (report->first_lost == 0) {
                report->first_lost = seq;
            }
        }
    }
}

static void disk_judge_epochs(const struct slot_fact *fact, uint64_t slots,
                              struct disk_report *report)
{
    uint64_t oldest = report->newest > slots ? report->newest + 1 - slots : 1,
             epoch_max = 0;

    for (uint64_t seq = oldest; seq <= report->newest; seq++) {
        const struct slot_fact *at = &fact[(seq - 1) % slots];

        if (at->seq != seq) {
            continue;
        }
        if (at->epoch < epoch_max) {
            report->epoch_backwards++;
        } else {
            epoch_max = at->epoch;
        }
    }
}

int disk_check(bool (*read_slot)(void *ctx, uint64_t slot, uint8_t *bytes), void *ctx,
               uint64_t slots, uint64_t acked, struct disk_report *ret_report)
{
    struct disk_report report = {.slots = slots};
    struct slot_fact *fact = calloc(slots > 0 ? slots : 1, sizeof(*fact));
    uint8_t bytes[RECORD_SLOT_BYTES];

    if (fact == NULL) {
        return -ENOMEM;
    }
    for (uint64_t slot = 0; slot < slots; slot++) {
        struct record_header header = {0};
        enum slot_state state = read_slot(ctx, slot, bytes)
                                    ? slot_judge(bytes, slot, slots, &header)
                                    : SLOT_TORN;

        report.torn += state == SLOT_TORN;
        report.misplaced += state == SLOT_MISPLACED;
        report.foreign += state == SLOT_FOREIGN;
        if (state == SLOT_VALID) {
            report.records++;
            fact[slot] = (struct slot_fact){header.seq, header.epoch};
            report.newest = header.seq > report.newest ? header.seq : report.newest;
        }
    }
    if (slots > 0) {
        disk_judge_acked(fact, slots, acked, &report);
        disk_judge_epochs(fact, slots, &report);
    } else if (acked > 0) {
        report.lost_acked = acked;
        report.first_lost = 1;
    }
    free(fact);
    *ret_report = report;
    return 0;
}
