/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why libyaml and not libcyaml: fence parameters are a map with free keys, which libcyaml
 * cannot load; it keeps no positions, so that checks after loading could not name a line;
 * and it hides from the caller whether a scalar was quoted. The event parser gives all
 * three (doc/decisions.md).
 */
#include "cluster-conf/conf_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/limits.h"
#include "cluster-conf/conf_bind.h"
#include "cluster-conf/conf_text.h"

struct level {
    uint32_t node; /* the map or list being filled */
    uint32_t last; /* its last child; 0: none yet */
    char *key;     /* map: read, its value not yet */
    unsigned key_line;
};

struct parse {
    struct conf_tree tree;
    size_t node_cap;
    struct level level[CONF_TREE_DEPTH_MAX];
    size_t depth;
    bool ended; /* the document */
    const char *origin;
    struct conf_error *error;
};

static int refuse(struct parse *p, unsigned line, const char *key, const char *what,
                  const char *detail)
{
    struct conf_text text = conf_text_make(p->error->key, sizeof p->error->key);

    conf_text_quoted(&text, key);
    text = conf_text_make(p->error->what, sizeof p->error->what);
    conf_text_strs(&text, what, detail, NULL);
    p->error->line = line;
    conf_error_compose(p->error, p->origin);
    return -EINVAL;
}

static int out_of_memory(struct parse *p)
{
    refuse(p, 0, "", "out of memory", "");
    return -ENOMEM;
}

static int node_new(struct parse *p, uint32_t *ret_index)
{
    if (p->tree.node_count == p->node_cap) {
        size_t cap = p->node_cap == 0 ? 64 : p->node_cap * 2;
        struct conf_tree_node *grown;

        if (cap > CONF_TREE_NODES_MAX) {
            return refuse(p, 0, "", "the file has too many values; is it a definition?",
                          "");
        }
        grown = reallocarray(p->tree.node, cap, sizeof *grown);
        if (grown == NULL) {
            return out_of_memory(p);
        }
        p->tree.node = grown;
        p->node_cap = cap;
    }
    *ret_index = (uint32_t)p->tree.node_count;
    p->tree.node[p->tree.node_count++] = (struct conf_tree_node){0};
    return 0;
}

/* Hangs a new node below the open map or list; takes the pending key. */
static int node_add(struct parse *p, enum conf_tree_type type, unsigned line,
                    uint32_t *ret_index)
{
    struct level *level = p->depth > 0 ? &p->level[p->depth - 1] : NULL;
    struct conf_tree_node *node;
    uint32_t index = 0;
    int r;

    r = node_new(p, &index);
    if (r < 0) {
        return r;
    }
    node = &p->tree.node[index];
    node->type = type;
    node->line = line;
    if (level != NULL) {
        if (level->key != NULL) {
            node->line = level->key_line;
            node->key = level->key;
            level->key = NULL;
        }
        if (level->last == 0) {
            p->tree.node[level->node].child = index;
        } else {
            p->tree.node[level->last].next = index;
        }
        level->last = index;
    }
    *ret_index = index;
    return 0;
}

/*
 * Bytes that cannot be written back on one line: ASCII and C1 controls, the two Unicode
 * line separators, the byte order mark and U+FFFE/U+FFFF. libyaml lets escapes produce
 * them, but does not read them raw.
 */
static bool is_control(const unsigned char *s, size_t left)
{
    if (s[0] < 0x20 || s[0] == 0x7f) {
        return true;
    }
    if (left >= 2 && s[0] == 0xc2 && s[1] < 0xa0) {
        return true;
    }
    if (left < 3) {
        return false;
    }
    return (s[0] == 0xe2 && s[1] == 0x80 && (s[2] == 0xa8 || s[2] == 0xa9)) ||
           (s[0] == 0xef && s[1] == 0xbb && s[2] == 0xbf) ||
           (s[0] == 0xef && s[1] == 0xbf && (s[2] == 0xbe || s[2] == 0xbf));
}

/* A copy of a scalar that other syntaxes can hold. */
static int scalar_dup(struct parse *p, const yaml_event_t *event, unsigned line,
                      char **ret_text)
{
    const unsigned char *value = event->data.scalar.value;
    size_t len = event->data.scalar.length;
    char *text;

    for (size_t i = 0; i < len; i++) {
        if (is_control(value + i, len - i)) {
            return refuse(
                p, line, "",
                "a line break or control character in a value; write it on one line", "");
        }
    }
    text = malloc(len + 1);
    if (text == NULL) {
        return out_of_memory(p);
    }
    memcpy(text, value, len);
    text[len] = '\0';
    *ret_text = text;
    return 0;
}

static bool is_null(const yaml_event_t *event)
{
    const char *value = (const char *)event->data.scalar.value;

    return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (strcmp(value, "~") == 0 || strcmp(value, "null") == 0 ||
            strcmp(value, "Null") == 0 || strcmp(value, "NULL") == 0);
}

static int on_key(struct parse *p, struct level *level, char *key, unsigned line)
{
    for (uint32_t i = p->tree.node[level->node].child; i != 0; i = p->tree.node[i].next) {
        if (strcmp(p->tree.node[i].key, key) == 0) {
            char line_buf[16];
            struct conf_text first = conf_text_make(line_buf, sizeof line_buf);

            conf_text_u64(&first, p->tree.node[i].line);
            refuse(p, line, key,
                   "is written twice; remove one of them; the first is in line ",
                   line_buf);
            free(key);
            return -EINVAL;
        }
    }
    level->key = key;
    level->key_line = line;
    return 0;
}

static int on_scalar(struct parse *p, const yaml_event_t *event, unsigned line)
{
    struct level *level = p->depth > 0 ? &p->level[p->depth - 1] : NULL;
    char *text = NULL;
    uint32_t index = 0;
    int r;

    if (event->data.scalar.tag != NULL) {
        return refuse(p, line, "", "tags are not known here; remove ",
                      (const char *)event->data.scalar.tag);
    }
    r = scalar_dup(p, event, line, &text);
    if (r < 0) {
        return r;
    }
    if (level != NULL && p->tree.node[level->node].type == CONF_TREE_MAP &&
        level->key == NULL) {
        return on_key(p, level, text, line);
    }
    if (is_null(event)) {
        text[0] = '\0';
    }
    r = node_add(p, CONF_TREE_SCALAR, line, &index);
    if (r < 0) {
        free(text);
        return r;
    }
    p->tree.node[index].value = text;
    p->tree.node[index].plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return 0;
}

static int on_open(struct parse *p, enum conf_tree_type type, const yaml_char_t *tag,
                   unsigned line)
{
    struct level *level = p->depth > 0 ? &p->level[p->depth - 1] : NULL;
    uint32_t index = 0;
    int r;

    if (tag != NULL) {
        return refuse(p, line, "", "tags are not known here; remove ", (const char *)tag);
    }
    if (p->depth == CONF_TREE_DEPTH_MAX) {
        return refuse(p, line, "", "nested too deeply; no definition needs this", "");
    }
    if (level != NULL && p->tree.node[level->node].type == CONF_TREE_MAP &&
        level->key == NULL) {
        return refuse(p, line, "", "a map or list cannot be a key; write a word", "");
    }
    r = node_add(p, type, line, &index);
    if (r < 0) {
        return r;
    }
    p->level[p->depth++] = (struct level){.node = index};
    return 0;
}

static int on_event(struct parse *p, const yaml_event_t *event)
{
    unsigned line = (unsigned)event->start_mark.line + 1;

    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        return p->ended ? refuse(p, line, "",
                                 "a second document; write one definition per file", "")
                        : 0;
    case YAML_DOCUMENT_END_EVENT:
        p->ended = true;
        return 0;
    case YAML_SCALAR_EVENT:
        return on_scalar(p, event, line);
    case YAML_MAPPING_START_EVENT:
        return on_open(p, CONF_TREE_MAP, event->data.mapping_start.tag, line);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(p, CONF_TREE_LIST, event->data.sequence_start.tag, line);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        p->depth--;
        return 0;
    case YAML_ALIAS_EVENT:
        return refuse(p, line, "", "aliases are not known here; write the value again",
                      "");
    default:
        return 0;
    }
}

static int refuse_syntax(struct parse *p, const yaml_parser_t *parser)
{
    /* Reader errors (encoding) come without a mark; scanner and parser errors have one.
     */
    unsigned line =
        parser->error == YAML_READER_ERROR ? 0 : (unsigned)parser->problem_mark.line + 1;
    char detail_buf[160];
    struct conf_text detail = conf_text_make(detail_buf, sizeof detail_buf);

    if (parser->error == YAML_MEMORY_ERROR) {
        return out_of_memory(p);
    }
    conf_text_strs(
        &detail, parser->problem != NULL ? parser->problem : "malformed",
        "; check the indentation (spaces, no tabs) and quote special characters", NULL);
    return refuse(p, line, "", "not YAML: ", detail_buf);
}

static int parse_events(struct parse *p, yaml_parser_t *parser)
{
    for (;;) {
        yaml_event_t event;
        bool end;
        int r;

        if (!yaml_parser_parse(parser, &event)) {
            return refuse_syntax(p, parser);
        }
        end = event.type == YAML_STREAM_END_EVENT;
        r = on_event(p, &event);
        yaml_event_delete(&event);
        if (r < 0 || end) {
            return r;
        }
    }
}

void conf_tree_free(struct conf_tree *tree)
{
    for (size_t i = 0; i < tree->node_count; i++) {
        free((char *)(uintptr_t)tree->node[i].key);
        free((char *)(uintptr_t)tree->node[i].value);
    }
    free(tree->node);
    *tree = (struct conf_tree){0};
}

int conf_parse(const char *yaml, size_t len, const char *origin,
               struct conf_tree *ret_tree, struct conf_error *ret_error)
{
    struct parse p = {.origin = origin, .error = ret_error};
    yaml_parser_t parser;
    int r;

    if (len > DEFINITION_MAX) {
        return refuse(&p, 0, "", "the file is larger than 48 KiB; is it a definition?",
                      "");
    }
    if (!yaml_parser_initialize(&parser)) {
        return out_of_memory(&p);
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)yaml, len);
    r = parse_events(&p, &parser);
    yaml_parser_delete(&parser);
    for (size_t i = 0; i < p.depth; i++) {
        free(p.level[i].key);
    }
    if (r == 0 && p.tree.node_count == 0) {
        r = refuse(&p, 1, "",
                   "the file is empty; begin with one of cluster-conf/examples", "");
    }
    if (r < 0) {
        conf_tree_free(&p.tree);
        return r;
    }
    *ret_tree = p.tree;
    return 0;
}
