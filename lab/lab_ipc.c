/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/lab_ipc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int lab_ipc_pair(int ret_fds[static 2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds) < 0 ? -errno
                                                                              : 0;
}

/* sun_path is short: the directory is opened and named through its fd. */
static int address(const char *dir, struct sockaddr_un *ret_sun)
{
    int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    *ret_sun = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(ret_sun->sun_path, sizeof ret_sun->sun_path, "/proc/self/fd/%d/ctl.sock",
             fd);
    return fd;
}

int lab_ipc_listen(const char *dir, int *ret_fd)
{
    struct sockaddr_un sun;
    int r = 0, fd = -1;

    int dirfd = address(dir, &sun);
    if (dirfd < 0) {
        return dirfd;
    }
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || (unlinkat(dirfd, "ctl.sock", 0) < 0 && errno != ENOENT) ||
        bind(fd, (struct sockaddr *)&sun, sizeof sun) < 0 || listen(fd, 32) < 0) {
        r = -errno;
    }
    close(dirfd);
    if (r < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int lab_ipc_connect(const char *dir, int *ret_fd)
{
    struct sockaddr_un sun;
    int r = 0;

    int dirfd = address(dir, &sun);
    if (dirfd < 0) {
        return dirfd;
    }
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof sun) < 0) {
        r = -errno;
        if (fd >= 0) {
            close(fd);
        }
    } else {
        *ret_fd = fd;
    }
    close(dirfd);
    return r;
}

int lab_ipc_send(int sock, const void *buf, size_t len, int fd)
{
    struct iovec iov = {.iov_base = (void *)buf, .iov_len = len};
    union {
        struct cmsghdr header;
        char buf[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        msg.msg_control = control.buf;
        msg.msg_controllen = sizeof control.buf;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    for (;;) {
        if (sendmsg(sock, &msg, MSG_NOSIGNAL) >= 0) {
            return 0;
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
}

ssize_t lab_ipc_recv(int sock, char *buf, size_t cap, int *ret_fd)
{
    struct iovec iov = {.iov_base = buf, .iov_len = cap - 1};
    union {
        struct cmsghdr header;
        char buf[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    if (ret_fd != NULL) {
        *ret_fd = -1;
        msg.msg_control = control.buf;
        msg.msg_controllen = sizeof control.buf;
    }
    do {
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    buf[n] = '\0';
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); ret_fd != NULL && c != NULL;
         c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            memcpy(ret_fd, CMSG_DATA(c), sizeof *ret_fd);
        }
    }
    return n;
}

int lab_ipc_args(char *buf, size_t len, const char *args[static LAB_ARGS_MAX])
{
    int count = 0;

    if (len == 0 || buf[len - 1] != '\0') {
        return -EBADMSG;
    }
    for (size_t pos = 0; pos < len; pos += strlen(buf + pos) + 1) {
        if (count == LAB_ARGS_MAX - 1) {
            return -EBADMSG;
        }
        args[count++] = buf + pos;
    }
    args[count] = NULL;
    return count;
}

int lab_ipc_call(const char *dir, const char *const args[], char *text, size_t cap,
                 int *ret_fd)
{
    char buf[LAB_IPC_MAX];
    size_t len = 0;
    int sock;

    for (size_t i = 0; args[i] != NULL; i++) {
        size_t n = strlen(args[i]) + 1;
        if (len + n > sizeof buf) {
            return -E2BIG;
        }
        memcpy(buf + len, args[i], n);
        len += n;
    }
    int r = lab_ipc_connect(dir, &sock);
    if (r < 0) {
        return r;
    }
    r = lab_ipc_send(sock, buf, len, -1);
    ssize_t n = r < 0 ? r : lab_ipc_recv(sock, buf, sizeof buf, ret_fd);
    close(sock);
    if (n <= 0) {
        return n < 0 ? (int)n : -ECONNRESET;
    }
    char *end;
    long code = strtol(buf, &end, 10);
    if (end == buf || *end != '\n' || code < 0 || code > 255) {
        return -EBADMSG;
    }
    snprintf(text, cap, "%s", end + 1);
    return (int)code;
}
