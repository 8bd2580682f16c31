/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/epoch_name.h"

#include <string.h>

#include "base/text.h"

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_' || c == '.';
}

/* %XX for what is not plain. False: too long. */
static bool escape(char dst[static EPOCH_SHOWN_MAX], const char *name)
{
    size_t at = 0;

    for (; *name != '\0'; name++) {
        if (at + 4 > EPOCH_SHOWN_MAX) {
            return false;
        }
        if (is_plain(*name)) {
            dst[at++] = *name;
        } else {
            char hex[3];

            text_hex(hex, name, 1);
            dst[at++] = '%';
            dst[at++] = hex[0];
            dst[at++] = hex[1];
        }
    }
    dst[at] = '\0';
    return true;
}

const char *epoch_name_parse(const char *text, struct epoch_name *ret_name)
{
    struct epoch_name n = {.has_epoch = false};
    const char *at = strchr(text, '@');
    size_t len = at ? (size_t)(at - text) : strlen(text);

    if (len >= sizeof n.export_name) {
        return "the name is too long";
    }
    memcpy(n.export_name, text, len);
    n.export_name[len] = '\0';
    if (!escape(n.shown, n.export_name)) {
        return "the name is too long";
    }
    if (at) {
        if (!text_u64(at + 1, 0, UINT64_MAX, &n.epoch) ||
            (at[1] == '0' && at[2] != '\0')) {
            return "after '@' comes an epoch: a decimal number without leading zeros";
        }
        n.has_epoch = true;
    }
    *ret_name = n;
    return NULL;
}
