/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_debug.h"

static void debug_reset(void *dev, struct effects *fx)
{
    (void)dev;
    (void)fx;
}

static uint64_t debug_read(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                           struct effects *fx)
{
    (void)dev;
    (void)gm;
    (void)offset;
    (void)len;
    (void)fx;
    return DEBUG_PORT_ID;
}

static void debug_write(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                        uint64_t value, struct effects *fx)
{
    (void)dev;
    (void)gm;
    (void)offset;
    (void)len;
    effects_byte(fx, (uint8_t)value);
}

static void debug_input(void *dev, struct gmem *gm, const struct dev_input *in,
                        struct effects *fx)
{
    (void)dev;
    (void)gm;
    (void)in;
    (void)fx;
}

static int debug_xfer(void *dev, struct state_io *io)
{
    (void)dev;
    return state_end(io);
}

const struct dev_class dev_debug_class = {
    .name = "debug",
    .version = 1,
    .min_reader = 1,
    .state_size = 1,
    .reset = debug_reset,
    .read = debug_read,
    .write = debug_write,
    .input = debug_input,
    .xfer = debug_xfer,
};
