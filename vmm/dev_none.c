/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_none.h"

void dev_none_reset(void *dev, struct effects *fx)
{
    (void)dev;
    (void)fx;
}

void dev_none_input(void *dev, struct gmem *gm, const struct dev_input *in,
                    struct effects *fx)
{
    (void)dev;
    (void)gm;
    (void)in;
    (void)fx;
}

int dev_none_xfer(void *dev, struct state_io *io)
{
    (void)dev;
    return state_end(io);
}
