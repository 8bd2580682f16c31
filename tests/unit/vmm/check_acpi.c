/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI tables: every configuration is whole (checksums, pointers), the loader script of
 * firmware gives the same tables as building them in place, AML lengths. */
#include <string.h>

#include "base/le.h"
#include "tests/unit/unit.h"
#include "vmm/acpi.h"
#include "vmm/aml.h"

#define PLACE 0x7FE0000u

static struct acpi_tables tables, again;

static uint8_t sum(const uint8_t *bytes, size_t len)
{
    uint8_t s = 0;

    for (size_t i = 0; i < len; i++) {
        s = (uint8_t)(s + bytes[i]);
    }
    return s;
}

static uint32_t u32_at(const uint8_t *p)
{
    struct le32 v;

    memcpy(&v, p, sizeof v);
    return le32_get(v);
}

static uint64_t u64_at(const uint8_t *p)
{
    return u32_at(p) | (uint64_t)u32_at(p + 4) << 32;
}

/* The table that a pointer of `base` names. */
static const struct acpi_table *table_at(const struct acpi_tables *t, uint64_t address,
                                         uint32_t base)
{
    for (unsigned i = 0; i < t->table_count; i++) {
        if (t->table[i].at + base == address) {
            return &t->table[i];
        }
    }
    ck_abort_msg("nothing at %llx", (unsigned long long)address);
}

static void check_whole(const struct acpi_tables *t, uint32_t base)
{
    ck_assert_uint_eq(sum(t->rsdp, 20), 0);
    ck_assert_uint_eq(sum(t->rsdp, ACPI_RSDP_LEN), 0);
    ck_assert_mem_eq(t->bytes + table_at(t, u32_at(t->rsdp + 16), base)->at, "RSDT", 4);
    ck_assert_mem_eq(t->bytes + table_at(t, u64_at(t->rsdp + 24), base)->at, "XSDT", 4);
    for (unsigned i = 0; i < t->table_count; i++) {
        const struct acpi_table *table = &t->table[i];

        ck_assert_uint_eq(table->at % 64, 0);
        ck_assert_uint_le(table->at + table->len, t->len);
        ck_assert_uint_eq(u32_at(t->bytes + table->at + 4), table->len);
        if (!table->no_checksum) {
            ck_assert_uint_eq(sum(t->bytes + table->at, table->len), 0);
        }
    }
    for (unsigned i = 0; i < t->pointer_count; i++) {
        const uint8_t *p = t->bytes + t->pointer[i].at;

        (void)table_at(t, t->pointer[i].width == 8 ? u64_at(p) : u32_at(p), base);
    }
}

static void each_configuration(void (*check)(const struct acpi_conf *conf))
{
    static const unsigned cpus[] = {1, 2, 64};

    for (unsigned transport = 0; transport < 2; transport++) {
        for (unsigned slots = 0; slots <= MACHINE_VIRTIO_SLOTS; slots++) {
            for (unsigned c = 0; c < 3; c++) {
                struct acpi_conf conf = {.type = MACHINE_STANDARD,
                                         .transport = transport,
                                         .cpu_count = cpus[c],
                                         .virtio_count = slots,
                                         .ram_len = 1 << 28};

                check(&conf);
                conf.type = MACHINE_LOCKSTEP;
                check(&conf);
            }
        }
    }
}

static void whole(const struct acpi_conf *conf)
{
    acpi_build(conf, PLACE, &tables);
    check_whole(&tables, PLACE);
}

START_TEST(every_configuration_is_whole)
{
    each_configuration(whole);
}
END_TEST

/* Runs the script as firmware does; the RSDP ends up in `tables`. */
static void run_script(struct acpi_tables *t, uint32_t base)
{
    static uint8_t script[ACPI_LOADER_MAX];
    uint32_t len = acpi_loader_build(t, script);
    unsigned allocated = 0;

    ck_assert_uint_eq(len % ACPI_LOADER_ENTRY_LEN, 0);
    for (uint8_t *c = script; c < script + len; c += ACPI_LOADER_ENTRY_LEN) {
        bool rsdp = strcmp((const char *)c + 4, ACPI_FILE_RSDP) == 0;
        uint8_t *file = rsdp ? t->rsdp : t->bytes;
        uint32_t size = rsdp ? ACPI_RSDP_LEN : t->len, at, n;

        ck_assert(rsdp || strcmp((const char *)c + 4, ACPI_FILE_TABLES) == 0);
        switch (u32_at(c)) {
        case 1:
            ck_assert_uint_eq(u32_at(c + 60), rsdp ? 16 : 64);
            ck_assert_uint_eq(c[64], rsdp ? 2 : 1);
            allocated++;
            break;
        case 2:
            ck_assert_str_eq((const char *)c + 60, ACPI_FILE_TABLES);
            at = u32_at(c + 116);
            n = c[120];
            ck_assert_uint_le(at + n, size);
            ck_assert(n == 4 || u32_at(file + at + 4) == 0);
            memcpy(file + at, &(struct le32){u32_at(file + at) + base}, 4);
            break;
        case 3:
            at = u32_at(c + 60);
            ck_assert_uint_le(u32_at(c + 64) + u32_at(c + 68), size);
            file[at] = (uint8_t)(file[at] - sum(file + u32_at(c + 64), u32_at(c + 68)));
            break;
        default:
            ck_abort_msg("command %u", u32_at(c));
        }
    }
    ck_assert_uint_eq(allocated, 2);
}

static void script_agrees(const struct acpi_conf *conf)
{
    acpi_build(conf, 0, &tables);
    run_script(&tables, PLACE);
    acpi_build(conf, PLACE, &again);
    ck_assert_mem_eq(tables.bytes, again.bytes, again.len);
    ck_assert_mem_eq(tables.rsdp, again.rsdp, ACPI_RSDP_LEN);
}

START_TEST(firmware_and_direct_tables_agree)
{
    each_configuration(script_agrees);
}
END_TEST

START_TEST(placed_in_guest_memory)
{
    static uint8_t ram[1 << 20] __attribute__((aligned(4096)));
    struct acpi_conf conf = {.cpu_count = 1, .virtio_count = 2, .ram_len = sizeof ram};
    struct gmem gm = {0};
    struct gpa rsdp = {0};

    ck_assert(!acpi_place(&conf, &gm, &rsdp));
    ck_assert_int_eq(gmem_add(&gm, (struct gpa){0}, sizeof ram, ram, false, NULL), 0);
    ck_assert(acpi_place(&conf, &gm, &rsdp));
    ck_assert_uint_eq(rsdp.v % 16, 0);
    ck_assert_mem_eq(ram + rsdp.v, "RSD PTR ", 8);
    ck_assert_mem_eq(ram + u64_at(ram + rsdp.v + 24), "XSDT", 4);
}
END_TEST

/* A scope of every length around the borders of the encoding; read back as 20.2.4 says.
 */
START_TEST(package_lengths)
{
    static uint8_t buf[5000], fill[4600];

    for (unsigned i = 0; i < 4600; i = i < 80 || i > 4070 ? i + 1 : i + 97) {
        struct aml a = {.wr = bytes_wr_make(buf, sizeof buf)};
        size_t block = aml_scope(&a, "ABCD"), len, bytes;

        memset(fill, (int)i, sizeof fill);
        aml_bytes(&a, fill, i);
        aml_end(&a, block);
        ck_assert(!a.wr.failed);
        bytes = (size_t)(buf[1] >> 6) + 1;
        len = bytes == 1 ? buf[1] & 0x3F : buf[1] & 0xF;
        for (size_t b = 1; b < bytes; b++) {
            len |= (size_t)buf[1 + b] << (8 * b - 4);
        }
        ck_assert_uint_eq(len, a.wr.pos - 1);
        ck_assert_mem_eq(buf + 1 + bytes, "ABCD", 4);
        ck_assert(i == 0 || memcmp(buf + 5 + bytes, fill, i) == 0);
    }
}
END_TEST

START_TEST(no_room_is_no_overrun)
{
    uint8_t buf[64];

    for (size_t cap = 0; cap < 40; cap++) {
        struct aml a = {.wr = bytes_wr_make(buf, cap)};
        size_t block = aml_device(&a, "DEV0"), res;

        memset(buf, 0xEE, sizeof buf);
        aml_name_eisa(&a, "_HID", "PNP0501");
        res = aml_resources(&a, "_CRS");
        aml_res_io(&a, 0x3F8, 8);
        aml_resources_end(&a, res);
        aml_end(&a, block);
        ck_assert(a.wr.failed == (cap < 37));
        ck_assert_uint_eq(buf[cap], 0xEE);
    }
}
END_TEST

static Suite *acpi_suite(void)
{
    Suite *suite = suite_create("acpi");
    TCase *tc = tcase_create("acpi");

    tcase_add_test(tc, every_configuration_is_whole);
    tcase_add_test(tc, firmware_and_direct_tables_agree);
    tcase_add_test(tc, placed_in_guest_memory);
    tcase_add_test(tc, package_lengths);
    tcase_add_test(tc, no_room_is_no_overrun);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(acpi_suite)
