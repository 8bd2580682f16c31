/* SPDX-License-Identifier: Apache-2.0 */
/* fw_cfg: descriptors of any bytes in guest memory, and accesses of any kind. The input
 * is a list of 8-byte steps: {op, width, u16 address, u32 value}. */
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/dev_fwcfg.h"

#define RAM_LEN 0x4000
#define GUARD   0x1000

static uint8_t ram[RAM_LEN + GUARD] __attribute__((aligned(4096)));
static struct dev_fwcfg fw, fresh;

enum { DMA_DONE, DMA_REFUSED, FILE_READ };
FUZZ_GOALS("DMA done", "DMA refused", "file selected")

struct step {
    uint8_t op, width;
    uint16_t address;
    uint32_t value;
};

static void take(struct gmem *gm, const struct step *s)
{
    struct effects fx = {0};
    static const unsigned widths[] = {1, 2, 4, 8};
    unsigned width = widths[s->width % 4];
    uint32_t at = __builtin_bswap32(s->address);

    switch (s->op % 5) {
    case 0: /* guest memory: the descriptors */
        if (s->address + sizeof s->value <= RAM_LEN) {
            memcpy(ram + s->address, &s->value, sizeof s->value);
        }
        break;
    case 1: /* a descriptor somewhere in memory */
        dev_fwcfg_class.write(&fw, gm, FWCFG_OFFSET_DMA + 4, 4, at, &fx);
        fuzz_reach(DMA_DONE, fw.pos > 0);
        if (s->address + 4 <= RAM_LEN) {
            fuzz_reach(DMA_REFUSED, ram[s->address + 3] == 1);
        }
        break;
    case 2:
        dev_fwcfg_class.write(&fw, gm, s->address % 12, width, s->value, &fx);
        break;
    case 3:
        if (s->address % 12 + width <= 12) {
            (void)dev_fwcfg_class.read(&fw, gm, s->address % 12, width, &fx);
        }
        break;
    default:
        dev_fwcfg_class.write(&fw, gm, FWCFG_OFFSET_SELECT, 2, s->address, &fx);
        fuzz_reach(FILE_READ, fw.key >= 0x20 && fw.key < 0x24);
        break;
    }
}

/* Made once: the tables take much longer than an input does. */
static void renew(void)
{
    struct acpi_conf conf = {
        .type = MACHINE_STANDARD, .cpu_count = 2, .ram_len = RAM_LEN};

    if (fresh.file_len[FWCFG_ACPI_TABLES] == 0) {
        BUG_ON(dev_fwcfg_init(&fresh, &conf, "x=y") != 0);
        memset(ram + RAM_LEN, 0xE1, GUARD);
    }
    fw = fresh;
    memset(ram, 0, RAM_LEN);
}

FUZZ_ONE(data, len)
{
    static const uint8_t guard[GUARD] = {[0 ... GUARD - 1] = 0xE1};
    struct gmem gm = {0};
    struct step step;

    renew();
    BUG_ON(gmem_add(&gm, (struct gpa){0}, RAM_LEN, ram, false, NULL) != 0);
    for (; len >= sizeof step; len -= sizeof step, data += sizeof step) {
        memcpy(&step, data, sizeof step);
        take(&gm, &step);
    }
    BUG_ON(memcmp(ram + RAM_LEN, guard, GUARD) != 0);
    return 0;
}
