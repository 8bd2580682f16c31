/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks into recordings of gemel-vmm, and spoils them, as the negative controls of replay
 * want it. usage:
 *   taped FILE count TYPE [INPUT]          how many records; of inputs: of this type
 *   taped FILE drop|alter|shift|late TYPE [INPUT] N OUT
 *       the Nth of them (from 0): left out; one bit of its last byte is another, or a
 *       clock a second later; one position later (of those that wake a guest, and
 *       come alone); one position later, in its place. Checksums and numbers are mended.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ft/ft_log.h"

struct tape {
    uint8_t *bytes;
    size_t len;
    struct ft_record *record;
    size_t count;
};

static int fail(const char *what, const char *which)
{
    fprintf(stderr, "taped: %s%s\n", what, which);
    return EXIT_FAILURE;
}

static bool load(const char *path, struct tape *t)
{
    FILE *f = fopen(path, "rb");
    size_t at = 0;

    if (!f || fseek(f, 0, SEEK_END) < 0) {
        return false;
    }
    t->len = (size_t)ftell(f);
    rewind(f);
    t->bytes = malloc(t->len + 1);
    t->record = calloc(t->len / FT_HEADER_LEN + 1, sizeof *t->record);
    if (!t->bytes || !t->record || fread(t->bytes, 1, t->len, f) != t->len) {
        return false;
    }
    fclose(f);
    while (at < t->len &&
           ft_check(t->bytes + at, t->len - at, &t->record[t->count]) == FT_OK) {
        at += t->record[t->count++].len;
    }
    return t->count > 0;
}

static bool is_wanted(const struct ft_record *r, unsigned type, unsigned input)
{
    struct dev_input in;

    return r->type == type &&
           (input == 0 || (ft_get_input(r, &in) == FT_OK && in.type == input));
}

static bool is_halt(const struct ft_record *r)
{
    struct ft_exit x = {.kind = 0};

    return ft_get_exit(r, &x) == FT_OK && x.kind == TAPE_EXIT_HALT;
}

/* No other input comes at its position. */
static bool is_alone(const struct tape *t, size_t i)
{
    const struct ft_record *r = &t->record[i];

    return (i == 0 || r[-1].type != FT_INPUT || r[-1].exits != r->exits) &&
           (i + 1 == t->count || r[1].type != FT_INPUT || r[1].exits != r->exits);
}

/* The place of the nth, or `count`. */
static size_t find(const struct tape *t, unsigned type, unsigned input, bool asleep,
                   uint64_t n)
{
    bool sleeps = false;

    for (size_t i = 0; i < t->count; i++) {
        if (t->record[i].type == FT_EXIT) {
            sleeps = is_halt(&t->record[i]);
        }
        if (asleep && (!sleeps || !is_alone(t, i))) {
            continue;
        }
        if (is_wanted(&t->record[i], type, input) && n-- == 0) {
            return i;
        }
    }
    return t->count;
}

/* The body lies in our copy of the file. */
static void alter(struct ft_record *r)
{
    uint8_t *body = (uint8_t *)(uintptr_t)r->body;
    struct dev_input in;
    uint64_t v;

    if (r->type == FT_INPUT && ft_get_input(r, &in) == FT_OK && in.len > 0) {
        body[in.data - r->body + in.len - 1] ^= 1;
    } else {
        v = r->type == FT_INPUT ? 8 : 0; /* where its clock is */
        uint64_t ns;

        memcpy(&ns, body + v, sizeof ns);
        ns += UINT64_C(1000000000);
        memcpy(body + v, &ns, sizeof ns);
    }
}

static void put(FILE *out, const struct ft_record *r, uint64_t seq)
{
    static uint8_t buf[FT_RECORD_MAX];
    struct bytes_wr wr;

    ft_begin(&wr, buf, sizeof buf, (enum ft_type)r->type, r->flags, r->exits, r->device);
    bytes_wr_copy(&wr, r->body, r->body_len);
    fwrite(buf, 1, ft_finish(&wr, seq), out);
}

static void put_all(FILE *out, const struct tape *t, size_t victim, bool drop, bool shift)
{
    struct ft_record late = t->record[victim];
    uint64_t seq = 0;
    bool waits = false;

    for (size_t i = 0; i < t->count; i++) {
        const struct ft_record *r = &t->record[i];

        if (i == victim && (drop || shift)) {
            waits = shift;
            late.exits++;
            continue;
        }
        put(out, r, ++seq);
        if (waits && r->type == FT_EXIT && r->exits == late.exits) {
            put(out, &late, ++seq);
            waits = false;
        }
    }
}

int main(int argc, char **argv)
{
    struct tape t = {0};
    unsigned type, input;
    size_t victim;
    uint64_t n = 0;
    FILE *out;

    if (argc != 4 && argc != 5 && argc != 6 && argc != 7) {
        return fail("usage: ",
                    "taped FILE count|drop|alter|shift|late TYPE [INPUT] [N OUT]");
    }
    if (!load(argv[1], &t)) {
        return fail("no recording: ", argv[1]);
    }
    type = (unsigned)atoi(argv[3]);
    if (strcmp(argv[2], "count") == 0) {
        input = argc > 4 ? (unsigned)atoi(argv[4]) : 0;
        for (size_t i = 0; i < t.count; i++) {
            n += is_wanted(&t.record[i], type, input);
        }
        printf("%" PRIu64 "\n", n);
        return EXIT_SUCCESS;
    }
    if (argc < 6) {
        return fail("N OUT are missing after ", argv[2]);
    }
    input = argc > 6 ? (unsigned)atoi(argv[4]) : 0;
    victim = find(&t, type, input, strcmp(argv[2], "shift") == 0,
                  strtoull(argv[argc - 2], NULL, 10));
    if (victim == t.count) {
        return fail("there is no record number ", argv[argc - 2]);
    }
    out = fopen(argv[argc - 1], "wb");
    if (!out) {
        return fail("cannot make ", argv[argc - 1]);
    }
    if (strcmp(argv[2], "alter") == 0) {
        alter(&t.record[victim]);
    }
    t.record[victim].exits += strcmp(argv[2], "late") == 0;
    put_all(out, &t, victim, strcmp(argv[2], "drop") == 0, strcmp(argv[2], "shift") == 0);
    printf("%" PRIu64 "\n", t.record[victim].exits);
    return fclose(out) == 0 ? EXIT_SUCCESS : fail("cannot write ", argv[argc - 1]);
}
