/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "ft/ft_tape_priv.h"
#include "vmm/priority.h"
#include "vmm/sandbox.h"

#define RING_BYTES     ((size_t)8 << 20)
#define CHUNK          ((size_t)512 << 10) /* of one write */
#define WAKE_BYTES     ((size_t)256 << 10) /* queued: the writer is woken */
#define WRITER_WAIT_MS 10
#define ROOM_WAIT_MS   5000 /* a file that takes nothing for so long ends the recording */
#define WRITER_STACK   (128u * 1024)

/* The writer
 * ------------------------------------------------------------------------------ */

/* The first reason stays. */
__attribute__((format(printf, 2, 3))) static void give_up(struct ft_tape *t,
                                                          const char *format, ...)
{
    va_list args;

    pthread_mutex_lock(&t->lock);
    if (!atomic_load(&t->off)) {
        va_start(args, format);
        vsnprintf(t->why, sizeof t->why, format, args);
        va_end(args);
        atomic_store(&t->off, true);
    }
    pthread_cond_broadcast(&t->room);
    pthread_cond_broadcast(&t->more);
    pthread_mutex_unlock(&t->lock);
}

static struct timespec in_ms(unsigned ms)
{
    uint64_t at = loop_now_ns() + ms * NSEC_PER_MSEC;

    return (struct timespec){.tv_sec = (time_t)(at / NSEC_PER_SEC),
                             .tv_nsec = (long)(at % NSEC_PER_SEC)};
}

static bool write_all(struct ft_tape *t, const uint8_t *p, size_t len)
{
    while (len > 0) {
        ssize_t n = write(t->fd, p, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            give_up(t, "cannot write the recording %s: %s; it ends here, the VM goes on",
                    t->path, strerror(n < 0 ? errno : EIO));
            return false;
        }
        p += n;
        len -= (size_t)n;
    }
    return true;
}

/* True: there may be more. */
static bool wait_for_more(struct ft_tape *t)
{
    struct timespec at = in_ms(WRITER_WAIT_MS);
    bool closing;

    pthread_mutex_lock(&t->lock);
    pthread_cond_signal(&t->room);
    closing = atomic_load(&t->closing);
    if (!closing && !atomic_load(&t->off)) {
        (void)pthread_cond_timedwait(&t->more, &t->lock, &at);
    }
    pthread_mutex_unlock(&t->lock);
    return !atomic_load(&t->off) && !(closing && byte_ring_empty(&t->ring));
}

static void *writer_main(void *data)
{
    struct ft_tape *t = data;
    uint8_t *chunk = malloc(CHUNK);

    priority_usual();
    sandbox_thread(SANDBOX_LEASE); /* needs as little: it writes what is open */
    if (!chunk) {
        give_up(t, "no memory to write the recording %s", t->path);
        return NULL;
    }
    for (;;) {
        size_t n = byte_ring_get(&t->ring, chunk, CHUNK);

        if (n > 0 && !write_all(t, chunk, n)) {
            break;
        }
        if (n > 0) {
            pthread_mutex_lock(&t->lock);
            pthread_cond_signal(&t->room);
            pthread_mutex_unlock(&t->lock);
        } else if (!wait_for_more(t)) {
            break;
        }
    }
    free(chunk);
    return NULL;
}

/* The vCPU thread's side
 * ------------------------------------------------------------------- */

static bool wait_for_room(struct ft_tape *t, size_t len)
{
    struct timespec at = in_ms(ROOM_WAIT_MS);
    int r = 0;

    pthread_mutex_lock(&t->lock);
    pthread_cond_signal(&t->more);
    while (r == 0 && !atomic_load(&t->off) && byte_ring_room(&t->ring) < len) {
        r = pthread_cond_timedwait(&t->room, &t->lock, &at);
    }
    pthread_mutex_unlock(&t->lock);
    if (r != 0) {
        give_up(t,
                "the file system of the recording %s takes nothing for %d s; the "
                "recording ends here, the VM goes on",
                t->path, ROOM_WAIT_MS / 1000);
    }
    return !atomic_load(&t->off);
}

static void emit(struct ft_tape *t, struct bytes_wr *wr)
{
    size_t len;

    if (atomic_load(&t->off)) {
        return;
    }
    len = ft_finish(wr, ++t->seq);
    BUG_ON(len == 0);
    if (byte_ring_room(&t->ring) < len && !wait_for_room(t, len)) {
        return;
    }
    (void)byte_ring_put(&t->ring, wr->buf, len);
    if (RING_BYTES - byte_ring_room(&t->ring) >= WAKE_BYTES) {
        pthread_cond_signal(&t->more); /* a wake that is missed comes in 10 ms */
    }
}

static void begin(struct ft_tape *t, struct bytes_wr *wr, enum ft_type type,
                  uint64_t position, uint32_t device)
{
    ft_begin(wr, t->buf, FT_RECORD_MAX, type, 0, position, device);
}

void ft_record_head(struct ft_tape *t, const struct ft_head *head)
{
    struct bytes_wr wr;

    begin(t, &wr, FT_HEAD, 0, 0);
    ft_put_head(&wr, head);
    emit(t, &wr);
}

static bool record_exit(void *ctx, const struct tape_exit *x)
{
    struct ft_tape *t = ctx;
    struct ft_exit rec = {.kind = (uint32_t)x->kind,
                          .address = x->address,
                          .size = x->size,
                          .len = x->len,
                          .data = x->data,
                          .boundary = x->boundary};
    struct bytes_wr wr;

    t->exits = x->number;
    t->chain = ft_chain_exit(t->chain, x);
    rec.chain = t->chain;
    for (unsigned i = 0; x->boundary && i < TAPE_REGS; i++) {
        rec.changed |= (uint32_t)(x->reg[i] != t->reg[i]) << i;
        rec.reg[i] = t->reg[i] = x->reg[i];
    }
    begin(t, &wr, FT_EXIT, x->number, 0);
    ft_put_exit(&wr, &rec);
    emit(t, &wr);
    return true;
}

static bool record_output(void *ctx, uint64_t position, const struct tape_out *out)
{
    struct ft_tape *t = ctx;
    struct ft_output rec = {.ordinal = ++t->outputs,
                            .kind = (uint32_t)out->kind,
                            .len = out->len,
                            .sum = ft_output_sum(out)};
    struct bytes_wr wr;

    begin(t, &wr, FT_OUTPUT, position, out->unit);
    ft_put_output(&wr, &rec);
    emit(t, &wr);
    return true;
}

static bool record_inject(void *ctx, uint64_t position, uint8_t vector)
{
    struct ft_tape *t = ctx;

    (void)position;
    t->chain = ft_chain_inject(t->chain, vector);
    return true;
}

static void one_u64(struct ft_tape *t, enum ft_type type, uint64_t position, uint64_t v)
{
    struct bytes_wr wr;

    begin(t, &wr, type, position, 0);
    ft_put_u64(&wr, v);
    emit(t, &wr);
}

static bool record_clock(void *ctx, uint64_t position, uint64_t *now_ns)
{
    one_u64(ctx, FT_CLOCK, position, *now_ns);
    return true;
}

static void record_control(void *ctx, uint64_t position, enum tape_control what)
{
    one_u64(ctx, FT_CONTROL, position, (uint64_t)what);
}

static void record_input(void *ctx, uint64_t position, unsigned dev_index,
                         const struct dev_input *in)
{
    struct ft_tape *t = ctx;
    struct bytes_wr wr;

    t->inputs++;
    begin(t, &wr, FT_INPUT, position, dev_index);
    ft_put_input(&wr, in);
    emit(t, &wr);
}

static void record_pages(void *ctx, uint64_t position, uint64_t first, uint64_t count,
                         const uint8_t *bytes)
{
    struct ft_tape *t = ctx;

    while (count > 0) {
        uint64_t n = ft_pages_fit(first, count, bytes == NULL);
        struct bytes_wr wr;

        begin(t, &wr, FT_PAGES, position, 0);
        ft_pages_put(&wr, &t->ram, first, n, bytes);
        emit(t, &wr);
        bytes = bytes ? bytes + n * GMEM_PAGE_SIZE : NULL;
        first += n;
        count -= n;
    }
}

static void record_state(void *ctx, uint64_t position, const uint8_t *bytes, size_t len)
{
    struct ft_tape *t = ctx;

    t->state_sum = ft_sum128(bytes, len);
    for (size_t at = 0; at < len; at += FT_STATE_CHUNK) {
        size_t n = len - at < FT_STATE_CHUNK ? len - at : FT_STATE_CHUNK;
        struct bytes_wr wr;

        begin(t, &wr, FT_STATE, position, 0);
        ft_put_state(&wr, (uint32_t)len, (uint32_t)at, bytes + at, (uint32_t)n);
        emit(t, &wr);
    }
}

static bool record_end(void *ctx, uint64_t position)
{
    struct ft_tape *t = ctx;
    struct ft_ram_sums *s = malloc(sizeof *s);
    struct ft_end end = {.inputs = t->inputs, .outputs = t->outputs, .chain = t->chain};
    struct bytes_wr wr;

    if (!s) {
        give_up(t, "no memory for the end of the recording %s", t->path);
        return true;
    }
    ft_ram_sums_begin(s, t->engine);
    while (ft_ram_sums_next(s)) {
        begin(t, &wr, FT_SUMS, position, 0);
        ft_put_sums(&wr, s->pair[0], s->count);
        emit(t, &wr);
    }
    end.pages = s->pages;
    end.ram = s->sum;
    end.state = t->state_sum;
    begin(t, &wr, FT_END, position, 0);
    ft_put_end(&wr, &end);
    emit(t, &wr);
    free(s);
    return true;
}

static void record_trouble(void *ctx, uint64_t position, const char *what)
{
    struct ft_tape *t = ctx;

    give_up(t, "the recording %s ends at exit %llu: %s; the VM goes on", t->path,
            (unsigned long long)position, what);
}

static void record_verdict(void *ctx, struct tape_verdict *ret)
{
    (void)ctx;
    *ret = (struct tape_verdict){.good = true};
}

const struct engine_tape_ops ft_record_ops = {
    .exit = record_exit,
    .output = record_output,
    .inject = record_inject,
    .clock = record_clock,
    .end = record_end,
    .trouble = record_trouble,
    .verdict = record_verdict,
    .input = record_input,
    .control = record_control,
    .pages = record_pages,
    .state = record_state,
};

/* Life
 * -------------------------------------------------------------------------------------
 */

int ft_tape_record(const char *path, struct ft_tape **ret_tape, struct vmm_error *err)
{
    struct ft_tape *t = NULL;
    struct stat st;
    int r = ft_tape_new(path, O_WRONLY | O_CREAT | O_NOFOLLOW, &t, err);

    if (r < 0) {
        return r;
    }
    if (fstat(t->fd, &st) < 0 || S_ISBLK(st.st_mode)) {
        ft_tape_free(t);
        return vmm_fail(err, -EEXIST,
                        "the recording %s is a block device, which would be written "
                        "over: give the name of a file",
                        path);
    }
    if (S_ISREG(st.st_mode) && st.st_size > 0) {
        ft_tape_free(t);
        return vmm_fail(err, -EEXIST,
                        "the recording %s is there already, and is not written over: "
                        "remove it, or give another name",
                        path);
    }
    t->hooks.ops = &ft_record_ops;
    t->buf = malloc(FT_RECORD_MAX);
    if (!t->buf || byte_ring_init(&t->ring, RING_BYTES) < 0) {
        ft_tape_free(t);
        return vmm_fail(err, -ENOMEM, "no memory for a recording");
    }
    *ret_tape = t;
    return 0;
}

int ft_tape_go(struct ft_tape *tape, struct vmm_error *err)
{
    pthread_attr_t attr;
    sigset_t all, old;
    int r;

    if (tape->hooks.replay) {
        return 0;
    }
    sigfillset(&all); /* signals are the loop thread's */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, WRITER_STACK);
    r = pthread_create(&tape->writer, &attr, writer_main, tape);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    tape->writer_up = r == 0;
    return r ? vmm_fail(err, -r, "cannot start a thread: %s", strerror(r)) : 0;
}

const char *ft_tape_trouble(struct ft_tape *tape)
{
    if (tape->hooks.replay || tape->told || !atomic_load(&tape->off)) {
        return NULL;
    }
    tape->told = true;
    pthread_mutex_lock(&tape->lock); /* the text is whole */
    pthread_mutex_unlock(&tape->lock);
    return tape->why;
}

int ft_tape_end(struct ft_tape *tape, struct vmm_error *err)
{
    const char *why;

    if (tape->writer_up) {
        atomic_store(&tape->closing, true);
        pthread_mutex_lock(&tape->lock);
        pthread_cond_signal(&tape->more);
        pthread_mutex_unlock(&tape->lock);
        pthread_join(tape->writer, NULL);
        tape->writer_up = false;
        if (!atomic_load(&tape->off) && fsync(tape->fd) < 0 && errno != EINVAL) {
            give_up(tape, "cannot sync the recording %s: %s", tape->path,
                    strerror(errno));
        }
    }
    why = ft_tape_trouble(tape);
    return why ? vmm_fail(err, -EIO, "%s", why) : 0;
}
