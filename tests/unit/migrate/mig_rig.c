/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/migrate/mig_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/os.h"

static const struct mig_conn_rule rules[] = {
    {RIG_SMALL, 1, 1, 0, 64},
    {RIG_BIG, 1, 1, 0, MIG_CONN_BODY_MAX},
    {RIG_PART, 2, 3, 40, 40},
};

static void tcp_pair(int fd[2])
{
    static const struct os_tcp_opts opts = {.lost_ms = 10000};
    struct pollfd p = {.events = POLLIN};
    uint16_t port;
    int l;

    ck_assert_int_eq(os_tcp_listen("127.0.0.1", 0, 0, 1, &opts, &l, &port), 0);
    ck_assert_int_eq(os_tcp_connect("127.0.0.1", port, &opts, &fd[0]), 0);
    ck_assert_int_eq(os_tcp_wait(fd[0], 1000), 0);
    p.fd = l;
    ck_assert_int_eq(poll(&p, 1, 1000), 1);
    fd[1] = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    ck_assert_int_ge(fd[1], 0);
    close(l);
}

void rig_sockets(unsigned kind, int fd[2])
{
    if (kind & RIG_TCP) {
        tcp_pair(fd);
    } else {
        ck_assert_int_eq(
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    }
}

void rig_prepare(struct rig *rig, unsigned kind)
{
    struct vmm_error err;
    bool tls = (kind & ~(unsigned)RIG_TCP) == RIG_TLS;

    memset(rig, 0, sizeof *rig);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(mig_stop_open(&rig->stop[i]), 0);
        ck_assert_int_eq(mig_key_new(&rig->key[i], &err), 0);
    }
    for (int i = 0; i < 2; i++) {
        rig->conf[i] =
            (struct mig_conn_conf){.key = tls ? rig->key[i] : NULL,
                                   .peer = mig_key_fingerprint(rig->key[!i]),
                                   .server = i == 1,
                                   .body_crc = (kind & ~(unsigned)RIG_TCP) == RIG_CRC,
                                   .silence_ms = 2000,
                                   .stop = &rig->stop[i],
                                   .rules = rules,
                                   .rule_count = sizeof rules / sizeof rules[0]};
    }
}

void rig_connect(struct rig *rig, unsigned kind)
{
    static const char *const name[2] = {"source", "destination"};
    struct vmm_error err;

    rig_sockets(kind, rig->fd);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(
            mig_conn_new(rig->fd[i], &rig->conf[i], name[i], &rig->conn[i], &err), 0);
    }
}

void rig_shake(struct rig *rig, int result[2], struct vmm_error err[2])
{
    short events;

    result[0] = result[1] = -EAGAIN;
    for (int i = 0; i < 100 && (result[0] == -EAGAIN || result[1] == -EAGAIN); i++) {
        for (int k = 0; k < 2; k++) {
            if (result[k] == -EAGAIN) {
                result[k] = mig_conn_step_handshake(rig->conn[k], &events, &err[k]);
            }
        }
        (void)poll(NULL, 0, i / 20); /* loopback TCP takes a moment */
    }
}

void rig_open(struct rig *rig, unsigned kind)
{
    struct vmm_error err[2];
    int result[2];

    rig_prepare(rig, kind);
    rig_connect(rig, kind);
    rig_shake(rig, result, err);
    ck_assert_msg(result[0] == 0 && result[1] == 0, "handshake: %d %d", result[0],
                  result[1]);
}

void rig_close(struct rig *rig)
{
    for (int i = 0; i < 2; i++) {
        mig_conn_free(rig->conn[i]);
        mig_key_free(rig->key[i]);
        mig_stop_close(&rig->stop[i]);
    }
}

void rig_send(struct rig *rig, int end, uint16_t type, const void *body, size_t len)
{
    struct iovec v = {(void *)(uintptr_t)body, len};
    struct vmm_error err = {""};
    int r = mig_conn_send(rig->conn[end], type, type == RIG_PART ? 2 : 1, 0, &v, 1, &err);

    ck_assert_msg(r == 0, "send: %d %s", r, err.text);
}

void rig_expect(struct rig *rig, int end, uint16_t type, const void *body, size_t len)
{
    struct mig_conn_head head;
    struct vmm_error err = {""};
    uint8_t *got = malloc(len + 1);
    struct iovec v = {got, len};
    int r = mig_conn_recv_head(rig->conn[end], 2000, &head, &err);

    ck_assert_msg(r == 0, "recv: %d %s", r, err.text);
    ck_assert_uint_eq(head.type, type);
    ck_assert_uint_eq(head.body_len, len);
    r = mig_conn_recv_body(rig->conn[end], &v, 1, &err);
    ck_assert_msg(r == 0, "recv: %d %s", r, err.text);
    ck_assert_mem_eq(got, body, len);
    free(got);
}

void rig_write(int fd, const void *bytes, size_t len)
{
    while (len > 0) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            ck_assert_int_eq(poll(&p, 1, 2000), 1);
            continue;
        }
        ck_assert_int_gt(n, 0);
        bytes = (const char *)bytes + n;
        len -= (size_t)n;
    }
}

double rig_ms_since(uint64_t start_ns)
{
    return (double)(loop_now_ns() - start_ns) / 1e6;
}
