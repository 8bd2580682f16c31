/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_fit.h"

#include <string.h>

#include "base/text.h"
#include "base/uuid.h"
#include "migrate/mig_text.h"

struct fit {
    const struct mig_hello *hello;
    const struct mig_here *here;
    struct mig_hello_ack *ack;
    uint64_t unlisted; /* blockers for which there was no place */
};

/* A new blocker; its sentence is to be added to what is returned. */
static struct mig_text block(struct fit *f, enum mig_code code, const char *object)
{
    struct mig_hello_ack *ack = f->ack;
    struct mig_blocker *blocker = &ack->blocker[MIG_BLOCKERS_MAX - 1];

    if (ack->blocker_count < MIG_BLOCKERS_MAX) {
        blocker = &ack->blocker[ack->blocker_count++];
    } else {
        f->unlisted++; /* and the last one makes place for MIG_NO_MORE */
    }
    blocker->code = code;
    text_copy(blocker->object, sizeof blocker->object, object);
    return mig_text_make(blocker->sentence, sizeof blocker->sentence);
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Protocol --------------------------------------------------------------------------- */
static void fit_protocol(struct fit *f)
{
    const struct mig_hello *h = f->hello;
    const struct mig_here *here = f->here;
    uint64_t missing = h->features_required & ~here->features & ~MIG_FEATURE_POSTCOPY;
    struct mig_text t;

    f->ack->version = smaller(h->version, here->version);
    f->ack->features = h->features & here->features;
    if (f->ack->version < h->version_min || f->ack->version < here->version_min) {
        t = block(f, MIG_NO_VERSION, "migration protocol");
        mig_text_add(&t,
                     "the source (%s, %s) speaks versions %u to %u, this node (%s) %u to "
                     "%u: bring both to releases that have one in common",
                     h->node, h->build, (uint64_t)h->version_min, (uint64_t)h->version,
                     here->build, (uint64_t)here->version_min, (uint64_t)here->version);
    }
    if (h->verify && (here->features & MIG_FEATURE_VERIFY) == 0) {
        missing |= MIG_FEATURE_VERIFY;
    }
    for (uint64_t bit = 0; bit < 64; bit++) {
        if ((missing >> bit & 1) != 0) {
            t = block(f, MIG_NO_FEATURE, "migration protocol");
            mig_text_add(&t,
                         "the source needs feature %u%s, which this node (%s) does not "
                         "have: upgrade it, or migrate without",
                         bit,
                         bit == 0   ? " (verify)"
                         : bit == 5 ? " (mirrored disks)"
                                    : "",
                         here->build);
        }
    }
}

static void fit_postcopy(struct fit *f)
{
    const struct mig_here *here = f->here;

    if ((f->hello->features_required & ~here->features & MIG_FEATURE_POSTCOPY) != 0) {
        struct mig_text t = block(f, MIG_NO_POSTCOPY, "post-copy");

        mig_text_add(
            &t, "post-copy cannot be done here: %s; migrate without --allow-postcopy",
            here->no_postcopy != NULL ? here->no_postcopy
                                      : "this node's version has it not");
    }
}

static void fit_connection(struct fit *f)
{
    const struct mig_hello *h = f->hello;
    const struct mig_here *here = f->here;
    struct mig_text t;

    if (!uuid_equal(h->vm, here->vm) || !uuid_equal(h->transfer, here->transfer)) {
        char theirs[UUID_STR_LEN + 1], ours[UUID_STR_LEN + 1];

        uuid_format(h->vm, theirs);
        uuid_format(here->vm, ours);
        t = block(f, MIG_NO_VM, "VM");
        mig_text_add(
            &t,
            "the source sends VM %s (%s), another transfer than the one of VM %s "
            "that is expected here: start the migration again",
            theirs, h->vm_name, ours);
    }
    if (h->plaintext == here->encrypted || (h->plaintext && !here->plaintext_allowed)) {
        t = block(f, MIG_NO_SECURITY, "connection");
        mig_text_add(&t,
                     "the source is set to %s, this node to %s: `insecure_lab` must be "
                     "the same on both, and false outside of labs",
                     h->plaintext ? "plaintext" : "TLS",
                     here->plaintext_allowed && !here->encrypted ? "plaintext" : "TLS");
    }
    if (h->stream_count != here->stream_count) {
        t = block(f, MIG_NO_STREAMS, "connection");
        mig_text_add(&t,
                     "the source counts %u data streams, this node %u: start the "
                     "migration again",
                     (uint64_t)h->stream_count, (uint64_t)here->stream_count);
    }
    if (here->busy) {
        t = block(f, MIG_NO_BUSY, "VM");
        mig_text_add(&t, "this instance has another transfer, or ran already: it serves "
                         "one only; start the migration again");
    }
}

/* Machine and processor -------------------------------------------------------------- */
static void fit_word(struct fit *f, enum mig_code code, const char *what,
                     const char *theirs, const char *ours)
{
    if (strcmp(theirs, ours) != 0) {
        struct mig_text t = block(f, code, what);

        mig_text_add(&t,
                     "%s is %s on the source and %s here: the VM's definition changed "
                     "while it ran; restart it, or undo the change, then migrate",
                     what, theirs[0] != '\0' ? theirs : "not told", ours);
    }
}

static void fit_count(struct fit *f, enum mig_code code, const char *what,
                      uint64_t theirs, uint64_t ours)
{
    if (theirs != ours) {
        struct mig_text t = block(f, code, what);

        mig_text_add(&t,
                     "the source has %u %s, the definition here %u: it changed while the "
                     "VM ran; restart the VM, or undo the change, then migrate",
                     theirs, what, ours);
    }
}

static void fit_machine(struct fit *f)
{
    const struct mig_hello *h = f->hello;
    const struct mig_here *here = f->here;

    fit_word(f, MIG_NO_MACHINE, "machine", h->machine, here->machine);
    fit_word(f, MIG_NO_TRANSPORT, "transport", h->transport, here->transport);
    fit_word(f, MIG_NO_BOOT, "boot", h->boot, here->boot);
    fit_count(f, MIG_NO_CPUS, "cpus", h->cpu_count, here->cpu_count);
}

static void fit_cpu(struct fit *f)
{
    struct cpu_model model;
    struct cpu_model_error why;
    char missing[160];
    struct mig_text t;

    if (f->hello->cpu_model[0] == '\0') {
        return;
    }
    if (!cpu_model_parse(f->hello->cpu_model, &model, &why)) {
        t = block(f, MIG_NO_CPU_MODEL, "cpu model");
        mig_text_add(&t, "the source's CPU model cannot be read: %s; upgrade this node",
                     why.text);
        return;
    }
    if (cpu_model_missing(&model, f->here->cpu, missing, sizeof missing) > 0) {
        t = block(f, MIG_NO_CPU_FEATURES, "cpu model");
        mig_text_add(&t,
                     "this host has not: %s. Give the VM a CPU model that all hosts have "
                     "(cpu_model, a baseline) and restart it",
                     missing);
    }
}

static void fit_kvm(struct fit *f)
{
    uint64_t missing = f->hello->kvm_needs & ~f->here->kvm_caps;

    for (unsigned bit = 0; bit < 64; bit++) {
        if ((missing >> bit & 1) != 0) {
            const char *name = mig_kvm_cap_str((enum mig_kvm_cap)bit);
            struct mig_text t = block(f, MIG_NO_KVM, "KVM");

            mig_text_add(&t,
                         "the VM's state needs %s of the kernel, which this host does "
                         "not have: boot a kernel that has it",
                         name != NULL ? name : "a capability that is not known here");
        }
    }
}

static void fit_tsc(struct fit *f)
{
    uint64_t want = f->hello->tsc_khz, have = f->here->tsc_khz;
    uint64_t apart = want > have ? want - have : have - want;

    if (want != 0 && !f->here->tsc_scaling &&
        apart * 1000000 > want * MIG_TSC_TOLERANCE_PPM) {
        struct mig_text t = block(f, MIG_NO_TSC, "clock");

        mig_text_add(&t,
                     "the guest counts time with a TSC of %u kHz, this host's has %u kHz "
                     "and cannot scale it: choose a host of the same frequency",
                     want, have);
    }
}

/* Memory ----------------------------------------------------------------------------- */
static void fit_memory(struct fit *f)
{
    const struct mig_hello *h = f->hello;
    const struct mig_here *here = f->here;
    struct mig_text t;

    if (h->ram_len != here->ram_len) {
        t = block(f, MIG_NO_RAM, "memory");
        mig_text_add(&t,
                     "the source has %b, the definition here %b: it changed while the VM "
                     "ran; restart the VM, or undo the change, then migrate",
                     h->ram_len, here->ram_len);
    } else if (h->ram_low_len != here->ram_low_len) {
        t = block(f, MIG_NO_RAM, "memory");
        mig_text_add(&t,
                     "the source maps %b of it below 4 GiB, this release %b: bring both "
                     "nodes to the same release",
                     h->ram_low_len, here->ram_low_len);
    }
    if (h->ram_file != here->ram_file) {
        t = block(f, MIG_NO_RAM, "memory");
        mig_text_add(&t, h->ram_file == 0
                             ? "the source sends its memory, but this instance was "
                               "started with one: start the upgrade again"
                             : "the memory that the source has handed over is not the "
                               "one that is here: start the upgrade again");
    }
    if (here->ram_populated) {
        return;
    }
    if (here->hugepages && here->hugepages_free < h->ram_len) {
        t = block(f, MIG_NO_HUGEPAGES, "memory");
        mig_text_add(&t,
                     "%b of huge pages are needed, %b are free: raise vm.nr_hugepages "
                     "here, or choose another node",
                     h->ram_len, here->hugepages_free);
    }
    if (!here->hugepages && here->memory_free < h->ram_len) {
        t = block(f, MIG_NO_MEMORY, "memory");
        mig_text_add(&t,
                     "%b are needed, %b are free: stop or move other VMs of this "
                     "node, or choose another",
                     h->ram_len, here->memory_free);
    }
}

/* Devices ---------------------------------------------------------------------------- */
static const struct mig_device *find_device(const struct mig_device *list, uint32_t count,
                                            const struct mig_device *wanted)
{
    for (uint32_t i = 0; i < count; i++) {
        if (list[i].instance == wanted->instance &&
            strcmp(list[i].name, wanted->name) == 0) {
            return &list[i];
        }
    }
    return NULL;
}

static struct mig_text block_device(struct fit *f, enum mig_code code,
                                    const struct mig_device *device)
{
    char object[MIG_NAME_MAX + 1];
    struct mig_text name = mig_text_make(object, sizeof object);

    mig_text_add(&name, "section %s.%u", device->name, (uint64_t)device->instance);
    return block(f, code, object);
}

static void fit_device(struct fit *f, const struct mig_device *sent)
{
    const struct mig_device *read =
        find_device(f->here->device, f->here->device_count, sent);
    struct mig_text t;

    if (read == NULL) {
        t = block_device(f, MIG_NO_DEVICE_UNKNOWN, sent);
        mig_text_add(&t, "the source has this device, the VM as it is made here has not: "
                         "bring both nodes to the same release and definition");
    } else if (sent->min_reader > read->version) {
        t = block_device(f, MIG_NO_DEVICE_TOO_NEW, sent);
        mig_text_add(&t,
                     "its state has version %u and needs a reader of version %u, this "
                     "node reads up to %u: upgrade this node",
                     (uint64_t)sent->version, (uint64_t)sent->min_reader,
                     (uint64_t)read->version);
    } else if (sent->version < read->min_reader) {
        t = block_device(f, MIG_NO_DEVICE_TOO_OLD, sent);
        mig_text_add(&t,
                     "its state has version %u, this node reads %u and later: migrate by "
                     "way of a node with a release between the two, or restart the VM",
                     (uint64_t)sent->version, (uint64_t)read->min_reader);
    }
}

static void fit_devices(struct fit *f)
{
    for (uint32_t i = 0; i < f->hello->device_count; i++) {
        fit_device(f, &f->hello->device[i]);
    }
    for (uint32_t i = 0; i < f->here->device_count; i++) {
        const struct mig_device *here = &f->here->device[i];

        if (find_device(f->hello->device, f->hello->device_count, here) == NULL) {
            struct mig_text t = block_device(f, MIG_NO_DEVICE_MISSING, here);

            mig_text_add(&t, "the VM as it is made here has this device, the source does "
                             "not send it: bring both nodes to the same release and "
                             "definition");
        }
    }
}

static struct mig_text block_disk(struct fit *f, enum mig_code code, uint32_t index)
{
    char object[MIG_NAME_MAX + 1];
    struct mig_text name = mig_text_make(object, sizeof object);

    mig_text_add(&name, "disk %u (%s)", (uint64_t)index, f->here->disk[index].name);
    return block(f, code, object);
}

static void fit_disk(struct fit *f, uint32_t index)
{
    const struct mig_disk *theirs = &f->hello->disk[index];
    const struct mig_here_disk *here = &f->here->disk[index];
    struct mig_text t;

    if (!here->reachable) {
        t = block_disk(f, MIG_NO_DISK_REACH, index);
        mig_text_add(&t,
                     "it cannot be reached here: %s. Mount or attach it, or choose "
                     "another node",
                     here->error);
    } else if (theirs->sectors != here->disk.sectors) {
        t = block_disk(f, MIG_NO_DISK_SIZE, index);
        mig_text_add(&t, "%b on the source, %b here: is it the same disk?",
                     theirs->sectors * 512, here->disk.sectors * 512);
    }
    if (theirs->mirrored != here->disk.mirrored) {
        t = block_disk(f, MIG_NO_DISK_COPY, index);
        mig_text_add(&t, "mirrored %s, not %s: say the same of it on both sides",
                     theirs->mirrored ? "on the source" : "here",
                     theirs->mirrored ? "here" : "on the source");
    }
    if (strcmp(theirs->serial, here->disk.serial) != 0) {
        t = block_disk(f, MIG_NO_DISK_SERIAL, index);
        mig_text_add(&t,
                     "serial %s on the source, %s here: undo the change, or restart "
                     "the VM",
                     theirs->serial, here->disk.serial);
    }
    if (theirs->read_only != here->disk.read_only) {
        t = block_disk(f, MIG_NO_DISK_MODE, index);
        mig_text_add(&t, "%s on the source, %s here: undo the change, or restart the VM",
                     theirs->read_only ? "read-only" : "writable",
                     here->disk.read_only ? "read-only" : "writable");
    }
}

static void fit_nic(struct fit *f, uint32_t index)
{
    const struct mig_nic *theirs = &f->hello->nic[index], *ours = &f->here->nic[index];
    char object[MIG_NAME_MAX + 1], hex[2][13];
    struct mig_text name = mig_text_make(object, sizeof object), t;

    if (memcmp(theirs->mac, ours->mac, sizeof ours->mac) == 0 &&
        theirs->queue_pairs == ours->queue_pairs && theirs->offloads == ours->offloads) {
        return;
    }
    mig_text_add(&name, "nic %u", (uint64_t)index);
    text_hex(hex[0], theirs->mac, sizeof theirs->mac);
    text_hex(hex[1], ours->mac, sizeof ours->mac);
    t = block(f, MIG_NO_NIC, object);
    mig_text_add(
        &t,
        "MAC %s, %u queue pairs, offloads %s on the source; MAC %s, %u, %s here: "
        "undo the change, or restart the VM",
        hex[0], (uint64_t)theirs->queue_pairs, theirs->offloads ? "on" : "off", hex[1],
        (uint64_t)ours->queue_pairs, ours->offloads ? "on" : "off");
}

static void fit_back_ends(struct fit *f)
{
    const struct mig_hello *h = f->hello;
    const struct mig_here *here = f->here;

    fit_count(f, MIG_NO_DISKS, "disks", h->disk_count, here->disk_count);
    for (uint32_t i = 0; i < smaller(h->disk_count, here->disk_count); i++) {
        fit_disk(f, i);
    }
    fit_count(f, MIG_NO_NICS, "nics", h->nic_count, here->nic_count);
    for (uint32_t i = 0; i < smaller(h->nic_count, here->nic_count); i++) {
        fit_nic(f, i);
    }
}

bool mig_fit(const struct mig_hello *hello, const struct mig_here *here,
             struct mig_hello_ack *ret_ack)
{
    struct fit f = {hello, here, ret_ack, 0};

    memset(ret_ack, 0, sizeof *ret_ack);
    text_copy(ret_ack->node, sizeof ret_ack->node, here->node);
    text_copy(ret_ack->build, sizeof ret_ack->build, here->build);
    ret_ack->memory_free = here->memory_free;
    fit_protocol(&f);
    fit_postcopy(&f);
    fit_connection(&f);
    fit_machine(&f);
    fit_cpu(&f);
    fit_kvm(&f);
    fit_tsc(&f);
    fit_memory(&f);
    fit_back_ends(&f);
    fit_devices(&f);
    if (f.unlisted > 0) {
        uint64_t more = f.unlisted + 1;
        struct mig_text t = block(&f, MIG_NO_MORE, "VM");

        mig_text_add(&t, "%u more reasons: mend the others first", more);
    }
    return ret_ack->blocker_count == 0;
}
