/* SPDX-License-Identifier: Apache-2.0 */
/* An ELF file of any bytes: u16 of choices, then the file, whose identification is put
 * right. */
#include <elf.h>

#include "tests/fuzz/boot_fuzz.h"

FUZZ_ONE(data, len)
{
    static uint8_t file[BOOT_RIG_FILE_MAX];
    size_t file_len = len < sizeof file ? len : sizeof file;
    uint16_t choice;

    if (len < sizeof choice) {
        return 0;
    }
    memcpy(&choice, data, sizeof choice);
    data += sizeof choice;
    file_len -= file_len < len ? 0 : sizeof choice;
    memcpy(file, data, file_len);
    if ((choice & 1) != 0 && file_len >= sizeof(Elf64_Ehdr)) {
        static const uint16_t machine = EM_X86_64, size = sizeof(Elf64_Phdr);

        memcpy(file, ELFMAG, SELFMAG);
        file[EI_CLASS] = ELFCLASS64;
        file[EI_DATA] = ELFDATA2LSB;
        memcpy(file + offsetof(Elf64_Ehdr, e_machine), &machine, sizeof machine);
        memcpy(file + offsetof(Elf64_Ehdr, e_phentsize), &size, sizeof size);
    }
    boot_fuzz(file, file_len, choice >> 1);
    return 0;
}
