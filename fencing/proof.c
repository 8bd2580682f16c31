/* SPDX-License-Identifier: Apache-2.0 */
#include "fencing/proof.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/frame.h"
#include "base/uuid.h"
#include "fencing/clause.h"

bool incarnation_is_none(const struct incarnation *inc)
{
    return uuid_is_none(inc->boot_id) && inc->join == 0;
}

bool incarnation_equal(const struct incarnation *a, const struct incarnation *b)
{
    return uuid_equal(a->boot_id, b->boot_id) && a->join == b->join;
}

const char *proof_kind_str(enum proof_kind kind)
{
    static const char *const names[PROOF_KIND_COUNT] = {
        [PROOF_NONE] = "none",
        [PROOF_FENCED_OFF] = "fenced: a fence device confirmed off, read twice",
        [PROOF_RETURNED] = "returned: the node is back after a new boot",
        [PROOF_CLEAN_STOP] = "clean stop: the node listed this instance as ended",
        [PROOF_WATCHDOG] =
            "watchdog: its bound has elapsed since the node was last heard",
        [PROOF_CONFIRM_OFF] = "confirm-off: an operator states that the node is off",
    };

    return (unsigned)kind < PROOF_KIND_COUNT ? names[kind] : "unknown";
}

bool proof_return_is_death(const struct incarnation *old_inc,
                           const struct incarnation *new_inc)
{
    if (incarnation_is_none(old_inc) || uuid_is_none(new_inc->boot_id)) {
        return false;
    }
    if (!CLAUSE(R3_RETURN_NEW_BOOT)) {
        return !incarnation_equal(old_inc, new_inc);
    }
    return !uuid_equal(old_inc->boot_id, new_inc->boot_id);
}

static bool stopped_equal(const struct proof_stopped *a, const struct proof_stopped *b)
{
    return uuid_equal(a->vm, b->vm) && a->epoch == b->epoch &&
           uuid_equal(a->instance, b->instance);
}

/* The same fact from the same kind of source; a clean-stop record also by what it lists.
 */
static bool is_duplicate(const struct proof_table *table, const struct proof *old,
                         const struct proof *proof, const struct proof_stopped *stopped,
                         uint32_t stopped_count)
{
    if (old->kind != proof->kind || old->node_id != proof->node_id ||
        !incarnation_equal(&old->inc, &proof->inc) ||
        old->stopped_count != stopped_count) {
        return false;
    }
    for (uint32_t i = 0; i < stopped_count; i++) {
        if (!stopped_equal(&table->stopped[old->stopped_first + i], &stopped[i])) {
            return false;
        }
    }
    return true;
}

int proof_table_add(struct proof_table *table, const struct proof *proof,
                    const struct proof_stopped *stopped, uint32_t stopped_count)
{
    if (proof->kind == PROOF_NONE || (unsigned)proof->kind >= PROOF_KIND_COUNT ||
        proof->node_id == 0 || incarnation_is_none(&proof->inc)) {
        return -EINVAL;
    }
    if (stopped_count > 0 && proof->kind != PROOF_CLEAN_STOP) {
        return -EINVAL;
    }
    if (proof->kind == PROOF_RETURNED &&
        !proof_return_is_death(&proof->inc, &proof->returned_as)) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < table->count; i++) {
        if (is_duplicate(table, &table->proofs[i], proof, stopped, stopped_count)) {
            return 0;
        }
    }
    if (table->count >= table->cap || stopped_count > table->stopped_cap ||
        table->stopped_count > table->stopped_cap - stopped_count) {
        return -ENOSPC;
    }

    struct proof *added = &table->proofs[table->count++];
    *added = *proof;
    added->source[NODE_NAME_MAX] = '\0';
    added->reason[REASON_LEN_MAX] = '\0';
    added->stopped_first = table->stopped_count;
    added->stopped_count = stopped_count;
    for (uint32_t i = 0; i < stopped_count; i++) {
        table->stopped[table->stopped_count++] = stopped[i];
    }
    return 0;
}

void proof_table_forget(struct proof_table *table, uint32_t node_id,
                        const struct incarnation *inc)
{
    uint32_t kept = 0, kept_stopped = 0;

    /* Both arrays keep their order, so moving down never overwrites what is still to be
     * read. */
    for (uint32_t i = 0; i < table->count; i++) {
        struct proof p = table->proofs[i];

        if (p.node_id == node_id && incarnation_equal(&p.inc, inc)) {
            continue;
        }
        memmove(&table->stopped[kept_stopped], &table->stopped[p.stopped_first],
                p.stopped_count * sizeof(table->stopped[0]));
        p.stopped_first = kept_stopped;
        kept_stopped += p.stopped_count;
        table->proofs[kept++] = p;
    }
    table->count = kept;
    table->stopped_count = kept_stopped;
}

static bool names_incarnation(const struct proof *p, uint32_t node_id,
                              const struct incarnation *inc)
{
    if (p->node_id != node_id) {
        return false;
    }
    return incarnation_equal(&p->inc, inc) || !CLAUSE(R3_THAT_INCARNATION);
}

bool proof_is_dead(const struct proof_table *table, uint32_t node_id,
                   const struct incarnation *inc, struct proof_answer *ret_answer)
{
    const struct proof *found = NULL;

    if (!table || node_id == 0 || incarnation_is_none(inc)) {
        return false;
    }
    for (uint32_t i = 0; i < table->count; i++) {
        const struct proof *p = &table->proofs[i];

        if (p->kind == PROOF_CLEAN_STOP && CLAUSE(R3_CLEAN_STOP_LISTED)) {
            continue;
        }
        if (!names_incarnation(p, node_id, inc)) {
            continue;
        }
        if (!found || p->known_ns < found->known_ns) {
            found = p;
        }
    }
    if (!found) {
        return false;
    }
    *ret_answer = (struct proof_answer){
        .kind = found->kind,
        .known_ns = found->known_ns,
        .proof = found,
    };
    return true;
}

bool proof_covers(const struct proof_table *table, uint32_t node_id,
                  const struct incarnation *inc, struct uuid vm, uint64_t epoch,
                  struct uuid instance, struct proof_answer *ret_answer)
{
    const struct proof_stopped wanted = {.vm = vm, .epoch = epoch, .instance = instance};

    if (!table || node_id == 0 || incarnation_is_none(inc)) {
        return false;
    }
    /* A listed end comes first: it also says drained. */
    for (uint32_t i = 0; i < table->count; i++) {
        const struct proof *p = &table->proofs[i];

        if (p->kind != PROOF_CLEAN_STOP || !names_incarnation(p, node_id, inc)) {
            continue;
        }
        for (uint32_t k = 0; k < p->stopped_count; k++) {
            if (stopped_equal(&table->stopped[p->stopped_first + k], &wanted)) {
                *ret_answer = (struct proof_answer){
                    .kind = PROOF_CLEAN_STOP,
                    .drained = true,
                    .known_ns = p->known_ns,
                    .proof = p,
                };
                return true;
            }
        }
    }
    return proof_is_dead(table, node_id, inc, ret_answer);
}

enum proof_wdog_reason proof_wdog_elapsed(const struct proof_wdog *w, uint64_t now_ns,
                                          uint64_t *ret_due_ns)
{
    uint64_t due_ns;

    if (!w->hardware) {
        return PROOF_WDOG_NOT_HARDWARE;
    }
    if (!w->published_as_proof && CLAUSE(R3_WDOG_PUBLISHED)) {
        return PROOF_WDOG_NOT_PUBLISHED;
    }
    if (w->withdrawn && CLAUSE(R3_WDOG_WITHDRAWN)) {
        return PROOF_WDOG_WITHDRAWN;
    }
    if (w->hypervisor && !w->hypervisor_override) {
        return PROOF_WDOG_HYPERVISOR;
    }
    if (!w->view_quorate && CLAUSE(R3_WDOG_QUORUM)) {
        return PROOF_WDOG_NO_QUORUM;
    }
    if (w->view_has_target) {
        return PROOF_WDOG_IN_VIEW;
    }
    if (w->expected_votes <= 2 && !w->has_arbiter) {
        return PROOF_WDOG_TWO_NODES;
    }
    if (w->last_receipt_ns == 0) {
        return PROOF_WDOG_NO_RECEIPT;
    }
    if (__builtin_add_overflow(w->bound_ns, w->margin_ns, &due_ns) ||
        __builtin_add_overflow(due_ns, w->last_receipt_ns, &due_ns)) {
        due_ns = UINT64_MAX;
    }
    *ret_due_ns = due_ns;
    if (now_ns < due_ns && CLAUSE(R3_WDOG_ELAPSED)) {
        return PROOF_WDOG_WAIT;
    }
    return PROOF_WDOG_ELAPSED;
}

const char *proof_wdog_reason_str(enum proof_wdog_reason reason)
{
    static const char *const texts[PROOF_WDOG_REASON_COUNT] = {
        [PROOF_WDOG_ELAPSED] = "the watchdog's bound has elapsed",
        [PROOF_WDOG_WAIT] = "the watchdog's bound has not elapsed yet",
        [PROOF_WDOG_NOT_HARDWARE] = "the node has no hardware watchdog",
        [PROOF_WDOG_NOT_PUBLISHED] =
            "the node did not announce its watchdog as a proof before the loss",
        [PROOF_WDOG_WITHDRAWN] = "the node withdrew its watchdog as a proof",
        [PROOF_WDOG_HYPERVISOR] =
            "the node runs under a hypervisor, which may pause its watchdog",
        [PROOF_WDOG_NO_QUORUM] =
            "this view has no quorum: the node may be fed by another",
        [PROOF_WDOG_IN_VIEW] = "the node is in this view",
        [PROOF_WDOG_TWO_NODES] =
            "with two votes and no arbiter a node never knows that it lost quorum",
        [PROOF_WDOG_NO_RECEIPT] =
            "no member of this view knows when it last heard the node",
    };

    return (unsigned)reason < PROOF_WDOG_REASON_COUNT ? texts[reason] : "unknown";
}

enum proof_confirm_reason proof_confirm_check(const char *node_name,
                                              const char *typed_name, const char *reason,
                                              bool node_answers)
{
    if (!typed_name || strcmp(node_name, typed_name) != 0) {
        return PROOF_CONFIRM_NAME_DIFFERS;
    }
    if (!reason || reason[strspn(reason, " \t\r\n")] == '\0') {
        return PROOF_CONFIRM_NO_REASON;
    }
    if (node_answers) {
        return PROOF_CONFIRM_NODE_ANSWERS;
    }
    return PROOF_CONFIRM_OK;
}

const char *proof_confirm_reason_str(enum proof_confirm_reason reason)
{
    static const char *const texts[PROOF_CONFIRM_REASON_COUNT] = {
        [PROOF_CONFIRM_OK] = "confirmed",
        [PROOF_CONFIRM_NAME_DIFFERS] = "the typed name is not the node's name",
        [PROOF_CONFIRM_NO_REASON] = "a reason is needed: it is kept with the proof",
        [PROOF_CONFIRM_NODE_ANSWERS] =
            "the node answers, so it is not off: stop or fence it",
    };

    return (unsigned)reason < PROOF_CONFIRM_REASON_COUNT ? texts[reason] : "unknown";
}

/* Codec ---------------------------------------------------------------------------- */

static void put_uuid(struct bytes_wr *wr, struct uuid u)
{
    bytes_wr_copy(wr, u.b, sizeof(u.b));
}

static struct uuid get_uuid(struct bytes_rd *rd)
{
    struct uuid u = {{0}};

    bytes_rd_copy(rd, u.b, sizeof(u.b));
    return u;
}

static void put_incarnation(struct bytes_wr *wr, const struct incarnation *inc)
{
    put_uuid(wr, inc->boot_id);
    bytes_wr_u64(wr, inc->join);
}

static struct incarnation get_incarnation(struct bytes_rd *rd)
{
    struct incarnation inc;

    inc.boot_id = get_uuid(rd);
    inc.join = bytes_rd_u64(rd);
    return inc;
}

size_t proof_encode(const struct proof *proof, const struct proof_stopped *stopped,
                    void *buf, size_t cap)
{
    if (cap < FRAME_HEADER_LEN || proof->stopped_count > PROOF_STOPPED_MAX) {
        return 0;
    }

    uint8_t *body = (uint8_t *)buf + FRAME_HEADER_LEN;
    struct bytes_wr wr = bytes_wr_make(body, cap - FRAME_HEADER_LEN);

    bytes_wr_u32(&wr, (uint32_t)proof->kind);
    bytes_wr_u32(&wr, proof->node_id);
    put_incarnation(&wr, &proof->inc);
    put_incarnation(&wr, &proof->returned_as);
    bytes_wr_str(&wr, proof->source);
    bytes_wr_str(&wr, proof->reason);
    bytes_wr_u32(&wr, proof->stopped_count);
    for (uint32_t i = 0; i < proof->stopped_count; i++) {
        const struct proof_stopped *s = &stopped[proof->stopped_first + i];

        put_uuid(&wr, s->vm);
        bytes_wr_u64(&wr, s->epoch);
        put_uuid(&wr, s->instance);
    }
    if (wr.failed) {
        return 0;
    }

    const struct frame frame = {
        .type = PROOF_FRAME_TYPE,
        .version = PROOF_VERSION,
        .body = body,
        .body_len = (uint32_t)wr.pos,
    };

    return frame_encode(&frame, PROOF_MAGIC, buf, cap);
}

static bool proof_is_sane(const struct proof *p)
{
    if (p->node_id == 0 || incarnation_is_none(&p->inc)) {
        return false;
    }
    if (p->kind == PROOF_RETURNED) {
        return proof_return_is_death(&p->inc, &p->returned_as);
    }
    return incarnation_is_none(&p->returned_as);
}

enum proof_decode_reason proof_decode(const void *buf, size_t len,
                                      struct proof *ret_proof,
                                      struct proof_stopped *ret_stopped, size_t *ret_len)
{
    struct frame frame;
    struct proof p;

    if (frame_check(buf, len, PROOF_MAGIC, PROOF_ENCODED_MAX, &frame) != FRAME_OK ||
        frame.type != PROOF_FRAME_TYPE) {
        return PROOF_DECODE_BAD_FRAME;
    }
    if (frame.version != PROOF_VERSION) {
        return PROOF_DECODE_BAD_VERSION;
    }

    struct bytes_rd rd = bytes_rd_make(frame.body, frame.body_len);

    memset(&p, 0, sizeof(p));
    uint32_t kind = bytes_rd_u32(&rd);
    p.node_id = bytes_rd_u32(&rd);
    p.inc = get_incarnation(&rd);
    p.returned_as = get_incarnation(&rd);
    bytes_rd_str(&rd, p.source, sizeof(p.source));
    bytes_rd_str(&rd, p.reason, sizeof(p.reason));
    p.stopped_count = bytes_rd_u32(&rd);
    if (rd.failed) {
        return PROOF_DECODE_TRUNCATED;
    }
    if (kind == PROOF_NONE || kind >= PROOF_KIND_COUNT) {
        return PROOF_DECODE_BAD_KIND;
    }
    p.kind = (enum proof_kind)kind;
    if (p.stopped_count > PROOF_STOPPED_MAX ||
        (p.stopped_count > 0 && p.kind != PROOF_CLEAN_STOP)) {
        return PROOF_DECODE_TOO_MANY;
    }
    for (uint32_t i = 0; i < p.stopped_count; i++) {
        ret_stopped[i].vm = get_uuid(&rd);
        ret_stopped[i].epoch = bytes_rd_u64(&rd);
        ret_stopped[i].instance = get_uuid(&rd);
    }
    if (rd.failed) {
        return PROOF_DECODE_TRUNCATED;
    }
    if (!bytes_rd_done(&rd)) {
        return PROOF_DECODE_TRAILING;
    }
    if (!proof_is_sane(&p)) {
        return PROOF_DECODE_BAD_VALUE;
    }
    *ret_proof = p;
    *ret_len = FRAME_HEADER_LEN + frame.body_len;
    return PROOF_DECODE_OK;
}

const char *proof_decode_reason_str(enum proof_decode_reason reason)
{
    static const char *const texts[] = {
        [PROOF_DECODE_OK] = "valid",
        [PROOF_DECODE_BAD_FRAME] = "not an intact frame of a proof",
        [PROOF_DECODE_BAD_VERSION] = "of a version this program does not know",
        [PROOF_DECODE_BAD_KIND] = "an unknown kind of proof",
        [PROOF_DECODE_TRUNCATED] = "shorter than its fields",
        [PROOF_DECODE_TRAILING] = "longer than its fields",
        [PROOF_DECODE_TOO_MANY] = "lists too many stopped VMs",
        [PROOF_DECODE_BAD_VALUE] = "names no node or no incarnation that could be dead",
    };

    return (unsigned)reason < sizeof(texts) / sizeof(texts[0]) ? texts[reason]
                                                               : "unknown";
}
