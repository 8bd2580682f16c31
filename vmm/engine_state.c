/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/engine_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/crc32c.h"
#include "base/loop.h"
#include "base/os.h"
#include "vmm/cpu_state.h"
#include "vmm/engine_priv.h"
#include "vmm/engine_ram.h"
#include "vmm/state_stream.h"

#define VM_SECTION_VERSION        1
#define CPU_MODEL_SECTION_VERSION 1
#define RAM_APART_SECTION         "ram-apart" /* empty: the stream has no RAM frames */
#define RAM_APART_VERSION         1
#define HEAD_MAX                  (512 + CPU_MODEL_TEXT_MAX)
#define FRAME_MAX                 (FRAME_HEADER_LEN + STATE_STREAM_BODY_MAX)

/* What KVM holds, while it is looked at or put together. */
struct kvm_part_state {
    struct vm_clock_state clock;
    struct irqchip_state irqchip;
    struct vcpu_state cpu[];
};

/* A state that was looked at, for KVM. */
struct engine_decoded {
    char name[PATH_LEN_MAX];
    struct cpu_model cpu_model;
    bool cpu_model_known;
    struct kvm_part_state *parts;
};

struct stream {
    struct engine *e;
    int fd;
    const char *name;
    enum engine_ram_place place;
    struct vmm_error *err;
    uint8_t *buf; /* FRAME_MAX */
    uint64_t seq, bytes;
    uint64_t ram_frames, pages;
    struct cpu_model cpu_model; /* load: of the file */
    bool cpu_model_known;
};

static unsigned cpu_count(const struct engine *e)
{
    return e->smp ? e->cpu_count : 1;
}

static struct vcpu *cpu_at(struct engine *e, unsigned i)
{
    return e->smp ? &e->cpu[i].vcpu : &e->vcpu;
}

static struct kvm_part_state *parts_alloc(const struct engine *e)
{
    return aligned_alloc(64, (sizeof(struct kvm_part_state) +
                              cpu_count(e) * sizeof(struct vcpu_state) + 63) &
                                 ~(size_t)63);
}

/* Sections
 * ---------------------------------------------------------------------------------- */

/* Which VM this is of: a stream for another kind of machine is refused before anything
 * else is read. */
static int vm_xfer(struct engine *e, struct state_io *io)
{
    uint8_t machine = (uint8_t)e->conf.machine, transport = (uint8_t)e->conf.transport;
    uint32_t cpus = cpu_count(e);
    uint64_t ram_len = e->conf.ram_len;

    state_u8(io, &machine);
    state_u8(io, &transport);
    state_u32(io, &cpus);
    state_u64(io, &ram_len);
    if (machine != e->conf.machine) {
        state_refuse(io, "machine");
    }
    if (transport != e->conf.transport) {
        state_refuse(io, "transport");
    }
    if (cpus != cpu_count(e)) {
        state_refuse(io, "cpus");
    }
    if (ram_len != e->conf.ram_len) {
        state_refuse(io, "memory");
    }
    return state_end(io);
}

/* What the guest believes of its processor, as text: names outlive their numbers. */
static int cpu_model_xfer(struct cpu_model *model, struct state_io *io)
{
    char text[CPU_MODEL_TEXT_MAX] = "";
    struct cpu_model_error why;
    uint16_t len = (uint16_t)cpu_model_print(model, text, sizeof text);

    state_u16(io, &len);
    if (len == 0 || len >= sizeof text) {
        state_refuse(io, "length");
        return state_end(io);
    }
    state_bytes(io, text, len);
    if (io->mode == STATE_LOAD && io->error == STATE_OK) {
        text[len] = '\0';
        if (strlen(text) != len || !cpu_model_parse(text, model, &why)) {
            state_refuse(io, "model");
        }
    }
    return state_end(io);
}

/* Opens a section for either direction. */
static bool section(struct state_io *io, const char *name, unsigned instance,
                    uint16_t version)
{
    if (io->mode == STATE_SAVE) {
        state_section_begin(io, name, (uint16_t)instance, version, 1);
        return true;
    }
    if (!state_section_next(io)) {
        state_fail(io, STATE_MISSING);
        return false;
    }
    if (strcmp(io->section.name, name) != 0 || io->section.instance != instance) {
        state_fail(io, STATE_UNKNOWN);
        return false;
    }
    return state_section_accept(io, version);
}

static void section_done(struct state_io *io)
{
    if (io->mode == STATE_SAVE && io->error == STATE_OK) {
        state_section_end(io);
    }
}

static int parts_xfer(struct engine *e, struct kvm_part_state *parts, struct state_io *io)
{
    int r = machine_xfer(e->machine, io);

    if (r < 0 || !section(io, "clock", 0, CLOCK_SECTION_VERSION)) {
        return -EBADMSG;
    }
    r = clock_state_xfer(&parts->clock, io);
    section_done(io);
    if (r == 0 && e->smp) {
        if (!section(io, "irqchip", 0, IRQCHIP_SECTION_VERSION)) {
            return -EBADMSG;
        }
        r = irqchip_state_xfer(&parts->irqchip, io);
        section_done(io);
    }
    for (unsigned i = 0; r == 0 && i < cpu_count(e); i++) {
        if (!section(io, "vcpu", i, CPU_SECTION_VERSION)) {
            return -EBADMSG;
        }
        r = cpu_state_xfer(&parts->cpu[i], e->smp, io);
        section_done(io);
    }
    return r;
}

/* Saving
 * ------------------------------------------------------------------------------------ */

/* All of up to two parts; they are used up. */
static int write_parts(struct stream *s, struct iovec *part, int count)
{
    while (count > 0) {
        ssize_t n = writev(s->fd, part, count);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return vmm_fail(s->err, n < 0 ? -errno : -EIO,
                            "cannot write the VM's state to %s: %s", s->name,
                            strerror(n < 0 ? errno : EIO));
        }
        s->bytes += (uint64_t)n;
        while (count > 0 && (size_t)n >= part->iov_len) {
            n -= (ssize_t)part->iov_len;
            part++;
            count--;
        }
        if (count > 0) {
            part->iov_base = (uint8_t *)part->iov_base + n;
            part->iov_len -= (size_t)n;
        }
    }
    return 0;
}

/* The body lies at buf + FRAME_HEADER_LEN already. */
static int write_frame(struct stream *s, enum state_frame type, size_t body_len)
{
    struct frame frame = {.type = (uint16_t)type,
                          .version = STATE_STREAM_FORMAT,
                          .seq = ++s->seq,
                          .body = s->buf + FRAME_HEADER_LEN,
                          .body_len = (uint32_t)body_len};
    size_t len = frame_encode(&frame, STATE_STREAM_MAGIC, s->buf, FRAME_MAX);
    struct iovec part = {s->buf, len};

    BUG_ON(len == 0);
    return write_parts(s, &part, 1);
}

static int save_head(struct stream *s)
{
    struct state_io io;

    state_save_init(&io, s->buf + FRAME_HEADER_LEN, HEAD_MAX);
    state_section_begin(&io, "vm", 0, VM_SECTION_VERSION, 1);
    (void)vm_xfer(s->e, &io);
    state_section_end(&io);
    if (s->e->smp) {
        state_section_begin(&io, "cpu-model", 0, CPU_MODEL_SECTION_VERSION, 1);
        (void)cpu_model_xfer(&s->e->cpu_model, &io);
        state_section_end(&io);
    }
    if (s->place == ENGINE_RAM_APART) {
        state_section_begin(&io, RAM_APART_SECTION, 0, RAM_APART_VERSION, 1);
        state_section_end(&io);
    }
    return write_frame(s, STATE_FRAME_HEAD, state_save_finish(&io));
}

static int collect(struct engine *e, struct kvm_part_state *parts, struct vmm_error *err)
{
    int r = e->smp ? irqchip_save(&e->vm, &parts->irqchip, err) : 0;

    for (unsigned i = 0; r == 0 && i < cpu_count(e); i++) {
        r = vcpu_save(cpu_at(e, i), &parts->cpu[i], err);
    }
    parts->clock.machine_ns = engine_machine_now_ns(e);
    parts->clock.halted = e->halted;
    parts->clock.kvm_ns = e->kvm_clock_known ? e->kvm_clock.clock : 0;
    parts->clock.wall_ns = e->wall_stopped_ns;
    return r;
}

static int save_state(struct stream *s)
{
    struct kvm_part_state *parts = parts_alloc(s->e);
    struct state_io io;
    size_t len;
    int r;

    if (!parts) {
        return vmm_fail(s->err, -ENOMEM, "no memory to save the VM's state");
    }
    memset(parts, 0, sizeof *parts + cpu_count(s->e) * sizeof parts->cpu[0]);
    r = collect(s->e, parts, s->err);
    if (r == 0) {
        state_save_init(&io, s->buf + FRAME_HEADER_LEN, STATE_STREAM_BODY_MAX);
        (void)parts_xfer(s->e, parts, &io);
        len = state_save_finish(&io);
        r = len == 0 ? vmm_fail(s->err, -E2BIG, "the VM's state cannot be saved: %s",
                                state_error_str(io.error))
                     : write_frame(s, STATE_FRAME_STATE, len);
    }
    free(parts);
    return r;
}

static bool page_is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, STATE_STREAM_PAGE - 1) == 0;
}

/* Straight from guest memory, where nothing changes meanwhile. */
static int save_run(struct stream *s, uint64_t first, uint32_t count)
{
    uint8_t *pages = s->e->vm.ram + first * STATE_STREAM_PAGE;
    uint8_t *head = s->buf + FRAME_HEADER_LEN;
    size_t len = (size_t)count * STATE_STREAM_PAGE;
    struct iovec part[] = {{s->buf, FRAME_HEADER_LEN + STATE_STREAM_RAM_HEAD},
                           {pages, len}};
    struct frame frame = {.type = STATE_FRAME_RAM,
                          .version = STATE_STREAM_FORMAT,
                          .seq = ++s->seq,
                          .body_len = (uint32_t)(STATE_STREAM_RAM_HEAD + len)};

    if (atomic_load(&s->e->state) == RUN_ENDING) {
        return vmm_fail(s->err, -EINTR, "the VM was ended while its state was saved");
    }
    state_stream_ram_head(head, first, count);
    frame_header(&frame, STATE_STREAM_MAGIC,
                 crc32c(crc32c(0, head, STATE_STREAM_RAM_HEAD), pages, len), s->buf);
    s->ram_frames++;
    s->pages += count;
    return write_parts(s, part, 2);
}

static int save_pages(struct stream *s, uint64_t begin, uint64_t end)
{
    uint64_t first = begin;
    uint32_t count = 0;
    int r = 0;

    for (uint64_t i = begin; i < end && r == 0; i++) {
        if (!page_is_zero(s->e->vm.ram + i * STATE_STREAM_PAGE)) {
            first = count == 0 ? i : first;
            count++;
        } else if (count > 0) {
            r = save_run(s, first, count);
            count = 0;
        }
        if (count == STATE_STREAM_RUN_PAGES) {
            r = save_run(s, first, count);
            count = 0;
        }
    }
    return r == 0 && count > 0 ? save_run(s, first, count) : r;
}

static int save_ram(struct stream *s)
{
    struct engine_ram ram;
    uint64_t begin = 0, end = 0;
    int r = 0;

    engine_ram(s->e, &ram);
    while (r == 0 && engine_ram_data(&ram, &begin, &end)) {
        r = save_pages(s, begin, end);
        begin = end;
    }
    return r;
}

int engine_state_save(struct engine *e, int fd, const char *name,
                      enum engine_ram_place place, uint64_t *ret_bytes,
                      struct vmm_error *err)
{
    struct stream s = {.e = e, .fd = fd, .name = name, .place = place, .err = err};
    int r;

    s.buf = malloc(FRAME_MAX);
    if (!s.buf) {
        return vmm_fail(err, -ENOMEM, "no memory to save the VM's state");
    }
    r = save_head(&s);
    if (r == 0) {
        r = save_state(&s);
    }
    if (r == 0 && place == ENGINE_RAM_IN_STATE) {
        r = save_ram(&s);
    }
    if (r == 0) {
        state_stream_end_body(s.buf + FRAME_HEADER_LEN, s.ram_frames, s.pages);
        r = write_frame(&s, STATE_FRAME_END, STATE_STREAM_END_LEN);
    }
    free(s.buf);
    if (r == 0) {
        *ret_bytes = s.bytes;
    }
    return r;
}

/* Loading
 * ----------------------------------------------------------------------------------- */

/* 1: all of it, 0: the file ended before the first byte, else -errno with a text. */
static int read_all(struct stream *s, uint8_t *p, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = read(s->fd, p + done, len - done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return vmm_fail(s->err, -errno, "cannot read the VM's state from %s: %s",
                            s->name, strerror(errno));
        }
        if (n == 0) {
            return done == 0 ? 0
                             : vmm_fail(s->err, -EBADMSG,
                                        "state file %s is refused at byte %llu: it ends "
                                        "in the middle of a frame",
                                        s->name, (unsigned long long)(s->bytes + done));
        }
        done += (size_t)n;
    }
    s->bytes += len;
    return 1;
}

static int refuse(struct stream *s, const char *why, const char *detail)
{
    return vmm_fail(s->err, -EBADMSG,
                    "state file %s is refused at byte %llu: %s%s%s; the VM was not "
                    "started",
                    s->name, (unsigned long long)s->bytes, why, *detail ? ": " : "",
                    detail);
}

static int refuse_section(struct stream *s, const struct state_io *io)
{
    char detail[STATE_NAME_MAX + 80];

    snprintf(detail, sizeof detail, "section %s.%u%s%s",
             io->section.name[0] ? io->section.name : "(none)", io->section.instance,
             io->refused_field ? ", field " : "",
             io->refused_field ? io->refused_field : "");
    return refuse(s, state_error_str(io->error), detail);
}

/* 1: *ret_frame is valid until the next call, 0: end of the file, else -errno. */
static int read_frame(struct stream *s, struct frame *ret_frame)
{
    enum frame_reason reason;
    uint32_t body_len;
    int r = read_all(s, s->buf, FRAME_HEADER_LEN);

    if (r <= 0) {
        return r;
    }
    reason = frame_check(s->buf, FRAME_HEADER_LEN, STATE_STREAM_MAGIC,
                         STATE_STREAM_BODY_MAX, ret_frame);
    if (reason == FRAME_NEED_MORE) {
        body_len = frame_body_len(s->buf);
        r = read_all(s, s->buf + FRAME_HEADER_LEN, body_len);
        if (r < 0) {
            return r;
        }
        if (r == 0) {
            return refuse(s, "it ends in the middle of a frame", "");
        }
        reason = frame_check(s->buf, FRAME_HEADER_LEN + body_len, STATE_STREAM_MAGIC,
                             STATE_STREAM_BODY_MAX, ret_frame);
    }
    return reason == FRAME_OK ? 1 : refuse(s, "damaged frame", frame_reason_str(reason));
}

/* Files of the first versions have no model: their guests saw what their host had. */
static int load_cpu_model(struct stream *s, struct state_io *io)
{
    struct cpu_model host;
    char missing[VMM_ERROR_MAX / 2];

    if (!state_section_accept(io, CPU_MODEL_SECTION_VERSION) ||
        cpu_model_xfer(&s->cpu_model, io) < 0) {
        return refuse_section(s, io);
    }
    s->cpu_model_known = true;
    vcpu_host_model(&s->e->cpu[0].vcpu, &host);
    if (cpu_model_missing(&s->cpu_model, &host, missing, sizeof missing) != 0) {
        return refuse(s, "this host cannot run its CPU model; it lacks", missing);
    }
    return 0;
}

static bool section_is(const struct state_io *io, const char *name)
{
    return strcmp(io->section.name, name) == 0 && io->section.instance == 0;
}

/* The sections after the first, each of which need not be there. */
static int load_head_rest(struct stream *s, struct state_io *io, bool *ret_apart)
{
    bool more = state_section_next(io);
    int r = 0;

    if (more && s->e->smp && section_is(io, "cpu-model")) {
        r = load_cpu_model(s, io);
        more = r == 0 && state_section_next(io);
    }
    if (more && section_is(io, RAM_APART_SECTION)) {
        if (!state_section_accept(io, RAM_APART_VERSION) || state_end(io) < 0) {
            return refuse_section(s, io);
        }
        *ret_apart = true;
        more = state_section_next(io);
    }
    if (more) {
        state_fail(io, STATE_UNKNOWN);
    }
    return r == 0 && io->error != STATE_OK ? refuse_section(s, io) : r;
}

static int load_head(struct stream *s, const struct frame *frame)
{
    struct state_io io;
    bool apart = false;
    int r;

    state_load_init(&io, frame->body, frame->body_len);
    if (!section(&io, "vm", 0, VM_SECTION_VERSION) || vm_xfer(s->e, &io) < 0) {
        return refuse_section(s, &io);
    }
    r = load_head_rest(s, &io, &apart);
    if (r == 0 && apart && s->place != ENGINE_RAM_APART) {
        return refuse(s, "it was saved without the VM's memory, for a migration", "");
    }
    if (r == 0 && !apart && s->place == ENGINE_RAM_APART) {
        return refuse(s, "it has the VM's memory, which is here already", "");
    }
    return r;
}

static int load_state(struct stream *s, const struct frame *frame,
                      struct kvm_part_state *parts)
{
    struct state_io io;

    state_load_init(&io, frame->body, frame->body_len);
    if (parts_xfer(s->e, parts, &io) < 0) {
        return refuse_section(s, &io);
    }
    return state_section_next(&io) || io.error != STATE_OK ? refuse_section(s, &io) : 0;
}

/* Written to the file behind guest memory: less work than a copy, which would fault in
 * and clear each page first. */
static int load_run(struct stream *s, const struct state_ram_run *run)
{
    size_t len = (size_t)run->page_count * STATE_STREAM_PAGE, done = 0;
    off_t at = (off_t)(run->first_page * STATE_STREAM_PAGE);

    if (s->e->vm.huge) { /* a file of huge pages cannot be written to */
        memcpy(s->e->vm.ram + at, run->data, len);
        return 0;
    }
    while (done < len) {
        ssize_t n =
            pwrite(s->e->vm.ram_fd, run->data + done, len - done, at + (off_t)done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return vmm_fail(s->err, n < 0 ? -errno : -EIO,
                            "cannot fill guest memory from state file %s: %s", s->name,
                            strerror(n < 0 ? errno : EIO));
        }
        done += (size_t)n;
    }
    return 0;
}

static int read_stream(struct stream *s, struct kvm_part_state *parts)
{
    struct state_stream_rd rd = {0};
    struct state_ram_run run;
    struct frame frame;
    int r;

    rd.ram_pages =
        s->place == ENGINE_RAM_APART ? 0 : s->e->conf.ram_len / STATE_STREAM_PAGE;
    while ((r = read_frame(s, &frame)) > 0) {
        if (state_stream_take(&rd, &frame, &run) != STREAM_OK) {
            return refuse(s, stream_error_str(rd.error), "");
        }
        if (frame.type == STATE_FRAME_HEAD) {
            r = load_head(s, &frame);
        } else if (frame.type == STATE_FRAME_STATE) {
            r = load_state(s, &frame, parts);
        } else if (frame.type == STATE_FRAME_RAM) {
            r = load_run(s, &run);
        }
        if (r < 0) {
            return r;
        }
    }
    if (r == 0 && state_stream_finish(&rd) != STREAM_OK) {
        return refuse(s, stream_error_str(state_stream_finish(&rd)), "");
    }
    return r;
}

/* KVM looks at values too. */
static int refuse_kvm(const struct engine_decoded *d, int r, struct vmm_error *err)
{
    struct vmm_error why = *err;

    return vmm_fail(err, r, "state file %s is refused: %s; the VM was not started",
                    d->name, why.text);
}

/* Everything was looked at: now KVM. Order: what the processor is, interrupt controllers
 * before the vCPUs' local APICs, the TSC after all else of its vCPU. */
static int set_kvm(struct engine *e, const struct engine_decoded *d,
                   struct vmm_error *err)
{
    const struct kvm_part_state *parts = d->parts;
    int r = 0;

    if (d->cpu_model_known && !cpu_model_equal(&d->cpu_model, &e->cpu_model)) {
        r = engine_smp_set_model(e, &d->cpu_model, err);
    }
    if (r == 0 && e->smp) {
        r = irqchip_load(&e->vm, &parts->irqchip, err);
    }
    for (unsigned i = 0; r == 0 && i < cpu_count(e); i++) {
        r = vcpu_load(cpu_at(e, i), &parts->cpu[i], err);
        if (r == 0 && e->smp) {
            r = vcpu_load_tsc(cpu_at(e, i), &parts->cpu[i], err);
        }
    }
    if (r == 0 && !e->smp && vcpu_refresh(&e->vcpu) != VCPU_KICKED) {
        r = vmm_fail(err, -EIO, "KVM does not enter the vCPU: %s", e->vcpu.fault.text);
    }
    return r;
}

int engine_state_apply(struct engine *e, struct vmm_error *err)
{
    const struct engine_decoded *d = e->decoded;
    const struct vm_clock_state *clock = &d->parts->clock;
    int r = set_kvm(e, d, err);

    if (r < 0) {
        return refuse_kvm(d, r, err);
    }
    e->clock_stopped_ns = clock->machine_ns;
    e->halted = clock->halted;
    e->kvm_clock.clock = clock->kvm_ns;
    e->kvm_clock_known = e->smp;
    e->wall_stopped_ns = e->smp ? clock->wall_ns : 0;
    machine_lines_again(e->machine);
    return 0;
}

bool engine_state_decoded(const struct engine *e)
{
    return e->decoded != NULL;
}

void engine_state_forget(struct engine *e)
{
    if (e->decoded) {
        free(e->decoded->parts);
    }
    free(e->decoded);
    e->decoded = NULL;
}

int engine_state_decode(struct engine *e, int fd, const char *name,
                        enum engine_ram_place place, struct vmm_error *err)
{
    struct stream s = {.e = e, .fd = fd, .name = name, .place = place, .err = err};
    struct engine_decoded *d = calloc(1, sizeof *d);
    int r;

    engine_state_forget(e);
    e->decoded = d;
    s.buf = malloc(FRAME_MAX);
    if (d) {
        d->parts = parts_alloc(e);
    }
    if (!s.buf || !d || !d->parts) {
        r = vmm_fail(err, -ENOMEM, "no memory to load the VM's state");
    } else {
        memset(d->parts, 0, sizeof *d->parts + cpu_count(e) * sizeof d->parts->cpu[0]);
        snprintf(d->name, sizeof d->name, "%s", name);
        if (place == ENGINE_RAM_IN_STATE) {
            vm_rom_low_clear(&e->vm);
        }
        r = read_stream(&s, d->parts);
        d->cpu_model = s.cpu_model;
        d->cpu_model_known = s.cpu_model_known;
    }
    if (r < 0) {
        engine_state_forget(e);
    }
    free(s.buf);
    return r;
}

int engine_state_load(struct engine *e, int fd, const char *name,
                      enum engine_ram_place place, struct vmm_error *err)
{
    int r = engine_state_decode(e, fd, name, place, err);

    if (r == 0) {
        r = engine_state_apply(e, err);
    }
    engine_state_forget(e);
    return r;
}
