/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nbdkit-gemel-epoch-filter: what an nbdkit server calls of storage/epoch_gate. See
 * storage/README.md; nbdkit-filter(3) for the interface.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off: it has to come first of the two */
#include <nbdkit-filter.h>
/* clang-format on */

#include "base/text.h"
#include "storage/epoch_gate.h"

#define DRAIN_MS     5000
#define DRAIN_MS_MAX 600000

static struct {
    char *dir;
    char *only;
    unsigned drain_ms;
    struct epoch_gate *gate;
} server = {.drain_ms = DRAIN_MS};

static int set_drain(const char *value)
{
    uint64_t ms;

    if (!text_u64(value, 0, DRAIN_MS_MAX, &ms)) {
        nbdkit_error("epoch-drain-ms=%s: give milliseconds, 0 to %d", value,
                     DRAIN_MS_MAX);
        return -1;
    }
    server.drain_ms = (unsigned)ms;
    return 0;
}

static int epoch_config(nbdkit_next_config *next, nbdkit_backend *nxdata, const char *key,
                        const char *value)
{
    if (strcmp(key, "epochs") == 0) {
        free(server.dir);
        server.dir = nbdkit_realpath(value);
        return server.dir ? 0 : -1;
    }
    if (strcmp(key, "epoch-export") == 0) {
        free(server.only);
        server.only = strdup(value);
        return server.only ? 0 : -1;
    }
    if (strcmp(key, "epoch-drain-ms") == 0) {
        return set_drain(value);
    }
    return next(nxdata, key, value);
}

static int epoch_config_complete(nbdkit_next_config_complete *next,
                                 nbdkit_backend *nxdata)
{
    if (!server.dir) {
        nbdkit_error(
            "gemel-epoch: give epochs=DIR, a directory in which the highest epoch "
            "of each export is kept");
        return -1;
    }
    return next(nxdata);
}

/* Before the server goes to the background: what is wrong is seen by who started it. */
static int epoch_get_ready(int thread_model)
{
    char why[EPOCH_WHY_MAX];

    if (thread_model == NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS) {
        nbdkit_error("gemel-epoch: this plugin serves one connection at a time, so a new "
                     "owner would wait until the old one leaves; use another plugin");
        return -1;
    }
    if (epoch_gate_open(&server.gate, server.dir, server.drain_ms, why) < 0) {
        nbdkit_error("gemel-epoch: %s", why);
        return -1;
    }
    return 0;
}

static void epoch_unload(void)
{
    epoch_gate_close(server.gate);
    free(server.dir);
    free(server.only);
}

static int parse(const char *text, struct epoch_name *ret_name)
{
    const char *wrong = epoch_name_parse(text, ret_name);

    if (wrong) {
        nbdkit_error("gemel-epoch: a client asked for an export whose name cannot be: %s",
                     wrong);
        return -1;
    }
    if (server.only && strcmp(server.only, ret_name->export_name) != 0) {
        nbdkit_error("gemel-epoch: a client asked for export %s; only %s is served "
                     "(epoch-export)",
                     ret_name->shown, server.only);
        return -1;
    }
    return 0;
}

static void *epoch_open(nbdkit_next_open *next, nbdkit_context *context, int readonly,
                        const char *exportname, int is_tls)
{
    struct epoch_pass *pass;
    struct epoch_name name;
    char why[EPOCH_WHY_MAX];

    (void)is_tls;
    /* What is behind is asked first: who asks for what is not there changes nothing. */
    if (parse(exportname, &name) < 0 || next(context, readonly, name.export_name) == -1) {
        return NULL;
    }
    if (epoch_gate_enter(server.gate, &name, &pass, why) < 0) {
        nbdkit_error("gemel-epoch: %s", why);
        return NULL;
    }
    return pass;
}

static void epoch_close(void *handle)
{
    epoch_gate_leave(handle);
}

/* So a client sees that its epochs count here, and which one is the highest. */
static const char *epoch_export_description(nbdkit_next *next, void *handle)
{
    (void)next;
    return nbdkit_printf_intern("gemel-epoch %llu",
                                (unsigned long long)epoch_gate_highest(handle));
}

/* The newest connection of an epoch is the only one. */
static int epoch_can_multi_conn(nbdkit_next *next, void *handle)
{
    return epoch_gate_has_epoch(handle) ? 0 : next->can_multi_conn(next);
}

/* A client that is cut off sees "the server is shutting down" (NBD_ESHUTDOWN). */
static int begin(void *handle, int *err)
{
    if (!epoch_gate_begin(handle)) {
        nbdkit_debug("gemel-epoch: request of a connection that was cut off");
        *err = ESHUTDOWN;
        return -1;
    }
    return 0;
}

static int end(void *handle, int r)
{
    epoch_gate_end(handle);
    return r;
}

static int epoch_pread(nbdkit_next *next, void *handle, void *buf, uint32_t count,
                       uint64_t offset, uint32_t flags, int *err)
{
    return begin(handle, err) < 0
               ? -1
               : end(handle, next->pread(next, buf, count, offset, flags, err));
}

static int epoch_pwrite(nbdkit_next *next, void *handle, const void *buf, uint32_t count,
                        uint64_t offset, uint32_t flags, int *err)
{
    return begin(handle, err) < 0
               ? -1
               : end(handle, next->pwrite(next, buf, count, offset, flags, err));
}

static int epoch_flush(nbdkit_next *next, void *handle, uint32_t flags, int *err)
{
    return begin(handle, err) < 0 ? -1 : end(handle, next->flush(next, flags, err));
}

static int epoch_trim(nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
                      uint32_t flags, int *err)
{
    return begin(handle, err) < 0
               ? -1
               : end(handle, next->trim(next, count, offset, flags, err));
}

static int epoch_zero(nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
                      uint32_t flags, int *err)
{
    return begin(handle, err) < 0
               ? -1
               : end(handle, next->zero(next, count, offset, flags, err));
}

static int epoch_extents(nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
                         uint32_t flags, struct nbdkit_extents *extents, int *err)
{
    return begin(handle, err) < 0
               ? -1
               : end(handle, next->extents(next, count, offset, flags, extents, err));
}

static int epoch_cache(nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
                       uint32_t flags, int *err)
{
    return begin(handle, err) < 0
               ? -1
               : end(handle, next->cache(next, count, offset, flags, err));
}

static struct nbdkit_filter filter = {
    .name = "gemel-epoch",
    .longname = "gemel epoch filter",
    .description = "lets in the newest owner of an export and cuts off those before",
    .unload = epoch_unload,
    .config = epoch_config,
    .config_complete = epoch_config_complete,
    .config_help =
        "epochs=DIR              (required) Where the highest epoch of each export is "
        "kept.\n"
        "epoch-export=NAME       Serve this export only (for plugins that ignore the "
        "name).\n"
        "epoch-drain-ms=NUMBER   How long a new owner waits for requests under way "
        "(5000).",
    .get_ready = epoch_get_ready,
    .open = epoch_open,
    .close = epoch_close,
    .export_description = epoch_export_description,
    .can_multi_conn = epoch_can_multi_conn,
    .pread = epoch_pread,
    .pwrite = epoch_pwrite,
    .flush = epoch_flush,
    .trim = epoch_trim,
    .zero = epoch_zero,
    .extents = epoch_extents,
    .cache = epoch_cache,
};

struct nbdkit_filter *filter_init(void); /* the header has it only as a macro */

NBDKIT_REGISTER_FILTER(filter)
