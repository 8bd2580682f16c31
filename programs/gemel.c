/* SPDX-License-Identifier: Apache-2.0 */
/* The command line. What it knows stands in cli_verbs.c. */
#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/units.h"
#include "programs/cli.h"
#include "programs/cli_agent.h"
#include "programs/cli_local.h"
#include "programs/cli_table.h"

void cli_complain(const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    if (vasprintf(&text, format, args) < 0) {
        text = NULL;
    }
    va_end(args);
    fputs("gemel: ", stderr);
    cli_print_clean(text != NULL ? text : "out of memory", stderr);
    fputc('\n', stderr);
    free(text);
}

static bool want_colour(const struct cli_call *call)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

    return !call->is_set[CLI_OPT_NO_COLOR] && (no_color == NULL || no_color[0] == '\0') &&
           term != NULL && strcmp(term, "dumb") != 0 && isatty(STDOUT_FILENO);
}

/* ---- dangerous verbs ---- */

/* The VMs that the agent believes on a node, so that one sees what is about to happen.
 * Silence if it cannot be asked. */
static void show_affected(const char *node)
{
    struct cli_question question = {
        .verb = "status", .object = "", .body = "", .reason = "", .timeout_ms = 3000};
    struct cli_answer answer;
    struct json_object *root, *vms, *on, *name;
    unsigned count = 0;

    cli_ask(&question, &answer);
    root = json_tokener_parse(answer.json);
    if (json_object_is_type(root, json_type_object) &&
        json_object_object_get_ex(root, "vms", &vms) &&
        json_object_is_type(vms, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(vms); i++) {
            struct json_object *vm = json_object_array_get_idx(vms, i);

            if (json_object_is_type(vm, json_type_object) &&
                json_object_object_get_ex(vm, "node", &on) &&
                json_object_object_get_ex(vm, "name", &name) && on != NULL &&
                name != NULL && strcmp(json_object_get_string(on), node) == 0) {
                fputs(count++ == 0 ? "VMs on it: " : ", ", stderr);
                cli_print_clean(json_object_get_string(name), stderr);
            }
        }
        fputs(count > 0 ? "\n" : "No VM runs on it.\n", stderr);
    }
    json_object_put(root);
    cli_answer_free(&answer);
}

/* The name of the cluster, for verbs without an object. The agent that is asked has to be
 * there for the verb anyway. */
static enum cli_exit cluster_name(const struct cli_call *call, char *name, size_t cap)
{
    struct cli_question question = {
        .verb = "status", .object = "", .body = "", .reason = "", .timeout_ms = 3000};
    struct cli_answer answer;
    struct json_object *root, *value;
    enum cli_exit r = CLI_FAILED;

    cli_ask(&question, &answer);
    root = json_tokener_parse(answer.json);
    if (json_object_is_type(root, json_type_object) &&
        json_object_object_get_ex(root, "cluster", &value) && value != NULL) {
        snprintf(name, cap, "%s", json_object_get_string(value));
        r = CLI_DONE;
    } else {
        r = answer.exit_code != CLI_DONE ? answer.exit_code : CLI_FAILED;
        cli_complain("%s: %s", call->verb->name,
                     answer.text[0] != '\0'
                         ? answer.text
                         : "the agent does not tell the cluster's name");
    }
    json_object_put(root);
    cli_answer_free(&answer);
    return r;
}

static const char postcopy_danger[] =
    "If its memory cannot be copied as fast as the guest writes, it goes on at the\n"
    "destination before all of it is there. Until it is, the loss of either node, or of\n"
    "the link between them for 10 s, is the end of the running guest: HA starts it "
    "again\n"
    "from its disks, as after a crash.";

static const char copy_danger[] =
    "The VM starts from this node's copy of its mirrored disks as it is. What was "
    "written\nsince that was last in sync is lost for good, also what the guest was told "
    "is durable;\nif it was being copied when that broke off, it is half of one copy and "
    "half of another.\nFrom then on no other copy counts.";

enum cli_exit cli_confirm(const struct cli_call *call)
{
    bool is_node =
        call->verb->object_name != NULL && strcmp(call->verb->object_name, "NODE") == 0;
    char wanted[NODE_NAME_MAX + 1], typed[NODE_NAME_MAX + 16];
    enum cli_exit r = CLI_DONE;

    const char *danger = call->is_set[CLI_OPT_ALLOW_POSTCOPY] ? postcopy_danger
                         : call->is_set[CLI_OPT_ACCEPT_COPY]  ? copy_danger
                                                              : call->verb->danger;

    if (danger == NULL || call->is_set[CLI_OPT_YES] || call->is_set[CLI_OPT_DRY_RUN]) {
        return CLI_DONE;
    }
    if (call->object_count > 0) {
        snprintf(wanted, sizeof wanted, "%s", call->object[0]);
    } else {
        r = cluster_name(call, wanted, sizeof wanted);
    }
    if (r != CLI_DONE) {
        return r;
    }
    fprintf(stderr, "%s\n", danger);
    if (is_node) {
        show_affected(call->object[0]);
    }
    fprintf(stderr, "Type %s to go on: ", wanted);
    if (fgets(typed, sizeof typed, stdin) == NULL) {
        fputc('\n', stderr);
        cli_complain("%s: not confirmed; nothing was done. In scripts use --yes",
                     call->verb->name);
        return CLI_REFUSED;
    }
    typed[strcspn(typed, "\n")] = '\0';
    if (strcmp(typed, wanted) != 0) {
        cli_complain("%s: '%s' is not %s; nothing was done", call->verb->name, typed,
                     wanted);
        return CLI_REFUSED;
    }
    return CLI_DONE;
}

/* ---- events ---- */

/* The highest count of this agent's events in an answer, or `last`. */
static uint64_t last_count(const char *json, uint64_t last)
{
    struct json_object *root = json_tokener_parse(json), *events, *n;

    if (json_object_is_type(root, json_type_object) &&
        json_object_object_get_ex(root, "events", &events) &&
        json_object_is_type(events, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(events); i++) {
            struct json_object *event = json_object_array_get_idx(events, i);

            if (json_object_is_type(event, json_type_object) &&
                json_object_object_get_ex(event, "n", &n) &&
                json_object_get_uint64(n) > last) {
                last = json_object_get_uint64(n);
            }
        }
    }
    json_object_put(root);
    return last;
}

enum cli_exit cli_run_events(const struct cli_call *call)
{
    uint64_t since =
        call->is_set[CLI_OPT_SINCE] ? strtoull(call->value[CLI_OPT_SINCE], NULL, 10) : 0;
    uint64_t after = 0;
    bool first = true;
    enum cli_exit r;

    for (;;) {
        struct cli_question question;
        struct cli_answer answer;
        char since_option[32], after_option[32];
        uint64_t seen;

        cli_question_of(call, &question);
        snprintf(since_option, sizeof since_option, "since=%llu",
                 (unsigned long long)since);
        snprintf(after_option, sizeof after_option, "after=%llu",
                 (unsigned long long)after);
        question.options[question.option_count++] = since_option;
        question.options[question.option_count++] = after_option;
        cli_ask(&question, &answer);
        seen = last_count(answer.json, after);
        r = first || seen != after || answer.exit_code != CLI_DONE
                ? cli_show_answer(call, &answer)
                : CLI_DONE;
        cli_answer_free(&answer);
        after = seen;
        first = false;
        if (!call->is_set[CLI_OPT_FOLLOW] || r != CLI_DONE || fflush(stdout) != 0) {
            return r;
        }
        since = 0; /* from here on the agent's own count holds, local events included */
        /* Ctrl-C ends it here; while asking, the next answer says so. */
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    }
}

/* ---- main ---- */

static enum cli_exit render_file(const struct cli_call *call)
{
    struct cli_file *file = malloc(sizeof *file);
    struct cli_answer answer = {.exit_code = CLI_DONE};
    enum cli_exit r = CLI_FAILED;

    if (file != NULL && cli_file_need(call->value[CLI_OPT_RENDER], file) == 0) {
        file->text[strcspn(file->text, "\n")] = '\0';
        answer.text = strdup("");
        answer.json = strdup(file->text);
        r = cli_show_answer(call, &answer);
        cli_answer_free(&answer);
    }
    free(file);
    return r;
}

/* Options that the agent reads as they are. */
static const struct {
    enum cli_opt opt;
    const char *key;
} passed_on[] = {
    {CLI_OPT_NODE, "node"},
    {CLI_OPT_DOWNTIME, "downtime"},
    {CLI_OPT_RATE, "rate"},
    {CLI_OPT_MAX_SLOWDOWN, "max-slowdown"},
    {CLI_OPT_VERIFY, "verify"},
    {CLI_OPT_NO_COMPRESS, "no-compress"},
    {CLI_OPT_CANCEL, "cancel"},
    {CLI_OPT_ON, "node"},
    {CLI_OPT_COMMIT, "commit"},
    {CLI_OPT_MODE, "mode"},
    {CLI_OPT_TIMEOUT, "timeout"},
    {CLI_OPT_ALLOW_POSTCOPY, "allow-postcopy"},
    {CLI_OPT_ACCEPT_COPY, "accept-copy"},
};

/* `probe`: only whether it would be refused, which is shown. */
static enum cli_exit ask(const struct cli_call *call, bool probe)
{
    struct cli_question question;
    struct cli_answer answer;
    char second[VM_NAME_MAX + 64], snapshot[512], text[ARRAY_SIZE(passed_on)][128];
    enum cli_exit r;

    cli_question_of(call, &question);
    if (call->is_set[CLI_OPT_ALLOW_POSTCOPY]) { /* --timeout: of what comes before */
        question.timeout_ms = call->verb->timeout_ms;
    }
    if (call->object_count == 2 && call->verb->second != NULL) {
        snprintf(second, sizeof second, "%s=%s", call->verb->second, call->object[1]);
        question.options[question.option_count++] = second;
    }
    if (call->is_set[CLI_OPT_NAME] || call->is_set[CLI_OPT_SNAPSHOT]) {
        snprintf(snapshot, sizeof snapshot, "snapshot=%s",
                 call->is_set[CLI_OPT_NAME] ? call->value[CLI_OPT_NAME]
                                            : call->value[CLI_OPT_SNAPSHOT]);
        question.options[question.option_count++] = snapshot;
    }
    if (call->is_set[CLI_OPT_FORCE]) {
        question.options[question.option_count++] = "force=true";
    }
    if (call->is_set[CLI_OPT_DISCARD]) {
        question.options[question.option_count++] = "discard-state=1";
    }
    for (unsigned i = 0; i < ARRAY_SIZE(passed_on); i++) {
        enum cli_opt opt = passed_on[i].opt;

        /* How long to wait is the caller's business; of a migration it is more. */
        if (opt == CLI_OPT_TIMEOUT && strcmp(call->verb->name, "vm migrate") != 0 &&
            strcmp(call->verb->name, "vm upgrade") != 0) {
            continue;
        }
        if (call->is_set[opt]) {
            snprintf(text[i], sizeof text[i], "%s=%s", passed_on[i].key,
                     cli_options[opt].arg != NULL ? call->value[opt] : "true");
            question.options[question.option_count++] = text[i];
        }
    }
    question.dry_run = question.dry_run || probe;
    cli_ask(&question, &answer);
    r = probe && answer.exit_code == CLI_DONE ? CLI_DONE : cli_show_answer(call, &answer);
    cli_answer_free(&answer);
    return r;
}

int main(int argc, char *argv[])
{
    struct cli_call call;
    char error[512];
    enum cli_exit r;

    signal(SIGPIPE, SIG_IGN);
    r = cli_parse(argc, argv, &call, error, sizeof error);
    if (r != CLI_DONE) {
        cli_complain("%s", error);
        return (int)r;
    }
    if (call.is_set[CLI_OPT_HELP]) {
        cli_help(&call, stdout);
        return CLI_DONE;
    }
    if (call.is_set[CLI_OPT_MAN]) {
        cli_man_verbs(stdout);
        return CLI_DONE;
    }
    call.colour = want_colour(&call);
    if (call.is_set[CLI_OPT_RENDER]) {
        return (int)render_file(&call);
    }
    /* Before a person has to think about it: would it be refused? */
    r = (call.is_set[CLI_OPT_ALLOW_POSTCOPY] || call.is_set[CLI_OPT_ACCEPT_COPY]) &&
                !call.is_set[CLI_OPT_DRY_RUN] && !call.is_set[CLI_OPT_YES] &&
                isatty(STDIN_FILENO)
            ? ask(&call, true)
            : CLI_DONE;
    if (r != CLI_DONE) {
        return (int)r;
    }
    r = cli_confirm(&call);
    if (r == CLI_DONE) {
        r = call.verb->run != NULL ? call.verb->run(&call) : ask(&call, false);
    }
    if (fflush(stdout) != 0 && r == CLI_DONE) {
        r = CLI_FAILED;
    }
    return (int)r;
}
