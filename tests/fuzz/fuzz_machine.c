/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole machine against a guest, a back end and a state stream that send anything. The
 * input is a program: a byte chooses an operation, the bytes after it are its operands.
 * Whatever happens: no crash, the state can be saved, a saved state can be loaded and
 * gives the same bytes again, and a damaged one is refused or leaves a machine for which
 * all this still holds.
 */
#include "tests/fuzz/fuzz_rig.h"

#include <string.h>

static void op_port(struct bytes_rd *in, bool write)
{
    static const uint16_t ports[] = {
        0x20,  0x21,  0xA0,  0xA1,  0x4D0, 0x4D1, 0x40,  0x41,  0x42,  0x43,  0x61,
        0x70,  0x71,  0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF, 0x402,
        0x600, 0x601, 0x602, 0x604, 0x605, 0x608, 0x60A, 0x510, 0x511, 0xCF9, 0x64};
    uint8_t which = bytes_rd_u8(in);
    uint16_t port = which < 0xF0 ? ports[which % ARRAY_SIZE(ports)] : bytes_rd_u16(in);
    unsigned len = which / ARRAY_SIZE(ports) % 3;

    if (write) {
        rig_out(&fuzz_rig, port, 1u << len, bytes_rd_u32(in));
    } else {
        rig_in(&fuzz_rig, port, 1u << len);
    }
}

static void op_mmio(struct bytes_rd *in, bool write)
{
    uint16_t where = bytes_rd_u16(in);
    uint64_t addr = MACHINE_MMIO_BASE + where % 0x600;
    unsigned len = where < 0x8000 ? 4 : 1u << (where >> 12 & 3);

    if (len == 4) {
        addr &= ~UINT64_C(3);
    }
    if (write) {
        rig_mmio_out(&fuzz_rig, addr, len, bytes_rd_u32(in));
    } else {
        rig_mmio_in(&fuzz_rig, addr, len);
    }
}

static void op_driver(struct bytes_rd *in)
{
    uint8_t what = bytes_rd_u8(in);
    uint64_t features = VIRTIO_F_VERSION_1 | (what & 2 ? VIRTIO_F_EVENT_IDX : 0);

    if ((what & 1) == 0) {
        rig_virtio_start(&fuzz_rig, 0, features | (what & 4 ? 1u << 9 : 0), fuzz_ring, 1,
                         0x1000);
    } else {
        rig_virtio_start(&fuzz_rig, 1, features | (what & 4 ? 1u << 16 : 0),
                         fuzz_ring + 1, 2, 0x2000);
    }
}

static void one_op(struct bytes_rd *in)
{
    uint8_t op = bytes_rd_u8(in);

    switch (op % 20) {
    case 0:
    case 1:
    case 2:
        op_port(in, true);
        break;
    case 3:
        op_port(in, false);
        break;
    case 4:
    case 5:
        op_mmio(in, true);
        break;
    case 6:
        op_mmio(in, false);
        break;
    case 7:
        fuzz_store(in);
        break;
    case 8:
        op_driver(in);
        break;
    case 9:
    case 10:
        fuzz_blk(in);
        break;
    case 11:
        fuzz_net(in);
        break;
    case 12:
        fuzz_input(in);
        break;
    case 13:
        if (fuzz_rig.pending_count > 0) {
            uint8_t which = bytes_rd_u8(in);

            rig_blk_done(&fuzz_rig, which % fuzz_rig.pending_count,
                         which >> 6 == 3 ? 5 : 0);
        }
        break;
    case 14:
        fuzz_rig.now_ns += (uint64_t)bytes_rd_u16(in) << (bytes_rd_u8(in) % 24);
        machine_wake(fuzz_rig.m, fuzz_rig.now_ns);
        break;
    case 15:
        if (machine_irq_pending(fuzz_rig.m)) {
            machine_irq_ack(fuzz_rig.m);
        }
        break;
    case 16:
        fuzz_save_load();
        break;
    case 17:
        fuzz_load_damaged(in);
        break;
    case 18:
        rig_pic_init(&fuzz_rig);
        break;
    default:
        if (op < 128) {
            fuzz_rig.pending_count = 0;
            machine_reissue(fuzz_rig.m);
        } else {
            machine_reset(fuzz_rig.m);
        }
        break;
    }
}

enum { DISK_ASKED, DISK_ANSWERED, FRAME_OUT, FRAME_IN, SERIAL_OUT, RESET, SHUTDOWN };
FUZZ_GOALS("disk request submitted", "disk request answered", "frame sent",
           "frame received", "serial output", "reset", "shutdown")

static void count_goals(void)
{
    fuzz_reach(DISK_ASKED, fuzz_rig.submitted_count > 0);
    fuzz_reach(DISK_ANSWERED, fuzz_ring_used(&fuzz_ring[0]));
    fuzz_reach(FRAME_OUT, fuzz_rig.frame_count > 0);
    fuzz_reach(FRAME_IN, fuzz_ring_used(&fuzz_ring[1]));
    fuzz_reach(SERIAL_OUT, fuzz_rig.serial_len > 0);
    fuzz_reach(RESET, fuzz_rig.resets > 0);
    fuzz_reach(SHUTDOWN, fuzz_rig.shutdowns > 0);
}

FUZZ_ONE(data, len)
{
    struct bytes_rd in = bytes_rd_make(data, len < 4096 ? len : 4096);

    if (fuzz_rig.m == NULL) {
        rig_init(&fuzz_rig, NULL);
        fuzz_rig.forgetful = true;
    }
    rig_restart(&fuzz_rig);
    memset(fuzz_ring, 0, sizeof fuzz_ring);
    while (bytes_rd_left(&in) > 0) {
        one_op(&in);
    }
    count_goals();
    fuzz_save_load();
    BUG_ON(machine_io_in_flight(fuzz_rig.m) > 32);
    return 0;
}
