/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/witness_taps.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SNAP_BYTES    128
#define RECEIVE_BYTES (8 << 20)

int taps_start(struct taps *taps, struct dual *dual, const uint8_t mac[6])
{
    int r;

    taps->dual = dual;
    memcpy(taps->mac, mac, 6);
    taps->own_netns_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (taps->own_netns_fd < 0) {
        perror("witness: /proc/self/ns/net");
        return -errno;
    }
    r = taps_open(taps);
    if (r == -EPERM) {
        fputs(
            "witness: --tap needs CAP_NET_RAW, and CAP_SYS_ADMIN for another namespace\n",
            stderr);
        return r;
    }
    return 0; /* a namespace that is not there yet may come */
}

void taps_free(struct taps *taps)
{
    for (uint32_t i = 0; i < taps->socket_count; i++) {
        struct tpacket_stats stats;
        socklen_t len = sizeof(stats);

        if (getsockopt(taps->socket[i].fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len) ==
            0) {
            taps->drops += stats.tp_drops;
        }
        close(taps->socket[i].fd);
    }
    taps->socket_count = 0;
    if (taps->own_netns_fd > 0) {
        close(taps->own_netns_fd);
        taps->own_netns_fd = 0;
    }
}

int taps_add(struct taps *taps, char *text)
{
    struct tap_spec *spec = &taps->spec[taps->spec_count];
    char *at = strchr(text, '@');

    if (taps->spec_count == TAP_SPECS_MAX) {
        return -E2BIG;
    }
    *spec = (struct tap_spec){.pattern = text};
    if (at != NULL) {
        *at = '\0';
        spec->netns = at + 1;
    }
    taps->spec_count++;
    return 0;
}

/* Frames from the MAC that came in from the tap's side; what the bridge sends out to the
 * tap is not the guest's. */
static int filter_attach(int fd, const uint8_t mac[6])
{
    uint32_t high =
        (uint32_t)mac[0] << 24 | (uint32_t)mac[1] << 16 | (uint32_t)mac[2] << 8 | mac[3];
    uint32_t low = (uint32_t)mac[4] << 8 | mac[5];
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 5, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 6),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, high, 0, 3),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 10),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, low, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SNAP_BYTES),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0
               ? 0
               : -errno;
}

/* A socket in the current network namespace, for all its interfaces, also those that come
 * later. */
static int packet_socket(const uint8_t mac[6], int *ret_fd)
{
    struct sockaddr_ll all = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    int on = 1, bytes = RECEIVE_BYTES, r;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return -errno;
    }
    /* Protocol 0 receives nothing: the filter is in place before the first frame. */
    r = filter_attach(fd, mac);
    if (r == 0 && setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) != 0) {
        r = -errno;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    if (r == 0 && bind(fd, (struct sockaddr *)&all, sizeof(all)) != 0) {
        r = -errno;
    }
    if (r != 0) {
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

static int socket_in_netns(struct taps *taps, const char *netns, int *ret_fd)
{
    int ns = open(netns, O_RDONLY | O_CLOEXEC), r;

    if (ns < 0) {
        return -errno;
    }
    r = setns(ns, CLONE_NEWNET) == 0 ? 0 : -errno;
    close(ns);
    if (r != 0) {
        return r;
    }
    r = packet_socket(taps->mac, ret_fd);
    if (setns(taps->own_netns_fd, CLONE_NEWNET) != 0) {
        /* Going on in a foreign namespace would ask the wrong network. */
        perror("witness: cannot return to its own network namespace");
        _exit(2);
    }
    return r;
}

static int spec_open(struct taps *taps, struct tap_spec *spec)
{
    struct stat st = {0};
    int fd, r;

    if (spec->netns != NULL && stat(spec->netns, &st) != 0) {
        return -errno;
    }
    if (spec->opened && (spec->netns == NULL || spec->netns_inode == st.st_ino)) {
        return 0;
    }
    if (taps->socket_count == TAP_SOCKETS_MAX) {
        return -E2BIG;
    }
    r = spec->netns == NULL ? packet_socket(taps->mac, &fd)
                            : socket_in_netns(taps, spec->netns, &fd);
    if (r == 0) {
        taps->socket[taps->socket_count++] = (struct tap_socket){.fd = fd, .spec = spec};
        spec->opened = true;
        spec->netns_inode = st.st_ino;
    }
    return r;
}

int taps_open(struct taps *taps)
{
    int result = 0;

    for (uint32_t i = 0; i < taps->spec_count; i++) {
        int r = spec_open(taps, &taps->spec[i]);

        if (r != 0) {
            result = r;
        }
    }
    return result;
}

/* The emitter that an interface stands for; SIOCGIFNAME answers for the socket's own
 * namespace. */
static uint32_t link_emitter(struct taps *taps, struct tap_socket *from, int ifindex)
{
    struct ifreq request = {.ifr_ifindex = ifindex};
    char name[EMITTER_NAME_MAX];
    uint32_t emitter = EMITTERS_MAX;

    for (uint32_t i = 0; i < from->link_count; i++) {
        if (from->link[i].ifindex == ifindex) {
            return from->link[i].emitter;
        }
    }
    if (ioctl(from->fd, SIOCGIFNAME, &request) != 0) {
        taps->unattributed++;
        return EMITTERS_MAX;
    }
    if (fnmatch(from->spec->pattern, request.ifr_name, 0) == 0) {
        snprintf(name, sizeof(name), "%s%s%s", request.ifr_name,
                 from->spec->netns != NULL ? "@" : "",
                 from->spec->netns != NULL ? from->spec->netns : "");
        emitter = dual_emitter(taps->dual, name);
    }
    if (from->link_count < TAP_LINKS_MAX) {
        from->link[from->link_count].ifindex = ifindex;
        from->link[from->link_count++].emitter = emitter;
    }
    return emitter;
}

/* An answer in the frame tells the epoch of the copy that sent it. */
static bool frame_epoch(const uint8_t *frame, size_t len, uint64_t *ret_epoch)
{
    struct answer answer;

    if (len < 14 + 28 + sizeof(answer) || frame[12] != 8 || frame[13] != 0 ||
        frame[14] != 0x45 || frame[23] != 17 ||
        (frame[34] << 8 | frame[35]) != ANSWER_PORT) {
        return false;
    }
    memcpy(&answer, frame + 14 + 28, sizeof(answer));
    *ret_epoch = answer.epoch;
    return answer.magic == ANSWER_MAGIC;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The kernel stamps with CLOCK_REALTIME when the frame passed; everything else here is
 * CLOCK_MONOTONIC. */
static uint64_t message_time(struct msghdr *message)
{
    uint64_t monotonic = clock_ns(CLOCK_MONOTONIC), age = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL;
         c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec t;
            uint64_t stamp, now = clock_ns(CLOCK_REALTIME);

            memcpy(&t, CMSG_DATA(c), sizeof(t));
            stamp = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
            age = now > stamp ? now - stamp : 0;
        }
    }
    return monotonic - age;
}

void taps_read(struct taps *taps, struct tap_socket *from)
{
    for (;;) {
        uint8_t frame[SNAP_BYTES];
        char control[256];
        struct sockaddr_ll address;
        struct iovec iov = {frame, sizeof(frame)};
        struct msghdr message = {
            .msg_name = &address,
            .msg_namelen = sizeof(address),
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = control,
            .msg_controllen = sizeof(control),
        };
        struct dual_event event = {0};
        ssize_t len = recvmsg(from->fd, &message, 0);

        if (len < 0 && (errno == EINTR || errno == ENETDOWN)) {
            continue; /* ENETDOWN: some interface went down, reported once */
        }
        if (len < 0) {
            return;
        }
        if (len < 14 || memcmp(frame + 6, taps->mac, 6) != 0 ||
            address.sll_pkttype == PACKET_OUTGOING) {
            continue;
        }
        event.emitter = link_emitter(taps, from, address.sll_ifindex);
        if (event.emitter < EMITTERS_MAX) {
            event.t_ns = message_time(&message);
            event.has_epoch = frame_epoch(frame, (size_t)len, &event.epoch);
            dual_add(taps->dual, &event);
        }
    }
}
