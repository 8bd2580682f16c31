/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/console: output to the log and to a client that comes late, is slow, or is one too
 * many; keys no faster than the guest takes them; a log that cannot be written. */
#include "vmm/console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/units.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static struct loop *loop;
static struct console *console;
static struct byte_ring out, in;
static unsigned in_ready;
static struct vmm_error err;
static char log_path[512], socket_path[512];

static void on_in_ready(void *ctx)
{
    (void)ctx;
    in_ready++;
}

static int open_console(const char *log, const char *path)
{
    struct console_conf conf = {.log_path = log,
                                .socket_path = path,
                                .out = &out,
                                .in = &in,
                                .in_ready = on_in_ready};

    return console_open(loop, &conf, &console, &err);
}

static void setup(void)
{
    scratch_setup();
    strcpy(log_path, scratch_path("console.log"));
    strcpy(socket_path, scratch_path("s"));
    in_ready = 0;
    ck_assert_int_eq(loop_new(&loop), 0);
    ck_assert_int_eq(byte_ring_init(&out, 1 << 18), 0);
    ck_assert_int_eq(byte_ring_init(&in, 64), 0);
    ck_assert_msg(open_console(log_path, socket_path) == 0, "%s", err.text);
}

static void teardown(void)
{
    struct stat st;

    console_close(console);
    ck_assert_int_eq(lstat(socket_path, &st), -1); /* its name went with it */
    byte_ring_free(&out);
    byte_ring_free(&in);
    loop_free(loop);
    scratch_teardown();
}

static void on_stop(void *data)
{
    (void)data;
    loop_stop(loop);
}

static void pump(void)
{
    loop_timer timer = 0;

    ck_assert_int_eq(loop_timer_add(loop, 5 * NSEC_PER_MSEC, on_stop, NULL, &timer), 0);
    loop_run(loop);
    console_pump(console);
}

static int attach(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    strcpy(addr.sun_path, socket_path);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    pump();
    return fd;
}

/* What has come, up to all of it. */
static size_t take(int fd, uint8_t *bytes, size_t cap)
{
    size_t len = 0;

    for (unsigned i = 0; i < 200; i++) {
        ssize_t n = recv(fd, bytes + len, cap - len, 0);

        if (n <= 0 && len > 0) {
            break;
        }
        len += n > 0 ? (size_t)n : 0;
        pump();
    }
    return len;
}

static void say(const char *text)
{
    byte_ring_put(&out, text, strlen(text));
    pump();
}

START_TEST(late_and_one_at_a_time)
{
    uint8_t bytes[4096];
    int first, second;

    say("hello ");
    first = attach();
    say("world");
    ck_assert_uint_eq(take(first, bytes, sizeof bytes), 11);
    ck_assert_mem_eq(bytes, "hello world", 11);
    second = attach();
    bytes[take(second, bytes, sizeof bytes - 1)] = '\0';
    ck_assert_ptr_nonnull(strstr((char *)bytes, "in use by another client"));
    close(second);
    close(first);
    pump();
    second = attach();
    ck_assert_uint_eq(take(second, bytes, sizeof bytes), 11);
    close(second);
}
END_TEST

/* A client that does not read loses the middle; the log has everything. */
START_TEST(slow_client)
{
    static uint8_t bytes[1 << 21];
    uint32_t number = 0;
    int fd = attach(), tiny = 4096;
    struct stat st;
    size_t len;

    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &tiny, sizeof tiny), 0);
    for (unsigned n = 0; n < 1 << 18; n++, number++) { /* 1 MiB of numbers */
        byte_ring_put(&out, &number, sizeof number);
        if (n % 4096 == 0) {
            console_pump(console);
        }
    }
    console_pump(console);
    ck_assert_int_eq(stat(log_path, &st), 0);
    ck_assert_int_eq(st.st_size, 4 << 18);
    ck_assert_uint_eq(atomic_load(&out.dropped), 0);
    len = take(fd, bytes, sizeof bytes);
    ck_assert_uint_ge(len, CONSOLE_REPLAY_LEN);
    ck_assert_uint_lt(len, 1 << 20);
    memcpy(&number, bytes + len - 4, 4);
    ck_assert_uint_eq(number, (1 << 18) - 1); /* never the end */
    close(fd);
}
END_TEST

START_TEST(keys_wait_for_the_guest)
{
    uint8_t keys[300], got[64];
    int fd = attach();
    size_t total = 0;

    for (size_t i = 0; i < sizeof keys; i++) {
        keys[i] = (uint8_t)i;
    }
    ck_assert_int_eq(send(fd, keys, sizeof keys, 0), sizeof keys);
    for (unsigned i = 0; i < 50 && total < sizeof keys; i++) {
        size_t len;

        pump();
        ck_assert_uint_eq(atomic_load(&in.dropped), 0);
        len = byte_ring_get(&in, got, 7); /* the guest is slow */
        ck_assert(memcmp(got, keys + total, len) == 0);
        total += len;
        console_in_room(console);
    }
    ck_assert_uint_eq(total, sizeof keys);
    ck_assert_uint_gt(in_ready, 3);
    close(fd);
}
END_TEST

/* The guest and its clients go on without a log; one that cannot begin says why. */
START_TEST(what_cannot_be_made)
{
    uint8_t bytes[16];
    int fd;

    console_close(console);
    ck_assert_int_eq(unlink(log_path), 0);
    ck_assert_int_eq(mkdir(log_path, 0700), 0);
    ck_assert_int_lt(open_console(log_path, socket_path), 0);
    ck_assert_ptr_nonnull(strstr(err.text, log_path));
    ck_assert_int_lt(open_console(NULL, log_path), 0); /* no socket to be replaced */
    ck_assert_ptr_nonnull(strstr(err.text, "cannot listen for console clients on"));
    ck_assert_int_lt(open_console(NULL, "/no/such/dir/s"), 0);
    memset(socket_path, 'x', 200);
    socket_path[200] = '\0';
    ck_assert_int_eq(open_console(NULL, socket_path), -ENAMETOOLONG);
    strcpy(socket_path, scratch_path("s"));
    ck_assert_int_eq(open_console("/dev/full", socket_path), 0);
    fd = attach();
    say("x");
    ck_assert_uint_eq(take(fd, bytes, sizeof bytes), 1);
    {
        struct console *one = console;

        ck_assert_int_eq(open_console(NULL, socket_path), -EADDRINUSE);
        console = one;
    }
    close(fd);
}
END_TEST

static Suite *console_suite(void)
{
    Suite *suite = suite_create("console");
    TCase *tc = tcase_create("console");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, late_and_one_at_a_time);
    tcase_add_test(tc, slow_client);
    tcase_add_test(tc, keys_wait_for_the_guest);
    tcase_add_test(tc, what_cannot_be_made);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(console_suite)
