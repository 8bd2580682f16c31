/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The body of the DSDT: the devices of the board as AML. virtio devices come first and
 * plain, because SeaBIOS' parser gives up on the rest of a scope at the first term it
 * does not know. Pure; used by vmm/acpi.
 */
#pragma once

#include "vmm/acpi.h"
#include "vmm/aml.h"

void acpi_dsdt_body(struct aml *a, const struct acpi_conf *conf);
/* GSI of virtio-mmio slot i. */
unsigned acpi_vmmio_gsi(enum machine_type type, unsigned slot);
