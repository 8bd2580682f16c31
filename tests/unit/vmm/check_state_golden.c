/* SPDX-License-Identifier: Apache-2.0 */
/*
 * States saved by earlier versions (tests/golden/state) are read, and are what they were.
 * `check_state_golden write DIR` makes those of this version: devices driven by hand on
 * machine_rig, registers and memory from a formula, nothing of a clock or of a host.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/crc32c.h"
#include "base/frame.h"
#include "base/units.h"
#include "tests/unit/golden.h"
#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"
#include "tests/unit/vmm/fake_kvm.h"
#include "tests/unit/vmm/machine_rig.h"
#include "vmm/cpu_state.h"
#include "vmm/engine.h"
#include "vmm/engine_state.h"
#include "vmm/state_stream.h"

#define RAM_LEN    (UINT64_C(1) << 20)
#define MACHINE_NS UINT64_C(1234567890)

/* The digest is of a state that this version saves right after the load: it changes with
 * each version of a section, the file does not. */
static const struct golden {
    const char *file;
    enum machine_type machine;
    enum machine_transport transport;
    unsigned cpus;
    uint32_t digest;
    const char *cpu_model; /* since version 2 */
} golden[] = {
    {"lockstep-1.gms", MACHINE_LOCKSTEP, MACHINE_TRANSPORT_MMIO, 1, 0xc718b75e, NULL},
    {"standard-1.gms", MACHINE_STANDARD, MACHINE_TRANSPORT_PCI, 2, 0x2425c263, NULL},
    {"standard-mmio-1.gms", MACHINE_STANDARD, MACHINE_TRANSPORT_MMIO, 1, 0x391ea677,
     NULL},
    {"standard-2.gms", MACHINE_STANDARD, MACHINE_TRANSPORT_PCI, 2, 0xa859c1f5,
     "vendor=GenuineIntel family=6 model=85 stepping=4 level=13 xlevel=2147483681 "
     "phys=46 linear=48 features=fpu,tsc,apic,x2apic,hypervisor,xsave,avx,lm,kvmclock2"},
};

/* Writing
 * ------------------------------------------------------------------------------------ */

static uint8_t buf[4 * 1024 * 1024];
static struct rig rig;

static void formula(void *p, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)p)[i] = (uint8_t)(rig_random(&seed) >> 56);
    }
}

static void drive_devices(const struct golden *g)
{
    static const uint16_t port[][2] = {
        {0x3FB, 0x83}, {0x3F8, 0x0C}, {0x3FB, 0x03}, {0x3F9, 0x05}, {0x3FF, 0x5A},
        {0x70, 0x0B},  {0x71, 0x42},  {0x70, 0x40},  {0x71, 0x77},
    };
    struct rig_ring ring[3];
    struct machine_conf conf = {
        .type = g->machine,
        .transport = g->transport,
        .cpu_count = g->cpus,
        .ram_len = RAM_LEN,
        .disk_count = 1,
        .nic_count = 1,
        .extras = g->machine == MACHINE_STANDARD ? MACHINE_EXTRAS_ALL : 0,
        .disk = {{.sectors = RAM_LEN / 512, .serial = "golden"}},
        .nic = {{.mac = {2, 0, 0, 0, 0, 7}}},
        .cmdline = "golden"};

    rig_init(&rig, &conf);
    rig_clock(&rig, MACHINE_NS / 2);
    for (size_t i = 0; i < ARRAY_SIZE(port); i++) {
        rig_out(&rig, port[i][0], 1, port[i][1]);
    }
    if (g->machine == MACHINE_LOCKSTEP) {
        rig_pic_init(&rig);
        rig_out(&rig, 0x43, 1, 0x34); /* counter 0, mode 2, 100 Hz */
        rig_out(&rig, 0x40, 1, 0x9B);
        rig_out(&rig, 0x40, 1, 0x2E);
    }
    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX, ring, 1, 0x1000);
    rig_virtio_start(&rig, 1, VIRTIO_F_VERSION_1, ring + 1, 2, 0x3000);
    rig_clock(&rig, MACHINE_NS);
}

static void make_cpu(struct vcpu_state *cpu, bool standard, unsigned id)
{
    uint32_t n = 0;

    memset(cpu, 0, sizeof *cpu);
    cpu->parts =
        VCPU_PARTS_ALWAYS | VCPU_PARTS_MAYBE | (standard ? VCPU_PARTS_STANDARD : 0);
    formula(&cpu->regs, sizeof cpu->regs, 100 + id);
    formula(cpu->xsave, 512, 200 + id);
    cpu->sregs.cr0 = 0x80050033;
    cpu->sregs.cr3 = 0x5000 + id;
    cpu->sregs.efer = 0xD01;
    cpu->xcrs.nr_xcrs = 1;
    cpu->xcrs.xcrs[0].value = 7;
    cpu->lapic.regs[0x23] = (char)id;
    cpu->tsc = 0x123456789A + id;
    for (size_t i = 0; i < msr_guest_count + msr_standard_count; i++) {
        uint32_t index =
            i < msr_guest_count ? msr_guest[i] : msr_standard[i - msr_guest_count];

        if (msr_known(index, standard)) {
            cpu->msrs.list.entries[n].index = index;
            cpu->msrs.list.entries[n++].data = 0x1000 * i + id;
        }
    }
    cpu->msrs.list.nmsrs = n;
}

static size_t write_state(const struct golden *g, uint8_t *body)
{
    static struct vcpu_state cpu;
    static struct irqchip_state chip;
    bool standard = g->machine == MACHINE_STANDARD;
    struct vm_clock_state clock = {.machine_ns = MACHINE_NS,
                                   .kvm_ns = standard ? MACHINE_NS + 1 : 0,
                                   .halted = !standard,
                                   .wall_ns =
                                       standard ? UINT64_C(1700000000000000000) : 0};
    struct state_io io;

    state_save_init(&io, body, sizeof buf - FRAME_HEADER_LEN);
    BUG_ON(machine_xfer(rig.m, &io) != 0);
    state_section_begin(&io, "clock", 0, CLOCK_SECTION_VERSION, 1);
    BUG_ON(clock_state_xfer(&clock, &io) != 0);
    state_section_end(&io);
    if (standard) {
        formula(&chip, sizeof chip, 300);
        state_section_begin(&io, "irqchip", 0, IRQCHIP_SECTION_VERSION, 1);
        BUG_ON(irqchip_state_xfer(&chip, &io) != 0);
        state_section_end(&io);
    }
    for (unsigned i = 0; i < g->cpus; i++) {
        make_cpu(&cpu, standard, i);
        state_section_begin(&io, "vcpu", (uint16_t)i, CPU_SECTION_VERSION, 1);
        BUG_ON(cpu_state_xfer(&cpu, standard, &io) != 0);
        state_section_end(&io);
    }
    return state_save_finish(&io);
}

/* What vm_xfer and cpu_model_xfer of engine_state.c write. */
static size_t write_head(const struct golden *g, uint8_t *body)
{
    uint8_t machine = (uint8_t)g->machine, transport = (uint8_t)g->transport;
    uint32_t cpus = g->cpus;
    uint64_t ram_len = RAM_LEN;
    struct state_io io;

    state_save_init(&io, body, 1024);
    state_section_begin(&io, "vm", 0, 1, 1);
    state_u8(&io, &machine);
    state_u8(&io, &transport);
    state_u32(&io, &cpus);
    state_u64(&io, &ram_len);
    state_section_end(&io);
    if (g->cpu_model) {
        uint16_t len = (uint16_t)strlen(g->cpu_model);

        state_section_begin(&io, "cpu-model", 0, 1, 1);
        state_u16(&io, &len);
        state_bytes(&io, (char *)(uintptr_t)g->cpu_model, len);
        state_section_end(&io);
    }
    return state_save_finish(&io);
}

/* The rings, and a page behind them. */
static size_t write_ram(uint8_t *body)
{
    state_stream_ram_head(body, 1, 4);
    memcpy(body + STATE_STREAM_RAM_HEAD, rig.ram + 0x1000, 0x3000);
    formula(body + STATE_STREAM_RAM_HEAD + 0x3000, 0x1000, 400);
    return STATE_STREAM_RAM_HEAD + 0x4000;
}

static void put_frame(int fd, uint64_t seq, enum state_frame type, size_t body_len)
{
    struct frame frame = {.type = (uint16_t)type,
                          .version = STATE_STREAM_FORMAT,
                          .seq = seq,
                          .body = buf + FRAME_HEADER_LEN,
                          .body_len = (uint32_t)body_len};
    size_t len = frame_encode(&frame, STATE_STREAM_MAGIC, buf, sizeof buf);

    BUG_ON(len == 0 || write(fd, buf, len) != (ssize_t)len);
}

static int write_golden(const char *dir)
{
    for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
        char path[512];
        uint8_t *body = buf + FRAME_HEADER_LEN;
        int fd;

        snprintf(path, sizeof path, "%s/%s", dir, golden[i].file);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0) {
            perror(path);
            return EXIT_FAILURE;
        }
        drive_devices(&golden[i]);
        put_frame(fd, 1, STATE_FRAME_HEAD, write_head(&golden[i], body));
        put_frame(fd, 2, STATE_FRAME_STATE, write_state(&golden[i], body));
        put_frame(fd, 3, STATE_FRAME_RAM, write_ram(body));
        state_stream_end_body(body, 1, 4);
        put_frame(fd, 4, STATE_FRAME_END, STATE_STREAM_END_LEN);
        rig_free(&rig);
        close(fd);
    }
    return EXIT_SUCCESS;
}

/* Reading
 * ------------------------------------------------------------------------------------ */

static char disk_path[TEMP_PATH_MAX], rom_path[TEMP_PATH_MAX];
static struct engine *engine;
static struct vmm_error err;

static void make_file(char *path, const char *name, off_t len)
{
    int fd = mkstemp(temp_path(path, name));

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, len), 0);
    close(fd);
}

static void setup(void)
{
    fake_kvm_reset();
    make_file(disk_path, "disk", RAM_LEN);
    make_file(rom_path, "rom", 4096);
}

static void teardown(void)
{
    engine_close(engine);
    engine = NULL;
    unlink(disk_path);
    unlink(rom_path);
}

static void open_engine(const struct golden *g)
{
    struct engine_conf conf = {.kvm = &fake_kvm,
                               .kvm_path = "fake",
                               .machine = g->machine,
                               .transport = g->transport,
                               .cpu_count = g->cpus,
                               .rom_path = rom_path,
                               .ram_len = RAM_LEN,
                               .cmdline = "golden",
                               .disk_count = 1,
                               .disk[0].serial = "golden",
                               .nic_count = 1,
                               .nic[0].mac = {2, 0, 0, 0, 0, 7}};

    memcpy(conf.disk[0].path, disk_path, sizeof disk_path);
    conf.nic[0].fd[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
    ck_assert_msg(engine_open(&conf, &engine, &err) == 0, "%s", err.text);
}

static uint32_t digest_now(void)
{
    FILE *file = tmpfile();
    uint64_t len;
    uint32_t digest;

    ck_assert_msg(engine_state_save(engine, fileno(file), "again", ENGINE_RAM_IN_STATE,
                                    &len, &err) == 0,
                  "%s", err.text);
    ck_assert_uint_le(len, sizeof buf);
    ck_assert_int_eq(pread(fileno(file), buf, len, 0), (ssize_t)len);
    digest = crc32c(0, buf, len);
    fclose(file);
    return digest;
}

START_TEST(still_read)
{
    const struct golden *g = &golden[_i];
    struct kvm_regs regs;
    char name[64];
    uint32_t digest;
    uint8_t *bytes;
    size_t len;
    FILE *file = tmpfile();

    snprintf(name, sizeof name, "state/%s", g->file);
    bytes = golden_load(name, &len);
    ck_assert_uint_lt(len, 100 * 1024);
    ck_assert_int_eq(pwrite(fileno(file), bytes, len, 0), (ssize_t)len);
    free(bytes);
    open_engine(g);
    ck_assert_msg(
        engine_state_load(engine, fileno(file), name, ENGINE_RAM_IN_STATE, &err) == 0,
        "%s", err.text);
    fclose(file);
    for (unsigned i = 0; i < g->cpus; i++) {
        formula(&regs, sizeof regs, 100 + i);
        ck_assert_mem_eq(&regs, &fake_vm.vcpu[i].state.regs, sizeof regs);
    }
    formula(buf, 0x1000, 400);
    ck_assert_mem_eq(buf, fake_vm.ram + 0x4000, 0x1000);
    digest = digest_now();
    ck_assert_msg(digest == g->digest, "%s: digest %#x, not %#x", g->file, digest,
                  g->digest);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("state_golden");
    TCase *t = tcase_create("state_golden");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, still_read, 0, ARRAY_SIZE(golden));
    suite_add_tcase(s, t);
    return s;
}

int main(int argc, char **argv)
{
    return argc == 3 && strcmp(argv[1], "write") == 0 ? write_golden(argv[2])
                                                      : unit_main(suite());
}
