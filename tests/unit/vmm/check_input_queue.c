/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/input_queue: in order, bounded in number and in bytes, data copied. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/input_queue.h"

static struct input_queue q;

START_TEST(in_order_and_copied)
{
    uint8_t frame[100];

    input_queue_init(&q);
    for (unsigned i = 0; i < 2 * INPUT_QUEUE_MAX; i++) {
        struct dev_input in = {.type = INPUT_NET_RX, .data = frame, .len = sizeof frame};
        struct queued_input *item;

        memset(frame, (int)i, sizeof frame);
        ck_assert_int_eq(input_queue_push(&q, i, &in), 0);
        memset(frame, 0xEE, sizeof frame);
        ck_assert(!input_queue_empty(&q));
        item = input_queue_pop(&q);
        ck_assert_ptr_nonnull(item);
        ck_assert_uint_eq(item->dev_index, i);
        ck_assert_uint_eq(item->in.data[99], (uint8_t)i);
        free(item);
    }
    ck_assert_ptr_null(input_queue_pop(&q));
    input_queue_free(&q);
}
END_TEST

START_TEST(bounded)
{
    static uint8_t big[NET_FRAME_MAX];
    struct dev_input small = {.type = INPUT_POWER_BUTTON};
    struct dev_input large = {.type = INPUT_NET_RX, .data = big, .len = sizeof big};
    unsigned count = 0;

    input_queue_init(&q);
    while (input_queue_push(&q, 0, &small) == 0) {
        count++;
    }
    ck_assert_uint_eq(count, INPUT_QUEUE_MAX);
    ck_assert_uint_eq(q.dropped, 1);
    input_queue_free(&q);

    input_queue_init(&q);
    for (count = 0; input_queue_push(&q, 0, &large) == 0; count++) {
    }
    ck_assert_uint_eq(count, INPUT_QUEUE_BYTES_MAX / sizeof big);
    ck_assert_int_eq(input_queue_push(&q, 0, &small), 0); /* a button still fits */
    input_queue_free(&q);                                 /* frees what is left */
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("input_queue");
    TCase *t = tcase_create("input_queue");

    tcase_add_test(t, in_order_and_copied);
    tcase_add_test(t, bounded);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
