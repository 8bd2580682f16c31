/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a valid node, cluster or VM definition says, as plain values. Made by conf_load
 * (YAML, libyaml) and checked by conf_check; the rest of the cluster tower reads only
 * this. Sizes in bytes, times in ms.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/cpu_model.h"
#include "base/limits.h"
#include "base/units.h"

/* /etc/gemel/node.yaml: this node only. */
struct conf_node {
    char name[NODE_NAME_MAX + 1]; /* as in corosync.conf's nodelist */
    char vmroot[PATH_LEN_MAX]; /* directory of VM directories, shared; default /srv/gemel
                                */
    char state_dir[PATH_LEN_MAX]; /* default /var/lib/gemel */
    char run_dir[PATH_LEN_MAX];   /* default /run/gemel */
    char log_dir[PATH_LEN_MAX];   /* default /var/log/gemel */
    char vmm_path[PATH_LEN_MAX];  /* default: gemel-vmm of this installation */
    char bridge[16];              /* taps are enslaved to it by default */
    uint64_t memory_bytes;        /* for VMs; default: what the machine has less 10 % */
    char group[32];               /* who may use the CLI besides root; default "gemel" */
    uint32_t vm_uid_base; /* users of gemel-vmm processes: this one and those above it */
    bool insecure_lab;    /* no sandbox around a gemel-vmm */
};

enum conf_isolation {
    CONF_ISOLATION_DEFAULT = 0,
    CONF_ISOLATION_RUN,
    CONF_ISOLATION_FREEZE,
    CONF_ISOLATION_STOP
};
enum conf_after_fence { CONF_AFTER_FENCE_STAY_OFF = 0, CONF_AFTER_FENCE_ON };

#define CONF_FENCE_DEVICES_MAX (NODES_MAX * 2)
#define CONF_FENCE_LEVELS_MAX  4
#define CONF_FENCE_PER_LEVEL   4

struct conf_param {
    char key[32];
    char value[128];
};

/* One ClusterLabs fence agent with its parameters for one node (or port). Secrets are
 * named, never here: /etc/gemel/fence/NAME.secret holds key=value lines. */
struct conf_fence_device {
    char name[NODE_NAME_MAX + 1];
    char agent[64];               /* "fence_ipmilan" */
    char node[NODE_NAME_MAX + 1]; /* the node it switches off */
    unsigned level;      /* 1..CONF_FENCE_LEVELS_MAX; all devices of a level must succeed;
                            levels are alternatives */
    uint32_t timeout_ms; /* of one attempt; default 20000 */
    unsigned param_count;
    struct conf_param param[FENCE_PARAMS_MAX];
};

struct conf_cluster_node {
    char name[NODE_NAME_MAX + 1];
    uint32_t nodeid;
    char addr[64];
    /* What fails as one: a rack, a room. Empty: not known. */
    char failure_domain[NODE_NAME_MAX + 1];
};

#define CONF_CPU_MODELS_MAX 8

/* A CPU model that definitions of VMs may name. */
struct conf_cpu_model {
    char name[NODE_NAME_MAX + 1];
    char text[CPU_MODEL_TEXT_MAX]; /* base/cpu_model */
};

struct conf_cluster {
    char name[NODE_NAME_MAX + 1];
    unsigned node_count;
    struct conf_cluster_node node[NODES_MAX];
    uint32_t token_ms;             /* default 1000 */
    uint32_t token_coefficient_ms; /* default 0 */
    unsigned cpu_model_count;
    struct conf_cpu_model cpu_model[CONF_CPU_MODELS_MAX];
    bool crypto; /* default true; false only with insecure_lab */
    bool insecure_lab;
    uint32_t storage_settle_ms; /* design R2: time after a proof before old writes count
                                   as excluded; default 5000, the cautious side */
    char storage_type[16]; /* "nfs", "local-lab", ...: stated beside storage_settle_ms */
    enum conf_isolation isolation;
    enum conf_after_fence after_fence;
    uint32_t fence_retry_ms; /* pause between attempts */
    unsigned fence_budget;   /* nodes that may be fenced per 10 minutes before an operator
                                is asked; default max(1, (n-1)/2) */
    unsigned device_count;
    struct conf_fence_device device[CONF_FENCE_DEVICES_MAX];
};

/* What EIO and ENOSPC of a disk lead to. 0, not said: REPORT, and with
 * CONF_EXCLUDE_BY_EPOCH PAUSE. */
enum conf_disk_error { CONF_DISK_REPORT = 1, CONF_DISK_PAUSE, CONF_DISK_STOP };

enum conf_disk_format { CONF_DISK_RAW = 1, CONF_DISK_QCOW2 };

/* Who keeps an old owner's late writes away from a new one. */
enum conf_exclusion {
    CONF_EXCLUDE_BY_PROOF = 1, /* a fence, an acknowledged end, time (storage.settle) */
    CONF_EXCLUDE_BY_EPOCH,     /* its NBD server: storage/ */
};

struct conf_disk {
    char path[PATH_LEN_MAX]; /* relative to the VM directory, or absolute, or a URI */
    enum conf_disk_format format;
    char serial[21];
    bool read_only;
    bool mirrored; /* each node has its own copy at this path: ft/README.md */
    enum conf_exclusion exclusion;
    enum conf_disk_error on_error;
    uint64_t bps; /* bytes per second; 0: no limit */
    uint32_t iops;
};

/* In a checked definition. */
static inline bool conf_disk_is_nbd(const struct conf_disk *disk)
{
    return strstr(disk->path, "://") != NULL;
}

struct conf_nic {
    uint8_t mac[6];
    char bridge[16]; /* empty: the node's */
    uint16_t vlan;   /* 0: none */
    uint16_t mtu;    /* 0: the bridge's */
    uint16_t queues; /* queue pairs, of machine standard */
    uint64_t bps;    /* bytes per second, each direction; 0: no limit */
    uint32_t pps;
};

#define CONF_LOCKSTEP_SLOTS                                                              \
    8 /* disks and nics together, as MACHINE_VIRTIO_SLOTS of the VMM */
#define CONF_LOCKSTEP_MEMORY_MAX                                                         \
    UINT64_C(0xC0000000) /* RAM below the devices, as VM_RAM_MAX of the VMM */

#define CONF_STANDARD_CPUS_MAX 64
#define CONF_NIC_QUEUES_MAX    16 /* of all nics, as ENGINE_NIC_QUEUES_MAX of the VMM */

enum conf_machine { CONF_MACHINE_LOCKSTEP = 1, CONF_MACHINE_STANDARD };

enum conf_ft_mode { CONF_FT_OFF = 1, CONF_FT_AUTO, CONF_FT_LOCKSTEP, CONF_FT_CHECKPOINT };

/* When an output may leave; numbers as in base/proto_ctl.proto. */
enum conf_ft_commit {
    CONF_FT_RECEIVED = 0,
    CONF_FT_VERIFIED,
    CONF_FT_HYBRID,
    CONF_FT_EPOCHS, /* of checkpoint mode, and only there */
};

/* Is a twin in another failure domain than its primary? */
enum conf_ft_domains { CONF_FT_DOMAINS_PREFER = 0, CONF_FT_DOMAINS_REQUIRE };

struct conf_vm {
    char name[VM_NAME_MAX + 1];
    struct uuid uuid; /* none: made at first apply */
    enum conf_machine machine;
    unsigned cpus;
    char cpu[NODE_NAME_MAX + 1]; /* "host", or one of the cluster's models */
    uint64_t memory_bytes;
    bool hugepages;              /* of 2 MiB, of which memory is a multiple then */
    char firmware[PATH_LEN_MAX]; /* one of firmware and kernel; "": not given */
    char kernel[PATH_LEN_MAX];
    char initrd[PATH_LEN_MAX]; /* with kernel only */
    char cmdline[1024];
    unsigned disk_count, nic_count;
    struct conf_disk disk[VM_DISKS_MAX];
    struct conf_nic nic[VM_NICS_MAX];
    /* ha: */
    bool protect;               /* default true: restarted elsewhere */
    unsigned priority;          /* 0 first .. 4 last; default 2 */
    unsigned restart_max;       /* in place, per restart_window_ms, before it is tried
                                   elsewhere; default 3 */
    uint32_t restart_window_ms; /* default 600000 */
    uint32_t backoff_ms;       /* first pause after failure, doubled up to backoff_max_ms;
                                  default 1000 */
    uint32_t backoff_max_ms;   /* default 300000 */
    uint32_t stop_timeout_ms;  /* default 60000 */
    uint32_t start_timeout_ms; /* default 60000 */
    bool restart_on_guest_shutdown; /* default false: honour it */
    enum conf_isolation isolation;
    unsigned anti_affinity_count;
    char anti_affinity[8][VM_NAME_MAX + 1];
    unsigned preferred_count;
    char preferred[8][NODE_NAME_MAX + 1];
    /* ft: */
    enum conf_ft_mode ft_mode;     /* default off: gemel vm protect, or nothing */
    enum conf_ft_commit ft_commit; /* default verified */
    uint32_t ft_suspect_ms;        /* default 60 */
    unsigned ft_on_count;
    char ft_on[8][NODE_NAME_MAX + 1]; /* nodes of its twin, tried first, in this order */
    enum conf_ft_domains ft_domains;  /* default prefer */
};

/* Both nodes of a protected VM use the same one, and it is written to: bit i is disk i.
 */
uint32_t conf_vm_shared_disks(const struct conf_vm *vm);
/* Of these, those that nothing but a proof keeps an old owner away from. */
uint32_t conf_vm_unguarded_disks(const struct conf_vm *vm);
/* Its storage keeps old owners away from every disk that it writes to. */
bool conf_vm_is_guarded(const struct conf_vm *vm);
/* The first disk with which a VM cannot have a twin, with why. -1: there is none. */
int conf_vm_untwinnable(const struct conf_vm *vm, const char **ret_why);
bool conf_vm_has_mirrors(const struct conf_vm *vm);

/*
 * Where a definition is wrong, for people: "web1.yaml:12: memory: 10abc is not a size;
 * write for example 512MiB". `text` is the whole sentence; its parts are kept so that a
 * check without the file can be located in it later (conf_error_locate).
 */
struct conf_error {
    char text[512];
    unsigned line;  /* 0: not known */
    char key[96];   /* "nics[1].mac" */
    char what[320]; /* what is wrong; what to write instead */
};
