/* SPDX-License-Identifier: Apache-2.0 */
/* Tables state x event of a state machine as a folder's README.md has them: print them
 * from the machine, and ask whether they stand there. For unit tests. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

#define DOC_CELL_MAX   200
#define DOC_LEGEND_MAX 96

struct doc_machine {
    unsigned states, events;
    const char *(*state_str)(unsigned state);
    const char *(*event_str)(unsigned event);
    size_t (*cell)(unsigned state, unsigned event, char *buf, size_t cap);
};

struct doc_table {
    char legend[DOC_LEGEND_MAX][DOC_CELL_MAX];
    unsigned legend_count;
    char text[64 * 1024];
    char readme[256 * 1024];
};

static inline unsigned doc_legend(struct doc_table *t, const char *cell)
{
    for (unsigned i = 0; i < t->legend_count; i++) {
        if (strcmp(t->legend[i], cell) == 0) {
            return i + 1;
        }
    }
    ck_assert_uint_lt(t->legend_count, DOC_LEGEND_MAX);
    memcpy(t->legend[t->legend_count], cell, DOC_CELL_MAX);
    return ++t->legend_count;
}

#define DOC_PUT(t, ...)                                                                  \
    snprintf((t)->text + strlen((t)->text), sizeof(t)->text - strlen((t)->text),         \
             __VA_ARGS__)

static inline void doc_print(struct doc_table *t, const struct doc_machine *m)
{
    t->legend_count = 0;
    t->text[0] = '\0';
    DOC_PUT(t, "| |");
    for (unsigned s = 0; s < m->states; s++) {
        DOC_PUT(t, " %s |", m->state_str(s));
    }
    DOC_PUT(t, "\n|---|");
    for (unsigned s = 0; s < m->states; s++) {
        DOC_PUT(t, "---|");
    }
    for (unsigned e = 0; e < m->events; e++) {
        DOC_PUT(t, "\n| %s |", m->event_str(e));
        for (unsigned s = 0; s < m->states; s++) {
            char cell[DOC_CELL_MAX] = "";

            if (m->cell(s, e, cell, sizeof cell) > 0) {
                DOC_PUT(t, " %u |", doc_legend(t, cell));
            } else {
                DOC_PUT(t, " |");
            }
        }
    }
    DOC_PUT(t, "\n\n");
    for (unsigned i = 0; i < t->legend_count; i++) {
        DOC_PUT(t, "%u. %s\n", i + 1, t->legend[i]);
    }
}

/* `name`: of the machine. DOC_TABLES=1 prints the table, for the README. */
static inline void doc_expect(const char *readme, const char *name,
                              const struct doc_machine *m)
{
    struct doc_table *t = calloc(1, sizeof *t);
    const char *srcdir = getenv("srcdir");
    char path[4096];
    FILE *f;

    ck_assert_ptr_nonnull(t);
    snprintf(path, sizeof path, "%s/%s", srcdir != NULL ? srcdir : ".", readme);
    f = fopen(path, "r");
    ck_assert_msg(f != NULL, "cannot open %s", path);
    t->readme[fread(t->readme, 1, sizeof t->readme - 1, f)] = '\0';
    fclose(f);
    doc_print(t, m);
    if (getenv("DOC_TABLES") != NULL) {
        fprintf(stderr, "%s\n", t->text);
    }
    ck_assert_msg(strstr(t->readme, t->text) != NULL,
                  "%s lacks the table of the %s: DOC_TABLES=1 prints it", readme, name);
    free(t);
}
