/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/pulse_hostile.h"

#include "tests/guest/pulse_hw.h"
#include "tests/guest/pulse_virtio.h"

/* "all", the target's name, or target-attack. */
static bool wanted(const char *name, const char *target, const char *attack)
{
    const char *all = "all";
    const char *at = name;

    while (*all != '\0' && *at == *all) {
        at++;
        all++;
    }
    if (*all == '\0' && *at == '\0') {
        return true;
    }
    for (at = name; *target != '\0'; target++) {
        if (*at++ != *target) {
            return false;
        }
    }
    if (*at == '\0') {
        return true;
    }
    if (*at++ != '-') {
        return false;
    }
    while (*at != '\0' && *at == *attack) {
        at++;
        attack++;
    }
    return *at == *attack;
}

/* Waits up to 200 ms for a consequence. */
static uint32_t observe(const struct hostile_target *target,
                        const struct virtio_device *device)
{
    uint32_t start = pulse_ticks, wait = pulse_hz / 5 + 1;

    while (pulse_ticks - start < wait) {
        uint32_t wakes = pulse_wakes, consequence;

        if ((mmio_read32(device->base + VIRTIO_REG_STATUS) & VIRTIO_NEEDS_RESET) != 0) {
            return MAY_RESET;
        }
        consequence = target->consequence();
        if (consequence != 0) {
            return consequence;
        }
        hw_idle(wakes);
    }
    return MAY_IGNORE;
}

static const char *consequence_text(uint32_t consequence)
{
    switch (consequence) {
    case MAY_RESET:
        return "needs_reset";
    case MAY_ERROR:
        return "error";
    case MAY_IGNORE:
        return "ignored";
    default:
        return "done";
    }
}

/* True if the device took it well and works again after a reset. */
static bool attack_device(const struct hostile_target *target,
                          const struct virtio_device *device, const struct attack *attack)
{
    uint32_t consequence;
    bool works, ok;

    if (!target->start()) {
        return false;
    }
    attack->run();
    consequence = observe(target, device);
    works = target->works();
    ok = (consequence & attack->may) != 0 && works;
    line_text("hostile: ");
    line_text(target->name);
    line_text("-");
    line_text(attack->name);
    line_text(" -> ");
    line_text(consequence_text(consequence));
    line_text(works ? ", works after reset" : ", dead after reset");
    line_text(ok ? ": ok" : ": BAD");
    line_end();
    serial_drain();
    return ok;
}

void hostile_run(const struct hostile_target *target, struct virtio_device *device,
                 const char *name, uint32_t *tried, uint32_t *bad)
{
    for (uint32_t i = 0; i < target->attack_count; i++) {
        if (wanted(name, target->name, target->attacks[i].name)) {
            (*tried)++;
            if (!attack_device(target, device, &target->attacks[i])) {
                (*bad)++;
            }
        }
    }
}
