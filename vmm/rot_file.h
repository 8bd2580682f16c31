/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An append-only file of raw bytes, rotated by size: x.log -> x-1.log ... x-N.log
 * (LOG_FILES_KEPT). Where the names cannot be reached (the sandbox of a VM that was
 * started by hand) the file starts over instead. For guest output; our own messages go
 * through base/log. A write that fails is reported once and retried with the next bytes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "vmm/vmm_error.h"

struct rot_file {
    int fd;
    char path[PATH_LEN_MAX];
    uint64_t len, len_max; /* len_max 0: never rotated */
    bool failing;          /* the last write failed */
};

int rot_file_open(struct rot_file *f, const char *path, uint64_t len_max,
                  struct vmm_error *err);
void rot_file_close(struct rot_file *f);
/* 0, or -errno the first time a row of failures begins (worth a log line). */
int rot_file_write(struct rot_file *f, const void *bytes, size_t len);
