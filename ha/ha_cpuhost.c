/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_cpuhost.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/kvm_can.h"
#include "base/loop.h"
#include "base/os.h"
#include "base/units.h"
#include "ha/ha_text.h"

#define WAIT_NS (5 * NSEC_PER_SEC)

/* All of it up to the end of the pipe, NUL-terminated. */
static int read_text(int fd, char *buf, size_t cap)
{
    uint64_t end = loop_now_ns() + WAIT_NS;
    size_t len = 0;

    while (len + 1 < cap) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint64_t now = loop_now_ns();
        ssize_t n;

        if (now >= end || poll(&p, 1, (int)((end - now) / NSEC_PER_MSEC) + 1) == 0) {
            return -ETIMEDOUT;
        }
        n = read(fd, buf + len, cap - 1 - len);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n == 0) {
            buf[len] = '\0';
            return 0;
        }
        len += n > 0 ? (size_t)n : 0;
    }
    return -E2BIG;
}

/* It has closed its output: it ends. */
static int reap(struct os_child *child)
{
    struct pollfd p = {.fd = child->pidfd, .events = POLLIN};
    int status = -1;

    if (poll(&p, 1, (int)(WAIT_NS / NSEC_PER_MSEC)) == 0) {
        (void)os_child_kill_group(child, SIGKILL);
        (void)poll(&p, 1, -1);
    }
    (void)os_child_reap(child, &status);
    os_child_close(child);
    return status;
}

/* What `vmm_path option` prints; what it complains of is text, too. */
static int ask(const char *vmm_path, const char *option, char text[CPU_MODEL_TEXT_MAX],
               bool *ret_good, char *why, size_t why_cap)
{
    const char *const argv[] = {vmm_path, option, NULL};
    struct os_child child;
    int out[2], stdio[3], status, r;

    if (pipe2(out, O_CLOEXEC) < 0) {
        return -errno;
    }
    stdio[0] = -1;
    stdio[1] = stdio[2] = out[1];
    r = os_spawn(argv, NULL, stdio, NULL, 0, &child);
    close(out[1]);
    if (r < 0) {
        ha_text_set(why, why_cap, vmm_path, ": ", strerror(-r), NULL);
        goto done;
    }
    r = read_text(out[0], text, CPU_MODEL_TEXT_MAX);
    if (r == -ETIMEDOUT) {
        (void)os_child_kill_group(&child, SIGKILL);
    }
    status = reap(&child);
    *ret_good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (r < 0) {
        ha_text_set(why, why_cap, vmm_path, " ", option, ": ", strerror(-r), NULL);
    }
done:
    close(out[0]);
    return r;
}

static int complain(const char *vmm_path, const char *option, char *text, char *why,
                    size_t why_cap)
{
    text[strcspn(text, "\n")] = '\0';
    ha_text_set(why, why_cap, vmm_path, " ", option, " says: ", text, NULL);
    return -EBADMSG;
}

int ha_cpuhost_read(const char *vmm_path, struct cpu_model *ret_model, char *why,
                    size_t why_cap)
{
    static const char option[] = "--cpu-model";
    char text[CPU_MODEL_TEXT_MAX];
    struct cpu_model_error wrong;
    bool good;
    int r = ask(vmm_path, option, text, &good, why, why_cap);

    if (r == 0 && !cpu_model_parse(text, ret_model, &wrong)) {
        r = complain(vmm_path, option, text, why, why_cap);
    }
    return r;
}

int ha_cpuhost_kvm(const char *vmm_path, uint32_t *ret_can, char *why, size_t why_cap)
{
    static const char option[] = "--kvm-can";
    char text[CPU_MODEL_TEXT_MAX];
    bool good;
    int r = ask(vmm_path, option, text, &good, why, why_cap);

    if (r == 0 && !good) {
        return complain(vmm_path, option, text, why, why_cap);
    }
    if (r == 0) {
        *ret_can = kvm_can_parse(text);
    }
    return r;
}
