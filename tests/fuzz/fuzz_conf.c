/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a definition: refused with a text, or loaded; what is loaded is written,
 * loads again as the same value, and makes a corosync.conf. CC=clang ./configure
 * --enable-asan --enable-fuzz; seeds: cluster-conf/examples.
 */
#include <string.h>

#include "cluster-conf/conf_corosync.h"
#include "cluster-conf/conf_load.h"
#include "cluster-conf/conf_write.h"
#include "tests/fuzz/fuzz.h"

static char yaml[1 << 20], conf[1 << 16];

static void fuzz_vm(const char *text, size_t len)
{
    static struct conf_vm vm, again;
    struct conf_error error;
    size_t yaml_len;

    if (conf_vm_load(text, len, "f", &vm, &error) < 0) {
        BUG_ON(!(error.text[0] != '\0' && error.what[0] != '\0'));
        return;
    }
    yaml_len = conf_vm_write(&vm, yaml, sizeof yaml);
    BUG_ON(!(yaml_len > 0));
    if (yaml_len <= DEFINITION_MAX) {
        BUG_ON(!(conf_vm_load(yaml, yaml_len, "again", &again, &error) == 0));
        BUG_ON(!(memcmp(&vm, &again, sizeof vm) == 0));
        BUG_ON(!(conf_vm_diff(&vm, &again, conf, sizeof conf) == 0));
    }
}

static void fuzz_cluster(const char *text, size_t len)
{
    static struct conf_cluster cluster, again;
    struct conf_corosync_paths paths = {0};
    struct conf_error error;
    size_t yaml_len;

    if (conf_cluster_load(text, len, "f", &cluster, &error) < 0) {
        BUG_ON(!(error.text[0] != '\0' && error.what[0] != '\0'));
        return;
    }
    yaml_len = conf_cluster_write(&cluster, yaml, sizeof yaml);
    BUG_ON(!(yaml_len > 0));
    if (yaml_len <= DEFINITION_MAX) {
        BUG_ON(!(conf_cluster_load(yaml, yaml_len, "again", &again, &error) == 0));
        BUG_ON(!(memcmp(&cluster, &again, sizeof cluster) == 0));
    }
    BUG_ON(!(conf_corosync_write(&cluster, cluster.node[0].name, &paths, conf,
                                 sizeof conf) > 0));
}

FUZZ_ONE(data, len)
{
    static struct conf_node node;
    struct conf_error error;
    enum conf_kind kind;

    fuzz_vm((const char *)data, len);
    fuzz_cluster((const char *)data, len);
    if (conf_node_load((const char *)data, len, NULL, &node, &error) < 0) {
        BUG_ON(!(error.text[0] != '\0'));
    }
    (void)conf_kind_of((const char *)data, len, "f", &kind, &error);
    return 0;
}
