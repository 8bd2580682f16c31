/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dirty_log.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORD_PAGES UINT64_C(64)

/* A RAM slot and its place in the bitmaps. */
struct slot {
    uint32_t id;
    unsigned region; /* of gmem */
    uint64_t first_page, page_count;
    const struct gmem_region *at;
};

/* The RAM slot after `slot` (begin with zeros). The low part is whole words if there is a
 * high one. ROM is not RAM: it is the same wherever this VM is defined. Its writable copy
 * at 0xE0000 is. */
static bool next_slot(const struct vm *vm, struct slot *slot)
{
    unsigned i = slot->at ? slot->region + 1 : 0;
    uint64_t first = slot->first_page + slot->page_count;

    while (i < vm->gmem.region_count && vm->gmem.region[i].rom) {
        i++;
    }
    if (i == vm->gmem.region_count) {
        return false;
    }
    *slot = (struct slot){
        .id = vm->gmem.region[i].base.v == 0 ? VM_SLOT_RAM : VM_SLOT_RAM_HIGH,
        .region = i,
        .first_page = first,
        .page_count = vm->gmem.region[i].len >> GMEM_PAGE_SHIFT,
        .at = &vm->gmem.region[i],
    };
    return true;
}

void dirty_log_offer(struct vm *vm)
{
    struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2};
    int can = vm->ops->check(vm->vm_fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);

    if (can > 0) {
        cap.args[0] = (unsigned)can &
                      (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
        vm->dirty_manual = vm->ops->vm_enable(vm->vm_fd, &cap) >= 0;
        vm->dirty_all_set = vm->dirty_manual && (can & KVM_DIRTY_LOG_INITIALLY_SET) != 0;
    }
}

/* Every thread of this process executes a full barrier: whoever wrote to guest memory and
 * saw no bitmap to mark has finished that write (membarrier(2)). */
static int barrier_everywhere(void)
{
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) < 0 ||
        syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) < 0) {
        return -errno;
    }
    return 0;
}

static int make_bitmaps(struct dirty_log *log)
{
    size_t words = log->vm->ram_len / GMEM_PAGE_SIZE / WORD_PAGES + 1;
    uint64_t *p;

    if (log->device) {
        return 0;
    }
    p = mmap(NULL, 2 * words * sizeof *p, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return -errno;
    }
    log->word_count = words;
    log->kvm = p + words;
    log->device = p;
    return 0;
}

static void track(struct dirty_log *log, bool on)
{
    for (struct slot s = {0}; next_slot(log->vm, &s);) {
        gmem_track(&log->vm->gmem, s.region,
                   on ? log->device + s.first_page / WORD_PAGES : NULL);
    }
}

static int set_logging(struct dirty_log *log, const struct slot *s, bool on)
{
    const struct kvm_userspace_memory_region region = {
        .slot = s->id,
        .flags = on ? KVM_MEM_LOG_DIRTY_PAGES : 0,
        .guest_phys_addr = s->at->base.v,
        .memory_size = s->at->len,
        .userspace_addr = (uint64_t)(uintptr_t)s->at->host,
    };

    return log->vm->ops->vm_memory(log->vm->vm_fd, &region);
}

static void begin_marks(struct dirty_log *log)
{
    for (uint64_t i = 0; i < log->word_count; i++) {
        (void)__atomic_exchange_n(&log->device[i], 0, __ATOMIC_SEQ_CST);
    }
    /* Nothing is protected yet where KVM begins with all pages marked. */
    memset(log->kvm, log->vm->dirty_all_set ? 0xFF : 0,
           log->word_count * sizeof(uint64_t));
}

int dirty_log_begin(struct dirty_log *log, enum dirty_way way, struct vmm_error *err)
{
    int r;

    if (atomic_load(&log->on)) {
        return vmm_fail(err, -EBUSY, "guest memory is being logged already");
    }
    if (way == DIRTY_RING) {
        return vmm_fail(err, -EOPNOTSUPP,
                        "the dirty ring is not built into this gemel-vmm; use the dirty "
                        "bitmap");
    }
    r = make_bitmaps(log);
    if (r < 0) {
        return vmm_fail(err, r, "no memory for the dirty bitmaps: %s", strerror(-r));
    }
    begin_marks(log);
    track(log, true);
    atomic_store(&log->on, true);
    r = barrier_everywhere();
    for (struct slot s = {0}; r == 0 && next_slot(log->vm, &s);) {
        r = set_logging(log, &s, true);
    }
    if (r < 0) {
        dirty_log_end(log);
        return vmm_fail(err, r, "KVM cannot log what the guest writes to: %s",
                        strerror(-r));
    }
    return 0;
}

static void merge(uint64_t *word, uint64_t more, uint64_t *pages)
{
    *pages += (uint64_t)__builtin_popcountll(more & ~*word);
    *word |= more;
}

static int collect_slot(struct dirty_log *log, const struct slot *s, uint64_t *bitmap,
                        uint64_t *pages)
{
    uint64_t first = s->first_page / WORD_PAGES;
    uint64_t words = (s->page_count + WORD_PAGES - 1) / WORD_PAGES;
    struct kvm_dirty_log get = {.slot = s->id, .dirty_bitmap = log->kvm + first};
    uint64_t last = s->page_count % WORD_PAGES;
    int r = log->vm->ops->vm_dirty_log(log->vm->vm_fd, &get);

    if (r < 0) {
        return r;
    }
    if (last != 0) { /* bits of pages that there are not */
        log->kvm[first + words - 1] &= (UINT64_C(1) << last) - 1;
    }
    for (uint64_t i = first; i < first + words; i++) {
        if (log->kvm[i] != 0) {
            merge(&bitmap[i], log->kvm[i], pages);
        }
        if (__atomic_load_n(&log->device[i], __ATOMIC_RELAXED) != 0) {
            merge(&bitmap[i], __atomic_exchange_n(&log->device[i], 0, __ATOMIC_SEQ_CST),
                  pages);
        }
    }
    return 0;
}

int dirty_log_collect(struct dirty_log *log, uint64_t *bitmap, uint64_t *ret_pages)
{
    uint64_t pages = 0;
    int r = 0;

    if (!atomic_load(&log->on)) {
        return -EINVAL;
    }
    for (struct slot s = {0}; r == 0 && next_slot(log->vm, &s);) {
        r = collect_slot(log, &s, bitmap, &pages);
    }
    if (r == 0) {
        *ret_pages = pages;
    }
    return r;
}

/* Of one slot: words [begin, end) of the bitmaps. */
static int protect_words(struct dirty_log *log, const struct slot *s, uint64_t begin,
                         uint64_t end)
{
    uint64_t first = begin * WORD_PAGES - s->first_page;
    uint64_t left = s->page_count - first, count = (end - begin) * WORD_PAGES;
    struct kvm_clear_dirty_log clear = {
        .slot = s->id,
        .num_pages = (uint32_t)(count < left ? count : left), /* a part of a word: the
                                                                  slot's last only */
        .first_page = first,
        .dirty_bitmap = log->kvm + begin,
    };
    int r = log->vm->ops->vm_clear_dirty_log(log->vm->vm_fd, &clear);

    if (r >= 0) {
        memset(log->kvm + begin, 0, (end - begin) * sizeof(uint64_t));
    }
    return r < 0 ? r : 0;
}

int dirty_log_protect(struct dirty_log *log, uint64_t first, uint64_t count)
{
    uint64_t begin = first / WORD_PAGES,
             end = (first + count + WORD_PAGES - 1) / WORD_PAGES;
    int r = 0;

    if (!atomic_load(&log->on) || !log->vm->dirty_manual || count == 0) {
        return 0;
    }
    for (struct slot s = {0}; r == 0 && next_slot(log->vm, &s);) {
        uint64_t b = s.first_page / WORD_PAGES,
                 e = (s.first_page + s.page_count + WORD_PAGES - 1) / WORD_PAGES;

        b = b > begin ? b : begin;
        e = e < end ? e : end;
        while (b < e && log->kvm[b] == 0) {
            b++;
        }
        while (b < e && log->kvm[e - 1] == 0) {
            e--;
        }
        if (b < e) {
            r = protect_words(log, &s, b, e);
        }
    }
    return r;
}

void dirty_log_end(struct dirty_log *log)
{
    if (!atomic_exchange(&log->on, false)) {
        return;
    }
    for (struct slot s = {0}; next_slot(log->vm, &s);) {
        (void)set_logging(log, &s, false);
    }
    track(log, false); /* a device may be about to mark a page: the bitmap stays */
}

void dirty_log_close(struct dirty_log *log)
{
    if (log->device) {
        munmap(log->device, 2 * log->word_count * sizeof(uint64_t));
    }
    log->device = log->kvm = NULL;
}
