/* SPDX-License-Identifier: Apache-2.0 */
/* Reading definitions, shared by the verbs that take files. */
#pragma once

#include <stddef.h>

#include "base/limits.h"

struct cli_file {
    char text[DEFINITION_MAX +
              2]; /* NUL-terminated; one byte more than a definition may have */
    size_t len;
};

/* Reads a file, or standard input for "-". 0 or -errno. */
int cli_file_read(const char *path, struct cli_file *ret_file);
/* The same, and says on stderr what was wrong. */
int cli_file_need(const char *path, struct cli_file *ret_file);
