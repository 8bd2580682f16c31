/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cluster-conf/conf_field.h"
#include "cluster-conf/conf_write.h"

#define PATH_MAX_LEN                                                                     \
    (PATH_LEN_MAX + 128) /* a disk's path is part of the path of its fields */

struct differ {
    struct conf_text out, path;
    unsigned changes;
    char path_buf[PATH_MAX_LEN];
};

static void write_names(struct conf_text *text, const struct conf_field *field,
                        const char *base)
{
    conf_text_str(text, "[");
    for (unsigned i = 0; i < conf_field_count(field, base); i++) {
        conf_text_strs(text, i > 0 ? ", " : "", conf_field_item(field, base, i), NULL);
    }
    conf_text_str(text, "]");
}

static void write_value(struct conf_text *text, const struct conf_field *field,
                        const char *base)
{
    if (!conf_field_is_set(field, base)) {
        conf_text_str(text, "not set");
    } else if (field->type == CONF_TYPE_NAMES) {
        write_names(text, field, base);
    } else {
        conf_field_format(text, field, base);
    }
}

static void say(struct differ *d, const char *what)
{
    conf_text_strs(&d->out, d->path_buf, ": ", what, "\n", NULL);
    d->changes++;
}

static size_t push(struct differ *d, const char *open, const char *what,
                   const char *close)
{
    size_t len = d->path.len;

    conf_text_strs(&d->path, len > 0 ? open : "", what, close, NULL);
    return len;
}

static void diff_scalar(struct differ *d, const struct conf_field *field, const char *a,
                        const char *b)
{
    char a_buf[1100], b_buf[1100];
    struct conf_text a_text = conf_text_make(a_buf, sizeof a_buf);
    struct conf_text b_text = conf_text_make(b_buf, sizeof b_buf);

    write_value(&a_text, field, a);
    write_value(&b_text, field, b);
    if (strcmp(a_buf, b_buf) != 0) {
        conf_text_strs(&d->out, d->path_buf, ": ", a_buf, " -> ", b_buf, "\n", NULL);
        d->changes++;
    }
}

static const char *param_get(const struct conf_field *field, const char *base,
                             const char *key)
{
    const struct conf_param *param = (const void *)conf_field_item(field, base, 0);

    for (unsigned i = 0; i < conf_field_count(field, base); i++) {
        if (strcmp(param[i].key, key) == 0) {
            return param[i].value;
        }
    }
    return NULL;
}

static void diff_params(struct differ *d, const struct conf_field *field, const char *a,
                        const char *b)
{
    const struct conf_param *pa = (const void *)conf_field_item(field, a, 0);
    const struct conf_param *pb = (const void *)conf_field_item(field, b, 0);

    for (unsigned i = 0; i < conf_field_count(field, a); i++) {
        const char *now = param_get(field, b, pa[i].key);
        size_t len = push(d, ".", pa[i].key, "");

        if (now == NULL || strcmp(now, pa[i].value) != 0) {
            conf_text_strs(&d->out, d->path_buf, ": ", pa[i].value, " -> ",
                           now != NULL ? now : "not set", "\n", NULL);
            d->changes++;
        }
        conf_text_cut(&d->path, len);
    }
    for (unsigned i = 0; i < conf_field_count(field, b); i++) {
        if (param_get(field, a, pb[i].key) == NULL) {
            size_t len = push(d, ".", pb[i].key, "");

            conf_text_strs(&d->out, d->path_buf, ": not set -> ", pb[i].value, "\n",
                           NULL);
            d->changes++;
            conf_text_cut(&d->path, len);
        }
    }
}

/* Index in the list of `base` of the item whose first field reads like that of `item`;
 * the count if there is none. */
static unsigned find_item(const struct conf_field *field, const char *base,
                          const char *item)
{
    unsigned i, count = conf_field_count(field, base);

    for (i = 0; i < count; i++) {
        const char *other = conf_field_item(field, base, i);

        if (memcmp(other + field->fields[0].offset, item + field->fields[0].offset,
                   field->fields[0].size) == 0) {
            break;
        }
    }
    return i;
}

static void diff_map(struct differ *d, const struct conf_field *fields, const char *a,
                     const char *b);

static void diff_records(struct differ *d, const struct conf_field *field, const char *a,
                         const char *b)
{
    unsigned a_count = conf_field_count(field, a), b_count = conf_field_count(field, b);
    unsigned last = 0;
    bool moved = false;

    if (a_count == b_count &&
        memcmp(conf_field_item(field, a, 0), conf_field_item(field, b, 0),
               a_count * field->size) == 0) {
        return;
    }
    for (unsigned i = 0; i < a_count + b_count; i++) {
        bool old = i < a_count;
        const char *item =
            old ? conf_field_item(field, a, i) : conf_field_item(field, b, i - a_count);
        unsigned at = find_item(field, old ? b : a, item);
        char id_buf[PATH_LEN_MAX];
        struct conf_text id = conf_text_make(id_buf, sizeof id_buf);
        size_t len;

        conf_field_format(&id, &field->fields[0], item);
        len = push(d, "[", id_buf, "]");
        if (old && at == b_count) {
            say(d, "removed");
        } else if (!old && at == a_count) {
            say(d, "added");
        } else if (old) {
            moved = moved || at < last;
            last = at;
            diff_map(d, field->fields, item, conf_field_item(field, b, at));
        }
        conf_text_cut(&d->path, len);
    }
    if (moved) {
        say(d, "order changed");
    }
}

static void diff_map(struct differ *d, const struct conf_field *fields, const char *a,
                     const char *b)
{
    for (const struct conf_field *f = fields; f->key != NULL; f++) {
        size_t len = push(d, ".", f->key, "");

        switch (f->type) {
        case CONF_TYPE_GROUP:
            diff_map(d, f->fields, a, b);
            break;
        case CONF_TYPE_RECORDS:
            diff_records(d, f, a, b);
            break;
        case CONF_TYPE_PARAMS:
            diff_params(d, f, a, b);
            break;
        default:
            diff_scalar(d, f, a, b);
        }
        conf_text_cut(&d->path, len);
    }
}

unsigned conf_diff(const struct conf_field *schema, const void *old_base,
                   const void *new_base, char *buf, size_t cap)
{
    struct differ d = {.out = conf_text_make(buf, cap)};

    d.path = conf_text_make(d.path_buf, sizeof d.path_buf);
    diff_map(&d, schema, old_base, new_base);
    return d.changes;
}

unsigned conf_cluster_diff(const struct conf_cluster *old, const struct conf_cluster *now,
                           char *buf, size_t cap)
{
    return conf_diff(conf_cluster_schema, old, now, buf, cap);
}

unsigned conf_vm_diff(const struct conf_vm *old, const struct conf_vm *now, char *buf,
                      size_t cap)
{
    return conf_diff(conf_vm_schema, old, now, buf, cap);
}
