/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions that load, with their values, and definitions that are refused, with the
 * whole message. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cluster-conf/conf_load.h"
#include "tests/unit/unit.h"

#define VM "name: web1\nmemory: 64MiB\nboot: {firmware: /r}\n"
#define NODES                                                                            \
    "cluster:\n  name: c\n  nodes: [{name: n1, id: 1, addr: 10.0.0.1}, {name: n2, id: "  \
    "2, addr: 10.0.0.2}]\n"
#define DEVICE(rest)                                                                     \
    NODES "fence:\n  devices:\n    - {name: d1, agent: fence_ipmilan, node: n1, " rest   \
          "}\n"

static char *read_example(const char *name, size_t *ret_len)
{
    char path[512];
    char *text = malloc(65536);
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", EXAMPLES, name);
    file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    *ret_len = fread(text, 1, 65535, file);
    text[*ret_len] = '\0';
    fclose(file);
    return text;
}

START_TEST(test_example_vm)
{
    static const uint8_t mac[] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
    struct conf_vm vm;
    struct conf_error error;
    size_t len;
    char *text = read_example("vm.yaml", &len);

    ck_assert_msg(conf_vm_load(text, len, "vm.yaml", &vm, &error) == 0, "%s", error.text);
    ck_assert_str_eq(vm.name, "web1");
    ck_assert_uint_eq(vm.memory_bytes, 64u << 20);
    ck_assert(!vm.hugepages);
    ck_assert_int_eq(vm.machine, CONF_MACHINE_LOCKSTEP);
    ck_assert_str_eq(vm.cmdline, "id=web1");
    ck_assert_uint_eq(vm.disk_count, 1);
    ck_assert_str_eq(vm.disk[0].serial, "d0");
    ck_assert_uint_eq(vm.nic_count, 1);
    ck_assert_mem_eq(vm.nic[0].mac, mac, 6);
    ck_assert_uint_eq(vm.nic[0].mtu, 1500);
    ck_assert(vm.protect);
    ck_assert_uint_eq(vm.restart_window_ms, 600000);
    ck_assert_uint_eq(vm.preferred_count, 2);
    ck_assert_str_eq(vm.preferred[1], "n2");
    ck_assert_str_eq(vm.anti_affinity[0], "web2");
    ck_assert_int_eq(vm.isolation, CONF_ISOLATION_RUN);
    free(text);
}
END_TEST

START_TEST(test_example_cluster)
{
    struct conf_cluster *cluster = malloc(sizeof *cluster);
    struct conf_error error;
    size_t len;
    char *text = read_example("cluster.yaml", &len);

    ck_assert_msg(conf_cluster_load(text, len, "cluster.yaml", cluster, &error) == 0,
                  "%s", error.text);
    ck_assert_uint_eq(cluster->node_count, 3);
    ck_assert_str_eq(cluster->node[2].addr, "10.0.0.3");
    ck_assert_uint_eq(cluster->token_ms, 1000);
    ck_assert_uint_eq(cluster->token_coefficient_ms, 0);
    ck_assert(cluster->crypto);
    ck_assert_str_eq(cluster->storage_type, "nfs");
    ck_assert_uint_eq(cluster->storage_settle_ms, 5000);
    ck_assert_int_eq(cluster->after_fence, CONF_AFTER_FENCE_ON);
    ck_assert_uint_eq(cluster->fence_budget, 0);
    ck_assert_uint_eq(cluster->device_count, 5);
    ck_assert_uint_eq(cluster->device[1].timeout_ms, 20000);
    ck_assert_uint_eq(cluster->device[4].level, 2);
    ck_assert_uint_eq(cluster->device[0].param_count, 4);
    ck_assert_str_eq(cluster->device[0].param[0].key, "ip");
    ck_assert_str_eq(cluster->device[0].param[0].value, "10.0.1.1");
    free(text);
    free(cluster);
}
END_TEST

/* What is not written is on the safe side. */
START_TEST(test_cluster_defaults)
{
    struct conf_cluster *cluster = malloc(sizeof *cluster);
    struct conf_error error;

    ck_assert_int_eq(conf_cluster_load(NODES, strlen(NODES), "f", cluster, &error), 0);
    ck_assert_uint_eq(cluster->token_ms, 1000);
    ck_assert_uint_eq(cluster->token_coefficient_ms, 0);
    ck_assert(cluster->crypto && !cluster->insecure_lab);
    ck_assert_uint_eq(cluster->storage_settle_ms, 5000);
    ck_assert_int_eq(cluster->isolation, CONF_ISOLATION_DEFAULT);
    ck_assert_int_eq(cluster->after_fence, CONF_AFTER_FENCE_STAY_OFF);
    ck_assert_uint_eq(cluster->fence_retry_ms, 2000);
    ck_assert_uint_eq(cluster->device_count, 0);
    free(cluster);
}
END_TEST

START_TEST(test_vm_defaults)
{
    struct conf_vm vm;
    struct conf_error error;

    ck_assert_int_eq(conf_vm_load(VM, strlen(VM), "f", &vm, &error), 0);
    ck_assert_int_eq(vm.machine, CONF_MACHINE_LOCKSTEP);
    ck_assert_uint_eq(vm.cpus, 1);
    ck_assert(vm.protect && !vm.restart_on_guest_shutdown);
    ck_assert_uint_eq(vm.priority, 2);
    ck_assert_uint_eq(vm.restart_max, 3);
    ck_assert_uint_eq(vm.restart_window_ms, 600000);
    ck_assert_uint_eq(vm.backoff_ms, 1000);
    ck_assert_uint_eq(vm.backoff_max_ms, 300000);
    ck_assert_uint_eq(vm.stop_timeout_ms, 60000);
    ck_assert_uint_eq(vm.start_timeout_ms, 60000);
    ck_assert_uint_eq(vm.disk_count + vm.nic_count, 0);
}
END_TEST

START_TEST(test_example_node)
{
    struct conf_node node;
    struct conf_error error;
    size_t len;
    char *text = read_example("node.yaml", &len);

    ck_assert_msg(conf_node_load(text, len, "node.yaml", &node, &error) == 0, "%s",
                  error.text);
    ck_assert_str_eq(node.name, "n1");
    ck_assert_str_eq(node.run_dir, "/run/gemel");
    ck_assert_str_eq(node.group, "gemel");
    ck_assert_uint_eq(node.memory_bytes, UINT64_C(32) << 30);
    ck_assert_str_eq(node.vmm_path, "");
    free(text);
}
END_TEST

START_TEST(test_kind)
{
    static const struct {
        const char *yaml;
        enum conf_kind kind;
    } cases[] = {
        {"node: {name: a}", CONF_KIND_NODE},
        {NODES, CONF_KIND_CLUSTER},
        {VM, CONF_KIND_VM},
        {"other: 1", CONF_KIND_UNKNOWN},
        {"[1, 2]", CONF_KIND_UNKNOWN},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        enum conf_kind kind;
        struct conf_error error;

        ck_assert_int_eq(
            conf_kind_of(cases[i].yaml, strlen(cases[i].yaml), "f", &kind, &error), 0);
        ck_assert_int_eq(kind, cases[i].kind);
    }
}
END_TEST

struct refused {
    const char *yaml, *text;
};

/* clang-format off */
static const struct refused refused_vm[] = {
    {VM "memroy: 1GiB\n", "f:4: memroy: unknown key; did you mean memory?"},
    {VM "protect: true\n", "f:4: protect: unknown key; it belongs under ha"},
    {VM "colour: red\n", "f:4: colour: unknown key; remove it, or write one of: name, uuid, memory, hugepages, cpus, cpu, machine, boot, disks, nics, ha, ft"},
    {VM "disks: [{path: d.img, format: qcow2}]\nft: {mode: auto}\n", "f:4: disks[0].format: is qcow2, which a twin cannot take over; convert it to raw (qemu-img convert), or serve it by NBD"},
    {VM "disks: [{path: d.img, exclusion: epoch}]\n", "f:4: disks[0].exclusion: is epoch, which only an NBD server can do; write a path nbd://..., or remove it"},
    {VM "disks: [{path: 'nbd://10.0.0.1/x', exclusion: epoch, read_only: true}]\n", "f:4: disks[0].exclusion: is epoch, and the disk is read_only: it would cut off other VMs that read it, and has no writes to keep away; remove one of both"},
    {VM "disks: [{path: 'nbd://10.0.0.1/x', exclusion: scsi}]\n", "f:4: disks[0].exclusion: scsi is not known here; write proof or epoch"},
    {VM "disks: [{path: d.img, mirrored: true}]\n", "f:4: disks[0].mirrored: needs a raw file or block device of each node itself; write a path that begins with / and is not in the shared directory"},
    {VM "disks: [{path: /d.img, mirrored: true, read_only: true}]\n", "f:4: disks[0].mirrored: makes no sense for a disk that nobody writes to; remove it"},
    {VM "machine: standard\nft: {mode: lockstep}\n", "f:5: ft.mode: is for machine: lockstep; write checkpoint, or auto"},
    {VM "ft: {suspect: 1ms}\n", "f:4: ft.suspect: 1ms is out of range; write something from 20ms to 1m"},
    {VM "ha: {name: x}\n", "f:4: ha.name: unknown key; it belongs at the top level"},
    {"name: web1\nmemory: 10abc\nboot: {firmware: /r}\n", "f:2: memory: 10abc has an unknown unit; write for example 512MiB"},
    {"name: web1\nmemory: 1e3\nboot: {firmware: /r}\n", "f:2: memory: 1e3 has an unknown unit; write for example 512MiB"},
    {"name: web1\nmemory: 512\nboot: {firmware: /r}\n", "f:2: memory: 512 has no unit; write for example 512MiB"},
    {"name: web1\nmemory: 512MB\nboot: {firmware: /r}\n", "f:2: memory: 512MB is ambiguous (powers of 1000 or of 1024); write for example 512MiB"},
    {"name: web1\nmemory: 0512MiB\nboot: {firmware: /r}\n", "f:2: memory: 0512MiB begins with 0, which some readers take for octal; write for example 512MiB"},
    {"name: web1\nmemory: -1MiB\nboot: {firmware: /r}\n", "f:2: memory: -1MiB is not a size; write for example 512MiB"},
    {"name: web1\nmemory: 99999999999999999999MiB\nboot: {firmware: /r}\n", "f:2: memory: 99999999999999999999MiB is too large; write for example 512MiB"},
    {"name: web1\nmemory: 1KiB\nboot: {firmware: /r}\n", "f:2: memory: 1KiB is out of range; write something from 1MiB to 16TiB"},
    {"name: web1\nmemory: 1025KiB\nboot: {firmware: /r}\n", "f:2: memory: is not a multiple of 4KiB; write for example 512MiB"},
    {"name: web1\nmemory: 1028KiB\nhugepages: true\nboot: {firmware: /r}\n", "f:2: memory: is not a multiple of 2MiB, as hugepages: true wants it; write for example 512MiB"},
    {VM "hugepages: 2MiB\n", "f:4: hugepages: 2MiB is neither true nor false; write true or false"},
    {"name: web1\nmemory: 4GiB\nboot: {firmware: /r}\n", "f:2: memory: a lockstep machine has at most 3GiB; write 3GiB, or machine: standard"},
    {"name: web1\nmemory:\nboot: {firmware: /r}\n", "f:2: memory: has no value; write for example 512MiB"},
    {"name: web1\nmemory: [1MiB]\nboot: {firmware: /r}\n", "f:2: memory: is a list where a size is expected; write for example 512MiB"},
    {"name: web1\nmemory: 64MiB\n", "f:1: boot: is missing; write for example boot: {firmware: /usr/share/gemel/pulse.rom}"},
    {"name: web1\nmemory: 64MiB\nboot: {cmdline: x}\n", "f:3: boot: has neither firmware nor kernel; write for example firmware: /usr/share/gemel/pulse.rom, or kernel: vmlinuz"},
    {"name: web1\nmemory: 64MiB\nboot:\n  firmware: /r\n  kernel: vmlinuz\n", "f:5: boot.kernel: cannot stand beside boot.firmware; remove one of them"},
    {"name: web1\nmemory: 64MiB\nboot:\n  firmware: /r\n  initrd: i.img\n", "f:5: boot.initrd: needs boot.kernel: firmware finds its own; remove it"},
    {"memory: 64MiB\nboot: {firmware: /r}\n", "f:1: name: is missing; write for example name: web1"},
    {"name: ../x\nmemory: 64MiB\nboot: {firmware: /r}\n", "f:1: name: ../x is not a name: letters, digits, '.', '_' and '-', beginning with a letter or digit; write for example web1"},
    {"name: ~\nmemory: 64MiB\nboot: {firmware: /r}\n", "f:1: name: has no value; write for example web1"},
    {VM "cpus: 010\n", "f:4: cpus: 010 begins with 0, which some readers take for octal; write for example 1"},
    {VM "cpus: 1.5\n", "f:4: cpus: 1.5 is not a whole number; write for example 1"},
    {VM "cpu: site1\n", "f:4: cpu: a lockstep machine has a processor of its own making; remove it, or write machine: standard"},
    {VM "cpus: 2\n", "f:4: cpus: a lockstep machine has one vCPU; write 1, or machine: standard"},
    {VM "machine: standard\ncpus: 65\n", "f:5: cpus: 65 is out of range; write something from 1 to 64"},
    {VM "machine: standard\ncpus: 0\n", "f:5: cpus: 0 is out of range; write something from 1 to 64"},
    {VM "machine: q35\n", "f:4: machine: q35 is not known here; write lockstep or standard"},
    {VM "uuid: 1234\n", "f:4: uuid: 1234 is not a UUID; write for example 6f9e...: 8-4-4-4-12 hexadecimal digits"},
    {VM "disks:\n- path: ../other/disk0.img\n", "f:5: disks[0].path: ../other/disk0.img leaves its directory by \"..\"; write for example disk0.img"},
    {VM "disks:\n- path: a\n- path: b\n- path: a\n", "f:7: disks[2].path: a is also that of disks[0]; write another one"},
    {VM "disks:\n- {path: a, serial: s}\n- {path: b,\n   serial: s}\n", "f:7: disks[1].serial: s is also that of disks[0]; write another one"},
    {VM "disks: [{path: a, serial: aaaaaaaaaaaaaaaaaaaaa}]\n", "f:4: disks[0].serial: aaaaaaaaaaaaaaaaaaaaa is too long; write at most 20 bytes"},
    {VM "disks: [{path: a, format: vmdk}]\n", "f:4: disks[0].format: vmdk is not known here; write raw or qcow2"},
    {VM "disks:\n- path: nbd://server/x\n", "f:5: disks[0].path: the host must be an IPv4 address, or an IPv6 address in brackets (a name service may be away when the VM has to be restarted)"},
    {VM "disks:\n- path: nbds://10.0.0.1/x\n", "f:5: disks[0].path: NBD over TLS is not there; use a network of its own, or a tunnel, and nbd://"},
    {VM "disks:\n- path: http://10.0.0.1/x\n", "f:5: disks[0].path: an NBD disk is nbd://ADDRESS:PORT/EXPORT or nbd+unix:///EXPORT?socket=/PATH"},
    {VM "disks:\n- path: 'nbd://10.0.0.1/a,b'\n", "f:5: disks[0].path: write %2C for a comma in a URI"},
    {VM "disks:\n- path: nbd://10.0.0.1/x\n  format: qcow2\n", "f:6: disks[0].format: is raw for a network disk: its server knows what is behind it; remove it"},
    {VM "disks:\n- path: nbd://10.0.0.1/x\n- path: nbd://10.0.0.1/x\n", "f:6: disks[1].path: nbd://10.0.0.1/x is also that of disks[0]; write another one"},
    {VM "disks: [a.img]\n", "f:4: disks[0]: is a single value where a map is expected; write for example [{path: disk0.img}]"},
    {VM "disks: {path: a}\n", "f:4: disks: is a map where a list of maps is expected; write for example [{path: disk0.img}]"},
    {VM "nics:\n- mac: 52:54:00:12:34\n", "f:5: nics[0].mac: 52:54:00:12:34 is not a MAC address; write for example 52:54:00:12:34:56"},
    {VM "nics:\n- mac: 53:54:00:12:34:56\n", "f:5: nics[0].mac: 53:54:00:12:34:56 is not a unicast address; write for example 52:54:00:12:34:56"},
    {VM "nics:\n- mac: 52:54:00:12:34:56\n- mac: 52:54:00:12:34:56\n", "f:6: nics[1].mac: 52:54:00:12:34:56 is also that of nics[0]; write another one"},
    {VM "nics:\n- {mac: 52:54:00:12:34:56, vlan: 4095}\n", "f:5: nics[0].vlan: 4095 is out of range; write something from 0 to 4094"},
    {VM "ha:\n  priority: 5\n", "f:5: ha.priority: 5 is out of range; write something from 0 to 4"},
    {VM "ha: {stop_timeout: 30}\n", "f:4: ha.stop_timeout: 30 has no unit; write for example 1m"},
    {VM "ha: {stop_timeout: soon}\n", "f:4: ha.stop_timeout: soon is not a duration; write for example 1m"},
    {VM "ha: {protect: yes}\n", "f:4: ha.protect: yes is neither true nor false; write true or false"},
    {VM "ha: {isolation: panic}\n", "f:4: ha.isolation: panic is not known here; write run, freeze or stop"},
    {VM "ha:\n  restart:\n    backoff: 10m\n", "f:6: ha.restart.backoff: is more than backoff_max; write less, or raise backoff_max"},
    {VM "ha: {anti_affinity: [a, b, a]}\n", "f:4: ha.anti_affinity[2]: a is also that of ha.anti_affinity[0]; write another one"},
    {VM "ha: {anti_affinity: [web1]}\n", "f:4: ha.anti_affinity[0]: is the VM itself; remove it"},
    {VM "ha: {anti_affinity: [1,2,3,4,5,6,7,8,9]}\n", "f:4: ha.anti_affinity: has 9 entries; write from 0 to 8"},
    {VM "name: web2\n", "f:4: name: is written twice; remove one of them; the first is in line 1"},
    {VM "ha: &x {}\nnics: *x\n", "f:5: aliases are not known here; write the value again"},
    {VM "cpus: !!int 1\n", "f:4: tags are not known here; remove tag:yaml.org,2002:int"},
    {VM "---\n" VM, "f:4: a second document; write one definition per file"},
    {VM "boot2: \"a\\0b\"\n", "f:4: a line break or control character in a value; write it on one line"},
    {VM "cpus: [[[[[[[[[1]]]]]]]]]\n", "f:4: nested too deeply; no definition needs this"},
    {VM "? {a: b}\n: c\n", "f:4: a map or list cannot be a key; write a word"},
    {"", "f:1: the file is empty; begin with one of cluster-conf/examples"},
    {"hello\n", "f:1: the file is not a map of keys; begin with name:"},
    {"name: web1\n\tmemory: 1\n", "f:2: not YAML: found a tab character that violates indentation; check the indentation (spaces, no tabs) and quote special characters"},
};

static const struct refused refused_cluster[] = {
    {"cluster:\n  name: c\n", "f:1: cluster.nodes: is missing; write for example nodes: [{name: n1, id: 1, addr: 10.0.0.1}]"},
    {"cluster:\n  name: c\n  nodes: []\n", "f:3: cluster.nodes: has 0 entries; write from 1 to 64"},
    {"cluster:\n  name: c\n  nodes:\n  - {name: n1, id: 0, addr: a}\n", "f:4: cluster.nodes[0].id: 0 is out of range; write something from 1 to 4294967295"},
    {"cluster:\n  name: c\n  nodes:\n  - {name: n1, id: 1, addr: a}\n  - {name: n1, id: 2, addr: b}\n", "f:5: cluster.nodes[1].name: n1 is also that of cluster.nodes[0]; write another one"},
    {"cluster:\n  name: c\n  nodes:\n  - {name: n1, id: 1, addr: a}\n  - {name: n2, id: 1, addr: b}\n", "f:5: cluster.nodes[1].id: 1 is also that of cluster.nodes[0]; write another one"},
    {"cluster:\n  name: c\n  nodes:\n  - {name: n1, id: 1, addr: a}\n  - {name: n2, id: 2, addr: a}\n", "f:5: cluster.nodes[1].addr: a is also that of cluster.nodes[0]; write another one"},
    {"cluster:\n  name: c\n  nodes:\n  - {name: n1, id: 1, addr: \"a } b\"}\n", "f:4: cluster.nodes[0].addr: a } b is neither an IP address nor a host name; write for example 10.0.0.1"},
    {"cluster:\n  name: c\n  nodes:\n  - {name: n1, id: 1, addr: 10.0.0.1}\n  - {name: n2, id: 2, addr: host2}\n  - {name: n3, id: 3, addr: \"fd00::3\"}\n", "f:6: cluster.nodes[2].addr: fd00::3 and 10.0.0.1 of n1 are of different IP versions; write one version for all nodes"},
    {"cluster:\n  name: c\n  nodes: [{name: n1, id: 1, addr: 10.0.0.300}]\n", "f:3: cluster.nodes[0].addr: 10.0.0.300 is neither an IP address nor a host name; write for example 10.0.0.1"},
    {NODES "  token: 1000\n", "f:4: cluster.token: 1000 has no unit; write for example 1s"},
    {NODES "  token: 10ms\n", "f:4: cluster.token: 10ms is out of range; write something from 100ms to 1m"},
    {NODES "  cpu_models: [{name: host, model: vendor=X features=fpu}]\n", "f:4: cluster.cpu_models[0].name: host means the node's own processor; write another one"},
    {NODES "  cpu_models: [{name: a, model: vendor=X features=fpu}, {name: a, model: vendor=X features=fpu}]\n", "f:4: cluster.cpu_models[1].name: a is also that of cluster.cpu_models[0]; write another one"},
    {NODES "  cpu_models: [{name: a, model: \"vendor=X features=fpu,avx9\"}]\n", "f:4: cluster.cpu_models[0].model: features: 'avx9' is not a feature that this version knows; write what gemel cluster cpu-baseline prints"},
    {NODES "  crypto: false\n", "f:4: cluster.crypto: an unencrypted ring lets any host of the network join; write true (a test lab may write insecure_lab: true beside it)"},
    {DEVICE("node: n2"), "f:6: node: is written twice; remove one of them; the first is in line 6"},
    {DEVICE("params: {password: x}"), "f:6: fence.devices[0].params.password: a secret does not belong into the cluster definition; write password=... into /etc/gemel/fence/d1.secret"},
    {DEVICE("params: {passwd: x}"), "f:6: fence.devices[0].params.passwd: a secret does not belong into the cluster definition; write passwd=... into /etc/gemel/fence/d1.secret"},
    {DEVICE("params: {cipher: 0}"), "f:6: fence.devices[0].params.cipher: cipher suite 0 lets anyone switch the node off without a password; write for example 17"},
    {DEVICE("params: {cipher: 00}"), "f:6: fence.devices[0].params.cipher: cipher suite 0 lets anyone switch the node off without a password; write for example 17"},
    {DEVICE("params: {action: reboot}"), "f:6: fence.devices[0].params.action: Gemel sets the action itself, always off; remove it"},
    {DEVICE("params: {method: cycle}"), "f:6: fence.devices[0].params.method: cycle is no proof that the node is off; remove it, or write onoff"},
    {DEVICE("level: 5"), "f:6: fence.devices[0].level: 5 is out of range; write something from 1 to 4"},
    {DEVICE("level: 2"), "f:6: fence.devices[0].level: 2 leaves a gap: n1 has no device of level 1; write 1"},
    {NODES "fence:\n  devices:\n  - {name: d, agent: a, node: n3}\n", "f:6: fence.devices[0].node: n3 is not a node of this cluster; write one of: n1 n2"},
    {NODES "fence:\n  devices:\n  - {name: d, agent: a, node: n1}\n  - {name: d, agent: a, node: n2}\n", "f:7: fence.devices[1].name: d is also that of fence.devices[0]; write another one"},
    {NODES "fence: {after_fence: reboot}\n", "f:4: fence.after_fence: reboot is not known here; write stay-off or on"},
};

static const struct refused refused_node[] = {
    {"node: {}\n", "f:1: node.name: is missing; write for example name: n1"},
    {"node:\n  name: n1\n  vmroot: srv\n", "f:3: node.vmroot: is not absolute; write a path that begins with /"},
    {"node:\n  name: n1\n  vmroot: /srv/a,b\n", "f:3: node.vmroot: has a comma, which parts gemel-vmm's options of a disk; write a path without one"},
    {"node:\n  name: n1\n  state_dir: /srv/gemel\n", "f:3: node.state_dir: is the same as vmroot, which is shared; write a local directory of this node"},
};
/* clang-format on */

START_TEST(test_refused_vm)
{
    const struct refused *c = &refused_vm[_i];
    struct conf_vm vm;
    struct conf_error error;

    memset(&vm, 0x5a, sizeof vm);
    ck_assert_int_eq(conf_vm_load(c->yaml, strlen(c->yaml), "f", &vm, &error), -EINVAL);
    ck_assert_str_eq(error.text, c->text);
    for (size_t i = 0; i < sizeof vm; i++) {
        ck_assert_uint_eq(((unsigned char *)&vm)[i], 0x5a); /* nothing changed */
    }
}
END_TEST

START_TEST(test_refused_cluster)
{
    const struct refused *c = &refused_cluster[_i];
    struct conf_cluster *cluster = malloc(sizeof *cluster);
    struct conf_error error;

    ck_assert_int_eq(conf_cluster_load(c->yaml, strlen(c->yaml), "f", cluster, &error),
                     -EINVAL);
    ck_assert_str_eq(error.text, c->text);
    free(cluster);
}
END_TEST

START_TEST(test_refused_node)
{
    const struct refused *c = &refused_node[_i];
    struct conf_node node;
    struct conf_error error;

    ck_assert_int_eq(conf_node_load(c->yaml, strlen(c->yaml), "f", &node, &error),
                     -EINVAL);
    ck_assert_str_eq(error.text, c->text);
}
END_TEST

static Suite *conf_load_suite(void)
{
    Suite *suite = suite_create("conf_load");
    TCase *loads = tcase_create("loads"), *refuses = tcase_create("refuses");

    tcase_add_test(loads, test_example_vm);
    tcase_add_test(loads, test_example_cluster);
    tcase_add_test(loads, test_example_node);
    tcase_add_test(loads, test_cluster_defaults);
    tcase_add_test(loads, test_vm_defaults);
    tcase_add_test(loads, test_kind);
    tcase_add_loop_test(refuses, test_refused_vm, 0, ARRAY_SIZE(refused_vm));
    tcase_add_loop_test(refuses, test_refused_cluster, 0, ARRAY_SIZE(refused_cluster));
    tcase_add_loop_test(refuses, test_refused_node, 0, ARRAY_SIZE(refused_node));
    suite_add_tcase(suite, loads);
    suite_add_tcase(suite, refuses);
    return suite;
}

UNIT_MAIN(conf_load_suite)
