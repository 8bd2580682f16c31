/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/os.h"
#include "base/uuid.h"
#include "cluster-conf/conf_check.h"
#include "cluster-conf/conf_load.h"
#include "ha/ha_cpuhost.h"
#include "ha/ha_daemon_priv.h"
#include "ha/ha_leftovers.h"
#include "ha/ha_text.h"

#define TICK_NS        (100 * NSEC_PER_MSEC)
#define STORE_RETRY_NS (5 * NSEC_PER_SEC)

/* Memory and definitions
 * -------------------------------------------------------------------------- */

static bool parse_vm(const char *yaml, size_t len, struct conf_vm *ret_conf)
{
    struct conf_error error;

    return conf_vm_load(yaml, len, NULL, ret_conf, &error) == 0;
}

static bool parse_cluster(const char *yaml, size_t len, struct conf_cluster *ret_conf)
{
    struct conf_error error;

    return conf_cluster_load(yaml, len, NULL, ret_conf, &error) == 0;
}

static bool check_cluster(void *ctx, const char *yaml, size_t len,
                          struct conf_cluster *ret_conf, char *text, size_t cap)
{
    struct conf_error error;

    (void)ctx;
    if (conf_cluster_load(yaml, len, "cluster definition", ret_conf, &error) < 0) {
        ha_text_set(text, cap, error.text, NULL);
        return false;
    }
    return true;
}

static bool check_vm(void *ctx, const struct ha_state *state, const char *yaml,
                     size_t len, struct conf_vm *ret_conf, char *text, size_t cap)
{
    struct conf_capacity nodes[NODES_MAX];
    const struct conf_vm **others = NULL;
    struct conf_error error;
    size_t other_count = 0, node_count = 0;
    bool ok = false;

    (void)ctx;
    if (conf_vm_load(yaml, len, "VM definition", ret_conf, &error) < 0) {
        ha_text_set(text, cap, error.text, NULL);
        return false;
    }
    others = calloc(state->vm_count + 1, sizeof(*others));
    if (others == NULL) {
        ha_text_set(text, cap, "out of memory", NULL);
        return false;
    }
    for (unsigned i = 0; i < state->vm_count; i++) {
        if (state->vm[i]->conf != NULL) {
            others[other_count++] = state->vm[i]->conf;
        }
    }
    for (unsigned i = 0; i < state->node_count; i++) {
        nodes[node_count++] =
            (struct conf_capacity){state->node[i].name, state->node[i].memory_bytes};
    }
    if (conf_vm_check_applied(ret_conf, &error) < 0 ||
        conf_vm_check_against(ret_conf, others, other_count, nodes, node_count, &error) <
            0 ||
        (state->cluster.conf != NULL &&
         conf_vm_check_cluster(ret_conf, state->cluster.conf, &error) < 0)) {
        conf_error_locate_in(&error, yaml, len, "VM definition");
        ha_text_set(text, cap, error.text, NULL);
    } else {
        ok = true;
    }
    free(others);
    return ok;
}

/* Events
 * -------------------------------------------------------------------------------------------
 */

void ha_daemon_event(struct ha_daemon *d, uint64_t seq, const char *text)
{
    struct ha_event *e = &d->event[d->event_next];

    e->n = ++d->events_seen;
    e->seq = seq;
    e->mono_ns = loop_now_ns();
    e->wall_ns = os_wall_ns();
    ha_text_set(e->text, sizeof e->text, text, NULL);
    d->event_next = (d->event_next + 1) % EVENTS_KEPT;
    d->event_count += d->event_count < EVENTS_KEPT;
    log_info("event seq=%" PRIu64 " %s", seq, text);
}

void ha_daemon_local_event(struct ha_daemon *d, const char *a, const char *b,
                           const char *c)
{
    char text[REASON_LEN_MAX + 1];

    ha_text_set(text, sizeof text, a, b, c, NULL);
    ha_daemon_event(d, 0, text);
}

/* The core's hands
 * ------------------------------------------------------------------------------------ */

static void op_mcast(void *ctx, const void *frame, size_t len)
{
    struct ha_daemon *d = ctx;
    int r = ha_corosync_mcast(d->corosync, frame, len);

    if (r < 0) {
        log_warn("cpg: message not queued: %s", strerror(-r));
    }
}

static void op_persist(void *ctx, enum ha_item_kind kind, const void *body, size_t len,
                       uint64_t version)
{
    struct ha_daemon *d = ctx;

    if (ha_store_append(d->store, kind, body, len, version) < 0) {
        d->store_failed = true;
    }
    if (ha_store_wants_rewrite(d->store)) {
        (void)ha_store_rewrite(d->store, &d->agent.state);
    }
}

static void op_persist_all(void *ctx)
{
    struct ha_daemon *d = ctx;

    if (ha_store_rewrite(d->store, &d->agent.state) < 0) {
        d->store_failed = true;
    }
    if (d->agent.state.cluster.definition != NULL) {
        ha_fencelink_config(d->fencelink, d->agent.state.cluster.definition);
    }
}

static void op_vm_start(void *ctx, const struct ha_vm *vm)
{
    ha_vmm_start(((struct ha_daemon *)ctx)->vmm, vm);
}

static void op_vm_stop(void *ctx, const struct ha_vm *vm)
{
    ha_vmm_stop(((struct ha_daemon *)ctx)->vmm, vm);
}

static void op_vm_save(void *ctx, const struct ha_vm *vm)
{
    ha_vmm_save(((struct ha_daemon *)ctx)->vmm, vm);
}

static void op_vm_move(void *ctx, const struct ha_vm *vm)
{
    ha_vmm_move(((struct ha_daemon *)ctx)->vmm, vm);
}

static void op_vm_twin(void *ctx, const struct ha_vm *vm)
{
    ha_vmm_twin(((struct ha_daemon *)ctx)->vmm, vm);
}

static void op_twin_look(void *ctx, const struct ha_twin_look *look)
{
    struct ha_daemon *d = ctx;
    const struct ha_vm *vm = ha_state_vm(&d->agent.state, look->vm);

    if (vm != NULL) {
        ha_vmm_twin_look(d->vmm, vm, look);
    }
    ha_ipc_twin_look(d->ipc, look);
}

static void op_vm_holder_dead(void *ctx, struct uuid vm, const char *node)
{
    ha_vmm_holder_dead(((struct ha_daemon *)ctx)->vmm, vm, node);
}

static void op_vm_discard(void *ctx, struct uuid vm, const char *why)
{
    ha_vmm_discard(((struct ha_daemon *)ctx)->vmm, vm, why);
}

static void op_fence_off(void *ctx, const struct ha_node *node)
{
    struct ha_daemon *d = ctx;

    ha_daemon_local_event(d, node->name, ": off asked of its fence device", "");
    ha_fencelink_off(d->fencelink, node,
                     (uint32_t)(d->agent.times.fence_total_ns / NSEC_PER_MSEC));
}

static void op_fence_cancel(void *ctx, const struct ha_node *node)
{
    ha_fencelink_cancel(((struct ha_daemon *)ctx)->fencelink, node);
}

static void op_fence_on(void *ctx, const struct ha_node *node)
{
    ha_fencelink_on(((struct ha_daemon *)ctx)->fencelink, node, uuid_random());
}

static void op_reincarnate(void *ctx)
{
    struct ha_daemon *d = ctx;

    if (!d->reincarnating) {
        ha_daemon_local_event(d, d->node.name,
                              ": held for dead while it lived; it begins a new life", "");
    }
    d->reincarnating = true;
}

/* The old life's VMs are gone: the agent ends, and its supervisor starts the next life.
 */
static void watch_reincarnation(struct ha_daemon *d)
{
    char path[PATH_LEN_MAX * 2], text[32];
    size_t len;

    if (!d->reincarnating || ha_vmm_count(d->vmm) != 0) {
        return;
    }
    snprintf(path, sizeof path, "%s/join", d->node.run_dir);
    len = (size_t)snprintf(text, sizeof text, "%" PRIu64 "\n",
                           d->agent.self.incarnation.join + 1);
    if (os_file_replace(path, text, len, 0600) < 0) {
        return; /* tried again by the tick */
    }
    log_warn("restarting under a new incarnation");
    d->failed = true;
    loop_stop(d->loop);
}

static void op_op_done(void *ctx, const struct ha_op_result *result)
{
    ha_ipc_op_done(((struct ha_daemon *)ctx)->ipc, result);
}

static void op_event(void *ctx, uint64_t version, const char *text)
{
    ha_daemon_event(ctx, version, text);
}

static void op_trace(void *ctx, const char *text)
{
    (void)ctx;
    log_info("trace %s", text);
}

static struct uuid op_new_uuid(void *ctx)
{
    (void)ctx;
    return uuid_random();
}

static const struct ha_agent_ops agent_ops = {
    .lease_renewed = ha_isolation_lease_renewed,
    .early_off = ha_suspect_early_off,
    .mcast = op_mcast,
    .persist = op_persist,
    .persist_all = op_persist_all,
    .vm_start = op_vm_start,
    .vm_stop = op_vm_stop,
    .vm_save = op_vm_save,
    .vm_move = op_vm_move,
    .vm_twin = op_vm_twin,
    .twin_look = op_twin_look,
    .vm_holder_dead = op_vm_holder_dead,
    .vm_discard = op_vm_discard,
    .fence_off = op_fence_off,
    .fence_cancel = op_fence_cancel,
    .fence_on = op_fence_on,
    .reincarnate = op_reincarnate,
    .op_done = op_op_done,
    .event = op_event,
    .trace = op_trace,
    .new_uuid = op_new_uuid,
    .check_vm = check_vm,
    .check_cluster = check_cluster,
};

/* Local VMs
 * ------------------------------------------------------------------------------------------
 */

static void on_local_vm(void *ctx, const struct ha_local_vm *vm, bool gone)
{
    ha_agent_local_vm(&((struct ha_daemon *)ctx)->agent, vm, gone);
}

static void on_vm_report(void *ctx, const struct ha_vm_report *report)
{
    ha_agent_vm_report(&((struct ha_daemon *)ctx)->agent, report, loop_now_ns());
}

static const struct proof_table *vm_proofs(void *ctx)
{
    return &((struct ha_daemon *)ctx)->agent.state.proofs;
}

static bool vm_quorate(void *ctx)
{
    struct ha_daemon *d = ctx;

    return d->agent.phase == HA_PHASE_SYNCED && d->agent.view.quorate;
}

/* Its own cable, or nobody is heard. Of two nodes, silence does not tell which one. */
static bool vm_links_down(void *ctx)
{
    struct ha_daemon *d = ctx;
    unsigned others = 0, silent = 0;
    const char *address = NULL;

    for (unsigned i = 0; i < d->agent.state.node_count; i++) {
        const struct ha_node *node = &d->agent.state.node[i];

        if (node->nodeid != d->agent.self.nodeid) {
            others++;
            silent += d->suspected[i] || !ha_view_has(&d->agent.view, node->nodeid);
        }
    }
    for (unsigned i = 0; d->agent.state.cluster.conf != NULL &&
                         i < d->agent.state.cluster.conf->node_count;
         i++) {
        const struct conf_cluster_node *node = &d->agent.state.cluster.conf->node[i];

        address = node->nodeid == d->agent.self.nodeid ? node->addr : address;
    }
    return (others > 1 && silent == others) ||
           (address != NULL && os_net_carrier(address) == 0);
}

static uint64_t vm_settle_ns(void *ctx)
{
    const struct conf_cluster *conf = ((struct ha_daemon *)ctx)->agent.state.cluster.conf;

    return conf != NULL ? conf->storage_settle_ms * NSEC_PER_MSEC : UINT64_MAX;
}

static const struct ha_vm *vm_record(void *ctx, struct uuid vm)
{
    return ha_state_vm(&((struct ha_daemon *)ctx)->agent.state, vm);
}

const char *ha_daemon_cpu_model(const struct ha_daemon *d, const char *name)
{
    const struct conf_cluster *conf = d->agent.state.cluster.conf;

    for (unsigned i = 0; conf != NULL && i < conf->cpu_model_count; i++) {
        if (strcmp(conf->cpu_model[i].name, name) == 0) {
            return conf->cpu_model[i].text;
        }
    }
    return NULL;
}

static const char *vm_cpu_model(void *ctx, const char *name)
{
    return ha_daemon_cpu_model(ctx, name);
}

static void vm_step(void *ctx, const char *vm, const char *what)
{
    ha_daemon_local_event(ctx, vm, ": ", what);
}

static void vm_twin_looked(void *ctx, const struct ha_twin_look *look)
{
    ha_agent_twin_look(&((struct ha_daemon *)ctx)->agent, look);
}

static void vm_progress(void *ctx, struct uuid vm,
                        const struct ha_move_progress *progress)
{
    ha_agent_progress(&((struct ha_daemon *)ctx)->agent, vm, progress);
}

static const struct conf_cluster *vm_cluster(void *ctx)
{
    return ((struct ha_daemon *)ctx)->agent.state.cluster.conf;
}

static const struct ha_vmm_ops vmm_ops = {
    .local_vm = on_local_vm,
    .report = on_vm_report,
    .proofs = vm_proofs,
    .quorate = vm_quorate,
    .links_down = vm_links_down,
    .settle_ns = vm_settle_ns,
    .record = vm_record,
    .cluster = vm_cluster,
    .progress = vm_progress,
    .cpu_model = vm_cpu_model,
    .twin_looked = vm_twin_looked,
    .step = vm_step,
};

/* Corosync
 * --------------------------------------------------------------------------------------------
 */

static void after_change(struct ha_daemon *d)
{
    ha_suspect_send_proofs(d);
    ha_ipc_look(d->ipc);
}

static void on_view(void *ctx, const struct ha_view *view)
{
    struct ha_daemon *d = ctx;
    uint64_t now_ns = loop_now_ns();
    char text[REASON_LEN_MAX + 1];

    if (!d->agent_up) {
        return;
    }
    if (view->agreed) {
        snprintf(text, sizeof text, "view %x.%" PRIx64 ": %u members, %s",
                 view->ring.nodeid, view->ring.seq, view->member_count,
                 view->quorate ? "quorate" : "no quorum");
        ha_daemon_event(d, 0, text);
    }
    ha_agent_view(&d->agent, view, now_ns);
    ha_isolation_watch(d, now_ns);
    after_change(d);
}

static void on_deliver(void *ctx, uint32_t nodeid, const void *buf, size_t len)
{
    struct ha_daemon *d = ctx;
    uint64_t before = d->agent.state.cluster.version;

    if (!d->agent_up) {
        return;
    }
    ha_agent_deliver(&d->agent, nodeid, buf, len, loop_now_ns());
    if (d->agent.state.cluster.version != before &&
        d->agent.state.cluster.definition != NULL) {
        ha_fencelink_config(d->fencelink, d->agent.state.cluster.definition);
    }
    after_change(d);
}

static void on_lost(void *ctx)
{
    struct ha_daemon *d = ctx;
    struct ha_view none;

    memset(&none, 0, sizeof none);
    /* The links are looked at anew with the next connection, and what is up then is no
     * news: nobody would take the suspicion back. */
    memset(d->suspected, 0, sizeof d->suspected);
    if (d->agent_up) {
        ha_daemon_local_event(d, "corosync: gone; no quorum", "", "");
        ha_agent_view(&d->agent, &none, loop_now_ns());
        ha_isolation_watch(d, loop_now_ns());
    }
}

/* The disk may be well again; what failed is never taken for written, so all is written
 * anew. */
static void watch_store(struct ha_daemon *d, uint64_t now_ns)
{
    if (d->store_failed && now_ns >= d->store_retry_ns) {
        d->store_retry_ns = now_ns + STORE_RETRY_NS;
        (void)ha_store_rewrite(d->store, &d->agent.state);
    }
}

static void tick(void *data)
{
    struct ha_daemon *d = data;
    uint64_t now_ns = loop_now_ns(), due_ns, delay_ns = TICK_NS;

    d->tick_timer = 0;
    if (d->agent_up) {
        ha_isolation_want_lease(d);
        ha_agent_tick(&d->agent, now_ns);
        ha_isolation_watch(d, now_ns);
        watch_reincarnation(d);
        watch_store(d, now_ns);
        after_change(d);
        due_ns = ha_agent_due_ns(&d->agent);
        if (due_ns > now_ns && due_ns - now_ns < delay_ns) {
            delay_ns = due_ns - now_ns;
        }
    }
    loop_timer_add(d->loop, delay_ns, tick, d, &d->tick_timer);
}

/* Start
 * ------------------------------------------------------------------------------------------------
 */

static void store_persisted(void *ctx, uint64_t version)
{
    struct ha_daemon *d = ctx;

    if (d->store_failed) {
        ha_daemon_local_event(d, "record log: written anew, whole; it holds again", "",
                              "");
        d->store_failed = false;
    }
    ha_agent_persisted(&d->agent, version, loop_now_ns());
}

static void store_failed(void *ctx, int error)
{
    struct ha_daemon *d = ctx;

    if (!d->store_failed) {
        log_err(
            "record log: %s; this node acknowledges nothing until it can write the log "
            "anew; it tries every %d s: look after the disk of %s",
            strerror(-error), (int)(STORE_RETRY_NS / NSEC_PER_SEC), d->node.state_dir);
    }
    d->store_failed = true;
    d->store_retry_ns = loop_now_ns() + STORE_RETRY_NS;
}

static const struct ha_store_ops store_ops = {.persisted = store_persisted,
                                              .failed = store_failed};

static int load_item(void *ctx, enum ha_item_kind kind, const void *body, size_t len,
                     uint64_t version)
{
    struct ha_daemon *d = ctx;

    return ha_agent_load_item(&d->agent, kind, body, len, version, loop_now_ns());
}

/* One life of this node: the boot, and how often it joined in it after a clean stop. */
static struct incarnation read_incarnation(struct ha_daemon *d)
{
    struct incarnation inc = {.boot_id = os_boot_id(), .join = 1};
    char path[PATH_LEN_MAX * 2], text[32];
    size_t len;

    snprintf(path, sizeof path, "%s/join", d->node.run_dir);
    if (os_file_read(path, text, sizeof text - 1, &len) == 0) {
        inc.join = strtoull(text, NULL, 10);
    } else {
        len = (size_t)snprintf(text, sizeof text, "%" PRIu64 "\n", inc.join);
        (void)os_file_replace(path, text, len, 0600);
    }
    return inc;
}

static int open_store(struct ha_daemon *d)
{
    char path[PATH_LEN_MAX * 2], text[REASON_LEN_MAX * 2 + PATH_LEN_MAX * 2];
    enum ha_store_found found;
    int r;

    snprintf(path, sizeof path, "%s/records.log", d->node.state_dir);
    r = ha_store_open(d->loop, path, &store_ops, d, load_item, &found, text, sizeof text,
                      &d->store);
    if (r < 0) {
        log_err("%s: %s; the agent cannot work without it", path, strerror(-r));
        return r;
    }
    if (found == HA_STORE_TORN) {
        /* Amnesiac: what was read of a torn log does not count. */
        ha_state_clear(&d->agent.state);
        log_warn("%s", text);
    } else {
        log_info("%s", text);
    }
    return 0;
}

static void sweep_work(void *data)
{
    const struct ha_daemon *d = data;

    ha_leftovers_clones(d->node.vmroot, d->node.name);
}

static void sweep_done(void *data)
{
    (void)data;
}

static void on_connected(void *ctx, uint32_t nodeid)
{
    struct ha_daemon *d = ctx;
    struct ha_agent_self self = {.nodeid = nodeid, .memory_bytes = d->node.memory_bytes};
    char path[PATH_LEN_MAX * 2], why[REASON_LEN_MAX + 1] = "";
    int r;

    if (d->agent_up) {
        return;
    }
    ha_text_set(self.name, sizeof self.name, d->node.name, NULL);
    self.incarnation = read_incarnation(d);
    self.cpu_known = ha_cpuhost_read(d->node.vmm_path, &self.cpu, why, sizeof why) == 0;
    if (!self.cpu_known) {
        log_warn("the CPU model of this node is not known, so no VM with a named one is "
                 "placed here: %s",
                 why);
    }
    self.kvm_known =
        ha_cpuhost_kvm(d->node.vmm_path, &self.kvm_can, why, sizeof why) == 0;
    if (!self.kvm_known) {
        log_warn("what this node's KVM can is not known: %s", why);
    }
    ha_agent_init(&d->agent, &self, &d->mem, &agent_ops, d);
    snprintf(path, sizeof path, "%s/fenced.sock", d->node.run_dir);
    r = open_store(d);
    if (r == 0) {
        r = ha_vmm_new(d->loop, &d->node, &self, d->start_ns, &vmm_ops, d, &d->vmm);
    }
    if (r == 0) {
        r = ha_fencelink_new(d->loop, path, &self, &ha_suspect_fence_ops, d,
                             &d->fencelink);
    }
    if (r < 0) {
        log_err("cannot start: %s", strerror(-r));
        loop_stop(d->loop);
        return;
    }
    if (d->agent.state.cluster.definition != NULL) {
        ha_fencelink_config(d->fencelink, d->agent.state.cluster.definition);
    }
    r = ha_vmm_adopt(d->vmm);
    (void)worker_submit(d->worker, HA_DAEMON_WRITERS_KEY, sweep_work, sweep_done, d);
    if (r < 0) {
        log_err("%s/vm: %s; not starting without knowing what runs here", d->node.run_dir,
                strerror(-r));
        d->failed = true;
        loop_stop(d->loop);
        return;
    }
    d->agent_up = true;
}

static const struct ha_corosync_ops corosync_ops = {
    .view = on_view,
    .deliver = on_deliver,
    .suspect = ha_suspect_link,
    .lost = on_lost,
    .connected = on_connected,
};

int ha_daemon_new(struct loop *loop, const struct conf_node *node,
                  struct ha_daemon **ret_daemon)
{
    struct ha_daemon *d = calloc(1, sizeof *d);
    char path[PATH_LEN_MAX * 2];
    int r;

    if (d == NULL) {
        return -ENOMEM;
    }
    d->loop = loop;
    d->node = *node;
    d->start_ns = loop_now_ns();
    d->mem = (struct ha_mem){.alloc = malloc,
                             .free = free,
                             .parse_vm = parse_vm,
                             .parse_cluster = parse_cluster};
    d->agent.state.mem = &d->mem; /* until Corosync names this node */
    snprintf(path, sizeof path, "%s/vm", node->run_dir);
    r = os_mkdir_p(path, 0700);
    if (r == 0) {
        r = os_mkdir_p(node->state_dir, 0700);
    }
    if (r == 0) {
        r = os_mkdir_p(node->log_dir, 0755);
    }
    if (r == 0) {
        r = worker_new(loop, 2, &d->worker);
    }
    if (r == 0) {
        r = ha_ipc_new(d, &d->ipc);
    }
    if (r == 0) {
        r = ha_corosync_new(loop, &corosync_ops, d, &d->corosync);
    }
    if (r == 0) {
        r = loop_timer_add(loop, TICK_NS, tick, d, &d->tick_timer);
    }
    if (r < 0) {
        ha_daemon_free(d);
        return r;
    }
    *ret_daemon = d;
    return 0;
}

void ha_daemon_free(struct ha_daemon *d)
{
    if (d == NULL) {
        return;
    }
    loop_timer_del(d->loop, &d->tick_timer);
    worker_free(d->worker);
    ha_ipc_free(d->ipc);
    ha_corosync_free(d->corosync);
    ha_fencelink_free(d->fencelink);
    ha_vmm_free(d->vmm);
    ha_store_close(d->store);
    if (d->agent_up) {
        ha_agent_free(&d->agent);
    }
    free(d);
}
