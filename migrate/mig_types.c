/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_types.h"

#include <stddef.h>

const char *mig_code_str(enum mig_code code)
{
    static const char *const name[] = {
        [MIG_OK] = "ok",
        [MIG_NO_VERSION] = "version",
        [MIG_NO_FEATURE] = "feature",
        [MIG_NO_VM] = "vm",
        [MIG_NO_SECURITY] = "security",
        [MIG_NO_STREAMS] = "streams",
        [MIG_NO_MACHINE] = "machine",
        [MIG_NO_TRANSPORT] = "transport",
        [MIG_NO_CPUS] = "cpus",
        [MIG_NO_CPU_MODEL] = "cpu-model",
        [MIG_NO_CPU_FEATURES] = "cpu-features",
        [MIG_NO_KVM] = "kvm",
        [MIG_NO_TSC] = "tsc",
        [MIG_NO_RAM] = "ram",
        [MIG_NO_MEMORY] = "memory",
        [MIG_NO_HUGEPAGES] = "hugepages",
        [MIG_NO_DEVICE_UNKNOWN] = "device-unknown",
        [MIG_NO_DEVICE_MISSING] = "device-missing",
        [MIG_NO_DEVICE_TOO_NEW] = "device-too-new",
        [MIG_NO_DEVICE_TOO_OLD] = "device-too-old",
        [MIG_NO_DISKS] = "disks",
        [MIG_NO_DISK_REACH] = "disk-unreachable",
        [MIG_NO_DISK_SIZE] = "disk-size",
        [MIG_NO_DISK_SERIAL] = "disk-serial",
        [MIG_NO_DISK_MODE] = "disk-mode",
        [MIG_NO_NICS] = "nics",
        [MIG_NO_NIC] = "nic",
        [MIG_NO_BOOT] = "boot",
        [MIG_NO_BUSY] = "busy",
        [MIG_NO_MORE] = "more",
        [MIG_NO_POSTCOPY] = "post-copy",
        [MIG_NO_DISK_COPY] = "disk-copy",
        [MIG_END_BLOCKED] = "blocked",
        [MIG_END_CANCELLED] = "cancelled",
        [MIG_END_HANDSHAKE] = "handshake",
        [MIG_END_SILENCE] = "silence",
        [MIG_END_TIMEOUT] = "timeout",
        [MIG_END_LOST] = "connection-lost",
        [MIG_END_PEER] = "peer",
        [MIG_END_PROTOCOL] = "protocol",
        [MIG_END_FREEZE] = "freeze",
        [MIG_END_GUEST_OFF] = "guest-off",
        [MIG_END_CONVERGE] = "does-not-converge",
        [MIG_END_STATE] = "state",
        [MIG_END_VERIFY] = "verify",
        [MIG_END_HOST] = "host",
        [MIG_END_AGENT] = "agent",
        [MIG_END_HANDOVER] = "handover",
    };

    return (size_t)code < ARRAY_SIZE(name) ? name[code] : NULL;
}

const char *mig_kvm_cap_str(enum mig_kvm_cap cap)
{
    static const char *const name[MIG_KVM_COUNT] = {
        [MIG_KVM_XSAVE2] = "KVM_CAP_XSAVE2",
        [MIG_KVM_TSC_DEADLINE] = "KVM_CAP_TSC_DEADLINE_TIMER",
        [MIG_KVM_IRQCHIP] = "KVM_CAP_IRQCHIP",
        [MIG_KVM_ADJUST_CLOCK_REALTIME] = "KVM_CAP_ADJUST_CLOCK (KVM_CLOCK_REALTIME)",
        [MIG_KVM_READONLY_MEM] = "KVM_CAP_READONLY_MEM",
        [MIG_KVM_VCPU_EVENTS] = "KVM_CAP_VCPU_EVENTS",
        [MIG_KVM_MSI] = "KVM_CAP_SIGNAL_MSI",
    };

    return (size_t)cap < MIG_KVM_COUNT ? name[cap] : NULL;
}

const char *mig_kind_str(enum mig_kind kind)
{
    static const char *const name[MIG_KIND_COUNT] = {
        [MIG_KIND_INVALID] = "no message",
        [MIG_HELLO] = "Hello",
        [MIG_HELLO_ACK] = "HelloAck",
        [MIG_ROUND] = "Round",
        [MIG_STATS] = "Stats",
        [MIG_VERIFY] = "Verify",
        [MIG_FINISH] = "Finish",
        [MIG_READY] = "Ready",
        [MIG_ABORT] = "Abort",
        [MIG_WANT] = "Want",
        [MIG_RUNS] = "Runs",
        [MIG_ALL] = "All",
    };

    return (size_t)kind < MIG_KIND_COUNT ? name[kind] : "unknown message";
}
