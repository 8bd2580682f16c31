/* SPDX-License-Identifier: Apache-2.0 */
/* What people read about claims: constant texts, and claim_explain() which names the
 * objects. */
#include <string.h>

#include "base/uuid.h"
#include "fencing/claim.h"

#define TEXT(table, index)                                                               \
    ((unsigned)(index) < sizeof(table) / sizeof((table)[0]) && (table)[index]            \
         ? (table)[index]                                                                \
         : "unknown")

const char *claim_kind_str(enum claim_kind kind)
{
    static const char *const names[CLAIM_KIND_COUNT] = {
        [CLAIM_KIND_NONE] = "none",      [CLAIM_START] = "start",
        [CLAIM_RESTART] = "restart",     [CLAIM_RESUME] = "resume",
        [CLAIM_THAW] = "thaw",           [CLAIM_MIGRATE_IN] = "migrate-in",
        [CLAIM_TAKE_BACK] = "take-back", [CLAIM_GO_LIVE] = "go-live",
        [CLAIM_GO_ALONE] = "go-alone",   [CLAIM_PROTECT] = "protect",
        [CLAIM_UNPROTECT] = "unprotect",
    };

    return TEXT(names, kind);
}

const char *claim_basis_str(enum claim_basis basis)
{
    static const char *const names[CLAIM_BASIS_COUNT] = {
        [CLAIM_BASIS_NONE] = "nothing",
        [CLAIM_BASIS_FIRST] = "it is the first claim",
        [CLAIM_BASIS_OWN] = "the highest claim is this instance's own",
        [CLAIM_BASIS_RELEASED] = "the owner released it",
        [CLAIM_BASIS_PROOF] = "the owner is proven dead",
        [CLAIM_BASIS_HALTED] =
            "the owner's agent acknowledged that it is halted and drained",
        [CLAIM_BASIS_TWIN] = "this instance is the twin named in the claim",
    };

    return TEXT(names, basis);
}

const char *claim_reason_str(enum claim_reason reason)
{
    static const char *const texts[CLAIM_REASON_COUNT] = {
        [CLAIM_OK] = "the claim may be taken",
        [CLAIM_NO_BAD_VIEW] = "the request is not a valid one for this VM and its claim",
        [CLAIM_NO_INSTANCE_USED] = "an instance serves once; a new one is needed",
        [CLAIM_NO_QUORUM] = "this node's view has no quorum",
        [CLAIM_NO_OWNER_NOT_PROVEN_DEAD] =
            ("the owner has not released it, is not proven dead and has not been "
             "acknowledged as halted"),
        [CLAIM_NO_NOT_OWNER] = "the highest claim names another instance",
        [CLAIM_NO_RELEASED] = "the claim has been released",
        [CLAIM_NO_NOT_RELEASED_TO_ME] = "the claim is not released to this instance",
        [CLAIM_NO_NOT_TWIN] = "the claim does not name this instance as its twin",
        [CLAIM_NO_LINKS_DOWN] = "this node's own links are down",
        [CLAIM_NO_NO_TWIN] = "the claim names no twin",
        [CLAIM_NO_TWIN_SAME_NODE] = "the twin is on the same node",
        [CLAIM_NO_TWIN_NOT_SYNCED] = "the twin is not fully synced",
        [CLAIM_NO_COMMIT_OFF] = "output commit is not on yet",
        [CLAIM_NO_NOT_DRAINED] = "older output is not complete at the twin yet",
        [CLAIM_NO_MIRROR_STALE] = "this node's mirror of the disks is not in sync",
        [CLAIM_NO_SUSPENDED] = "a suspended state would be lost",
        [CLAIM_NO_NOT_SUSPENDED] = "the VM was not released as suspended",
        [CLAIM_NO_DIGEST_DIFFERS] = "suspend.gms is not the one the release names",
        [CLAIM_NO_LIST_FULL] = "too many displaced owners are not proven dead",
    };

    return TEXT(texts, reason);
}

const char *claim_enter_reason_str(enum claim_enter_reason reason)
{
    static const char *const texts[CLAIM_ENTER_REASON_COUNT] = {
        [CLAIM_ENTER_OK] = "the instance may enter the guest",
        [CLAIM_ENTER_NOT_MINE] = "the claim names another instance",
        [CLAIM_ENTER_SUPERSEDED] = "a higher claim exists",
        [CLAIM_ENTER_RELEASE_SUBMITTED] =
            "a release was submitted: only the next claim brings it back",
        [CLAIM_ENTER_HALTED] =
            "its halt was acknowledged under this epoch: only the next claim thaws it",
    };

    return TEXT(texts, reason);
}

const char *claim_decode_reason_str(enum claim_decode_reason reason)
{
    static const char *const texts[CLAIM_DECODE_REASON_COUNT] = {
        [CLAIM_DECODE_OK] = "valid",
        [CLAIM_DECODE_EMPTY] = "empty",
        [CLAIM_DECODE_TOO_LONG] = "too long for a claim",
        [CLAIM_DECODE_TORN] = "torn: shorter than it says",
        [CLAIM_DECODE_BAD_MAGIC] = "not a claim of Gemel",
        [CLAIM_DECODE_BAD_CRC] = "damaged: a checksum differs",
        [CLAIM_DECODE_BAD_VERSION] = "of a version this program does not know",
        [CLAIM_DECODE_BAD_TYPE] = "of another type than its name says",
        [CLAIM_DECODE_TRAILING] = "followed by other bytes",
        [CLAIM_DECODE_BAD_VALUE] =
            "intact but meaningless (a field has no possible value)",
        [CLAIM_DECODE_WRONG_VM] = "of another VM (the directory was copied, or its VM "
                                  "was deleted): if nothing runs from it, "
                                  "remove its owner.* files",
        [CLAIM_DECODE_WRONG_EPOCH] = "of another epoch than its name says",
    };

    return TEXT(texts, reason);
}

/* A sentence under construction; what does not fit is cut off. */
struct line {
    char *text;
    size_t len;
};

static void line_add(struct line *l, const char *s)
{
    size_t len = strlen(s);
    size_t room = REASON_LEN_MAX - l->len;

    if (len > room) {
        len = room;
    }
    memcpy(l->text + l->len, s, len);
    l->len += len;
    l->text[l->len] = '\0';
}

static void line_add_u64(struct line *l, uint64_t v)
{
    char digits[21];
    size_t i = sizeof(digits) - 1;

    digits[i] = '\0';
    do {
        digits[--i] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    line_add(l, &digits[i]);
}

/* The first eight digits name an instance well enough for a person. */
static void line_add_instance(struct line *l, struct uuid u)
{
    char text[UUID_STR_LEN + 1];

    uuid_format(u, text);
    text[8] = '\0';
    line_add(l, text);
}

static void line_add_owner(struct line *l, const struct claim *top)
{
    line_add(l, "node ");
    line_add(l, top->node_name);
    line_add(l, " owns it at epoch ");
    line_add_u64(l, top->epoch);
    line_add(l, " (instance ");
    line_add_instance(l, top->owner.instance);
    line_add(l, ")");
}

static const char *what_next(enum claim_reason reason)
{
    static const char *const texts[CLAIM_REASON_COUNT] = {
        [CLAIM_NO_QUORUM] =
            "bring the other nodes back; nothing starts without a majority",
        [CLAIM_NO_NOT_OWNER] = "this instance is discarded",
        [CLAIM_NO_RELEASED] = "only its destination, or a take-back, goes on from here",
        [CLAIM_NO_LINKS_DOWN] = "it waits for its links, or for its primary",
        [CLAIM_NO_MIRROR_STALE] =
            "start it on a node whose copy counts (gemel vm show), or give up what was "
            "written since this one was in sync: gemel vm start --node NODE "
            "--accept-copy",
        [CLAIM_NO_SUSPENDED] = "resume it, or discard the suspended state explicitly",
        [CLAIM_NO_DIGEST_DIFFERS] = "restore the right suspend.gms, or discard it",
        [CLAIM_NO_LIST_FULL] = "fence or confirm-off the nodes it lists",
    };

    return (unsigned)reason < CLAIM_REASON_COUNT ? texts[reason] : NULL;
}

void claim_explain(const struct claim_view *view, const struct claim_verdict *verdict,
                   char text[static REASON_LEN_MAX + 1])
{
    struct line l = {.text = text, .len = 0};
    const struct claim *top = view->highest;
    const char *next = what_next(verdict->reason);

    text[0] = '\0';
    line_add(&l, claim_kind_str(view->kind));
    if (verdict->may) {
        line_add(&l, ": may take epoch ");
        line_add_u64(&l, verdict->claim.epoch);
        line_add(&l, ": ");
        line_add(&l, claim_basis_str(verdict->basis));
        if (verdict->basis == CLAIM_BASIS_PROOF) {
            line_add(&l, " (");
            line_add(&l, proof_kind_str(verdict->proof));
            line_add(&l, ")");
        }
        return;
    }
    line_add(&l, " refused: ");
    line_add(&l, claim_reason_str(verdict->reason));
    if (top && verdict->reason != CLAIM_NO_BAD_VIEW) {
        line_add(&l, "; ");
        line_add_owner(&l, top);
    }
    if (verdict->reason == CLAIM_NO_OWNER_NOT_PROVEN_DEAD && top) {
        line_add(&l, "; fence it, or if it is off: gemel node confirm-off ");
        line_add(&l, top->node_name);
        line_add(&l, " --reason TEXT");
    } else if (next) {
        line_add(&l, "; ");
        line_add(&l, next);
    }
}
