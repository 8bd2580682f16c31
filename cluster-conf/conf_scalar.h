/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scalars of definitions, read strictly and written back: what is written here reads as
 * the same value. No octal, no exponent, no sign, no trailing junk, no number without the
 * unit that it needs. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/units.h"
#include "cluster-conf/conf_text.h"

/* Why a scalar was refused; conf_scalar_why is the sentence for people. */
enum conf_scalar_reason {
    CONF_SCALAR_OK = 0,
    CONF_SCALAR_EMPTY,
    CONF_SCALAR_NOT_NUMBER,
    CONF_SCALAR_LEADING_ZERO,
    CONF_SCALAR_NO_UNIT,
    CONF_SCALAR_BAD_UNIT,
    CONF_SCALAR_DECIMAL_UNIT, /* MB: could be 10^6 or 2^20 */
    CONF_SCALAR_TOO_LARGE,
    CONF_SCALAR_MALFORMED,
};

/* "512MiB", "64M", "1GiB", "4T", "512KiB", "100B": bytes; K, M, G, T are powers of 1024.
 */
enum conf_scalar_reason conf_scalar_size(const char *s, uint64_t *ret_bytes);
/* "500ms", "10s", "5m", "2h": ms, at most 2^32 - 1. */
enum conf_scalar_reason conf_scalar_duration(const char *s, uint32_t *ret_ms);
/* "0", "17". */
enum conf_scalar_reason conf_scalar_count(const char *s, uint64_t *ret_count);
/* Exactly "true" or "false". */
enum conf_scalar_reason conf_scalar_bool(const char *s, bool *ret_value);
/* "52:54:00:12:34:56". */
enum conf_scalar_reason conf_scalar_mac(const char *s, uint8_t ret_mac[static 6]);
/* "0f3c...": 8-4-4-4-12 hexadecimal digits. */
enum conf_scalar_reason conf_scalar_uuid(const char *s, struct uuid *ret_uuid);

void conf_scalar_size_write(struct conf_text *text, uint64_t bytes);
void conf_scalar_duration_write(struct conf_text *text, uint32_t ms);
void conf_scalar_mac_write(struct conf_text *text, const uint8_t mac[static 6]);
void conf_scalar_uuid_write(struct conf_text *text, struct uuid uuid);

const char *conf_scalar_why(enum conf_scalar_reason reason);

/* A name that is safe as a file name: letters, digits, '.', '_', '-', beginning with a
 * letter or digit. */
bool conf_name_ok(const char *s);
/* What an address of the ring is. Nothing that another file's syntax knows passes. */
enum conf_addr { CONF_ADDR_BAD = 0, CONF_ADDR_NAME, CONF_ADDR_IPV4, CONF_ADDR_IPV6 };
enum conf_addr conf_addr_kind(const char *s);
