/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the KVM of a host can that not every one can, and which of it a machine needs. Its
 * text, words like "irqchip msr-filter", travels from gemel-vmm (--kvm-can) to its agent,
 * and between agents. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bits, and places in the text; numbers are this build's alone. */
enum kvm_can {
    KVM_CAN_IMMEDIATE_EXIT = 0,
    KVM_CAN_READONLY_MEM,
    KVM_CAN_VCPU_EVENTS,
    KVM_CAN_MSR_FILTER,
    KVM_CAN_IRQCHIP,
    KVM_CAN_IRQFD,
    KVM_CAN_SIGNAL_MSI,
    /* It was tried, and cannot: KVM that interprets guests. Who says nothing of it, as
     * earlier versions, is taken to be able to. */
    KVM_CAN_NOT_SSE,
    KVM_CAN_COUNT,
};

#define KVM_CAN_TEXT_MAX 256 /* with the NUL */

/* Words with a blank between them; length without the NUL, 0: none, or no room. */
size_t kvm_can_print(uint32_t can, char *buf, size_t cap);
/* Words that are not known are of a later version, and left out. */
uint32_t kvm_can_parse(const char *text);
/* What machine: standard, or else lockstep, cannot do without. */
uint32_t kvm_can_needs(bool standard);
