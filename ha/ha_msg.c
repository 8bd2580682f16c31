/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_msg.h"

#include <string.h>

#include "base/bug.h"
#include "base/kvm_can.h"
#include "base/version.h"

#define LOCAL_VM_LEN (16 + 16 + 16 + 8 + 1)

static void put_from(struct bytes_wr *wr, const struct ha_msg_from *from)
{
    bytes_wr_u32(wr, from->ring.nodeid);
    bytes_wr_u64(wr, from->ring.seq);
    bytes_wr_u32(wr, from->nodeid);
    ha_put_incarnation(wr, from->incarnation);
    bytes_wr_u64(wr, from->term);
    bytes_wr_u64(wr, from->version);
}

static void get_from(struct bytes_rd *rd, struct ha_msg_from *from)
{
    from->ring.nodeid = bytes_rd_u32(rd);
    from->ring.seq = bytes_rd_u64(rd);
    from->nodeid = bytes_rd_u32(rd);
    from->incarnation = ha_get_incarnation(rd);
    from->term = bytes_rd_u64(rd);
    from->version = bytes_rd_u64(rd);
}

static void put_summary(struct bytes_wr *wr, const struct ha_summary *s,
                        const struct ha_local_vm *vms)
{
    bytes_wr_str(wr, s->name);
    bytes_wr_u32(wr, s->proto_version);
    bytes_wr_u64(wr, s->features);
    bytes_wr_uuid(wr, s->generation);
    bytes_wr_u8(wr, s->alone);
    bytes_wr_u32(wr, s->coordinator);
    bytes_wr_u64(wr, s->memory_bytes);
    bytes_wr_u32(wr, s->vm_count);
    for (uint32_t i = 0; i < s->vm_count; i++) {
        bytes_wr_uuid(wr, vms[i].vm);
        bytes_wr_uuid(wr, vms[i].instance);
        bytes_wr_uuid(wr, vms[i].attempt);
        bytes_wr_u64(wr, vms[i].epoch);
        bytes_wr_u8(wr, (uint8_t)vms[i].state);
    }
}

static const char *get_summary(struct bytes_rd *rd, struct ha_summary *s)
{
    bytes_rd_str(rd, s->name, sizeof s->name);
    s->proto_version = bytes_rd_u32(rd);
    s->features = bytes_rd_u64(rd);
    s->generation = bytes_rd_uuid(rd);
    s->alone = bytes_rd_u8(rd) != 0;
    s->coordinator = bytes_rd_u32(rd);
    s->memory_bytes = bytes_rd_u64(rd);
    s->vm_count = bytes_rd_u32(rd);
    if (rd->failed || s->vm_count > HA_SUMMARY_VMS_MAX) {
        return "summary: bad count of VMs";
    }
    s->vms = bytes_rd_view(rd, (size_t)s->vm_count * LOCAL_VM_LEN);
    return NULL;
}

struct ha_local_vm ha_summary_vm(const struct ha_summary *summary, uint32_t i)
{
    struct ha_local_vm vm;
    struct bytes_rd rd;

    BUG_ON(i >= summary->vm_count);
    rd = bytes_rd_make(summary->vms + (size_t)i * LOCAL_VM_LEN, LOCAL_VM_LEN);
    vm.vm = bytes_rd_uuid(&rd);
    vm.instance = bytes_rd_uuid(&rd);
    vm.attempt = bytes_rd_uuid(&rd);
    vm.epoch = bytes_rd_u64(&rd);
    vm.state = (enum ha_local_state)bytes_rd_u8(&rd);
    return vm;
}

static void put_sync(struct bytes_wr *wr, const struct ha_sync *s)
{
    bytes_wr_u64(wr, s->term);
    bytes_wr_u32(wr, s->coordinator);
    bytes_wr_u32(wr, s->source);
    bytes_wr_u8(wr, s->transfer);
    bytes_wr_u32(wr, s->participant_count);
    for (unsigned i = 0; i < s->participant_count; i++) {
        bytes_wr_u32(wr, s->participant[i].nodeid);
        ha_put_incarnation(wr, s->participant[i].incarnation);
    }
}

static const char *get_sync(struct bytes_rd *rd, struct ha_sync *s)
{
    s->term = bytes_rd_u64(rd);
    s->coordinator = bytes_rd_u32(rd);
    s->source = bytes_rd_u32(rd);
    s->transfer = bytes_rd_u8(rd) != 0;
    s->participant_count = bytes_rd_u32(rd);
    if (rd->failed || s->participant_count == 0 || s->participant_count > NODES_MAX) {
        return "sync: bad count of participants";
    }
    for (unsigned i = 0; i < s->participant_count; i++) {
        s->participant[i].nodeid = bytes_rd_u32(rd);
        s->participant[i].incarnation = ha_get_incarnation(rd);
    }
    return NULL;
}

static void put_item(struct bytes_wr *wr, const struct ha_item_msg *item)
{
    bytes_wr_u8(wr, (uint8_t)item->kind);
    bytes_wr_u64(wr, item->version);
    bytes_wr_uuid(wr, item->op);
    bytes_wr_u8(wr, item->want_persisted);
    bytes_wr_str(wr, item->event);
    bytes_wr_u32(wr, item->body_len);
    bytes_wr_copy(wr, item->body, item->body_len);
}

static const char *get_item(struct bytes_rd *rd, struct ha_item_msg *item)
{
    item->kind = (enum ha_item_kind)bytes_rd_u8(rd);
    item->version = bytes_rd_u64(rd);
    item->op = bytes_rd_uuid(rd);
    item->want_persisted = bytes_rd_u8(rd) != 0;
    bytes_rd_str(rd, item->event, sizeof item->event);
    item->body_len = bytes_rd_u32(rd);
    if (rd->failed || item->body_len > HA_ITEM_MAX) {
        return "item: bad length";
    }
    item->body = bytes_rd_view(rd, item->body_len);
    return NULL;
}

static bool has_offer(const struct ha_vm_report *r)
{
    return r->outcome == HA_OUTCOME_MOVE_OFFER || r->outcome == HA_OUTCOME_TWIN_OFFER;
}

static bool has_disks(const struct ha_vm_report *r)
{
    return r->outcome == HA_OUTCOME_TWIN_OFFER && ha_twin_has_disks(r->disk);
}

static void put_vm_report(struct bytes_wr *wr, const struct ha_vm_report *r)
{
    bytes_wr_uuid(wr, r->vm);
    bytes_wr_uuid(wr, r->attempt);
    bytes_wr_uuid(wr, r->instance);
    bytes_wr_u8(wr, (uint8_t)r->outcome);
    bytes_wr_u64(wr, r->epoch);
    bytes_wr_u8(wr, (uint8_t)(r->guest_shutdown | r->filling << 1 | has_disks(r) << 2 |
                              (r->diverged_ms != 0) << 3 | (r->mirror[0] != 0) << 4));
    bytes_wr_str(wr, r->text);
    if (has_offer(r)) {
        ha_put_move_end(wr, &r->offer);
    }
    if (has_disks(r)) {
        ha_put_twin_disks(wr, r->disk);
    }
    if (r->diverged_ms != 0) {
        bytes_wr_u64(wr, r->diverged_ms);
    }
    for (unsigned i = 0; i < CLAIM_MIRRORS_MAX && r->mirror[0] != 0; i++) {
        bytes_wr_u32(wr, r->mirror[i]);
    }
    if (r->outcome == HA_OUTCOME_HOLDS) {
        bytes_wr_u32(wr, r->held.node_id);
        ha_put_incarnation(wr, r->held.inc);
        bytes_wr_uuid(wr, r->held.instance);
    }
}

static const char *get_vm_report(struct bytes_rd *rd, struct ha_vm_report *r)
{
    uint8_t flags;

    r->vm = bytes_rd_uuid(rd);
    r->attempt = bytes_rd_uuid(rd);
    r->instance = bytes_rd_uuid(rd);
    r->outcome = (enum ha_vm_outcome)bytes_rd_u8(rd);
    r->epoch = bytes_rd_u64(rd);
    flags = bytes_rd_u8(rd);
    r->guest_shutdown = (flags & 1) != 0;
    r->filling = (flags & 2) != 0;
    bytes_rd_str(rd, r->text, sizeof r->text);
    if (r->outcome == HA_OUTCOME_INVALID || r->outcome >= HA_OUTCOME_COUNT) {
        return "vm report: bad outcome";
    }
    if (has_offer(r)) {
        r->offer = ha_get_move_end(rd);
    }
    if ((flags & 4) != 0 && !ha_get_twin_disks(rd, r->disk)) {
        return "vm report: bad disks";
    }
    if ((flags & 8) != 0) {
        r->diverged_ms = bytes_rd_u64(rd);
    }
    for (unsigned i = 0; i < CLAIM_MIRRORS_MAX && (flags & 16) != 0; i++) {
        r->mirror[i] = bytes_rd_u32(rd);
    }
    if ((flags & 16) != 0 && r->mirror[0] == 0) {
        return "vm report: copies of no node";
    }
    if (r->outcome == HA_OUTCOME_HOLDS) {
        r->held.node_id = bytes_rd_u32(rd);
        r->held.inc = ha_get_incarnation(rd);
        r->held.instance = bytes_rd_uuid(rd);
        return r->held.node_id == 0 ? "vm report: held by nobody" : NULL;
    }
    return NULL;
}

static void put_fence_report(struct bytes_wr *wr, const struct ha_fence_report *r)
{
    bytes_wr_uuid(wr, r->uid);
    bytes_wr_u32(wr, r->target);
    ha_put_incarnation(wr, r->incarnation);
    bytes_wr_u8(wr, (uint8_t)r->result);
    bytes_wr_u8(wr, r->suspicion);
    bytes_wr_str(wr, r->detail);
}

static const char *get_fence_report(struct bytes_rd *rd, struct ha_fence_report *r)
{
    r->uid = bytes_rd_uuid(rd);
    r->target = bytes_rd_u32(rd);
    r->incarnation = ha_get_incarnation(rd);
    r->result = (enum ha_fence_state)bytes_rd_u8(rd);
    r->suspicion = bytes_rd_u8(rd) != 0;
    bytes_rd_str(rd, r->detail, sizeof r->detail);
    if (r->result > HA_FENCE_CANCELLING) {
        return "fence report: bad result";
    }
    return NULL;
}

static void put_op(struct bytes_wr *wr, const struct ha_op *op)
{
    bytes_wr_uuid(wr, op->uid);
    bytes_wr_str(wr, op->verb);
    bytes_wr_str(wr, op->object);
    bytes_wr_str(wr, op->actor);
    bytes_wr_str(wr, op->reason);
    bytes_wr_u32(wr, op->flags);
    bytes_wr_u32(wr, op->body_len);
    bytes_wr_copy(wr, op->body, op->body_len);
}

static const char *get_op(struct bytes_rd *rd, struct ha_op *op)
{
    op->uid = bytes_rd_uuid(rd);
    bytes_rd_str(rd, op->verb, sizeof op->verb);
    bytes_rd_str(rd, op->object, sizeof op->object);
    bytes_rd_str(rd, op->actor, sizeof op->actor);
    bytes_rd_str(rd, op->reason, sizeof op->reason);
    op->flags = bytes_rd_u32(rd);
    op->body_len = bytes_rd_u32(rd);
    if (rd->failed || op->body_len > DEFINITION_MAX) {
        return "op: bad length";
    }
    op->body = (const char *)bytes_rd_view(rd, op->body_len);
    return NULL;
}

static void put_progress(struct bytes_wr *wr, const struct ha_msg *msg)
{
    const struct ha_move_progress *p = &msg->progress.move;

    bytes_wr_uuid(wr, msg->progress.vm);
    bytes_wr_u32(wr, p->percent);
    bytes_wr_u32(wr, p->round);
    bytes_wr_u32(wr, p->throttle);
    bytes_wr_u64(wr, p->bps);
    bytes_wr_u64(wr, p->dirty_bps);
    bytes_wr_u64(wr, p->sent);
    bytes_wr_u64(wr, p->eta_ms);
    if (p->missing != 0) { /* came later: others are as they always were */
        bytes_wr_u64(wr, p->missing);
        bytes_wr_u64(wr, p->faults);
    }
}

static const char *get_progress(struct bytes_rd *rd, struct ha_msg *msg)
{
    struct ha_move_progress *p = &msg->progress.move;

    msg->progress.vm = bytes_rd_uuid(rd);
    p->percent = bytes_rd_u32(rd);
    p->round = bytes_rd_u32(rd);
    p->throttle = bytes_rd_u32(rd);
    p->bps = bytes_rd_u64(rd);
    p->dirty_bps = bytes_rd_u64(rd);
    p->sent = bytes_rd_u64(rd);
    p->eta_ms = bytes_rd_u64(rd);
    if (!rd->failed && rd->pos < rd->len) {
        p->missing = bytes_rd_u64(rd);
        p->faults = bytes_rd_u64(rd);
    }
    return p->percent > 100 || p->throttle > 1000 ? "progress: out of range" : NULL;
}

static void put_twin_look(struct bytes_wr *wr, const struct ha_twin_look *look)
{
    bytes_wr_uuid(wr, look->op);
    bytes_wr_uuid(wr, look->vm);
    bytes_wr_u32(wr, look->to);
    bytes_wr_u8(wr, (uint8_t)look->step);
    bytes_wr_str(wr, look->text);
    if (ha_twin_has_disks(look->disk)) {
        ha_put_twin_disks(wr, look->disk);
    }
}

static const char *get_twin_look(struct bytes_rd *rd, struct ha_twin_look *look)
{
    look->op = bytes_rd_uuid(rd);
    look->vm = bytes_rd_uuid(rd);
    look->to = bytes_rd_u32(rd);
    look->step = (enum ha_twin_look_step)bytes_rd_u8(rd);
    bytes_rd_str(rd, look->text, sizeof look->text);
    if (look->step < HA_TWIN_LOOK_ASK || look->step >= HA_TWIN_LOOK_COUNT) {
        return "twin look: bad step";
    }
    return rd->failed || rd->pos == rd->len || ha_get_twin_disks(rd, look->disk)
               ? NULL
               : "twin look: bad disks";
}

size_t ha_msg_encode(const struct ha_msg *msg, const struct ha_local_vm *vms,
                     uint64_t seq, void *buf, size_t cap)
{
    struct frame frame = {
        .type = (uint16_t)msg->type, .version = PROTO_CPG_VERSION, .seq = seq};
    struct bytes_wr wr;

    if (cap < FRAME_HEADER_LEN) {
        return 0;
    }
    wr = bytes_wr_make((uint8_t *)buf + FRAME_HEADER_LEN, cap - FRAME_HEADER_LEN);
    put_from(&wr, &msg->from);
    switch (msg->type) {
    case HA_MSG_SUMMARY:
        put_summary(&wr, &msg->summary, vms);
        break;
    case HA_MSG_SYNC:
        put_sync(&wr, &msg->sync);
        break;
    case HA_MSG_SNAP_ITEM:
    case HA_MSG_UPDATE:
        put_item(&wr, &msg->item);
        break;
    case HA_MSG_VM_REPORT:
        put_vm_report(&wr, &msg->vm_report);
        break;
    case HA_MSG_FENCE_REPORT:
        put_fence_report(&wr, &msg->fence_report);
        break;
    case HA_MSG_OP:
        put_op(&wr, &msg->op);
        break;
    case HA_MSG_OP_RESULT:
        bytes_wr_uuid(&wr, msg->op_result.uid);
        bytes_wr_u32(&wr, msg->op_result.exit_code);
        bytes_wr_u64(&wr, msg->op_result.version);
        bytes_wr_str(&wr, msg->op_result.text);
        break;
    case HA_MSG_RENEW_ECHO:
        bytes_wr_u32(&wr, msg->echo_to);
        bytes_wr_u64(&wr, msg->number);
        break;
    case HA_MSG_NODE_CPU:
    case HA_MSG_NODE_KVM:
        bytes_wr_u32(&wr, msg->cpu.len);
        bytes_wr_copy(&wr, msg->cpu.text, msg->cpu.len);
        break;
    case HA_MSG_PROGRESS:
        put_progress(&wr, msg);
        break;
    case HA_MSG_TWIN_LOOK:
        put_twin_look(&wr, &msg->twin_look);
        break;
    case HA_MSG_SNAP_END:
    case HA_MSG_PERSISTED:
    case HA_MSG_RENEW:
        bytes_wr_u64(&wr, msg->number);
        break;
    case HA_MSG_INVALID:
    default:
        return 0;
    }
    if (wr.failed) {
        return 0;
    }
    frame.body = wr.buf;
    frame.body_len = (uint32_t)wr.pos;
    return frame_encode(&frame, HA_MSG_MAGIC, buf, cap);
}

static const char *get_body(struct bytes_rd *rd, struct ha_msg *msg)
{
    switch (msg->type) {
    case HA_MSG_SUMMARY:
        return get_summary(rd, &msg->summary);
    case HA_MSG_SYNC:
        return get_sync(rd, &msg->sync);
    case HA_MSG_SNAP_ITEM:
    case HA_MSG_UPDATE:
        return get_item(rd, &msg->item);
    case HA_MSG_VM_REPORT:
        return get_vm_report(rd, &msg->vm_report);
    case HA_MSG_FENCE_REPORT:
        return get_fence_report(rd, &msg->fence_report);
    case HA_MSG_OP:
        return get_op(rd, &msg->op);
    case HA_MSG_OP_RESULT:
        msg->op_result.uid = bytes_rd_uuid(rd);
        msg->op_result.exit_code = bytes_rd_u32(rd);
        msg->op_result.version = bytes_rd_u64(rd);
        bytes_rd_str(rd, msg->op_result.text, sizeof msg->op_result.text);
        return NULL;
    case HA_MSG_RENEW_ECHO:
        msg->echo_to = bytes_rd_u32(rd);
        msg->number = bytes_rd_u64(rd);
        return NULL;
    case HA_MSG_PROGRESS:
        return get_progress(rd, msg);
    case HA_MSG_TWIN_LOOK:
        return get_twin_look(rd, &msg->twin_look);
    case HA_MSG_NODE_CPU:
        msg->cpu.len = bytes_rd_u32(rd);
        if (rd->failed || msg->cpu.len >= CPU_MODEL_TEXT_MAX) {
            return "CPU model: bad length";
        }
        msg->cpu.text = (const char *)bytes_rd_view(rd, msg->cpu.len);
        return NULL;
    case HA_MSG_NODE_KVM:
        msg->cpu.len = bytes_rd_u32(rd);
        if (rd->failed || msg->cpu.len >= KVM_CAN_TEXT_MAX) {
            return "KVM of a node: bad length";
        }
        msg->cpu.text = (const char *)bytes_rd_view(rd, msg->cpu.len);
        return NULL;
    case HA_MSG_SNAP_END:
    case HA_MSG_PERSISTED:
    case HA_MSG_RENEW:
        msg->number = bytes_rd_u64(rd);
        return NULL;
    case HA_MSG_INVALID:
    default:
        return "unknown type";
    }
}

const char *ha_msg_decode(const void *buf, size_t len, struct ha_msg *ret_msg)
{
    struct frame frame;
    struct bytes_rd rd;
    const char *wrong;
    enum frame_reason reason =
        frame_check(buf, len, HA_MSG_MAGIC, CPG_MSG_MAX - FRAME_HEADER_LEN, &frame);

    if (reason != FRAME_OK) {
        return frame_reason_str(reason);
    }
    if (frame.body_len + FRAME_HEADER_LEN != len) {
        return "bytes after the frame";
    }
    memset(ret_msg, 0, sizeof *ret_msg);
    ret_msg->type = (enum ha_msg_type)(frame.type & ~FRAME_TYPE_OPTIONAL);
    rd = bytes_rd_make(frame.body, frame.body_len);
    get_from(&rd, &ret_msg->from);
    wrong = get_body(&rd, ret_msg);
    if (wrong != NULL) {
        return wrong;
    }
    return bytes_rd_done(&rd) ? NULL : "length and fields disagree";
}
