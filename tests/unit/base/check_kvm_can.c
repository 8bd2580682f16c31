/* SPDX-License-Identifier: Apache-2.0 */
/* base/kvm_can: text and back, words of another version, what machines need. */
#include "base/kvm_can.h"

#include <string.h>

#include "tests/unit/unit.h"

#define BIT(n) (UINT32_C(1) << (n))

START_TEST(text_and_back)
{
    char text[KVM_CAN_TEXT_MAX];
    uint32_t all = BIT(KVM_CAN_COUNT) - 1;

    for (uint32_t can = 0; can <= all; can++) {
        size_t len = kvm_can_print(can, text, sizeof text);

        ck_assert_uint_eq(len, can == 0 ? 0 : strlen(text));
        ck_assert_uint_eq(len == 0 ? 0 : kvm_can_parse(text), can);
    }
    ck_assert_uint_gt(kvm_can_print(all, text, sizeof text), 0);
    ck_assert_uint_eq(kvm_can_print(all, text, strlen(text)), 0); /* no room for NUL */
    ck_assert_uint_eq(kvm_can_print(all, text, 0), 0);
}
END_TEST

START_TEST(other_words)
{
    ck_assert_uint_eq(kvm_can_parse("irqchip teleport irqfd\n"),
                      BIT(KVM_CAN_IRQCHIP) | BIT(KVM_CAN_IRQFD));
    ck_assert_uint_eq(kvm_can_parse("irqchi irqchip2  "), 0);
    ck_assert_uint_eq(kvm_can_parse(""), 0);
}
END_TEST

START_TEST(needs)
{
    ck_assert(kvm_can_needs(true) & BIT(KVM_CAN_IRQCHIP));
    ck_assert(!(kvm_can_needs(false) & BIT(KVM_CAN_IRQCHIP)));
    ck_assert(kvm_can_needs(false) & BIT(KVM_CAN_MSR_FILTER));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("kvm_can");
    TCase *t = tcase_create("kvm_can");

    tcase_add_test(t, text_and_back);
    tcase_add_test(t, other_words);
    tcase_add_test(t, needs);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
