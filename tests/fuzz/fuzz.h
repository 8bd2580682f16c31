/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzz target: FUZZ_ONE(data, len) { ... return 0; }. Broken properties end in BUG_ON,
 * which libFuzzer reports with the input.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/bug.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define FUZZ_ONE(data, len) int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
