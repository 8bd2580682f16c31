/* SPDX-License-Identifier: Apache-2.0 */
/* VMs that an earlier agent of this boot left running are found again (R8). */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ha/ha_storage.h"
#include "ha/ha_text.h"
#include "ha/ha_vmm_priv.h"

#define LOCAL_JSON_MAX (256 * 1024) /* of one VM; its definition, escaped */

/* Who is not found again would be held for ended, and started a second time: so what
 * cannot be read, or looked at, stops the agent. */
static int adopt_one(struct ha_vmm *vmm, const char *stem, json_object *doc)
{
    json_object *name;
    struct uuid vm, instance, attempt;
    struct os_child child;
    struct ha_local *l;
    int storage, r;
    pid_t pid;

    if (!json_object_object_get_ex(doc, "name", &name) ||
        !ha_record_uuid(doc, "vm", &vm) || !ha_record_uuid(doc, "instance", &instance) ||
        !ha_record_uuid(doc, "attempt", &attempt)) {
        return -EBADMSG;
    }
    pid = (pid_t)ha_record_number(doc, "pid");
    /* No pid: the agent ended before there was a process that it told anything. */
    r = pid > 0 ? os_child_reopen(pid, ha_record_number(doc, "start_time"), &child)
                : -ESRCH;
    if (r < 0 && r != -ESRCH) {
        return r;
    }
    l = ha_local_new(vmm, vm, json_object_get_string(name));
    if (l == NULL) {
        return -ENOMEM; /* child.pidfd goes with the process */
    }
    ha_local_paths(l, stem);
    /* It was to take over from another instance, and has no claim. */
    l->superseded = l->discarded = ha_record_number(doc, "beside") != 0;
    l->instance = instance;
    l->attempt = attempt;
    l->epoch = ha_record_number(doc, "epoch");
    l->uid = (uint32_t)ha_record_number(doc, "uid");
    l->storage_uid = (uint32_t)ha_record_number(doc, "storage_uid");
    l->owes = ha_record_number(doc, "owes") != 0;
    ha_record_disks(l, doc);
    ha_record_definition(l, doc);
    storage = ha_storage_adopt(l, (int)ha_record_number(doc, "storage_pid"),
                               ha_record_number(doc, "storage_start_time"));
    /* Its claim is taken for won: if it was not, releasing it changes nothing (the
     * release names the instance). */
    l->claim_won = l->epoch != 0;
    l->adopted = true;
    l->phase = LOCAL_RUNNING;
    ha_vmmtwin_adopt(l, doc);
    ha_local_publish(l, false);
    if (storage < 0) {
        return storage;
    }
    if (r < 0) {
        ha_local_read_exit(l);
        ha_text_set(l->outcome_text, sizeof l->outcome_text,
                    l->outcome_text[0] != '\0' ? l->outcome_text
                                               : "it ended while the agent was away",
                    NULL);
        l->outcome = HA_OUTCOME_ENDED;
        ha_local_gone(l);
        return 0;
    }
    l->child = child;
    log_info("vm %s: found again, pid %d, epoch %" PRIu64, l->name, (int)pid, l->epoch);
    r = ha_local_watch(l);
    if (l->discarded) {
        ha_local_kill(l);
    } else if (r == 0) {
        ha_vmmlink_connect(l);
    }
    return r;
}

int ha_vmm_adopt(struct ha_vmm *vmm)
{
    char path[PATH_LEN_MAX * 2], stem[NAME_MAX + 1], *text = malloc(LOCAL_JSON_MAX);
    struct dirent *entry;
    int r = 0;
    DIR *dir;

    if (text == NULL) {
        return -ENOMEM;
    }

    snprintf(path, sizeof path, "%s/vm", vmm->node.run_dir);
    dir = opendir(path);
    if (dir == NULL) {
        r = -errno;
        free(text);
        return r;
    }
    while ((entry = readdir(dir)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');
        json_object *doc;
        size_t len;

        if (dot == NULL || strcmp(dot, ".json") != 0) {
            continue;
        }
        snprintf(path, sizeof path, "%s/vm/%s", vmm->node.run_dir, entry->d_name);
        r = os_file_read(path, text, LOCAL_JSON_MAX - 1, &len);
        if (r == 0) {
            doc = json_tokener_parse(text);
            ha_text_set(stem, sizeof stem, entry->d_name, NULL);
            stem[strlen(stem) > 5 ? strlen(stem) - 5 : 0] = '\0'; /* .json */
            r = doc != NULL ? adopt_one(vmm, stem, doc) : -EBADMSG;
            json_object_put(doc);
        }
        if (r < 0) {
            log_err(
                "%s: %s; a VM may run that this agent would not know of; when none of "
                "this file runs, remove it",
                path, strerror(-r));
            break;
        }
    }
    closedir(dir);
    free(text);
    ha_vmmupgrade_adopted(vmm);
    return r;
}
