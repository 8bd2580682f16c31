/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/vcpu against a KVM of our own making: what each exit does, what a half-finished
 * instruction does, when interrupts go in. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/vcpu.h"

#define RUN_LEN     (3 * 4096)
#define SCRIPT_MAX  16
#define FIRST_FD    100
#define DATA_OFFSET 4096

/* One KVM_RUN: what it returns and what it leaves in the run page. */
struct step {
    int r;
    uint32_t reason;
    bool ready;
    void (*fill)(struct kvm_run *run);
};

static struct fake {
    struct step script[SCRIPT_MAX];
    unsigned steps, next;
    unsigned immediate_runs; /* entered with immediate_exit set */
    int vectors[8];
    unsigned vector_count;
    int interrupt_result;
    struct kvm_run *run;
    uint64_t apic_base_set;
    struct kvm_msr_filter filter;
    uint8_t filter_bits[2][128];
    uint64_t user_msr_reasons;
    uint32_t cpuid_1_ecx, cpuid_1_edx, cpuid_leaf_max;
    bool cpuid_40000000;
    int fail_create_vcpu;
} fake;

static int f_sys_cpuid(int sys, struct kvm_cpuid2 *cpuid)
{
    static const struct kvm_cpuid_entry2 entry[] = {
        {.function = 0, .eax = 0x20},
        {.function = 1, .ebx = 0x03100800, .ecx = UINT32_MAX, .edx = UINT32_MAX},
        {.function = 0xB, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .edx = 7},
        {.function = 0x15, .eax = 1},
        {.function = 0x40000000, .eax = 0x40000001},
        {.function = 0x80000001, .edx = UINT32_MAX},
    };

    (void)sys;
    memcpy(cpuid->entries, entry, sizeof entry);
    cpuid->nent = ARRAY_SIZE(entry);
    return 0;
}

static int f_set_cpuid(int vcpu, const struct kvm_cpuid2 *cpuid)
{
    (void)vcpu;
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

        if (e->function == 1) {
            fake.cpuid_1_ecx = e->ecx;
            fake.cpuid_1_edx = e->edx;
        }
        fake.cpuid_40000000 |= (e->function & 0xFFFF0000) == 0x40000000;
        if (e->function < 0x10000 && e->function > fake.cpuid_leaf_max) {
            fake.cpuid_leaf_max = e->function;
        }
    }
    return 0;
}

static int f_enable(int vm, const struct kvm_enable_cap *cap)
{
    (void)vm;
    if (cap->cap == KVM_CAP_X86_USER_SPACE_MSR) {
        fake.user_msr_reasons = cap->args[0];
    }
    return 0;
}

static int f_filter(int vm, const struct kvm_msr_filter *filter)
{
    (void)vm;
    fake.filter = *filter;
    for (int i = 0; i < 2; i++) {
        memcpy(fake.filter_bits[i], filter->ranges[i].bitmap,
               (filter->ranges[i].nmsrs + 7) / 8);
    }
    return 0;
}

static int f_create_vcpu(int vm, unsigned id)
{
    (void)vm, (void)id;
    return fake.fail_create_vcpu ? fake.fail_create_vcpu : FIRST_FD;
}

static int f_map(int vcpu, size_t len, struct kvm_run **ret_run)
{
    (void)vcpu;
    fake.run = calloc(1, len);
    *ret_run = fake.run;
    return 0;
}

static void f_unmap(struct kvm_run *run, size_t len)
{
    (void)len;
    free(run);
}

static int f_run(int vcpu)
{
    struct step *s = &fake.script[fake.next];

    (void)vcpu;
    fake.immediate_runs += fake.run->immediate_exit;
    if (fake.next == fake.steps) {
        return -EINTR;
    }
    fake.next++;
    fake.run->exit_reason = s->reason;
    fake.run->ready_for_interrupt_injection = s->ready;
    if (s->fill) {
        s->fill(fake.run);
    }
    return s->r;
}

static int f_interrupt(int vcpu, uint8_t vector)
{
    (void)vcpu;
    if (fake.interrupt_result < 0) {
        return fake.interrupt_result;
    }
    fake.vectors[fake.vector_count++] = vector;
    return 0;
}

static int f_get(int vcpu, enum kvm_part part, void *state)
{
    (void)vcpu;
    if (part == KVM_PART_REGS) {
        ((struct kvm_regs *)state)->rip = 0xFFF0;
    }
    if (part == KVM_PART_SREGS) {
        ((struct kvm_sregs *)state)->apic_base = 0xFEE00900;
    }
    return part == KVM_PART_MSRS ? 1 : 0;
}

static int f_set(int vcpu, enum kvm_part part, const void *state)
{
    (void)vcpu;
    if (part == KVM_PART_SREGS) {
        fake.apic_base_set = ((const struct kvm_sregs *)state)->apic_base;
    }
    return part == KVM_PART_MSRS ? (int)((const struct kvm_msrs *)state)->nmsrs : 0;
}

static void f_close(int fd)
{
    (void)fd;
}

static const struct kvm_ops fake_ops = {
    .sys_cpuid = f_sys_cpuid,
    .vm_enable = f_enable,
    .vm_msr_filter = f_filter,
    .vm_create_vcpu = f_create_vcpu,
    .vcpu_map = f_map,
    .vcpu_unmap = f_unmap,
    .vcpu_run = f_run,
    .vcpu_interrupt = f_interrupt,
    .vcpu_set_cpuid = f_set_cpuid,
    .vcpu_get = f_get,
    .vcpu_set = f_set,
    .close = f_close,
};

/* The machine: remembers what it was asked. */
static struct {
    unsigned pio, mmio;
    uint16_t port[64];
    bool is_write[64];
    unsigned size[64];
    uint64_t value[64];
    uint64_t addr;
    unsigned pending; /* interrupts */
    uint8_t vector;
} box;

static void box_pio(void *ctx, uint16_t port, bool is_write, unsigned size, void *data)
{
    unsigned i = box.pio++ % 64;

    (void)ctx;
    box.port[i] = port;
    box.is_write[i] = is_write;
    box.size[i] = size;
    box.value[i] = 0;
    if (is_write) {
        memcpy(&box.value[i], data, size);
    } else {
        memset(data, (int)(0x10 + i), size);
    }
}

static void box_mmio(void *ctx, struct gpa addr, bool is_write, unsigned len, void *data)
{
    (void)ctx, (void)is_write;
    box.mmio++;
    box.addr = addr.v;
    memset(data, 0xAB, len);
}

static bool box_irq_pending(void *ctx)
{
    (void)ctx;
    return box.pending > 0;
}

static uint8_t box_irq_ack(void *ctx)
{
    (void)ctx;
    box.pending--;
    return box.vector;
}

static const struct vcpu_bus bus = {box_pio, box_mmio, box_irq_pending, box_irq_ack};
static struct vcpu vcpu;
static struct vmm_error err;

static void setup(void)
{
    struct vm vm = {.ops = &fake_ops, .run_size = RUN_LEN};

    memset(&fake, 0, sizeof fake);
    memset(&box, 0, sizeof box);
    ck_assert_int_eq(vcpu_open(&vm, &bus, NULL, &vcpu, &err), 0);
}

static void teardown(void)
{
    vcpu_close(&vcpu);
}

static void script(struct step s)
{
    fake.script[fake.steps++] = s;
}

static void fill_out(struct kvm_run *run)
{
    run->io.direction = KVM_EXIT_IO_OUT;
    run->io.port = 0x3F8;
    run->io.size = 1;
    run->io.count = 1;
    run->io.data_offset = DATA_OFFSET;
    ((uint8_t *)run)[DATA_OFFSET] = 'A';
}

static void fill_outs(struct kvm_run *run)
{
    fill_out(run);
    run->io.size = 2;
    run->io.count = 3;
    memcpy((uint8_t *)run + DATA_OFFSET, "aabbcc", 6);
}

static void fill_ins(struct kvm_run *run)
{
    fill_out(run);
    run->io.direction = KVM_EXIT_IO_IN;
    run->io.count = 4;
}

static void fill_io_outside(struct kvm_run *run)
{
    fill_out(run);
    run->io.size = 4;
    run->io.count = 4096;
}

static void fill_mmio(struct kvm_run *run)
{
    run->mmio.phys_addr = 0xFEB00070;
    run->mmio.len = 4;
    run->mmio.is_write = 0;
}

static void fill_mmio_long(struct kvm_run *run)
{
    fill_mmio(run);
    run->mmio.len = 9;
}

static void fill_msr_tsc(struct kvm_run *run)
{
    run->msr.index = 0x10;
    run->msr.error = 0;
}

static void fill_msr_ucode(struct kvm_run *run)
{
    run->msr.index = 0x8B;
    run->msr.error = 0;
    run->msr.data = 77;
}

static void fill_entry(struct kvm_run *run)
{
    run->fail_entry.hardware_entry_failure_reason = 0x80000021;
}

static void fill_emulation(struct kvm_run *run)
{
    run->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
    run->emulation_failure.ndata = 4;
    run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
    run->emulation_failure.insn_size = 2;
    run->emulation_failure.insn_bytes[0] = 0x0F;
    run->emulation_failure.insn_bytes[1] = 0x58;
}

static void fill_emulation_hostile(struct kvm_run *run)
{
    fill_emulation(run);
    run->emulation_failure.insn_size = 255;
}

START_TEST(out_byte)
{
    script((struct step){.reason = KVM_EXIT_IO, .fill = fill_out});
    ck_assert_int_eq(vcpu_enter(&vcpu), VCPU_IO);
    ck_assert_uint_eq(box.pio, 1);
    ck_assert_uint_eq(box.port[0], 0x3F8);
    ck_assert(box.is_write[0]);
    ck_assert_uint_eq(box.value[0], 'A');
    ck_assert(vcpu.unsettled);
}
END_TEST

START_TEST(string_out_goes_in_order)
{
    script((struct step){.reason = KVM_EXIT_IO, .fill = fill_outs});
    ck_assert_int_eq(vcpu_enter(&vcpu), VCPU_IO);
    ck_assert_uint_eq(box.pio, 3);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(box.size[i], 2);
        ck_assert_uint_eq(box.value[i], 0x0101u * ('a' + i));
    }
}
END_TEST

START_TEST(string_in_fills_each_element)
{
    script((struct step){.reason = KVM_EXIT_IO, .fill = fill_ins});
    ck_assert_int_eq(vcpu_enter(&vcpu), VCPU_IO);
    ck_assert_mem_eq((uint8_t *)fake.run + DATA_OFFSET, "\x10\x11\x12\x13", 4);
}
END_TEST

START_TEST(io_outside_the_page_is_refused)
{
    script((struct step){.reason = KVM_EXIT_IO, .fill = fill_io_outside});
    ck_assert_int_eq(vcpu_enter(&vcpu), VCPU_FAILED);
    ck_assert_uint_eq(box.pio, 0);
}
END_TEST

START_TEST(mmio)
{
    script((struct step){.reason = KVM_EXIT_MMIO, .fill = fill_mmio});
    ck_assert_int_eq(vcpu_enter(&vcpu), VCPU_IO);
    ck_assert_uint_eq(box.addr, 0xFEB00070);
    ck_assert_mem_eq(fake.run->mmio.data, "\xAB\xAB\xAB\xAB\0", 5);
    script((struct step){.reason = KVM_EXIT_MMIO, .fill = fill_mmio_long});
    ck_assert_int_eq(vcpu_enter(&vcpu), VCPU_FAILED);
    ck_assert_uint_eq(box.mmio, 1);
}
END_TEST

START_TEST(plain_events)
{
    static const struct {
        uint32_t reason;
        enum vcpu_event event;
    } cases[] = {
        {KVM_EXIT_HLT, VCPU_HALT},         {KVM_EXIT_SHUTDOWN, VCPU_TRIPLE_FAULT},
        {KVM_EXIT_INTR, VCPU_KICKED},      {KVM_EXIT_IRQ_WINDOW_OPEN, VCPU_IRQ_WINDOW},
        {KVM_EXIT_DEBUG, VCPU_DEBUG},      {KVM_EXIT_UNKNOWN, VCPU_FAILED},
        {KVM_EXIT_HYPERCALL, VCPU_FAILED}, {9999, VCPU_FAILED},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        fake.steps = fake.next = 0;
        script((struct step){.reason = cases[i].reason});
        ck_assert_int_eq(vcpu_enter(&vcpu), cases[i].event);
        ck_assert(!vcpu.unsettled);
    }
}
END_TEST

START_TEST(failures_say_why)
{
    script((struct step){.reason = KVM_EXIT_FAIL_ENTRY, .fill = fill_entry});
    ck_assert_int_eq(vcpu_enter(&vcpu), VCPU_FAILED);
    ck_assert_ptr_nonnull(strstr(vcpu.fault.text, "0x80000021"));
    ck_assert_ptr_nonnull(strstr(vcpu.fault.text, "rip 0xfff0"));
    script((struct step){.reason = KVM_EXIT_INTERNAL_ERROR, .fill = fill_emulation});
    ck_assert_int_eq(vcpu_enter(&vcpu), VCPU_FAILED);
    ck_assert_ptr_nonnull(strstr(vcpu.fault.text, "instruction bytes: 0f 58"));
    script(
        (struct step){.reason = KVM_EXIT_INTERNAL_ERROR, .fill = fill_emulation_hostile});
    ck_assert_int_eq(vcpu_enter(&vcpu), VCPU_FAILED);
    script((struct step){.r = -EFAULT});
    ck_assert_int_eq(vcpu_enter(&vcpu), VCPU_FAILED);
    ck_assert_ptr_nonnull(strstr(vcpu.fault.text, "KVM_RUN failed"));
}
END_TEST

START_TEST(msr_denied_by_default)
{
    script((struct step){.reason = KVM_EXIT_X86_RDMSR, .fill = fill_msr_tsc});
    ck_assert_int_eq(vcpu_enter(&vcpu), VCPU_IO);
    ck_assert_uint_eq(fake.run->msr.error, 1);
    script((struct step){.reason = KVM_EXIT_X86_WRMSR, .fill = fill_msr_tsc});
    ck_assert_int_eq(vcpu_enter(&vcpu), VCPU_IO);
    ck_assert_uint_eq(fake.run->msr.error, 1);
    ck_assert_uint_eq(vcpu.stats.msr_denied, 2);
    script((struct step){.reason = KVM_EXIT_X86_RDMSR, .fill = fill_msr_ucode});
    ck_assert_int_eq(vcpu_enter(&vcpu), VCPU_IO);
    ck_assert_uint_eq(fake.run->msr.error, 0);
    ck_assert_uint_eq(fake.run->msr.data, 0);
}
END_TEST

static bool allowed(uint32_t msr)
{
    for (int i = 0; i < 2; i++) {
        uint32_t bit = msr - fake.filter.ranges[i].base;

        if (msr >= fake.filter.ranges[i].base && bit < fake.filter.ranges[i].nmsrs) {
            return fake.filter_bits[i][bit / 8] & (1u << (bit % 8));
        }
    }
    return false;
}

START_TEST(what_the_guest_may_see)
{
    ck_assert_uint_eq(fake.filter.flags, KVM_MSR_FILTER_DEFAULT_DENY);
    ck_assert_uint_eq(fake.user_msr_reasons, KVM_MSR_EXIT_REASON_FILTER);
    ck_assert(allowed(0xC0000082) && allowed(0x277) && allowed(0xC0000102));
    ck_assert(!allowed(0x10) && !allowed(0x1B) && !allowed(0xC0000103) &&
              !allowed(0x1D9) && !allowed(0x4B564D01));
    /* No TSC, APIC; no RDRAND, hypervisor, TSC deadline, x2APIC. */
    ck_assert_uint_eq(fake.cpuid_1_edx & (1u << 4 | 1u << 9), 0);
    ck_assert_uint_eq(fake.cpuid_1_ecx & (1u << 30 | 1u << 31 | 1u << 24 | 1u << 21), 0);
    ck_assert_uint_ne(fake.cpuid_1_edx & (1u << 26), 0); /* SSE2 stays */
    ck_assert(!fake.cpuid_40000000);
    ck_assert_uint_le(fake.cpuid_leaf_max, 0xD);
    ck_assert_uint_eq(fake.apic_base_set, 0);
}
END_TEST

START_TEST(settle_goes_on_until_eintr)
{
    script((struct step){.reason = KVM_EXIT_MMIO, .fill = fill_mmio});
    script(
        (struct step){.reason = KVM_EXIT_MMIO, .fill = fill_mmio}); /* second fragment */
    script((struct step){.r = -EINTR, .ready = true});
    ck_assert_int_eq(vcpu_enter(&vcpu), VCPU_IO);
    ck_assert_int_eq(vcpu_settle(&vcpu), VCPU_KICKED);
    ck_assert_uint_eq(box.mmio, 2);
    ck_assert_uint_eq(fake.immediate_runs, 2);
    ck_assert(!vcpu.unsettled);
    /* Settled: no further entry. */
    ck_assert_int_eq(vcpu_settle(&vcpu), VCPU_KICKED);
    ck_assert_uint_eq(fake.immediate_runs, 2);
}
END_TEST

START_TEST(interrupt_only_when_ready)
{
    box.pending = 1;
    box.vector = 0x24;
    script((struct step){.reason = KVM_EXIT_HLT, .ready = false});
    (void)vcpu_enter(&vcpu);
    ck_assert(!vcpu_offer_interrupt(&vcpu));
    ck_assert_uint_eq(fake.vector_count, 0);
    ck_assert_uint_eq(fake.run->request_interrupt_window, 1);
    ck_assert_uint_eq(box.pending, 1); /* not acknowledged: it would be lost */

    script((struct step){.reason = KVM_EXIT_IRQ_WINDOW_OPEN, .ready = true});
    (void)vcpu_enter(&vcpu);
    ck_assert(vcpu_offer_interrupt(&vcpu));
    ck_assert_uint_eq(fake.vector_count, 1);
    ck_assert_int_eq(fake.vectors[0], 0x24);
    ck_assert_uint_eq(fake.run->request_interrupt_window, 0);
}
END_TEST

START_TEST(one_interrupt_per_entry)
{
    box.pending = 2;
    script((struct step){.reason = KVM_EXIT_HLT, .ready = true});
    (void)vcpu_enter(&vcpu);
    ck_assert(vcpu_offer_interrupt(&vcpu));
    ck_assert_uint_eq(fake.run->request_interrupt_window, 1); /* for the second */
    ck_assert(!vcpu_offer_interrupt(&vcpu));
    ck_assert_uint_eq(fake.vector_count, 1);
}
END_TEST

START_TEST(refused_interrupt_is_a_fault)
{
    box.pending = 1;
    fake.interrupt_result = -EEXIST;
    script((struct step){.reason = KVM_EXIT_HLT, .ready = true});
    (void)vcpu_enter(&vcpu);
    ck_assert(!vcpu_offer_interrupt(&vcpu));
    ck_assert_ptr_nonnull(strstr(vcpu.fault.text, "KVM refused interrupt"));
}
END_TEST

START_TEST(open_fails_cleanly)
{
    struct vm vm = {.ops = &fake_ops, .run_size = RUN_LEN};
    struct vcpu second;

    fake.fail_create_vcpu = -EMFILE;
    ck_assert_int_eq(vcpu_open(&vm, &bus, NULL, &second, &err), -EMFILE);
    ck_assert_ptr_nonnull(strstr(err.text, "cannot create a vCPU"));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("vcpu_exit");
    TCase *t = tcase_create("exits");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, out_byte);
    tcase_add_test(t, string_out_goes_in_order);
    tcase_add_test(t, string_in_fills_each_element);
    tcase_add_test(t, io_outside_the_page_is_refused);
    tcase_add_test(t, mmio);
    tcase_add_test(t, plain_events);
    tcase_add_test(t, failures_say_why);
    tcase_add_test(t, msr_denied_by_default);
    tcase_add_test(t, what_the_guest_may_see);
    tcase_add_test(t, settle_goes_on_until_eintr);
    tcase_add_test(t, interrupt_only_when_ready);
    tcase_add_test(t, one_interrupt_per_entry);
    tcase_add_test(t, refused_interrupt_is_a_fault);
    tcase_add_test(t, open_fails_cleanly);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
