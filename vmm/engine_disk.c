/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/engine_disk.h"

#include "base/bug.h"
#include "vmm/engine_priv.h"

int engine_disk_file(const struct engine *e, unsigned disk)
{
    return disks_fd(e->disks, disk);
}

bool engine_disk_marked(const struct engine *e, unsigned disk)
{
    return disks_marks(e->disks, disk) != NULL;
}

static struct disk_marks *marks_of(const struct engine *e, unsigned disk)
{
    struct disk_marks *marks = disks_marks(e->disks, disk);

    BUG_ON(marks == NULL);
    return marks;
}

uint64_t engine_disk_collect(struct engine *e, unsigned disk, uint64_t *bitmap)
{
    return disk_marks_collect(marks_of(e, disk), bitmap);
}

bool engine_disk_since(const struct engine *e, unsigned disk, const struct uuid *base,
                       uint64_t *bitmap)
{
    return disk_marks_since(marks_of(e, disk), base, bitmap);
}

void engine_disk_rebase(struct engine *e, unsigned disk, const struct uuid *base)
{
    disk_marks_rebase(marks_of(e, disk), base);
}
