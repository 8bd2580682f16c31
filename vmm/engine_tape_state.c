/* SPDX-License-Identifier: Apache-2.0 */
/* Barriers and the end of a recording: memory, registers and devices of a VM that stands
 * still, kept by the side that records, taken or compared by the one that replays. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cpu_state.h"
#include "vmm/engine_ram.h"
#include "vmm/engine_tape_priv.h"

/* Which components are not in their initial state: how the host came to save them decides
 * over it (Intel SDM 1, 13.6), and KVM tells the components in full either way. */
#define XSTATE_BV_AT 512

const char *const tape_reg_name[TAPE_REGS] = {
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8",
    "r9",  "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"};

/* Devices, then the vCPU; the length, 0 after trouble. */
size_t tape_save(struct engine *e, uint8_t *buf)
{
    struct vcpu_state *cpu = aligned_alloc(64, (sizeof *cpu + 63) & ~(size_t)63);
    struct vmm_error err = {"no memory for the vCPU's state"};
    struct state_io io;
    size_t len = 0;

    if (cpu && vcpu_save(&e->vcpu, cpu, &err) == 0) {
        cpu_state_canonical(cpu);
        state_save_init(&io, buf, FT_STATE_MAX);
        (void)machine_xfer(e->machine, &io);
        state_section_begin(&io, CPU_SECTION, 0, CPU_SECTION_VERSION, 1);
        (void)cpu_state_xfer(cpu, false, &io);
        state_section_end(&io);
        len = state_save_finish(&io);
        (void)vmm_fail(&err, -1, "it does not fit: %s", state_error_str(io.error));
    }
    free(cpu);
    if (len == 0) {
        tape_trouble(e, "the VM's state cannot be kept: %.150s", err.text);
    }
    return len;
}

bool tape_save_state(struct engine *e, uint64_t position)
{
    size_t len = tape_save(e, e->tape->state);

    if (len > 0) {
        TAPE_CALL(e->tape, state, position, e->tape->state, len);
    }
    return len > 0;
}

/* Barrier: recording
 * ----------------------------------------------------------------------- */

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, GMEM_PAGE_SIZE - 1) == 0;
}

static bool is_dirty(const struct tape_run *t, uint64_t page)
{
    return (t->dirty[page / 64] >> page % 64 & 1) != 0;
}

/* The run of dirty pages from `page` on that are all zero, or all not. */
static uint64_t run_end(const struct tape_run *t, const struct engine_ram *ram,
                        uint64_t page, uint64_t end, bool zero)
{
    while (page < end && is_dirty(t, page) &&
           is_zero(ram->host + page * GMEM_PAGE_SIZE) == zero) {
        page++;
    }
    return page;
}

static void tell_pages(struct engine *e, const struct engine_ram *ram, uint64_t begin,
                       uint64_t end)
{
    struct tape_run *t = e->tape;

    while (begin < end) {
        const uint8_t *host = ram->host + begin * GMEM_PAGE_SIZE;
        uint64_t next;
        bool zero;

        if (!is_dirty(t, begin)) {
            begin++;
            continue;
        }
        zero = is_zero(host);
        next = run_end(t, ram, begin, end, zero);
        TAPE_CALL(t, pages, t->exits + 1, begin, next - begin, zero ? NULL : host);
        begin = next;
    }
}

/* Pages that do not exist have never been written to. */
static int tell_dirty(struct engine *e)
{
    struct tape_run *t = e->tape;
    struct engine_ram ram;
    uint64_t begin = 0, end = 0, pages;
    int r;

    engine_ram(e, &ram);
    memset(t->dirty, 0, (ram.page_count / 64 + 1) * sizeof *t->dirty);
    r = engine_dirty_collect(e, t->dirty, &pages);
    if (r == 0) {
        r = engine_dirty_protect(e, 0, ram.page_count);
    }
    while (r == 0 && engine_ram_data(&ram, &begin, &end)) {
        tell_pages(e, &ram, begin, end);
        begin = end;
    }
    return r;
}

void tape_at_barrier(struct engine *e)
{
    struct tape_run *t = e->tape;

    t->exits++;
    t->x = (struct tape_exit){.number = t->exits, .kind = TAPE_EXIT_BARRIER};
    tape_take_regs(e);
    t->at_position = true;
    t->left = false;
    e->halted = false;
    (void)tape_tell_exit(e);
}

void tape_barrier(struct engine *e)
{
    struct tape_run *t = e->tape;
    int r;

    if (vcpu_refresh(&e->vcpu) != VCPU_KICKED) {
        t->broken = true;
        tape_trouble(e, "the vCPU does not stop for a barrier");
        (void)engine_end_run(e, RUN_END_CRASH, e->vcpu.fault.text);
        return;
    }
    r = tell_dirty(e);
    if (r < 0) {
        tape_trouble(e, "KVM does not tell which pages were written to: %s",
                     strerror(-r));
    }
    (void)tape_save_state(e, t->exits + 1);
    tape_at_barrier(e);
}

/* Replay
 * ------------------------------------------------------------------------------------ */

void tape_take_pages(struct engine *e, const struct tape_item *item)
{
    struct engine_ram ram;
    uint8_t *to;

    engine_ram(e, &ram);
    if (item->page > ram.page_count || item->page_count > ram.page_count - item->page) {
        tape_trouble(e, "recorded pages that this VM has not: page %llu and %u more",
                     (unsigned long long)item->page, item->page_count);
        return;
    }
    to = ram.host + item->page * GMEM_PAGE_SIZE;
    if (item->bytes) {
        memcpy(to, item->bytes, (size_t)item->page_count * GMEM_PAGE_SIZE);
    } else {
        memset(to, 0, (size_t)item->page_count * GMEM_PAGE_SIZE);
    }
}

static void tell_part(struct engine *e, const char *what, const void *there,
                      const void *here, size_t len)
{
    const uint8_t *a = there, *b = here;

    for (size_t i = 0; i < len; i++) {
        if (a[i] != b[i]) {
            tape_trouble(e, "%s: recorded %02x at byte %zu, here %02x", what, a[i], i,
                         b[i]);
            return;
        }
    }
}

/* The first register that differs, by its name. */
static void compare_cpu(struct engine *e, const struct vcpu_state *there,
                        const struct vcpu_state *here)
{
    const uint64_t *a = (const uint64_t *)&there->regs,
                   *b = (const uint64_t *)&here->regs;
    const struct {
        const char *name;
        const void *there, *here;
        size_t len;
    } part[] = {
        {"special registers", &there->sregs, &here->sregs, sizeof here->sregs},
        {"extended control registers", &there->xcrs, &here->xcrs, sizeof here->xcrs},
        {"FPU state", there->xsave, here->xsave, XSTATE_BV_AT},
        {"FPU state behind XSTATE_BV", there->xsave + XSTATE_BV_AT + 8,
         here->xsave + XSTATE_BV_AT + 8, sizeof here->xsave - XSTATE_BV_AT - 8},
        {"debug registers", &there->debugregs, &here->debugregs, sizeof here->debugregs},
        {"MSRs", &there->msrs, &here->msrs, sizeof here->msrs},
        {"pending events", &there->events, &here->events, sizeof here->events},
    };

    for (unsigned i = 0; i < TAPE_REGS; i++) {
        uint64_t no = i == TAPE_REG_RFLAGS ? TAPE_RFLAGS_RF : 0;

        if (((a[i] ^ b[i]) & ~no) != 0) {
            tape_trouble(e, "register %s: recorded %#llx, here %#llx", tape_reg_name[i],
                         (unsigned long long)a[i], (unsigned long long)b[i]);
            return;
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(part) && !e->tape->stopped; i++) {
        tell_part(e, part[i].name, part[i].there, part[i].here, part[i].len);
    }
}

static bool load_cpu(struct engine *e, struct state_io *io, struct vcpu_state *ret)
{
    memset(ret, 0, sizeof *ret);
    if (!state_section_accept(io, CPU_SECTION_VERSION) ||
        cpu_state_xfer(ret, false, io) < 0) {
        tape_trouble(e, "the recorded vCPU is refused: %s%s%s",
                     state_error_str(io->error), io->refused_field ? ", field " : "",
                     io->refused_field ? io->refused_field : "");
        return false;
    }
    return true;
}

static void take_cpu(struct engine *e, const struct vcpu_state *cpu)
{
    struct vmm_error err;

    if (vcpu_load(&e->vcpu, cpu, &err) < 0) {
        tape_trouble(e, "%s", err.text);
    } else if (vcpu_refresh(&e->vcpu) != VCPU_KICKED) {
        tape_trouble(e, "the vCPU of a barrier cannot be entered");
    }
}

/* Both streams stand at their vCPU. */
static void both_cpus(struct engine *e, struct state_io *there, struct state_io *here,
                      bool load)
{
    struct vcpu_state *cpu = aligned_alloc(64, (2 * sizeof *cpu + 63) & ~(size_t)63);

    if (!cpu) {
        tape_trouble(e, "no memory for the vCPU's state");
    } else if (load_cpu(e, there, &cpu[0]) && load_cpu(e, here, &cpu[1])) {
        if (load) {
            take_cpu(e, &cpu[0]);
        } else {
            compare_cpu(e, &cpu[0], &cpu[1]);
        }
    }
    free(cpu);
}

/* The open section of both. False: they are not the same. */
static bool same_section(struct engine *e, const struct state_io *there,
                         const struct state_io *here)
{
    const struct bytes_rd *a = &there->rd, *b = &here->rd;

    if (strcmp(there->section.name, here->section.name) != 0 ||
        there->section.instance != here->section.instance) {
        tape_trouble(e, "recorded section %s.%u, here %s.%u", there->section.name,
                     there->section.instance, here->section.name, here->section.instance);
        return false;
    }
    if (strcmp(here->section.name, CPU_SECTION) != 0 &&
        (a->len != b->len || memcmp(a->buf, b->buf, a->len) != 0)) {
        size_t at = 0;

        while (at < a->len && at < b->len && a->buf[at] == b->buf[at]) {
            at++;
        }
        tape_trouble(e,
                     "device section %s.%u: differs from byte %zu on (%zu bytes "
                     "recorded, %zu here)",
                     here->section.name, here->section.instance, at, a->len, b->len);
        return false;
    }
    return true;
}

void tape_take_state(struct engine *e, const struct tape_item *item, bool load)
{
    struct tape_run *t = e->tape;
    size_t len = tape_save(e, t->other_state);
    struct state_io there, here;

    if (len == 0) {
        return;
    }
    state_load_init(&there, item->bytes, item->len);
    state_load_init(&here, t->other_state, len);
    while (state_section_next(&here)) {
        if (!state_section_next(&there)) {
            tape_trouble(e, "the recorded state ends before section %s: %s",
                         here.section.name, state_error_str(there.error));
            return;
        }
        if (!same_section(e, &there, &here)) {
            return;
        }
        if (strcmp(here.section.name, CPU_SECTION) == 0) {
            both_cpus(e, &there, &here, load);
            return; /* the last one */
        }
        /* What was compared byte by byte is read. */
        (void)bytes_rd_view(&there.rd, bytes_rd_left(&there.rd));
        (void)bytes_rd_view(&here.rd, bytes_rd_left(&here.rd));
    }
}
