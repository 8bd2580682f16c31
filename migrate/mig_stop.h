/* SPDX-License-Identifier: Apache-2.0 */
/* One flag of a transfer that ends everything that waits, in all threads, for good. */
#pragma once

#include <stdbool.h>

struct mig_stop {
    int fd; /* eventfd, readable once raised */
    _Atomic bool raised;
};

int mig_stop_open(struct mig_stop *ret_stop); /* -errno */
/* From any thread, also in a signal handler; again is fine. */
void mig_stop_raise(struct mig_stop *stop);
bool mig_stop_raised(const struct mig_stop *stop);
/* For another transfer, when nobody waits with it. */
void mig_stop_reset(struct mig_stop *stop);
void mig_stop_close(struct mig_stop *stop);
