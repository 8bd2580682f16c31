/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster-conf/conf_load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cluster-conf/conf_bind.h"
#include "cluster-conf/conf_check.h"
#include "cluster-conf/conf_parse.h"
#include "cluster-conf/conf_schema.h"

typedef int (*check_fn)(const void *value, struct conf_error *ret_error);

static int node_check(const void *value, struct conf_error *ret_error)
{
    return conf_node_check(value, ret_error);
}

static int cluster_check(const void *value, struct conf_error *ret_error)
{
    return conf_cluster_check(value, ret_error);
}

static int vm_check(const void *value, struct conf_error *ret_error)
{
    return conf_vm_check(value, ret_error);
}

static int load(const char *yaml, size_t len, const char *origin,
                const struct conf_field *schema, check_fn check, void *ret_value,
                size_t value_size, struct conf_error *ret_error)
{
    struct conf_tree tree = {0};
    void *value = NULL;
    int r;

    *ret_error = (struct conf_error){0};
    r = conf_parse(yaml, len, origin, &tree, ret_error);
    if (r < 0) {
        goto out;
    }
    value = calloc(1, value_size);
    if (value == NULL) {
        memcpy(ret_error->what, "out of memory", sizeof "out of memory");
        conf_error_compose(ret_error, origin);
        r = -ENOMEM;
        goto out;
    }
    r = conf_bind(&tree, schema, origin, value, ret_error);
    if (r < 0) {
        goto out;
    }
    r = check(value, ret_error);
    if (r < 0) {
        conf_error_locate(ret_error, &tree, origin);
        goto out;
    }
    memcpy(ret_value, value, value_size);
out:
    free(value);
    conf_tree_free(&tree);
    return r;
}

int conf_node_load(const char *yaml, size_t len, const char *origin,
                   struct conf_node *ret_node, struct conf_error *ret_error)
{
    return load(yaml, len, origin, conf_node_schema, node_check, ret_node,
                sizeof *ret_node, ret_error);
}

int conf_cluster_load(const char *yaml, size_t len, const char *origin,
                      struct conf_cluster *ret_cluster, struct conf_error *ret_error)
{
    return load(yaml, len, origin, conf_cluster_schema, cluster_check, ret_cluster,
                sizeof *ret_cluster, ret_error);
}

int conf_vm_load(const char *yaml, size_t len, const char *origin, struct conf_vm *ret_vm,
                 struct conf_error *ret_error)
{
    return load(yaml, len, origin, conf_vm_schema, vm_check, ret_vm, sizeof *ret_vm,
                ret_error);
}

int conf_kind_of(const char *yaml, size_t len, const char *origin,
                 enum conf_kind *ret_kind, struct conf_error *ret_error)
{
    static const struct {
        const char *key;
        enum conf_kind kind;
    } keys[] = {
        {"node", CONF_KIND_NODE}, {"cluster", CONF_KIND_CLUSTER}, {"name", CONF_KIND_VM}};
    struct conf_tree tree = {0};
    enum conf_kind kind = CONF_KIND_UNKNOWN;
    int r;

    *ret_error = (struct conf_error){0};
    r = conf_parse(yaml, len, origin, &tree, ret_error);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < ARRAY_SIZE(keys) && kind == CONF_KIND_UNKNOWN; i++) {
        if (tree.node[0].type == CONF_TREE_MAP &&
            conf_tree_get(&tree, &tree.node[0], keys[i].key) != NULL) {
            kind = keys[i].kind;
        }
    }
    *ret_kind = kind;
    conf_tree_free(&tree);
    return 0;
}

void conf_error_locate_in(struct conf_error *error, const char *yaml, size_t len,
                          const char *origin)
{
    struct conf_tree tree = {0};
    struct conf_error ignored;

    if (conf_parse(yaml, len, origin, &tree, &ignored) == 0) {
        conf_error_locate(error, &tree, origin);
    } else {
        conf_error_compose(error, origin);
    }
    conf_tree_free(&tree);
}
