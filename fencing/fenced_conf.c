/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of gemel-fenced: the cluster definition, of which it uses the fence
 * section. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster-conf/conf_load.h"
#include "fencing/fenced_int.h"

void fenced_snapshot_unref(struct fenced_snapshot *snapshot)
{
    if (snapshot != NULL && --snapshot->refs == 0) {
        free(snapshot);
    }
}

static int fail(struct conf_error *ret_error, const char *text)
{
    snprintf(ret_error->text, sizeof(ret_error->text), "%s", text);
    return -EINVAL;
}

/* What conf_check cannot know: what our agents are given. */
static int check_devices(const struct conf_cluster *conf, struct conf_error *ret_error)
{
    struct fence_error error;

    for (unsigned i = 0; i < conf->device_count; i++) {
        unsigned same = 0;

        if (fence_device_check(&conf->device[i], &error) < 0) {
            return fail(ret_error, error.text);
        }
        for (unsigned n = 0; n < conf->device_count; n++) {
            same += strcmp(conf->device[n].node, conf->device[i].node) == 0;
        }
        /* All devices of a level must agree: leaving one out would be worse than
         * refusing. */
        if (same > FENCE_LEGS_MAX) {
            return fail(ret_error,
                        "fence: more than 16 devices for one node; remove some");
        }
    }
    return 0;
}

/* The first secret that would be refused when it is needed: said now. */
static void check_secrets(const struct fenced *f, const struct conf_cluster *conf,
                          char ret_warning[REASON_LEN_MAX + 1])
{
    char secret[FENCE_SECRET_LEN_MAX + 1];
    struct fence_error error;
    size_t len;

    for (unsigned i = 0; i < conf->device_count && ret_warning[0] == '\0'; i++) {
        if (fence_secret_read(f->secrets_dir, conf->device[i].name, secret, &len,
                              &error) < 0) {
            snprintf(ret_warning, REASON_LEN_MAX + 1, "%s", error.text);
        }
        explicit_bzero(secret, sizeof(secret));
    }
}

int fenced_configure(struct fenced *f, const char *yaml, struct conf_error *ret_error,
                     char ret_warning[REASON_LEN_MAX + 1])
{
    struct fenced_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    int r;

    ret_warning[0] = '\0';
    if (snapshot == NULL) {
        return fail(ret_error, "out of memory");
    }
    snapshot->refs = 1;
    r = conf_cluster_load(yaml, strlen(yaml), "cluster definition", &snapshot->conf,
                          ret_error);
    if (r < 0) {
        goto out;
    }
    r = check_devices(&snapshot->conf, ret_error);
    if (r < 0) {
        goto out;
    }
    check_secrets(f, &snapshot->conf, ret_warning);
    fenced_snapshot_unref(f->snapshot);
    f->snapshot = snapshot;
    snapshot = NULL;
out:
    fenced_snapshot_unref(snapshot);
    return r;
}
