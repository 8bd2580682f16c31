/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a saved state (suspend.gms, state.gms) asks of the VM that is to go on from it: a
 * gemel-vmm of another shape refuses it. Kept in snapshot.yaml as "key: value" lines, so
 * that a revert is refused before it replaces anything.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu_model.h"
#include "cluster-conf/conf_model.h"
#include "cluster-conf/conf_text.h"

enum ha_fit_key {
    HA_FIT_MACHINE,
    HA_FIT_TRANSPORT,
    HA_FIT_CPUS,
    HA_FIT_MEMORY,
    HA_FIT_DISKS, /* how many */
    HA_FIT_NICS,  /* their MACs, which the state names; "none" */
    HA_FIT_BOOT,  /* "firmware" or "kernel" */
    HA_FIT_KEYS,
};

#define HA_FIT_VALUE_MAX 192
#define HA_FIT_TEXT_MAX                                                                  \
    (HA_FIT_KEYS * (HA_FIT_VALUE_MAX + 16) + CPU_MODEL_TEXT_MAX + 16) /* of all lines */

/* An empty text: not known, not compared. */
struct ha_fit {
    char value[HA_FIT_KEYS][HA_FIT_VALUE_MAX];
    char cpu_model[CPU_MODEL_TEXT_MAX]; /* base/cpu_model; machine standard only */
};

/* As a definition wants it. `cpu_model`: text of the model that it names; NULL: its
 * host's, whatever that is. */
void ha_fit_of_conf(const struct conf_vm *conf, const char *cpu_model,
                    struct ha_fit *ret_fit);
/* As a state's first two frames say (`len` bytes of them, whole); boot stays empty.
 * False: they are no such frames. Every byte may be hostile. */
bool ha_fit_of_frames(const uint8_t *bytes, size_t len, struct ha_fit *ret_fit);
/* The same from a file, from its begin; its offset stays. */
bool ha_fit_of_state(int fd, struct ha_fit *ret_fit);

/* "key: value" lines of what is known. */
void ha_fit_write(const struct ha_fit *fit, struct conf_text *text);
/* The value on the line "key: ..."; false: there is none, or it is too long. */
bool ha_fit_value(const char *text, const char *key, char *ret, size_t cap);
void ha_fit_read(const char *text, struct ha_fit *ret_fit);

/* "memory 32MiB, now 64MiB; ...": every key that both know and that differs. The count.
 */
unsigned ha_fit_differences(const struct ha_fit *saved, const struct ha_fit *now,
                            struct conf_text *text);
