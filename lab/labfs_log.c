/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/labfs_log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lab/lab_util.h"
#include "tests/guest/record.h"

#define SECTOR 512

void labfs_log_write(int log_fd, const char *node, const char *event, const char *path,
                     uint64_t off, const void *buf, size_t len)
{
    char plain[PATH_LEN_MAX];
    uint64_t now = 0;
    struct record_header header;
    char line[1024];

    if (log_fd < 0 || off % SECTOR != 0) {
        return;
    }
    size_t path_len = strnlen(path, sizeof plain - 1);
    for (size_t i = 0; i < path_len; i++) { /* what JSON would have to escape */
        bool special = (unsigned char)path[i] < ' ' || path[i] == '"' || path[i] == '\\';
        plain[i] = special ? '?' : path[i];
    }
    plain[path_len] = '\0';
    for (size_t pos = 0; pos + sizeof header <= len; pos += SECTOR) {
        memcpy(&header, (const char *)buf + pos, sizeof header);
        if (record_header_check(&header) != RECORD_OK) {
            continue;
        }
        now = now != 0 ? now : lab_now_ns();
        size_t vm_len = strcspn(plain, "/");
        int n = snprintf(line, sizeof line,
                         "{\"ev\":\"%s\",\"t_ns\":%llu,\"node\":\"%s\",\"vm\":\"%.*s\","
                         "\"path\":\"%s\",\"lba\":%llu,"
                         "\"len\":%u,\"epoch\":%llu,\"seq\":%llu,\"boot\":%u}\n",
                         event, (unsigned long long)now, node, (int)vm_len, plain, plain,
                         (unsigned long long)((off + pos) / SECTOR), header.len,
                         (unsigned long long)header.epoch, (unsigned long long)header.seq,
                         header.boot);
        if (n > 0 && (size_t)n < sizeof line) {
            (void)!write(log_fd, line,
                         (size_t)n); /* O_APPEND: lines of two threads do not mix */
        }
    }
}
