/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/engine_ram.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/units.h"
#include "vmm/engine_priv.h"

#define POPULATE_PAGES ((UINT64_C(8) << 20) >> GMEM_PAGE_SHIFT)

#define BLOCK_PAGES    ((UINT64_C(2) << 20) >> GMEM_PAGE_SHIFT)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14, uapi/asm-generic/mman-common.h */
#endif

void engine_ram(const struct engine *e, struct engine_ram *ret_ram)
{
    *ret_ram = (struct engine_ram){.host = e->vm.ram,
                                   .len = e->vm.ram_len,
                                   .page_count = e->vm.ram_len >> GMEM_PAGE_SHIFT,
                                   .fd = e->vm.ram_fd,
                                   .huge = e->vm.huge,
                                   .kept = e->vm.ram_kept};
}

/* The file's offset moves; nobody uses it. */
bool engine_ram_data(const struct engine_ram *ram, uint64_t *begin, uint64_t *end)
{
    off_t data = lseek(ram->fd, (off_t)(*begin << GMEM_PAGE_SHIFT), SEEK_DATA), hole;

    if (*begin >= ram->page_count || (data < 0 && errno == ENXIO)) {
        return false;
    }
    hole = data < 0 ? -1 : lseek(ram->fd, data, SEEK_HOLE);
    if (hole < 0) { /* not told: all of it may be data */
        *end = ram->page_count;
        return true;
    }
    *begin = (uint64_t)data >> GMEM_PAGE_SHIFT;
    *end = ((uint64_t)hole + GMEM_PAGE_SIZE - 1) >> GMEM_PAGE_SHIFT;
    return true;
}

int engine_dirty_begin(struct engine *e, enum dirty_way way, struct vmm_error *err)
{
    int r;

    pthread_mutex_lock(&e->dirty_lock);
    if (atomic_exchange(&e->dirty_stale, false)) {
        dirty_log_end(&e->dirty);
    }
    r = dirty_log_begin(&e->dirty, way, err);
    pthread_mutex_unlock(&e->dirty_lock);
    return r;
}

int engine_dirty_collect(struct engine *e, uint64_t *bitmap, uint64_t *ret_pages)
{
    int r;

    pthread_mutex_lock(&e->dirty_lock);
    r = dirty_log_collect(&e->dirty, bitmap, ret_pages);
    pthread_mutex_unlock(&e->dirty_lock);
    return r;
}

/* Without the lock: threads protect what is theirs side by side. */
int engine_dirty_protect(struct engine *e, uint64_t first, uint64_t count)
{
    return dirty_log_protect(&e->dirty, first, count);
}

void engine_dirty_tidy(struct engine *e)
{
    pthread_mutex_lock(&e->dirty_lock);
    if (atomic_exchange(&e->dirty_stale, false)) {
        dirty_log_end(&e->dirty);
    }
    pthread_mutex_unlock(&e->dirty_lock);
}

void engine_dirty_end(struct engine *e)
{
    pthread_mutex_lock(&e->dirty_lock);
    if (!e->tape_logs) {
        dirty_log_end(&e->dirty);
    }
    pthread_mutex_unlock(&e->dirty_lock);
}

int engine_receive(struct engine *e, struct vmm_error *err)
{
    int r = 0;

    pthread_mutex_lock(&e->lock);
    if (e->run.state != RUN_CREATED) {
        r = vmm_fail(err, -EINVAL,
                     "memory can be received only before the VM ran; it is %s",
                     run_state_str(e->run.state));
    } else {
        e->receiving = true;
        if (!e->vm.ram_kept) {
            vm_rom_low_clear(&e->vm);
        }
    }
    pthread_mutex_unlock(&e->lock);
    return r;
}

int engine_ram_populate(const struct engine_ram *ram, uint64_t first, uint64_t count,
                        const _Atomic bool *cancel)
{
    while (count > 0) {
        uint64_t now = count < POPULATE_PAGES ? count : POPULATE_PAGES;
        uint8_t *at = ram->host + (first << GMEM_PAGE_SHIFT);

        if (cancel && atomic_load(cancel)) {
            return -ECANCELED;
        }
        if (!ram->huge) {
            (void)madvise(at, now << GMEM_PAGE_SHIFT, MADV_HUGEPAGE);
        }
        if (madvise(at, now << GMEM_PAGE_SHIFT, MADV_POPULATE_WRITE) < 0) {
            return errno == EINVAL ? 0 : -errno;
        }
        first += now;
        count -= now;
    }
    return 0;
}

int engine_ram_populate_block(const struct engine_ram *ram, uint64_t first)
{
    uint8_t *at = ram->host + (first << GMEM_PAGE_SHIFT);

    if (ram->huge || first % BLOCK_PAGES != 0 || ram->page_count < first + BLOCK_PAGES) {
        return -EINVAL;
    }
    /* A block of which nothing exists is not collapsed. */
    if (madvise(at, GMEM_PAGE_SIZE, MADV_POPULATE_WRITE) < 0 ||
        madvise(at, BLOCK_PAGES << GMEM_PAGE_SHIFT, MADV_COLLAPSE) < 0) {
        return -errno;
    }
    return 0;
}

void engine_ram_zero(const struct engine_ram *ram, uint64_t first, uint64_t count)
{
    uint8_t *at = ram->host + (first << GMEM_PAGE_SHIFT);

    if (ram->huge || madvise(at, count << GMEM_PAGE_SHIFT, MADV_REMOVE) < 0) {
        memset(at, 0, count << GMEM_PAGE_SHIFT);
    }
}
