/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel file of any bytes: u16 of choices, then the file. A file that does not look
 * like anything is given the setup header of a bzImage, so that its fields are reached.
 */
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
    if ((choice & 1) != 0 && file_len >= 0x238) {
        memcpy(file + 0x1FE, "\x55\xAA\xEB\x6AHdrS\x0F\x02", 10);
        file[0x211] |= 1;
        file[0x236] |= 1;
    }
    boot_fuzz(file, file_len, choice >> 1);
    return 0;
}
