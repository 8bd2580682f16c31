/* SPDX-License-Identifier: Apache-2.0 */
/* Aligned tables for people. Cells are copied; control characters in them become '?'. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define CLI_TABLE_COLUMNS_MAX 10

struct cli_column {
    const char *title;
    bool right;    /* numbers */
    bool is_state; /* coloured by its word, if colours are on */
};

struct cli_table {
    const struct cli_column *column;
    unsigned column_count;
    char **cell; /* row by row */
    size_t cell_count, cell_cap;
};

struct cli_table cli_table_make(const struct cli_column *column, unsigned column_count);
/* The next cell, row by row. Without memory the cell is lost and shown as "?". */
void cli_table_add(struct cli_table *table, const char *text);
/* Prints and frees. Nothing but the titles for an empty table. */
void cli_table_print(struct cli_table *table, bool colour, FILE *out);

/* "350ms", "12s", "5m", "3h", "4d": the age of something, in one unit, rounded down. */
const char *cli_age(long long age_ms, char *buf, size_t cap);
/* Prints text from elsewhere, control characters as '?'; newlines are kept. */
void cli_print_clean(const char *text, FILE *out);
/* The escape sequence for a state word, or "". */
const char *cli_state_colour(const char *word);
#define CLI_COLOUR_OFF "\033[0m"
