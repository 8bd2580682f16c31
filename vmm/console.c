/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/console.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/os.h"
#include "vmm/rot_file.h"
#include "vmm/sandbox.h"

#define NO_FD (-1)

struct console {
    struct loop *loop;
    struct console_conf conf;
    bool has_log;
    struct rot_file log;
    int listen_fd, client_fd;
    bool client_reading; /* POLLIN is asked for */
    uint64_t client_pos; /* next byte of the stream for the client */
    uint8_t *replay;     /* the last CONSOLE_REPLAY_LEN bytes of the stream */
    uint64_t written;    /* length of the stream */
};

static int on_client(int fd, int revents, void *data);

static void client_drop(struct console *c)
{
    if (c->client_fd < 0) {
        return;
    }
    loop_fd_del(c->loop, c->client_fd);
    close(c->client_fd);
    c->client_fd = NO_FD;
    log_info("console: client detached");
}

/* Asks for what can be done now: write when the client lags behind, read when the guest
 * has room. */
static void client_poll(struct console *c)
{
    int events = 0;

    if (c->client_fd < 0) {
        return;
    }
    if (c->client_pos < c->written) {
        events |= POLLOUT;
    }
    if (byte_ring_room(c->conf.in) > 0) {
        events |= POLLIN;
    }
    if (loop_fd_mod(c->loop, c->client_fd, events, on_client, c) < 0) {
        client_drop(c);
    }
}

static void client_write(struct console *c)
{
    while (c->client_fd >= 0 && c->client_pos < c->written) {
        uint64_t oldest =
            c->written > CONSOLE_REPLAY_LEN ? c->written - CONSOLE_REPLAY_LEN : 0;
        size_t at, len;
        ssize_t n;

        if (c->client_pos < oldest) {
            c->client_pos = oldest; /* too slow: it loses the middle, not the end */
        }
        at = c->client_pos % CONSOLE_REPLAY_LEN;
        len = c->written - c->client_pos;
        if (len > CONSOLE_REPLAY_LEN - at) {
            len = CONSOLE_REPLAY_LEN - at;
        }
        n = send(c->client_fd, c->replay + at, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (n <= 0) {
            client_drop(c);
            return;
        }
        c->client_pos += (uint64_t)n;
    }
}

static void client_read(struct console *c)
{
    uint8_t keys[256];
    size_t room = byte_ring_room(c->conf.in);
    ssize_t n;

    if (room == 0) {
        return;
    }
    n = recv(c->client_fd, keys, room < sizeof keys ? room : sizeof keys, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        client_drop(c);
        return;
    }
    (void)byte_ring_put(c->conf.in, keys, (size_t)n);
    c->conf.in_ready(c->conf.ctx);
}

static int on_client(int fd, int revents, void *data)
{
    struct console *c = data;

    if (fd != c->client_fd) {
        return -1;
    }
    if (revents & POLLOUT) {
        client_write(c);
    }
    if (c->client_fd >= 0 && (revents & (POLLIN | POLLHUP | POLLERR))) {
        if (revents & POLLIN) {
            client_read(c);
        } else {
            client_drop(c);
        }
    }
    client_poll(c);
    return 0;
}

static void refuse(int fd, const char *text)
{
    (void)!send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

static int on_listen(int fd, int revents, void *data)
{
    struct console *c = data;
    struct os_peer peer;
    int client, r;

    (void)revents;
    r = os_unix_accept(fd, &client);
    if (r < 0) {
        return 0;
    }
    r = os_unix_peer(client, &peer);
    if (r < 0 || (peer.uid != 0 && peer.uid != geteuid())) {
        refuse(client, "gemel-vmm: this user may not attach to the console\r\n");
        return 0;
    }
    if (c->client_fd >= 0) {
        refuse(client, "gemel-vmm: the console is in use by another client\r\n");
        return 0;
    }
    c->client_fd = client;
    c->client_pos = c->written > CONSOLE_REPLAY_LEN ? c->written - CONSOLE_REPLAY_LEN : 0;
    if (loop_fd_add(c->loop, client, POLLIN, on_client, c) < 0) {
        close(client);
        c->client_fd = NO_FD;
        return 0;
    }
    log_info("console: client attached: pid=%d uid=%u", (int)peer.pid,
             (unsigned)peer.uid);
    client_write(c);
    client_poll(c);
    return 0;
}

/* A stream socket: people attach with their own tools. */
static int stream_listen(const char *path, int *ret_fd)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct stat st;
    int fd, r;

    if (strlen(path) == 0 || strlen(path) >= sizeof addr.sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(addr.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    if (lstat(path, &st) == 0) {
        bool alive =
            connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0 || errno == EAGAIN;

        if (alive || !S_ISSOCK(st.st_mode)) {
            close(fd);
            return alive ? -EADDRINUSE : -EEXIST;
        }
        (void)unlink(path); /* left behind by a VMM that was killed */
    }
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 || chmod(path, 0660) < 0 ||
        listen(fd, 4) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int console_open(struct loop *loop, const struct console_conf *conf,
                 struct console **ret_console, struct vmm_error *err)
{
    struct console *c = calloc(1, sizeof *c);
    int r = -ENOMEM;

    if (!c) {
        return vmm_fail(err, r, "no memory for the console");
    }
    c->loop = loop;
    c->conf = *conf;
    c->listen_fd = c->client_fd = NO_FD;
    c->log.fd = NO_FD;
    c->replay = malloc(CONSOLE_REPLAY_LEN);
    if (!c->replay) {
        vmm_fail(err, r, "no memory for the console");
        goto out;
    }
    if (conf->log_path) {
        r = rot_file_open(&c->log, conf->log_path, LOG_FILE_BYTES_MAX, err);
        if (r < 0) {
            goto out;
        }
        c->has_log = true;
    }
    if (conf->socket_path) {
        r = stream_listen(conf->socket_path, &c->listen_fd);
        if (r >= 0) {
            r = loop_fd_add(loop, c->listen_fd, POLLIN, on_listen, c);
        }
        if (r < 0) {
            vmm_fail(err, r, "cannot listen for console clients on %s: %s",
                     conf->socket_path, strerror(-r));
            goto out;
        }
    }
    *ret_console = c;
    return 0;
out:
    console_close(c);
    return r;
}

void console_close(struct console *c)
{
    if (!c) {
        return;
    }
    if (c->replay) {
        console_pump(c);
    }
    client_drop(c);
    if (c->listen_fd >= 0) {
        loop_fd_del(c->loop, c->listen_fd);
        close(c->listen_fd);
        if (!sandbox_entered()) { /* else its name is out of reach */
            (void)unlink(c->conf.socket_path);
        }
    }
    rot_file_close(&c->log);
    free(c->replay);
    free(c);
}

static void remember(struct console *c, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        c->replay[(c->written + i) % CONSOLE_REPLAY_LEN] = bytes[i];
    }
    c->written += len;
}

void console_pump(struct console *c)
{
    uint8_t chunk[4096];
    size_t len;

    while ((len = byte_ring_get(c->conf.out, chunk, sizeof chunk)) > 0) {
        remember(c, chunk, len);
        if (c->has_log) {
            int r = rot_file_write(&c->log, chunk, len);

            if (r < 0) {
                log_warn("console: cannot write %s: %s; output is kept for attached "
                         "clients only",
                         c->conf.log_path, strerror(-r));
            }
        }
        byte_ring_done(c->conf.out);
        client_write(c);
    }
    client_poll(c);
}

void console_in_room(struct console *c)
{
    client_poll(c);
}
