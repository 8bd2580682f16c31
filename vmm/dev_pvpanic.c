/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_pvpanic.h"

#define SUPPORTED (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)

static void pvpanic_reset(void *dev, struct effects *fx)
{
    (void)dev;
    (void)fx;
}

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

static void pvpanic_input(void *dev, struct gmem *gm, const struct dev_input *in,
                          struct effects *fx)
{
    (void)dev;
    (void)gm;
    (void)in;
    (void)fx;
}

static int pvpanic_xfer(void *dev, struct state_io *io)
{
    (void)dev;
    return state_end(io);
}

const struct dev_class dev_pvpanic_class = {
    .name = "pvpanic",
    .version = 1,
    .min_reader = 1,
    .state_size = 1,
    .reset = pvpanic_reset,
    .read = pvpanic_read,
    .write = pvpanic_write,
    .input = pvpanic_input,
    .xfer = pvpanic_xfer,
};
