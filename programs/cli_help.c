/* SPDX-License-Identifier: Apache-2.0 */
/* Help and the verbs of gemel(8), from the one table. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "programs/cli.h"
#include "programs/cli_table.h"

static void print_synopsis(const struct cli_verb *verb, FILE *out)
{
    fprintf(out, "gemel %s", verb->name);
    if (verb->object != CLI_OBJECT_NONE) {
        fprintf(out, " %s", verb->object_name);
    }
    for (int i = CLI_OPT_GLOBAL_COUNT; i < CLI_OPT_RENDER; i++) {
        if ((verb->options & CLI_BIT(i)) != 0) {
            const struct cli_option *option = &cli_options[i];
            bool required = (verb->required & CLI_BIT(i)) != 0;
            char letter[3] = {'-', option->letter, '\0'};

            fprintf(out, " %s%s%s%s%s", required ? "" : "[",
                    option->letter != 0 ? letter : option->name,
                    option->arg != NULL ? " " : "",
                    option->arg != NULL ? option->arg : "", required ? "" : "]");
        }
    }
    if ((verb->required & CLI_BIT(CLI_OPT_REASON)) != 0) {
        fprintf(out, " --reason TEXT");
    }
}

/* Words of `text`, broken at 78 columns behind an indentation; `column`: where the first
 * line is already, 0: at its begin. */
static void print_wrapped_at(const char *text, unsigned indent, size_t column, FILE *out)
{
    const size_t most = column > 0 ? 79 : 78;
    bool begun = column > 0;

    while (*text != '\0') {
        size_t len = strcspn(text, " ");

        if (begun) {
            column += (size_t)fprintf(out, "%.*s", (int)len, text);
            begun = false;
        } else if (column == 0) {
            column = (size_t)fprintf(out, "%*s%.*s", (int)indent, "", (int)len, text);
        } else if (column + 1 + len > most) {
            column =
                (size_t)fprintf(out, "\n%*s%.*s", (int)indent, "", (int)len, text) - 1;
        } else {
            column += (size_t)fprintf(out, " %.*s", (int)len, text);
        }
        text += len;
        text += strspn(text, " ");
    }
    fprintf(out, "\n");
}

static void print_wrapped(const char *text, unsigned indent, FILE *out)
{
    print_wrapped_at(text, indent, 0, out);
}

/* What it is for, and what values it takes. */
static const char *option_text(const struct cli_option *option, char *buf, size_t cap)
{
    snprintf(buf, cap, "%s%s%s", option->help, option->values != NULL ? ": " : "",
             option->values != NULL ? option->values : "");
    return buf;
}

/* `wait_ms`: how long the verb waits by itself; 0: it does not. */
static void print_option(const struct cli_option *option, uint32_t wait_ms, FILE *out)
{
    char left[40], letter[8] = "", text[256], age[32];

    if (option->letter != 0) {
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    }
    snprintf(left, sizeof left, "%s%s%s%s", letter, option->name,
             option->arg != NULL ? " " : "", option->arg != NULL ? option->arg : "");
    option_text(option, text, sizeof text);
    if (option == &cli_options[CLI_OPT_TIMEOUT] && wait_ms > 0) {
        size_t len = strlen(text);

        snprintf(text + len, sizeof text - len, " (default %s)",
                 cli_age(wait_ms, age, sizeof age));
    }
    print_wrapped_at(text, 25, (size_t)fprintf(out, "  %-22s ", left), out);
}

/* verb NULL: those of every verb. */
static void print_options(const struct cli_verb *verb, FILE *out)
{
    fprintf(out, "\nOptions:\n");
    for (int i = CLI_OPT_GLOBAL_COUNT; i < CLI_OPT_RENDER; i++) {
        if (verb != NULL && (verb->options & CLI_BIT(i)) != 0) {
            print_option(&cli_options[i], verb != NULL ? verb->timeout_ms : 0, out);
        }
    }
    for (int i = 0; i < CLI_OPT_GLOBAL_COUNT; i++) {
        print_option(&cli_options[i], verb != NULL ? verb->timeout_ms : 0, out);
    }
}

static void print_verbs(const char *group, FILE *out)
{
    size_t group_len = group != NULL ? strlen(group) : 0;

    for (const struct cli_verb *verb = cli_verbs; verb->name != NULL; verb++) {
        char left[64];

        if (group != NULL && (strncmp(verb->name, group, group_len) != 0 ||
                              verb->name[group_len] != ' ')) {
            continue;
        }
        snprintf(left, sizeof left, "%s%s%s", verb->name,
                 verb->object != CLI_OBJECT_NONE ? " " : "",
                 verb->object != CLI_OBJECT_NONE ? verb->object_name : "");
        fprintf(out, "  %-22s %s\n", left, verb->summary);
    }
}

static void print_verb_help(const struct cli_verb *verb, FILE *out)
{
    fprintf(out, "%s - %s\n\nUsage: ", verb->name, verb->summary);
    print_synopsis(verb, out);
    fprintf(out, "\n");
    if (verb->details != NULL) {
        fprintf(out, "\n");
        print_wrapped(verb->details, 0, out);
    }
    if (verb->danger != NULL) {
        fprintf(out, "\n");
        print_wrapped(verb->danger, 0, out);
        fprintf(out, "Asks for the name to be typed, unless --yes.\n");
    }
    if (verb->example != NULL) {
        fprintf(out, "\nExample:\n  %s\n", verb->example);
    }
    print_options(verb, out);
}

void cli_help(const struct cli_call *call, FILE *out)
{
    if (call->verb != NULL) {
        print_verb_help(call->verb, out);
        return;
    }
    if (call->group != NULL) {
        fprintf(out, "Usage: gemel %s VERB ...\n\n", call->group);
        print_verbs(call->group, out);
        fprintf(out, "\ngemel %s VERB -h tells more.\n", call->group);
        return;
    }
    fprintf(out, "gemel - keeps virtual machines running when hosts die\n\n"
                 "Examples:\n"
                 "  gemel status\n"
                 "  gemel vm apply -f web1.yaml\n"
                 "  gemel explain web1\n\n"
                 "Usage: gemel VERB [OBJECT] [OPTION...]\n\n");
    print_verbs(NULL, out);
    print_options(NULL, out);
    fprintf(out, "\nExit codes:\n");
    for (int i = 0; i < CLI_EXIT_COUNT; i++) {
        fprintf(out, "  %d  %s\n", i, cli_exit_meaning[i]);
    }
    fprintf(out, "\ngemel VERB -h tells more; so does man gemel.\n");
}

/* Text as roff: a hyphen would become a dash, a leading dot or quote a request. */
static void print_roff(const char *text, FILE *out)
{
    if (*text == '.' || *text == '\'') {
        fprintf(out, "\\&");
    }
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '-':
            fprintf(out, "\\-");
            break;
        case '\\':
            fprintf(out, "\\e");
            break;
        case '\'':
            fprintf(out, "\\(aq");
            break;
        default:
            fputc(*text, out);
        }
    }
    fputc('\n', out);
}

/* A summary as a sentence of its own. */
static void print_sentence(const char *text, FILE *out)
{
    fputc(toupper((unsigned char)text[0]), out);
    print_roff(text + 1, out);
}

void cli_man_verbs(FILE *out)
{
    char *synopsis = NULL;
    size_t len;

    fprintf(out, ".SH VERBS\n");
    for (const struct cli_verb *verb = cli_verbs; verb->name != NULL; verb++) {
        FILE *line = open_memstream(&synopsis, &len);

        print_synopsis(verb, line);
        fclose(line);
        fprintf(out, ".TP\n.B ");
        print_roff(synopsis, out);
        free(synopsis);
        print_sentence(verb->summary, out);
        if (verb->details != NULL) {
            fprintf(out, ".br\n");
            print_roff(verb->details, out);
        }
        if (verb->danger != NULL) {
            fprintf(out, ".br\n");
            print_roff(verb->danger, out);
            fprintf(out, "Asks for the name to be typed, unless \\-\\-yes.\n");
        }
    }
    fprintf(out, ".SH OPTIONS\n");
    for (int i = 0; i < CLI_OPT_RENDER; i++) {
        const struct cli_option *option = &cli_options[i];
        char left[64], letter[8] = "", text[256];

        if (option->letter != 0) {
            snprintf(letter, sizeof letter, "-%c, ", option->letter);
        }
        snprintf(left, sizeof left, "%s%s%s%s", letter, option->name,
                 option->arg != NULL ? " " : "", option->arg != NULL ? option->arg : "");
        fprintf(out, ".TP\n.B ");
        print_roff(left, out);
        print_sentence(option_text(option, text, sizeof text), out);
    }
    fprintf(out, ".SH EXIT STATUS\n");
    for (int i = 0; i < CLI_EXIT_COUNT; i++) {
        fprintf(out, ".TP\n.B %d\n", i);
        print_roff(cli_exit_meaning[i], out);
    }
}
