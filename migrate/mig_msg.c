/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_msg.h"

#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "base/proto_limits.h"
#include "base/text.h"
#include "base/uuid.h"
#include "migrate/proto_mig.pb-c.h"

/* Fields ----------------------------------------------------------------------------- */
enum field_type { F_BOOL, F_U16, F_U32, F_U64, F_CODE, F_TEXT, F_BYTES, F_LIST, F_U64S };

struct class;

/* One field of a plain value, and its field in the protobuf message of the same name. */
struct field {
    const char *name;
    enum field_type type;
    size_t offset;
    uint64_t max;        /* number: largest; TEXT: room; BYTES: length; lists: items */
    size_t count_offset; /* lists: a uint32_t */
    const struct class *item; /* LIST */
};

struct class
{
    const ProtobufCMessageDescriptor *descriptor;
    size_t size;                         /* of the plain value */
    bool (*sensible)(const void *plain); /* what no single field says; or NULL */
    struct field field[28];
};

#define FIELD(type, member, kind, max)                                                   \
    {                                                                                    \
#member, kind, offsetof(struct type, member), max, 0, NULL                       \
    }
#define BOOL(type, member) FIELD(type, member, F_BOOL, 1)
#define U16(type, member)  FIELD(type, member, F_U16, UINT16_MAX)
#define U32(type, member)  FIELD(type, member, F_U32, UINT32_MAX)
#define U64(type, member)  FIELD(type, member, F_U64, UINT64_MAX)
#define CODE(type, member) FIELD(type, member, F_CODE, 0)
#define TEXT(type, member) FIELD(type, member, F_TEXT, sizeof(((struct type *)0)->member))
#define BYTES(type, member)                                                              \
    FIELD(type, member, F_BYTES, sizeof(((struct type *)0)->member))
#define LIST(type, member, count, max, class)                                            \
    {                                                                                    \
#member, F_LIST, offsetof(struct type, member), max,                             \
            offsetof(struct type, count), class                                          \
    }

/* Messages --------------------------------------------------------------------------- */
static bool device_sensible(const void *plain)
{
    const struct mig_device *device = plain;

    return device->name[0] != '\0' && device->version > 0 && device->min_reader > 0 &&
           device->min_reader <= device->version;
}

static const struct class device_class = {
    &gemel__mig__device__descriptor,
    sizeof(struct mig_device),
    device_sensible,
    {TEXT(mig_device, name), U16(mig_device, instance), U16(mig_device, version),
     U16(mig_device, min_reader)}};

static const struct class disk_class = {
    &gemel__mig__disk__descriptor,
    sizeof(struct mig_disk),
    NULL,
    {TEXT(mig_disk, serial), U64(mig_disk, sectors), BOOL(mig_disk, read_only),
     BOOL(mig_disk, shared), BOOL(mig_disk, mirrored)}};

static bool nic_sensible(const void *plain)
{
    return ((const struct mig_nic *)plain)->queue_pairs > 0;
}

static const struct class nic_class = {
    &gemel__mig__nic__descriptor,
    sizeof(struct mig_nic),
    nic_sensible,
    {BYTES(mig_nic, mac), U32(mig_nic, queue_pairs), BOOL(mig_nic, offloads)}};

static bool hello_sensible(const void *plain)
{
    const struct mig_hello *h = plain;

    return h->version_min > 0 && h->version_min <= h->version && !uuid_is_none(h->vm) &&
           !uuid_is_none(h->transfer) && h->stream_count > 0 &&
           h->stream_count <= MIG_STREAMS_MAX && h->cpu_count > 0 && h->ram_len > 0 &&
           h->ram_len % MIG_PAGE == 0 && h->ram_low_len % MIG_PAGE == 0 &&
           h->ram_low_len <= h->ram_len && h->ram_len / MIG_PAGE < UINT64_C(1) << 40;
}

static const struct class hello_class = {
    &gemel__mig__hello__descriptor,
    sizeof(struct mig_hello),
    hello_sensible,
    {U32(mig_hello, version),
     U32(mig_hello, version_min),
     U64(mig_hello, features),
     U64(mig_hello, features_required),
     BYTES(mig_hello, vm),
     BYTES(mig_hello, transfer),
     TEXT(mig_hello, vm_name),
     TEXT(mig_hello, node),
     TEXT(mig_hello, build),
     BOOL(mig_hello, plaintext),
     U32(mig_hello, stream_count),
     TEXT(mig_hello, machine),
     TEXT(mig_hello, transport),
     TEXT(mig_hello, boot),
     U32(mig_hello, cpu_count),
     TEXT(mig_hello, cpu_model),
     U64(mig_hello, kvm_needs),
     U32(mig_hello, tsc_khz),
     U64(mig_hello, ram_len),
     U64(mig_hello, ram_low_len),
     BOOL(mig_hello, hugepages),
     LIST(mig_hello, device, device_count, MIG_DEVICES_MAX, &device_class),
     LIST(mig_hello, disk, disk_count, VM_DISKS_MAX, &disk_class),
     LIST(mig_hello, nic, nic_count, VM_NICS_MAX, &nic_class),
     BOOL(mig_hello, verify),
     U64(mig_hello, downtime_ms),
     U64(mig_hello, ram_file)}};

static bool blocker_sensible(const void *plain)
{
    const struct mig_blocker *b = plain;

    return b->code != MIG_OK && b->sentence[0] != '\0';
}

static const struct class blocker_class = {
    &gemel__mig__blocker__descriptor,
    sizeof(struct mig_blocker),
    blocker_sensible,
    {CODE(mig_blocker, code), TEXT(mig_blocker, object), TEXT(mig_blocker, sentence)}};

static bool ack_sensible(const void *plain)
{
    const struct mig_hello_ack *ack = plain;

    return ack->version > 0 || ack->blocker_count > 0;
}

static const struct class ack_class = {
    &gemel__mig__hello_ack__descriptor,
    sizeof(struct mig_hello_ack),
    ack_sensible,
    {U32(mig_hello_ack, version), U64(mig_hello_ack, features), TEXT(mig_hello_ack, node),
     TEXT(mig_hello_ack, build), U64(mig_hello_ack, memory_free),
     LIST(mig_hello_ack, blocker, blocker_count, MIG_BLOCKERS_MAX, &blocker_class),
     TEXT(mig_hello_ack, copy_base)}};

static bool round_sensible(const void *plain)
{
    const struct mig_round *round = plain;

    return round->round > 0 && round->throttle_permille <= 1000;
}

static const struct class round_class = {
    &gemel__mig__round__descriptor,
    sizeof(struct mig_round),
    round_sensible,
    {U32(mig_round, round), BOOL(mig_round, last), U64(mig_round, pages_dirty),
     U64(mig_round, bytes_sent), U64(mig_round, pages_sent), U64(mig_round, dirty_bps),
     U64(mig_round, bandwidth_bps), U32(mig_round, throttle_permille),
     U64(mig_round, eta_ms)}};

static const struct class stats_class = {
    &gemel__mig__stats__descriptor,
    sizeof(struct mig_stats),
    NULL,
    {U64(mig_stats, bytes), U64(mig_stats, pages), U32(mig_stats, round)}};

static bool verify_sensible(const void *plain)
{
    const struct mig_verify *verify = plain;

    return verify->count > 0 && verify->disk <= VM_DISKS_MAX &&
           verify->first_block <= UINT32_MAX - verify->count;
}

static const struct class verify_class = {
    &gemel__mig__verify__descriptor,
    sizeof(struct mig_verify),
    verify_sensible,
    {U32(mig_verify, first_block),
     {"hash", F_U64S, offsetof(struct mig_verify, hash), MIG_HASHES_MAX,
      offsetof(struct mig_verify, count), NULL},
     U32(mig_verify, disk)}};

static const struct class finish_class = {
    &gemel__mig__finish__descriptor,
    sizeof(struct mig_finish),
    NULL,
    {U32(mig_finish, rounds), U64(mig_finish, ram_frames), U64(mig_finish, pages),
     U64(mig_finish, state_bytes), U64(mig_finish, verify_blocks),
     U64(mig_finish, missing)}};

static const struct class ready_class = {
    &gemel__mig__ready__descriptor,
    sizeof(struct mig_ready),
    NULL,
    {U64(mig_ready, pages), U64(mig_ready, check_us)}};

static bool want_sensible(const void *plain)
{
    return ((const struct mig_want *)plain)->count > 0;
}

static const struct class want_class = {
    &gemel__mig__want__descriptor,
    sizeof(struct mig_want),
    want_sensible,
    {{"page", F_U64S, offsetof(struct mig_want, page), MIG_WANT_MAX,
      offsetof(struct mig_want, count), NULL}}};

static bool runs_sensible(const void *plain)
{
    return ((const struct mig_runs *)plain)->epoch > 0;
}

static const struct class runs_class = {&gemel__mig__runs__descriptor,
                                        sizeof(struct mig_runs),
                                        runs_sensible,
                                        {U64(mig_runs, epoch)}};

static const struct class all_class = {&gemel__mig__all__descriptor,
                                       sizeof(struct mig_all),
                                       NULL,
                                       {U64(mig_all, pages), U64(mig_all, faults)}};

static bool abort_sensible(const void *plain)
{
    return ((const struct mig_abort *)plain)->code >= MIG_END_BLOCKED;
}

static const struct class abort_class = {&gemel__mig__abort__descriptor,
                                         sizeof(struct mig_abort),
                                         abort_sensible,
                                         {CODE(mig_abort, code), TEXT(mig_abort, text)}};

/* Every value lies at the same place of struct mig_msg. */
static const struct class *const class_of[MIG_KIND_COUNT] = {
    [MIG_HELLO] = &hello_class,   [MIG_HELLO_ACK] = &ack_class,
    [MIG_ROUND] = &round_class,   [MIG_STATS] = &stats_class,
    [MIG_VERIFY] = &verify_class, [MIG_FINISH] = &finish_class,
    [MIG_READY] = &ready_class,   [MIG_ABORT] = &abort_class,
    [MIG_WANT] = &want_class,     [MIG_RUNS] = &runs_class,
    [MIG_ALL] = &all_class,
};
#define VALUE_OFFSET offsetof(struct mig_msg, hello)

/* Rules: the same for what is sent and what came ------------------------------------- */
static bool value_ok(const struct class *class, const void *plain);

static uint32_t list_count(const struct field *field, const void *plain)
{
    return *(const uint32_t *)((const char *)plain + field->count_offset);
}

static bool items_ok(const struct field *field, const void *plain)
{
    uint32_t count = list_count(field, plain);
    const char *item = (const char *)plain + field->offset;

    if (count > field->max) {
        return false;
    }
    for (uint32_t i = 0; field->item != NULL && i < count; i++) {
        if (!value_ok(field->item, item + i * field->item->size)) {
            return false;
        }
    }
    return true;
}

static bool plain_field_ok(const struct field *field, const void *plain)
{
    const void *member = (const char *)plain + field->offset;

    switch (field->type) {
    case F_TEXT:
        return strnlen(member, field->max) < field->max && text_utf8_ok(member);
    case F_CODE:
        return mig_code_str(*(const enum mig_code *)member) != NULL;
    case F_LIST:
    case F_U64S:
        return items_ok(field, plain);
    default:
        return true; /* the type says it all */
    }
}

static bool value_ok(const struct class *class, const void *plain)
{
    for (const struct field *f = class->field; f->name != NULL; f++) {
        if (!plain_field_ok(f, plain)) {
            return false;
        }
    }
    return class->sensible == NULL || class->sensible(plain);
}

static const ProtobufCFieldDescriptor *proto_field(const struct class *class,
                                                   const struct field *field)
{
    const ProtobufCFieldDescriptor *d =
        protobuf_c_message_descriptor_get_field_by_name(class->descriptor, field->name);

    BUG_ON(d == NULL);
    return d;
}

/* Packing ---------------------------------------------------------------------------- */
/* Inner messages of one outer message, and the lists of pointers to them. */
struct scratch {
    _Alignas(16) char bytes[48 * 1024];
    size_t used;
};

static void *scratch_take(struct scratch *scratch, size_t len)
{
    void *p = scratch->bytes + scratch->used;

    len = (len + 15) & ~(size_t)15;
    BUG_ON(len > sizeof scratch->bytes - scratch->used);
    scratch->used += len;
    return p;
}

static void to_proto(const struct class *class, const void *plain,
                     ProtobufCMessage *message, struct scratch *scratch);

static void list_to_proto(const struct field *field, const void *plain, void *member,
                          size_t *quantifier, struct scratch *scratch)
{
    uint32_t count = list_count(field, plain);
    const char *item = (const char *)plain + field->offset;
    ProtobufCMessage **list;

    *quantifier = count;
    if (field->type == F_U64S) {
        *(const void **)member = item;
        return;
    }
    list = scratch_take(scratch, count * sizeof *list);
    for (uint32_t i = 0; i < count; i++) {
        list[i] = scratch_take(scratch, field->item->descriptor->sizeof_message);
        to_proto(field->item, item + i * field->item->size, list[i], scratch);
    }
    *(ProtobufCMessage ***)member = list;
}

static void field_to_proto(const struct class *class, const struct field *field,
                           const void *plain, ProtobufCMessage *message,
                           struct scratch *scratch)
{
    const ProtobufCFieldDescriptor *d = proto_field(class, field);
    const void *from = (const char *)plain + field->offset;
    void *to = (char *)message + d->offset;

    switch (field->type) {
    case F_BOOL:
        *(protobuf_c_boolean *)to = *(const bool *)from;
        break;
    case F_U16:
        *(uint32_t *)to = *(const uint16_t *)from;
        break;
    case F_U32:
    case F_CODE:
        *(uint32_t *)to = *(const uint32_t *)from;
        break;
    case F_U64:
        *(uint64_t *)to = *(const uint64_t *)from;
        break;
    case F_TEXT:
        *(const void **)to = from;
        break;
    case F_BYTES:
        *(ProtobufCBinaryData *)to =
            (ProtobufCBinaryData){field->max, (uint8_t *)(uintptr_t)from};
        break;
    case F_LIST:
    case F_U64S:
        list_to_proto(field, plain, to,
                      (size_t *)((char *)message + d->quantifier_offset), scratch);
        break;
    }
}

static void to_proto(const struct class *class, const void *plain,
                     ProtobufCMessage *message, struct scratch *scratch)
{
    protobuf_c_message_init(class->descriptor, message);
    for (const struct field *f = class->field; f->name != NULL; f++) {
        field_to_proto(class, f, plain, message, scratch);
    }
}

ssize_t mig_msg_pack(const struct mig_msg *msg, void *buf, size_t cap)
{
    const char *plain = (const char *)msg + VALUE_OFFSET;
    const struct class *class;
    struct scratch *scratch;
    ProtobufCMessage *message;
    ssize_t len = -1;
    size_t need;

    BUG_ON(msg->kind <= MIG_KIND_INVALID || msg->kind >= MIG_KIND_COUNT);
    class = class_of[msg->kind];
    if (!value_ok(class, plain)) {
        return -1;
    }
    scratch = malloc(sizeof *scratch);
    if (scratch == NULL) {
        return -1;
    }
    scratch->used = 0;
    message = scratch_take(scratch, class->descriptor->sizeof_message);
    to_proto(class, plain, message, scratch);
    need = protobuf_c_message_get_packed_size(message);
    if (need <= cap && need <= MIG_CONTROL_MAX) {
        (void)protobuf_c_message_pack(message, buf);
        len = (ssize_t)need;
    }
    free(scratch);
    return len;
}

/* Unpacking -------------------------------------------------------------------------- */
static enum mig_msg_reason from_proto(const struct class *class,
                                      const ProtobufCMessage *message, void *plain);

static enum mig_msg_reason list_from_proto(const struct field *field, size_t count,
                                           const void *member, void *plain)
{
    char *item = (char *)plain + field->offset;
    ProtobufCMessage *const *list = *(ProtobufCMessage *const *const *)member;

    if (count > field->max) {
        return MIG_MSG_BAD_FIELD;
    }
    *(uint32_t *)((char *)plain + field->count_offset) = (uint32_t)count;
    if (field->type == F_U64S) {
        if (count > 0) {
            memcpy(item, *(const void *const *)member, count * sizeof(uint64_t));
        }
        return MIG_MSG_OK;
    }
    for (size_t i = 0; i < count; i++) {
        enum mig_msg_reason reason =
            from_proto(field->item, list[i], item + i * field->item->size);

        if (reason != MIG_MSG_OK) {
            return reason;
        }
    }
    return MIG_MSG_OK;
}

static bool bytes_from_proto(const struct field *field, const ProtobufCBinaryData *from,
                             void *to)
{
    if (from->len != field->max) {
        return false;
    }
    memcpy(to, from->data, from->len);
    return true;
}

static enum mig_msg_reason field_from_proto(const struct class *class,
                                            const struct field *field,
                                            const ProtobufCMessage *message, void *plain)
{
    const ProtobufCFieldDescriptor *d = proto_field(class, field);
    const void *from = (const char *)message + d->offset;
    void *to = (char *)plain + field->offset;
    bool fits = true;

    switch (field->type) {
    case F_BOOL:
        *(bool *)to = *(const protobuf_c_boolean *)from != 0;
        break;
    case F_U16:
        fits = *(const uint32_t *)from <= UINT16_MAX;
        *(uint16_t *)to = (uint16_t) * (const uint32_t *)from;
        break;
    case F_U32:
    case F_CODE:
        *(uint32_t *)to = *(const uint32_t *)from;
        break;
    case F_U64:
        *(uint64_t *)to = *(const uint64_t *)from;
        break;
    case F_TEXT:
        fits = text_copy(to, field->max, *(const char *const *)from);
        break;
    case F_BYTES:
        fits = bytes_from_proto(field, from, to);
        break;
    case F_LIST:
    case F_U64S:
        return list_from_proto(
            field, *(const size_t *)((const char *)message + d->quantifier_offset), from,
            plain);
    }
    return fits ? MIG_MSG_OK : MIG_MSG_BAD_FIELD;
}

static enum mig_msg_reason proto_says(enum proto_reason reason)
{
    return reason == PROTO_OK            ? MIG_MSG_OK
           : reason == PROTO_OVER_BUDGET ? MIG_MSG_OVER_BUDGET
                                         : MIG_MSG_MALFORMED;
}

static enum mig_msg_reason from_proto(const struct class *class,
                                      const ProtobufCMessage *message, void *plain)
{
    enum mig_msg_reason reason = proto_says(proto_unknown_ok(message));

    for (const struct field *f = class->field; reason == MIG_MSG_OK && f->name != NULL;
         f++) {
        reason = field_from_proto(class, f, message, plain);
    }
    return reason;
}

enum mig_msg_reason mig_msg_unpack(unsigned kind, const void *body, size_t len,
                                   struct mig_msg *ret_msg)
{
    const struct class *class;
    ProtobufCMessage *message = NULL;
    struct mig_msg *msg;
    enum mig_msg_reason reason;
    char *plain;

    if (kind <= MIG_KIND_INVALID || kind >= MIG_KIND_COUNT) {
        return MIG_MSG_UNKNOWN_KIND;
    }
    if (len > MIG_CONTROL_MAX) {
        return MIG_MSG_TOO_LONG;
    }
    class = class_of[kind];
    msg = calloc(1, sizeof *msg);
    if (msg == NULL) {
        return MIG_MSG_NO_MEMORY;
    }
    msg->kind = (enum mig_kind)kind;
    plain = (char *)msg + VALUE_OFFSET;
    reason = proto_says(proto_unpack(class->descriptor, body, len, &message));
    if (reason == MIG_MSG_OK) {
        reason = from_proto(class, message, plain);
    }
    if (reason == MIG_MSG_OK && !value_ok(class, plain)) {
        reason = MIG_MSG_BAD_FIELD;
    }
    if (reason == MIG_MSG_OK) {
        *ret_msg = *msg;
    }
    proto_free(message);
    free(msg);
    return reason;
}

const char *mig_msg_reason_str(enum mig_msg_reason reason)
{
    static const char *const text[] = {
        [MIG_MSG_OK] = "ok",
        [MIG_MSG_TOO_LONG] = "message is too long",
        [MIG_MSG_UNKNOWN_KIND] = "unknown kind of message, perhaps of a later version",
        [MIG_MSG_MALFORMED] = "message is malformed",
        [MIG_MSG_OVER_BUDGET] = "message would need too much memory",
        [MIG_MSG_BAD_FIELD] = "a field has a value that is not allowed",
        [MIG_MSG_NO_MEMORY] = "out of memory",
    };

    return (size_t)reason < sizeof text / sizeof text[0] ? text[reason]
                                                         : "unknown reason";
}
