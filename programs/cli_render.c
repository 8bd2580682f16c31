/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's JSON documents (doc/cli-json.md) as text for people. A key that is missing
 * is shown as "unknown", null and
 * "" as "-": not applicable. The agent is trusted, but its words pass through guests and
 * fence devices: control characters never reach the terminal.
 */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/units.h"
#include "programs/cli.h"
#include "programs/cli_table.h"

#define CELL_MAX 512

static struct json_object *parse(const char *json)
{
    struct json_object *root = json != NULL ? json_tokener_parse(json) : NULL;

    if (root == NULL || !json_object_is_type(root, json_type_object)) {
        cli_complain("the agent's answer is not the expected JSON; gemel and gemeld may "
                     "be of different versions");
        json_object_put(root);
        return NULL;
    }
    return root;
}

static bool has(struct json_object *object, const char *key,
                struct json_object **ret_value)
{
    *ret_value = NULL;
    return json_object_is_type(object, json_type_object) &&
           json_object_object_get_ex(object, key, ret_value);
}

static struct json_object *array_of(struct json_object *object, const char *key)
{
    struct json_object *value;

    return has(object, key, &value) && json_object_is_type(value, json_type_array) ? value
                                                                                   : NULL;
}

static size_t count_of(struct json_object *array)
{
    return array != NULL ? json_object_array_length(array) : 0;
}

static bool is_true(struct json_object *object, const char *key)
{
    struct json_object *value;

    return has(object, key, &value) && json_object_get_boolean(value);
}

/* The value as text: "unknown" if missing, "-" if null or empty. */
static const char *text_of(struct json_object *object, const char *key)
{
    struct json_object *value;
    const char *text;

    if (!has(object, key, &value)) {
        return "unknown";
    }
    text = value == NULL ? "" : json_object_get_string(value);
    return text == NULL || text[0] == '\0' ? "-" : text;
}

static const char *age_of(struct json_object *object, const char *key, char *buf,
                          size_t cap)
{
    struct json_object *value;

    if (!has(object, key, &value)) {
        return "unknown";
    }
    return value == NULL ? "-" : cli_age(json_object_get_int64(value), buf, cap);
}

static const char *mib_of(struct json_object *object, const char *key, char *buf,
                          size_t cap)
{
    struct json_object *value;
    int64_t mib;

    if (!has(object, key, &value)) {
        return "unknown";
    }
    if (value == NULL) {
        return "-";
    }
    mib = json_object_get_int64(value);
    if (mib >= 10240) {
        snprintf(buf, cap, "%.1fGiB", (double)mib / 1024);
    } else {
        snprintf(buf, cap, "%lldMiB", (long long)mib);
    }
    return buf;
}

static void print_line(const char *prefix, const char *text, FILE *out)
{
    fputs(prefix, out);
    cli_print_clean(text, out);
    fputc('\n', out);
}

/* ---- tables ---- */

static void render_node_table(const struct cli_call *call, struct json_object *nodes,
                              const char *local, FILE *out)
{
    static const struct cli_column columns[] = {
        {"NODE", false, false},        {"ID", true, false},      {"STATE", false, true},
        {"INCARNATION", false, false}, {"FENCE", false, true},   {"VMS", true, false},
        {"FREE", true, false},         {"REASON", false, false},
    };
    struct cli_table table = cli_table_make(columns, ARRAY_SIZE(columns));
    char buf[CELL_MAX];

    for (size_t i = 0; i < count_of(nodes); i++) {
        struct json_object *node = json_object_array_get_idx(nodes, i);
        const char *name = text_of(node, "name");

        snprintf(buf, sizeof buf, "%s%s", name,
                 local != NULL && strcmp(name, local) == 0 ? "*" : "");
        cli_table_add(&table, buf);
        cli_table_add(&table, text_of(node, "id"));
        cli_table_add(&table, text_of(node, "state"));
        cli_table_add(&table, text_of(node, "incarnation"));
        cli_table_add(&table, text_of(node, "fence"));
        cli_table_add(&table, text_of(node, "vms"));
        cli_table_add(&table, mib_of(node, "memory_free_mib", buf, sizeof buf));
        cli_table_add(&table, text_of(node, "reason"));
    }
    cli_table_print(&table, call->colour, out);
}

/* Why it is so; of one that moves, how far that is. */
static const char *reason_of(struct json_object *vm, char *buf, size_t cap)
{
    struct json_object *move, *percent;

    if (!has(vm, "migration", &move) || !has(move, "percent", &percent)) {
        return text_of(vm, "reason");
    }
    snprintf(buf, cap, "%s (%d %%)", text_of(vm, "reason"), json_object_get_int(percent));
    return buf;
}

static void render_vm_table(const struct cli_call *call, struct json_object *vms,
                            FILE *out)
{
    static const struct cli_column columns[] = {
        {"VM", false, false},     {"DESIRED", false, false}, {"STATE", false, true},
        {"NODE", false, false},   {"EPOCH", true, false},    {"SINCE", true, false},
        {"REASON", false, false},
    };
    struct cli_table table = cli_table_make(columns, ARRAY_SIZE(columns));
    char buf[CELL_MAX];

    for (size_t i = 0; i < count_of(vms); i++) {
        struct json_object *vm = json_object_array_get_idx(vms, i);

        cli_table_add(&table, text_of(vm, "name"));
        cli_table_add(&table, text_of(vm, "desired"));
        cli_table_add(&table, text_of(vm, "state"));
        cli_table_add(&table, text_of(vm, "node"));
        cli_table_add(&table, text_of(vm, "epoch"));
        cli_table_add(&table, age_of(vm, "since_ms", buf, sizeof buf));
        cli_table_add(&table, reason_of(vm, buf, sizeof buf));
    }
    cli_table_print(&table, call->colour, out);
}

/* ---- status ---- */

static void render_proof(struct json_object *proof, FILE *out)
{
    struct json_object *waiting = array_of(proof, "waiting_for"), *deadline;
    char buf[32];

    fputs("  ", out);
    cli_print_clean(text_of(proof, "node"), out);
    fputs(" (incarnation ", out);
    cli_print_clean(text_of(proof, "incarnation"), out);
    fputs("): waits for ", out);
    for (size_t i = 0; i < count_of(waiting); i++) {
        struct json_object *item = json_object_array_get_idx(waiting, i);

        fputs(i > 0 ? " or " : "", out);
        cli_print_clean(item != NULL ? json_object_get_string(item) : "-", out);
    }
    fputs(count_of(waiting) == 0 ? "unknown" : "", out);
    fputs("\n    by ", out);
    cli_print_clean(text_of(proof, "executor"), out);
    if (has(proof, "deadline_ms", &deadline) && deadline != NULL) {
        int64_t left_ms = json_object_get_int64(deadline);

        if (left_ms >= 0) {
            fprintf(out, ", deadline in %s", cli_age(left_ms, buf, sizeof buf));
        } else {
            fprintf(out, ", overdue by %s", cli_age(-(left_ms + 1), buf, sizeof buf));
        }
    }
    fputc('\n', out);
    if (strcmp(text_of(proof, "last_error"), "-") != 0) {
        print_line("    last error: ", text_of(proof, "last_error"), out);
    }
    if (strcmp(text_of(proof, "shorten"), "-") != 0) {
        print_line("    to shorten: ", text_of(proof, "shorten"), out);
    }
}

static void render_headline(const struct cli_call *call, struct json_object *root,
                            const char *word, FILE *out)
{
    const char *on = call->colour ? cli_state_colour(word) : "";

    fputs("cluster ", out);
    cli_print_clean(text_of(root, "cluster"), out);
    fprintf(out, ": %s%s%s, ring ", on, word, on[0] != '\0' ? CLI_COLOUR_OFF : "");
    cli_print_clean(text_of(root, "ring"), out);
    fputs(", coordinator ", out);
    cli_print_clean(text_of(root, "coordinator"), out);
    fputs(", seen from ", out);
    cli_print_clean(text_of(root, "node"), out);
    fputc('\n', out);
}

enum cli_exit cli_render_status(const struct cli_call *call, const char *json, FILE *out)
{
    struct json_object *root = parse(json), *problems, *proofs, *nodes, *vms;
    enum cli_exit r;

    if (root == NULL) {
        return CLI_FAILED;
    }
    r = !is_true(root, "quorate")   ? CLI_NO_QUORUM
        : is_true(root, "degraded") ? CLI_FAILED
                                    : CLI_DONE;
    if (!call->is_set[CLI_OPT_JSON]) {
        problems = array_of(root, "problems");
        proofs = array_of(root, "proofs");
        nodes = array_of(root, "nodes");
        vms = array_of(root, "vms");
        render_headline(call, root,
                        r == CLI_DONE     ? "healthy"
                        : r == CLI_FAILED ? "degraded"
                                          : "no-quorum",
                        out);
        for (size_t i = 0; i < count_of(problems); i++) {
            struct json_object *problem = json_object_array_get_idx(problems, i);

            print_line("  ! ", problem != NULL ? json_object_get_string(problem) : "-",
                       out);
        }
        if (r == CLI_NO_QUORUM && count_of(problems) == 0) {
            fputs("  ! this node is without a majority: nothing is started or moved\n",
                  out);
        }
        fputc('\n', out);
        render_node_table(call, nodes, text_of(root, "node"), out);
        fputc('\n', out);
        if (count_of(vms) > 0) {
            render_vm_table(call, vms, out);
        } else {
            fputs("no VMs; gemel vm apply -f FILE defines one\n", out);
        }
        if (count_of(proofs) > 0) {
            fputs("\npending proofs of death:\n", out);
        }
        for (size_t i = 0; i < count_of(proofs); i++) {
            render_proof(json_object_array_get_idx(proofs, i), out);
        }
    }
    json_object_put(root);
    return r;
}

/* Lists are {"nodes": [...]}, or the whole status document. */
enum cli_exit cli_render_nodes(const struct cli_call *call, const char *json, FILE *out)
{
    struct json_object *root = parse(json), *node;

    if (root == NULL) {
        return CLI_FAILED;
    }
    render_node_table(call, array_of(root, "nodes"),
                      has(root, "node", &node) ? text_of(root, "node") : NULL, out);
    json_object_put(root);
    return CLI_DONE;
}

/* Ready to be copied under `cluster:`; the rest are comments of YAML. */
enum cli_exit cli_render_cpu(const struct cli_call *call, const char *json, FILE *out)
{
    struct json_object *root = parse(json), *nodes, *loses;
    bool good;

    (void)call;
    if (root == NULL) {
        return CLI_FAILED;
    }
    nodes = array_of(root, "nodes");
    good = has(root, "model", &loses) && json_object_get_string_len(loses) > 0;
    if (good) {
        fputs("  cpu_models:\n    - name: baseline\n      model: \"", out);
        cli_print_clean(text_of(root, "model"), out);
        fputs("\"\n", out);
    } else {
        cli_complain("no CPU model is common to the nodes: %s", text_of(root, "error"));
    }
    for (size_t i = 0; i < count_of(nodes); i++) {
        struct json_object *node = json_object_array_get_idx(nodes, i);

        fputs("# ", out);
        cli_print_clean(text_of(node, "name"), out);
        if (!has(node, "model", &loses)) {
            fputs(": not counted: it is not here, or has not told its CPU model", out);
        } else if (!good) {
            fputs(": ", out);
            cli_print_clean(text_of(node, "model"), out);
        } else if (has(node, "loses", &loses) && json_object_get_string_len(loses) == 0) {
            fputs(" loses nothing", out);
        } else {
            fputs(" loses ", out);
            cli_print_clean(text_of(node, "loses"), out);
        }
        fputc('\n', out);
    }
    json_object_put(root);
    return good ? CLI_DONE : CLI_FAILED;
}

enum cli_exit cli_render_vms(const struct cli_call *call, const char *json, FILE *out)
{
    struct json_object *root = parse(json);

    if (root == NULL) {
        return CLI_FAILED;
    }
    render_vm_table(call, array_of(root, "vms"), out);
    json_object_put(root);
    return CLI_DONE;
}

/* ---- one object ---- */

static void print_time(const char *label, struct json_object *object, const char *key,
                       FILE *out)
{
    struct json_object *value;
    char when[64] = "unknown";
    struct tm local;
    time_t s;

    if (has(object, key, &value) && value != NULL) {
        s = (time_t)(json_object_get_int64(value) / 1000);
        if (localtime_r(&s, &local) != NULL) {
            strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S %z", &local);
        }
    }
    fprintf(out, "%-12s %s\n", label, when);
}

/* "0.1.0, build 0123456789ab; another one is installed: ..." */
static void print_vmm(struct json_object *object, FILE *out)
{
    const char *build = text_of(object, "vmm_build");
    const char *upgrade = text_of(object, "vmm_upgrade");
    bool current = strcmp(build, text_of(object, "vmm_installed_build")) == 0;

    fprintf(out, "%-12s ", "gemel-vmm:");
    cli_print_clean(text_of(object, "vmm_version"), out);
    fprintf(out, ", build %.12s", build);
    if (strcmp(upgrade, "-") != 0) {
        fputs("; ", out);
        cli_print_clean(upgrade, out);
    } else if (current) {
        fputs(", as installed", out);
    }
    fputc('\n', out);
}

/* "n3, checkpoint, on; other domain: rack2" */
static void print_twin(struct json_object *twin, FILE *out)
{
    struct json_object *other;

    fprintf(out, "%-12s ", "twin:");
    cli_print_clean(text_of(twin, "node"), out);
    fputs(", ", out);
    cli_print_clean(text_of(twin, "mode"), out);
    fputs(", ", out);
    cli_print_clean(text_of(twin, "state"), out);
    if (has(twin, "session", &other)) {
        fputs(" (session here: ", out);
        cli_print_clean(text_of(twin, "session"), out);
        fputc(')', out);
    }
    if (has(twin, "other_domain", &other)) {
        fputs(is_true(twin, "other_domain") ? "; other domain: " : "; domain: ", out);
        cli_print_clean(text_of(twin, "failure_domain"), out);
    }
    fputc('\n', out);
}

static void print_copies_of(struct json_object *copies, bool counts, FILE *out)
{
    const char *between = "";

    for (size_t i = 0; i < json_object_array_length(copies); i++) {
        struct json_object *copy = json_object_array_get_idx(copies, i);

        if (is_true(copy, "counts") == counts) {
            fputs(between, out);
            cli_print_clean(text_of(copy, "node"), out);
            between = ", ";
        }
    }
    if (between[0] == '\0') {
        fputs("none", out);
    }
}

/* "count: n1, n2; do not count: n3" */
static void print_copies(struct json_object *copies, FILE *out)
{
    fprintf(out, "%-12s count: ", "copies:");
    print_copies_of(copies, true, out);
    fputs("; do not count: ", out);
    print_copies_of(copies, false, out);
    fputc('\n', out);
}

static void print_diverged(struct json_object *diverged, FILE *out)
{
    fprintf(out, "%-12s lockstep was given up, times: %s%s\n",
            "diverged:", text_of(diverged, "sessions"),
            is_true(diverged, "stepped_down") ? "; in checkpoint mode since" : "");
    print_time("  at:", diverged, "last_t_ms", out);
    fprintf(out, "%-12s ", "  why:");
    cli_print_clean(text_of(diverged, "why"), out);
    fputc('\n', out);
}

/* "key: value" lines for every key that is not shown otherwise; nested values as JSON. */
static void render_pairs(struct json_object *object, const char *const *left_out,
                         FILE *out)
{
    json_object_object_foreach(object, key, value)
    {
        bool shown = true;
        size_t len = strlen(key);
        struct json_object *text;
        char age[32];

        for (size_t i = 0; left_out[i] != NULL; i++) {
            shown = shown && strcmp(key, left_out[i]) != 0;
        }
        if (!shown) {
            continue;
        }
        if (strcmp(key, "since_ms") == 0) {
            fprintf(out, "%-12s %s\n", "since:", age_of(object, key, age, sizeof age));
            continue;
        }
        if (strcmp(key, "guest_event_t_ms") == 0) {
            print_time("  at:", object, key, out);
            continue;
        }
        if (strcmp(key, "migration") == 0 && has(value, "text", &text)) {
            fprintf(out, "%-12s ", "migration:");
            cli_print_clean(text_of(value, "text"), out);
            if (has(value, "percent", &text)) {
                fprintf(out, " (%d %%)", json_object_get_int(text));
            }
            fputc('\n', out);
            continue;
        }
        if (strcmp(key, "twin") == 0 && has(value, "node", &text)) {
            print_twin(value, out);
            continue;
        }
        if (strcmp(key, "copies") == 0 && json_object_is_type(value, json_type_array)) {
            print_copies(value, out);
            continue;
        }
        if (strcmp(key, "diverged") == 0 && has(value, "sessions", &text)) {
            print_diverged(value, out);
            continue;
        }
        if (strcmp(key, "vmm_version") == 0) {
            print_vmm(object, out);
            continue;
        }
        if (strncmp(key, "vmm_", 4) == 0) {
            continue; /* with the version */
        }
        if (strcmp(key, "next_try_ms") == 0) {
            fprintf(out, "%-12s in %s\n",
                    "next try:", age_of(object, key, age, sizeof age));
            continue;
        }
        cli_print_clean(key, out);
        fprintf(out, ":%*s ", len < 11 ? (int)(11 - len) : 0, "");
        cli_print_clean(text_of(object, key), out);
        fputc('\n', out);
    }
}

static enum cli_exit render_yaml_only(struct json_object *root, FILE *out)
{
    struct json_object *definition;
    const char *text;

    if (!has(root, "definition", &definition) || definition == NULL) {
        cli_complain("the agent sent no definition; gemel and gemeld may be of different "
                     "versions");
        return CLI_FAILED;
    }
    text = json_object_get_string(definition);
    cli_print_clean(text, out);
    if (text[0] != '\0' && text[strlen(text) - 1] != '\n') {
        fputc('\n', out);
    }
    return CLI_DONE;
}

/* Indented under its title. */
static void render_text(const char *title, const char *text, FILE *out)
{
    fprintf(out, "%s\n  ", title);
    for (const char *p = text; *p != '\0'; p++) {
        char c[2] = {*p, '\0'};

        cli_print_clean(c, out);
        fputs(*p == '\n' && p[1] != '\0' ? "  " : "", out);
    }
    if (text[0] != '\0' && text[strlen(text) - 1] != '\n') {
        fputc('\n', out);
    }
}

static enum cli_exit render_object(const struct cli_call *call, const char *json,
                                   FILE *out)
{
    static const char *const left_out[] = {"definition", "running_definition", NULL};
    struct json_object *root = parse(json), *definition;
    enum cli_exit r = CLI_DONE;

    if (root == NULL) {
        return CLI_FAILED;
    }
    if (call->is_set[CLI_OPT_YAML]) {
        r = render_yaml_only(root, out);
    } else {
        render_pairs(root, left_out, out);
        if (has(root, "running_definition", &definition) && definition != NULL) {
            render_text("running as:", json_object_get_string(definition), out);
        }
        if (has(root, "definition", &definition) && definition != NULL) {
            render_text("definition:", json_object_get_string(definition), out);
        }
    }
    json_object_put(root);
    return r;
}

enum cli_exit cli_render_vm(const struct cli_call *call, const char *json, FILE *out)
{
    return render_object(call, json, out);
}

enum cli_exit cli_render_snapshots(const struct cli_call *call, const char *json,
                                   FILE *out)
{
    static const struct cli_column columns[] = {{"SNAPSHOT", false, false},
                                                {"CREATED", false, false},
                                                {"STATE", false, false},
                                                {"MIB", true, false}};
    struct cli_table table = cli_table_make(columns, ARRAY_SIZE(columns));
    struct json_object *root = parse(json), *all, *bytes;
    char buf[CELL_MAX];

    if (root == NULL) {
        return CLI_FAILED;
    }
    all = array_of(root, "snapshots");
    for (size_t i = 0; i < count_of(all); i++) {
        struct json_object *one = json_object_array_get_idx(all, i);
        int64_t n = has(one, "bytes", &bytes) ? json_object_get_int64(bytes) : 0;

        snprintf(buf, sizeof buf, "%lld", (long long)((n + (1 << 20) - 1) >> 20));
        cli_table_add(&table, text_of(one, "name"));
        cli_table_add(&table, text_of(one, "created"));
        cli_table_add(&table, is_true(one, "state") ? "with state" : "disks only");
        cli_table_add(&table, buf);
    }
    cli_table_print(&table, call->colour, out);
    json_object_put(root);
    return CLI_DONE;
}

enum cli_exit cli_render_definition(const struct cli_call *call, const char *json,
                                    FILE *out)
{
    return render_object(call, json, out);
}

/* ---- events and explanations ---- */

enum cli_exit cli_render_events(const struct cli_call *call, const char *json, FILE *out)
{
    struct json_object *root = parse(json), *events, *t;

    (void)call;
    if (root == NULL) {
        return CLI_FAILED;
    }
    events = array_of(root, "events");
    for (size_t i = 0; i < count_of(events); i++) {
        struct json_object *event = json_object_array_get_idx(events, i);
        char when[64] = "unknown";

        if (has(event, "t_ms", &t) && t != NULL) {
            int64_t t_ms = json_object_get_int64(t);
            time_t seconds = t_ms / 1000;
            struct tm local;

            if (localtime_r(&seconds, &local) != NULL) {
                size_t len = strftime(when, sizeof when - 5, "%Y-%m-%d %H:%M:%S", &local);

                snprintf(when + len, sizeof when - len, ".%03d", (int)(t_ms % 1000));
            }
        }
        fprintf(out, "%s  ", when);
        cli_print_clean(text_of(event, "seq"), out);
        fputs("  ", out);
        cli_print_clean(text_of(event, "kind"), out);
        fputs("  ", out);
        cli_print_clean(text_of(event, "object"), out);
        fputs("  ", out);
        cli_print_clean(text_of(event, "text"), out);
        fputc('\n', out);
    }
    json_object_put(root);
    return CLI_DONE;
}

enum cli_exit cli_render_explain(const struct cli_call *call, const char *json, FILE *out)
{
    struct json_object *root = parse(json), *lines;

    (void)call;
    if (root == NULL) {
        return CLI_FAILED;
    }
    lines = array_of(root, "lines");
    print_line("", text_of(root, "object"), out);
    for (size_t i = 0; i < count_of(lines); i++) {
        struct json_object *line = json_object_array_get_idx(lines, i);

        print_line("  ", line != NULL ? json_object_get_string(line) : "-", out);
    }
    json_object_put(root);
    return CLI_DONE;
}
