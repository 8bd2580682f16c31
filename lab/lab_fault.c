/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/lab_fault.h"

#include <string.h>

static const char *const link_names[] = {
    [LAB_LINK_UP] = "up",
    [LAB_LINK_DOWN] = "down",
    [LAB_LINK_ONEWAY_IN] = "oneway-in",
    [LAB_LINK_ONEWAY_OUT] = "oneway-out",
};

const char *lab_fault_reason_str(enum lab_fault_reason reason)
{
    static const char *const text[] = {
        [LAB_FAULT_OK] = "ok",
        [LAB_FAULT_NO_GROUPS] =
            "a partition has two groups or more, for example: n1 / n2,n3",
        [LAB_FAULT_EMPTY_GROUP] = "a group without a node; write for example: n1 / n2,n3",
        [LAB_FAULT_UNKNOWN_NODE] = "no such node in this lab",
        [LAB_FAULT_TWICE] = "a node stands in two groups",
        [LAB_FAULT_UNKNOWN_LINK] = "not one of: up, down, oneway-in, oneway-out",
    };
    return (size_t)reason < sizeof text / sizeof text[0] ? text[reason] : "unknown";
}

int lab_fault_node(unsigned node_count, const char *name, size_t len)
{
    if (len != 2 || name[0] != 'n' || name[1] < '1' || name[1] > '9') {
        return -1;
    }
    unsigned i = (unsigned)(name[1] - '1');
    return i < node_count ? (int)i : -1;
}

static bool is_separator(char c)
{
    return c == ',' || c == ' ' || c == '\t';
}

enum lab_fault_reason lab_fault_groups(const char *text, unsigned node_count,
                                       unsigned group[static LAB_NODES_MAX])
{
    unsigned found[LAB_NODES_MAX] = {0}, current = 1, members = 0;

    for (const char *p = text;;) {
        while (is_separator(*p)) {
            p++;
        }
        if (*p == '/' || *p == '\0') {
            if (members == 0) {
                return current == 1 && *p == '\0' ? LAB_FAULT_NO_GROUPS
                                                  : LAB_FAULT_EMPTY_GROUP;
            }
            if (*p == '\0') {
                break;
            }
            current++;
            members = 0;
            p++;
            continue;
        }
        size_t len = strcspn(p, ", \t/");
        int i = lab_fault_node(node_count, p, len);
        if (i < 0) {
            return LAB_FAULT_UNKNOWN_NODE;
        }
        if (found[i] != 0) {
            return LAB_FAULT_TWICE;
        }
        found[i] = current;
        members++;
        p += len;
    }
    if (current < 2) {
        return LAB_FAULT_NO_GROUPS;
    }
    memcpy(group, found, sizeof found);
    return LAB_FAULT_OK;
}

void lab_fault_cut_groups(bool cut[static LAB_NODES_MAX][LAB_NODES_MAX],
                          const unsigned group[static LAB_NODES_MAX])
{
    for (unsigned from = 0; from < LAB_NODES_MAX; from++) {
        for (unsigned to = 0; to < LAB_NODES_MAX; to++) {
            if (group[from] != 0 && group[to] != 0 && group[from] != group[to]) {
                cut[from][to] = true;
            }
        }
    }
}

enum lab_fault_reason lab_fault_link(const char *text, enum lab_link *ret_link)
{
    for (unsigned i = 0; i < sizeof link_names / sizeof link_names[0]; i++) {
        if (strcmp(text, link_names[i]) == 0) {
            *ret_link = (enum lab_link)i;
            return LAB_FAULT_OK;
        }
    }
    if (strcmp(text, "oneway") == 0) {
        *ret_link = LAB_LINK_ONEWAY_IN;
        return LAB_FAULT_OK;
    }
    return LAB_FAULT_UNKNOWN_LINK;
}

const char *lab_link_str(enum lab_link link)
{
    return (size_t)link < sizeof link_names / sizeof link_names[0] ? link_names[link]
                                                                   : "?";
}

void lab_fault_heal(struct lab_fault *fault)
{
    memset(fault->link, 0, sizeof fault->link);
    memset(fault->cut, 0, sizeof fault->cut);
    memset(fault->vm_cut, 0, sizeof fault->vm_cut);
    memset(fault->bmc_cut, 0, sizeof fault->bmc_cut);
    memset(fault->storage_cut, 0, sizeof fault->storage_cut);
}
