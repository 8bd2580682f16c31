/* SPDX-License-Identifier: Apache-2.0 */
#include "base/qcow2_head.h"

#include <string.h>

#define V2_LEN            72
#define AT_VERSION        4
#define AT_BACKING        8
#define AT_SIZE           24
#define AT_CRYPT          32
#define AT_INCOMPATIBLE   72
#define INCOMPAT_CORRUPT  (UINT64_C(1) << 1)
#define INCOMPAT_DATAFILE (UINT64_C(1) << 2)

static uint64_t big_endian(const uint8_t *p, unsigned len)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < len; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

const char *qcow2_head_check(const uint8_t *head, size_t len, uint64_t *ret_bytes)
{
    static const uint8_t magic[] = {'Q', 'F', 'I', 0xFB};
    uint64_t version, size, incompatible = 0;

    if (len < V2_LEN || memcmp(head, magic, sizeof magic) != 0) {
        return "is not a qcow2 image; a raw one needs no format:";
    }
    version = big_endian(head + AT_VERSION, 4);
    if (version < 2 || version > 3 || (version == 3 && len < QCOW2_HEAD_LEN)) {
        return "is of another version of qcow2 than 2 and 3; qemu-img convert makes one";
    }
    if (big_endian(head + AT_BACKING, 8) != 0) {
        return "has a backing file, which may be missing where the VM has to be "
               "restarted; qemu-img convert makes an image of its own of it";
    }
    if (big_endian(head + AT_CRYPT, 4) != 0) {
        return "is encrypted, and nobody is there to give the passphrase; qemu-img "
               "convert "
               "makes an open one";
    }
    if (version == 3) {
        incompatible = big_endian(head + AT_INCOMPATIBLE, 8);
    }
    if (incompatible & INCOMPAT_CORRUPT) {
        return "is marked as corrupt; qemu-img check -r all may mend it";
    }
    if (incompatible & INCOMPAT_DATAFILE) {
        return "has its data in another file; qemu-img convert makes a single one of it";
    }
    size = big_endian(head + AT_SIZE, 8);
    if (size == 0 || size % 512 || size > INT64_MAX) {
        return "has a virtual size that is not a positive multiple of 512; qemu-img "
               "resize "
               "changes it";
    }
    *ret_bytes = size;
    return NULL;
}
