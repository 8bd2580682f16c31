/* SPDX-License-Identifier: Apache-2.0 */
/* The guest agent's client against a guest that sends any bytes: no crash, and what it
 * sends itself stays small. Byte 0xFE: time passes; 0xFD: the port closes and opens. */
#include "tests/fuzz/fuzz.h"

#include "base/bug.h"
#include "vmm/dev.h"
#include "vmm/guest_agent.h"

static void on_send(void *ctx, const uint8_t *bytes, uint32_t len)
{
    (void)ctx, (void)bytes;
    BUG_ON(len == 0 || len > PORT_RX_MAX);
}

enum { ANSWERS, SILENT };
FUZZ_GOALS("agent answers", "agent is silent")

FUZZ_ONE(data, len)
{
    struct guest_agent *ga = guest_agent_new(on_send, NULL);

    BUG_ON(!ga);
    guest_agent_port(ga, true);
    for (size_t i = 0; i < len; i++) {
        if (data[i] == 0xFE) {
            guest_agent_tick(ga);
        } else if (data[i] == 0xFD) {
            guest_agent_port(ga, false);
            guest_agent_port(ga, true);
        } else {
            guest_agent_take(ga, data + i, 1);
        }
    }
    fuzz_reach(ANSWERS, guest_agent_state(ga) == GUEST_AGENT_ANSWERS);
    fuzz_reach(SILENT, guest_agent_state(ga) == GUEST_AGENT_CONNECTED);
    BUG_ON(guest_agent_shutdown(ga) != (guest_agent_state(ga) == GUEST_AGENT_ANSWERS));
    guest_agent_free(ga);
    return 0;
}
