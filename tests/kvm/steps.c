/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The oracle of positions (notes/ft.md 8): small payloads run free, under a rain of
 * kicks, and in single steps. At every completed exit all of them must have the same
 * registers and bytes, at the end the same memory; and a position "exit n, then k
 * instructions" must be reached by running free to n and stepping k. Interrupts are
 * injected at exits only, as the loop of vmm/engine_tape.c does it. TAP on stdout.
 * --wrong: interrupts come at kicks, too: it must be noticed. --fpu: payloads with x87
 * and SSE, too, which not every KVM runs. --kicks: no single steps: in the nested bed
 * (AMD-V under QEMU's TCG) KVM loses them at the first exit.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/units.h"
#include "vmm/vcpu.h"

#define RAM_LEN    (UINT64_C(1) << 20)
#define CODE_AT    0x1000
#define STACK_AT   0x0FF0
#define DATA_AT    0x8000
#define PORT_END   0xF4
#define IRQ_VECTOR 0x20
#define POINTS_MAX 4096
#define STEPS_MAX  60000
#define KICK_NS    (30 * 1000)

/* 16-bit code at CODE_AT. It ends with an OUT to PORT_END. */
#define PAYLOAD(name, code)                                                              \
    __asm__(".pushsection .rodata\n.code16\npayload_" #name ":\n" code                   \
            "\n  out %al, $0xF4\npayload_" #name "_end:\n.code64\n.popsection\n");       \
    extern const uint8_t payload_##name[], payload_##name##_end[]

PAYLOAD(strings, R"(
    mov $counts_strings - payload_strings + 0x1000, %bx
1:  mov (%bx), %bp
    cmp $0xFFFF, %bp
    je 9f
    mov $0x8000, %si
    mov $0x9000, %di
    mov %bp, %cx
    cld
    rep stosb
    mov %bp, %cx
    mov $0x9000, %di
    rep movsb
    out %al, $0xE0
    mov %bp, %cx
    mov $0x8100, %si
    mov $0x9101, %di
    rep movsw
    out %al, $0xE0
    mov %bp, %cx
    mov $0x8000, %si
    mov $0x9000, %di
    repe cmpsb
    lahf
    out %ax, $0xE1
    mov %bp, %cx
    mov $0x9000, %di
    mov $0x5A, %al
    repne scasb
    out %ax, $0xE1
    std
    mov %bp, %cx
    mov $0xAFFF, %si
    mov $0xBFFF, %di
    rep movsb
    mov %bp, %cx
    rep lodsb
    out %ax, $0xE1
    cld
    add $2, %bx
    jmp 1b
counts_strings:
    .word 0, 1, 2, 3, 7, 64, 255, 1000, 0xFFFF
9:  nop
)");

PAYLOAD(flags, R"(
    mov $40, %cx
    mov $0x1234, %ax
    mov $0xF00F, %dx
1:  add %dx, %ax
    adc $0x7FFF, %dx
    rcl $3, %ax
    rcr $1, %dx
    sbb %ax, %dx
    imul %dx, %bx
    neg %bx
    pushf
    pop %si
    and $0x0CD5, %si
    xchg %ax, %si
    out %ax, $0xE1
    xchg %ax, %si
    push %si
    popf
    shl $1, %dx
    bt %cx, %dx
    jc 2f
    out %al, $0xE0
2:  loop 1b
)");

/* Exits behind STI and MOV SS, where an interrupt may not come yet, and in a region
 * without interrupts. */
PAYLOAD(shadow, R"(
    mov $30, %cx
    xor %ax, %ax
1:  cli
    out %al, $0xE2
    sti
    out %al, $0xE2
    nop
    cli
    out %al, $0xE2
    inc %bx
    sti
    mov %ax, %ss
    out %al, $0xE2
    nop
    pushf
    cli
    popf
    out %al, $0xE2
    loop 1b
)");

PAYLOAD(faults, R"(
    movw $ud_faults - payload_faults + 0x1000, 4 * 6
    movw $de_faults - payload_faults + 0x1000, 4 * 0
    movw $in_faults - payload_faults + 0x1000, 4 * 0x41
    mov $12, %di
1:  mov %di, %ax
    ud2
    int $0x41
    out %al, $0xE0
    dec %di
    jnz 1b
    jmp 9f
ud_faults:
    mov %sp, %bp
    addw $2, (%bp)
    xor %cx, %cx
    div %cl
    out %al, $0xE0
    iret
de_faults:
    mov %sp, %bp
    addw $2, (%bp)
    int $0x41
    add $3, %bx
    iret
in_faults:
    add %bx, %dx
    out %ax, $0xE1
    iret
9:  nop
)");

PAYLOAD(selfmod, R"(
    mov $50, %cx
    mov $1, %al
1:  movb %al, 2f - payload_selfmod + 0x1001
2:  mov $0, %bl
    add %bl, %al
    movb $0x40, 3f - payload_selfmod + 0x1000
3:  nop
    movb $0x90, 3b - payload_selfmod + 0x1000
    out %ax, $0xE1
    loop 1b
)");

PAYLOAD(halts, R"(
    mov $40, %cx
1:  sti
    hlt
    inc %dx
    mov %cx, %si
2:  dec %si
    jnz 2b
    out %ax, $0xE1
    cli
    sti
    hlt
    loop 1b
)");

PAYLOAD(string_io, R"(
    mov $counts_io - payload_string_io + 0x1000, %bx
1:  mov (%bx), %cx
    cmp $0xFFFF, %cx
    je 9f
    mov %cx, %bp
    mov $0x8003, %si
    mov $0xE5, %dx
    cld
    rep outsb
    out %al, $0xE0
    mov %bp, %cx
    mov $0x9003, %di
    rep insb
    mov %bp, %cx
    mov $0xA001, %di
    rep insw
    out %ax, $0xE1
    add $2, %bx
    jmp 1b
counts_io:
    .word 0, 1, 2, 7, 64, 300, 1500, 0xFFFF
9:  nop
)");

/* x87 and SSE2, in registers from exit to exit; at the end all of their state is in
 * memory. Needs a KVM that runs them (--fpu). */
PAYLOAD(fpu, R"(
    mov %cr4, %eax
    or $0x600, %eax
    mov %eax, %cr4
    fninit
    fld1
    fldpi
    mov $0x3F800000, %eax
    movd %eax, %xmm2
    pshufd $0, %xmm2, %xmm2
    pxor %xmm1, %xmm1
    mov $25, %cx
1:  fadd %st(1), %st
    fsqrt
    fld %st
    fsin
    faddp
    fstl 0x9100
    movsd 0x9100, %xmm0
    addsd %xmm0, %xmm1
    sqrtsd %xmm1, %xmm3
    mulps %xmm2, %xmm3
    addps %xmm3, %xmm2
    paddd %xmm2, %xmm4
    cvttsd2si %xmm1, %eax
    out %ax, $0xE1
    movd %xmm4, %eax
    out %ax, $0xE1
    fnstsw %ax
    out %ax, $0xE1
    movq 0x9100, %xmm5
    psrlq $20, %xmm5
    movd %xmm5, %eax
    out %ax, $0xE1
    loop 1b
    fxsave 0xA000
    stmxcsr 0x9108
)");

#define CORPUS(name, irqs)                                                               \
    {                                                                                    \
#name, payload_##name, payload_##name##_end, irqs                                \
    }
static const struct payload {
    const char *name;
    const uint8_t *begin, *end;
    bool irqs; /* one waits from every third exit on */
} corpus[] = {
    CORPUS(strings, false),  CORPUS(flags, false),  CORPUS(shadow, true),
    CORPUS(faults, false),   CORPUS(selfmod, true), CORPUS(halts, true),
    CORPUS(string_io, true), CORPUS(fpu, true),
};

/* The interrupt's handler, at 0x700. */
static const uint8_t irq_code[] = {
    0xFF, 0x06, 0x00, 0x09, /* incw 0x900 */
    0xE6, 0xE3,             /* out %al, $0xE3 */
    0xCF,                   /* iret */
};

/* A completed exit. */
struct point {
    unsigned reason;
    uint64_t address;
    uint32_t data; /* crc of its bytes */
    bool boundary;
    uint64_t steps; /* instructions since the exit before; single steps only */
    struct kvm_regs regs;
};

struct trace {
    unsigned count;
    struct point point[POINTS_MAX];
    uint32_t memory;
    /* Single steps: registers after each, and where those of a point begin. */
    unsigned steps;
    uint32_t step_crc[STEPS_MAX];
    unsigned first[POINTS_MAX + 1];
};

struct world {
    struct vm vm;
    struct vcpu v;
    bool irq, irqs, over;
    uint32_t bytes; /* crc of this exit's bytes */
    unsigned exits;
    uint64_t kicks; /* in the middle of the guest's run */
};

static struct {
    bool wrong, fpu, kicks;
} opt;

enum way { FREE, KICKED, STEPPED, WRONG };

static void w_pio(void *ctx, uint16_t port, bool is_write, unsigned size, void *data)
{
    struct world *w = ctx;

    for (unsigned i = 0; !is_write && i < size; i++) {
        ((uint8_t *)data)[i] = (uint8_t)(w->exits * 7 + port + i + w->bytes);
    }
    w->bytes = crc32c(w->bytes, data, size);
    w->over |= is_write && port == PORT_END;
}

static void w_mmio(void *ctx, struct gpa addr, bool is_write, unsigned len, void *data)
{
    (void)ctx, (void)addr;
    if (!is_write) {
        memset(data, 0xFF, len);
    }
}

static bool w_irq(void *ctx)
{
    return ((struct world *)ctx)->irq;
}

static uint8_t w_ack(void *ctx)
{
    ((struct world *)ctx)->irq = false;
    return IRQ_VECTOR;
}

static const struct vcpu_bus bus = {w_pio, w_mmio, w_irq, w_ack};

static int die(const char *what, const char *why)
{
    printf("Bail out! %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

static void real_mode(struct kvm_segment *s)
{
    s->base = 0;
    s->selector = 0;
}

static void load(struct world *w, const struct payload *p)
{
    struct vmm_error err;
    struct vcpu_state *state = aligned_alloc(64, (sizeof *state + 63) & ~(size_t)63);
    uint16_t vector[2] = {0x700, 0};

    if (!state) {
        die("memory", "none");
    }
    memset(w->vm.ram, 0, RAM_LEN);
    for (unsigned i = 0; i < 0x8000; i++) {
        w->vm.ram[DATA_AT + i] = (uint8_t)(i * 31 >> 3);
    }
    memcpy(w->vm.ram + CODE_AT, p->begin, (size_t)(p->end - p->begin));
    memcpy(w->vm.ram + 0x700, irq_code, sizeof irq_code);
    memcpy(w->vm.ram + 4 * IRQ_VECTOR, vector, sizeof vector);
    if (vcpu_reset(&w->v, &err) < 0 || vcpu_save(&w->v, state, &err) < 0) {
        die("vCPU", err.text);
    }
    real_mode(&state->sregs.cs);
    real_mode(&state->sregs.ds);
    real_mode(&state->sregs.es);
    real_mode(&state->sregs.ss);
    memset(&state->regs, 0, sizeof state->regs);
    state->regs.rip = CODE_AT;
    state->regs.rsp = STACK_AT;
    state->regs.rflags = 2;
    if (vcpu_load(&w->v, state, &err) < 0) {
        die("vCPU", err.text);
    }
    free(state);
    w->irq = w->over = false;
    w->irqs = p->irqs;
    w->exits = 0;
    (void)vcpu_refresh(&w->v);
}

static void step_on(struct world *w, bool on)
{
    struct kvm_guest_debug debug = {
        .control = on ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0};

    if (w->v.ops->vcpu_debug(w->v.fd, &debug) < 0) {
        die("KVM_SET_GUEST_DEBUG", strerror(errno));
    }
}

static struct kvm_regs regs_of(struct world *w)
{
    struct kvm_regs regs;

    if (w->v.ops->vcpu_get(w->v.fd, KVM_PART_REGS, &regs) < 0) {
        die("registers", "KVM does not tell them");
    }
    regs.rflags &= ~(UINT64_C(1) << 16); /* RF */
    return regs;
}

/* One KVM_RUN; a HLT that a step went over counts as its exit. */
static enum vcpu_event enter(struct world *w, bool step)
{
    bool halt = step && w->vm.ram[regs_of(w).rip & 0xFFFF] == 0xF4;
    enum vcpu_event event;

    w->bytes = 0;
    vcpu_kick_clear(&w->v);
    event = vcpu_enter(&w->v);
    return event == VCPU_DEBUG && halt ? VCPU_HALT : event;
}

/* Finishes the instruction; more exits of it follow one by one. */
static enum vcpu_event settle(struct world *w)
{
    enum vcpu_event event;

    w->bytes = 0;
    w->v.unsettled = true;
    __atomic_store_n(&w->v.run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    event = vcpu_enter(&w->v);
    return event == VCPU_DEBUG ? VCPU_KICKED : event;
}

static void keep(struct world *w, struct trace *t, enum vcpu_event event, uint64_t steps)
{
    struct point *p = &t->point[t->count++];

    if (t->count == POINTS_MAX) {
        die("payload", "too many exits");
    }
    *p = (struct point){.reason =
                            event == VCPU_HALT ? KVM_EXIT_HLT : w->v.run->exit_reason,
                        .data = w->bytes,
                        .steps = steps};
    if (p->reason == KVM_EXIT_IO) {
        p->address = (uint64_t)w->v.run->io.port << 32 |
                     (uint32_t)w->v.run->io.size << 24 | w->v.run->io.count;
    }
    w->exits++;
    w->irq |= w->irqs && w->exits % 3 == 0;
}

static void inject(struct world *w)
{
    uint8_t vector;

    if (vcpu_inject(&w->v, &vector) < 0) {
        die("interrupt", w->v.fault.text);
    }
}

static void keep_step(struct world *w, struct trace *t)
{
    struct kvm_regs regs = regs_of(w);

    if (t->steps == STEPS_MAX) {
        die("payload", "too many instructions");
    }
    t->step_crc[t->steps++] = crc32c(0, &regs, sizeof regs);
}

/* Stops at exit `until` (UINT_MAX: at the end). */
static void run(struct world *w, const struct payload *p, enum way way, unsigned until,
                struct trace *t)
{
    uint64_t steps = 0;

    load(w, p);
    t->count = t->steps = t->first[0] = 0;
    step_on(w, way == STEPPED);
    while (!w->over && t->count < until) {
        enum vcpu_event event = enter(w, way == STEPPED);

        if (event == VCPU_DEBUG) {
            steps++;
            keep_step(w, t);
            continue;
        }
        if (event == VCPU_KICKED) {
            w->kicks++;
            if (way == WRONG && w->irqs) {
                w->irq = true;
                inject(w);
            }
            continue;
        }
        while (event == VCPU_IO || event == VCPU_HALT) {
            keep(w, t, event, steps);
            event = settle(w);
        }
        if (event != VCPU_KICKED) {
            die(p->name, w->v.fault.text[0] ? w->v.fault.text : "unexpected exit");
        }
        t->point[t->count - 1].boundary = true;
        t->point[t->count - 1].regs = regs_of(w);
        t->first[t->count] = t->steps;
        steps = 0;
        if (t->point[t->count - 1].reason == KVM_EXIT_HLT) {
            w->irq = true;
        }
        inject(w);
    }
    step_on(w, false);
    t->memory = crc32c(0, w->vm.ram, RAM_LEN);
}

/* Comparing ------------------------------------------------------------------------ */

static bool same(const char *name, const char *what, const struct trace *a,
                 const struct trace *b)
{
    for (unsigned i = 0; i < a->count && i < b->count; i++) {
        const struct point *p = &a->point[i], *q = &b->point[i];

        if (p->reason != q->reason || p->address != q->address || p->data != q->data ||
            p->boundary != q->boundary || memcmp(&p->regs, &q->regs, sizeof p->regs)) {
            printf("# %s, %s: exit %u differs: free at rip %#llx, here %#llx\n", name,
                   what, i + 1, (unsigned long long)p->regs.rip,
                   (unsigned long long)q->regs.rip);
            return false;
        }
    }
    if (a->count != b->count || a->memory != b->memory) {
        printf("# %s, %s: %u exits, memory %08x; free: %u, %08x\n", name, what, b->count,
               b->memory, a->count, a->memory);
        return false;
    }
    return true;
}

/* KVM may owe the exit of a HLT that a step went over together with the STI before it
 * (kvm_pvm): it is taken on the way to an OUT. */
static void take_owed(struct world *w, const struct payload *p)
{
    load(w, p);
    memcpy(w->vm.ram + CODE_AT, "\x90\x90\xE6\xE0", 4); /* nop; nop; out %al, $0xE0 */
    while (enter(w, false) != VCPU_IO) {
    }
    while (settle(w) != VCPU_KICKED) {
    }
}

/* Exit n by running free, then k instructions in steps. */
static bool lands(struct world *w, const struct payload *p, const struct trace *stepped,
                  struct trace *t, unsigned n)
{
    unsigned first = stepped->first[n], k = stepped->first[n + 1] - first;

    if (!stepped->point[n].boundary || (n > 0 && !stepped->point[n - 1].boundary)) {
        return true; /* in the middle of an instruction */
    }
    run(w, p, FREE, n, t);
    step_on(w, true);
    t->steps = 0;
    for (unsigned i = 0; i < k;) {
        enum vcpu_event event = enter(w, true);

        if (event == VCPU_DEBUG) {
            keep_step(w, t);
            i++;
        } else if (event != VCPU_KICKED) {
            break;
        }
    }
    step_on(w, false);
    take_owed(w, p);
    if (t->steps != k || memcmp(t->step_crc, stepped->step_crc + first, k * 4) != 0) {
        printf("# %s: not landed in the %u instructions after exit %u (%u steps; rip "
               "%#llx at that exit)\n",
               p->name, k, n, t->steps,
               n > 0 ? (unsigned long long)stepped->point[n - 1].regs.rip : 0);
        return false;
    }
    return true;
}

static timer_t start_kicks(bool on)
{
    static timer_t timer;
    static bool made;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID,
                             .sigev_signo = VCPU_KICK_SIGNAL};
    struct itimerspec when = {.it_interval.tv_nsec = on ? KICK_NS : 0,
                              .it_value.tv_nsec = on ? KICK_NS : 0};

    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    if (!made && timer_create(CLOCK_MONOTONIC, &event, &timer) < 0) {
        die("timer", strerror(errno));
    }
    made = true;
    (void)timer_settime(timer, 0, &when, NULL);
    return timer;
}

static bool check_steps(struct world *w, const struct payload *p,
                        const struct trace *free_run, struct trace *other,
                        struct trace *landing)
{
    bool good;

    run(w, p, STEPPED, UINT32_MAX, other);
    good = same(p->name, "stepped", free_run, other);
    for (unsigned n = 0; good && n < other->count; n += 1 + other->count / 12) {
        good = lands(w, p, other, landing, n);
    }
    return good && other->steps > 20;
}

static bool check(struct world *w, const struct payload *p)
{
    struct trace *free_run = calloc(3, sizeof *free_run), *other, *landing;
    uint64_t kicks;
    bool good;

    if (!free_run) {
        return die("memory", "none");
    }
    other = free_run + 1;
    landing = free_run + 2;
    run(w, p, FREE, UINT32_MAX, free_run);
    start_kicks(true);
    w->kicks = 0;
    good = true;
    for (unsigned i = 0; i < 5 && good; i++) {
        run(w, p, opt.wrong ? WRONG : KICKED, UINT32_MAX, other);
        good = same(p->name, "kicked", free_run, other);
    }
    start_kicks(false);
    kicks = w->kicks;
    other->steps = 0;
    good = (opt.kicks || check_steps(w, p, free_run, other, landing)) && good;
    printf("# %s: %u exits, %u instructions in steps, %llu kicks\n", p->name,
           free_run->count, other->steps, (unsigned long long)kicks);
    good = good && free_run->count > 10 && kicks > 0;
    free(free_run);
    return good;
}

int main(int argc, char **argv)
{
    const struct vm_conf conf = {.kvm_path = "/dev/kvm", .ram_len = RAM_LEN};
    size_t count = ARRAY_SIZE(corpus);
    struct world *w = calloc(1, sizeof *w);
    struct vmm_error err = {"no memory"};
    unsigned bad = 0;

    for (int i = 1; i < argc; i++) {
        opt.wrong |= strcmp(argv[i], "--wrong") == 0;
        opt.fpu |= strcmp(argv[i], "--fpu") == 0;
        opt.kicks |= strcmp(argv[i], "--kicks") == 0;
    }
    count -= opt.fpu ? 0 : 1; /* the last one */
    if (!w || vm_open(&kvm_linux, &conf, &w->vm, &err) < 0 ||
        vcpu_open(&w->vm, &bus, w, &w->v, &err) < 0 || vcpu_kick_setup() < 0) {
        return die("KVM", err.text);
    }
    vcpu_kick_arm(&w->v);
    printf("1..%zu\n", count);
    for (unsigned i = 0; i < count; i++) {
        bool good = check(w, &corpus[i]);

        printf("%s %u - %s\n", good ? "ok" : "not ok", i + 1, corpus[i].name);
        fflush(stdout);
        bad += !good;
    }
    vcpu_close(&w->v);
    vm_close(&w->vm);
    free(w);
    return bad > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
