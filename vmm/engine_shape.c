/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/engine_shape.h"

#include <string.h>

#include "vmm/engine_priv.h"

void engine_shape(const struct engine *e, struct engine_shape *ret_shape)
{
    const struct engine_conf *conf = &e->conf;

    memset(ret_shape, 0, sizeof *ret_shape);
    ret_shape->machine = conf->machine;
    ret_shape->transport = conf->transport;
    ret_shape->kernel = conf->kernel_path != NULL;
    ret_shape->cpu_count = e->smp ? e->cpu_count : 1;
    ret_shape->cpu = e->cpu_model;
    ret_shape->ram_len = conf->ram_len;
    ret_shape->ram_low_len = vm_ram_low(e->smp, conf->ram_len);
    ret_shape->hugepages = conf->hugepages;
    ret_shape->disk_count = conf->disk_count;
    ret_shape->nic_count = conf->nic_count;
    for (unsigned i = 0; i < conf->disk_count; i++) {
        ret_shape->disk[i].serial = conf->disk[i].serial;
        ret_shape->disk[i].path = conf->disk[i].path;
        ret_shape->disk[i].sectors = e->disk[i].info.sectors;
        ret_shape->disk[i].read_only = conf->disk[i].read_only;
    }
    for (unsigned i = 0; i < conf->nic_count; i++) {
        memcpy(ret_shape->nic[i].mac, conf->nic[i].mac, sizeof conf->nic[i].mac);
        ret_shape->nic[i].queue_pairs =
            conf->nic[i].queue_count > 1 ? conf->nic[i].queue_count : 1;
        ret_shape->nic[i].offloads = conf->nic[i].offloads;
    }
}

bool engine_section(const struct engine *e, unsigned index,
                    struct machine_section *ret_section)
{
    return machine_section(e->machine, index, ret_section);
}
