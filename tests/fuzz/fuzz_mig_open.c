/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a stranger may send to a destination before it is known: any bytes, in two
 * helpings. First byte: bit 0 puts the header's magic and checksum right, bit 1 the
 * secret of the OPEN frame, bit 2 lets stream 0 be there already, bit 3 asks for the
 * answer of a destination in place of OPEN; the upper four say where it is cut.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/frame.h"
#include "migrate/mig_listen_priv.h"

#define STREAM_MAX 4096

FUZZ_GOALS("a header was taken", "an OPEN was read", "a stranger joined", "a wrong token",
           "a replay", "another version", "an answer was read")
enum { HEADER, READ, JOINED, TOKEN, REPLAY, VERSION, ANSWER };

static const struct mig_conn_rule answer_rule = {MIG_TYPE_ANSWER, 1, 1,
                                                 MIG_ANSWER_LEN_MIN, MIG_ANSWER_LEN_MAX};
static struct mig_stop never;

static void put_right(uint8_t *bytes, size_t len, uint8_t mode)
{
    struct bytes_wr wr = bytes_wr_make(bytes, 4);

    if (len < FRAME_HEADER_LEN) {
        return;
    }
    if (mode & 1) {
        bytes_wr_u32(&wr, MIG_CONN_MAGIC);
        wr = bytes_wr_make(bytes + 28, 4);
        bytes_wr_u32(&wr, crc32c(0, bytes, 28));
    }
    if ((mode & 2) && len >= FRAME_HEADER_LEN + MIG_OPEN_LEN) {
        memset(bytes + FRAME_HEADER_LEN + 8, 0x55, 32);
    }
}

static void send_some(int fd, const uint8_t *bytes, size_t len)
{
    BUG_ON(len > 0 && write(fd, bytes, len) != (ssize_t)len);
}

static void as_destination(struct mig_conn *conn, int fd, const uint8_t *bytes,
                           size_t len, size_t cut, uint8_t mode)
{
    struct mig_stranger s = {.conn = conn};
    struct mig_roll roll = {.joined = mode >> 2 & 1, .count = mode & 4 ? 3 : 0};
    struct mig_listen_counts c = {.accepted = 1};
    uint32_t before = roll.joined;
    int r;

    memset(&roll.transfer, 0x55, sizeof roll.transfer);
    memset(&roll.token, 0x55, sizeof roll.token);
    send_some(fd, bytes, cut);
    r = mig_stranger_step(&s, &roll, &c);
    if (r == -EAGAIN) {
        send_some(fd, bytes + cut, len - cut);
        shutdown(fd, SHUT_WR);
        r = mig_stranger_step(&s, &roll, &c);
        BUG_ON(r == -EAGAIN); /* the end is there */
    }
    /* In with the secret only, and everybody else is counted once. */
    BUG_ON((r == 0) != (roll.joined != before));
    BUG_ON((r == 0) == (c.refused + c.rubbish + c.token + c.replayed == 1));
    if (r == 0) {
        BUG_ON(len < FRAME_HEADER_LEN + MIG_OPEN_LEN || s.index >= roll.count);
        for (size_t i = 0; i < 32; i++) {
            BUG_ON(bytes[FRAME_HEADER_LEN + 8 + i] != 0x55);
        }
    }
    fuzz_reach(HEADER, mig_conn_recv_left(conn) > 0 || r == 0);
    fuzz_reach(READ, r == 0 || c.token + c.replayed > 0);
    fuzz_reach(JOINED, r == 0);
    fuzz_reach(TOKEN, c.token > 0);
    fuzz_reach(REPLAY, c.replayed > 0);
    fuzz_reach(VERSION, strstr(c.last, "no version") != NULL);
}

static void as_source(struct mig_conn *conn, int fd, const uint8_t *bytes, size_t len,
                      size_t cut)
{
    uint8_t body[MIG_ANSWER_LEN_MAX];
    struct mig_answer_msg msg;
    struct mig_conn_head head;
    struct vmm_error err;
    int r;

    mig_conn_expect(conn, &answer_rule, 1);
    send_some(fd, bytes, cut);
    r = mig_conn_step_frame(conn, &head, body, sizeof body, &err);
    if (r == -EAGAIN) {
        send_some(fd, bytes + cut, len - cut);
        shutdown(fd, SHUT_WR);
        r = mig_conn_step_frame(conn, &head, body, sizeof body, &err);
        BUG_ON(r == -EAGAIN);
    }
    if (r == 0 && mig_answer_decode(body, head.body_len, &msg)) {
        BUG_ON(strlen(msg.text) > MIG_ANSWER_TEXT_MAX || strpbrk(msg.text, "\033\n"));
        fuzz_reach(ANSWER, true);
    }
}

FUZZ_ONE(data, len)
{
    static const struct mig_conn_conf conf = {
        .server = true, .silence_ms = 10, .stop = &never};
    uint8_t bytes[STREAM_MAX];
    struct mig_conn *conn;
    struct vmm_error err;
    size_t cut;
    int fd[2];

    if (len < 1 || len > sizeof bytes) {
        return -1;
    }
    if (never.fd == 0) {
        BUG_ON(mig_stop_open(&never) < 0);
    }
    len--;
    memcpy(bytes, data + 1, len);
    put_right(bytes, len, data[0]);
    cut = len * (data[0] >> 4) / 15;
    BUG_ON(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) < 0);
    BUG_ON(mig_conn_new(fd[1], &conf, "fuzz", &conn, &err) < 0);
    mig_conn_expect(conn, mig_stranger_rule, 1);
    if (data[0] & 8) {
        as_source(conn, fd[0], bytes, len, cut);
    } else {
        as_destination(conn, fd[0], bytes, len, cut, data[0]);
    }
    mig_conn_free(conn);
    close(fd[0]);
    return 0;
}
