/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_fwcfg.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"

static void put_be32(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (24 - 8 * i));
    }
}

static void put_le64(uint8_t *p, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

static void dir_entry(struct dev_fwcfg *fw, unsigned file, uint32_t size,
                      const char *name)
{
    uint8_t *entry = fw->dir + 4 + file * (8 + FWCFG_NAME_LEN);

    memset(entry, 0, 8 + FWCFG_NAME_LEN);
    put_be32(entry, size);
    put_be32(entry + 4, (FWCFG_KEY_FILE0 + file) << 16);
    text_copy((char *)entry + 8, FWCFG_NAME_LEN, name);
}

static void dir_make(struct dev_fwcfg *fw)
{
    put_be32(fw->dir, FWCFG_FILES);
    dir_entry(fw, 0, fw->cmdline_len, FWCFG_FILE_CMDLINE);
    dir_entry(fw, 1, sizeof fw->epoch, FWCFG_FILE_EPOCH);
}

int dev_fwcfg_init(struct dev_fwcfg *fw, uint64_t ram_len, const char *cmdline)
{
    size_t len = cmdline != NULL ? strnlen(cmdline, GUEST_CMDLINE_MAX + 1) : 0;

    if (len > GUEST_CMDLINE_MAX) {
        return -EINVAL;
    }
    memset(fw, 0, sizeof *fw);
    put_le64(fw->ram_size, ram_len);
    fw->cmdline_len = (uint16_t)len;
    if (len > 0) {
        memcpy(fw->cmdline, cmdline, len);
    }
    dir_make(fw);
    return 0;
}

/* The bytes behind a key; keys that do not exist are empty, and everything reads as zeros
 * past its end. */
static const void *item_of(const struct dev_fwcfg *fw, size_t *ret_len)
{
    static const uint8_t one_u16[2] = {1, 0}, id[4] = {1, 0, 0, 0};

    switch (fw->key) {
    case FWCFG_KEY_SIGNATURE:
        *ret_len = 4;
        return "QEMU";
    case FWCFG_KEY_ID:
        *ret_len = sizeof id;
        return id;
    case FWCFG_KEY_RAM_SIZE:
        *ret_len = sizeof fw->ram_size;
        return fw->ram_size;
    case FWCFG_KEY_NOGRAPHIC:
    case FWCFG_KEY_NB_CPUS:
    case FWCFG_KEY_MAX_CPUS:
        *ret_len = sizeof one_u16;
        return one_u16;
    case FWCFG_KEY_DIR:
        *ret_len = sizeof fw->dir;
        return fw->dir;
    case FWCFG_KEY_FILE0:
        *ret_len = fw->cmdline_len;
        return fw->cmdline;
    case FWCFG_KEY_FILE0 + 1:
        *ret_len = sizeof fw->epoch;
        return fw->epoch;
    default:
        *ret_len = 0;
        return "";
    }
}

static void fwcfg_reset(void *dev, struct effects *fx)
{
    struct dev_fwcfg *fw = dev;

    (void)fx;
    fw->key = 0;
    fw->pos = 0;
}

static uint64_t fwcfg_read(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                           struct effects *fx)
{
    struct dev_fwcfg *fw = dev;
    size_t item_len;
    const uint8_t *item = item_of(fw, &item_len);

    (void)gm;
    (void)fx;
    if (offset != FWCFG_OFFSET_DATA || len != 1) {
        return UINT64_MAX;
    }
    return fw->pos < item_len ? item[fw->pos++] : 0;
}

static void fwcfg_write(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                        uint64_t value, struct effects *fx)
{
    struct dev_fwcfg *fw = dev;

    (void)gm;
    (void)fx;
    if (offset == FWCFG_OFFSET_SELECT &&
        len == 2) { /* data is read-only, as in QEMU since 2.4 */
        fw->key = (uint16_t)value;
        fw->pos = 0;
    }
}

static void fwcfg_input(void *dev, struct gmem *gm, const struct dev_input *in,
                        struct effects *fx)
{
    struct dev_fwcfg *fw = dev;

    (void)gm;
    (void)fx;
    if (in->type == INPUT_EPOCH) {
        put_le64(fw->epoch, in->value);
    }
}

static int fwcfg_xfer(void *dev, struct state_io *io)
{
    struct dev_fwcfg *fw = dev;
    uint16_t cmdline_len = fw->cmdline_len;

    state_u16(io, &fw->key);
    state_u32(io, &fw->pos);
    state_bytes(io, fw->epoch, sizeof fw->epoch);
    state_u16(io, &cmdline_len);
    if (cmdline_len > GUEST_CMDLINE_MAX) {
        state_refuse(io, "cmdline_len");
    } else {
        fw->cmdline_len = cmdline_len;
        state_bytes(io, fw->cmdline, cmdline_len);
        dir_make(fw);
    }
    return state_end(io);
}

const struct dev_class dev_fwcfg_class = {
    .name = "fwcfg",
    .version = 1,
    .min_reader = 1,
    .state_size = sizeof(struct dev_fwcfg),
    .reset = fwcfg_reset,
    .read = fwcfg_read,
    .write = fwcfg_write,
    .input = fwcfg_input,
    .xfer = fwcfg_xfer,
};
