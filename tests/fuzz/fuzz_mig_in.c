/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination of a migration as a whole: mig_transfer_in with its threads, its
 * listening socket and an engine (of fake_kvm), from the first connection to Ready or an
 * end, and on to the last page of a post-copy. The input is a script (mig_script.h) for
 * what comes over the wire and what the agent does; mig_oracle.h says what it amounts to.
 *
 * After each: it is over in bounded time; what was said is well formed, and one end, with
 * a code and a sentence; Ready only if all was there, and memory is what was sent; always
 * Ready if it was and nothing else was sent; no thread, socket or byte around guest
 * memory is different. FUZZ_TELL=1 in the environment: how each one ended.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/frame.h"
#include "base/loop.h"
#include "migrate/mig_dst.h"
#include "migrate/mig_msg.h"
#include "migrate/mig_verify.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/mig_dst_rig.h"
#include "tests/fuzz/mig_oracle.h"
#include "tests/fuzz/mig_script.h"
#include "vmm/uffd.h"

#define EPOCH   7
#define SLOW_NS (8 * NSEC_PER_SEC) /* for what has to come */
#define GONE_NS                                                                          \
    (4 * NSEC_PER_SEC) /* to see that nobody is there: before a time-out does */
#define REST_NS  (50 * NSEC_PER_MSEC)
#define CHECK_NS (3 * NSEC_PER_MSEC)
#define STUCK_NS (300 * NSEC_PER_MSEC)
#define SAID_MAX (1u << 20)

FUZZ_GOALS("Ready", "an Abort that was told", "blockers that were told",
           "memory that was compared", "compressed pages", "a START", "a cancel",
           "several streams", "an incomplete transfer with Finish",
           "a frame that was skipped", "post-copy with holes", "all of them filled",
           "a page that somebody waited for", "a source that was lost at the end",
           "a mirrored disk", "one that was compared")
enum {
    READY,
    ABORTED,
    BLOCKED,
    COMPARED,
    PACKED,
    STARTED,
    CANCELLED,
    STREAMS,
    INCOMPLETE,
    SKIPPED,
    HOLES, /* from here on: with userfaultfd */
    FILLED,
    WAITED,
    SOURCE_LOST,
    DISK,
    DISK_COMPARED
};

/* The input under way. */
static struct {
    struct mig_script_env env;
    struct mig_script_setup setup;
    struct sockaddr_un address;
    socklen_t address_len;
    int fd[MIG_SCRIPT_CONNS];
    bool closed; /* some connection was, before the end */
    bool started, cancelled, answered;
    uint8_t *said; /* on the control stream */
    size_t said_len;
    unsigned acks, readies, aborts, blockers;
    pthread_t toucher;
    bool touching;
    _Atomic bool had_it;
    uint64_t touched;
    int copy; /* of disk 0; -1: it is not mirrored */
} run;

static uint8_t copy_was[MIG_DST_RIG_DISK]; /* what it has in the beginning */

/* What it says ----------------------------------------------------------------------- */

static bool is_busy(void)
{
    bool busy;

    pthread_mutex_lock(&dst.t->lock);
    busy = dst.t->busy;
    pthread_mutex_unlock(&dst.t->lock);
    return busy;
}

static struct mig_status status(void)
{
    struct mig_status s;

    mig_transfer_status(dst.t, &s);
    return s;
}

static void hear(void)
{
    ssize_t n = 1;

    while (n > 0 && run.fd[0] >= 0 && run.said_len < SAID_MAX) {
        n = recv(run.fd[0], run.said + run.said_len, SAID_MAX - run.said_len,
                 MSG_DONTWAIT);
        run.said_len += n > 0 ? (size_t)n : 0;
    }
}

static void judge_msg(const struct mig_msg *msg)
{
    /* Nothing comes after an end. */
    BUG_ON(run.aborts > 0 || run.blockers > 0);
    if (msg->kind == MIG_HELLO_ACK) {
        run.acks++;
        run.blockers += msg->hello_ack.blocker_count;
    } else if (msg->kind == MIG_READY) {
        run.readies++;
    } else if (msg->kind == MIG_ABORT) {
        run.aborts++;
        BUG_ON(msg->abort.code < MIG_END_BLOCKED || msg->abort.text[0] == '\0');
    } else if (msg->kind == MIG_WANT) {
        fuzz_reach(WAITED, true);
    } else {
        BUG_ON(msg->kind != MIG_STATS && msg->kind != MIG_RUNS && msg->kind != MIG_ALL);
    }
    BUG_ON(run.acks > 1 || run.readies > 1 || (run.readies > 0 && run.acks == 0));
}

/* Frames in their order, each one that a source takes. */
static void judge_said(void)
{
    static struct mig_msg msg;
    uint64_t seq = 0;
    struct frame f;

    for (size_t at = 0; at < run.said_len; at += FRAME_HEADER_LEN + f.body_len) {
        enum frame_reason reason = frame_check(run.said + at, run.said_len - at,
                                               MIG_CONN_MAGIC, MIG_CONTROL_MAX, &f);

        if (reason == FRAME_NEED_MORE) {
            return; /* it was closed before that was read */
        }
        BUG_ON(reason != FRAME_OK || f.seq != ++seq);
        if (f.type != MIG_TYPE_ANSWER) {
            BUG_ON(mig_msg_unpack(f.type - MIG_FRAME_CONTROL, f.body, f.body_len, &msg) !=
                   MIG_MSG_OK);
            judge_msg(&msg);
        }
    }
}

/* What it is told -------------------------------------------------------------------- */

static void close_conn(unsigned conn)
{
    if (run.fd[conn] >= 0) {
        if (conn == 0) {
            hear();
        }
        close(run.fd[conn]);
        run.fd[conn] = -1;
    }
}

static void connect_to(unsigned conn)
{
    int fd, bytes = 4 << 20;

    if (run.fd[conn] >= 0) {
        return;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    BUG_ON(fd < 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
    if (connect(fd, (struct sockaddr *)&run.address, run.address_len) < 0) {
        close(fd); /* it listens no more */
        return;
    }
    run.fd[conn] = fd;
}

static bool wait_writable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    uint64_t end = loop_now_ns() + STUCK_NS;

    while (loop_now_ns() < end && is_busy()) {
        if (poll(&p, 1, 10) > 0) {
            return true;
        }
        hear();
    }
    return false;
}

/* As far as it goes: it need not read what it does not want. */
static void put(void *ctx, unsigned conn, const uint8_t *bytes, size_t len)
{
    size_t piece = run.setup.piece > 0 ? run.setup.piece : len;

    (void)ctx;
    while (len > 0 && run.fd[conn] >= 0) {
        ssize_t n = send(run.fd[conn], bytes, len < piece ? len : piece, MSG_NOSIGNAL);

        if (n > 0) {
            mig_oracle_take(conn, bytes, (size_t)n);
            bytes += n;
            len -= (size_t)n;
        } else if (n == 0 || errno != EAGAIN || !wait_writable(run.fd[conn])) {
            run.closed = true;
            close_conn(conn);
        }
    }
}

/* Until all that was sent is read, or nobody reads any more. */
static void rest(void)
{
    uint64_t end = loop_now_ns() + REST_NS;
    int left = 1;

    while (left > 0 && loop_now_ns() < end && is_busy()) {
        left = 0;
        for (unsigned i = 0; i < MIG_SCRIPT_CONNS; i++) {
            int mine = 0;

            if (run.fd[i] >= 0 && ioctl(run.fd[i], SIOCOUTQ, &mine) == 0) {
                left += mine;
            }
        }
        hear();
        mig_dst_rig_nap();
    }
}

/* Hello's answer, if there can be one: a source waits for it before it says what depends
 * on it. */
static void await_answer(void)
{
    uint64_t end = loop_now_ns() + SLOW_NS;
    size_t before = FRAME_HEADER_LEN + MIG_ANSWER_LEN_MIN;

    while (run.said_len <= before && loop_now_ns() < end && is_busy() && !run.closed &&
           mig_oracle_has_hello()) {
        hear();
        mig_dst_rig_nap();
    }
    run.answered = run.answered || (run.said_len > before && !mig_oracle_seen().list);
}

static void read_hole(void)
{
    (void)*(volatile uint8_t *)(dst.ram.host + run.touched * MIG_PAGE);
    run.had_it = true;
}

static void *touch_main(void *arg)
{
    read_hole();
    return arg;
}

/* Whether the destination has asked for a page. */
static bool heard_want(void)
{
    struct frame f;

    for (size_t at = 0; at < run.said_len; at += FRAME_HEADER_LEN + f.body_len) {
        if (frame_check(run.said + at, run.said_len - at, MIG_CONN_MAGIC, MIG_CONTROL_MAX,
                        &f) != FRAME_OK) {
            return false;
        }
        if (f.type == MIG_FRAME_CONTROL + MIG_WANT) {
            return true;
        }
    }
    return false;
}

/* And is heard to wait for it, or does not wait. */
static void touch(uint64_t page)
{
    uint64_t end = loop_now_ns() + STUCK_NS;

    if (run.touching || !run.started) {
        return;
    }
    run.touched = page % dst.ram.page_count;
    run.touching = true;
    BUG_ON(pthread_create(&run.toucher, NULL, touch_main, NULL) != 0);
    while (!run.had_it && !heard_want() && is_busy() && loop_now_ns() < end) {
        mig_dst_rig_nap();
        hear();
    }
}

/* Ends ------------------------------------------------------------------------------- */

static void check_ready(void)
{
    uint32_t len;
    const uint8_t *sent = mig_oracle_state(&len);
    uint8_t *kept;

    if (mig_oracle_is_blurred()) {
        return;
    }
    BUG_ON(mig_oracle_incomplete() != NULL);
    kept = malloc(len + 1);
    BUG_ON(kept == NULL || pread(engine_state_fd(dst.engine), kept, len + 1, 0) != len ||
           memcmp(kept, sent, len) != 0);
    free(kept);
    if (run.copy >= 0) {
        static uint8_t copy[MIG_DST_RIG_DISK + 1];

        BUG_ON(pread(run.copy, copy, sizeof copy, 0) != MIG_DST_RIG_DISK ||
               memcmp(copy, mig_oracle_disk(), MIG_DST_RIG_DISK) != 0);
    }
    if (mig_oracle_missing() == 0 || !run.started) {
        BUG_ON(mig_oracle_compare(&dst.ram, false) != UINT64_MAX);
    }
}

/* Whether it became ready: always, if there is nothing that could prevent it. */
static bool await_ready(void)
{
    bool must = !run.closed && !run.cancelled && mig_oracle_is_clean() &&
                (run.answered || !mig_oracle_seen().list) &&
                (dst.postcopy || !run.setup.postcopy);
    uint64_t end = loop_now_ns() + SLOW_NS;
    enum mig_phase phase = status().phase;

    if (must) {
        while (phase < MIG_PHASE_READY && loop_now_ns() < end) {
            hear();
            mig_dst_rig_nap();
            phase = status().phase;
        }
        if (getenv("FUZZ_TELL") != NULL) {
            fprintf(stderr, "phase %d: %s\n", phase, status().text);
        }
        /* Whether a Hello or a state fits is for others to judge. */
        BUG_ON(phase < MIG_PHASE_READY ||
               (phase == MIG_PHASE_FAILED && !mig_script_is_twisted()));
    }
    if (phase == MIG_PHASE_READY) {
        check_ready();
    }
    return phase == MIG_PHASE_READY;
}

static void start(void)
{
    const struct engine_status s = {.state = RUN_RUNNING, .epoch = EPOCH};

    if (!run.started) {
        run.started = await_ready();
        mig_transfer_engine(dst.t, &s);
        fuzz_reach(STARTED, run.started);
    }
}

static void act(void *ctx, const struct mig_script_line *l)
{
    static const struct engine_status over = {.state = RUN_ENDED, .reason = "ended"};

    (void)ctx;
    if (l->op == 'C') {
        connect_to(l->conn);
    } else if (l->op == 'Z' && run.fd[l->conn] >= 0) {
        run.closed = true;
        if (l->v[0] == 0) {
            close_conn(l->conn);
        } else {
            shutdown(run.fd[l->conn], SHUT_WR);
        }
    } else if (l->op == 'Y') {
        await_answer();
    } else if (l->op == 'W') {
        rest();
    } else if (l->op == 'G') {
        start();
    } else if (l->op == 'K') {
        run.cancelled = true;
        mig_transfer_cancel(dst.t);
    } else if (l->op == 'O') {
        run.cancelled = true;
        mig_transfer_engine(dst.t, &over);
    } else if (l->op == 'T') {
        touch(l->v[1] | (uint64_t)l->v[2] << 8);
    }
}

static bool wait_over(uint64_t ns)
{
    uint64_t end = loop_now_ns() + ns;

    while (is_busy() && loop_now_ns() < end) {
        hear();
        mig_dst_rig_nap();
    }
    return !is_busy();
}

/* One that is ready waits for its agent. */
static bool wait_cancelled(void)
{
    uint64_t end = loop_now_ns() + GONE_NS;

    while (is_busy() && loop_now_ns() < end) {
        if (!run.started && status().phase == MIG_PHASE_READY) {
            mig_transfer_cancel(dst.t);
        }
        hear();
        mig_dst_rig_nap();
    }
    return !is_busy();
}

/* The phase in which it stays when nobody sends any more. */
static enum mig_phase finish_off(void)
{
    bool ready = !run.started && await_ready(), joined = mig_oracle_joined() > 0;
    struct mig_status s;

    if (!ready && mig_oracle_seen().finish) {
        (void)wait_over(CHECK_NS); /* it may say what is wrong */
    }
    if (run.started && !run.closed && mig_oracle_missing() > 0) {
        rest();
    }
    for (unsigned i = 0; i < MIG_SCRIPT_CONNS; i++) {
        close_conn(i);
    }
    if (ready) {
        mig_dst_rig_nap(); /* a lost source changes nothing, without holes */
    }
    /* Without any stream it listens on, and only its end ends it (mig_transfer_free). */
    if (!joined && !wait_over(2 * NSEC_PER_MSEC)) {
        mig_stop_raise(&dst.t->stop);
    }
    BUG_ON(!wait_cancelled());
    s = status();
    if (getenv("FUZZ_TELL") != NULL) {
        fprintf(stderr, "phase %d: %s\n", s.phase, s.text);
    }
    BUG_ON(s.phase == MIG_PHASE_FAILED && s.text[0] == '\0');
    BUG_ON(strstr(s.text, strerror(EFAULT)) != NULL);
    return s.phase;
}

static void count(enum mig_phase phase)
{
    struct mig_oracle_seen seen = mig_oracle_seen();
    bool holes = mig_oracle_missing() > 0, ready = run.readies > 0;

    fuzz_reach(READY, ready);
    fuzz_reach(ABORTED, run.aborts > 0);
    fuzz_reach(BLOCKED, run.blockers > 0);
    fuzz_reach(COMPARED, ready && seen.hashes);
    fuzz_reach(PACKED, ready && seen.packed);
    fuzz_reach(HOLES, ready && holes);
    fuzz_reach(FILLED, phase == MIG_PHASE_DONE);
    fuzz_reach(CANCELLED, run.cancelled && phase == MIG_PHASE_FAILED);
    fuzz_reach(SOURCE_LOST,
               phase == MIG_PHASE_FAILED && ready && holes && !run.cancelled);
    fuzz_reach(STREAMS, ready && run.setup.streams > 1);
    fuzz_reach(SKIPPED, ready && seen.optional);
    fuzz_reach(INCOMPLETE, seen.finish && !ready);
    fuzz_reach(DISK, ready && seen.disk);
    fuzz_reach(DISK_COMPARED, ready && seen.disk_hashes);
}

static void judge(enum mig_phase phase)
{
    judge_said();
    if (run.readies > 0) {
        check_ready();
    }
    if (phase == MIG_PHASE_DONE && !mig_oracle_is_blurred()) {
        BUG_ON(mig_oracle_compare(&dst.ram, true) != UINT64_MAX);
    }
    BUG_ON(phase != MIG_PHASE_FAILED && phase != MIG_PHASE_DONE &&
           phase != MIG_PHASE_READY);
    BUG_ON(phase == MIG_PHASE_READY && !run.started);
    count(phase);
}

/* The input ---------------------------------------------------------------------------
 */

static void listen_for(int *ret_fd)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    run.address = (struct sockaddr_un){.sun_family = AF_UNIX}; /* the kernel names it */
    run.address_len = sizeof run.address;
    BUG_ON(fd < 0 || bind(fd, (struct sockaddr *)&run.address, sizeof(sa_family_t)) < 0 ||
           listen(fd, 16) < 0 ||
           getsockname(fd, (struct sockaddr *)&run.address, &run.address_len) < 0);
    *ret_fd = fd;
}

/* As a source of the same VM would say it. */
static void describe(const struct mig_params *params)
{
    static struct mig_transfer source;

    source.conf = dst.t->conf;
    source.params = *params;
    source.params.postcopy = run.setup.postcopy;
    source.params.no_compress = run.setup.no_zstd;
    source.streams.count = run.setup.streams + 1;
    mig_describe(&source, &run.env.hello);
    run.env.hello.verify = run.setup.verify;
}

static const struct engine_ram *memory(void *ctx)
{
    (void)ctx;
    return mig_oracle_memory();
}

static uint64_t disk_sum(void *ctx)
{
    static uint8_t buffer[MIG_BLOCK_BYTES] __attribute__((aligned(4096)));
    uint64_t sum = 0;
    int fd;

    (void)ctx;
    if (run.copy < 0) {
        return 0;
    }
    fd = memfd_create("sum", MFD_CLOEXEC);
    BUG_ON(fd < 0 ||
           pwrite(fd, mig_oracle_disk(), MIG_DST_RIG_DISK, 0) != MIG_DST_RIG_DISK ||
           mig_verify_disk(fd, MIG_DST_RIG_DISK, 0, buffer, &sum) < 0);
    close(fd);
    return sum;
}

/* With other contents, and a hole. */
static void make_copy(struct mig_params *params)
{
    memset(copy_was + MIG_DST_RIG_DISK / 4, 0x5a, MIG_DST_RIG_DISK / 2);
    run.copy = memfd_create("copy", MFD_CLOEXEC);
    BUG_ON(run.copy < 0 || ftruncate(run.copy, MIG_DST_RIG_DISK) < 0 ||
           pwrite(run.copy, copy_was + MIG_DST_RIG_DISK / 4, MIG_DST_RIG_DISK / 2,
                  MIG_DST_RIG_DISK / 4) != MIG_DST_RIG_DISK / 2);
    params->mirror = 1;
    params->copy_count = 1;
    params->copy[0] = dup(run.copy);
    BUG_ON(params->copy[0] < 0);
    mig_oracle_has_disk(copy_was, sizeof copy_was);
}

static void begin(const uint8_t *data, size_t len)
{
    struct mig_params params = {
        .transfer = {{2}}, .token = dst.t->token, .plaintext = true, .timeout_ms = 20000};
    struct vmm_error err;
    int fd;

    memset(&run, 0, sizeof run);
    memset(run.fd, -1, sizeof run.fd);
    run.copy = -1;
    run.said = malloc(SAID_MAX);
    BUG_ON(run.said == NULL);
    run.setup = mig_script_setup(data, len);
    params.verify = run.setup.verify;
    run.env = (struct mig_script_env){.state = dst.state,
                                      .state_len = dst.state_len,
                                      .page_count = dst.ram.page_count,
                                      .memory = memory,
                                      .disk_sum = disk_sum,
                                      .put = put,
                                      .act = act};
    run.env.open = (struct mig_open_msg){.version_min = MIG_STREAM_VERSION_MIN,
                                         .version_max = MIG_STREAM_VERSION,
                                         .transfer = params.transfer,
                                         .token = params.token};
    run.env.open.count = (uint16_t)(run.setup.streams + 1);
    engine_ram_zero(&dst.ram, 0, dst.ram.page_count);
    mig_oracle_begin(dst.ram.page_count, &run.env.open);
    if (run.setup.disk) {
        make_copy(&params);
    }
    listen_for(&fd);
    BUG_ON(mig_transfer_in(dst.t, fd, &params, &err) < 0);
    describe(&params);
}

static void leave(void)
{
    if (mig_oracle_seen().list) {
        (void)uffd_unregister(dst.t->uffd, dst.ram.host, dst.ram.len);
    }
    if (run.touching) { /* it need not wait for the page any more */
        pthread_join(run.toucher, NULL);
    }
    if (run.copy >= 0) {
        close(run.copy);
    }
    mig_dst_rig_check();
    free(run.said);
    mig_oracle_free();
}

static void prepare(void)
{
    static bool done;

    if (!done) {
        done = true;
        /* Opens what it keeps, before files are counted. */
        mig_oracle_begin(MIG_DST_RIG_RAM / MIG_PAGE, &(struct mig_open_msg){.count = 2});
    }
    mig_dst_rig_open();
    for (unsigned goal = HOLES; goal <= SOURCE_LOST && !dst.postcopy; goal++) {
        fuzz_reach(goal, true); /* not to be had on this host */
    }
}

FUZZ_ONE(data, len)
{
    enum mig_phase phase;

    prepare();
    begin(data, len);
    mig_script_run(&run.env, data, len);
    phase = finish_off();
    judge(phase);
    leave();
    return 0;
}
