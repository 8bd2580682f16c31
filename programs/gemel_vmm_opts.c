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

#define EXIT_USAGE 2

enum {
    OPT_NAME = 256,
    OPT_UUID,
    OPT_INSTANCE,
    OPT_MACHINE,
    OPT_CPUS,
    OPT_CPU,
    OPT_CPU_MODEL,
    OPT_KVM_CAN,
    OPT_TRANSPORT,
    OPT_MEMORY,
    OPT_HUGEPAGES,
    OPT_FIRMWARE,
    OPT_KERNEL,
    OPT_INITRD,
    OPT_APPEND,
    OPT_DISK,
    OPT_NIC,
    OPT_CONSOLE_LOG,
    OPT_CONSOLE,
    OPT_DEBUG_LOG,
    OPT_DEBUG_STAMPS,
    OPT_CONTROL_FD,
    OPT_CONTROL,
    OPT_EXIT_FILE,
    OPT_LOG,
    OPT_UID,
    OPT_GID,
    OPT_MEMLOCK,
    OPT_UFFD_FD,
    OPT_MEMORY_FD,
    OPT_POST_COPY,
    OPT_INSECURE_LAB,
    OPT_RUN,
    OPT_RESTORE,
    OPT_RECORD,
    OPT_REPLAY,
    OPT_UNTIL,
    OPT_TRIPLE_FAULT,
    OPT_KVM,
    OPT_PROBE,
    OPT_JSON,
    OPT_VERBOSE,
    OPT_VERSION,
    OPT_MAN_OPTIONS,
};

/* One table: parser and help come from it. */
static const struct {
    const char *name;
    int value;
    const char *arg; /* NULL: takes none */
    const char *help;
} option_table[] = {
    {"name", OPT_NAME, "NAME", "name of the VM, for messages"},
    {"uuid", OPT_UUID, "UUID", "id of the VM"},
    {"instance", OPT_INSTANCE, "UUID", "id of this process; default: a fresh one"},
    {"machine", OPT_MACHINE, "lockstep|standard", "machine type; default: lockstep"},
    {"cpus", OPT_CPUS, "N", "vCPUs of machine standard, 1 to 64; default: 1"},
    {"cpu", OPT_CPU, "host|MODEL",
     "processor of machine standard: all that this host has (default), or a model as "
     "--cpu-model and gemel cluster cpu-baseline print it"},
    {"transport", OPT_TRANSPORT, "pci|mmio",
     "virtio devices of machine standard; default: pci"},
    {"memory", OPT_MEMORY, "SIZE", "guest memory: 64M, 1G (lockstep: at most 3G)"},
    {"hugepages", OPT_HUGEPAGES, NULL,
     "guest memory in huge pages of 2 MiB, of which the host must have enough free "
     "(vm.nr_hugepages)"},
    {"firmware", OPT_FIRMWARE, "FILE", "ROM image, mapped to end at 4 GiB"},
    {"kernel", OPT_KERNEL, "FILE",
     "boot this kernel (bzImage, or ELF with a PVH entry) without firmware"},
    {"initrd", OPT_INITRD, "FILE", "with --kernel: its initial RAM disk"},
    {"append", OPT_APPEND, "TEXT",
     "command line of the kernel, or for firmware (fw_cfg opt/gemel/cmdline)"},
    {"disk", OPT_DISK,
     "path=FILE|nbd=URI[,epoch]|qcow2=FILE[,serial=S][,readonly]"
     "[,on-error=report|pause|stop][,bps=SIZE][,iops=N]",
     "raw disk, or network disk (nbd://ADDRESS:PORT/EXPORT, "
     "nbd+unix:///EXPORT?socket=PATH), or image whose NBD server comes with START; "
     "repeatable, in order. epoch: its server has the filter gemel-epoch, which keeps an "
     "earlier owner's writes away (on-error is then pause or stop). on-error: of EIO, "
     "ENOSPC and lost connections, default "
     "report; bps, iops: limits (machine standard)"},
    {"nic", OPT_NIC, "tap=NAME[,queues=N]|fd=N[,fd=N]...[,mac=MAC][,bps=SIZE][,pps=N]",
     "network card on an existing tap; repeatable. Machine standard: up to 8 queue pairs "
     "(a tap with multi_queue, one fd for each); bps, pps: limits in each direction"},
    {"console-log", OPT_CONSOLE_LOG, "FILE", "serial output, rotated by size"},
    {"console", OPT_CONSOLE, "SOCKET",
     "Unix stream socket to attach to the serial console"},
    {"debug-log", OPT_DEBUG_LOG, "FILE", "debug port 0x402 output (/dev/fd/N works)"},
    {"debug-stamps", OPT_DEBUG_STAMPS, NULL,
     "debug log as lines: CLOCK_MONOTONIC ns, byte in hex"},
    {"control-fd", OPT_CONTROL_FD, "N",
     "inherited listening SOCK_SEQPACKET socket for the agent"},
    {"control", OPT_CONTROL, "SOCKET", "listen for the agent on this path"},
    {"exit-file", OPT_EXIT_FILE, "FILE", "why the VM ended, as one line of JSON"},
    {"log", OPT_LOG, "FILE", "messages of gemel-vmm; default: stderr"},
    {"uid", OPT_UID, "N",
     "user of its own for this VM; default for root: one that nobody has"},
    {"gid", OPT_GID, "N", "group; default: the number of the user"},
    {"memlock", OPT_MEMLOCK, "SIZE", "how much memory it may lock"},
    {"uffd-fd", OPT_UFFD_FD, "N", "with --post-copy: inherited /dev/userfaultfd"},
    {"post-copy", OPT_POST_COPY, NULL,
     "a migration to here may go on with memory still at its source (needs a "
     "userfaultfd)"},
    {"memory-fd", OPT_MEMORY_FD, "N",
     "inherited guest memory of another instance of this VM, which it goes on with"},
    {"insecure-lab", OPT_INSECURE_LAB, NULL,
     "no sandbox: a guest that breaks out is this user"},
    {"run", OPT_RUN, NULL, "start at once at epoch 0, without an agent (no ownership!)"},
    {"restore", OPT_RESTORE, "FILE",
     "with --run: go on from this saved state instead of a boot"},
    {"record", OPT_RECORD, "FILE",
     "machine lockstep: write everything that reaches the guest from outside, and all "
     "that it does, to this file (one that is there already is not written over)"},
    {"replay", OPT_REPLAY, "FILE",
     "instead of --run: run what was recorded once more, without disks and network, and "
     "compare: equal, or the first difference"},
    {"until", OPT_UNTIL, "N[+K]",
     "with --replay: stop at exit N, or K instructions (single steps) after it, and "
     "print "
     "the registers"},
    {"on-triple-fault", OPT_TRIPLE_FAULT, "reset|crash", "default: reset, as a PC does"},
    {"kvm", OPT_KVM, "DEVICE", "default: /dev/kvm"},
    {"probe", OPT_PROBE, NULL, "find out, by running tiny guests, what this host can do"},
    {"cpu-model", OPT_CPU_MODEL, NULL,
     "print what this host can give a guest, as a model for --cpu"},
    {"kvm-can", OPT_KVM_CAN, NULL, "print what machines need that this host's KVM has"},
    {"json", OPT_JSON, NULL, "with --probe and --replay: machine-readable"},
    {"verbose", OPT_VERBOSE, NULL, "debug messages"},
    {"help", 'h', NULL, "this text"},
    {"version", OPT_VERSION, NULL, "version"},
    {"man-options", OPT_MAN_OPTIONS, NULL,
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

static int parse_disk(struct engine_conf *conf, char *text)
{
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

static int parse_nic(struct vmm_opts *o, char *text)
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

static int parse_machine(struct engine_conf *conf, const char *text)
{
    if (strcmp(text, "lockstep") == 0) {
        conf->machine = MACHINE_LOCKSTEP;
    } else if (strcmp(text, "standard") == 0) {
        conf->machine = MACHINE_STANDARD;
    } else {
        return wrong("--machine %s: lockstep or standard", text);
    }
    return 0;
}

static int parse_cpus(struct engine_conf *conf, const char *text)
{
    uint64_t v;

    if (!text_u64(text, 1, ENGINE_CPUS_MAX, &v)) {
        return wrong("--cpus %s: a number from 1 to %d", text, ENGINE_CPUS_MAX);
    }
    conf->cpu_count = (unsigned)v;
    return 0;
}

static int parse_cpu(struct vmm_opts *o, const char *text)
{
    struct cpu_model_error why;

    o->cpu_given = strcmp(text, "host") != 0;
    return !o->cpu_given || cpu_model_parse(text, &o->cpu, &why)
               ? 0
               : wrong("--cpu: %s", why.text);
}

static int parse_transport(struct vmm_opts *o, const char *text)
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

static int take(struct vmm_opts *o, int value, char *arg)
{
    switch (value) {
    case OPT_NAME:
        o->name = arg;
        return 0;
    case OPT_UUID:
        return parse_uuid("uuid", arg, &o->uuid);
    case OPT_INSTANCE:
        return parse_uuid("instance", arg, &o->instance);
    case OPT_MACHINE:
        return parse_machine(&o->engine, arg);
    case OPT_CPUS:
        return parse_cpus(&o->engine, arg);
    case OPT_CPU:
        return parse_cpu(o, arg);
    case OPT_CPU_MODEL:
        o->cpu_model = true;
        return 0;
    case OPT_KVM_CAN:
        o->kvm_can = true;
        return 0;
    case OPT_TRANSPORT:
        return parse_transport(o, arg);
    case OPT_HUGEPAGES:
        o->engine.hugepages = true;
        return 0;
    case OPT_MEMORY:
        return parse_size("memory", arg, &o->engine.ram_len);
    case OPT_FIRMWARE:
        o->engine.rom_path = arg;
        return 0;
    case OPT_KERNEL:
        o->engine.kernel_path = arg;
        return 0;
    case OPT_INITRD:
        o->engine.initrd_path = arg;
        return 0;
    case OPT_APPEND:
        o->engine.cmdline = arg;
        return 0;
    case OPT_DISK:
        return parse_disk(&o->engine, arg);
    case OPT_NIC:
        return parse_nic(o, arg);
    case OPT_CONSOLE_LOG:
        o->console_log = arg;
        return 0;
    case OPT_CONSOLE:
        o->console_socket = arg;
        return 0;
    case OPT_DEBUG_LOG:
        o->debug_log = arg;
        return 0;
    case OPT_DEBUG_STAMPS:
        o->debug_stamps = true;
        return 0;
    case OPT_CONTROL_FD:
        return parse_fd("control-fd", arg, &o->control_fd);
    case OPT_CONTROL:
        o->control_path = arg;
        return 0;
    case OPT_EXIT_FILE:
        o->exit_file = arg;
        return 0;
    case OPT_LOG:
        o->log_path = arg;
        return 0;
    case OPT_UID:
        o->user_given = true;
        return parse_id("uid", arg, &o->uid);
    case OPT_GID:
        return parse_id("gid", arg, &o->gid);
    case OPT_MEMLOCK:
        return parse_size("memlock", arg, &o->memlock_bytes);
    case OPT_UFFD_FD:
        return parse_fd("uffd-fd", arg, &o->uffd_fd);
    case OPT_MEMORY_FD:
        o->engine.ram_given = true;
        return parse_fd("memory-fd", arg, &o->engine.ram_fd);
    case OPT_POST_COPY:
        o->postcopy = true;
        return 0;
    case OPT_INSECURE_LAB:
        o->insecure_lab = true;
        return 0;
    case OPT_RUN:
        o->run = true;
        return 0;
    case OPT_RESTORE:
        o->restore_path = arg;
        return 0;
    case OPT_RECORD:
        o->record_path = arg;
        return 0;
    case OPT_REPLAY:
        o->replay_path = arg;
        o->run = true;
        return 0;
    case OPT_UNTIL:
        return parse_until(arg, &o->until)
                   ? 0
                   : wrong("--until %s: not the number of an exit, nor N+K", arg);
    case OPT_TRIPLE_FAULT:
        o->engine.crash_on_triple_fault = strcmp(arg, "crash") == 0;
        return o->engine.crash_on_triple_fault || strcmp(arg, "reset") == 0
                   ? 0
                   : wrong("--on-triple-fault %s: reset or crash", arg);
    case OPT_KVM:
        o->engine.kvm_path = arg;
        return 0;
    case OPT_PROBE:
        o->probe = true;
        return 0;
    case OPT_JSON:
        o->json = true;
        return 0;
    case OPT_VERBOSE:
        o->verbose = true;
        return 0;
    default:
        return -EINVAL; /* getopt has said what is wrong */
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
                                   NULL, option_table[i].value};
    }
    *ret_exit_code = EXIT_USAGE;
    while (r == 0 && (c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (c == 'h') {
            print_help();
            *ret_exit_code = EXIT_SUCCESS;
            return -ECANCELED;
        }
        if (c == OPT_MAN_OPTIONS) {
            print_man();
            *ret_exit_code = EXIT_SUCCESS;
            return -ECANCELED;
        }
        if (c == OPT_VERSION) {
            printf("gemel-vmm %s\n", PACKAGE_VERSION);
            *ret_exit_code = EXIT_SUCCESS;
            return -ECANCELED;
        }
        r = take(&o, c, optarg);
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
