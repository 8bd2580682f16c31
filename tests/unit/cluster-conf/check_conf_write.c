/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Property: what is written loads as the same value, for random definitions made from the
 * schema itself, so that a new key is covered the day it is added. And the list of
 * changes, and schema.md against the tables.
 */
#include <stdlib.h>
#include <string.h>

#include "cluster-conf/conf_bind.h"
#include "cluster-conf/conf_check.h"
#include "cluster-conf/conf_load.h"
#include "cluster-conf/conf_parse.h"
#include "cluster-conf/conf_write.h"
#include "tests/unit/unit.h"

#define YAML_MAX (1 << 20)

static uint64_t seed;

static uint64_t rnd(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return below == 0 ? 0 : (seed >> 11) % below;
}

static void random_string(const struct conf_field *field, char *at)
{
    static const char name[] = "abcXYZ019._-";
    static const char *const words[] = {
        "null",  "~",      "yes", "On",   "true",  "1",   "0x1f", "1e3",
        "a: b",  "- a",    "#c",  "a #c", "\"q\"", "\\n", "{a}",  "[",
        "'",     "%x",     "@",   "|",    "&a",    "*a",  "!t",   "\xc3\xa4\xe2\x82\xac",
        " lead", "trail ", "<<",  "?",    ": "};
    size_t len;

    if (field->type == CONF_TYPE_TEXT && rnd(2) == 0) {
        strcpy(at, words[rnd(ARRAY_SIZE(words))]);
        return;
    }
    len = 1 +
          rnd(rnd(4) == 0 ? field->size - 1 : (field->size < 12 ? field->size - 1 : 11));
    for (size_t i = 0; i < len; i++) {
        if (field->type == CONF_TYPE_TEXT) {
            at[i] = (char)(0x20 + rnd(0x5f));
        } else if (field->type == CONF_TYPE_PATH) {
            at[i] = i % 4 == 0 ? '/' : (char)(0x21 + rnd(0x5e));
            at[i] = at[i] == '.' ? ',' : at[i];
        } else if (field->type == CONF_TYPE_ADDR) {
            at[i] = name[rnd(6)]; /* a letter, so that it is a host name */
        } else {
            at[i] = name[rnd(i == 0 ? 9 : sizeof name - 1)];
        }
    }
}

static void random_number(const struct conf_field *field, char *at)
{
    uint64_t span = field->max - field->min + 1;
    uint64_t value = field->min + rnd(rnd(2) == 0 && span > 1000 ? 1000 : span);

    if (field->fallback == NULL && !field->required && rnd(3) == 0) {
        value = 0; /* not set */
    }
    if (field->size == 2) {
        uint16_t v = (uint16_t)value;
        memcpy(at, &v, sizeof v);
    } else if (field->size == 4) {
        uint32_t v = (uint32_t)value;
        memcpy(at, &v, sizeof v);
    } else {
        memcpy(at, &value, sizeof value);
    }
}

static void random_map(const struct conf_field *fields, char *base);

static void random_field(const struct conf_field *field, char *base)
{
    char *at = base + field->offset;
    unsigned count = (unsigned)(field->min + rnd(field->max - field->min + 1));

    switch (field->type) {
    case CONF_TYPE_NAME:
    case CONF_TYPE_TEXT:
    case CONF_TYPE_PATH:
    case CONF_TYPE_ADDR:
        if (field->required || field->fallback != NULL || rnd(3) > 0) {
            random_string(field, at);
        }
        break;
    case CONF_TYPE_SIZE:
    case CONF_TYPE_DURATION:
    case CONF_TYPE_COUNT:
        random_number(field, at);
        break;
    case CONF_TYPE_BOOL:
        *(bool *)at = rnd(2) == 1;
        break;
    case CONF_TYPE_ENUM:
        if (field->fallback != NULL || rnd(3) > 0) {
            memcpy(at, &field->words[rnd(2)].value, sizeof(int));
        }
        break;
    case CONF_TYPE_MAC:
    case CONF_TYPE_UUID:
        for (size_t i = 0; i < field->size; i++) {
            at[i] = (char)rnd(256);
        }
        break;
    case CONF_TYPE_GROUP:
        random_map(field->fields, base);
        break;
    case CONF_TYPE_RECORDS:
    case CONF_TYPE_NAMES:
    case CONF_TYPE_PARAMS:
        count = rnd(4) > 0 && count > field->min + 3 ? (unsigned)field->min + 3 : count;
        memcpy(base + field->count_offset, &count, sizeof count);
        for (unsigned i = 0; i < count; i++) {
            char *item = at + i * field->size;

            if (field->type == CONF_TYPE_RECORDS) {
                random_map(field->fields, item);
            } else if (field->type == CONF_TYPE_NAMES) {
                random_string(
                    &(struct conf_field){.type = CONF_TYPE_NAME, .size = field->size},
                    item);
            } else {
                struct conf_param *param = (void *)item;

                snprintf(param->key, sizeof param->key, "k%u", i);
                random_string(&(struct conf_field){.type = CONF_TYPE_TEXT,
                                                   .size = sizeof param->value},
                              param->value);
            }
        }
        break;
    }
}

static void random_map(const struct conf_field *fields, char *base)
{
    for (const struct conf_field *f = fields; f->key != NULL; f++) {
        random_field(f, base);
    }
}

static unsigned round_trips;

static void round_trip(const struct conf_field *schema, size_t size, uint64_t at_seed)
{
    char *want = calloc(1, size), *have = calloc(1, size), *yaml = malloc(YAML_MAX);
    struct conf_tree tree = {0};
    struct conf_error error = {0};
    size_t len;

    seed = at_seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    random_map(schema, want);
    if (schema == conf_vm_schema) {
        struct conf_vm *vm = (void *)want;

        memset(vm->firmware, 0, sizeof vm->firmware);
        memcpy(vm->firmware, "/r", 2); /* boot: is never empty */
    }
    len = conf_yaml_write(schema, want, yaml, YAML_MAX);
    ck_assert_uint_gt(len, 0);
    if (len <= DEFINITION_MAX) {
        ck_assert_msg(conf_parse(yaml, len, "f", &tree, &error) == 0, "seed %u: %s\n%s",
                      (unsigned)at_seed, error.text, yaml);
        ck_assert_msg(conf_bind(&tree, schema, "f", have, &error) == 0, "seed %u: %s\n%s",
                      (unsigned)at_seed, error.text, yaml);
        if (memcmp(want, have, size) != 0) {
            static char changes[65536];

            conf_diff(schema, want, have, changes, sizeof changes);
            ck_abort_msg("seed %u: %s\n%s", (unsigned)at_seed, changes, yaml);
        }
        ck_assert_uint_eq(conf_diff(schema, want, have, yaml, YAML_MAX), 0);
        round_trips++;
    }
    conf_tree_free(&tree);
    free(want);
    free(have);
    free(yaml);
}

START_TEST(test_round_trip)
{
    for (uint64_t i = 0; i < 1500; i++) {
        round_trip(conf_vm_schema, sizeof(struct conf_vm), i);
        round_trip(conf_node_schema, sizeof(struct conf_node), i);
        if (i < 400) {
            round_trip(conf_cluster_schema, sizeof(struct conf_cluster), i);
        }
    }
    ck_assert_uint_gt(round_trips,
                      3000); /* definitions beyond the size limit are left out */
}
END_TEST

static struct conf_vm *vm_of(const char *yaml)
{
    struct conf_vm *vm = malloc(sizeof *vm);
    struct conf_error error;

    ck_assert_msg(conf_vm_load(yaml, strlen(yaml), "f", vm, &error) == 0, "%s",
                  error.text);
    return vm;
}

START_TEST(test_write_vm)
{
    struct conf_vm *vm =
        vm_of("name: web1\nmemory: 64M\nboot: {firmware: /r, cmdline: 'a=\"b\"'}\n"
              "disks: [{path: d.img}]\nnics: [{mac: 52:54:00:12:34:56}]\n"
              "ha: {anti_affinity: [web2, \"no\"]}\n");
    static char yaml[4096];

    ck_assert_uint_gt(conf_vm_write(vm, yaml, sizeof yaml), 0);
    ck_assert_str_eq(yaml, "name: web1\n"
                           "memory: 64MiB\n"
                           "hugepages: false\n"
                           "cpus: 1\n"
                           "cpu: host\n"
                           "machine: lockstep\n"
                           "boot:\n"
                           "  firmware: /r\n"
                           "  cmdline: \"a=\\\"b\\\"\"\n"
                           "disks:\n"
                           "  - path: d.img\n"
                           "    format: raw\n"
                           "    read_only: false\n"
                           "    mirrored: false\n"
                           "    exclusion: proof\n"
                           "    iops: 0\n"
                           "nics:\n"
                           "  - mac: \"52:54:00:12:34:56\"\n"
                           "    vlan: 0\n"
                           "    mtu: 0\n"
                           "    queues: 1\n"
                           "    pps: 0\n"
                           "ha:\n"
                           "  protect: true\n"
                           "  priority: 2\n"
                           "  restart:\n"
                           "    max: 3\n"
                           "    window: 10m\n"
                           "    backoff: 1s\n"
                           "    backoff_max: 5m\n"
                           "    on_guest_shutdown: false\n"
                           "  stop_timeout: 1m\n"
                           "  start_timeout: 1m\n"
                           "  anti_affinity: [web2, \"no\"]\n"
                           "ft:\n"
                           "  mode: off\n"
                           "  commit: verified\n"
                           "  suspect: 60ms\n"
                           "  domains: prefer\n");
    ck_assert_uint_eq(conf_vm_write(vm, yaml, 100), 0); /* does not fit */
    free(vm);
}
END_TEST

START_TEST(test_diff_vm)
{
    struct conf_vm *a = vm_of("name: web1\nmemory: 64M\nboot: {firmware: /r}\n"
                              "disks: [{path: a}, {path: b}, {path: c}]\n"
                              "nics: [{mac: 52:54:00:12:34:56}]\nha: {isolation: run}\n");
    struct conf_vm *b = vm_of("name: web1\nmemory: 128M\nboot: {firmware: /r}\n"
                              "disks: [{path: c}, {path: b, serial: s}, {path: d}]\n"
                              "nics: [{mac: 52:54:00:12:34:56, bridge: br1}]\n"
                              "ha: {preferred_nodes: [n1]}\n");
    char changes[1024];

    ck_assert_uint_eq(conf_vm_diff(a, a, changes, sizeof changes), 0);
    ck_assert_str_eq(changes, "");
    ck_assert_uint_eq(conf_vm_diff(a, b, changes, sizeof changes), 8);
    ck_assert_str_eq(changes, "memory: 64MiB -> 128MiB\n"
                              "disks[a]: removed\n"
                              "disks[b].serial: not set -> s\n"
                              "disks[d]: added\n"
                              "disks: order changed\n"
                              "nics[52:54:00:12:34:56].bridge: not set -> br1\n"
                              "ha.isolation: run -> not set\n"
                              "ha.preferred_nodes: not set -> [n1]\n");
    free(a);
    free(b);
}
END_TEST

START_TEST(test_diff_cluster)
{
    static const char text[] =
        "cluster:\n  name: c\n  nodes: [{name: n1, id: 1, addr: a}]\n  token: %s\n"
        "fence:\n  devices: [{name: d, agent: x, node: n1, params: {%s}}]\n";
    struct conf_cluster *a = malloc(sizeof *a), *b = malloc(sizeof *b);
    struct conf_error error;
    char yaml[512], changes[512];

    snprintf(yaml, sizeof yaml, text, "1s", "ip: 1, port: 2");
    ck_assert_int_eq(conf_cluster_load(yaml, strlen(yaml), "f", a, &error), 0);
    snprintf(yaml, sizeof yaml, text, "300ms", "ip: 3, plug: 2");
    ck_assert_int_eq(conf_cluster_load(yaml, strlen(yaml), "f", b, &error), 0);
    ck_assert_uint_eq(conf_cluster_diff(a, b, changes, sizeof changes), 4);
    ck_assert_str_eq(changes, "cluster.token: 1s -> 300ms\n"
                              "fence.devices[d].params.ip: 1 -> 3\n"
                              "fence.devices[d].params.port: 2 -> not set\n"
                              "fence.devices[d].params.plug: not set -> 2\n");
    free(a);
    free(b);
}
END_TEST

START_TEST(test_against)
{
    struct conf_vm *web1 =
        vm_of("name: web1\nuuid: 00000000-0000-4000-8000-000000000001\nmemory: 64M\n"
              "boot: {firmware: /r}\nnics: [{mac: 52:54:00:12:34:56}]\n");
    struct conf_vm *other =
        vm_of("name: other\nuuid: 00000000-0000-4000-8000-000000000002\nmemory: 64M\n"
              "boot: {firmware: /r}\nnics: [{mac: 52:54:00:00:00:01}]\n");
    const struct conf_vm *others[] = {web1, other};
    const struct conf_capacity nodes[] = {{"n1", 64u << 20}, {"n2", 96u << 20}};
    static const char yaml[] =
        "name: new\nmemory: 64M\nboot: {firmware: /r}\n"
        "nics:\n- mac: 52:54:00:12:34:57\n- mac: 52:54:00:12:34:56\n";
    struct conf_vm *vm = vm_of(yaml);
    struct conf_error error;

    ck_assert_int_lt(conf_vm_check_against(vm, others, 2, nodes, 2, &error), 0);
    ck_assert_str_eq(
        error.text,
        "nics[1].mac: 52:54:00:12:34:56 is also used by VM web1; write another one");
    conf_error_locate_in(&error, yaml, strlen(yaml), "new.yaml");
    ck_assert_str_eq(
        error.text, "new.yaml:6: nics[1].mac: 52:54:00:12:34:56 is also used by VM web1; "
                    "write another one");
    vm->nic_count = 1;
    ck_assert_int_eq(conf_vm_check_against(vm, others, 2, nodes, 2, &error), 0);
    vm->memory_bytes = UINT64_C(128) << 20;
    ck_assert_int_lt(conf_vm_check_against(vm, others, 2, nodes, 2, &error), 0);
    ck_assert_str_eq(
        error.text,
        "memory: 128MiB is more than any node has for VMs; write at most 96MiB (n2)");
    ck_assert_int_eq(conf_vm_check_against(vm, others, 2, nodes, 0, &error), 0);
    /* The same VM, changed, keeps its name, MAC and uuid. */
    ck_assert_int_eq(conf_vm_check_against(web1, others, 2, nodes, 2, &error), 0);
    strcpy(vm->name, "web1");
    vm->memory_bytes = 64u << 20;
    ck_assert_int_eq(conf_vm_check_against(vm, others, 2, nodes, 2, &error), 0);
    vm->uuid.b[0] = 7;
    ck_assert_int_lt(conf_vm_check_against(vm, others, 2, nodes, 2, &error), 0);
    ck_assert_str_eq(
        error.text,
        "name: web1 is the name of another VM, with uuid "
        "00000000-0000-4000-8000-000000000001; write another name, or that uuid "
        "to change this VM");
    strcpy(vm->name, "x");
    vm->uuid = other->uuid;
    ck_assert_int_lt(conf_vm_check_against(vm, others, 2, nodes, 2, &error), 0);
    ck_assert_str_eq(error.text,
                     "uuid: is that of VM other; remove it, and a new one is made");
    free(web1);
    free(other);
    free(vm);
}
END_TEST

START_TEST(test_cpu_model_is_known)
{
    static const char yaml[] = "name: a\nmemory: 64M\nmachine: standard\ncpu: baselin\n"
                               "boot: {firmware: /r}\n";
    struct conf_cluster *cluster = calloc(1, sizeof *cluster);
    struct conf_vm *vm = vm_of(yaml);
    struct conf_error error;

    ck_assert_int_lt(conf_vm_check_cluster(vm, cluster, &error), 0);
    ck_assert_str_eq(error.text,
                     "cpu: CPU model baselin is not in the cluster definition "
                     "(cpu_models); write one of: host");
    cluster->cpu_model_count = 2;
    strcpy(cluster->cpu_model[0].name, "rich");
    strcpy(cluster->cpu_model[1].name, "baseline");
    ck_assert_int_lt(conf_vm_check_cluster(vm, cluster, &error), 0);
    conf_error_locate_in(&error, yaml, strlen(yaml), "a.yaml");
    ck_assert_str_eq(error.text,
                     "a.yaml:4: cpu: CPU model baselin is not in the cluster definition "
                     "(cpu_models); did you mean baseline?");
    strcpy(vm->cpu, "hots");
    ck_assert_int_lt(conf_vm_check_cluster(vm, cluster, &error), 0);
    ck_assert_ptr_nonnull(strstr(error.text, "did you mean host?"));
    strcpy(vm->cpu, "z80");
    ck_assert_int_lt(conf_vm_check_cluster(vm, cluster, &error), 0);
    ck_assert_ptr_nonnull(strstr(error.text, "write one of: host, rich, baseline"));
    strcpy(vm->cpu, "baseline");
    ck_assert_int_eq(conf_vm_check_cluster(vm, cluster, &error), 0);
    strcpy(vm->cpu, "host");
    ck_assert_int_eq(conf_vm_check_cluster(vm, cluster, &error), 0);
    free(vm);
    free(cluster);
}
END_TEST

START_TEST(test_shared_disk)
{
    static const char text[] = "name: %s\nmemory: 64M\nboot: {firmware: /r}\n"
                               "disks:\n- path: disk0.img\n- {path: %s, read_only: %s}\n";
    struct conf_vm *writer, *reader, *vm;
    const struct conf_vm *others[2];
    struct conf_error error;
    char yaml[512];

    snprintf(yaml, sizeof yaml, text, "writer", "/dev/vg/w", "false");
    writer = vm_of(yaml);
    snprintf(yaml, sizeof yaml, text, "reader", "/srv/iso/install.iso", "true");
    reader = vm_of(yaml);
    others[0] = writer;
    others[1] = reader;
    snprintf(yaml, sizeof yaml, text, "new", "/dev/vg/w", "true");
    vm = vm_of(yaml);
    ck_assert_int_lt(conf_vm_check_against(vm, others, 2, NULL, 0, &error), 0);
    ck_assert_str_eq(
        error.text,
        "disks[1].path: /dev/vg/w is also a disk of VM writer, and one of them "
        "writes to it; write another one, or read_only: true in both");
    strcpy(vm->disk[1].path, "/srv/iso/install.iso");
    ck_assert_int_eq(conf_vm_check_against(vm, others, 2, NULL, 0, &error), 0);
    vm->disk[1].read_only = false;
    ck_assert_int_lt(conf_vm_check_against(vm, others, 2, NULL, 0, &error), 0);
    /* A path into another VM's directory, however it is written. */
    vm->disk_count = 1;
    strcpy(vm->firmware, EXAMPLES "/vm.yaml");
    strcpy(vm->disk[0].path, "/srv/gemel//web1/disk0.img");
    ck_assert_int_lt(conf_vm_check_files(vm, "/srv/gemel/", &error), 0);
    ck_assert_str_eq(
        error.text,
        "disks[0].path: /srv/gemel//web1/disk0.img lies in the directory of another "
        "VM; move it into this VM's own, or out of the directory of VMs");
    vm->disk[0].mirrored = true;
    ck_assert_int_lt(conf_vm_check_files(vm, "/srv/gemel/", &error), 0);
    ck_assert_ptr_nonnull(strstr(error.text, "lies in the directory of another VM"));
    /* A mirrored one is each node's own. */
    strcpy(vm->disk[0].path, "/srv/gemel/new/disk0.img");
    ck_assert_int_lt(conf_vm_check_files(vm, "/srv/gemel/", &error), 0);
    ck_assert_str_eq(
        error.text,
        "disks[0].path: /srv/gemel/new/disk0.img is in the shared directory, where both "
        "nodes have one file; move it to storage of each node's own, or leave out "
        "mirrored");
    strcpy(vm->disk[0].path, "/srv/gemelli/disk0.img");
    ck_assert_int_eq(conf_vm_check_files(vm, "/srv/gemel/", &error), 0);
    vm->disk[0].mirrored = false;
    strcpy(vm->disk[0].path, "/srv/gemel/new/nosuch.img");
    ck_assert_int_lt(conf_vm_check_files(vm, "/srv/gemel", &error), 0);
    ck_assert_str_eq(error.text,
                     "disks[0].path: /srv/gemel/new/nosuch.img does not exist; create it "
                     "(truncate -s 10G FILE), or correct the path");
    free(writer);
    free(reader);
    free(vm);
}
END_TEST

/* Read as ever, and refused when it is applied. */
START_TEST(test_applied)
{
    static const char *const words[] = {"", ", on_error: pause", ", on_error: stop",
                                        ", on_error: report"};
    char yaml[256];

    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        struct conf_error error;
        struct conf_vm *vm;

        snprintf(yaml, sizeof yaml,
                 "name: web1\nmemory: 64M\nboot: {firmware: /r}\n"
                 "disks: [{path: d.img, on_error: report}, "
                 "{path: 'nbd://10.0.0.1/x', exclusion: epoch%s}]\n",
                 words[i]);
        vm = vm_of(yaml);
        ck_assert_int_eq(conf_vm_check_applied(vm, &error) < 0, i == 3);
        ck_assert(i != 3 || strncmp(error.text, "disks[1].on_error: is report", 28) == 0);
        free(vm);
    }
}
END_TEST

/* What it says when `yaml` follows the rest of a definition, is loaded and then applied,
 * with its line; "": nothing. */
static void applied(const char *yaml, const struct conf_cluster *cluster, char text[1024])
{
    char whole[512];
    struct conf_error error;
    struct conf_vm *vm;

    snprintf(whole, sizeof whole, "name: web1\nmemory: 64M\nboot: {firmware: /r}\n%s",
             yaml);
    vm = vm_of(whole);
    text[0] = '\0';
    if (conf_vm_check_applied(vm, &error) < 0 ||
        conf_vm_check_cluster(vm, cluster, &error) < 0) {
        conf_error_locate_in(&error, whole, strlen(whole), "f");
        snprintf(text, 1024, "%s", error.text);
    }
    free(vm);
}

START_TEST(test_names_of_nodes)
{
    struct conf_cluster *cluster = calloc(1, sizeof *cluster);
    char text[1024];

    cluster->node_count = 2;
    strcpy(cluster->node[0].name, "n1");
    strcpy(cluster->node[1].name, "n2");
    applied("ft: {mode: lockstep, on: [n2, n1]}\nha: {preferred_nodes: [n2]}\n", cluster,
            text);
    ck_assert_str_eq(text, "");
    applied("ft:\n  mode: lockstep\n  on: [n2, n9]\n", cluster, text);
    ck_assert_str_eq(
        text, "f:6: ft.on[1]: n9 is not a node of this cluster; write one of: n1 n2");
    applied("ft:\n  mode: lockstep\n  on: [n2, n1, n2]\n", cluster, text);
    ck_assert_str_eq(text,
                     "f:6: ft.on[2]: n2 is also that of ft.on[0]; write another one");
    applied("ha: {preferred_nodes: [n3]}\n", cluster, text);
    ck_assert_str_eq(text, "f:4: ha.preferred_nodes[0]: n3 is not a node of this "
                           "cluster; write one of: n1 n2");
    free(cluster);
}
END_TEST

/* gemel-vmm --disk path=FILE,serial=... */
START_TEST(test_comma)
{
    struct conf_cluster *cluster = calloc(1, sizeof *cluster);
    char text[1024];

    applied("disks:\n- path: a.img\n- path: b,readonly\n", cluster, text);
    ck_assert_str_eq(text, "f:6: disks[1].path: has a comma, which parts gemel-vmm's "
                           "options of a disk; write a path without one");
    applied("disks: [{path: '/l/a,b.img', format: qcow2}]\n", cluster, text);
    ck_assert_ptr_nonnull(strstr(text, "disks[0].path: has a comma"));
    free(cluster);
}
END_TEST

static void document(FILE *out, const struct conf_field *fields, const char *prefix)
{
    for (const struct conf_field *f = fields; f->key != NULL; f++) {
        char path[128];

        snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "",
                 f->key);
        fprintf(out, "| `%s` | %s | %s | ", path, conf_type_name(f->type),
                f->required           ? "required"
                : f->fallback != NULL ? f->fallback
                                      : "-");
        if (f->type == CONF_TYPE_ENUM) {
            for (const struct conf_word *w = f->words; w->word != NULL; w++) {
                fprintf(out, "`%s`%s", w->word, w[1].word != NULL ? ", " : ": ");
            }
        }
        fprintf(out, "%s |\n", f->help);
        if (f->fields != NULL) {
            if (f->type == CONF_TYPE_RECORDS) {
                strcat(path, "[]");
            }
            document(out, f->fields, path);
        }
    }
}

/* schema.md holds these tables, row by row. SCHEMA_PRINT=1 prints them, for the editor.
 */
START_TEST(test_documented)
{
    static const struct {
        const char *title;
        const struct conf_field *schema;
    } all[] = {{"node", conf_node_schema},
               {"cluster", conf_cluster_schema},
               {"vm", conf_vm_schema}};
    char *want = NULL, *doc = calloc(1, 65536), *row, *save = NULL;
    size_t want_len, rows = 0;
    FILE *out = open_memstream(&want, &want_len), *file = fopen(SCHEMA_MD, "re");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_gt(fread(doc, 1, 65535, file), 0);
    fclose(file);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        document(out, all[i].schema, "");
    }
    fclose(out);
    if (getenv("SCHEMA_PRINT") != NULL) {
        fputs(want, stderr);
    }
    for (row = strtok_r(want, "\n", &save); row != NULL;
         row = strtok_r(NULL, "\n", &save)) {
        ck_assert_msg(strstr(doc, row) != NULL, "schema.md lacks the row: %s", row);
        rows++;
    }
    ck_assert_uint_gt(rows, 60);
    for (row = strstr(doc, "\n| `"); row != NULL; row = strstr(row + 1, "\n| `")) {
        rows--;
    }
    ck_assert_uint_eq(rows, 0); /* and none of a key that is gone */
    free(want);
    free(doc);
}
END_TEST

static Suite *conf_write_suite(void)
{
    Suite *suite = suite_create("conf_write");
    TCase *tcase = tcase_create("write");

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_round_trip);
    tcase_add_test(tcase, test_write_vm);
    tcase_add_test(tcase, test_diff_vm);
    tcase_add_test(tcase, test_diff_cluster);
    tcase_add_test(tcase, test_against);
    tcase_add_test(tcase, test_cpu_model_is_known);
    tcase_add_test(tcase, test_shared_disk);
    tcase_add_test(tcase, test_applied);
    tcase_add_test(tcase, test_names_of_nodes);
    tcase_add_test(tcase, test_comma);
    tcase_add_test(tcase, test_documented);
    suite_add_tcase(suite, tcase);
    return suite;
}

UNIT_MAIN(conf_write_suite)
