/* SPDX-License-Identifier: Apache-2.0 */
/* One flag of a transfer that ends everything that waits, in all threads, for good. */
#pragma once

#include <stdbool.h>

struct mig_abort {
    int fd; /* eventfd, readable once raised */
    _Atomic bool raised;
};

int mig_abort_open(struct mig_abort *ret_abort); /* -errno */
/* From any thread, also in a signal handler; again is fine. */
void mig_abort_raise(struct mig_abort *abort);
bool mig_abort_raised(const struct mig_abort *abort);
void mig_abort_close(struct mig_abort *abort);
