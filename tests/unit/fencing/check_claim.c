/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claims and proofs: each rule's reasons, the texts people read, codecs with golden
 * bytes. That the rules are the right ones is tests/model's matter.
 */
#include "fencing/claim.h"

#include <errno.h>
#include <string.h>

#include "base/uuid.h"
#include "tests/unit/golden.h"
#include "tests/unit/unit.h"

#define PROOFS 8
#define SETTLE UINT64_C(1000)
#define NOW    UINT64_C(10000)

static const struct uuid VM = {{0xAA, 1}};

static struct claim_who node(uint8_t id)
{
    return (struct claim_who){
        .node_id = id, .inc = {{{0xB0, id}}, 1}, .instance = {{0xC0, id}}};
}

/* A world that the tests bend: claim 5 of node 1, node 2 wants to start. */
struct world {
    struct claim top;
    struct claim_release rel;
    struct proof proofs[PROOFS];
    struct proof_stopped stopped[PROOFS];
    struct proof_table table;
    struct claim_halt halts[4];
    struct claim_view view;
    struct claim_verdict out;
};

static void world_init(struct world *w)
{
    memset(w, 0, sizeof(*w));
    w->top = (struct claim){.vm = VM,
                            .epoch = 5,
                            .attempt = {{0xD0, 5}},
                            .node_name = "n1",
                            .owner = node(1)};
    w->rel = (struct claim_release){.vm = VM, .epoch = 5, .instance = node(1).instance};
    w->table = (struct proof_table){
        .proofs = w->proofs, .cap = PROOFS, .stopped = w->stopped, .stopped_cap = PROOFS};
    w->view = (struct claim_view){
        .vm = VM,
        .kind = CLAIM_RESTART,
        .me = node(2),
        .node_name = "n2",
        .attempt = {{0xD0, 6}},
        .highest = &w->top,
        .quorate = true,
        .evidence = {.proofs = &w->table,
                     .halts = w->halts,
                     .now_ns = NOW,
                     .settle_ns = SETTLE},
    };
}

static enum claim_reason ask(struct world *w)
{
    claim_may_take(&w->view, &w->out);
    ck_assert_int_eq(w->out.may, w->out.reason == CLAIM_OK);
    return w->out.reason;
}

static void prove(struct world *w, uint8_t id, enum proof_kind kind, uint64_t known_ns)
{
    const struct proof p = {
        .kind = kind, .node_id = id, .inc = node(id).inc, .known_ns = known_ns};

    ck_assert_int_eq(proof_table_add(&w->table, &p, NULL, 0), 0);
}

static void halt(struct world *w, uint8_t id, uint64_t epoch, enum claim_halt_kind kind)
{
    w->halts[w->view.evidence.halt_count++] =
        (struct claim_halt){VM, epoch, node(id).instance, kind};
}

START_TEST(cold_boot_needs_a_permission)
{
    struct world w;
    char text[REASON_LEN_MAX + 1];

    world_init(&w);
    ck_assert_int_eq(ask(&w), CLAIM_NO_OWNER_NOT_PROVEN_DEAD);
    claim_explain(&w.view, &w.out, text);
    ck_assert_str_eq(
        text, "restart refused: the owner has not released it, is not proven dead "
              "and has not been acknowledged as halted; node n1 owns it at epoch 5 "
              "(instance c0010000); fence it, or if it is off: gemel node "
              "confirm-off n1 --reason TEXT");

    prove(&w, 1, PROOF_FENCED_OFF, NOW);
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    ck_assert_int_eq(w.out.basis, CLAIM_BASIS_PROOF);
    ck_assert_uint_eq(w.out.claim.epoch, 6);
    ck_assert_str_eq(w.out.claim.node_name, "n2");
    /* Dead is not drained: the owner stays listed, and the disk waits. */
    ck_assert_uint_eq(w.out.claim.unexcluded_count, 1);

    struct claim_disk_verdict disk;

    claim_may_touch_disk(&w.out.claim, &w.view.evidence, &disk);
    ck_assert_int_eq(disk.reason, CLAIM_DISK_SETTLING);
    ck_assert_uint_eq(disk.until_ns, NOW + SETTLE);
    w.view.evidence.now_ns = NOW + SETTLE;
    claim_may_touch_disk(&w.out.claim, &w.view.evidence, &disk);
    ck_assert_int_eq(disk.reason, CLAIM_DISK_OK);
    claim_explain(&w.view, &w.out, text);
    ck_assert_ptr_nonnull(strstr(text, "may take epoch 6: the owner is proven dead"));

    world_init(&w);
    halt(&w, 1, 4, CLAIM_HALT_FROZEN); /* an older epoch */
    ck_assert_int_eq(ask(&w), CLAIM_NO_OWNER_NOT_PROVEN_DEAD);
    halt(&w, 1, 5, CLAIM_HALT_GONE);
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    ck_assert_int_eq(w.out.basis, CLAIM_BASIS_HALTED);
    ck_assert_uint_eq(w.out.claim.unexcluded_count, 0); /* drained */

    world_init(&w);
    w.view.highest = NULL;
    w.view.kind = CLAIM_START;
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    ck_assert_uint_eq(w.out.claim.epoch, 1);
    w.view.quorate = false;
    ck_assert_int_eq(ask(&w), CLAIM_NO_QUORUM);
    w.view.quorate = true;
    w.view.kind = CLAIM_RESUME;
    ck_assert_int_eq(ask(&w), CLAIM_NO_NOT_SUSPENDED);
}
END_TEST

/* A VM in a directory that was another one's: whoever is not proven gone there, stops it
 * as well. */
START_TEST(a_directory_is_inherited)
{
    static const struct uuid heir = {{0xEE, 7}};
    struct claim_release release = {.vm = VM, .epoch = 5, .instance = node(1).instance};
    struct world w;

    world_init(&w);
    w.view.kind = CLAIM_START;
    claim_may_inherit(&w.view, heir, false, &w.out);
    ck_assert_int_eq(w.out.reason, CLAIM_NO_OWNER_NOT_PROVEN_DEAD);
    ck_assert(!w.out.may);

    w.view.release = &release;
    claim_may_inherit(&w.view, heir, false, &w.out);
    ck_assert(w.out.may);
    ck_assert(uuid_equal(w.out.claim.vm, heir));
    ck_assert_uint_eq(w.out.claim.epoch, 6);        /* the same row: a late link loses */
    claim_may_inherit(&w.view, heir, true, &w.out); /* it is still defined */
    ck_assert_int_eq(w.out.reason, CLAIM_NO_NOT_OWNER);
    ck_assert(!w.out.may);
    claim_may_inherit(&w.view, VM, false, &w.out); /* it is no other */
    ck_assert_int_eq(w.out.reason, CLAIM_NO_BAD_VIEW);
    w.view.kind = CLAIM_RESUME; /* not its state */
    claim_may_inherit(&w.view, heir, false, &w.out);
    ck_assert_int_eq(w.out.reason, CLAIM_NO_BAD_VIEW);
    w.view.kind = CLAIM_START;
    release.suspended = true;
    claim_may_inherit(&w.view, heir, false, &w.out);
    ck_assert_int_eq(w.out.reason, CLAIM_NO_SUSPENDED);
    w.view.discard_suspended = true;
    claim_may_inherit(&w.view, heir, false, &w.out);
    ck_assert(w.out.may);
    release.suspended = false;
    release.to = node(3).instance; /* a migration that may have ended there */
    claim_may_inherit(&w.view, heir, false, &w.out);
    ck_assert(!w.out.may);
    w.view.quorate = false;
    release.to = (struct uuid){{0}};
    claim_may_inherit(&w.view, heir, false, &w.out);
    ck_assert_int_eq(w.out.reason, CLAIM_NO_QUORUM);

    /* Dead is not drained: what was displaced there stays listed for this one. */
    world_init(&w);
    w.view.kind = CLAIM_START;
    prove(&w, 1, PROOF_FENCED_OFF, NOW);
    claim_may_inherit(&w.view, heir, false, &w.out);
    ck_assert(w.out.may);
    ck_assert_uint_eq(w.out.claim.unexcluded_count, 1);
}
END_TEST

START_TEST(releases_name_who_goes_on)
{
    struct world w;
    uint8_t digest[CLAIM_DIGEST_LEN] = {1, 2, 3};

    world_init(&w);
    w.view.release = &w.rel;
    ck_assert_int_eq(ask(&w), CLAIM_OK); /* to anyone */
    ck_assert_int_eq(w.out.basis, CLAIM_BASIS_RELEASED);
    ck_assert_uint_eq(w.out.claim.unexcluded_count, 0);
    w.rel.to = node(3).instance;
    ck_assert_int_eq(ask(&w), CLAIM_NO_OWNER_NOT_PROVEN_DEAD);
    w.view.kind = CLAIM_MIGRATE_IN;
    w.view.quorate = false; /* R6: what is here may finish */
    ck_assert_int_eq(ask(&w), CLAIM_NO_NOT_RELEASED_TO_ME);
    w.rel.to = node(2).instance;
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    w.rel.epoch = 4; /* of another epoch: it means nothing */
    ck_assert_int_eq(ask(&w), CLAIM_NO_NOT_RELEASED_TO_ME);
    w.rel.epoch = 5;
    w.rel.instance = node(7).instance; /* not made by the owner */
    ck_assert_int_eq(ask(&w), CLAIM_NO_NOT_RELEASED_TO_ME);

    world_init(&w);
    w.view.release = &w.rel;
    w.rel.suspended = true;
    memcpy(w.rel.digest, digest, sizeof digest);
    ck_assert_int_eq(ask(&w), CLAIM_NO_SUSPENDED);
    w.view.discard_suspended = true;
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    w.view.kind = CLAIM_RESUME;
    ck_assert_int_eq(ask(&w), CLAIM_NO_DIGEST_DIFFERS);
    w.view.suspend_digest = digest;
    ck_assert_int_eq(ask(&w), CLAIM_OK);

    /* The source takes back what it released, and nothing else but that. */
    world_init(&w);
    w.view.me = node(1);
    w.view.release = &w.rel;
    w.view.quorate = false;
    w.view.kind = CLAIM_TAKE_BACK;
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    w.view.kind = CLAIM_THAW;
    ck_assert_int_eq(ask(&w), CLAIM_NO_QUORUM);
    w.view.quorate = true;
    ck_assert_int_eq(ask(&w), CLAIM_NO_RELEASED);
    w.view.me = node(2);
    ck_assert_int_eq(ask(&w), CLAIM_NO_NOT_OWNER);
    w.view.me = node(1);
    w.view.kind = CLAIM_RESTART;
    ck_assert_int_eq(ask(&w), CLAIM_NO_INSTANCE_USED);
}
END_TEST

START_TEST(twins)
{
    struct world w;

    world_init(&w);
    w.view.kind = CLAIM_GO_LIVE;
    w.view.quorate = false;
    ck_assert_int_eq(ask(&w), CLAIM_NO_NOT_TWIN);
    w.top.twin = node(2);
    w.view.links_down = true;
    ck_assert_int_eq(ask(&w), CLAIM_NO_LINKS_DOWN);
    w.view.links_down = false;
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    ck_assert(uuid_is_none(w.out.claim.twin.instance));
    ck_assert_uint_eq(w.out.claim.unexcluded_count, 1); /* made without a proof */
    ck_assert_uint_eq(w.out.claim.unexcluded[0].epoch, 5);
    w.view.release = &w.rel; /* stopped on purpose */
    ck_assert_int_eq(ask(&w), CLAIM_NO_RELEASED);

    world_init(&w);
    w.view.me = node(1);
    w.view.kind = CLAIM_GO_ALONE;
    ck_assert_int_eq(ask(&w), CLAIM_NO_NO_TWIN);
    w.top.twin = node(2);
    w.top.mirror_count = 2;
    w.top.mirror_nodes[0] = 1;
    w.top.mirror_nodes[1] = 2;
    w.view.quorate = false;
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    ck_assert(uuid_is_none(w.out.claim.twin.instance));
    ck_assert_uint_eq(w.out.claim.mirror_count, 1);
    ck_assert_uint_eq(w.out.claim.mirror_nodes[0], 1);

    world_init(&w);
    w.view.me = node(1);
    w.view.kind = CLAIM_PROTECT;
    ck_assert_int_eq(ask(&w), CLAIM_NO_BAD_VIEW);
    w.view.twin = node(2);
    w.view.twin.node_id = 1;
    ck_assert_int_eq(ask(&w), CLAIM_NO_TWIN_SAME_NODE);
    w.view.twin = node(2);
    ck_assert_int_eq(ask(&w), CLAIM_NO_TWIN_NOT_SYNCED);
    w.view.twin_synced = true;
    ck_assert_int_eq(ask(&w), CLAIM_NO_COMMIT_OFF);
    w.view.commit_on = true;
    ck_assert_int_eq(ask(&w), CLAIM_NO_NOT_DRAINED);
    w.view.older_drained = true;
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    ck_assert(uuid_equal(w.out.claim.twin.instance, node(2).instance));

    /* Only a mirror that the claim names starts without an operator. */
    world_init(&w);
    w.top.mirror_count = 1;
    w.top.mirror_nodes[0] = 3;
    prove(&w, 1, PROOF_CONFIRM_OFF, 1);
    ck_assert_int_eq(ask(&w), CLAIM_NO_MIRROR_STALE);
    w.view.mirror_override = true;
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    ck_assert_uint_eq(w.out.claim.mirror_count, 1);
    ck_assert_uint_eq(w.out.claim.mirror_nodes[0], w.view.me.node_id);
    w.view.kind = CLAIM_START;
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    w.view.evidence.proofs = NULL; /* it bypasses no other rule */
    ck_assert_int_eq(ask(&w), CLAIM_NO_OWNER_NOT_PROVEN_DEAD);
    w.view.release = &w.rel;
    w.rel.suspended = true;
    ck_assert_int_eq(ask(&w), CLAIM_NO_SUSPENDED);
    w.view.kind = CLAIM_RESUME; /* a memory belongs to the disks that it ran on */
    w.view.suspend_digest = w.rel.digest;
    ck_assert_int_eq(ask(&w), CLAIM_NO_MIRROR_STALE);
    w.top.mirror_nodes[0] = w.view.me.node_id;
    ck_assert_int_eq(ask(&w), CLAIM_OK);
}
END_TEST

START_TEST(the_list_is_inherited_until_excluded)
{
    struct world w;
    struct claim_disk_verdict disk;

    world_init(&w);
    w.top.unexcluded_count = 1;
    w.top.unexcluded[0] = (struct claim_displaced){.who = node(9), .epoch = 4};
    halt(&w, 1, 5, CLAIM_HALT_GONE);
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    ck_assert_uint_eq(w.out.claim.unexcluded_count, 1);
    claim_may_touch_disk(&w.out.claim, &w.view.evidence, &disk);
    ck_assert_int_eq(disk.reason, CLAIM_DISK_UNPROVEN);
    ck_assert_uint_eq(disk.who.who.node_id, 9);

    prove(&w, 9, PROOF_WATCHDOG, NOW - 1); /* proven, not settled: still listed */
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    ck_assert_uint_eq(w.out.claim.unexcluded_count, 1);
    w.view.evidence.now_ns = NOW + SETTLE;
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    ck_assert_uint_eq(w.out.claim.unexcluded_count, 0);
    w.view.evidence.settle_ns = UINT64_MAX; /* time excludes nothing on this storage */
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    ck_assert_uint_eq(w.out.claim.unexcluded_count, 1);

    const struct uuid fenced[] = {node(9).instance};

    w.view.evidence.fenced_by_storage = fenced;
    w.view.evidence.fenced_by_storage_count = 1;
    ck_assert_int_eq(ask(&w), CLAIM_OK);
    ck_assert_uint_eq(w.out.claim.unexcluded_count, 0);

    world_init(&w); /* a displaced instance is out for good */
    w.top.unexcluded_count = 1;
    w.top.unexcluded[0] = (struct claim_displaced){.who = node(2), .epoch = 4};
    w.top.twin = node(2);
    w.view.kind = CLAIM_GO_LIVE;
    ck_assert_int_eq(ask(&w), CLAIM_NO_BAD_VIEW);

    world_init(&w);
    w.top.unexcluded_count = CLAIM_UNEXCLUDED_MAX;
    for (uint8_t i = 0; i < CLAIM_UNEXCLUDED_MAX; i++) {
        w.top.unexcluded[i] = (struct claim_displaced){
            .who = {.node_id = 1, .inc = {{{0xB0, 1}}, 1}, .instance = {{0xE0, i}}},
            .epoch = 1};
    }
    prove(&w, 1, PROOF_FENCED_OFF, NOW);
    ck_assert_int_eq(ask(&w), CLAIM_NO_LIST_FULL);
}
END_TEST

START_TEST(entering_the_guest)
{
    struct claim won = {.vm = VM, .epoch = 6, .owner = node(2)}, higher = won;
    struct claim_halt h = {VM, 6, node(2).instance, CLAIM_HALT_FROZEN};
    struct claim_enter e = {.won = &won, .me = node(2).instance};

    ck_assert_int_eq(claim_may_enter(&e), CLAIM_ENTER_OK);
    e.me = node(3).instance;
    ck_assert_int_eq(claim_may_enter(&e), CLAIM_ENTER_NOT_MINE);
    e.me = node(2).instance;
    higher.epoch = 7;
    e.highest = &higher;
    ck_assert_int_eq(claim_may_enter(&e), CLAIM_ENTER_SUPERSEDED);
    e.highest = &won;
    e.release_submitted_epoch = 6;
    ck_assert_int_eq(claim_may_enter(&e), CLAIM_ENTER_RELEASE_SUBMITTED);
    e.release_submitted_epoch = 5;
    e.halts = &h;
    e.halt_count = 1;
    ck_assert_int_eq(claim_may_enter(&e), CLAIM_ENTER_HALTED);
    h.epoch = 5; /* thawed by the claim of epoch 6 */
    ck_assert_int_eq(claim_may_enter(&e), CLAIM_ENTER_OK);
    h.kind = CLAIM_HALT_GONE;
    ck_assert_int_eq(claim_may_enter(&e), CLAIM_ENTER_HALTED);

    struct claim other = won;

    other.attempt = (struct uuid){{1}};
    ck_assert_int_eq(claim_outcome_of(&won, NULL), CLAIM_OUTCOME_UNKNOWN);
    ck_assert_int_eq(claim_outcome_of(&won, &won), CLAIM_OUTCOME_WON);
    ck_assert_int_eq(claim_outcome_of(&won, &other), CLAIM_OUTCOME_LOST);
}
END_TEST

START_TEST(proofs_name_an_incarnation)
{
    struct world w;
    struct proof_answer a;
    struct proof p = {
        .kind = PROOF_FENCED_OFF, .node_id = 1, .inc = {{{0xB0, 1}}, 1}, .known_ns = 50};
    struct incarnation newer = {{{0xB1, 1}}, 1}, rejoined = {{{0xB0, 1}}, 2};

    world_init(&w);
    ck_assert(!proof_is_dead(&w.table, 1, &p.inc, &a));
    ck_assert_int_eq(proof_table_add(&w.table, &p, NULL, 0), 0);
    p.known_ns = 70; /* a duplicate changes nothing */
    ck_assert_int_eq(proof_table_add(&w.table, &p, NULL, 0), 0);
    ck_assert_uint_eq(w.table.count, 1);
    ck_assert(proof_is_dead(&w.table, 1, &p.inc, &a));
    ck_assert_uint_eq(a.known_ns, 50);
    ck_assert(!proof_is_dead(&w.table, 1, &newer, &a));
    ck_assert(!proof_is_dead(&w.table, 2, &p.inc, &a));

    p.kind = PROOF_RETURNED;
    p.returned_as = rejoined; /* the same boot: a VMM may have outlived its agent */
    ck_assert_int_eq(proof_table_add(&w.table, &p, NULL, 0), -EINVAL);
    p.returned_as = newer;
    ck_assert_int_eq(proof_table_add(&w.table, &p, NULL, 0), 0);

    struct proof_stopped stopped = {VM, 5, node(3).instance};
    struct proof clean = {.kind = PROOF_CLEAN_STOP, .node_id = 3, .inc = node(3).inc};

    ck_assert_int_eq(proof_table_add(&w.table, &clean, &stopped, 1), 0);
    ck_assert(!proof_is_dead(&w.table, 3, &clean.inc, &a));
    ck_assert(proof_covers(&w.table, 3, &clean.inc, VM, 5, node(3).instance, &a) &&
              a.drained);
    ck_assert(!proof_covers(&w.table, 3, &clean.inc, VM, 6, node(3).instance, &a));
    ck_assert(!proof_covers(&w.table, 3, &clean.inc, VM, 5, node(4).instance, &a));
    proof_table_forget(&w.table, 1, &p.inc);
    ck_assert_uint_eq(w.table.count, 1);
    ck_assert(proof_covers(&w.table, 3, &clean.inc, VM, 5, node(3).instance, &a));

    clean.kind = PROOF_KIND_COUNT;
    ck_assert_int_eq(proof_table_add(&w.table, &clean, NULL, 0), -EINVAL);
    for (uint8_t i = 10; i < 10 + PROOFS - 1; i++) {
        prove(&w, i, PROOF_FENCED_OFF, 1);
    }
    clean = (struct proof){.kind = PROOF_FENCED_OFF, .node_id = 99, .inc = node(99).inc};
    ck_assert_int_eq(proof_table_add(&w.table, &clean, NULL, 0), -ENOSPC);
}
END_TEST

START_TEST(the_watchdog_and_the_operator)
{
    const struct proof_wdog good = {
        .hardware = true,
        .published_as_proof = true,
        .view_quorate = true,
        .expected_votes = 3,
        .bound_ns = 5000,
        .margin_ns = 500,
        .last_receipt_ns = 1000,
    };
    struct proof_wdog w = good;
    uint64_t due_ns = 0;

    ck_assert_int_eq(proof_wdog_elapsed(&w, 6499, &due_ns), PROOF_WDOG_WAIT);
    ck_assert_uint_eq(due_ns, 6500);
    ck_assert_int_eq(proof_wdog_elapsed(&w, 6500, &due_ns), PROOF_WDOG_ELAPSED);
#define REFUSED(change, reason)                                                          \
    do {                                                                                 \
        w = good;                                                                        \
        change;                                                                          \
        ck_assert_int_eq(proof_wdog_elapsed(&w, 9000, &due_ns), reason);                 \
    } while (0)
    REFUSED(w.hardware = false, PROOF_WDOG_NOT_HARDWARE);
    REFUSED(w.published_as_proof = false, PROOF_WDOG_NOT_PUBLISHED);
    REFUSED(w.withdrawn = true, PROOF_WDOG_WITHDRAWN);
    REFUSED(w.hypervisor = true, PROOF_WDOG_HYPERVISOR);
    REFUSED(w.hypervisor = w.hypervisor_override = true, PROOF_WDOG_ELAPSED);
    REFUSED(w.view_quorate = false, PROOF_WDOG_NO_QUORUM);
    REFUSED(w.view_has_target = true, PROOF_WDOG_IN_VIEW);
    REFUSED(w.expected_votes = 2, PROOF_WDOG_TWO_NODES);
    REFUSED((w.expected_votes = 2, w.has_arbiter = true), PROOF_WDOG_ELAPSED);
    REFUSED(w.last_receipt_ns = 0, PROOF_WDOG_NO_RECEIPT);
    REFUSED(w.bound_ns = UINT64_MAX, PROOF_WDOG_WAIT);

    ck_assert_int_eq(proof_confirm_check("n1", "n1", "pulled the plug", false),
                     PROOF_CONFIRM_OK);
    ck_assert_int_eq(proof_confirm_check("n1", "n2", "x", false),
                     PROOF_CONFIRM_NAME_DIFFERS);
    ck_assert_int_eq(proof_confirm_check("n1", NULL, "x", false),
                     PROOF_CONFIRM_NAME_DIFFERS);
    ck_assert_int_eq(proof_confirm_check("n1", "n1", " \n", false),
                     PROOF_CONFIRM_NO_REASON);
    ck_assert_int_eq(proof_confirm_check("n1", "n1", "x", true),
                     PROOF_CONFIRM_NODE_ANSWERS);
}
END_TEST

/* Codecs -------------------------------------------------------------------------------
 */

static struct claim golden_claim(void)
{
    struct claim c = {.vm = VM,
                      .epoch = 17,
                      .attempt = {{0xD0, 17}},
                      .node_name = "alpha",
                      .owner = node(1),
                      .twin = node(2),
                      .mirror_count = 2,
                      .mirror_nodes = {1, 2},
                      .unexcluded_count = 1};

    c.unexcluded[0] = (struct claim_displaced){.who = node(3), .epoch = 15};
    return c;
}

static struct claim_release golden_release(void)
{
    struct claim_release r = {
        .vm = VM, .epoch = 17, .instance = node(1).instance, .suspended = true};

    memset(r.digest, 0x5A, sizeof r.digest);
    return r;
}

static struct proof golden_proof(void)
{
    return (struct proof){.kind = PROOF_CLEAN_STOP,
                          .node_id = 1,
                          .inc = node(1).inc,
                          .source = "alpha",
                          .reason = "gemel cluster stop",
                          .stopped_count = 1};
}

static const struct proof_stopped GOLDEN_STOPPED = {{{0xAA, 1}}, 17, {{0xC0, 1}}};

static void same_as_golden(const char *name, const uint8_t *bytes, size_t len)
{
    size_t want_len;
    unsigned char *want = golden_load(name, &want_len);

    ck_assert_uint_eq(len, want_len);
    ck_assert_mem_eq(bytes, want, len);
    free(want);
}

START_TEST(golden_bytes)
{
    uint8_t buf[CLAIM_ENCODED_MAX];
    const struct claim c = golden_claim();
    const struct claim_release r = golden_release();
    const struct proof p = golden_proof();
    struct proof_stopped stopped[PROOF_STOPPED_MAX];
    struct claim c2;
    struct claim_release r2;
    struct proof p2;
    size_t len, used;

    len = claim_encode(&c, buf, sizeof buf);
    same_as_golden("wire/v1/claim.bin", buf, len);
    ck_assert_int_eq(claim_decode(buf, len, VM, 17, &c2), CLAIM_DECODE_OK);
    ck_assert_mem_eq(&c, &c2, sizeof c);
    ck_assert_int_eq(claim_decode(buf, len, VM, 18, &c2), CLAIM_DECODE_WRONG_EPOCH);
    ck_assert_int_eq(claim_decode(buf, len, node(1).instance, 17, &c2),
                     CLAIM_DECODE_WRONG_VM);
    ck_assert_int_eq(claim_release_decode(buf, len, VM, 17, &r2), CLAIM_DECODE_BAD_TYPE);

    len = claim_release_encode(&r, buf, sizeof buf);
    same_as_golden("wire/v1/release.bin", buf, len);
    ck_assert_int_eq(claim_release_decode(buf, len, VM, 17, &r2), CLAIM_DECODE_OK);
    ck_assert_mem_eq(&r, &r2, sizeof r);

    len = proof_encode(&p, &GOLDEN_STOPPED, buf, sizeof buf);
    same_as_golden("wire/v1/proof.bin", buf, len);
    ck_assert_int_eq(proof_decode(buf, len, &p2, stopped, &used), PROOF_DECODE_OK);
    ck_assert_uint_eq(used, len);
    ck_assert_mem_eq(&p, &p2, sizeof p);
    ck_assert_mem_eq(stopped, &GOLDEN_STOPPED, sizeof GOLDEN_STOPPED);
}
END_TEST

START_TEST(every_flipped_bit_and_every_cut_is_refused)
{
    uint8_t buf[CLAIM_ENCODED_MAX];
    const struct claim c = golden_claim();
    const struct proof p = golden_proof();
    struct proof_stopped stopped[PROOF_STOPPED_MAX];
    struct claim c2;
    struct proof p2;
    size_t used, len = claim_encode(&c, buf, sizeof buf);

    for (size_t bit = 0; bit < len * 8; bit++) {
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (claim_decode(buf, len, VM, 17, &c2) == CLAIM_DECODE_OK) {
            ck_abort_msg("bit %zu", bit);
        }
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++) {
        enum claim_decode_reason why = claim_decode(buf, cut, VM, 17, &c2);

        ck_assert_int_eq(why, cut == 0 ? CLAIM_DECODE_EMPTY : CLAIM_DECODE_TORN);
    }
    len = proof_encode(&p, &GOLDEN_STOPPED, buf, sizeof buf);
    for (size_t bit = 0; bit < len * 8; bit++) {
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (proof_decode(buf, len, &p2, stopped, &used) == PROOF_DECODE_OK) {
            ck_abort_msg("bit %zu", bit);
        }
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
END_TEST

START_TEST(insane_claims_are_not_written)
{
    uint8_t buf[CLAIM_ENCODED_MAX];
    struct claim c;

#define INSANE(change)                                                                   \
    do {                                                                                 \
        c = golden_claim();                                                              \
        change;                                                                          \
        ck_assert_uint_eq(claim_encode(&c, buf, sizeof buf), 0);                         \
    } while (0)
    INSANE(c.epoch = 0);
    INSANE(memset(&c.vm, 0, sizeof c.vm));
    INSANE(memset(&c.attempt, 0, sizeof c.attempt));
    INSANE(c.node_name[0] = '\0');
    INSANE(c.node_name[0] = '\x1b');
    INSANE(memset(c.node_name, 'x', sizeof c.node_name));
    INSANE(c.twin = c.owner);
    INSANE(c.twin.node_id = 0);
    INSANE(c.mirror_count = CLAIM_MIRRORS_MAX + 1);
    INSANE(c.mirror_nodes[1] = c.mirror_nodes[0]);
    INSANE(c.unexcluded_count = CLAIM_UNEXCLUDED_MAX + 1);
    INSANE(c.unexcluded[0].epoch = 17);
    INSANE(c.unexcluded[0].who = c.owner);
    INSANE((c.unexcluded_count = 2, c.unexcluded[1] = c.unexcluded[0]));
    c = golden_claim();
    ck_assert_uint_eq(claim_encode(&c, buf, 100), 0); /* no room */

    struct claim_release r = golden_release();

    r.to = node(2).instance; /* suspended and migrated exclude each other */
    ck_assert_uint_eq(claim_release_encode(&r, buf, sizeof buf), 0);
    r.suspended = false;
    ck_assert_uint_gt(claim_release_encode(&r, buf, sizeof buf), 0);
}
END_TEST

/* Every number has its words; one beyond the last has none. */
START_TEST(texts)
{
    for (unsigned i = 0; i < CLAIM_REASON_COUNT; i++) {
        ck_assert_str_ne(claim_reason_str((enum claim_reason)i), "unknown");
    }
    for (unsigned i = 0; i < CLAIM_DECODE_REASON_COUNT; i++) {
        ck_assert_str_ne(claim_decode_reason_str((enum claim_decode_reason)i), "unknown");
    }
    for (unsigned i = 0; i < PROOF_KIND_COUNT; i++) {
        ck_assert_str_ne(proof_kind_str((enum proof_kind)i), "unknown");
    }
    for (unsigned i = 0; i < PROOF_WDOG_REASON_COUNT; i++) {
        ck_assert_str_ne(proof_wdog_reason_str((enum proof_wdog_reason)i), "unknown");
    }
    for (unsigned i = 0; i < CLAIM_KIND_COUNT; i++) {
        ck_assert_str_ne(claim_kind_str((enum claim_kind)i), "unknown");
    }
    ck_assert_str_eq(claim_reason_str((enum claim_reason)999), "unknown");
    ck_assert_str_eq(claim_kind_str((enum claim_kind)999), "unknown");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("claim");
    TCase *tc = tcase_create("rules");

    tcase_add_test(tc, cold_boot_needs_a_permission);
    tcase_add_test(tc, a_directory_is_inherited);
    tcase_add_test(tc, releases_name_who_goes_on);
    tcase_add_test(tc, twins);
    tcase_add_test(tc, the_list_is_inherited_until_excluded);
    tcase_add_test(tc, entering_the_guest);
    tcase_add_test(tc, proofs_name_an_incarnation);
    tcase_add_test(tc, the_watchdog_and_the_operator);
    tcase_add_test(tc, golden_bytes);
    tcase_add_test(tc, every_flipped_bit_and_every_cut_is_refused);
    tcase_add_test(tc, insane_claims_are_not_written);
    tcase_add_test(tc, texts);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
