/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine.h"

#include <errno.h>
#include <string.h>

#include "vmm/acpi.h"
#include "vmm/dev_fwcfg.h"
#include "vmm/dev_pic.h"
#include "vmm/dev_rtc.h"
#include "vmm/dev_uart.h"
#include "vmm/dev_vballoon.h"
#include "vmm/dev_vblk.h"
#include "vmm/dev_vcon.h"
#include "vmm/dev_vnet.h"
#include "vmm/dev_vrng.h"
#include "vmm/machine_priv.h"

#define STATE_ALIGN      64
#define LOCKSTEP_RAM_MAX (UINT64_C(3) << 30)

static struct dev_pic *pic_of(const struct machine *m)
{
    return m->dev[MACHINE_DEV_PIC].state;
}

/* NULL, for none, is the last. */
static const struct dev_class *const extra_class[MACHINE_EXTRA_COUNT + 1] = {
    [MACHINE_EXTRA_RNG] = &dev_vrng_class,
    [MACHINE_EXTRA_CONSOLE] = &dev_vcon_class,
    [MACHINE_EXTRA_BALLOON] = &dev_vballoon_class,
};

/* Making a machine ---------------------------------------------------------------- */

/* The extra in the nth slot after those of disks and nics, or MACHINE_EXTRA_COUNT. */
static unsigned extra_at(const struct machine_conf *conf, unsigned n)
{
    unsigned extra = 0;

    for (; extra < MACHINE_EXTRA_COUNT; extra++) {
        if ((conf->extras >> extra & 1) != 0 && n-- == 0) {
            break;
        }
    }
    return extra;
}

static const struct dev_class *class_of(const struct machine_conf *conf,
                                        unsigned dev_index)
{
    unsigned slot = dev_index - MACHINE_DEV_VIRTIO0;

    if (dev_index < MACHINE_DEV_VIRTIO0) {
        return machine_board_dev(conf->type, dev_index)->class;
    }
    if (slot < conf->disk_count) {
        return &dev_vblk_class;
    }
    slot -= conf->disk_count;
    if (slot < conf->nic_count) {
        return &dev_vnet_class;
    }
    return extra_class[extra_at(conf, slot - conf->nic_count)];
}

static size_t aligned(size_t len)
{
    return (len + STATE_ALIGN - 1) / STATE_ALIGN * STATE_ALIGN;
}

size_t machine_size(const struct machine_conf *conf)
{
    size_t size = aligned(sizeof(struct machine));

    for (unsigned i = 0; i < MACHINE_DEV_COUNT; i++) {
        const struct dev_class *class = class_of(conf, i);

        if (class != NULL) {
            size += aligned(class->state_size);
        }
    }
    return size;
}

static bool ops_complete(const struct machine_ops *ops, const struct machine_conf *conf)
{
    if (conf->type == MACHINE_STANDARD && (ops->gsi == NULL || ops->msi == NULL)) {
        return false;
    }
    if (((conf->extras >> MACHINE_EXTRA_RNG & 1) != 0 && ops->entropy == NULL) ||
        ((conf->extras >> MACHINE_EXTRA_CONSOLE & 1) != 0 &&
         (ops->port_out == NULL || ops->port_open == NULL)) ||
        ((conf->extras >> MACHINE_EXTRA_BALLOON & 1) != 0 && ops->ram_discard == NULL)) {
        return false;
    }
    return ops->serial_out != NULL && ops->debug_out != NULL && ops->blk_submit != NULL &&
           ops->net_send != NULL && ops->reset != NULL && ops->shutdown != NULL &&
           ops->clock != NULL;
}

static bool conf_ok(const struct machine_conf *conf)
{
    bool lockstep = conf->type == MACHINE_LOCKSTEP,
         mmio = conf->transport == MACHINE_TRANSPORT_MMIO;

    if (lockstep ? !mmio || conf->cpu_count > 1
                 : conf->type != MACHINE_STANDARD ||
                       (!mmio && conf->transport != MACHINE_TRANSPORT_PCI)) {
        return false;
    }
    for (unsigned i = 0; lockstep && i < conf->disk_count && i < VM_DISKS_MAX; i++) {
        if (conf->disk[i].bytes_per_s != 0 || conf->disk[i].requests_per_s != 0) {
            return false;
        }
    }
    for (unsigned i = 0; lockstep && i < conf->nic_count && i < VM_NICS_MAX; i++) {
        if (conf->nic[i].offloads || conf->nic[i].bytes_per_s != 0 ||
            conf->nic[i].packets_per_s != 0) {
            return false;
        }
    }
    for (unsigned i = 0; i < conf->nic_count && i < VM_NICS_MAX; i++) {
        if (conf->nic[i].queue_pairs > VNET_PAIRS_MAX ||
            (conf->nic[i].queue_pairs > 1 && !conf->nic[i].offloads)) {
            return false;
        }
    }
    return conf->disk_count <= VM_DISKS_MAX && conf->nic_count <= VM_NICS_MAX &&
           conf->extras <= (lockstep ? 0 : MACHINE_EXTRAS_ALL) &&
           conf->disk_count + conf->nic_count +
                   (unsigned)__builtin_popcount(conf->extras) <=
               MACHINE_VIRTIO_SLOTS;
}

static int add_fixed_ports(struct machine *m, unsigned dev_index)
{
    const struct board_dev *board = machine_board_dev(m->conf.type, dev_index);

    for (unsigned i = 0; i < MACHINE_PORTS_MAX; i++) {
        const struct port_range *port = &board->port[i];
        int r;

        if (port->len == 0) {
            break;
        }
        r = bus_add(&m->ports, &(struct bus_range){
                                   .base = port->base,
                                   .len = port->len,
                                   .dev_offset = port->dev_offset,
                                   .dev_index = (uint8_t)dev_index,
                                   .access_max = port->access_max,
                               });
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int fixed_power_on(struct machine *m, unsigned dev_index)
{
    const struct machine_dev_state *dev = &m->dev[dev_index];

    memset(dev->state, 0, dev->class->state_size);
    if (dev_index == MACHINE_DEV_FWCFG) {
        struct acpi_conf acpi;

        machine_acpi_conf(m, &acpi);
        return dev_fwcfg_init(dev->state, &acpi, m->conf.cmdline);
    }
    if (dev_index == MACHINE_DEV_RTC) {
        dev_rtc_init(dev->state, m->conf.ram_len,
                     m->conf.type == MACHINE_STANDARD ? BOARD_RAM_LOW_END
                                                      : LOCKSTEP_RAM_MAX,
                     m->conf.cpu_count);
    }
    return 0;
}

/* One for each vCPU; what there is of them beyond VBLK_QUEUES_MAX shares. */
static unsigned disk_queues(const struct machine_conf *conf)
{
    unsigned cpus = conf->cpu_count > 0 ? conf->cpu_count : 1;

    return conf->type == MACHINE_STANDARD ? cpus : 0;
}

/* Power-on contents of one device's memory; its reset comes later. */
static int dev_power_on(struct machine *m, unsigned dev_index)
{
    const struct machine_dev_state *dev = &m->dev[dev_index];
    unsigned slot = dev_index - MACHINE_DEV_VIRTIO0;
    int r = 0;

    if (dev->class == &dev_vblk_class) {
        const struct machine_disk_conf *disk = &m->conf.disk[slot];

        vblk_init(dev->state, &(struct vblk_conf){.sectors = disk->sectors,
                                                  .read_only = disk->read_only,
                                                  .bytes_per_s = disk->bytes_per_s,
                                                  .requests_per_s = disk->requests_per_s,
                                                  .serial = disk->serial,
                                                  .queue_count = disk_queues(&m->conf)});
    } else if (dev->class == &dev_vnet_class) {
        const struct machine_nic_conf *nic = &m->conf.nic[slot - m->conf.disk_count];

        struct vnet_conf net = {.offloads = nic->offloads,
                                .pairs = nic->queue_pairs,
                                .bytes_per_s = nic->bytes_per_s,
                                .packets_per_s = nic->packets_per_s};

        memcpy(net.mac, nic->mac, sizeof net.mac);
        vnet_init(dev->state, &net);
    } else if (dev->class == &dev_vrng_class) {
        vrng_init(dev->state);
    } else if (dev->class == &dev_vcon_class) {
        vcon_init(dev->state);
    } else if (dev->class == &dev_vballoon_class) {
        vballoon_init(dev->state, m->conf.ram_len);
    } else {
        r = fixed_power_on(m, dev_index);
    }
    machine_pci_power_on(m, dev_index);
    return r;
}

/* Gives a device its memory at `state`, its addresses and its interrupt line. */
static int dev_attach(struct machine *m, unsigned dev_index, void *state)
{
    struct machine_dev_state *dev = &m->dev[dev_index];
    unsigned slot = dev_index - MACHINE_DEV_VIRTIO0;

    dev->state = state;
    if (dev_index < MACHINE_DEV_VIRTIO0) {
        dev->line = machine_board_dev(m->conf.type, dev_index)->line;
        return add_fixed_ports(m, dev_index);
    }
    dev->line = machine_virtio_line(&m->conf, slot);
    return 0;
}

int machine_power_on(struct machine *m)
{
    memset(m->line_devs, 0, sizeof m->line_devs);
    for (unsigned i = 0; i < MACHINE_DEV_COUNT; i++) {
        m->dev[i].wake_at_ns = UINT64_MAX;
        if (m->dev[i].class != NULL) {
            int r = dev_power_on(m, i);

            if (r < 0) {
                return r;
            }
        }
    }
    machine_reset(m);
    return 0;
}

/* Only who has a limit pays for the clock. */
static bool reads_clock(const struct machine_conf *conf, const struct dev_class *class,
                        unsigned dev_index)
{
    unsigned slot = dev_index - MACHINE_DEV_VIRTIO0;

    if (class == &dev_vblk_class) {
        return conf->disk[slot].bytes_per_s != 0 || conf->disk[slot].requests_per_s != 0;
    }
    if (class == &dev_vnet_class) {
        const struct machine_nic_conf *nic = &conf->nic[slot - conf->disk_count];

        return nic->bytes_per_s != 0 || nic->packets_per_s != 0;
    }
    return class != NULL && class->reads_clock;
}

/* The caller's text need not outlive machine_init. */
static int keep_cmdline(struct machine *m)
{
    size_t len =
        m->conf.cmdline != NULL ? strnlen(m->conf.cmdline, sizeof m->cmdline) : 0;

    if (len == sizeof m->cmdline) {
        return -EINVAL;
    }
    memcpy(m->cmdline, len > 0 ? m->conf.cmdline : "", len);
    m->cmdline[len] = '\0';
    m->conf.cmdline = m->cmdline;
    return 0;
}

int machine_init(void *memory, const struct machine_conf *conf, struct gmem *gm,
                 const struct machine_ops *ops, void *ctx, struct machine **ret_machine)
{
    struct machine *m = memory;
    uint8_t *next = (uint8_t *)memory + aligned(sizeof *m);
    int r;

    if (!conf_ok(conf) || !ops_complete(ops, conf)) {
        return -EINVAL;
    }
    memset(m, 0, offsetof(struct machine, fx));
    m->conf = *conf;
    m->gm = gm;
    m->ops = ops;
    m->ctx = ctx;
    m->fx.frame_bytes = m->frame_arena;
    m->fx.frame_bytes_cap = FRAME_ARENA_LEN;
    r = keep_cmdline(m);
    for (unsigned i = 0; i < MACHINE_DEV_COUNT && r == 0; i++) {
        m->dev[i].line = NO_LINE;
        m->dev[i].class = class_of(conf, i);
        m->dev[i].reads_clock = reads_clock(conf, m->dev[i].class, i);
        if (m->dev[i].class != NULL) {
            r = dev_attach(m, i, next);
            next += aligned(m->dev[i].class->state_size);
        }
    }
    if (r == 0) {
        r = machine_power_on(m);
    }
    if (r < 0) {
        return r;
    }
    *ret_machine = m;
    return 0;
}

void machine_set_ops(struct machine *m, const struct machine_ops *ops)
{
    BUG_ON(!ops_complete(ops, &m->conf));
    m->ops = ops;
}

/* Effects ------------------------------------------------------------------------- */

static void line_level(struct machine *m, unsigned line, bool level)
{
    if (m->conf.type == MACHINE_STANDARD) {
        m->ops->gsi(m->ctx, line, level);
    } else {
        dev_pic_set_line(pic_of(m), line, level);
    }
}

static void set_line(struct machine *m, unsigned dev_index, bool level)
{
    unsigned line = m->dev[dev_index].line;
    uint32_t bit = UINT32_C(1) << dev_index, before;

    if (line == NO_LINE) {
        return;
    }
    before = m->line_devs[line];
    m->line_devs[line] = level ? before | bit : before & ~bit;
    if ((before != 0) != (m->line_devs[line] != 0)) {
        line_level(m, line, level);
    }
}

static void pulse_line(struct machine *m, unsigned dev_index)
{
    unsigned line = m->dev[dev_index].line;

    if (line != NO_LINE) {
        line_level(m, line, true);
        line_level(m, line, m->line_devs[line] != 0);
    }
}

void machine_lines_again(struct machine *m)
{
    uint32_t lines = 0;

    for (unsigned i = 0; i < MACHINE_DEV_COUNT; i++) {
        if (m->dev[i].class != NULL && m->dev[i].line != NO_LINE) {
            lines |= UINT32_C(1) << m->dev[i].line;
        }
    }
    for (unsigned line = 0; line < BOARD_GSI_COUNT; line++) {
        if ((lines >> line & 1) != 0) {
            line_level(m, line, m->line_devs[line] != 0);
        }
    }
}

/* What the function makes of its device's interrupts. */
static void vpci_interrupts(struct machine *m, unsigned dev_index)
{
    struct vpci *vpci = &m->vpci[dev_index - MACHINE_DEV_VIRTIO0];
    bool intx;
    uint32_t due = vpci_deliver(vpci, m->dev[dev_index].state, m->fx.queue_irq, &intx);

    set_line(m, dev_index, intx);
    for (; due != 0; due &= due - 1) {
        const struct msix_entry *entry = &vpci->msix.entry[__builtin_ctz(due)];

        m->ops->msi(m->ctx, entry->address, entry->data);
    }
}

static void send_output(struct machine *m, unsigned dev_index)
{
    const struct machine_ops *ops = m->ops;
    const struct effects *fx = &m->fx;
    unsigned slot =
        dev_index - MACHINE_DEV_VIRTIO0; /* meaningful for virtio devices only */

    if (fx->byte_count > 0 && dev_index == MACHINE_DEV_SERIAL) {
        ops->serial_out(m->ctx, fx->bytes, fx->byte_count);
    } else if (fx->byte_count > 0 && m->dev[dev_index].class == &dev_vcon_class) {
        ops->port_out(m->ctx, fx->bytes, fx->byte_count);
    } else if (fx->byte_count > 0) {
        ops->debug_out(m->ctx, fx->bytes, fx->byte_count);
    }
    for (uint32_t i = 0; i < fx->request_count; i++) {
        ops->blk_submit(m->ctx, slot, &fx->request[i]);
    }
    for (uint32_t i = 0; i < fx->frame_count; i++) {
        ops->net_send(m->ctx, slot - m->conf.disk_count, fx->frame[i].queue,
                      fx->frame[i].data, fx->frame[i].len);
    }
}

static void ask_shell(struct machine *m, unsigned dev_index)
{
    if (m->fx.entropy_wanted > 0) {
        m->ops->entropy(m->ctx, m->fx.entropy_wanted);
    }
    if (m->fx.net_offload_set && m->ops->net_offload != NULL) {
        m->ops->net_offload(m->ctx, dev_index - MACHINE_DEV_VIRTIO0 - m->conf.disk_count,
                            m->fx.net_offload);
    }
    if (m->fx.port_set) {
        m->ops->port_open(m->ctx, m->fx.port_open);
    }
    for (uint32_t i = 0; i < m->fx.range_count; i++) {
        const struct gpa_range *range = &m->fx.range[i];

        m->ops->ram_discard(m->ctx, range->base, range->len);
        gmem_mark_dirty(m->gm, range->base, range->len);
    }
}

static void tell_events(struct machine *m)
{
    if (m->ops->guest_event == NULL) {
        return;
    }
    if (m->fx.panic != 0) {
        m->ops->guest_event(m->ctx, MACHINE_EVENT_PANIC, m->fx.panic);
    }
    if (m->fx.watchdog) {
        m->ops->guest_event(m->ctx, MACHINE_EVENT_WATCHDOG, 0);
    }
}

/* What stays inside comes first, then output, then what ends the access's world. */
static void carry_out(struct machine *m, unsigned dev_index)
{
    const struct effects *fx = &m->fx;

    m->dropped += fx->dropped;
    if (machine_is_vpci(m, dev_index)) {
        vpci_interrupts(m, dev_index);
    } else if (fx->irq_set) {
        set_line(m, dev_index, fx->irq_level);
    }
    if (fx->irq_edge) {
        pulse_line(m, dev_index);
    }
    if (fx->wake_set) {
        m->dev[dev_index].wake_at_ns = fx->wake_at_ns;
    }
    send_output(m, dev_index);
    ask_shell(m, dev_index);
    tell_events(m);
    if (fx->reset) {
        m->ops->reset(m->ctx);
    }
    if (fx->shutdown) {
        m->ops->shutdown(m->ctx);
    }
}

void machine_effects_begin(struct machine *m)
{
    BUG_ON(m->busy); /* an op called back into the machine */
    m->busy = true;
    effects_clear(&m->fx);
}

void machine_effects_end(struct machine *m, unsigned dev_index)
{
    const struct machine_dev_state *dev = &m->dev[dev_index];

    carry_out(m, dev_index);
    while (m->fx.again && dev->class->resume != NULL) {
        effects_clear(&m->fx);
        dev->class->resume(dev->state, m->gm, &m->fx);
        carry_out(m, dev_index);
    }
    m->busy = false;
}

/* Accesses ------------------------------------------------------------------------ */

void machine_clock_before_access(struct machine *m, unsigned dev_index)
{
    if (m->dev[dev_index].reads_clock) {
        struct dev_input in = {.type = INPUT_CLOCK, .now_ns = m->ops->clock(m->ctx)};

        machine_input(m, dev_index, &in);
    }
}

static uint64_t register_access(struct machine *m, unsigned dev_index, uint64_t offset,
                                bool is_write, unsigned len, uint64_t value)
{
    const struct machine_dev_state *dev = &m->dev[dev_index];

    if (is_write) {
        dev->class->write(dev->state, m->gm, offset, len, value, &m->fx);
        return value;
    }
    return dev->class->read(dev->state, m->gm, offset, len, &m->fx);
}

static uint64_t vpci_access(struct machine *m, unsigned slot, uint64_t offset,
                            bool is_write, unsigned len, uint64_t value)
{
    struct virtio *v = m->dev[MACHINE_DEV_VIRTIO0 + slot].state;
    unsigned bar = (unsigned)(offset >> MACHINE_BAR_SHIFT);

    offset &= (UINT64_C(1) << MACHINE_BAR_SHIFT) - 1;
    if (is_write) {
        vpci_write(&m->vpci[slot], v, m->gm, bar, offset, len, value, &m->fx);
        m->rebell |= bar == VPCI_BAR_REGS && offset < VPCI_ISR;
        return value;
    }
    return vpci_read(&m->vpci[slot], v, bar, offset, len);
}

/* A virtio device's registers are its transport's. */
static uint64_t transport_access(struct machine *m, unsigned dev_index, uint64_t offset,
                                 bool is_write, unsigned len, uint64_t value)
{
    struct virtio *v = m->dev[dev_index].state;
    unsigned slot = dev_index - MACHINE_DEV_VIRTIO0;
    struct vmmio *vmmio = &m->vmmio[slot];

    if (m->conf.transport == MACHINE_TRANSPORT_PCI) {
        return vpci_access(m, slot, offset, is_write, len, value);
    }
    if (is_write) {
        vmmio_write(vmmio, v, m->gm, offset, len, value, &m->fx);
        return value;
    }
    return vmmio_read(vmmio, v, offset, len);
}

/* After accesses that may have changed what answers where. */
static void settle(struct machine *m)
{
    if (m->remap) {
        machine_pci_remap(m);
    }
    if (m->rebell) {
        machine_pci_doorbells(m);
    }
}

static uint64_t dev_access(struct machine *m, const struct bus_range *range,
                           uint64_t addr, bool is_write, unsigned len, uint64_t value)
{
    unsigned dev_index = range->dev_index;
    uint64_t offset = addr - range->base + range->dev_offset;

    if (dev_index == MACHINE_DEV_PCI) { /* reaches any device */
        value = machine_pci_access(m, offset, is_write, len, value);
    } else {
        machine_clock_before_access(m, dev_index);
        machine_effects_begin(m);
        value = machine_is_virtio(m, dev_index)
                    ? transport_access(m, dev_index, offset, is_write, len, value)
                    : register_access(m, dev_index, offset, is_write, len, value);
        machine_effects_end(m, dev_index);
    }
    settle(m); /* `range` is gone after this */
    return value;
}

/* An access of a width that its device has; anything else goes byte by byte, as an ISA
 * bridge would do it. */
static void bus_access(struct machine *m, const struct bus *bus, uint64_t addr,
                       bool is_write, unsigned len, uint8_t *data)
{
    const struct bus_range *range = bus_find(bus, addr, len);
    uint64_t value = 0;

    if (range != NULL && len <= range->access_max) {
        memcpy(&value, data, len);
        value = dev_access(m, range, addr, is_write, len, value);
        if (!is_write) {
            memcpy(data, &value, len);
        }
        return;
    }
    for (unsigned i = 0; i < len; i++) {
        range = bus_find(bus, addr + i, 1);
        if (range == NULL) {
            data[i] = is_write ? data[i] : 0xFF;
            continue;
        }
        value = dev_access(m, range, addr + i, is_write, 1, data[i]);
        data[i] = is_write ? data[i] : (uint8_t)value;
    }
}

static bool width_ok(unsigned len)
{
    return len == 1 || len == 2 || len == 4 || len == 8;
}

void machine_pio(struct machine *m, uint16_t port, bool is_write, unsigned size,
                 void *data)
{
    if (width_ok(size)) {
        bus_access(m, &m->ports, port, is_write, size, data);
    } else if (!is_write) {
        memset(data, 0xFF, size);
    }
}

/* MMIO is not split: a device sees the access that the guest made, or none (KVM splits at
 * page borders already). */
void machine_mmio(struct machine *m, struct gpa addr, bool is_write, unsigned len,
                  void *data)
{
    const struct bus_range *range = bus_find(&m->mmio, addr.v, len);

    if (range != NULL && width_ok(len) && len <= range->access_max) {
        bus_access(m, &m->mmio, addr.v, is_write, len, data);
    } else if (!is_write) {
        memset(data, 0xFF, len);
    }
}

/* Inputs -------------------------------------------------------------------------- */

/* The longest data an input of this type may carry. */
static uint32_t input_len_max(enum input_type type)
{
    switch (type) {
    case INPUT_SERIAL_RX:
        return SERIAL_RX_MAX;
    case INPUT_NET_RX:
        return NET_HEADER_LEN + NET_FRAME_MAX;
    case INPUT_BLK_DONE:
        return BLK_REQUEST_MAX;
    case INPUT_ENTROPY:
        return ENTROPY_MAX;
    case INPUT_PORT_RX:
        return PORT_RX_MAX;
    default:
        return 0;
    }
}

int machine_input(struct machine *m, unsigned dev_index, const struct dev_input *in)
{
    struct machine_dev_state *dev;

    if (dev_index >= MACHINE_DEV_COUNT || m->dev[dev_index].class == NULL) {
        return -ENODEV;
    }
    if (in->type <= INPUT_NONE || in->type >= INPUT_TYPE_COUNT ||
        in->len > input_len_max(in->type) || (in->len > 0 && in->data == NULL)) {
        return -EINVAL;
    }
    dev = &m->dev[dev_index];
    if (in->type != INPUT_CLOCK && machine_is_virtio(m, dev_index)) {
        machine_clock_before_access(m, dev_index);
    }
    if (m->ops->on_input != NULL) {
        m->ops->on_input(m->ctx, dev_index, in);
    }
    machine_effects_begin(m);
    if (in->type == INPUT_CLOCK && dev->wake_at_ns <= in->now_ns) {
        dev->wake_at_ns = UINT64_MAX; /* this is it; the device asks anew */
    }
    if (in->type == INPUT_NOTIFY && machine_is_virtio(m, dev_index)) {
        virtio_notify(dev->state, m->gm, in->value, &m->fx);
    } else {
        dev->class->input(dev->state, m->gm, in, &m->fx);
    }
    machine_effects_end(m, dev_index);
    return 0;
}

uint64_t machine_next_wake_ns(const struct machine *m)
{
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < MACHINE_DEV_COUNT; i++) {
        next = m->dev[i].wake_at_ns < next ? m->dev[i].wake_at_ns : next;
    }
    return next;
}

void machine_wake(struct machine *m, uint64_t now_ns)
{
    for (unsigned i = 0; i < MACHINE_DEV_COUNT; i++) {
        if (m->dev[i].wake_at_ns <= now_ns) {
            machine_input(m, i,
                          &(struct dev_input){.type = INPUT_CLOCK, .now_ns = now_ns});
        }
    }
}

/* Lines up, state down ------------------------------------------------------------ */

bool machine_irq_pending(const struct machine *m)
{
    return m->conf.type == MACHINE_LOCKSTEP && dev_pic_intr(pic_of(m));
}

uint8_t machine_irq_ack(struct machine *m)
{
    return dev_pic_ack(pic_of(m));
}

void machine_acpi_conf(const struct machine *m, struct acpi_conf *ret_conf)
{
    *ret_conf = (struct acpi_conf){
        .type = m->conf.type,
        .transport = m->conf.transport,
        .cpu_count = m->conf.cpu_count > 0 ? m->conf.cpu_count : 1,
        .virtio_count = machine_virtio_count(m),
        .ram_len = m->conf.ram_len,
    };
}

uint32_t machine_serial_room(const struct machine *m)
{
    return dev_uart_rx_room(m->dev[MACHINE_DEV_SERIAL].state);
}

uint64_t machine_dropped(const struct machine *m)
{
    return m->dropped;
}

unsigned machine_io_in_flight(const struct machine *m)
{
    unsigned count = 0;

    for (unsigned i = 0; i < m->conf.disk_count; i++) {
        count += vblk_in_flight(m->dev[MACHINE_DEV_VIRTIO0 + i].state);
    }
    return count;
}

void machine_reissue(struct machine *m)
{
    for (unsigned i = 0; i < m->conf.disk_count; i++) {
        machine_effects_begin(m);
        vblk_reissue(m->dev[MACHINE_DEV_VIRTIO0 + i].state, m->gm, &m->fx);
        machine_effects_end(m, MACHINE_DEV_VIRTIO0 + i);
    }
}

void machine_disks_forget(struct machine *m)
{
    for (unsigned i = 0; i < m->conf.disk_count; i++) {
        vblk_forget(m->dev[MACHINE_DEV_VIRTIO0 + i].state);
    }
}

void machine_disk_bytes(struct machine *m, unsigned disk,
                        const struct blk_request *request)
{
    if (disk < m->conf.disk_count) {
        vblk_bytes(m->dev[MACHINE_DEV_VIRTIO0 + disk].state, request);
    }
}

static unsigned virtio_dev(unsigned slot)
{
    return MACHINE_DEV_VIRTIO0 + slot;
}

unsigned machine_disk_dev(const struct machine *m, unsigned disk)
{
    (void)m;
    return virtio_dev(disk);
}

unsigned machine_nic_dev(const struct machine *m, unsigned nic)
{
    return virtio_dev(m->conf.disk_count + nic);
}

unsigned machine_extra_dev(const struct machine *m, enum machine_extra extra)
{
    unsigned before = m->conf.extras & ((1u << extra) - 1);

    return (m->conf.extras >> extra & 1) != 0
               ? virtio_dev(m->conf.disk_count + m->conf.nic_count +
                            (unsigned)__builtin_popcount(before))
               : MACHINE_DEV_COUNT;
}

static uint64_t pages_bytes(uint32_t pages)
{
    return (uint64_t)pages << VBALLOON_PAGE_SHIFT;
}

bool machine_balloon(const struct machine *m, struct machine_balloon *ret_balloon)
{
    unsigned dev_index = machine_extra_dev(m, MACHINE_EXTRA_BALLOON);
    const struct vballoon *balloon;

    if (dev_index == MACHINE_DEV_COUNT) {
        return false;
    }
    balloon = m->dev[dev_index].state;
    *ret_balloon = (struct machine_balloon){
        .target = pages_bytes(balloon->target),
        .actual = pages_bytes(balloon->actual),
        .free = balloon->stat[VBALLOON_MEMORY_FREE],
        .total = balloon->stat[VBALLOON_MEMORY_TOTAL],
        .available = balloon->stat[VBALLOON_MEMORY_AVAILABLE],
        .caches = balloon->stat[VBALLOON_DISK_CACHES],
        .swapped_in = balloon->stat[VBALLOON_SWAP_IN],
        .swapped_out = balloon->stat[VBALLOON_SWAP_OUT],
    };
    return true;
}

unsigned machine_net_offload(const struct machine *m, unsigned nic)
{
    return vnet_offload(m->dev[machine_nic_dev(m, nic)].state);
}

bool machine_port_open(const struct machine *m)
{
    unsigned dev_index = machine_extra_dev(m, MACHINE_EXTRA_CONSOLE);

    return dev_index != MACHINE_DEV_COUNT &&
           ((const struct vcon *)m->dev[dev_index].state)->guest_open;
}

static void transport_reset(struct machine *m, unsigned dev_index)
{
    unsigned slot = dev_index - MACHINE_DEV_VIRTIO0;

    if (machine_is_vpci(m, dev_index)) {
        vpci_reset(&m->vpci[slot]);
        vpci_settle(&m->vpci[slot], m->dev[dev_index].state);
    } else if (machine_is_virtio(m, dev_index)) {
        vmmio_reset(&m->vmmio[slot]);
    }
}

void machine_reset(struct machine *m)
{
    for (unsigned i = 0; i < MACHINE_DEV_COUNT; i++) {
        const struct machine_dev_state *dev = &m->dev[i];

        if (dev->class != NULL) {
            machine_effects_begin(m);
            transport_reset(m, i);
            dev->class->reset(dev->state, &m->fx);
            machine_effects_end(m, i);
        }
    }
    machine_pci_remap(m);
    machine_pci_doorbells(m);
}
