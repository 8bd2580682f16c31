/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vmm/boot_rig.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"

void boot_rig_init(struct boot_rig *rig)
{
    memset(rig, 0, sizeof *rig);
    rig->ram = aligned_alloc(4096, BOOT_RIG_RAM);
    BUG_ON(rig->ram == NULL);
    memset(rig->ram, 0xA5, BOOT_RIG_RAM);
    BUG_ON(gmem_add(&rig->gm, (struct gpa){0}, BOOT_RIG_RAM, rig->ram, false,
                    rig->dirty) != 0);
}

void boot_rig_free(struct boot_rig *rig)
{
    free(rig->ram);
}

static bool read_bytes(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct boot_bytes *b = ctx;

    BUG_ON(offset > b->len || len > b->len - offset);
    if (b->fails_at > 0 && offset + len > b->fails_at) {
        return false;
    }
    memcpy(dst, b->bytes + offset, len);
    return true;
}

struct boot_source boot_rig_source(struct boot_bytes *bytes)
{
    return (struct boot_source){.ctx = bytes, .len = bytes->len, .read = read_bytes};
}

static void put(uint8_t *at, uint64_t value, unsigned len)
{
    memcpy(at, &value, len);
}

size_t boot_rig_bzimage(uint8_t file[BOOT_RIG_FILE_MAX], uint32_t code_len)
{
    size_t code = 4 * 512;

    memset(file, 0, BOOT_RIG_FILE_MAX);
    file[0x1F1] = 3;
    put(file + 0x1F4, code_len / 16, 4);
    put(file + 0x1FE, 0xAA55, 2);
    put(file + 0x200, 0x6AEB, 2);
    memcpy(file + 0x202, "HdrS", 4);
    put(file + 0x206, 0x020F, 2);
    file[0x211] = 1;
    put(file + 0x22C, 0x7FFFFFFF, 4);
    put(file + 0x230, 0x200000, 4);
    file[0x234] = 1;
    put(file + 0x236, 1, 2);
    put(file + 0x238, 255, 4);
    put(file + 0x258, 0x200000, 8);
    put(file + 0x260, 0x300000, 4);
    for (uint32_t i = 0; i < code_len; i++) {
        file[code + i] = (uint8_t)(i * 7 + 1);
    }
    return code + code_len;
}

size_t boot_rig_elf(uint8_t file[BOOT_RIG_FILE_MAX])
{
    Elf64_Ehdr eh = {.e_type = ET_EXEC,
                     .e_machine = EM_X86_64,
                     .e_phoff = 64,
                     .e_phentsize = sizeof(Elf64_Phdr),
                     .e_phnum = 3};
    Elf64_Phdr ph[3] = {
        {.p_type = PT_LOAD,
         .p_offset = 0x1000,
         .p_paddr = 0x200000,
         .p_filesz = 0x800,
         .p_memsz = 0x2000},
        {.p_type = PT_NOTE, .p_offset = 0x200, .p_filesz = 20 + 20 + 8},
        {.p_type = PT_LOAD,
         .p_offset = 0x1800,
         .p_paddr = 0x300000,
         .p_filesz = 0x100,
         .p_memsz = 0x100},
    };
    Elf64_Nhdr other = {.n_namesz = 4, .n_descsz = 4, .n_type = 1},
               entry = {.n_namesz = 4, .n_descsz = 8, .n_type = 18};
    uint8_t *note = file + 0x200;

    memset(file, 0, BOOT_RIG_FILE_MAX);
    memcpy(eh.e_ident, ELFMAG, SELFMAG);
    eh.e_ident[EI_CLASS] = ELFCLASS64;
    eh.e_ident[EI_DATA] = ELFDATA2LSB;
    memcpy(file, &eh, sizeof eh);
    memcpy(file + 64, ph, sizeof ph);
    memcpy(note, &other, sizeof other);
    memcpy(note + 12, "GNU", 4);
    memcpy(note + 20, &entry, sizeof entry);
    memcpy(note + 32, "Xen", 4);
    put(note + 36, 0x200010, 8);
    for (unsigned i = 0x1000; i < 0x1900; i++) {
        file[i] = (uint8_t)(i * 3 + 1);
    }
    return 0x1900;
}
