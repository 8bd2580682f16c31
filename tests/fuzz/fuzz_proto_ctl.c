/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_unpack on any datagram; what it accepts must go round. */
#include <string.h>

#include "base/proto_ctl.h"
#include "tests/fuzz/fuzz.h"

FUZZ_GOALS("hello", "VMM request", "VMM report", "fence request", "fence report",
           "CLI request", "CLI reply")

FUZZ_ONE(data, len)
{
    static uint8_t packed[2][CTL_MSG_MAX];
    size_t packed_len[2];
    struct ctl_msg msg;

    if (ctl_unpack(data, len, &msg) != CTL_OK) {
        return 0;
    }
    fuzz_reach((unsigned)msg.kind - CTL_HELLO, true);
    packed_len[0] = ctl_pack(msg.kind, msg.any, packed[0], sizeof packed[0]);
    ctl_msg_free(&msg);
    BUG_ON(packed_len[0] == 0 || packed_len[0] > len);
    BUG_ON(ctl_unpack(packed[0], packed_len[0], &msg) != CTL_OK);
    packed_len[1] = ctl_pack(msg.kind, msg.any, packed[1], sizeof packed[1]);
    ctl_msg_free(&msg);
    BUG_ON(packed_len[0] != packed_len[1]);
    BUG_ON(memcmp(packed[0], packed[1], packed_len[0]) != 0);
    return 0;
}
