/* SPDX-License-Identifier: Apache-2.0 */
/* bzImage: Linux Documentation/arch/x86/boot.rst. The kernel's own decompressor is
 * started, so the way it is compressed does not matter. */
#include <errno.h>
#include <string.h>

#include "base/bug.h"
#include "vmm/boot_priv.h"
#include "vmm/e820.h"

#define SECTOR               512u
#define SETUP_SECTORS_UNSAID 4
#define BOOT_FLAG            0xAA55
#define HEADER_OFFSET        0x1F1
#define HEADER_END_MAX       0x290  /* edd_mbr_sig_buffer follows in the zero page */
#define HEADER_END_MIN       0x264  /* up to init_size */
#define VERSION_MIN          0x020C /* xloadflags */
#define LOADED_HIGH          0x01
#define KERNEL_64            0x0001 /* xloadflags: has the 64-bit entry */
#define ENTRY64_OFFSET       0x200
#define LOADER_UNKNOWN       0xFF
#define VID_MODE_NORMAL      0xFFFF

#define PAGE_PRESENT_RW      UINT64_C(0x03)
#define PAGE_LARGE           UINT64_C(0x80)
#define PAGE_TABLE_LEN       512
#define IDENTITY_GIB         4

/* The setup header with what a loader reads and writes, at 0x1F1 of the file and of the
 * zero page. */
struct setup_header {
    uint8_t setup_sects;
    struct le16 root_flags;
    struct le32 syssize; /* of the protected-mode code, in 16 bytes */
    struct le16 ram_size, vid_mode, root_dev, boot_flag, jump;
    uint8_t header[4];
    struct le16 version;
    struct le32 realmode_swtch;
    struct le16 start_sys, kernel_version;
    uint8_t type_of_loader, loadflags;
    struct le16 setup_move_size;
    struct le32 code32_start, ramdisk_image, ramdisk_size, bootsect_kludge;
    struct le16 heap_end_ptr;
    uint8_t ext_loader_ver, ext_loader_type;
    struct le32 cmd_line_ptr, initrd_addr_max, kernel_alignment;
    uint8_t relocatable_kernel, min_alignment;
    struct le16 xloadflags;
    struct le32 cmdline_size, hardware_subarch;
    struct le64 hardware_subarch_data;
    struct le32 payload_offset, payload_length;
    struct le64 setup_data, pref_address;
    struct le32 init_size;
} __attribute__((packed));

_Static_assert(HEADER_OFFSET + sizeof(struct setup_header) == HEADER_END_MIN,
               "boot.rst: init_size at 0x260");

struct e820_packed {
    struct le64 base, len;
    struct le32 type;
} __attribute__((packed));
_Static_assert(sizeof(struct e820_packed) == E820_ENTRY_LEN, "as in boot_params");

/* Linux arch/x86/include/uapi/asm/bootparam.h, struct boot_params. */
struct zero_page {
    uint8_t screen_info[0x40], unused1[0x30];
    struct le64 acpi_rsdp_addr; /* 0x070 */
    uint8_t unused2[0x170];
    uint8_t e820_entries; /* 0x1E8 */
    uint8_t unused3[8];
    struct setup_header hdr; /* 0x1F1 */
    uint8_t header_rest[HEADER_END_MAX - HEADER_END_MIN];
    uint8_t unused4[0x40];
    struct e820_packed e820[E820_ENTRIES_MAX]; /* 0x2D0; there is room for 128 */
    uint8_t unused5[0x1000 - 0x2D0 - E820_ENTRIES_MAX * E820_ENTRY_LEN];
} __attribute__((packed));

_Static_assert(sizeof(struct zero_page) == 4096, "one page");
_Static_assert(offsetof(struct zero_page, acpi_rsdp_addr) == 0x70, "zero-page.rst");
_Static_assert(offsetof(struct zero_page, e820_entries) == 0x1E8, "zero-page.rst");
_Static_assert(offsetof(struct zero_page, hdr) == HEADER_OFFSET, "zero-page.rst");
_Static_assert(offsetof(struct zero_page, e820) == 0x2D0, "zero-page.rst");

static int refuse(const struct boot *b, const char *field, const char *text)
{
    return boot_fail(b, -ENOEXEC, BOOT_KERNEL, field, text);
}

static int check_header(const struct boot *b, const struct setup_header *h)
{
    if (memcmp(h->header, "HdrS", 4) != 0) {
        return refuse(
            b, "setup_header.header",
            "is not 'HdrS', and there is no ELF header: this is not a Linux "
            "bzImage and not an ELF file; name a kernel, such as /boot/vmlinuz");
    }
    if (le16_get(h->boot_flag) != BOOT_FLAG) {
        return refuse(b, "setup_header.boot_flag", "is not 0xAA55: the file is damaged");
    }
    if (le16_get(h->version) < VERSION_MIN) {
        return boot_fail_numbers(b, -ENOEXEC, BOOT_KERNEL, "setup_header.version",
                                 "is too old; Linux 3.8 or later is needed",
                                 le16_get(h->version), VERSION_MIN);
    }
    if ((le16_get(h->xloadflags) & KERNEL_64) == 0) {
        return refuse(b, "setup_header.xloadflags",
                      "has no 64-bit entry: a kernel for x86-64 is needed");
    }
    if ((h->loadflags & LOADED_HIGH) == 0) {
        return refuse(b, "setup_header.loadflags",
                      "says zImage (LOADED_HIGH is clear): a bzImage is needed");
    }
    return 0;
}

/* The header ends where the jump in front of it leads to: later versions have more of it
 * than this loader knows, and all of it goes into the zero page. */
static int read_header(const struct boot *b, struct zero_page *zero)
{
    struct setup_header *h = &zero->hdr;
    size_t end;
    int r;

    r = boot_read(b, HEADER_OFFSET, h, sizeof *h, "setup_header");
    if (r == 0) {
        r = check_header(b, h);
    }
    if (r < 0) {
        return r;
    }
    end = 0x202 + (size_t)(le16_get(h->jump) >> 8);
    if (end < HEADER_END_MIN) {
        return boot_fail_numbers(b, -ENOEXEC, BOOT_KERNEL, "setup_header.jump",
                                 "ends the header before init_size: the file is damaged",
                                 end, HEADER_END_MIN);
    }
    end = end < HEADER_END_MAX ? end : HEADER_END_MAX;
    return boot_read(b, HEADER_END_MIN, zero->header_rest, end - HEADER_END_MIN,
                     "setup_header");
}

struct code {
    uint64_t offset, len; /* in the file */
    uint64_t load;
};

static int place_code(struct boot *b, const struct setup_header *h, struct code *code)
{
    uint64_t pref = le64_get(h->pref_address), init = le32_get(h->init_size);
    uint64_t sects = h->setup_sects != 0 ? h->setup_sects : SETUP_SECTORS_UNSAID;
    uint8_t *dst;
    int r;

    code->offset = (sects + 1) * SECTOR;
    code->len = (uint64_t)le32_get(h->syssize) * 16;
    if (code->len <= ENTRY64_OFFSET) {
        return refuse(b, "setup_header.syssize", "says that there is no kernel code");
    }
    if (pref < BOOT_KERNEL_MIN || pref > b->ram_end) {
        return boot_fail_numbers(b, -EFBIG, BOOT_KERNEL, "setup_header.pref_address",
                                 "lies outside of memory; give the VM more memory", pref,
                                 b->ram_end);
    }
    /* A relocatable kernel would move itself up to pref_address anyway. */
    code->load = h->relocatable_kernel != 0 ? pref : BOOT_KERNEL_MIN;
    b->kernel_end = pref + init;
    if (b->kernel_end < code->load + code->len) {
        b->kernel_end = code->load + code->len;
    }
    if (b->kernel_end > b->ram_end) {
        return boot_fail_numbers(b, -EFBIG, BOOT_KERNEL, "setup_header.init_size",
                                 "does not fit into memory; give the VM more memory",
                                 b->kernel_end, b->ram_end);
    }
    if (code->offset > b->conf->kernel->len ||
        code->len > b->conf->kernel->len - code->offset) {
        return boot_fail_numbers(b, -ENOEXEC, BOOT_KERNEL, "setup_header.syssize",
                                 "says that the file is longer: it is cut short or "
                                 "damaged; install the kernel again",
                                 code->offset + code->len, b->conf->kernel->len);
    }
    dst = gmem_slice(b->gm, (struct gpa){code->load}, code->len, true);
    if (dst == NULL) {
        return refuse(b, "setup_header.syssize", "does not fit into memory");
    }
    r = boot_read(b, code->offset, dst, code->len, "protected-mode code");
    gmem_mark_dirty(b->gm, (struct gpa){code->load}, code->len);
    return r;
}

static void put_page_table(const struct boot *b, uint64_t at, uint64_t first,
                           uint64_t step, unsigned count)
{
    uint64_t table[PAGE_TABLE_LEN] = {0};

    for (unsigned i = 0; i < count; i++) {
        table[i] = first + i * step;
    }
    BUG_ON(!gmem_write(b->gm, (struct gpa){at}, table, sizeof table));
}

/* The first 4 GiB in pages of 2 MiB. */
static void place_page_tables(const struct boot *b)
{
    uint64_t pdpt = BOOT_PML4_GPA + GMEM_PAGE_SIZE, pd = pdpt + GMEM_PAGE_SIZE;

    put_page_table(b, BOOT_PML4_GPA, pdpt | PAGE_PRESENT_RW, 0, 1);
    put_page_table(b, pdpt, pd | PAGE_PRESENT_RW, GMEM_PAGE_SIZE, IDENTITY_GIB);
    for (uint64_t gib = 0; gib < IDENTITY_GIB; gib++) {
        put_page_table(b, pd + gib * GMEM_PAGE_SIZE,
                       (gib << 30) | PAGE_PRESENT_RW | PAGE_LARGE, UINT64_C(1) << 21,
                       PAGE_TABLE_LEN);
    }
}

static void place_zero_page(const struct boot *b, struct zero_page *zero,
                            const struct code *code)
{
    struct e820_entry map[E820_ENTRIES_MAX];
    unsigned count = e820_build(b->conf->type, b->conf->ram_len, false, map);
    struct setup_header *h = &zero->hdr;

    h->type_of_loader = LOADER_UNKNOWN;
    h->vid_mode = le16_make(VID_MODE_NORMAL);
    h->code32_start = le32_make((uint32_t)code->load);
    h->ramdisk_image = le32_make((uint32_t)b->initrd.v);
    h->ramdisk_size = le32_make((uint32_t)b->initrd_len);
    h->cmd_line_ptr = le32_make(BOOT_CMDLINE_GPA);
    h->setup_data = le64_make(0);
    zero->acpi_rsdp_addr = le64_make(b->conf->rsdp.v);
    for (unsigned i = 0; i < count; i++) {
        zero->e820[i] = (struct e820_packed){
            le64_make(map[i].base), le64_make(map[i].len), le32_make(map[i].type)};
    }
    zero->e820_entries = (uint8_t)count;
    BUG_ON(!gmem_write(b->gm, (struct gpa){BOOT_PARAMS_GPA}, zero, sizeof *zero));
}

int boot_bzimage(struct boot *b, struct boot_entry *entry)
{
    struct zero_page zero = {0};
    struct code code = {0};
    int r;

    r = read_header(b, &zero);
    if (r == 0) {
        r = place_code(b, &zero.hdr, &code);
    }
    if (r == 0) {
        r = boot_place_cmdline(b, le32_get(zero.hdr.cmdline_size));
    }
    if (r == 0) {
        r = boot_place_initrd(b, (uint64_t)le32_get(zero.hdr.initrd_addr_max) + 1);
    }
    if (r < 0) {
        return r;
    }
    place_zero_page(b, &zero, &code);
    place_page_tables(b);
    entry->mode = BOOT_LONG64;
    entry->rip = code.load + ENTRY64_OFFSET;
    entry->rsi = BOOT_PARAMS_GPA;
    entry->cr3 = BOOT_PML4_GPA;
    boot_place_gdt(b, entry);
    return 0;
}
