/* SPDX-License-Identifier: Apache-2.0 */
/* A table of local VMs (ha_vmm) around a directory of real claims: what it tells is kept.
 */
#pragma once

#include "tests/unit/temp_path.h"

#include <string.h>

#include "base/loop.h"
#include "ha/ha_vmm.h"

static char root[TEMP_PATH_MAX], dir[TEMP_PATH_MAX + 8];
static struct loop *loop;
static struct ha_vmm *vmm;
static struct ha_vm record;
static struct conf_vm conf;
static struct proof_table proofs;
static struct ha_vm_report told; /* last */
static unsigned reports;
static uint64_t settle_ns;
static const struct uuid vm_id = {{1}};
static const struct incarnation inc = {{{9}}, 1};

static void on_report(void *ctx, const struct ha_vm_report *r)
{
    (void)ctx;
    told = *r;
    reports++;
}

static void on_local(void *ctx, const struct ha_local_vm *vm, bool gone)
{
    (void)ctx;
    (void)vm;
    (void)gone;
}

static const struct proof_table *known(void *ctx)
{
    (void)ctx;
    return &proofs;
}

static bool yes(void *ctx)
{
    (void)ctx;
    return true;
}

static bool no(void *ctx)
{
    (void)ctx;
    return false;
}

static uint64_t settles(void *ctx)
{
    (void)ctx;
    return settle_ns;
}

static const struct ha_vm *on_record(void *ctx, struct uuid vm)
{
    (void)ctx;
    return memcmp(&vm, &vm_id, sizeof vm) == 0 ? &record : NULL;
}

static const struct conf_cluster *no_cluster(void *ctx)
{
    (void)ctx;
    return NULL;
}

static void on_step(void *ctx, const char *vm, const char *what)
{
    (void)ctx;
    (void)vm;
    (void)what;
}

static const struct ha_vmm_ops ops = {.local_vm = on_local,
                                      .report = on_report,
                                      .proofs = known,
                                      .quorate = yes,
                                      .links_down = no,
                                      .settle_ns = settles,
                                      .record = on_record,
                                      .cluster = no_cluster,
                                      .step = on_step};
