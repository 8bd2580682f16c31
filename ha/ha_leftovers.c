/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_leftovers.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/uuid.h"
#include "fencing/claim_store.h"
#include "ha/ha_text.h"
#include "ha/ha_vmdir.h"

struct path {
    char s[PATH_LEN_MAX * 4];
};

static bool ends_with(const char *name, const char *end)
{
    size_t len = strlen(name), end_len = strlen(end);

    return len > end_len && strcmp(name + len - end_len, end) == 0;
}

/* `hidden`: directories, ".*END"; else files, "*END". */
static void sweep(const char *dir, const char *end, bool hidden)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    struct path path;
    int r;

    while (d != NULL && (entry = readdir(d)) != NULL) {
        if ((entry->d_name[0] == '.') != hidden || !ends_with(entry->d_name, end)) {
            continue;
        }
        ha_text_set(path.s, sizeof path.s, dir, "/", entry->d_name, NULL);
        r = hidden ? ha_vmdir_remove(path.s) : unlink(path.s) < 0 ? -errno : 0;
        if (r < 0 && r != -ENOENT) {
            log_warn("%s: left by an order that was interrupted, and not removed: %s",
                     path.s, strerror(-r));
        } else {
            log_info("%s: removed: left by an order that was interrupted", path.s);
        }
    }
    if (d != NULL) {
        closedir(d);
    }
}

void ha_leftovers_owned(const char *dir, struct uuid vm, struct uuid instance)
{
    char why[REASON_LEN_MAX + 1];
    struct claim_found found;
    struct path path;

    if (claim_store_read(dir, vm, &found, why, sizeof why) < 0 || !found.have_claim ||
        found.have_release || !uuid_equal(found.claim.owner.instance, instance)) {
        return;
    }
    ha_text_set(path.s, sizeof path.s, dir, "/" VMDIR_STATE_TMP, NULL);
    (void)unlink(path.s);
    sweep(dir, ".revert.tmp", false);
    ha_text_set(path.s, sizeof path.s, dir, "/snapshots", NULL);
    sweep(path.s, ".tmp", true);
}

static void sweep_node(const char *dir, const char *node, const char *end)
{
    char name[NODE_NAME_MAX + 32];

    ha_text_set(name, sizeof name, "@", node, end, NULL);
    sweep(dir, name, true);
}

void ha_leftovers_node(const char *dir, const char *node)
{
    struct path path;

    ha_text_set(path.s, sizeof path.s, dir, "/snapshots", NULL);
    sweep_node(path.s, node, ".tmp");
    sweep_node(path.s, node, ".deleted");
}

void ha_leftovers_clones(const char *vmroot, const char *node)
{
    sweep_node(vmroot, node, ".clone.tmp");
}
