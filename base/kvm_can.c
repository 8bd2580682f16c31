/* SPDX-License-Identifier: Apache-2.0 */
#include "base/kvm_can.h"

#include <string.h>

#define BIT(n) (UINT32_C(1) << (n))
#define BOTH                                                                             \
    (BIT(KVM_CAN_IMMEDIATE_EXIT) | BIT(KVM_CAN_READONLY_MEM) | BIT(KVM_CAN_VCPU_EVENTS))

static const char *const word[KVM_CAN_COUNT] = {
    [KVM_CAN_IMMEDIATE_EXIT] = "immediate-exit",
    [KVM_CAN_READONLY_MEM] = "readonly-mem",
    [KVM_CAN_VCPU_EVENTS] = "vcpu-events",
    [KVM_CAN_MSR_FILTER] = "msr-filter",
    [KVM_CAN_IRQCHIP] = "irqchip",
    [KVM_CAN_IRQFD] = "irqfd",
    [KVM_CAN_SIGNAL_MSI] = "signal-msi",
    [KVM_CAN_NOT_SSE] = "not-sse",
};

size_t kvm_can_print(uint32_t can, char *buf, size_t cap)
{
    size_t len = 0;

    for (unsigned i = 0; i < KVM_CAN_COUNT; i++) {
        size_t n = strlen(word[i]);

        if ((can & BIT(i)) == 0) {
            continue;
        }
        if (len + n + 2 > cap) {
            return 0;
        }
        if (len > 0) {
            buf[len++] = ' ';
        }
        memcpy(buf + len, word[i], n + 1);
        len += n;
    }
    return len;
}

uint32_t kvm_can_parse(const char *text)
{
    uint32_t can = 0;

    while (*text != '\0') {
        size_t n = strcspn(text, " \n");

        for (unsigned i = 0; i < KVM_CAN_COUNT; i++) {
            if (strlen(word[i]) == n && memcmp(text, word[i], n) == 0) {
                can |= BIT(i);
            }
        }
        text += n;
        text += strspn(text, " \n");
    }
    return can;
}

uint32_t kvm_can_needs(bool standard)
{
    return BOTH |
           (standard ? BIT(KVM_CAN_IRQCHIP) | BIT(KVM_CAN_IRQFD) | BIT(KVM_CAN_SIGNAL_MSI)
                     : BIT(KVM_CAN_MSR_FILTER));
}
