/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/vmm_ctl: an agent's requests in every order, agents that are too old or talk
 * nonsense, a saved state that is refused by the name the agent gave it. A real socket,
 * an engine on fake_kvm. */
#include "vmm/vmm_ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/os.h"
#include "base/proto_ctl.h"
#include "base/version.h"
#include "tests/unit/unit.h"
#include "tests/unit/vmm/engine_rig.h"

#define KIND(name) GEMEL__VMM_REQUEST__KIND__##name

static struct loop *loop;
static struct vmm_ctl *ctl;
static struct guest_agent *agent;
static char path[TEMP_PATH_MAX];
static int fd = -1;
static uint64_t seq;
static char answer[1024]; /* error text of the last report to us; empty: ok */
static Gemel__VmmReport last;

static void on_stop(void *data)
{
    (void)data;
    loop_stop(loop);
}

/* The shell's part: what the engine says goes to the agent. */
static void pump(unsigned ms)
{
    struct engine_status s;
    struct engine_saved saved;
    loop_timer timer = 0;

    ck_assert_int_eq(loop_timer_add(loop, ms * NSEC_PER_MSEC, on_stop, NULL, &timer), 0);
    loop_run(loop);
    engine_event_clear(er.e);
    while (engine_take_notice(er.e, &s)) {
        vmm_ctl_notice(ctl, &s);
    }
    if (engine_take_saved(er.e, &saved)) {
        vmm_ctl_saved(ctl, &saved);
    }
}

static void no_send(void *ctx, const uint8_t *bytes, uint32_t len)
{
    (void)ctx, (void)bytes, (void)len;
}

static void open_ctl(unsigned cpus)
{
    struct vmm_ctl_conf conf = {.vm = {{1}}, .instance = {{2}}};

    er_setup();
    er_go(cpus, ENGINE_RIG_RAM);
    ck_assert_int_eq(loop_new(&loop), 0);
    agent = guest_agent_new(no_send, NULL);
    ck_assert_ptr_nonnull(mkdtemp(temp_path(path, "ctl")));
    strcat(path, "/s");
    ck_assert_int_eq(os_unix_listen(path, 0600, &conf.listen_fd), 0);
    conf.engine = er.e;
    conf.guest_agent = agent;
    ck_assert_msg(vmm_ctl_open(loop, &conf, &ctl, &er.err) == 0, "%s", er.err.text);
}

static void setup(void)
{
    open_ctl(0);
}

static void teardown(void)
{
    if (fd >= 0) {
        close(fd);
        fd = -1;
    }
    vmm_ctl_close(ctl);
    er_teardown();
    loop_free(loop);
    guest_agent_free(agent);
    unlink(path);
    *strrchr(path, '/') = '\0';
    ck_assert_int_eq(rmdir(path), 0);
}

static void connect_again(void)
{
    if (fd >= 0) {
        close(fd);
    }
    ck_assert_int_eq(os_unix_connect(path, &fd), 0);
    pump(5);
}

/* Whether the VMM still listens to this connection: reads all there is. *ret_replied: an
 * answer to `wanted` was among it. */
static bool read_all(uint64_t wanted, bool *ret_replied)
{
    enum ctl_reason reason;
    struct ctl_msg msg;
    int r;

    while ((r = ctl_recv(fd, &msg, &reason)) >= 0) {
        if (msg.kind == CTL_VMM_REPORT && msg.vmm_report->seq == wanted && wanted > 0) {
            last = *msg.vmm_report;
            snprintf(answer, sizeof answer, "%s", msg.vmm_report->error);
            *ret_replied = true;
        }
        ctl_msg_free(&msg);
    }
    return r == -EAGAIN;
}

static bool hello(uint64_t join, uint64_t start_ns)
{
    Gemel__Hello h = GEMEL__HELLO__INIT;
    bool replied;

    h.version = PROTO_CTL_VERSION;
    h.version_min = PROTO_CTL_VERSION_MIN;
    h.program = (char *)"gemeld";
    h.node = (char *)"n1";
    h.join_counter = join;
    h.agent_start_ns = start_ns;
    connect_again();
    ck_assert_int_ge(ctl_send(fd, CTL_HELLO, &h), 0);
    pump(5);
    return read_all(0, &replied);
}

/* Sends, and waits for the answer: its error, "" for none. */
static const char *ask_with(Gemel__VmmRequest *rq, const int *fds, size_t count)
{
    bool replied = false;

    rq->seq = ++seq;
    ck_assert_int_ge(ctl_send_fds(fd, CTL_VMM_REQUEST, rq, fds, count), 0);
    for (unsigned i = 0; i < 400 && !replied; i++) {
        pump(5);
        ck_assert(read_all(seq, &replied));
    }
    ck_assert_msg(replied, "no answer to request %d", (int)rq->kind);
    return answer;
}

static const char *ask(Gemel__VmmRequest__Kind kind, uint64_t epoch)
{
    Gemel__VmmRequest rq = GEMEL__VMM_REQUEST__INIT;

    rq.kind = kind;
    rq.epoch = epoch;
    rq.lease_ms = kind == KIND(LEASE) ? 60000 : 0;
    rq.reason = (char *)"test";
    return ask_with(&rq, NULL, 0);
}

static const char *start(uint64_t epoch)
{
    Gemel__VmmRequest rq = GEMEL__VMM_REQUEST__INIT;

    rq.kind = KIND(START);
    rq.epoch = epoch;
    return ask_with(&rq, NULL, 0);
}

static void expect(const char *said, const char *wanted)
{
    ck_assert_msg(*wanted ? strstr(said, wanted) != NULL : *said == '\0',
                  "'%s', not '%s'", said, wanted);
}

START_TEST(a_life)
{
    Gemel__VmmRequest rq = GEMEL__VMM_REQUEST__INIT;
    int file = er_file(NULL, 0);

    ck_assert(hello(1, 1));
    expect(ask(KIND(STATUS), 0), "");
    expect(ask(KIND(POWERDOWN), 0), "not running");
    expect(ask(KIND(RESET), 0), "not running");
    expect(ask(KIND(BALLOON), 0), "no balloon");
    expect(ask(KIND(SAVE), 0), "without a file");
    expect(start(3), "");
    for (int i = 0; i < 400 && last.state != GEMEL__VMM_STATE__VMM_STATE_RUNNING; i++) {
        expect(ask(KIND(STATUS), 0), "");
    }
    ck_assert_uint_eq(last.epoch, 3);
    expect(ask(KIND(LEASE), 0), "");
    expect(ask(KIND(RESET), 0), "");
    expect(ask(KIND(POWERDOWN), 0), "");
    rq.kind = KIND(SAVE);
    rq.state_path = (char *)"/vm/suspend.gms";
    expect(ask_with(&rq, &file, 1), "only a frozen VM");
    expect(ask(KIND(FREEZE), 0), "");
    expect(ask_with(&rq, &file, 1), "");
    ck_assert_uint_gt(last.saved_bytes, 1000);
    ck_assert_uint_eq(last.saved_bytes, (uint64_t)lseek(file, 0, SEEK_END));
    close(file);
    file = open("/dev/full", O_WRONLY | O_CLOEXEC);
    expect(ask_with(&rq, &file, 1),
           "cannot write the VM's state to /vm/suspend.gms: No space left on device");
    close(file);
    expect(ask(KIND(THAW), 3), "epoch");
    expect(ask(KIND(THAW), 4), "");
    expect(ask(KIND(KILL), 0), "");
}
END_TEST

/* The state is named as the agent calls it; without a name, by where it came from. */
START_TEST(a_refused_state_is_named)
{
    static const char *const names[] = {"/srv/gemel/web1/suspend.gms", NULL};
    Gemel__VmmRequest rq = GEMEL__VMM_REQUEST__INIT;
    struct engine_status s;
    int file = er_file((const uint8_t *)"no state at all, but long enough", 32);

    ck_assert(hello(1, 1));
    rq.kind = KIND(START);
    rq.epoch = 1;
    rq.restore = true;
    expect(ask_with(&rq, NULL, 0), "other files than it announces");
    rq.state_path = (char *)(uintptr_t)names[_i];
    (void)ask_with(&rq, &file, 1);
    close(file);
    for (int i = 0; i < 400; i++) {
        pump(5);
        engine_status(er.e, &s);
        if (s.state == RUN_ENDED) {
            break;
        }
    }
    ck_assert_int_eq(s.state, RUN_ENDED);
    expect(s.reason, _i == 0 ? "state file /srv/gemel/web1/suspend.gms is refused at byte"
                             : "state file of START is refused at byte");
}
END_TEST

/* The newest incarnation is listened to, and stays the newest. */
START_TEST(older_agents_are_refused)
{
    ck_assert(hello(2, 5));
    ck_assert(!hello(1, 9));
    ck_assert(!hello(2, 4));
    ck_assert(hello(2, 5)); /* the same one again */
    ck_assert(hello(2, 6));
    ck_assert(hello(3, 0));
    expect(ask(KIND(STATUS), 0), "");
}
END_TEST

/* Nothing is answered before a Hello, and nobody is harmed by what is no message: flips
 * of good ones, noise of any length. A good agent is served afterwards. */
START_TEST(nonsense)
{
    uint8_t good[2][512], bytes[600];
    size_t len[2];
    Gemel__Hello h = GEMEL__HELLO__INIT;
    Gemel__VmmRequest rq = GEMEL__VMM_REQUEST__INIT;
    uint64_t random = 5;
    bool replied;

    h.version = PROTO_CTL_VERSION;
    h.version_min = PROTO_CTL_VERSION_MIN;
    h.program = (char *)"gemeld";
    rq.kind = KIND(STATUS);
    rq.reason = (char *)"x";
    len[0] = ctl_pack(CTL_HELLO, &h, good[0], sizeof good[0]);
    len[1] = ctl_pack(CTL_VMM_REQUEST, &rq, good[1], sizeof good[1]);
    connect_again();
    ck_assert_int_ge(ctl_send(fd, CTL_VMM_REQUEST, &rq), 0);
    pump(5);
    ck_assert(!read_all(0, &replied));
    for (unsigned n = 0; n < 1500; n++) {
        size_t count = n % 3 == 2 ? n % sizeof bytes : len[n % 3];

        for (size_t i = 0; i < sizeof bytes; i++) {
            random = random * 6364136223846793005u + 1;
            bytes[i] = (uint8_t)(random >> 56);
        }
        if (n % 3 < 2) {
            memcpy(bytes, good[n % 3], count);
            bytes[(random >> 40) % count] ^= (uint8_t)(1u << (random >> 33) % 8);
        }
        if (n % 5 == 0 && !hello(7, n)) {
            ck_abort_msg("message %u: a good agent was refused", n);
        } else if (n % 5 == 1) {
            connect_again();
        }
        (void)send(fd, bytes, count, MSG_NOSIGNAL);
        pump(1);
        (void)read_all(0, &replied);
    }
    ck_assert(hello(UINT64_MAX, UINT64_MAX));
    expect(ask(KIND(STATUS), 0), "");
}
END_TEST

static Suite *ctl_suite(void)
{
    Suite *suite = suite_create("vmm_ctl");
    TCase *tc = tcase_create("vmm_ctl");

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_life);
    tcase_add_loop_test(tc, a_refused_state_is_named, 0, 2);
    tcase_add_test(tc, older_agents_are_refused);
    tcase_add_test(tc, nonsense);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(ctl_suite)
