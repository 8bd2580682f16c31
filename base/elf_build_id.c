/* SPDX-License-Identifier: Apache-2.0 */
#include "base/elf_build_id.h"

#include <elf.h>
#include <string.h>

#include "base/text.h"
#include "base/units.h"

#define GNU_OWNER "GNU"

static size_t padded(uint64_t n)
{
    return ((size_t)n + 3) & ~(size_t)3;
}

/* One PT_NOTE: records of {lengths, type, owner, value}, each padded to 4 bytes. */
static bool find_note(const uint8_t *note, size_t len, char ret_hex[BUILD_ID_LEN + 1])
{
    while (len >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr head;
        size_t value, next;

        memcpy(&head, note, sizeof head);
        if (head.n_namesz > len || head.n_descsz > len) {
            return false;
        }
        value = sizeof head + padded(head.n_namesz);
        next = value + padded(head.n_descsz);
        if (next > len) {
            return false;
        }
        if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == sizeof GNU_OWNER &&
            memcmp(note + sizeof head, GNU_OWNER, sizeof GNU_OWNER) == 0 &&
            head.n_descsz > 0) {
            text_hex(ret_hex, note + value,
                     head.n_descsz < BUILD_ID_LEN / 2 ? head.n_descsz : BUILD_ID_LEN / 2);
            return true;
        }
        note += next;
        len -= next;
    }
    return false;
}

bool elf_build_id(const uint8_t *head, size_t len, char ret_hex[BUILD_ID_LEN + 1])
{
    Elf64_Ehdr file;

    if (len < sizeof file) {
        return false;
    }
    memcpy(&file, head, sizeof file);
    if (memcmp(file.e_ident, ELFMAG, SELFMAG) != 0 ||
        file.e_ident[EI_CLASS] != ELFCLASS64 || file.e_ident[EI_DATA] != ELFDATA2LSB ||
        file.e_phentsize != sizeof(Elf64_Phdr)) {
        return false;
    }
    for (unsigned i = 0; i < file.e_phnum; i++) {
        size_t at = i * sizeof(Elf64_Phdr);
        Elf64_Phdr part;

        if (file.e_phoff > len || at + sizeof part > len - file.e_phoff) {
            return false;
        }
        memcpy(&part, head + file.e_phoff + at, sizeof part);
        if (part.p_type == PT_NOTE && part.p_offset <= len &&
            part.p_filesz <= len - part.p_offset &&
            find_note(head + part.p_offset, part.p_filesz, ret_hex)) {
            return true;
        }
    }
    return false;
}
