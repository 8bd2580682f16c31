/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vmm/class_rig.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/dev_vballoon.h"
#include "vmm/dev_vcon.h"
#include "vmm/dev_vnet.h"

#define W VIRTQ_DESC_WRITE

const struct class_queue class_queue[CLASS_QUEUES] = {
    {"blk", SLOT_BLK, 0, 0},
    {"net rx", SLOT_NET, VNET_QUEUE_RX, W},
    {"net tx", SLOT_NET, VNET_QUEUE_TX, 0},
    {"net control", SLOT_NET, VNET_QUEUE_CTRL, 0},
    {"rng", SLOT_RNG, 0, W},
    {"console control rx", SLOT_CON, VCON_QUEUE_CONTROL_RX, W},
    {"console control tx", SLOT_CON, VCON_QUEUE_CONTROL_TX, 0},
    {"console port tx", SLOT_CON, VCON_QUEUE_TX1, 0},
    {"balloon inflate", SLOT_BALLOON, VBALLOON_INFLATE, 0},
    {"balloon statistics", SLOT_BALLOON, VBALLOON_STATS_QUEUE, 0},
};

static const struct {
    unsigned queue_count;
    uint64_t features, ring_base;
} device[CLASS_SLOTS] = {
    [SLOT_BLK] = {1, 1u << 9, CLASS_RINGS},
    [SLOT_NET] = {3, 1u << 0 | 1u << 15 | 1u << 16 | 1u << 17 | 1u << 21,
                  CLASS_RINGS + 0x400},
    [SLOT_RNG] = {1, 0, CLASS_RINGS + 0x1000},
    [SLOT_CON] = {VCON_QUEUES, VCON_F_MULTIPORT, CLASS_RINGS + 0x1400},
    [SLOT_BALLOON] = {3, VBALLOON_F_STATS, CLASS_RINGS + 0x2C00},
};

struct rig class_rig;
struct rig_ring class_ring[CLASS_SLOTS][6];
void (*class_on_read)(uint64_t addr, size_t len);
unsigned class_reads;

/* The hook
 * ------------------------------------------------------------------------------------ */

bool __real_gmem_read(const struct gmem *g, struct gpa addr, void *dst, size_t len);
bool __wrap_gmem_read(const struct gmem *g, struct gpa addr, void *dst, size_t len);
bool __real_gmem_load16(const struct gmem *g, struct gpa addr, uint16_t *ret_value);
bool __wrap_gmem_load16(const struct gmem *g, struct gpa addr, uint16_t *ret_value);

static void after_read(struct gpa addr, size_t len)
{
    class_reads++;
    if (class_on_read != NULL) {
        class_on_read(addr.v, len);
    }
}

bool __wrap_gmem_read(const struct gmem *g, struct gpa addr, void *dst, size_t len)
{
    bool ok = __real_gmem_read(g, addr, dst, len);

    after_read(addr, len);
    return ok;
}

bool __wrap_gmem_load16(const struct gmem *g, struct gpa addr, uint16_t *ret_value)
{
    bool ok = __real_gmem_load16(g, addr, ret_value);

    after_read(addr, 2);
    return ok;
}

/* The machine
 * --------------------------------------------------------------------------------- */

static void start_all(void)
{
    for (unsigned slot = 0; slot < CLASS_SLOTS; slot++) {
        if (class_rig.conf.transport == MACHINE_TRANSPORT_PCI) {
            rig_pci_out(&class_rig, BOARD_PCI_VIRTIO_DEV(slot), PCI_REG_COMMAND, 2,
                        PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        }
        class_start(slot);
    }
}

void class_open(enum machine_transport transport)
{
    const struct machine_conf conf = {
        .type = MACHINE_STANDARD,
        .transport = transport,
        .ram_len = RIG_RAM_LEN,
        .disk_count = 1,
        .nic_count = 1,
        .extras = MACHINE_EXTRAS_ALL,
        .disk = {{.sectors = RIG_SECTORS, .serial = "class-disk"}},
        .nic = {{.mac = {2, 0, 0, 0, 0, 1}, .offloads = true}},
    };

    /* States are saved a thousand times here: their memory stays with us. */
    mallopt(M_MMAP_THRESHOLD, 1 << 24);
    mallopt(M_TRIM_THRESHOLD, 1 << 24);
    class_on_read = NULL;
    rig_init(&class_rig, &conf);
    start_all();
}

void class_close(void)
{
    class_on_read = NULL;
    rig_free(&class_rig);
}

void class_start(enum class_slot slot)
{
    rig_virtio_start(&class_rig, slot, VIRTIO_F_VERSION_1 | device[slot].features,
                     class_ring[slot], device[slot].queue_count, device[slot].ring_base);
    ck_assert_uint_eq(class_status(slot), 0x0F);
}

static uint64_t vpci_common(enum class_slot slot)
{
    unsigned dev = BOARD_PCI_VIRTIO_DEV(slot);
    unsigned cap = rig_pci_cap(&class_rig, dev, PCI_CAP_VENDOR, VPCI_CAP_COMMON);

    return rig_pci_bar(&class_rig, dev, rig_pci_in(&class_rig, dev, cap + 4, 1)) +
           rig_pci_in(&class_rig, dev, cap + 8, 4);
}

uint8_t class_status(enum class_slot slot)
{
    return class_rig.conf.transport == MACHINE_TRANSPORT_PCI
               ? (uint8_t)rig_mmio_in(&class_rig, vpci_common(slot) + VPCI_STATUS, 1)
               : (uint8_t)rig_vreg_in(&class_rig, slot, VMMIO_STATUS);
}

void class_write_status(enum class_slot slot, uint8_t value)
{
    if (class_rig.conf.transport == MACHINE_TRANSPORT_PCI) {
        rig_mmio_out(&class_rig, vpci_common(slot) + VPCI_STATUS, 1, value);
    } else {
        rig_vreg_out(&class_rig, slot, VMMIO_STATUS, value);
    }
}

bool class_broken(enum class_slot slot)
{
    return (class_status(slot) & VIRTIO_STATUS_NEEDS_RESET) != 0;
}

void class_others_live(enum class_slot slot)
{
    uint8_t *first, *again;
    struct state_io io;
    size_t len, again_len;

    for (unsigned other = 0; other < CLASS_SLOTS; other++) {
        ck_assert(other == slot || class_status(other) == 0x0F);
    }
    len = rig_save(&class_rig, &first);
    ck_assert_int_eq(rig_load(&class_rig, first, len, &io), 0);
    again_len = rig_save(&class_rig, &again);
    ck_assert_uint_eq(len, again_len);
    ck_assert_mem_eq(first, again, len);
    free(first);
    free(again);
}

void class_input(enum class_slot slot, enum input_type type, const void *data,
                 uint32_t len)
{
    struct dev_input in = {.type = type, .data = data, .len = len};

    ck_assert_int_eq(machine_input(class_rig.m, MACHINE_DEV_VIRTIO0 + slot, &in), 0);
}

struct rig_ring *class_ring_of(const struct class_queue *q)
{
    return &class_ring[q->slot][q->queue];
}

/* Requests
 * ---------------------------------------------------------------------------------- */

static uint64_t buffer(unsigned index)
{
    return CLASS_DATA + index * 0x800u;
}

static void put(unsigned index, const void *bytes, size_t len)
{
    memcpy(class_rig.ram + buffer(index), bytes, len);
}

/* One descriptor, and whether another follows. */
static void part(const struct class_queue *q, unsigned index, uint32_t len,
                 uint16_t flags)
{
    rig_desc(&class_rig, class_ring_of(q), index, buffer(index), len, flags,
             (uint16_t)(index + 1));
}

static unsigned one(const struct class_queue *q, unsigned head, const void *bytes,
                    uint32_t len)
{
    if (bytes != NULL) {
        put(head, bytes, len);
    }
    part(q, head, len, q->flags);
    return 1;
}

static unsigned blk_write(const struct class_queue *q, unsigned head)
{
    uint64_t header[2] = {1, head};

    put(head, header, sizeof header);
    memset(class_rig.ram + buffer(head + 1), 0x40 + (int)head, 512);
    part(q, head, 16, 1);
    part(q, head + 1, 512, 1);
    part(q, head + 2, 1, W);
    return 3;
}

static unsigned net_send(const struct class_queue *q, unsigned head)
{
    memset(class_rig.ram + buffer(head), 0, NET_HEADER_LEN);
    memset(class_rig.ram + buffer(head + 1), 0x11, 60);
    part(q, head, NET_HEADER_LEN, 1);
    part(q, head + 1, 60, 0);
    return 2;
}

static unsigned net_command(const struct class_queue *q, unsigned head)
{
    static const uint8_t acknowledge[] = {3, 0};

    put(head, acknowledge, sizeof acknowledge);
    part(q, head, 2, 1);
    part(q, head + 1, 1, W);
    return 2;
}

unsigned class_request(const struct class_queue *q, unsigned head)
{
    static const uint8_t ready[8] = {0, 0, 0, 0, VCON_DEVICE_READY, 0, 1, 0};
    static const uint8_t stats[20] = {4, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    static const uint32_t pfn[2] = {9, 11};
    uint8_t text[100];

    memset(text, 'a', sizeof text);
    if (q->slot == SLOT_BLK) {
        return blk_write(q, head);
    }
    if (q->slot == SLOT_NET && q->queue != VNET_QUEUE_RX) {
        return q->queue == VNET_QUEUE_TX ? net_send(q, head) : net_command(q, head);
    }
    if (q->flags != 0) {
        return one(q, head, NULL, 256);
    }
    if (q->slot == SLOT_CON) {
        return q->queue == VCON_QUEUE_TX1 ? one(q, head, text, sizeof text)
                                          : one(q, head, ready, sizeof ready);
    }
    return q->queue == VBALLOON_STATS_QUEUE ? one(q, head, stats, sizeof stats)
                                            : one(q, head, pfn, sizeof pfn);
}

void class_prime(const struct class_queue *q)
{
    static const struct class_queue control = {"", SLOT_CON, VCON_QUEUE_CONTROL_TX, 0};

    rig_restart(&class_rig);
    start_all();
    if (q->slot == SLOT_CON && q->queue == VCON_QUEUE_CONTROL_RX) {
        class_request(&control, 0);
        rig_offer(&class_rig, class_ring_of(&control), 0);
        rig_notify(&class_rig, class_ring_of(&control));
    }
}

void class_poke(const struct class_queue *q)
{
    static const uint8_t frame[CLASS_FRAMELEN] = {0};
    static const uint8_t entropy[64] = {1, 2, 3};

    rig_notify(&class_rig, class_ring_of(q));
    if (q->slot == SLOT_NET && q->queue == VNET_QUEUE_RX) {
        class_input(SLOT_NET, INPUT_NET_RX, frame, sizeof frame);
    } else if (q->slot == SLOT_RNG) {
        class_input(SLOT_RNG, INPUT_ENTROPY, entropy, sizeof entropy);
    }
}
