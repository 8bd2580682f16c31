/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster-conf/conf_tree.h"

#include <string.h>

const struct conf_tree_node *conf_tree_get(const struct conf_tree *tree,
                                           const struct conf_tree_node *map,
                                           const char *key)
{
    for (uint32_t i = map->child; i != 0; i = tree->node[i].next) {
        if (tree->node[i].key != NULL && strcmp(tree->node[i].key, key) == 0) {
            return &tree->node[i];
        }
    }
    return NULL;
}

static const struct conf_tree_node *child_by_key(const struct conf_tree *tree,
                                                 const struct conf_tree_node *map,
                                                 const char *key, size_t key_len)
{
    for (uint32_t i = map->child; i != 0; i = tree->node[i].next) {
        const char *have = tree->node[i].key;

        if (have != NULL && strlen(have) == key_len && memcmp(have, key, key_len) == 0) {
            return &tree->node[i];
        }
    }
    return NULL;
}

static const struct conf_tree_node *child_by_index(const struct conf_tree *tree,
                                                   const struct conf_tree_node *list,
                                                   size_t index)
{
    uint32_t i = list->child;

    while (i != 0 && index > 0) {
        i = tree->node[i].next;
        index--;
    }
    return i == 0 ? NULL : &tree->node[i];
}

unsigned conf_tree_line(const struct conf_tree *tree, const char *path)
{
    const struct conf_tree_node *at, *next;

    if (tree->node_count == 0) {
        return 0;
    }
    at = &tree->node[0];
    while (*path != '\0') {
        if (*path == '[') {
            size_t index = 0;

            for (path++; *path >= '0' && *path <= '9' && index < CONF_TREE_NODES_MAX;
                 path++) {
                index = index * 10 + (size_t)(*path - '0');
            }
            path += *path == ']' ? 1 : 0;
            next = child_by_index(tree, at, index);
        } else {
            size_t len;

            path += *path == '.' ? 1 : 0;
            len = strcspn(path, ".[");
            next = child_by_key(tree, at, path, len);
            path += len;
        }
        if (next == NULL) {
            break;
        }
        at = next;
    }
    return at->line;
}
