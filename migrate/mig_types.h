/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control messages as plain values of bounded size, and the codes that both ends,
 * events, `gemel explain --json` and tests know: numbers are stable. The codec is
 * migrate/mig_msg. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cpu_model.h"
#include "base/limits.h"
#include "base/units.h"
#include "migrate/mig_wire.h"

#define MIG_TEXT_MAX     255 /* of a sentence for people */
#define MIG_NAME_MAX     63
#define MIG_DEVICES_MAX  STATE_SECTIONS_MAX
#define MIG_BLOCKERS_MAX 32
#define MIG_HASHES_MAX   1024 /* of one Verify */
#define MIG_WANT_MAX     64   /* pages of one Want */

/* Why a transfer cannot begin (below 64), or how it ended. */
enum mig_code {
    MIG_OK = 0,
    /* Blockers: the destination's answer to Hello */
    MIG_NO_VERSION = 1,
    MIG_NO_FEATURE = 2,
    MIG_NO_VM = 3, /* another VM is expected here */
    MIG_NO_SECURITY = 4,
    MIG_NO_STREAMS = 5,
    MIG_NO_MACHINE = 6,
    MIG_NO_TRANSPORT = 7,
    MIG_NO_CPUS = 8,
    MIG_NO_CPU_MODEL = 9,
    MIG_NO_CPU_FEATURES = 10,
    MIG_NO_KVM = 11, /* a KVM capability that the VM's state needs */
    MIG_NO_TSC = 12,
    MIG_NO_RAM = 13, /* length or layout differ */
    MIG_NO_MEMORY = 14,
    MIG_NO_HUGEPAGES = 15,
    MIG_NO_DEVICE_UNKNOWN = 16,
    MIG_NO_DEVICE_MISSING = 17,
    MIG_NO_DEVICE_TOO_NEW = 18,
    MIG_NO_DEVICE_TOO_OLD = 19,
    MIG_NO_DISKS = 20, /* another number of disks */
    MIG_NO_DISK_REACH = 21,
    MIG_NO_DISK_SIZE = 22,
    MIG_NO_DISK_SERIAL = 23,
    MIG_NO_DISK_MODE = 24, /* read-only here or there */
    MIG_NO_NICS = 25,
    MIG_NO_NIC = 26, /* MAC, queues or offloads differ */
    MIG_NO_BOOT = 27,
    MIG_NO_BUSY = 28,
    MIG_NO_MORE = 29, /* the list is full: there are more */
    MIG_NO_POSTCOPY = 30,
    MIG_NO_DISK_COPY = 31, /* mirrored on one side only */
    /* Ends */
    MIG_END_BLOCKED = 64,
    MIG_END_CANCELLED = 65,
    MIG_END_HANDSHAKE = 66, /* no connection or no answer in time */
    MIG_END_SILENCE = 67,   /* the other side said nothing for too long */
    MIG_END_TIMEOUT = 68,   /* the time the operator gave is over */
    MIG_END_LOST = 69,      /* a connection broke */
    MIG_END_PEER = 70,      /* the other side ended it: its text */
    MIG_END_PROTOCOL = 71,  /* something that may not come, or not now */
    MIG_END_FREEZE = 72,    /* the guest could not be stopped, or its disks not drained */
    MIG_END_GUEST_OFF = 73,
    MIG_END_CONVERGE = 74, /* the guest writes faster than it can be copied */
    MIG_END_STATE = 75,    /* the state cannot be loaded at the destination */
    MIG_END_VERIFY = 76,   /* memory differs */
    MIG_END_HOST = 77,     /* an error of this side's host: its text */
    MIG_END_AGENT = 78,    /* the agent ended this instance */
    MIG_END_HANDOVER = 79, /* frozen for too long before the destination was ready */
};
const char *mig_code_str(enum mig_code code); /* "cpu-features"; NULL: no such code */

/* KVM_CAP_* that a VM's state may depend on; bits of mig_hello.kvm_needs. */
enum mig_kvm_cap {
    MIG_KVM_XSAVE2 = 0,
    MIG_KVM_TSC_DEADLINE,
    MIG_KVM_IRQCHIP,
    MIG_KVM_ADJUST_CLOCK_REALTIME,
    MIG_KVM_READONLY_MEM,
    MIG_KVM_VCPU_EVENTS,
    MIG_KVM_MSI,
    MIG_KVM_COUNT,
};
const char *mig_kvm_cap_str(enum mig_kvm_cap cap);

/* Features that both ends must have to be used; bits. */
#define MIG_FEATURE_VERIFY   (UINT64_C(1) << 0)
#define MIG_FEATURE_DISCARD  (UINT64_C(1) << 1)
#define MIG_FEATURE_RAM_CRC  (UINT64_C(1) << 2) /* crc32c of page bytes, see mig_ram */
#define MIG_FEATURE_ZSTD     (UINT64_C(1) << 3) /* RAM payloads may be compressed */
#define MIG_FEATURE_POSTCOPY (UINT64_C(1) << 4) /* if pre-copy comes to no end */
#define MIG_FEATURE_DISKS    (UINT64_C(1) << 5) /* copies of mirrored disks (mig_disk) */
#define MIG_FEATURES_KNOWN                                                               \
    (MIG_FEATURE_VERIFY | MIG_FEATURE_DISCARD | MIG_FEATURE_RAM_CRC | MIG_FEATURE_ZSTD | \
     MIG_FEATURE_POSTCOPY | MIG_FEATURE_DISKS)

/* A section of the state stream: what will be sent (source), or can be read here. */
struct mig_device {
    char name[STATE_NAME_MAX + 1];
    uint16_t instance;
    uint16_t version;    /* as written; destination: the latest that is read */
    uint16_t min_reader; /* source: oldest reader; destination: oldest version read */
};

struct mig_disk {
    char serial[21];
    uint64_t sectors; /* of 512 bytes */
    bool read_only;
    bool shared;   /* reachable by several hosts, the definition says */
    bool mirrored; /* the destination has a copy of its own, which gets the contents */
};

struct mig_nic {
    uint8_t mac[6];
    uint32_t queue_pairs; /* from 1 */
    bool offloads;
};

/* Source, first. Everything that could make the destination refuse. */
struct mig_hello {
    uint32_t version, version_min;
    uint64_t features;          /* that the source can use */
    uint64_t features_required; /* without which it will not go on */
    struct uuid vm, transfer;
    char vm_name[VM_NAME_MAX + 1];
    char node[NODE_NAME_MAX + 1], build[MIG_NAME_MAX + 1];
    bool plaintext; /* this connection is not encrypted (insecure_lab) */
    uint32_t stream_count;
    char machine[MIG_NAME_MAX + 1];   /* "standard", "lockstep" */
    char transport[MIG_NAME_MAX + 1]; /* "pci", "mmio" */
    char boot[MIG_NAME_MAX + 1];      /* "firmware", "kernel" */
    uint32_t cpu_count;
    char cpu_model[CPU_MODEL_TEXT_MAX]; /* base/cpu_model; empty: the machine has none */
    uint64_t kvm_needs;                 /* bits of enum mig_kvm_cap */
    uint32_t tsc_khz; /* that the guest knows; 0: it does not depend on one */
    uint64_t ram_len, ram_low_len;
    bool hugepages; /* only told: a VM goes on with or without */
    uint32_t device_count, disk_count, nic_count;
    struct mig_device device[MIG_DEVICES_MAX];
    struct mig_disk disk[VM_DISKS_MAX];
    struct mig_nic nic[VM_NICS_MAX];
    bool verify;
    uint64_t downtime_ms;
    uint64_t ram_file; /* mig_memfd_id of memory that both have; 0: pages are sent */
};

struct mig_blocker {
    enum mig_code code;
    char object[MIG_NAME_MAX + 1];   /* "disk 0 (data)", "section virtio-blk.1" */
    char sentence[MIG_TEXT_MAX + 1]; /* what is wrong, and what to do */
};

/* Destination's answer; blocker_count 0: go on. */
struct mig_hello_ack {
    uint32_t version;  /* chosen */
    uint64_t features; /* chosen */
    char node[NODE_NAME_MAX + 1], build[MIG_NAME_MAX + 1];
    uint64_t memory_free; /* bytes */
    /* The transfer after which its copies of mirrored disks were equal last, as text;
     * empty: none that it knows of. */
    char copy_base[UUID_STR_LEN + 1];
    uint32_t blocker_count;
    struct mig_blocker blocker[MIG_BLOCKERS_MAX];
};

/* Source, when a round begins; what the destination may show. */
struct mig_round {
    uint32_t round; /* from 1 */
    bool last;      /* the guest is frozen */
    uint64_t pages_dirty;
    uint64_t bytes_sent, pages_sent; /* so far */
    uint64_t dirty_bps, bandwidth_bps;
    uint32_t throttle_permille;
    uint64_t eta_ms;
};

/* Destination, every 100 ms: liveness, and what has arrived so far. */
struct mig_stats {
    uint64_t bytes, pages;
    uint32_t round; /* the last one that ended on every stream */
};

/* Source, after its last round: hash of each 2 MiB block (mig_verify). */
struct mig_verify {
    uint32_t disk; /* 0: of memory; else of disk - 1 */
    uint32_t first_block, count;
    uint64_t hash[MIG_HASHES_MAX];
};

/* Source: everything was sent, STATE too. What must have arrived. */
struct mig_finish {
    uint32_t rounds;
    uint64_t ram_frames, pages, state_bytes, verify_blocks;
    uint64_t missing; /* post-copy: pages that come after Ready (mig_holes) */
};

/* Destination: everything received, checked, decoded and valid. */
struct mig_ready {
    uint64_t pages, check_us;
};

/* Post-copy, destination: somebody waits for these pages. */
struct mig_want {
    uint32_t count;
    uint64_t page[MIG_WANT_MAX];
};

/* Post-copy, destination: the guest runs there. */
struct mig_runs {
    uint64_t epoch;
};

/* Post-copy, destination: no page is missing any more. */
struct mig_all {
    uint64_t pages, faults;
};

struct mig_abort {
    enum mig_code code;
    char text[MIG_TEXT_MAX + 1];
};

enum mig_kind {
    MIG_KIND_INVALID = 0,
    MIG_HELLO,
    MIG_HELLO_ACK,
    MIG_ROUND,
    MIG_STATS,
    MIG_VERIFY,
    MIG_FINISH,
    MIG_READY,
    MIG_ABORT,
    MIG_WANT,
    MIG_RUNS,
    MIG_ALL,
    MIG_KIND_COUNT,
};
const char *mig_kind_str(enum mig_kind kind);

struct mig_msg {
    enum mig_kind kind;
    union {
        struct mig_hello hello;
        struct mig_hello_ack hello_ack;
        struct mig_round round;
        struct mig_stats stats;
        struct mig_verify verify;
        struct mig_finish finish;
        struct mig_ready ready;
        struct mig_abort abort;
        struct mig_want want;
        struct mig_runs runs;
        struct mig_all all;
    };
};
