/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster-conf/conf_bind.h"

#include <errno.h>
#include <string.h>

#include "cluster-conf/conf_scalar.h"
#include "cluster-conf/conf_similar.h"

struct binder {
    const struct conf_tree *tree;
    const struct conf_field *schema;
    const char *origin;
    struct conf_error *error;
    struct conf_text
        path; /* of the value being read; lives in error->key only on error */
    char path_buf[sizeof((struct conf_error *)NULL)->key];
};

void conf_error_compose(struct conf_error *error, const char *origin)
{
    struct conf_text text = conf_text_make(error->text, sizeof error->text);

    if (origin != NULL && origin[0] != '\0') {
        conf_text_strs(&text, origin, ":", NULL);
        if (error->line != 0) {
            conf_text_u64(&text, error->line);
            conf_text_str(&text, ":");
        }
        conf_text_str(&text, " ");
    }
    if (error->key[0] != '\0') {
        conf_text_strs(&text, error->key, ": ", NULL);
    }
    conf_text_str(&text, error->what);
}

void conf_error_locate(struct conf_error *error, const struct conf_tree *tree,
                       const char *origin)
{
    error->line = conf_tree_line(tree, error->key);
    conf_error_compose(error, origin);
}

/* Starts the sentence of an error at the current path; refuse_end finishes it. */
static struct conf_text refuse_begin(struct binder *b, unsigned line)
{
    b->error->line = line;
    memcpy(b->error->key, b->path_buf, sizeof b->path_buf);
    return conf_text_make(b->error->what, sizeof b->error->what);
}

static int refuse_end(struct binder *b)
{
    conf_error_compose(b->error, b->origin);
    return -EINVAL;
}

static size_t path_push(struct binder *b, const char *key)
{
    size_t len = b->path.len;

    if (len > 0) {
        conf_text_str(&b->path, ".");
    }
    conf_text_quoted(&b->path, key);
    return len;
}

static size_t path_push_index(struct binder *b, uint64_t index)
{
    size_t len = b->path.len;

    conf_text_str(&b->path, "[");
    conf_text_u64(&b->path, index);
    conf_text_str(&b->path, "]");
    return len;
}

/* "; write for example 512MiB": from the field's range, words, default or example. */
static void remedy(struct conf_text *what, const struct conf_field *field)
{
    conf_text_str(what, "; write ");
    if (field->type == CONF_TYPE_BOOL) {
        conf_text_str(what, "true or false");
    } else if (field->type == CONF_TYPE_ENUM) {
        for (const struct conf_word *word = field->words; word->word != NULL; word++) {
            if (word != field->words) {
                conf_text_str(what, word[1].word == NULL ? " or " : ", ");
            }
            conf_text_str(what, word->word);
        }
    } else {
        conf_text_strs(what, "for example ",
                       field->fallback != NULL  ? field->fallback
                       : field->example != NULL ? field->example
                                                : "a value",
                       NULL);
    }
}

static int refuse_value(struct binder *b, const struct conf_field *field, unsigned line,
                        const char *value, const char *why)
{
    struct conf_text what = refuse_begin(b, line);

    if (value[0] != '\0') {
        conf_text_quoted(&what, value);
        conf_text_str(&what, " ");
    }
    conf_text_str(&what, why);
    remedy(&what, field);
    return refuse_end(b);
}

static void write_number(struct conf_text *text, const struct conf_field *field,
                         uint64_t value)
{
    switch (field->type) {
    case CONF_TYPE_SIZE:
        conf_scalar_size_write(text, value);
        break;
    case CONF_TYPE_DURATION:
        conf_scalar_duration_write(text, (uint32_t)value);
        break;
    default:
        conf_text_u64(text, value);
    }
}

static int refuse_range(struct binder *b, const struct conf_field *field, unsigned line,
                        const char *value)
{
    struct conf_text what = refuse_begin(b, line);

    conf_text_quoted(&what, value);
    conf_text_str(&what, " is out of range; write something from ");
    write_number(&what, field, field->min);
    conf_text_str(&what, " to ");
    write_number(&what, field, field->max);
    return refuse_end(b);
}

/* ---- scalars ---- */

static bool has_dotdot(const char *path)
{
    for (const char *p = path; *p != '\0';) {
        size_t len = strcspn(p, "/");

        if (len == 2 && p[0] == '.' && p[1] == '.') {
            return true;
        }
        p += len;
        p += *p == '/' ? 1 : 0;
    }
    return false;
}

static int bind_string(struct binder *b, const struct conf_field *field, unsigned line,
                       const char *value, char *dst)
{
    size_t len = strlen(value);
    const char *why = NULL;

    if (len == 0 && field->type != CONF_TYPE_TEXT) {
        why = "has no value";
    } else if (len >= field->size) {
        struct conf_text what = refuse_begin(b, line);

        conf_text_quoted(&what, value);
        conf_text_str(&what, " is too long; write at most ");
        conf_text_u64(&what, field->size - 1);
        conf_text_str(&what, " bytes");
        return refuse_end(b);
    } else if (field->type == CONF_TYPE_NAME && !conf_name_ok(value)) {
        why = "is not a name: letters, digits, '.', '_' and '-', beginning with a letter "
              "or digit";
    } else if (field->type == CONF_TYPE_ADDR && conf_addr_kind(value) == CONF_ADDR_BAD) {
        why = "is neither an IP address nor a host name";
    } else if (field->type == CONF_TYPE_PATH && has_dotdot(value)) {
        why = "leaves its directory by \"..\"";
    }
    if (why != NULL) {
        return refuse_value(b, field, line, value, why);
    }
    memcpy(dst, value, len + 1);
    return 0;
}

static int bind_number(struct binder *b, const struct conf_field *field, unsigned line,
                       const char *value, void *dst)
{
    enum conf_scalar_reason reason;
    uint64_t number = 0;
    uint32_t ms;

    if (field->type == CONF_TYPE_SIZE) {
        reason = conf_scalar_size(value, &number);
    } else if (field->type == CONF_TYPE_DURATION) {
        reason = conf_scalar_duration(value, &ms);
        number = reason == CONF_SCALAR_OK ? ms : 0;
    } else {
        reason = conf_scalar_count(value, &number);
    }
    if (reason == CONF_SCALAR_NOT_NUMBER && field->type == CONF_TYPE_SIZE) {
        return refuse_value(b, field, line, value, "is not a size");
    }
    if (reason == CONF_SCALAR_NOT_NUMBER && field->type == CONF_TYPE_DURATION) {
        return refuse_value(b, field, line, value, "is not a duration");
    }
    if (reason != CONF_SCALAR_OK) {
        return refuse_value(b, field, line, value, conf_scalar_why(reason));
    }
    if (number < field->min || number > field->max) {
        return refuse_range(b, field, line, value);
    }
    if (field->size == sizeof(uint16_t)) {
        uint16_t v = (uint16_t)number;

        memcpy(dst, &v, sizeof v);
    } else if (field->size == sizeof(uint32_t)) {
        uint32_t v = (uint32_t)number;

        memcpy(dst, &v, sizeof v);
    } else {
        memcpy(dst, &number, sizeof number);
    }
    return 0;
}

static int bind_word(struct binder *b, const struct conf_field *field, unsigned line,
                     const char *value, void *dst)
{
    for (const struct conf_word *word = field->words; word->word != NULL; word++) {
        if (strcmp(value, word->word) == 0) {
            memcpy(dst, &word->value, sizeof word->value);
            return 0;
        }
    }
    return refuse_value(b, field, line, value,
                        value[0] == '\0' ? "has no value" : "is not known here");
}

static int bind_scalar(struct binder *b, const struct conf_field *field, unsigned line,
                       const char *value, void *dst)
{
    enum conf_scalar_reason reason;

    switch (field->type) {
    case CONF_TYPE_NAME:
    case CONF_TYPE_TEXT:
    case CONF_TYPE_PATH:
    case CONF_TYPE_ADDR:
        return bind_string(b, field, line, value, dst);
    case CONF_TYPE_SIZE:
    case CONF_TYPE_DURATION:
    case CONF_TYPE_COUNT:
        return bind_number(b, field, line, value, dst);
    case CONF_TYPE_ENUM:
        return bind_word(b, field, line, value, dst);
    case CONF_TYPE_BOOL:
        reason = conf_scalar_bool(value, dst);
        return reason == CONF_SCALAR_OK ? 0
                                        : refuse_value(b, field, line, value,
                                                       reason == CONF_SCALAR_EMPTY
                                                           ? "has no value"
                                                           : "is neither true nor false");
    case CONF_TYPE_MAC:
        reason = conf_scalar_mac(value, dst);
        return reason == CONF_SCALAR_OK
                   ? 0
                   : refuse_value(b, field, line, value, "is not a MAC address");
    case CONF_TYPE_UUID:
        reason = conf_scalar_uuid(value, dst);
        return reason == CONF_SCALAR_OK
                   ? 0
                   : refuse_value(b, field, line, value, "is not a UUID");
    default:
        return refuse_value(b, field, line, value, "cannot be read");
    }
}

/* ---- keys ---- */

/* Where in the schema `key` stands; writes the groups that lead to it. Tables are two
 * deep. */
static bool find_elsewhere(const struct conf_field *fields, const char *key,
                           struct conf_text *where)
{
    for (const struct conf_field *f = fields; f->key != NULL; f++) {
        size_t len = where->len;

        if (strcmp(f->key, key) == 0) {
            return true;
        }
        if (f->fields != NULL) {
            conf_text_strs(where, where->len > 0 ? "." : "", f->key, NULL);
            if (find_elsewhere(f->fields, key, where)) {
                return true;
            }
            conf_text_cut(where, len);
        }
    }
    return false;
}

static int refuse_unknown_key(struct binder *b, const struct conf_field *fields,
                              const struct conf_tree_node *node)
{
    const struct conf_field *nearest = NULL;
    size_t nearest_distance = CONF_SIMILAR_MAX;
    char where_buf[64];
    struct conf_text what, where = conf_text_make(where_buf, sizeof where_buf);

    path_push(b, node->key);
    what = refuse_begin(b, node->line);
    conf_text_str(&what, "unknown key; ");
    for (const struct conf_field *f = fields; f->key != NULL; f++) {
        size_t distance = conf_similar_distance(node->key, f->key);

        if (distance < nearest_distance) {
            nearest_distance = distance;
            nearest = f;
        }
    }
    if (nearest != NULL && nearest_distance <= 2 &&
        nearest_distance < strlen(node->key)) {
        conf_text_strs(&what, "did you mean ", nearest->key, "?", NULL);
    } else if (find_elsewhere(b->schema, node->key, &where)) {
        conf_text_strs(&what, "it belongs ",
                       where.len > 0 ? "under " : "at the top level",
                       where.len > 0 ? where.buf : "", NULL);
    } else {
        conf_text_str(&what, "remove it, or write one of: ");
        for (const struct conf_field *f = fields; f->key != NULL; f++) {
            conf_text_strs(&what, f == fields ? "" : ", ", f->key, NULL);
        }
    }
    return refuse_end(b);
}

static int check_keys(struct binder *b, const struct conf_field *fields,
                      const struct conf_tree_node *map)
{
    for (uint32_t i = map->child; i != 0; i = b->tree->node[i].next) {
        const struct conf_tree_node *node = &b->tree->node[i];
        const struct conf_field *f = fields;

        while (f->key != NULL && strcmp(f->key, node->key) != 0) {
            f++;
        }
        if (f->key == NULL) {
            return refuse_unknown_key(b, fields, node);
        }
    }
    return 0;
}

/* ---- structure ---- */

static int bind_map(struct binder *b, const struct conf_field *fields,
                    const struct conf_tree_node *map, char *base);

static int refuse_shape(struct binder *b, const struct conf_field *field,
                        const struct conf_tree_node *node)
{
    static const char *const have[] = {
        [CONF_TREE_SCALAR] = "is a single value",
        [CONF_TREE_MAP] = "is a map",
        [CONF_TREE_LIST] = "is a list",
    };
    struct conf_text what = refuse_begin(b, node->line);

    if (node->type == CONF_TREE_SCALAR && node->value[0] == '\0') {
        conf_text_str(&what, "has no value");
    } else {
        conf_text_strs(&what, have[node->type], " where a ", conf_type_name(field->type),
                       " is expected", NULL);
    }
    remedy(&what, field);
    return refuse_end(b);
}

static int count_children(struct binder *b, const struct conf_field *field,
                          const struct conf_tree_node *node, char *base)
{
    uint64_t count = 0;
    unsigned stored;

    for (uint32_t i = node->child; i != 0; i = b->tree->node[i].next) {
        count++;
    }
    if (count < field->min || count > field->max) {
        struct conf_text what = refuse_begin(b, node->line);

        conf_text_str(&what, "has ");
        conf_text_u64(&what, count);
        conf_text_str(&what, " entries; write from ");
        conf_text_u64(&what, field->min);
        conf_text_str(&what, " to ");
        conf_text_u64(&what, field->max);
        return refuse_end(b);
    }
    stored = (unsigned)count;
    memcpy(base + field->count_offset, &stored, sizeof stored);
    return 0;
}

static int bind_list(struct binder *b, const struct conf_field *field,
                     const struct conf_tree_node *list, char *base)
{
    char *item = base + field->offset;
    uint64_t index = 0;
    int r;

    r = count_children(b, field, list, base);
    if (r < 0) {
        return r;
    }
    for (uint32_t i = list->child; i != 0; i = b->tree->node[i].next) {
        const struct conf_tree_node *node = &b->tree->node[i];
        size_t path_len = path_push_index(b, index++);

        if (field->type == CONF_TYPE_RECORDS) {
            struct conf_field group = *field;

            group.type = CONF_TYPE_GROUP;
            r = node->type == CONF_TREE_MAP ? bind_map(b, field->fields, node, item)
                                            : refuse_shape(b, &group, node);
        } else {
            struct conf_field name = *field;

            name.type = CONF_TYPE_NAME;
            r = node->type == CONF_TREE_SCALAR
                    ? bind_string(b, &name, node->line, node->value, item)
                    : refuse_shape(b, &name, node);
        }
        if (r < 0) {
            return r;
        }
        conf_text_cut(&b->path, path_len);
        item += field->size;
    }
    return 0;
}

static int bind_params(struct binder *b, const struct conf_field *field,
                       const struct conf_tree_node *map, char *base)
{
    static const struct conf_field key_field = {
        .type = CONF_TYPE_NAME,
        .size = sizeof(((struct conf_param *)NULL)->key),
        .example = "ip"};
    static const struct conf_field value_field = {
        .type = CONF_TYPE_TEXT, .size = sizeof(((struct conf_param *)NULL)->value)};
    struct conf_param *param = (struct conf_param *)(void *)(base + field->offset);
    int r;

    r = count_children(b, field, map, base);
    if (r < 0) {
        return r;
    }
    for (uint32_t i = map->child; i != 0; i = b->tree->node[i].next, param++) {
        const struct conf_tree_node *node = &b->tree->node[i];
        size_t path_len = path_push(b, node->key);

        r = node->type != CONF_TREE_SCALAR
                ? refuse_shape(b, &value_field, node)
                : bind_string(b, &key_field, node->line, node->key, param->key);
        if (r == 0) {
            r = bind_string(b, &value_field, node->line, node->value, param->value);
        }
        if (r < 0) {
            return r;
        }
        conf_text_cut(&b->path, path_len);
    }
    return 0;
}

static int bind_present(struct binder *b, const struct conf_field *field,
                        const struct conf_tree_node *node, char *base)
{
    enum conf_tree_type wanted = CONF_TREE_SCALAR;

    if (field->type == CONF_TYPE_GROUP || field->type == CONF_TYPE_PARAMS) {
        wanted = CONF_TREE_MAP;
    } else if (field->type == CONF_TYPE_RECORDS || field->type == CONF_TYPE_NAMES) {
        wanted = CONF_TREE_LIST;
    }
    if (node->type != wanted) {
        return refuse_shape(b, field, node);
    }
    switch (field->type) {
    case CONF_TYPE_GROUP:
        return bind_map(b, field->fields, node, base);
    case CONF_TYPE_PARAMS:
        return bind_params(b, field, node, base);
    case CONF_TYPE_RECORDS:
    case CONF_TYPE_NAMES:
        return bind_list(b, field, node, base);
    default:
        return bind_scalar(b, field, node->line, node->value, base + field->offset);
    }
}

static int bind_absent(struct binder *b, const struct conf_field *field,
                       const struct conf_tree_node *map, char *base)
{
    static const struct conf_tree_node nothing = {.type = CONF_TREE_MAP};

    if (field->required) {
        struct conf_text what = refuse_begin(b, map->line);

        conf_text_strs(&what, "is missing; write for example ", field->key, ": ",
                       field->example != NULL ? field->example : field->fallback, NULL);
        return refuse_end(b);
    }
    if (field->type == CONF_TYPE_GROUP) {
        return bind_map(b, field->fields, &nothing, base);
    }
    if (field->fallback != NULL) {
        return bind_scalar(b, field, map->line, field->fallback, base + field->offset);
    }
    return 0;
}

/* Recursion follows the schema, which is three maps deep, not the document. */
static int bind_map(struct binder *b, const struct conf_field *fields,
                    const struct conf_tree_node *map, char *base)
{
    int r;

    r = check_keys(b, fields, map);
    if (r < 0) {
        return r;
    }
    for (const struct conf_field *f = fields; f->key != NULL; f++) {
        const struct conf_tree_node *node = conf_tree_get(b->tree, map, f->key);
        size_t path_len = path_push(b, f->key);

        r = node != NULL ? bind_present(b, f, node, base) : bind_absent(b, f, map, base);
        if (r < 0) {
            return r;
        }
        conf_text_cut(&b->path, path_len);
    }
    return 0;
}

int conf_bind(const struct conf_tree *tree, const struct conf_field *schema,
              const char *origin, void *base, struct conf_error *ret_error)
{
    struct binder b = {
        .tree = tree, .schema = schema, .origin = origin, .error = ret_error};
    const struct conf_tree_node *root;

    b.path = conf_text_make(b.path_buf, sizeof b.path_buf);
    root = tree->node_count > 0 ? &tree->node[0] : NULL;
    if (root == NULL || root->type != CONF_TREE_MAP) {
        struct conf_text what = refuse_begin(&b, root == NULL ? 1 : root->line);

        conf_text_strs(&what, "the file is not a map of keys; begin with ", schema->key,
                       ":", NULL);
        return refuse_end(&b);
    }
    return bind_map(&b, schema, root, base);
}
