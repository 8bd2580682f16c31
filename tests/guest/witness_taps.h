/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames that a guest emits, seen from outside: AF_PACKET sockets, one for each --tap
 * NAME[@NETNS], in the network namespace that holds the tap. A tap may come and go (a VM
 * starts, a node reboots); its frames are attributed by name.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/guest/witness_checks.h"

#define TAP_SPECS_MAX   32
#define TAP_SOCKETS_MAX 128
#define TAP_LINKS_MAX   64

struct tap_spec {
    const char *pattern;  /* fnmatch(3) */
    const char *netns;    /* path, or NULL for the current one */
    uint64_t netns_inode; /* of the last one that was opened */
    bool opened;
};

struct tap_socket {
    int fd;
    const struct tap_spec *spec;
    struct {
        int ifindex;
        uint32_t emitter; /* EMITTERS_MAX: not one of ours */
    } link[TAP_LINKS_MAX];
    uint32_t link_count;
};

struct taps {
    struct tap_spec spec[TAP_SPECS_MAX];
    uint32_t spec_count;
    struct tap_socket socket[TAP_SOCKETS_MAX];
    uint32_t socket_count;
    uint8_t mac[6];
    int own_netns_fd;
    struct dual *dual;
    uint64_t drops;        /* lost in the kernel: the oracle is not complete */
    uint64_t unattributed; /* the interface was gone before its name was read */
};

/* A zeroed struct taps takes specs: `text` is NAME or NAME@PATH; kept, and written to.
 * -E2BIG if there are too many. */
int taps_add(struct taps *taps, char *text);
/* Before taps_open(). 0, or -errno after a message. */
int taps_start(struct taps *taps, struct dual *dual, const uint8_t mac[6]);
/* Closes the sockets; drops are known after it. */
void taps_free(struct taps *taps);
/* Opens what can be opened now and is not yet; to be called now and then. 0, or the last
 * error. */
int taps_open(struct taps *taps);
/* Reads all that is there. */
void taps_read(struct taps *taps, struct tap_socket *socket);
