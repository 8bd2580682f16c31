/* SPDX-License-Identifier: Apache-2.0 */
/* Control messages of a transfer: u8 kind, body. What is accepted goes round; a Hello is
 * answered by a destination that refuses what it can, and the answer can be sent. */
#include <string.h>

#include "migrate/mig_fit.h"
#include "migrate/mig_msg.h"
#include "tests/fuzz/fuzz.h"

FUZZ_GOALS("Hello", "HelloAck", "Round", "Stats", "Verify", "Finish", "Ready", "Abort",
           "Want", "Runs", "All", "Hello that fits", "Hello that does not")

static void answer(const struct mig_hello *hello)
{
    static const struct mig_device device[] = {{"machine", 0, 1, 1},
                                               {"virtio-blk", 1, 2, 1}};
    static const struct mig_nic nic[] = {{{0x52, 0x54, 0, 0x12, 0x34, 0x56}, 2, true}};
    static struct mig_here_disk disk = {.name = "disk0.img", .reachable = true};
    static struct mig_msg reply;
    static uint8_t packed[MIG_CONTROL_MAX];
    struct cpu_model cpu;
    struct cpu_model_error why;
    struct mig_here here = {.version = 1,
                            .version_min = 1,
                            .features = MIG_FEATURES_KNOWN,
                            .vm = hello->vm,
                            .transfer = hello->transfer,
                            .encrypted = true,
                            .stream_count = 2,
                            .machine = "standard",
                            .transport = "pci",
                            .boot = "kernel",
                            .cpu_count = 2,
                            .cpu = &cpu,
                            .kvm_caps = 0x15,
                            .tsc_khz = 2500000,
                            .ram_len = UINT64_C(5) << 30,
                            .ram_low_len = UINT64_C(3) << 30,
                            .memory_free = UINT64_C(6) << 30,
                            .device_count = 2,
                            .device = device,
                            .disk_count = 1,
                            .disk = &disk,
                            .nic_count = 1,
                            .nic = nic};
    bool fits;

    BUG_ON(!cpu_model_parse("vendor=AuthenticAMD family=23 model=1 stepping=2 level=13 "
                            "xlevel=2147483679 phys=40 linear=48 features=fpu,sse2",
                            &cpu, &why));
    disk.disk = (struct mig_disk){"data", 2097152, false, true};
    reply.kind = MIG_HELLO_ACK;
    fits = mig_fit(hello, &here, &reply.hello_ack);
    BUG_ON(fits != (reply.hello_ack.blocker_count == 0));
    BUG_ON(mig_msg_pack(&reply, packed, sizeof packed) < 0);
    fuzz_reach(11, fits);
    fuzz_reach(12, !fits);
}

FUZZ_ONE(data, len)
{
    static struct mig_msg msg, again;
    static uint8_t packed[MIG_CONTROL_MAX];
    ssize_t packed_len;

    if (len == 0 || mig_msg_unpack(data[0], data + 1, len - 1, &msg) != MIG_MSG_OK) {
        return 0;
    }
    BUG_ON(msg.kind != data[0]);
    fuzz_reach((unsigned)msg.kind - MIG_HELLO, true);
    packed_len = mig_msg_pack(&msg, packed, sizeof packed);
    BUG_ON(packed_len < 0);
    BUG_ON(mig_msg_unpack(msg.kind, packed, (size_t)packed_len, &again) != MIG_MSG_OK);
    BUG_ON(memcmp(&msg, &again, sizeof msg) != 0);
    if (msg.kind == MIG_HELLO) {
        answer(&msg.hello);
    }
    return 0;
}
