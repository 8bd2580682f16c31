/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A saved VM of any bytes into an engine whose KVM is fake_kvm: the whole way of a
 * restore but the running. First byte: bit 0 machine standard, bit 1 the sequence, the
 * checksums and the counts are put right, so that what is inside gets its turn. What was
 * refused has a text that names the file; what was accepted can be saved, and that loads
 * and saves the same.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/frame.h"
#include "base/units.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/temp_path.h"
#include "tests/unit/vmm/fake_kvm.h"
#include "vmm/engine.h"
#include "vmm/engine_state.h"
#include "vmm/state_stream.h"

#define RAM_LEN (UINT64_C(1) << 20)

/* As those of tests/golden/state, which are the seeds. */
static struct {
    struct engine *engine;
    struct fake_vm kvm;
} machine[2];
static unsigned current;
static int file_fd = -1;

static void open_machine(unsigned i, const char *disk, const char *rom)
{
    struct engine_conf conf = {.kvm = &fake_kvm,
                               .kvm_path = "fake",
                               .machine = i ? MACHINE_STANDARD : MACHINE_LOCKSTEP,
                               .transport =
                                   i ? MACHINE_TRANSPORT_PCI : MACHINE_TRANSPORT_MMIO,
                               .cpu_count = 1 + i,
                               .rom_path = rom,
                               .ram_len = RAM_LEN,
                               .cmdline = "golden",
                               .disk_count = 1,
                               .disk[0].serial = "golden",
                               .nic_count = 1,
                               .nic[0].mac = {2, 0, 0, 0, 0, 7}};
    struct vmm_error err;

    snprintf(conf.disk[0].path, sizeof conf.disk[0].path, "%s", disk);
    conf.nic[0].fd[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
    fake_kvm_reset();
    BUG_ON(engine_open(&conf, &machine[i].engine, &err) < 0);
    machine[i].kvm = fake_vm;
    current = i;
}

static void make_file(char *path, const char *name, off_t len)
{
    int fd = mkstemp(temp_path(path, name));

    BUG_ON(fd < 0 || ftruncate(fd, len) < 0);
    close(fd);
}

static void once(void)
{
    char disk[TEMP_PATH_MAX], rom[TEMP_PATH_MAX];

    if (file_fd >= 0) {
        return;
    }
    make_file(disk, "fuzz-disk", RAM_LEN);
    make_file(rom, "fuzz-rom", 4096);
    open_machine(0, disk, rom);
    open_machine(1, disk, rom);
    unlink(disk);
    unlink(rom);
    file_fd = memfd_create("fuzz", MFD_CLOEXEC);
    BUG_ON(file_fd < 0);
}

/* fake_kvm has one VM at a time. */
static void choose(unsigned i)
{
    if (i != current) {
        machine[current].kvm = fake_vm;
        fake_vm = machine[i].kvm;
        current = i;
    }
}

static void put32(uint8_t *p, uint32_t v)
{
    struct bytes_wr wr = bytes_wr_make(p, 4);

    bytes_wr_u32(&wr, v);
}

static uint32_t get32(const uint8_t *p)
{
    struct bytes_rd rd = bytes_rd_make(p, 4);

    return bytes_rd_u32(&rd);
}

static void fix_sections(uint8_t *body, size_t len)
{
    size_t pos = 8;

    while (pos < len) {
        size_t covered = 1 + (size_t)body[pos] + 12, section_len;

        if (len - pos < covered + 4) {
            return;
        }
        section_len = get32(body + pos + covered - 4);
        if (section_len > len - pos - covered - 4) {
            return;
        }
        put32(body + pos + covered, crc32c(crc32c(0, body + pos, covered),
                                           body + pos + covered + 4, section_len));
        pos += covered + 4 + section_len;
    }
}

static void put_right(uint8_t *bytes, size_t len)
{
    uint64_t seq = 0, frames = 0, pages = 0;

    for (size_t pos = 0; len - pos >= FRAME_HEADER_LEN;) {
        uint8_t *body = bytes + pos + FRAME_HEADER_LEN;
        size_t room = len - pos - FRAME_HEADER_LEN;
        struct frame frame = {.type = (uint16_t)(bytes[pos + 4] | bytes[pos + 5] << 8),
                              .version = (uint16_t)(2 - bytes[pos + 6] % 2),
                              .seq = ++seq,
                              .body = body};

        frame.body_len = get32(bytes + pos + 16);
        frame.body_len = frame.body_len > room ? (uint32_t)room : frame.body_len;
        if (frame.type == STATE_FRAME_HEAD || frame.type == STATE_FRAME_STATE) {
            fix_sections(body, frame.body_len);
        } else if (frame.type == STATE_FRAME_RAM &&
                   frame.body_len >= STATE_STREAM_RAM_HEAD) {
            frames++;
            pages += get32(body + 8);
        } else if (frame.type == STATE_FRAME_END &&
                   frame.body_len == STATE_STREAM_END_LEN) {
            state_stream_end_body(body, frames, pages);
        }
        BUG_ON(frame_encode(&frame, STATE_STREAM_MAGIC, bytes + pos,
                            FRAME_HEADER_LEN + frame.body_len) == 0);
        pos += FRAME_HEADER_LEN + frame.body_len;
    }
}

/* Bit 2 of the input's first byte. */
static enum engine_ram_place place;

static int load(struct engine *e, struct vmm_error *err)
{
    BUG_ON(lseek(file_fd, 0, SEEK_SET) < 0);
    err->text[0] = '\0';
    return engine_state_load(e, file_fd, "fuzz.gms", place, err);
}

/* Leaves the file with what was saved. */
static uint32_t save(struct engine *e)
{
    static uint8_t bytes[8 << 20];
    struct vmm_error err;
    uint64_t len;

    BUG_ON(ftruncate(file_fd, 0) < 0 || lseek(file_fd, 0, SEEK_SET) < 0);
    BUG_ON(engine_state_save(e, file_fd, "fuzz.gms", place, &len, &err) < 0);
    BUG_ON(len > sizeof bytes || pread(file_fd, bytes, len, 0) != (ssize_t)len);
    return crc32c(0, bytes, len);
}

enum { LOADED, LOADED_OTHER, REFUSED, LOADED_APART };
FUZZ_GOALS("state of one machine loaded", "of the other", "refused with a reason",
           "without RAM loaded")

FUZZ_ONE(data, len)
{
    struct vmm_error err;
    struct engine *e;
    uint8_t *bytes;

    once();
    if (len == 0) {
        return 0;
    }
    choose(data[0] & 1);
    place = data[0] & 4 ? ENGINE_RAM_APART : ENGINE_RAM_IN_STATE;
    e = machine[current].engine;
    bytes = malloc(len);
    memcpy(bytes, data + 1, len - 1);
    if (data[0] & 2) {
        put_right(bytes, len - 1);
    }
    BUG_ON(ftruncate(file_fd, 0) < 0 ||
           pwrite(file_fd, bytes, len - 1, 0) != (ssize_t)(len - 1));
    free(bytes);
    if (load(e, &err) < 0) {
        fuzz_reach(REFUSED, err.text[0] != '\0');
        BUG_ON(strstr(err.text, "state file fuzz.gms is refused") == NULL);
    } else {
        uint32_t digest = save(e);

        fuzz_reach(current == 0 ? LOADED : LOADED_OTHER, true);
        fuzz_reach(LOADED_APART, place == ENGINE_RAM_APART);
        BUG_ON(load(e, &err) < 0);
        BUG_ON(save(e) != digest);
    }
    return 0;
}
