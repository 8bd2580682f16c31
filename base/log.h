/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logging through libqb's qb_log. Shells log; pure cores return and never include this.
 * One line per event, key=value where a machine may read it. Secrets never reach it.
 */
#pragma once

#include <syslog.h>

/* ident: program name; target: path of a log file, or NULL for stderr. level: LOG_INFO,
 * LOG_DEBUG, ... */
int log_open(const char *ident, const char *path, int level);
void log_close(void);
/* Rotates path -> base-1.log ... when it has grown past `bytes_max` (LOG_FILES_KEPT
 * kept). Called by log_write itself. */
void log_write(int level, const char *file, const char *function, int line,
               const char *format, ...) __attribute__((format(printf, 5, 6)));

#define log_err(...)   log_write(LOG_ERR, __FILE__, __func__, __LINE__, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_WARNING, __FILE__, __func__, __LINE__, __VA_ARGS__)
#define log_info(...)  log_write(LOG_INFO, __FILE__, __func__, __LINE__, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, __FILE__, __func__, __LINE__, __VA_ARGS__)
