/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/log.h over qb_log: one target, stderr or a file. A line is made whole here, with
 * control characters replaced, so that neither a guest nor a peer can forge a line; and
 * its length is known, so that rotation needs no stat on every line.
 */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <qb/qbdefs.h>
#include <qb/qblog.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"

#define LINE_MAX_LEN 2048
#define PREFIX_LEN   64 /* about what the format puts before a message */

/* qb_log is one per process, so this is too. The lock also covers rotation. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    bool open;
    int level;
    int32_t target;
    char path[PATH_LEN_MAX];
    size_t file_len_bytes;
    bool rotation_failed;
} state;

static int setup_target(const char *path, int level)
{
    struct stat st;

    if (path == NULL) {
        state.target = QB_LOG_STDERR;
        state.path[0] = '\0';
    } else {
        if (strlen(path) >= sizeof state.path) {
            return -ENAMETOOLONG;
        }
        state.target = qb_log_file_open(path);
        if (state.target < 0) {
            return state.target;
        }
        memcpy(state.path, path, strlen(path) + 1);
        state.file_len_bytes = stat(path, &st) == 0 ? (size_t)st.st_size : 0;
    }
    qb_log_ctl(state.target, QB_LOG_CONF_MAX_LINE_LEN, LINE_MAX_LEN);
    qb_log_filter_ctl(state.target, QB_LOG_FILTER_ADD, QB_LOG_FILTER_FILE, "*",
                      (uint8_t)level);
    qb_log_format_set(state.target, path == NULL ? "%N %p: %b" : "%T %N[%P] %p: %b");
    return qb_log_ctl(state.target, QB_LOG_CONF_ENABLED, QB_TRUE);
}

int log_open(const char *ident, const char *path, int level)
{
    int r;

    pthread_mutex_lock(&lock);
    if (state.open) {
        qb_log_fini();
        state.open = false;
    }
    qb_log_init(ident, LOG_DAEMON, (uint8_t)level);
    qb_log_ctl(QB_LOG_SYSLOG, QB_LOG_CONF_ENABLED, QB_FALSE);
    state.level = level;
    state.rotation_failed = false;
    r = setup_target(path, level);
    if (r < 0) {
        qb_log_fini();
    } else {
        state.open = true;
        r = 0;
    }
    pthread_mutex_unlock(&lock);
    return r;
}

void log_close(void)
{
    pthread_mutex_lock(&lock);
    if (state.open) {
        qb_log_fini();
        state.open = false;
    }
    pthread_mutex_unlock(&lock);
}

/* dir/x.log, 2 -> dir/x-2.log; a name without .log gets -2 at its end. */
static int kept_name(char *buf, size_t cap, unsigned number)
{
    size_t len = strlen(state.path);
    bool dotted = len > 4 && strcmp(state.path + len - 4, ".log") == 0;
    int stem = (int)(dotted ? len - 4 : len);
    int r =
        snprintf(buf, cap, "%.*s-%u%s", stem, state.path, number, dotted ? ".log" : "");

    return r > 0 && (size_t)r < cap ? 0 : -ENAMETOOLONG;
}

/* x-5 -> x-6, ..., x-1 -> x-2, x -> x-1, then a new x. On failure the old file grows on:
 * logging matters more. */
static int rotate(void)
{
    char from[PATH_LEN_MAX + 16], to[PATH_LEN_MAX + 16];
    int r;

    for (unsigned n = LOG_FILES_KEPT; n > 1; n--) {
        r = kept_name(from, sizeof from, n - 1);
        if (r < 0) {
            return r;
        }
        r = kept_name(to, sizeof to, n);
        if (r < 0) {
            return r;
        }
        if (rename(from, to) < 0 && errno != ENOENT) {
            return -errno;
        }
    }
    r = kept_name(to, sizeof to, 1);
    if (r < 0) {
        return r;
    }
    if (rename(state.path, to) < 0) {
        return -errno;
    }
    r = qb_log_file_reopen(state.target, NULL);
    if (r < 0) {
        return r;
    }
    state.file_len_bytes = 0;
    return 0;
}

static void emit(int level, const char *file, const char *function, int line,
                 const char *text)
{
    qb_log_from_external_source(function, file, "%s", (uint8_t)level, (uint32_t)line, 0,
                                text);
}

static void rotate_if_due(size_t add_bytes)
{
    int r;

    if (state.path[0] == '\0' || state.file_len_bytes + add_bytes <= LOG_FILE_BYTES_MAX) {
        state.file_len_bytes += add_bytes;
        return;
    }
    r = rotate();
    if (r < 0 && !state.rotation_failed) {
        char text[128];

        state.rotation_failed = true;
        snprintf(text, sizeof text,
                 "log rotation failed: %s; the file grows beyond %d bytes", strerror(-r),
                 LOG_FILE_BYTES_MAX);
        emit(LOG_WARNING, __FILE__, __func__, __LINE__, text);
    }
    state.file_len_bytes += add_bytes;
}

static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            *text = '?';
        }
    }
}

void log_write(int level, const char *file, const char *function, int line,
               const char *format, ...)
{
    char text[LINE_MAX_LEN - PREFIX_LEN];
    va_list ap;

    va_start(ap, format);
    if (vsnprintf(text, sizeof text, format, ap) < 0) {
        text[0] = '\0';
    }
    va_end(ap);
    make_printable(text);

    pthread_mutex_lock(&lock);
    if (!state.open) {
        /* Before log_open, and in tests: warnings should still be seen. */
        if (level <= LOG_WARNING) {
            fprintf(stderr, "%s\n", text);
        }
    } else if (level <= state.level) {
        rotate_if_due(strlen(text) + PREFIX_LEN);
        emit(level, file, function, line, text);
    }
    pthread_mutex_unlock(&lock);
}
