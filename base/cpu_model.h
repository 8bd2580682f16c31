/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CPU model: what a guest is told of its processor that it may depend on. The features
 * of a host, or what several hosts have in common (a baseline). Its text travels in
 * definitions, messages and saved states:
 *
 *     vendor=AuthenticAMD family=23 model=1 stepping=2 level=13 xlevel=2147483679
 *     phys=40 linear=48 features=fpu,vme,...
 *
 * in one line, in any order. Features have the names of /proc/cpuinfo where Linux shows
 * them, QEMU's where it does not, and else their place: "7.0.ecx.15". Topology, caches
 * and hypervisor leaves are not part of it: they are the VM's, or only describe. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Registers full of feature bits. The order is that of texts, not of any format. */
enum cpu_word {
    CPU_WORD_1_EDX = 0,
    CPU_WORD_1_ECX,
    CPU_WORD_6_EAX,
    CPU_WORD_7_EBX,
    CPU_WORD_7_ECX,
    CPU_WORD_7_EDX,
    CPU_WORD_7_1_EAX,
    CPU_WORD_7_1_EDX,
    CPU_WORD_7_2_EDX,
    CPU_WORD_D_1_EAX,
    CPU_WORD_80000001_ECX,
    CPU_WORD_80000001_EDX, /* without the bits that AMD repeats from leaf 1 */
    CPU_WORD_80000007_EDX,
    CPU_WORD_80000008_EBX,
    CPU_WORD_80000021_EAX,
    CPU_WORD_80000021_ECX,
    CPU_WORD_KVM,          /* 0x40000001 EAX: paravirtualization */
    CPU_WORD_ARCH_CAPS_LO, /* MSR 0x10A: which flaws this processor does not have */
    CPU_WORD_ARCH_CAPS_HI,
    CPU_WORD_COUNT,
};

#define CPU_VENDOR_LEN     12
#define CPU_MODEL_TEXT_MAX 4096 /* with the NUL */

struct cpu_model {
    char vendor[CPU_VENDOR_LEN + 1];
    uint32_t family, model, stepping; /* as /proc/cpuinfo counts them */
    uint32_t level, xlevel;           /* highest basic and extended leaf */
    uint32_t phys_bits, linear_bits;
    uint32_t word[CPU_WORD_COUNT];
};

/* Why a text is no model, or models have nothing in common. */
struct cpu_model_error {
    char text[160];
};

/* Length without the NUL, or 0: it does not fit in `cap`. */
size_t cpu_model_print(const struct cpu_model *model, char *buf, size_t cap);
/* All but `features` may be missing (0); what is unknown, twice or out of range is
 * refused. Ends at the NUL, or a newline that is the last. */
bool cpu_model_parse(const char *text, struct cpu_model *ret_model,
                     struct cpu_model_error *err);
bool cpu_model_equal(const struct cpu_model *a, const struct cpu_model *b);

/*
 * What a guest may use on each of `count` hosts: features of all of them (flags that say
 * "has this flaw" of any of them), the smallest of the numbers, the oldest signature.
 * Leaves out the invariant TSC: hosts of one model differ in frequency. False: no host,
 * or different vendors.
 */
bool cpu_model_common(const struct cpu_model *const *host, unsigned count,
                      struct cpu_model *ret_model, struct cpu_model_error *err);

/*
 * What `model` has and `host` has not, as "avx2, xsaves"; also "vendor GenuineIntel (this
 * host: AuthenticAMD)" and "46 bits of physical address (this host: 40)". Returns how
 * many; 0: the host can run the model. What does not fit in `cap` ends in ", and N more".
 */
unsigned cpu_model_missing(const struct cpu_model *model, const struct cpu_model *host,
                           char *buf, size_t cap);

/* What a guest of machine: lockstep sees of it, at most (vmm/cpuid_lockstep.c; a test
 * compares them). */
void cpu_model_lockstep(struct cpu_model *model);

/* The bit of a feature; false: no feature has this name. */
bool cpu_model_feature(const char *name, enum cpu_word *ret_word, unsigned *ret_bit);
bool cpu_model_has(const struct cpu_model *model, const char *name);
/* Its name; buf is used for those that have none. */
const char *cpu_model_feature_name(enum cpu_word word, unsigned bit, char buf[static 32]);
