/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/blk_nbd_conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/nbd_uri.h"
#include "base/text.h"
#include "base/units.h"

#define SECTOR_LEN   512u
#define CHUNK_MAX    (32u * 1024 * 1024) /* every server takes so much (NBD spec) */
#define STEP_MS      1000
#define STOP_STEP_MS 50
#define CONNECT_MS   5000
#define NAME_MAX_LEN (NBD_EXPORT_MAX + 24) /* with its epoch */

static bool is_over(struct nbd_handle *nbd)
{
    return nbd_lib.aio_is_dead(nbd) > 0 || nbd_lib.aio_is_closed(nbd) > 0;
}

/* Until `pred` says so, or `*done`, whichever is given. */
static int wait_until(struct nbd_handle *nbd, int (*pred)(struct nbd_handle *),
                      const bool *done, int timeout_ms, const struct blk_nbd_stop *stop)
{
    uint64_t end = loop_now_ns() + (uint64_t)timeout_ms * NSEC_PER_MSEC;
    int step = stop->asked ? STOP_STEP_MS : STEP_MS;

    while (!(done ? *done : pred(nbd) > 0)) {
        uint64_t now = loop_now_ns();

        if (is_over(nbd)) {
            return -ENOTCONN;
        }
        if (stop->asked && stop->asked(stop->ctx)) {
            return -EINTR;
        }
        if (now >= end) {
            return -ETIMEDOUT;
        }
        (void)nbd_lib.poll(nbd, (uint64_t)step < (end - now) / NSEC_PER_MSEC
                                    ? step
                                    : (int)((end - now) / NSEC_PER_MSEC) + 1);
    }
    return 0;
}

int blk_nbd_wait(struct nbd_handle *nbd, const bool *done, int timeout_ms,
                 const struct blk_nbd_stop *stop)
{
    return wait_until(nbd, NULL, done, timeout_ms, stop);
}

static const char *why_text(int r)
{
    const char *text = nbd_lib.get_error();

    if (r == -EINTR) {
        return "the wait was ended";
    }
    if (r == -ETIMEDOUT) {
        return "the server does not answer; does it serve one client only, and has one?";
    }
    return text ? text : strerror(-r);
}

/* What the server offers against what a disk needs. */
static int check_traits(struct nbd_handle *nbd, const char *name, bool read_only,
                        struct blk_nbd_traits *ret_traits, struct vmm_error *err)
{
    struct blk_nbd_traits t = {.can_trim = nbd_lib.can_trim(nbd) > 0,
                               .can_zero = nbd_lib.can_zero(nbd) > 0,
                               .can_flush = nbd_lib.can_flush(nbd) > 0,
                               .can_fua = nbd_lib.can_fua(nbd) > 0};
    int64_t size = nbd_lib.get_size(nbd);
    int64_t block_min = nbd_lib.get_block_size(nbd, LIBNBD_SIZE_MINIMUM);
    int64_t block_max = nbd_lib.get_block_size(nbd, LIBNBD_SIZE_MAXIMUM);

    if (size <= 0 || size % SECTOR_LEN) {
        return vmm_fail(err, -EINVAL,
                        "disk %s: the export has %lld bytes, which is not a positive "
                        "multiple of 512",
                        name, (long long)size);
    }
    if (!read_only && nbd_lib.is_read_only(nbd) != 0) {
        return vmm_fail(err, -EROFS,
                        "disk %s: the server exports it read-only; export it for "
                        "writing, or give the disk read_only",
                        name);
    }
    if (!read_only && !t.can_flush) {
        return vmm_fail(err, -EOPNOTSUPP,
                        "disk %s: the server offers no FLUSH, so nothing would ever be "
                        "known to be safe; use a server that has it",
                        name);
    }
    if (block_min > SECTOR_LEN) {
        return vmm_fail(err, -EINVAL,
                        "disk %s: the server wants requests of at least %lld bytes; a "
                        "guest's are multiples of 512 (qemu-nbd, nbdkit's blocksize "
                        "filter take them)",
                        name, (long long)block_min);
    }
    t.sectors = (uint64_t)size / SECTOR_LEN;
    t.chunk_len = block_max > 0 && block_max < CHUNK_MAX
                      ? (uint32_t)block_max / SECTOR_LEN * SECTOR_LEN
                      : CHUNK_MAX;
    if (t.chunk_len == 0) {
        return vmm_fail(err, -EINVAL, "disk %s: the server takes at most %lld bytes",
                        name, (long long)block_max);
    }
    *ret_traits = t;
    return 0;
}

/* A handle on `fd`, which is taken; nothing was waited for yet. */
static int open_handle(int fd, const char *export_name, const char *name, bool opt_mode,
                       struct nbd_handle **ret_nbd, struct vmm_error *err)
{
    struct nbd_handle *nbd;
    struct stat st;
    int r;

    if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        close(fd);
        return vmm_fail(err, -ENOTSOCK, "disk %s came as a file that is no socket", name);
    }
    nbd = nbd_lib.create();
    if (!nbd) {
        close(fd);
        return vmm_fail(err, -ENOMEM, "disk %s: no memory for libnbd", name);
    }
    if (nbd_lib.set_export_name(nbd, export_name) < 0 ||
        nbd_lib.set_opt_mode(nbd, opt_mode) < 0 ||
        (opt_mode && nbd_lib.set_full_info(nbd, true) < 0) ||
        nbd_lib.aio_connect_socket(nbd, fd) < 0) {
        r = vmm_fail(err, -EINVAL, "disk %s: %s", name, why_text(-EINVAL));
        nbd_lib.close(nbd);
        return r;
    }
    *ret_nbd = nbd;
    return 0;
}

/* Until its server has said hello. */
static int wait_for_hello(struct nbd_handle *nbd, const char *name, bool opt_mode,
                          const struct blk_nbd_stop *stop, struct vmm_error *err)
{
    int r = wait_until(nbd, opt_mode ? nbd_lib.aio_is_negotiating : nbd_lib.aio_is_ready,
                       NULL, BLK_NBD_GREET_MS, stop);

    return r < 0 ? vmm_fail(err, r, "disk %s: no NBD connection: %s", name, why_text(r))
                 : 0;
}

struct answer {
    bool done;
    int error;
};

static int on_answer(void *data, int *error)
{
    struct answer *a = data;

    a->error = *error;
    a->done = true;
    return 1;
}

/* EXPORT@EPOCH */
static void name_of(const struct blk_nbd_ask *ask, uint64_t epoch,
                    char ret_name[static NAME_MAX_LEN])
{
    if (ask->by_epoch) {
        snprintf(ret_name, NAME_MAX_LEN, "%s@%llu", ask->export_name,
                 (unsigned long long)epoch);
    } else {
        snprintf(ret_name, NAME_MAX_LEN, "%s", ask->export_name);
    }
}

/* The highest epoch that the server let in, as it tells with INFO and GO. */
static bool highest_epoch(struct nbd_handle *nbd, uint64_t *ret_epoch)
{
    static const char word[] = "gemel-epoch ";
    char *text = nbd_lib.get_export_description(nbd);
    bool ok = text && strncmp(text, word, sizeof word - 1) == 0 &&
              text_u64(text + sizeof word - 1, 0, UINT64_MAX, ret_epoch);

    free(text);
    return ok;
}

static int need_epochs(struct nbd_handle *nbd, const char *name, struct vmm_error *err)
{
    uint64_t epoch;

    return highest_epoch(nbd, &epoch)
               ? 0
               : vmm_fail(
                     err, -EPROTO,
                     "disk %s: its server does not know epochs, so nothing would keep "
                     "an earlier owner's late writes away; run it with the filter: "
                     "nbdkit --filter=gemel-epoch ... (storage/README.md), or leave out "
                     "'epoch'",
                     name);
}

/* The handshake
 * ----------------------------------------------------------------------------- */

struct blk_nbd_greeting {
    struct nbd_handle *nbd;
    enum { HELLO, IDLE, ASKED_GO, ASKED_INFO, ASKED_PLAIN } stage;
    uint64_t epoch; /* that was asked for */
    struct answer answer;
};

void blk_nbd_greeting_free(struct blk_nbd_greeting *g)
{
    if (g) {
        nbd_lib.close(g->nbd);
        free(g);
    }
}

static int greeting_new(int fd, const struct blk_nbd_ask *ask,
                        struct blk_nbd_greeting **ret_greeting, struct vmm_error *err)
{
    struct blk_nbd_greeting *g = calloc(1, sizeof *g);
    char name[NAME_MAX_LEN];
    int r;

    if (!g || (ask->by_epoch && ask->epoch == 0)) {
        close(fd);
        free(g);
        return !g ? vmm_fail(err, -ENOMEM, "disk %s: no memory", ask->name)
                  : vmm_fail(err, -EINVAL,
                             "disk %s: 'epoch' needs the epoch of a claim: only an "
                             "agent's START has one",
                             ask->name);
    }
    name_of(ask, ask->epoch, name);
    r = open_handle(fd, name, ask->name, ask->by_epoch, &g->nbd, err);
    if (r < 0) {
        free(g);
        return r;
    }
    *ret_greeting = g;
    return 0;
}

/* What it answered to INFO or GO: 0, the server's error, or why there is none. */
static int wait_for_answer(struct blk_nbd_greeting *g, const struct blk_nbd_ask *ask)
{
    int r = blk_nbd_wait(g->nbd, &g->answer.done, BLK_NBD_GREET_MS, &ask->stop);

    return r < 0 ? r : -g->answer.error;
}

/* ASKED_GO: to be let in; ASKED_INFO: who is there; ASKED_PLAIN: of the export without an
 * epoch. */
static int ask_for(struct blk_nbd_greeting *g, const struct blk_nbd_ask *ask, int what)
{
    nbd_completion_callback callback = {.callback = on_answer, .user_data = &g->answer};
    bool go = what == ASKED_GO;
    char name[NAME_MAX_LEN];

    g->answer = (struct answer){.done = false};
    g->epoch = ask->epoch;
    name_of(ask, go ? ask->epoch : 0, name);
    if (nbd_lib.set_export_name(g->nbd, what == ASKED_PLAIN ? ask->export_name : name) <
            0 ||
        (go ? nbd_lib.aio_opt_go : nbd_lib.aio_opt_info)(g->nbd, callback) < 0) {
        return -ENOTCONN; /* or it would be in the middle of nothing */
    }
    g->stage = what;
    return 0;
}

static int not_told(const struct blk_nbd_ask *ask, int r, struct vmm_error *err)
{
    return vmm_fail(err, r, "disk %s: its server does not say who is let in: %s",
                    ask->name, why_text(r));
}

/* It was refused, and was asked who is there: for good, if somebody later is, or if it
 * knows the export and no epochs. */
static int why_refused(struct blk_nbd_greeting *g, const struct blk_nbd_ask *ask,
                       struct vmm_error *err)
{
    int r = wait_for_answer(g, ask);
    uint64_t highest;

    if (!g->answer.done) {
        return not_told(ask, r, err);
    }
    if (g->stage == ASKED_INFO && r != 0 && ask_for(g, ask, ASKED_PLAIN) == 0) {
        r = wait_for_answer(g, ask);
        if (!g->answer.done) {
            return not_told(ask, r, err);
        }
    }
    if (g->stage == ASKED_PLAIN) {
        g->stage = IDLE;
        r = r == 0 ? need_epochs(g->nbd, ask->name, err) : 0;
        if (r < 0) {
            return r;
        }
    } else if (r == 0 && highest_epoch(g->nbd, &highest) && highest > ask->epoch) {
        return vmm_fail(err, -ESHUTDOWN,
                        "disk %s: its server let in a later owner (epoch %llu, ours is "
                        "%llu): it belongs to this VM's next life",
                        ask->name, (unsigned long long)highest,
                        (unsigned long long)ask->epoch);
    }
    g->stage = IDLE;
    return vmm_fail(err, -EAGAIN,
                    "disk %s: its server did not let epoch %llu in: the owner before has "
                    "requests under way, or there is no such export; its log says which",
                    ask->name, (unsigned long long)ask->epoch);
}

/* Asks to be let in, or goes on where it was stopped. */
static int try_epoch(struct blk_nbd_greeting *g, const struct blk_nbd_ask *ask,
                     struct vmm_error *err)
{
    int r = 0;

    if (g->stage != IDLE && g->epoch != ask->epoch) {
        return vmm_fail(err, -ENOTCONN,
                        "disk %s: its server was asked on behalf of epoch %llu, and has "
                        "not answered",
                        ask->name, (unsigned long long)g->epoch);
    }
    if (g->stage == ASKED_INFO || g->stage == ASKED_PLAIN) {
        return why_refused(g, ask, err);
    }
    if (g->stage == IDLE) {
        r = ask_for(g, ask, ASKED_GO);
    }
    r = r < 0 ? r : wait_for_answer(g, ask);
    if (!g->answer.done) {
        return vmm_fail(err, r, "disk %s: no NBD connection: %s", ask->name, why_text(r));
    }
    if (r == 0) {
        return need_epochs(g->nbd, ask->name, err);
    }
    r = ask_for(g, ask, ASKED_INFO);
    return r < 0 ? vmm_fail(err, -ENOTCONN, "disk %s: no NBD connection: %s", ask->name,
                            why_text(-ENOTCONN))
                 : why_refused(g, ask, err);
}

static int greet(struct blk_nbd_greeting *g, const struct blk_nbd_ask *ask,
                 struct blk_nbd_traits *ret_traits, struct vmm_error *err)
{
    int r = 0;

    if (g->stage == HELLO) {
        r = wait_for_hello(g->nbd, ask->name, ask->by_epoch, &ask->stop, err);
        g->stage = r < 0 ? HELLO : IDLE;
    }
    if (r == 0 && ask->by_epoch) {
        r = try_epoch(g, ask, err);
    }
    return r < 0 ? r : check_traits(g->nbd, ask->name, ask->read_only, ret_traits, err);
}

int blk_nbd_greet(int fd, const struct blk_nbd_ask *ask,
                  struct blk_nbd_greeting **io_greeting, struct nbd_handle **ret_nbd,
                  struct blk_nbd_traits *ret_traits, struct vmm_error *err)
{
    struct blk_nbd_greeting *g = *io_greeting;
    int r = g ? 0 : greeting_new(fd, ask, &g, err);

    *io_greeting = NULL;
    if (r < 0) {
        return r;
    }
    r = greet(g, ask, ret_traits, err);
    if (r == 0) {
        *ret_nbd = g->nbd;
        free(g);
    } else if (r == -EINTR || (r == -EAGAIN && nbd_lib.aio_is_negotiating(g->nbd) > 0)) {
        *io_greeting = g;
    } else {
        blk_nbd_greeting_free(g);
    }
    return r;
}

/* Without entering it
 * ------------------------------------------------------------------------ */

static int ask_info(struct nbd_handle *nbd, const char *name, struct vmm_error *err)
{
    struct answer answer = {.done = false};
    int r = nbd_lib.aio_opt_info(
        nbd, (nbd_completion_callback){.callback = on_answer, .user_data = &answer});

    r = r < 0 ? -EINVAL
              : blk_nbd_wait(nbd, &answer.done, BLK_NBD_GREET_MS,
                             &(struct blk_nbd_stop){NULL, NULL});
    if (r == 0 && answer.error != 0) {
        r = -answer.error;
        return vmm_fail(err, r, "disk %s: the server does not tell of this export: %s",
                        name, strerror(answer.error));
    }
    return r < 0
               ? vmm_fail(err, r, "disk %s: the server does not tell of this export: %s",
                          name, why_text(r))
               : 0;
}

/* A name with an epoch was refused. True, with *err: the export is there, and its server
 * knows no epochs. */
static bool is_plain(struct nbd_handle *nbd, const char *export_name, const char *name,
                     struct vmm_error *err)
{
    struct vmm_error ignored;

    return nbd_lib.set_export_name(nbd, export_name) == 0 &&
           ask_info(nbd, name, &ignored) == 0 && need_epochs(nbd, name, err) < 0;
}

int blk_nbd_look(const char *text, bool read_only, bool by_epoch,
                 struct blk_nbd_traits *ret_traits, struct vmm_error *err)
{
    char name[NAME_MAX_LEN];
    struct nbd_handle *nbd;
    struct nbd_uri uri;
    const char *why = nbd_uri_parse(text, &uri);
    int fd = -1, r;

    if (why) {
        return vmm_fail(err, -EINVAL, "disk %s: %s", text, why);
    }
    r = nbd_lib_load(err);
    if (r < 0) {
        return r;
    }
    r = nbd_uri_connect(&uri, CONNECT_MS, &fd);
    if (r < 0) {
        return vmm_fail(err, r,
                        "disk %s: cannot connect: %s; check that its server runs and can "
                        "be reached from here",
                        text, strerror(-r));
    }
    name_of(&(struct blk_nbd_ask){.export_name = uri.export_name, .by_epoch = by_epoch},
            0, name);
    r = open_handle(fd, name, text, true, &nbd, err);
    if (r < 0) {
        return r;
    }
    r = wait_for_hello(nbd, text, true, &(struct blk_nbd_stop){NULL, NULL}, err);
    r = r < 0 ? r : ask_info(nbd, text, err);
    if (r >= 0 && by_epoch) {
        r = need_epochs(nbd, text, err);
    } else if (by_epoch && is_plain(nbd, uri.export_name, text, err)) {
        r = -EPROTO;
    }
    if (r >= 0) {
        r = check_traits(nbd, text, read_only, ret_traits, err);
    }
    nbd_lib.close(nbd);
    return r;
}
