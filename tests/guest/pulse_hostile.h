/* SPDX-License-Identifier: Apache-2.0 */
/* pulse: a driver that means harm. What a device makes of it is checked and printed. */
#pragma once

#include <stdint.h>

/* Runs the named attack, or "all". Prints a line each and a sum; returns how many the
 * device did not take well. */
uint32_t hostile_run(const char *name);
