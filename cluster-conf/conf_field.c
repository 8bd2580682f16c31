/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster-conf/conf_field.h"

#include <string.h>

#include "base/uuid.h"
#include "cluster-conf/conf_scalar.h"

static uint64_t number_get(const struct conf_field *field, const char *at)
{
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;

    if (field->size == sizeof u16) {
        memcpy(&u16, at, sizeof u16);
        return u16;
    }
    if (field->size == sizeof u32) {
        memcpy(&u32, at, sizeof u32);
        return u32;
    }
    memcpy(&u64, at, sizeof u64);
    return u64;
}

static const char *word_get(const struct conf_field *field, const char *at)
{
    int value;

    memcpy(&value, at, sizeof value);
    for (const struct conf_word *word = field->words; word->word != NULL; word++) {
        if (word->value == value) {
            return word->word;
        }
    }
    return NULL;
}

unsigned conf_field_count(const struct conf_field *field, const char *base)
{
    unsigned count;

    memcpy(&count, base + field->count_offset, sizeof count);
    return count <= field->max ? count : (unsigned)field->max;
}

const char *conf_field_item(const struct conf_field *field, const char *base,
                            unsigned index)
{
    return base + field->offset + (size_t)index * field->size;
}

bool conf_field_is_set(const struct conf_field *field, const char *base)
{
    const char *at = base + field->offset;
    struct uuid uuid;

    switch (field->type) {
    case CONF_TYPE_NAME:
    case CONF_TYPE_TEXT:
    case CONF_TYPE_PATH:
    case CONF_TYPE_ADDR:
        return at[0] != '\0';
    case CONF_TYPE_SIZE:
    case CONF_TYPE_DURATION:
    case CONF_TYPE_COUNT:
        return field->required || field->fallback != NULL || number_get(field, at) != 0;
    case CONF_TYPE_ENUM:
        return word_get(field, at) != NULL;
    case CONF_TYPE_UUID:
        memcpy(&uuid, at, sizeof uuid);
        return !uuid_is_none(uuid);
    case CONF_TYPE_RECORDS:
    case CONF_TYPE_NAMES:
    case CONF_TYPE_PARAMS:
        return conf_field_count(field, base) > 0;
    case CONF_TYPE_GROUP:
        for (const struct conf_field *f = field->fields; f->key != NULL; f++) {
            if (conf_field_is_set(f, base)) {
                return true;
            }
        }
        return false;
    default:
        return true;
    }
}

void conf_field_format(struct conf_text *text, const struct conf_field *field,
                       const char *base)
{
    const char *at = base + field->offset;
    struct uuid uuid;
    uint8_t mac[6];
    bool yes;

    switch (field->type) {
    case CONF_TYPE_SIZE:
        conf_scalar_size_write(text, number_get(field, at));
        break;
    case CONF_TYPE_DURATION:
        conf_scalar_duration_write(text, (uint32_t)number_get(field, at));
        break;
    case CONF_TYPE_COUNT:
        conf_text_u64(text, number_get(field, at));
        break;
    case CONF_TYPE_BOOL:
        memcpy(&yes, at, sizeof yes);
        conf_text_str(text, yes ? "true" : "false");
        break;
    case CONF_TYPE_ENUM:
        conf_text_str(text, word_get(field, at) != NULL ? word_get(field, at) : "");
        break;
    case CONF_TYPE_MAC:
        memcpy(mac, at, sizeof mac);
        conf_scalar_mac_write(text, mac);
        break;
    case CONF_TYPE_UUID:
        memcpy(&uuid, at, sizeof uuid);
        conf_scalar_uuid_write(text, uuid);
        break;
    case CONF_TYPE_GROUP:
    case CONF_TYPE_RECORDS:
    case CONF_TYPE_NAMES:
    case CONF_TYPE_PARAMS:
        break;
    default:
        conf_text_str(text, at);
    }
}
