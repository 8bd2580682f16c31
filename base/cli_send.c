/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cli_send.h"

#include <errno.h>
#include <qb/qbipcs.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cli_wire.h"
#include "base/units.h"

/*
 * A datagram socket holds net.unix.max_dgram_qlen (10) messages, and about 200 KiB. 20
 * KiB per part and one try each 2 ms carry a document of 1 MiB in a tenth of a second,
 * and leave the loop alone meanwhile.
 */
#define PART_MAX   (20 * 1024)
#define RETRY_NS   (2 * NSEC_PER_MSEC)
#define GIVE_UP_NS (10 * NSEC_PER_SEC)

struct outgoing {
    struct cli_sender *sender;
    qb_ipcs_connection_t *connection;
    uint32_t exit_code;
    char *text, *json;
    size_t json_len, sent;
    uint64_t progress_ns; /* when the client took something last */
    loop_timer timer;
    struct outgoing *next;
};

struct cli_sender {
    struct loop *loop;
    struct outgoing *outgoing;
    void *buf; /* CLI_WIRE_MSG_MAX bytes */
};

static void outgoing_free(struct outgoing *out)
{
    for (struct outgoing **p = &out->sender->outgoing; *p != NULL; p = &(*p)->next) {
        if (*p == out) {
            *p = out->next;
            break;
        }
    }
    loop_timer_del(out->sender->loop, &out->timer);
    free(out->text);
    free(out->json);
    free(out);
}

/* Where a part ends that begins at out->sent: not within a UTF-8 character, which
 * protobuf forbids in a string. */
static size_t part_end(const struct outgoing *out)
{
    size_t end = out->json_len;

    if (end - out->sent > PART_MAX) {
        end = out->sent + PART_MAX;
        while (end > out->sent + PART_MAX - 4 &&
               ((unsigned char)out->json[end] & 0xc0) == 0x80) {
            end--;
        }
    }
    return end;
}

static int send_part(struct outgoing *out, size_t end)
{
    Gemel__CliReply reply = GEMEL__CLI_REPLY__INIT;
    char kept = out->json[end];
    ssize_t sent;
    size_t len;

    out->json[end] = '\0';
    reply.json = out->json + out->sent;
    reply.final = end == out->json_len;
    if (reply.final) {
        reply.exit_code = out->exit_code;
        reply.text = out->text;
    }
    len = cli_wire_pack_reply(&reply, out->sender->buf);
    out->json[end] = kept;
    if (len == 0) {
        return -EMSGSIZE;
    }
    sent = qb_ipcs_response_send(out->connection, out->sender->buf, len);
    return sent < 0 ? (int)sent : 0;
}

static void on_timer(void *data);

/* Sends what the socket takes. 0: all is sent, or the timer goes on; -errno: the client
 * has gone. */
static int push(struct outgoing *out)
{
    int r;

    for (;;) {
        size_t end = part_end(out);

        r = send_part(out, end);
        if (r < 0) {
            break;
        }
        out->sent = end;
        out->progress_ns = loop_now_ns();
        if (end == out->json_len) {
            outgoing_free(out);
            return 0;
        }
    }
    if ((r == -EAGAIN || r == -ENOBUFS) &&
        loop_now_ns() - out->progress_ns < GIVE_UP_NS) {
        r = loop_timer_add(out->sender->loop, RETRY_NS, on_timer, out, &out->timer);
    }
    if (r < 0) {
        outgoing_free(out);
    }
    return r;
}

static void on_timer(void *data)
{
    struct outgoing *out = data;

    out->timer = 0;
    (void)push(out);
}

void cli_sender_progress(struct cli_sender *sender, qb_ipcs_connection_t *connection,
                         const char *text)
{
    Gemel__CliReply reply = GEMEL__CLI_REPLY__INIT;
    size_t len;

    for (const struct outgoing *out = sender->outgoing; out != NULL; out = out->next) {
        if (out->connection == connection) {
            return; /* its answer is under way */
        }
    }
    reply.text = (char *)text;
    len = cli_wire_pack_reply(&reply, sender->buf);
    if (len > 0) {
        (void)qb_ipcs_response_send(connection, sender->buf, len);
    }
}

int cli_sender_finish(struct cli_sender *sender, struct qb_ipcs_connection *connection,
                      uint32_t exit_code, const char *text, const char *json)
{
    struct outgoing *out = calloc(1, sizeof *out);

    if (out == NULL) {
        return -ENOMEM;
    }
    *out = (struct outgoing){
        .sender = sender,
        .connection = connection,
        .exit_code = exit_code,
        .text = strdup(text != NULL ? text : ""),
        .json = strdup(json != NULL ? json : ""),
        .progress_ns = loop_now_ns(),
        .next = sender->outgoing,
    };
    sender->outgoing = out;
    if (out->text == NULL || out->json == NULL) {
        outgoing_free(out);
        return -ENOMEM;
    }
    out->json_len = strlen(out->json);
    return push(out);
}

void cli_sender_drop(struct cli_sender *sender, struct qb_ipcs_connection *connection)
{
    struct outgoing *out = sender->outgoing;

    while (out != NULL) {
        struct outgoing *next = out->next;

        if (out->connection == connection) {
            outgoing_free(out);
        }
        out = next;
    }
}

int cli_sender_new(struct loop *loop, struct cli_sender **ret_sender)
{
    struct cli_sender *sender = calloc(1, sizeof *sender);

    if (sender == NULL) {
        return -ENOMEM;
    }
    sender->loop = loop;
    sender->buf = aligned_alloc(8, (CLI_WIRE_MSG_MAX + 7) & ~(size_t)7);
    if (sender->buf == NULL) {
        free(sender);
        return -ENOMEM;
    }
    *ret_sender = sender;
    return 0;
}

void cli_sender_free(struct cli_sender *sender)
{
    if (sender == NULL) {
        return;
    }
    while (sender->outgoing != NULL) {
        outgoing_free(sender->outgoing);
    }
    free(sender->buf);
    free(sender);
}
