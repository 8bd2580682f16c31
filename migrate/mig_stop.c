/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_stop.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int mig_stop_open(struct mig_stop *ret_stop)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0) {
        return -errno;
    }
    ret_stop->fd = fd;
    ret_stop->raised = false;
    return 0;
}

void mig_stop_raise(struct mig_stop *stop)
{
    uint64_t one = 1;
    ssize_t n;

    stop->raised = true;
    n = write(stop->fd, &one, sizeof one); /* EAGAIN: it is readable already */
    (void)n;
}

bool mig_stop_raised(const struct mig_stop *stop)
{
    return stop->raised;
}

void mig_stop_reset(struct mig_stop *stop)
{
    uint64_t count;

    (void)!read(stop->fd, &count, sizeof count);
    stop->raised = false;
}

void mig_stop_close(struct mig_stop *stop)
{
    if (stop->fd >= 0) {
        close(stop->fd);
    }
    stop->fd = -1;
}
