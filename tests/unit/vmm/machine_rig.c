/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vmm/machine_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);              \
            abort();                                                                     \
        }                                                                                \
    } while (0)

uint64_t rig_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

void rig_log(struct rig *rig, char tag, const void *data, size_t len)
{
    if (rig->log_len + len + 1 > rig->log_cap) {
        rig->log_cap = (rig->log_len + len + 1) * 2;
        rig->log = realloc(rig->log, rig->log_cap);
        CHECK(rig->log != NULL);
    }
    rig->log[rig->log_len++] = (uint8_t)tag;
    if (len > 0) {
        memcpy(rig->log + rig->log_len, data, len);
    }
    rig->log_len += len;
}

void rig_log_clear(struct rig *rig)
{
    rig->log_len = 0;
}

/* Ops ----------------------------------------------------------------------------- */

static void op_serial(void *ctx, const uint8_t *bytes, uint32_t len)
{
    struct rig *rig = ctx;

    rig->serial = realloc(rig->serial, rig->serial_len + len);
    memcpy(rig->serial + rig->serial_len, bytes, len);
    rig->serial_len += len;
    rig_log(rig, 'S', bytes, len);
}

static void op_debug(void *ctx, const uint8_t *bytes, uint32_t len)
{
    rig_log(ctx, 'D', bytes, len);
}

static void op_submit(void *ctx, unsigned disk, const struct blk_request *request)
{
    struct rig *rig = ctx;
    uint64_t words[6] = {
        disk,        request->op, request->slot, request->generation, request->sector,
        request->len};

    if (rig->forgetful && rig->pending_count == RIG_PENDING_MAX) {
        memmove(&rig->pending[0], &rig->pending[1],
                --rig->pending_count * sizeof rig->pending[0]);
    }
    CHECK(rig->pending_count < RIG_PENDING_MAX);
    CHECK(request->len <= BLK_REQUEST_MAX);
    CHECK((request->data != NULL) == (request->op == REQUEST_WRITE));
    rig->pending[rig->pending_count++] = (struct rig_request){disk, *request};
    rig->submitted_count++;
    rig_log(rig, 'B', words, sizeof words);
    if (request->data != NULL) {
        rig_log(rig, 'd', request->data, request->len);
    }
}

static void op_send(void *ctx, unsigned nic, unsigned queue, const uint8_t *frame,
                    uint32_t len)
{
    struct rig *rig = ctx;

    CHECK(len <= NET_HEADER_LEN + NET_FRAME_MAX);
    memcpy(rig->frame, frame, len);
    rig->frame_len = len;
    rig->frame_queue = queue;
    rig->frame_count++;
    rig_log(rig, 'N', &nic, sizeof nic);
    rig_log(rig, 'n', frame, len);
}

static void op_reset(void *ctx)
{
    struct rig *rig = ctx;

    rig->resets++;
    rig_log(rig, 'R', NULL, 0);
}

static void op_shutdown(void *ctx)
{
    struct rig *rig = ctx;

    rig->shutdowns++;
    rig_log(rig, 'X', NULL, 0);
}

static uint64_t op_clock(void *ctx)
{
    struct rig *rig = ctx;

    return rig->clock != NULL ? rig->clock(rig) : rig->now_ns;
}

static void op_input(void *ctx, unsigned dev_index, const struct dev_input *in)
{
    struct rig *rig = ctx;

    if (rig->on_input != NULL) {
        rig->on_input(rig, dev_index, in);
    }
}

static void op_gsi(void *ctx, unsigned gsi, bool level)
{
    struct rig *rig = ctx;

    CHECK(gsi < BOARD_GSI_COUNT);
    rig->gsi[gsi] = level;
    rig->gsi_calls++;
}

static void op_msi(void *ctx, uint64_t address, uint32_t data)
{
    struct rig *rig = ctx;

    rig->msi_count++;
    rig->msi_address = address;
    rig->msi_data = data;
}

static void op_doorbell(void *ctx, unsigned dev_index, unsigned queue, uint64_t address,
                        bool on)
{
    struct rig *rig = ctx;
    uint64_t *is;

    CHECK(dev_index >= MACHINE_DEV_VIRTIO0 && dev_index < MACHINE_DEV_COUNT);
    CHECK(queue < VIRTIO_QUEUES_MAX && address != 0);
    is = &rig->doorbell[dev_index - MACHINE_DEV_VIRTIO0][queue];
    CHECK(*is == (on ? 0 : address));
    *is = on ? address : 0;
    for (unsigned i = 0; on && i < MACHINE_VIRTIO_SLOTS * VIRTIO_QUEUES_MAX; i++) {
        uint64_t *other = &rig->doorbell[0][0] + i;

        CHECK(other == is || *other != address); /* KVM has one ioeventfd at a place */
    }
}

static void op_entropy(void *ctx, uint32_t len)
{
    struct rig *rig = ctx;

    CHECK(len > 0 && len <= ENTROPY_MAX);
    rig->entropy_wanted = len;
    rig_log(rig, 'E', &len, sizeof len);
}

static void op_net_offload(void *ctx, unsigned nic, unsigned offload)
{
    struct rig *rig = ctx;

    CHECK(nic < VM_NICS_MAX);
    rig->net_offload = offload;
    rig->net_offloads++;
}

static void op_port_out(void *ctx, const uint8_t *bytes, uint32_t len)
{
    rig_log(ctx, 'P', bytes, len);
}

static void op_port_open(void *ctx, bool open)
{
    struct rig *rig = ctx;

    rig->port_is_open = open;
    rig_log(rig, 'O', &open, sizeof open);
}

static void op_ram_discard(void *ctx, struct gpa base, uint64_t len)
{
    struct rig *rig = ctx;
    uint64_t end = base.v + len;

    CHECK(base.v % GMEM_PAGE_SIZE == 0 && len % GMEM_PAGE_SIZE == 0 && len > 0);
    CHECK(base.v < end && end <= RIG_RAM_LEN);
    memset(rig->ram + base.v, 0, len);
    rig->range = (struct gpa_range){base, len};
    rig->range_count++;
    rig->range_bytes += len;
}

static void op_event(void *ctx, enum machine_event event, uint32_t value)
{
    struct rig *rig = ctx;

    if (event == MACHINE_EVENT_PANIC) {
        rig->panics++;
        rig->panic_value = value;
    } else {
        CHECK(event == MACHINE_EVENT_WATCHDOG);
        rig->bites++;
    }
}

static const struct machine_ops ops = {
    .serial_out = op_serial,
    .debug_out = op_debug,
    .blk_submit = op_submit,
    .net_send = op_send,
    .reset = op_reset,
    .shutdown = op_shutdown,
    .clock = op_clock,
    .on_input = op_input,
    .gsi = op_gsi,
    .msi = op_msi,
    .doorbell = op_doorbell,
    .guest_event = op_event,
    .entropy = op_entropy,
    .port_out = op_port_out,
    .net_offload = op_net_offload,
    .port_open = op_port_open,
    .ram_discard = op_ram_discard,
};

const struct machine_ops *const rig_ops = &ops;

/* Life ---------------------------------------------------------------------------- */

static void make(struct rig *rig)
{
    size_t size = (machine_size(&rig->conf) + 63) / 64 * 64;

    if (rig->memory == NULL) {
        rig->memory = aligned_alloc(64, size);
        CHECK(rig->memory != NULL);
        memset(rig->memory, 0xA5, size); /* init must not rely on zeros */
    }
    memset(rig->doorbell, 0, sizeof rig->doorbell);
    memset(rig->gsi, 0, sizeof rig->gsi);
    CHECK(machine_init(rig->memory, &rig->conf, &rig->gm, rig_ops, rig, &rig->m) == 0);
}

void rig_init(struct rig *rig, const struct machine_conf *conf)
{
    memset(rig, 0, sizeof *rig);
    rig->conf = (struct machine_conf){
        .ram_len = RIG_RAM_LEN,
        .disk_count = 1,
        .nic_count = 1,
        .disk = {{.sectors = RIG_SECTORS, .serial = "rig-disk-0"}},
        .nic = {{.mac = {2, 0, 0, 0, 0, 1}}},
        .cmdline = "console=rig",
    };
    if (conf != NULL) {
        rig->conf = *conf;
    }
    rig->ram = aligned_alloc(GMEM_PAGE_SIZE, RIG_RAM_LEN);
    CHECK(rig->ram != NULL);
    memset(rig->ram, 0, RIG_RAM_LEN);
    CHECK(gmem_add(&rig->gm, (struct gpa){0}, RIG_RAM_LEN, rig->ram, false, rig->dirty) ==
          0);
    make(rig);
}

void rig_free(struct rig *rig)
{
    free(rig->ram);
    free(rig->memory);
    free(rig->log);
    free(rig->serial);
    memset(rig, 0, sizeof *rig);
}

void rig_restart(struct rig *rig)
{
    memset(rig->ram, 0, RIG_RAM_LEN);
    rig->log_len = rig->serial_len = 0;
    rig->pending_count = rig->submitted_count = rig->frame_count = 0;
    rig->resets = rig->shutdowns = rig->panics = rig->bites = 0;
    rig->gsi_calls = rig->msi_count = 0;
    rig->entropy_wanted = 0;
    rig->port_is_open = false;
    rig->net_offload = rig->net_offloads = 0;
    rig->range_count = 0;
    rig->range_bytes = 0;
    rig->now_ns = 0;
    make(rig);
}

void rig_renew(struct rig *rig)
{
    free(rig->memory);
    rig->memory = NULL;
    make(rig);
}

/* Accesses ------------------------------------------------------------------------ */

uint64_t rig_in(struct rig *rig, uint16_t port, unsigned len)
{
    uint64_t value = 0;

    machine_pio(rig->m, port, false, len, &value);
    return value;
}

void rig_out(struct rig *rig, uint16_t port, unsigned len, uint64_t value)
{
    machine_pio(rig->m, port, true, len, &value);
}

uint64_t rig_mmio_in(struct rig *rig, uint64_t addr, unsigned len)
{
    uint64_t value = 0;

    machine_mmio(rig->m, (struct gpa){addr}, false, len, &value);
    return value;
}

void rig_mmio_out(struct rig *rig, uint64_t addr, unsigned len, uint64_t value)
{
    machine_mmio(rig->m, (struct gpa){addr}, true, len, &value);
}

uint32_t rig_vreg_in(struct rig *rig, unsigned slot, unsigned reg)
{
    return (uint32_t)rig_mmio_in(rig,
                                 MACHINE_MMIO_BASE + slot * MACHINE_MMIO_STRIDE + reg, 4);
}

void rig_vreg_out(struct rig *rig, unsigned slot, unsigned reg, uint32_t value)
{
    rig_mmio_out(rig, MACHINE_MMIO_BASE + slot * MACHINE_MMIO_STRIDE + reg, 4, value);
}

uint32_t rig_pci_in(struct rig *rig, unsigned dev, unsigned reg, unsigned len)
{
    return (uint32_t)rig_mmio_in(rig, BOARD_ECAM_BASE + (dev << 15) + reg, len);
}

void rig_pci_out(struct rig *rig, unsigned dev, unsigned reg, unsigned len,
                 uint32_t value)
{
    rig_mmio_out(rig, BOARD_ECAM_BASE + (dev << 15) + reg, len, value);
}

unsigned rig_pci_cap(struct rig *rig, unsigned dev, unsigned id, unsigned cfg_type)
{
    unsigned cap = rig_pci_in(rig, dev, PCI_REG_CAPS, 1);

    for (unsigned ttl = 48; cap != 0; cap = rig_pci_in(rig, dev, cap + 1, 1), ttl--) {
        CHECK(ttl > 0);
        if (rig_pci_in(rig, dev, cap, 1) == id &&
            (id != PCI_CAP_VENDOR || rig_pci_in(rig, dev, cap + 3, 1) == cfg_type)) {
            return cap;
        }
    }
    return 0;
}

uint64_t rig_pci_bar(struct rig *rig, unsigned dev, unsigned bar)
{
    uint32_t low = rig_pci_in(rig, dev, PCI_REG_BAR0 + 4 * bar, 4);
    uint64_t high =
        (low & 4) != 0 ? rig_pci_in(rig, dev, PCI_REG_BAR0 + 4 * bar + 4, 4) : 0;

    return high << 32 | (low & ~15u);
}

void rig_clock(struct rig *rig, uint64_t now_ns)
{
    rig->now_ns = now_ns;
    machine_wake(rig->m, now_ns);
}

void rig_pic_init(struct rig *rig)
{
    static const uint8_t step[][2] = {
        {0x20, 0x11}, {0x21, 0x20}, {0x21, 0x04}, {0x21, 0x01}, {0xA0, 0x11},
        {0xA1, 0x28}, {0xA1, 0x02}, {0xA1, 0x01}, {0x21, 0x00}, {0xA1, 0x00},
    };

    for (size_t i = 0; i < sizeof step / sizeof step[0]; i++) {
        rig_out(rig, step[i][0], 1, step[i][1]);
    }
    rig_out(rig, 0x4D0, 1, 0x20);
    rig_out(rig, 0x4D1, 1, 0x0E);
}

/* State --------------------------------------------------------------------------- */

size_t rig_save(struct rig *rig, uint8_t **ret_buf)
{
    size_t cap = machine_state_max(rig->m), len;
    uint8_t *buf = malloc(cap);
    struct state_io io;

    CHECK(buf != NULL);
    state_save_init(&io, buf, cap);
    if (machine_xfer(rig->m, &io) != 0) {
        fprintf(stderr, "save failed in %s: %s (%s)\n", io.section.name,
                state_error_str(io.error),
                io.refused_field != NULL ? io.refused_field : "-");
        abort();
    }
    len = state_save_finish(&io);
    CHECK(len > 0);
    *ret_buf = buf;
    return len;
}

int rig_load(struct rig *rig, const uint8_t *buf, size_t len, struct state_io *ret_io)
{
    state_load_init(ret_io, buf, len);
    return machine_xfer(rig->m, ret_io);
}

uint32_t rig_digest(struct rig *rig)
{
    uint8_t *buf;
    size_t len = rig_save(rig, &buf);
    uint32_t digest = crc32c(0, buf, len);

    free(buf);
    return digest;
}

/* A driver ------------------------------------------------------------------------ */

static void store(struct rig *rig, uint64_t addr, uint64_t value, size_t len)
{
    CHECK(gmem_write(&rig->gm, (struct gpa){addr}, &value, len));
}

static void plan_ring(struct rig *rig, unsigned slot, unsigned q, struct rig_ring *ring,
                      uint64_t ring_base)
{
    unsigned size = rig->queue_size != 0 ? rig->queue_size : RIG_QUEUE_SIZE;
    uint64_t stride = size <= RIG_QUEUE_SIZE ? 0x400 : 0x1000;
    uint64_t base = ring_base + q * stride;

    *ring = (struct rig_ring){
        .slot = slot,
        .queue = q,
        .size = size,
        .desc = base,
        .avail = base + 16 * size,
        .used = base + 16 * size + 2 * size + 8,
    };
    memset(rig->ram + base, 0, stride);
}

static void mmio_start(struct rig *rig, unsigned slot, uint64_t features,
                       struct rig_ring *rings, unsigned ring_count, uint64_t ring_base)
{
    rig_vreg_out(rig, slot, VMMIO_STATUS, 0);
    rig_vreg_out(rig, slot, VMMIO_STATUS, VIRTIO_STATUS_ACKNOWLEDGE);
    rig_vreg_out(rig, slot, VMMIO_STATUS,
                 VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    for (uint32_t half = 0; half < 2; half++) {
        rig_vreg_out(rig, slot, VMMIO_DRIVER_FEATURES_SEL, half);
        rig_vreg_out(rig, slot, VMMIO_DRIVER_FEATURES,
                     (uint32_t)(features >> (32 * half)));
    }
    rig_vreg_out(rig, slot, VMMIO_STATUS, 0x0B);
    for (unsigned q = 0; q < ring_count; q++) {
        plan_ring(rig, slot, q, &rings[q], ring_base);
        rig_vreg_out(rig, slot, VMMIO_QUEUE_SEL, q);
        rig_vreg_out(rig, slot, VMMIO_QUEUE_NUM, rings[q].size);
        rig_vreg_out(rig, slot, VMMIO_QUEUE_DESC_LOW, (uint32_t)rings[q].desc);
        rig_vreg_out(rig, slot, VMMIO_QUEUE_AVAIL_LOW, (uint32_t)rings[q].avail);
        rig_vreg_out(rig, slot, VMMIO_QUEUE_USED_LOW, (uint32_t)rings[q].used);
        rig_vreg_out(rig, slot, VMMIO_QUEUE_READY, 1);
    }
    rig_vreg_out(rig, slot, VMMIO_STATUS, 0x0F);
}

/* Finds its registers as a driver does: by capability. Vectors only where MSI-X is on. */
static void pci_start(struct rig *rig, unsigned slot, uint64_t features,
                      struct rig_ring *rings, unsigned ring_count, uint64_t ring_base)
{
    unsigned dev = BOARD_PCI_VIRTIO_DEV(slot);
    unsigned cap = rig_pci_cap(rig, dev, PCI_CAP_VENDOR, VPCI_CAP_COMMON);
    uint64_t at = rig_pci_bar(rig, dev, rig_pci_in(rig, dev, cap + 4, 1)) +
                  rig_pci_in(rig, dev, cap + 8, 4);

    rig_pci_out(rig, dev, PCI_REG_COMMAND, 2,
                rig_pci_in(rig, dev, PCI_REG_COMMAND, 2) | PCI_COMMAND_MASTER);
    rig_mmio_out(rig, at + VPCI_STATUS, 1, 0);
    rig_mmio_out(rig, at + VPCI_STATUS, 1, VIRTIO_STATUS_ACKNOWLEDGE);
    rig_mmio_out(rig, at + VPCI_STATUS, 1,
                 VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    for (uint32_t half = 0; half < 2; half++) {
        rig_mmio_out(rig, at + VPCI_DRIVER_FEATURE_SELECT, 4, half);
        rig_mmio_out(rig, at + VPCI_DRIVER_FEATURE, 4,
                     (uint32_t)(features >> (32 * half)));
    }
    rig_mmio_out(rig, at + VPCI_STATUS, 1, 0x0B);
    rig_mmio_out(rig, at + VPCI_CONFIG_VECTOR, 2, 0);
    for (unsigned q = 0; q < ring_count; q++) {
        plan_ring(rig, slot, q, &rings[q], ring_base);
        rig_mmio_out(rig, at + VPCI_QUEUE_SELECT, 2, q);
        rig_mmio_out(rig, at + VPCI_QUEUE_SIZE, 2, rings[q].size);
        rig_mmio_out(rig, at + VPCI_QUEUE_DESC, 4, rings[q].desc);
        rig_mmio_out(rig, at + VPCI_QUEUE_DRIVER, 4, rings[q].avail);
        rig_mmio_out(rig, at + VPCI_QUEUE_DEVICE, 4, rings[q].used);
        rig_mmio_out(rig, at + VPCI_QUEUE_VECTOR, 2, q + 1);
        rig_mmio_out(rig, at + VPCI_QUEUE_ENABLE, 2, 1);
    }
    rig_mmio_out(rig, at + VPCI_STATUS, 1, 0x0F);
}

void rig_virtio_start(struct rig *rig, unsigned slot, uint64_t features,
                      struct rig_ring *rings, unsigned ring_count, uint64_t ring_base)
{
    if (rig->conf.transport == MACHINE_TRANSPORT_PCI) {
        pci_start(rig, slot, features, rings, ring_count, ring_base);
    } else {
        mmio_start(rig, slot, features, rings, ring_count, ring_base);
    }
}

void rig_desc(struct rig *rig, const struct rig_ring *ring, unsigned index, uint64_t addr,
              uint32_t len, uint16_t flags, uint16_t next)
{
    uint64_t at = ring->desc + index * 16;

    store(rig, at, addr, 8);
    store(rig, at + 8, len, 4);
    store(rig, at + 12, flags, 2);
    store(rig, at + 14, next, 2);
}

void rig_offer(struct rig *rig, struct rig_ring *ring, uint16_t head)
{
    store(rig, ring->avail + 4 + 2 * (ring->avail_idx % ring->size), head, 2);
    ring->avail_idx++;
    store(rig, ring->avail + 2, ring->avail_idx, 2);
}

void rig_notify(struct rig *rig, const struct rig_ring *ring)
{
    if (rig->conf.transport == MACHINE_TRANSPORT_PCI) {
        rig_mmio_out(rig,
                     rig_pci_bar(rig, BOARD_PCI_VIRTIO_DEV(ring->slot), VPCI_BAR_REGS) +
                         VPCI_NOTIFY + ring->queue * VPCI_NOTIFY_STRIDE,
                     2, ring->queue);
    } else {
        rig_vreg_out(rig, ring->slot, VMMIO_QUEUE_NOTIFY, ring->queue);
    }
}

bool rig_used(struct rig *rig, struct rig_ring *ring, uint32_t *ret_id, uint32_t *ret_len)
{
    uint16_t idx;
    uint64_t at = ring->used + 4 + 8 * (ring->used_seen % ring->size);

    CHECK(gmem_load16(&rig->gm, (struct gpa){ring->used + 2}, &idx));
    if (idx == ring->used_seen) {
        return false;
    }
    ring->used_seen++;
    gmem_read(&rig->gm, (struct gpa){at}, ret_id, 4);
    gmem_read(&rig->gm, (struct gpa){at + 4}, ret_len, 4);
    return true;
}

void rig_blk_done(struct rig *rig, unsigned i, uint32_t status)
{
    struct rig_request done = rig->pending[i];
    uint8_t *data = NULL;
    struct dev_input in = {
        .type = INPUT_BLK_DONE,
        .slot = done.request.slot,
        .generation = done.request.generation,
        .status = status,
    };

    CHECK(i < rig->pending_count);
    memmove(&rig->pending[i], &rig->pending[i + 1],
            (rig->pending_count - i - 1) * sizeof rig->pending[0]);
    rig->pending_count--;
    if (done.request.op == REQUEST_READ && status == 0) {
        data = malloc(done.request.len);
        CHECK(data != NULL);
        for (uint32_t b = 0; b < done.request.len; b++) {
            data[b] = (uint8_t)(done.request.sector + b / 512);
        }
        in.data = data;
        in.len = done.request.len;
    }
    CHECK(machine_input(rig->m, machine_disk_dev(rig->m, done.disk), &in) == 0);
    free(data);
}
