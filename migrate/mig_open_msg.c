/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_open_msg.h"

#include <string.h>

#include "base/bug.h"
#include "base/bytes.h"

_Static_assert(4 + 4 + 16 + 16 + 2 + 2 + 4 == MIG_OPEN_LEN, "OPEN layout");
_Static_assert(MIG_OPEN_STREAMS_MAX <= 32, "struct mig_roll has a bit for each");

void mig_open_encode(const struct mig_open_msg *msg, uint8_t body[static MIG_OPEN_LEN])
{
    struct bytes_wr wr = bytes_wr_make(body, MIG_OPEN_LEN);

    bytes_wr_u32(&wr, msg->version_min);
    bytes_wr_u32(&wr, msg->version_max);
    bytes_wr_uuid(&wr, msg->transfer);
    bytes_wr_copy(&wr, msg->token.b, sizeof msg->token.b);
    bytes_wr_u16(&wr, msg->index);
    bytes_wr_u16(&wr, msg->count);
    bytes_wr_u32(&wr, 0);
}

bool mig_open_decode(const void *body, size_t len, struct mig_open_msg *ret_msg)
{
    struct bytes_rd rd = bytes_rd_make(body, len);
    struct mig_open_msg m;
    uint32_t reserved;

    m.version_min = bytes_rd_u32(&rd);
    m.version_max = bytes_rd_u32(&rd);
    m.transfer = bytes_rd_uuid(&rd);
    bytes_rd_copy(&rd, m.token.b, sizeof m.token.b);
    m.index = bytes_rd_u16(&rd);
    m.count = bytes_rd_u16(&rd);
    reserved = bytes_rd_u32(&rd);
    if (!bytes_rd_done(&rd) || reserved != 0 || m.version_min == 0 ||
        m.version_min > m.version_max || m.count < 1 || m.count > MIG_OPEN_STREAMS_MAX ||
        m.index >= m.count) {
        return false;
    }
    *ret_msg = m;
    return true;
}

size_t mig_answer_encode(const struct mig_answer_msg *msg, uint8_t *body)
{
    struct bytes_wr wr = bytes_wr_make(body, MIG_ANSWER_LEN_MAX);

    bytes_wr_u32(&wr, msg->version);
    bytes_wr_u32(&wr, 0);
    bytes_wr_str(&wr, msg->text);
    BUG_ON(wr.failed);
    return wr.pos;
}

bool mig_answer_decode(const void *body, size_t len, struct mig_answer_msg *ret_msg)
{
    struct bytes_rd rd = bytes_rd_make(body, len);
    struct mig_answer_msg m;
    uint32_t reserved;

    m.version = bytes_rd_u32(&rd);
    reserved = bytes_rd_u32(&rd);
    bytes_rd_str(&rd, m.text, sizeof m.text);
    if (!bytes_rd_done(&rd) || reserved != 0) {
        return false;
    }
    /* The peer's words go to terminals and logs. */
    for (char *c = m.text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            *c = '?';
        }
    }
    *ret_msg = m;
    return true;
}

/* Takes as long for any difference. */
static bool equal(const void *a, const void *b, size_t len)
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t differ = 0;

    for (size_t i = 0; i < len; i++) {
        differ |= x[i] ^ y[i];
    }
    return differ == 0;
}

enum mig_open_reason mig_roll_join(struct mig_roll *roll, const struct mig_open_msg *msg)
{
    bool token = equal(&roll->token, &msg->token, sizeof roll->token);
    bool transfer = equal(&roll->transfer, &msg->transfer, sizeof roll->transfer);
    uint32_t bit = UINT32_C(1) << (msg->index & 31);

    if (msg->count < 1 || msg->count > MIG_OPEN_STREAMS_MAX || msg->index >= msg->count) {
        return MIG_OPEN_BAD_FORM;
    }
    if (!token || !transfer) {
        return MIG_OPEN_BAD_TRANSFER;
    }
    if (msg->version_min > MIG_STREAM_VERSION ||
        msg->version_max < MIG_STREAM_VERSION_MIN) {
        return MIG_OPEN_BAD_VERSION;
    }
    if (roll->count != 0 && msg->count != roll->count) {
        return MIG_OPEN_BAD_COUNT;
    }
    if (roll->joined & bit) {
        return MIG_OPEN_TAKEN;
    }
    roll->count = msg->count;
    roll->joined |= bit;
    roll->version =
        msg->version_max < MIG_STREAM_VERSION ? msg->version_max : MIG_STREAM_VERSION;
    return MIG_OPEN_OK;
}

bool mig_roll_complete(const struct mig_roll *roll)
{
    return roll->count > 0 && roll->joined == (UINT32_C(1) << roll->count) - 1;
}

const char *mig_open_reason_str(enum mig_open_reason reason)
{
    switch (reason) {
    case MIG_OPEN_OK:
        return "ok";
    case MIG_OPEN_BAD_FORM:
        return "an OPEN frame that says nothing sensible";
    case MIG_OPEN_BAD_TRANSFER:
        return "a wrong transfer or token";
    case MIG_OPEN_BAD_COUNT:
        return "another number of streams than was agreed on";
    case MIG_OPEN_TAKEN:
        return "a stream that is there already";
    case MIG_OPEN_BAD_VERSION:
        return "no version of the stream that both sides know";
    }
    return "unknown reason";
}
