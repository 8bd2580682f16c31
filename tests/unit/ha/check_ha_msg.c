/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "ha/ha_msg.h"
#include "tests/unit/unit.h"

static uint8_t frame[CPG_MSG_MAX], again[CPG_MSG_MAX];

static struct ha_msg sample(enum ha_msg_type type)
{
    static const char yaml[] = "name: web1\n";
    struct ha_msg m = {.type = type};

    m.from = (struct ha_msg_from){.ring = {1, 99}, .nodeid = 2, .term = 5, .version = 77};
    m.from.incarnation.join = 3;
    switch (type) {
    case HA_MSG_SUMMARY:
        snprintf(m.summary.name, sizeof m.summary.name, "%s", "n2");
        m.summary.proto_version = 1;
        m.summary.memory_bytes = 1 << 30;
        m.summary.vm_count = 2;
        break;
    case HA_MSG_SYNC:
        m.sync.term = 6;
        m.sync.coordinator = m.sync.source = 1;
        m.sync.participant_count = 2;
        m.sync.participant[1].nodeid = 2;
        break;
    case HA_MSG_SNAP_ITEM:
    case HA_MSG_UPDATE:
        m.item.kind = HA_ITEM_VM;
        m.item.version = 78;
        m.item.body = (const uint8_t *)yaml;
        m.item.body_len = sizeof yaml - 1;
        snprintf(m.item.event, sizeof m.item.event, "%s", "web1: defined");
        break;
    case HA_MSG_VM_REPORT:
        m.vm_report.outcome = HA_OUTCOME_ENDED;
        m.vm_report.guest_shutdown = true;
        m.vm_report.filling = true;
        snprintf(m.vm_report.text, sizeof m.vm_report.text, "%s",
                 "the guest powered off");
        break;
    case HA_MSG_FENCE_REPORT:
        m.fence_report.result = HA_FENCE_OK;
        m.fence_report.target = 3;
        break;
    case HA_MSG_OP:
        snprintf(m.op.verb, sizeof m.op.verb, "%s", "vm apply");
        m.op.body = yaml;
        m.op.body_len = sizeof yaml - 1;
        break;
    case HA_MSG_OP_RESULT:
        m.op_result.exit_code = 4;
        snprintf(m.op_result.text, sizeof m.op_result.text, "%s", "no");
        break;
    case HA_MSG_PROGRESS:
        m.progress.move.percent = 99;
        m.progress.move.missing = 15 << 20;
        m.progress.move.faults = 300;
        break;
    case HA_MSG_TWIN_LOOK:
        m.twin_look = (struct ha_twin_look){.to = 2,
                                            .step = HA_TWIN_LOOK_SIZES,
                                            .disk[1] = {.bytes = 4096, .used = 512},
                                            .text = "its disk is not there"};
        break;
    case HA_MSG_NODE_CPU:
    case HA_MSG_NODE_KVM:
        m.cpu.text = "vendor=X features=fpu";
        m.cpu.len = 21;
        break;
    default:
        m.number = 42;
        break;
    }
    return m;
}

/* decode(encode(x)) encodes to the same bytes again. */
START_TEST(round_trip)
{
    static const struct ha_local_vm vms[2] = {{.epoch = 4, .state = HA_LOCAL_RUNNING},
                                              {.epoch = 5, .state = HA_LOCAL_FROZEN}};
    struct ha_local_vm back[2];
    struct ha_msg m = sample((enum ha_msg_type)_i), d;
    size_t len = ha_msg_encode(&m, vms, 9, frame, sizeof frame);

    ck_assert_uint_gt(len, 0);
    ck_assert_ptr_null(ha_msg_decode(frame, len, &d));
    ck_assert_int_eq(d.type, m.type);
    ck_assert_uint_eq(d.from.version, 77);
    if (d.type == HA_MSG_SUMMARY) {
        back[0] = ha_summary_vm(&d.summary, 0);
        back[1] = ha_summary_vm(&d.summary, 1);
        ck_assert_uint_eq(back[1].epoch, 5);
        ck_assert_int_eq(back[1].state, HA_LOCAL_FROZEN);
    }
    ck_assert_uint_eq(ha_msg_encode(&d, back, 9, again, sizeof again), len);
    ck_assert_mem_eq(frame, again, len);
}
END_TEST

/* What came later changes nothing of what others say. */
START_TEST(who_is_waited_for)
{
    struct ha_msg m = sample(HA_MSG_VM_REPORT), d;
    size_t len = ha_msg_encode(&m, NULL, 9, frame, sizeof frame), more;

    m.vm_report.outcome = HA_OUTCOME_HOLDS;
    m.vm_report.held.node_id = 2;
    m.vm_report.held.inc.join = 7;
    m.vm_report.held.instance.b[3] = 5;
    more = ha_msg_encode(&m, NULL, 9, frame, sizeof frame);
    ck_assert_uint_eq(more, len + 4 + 24 + 16);
    ck_assert_ptr_null(ha_msg_decode(frame, more, &d));
    ck_assert_mem_eq(&d.vm_report.held, &m.vm_report.held, sizeof m.vm_report.held);
    m.vm_report.held.node_id = 0;
    more = ha_msg_encode(&m, NULL, 9, frame, sizeof frame);
    ck_assert_str_eq(ha_msg_decode(frame, more, &d), "vm report: held by nobody");
}
END_TEST

START_TEST(which_copies_count)
{
    struct ha_msg m = sample(HA_MSG_VM_REPORT), d;
    size_t len = ha_msg_encode(&m, NULL, 9, frame, sizeof frame), more;

    m.vm_report.mirror[0] = 2;
    m.vm_report.mirror[1] = 7;
    more = ha_msg_encode(&m, NULL, 9, frame, sizeof frame);
    ck_assert_uint_eq(more, len + sizeof m.vm_report.mirror);
    ck_assert_ptr_null(ha_msg_decode(frame, more, &d));
    ck_assert_mem_eq(d.vm_report.mirror, m.vm_report.mirror, sizeof m.vm_report.mirror);
}
END_TEST

/* Every truncation and every flipped bit is refused; exact-size copies let the sanitizer
 * see a read too far. */
START_TEST(damage_is_refused)
{
    static const struct ha_local_vm vms[2] = {{.epoch = 4}, {.epoch = 5}};
    struct ha_msg m = sample((enum ha_msg_type)_i), d;
    size_t len = ha_msg_encode(&m, vms, 9, frame, sizeof frame);

    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *exact = malloc(cut == 0 ? 1 : cut);

        memcpy(exact, frame, cut);
        ck_assert_ptr_nonnull(ha_msg_decode(exact, cut, &d));
        free(exact);
    }
    for (size_t bit = 0; bit < len * 8; bit++) {
        frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (ha_msg_decode(frame, len, &d) == NULL) {
            ck_abort_msg("a flipped bit %zu of type %d was taken", bit, _i);
        }
        frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
END_TEST

START_TEST(too_large_is_not_sent)
{
    static char body[CPG_MSG_MAX];
    struct ha_msg m = sample(HA_MSG_OP);

    m.op.body = body;
    m.op.body_len = sizeof body;
    ck_assert_uint_eq(ha_msg_encode(&m, NULL, 1, frame, sizeof frame), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_msg");
    TCase *tc = tcase_create("codec");

    tcase_add_loop_test(tc, round_trip, HA_MSG_SUMMARY, HA_MSG_TWIN_LOOK + 1);
    tcase_add_loop_test(tc, damage_is_refused, HA_MSG_SUMMARY, HA_MSG_TWIN_LOOK + 1);
    tcase_add_test(tc, who_is_waited_for);
    tcase_add_test(tc, which_copies_count);
    tcase_add_test(tc, too_large_is_not_sent);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
