/* SPDX-License-Identifier: Apache-2.0 */
/* A vhost-user front end with one queue (QEMU docs/interop/vhost-user.rst): only what a
 * virtio-blk back end needs to be driven by tests/bench/blk_driver. */
#pragma once

#include "tests/bench/blk_driver.h"

/* Connects to a back end's socket and sets its queue 0 up, with memory of its own. Ends
 * the program with a message if that fails. */
void blk_vhost_open(const char *socket_path, pid_t server, struct blkd *ret_driver);
