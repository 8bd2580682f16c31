/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/cpu_model.h"
#include "cluster-conf/conf_field.h"
#include "cluster-conf/conf_write.h"

#define SCALAR_MAX CPU_MODEL_TEXT_MAX /* the longest is a CPU model */

/* Words that some YAML readers take for something else than text. */
static bool is_reserved(const char *s)
{
    static const char *const words[] = {"true", "false", "null", "yes", "no",
                                        "on",   "off",   "y",    "n"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        const char *a = s, *b = words[i];

        while (*a != '\0' && (*a | 0x20) == *b) {
            a++;
            b++;
        }
        if (*a == '\0' && *b == '\0') {
            return true;
        }
    }
    return false;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_plain(const char *s)
{
    if ((!is_letter(s[0]) && s[0] != '/') || is_reserved(s)) {
        return false;
    }
    for (const char *p = s; *p != '\0'; p++) {
        if (!is_letter(*p) && !(*p >= '0' && *p <= '9') && strchr("_./-", *p) == NULL) {
            return false;
        }
    }
    return true;
}

static void write_string(struct conf_text *text, const char *s)
{
    if (is_plain(s)) {
        conf_text_str(text, s);
        return;
    }
    conf_text_str(text, "\"");
    for (const char *p = s; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\') {
            conf_text_str(text, "\\");
        }
        conf_text_bytes(text, p, 1);
    }
    conf_text_str(text, "\"");
}

static void write_scalar(struct conf_text *text, const struct conf_field *field,
                         const char *base)
{
    char value_buf[SCALAR_MAX];
    struct conf_text value = conf_text_make(value_buf, sizeof value_buf);

    switch (field->type) {
    case CONF_TYPE_NAME:
    case CONF_TYPE_TEXT:
    case CONF_TYPE_PATH:
    case CONF_TYPE_ADDR:
    case CONF_TYPE_MAC: /* 10:20:30:... would be a number to base 60 elsewhere */
        conf_field_format(&value, field, base);
        write_string(text, value_buf);
        break;
    default:
        conf_field_format(text, field, base);
    }
}

static void indent(struct conf_text *text, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++) {
        conf_text_str(text, "  ");
    }
}

static void write_params(struct conf_text *text, const struct conf_field *field,
                         const char *base, unsigned depth)
{
    const struct conf_param *param = (const void *)conf_field_item(field, base, 0);

    for (unsigned i = 0; i < conf_field_count(field, base); i++) {
        indent(text, depth);
        write_string(text, param[i].key);
        conf_text_str(text, ": ");
        write_string(text, param[i].value);
        conf_text_str(text, "\n");
    }
}

static void write_names(struct conf_text *text, const struct conf_field *field,
                        const char *base)
{
    conf_text_str(text, "[");
    for (unsigned i = 0; i < conf_field_count(field, base); i++) {
        conf_text_str(text, i > 0 ? ", " : "");
        write_string(text, conf_field_item(field, base, i));
    }
    conf_text_str(text, "]");
}

static void write_map(struct conf_text *text, const struct conf_field *fields,
                      const char *base, unsigned depth, bool in_list);

static void write_field(struct conf_text *text, const struct conf_field *field,
                        const char *base, unsigned depth)
{
    conf_text_strs(text, field->key, ":", NULL);
    switch (field->type) {
    case CONF_TYPE_GROUP:
        conf_text_str(text, "\n");
        write_map(text, field->fields, base, depth + 1, false);
        break;
    case CONF_TYPE_RECORDS:
        conf_text_str(text, "\n");
        for (unsigned i = 0; i < conf_field_count(field, base); i++) {
            indent(text, depth + 1);
            conf_text_str(text, "- ");
            write_map(text, field->fields, conf_field_item(field, base, i), depth + 2,
                      true);
        }
        break;
    case CONF_TYPE_PARAMS:
        conf_text_str(text, "\n");
        write_params(text, field, base, depth + 1);
        break;
    case CONF_TYPE_NAMES:
        conf_text_str(text, " ");
        write_names(text, field, base);
        conf_text_str(text, "\n");
        break;
    default:
        conf_text_str(text, " ");
        write_scalar(text, field, base);
        conf_text_str(text, "\n");
    }
}

/* in_list: the cursor stands behind "- " already. */
static void write_map(struct conf_text *text, const struct conf_field *fields,
                      const char *base, unsigned depth, bool in_list)
{
    bool first = true;

    for (const struct conf_field *f = fields; f->key != NULL; f++) {
        if (conf_field_is_set(f, base)) {
            if (!first || !in_list) {
                indent(text, depth);
            }
            write_field(text, f, base, depth);
            first = false;
        }
    }
}

size_t conf_yaml_write(const struct conf_field *schema, const void *base, char *buf,
                       size_t cap)
{
    struct conf_text text = conf_text_make(buf, cap);

    write_map(&text, schema, base, 0, false);
    return text.truncated ? 0 : text.len;
}

size_t conf_node_write(const struct conf_node *node, char *buf, size_t cap)
{
    return conf_yaml_write(conf_node_schema, node, buf, cap);
}

size_t conf_cluster_write(const struct conf_cluster *cluster, char *buf, size_t cap)
{
    return conf_yaml_write(conf_cluster_schema, cluster, buf, cap);
}

size_t conf_vm_write(const struct conf_vm *vm, char *buf, size_t cap)
{
    return conf_yaml_write(conf_vm_schema, vm, buf, cap);
}
