/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/huge_pages.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/os.h"

static bool read_count(const char *dir, const char *name, uint64_t *ret)
{
    char path[PATH_LEN_MAX], text[32];
    size_t len;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (os_file_read(path, text, sizeof text - 1, &len) < 0) {
        return false;
    }
    text[len] = '\0';
    *ret = strtoull(text, NULL, 10);
    return true;
}

int huge_pages_fail(const char *dir, uint64_t bytes, int cause, struct vmm_error *err)
{
    uint64_t need = bytes / HUGE_PAGE_SIZE, total, unused, reserved, left;

    if (!read_count(dir, "nr_hugepages", &total) ||
        !read_count(dir, "free_hugepages", &unused) ||
        !read_count(dir, "resv_hugepages", &reserved)) {
        return vmm_fail(err, -cause,
                        "hugepages: %s is not there: the kernel of this host has no huge "
                        "pages of 2 MiB; start the VM without them",
                        dir);
    }
    left = unused > reserved ? unused - reserved : 0; /* reserved: others' */
    if (left >= need) {
        return vmm_fail(err, -cause,
                        "hugepages: cannot map %" PRIu64 " huge pages of 2 MiB, though "
                        "%" PRIu64 " are free: %s",
                        need, left, strerror(cause));
    }
    return vmm_fail(err, -cause,
                    "hugepages: %" PRIu64 " MiB of guest memory need %" PRIu64
                    " huge pages of 2 MiB, and %" PRIu64
                    " are free on this host; give it more with sysctl "
                    "vm.nr_hugepages=%" PRIu64,
                    bytes >> 20, need, left, total + need - left);
}
