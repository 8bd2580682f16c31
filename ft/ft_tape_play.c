/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ft/ft_tape_priv.h"

#define BUF_BYTES (2 * (size_t)FT_RECORD_MAX)

/* Verdicts
 * -------------------------------------------------------------------------------- */

/* The first one stays. False, always. */
__attribute__((format(printf, 3, 4))) static bool finish(struct ft_tape *t, bool good,
                                                         const char *format, ...)
{
    va_list args;

    if (!t->over) {
        va_start(args, format);
        vsnprintf(t->text, sizeof t->text, format, args);
        va_end(args);
        t->over = true;
        t->good = good;
    }
    return false;
}

__attribute__((format(printf, 3, 4))) static bool
differs(struct ft_tape *t, uint64_t position, const char *format, ...)
{
    char what[FT_TEXT_MAX - 40];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return finish(t, false, "differs at exit %" PRIu64 ": %s", position, what);
}

static bool cut(struct ft_tape *t, const char *why)
{
    return finish(t, false, "the recording ends at exit %" PRIu64 " (cut%s%s)",
                  t->follow.exits, *why ? ": " : "", why);
}

/* Reading
 * --------------------------------------------------------------------------------- */

static void fill(struct ft_tape *t)
{
    memmove(t->buf, t->buf + t->at, t->have - t->at);
    t->file_at += t->at;
    t->have -= t->at;
    t->at = 0;
    while (!t->eof && t->have < BUF_BYTES) {
        ssize_t n = read(t->fd, t->buf + t->have, BUF_BYTES - t->have);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        t->eof = n <= 0;
        t->read_error = n < 0 ? errno : 0;
        t->have += n > 0 ? (size_t)n : 0;
    }
}

/* The record at the head is done with. */
static void take(struct ft_tape *t)
{
    t->at += t->taken;
    t->taken = 0;
}

static bool refuse(struct ft_tape *t, enum ft_reason reason)
{
    char why[160];

    snprintf(why, sizeof why, "%s in the record at byte %" PRIu64, ft_reason_str(reason),
             t->file_at + t->at);
    return cut(t, why);
}

/* t->record: the next one that means something here. False: there is none. */
static bool peek(struct ft_tape *t)
{
    enum ft_reason reason;

    while (!t->over && t->taken == 0) {
        reason = ft_check(t->buf + t->at, t->have - t->at, &t->record);
        if (reason == FT_NEED_MORE && !t->eof) {
            fill(t);
            continue;
        }
        if (reason == FT_NEED_MORE && t->read_error != 0) {
            return finish(t, false,
                          "the recording cannot be read at byte %" PRIu64 ": %s",
                          t->file_at + t->have, strerror(t->read_error));
        }
        if (reason == FT_NEED_MORE) {
            return cut(t, t->have == t->at ? "" : "its last record is torn");
        }
        if (reason == FT_OK) {
            struct ft_follow f = t->follow;

            reason = ft_follow(&f, &t->record);
            if (reason == FT_OK) {
                t->follow = f;
            }
        }
        if (reason != FT_OK) {
            return refuse(t, reason);
        }
        t->taken = t->record.len;
        if (t->record.type == FT_BEAT || t->record.type == FT_BARRIER ||
            t->record.type >= FT_TYPE_COUNT) {
            take(t);
        }
    }
    return !t->over;
}

static bool is_next(struct ft_tape *t, enum ft_type type, uint64_t position)
{
    return t->record.type == type && t->record.exits == position;
}

int ft_play_head(struct ft_tape *t, struct ft_head *ret, struct vmm_error *err)
{
    enum ft_reason reason;

    if (!peek(t)) {
        return t->read_error != 0
                   ? vmm_fail(err, -t->read_error, "%s: %s", t->path, t->text)
                   : vmm_fail(err, -EBADMSG, "%s is no recording: %s", t->path, t->text);
    }
    reason = t->record.type == FT_HEAD ? ft_get_head(&t->record, ret) : FT_BAD_TYPE;
    if (reason != FT_OK) {
        return vmm_fail(err, -EBADMSG, "%s is no recording: its head is refused: %s",
                        t->path, ft_reason_str(reason));
    }
    take(t);
    return 0;
}

/* Exits
 * ----------------------------------------------------------------------------------- */

static void say_exit(char *text, size_t cap, uint32_t kind, uint64_t address,
                     uint32_t size, const uint8_t *data, uint32_t len)
{
    static const char *const name[TAPE_EXIT_KINDS] = {[TAPE_EXIT_IN] = "IN",
                                                      [TAPE_EXIT_OUT] = "OUT",
                                                      [TAPE_EXIT_READ] = "MMIO read",
                                                      [TAPE_EXIT_WRITE] = "MMIO write",
                                                      [TAPE_EXIT_RDMSR] = "RDMSR",
                                                      [TAPE_EXIT_WRMSR] = "WRMSR",
                                                      [TAPE_EXIT_HALT] = "HLT",
                                                      [TAPE_EXIT_SHUTDOWN] =
                                                          "a triple fault",
                                                      [TAPE_EXIT_BARRIER] = "a barrier"};
    int n;

    if (kind == 0 || kind > TAPE_EXIT_WRMSR) {
        snprintf(text, cap, "%s",
                 kind < TAPE_EXIT_KINDS && name[kind] ? name[kind] : "?");
        return;
    }
    n = snprintf(text, cap, "%s %#" PRIx64 " size %u data", name[kind], address, size);
    for (uint32_t i = 0; i < len && i < 16 && n > 0 && (size_t)n + 8 < cap; i++) {
        n += snprintf(text + n, cap - (size_t)n, " %02x", data[i]);
    }
    if (len > 16 && n > 0 && (size_t)n + 24 < cap) {
        snprintf(text + n, cap - (size_t)n, "... (%u bytes)", len);
    }
}

static bool other_exit(struct ft_tape *t, const struct ft_exit *there,
                       const struct tape_exit *x)
{
    char a[128], b[128];

    say_exit(a, sizeof a, there->kind, there->address, there->size, there->data,
             there->len);
    say_exit(b, sizeof b, (uint32_t)x->kind, x->address, x->size, x->data, x->len);
    return differs(t, x->number,
                   "recorded %s (rip %#" PRIx64 "), here %s (rip %#" PRIx64 ")", a,
                   t->reg_there[TAPE_REG_RIP], b, x->reg[TAPE_REG_RIP]);
}

static bool other_reg(struct ft_tape *t, const struct tape_exit *x, unsigned i)
{
    char text[128];

    say_exit(text, sizeof text, (uint32_t)x->kind, x->address, x->size, x->data, x->len);
    return differs(
        t, x->number,
        "after %s at rip %#" PRIx64 ": recorded %s %#" PRIx64 ", here %#" PRIx64, text,
        x->reg[TAPE_REG_RIP], tape_reg_name[i], t->reg_there[i], x->reg[i]);
}

static bool compare_exit(struct ft_tape *t, const struct ft_exit *there,
                         const struct tape_exit *x)
{
    if (there->kind != (uint32_t)x->kind || there->address != x->address ||
        there->size != x->size || there->len != x->len ||
        there->boundary != x->boundary ||
        (x->len > 0 && memcmp(there->data, x->data, x->len) != 0)) {
        return other_exit(t, there, x);
    }
    if (x->boundary && t->reg_there[TAPE_REG_RIP] != x->reg[TAPE_REG_RIP]) {
        return other_reg(t, x, TAPE_REG_RIP);
    }
    for (unsigned i = 0; x->boundary && i < TAPE_REGS; i++) {
        if (t->reg_there[i] != x->reg[i]) {
            return other_reg(t, x, i);
        }
    }
    return there->chain == t->chain ||
           differs(t, x->number,
                   "the chain of exits: recorded %016" PRIx64 ", here %016" PRIx64
                   " (another interrupt was injected since the exit before)",
                   there->chain, t->chain);
}

static bool expected(struct ft_tape *t, uint64_t position, const char *here)
{
    return differs(t, position, "recorded %s (at exit %" PRIu64 "), here %s",
                   ft_type_str(t->record.type), t->record.exits, here);
}

static bool play_exit(void *ctx, const struct tape_exit *x)
{
    struct ft_tape *t = ctx;
    struct ft_exit there = {.kind = 0};
    enum ft_reason reason;
    char text[128];

    t->exits = x->number;
    if (x->boundary) {
        memcpy(t->reg, x->reg, sizeof t->reg);
    }
    t->chain = ft_chain_exit(t->chain, x);
    if (!peek(t)) {
        return false;
    }
    if (!is_next(t, FT_EXIT, x->number)) {
        say_exit(text, sizeof text, (uint32_t)x->kind, x->address, x->size, x->data,
                 x->len);
        return expected(t, x->number, text);
    }
    reason = ft_get_exit(&t->record, &there);
    if (reason != FT_OK) {
        return refuse(t, reason);
    }
    for (unsigned i = 0; i < TAPE_REGS; i++) {
        if ((there.changed >> i & 1) != 0) {
            t->reg_there[i] = there.reg[i];
        }
    }
    if (!compare_exit(t, &there, x)) {
        return false;
    }
    take(t);
    return true;
}

static bool play_inject(void *ctx, uint64_t position, uint8_t vector)
{
    struct ft_tape *t = ctx;

    (void)position;
    t->chain = ft_chain_inject(t->chain, vector);
    return true;
}

static bool play_clock(void *ctx, uint64_t position, uint64_t *now_ns)
{
    struct ft_tape *t = ctx;
    enum ft_reason reason;

    if (!peek(t)) {
        return false;
    }
    if (!is_next(t, FT_CLOCK, position)) {
        return expected(t, position, "a device reads the clock");
    }
    reason = ft_get_u64(&t->record, now_ns, 1);
    if (reason != FT_OK) {
        return refuse(t, reason);
    }
    take(t);
    return true;
}

/* Outputs
 * --------------------------------------------------------------------------------- */

static const char *output_str(uint32_t kind)
{
    static const char *const name[TAPE_OUT_KINDS] = {[TAPE_OUT_FRAME] = "a frame",
                                                     [TAPE_OUT_DISK] = "a disk request",
                                                     [TAPE_OUT_SERIAL] = "serial output",
                                                     [TAPE_OUT_DEBUG] = "debug output"};

    return kind < TAPE_OUT_KINDS && name[kind] ? name[kind] : "?";
}

static bool play_output(void *ctx, uint64_t position, const struct tape_out *out)
{
    struct ft_tape *t = ctx;
    struct ft_sum sum = ft_output_sum(out);
    struct ft_output there;
    enum ft_reason reason;

    if (!peek(t)) {
        return false;
    }
    if (!is_next(t, FT_OUTPUT, position)) {
        return expected(t, position, output_str((uint32_t)out->kind));
    }
    reason = ft_get_output(&t->record, &there);
    if (reason != FT_OK) {
        return refuse(t, reason);
    }
    t->outputs++;
    if (there.kind != (uint32_t)out->kind || there.len != out->len ||
        t->record.device != out->unit || there.ordinal != t->outputs ||
        memcmp(&there.sum, &sum, sizeof sum) != 0) {
        return differs(t, position,
                       "output %" PRIu64 ": recorded %s of %u bytes, here %s of %u "
                       "bytes%s",
                       t->outputs, output_str(there.kind), there.len,
                       output_str((uint32_t)out->kind), out->len,
                       there.kind == (uint32_t)out->kind && there.len == out->len
                           ? ": not the same bytes"
                           : "");
    }
    take(t);
    return true;
}

/* What comes at a position
 * ------------------------------------------------------------------- */

static enum tape_next bad(struct ft_tape *t, enum ft_reason reason)
{
    (void)refuse(t, reason);
    return TAPE_NEXT_STOP;
}

static enum tape_next next_input(struct ft_tape *t, struct tape_item *ret)
{
    enum ft_reason reason = ft_get_input(&t->record, &ret->in);

    if (reason != FT_OK) {
        return bad(t, reason);
    }
    if (ret->in.len > 0) { /* it may lead to outputs, which look at the next record */
        memcpy(t->state, ret->in.data, ret->in.len);
        ret->in.data = t->state;
    }
    ret->dev_index = t->record.device;
    t->inputs++;
    take(t);
    return TAPE_NEXT_INPUT;
}

static enum tape_next next_control(struct ft_tape *t, struct tape_item *ret)
{
    uint64_t what;
    enum ft_reason reason = ft_get_u64(&t->record, &what, 1);

    if (reason != FT_OK || what == 0 || what >= TAPE_CONTROLS) {
        return bad(t, reason != FT_OK ? reason : FT_BAD_VALUE);
    }
    ret->control = (enum tape_control)what;
    take(t);
    return TAPE_NEXT_CONTROL;
}

static enum ft_reason open_pages(struct ft_tape *t)
{
    struct engine_ram ram;
    enum ft_reason reason;

    engine_ram(t->engine, &ram);
    reason = ft_pages_get(&t->record, ram.page_count, &t->ram, &t->page_bytes);
    if (reason == FT_OK) {
        t->run = t->page = 0;
        t->pages_open = true;
    }
    return reason;
}

/* One run at a time. */
static enum tape_next next_pages(struct ft_tape *t, struct tape_item *ret)
{
    const struct mig_ram_run *run;

    if (!t->pages_open) {
        enum ft_reason reason = open_pages(t);

        if (reason != FT_OK) {
            return bad(t, reason);
        }
    }
    run = &t->ram.run[t->run++];
    ret->page = run->first;
    ret->page_count = run->count;
    ret->bytes = NULL;
    if (run->kind == MIG_RAM_RAW) {
        ret->bytes = t->page_bytes + (size_t)t->page * GMEM_PAGE_SIZE;
        t->page += run->count;
    }
    t->pages_open = t->run < t->ram.run_count;
    t->pages_told = true;
    return TAPE_NEXT_PAGES;
}

/* All pieces of it, which follow one another. */
static enum tape_next next_state(struct ft_tape *t, struct tape_item *ret)
{
    uint64_t position = t->record.exits;
    uint32_t have = 0, total = 0;

    do {
        struct ft_state piece;
        enum ft_reason reason = is_next(t, FT_STATE, position)
                                    ? ft_get_state(&t->record, &piece)
                                    : FT_BAD_TYPE;

        if (reason == FT_OK &&
            (piece.offset != have || (have > 0 && piece.total != total))) {
            reason = FT_BAD_VALUE;
        }
        if (reason != FT_OK) {
            return bad(t, reason);
        }
        total = piece.total;
        memcpy(t->state + have, piece.bytes, piece.len);
        have += piece.len;
        take(t);
        if (have < total && !peek(t)) {
            return TAPE_NEXT_STOP;
        }
    } while (have < total);
    ret->bytes = t->state;
    ret->len = total;
    t->state_sum = ft_sum128(t->state, total);
    return TAPE_NEXT_STATE;
}

/* What the record says that is to be done before the guest runs on. */
static enum tape_next next_of(struct ft_tape *t, uint64_t position, struct tape_item *ret)
{
    bool here = t->record.exits == position, next = t->record.exits == position + 1;

    ret->position = t->record.exits;
    if (here && t->record.type == FT_INPUT) {
        return next_input(t, ret);
    }
    if (here && t->record.type == FT_CONTROL) {
        return next_control(t, ret);
    }
    if (next && t->record.type == FT_PAGES) {
        return next_pages(t, ret);
    }
    if ((here || next) && t->record.type == FT_STATE) {
        return next_state(t, ret);
    }
    if (here && (t->record.type == FT_SUMS || t->record.type == FT_END)) {
        return TAPE_NEXT_END;
    }
    if (here) {
        (void)expected(t, position, "nothing of the kind");
        return TAPE_NEXT_STOP;
    }
    return TAPE_NEXT_RUN;
}

static enum tape_next play_next(void *ctx, uint64_t position, struct tape_item *ret)
{
    struct ft_tape *t = ctx;

    enum tape_next next;

    if (!t->over && position >= t->until && t->steps == 0) {
        t->stopped_at = true;
        (void)finish(t, true, "stopped at exit %" PRIu64 ", equal so far", position);
    }
    if (t->over) {
        return TAPE_NEXT_STOP;
    }
    if (t->pages_told && !t->pages_open) {
        take(t);
    }
    t->pages_told = false;
    next = peek(t) ? next_of(t, position, ret) : TAPE_NEXT_STOP;
    if (next == TAPE_NEXT_RUN && position >= t->until) {
        ret->steps = t->steps;
        next = TAPE_NEXT_STEP;
    }
    return next;
}

static void play_stepped(void *ctx, uint64_t position, uint64_t done,
                         const uint64_t reg[TAPE_REGS])
{
    struct ft_tape *t = ctx;

    memcpy(t->reg, reg, sizeof t->reg);
    t->stopped_at = true;
    (void)finish(t, true,
                 "stopped %" PRIu64 " instructions after exit %" PRIu64
                 ", equal so far%s",
                 done, position, done < t->steps ? ": the next exit comes" : "");
}

/* The end
 * --------------------------------------------------------------------------------- */

/* The next record, which has to be of this position. */
static bool peek_end(struct ft_tape *t, uint64_t position)
{
    return peek(t) &&
           (t->record.exits == position ||
            differs(t, position, "recorded its end at exit %" PRIu64, t->record.exits));
}

/* One batch against one record. */
static bool same_sums(struct ft_tape *t, uint64_t position,
                      const struct ft_ram_sums *here, struct ft_sums *there)
{
    enum ft_reason reason;

    if (!peek_end(t, position)) {
        return false;
    }
    reason = t->record.type == FT_SUMS ? ft_get_sums(&t->record, there) : FT_BAD_TYPE;
    if (reason != FT_OK) {
        return refuse(t, reason);
    }
    for (uint32_t i = 0; i < here->count || i < there->count; i++) {
        uint64_t a = i < there->count ? there->pair[i][0] : UINT64_MAX,
                 b = i < here->count ? here->pair[i][0] : UINT64_MAX;

        if (a != b || there->pair[i][1] != here->pair[i][1]) {
            return differs(t, t->exits, "memory: page %#" PRIx64 " (%s)",
                           (a < b ? a : b) << GMEM_PAGE_SHIFT,
                           a == b  ? "other bytes"
                           : a < b ? "recorded with bytes, here zeros"
                                   : "recorded as zeros, here bytes");
        }
    }
    take(t);
    return true;
}

static bool same_end(struct ft_tape *t, uint64_t position, const struct ft_ram_sums *here)
{
    struct ft_end end;
    enum ft_reason reason;

    if (!peek_end(t, position)) {
        return false;
    }
    if (t->record.type == FT_SUMS) {
        return differs(t, t->exits, "memory: recorded more pages with bytes than here");
    }
    reason = t->record.type == FT_END ? ft_get_end(&t->record, &end) : FT_BAD_TYPE;
    if (reason != FT_OK) {
        return refuse(t, reason);
    }
    if (end.chain != t->chain || end.inputs != t->inputs || end.outputs != t->outputs ||
        end.pages != here->pages || memcmp(&end.ram, &here->sum, sizeof end.ram) != 0 ||
        memcmp(&end.state, &t->state_sum, sizeof end.state) != 0) {
        return differs(
            t, t->exits,
            "the end: recorded %" PRIu64 " inputs, %" PRIu64 " outputs, chain %016" PRIx64
            ", here %" PRIu64 ", %" PRIu64 ", %016" PRIx64,
            end.inputs, end.outputs, end.chain, t->inputs, t->outputs, t->chain);
    }
    take(t);
    return true;
}

static bool play_end(void *ctx, uint64_t position)
{
    struct ft_tape *t = ctx;
    struct ft_ram_sums *here = malloc(sizeof *here);
    struct ft_sums *there = malloc(sizeof *there);
    bool good = here && there;

    if (good) {
        ft_ram_sums_begin(here, t->engine);
        while (good && ft_ram_sums_next(here)) {
            good = same_sums(t, position, here, there);
        }
        good = good && same_end(t, position, here);
    }
    if (good) {
        (void)finish(t, true,
                     "equal: %" PRIu64 " exits, %" PRIu64 " inputs, %" PRIu64
                     " outputs, registers, RAM and devices as recorded%s",
                     position, t->inputs, t->outputs,
                     t->until != UINT64_MAX
                         ? "; the exit of --until is not in the recording"
                         : "");
    }
    (void)finish(t, false, "no memory to compare the end");
    free(here);
    free(there);
    return good;
}

static void play_trouble(void *ctx, uint64_t position, const char *what)
{
    (void)differs(ctx, position, "%s", what);
}

static void play_verdict(void *ctx, struct tape_verdict *ret)
{
    struct ft_tape *t = ctx;

    (void)finish(t, false, "ended before the recording did");
    ret->good = t->good;
    snprintf(ret->text, sizeof ret->text, "replay: %.240s", t->text);
}

const struct engine_tape_ops ft_play_ops = {
    .exit = play_exit,
    .output = play_output,
    .inject = play_inject,
    .clock = play_clock,
    .end = play_end,
    .trouble = play_trouble,
    .verdict = play_verdict,
    .next = play_next,
    .stepped = play_stepped,
};

int ft_tape_replay(const char *path, struct ft_pos until, struct ft_tape **ret_tape,
                   struct vmm_error *err)
{
    struct ft_tape *t = NULL;
    int r = ft_tape_new(path, O_RDONLY, &t, err);

    if (r < 0) {
        return r;
    }
    t->hooks.ops = &ft_play_ops;
    t->hooks.replay = true;
    t->until = until.exits;
    t->steps = until.steps;
    t->buf = malloc(BUF_BYTES);
    t->state = malloc(FT_STATE_MAX);
    if (!t->buf || !t->state) {
        ft_tape_free(t);
        return vmm_fail(err, -ENOMEM, "no memory for a replay");
    }
    *ret_tape = t;
    return 0;
}

static void print_regs(const struct ft_tape *t, FILE *out, bool json)
{
    for (unsigned i = 0; i < TAPE_REGS; i++) {
        if (json) {
            fprintf(out, "%s\"%s\":\"%#" PRIx64 "\"", i == 0 ? "" : ",", tape_reg_name[i],
                    t->reg[i]);
        } else {
            fprintf(out, "%s=%016" PRIx64 "%c", tape_reg_name[i], t->reg[i],
                    i % 4 == 3 || i == TAPE_REGS - 1 ? '\n' : ' ');
        }
    }
}

bool ft_tape_print(const struct ft_tape *t, FILE *out, bool json)
{
    const char *text = t->over ? t->text : "ended before the recording did";
    bool good = t->over && t->good;

    if (!json) {
        fprintf(out, "replay: %s\n", text);
        if (t->stopped_at) {
            print_regs(t, out, false);
        }
    } else {
        fprintf(out,
                "{\"good\":%s,\"exits\":%" PRIu64 ",\"inputs\":%" PRIu64
                ",\"outputs\":%" PRIu64 ",\"text\":\"",
                good ? "true" : "false", t->exits, t->inputs, t->outputs);
        for (const char *p = text; *p; p++) {
            if (*p == '"' || *p == '\\') {
                fputc('\\', out);
            }
            fputc((unsigned char)*p < 0x20 ? '?' : *p, out);
        }
        fprintf(out, "\",\"registers\":{");
        print_regs(t, out, true);
        fprintf(out, "}}\n");
    }
    fflush(out);
    return good;
}
