/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_fit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/frame.h"
#include "base/state_io.h"
#include "cluster-conf/conf_scalar.h"

/* The format of vmm/state_stream.h and engine_state.c, which is another tower's: HEAD
 * with sections "vm" and "cpu-model", then STATE with one section for each device. */
#define STREAM_MAGIC    UINT32_C(0x31534d47)
#define STREAM_BODY_MAX (4u * 1024 * 1024)
#define HEAD_TYPE       1
#define STATE_TYPE      2
#define MACHINE_MAX     1
#define TRANSPORT_MAX   1

static const char *const key_name[HA_FIT_KEYS] = {
    [HA_FIT_MACHINE] = "machine", [HA_FIT_TRANSPORT] = "transport",
    [HA_FIT_CPUS] = "cpus",       [HA_FIT_MEMORY] = "memory",
    [HA_FIT_DISKS] = "disks",     [HA_FIT_NICS] = "nics",
    [HA_FIT_BOOT] = "boot",
};
static const char *const machine_name[] = {"lockstep", "standard"};
static const char *const transport_name[] = {"mmio", "pci"};

static struct conf_text value_text(struct ha_fit *fit, enum ha_fit_key key)
{
    return conf_text_make(fit->value[key], sizeof fit->value[key]);
}

static void put(struct ha_fit *fit, enum ha_fit_key key, const char *value)
{
    struct conf_text text = value_text(fit, key);

    conf_text_str(&text, value);
}

static void put_number(struct ha_fit *fit, enum ha_fit_key key, uint64_t value)
{
    struct conf_text text = value_text(fit, key);

    if (key == HA_FIT_MEMORY) {
        conf_scalar_size_write(&text, value);
    } else {
        conf_text_u64(&text, value);
    }
}

/* Instead of "none", or behind those before it. */
static void put_mac(struct ha_fit *fit, unsigned index, const uint8_t mac[6])
{
    char before[HA_FIT_VALUE_MAX];
    struct conf_text text;

    memcpy(before, fit->value[HA_FIT_NICS], sizeof before);
    text = value_text(fit, HA_FIT_NICS);
    if (index > 0) {
        conf_text_strs(&text, before, ",", NULL);
    }
    conf_scalar_mac_write(&text, mac);
}

void ha_fit_of_conf(const struct conf_vm *conf, const char *cpu_model,
                    struct ha_fit *ret_fit)
{
    bool standard = conf->machine == CONF_MACHINE_STANDARD;

    *ret_fit = (struct ha_fit){0};
    put(ret_fit, HA_FIT_MACHINE, machine_name[standard]);
    put(ret_fit, HA_FIT_TRANSPORT, transport_name[standard]); /* as gemel-vmm chooses */
    put_number(ret_fit, HA_FIT_CPUS, standard ? conf->cpus : 1);
    put_number(ret_fit, HA_FIT_MEMORY, conf->memory_bytes);
    put_number(ret_fit, HA_FIT_DISKS, conf->disk_count);
    put(ret_fit, HA_FIT_NICS, "none");
    for (unsigned i = 0; i < conf->nic_count; i++) {
        put_mac(ret_fit, i, conf->nic[i].mac);
    }
    put(ret_fit, HA_FIT_BOOT, conf->kernel[0] != '\0' ? "kernel" : "firmware");
    if (standard && cpu_model != NULL) {
        struct conf_text text =
            conf_text_make(ret_fit->cpu_model, sizeof ret_fit->cpu_model);

        conf_text_str(&text, cpu_model);
    }
}

/* A saved state
 * ------------------------------------------------------------------------------------ */

/* Past what is left of the open section. */
static void skip_rest(struct state_io *io)
{
    io->rd = bytes_rd_make(io->stream, 0);
}

static void take_vm(struct state_io *io, struct ha_fit *fit)
{
    uint8_t machine = UINT8_MAX, transport = UINT8_MAX;
    uint64_t ram_bytes = 0;
    uint32_t cpus = 0;

    state_u8(io, &machine);
    state_u8(io, &transport);
    state_u32(io, &cpus);
    state_u64(io, &ram_bytes);
    if (io->error != STATE_OK || machine > MACHINE_MAX || transport > TRANSPORT_MAX) {
        state_fail(io, STATE_BAD_VALUE);
        return;
    }
    put(fit, HA_FIT_MACHINE, machine_name[machine]);
    put(fit, HA_FIT_TRANSPORT, transport_name[transport]);
    put_number(fit, HA_FIT_CPUS, cpus);
    put_number(fit, HA_FIT_MEMORY, ram_bytes);
}

static void take_cpu_model(struct state_io *io, struct ha_fit *fit)
{
    struct cpu_model_error why;
    struct cpu_model model;
    char text[CPU_MODEL_TEXT_MAX] = "";
    uint16_t len = 0;

    state_u16(io, &len);
    if (len >= sizeof text) {
        state_fail(io, STATE_BAD_VALUE);
        return;
    }
    state_bytes(io, text, len);
    if (io->error != STATE_OK || !cpu_model_parse(text, &model, &why) ||
        cpu_model_print(&model, fit->cpu_model, sizeof fit->cpu_model) == 0) {
        state_fail(io, STATE_BAD_VALUE);
    }
}

static bool take_head(const struct frame *frame, struct ha_fit *fit)
{
    struct state_io io;

    state_load_init(&io, frame->body, frame->body_len);
    while (state_section_next(&io)) {
        if (strcmp(io.section.name, "vm") == 0) {
            take_vm(&io, fit);
        } else if (strcmp(io.section.name, "cpu-model") == 0) {
            take_cpu_model(&io, fit);
        }
        skip_rest(&io);
    }
    return io.error == STATE_OK && fit->value[HA_FIT_MEMORY][0] != '\0';
}

static bool take_devices(const struct frame *frame, struct ha_fit *fit)
{
    unsigned disks = 0, nics = 0;
    struct state_io io;

    put(fit, HA_FIT_NICS, "none");
    state_load_init(&io, frame->body, frame->body_len);
    while (state_section_next(&io)) {
        if (strcmp(io.section.name, "vblk") == 0) {
            disks++;
        } else if (strcmp(io.section.name, "vnet") == 0 && nics < VM_NICS_MAX) {
            uint8_t mac[6] = {0};

            state_bytes(&io, mac, sizeof mac);
            put_mac(fit, nics++, mac);
        }
        skip_rest(&io);
    }
    put_number(fit, HA_FIT_DISKS, disks);
    return io.error == STATE_OK;
}

bool ha_fit_of_frames(const uint8_t *bytes, size_t len, struct ha_fit *ret_fit)
{
    struct ha_fit fit = {0};
    struct frame frame;
    size_t head_len;

    if (frame_check(bytes, len, STREAM_MAGIC, STREAM_BODY_MAX, &frame) != FRAME_OK ||
        frame.type != HEAD_TYPE || !take_head(&frame, &fit)) {
        return false;
    }
    head_len = FRAME_HEADER_LEN + frame.body_len;
    if (frame_check(bytes + head_len, len - head_len, STREAM_MAGIC, STREAM_BODY_MAX,
                    &frame) != FRAME_OK ||
        frame.type != STATE_TYPE || !take_devices(&frame, &fit)) {
        return false;
    }
    *ret_fit = fit;
    return true;
}

bool ha_fit_of_state(int fd, struct ha_fit *ret_fit)
{
    size_t cap = (size_t)2 * (FRAME_HEADER_LEN + STREAM_BODY_MAX), have = 0;
    uint8_t *bytes = malloc(cap);
    bool good = false;
    ssize_t n = 1;

    while (bytes != NULL && have < cap && n > 0) {
        n = pread(fd, bytes + have, cap - have, (off_t)have);
        have += n > 0 ? (size_t)n : 0;
    }
    if (bytes != NULL && n >= 0) {
        good = ha_fit_of_frames(bytes, have, ret_fit);
    }
    free(bytes);
    return good;
}

/* Text
 * ---------------------------------------------------------------------------------- */

void ha_fit_write(const struct ha_fit *fit, struct conf_text *text)
{
    for (unsigned i = 0; i < HA_FIT_KEYS; i++) {
        if (fit->value[i][0] != '\0') {
            conf_text_strs(text, key_name[i], ": ", fit->value[i], "\n", NULL);
        }
    }
    if (fit->cpu_model[0] != '\0') {
        conf_text_strs(text, "cpu_model: ", fit->cpu_model, "\n", NULL);
    }
}

bool ha_fit_value(const char *text, const char *key, char *ret, size_t cap)
{
    size_t len = strlen(key);

    while (text != NULL && *text != '\0') {
        if (strncmp(text, key, len) == 0 && strncmp(text + len, ": ", 2) == 0) {
            size_t n = strcspn(text + len + 2, "\n");

            if (n >= cap) {
                return false;
            }
            memcpy(ret, text + len + 2, n);
            ret[n] = '\0';
            return true;
        }
        text = strchr(text, '\n');
        text = text != NULL ? text + 1 : NULL;
    }
    return false;
}

void ha_fit_read(const char *text, struct ha_fit *ret_fit)
{
    *ret_fit = (struct ha_fit){0};
    for (unsigned i = 0; i < HA_FIT_KEYS; i++) {
        (void)ha_fit_value(text, key_name[i], ret_fit->value[i],
                           sizeof ret_fit->value[i]);
    }
    (void)ha_fit_value(text, "cpu_model", ret_fit->cpu_model, sizeof ret_fit->cpu_model);
}

/* Texts of one model may differ in their order. */
static bool models_differ(const char *a, const char *b)
{
    struct cpu_model_error why;
    struct cpu_model x, y;

    return a[0] != '\0' && b[0] != '\0' &&
           (!cpu_model_parse(a, &x, &why) || !cpu_model_parse(b, &y, &why) ||
            !cpu_model_equal(&x, &y));
}

unsigned ha_fit_differences(const struct ha_fit *saved, const struct ha_fit *now,
                            struct conf_text *text)
{
    unsigned count = 0;

    for (unsigned i = 0; i < HA_FIT_KEYS; i++) {
        const char *was = saved->value[i], *is = now->value[i];

        if (was[0] != '\0' && is[0] != '\0' && strcmp(was, is) != 0) {
            conf_text_strs(text, count++ > 0 ? "; " : "", key_name[i], " ", NULL);
            conf_text_strs(text, was, ", now ", is, NULL);
        }
    }
    if (models_differ(saved->cpu_model, now->cpu_model)) {
        conf_text_strs(text, count++ > 0 ? "; " : "",
                       "cpu: another model than the one that it names now", NULL);
    }
    return count;
}
