/* SPDX-License-Identifier: Apache-2.0 */
#include "programs/gemel_vmm_probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/kvm_can.h"
#include "base/units.h"
#include "vmm/probe.h"
#include "vmm/vcpu.h"

#define LATER "the host can; gemel-vmm of this version does not do it yet"

/* What follows from the answers (design 6 and 7.2). Each needs all of its keys. */
static const struct {
    const char *key, *title;
    const char *needs[8];
    const char *note; /* where the host can */
} conclusion[] = {
    {"machine_lockstep",
     "machine: lockstep",
     {"hlt", "pio", "mmio", "msr_filter", "cap_readonly_mem"},
     ""},
    {"machine_standard",
     "machine: standard",
     {"hlt", "pio", "mmio", "cap_irqchip", "cap_irqfd", "cap_msi", "cap_readonly_mem",
      "sse"},
     ""},
    {"migration", "live migration", {"dirty_log"}, ""},
    {"ft_lockstep_exit",
     "ft: lockstep, exit positions",
     {"hlt", "pio", "mmio", "msr_filter", "dirty_log"},
     ""},
    {"ft_irq_window_positions",
     "ft: the interrupt window counts as a position",
     {"irq_window_deterministic"},
     ""},
    {"ft_lockstep_step",
     "ft: lockstep, counted positions by single-step",
     {"single_step"},
     "slow; " LATER},
    {"ft_checkpoint", "ft: checkpoint", {"dirty_log"}, ""},
};

static bool follows(const struct probe_result *result, size_t i)
{
    for (size_t k = 0; k < ARRAY_SIZE(conclusion[i].needs) && conclusion[i].needs[k];
         k++) {
        if (!probe_yes(result, conclusion[i].needs[k])) {
            return false;
        }
    }
    return true;
}

/* The titles of what conclusion `i` needs and the host has not. */
static void print_lacking(const struct probe_result *result, size_t i)
{
    const char *before = "";

    for (size_t k = 0; k < ARRAY_SIZE(conclusion[i].needs) && conclusion[i].needs[k];
         k++) {
        const char *key = conclusion[i].needs[k];

        for (unsigned n = 0; n < result->count && !probe_yes(result, key); n++) {
            if (strcmp(result->item[n].key, key) == 0) {
                printf("%s%s", before, result->item[n].title);
                before = "; ";
            }
        }
    }
}

static void print_text(const struct probe_result *result, const char *cpu)
{
    static const char *const word[] = {
        [PROBE_NO] = "no", [PROBE_YES] = "yes", [PROBE_INFO] = "-"};

    for (unsigned i = 0; i < result->count; i++) {
        const struct probe_item *item = &result->item[i];

        printf("%-52s %-4s %s\n", item->title, word[item->verdict], item->text);
    }
    printf("\nWhat follows:\n");
    for (size_t i = 0; i < ARRAY_SIZE(conclusion); i++) {
        bool can = follows(result, i);

        printf("%-52s %-4s %s", conclusion[i].title, can ? "yes" : "no",
               can ? conclusion[i].note : "this host lacks: ");
        if (!can) {
            print_lacking(result, i);
        }
        putchar('\n');
    }
    printf("\nCPU model (what machine standard can give a guest):\n%s\n", cpu);
}

/* Keys and texts are ours: no quote or backslash in them. */
static void print_json(const struct probe_result *result, const char *cpu)
{
    static const char *const word[] = {
        [PROBE_NO] = "false", [PROBE_YES] = "true", [PROBE_INFO] = "null"};

    printf("{\"probe\":{");
    for (unsigned i = 0; i < result->count; i++) {
        const struct probe_item *item = &result->item[i];

        printf("%s\"%s\":{\"ok\":%s,\"value\":%llu,\"text\":\"%s\"}", i ? "," : "",
               item->key, word[item->verdict], (unsigned long long)item->value,
               item->text);
    }
    printf("},\"follows\":{");
    for (size_t i = 0; i < ARRAY_SIZE(conclusion); i++) {
        printf("%s\"%s\":%s", i ? "," : "", conclusion[i].key,
               follows(result, i) ? "true" : "false");
    }
    printf("},\"cpu\":\"%s\"}\n", cpu);
}

/* The host's model as text; "" with *err when there is none. */
static void model_text(const char *kvm_path, char text[CPU_MODEL_TEXT_MAX],
                       struct vmm_error *err)
{
    struct cpu_model model;

    text[0] = '\0';
    if (vcpu_host_probe(&kvm_linux, kvm_path, &model, err) == 0 &&
        cpu_model_print(&model, text, CPU_MODEL_TEXT_MAX) == 0) {
        text[0] = '\0';
        vmm_fail(err, 0, "its text is too long");
    }
}

int gemel_vmm_cpu_model(const char *kvm_path)
{
    char text[CPU_MODEL_TEXT_MAX];
    struct vmm_error err = {""};

    model_text(kvm_path, text, &err);
    if (text[0] == '\0') {
        fprintf(stderr, "gemel-vmm: the CPU model of this host cannot be told: %s\n",
                err.text);
        return EXIT_FAILURE;
    }
    puts(text);
    return EXIT_SUCCESS;
}

int gemel_vmm_kvm_can(const char *kvm_path)
{
    static const int capability[KVM_CAN_COUNT] = {
        [KVM_CAN_IMMEDIATE_EXIT] = KVM_CAP_IMMEDIATE_EXIT,
        [KVM_CAN_READONLY_MEM] = KVM_CAP_READONLY_MEM,
        [KVM_CAN_VCPU_EVENTS] = KVM_CAP_VCPU_EVENTS,
        [KVM_CAN_MSR_FILTER] = KVM_CAP_X86_MSR_FILTER,
        [KVM_CAN_IRQCHIP] = KVM_CAP_IRQCHIP,
        [KVM_CAN_IRQFD] = KVM_CAP_IRQFD,
        [KVM_CAN_SIGNAL_MSI] = KVM_CAP_SIGNAL_MSI,
    };
    int sys = kvm_linux.sys_open(kvm_path != NULL ? kvm_path : "/dev/kvm");
    char text[KVM_CAN_TEXT_MAX] = "";
    struct vmm_error err = {""};
    uint32_t can = 0;

    if (sys < 0) {
        fprintf(stderr, "gemel-vmm: %s: %s\n", kvm_path != NULL ? kvm_path : "/dev/kvm",
                strerror(-sys));
        return EXIT_FAILURE;
    }
    for (unsigned i = 0; i < KVM_CAN_COUNT; i++) {
        can |= kvm_linux.check(sys, capability[i]) > 0 ? UINT32_C(1) << i : 0;
    }
    kvm_linux.close(sys);
    can |=
        probe_sse(&kvm_linux, kvm_path, &err) == 0 ? UINT32_C(1) << KVM_CAN_NOT_SSE : 0;
    (void)kvm_can_print(can, text, sizeof text);
    puts(text);
    return EXIT_SUCCESS;
}

int gemel_vmm_probe(const char *kvm_path, bool json)
{
    struct probe_result *result = calloc(1, sizeof *result);
    struct vmm_error err = {""}, no_model = {""};
    char cpu[CPU_MODEL_TEXT_MAX] = "";
    int r = -1;

    if (result) {
        r = probe_host(&kvm_linux, kvm_path, result, &err);
        model_text(kvm_path, cpu, &no_model);
    }
    if (r < 0) {
        fprintf(stderr, "gemel-vmm: %s\n", result ? err.text : "out of memory");
    } else if (json) {
        print_json(result, cpu);
    } else {
        print_text(result, cpu[0] != '\0' ? cpu : no_model.text);
    }
    free(result);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
