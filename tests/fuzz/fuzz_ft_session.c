/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a peer may send to a side of a protected VM: frames, as they come out of the
 * channel, into a session (ft/ft_session*.c) without its threads and with an engine that
 * does what it is told. Input: a byte (bit 0: this side is the primary; bit 1: checksums
 * of records are mended; bit 2: checkpoint mode), then frames: u8 type (as enum ft_frame,
 * low two bits), u24 length, body.
 *
 * Never: a crash, a hang, an output of a twin that is not live, an output of a primary
 * before the rule lets it go, bytes of an item that are not there.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "ft/ft_session_priv.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/ft/fake_engine.h"

FUZZ_GOALS("a log", "inputs", "a run", "a set of pages", "a state", "an output equal",
           "an output other", "a start", "a take-over", "an end", "refused", "ack",
           "ack refused", "released", "ready", "live")

#define PAGES   4096u
#define TURNS   4096u
#define OUTPUTS 8u

static struct {
    struct ft_session *s;
    const struct engine_tape_ops *ops;
    bool busy;
} vm;
static uint8_t ram[PAGES * GMEM_PAGE_SIZE];
static struct fake_engine engine = {.ram = ram, .page_count = PAGES, .disk_sectors = 64};

/* Threads: there are none. Who would wait for another one lets the vCPU have a turn; if
 * that is of no use, the channel ends. ------------------------------------------------
 */

void __wrap_mig_pool_run(struct mig_pool *pool, unsigned n, void (*fn)(void *),
                         void *data);
void __wrap_mig_pool_wait(struct mig_pool *pool, unsigned n);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *at);

int __wrap_mig_conn_send(struct mig_conn *conn, uint16_t type, uint16_t version,
                         unsigned flags, const struct iovec *iov, size_t iov_count,
                         struct vmm_error *err);

int __wrap_mig_conn_send(struct mig_conn *conn, uint16_t type, uint16_t version,
                         unsigned flags, const struct iovec *iov, size_t iov_count,
                         struct vmm_error *err)
{
    (void)conn, (void)type, (void)version, (void)flags, (void)err;
    for (size_t i = 0; i < iov_count; i++) {
        fake_touch(iov[i].iov_base, iov[i].iov_len);
    }
    return 0;
}

void __wrap_mig_pool_run(struct mig_pool *pool, unsigned n, void (*fn)(void *),
                         void *data)
{
    (void)pool, (void)n, (void)fn, (void)data;
}

void __wrap_mig_pool_wait(struct mig_pool *pool, unsigned n)
{
    (void)pool, (void)n;
}

static unsigned turns(void);

int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    unsigned did = 0;

    (void)cond;
    if (!vm.busy) {
        pthread_mutex_unlock(mutex);
        did = turns();
        pthread_mutex_lock(mutex);
    }
    if (did == 0) {
        vm.s->closed = true;
    }
    return 0;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *at)
{
    (void)at;
    return __wrap_pthread_cond_wait(cond, mutex);
}

/* The twin's vCPU ------------------------------------------------------------------- */

/* What the guest of every input says: the bytes of its ordinal. */
static struct tape_out say(uint64_t *ordinal)
{
    return (struct tape_out){.kind = TAPE_OUT_SERIAL,
                             .data = (const uint8_t *)ordinal,
                             .len = sizeof *ordinal};
}

static void leave(enum tape_exit_kind kind)
{
    struct ft_session *s = vm.s;
    const struct ft_record *r = &s->record;
    uint64_t now, made = s->outputs + 1;
    struct tape_exit x = {.number = engine.position + 1, .kind = kind, .boundary = true};
    struct tape_out out = say(&made);

    engine.position++;
    if (s->have_record && r->exits == engine.position && r->type == FT_CLOCK) {
        vm.ops->clock(s, engine.position, &now);
    }
    if (s->have_record && r->exits == engine.position && r->type == FT_OUTPUT) {
        bool before = s->differs;

        vm.ops->output(s, engine.position, &out);
        fuzz_reach(5, !s->differs);
        fuzz_reach(6, !before && s->differs);
    }
    vm.ops->exit(s, &x);
}

static bool turn(void)
{
    struct tape_item item;

    switch (vm.ops->next(vm.s, engine.position, &item)) {
    case TAPE_NEXT_RUN:
        fuzz_reach(2, true);
        leave(TAPE_EXIT_OUT);
        return true;
    case TAPE_NEXT_INPUT:
        fuzz_reach(1, true);
        fake_touch(item.in.data, item.in.len);
        return true;
    case TAPE_NEXT_CONTROL:
        return true;
    case TAPE_NEXT_PAGES:
        fuzz_reach(3, true);
        BUG_ON(item.page > PAGES || item.page_count > PAGES - item.page);
        fake_touch(item.bytes, (size_t)item.page_count * GMEM_PAGE_SIZE);
        return true;
    case TAPE_NEXT_STATE:
        fuzz_reach(4, true);
        fake_touch(item.bytes, item.len);
        if (item.position > engine.position) {
            leave(TAPE_EXIT_BARRIER);
        }
        return true;
    default:
        return false;
    }
}

static unsigned turns(void)
{
    unsigned n = 0;

    if (vm.s->role != FT_ROLE_SECONDARY || vm.s->params.checkpoint) {
        return 0;
    }
    vm.busy = true;
    while (n < TURNS && !vm.s->closed && turn()) {
        n++;
    }
    vm.busy = false;
    return n;
}

/* The primary's --------------------------------------------------------------------- */

static void work(void)
{
    for (uint64_t i = 1; i <= OUTPUTS; i++) {
        struct tape_exit x = {.number = i, .kind = TAPE_EXIT_OUT, .boundary = true};
        struct tape_out out = say(&i);

        vm.ops->output(vm.s, i, &out);
        vm.ops->exit(vm.s, &x);
        (void)vm.ops->may_leave(vm.s, i);
    }
}

static void judge(void)
{
    const struct ft_commit *c = &vm.s->commit;

    BUG_ON(vm.s->log.tail - vm.s->log.head > FT_LOG_BUFFER);
    if (vm.s->role == FT_ROLE_PRIMARY && !vm.s->params.checkpoint) {
        BUG_ON(c->left > c->made || (c->left > c->ack.verified && !vm.s->released_all));
        fuzz_reach(13, c->left > 0);
    }
}

/* Frames ---------------------------------------------------------------------------- */

static void mend(uint8_t *p, size_t len)
{
    uint32_t n, crc;

    for (size_t at = FT_LOG_HEAD_LEN; at < len && len - at >= FT_HEADER_LEN; at += n) {
        n = ft_length(p + at);
        if (n == 0 || n > len - at) {
            return;
        }
        memset(p + at + 24, 0, sizeof crc);
        crc = crc32c(0, p + at, n);
        memcpy(p + at + 24, &crc, sizeof crc);
    }
}

static void reached(uint16_t type, const uint8_t *body, bool good)
{
    struct ft_word word;

    fuzz_reach(10, !good);
    fuzz_reach(0, good && type == FT_FRAME_LOG);
    fuzz_reach(11, good && type == FT_FRAME_ACK);
    fuzz_reach(12, !good && type == FT_FRAME_ACK && vm.s->role == FT_ROLE_PRIMARY);
    if (good && type == FT_FRAME_WORD && ft_word_get(body, FT_WORD_LEN, &word)) {
        fuzz_reach(7, word.kind == FT_WORD_START);
        fuzz_reach(8, word.kind == FT_WORD_TAKEOVER);
        fuzz_reach(9, word.kind == FT_WORD_END);
        fuzz_reach(14, word.kind == FT_WORD_READY);
    }
}

/* The lengths that the channel lets through (ft_session.c). */
static bool passes(uint16_t type, size_t len)
{
    return type == FT_FRAME_LOG   ? len >= FT_LOG_HEAD_LEN
           : type == FT_FRAME_ACK ? len == FT_ACK_LEN
           : type == FT_FRAME_WORD
               ? len == FT_WORD_LEN
               : len >= FT_HASHES_HEAD_LEN && len <= FT_HASHES_LEN_MAX;
}

static bool one(uint16_t type, const uint8_t *data, size_t len, bool mended)
{
    struct ft_session *s = vm.s;
    const char *why = "";
    uint8_t *body;
    bool good;

    if (!passes(type, len)) {
        return true;
    }
    body = malloc(len);
    memcpy(body, data, len);
    if (mended && type == FT_FRAME_LOG) {
        mend(body, len);
    }
    pthread_mutex_lock(&s->lock);
    good = s->role == FT_ROLE_PRIMARY ? ft_pri_frame(s, type, body, len, &why)
                                      : ft_sec_frame(s, type, body, len, &why);
    pthread_mutex_unlock(&s->lock);
    BUG_ON(!good && why[0] == '\0');
    reached(type, body, good);
    free(body);
    (void)turns();
    (void)ft_session_order(s, FT_ORDER_TWIN_WON, 2); /* refused, but once */
    if (s->role == FT_ROLE_PRIMARY && !s->params.checkpoint) {
        (void)vm.ops->may_leave(s, OUTPUTS);
    }
    judge();
    return good && !s->closed;
}

static void frames(const uint8_t *data, size_t len, bool mended)
{
    for (size_t at = 0; len - at >= 4;) {
        uint16_t type = (uint16_t)(FT_FRAME_LOG + (data[at] & 3));
        size_t n = data[at + 1] | (size_t)data[at + 2] << 8 | (size_t)data[at + 3] << 16;

        at += 4;
        n = n < len - at ? n : len - at;
        if (!one(type, data + at, n, mended)) {
            return;
        }
        at += n;
    }
}

/* The primary is lost, now. */
static void take_over(void)
{
    struct ft_session *s = vm.s;

    pthread_mutex_lock(&s->lock);
    ft_close(s);
    ft_sec_event(s, FT_SEC_BROKEN, 0, "gone");
    pthread_mutex_unlock(&s->lock);
    s->closed = false; /* turns */
    (void)turns();
    (void)ft_session_order(s, FT_ORDER_CLAIM_WON, UINT64_MAX);
    if (engine.live) {
        fuzz_reach(15, true);
        vm.ops->live(s);
        BUG_ON(engine.put > s->outputs);
    }
}

static void begin(bool primary, bool checkpoint)
{
    struct ft_params params = {.commit = FT_COMMIT_VERIFIED, .checkpoint = checkpoint};
    struct ft_session_conf conf = {.engine = fake_engine(&engine), .vm_name = "vm"};
    struct vmm_error err = {""};

    if (vm.s == NULL) {
        BUG_ON(ft_session_new(&conf, &vm.s, &err) < 0);
        vm.s->pool = (struct mig_pool *)ram; /* never looked into */
    }
    vm.s->busy = false;
    engine.position = engine.put = 0;
    engine.live = vm.busy = false;
    engine.said_len = engine.wrote_count = 0;
    engine.twin = !primary;
    BUG_ON((primary ? ft_session_protect(vm.s, -1, &params, &err)
                    : ft_session_follow(vm.s, -1, &params, &err)) < 0);
    vm.ops = vm.s->tape.ops;
    pthread_mutex_lock(&vm.s->lock);
    if (primary) {
        ft_pri_begin(vm.s);
    } else {
        ft_sec_begin(vm.s);
    }
    pthread_mutex_unlock(&vm.s->lock);
}

FUZZ_ONE(data, len)
{
    bool primary, checkpoint;

    if (len < 1) {
        return 0;
    }
    primary = (data[0] & 1) != 0;
    checkpoint = (data[0] & 4) != 0;
    begin(primary, checkpoint);
    if (primary && !checkpoint) {
        work();
    } else {
        (void)turns(); /* SYNCED */
    }
    frames(data + 1, len - 1, (data[0] & 2) != 0);
    if (!primary && !checkpoint) {
        take_over();
    }
    return 0;
}
