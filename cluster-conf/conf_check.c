/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster-conf/conf_check.h"

#include <errno.h>
#include <string.h>

#include "base/nbd_uri.h"
#include "base/uuid.h"
#include "cluster-conf/conf_bind.h"
#include "cluster-conf/conf_scalar.h"
#include "cluster-conf/conf_similar.h"

#define NONE SIZE_MAX

/* Sets the key, as "list[index].leaf" or "leaf", and begins the sentence. */
static struct conf_text wrong(struct conf_error *error, const char *list, size_t index,
                              const char *leaf)
{
    struct conf_text key = conf_text_make(error->key, sizeof error->key);

    error->line = 0;
    if (list != NULL) {
        conf_text_strs(&key, list, "[", NULL);
        conf_text_u64(&key, index);
        conf_text_strs(&key, "]", leaf[0] != '\0' ? "." : "", NULL);
    }
    conf_text_str(&key, leaf);
    return conf_text_make(error->what, sizeof error->what);
}

static int done(struct conf_error *error)
{
    conf_error_compose(error, NULL);
    return -EINVAL;
}

static int refuse(struct conf_error *error, const char *list, size_t index,
                  const char *leaf, const char *what)
{
    struct conf_text text = wrong(error, list, index, leaf);

    conf_text_str(&text, what);
    return done(error);
}

static const char comma[] = "has a comma, which parts gemel-vmm's options of a disk; "
                            "write a path without one";

/* ---- node ---- */

int conf_node_check(const struct conf_node *node, struct conf_error *ret_error)
{
    const struct {
        const char *key, *path;
    } dirs[] = {
        {"node.vmroot", node->vmroot},
        {"node.state_dir", node->state_dir},
        {"node.run_dir", node->run_dir},
        {"node.log_dir", node->log_dir},
    };

    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        if (dirs[i].path[0] != '/') {
            return refuse(ret_error, NULL, NONE, dirs[i].key,
                          "is not absolute; write a path that begins with /");
        }
    }
    if (node->vmm_path[0] != '\0' && node->vmm_path[0] != '/') {
        return refuse(ret_error, NULL, NONE, "node.vmm_path",
                      "is not absolute; write a path that begins with /");
    }
    if (strchr(node->vmroot, ',') != NULL) {
        return refuse(ret_error, NULL, NONE, "node.vmroot", comma);
    }
    if (strcmp(node->vmroot, node->state_dir) == 0) {
        return refuse(ret_error, NULL, NONE, "node.state_dir",
                      "is the same as vmroot, which is shared; write a local directory "
                      "of this node");
    }
    return 0;
}

/* ---- cluster ---- */

static int duplicate(struct conf_error *error, const char *list, size_t index,
                     const char *leaf, const char *value, size_t first)
{
    struct conf_text what = wrong(error, list, index, leaf);

    conf_text_strs(&what, value, " is also that of ", list, "[", NULL);
    conf_text_u64(&what, first);
    conf_text_str(&what, "]; write another one");
    return done(error);
}

/* Corosync does not start with IPv4 and IPv6 on one link. Host names are resolved only
 * there. */
static int check_families(const struct conf_cluster *cluster,
                          struct conf_error *ret_error)
{
    const struct conf_cluster_node *first = NULL;
    enum conf_addr kind, first_kind = CONF_ADDR_NAME;

    for (size_t i = 0; i < cluster->node_count; i++) {
        const struct conf_cluster_node *node = &cluster->node[i];

        kind = conf_addr_kind(node->addr);
        if (kind == CONF_ADDR_NAME) {
            continue;
        }
        if (first != NULL && kind != first_kind) {
            struct conf_text what = wrong(ret_error, "cluster.nodes", i, "addr");

            conf_text_strs(
                &what, node->addr, " and ", first->addr, " of ", first->name,
                " are of different IP versions; write one version for all nodes", NULL);
            return done(ret_error);
        }
        first = node;
        first_kind = kind;
    }
    return 0;
}

static int check_cluster_nodes(const struct conf_cluster *cluster,
                               struct conf_error *ret_error)
{
    static const char list[] = "cluster.nodes";

    for (size_t i = 0; i < cluster->node_count; i++) {
        const struct conf_cluster_node *a = &cluster->node[i];

        for (size_t j = 0; j < i; j++) {
            const struct conf_cluster_node *b = &cluster->node[j];
            char id_buf[16];
            struct conf_text id = conf_text_make(id_buf, sizeof id_buf);

            conf_text_u64(&id, a->nodeid);
            if (strcmp(a->name, b->name) == 0) {
                return duplicate(ret_error, list, i, "name", a->name, j);
            }
            if (a->nodeid == b->nodeid) {
                return duplicate(ret_error, list, i, "id", id_buf, j);
            }
            if (strcmp(a->addr, b->addr) == 0) {
                return duplicate(ret_error, list, i, "addr", a->addr, j);
            }
        }
    }
    return 0;
}

static bool contains(const char *key, const char *part)
{
    return strstr(key, part) != NULL;
}

static bool ends_with(const char *key, const char *end)
{
    size_t key_len = strlen(key), end_len = strlen(end);

    return key_len >= end_len && strcmp(key + key_len - end_len, end) == 0;
}

/* Parameters that hold a secret by the naming of the ClusterLabs agents; *_script names a
 * program instead. */
static bool is_secret(const char *key)
{
    return !ends_with(key, "_script") &&
           (contains(key, "passw") || contains(key, "secret") || contains(key, "token") ||
            contains(key, "private_key") || strcmp(key, "community") == 0 ||
            strcmp(key, "snmp_priv_key") == 0);
}

static int check_param(const struct conf_fence_device *device, size_t device_index,
                       const struct conf_param *param, struct conf_error *ret_error)
{
    char leaf_buf[64];
    struct conf_text leaf = conf_text_make(leaf_buf, sizeof leaf_buf), what;

    conf_text_strs(&leaf, "params.", param->key, NULL);
    what = wrong(ret_error, "fence.devices", device_index, leaf_buf);
    if (is_secret(param->key)) {
        conf_text_strs(
            &what, "a secret does not belong into the cluster definition; write ",
            param->key, "=... into /etc/gemel/fence/", device->name, ".secret", NULL);
    } else if (strcmp(param->key, "cipher") == 0 &&
               param->value[strspn(param->value, "0")] == '\0') {
        conf_text_str(&what, "cipher suite 0 lets anyone switch the node off without a "
                             "password; write for "
                             "example 17");
    } else if (strcmp(param->key, "action") == 0) {
        conf_text_str(&what, "Gemel sets the action itself, always off; remove it");
    } else if (strcmp(param->key, "method") == 0 && strcmp(param->value, "onoff") != 0) {
        conf_text_strs(&what, param->value,
                       " is no proof that the node is off; remove it, or write onoff",
                       NULL);
    } else if (strcmp(param->key, "debug") == 0 ||
               strcmp(param->key, "debug_file") == 0) {
        conf_text_str(&what, "writes the device's password into a file; remove it");
    } else {
        return 0;
    }
    return done(ret_error);
}

static bool is_node(const struct conf_cluster *cluster, const char *name)
{
    size_t i = 0;

    while (i < cluster->node_count && strcmp(cluster->node[i].name, name) != 0) {
        i++;
    }
    return i < cluster->node_count;
}

static int no_node(struct conf_error *error, const char *list, size_t index,
                   const char *leaf, const char *name, const struct conf_cluster *cluster)
{
    struct conf_text what = wrong(error, list, index, leaf);

    conf_text_strs(&what, name, " is not a node of this cluster; write one of:", NULL);
    for (size_t n = 0; n < cluster->node_count; n++) {
        conf_text_strs(&what, " ", cluster->node[n].name, NULL);
    }
    return done(error);
}

static int check_device(const struct conf_cluster *cluster, size_t index,
                        struct conf_error *ret_error)
{
    static const char list[] = "fence.devices";
    const struct conf_fence_device *device = &cluster->device[index];
    int r;

    for (size_t j = 0; j < index; j++) {
        if (strcmp(device->name, cluster->device[j].name) == 0) {
            return duplicate(ret_error, list, index, "name", device->name, j);
        }
    }
    if (!is_node(cluster, device->node)) {
        return no_node(ret_error, list, index, "node", device->node, cluster);
    }
    for (size_t p = 0; p < device->param_count; p++) {
        r = check_param(device, index, &device->param[p], ret_error);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* The levels of a node are 1, 2, ... without a gap, with at most CONF_FENCE_PER_LEVEL
 * devices each. */
static int check_levels(const struct conf_cluster *cluster, const char *node,
                        struct conf_error *ret_error)
{
    unsigned count[CONF_FENCE_LEVELS_MAX + 1] = {0};

    for (size_t i = 0; i < cluster->device_count; i++) {
        const struct conf_fence_device *device = &cluster->device[i];

        if (strcmp(device->node, node) == 0 && device->level <= CONF_FENCE_LEVELS_MAX) {
            if (++count[device->level] > CONF_FENCE_PER_LEVEL) {
                return refuse(
                    ret_error, "fence.devices", i, "level",
                    "has more than 4 devices of this node; move one to another level");
            }
        }
    }
    for (size_t i = 0; i < cluster->device_count; i++) {
        const struct conf_fence_device *device = &cluster->device[i];

        if (strcmp(device->node, node) == 0 && device->level > 1 &&
            device->level <= CONF_FENCE_LEVELS_MAX && count[device->level - 1] == 0) {
            struct conf_text what = wrong(ret_error, "fence.devices", i, "level");

            conf_text_u64(&what, device->level);
            conf_text_strs(&what, " leaves a gap: ", node, " has no device of level ",
                           NULL);
            conf_text_u64(&what, device->level - 1);
            conf_text_str(&what, "; write ");
            conf_text_u64(&what, device->level - 1);
            return done(ret_error);
        }
    }
    return 0;
}

static int check_cpu_model(const struct conf_cluster *cluster, size_t index,
                           struct conf_error *ret_error)
{
    static const char list[] = "cluster.cpu_models";
    const struct conf_cpu_model *m = &cluster->cpu_model[index];
    struct cpu_model_error why;
    struct cpu_model model;

    if (strcmp(m->name, "host") == 0) {
        return refuse(ret_error, list, index, "name",
                      "host means the node's own processor; write another one");
    }
    for (size_t j = 0; j < index; j++) {
        if (strcmp(m->name, cluster->cpu_model[j].name) == 0) {
            return duplicate(ret_error, list, index, "name", m->name, j);
        }
    }
    if (!cpu_model_parse(m->text, &model, &why)) {
        struct conf_text what = wrong(ret_error, list, index, "model");

        conf_text_strs(&what, why.text, "; write what gemel cluster cpu-baseline prints",
                       NULL);
        return done(ret_error);
    }
    return 0;
}

int conf_cluster_check(const struct conf_cluster *cluster, struct conf_error *ret_error)
{
    int r;

    if (!cluster->crypto && !cluster->insecure_lab) {
        return refuse(ret_error, NULL, NONE, "cluster.crypto",
                      "an unencrypted ring lets any host of the network join; write true "
                      "(a test lab may "
                      "write insecure_lab: true beside it)");
    }
    r = check_cluster_nodes(cluster, ret_error);
    if (r == 0) {
        r = check_families(cluster, ret_error);
    }
    for (size_t i = 0; r == 0 && i < cluster->cpu_model_count; i++) {
        r = check_cpu_model(cluster, i, ret_error);
    }
    for (size_t i = 0; r == 0 && i < cluster->device_count; i++) {
        r = check_device(cluster, i, ret_error);
    }
    for (size_t n = 0; r == 0 && n < cluster->node_count; n++) {
        r = check_levels(cluster, cluster->node[n].name, ret_error);
    }
    return r;
}

/* ---- VM ---- */

static int check_boot(const struct conf_vm *vm, struct conf_error *ret_error)
{
    if (vm->firmware[0] == '\0' && vm->kernel[0] == '\0') {
        return refuse(ret_error, NULL, NONE, "boot",
                      "has neither firmware nor kernel; write for example firmware: "
                      "/usr/share/gemel/pulse.rom, or kernel: vmlinuz");
    }
    if (vm->firmware[0] != '\0' && vm->kernel[0] != '\0') {
        return refuse(ret_error, NULL, NONE, "boot.kernel",
                      "cannot stand beside boot.firmware; remove one of them");
    }
    if (vm->initrd[0] != '\0' && vm->kernel[0] == '\0') {
        return refuse(ret_error, NULL, NONE, "boot.initrd",
                      "needs boot.kernel: firmware finds its own; remove it");
    }
    return 0;
}

static uint32_t written(const struct conf_vm *vm, bool also_mirrored, bool also_guarded)
{
    uint32_t mask = 0;

    for (unsigned i = 0; i < vm->disk_count; i++) {
        const struct conf_disk *d = &vm->disk[i];

        if (!d->read_only && (also_mirrored || !d->mirrored) &&
            (also_guarded || d->exclusion != CONF_EXCLUDE_BY_EPOCH)) {
            mask |= UINT32_C(1) << i;
        }
    }
    return mask;
}

uint32_t conf_vm_shared_disks(const struct conf_vm *vm)
{
    return written(vm, false, true);
}

uint32_t conf_vm_unguarded_disks(const struct conf_vm *vm)
{
    return written(vm, false, false);
}

bool conf_vm_is_guarded(const struct conf_vm *vm)
{
    return written(vm, true, true) != 0 && written(vm, true, false) == 0;
}

int conf_vm_untwinnable(const struct conf_vm *vm, const char **ret_why)
{
    for (unsigned i = 0; i < vm->disk_count; i++) {
        if (vm->disk[i].format == CONF_DISK_QCOW2) {
            *ret_why = "is qcow2, which a twin cannot take over; convert it to raw "
                       "(qemu-img convert), or serve it by NBD";
            return (int)i;
        }
    }
    return -1;
}

bool conf_vm_has_mirrors(const struct conf_vm *vm)
{
    for (unsigned i = 0; i < vm->disk_count; i++) {
        if (vm->disk[i].mirrored) {
            return true;
        }
    }
    return false;
}

static int check_mirror(const struct conf_vm *vm, size_t i, struct conf_error *ret_error)
{
    const struct conf_disk *disk = &vm->disk[i];

    if (!disk->mirrored) {
        return 0;
    }
    if (vm->machine != CONF_MACHINE_LOCKSTEP) {
        return refuse(
            ret_error, "disks", i, "mirrored",
            "is for machine: lockstep; a twin of machine: standard shares its disks; "
            "remove it");
    }
    if (disk->read_only) {
        return refuse(ret_error, "disks", i, "mirrored",
                      "makes no sense for a disk that nobody writes to; remove it");
    }
    if (disk->format != CONF_DISK_RAW || disk->path[0] != '/') {
        return refuse(ret_error, "disks", i, "mirrored",
                      "needs a raw file or block device of each node itself; write a "
                      "path that begins with / and is not in the shared directory");
    }
    return 0;
}

static int check_ft(const struct conf_vm *vm, struct conf_error *ret_error)
{
    const char *why;
    int bad = conf_vm_untwinnable(vm, &why);

    if (vm->ft_mode == CONF_FT_OFF) {
        return 0;
    }
    if (vm->machine != CONF_MACHINE_LOCKSTEP && vm->ft_mode == CONF_FT_LOCKSTEP) {
        return refuse(ret_error, NULL, NONE, "ft.mode",
                      "is for machine: lockstep; write checkpoint, or auto");
    }
    if (bad >= 0) {
        return refuse(ret_error, "disks", (size_t)bad, "format", why);
    }
    return 0;
}

static int check_disk_place(const struct conf_disk *disk, size_t i,
                            struct conf_error *ret_error)
{
    struct nbd_uri uri;
    const char *why;

    if (strstr(disk->path, "://") == NULL) {
        return disk->exclusion != CONF_EXCLUDE_BY_EPOCH
                   ? 0
                   : refuse(ret_error, "disks", i, "exclusion",
                            "is epoch, which only an NBD server can do; write a path "
                            "nbd://..., or remove it");
    }
    if (disk->read_only && disk->exclusion == CONF_EXCLUDE_BY_EPOCH) {
        return refuse(ret_error, "disks", i, "exclusion",
                      "is epoch, and the disk is read_only: it would cut off other VMs "
                      "that read it, and has no writes to keep away; remove one of both");
    }
    why = nbd_uri_parse(disk->path, &uri);
    if (why != NULL) {
        return refuse(ret_error, "disks", i, "path", why);
    }
    if (strchr(disk->path, ',') != NULL) {
        return refuse(ret_error, "disks", i, "path", "write %2C for a comma in a URI");
    }
    if (disk->format == CONF_DISK_QCOW2) {
        return refuse(ret_error, "disks", i, "format",
                      "is raw for a network disk: its server knows what is behind it; "
                      "remove it");
    }
    return 0;
}

static int check_disks(const struct conf_vm *vm, struct conf_error *ret_error)
{
    for (size_t i = 0; i < vm->disk_count; i++) {
        const struct conf_disk *a = &vm->disk[i];
        int r = check_disk_place(a, i, ret_error);

        if (r == 0) {
            r = check_mirror(vm, i, ret_error);
        }
        if (r < 0) {
            return r;
        }
        for (size_t j = 0; j < i; j++) {
            const struct conf_disk *b = &vm->disk[j];

            if (strcmp(a->path, b->path) == 0) {
                return duplicate(ret_error, "disks", i, "path", a->path, j);
            }
            if (a->serial[0] != '\0' && strcmp(a->serial, b->serial) == 0) {
                return duplicate(ret_error, "disks", i, "serial", a->serial, j);
            }
        }
    }
    return 0;
}

static struct conf_text mac_text(char *buf, size_t cap, const uint8_t mac[static 6])
{
    struct conf_text text = conf_text_make(buf, cap);

    conf_scalar_mac_write(&text, mac);
    return text;
}

static int check_nics(const struct conf_vm *vm, struct conf_error *ret_error)
{
    static const uint8_t zero[6];
    char mac_buf[18];

    for (size_t i = 0; i < vm->nic_count; i++) {
        const struct conf_nic *nic = &vm->nic[i];

        mac_text(mac_buf, sizeof mac_buf, nic->mac);
        if ((nic->mac[0] & 1) != 0 || memcmp(nic->mac, zero, sizeof zero) == 0) {
            struct conf_text what = wrong(ret_error, "nics", i, "mac");

            conf_text_strs(
                &what, mac_buf,
                " is not a unicast address; write for example 52:54:00:12:34:56", NULL);
            return done(ret_error);
        }
        if (nic->mtu != 0 && nic->mtu < 68) {
            return refuse(
                ret_error, "nics", i, "mtu",
                "is less than IPv4 needs; write 0 for the bridge's, or at least 68");
        }
        if (strlen(nic->bridge) > 15) {
            return refuse(ret_error, "nics", i, "bridge",
                          "is longer than 15 bytes; write a shorter name");
        }
        for (size_t j = 0; j < i; j++) {
            if (memcmp(nic->mac, vm->nic[j].mac, sizeof nic->mac) == 0) {
                return duplicate(ret_error, "nics", i, "mac", mac_buf, j);
            }
        }
    }
    return 0;
}

static int check_ha(const struct conf_vm *vm, struct conf_error *ret_error)
{
    if (vm->backoff_max_ms < vm->backoff_ms) {
        return refuse(ret_error, NULL, NONE, "ha.restart.backoff",
                      "is more than backoff_max; write less, or raise backoff_max");
    }
    for (size_t i = 0; i < vm->anti_affinity_count; i++) {
        if (strcmp(vm->anti_affinity[i], vm->name) == 0) {
            return refuse(ret_error, "ha.anti_affinity", i, "",
                          "is the VM itself; remove it");
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(vm->anti_affinity[i], vm->anti_affinity[j]) == 0) {
                return duplicate(ret_error, "ha.anti_affinity", i, "",
                                 vm->anti_affinity[i], j);
            }
        }
    }
    for (size_t i = 0; i < vm->preferred_count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcmp(vm->preferred[i], vm->preferred[j]) == 0) {
                return duplicate(ret_error, "ha.preferred_nodes", i, "", vm->preferred[i],
                                 j);
            }
        }
    }
    return 0;
}

/* Limits would make what a lockstep guest sees depend on the clock of one host. */
static int check_no_limits(const struct conf_vm *vm, struct conf_error *ret_error)
{
    static const char why[] = "a lockstep machine has no limits; remove it";

    for (unsigned i = 0; i < vm->disk_count; i++) {
        if (vm->disk[i].bps != 0 || vm->disk[i].iops != 0) {
            return refuse(ret_error, "disks", i, vm->disk[i].bps != 0 ? "bps" : "iops",
                          why);
        }
    }
    for (unsigned i = 0; i < vm->nic_count; i++) {
        if (vm->nic[i].bps != 0 || vm->nic[i].pps != 0) {
            return refuse(ret_error, "nics", i, vm->nic[i].bps != 0 ? "bps" : "pps", why);
        }
    }
    return 0;
}

static int check_standard(const struct conf_vm *vm, struct conf_error *ret_error)
{
    unsigned queues = 0;

    for (unsigned i = 0; i < vm->nic_count; i++) {
        queues += vm->nic[i].queues;
        if (queues > CONF_NIC_QUEUES_MAX) {
            return refuse(ret_error, "nics", i, "queues",
                          "all nics together have at most 16 queues; write fewer");
        }
    }
    return 0;
}

static int check_lockstep(const struct conf_vm *vm, struct conf_error *ret_error)
{
    if (vm->cpus != 1) {
        return refuse(ret_error, NULL, NONE, "cpus",
                      "a lockstep machine has one vCPU; write 1, or machine: standard");
    }
    if (vm->memory_bytes > CONF_LOCKSTEP_MEMORY_MAX) {
        return refuse(
            ret_error, NULL, NONE, "memory",
            "a lockstep machine has at most 3GiB; write 3GiB, or machine: standard");
    }
    if (vm->disk_count + vm->nic_count > CONF_LOCKSTEP_SLOTS) {
        return refuse(
            ret_error, NULL, NONE, vm->nic_count > 0 ? "nics" : "disks",
            "a lockstep machine has 8 slots for disks and nics together; remove some");
    }
    for (unsigned i = 0; i < vm->nic_count; i++) {
        if (vm->nic[i].queues > 1) {
            return refuse(ret_error, "nics", i, "queues",
                          "a lockstep machine has one; write 1, or machine: standard");
        }
    }
    if (strcmp(vm->cpu, "host") != 0) {
        return refuse(ret_error, NULL, NONE, "cpu",
                      "a lockstep machine has a processor of its own making; remove it, "
                      "or write machine: standard");
    }
    return check_no_limits(vm, ret_error);
}

int conf_vm_check(const struct conf_vm *vm, struct conf_error *ret_error)
{
    int r;

    if (vm->memory_bytes % 4096 != 0) {
        return refuse(ret_error, NULL, NONE, "memory",
                      "is not a multiple of 4KiB; write for example 512MiB");
    }
    if (vm->hugepages && vm->memory_bytes % (UINT64_C(2) << 20) != 0) {
        return refuse(ret_error, NULL, NONE, "memory",
                      "is not a multiple of 2MiB, as hugepages: true wants it; write for "
                      "example 512MiB");
    }
    r = vm->machine == CONF_MACHINE_STANDARD ? check_standard(vm, ret_error)
                                             : check_lockstep(vm, ret_error);
    if (r < 0) {
        return r;
    }
    r = check_boot(vm, ret_error);
    if (r == 0) {
        r = check_disks(vm, ret_error);
    }
    if (r == 0) {
        r = check_nics(vm, ret_error);
    }
    if (r == 0) {
        r = check_ha(vm, ret_error);
    }
    if (r == 0) {
        r = check_ft(vm, ret_error);
    }
    return r;
}

static int check_disk_applied(const struct conf_disk *disk, size_t i,
                              struct conf_error *ret_error)
{
    if (strchr(disk->path, ',') != NULL) {
        return refuse(ret_error, "disks", i, "path", comma);
    }
    if (disk->exclusion == CONF_EXCLUDE_BY_EPOCH && disk->on_error == CONF_DISK_REPORT) {
        return refuse(ret_error, "disks", i, "on_error",
                      "is report, which does not go with exclusion: epoch: a guest "
                      "that its server cut off is not told of errors, it has a next "
                      "life elsewhere; write pause or stop, or remove it (pause)");
    }
    return 0;
}

int conf_vm_check_applied(const struct conf_vm *vm, struct conf_error *ret_error)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < vm->disk_count; i++) {
        r = check_disk_applied(&vm->disk[i], i, ret_error);
    }
    for (size_t i = 0; r == 0 && i < vm->ft_on_count; i++) {
        for (size_t j = 0; r == 0 && j < i; j++) {
            if (strcmp(vm->ft_on[i], vm->ft_on[j]) == 0) {
                r = duplicate(ret_error, "ft.on", i, "", vm->ft_on[i], j);
            }
        }
    }
    return r;
}

/* ---- VM against the cluster ---- */

/*
 * Two VMs that write to one disk destroy it. Relative paths lie in the VM's own
 * directory; conf_vm_check_files refuses absolute ones into the directories of others.
 */
static int check_disks_against(const struct conf_vm *vm, const struct conf_vm *other,
                               struct conf_error *ret_error)
{
    for (size_t i = 0; i < vm->disk_count; i++) {
        for (size_t j = 0; j < other->disk_count; j++) {
            const struct conf_disk *a = &vm->disk[i], *b = &other->disk[j];

            if ((a->path[0] == '/' || conf_disk_is_nbd(a)) &&
                strcmp(a->path, b->path) == 0 && (!a->read_only || !b->read_only)) {
                struct conf_text what = wrong(ret_error, "disks", i, "path");

                conf_text_strs(&what, a->path, " is also a disk of VM ", other->name,
                               ", and one of them writes to it; write another one, or "
                               "read_only: true in both",
                               NULL);
                return done(ret_error);
            }
        }
    }
    return 0;
}

static int check_against_one(const struct conf_vm *vm, const struct conf_vm *other,
                             struct conf_error *ret_error)
{
    bool same_uuid = !uuid_is_none(vm->uuid) && uuid_equal(vm->uuid, other->uuid);
    char uuid_buf[UUID_STR_LEN + 1], mac_buf[18];
    struct conf_text what, uuid = conf_text_make(uuid_buf, sizeof uuid_buf);
    int r;

    if (strcmp(vm->name, other->name) == 0) {
        if (uuid_is_none(vm->uuid) || uuid_is_none(other->uuid) || same_uuid) {
            return 0;
        }
        conf_scalar_uuid_write(&uuid, other->uuid);
        what = wrong(ret_error, NULL, NONE, "name");
        conf_text_strs(&what, vm->name, " is the name of another VM, with uuid ",
                       uuid_buf, "; write another name, or that uuid to change this VM",
                       NULL);
        return done(ret_error);
    }
    if (same_uuid) {
        what = wrong(ret_error, NULL, NONE, "uuid");
        conf_text_strs(&what, "is that of VM ", other->name,
                       "; remove it, and a new one is made", NULL);
        return done(ret_error);
    }
    r = check_disks_against(vm, other, ret_error);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < vm->nic_count; i++) {
        for (size_t j = 0; j < other->nic_count; j++) {
            if (memcmp(vm->nic[i].mac, other->nic[j].mac, sizeof vm->nic[i].mac) == 0) {
                mac_text(mac_buf, sizeof mac_buf, vm->nic[i].mac);
                what = wrong(ret_error, "nics", i, "mac");
                conf_text_strs(&what, mac_buf, " is also used by VM ", other->name,
                               "; write another one", NULL);
                return done(ret_error);
            }
        }
    }
    return 0;
}

int conf_vm_check_against(const struct conf_vm *vm, const struct conf_vm *const others[],
                          size_t other_count, const struct conf_capacity nodes[],
                          size_t node_count, struct conf_error *ret_error)
{
    const struct conf_capacity *largest = NULL;
    int r;

    for (size_t i = 0; i < other_count; i++) {
        r = check_against_one(vm, others[i], ret_error);
        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < node_count; i++) {
        if (nodes[i].memory_bytes == 0) {
            return 0; /* a node whose size is not known may be large enough */
        }
        if (largest == NULL || nodes[i].memory_bytes > largest->memory_bytes) {
            largest = &nodes[i];
        }
    }
    if (largest != NULL && vm->memory_bytes > largest->memory_bytes) {
        struct conf_text what = wrong(ret_error, NULL, NONE, "memory");

        conf_scalar_size_write(&what, vm->memory_bytes);
        conf_text_strs(&what, " is more than any node has for VMs; write at most ", NULL);
        conf_scalar_size_write(&what, largest->memory_bytes);
        conf_text_strs(&what, " (", largest->node, ")", NULL);
        return done(ret_error);
    }
    return 0;
}

static int check_cpu(const struct conf_vm *vm, const struct conf_cluster *cluster,
                     struct conf_error *ret_error)
{
    const char *like = conf_similar(vm->cpu, "host") ? "host" : NULL;
    struct conf_text what;

    if (vm->cpu[0] == '\0' || strcmp(vm->cpu, "host") == 0) {
        return 0;
    }
    for (size_t i = 0; i < cluster->cpu_model_count; i++) {
        const char *known = cluster->cpu_model[i].name;

        if (strcmp(vm->cpu, known) == 0) {
            return 0;
        }
        if (conf_similar(vm->cpu, known)) {
            like = known;
        }
    }
    what = wrong(ret_error, NULL, NONE, "cpu");
    conf_text_strs(&what, "CPU model ", vm->cpu,
                   " is not in the cluster definition (cpu_models); ", NULL);
    if (like != NULL) {
        conf_text_strs(&what, "did you mean ", like, "?", NULL);
        return done(ret_error);
    }
    conf_text_str(&what, "write one of: host");
    for (size_t i = 0; i < cluster->cpu_model_count; i++) {
        conf_text_strs(&what, ", ", cluster->cpu_model[i].name, NULL);
    }
    return done(ret_error);
}

static int check_nodes(const char *list, const char name[][NODE_NAME_MAX + 1],
                       size_t count, const struct conf_cluster *cluster,
                       struct conf_error *ret_error)
{
    for (size_t i = 0; i < count; i++) {
        if (!is_node(cluster, name[i])) {
            return no_node(ret_error, list, i, "", name[i], cluster);
        }
    }
    return 0;
}

int conf_vm_check_cluster(const struct conf_vm *vm, const struct conf_cluster *cluster,
                          struct conf_error *ret_error)
{
    int r = check_cpu(vm, cluster, ret_error);

    if (r == 0) {
        r = check_nodes("ha.preferred_nodes", vm->preferred, vm->preferred_count, cluster,
                        ret_error);
    }
    return r == 0 ? check_nodes("ft.on", vm->ft_on, vm->ft_on_count, cluster, ret_error)
                  : r;
}
