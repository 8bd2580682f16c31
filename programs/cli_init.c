/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemel cluster init: the files that a node needs before its agent can run. First
 * everything is looked at, then everything is written: a refusal leaves the directory as
 * it was.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/os.h"
#include "cluster-conf/conf_corosync.h"
#include "cluster-conf/conf_load.h"
#include "cluster-conf/conf_write.h"
#include "programs/cli.h"
#include "programs/cli_local.h"

#define KEY_LEN      256 /* as corosync-keygen */
#define KEY_LEN_MIN  128 /* Corosync refuses less */
#define COROSYNC_CAP 32768

enum step { STEP_WRITE, STEP_KEEP, STEP_SAME, STEP_REFUSE };

struct target {
    char path[PATH_LEN_MAX];
    const char *text;
    size_t len;
    mode_t mode;
    bool is_key;
    bool kept; /* if it is there, whatever it says */
    enum step step;
};

struct init {
    const struct cli_call *call;
    struct conf_cluster cluster;
    struct cli_file source;
    char corosync[COROSYNC_CAP];
    char node[4096];
    unsigned char key[KEY_LEN];
    struct target target[4];
};

static void add(struct init *init, unsigned index, const char *dir, const char *name,
                const void *text, size_t len, mode_t mode)
{
    struct target *target = &init->target[index];

    snprintf(target->path, sizeof target->path, "%s/%s", dir, name);
    target->text = text;
    target->len = len;
    target->mode = mode;
}

static int check_key(const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        return -errno;
    }
    if ((st.st_mode & 077) != 0) {
        cli_complain(
            "%s can be read by others; chmod 0400 %s, or make a new one with --new-key",
            path, path);
        return -EPERM;
    }
    if (st.st_size < KEY_LEN_MIN) {
        cli_complain("%s has less than %d bytes, which Corosync refuses; make a new one "
                     "with --new-key",
                     path, KEY_LEN_MIN);
        return -EINVAL;
    }
    return 0;
}

/* What is to be done with one file. */
static enum cli_exit decide(struct init *init, struct target *target)
{
    static char have[DEFINITION_MAX + 1];
    bool force = init->call->is_set[CLI_OPT_FORCE];
    size_t len;
    int r;

    r = os_file_read(target->path, have, sizeof have - 1, &len);
    if (r == -ENOENT || r == -ENOTDIR) {
        target->step = STEP_WRITE;
        return CLI_DONE;
    }
    if (r < 0 && r != -EFBIG) {
        cli_complain("%s: %s; run as root, or name another directory with --dir",
                     target->path, strerror(-r));
        return r == -EACCES ? CLI_NOT_PERMITTED : CLI_FAILED;
    }
    if (target->is_key) {
        target->step = init->call->is_set[CLI_OPT_NEW_KEY] ? STEP_WRITE : STEP_KEEP;
        return target->step == STEP_KEEP && check_key(target->path) < 0 ? CLI_FAILED
                                                                        : CLI_DONE;
    }
    if (r == 0 && len == target->len && memcmp(have, target->text, len) == 0) {
        target->step = STEP_SAME;
    } else if (target->kept && !force) {
        target->step = STEP_KEEP;
    } else {
        target->step = force ? STEP_WRITE : STEP_REFUSE;
    }
    return CLI_DONE;
}

static enum cli_exit write_target(const struct target *target)
{
    char dir[PATH_LEN_MAX];
    char *slash;
    int r;

    snprintf(dir, sizeof dir, "%s", target->path);
    slash = strrchr(dir, '/');
    *slash = '\0';
    r = os_mkdir_p(dir, 0755);
    if (r == 0) {
        r = os_file_replace(target->path, target->text, target->len, target->mode);
    }
    if (r < 0) {
        cli_complain("%s: %s; run as root, or name another directory with --dir",
                     target->path, strerror(-r));
        return r == -EACCES || r == -EPERM ? CLI_NOT_PERMITTED : CLI_FAILED;
    }
    return CLI_DONE;
}

static enum cli_exit prepare(struct init *init)
{
    const struct cli_call *call = init->call;
    const char *path = call->value[CLI_OPT_FILE], *local = call->value[CLI_OPT_NODE];
    const char *dir = call->is_set[CLI_OPT_DIR] ? call->value[CLI_OPT_DIR] : "/etc";
    struct conf_corosync_paths paths = {0};
    struct conf_error error;
    static char keyfile[PATH_LEN_MAX];
    size_t len;

    if (strlen(dir) > PATH_LEN_MAX - 64) {
        cli_complain("--dir: the path is too long");
        return CLI_USAGE;
    }
    if (cli_file_need(path, &init->source) < 0) {
        return CLI_FAILED;
    }
    if (conf_cluster_load(init->source.text, init->source.len, path, &init->cluster,
                          &error) < 0) {
        fprintf(stderr, "%s\n", error.text);
        cli_complain("nothing was written");
        return CLI_FAILED;
    }
    snprintf(keyfile, sizeof keyfile, "%s/corosync/authkey", dir);
    paths.keyfile = strcmp(dir, "/etc") == 0 ? NULL : keyfile;
    len = conf_corosync_write(&init->cluster, local, &paths, init->corosync,
                              sizeof init->corosync);
    if (len == 0) {
        cli_complain("%s has no node %s; write one of its names: --node %s", path, local,
                     init->cluster.node[0].name);
        return CLI_NOT_FOUND;
    }
    if (getrandom(init->key, sizeof init->key, 0) != (ssize_t)sizeof init->key) {
        cli_complain("no random bytes for the ring key: %s", strerror(errno));
        return CLI_FAILED;
    }
    snprintf(init->node, sizeof init->node,
             "# This node, for gemeld. Written by gemel cluster init; edit it.\n"
             "node:\n"
             "  name: %s\n"
             "  # The shared file system with the directories of the VMs:\n"
             "  vmroot: /srv/gemel\n"
             "  # bridge: br0\n"
             "  # memory: 32GiB\n",
             local);
    add(init, 0, dir, "corosync/corosync.conf", init->corosync, len, 0644);
    add(init, 1, dir, "corosync/authkey", init->key, sizeof init->key, 0400);
    add(init, 2, dir, "gemel/cluster.yaml", init->source.text, init->source.len, 0644);
    add(init, 3, dir, "gemel/node.yaml", init->node, strlen(init->node), 0644);
    init->target[1].is_key = true;
    init->target[3].kept = true;
    return CLI_DONE;
}

static enum cli_exit decide_all(struct init *init)
{
    enum cli_exit r = CLI_DONE;
    bool refused = false;

    for (size_t i = 0; r == CLI_DONE && i < ARRAY_SIZE(init->target); i++) {
        if (init->target[i].is_key && !init->cluster.crypto) {
            init->target[i].step = STEP_SAME;
            continue;
        }
        r = decide(init, &init->target[i]);
        if (init->target[i].step == STEP_REFUSE) {
            cli_complain("%s is there and differs; --force overwrites it",
                         init->target[i].path);
            refused = true;
        }
    }
    if (r == CLI_DONE && refused) {
        cli_complain("nothing was written");
        r = CLI_REFUSED;
    }
    return r;
}

enum cli_exit cli_run_cluster_init(const struct cli_call *call)
{
    static const char *const said[] = {
        [STEP_WRITE] = "written", [STEP_KEEP] = "kept", [STEP_SAME] = "unchanged"};
    bool dry_run = call->is_set[CLI_OPT_DRY_RUN];
    struct init *init = calloc(1, sizeof *init);
    enum cli_exit r;

    if (init == NULL) {
        cli_complain("out of memory");
        return CLI_FAILED;
    }
    init->call = call;
    r = prepare(init);
    if (r == CLI_DONE) {
        r = decide_all(init);
    }
    for (size_t i = 0; r == CLI_DONE && i < ARRAY_SIZE(init->target); i++) {
        const struct target *target = &init->target[i];

        if (target->is_key && !init->cluster.crypto) {
            continue;
        }
        if (target->step == STEP_WRITE && !dry_run) {
            r = write_target(target);
        }
        if (r == CLI_DONE && !call->is_set[CLI_OPT_JSON]) {
            printf("%s: %s\n", target->path,
                   dry_run && target->step == STEP_WRITE ? "would be written"
                                                         : said[target->step]);
        }
    }
    if (r == CLI_DONE && call->is_set[CLI_OPT_JSON]) {
        printf("{\"changed\":%s}\n", dry_run ? "false" : "true");
    } else if (r == CLI_DONE && !dry_run && init->cluster.crypto &&
               init->target[1].step == STEP_WRITE) {
        printf("next: copy %s to the other nodes before they are initialised; then, on "
               "each node:\n"
               "  systemctl enable --now corosync gemeld\n",
               init->target[1].path);
    }
    explicit_bzero(init->key, sizeof init->key);
    free(init);
    return r;
}
