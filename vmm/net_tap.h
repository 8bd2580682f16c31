/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest network card's other end: a tap device of this network namespace, by name or as
 * an inherited fd. Frames have no header (IFF_NO_PI), or a virtio_net_hdr_v1 where
 * offloads are wanted (IFF_VNET_HDR). The carrier is up
 * only while the guest runs, so that a bridge forgets a frozen VM.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/vmm_error.h"

/* The tap must exist: a VMM does not make network devices. One fd per queue; more than
 * one needs a tap that was made with multi_queue. */
int net_tap_open(const char *name, bool offloads, unsigned queue_count, int *ret_fd,
                 struct vmm_error *err);
/* Checks an inherited fd and makes it non-blocking and close-on-exec. *offloads: wanted,
 * and then whether the fd has them; one with vnet headers is refused where they are not
 * wanted. */
int net_tap_adopt(int fd, bool *offloads, struct vmm_error *err);
/* Which frames the guest takes (bits of NET_OFFLOAD_): the kernel prepares the others. 0
 * or -errno. */
int net_tap_offload(int fd, unsigned offload);
/* 0 or -errno (-ENOTTY, -EINVAL on old kernels: nothing to worry about). */
int net_tap_carrier(int fd, bool up);
/* One frame; -EAGAIN when there is none. */
ssize_t net_tap_read(int fd, void *buf, size_t cap);
/* 0 or -errno; -EAGAIN, -ENOBUFS, -EIO (interface down): the frame is lost, as on a wire.
 */
int net_tap_write(int fd, const void *frame, size_t len);
