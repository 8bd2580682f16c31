/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pulse: the test guest (design 12.2). Appends records to its disk, flushes, and only
 * then tells: on the serial port and to whoever asks by UDP. One loop; between interrupts
 * it halts. See README.md.
 */
#include "tests/guest/pulse_blk.h"
#include "tests/guest/pulse_hostile.h"
#include "tests/guest/pulse_hw.h"
#include "tests/guest/pulse_knobs.h"
#include "tests/guest/pulse_net.h"
#include "tests/guest/record.h"

#define DIRTY_BASE       UINT64_C(0x400000)
#define DIRTY_BATCH      64 /* pages between two looks at the network */
#define PROGRESS_PAGES   256
#define PAGE             4096
#define ROM_VIEW         UINT64_C(0x7fe00000) /* there the ROM is mapped, not memory */
#define CMDLINE_BYTES    1024
#define STOP_SECONDS_MAX 5

extern uint64_t pulse_directories[2048]; /* of 2 MiB pages, pulse_start.S */

_Noreturn void pulse_main(void);
_Noreturn void pulse_exception(uint64_t vector, uint64_t error, uint64_t rip,
                               uint64_t address);

static struct knobs knobs;
static char cmdline[CMDLINE_BYTES];

/* The dirtied memory is a check, too: each page counts the passes over it, and none may
 * be older than the pass. */
static struct {
    uint64_t end, at, pass, credit, wanted, bad, told;
} dirty;

static uint64_t rate_credit;
static uint32_t ticks_seen, done_seen;

_Noreturn void pulse_exception(uint64_t vector, uint64_t error, uint64_t rip,
                               uint64_t address)
{
    line_text("pulse: PANIC exception=");
    line_u64(vector);
    line_text(" error=");
    line_hex(error);
    line_text(" rip=");
    line_hex(rip);
    line_text(" cr2=");
    line_hex(address);
    line_end();
    hw_power_off();
}

/* The start maps the first GiB only: pulse_start.S. Entries that nobody wrote are 0,
 * which no TLB keeps. */
static void map_up_to(uint64_t end)
{
    for (uint64_t at = UINT64_C(1) << 30; at < end; at += UINT64_C(1) << 21) {
        pulse_directories[at >> 21] = at | 0xe3; /* present, writable, accessed, dirty */
    }
}

static void dirty_init(void)
{
    uint64_t ram = fw_cfg_ram_size(), len = knobs.dirty_mib << 20;

    if (ram > ROM_VIEW) {
        ram = ROM_VIEW;
    }
    if (knobs.dirty_rate == 0) {
        return;
    }
    if (ram != 0 && DIRTY_BASE + len > ram) {
        len = ram > DIRTY_BASE ? ram - DIRTY_BASE : 0;
        line_text("pulse: dirty cut to the memory there is, MiB=");
        line_u64(len >> 20);
        line_end();
    }
    if (len == 0) {
        knobs.dirty_rate = 0;
    }
    dirty.at = DIRTY_BASE;
    dirty.end = DIRTY_BASE + len;
    map_up_to(dirty.end);
    if (knobs.filled && len != 0) {
        for (uint64_t at = dirty.at; at < dirty.end; at += PAGE) {
            *(volatile uint64_t *)at = 1;
        }
        dirty.pass = 1;
    }
}

/* Behind the dirtied memory, once. One word makes a page that is not zero; in mixed
 * memory every other 64 KiB are zeros. */
static void fill_init(void)
{
    uint64_t ram = fw_cfg_ram_size(), word = 0x9e3779b97f4a7c15;
    uint64_t at = dirty.end != 0 ? dirty.end : DIRTY_BASE;
    uint64_t end = at + (knobs.fill_mib << 20);
    uint64_t zero_mask = knobs.fill_content == FILL_MIXED ? UINT64_C(0x10000) : 0;

    ram = ram > ROM_VIEW ? ROM_VIEW : ram;
    if (ram != 0 && end > ram) {
        end = ram > at ? ram : at;
        line_text("pulse: fill cut to the memory there is, MiB=");
        line_u64((end - at) >> 20);
        line_end();
    }
    map_up_to(end);
    for (; at < end; at += PAGE) {
        bool zero = knobs.fill_content == FILL_ZERO || (at & zero_mask) != 0;

        *(volatile uint64_t *)at = zero ? 0 : word;
        word += 0x9e3779b97f4a7c15 + at;
    }
}

static void dirty_bad(uint64_t found)
{
    /* The first ones tell the story. */
    if (dirty.bad++ < 8) {
        line_text("pulse: MEMORY page=");
        line_hex(dirty.at);
        line_text(" holds=");
        line_u64(found);
        line_text(" want=");
        line_u64(dirty.pass);
        line_end();
    }
}

static bool dirty_step(void)
{
    uint64_t count = dirty.wanted < DIRTY_BATCH ? dirty.wanted : DIRTY_BATCH;

    dirty.wanted -= count;
    for (uint64_t i = 0; i < count; i++) {
        volatile uint64_t *page = (volatile uint64_t *)dirty.at;

        if (dirty.pass > 0 && *page != dirty.pass) {
            dirty_bad(*page);
        }
        *page = dirty.pass + 1;
        if (knobs.progress && ++dirty.told == PROGRESS_PAGES) {
            dirty.told = 0;
            hw_milestone('d');
        }
        dirty.at += PAGE;
        if (dirty.at == dirty.end) {
            dirty.at = DIRTY_BASE;
            dirty.pass++;
        }
    }
    return count > 0;
}

/* Turns passed ticks into work; what a long stop has piled up is cut to a second's worth.
 */
static void tick_step(void)
{
    uint32_t ticks = pulse_ticks, passed = ticks - ticks_seen;

    ticks_seen = ticks;
    rate_credit += knobs.rate * passed;
    while (rate_credit >= pulse_hz) {
        rate_credit -= pulse_hz;
        blk.wanted++;
    }
    if (blk.wanted > knobs.rate) {
        blk.wanted = knobs.rate;
    }
    dirty.credit += knobs.dirty_rate * passed;
    while (dirty.credit >= pulse_hz) {
        dirty.credit -= pulse_hz;
        dirty.wanted++;
    }
    if (dirty.wanted > knobs.dirty_rate) {
        dirty.wanted = knobs.dirty_rate;
    }
    if (ticks == pulse_hz / 10 || ticks == pulse_hz) {
        net_announce();
    }
}

static void compute_step(void)
{
    uint64_t rounds = knobs.compute * 500;

    cpu_irqs_off();
    __asm__ volatile("1: decq %0; jnz 1b" : "+r"(rounds) : : "cc");
    cpu_irqs_on();
    if (knobs.progress) {
        hw_milestone('c');
    }
}

static void line_seq(const char *text)
{
    line_text(text);
    line_u64(blk.acked_seq);
    line_text(" epoch=");
    line_u64(blk.epoch);
    line_end();
}

/* Power button: finish the record under way, flush, say so, power off. */
static _Noreturn void stop_cleanly(void)
{
    uint32_t start = pulse_ticks;
    uint8_t status = 0;

    while (blk_busy() && pulse_ticks - start < STOP_SECONDS_MAX * pulse_hz) {
        uint32_t wakes = pulse_wakes;

        if (!blk_step() && !net_step()) {
            hw_idle(wakes);
        }
    }
    if (blk.device != NULL) {
        status = 0xff;
        if (!blk_busy()) {
            blk_submit(BLK_FLUSH, 0, NULL, 0);
            status = blk_wait(STOP_SECONDS_MAX * pulse_hz);
        }
    }
    line_seq(status == 0 || status == 2 ? "bye seq=" : "bye unclean seq=");
    hw_power_off();
}

static void check_ends(void)
{
    if (pulse_power_button) {
        stop_cleanly();
    }
    if (blk.done == done_seen) {
        return;
    }
    done_seen = blk.done;
    if (knobs.count != 0 && blk.done >= knobs.count) {
        line_seq("done seq=");
        hw_power_off();
    }
    if (knobs.reset != 0 && blk.done >= knobs.reset) {
        line_seq("reset seq=");
        hw_reset();
    }
    if (knobs.crash != 0 && blk.done >= knobs.crash) {
        line_seq("crash seq=");
        hw_crash();
    }
    if (knobs.hang != 0 && blk.done >= knobs.hang) {
        line_seq("hang seq=");
        hw_hang();
    }
}

static void configure(void)
{
    uint16_t selector;
    size_t len;

    knobs.rate = 50;
    knobs.body = RECORD_SLOT_BYTES;
    if (fw_cfg_find("opt/gemel/cmdline", &selector, &len)) {
        fw_cfg_read(selector, cmdline,
                    len < sizeof(cmdline) - 1 ? len : sizeof(cmdline) - 1);
        knobs_parse(&knobs, cmdline);
    }
    blk.epoch = knobs.epoch;
    if (fw_cfg_find("opt/gemel/epoch", &selector, &len) && len == sizeof(blk.epoch)) {
        blk.epoch_selector = selector;
        fw_cfg_read(selector, &blk.epoch, sizeof(blk.epoch));
    }
    if (knobs.body < RECORD_MIN_BYTES || knobs.body > RECORD_SLOT_BYTES) {
        knobs.body = RECORD_SLOT_BYTES;
    }
    blk.record_bytes = (uint32_t)knobs.body & ~511u;
    blk.quiet = knobs.quiet;
    blk.no_flush = knobs.no_flush;
    net.ip = knobs.ip;
    pulse_tick_to_debug = knobs.tick_ms != 0;
}

static void start_devices(void)
{
    uint64_t tick_ms = knobs.tick_ms != 0 && knobs.tick_ms < 50 ? knobs.tick_ms : 10;

    hw_pic_init();
    hw_pm_init();
    hw_pit_init((uint32_t)(1000 / tick_ms));
    cpu_irqs_on();
    virtio_probe();
    hw_milestone('V');
    if (!knobs.no_net && net_init()) {
        net_announce();
        line_text("pulse: net mac=");
        line_mac(net.mac);
        line_text(" ip=");
        line_ip(net.ip);
        line_end();
    }
    hw_milestone('N');
    if (!knobs.no_disk) {
        blk_init();
    }
    net.answers = true;
    dirty_init();
    fill_init();
}

static _Noreturn void be_hostile(void)
{
    struct virtio_device *net_device = virtio_find(VIRTIO_ID_NET, 0);
    uint32_t tried = 0, bad = 0;

    if (blk.device != NULL) {
        hostile_run(&hostile_blk, blk.device, knobs.hostile, &tried, &bad);
    }
    if (net_device != NULL && !knobs.no_net) {
        hostile_run(&hostile_net, net_device, knobs.hostile, &tried, &bad);
    }
    line_text("hostile: tried=");
    line_u64(tried);
    line_text(" bad=");
    line_u64(bad);
    line_end();
    hw_power_off();
}

_Noreturn void pulse_main(void)
{
    serial_init();
    line_text("pulse: started");
    line_end();
    serial_pump();
    configure();
    hw_milestone('C');
    start_devices();
    hw_milestone('R');
    if (knobs.hostile != NULL) {
        be_hostile();
    }
    line_seq("pulse: ready seq=");
    for (;;) {
        uint32_t wakes = pulse_wakes;
        bool busy;

        if (pulse_ticks != ticks_seen) {
            tick_step();
        }
        /* It took all there was, and what comes now wakes us: no second round for it. */
        net_step();
        busy = blk_step();
        if (dirty.wanted != 0) {
            busy |= dirty_step();
        }
        busy |= serial_pump();
        check_ends();
        if (knobs.compute != 0) {
            compute_step();
        } else if (!busy) {
            hw_idle(wakes);
        }
    }
}
