/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The export name with which a client says on whose behalf it writes:
 *
 *     NAME@EPOCH      the owner of that epoch (decimal, no leading zero)
 *     NAME@0          nobody: only asks for size and highest epoch, no request is carried
 * out NAME            a client that knows no epochs; refused once NAME had an epoch
 *
 * NAME has no '@'. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define EPOCH_SHOWN_MAX 224 /* with the NUL: a file's name has 255 bytes at most */

struct epoch_name {
    char export_name[EPOCH_SHOWN_MAX];
    char shown[EPOCH_SHOWN_MAX]; /* with %XX for all but letters, digits, '-', '_', '.' */
    bool has_epoch;
    uint64_t epoch; /* has_epoch */
};

/* NULL, or what is wrong with it. */
const char *epoch_name_parse(const char *text, struct epoch_name *ret_name);
