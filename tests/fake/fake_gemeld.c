/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent for tests of the command line: answers from files, over the real server
 * (tests/fake/fake_cli_server).
 *
 *     fake_gemeld SERVICE DIR     prints "ready" when it listens; ends at SIGTERM or when
 * its stdin is closed
 *
 * DIR/console.sock is a guest's console: it says "login: ", and everything back in
 * capitals. For the verb "vm start" it reads DIR/vm_start.{exit,text,json,progress}, each
 * optional; without any of them the answer is exit 2. DIR/vm_start.silent: no answer.
 * Each request is appended to DIR/requests, one line.
 */
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "tests/fake/fake_cli_server.h"

struct fake {
    struct loop *loop;
    struct cli_server *server;
    const char *dir;
};

/* NULL if there is no such file. */
static char *answer_part(const struct fake *fake, const char *verb, const char *part,
                         char *buf, size_t cap)
{
    char path[512];
    size_t len;

    snprintf(path, sizeof path, "%s/%s.%s", fake->dir, verb, part);
    for (char *p = path + strlen(fake->dir) + 1; *p != '\0'; p++) {
        *p = *p == ' ' || *p == '/' ? '_' : *p;
    }
    if (os_file_read(path, buf, cap, &len) < 0) {
        return NULL;
    }
    buf[len] = '\0';
    if (len > 0 && buf[len - 1] == '\n') {
        buf[len - 1] = '\0';
    }
    return buf;
}

static void note(const struct fake *fake, const Gemel__CliRequest *request)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof path, "%s/requests", fake->dir);
    file = fopen(path, "ae");
    if (file == NULL) {
        return;
    }
    fprintf(file, "%s|%s|", request->verb, request->object);
    for (size_t i = 0; i < request->n_options; i++) {
        fprintf(file, "%s%s", i > 0 ? "," : "", request->options[i]);
    }
    fprintf(file,
            "|reason=%s|timeout=%u wait=%d dry_run=%d version=%u|body=%zu|actor=%s\n",
            request->reason, request->timeout_ms, request->wait, request->dry_run,
            request->version, strlen(request->body), request->actor);
    fclose(file);
}

static void on_request(uint64_t client, const Gemel__CliRequest *request, void *data)
{
    static char exit_buf[16], text_buf[4096], json_buf[4 << 20];
    struct fake *fake = data;
    const char *code, *text, *json;

    note(fake, request);
    if (answer_part(fake, request->verb, "silent", text_buf, sizeof text_buf - 1) !=
        NULL) {
        return;
    }
    if (answer_part(fake, request->verb, "progress", text_buf, sizeof text_buf - 1) !=
        NULL) {
        Gemel__CliReply progress = GEMEL__CLI_REPLY__INIT;

        progress.text = text_buf;
        cli_server_reply(fake->server, client, &progress);
    }
    code = answer_part(fake, request->verb, "exit", exit_buf, sizeof exit_buf - 1);
    text = answer_part(fake, request->verb, "text", text_buf, sizeof text_buf - 1);
    json = answer_part(fake, request->verb, "json", json_buf, sizeof json_buf - 1);
    if (code == NULL && text == NULL && json == NULL) {
        cli_server_finish(fake->server, client, 2,
                          "the fake agent has no answer to this verb", NULL);
        return;
    }
    cli_server_finish(fake->server, client,
                      code != NULL ? (uint32_t)strtoul(code, NULL, 10) : 0,
                      text != NULL ? text : "", json);
}

static void on_term(int signo, void *data)
{
    struct fake *fake = data;

    (void)signo;
    loop_stop(fake->loop);
}

/* The test that started us has ended, however it did. */
static int on_stdin(int fd, int revents, void *data)
{
    struct fake *fake = data;
    char byte;

    if ((revents & (POLLHUP | POLLERR)) != 0 || read(fd, &byte, 1) <= 0) {
        loop_stop(fake->loop);
        return -1;
    }
    return 0;
}

/* ---- the console ---- */

static int on_console_bytes(int fd, int revents, void *data)
{
    char bytes[256];
    ssize_t got = read(fd, bytes, sizeof bytes);

    (void)revents;
    (void)data;
    if (got <= 0) {
        close(fd);
        return -1;
    }
    for (ssize_t i = 0; i < got; i++) {
        bytes[i] = (char)toupper((unsigned char)bytes[i]);
    }
    return os_write_all(fd, bytes, (size_t)got);
}

static int on_console(int fd, int revents, void *data)
{
    struct fake *fake = data;
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

    (void)revents;
    if (client >= 0 &&
        (os_write_all(client, "login: ", 7) < 0 ||
         loop_fd_add(fake->loop, client, POLLIN, on_console_bytes, fake) < 0)) {
        close(client);
    }
    return 0;
}

static int console_listen(struct fake *fake)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s/console.sock", fake->dir);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 ||
        listen(fd, 1) < 0) {
        return -errno;
    }
    return loop_fd_add(fake->loop, fd, POLLIN, on_console, fake);
}

int main(int argc, char *argv[])
{
    struct fake fake = {0};
    int r;

    if (argc != 3) {
        fprintf(stderr, "usage: fake_gemeld SERVICE DIR\n");
        return EXIT_FAILURE;
    }
    fake.dir = argv[2];
    r = log_open("fake_gemeld", NULL, LOG_WARNING);
    if (r == 0) {
        r = loop_new(&fake.loop);
    }
    if (r == 0) {
        r = cli_server_new(fake.loop, argv[1], "gemel", on_request, &fake, &fake.server);
    }
    if (r == 0) {
        r = console_listen(&fake);
    }
    if (r == 0) {
        r = loop_signal_add(fake.loop, SIGTERM, on_term, &fake);
    }
    if (r == 0) {
        r = loop_fd_add(fake.loop, STDIN_FILENO, POLLIN, on_stdin, &fake);
    }
    if (r == 0) {
        printf("ready\n");
        fflush(stdout);
        loop_run(fake.loop);
    } else {
        fprintf(stderr, "fake_gemeld: %s\n", strerror(-r));
    }
    cli_server_free(fake.server);
    loop_free(fake.loop);
    log_close();
    return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
