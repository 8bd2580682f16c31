/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running pulse is moved from one engine to another in this process, by the means that
 * vmm/ gives a migration and by a thread of its kind (SANDBOX_TRANSFER, behind its
 * system call list): pages are copied in rounds while the guest writes, the rest when it
 * is frozen, all of RAM is compared, the state is checked, and pulse goes on.
 *
 * usage: copyram ROM DISK [OPTION...]   one line of key=value at the end
 *   --standard     machine standard (virtio-mmio), else lockstep
 *   --plain        as on a host whose KVM clears the log when it is read
 *   --ram MIB      32
 *   --dirty P:MIB  what pulse dirties: pages per second, MiB (20000:16)
 *   --rounds N     while the guest runs (20)
 *   --reset        the guest is reset halfway
 *   --throttle P   permille, from halfway on
 *   --hang         says "ready"; when a line comes, the disk must hold a freeze back,
 *                  which is taken back; "undone"; the next line says that it is well
 *   --late         wrong on purpose: pages are protected after they were read
 *   --deaf         wrong on purpose: writes of devices are not marked
 * Exit: 0 no page differs and the guest goes on; 1 not so; 3 a page differs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "base/units.h"
#include "vmm/disks.h"
#include "vmm/engine.h"
#include "vmm/engine_ram.h"
#include "vmm/sandbox.h"

#define BLOCK_PAGES 512
#define PAGE        4096
#define UID         64999

static struct {
    bool standard, plain, reset, late, deaf, hang;
    unsigned ram_mib, rounds, throttle;
    const char *dirty;
} opt = {.ram_mib = 32, .rounds = 20, .dirty = "20000:16"};

/* One VM and what it said. */
struct side {
    struct engine *e;
    struct engine_ram ram;
    char line[256];
    size_t line_len;
    unsigned records, lost; /* lines "seq=", lines "MEMORY" */
};

static struct side src, dst;
static uint64_t *bitmap;
static uint64_t copied, in_round;

void __real_gmem_track(struct gmem *gm, unsigned index, uint64_t *dirty);
void __wrap_gmem_track(struct gmem *gm, unsigned index, uint64_t *dirty);

void __wrap_gmem_track(struct gmem *gm, unsigned index, uint64_t *dirty)
{
    __real_gmem_track(gm, index, opt.deaf ? NULL : dirty);
}

static void fail(const char *what, const char *why)
{
    printf("copyram: %s: %s\n", what, why);
    fflush(stdout);
    _exit(1);
}

static int check_plain(int fd, int capability)
{
    return capability == KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2
               ? 0
               : kvm_linux.check(fd, capability);
}

/* What pulse says
 * -------------------------------------------------------------------------------- */

static void take_line(struct side *s)
{
    s->line[s->line_len] = '\0';
    s->records += strncmp(s->line, "seq=", 4) == 0;
    if (strstr(s->line, "MEMORY")) {
        s->lost++;
        printf("copyram: %s\n", s->line);
    }
    s->line_len = 0;
}

static void listen_to(struct side *s)
{
    char bytes[1024];
    size_t n;

    while ((n = byte_ring_get(engine_serial_out(s->e), bytes, sizeof bytes)) > 0) {
        for (size_t i = 0; i < n; i++) {
            if (bytes[i] == '\n' || s->line_len == sizeof s->line - 1) {
                take_line(s);
            } else {
                s->line[s->line_len++] = bytes[i];
            }
        }
    }
}

/* Frames that mean nothing to pulse: its buffers for them are written by the device
 * only. */
static void send_frame(struct side *s)
{
    static uint8_t frame[NET_HEADER_LEN + 512];
    static uint8_t count;

    memset(frame + NET_HEADER_LEN, ++count, sizeof frame - NET_HEADER_LEN);
    engine_net_rx(s->e, 0, 0, frame, sizeof frame);
}

static void sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_nsec = (long)ms * (long)NSEC_PER_MSEC};

    (void)nanosleep(&t, NULL);
}

static void until_records(struct side *s, unsigned more)
{
    unsigned want = s->records + more;
    struct engine_status st;

    for (int i = 0; i < 4000; i++) {
        listen_to(s);
        if (s->records >= want) {
            return;
        }
        sleep_ms(5);
    }
    engine_status(s->e, &st);
    fail("pulse does not write", st.reason);
}

/* Copying
 * ------------------------------------------------------------------------------------ */

static void copy_run(uint64_t first, uint64_t end)
{
    for (uint64_t page = first; page < end; page++) {
        if ((bitmap[page / 64] >> (page % 64) & 1) != 0) {
            memcpy(dst.ram.host + page * PAGE, src.ram.host + page * PAGE, PAGE);
            bitmap[page / 64] &= ~(UINT64_C(1) << (page % 64));
            copied++;
            in_round++;
        }
    }
}

static bool is_zero(const struct side *s, uint64_t page)
{
    const uint8_t *p = s->ram.host + page * PAGE;

    return p[0] == 0 && memcmp(p, p + 1, PAGE - 1) == 0;
}

/* Marked pages that do not exist. */
static void zero_run(uint64_t first, uint64_t end)
{
    for (uint64_t page = first; page < end; page++) {
        if ((bitmap[page / 64] >> (page % 64) & 1) != 0) {
            if (!is_zero(&dst, page)) {
                engine_ram_zero(&dst.ram, page, 1);
            }
            bitmap[page / 64] &= ~(UINT64_C(1) << (page % 64));
        }
    }
}

static bool block_marked(uint64_t first, uint64_t end)
{
    for (uint64_t i = first / 64; i < (end + 63) / 64; i++) {
        if (bitmap[i] != 0) {
            return true;
        }
    }
    return false;
}

static void protect(uint64_t first, uint64_t count)
{
    int r = engine_dirty_protect(src.e, first, count);

    if (r < 0) {
        fail("cannot protect", strerror(-r));
    }
}

static void copy_block(uint64_t first, uint64_t end)
{
    uint64_t at = first, from = first, to;

    if (!block_marked(first, end)) {
        return;
    }
    if (!opt.late) {
        protect(first, end - first);
    }
    while (at < end && engine_ram_data(&src.ram, &from, &to) && from < end) {
        zero_run(at, from);
        copy_run(from, to < end ? to : end);
        at = from = to;
    }
    if (at < end) {
        zero_run(at, end);
    }
    if (opt.late) {
        sleep_ms(20);
        protect(first, end - first);
    }
}

static uint64_t copy_round(void)
{
    uint64_t pages;
    int r = engine_dirty_collect(src.e, bitmap, &pages);

    if (r < 0) {
        fail("cannot collect", strerror(-r));
    }
    in_round = 0;
    for (uint64_t first = 0; first < src.ram.page_count; first += BLOCK_PAGES) {
        uint64_t end = first + BLOCK_PAGES;

        copy_block(first, end < src.ram.page_count ? end : src.ram.page_count);
        send_frame(&src);
        listen_to(&src);
    }
    return in_round;
}

static uint64_t pages_differing(void)
{
    uint64_t count = 0, from = 0, to = 0;

    for (uint64_t page = 0; page < src.ram.page_count; page++) {
        if (page == to) {
            from = to;
        }
        if (page == to && !engine_ram_data(&src.ram, &from, &to)) {
            from = to = src.ram.page_count;
        }
        if (page < from ? !is_zero(&dst, page)
                        : memcmp(src.ram.host + page * PAGE, dst.ram.host + page * PAGE,
                                 PAGE) != 0) {
            if (count++ < 5) {
                printf("copyram: page %#llx differs\n", (unsigned long long)page);
            }
        }
    }
    return count;
}

/* The move
 * ----------------------------------------------------------------------------------- */

static void open_side(struct side *s, const char *rom, const char *disk, int *ret_fd)
{
    static struct kvm_ops ops;
    static char cmdline[128];
    struct engine_conf conf = {.machine =
                                   opt.standard ? MACHINE_STANDARD : MACHINE_LOCKSTEP,
                               .transport = MACHINE_TRANSPORT_MMIO,
                               .kvm = &ops,
                               .kvm_path = "/dev/kvm",
                               .rom_path = rom,
                               .cmdline = cmdline,
                               .ram_len = (uint64_t)opt.ram_mib << 20,
                               .disk_count = 1,
                               .nic_count = 1};
    struct vmm_error err;

    ops = kvm_linux;
    ops.check = opt.plain ? check_plain : kvm_linux.check;
    snprintf(cmdline, sizeof cmdline, "ip=10.0.0.5 rate=200 dirty=%s", opt.dirty);
    snprintf(conf.disk[0].path, sizeof conf.disk[0].path, "%s", disk);
    conf.nic[0].fd[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
    snprintf(conf.disk[0].serial, sizeof conf.disk[0].serial, "pulse");
    if (engine_open(&conf, &s->e, &err) < 0 ||
        disks_file(DISK_RAW, disk, false, ret_fd, &err) < 0) {
        fail("cannot make a VM", err.text);
    }
    engine_ram(s->e, &s->ram);
}

static void begin(void)
{
    struct vmm_error err;

    memset(bitmap, 0xFF, (src.ram.page_count + 63) / 64 * 8);
    if (engine_receive(dst.e, &err) < 0 ||
        engine_ram_populate(&dst.ram, 0, dst.ram.page_count, NULL) < 0 ||
        engine_dirty_begin(src.e, DIRTY_AUTO, &err) < 0) {
        fail("cannot begin", err.text);
    }
}

static void halfway(void)
{
    if (opt.reset && !engine_reset(src.e)) {
        fail("cannot reset", "not running");
    }
    if (opt.throttle > 0) {
        engine_throttle(src.e, opt.throttle);
    }
}

/* Pages per second in the rounds of each half. */
static void copy_rounds(double rate[2])
{
    for (int half = 0; half < 2; half++) {
        uint64_t start = loop_now_ns(), pages = 0;

        for (unsigned i = 0; i < opt.rounds / 2; i++) {
            pages += copy_round();
            sleep_ms(half == 1 && i + 1 == opt.rounds / 2 ? 0 : 10);
        }
        rate[half] = (double)pages / ((double)(loop_now_ns() - start) / 1e9);
        if (half == 0) {
            halfway();
        }
    }
}

static void save_state(void)
{
    struct engine_saved saved;

    if (engine_save_wait(src.e, engine_state_fd(src.e), "moved", ENGINE_RAM_APART,
                         &saved) < 0) {
        fail("cannot save", saved.err.text);
    }
}

static void check_state(void)
{
    struct vmm_error err;

    if (engine_state_check(dst.e, engine_state_fd(src.e), "moved", ENGINE_RAM_APART,
                           &err) < 0) {
        fail("the state is refused", err.text);
    }
}

static void move(int dst_disk)
{
    uint64_t frozen_ns, last, differ;
    struct vmm_error err;
    double rate[2], down_ms;

    begin();
    copy_rounds(rate);
    frozen_ns = loop_now_ns();
    if (engine_freeze_try(src.e, "moved") != RUN_DONE ||
        engine_freeze_wait(src.e, 5000, &err) < 0) {
        fail("cannot freeze", err.text);
    }
    save_state();
    last = copy_round();
    check_state();
    engine_disks(dst.e, &dst_disk, 1);
    differ = pages_differing();
    if (differ == 0) {
        (void)engine_end(src.e, RUN_END_KILLED, "moved");
        (void)engine_start(dst.e, 2, "moved");
        until_records(&dst, 1);
    }
    down_ms = (double)(loop_now_ns() - frozen_ns) / 1e6;
    engine_dirty_end(src.e);
    if (differ == 0) {
        until_records(&dst, 50);
    }
    printf("rounds=%u pages=%llu last=%llu rate=%.0f rate_after=%.0f down_ms=%.1f "
           "records=%u records_after=%u memory_lost=%u differ=%llu\n",
           opt.rounds, (unsigned long long)copied, (unsigned long long)last, rate[0],
           rate[1], down_ms, src.records, dst.records, src.lost + dst.lost,
           (unsigned long long)differ);
    fflush(stdout);
    _exit(differ > 0 ? 3 : src.lost + dst.lost > 0 ? 1 : 0);
}

static void next_line(const char *say)
{
    char c = 0;

    printf("%s\n", say);
    while (c != '\n' && read(0, &c, 1) == 1) {
    }
}

/* A disk that does not answer is found out, named, and cancels the move. */
static void try_hung_disk(const char *disk)
{
    struct engine_status st;
    struct vmm_error err;
    uint64_t start;

    next_line("ready");
    sleep_ms(100); /* a request is on its way */
    start = loop_now_ns();
    if (engine_freeze_try(src.e, "moved") != RUN_DONE) {
        fail("cannot freeze", "not running");
    }
    if (engine_freeze_wait(src.e, 300, &err) != -ETIMEDOUT || !strstr(err.text, disk) ||
        loop_now_ns() - start > NSEC_PER_SEC) {
        fail("the disk is not told to hang", err.text);
    }
    printf("copyram: %s\n", err.text);
    if (engine_freeze_undo(src.e, "its disk hangs") != RUN_DONE) {
        fail("the freeze is not taken back", "");
    }
    sleep_ms(50);
    engine_status(src.e, &st);
    if (st.state != RUN_RUNNING || st.epoch != 1) {
        fail("not running again", run_state_str(st.state));
    }
    next_line("undone");
    until_records(&src, 5);
}

static bool parse(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        bool *flag = strcmp(argv[i], "--standard") == 0 ? &opt.standard
                     : strcmp(argv[i], "--plain") == 0  ? &opt.plain
                     : strcmp(argv[i], "--reset") == 0  ? &opt.reset
                     : strcmp(argv[i], "--late") == 0   ? &opt.late
                     : strcmp(argv[i], "--hang") == 0   ? &opt.hang
                     : strcmp(argv[i], "--deaf") == 0   ? &opt.deaf
                                                        : NULL;

        if (flag) {
            *flag = true;
        } else if (i + 1 == argc) {
            return false;
        } else if (strcmp(argv[i], "--dirty") == 0) {
            opt.dirty = argv[++i];
        } else {
            unsigned *number = strcmp(argv[i], "--ram") == 0        ? &opt.ram_mib
                               : strcmp(argv[i], "--rounds") == 0   ? &opt.rounds
                               : strcmp(argv[i], "--throttle") == 0 ? &opt.throttle
                                                                    : NULL;

            if (!number) {
                return false;
            }
            *number = (unsigned)strtoul(argv[++i], NULL, 10);
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    struct sandbox_conf walls = {.change_user = geteuid() == 0,
                                 .uid = geteuid() == 0 ? UID : geteuid(),
                                 .gid = geteuid() == 0 ? UID : getegid(),
                                 .memlock_bytes = UINT64_MAX};
    static char text[BUFSIZ];
    struct vmm_error err;
    int fd[2];

    if (argc < 3 || !parse(argc - 3, argv + 3)) {
        fprintf(stderr, "usage: copyram ROM DISK [OPTION...]\n");
        return 2;
    }
    setvbuf(stdout, text, _IOLBF,
            sizeof text); /* or it asks what a terminal is, inside */
    open_side(&src, argv[1], argv[2], &fd[0]);
    open_side(&dst, argv[1], argv[2], &fd[1]);
    bitmap = calloc((src.ram.page_count + 63) / 64, sizeof *bitmap);
    BUG_ON(!bitmap);
    if (sandbox_enter(&walls, &err) < 0 || engine_go(src.e, &err) < 0 ||
        engine_go(dst.e, &err) < 0) {
        fail("cannot begin", err.text);
    }
    sandbox_thread(SANDBOX_TRANSFER);
    engine_disks(src.e, fd, 1);
    (void)engine_start(src.e, 1, "moved");
    until_records(&src, 50);
    if (opt.hang) {
        try_hung_disk(argv[2]);
    }
    move(fd[1]);
}
