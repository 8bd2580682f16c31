/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_reach.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/units.h"
#include "base/uuid.h"

#define PACKET_MAX 256

/* One asking: a socket for each family. */
struct ha_reach {
    struct loop *loop;
    loop_timer timer;
    int fd[2]; /* IPv4, IPv6; -1 */
    uint16_t id;
    ha_reach_fn fn;
    void *data;
};

static void answer(struct ha_reach *r, bool heard)
{
    ha_reach_fn fn = r->fn;
    void *data = r->data;

    loop_timer_del(r->loop, &r->timer);
    for (unsigned i = 0; i < ARRAY_SIZE(r->fd); i++) {
        if (r->fd[i] >= 0) {
            loop_fd_del(r->loop, r->fd[i]);
            close(r->fd[i]);
        }
    }
    free(r);
    fn(heard, data);
}

static void timer_fn(void *data)
{
    struct ha_reach *r = data;

    r->timer = 0;
    answer(r, false);
}

/* A raw socket hears every ICMP packet of this node. */
static bool is_ours(const struct ha_reach *r, bool v6, const uint8_t *packet, size_t len)
{
    struct icmphdr h4;
    struct icmp6_hdr h6;
    size_t skip;

    if (v6) {
        if (len < sizeof h6) {
            return false;
        }
        memcpy(&h6, packet, sizeof h6);
        return h6.icmp6_type == ICMP6_ECHO_REPLY && ntohs(h6.icmp6_id) == r->id;
    }
    skip = len > 0 ? (size_t)(packet[0] & 15) * 4 : 0;
    if (skip < sizeof(struct iphdr) || len < skip + sizeof h4) {
        return false;
    }
    memcpy(&h4, packet + skip, sizeof h4);
    return h4.type == ICMP_ECHOREPLY && ntohs(h4.un.echo.id) == r->id;
}

static int on_packet(int fd, int revents, void *data)
{
    struct ha_reach *r = data;
    uint8_t packet[PACKET_MAX];
    ssize_t len = recv(fd, packet, sizeof packet, MSG_DONTWAIT);

    (void)revents;
    if (len > 0 && is_ours(r, fd == r->fd[1], packet, (size_t)len)) {
        answer(r, true);
    }
    return 0;
}

static uint16_t checksum(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t sum = 0;

    for (size_t i = 0; i + 1 < len; i += 2) {
        sum += (uint32_t)(p[i] << 8 | p[i + 1]);
    }
    sum = (sum >> 16) + (sum & 0xffff);
    sum += sum >> 16;
    return htons((uint16_t)~sum);
}

static int open_family(struct ha_reach *r, bool v6)
{
    if (r->fd[v6] >= 0) {
        return r->fd[v6];
    }
    r->fd[v6] = socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
                       v6 ? (int)IPPROTO_ICMPV6 : (int)IPPROTO_ICMP);
    if (r->fd[v6] >= 0 && loop_fd_add(r->loop, r->fd[v6], POLLIN, on_packet, r) < 0) {
        close(r->fd[v6]);
        r->fd[v6] = -1;
    }
    return r->fd[v6];
}

static bool ask_one(struct ha_reach *r, const char *address)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    struct icmphdr h4 = {.type = ICMP_ECHO, .un.echo.id = htons(r->id)};
    struct icmp6_hdr h6 = {.icmp6_type = ICMP6_ECHO_REQUEST};

    if (inet_pton(AF_INET, address, &in.sin_addr) == 1 && open_family(r, false) >= 0) {
        h4.checksum = checksum(&h4, sizeof h4);
        return sendto(r->fd[0], &h4, sizeof h4, MSG_DONTWAIT, (struct sockaddr *)&in,
                      sizeof in) == (ssize_t)sizeof h4;
    }
    if (inet_pton(AF_INET6, address, &in6.sin6_addr) == 1 && open_family(r, true) >= 0) {
        h6.icmp6_id = htons(r->id);
        return sendto(r->fd[1], &h6, sizeof h6, MSG_DONTWAIT, (struct sockaddr *)&in6,
                      sizeof in6) == (ssize_t)sizeof h6;
    }
    return false;
}

/* Nobody could be asked, not even that: silence is the answer, a little later. */
int ha_reach_ask(struct loop *loop, const char *const *address, unsigned count,
                 uint64_t timeout_ns, ha_reach_fn fn, void *data)
{
    struct ha_reach *r = count > 0 ? calloc(1, sizeof *r) : NULL;
    struct uuid random = uuid_random();
    int error;

    if (r == NULL) {
        return count > 0 ? -ENOMEM : -ENOENT;
    }
    r->loop = loop;
    r->fd[0] = r->fd[1] = -1;
    r->fn = fn;
    r->data = data;
    memcpy(&r->id, random.b, sizeof r->id);
    error = loop_timer_add(loop, timeout_ns, timer_fn, r, &r->timer);
    if (error < 0) {
        free(r);
        return error;
    }
    for (unsigned i = 0; i < count; i++) {
        (void)ask_one(r, address[i]);
    }
    return 0;
}
