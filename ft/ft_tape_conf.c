/* SPDX-License-Identifier: Apache-2.0 */
/* What a recording and its replay must have equal, and what both need. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ft/ft_tape_priv.h"

#define CPUID_BYTES 8192

int ft_tape_new(const char *path, int flags, struct ft_tape **ret, struct vmm_error *err)
{
    struct ft_tape *t = calloc(1, sizeof *t);
    pthread_condattr_t monotonic;

    if (!t) {
        return vmm_fail(err, -ENOMEM, "no memory for a recording");
    }
    snprintf(t->path, sizeof t->path, "%s", path);
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t->more, &monotonic);
    pthread_cond_init(&t->room, &monotonic);
    pthread_condattr_destroy(&monotonic);
    t->fd = open(path, flags | O_CLOEXEC, 0640);
    if (t->fd < 0) {
        int r = -errno;

        ft_tape_free(t);
        return vmm_fail(err, r, "cannot open the recording %s: %s", path, strerror(-r));
    }
    t->hooks.exit_gap_ms = TAPE_EXIT_GAP_MS;
    t->hooks.ctx = t;
    *ret = t;
    return 0;
}

const struct engine_tape *ft_tape_hooks(const struct ft_tape *tape)
{
    return &tape->hooks;
}

void ft_tape_free(struct ft_tape *tape)
{
    if (!tape) {
        return;
    }
    if (tape->writer_up) {
        struct vmm_error err;

        (void)ft_tape_end(tape, &err);
    }
    if (tape->fd >= 0) {
        close(tape->fd);
    }
    byte_ring_free(&tape->ring);
    pthread_mutex_destroy(&tape->lock);
    pthread_cond_destroy(&tape->more);
    pthread_cond_destroy(&tape->room);
    free(tape->buf);
    free(tape->state);
    free(tape);
}

/* Sums ----------------------------------------------------------------------------- */

void ft_ram_sums_begin(struct ft_ram_sums *s, const struct engine *e)
{
    s->begin = s->end = s->pages = 0;
    s->count = 0;
    memset(&s->sum, 0, sizeof s->sum);
    engine_ram(e, &s->ram);
}

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, GMEM_PAGE_SIZE - 1) == 0;
}

bool ft_ram_sums_next(struct ft_ram_sums *s)
{
    s->count = 0;
    while (s->count < FT_SUMS_MAX) {
        const uint8_t *page;

        if (s->begin == s->end && !engine_ram_data(&s->ram, &s->begin, &s->end)) {
            break;
        }
        page = s->ram.host + s->begin * GMEM_PAGE_SIZE;
        if (!is_zero(page)) {
            s->pair[s->count][0] = s->begin;
            s->pair[s->count++][1] = ft_sum64(0, page, GMEM_PAGE_SIZE);
        }
        s->begin++;
    }
    if (s->count > 0) {
        struct ft_sum both[2] = {s->sum,
                                 ft_sum128(s->pair, s->count * sizeof s->pair[0])};

        s->sum = ft_sum128(both, sizeof both);
        s->pages += s->count;
    }
    return s->count > 0;
}

/* HEAD ----------------------------------------------------------------------------- */

static int file_sum(const char *path, struct ft_sum *ret, struct vmm_error *err)
{
    struct stat st;
    int fd, r = 0;
    void *p;

    memset(ret, 0, sizeof *ret);
    if (!path) {
        return 0;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        r = vmm_fail(err, -errno, "cannot read %s: %s", path, strerror(errno));
    } else if (st.st_size > 0) {
        p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            r = vmm_fail(err, -errno, "cannot map %s: %s", path, strerror(errno));
        } else {
            *ret = ft_sum128(p, (size_t)st.st_size);
            munmap(p, (size_t)st.st_size);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return r;
}

int ft_head_make(struct engine *e, const struct engine_conf *conf, struct ft_head *ret,
                 struct vmm_error *err)
{
    uint8_t cpuid[CPUID_BYTES];
    size_t len = engine_cpuid(e, cpuid, sizeof cpuid);
    int r;

    memset(ret, 0, sizeof *ret);
    if (len == 0) {
        return vmm_fail(err, -EIO, "KVM does not tell its CPUID table");
    }
    ret->machine = (uint32_t)conf->machine;
    ret->ram_len = conf->ram_len;
    ret->cpuid = ft_sum64(0, cpuid, len);
    ret->crash_on_triple_fault = conf->crash_on_triple_fault;
    ret->disk_count = (uint8_t)conf->disk_count;
    ret->nic_count = (uint8_t)conf->nic_count;
    for (unsigned i = 0; i < conf->disk_count; i++) {
        ret->disk[i].sectors = engine_disk_sectors(e, i);
        ret->disk[i].read_only = conf->disk[i].read_only;
        memcpy(ret->disk[i].serial, conf->disk[i].serial, sizeof ret->disk[i].serial);
    }
    for (unsigned i = 0; i < conf->nic_count; i++) {
        memcpy(ret->mac[i], conf->nic[i].mac, sizeof ret->mac[i]);
    }
    if (conf->cmdline) {
        snprintf(ret->cmdline, sizeof ret->cmdline, "%s", conf->cmdline);
    }
    r = file_sum(conf->rom_path, &ret->firmware, err);
    if (r == 0) {
        r = file_sum(conf->kernel_path, &ret->kernel, err);
    }
    return r == 0 ? file_sum(conf->initrd_path, &ret->initrd, err) : r;
}

struct differences {
    char text[VMM_ERROR_MAX];
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void differ(struct differences *d,
                                                         const char *format, ...)
{
    va_list args;

    if (d->len > 0 && d->len + 2 < sizeof d->text) {
        d->len += (size_t)snprintf(d->text + d->len, sizeof d->text - d->len, "; ");
    }
    if (d->len < sizeof d->text) {
        va_start(args, format);
        d->len +=
            (size_t)vsnprintf(d->text + d->len, sizeof d->text - d->len, format, args);
        va_end(args);
    }
}

static void differ_file(struct differences *d, const char *option,
                        const struct ft_sum *there, const struct ft_sum *here)
{
    static const struct ft_sum none;

    if (memcmp(there, here, sizeof *there) != 0) {
        differ(d, "%s: %s", option,
               memcmp(here, &none, sizeof none) == 0    ? "recorded with one, here none"
               : memcmp(there, &none, sizeof none) == 0 ? "recorded without one"
                                                        : "not the same file");
    }
}

static void differ_disks(struct differences *d, const struct ft_head *there,
                         const struct ft_head *here)
{
    if (there->disk_count != here->disk_count) {
        differ(d, "--disk: recorded with %u, here %u", there->disk_count,
               here->disk_count);
        return;
    }
    for (unsigned i = 0; i < here->disk_count; i++) {
        const struct ft_head_disk *a = &there->disk[i], *b = &here->disk[i];

        if (a->sectors != b->sectors) {
            differ(d, "disk %u: recorded with %llu sectors, here %llu", i,
                   (unsigned long long)a->sectors, (unsigned long long)b->sectors);
        }
        if (a->read_only != b->read_only) {
            differ(d, "disk %u: recorded %s", i, a->read_only ? "readonly" : "writable");
        }
        if (strcmp(a->serial, b->serial) != 0) {
            differ(d, "disk %u: recorded with serial '%s', here '%s'", i, a->serial,
                   b->serial);
        }
    }
}

static void differ_nics(struct differences *d, const struct ft_head *there,
                        const struct ft_head *here)
{
    if (there->nic_count != here->nic_count) {
        differ(d, "--nic: recorded with %u, here %u", there->nic_count, here->nic_count);
        return;
    }
    for (unsigned i = 0; i < here->nic_count; i++) {
        const uint8_t *m = there->mac[i];

        if (memcmp(m, here->mac[i], 6) != 0) {
            differ(d, "nic %u: recorded with MAC %02x:%02x:%02x:%02x:%02x:%02x", i, m[0],
                   m[1], m[2], m[3], m[4], m[5]);
        }
    }
}

int ft_head_same(const char *path, const struct ft_head *there,
                 const struct ft_head *here, struct vmm_error *err)
{
    struct differences d = {.len = 0};

    if (there->machine != here->machine) {
        differ(&d, "--machine: recorded with another one");
    }
    if (there->ram_len != here->ram_len) {
        differ(&d, "--memory: recorded with %llu bytes, here %llu",
               (unsigned long long)there->ram_len, (unsigned long long)here->ram_len);
    }
    differ_file(&d, "--firmware", &there->firmware, &here->firmware);
    differ_file(&d, "--kernel", &there->kernel, &here->kernel);
    differ_file(&d, "--initrd", &there->initrd, &here->initrd);
    if (strcmp(there->cmdline, here->cmdline) != 0) {
        differ(&d, "--append: recorded with '%.80s'", there->cmdline);
    }
    differ_disks(&d, there, here);
    differ_nics(&d, there, here);
    if (there->crash_on_triple_fault != here->crash_on_triple_fault) {
        differ(&d, "--on-triple-fault: recorded with %s",
               there->crash_on_triple_fault ? "crash" : "reset");
    }
    if (there->cpuid != here->cpuid) {
        differ(&d, "the processor: KVM of this host shows the guest another CPUID table");
    }
    return d.len == 0 ? 0
                      : vmm_fail(err, -EINVAL, "%s was recorded with other options: %s",
                                 path, d.text);
}

int ft_tape_begin(struct ft_tape *tape, struct engine *e, const struct engine_conf *conf,
                  struct vmm_error *err)
{
    struct ft_head *here = malloc(2 * sizeof *here);
    int r;

    if (!here) {
        return vmm_fail(err, -ENOMEM, "no memory for a recording");
    }
    tape->engine = e;
    r = ft_head_make(e, conf, &here[0], err);
    if (r == 0 && !tape->hooks.replay) {
        ft_record_head(tape, &here[0]);
    } else if (r == 0) {
        r = ft_play_head(tape, &here[1], err);
        r = r < 0 ? r : ft_head_same(tape->path, &here[1], &here[0], err);
    }
    free(here);
    return r;
}
