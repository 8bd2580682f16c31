/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine wants done, and what the guest asks of the machine: machine_ops and
 * vcpu_bus of a VM that nobody records. */
#include "base/loop.h"
#include "vmm/dev_pvpanic.h"
#include "vmm/engine_priv.h"
#include "vmm/net_tap.h"

static void op_serial_out(void *ctx, const uint8_t *bytes, uint32_t len)
{
    struct engine *e = ctx;

    if (byte_ring_put(&e->serial_out, bytes, len)) {
        engine_tell_loop(e);
    }
}

static void op_debug_out(void *ctx, const uint8_t *bytes, uint32_t len)
{
    struct engine *e = ctx;
    struct debug_record record = {.mono_ns = loop_now_ns()};
    bool tell = false;

    for (uint32_t i = 0; e->conf.debug_output && i < len; i++) {
        record.byte = bytes[i];
        if (byte_ring_room(&e->debug_out) >= sizeof record) {
            tell |= byte_ring_put(&e->debug_out, &record, sizeof record);
        }
    }
    if (tell) {
        engine_tell_loop(e);
    }
}

static void op_blk_submit(void *ctx, unsigned disk, const struct blk_request *request)
{
    struct engine *e = ctx;

    disks_submit(e->disks, disk, request);
}

static void op_net_send(void *ctx, unsigned nic, unsigned queue, const uint8_t *frame,
                        uint32_t len)
{
    struct engine *e = ctx;

    (void)net_tap_write(e->conf.nic[nic].fd[queue], frame, len);
}

static void op_net_offload(void *ctx, unsigned nic, unsigned offload)
{
    struct engine *e = ctx;

    (void)net_tap_offload(e->conf.nic[nic].fd[0], offload);
}

static void op_reset(void *ctx)
{
    struct engine *e = ctx;

    e->reset_wanted = true;
}

static void op_shutdown(void *ctx)
{
    struct engine *e = ctx;

    e->shutdown_wanted = true;
}

static void op_entropy(void *ctx, uint32_t len)
{
    struct engine *e = ctx;

    e->entropy_wanted = len; /* given when the machine's call has returned */
}

static void op_port_out(void *ctx, const uint8_t *bytes, uint32_t len)
{
    struct engine *e = ctx;

    if (byte_ring_put(&e->port_out, bytes, len)) {
        engine_tell_loop(e);
    }
}

static void op_port_open(void *ctx, bool open)
{
    struct engine *e = ctx;

    atomic_store(&e->port_open, open);
    engine_tell_loop(e);
}

static void op_ram_discard(void *ctx, struct gpa base, uint64_t len)
{
    struct engine *e = ctx;

    vm_ram_discard(&e->vm, base, len);
}

/* Only counted: how often is the guest's choice. */
static void op_guest_event(void *ctx, enum machine_event event, uint32_t value)
{
    struct engine *e = ctx;

    if (event == MACHINE_EVENT_WATCHDOG) {
        atomic_fetch_add(&e->guest_event[GUEST_EVENT_WATCHDOG], 1);
    }
    if (event == MACHINE_EVENT_PANIC && (value & PVPANIC_PANICKED)) {
        atomic_fetch_add(&e->guest_event[GUEST_EVENT_PANIC], 1);
    }
    if (event == MACHINE_EVENT_PANIC && (value & PVPANIC_CRASH_LOADED)) {
        atomic_fetch_add(&e->guest_event[GUEST_EVENT_CRASH_LOADED], 1);
    }
    engine_tell_loop(e);
}

static uint64_t op_clock(void *ctx)
{
    return engine_machine_now_ns(ctx);
}

const struct machine_ops engine_machine_ops = {
    .serial_out = op_serial_out,
    .debug_out = op_debug_out,
    .blk_submit = op_blk_submit,
    .net_send = op_net_send,
    .reset = op_reset,
    .shutdown = op_shutdown,
    .clock = op_clock,
    .gsi = engine_op_gsi,
    .msi = engine_op_msi,
    .doorbell = engine_op_doorbell,
    .entropy = op_entropy,
    .net_offload = op_net_offload,
    .port_out = op_port_out,
    .port_open = op_port_open,
    .ram_discard = op_ram_discard,
    .guest_event = op_guest_event,
};

/* What the vCPU asks of the machine
 * ---------------------------------------------------------- */

static void bus_pio(void *ctx, uint16_t port, bool is_write, unsigned size, void *data)
{
    struct engine *e = ctx;

    machine_pio(e->machine, port, is_write, size, data);
}

static void bus_mmio(void *ctx, struct gpa addr, bool is_write, unsigned len, void *data)
{
    struct engine *e = ctx;

    machine_mmio(e->machine, addr, is_write, len, data);
}

static bool bus_irq_pending(void *ctx)
{
    struct engine *e = ctx;

    return machine_irq_pending(e->machine);
}

static uint8_t bus_irq_ack(void *ctx)
{
    struct engine *e = ctx;

    return machine_irq_ack(e->machine);
}

const struct vcpu_bus engine_bus = {
    .pio = bus_pio,
    .mmio = bus_mmio,
    .irq_pending = bus_irq_pending,
    .irq_ack = bus_irq_ack,
};
