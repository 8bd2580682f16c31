/* SPDX-License-Identifier: Apache-2.0 */
/* pulse: a driver that means harm. What a device makes of it is checked and printed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define REG_QUEUE_SELECT 0x030
#define REG_QUEUE_SIZE   0x038
#define REG_QUEUE_READY  0x044
#define REG_QUEUE_DESC   0x080
#define REG_QUEUE_DEVICE 0x0a0

/* What a device may make of an attack. */
#define MAY_RESET  1u /* sets NEEDS_RESET */
#define MAY_ERROR  2u /* completes the request with an error status */
#define MAY_IGNORE 4u /* does nothing */
#define MAY_DO     8u /* completes the request as if nothing were wrong */

struct attack {
    const char *name;
    void (*run)(void);
    uint32_t may;
};

/* A device to attack. */
struct hostile_target {
    const char *name;
    const struct attack *attacks;
    uint32_t attack_count;
    bool (*start)(void); /* anew, with a sound request ready to be spoilt */
    uint32_t (*consequence)(
        void);           /* MAY_ERROR or MAY_DO when the request came back, else 0 */
    bool (*works)(void); /* starts it anew and does one sound request */
};

extern const struct hostile_target hostile_blk, hostile_net;

struct virtio_device;
/*
 * Runs attack `name` ("blk-loop"), all of a device ("blk"), or "all" on the device.
 * Prints a line each; adds to the counts.
 */
void hostile_run(const struct hostile_target *target, struct virtio_device *device,
                 const char *name, uint32_t *tried, uint32_t *bad);
