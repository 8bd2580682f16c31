/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/text.h"

struct boot_file {
    int fd;
    uint64_t len;
    char path[PATH_LEN_MAX];
};

struct boot_files {
    struct boot_file kernel, initrd; /* initrd.fd -1: none */
};

static int file_open(struct boot_file *file, const char *what, const char *path,
                     uint64_t max, struct vmm_error *err)
{
    struct stat st;

    if (!text_copy(file->path, sizeof file->path, path)) {
        return vmm_fail(err, -ENAMETOOLONG, "the path of the %s is too long: %s", what,
                        path);
    }
    /* O_NONBLOCK: a FIFO must not hold us. */
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file->fd < 0 || fstat(file->fd, &st) < 0) {
        int error = errno;

        return vmm_fail(err, -error, "cannot open %s %s: %s; check boot.%s", what, path,
                        strerror(error), what);
    }
    if (!S_ISREG(st.st_mode)) {
        return vmm_fail(err, -EINVAL, "%s %s is not a regular file; check boot.%s", what,
                        path, what);
    }
    file->len = (uint64_t)st.st_size;
    if (st.st_size <= 0 || file->len > max) {
        return vmm_fail(err, -EFBIG,
                        "%s %s has %llu bytes: between 1 byte and %llu MiB are possible; "
                        "name another file",
                        what, path, (unsigned long long)file->len,
                        (unsigned long long)(max >> 20));
    }
    return 0;
}

int boot_files_open(const char *kernel, const char *initrd, struct boot_files **ret_files,
                    struct vmm_error *err)
{
    struct boot_files *files = calloc(1, sizeof *files);
    int r;

    if (!files) {
        return vmm_fail(err, -ENOMEM, "no memory for the boot files");
    }
    files->kernel.fd = files->initrd.fd = -1;
    r = file_open(&files->kernel, "kernel", kernel, BOOT_KERNEL_LEN_MAX, err);
    if (r == 0 && initrd && initrd[0]) {
        r = file_open(&files->initrd, "initrd", initrd, BOOT_INITRD_LEN_MAX, err);
    }
    if (r < 0) {
        boot_files_close(files);
        return r;
    }
    *ret_files = files;
    return 0;
}

void boot_files_close(struct boot_files *files)
{
    if (!files) {
        return;
    }
    if (files->kernel.fd >= 0) {
        close(files->kernel.fd);
    }
    if (files->initrd.fd >= 0) {
        close(files->initrd.fd);
    }
    free(files);
}

/* False also when the file became shorter since it was opened. */
static bool file_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct boot_file *file = ctx;
    size_t done = 0;

    while (done < len) {
        ssize_t n =
            pread(file->fd, (char *)dst + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

static int tell(const struct boot_files *files, int error, const struct boot_problem *p,
                struct vmm_error *err)
{
    const char *what = p->subject == BOOT_INITRD    ? "initrd "
                       : p->subject == BOOT_CMDLINE ? "kernel command line"
                                                    : "kernel ";
    const char *path = p->subject == BOOT_INITRD    ? files->initrd.path
                       : p->subject == BOOT_CMDLINE ? ""
                                                    : files->kernel.path;

    if (p->has_numbers) {
        return vmm_fail(err, error, "%s%s: %s %s (%#llx, limit %#llx)", what, path,
                        p->field, p->text, (unsigned long long)p->is,
                        (unsigned long long)p->limit);
    }
    return vmm_fail(err, error, "%s%s: %s %s", what, path, p->field, p->text);
}

int boot_files_load(const struct boot_files *files, const struct acpi_conf *acpi,
                    const char *cmdline, struct gmem *gm, struct boot_entry *ret_entry,
                    struct vmm_error *err)
{
    struct boot_source kernel = {.ctx = (void *)(uintptr_t)&files->kernel,
                                 .len = files->kernel.len,
                                 .read = file_read};
    struct boot_source initrd = {.ctx = (void *)(uintptr_t)&files->initrd,
                                 .len = files->initrd.len,
                                 .read = file_read};
    struct boot_conf conf = {.type = acpi->type,
                             .ram_len = acpi->ram_len,
                             .cmdline = cmdline,
                             .kernel = &kernel,
                             .initrd = files->initrd.fd >= 0 ? &initrd : NULL};
    struct boot_problem problem;
    int r;

    if (!acpi_place(acpi, gm, &conf.rsdp)) {
        return vmm_fail(err, -EFBIG,
                        "kernel %s: no memory at 0xE0000 for the ACPI tables; give the "
                        "VM at least 1 MiB more memory than its kernel needs",
                        files->kernel.path);
    }
    r = boot_linux_load(gm, &conf, ret_entry, &problem);
    return r < 0 ? tell(files, r, &problem, err) : 0;
}
