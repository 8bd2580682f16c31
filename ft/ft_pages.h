/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies of FT_PAGES records: that of a RAM frame (migrate/mig_ram.h). What is written
 * holds one run, of one kind, in one block of 2 MiB. `ram` is room to work in, too large
 * for a stack. Pure.
 */
#pragma once

#include "ft/ft_log.h"
#include "migrate/mig_ram.h"

#define FT_PAGES_MAX 48u /* with their bytes, in a record */

/* How many of `count` pages from `first` on one record takes. */
uint64_t ft_pages_fit(uint64_t first, uint64_t count, bool zero);
/* So many, as one record; bytes NULL: zeroes. */
void ft_pages_put(struct bytes_wr *wr, struct mig_ram *ram, uint64_t first,
                  uint64_t count, const uint8_t *bytes);
/* The same without their bytes, which the caller puts behind it unless they are zeroes.
 */
void ft_pages_put_head(struct bytes_wr *wr, struct mig_ram *ram, uint64_t first,
                       uint64_t count, bool zero);
/* Reads a body into *ram; the bytes of its RAW runs, in order, begin at *ret_bytes. FT_OK
 * or FT_BAD_BODY. */
enum ft_reason ft_pages_get(const struct ft_record *record, uint64_t page_count,
                            struct mig_ram *ram, const uint8_t **ret_bytes);
