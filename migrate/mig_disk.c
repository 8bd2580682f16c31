/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_disk.h"

#include "base/le.h"

struct head {
    struct le16 disk, kind;
    struct le32 round;
    struct le64 offset, len;
} __attribute__((packed));

_Static_assert(sizeof(struct head) == MIG_DISK_HEAD_LEN, "the head is on the wire");

void mig_disk_encode(const struct mig_disk_run *run,
                     uint8_t head[static MIG_DISK_HEAD_LEN])
{
    struct head *h = (struct head *)head;

    h->disk = le16_make((uint16_t)run->disk);
    h->kind = le16_make((uint16_t)run->kind);
    h->round = le32_make(run->round);
    h->offset = le64_make(run->offset);
    h->len = le64_make(run->len);
}

static bool run_fits(const struct mig_disk_run *run, uint64_t bytes)
{
    return run->len > 0 && run->offset < bytes && run->len <= bytes - run->offset &&
           run->offset % DISK_GRANULE == 0 &&
           (run->len % DISK_GRANULE == 0 || run->offset + run->len == bytes) &&
           (run->kind != MIG_DISK_RAW || run->len <= MIG_DISK_RAW_MAX);
}

enum mig_disk_reason mig_disk_decode(const struct mig_disk_conf *conf,
                                     const uint8_t head[static MIG_DISK_HEAD_LEN],
                                     uint32_t body_len, struct mig_disk_run *ret_run)
{
    const struct head *h = (const struct head *)head;
    struct mig_disk_run run = {.disk = le16_get(h->disk),
                               .kind = (enum mig_disk_kind)le16_get(h->kind),
                               .round = le32_get(h->round),
                               .offset = le64_get(h->offset),
                               .len = le64_get(h->len)};

    if (run.kind != MIG_DISK_RAW && run.kind != MIG_DISK_ZERO) {
        return MIG_DISK_BAD_KIND;
    }
    if (run.disk >= VM_DISKS_MAX || conf->bytes[run.disk] == 0) {
        return MIG_DISK_NO_DISK;
    }
    if (run.disk % conf->n_streams != conf->stream) {
        return MIG_DISK_BAD_STREAM;
    }
    if (run.round == 0) {
        return MIG_DISK_BAD_ROUND;
    }
    if (!run_fits(&run, conf->bytes[run.disk])) {
        return MIG_DISK_BAD_RUN;
    }
    if (body_len != MIG_DISK_HEAD_LEN + (run.kind == MIG_DISK_RAW ? run.len : 0)) {
        return MIG_DISK_BAD_LENGTH;
    }
    *ret_run = run;
    return MIG_DISK_OK;
}

const char *mig_disk_reason_str(enum mig_disk_reason reason)
{
    static const char *const text[] = {
        [MIG_DISK_OK] = "ok",
        [MIG_DISK_BAD_LENGTH] = "a run of a disk has another length than it says",
        [MIG_DISK_BAD_KIND] = "a run of a disk is of no known kind",
        [MIG_DISK_NO_DISK] = "a run of a disk that has no copy here",
        [MIG_DISK_BAD_STREAM] = "a run of a disk came on another stream than its disk's",
        [MIG_DISK_BAD_ROUND] = "a run of a disk is of no round",
        [MIG_DISK_BAD_RUN] = "a run of a disk is empty, too long, or not on the disk",
    };

    return (size_t)reason < sizeof text / sizeof text[0] ? text[reason]
                                                         : "unknown reason";
}
