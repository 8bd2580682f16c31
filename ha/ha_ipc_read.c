/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs that read, or change nothing that is on record. */
#include "ha/ha_ipc_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster-conf/conf_scalar.h"
#include "ha/ha_text.h"

static void read_status(struct ha_ipc *ipc, qb_ipcs_connection_t *c)
{
    struct ha_daemon *d = ipc->daemon;
    uint32_t code = !d->agent.view.quorate ? EXIT_NO_QUORUM
                    : ha_json_healthy(d)   ? EXIT_DONE
                                           : EXIT_FAILED;
    char *json = ha_json_status(d);

    /* The CLI renders the document and derives its exit code from it. */
    (void)code;
    ha_ipc_reply(ipc, c, EXIT_DONE, "", json);
    free(json);
}

static void read_console(struct ha_ipc *ipc, qb_ipcs_connection_t *c, const char *name)
{
    struct ha_daemon *d = ipc->daemon;
    const struct ha_vm *vm = ha_state_vm_by_name(&d->agent.state, name);
    char path[PATH_LEN_MAX * 2], json[PATH_LEN_MAX * 2 + 32], text[256];

    if (vm == NULL) {
        ha_text_set(text, sizeof text, "no VM is named ", name, NULL);
        ha_ipc_reply(ipc, c, EXIT_NOT_FOUND, text, NULL);
    } else if (d->vmm == NULL || !ha_vmm_console(d->vmm, vm->uuid, path, sizeof path)) {
        const struct ha_node *owner = ha_state_node(&d->agent.state, vm->owner);

        ha_text_set(text, sizeof text, name, " does not run on this node; it is ",
                    ha_vm_state_str(vm->state), owner != NULL ? " on " : "",
                    owner != NULL ? owner->name : "", NULL);
        ha_ipc_reply(ipc, c, EXIT_FAILED, text, NULL);
    } else {
        snprintf(json, sizeof json, "{\"socket\":\"%s\"}", path);
        ha_ipc_reply(ipc, c, EXIT_DONE, "", json);
    }
}

/* No record of it: a VM that starts again has all its memory. */
static void balloon(struct ha_ipc *ipc, qb_ipcs_connection_t *c, const char *name,
                    const char *size)
{
    struct ha_daemon *d = ipc->daemon;
    const struct ha_vm *vm = ha_state_vm_by_name(&d->agent.state, name);
    const struct ha_node *owner;
    const char *why;
    uint64_t bytes;
    char text[256];

    if (vm == NULL) {
        ha_text_set(text, sizeof text, "no VM is named ", name, NULL);
        ha_ipc_reply(ipc, c, EXIT_NOT_FOUND, text, NULL);
        return;
    }
    if (size == NULL || conf_scalar_size(size, &bytes) != CONF_SCALAR_OK) {
        ha_text_set(text, sizeof text, name, ": balloon: ", size != NULL ? size : "",
                    " is not a size; write for example 512MiB, or 0B", NULL);
        ha_ipc_reply(ipc, c, EXIT_USAGE, text, NULL);
        return;
    }
    why =
        d->vmm != NULL ? ha_vmm_balloon_set(d->vmm, vm->uuid, bytes) : "no VM runs here";
    owner = ha_state_node(&d->agent.state, vm->owner);
    if (why != NULL) {
        ha_text_set(text, sizeof text, name, ": balloon: ", why, "; it is ",
                    ha_vm_state_str(vm->state), owner != NULL ? " on " : "",
                    owner != NULL ? owner->name : "", NULL);
        ha_ipc_reply(ipc, c, EXIT_REFUSED, text, NULL);
        return;
    }
    ha_text_set(text, sizeof text, name, ": asked to do without ", size,
                "; gemel vm show tells how far it is", NULL);
    ha_ipc_reply(ipc, c, EXIT_DONE, text, NULL);
}

bool ha_ipc_read(struct ha_ipc *ipc, qb_ipcs_connection_t *c, const Gemel__CliRequest *rq)
{
    struct ha_daemon *d = ipc->daemon;
    const char *since = ha_ipc_option(rq, "since"), *after = ha_ipc_option(rq, "after");

    if (strcmp(rq->verb, "status") == 0) {
        read_status(ipc, c);
    } else if (strcmp(rq->verb, "node list") == 0) {
        ha_ipc_reply_doc(ipc, c, ha_json_nodes(d), "node", "");
    } else if (strcmp(rq->verb, "vm list") == 0) {
        ha_ipc_reply_doc(ipc, c, ha_json_vms(d), "VM", "");
    } else if (strcmp(rq->verb, "vm show") == 0) {
        ha_ipc_reply_doc(ipc, c, ha_json_vm(d, rq->object), "VM", rq->object);
    } else if (strcmp(rq->verb, "events") == 0) {
        ha_ipc_reply_doc(ipc, c,
                         ha_json_events(d, since != NULL ? strtoull(since, NULL, 10) : 0,
                                        after != NULL ? strtoull(after, NULL, 10) : 0),
                         "", "");
    } else if (strcmp(rq->verb, "explain") == 0) {
        ha_ipc_reply_doc(ipc, c, ha_json_explain(d, rq->object), "VM or node",
                         rq->object);
    } else if (strcmp(rq->verb, "cluster cpu-baseline") == 0) {
        ha_ipc_reply_doc(ipc, c, ha_json_cpu(d), "", "");
    } else if (strcmp(rq->verb, "cluster show") == 0) {
        ha_ipc_reply_doc(ipc, c, ha_json_cluster(d), "cluster definition",
                         "yet: gemel cluster apply");
    } else if (strcmp(rq->verb, "vm balloon") == 0) {
        balloon(ipc, c, rq->object, ha_ipc_option(rq, "size"));
    } else if (strcmp(rq->verb, "vm console") == 0) {
        read_console(ipc, c, rq->object);
    } else {
        return false;
    }
    return true;
}
