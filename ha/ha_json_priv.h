/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files that make the documents of the CLI (ha_json*.c). */
#pragma once

#include <json-c/json.h>

#include "ha/ha_daemon.h"

void ha_json_put_str(json_object *o, const char *key, const char *value);
/* The text of a document, which is freed; the caller frees the text. */
char *ha_json_finish(json_object *o);
/* "": there is none. */
const char *ha_json_node_name(struct ha_daemon *d, uint32_t nodeid);
/* Of agent.state.node[index]: its state in one word; what there is to say about it. */
const char *ha_json_node_state(struct ha_daemon *d, unsigned index);
const char *ha_json_node_reason(struct ha_daemon *d, unsigned index);
/* Without a majority nobody writes records: that of a VM whose node is not here is what
 * was known last. */
bool ha_json_is_unknown(struct ha_daemon *d, const struct ha_vm *vm);
const char *ha_json_vm_state(struct ha_daemon *d, const struct ha_vm *vm);
const char *ha_json_vm_reason(struct ha_daemon *d, const struct ha_vm *vm);
/* Of a VM whose writes are held: which, and until when. */
void ha_json_held(struct ha_daemon *d, const struct ha_vm *vm,
                  char text[static REASON_LEN_MAX + 1]);
/* Which nodes' copies of its mirrored disks count; and what to do where none of these is
 * there. */
void ha_json_copies(struct ha_daemon *d, json_object *o, const struct ha_vm *vm);
void ha_json_explain_copies(struct ha_daemon *d, const struct ha_vm *vm, json_object *a);
/* A sentence of three parts, to a list of them. */
void ha_json_add_line(json_object *a, const char *x, const char *y, const char *z);
