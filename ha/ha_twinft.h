/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `ft:` of the definition that a twin was made with, as the record keeps it once another
 * one was applied (ha_pending.h tells what waits then). Pure.
 */
#pragma once

#include "base/bytes.h"
#include "ha/ha_types.h"

void ha_twinft_keep(struct ha_twin_ft *ft, const struct conf_vm *conf);
/* In `conf`, in the place of its own. */
void ha_twinft_put_back(const struct ha_twin_ft *ft, struct conf_vm *conf);

/* For ha_state only. */
void ha_put_twinft(struct bytes_wr *wr, const struct ha_twin_ft *ft);
bool ha_get_twinft(struct bytes_rd *rd, struct ha_twin_ft *ft);
