/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A YAML document as a flat array of nodes with line numbers: what the parser (io) hands
 * to the pure schema code. No aliases, no tags, one document, bounded depth and size.
 * Node 0 is the root.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONF_TREE_NODES_MAX 16384
#define CONF_TREE_DEPTH_MAX 8

enum conf_tree_type { CONF_TREE_SCALAR = 1, CONF_TREE_MAP, CONF_TREE_LIST };

struct conf_tree_node {
    enum conf_tree_type type;
    bool plain;           /* scalar: not quoted */
    unsigned line;        /* of the key where there is one, else of the value; from 1 */
    const char *key;      /* in a map; NULL elsewhere */
    const char *value;    /* scalar */
    uint32_t child, next; /* index of the first child and of the next sibling; 0: none */
};

struct conf_tree {
    struct conf_tree_node *node;
    size_t node_count;
};

/* The child with this key, or NULL. */
const struct conf_tree_node *conf_tree_get(const struct conf_tree *tree,
                                           const struct conf_tree_node *map,
                                           const char *key);
/*
 * The line of a path such as "nics[1].mac"; of its nearest parent that is there. 0 with
 * an empty tree.
 */
unsigned conf_tree_line(const struct conf_tree *tree, const char *path);
