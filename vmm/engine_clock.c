/* SPDX-License-Identifier: Apache-2.0 */
/* Machine time, and waiting until some of it has passed. */
#include <poll.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/os.h"
#include "vmm/engine_priv.h"

uint64_t engine_machine_now_ns(const struct engine *e)
{
    return e->clock_running ? loop_now_ns() - e->clock_offset_ns : e->clock_stopped_ns;
}

void engine_clock_start(struct engine *e)
{
    e->clock_offset_ns = loop_now_ns() - e->clock_stopped_ns;
    e->clock_running = true;
    e->wake_armed_ns = 0;
    atomic_store(&e->guest_since_ns, e->clock_offset_ns);
}

void engine_clock_stop(struct engine *e)
{
    e->clock_stopped_ns = engine_machine_now_ns(e);
    e->clock_running = false;
    atomic_store(&e->guest_ns, e->clock_stopped_ns);
    atomic_store(&e->guest_since_ns, 0);
}

void engine_wait(struct engine *e, uint64_t until_ns)
{
    struct pollfd fds[] = {{.fd = e->wake_fd, .events = POLLIN},
                           {.fd = disks_poll_fd(e->disks), .events = POLLIN}};
    struct timespec timeout = {0}, *limit = NULL;

    if (!disks_push(e->disks) &&
        until_ns > engine_machine_now_ns(e) + ENGINE_PUSH_AGAIN_NS) {
        until_ns = engine_machine_now_ns(e) + ENGINE_PUSH_AGAIN_NS;
    }
    if (disks_reapable(e->disks)) {
        return; /* answered while it was sent: nothing would wake us */
    }
    if (until_ns != UINT64_MAX) {
        uint64_t now = engine_machine_now_ns(e);
        uint64_t left = until_ns > now ? until_ns - now : 0;

        timeout.tv_sec = (time_t)(left / NSEC_PER_SEC);
        timeout.tv_nsec = (long)(left % NSEC_PER_SEC);
        limit = &timeout;
    }
    atomic_store(&e->waiting, true);
    if (!atomic_load(&e->kicked) && ppoll(fds, ARRAY_SIZE(fds), limit, NULL) > 0) {
        uint64_t count;

        if (fds[0].revents & POLLIN) {
            (void)!read(e->wake_fd, &count, sizeof count);
        }
        if (fds[1].revents & POLLIN) {
            disks_woken(e->disks);
        }
    }
    atomic_store(&e->waiting, false);
}

/* While the guest computes, a timer signal ends KVM_RUN when the next device wants to be
 * woken. */
void engine_arm_wake(struct engine *e, uint64_t at)
{
    struct itimerspec when = {0};
    uint64_t mono;

    if (at == e->wake_armed_ns || (at == UINT64_MAX && e->wake_armed_ns == 0)) {
        return;
    }
    if (at != UINT64_MAX) {
        mono = at + e->clock_offset_ns;
        when.it_value.tv_sec = (time_t)(mono / NSEC_PER_SEC);
        when.it_value.tv_nsec = (long)(mono % NSEC_PER_SEC);
    }
    e->wake_armed_ns = at == UINT64_MAX ? 0 : at;
    (void)timer_settime(e->wake_timer, TIMER_ABSTIME, &when, NULL);
}

/* The RTC goes on from machine time: its base is what makes it show the time of day. */
static uint64_t rtc_base_ns(const struct engine *e)
{
    uint64_t wall = os_wall_ns(), machine = engine_machine_now_ns(e);

    return (wall > machine ? wall - machine : 0) / NSEC_PER_SEC * NSEC_PER_SEC;
}

void engine_set_rtc(struct engine *e)
{
    (void)machine_input(
        e->machine, MACHINE_DEV_RTC,
        &(struct dev_input){.type = INPUT_RTC_BASE, .now_ns = rtc_base_ns(e)});
}
