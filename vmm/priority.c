/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/priority.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"

static int usual; /* set once, before there are threads */

void priority_soon(void)
{
    errno = 0;
    usual = getpriority(PRIO_PROCESS, 0);
    if (errno != 0 || usual <= PRIORITY_SOON) {
        usual = errno != 0 ? 0 : usual;
        return;
    }
    if (setpriority(PRIO_PROCESS, 0, PRIORITY_SOON) < 0) {
        log_debug("priority of control and heartbeats: nice %d, as all else: %s", usual,
                  strerror(errno));
    }
}

void priority_usual(void)
{
    (void)setpriority(PRIO_PROCESS, 0, usual); /* up is always allowed */
}
