/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small helpers of the lab's programs: paths, files, trees, commands, processes. Only
 * lab/ includes this. 0 or -errno unless said otherwise; one thread at a time.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/limits.h"

/* A path that is too long ends the program: every path here is made by the lab itself. */
struct lab_path {
    char s[PATH_LEN_MAX];
};
struct lab_path lab_path(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Text that grows; `buf` is always NUL-terminated once something was added. */
struct lab_text {
    char *buf;
    size_t len, cap;
};
void lab_text_add(struct lab_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void lab_text_free(struct lab_text *text);

/* Prints "gemel-lab: ..." on stderr. */
void lab_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Closes an fd that is there, and marks it as gone (-1). */
void lab_close(int *fd);
int lab_write_file(const char *path, const char *text, mode_t mode);
/* Reads at most cap - 1 bytes and terminates; returns the length or -errno. */
ssize_t lab_read_file(const char *path, char *buf, size_t cap);
int lab_mkdir_p(const char *path, mode_t mode);
/* Removes a tree without following links or crossing into another file system. */
int lab_remove_tree(const char *path);

/*
 * Runs a command to its end with `input` on stdin (NULL: /dev/null) and stderr kept.
 * Returns its exit code, 128 + signal, or -errno; *ret_output (may be NULL; caller frees)
 * gets stdout and stderr.
 */
int lab_run(const char *const argv[], const char *input, char **ret_output);

/* Field 22 of /proc/PID/stat; 0 when there is no such process (a zombie counts as none).
 */
uint64_t lab_start_time(pid_t pid);
/* Decimal digits and nothing else, min..max. */
bool lab_number(const char *s, unsigned min, unsigned max, unsigned *ret);
uint64_t lab_now_ns(void);
void lab_sleep_ms(unsigned ms);
/* The running executable, and its directory. */
struct lab_path lab_self(void);
struct lab_path lab_bin_dir(void);
/* For PATH: where our programs are, then the usual places. */
struct lab_path lab_search_path(void);
/* An executable next to ours (., ../bin, ../sbin), else empty. */
struct lab_path lab_find_program(const char *name);
