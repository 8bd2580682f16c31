/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/blk_vhost.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define VERSION    1u
#define REPLY      4u
#define F_PROTOCOL (UINT64_C(1) << 30)

enum request {
    GET_FEATURES = 1,
    SET_FEATURES = 2,
    SET_OWNER = 3,
    SET_MEM_TABLE = 5,
    SET_VRING_NUM = 8,
    SET_VRING_ADDR = 9,
    SET_VRING_BASE = 10,
    SET_VRING_KICK = 12,
    SET_VRING_CALL = 13,
    GET_PROTOCOL_FEATURES = 15,
    SET_PROTOCOL_FEATURES = 16,
    SET_VRING_ENABLE = 18,
};

struct vring_state {
    uint32_t index, num;
};
struct vring_addr {
    uint32_t index, flags;
    uint64_t desc, used, avail, log;
};
struct mem_table {
    uint32_t count, padding;
    struct {
        uint64_t guest_addr, size, user_addr, mmap_offset;
    } region[1];
};
struct message {
    uint32_t request, flags, size;
    union {
        uint64_t u64;
        struct vring_state state;
        struct vring_addr addr;
        struct mem_table mem;
    } body;
} __attribute__((packed));

#define HEAD_LEN offsetof(struct message, body)

static void send_msg(int sock, enum request request, const void *body, size_t len, int fd)
{
    struct message m = {.request = request, .flags = VERSION, .size = (uint32_t)len};
    struct iovec iov = {.iov_base = &m, .iov_len = HEAD_LEN + len};
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    memcpy(&m.body, body, len);
    if (fd >= 0) {
        struct cmsghdr *c;

        msg.msg_control = control.room;
        msg.msg_controllen = sizeof control.room;
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    if (sendmsg(sock, &msg, MSG_NOSIGNAL) != (ssize_t)(HEAD_LEN + len)) {
        blkd_die("vhost-user: request %d was not taken", (int)request);
    }
}

static void send_u64(int sock, enum request request, uint64_t value, int fd)
{
    send_msg(sock, request, &value, sizeof value, fd);
}

static uint64_t ask(int sock, enum request request)
{
    struct message m;

    send_msg(sock, request, "", 0, -1);
    if (recv(sock, &m, HEAD_LEN + sizeof m.body.u64, MSG_WAITALL) !=
            (ssize_t)(HEAD_LEN + sizeof m.body.u64) ||
        m.request != (uint32_t)request || (m.flags & REPLY) == 0) {
        blkd_die("vhost-user: no answer to request %d", (int)request);
    }
    return m.body.u64;
}

static void send_queue(int sock, const struct blkd *d)
{
    uint64_t base = (uint64_t)(uintptr_t)d->mem;
    struct vring_state num = {0, BLKD_QUEUE_LEN}, zero = {0, 0}, one = {0, 1};
    const struct vring_addr addr = {.desc = base + blkd_area(0),
                                    .avail = base + blkd_area(1),
                                    .used = base + blkd_area(2)};

    send_msg(sock, SET_VRING_NUM, &num, sizeof num, -1);
    send_msg(sock, SET_VRING_BASE, &zero, sizeof zero, -1);
    send_msg(sock, SET_VRING_ADDR, &addr, sizeof addr, -1);
    send_u64(sock, SET_VRING_CALL, 0, d->call_fd);
    send_u64(sock, SET_VRING_KICK, 0, d->kick_fd);
    send_msg(sock, SET_VRING_ENABLE, &one, sizeof one, -1);
}

void blk_vhost_open(const char *socket_path, pid_t server, struct blkd *ret_driver)
{
    struct blkd d = {.name = "peer", .server = server, .seed = 88172645463325252};
    struct mem_table mem = {.count = 1};
    uint64_t features;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), memory;

    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", socket_path);
    if (sock < 0 || connect(sock, (struct sockaddr *)&addr, sizeof addr) < 0) {
        blkd_die("cannot connect to %s", socket_path);
    }
    d.kick_fd = eventfd(0, EFD_CLOEXEC);
    d.call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    memory = memfd_create("bench-ram", MFD_CLOEXEC);
    if (d.kick_fd < 0 || d.call_fd < 0 || memory < 0 ||
        ftruncate(memory, BLKD_MEM_LEN) < 0) {
        blkd_die("no eventfds or memory");
    }
    d.mem = mmap(NULL, BLKD_MEM_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (d.mem == MAP_FAILED) {
        blkd_die("cannot map memory");
    }
    features = ask(sock, GET_FEATURES);
    if ((features & BLKD_FEATURES) != BLKD_FEATURES) {
        blkd_die("vhost-user: the back end offers features %#llx",
                 (unsigned long long)features);
    }
    if (features & F_PROTOCOL) {
        (void)ask(sock, GET_PROTOCOL_FEATURES);
        send_u64(sock, SET_PROTOCOL_FEATURES, 0, -1);
    }
    send_msg(sock, SET_OWNER, "", 0, -1);
    send_u64(sock, SET_FEATURES, BLKD_FEATURES | (features & F_PROTOCOL), -1);
    mem.region[0].size = BLKD_MEM_LEN;
    mem.region[0].user_addr = (uint64_t)(uintptr_t)d.mem;
    send_msg(sock, SET_MEM_TABLE, &mem, sizeof mem, memory);
    send_queue(sock, &d);
    *ret_driver = d;
}
