/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/engine_state: what was saved is what is restored, to the byte; a file that is not
 * whole, or not this VM's, starts nothing and says why. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/frame.h"
#include "base/state_io.h"
#include "base/units.h"
#include "tests/unit/unit.h"
#include "tests/unit/vmm/engine_rig.h"
#include "vmm/engine_state.h"
#include "vmm/state_stream.h"

/* Machines that the loops go over. */
static const unsigned machine_cpus[] = {0, 1, 4};

static void fill_ram(void)
{
    for (unsigned i = 0; i < 4096; i++) {
        fake_vm.ram[0x7000 + i] = (uint8_t)(i * 7 + 1);
        fake_vm.ram[0x9000 + i] = (uint8_t)(i * 3 + 1);
    }
    fake_vm.ram[0x8FFF] = 1; /* a run of more than one page */
    fake_vm.ram[ENGINE_RIG_RAM - 1] = 0x5A;
}

/* A file of a frozen VM that has run a little. */
static uint8_t *saved_vm(unsigned cpus, size_t *ret_len)
{
    uint8_t *bytes;
    int fd;

    atomic_store(&fake_guest.computes, true);
    er_go(cpus, ENGINE_RIG_RAM);
    er_start(1);
    ck_assert(er_runs_grow(1));
    er_freeze();
    fake_kvm_scramble(cpus + 1);
    fill_ram();
    fd = er_save();
    ck_assert_msg(fd >= 0, "%s", er.err.text);
    bytes = er_read(fd, ret_len);
    close(fd);
    return bytes;
}

/* Into the engine at hand, without running it. */
static int load(const uint8_t *bytes, size_t len)
{
    int fd = er_file(bytes, len), r;

    memset(&er.err, 0, sizeof er.err);
    r = engine_state_load(er.e, fd, "test.gms", ENGINE_RAM_IN_STATE, &er.err);
    close(fd);
    return r;
}

static uint8_t *save_again(size_t *ret_len)
{
    int fd = er_file(NULL, 0);
    uint64_t written;
    uint8_t *bytes;

    ck_assert_msg(engine_state_save(er.e, fd, "again.gms", ENGINE_RAM_IN_STATE, &written,
                                    &er.err) == 0,
                  "%s", er.err.text);
    bytes = er_read(fd, ret_len);
    ck_assert_uint_eq(written, *ret_len);
    close(fd);
    return bytes;
}

START_TEST(equal_bytes)
{
    unsigned cpus = machine_cpus[_i];
    size_t len, again_len;
    uint8_t *bytes = saved_vm(cpus, &len), *again;
    struct fake_vm *before = malloc(sizeof *before);

    memcpy(before, &fake_vm, sizeof fake_vm);
    er_close();
    er_open(cpus, ENGINE_RIG_RAM);
    ck_assert_msg(load(bytes, len) == 0, "%s", er.err.text);
    for (unsigned i = 0; i < fake_vm.vcpu_count; i++) {
        ck_assert_mem_eq(&before->vcpu[i].state.regs, &fake_vm.vcpu[i].state.regs,
                         sizeof(struct kvm_regs));
        ck_assert_mem_eq(before->vcpu[i].state.xsave, fake_vm.vcpu[i].state.xsave, 4096);
    }
    ck_assert_uint_eq(fake_vm.ram[0x7000], 1);
    ck_assert_uint_eq(fake_vm.ram[ENGINE_RIG_RAM - 1], 0x5A);
    again = save_again(&again_len);
    ck_assert_uint_eq(len, again_len);
    ck_assert_mem_eq(bytes, again, len);
    free(again);
    free(bytes);
    free(before);
}
END_TEST

/* Nothing of the boot that did not take place is left. */
START_TEST(ram_is_what_was_saved)
{
    size_t len;
    uint8_t *bytes = saved_vm(0, &len);
    uint8_t *ram;

    er_close();
    er_open(0, ENGINE_RIG_RAM);
    ck_assert_int_eq(load(bytes, len), 0);
    ram = fake_vm.ram;
    memset(ram + 0x7000, 0, 0x1000);
    memset(ram + 0x8FFF, 0, 0x1001);
    ram[ENGINE_RIG_RAM - 1] = 0;
    for (size_t i = 0; i < ENGINE_RIG_RAM; i++) {
        if (ram[i] != 0) {
            ck_abort_msg("byte %zu is not zero", i);
        }
    }
    free(bytes);
}
END_TEST

/* As an agent does it: START with the file, and it runs. */
START_TEST(goes_on)
{
    unsigned cpus = machine_cpus[_i], runs;
    size_t len;
    uint8_t *bytes = saved_vm(cpus, &len);
    struct engine_status before, after;

    engine_status(er.e, &before);
    er_close();
    er_go(cpus, ENGINE_RIG_RAM);
    runs = atomic_load(&fake_guest.runs);
    engine_restore(er.e, er_file(bytes, len), "test.gms", ENGINE_RAM_IN_STATE);
    er_start(9);
    ck_assert(er_runs_grow(runs));
    er_freeze();
    engine_status(er.e, &after);
    ck_assert_uint_ge(after.guest_ns, before.guest_ns); /* machine time goes on */
    ck_assert_uint_lt(after.guest_ns - before.guest_ns, 5 * NSEC_PER_SEC);
    free(bytes);
}
END_TEST

static void host_has(const char *name, bool yes)
{
    enum cpu_word word;
    unsigned bit;

    ck_assert(cpu_model_feature(name, &word, &bit));
    fake_host.model.word[word] &= ~(UINT32_C(1) << bit);
    fake_host.model.word[word] |= (uint32_t)yes << bit;
}

static struct cpu_model guest_sees(unsigned cpu)
{
    struct cpu_model m;

    cpuid_model_get(&fake_vm.vcpu[cpu].cpuid, 0, &m);
    return m;
}

/* A guest goes on with the processor it knows, on a host that has more; a host that has
 * less is told what it lacks, before anything of the VM is set. */
START_TEST(cpu_model_of_the_state)
{
    size_t len;
    uint8_t *bytes = saved_vm(2, &len);
    struct cpu_model before = guest_sees(1), now;

    ck_assert(cpu_model_has(&before, "avx2"));
    er_close();
    host_has("avx512f", true);
    er_open(2, ENGINE_RIG_RAM);
    now = guest_sees(1);
    ck_assert(cpu_model_has(&now, "avx512f"));
    ck_assert_msg(load(bytes, len) == 0, "%s", er.err.text);
    for (unsigned i = 0; i < 2; i++) {
        now = guest_sees(i);
        ck_assert(cpu_model_equal(&before, &now));
    }
    er_close();
    host_has("avx2", false);
    host_has("xsaves", false);
    er_open(2, ENGINE_RIG_RAM);
    memset(fake_vm.vcpu[0].order, 0, sizeof fake_vm.vcpu[0].order);
    ck_assert_int_lt(load(bytes, len), 0);
    ck_assert_msg(strstr(er.err.text, "this host cannot run its CPU model; it lacks: "
                                      "avx2, xsaves; the VM was not started"),
                  "%s", er.err.text);
    ck_assert_str_eq(fake_vm.vcpu[0].order, "");
    free(bytes);
}
END_TEST

START_TEST(save_only_when_frozen)
{
    int fd;

    er_go(0, ENGINE_RIG_RAM);
    ck_assert_int_eq(er_save(), -1);
    er_start(1);
    ck_assert_int_eq(er_save(), -1);
    er_freeze();
    fd = er_save();
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(engine_thaw(er.e, 2, "test"), RUN_DONE);
    ck_assert(er_wait(RUN_RUNNING));
    ck_assert_int_eq(er_save(), -1);
}
END_TEST

/* A THAW on the heels of a SAVE: the state is that from before it. */
START_TEST(thaw_waits_for_the_save)
{
    unsigned cpus = machine_cpus[_i];
    uint64_t epoch = 1;

    er_go(cpus, ENGINE_RIG_RAM);
    er_start(epoch);
    for (int i = 0; i < 20; i++) {
        struct engine_saved saved;
        int fd = er_file(NULL, 0);

        er_freeze();
        ck_assert_int_eq(engine_save(er.e, fd, "test.gms", ENGINE_RAM_IN_STATE), 0);
        ck_assert_int_eq(engine_thaw(er.e, ++epoch, "test"), RUN_DONE);
        ck_assert(er_wait(RUN_RUNNING));
        for (int k = 0; k < 1000 && !engine_take_saved(er.e, &saved); k++) {
            er_sleep_ms(5);
            ck_assert_int_lt(k, 999);
        }
        ck_assert_msg(saved.result == 0, "%s", saved.err.text);
    }
}
END_TEST

/* One at a time; the second's file is closed, the first goes on. */
START_TEST(one_save_at_a_time)
{
    struct engine_saved saved;
    uint8_t bytes[65536];
    int p[2];

    er_go(0, ENGINE_RIG_RAM);
    er_start(1);
    er_freeze();
    memset(fake_vm.ram, 0x11, ENGINE_RIG_RAM); /* more than a pipe takes */
    ck_assert_int_eq(pipe(p), 0);
    ck_assert_int_eq(engine_save(er.e, p[1], "pipe", ENGINE_RAM_IN_STATE), 0);
    ck_assert_int_eq(engine_save(er.e, er_file(NULL, 0), "test.gms", ENGINE_RAM_IN_STATE),
                     -EBUSY);
    while (read(p[0], bytes, sizeof bytes) > 0) {
    }
    close(p[0]);
    for (int k = 0; k < 1000 && !engine_take_saved(er.e, &saved); k++) {
        er_sleep_ms(5);
        ck_assert_int_lt(k, 999);
    }
    ck_assert_int_lt(saved.result, 0); /* a pipe cannot be synced */
    ck_assert_ptr_nonnull(strstr(saved.err.text, "cannot sync pipe"));
}
END_TEST

START_TEST(full_disk)
{
    uint64_t written;

    er_open(0, ENGINE_RIG_RAM);
    fill_ram();
    {
        int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

        ck_assert_int_eq(engine_state_save(er.e, fd, "test.gms", ENGINE_RAM_IN_STATE,
                                           &written, &er.err),
                         -ENOSPC);
        close(fd);
    }
    ck_assert_ptr_nonnull(strstr(er.err.text, "test.gms"));
}
END_TEST

/* Hostile files
 * ---------------------------------------------------------------------------------- */

/* The load fails with a text that names the file and says where and why. */
static void refused(const uint8_t *bytes, size_t len, const char *what, size_t at)
{
    int r = load(bytes, len);

    ck_assert_msg(r < 0, "%s %zu was accepted", what, at);
    ck_assert_msg(strstr(er.err.text, "state file test.gms is refused") != NULL &&
                      strlen(er.err.text) > 45,
                  "%s %zu: '%s'", what, at, er.err.text);
}

/* The same through START: nothing runs, the end has the reason. */
static void never_runs(unsigned cpus, const uint8_t *bytes, size_t len, const char *why)
{
    unsigned runs = atomic_load(&fake_guest.runs);
    struct engine_status s;

    er_close();
    er_go(cpus, ENGINE_RIG_RAM);
    engine_restore(er.e, er_file(bytes, len), "test.gms", ENGINE_RAM_IN_STATE);
    ck_assert_int_eq(engine_start(er.e, 9, "test"), RUN_DONE);
    ck_assert(er_wait(RUN_ENDED));
    engine_status(er.e, &s);
    ck_assert_int_eq(s.end, RUN_END_HOST);
    ck_assert_uint_eq(atomic_load(&fake_guest.runs), runs);
    ck_assert_msg(strstr(s.reason, "test.gms") && strstr(s.reason, why), "%s", s.reason);
}

START_TEST(cut_anywhere)
{
    unsigned cpus = machine_cpus[_i];
    size_t len;
    uint8_t *bytes = saved_vm(cpus, &len);

    er_close();
    er_open(cpus, ENGINE_RIG_RAM);
    for (size_t at = 0; at < len; at += at < 8192 ? 1 : 1024 - at % 1024) {
        refused(bytes, at, "cut at", at);
    }
    refused(bytes, len - 1, "cut at", len - 1);
    ck_assert_msg(load(bytes, len) == 0, "%s",
                  er.err.text); /* and the test is not blind */
    never_runs(cpus, bytes, len - 1, "middle of a frame");
    never_runs(cpus, bytes, 0, "too early");
    never_runs(cpus, bytes, len / 2, "refused at byte");
    free(bytes);
}
END_TEST

static void flip_all(uint8_t *bytes, size_t len, size_t from, size_t to)
{
    for (size_t bit = from * 8; bit < to * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        refused(bytes, len, "bit", bit);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

/* Header and body of the frame at `pos`. */
static size_t frame_len(const uint8_t *bytes, size_t pos)
{
    return FRAME_HEADER_LEN + frame_body_len(bytes + pos);
}

START_TEST(any_bit)
{
    unsigned cpus = machine_cpus[_i], frames = 0;
    size_t len;
    uint8_t *bytes = saved_vm(cpus, &len);

    er_close();
    er_open(cpus, ENGINE_RIG_RAM);
    for (size_t pos = 0; pos < len; pos += frame_len(bytes, pos)) {
        size_t whole = frame_len(bytes, pos);

        /* All of HEAD and END; of the others the header, and the ends of the body. */
        flip_all(bytes, len, pos, pos + (whole < 512 ? whole : FRAME_HEADER_LEN + 16));
        if (whole >= 512) {
            flip_all(bytes, len, pos + whole - 2, pos + whole);
        }
        frames++;
    }
    ck_assert_uint_ge(frames, 5);
    ck_assert_msg(load(bytes, len) == 0, "%s", er.err.text);
    bytes[40] ^= 1;
    never_runs(cpus, bytes, len, "body checksum differs");
    free(bytes);
}
END_TEST

/* Whoever can compute checksums can write anything. */
static void fix_frame(uint8_t *bytes, size_t pos)
{
    struct frame frame = {.type = (uint16_t)(bytes[pos + 4] | bytes[pos + 5] << 8),
                          .version = (uint16_t)(bytes[pos + 6] | bytes[pos + 7] << 8),
                          .seq = bytes[pos + 8],
                          .body = bytes + pos + FRAME_HEADER_LEN,
                          .body_len = frame_body_len(bytes + pos)};

    (void)frame_encode(&frame, STATE_STREAM_MAGIC, bytes + pos,
                       FRAME_HEADER_LEN + frame.body_len);
}

/* The crc of the section whose name begins at `at` of a frame's body. */
static void fix_section(uint8_t *section)
{
    size_t covered = 1 + (size_t)section[0] + 12;
    uint32_t body_len, crc;

    memcpy(&body_len, section + covered - 4, 4);
    crc = crc32c(crc32c(0, section, covered), section + covered + 4, body_len);
    memcpy(section + covered, &crc, 4);
}

/* Any byte of HEAD changed with checksums put right: refused, by the name of a field. */
START_TEST(another_vm)
{
    static const struct {
        size_t at;
        const char *field;
    } byte[] = {
        {0, "machine"}, {1, "transport"}, {2, "cpus"}, {6, "memory"}, {13, "memory"}};
    unsigned cpus = machine_cpus[_i];
    size_t len;
    uint8_t *bytes = saved_vm(cpus, &len);
    uint8_t *section = bytes + FRAME_HEADER_LEN + 8; /* of HEAD: "vm" */
    uint8_t *body = section + 1 + 2 + 12 + 4;

    er_close();
    er_open(cpus, ENGINE_RIG_RAM);
    ck_assert_mem_eq(section, "\2vm", 3);
    for (size_t i = 0; i < ARRAY_SIZE(byte); i++) {
        body[byte[i].at] ^= 1;
        fix_section(section);
        fix_frame(bytes, 0);
        refused(bytes, len, byte[i].field, i);
        ck_assert_msg(strstr(er.err.text, "section vm.0, field") &&
                          strstr(er.err.text, byte[i].field),
                      "%s", er.err.text);
        body[byte[i].at] ^= 1;
    }
    fix_section(section);
    fix_frame(bytes, 0);
    bytes[6] = 2; /* frame version */
    fix_frame(bytes, 0);
    refused(bytes, len, "version", 2);
    ck_assert_ptr_nonnull(strstr(er.err.text, "later version"));
    free(bytes);
}
END_TEST

START_TEST(another_size)
{
    size_t len;
    uint8_t *bytes = saved_vm(0, &len);

    er_close();
    er_open(0, 2 * ENGINE_RIG_RAM);
    refused(bytes, len, "memory", 0);
    ck_assert_ptr_nonnull(strstr(er.err.text, "field memory"));
    er_close();
    er_open(2, ENGINE_RIG_RAM);
    refused(bytes, len, "machine", 0);
    ck_assert_ptr_nonnull(strstr(er.err.text, "field machine"));
    free(bytes);
}
END_TEST

/* Frames after END, twice, left out. */
START_TEST(frames_out_of_place)
{
    size_t len, head, state;
    uint8_t *bytes = saved_vm(0, &len), *other = malloc(2 * len);

    er_close();
    er_open(0, ENGINE_RIG_RAM);
    head = frame_len(bytes, 0);
    state = frame_len(bytes, head);
    memcpy(other, bytes, len);
    memcpy(other + len, bytes, head); /* HEAD once more behind END */
    refused(other, len + head, "HEAD twice", 0);
    memcpy(other + len, "x", 1);
    refused(other, len + 1, "a byte too many", 0);
    refused(bytes + head, len - head, "no HEAD", 0);
    memcpy(other, bytes, head);
    memcpy(other + head, bytes + head + state, len - head - state);
    refused(other, len - state, "no STATE", 0);
    free(other);
    free(bytes);
}
END_TEST

/* KVM has the last word, and is not passed over: a part that it does not take back (FPU
 * state of another processor) is no restored VM. */
START_TEST(kvm_refuses)
{
    static const struct {
        enum kvm_part part;
        const char *name;
    } part[] = {{KVM_PART_XSAVE, "FPU state"},
                {KVM_PART_XCRS, "extended control registers"},
                {KVM_PART_SREGS, "special registers"},
                {KVM_PART_DEBUGREGS, "debug registers"},
                {KVM_PART_EVENTS, "pending events"}};
    size_t len;
    uint8_t *bytes = saved_vm(0, &len);

    er_close();
    for (size_t i = 0; i < ARRAY_SIZE(part); i++) {
        er_open(0, ENGINE_RIG_RAM);
        fake_vm.refuse_part = (int)part[i].part;
        refused(bytes, len, "part", i);
        ck_assert_msg(strstr(er.err.text, part[i].name) != NULL, "%s", er.err.text);
        fake_vm.refuse_part = -1;
        er_close();
    }
    /* An MSR (the scrambled values are no zeros) that this host cannot set is one too. */
    fake_host.no_msr = 0x277;
    er_open(0, ENGINE_RIG_RAM);
    refused(bytes, len, "MSR", 277);
    ck_assert_msg(strstr(er.err.text, "value of MSR 0x277") != NULL, "%s", er.err.text);
    fake_host.no_msr = 0;
    er_close();
    /* A host without it: runs and saves what it has, and does not take what it cannot. */
    fake_vm.no_part = KVM_PART_XCRS;
    er_open(0, ENGINE_RIG_RAM);
    refused(bytes, len, "part", 99);
    free(bytes);
    er_close();
    bytes = saved_vm(0, &len);
    er_close();
    er_open(0, ENGINE_RIG_RAM);
    ck_assert_msg(load(bytes, len) == 0, "%s", er.err.text);
    free(bytes);
}
END_TEST

/* KVM computes from the TSC of that moment when a deadline timer fires. */
START_TEST(deadline_after_the_tsc)
{
    size_t len;
    uint8_t *bytes = saved_vm(2, &len);

    er_close();
    er_open(2, ENGINE_RIG_RAM);
    memset(fake_vm.vcpu[0].order, 0, sizeof fake_vm.vcpu[0].order);
    memset(fake_vm.vcpu[1].order, 0, sizeof fake_vm.vcpu[1].order);
    ck_assert_int_eq(load(bytes, len), 0);
    for (unsigned i = 0; i < 2; i++) {
        const char *order = fake_vm.vcpu[i].order;
        const char *tsc = strchr(order, 'T'), *deadline = strrchr(order, 'D');
        const char *lapic = strchr(order, 'a' + KVM_PART_LAPIC);

        ck_assert_ptr_nonnull(tsc);
        ck_assert_ptr_nonnull(deadline);
        ck_assert_ptr_nonnull(lapic);
        ck_assert_msg(lapic < tsc && tsc < deadline, "order %s", order);
    }
    free(bytes);
}
END_TEST

/* One that waits in HLT is not entered before an interrupt came, and none is injected
 * before KVM has said that it is ready: which it says after KVM_RUN only. */
START_TEST(halted_vcpu_takes_interrupts)
{
    size_t len;
    uint8_t *bytes = saved_vm(0, &len);

    er_close();
    er_open(0, ENGINE_RIG_RAM);
    ck_assert(!fake_vm.vcpu[0].run->ready_for_interrupt_injection);
    ck_assert_int_eq(load(bytes, len), 0);
    ck_assert(fake_vm.vcpu[0].run->ready_for_interrupt_injection);
    free(bytes);
}
END_TEST

/* A START that was refused leaves nothing behind for the next one. */
START_TEST(refused_start_forgets_the_file)
{
    size_t len;
    uint8_t *bytes = saved_vm(0, &len);

    er_close();
    er_go(0, ENGINE_RIG_RAM);
    engine_restore(er.e, er_file(bytes, 10), "bad.gms", ENGINE_RAM_IN_STATE);
    engine_restore(er.e, er_file(bytes, len), "test.gms",
                   ENGINE_RAM_IN_STATE); /* the newer one counts */
    er_start(5);
    free(bytes);
}
END_TEST

START_TEST(killed_while_saving)
{
    er_go(0, UINT64_C(64) << 20);
    er_start(1);
    er_freeze();
    memset(fake_vm.ram, 0x11, 64 << 20);
    ck_assert_int_eq(engine_save(er.e, er_file(NULL, 0), "test.gms", ENGINE_RAM_IN_STATE),
                     0);
    ck_assert_int_eq(engine_end(er.e, RUN_END_KILLED, "test"), RUN_DONE);
    ck_assert(er_wait(RUN_ENDED));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine_state");
    TCase *t = tcase_create("engine_state");
    int n = ARRAY_SIZE(machine_cpus);

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, er_setup, er_teardown);
    tcase_add_loop_test(t, equal_bytes, 0, n);
    tcase_add_test(t, ram_is_what_was_saved);
    tcase_add_loop_test(t, goes_on, 0, n);
    tcase_add_test(t, cpu_model_of_the_state);
    tcase_add_test(t, save_only_when_frozen);
    tcase_add_loop_test(t, thaw_waits_for_the_save, 0, n);
    tcase_add_test(t, one_save_at_a_time);
    tcase_add_test(t, full_disk);
    tcase_add_loop_test(t, cut_anywhere, 0, n);
    tcase_add_loop_test(t, any_bit, 0, n);
    tcase_add_loop_test(t, another_vm, 0, n);
    tcase_add_test(t, another_size);
    tcase_add_test(t, frames_out_of_place);
    tcase_add_test(t, kvm_refuses);
    tcase_add_test(t, deadline_after_the_tsc);
    tcase_add_test(t, halted_vcpu_takes_interrupts);
    tcase_add_test(t, refused_start_forgets_the_file);
    tcase_add_test(t, killed_while_saving);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
