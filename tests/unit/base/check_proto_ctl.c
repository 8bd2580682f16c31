/* SPDX-License-Identifier: Apache-2.0 */
#include "base/proto_ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static uint8_t id[16] = "0123456789abcde";

static const ProtobufCMessageDescriptor *const descriptors[] = {
    [CTL_HELLO] = &gemel__hello__descriptor,
    [CTL_VMM_REQUEST] = &gemel__vmm_request__descriptor,
    [CTL_VMM_REPORT] = &gemel__vmm_report__descriptor,
    [CTL_FENCE_REQUEST] = &gemel__fence_request__descriptor,
    [CTL_FENCE_REPORT] = &gemel__fence_report__descriptor,
    [CTL_CLI_REQUEST] = &gemel__cli_request__descriptor,
    [CTL_CLI_REPLY] = &gemel__cli_reply__descriptor,
};

static Gemel__VmmReport make_report(void)
{
    Gemel__VmmReport m = GEMEL__VMM_REPORT__INIT;

    m.seq = 7;
    m.ok = 1;
    m.vm.data = id;
    m.vm.len = sizeof id;
    m.epoch = 18;
    m.state = GEMEL__VMM_STATE__VMM_STATE_RUNNING;
    m.reason = (char *)"started, gr\xc3\xbc\xc3\x9f";
    return m;
}

START_TEST(a_message_goes_round)
{
    Gemel__VmmReport m = make_report();
    uint8_t buf[256];
    struct ctl_msg got;
    size_t len = ctl_pack(CTL_VMM_REPORT, &m, buf, sizeof buf);

    ck_assert_uint_gt(len, 1);
    ck_assert_uint_eq(buf[0], CTL_VMM_REPORT);
    ck_assert_int_eq(ctl_unpack(buf, len, &got), CTL_OK);
    ck_assert_int_eq(got.kind, CTL_VMM_REPORT);
    ck_assert_uint_eq(got.vmm_report->seq, 7);
    ck_assert_uint_eq(got.vmm_report->epoch, 18);
    ck_assert_int_eq(got.vmm_report->state, GEMEL__VMM_STATE__VMM_STATE_RUNNING);
    ck_assert_str_eq(got.vmm_report->reason, m.reason);
    ck_assert_mem_eq(got.vmm_report->vm.data, id, sizeof id);
    ck_assert_uint_eq(got.vmm_report->instance.len, 0);
    ctl_msg_free(&got);
    ck_assert_ptr_null(got.any);
    ctl_msg_free(&got); /* twice is fine */
    ck_assert_uint_eq(ctl_pack(CTL_VMM_REPORT, &m, buf, len - 1), 0);
    ck_assert_uint_eq(ctl_pack(CTL_VMM_REPORT, &m, buf, 0), 0);
}
END_TEST

START_TEST(empty_messages_of_every_kind)
{
    for (int kind = CTL_HELLO; kind < CTL_KIND_COUNT; kind++) {
        uint8_t byte = (uint8_t)kind;
        struct ctl_msg got;

        ck_assert_int_eq(ctl_unpack(&byte, 1, &got), CTL_OK);
        ck_assert_int_eq(got.kind, kind);
        ck_assert_ptr_eq(got.any->descriptor, descriptors[kind]);
        ctl_msg_free(&got);
    }
}
END_TEST

START_TEST(kinds_of_later_versions_are_told_apart)
{
    uint8_t big[CTL_MSG_MAX + 1] = {CTL_HELLO};
    struct ctl_msg got = {.kind = 77};

    ck_assert_int_eq(ctl_unpack(big, 0, &got), CTL_EMPTY);
    ck_assert_int_eq(ctl_unpack("\0", 1, &got), CTL_MALFORMED);
    ck_assert_int_eq(ctl_unpack("\x08", 1, &got), CTL_UNKNOWN_KIND);
    ck_assert_int_eq(ctl_unpack("\xff whatever", 10, &got), CTL_UNKNOWN_KIND);
    ck_assert_int_eq(ctl_unpack(big, sizeof big, &got), CTL_TOO_LONG);
    ck_assert_int_eq(got.kind, 77);
    for (int reason = CTL_OK; reason <= CTL_BAD_FIELD; reason++) {
        ck_assert_str_ne(ctl_reason_str((enum ctl_reason)reason), "unknown reason");
    }
}
END_TEST

START_TEST(truncations_and_flips_never_crash)
{
    Gemel__VmmReport m = make_report();
    uint8_t buf[256];
    size_t len = ctl_pack(CTL_VMM_REPORT, &m, buf, sizeof buf);
    unsigned refused = 0;

    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *exact = malloc(cut > 0 ? cut : 1);
        struct ctl_msg got;

        memcpy(exact, buf, cut);
        if (ctl_unpack(exact, cut, &got) == CTL_OK) {
            ctl_msg_free(&got);
        } else {
            refused++;
        }
        free(exact);
    }
    for (size_t bit = 0; bit < len * 8; bit++) {
        struct ctl_msg got;

        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (ctl_unpack(buf, len, &got) == CTL_OK) {
            ctl_msg_free(&got);
        } else {
            refused++;
        }
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_uint_gt(
        refused,
        50); /* a protobuf has no checksum: some flips are other valid messages */
}
END_TEST

/* Two bytes of input, some sixty of memory: as many as fit. */
static enum ctl_reason repeat(enum ctl_kind kind, const char *item, size_t item_len,
                              size_t count)
{
    static uint8_t buf[CTL_MSG_MAX];
    struct ctl_msg got;
    enum ctl_reason reason;
    size_t len = 1;

    buf[0] = (uint8_t)kind;
    for (size_t i = 0; i < count && len + item_len <= sizeof buf; i++) {
        memcpy(buf + len, item, item_len);
        len += item_len;
    }
    reason = ctl_unpack(buf, len, &got);
    if (reason == CTL_OK) {
        ctl_msg_free(&got);
    }
    return reason;
}

START_TEST(amplification_ends_at_the_budget)
{
    size_t before = mallinfo2().uordblks;

    /* CliRequest.options (field 3), empty: a pointer and an allocation each. */
    ck_assert_int_eq(repeat(CTL_CLI_REQUEST, "\x1a\x00", 2, SIZE_MAX), CTL_OVER_BUDGET);
    ck_assert_int_eq(repeat(CTL_CLI_REQUEST, "\x1a\x00", 2, 32), CTL_OK);
    ck_assert_int_eq(repeat(CTL_CLI_REQUEST, "\x1a\x00", 2, 33), CTL_BAD_FIELD);
    /* Unknown field 15, empty: kept by libprotobuf-c, each with memory of its own. */
    ck_assert_int_eq(repeat(CTL_HELLO, "\x7a\x00", 2, SIZE_MAX), CTL_OVER_BUDGET);
    ck_assert_int_eq(repeat(CTL_HELLO, "\x7a\x00", 2, PROTO_UNKNOWN_MAX), CTL_OK);
    ck_assert_int_eq(repeat(CTL_HELLO, "\x7a\x00", 2, PROTO_UNKNOWN_MAX + 1),
                     CTL_OVER_BUDGET);
    /* A string field over and over: the last one counts, the others are freed. */
    ck_assert_int_eq(repeat(CTL_HELLO, "\x22\x01x", 3, SIZE_MAX), CTL_OVER_BUDGET);
    /* Nothing of it stays behind. (ASan's malloc answers 0.) */
    ck_assert_uint_le(mallinfo2().uordblks, before + 4096);
}
END_TEST

START_TEST(one_mebibyte_is_not_even_looked_at)
{
    size_t len = 1024 * 1024;
    uint8_t *buf = malloc(len);
    struct ctl_msg got;

    memset(buf, 0, len);
    for (size_t i = 1; i + 1 < len; i += 2) {
        buf[i] = 0x1a;
    }
    buf[0] = CTL_CLI_REQUEST;
    ck_assert_int_eq(ctl_unpack(buf, len, &got), CTL_TOO_LONG);
    free(buf);
}
END_TEST

START_TEST(a_full_definition_fits)
{
    Gemel__CliRequest m = GEMEL__CLI_REQUEST__INIT;
    static char yaml[DEFINITION_MAX + 2];
    static uint8_t buf[CTL_MSG_MAX];
    struct ctl_msg got;
    size_t len;

    memset(yaml, 'y', DEFINITION_MAX);
    m.verb = (char *)"vm apply";
    m.body = yaml;
    len = ctl_pack(CTL_CLI_REQUEST, &m, buf, sizeof buf);
    ck_assert_uint_gt(len, DEFINITION_MAX);
    ck_assert_int_eq(ctl_unpack(buf, len, &got), CTL_OK);
    ck_assert_uint_eq(strlen(got.cli_request->body), DEFINITION_MAX);
    ctl_msg_free(&got);
    yaml[DEFINITION_MAX] = 'y';
    ck_assert_uint_eq(ctl_pack(CTL_CLI_REQUEST, &m, buf, sizeof buf), 0);
}
END_TEST

static enum ctl_reason raw(enum ctl_kind kind, const char *body, size_t len)
{
    uint8_t buf[256] = {(uint8_t)kind};
    struct ctl_msg got;
    enum ctl_reason reason;

    memcpy(buf + 1, body, len);
    reason = ctl_unpack(buf, len + 1, &got);
    if (reason == CTL_OK) {
        ctl_msg_free(&got);
    }
    return reason;
}

START_TEST(fields_are_judged)
{
    /* VmmReport.vm (4): 16 bytes or none */
    ck_assert_int_eq(raw(CTL_VMM_REPORT,
                         "\x22\x10"
                         "0123456789abcdef",
                         18),
                     CTL_OK);
    ck_assert_int_eq(raw(CTL_VMM_REPORT, "\x22\x00", 2), CTL_OK);
    ck_assert_int_eq(raw(CTL_VMM_REPORT,
                         "\x22\x0f"
                         "0123456789abcde",
                         17),
                     CTL_BAD_FIELD);
    ck_assert_int_eq(raw(CTL_VMM_REPORT,
                         "\x22\x11"
                         "0123456789abcdefg",
                         19),
                     CTL_BAD_FIELD);
    /* VmmReport.state (7): an enum */
    ck_assert_int_eq(raw(CTL_VMM_REPORT, "\x38\x07", 2), CTL_OK);
    ck_assert_int_eq(raw(CTL_VMM_REPORT, "\x38\x08", 2), CTL_BAD_FIELD);
    ck_assert_int_eq(
        raw(CTL_VMM_REPORT, "\x38\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11),
        CTL_BAD_FIELD);
    /* Hello.node (6): UTF-8 */
    ck_assert_int_eq(raw(CTL_HELLO,
                         "\x32\x02"
                         "n1",
                         4),
                     CTL_OK);
    ck_assert_int_eq(raw(CTL_HELLO, "\x32\x02\xc3\xbc", 4), CTL_OK);
    ck_assert_int_eq(raw(CTL_HELLO, "\x32\x01\xff", 3), CTL_BAD_FIELD);
    ck_assert_int_eq(raw(CTL_HELLO, "\x32\x01\xc3", 3), CTL_BAD_FIELD);
    ck_assert_int_eq(raw(CTL_HELLO, "\x32\x02\xc0\x80", 4), CTL_BAD_FIELD); /* overlong */
    ck_assert_int_eq(raw(CTL_HELLO, "\x32\x03\xed\xa0\x80", 5),
                     CTL_BAD_FIELD); /* surrogate */
    ck_assert_int_eq(raw(CTL_HELLO, "\x32\x04\xf4\x90\x80\x80", 6), CTL_BAD_FIELD);
    ck_assert_int_eq(raw(CTL_HELLO, "\x32\x04\xf0\x9f\x98\x80", 6), CTL_OK);
    /* not protobuf at all */
    ck_assert_int_eq(raw(CTL_HELLO, "\xff\xff\xff\xff\xff", 5), CTL_MALFORMED);
    /* field number 0, in one byte and in two */
    ck_assert_int_eq(raw(CTL_HELLO, "\x01zzzzzzzz", 9), CTL_MALFORMED);
    ck_assert_int_eq(raw(CTL_HELLO, "\x81\x00zzzzzzzz", 10), CTL_MALFORMED);
    ck_assert_int_eq(raw(CTL_HELLO,
                         "\x32\x7f"
                         "x",
                         3),
                     CTL_MALFORMED);
}
END_TEST

/* A name one too long is refused on both ends; so every string and bytes field has a
 * limit that works. */
START_TEST(every_string_has_a_limit)
{
    for (int kind = CTL_HELLO; kind < CTL_KIND_COUNT; kind++) {
        const ProtobufCMessageDescriptor *d = descriptors[kind];

        for (unsigned i = 0; i < d->n_fields; i++) {
            const ProtobufCFieldDescriptor *f = &d->fields[i];
            unsigned tag = f->id << 3 | 2;
            /* As a varint of two bytes, which may be longer than it need be. */
            char body[4] = {(char)((tag & 0x7f) | 0x80), (char)(tag >> 7), 1, 'x'};

            /* No nesting: libprotobuf-c 1.4 recurses without a limit. */
            ck_assert_int_ne(f->type, PROTOBUF_C_TYPE_MESSAGE);
            ck_assert_uint_lt(f->id, 2048);
            if (f->type == PROTOBUF_C_TYPE_STRING) {
                ck_assert_msg(raw((enum ctl_kind)kind, body, 4) == CTL_OK,
                              "%s.%s has no limit", d->name, f->name);
            } else if (f->type == PROTOBUF_C_TYPE_BYTES) {
                ck_assert_int_eq(raw((enum ctl_kind)kind, body, 4), CTL_BAD_FIELD);
            } else {
                ck_assert_int_ne(f->label, PROTOBUF_C_LABEL_REPEATED);
            }
        }
    }
}
END_TEST

START_TEST(bytes_are_taken_whole)
{
    uint8_t four[4] = {1, 2, 3, 4}, to[4] = {9, 9, 9, 9};
    ProtobufCBinaryData field = {sizeof four, four};

    field.len = 3;
    ck_assert(!ctl_take_bytes(&field, to, sizeof to));
    field = (ProtobufCBinaryData){0, NULL};
    ck_assert(!ctl_take_bytes(&field, to, sizeof to));
    ck_assert_uint_eq(to[0], 9);
    field = (ProtobufCBinaryData){sizeof four, four};
    ck_assert(ctl_take_bytes(&field, to, sizeof to));
    ck_assert_mem_eq(to, four, sizeof four);
}
END_TEST

START_TEST(sockets_carry_whole_messages)
{
    Gemel__VmmReport m = make_report();
    enum ctl_reason reason = CTL_OK;
    static uint8_t big[CTL_MSG_MAX + 10];
    struct ctl_msg got;
    int sv[2], size = 400 * 1024;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
    setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    ck_assert_int_eq(ctl_recv(sv[1], &got, &reason), -EAGAIN);
    ck_assert_int_eq(ctl_send(sv[0], CTL_VMM_REPORT, &m), 0);
    ck_assert_int_eq(ctl_recv(sv[1], &got, &reason), 0);
    ck_assert_uint_eq(got.vmm_report->epoch, 18);
    ctl_msg_free(&got);

    ck_assert_int_eq(send(sv[0], "\xee", 1, 0), 1);
    ck_assert_int_eq(ctl_recv(sv[1], &got, &reason), -EBADMSG);
    ck_assert_int_eq(reason, CTL_UNKNOWN_KIND);
    /* What was cut off is never parsed, although its beginning would be valid. */
    big[0] = CTL_HELLO;
    ck_assert_int_eq(send(sv[0], big, sizeof big, 0), sizeof big);
    ck_assert_int_eq(ctl_recv(sv[1], &got, &reason), -EBADMSG);
    ck_assert_int_eq(reason, CTL_TOO_LONG);

    while (ctl_send(sv[0], CTL_VMM_REPORT, &m) == 0) {
    }
    ck_assert_int_eq(ctl_send(sv[0], CTL_VMM_REPORT, &m),
                     -EAGAIN); /* full: the caller decides */
    m.vm.len = 3;
    ck_assert_int_eq(ctl_send(sv[0], CTL_VMM_REPORT, &m), -EMSGSIZE);
    m.vm.len = 16;
    close(sv[1]);
    ck_assert_int_eq(ctl_send(sv[0], CTL_VMM_REPORT, &m),
                     -ECONNRESET); /* and no SIGPIPE */
    ck_assert_int_eq(ctl_recv(sv[0], &got, &reason), -ECONNRESET);
    close(sv[0]);
}
END_TEST

static void send_many(int to, const int *fds, size_t count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE((CTL_FDS_MAX + 1) * sizeof(int))];
    } room = {.bytes = {0}};
    uint8_t byte = CTL_VMM_REPORT;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr head = {.msg_iov = &part,
                          .msg_iovlen = 1,
                          .msg_control = room.bytes,
                          .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&head);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    ck_assert_int_eq(sendmsg(to, &head, 0), 1);
}

START_TEST(files_ride_along)
{
    Gemel__VmmReport m = make_report();
    enum ctl_reason reason;
    struct ctl_msg got;
    int sv[2], fds[CTL_FDS_MAX], mine[CTL_FDS_MAX + 1];
    size_t count;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
    for (size_t i = 0; i <= CTL_FDS_MAX; i++) {
        mine[i] = dup(sv[0]);
        ck_assert_int_ge(mine[i], 0);
    }
    ck_assert_int_eq(ctl_recv_fds(sv[1], &got, &reason, fds, &count), -EAGAIN);
    ck_assert_uint_eq(count, 0);
    ck_assert_int_eq(ctl_send_fds(sv[0], CTL_VMM_REPORT, &m, mine, CTL_FDS_MAX), 0);
    ck_assert_int_eq(ctl_recv_fds(sv[1], &got, &reason, fds, &count), 0);
    ck_assert_uint_eq(count, CTL_FDS_MAX);
    ck_assert_uint_eq(got.vmm_report->epoch, 18);
    ctl_msg_free(&got);
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
        close(fds[i]);
    }
    /* None, and more than are allowed: by hand, as a hostile peer would. */
    ck_assert_int_eq(ctl_send(sv[0], CTL_VMM_REPORT, &m), 0);
    ck_assert_int_eq(ctl_recv_fds(sv[1], &got, &reason, fds, &count), 0);
    ck_assert_uint_eq(count, 0);
    ctl_msg_free(&got);
    send_many(sv[0], mine, CTL_FDS_MAX + 1);
    ck_assert_int_eq(ctl_recv_fds(sv[1], &got, &reason, fds, &count), -EBADMSG);
    ck_assert_int_eq(reason, CTL_TOO_MANY_FDS);
    ck_assert_uint_eq(count, 0);
    /* Who does not ask for them does not get them. */
    fds[0] = dup(sv[0]);
    close(fds[0]);
    ck_assert_int_eq(ctl_send_fds(sv[0], CTL_VMM_REPORT, &m, mine, 2), 0);
    ck_assert_int_eq(ctl_recv(sv[1], &got, &reason), 0);
    ctl_msg_free(&got);
    ck_assert_int_lt(fcntl(fds[0], F_GETFD), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("proto_ctl");
    TCase *tc = tcase_create("proto_ctl");

    tcase_add_test(tc, a_message_goes_round);
    tcase_add_test(tc, empty_messages_of_every_kind);
    tcase_add_test(tc, kinds_of_later_versions_are_told_apart);
    tcase_add_test(tc, truncations_and_flips_never_crash);
    tcase_add_test(tc, amplification_ends_at_the_budget);
    tcase_add_test(tc, one_mebibyte_is_not_even_looked_at);
    tcase_add_test(tc, a_full_definition_fits);
    tcase_add_test(tc, fields_are_judged);
    tcase_add_test(tc, every_string_has_a_limit);
    tcase_add_test(tc, bytes_are_taken_whole);
    tcase_add_test(tc, sockets_carry_whole_messages);
    tcase_add_test(tc, files_ride_along);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
