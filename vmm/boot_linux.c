/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot_linux.h"

#include <errno.h>
#include <string.h>

#include "base/bug.h"
#include "vmm/boot_priv.h"
#include "vmm/e820.h"

/* Accessed bits set: KVM that interprets guests writes them back, which needs a writable
 * page. */
#define GDT_CODE64  UINT64_C(0x00AF9B000000FFFF)
#define GDT_CODE32  UINT64_C(0x00CF9B000000FFFF)
#define GDT_DATA    UINT64_C(0x00CF93000000FFFF)
#define GDT_TASK    UINT64_C(0x00008B0000000067) /* busy, at 0; not used */
#define GDT_ENTRIES 6

int boot_fail(const struct boot *b, int error, enum boot_subject subject,
              const char *field, const char *text)
{
    *b->problem = (struct boot_problem){.subject = subject, .field = field, .text = text};
    return error;
}

int boot_fail_numbers(const struct boot *b, int error, enum boot_subject subject,
                      const char *field, const char *text, uint64_t is, uint64_t limit)
{
    (void)boot_fail(b, error, subject, field, text);
    b->problem->has_numbers = true;
    b->problem->is = is;
    b->problem->limit = limit;
    return error;
}

int boot_read(const struct boot *b, uint64_t offset, void *dst, size_t len,
              const char *field)
{
    const struct boot_source *file = b->conf->kernel;
    uint64_t end;

    if (__builtin_add_overflow(offset, (uint64_t)len, &end) || end > file->len) {
        return boot_fail_numbers(b, -ENOEXEC, BOOT_KERNEL, field,
                                 "lies past the end of the file: it is cut short or "
                                 "damaged; install the kernel again",
                                 end, file->len);
    }
    if (len > 0 && !file->read(file->ctx, offset, dst, len)) {
        return boot_fail(b, -EIO, BOOT_KERNEL, field, "cannot be read");
    }
    return 0;
}

int boot_place_initrd(struct boot *b, uint64_t top)
{
    const struct boot_source *file = b->conf->initrd;
    uint64_t end = top < b->ram_end ? top : b->ram_end;
    uint8_t *dst;

    if (file == NULL || file->len == 0) {
        return 0;
    }
    if (b->kernel_end >= end || file->len > end - b->kernel_end ||
        ((end - file->len) & ~(GMEM_PAGE_SIZE - 1)) < b->kernel_end) {
        return boot_fail_numbers(b, -EFBIG, BOOT_INITRD, "size",
                                 "does not fit between the kernel and the end of usable "
                                 "memory; give the VM more memory",
                                 file->len,
                                 end > b->kernel_end ? end - b->kernel_end : 0);
    }
    b->initrd.v = (end - file->len) & ~(GMEM_PAGE_SIZE - 1);
    b->initrd_len = file->len;
    dst = gmem_slice(b->gm, b->initrd, file->len, true);
    if (dst == NULL) {
        return boot_fail(b, -EFBIG, BOOT_INITRD, "size", "does not fit into memory");
    }
    if (!file->read(file->ctx, 0, dst, file->len)) {
        return boot_fail(b, -EIO, BOOT_INITRD, "contents", "cannot be read");
    }
    gmem_mark_dirty(b->gm, b->initrd, file->len);
    return 0;
}

int boot_place_cmdline(const struct boot *b, uint64_t max)
{
    const char *text = b->conf->cmdline != NULL ? b->conf->cmdline : "";
    size_t len = strnlen(text, BOOT_CMDLINE_MAX + 1);

    max = max < BOOT_CMDLINE_MAX ? max : BOOT_CMDLINE_MAX;
    if (len > max) {
        return boot_fail_numbers(b, -EFBIG, BOOT_CMDLINE, "length",
                                 "is more than this kernel takes; shorten it", len, max);
    }
    return gmem_write(b->gm, (struct gpa){BOOT_CMDLINE_GPA}, text, len + 1)
               ? 0
               : boot_fail(b, -EFBIG, BOOT_CMDLINE, "length", "does not fit into memory");
}

void boot_place_gdt(const struct boot *b, struct boot_entry *entry)
{
    uint64_t gdt[GDT_ENTRIES] = {0};

    gdt[BOOT_SELECTOR_CODE / 8] = entry->mode == BOOT_LONG64 ? GDT_CODE64 : GDT_CODE32;
    gdt[BOOT_SELECTOR_DATA / 8] = GDT_DATA;
    gdt[BOOT_SELECTOR_TASK / 8] = GDT_TASK;
    entry->gdt = BOOT_GDT_GPA;
    entry->gdt_limit = sizeof gdt - 1;
    /* Below 1 MiB, which every machine has: checked by boot_linux_load. */
    BUG_ON(!gmem_write(b->gm, (struct gpa){BOOT_GDT_GPA}, gdt, sizeof gdt));
}

int boot_linux_load(struct gmem *gm, const struct boot_conf *conf,
                    struct boot_entry *ret_entry, struct boot_problem *ret_problem)
{
    struct boot b = {.gm = gm, .conf = conf, .problem = ret_problem};
    uint8_t magic[4];
    int r;

    b.ram_end = e820_ram_low_len(conf->type, conf->ram_len);
    if (b.ram_end <= BOOT_KERNEL_MIN ||
        !gmem_check(gm, (struct gpa){0}, b.ram_end, true)) {
        return boot_fail_numbers(&b, -EFBIG, BOOT_KERNEL, "size",
                                 "cannot fit: no memory above 1 MiB", conf->ram_len,
                                 BOOT_KERNEL_MIN);
    }
    *ret_entry = (struct boot_entry){.mode = BOOT_RESET_VECTOR};
    r = boot_read(&b, 0, magic, sizeof magic, "first bytes");
    if (r < 0) {
        return r;
    }
    return memcmp(magic, "\177ELF", 4) == 0 ? boot_pvh(&b, ret_entry)
                                            : boot_bzimage(&b, ret_entry);
}
