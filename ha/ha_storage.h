/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The qemu-storage-daemon of a VM that has qcow2 disks: one process beside its gemel-vmm,
 * which reaches it over NBD. It belongs to the instance: it may still write when its
 * gemel-vmm is gone, so the instance is gone only when both are (R2), and both are found
 * again after an agent restart (R8). Loop thread only.
 */
#pragma once

#include <stdbool.h>

struct ha_local;

/* This VM needs one. */
bool ha_storage_wanted(const struct ha_local *l);
/* It runs, or its end was not seen yet. */
bool ha_storage_up(const struct ha_local *l);
/* NULL, or why this node cannot run one; looked at before a start takes a claim. */
const char *ha_storage_missing(void);

/*
 * R1: after the claim. `image_fd[i]`: image of disk i, open; -1: not a qcow2 disk. They
 * become the daemon's user's, and stay the caller's to close. 0 or -errno with a text
 * (REASON_LEN_MAX + 1). Goes on record before it answers.
 */
int ha_storage_spawn(struct ha_local *l, const int *image_fd, char *ret_why);
/* A connection to it, for one disk. */
int ha_storage_connect(struct ha_local *l, int *ret_fd);

/* Flushes, closes its images and ends, within 10 s; ha_vmmsave_storage_gone follows. */
void ha_storage_quit(struct ha_local *l);
/* Its gemel-vmm is gone: flushes, closes its images, ends; ha_local_gone follows. In a
 * discarded instance, which must not write any more, it is killed. */
void ha_storage_end(struct ha_local *l);
/* After an agent restart. 0, also when it is gone; or -errno. */
int ha_storage_adopt(struct ha_local *l, int pid, unsigned long long start_time);
/* The agent ends, the daemon goes on. */
void ha_storage_forget(struct ha_local *l);
