/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header of a qcow2 image (QEMU, docs/interop/qcow2.txt): how large the disk is, and
 * whether we run it. The image itself is read and written by qemu-storage-daemon. Pure;
 * anyone may include this.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define QCOW2_HEAD_LEN 104 /* of a version 3 header without its extensions */

/* `head`: the first `len` bytes of the image, at most QCOW2_HEAD_LEN are looked at.
 * NULL, or why this image is not run and what to do:
 * what comes after its name in a sentence. */
const char *qcow2_head_check(const uint8_t *head, size_t len, uint64_t *ret_bytes);
