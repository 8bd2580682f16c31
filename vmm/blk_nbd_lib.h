/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libnbd, loaded when a VM has a disk that needs it. Linked in, it and what it brings
 * along (gnutls, libxml2, ICU) would add 6 ms to the start of every VM.
 * vmm/blk_nbd*.c only.
 */
#pragma once

#include <libnbd.h>

#include "vmm/vmm_error.h"

/* clang-format off */
#define NBD_LIB_FUNCTIONS(X)                                                             \
    X(create) X(close) X(get_error) X(get_errno) X(set_export_name) X(set_opt_mode)      \
    X(get_size) X(is_read_only) X(can_flush) X(can_fua) X(can_trim) X(can_zero)          \
    X(get_block_size)                                                                    \
    X(set_full_info) X(get_export_description)                                           \
    X(poll) X(aio_connect_socket) X(aio_opt_info) X(aio_opt_go) X(aio_is_negotiating) X(aio_is_ready)  \
    X(aio_is_dead) X(aio_is_closed) X(aio_get_fd) X(aio_get_direction)                   \
    X(aio_notify_read) X(aio_notify_write) X(aio_pread) X(aio_pwrite) X(aio_flush)       \
    X(aio_trim) X(aio_zero) X(aio_disconnect)
/* clang-format on */

struct nbd_lib {
#define NBD_LIB_MEMBER(name) __typeof__(nbd_##name) *name;
    NBD_LIB_FUNCTIONS(NBD_LIB_MEMBER)
#undef NBD_LIB_MEMBER
};

extern struct nbd_lib nbd_lib; /* after nbd_lib_load */

/* While the process still has its files: before the sandbox. Once is enough. 0 or -errno
 * with a text. */
int nbd_lib_load(struct vmm_error *err);
