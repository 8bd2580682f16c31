/* SPDX-License-Identifier: Apache-2.0 */
/* Every limit of something that grows, in one place. Anyone may include this. */
#pragma once

/* Cluster */
#define NODES_MAX            64 /* CPG delivers at most 128 members per callback */
#define NODE_NAME_MAX        63
#define VMS_MAX              10000
#define VM_NAME_MAX          63
#define VM_DISKS_MAX         8
#define VM_NICS_MAX          8
#define PATH_LEN_MAX         512 /* of a path in a definition */
#define REASON_LEN_MAX       255
#define CPG_MSG_MAX          (64 * 1024)
#define CLAIM_UNEXCLUDED_MAX 16
#define EVENTS_KEPT          4096

/* Event loop, child processes */
#define LOOP_TIMERS_MAX 65536
#define SPAWN_FDS_MAX   32 /* fds passed to a child, besides its stdio */

/* Control sockets (base/proto_ctl) */
#define CTL_MSG_MAX      (64 * 1024)
#define CTL_CLIENTS_MAX  64
#define SNAPSHOT_ID_MAX  63 /* name of a snapshot */
#define CTL_FDS_MAX      16 /* open files with one message */
#define CTL_HANDSHAKE_MS 5000
#define PROTO_BUDGET_FACTOR                                                              \
    16 /* allocation budget of one unpack: 16 x length + 64 KiB                          \
        */
#define PROTO_BUDGET_EXTRA (64 * 1024)
#define PROTO_UNKNOWN_MAX  32

/* VM definition */
#define DEFINITION_MAX (48 * 1024) /* bytes of YAML, so that it fits one CPG message */

/* VMM */
#define GMEM_REGIONS_MAX      8
#define BUS_RANGES_MAX        64
#define VIRTQ_SIZE_MAX        256
#define VIRTIO_QUEUES_MAX     17
#define GUEST_CMDLINE_MAX     2047
#define BLK_REQUEST_MAX       (128 * 1024) /* bytes of one disk request */
#define STATE_SECTIONS_MAX    256
#define STATE_SECTION_LEN_MAX (1024 * 1024)
#define STATE_NAME_MAX        31
#define LOG_FILE_BYTES_MAX    (4 * 1024 * 1024)
#define LOG_FILES_KEPT        6

/* Live migration, as an operator may ask for it (gemel vm migrate) */
#define MIGRATE_DOWNTIME_MIN_MS 21 /* stopping and starting take about 20 */
#define MIGRATE_DOWNTIME_MAX_MS 60000
#define MIGRATE_DOWNTIME_MS     300
#define MIGRATE_SLOWDOWN_MAX    90          /* percent */
#define MIGRATE_RATE_MIN        (64 * 1024) /* bytes per second */

/* Fault tolerance */
#define FT_RECORD_MAX (256 * 1024)      /* bytes of a record of the log, all in */
#define FT_STATE_MAX  (4 * 1024 * 1024) /* registers and devices of a barrier */
#define FT_EXIT_DATA  4096              /* bytes of one exit: KVM's page for string I/O */
/* Writes that wait for disks to be free: bytes of a VM, and how many of one disk. */
#define HOLD_BYTES_MAX (64 * 1024 * 1024)
#define HOLD_OPS_MAX   16384

/* Fencing */
#define FENCE_OUTPUT_MAX   (16 * 1024) /* captured bytes of an agent's output */
#define FENCE_PARAMS_MAX   64
#define FENCE_REQUESTS_MAX 256
