/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_pvpanic.h"

#include "vmm/dev_none.h"

#define SUPPORTED (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)

static uint64_t pvpanic_read(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                             struct effects *fx)
{
    (void)dev;
    (void)gm;
    (void)offset;
    (void)len;
    (void)fx;
    return SUPPORTED;
}

static void pvpanic_write(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                          uint64_t value, struct effects *fx)
{
    (void)dev;
    (void)gm;
    (void)offset;
    (void)len;
    fx->panic |= (uint8_t)value & SUPPORTED;
}

const struct dev_class dev_pvpanic_class = {
    .name = "pvpanic",
    .version = 1,
    .min_reader = 1,
    .state_size = 1,
    .reset = dev_none_reset,
    .read = pvpanic_read,
    .write = pvpanic_write,
    .input = dev_none_input,
    .xfer = dev_none_xfer,
};
