/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a network disk is: an NBD URI (nbd/doc/uri.md of the NBD project), the part of it
 * that this tree uses:
 *
 *     nbd://ADDRESS[:PORT][/EXPORT]             port 10809 if none is given
 *     nbd+unix:///[EXPORT]?socket=PATH
 *
 * ADDRESS is an IPv4 address or an IPv6 address in brackets, never a name: a name service
 * may be away exactly when a VM has to be restarted. EXPORT and PATH may have %XX in
 * them. Anyone may include this; parsing is pure, connecting is in libbase_io.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define NBD_EXPORT_MAX  256
#define NBD_PATH_MAX    108 /* sun_path */
#define NBD_ADDRESS_MAX 46

struct nbd_uri {
    bool is_unix;
    char path[NBD_PATH_MAX];       /* is_unix */
    char address[NBD_ADDRESS_MAX]; /* else: a number, without brackets */
    uint16_t port;
    char export_name[NBD_EXPORT_MAX];
};

/* NULL, or what is wrong with it and what to write instead. */
const char *nbd_uri_parse(const char *text, struct nbd_uri *ret_uri);

/* A connected stream socket that notices within half a minute when the other host is
 * gone. Waits at most `timeout_ms`. 0 or -errno; -EHOSTUNREACH and the like are the
 * network's. */
int nbd_uri_connect(const struct nbd_uri *uri, int timeout_ms, int *ret_fd);
