/* SPDX-License-Identifier: Apache-2.0 */
/* An engine on the KVM of fake_kvm.h, with a ROM and a disk in temporary files, and the
 * waits that its tests need. One at a time. */
#pragma once

#include <sys/types.h>

#include "tests/unit/temp_path.h"
#include "tests/unit/vmm/fake_kvm.h"
#include "vmm/engine.h"

#define ENGINE_RIG_RAM (UINT64_C(1) << 20)

struct engine_rig {
    enum machine_transport transport; /* of what is opened next */
    struct engine *e;
    struct vmm_error err;
    char rom_path[TEMP_PATH_MAX], disk_path[TEMP_PATH_MAX];
};
extern struct engine_rig er;

/* Makes the files; `cpus` 0: lockstep. */
void er_setup(void);
void er_teardown(void);
/* Opened, without threads; a failure is the test's. */
void er_open(unsigned cpus, uint64_t ram_len);
/* Opened, with threads. */
void er_go(unsigned cpus, uint64_t ram_len);
void er_close(void);

/* A notice of that state within 10 s. */
bool er_wait(enum run_state state);
void er_start(uint64_t epoch);
void er_freeze(void);
void er_sleep_ms(unsigned ms);
bool er_runs_grow(unsigned from);
/* SAVE to a fresh memfd, which is given back rewound; -1: refused, er.err says why. */
int er_save(void);
/* Whole file: malloc'ed bytes. */
uint8_t *er_read(int fd, size_t *ret_len);
/* A memfd with these bytes, rewound. */
int er_file(const uint8_t *bytes, size_t len);
