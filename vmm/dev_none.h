/* SPDX-License-Identifier: Apache-2.0 */
/* For the class of a device that has no state, or to which nothing comes from outside. */
#pragma once

#include "vmm/dev.h"

void dev_none_reset(void *dev, struct effects *fx);
void dev_none_input(void *dev, struct gmem *gm, const struct dev_input *in,
                    struct effects *fx);
int dev_none_xfer(void *dev, struct state_io *io);
