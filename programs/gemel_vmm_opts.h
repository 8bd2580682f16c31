/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of gemel-vmm. */
#pragma once

#include <stdbool.h>

#include "base/units.h"
#include "ft/ft_pos.h"
#include "vmm/engine.h"

struct vmm_opts {
    struct engine_conf engine; /* nic fds are opened later: see nic_tap */
    char nic_tap[VM_NICS_MAX][16];
    const char *name;
    struct uuid uuid, instance;
    const char *console_log, *console_socket;
    const char *debug_log;
    bool debug_stamps;
    const char *control_path;
    int control_fd; /* -1: none */
    const char *exit_file, *log_path;
    bool transport_given;
    struct cpu_model cpu; /* with cpu_given */
    bool cpu_given;
    bool insecure_lab; /* no sandbox */
    bool user_given;   /* uid and gid are to be used */
    uint32_t uid, gid;
    uint64_t memlock_bytes;   /* UINT64_MAX: as it is */
    bool postcopy;            /* a userfaultfd is wanted */
    int uffd_fd;              /* /dev/userfaultfd, opened by the starter; -1: none */
    const char *restore_path; /* with run: a saved state to go on from */
    const char *record_path, *replay_path;
    struct ft_pos until; /* with replay_path; UINT64_MAX exits: to the end */
    bool run, probe, cpu_model, kvm_can, json, verbose;
};

/* Prints what is wrong, or help or version. 0: go on; else the process exits with
 * *ret_exit_code. */
int vmm_opts_parse(int argc, char **argv, struct vmm_opts *ret_opts, int *ret_exit_code);
