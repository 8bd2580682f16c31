/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table per kind of definition. Loading, defaults, writing, differences and the
 * documentation (schema.md is checked against it) all come from these tables. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum conf_type {
    CONF_TYPE_NAME = 1, /* safe as a file name; char[] */
    CONF_TYPE_TEXT,     /* printable, one line; char[] */
    CONF_TYPE_PATH,     /* printable, no ".." component; char[] */
    CONF_TYPE_ADDR,     /* host name or IP address; char[] */
    CONF_TYPE_SIZE,     /* uint64_t bytes */
    CONF_TYPE_DURATION, /* uint32_t ms */
    CONF_TYPE_COUNT,    /* uint16_t, uint32_t or uint64_t by `size` */
    CONF_TYPE_BOOL,
    CONF_TYPE_ENUM, /* int by `words` */
    CONF_TYPE_MAC,
    CONF_TYPE_UUID,
    CONF_TYPE_GROUP,   /* a map whose fields lie in the same struct */
    CONF_TYPE_RECORDS, /* a list of maps: an array of structs of `size` bytes */
    CONF_TYPE_NAMES,   /* a list of names: an array of char[size] */
    CONF_TYPE_PARAMS,  /* a map with any keys: an array of struct conf_param */
};

struct conf_word {
    const char *word;
    int value;
};

struct conf_field {
    const char *key;
    enum conf_type type;
    bool required;
    size_t offset;        /* of the value, or of the first array item */
    size_t size;          /* of the value, or of one array item */
    size_t count_offset;  /* arrays: of their `unsigned` count */
    uint64_t min, max;    /* SIZE, DURATION, COUNT; arrays: of the count */
    const char *fallback; /* as one would write it; NULL: zero, which means "not set" */
    const char *example;  /* for remedies, where there is no fallback */
    const struct conf_word *words;   /* ENUM; ends with a NULL word */
    const struct conf_field *fields; /* GROUP, RECORDS; ends with a NULL key */
    const char *help;                /* one line, for schema.md */
};

extern const struct conf_field conf_node_schema[];    /* of struct conf_node */
extern const struct conf_field conf_cluster_schema[]; /* of struct conf_cluster */
extern const struct conf_field conf_vm_schema[];      /* of struct conf_vm */

const char *conf_type_name(enum conf_type type);
