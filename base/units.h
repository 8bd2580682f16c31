/* SPDX-License-Identifier: Apache-2.0 */
/* Newtypes and small helpers where mixing units is dangerous. Anyone may include this. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A guest-physical address. Crossed into host memory only by vmm/gmem. */
struct gpa {
    uint64_t v;
};

#define NSEC_PER_USEC                   UINT64_C(1000)
#define NSEC_PER_MSEC                   UINT64_C(1000000)
#define NSEC_PER_SEC                    UINT64_C(1000000000)

#define ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* A 128-bit id (VM, instance, attempt, operation). All zero means none. */
struct uuid {
    uint8_t b[16];
};

#define UUID_STR_LEN 36 /* without the NUL */
