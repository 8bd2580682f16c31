/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <string.h>

#include "cluster-conf/conf_scalar.h"
#include "cluster-conf/conf_similar.h"
#include "programs/cli.h"

struct parser {
    struct cli_call *call;
    const char *word[CLI_OBJECTS_MAX + 2]; /* verb and objects */
    unsigned word_count;
    char *error;
    size_t error_cap;
};

static enum cli_exit usage(struct parser *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static enum cli_exit usage(struct parser *p, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(p->error, p->error_cap, format, args);
    va_end(args);
    return CLI_USAGE;
}

/* "gemel vm start -h", for hints. */
static const char *hint(const struct cli_call *call, char *buf, size_t cap)
{
    snprintf(buf, cap, "gemel %s%s-h", call->verb != NULL ? call->verb->name : "",
             call->verb != NULL ? " " : "");
    return buf;
}

static int find_option(const char *name, size_t len, char letter)
{
    for (int i = 0; i < CLI_OPT_COUNT; i++) {
        const struct cli_option *option = &cli_options[i];

        if (letter != 0
                ? option->letter == letter
                : strlen(option->name) == len && memcmp(option->name, name, len) == 0) {
            return i;
        }
    }
    return -1;
}

static enum cli_exit unknown_option(struct parser *p, const char *arg)
{
    const struct cli_option *nearest = NULL;
    size_t nearest_distance = CONF_SIMILAR_MAX;

    for (int i = 0; i < CLI_OPT_COUNT; i++) {
        size_t distance = conf_similar_distance(arg, cli_options[i].name);

        if (cli_options[i].help != NULL && distance < nearest_distance) {
            nearest = &cli_options[i];
            nearest_distance = distance;
        }
    }
    if (nearest != NULL && conf_similar(arg, nearest->name)) {
        return usage(p, "unknown option %s; did you mean %s?", arg, nearest->name);
    }
    return usage(p, "unknown option %s; see gemel -h", arg);
}

/* One option at argv[*i]; takes its value from the next argument where it needs one. */
static enum cli_exit parse_option(struct parser *p, int argc, char *const argv[], int *i)
{
    const char *arg = argv[*i], *value = NULL;
    size_t len = strcspn(arg, "=");
    int opt;

    if (arg[1] == '-') {
        opt = find_option(arg, len, 0);
        value = arg[len] == '=' ? arg + len + 1 : NULL;
    } else {
        opt = find_option(NULL, 0, arg[1]);
        value = arg[2] != '\0' ? arg + 2 : NULL;
    }
    if (opt < 0) {
        return unknown_option(p, arg);
    }
    if (cli_options[opt].arg == NULL) {
        if (value != NULL) {
            return usage(p, "%s takes no value", cli_options[opt].name);
        }
    } else if (value == NULL) {
        if (*i + 1 >= argc) {
            return usage(p, "%s needs a value: %s %s", cli_options[opt].name,
                         cli_options[opt].name, cli_options[opt].arg);
        }
        value = argv[++*i];
    }
    if (p->call->is_set[opt]) {
        return usage(p, "%s is given twice", cli_options[opt].name);
    }
    p->call->is_set[opt] = true;
    p->call->value[opt] = value;
    return CLI_DONE;
}

static enum cli_exit split_words(struct parser *p, int argc, char *const argv[])
{
    bool only_words = false;

    for (int i = 1; i < argc; i++) {
        enum cli_exit r = CLI_DONE;

        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (!only_words && argv[i][0] == '-' && argv[i][1] != '\0') {
            r = parse_option(p, argc, argv, &i);
        } else if (p->word_count == CLI_OBJECTS_MAX + 2) {
            r = usage(p, "too many arguments");
        } else {
            p->word[p->word_count++] = argv[i];
        }
        if (r != CLI_DONE) {
            return r;
        }
    }
    return CLI_DONE;
}

static bool is_group(const char *word)
{
    size_t len = strlen(word);

    for (const struct cli_verb *verb = cli_verbs; verb->name != NULL; verb++) {
        if (strncmp(verb->name, word, len) == 0 && verb->name[len] == ' ') {
            return true;
        }
    }
    return false;
}

/* Verbs are one word, or a group and a word. Returns how many words were used; 0: none
 * matched. */
static unsigned find_verb(struct parser *p)
{
    char two[80];

    for (const struct cli_verb *verb = cli_verbs; verb->name != NULL; verb++) {
        if (p->word_count >= 1 && strcmp(verb->name, p->word[0]) == 0) {
            p->call->verb = verb;
            return 1;
        }
        if (p->word_count >= 2) {
            snprintf(two, sizeof two, "%s %s", p->word[0], p->word[1]);
            if (strcmp(verb->name, two) == 0) {
                p->call->verb = verb;
                return 2;
            }
        }
    }
    return 0;
}

static enum cli_exit unknown_verb(struct parser *p)
{
    const struct cli_verb *nearest = NULL;
    size_t nearest_distance = CONF_SIMILAR_MAX;
    char written[80];

    snprintf(written, sizeof written, "%s%s%s", p->word[0], p->word_count > 1 ? " " : "",
             p->word_count > 1 ? p->word[1] : "");
    for (const struct cli_verb *verb = cli_verbs; verb->name != NULL; verb++) {
        const char *compared = strchr(verb->name, ' ') != NULL ? written : p->word[0];
        size_t distance = conf_similar_distance(compared, verb->name);

        if (distance < nearest_distance && conf_similar(compared, verb->name)) {
            nearest = verb;
            nearest_distance = distance;
        }
    }
    if (nearest != NULL) {
        return usage(p, "unknown verb '%s'; did you mean 'gemel %s'?", written,
                     nearest->name);
    }
    if (is_group(p->word[0])) {
        return usage(p, "unknown verb '%s'; see gemel %s -h", written, p->word[0]);
    }
    return usage(p, "unknown verb '%s'; see gemel -h", p->word[0]);
}

static enum cli_exit check_objects(struct parser *p)
{
    const struct cli_verb *verb = p->call->verb;
    unsigned count = p->call->object_count;
    char buf[80];

    switch (verb->object) {
    case CLI_OBJECT_NONE:
        if (count > 0) {
            return usage(p, "%s takes no argument, but got '%s'; see %s", verb->name,
                         p->call->object[0], hint(p->call, buf, sizeof buf));
        }
        return CLI_DONE;
    case CLI_OBJECT_FILES:
        return count > 0 ? CLI_DONE
                         : usage(p, "%s needs at least one FILE; for example: %s",
                                 verb->name, verb->example);
    default:
        if (count == 0) {
            return usage(p, "%s needs a %s; for example: %s", verb->name,
                         verb->object_name, verb->example);
        }
        if (verb->object == CLI_OBJECT_TWO ||
            (verb->object == CLI_OBJECT_ONE_OR_TWO && count > 1)) {
            if (count != 2) {
                return usage(p, "%s needs %s; for example: %s", verb->name,
                             verb->object_name, verb->example);
            }
            if (!conf_name_ok(p->call->object[1])) {
                return usage(p, "'%s' is not a name: letters, digits, '.', '_' and '-'",
                             p->call->object[1]);
            }
            count = 1;
        }
        if (count > 1) {
            return usage(p, "%s takes one %s, but got also '%s'; see %s", verb->name,
                         verb->object_name, p->call->object[1],
                         hint(p->call, buf, sizeof buf));
        }
        if (count == 1 && !conf_name_ok(p->call->object[0])) {
            return usage(p, "'%s' is not a name: letters, digits, '.', '_' and '-'",
                         p->call->object[0]);
        }
        return CLI_DONE;
    }
}

/* What kind of value the option has, and whether it is in its range. */
static enum cli_exit check_value(struct parser *p, const struct cli_option *option,
                                 const char *value)
{
    enum conf_scalar_reason reason = CONF_SCALAR_OK;
    uint64_t number = 0;
    uint32_t ms = 0;

    switch (option->kind) {
    case CLI_VALUE_DURATION:
        reason = conf_scalar_duration(value, &ms);
        number = ms;
        break;
    case CLI_VALUE_SIZE:
        reason = conf_scalar_size(value, &number);
        break;
    case CLI_VALUE_COUNT:
        reason = conf_scalar_count(value, &number);
        break;
    case CLI_VALUE_TEXT:
    default:
        return CLI_DONE;
    }
    if (reason != CONF_SCALAR_OK) {
        return usage(p, "%s: %s %s; write %s", option->name, value,
                     conf_scalar_why(reason), option->values);
    }
    if (number < option->min || number > option->max) {
        return usage(p, "%s: %s is out of range; write %s", option->name, value,
                     option->values);
    }
    return CLI_DONE;
}

static enum cli_exit check_options(struct parser *p)
{
    const struct cli_call *call = p->call;
    const struct cli_verb *verb = call->verb;
    enum cli_exit r;
    uint64_t seq;
    char buf[80];

    for (int i = CLI_OPT_GLOBAL_COUNT; i < CLI_OPT_RENDER; i++) {
        if (call->is_set[i] && (verb->options & CLI_BIT(i)) == 0) {
            return usage(p, "%s is not an option of %s; see %s", cli_options[i].name,
                         verb->name, hint(call, buf, sizeof buf));
        }
    }
    for (int i = 0; i < CLI_OPT_RENDER; i++) {
        if ((verb->required & CLI_BIT(i)) != 0 &&
            (!call->is_set[i] || call->value[i][0] == '\0')) {
            return usage(p, "%s needs %s %s; for example: %s", verb->name,
                         cli_options[i].name, cli_options[i].arg, verb->example);
        }
    }
    for (int i = 0; i < CLI_OPT_RENDER; i++) {
        r = call->is_set[i] ? check_value(p, &cli_options[i], call->value[i]) : CLI_DONE;
        if (r != CLI_DONE) {
            return r;
        }
    }
    if (call->is_set[CLI_OPT_TIMEOUT]) {
        (void)conf_scalar_duration(call->value[CLI_OPT_TIMEOUT], &p->call->timeout_ms);
    }
    if (call->is_set[CLI_OPT_SINCE] &&
        conf_scalar_count(call->value[CLI_OPT_SINCE], &seq) != CONF_SCALAR_OK) {
        return usage(p, "--since: %s is not a sequence number; gemel events shows them",
                     call->value[CLI_OPT_SINCE]);
    }
    return CLI_DONE;
}

enum cli_exit cli_parse(int argc, char *const argv[], struct cli_call *ret_call,
                        char *error, size_t error_cap)
{
    struct parser p = {.call = ret_call, .error = error, .error_cap = error_cap};
    enum cli_exit r;
    unsigned used;

    *ret_call = (struct cli_call){0};
    r = split_words(&p, argc, argv);
    if (r != CLI_DONE) {
        return r;
    }
    used = find_verb(&p);
    if (used == 0) {
        bool help = ret_call->is_set[CLI_OPT_HELP];

        if ((help || ret_call->is_set[CLI_OPT_MAN]) && p.word_count == 0) {
            return CLI_DONE;
        }
        if (p.word_count == 1 && is_group(p.word[0])) {
            ret_call->group = p.word[0];
            return help ? CLI_DONE
                        : usage(&p, "'%s' needs a verb; see gemel %s -h", p.word[0],
                                p.word[0]);
        }
        return p.word_count == 0 ? usage(&p, "what shall be done? see gemel -h")
                                 : unknown_verb(&p);
    }
    ret_call->timeout_ms = ret_call->verb->timeout_ms;
    for (unsigned i = used; i < p.word_count; i++) {
        if (ret_call->object_count == CLI_OBJECTS_MAX) {
            return usage(&p, "too many arguments: at most %d", CLI_OBJECTS_MAX);
        }
        ret_call->object[ret_call->object_count++] = p.word[i];
    }
    if (ret_call->is_set[CLI_OPT_HELP]) {
        return CLI_DONE;
    }
    r = check_objects(&p);
    return r == CLI_DONE ? check_options(&p) : r;
}
