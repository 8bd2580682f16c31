/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record log of one node: every applied item, appended and made durable by a worker
 * thread, never on the loop (R9).
 *
 * File: a 4 KiB header {magic, version, durable length, crc}, then frames (base/frame;
 * type: item kind, seq: version). The durable length is written after each fdatasync,
 * and synced in the next pause, which nobody waits for: it may lag behind the data (by
 * the last batch), never lead it. So a file shorter than it
 * says, or broken before it, has lost what was acknowledged: the node is amnesiac. Broken
 * after it: an append that nobody was told about; it is cut off.
 */
#pragma once

#include "base/loop.h"
#include "ha/ha_state.h"

struct ha_store;

struct ha_store_ops {
    void (*persisted)(void *ctx, uint64_t version);
    void (*failed)(void *ctx, int error); /* latched: nothing is acknowledged any more */
};

enum ha_store_found { HA_STORE_NEW = 1, HA_STORE_INTACT, HA_STORE_TORN };

typedef int (*ha_store_item_fn)(void *ctx, enum ha_item_kind kind, const void *body,
                                size_t len, uint64_t version);

/*
 * Reads the log (each intact item in order through `item`; it stops when that returns <
 * 0: torn) and opens it for appending. A torn log is moved aside to PATH.torn. ret_text
 * says what was found, for the log.
 */
int ha_store_open(struct loop *loop, const char *path, const struct ha_store_ops *ops,
                  void *ctx, ha_store_item_fn item, enum ha_store_found *ret_found,
                  char *ret_text, size_t text_cap, struct ha_store **ret_store);
void ha_store_close(struct ha_store *store); /* finishes what was queued */
int ha_store_append(struct ha_store *store, enum ha_item_kind kind, const void *body,
                    size_t len, uint64_t version);
/* Replaces the log by the whole state. */
int ha_store_rewrite(struct ha_store *store, const struct ha_state *state);
/* Grown enough that a rewrite pays. */
bool ha_store_wants_rewrite(const struct ha_store *store);
/* The pure reader, also for tests and fuzzing: validates a whole file. *ret_good_len:
 * bytes that hold. */
enum ha_store_found ha_store_parse(const uint8_t *file, size_t len, ha_store_item_fn item,
                                   void *ctx, size_t *ret_good_len, const char **ret_why);
