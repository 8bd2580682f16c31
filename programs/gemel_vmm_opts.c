/* SPDX-License-Identifier: Apache-2.0 */
#include "programs/gemel_vmm_opts.h"

#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/uuid.h"

#define EXIT_USAGE   2
#define OPTION_FIRST 256 /* option_table[0], for getopt */

__attribute__((format(printf, 1, 2))) static int wrong(const char *format, ...)
{
    va_list args;

    fputs("gemel-vmm: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputs("; try --help\n", stderr);
    return -EINVAL;
}

/* Digits, and K, M or G. */
static int parse_size(const char *option, const char *text, uint64_t *ret_bytes)
{
    static const char unit[] = "KMG";
    char digits[24];
    size_t len = strlen(text);
    unsigned shift = 0;
    uint64_t v;

    if (len > 0 && strchr(unit, text[len - 1])) {
        shift = 10 * (unsigned)(strchr(unit, text[len - 1]) - unit + 1);
        len--;
    }
    if (len >= sizeof digits) {
        len = 0;
    }
    memcpy(digits, text, len);
    digits[len] = '\0';
    if (!text_u64(digits, 1, UINT64_MAX >> shift, &v)) {
        return wrong("--%s %s: not a size; write 64M or 1G", option, text);
    }
    *ret_bytes = v << shift;
    return 0;
}

static int parse_fd(const char *option, const char *text, int *ret_fd)
{
    uint64_t v;

    if (!text_u64(text, 0, 1 << 20, &v)) {
        return wrong("--%s %s: not a file descriptor number", option, text);
    }
    *ret_fd = (int)v;
    return 0;
}

/* Not root, and not the one that says "no change". */
static int parse_id(const char *option, const char *text, uint32_t *ret_id)
{
    uint64_t v;

    if (!text_u64(text, 1, UINT32_MAX - 1, &v)) {
        return wrong("--%s %s: not the number of a user or group other than root", option,
                     text);
    }
    *ret_id = (uint32_t)v;
    return 0;
}

static int parse_uuid(const char *option, const char *text, struct uuid *ret_uuid)
{
    return uuid_parse(text, ret_uuid)
               ? 0
               : wrong("--%s %s: not a UUID such as 6c1f0bd2-8f5e-4c39-9d5c-2f6a0a1b2c3d",
                       option, text);
}

static int parse_count(const char *option, const char *text, uint64_t *ret_count)
{
    return text_u64(text, 1, UINT32_MAX, ret_count)
               ? 0
               : wrong("--%s=%s: a number of at least 1", option, text);
}

/* N or N+K */
static bool parse_until(const char *text, struct ft_pos *ret_until)
{
    size_t len = strcspn(text, "+");
    char exits[24] = "";

    if (len >= sizeof exits) {
        return false;
    }
    memcpy(exits, text, len);
    ret_until->steps = 0;
    return text_u64(exits, 0, UINT64_MAX - 1, &ret_until->exits) &&
           (text[len] == '\0' ||
            text_u64(text + len + 1, 0, UINT64_MAX, &ret_until->steps));
}

static int parse_policy(const char *text, enum engine_disk_policy *ret_policy)
{
    static const char *const word[] = {[ENGINE_DISK_REPORT] = "report",
                                       [ENGINE_DISK_PAUSE] = "pause",
                                       [ENGINE_DISK_STOP] = "stop"};

    for (unsigned i = 0; i < ARRAY_SIZE(word); i++) {
        if (strcmp(text, word[i]) == 0) {
            *ret_policy = (enum engine_disk_policy)i;
            return 0;
        }
    }
    return wrong("--disk on-error=%s: report, pause or stop", text);
}

/* path=FILE and the like. False: `text` is something else. */
static bool disk_place(const char *text, struct engine_disk_conf *disk, int *ret_r)
{
    static const char *const word[] = {
        [DISK_RAW] = "path=", [DISK_NBD] = "nbd=", [DISK_QCOW2] = "qcow2="};

    for (unsigned i = 0; i < ARRAY_SIZE(word); i++) {
        size_t len = strlen(word[i]);

        if (strncmp(text, word[i], len) != 0) {
            continue;
        }
        if (disk->path[0]) {
            *ret_r = wrong("--disk: give one of path=, nbd=, qcow2=");
        } else if (!text_copy(disk->path, sizeof disk->path, text + len)) {
            *ret_r =
                wrong("--disk: the path is longer than %zu bytes", sizeof disk->path - 1);
        }
        disk->kind = (enum disk_kind)i;
        return true;
    }
    return false;
}

static int take_disk(struct vmm_opts *o, char *text)
{
    struct engine_conf *conf = &o->engine;
    int r = 0;

    struct engine_disk_conf disk = {0};
    bool policy = false;
    char *save = NULL;

    if (conf->disk_count == VM_DISKS_MAX) {
        return wrong("too many disks: at most %d", VM_DISKS_MAX);
    }
    for (char *t = strtok_r(text, ",", &save); t && r == 0;
         t = strtok_r(NULL, ",", &save)) {
        if (disk_place(t, &disk, &r)) {
            continue;
        }
        if (strncmp(t, "serial=", 7) == 0) {
            if (!text_copy(disk.serial, sizeof disk.serial, t + 7)) {
                return wrong("--disk serial=%s: at most 20 characters", t + 7);
            }
        } else if (strcmp(t, "readonly") == 0) {
            disk.read_only = true;
        } else if (strcmp(t, "epoch") == 0) {
            disk.by_epoch = true;
        } else if (strncmp(t, "on-error=", 9) == 0) {
            r = parse_policy(t + 9, &disk.on_error);
            policy = true;
        } else if (strncmp(t, "bps=", 4) == 0) {
            r = parse_size("disk bps", t + 4, &disk.bytes_per_s);
        } else if (strncmp(t, "iops=", 5) == 0) {
            r = parse_count("disk iops", t + 5, &disk.requests_per_s);
        } else {
            return wrong(
                "--disk: unknown part '%s'; known are path=, nbd=, qcow2=, serial=, "
                "epoch, readonly, on-error=, bps=, iops=",
                t);
        }
    }
    if (r < 0) {
        return r;
    }
    if (!disk.path[0]) {
        return wrong("--disk: path=, nbd= or qcow2= is missing");
    }
    if (disk.by_epoch && disk.kind != DISK_NBD) {
        return wrong("--disk: epoch is for nbd= only");
    }
    if (disk.by_epoch && disk.read_only) {
        return wrong("--disk: epoch keeps writers apart, and would cut off every other "
                     "reader; leave it out of a disk that is readonly");
    }
    /* A guest that is cut off is not told of errors: it has a next life elsewhere. */
    if (disk.by_epoch && disk.on_error == ENGINE_DISK_REPORT) {
        if (policy) {
            return wrong("--disk: epoch does not go with on-error=report; give pause or "
                         "stop, or leave it out (pause)");
        }
        disk.on_error = ENGINE_DISK_PAUSE;
    }
    conf->disk[conf->disk_count++] = disk;
    return 0;
}

static int parse_mac(const char *text, uint8_t mac[6])
{
    unsigned b[6];
    char rest;

    if (strlen(text) != 17 || sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1],
                                     &b[2], &b[3], &b[4], &b[5], &rest) != 6) {
        return wrong("--nic mac=%s: not a MAC address such as 52:54:00:12:34:56", text);
    }
    if (b[0] & 1) {
        return wrong("--nic mac=%s: this is a multicast address", text);
    }
    for (int i = 0; i < 6; i++) {
        mac[i] = (uint8_t)b[i];
    }
    return 0;
}

static int take_nic(struct vmm_opts *o, char *text)
{
    struct engine_nic_conf nic = {.queue_count = 0};
    uint64_t queues = 0;
    char tap[16] = "";
    char *save = NULL;
    int r = 0;

    if (o->engine.nic_count == VM_NICS_MAX) {
        return wrong("too many nics: at most %d", VM_NICS_MAX);
    }
    memcpy(nic.mac,
           (const uint8_t[]){0x52, 0x54, 0, 0, 0, (uint8_t)(1 + o->engine.nic_count)}, 6);
    for (char *t = strtok_r(text, ",", &save); t && r == 0;
         t = strtok_r(NULL, ",", &save)) {
        if (strncmp(t, "tap=", 4) == 0) {
            if (t[4] == '\0' || !text_copy(tap, sizeof tap, t + 4)) {
                return wrong("--nic tap=%s: an interface name has 1 to 15 characters",
                             t + 4);
            }
        } else if (strncmp(t, "fd=", 3) == 0) {
            if (nic.queue_count == ENGINE_QUEUES_OF_NIC) {
                return wrong("--nic fd=: at most %d, one for each queue",
                             ENGINE_QUEUES_OF_NIC);
            }
            r = parse_fd("nic fd", t + 3, &nic.fd[nic.queue_count++]);
        } else if (strncmp(t, "queues=", 7) == 0) {
            if (!text_u64(t + 7, 1, ENGINE_QUEUES_OF_NIC, &queues)) {
                return wrong("--nic queues=%s: a number from 1 to %d", t + 7,
                             ENGINE_QUEUES_OF_NIC);
            }
        } else if (strncmp(t, "mac=", 4) == 0) {
            r = parse_mac(t + 4, nic.mac);
        } else if (strncmp(t, "bps=", 4) == 0) {
            r = parse_size("nic bps", t + 4, &nic.bytes_per_s);
        } else if (strncmp(t, "pps=", 4) == 0) {
            r = parse_count("nic pps", t + 4, &nic.packets_per_s);
        } else {
            return wrong("--nic: unknown part '%s'; known are tap=, queues=, fd=, mac=, "
                         "bps=, pps=",
                         t);
        }
    }
    if (r == 0 && (tap[0] != '\0') == (nic.queue_count > 0)) {
        return wrong("--nic: give either tap=NAME or fd=N");
    }
    if (r == 0 && tap[0] == '\0' && queues != 0 && queues != nic.queue_count) {
        return wrong("--nic queues=%llu: give as many fd=N", (unsigned long long)queues);
    }
    if (tap[0] != '\0') {
        nic.queue_count = queues != 0 ? (unsigned)queues : 1;
    }
    memcpy(o->nic_tap[o->engine.nic_count], tap, sizeof tap);
    o->engine.nic[o->engine.nic_count++] = nic;
    return r;
}

static int take_machine(struct vmm_opts *o, char *text)
{
    if (strcmp(text, "lockstep") == 0) {
        o->engine.machine = MACHINE_LOCKSTEP;
    } else if (strcmp(text, "standard") == 0) {
        o->engine.machine = MACHINE_STANDARD;
    } else {
        return wrong("--machine %s: lockstep or standard", text);
    }
    return 0;
}

static int take_cpus(struct vmm_opts *o, char *text)
{
    uint64_t v;

    if (!text_u64(text, 1, ENGINE_CPUS_MAX, &v)) {
        return wrong("--cpus %s: a number from 1 to %d", text, ENGINE_CPUS_MAX);
    }
    o->engine.cpu_count = (unsigned)v;
    return 0;
}

static int take_cpu(struct vmm_opts *o, char *text)
{
    struct cpu_model_error why;

    o->cpu_given = strcmp(text, "host") != 0;
    return !o->cpu_given || cpu_model_parse(text, &o->cpu, &why)
               ? 0
               : wrong("--cpu: %s", why.text);
}

static int take_transport(struct vmm_opts *o, char *text)
{
    if (strcmp(text, "pci") == 0) {
        o->engine.transport = MACHINE_TRANSPORT_PCI;
    } else if (strcmp(text, "mmio") == 0) {
        o->engine.transport = MACHINE_TRANSPORT_MMIO;
    } else {
        return wrong("--transport %s: pci or mmio", text);
    }
    o->transport_given = true;
    return 0;
}

static int take_uid(struct vmm_opts *o, char *text)
{
    o->user_given = true;
    return parse_id("uid", text, &o->uid);
}

static int take_gid(struct vmm_opts *o, char *text)
{
    return parse_id("gid", text, &o->gid);
}

static int take_memory_fd(struct vmm_opts *o, char *text)
{
    o->engine.ram_given = true;
    return parse_fd("memory-fd", text, &o->engine.ram_fd);
}

static int take_replay(struct vmm_opts *o, char *text)
{
    o->replay_path = text;
    o->run = true;
    return 0;
}

static int take_until(struct vmm_opts *o, char *text)
{
    return parse_until(text, &o->until)
               ? 0
               : wrong("--until %s: not the number of an exit, nor N+K", text);
}

static int take_triple_fault(struct vmm_opts *o, char *text)
{
    o->engine.crash_on_triple_fault = strcmp(text, "crash") == 0;
    return o->engine.crash_on_triple_fault || strcmp(text, "reset") == 0
               ? 0
               : wrong("--on-triple-fault %s: reset or crash", text);
}

/* What becomes of an option: its argument goes to a field of struct vmm_opts, to a
 * function, or something is printed and that is all. */
enum kind { FLAG, TEXT, SIZE, FD, ID, CALL, TELL_HELP, TELL_VERSION, TELL_MAN };

struct what {
    enum kind kind;
    size_t field;
    int (*take)(struct vmm_opts *o, char *arg);
};

#define AT(kind_, field_)                                                                \
    {                                                                                    \
        .kind = kind_, .field = offsetof(struct vmm_opts, field_)                        \
    }
#define BY(take_)                                                                        \
    {                                                                                    \
        .kind = CALL, .take = take_                                                      \
    }

/* One table: parser and help come from it. */
static const struct {
    const char *name;
    struct what what;
    const char *arg; /* NULL: takes none */
    const char *help;
} option_table[] = {
    {"name", AT(TEXT, name), "NAME", "name of the VM, for messages"},
    {"uuid", AT(ID, uuid), "UUID", "id of the VM"},
    {"instance", AT(ID, instance), "UUID", "id of this process; default: a fresh one"},
    {"machine", BY(take_machine), "lockstep|standard", "machine type; default: lockstep"},
    {"cpus", BY(take_cpus), "N", "vCPUs of machine standard, 1 to 64; default: 1"},
    {"cpu", BY(take_cpu), "host|MODEL",
     "processor of machine standard: all that this host has (default), or a model as "
     "--cpu-model and gemel cluster cpu-baseline print it"},
    {"transport", BY(take_transport), "pci|mmio",
     "virtio devices of machine standard; default: pci"},
    {"memory", AT(SIZE, engine.ram_len), "SIZE",
     "guest memory: 64M, 1G (lockstep: at most 3G)"},
    {"hugepages", AT(FLAG, engine.hugepages), NULL,
     "guest memory in huge pages of 2 MiB, of which the host must have enough free "
     "(vm.nr_hugepages)"},
    {"firmware", AT(TEXT, engine.rom_path), "FILE", "ROM image, mapped to end at 4 GiB"},
    {"kernel", AT(TEXT, engine.kernel_path), "FILE",
     "boot this kernel (bzImage, or ELF with a PVH entry) without firmware"},
    {"initrd", AT(TEXT, engine.initrd_path), "FILE",
     "with --kernel: its initial RAM disk"},
    {"append", AT(TEXT, engine.cmdline), "TEXT",
     "command line of the kernel, or for firmware (fw_cfg opt/gemel/cmdline)"},
    {"disk", BY(take_disk),
     "path=FILE|nbd=URI[,epoch]|qcow2=FILE[,serial=S][,readonly]"
     "[,on-error=report|pause|stop][,bps=SIZE][,iops=N]",
     "raw disk, or network disk (nbd://ADDRESS:PORT/EXPORT, "
     "nbd+unix:///EXPORT?socket=PATH), or image whose NBD server comes with START; "
     "repeatable, in order. epoch: its server has the filter gemel-epoch, which keeps an "
     "earlier owner's writes away (on-error is then pause or stop). on-error: of EIO, "
     "ENOSPC and lost connections, default "
     "report; bps, iops: limits (machine standard)"},
    {"nic", BY(take_nic),
     "tap=NAME[,queues=N]|fd=N[,fd=N]...[,mac=MAC][,bps=SIZE][,pps=N]",
     "network card on an existing tap; repeatable. Machine standard: up to 8 queue pairs "
     "(a tap with multi_queue, one fd for each); bps, pps: limits in each direction"},
    {"console-log", AT(TEXT, console_log), "FILE", "serial output, rotated by size"},
    {"console", AT(TEXT, console_socket), "SOCKET",
     "Unix stream socket to attach to the serial console"},
    {"debug-log", AT(TEXT, debug_log), "FILE",
     "debug port 0x402 output (/dev/fd/N works)"},
    {"debug-stamps", AT(FLAG, debug_stamps), NULL,
     "debug log as lines: CLOCK_MONOTONIC ns, byte in hex"},
    {"control-fd", AT(FD, control_fd), "N",
     "inherited listening SOCK_SEQPACKET socket for the agent"},
    {"control", AT(TEXT, control_path), "SOCKET", "listen for the agent on this path"},
    {"exit-file", AT(TEXT, exit_file), "FILE", "why the VM ended, as one line of JSON"},
    {"log", AT(TEXT, log_path), "FILE", "messages of gemel-vmm; default: stderr"},
    {"uid", BY(take_uid), "N",
     "user of its own for this VM; default for root: one that nobody has"},
    {"gid", BY(take_gid), "N", "group; default: the number of the user"},
    {"memlock", AT(SIZE, memlock_bytes), "SIZE", "how much memory it may lock"},
    {"uffd-fd", AT(FD, uffd_fd), "N", "with --post-copy: inherited /dev/userfaultfd"},
    {"post-copy", AT(FLAG, postcopy), NULL,
     "a migration to here may go on with memory still at its source (needs a "
     "userfaultfd)"},
    {"memory-fd", BY(take_memory_fd), "N",
     "inherited guest memory of another instance of this VM, which it goes on with"},
    {"insecure-lab", AT(FLAG, insecure_lab), NULL,
     "no sandbox: a guest that breaks out is this user"},
    {"run", AT(FLAG, run), NULL,
     "start at once at epoch 0, without an agent (no ownership!)"},
    {"restore", AT(TEXT, restore_path), "FILE",
     "with --run: go on from this saved state instead of a boot"},
    {"record", AT(TEXT, record_path), "FILE",
     "machine lockstep: write everything that reaches the guest from outside, and all "
     "that it does, to this file (one that is there already is not written over)"},
    {"replay", BY(take_replay), "FILE",
     "instead of --run: run what was recorded once more, without disks and network, and "
     "compare: equal, or the first difference"},
    {"until", BY(take_until), "N[+K]",
     "with --replay: stop at exit N, or K instructions (single steps) after it, and "
     "print the registers"},
    {"on-triple-fault", BY(take_triple_fault), "reset|crash",
     "default: reset, as a PC does"},
    {"kvm", AT(TEXT, engine.kvm_path), "DEVICE", "default: /dev/kvm"},
    {"probe", AT(FLAG, probe), NULL,
     "find out, by running tiny guests, what this host can do"},
    {"cpu-model", AT(FLAG, cpu_model), NULL,
     "print what this host can give a guest, as a model for --cpu"},
    {"kvm-can", AT(FLAG, kvm_can), NULL,
     "print what machines need that this host's KVM has"},
    {"json", AT(FLAG, json), NULL, "with --probe and --replay: machine-readable"},
    {"verbose", AT(FLAG, verbose), NULL, "debug messages"},
    {"help", {.kind = TELL_HELP}, NULL, "this text"},
    {"version", {.kind = TELL_VERSION}, NULL, "version"},
    {"man-options",
     {.kind = TELL_MAN},
     NULL,
     NULL}, /* not in the help: for doc/gemel-vmm.8 */
};

#define OPTION_COUNT ARRAY_SIZE(option_table)

#define HELP_COLUMN  40
#define HELP_WIDTH   100

/* Words from HELP_COLUMN on, in lines of HELP_WIDTH. */
static void print_wrapped(const char *text)
{
    size_t column = HELP_COLUMN;

    while (*text) {
        size_t len = strcspn(text, " ");

        if (column > HELP_COLUMN && column + 1 + len > HELP_WIDTH) {
            printf("\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        column +=
            (size_t)printf("%s%.*s", column > HELP_COLUMN ? " " : "", (int)len, text);
        text += len + strspn(text + len, " ");
    }
    putchar('\n');
}

static void print_help(void)
{
    printf("Usage: gemel-vmm --memory SIZE --firmware FILE|--kernel FILE [OPTION]...\n"
           "Runs one virtual machine. With --control or --control-fd it waits for START "
           "from the\n"
           "node agent; with --run it starts at once.\n\n");
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const __typeof__(option_table[0]) *option = &option_table[i];
        int len;

        if (!option->help) {
            continue;
        }
        len = printf("  --%s%s%s", option->name, option->arg ? " " : "",
                     option->arg ? option->arg : "");
        if (len >= HELP_COLUMN) {
            putchar('\n');
            len = 0;
        }
        printf("%*s", HELP_COLUMN - len, "");
        print_wrapped(option->help);
    }
    printf(
        "\nExit status: 0 the guest powered off or was killed, or a replay is equal, 1 "
        "it failed or\ndiffers, 2 wrong usage.\n");
}

/* The part of the man page that must agree with the program. */
static void print_man(void)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (option_table[i].help) {
            printf(".TP\n.B \\-\\-%s%s%s\n%s\n", option_table[i].name,
                   option_table[i].arg ? " " : "",
                   option_table[i].arg ? option_table[i].arg : "", option_table[i].help);
        }
    }
}

static int take(struct vmm_opts *o, size_t i, char *arg)
{
    const struct what *what = &option_table[i].what;
    const char *name = option_table[i].name;
    void *field = (char *)o + what->field;

    switch (what->kind) {
    case FLAG:
        *(bool *)field = true;
        return 0;
    case TEXT:
        *(const char **)field = arg;
        return 0;
    case SIZE:
        return parse_size(name, arg, field);
    case FD:
        return parse_fd(name, arg, field);
    case ID:
        return parse_uuid(name, arg, field);
    case CALL:
        return what->take(o, arg);
    case TELL_HELP:
        print_help();
        return -ECANCELED;
    case TELL_VERSION:
        printf("gemel-vmm %s\n", PACKAGE_VERSION);
        return -ECANCELED;
    case TELL_MAN:
    default:
        print_man();
        return -ECANCELED;
    }
}

static bool any_limit(const struct engine_conf *conf)
{
    for (unsigned i = 0; i < conf->disk_count; i++) {
        if (conf->disk[i].bytes_per_s != 0 || conf->disk[i].requests_per_s != 0) {
            return true;
        }
    }
    for (unsigned i = 0; i < conf->nic_count; i++) {
        if (conf->nic[i].bytes_per_s != 0 || conf->nic[i].packets_per_s != 0) {
            return true;
        }
    }
    return false;
}

static unsigned nic_queues(const struct engine_conf *conf, bool most)
{
    unsigned sum = 0, max = 0;

    for (unsigned i = 0; i < conf->nic_count; i++) {
        sum += conf->nic[i].queue_count;
        max = conf->nic[i].queue_count > max ? conf->nic[i].queue_count : max;
    }
    return most ? max : sum;
}

static int check_tape(const struct vmm_opts *o)
{
    if (o->until.exits != UINT64_MAX && !o->replay_path) {
        return wrong("--until needs --replay");
    }
    if (!o->record_path && !o->replay_path) {
        return 0;
    }
    if (o->engine.machine != MACHINE_LOCKSTEP) {
        return wrong("--record and --replay need --machine lockstep: interrupt "
                     "controllers and clocks of standard are the kernel's");
    }
    if (o->record_path && o->replay_path) {
        return wrong("give one of --record and --replay");
    }
    if (o->restore_path) {
        return wrong("--restore: a recording begins with a boot");
    }
    if (o->replay_path && (o->control_fd >= 0 || o->control_path)) {
        return wrong("--replay is nobody's VM: leave --control out");
    }
    return 0;
}

static int check(const struct vmm_opts *o)
{
    if (o->probe || o->cpu_model || o->kvm_can) {
        return 0;
    }
    if (!o->engine.rom_path == !o->engine.kernel_path) {
        return wrong("give one of --firmware and --kernel");
    }
    if (o->engine.initrd_path && !o->engine.kernel_path) {
        return wrong("--initrd needs --kernel: firmware finds its own");
    }
    if (o->engine.ram_len == 0) {
        return wrong("--memory is missing");
    }
    if (o->engine.ram_given && (o->run || o->restore_path)) {
        return wrong("--memory-fd: its state comes from that instance: without --run and "
                     "--restore");
    }
    if (o->engine.hugepages && o->engine.ram_len % (UINT64_C(2) << 20) != 0) {
        return wrong("--hugepages: --memory must be a multiple of 2M");
    }
    if (o->engine.machine == MACHINE_LOCKSTEP && o->engine.cpu_count > 1) {
        return wrong("--cpus %u: machine lockstep has one vCPU; use --machine standard",
                     o->engine.cpu_count);
    }
    if (o->engine.machine == MACHINE_LOCKSTEP &&
        o->engine.transport == MACHINE_TRANSPORT_PCI) {
        return wrong("--transport pci: machine lockstep has virtio-mmio only");
    }
    if (o->engine.machine == MACHINE_LOCKSTEP && o->cpu_given) {
        return wrong("--cpu: machine lockstep has a processor of its own making");
    }
    if (o->engine.machine == MACHINE_LOCKSTEP && any_limit(&o->engine)) {
        return wrong("bps, iops, pps: machine lockstep has no limits");
    }
    if (o->engine.machine == MACHINE_LOCKSTEP && nic_queues(&o->engine, true) > 1) {
        return wrong("--nic queues: machine lockstep has one queue pair");
    }
    if (nic_queues(&o->engine, false) > ENGINE_NIC_QUEUES_MAX) {
        return wrong("--nic queues: at most %d of all nics together",
                     ENGINE_NIC_QUEUES_MAX);
    }
    if (o->restore_path && !o->run) {
        return wrong("--restore needs --run: an agent sends the state with its START");
    }
    if (o->gid && !o->user_given) {
        return wrong("--gid without --uid");
    }
    if (o->insecure_lab && o->user_given) {
        return wrong("--insecure-lab does not change the user: leave --uid out");
    }
    if (o->control_fd >= 0 && o->control_path) {
        return wrong("give either --control or --control-fd");
    }
    if (!o->run && o->control_fd < 0 && !o->control_path) {
        return wrong("nobody could start this VM: give --control, --control-fd or --run");
    }
    return 0;
}

int vmm_opts_parse(int argc, char **argv, struct vmm_opts *ret_opts, int *ret_exit_code)
{
    struct vmm_opts o = {.control_fd = -1,
                         .uffd_fd = -1,
                         .memlock_bytes = UINT64_MAX,
                         .until = {.exits = UINT64_MAX},
                         .name = "vm",
                         .engine.kvm_path = "/dev/kvm"};
    struct option longs[OPTION_COUNT + 1] = {{0}};
    int c, r = 0;

    for (size_t i = 0; i < OPTION_COUNT; i++) {
        longs[i] = (struct option){option_table[i].name,
                                   option_table[i].arg ? required_argument : no_argument,
                                   NULL, OPTION_FIRST + (int)i};
    }
    *ret_exit_code = EXIT_USAGE;
    while (r == 0 && (c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (c == 'h') {
            print_help();
            r = -ECANCELED;
        } else if (c < OPTION_FIRST) {
            r = -EINVAL; /* getopt has said what is wrong */
        } else {
            r = take(&o, (size_t)(c - OPTION_FIRST), optarg);
        }
    }
    if (r == -ECANCELED) {
        *ret_exit_code = EXIT_SUCCESS;
        return r;
    }
    if (r == 0 && optind < argc) {
        r = wrong("unexpected argument '%s'", argv[optind]);
    }
    if (r == 0 && o.engine.machine == MACHINE_STANDARD && !o.transport_given) {
        o.engine.transport = MACHINE_TRANSPORT_PCI;
    }
    if (r == 0) {
        r = check(&o);
    }
    if (r == 0) {
        r = check_tape(&o);
    }
    if (r == 0) {
        *ret_opts = o;
    }
    return r;
}
