/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a refusal: "; would do: --downtime 400ms, or --max-slowdown 30". Options as
 * they are typed, and only values that their range has (base/limits.h). Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "migrate/mig_text.h"

/* Up to two digits that count: what is proposed is no measurement. */
uint64_t mig_remedy_round(uint64_t value);
/* What comes before each of them; *any: one stands there already. */
void mig_remedy_begin(struct mig_text *t, bool *any);
void mig_remedy_downtime(struct mig_text *t, bool *any, uint64_t downtime_ns);
/* Only a guest whose vCPUs are busy writes less when they are held back. The last one. */
void mig_remedy_slowdown(struct mig_text *t, bool *any, uint64_t permille);
void mig_remedy_rate(struct mig_text *t, bool *any, uint64_t bps);
