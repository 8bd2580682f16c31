/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "vmm/vcpu.h"

#define RAM_LEN       (UINT64_C(1) << 20)
#define CODE          0x1000u
#define STACK         0x8000u
#define FAULT_HANDLER 0x2000u
#define VECTOR_BP     3
#define VECTOR_UD     6
#define VECTOR_GP     13
#define TIMEOUT_NS    (500 * NSEC_PER_MSEC) /* of one guest */
#define WINDOWS       1000u
#define KICK_EVERY_NS (200 * NSEC_PER_USEC)

/* A fresh VM per question: one that ended in an internal error is not asked again. */
struct rig {
    struct vm vm;
    struct vcpu vcpu;
    timer_t timer;
    bool timer_up;
    /* The bus remembers. */
    unsigned pio, mmio;
    uint16_t port;
    uint8_t last_out;
    uint64_t mmio_addr;
    struct vcpu_state state; /* last: it ends in a list */
};

static void rig_pio(void *ctx, uint16_t port, bool is_write, unsigned size, void *data)
{
    struct rig *rig = ctx;

    rig->pio++;
    rig->port = port;
    if (is_write) {
        memcpy(&rig->last_out, data, 1);
    } else {
        memset(data, 0x5A, size);
    }
}

static void rig_mmio(void *ctx, struct gpa addr, bool is_write, unsigned len, void *data)
{
    struct rig *rig = ctx;

    rig->mmio++;
    rig->mmio_addr = addr.v;
    if (!is_write) {
        memset(data, 0xA5, len);
    }
}

static bool rig_irq_pending(void *ctx)
{
    (void)ctx;
    return false;
}

static uint8_t rig_irq_ack(void *ctx)
{
    (void)ctx;
    return 0;
}

static const struct vcpu_bus rig_bus = {rig_pio, rig_mmio, rig_irq_pending, rig_irq_ack};

static void rig_close(struct rig *rig)
{
    if (rig->timer_up) {
        timer_delete(rig->timer);
    }
    vcpu_close(&rig->vcpu);
    vm_close(&rig->vm);
    free(rig);
}

/* Real mode at CODE, with exception v leading to a HLT at FAULT_HANDLER + v. */
static int rig_open(const struct kvm_ops *ops, const char *kvm_path, const uint8_t *code,
                    size_t len, struct rig **ret_rig, struct vmm_error *err)
{
    static const uint8_t rom[16] = {0xF4};
    struct vm_conf conf = {
        .kvm_path = kvm_path, .ram_len = RAM_LEN, .rom = rom, .rom_len = sizeof rom};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID,
                             .sigev_signo = VCPU_KICK_SIGNAL};
    struct rig *rig = calloc(1, sizeof *rig);
    int r;

    if (!rig) {
        return vmm_fail(err, -ENOMEM, "out of memory");
    }
    r = vm_open(ops, &conf, &rig->vm, err);
    if (r >= 0) {
        r = vcpu_open(&rig->vm, &rig_bus, rig, &rig->vcpu, err);
    }
    if (r >= 0) {
        r = vcpu_save(&rig->vcpu, &rig->state, err);
    }
    if (r < 0) {
        rig_close(rig);
        return r;
    }
    vcpu_kick_arm(&rig->vcpu);
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    rig->timer_up = timer_create(CLOCK_MONOTONIC, &event, &rig->timer) == 0;
    memcpy(rig->vm.ram + CODE, code, len);
    for (unsigned v = 0; v < 256; v++) {
        const uint8_t entry[4] = {(uint8_t)v, FAULT_HANDLER >> 8, 0, 0};

        memcpy(rig->vm.ram + (size_t)v * 4, entry, 4);
    }
    memset(rig->vm.ram + FAULT_HANDLER, 0xF4, 256);
    rig->state.sregs.cs.base = rig->state.sregs.cs.selector = 0;
    rig->state.regs = (struct kvm_regs){.rip = CODE, .rsp = STACK, .rflags = 2};
    *ret_rig = rig;
    return 0;
}

static void arm(struct rig *rig, uint64_t first_ns, uint64_t every_ns)
{
    struct itimerspec when = {
        .it_value = {(time_t)(first_ns / NSEC_PER_SEC), (long)(first_ns % NSEC_PER_SEC)},
        .it_interval = {(time_t)(every_ns / NSEC_PER_SEC),
                        (long)(every_ns % NSEC_PER_SEC)}};

    if (rig->timer_up) {
        (void)timer_settime(rig->timer, 0, &when, NULL);
    }
}

/* Runs until something other than an I/O access happens. VCPU_KICKED: it did not come to
 * an end in time. */
static enum vcpu_event rig_run(struct rig *rig)
{
    uint64_t end = loop_now_ns() + TIMEOUT_NS;
    enum vcpu_event event;

    if (vcpu_load(&rig->vcpu, &rig->state, NULL) < 0) {
        return VCPU_FAILED;
    }
    arm(rig, TIMEOUT_NS, 0);
    do {
        vcpu_kick_clear(&rig->vcpu);
        event = vcpu_enter(&rig->vcpu);
    } while ((event == VCPU_IO || event == VCPU_KICKED) && loop_now_ns() < end);
    arm(rig, 0, 0);
    if (event == VCPU_IO) {
        (void)vcpu_settle(&rig->vcpu);
        event = VCPU_KICKED;
    }
    (void)rig->vcpu.ops->vcpu_get(rig->vcpu.fd, KVM_PART_REGS, &rig->state.regs);
    return event;
}

struct probe {
    const struct kvm_ops *ops;
    const char *kvm_path;
    struct probe_result *result;
    struct vmm_error *err;
    int sys_fd;
};

__attribute__((format(printf, 6, 7))) static void
note(struct probe *p, const char *key, const char *title, enum probe_verdict verdict,
     uint64_t value, const char *format, ...)
{
    struct probe_item *item;
    va_list args;

    BUG_ON(p->result->count == PROBE_ITEMS_MAX);
    item = &p->result->item[p->result->count++];
    *item = (struct probe_item){
        .key = key, .title = title, .verdict = verdict, .value = value};
    va_start(args, format);
    vsnprintf(item->text, sizeof item->text, format, args);
    va_end(args);
}

static enum probe_verdict verdict(bool yes)
{
    return yes ? PROBE_YES : PROBE_NO;
}

/* The vector of the exception that ended the run; -1: none did. */
static int fault_vector(enum vcpu_event event, const struct rig *rig)
{
    uint64_t rip = rig->state.regs.rip;

    return event == VCPU_HALT && rip > FAULT_HANDLER && rip <= FAULT_HANDLER + 256
               ? (int)(rip - FAULT_HANDLER - 1)
               : -1;
}

static const char *event_text(enum vcpu_event event, const struct rig *rig)
{
    switch (fault_vector(event, rig)) {
    case -1:
        break;
    case VECTOR_BP:
        return "raises #BP";
    case VECTOR_UD:
        return "raises #UD";
    case VECTOR_GP:
        return "raises #GP";
    default:
        return "raises an unexpected exception";
    }
    switch (event) {
    case VCPU_HALT:
        return "works";
    case VCPU_KICKED:
        return "makes no progress";
    case VCPU_TRIPLE_FAULT:
        return "triple fault";
    case VCPU_FAILED:
        return "not emulated";
    default:
        return "unexpected exit";
    }
}

#define OPEN(p, code, rig)                                                               \
    uint8_t bytes[] = code;                                                              \
    struct rig *rig;                                                                     \
    if (rig_open((p)->ops, (p)->kvm_path, bytes, sizeof bytes, &(rig), (p)->err) < 0) {  \
        return;                                                                          \
    }
#define CODE_BYTES(...)                                                                  \
    {                                                                                    \
        __VA_ARGS__                                                                      \
    }

/* Single instructions
 * ----------------------------------------------------------------------- */

/* Runs `code`, which ends in HLT; notes whether it got there, or (good_vector >= 0) to
 * that exception. */
static void try_code(struct probe *p, const char *key, const char *title,
                     const uint8_t *code, size_t len, int good_vector)
{
    struct rig *rig;
    enum vcpu_event event;
    bool reached;

    if (rig_open(p->ops, p->kvm_path, code, len, &rig, p->err) < 0) {
        return;
    }
    rig->state.sregs.cr4 |= 1u << 9; /* OSFXSR, for the SSE test */
    event = rig_run(rig);
    reached = event == VCPU_HALT && rig->state.regs.rip == CODE + len;
    if (good_vector >= 0) {
        reached = fault_vector(event, rig) == good_vector;
    }
    note(p, key, title, verdict(reached), 0, "%s", event_text(event, rig));
    rig_close(rig);
}

static const uint8_t sse[] = {0x0F, 0x57, 0xC0, 0xF4}; /* xorps; hlt */

static void probe_instructions(struct probe *p)
{
    static const uint8_t int3[] = {0xCC, 0xF4}; /* int3: the handler is right */
    static const uint8_t rdrand[] = {0x0F, 0xC7, 0xF0, 0xF4}; /* rdrand ax; hlt */
    static const uint8_t msr[] = {0xB9, 0x10, 0x00,
                                  0x0F, 0x32, 0xF4}; /* rdmsr 0x10: filtered */
    static const uint8_t hlt[] = {0xF4};

    try_code(p, "hlt", "HLT exits", hlt, sizeof hlt, -1);
    try_code(p, "sse", PROBE_SSE_TITLE, sse, sizeof sse, -1);
    try_code(p, "int3", "INT3 reaches the guest's handler", int3, sizeof int3, VECTOR_BP);
    try_code(p, "rdrand_hidden", "RDRAND faults when CPUID hides it", rdrand,
             sizeof rdrand, VECTOR_UD);
    try_code(p, "msr_filter", "MSR filter (refused MSR faults)", msr, sizeof msr,
             VECTOR_GP);
}

static void probe_pio(struct probe *p)
{
    /* out 0x10, al; in al, 0x11; mov si, 0x1000; mov cx, 3; mov dx, 0x12; rep outsb; hlt
     */
    OPEN(p,
         CODE_BYTES(0xE6, 0x10, 0xE4, 0x11, 0xBE, 0x00, 0x10, 0xB9, 0x03, 0x00, 0xBA,
                    0x12, 0x00, 0xF3, 0x6E, 0xF4),
         rig)
    enum vcpu_event event = rig_run(rig);
    /* the three bytes at 0x1000 are the code itself: e6 10 e4 */
    bool good = event == VCPU_HALT && rig->pio == 5 && rig->port == 0x12 &&
                (rig->state.regs.rax & 0xFF) == 0x5A && rig->last_out == 0xE4;

    note(p, "pio", "port I/O, string I/O included", verdict(good), 0, "%s",
         event_text(event, rig));
    rig_close(rig);
}

static void probe_mmio(struct probe *p)
{
    /* mov [bx], al; mov al, [bx]; hlt, with ds at 0xFEB00000 */
    OPEN(p, CODE_BYTES(0x88, 0x07, 0x8A, 0x07, 0xF4), rig)
    enum vcpu_event event;

    rig->state.sregs.ds.base = 0xFEB00000;
    rig->state.regs.rbx = 0x70;
    event = rig_run(rig);
    note(p, "mmio", "MMIO",
         verdict(event == VCPU_HALT && rig->mmio == 2 && rig->mmio_addr == 0xFEB00070 &&
                 (rig->state.regs.rax & 0xFF) == 0xA5),
         0, "%s", event_text(event, rig));
    rig_close(rig);
}

static void probe_cpuid(struct probe *p)
{
    OPEN(p, CODE_BYTES(0x0F, 0xA2, 0xF4), rig)
    struct kvm_regs start = rig->state.regs;
    bool tsc, apic, hypervisor;

    start.rax = 1;
    rig->state.regs = start;
    if (rig_run(rig) != VCPU_HALT) {
        note(p, "cpuid_honoured", "CPUID table is what the guest sees", PROBE_NO, 0,
             "CPUID does not work");
        rig_close(rig);
        return;
    }
    tsc = rig->state.regs.rdx & 1u << 4;
    apic = rig->state.regs.rdx & 1u << 9;
    hypervisor = rig->state.regs.rcx & 1u << 31;
    note(p, "cpuid_honoured", "CPUID table is what the guest sees",
         verdict(!tsc && !apic && !hypervisor), 0,
         "leaf 1: TSC %s, APIC %s, hypervisor %s", tsc ? "shown" : "hidden",
         apic ? "shown" : "hidden", hypervisor ? "shown" : "hidden");
    start.rax = 0x40000000;
    rig->state.regs = start;
    if (rig_run(rig) == VCPU_HALT) {
        uint32_t id[3] = {(uint32_t)rig->state.regs.rbx, (uint32_t)rig->state.regs.rcx,
                          (uint32_t)rig->state.regs.rdx};
        char text[13] = "";

        memcpy(text, id, 12);
        for (int i = 0; i < 12; i++) {
            text[i] = text[i] >= 32 && text[i] < 127 ? text[i] : '\0';
        }
        note(p, "pv_leaves", "paravirtual leaf 0x40000000", PROBE_INFO, 0, "%s",
             text[0] ? text : "absent");
    }
    rig_close(rig);
}

/* Time
 * --------------------------------------------------------------------------------------
 */

static void probe_tsc(struct probe *p)
{
    /* rdtsc; hlt */
    OPEN(p, CODE_BYTES(0x0F, 0x31, 0xF4), rig)
    union {
        struct kvm_msrs list;
        uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
    } tsc = {.list.nmsrs = 1};
    struct kvm_regs start = rig->state.regs;
    enum vcpu_event event = rig_run(rig);
    uint64_t first = (rig->state.regs.rdx << 32) | (uint32_t)rig->state.regs.rax, second;

    if (event != VCPU_HALT || rig->state.regs.rip != CODE + 3) {
        note(p, "tsc_runs", "RDTSC runs in the guest", PROBE_NO, 0, "%s",
             event_text(event, rig));
        rig_close(rig);
        return;
    }
    note(p, "tsc_runs", "RDTSC runs in the guest", PROBE_INFO, first,
         "although CPUID hides it: lockstep guests must not use it");
    tsc.list.entries[0] = (struct kvm_msr_entry){.index = 0x10};
    (void)rig->vcpu.ops->vcpu_set(rig->vcpu.fd, KVM_PART_MSRS, &tsc);
    rig->state.regs = start;
    (void)rig_run(rig);
    second = (rig->state.regs.rdx << 32) | (uint32_t)rig->state.regs.rax;
    note(p, "tsc_offset", "TSC offset is honoured", verdict(second < first), second,
         "set to 0, then read as %llu", (unsigned long long)second);
    note(p, "tsc_scaling", "TSC scaling",
         verdict(p->ops->check(p->sys_fd, KVM_CAP_TSC_CONTROL) > 0), 0, "%s", "");
    rig_close(rig);
}

static void probe_speed(struct probe *p)
{
    /* dec ecx; jnz -4; hlt */
    OPEN(p, CODE_BYTES(0x66, 0x49, 0x75, 0xFC, 0xF4), rig)
    const uint64_t loops = 10000;
    uint64_t start = loop_now_ns(), ns;
    enum vcpu_event event;

    rig->state.regs.rcx = loops;
    event = rig_run(rig);
    ns = loop_now_ns() - start;
    if (event == VCPU_HALT) {
        note(p, "instruction_ps", "time of one instruction", PROBE_INFO,
             ns * 1000 / (2 * loops), "%llu ps%s",
             (unsigned long long)(ns * 1000 / (2 * loops)),
             ns / loops > 200 ? ": KVM interprets guest code" : "");
    }
    rig_close(rig);
}

static void probe_exit_cost(struct probe *p)
{
    /* out 0x10, al; dec cx; jnz; hlt */
    OPEN(p, CODE_BYTES(0xE6, 0x10, 0x49, 0x75, 0xFB, 0xF4), rig)
    const uint64_t exits = 2000;
    uint64_t start = loop_now_ns(), ns;

    rig->state.regs.rcx = exits;
    if (rig_run(rig) == VCPU_HALT && rig->pio == exits) {
        ns = (loop_now_ns() - start) / exits;
        note(p, "exit_ns", "time of one exit (port write)", PROBE_INFO, ns, "%llu ns",
             (unsigned long long)ns);
    }
    rig_close(rig);
}

/* Debugging: positions in guest time
 * ------------------------------------------------------- */

static void probe_single_step(struct probe *p)
{
    /* 64 x nop; hlt */
    uint8_t code[65];
    struct kvm_guest_debug debug = {.control =
                                        KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};
    struct rig *rig;
    uint64_t start, steps = 0, ns;
    enum vcpu_event event = VCPU_DEBUG;
    struct kvm_regs regs;

    memset(code, 0x90, sizeof code - 1);
    code[sizeof code - 1] = 0xF4;
    if (rig_open(p->ops, p->kvm_path, code, sizeof code, &rig, p->err) < 0) {
        return;
    }
    if (vcpu_load(&rig->vcpu, &rig->state, NULL) < 0 ||
        p->ops->vcpu_debug(rig->vcpu.fd, &debug) < 0) {
        note(p, "single_step", "single-step", PROBE_NO, 0, "KVM_SET_GUEST_DEBUG refused");
        rig_close(rig);
        return;
    }
    start = loop_now_ns();
    for (unsigned i = 0; i < sizeof code - 1 && event == VCPU_DEBUG; i++) {
        vcpu_kick_clear(&rig->vcpu);
        event = vcpu_enter(&rig->vcpu);
        (void)p->ops->vcpu_get(rig->vcpu.fd, KVM_PART_REGS, &regs);
        steps += event == VCPU_DEBUG && regs.rip == CODE + i + 1;
    }
    ns = (loop_now_ns() - start) / (sizeof code - 1);
    note(p, "single_step", "single-step", verdict(steps == sizeof code - 1), ns,
         "%llu ns each", (unsigned long long)ns);
    vcpu_kick_clear(&rig->vcpu);
    event = vcpu_enter(&rig->vcpu);
    note(p, "single_step_hlt", "HLT is seen under single-step",
         verdict(event == VCPU_HALT), 0,
         event == VCPU_DEBUG ? "reports a debug exit only" : "%s",
         event_text(event, rig));
    rig_close(rig);
}

/* The self-test of design 7.2: is the interrupt-window exit a function of guest execution
 * alone? The guest opens the window at one place; a timer kicks at random moments; every
 * exit must come there, with the same registers. */
static void probe_irq_window(struct probe *p)
{
    /* cli; out 0x10, al; mov cx, 50; dec cx; jnz -3; sti; nop x 8; cli; jmp start */
    OPEN(p,
         CODE_BYTES(0xFA, 0xE6, 0x10, 0xB9, 50, 0x00, 0x49, 0x75, 0xFD, 0xFB, 0x90, 0x90,
                    0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xFA, 0xEB, 0xEB),
         rig)
    uint64_t end = loop_now_ns() + 4 * TIMEOUT_NS;
    unsigned windows = 0, missed = 0, elsewhere = 0, kicked = 0;
    struct kvm_regs first = {0}, regs;
    struct kvm_run *run = rig->vcpu.run;

    if (vcpu_load(&rig->vcpu, &rig->state, NULL) < 0) {
        rig_close(rig);
        return;
    }
    arm(rig, KICK_EVERY_NS, KICK_EVERY_NS);
    while (windows + missed < WINDOWS && loop_now_ns() < end) {
        enum vcpu_event event;

        vcpu_kick_clear(&rig->vcpu);
        event = vcpu_enter(&rig->vcpu);
        kicked += event == VCPU_KICKED;
        if (event == VCPU_IO) {
            missed += run->request_interrupt_window; /* a whole round without a window */
            run->request_interrupt_window = 1;
        } else if (event == VCPU_IRQ_WINDOW) {
            run->request_interrupt_window = 0;
            (void)p->ops->vcpu_get(rig->vcpu.fd, KVM_PART_REGS, &regs);
            first = windows == 0 ? regs : first;
            elsewhere += memcmp(&first, &regs, sizeof regs) != 0;
            windows++;
        } else if (event != VCPU_KICKED) {
            break;
        }
    }
    arm(rig, 0, 0);
    note(p, "irq_window_exits", "interrupt-window exits", verdict(windows > 0), windows,
         "%u seen, %u rounds without one, %u kicks", windows, missed, kicked);
    note(p, "irq_window_deterministic",
         "interrupt window is a position (same RIP and registers)",
         verdict(windows == WINDOWS && elsewhere == 0 && missed == 0), elsewhere,
         "%u of %u elsewhere, %u missed", elsewhere, windows, missed);
    rig_close(rig);
}

/* Memory
 * ------------------------------------------------------------------------------------ */

static void probe_dirty_log(struct probe *p)
{
    /* mov [0x3000], al; mov [0x5000], al; hlt */
    OPEN(p, CODE_BYTES(0xA2, 0x00, 0x30, 0xA2, 0x00, 0x50, 0xF4), rig)
    struct kvm_userspace_memory_region region = {
        .slot = VM_SLOT_RAM,
        .flags = KVM_MEM_LOG_DIRTY_PAGES,
        .memory_size = RAM_LEN,
        .userspace_addr = (uint64_t)(uintptr_t)rig->vm.ram,
    };
    uint64_t bitmap[RAM_LEN / 4096 / 64] = {0};
    struct kvm_dirty_log log = {.slot = VM_SLOT_RAM, .dirty_bitmap = bitmap};
    /* Where we do the protecting, KVM begins with every page marked. */
    uint64_t all[RAM_LEN / 4096 / 64];
    struct kvm_clear_dirty_log clear = {
        .slot = VM_SLOT_RAM, .num_pages = RAM_LEN / 4096, .dirty_bitmap = all};
    bool good = p->ops->vm_memory(rig->vm.vm_fd, &region) >= 0;

    memset(all, 0xFF, sizeof all);
    if (rig->vm.dirty_manual) {
        good = good && p->ops->vm_clear_dirty_log(rig->vm.vm_fd, &clear) >= 0;
    }
    good = good && rig_run(rig) == VCPU_HALT &&
           p->ops->vm_dirty_log(rig->vm.vm_fd, &log) >= 0 && (bitmap[0] & 0x28) == 0x28 &&
           (bitmap[0] & 0x50) == 0;
    note(p, "dirty_log", "dirty log", verdict(good), bitmap[0], "%s", "");
    rig_close(rig);
}

static void probe_host_memory(struct probe *p)
{
    struct uffdio_api api = {.api = UFFD_API};
    int ring = p->ops->check(p->sys_fd, KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    bool good = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;

    if (ring <= 0) {
        ring = p->ops->check(p->sys_fd, KVM_CAP_DIRTY_LOG_RING);
    }
    note(p, "dirty_ring", "dirty ring", verdict(ring > 0), ring > 0 ? (uint64_t)ring : 0,
         "%d bytes at most", ring > 0 ? ring : 0);
    note(p, "userfaultfd", "userfaultfd", verdict(good), good ? api.features : 0,
         good ? "missing pages%s%s" : "not permitted or absent",
         good && (api.features & UFFD_FEATURE_PAGEFAULT_FLAG_WP) ? ", write protection"
                                                                 : "",
         good && (api.features & UFFD_FEATURE_MISSING_SHMEM) ? ", shared memory" : "");
    if (fd >= 0) {
        close(fd);
    }
}

/* Capabilities
 * ------------------------------------------------------------------------------ */

static void probe_caps(struct probe *p)
{
    static const struct {
        const char *key, *title;
        int cap;
    } caps[] = {
        {"cap_irqchip", "in-kernel interrupt controllers", KVM_CAP_IRQCHIP},
        {"cap_irqfd", "irqfd", KVM_CAP_IRQFD},
        {"cap_msi", "MSI routing", KVM_CAP_SIGNAL_MSI},
        {"cap_readonly_mem", "read-only memory", KVM_CAP_READONLY_MEM},
        {"cap_sync_regs", "registers in the run page", KVM_CAP_SYNC_REGS},
        {"cap_xsave2", "XSAVE2", KVM_CAP_XSAVE2},
        {"cap_nested", "nested state", KVM_CAP_NESTED_STATE},
    };

    for (size_t i = 0; i < ARRAY_SIZE(caps); i++) {
        int r = p->ops->check(p->sys_fd, caps[i].cap);

        note(p, caps[i].key, caps[i].title, verdict(r > 0), r > 0 ? (uint64_t)r : 0, "%s",
             "");
    }
}

int probe_host(const struct kvm_ops *ops, const char *kvm_path,
               struct probe_result *ret_result, struct vmm_error *err)
{
    struct probe p = {.ops = ops, .kvm_path = kvm_path, .result = ret_result, .err = err};
    static const uint8_t hlt[] = {0xF4};
    struct rig *rig;
    int r;

    memset(ret_result, 0, sizeof *ret_result);
    r = vcpu_kick_setup();
    if (r < 0) {
        return vmm_fail(err, r, "cannot set a signal handler: %s", strerror(-r));
    }
    /* Once for the message: without this much nothing else can be asked. */
    r = rig_open(ops, kvm_path, hlt, sizeof hlt, &rig, err);
    if (r < 0) {
        return r;
    }
    p.sys_fd = rig->vm.sys_fd;
    note(&p, "api", "KVM API version", PROBE_INFO, KVM_API_VERSION, "%d",
         KVM_API_VERSION);
    probe_caps(&p);
    probe_instructions(&p);
    probe_pio(&p);
    probe_mmio(&p);
    probe_cpuid(&p);
    probe_tsc(&p);
    probe_speed(&p);
    probe_exit_cost(&p);
    probe_single_step(&p);
    probe_irq_window(&p);
    probe_dirty_log(&p);
    probe_host_memory(&p);
    rig_close(rig);
    return 0;
}

int probe_sse(const struct kvm_ops *ops, const char *kvm_path, struct vmm_error *err)
{
    struct probe_result *result = calloc(1, sizeof *result);
    struct probe p = {.ops = ops, .kvm_path = kvm_path, .result = result, .err = err};
    int r = result ? vcpu_kick_setup() : -ENOMEM;

    if (r < 0) {
        free(result);
        return vmm_fail(err, r, "cannot try SSE: %s", strerror(-r));
    }
    try_code(&p, "sse", PROBE_SSE_TITLE, sse, sizeof sse, -1);
    r = result->count == 0 ? -EIO : probe_yes(result, "sse");
    free(result);
    return r;
}

const struct probe_item *probe_find(const struct probe_result *result, const char *key)
{
    for (unsigned i = 0; i < result->count; i++) {
        if (strcmp(result->item[i].key, key) == 0) {
            return &result->item[i];
        }
    }
    return NULL;
}

bool probe_yes(const struct probe_result *result, const char *key)
{
    const struct probe_item *item = probe_find(result, key);

    return item && item->verdict == PROBE_YES;
}
