/* SPDX-License-Identifier: Apache-2.0 */
/* ELF through its PVH entry: Xen docs/misc/pvh.pandoc, public/arch-x86/hvm/start_info.h.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/bug.h"
#include "vmm/boot_priv.h"
#include "vmm/e820.h"

#define PHDRS_MAX         64
#define NOTES_MAX         256 /* read before giving up: an endless list costs nothing */
#define NOTE_PHYS32_ENTRY 18
#define START_MAGIC       0x336EC578
#define START_VERSION     1

struct start_info {
    struct le32 magic, version, flags, module_count;
    struct le64 module_list, cmdline, rsdp, memmap;
    struct le32 memmap_count, reserved;
};

struct start_module {
    struct le64 base, len, cmdline, reserved;
};

struct start_memmap {
    struct le64 base, len;
    struct le32 type, reserved;
};

/* All of it in one page. */
struct start_page {
    struct start_info info;
    struct start_module module;
    struct start_memmap memmap[E820_ENTRIES_MAX];
};
_Static_assert(sizeof(struct start_info) == 56 && sizeof(struct start_memmap) == 24,
               "start_info.h");
_Static_assert(sizeof(struct start_page) <= BOOT_CMDLINE_GPA - BOOT_PARAMS_GPA,
               "ends before the command line");

static int refuse(const struct boot *b, const char *field, const char *text)
{
    return boot_fail(b, -ENOEXEC, BOOT_KERNEL, field, text);
}

static int read_header(const struct boot *b, Elf64_Ehdr *eh)
{
    int r = boot_read(b, 0, eh, sizeof *eh, "ELF header");

    if (r < 0) {
        return r;
    }
    if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_ident[EI_DATA] != ELFDATA2LSB ||
        eh->e_machine != EM_X86_64) {
        return refuse(b, "e_machine", "is not 64-bit x86");
    }
    if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN) {
        return refuse(b, "e_type", "is not an executable");
    }
    if (eh->e_phentsize != sizeof(Elf64_Phdr)) {
        return boot_fail_numbers(b, -ENOEXEC, BOOT_KERNEL, "e_phentsize",
                                 "is not the size of a program header", eh->e_phentsize,
                                 sizeof(Elf64_Phdr));
    }
    if (eh->e_phnum == 0 || eh->e_phnum > PHDRS_MAX) {
        return boot_fail_numbers(b, -ENOEXEC, BOOT_KERNEL, "e_phnum",
                                 "is not a number of program headers that makes sense",
                                 eh->e_phnum, PHDRS_MAX);
    }
    return 0;
}

static int load_segment(struct boot *b, const Elf64_Phdr *ph)
{
    uint64_t end;
    uint8_t *dst;
    int r;

    if (ph->p_memsz == 0) {
        return 0;
    }
    if (ph->p_filesz > ph->p_memsz) {
        return boot_fail_numbers(b, -ENOEXEC, BOOT_KERNEL, "p_filesz",
                                 "is larger than p_memsz", ph->p_filesz, ph->p_memsz);
    }
    if (ph->p_paddr < BOOT_KERNEL_MIN) {
        return boot_fail_numbers(b, -EFBIG, BOOT_KERNEL, "p_paddr",
                                 "lies below 1 MiB, where this loader keeps its tables",
                                 ph->p_paddr, BOOT_KERNEL_MIN);
    }
    if (__builtin_add_overflow(ph->p_paddr, ph->p_memsz, &end) || end > b->ram_end) {
        return boot_fail_numbers(b, -EFBIG, BOOT_KERNEL, "p_paddr + p_memsz",
                                 "lies outside of memory; give the VM more memory",
                                 ph->p_paddr, b->ram_end);
    }
    dst = gmem_slice(b->gm, (struct gpa){ph->p_paddr}, ph->p_memsz, true);
    if (dst == NULL) {
        return refuse(b, "p_paddr", "lies outside of memory");
    }
    r = boot_read(b, ph->p_offset, dst, ph->p_filesz, "p_offset + p_filesz");
    if (r < 0) {
        return r;
    }
    memset(dst + ph->p_filesz, 0, ph->p_memsz - ph->p_filesz);
    gmem_mark_dirty(b->gm, (struct gpa){ph->p_paddr}, ph->p_memsz);
    b->kernel_end = end > b->kernel_end ? end : b->kernel_end;
    return 0;
}

/* Rounded up to 4, as note names and descriptors are; a u32 cannot overflow this. */
static uint64_t padded(uint64_t len)
{
    return (len + 3) & ~UINT64_C(3);
}

/* Sets *entry when the note is one with the entry point. */
static int take_note(const struct boot *b, uint64_t at, const Elf64_Nhdr *note,
                     uint64_t *entry)
{
    char name[4];
    uint64_t value = 0;
    int r;

    if (note->n_type != NOTE_PHYS32_ENTRY || note->n_namesz != sizeof name) {
        return 0;
    }
    r = boot_read(b, at, name, sizeof name, "PT_NOTE");
    if (r < 0 || memcmp(name, "Xen", sizeof name) != 0) {
        return r;
    }
    if (note->n_descsz != 4 && note->n_descsz != 8) {
        return refuse(b, "XEN_ELFNOTE_PHYS32_ENTRY", "has neither 4 nor 8 bytes");
    }
    r = boot_read(b, at + padded(sizeof name), &value, note->n_descsz, "PT_NOTE");
    if (r == 0) {
        *entry = value;
    }
    return r;
}

static int read_notes(const struct boot *b, const Elf64_Phdr *ph, uint64_t *entry)
{
    uint64_t at = ph->p_offset, end;

    if (__builtin_add_overflow(at, ph->p_filesz, &end) || end > b->conf->kernel->len) {
        return boot_fail_numbers(b, -ENOEXEC, BOOT_KERNEL, "PT_NOTE p_offset + p_filesz",
                                 "lies past the end of the file: it is cut short or "
                                 "damaged",
                                 ph->p_offset, b->conf->kernel->len);
    }
    for (unsigned i = 0; i < NOTES_MAX && *entry == 0; i++) {
        Elf64_Nhdr note;
        int r;

        if (at > end || end - at < sizeof note) {
            break;
        }
        r = boot_read(b, at, &note, sizeof note, "PT_NOTE");
        if (r < 0) {
            return r;
        }
        at += sizeof note;
        if (padded(note.n_namesz) + padded(note.n_descsz) > end - at) {
            return refuse(b, "PT_NOTE n_namesz + n_descsz", "ends outside its segment");
        }
        r = take_note(b, at, &note, entry);
        if (r < 0) {
            return r;
        }
        at += padded(note.n_namesz) + padded(note.n_descsz);
    }
    return 0;
}

/* Every segment of one type. */
static int each_segment(struct boot *b, const Elf64_Ehdr *eh, uint32_t type,
                        uint64_t *entry)
{
    for (unsigned i = 0; i < eh->e_phnum; i++) {
        Elf64_Phdr ph;
        int r;

        /* Cannot wrap around: the one before was inside the file. */
        r = boot_read(b, eh->e_phoff + i * sizeof ph, &ph, sizeof ph,
                      "program headers (e_phoff, e_phnum)");
        if (r == 0 && ph.p_type == type) {
            r = type == PT_LOAD ? load_segment(b, &ph) : read_notes(b, &ph, entry);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* The notes first: an ELF file that is no kernel at all should hear that. */
static int load_segments(struct boot *b, const Elf64_Ehdr *eh, uint64_t *entry)
{
    int r = each_segment(b, eh, PT_NOTE, entry);

    if (r == 0 && *entry == 0) {
        return refuse(b, "XEN_ELFNOTE_PHYS32_ENTRY",
                      "is not there: the file has no PVH entry (Linux: CONFIG_PVH); name "
                      "a bzImage instead");
    }
    if (r == 0) {
        r = each_segment(b, eh, PT_LOAD, entry);
    }
    if (r < 0) {
        return r;
    }
    if (b->kernel_end == 0) {
        return refuse(b, "PT_LOAD", "is not there: the file has nothing to load");
    }
    if (*entry < BOOT_KERNEL_MIN || *entry >= b->kernel_end) {
        return boot_fail_numbers(b, -ENOEXEC, BOOT_KERNEL, "XEN_ELFNOTE_PHYS32_ENTRY",
                                 "lies outside of what is loaded", *entry, b->kernel_end);
    }
    return 0;
}

static void place_start_info(const struct boot *b)
{
    struct e820_entry map[E820_ENTRIES_MAX];
    unsigned count = e820_build(b->conf->type, b->conf->ram_len, false, map);
    struct start_page page = {
        .info = {.magic = le32_make(START_MAGIC),
                 .version = le32_make(START_VERSION),
                 .cmdline = le64_make(BOOT_CMDLINE_GPA),
                 .rsdp = le64_make(b->conf->rsdp.v),
                 .memmap =
                     le64_make(BOOT_PARAMS_GPA + offsetof(struct start_page, memmap)),
                 .memmap_count = le32_make(count)},
    };

    if (b->initrd_len > 0) {
        page.info.module_count = le32_make(1);
        page.info.module_list =
            le64_make(BOOT_PARAMS_GPA + offsetof(struct start_page, module));
        page.module.base = le64_make(b->initrd.v);
        page.module.len = le64_make(b->initrd_len);
    }
    for (unsigned i = 0; i < count; i++) {
        page.memmap[i] = (struct start_memmap){
            .base = le64_make(map[i].base),
            .len = le64_make(map[i].len),
            .type = le32_make(map[i].type),
        };
    }
    BUG_ON(!gmem_write(b->gm, (struct gpa){BOOT_PARAMS_GPA}, &page, sizeof page));
}

int boot_pvh(struct boot *b, struct boot_entry *entry)
{
    Elf64_Ehdr eh;
    uint64_t at = 0;
    int r;

    r = read_header(b, &eh);
    if (r == 0) {
        r = load_segments(b, &eh, &at);
    }
    if (r == 0) {
        r = boot_place_cmdline(b, BOOT_CMDLINE_MAX);
    }
    if (r == 0) {
        r = boot_place_initrd(b, b->ram_end);
    }
    if (r < 0) {
        return r;
    }
    place_start_info(b);
    entry->mode = BOOT_PVH32;
    entry->rip = at;
    entry->rbx = BOOT_PARAMS_GPA;
    boot_place_gdt(b, entry);
    return 0;
}
