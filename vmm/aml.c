/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/aml.h"

#include <string.h>

#define OP_ZERO       0x00
#define OP_ONE        0x01
#define OP_NAME       0x08
#define OP_BYTE       0x0A
#define OP_WORD       0x0B
#define OP_DWORD      0x0C
#define OP_STRING     0x0D
#define OP_QWORD      0x0E
#define OP_SCOPE      0x10
#define OP_BUFFER     0x11
#define OP_PACKAGE    0x12
#define OP_METHOD     0x14
#define OP_EXT        0x5B
#define OP_EXT_DEVICE 0x82

#define PKG_LEN_MAX   4
#define PKG_ONE_BYTE  0x3F /* longest length in one byte */
#define RES_END_TAG   0x79
#define RES_IO        0x47
#define RES_IRQ       0x23
#define RES_IRQ_FLAGS 0x01 /* edge, active high, exclusive */
#define RES_MEM32     0x86
#define RES_GSI       0x89
#define RES_GSI_FLAGS 0x09 /* consumer, level, active high, shared */
#define RES_WORD      0x88
#define RES_DWORD     0x87
#define RES_QWORD     0x8A
#define RES_FIXED     0x0C /* producer, minimum and maximum fixed, positive decode */
#define RES_TYPE_MEM  0
#define RES_TYPE_IO   1
#define RES_TYPE_BUS  2
#define RES_MEM_RW    0x01 /* not cacheable, read and write */
#define RES_IO_ALL    0x03 /* ISA and other addresses */

static void put_name(struct aml *a, const char *name)
{
    bytes_wr_copy(&a->wr, name, strlen(name));
}

/* The bytes of a length: of the content and of its own encoding (ACPI 20.2.4). */
static size_t encode_length(size_t content, uint8_t out[PKG_LEN_MAX])
{
    size_t bytes = 1, len = content + 1;

    if (len > PKG_ONE_BYTE) {
        for (bytes = 2; bytes < PKG_LEN_MAX; bytes++) {
            if (content + bytes < (size_t)1 << (8 * bytes - 4)) {
                break;
            }
        }
        len = content + bytes;
        out[0] = (uint8_t)(((bytes - 1) << 6) | (len & 0xF));
        for (size_t i = 1; i < bytes; i++) {
            out[i] = (uint8_t)(len >> (8 * i - 4));
        }
    } else {
        out[0] = (uint8_t)len;
    }
    return bytes;
}

/* Content was written right behind the opcode; it moves up to make room for its length.
 */
void aml_end(struct aml *a, size_t block)
{
    uint8_t length[PKG_LEN_MAX];
    size_t content = a->wr.pos - block;
    size_t bytes = encode_length(content, length);

    bytes_wr_copy(&a->wr, length, bytes); /* only for the room */
    if (!a->wr.failed) {
        memmove(a->wr.buf + block + bytes, a->wr.buf + block, content);
        memcpy(a->wr.buf + block, length, bytes);
    }
}

static size_t begin(struct aml *a, uint8_t op)
{
    bytes_wr_u8(&a->wr, op);
    return a->wr.pos;
}

size_t aml_scope(struct aml *a, const char *name)
{
    size_t block = begin(a, OP_SCOPE);

    put_name(a, name);
    return block;
}

size_t aml_device(struct aml *a, const char *name)
{
    size_t block;

    bytes_wr_u8(&a->wr, OP_EXT);
    block = begin(a, OP_EXT_DEVICE);
    put_name(a, name);
    return block;
}

size_t aml_method(struct aml *a, const char *name, unsigned args)
{
    size_t block = begin(a, OP_METHOD);

    put_name(a, name);
    bytes_wr_u8(&a->wr, (uint8_t)args);
    return block;
}

size_t aml_package(struct aml *a, unsigned count)
{
    size_t block = begin(a, OP_PACKAGE);

    bytes_wr_u8(&a->wr, (uint8_t)count);
    return block;
}

void aml_int(struct aml *a, uint64_t value)
{
    if (value <= 1) {
        bytes_wr_u8(&a->wr, value == 0 ? OP_ZERO : OP_ONE);
    } else if (value <= UINT8_MAX) {
        bytes_wr_u8(&a->wr, OP_BYTE);
        bytes_wr_u8(&a->wr, (uint8_t)value);
    } else if (value <= UINT16_MAX) {
        bytes_wr_u8(&a->wr, OP_WORD);
        bytes_wr_u16(&a->wr, (uint16_t)value);
    } else if (value <= UINT32_MAX) {
        bytes_wr_u8(&a->wr, OP_DWORD);
        bytes_wr_u32(&a->wr, (uint32_t)value);
    } else {
        bytes_wr_u8(&a->wr, OP_QWORD);
        bytes_wr_u64(&a->wr, value);
    }
}

void aml_bytes(struct aml *a, const void *bytes, size_t len)
{
    bytes_wr_copy(&a->wr, bytes, len);
}

void aml_name(struct aml *a, const char *name)
{
    bytes_wr_u8(&a->wr, OP_NAME);
    put_name(a, name);
}

void aml_name_int(struct aml *a, const char *name, uint64_t value)
{
    aml_name(a, name);
    aml_int(a, value);
}

void aml_name_str(struct aml *a, const char *name, const char *text)
{
    aml_name(a, name);
    bytes_wr_u8(&a->wr, OP_STRING);
    bytes_wr_copy(&a->wr, text, strlen(text) + 1);
}

static uint32_t hex_digit(char c)
{
    return c <= '9' ? (uint32_t)(c - '0') : (uint32_t)(c - 'A' + 10);
}

/* Three letters of five bits, four hexadecimal digits, the most significant byte first
 * (ACPI 19.6.36). */
void aml_name_eisa(struct aml *a, const char *name, const char *id)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < 3; i++) {
        value = (value << 5) | (uint32_t)(id[i] - 0x40);
    }
    for (unsigned i = 3; i < 7; i++) {
        value = (value << 4) | hex_digit(id[i]);
    }
    aml_name_int(a, name, __builtin_bswap32(value));
}

/* Resources ----------------------------------------------------------------------- */

/* A buffer whose size is a word in front of the descriptors, whatever it is. */
#define SIZE_LEN 3

size_t aml_resources(struct aml *a, const char *name)
{
    size_t block;

    aml_name(a, name);
    block = begin(a, OP_BUFFER);
    bytes_wr_u8(&a->wr, OP_WORD);
    bytes_wr_u16(&a->wr, 0);
    return block;
}

void aml_resources_end(struct aml *a, size_t block)
{
    size_t len;

    bytes_wr_u8(&a->wr, RES_END_TAG);
    bytes_wr_u8(&a->wr, 0); /* 0: no checksum (ACPI 6.4.2.9) */
    len = a->wr.pos - block - SIZE_LEN;
    if (!a->wr.failed) {
        a->wr.buf[block + 1] = (uint8_t)len;
        a->wr.buf[block + 2] = (uint8_t)(len >> 8);
    }
    aml_end(a, block);
}

void aml_res_io(struct aml *a, uint16_t base, uint8_t len)
{
    bytes_wr_u8(&a->wr, RES_IO);
    bytes_wr_u8(&a->wr, 1); /* decodes 16 bits */
    bytes_wr_u16(&a->wr, base);
    bytes_wr_u16(&a->wr, base);
    bytes_wr_u8(&a->wr, 1);
    bytes_wr_u8(&a->wr, len);
}

void aml_res_irq(struct aml *a, unsigned irq)
{
    bytes_wr_u8(&a->wr, RES_IRQ);
    bytes_wr_u16(&a->wr, (uint16_t)(1u << irq));
    bytes_wr_u8(&a->wr, RES_IRQ_FLAGS);
}

void aml_res_mem32(struct aml *a, uint32_t base, uint32_t len)
{
    bytes_wr_u8(&a->wr, RES_MEM32);
    bytes_wr_u16(&a->wr, 9);
    bytes_wr_u8(&a->wr, RES_MEM_RW);
    bytes_wr_u32(&a->wr, base);
    bytes_wr_u32(&a->wr, len);
}

void aml_res_gsi(struct aml *a, uint32_t gsi)
{
    bytes_wr_u8(&a->wr, RES_GSI);
    bytes_wr_u16(&a->wr, 6);
    bytes_wr_u8(&a->wr, RES_GSI_FLAGS);
    bytes_wr_u8(&a->wr, 1);
    bytes_wr_u32(&a->wr, gsi);
}

static void window_head(struct aml *a, uint8_t descriptor, uint16_t len, uint8_t type,
                        uint8_t type_flags)
{
    bytes_wr_u8(&a->wr, descriptor);
    bytes_wr_u16(&a->wr, len);
    bytes_wr_u8(&a->wr, type);
    bytes_wr_u8(&a->wr, RES_FIXED);
    bytes_wr_u8(&a->wr, type_flags);
}

/* granularity, minimum, maximum, translation, length */
static void word_window(struct aml *a, uint8_t type, uint8_t type_flags, uint16_t first,
                        uint16_t last)
{
    window_head(a, RES_WORD, 13, type, type_flags);
    bytes_wr_u16(&a->wr, 0);
    bytes_wr_u16(&a->wr, first);
    bytes_wr_u16(&a->wr, last);
    bytes_wr_u16(&a->wr, 0);
    bytes_wr_u16(&a->wr, (uint16_t)(last - first + 1));
}

void aml_res_bus_window(struct aml *a, uint16_t first, uint16_t last)
{
    word_window(a, RES_TYPE_BUS, 0, first, last);
}

void aml_res_io_window(struct aml *a, uint16_t first, uint16_t last)
{
    word_window(a, RES_TYPE_IO, RES_IO_ALL, first, last);
}

void aml_res_mem_window(struct aml *a, uint32_t first, uint32_t last)
{
    window_head(a, RES_DWORD, 23, RES_TYPE_MEM, RES_MEM_RW);
    bytes_wr_u32(&a->wr, 0);
    bytes_wr_u32(&a->wr, first);
    bytes_wr_u32(&a->wr, last);
    bytes_wr_u32(&a->wr, 0);
    bytes_wr_u32(&a->wr, last - first + 1);
}

void aml_res_mem64_window(struct aml *a, uint64_t first, uint64_t last)
{
    window_head(a, RES_QWORD, 43, RES_TYPE_MEM, RES_MEM_RW);
    bytes_wr_u64(&a->wr, 0);
    bytes_wr_u64(&a->wr, first);
    bytes_wr_u64(&a->wr, last);
    bytes_wr_u64(&a->wr, 0);
    bytes_wr_u64(&a->wr, last - first + 1);
}
