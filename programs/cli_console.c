/* SPDX-License-Identifier: Apache-2.0 */
/* gemel vm console: this terminal on the guest's serial port. */
#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "base/os.h"
#include "programs/cli.h"
#include "programs/cli_agent.h"

#define ESCAPE 0x1d /* Ctrl-] as telnet and virsh have it */

static int connect_to(const char *path, int type, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, r;

    if (strlen(path) >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

/* Up to the escape character; false: leave. */
static bool forward_keys(int socket_fd)
{
    char keys[256];
    ssize_t got = read(STDIN_FILENO, keys, sizeof keys);
    char *escape;

    if (got <= 0) {
        return got < 0 && errno == EINTR;
    }
    escape = memchr(keys, ESCAPE, (size_t)got);
    if (escape != NULL) {
        got = escape - keys;
    }
    return os_write_all(socket_fd, keys, (size_t)got) == 0 && escape == NULL;
}

/* The guest's bytes as they are: this is its terminal. False: the VM closed it. */
static bool forward_output(int socket_fd)
{
    char bytes[4096];
    ssize_t got = read(socket_fd, bytes, sizeof bytes);

    if (got <= 0) {
        return got < 0 && (errno == EINTR || errno == EAGAIN);
    }
    return os_write_all(STDOUT_FILENO, bytes, (size_t)got) == 0;
}

static bool pump(int socket_fd)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = socket_fd, .events = POLLIN}};

    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            return false;
        }
        if (fds[1].revents != 0 && !forward_output(socket_fd)) {
            return true;
        }
        if (fds[0].revents != 0 && !forward_keys(socket_fd)) {
            return false;
        }
    }
}

static enum cli_exit attach(const char *vm, const char *path)
{
    struct termios saved, raw;
    bool tty = tcgetattr(STDIN_FILENO, &saved) == 0, ended;
    int fd, r;

    r = connect_to(path, SOCK_STREAM, &fd);
    if (r == -EPROTOTYPE) {
        r = connect_to(path, SOCK_SEQPACKET, &fd);
    }
    if (r < 0) {
        cli_complain(
            "console of %s at %s: %s; does the VM run on this node? gemel vm show %s", vm,
            path, strerror(-r), vm);
        return r == -EACCES ? CLI_NOT_PERMITTED : CLI_FAILED;
    }
    fprintf(stderr, "console of %s; Ctrl-] leaves\n", vm);
    if (tty) {
        raw = saved;
        cfmakeraw(&raw);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    ended = pump(fd);
    if (tty) {
        tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
    }
    close(fd);
    fprintf(stderr, "\n%s\n",
            ended ? "the VM closed its console" : "left the console; the VM goes on");
    return CLI_DONE;
}

enum cli_exit cli_run_console(const struct cli_call *call)
{
    struct cli_question question;
    struct cli_answer answer;
    struct json_object *root, *socket_path;
    enum cli_exit r;

    cli_question_of(call, &question);
    cli_ask(&question, &answer);
    if (answer.exit_code != CLI_DONE || call->is_set[CLI_OPT_JSON]) {
        r = cli_show_answer(call, &answer);
        cli_answer_free(&answer);
        return r;
    }
    root = json_tokener_parse(answer.json);
    if (json_object_is_type(root, json_type_object) &&
        json_object_object_get_ex(root, "socket", &socket_path) && socket_path != NULL) {
        r = attach(call->object[0], json_object_get_string(socket_path));
    } else {
        cli_complain(
            "the agent named no console of %s; is it running here? gemel vm show %s",
            call->object[0], call->object[0]);
        r = CLI_FAILED;
    }
    json_object_put(root);
    cli_answer_free(&answer);
    return r;
}
