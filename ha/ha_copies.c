/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_copies.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/os.h"
#include "base/uuid.h"
#include "cluster-conf/conf_write.h"
#include "fencing/claim_store.h"
#include "ha/ha_leftovers.h"
#include "ha/ha_text.h"

#define SNAPSHOTS_MAX 256
#define YAML_MAX      (64 * 1024)

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_NOT_FOUND = 3, EXIT_REFUSED = 4 };

struct path {
    char s[PATH_LEN_MAX * 5];
};

static struct path join(const char *dir, const char *name)
{
    struct path p;

    ha_text_set(p.s, sizeof p.s, dir, "/", name, NULL);
    return p;
}

static void answer(struct ha_copies *c, uint32_t exit_code, const char *a, const char *b,
                   const char *d)
{
    c->exit_code = exit_code;
    ha_text_set(c->text, sizeof c->text, c->conf.name, ": ", a, b, d, NULL);
}

static uint32_t exit_of(int r)
{
    return r == -ENOENT                  ? EXIT_NOT_FOUND
           : r == -EEXIST || r == -EXDEV ? EXIT_REFUSED
                                         : EXIT_FAILED;
}

/* Nobody runs it: there is no claim, or the highest is released. */
static bool at_rest(struct ha_copies *c, struct claim_found *ret_found)
{
    char why[REASON_LEN_MAX + 1];
    int r = claim_store_read(c->snapshot.dir, c->vm, ret_found, why, sizeof why);

    if (r < 0) {
        answer(c, EXIT_FAILED, why, "", "");
        return false;
    }
    if (ret_found->have_claim && !ret_found->have_release && c->runs_on[0] != '\0') {
        answer(c, EXIT_REFUSED, "runs on ", c->runs_on,
               "; clone a snapshot of it, or stop it first");
        return false;
    }
    if (ret_found->have_claim && !ret_found->have_release) {
        answer(c, EXIT_REFUSED, "its claim is not released: it runs on ",
               ret_found->claim.node_name,
               ", or did until that node died; take a snapshot of it while it runs, or "
               "start and stop it");
        return false;
    }
    if (ha_snapshot_torn(&c->snapshot)) {
        answer(
            c, EXIT_REFUSED,
            "a revert was interrupted between two of its disks; start it, or revert it "
            "again",
            "", "");
        return false;
    }
    return true;
}

static bool stayed_at_rest(struct ha_copies *c, const struct claim_found *before)
{
    struct claim_found now;

    if (!at_rest(c, &now)) {
        return false;
    }
    if (now.have_claim != before->have_claim ||
        (now.have_claim && now.claim.epoch != before->claim.epoch)) {
        answer(c, EXIT_REFUSED, "was started while it was copied; nothing is kept", "",
               "");
        return false;
    }
    return true;
}

/* Snapshots
 * -------------------------------------------------------------------------------- */

static void list(struct ha_copies *c)
{
    struct ha_snapshot_info *info = calloc(SNAPSHOTS_MAX, sizeof *info);
    json_object *doc = json_object_new_object(), *all = json_object_new_array();
    char why[REASON_LEN_MAX + 1] = "out of memory";
    int count = info == NULL
                    ? -ENOMEM
                    : ha_snapshot_list(c->snapshot.dir, info, SNAPSHOTS_MAX, why);

    for (int i = 0; i < count; i++) {
        json_object *o = json_object_new_object();

        json_object_object_add(o, "name", json_object_new_string(info[i].id));
        json_object_object_add(o, "created", json_object_new_string(info[i].created));
        json_object_object_add(o, "state", json_object_new_boolean(info[i].state));
        json_object_object_add(o, "epoch", json_object_new_uint64(info[i].epoch));
        json_object_object_add(o, "bytes", json_object_new_uint64(info[i].bytes));
        json_object_array_add(all, o);
    }
    json_object_object_add(doc, "vm", json_object_new_string(c->conf.name));
    json_object_object_add(doc, "snapshots", all);
    if (count < 0) {
        answer(c, EXIT_FAILED, why, "", "");
    } else {
        c->body = strdup(json_object_to_json_string_ext(doc, JSON_C_TO_STRING_PLAIN));
        c->text[0] = '\0';
    }
    json_object_put(doc);
    free(info);
}

static int copy_suspended_state(struct ha_copies *c, const struct claim_found *found,
                                char *why)
{
    struct path from = join(c->snapshot.dir, VMDIR_STATE);
    char to[PATH_LEN_MAX * 4];

    if (!found->have_release || !found->release.suspended) {
        return 0;
    }
    snprintf(to, sizeof to, "%s/snapshots/.%s@%s.tmp/state.gms", c->snapshot.dir,
             c->snapshot.id, c->snapshot.node);
    return ha_vmdir_copy(from.s, to, NULL, why);
}

static int make_snapshot(struct ha_copies *c, const struct claim_found *found, char *why)
{
    struct ha_snapshot_info info = {
        .epoch = found->have_claim ? found->claim.epoch : 0,
        .state = found->have_release && found->release.suspended,
    };
    int r;

    ha_text_set(info.vm, sizeof info.vm, c->conf.name, NULL);
    r = copy_suspended_state(c, found, why);
    if (r == 0) {
        r = ha_snapshot_fill(&c->snapshot, &info, NULL, why);
    }
    if (r == 0 && info.state &&
        memcmp(info.digest, found->release.digest, sizeof info.digest) != 0) {
        ha_text_set(why, REASON_LEN_MAX + 1,
                    VMDIR_STATE " is damaged: it is not what the release names", NULL);
        r = -EBADMSG;
    }
    return r;
}

static void snapshot(struct ha_copies *c)
{
    char why[REASON_LEN_MAX + 1] = "";
    struct claim_found found;
    int r;

    if (!at_rest(c, &found)) {
        return;
    }
    if (c->dry_run) {
        answer(c, EXIT_DONE, "a snapshot of its disks would be taken: ", c->snapshot.id,
               "");
        return;
    }
    ha_leftovers_node(c->snapshot.dir, c->snapshot.node);
    r = ha_snapshot_begin(&c->snapshot, why);
    if (r < 0) {
        answer(c, exit_of(r), "no snapshot: ", why, "");
        return;
    }
    r = make_snapshot(c, &found, why);
    if (!stayed_at_rest(c, &found)) { /* then this may have been swept away, too */
        ha_snapshot_abort(&c->snapshot);
        return;
    }
    if (r == 0) {
        r = ha_snapshot_commit(&c->snapshot, why);
    }
    if (r < 0) {
        ha_snapshot_abort(&c->snapshot);
        answer(c, EXIT_FAILED, "no snapshot: ", why, "");
        return;
    }
    answer(c, EXIT_DONE, "snapshot ", c->snapshot.id, " taken");
}

static void delete_snapshot(struct ha_copies *c)
{
    char why[REASON_LEN_MAX + 1] = "";
    struct ha_snapshot_info info;
    int r;

    if (!c->dry_run) {
        ha_leftovers_node(c->snapshot.dir, c->snapshot.node);
    }
    r = c->dry_run ? ha_snapshot_read(&c->snapshot, &info, why)
                   : ha_snapshot_delete(&c->snapshot, why);

    if (r < 0) {
        answer(c, exit_of(r), why, "", "");
    } else {
        answer(c, EXIT_DONE, "snapshot ", c->snapshot.id,
               c->dry_run ? " would be deleted" : " deleted");
    }
}

static void check(struct ha_copies *c)
{
    char why[REASON_LEN_MAX * 3] = "";
    int r = ha_snapshot_check(&c->snapshot, why);

    if (r == -EXDEV) {
        r = ha_snapshot_fits(&c->snapshot, why, sizeof why); /* all of the list */
    }
    if (r < 0) {
        answer(c, exit_of(r), "not reverted: ", why, "");
    }
}

/* Clones
 * ----------------------------------------------------------------------------------- */

void ha_copies_redefine(struct conf_vm *conf, const char *name, struct uuid uuid,
                        const uint8_t random[VM_NICS_MAX][3])
{
    static const uint8_t prefix[3] = {0x52, 0x54, 0x00}; /* local, as KVM's always were */

    ha_text_set(conf->name, sizeof conf->name, name, NULL);
    conf->uuid = uuid;
    for (unsigned i = 0; i < conf->nic_count; i++) {
        memcpy(conf->nic[i].mac, prefix, sizeof prefix);
        memcpy(conf->nic[i].mac + sizeof prefix, random[i], sizeof random[i]);
    }
}

static int copy_one(const char *from, const char *to_dir, const char *name, char *why)
{
    struct path to = join(to_dir, name);
    char *slash = strrchr(to.s, '/');
    int r;

    *slash = '\0';
    r = os_mkdir_p(to.s, 0700);
    *slash = '/';
    if (r < 0) {
        ha_text_set(why, REASON_LEN_MAX + 1, to.s, ": ", strerror(-r), NULL);
        return r;
    }
    return ha_vmdir_copy(from, to.s, NULL, why);
}

static int copy_disks(struct ha_copies *c, const char *to_dir, char *why)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < c->conf.disk_count; i++) {
        const struct conf_disk *disk = &c->conf.disk[i];
        struct path from = join(c->snapshot.dir, disk->path);

        if (disk->path[0] == '/' || conf_disk_is_nbd(disk)) {
            continue; /* read only, or it was refused: shared */
        }
        if (c->snapshot.id[0] != '\0' && !disk->read_only) {
            char name[PATH_LEN_MAX * 3];

            ha_vmdir_flat_name(disk->path, name, sizeof name);
            ha_text_set(from.s, sizeof from.s, c->snapshot.dir, "/snapshots/",
                        c->snapshot.id, "/", name, NULL);
        }
        r = copy_one(from.s, to_dir, disk->path, why);
    }
    if (r == 0 && c->conf.firmware[0] != '\0' && c->conf.firmware[0] != '/') {
        r = copy_one(join(c->snapshot.dir, c->conf.firmware).s, to_dir, c->conf.firmware,
                     why);
    }
    if (r == 0 && access(join(c->snapshot.dir, "nvram.bin").s, F_OK) == 0) {
        r = copy_one(join(c->snapshot.dir, "nvram.bin").s, to_dir, "nvram.bin", why);
    }
    return r;
}

static int write_definition(struct ha_copies *c, const char *to_dir, char *why)
{
    uint8_t random[VM_NICS_MAX][3];
    char name[VM_NAME_MAX + 8];
    struct conf_vm *conf = malloc(sizeof *conf);
    char *yaml = malloc(YAML_MAX);
    int r = -ENOMEM;
    size_t len;

    if (conf == NULL || yaml == NULL) {
        goto out;
    }
    for (unsigned i = 0; i < VM_NICS_MAX; i++) {
        struct uuid id = uuid_random();

        memcpy(random[i], id.b, sizeof random[i]);
    }
    *conf = c->conf;
    ha_copies_redefine(conf, c->clone, uuid_random(), random);
    len = conf_vm_write(conf, yaml, YAML_MAX);
    snprintf(name, sizeof name, "%s.yaml", c->clone);
    r = len == 0 ? -E2BIG : os_file_replace(join(to_dir, name).s, yaml, len, 0600);
    if (r == 0) {
        c->body = yaml;
        yaml = NULL;
    }
out:
    if (r < 0) {
        ha_text_set(why, REASON_LEN_MAX + 1, "its definition: ", strerror(-r), NULL);
    }
    free(yaml);
    free(conf);
    return r;
}

/* The whole directory appears at once; what it may not replace is looked for before. */
static int put_clone(const char *temp, const char *final, const char *vmroot, char *why)
{
    int r = access(final, F_OK) == 0 ? -EEXIST : 0;

    if (r == 0 && rename(temp, final) < 0) {
        r = -errno;
    }
    if (r == 0) {
        r = os_dir_fsync(vmroot);
    }
    if (r < 0) {
        ha_text_set(why, REASON_LEN_MAX + 1, final, ": ", strerror(-r), NULL);
    }
    return r;
}

static int make_clone(struct ha_copies *c, const char *temp, char *why)
{
    int r = ha_vmdir_remove(temp); /* of an attempt that was interrupted */

    if (r == 0 && mkdir(temp, 0700) < 0) {
        r = -errno;
    }
    if (r < 0) {
        ha_text_set(why, REASON_LEN_MAX + 1, temp, ": ", strerror(-r), NULL);
        return r;
    }
    r = copy_disks(c, temp, why);
    return r == 0 ? write_definition(c, temp, why) : r;
}

static bool clone_is_possible(struct ha_copies *c, struct claim_found *ret_found)
{
    char why[REASON_LEN_MAX + 1] = "";
    int r = 0;

    if (!ha_vmdir_disks_of(&c->conf, &c->snapshot.disks, why)) {
        answer(c, EXIT_REFUSED, why, "", "");
        return false;
    }
    if (access(join(c->vmroot, c->clone).s, F_OK) == 0) {
        answer(c, EXIT_REFUSED, "not cloned: there is a directory ", c->clone,
               " already");
        return false;
    }
    if (c->snapshot.id[0] == '\0') {
        return at_rest(c, ret_found);
    }
    r = ha_snapshot_check(&c->snapshot, why);
    if (r < 0) {
        answer(c, exit_of(r), "not cloned: ", why, "");
    }
    return r == 0;
}

static void clone(struct ha_copies *c)
{
    char why[REASON_LEN_MAX + 1] = "", name[VM_NAME_MAX + NODE_NAME_MAX + 16];
    struct claim_found found = {0};
    struct path temp;
    int r;

    if (!clone_is_possible(c, &found)) {
        return;
    }
    if (c->dry_run) {
        answer(c, EXIT_DONE, "would be cloned to ", c->clone, "");
        return;
    }
    ha_leftovers_clones(c->vmroot, c->snapshot.node);
    snprintf(name, sizeof name, ".%s@%s.clone.tmp", c->clone, c->snapshot.node);
    temp = join(c->vmroot, name);
    r = make_clone(c, temp.s, why);
    if (r == 0 && c->snapshot.id[0] == '\0' && !stayed_at_rest(c, &found)) {
        (void)ha_vmdir_remove(temp.s);
        return;
    }
    if (r == 0) {
        r = put_clone(temp.s, join(c->vmroot, c->clone).s, c->vmroot, why);
    }
    if (r < 0) {
        (void)ha_vmdir_remove(temp.s);
        answer(c, exit_of(r), "not cloned: ", why, "");
    }
}

void ha_copies_undo(void *data)
{
    struct ha_copies *c = data;

    (void)ha_vmdir_remove(join(c->vmroot, c->clone).s);
}

void ha_copies_work(void *data)
{
    static void (*const run[])(struct ha_copies *) = {
        [HA_COPIES_LIST] = list,
        [HA_COPIES_SNAPSHOT] = snapshot,
        [HA_COPIES_DELETE] = delete_snapshot,
        [HA_COPIES_CHECK] = check,
        [HA_COPIES_CLONE] = clone,
    };
    struct ha_copies *c = data;
    char why[REASON_LEN_MAX + 1] = "";

    c->exit_code = EXIT_DONE;
    if ((c->kind == HA_COPIES_SNAPSHOT || c->kind == HA_COPIES_CHECK) &&
        !ha_vmdir_disks_of(&c->conf, &c->snapshot.disks, why)) {
        answer(c, EXIT_REFUSED, why, "", "");
        return;
    }
    run[c->kind](c);
}
