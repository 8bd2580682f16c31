/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs that work on files: config check, apply, version. */
#include "programs/cli_local.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/version.h"
#include "cluster-conf/conf_check.h"
#include "cluster-conf/conf_load.h"
#include "programs/cli.h"
#include "programs/cli_agent.h"
#include "programs/cli_table.h"

int cli_file_read(const char *path, struct cli_file *ret_file)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t got = 1;
    int r = 0;

    if (fd < 0) {
        r = -errno;
        goto out;
    }
    while (got > 0 && len < sizeof ret_file->text - 1) {
        got = read(fd, ret_file->text + len, sizeof ret_file->text - 1 - len);
        if (got < 0 && errno != EINTR) {
            r = -errno;
            goto out;
        }
        len += got > 0 ? (size_t)got : 0;
        got = got < 0 ? 1 : got;
    }
    ret_file->text[len] = '\0';
    ret_file->len = len;
out:
    if (fd >= 0 && !is_stdin) {
        close(fd);
    }
    return r;
}

int cli_file_need(const char *path, struct cli_file *ret_file)
{
    int r = cli_file_read(path, ret_file);

    if (r < 0) {
        cli_complain("%s: %s; is the path right?", path, strerror(-r));
    }
    return r;
}

/* ---- config check ---- */

struct checked {
    const struct cli_call *call;
    struct json_object *report;   /* array; NULL without --json */
    struct conf_cluster *cluster; /* the first one of the files; NULL: none */
    struct conf_vm *vm[CLI_OBJECTS_MAX];
    struct conf_node *node[CLI_OBJECTS_MAX];
    size_t vm_count, node_count;
    bool failed;
};

static void report(struct checked *all, const char *path, const char *kind,
                   const char *name, const char *error)
{
    all->failed = all->failed || error != NULL;
    if (all->report != NULL) {
        struct json_object *entry = json_object_new_object();

        json_object_object_add(entry, "file", json_object_new_string(path));
        json_object_object_add(entry, "kind",
                               kind != NULL ? json_object_new_string(kind) : NULL);
        json_object_object_add(entry, "name",
                               name != NULL ? json_object_new_string(name) : NULL);
        json_object_object_add(entry, "ok", json_object_new_boolean(error == NULL));
        json_object_object_add(entry, "error",
                               error != NULL ? json_object_new_string(error) : NULL);
        json_object_array_add(all->report, entry);
    } else if (error != NULL) {
        cli_print_clean(error, stdout);
        putchar('\n');
    } else {
        cli_print_clean(path, stdout);
        printf(": ok (%s %s)\n", kind, name);
    }
}

static void check_vm(struct checked *all, const char *path, const struct cli_file *file)
{
    struct conf_vm *vm = malloc(sizeof *vm);
    struct conf_error error;
    int r;

    if (vm == NULL) {
        report(all, path, "vm", NULL, "out of memory");
        return;
    }
    r = conf_vm_load(file->text, file->len, path, vm, &error);
    if (r == 0) {
        for (size_t i = 0; r == 0 && i < all->vm_count; i++) {
            if (strcmp(all->vm[i]->name, vm->name) == 0) {
                memcpy(error.key, "name", sizeof "name");
                snprintf(
                    error.what, sizeof error.what,
                    "%s is defined by another of these files too; give one file per VM",
                    vm->name);
                r = -EINVAL;
            }
        }
        if (r == 0) {
            r = conf_vm_check_applied(vm, &error);
        }
        if (r == 0) {
            r = conf_vm_check_against(vm, (const struct conf_vm *const *)all->vm,
                                      all->vm_count, NULL, 0, &error);
        }
        if (r == 0 && all->cluster != NULL) {
            r = conf_vm_check_cluster(vm, all->cluster, &error);
        }
        if (r == 0 && all->call->is_set[CLI_OPT_VMROOT]) {
            r = conf_vm_check_files(vm, all->call->value[CLI_OPT_VMROOT], &error);
        }
        if (r < 0) {
            conf_error_locate_in(&error, file->text, file->len, path);
        }
        all->vm[all->vm_count++] = vm;
    } else {
        free(vm);
        vm = NULL;
    }
    report(all, path, "vm", vm != NULL ? vm->name : NULL, r < 0 ? error.text : NULL);
}

static void check_node(struct checked *all, const char *path, const struct cli_file *file)
{
    struct conf_node *node = malloc(sizeof *node);
    struct conf_error error;

    if (node == NULL || conf_node_load(file->text, file->len, path, node, &error) < 0) {
        report(all, path, "node", NULL, node == NULL ? "out of memory" : error.text);
        free(node);
        return;
    }
    all->node[all->node_count++] = node;
    report(all, path, "node", node->name, NULL);
}

static void check_cluster(struct checked *all, const char *path,
                          const struct cli_file *file)
{
    struct conf_cluster *cluster = malloc(sizeof *cluster);
    struct conf_error error;

    if (cluster == NULL ||
        conf_cluster_load(file->text, file->len, path, cluster, &error) < 0) {
        report(all, path, "cluster", NULL,
               cluster == NULL ? "out of memory" : error.text);
    } else {
        report(all, path, "cluster", cluster->name, NULL);
    }
    free(cluster);
}

/* Read before any is checked: VMs are checked against the cluster, whatever comes first.
 */
struct input {
    struct cli_file file;
    int r;
};

static void find_cluster(struct checked *all, const char *path, const struct input *input)
{
    const struct cli_file *file = &input->file;
    struct conf_cluster *cluster;
    struct conf_error error;
    enum conf_kind kind;

    if (all->cluster != NULL || input->r < 0 ||
        conf_kind_of(file->text, file->len, path, &kind, &error) < 0 ||
        kind != CONF_KIND_CLUSTER) {
        return;
    }
    cluster = malloc(sizeof *cluster);
    if (cluster != NULL &&
        conf_cluster_load(file->text, file->len, path, cluster, &error) == 0) {
        all->cluster = cluster;
    } else {
        free(cluster);
    }
}

static void check_file(struct checked *all, const char *path, const struct input *input)
{
    const struct cli_file *file = &input->file;
    struct conf_error error;
    enum conf_kind kind;
    char text[PATH_LEN_MAX + 256];

    if (input->r < 0) {
        snprintf(text, sizeof text, "%s: %s; is the path right?", path,
                 strerror(-input->r));
        report(all, path, NULL, NULL, text);
        return;
    }
    if (conf_kind_of(file->text, file->len, path, &kind, &error) < 0) {
        report(all, path, NULL, NULL, error.text);
        return;
    }
    switch (kind) {
    case CONF_KIND_NODE:
        check_node(all, path, file);
        break;
    case CONF_KIND_CLUSTER:
        check_cluster(all, path, file);
        break;
    case CONF_KIND_VM:
        check_vm(all, path, file);
        break;
    default:
        snprintf(text, sizeof text,
                 "%s:1: neither a node, a cluster nor a VM; begin with node:, cluster: "
                 "or name: (examples come with "
                 "the documentation)",
                 path);
        report(all, path, NULL, NULL, text);
    }
}

/* VMs that fit none of the nodes whose files were given. */
static void check_memory(struct checked *all)
{
    struct conf_capacity capacity[CLI_OBJECTS_MAX];
    struct conf_error error;

    for (size_t i = 0; i < all->node_count; i++) {
        capacity[i] =
            (struct conf_capacity){all->node[i]->name, all->node[i]->memory_bytes};
    }
    for (size_t i = 0; i < all->vm_count; i++) {
        if (conf_vm_check_against(all->vm[i], NULL, 0, capacity, all->node_count,
                                  &error) < 0) {
            char text[sizeof error.text + VM_NAME_MAX + 8];

            snprintf(text, sizeof text, "vm %s: %s", all->vm[i]->name, error.text);
            report(all, all->vm[i]->name, "vm", all->vm[i]->name, text);
        }
    }
}

enum cli_exit cli_run_config_check(const struct cli_call *call)
{
    struct checked all = {.call = call};
    struct input *input = calloc(call->object_count, sizeof *input);

    if (input == NULL) {
        cli_complain("out of memory");
        return CLI_FAILED;
    }
    if (call->is_set[CLI_OPT_JSON]) {
        all.report = json_object_new_array();
    }
    for (unsigned i = 0; i < call->object_count; i++) {
        input[i].r = cli_file_read(call->object[i], &input[i].file);
        find_cluster(&all, call->object[i], &input[i]);
    }
    for (unsigned i = 0; i < call->object_count; i++) {
        check_file(&all, call->object[i], &input[i]);
    }
    check_memory(&all);
    if (all.report != NULL) {
        printf("%s\n",
               json_object_to_json_string_ext(
                   all.report, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
        json_object_put(all.report);
    }
    for (size_t i = 0; i < all.vm_count; i++) {
        free(all.vm[i]);
    }
    for (size_t i = 0; i < all.node_count; i++) {
        free(all.node[i]);
    }
    free(all.cluster);
    free(input);
    return all.failed ? CLI_FAILED : CLI_DONE;
}

/* ---- apply ---- */

/* The check that the agent makes first too: errors here name the user's file. */
static enum cli_exit check_before_apply(const char *path, const struct cli_file *file,
                                        bool vm_wanted)
{
    struct conf_cluster *cluster = malloc(sizeof *cluster);
    struct conf_vm *vm = malloc(sizeof *vm);
    struct conf_error error;
    enum conf_kind kind;
    int r = -ENOMEM;

    snprintf(error.text, sizeof error.text, "out of memory");
    if (cluster != NULL && vm != NULL) {
        r = conf_kind_of(file->text, file->len, path, &kind, &error);
        if (r == 0 && kind != CONF_KIND_UNKNOWN && (kind == CONF_KIND_VM) != vm_wanted) {
            snprintf(error.text, sizeof error.text, "%s defines a %s; gemel %s", path,
                     kind == CONF_KIND_VM        ? "VM"
                     : kind == CONF_KIND_CLUSTER ? "cluster"
                                                 : "node",
                     kind == CONF_KIND_VM        ? "vm apply takes it"
                     : kind == CONF_KIND_CLUSTER ? "cluster apply takes it"
                                                 : "reads it from /etc/gemel/node.yaml");
            r = -EINVAL;
        }
        if (r == 0) {
            r = vm_wanted
                    ? conf_vm_load(file->text, file->len, path, vm, &error)
                    : conf_cluster_load(file->text, file->len, path, cluster, &error);
        }
    }
    if (r < 0) {
        fputs(error.text, stderr);
        fputc('\n', stderr);
        cli_complain("nothing was changed");
    }
    free(cluster);
    free(vm);
    return r < 0 ? CLI_FAILED : CLI_DONE;
}

/* The agent sees text, not a file: its "VM definition:4: ..." is line 4 of the file. */
static void name_the_file(struct cli_answer *answer, const char *path)
{
    static const char *const names[] = {"VM definition:", "cluster definition:"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        size_t len = strlen(names[i]);
        char *text;

        if (strncmp(answer->text, names[i], len) == 0 &&
            asprintf(&text, "%s:%s", path, answer->text + len) >= 0) {
            free(answer->text);
            answer->text = text;
            return;
        }
    }
}

enum cli_exit cli_run_apply(const struct cli_call *call)
{
    struct cli_file *file = malloc(sizeof *file);
    const char *path = call->value[CLI_OPT_FILE];
    struct cli_question question;
    struct cli_answer answer;
    char origin[PATH_LEN_MAX + 8];
    enum cli_exit r;

    if (file == NULL || cli_file_need(path, file) < 0) {
        free(file);
        return CLI_FAILED;
    }
    r = check_before_apply(path, file, strcmp(call->verb->name, "vm apply") == 0);
    if (r == CLI_DONE) {
        cli_question_of(call, &question);
        question.body = file->text;
        snprintf(origin, sizeof origin, "origin=%s", path);
        question.options[question.option_count++] = origin;
        cli_ask(&question, &answer);
        name_the_file(&answer, path);
        r = cli_show_answer(call, &answer);
        cli_answer_free(&answer);
    }
    free(file);
    return r;
}

enum cli_exit cli_run_version(const struct cli_call *call)
{
    if (call->is_set[CLI_OPT_JSON]) {
        printf("{\"version\":\"%s\",\"protocol\":%d}\n", GEMEL_BUILD_VERSION,
               PROTO_CTL_VERSION);
    } else {
        printf("gemel %s (control protocol %d)\n", GEMEL_BUILD_VERSION,
               PROTO_CTL_VERSION);
    }
    return CLI_DONE;
}
