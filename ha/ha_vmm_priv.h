/* SPDX-License-Identifier: Apache-2.0 */
/* One local VM, shared by ha_vmm.c (its life) and ha_vmmlink.c (its process and socket).
 */
#pragma once

#include "base/os.h"
#include "base/proto_ctl.h"
#include "base/worker.h"
#include "ha/ha_vmm.h"

enum local_phase {
    LOCAL_STARTING = 1, /* claim and process under way */
    LOCAL_RUNNING,
    LOCAL_FROZEN,
    LOCAL_ENDING, /* the process is gone, the claim is being released */
};

struct ha_local {
    struct ha_local *next;
    struct ha_vmm *vmm;
    uint64_t id; /* key of its jobs */
    struct uuid vm, instance, attempt;
    char name[VM_NAME_MAX + 1];
    uint64_t epoch;
    uint32_t uid; /* user of its process, its alone on this node; 0: ours */
    enum local_phase phase;
    struct conf_vm *conf; /* NULL when adopted */
    struct claim claim;
    struct claim_halt halts[1];
    uint32_t halt_count;
    bool claim_pending, claim_won;
    bool linked;   /* hello exchanged */
    bool entered;  /* START or THAW sent */
    bool freezing; /* FREEZE sent, not answered */
    bool restart, thawing, stopping, discarded, adopted, ended, guest_shutdown;
    char
        guest_agent[16]; /* as the VMM last said; empty: its machine has no port for it */
    enum ha_vm_outcome outcome;
    char outcome_text[REASON_LEN_MAX + 1];
    struct os_child child;
    int fd;
    uint64_t seq;
    uint32_t lease_ms; /* the last renewal (R6) */
    uint64_t lease_from_ns;
    loop_timer timer, connect_timer;
    char dir[PATH_LEN_MAX * 2], json_path[PATH_LEN_MAX * 2],
        socket_path[PATH_LEN_MAX * 2];
    char console_path[PATH_LEN_MAX * 2], exit_path[PATH_LEN_MAX * 2];
    char log_dir[PATH_LEN_MAX * 2];
};

struct ha_vmm {
    struct loop *loop;
    struct conf_node node;
    struct ha_agent_self self;
    uint64_t agent_start_ns;
    const struct ha_vmm_ops *ops;
    void *ctx;
    struct worker *worker;      /* claims */
    struct worker *disk_worker; /* disks that do not answer hold up no claim */
    uint64_t next_id;
    struct ha_local *head;
};

struct ha_local *ha_local_new(struct ha_vmm *vmm, struct uuid vm, const char *name);
struct ha_local *ha_local_find(struct ha_vmm *vmm, struct uuid vm);
struct ha_local *ha_local_by_id(struct ha_vmm *vmm, uint64_t id); /* NULL: gone */
void ha_local_disk_path(const struct ha_local *l, const struct conf_disk *disk,
                        char *ret_path, size_t cap);
void ha_local_publish(struct ha_local *l, bool gone);
/* 0 or -errno, which it has logged. A VM that is not on record must not be told START:
 * after an agent restart its process would be taken for gone. */
int ha_local_save(struct ha_local *l);
void ha_local_running(struct ha_local *l);
/* An adopted one has said that it runs. */
void ha_local_found(struct ha_local *l);
void ha_local_frozen(struct ha_local *l, const char *why);
void ha_local_linked(struct ha_local *l);
/* The start did not work: ends the process if there is one, releases the claim, reports.
 */
void ha_local_fail(struct ha_local *l, const char *why);

/* Makes taps and the control socket and runs gemel-vmm; ret_why (REASON_LEN_MAX + 1) on
 * error. */
int ha_vmmlink_spawn(struct ha_local *l, char *ret_why);
void ha_vmmlink_connect(struct ha_local *l);
void ha_vmmlink_close(struct ha_local *l);
void ha_vmmlink_lease(struct ha_local *l, uint32_t lease_ms, uint64_t from_ns);
void ha_vmmlink_request(struct ha_local *l, Gemel__VmmRequest__Kind kind);
/* START, with the disks. */
void ha_vmmlink_start(struct ha_local *l, const int *disk_fds, unsigned count);

/* A free one of the node's range; 0: without a sandbox, or we are not root. */
uint32_t ha_vmmfiles_uid(const struct ha_vmm *vmm);
/* Makes its directory for logs and gives it to its user; why (REASON_LEN_MAX + 1) on
 * error. */
int ha_vmmfiles_logs(struct ha_local *l, char *why);
/* R1: with the claim taken and old writes excluded, opens the disks, off the loop thread,
 * and then sends START, or ends the start with the reason. */
int ha_vmmfiles_start(struct ha_local *l);
