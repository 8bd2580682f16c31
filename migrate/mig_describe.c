/* SPDX-License-Identifier: Apache-2.0 */
/* What this VM is made of, in the words of Hello. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/cpu_model.h"
#include "base/text.h"
#include "migrate/mig_extent.h"
#include "migrate/mig_memfd.h"
#include "migrate/mig_transfer_priv.h"
#include "vmm/engine_shape.h"

#define FEATURES (MIG_FEATURE_VERIFY | MIG_FEATURE_DISCARD | MIG_FEATURE_ZSTD)

static const char *machine_word(const struct engine_shape *shape)
{
    return shape->machine == MACHINE_STANDARD ? "standard" : "lockstep";
}

static const char *transport_word(const struct engine_shape *shape)
{
    return shape->machine == MACHINE_STANDARD && shape->transport == MACHINE_TRANSPORT_PCI
               ? "pci"
               : "mmio";
}

static uint32_t devices_of(const struct mig_transfer *t,
                           struct mig_device device[static MIG_DEVICES_MAX])
{
    struct machine_section section;
    uint32_t count = 0;

    while (count < MIG_DEVICES_MAX && engine_section(t->conf.engine, count, &section)) {
        text_copy(device[count].name, sizeof device[count].name, section.name);
        device[count].instance = section.instance;
        device[count].version = section.version;
        device[count].min_reader = section.min_reader;
        count++;
    }
    return count;
}

static void nics_of(const struct engine_shape *shape, struct mig_nic *nic)
{
    for (unsigned i = 0; i < shape->nic_count; i++) {
        memcpy(nic[i].mac, shape->nic[i].mac, sizeof nic[i].mac);
        nic[i].queue_pairs = shape->nic[i].queue_pairs;
        nic[i].offloads = shape->nic[i].offloads;
    }
}

static void disk_of(const struct engine_shape *shape, unsigned i, struct mig_disk *disk)
{
    text_copy(disk->serial, sizeof disk->serial, shape->disk[i].serial);
    disk->sectors = shape->disk[i].sectors;
    disk->read_only = shape->disk[i].read_only;
    disk->shared = true; /* the definition's directory is */
}

void mig_describe(const struct mig_transfer *t, struct mig_hello *ret_hello)
{
    struct engine_shape shape;

    engine_shape(t->conf.engine, &shape);
    memset(ret_hello, 0, sizeof *ret_hello);
    ret_hello->version = MIG_VERSION;
    ret_hello->version_min = MIG_VERSION_MIN;
    ret_hello->features =
        FEATURES & ~(t->params.no_compress ? MIG_FEATURE_ZSTD : UINT64_C(0));
    if (t->params.postcopy) {
        ret_hello->features |= MIG_FEATURE_POSTCOPY;
        ret_hello->features_required |= MIG_FEATURE_POSTCOPY;
    }
    ret_hello->vm = t->conf.vm;
    ret_hello->transfer = t->params.transfer;
    text_copy(ret_hello->vm_name, sizeof ret_hello->vm_name, t->conf.vm_name);
    text_copy(ret_hello->build, sizeof ret_hello->build, t->conf.build);
    ret_hello->plaintext = t->params.plaintext;
    ret_hello->stream_count = t->streams.count - 1;
    text_copy(ret_hello->machine, sizeof ret_hello->machine, machine_word(&shape));
    text_copy(ret_hello->transport, sizeof ret_hello->transport, transport_word(&shape));
    text_copy(ret_hello->boot, sizeof ret_hello->boot,
              shape.kernel ? "kernel" : "firmware");
    ret_hello->cpu_count = shape.cpu_count;
    if (shape.machine == MACHINE_STANDARD) {
        (void)cpu_model_print(&shape.cpu, ret_hello->cpu_model,
                              sizeof ret_hello->cpu_model);
    }
    ret_hello->ram_len = shape.ram_len;
    ret_hello->ram_low_len = shape.ram_low_len;
    ret_hello->hugepages = shape.hugepages;
    ret_hello->device_count = devices_of(t, ret_hello->device);
    ret_hello->disk_count = shape.disk_count;
    for (unsigned i = 0; i < shape.disk_count; i++) {
        disk_of(&shape, i, &ret_hello->disk[i]);
    }
    for (unsigned i = 0; i < shape.disk_count; i++) {
        bool mirrored = (t->params.mirror >> i & 1) != 0 && !shape.disk[i].read_only;

        ret_hello->disk[i].mirrored = mirrored;
        ret_hello->features |= mirrored ? MIG_FEATURE_DISKS : 0;
        ret_hello->features_required |= mirrored ? MIG_FEATURE_DISKS : 0;
    }
    ret_hello->nic_count = shape.nic_count;
    nics_of(&shape, ret_hello->nic);
    ret_hello->verify = t->params.verify;
    ret_hello->downtime_ms = t->params.downtime_ms;
    ret_hello->ram_file = t->params.memory_there ? mig_memfd_id(&t->ram) : 0;
}

/* This node's copy of a mirrored disk is what came with the request, not the disk as it
 * was when this VMM was made. */
static void copies_of(const struct mig_transfer *t, const struct engine_shape *shape,
                      struct mig_local *local)
{
    unsigned next = 0;

    for (unsigned i = 0; i < shape->disk_count && next < t->params.copy_count; i++) {
        struct mig_here_disk *here = &local->disk[i];
        uint64_t bytes = 0;
        int mode, r;

        if ((t->params.mirror >> i & 1) == 0 || shape->disk[i].read_only) {
            continue;
        }
        mode = fcntl(t->params.copy[next], F_GETFL);
        r = mig_extent_size(t->params.copy[next], &bytes);
        here->disk.mirrored = true;
        here->disk.sectors = bytes / 512;
        here->disk.read_only = mode < 0 || (mode & O_ACCMODE) != O_RDWR;
        here->reachable = r == 0;
        text_copy(here->error, sizeof here->error, r < 0 ? strerror(-r) : "");
        next++;
    }
}

void mig_describe_here(const struct mig_transfer *t, struct mig_local *local)
{
    struct mig_here *here = &local->here;
    struct engine_shape shape;

    engine_shape(t->conf.engine, &shape);
    memset(local, 0, sizeof *local);
    here->version = MIG_VERSION;
    here->version_min = MIG_VERSION_MIN;
    here->no_postcopy = shape.hugepages ? "its memory is of huge pages"
                        : t->uffd < 0   ? t->conf.no_uffd
                                        : NULL;
    here->features = FEATURES & (t->params.verify ? UINT64_MAX : ~MIG_FEATURE_VERIFY);
    here->features |= MIG_FEATURE_DISKS;
    here->features |= here->no_postcopy == NULL ? MIG_FEATURE_POSTCOPY : 0;
    here->vm = t->conf.vm;
    here->transfer = t->params.transfer;
    text_copy(here->build, sizeof here->build, t->conf.build);
    here->plaintext_allowed = t->params.plaintext;
    here->encrypted = !t->params.plaintext;
    here->stream_count = t->streams.count - 1;
    here->machine = machine_word(&shape);
    here->transport = transport_word(&shape);
    here->boot = shape.kernel ? "kernel" : "firmware";
    here->cpu_count = shape.cpu_count;
    local->cpu = shape.cpu;
    here->cpu = shape.machine == MACHINE_STANDARD ? &local->cpu : NULL;
    here->kvm_caps = UINT64_MAX;
    here->ram_len = shape.ram_len;
    here->ram_low_len = shape.ram_low_len;
    here->hugepages = shape.hugepages;
    here->ram_file = t->ram.kept ? mig_memfd_id(&t->ram) : 0;
    here->hugepages_free = shape.ram_len; /* a VMM without its huge pages did not begin */
    here->memory_free = UINT64_MAX; /* the agent has counted it; populate says the rest */
    here->device_count = devices_of(t, local->device);
    here->device = local->device;
    here->disk_count = shape.disk_count;
    here->disk = local->disk;
    for (unsigned i = 0; i < shape.disk_count; i++) {
        disk_of(&shape, i, &local->disk[i].disk);
        text_copy(local->disk[i].name, sizeof local->disk[i].name, shape.disk[i].path);
        local->disk[i].reachable = true; /* it was looked at when this VMM was made */
    }
    copies_of(t, &shape, local);
    here->nic_count = shape.nic_count;
    here->nic = local->nic;
    nics_of(&shape, local->nic);
}

void mig_blockers_text(const struct mig_hello_ack *ack, char *text, size_t cap)
{
    size_t used = 0;

    text[0] = '\0';
    if (ack->blocker_count > 0) {
        used = (size_t)snprintf(text, cap, "refused: "); /* agents know it by that */
    }
    for (uint32_t i = 0; i < ack->blocker_count && used + 4 < cap; i++) {
        int n = snprintf(text + used, cap - used, "%s%s", i > 0 ? "; " : "",
                         ack->blocker[i].sentence);

        used += n < 0 ? 0 : (size_t)n;
    }
}
