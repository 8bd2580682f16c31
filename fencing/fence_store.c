/* SPDX-License-Identifier: Apache-2.0 */
#include "fencing/fence_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/os.h"
#include "base/uuid.h"

#define SUFFIX      ".fence"
#define CONFIG_NAME "cluster.yaml"

static int path_make(char *path, size_t cap, const char *dir, const char *name,
                     const char *suffix)
{
    int n = snprintf(path, cap, "%s/%s%s", dir, name, suffix);

    return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : 0;
}

int fence_store_open(const char *dir, int *ret_lock_fd)
{
    char path[PATH_LEN_MAX];
    int fd = -1, r;

    r = os_mkdir_p(dir, 0700);
    if (r < 0) {
        return r;
    }
    r = path_make(path, sizeof(path), dir, "lock", "");
    if (r < 0) {
        return r;
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return -errno;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    *ret_lock_fd = fd;
    return 0;
}

int fence_store_put(const char *dir, const struct fence_record *record)
{
    char path[PATH_LEN_MAX], name[UUID_STR_LEN + 1];
    uint8_t buf[FENCE_RECORD_LEN_MAX + 64];
    size_t len = fence_record_encode(record, buf, sizeof(buf));
    int r;

    if (len == 0) {
        return -EMSGSIZE;
    }
    uuid_format(record->uid, name);
    r = path_make(path, sizeof(path), dir, name, SUFFIX);
    return r < 0 ? r : os_file_replace(path, buf, len, 0600);
}

int fence_store_remove(const char *dir, struct uuid uid)
{
    char path[PATH_LEN_MAX], name[UUID_STR_LEN + 1];
    int r;

    uuid_format(uid, name);
    r = path_make(path, sizeof(path), dir, name, SUFFIX);
    if (r < 0) {
        return r;
    }
    /* Not made durable: a record that comes back after a crash is settled and harmless.
     */
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

/* The uid that a file name states. */
static bool name_uid(const char *name, struct uuid *ret_uid)
{
    char text[UUID_STR_LEN + 1];

    if (strlen(name) != UUID_STR_LEN + strlen(SUFFIX) ||
        strcmp(name + UUID_STR_LEN, SUFFIX) != 0) {
        return false;
    }
    memcpy(text, name, UUID_STR_LEN);
    text[UUID_STR_LEN] = '\0';
    return uuid_parse(text, ret_uid);
}

/* 0, -EBADMSG. */
static int load_one(const char *dir, const char *name, struct uuid uid,
                    struct fence_record *ret_record)
{
    char path[PATH_LEN_MAX];
    uint8_t buf[FENCE_RECORD_LEN_MAX + 65];
    size_t len;
    int r;

    r = path_make(path, sizeof(path), dir, name, "");
    if (r < 0) {
        return r;
    }
    r = os_file_read(path, buf, sizeof(buf) - 1, &len);
    if (r == 0) {
        r = fence_record_decode(buf, len, ret_record);
    }
    return r == 0 && uuid_equal(uid, ret_record->uid) ? 0 : -EBADMSG;
}

static void set_aside(const char *dir, const char *name)
{
    char from[PATH_LEN_MAX], to[PATH_LEN_MAX];

    if (path_make(from, sizeof(from), dir, name, "") == 0 &&
        path_make(to, sizeof(to), dir, name, ".bad") == 0) {
        rename(from, to);
    }
}

int fence_store_load(const char *dir,
                     void (*fn)(const struct fence_record *record, void *data),
                     void *data, unsigned *ret_bad)
{
    struct fence_record record;
    struct dirent *entry;
    struct uuid uid;
    unsigned bad = 0;
    DIR *d = opendir(dir);

    if (d == NULL) {
        return -errno;
    }
    while ((entry = readdir(d)) != NULL) {
        if (!name_uid(entry->d_name, &uid)) {
            continue;
        }
        if (load_one(dir, entry->d_name, uid, &record) < 0) {
            set_aside(dir, entry->d_name);
            bad++;
        } else {
            fn(&record, data);
        }
    }
    closedir(d);
    *ret_bad = bad;
    return 0;
}

int fence_store_put_config(const char *dir, const char *yaml, size_t len)
{
    char path[PATH_LEN_MAX];
    int r = path_make(path, sizeof(path), dir, CONFIG_NAME, "");

    return r < 0 ? r : os_file_replace(path, yaml, len, 0600);
}

int fence_store_get_config(const char *dir, char **ret_yaml, size_t *ret_len)
{
    char path[PATH_LEN_MAX];
    char *yaml;
    int r;

    r = path_make(path, sizeof(path), dir, CONFIG_NAME, "");
    if (r < 0) {
        return r;
    }
    yaml = malloc(DEFINITION_MAX + 1);
    if (yaml == NULL) {
        return -ENOMEM;
    }
    r = os_file_read(path, yaml, DEFINITION_MAX, ret_len);
    if (r < 0) {
        free(yaml);
        return r;
    }
    *ret_yaml = yaml;
    return 0;
}
