/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_abort.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int mig_abort_open(struct mig_abort *ret_abort)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0) {
        return -errno;
    }
    ret_abort->fd = fd;
    ret_abort->raised = false;
    return 0;
}

void mig_abort_raise(struct mig_abort *abort)
{
    uint64_t one = 1;
    ssize_t n;

    abort->raised = true;
    n = write(abort->fd, &one, sizeof one); /* EAGAIN: it is readable already */
    (void)n;
}

bool mig_abort_raised(const struct mig_abort *abort)
{
    return abort->raised;
}

void mig_abort_close(struct mig_abort *abort)
{
    if (abort->fd >= 0) {
        close(abort->fd);
    }
    abort->fd = -1;
}
