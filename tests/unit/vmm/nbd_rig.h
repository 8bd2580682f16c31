/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An NBD server in a thread, over one end of a socket pair (NBD protocol, doc/proto.md:
 * fixed newstyle, simple replies), that does what real ones do not when they are asked:
 * lies, errors, half answers, sudden ends. What was not flushed is gone when it dies.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NBD_RIG_SIZE (1024u * 1024)

enum nbd_rig_fault {
    NBD_RIG_NONE = 0,
    NBD_RIG_ERROR,      /* answers with `error` */
    NBD_RIG_DIE,        /* without an answer */
    NBD_RIG_BAD_MAGIC,  /* of its reply */
    NBD_RIG_BAD_COOKIE, /* of its reply: names no request */
    NBD_RIG_SHORT,      /* half of a read's bytes, then the end */
};

struct nbd_rig {
    /* Before nbd_rig_start. */
    uint64_t size;
    uint16_t flags;                /* of transmission */
    uint32_t block_min, block_max; /* 0: says nothing */
    enum nbd_rig_fault fault;      /* at request number `fault_at` of kind `fault_cmd` */
    unsigned fault_cmd, fault_at;  /* from 1; fault_at 0: at each */
    uint32_t error;
    uint64_t highest;     /* epoch that it let in; an export NAME@LOWER is refused */
    bool tells_epoch;     /* in the description */
    bool plain;           /* knows no names with epochs */
    _Atomic bool refuses; /* every GO */
    _Atomic bool silent;  /* no hello yet */
    _Atomic bool mute;    /* no answer to GO yet */
    /* While it runs, and after. */
    uint8_t *durable, *cached; /* size bytes each */
    _Atomic unsigned count[8]; /* of requests, by kind */
    _Atomic unsigned fua;      /* of those that are to be durable */
    _Atomic unsigned goes;     /* of GO */
    unsigned longest;          /* bytes of a request */
    int fd;
    pthread_t thread;
};

enum {
    NBD_RIG_READ = 0,
    NBD_RIG_WRITE,
    NBD_RIG_DISC,
    NBD_RIG_FLUSH,
    NBD_RIG_TRIM,
    NBD_RIG_ZEROES = 6
};

/* Everything that a disk needs, no fault. */
void nbd_rig_init(struct nbd_rig *rig);
/* Returns the client's end. What is durable stays from an earlier life. */
int nbd_rig_start(struct nbd_rig *rig);
/* Closes its end if need be, and waits for the thread. */
void nbd_rig_stop(struct nbd_rig *rig);
void nbd_rig_free(struct nbd_rig *rig);
