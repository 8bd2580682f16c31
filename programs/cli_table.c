/* SPDX-License-Identifier: Apache-2.0 */
#include "programs/cli_table.h"

#include <stdlib.h>
#include <string.h>

#include "base/units.h"

struct cli_table cli_table_make(const struct cli_column *column, unsigned column_count)
{
    return (struct cli_table){.column = column, .column_count = column_count};
}

static bool is_control(unsigned char c)
{
    return c < 0x20 || c == 0x7f;
}

void cli_table_add(struct cli_table *table, const char *text)
{
    char *copy;

    if (table->cell_count == table->cell_cap) {
        size_t cap = table->cell_cap == 0 ? 64 : table->cell_cap * 2;
        char **grown = reallocarray(table->cell, cap, sizeof *grown);

        if (grown == NULL) {
            return;
        }
        table->cell = grown;
        table->cell_cap = cap;
    }
    copy = strdup(text);
    for (char *p = copy; p != NULL && *p != '\0'; p++) {
        *p = is_control((unsigned char)*p) ? '?' : *p;
    }
    table->cell[table->cell_count++] = copy;
}

/* Columns on a terminal, for text without wide characters: code points. */
static size_t width_of(const char *text)
{
    size_t width = 0;

    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

static const char *cell_text(const struct cli_table *table, size_t index)
{
    return table->cell[index] != NULL ? table->cell[index] : "?";
}

const char *cli_state_colour(const char *word)
{
    static const char *const good[] = {"member", "running", "ok", "healthy", "quorate"};
    static const char *const bad[] = {"lost",     "failed",    "suspect", "fenced",
                                      "degraded", "no-quorum", "frozen"};
    static const char *const unsure[] = {"joining",    "unknown",  "amnesiac",
                                         "starting",   "stopping", "recovering",
                                         "quarantined"};

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        if (strcmp(word, good[i]) == 0) {
            return "\033[32m";
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (strcmp(word, bad[i]) == 0) {
            return "\033[31m";
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(unsure); i++) {
        if (strcmp(word, unsure[i]) == 0) {
            return "\033[33m";
        }
    }
    return "";
}

static void print_cell(const struct cli_column *column, const char *text, size_t width,
                       bool last, bool colour, FILE *out)
{
    const char *on = colour && column->is_state ? cli_state_colour(text) : "";
    int pad = (int)(width - width_of(text));

    fprintf(out, "%*s%s%s%s", column->right ? pad : 0, "", on, text,
            on[0] != '\0' ? CLI_COLOUR_OFF : "");
    if (!last) {
        fprintf(out, "%*s  ", column->right ? 0 : pad, "");
    }
}

void cli_table_print(struct cli_table *table, bool colour, FILE *out)
{
    size_t width[CLI_TABLE_COLUMNS_MAX];
    unsigned n = table->column_count;

    for (unsigned c = 0; c < n; c++) {
        width[c] = width_of(table->column[c].title);
        for (size_t i = c; i < table->cell_count; i += n) {
            size_t w = width_of(cell_text(table, i));

            width[c] = w > width[c] ? w : width[c];
        }
    }
    for (unsigned c = 0; c < n; c++) {
        print_cell(&table->column[c], table->column[c].title, width[c], c + 1 == n, false,
                   out);
    }
    fputc('\n', out);
    for (size_t i = 0; i < table->cell_count; i++) {
        unsigned c = (unsigned)(i % n);

        print_cell(&table->column[c], cell_text(table, i), width[c], c + 1 == n, colour,
                   out);
        if (c + 1 == n) {
            fputc('\n', out);
        }
    }
    for (size_t i = 0; i < table->cell_count; i++) {
        free(table->cell[i]);
    }
    free(table->cell);
    *table = (struct cli_table){0};
}

const char *cli_age(long long age_ms, char *buf, size_t cap)
{
    static const struct {
        long long ms;
        const char *unit;
    } units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};

    for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
        if (age_ms >= units[i].ms || units[i].ms == 1) {
            snprintf(buf, cap, "%lld%s", age_ms < 0 ? 0 : age_ms / units[i].ms,
                     units[i].unit);
            break;
        }
    }
    return buf;
}

void cli_print_clean(const char *text, FILE *out)
{
    for (; *text != '\0'; text++) {
        fputc(is_control((unsigned char)*text) && *text != '\n' ? '?' : *text, out);
    }
}
