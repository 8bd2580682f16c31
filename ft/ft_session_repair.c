/* SPDX-License-Identifier: Apache-2.0 */
/* The secondary's part of a barrier: sums of what it wrote to, what comes in return, put
 * aside and taken as a whole; what it tells of a divergence (ft/README.md, "Barrier and
 * repair"). */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "base/text.h"
#include "ft/ft_session_priv.h"

/* The hearing thread
 * ------------------------------------------------------------------------------- */

bool ft_repair_set(struct ft_session *s, const struct ft_record *record, const char **why)
{
    struct ft_set *set = &s->set;
    uint64_t field[FT_SET_FIELDS];

    *why = "a repair that cannot be";
    if (ft_get_u64(record, field, FT_SET_FIELDS) != FT_OK ||
        field[FT_SET_FLAGS] > TAPE_FLAG_MAX) {
        return false;
    }
    if (field[FT_SET_NUMBER] <= s->ack.barrier || s->closed) {
        set->open = false; /* asked for twice: it is done */
        return true;
    }
    if (field[FT_SET_PART] == FT_SET_BEGINS) {
        if (set->whole) {
            return false;
        }
        *set = (struct ft_set){.bytes = set->bytes,
                               .cap = set->cap,
                               .open = true,
                               .number = field[FT_SET_NUMBER],
                               .position = record->exits};
        return true;
    }
    if (field[FT_SET_PART] != FT_SET_WHOLE) {
        return false;
    }
    if (!set->open) {
        set->len = 0;
        return true; /* its beginning was dropped */
    }
    if (field[FT_SET_NUMBER] != set->number || field[FT_SET_COUNT] != set->records ||
        record->exits != set->position) {
        return false;
    }
    memcpy(set->end, field, sizeof field);
    set->open = false;
    set->whole = true;
    return true;
}

/* For people
 * ---------------------------------------------------------------------------------- */

static void add(struct ft_session *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void add(struct ft_session *s, const char *format, ...)
{
    size_t len = strlen(s->status.bundle);
    va_list args;

    va_start(args, format);
    vsnprintf(s->status.bundle + len, sizeof s->status.bundle - len, format, args);
    va_end(args);
}

static void add_regs(struct ft_session *s, const char *whose, const uint64_t *reg)
{
    add(s, "%s:", whose);
    for (unsigned i = 0; i < TAPE_REGS; i++) {
        add(s, " %s=%" PRIx64, tape_reg_name[i], reg[i]);
    }
    add(s, "\n");
}

/* What is known of a divergence where it is seen. */
static void begin_bundle(struct ft_session *s)
{
    uint64_t from = s->seen_count > FT_SEEN_MAX ? s->seen_count - FT_SEEN_MAX : 0;

    s->status.bundle[0] = '\0';
    add(s, "diverged: %s; last equal exit %" PRIu64 ", seen at exit %" PRIu64 "\n",
        s->difference, s->equal_exits, s->exits);
    add(s, "twin's last exit: kind %d address %" PRIx64 " size %u\n", (int)s->last.kind,
        s->last.address, s->last.size);
    add_regs(s, "twin", s->last.reg);
    for (uint64_t i = from; i < s->seen_count; i++) {
        const struct ft_seen_input *seen = &s->seen[i % FT_SEEN_MAX];

        if (seen->position >= s->equal_exits) {
            add(s,
                "input at %" PRIu64 ": device %u type %d slot %u bytes %u now_ns %" PRIu64
                "\n",
                seen->position, seen->dev_index, (int)seen->in.type, seen->in.slot,
                seen->in.len, seen->in.now_ns);
        }
    }
}

static void end_bundle(struct ft_session *s, const uint8_t *state, size_t len)
{
    uint64_t reg[TAPE_REGS];

    add(s, "repaired at exit %" PRIu64 "\n", s->exits);
    if (state != NULL && engine_repair_regs(s->conf.engine, state, len, reg)) {
        add_regs(s, "primary, at the barrier", reg);
    }
    s->status.bundle_count++;
}

/* What it wrote to
 * -------------------------------------------------------------------------------- */

void ft_repair_at(struct ft_session *s, const struct ft_record *record)
{
    uint64_t field[2];

    if (ft_get_u64(record, field, 2) != FT_OK || field[0] <= s->barrier) {
        ft_sec_event(s, FT_SEC_HOST_ERROR, 0, "a barrier that cannot be");
        return;
    }
    s->barrier = field[0];
    s->barrier_ends = field[1] == FT_BARRIER_END;
    s->barrier_at = record->exits;
    s->barrier_open = true;
    ft_sec_take(s);
    if (!s->differs) {
        ft_sec_event(s, FT_SEC_AT_BARRIER, 0, NULL);
    }
    ft_repair_turn(s);
}

static uint64_t count_marks(const struct ft_session *s)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < s->page_count / 64 + 1; i++) {
        count += (uint64_t)__builtin_popcountll(s->dirty[i]);
    }
    return count;
}

/* False: no memory. */
static bool sum_pages(struct ft_session *s, struct ft_sums_of *sums)
{
    struct engine_ram ram;
    uint8_t *at;

    engine_ram(s->conf.engine, &ram);
    sums->head.total = count_marks(s);
    at = sums->entries = malloc(sums->head.total * FT_HASH_LEN + 1);
    for (uint64_t page = 0; at != NULL && page < s->page_count; page++) {
        if (s->dirty[page / 64] == 0) {
            page |= 63;
        } else if ((s->dirty[page / 64] >> page % 64 & 1) != 0) {
            struct ft_hash hash = {
                page, ft_sum128(ram.host + page * GMEM_PAGE_SIZE, GMEM_PAGE_SIZE)};

            ft_hash_put(&hash, at);
            at += FT_HASH_LEN;
        }
    }
    return at != NULL;
}

static bool collect(struct ft_session *s, struct ft_sums_of *sums)
{
    const uint8_t *bytes;
    uint32_t flags;
    size_t len;

    if (!engine_repair_dirty(s->conf.engine, s->dirty) || !sum_pages(s, sums)) {
        return false;
    }
    len = engine_repair_save(s->conf.engine, &bytes, &flags);
    if (len > 0) {
        sums->head.state = ft_sum128(bytes, len);
    }
    return len > 0;
}

static void make_hashes(struct ft_session *s)
{
    struct ft_sums_of sums = {.head = {.barrier = s->barrier,
                                       .verified = s->ack.verified,
                                       .diverged = s->differs},
                              .ready = true};
    bool good;

    s->hash_wanted = false;
    pthread_mutex_unlock(&s->lock);
    good = collect(s, &sums);
    pthread_mutex_lock(&s->lock);
    while (s->hash_busy && !s->closed) {
        pthread_cond_wait(&s->room, &s->lock);
    }
    if (!good || s->hash_busy) {
        free(sums.entries);
        if (!good) {
            ft_sec_event(s, FT_SEC_HOST_ERROR, 0, "its memory cannot be compared");
        }
        return;
    }
    free(s->sums.entries);
    s->sums = sums;
    pthread_cond_broadcast(&s->more);
}

/* What comes in return
 * ---------------------------------------------------------------------------- */

/* What a set has, looked at before anything is taken. */
struct parts {
    uint64_t verified; /* outputs before it */
    size_t state_len;  /* in s->state; 0: none */
    uint64_t pages;
    uint32_t disks; /* that it has writes for: a bit each */
};

typedef const char *(*part_fn)(struct ft_session *s, struct ft_record *record,
                               struct parts *parts);

static const char *each(struct ft_session *s, struct parts *parts, uint16_t type,
                        part_fn fn)
{
    const struct ft_set *set = &s->set;
    const char *wrong = NULL;
    struct ft_record record;

    for (size_t at = 0; at < set->len && wrong == NULL; at += record.len) {
        BUG_ON(ft_check(set->bytes + at, set->len - at, &record) != FT_OK);
        if (type == 0 || record.type == type) {
            wrong = fn(s, &record, parts);
        }
    }
    return wrong;
}

static bool read_state(struct ft_session *s, const struct ft_record *record,
                       struct parts *parts)
{
    struct ft_state piece;

    if (ft_get_state(record, &piece) != FT_OK || piece.offset != parts->state_len) {
        return false;
    }
    memcpy(s->state + piece.offset, piece.bytes, piece.len);
    parts->state_len += piece.len;
    return true;
}

static const char *look_at(struct ft_session *s, struct ft_record *record,
                           struct parts *parts)
{
    struct tape_item item;
    struct tape_out out;
    uint64_t ordinal;
    bool good = false;

    if (record->type == FT_PAGES) {
        good = ft_set_pages(s, record, &item);
    } else if (record->type == FT_STATE) {
        good = read_state(s, record, parts);
    } else if (record->type == FT_HELD) {
        good = ft_get_held(record, &ordinal, &out) == FT_OK &&
               ordinal > parts->verified && ordinal <= s->set.end[FT_SET_OUTPUTS] &&
               (out.kind != TAPE_OUT_DISK || out.unit < VM_DISKS_MAX);
        if (good && ft_is_mirrored(s, &out)) {
            parts->disks |= 1u << out.unit;
        }
    }
    return good ? NULL : "what a barrier brings cannot be read";
}

/* Where only the state is another: which part, the first time. */
static void tell_state(struct ft_session *s, const struct parts *parts)
{
    const uint8_t *here;
    uint32_t flags;
    size_t len;
    char text[128];

    if (parts->state_len == 0 || s->differs || s->counts.repair_states > 0) {
        return;
    }
    len = engine_repair_save(s->conf.engine, &here, &flags);
    engine_repair_differs(s->state, parts->state_len, here, len, text, sizeof text);
    pthread_mutex_lock(&s->lock);
    s->status.bundle[0] = '\0';
    add(s, "at exit %" PRIu64 " only data differs; of devices and vCPU: %s\n", s->exits,
        text);
    s->status.bundle_count++;
    pthread_mutex_unlock(&s->lock);
}

static const char *take_pages(struct ft_session *s, struct ft_record *record,
                              struct parts *parts)
{
    struct tape_item item;
    struct engine_ram ram;

    engine_ram(s->conf.engine, &ram);
    if (ft_set_pages(s, record, &item)) {
        uint8_t *to = ram.host + item.page * GMEM_PAGE_SIZE;
        size_t len = (size_t)item.page_count * GMEM_PAGE_SIZE;

        parts->pages += item.page_count;
        if (item.bytes != NULL) {
            memcpy(to, item.bytes, len);
        } else {
            memset(to, 0, len);
        }
    }
    return NULL;
}

static const char *take_write(struct ft_session *s, struct ft_record *record,
                              struct parts *parts)
{
    struct tape_out out;
    uint64_t ordinal;

    (void)parts;
    if (ft_get_held(record, &ordinal, &out) == FT_OK && ft_is_mirrored(s, &out) &&
        engine_repair_write(s->conf.engine, &out) != 0) {
        return "its own copy of a mirrored disk cannot be written to";
    }
    return NULL;
}

/* Nobody has written it here: it is what a shared disk is asked for at go-live. */
static const char *take_bytes(struct ft_session *s, struct ft_record *record,
                              struct parts *parts)
{
    struct tape_out out;
    uint64_t ordinal;

    (void)parts;
    if (ft_get_held(record, &ordinal, &out) == FT_OK && out.kind == TAPE_OUT_DISK &&
        !ft_is_mirrored(s, &out)) {
        engine_repair_bytes(s->conf.engine, &out);
    }
    return NULL;
}

/* Under lock: what the primary has not let out yet is its bytes. */
static const char *take_output(struct ft_session *s, struct ft_record *record,
                               struct parts *parts)
{
    struct tape_out out;
    uint64_t ordinal;

    (void)parts;
    if (ft_get_held(record, &ordinal, &out) == FT_OK && out.kind != TAPE_OUT_DISK &&
        !ft_keep_out(s, ordinal, &out, false)) {
        return "no memory for an output";
    }
    return NULL;
}

/* Order: disks, memory, then devices and registers. Not under lock: nothing of this is
 * anybody else's while the set is whole and `applying` stands. */
static const char *apply(struct ft_session *s, struct parts *parts)
{
    struct engine *e = s->conf.engine;
    const char *wrong = each(s, parts, 0, look_at);
    struct vmm_error err;

    if (wrong != NULL) {
        return wrong;
    }
    tell_state(s, parts);
    if (parts->disks != 0 || s->differs || s->barrier_ends) {
        engine_repair_drain(e);
        wrong = each(s, parts, FT_HELD, take_write);
    }
    parts->disks |= s->barrier_ends ? s->written : 0;
    for (unsigned i = 0; i < VM_DISKS_MAX && wrong == NULL; i++) {
        struct tape_out flush = {.kind = TAPE_OUT_DISK, .unit = i, .op = REQUEST_FLUSH};

        if ((parts->disks >> i & 1) != 0 && engine_repair_write(e, &flush) != 0) {
            wrong = "its own copy of a mirrored disk cannot be flushed";
        }
    }
    if (wrong == NULL) {
        (void)each(s, parts, FT_PAGES, take_pages);
        if (engine_repair_load(e, parts->state_len > 0 ? s->state : NULL,
                               parts->state_len, (uint32_t)s->set.end[FT_SET_FLAGS],
                               s->barrier_at, &err) < 0) {
            text_copy(s->difference, sizeof s->difference, err.text);
            wrong = s->difference;
        }
    }
    if (wrong == NULL && (s->out_differs || s->differs)) {
        engine_repair_forget(e);
        (void)each(s, parts, FT_HELD, take_bytes);
    }
    return wrong;
}

/* Under lock: from here on it has done what the primary did. */
static const char *adopt(struct ft_session *s, struct parts *parts)
{
    uint64_t made = s->outputs, now = s->set.end[FT_SET_OUTPUTS];
    const char *wrong;

    for (uint64_t i = parts->verified + 1; i <= made; i++) {
        ft_drop_out(s, i);
    }
    wrong = each(s, parts, FT_HELD, take_output);
    if (parts->disks != 0 || s->differs) {
        memset(s->flushing, 0, sizeof s->flushing);
        s->flush_newest = now;
        s->ack.flushed = now > s->ack.flushed ? now : s->ack.flushed;
    }
    s->outputs = now;
    s->chain = s->set.end[FT_SET_CHAIN];
    s->exits = s->published_exits = s->equal_exits = s->barrier_at;
    if (s->differs) {
        end_bundle(s, parts->state_len > 0 ? s->state : NULL, parts->state_len);
    }
    memset(s->withheld, 0, sizeof s->withheld);
    memset(s->dirty, 0, (s->page_count / 64 + 1) * sizeof *s->dirty);
    s->disk_lost = 0;
    s->differs = s->out_differs = s->barrier_open = false;
    s->counts.barriers++;
    s->counts.repair_pages += parts->pages;
    s->counts.repairs += s->set.len > 0;
    s->counts.repair_states += parts->state_len > 0;
    s->ack.barrier = s->barrier;
    s->ack.verified = now > s->ack.verified ? now : s->ack.verified;
    ft_sec_replayed(s);
    return wrong;
}

static void take_set(struct ft_session *s)
{
    struct parts parts = {.verified = s->sums.head.verified};
    const char *wrong;

    s->applying = true;
    pthread_mutex_unlock(&s->lock);
    wrong = apply(s, &parts);
    pthread_mutex_lock(&s->lock);
    s->applying = false;
    if (wrong == NULL) {
        wrong = adopt(s, &parts);
    }
    s->set.len = s->set.number = 0;
    s->set.whole = false;
    pthread_cond_broadcast(&s->room);
    if (wrong != NULL) {
        ft_sec_event(s, FT_SEC_HOST_ERROR, 0, wrong);
    } else {
        ft_sec_event(s, FT_SEC_SET_COMPLETE, 0, NULL);
    }
    pthread_cond_broadcast(&s->more);
    engine_poke(s->conf.engine);
}

/* Standing
 * ------------------------------------------------------------------------------------ */

/* It went another way: up to the barrier nothing of the log is for it. */
static void skip(struct ft_session *s)
{
    while (!s->barrier_open && s->sec.state == FT_SEC_DIVERGED) {
        if (s->set.whole && s->set.number == 0) {
            s->set.len = 0;
            s->set.whole = false;
            pthread_cond_broadcast(&s->room);
        }
        if (!ft_sec_peek(s)) {
            return;
        }
        if (s->record.type == FT_BARRIER) {
            ft_repair_at(s, &s->record);
            return;
        }
        ft_sec_take(s);
    }
}

void ft_repair_turn(struct ft_session *s)
{
    if (s->differs && s->sec.state == FT_SEC_DIVERGED && !s->barrier_open) {
        skip(s);
        return;
    }
    if (s->barrier_open && s->hash_wanted && ft_secondary_may_ack(&s->sec)) {
        if (s->differs) {
            begin_bundle(s);
        }
        make_hashes(s);
    }
    if (s->barrier_open && s->set.whole && s->set.number == s->barrier) {
        take_set(s);
    }
}

void ft_repair_withheld(struct ft_session *s)
{
    uint64_t from = s->outputs > FT_HELD_MAX ? s->outputs - FT_HELD_MAX : 0;

    for (uint64_t i = from + 1; i <= s->outputs; i++) {
        const struct tape_out *out = ft_kept_out(s, i);

        if (out != NULL && out->kind == TAPE_OUT_DISK && s->withheld[out->unit] &&
            s->kept[i % FT_HELD_MAX].write &&
            engine_repair_write(s->conf.engine, out) != 0) {
            (void)engine_end(s->conf.engine, RUN_END_HOST,
                             "its own copy of a mirrored disk cannot be written to");
            return;
        }
    }
}
