/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/msix.h"

#include <string.h>

#include "base/bug.h"

_Static_assert(MSIX_VECTORS_MAX *MSIX_ENTRY_LEN <= MSIX_PBA_OFFSET,
               "table before pending bits");
_Static_assert(MSIX_VECTORS_MAX <= 32, "pending bits are a u32");

void msix_init(struct msix *x, struct pci_func *f, unsigned count, unsigned bar)
{
    BUG_ON(count == 0 || count > MSIX_VECTORS_MAX);
    memset(x, 0, sizeof *x);
    x->count = count;
    x->cap = pci_func_add_cap(f, PCI_CAP_MSIX, MSIX_CAP_LEN);
    pci_func_set(f, x->cap + MSIX_CONTROL, 2, count - 1);
    pci_func_let_write(f, x->cap + MSIX_CONTROL, 2, MSIX_CONTROL_MASK | MSIX_CONTROL_ON);
    pci_func_set(f, x->cap + 4u, 4, MSIX_TABLE_OFFSET | bar);
    pci_func_set(f, x->cap + 8u, 4, MSIX_PBA_OFFSET | bar);
}

void msix_reset(struct msix *x)
{
    x->pending = 0;
    for (unsigned i = 0; i < x->count; i++) {
        x->entry[i] = (struct msix_entry){.masked = true};
    }
}

static uint32_t control_of(const struct msix *x, const struct pci_func *f)
{
    return pci_func_read(f, x->cap + MSIX_CONTROL, 2);
}

bool msix_on(const struct msix *x, const struct pci_func *f)
{
    return (control_of(x, f) & MSIX_CONTROL_ON) != 0;
}

static uint32_t read_word(const struct msix *x, uint64_t offset)
{
    uint64_t index = offset / MSIX_ENTRY_LEN;

    if (offset == MSIX_PBA_OFFSET) {
        return x->pending;
    }
    if (index >= x->count) {
        return 0;
    }
    switch (offset % MSIX_ENTRY_LEN) {
    case 0:
        return (uint32_t)x->entry[index].address;
    case 4:
        return (uint32_t)(x->entry[index].address >> 32);
    case 8:
        return x->entry[index].data;
    default:
        return x->entry[index].masked ? MSIX_ENTRY_MASKED : 0;
    }
}

uint64_t msix_read(const struct msix *x, uint64_t offset, unsigned len)
{
    uint64_t value;

    if ((len != 4 && len != 8) || offset % len != 0) {
        return 0;
    }
    value = read_word(x, offset);
    if (len == 8) {
        value |= (uint64_t)read_word(x, offset + 4) << 32;
    }
    return value;
}

static void write_word(struct msix *x, uint64_t offset, uint32_t value)
{
    uint64_t index = offset / MSIX_ENTRY_LEN;
    struct msix_entry *entry;

    if (index >= x->count) {
        return; /* the pending bits are ours */
    }
    entry = &x->entry[index];
    switch (offset % MSIX_ENTRY_LEN) {
    case 0:
        entry->address = (entry->address & ~(uint64_t)UINT32_MAX) | (value & ~3u);
        break;
    case 4:
        entry->address = (uint32_t)entry->address | (uint64_t)value << 32;
        break;
    case 8:
        entry->data = value;
        break;
    default:
        entry->masked = (value & MSIX_ENTRY_MASKED) != 0;
        break;
    }
}

void msix_write(struct msix *x, uint64_t offset, unsigned len, uint64_t value)
{
    if ((len != 4 && len != 8) || offset % len != 0) {
        return;
    }
    write_word(x, offset, (uint32_t)value);
    if (len == 8) {
        write_word(x, offset + 4, (uint32_t)(value >> 32));
    }
}

void msix_raise(struct msix *x, unsigned vector)
{
    if (vector < x->count) {
        x->pending |= UINT32_C(1) << vector;
    }
}

/* A message is a write to memory: only a bus master may send one. */
uint32_t msix_take(struct msix *x, const struct pci_func *f)
{
    uint32_t due = 0;

    if ((control_of(x, f) & (MSIX_CONTROL_ON | MSIX_CONTROL_MASK)) != MSIX_CONTROL_ON ||
        (pci_func_command(f) & PCI_COMMAND_MASTER) == 0) {
        return 0;
    }
    for (unsigned i = 0; i < x->count; i++) {
        if (!x->entry[i].masked) {
            due |= x->pending & UINT32_C(1) << i;
        }
    }
    x->pending &= ~due;
    return due;
}

void msix_xfer(struct msix *x, struct state_io *io)
{
    state_u32(io, &x->pending);
    for (unsigned i = 0; i < x->count; i++) {
        state_u64(io, &x->entry[i].address);
        state_u32(io, &x->entry[i].data);
        state_bool(io, &x->entry[i].masked);
        if ((x->entry[i].address & 3) != 0) {
            state_refuse(io, "msix_address");
        }
    }
    if (x->pending >> (x->count - 1) > 1) {
        state_refuse(io, "msix_pending");
    }
}
