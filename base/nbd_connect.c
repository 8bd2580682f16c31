/* SPDX-License-Identifier: Apache-2.0 */
/* The part of base/nbd_uri.h that makes sockets. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/nbd_uri.h"
#include "base/os.h"

/* A host that lost its power says nothing: this long without an answer of its kernel ends
 * the connection. */
#define LOST_MS 30000

/* A full backlog of a Unix socket (EAGAIN) is an error like any other. */
static int connect_unix(const struct nbd_uri *uri, int *ret_fd)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r;

    if (fd < 0) {
        return -errno;
    }
    memcpy(a.sun_path, uri->path, sizeof uri->path);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int nbd_uri_connect(const struct nbd_uri *uri, int timeout_ms, int *ret_fd)
{
    static const struct os_tcp_opts opts = {.lost_ms = LOST_MS};
    static const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    int fd, r;

    if (uri->is_unix) {
        return connect_unix(uri, ret_fd);
    }
    r = os_tcp_connect(uri->address, uri->port, &opts, &fd);
    if (r < 0) {
        return r;
    }
    r = os_tcp_wait(fd, timeout_ms);
    /* With its last owner goes what the kernel has not sent: it would try again for
     * LOST_MS, when somebody else may write to the disk already. */
    if (r == 0 && setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) < 0) {
        r = -errno;
    }
    if (r < 0) {
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}
