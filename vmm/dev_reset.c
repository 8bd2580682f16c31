/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_reset.h"

#include "vmm/dev_none.h"

#define CF9_SYS_RST   0x02
#define CF9_RST_CPU   0x04
#define CF9_FULL_RST  0x08
#define KBD_PULSE_RST 0xFE

static void reset_reset(void *dev, struct effects *fx)
{
    struct dev_reset *rst = dev;

    (void)fx;
    rst->control = 0;
}

static uint64_t reset_read(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                           struct effects *fx)
{
    const struct dev_reset *rst = dev;

    (void)gm;
    (void)len;
    (void)fx;
    return offset == RESET_OFFSET_CF9 ? rst->control : 0xFF;
}

static void reset_write(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                        uint64_t value, struct effects *fx)
{
    struct dev_reset *rst = dev;

    (void)gm;
    (void)len;
    if (offset == RESET_OFFSET_CF9) {
        rst->control = (uint8_t)value & (CF9_SYS_RST | CF9_FULL_RST);
        fx->reset |= (value & CF9_RST_CPU) != 0;
    } else if ((uint8_t)value == KBD_PULSE_RST) {
        fx->reset = true;
    }
}

static int reset_xfer(void *dev, struct state_io *io)
{
    struct dev_reset *rst = dev;

    state_u8(io, &rst->control);
    if ((rst->control & ~(CF9_SYS_RST | CF9_FULL_RST)) != 0) {
        state_refuse(io, "control");
    }
    return state_end(io);
}

const struct dev_class dev_reset_class = {
    .name = "reset",
    .version = 1,
    .min_reader = 1,
    .state_size = sizeof(struct dev_reset),
    .reset = reset_reset,
    .read = reset_read,
    .write = reset_write,
    .input = dev_none_input,
    .xfer = reset_xfer,
};
