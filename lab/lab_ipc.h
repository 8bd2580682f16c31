/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between the lab's own processes: one SOCK_SEQPACKET datagram of text, with at
 * most one fd. The supervisor listens on D/ctl.sock (D is 0700); a request is a command
 * and its arguments, a reply "CODE\ntext".
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#define LAB_IPC_MAX  16384
#define LAB_ARGS_MAX 16

int lab_ipc_pair(int ret_fds[static 2]);
int lab_ipc_listen(const char *dir, int *ret_fd);
int lab_ipc_connect(const char *dir, int *ret_fd);
/* fd -1: none. */
int lab_ipc_send(int sock, const void *buf, size_t len, int fd);
/* Length (0: the peer is gone) or -errno; terminates buf, which holds cap bytes. *ret_fd
 * is -1 or the caller's to close; NULL: refused. */
ssize_t lab_ipc_recv(int sock, char *buf, size_t cap, int *ret_fd);
/* Splits a request into its arguments; their number, or -EBADMSG. */
int lab_ipc_args(char *buf, size_t len, const char *args[static LAB_ARGS_MAX]);

/*
 * One request to the supervisor of the lab in `dir`. Returns the reply's code or -errno;
 * `text` gets what it says.
 */
int lab_ipc_call(const char *dir, const char *const args[], char *text, size_t cap,
                 int *ret_fd);
