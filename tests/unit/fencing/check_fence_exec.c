/* SPDX-License-Identifier: Apache-2.0 */
/* Running fence agents that hang, flood, crash, fork, ignore signals and print passwords.
 * Needs no root. */
#include "fencing/fence_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"

#define CANARY "c4n4ry-hunter2"

static char dir[TEMP_PATH_MAX];
static struct loop *loop;
static struct fence_runner *runner;
static struct conf_fence_device device;
static struct fence_error error;
static struct fence_exec *exec;
static struct fence_run_result got;
static unsigned calls;

static char *at(const char *name)
{
    static char path[4][TEMP_PATH_MAX + 128];
    static unsigned n;

    snprintf(path[++n % 4], sizeof(path[0]), "%s/%s", dir, name);
    return path[n % 4];
}

static void write_file(const char *name, const char *text, mode_t mode)
{
    int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(os_write_all(fd, text, strlen(text)), 0);
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
}

/* The fake agent; $D is the test's directory. */
static void agent(const char *body)
{
    char text[2048];

    snprintf(text, sizeof(text), "#!/bin/sh\nD=%s\n%s\n", dir, body);
    write_file("fence_fake", text, 0700);
}

static const char *read_text(const char *name)
{
    static char text[65536];

    text[0] = '\0';
    os_file_read(at(name), text, sizeof(text) - 1, NULL);
    return text;
}

static bool exists(const char *name)
{
    return access(at(name), F_OK) == 0;
}

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(temp_path(dir, "fence-exec")));
    ck_assert_int_eq(mkdir(at("secrets"), 0700), 0);
    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(loop_new(&loop), 0);
    ck_assert_int_eq(fence_runner_new(loop, dir, at("secrets"), &runner), 0);
    device = (struct conf_fence_device){.name = "dev",
                                        .agent = "fence_fake",
                                        .node = "n1",
                                        .level = 1,
                                        .param_count = 1,
                                        .param = {{"ip", "10.0.0.1"}}};
    calls = 0;
}

static void teardown(void)
{
    char command[sizeof dir + 16];

    fence_runner_free(runner);
    loop_free(loop);
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

static void done(struct fence_exec *e, const struct fence_run_result *result, void *data)
{
    ck_assert_ptr_eq(e, exec);
    ck_assert_ptr_eq(data, &got);
    got = *result;
    calls++;
    loop_stop(loop);
}

static void stop_loop(void *data)
{
    (void)data;
    loop_stop(loop);
}

static void run_loop_ms(unsigned ms)
{
    loop_timer timer;

    ck_assert_int_eq(loop_timer_add(loop, ms * NSEC_PER_MSEC, stop_loop, NULL, &timer),
                     0);
    loop_run(loop);
    loop_timer_del(loop, &timer);
}

static void start(enum fence_action action, uint32_t timeout_ms)
{
    int r = fence_exec_start(runner, &device, action, false, timeout_ms, done, &got,
                             &exec, &error);

    ck_assert_msg(r == 0, "%s", error.text);
}

static void run(enum fence_action action, uint32_t timeout_ms)
{
    start(action, timeout_ms);
    run_loop_ms(20000);
    ck_assert_uint_eq(calls, 1);
}

static bool pid_lives(const char *file)
{
    long pid = strtol(read_text(file), NULL, 10);

    ck_assert_int_gt(pid, 1);
    return kill((pid_t)pid, 0) == 0;
}

START_TEST(exit_codes)
{
    static const char *const body[] = {"cat >/dev/null; exit 0", "cat >/dev/null; exit 1",
                                       "exit 2", "exit 127"};
    static const int code[] = {0, 1, 2, 127};

    agent(body[_i]);
    run(FENCE_ACTION_STATUS, 5000);
    ck_assert_int_eq(got.end, FENCE_END_EXITED);
    ck_assert_int_eq(got.code, code[_i]);
}
END_TEST

START_TEST(input_argv_and_environment)
{
    char want[64];

    write_file("secrets/dev.secret", "# BMC\npassword=" CANARY "\n", 0600);
    setenv("LEAK_OF_PARENT", "1", 1);
    agent("cat >$D/in; echo $# >$D/argc; env >$D/env; tr '\\0' ' ' </proc/$$/cmdline "
          ">$D/cmd;"
          " ls /proc/$$/fd | tr '\\n' ' ' >$D/fds; ps -o pgid= $$ >$D/pgid; echo $$ "
          ">$D/pid");
    run(FENCE_ACTION_OFF, 5000);
    ck_assert_str_eq(read_text("in"),
                     "action=off\nnodename=n1\nip=10.0.0.1\npower_wait=0\n"
                     "password=" CANARY "\n");
    ck_assert_str_eq(read_text("argc"), "0\n");
    ck_assert_ptr_null(strstr(read_text("env"), "LEAK_OF_PARENT"));
    ck_assert_ptr_null(strstr(read_text("env"), CANARY));
    ck_assert_ptr_nonnull(strstr(read_text("env"), "LC_ALL=C"));
    ck_assert_ptr_null(strstr(read_text("cmd"), CANARY));
    snprintf(want, sizeof(want), "%ld", strtol(read_text("pid"), NULL, 10));
    ck_assert_int_eq(strtol(read_text("pgid"), NULL, 10), strtol(want, NULL, 10));
}
END_TEST

START_TEST(hang_is_timeout)
{
    agent("echo $$ >$D/pid; echo 'waiting for the BMC'; exec sleep 1000");
    run(FENCE_ACTION_OFF, 200);
    ck_assert_int_eq(got.end, FENCE_END_TIMEOUT);
    ck_assert_uint_ge(got.elapsed_ms, 190);
    ck_assert_uint_lt(got.elapsed_ms, 600);
    ck_assert_str_eq(got.detail, "waiting for the BMC");
    ck_assert(!pid_lives("pid"));
}
END_TEST

START_TEST(success_after_sigterm_is_timeout)
{
    agent("trap 'exit 0' TERM; while :; do sleep 0.05; done");
    run(FENCE_ACTION_OFF, 200);
    ck_assert_int_eq(got.end, FENCE_END_TIMEOUT);
    ck_assert_int_eq(fence_answer_of(FENCE_ACTION_OFF, got.end, got.code),
                     FENCE_ANSWER_TIMEOUT);
}
END_TEST

START_TEST(ignores_sigterm)
{
    agent("trap '' TERM; echo $$ >$D/pid; while :; do sleep 1; done");
    run(FENCE_ACTION_OFF, 200);
    ck_assert_int_eq(got.end, FENCE_END_TIMEOUT);
    ck_assert_uint_ge(got.elapsed_ms, 650);
    ck_assert_uint_lt(got.elapsed_ms, 1500);
    ck_assert(!pid_lives("pid"));
}
END_TEST

START_TEST(children_go_with_it)
{
    agent("sleep 1000 & echo $! >$D/child; exit 0");
    run(FENCE_ACTION_OFF, 5000);
    ck_assert_int_eq(got.end, FENCE_END_EXITED);
    ck_assert_int_eq(got.code, 0);
    ck_assert_uint_lt(got.elapsed_ms, 2000);
    run_loop_ms(200);
    ck_assert(!pid_lives("child"));
}
END_TEST

START_TEST(escaped_children_go_too)
{
    agent("setsid sh -c 'echo $$ >$D/child; exec sleep 1000' >/dev/null 2>&1 &\n"
          "export D; setsid sh -c 'echo $$ >$D/child; setsid sleep 1000 & exec sleep "
          "1000' &\n"
          "while [ ! -s $D/child ]; do sleep 0.02; done; exit 0");
    run(FENCE_ACTION_OFF, 5000);
    run_loop_ms(300);
    ck_assert(!pid_lives("child"));
}
END_TEST

START_TEST(fork_bomb_in_the_group)
{
    agent("b() { i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done; }; b; echo "
          "full >$D/full;"
          " trap '' TERM; while :; do sleep 1 & done");
    run(FENCE_ACTION_OFF, 2000);
    ck_assert_int_eq(got.end, FENCE_END_TIMEOUT);
    ck_assert(exists("full"));
    run_loop_ms(500);
    /* Nobody of ours is left: a new agent is the only child. */
    ck_assert_str_eq(read_text("x"), "");
    calls = 0;
    agent("exit 0");
    run(FENCE_ACTION_OFF, 5000);
    ck_assert_int_eq(got.code, 0);
    run_loop_ms(100);
    {
        char path[64], text[256];

        snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
        ck_assert_int_eq(os_file_read(path, text, sizeof(text) - 1, NULL), 0);
        ck_assert_str_eq(text, "");
    }
}
END_TEST

START_TEST(a_gigabyte_of_output)
{
    agent("cat >/dev/null; echo first line; head -c 1073741824 /dev/zero; exit 2");
    run(FENCE_ACTION_STATUS, 20000);
    ck_assert_int_eq(got.end, FENCE_END_EXITED);
    ck_assert_int_eq(got.code, 2);
    ck_assert_uint_ge(got.output_bytes, FENCE_OUTPUT_MAX);
    ck_assert_uint_eq(got.output_bytes, 1073741824 + 11);
    ck_assert_str_eq(got.detail, "first line");
}
END_TEST

START_TEST(endless_output_is_timeout)
{
    agent("cat >/dev/null; cat /dev/zero");
    run(FENCE_ACTION_STATUS, 300);
    ck_assert_int_eq(got.end, FENCE_END_TIMEOUT);
    ck_assert_uint_lt(got.elapsed_ms, 1500);
}
END_TEST

START_TEST(printed_secret_is_hidden)
{
    write_file("secrets/dev.secret", "password=" CANARY "\n", 0600);
    agent("cat; echo 'ipmitool -P " CANARY " failed' >&2; exit 1");
    run(FENCE_ACTION_OFF, 5000);
    ck_assert_str_eq(got.detail, "ipmitool -P *** failed");
}
END_TEST

START_TEST(half_a_printed_secret_is_hidden)
{
    char body[256];

    write_file("secrets/dev.secret", "password=" CANARY "\n", 0600);
    /* The bound falls into the middle of the secret. */
    snprintf(
        body, sizeof(body),
        "cat >/dev/null; echo start; head -c %d /dev/zero | tr '\\0' x; echo '" CANARY
        "'",
        FENCE_OUTPUT_MAX - 6 - 8);
    agent(body);
    run(FENCE_ACTION_OFF, 5000);
    ck_assert_str_eq(got.detail, "start");
}
END_TEST

START_TEST(crash_is_not_an_answer)
{
    agent("kill -SEGV $$");
    run(FENCE_ACTION_STATUS, 5000);
    ck_assert_int_eq(got.end, FENCE_END_SIGNALLED);
    ck_assert_int_eq(got.code, SIGSEGV);
    ck_assert_int_eq(fence_answer_of(FENCE_ACTION_STATUS, got.end, got.code),
                     FENCE_ANSWER_UNCLEAR);
}
END_TEST

START_TEST(refused_agents)
{
    strcpy(device.agent, "fence_none");
    ck_assert_int_eq(fence_exec_start(runner, &device, FENCE_ACTION_OFF, false, 1000,
                                      done, &got, &exec, &error),
                     -ENOENT);
    ck_assert_ptr_nonnull(strstr(error.text, "fence-agents"));
    strcpy(device.agent, "fence_fake");
    agent("touch $D/ran");
    ck_assert_int_eq(chmod(at("fence_fake"), 0722), 0);
    ck_assert_int_eq(fence_exec_start(runner, &device, FENCE_ACTION_OFF, false, 1000,
                                      done, &got, &exec, &error),
                     -EPERM);
    write_file("fence_fake", "not a program", 0600);
    ck_assert_int_eq(fence_exec_start(runner, &device, FENCE_ACTION_OFF, false, 1000,
                                      done, &got, &exec, &error),
                     -EACCES);
    run_loop_ms(50);
    ck_assert_uint_eq(calls, 0);
    ck_assert(!exists("ran"));
}
END_TEST

static void secret_refused(const char *word)
{
    int r = fence_exec_start(runner, &device, FENCE_ACTION_OFF, false, 1000, done, &got,
                             &exec, &error);

    ck_assert_int_lt(r, 0);
    ck_assert_msg(strstr(error.text, word) != NULL, "%s", error.text);
    ck_assert_ptr_nonnull(strstr(error.text, "dev"));
    ck_assert_ptr_null(strstr(error.text, CANARY));
    ck_assert(!exists("ran"));
}

START_TEST(refused_secrets)
{
    const char *secret = "secrets/dev.secret";

    agent("touch $D/ran");
    write_file(secret, "password=" CANARY "\n", 0640);
    secret_refused("chmod 0600");
    write_file(secret, "password=" CANARY "\n", 0604);
    secret_refused("chmod 0600");
    write_file(secret, CANARY "\n", 0600);
    secret_refused("line 1");
    ck_assert_int_eq(rename(at(secret), at("real")), 0);
    ck_assert_int_eq(symlink(at("real"), at(secret)), 0);
    secret_refused("regular file");
    ck_assert_int_eq(unlink(at(secret)), 0);
    ck_assert_int_eq(mkfifo(at(secret), 0600), 0);
    secret_refused("regular file");
    ck_assert_int_eq(unlink(at(secret)), 0);
    ck_assert_int_eq(mkdir(at(secret), 0700), 0);
    secret_refused("regular file");
    ck_assert_int_eq(rmdir(at(secret)), 0);
    write_file(secret, "password=" CANARY "\n", 0600);
    if (geteuid() == 0) {
        ck_assert_int_eq(chown(at(secret), 1, 0), 0);
        secret_refused("chown");
        ck_assert_int_eq(chown(at(secret), 0, 0), 0);
    }
    ck_assert_int_eq(chmod(at("secrets"), 0770), 0);
    secret_refused("directory");
    ck_assert_int_eq(chmod(at("secrets"), 0700), 0);
    run(FENCE_ACTION_OFF, 5000);
    ck_assert(exists("ran"));
}
END_TEST

START_TEST(held_agent_is_quick_and_harmless)
{
    write_file("secrets/dev.secret", "password=" CANARY "\n", 0600);
    agent("sleep 0.3; cat >$D/in; touch $D/ran; exit 2");
    ck_assert_int_eq(fence_exec_start(runner, &device, FENCE_ACTION_STATUS, true, 0, NULL,
                                      NULL, &exec, &error),
                     0);
    run_loop_ms(400);
    ck_assert(!exists("ran"));
    ck_assert_int_eq(
        fence_exec_release(exec, &device, FENCE_ACTION_STATUS, 5000, done, &got, &error),
        0);
    run_loop_ms(5000);
    ck_assert_uint_eq(calls, 1);
    ck_assert_int_eq(got.code, 2);
    ck_assert_uint_lt(got.elapsed_ms, 250);
    ck_assert_str_eq(read_text("in"),
                     "action=status\nnodename=n1\nip=10.0.0.1\npassword=" CANARY "\n");
}
END_TEST

START_TEST(held_agent_learns_its_action_last)
{
    char action[16] = "", line[128];
    FILE *in;

    write_file("secrets/dev.secret", "password=" CANARY "\n", 0600);
    agent("cat >$D/in; exit 0");
    ck_assert_int_eq(fence_exec_start(runner, &device, FENCE_ACTION_STATUS, true, 0, NULL,
                                      NULL, &exec, &error),
                     0);
    run_loop_ms(100);
    ck_assert_int_eq(
        fence_exec_release(exec, &device, FENCE_ACTION_OFF, 5000, done, &got, &error), 0);
    run_loop_ms(5000);
    ck_assert_uint_eq(calls, 1);
    ck_assert_int_eq(got.end, FENCE_END_EXITED);
    in = fopen(at("in"), "r");
    ck_assert_ptr_nonnull(in);
    while (fgets(line, sizeof line, in) != NULL) {
        (void)sscanf(line, "action=%15s", action);
    }
    fclose(in);
    ck_assert_str_eq(action, "off");
    ck_assert_ptr_nonnull(strstr(read_text("in"), "ip=10.0.0.1\n"));
    ck_assert_ptr_nonnull(strstr(read_text("in"), "password=" CANARY "\n"));
}
END_TEST

START_TEST(held_agent_is_killed_before_its_input_ends)
{
    agent("cat >$D/in; touch $D/ran; exit 0");
    ck_assert_int_eq(fence_exec_start(runner, &device, FENCE_ACTION_STATUS, true, 0, NULL,
                                      NULL, &exec, &error),
                     0);
    run_loop_ms(100);
    fence_exec_kill(exec, done, &got);
    run_loop_ms(5000);
    ck_assert_uint_eq(calls, 1);
    ck_assert_int_eq(got.end, FENCE_END_PREEMPTED);
    ck_assert(!exists("ran"));
}
END_TEST

START_TEST(nothing_in_proc_while_it_runs)
{
    static char text[256 * 1024]; /* make hands down long variables */
    char path[64];
    static const char *const files[] = {"cmdline", "environ"};
    size_t len;
    long pid;

    write_file("secrets/dev.secret", "password=" CANARY "\n", 0600);
    agent("echo $$ >$D/pid; cat >/dev/null; sleep 1000");
    start(FENCE_ACTION_OFF, 1500);
    run_loop_ms(300);
    pid = strtol(read_text("pid"), NULL, 10);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        for (int self = 0; self < 2; self++) {
            snprintf(path, sizeof(path), "/proc/%ld/%s", self ? (long)getpid() : pid,
                     files[i]);
            ck_assert_int_eq(os_file_read(path, text, sizeof(text) - 1, &len), 0);
            ck_assert_ptr_null(memmem(text, len, CANARY, strlen(CANARY)));
        }
    }
    run_loop_ms(5000);
    ck_assert_uint_eq(calls, 1);
}
END_TEST

START_TEST(many_at_once)
{
    struct fence_exec *many[20];

    agent("cat >/dev/null; sleep 0.5; exit 0");
    for (unsigned i = 0; i < ARRAY_SIZE(many); i++) {
        ck_assert_int_eq(fence_exec_start(runner, &device, FENCE_ACTION_OFF, false, 10000,
                                          NULL, NULL, &many[i], &error),
                         0);
    }
    run(FENCE_ACTION_OFF, 10000);
    ck_assert_int_eq(got.code, 0);
    run_loop_ms(500);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("fence_exec");
    TCase *tc = tcase_create("all");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, exit_codes, 0, 4);
    tcase_add_test(tc, input_argv_and_environment);
    tcase_add_test(tc, hang_is_timeout);
    tcase_add_test(tc, success_after_sigterm_is_timeout);
    tcase_add_test(tc, ignores_sigterm);
    tcase_add_test(tc, children_go_with_it);
    tcase_add_test(tc, escaped_children_go_too);
    tcase_add_test(tc, fork_bomb_in_the_group);
    tcase_add_test(tc, a_gigabyte_of_output);
    tcase_add_test(tc, endless_output_is_timeout);
    tcase_add_test(tc, printed_secret_is_hidden);
    tcase_add_test(tc, half_a_printed_secret_is_hidden);
    tcase_add_test(tc, crash_is_not_an_answer);
    tcase_add_test(tc, refused_agents);
    tcase_add_test(tc, refused_secrets);
    tcase_add_test(tc, held_agent_is_quick_and_harmless);
    tcase_add_test(tc, held_agent_learns_its_action_last);
    tcase_add_test(tc, held_agent_is_killed_before_its_input_ends);
    tcase_add_test(tc, nothing_in_proc_while_it_runs);
    tcase_add_test(tc, many_at_once);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
