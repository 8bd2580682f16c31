/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "cluster-conf/conf_scalar.h"
#include "ha/ha_path.h"
#include "ha/ha_text.h"

#define YAML_MAX (4096 + HA_FIT_TEXT_MAX)

static struct path temp_dir(const struct ha_snapshot *s)
{
    return path_of("%s/snapshots/.%s@%s.tmp", s->dir, s->id, s->node);
}

static struct path final_dir(const struct ha_snapshot *s)
{
    return path_of("%s/snapshots/%s", s->dir, s->id);
}

static struct path disk_copy(const char *snapshot_dir, const char *disk)
{
    char name[PATH_LEN_MAX * 3 + 4];

    ha_vmdir_flat_name(disk, name, sizeof name);
    return path_of("%s/%s", snapshot_dir, name);
}

/* Making one
 * ------------------------------------------------------------------------------- */

int ha_snapshot_begin(const struct ha_snapshot *s, char *why)
{
    struct path all = path_of("%s/snapshots", s->dir), temp = temp_dir(s);
    int r;

    if (mkdir(all.s, 0700) < 0 && errno != EEXIST) {
        return complain(why, all.s, -errno);
    }
    if (access(final_dir(s).s, F_OK) == 0) {
        ha_text_set(why, REASON_LEN_MAX + 1, "there is a snapshot ", s->id,
                    " already; take another name, or delete it", NULL);
        return -EEXIST;
    }
    r = ha_vmdir_remove(temp.s); /* of an attempt that was interrupted */
    if (r == 0 && mkdir(temp.s, 0700) < 0) {
        r = -errno;
    }
    return r < 0 ? complain(why, temp.s, r) : 0;
}

int ha_snapshot_open_state(const struct ha_snapshot *s, int *ret_fd, char *why)
{
    struct path state = path_of("%s/state.gms", temp_dir(s).s);
    int fd = open(state.s, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0) {
        return complain(why, state.s, -errno);
    }
    *ret_fd = fd;
    return 0;
}

static int digest_of(const char *path, uint8_t *ret_digest, uint64_t *ret_bytes,
                     char *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        r = -errno;
    }
    if (r == 0) {
        r = ha_vmdir_digest(fd, ret_digest);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (r < 0) {
        return complain(why, path, r);
    }
    *ret_bytes += (uint64_t)st.st_size;
    return 0;
}

static void hex_of(const uint8_t *digest, char *ret_hex)
{
    for (unsigned i = 0; i < CLAIM_DIGEST_LEN; i++) {
        snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
    }
}

/* What the state that lies there says of itself; how it was booted, it does not. */
static void fit_of_state(const struct ha_snapshot *s, struct ha_fit *ret_fit)
{
    int fd = open(path_of("%s/state.gms", temp_dir(s).s).s, O_RDONLY | O_CLOEXEC);

    *ret_fit = (struct ha_fit){0};
    if (fd >= 0 && ha_fit_of_state(fd, ret_fit)) {
        memcpy(ret_fit->value[HA_FIT_BOOT], s->fit.value[HA_FIT_BOOT],
               sizeof ret_fit->value[HA_FIT_BOOT]);
    }
    if (fd >= 0) {
        close(fd);
    }
}

static int write_yaml(const struct ha_snapshot *s, const struct ha_snapshot_info *info,
                      char *why)
{
    struct path path = path_of("%s/snapshot.yaml", temp_dir(s).s);
    char text[YAML_MAX], hex[2 * CLAIM_DIGEST_LEN + 1];
    struct conf_text more;
    struct ha_fit fit;
    int len, r;

    hex_of(info->digest, hex);
    len = snprintf(text, sizeof text,
                   "snapshot: %s\nvm: %s\ncreated: %s\nepoch: %" PRIu64
                   "\nstate: %s\nbytes: %" PRIu64 "\ndigest: %s\n",
                   s->id, info->vm, info->created, info->epoch,
                   info->state ? "true" : "false", info->bytes, hex);
    more = conf_text_make(text + len, sizeof text - (size_t)len);
    if (info->state) {
        fit_of_state(s, &fit);
        ha_fit_write(&fit, &more);
    }
    r = os_file_replace(path.s, text, (size_t)len + more.len, 0600);
    return r < 0 ? complain(why, path.s, r) : 0;
}

int ha_snapshot_fill(const struct ha_snapshot *s, struct ha_snapshot_info *info,
                     const atomic_bool *cancel, char *why)
{
    struct path temp = temp_dir(s);
    time_t now = (time_t)(os_wall_ns() / NSEC_PER_SEC);
    struct tm tm;
    int r = 0;

    strftime(info->created, sizeof info->created, "%Y-%m-%dT%H:%M:%SZ",
             gmtime_r(&now, &tm));
    info->bytes = 0;
    if (info->state) {
        r = digest_of(path_of("%s/state.gms", temp.s).s, info->digest, &info->bytes, why);
    }
    for (unsigned i = 0; r == 0 && i < s->disks.count; i++) {
        struct path from = path_of("%s/%s", s->dir, s->disks.path[i]);
        struct path to = disk_copy(temp.s, s->disks.path[i]);
        struct stat st;

        r = ha_vmdir_copy(from.s, to.s, cancel, why);
        if (r == 0 && stat(to.s, &st) == 0) {
            info->bytes += (uint64_t)st.st_blocks * 512;
        }
    }
    if (r == 0) {
        r = write_yaml(s, info, why);
    }
    if (r == 0) {
        r = os_dir_fsync(temp.s);
    }
    return r;
}

int ha_snapshot_commit(const struct ha_snapshot *s, char *why)
{
    struct path temp = temp_dir(s), final = final_dir(s);
    int r = 0;

    if (rename(temp.s, final.s) < 0) {
        r = -errno;
    } else {
        r = os_dir_fsync(path_of("%s/snapshots", s->dir).s);
    }
    return r < 0 ? complain(why, final.s, r) : 0;
}

void ha_snapshot_abort(const struct ha_snapshot *s)
{
    (void)ha_vmdir_remove(temp_dir(s).s);
}

/* Reading
 * ---------------------------------------------------------------------------------- */

static bool hex_digest(const char *hex, uint8_t *ret_digest)
{
    if (strlen(hex) != (size_t)2 * CLAIM_DIGEST_LEN ||
        strspn(hex, "0123456789abcdef") != (size_t)2 * CLAIM_DIGEST_LEN) {
        return false;
    }
    for (unsigned i = 0; i < CLAIM_DIGEST_LEN; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

        ret_digest[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return true;
}

static bool parse_info(const char *text, struct ha_snapshot_info *info)
{
    char epoch[24], state[8], bytes[24], hex[2 * CLAIM_DIGEST_LEN + 1];

    if (!ha_fit_value(text, "snapshot", info->id, sizeof info->id) ||
        !ha_fit_value(text, "vm", info->vm, sizeof info->vm) ||
        !ha_fit_value(text, "created", info->created, sizeof info->created) ||
        !ha_fit_value(text, "epoch", epoch, sizeof epoch) ||
        !ha_fit_value(text, "state", state, sizeof state) ||
        !ha_fit_value(text, "bytes", bytes, sizeof bytes) ||
        !ha_fit_value(text, "digest", hex, sizeof hex) ||
        !hex_digest(hex, info->digest)) {
        return false;
    }
    info->state = strcmp(state, "true") == 0;
    return conf_scalar_count(epoch, &info->epoch) == CONF_SCALAR_OK &&
           conf_scalar_count(bytes, &info->bytes) == CONF_SCALAR_OK;
}

static int read_yaml(const struct ha_snapshot *s, struct ha_snapshot_info *ret_info,
                     struct ha_fit *ret_fit, char *why)
{
    struct path path = path_of("%s/snapshot.yaml", final_dir(s).s);
    struct ha_snapshot_info info = {0};
    char text[YAML_MAX + 1];
    size_t len;
    int r = os_file_read(path.s, text, YAML_MAX, &len);

    if (r == -ENOENT) {
        ha_text_set(why, REASON_LEN_MAX + 1, "there is no snapshot ", s->id,
                    "; gemel vm snapshots lists them", NULL);
        return r;
    }
    if (r < 0) {
        return complain(why, path.s, r);
    }
    if (!parse_info(text, &info) || strcmp(info.id, s->id) != 0) {
        ha_text_set(why, REASON_LEN_MAX + 1, path.s, ": is damaged", NULL);
        return -EBADMSG;
    }
    *ret_info = info;
    if (ret_fit != NULL) {
        ha_fit_read(text, ret_fit);
    }
    return 0;
}

int ha_snapshot_read(const struct ha_snapshot *s, struct ha_snapshot_info *ret_info,
                     char *why)
{
    return read_yaml(s, ret_info, NULL, why);
}

int ha_snapshot_fits(const struct ha_snapshot *s, char *ret_text, size_t cap)
{
    struct conf_text text = conf_text_make(ret_text, cap);
    char why[REASON_LEN_MAX + 1];
    struct ha_snapshot_info info;
    struct ha_fit saved;
    int r = read_yaml(s, &info, &saved, why);

    if (r < 0) {
        conf_text_str(&text, why);
        return r;
    }
    conf_text_strs(&text, "the state in snapshot ", s->id, " is of another VM than ",
                   "is defined now: ", NULL);
    if (!info.state || ha_fit_differences(&saved, &s->fit, &text) == 0) {
        ret_text[0] = '\0';
        return 0;
    }
    conf_text_strs(
        &text,
        "; apply a definition like that first (gemel vm apply), or make a VM of "
        "its disks alone: gemel vm clone ",
        info.vm, " NEW --snapshot ", s->id, NULL);
    return -EXDEV;
}

int ha_snapshot_check(const struct ha_snapshot *s, char *why)
{
    struct path dir = final_dir(s);
    struct ha_snapshot_info info;
    int r = ha_snapshot_read(s, &info, why);

    if (r == 0 && info.state && access(path_of("%s/state.gms", dir.s).s, R_OK) < 0) {
        r = complain(why, path_of("%s/state.gms", dir.s).s, -errno);
    }
    for (unsigned i = 0; r == 0 && i < s->disks.count; i++) {
        if (access(disk_copy(dir.s, s->disks.path[i]).s, R_OK) < 0) {
            r = -errno;
            ha_text_set(why, REASON_LEN_MAX + 1, "snapshot ", s->id,
                        " has no copy of disk ", s->disks.path[i], NULL);
        }
    }
    return r == 0 ? ha_snapshot_fits(s, why, REASON_LEN_MAX + 1) : r;
}

static int by_creation(const void *a, const void *b)
{
    const struct ha_snapshot_info *x = a, *y = b;
    int r = strcmp(x->created, y->created);

    return r != 0 ? r : strcmp(x->id, y->id);
}

int ha_snapshot_list(const char *dir, struct ha_snapshot_info *ret_info, unsigned cap,
                     char *why)
{
    struct path all = path_of("%s/snapshots", dir);
    DIR *d = opendir(all.s);
    struct dirent *entry;
    unsigned count = 0;

    if (d == NULL) {
        return errno == ENOENT ? 0 : complain(why, all.s, -errno);
    }
    while (count < cap && (entry = readdir(d)) != NULL) {
        struct ha_snapshot s = {0};

        if (entry->d_name[0] == '.' || strlen(entry->d_name) > SNAPSHOT_ID_MAX) {
            continue;
        }
        ha_text_set(s.dir, sizeof s.dir, dir, NULL);
        ha_text_set(s.id, sizeof s.id, entry->d_name, NULL);
        count += ha_snapshot_read(&s, &ret_info[count], why) == 0;
    }
    closedir(d);
    qsort(ret_info, count, sizeof *ret_info, by_creation);
    return (int)count;
}

int ha_snapshot_delete(const struct ha_snapshot *s, char *why)
{
    struct path final = final_dir(s),
                gone = path_of("%s/snapshots/.%s@%s.deleted", s->dir, s->id, s->node);
    int r;

    /* Whole, or not there: a half deleted one would look like one to revert to. */
    (void)ha_vmdir_remove(gone.s);
    if (rename(final.s, gone.s) < 0) {
        if (errno == ENOENT) {
            ha_text_set(why, REASON_LEN_MAX + 1, "there is no snapshot ", s->id, NULL);
            return -ENOENT;
        }
        return complain(why, final.s, -errno);
    }
    r = os_dir_fsync(path_of("%s/snapshots", s->dir).s);
    if (r == 0) {
        r = ha_vmdir_remove(gone.s);
    }
    return r < 0 ? complain(why, gone.s, r) : 0;
}
