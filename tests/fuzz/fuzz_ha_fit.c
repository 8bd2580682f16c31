/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent reads of a saved state, whose writer a guest may have taken over, and of
 * a snapshot.yaml. Input: u16 length of the HEAD's stream, that stream, the STATE's.
 * Frames and checksums are made here.
 */
#include <stdlib.h>
#include <string.h>

#include "base/frame.h"
#include "ha/ha_fit.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/state_crc.h"

#define MAGIC UINT32_C(0x31534d47)

FUZZ_GOALS("a state that is understood", "one with a card", "one with a CPU model")

static size_t add_frame(uint8_t *buf, size_t cap, uint16_t type, uint8_t *body,
                        size_t len)
{
    struct frame f = {
        .type = type, .version = 1, .seq = 1, .body = body, .body_len = (uint32_t)len};

    if (len >= 8) {
        state_crc_right(body, len);
    }
    return frame_encode(&f, MAGIC, buf, cap);
}

/* Whatever was understood reads back as the same from its own text. */
static void check(const struct ha_fit *fit)
{
    static char text[HA_FIT_TEXT_MAX], differences[HA_FIT_TEXT_MAX * 2];
    static struct ha_fit again;
    struct conf_text out = conf_text_make(text, sizeof text);
    struct conf_text none = conf_text_make(differences, sizeof differences);

    ha_fit_write(fit, &out);
    BUG_ON(out.truncated);
    ha_fit_read(text, &again);
    for (unsigned i = 0; i < HA_FIT_KEYS; i++) {
        BUG_ON(strcmp(fit->value[i], again.value[i]) != 0);
    }
    BUG_ON(strcmp(fit->cpu_model, again.cpu_model) != 0);
    BUG_ON(ha_fit_differences(fit, &again, &none) != 0);
    fuzz_reach(0, true);
    fuzz_reach(1, strcmp(fit->value[HA_FIT_NICS], "none") != 0);
    fuzz_reach(2, fit->cpu_model[0] != '\0');
}

/* As text. */
static void read_text(const uint8_t *data, size_t len)
{
    static char differences[HA_FIT_TEXT_MAX * 2];
    static struct ha_fit fit, none;
    struct conf_text out = conf_text_make(differences, sizeof differences);
    char *text = malloc(len + 1);

    memcpy(text, data, len);
    text[len] = '\0';
    ha_fit_read(text, &fit);
    BUG_ON(ha_fit_differences(&fit, &none, &out) != 0);
    free(text);
}

FUZZ_ONE(data, len)
{
    static struct ha_fit fit;
    size_t head, cap = len + 2 * FRAME_HEADER_LEN, used;
    uint8_t *copy, *frames;

    read_text(data, len);
    (void)ha_fit_of_frames(data, len, &fit);
    if (len < 2) {
        return 0;
    }
    copy = malloc(len);
    frames = malloc(cap);
    memcpy(copy, data, len);
    head = copy[0] | (size_t)copy[1] << 8;
    head = head < len - 2 ? head : len - 2;
    used = add_frame(frames, cap, 1, copy + 2, head);
    used += add_frame(frames + used, cap - used, 2, copy + 2 + head, len - 2 - head);
    if (ha_fit_of_frames(frames, used, &fit)) {
        check(&fit);
    }
    free(copy);
    free(frames);
    return 0;
}
