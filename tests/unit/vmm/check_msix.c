/* SPDX-License-Identifier: Apache-2.0 */
/* The MSI-X table on its own: every offset in every width, masks, pending bits. */
#include "vmm/msix.h"

#include <string.h>

#include "tests/unit/unit.h"

#define COUNT 5

static struct pci_func f;
static struct msix x;

static void setup(void)
{
    const struct pci_ident ident = {.vendor = 1, .device = 2};

    pci_func_init(&f, &ident);
    msix_init(&x, &f, COUNT, 1);
    pci_func_reset(&f);
    msix_reset(&x);
}

static void control(uint32_t value)
{
    pci_func_write(&f, x.cap + MSIX_CONTROL, 2, value);
}

static void master(bool on)
{
    pci_func_write(&f, PCI_REG_COMMAND, 2, on ? PCI_COMMAND_MASTER : 0);
}

static void mask(unsigned vector, bool on)
{
    msix_write(&x, vector * MSIX_ENTRY_LEN + 12, 4, on);
}

START_TEST(capability)
{
    ck_assert_uint_eq(pci_func_read(&f, PCI_REG_CAPS, 1), x.cap);
    ck_assert_uint_eq(pci_func_read(&f, x.cap, 1), PCI_CAP_MSIX);
    ck_assert_uint_eq(pci_func_read(&f, x.cap + 1u, 1), 0);
    ck_assert_uint_eq(pci_func_read(&f, x.cap + 2u, 2), COUNT - 1);
    ck_assert_uint_eq(pci_func_read(&f, x.cap + 4u, 4), 1);
    ck_assert_uint_eq(pci_func_read(&f, x.cap + 8u, 4), MSIX_PBA_OFFSET | 1);
    control(UINT32_MAX);
    ck_assert_uint_eq(pci_func_read(&f, x.cap + 2u, 2), 0xC000 | (COUNT - 1));
}
END_TEST

/* CVE-2020-13754's class: nothing outside the table is reached, whatever the width. */
START_TEST(every_offset_and_width)
{
    struct {
        uint8_t before[64];
        struct msix x;
        uint8_t after[64];
    } guard;

    memset(&guard, 0xA5, sizeof guard);
    guard.x = x;
    for (uint64_t offset = 0; offset < 0x1010; offset++) {
        for (unsigned len = 1; len <= 8; len *= 2) {
            static const uint64_t value[] = {0, UINT64_MAX, UINT64_C(0xFEE00000FEE01003)};

            for (unsigned v = 0; v < 3; v++) {
                bool real = len >= 4 && offset % len == 0;
                struct msix before = guard.x;
                uint64_t got;

                msix_write(&guard.x, offset, len, value[v]);
                got = msix_read(&guard.x, offset, len);
                ck_assert(real || got == 0);
                ck_assert((real && offset < (uint64_t)COUNT * MSIX_ENTRY_LEN) ||
                          memcmp(&before, &guard.x, sizeof before) == 0);
                if (real && offset < (uint64_t)COUNT * MSIX_ENTRY_LEN && len == 4) {
                    uint32_t keeps = offset % 16 == 0    ? ~3u
                                     : offset % 16 == 12 ? 1u
                                                         : UINT32_MAX;

                    ck_assert_uint_eq(got, (uint32_t)value[v] & keeps);
                }
            }
        }
    }
    for (unsigned i = 0; i < sizeof guard.before; i++) {
        ck_assert_uint_eq(guard.before[i], 0xA5);
        ck_assert_uint_eq(guard.after[i], 0xA5);
    }
    ck_assert_uint_eq(msix_read(&guard.x, UINT64_MAX & ~UINT64_C(7), 8), 0);
}
END_TEST

/* Every combination of what can hold a message back, and that it goes out once when the
 * last of it is gone. */
START_TEST(held_back_and_let_go)
{
    for (unsigned held = 0; held < 16; held++) {
        setup();
        for (unsigned v = 0; v < COUNT; v++) {
            mask(v, false);
        }
        control(MSIX_CONTROL_ON | (held & 1 ? MSIX_CONTROL_MASK : 0));
        master((held & 2) == 0);
        mask(3, (held & 4) != 0);
        if (held & 8) {
            control(pci_func_read(&f, x.cap + 2u, 2) & MSIX_CONTROL_MASK);
        }
        msix_raise(&x, 3);
        msix_raise(&x, 3);
        ck_assert_uint_eq(msix_take(&x, &f), held == 0 ? 8 : 0);
        ck_assert_uint_eq(msix_read(&x, MSIX_PBA_OFFSET, 8), held == 0 ? 0 : 8);
        control(MSIX_CONTROL_ON);
        ck_assert_uint_eq(msix_take(&x, &f), (held & 6) == 0 && held != 0 ? 8 : 0);
        master(true);
        mask(3, false);
        ck_assert_uint_eq(msix_take(&x, &f), (held & 6) != 0 ? 8 : 0);
        ck_assert_uint_eq(msix_take(&x, &f), 0);
        ck_assert_uint_eq(msix_read(&x, MSIX_PBA_OFFSET, 4), 0);
    }
}
END_TEST

START_TEST(vectors_that_are_not)
{
    control(MSIX_CONTROL_ON);
    master(true);
    for (unsigned v = COUNT; v < 0x10000; v++) {
        msix_raise(&x, v);
    }
    ck_assert_uint_eq(x.pending, 0);
}
END_TEST

static Suite *msix_suite(void)
{
    Suite *suite = suite_create("msix");
    TCase *tc = tcase_create("msix");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, capability);
    tcase_add_test(tc, every_offset_and_width);
    tcase_add_test(tc, held_back_and_let_go);
    tcase_add_test(tc, vectors_that_are_not);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(msix_suite)
