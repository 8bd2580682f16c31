/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qcow2_head.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
        return "this is not a qcow2 image; leave format: out for a raw one";
    }
    version = big_endian(head + AT_VERSION, 4);
    if (version < 2 || version > 3 || (version == 3 && len < QCOW2_HEAD_LEN)) {
        return "only versions 2 and 3 of qcow2 are known; qemu-img convert makes one";
    }
    if (big_endian(head + AT_BACKING, 8) != 0) {
        return "it has a backing file, which may be missing where the VM has to be "
               "restarted; qemu-img convert makes an image of its own of it";
    }
    if (big_endian(head + AT_CRYPT, 4) != 0) {
        return "encrypted images are not run: nobody is there to give the passphrase";
    }
    if (version == 3) {
        incompatible = big_endian(head + AT_INCOMPATIBLE, 8);
    }
    if (incompatible & INCOMPAT_CORRUPT) {
        return "it is marked as corrupt; qemu-img check -r all may mend it";
    }
    if (incompatible & INCOMPAT_DATAFILE) {
        return "its data is in another file; qemu-img convert makes a single one of it";
    }
    size = big_endian(head + AT_SIZE, 8);
    if (size == 0 || size % 512 || size > INT64_MAX) {
        return "its virtual size is not a positive multiple of 512; qemu-img resize "
               "changes it";
    }
    *ret_bytes = size;
    return NULL;
}

int qcow2_look(const char *path, uint64_t *ret_sectors, struct vmm_error *err)
{
    uint8_t head[QCOW2_HEAD_LEN];
    uint64_t bytes;
    const char *why;
    struct stat st;
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return vmm_fail(err, -errno,
                        "disk %s: %s; check that its file system is mounted here", path,
                        strerror(errno));
    }
    if (fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))) {
        close(fd);
        return vmm_fail(err, -EINVAL, "disk %s is neither a file nor a block device",
                        path);
    }
    n = pread(fd, head, sizeof head, 0);
    close(fd);
    if (n < 0) {
        return vmm_fail(err, -EIO, "disk %s: its header cannot be read", path);
    }
    why = qcow2_head_check(head, (size_t)n, &bytes);
    if (why) {
        return vmm_fail(err, -EINVAL, "disk %s: %s", path, why);
    }
    *ret_sectors = bytes / 512;
    return 0;
}
