/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_memfd.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

uint64_t mig_memfd_id(const struct engine_ram *ram)
{
    struct stat st;

    return fstat(ram->fd, &st) < 0 ? 0 : st.st_ino;
}

int mig_memfd_text(const struct engine_ram *ram, char *text, size_t cap)
{
    return snprintf(text, cap, "%" PRIu64 " MiB of memory handed over", ram->len >> 20);
}
