/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/ft/fake_engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/bug.h"

static struct fake_engine *of(struct engine *e)
{
    return (struct fake_engine *)(void *)e;
}

struct engine *fake_engine(struct fake_engine *f)
{
    return (struct engine *)(void *)f;
}

static volatile uint8_t sum; /* so that bytes are read */

void fake_touch(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; bytes != NULL && i < len; i += 509) {
        sum ^= bytes[i];
    }
    if (bytes != NULL && len > 0) {
        sum ^= bytes[len - 1];
    }
}

/* What it is asked
 * ---------------------------------------------------------------------------------- */

void engine_poke(struct engine *e)
{
    (void)e;
}

void engine_nudge(struct engine *e)
{
    (void)e;
}

void engine_dirty_tidy(struct engine *e)
{
    (void)e;
}

void engine_ram(const struct engine *e, struct engine_ram *ret_ram)
{
    const struct fake_engine *f = (const struct fake_engine *)(const void *)e;

    *ret_ram = (struct engine_ram){.host = f->ram,
                                   .len = f->page_count * GMEM_PAGE_SIZE,
                                   .page_count = f->page_count,
                                   .fd = -1};
}

void engine_status(struct engine *e, struct engine_status *ret_status)
{
    *ret_status = (struct engine_status){.state = of(e)->twin ? RUN_CREATED : RUN_FROZEN,
                                         .guest_ns = atomic_load(&of(e)->guest_ns)};
}

void engine_said(struct engine *e, struct engine_said *ret_said)
{
    (void)e;
    *ret_said = (struct engine_said){0};
}

bool engine_said_is_out(struct engine *e, const struct engine_said *said)
{
    (void)said;
    return !of(e)->console_stands;
}

uint64_t engine_disk_sectors(const struct engine *e, unsigned disk)
{
    (void)disk;
    return ((const struct fake_engine *)(const void *)e)->disk_sectors;
}

/* What it is told
 * ----------------------------------------------------------------------------------- */

void engine_put_out(struct engine *e, const struct tape_out *out)
{
    struct fake_engine *f = of(e);

    BUG_ON(f->twin && !f->live);
    BUG_ON(out->len > 0 && out->data == NULL);
    f->put++;
    if (out->len <= sizeof f->said - f->said_len) {
        memcpy(f->said + f->said_len, out->data, out->len);
        f->said_len += out->len;
    }
}

enum run_answer engine_end(struct engine *e, enum run_end end, const char *reason)
{
    (void)end, (void)reason;
    of(e)->ended = true;
    return RUN_DONE;
}

enum run_answer engine_freeze(struct engine *e, const char *reason)
{
    (void)e, (void)reason;
    return RUN_DONE;
}

enum run_answer engine_thaw(struct engine *e, uint64_t epoch, const char *reason)
{
    (void)e, (void)epoch, (void)reason;
    return RUN_DONE;
}

enum run_answer engine_follow(struct engine *e, const char *reason)
{
    (void)e, (void)reason;
    return RUN_DONE;
}

enum run_answer engine_live(struct engine *e, uint64_t epoch, const char *reason)
{
    (void)epoch, (void)reason;
    of(e)->live = true;
    return RUN_DONE;
}

int engine_tape_attach(struct engine *e, const struct engine_tape *tape,
                       struct vmm_error *err)
{
    (void)tape, (void)err;
    atomic_store(&of(e)->attached, true);
    return 0;
}

int engine_epoch_attach(struct engine *e, const struct engine_epoch *epoch,
                        struct vmm_error *err)
{
    (void)epoch, (void)err;
    atomic_store(&of(e)->attached, true);
    return 0;
}

/* Checkpoints
 * ---------------------------------------------------------------------------------------
 */

int engine_epoch_harvest(struct engine *e, uint64_t *bitmap, uint64_t *ret_pages)
{
    (void)e;
    bitmap[0] |= FAKE_DIRTY;
    *ret_pages = 2;
    return 0;
}

int engine_epoch_protect(struct engine *e, uint64_t first, uint64_t count)
{
    (void)e, (void)first, (void)count;
    return 0;
}

int engine_epoch_state(struct engine *e, const uint8_t *state, size_t len,
                       struct vmm_error *err)
{
    (void)e, (void)err;
    fake_touch(state, len);
    return 0;
}

/* Barriers
 * ------------------------------------------------------------------------------------------
 */

const char *const tape_reg_name[TAPE_REGS] = {
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8",
    "r9",  "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"};

bool engine_repair_dirty(struct engine *e, uint64_t *bitmap)
{
    (void)e;
    bitmap[0] |= FAKE_DIRTY;
    return true;
}

size_t engine_repair_save(struct engine *e, const uint8_t **ret_bytes,
                          uint32_t *ret_flags)
{
    *ret_bytes = of(e)->state;
    *ret_flags = 0;
    return sizeof of(e)->state;
}

bool engine_repair_regs(struct engine *e, const uint8_t *bytes, size_t len,
                        uint64_t *ret_reg)
{
    (void)e, (void)bytes, (void)len, (void)ret_reg;
    return false;
}

void engine_repair_differs(const uint8_t *there, size_t there_len, const uint8_t *here,
                           size_t here_len, char *text, size_t size)
{
    fake_touch(there, there_len);
    fake_touch(here, here_len);
    if (size > 0) {
        text[0] = '\0';
    }
}

void engine_repair_drain(struct engine *e)
{
    (void)e;
}

uint32_t engine_repair_write(struct engine *e, const struct tape_out *out)
{
    struct fake_engine *f = of(e);

    fake_touch(out->data, out->len);
    if (f->wrote_count < FAKE_WROTE_MAX) {
        f->wrote[f->wrote_count] = *out;
        f->wrote[f->wrote_count].data = NULL;
        f->wrote_byte[f->wrote_count] = out->len > 0 ? out->data[0] : 0;
        f->wrote_count++;
    }
    return 0;
}

void engine_repair_forget(struct engine *e)
{
    (void)e;
}

void engine_repair_bytes(struct engine *e, const struct tape_out *out)
{
    (void)e;
    fake_touch(out->data, out->len);
}

int engine_repair_load(struct engine *e, const uint8_t *bytes, size_t len, uint32_t flags,
                       uint64_t position, struct vmm_error *err)
{
    (void)flags, (void)err;
    fake_touch(bytes, bytes != NULL ? len : 0);
    of(e)->position = position;
    return 0;
}
