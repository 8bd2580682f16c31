/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/blk_engine.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "tests/unit/vmm/fake_kvm.h"
#include "vmm/blk_uring.h"
#include "vmm/board.h"
#include "vmm/dev_vpci.h"
#include "vmm/engine_priv.h"
#include "vmm/sandbox.h"

#define BAR4   BOARD_PCI_VIRTIO_BAR4(0)
#define BAR1   BOARD_PCI_VIRTIO_BAR1(0)
#define CONFIG (BOARD_ECAM_BASE + ((uint64_t)BOARD_PCI_VIRTIO_DEV(0) << 15))
#define VECTOR 1
#define USER   0x70000000u

/* What both processes see. */
struct shared {
    _Atomic int ram_fd, kick_fd; /* numbers in the server; 0: not there yet */
    _Atomic bool ready;
    int call_fd;
};
static struct shared *shared;

/* The guest ------------------------------------------------------------------------- */

struct access {
    uint64_t addr, value;
    unsigned len;
};

#define COMMON(reg, length, v)                                                           \
    {                                                                                    \
        BAR4 + VPCI_COMMON + (reg), (v), (length)                                        \
    }

static unsigned script(struct access *a, unsigned msix_cap)
{
    const struct access all[] = {
        {CONFIG + 4, 6, 2}, /* memory space, bus master */
        {BAR1 + MSIX_ENTRY_LEN * VECTOR, BOARD_LAPIC_BASE, 4},
        {BAR1 + MSIX_ENTRY_LEN * VECTOR + 4, 0, 4},
        {BAR1 + MSIX_ENTRY_LEN * VECTOR + 8, 0x41, 4},
        {BAR1 + MSIX_ENTRY_LEN * VECTOR + 12, 0, 4},
        {CONFIG + msix_cap + MSIX_CONTROL, MSIX_CONTROL_ON, 2},
        COMMON(VPCI_STATUS, 1, 0),
        COMMON(VPCI_STATUS, 1, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER),
        COMMON(VPCI_DRIVER_FEATURE_SELECT, 4, 0),
        COMMON(VPCI_DRIVER_FEATURE, 4, (uint32_t)BLKD_FEATURES),
        COMMON(VPCI_DRIVER_FEATURE_SELECT, 4, 1),
        COMMON(VPCI_DRIVER_FEATURE, 4, BLKD_FEATURES >> 32),
        COMMON(VPCI_STATUS, 1, 11),
        COMMON(VPCI_QUEUE_SELECT, 2, 0),
        COMMON(VPCI_QUEUE_SIZE, 2, BLKD_QUEUE_LEN),
        COMMON(VPCI_QUEUE_VECTOR, 2, VECTOR),
        COMMON(VPCI_QUEUE_DESC, 4, blkd_area(0)),
        COMMON(VPCI_QUEUE_DRIVER, 4, blkd_area(1)),
        COMMON(VPCI_QUEUE_DEVICE, 4, blkd_area(2)),
        COMMON(VPCI_QUEUE_ENABLE, 2, 1),
        COMMON(VPCI_STATUS, 1, 15),
    };

    memcpy(a, all, sizeof all);
    return ARRAY_SIZE(all);
}

/* Walks the capabilities, one read of configuration space per entry into the guest. */
static struct {
    unsigned step, cap;
    bool reading;
    struct access todo[32];
    unsigned todo_count;
} guest;

static int access_exit(struct kvm_run *run, const struct access *a, bool is_write)
{
    run->exit_reason = KVM_EXIT_MMIO;
    run->mmio.phys_addr = a->addr;
    run->mmio.len = a->len;
    run->mmio.is_write = is_write;
    memcpy(run->mmio.data, &a->value, sizeof a->value);
    return 0;
}

/* False: the MSI-X capability is not found yet, and an exit was made. */
static bool find_msix(struct kvm_run *run)
{
    struct access look = {.len = 4};
    uint32_t value = 0;

    if (guest.reading) {
        memcpy(&value, run->mmio.data, sizeof value);
        if (guest.cap == 0x34) {
            guest.cap = value & 0xFC;
        } else if ((value & 0xFF) == PCI_CAP_MSIX) {
            return true;
        } else {
            guest.cap = value >> 8 & 0xFC;
        }
    } else {
        guest.cap = 0x34;
    }
    guest.reading = true;
    look.addr = CONFIG + guest.cap;
    (void)access_exit(run, &look, false);
    return false;
}

static int guest_run(int fd)
{
    struct kvm_run *run = fake_vm.vcpu[0].run;

    (void)fd;
    if (guest.todo_count == 0) {
        if (!find_msix(run)) {
            return 0;
        }
        guest.todo_count = script(guest.todo, guest.cap);
    }
    if (guest.step < guest.todo_count) {
        return access_exit(run, &guest.todo[guest.step++], true);
    }
    atomic_store(&shared->ready, true);
    while (!__atomic_load_n(&run->immediate_exit, __ATOMIC_SEQ_CST)) {
        (void)poll(NULL, 0, 1000);
    }
    return -EINTR;
}

static int guest_ioeventfd(int fd, const struct kvm_ioeventfd *conf)
{
    (void)fd;
    if ((conf->flags & KVM_IOEVENTFD_FLAG_DEASSIGN) == 0 &&
        conf->addr == BAR4 + VPCI_NOTIFY) {
        atomic_store(&shared->kick_fd, conf->fd);
    }
    return 0;
}

static int guest_msi(int fd, uint64_t address, uint32_t data)
{
    uint64_t one = 1;

    (void)fd, (void)address, (void)data;
    return write(shared->call_fd, &one, sizeof one) == sizeof one;
}

/* The server ------------------------------------------------------------------------ */

/* What gemel-vmm's loop thread does for a disk. */
__attribute__((noreturn)) static void loop_thread(struct engine *e)
{
    struct pollfd p[] = {{.fd = engine_event_fd(e), .events = POLLIN},
                         {.fd = engine_disk_fd(e), .events = POLLIN}};
    struct engine_status s;

    for (;;) {
        (void)ppoll(p, ARRAY_SIZE(p), NULL, NULL);
        if (p[0].revents) {
            engine_event_clear(e);
        }
        if (p[1].revents) {
            engine_disk_event(e);
        }
        while (engine_take_notice(e, &s)) {
            if (s.state == RUN_ENDED) {
                blkd_die("the engine ended: %s", s.reason);
            }
        }
    }
}

__attribute__((noreturn)) static void serve(const char *disk_path, const char *rom_path)
{
    struct engine_conf conf = {.machine = MACHINE_STANDARD,
                               .transport = MACHINE_TRANSPORT_PCI,
                               .kvm_path = "none",
                               .rom_path = rom_path,
                               .ram_len = BLKD_MEM_LEN,
                               .disk_count = 1};
    struct sandbox_conf walls = {.change_user = true,
                                 .uid = USER + (uid_t)getpid(),
                                 .gid = USER + (gid_t)getpid(),
                                 .memlock_bytes = UINT64_MAX};
    struct kvm_ops ops = fake_kvm;
    pid_t parent = getppid();
    struct engine *e;
    struct vmm_error err;
    int disk;

    ops.vcpu_run = guest_run;
    ops.vm_ioeventfd = guest_ioeventfd;
    ops.vm_signal_msi = guest_msi;
    conf.kvm = &ops;
    fake_kvm_reset();
    snprintf(conf.disk[0].path, sizeof conf.disk[0].path, "%s", disk_path);
    if (engine_open(&conf, &e, &err) < 0 ||
        blk_disk_file(disk_path, false, &disk, &err) < 0) {
        blkd_die("%s", err.text);
    }
    engine_disks(e, &disk, 1);
    atomic_store(&shared->ram_fd, e->vm.ram_fd);
    if (sandbox_enter(&walls, &err) < 0) {
        blkd_die("%s", err.text);
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user takes it away */
    if (getppid() != parent || engine_go(e, &err) < 0) {
        blkd_die("%s", err.text);
    }
    sandbox_thread(SANDBOX_LOOP);
    if (engine_start(e, 1, "bench") != RUN_DONE) {
        blkd_die("START was refused");
    }
    loop_thread(e);
}

/* The driver's process -------------------------------------------------------------- */

static int take_fd(pid_t server, int number)
{
    int pidfd = (int)syscall(SYS_pidfd_open, server, 0), fd = -1;

    if (pidfd >= 0) {
        fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
        close(pidfd);
    }
    if (fd < 0) {
        blkd_die("cannot take file %d of the server: %s", number, strerror(errno));
    }
    return fd;
}

static void await_ready(pid_t server)
{
    for (int i = 0; i < 5000 && !atomic_load(&shared->ready); i++) {
        if (waitpid(server, NULL, WNOHANG) != 0) {
            blkd_die("the server has ended; a forbidden system call?");
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    if (!atomic_load(&shared->ready)) {
        blkd_die("the server's guest did not set its disk up in 5 s");
    }
}

void blk_engine_open(const char *disk_path, struct blkd *ret_driver)
{
    struct blkd d = {.name = "ours", .seed = 88172645463325252};
    int fd = memfd_create("bench-rom", MFD_CLOEXEC), ram; /* a ROM that nobody runs */
    char rom[32];

    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    d.call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0 || ftruncate(fd, 4096) < 0 || shared == MAP_FAILED || d.call_fd < 0) {
        blkd_die("cannot set up: %s", strerror(errno));
    }
    snprintf(rom, sizeof rom, "/proc/self/fd/%d", fd);
    shared->call_fd = d.call_fd;
    d.server = fork();
    if (d.server == 0) {
        serve(disk_path, rom);
    }
    if (d.server < 0) {
        blkd_die("cannot fork");
    }
    await_ready(d.server);
    close(fd);
    ram = take_fd(d.server, atomic_load(&shared->ram_fd));
    d.kick_fd = take_fd(d.server, atomic_load(&shared->kick_fd));
    d.mem = mmap(NULL, BLKD_MEM_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, ram, 0);
    close(ram);
    if (d.mem == MAP_FAILED) {
        blkd_die("cannot map the guest's memory");
    }
    *ret_driver = d;
}

void blk_engine_close(struct blkd *d)
{
    kill(d->server, SIGKILL);
    (void)waitpid(d->server, NULL, 0);
}
