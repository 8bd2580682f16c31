/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine.h"

#include <errno.h>
#include <string.h>

#include "base/bug.h"
#include "base/crc32c.h"
#include "vmm/acpi.h"
#include "vmm/bus.h"
#include "vmm/dev_debug.h"
#include "vmm/dev_fwcfg.h"
#include "vmm/dev_pic.h"
#include "vmm/dev_pit.h"
#include "vmm/dev_pm.h"
#include "vmm/dev_reset.h"
#include "vmm/dev_rtc.h"
#include "vmm/dev_uart.h"
#include "vmm/dev_vblk.h"
#include "vmm/dev_vnet.h"

#define NO_LINE           0xFF
#define STATE_ALIGN       64
#define FRAME_ARENA_LEN   (256 * 1024)
#define MACHINE_PORTS_MAX 3
#define MACHINE_VERSION   1
#define FIXED_STATE_MAX   4096 /* of any fixed device's section */

_Static_assert(FRAME_ARENA_LEN >= NET_FRAME_MAX, "one frame always fits");
_Static_assert(MACHINE_DEV_COUNT <= 32, "a line's devices are bits of a u32");

struct port_range {
    uint16_t base, len, dev_offset;
    uint8_t access_max;
};

/* The fixed devices, in the order in which they are reset, saved and woken. */
static const struct {
    const struct dev_class *class;
    uint8_t line;
    struct port_range port[MACHINE_PORTS_MAX];
} fixed_dev[MACHINE_DEV_VIRTIO0] = {
    [MACHINE_DEV_PIC] = {&dev_pic_class,
                         NO_LINE,
                         {{0x20, 2, PIC_OFFSET_MASTER, 1},
                          {0xA0, 2, PIC_OFFSET_SLAVE, 1},
                          {0x4D0, 2, PIC_OFFSET_ELCR, 1}}},
    [MACHINE_DEV_PIT] = {&dev_pit_class,
                         0,
                         {{0x40, 4, 0, 1}, {0x61, 1, PIT_OFFSET_PORT61, 1}}},
    [MACHINE_DEV_PM] = {&dev_pm_class, 9, {{MACHINE_PM_BASE, PM_RANGE_LEN, 0, 4}}},
    [MACHINE_DEV_RTC] = {&dev_rtc_class, 8, {{0x70, 2, RTC_OFFSET_INDEX, 1}}},
    [MACHINE_DEV_SERIAL] = {&dev_uart_class, 4, {{MACHINE_SERIAL_BASE, 8, 0, 1}}},
    [MACHINE_DEV_DEBUG] = {&dev_debug_class, NO_LINE, {{MACHINE_DEBUG_PORT, 1, 0, 1}}},
    [MACHINE_DEV_RESET] = {&dev_reset_class,
                           NO_LINE,
                           {{0xCF9, 1, RESET_OFFSET_CF9, 1},
                            {0x64, 1, RESET_OFFSET_KBD, 1}}},
    [MACHINE_DEV_FWCFG] = {&dev_fwcfg_class,
                           NO_LINE,
                           {{0x510, 2, FWCFG_OFFSET_SELECT, 2}}},
};

/* Slot i has line i modulo 3: shared, level-triggered, no other device's. */
static const uint8_t virtio_line[] = {5, 10, 11};

struct machine_dev_state {
    const struct dev_class *class; /* NULL: not in this machine */
    void *state;
    uint8_t line;
    uint64_t wake_at_ns;
};

struct machine {
    struct machine_conf conf;
    struct gmem *gm;
    const struct machine_ops *ops;
    void *ctx;
    struct bus ports, mmio;
    struct machine_dev_state dev[MACHINE_DEV_COUNT];
    uint32_t line_devs[PIC_LINES]; /* bit i: device i holds this line up; a shared line is
                                      their OR */
    char cmdline[GUEST_CMDLINE_MAX + 1];
    uint64_t dropped;
    bool busy; /* a device or an op is running: nobody may call in */
    struct effects fx;
    uint8_t frame_arena[FRAME_ARENA_LEN];
};

static struct dev_pic *pic_of(const struct machine *m)
{
    return m->dev[MACHINE_DEV_PIC].state;
}

/* Making a machine ---------------------------------------------------------------- */

static const struct dev_class *class_of(const struct machine_conf *conf,
                                        unsigned dev_index)
{
    unsigned slot = dev_index - MACHINE_DEV_VIRTIO0;

    if (dev_index < MACHINE_DEV_VIRTIO0) {
        return fixed_dev[dev_index].class;
    }
    if (slot < conf->disk_count) {
        return &dev_vblk_class;
    }
    return slot - conf->disk_count < conf->nic_count ? &dev_vnet_class : NULL;
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

static bool ops_complete(const struct machine_ops *ops)
{
    return ops->serial_out != NULL && ops->debug_out != NULL && ops->blk_submit != NULL &&
           ops->net_send != NULL && ops->reset != NULL && ops->shutdown != NULL &&
           ops->clock != NULL;
}

static int add_fixed_ports(struct machine *m, unsigned dev_index)
{
    for (unsigned i = 0; i < MACHINE_PORTS_MAX; i++) {
        const struct port_range *port = &fixed_dev[dev_index].port[i];
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

/* Power-on contents of one device's memory; its reset comes later. */
static int dev_power_on(struct machine *m, unsigned dev_index)
{
    const struct machine_dev_state *dev = &m->dev[dev_index];
    unsigned slot = dev_index - MACHINE_DEV_VIRTIO0;

    if (dev->class == &dev_vblk_class) {
        const struct machine_disk_conf *disk = &m->conf.disk[slot];

        vblk_init(dev->state, disk->sectors, disk->read_only, disk->serial);
        return 0;
    }
    if (dev->class == &dev_vnet_class) {
        vnet_init(dev->state, m->conf.nic[slot - m->conf.disk_count].mac);
        return 0;
    }
    memset(dev->state, 0, dev->class->state_size);
    if (dev_index == MACHINE_DEV_FWCFG) {
        return dev_fwcfg_init(dev->state, m->conf.ram_len, m->conf.cmdline);
    }
    if (dev_index == MACHINE_DEV_RTC) {
        dev_rtc_init(dev->state, m->conf.ram_len);
    }
    return 0;
}

static int add_virtio_range(struct machine *m, unsigned dev_index)
{
    unsigned slot = dev_index - MACHINE_DEV_VIRTIO0;

    return bus_add(&m->mmio, &(struct bus_range){
                                 .base = MACHINE_MMIO_BASE + slot * MACHINE_MMIO_STRIDE,
                                 .len = MACHINE_MMIO_STRIDE,
                                 .dev_index = (uint8_t)dev_index,
                                 .access_max = 8,
                             });
}

/* Gives a device its memory at `state`, its addresses and its interrupt line. */
static int dev_attach(struct machine *m, unsigned dev_index, void *state)
{
    struct machine_dev_state *dev = &m->dev[dev_index];
    unsigned slot = dev_index - MACHINE_DEV_VIRTIO0;

    dev->state = state;
    if (dev_index < MACHINE_DEV_VIRTIO0) {
        dev->line = fixed_dev[dev_index].line;
        return add_fixed_ports(m, dev_index);
    }
    dev->line = virtio_line[slot % ARRAY_SIZE(virtio_line)];
    return add_virtio_range(m, dev_index);
}

/* All devices and the board as from the shop. */
static int power_on(struct machine *m)
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

    if (conf->disk_count > VM_DISKS_MAX || conf->nic_count > VM_NICS_MAX ||
        conf->disk_count + conf->nic_count > MACHINE_VIRTIO_SLOTS || !ops_complete(ops)) {
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
        if (m->dev[i].class != NULL) {
            r = dev_attach(m, i, next);
            next += aligned(m->dev[i].class->state_size);
        }
    }
    if (r == 0) {
        r = power_on(m);
    }
    if (r < 0) {
        return r;
    }
    *ret_machine = m;
    return 0;
}

/* Effects ------------------------------------------------------------------------- */

static void set_line(struct machine *m, unsigned dev_index, bool level)
{
    unsigned line = m->dev[dev_index].line;
    uint32_t bit = UINT32_C(1) << dev_index;

    if (line == NO_LINE) {
        return;
    }
    m->line_devs[line] = level ? m->line_devs[line] | bit : m->line_devs[line] & ~bit;
    dev_pic_set_line(pic_of(m), line, m->line_devs[line] != 0);
}

static void pulse_line(struct machine *m, unsigned dev_index)
{
    unsigned line = m->dev[dev_index].line;

    if (line != NO_LINE) {
        dev_pic_set_line(pic_of(m), line, true);
        dev_pic_set_line(pic_of(m), line, m->line_devs[line] != 0);
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
    } else if (fx->byte_count > 0) {
        ops->debug_out(m->ctx, fx->bytes, fx->byte_count);
    }
    for (uint32_t i = 0; i < fx->request_count; i++) {
        ops->blk_submit(m->ctx, slot, &fx->request[i]);
    }
    for (uint32_t i = 0; i < fx->frame_count; i++) {
        ops->net_send(m->ctx, slot - m->conf.disk_count, fx->frame[i].data,
                      fx->frame[i].len);
    }
}

/* What stays inside comes first, then output, then what ends the access's world. */
static void carry_out(struct machine *m, unsigned dev_index)
{
    const struct effects *fx = &m->fx;

    m->dropped += fx->dropped;
    if (fx->irq_set) {
        set_line(m, dev_index, fx->irq_level);
    }
    if (fx->irq_edge) {
        pulse_line(m, dev_index);
    }
    if (fx->wake_set) {
        m->dev[dev_index].wake_at_ns = fx->wake_at_ns;
    }
    send_output(m, dev_index);
    if (fx->reset) {
        m->ops->reset(m->ctx);
    }
    if (fx->shutdown) {
        m->ops->shutdown(m->ctx);
    }
}

static void effects_begin(struct machine *m)
{
    BUG_ON(m->busy); /* an op called back into the machine */
    m->busy = true;
    effects_clear(&m->fx);
}

static void effects_end(struct machine *m, unsigned dev_index)
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

static void clock_before_access(struct machine *m, unsigned dev_index)
{
    if (m->dev[dev_index].class->reads_clock) {
        struct dev_input in = {.type = INPUT_CLOCK, .now_ns = m->ops->clock(m->ctx)};

        machine_input(m, dev_index, &in);
    }
}

static uint64_t dev_access(struct machine *m, const struct bus_range *range,
                           uint64_t addr, bool is_write, unsigned len, uint64_t value)
{
    const struct machine_dev_state *dev = &m->dev[range->dev_index];
    uint64_t offset = addr - range->base + range->dev_offset;

    clock_before_access(m, range->dev_index);
    effects_begin(m);
    if (is_write) {
        dev->class->write(dev->state, m->gm, offset, len, value, &m->fx);
    } else {
        value = dev->class->read(dev->state, m->gm, offset, len, &m->fx);
    }
    effects_end(m, range->dev_index);
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
        return NET_FRAME_MAX;
    case INPUT_BLK_DONE:
        return BLK_REQUEST_MAX;
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
    if (m->ops->on_input != NULL) {
        m->ops->on_input(m->ctx, dev_index, in);
    }
    effects_begin(m);
    if (in->type == INPUT_CLOCK && dev->wake_at_ns <= in->now_ns) {
        dev->wake_at_ns = UINT64_MAX; /* this is it; the device asks anew */
    }
    dev->class->input(dev->state, m->gm, in, &m->fx);
    effects_end(m, dev_index);
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
    return dev_pic_intr(pic_of(m));
}

uint8_t machine_irq_ack(struct machine *m)
{
    return dev_pic_ack(pic_of(m));
}

void machine_prepare_kernel(struct machine *m)
{
    uint8_t control = 0x36, zero = 0; /* counter 0, square wave, 65536 */

    if (m->conf.type == MACHINE_LOCKSTEP) {
        machine_pio(m, 0x43, true, 1, &control);
        machine_pio(m, 0x40, true, 1, &zero);
        machine_pio(m, 0x40, true, 1, &zero);
    }
}

void machine_acpi_conf(const struct machine *m, struct acpi_conf *ret_conf)
{
    *ret_conf = (struct acpi_conf){
        .type = m->conf.type,
        .transport = m->conf.transport,
        .cpu_count = m->conf.cpu_count > 0 ? m->conf.cpu_count : 1,
        .virtio_count = m->conf.disk_count + m->conf.nic_count,
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
        effects_begin(m);
        vblk_reissue(m->dev[MACHINE_DEV_VIRTIO0 + i].state, m->gm, &m->fx);
        effects_end(m, MACHINE_DEV_VIRTIO0 + i);
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

void machine_reset(struct machine *m)
{
    for (unsigned i = 0; i < MACHINE_DEV_COUNT; i++) {
        const struct machine_dev_state *dev = &m->dev[i];

        if (dev->class != NULL) {
            effects_begin(m);
            dev->class->reset(dev->state, &m->fx);
            effects_end(m, i);
        }
    }
}

/* What belongs to no single device, and what a stream must agree on with this
 * configuration. */
static int board_xfer(struct machine *m, struct state_io *io)
{
    uint64_t ram_len = m->conf.ram_len;
    uint8_t disk_count = (uint8_t)m->conf.disk_count,
            nic_count = (uint8_t)m->conf.nic_count;

    state_u64(io, &ram_len);
    state_u8(io, &disk_count);
    state_u8(io, &nic_count);
    if (ram_len != m->conf.ram_len) {
        state_refuse(io, "ram_len");
    }
    if (disk_count != m->conf.disk_count || nic_count != m->conf.nic_count) {
        state_refuse(io, "devices");
    }
    for (unsigned i = 0; i < PIC_LINES; i++) {
        uint32_t allowed = 0;

        state_u32(io, &m->line_devs[i]);
        for (unsigned d = 0; d < MACHINE_DEV_COUNT; d++) {
            allowed |= m->dev[d].line == i ? UINT32_C(1) << d : 0;
        }
        if ((m->line_devs[i] & ~allowed) != 0) {
            state_refuse(io, "line_devs");
        }
    }
    for (unsigned i = 0; i < MACHINE_DEV_COUNT; i++) {
        state_u64(io, &m->dev[i].wake_at_ns);
        if (m->dev[i].class == NULL && m->dev[i].wake_at_ns != UINT64_MAX) {
            state_refuse(io, "wake_at_ns");
        }
    }
    return state_end(io);
}

/* Opens the section of this name and instance, written or expected next; false when the
 * stream has another. */
static bool section_open(struct state_io *io, const char *name, uint16_t instance,
                         uint16_t version, uint16_t min_reader)
{
    if (io->mode == STATE_SAVE) {
        state_section_begin(io, name, instance, version, min_reader);
        return true;
    }
    if (!state_section_next(io)) {
        state_fail(io, STATE_MISSING); /* unless another error came first */
        return false;
    }
    if (strcmp(io->section.name, name) != 0 || io->section.instance != instance) {
        state_fail(io, STATE_UNKNOWN);
        return false;
    }
    return state_section_accept(io, version);
}

static int sections_xfer(struct machine *m, struct state_io *io)
{
    int r;

    if (!section_open(io, "machine", 0, MACHINE_VERSION, 1)) {
        return -EBADMSG;
    }
    r = board_xfer(m, io);
    if (r < 0) {
        return r;
    }
    if (io->mode == STATE_SAVE) {
        state_section_end(io);
    }
    for (unsigned i = 0; i < MACHINE_DEV_COUNT; i++) {
        const struct dev_class *class = m->dev[i].class;

        if (class == NULL) {
            continue;
        }
        if (!section_open(io, class->name, (uint16_t)i, class->version,
                          class->min_reader)) {
            return -EBADMSG;
        }
        r = class->xfer(m->dev[i].state, io);
        if (r < 0) {
            return r;
        }
        if (io->mode == STATE_SAVE) {
            state_section_end(io);
        }
    }
    return 0;
}

/* The PIC's pins and the board's lines are saved apart; a stream in which they differ is
 * not one of ours. */
static bool lines_agree(const struct machine *m)
{
    const struct dev_pic *pic = pic_of(m);

    for (unsigned i = 0; i < PIC_LINES; i++) {
        bool pin = (pic->chip[i / 8].lines & (1u << (i % 8))) != 0;

        if (i != PIC_CASCADE && pin != (m->line_devs[i] != 0)) {
            return false;
        }
    }
    return true;
}

int machine_xfer(struct machine *m, struct state_io *io)
{
    int r = sections_xfer(m, io);

    if (r == 0 && io->mode == STATE_LOAD && !lines_agree(m)) {
        state_refuse(io, "lines");
        r = -EBADMSG;
    }
    if (r < 0 && io->mode == STATE_LOAD) {
        BUG_ON(power_on(m) != 0); /* half a state must not run; this has worked before */
    }
    return r;
}

size_t machine_state_max(const struct machine *m)
{
    return (MACHINE_DEV_VIRTIO0 + 1) * (size_t)FIXED_STATE_MAX +
           m->conf.disk_count * (size_t)VBLK_SAVED_MAX +
           m->conf.nic_count * (size_t)VNET_SAVED_MAX;
}

uint32_t machine_digest(struct machine *m, void *scratch, size_t scratch_len)
{
    struct state_io io;
    size_t len;

    state_save_init(&io, scratch, scratch_len);
    BUG_ON(machine_xfer(m, &io) != 0);
    len = state_save_finish(&io);
    BUG_ON(len == 0); /* scratch_len is below machine_state_max */
    return crc32c(0, scratch, len);
}
