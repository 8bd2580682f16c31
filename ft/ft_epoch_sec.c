/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoint mode, secondary: an epoch is put aside until all of it is here, then taken
 * as a whole: disks, pages, state. The guest is entered at go-live only. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ft/ft_session_priv.h"

#define ZEROS 65536u

static bool all_of(int fd, const uint8_t *bytes, size_t len, uint64_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, len, (off_t)at);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        bytes += n;
        len -= (size_t)n;
        at += (size_t)n;
    }
    return true;
}

static bool zeros_to(int fd, uint64_t at, uint64_t len)
{
    static const uint8_t zeros[ZEROS];
    bool good = true;

    for (uint64_t n; len > 0 && good; at += n, len -= n) {
        n = len < ZEROS ? len : ZEROS;
        good = all_of(fd, zeros, (size_t)n, at);
    }
    return good;
}

/* A discarded part may read as anything: it is left as it is. */
static bool take_disk(struct ft_session *s, const struct ft_record *record)
{
    struct ft_disk d;
    int fd;

    if (ft_get_disk(record, &d) != FT_OK ||
        (s->params.mirror >> record->device & 1) == 0) {
        return false;
    }
    fd = s->params.disk[record->device];
    if (d.op == REQUEST_WRITE) {
        return all_of(fd, d.bytes, d.len, d.sector * 512);
    }
    if (d.op == REQUEST_WRITE_ZEROES) {
        return zeros_to(fd, d.sector * 512, d.len);
    }
    return d.op != REQUEST_FLUSH || fdatasync(fd) == 0;
}

static bool take_pages(struct ft_session *s, const struct ft_record *record)
{
    struct tape_item item;
    struct engine_ram ram;
    uint8_t *to;

    if (!ft_set_pages(s, record, &item)) {
        return false;
    }
    engine_ram(s->conf.engine, &ram);
    to = ram.host + item.page * GMEM_PAGE_SIZE;
    if (item.bytes != NULL) {
        memcpy(to, item.bytes, (size_t)item.page_count * GMEM_PAGE_SIZE);
    } else {
        memset(to, 0, (size_t)item.page_count * GMEM_PAGE_SIZE);
    }
    return true;
}

static bool take_state(struct ft_session *s, const struct ft_record *record)
{
    struct ft_state piece;

    if (ft_get_state(record, &piece) != FT_OK || piece.offset != s->state_have) {
        return false;
    }
    memcpy(s->state + piece.offset, piece.bytes, piece.len);
    s->state_have = piece.offset + piece.len;
    if (s->state_have == piece.total) {
        s->state_len = piece.total;
        s->state_have = 0;
    }
    return true;
}

static bool take_said(struct ft_session *s, const struct ft_record *record)
{
    struct ft_said said;
    bool good;

    if (ft_get_said(record, &said) != FT_OK) {
        return false;
    }
    pthread_mutex_lock(&s->lock);
    good = ft_keep_out(s, said.ordinal,
                       &(struct tape_out){.kind = (enum tape_output)said.kind,
                                          .data = said.bytes,
                                          .len = said.len},
                       false);
    pthread_mutex_unlock(&s->lock);
    return good;
}

/* Before anything is written: what the peer asks of this side's disks. */
static bool disks_fit(const struct ft_session *s, struct vmm_error *err)
{
    const struct ft_set *set = &s->set;
    struct ft_record record;
    struct ft_disk d;

    for (size_t at = 0; at < set->len; at += record.len) {
        if (ft_check(set->bytes + at, set->len - at, &record) != FT_OK) {
            return false;
        }
        if (record.type != FT_DISK) {
            continue;
        }
        if (ft_get_disk(&record, &d) != FT_OK ||
            (s->params.mirror >> record.device & 1) == 0) {
            (void)vmm_fail(err, -EPROTO,
                           "the other side sent a write that is none, or of a disk that "
                           "is not mirrored; nothing of its checkpoint was taken");
            return false;
        }
        if (!ft_disk_fits(&d, engine_disk_sectors(s->conf.engine, record.device))) {
            (void)vmm_fail(
                err, -EPROTO,
                "the other side sent a write past the end of disk %u (%u bytes "
                "at sector %llu); nothing of its checkpoint was taken",
                record.device, d.len, (unsigned long long)d.sector);
            return false;
        }
    }
    return true;
}

/* All of it is known to be here and to be records. False: what they say cannot be, or a
 * disk fails: this twin is of no more use. */
static bool take_all(struct ft_session *s)
{
    const struct ft_set *set = &s->set;
    struct ft_record record;
    bool good = true;

    for (size_t at = 0; at < set->len && good; at += record.len) {
        if (ft_check(set->bytes + at, set->len - at, &record) != FT_OK) {
            return false;
        }
        good = record.type == FT_DISK    ? take_disk(s, &record)
               : record.type == FT_SAID  ? take_said(s, &record)
               : record.type == FT_PAGES ? take_pages(s, &record)
               : record.type == FT_STATE ? take_state(s, &record)
                                         : record.type == FT_BARRIER;
    }
    return good;
}

/* The hearing thread, under lock: the BARRIER record of an epoch is here. Who is asked
 * meanwhile is answered meanwhile, but for what would let the guest go on. */
void ft_epoch_whole(struct ft_session *s, const struct ft_record *barrier)
{
    struct vmm_error err = {"a checkpoint cannot be taken here"};
    uint64_t v[2];
    bool good = ft_get_u64(barrier, v, 2) == FT_OK;

    s->taking = true;
    pthread_mutex_unlock(&s->lock);
    good = good && disks_fit(s, &err) && take_all(s) &&
           engine_epoch_state(s->conf.engine, s->state, s->state_len, &err) == 0;
    pthread_mutex_lock(&s->lock);
    s->taking = false;
    s->set.len = 0;
    pthread_cond_broadcast(&s->room);
    if (!good) {
        ft_sec_event(s, FT_SEC_HOST_ERROR, 0, err.text);
        return;
    }
    s->outputs = v[1];
    s->ack.barrier = v[0];
    s->ack_new = true;
    pthread_cond_broadcast(&s->more);
}

/* What the primary is not known to have let out. */
static void epoch_live(void *ctx)
{
    struct ft_session *s = ctx;

    pthread_mutex_lock(&s->lock);
    ft_let_out_rest(s);
    pthread_mutex_unlock(&s->lock);
}

const struct engine_epoch_ops ft_epoch_sec_ops = {.live = epoch_live};
