/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layer between a node and its directories: what was not fsynced is lost when the
 * node loses power, because it exists only in the memory of this process. Other nodes see
 * what is durable.
 *
 * Data: a write stays here until fsync, fdatasync, or the end of the write on an O_SYNC
 * or O_DSYNC file; O_DIRECT alone makes nothing durable. Sizes (truncate) likewise.
 *
 * Names (create, link, rename, unlink, mkdir) of a directory that nodes share reach the
 * backing directory at once, as on an NFS server: link(2) is then atomic between nodes,
 * and a name that another node has seen is never taken back. In a node's own directory
 * (undo_fd) a change of a name is taken back after a power loss unless its directory was
 * fsynced; fsync of the file alone does not do it.
 *
 * Control messages on control_fd (lab_ipc text): "delay MS", "eio 0|1", "hang 0|1",
 * "writeback PERCENT", "room KIB" (files may grow by so much), "heal".
 */
#pragma once

struct labfs_config {
    const char *name; /* "shared", "state": for messages */
    const char *node;
    int source_fd; /* the backing directory */
    const char *mountpoint;
    int control_fd;
    int ready_fd; /* one byte when mounted */
    int undo_fd;  /* directory for the notes of labfs_undo, -1: names are durable at once
                   */
    const char *log_path; /* JSON lines of guest records, or NULL */
};

/* Mounts and serves until SIGTERM (writes everything first) or SIGKILL (loses it). Exit
 * code. */
int labfs_main(const struct labfs_config *config);
