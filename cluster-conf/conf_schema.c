/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster-conf/conf_schema.h"

#include "cluster-conf/conf_model.h"

#define AT(s, m) .offset = offsetof(s, m), .size = sizeof(((s *)NULL)->m)
#define ARRAY(s, m, c)                                                                   \
    .offset = offsetof(s, m), .size = sizeof(((s *)NULL)->m[0]),                         \
    .count_offset = offsetof(s, c)
#define KIB    (UINT64_C(1) << 10)
#define MIB    (UINT64_C(1) << 20)
#define TIB    (UINT64_C(1) << 40)
#define DAY_MS 86400000

static const struct conf_word isolation_words[] = {
    {"run", CONF_ISOLATION_RUN},
    {"freeze", CONF_ISOLATION_FREEZE},
    {"stop", CONF_ISOLATION_STOP},
    {NULL, 0},
};
static const struct conf_word after_fence_words[] = {
    {"stay-off", CONF_AFTER_FENCE_STAY_OFF},
    {"on", CONF_AFTER_FENCE_ON},
    {NULL, 0},
};
static const struct conf_word machine_words[] = {
    {"lockstep", CONF_MACHINE_LOCKSTEP},
    {"standard", CONF_MACHINE_STANDARD},
    {NULL, 0},
};

/* node.yaml
 * ------------------------------------------------------------------------------------------------------
 */
static const struct conf_field node_fields[] = {
    {"name", CONF_TYPE_NAME, true, AT(struct conf_node, name), .example = "n1",
     .help = "this node, as in the cluster definition"},
    {"vmroot", CONF_TYPE_PATH, false, AT(struct conf_node, vmroot),
     .fallback = "/srv/gemel",
     .help = "directory of the VM directories, shared by the nodes"},
    {"state_dir", CONF_TYPE_PATH, false, AT(struct conf_node, state_dir),
     .fallback = "/var/lib/gemel", .help = "the agent's record log; local and durable"},
    {"run_dir", CONF_TYPE_PATH, false, AT(struct conf_node, run_dir),
     .fallback = "/run/gemel", .help = "sockets and pid files; emptied by a boot"},
    {"log_dir", CONF_TYPE_PATH, false, AT(struct conf_node, log_dir),
     .fallback = "/var/log/gemel", .help = "logs of the daemons"},
    {"vmm_path", CONF_TYPE_PATH, false, AT(struct conf_node, vmm_path),
     .example = "/usr/libexec/gemel-vmm",
     .help = "program of a VM; default: gemel-vmm of this installation"},
    {"bridge", CONF_TYPE_NAME, false, AT(struct conf_node, bridge), .example = "br0",
     .help = "bridge of NICs that name none"},
    {"memory", CONF_TYPE_SIZE, false, AT(struct conf_node, memory_bytes), .min = 1 * MIB,
     .max = 64 * TIB, .example = "32GiB",
     .help = "memory for VMs; default: what the machine has, less 10 %"},
    {"group", CONF_TYPE_NAME, false, AT(struct conf_node, group), .fallback = "gemel",
     .help = "group that may use the command line besides root"},
    {"vm_uid_base", CONF_TYPE_COUNT, false, AT(struct conf_node, vm_uid_base),
     .min = 1000, .max = UINT32_MAX / 2 - VMS_MAX, .fallback = "1900000000",
     .help = "each VM's process has a user of its own: this number, or one of the 10000 "
             "above it; nobody else may have them"},
    {"insecure_lab", CONF_TYPE_BOOL, false, AT(struct conf_node, insecure_lab),
     .fallback = "false",
     .help = "a test lab: runs VMs without a sandbox; a guest that breaks out is root"},
    {.key = NULL},
};

const struct conf_field conf_node_schema[] = {
    {"node", CONF_TYPE_GROUP, true, .fields = node_fields, .example = "{name: n1}",
     .help = "this node"},
    {.key = NULL},
};

/* cluster.yaml
 * ---------------------------------------------------------------------------------------------------
 */
static const struct conf_field cluster_node_fields[] = {
    {"name", CONF_TYPE_NAME, true, AT(struct conf_cluster_node, name), .example = "n1",
     .help = "name of the node"},
    {"id", CONF_TYPE_COUNT, true, AT(struct conf_cluster_node, nodeid), .min = 1,
     .max = UINT32_MAX, .example = "1", .help = "Corosync node id"},
    {"addr", CONF_TYPE_ADDR, true, AT(struct conf_cluster_node, addr),
     .example = "10.0.0.1", .help = "address of the cluster network"},
    {"failure_domain", CONF_TYPE_NAME, false,
     AT(struct conf_cluster_node, failure_domain), .example = "rack1",
     .help = "what fails as one, say a rack or a room: a VM and its twin are in "
             "different ones where they can be (ft.domains)"},
    {.key = NULL},
};

static const struct conf_field cpu_model_fields[] = {
    {"name", CONF_TYPE_NAME, true, AT(struct conf_cpu_model, name), .example = "site1",
     .help = "as VMs name it under cpu:"},
    {"model", CONF_TYPE_TEXT, true, AT(struct conf_cpu_model, text),
     .example = "vendor=GenuineIntel family=6 features=fpu,avx2",
     .help = "vendor, numbers and features, as gemel cluster cpu-baseline prints them"},
    {.key = NULL},
};

static const struct conf_field cluster_fields[] = {
    {"name", CONF_TYPE_NAME, true, AT(struct conf_cluster, name), .example = "site1",
     .help = "name of the cluster"},
    {"nodes", CONF_TYPE_RECORDS, true, ARRAY(struct conf_cluster, node, node_count),
     .min = 1, .max = NODES_MAX, .fields = cluster_node_fields,
     .example = "[{name: n1, id: 1, addr: 10.0.0.1}]", .help = "the members"},
    {"token", CONF_TYPE_DURATION, false, AT(struct conf_cluster, token_ms), .min = 100,
     .max = 60000, .fallback = "1s",
     .help = "Corosync token timeout; a dead node is noticed after about 2.2 x this"},
    {"token_coefficient", CONF_TYPE_DURATION, false,
     AT(struct conf_cluster, token_coefficient_ms), .min = 0, .max = 10000,
     .fallback = "0ms", .help = "added to the token for each node above two"},
    {"cpu_models", CONF_TYPE_RECORDS, false,
     ARRAY(struct conf_cluster, cpu_model, cpu_model_count), .max = CONF_CPU_MODELS_MAX,
     .fields = cpu_model_fields, .example = "[{name: site1, model: ...}]",
     .help = "CPU models that VMs may name, so that they can move between nodes"},
    {"crypto", CONF_TYPE_BOOL, false, AT(struct conf_cluster, crypto), .fallback = "true",
     .help = "encrypt and authenticate the ring; false only with insecure_lab"},
    {"insecure_lab", CONF_TYPE_BOOL, false, AT(struct conf_cluster, insecure_lab),
     .fallback = "false", .help = "a test lab: permits crypto: false"},
    {.key = NULL},
};

static const struct conf_field storage_fields[] = {
    {"type", CONF_TYPE_NAME, false, AT(struct conf_cluster, storage_type),
     .fallback = "nfs",
     .help = "what the shared storage is: nfs, ocfs2, gfs2, cephfs, local-lab"},
    {"settle", CONF_TYPE_DURATION, false, AT(struct conf_cluster, storage_settle_ms),
     .min = 0, .max = DAY_MS, .fallback = "5s",
     .help = "how long after a proof of death writes of the dead node may still arrive: "
             "no VM of it touches a disk before"},
    {.key = NULL},
};

static const struct conf_field cluster_ha_fields[] = {
    {"isolation", CONF_TYPE_ENUM, false, AT(struct conf_cluster, isolation),
     .words = isolation_words, .example = "run",
     .help = "VMs of a node without quorum; default: run where a fence device guards the "
             "node, else freeze"},
    {.key = NULL},
};

static const struct conf_field device_fields[] = {
    {"name", CONF_TYPE_NAME, true, AT(struct conf_fence_device, name),
     .example = "ipmi-n1",
     .help = "name of the device; its secrets are in /etc/gemel/fence/NAME.secret"},
    {"agent", CONF_TYPE_NAME, true, AT(struct conf_fence_device, agent),
     .example = "fence_ipmilan", .help = "ClusterLabs fence agent"},
    {"node", CONF_TYPE_NAME, true, AT(struct conf_fence_device, node), .example = "n1",
     .help = "the node that it switches off"},
    {"level", CONF_TYPE_COUNT, false, AT(struct conf_fence_device, level), .min = 1,
     .max = CONF_FENCE_LEVELS_MAX, .fallback = "1",
     .help = "all devices of a level must succeed; levels are alternatives"},
    {"timeout", CONF_TYPE_DURATION, false, AT(struct conf_fence_device, timeout_ms),
     .min = 100, .max = 600000, .fallback = "20s", .help = "of one attempt"},
    {"params", CONF_TYPE_PARAMS, false,
     ARRAY(struct conf_fence_device, param, param_count), .max = FENCE_PARAMS_MAX,
     .example = "{ip: 10.0.1.1, lanplus: 1}",
     .help = "parameters of the agent, without secrets"},
    {.key = NULL},
};

static const struct conf_field fence_fields[] = {
    {"after_fence", CONF_TYPE_ENUM, false, AT(struct conf_cluster, after_fence),
     .words = after_fence_words, .fallback = "stay-off",
     .help = "switch a fenced node on again, or leave that to an operator"},
    {"retry", CONF_TYPE_DURATION, false, AT(struct conf_cluster, fence_retry_ms),
     .min = 100, .max = 600000, .fallback = "2s", .help = "pause between attempts"},
    {"budget", CONF_TYPE_COUNT, false, AT(struct conf_cluster, fence_budget), .min = 1,
     .max = NODES_MAX, .example = "1",
     .help = "nodes fenced per 10 minutes before an operator is asked; default max(1, "
             "(nodes - 1) / 2)"},
    {"devices", CONF_TYPE_RECORDS, false,
     ARRAY(struct conf_cluster, device, device_count), .max = CONF_FENCE_DEVICES_MAX,
     .fields = device_fields,
     .example = "[{name: ipmi-n1, agent: fence_ipmilan, node: n1}]",
     .help = "how nodes are switched off"},
    {.key = NULL},
};

const struct conf_field conf_cluster_schema[] = {
    {"cluster", CONF_TYPE_GROUP, true, .fields = cluster_fields,
     .example = "{name: site1, nodes: [...]}", .help = "the ring"},
    {"storage", CONF_TYPE_GROUP, false, .fields = storage_fields,
     .help = "the shared storage"},
    {"ha", CONF_TYPE_GROUP, false, .fields = cluster_ha_fields,
     .help = "defaults of the VMs"},
    {"fence", CONF_TYPE_GROUP, false, .fields = fence_fields, .help = "fencing"},
    {.key = NULL},
};

/* VM definition
 * --------------------------------------------------------------------------------------------------
 */
static const struct conf_field boot_fields[] = {
    {"firmware", CONF_TYPE_PATH, false, AT(struct conf_vm, firmware),
     .example = "/usr/share/gemel/pulse.rom",
     .help = "ROM image; exactly one of firmware and kernel"},
    {"kernel", CONF_TYPE_PATH, false, AT(struct conf_vm, kernel), .example = "vmlinuz",
     .help = "kernel booted without firmware: bzImage, or ELF with a PVH entry; relative "
             "to the VM's directory, or absolute and the same on every node"},
    {"initrd", CONF_TYPE_PATH, false, AT(struct conf_vm, initrd), .example = "initrd.img",
     .help = "initial RAM disk; with kernel only"},
    {"cmdline", CONF_TYPE_TEXT, false, AT(struct conf_vm, cmdline),
     .example = "\"console=ttyS0\"",
     .help = "command line of the kernel or the firmware"},
    {.key = NULL},
};

static const struct conf_word disk_error_words[] = {{"report", CONF_DISK_REPORT},
                                                    {"pause", CONF_DISK_PAUSE},
                                                    {"stop", CONF_DISK_STOP},
                                                    {NULL, 0}};

static const struct conf_word disk_format_words[] = {
    {"raw", CONF_DISK_RAW}, {"qcow2", CONF_DISK_QCOW2}, {NULL, 0}};

static const struct conf_word exclusion_words[] = {
    {"proof", CONF_EXCLUDE_BY_PROOF}, {"epoch", CONF_EXCLUDE_BY_EPOCH}, {NULL, 0}};

static const struct conf_field disk_fields[] = {
    {"path", CONF_TYPE_PATH, true, AT(struct conf_disk, path), .example = "disk0.img",
     .help = "image or block device, relative to the VM's directory or absolute; or a "
             "network disk: nbd://ADDRESS:PORT/EXPORT, nbd+unix:///EXPORT?socket=PATH"},
    {"format", CONF_TYPE_ENUM, false, AT(struct conf_disk, format),
     .words = disk_format_words, .fallback = "raw",
     .help = "qcow2: each node runs a qemu-storage-daemon for it"},
    {"serial", CONF_TYPE_NAME, false, AT(struct conf_disk, serial), .example = "d0",
     .help = "what the guest reads as serial number, at most 20 bytes"},
    {"read_only", CONF_TYPE_BOOL, false, AT(struct conf_disk, read_only),
     .fallback = "false", .help = "the guest may not write"},
    {"mirrored", CONF_TYPE_BOOL, false, AT(struct conf_disk, mirrored),
     .fallback = "false",
     .help = "each node has its own copy at this path, on storage of its own; what a "
             "twin (ft) needs of a disk that is written to"},
    {"exclusion", CONF_TYPE_ENUM, false, AT(struct conf_disk, exclusion),
     .words = exclusion_words, .fallback = "proof",
     .help =
         "what keeps an old owner's late writes away: proof (a fence, an acknowledged "
         "end, storage.settle), or epoch (its NBD server, with the filter of storage/; "
         "nothing waits then, and errors pause the VM)"},
    {"on_error", CONF_TYPE_ENUM, false, AT(struct conf_disk, on_error),
     .words = disk_error_words, .example = "pause",
     .help = "EIO, ENOSPC, lost connection: report to the guest, pause the VM (thaw "
             "tries again), or stop it; a failed flush is never tried again; default: "
             "report, with exclusion: epoch pause (report is refused there)"},
    {"bps", CONF_TYPE_SIZE, false, AT(struct conf_disk, bps), .max = TIB,
     .example = "100MiB", .help = "bytes per second; default: no limit"},
    {"iops", CONF_TYPE_COUNT, false, AT(struct conf_disk, iops), .max = UINT32_MAX,
     .fallback = "0", .help = "requests per second; 0: no limit"},
    {.key = NULL},
};

static const struct conf_field nic_fields[] = {
    {"mac", CONF_TYPE_MAC, true, AT(struct conf_nic, mac), .example = "52:54:00:12:34:56",
     .help = "unicast address, one NIC in the whole cluster"},
    {"bridge", CONF_TYPE_NAME, false, AT(struct conf_nic, bridge), .example = "br0",
     .help = "bridge on every node; default: the node's"},
    {"vlan", CONF_TYPE_COUNT, false, AT(struct conf_nic, vlan), .min = 0, .max = 4094,
     .fallback = "0", .help = "VLAN of the port; 0: none"},
    {"mtu", CONF_TYPE_COUNT, false, AT(struct conf_nic, mtu), .min = 0, .max = 65535,
     .fallback = "0", .help = "0: the bridge's; else at least 68"},
    {"queues", CONF_TYPE_COUNT, false, AT(struct conf_nic, queues), .min = 1, .max = 8,
     .fallback = "1",
     .help = "queue pairs, so that several vCPUs send and receive (machine standard)"},
    {"bps", CONF_TYPE_SIZE, false, AT(struct conf_nic, bps), .max = TIB,
     .example = "100MiB",
     .help = "bytes per second in each direction; default: no limit"},
    {"pps", CONF_TYPE_COUNT, false, AT(struct conf_nic, pps), .max = UINT32_MAX,
     .fallback = "0", .help = "packets per second in each direction; 0: no limit"},
    {.key = NULL},
};

static const struct conf_field restart_fields[] = {
    {"max", CONF_TYPE_COUNT, false, AT(struct conf_vm, restart_max), .min = 0,
     .max = 1000, .fallback = "3",
     .help = "restarts in place within the window, before another node is tried"},
    {"window", CONF_TYPE_DURATION, false, AT(struct conf_vm, restart_window_ms),
     .min = 1000, .max = DAY_MS, .fallback = "10m", .help = "the window of max"},
    {"backoff", CONF_TYPE_DURATION, false, AT(struct conf_vm, backoff_ms), .min = 0,
     .max = DAY_MS, .fallback = "1s",
     .help = "first pause after a failure; doubled each time"},
    {"backoff_max", CONF_TYPE_DURATION, false, AT(struct conf_vm, backoff_max_ms),
     .min = 0, .max = DAY_MS, .fallback = "5m", .help = "longest pause"},
    {"on_guest_shutdown", CONF_TYPE_BOOL, false,
     AT(struct conf_vm, restart_on_guest_shutdown), .fallback = "false",
     .help = "restart also a guest that shut itself down"},
    {.key = NULL},
};

static const struct conf_field vm_ha_fields[] = {
    {"protect", CONF_TYPE_BOOL, false, AT(struct conf_vm, protect), .fallback = "true",
     .help = "restart on another node when this one dies"},
    {"priority", CONF_TYPE_COUNT, false, AT(struct conf_vm, priority), .min = 0, .max = 4,
     .fallback = "2", .help = "order of restarts: 0 first, 4 last"},
    {"isolation", CONF_TYPE_ENUM, false, AT(struct conf_vm, isolation),
     .words = isolation_words, .example = "run",
     .help = "on a node without quorum; default: the cluster's"},
    {"restart", CONF_TYPE_GROUP, false, .fields = restart_fields,
     .help = "restarts of a failed VM"},
    {"stop_timeout", CONF_TYPE_DURATION, false, AT(struct conf_vm, stop_timeout_ms),
     .min = 0, .max = DAY_MS, .fallback = "1m",
     .help = "vm stop: the guest's time before it is killed"},
    {"start_timeout", CONF_TYPE_DURATION, false, AT(struct conf_vm, start_timeout_ms),
     .min = 1000, .max = DAY_MS, .fallback = "1m",
     .help = "a start that takes longer has failed"},
    {"anti_affinity", CONF_TYPE_NAMES, false,
     ARRAY(struct conf_vm, anti_affinity, anti_affinity_count), .max = 8,
     .example = "[web2]", .help = "VMs that should not share a node with this one"},
    {"preferred_nodes", CONF_TYPE_NAMES, false,
     ARRAY(struct conf_vm, preferred, preferred_count), .max = 8, .example = "[n1, n2]",
     .help = "nodes to be tried first, in this order"},
    {.key = NULL},
};

static const struct conf_word ft_mode_words[] = {{"off", CONF_FT_OFF},
                                                 {"auto", CONF_FT_AUTO},
                                                 {"lockstep", CONF_FT_LOCKSTEP},
                                                 {"checkpoint", CONF_FT_CHECKPOINT},
                                                 {NULL, 0}};

static const struct conf_word ft_commit_words[] = {{"received", CONF_FT_RECEIVED},
                                                   {"verified", CONF_FT_VERIFIED},
                                                   {"hybrid", CONF_FT_HYBRID},
                                                   {NULL, 0}};

static const struct conf_word ft_domains_words[] = {
    {"prefer", CONF_FT_DOMAINS_PREFER}, {"require", CONF_FT_DOMAINS_REQUIRE}, {NULL, 0}};

static const struct conf_field vm_ft_fields[] = {
    {"mode", CONF_TYPE_ENUM, false, AT(struct conf_vm, ft_mode), .words = ft_mode_words,
     .fallback = "off",
     .help =
         "a twin on another node, whenever it runs: lockstep, checkpoint (copies of "
         "what changed, many times a second), or auto: lockstep if its machine can, "
         "until it goes another way too often, else checkpoint; off: only after gemel vm "
         "protect"},
    {"commit", CONF_TYPE_ENUM, false, AT(struct conf_vm, ft_commit),
     .words = ft_commit_words, .fallback = "verified",
     .help = "an output leaves when the twin has what led to it, when it has made the "
             "same output, or the one that serves while the other is late"},
    {"suspect", CONF_TYPE_DURATION, false, AT(struct conf_vm, ft_suspect_ms), .min = 20,
     .max = 60000, .fallback = "60ms",
     .help = "nothing heard of the other side for so long: it may be gone"},
    {"on", CONF_TYPE_NAMES, false, ARRAY(struct conf_vm, ft_on, ft_on_count), .max = 8,
     .example = "[n2, n3]",
     .help = "nodes for the twin to be tried first, in this order"},
    {"domains", CONF_TYPE_ENUM, false, AT(struct conf_vm, ft_domains),
     .words = ft_domains_words, .fallback = "prefer",
     .help = "the twin's node is in another failure_domain than the VM's: prefer: if "
             "one of these can take it (before the order of on); require: or there is "
             "no twin"},
    {.key = NULL},
};

const struct conf_field conf_vm_schema[] = {
    {"name", CONF_TYPE_NAME, true, AT(struct conf_vm, name), .example = "web1",
     .help = "name; also of its directory"},
    {"uuid", CONF_TYPE_UUID, false, AT(struct conf_vm, uuid),
     .example = "6f9e...: 8-4-4-4-12 hexadecimal digits",
     .help = "made at the first apply"},
    {"memory", CONF_TYPE_SIZE, true, AT(struct conf_vm, memory_bytes), .min = 1 * MIB,
     .max = 16 * TIB, .example = "512MiB", .help = "a multiple of 4KiB"},
    {"hugepages", CONF_TYPE_BOOL, false, AT(struct conf_vm, hugepages),
     .fallback = "false",
     .help = "memory in huge pages of 2MiB, which its node must have free "
             "(vm.nr_hugepages); memory is a multiple of that"},
    {"cpus", CONF_TYPE_COUNT, false, AT(struct conf_vm, cpus), .min = 1,
     .max = CONF_STANDARD_CPUS_MAX, .fallback = "1", .help = "vCPUs; lockstep has 1"},
    {"cpu", CONF_TYPE_NAME, false, AT(struct conf_vm, cpu), .fallback = "host",
     .help = "host: all that its node has; or one of the cluster's cpu_models, which a "
             "node must have to run it (machine standard)"},
    {"machine", CONF_TYPE_ENUM, false, AT(struct conf_vm, machine),
     .words = machine_words, .fallback = "lockstep", .help = "kind of machine"},
    {"boot", CONF_TYPE_GROUP, true, .fields = boot_fields,
     .example = "{firmware: /usr/share/gemel/pulse.rom}", .help = "what it boots"},
    {"disks", CONF_TYPE_RECORDS, false, ARRAY(struct conf_vm, disk, disk_count),
     .max = VM_DISKS_MAX, .fields = disk_fields, .example = "[{path: disk0.img}]",
     .help = "virtio disks, in order"},
    {"nics", CONF_TYPE_RECORDS, false, ARRAY(struct conf_vm, nic, nic_count),
     .max = VM_NICS_MAX, .fields = nic_fields, .example = "[{mac: 52:54:00:12:34:56}]",
     .help = "virtio network cards, in order"},
    {"ha", CONF_TYPE_GROUP, false, .fields = vm_ha_fields, .help = "high availability"},
    {"ft", CONF_TYPE_GROUP, false, .fields = vm_ft_fields, .help = "fault tolerance"},
    {.key = NULL},
};
const char *conf_type_name(enum conf_type type)
{
    static const char *const names[] = {
        [CONF_TYPE_NAME] = "name",
        [CONF_TYPE_TEXT] = "text",
        [CONF_TYPE_PATH] = "path",
        [CONF_TYPE_ADDR] = "address",
        [CONF_TYPE_SIZE] = "size",
        [CONF_TYPE_DURATION] = "duration",
        [CONF_TYPE_COUNT] = "number",
        [CONF_TYPE_BOOL] = "true or false",
        [CONF_TYPE_ENUM] = "word",
        [CONF_TYPE_MAC] = "MAC address",
        [CONF_TYPE_UUID] = "UUID",
        [CONF_TYPE_GROUP] = "map",
        [CONF_TYPE_RECORDS] = "list of maps",
        [CONF_TYPE_NAMES] = "list of names",
        [CONF_TYPE_PARAMS] = "map of any keys",
    };

    return (size_t)type < ARRAY_SIZE(names) && names[type] != NULL ? names[type]
                                                                   : "value";
}
