/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What pulse writes to its disk, and what it answers by UDP. Shared by the guest, the
 * witness and the lab's storage log (which finds records in written blocks by magic and
 * crc). Freestanding C, general registers only, little-endian, pure.
 *
 * A disk is a ring of slots of RECORD_SLOT_BYTES; the record with sequence number s >= 1
 * lives in slot (s - 1) % slots. It is written whole, flushed, and only then reported;
 * the next one is written after that. So on a sound disk the newest record is the only
 * one that may be torn or missing, and everything reported is there. The crc covers the
 * header only; the body repeats one word made from the header, which shows a torn body
 * for free.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RECORD_MAGIC        UINT32_C(0x534c5047) /* "GPLS" */
#define RECORD_SLOT_BYTES   4096
#define RECORD_SLOT_SECTORS 8
#define RECORD_MIN_BYTES    512

struct record_header {
    uint32_t magic;
    uint32_t len; /* of header and body: RECORD_MIN_BYTES .. RECORD_SLOT_BYTES, a multiple
                     of 512 */
    uint64_t seq;
    uint64_t epoch;
    uint32_t
        boot;     /* tells boots of the guest apart, two copies with the same epoch too */
    uint32_t crc; /* crc32 (IEEE 802.3) of the 28 bytes before it */
};
_Static_assert(sizeof(struct record_header) == 32, "the header is 32 bytes on disk");

/* UDP port 7000. A question is a struct question or any other datagram (then token is 0).
 */
#define ANSWER_PORT    7000
#define ANSWER_MAGIC   UINT32_C(0x41555047) /* "GPUA" */
#define QUESTION_MAGIC UINT32_C(0x51555047) /* "GPUQ" */

struct question {
    uint32_t magic;
    uint32_t token; /* comes back in the answer */
};

struct answer {
    uint32_t magic;
    uint32_t token;
    uint64_t
        acked_seq; /* the newest record that is durable, as the disk told the guest */
    uint64_t epoch;
    uint32_t boot;
    uint32_t ticks; /* timer interrupts since boot */
};
_Static_assert(sizeof(struct answer) == 32, "the answer is 32 bytes on the wire");

/* crc32 with a table of 16: no crc32 instruction, and small enough for the guest. */
static inline uint32_t record_crc32(const void *bytes, uint32_t len)
{
    static const uint32_t nibble[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    const uint8_t *at = (const uint8_t *)bytes;
    uint32_t crc = ~UINT32_C(0);

    while (len-- > 0) {
        crc ^= *at++;
        crc = crc >> 4 ^ nibble[crc & 15];
        crc = crc >> 4 ^ nibble[crc & 15];
    }
    return ~crc;
}

static inline uint32_t record_header_crc(const struct record_header *header)
{
    return record_crc32(header, sizeof(*header) - sizeof(header->crc));
}

/* The word that fills the body. */
static inline uint64_t record_body_word(const struct record_header *header)
{
    return (header->seq * UINT64_C(0x9e3779b97f4a7c15)) ^ (header->epoch << 32) ^
           header->boot;
}

enum record_fault {
    RECORD_OK = 0,
    RECORD_NONE,     /* no magic: never written, or something else */
    RECORD_BAD_CRC,  /* header torn or damaged */
    RECORD_BAD_FIELD /* crc right, meaning wrong */
};

static inline enum record_fault record_header_check(const struct record_header *header)
{
    if (header->magic != RECORD_MAGIC) {
        return RECORD_NONE;
    }
    if (header->crc != record_header_crc(header)) {
        return RECORD_BAD_CRC;
    }
    if (header->len < RECORD_MIN_BYTES || header->len > RECORD_SLOT_BYTES ||
        header->len % 512 != 0 || header->seq == 0) {
        return RECORD_BAD_FIELD;
    }
    return RECORD_OK;
}

/* The body of a whole record of header->len bytes; the header was checked. */
static inline bool record_body_ok(const struct record_header *header)
{
    const uint64_t *word = (const uint64_t *)(header + 1);
    uint64_t want = record_body_word(header);
    uint32_t count = (header->len - (uint32_t)sizeof(*header)) / 8;

    for (uint32_t i = 0; i < count; i++) {
        if (word[i] != want) {
            return false;
        }
    }
    return true;
}
