/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_pending.h"

#include <string.h>

#include "cluster-conf/conf_write.h"
#include "ha/ha_text.h"
#include "ha/ha_twinft.h"

/* What makes the machine, from `conf`; the rest as it is in `then`. */
static void take_machine(struct conf_vm *then, const struct conf_vm *conf)
{
    then->machine = conf->machine;
    then->cpus = conf->cpus;
    memcpy(then->cpu, conf->cpu, sizeof then->cpu);
    then->memory_bytes = conf->memory_bytes;
    then->hugepages = conf->hugepages;
    then->disk_count = conf->disk_count;
    memcpy(then->disk, conf->disk, sizeof then->disk);
    then->nic_count = conf->nic_count;
    memcpy(then->nic, conf->nic, sizeof then->nic);
}

/* What it boots from: looked at when it starts. */
static void take_boot(struct conf_vm *then, const struct conf_vm *conf)
{
    memcpy(then->firmware, conf->firmware, sizeof then->firmware);
    memcpy(then->kernel, conf->kernel, sizeof then->kernel);
    memcpy(then->initrd, conf->initrd, sizeof then->initrd);
    memcpy(then->cmdline, conf->cmdline, sizeof then->cmdline);
}

static bool differs(const struct conf_vm *then, const struct conf_vm *now, char *text,
                    size_t cap)
{
    char lines[REASON_LEN_MAX * 2] = "";
    bool any = conf_vm_diff(then, now, lines, sizeof lines) != 0;

    text[0] = '\0';
    for (char *line = lines; *line != '\0';) {
        size_t len = strcspn(line, "\n");
        bool last = line[len] == '\0' || line[len + 1] == '\0';
        char *next = line + len + (line[len] != '\0');

        line[len] = '\0';
        ha_text_add(text, cap, line);
        ha_text_add(text, cap, last ? "" : "; ");
        line = next;
    }
    return any;
}

bool ha_pending_machine(const struct conf_vm *runs, const struct conf_vm *now, char *text,
                        size_t cap)
{
    struct conf_vm then = *now;

    take_machine(&then, runs);
    return differs(&then, now, text, cap);
}

bool ha_pending_goes_on(const struct ha_vm *vm, struct conf_vm *ret)
{
    if (vm->conf == NULL || (vm->runs != NULL && vm->runs_conf == NULL)) {
        return false;
    }
    *ret = *vm->conf;
    if (vm->runs_conf != NULL) {
        take_machine(ret, vm->runs_conf);
        take_boot(ret, vm->runs_conf);
    }
    return true;
}

bool ha_pending(const struct ha_vm *vm, char *text, size_t cap)
{
    struct conf_vm then;

    text[0] = '\0';
    if (!ha_pending_goes_on(vm, &then)) {
        return false;
    }
    return differs(&then, vm->conf, text, cap);
}

/* The twin
 * ------------------------------------------------------------------------------------ */

static bool ft_differs(const struct ha_twin_ft *ft, const struct conf_vm *now, char *text,
                       size_t cap)
{
    struct conf_vm then = *now;

    ha_twinft_put_back(ft, &then);
    return differs(&then, now, text, cap);
}

void ha_pending_ft_changed(struct ha_vm *vm, const struct conf_vm *old,
                           const struct conf_vm *now)
{
    char text[REASON_LEN_MAX * 2];

    if (vm->twin.to == 0 || vm->twin.ending || old == NULL) {
        return;
    }
    if (!vm->twin.ft.kept) {
        ha_twinft_keep(&vm->twin.ft, old);
    }
    if (!ft_differs(&vm->twin.ft, now, text, sizeof text)) {
        memset(&vm->twin.ft, 0, sizeof vm->twin.ft); /* as its twin was made */
    }
}

bool ha_pending_ft(const struct ha_vm *vm, const struct conf_vm *now, char *text,
                   size_t cap)
{
    char what[REASON_LEN_MAX * 2];

    if (vm->twin.to == 0 || !vm->twin.ft.kept || now == NULL ||
        !ft_differs(&vm->twin.ft, now, what, sizeof what)) {
        return false;
    }
    if (now->ft_mode == CONF_FT_OFF && vm->twin.ft.mode != CONF_FT_OFF) {
        ha_text_set(text, cap, what, ": its twin stays until gemel vm unprotect ",
                    vm->name, NULL);
    } else {
        ha_text_set(text, cap, what, ": holds from its next twin on; to have that now: ",
                    "gemel vm unprotect ", vm->name, ", then gemel vm protect ", vm->name,
                    NULL);
    }
    return true;
}

void ha_pending_refusal(const char *changes, char *text, size_t cap)
{
    ha_text_set(text, cap, "its definition was changed since it was started (", changes,
                "), and the cluster's record does not have what it runs with: stop and "
                "start it, or apply what it runs with",
                NULL);
}
