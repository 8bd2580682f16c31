/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a saved state as gemel-vmm writes it: 32 MiB, two disks, one card. */
#pragma once

#include <string.h>

#include "base/frame.h"
#include "base/state_io.h"
#include "tests/unit/unit.h"
#include "vmm/state_stream.h"

#include "ha/ha_fit.h"

#define FIT_STATE_MAX 4096

static const uint8_t fit_mac[6] = {0x52, 0x54, 0, 1, 2, 3};

static inline size_t fit_add_frame(uint8_t *buf, size_t len, enum state_frame type,
                                   const void *body, size_t body_len)
{
    struct frame f = {.type = (uint16_t)type,
                      .version = STATE_STREAM_FORMAT,
                      .seq = 1,
                      .body = body,
                      .body_len = (uint32_t)body_len};
    size_t n = frame_encode(&f, STATE_STREAM_MAGIC, buf + len, FIT_STATE_MAX - len);

    ck_assert_uint_gt(n, 0);
    return len + n;
}

/* HEAD and STATE; their length. */
static inline size_t fit_state(uint8_t buf[FIT_STATE_MAX], uint8_t machine)
{
    uint8_t body[1024], transport = 0, junk[40] = {7}, card[6];
    uint64_t ram = 32u << 20;
    struct state_io io;
    uint32_t cpus = 1;
    size_t len;

    memcpy(card, fit_mac, sizeof card);
    state_save_init(&io, body, sizeof body);
    state_section_begin(&io, "vm", 0, 1, 1);
    state_u8(&io, &machine);
    state_u8(&io, &transport);
    state_u32(&io, &cpus);
    state_u64(&io, &ram);
    state_section_end(&io);
    len = fit_add_frame(buf, 0, STATE_FRAME_HEAD, body, state_save_finish(&io));
    state_save_init(&io, body, sizeof body);
    for (uint16_t i = 0; i < 3; i++) {
        state_section_begin(&io, i < 2 ? "vblk" : "vnet", i, 1, 1);
        if (i == 2) {
            state_bytes(&io, card, sizeof card);
        }
        state_bytes(&io, junk, sizeof junk);
        state_section_end(&io);
    }
    return fit_add_frame(buf, len, STATE_FRAME_STATE, body, state_save_finish(&io));
}

/* What that state is of. */
static inline void fit_conf(struct conf_vm *ret_conf)
{
    *ret_conf = (struct conf_vm){.machine = CONF_MACHINE_LOCKSTEP,
                                 .cpus = 1,
                                 .memory_bytes = 32u << 20,
                                 .disk_count = 2,
                                 .nic_count = 1,
                                 .firmware = "/fw"};
    memcpy(ret_conf->nic[0].mac, fit_mac, sizeof fit_mac);
}
