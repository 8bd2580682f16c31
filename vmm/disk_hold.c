/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk_hold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "vmm/blk_request.h"
#include "vmm/hold_log.h"

struct disk_hold {
    struct hold_log log;
    uint64_t sectors;
    struct blk_request waits[DISK_HOLD_SLOTS]; /* in their order */
    unsigned wait_count, waiting_writes;
    bool reading[DISK_HOLD_SLOTS]; /* by slot: to be patched when it is answered */
    unsigned reading_count;
    bool freed; /* is being written out: what comes now waits for that */
    bool over;  /* the disk has all of it; the log is there for older reads */
    uint8_t *bytes;
    struct hold_op op[HOLD_OPS_MAX];
};

static void hold_free(struct disk_hold *d)
{
    if (d) {
        free(d->bytes);
    }
    free(d);
}

int disk_hold_begin(struct disk_holds *h, unsigned disk, uint64_t sectors,
                    struct vmm_error *err)
{
    struct disk_hold *d = calloc(1, sizeof *d);
    void *bytes = NULL;

    BUG_ON(disk >= VM_DISKS_MAX || h->of[disk]);
    if (!h->scratch) {
        h->scratch = malloc(BLK_REQUEST_MAX);
    }
    if (!d || !h->scratch || posix_memalign(&bytes, 4096, HOLD_BYTES_MAX) != 0) {
        free(d);
        return vmm_fail(err, -ENOMEM, "no memory for writes that have to wait");
    }
    d->bytes = bytes; /* only what is used is ever touched */
    d->sectors = sectors;
    hold_log_init(&d->log, d->bytes, HOLD_BYTES_MAX, d->op, HOLD_OPS_MAX);
    h->of[disk] = d;
    atomic_fetch_or(&h->mask, UINT32_C(1) << disk);
    return 0;
}

static void answer(struct disk_holds *h, unsigned disk, const struct blk_request *rq,
                   uint32_t status)
{
    unsigned at = atomic_load(&h->answered_count);

    BUG_ON(at == sizeof h->answered / sizeof h->answered[0]);
    h->answered[at].disk = disk;
    h->answered[at].status = status;
    h->answered[at].request = *rq;
    atomic_store(&h->answered_count, at + 1);
}

static void put_off(struct disk_hold *d, const struct blk_request *rq)
{
    BUG_ON(d->wait_count == DISK_HOLD_SLOTS);
    d->waits[d->wait_count++] = *rq;
    d->waiting_writes += rq->op != REQUEST_FLUSH;
}

static bool add(struct disk_holds *h, struct disk_hold *d, const struct blk_request *rq)
{
    uint32_t len = rq->op == REQUEST_WRITE ? rq->len : 0;

    if (d->freed || d->waiting_writes > 0 ||
        atomic_load(&h->bytes) + len > HOLD_BYTES_MAX || !hold_log_add(&d->log, rq)) {
        return false;
    }
    atomic_fetch_add(&h->bytes, len);
    return true;
}

bool disk_hold_takes(struct disk_holds *h, unsigned disk, const struct blk_request *rq)
{
    struct disk_hold *d = h->of[disk];
    uint32_t status;

    if (!d || d->over || rq->slot == DISK_HOLD_SLOT) {
        return false;
    }
    BUG_ON(rq->slot >= DISK_HOLD_SLOTS);
    if (rq->op == REQUEST_READ) {
        d->reading_count += !d->reading[rq->slot];
        d->reading[rq->slot] = true;
        return false;
    }
    status = blk_request_check(
        rq, &(struct blk_request_limits){true, false, false, d->sectors});
    if (status == 0 && rq->op == REQUEST_WRITE_ZEROES) {
        status = EOPNOTSUPP; /* whether the disk can is not known before it is too late */
    }
    if (status != 0) {
        answer(h, disk, rq, status);
    } else if (rq->op != REQUEST_FLUSH && add(h, d, rq)) {
        answer(h, disk, rq, 0);
    } else {
        put_off(d, rq);
    }
    return true;
}

/* The memory goes when nothing needs it any more. */
static void tidy(struct disk_holds *h, unsigned disk)
{
    struct disk_hold *d = h->of[disk];

    if (d->over && d->reading_count == 0) {
        hold_free(d);
        h->of[disk] = NULL;
    }
}

/* All of the log is on the disk: the disk gets what comes, as ever. */
static void pass_on(struct disk_holds *h, unsigned disk, disk_submit_fn submit, void *ctx)
{
    struct disk_hold *d = h->of[disk];

    d->over = true;
    for (unsigned i = 0; i < d->wait_count; i++) {
        submit(ctx, disk, &d->waits[i]);
    }
    d->wait_count = 0;
    atomic_fetch_and(&h->mask, ~(UINT32_C(1) << disk));
    tidy(h, disk);
}

void disk_hold_turn(struct disk_holds *h, disk_submit_fn submit, void *ctx)
{
    uint32_t excluded = atomic_load(&h->excluded) & atomic_load(&h->mask);

    for (unsigned i = 0; excluded != 0 && i < VM_DISKS_MAX; i++) {
        struct disk_hold *d = h->of[i];
        struct blk_request rq;

        if ((excluded >> i & 1) == 0) {
            continue;
        }
        d->freed = true;
        while (hold_log_next(&d->log, &rq)) {
            rq.slot = DISK_HOLD_SLOT;
            submit(ctx, i, &rq);
        }
        if (hold_log_over(&d->log)) {
            pass_on(h, i, submit, ctx);
        }
    }
}

unsigned disk_hold_reap(struct disk_holds *h, blk_done_fn done, void *ctx)
{
    unsigned count = atomic_load(&h->answered_count), now;

    for (unsigned i = 0; i < count; i++) { /* `done` may lead to others, behind these */
        struct blk_request rq = h->answered[i].request;

        done(ctx, h->answered[i].disk, &rq, h->answered[i].status, NULL, 0);
    }
    now = atomic_load(&h->answered_count);
    memmove(h->answered, h->answered + count, (now - count) * sizeof h->answered[0]);
    atomic_store(&h->answered_count, now - count);
    return count;
}

void disk_hold_drop(struct disk_holds *h, unsigned disk, const struct blk_request *rq)
{
    BUG_ON(!h->of[disk]);
    atomic_fetch_sub(&h->bytes, hold_log_done(&h->of[disk]->log, rq->generation));
}

static void patch(struct disk_holds *h, struct disk_hold *d, const struct blk_request *rq,
                  const uint8_t **data)
{
    if (*data && rq->len <= BLK_REQUEST_MAX &&
        hold_log_covers(&d->log, rq->sector, rq->len)) {
        memcpy(h->scratch, *data, rq->len);
        hold_log_patch(&d->log, rq->sector, h->scratch, rq->len);
        *data = h->scratch;
    }
}

bool disk_hold_done(struct disk_holds *h, unsigned disk, const struct blk_request *rq,
                    uint32_t status, const uint8_t **data)
{
    struct disk_hold *d = h->of[disk];

    if (rq->slot == DISK_HOLD_SLOT) {
        if (status == 0) {
            disk_hold_drop(h, disk, rq);
        }
        return status == 0;
    }
    if (d && rq->op == REQUEST_READ && d->reading[rq->slot]) {
        d->reading[rq->slot] = false;
        d->reading_count--;
        if (status == 0) {
            patch(h, d, rq, data);
        }
        tidy(h, disk); /* the log, not what was copied */
    }
    return false;
}

void disk_hold_free(struct disk_holds *h)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        hold_free(h->of[i]);
        h->of[i] = NULL;
    }
    free(h->scratch);
    h->scratch = NULL;
}
