/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_debug.h"

#include "vmm/dev_none.h"

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

const struct dev_class dev_debug_class = {
    .name = "debug",
    .version = 1,
    .min_reader = 1,
    .state_size = 1,
    .reset = dev_none_reset,
    .read = debug_read,
    .write = debug_write,
    .input = dev_none_input,
    .xfer = dev_none_xfer,
};
