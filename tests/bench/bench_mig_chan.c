/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of guest memory through one connection over loopback TCP, both ends in this
 * process: bench_mig_chan CASE MIB. Prints one line of JSON. CASE: floor (blocking writev
 * and readv, nothing else), plain, crc, live (crc of memory that may change), aes,
 * chacha; with "-pages" every other 4 KiB page instead of 2 MiB in one piece.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "base/os.h"
#include "base/units.h"
#include "migrate/mig_conn.h"

#define TYPE   MIG_TYPE_STREAM
#define MEMORY (128ul << 20)
#define CHUNK  (2ul << 20)
#define PAGE   4096ul
#define HEAD   48 /* what a RAM frame has in front of its pages */

static bool pages;
static uint64_t chunks;
static uint8_t *from, *to;
static int fd[2];
static struct mig_conn *conn[2];

static void check(int r, const struct vmm_error *err)
{
    if (r < 0) {
        fprintf(stderr, "bench_mig_chan: %s\n", err->text);
        exit(EXIT_FAILURE);
    }
}

static uint8_t *memory(void)
{
    uint8_t *p =
        mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t x = 88172645463325252;

    BUG_ON(p == MAP_FAILED);
    for (size_t i = 0; i < MEMORY; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(p + i, &x, 8);
    }
    return p;
}

/* The parts of one chunk, behind a head: 2 MiB in a piece, or every other page of 4. */
static size_t parts(uint8_t *base, uint64_t chunk, uint8_t *head, struct iovec *iov)
{
    size_t n = 0;

    iov[n++] = (struct iovec){head, HEAD};
    if (!pages) {
        iov[n++] = (struct iovec){base + chunk * CHUNK % MEMORY, CHUNK};
        return n;
    }
    for (size_t i = 0; i < CHUNK / PAGE; i++) {
        iov[n++] =
            (struct iovec){base + (chunk * 2 * CHUNK + i * 2 * PAGE) % MEMORY, PAGE};
    }
    return n;
}

/* The floor: what the same sockets do without us. */
static void floor_move(int f, struct iovec *iov, size_t n, bool out)
{
    size_t at = 0;

    while (at < n) {
        ssize_t done =
            out ? writev(f, iov + at, (int)(n - at)) : readv(f, iov + at, (int)(n - at));

        BUG_ON(done <= 0);
        while (at < n && (size_t)done >= iov[at].iov_len) {
            done -= (ssize_t)iov[at++].iov_len;
        }
        if (at < n) {
            iov[at].iov_base = (char *)iov[at].iov_base + done;
            iov[at].iov_len -= (size_t)done;
        }
    }
}

static void *floor_recv(void *arg)
{
    struct iovec iov[CHUNK / PAGE + 1];
    uint8_t head[HEAD];

    for (uint64_t i = 0; i < chunks; i++) {
        floor_move(fd[1], iov, parts(to, i, head, iov), false);
    }
    return arg;
}

static void floor_send(void)
{
    struct iovec iov[CHUNK / PAGE + 1];
    uint8_t head[HEAD] = {0};

    for (uint64_t i = 0; i < chunks; i++) {
        floor_move(fd[0], iov, parts(from, i, head, iov), true);
    }
}

static void *ours_recv(void *arg)
{
    struct iovec iov[CHUNK / PAGE + 1];
    struct mig_conn_head h;
    struct vmm_error err;
    uint8_t head[HEAD];

    for (uint64_t i = 0; i < chunks; i++) {
        size_t n = parts(to, i, head, iov);

        check(mig_conn_recv_head(conn[1], -1, &h, &err), &err);
        check(mig_conn_recv_body(conn[1], iov, 1, &err), &err);
        check(mig_conn_recv_body(conn[1], iov + 1, n - 1, &err), &err);
    }
    return arg;
}

static void ours_send(unsigned flags)
{
    struct iovec iov[CHUNK / PAGE + 1];
    uint8_t head[HEAD] = {0};
    struct vmm_error err;

    for (uint64_t i = 0; i < chunks; i++) {
        size_t n = parts(from, i, head, iov);

        check(mig_conn_send(conn[0], TYPE, 1, flags, iov, n, &err), &err);
    }
}

static void *shake(void *arg)
{
    struct vmm_error err;

    check(mig_conn_handshake(conn[1], 5000, &err), &err);
    return arg;
}

static void connect_pair(void)
{
    const char *buf = getenv("BENCH_SOCKET_BUF");
    struct os_tcp_opts opts = {.lost_ms = 10000};
    struct pollfd p = {.events = POLLIN};
    uint16_t port;
    int l;

    opts.send_buf = opts.recv_buf = buf ? (int)strtol(buf, NULL, 10) : 0;
    BUG_ON(os_tcp_listen("127.0.0.1", 0, 0, 1, &opts, &l, &port) < 0);
    BUG_ON(os_tcp_connect("127.0.0.1", port, &opts, &fd[0]) < 0);
    BUG_ON(os_tcp_wait(fd[0], 1000) < 0);
    p.fd = l;
    BUG_ON(poll(&p, 1, 1000) != 1);
    fd[1] = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    BUG_ON(fd[1] < 0);
    close(l);
}

static double cpu_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double wall_s(void)
{
    return (double)loop_now_ns() / 1e9;
}

static void ready_ours(const char *kind, struct mig_stop *stop)
{
    static const struct mig_conn_rule rule = {TYPE, 1, 1, 0, MIG_CONN_BODY_MAX};
    static struct mig_conn_conf conf[2];
    bool tls = strcmp(kind, "aes") == 0 || strcmp(kind, "chacha") == 0;
    struct mig_key *key[2] = {NULL, NULL};
    struct vmm_error err;
    pthread_t thread;

    check(mig_key_init(&err), &err);
    for (int i = 0; i < 2; i++) {
        check(mig_key_new(&key[i], &err), &err);
    }
    for (int i = 0; i < 2; i++) {
        conf[i] = (struct mig_conn_conf){
            .key = tls ? key[i] : NULL,
            .peer = mig_key_fingerprint(key[!i]),
            .cipher = strcmp(kind, "chacha") == 0 ? MIG_CIPHER_CHACHA : MIG_CIPHER_AES,
            .server = i == 1,
            .body_crc = strcmp(kind, "crc") == 0 || strcmp(kind, "live") == 0,
            .silence_ms = 5000,
            .stop = stop,
            .rules = &rule,
            .rule_count = 1};
        check(mig_conn_new(fd[i], &conf[i], i == 0 ? "source" : "destination", &conn[i],
                           &err),
              &err);
    }
    pthread_create(&thread, NULL, shake, NULL);
    check(mig_conn_handshake(conn[0], 5000, &err), &err);
    pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
    double wall, cpu, gib;
    struct mig_stop stop;
    bool is_floor;
    pthread_t thread;
    char *dash;

    if (argc != 3) {
        fprintf(stderr, "usage: bench_mig_chan CASE MIB\n");
        return 2;
    }
    dash = strchr(argv[1], '-');
    pages = dash != NULL;
    if (dash) {
        *dash = '\0';
    }
    is_floor = strcmp(argv[1], "floor") == 0;
    chunks = strtoull(argv[2], NULL, 10) * (1 << 20) / CHUNK;
    gib = (double)(chunks * CHUNK) / (1 << 30);
    from = memory();
    to = memory();
    memset(to, 1, MEMORY);
    BUG_ON(mig_stop_open(&stop) < 0);
    connect_pair();
    if (is_floor) {
        BUG_ON(fcntl(fd[0], F_SETFL, 0) < 0 || fcntl(fd[1], F_SETFL, 0) < 0);
    } else {
        ready_ours(argv[1], &stop);
    }
    wall = wall_s();
    cpu = cpu_s();
    pthread_create(&thread, NULL, is_floor ? floor_recv : ours_recv, NULL);
    if (is_floor) {
        floor_send();
    } else {
        ours_send(strcmp(argv[1], "live") == 0 ? MIG_SEND_LIVE : 0);
    }
    pthread_join(thread, NULL);
    wall = wall_s() - wall;
    cpu = cpu_s() - cpu;
    for (uint64_t i = 0; !pages && i < chunks && i < MEMORY / CHUNK; i++) {
        BUG_ON(memcmp(from + i * CHUNK, to + i * CHUNK, CHUNK) != 0);
    }
    printf("{\"gib_per_s\":%.3f,\"cpu_s_per_gib\":%.3f,\"security\":\"%s\"}\n",
           gib / wall, cpu / gib, is_floor ? "none" : mig_conn_security(conn[0]));
    return 0;
}
