/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/qcow2_head.h"
#include "cluster-conf/conf_bind.h"
#include "cluster-conf/conf_load.h"
#include "cluster-conf/conf_text.h"

static int refuse(const char *key, const char *path, const char *why, const char *remedy,
                  struct conf_error *ret_error)
{
    struct conf_text text = conf_text_make(ret_error->key, sizeof ret_error->key);

    ret_error->line = 0;
    conf_text_str(&text, key);
    text = conf_text_make(ret_error->what, sizeof ret_error->what);
    conf_text_strs(&text, path, " ", why, "; ", remedy, NULL);
    conf_error_compose(ret_error, NULL);
    return -EINVAL;
}

enum file_kind { KIND_OTHER = 0, KIND_RAW, KIND_QCOW2 };

/* NULL, or what is wrong with this image. */
static const char *check_qcow2(int fd)
{
    uint8_t head[QCOW2_HEAD_LEN];
    uint64_t bytes;
    ssize_t n = pread(fd, head, sizeof head, 0);

    return n < 0 ? "cannot be read; look after its file system"
                 : qcow2_head_check(head, (size_t)n, &bytes);
}

static int check_file(const char *key, const char *path, const char *dir,
                      const char *name, enum file_kind kind, struct conf_error *ret_error)
{
    bool disk = kind != KIND_OTHER;
    char full_buf[PATH_LEN_MAX * 2];
    struct conf_text full = conf_text_make(full_buf, sizeof full_buf);
    struct stat st;
    int fd = -1, error = 0;
    const char *why = NULL, *remedy = "";

    if (path[0] == '/') {
        conf_text_str(&full, path);
    } else {
        conf_text_strs(&full, dir, "/", name, "/", path, NULL);
    }
    fd = open(full_buf, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0) {
        error = errno;
        why = error == ENOENT ? "does not exist" : strerror(error);
        remedy = disk ? "create it (truncate -s 10G FILE), or correct the path"
                      : "correct the path";
    } else if (disk && S_ISBLK(st.st_mode)) {
        why = NULL;
    } else if (!S_ISREG(st.st_mode)) {
        why = disk ? "is neither a file nor a block device" : "is not a file";
        remedy = "correct the path";
    } else if (st.st_size == 0) {
        why = "is empty";
        remedy = disk ? "give it a size (truncate -s 10G FILE)" : "install it again";
    } else if (kind == KIND_RAW && st.st_size % 512 != 0) {
        why = "is not a multiple of 512 bytes long";
        remedy = "it is no raw image: convert it (qemu-img convert -O raw), or write "
                 "format: qcow2 if it is one";
    } else if (kind == KIND_QCOW2) {
        why = check_qcow2(fd);
        remedy = "see doc/operator-guide.md, Disks";
    }
    if (fd >= 0) {
        close(fd);
    }
    if (why == NULL) {
        return 0;
    }
    return refuse(key, full_buf, why, remedy, ret_error);
}

/* What an absolute path has below the directory of VMs; NULL: it lies elsewhere. */
static const char *below_root(const char *vmroot, const char *path)
{
    size_t root_len = strlen(vmroot);

    while (root_len > 0 && vmroot[root_len - 1] == '/') {
        root_len--;
    }
    if (strncmp(path, vmroot, root_len) != 0 || path[root_len] != '/') {
        return NULL;
    }
    return path + root_len + strspn(path + root_len, "/");
}

/* An absolute path into the directory of another VM. */
static bool is_foreign(const struct conf_vm *vm, const char *vmroot, const char *path)
{
    const char *below = below_root(vmroot, path);
    size_t name_len = strlen(vm->name);

    return below != NULL &&
           (strncmp(below, vm->name, name_len) != 0 || below[name_len] != '/');
}

static int check_disk(const char *key, const struct conf_vm *vm,
                      const struct conf_disk *disk, const char *vmroot,
                      struct conf_error *ret_error)
{
    if (is_foreign(vm, vmroot, disk->path)) {
        return refuse(key, disk->path, "lies in the directory of another VM",
                      "move it into this VM's own, or out of the directory of VMs",
                      ret_error);
    }
    if (disk->mirrored) { /* whether a node's own copy is there shows at the start */
        return below_root(vmroot, disk->path) == NULL
                   ? 0
                   : refuse(key, disk->path,
                            "is in the shared directory, where both nodes have one file",
                            "move it to storage of each node's own, or leave out "
                            "mirrored",
                            ret_error);
    }
    return check_file(key, disk->path, vmroot, vm->name,
                      disk->format == CONF_DISK_QCOW2 ? KIND_QCOW2 : KIND_RAW, ret_error);
}

static int check_boot_files(const struct conf_vm *vm, const char *vmroot,
                            struct conf_error *ret_error)
{
    const struct {
        const char *key, *path;
    } file[] = {{"boot.firmware", vm->firmware},
                {"boot.kernel", vm->kernel},
                {"boot.initrd", vm->initrd}};
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(file); i++) {
        if (file[i].path[0] != '\0') {
            r = check_file(file[i].key, file[i].path, vmroot, vm->name, KIND_OTHER,
                           ret_error);
        }
    }
    return r;
}

int conf_vm_check_files(const struct conf_vm *vm, const char *vmroot,
                        struct conf_error *ret_error)
{
    int r;

    r = check_boot_files(vm, vmroot, ret_error);
    for (unsigned i = 0; r == 0 && i < vm->disk_count; i++) {
        char key_buf[32];
        struct conf_text key = conf_text_make(key_buf, sizeof key_buf);

        if (conf_disk_is_nbd(&vm->disk[i])) { /* its server shows at the start */
            continue;
        }
        conf_text_str(&key, "disks[");
        conf_text_u64(&key, i);
        conf_text_str(&key, "].path");
        r = check_disk(key_buf, vm, &vm->disk[i], vmroot, ret_error);
    }
    return r;
}
