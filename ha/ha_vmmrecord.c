/* SPDX-License-Identifier: Apache-2.0 */
/* run_dir/vm/UUID.json: what an agent that is restarted finds its VMs by. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "base/log.h"
#include "base/os.h"
#include "base/uuid.h"
#include "cluster-conf/conf_load.h"
#include "cluster-conf/conf_write.h"
#include "ha/ha_text.h"
#include "ha/ha_vmm_priv.h"

#define RECORD_DEFINITION_MAX (64 * 1024) /* conf_vm_write: always suffices */

/* Writing
 * --------------------------------------------------------------------------------------
 */

void ha_record_put_uuid(json_object *doc, const char *key, struct uuid id)
{
    char text[UUID_STR_LEN + 1];

    uuid_format(id, text);
    json_object_object_add(doc, key, json_object_new_string(text));
}

void ha_record_put_number(json_object *doc, const char *key, uint64_t value)
{
    json_object_object_add(doc, key, json_object_new_uint64(value));
}

static void put_process(json_object *doc, const char *pid_key, const char *time_key,
                        const struct os_child *child)
{
    ha_record_put_number(doc, pid_key, child->pidfd >= 0 ? (uint64_t)child->pid : 0);
    ha_record_put_number(doc, time_key, child->pidfd >= 0 ? child->start_time : 0);
}

/* What its disks are now: a definition may change while it runs. */
static json_object *disks_doc(const struct ha_local *l)
{
    json_object *list = json_object_new_array();

    for (unsigned i = 0; i < l->disk_count; i++) {
        json_object *disk = json_object_new_object();

        json_object_object_add(disk, "path", json_object_new_string(l->disk[i].path));
        ha_record_put_number(disk, "format", l->disk[i].format);
        ha_record_put_number(disk, "read_only", l->disk[i].read_only);
        ha_record_put_number(disk, "mirrored", l->disk[i].mirrored);
        ha_record_put_number(disk, "exclusion", l->disk[i].exclusion);
        json_object_array_add(list, disk);
    }
    return list;
}

static void put_definition(const struct ha_local *l, json_object *doc)
{
    char *text = l->conf != NULL ? malloc(RECORD_DEFINITION_MAX) : NULL;

    if (text != NULL && conf_vm_write(l->conf, text, RECORD_DEFINITION_MAX) > 0) {
        json_object_object_add(doc, "definition", json_object_new_string(text));
    }
    free(text);
}

/* RUN_DIR is a tmpfs: what it holds is gone with this boot, as the processes are. */
int ha_local_save(struct ha_local *l)
{
    json_object *doc = json_object_new_object();
    const char *text;
    int r;

    json_object_object_add(doc, "name", json_object_new_string(l->name));
    ha_record_put_uuid(doc, "vm", l->vm);
    ha_record_put_uuid(doc, "instance", l->instance);
    ha_record_put_uuid(doc, "attempt", l->attempt);
    ha_record_put_number(doc, "epoch", l->epoch);
    put_process(doc, "pid", "start_time", &l->child);
    ha_record_put_number(doc, "uid", l->uid);
    ha_record_put_number(doc, "beside", l->predecessor != NULL);
    put_process(doc, "storage_pid", "storage_start_time", &l->storage);
    ha_record_put_number(doc, "storage_uid", l->storage_uid);
    ha_record_put_number(doc, "owes", l->owes);
    json_object_object_add(doc, "disks", disks_doc(l));
    put_definition(l, doc);
    ha_vmmtwin_put(l, doc);
    text = json_object_to_json_string_ext(doc, JSON_C_TO_STRING_PLAIN);
    r = text != NULL ? os_file_replace(l->json_path, text, strlen(text), 0600) : -ENOMEM;
    json_object_put(doc);
    if (r < 0) {
        log_warn("vm %s: %s: %s; it would not be found again after an agent restart",
                 l->name, l->json_path, strerror(-r));
    }
    return r;
}

/* Reading
 * --------------------------------------------------------------------------------------
 */

bool ha_record_uuid(json_object *doc, const char *key, struct uuid *ret)
{
    json_object *value;

    return json_object_object_get_ex(doc, key, &value) &&
           uuid_parse(json_object_get_string(value), ret);
}

uint64_t ha_record_number(json_object *doc, const char *key)
{
    json_object *value;

    return json_object_object_get_ex(doc, key, &value) ? json_object_get_uint64(value)
                                                       : 0;
}

void ha_record_disks(struct ha_local *l, json_object *doc)
{
    json_object *list, *path;

    if (!json_object_object_get_ex(doc, "disks", &list) ||
        !json_object_is_type(list, json_type_array)) {
        /* written by an older agent */
        const struct ha_vm *record = l->vmm->ops->record(l->vmm->ctx, l->vm);
        const struct conf_vm *conf = record != NULL ? record->conf : NULL;

        if (conf != NULL) {
            l->disk_count = conf->disk_count;
            memcpy(l->disk, conf->disk, sizeof l->disk);
        }
        return;
    }
    for (size_t i = 0; i < json_object_array_length(list) && i < VM_DISKS_MAX; i++) {
        json_object *disk = json_object_array_get_idx(list, i);
        struct conf_disk *d = &l->disk[l->disk_count++];

        if (json_object_object_get_ex(disk, "path", &path)) {
            ha_text_set(d->path, sizeof d->path, json_object_get_string(path), NULL);
        }
        d->format = (enum conf_disk_format)ha_record_number(disk, "format");
        d->read_only = ha_record_number(disk, "read_only") != 0;
        d->mirrored = ha_record_number(disk, "mirrored") != 0;
        d->exclusion = (enum conf_exclusion)ha_record_number(disk, "exclusion");
    }
}

void ha_record_definition(struct ha_local *l, json_object *doc)
{
    struct conf_error error;
    json_object *text;

    if (!json_object_object_get_ex(doc, "definition", &text)) {
        return;
    }
    l->conf = calloc(1, sizeof *l->conf);
    if (l->conf != NULL && conf_vm_load(json_object_get_string(text),
                                        (size_t)json_object_get_string_len(text),
                                        l->json_path, l->conf, &error) < 0) {
        log_warn("vm %s: %s", l->name, error.text);
        free(l->conf);
        l->conf = NULL;
    }
}
