/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_vpci.h"

#include <string.h>

#include "base/le.h"

#define VENDOR        0x1AF4
#define DEVICE_BASE   0x1040
#define SUBSYSTEM     0x1100
#define CAP_LEN       16
#define CAP_NOTIFY    20 /* with the multiplier */
#define CAP_WINDOW    20 /* with four bytes of data */
#define WINDOW_BAR    4  /* of a virtio capability */
#define WINDOW_OFFSET 8
#define WINDOW_LENGTH 12
#define WINDOW_DATA   16

struct common_cfg { /* as the driver sees it */
    struct le32 device_feature_select, device_feature;
    struct le32 driver_feature_select, driver_feature;
    struct le16 config_vector, num_queues;
    uint8_t status, config_generation;
    struct le16 queue_select, queue_size, queue_vector, queue_enable, queue_notify_off;
    struct le32 queue_desc[2], queue_driver[2], queue_device[2];
    struct le16 queue_notify_data, queue_reset;
};

_Static_assert(sizeof(struct common_cfg) == VPCI_COMMON_LEN, "VIRTIO 1.2, 4.1.4.3");
_Static_assert(VIRTIO_CONFIG_MAX <= 0x1000, "the device's configuration has its area");

/* Making ---------------------------------------------------------------------------- */

static uint32_t class_code(uint32_t device_id)
{
    switch (device_id) {
    case VIRTIO_ID_NET:
        return 0x020000;
    case VIRTIO_ID_BLK:
        return 0x010000;
    case VIRTIO_ID_CONSOLE:
        return 0x078000;
    default:
        return 0xFF0000;
    }
}

static uint8_t add_cap(struct vpci *vp, enum vpci_cap_type type, unsigned cap_len,
                       uint32_t offset, uint32_t length)
{
    uint8_t cap = pci_func_add_cap(&vp->func, PCI_CAP_VENDOR, cap_len);

    pci_func_set(&vp->func, cap + 2u, 1, cap_len);
    pci_func_set(&vp->func, cap + 3u, 1, type);
    pci_func_set(&vp->func, cap + 4u, 1, VPCI_BAR_REGS);
    pci_func_set(&vp->func, cap + 8u, 4, offset);
    pci_func_set(&vp->func, cap + 12u, 4, length);
    return cap;
}

static void add_window(struct vpci *vp)
{
    vp->window = add_cap(vp, VPCI_CAP_PCI, CAP_WINDOW, 0, 0);
    pci_func_set(&vp->func, vp->window + WINDOW_BAR, 1, 0);
    pci_func_let_write(&vp->func, vp->window + WINDOW_BAR, 1, 0xFF);
    pci_func_let_write(&vp->func, vp->window + WINDOW_OFFSET, 4, UINT32_MAX);
    pci_func_let_write(&vp->func, vp->window + WINDOW_LENGTH, 4, UINT32_MAX);
    pci_func_let_write(&vp->func, vp->window + WINDOW_DATA, 4, UINT32_MAX);
}

void vpci_init(struct vpci *vp, const struct virtio *v, uint64_t bar1, uint64_t bar4)
{
    const struct pci_ident ident = {
        .vendor = VENDOR,
        .device = (uint16_t)(DEVICE_BASE + v->class->device_id),
        .subsystem_vendor = VENDOR,
        .subsystem = SUBSYSTEM,
        .class = class_code(v->class->device_id),
        .revision = 1,
        .pin = 1,
    };
    uint8_t notify;

    memset(vp, 0, sizeof *vp);
    pci_func_init(&vp->func, &ident);
    pci_func_add_bar(&vp->func, VPCI_BAR_MSIX, MSIX_BAR_SIZE, false, bar1);
    pci_func_add_bar(&vp->func, VPCI_BAR_REGS, VPCI_BAR_REGS_SIZE, true, bar4);
    add_cap(vp, VPCI_CAP_COMMON, CAP_LEN, VPCI_COMMON, VPCI_COMMON_LEN);
    add_cap(vp, VPCI_CAP_ISR, CAP_LEN, VPCI_ISR, 1);
    if (v->class->config_len > 0) { /* Linux refuses a device whose area is empty */
        add_cap(vp, VPCI_CAP_DEVICE, CAP_LEN, VPCI_DEVICE, v->class->config_len);
    }
    notify = add_cap(vp, VPCI_CAP_NOTIFY, CAP_NOTIFY, VPCI_NOTIFY,
                     VPCI_NOTIFY_STRIDE * v->queue_count);
    pci_func_set(&vp->func, notify + 16u, 4, VPCI_NOTIFY_STRIDE);
    add_window(vp);
    msix_init(&vp->msix, &vp->func, v->queue_count + 1, VPCI_BAR_MSIX);
}

/* What a driver's reset clears (4.1.4.3.1: vectors are unmapped then). */
static void driver_reset(struct vpci *vp)
{
    vp->device_features_sel = vp->driver_features_sel = 0;
    vp->queue_sel = 0;
    vp->config_vector = VPCI_NO_VECTOR;
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        vp->queue_vector[i] = VPCI_NO_VECTOR;
    }
    vp->msix.pending = 0;
}

void vpci_reset(struct vpci *vp)
{
    pci_func_reset(&vp->func);
    msix_reset(&vp->msix);
    driver_reset(vp);
}

/* BAR4 ------------------------------------------------------------------------------ */

static void split(struct le32 half[2], uint64_t address)
{
    half[0] = le32_make((uint32_t)address);
    half[1] = le32_make((uint32_t)(address >> 32));
}

static void common_get(const struct vpci *vp, struct virtio *v, struct common_cfg *cfg)
{
    const struct virtq *q = virtio_queue(v, vp->queue_sel);

    memset(cfg, 0, sizeof *cfg);
    cfg->device_feature_select = le32_make(vp->device_features_sel);
    cfg->device_feature =
        le32_make(virtio_features_word(v->offered, vp->device_features_sel));
    cfg->driver_feature_select = le32_make(vp->driver_features_sel);
    cfg->driver_feature =
        le32_make(virtio_features_word(v->driver_features, vp->driver_features_sel));
    cfg->config_vector = le16_make(vp->config_vector);
    cfg->num_queues = le16_make((uint16_t)v->queue_count);
    cfg->status = v->status;
    cfg->config_generation = (uint8_t)v->config_generation;
    cfg->queue_select = le16_make(vp->queue_sel);
    cfg->queue_vector = le16_make(VPCI_NO_VECTOR);
    if (q == NULL) { /* size 0 says that there is no such queue */
        return;
    }
    cfg->queue_size = le16_make((uint16_t)q->size);
    cfg->queue_vector = le16_make(vp->queue_vector[vp->queue_sel]);
    cfg->queue_enable = le16_make(q->ready);
    cfg->queue_notify_off = le16_make(vp->queue_sel);
    split(cfg->queue_desc, q->desc);
    split(cfg->queue_driver, q->avail);
    split(cfg->queue_device, q->used);
}

static uint64_t common_read(const struct vpci *vp, struct virtio *v, uint64_t offset,
                            unsigned len)
{
    struct common_cfg cfg;
    uint64_t value = 0;

    if (offset % len != 0 || offset > VPCI_COMMON_LEN - len) {
        return 0;
    }
    common_get(vp, v, &cfg);
    memcpy(&value, (const uint8_t *)&cfg + offset, len);
    return value;
}

/* 4.1.4.3.1: a vector that does not exist reads back as none. */
static uint16_t vector_or_none(const struct vpci *vp, uint32_t value)
{
    return value < vp->msix.count ? (uint16_t)value : VPCI_NO_VECTOR;
}

static void write_byte(struct vpci *vp, struct virtio *v, uint64_t offset, uint8_t value,
                       struct effects *fx)
{
    if (offset != VPCI_STATUS) {
        return;
    }
    virtio_write_status(v, value, fx);
    if (value == 0) {
        driver_reset(vp);
    }
}

static void write_enable(struct vpci *vp, struct virtio *v, struct gmem *gm,
                         uint16_t value, struct effects *fx)
{
    struct virtq *q = virtio_queue_to_configure(v, vp->queue_sel);

    if (q != NULL && value == 1) { /* a driver may not write anything else */
        virtio_queue_enable(v, gm, q, fx);
    }
}

static void write_half(struct vpci *vp, struct virtio *v, struct gmem *gm,
                       uint64_t offset, uint16_t value, struct effects *fx)
{
    struct virtq *q;

    switch (offset) {
    case VPCI_CONFIG_VECTOR:
        vp->config_vector = vector_or_none(vp, value);
        break;
    case VPCI_QUEUE_SELECT:
        vp->queue_sel = value;
        break;
    case VPCI_QUEUE_SIZE:
        q = virtio_queue_to_configure(v, vp->queue_sel);
        if (q != NULL) {
            q->size = value;
        }
        break;
    case VPCI_QUEUE_VECTOR:
        if (virtio_queue(v, vp->queue_sel) != NULL) {
            vp->queue_vector[vp->queue_sel] = vector_or_none(vp, value);
        }
        break;
    case VPCI_QUEUE_ENABLE:
        write_enable(vp, v, gm, value, fx);
        break;
    default:
        break;
    }
}

static void write_address(struct vpci *vp, struct virtio *v, uint64_t offset,
                          uint32_t value)
{
    struct virtq *q = virtio_queue_to_configure(v, vp->queue_sel);
    bool high = offset % 8 == 4;

    if (q == NULL) {
        return;
    }
    switch (offset & ~UINT64_C(7)) {
    case VPCI_QUEUE_DESC:
        virtio_set_half(&q->desc, high, value);
        break;
    case VPCI_QUEUE_DRIVER:
        virtio_set_half(&q->avail, high, value);
        break;
    case VPCI_QUEUE_DEVICE:
        virtio_set_half(&q->used, high, value);
        break;
    default:
        break;
    }
}

static void write_word(struct vpci *vp, struct virtio *v, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case VPCI_DEVICE_FEATURE_SELECT:
        vp->device_features_sel = value;
        break;
    case VPCI_DRIVER_FEATURE_SELECT:
        vp->driver_features_sel = value;
        break;
    case VPCI_DRIVER_FEATURE:
        virtio_write_driver_features(v, vp->driver_features_sel, value);
        break;
    default:
        write_address(vp, v, offset, value);
        break;
    }
}

/* Fields are written whole (4.1.3.1); of the 64-bit ones, either half or both. */
static void common_write(struct vpci *vp, struct virtio *v, struct gmem *gm,
                         uint64_t offset, unsigned len, uint64_t value,
                         struct effects *fx)
{
    if (offset % len != 0) {
        return;
    }
    switch (len) {
    case 1:
        write_byte(vp, v, offset, (uint8_t)value, fx);
        break;
    case 2:
        write_half(vp, v, gm, offset, (uint16_t)value, fx);
        break;
    case 4:
        write_word(vp, v, offset, (uint32_t)value);
        break;
    default:
        if (offset >= VPCI_QUEUE_DESC) {
            write_address(vp, v, offset, (uint32_t)value);
            write_address(vp, v, offset + 4, (uint32_t)(value >> 32));
        }
        break;
    }
}

uint64_t vpci_read(struct vpci *vp, struct virtio *v, unsigned bar, uint64_t offset,
                   unsigned len)
{
    uint64_t area = offset & ~UINT64_C(0xFFF), within = offset & 0xFFF;
    uint8_t isr;

    if (bar == VPCI_BAR_MSIX) {
        return msix_read(&vp->msix, offset, len);
    }
    switch (area) {
    case VPCI_COMMON:
        return common_read(vp, v, within, len);
    case VPCI_ISR:
        if (within != 0) {
            return 0;
        }
        isr = v->isr; /* reading acknowledges (4.1.4.5) */
        v->isr = 0;
        return isr;
    case VPCI_DEVICE:
        return virtio_config_read(v, within, len);
    default:
        return 0;
    }
}

void vpci_write(struct vpci *vp, struct virtio *v, struct gmem *gm, unsigned bar,
                uint64_t offset, unsigned len, uint64_t value, struct effects *fx)
{
    uint64_t area = offset & ~UINT64_C(0xFFF), within = offset & 0xFFF;

    if (bar == VPCI_BAR_MSIX) {
        msix_write(&vp->msix, offset, len, value);
        return;
    }
    switch (area) {
    case VPCI_COMMON:
        common_write(vp, v, gm, within, len, value, fx);
        break;
    case VPCI_DEVICE:
        virtio_config_write(v, within, len, value, fx);
        break;
    case VPCI_NOTIFY: /* the address says which queue */
        if (within % VPCI_NOTIFY_STRIDE == 0) {
            virtio_notify(v, gm, within / VPCI_NOTIFY_STRIDE, fx);
        }
        break;
    default:
        break;
    }
}

/* Configuration space --------------------------------------------------------------- */

static bool touches_window(const struct vpci *vp, unsigned reg, unsigned len)
{
    unsigned data = vp->window + WINDOW_DATA;

    return pci_access_ok(reg, len) && reg + len > data && reg < data + 4;
}

/* Where the access capability points (4.1.4.9); false when that is nowhere. */
static bool window_target(const struct vpci *vp, unsigned *ret_bar, uint32_t *ret_offset,
                          unsigned *ret_len)
{
    unsigned bar = pci_func_read(&vp->func, vp->window + WINDOW_BAR, 1);
    uint32_t offset = pci_func_read(&vp->func, vp->window + WINDOW_OFFSET, 4);
    uint32_t len = pci_func_read(&vp->func, vp->window + WINDOW_LENGTH, 4);

    if ((len != 1 && len != 2 && len != 4) || offset % len != 0 || bar >= PCI_BARS ||
        offset >= vp->func.bar_size[bar]) {
        return false;
    }
    *ret_bar = bar;
    *ret_offset = offset;
    *ret_len = len;
    return true;
}

uint32_t vpci_config_read(struct vpci *vp, struct virtio *v, unsigned reg, unsigned len)
{
    unsigned bar, part;
    uint32_t offset;

    if (touches_window(vp, reg, len) && window_target(vp, &bar, &offset, &part)) {
        pci_func_write(&vp->func, vp->window + WINDOW_DATA, part,
                       (uint32_t)vpci_read(vp, v, bar, offset, part));
    }
    return pci_func_read(&vp->func, reg, len);
}

static bool is_master(const struct vpci *vp)
{
    return (pci_func_command(&vp->func) & PCI_COMMAND_MASTER) != 0;
}

void vpci_settle(const struct vpci *vp, struct virtio *v)
{
    v->no_dma = !is_master(vp);
}

bool vpci_config_write(struct vpci *vp, struct virtio *v, struct gmem *gm, unsigned reg,
                       unsigned len, uint32_t value, struct effects *fx)
{
    bool was_on = msix_on(&vp->msix, &vp->func);
    bool moved = pci_func_write(&vp->func, reg, len, value);
    unsigned bar, part;
    uint32_t offset;

    if (was_on && !msix_on(&vp->msix, &vp->func)) {
        vp->msix.pending = 0;
    }
    virtio_allow_dma(v, gm, is_master(vp), fx);
    if (touches_window(vp, reg, len) && window_target(vp, &bar, &offset, &part)) {
        vpci_write(vp, v, gm, bar, offset, part,
                   pci_func_read(&vp->func, vp->window + WINDOW_DATA, part), fx);
    }
    return moved;
}

/* Interrupts ------------------------------------------------------------------------ */

bool vpci_intx(const struct vpci *vp, const struct virtio *v)
{
    return v->isr != 0 && !msix_on(&vp->msix, &vp->func) &&
           (pci_func_command(&vp->func) & PCI_COMMAND_INTX_OFF) == 0;
}

uint32_t vpci_deliver(struct vpci *vp, struct virtio *v, uint32_t queue_irq,
                      bool *ret_intx)
{
    bool messages = msix_on(&vp->msix, &vp->func);

    *ret_intx = vpci_intx(vp, v);
    pci_func_intx(&vp->func, !messages && v->isr != 0);
    if (!messages) {
        return 0;
    }
    v->isr = 0; /* messages need no acknowledgement, and must not show up as INTx later */
    if ((queue_irq & EFFECT_IRQ_CONFIG) != 0) {
        msix_raise(&vp->msix, vp->config_vector);
    }
    for (unsigned q = 0; q < v->queue_count; q++) {
        if ((queue_irq >> q & 1) != 0) {
            msix_raise(&vp->msix, vp->queue_vector[q]);
        }
    }
    return msix_take(&vp->msix, &vp->func);
}

/* State ----------------------------------------------------------------------------- */

static void vector_xfer(const struct vpci *vp, uint16_t *vector, struct state_io *io)
{
    state_u16(io, vector);
    if (vector_or_none(vp, *vector) != *vector) {
        state_refuse(io, "vector");
    }
}

int vpci_xfer(void *vpci, struct state_io *io)
{
    struct vpci *vp = vpci;

    pci_func_xfer(&vp->func, io);
    msix_xfer(&vp->msix, io);
    state_u32(io, &vp->device_features_sel);
    state_u32(io, &vp->driver_features_sel);
    state_u16(io, &vp->queue_sel);
    vector_xfer(vp, &vp->config_vector, io);
    for (unsigned i = 0; i + 1 < vp->msix.count; i++) {
        vector_xfer(vp, &vp->queue_vector[i], io);
    }
    return state_end(io);
}
