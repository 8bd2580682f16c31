/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/lab_conf.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAB_JSON_VERSION 1

int lab_save(const struct lab *lab)
{
    struct lab_path path = lab_path("%s/lab.json", lab->dir);

    json_object *o = json_object_new_object();
    json_object_object_add(o, "version", json_object_new_int(LAB_JSON_VERSION));
    json_object_object_add(o, "prefix", json_object_new_string(lab->prefix));
    json_object_object_add(o, "nodes", json_object_new_int((int)lab->node_count));
    json_object_object_add(o, "token_ms", json_object_new_int((int)lab->token_ms));
    json_object_object_add(o, "coefficient_ms",
                           json_object_new_int((int)lab->coefficient_ms));
    json_object_object_add(o, "agents", json_object_new_boolean(lab->agents));
    json_object_object_add(o, "dir_created", json_object_new_boolean(lab->dir_created));
    json_object_object_add(o, "pid", json_object_new_int64(lab->pid));
    json_object_object_add(o, "start_time",
                           json_object_new_int64((int64_t)lab->start_time));
    json_object_object_add(o, "boot_id", json_object_new_string(lab->boot_id));
    int r = lab_write_file(
        path.s, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY), 0600);
    json_object_put(o);
    return r;
}

static int64_t get_int(json_object *o, const char *key)
{
    return json_object_get_int64(json_object_object_get(o, key));
}

static bool get_string(json_object *o, const char *key, char *buf, size_t cap)
{
    const char *s = json_object_get_string(json_object_object_get(o, key));

    return s != NULL && (size_t)snprintf(buf, cap, "%s", s) < cap;
}

int lab_load(const char *dir, struct lab *ret_lab)
{
    struct lab_path path = lab_path("%s/lab.json", dir);
    struct lab lab = {0};
    char buf[4096];
    int r = -EBADMSG;

    ssize_t n = lab_read_file(path.s, buf, sizeof buf);
    if (n < 0) {
        return (int)n;
    }
    json_object *o = json_tokener_parse(buf);
    if (!json_object_is_type(o, json_type_object) ||
        get_int(o, "version") != LAB_JSON_VERSION) {
        goto out;
    }
    int64_t nodes = get_int(o, "nodes");
    if (nodes < 1 || nodes > LAB_NODES_MAX ||
        !get_string(o, "prefix", lab.prefix, sizeof lab.prefix) ||
        !get_string(o, "boot_id", lab.boot_id, sizeof lab.boot_id)) {
        goto out;
    }
    snprintf(lab.dir, sizeof lab.dir, "%s", dir);
    lab.node_count = (unsigned)nodes;
    lab.token_ms = (unsigned)get_int(o, "token_ms");
    lab.coefficient_ms = (unsigned)get_int(o, "coefficient_ms");
    lab.agents = json_object_get_boolean(json_object_object_get(o, "agents"));
    lab.dir_created = json_object_get_boolean(json_object_object_get(o, "dir_created"));
    lab.pid = (pid_t)get_int(o, "pid");
    lab.start_time = (uint64_t)get_int(o, "start_time");
    *ret_lab = lab;
    r = 0;
out:
    json_object_put(o);
    return r;
}

/* knet works its timers off every 200 ms, and the ping timeout that Corosync derives
 * (token / 2) may be shorter than that: with token 300 a healthy link went down every 9
 * s, and the token with it. Totem's token alone is to decide who is gone, so the link is
 * given longer. */
static unsigned ping_timeout_ms(const struct lab *lab)
{
    return lab->token_ms > 1000 ? lab->token_ms : 1000;
}

/* One keyword per line: Corosync rejects text after an opening bracket. */
static void corosync_conf(const struct lab *lab, struct lab_text *text)
{
    lab_text_add(
        text,
        "totem {\n    version: 2\n    cluster_name: %s\n    transport: knet\n"
        "    crypto_model: openssl\n    crypto_cipher: aes256\n    crypto_hash: sha256\n"
        "    token: %u\n    token_coefficient: %u\n",
        lab->prefix, lab->token_ms, lab->coefficient_ms);
    lab_text_add(
        text,
        "    interface {\n        linknumber: 0\n        knet_ping_interval: 100\n"
        "        knet_ping_timeout: %u\n    }\n}\n",
        ping_timeout_ms(lab));
    lab_text_add(text, "system {\n    sched_rr: no\n    move_to_root_cgroup: no\n"
                       "    state_dir: /var/lib/corosync\n}\n");
    lab_text_add(
        text,
        "logging {\n    to_stderr: no\n    to_syslog: no\n    to_logfile: yes\n"
        "    logfile: /var/log/corosync.log\n    timestamp: hires\n    debug: off\n}\n");
    lab_text_add(text, "quorum {\n    provider: corosync_votequorum\n%s}\n",
                 lab->node_count == 2 ? "    two_node: 1\n" : "");
    lab_text_add(text, "nodelist {\n");
    for (unsigned i = 1; i <= lab->node_count; i++) {
        lab_text_add(text,
                     "    node {\n        ring0_addr: 10.78.0.%u\n        name: n%u\n"
                     "        nodeid: %u\n    }\n",
                     i, i, i);
    }
    lab_text_add(text, "}\n");
}

static void ipmi_lan_conf(const struct lab *lab, const char *self, unsigned i,
                          struct lab_text *text)
{
    lab_text_add(
        text,
        "name \"n%u\"\nset_working_mc 0x20\n  startlan 1\n    addr 10.79.0.%u %u\n"
        "    priv_limit admin\n    allowed_auths_callback none md5\n"
        "    allowed_auths_user md5\n    allowed_auths_operator md5\n"
        "    allowed_auths_admin md5\n    guid a123456789abcdefa123456789abcd%02x\n  "
        "endlan\n",
        i, 100 + i, LAB_BMC_PORT, i);
    lab_text_add(text,
                 "  chassis_control \"%s --dir %s bmc-chassis n%u\"\n  startnow false\n"
                 "  user 1 false \"\" \"\" user 10 md5\n  user 2 true \"%s\" \"%s\" "
                 "admin 10 md5\n",
                 self, lab->dir, i, LAB_BMC_USER, LAB_BMC_PASSWORD);
}

static void cluster_yaml(const struct lab *lab, struct lab_text *text)
{
    lab_text_add(text, "cluster:\n  name: %s\n  nodes:\n", lab->prefix);
    for (unsigned i = 1; i <= lab->node_count; i++) {
        lab_text_add(text, "    - {name: n%u, id: %u, addr: 10.78.0.%u}\n", i, i, i);
    }
    lab_text_add(text,
                 "  token: %ums\n  token_coefficient: %ums\nstorage:\n  type: local-lab\n"
                 "  settle: 0ms\nfence:\n  budget: %u\n  devices:\n",
                 lab->token_ms, lab->coefficient_ms, lab->node_count);
    for (unsigned i = 1; i <= lab->node_count; i++) {
        lab_text_add(text,
                     "    - name: bmc-n%u\n      agent: fence_ipmilan\n      node: n%u\n"
                     "      params: {ip: 10.79.0.%u, ipport: %u, lanplus: 1, username: "
                     "%s, cipher: 3, "
                     "power_wait: 0}\n",
                     i, i, 100 + i, LAB_BMC_PORT, LAB_BMC_USER);
    }
}

static int write_node(const struct lab *lab, const char *self, unsigned i,
                      const char *corosync, const char *cluster,
                      struct lab_path *ret_path)
{
    static const char *const dirs[] = {
        "root",  "etc/corosync", "etc/gemel/fence", "etc/pacemaker", "log",
        "gemel", "undo",         "corosync",        "pacemaker",     "bmc"};
    struct lab_text lan = {0}, node = {0};
    int r = 0;

    for (size_t d = 0; r == 0 && d < sizeof dirs / sizeof dirs[0]; d++) {
        *ret_path = lab_path("%s/nodes/n%u/%s", lab->dir, i, dirs[d]);
        r = lab_mkdir_p(ret_path->s, 0755);
    }
    ipmi_lan_conf(lab, self, i, &lan);
    lab_text_add(
        &node,
        "node:\n  name: n%u\n  vmroot: /srv/gemel\n  bridge: br0\n  memory: 4GiB\n", i);
    const struct {
        const char *name, *text;
        mode_t mode;
    } files[] = {
        {"etc/corosync/corosync.conf", corosync, 0644},
        {"etc/gemel/cluster.yaml", cluster, 0644},
        {"etc/gemel/node.yaml", node.buf, 0644},
        {"bmc/lan.conf", lan.buf, 0600},
        {"bmc/bmc.emu",
         "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 "
         "persist_sdr\n"
         "sel_enable 0x20 1000 0x0a\nmc_enable 0x20\n",
         0644},
    };
    for (size_t f = 0; r == 0 && f < sizeof files / sizeof files[0]; f++) {
        *ret_path = lab_path("%s/nodes/n%u/%s", lab->dir, i, files[f].name);
        r = lab_write_file(ret_path->s, files[f].text, files[f].mode);
    }
    for (unsigned k = 1; r == 0 && k <= lab->node_count; k++) {
        *ret_path =
            lab_path("%s/nodes/n%u/etc/gemel/fence/bmc-n%u.secret", lab->dir, i, k);
        r = lab_write_file(ret_path->s, "password=" LAB_BMC_PASSWORD "\n", 0600);
    }
    lab_text_free(&lan);
    lab_text_free(&node);
    return r;
}

static int write_authkeys(const struct lab *lab, struct lab_path *ret_path)
{
    unsigned char key[256];
    char text[sizeof key * 2 + 1];
    int r = 0;

    while (getrandom(key, sizeof key, 0) != (ssize_t)sizeof key) {
    }
    /* Any bytes make a key; printable ones go through the same writer as every other
     * file. */
    for (size_t i = 0; i < sizeof key; i++) {
        snprintf(text + 2 * i, 3, "%02x", key[i]);
    }
    for (unsigned i = 1; r == 0 && i <= lab->node_count; i++) {
        *ret_path = lab_path("%s/nodes/n%u/etc/corosync/authkey", lab->dir, i);
        r = lab_write_file(ret_path->s, text, 0400);
    }
    return r;
}

int lab_write_tree(const struct lab *lab, struct lab_path *ret_path)
{
    static const char *const dirs[] = {"nodes", "shared", "log"};
    struct lab_text corosync = {0}, cluster = {0};
    struct lab_path self = lab_self();
    int r = 0;

    for (size_t d = 0; r == 0 && d < sizeof dirs / sizeof dirs[0]; d++) {
        *ret_path = lab_path("%s/%s", lab->dir, dirs[d]);
        r = lab_mkdir_p(ret_path->s, 0755);
    }
    corosync_conf(lab, &corosync);
    cluster_yaml(lab, &cluster);
    for (unsigned i = 1; r == 0 && i <= lab->node_count; i++) {
        r = write_node(lab, self.s, i, corosync.buf, cluster.buf, ret_path);
    }
    lab_text_free(&corosync);
    lab_text_free(&cluster);
    return r < 0 ? r : write_authkeys(lab, ret_path);
}

void lab_ip_hub(const struct lab *lab, struct lab_text *text)
{
    static const char *const bridges[] = {"br-cl", "br-bmc", "br-vm"};

    lab_text_add(text, "link set lo up\n");
    /* A bridge without an address of its own changes it with its ports, and every ARP
     * table is wrong then. */
    for (unsigned i = 0; i < sizeof bridges / sizeof bridges[0]; i++) {
        lab_text_add(text,
                     "link add %s address 02:67:6c:00:00:%02x type bridge stp_state 0 "
                     "forward_delay 0 "
                     "mcast_snooping 0\nlink set %s addrgenmode none up\n",
                     bridges[i], i + 1, bridges[i]);
    }
    lab_text_add(text,
                 "addr add 10.77.0.1/16 dev br-vm\naddr add 10.79.0.254/24 dev br-bmc\n");
    for (unsigned i = 1; i <= lab->node_count; i++) {
        lab_text_add(text, "addr add 10.79.0.%u/24 dev br-bmc\n", 100 + i);
    }
}

void lab_ip_node(const struct lab *lab, unsigned node, struct lab_text *text)
{
    static const struct {
        const char *name, *port;
        unsigned net;
    } nics[] = {{"eth0", "cl", 0x78}, {"bmc0", "bmc", 0x79}, {"vm0", "vm", 0x77}};

    (void)lab;
    lab_text_add(text, "link set lo up\n");
    /* Fixed MACs: the neighbours' ARP tables stay right when the node comes back. PID 1
     * is in the hub. */
    for (size_t i = 0; i < sizeof nics / sizeof nics[0]; i++) {
        lab_text_add(text,
                     "link add %s address 02:67:6c:%02x:00:%02x type veth peer name "
                     "%s-n%u netns 1\n"
                     "link set %s addrgenmode none\n",
                     nics[i].name, nics[i].net, node, nics[i].port, node, nics[i].name);
    }
    lab_text_add(
        text,
        "addr add 10.78.0.%u/24 dev eth0\naddr add 10.79.0.%u/24 dev bmc0\n"
        "link set eth0 up\nlink set bmc0 up\n"
        "link add br0 address 02:67:6c:b0:00:%02x type bridge stp_state 0 forward_delay "
        "0 "
        "mcast_snooping 0\nlink set br0 addrgenmode none up\nlink set vm0 master br0 up\n"
        "addr add 10.77.%u.1/16 dev br0\n",
        node, node, node, node);
}

void lab_ip_ports(unsigned node, struct lab_text *text)
{
    static const char *const ports[] = {"cl", "bmc", "vm"};

    for (size_t i = 0; i < sizeof ports / sizeof ports[0]; i++) {
        lab_text_add(text, "link set %s-n%u addrgenmode none master br-%s up\n", ports[i],
                     node, ports[i]);
    }
}

/* One rule for each pair: few nodes, and every rule can be read with nft list ruleset. */
static void nft_pairs(const struct lab_fault *fault,
                      const bool cut[LAB_NODES_MAX][LAB_NODES_MAX], const char *net,
                      struct lab_text *text)
{
    for (unsigned from = 0; from < fault->node_count; from++) {
        for (unsigned to = 0; to < fault->node_count; to++) {
            if (cut[from][to]) {
                lab_text_add(text, "    iifname \"%s-n%u\" oifname \"%s-n%u\" drop\n",
                             net, from + 1, net, to + 1);
            }
        }
    }
}

/*
 * Drops only where nobody is told: bridge prerouting and forward. A drop in an output
 * hook would give the sender EPERM. A one-way cable still carries ARP: without answers
 * the good direction would die as well, some seconds later, when its neighbour entries go
 * stale.
 */
void lab_nft(const struct lab_fault *fault, struct lab_text *text)
{
    lab_text_add(text, "add table bridge gemel_lab\ndelete table bridge gemel_lab\ntable "
                       "bridge gemel_lab {\n"
                       "  chain arriving {\n    type filter hook prerouting priority "
                       "-300; policy accept;\n");
    for (unsigned i = 0; i < fault->node_count; i++) {
        if (fault->dark[i]) {
            lab_text_add(text,
                         "    iifname { \"cl-n%u\", \"bmc-n%u\", \"vm-n%u\" } drop\n",
                         i + 1, i + 1, i + 1);
        }
        if (fault->link[i] == LAB_LINK_ONEWAY_IN) {
            lab_text_add(text, "    iifname \"cl-n%u\" ether type != arp drop\n", i + 1);
        }
        for (unsigned to = 0; to < fault->node_count; to++) {
            if (fault->bmc_cut[i][to]) {
                lab_text_add(text, "    iifname \"bmc-n%u\" ip daddr 10.79.0.%u drop\n",
                             i + 1, 101 + to);
            }
        }
    }
    lab_text_add(text, "  }\n  chain passing {\n    type filter hook forward priority 0; "
                       "policy accept;\n");
    for (unsigned i = 0; i < fault->node_count; i++) {
        if (fault->link[i] == LAB_LINK_ONEWAY_OUT) {
            lab_text_add(text, "    oifname \"cl-n%u\" ether type != arp drop\n", i + 1);
        }
    }
    nft_pairs(fault, fault->cut, "cl", text);
    nft_pairs(fault, fault->vm_cut, "vm", text);
    lab_text_add(text, "  }\n}\n");
}
