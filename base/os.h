/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thin layer over the kernel that shells share: files, sockets, processes. In
 * libbase_io; 0 or -errno throughout. All fds are close-on-exec.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/loop.h"
#include "base/units.h"

/* Files ------------------------------------------------------------------------------ */
/* Reads a whole file of at most `cap` bytes; NUL-terminates (so buf must hold cap + 1).
 */
int os_file_read(const char *path, void *buf, size_t cap, size_t *ret_len);
/* Write to a temporary name, fsync, rename over `path`, fsync the directory: all or
 * nothing. */
int os_file_replace(const char *path, const void *buf, size_t len, mode_t mode);
int os_dir_fsync(const char *path_of_dir);
int os_mkdir_p(const char *path, mode_t mode);
int os_write_all(int fd, const void *buf, size_t len);

/* Unix stream/seqpacket sockets ------------------------------------------------------ */
struct os_peer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
};
/* SOCK_SEQPACKET, non-blocking. A stale socket is removed first; -EADDRINUSE when
 * somebody listens there, -EEXIST when it is no socket. */
int os_unix_listen(const char *path, mode_t mode, int *ret_fd);
int os_unix_connect(const char *path, int *ret_fd);
/* SOCK_STREAM: a listener, and `count` connections that wait to be accepted there. Its
 * path is gone again: nobody else can connect. 0 or -errno, with nothing left behind. */
int os_unix_streams(const char *path, int *ret_listen_fd, int *ret_fds, unsigned count);
int os_unix_accept(int listen_fd, int *ret_fd);     /* -EAGAIN: nobody waits */
int os_unix_peer(int fd, struct os_peer *ret_peer); /* SO_PEERCRED */

/* TCP sockets ------------------------------------------------------------------------ */
/* All non-blocking, with TCP_NODELAY. Addresses are numbers (IPv4, or IPv6 without
 * brackets), never names. */
struct os_tcp_opts {
    int lost_ms; /* sent and not acknowledged for so long, or silent for about so long:
                    the host is gone (TCP_USER_TIMEOUT, keepalive). 0: the kernel's hours
                  */
    int send_buf, recv_buf; /* bytes; 0: the kernel sizes them */
    int unsent; /* so much may wait in the kernel to be sent (TCP_NOTSENT_LOWAT);
                   0: what the buffer holds */
};
/* Binds the first free port of [port_min, port_max]; both 0: any. Accepted sockets
 * inherit the options. -EADDRNOTAVAIL: no address of this host; -EADDRINUSE: no port is
 * free. */
int os_tcp_listen(const char *address, uint16_t port_min, uint16_t port_max, int backlog,
                  const struct os_tcp_opts *opts, int *ret_fd, uint16_t *ret_port);
/* Begins to connect; when the socket is writable, os_tcp_connected says how it went. */
int os_tcp_connect(const char *address, uint16_t port, const struct os_tcp_opts *opts,
                   int *ret_fd);
int os_tcp_connected(int fd);
/* Waits for it, at most `timeout_ms`: 0, -ETIMEDOUT, or what the network said. */
int os_tcp_wait(int fd, int timeout_ms);
/* Is there a carrier on the interface that has this address? 1, 0, or -errno (-ENODEV: no
 * interface has it). */
int os_net_carrier(const char *address);

/* Processes -------------------------------------------------------------------------- */
struct os_child {
    pid_t pid;
    int pidfd;           /* readable when it has ended */
    uint64_t start_time; /* field 22 of /proc/PID/stat: with the pid, names a process for
                            good */
};
/*
 * fork and exec in a new session and process group. stdin/stdout/stderr from the three
 * fds (-1: /dev/null); pass_fds (all above 2) are kept open under the same numbers, every
 * other fd is closed. Signals are at their defaults, none blocked. argv[0] without a
 * slash is looked up in PATH. env NULL: inherited. Returns after exec: -ENOENT, -EACCES
 * ... are those of the program. On error no process is left behind.
 */
int os_spawn(const char *const argv[], const char *const env[], const int stdio[3],
             const int *pass_fds, size_t pass_fd_count, struct os_child *ret_child);
/* Opens a running process again; -ESRCH when the pid now belongs to another start time.
 */
int os_child_reopen(pid_t pid, uint64_t start_time, struct os_child *ret_child);
/* -ESRCH once it was reaped: to end what a child left behind, signal its group before the
 * reap. */
int os_child_kill_group(const struct os_child *child, int signo);
/* After pidfd became readable. *ret_status as waitpid; -ECHILD if it is not our child
 * (re-adopted), -EAGAIN if it runs. */
int os_child_reap(struct os_child *child, int *ret_status);
void os_child_close(struct os_child *child);
uint64_t os_proc_start_time(pid_t pid); /* 0 if gone */

/* This boot of this machine: /proc/sys/kernel/random/boot_id (the lab binds another over
 * it per node). */
struct uuid os_boot_id(void);

/* CLOCK_REALTIME in ns since 1970: for people (events, reasons) and for the guest's RTC,
 * never for a decision. */
uint64_t os_wall_ns(void);
