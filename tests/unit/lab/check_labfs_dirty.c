/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/labfs_dirty.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

#define FILE_MAX 4096

static unsigned alloc_left, live;

static void *count_alloc(size_t size)
{
    if (alloc_left == 0) {
        return NULL;
    }
    alloc_left--;
    live++;
    return malloc(size);
}

static void count_release(void *p)
{
    live--;
    free(p);
}

static const struct labfs_memory memory = {count_alloc, count_release};

static void setup(void)
{
    alloc_left = UINT32_MAX;
    live = 0;
}

/* A backing file and what a node sees of it, byte by byte. */
struct model {
    uint8_t backing[FILE_MAX], seen[FILE_MAX];
    uint64_t backing_size, size;
};

static void check_same(const struct labfs_dirty *d, const struct model *m)
{
    uint8_t buf[FILE_MAX] = {0};
    uint64_t held = 0, end = 0;

    ck_assert_uint_eq(labfs_dirty_size(d, m->backing_size), m->size);
    size_t base = labfs_dirty_base(d, 0, m->size);
    memcpy(buf, m->backing, base < m->backing_size ? base : m->backing_size);
    labfs_dirty_overlay(d, 0, buf, m->size);
    ck_assert_mem_eq(buf, m->seen, m->size);
    for (const struct labfs_extent *e = d->head; e != NULL; e = e->next) {
        ck_assert_uint_gt(e->len, 0);
        ck_assert_uint_ge(e->off, end); /* in order, without overlap */
        end = e->off + e->len;
        held += e->len;
        ck_assert(e->next != NULL || d->tail == e);
    }
    ck_assert_uint_eq(d->bytes, held);
}

static uint32_t next_random(uint32_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 17;
    *x ^= *x << 5;
    return *x;
}

/* What make_durable does, on the model's backing file. */
static void make_durable(struct labfs_dirty *d, struct model *m)
{
    if (d->cut && m->backing_size > d->base_len) {
        memset(m->backing + d->base_len, 0, m->backing_size - d->base_len);
        m->backing_size = d->base_len;
    }
    for (const struct labfs_extent *e = d->head; e != NULL; e = e->next) {
        memcpy(m->backing + e->off, e->data, e->len);
        m->backing_size =
            e->off + e->len > m->backing_size ? e->off + e->len : m->backing_size;
    }
    m->backing_size = d->cut ? d->size : m->backing_size;
    labfs_dirty_clear(d, &memory);
    ck_assert_uint_eq(m->backing_size, m->size);
    ck_assert_mem_eq(m->backing, m->seen, m->size);
    ck_assert_uint_eq(live, 0);
}

START_TEST(any_order_of_operations_reads_as_a_file)
{
    struct labfs_dirty d = {0};
    struct model *m = calloc(1, sizeof *m);
    uint32_t x = (uint32_t)_i * 2654435761u + 1;

    for (unsigned step = 0; step < 400; step++) {
        uint64_t off = next_random(&x) % (FILE_MAX - 600);
        size_t len = 1 + next_random(&x) % 600;
        uint8_t buf[600];
        memset(buf, (int)(step % 255 + 1), sizeof buf);
        switch (next_random(&x) % 16) {
        case 0:
            make_durable(&d, m);
            break;
        case 1:
            ck_assert(labfs_dirty_truncate(&d, &memory, m->backing_size, off));
            memset(m->seen + off, 0, FILE_MAX - off);
            m->size = off;
            break;
        case 2: /* written through: on the backing file, and no longer here */
            if (!d.cut) {
                ck_assert(labfs_dirty_drop(&d, &memory, off, len));
                memcpy(m->backing + off, buf, len);
                memcpy(m->seen + off, buf, len);
                m->backing_size =
                    off + len > m->backing_size ? off + len : m->backing_size;
                m->size = off + len > m->size ? off + len : m->size;
            }
            break;
        default:
            ck_assert(labfs_dirty_write(&d, &memory, off, buf, len));
            memcpy(m->seen + off, buf, len);
            m->size = off + len > m->size ? off + len : m->size;
        }
        check_same(&d, m);
    }
    make_durable(&d, m);
    free(m);
}
END_TEST

START_TEST(without_memory_nothing_breaks)
{
    struct labfs_dirty d = {0};
    uint8_t buf[100] = {1}, out[100];

    ck_assert(labfs_dirty_write(&d, &memory, 0, buf, sizeof buf));
    alloc_left = 0;
    ck_assert(!labfs_dirty_write(&d, &memory, 10, "x", 1));
    ck_assert(!labfs_dirty_drop(&d, &memory, 10, 1)); /* the part behind needs memory */
    alloc_left = 1;
    ck_assert(!labfs_dirty_write(&d, &memory, 10, "x", 1));
    memset(out, 0, sizeof out);
    labfs_dirty_overlay(&d, 0, out, sizeof out);
    ck_assert_mem_eq(out, buf, sizeof buf);
    ck_assert_uint_eq(d.bytes, 100);
    labfs_dirty_clear(&d, &memory);
    ck_assert_uint_eq(live, 0);
    ck_assert(!labfs_dirty_any(&d));
}
END_TEST

START_TEST(ranges_at_the_end_of_the_world)
{
    struct labfs_dirty d = {0};

    ck_assert(labfs_dirty_write(&d, &memory, UINT64_MAX - 8, "12345678", 8));
    ck_assert_uint_eq(labfs_dirty_size(&d, 5), UINT64_MAX);
    ck_assert(labfs_dirty_drop(&d, &memory, 0, UINT64_MAX));
    ck_assert(!labfs_dirty_any(&d));
    ck_assert(labfs_dirty_truncate(&d, &memory, 5, UINT64_MAX));
    ck_assert_uint_eq(labfs_dirty_base(&d, 0, 10), 5);
    ck_assert_uint_eq(labfs_dirty_base(&d, 5, 10), 0);
    labfs_dirty_clear(&d, &memory);
    ck_assert_uint_eq(live, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("labfs_dirty");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_loop_test(t, any_order_of_operations_reads_as_a_file, 0, 200);
    tcase_add_test(t, without_memory_nothing_breaks);
    tcase_add_test(t, ranges_at_the_end_of_the_world);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
