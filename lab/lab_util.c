/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/lab_util.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct lab_path lab_path(const char *format, ...)
{
    struct lab_path path;
    va_list ap;

    va_start(ap, format);
    int n = vsnprintf(path.s, sizeof path.s, format, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof path.s) {
        lab_error("a path is longer than %zu bytes: %.60s...; use a shorter --dir",
                  sizeof path.s - 1, path.s);
        exit(1);
    }
    return path;
}

void lab_text_add(struct lab_text *text, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    int n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    if (n < 0) {
        return;
    }
    if (text->len + (size_t)n + 1 > text->cap) {
        size_t cap = (text->len + (size_t)n + 1) * 2;
        char *buf = realloc(text->buf, cap);
        if (buf == NULL) {
            lab_error("out of memory");
            exit(1);
        }
        text->buf = buf;
        text->cap = cap;
    }
    va_start(ap, format);
    vsnprintf(text->buf + text->len, (size_t)n + 1, format, ap);
    va_end(ap);
    text->len += (size_t)n;
}

void lab_text_free(struct lab_text *text)
{
    free(text->buf);
    *text = (struct lab_text){0};
}

void lab_error(const char *format, ...)
{
    va_list ap;

    fputs("gemel-lab: ", stderr);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void lab_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

int lab_write_file(const char *path, const char *text, mode_t mode)
{
    struct lab_path temp = lab_path("%s.tmp", path);
    size_t len = strlen(text), done = 0;
    int r;

    int fd = open(temp.s, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0) {
        return -errno;
    }
    while (done < len) {
        ssize_t n = write(fd, text + done, len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            r = -errno;
            goto out;
        }
        done += (size_t)n;
    }
    r = fchmod(fd, mode) == 0 && rename(temp.s, path) == 0 ? 0 : -errno;
out:
    close(fd);
    if (r < 0) {
        unlink(temp.s);
    }
    return r;
}

ssize_t lab_read_file(const char *path, char *buf, size_t cap)
{
    size_t len = 0;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    while (len + 1 < cap) {
        ssize_t n = read(fd, buf + len, cap - 1 - len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            n = -errno;
            close(fd);
            return n;
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
    }
    close(fd);
    buf[len] = '\0';
    return (ssize_t)len;
}

int lab_mkdir_p(const char *path, mode_t mode)
{
    struct lab_path part = lab_path("%s", path);

    for (char *p = part.s + 1; *p != '\0'; p++) {
        if (*p != '/') {
            continue;
        }
        *p = '\0';
        if (mkdir(part.s, mode) < 0 && errno != EEXIST) {
            return -errno;
        }
        *p = '/';
    }
    return mkdir(part.s, mode) < 0 && errno != EEXIST ? -errno : 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

int lab_remove_tree(const char *path)
{
    if (nftw(path, remove_one, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0 ||
        errno == ENOENT) {
        return 0;
    }
    return -errno;
}

/* Feeds stdin and gathers the output until the child closes it. */
static void run_pump(int in, int out, const char *input, struct lab_text *output)
{
    size_t done = 0, len = input != NULL ? strlen(input) : 0;
    char buf[4096];

    for (;;) {
        struct pollfd fds[2] = {{.fd = out, .events = POLLIN},
                                {.fd = in, .events = POLLOUT}};
        if (in >= 0 && done == len) {
            close(in);
            in = -1;
        }
        if (poll(fds, in >= 0 ? 2 : 1, -1) < 0 && errno != EINTR) {
            break;
        }
        if (in >= 0 && fds[1].revents != 0) {
            ssize_t n = write(in, input + done, len - done);
            done = n < 0 ? len : done + (size_t)n;
        }
        if (fds[0].revents != 0) {
            ssize_t n = read(out, buf, sizeof buf);
            if (n <= 0) {
                break;
            }
            if (output->len < 256 * 1024) {
                lab_text_add(output, "%.*s", (int)n, buf);
            }
        }
    }
    if (in >= 0) {
        close(in);
    }
}

int lab_run(const char *const argv[], const char *input, char **ret_output)
{
    struct lab_text output = {0};
    int in[2] = {-1, -1}, out[2], status, r;

    if (pipe2(out, O_CLOEXEC) < 0) {
        return -errno;
    }
    if (pipe2(in, O_CLOEXEC) < 0) {
        r = -errno;
        close(out[0]);
        close(out[1]);
        return r;
    }
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGPIPE, SIG_DFL);
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(out[1], 2);
        execvp(argv[0], (char *const *)argv);
        dprintf(2, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    r = pid < 0 ? -errno : 0;
    close(in[0]);
    close(out[1]);
    if (pid < 0) {
        close(in[1]);
        close(out[0]);
        return r;
    }
    run_pump(in[1], out[0], input, &output);
    close(out[0]);
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            status = 0x7f00;
            break;
        }
    }
    if (ret_output != NULL) {
        lab_text_add(&output, "%s", "");
        *ret_output = output.buf;
    } else {
        lab_text_free(&output);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

uint64_t lab_start_time(pid_t pid)
{
    struct lab_path path = lab_path("/proc/%d/stat", (int)pid);
    unsigned long long start;
    char buf[1024], state;

    if (lab_read_file(path.s, buf, sizeof buf) <= 0) {
        return 0;
    }
    /* The command may hold spaces and parentheses: fields count from the last ')'. */
    const char *p = strrchr(buf, ')');
    if (p == NULL ||
        sscanf(p + 1,
               " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
               "%*d %llu",
               &state, &start) != 2 ||
        state == 'Z' || state == 'X') {
        return 0;
    }
    return start;
}

bool lab_number(const char *s, unsigned min, unsigned max, unsigned *ret)
{
    char *end;

    errno = 0;
    unsigned long v = strtoul(s, &end, 10);
    if (s[0] < '0' || s[0] > '9' || *end != '\0' || errno != 0 || v < min || v > max) {
        return false;
    }
    *ret = (unsigned)v;
    return true;
}

uint64_t lab_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

void lab_sleep_ms(unsigned ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    while (nanosleep(&ts, &ts) < 0 && errno == EINTR) {
    }
}

struct lab_path lab_self(void)
{
    char buf[PATH_LEN_MAX];

    ssize_t n = readlink("/proc/self/exe", buf, sizeof buf - 1);
    if (n <= 0) {
        return lab_path("/usr/sbin/gemel-lab");
    }
    buf[n] = '\0';
    return lab_path("%s", buf);
}

struct lab_path lab_bin_dir(void)
{
    struct lab_path self = lab_self();
    char *slash = strrchr(self.s, '/');

    *(slash == self.s ? slash + 1 : slash) = '\0';
    return self;
}

struct lab_path lab_search_path(void)
{
    struct lab_path bin = lab_bin_dir();

    return lab_path(
        "%s:%s/../sbin:%s/../bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
        "/sbin:/bin",
        bin.s, bin.s, bin.s);
}

struct lab_path lab_find_program(const char *name)
{
    static const char *const places[] = {"", "/../sbin", "/../bin"};
    struct lab_path dir = lab_bin_dir();

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct lab_path path = lab_path("%s%s/%s", dir.s, places[i], name);
        if (access(path.s, X_OK) == 0) {
            return path;
        }
    }
    return lab_path("%s", "");
}
