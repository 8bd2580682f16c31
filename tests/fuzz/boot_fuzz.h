/* SPDX-License-Identifier: Apache-2.0 */
/* What fuzz_bzimage and fuzz_elf have in common: one load, and what must hold after it.
 */
#pragma once

#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/vmm/boot_rig.h"

enum { LOADED, WITH_INITRD, REFUSED };
FUZZ_GOALS("kernel loaded", "with an initrd", "refused")

static inline void boot_fuzz_check(const struct boot_entry *entry, int r,
                                   const struct boot_problem *problem)
{
    if (r < 0) {
        BUG_ON(problem->field == NULL || problem->text == NULL || problem->subject == 0);
        return;
    }
    BUG_ON(entry->mode != BOOT_LONG64 && entry->mode != BOOT_PVH32);
    BUG_ON(entry->rip < 0x100000 || entry->rip >= BOOT_RIG_RAM);
}

static inline void boot_fuzz(const uint8_t *bytes, size_t len, unsigned choice)
{
    static struct boot_rig rig;
    static uint8_t initrd[4096];
    struct boot_bytes kernel_bytes = {bytes, len, choice & 1 ? len / 2 + 1 : 0};
    struct boot_bytes initrd_bytes = {initrd, choice >> 4, 0};
    struct boot_source kernel = boot_rig_source(&kernel_bytes),
                       disk = boot_rig_source(&initrd_bytes);
    struct boot_conf conf = {.type = choice & 2 ? MACHINE_STANDARD : MACHINE_LOCKSTEP,
                             .ram_len = BOOT_RIG_RAM,
                             .cmdline = choice & 4 ? "console=ttyS0" : NULL,
                             .kernel = &kernel,
                             .initrd = choice & 8 ? &disk : NULL};
    struct boot_entry entry;
    struct boot_problem problem = {0};
    int r;

    if (rig.ram == NULL) {
        boot_rig_init(&rig);
    }
    r = boot_linux_load(&rig.gm, &conf, &entry, &problem);
    fuzz_reach(LOADED, r == 0);
    fuzz_reach(WITH_INITRD, r == 0 && conf.initrd != NULL);
    fuzz_reach(REFUSED, r < 0);
    boot_fuzz_check(&entry, r, &problem);
}
