/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel booted without firmware: into guest memory and registers, at start and at each
 * system reset. */
#include "vmm/acpi.h"
#include "vmm/boot_files.h"
#include "vmm/engine_priv.h"
#include "vmm/vcpu_boot.h"

int engine_boot_open(struct engine *e, struct vmm_error *err)
{
    if (!e->conf.kernel_path) {
        return 0;
    }
    return boot_files_open(e->conf.kernel_path, e->conf.initrd_path, &e->boot, err);
}

int engine_boot_load(struct engine *e, struct vmm_error *err)
{
    struct acpi_conf acpi;
    struct boot_entry entry;
    int r;

    if (!e->boot) {
        return 0;
    }
    machine_acpi_conf(e->machine, &acpi);
    r = boot_files_load(e->boot, &acpi, e->conf.cmdline, &e->vm.gmem, &entry, err);
    return r < 0 ? r : vcpu_boot_set(e->smp ? &e->cpu[0].vcpu : &e->vcpu, &entry, err);
}
