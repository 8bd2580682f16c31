/* SPDX-License-Identifier: Apache-2.0 */
/* Which gemel-vmm a VM runs in, and which one is installed. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ha/ha_text.h"
#include "ha/ha_vmm_priv.h"

static void read_id(const char *path, char ret_id[BUILD_ID_LEN + 1])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    uint8_t head[BUILD_ID_HEAD];
    ssize_t len = fd >= 0 ? pread(fd, head, sizeof head, 0) : -1;

    if (len < 0 || !elf_build_id(head, (size_t)len, ret_id)) {
        ret_id[0] = '\0';
    }
    if (fd >= 0) {
        close(fd);
    }
}

static void build_of(const struct ha_local *l, struct ha_vmm_build *ret)
{
    char path[64];

    memset(ret, 0, sizeof *ret);
    ha_text_set(ret->version, sizeof ret->version, l->version, NULL);
    if (l->child.pidfd < 0) {
        return;
    }
    /* Also of a file that was replaced, and is only there because this process runs it.
     */
    snprintf(path, sizeof path, "/proc/%d/exe", (int)l->child.pid);
    read_id(path, ret->running);
    read_id(l->vmm->node.vmm_path, ret->installed);
    ret->outdated = ret->running[0] != '\0' && ret->installed[0] != '\0' &&
                    strcmp(ret->running, ret->installed) != 0;
}

bool ha_vmm_build(const struct ha_vmm *vmm, struct uuid vm, struct ha_vmm_build *ret)
{
    const struct ha_local *l = ha_local_find((struct ha_vmm *)vmm, vm);

    if (l != NULL) {
        build_of(l, ret);
    }
    return l != NULL;
}

unsigned ha_vmm_outdated(const struct ha_vmm *vmm)
{
    struct ha_vmm_build build;
    unsigned count = 0;

    for (const struct ha_local *l = vmm->head; l != NULL; l = l->next) {
        if (l->predecessor == NULL && !l->superseded) {
            build_of(l, &build);
            count += build.outdated;
        }
    }
    return count;
}
