/* SPDX-License-Identifier: Apache-2.0 */
#include "base/proto_ctl.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/proto_limits.h"
#include "base/text.h"
#include "base/units.h"

#define ID_LEN       16
#define MIG_KEY_LEN  32   /* SHA-256 */
#define TEXT_MAX     4096 /* of a text for people */
#define OPTIONS_MAX  32
#define FIELD_IS_ANY CTL_MSG_MAX /* the datagram is the limit */

/* Strings and bytes have limits; each such field of base/proto_ctl.proto stands here
 * (check_proto_ctl.c compares). */
struct field_limit {
    const char *name;
    size_t max;
};

struct kind_class {
    const ProtobufCMessageDescriptor *descriptor;
    struct field_limit limit[12];
};

static const struct kind_class kind_table[CTL_KIND_COUNT] = {
    [CTL_HELLO] = {&gemel__hello__descriptor,
                   {{"program", NODE_NAME_MAX},
                    {"build", NODE_NAME_MAX},
                    {"node", NODE_NAME_MAX},
                    {"boot_id", ID_LEN}}},
    [CTL_VMM_REQUEST] = {&gemel__vmm_request__descriptor,
                         {{"reason", TEXT_MAX},
                          {"state_path", PATH_LEN_MAX - 1},
                          {"mig_transfer", ID_LEN},
                          {"mig_peer_key", MIG_KEY_LEN},
                          {"mig_token", ID_LEN},
                          {"mig_copy_base", ID_LEN}}},
    [CTL_VMM_REPORT] = {&gemel__vmm_report__descriptor,
                        {{"error", TEXT_MAX},
                         {"guest_agent", NODE_NAME_MAX},
                         {"vm", ID_LEN},
                         {"instance", ID_LEN},
                         {"mig_text", TEXT_MAX},
                         {"mig_key", MIG_KEY_LEN},
                         {"mig_token", ID_LEN},
                         {"ft_state", NODE_NAME_MAX},
                         {"ft_text", TEXT_MAX},
                         {"reason", TEXT_MAX}}},
    [CTL_FENCE_REQUEST] = {&gemel__fence_request__descriptor,
                           {{"uid", ID_LEN},
                            {"node", NODE_NAME_MAX},
                            {"boot_id", ID_LEN},
                            {"config", DEFINITION_MAX}}},
    [CTL_FENCE_REPORT] = {&gemel__fence_report__descriptor,
                          {{"uid", ID_LEN},
                           {"node", NODE_NAME_MAX},
                           {"boot_id", ID_LEN},
                           {"device", NODE_NAME_MAX},
                           {"detail", TEXT_MAX}}},
    [CTL_CLI_REQUEST] = {&gemel__cli_request__descriptor,
                         {{"verb", NODE_NAME_MAX},
                          {"object", TEXT_MAX},
                          {"options", TEXT_MAX},
                          {"body", DEFINITION_MAX},
                          {"reason", TEXT_MAX},
                          {"actor", REASON_LEN_MAX}}},
    [CTL_CLI_REPLY] = {&gemel__cli_reply__descriptor,
                       {{"text", TEXT_MAX}, {"json", FIELD_IS_ANY}}},
};

/* Validation ------------------------------------------------------------------------- */
static bool string_ok(const char *s, size_t max)
{
    return strlen(s) <= max && text_utf8_ok(s);
}

/* The limit of a field, 0 (nothing but empty) for one that was forgotten in kind_table.
 */
static size_t field_max(const struct kind_class *class, const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(class->limit) && class->limit[i].name != NULL;
         i++) {
        if (strcmp(class->limit[i].name, name) == 0) {
            return class->limit[i].max;
        }
    }
    return 0;
}

static bool repeated_ok(const ProtobufCMessage *message,
                        const ProtobufCFieldDescriptor *field, size_t max)
{
    const char *base = (const char *)message;
    size_t count = *(const size_t *)(base + field->quantifier_offset);
    char *const *item = *(char *const *const *)(base + field->offset);

    if (field->type != PROTOBUF_C_TYPE_STRING || count > OPTIONS_MAX) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!string_ok(item[i], max)) {
            return false;
        }
    }
    return true;
}

static bool field_ok(const struct kind_class *class, const ProtobufCMessage *message,
                     const ProtobufCFieldDescriptor *field)
{
    const char *member = (const char *)message + field->offset;
    size_t max = field_max(class, field->name);

    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        return repeated_ok(message, field, max);
    }
    switch (field->type) {
    case PROTOBUF_C_TYPE_ENUM:
        return protobuf_c_enum_descriptor_get_value(field->descriptor,
                                                    *(const int *)member) != NULL;
    case PROTOBUF_C_TYPE_STRING:
        return *(char *const *)member == NULL || string_ok(*(char *const *)member, max);
    case PROTOBUF_C_TYPE_BYTES: {
        /* All our bytes are ids, tokens or digests: of one length, or none. */
        size_t len = ((const ProtobufCBinaryData *)member)->len;

        return len == 0 || len == max;
    }
    case PROTOBUF_C_TYPE_MESSAGE:
        return false; /* no nesting: libprotobuf-c has no depth limit */
    default:
        return true;
    }
}

static bool fields_ok(const struct kind_class *class, const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < class->descriptor->n_fields; i++) {
        if (!field_ok(class, message, &class->descriptor->fields[i])) {
            return false;
        }
    }
    return true;
}

/* Packing ---------------------------------------------------------------------------- */
size_t ctl_pack(enum ctl_kind kind, const void *message, void *buf, size_t cap)
{
    const ProtobufCMessage *m = message;
    uint8_t *out = buf;
    size_t len;

    BUG_ON(kind <= CTL_INVALID || kind >= CTL_KIND_COUNT);
    BUG_ON(m->descriptor != kind_table[kind].descriptor);
    /* What the other side would refuse is not sent. */
    if (!fields_ok(&kind_table[kind], m)) {
        return 0;
    }
    len = protobuf_c_message_get_packed_size(m);
    if (len >= CTL_MSG_MAX || len >= cap) {
        return 0;
    }
    out[0] = (uint8_t)kind;
    return 1 + protobuf_c_message_pack(m, out + 1);
}

/* Unpacking -------------------------------------------------------------------------- */
enum ctl_reason ctl_unpack(const void *buf, size_t len, struct ctl_msg *ret_msg)
{
    const uint8_t *in = buf;
    struct ctl_msg msg = {0};
    enum proto_reason reason;

    if (len == 0) {
        return CTL_EMPTY;
    }
    if (len > CTL_MSG_MAX) {
        return CTL_TOO_LONG;
    }
    if (in[0] == CTL_INVALID) {
        return CTL_MALFORMED;
    }
    if (in[0] >= CTL_KIND_COUNT) {
        return CTL_UNKNOWN_KIND;
    }
    msg.kind = in[0];
    reason = proto_unpack(kind_table[msg.kind].descriptor, in + 1, len - 1, &msg.any);
    if (reason != PROTO_OK) {
        return reason == PROTO_OVER_BUDGET ? CTL_OVER_BUDGET : CTL_MALFORMED;
    }
    if (!fields_ok(&kind_table[msg.kind], msg.any)) {
        ctl_msg_free(&msg);
        return CTL_BAD_FIELD;
    }
    *ret_msg = msg;
    return CTL_OK;
}

void ctl_msg_free(struct ctl_msg *msg)
{
    proto_free(msg->any);
    *msg = (struct ctl_msg){0};
}

bool ctl_take_bytes(const ProtobufCBinaryData *field, void *to, size_t len)
{
    if (field->len != len) {
        return false;
    }
    memcpy(to, field->data, len);
    return true;
}

const char *ctl_reason_str(enum ctl_reason reason)
{
    switch (reason) {
    case CTL_OK:
        return "ok";
    case CTL_EMPTY:
        return "empty message";
    case CTL_TOO_LONG:
        return "message is too long";
    case CTL_UNKNOWN_KIND:
        return "unknown kind of message, perhaps of a later version";
    case CTL_MALFORMED:
        return "message is malformed";
    case CTL_OVER_BUDGET:
        return "message would need too much memory";
    case CTL_TOO_MANY_FDS:
        return "more open files came with a message than are allowed";
    case CTL_BAD_FIELD:
        return "a field has a value that is not allowed";
    }
    return "unknown reason";
}

/* Sockets ---------------------------------------------------------------------------- */
/* Room for the files of one message, aligned as the kernel wants it. */
union fd_room {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(CTL_FDS_MAX * sizeof(int))];
};

int ctl_send_fds(int fd, enum ctl_kind kind, const void *message, const int *fds,
                 size_t fd_count)
{
    uint8_t buf[CTL_MSG_MAX];
    struct iovec part = {.iov_base = buf};
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
    union fd_room room = {.bytes = {0}};
    ssize_t n;

    BUG_ON(fd_count > CTL_FDS_MAX);
    part.iov_len = ctl_pack(kind, message, buf, sizeof buf);
    if (part.iov_len == 0) {
        return -EMSGSIZE;
    }
    if (fd_count > 0) {
        struct cmsghdr *c;

        head.msg_control = room.bytes;
        head.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        c = CMSG_FIRSTHDR(&head);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
    }
    do {
        n = sendmsg(fd, &head, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == EPIPE ? -ECONNRESET : -errno;
    }
    return 0;
}

int ctl_send(int fd, enum ctl_kind kind, const void *message)
{
    return ctl_send_fds(fd, kind, message, NULL, 0);
}

static int take_datagram(const uint8_t *buf, ssize_t n, struct ctl_msg *ret_msg,
                         enum ctl_reason *ret_reason)
{
    enum ctl_reason reason;

    if (n == 0) {
        return -ECONNRESET;
    }
    /* MSG_TRUNC gives the real length: a datagram that was cut is never parsed. */
    reason = n > CTL_MSG_MAX ? CTL_TOO_LONG : ctl_unpack(buf, (size_t)n, ret_msg);
    if (reason != CTL_OK) {
        *ret_reason = reason;
        return -EBADMSG;
    }
    return 0;
}

int ctl_recv(int fd, struct ctl_msg *ret_msg, enum ctl_reason *ret_reason)
{
    uint8_t buf[CTL_MSG_MAX];
    ssize_t n;

    do {
        n = recv(fd, buf, sizeof buf, MSG_DONTWAIT | MSG_TRUNC);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : take_datagram(buf, n, ret_msg, ret_reason);
}

/* The files of a message, counted; only what SCM_RIGHTS says are files. */
static size_t take_fds(struct msghdr *head, int ret_fds[CTL_FDS_MAX])
{
    size_t count = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(head); c != NULL; c = CMSG_NXTHDR(head, c)) {
        size_t len = c->cmsg_len - CMSG_LEN(0);

        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
            count + len / sizeof(int) <= CTL_FDS_MAX) {
            memcpy(ret_fds + count, CMSG_DATA(c), len);
            count += len / sizeof(int);
        }
    }
    return count;
}

int ctl_recv_fds(int fd, struct ctl_msg *ret_msg, enum ctl_reason *ret_reason,
                 int ret_fds[CTL_FDS_MAX], size_t *ret_fd_count)
{
    uint8_t buf[CTL_MSG_MAX];
    struct iovec part = {.iov_base = buf, .iov_len = sizeof buf};
    union fd_room room;
    struct msghdr head = {.msg_iov = &part,
                          .msg_iovlen = 1,
                          .msg_control = room.bytes,
                          .msg_controllen = sizeof room.bytes};
    ssize_t n;

    *ret_fd_count = 0;
    do {
        n = recvmsg(fd, &head, MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    *ret_fd_count = take_fds(&head, ret_fds);
    if (head.msg_flags & MSG_CTRUNC) { /* some were lost: which ones is not known */
        while (*ret_fd_count > 0) {
            close(ret_fds[--*ret_fd_count]);
        }
        *ret_reason = CTL_TOO_MANY_FDS;
        return -EBADMSG;
    }
    return take_datagram(buf, n, ret_msg, ret_reason);
}
