/* SPDX-License-Identifier: Apache-2.0 */
#include "fencing/fenced.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/uuid.h"
#include "fencing/fence_store.h"
#include "fencing/fenced_int.h"

/* Promised to requesters: a report at least every 2 s while a request is pending. */
#define REPORT_MS 1000

static void report_pending(void *data)
{
    struct fenced *f = data;

    for (size_t i = 0; i < FENCE_REQUESTS_MAX; i++) {
        struct fenced_request *r = &f->request[i];

        if (r->used && r->record.result == FENCE_RESULT_PENDING && r->clients != 0) {
            fenced_request_describe(r);
            fenced_report(r);
        }
    }
    if (loop_timer_add(f->loop, REPORT_MS * NSEC_PER_MSEC, report_pending, f,
                       &f->report_timer) < 0) {
        log_err("no timer for reports: pending requests are not reported any more");
    }
}

static void load_record(const struct fence_record *record, void *data)
{
    struct fenced *f = data;
    uint64_t order_last = f->order_last;
    struct fenced_request *r = fenced_request_new(f);

    if (r == NULL) {
        return;
    }
    r->record = *record;
    f->order_last = record->order > order_last ? record->order : order_last;
}

/* What was in flight may or may not have happened: look at the power, do nothing. */
static void resume(struct fenced *f)
{
    for (size_t i = 0; i < FENCE_REQUESTS_MAX; i++) {
        struct fenced_request *r = &f->request[i];

        if (!r->used || r->record.result != FENCE_RESULT_PENDING) {
            continue;
        }
        fenced_request_begin(r, true);
    }
}

static int load(struct fenced *f)
{
    char warning[REASON_LEN_MAX + 1];
    struct conf_error error;
    unsigned bad = 0;
    size_t len;
    char *yaml;
    int r;

    r = fence_store_load(f->state_dir, load_record, f, &bad);
    if (r < 0) {
        return r;
    }
    if (bad > 0) {
        log_err("%u records in %s were damaged and set aside as *.bad: fence requests of "
                "before the restart may be unknown",
                bad, f->state_dir);
    }
    r = fence_store_get_config(f->state_dir, &yaml, &len);
    if (r == 0) {
        if (fenced_configure(f, yaml, &error, warning) < 0) {
            log_err(
                "the configuration kept in %s is not usable: %s; waiting for a new one",
                f->state_dir, error.text);
        }
        free(yaml);
    }
    resume(f);
    return 0;
}

static int copy_paths(struct fenced *f, const struct fenced_options *options)
{
    const char *socket_path = options->socket_path != NULL ? options->socket_path : "";

    if (strlen(options->state_dir) >= sizeof(f->state_dir) ||
        strlen(options->secrets_dir) >= sizeof(f->secrets_dir) ||
        strlen(socket_path) >= sizeof(f->socket_path)) {
        return -ENAMETOOLONG;
    }
    snprintf(f->state_dir, sizeof(f->state_dir), "%s", options->state_dir);
    snprintf(f->secrets_dir, sizeof(f->secrets_dir), "%s", options->secrets_dir);
    snprintf(f->socket_path, sizeof(f->socket_path), "%s", socket_path);
    return 0;
}

int fenced_new(struct loop *loop, const struct fenced_options *options,
               struct fenced **ret_fenced)
{
    struct fenced *f = calloc(1, sizeof(*f));
    int r;

    if (f == NULL) {
        return -ENOMEM;
    }
    f->loop = loop;
    f->levels_parallel = options->levels_parallel;
    f->lock_fd = f->listen_fd = -1;
    for (size_t i = 0; i < CTL_CLIENTS_MAX; i++) {
        f->client[i].fd = -1;
    }
    r = copy_paths(f, options);
    if (r < 0) {
        goto out;
    }
    r = fence_store_open(f->state_dir, &f->lock_fd);
    if (r < 0) {
        log_err("state directory %s: %s", f->state_dir,
                r == -EAGAIN ? "another gemel-fenced uses it; stop that one first"
                             : strerror(-r));
        goto out;
    }
    r = fence_runner_new(loop, options->agents_dir, f->secrets_dir, &f->runner);
    if (r < 0) {
        goto out;
    }
    /* Before anything is resumed: a second fenced on this socket must not act at all. */
    r = f->socket_path[0] != '\0' ? fenced_listen(f) : 0;
    if (r < 0) {
        log_err("socket %s: %s", f->socket_path, strerror(-r));
        goto out;
    }
    r = load(f);
    if (r < 0) {
        log_err("state directory %s: cannot be read: %s", f->state_dir, strerror(-r));
        goto out;
    }
    report_pending(f);
    *ret_fenced = f;
    r = 0;
out:
    if (r < 0) {
        fenced_free(f);
    }
    return r;
}

void fenced_free(struct fenced *f)
{
    if (f == NULL) {
        return;
    }
    fence_runner_free(f->runner);
    fenced_clients_close(f);
    loop_timer_del(f->loop, &f->report_timer);
    loop_timer_del(f->loop, &f->dispatch_timer);
    fenced_ready_free(f);
    for (size_t i = 0; i < FENCE_REQUESTS_MAX; i++) {
        if (f->request[i].used) {
            fenced_request_drop(&f->request[i]);
        }
    }
    fenced_snapshot_unref(f->snapshot);
    if (f->lock_fd >= 0) {
        close(f->lock_fd);
    }
    free(f);
}
