/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/os.h"

static int make_address(const char *path, struct sockaddr_un *ret_addr)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(path);

    if (len == 0) {
        return -EINVAL;
    }
    if (len >= sizeof addr.sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(addr.sun_path, path, len + 1);
    *ret_addr = addr;
    return 0;
}

static int make_socket(int type)
{
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    return fd < 0 ? -errno : fd;
}

static int connect_to(const struct sockaddr_un *addr, int type, int *ret_fd)
{
    int fd = make_socket(type), r;

    if (fd < 0) {
        return fd;
    }
    if (connect(fd, (const struct sockaddr *)addr, sizeof *addr) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int os_unix_connect(const char *path, int *ret_fd)
{
    struct sockaddr_un addr;
    int r = make_address(path, &addr);

    return r < 0 ? r : connect_to(&addr, SOCK_SEQPACKET, ret_fd);
}

int os_unix_streams(const char *path, int *ret_listen_fd, int *ret_fds, unsigned count)
{
    struct sockaddr_un addr;
    int r = make_address(path, &addr), fd;
    unsigned done = 0;

    fd = r < 0 ? r : make_socket(SOCK_STREAM);
    if (fd < 0) {
        return fd;
    }
    (void)unlink(path); /* of a caller that was killed in here */
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 ||
        listen(fd, (int)count) < 0) {
        r = -errno;
    }
    while (r == 0 && done < count) {
        r = connect_to(&addr, SOCK_STREAM, &ret_fds[done]);
        done += r == 0;
    }
    (void)unlink(path);
    if (r < 0) {
        while (done > 0) {
            close(ret_fds[--done]);
        }
        close(fd);
        return r;
    }
    *ret_listen_fd = fd;
    return 0;
}

/* Makes way for a new listener: removes a socket nobody listens on; refuses to touch
 * anything else. */
static int remove_stale(const char *path)
{
    struct stat st;
    int fd, r;

    if (lstat(path, &st) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return -EEXIST;
    }
    r = os_unix_connect(path, &fd);
    if (r == 0) {
        close(fd);
    }
    if (r == 0 || r == -EAGAIN) { /* EAGAIN: alive, its backlog is full */
        return -EADDRINUSE;
    }
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int os_unix_listen(const char *path, mode_t mode, int *ret_fd)
{
    struct sockaddr_un addr;
    bool bound = false;
    int fd = -1, r;

    r = make_address(path, &addr);
    if (r < 0) {
        return r;
    }
    r = remove_stale(path);
    if (r < 0) {
        return r;
    }
    fd = make_socket(SOCK_SEQPACKET);
    if (fd < 0) {
        return fd;
    }
    /* The mode before bind closes the moment in which the umask alone would decide; after
     * it, it is exact. */
    if (fchmod(fd, mode) < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0) {
        r = -errno;
        goto out;
    }
    bound = true;
    if (chmod(path, mode) < 0 || listen(fd, CTL_CLIENTS_MAX) < 0) {
        r = -errno;
        goto out;
    }
    *ret_fd = fd;
    return 0;
out:
    if (bound) {
        unlink(path);
    }
    close(fd);
    return r;
}

int os_unix_accept(int listen_fd, int *ret_fd)
{
    int fd;

    do {
        fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd < 0) {
        return -errno;
    }
    *ret_fd = fd;
    return 0;
}

int os_unix_peer(int fd, struct os_peer *ret_peer)
{
    struct ucred cred;
    socklen_t len = sizeof cred;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
        return -errno;
    }
    *ret_peer = (struct os_peer){.pid = cred.pid, .uid = cred.uid, .gid = cred.gid};
    return 0;
}
