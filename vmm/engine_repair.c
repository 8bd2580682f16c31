/* SPDX-License-Identifier: Apache-2.0 */
/* A barrier between both sides of a protected VM, as the engine sees it (ft/README.md,
 * "Barrier and repair"): which pages were written to, devices and registers as one
 * stream, and how a twin takes those of the other side. The vCPU thread, at a position.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "vmm/cpu_state.h"
#include "vmm/engine_ram.h"
#include "vmm/engine_tape_priv.h"

bool engine_repair_dirty(struct engine *e, uint64_t *bitmap)
{
    uint64_t pages;
    int r = engine_dirty_collect(e, bitmap, &pages);

    if (r == 0) {
        r = engine_dirty_protect(e, 0, e->conf.ram_len / GMEM_PAGE_SIZE);
    }
    if (r < 0) {
        tape_trouble(e, "KVM does not tell which pages were written to: %s",
                     strerror(-r));
    }
    return r == 0;
}

size_t engine_repair_save(struct engine *e, const uint8_t **ret_bytes,
                          uint32_t *ret_flags)
{
    *ret_bytes = e->tape->state;
    *ret_flags = (e->halted ? TAPE_HALTED : 0) | (e->reset_wanted ? TAPE_RESETS : 0) |
                 (e->shutdown_wanted ? TAPE_OFF : 0);
    return tape_save(e, e->tape->state);
}

static struct vcpu_state *cpu_alloc(void)
{
    struct vcpu_state *cpu = aligned_alloc(64, (sizeof *cpu + 63) & ~(size_t)63);

    if (cpu) {
        memset(cpu, 0, sizeof *cpu);
    }
    return cpu;
}

/* The open section is the vCPU's. */
static bool read_cpu(struct state_io *io, struct vcpu_state *cpu)
{
    return strcmp(io->section.name, CPU_SECTION) == 0 &&
           state_section_accept(io, CPU_SECTION_VERSION) &&
           cpu_state_xfer(cpu, false, io) == 0;
}

bool engine_repair_regs(struct engine *e, const uint8_t *bytes, size_t len,
                        uint64_t *ret_reg)
{
    struct vcpu_state *cpu = cpu_alloc();
    struct state_io io;
    bool found = false;

    (void)e;
    state_load_init(&io, bytes, len);
    while (cpu && !found && state_section_next(&io)) {
        if (strcmp(io.section.name, CPU_SECTION) == 0) {
            found = read_cpu(&io, cpu);
            break;
        }
        (void)bytes_rd_view(&io.rd, bytes_rd_left(&io.rd));
    }
    if (found) {
        memcpy(ret_reg, &cpu->regs, TAPE_REGS * sizeof *ret_reg);
    }
    free(cpu);
    return found;
}

void engine_repair_differs(const uint8_t *there, size_t there_len, const uint8_t *here,
                           size_t here_len, char *text, size_t cap)
{
    struct state_io a, b;

    state_load_init(&a, there, there_len);
    state_load_init(&b, here, here_len);
    snprintf(text, cap, "nothing");
    while (state_section_next(&b) && state_section_next(&a)) {
        const uint8_t *p = a.rd.buf, *q = b.rd.buf;
        size_t at = 0, len = a.rd.len < b.rd.len ? a.rd.len : b.rd.len;

        while (at < len && p[at] == q[at]) {
            at++;
        }
        if (at < len || a.rd.len != b.rd.len) {
            snprintf(text, cap, "%s.%u from byte %zu on (of %zu; %02x, here %02x)",
                     b.section.name, b.section.instance, at, b.rd.len,
                     at < a.rd.len ? p[at] : 0, at < b.rd.len ? q[at] : 0);
            return;
        }
        (void)bytes_rd_view(&a.rd, bytes_rd_left(&a.rd));
        (void)bytes_rd_view(&b.rd, bytes_rd_left(&b.rd));
    }
}

void engine_repair_drain(struct engine *e)
{
    engine_drain_disks(e);
    memset(e->tape->mirror_busy, 0, sizeof e->tape->mirror_busy);
}

bool engine_repair_writes(const struct engine *e)
{
    return e->tape->mending;
}

uint32_t engine_repair_write(struct engine *e, const struct tape_out *out)
{
    struct blk_request request = {.op = (enum request_op)out->op,
                                  .sector = out->sector,
                                  .len = out->size,
                                  .data = out->len > 0 ? out->data : NULL};

    e->tape->mending = true;
    e->tape->mended = 0;
    engine_machine_ops.blk_submit(e, out->unit, &request);
    engine_drain_disks(e);
    e->tape->mending = false;
    return e->tape->mended;
}

static int take_state(struct engine *e, const uint8_t *bytes, size_t len,
                      struct vmm_error *err)
{
    struct vcpu_state *cpu = cpu_alloc();
    struct state_io io;
    int r = 0;

    if (!cpu) {
        return vmm_fail(err, -ENOMEM, "no memory for the vCPU's state");
    }
    state_load_init(&io, bytes, len);
    if (machine_xfer(e->machine, &io) < 0 || !state_section_next(&io) ||
        !read_cpu(&io, cpu)) {
        r = vmm_fail(err, -EBADMSG, "a barrier's state is refused: %s%s%s",
                     state_error_str(io.error), io.refused_field ? ", field " : "",
                     io.refused_field ? io.refused_field : "");
    }
    if (r == 0) {
        r = vcpu_load(&e->vcpu, cpu, err);
    }
    if (r == 0 && vcpu_refresh(&e->vcpu) != VCPU_KICKED) {
        r = vmm_fail(err, -EIO, "the vCPU of a barrier cannot be entered");
    }
    free(cpu);
    return r;
}

void engine_repair_forget(struct engine *e)
{
    machine_disks_forget(e->machine);
}

void engine_repair_bytes(struct engine *e, const struct tape_out *out)
{
    struct blk_request request = {
        .op = (enum request_op)out->op,
        .slot = out->slot,
        .sector = out->sector,
        .len = out->size,
        .data = out->len > 0 && out->len == out->size ? out->data : NULL};

    machine_disk_bytes(e->machine, out->unit, &request);
}

int engine_repair_load(struct engine *e, const uint8_t *bytes, size_t len, uint32_t flags,
                       uint64_t position, struct vmm_error *err)
{
    struct tape_run *t = e->tape;

    if (bytes) {
        int r = take_state(e, bytes, len, err);

        if (r < 0) {
            return r;
        }
        e->halted = (flags & TAPE_HALTED) != 0;
        e->reset_wanted = (flags & TAPE_RESETS) != 0;
        e->shutdown_wanted = (flags & TAPE_OFF) != 0;
        t->clock_asked = false;
    }
    t->exits = position;
    t->at_position = true;
    t->left = false;
    return 0;
}
