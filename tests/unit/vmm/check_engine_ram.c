/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/engine_ram: guest memory as a migration finds it. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/units.h"
#include "tests/unit/unit.h"
#include "tests/unit/vmm/engine_rig.h"
#include "vmm/engine_ram.h"

#define PAGES (ENGINE_RIG_RAM / 4096)

static struct engine_ram ram;

static void open_ram(void)
{
    er_go(0, ENGINE_RIG_RAM);
    engine_ram(er.e, &ram);
}

START_TEST(where_it_lies)
{
    er_go((unsigned)_i, ENGINE_RIG_RAM);
    engine_ram(er.e, &ram);
    ck_assert_ptr_eq(ram.host, fake_vm.ram);
    ck_assert_uint_eq(ram.page_count, PAGES);
    ck_assert_uint_eq(ram.len, ENGINE_RIG_RAM);
    ck_assert_uint_eq((uintptr_t)ram.host % (2 << 20), 0);
    ck_assert(!ram.huge);
}
END_TEST

/* What nobody touched is not looked at. */
START_TEST(pages_that_exist)
{
    uint64_t begin = 0, end;

    open_ram();
    ck_assert_int_eq(engine_receive(er.e, &er.err), 0);
    engine_ram_zero(&ram, 0, PAGES);
    ck_assert(!engine_ram_data(&ram, &begin, &end));
    ram.host[5 * 4096] = ram.host[6 * 4096] = ram.host[(PAGES - 1) * 4096] = 1;
    ck_assert(engine_ram_data(&ram, &begin, &end));
    ck_assert_uint_eq(begin, 5);
    ck_assert_uint_eq(end, 7);
    begin = end;
    ck_assert(engine_ram_data(&ram, &begin, &end));
    ck_assert_uint_eq(begin, PAGES - 1);
    ck_assert_uint_eq(end, PAGES);
    begin = end;
    ck_assert(!engine_ram_data(&ram, &begin, &end));
    engine_ram_zero(&ram, 5, 2);
    ck_assert_uint_eq(ram.host[5 * 4096], 0);
}
END_TEST

START_TEST(populated_ahead)
{
    static unsigned char there[PAGES];
    _Atomic bool cancel = true;

    open_ram();
    ck_assert_int_eq(engine_ram_populate(&ram, 0, PAGES, &cancel), -ECANCELED);
    cancel = false;
    ck_assert_int_eq(engine_ram_populate(&ram, 3, 4, &cancel), 0);
    ck_assert_int_eq(mincore(ram.host, ENGINE_RIG_RAM, there), 0);
    ck_assert(there[3] & there[6] & 1);
    ck_assert_int_eq(engine_ram_populate(&ram, 0, PAGES, NULL), 0);
    ck_assert_int_eq(mincore(ram.host, ENGINE_RIG_RAM, there), 0);
    for (unsigned i = 0; i < PAGES; i++) {
        ck_assert_uint_eq(there[i] & 1, 1);
    }
}
END_TEST

/* Where the host can: a whole block, and what was in it is still there. */
START_TEST(a_block_in_one_piece)
{
    static unsigned char there[1024];
    int r;

    er_go(0, 4 << 20);
    engine_ram(er.e, &ram);
    ram.host[(2 << 20) + 7 * 4096] = 0x5a;
    r = engine_ram_populate_block(&ram, 512);
    ck_assert_uint_eq(ram.host[(2 << 20) + 7 * 4096], 0x5a);
    ck_assert_uint_eq(ram.host[(2 << 20) + 8 * 4096], 0);
    ck_assert_int_eq(mincore(ram.host, 4 << 20, there), 0);
    ck_assert_uint_eq(there[1023] & 1, r == 0);
    ck_assert_uint_eq(there[100] & 1, 0);
    ck_assert_int_eq(engine_ram_populate_block(&ram, 100), -EINVAL);
    ck_assert_int_eq(engine_ram_populate_block(&ram, 1024), -EINVAL);
}
END_TEST

/* A destination begins with zeros, where another VM has its firmware; it does not boot,
 * and nobody makes one of a VM that runs. */
START_TEST(receives_or_boots)
{
    open_ram();
    memset(ram.host + 0xE0000, 0x90, 0x20000);
    ck_assert_int_eq(engine_receive(er.e, &er.err), 0);
    ck_assert_uint_eq(ram.host[0], 0);
    ck_assert_int_eq(memcmp(ram.host, ram.host + 1, ENGINE_RIG_RAM - 1), 0);
    ck_assert_int_eq(engine_start(er.e, 1, "test"), RUN_DONE);
    ck_assert(er_wait(RUN_ENDED));
    ck_assert_uint_eq(atomic_load(&fake_guest.runs), 0);
    er_close();
    open_ram();
    er_start(1);
    ck_assert_int_eq(engine_receive(er.e, &er.err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(er.err.text, "running"));
}
END_TEST

/* The log through the engine, while the guest runs; left on at the end. */
START_TEST(logged)
{
    uint64_t bitmap[PAGES / 64] = {0}, pages;
    unsigned slot = VM_SLOT_RAM;

    atomic_store(&fake_guest.computes, true);
    er_go((unsigned)_i, ENGINE_RIG_RAM);
    er_start(1);
    ck_assert_int_eq(engine_dirty_begin(er.e, DIRTY_AUTO, &er.err), 0);
    ck_assert_int_eq(engine_dirty_protect(er.e, 0, PAGES), 0);
    fake_guest_write(slot, 9 * 4096, 1);
    ck_assert_int_eq(engine_dirty_collect(er.e, bitmap, &pages), 0);
    ck_assert_uint_eq(pages, 1);
    ck_assert_uint_eq(bitmap[0], 1u << 9);
    engine_dirty_end(er.e);
    ck_assert_int_eq(engine_dirty_collect(er.e, bitmap, &pages), -EINVAL);
    ck_assert_int_eq(engine_dirty_begin(er.e, DIRTY_AUTO, &er.err), 0);
    ck_assert(engine_reset(er.e)); /* puts the ROM's copy back: a write of ours */
    ck_assert_int_eq(engine_dirty_protect(er.e, 0, PAGES), 0);
    memset(bitmap, 0, sizeof bitmap);
    for (int i = 0; i < 1000 && (bitmap[0xFF000 / 4096 / 64] >> 63 & 1) == 0; i++) {
        er_sleep_ms(1);
        ck_assert_int_eq(engine_dirty_collect(er.e, bitmap, &pages), 0);
    }
    ck_assert_uint_eq(bitmap[0xFF000 / 4096 / 64] >> 63, 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine_ram");
    TCase *t = tcase_create("ram");

    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, er_setup, er_teardown);
    tcase_add_loop_test(t, where_it_lies, 0, 2);
    tcase_add_test(t, pages_that_exist);
    tcase_add_test(t, populated_ahead);
    tcase_add_test(t, a_block_in_one_piece);
    tcase_add_test(t, receives_or_boots);
    tcase_add_loop_test(t, logged, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
