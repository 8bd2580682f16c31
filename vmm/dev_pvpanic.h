/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pvpanic on the ISA bus (QEMU docs/specs/pvpanic): one port, by which a guest kernel
 * says that it has crashed. Linux finds it in ACPI as QEMU0001.
 */
#pragma once

#include "vmm/dev.h"

#define PVPANIC_PANICKED     0x01
#define PVPANIC_CRASH_LOADED 0x02 /* and runs its crash kernel now */

extern const struct dev_class dev_pvpanic_class;
