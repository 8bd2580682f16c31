/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_fit.h"

#include <string.h>

#include "base/text.h"
#include "tests/unit/unit.h"

#define CPU                                                                              \
    "vendor=AuthenticAMD family=23 model=1 stepping=2 level=13 xlevel=2147483679 "       \
    "phys=40 linear=48 features=fpu,sse2"

static struct mig_hello hello;
static struct mig_here here;
static struct cpu_model cpu;
static struct mig_device device[MIG_DEVICES_MAX];
static struct mig_here_disk disk[2];
static struct mig_nic nic[1];
static struct mig_hello_ack ack;

/* A VM that fits. */
static void setup(void)
{
    struct cpu_model_error why;

    memset(&hello, 0, sizeof hello);
    memset(&here, 0, sizeof here);
    hello.version = hello.version_min = here.version = here.version_min = 1;
    hello.features = here.features = MIG_FEATURES_KNOWN;
    hello.vm.b[0] = here.vm.b[0] = 1;
    hello.transfer.b[0] = here.transfer.b[0] = 2;
    text_copy(hello.node, sizeof hello.node, "n1");
    text_copy(here.node, sizeof here.node, "n2");
    here.encrypted = true;
    hello.stream_count = here.stream_count = 2;
    text_copy(hello.machine, sizeof hello.machine, "standard");
    text_copy(hello.transport, sizeof hello.transport, "pci");
    text_copy(hello.boot, sizeof hello.boot, "kernel");
    here.machine = "standard";
    here.transport = "pci";
    here.boot = "kernel";
    hello.cpu_count = here.cpu_count = 2;
    text_copy(hello.cpu_model, sizeof hello.cpu_model, CPU);
    ck_assert(cpu_model_parse(CPU, &cpu, &why));
    here.cpu = &cpu;
    hello.kvm_needs = 5;
    here.kvm_caps = 7;
    hello.tsc_khz = here.tsc_khz = 2500000;
    hello.ram_len = here.ram_len = UINT64_C(5) << 30;
    hello.ram_low_len = here.ram_low_len = UINT64_C(3) << 30;
    here.memory_free = UINT64_C(6) << 30;
    hello.device_count = here.device_count = 2;
    hello.device[0] = (struct mig_device){"machine", 0, 1, 1};
    hello.device[1] = (struct mig_device){"virtio-blk", 1, 2, 1};
    memcpy(device, hello.device, sizeof device);
    here.device = device;
    hello.disk_count = here.disk_count = 2;
    for (unsigned i = 0; i < 2; i++) {
        hello.disk[i] = (struct mig_disk){"data", 2048, false, true, false};
        disk[i] = (struct mig_here_disk){
            .disk = hello.disk[i], .name = "disk0.img", .reachable = true};
    }
    here.disk = disk;
    hello.nic_count = here.nic_count = 1;
    hello.nic[0] = nic[0] = (struct mig_nic){{0x52, 0x54}, 2, true};
    here.nic = nic;
}

START_TEST(it_fits)
{
    ck_assert(mig_fit(&hello, &here, &ack));
    ck_assert_uint_eq(ack.blocker_count, 0);
    ck_assert_uint_eq(ack.version, 1);
    ck_assert_uint_eq(ack.features, MIG_FEATURES_KNOWN);
    ck_assert_str_eq(ack.node, "n2");
    ck_assert_uint_eq(ack.memory_free, here.memory_free);
}
END_TEST

/* One thing changed: exactly this blocker, on this object, whose sentence names it. */
#define BLOCKS(change, want_code, want_object, word)                                     \
    do {                                                                                 \
        setup();                                                                         \
        change;                                                                          \
        ck_assert_msg(!mig_fit(&hello, &here, &ack), #change);                           \
        ck_assert_msg(ack.blocker_count == 1, "%s: %u blockers", #change,                \
                      ack.blocker_count);                                                \
        ck_assert_msg(ack.blocker[0].code == (want_code), "%s: %s", #change,             \
                      mig_code_str(ack.blocker[0].code));                                \
        ck_assert_str_eq(ack.blocker[0].object, want_object);                            \
        ck_assert_msg(strstr(ack.blocker[0].sentence, word) != NULL, "%s: %s", #change,  \
                      ack.blocker[0].sentence);                                          \
    } while (0)

START_TEST(each_blocker_is_named)
{
    BLOCKS(here.version = here.version_min = 2, MIG_NO_VERSION, "migration protocol",
           "2 to 2");
    BLOCKS(hello.version = hello.version_min = 2, MIG_NO_VERSION, "migration protocol",
           "2 to 2");
    BLOCKS(hello.features_required = UINT64_C(1) << 40, MIG_NO_FEATURE,
           "migration protocol", "feature 40");
    BLOCKS((hello.verify = true, here.features = 0), MIG_NO_FEATURE, "migration protocol",
           "verify");
    BLOCKS(hello.vm.b[0]++, MIG_NO_VM, "VM", "expected here");
    BLOCKS(hello.transfer.b[0]++, MIG_NO_VM, "VM", "expected here");
    BLOCKS(hello.plaintext = true, MIG_NO_SECURITY, "connection", "insecure_lab");
    BLOCKS((hello.plaintext = true, here.encrypted = false), MIG_NO_SECURITY,
           "connection", "insecure_lab");
    BLOCKS((here.encrypted = false, here.plaintext_allowed = true), MIG_NO_SECURITY,
           "connection", "TLS");
    BLOCKS(hello.stream_count = 3, MIG_NO_STREAMS, "connection", "3 data streams");
    BLOCKS(here.busy = true, MIG_NO_BUSY, "VM", "serves one only");
    BLOCKS(here.machine = "lockstep", MIG_NO_MACHINE, "machine", "lockstep here");
    BLOCKS(here.transport = "mmio", MIG_NO_TRANSPORT, "transport", "mmio here");
    BLOCKS(here.boot = "firmware", MIG_NO_BOOT, "boot", "firmware here");
    BLOCKS(here.cpu_count = 4, MIG_NO_CPUS, "cpus", "2 cpus, the definition here 4");
    BLOCKS(text_copy(hello.cpu_model, 64, "features=nonsense"), MIG_NO_CPU_MODEL,
           "cpu model", "cannot be read");
    BLOCKS(text_copy(hello.cpu_model, sizeof hello.cpu_model, CPU ",avx2,bmi1"),
           MIG_NO_CPU_FEATURES, "cpu model", "avx2");
    BLOCKS(here.kvm_caps = 1, MIG_NO_KVM, "KVM", "KVM_CAP_IRQCHIP");
    BLOCKS(hello.kvm_needs |= UINT64_C(1) << 50, MIG_NO_KVM, "KVM", "not known here");
    BLOCKS(here.tsc_khz = 2501000, MIG_NO_TSC, "clock", "2501000 kHz");
    BLOCKS(here.tsc_khz = 0, MIG_NO_TSC, "clock", "0 kHz");
    BLOCKS(hello.ram_len -= MIG_PAGE, MIG_NO_RAM, "memory", "definition here 5 GiB");
    BLOCKS(here.ram_low_len -= MIG_PAGE, MIG_NO_RAM, "memory", "below 4 GiB");
    BLOCKS(hello.ram_file = 7, MIG_NO_RAM, "memory", "not the one that is here");
    BLOCKS(here.ram_file = 7, MIG_NO_RAM, "memory", "sends its memory");
    BLOCKS((hello.ram_file = 7, here.ram_file = 8), MIG_NO_RAM, "memory", "not the one");
    BLOCKS(here.memory_free = UINT64_C(3) << 29, MIG_NO_MEMORY, "memory",
           "5 GiB are needed, 1.5 GiB are free");
    BLOCKS((here.hugepages = true, here.hugepages_free = 1 << 21), MIG_NO_HUGEPAGES,
           "memory", "2 MiB are free");
    BLOCKS(here.device_count = 1, MIG_NO_DEVICE_UNKNOWN, "section virtio-blk.1",
           "the source has this device");
    BLOCKS(hello.device_count = 1, MIG_NO_DEVICE_MISSING, "section virtio-blk.1",
           "does not send it");
    BLOCKS(hello.device[1].min_reader = 3, MIG_NO_DEVICE_TOO_NEW, "section virtio-blk.1",
           "upgrade this node");
    BLOCKS(device[1].min_reader = 3, MIG_NO_DEVICE_TOO_OLD, "section virtio-blk.1",
           "reads 3 and later");
    BLOCKS(hello.disk_count = 1, MIG_NO_DISKS, "disks", "1 disks, the definition here 2");
    BLOCKS((disk[1].reachable = false, text_copy(disk[1].error, 64, "no such file")),
           MIG_NO_DISK_REACH, "disk 1 (disk0.img)", "no such file");
    BLOCKS(disk[0].disk.sectors *= 2, MIG_NO_DISK_SIZE, "disk 0 (disk0.img)",
           "1 MiB on the source, 2 MiB here");
    BLOCKS(disk[0].disk.serial[0] = 'D', MIG_NO_DISK_SERIAL, "disk 0 (disk0.img)",
           "Data");
    BLOCKS(disk[0].disk.read_only = true, MIG_NO_DISK_MODE, "disk 0 (disk0.img)",
           "read-only here");
    BLOCKS(hello.disk[1].mirrored = true, MIG_NO_DISK_COPY, "disk 1 (disk0.img)",
           "mirrored on the source, not here");
    BLOCKS(disk[1].disk.mirrored = true, MIG_NO_DISK_COPY, "disk 1 (disk0.img)",
           "mirrored here, not on the source");
    BLOCKS((hello.features_required = MIG_FEATURE_DISKS, here.features = 0),
           MIG_NO_FEATURE, "migration protocol", "mirrored disks");
    BLOCKS(here.nic_count = 0, MIG_NO_NICS, "nics", "1 nics");
    BLOCKS(nic[0].mac[5] = 9, MIG_NO_NIC, "nic 0", "525400000009");
    BLOCKS(nic[0].queue_pairs = 1, MIG_NO_NIC, "nic 0", "2 queue pairs");
    BLOCKS(nic[0].offloads = false, MIG_NO_NIC, "nic 0", "offloads on");
}
END_TEST

START_TEST(what_does_not_matter_does_not_block)
{
#define FITS(change)                                                                     \
    do {                                                                                 \
        setup();                                                                         \
        change;                                                                          \
        ck_assert_msg(mig_fit(&hello, &here, &ack), "%s: %s", #change,                   \
                      ack.blocker[0].sentence);                                          \
    } while (0)
    FITS(here.version = 3); /* a later node that still speaks ours */
    ck_assert_uint_eq(ack.version, 1);
    FITS(here.features = MIG_FEATURE_DISCARD);
    ck_assert_uint_eq(ack.features, MIG_FEATURE_DISCARD);
    FITS((hello.plaintext = true, here.encrypted = false, here.plaintext_allowed = true));
    FITS(here.tsc_khz = 2500100); /* 40 ppm */
    FITS((here.tsc_khz = 1000000, here.tsc_scaling = true));
    FITS((hello.tsc_khz = 0, here.tsc_khz = 7));
    FITS(hello.cpu_model[0] = '\0');
    FITS((here.memory_free = 0, here.ram_populated = true));
    FITS((here.memory_free = 0, here.hugepages = true,
          here.hugepages_free = hello.ram_len));
    FITS(hello.hugepages = true);
    FITS(hello.disk[0].mirrored = disk[0].disk.mirrored = true);
    FITS((hello.device[1].version = 9, device[1].version = 2)); /* reader 1 is enough */
    FITS((hello.device[1].version = 1, device[1].version = 9));
}
END_TEST

/* All of them at once, in one answer. */
START_TEST(the_list_is_complete)
{
    static const enum mig_code want[] = {
        MIG_NO_VERSION,    MIG_NO_VM,  MIG_NO_SECURITY,      MIG_NO_MACHINE,
        MIG_NO_CPUS,       MIG_NO_KVM, MIG_NO_TSC,           MIG_NO_MEMORY,
        MIG_NO_DISK_REACH, MIG_NO_NIC, MIG_NO_DEVICE_TOO_NEW};

    here.version_min = here.version = 9;
    hello.vm.b[3] = 1;
    hello.plaintext = true;
    here.machine = "lockstep";
    here.cpu_count = 1;
    here.kvm_caps = 1;
    here.tsc_khz = 1;
    here.memory_free = 0;
    disk[0].reachable = false;
    nic[0].offloads = false;
    hello.device[0].min_reader = 7;
    ck_assert(!mig_fit(&hello, &here, &ack));
    ck_assert_uint_eq(ack.blocker_count, sizeof want / sizeof want[0]);
    for (unsigned i = 0; i < ack.blocker_count; i++) {
        ck_assert_int_eq(ack.blocker[i].code, want[i]);
        ck_assert_uint_gt(strlen(ack.blocker[i].sentence), 20);
    }
}
END_TEST

START_TEST(a_full_list_says_how_many_more)
{
    hello.device_count = MIG_DEVICES_MAX;
    for (unsigned i = 0; i < MIG_DEVICES_MAX; i++) {
        hello.device[i] = (struct mig_device){"other", (uint16_t)i, 1, 1};
    }
    ck_assert(!mig_fit(&hello, &here, &ack));
    ck_assert_uint_eq(ack.blocker_count, MIG_BLOCKERS_MAX);
    ck_assert_int_eq(ack.blocker[MIG_BLOCKERS_MAX - 1].code, MIG_NO_MORE);
    /* 256 unknown and 2 missing, 31 of them listed */
    ck_assert_str_eq(ack.blocker[MIG_BLOCKERS_MAX - 1].sentence,
                     "227 more reasons: mend the others first");
}
END_TEST

/* What a hostile source calls itself stays on one line. */
START_TEST(names_of_the_peer_are_cleaned)
{
    text_copy(hello.vm_name, sizeof hello.vm_name, "a\nroot: \x1b[31m");
    hello.vm.b[1] = 9;
    ck_assert(!mig_fit(&hello, &here, &ack));
    ck_assert_ptr_nonnull(strstr(ack.blocker[0].sentence, "a?root: ?[31m"));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_fit");
    TCase *tc = tcase_create("fit");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, it_fits);
    tcase_add_test(tc, each_blocker_is_named);
    tcase_add_test(tc, what_does_not_matter_does_not_block);
    tcase_add_test(tc, the_list_is_complete);
    tcase_add_test(tc, a_full_list_says_how_many_more);
    tcase_add_test(tc, names_of_the_peer_are_cleaned);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
