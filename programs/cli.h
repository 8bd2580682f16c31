/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `gemel` command: what its parts share. One const table of verbs (cli_verbs.c)
 * drives the parser, the help and the man page. Only programs/ may include this.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Exit codes: a contract (design 11, gemel(8)). */
enum cli_exit {
    CLI_DONE = 0,
    CLI_FAILED = 1, /* status: degraded */
    CLI_USAGE = 2,
    CLI_NOT_FOUND = 3,
    CLI_REFUSED = 4,
    CLI_TIMED_OUT = 5, /* also: waiting was stopped; the operation goes on */
    CLI_NO_QUORUM = 6,
    CLI_UNREACHABLE = 7,
    CLI_NOT_PERMITTED = 8,
};
#define CLI_EXIT_COUNT 9
extern const char *const cli_exit_meaning[CLI_EXIT_COUNT];

enum cli_opt {
    CLI_OPT_JSON = 0,
    CLI_OPT_YES,
    CLI_OPT_REASON,
    CLI_OPT_NO_WAIT,
    CLI_OPT_TIMEOUT,
    CLI_OPT_DRY_RUN,
    CLI_OPT_NO_COLOR,
    CLI_OPT_HELP,
    CLI_OPT_GLOBAL_COUNT, /* those above are known to every verb */
    CLI_OPT_FILE = CLI_OPT_GLOBAL_COUNT,
    CLI_OPT_YAML,
    CLI_OPT_FOLLOW,
    CLI_OPT_SINCE,
    CLI_OPT_NODE,
    CLI_OPT_DIR,
    CLI_OPT_FORCE,
    CLI_OPT_NEW_KEY,
    CLI_OPT_VMROOT,
    CLI_OPT_NAME,
    CLI_OPT_SNAPSHOT,
    CLI_OPT_DISCARD,
    CLI_OPT_DOWNTIME,
    CLI_OPT_MAX_SLOWDOWN,
    CLI_OPT_RATE,
    CLI_OPT_VERIFY,
    CLI_OPT_NO_COMPRESS,
    CLI_OPT_ALLOW_POSTCOPY,
    CLI_OPT_CANCEL,
    CLI_OPT_ON,
    CLI_OPT_COMMIT,
    CLI_OPT_MODE,
    CLI_OPT_ACCEPT_COPY,
    CLI_OPT_RENDER, /* hidden: render a reply from a file instead of asking the agent */
    CLI_OPT_MAN,    /* hidden: the verbs as roff */
    CLI_OPT_COUNT,
};

/* What the value of an option is: refused before an agent is asked. */
enum cli_value {
    CLI_VALUE_TEXT = 0,
    CLI_VALUE_DURATION, /* ms */
    CLI_VALUE_SIZE,     /* bytes */
    CLI_VALUE_COUNT,
};

struct cli_option {
    const char *name; /* "--timeout" */
    char letter;      /* 0: none */
    const char *arg;  /* what its value is called; NULL: a switch */
    const char *help;
    enum cli_value kind;
    uint64_t min, max;  /* of the value */
    const char *values; /* for people: "21ms to 1m (default 300ms)"; NULL: any text */
};
extern const struct cli_option cli_options[CLI_OPT_COUNT];

#define CLI_BIT(opt) (1u << (opt))

struct cli_call;

enum cli_object {
    CLI_OBJECT_NONE = 0,
    CLI_OBJECT_ONE,
    CLI_OBJECT_TWO, /* the second goes to the agent as the option `second` */
    CLI_OBJECT_ONE_OR_TWO,
    CLI_OBJECT_FILES
};

struct cli_verb {
    const char *name; /* "vm start" */
    enum cli_object object;
    const char *object_name; /* "VM", "NODE", "FILE...", "VM NEW" */
    const char *second;      /* "to" */
    bool reads;              /* changes nothing: never waits */
    const char
        *danger; /* what will happen: the object's name has to be typed, unless --yes */
    unsigned options;    /* CLI_BITs beyond the global ones */
    unsigned required;   /* CLI_BITs, global or of options, that must be given */
    uint32_t timeout_ms; /* of waiting, unless --timeout */
    const char *summary; /* one line */
    const char *details; /* paragraph for help and man page; may be NULL */
    const char *example;
    /* What it does; NULL: asks the agent and renders the answer. */
    enum cli_exit (*run)(const struct cli_call *call);
    /* Renders the agent's JSON; NULL: only the text. Returns the exit code to use when
     * the agent said 0. */
    enum cli_exit (*render)(const struct cli_call *call, const char *json, FILE *out);
};
extern const struct cli_verb cli_verbs[]; /* ends with a NULL name */

#define CLI_OBJECTS_MAX 64

struct cli_call {
    const struct cli_verb *verb; /* NULL: only help was asked for */
    const char *group;           /* "vm", for `gemel vm -h` */
    const char *object[CLI_OBJECTS_MAX];
    unsigned object_count;
    bool is_set[CLI_OPT_COUNT];
    const char *value[CLI_OPT_COUNT];
    uint32_t timeout_ms;
    bool colour;
};

/* argv to a call: CLI_DONE, or CLI_USAGE with the sentence in `error`. Pure but for
 * getopt-free parsing of argv. */
enum cli_exit cli_parse(int argc, char *const argv[], struct cli_call *ret_call,
                        char *error, size_t error_cap);

void cli_help(const struct cli_call *call, FILE *out);
void cli_man_verbs(FILE *out);

/* "gemel: ..." on stderr. */
void cli_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Verbs that need no agent, or more than one answer. */
enum cli_exit cli_run_config_check(const struct cli_call *call);
enum cli_exit cli_run_cluster_init(const struct cli_call *call);
enum cli_exit cli_run_apply(const struct cli_call *call);
enum cli_exit cli_run_events(const struct cli_call *call);
enum cli_exit cli_run_console(const struct cli_call *call);
enum cli_exit cli_run_version(const struct cli_call *call);

enum cli_exit cli_render_status(const struct cli_call *call, const char *json, FILE *out);
enum cli_exit cli_render_nodes(const struct cli_call *call, const char *json, FILE *out);
enum cli_exit cli_render_cpu(const struct cli_call *call, const char *json, FILE *out);
enum cli_exit cli_render_vms(const struct cli_call *call, const char *json, FILE *out);
enum cli_exit cli_render_vm(const struct cli_call *call, const char *json, FILE *out);
enum cli_exit cli_render_events(const struct cli_call *call, const char *json, FILE *out);
enum cli_exit cli_render_explain(const struct cli_call *call, const char *json,
                                 FILE *out);
enum cli_exit cli_render_snapshots(const struct cli_call *call, const char *json,
                                   FILE *out);
enum cli_exit cli_render_definition(const struct cli_call *call, const char *json,
                                    FILE *out);

/* Asks for the object's name before a dangerous verb. CLI_DONE: go on. */
enum cli_exit cli_confirm(const struct cli_call *call);
