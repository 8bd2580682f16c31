/* SPDX-License-Identifier: Apache-2.0 */
/* The debug port that firmware writes its log to (0x402). Stateless; reading gives 0xE9,
 * which SeaBIOS asks for. */
#pragma once

#include "vmm/dev.h"

#define DEBUG_PORT_ID 0xE9

extern const struct dev_class dev_debug_class;
