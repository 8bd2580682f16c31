/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vmm/nbd_rig.h"

#include <arpa/inet.h>
#include <check.h>
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define OPT_MAGIC       UINT64_C(0x49484156454F5054) /* IHAVEOPT */
#define OPT_REPLY       UINT64_C(0x3e889045565a9)
#define REQUEST_MAGIC   0x25609513u
#define REPLY_MAGIC     0x67446698u
#define OPT_ABORT       2u
#define OPT_INFO        6u
#define OPT_GO          7u
#define REP_ACK         1u
#define REP_INFO        3u
#define REP_ERR_UNSUP   0x80000001u
#define INFO_EXPORT     0u
#define INFO_TEXT       2u
#define REP_ERR_UNKNOWN 0x80000006u
#define INFO_BLOCKSIZE  3u
#define CMD_FUA         1u
#define LEN_MAX         (64u * 1024 * 1024)

static bool get(int fd, void *buf, size_t len)
{
    return len == 0 || recv(fd, buf, len, MSG_WAITALL) == (ssize_t)len;
}

static bool put(int fd, const void *buf, size_t len)
{
    return send(fd, buf, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static void be(uint8_t *p, uint64_t v, unsigned len)
{
    while (len > 0) {
        p[--len] = (uint8_t)v;
        v >>= 8;
    }
}

static uint64_t from_be(const uint8_t *p, unsigned len)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < len; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

static bool reply_option(int fd, uint32_t option, uint32_t type, const uint8_t *data,
                         uint32_t len)
{
    uint8_t head[20];

    be(head, OPT_REPLY, 8);
    be(head + 8, option, 4);
    be(head + 12, type, 4);
    be(head + 16, len, 4);
    return put(fd, head, sizeof head) && (len == 0 || put(fd, data, len));
}

static bool tell_export(struct nbd_rig *rig, uint32_t option)
{
    uint8_t info[14];

    be(info, INFO_EXPORT, 2);
    be(info + 2, rig->size, 8);
    be(info + 10, rig->flags, 2);
    if (!reply_option(rig->fd, option, REP_INFO, info, 12)) {
        return false;
    }
    if (rig->block_min != 0) {
        be(info, INFO_BLOCKSIZE, 2);
        be(info + 2, rig->block_min, 4);
        be(info + 6, rig->block_min > 512 ? rig->block_min : 512, 4);
        be(info + 10, rig->block_max, 4);
        if (!reply_option(rig->fd, option, REP_INFO, info, 14)) {
            return false;
        }
    }
    if (rig->tells_epoch) {
        uint8_t text[64];
        int len = snprintf((char *)text + 2, sizeof text - 2, "gemel-epoch %llu",
                           (unsigned long long)rig->highest);

        be(text, INFO_TEXT, 2);
        if (!reply_option(rig->fd, option, REP_INFO, text, (uint32_t)len + 2)) {
            return false;
        }
    }
    return reply_option(rig->fd, option, REP_ACK, NULL, 0);
}

/* As storage/epoch_gate would: `data` is what came with GO or INFO. */
static bool is_refused(const struct nbd_rig *rig, uint32_t option, const uint8_t *data)
{
    char name[64] = "";
    unsigned long long epoch = 0;
    uint64_t len = from_be(data, 4);

    memcpy(name, data + 4, len < sizeof name ? len : sizeof name - 1);
    return (rig->refuses && option == OPT_GO) || (rig->plain && strchr(name, '@')) ||
           (rig->highest > 0 && (sscanf(name, "%*[^@]@%llu", &epoch) != 1 ||
                                 (epoch > 0 && epoch < rig->highest)));
}

static void wait_while(const _Atomic bool *flag)
{
    while (*flag) {
        usleep(1000);
    }
}

/* True: on to the requests. */
static bool greet(struct nbd_rig *rig)
{
    uint8_t hello[18], flags[4], head[16], data[4096];

    wait_while(&rig->silent);
    memcpy(hello, "NBDMAGICIHAVEOPT", 16);
    be(hello + 16, 3, 2);
    if (!put(rig->fd, hello, sizeof hello) || !get(rig->fd, flags, sizeof flags)) {
        return false;
    }
    while (get(rig->fd, head, sizeof head) && from_be(head, 8) == OPT_MAGIC) {
        uint32_t option = (uint32_t)from_be(head + 8, 4);
        uint32_t len = (uint32_t)from_be(head + 12, 4);

        if (len > sizeof data || !get(rig->fd, data, len) || option == OPT_ABORT) {
            return false;
        }
        if (option != OPT_INFO && option != OPT_GO) {
            if (!reply_option(rig->fd, option, REP_ERR_UNSUP, NULL, 0)) {
                return false;
            }
            continue;
        }
        if (option == OPT_GO) {
            rig->goes++;
            wait_while(&rig->mute);
        }
        if (is_refused(rig, option, data)) {
            if (!reply_option(rig->fd, option, REP_ERR_UNKNOWN, NULL, 0)) {
                return false;
            }
            continue;
        }
        if (!tell_export(rig, option)) {
            return false;
        }
        if (option == OPT_GO) {
            return true;
        }
    }
    return false;
}

static bool reply(struct nbd_rig *rig, const uint8_t *cookie, uint32_t error,
                  const uint8_t *data, uint32_t len, enum nbd_rig_fault fault)
{
    uint8_t head[16];

    be(head, fault == NBD_RIG_BAD_MAGIC ? 0x12345678u : REPLY_MAGIC, 4);
    be(head + 4, error, 4);
    memcpy(head + 8, cookie, 8);
    head[8] ^= fault == NBD_RIG_BAD_COOKIE ? 0x55 : 0;
    if (fault == NBD_RIG_SHORT) {
        (void)put(rig->fd, head, sizeof head);
        (void)put(rig->fd, data, len / 2);
        return false;
    }
    return put(rig->fd, head, sizeof head) && (len == 0 || put(rig->fd, data, len));
}

static void carry_out(struct nbd_rig *rig, unsigned cmd, bool fua, uint64_t at,
                      uint32_t len, const uint8_t *data)
{
    if (cmd == NBD_RIG_FLUSH) {
        memcpy(rig->durable, rig->cached, rig->size);
    } else if (cmd == NBD_RIG_WRITE) {
        memcpy(rig->cached + at, data, len);
    } else if (cmd == NBD_RIG_ZEROES || cmd == NBD_RIG_TRIM) {
        memset(rig->cached + at, 0, len);
    }
    if (fua) {
        rig->fua++;
        memcpy(rig->durable + at, rig->cached + at, len);
    }
}

/* False: the connection is over. */
static bool serve(struct nbd_rig *rig, uint8_t *data)
{
    uint8_t head[28];
    enum nbd_rig_fault fault = NBD_RIG_NONE;
    unsigned cmd;
    uint64_t at;
    uint32_t len;

    if (!get(rig->fd, head, sizeof head) || from_be(head, 4) != REQUEST_MAGIC) {
        return false;
    }
    cmd = (unsigned)from_be(head + 6, 2) & 7;
    at = from_be(head + 16, 8);
    len = (uint32_t)from_be(head + 24, 4);
    if (cmd == NBD_RIG_DISC || (cmd == NBD_RIG_WRITE && !get(rig->fd, data, len))) {
        return false;
    }
    rig->count[cmd]++;
    rig->longest = len > rig->longest ? len : rig->longest;
    if (cmd == rig->fault_cmd &&
        (rig->fault_at == 0 || rig->fault_at == rig->count[cmd])) {
        fault = rig->fault;
    }
    if (fault == NBD_RIG_DIE) {
        return false;
    }
    if (fault == NBD_RIG_ERROR) {
        return reply(rig, head + 8, rig->error, NULL, 0, NBD_RIG_NONE);
    }
    carry_out(rig, cmd, (from_be(head + 4, 2) & CMD_FUA) != 0, at, len, data);
    return reply(rig, head + 8, 0, rig->cached + at, cmd == NBD_RIG_READ ? len : 0,
                 fault);
}

static void *rig_main(void *arg)
{
    struct nbd_rig *rig = arg;
    uint8_t *data = malloc(LEN_MAX);

    if (greet(rig)) {
        while (serve(rig, data)) {
        }
    }
    shutdown(rig->fd, SHUT_RDWR);
    free(data);
    return NULL;
}

void nbd_rig_init(struct nbd_rig *rig)
{
    memset(rig, 0, sizeof *rig);
    rig->size = NBD_RIG_SIZE;
    rig->flags = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6; /* flush, fua, trim, zeroes */
    rig->durable = calloc(1, rig->size);
    rig->cached = calloc(1, rig->size);
}

int nbd_rig_start(struct nbd_rig *rig)
{
    int fd[2];

    memcpy(rig->cached, rig->durable, rig->size);
    memset((void *)rig->count, 0, sizeof rig->count);
    rig->fua = rig->goes = 0;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    rig->fd = fd[1];
    ck_assert_int_eq(pthread_create(&rig->thread, NULL, rig_main, rig), 0);
    return fd[0];
}

void nbd_rig_stop(struct nbd_rig *rig)
{
    rig->silent = rig->mute = false;
    shutdown(rig->fd, SHUT_RDWR);
    pthread_join(rig->thread, NULL);
    close(rig->fd);
}

void nbd_rig_free(struct nbd_rig *rig)
{
    free(rig->durable);
    free(rig->cached);
}
