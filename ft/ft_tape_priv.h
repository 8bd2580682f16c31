/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of struct ft_tape, for ft_tape_*.c only. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "ft/ft_log.h"
#include "ft/ft_pages.h"
#include "ft/ft_sum.h"
#include "ft/ft_tape.h"
#include "vmm/byte_ring.h"
#include "vmm/engine_ram.h"

#define FT_TEXT_MAX 512

struct ft_tape {
    struct engine_tape hooks;
    char path[PATH_LEN_MAX];
    int fd;
    struct engine *engine;
    uint64_t chain;
    struct ft_sum state_sum;         /* of the last STATE */
    uint64_t exits, inputs, outputs; /* so far */
    uint64_t reg[TAPE_REGS];         /* at the last boundary, here */
    uint8_t *buf;                    /* a record (recording), two (replay) */

    /* Recording. */
    uint64_t seq;
    struct byte_ring ring;
    pthread_mutex_t lock;
    pthread_cond_t more, room;
    pthread_t writer;
    bool writer_up, told;
    _Atomic bool closing, off; /* off: no more is written, `why` says why */
    char why[FT_TEXT_MAX];     /* under lock */
    struct mig_ram ram;        /* of PAGES */

    /* Replay. */
    uint64_t until, steps;
    size_t have, at, taken; /* of buf: bytes, where the record is, its length if it is
                               done with */
    bool eof;
    int read_error;   /* with eof: an errno */
    uint64_t file_at; /* bytes of the file before buf */
    struct ft_follow follow;
    struct ft_record record;
    uint64_t reg_there[TAPE_REGS];
    uint8_t *state;     /* FT_STATE_MAX */
    uint32_t run, page; /* of ram: next run, RAW pages given */
    const uint8_t *page_bytes;
    bool pages_open, pages_told; /* runs are left; the last one was told */
    bool over, good, stopped_at;
    char text[FT_TEXT_MAX];
};

extern const struct engine_tape_ops ft_record_ops, ft_play_ops;

int ft_tape_new(const char *path, int flags, struct ft_tape **ret, struct vmm_error *err);
/* ft_tape_conf.c: what must be equal, of this VM. */
int ft_head_make(struct engine *e, const struct engine_conf *conf, struct ft_head *ret,
                 struct vmm_error *err);
/* 0, or -EINVAL: each difference, in one text. */
int ft_head_same(const char *path, const struct ft_head *there,
                 const struct ft_head *here, struct vmm_error *err);
void ft_record_head(struct ft_tape *t, const struct ft_head *head);
int ft_play_head(struct ft_tape *t, struct ft_head *ret, struct vmm_error *err);

/* Sums of all pages of RAM that are not zero, in batches; both sides make the same. */
struct ft_ram_sums {
    struct engine_ram ram;
    uint64_t begin, end; /* of what exists */
    uint64_t pages;
    struct ft_sum sum;
    uint32_t count;
    uint64_t pair[FT_SUMS_MAX][2];
};
void ft_ram_sums_begin(struct ft_ram_sums *s, const struct engine *e);
/* The next batch into pair; false: there is none. */
bool ft_ram_sums_next(struct ft_ram_sums *s);
