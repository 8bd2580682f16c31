/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of the lockstep log (ft/README.md): fixed little-endian fields, one stream. A
 * record is taken whole or not at all. Every byte that is read is hostile: one validator
 * per record and per body, reasons as enum. Pure.
 *
 *   u32 length (of all, a multiple of 8, at most FT_RECORD_MAX)  u16 type  u16 flags
 *   u64 sequence  u64 exits  u32 crc32c (of all, with this field 0)  u32 device
 *   body, zero padded
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/limits.h"
#include "vmm/dev.h"
#include "vmm/engine_tape.h"

#define FT_HEADER_LEN    32u
#define FT_FORMAT        1u
#define FT_FLAG_OPTIONAL UINT16_C(1) /* a reader that does not know the type skips it */
#define FT_BODY_MAX      (FT_RECORD_MAX - FT_HEADER_LEN)
/* Of INPUT, OUTPUT, STATE: what is left for bytes. */
#define FT_STATE_CHUNK (128u * 1024)
#define FT_SUMS_MAX    4096u

enum ft_type {
    FT_HEAD = 1,
    FT_INPUT,
    FT_CLOCK,
    FT_EXIT,
    FT_OUTPUT,
    FT_CONTROL,
    FT_BARRIER,
    FT_PAGES,
    FT_STATE,
    FT_END,
    FT_BEAT,
    FT_SUMS,
    FT_DISK,
    FT_SAID,
    FT_SET,  /* a repair begins, or is whole */
    FT_HELD, /* of a repair: an output that the twin has not made */
    FT_TYPE_COUNT,
};

enum ft_reason {
    FT_OK = 0,
    FT_NEED_MORE,  /* not an error on a stream: a prefix */
    FT_BAD_LENGTH, /* no multiple of 8, below a header, above FT_RECORD_MAX */
    FT_BAD_CRC,
    FT_BAD_TYPE,     /* unknown, and not optional */
    FT_BAD_FLAGS,    /* unknown bits */
    FT_BAD_SEQUENCE, /* not the next one */
    FT_BAD_EXITS,    /* positions go back */
    FT_BAD_BODY,     /* shorter or longer than its type says, or padding that is not 0 */
    FT_BAD_VALUE,    /* a field that cannot be */
    FT_BAD_FORMAT,   /* HEAD: a version that this build does not read */
    FT_REASON_COUNT,
};

/* A record as it lies in the caller's buffer. */
struct ft_record {
    uint32_t len; /* of all */
    uint16_t type, flags;
    uint64_t seq, exits;
    uint32_t device;
    const uint8_t *body;
    size_t body_len; /* with its padding */
};

struct ft_sum {
    uint8_t b[16];
}; /* XXH3-128, canonical */

struct ft_head_disk {
    uint64_t sectors;
    uint8_t read_only;
    char serial[21];
};

/* What a replay must have equal. */
struct ft_head {
    uint32_t machine; /* enum machine_type */
    uint64_t ram_len;
    uint64_t cpuid;                         /* XXH3-64 of the CPUID table */
    struct ft_sum firmware, kernel, initrd; /* of the files; zeros: none */
    uint64_t epoch;
    uint8_t crash_on_triple_fault;
    uint8_t disk_count, nic_count;
    struct ft_head_disk disk[VM_DISKS_MAX];
    uint8_t mac[VM_NICS_MAX][6];
    char cmdline[GUEST_CMDLINE_MAX + 1];
};

struct ft_exit {
    uint32_t kind; /* enum tape_exit_kind */
    uint64_t address;
    uint32_t size, len;
    const uint8_t *data;
    uint64_t chain;
    uint32_t boundary; /* 1: registers are those behind the instruction */
    uint32_t changed;  /* bit i: register i is not what it was at the last boundary */
    uint64_t reg[TAPE_REGS]; /* those that changed; others are not touched by decode */
};

struct ft_output {
    uint64_t ordinal;
    uint32_t kind; /* enum tape_output */
    uint32_t len;
    struct ft_sum sum;
};

/* Fields of a SET. */
enum ft_set_field {
    FT_SET_NUMBER = 0, /* of the barrier */
    FT_SET_PART,       /* enum ft_set_part */
    FT_SET_OUTPUTS,    /* made so far */
    FT_SET_CHAIN,
    FT_SET_FLAGS, /* TAPE_HALTED, ...: mean something if there is a STATE */
    FT_SET_COUNT, /* WHOLE: records since BEGINS */
    FT_SET_FIELDS,
};
enum ft_set_part { FT_SET_BEGINS = 1, FT_SET_WHOLE };

enum ft_barrier_reason {
    FT_BARRIER_DUE = 0,
    FT_BARRIER_DIVERGED,
    FT_BARRIER_OUTPUT,
    FT_BARRIER_SWITCHOVER,
    FT_BARRIER_END, /* the guest is off: the twin makes its copies durable, too */
};

struct ft_end {
    uint64_t inputs, outputs, pages;
    uint64_t chain;
    struct ft_sum state, ram;
};

/* What was done to a mirrored disk (the record's device) in an epoch. */
struct ft_disk {
    uint64_t sector;      /* of 512 bytes */
    uint32_t op;          /* enum request_op, no READ */
    uint32_t len;         /* bytes of the disk */
    const uint8_t *bytes; /* WRITE: len of them */
};

/* Console bytes of an epoch, so that a twin that goes live can say them. */
struct ft_said {
    uint64_t ordinal;
    uint32_t kind; /* TAPE_OUT_SERIAL, TAPE_OUT_DEBUG */
    uint32_t len;
    const uint8_t *bytes;
};

/* Writing: begin, one of ft_put_*, finish. Overruns are caught by finish. */
void ft_begin(struct bytes_wr *wr, void *buf, size_t cap, enum ft_type type,
              uint16_t flags, uint64_t exits, uint32_t device);
void ft_put_head(struct bytes_wr *wr, const struct ft_head *head);
void ft_put_input(struct bytes_wr *wr, const struct dev_input *in);
void ft_put_exit(struct bytes_wr *wr, const struct ft_exit *x);
void ft_put_output(struct bytes_wr *wr, const struct ft_output *out);
void ft_put_state(struct bytes_wr *wr, uint32_t total, uint32_t offset, const void *bytes,
                  uint32_t len);
void ft_put_sums(struct bytes_wr *wr, const uint64_t *page_and_sum, uint32_t count);
void ft_put_disk(struct bytes_wr *wr, const struct ft_disk *disk);
void ft_put_said(struct bytes_wr *wr, const struct ft_said *said);
void ft_put_end(struct bytes_wr *wr, const struct ft_end *end);
void ft_put_held(struct bytes_wr *wr, uint64_t ordinal, const struct tape_out *out);
/* CLOCK, CONTROL: one u64. BARRIER, BEAT: two. SET: FT_SET_FIELDS. */
void ft_put_u64(struct bytes_wr *wr, uint64_t v);
/* Pads, sets length, sequence and crc. Length of the record; 0: it did not fit. */
size_t ft_finish(struct bytes_wr *wr, uint64_t seq);

/* The record at the start of `buf`. FT_OK fills *ret; types that are optional and unknown
 * are FT_OK as well. Sequence and positions are the stream's matter (ft_follow). */
enum ft_reason ft_check(const void *buf, size_t len, struct ft_record *ret);
/* Length of the record whose header this is (FT_HEADER_LEN bytes); 0: it has none. */
uint32_t ft_length(const void *header);

/* What came before, of one stream. Begin with zeros. */
struct ft_follow {
    uint64_t seq, exits;
};
enum ft_reason ft_follow(struct ft_follow *f, const struct ft_record *record);

/* Bodies. Pointers go into the record. */
enum ft_reason ft_get_head(const struct ft_record *record, struct ft_head *ret);
enum ft_reason ft_get_input(const struct ft_record *record, struct dev_input *ret);
enum ft_reason ft_get_exit(const struct ft_record *record, struct ft_exit *ret);
enum ft_reason ft_get_output(const struct ft_record *record, struct ft_output *ret);
struct ft_state {
    uint32_t total, offset, len;
    const uint8_t *bytes;
};
enum ft_reason ft_get_state(const struct ft_record *record, struct ft_state *ret);
/* Pairs of page number and XXH3-64, ascending pages. */
struct ft_sums {
    uint32_t count;
    uint64_t pair[FT_SUMS_MAX][2];
};
enum ft_reason ft_get_sums(const struct ft_record *record, struct ft_sums *ret);
enum ft_reason ft_get_disk(const struct ft_record *record, struct ft_disk *ret);
/* All of it lies within a disk of so many sectors of 512 bytes. */
bool ft_disk_fits(const struct ft_disk *disk, uint64_t sectors);
enum ft_reason ft_get_said(const struct ft_record *record, struct ft_said *ret);
enum ft_reason ft_get_end(const struct ft_record *record, struct ft_end *ret);
/* Its data point into the record. The unit is the record's device. */
enum ft_reason ft_get_held(const struct ft_record *record, uint64_t *ret_ordinal,
                           struct tape_out *ret);
/* `count` u64 fields and nothing else: CLOCK, CONTROL (1), BARRIER, BEAT (2), SET. */
enum ft_reason ft_get_u64(const struct ft_record *record, uint64_t *ret, unsigned count);

const char *ft_reason_str(enum ft_reason reason);
const char *ft_type_str(unsigned type);
