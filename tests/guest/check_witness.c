/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The oracles against made-up traces: what is broken must be found (two live copies, lost
 * writes, old epochs), and what is sound must pass. A witness that cannot fail proves
 * nothing.
 */
#include "tests/unit/unit.h"

#include <string.h>

#include "tests/guest/witness_checks.h"

#define MS UINT64_C(1000000)

/* Two live copies
 * ------------------------------------------------------------------------- */

static struct dual dual;

static void frame(const char *tap, uint64_t t_ms)
{
    dual_add(&dual, &(struct dual_event){.t_ns = t_ms * MS,
                                         .emitter = dual_emitter(&dual, tap)});
}

static void frame_with_epoch(const char *tap, uint64_t t_ms, uint64_t epoch)
{
    dual_add(&dual, &(struct dual_event){.t_ns = t_ms * MS,
                                         .emitter = dual_emitter(&dual, tap),
                                         .has_epoch = true,
                                         .epoch = epoch});
}

static void frames(const char *tap, uint64_t from_ms, uint64_t to_ms)
{
    for (uint64_t t = from_ms; t <= to_ms; t += 10) {
        frame(tap, t);
    }
}

static void dual_setup(void)
{
    dual_init(&dual, 1000 * MS);
}

static void dual_teardown(void)
{
    dual_free(&dual);
}

START_TEST(one_tap_is_fine)
{
    frames("n1", 100, 5000);
    dual_settle(&dual, UINT64_MAX);
    ck_assert_uint_eq(dual.overlaps, 0);
    ck_assert_uint_eq(dual.events, 491);
    ck_assert_uint_eq(dual.emitter[0].intervals, 1);
}
END_TEST

START_TEST(handover_is_fine)
{
    frames("n1", 100, 2000);
    frames("n2", 2005, 4000); /* a lockstep twin may go on within milliseconds */
    dual_settle(&dual, UINT64_MAX);
    ck_assert_uint_eq(dual.overlaps, 0);
}
END_TEST

START_TEST(return_after_the_gap_is_fine)
{
    frames("n1", 100, 2000);
    frames("n2", 2005, 4000);
    frames("n1", 4005, 6000);
    dual_settle(&dual, UINT64_MAX);
    ck_assert_uint_eq(dual.overlaps, 0);
    ck_assert_uint_eq(dual.emitter[0].intervals, 2);
}
END_TEST

START_TEST(two_live_copies_are_found)
{
    frames("n1", 100, 4000);
    frames("n2", 2005, 4000);
    dual_settle(&dual, UINT64_MAX);
    ck_assert_uint_gt(dual.overlaps, 100);
    ck_assert_uint_ge(dual.first_overlap.from_ns, 2000 * MS);
    ck_assert_uint_le(dual.first_overlap.to_ns, 2015 * MS);
}
END_TEST

START_TEST(one_late_frame_of_the_old_copy_is_found)
{
    frames("n1", 100, 2000);
    frames("n2", 2005, 4000);
    frame("n1", 2300);
    dual_settle(&dual, UINT64_MAX);
    ck_assert_uint_gt(dual.overlaps, 0);
}
END_TEST

START_TEST(late_frame_inside_the_new_interval_is_found)
{
    /* Longer after the old copy's last frame than the gap: it is no part of an old
     * interval, but within n2's. */
    frames("n1", 100, 2000);
    frames("n2", 2005, 6000);
    frame("n1", 5003);
    dual_settle(&dual, UINT64_MAX);
    ck_assert_uint_eq(dual.overlaps, 1);
    ck_assert_str_eq(dual.emitter[dual.first_overlap.a].name, "n2");
    ck_assert_str_eq(dual.emitter[dual.first_overlap.b].name, "n1");
}
END_TEST

START_TEST(order_of_arrival_does_not_matter)
{
    /* The sockets are read one after the other: all of n2 first. */
    frames("n2", 2005, 4000);
    frames("n1", 100, 2000);
    dual_settle(&dual, 1000 * MS);
    dual_settle(&dual, UINT64_MAX);
    ck_assert_uint_eq(dual.overlaps, 0);
    ck_assert_uint_eq(dual.pending_count, 0);
}
END_TEST

START_TEST(old_epoch_frame_is_found_after_any_silence)
{
    frame_with_epoch("n1", 100, 17);
    frame_with_epoch("n2", 5000, 18);
    frame_with_epoch("n1", 90000,
                     17); /* a thawed copy, long after everybody else went quiet */
    dual_settle(&dual, UINT64_MAX);
    ck_assert_uint_eq(dual.overlaps, 0);
    ck_assert_uint_eq(dual.old_epoch_events, 1);
}
END_TEST

START_TEST(too_many_taps_are_not_forgotten)
{
    for (int i = 0; i < EMITTERS_MAX + 1; i++) {
        char name[16];

        snprintf(name, sizeof(name), "t%d", i);
        frame(name, 100);
    }
    ck_assert_uint_gt(dual.lost_events, 0);
}
END_TEST

/* Answers
 * ---------------------------------------------------------------------------------- */

static struct answers answers;

static void answers_setup(void)
{
    answers_init(&answers, 100 * MS);
}

static void answers_teardown(void)
{
    answers_free(&answers);
}

static void got_by(uint32_t token, uint64_t acked, uint64_t epoch, uint32_t boot,
                   uint64_t t_ms)
{
    struct answer answer = {ANSWER_MAGIC, token, acked, epoch, boot, 0};

    answers_got(&answers, &answer, sizeof(answer), t_ms * MS);
}

static void asked_and_got(uint32_t token, uint64_t acked, uint64_t t_ms)
{
    answers_asked(&answers, token, t_ms * MS);
    got_by(token, acked, 1, 7, t_ms + 1);
}

START_TEST(outage_is_the_longest_gap)
{
    for (uint32_t i = 0; i < 50; i++) {
        asked_and_got(i, i, 10 * i);
    }
    for (uint32_t i = 50; i < 100; i++) {
        asked_and_got(i, i, 10 * i + 800);
    }
    answers_end(&answers, 1850 * MS);
    ck_assert_uint_eq(answers.outage_count, 1);
    ck_assert_uint_eq(answers.longest_gap_ns, 810 * MS);
    ck_assert_uint_eq(answers.outage[0].from_ns, 491 * MS);
    ck_assert_uint_eq(answers.lost_acked, 0);
    ck_assert_uint_eq(answers.count, 100);
    ck_assert(!answers.outage[0].open);
}
END_TEST

START_TEST(silence_until_the_end_is_an_outage)
{
    asked_and_got(1, 1, 0);
    answers_end(&answers, 5001 * MS);
    ck_assert_uint_eq(answers.outage_count, 1);
    ck_assert(answers.outage[0].open);
    ck_assert_uint_eq(answers.longest_gap_ns, 5000 * MS);
}
END_TEST

START_TEST(lost_acknowledged_write_is_found)
{
    asked_and_got(1, 100, 0);
    asked_and_got(2, 101, 10);
    asked_and_got(3, 98, 1000); /* a restart that found an older disk */
    ck_assert_uint_eq(answers.lost_acked, 3);
}
END_TEST

START_TEST(overtaking_answer_is_not_a_loss)
{
    answers_asked(&answers, 1, 0);
    answers_asked(&answers, 2, 10 * MS);
    got_by(2, 101, 1, 7, 12);
    got_by(1, 100, 1, 7, 13); /* asked before the other was answered: it may be older */
    ck_assert_uint_eq(answers.lost_acked, 0);
}
END_TEST

START_TEST(older_epoch_answer_is_found)
{
    answers_asked(&answers, 1, 0);
    got_by(1, 5, 18, 1, 1);
    answers_asked(&answers, 2, 10 * MS);
    got_by(2, 6, 17, 2, 11);
    ck_assert_uint_eq(answers.epoch_backwards, 1);
    ck_assert_uint_eq(answers.boots, 2);
}
END_TEST

START_TEST(strange_datagrams_do_not_count)
{
    struct answer answer = {ANSWER_MAGIC, 1, 5, 1, 1, 0};

    answers_got(&answers, &answer, sizeof(answer), MS); /* never asked */
    answer.token = 0;
    answers_got(&answers, &answer, sizeof(answer), MS); /* nor this one */
    answers_asked(&answers, 1, 0);
    answer.token = 1 + QUESTIONS_KEPT;
    answers_got(&answers, &answer, sizeof(answer),
                MS); /* nor this one, although it falls on the same place */
    answer.token = 1;
    answers_got(&answers, &answer, sizeof(answer) - 1, MS);
    answer.magic++;
    answers_got(&answers, &answer, sizeof(answer), MS);
    answers_got(&answers, "", 0, MS);
    ck_assert_uint_eq(answers.count, 0);
    ck_assert_uint_eq(answers.strange, 6);
}
END_TEST

START_TEST(two_copies_that_take_one_question_are_found)
{
    answers_asked(&answers, 1, 0);
    got_by(1, 5, 1, 7, 1);
    got_by(1, 5, 1, 7, 2); /* the network may say things twice */
    ck_assert_uint_eq(answers.duplicates, 1);
    ck_assert_uint_eq(answers.two_boots, 0);
    got_by(1, 5, 1, 8, 3);
    ck_assert_uint_eq(answers.two_boots, 1);
    ck_assert_uint_eq(answers.count, 1);
    answers_asked(&answers, 1 + QUESTIONS_KEPT, 10 * MS);
    got_by(1 + QUESTIONS_KEPT, 6, 1, 8, 11);
    ck_assert_uint_eq(answers.count, 2);
}
END_TEST

/* Storage log
 * -------------------------------------------------------------------------------- */

static struct write_log log_;

static void log_setup(void)
{
    write_log_init(&log_);
    dual_init(&dual, 1000 * MS);
}

static void log_teardown(void)
{
    write_log_free(&log_);
    dual_free(&dual);
}

static void logged(uint64_t t_ms, const char *node, uint64_t epoch, uint64_t seq)
{
    char line[256];

    snprintf(line, sizeof(line),
             "{\"t_ns\":%llu,\"node\":\"%s\",\"vm\":\"web1\",\"lba\":%llu,\"epoch\":%llu,"
             "\"seq\":%llu}\n",
             (unsigned long long)(t_ms * MS), node, (unsigned long long)(seq * 8),
             (unsigned long long)epoch, (unsigned long long)seq);
    write_log_line(&log_, line, NULL);
}

START_TEST(sound_failover_log_passes)
{
    logged(10, "n1", 1, 1);
    logged(20, "n1", 1, 2);
    logged(30, "n1", 1, 3);
    logged(1030, "n2", 2, 3); /* 3 was not acknowledged: written again */
    logged(1040, "n2", 2, 4);
    write_log_judge(&log_, &dual);
    ck_assert_uint_eq(log_.count, 5);
    ck_assert_uint_eq(log_.old_epoch_writes, 0);
    ck_assert_uint_eq(log_.lost_acked_writes, 0);
    ck_assert_uint_eq(dual.overlaps, 0);
}
END_TEST

START_TEST(old_epoch_write_is_found)
{
    logged(1030, "n2", 2, 3);
    logged(10, "n1", 1, 1); /* the log need not be in order */
    logged(9000, "n1", 1, 4);
    write_log_judge(&log_, &dual);
    ck_assert_uint_eq(log_.old_epoch_writes, 1);
    ck_assert_uint_eq(log_.first_old.seq, 4);
    ck_assert_str_eq(log_.first_old.node, "n1");
}
END_TEST

START_TEST(log_shows_lost_acknowledged_write)
{
    logged(10, "n1", 1, 1);
    logged(20, "n1", 1, 2);
    logged(30, "n1", 1, 3); /* so 2 was acknowledged */
    logged(1030, "n2", 2, 2);
    write_log_judge(&log_, &dual);
    ck_assert_uint_eq(log_.lost_acked_writes, 1);
}
END_TEST

static void logged_event(const char *event, uint64_t t_ms, const char *node,
                         uint64_t epoch, uint64_t seq)
{
    char line[256];

    snprintf(line, sizeof(line),
             "{\"ev\":\"%s\",\"t_ns\":%llu,\"node\":\"%s\",\"vm\":\"web1\",\"epoch\":%"
             "llu,\"seq\":%llu}\n",
             event, (unsigned long long)(t_ms * MS), node, (unsigned long long)epoch,
             (unsigned long long)seq);
    write_log_line(&log_, line, NULL);
}

START_TEST(slow_old_write_that_lands_late_is_found)
{
    /* Submitted in time by n1, but it reached the store after n2's first. */
    logged_event("submit", 10, "n1", 1, 1);
    logged_event("submit", 1000, "n2", 2, 1);
    logged_event("durable", 1010, "n2", 2, 1);
    logged_event("durable", 1500, "n1", 1, 1);
    write_log_judge(&log_, &dual);
    ck_assert_uint_eq(log_.old_epoch_writes, 1);
    ck_assert_int_eq(log_.first_old.event, LOG_DURABLE);
    ck_assert_uint_eq(dual.overlaps, 0);
}
END_TEST

START_TEST(durable_lines_are_no_second_writer_and_no_loss)
{
    logged_event("submit", 10, "n1", 1, 1);
    logged_event("durable", 12, "n1", 1, 1);
    logged_event("submit", 20, "n1", 1, 2);
    logged_event("discard", 25, "n1", 1, 2);   /* an event not known here */
    logged_event("durable", 1001, "n1", 1, 2); /* before n2's first is durable */
    logged_event("submit", 1000, "n2", 2, 2);
    logged_event("durable", 1002, "n2", 2, 2);
    logged_event("submit", 1010, "n2", 2, 3);
    write_log_judge(&log_, &dual);
    ck_assert_uint_eq(log_.count, 7);
    ck_assert_uint_eq(log_.old_epoch_writes, 0);
    ck_assert_uint_eq(log_.lost_acked_writes, 0);
    ck_assert_uint_eq(dual.events, 4);
    ck_assert_uint_eq(dual.overlaps, 0);
    ck_assert_uint_eq(log_.bad_lines, 0);
}
END_TEST

START_TEST(two_writers_of_one_epoch_are_found)
{
    for (uint64_t i = 0; i < 20; i++) {
        logged(10 * i, i % 2 == 0 ? "n1" : "n2", 1, i + 1);
    }
    write_log_judge(&log_, &dual);
    ck_assert_uint_gt(dual.overlaps, 0);
}
END_TEST

START_TEST(vms_do_not_disturb_each_other)
{
    write_log_line(
        &log_,
        "{\"t_ns\":1,\"node\":\"n1\",\"vm\":\"a\",\"lba\":0,\"epoch\":9,\"seq\":9}",
        NULL);
    write_log_line(
        &log_,
        "{\"t_ns\":2,\"node\":\"n2\",\"vm\":\"b\",\"lba\":0,\"epoch\":1,\"seq\":1}",
        NULL);
    write_log_line(
        &log_,
        "{\"t_ns\":3,\"node\":\"n1\",\"vm\":\"a\",\"lba\":0,\"epoch\":9,\"seq\":10}",
        NULL);
    write_log_judge(&log_, &dual);
    ck_assert_uint_eq(log_.old_epoch_writes, 0);
    ck_assert_uint_eq(dual.overlaps, 0);
    write_log_free(&log_);
    write_log_init(&log_);
    write_log_line(
        &log_,
        "{\"t_ns\":1,\"node\":\"n1\",\"vm\":\"a\",\"lba\":0,\"epoch\":9,\"seq\":9}", "b");
    ck_assert_uint_eq(log_.count, 0);
    ck_assert_uint_eq(log_.bad_lines, 0);
}
END_TEST

START_TEST(log_lines_are_read_strictly)
{
    static const char *const bad[] = {
        "x",
        "{",
        "{}",
        "{\"t_ns\":}",
        "{\"t_ns\":1",
        "{\"t_ns\":1,\"node\":\"n\",\"epoch\":1}",
        "{\"t_ns\":-1,\"node\":\"n\",\"epoch\":1,\"seq\":1}",
        "{\"t_ns\":99999999999999999999,\"node\":\"n\",\"epoch\":1,\"seq\":1}",
        "{\"t_ns\":1,\"node\":\"n,\"epoch\":1,\"seq\":1}",
        "{\"t_ns\":1,\"node\":\"n\\",
        "{\"t_ns\":1,\"node\":[1],\"epoch\":1,\"seq\":1}",
    };
    struct log_write write;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_msg(log_line_parse(bad[i], NULL, &write) == LOG_LINE_BAD, "%s", bad[i]);
    }
    ck_assert_int_eq(log_line_parse("\n", NULL, &write), LOG_LINE_EMPTY);
    ck_assert_int_eq(
        log_line_parse(" { \"seq\" : 18446744073709551615 , \"x\":\"a\\\"b\", \"y\":true,"
                       "\"epoch\":2,\"node\":\"n1\",\"t_ns\":3}\n",
                       NULL, &write),
        LOG_LINE_WRITE);
    ck_assert(write.seq == UINT64_MAX && write.epoch == 2 && write.t_ns == 3);
}
END_TEST

/* The disk
 * ----------------------------------------------------------------------------------------
 */

#define SLOTS 16

static uint64_t image[SLOTS][RECORD_SLOT_BYTES / 8];

static bool read_image(void *ctx, uint64_t slot, uint8_t *bytes)
{
    (void)ctx;
    memcpy(bytes, image[slot], RECORD_SLOT_BYTES);
    return true;
}

static void record(uint64_t seq, uint64_t epoch)
{
    uint64_t *slot = image[(seq - 1) % SLOTS];
    struct record_header *header = (struct record_header *)slot;

    *header = (struct record_header){.magic = RECORD_MAGIC,
                                     .len = RECORD_SLOT_BYTES,
                                     .seq = seq,
                                     .epoch = epoch,
                                     .boot = 5};
    header->crc = record_header_crc(header);
    for (size_t i = sizeof(*header) / 8; i < RECORD_SLOT_BYTES / 8; i++) {
        slot[i] = record_body_word(header);
    }
}

static void records(uint64_t from, uint64_t to, uint64_t epoch)
{
    for (uint64_t seq = from; seq <= to; seq++) {
        record(seq, epoch);
    }
}

static struct disk_report checked(uint64_t acked)
{
    struct disk_report report;

    ck_assert_int_eq(disk_check(read_image, NULL, SLOTS, acked, &report), 0);
    return report;
}

static void disk_setup(void)
{
    memset(image, 0, sizeof(image));
}

START_TEST(sound_disk_passes)
{
    struct disk_report report;

    records(1, 20, 1);
    records(21, 40, 2);
    report = checked(40);
    ck_assert_uint_eq(report.lost_acked, 0);
    ck_assert_uint_eq(report.newest, 40);
    ck_assert_uint_eq(report.records, SLOTS);
    ck_assert_uint_eq(
        report.torn + report.misplaced + report.epoch_backwards + report.foreign, 0);
}
END_TEST

START_TEST(lost_tail_is_found)
{
    records(1, 10, 1);
    ck_assert_uint_eq(checked(12).lost_acked, 2);
    ck_assert_uint_eq(checked(12).first_lost, 11);
    ck_assert_uint_eq(checked(10).lost_acked, 0);
    disk_setup();
    ck_assert_uint_eq(checked(3).lost_acked, 3);
}
END_TEST

START_TEST(hole_is_found)
{
    records(1, 40, 1);
    memset(image[(35 - 1) % SLOTS], 0, RECORD_SLOT_BYTES);
    ck_assert_uint_eq(checked(40).lost_acked, 1);
    ck_assert_uint_eq(checked(40).first_lost, 35);
}
END_TEST

START_TEST(every_torn_bit_of_header_and_body_is_found)
{
    for (size_t byte = 0; byte < RECORD_SLOT_BYTES; byte += byte < 64 ? 1 : 509) {
        disk_setup();
        records(1, 40, 1);
        ((uint8_t *)image[(38 - 1) % SLOTS])[byte] ^= 0x10;
        ck_assert_msg(checked(40).lost_acked == 1, "byte %zu", byte);
    }
}
END_TEST

START_TEST(tail_torn_by_sector_is_found)
{
    /* Power went while 41 was written over 25: sectors of both. 40 was acknowledged:
     * nothing is lost. */
    uint64_t old[RECORD_SLOT_BYTES / 8];

    records(1, 40, 1);
    memcpy(old, image[(41 - 1) % SLOTS], sizeof(old));
    record(41, 1);
    memcpy((uint8_t *)image[(41 - 1) % SLOTS] + 1024, (uint8_t *)old + 1024, 1024);
    ck_assert_uint_eq(checked(40).lost_acked, 0);
    ck_assert_uint_eq(checked(40).torn, 1);
    ck_assert_uint_eq(checked(41).lost_acked, 1);
}
END_TEST

START_TEST(older_epoch_over_newer_is_found)
{
    records(1, 10, 2);
    record(11, 1);
    ck_assert_uint_eq(checked(11).epoch_backwards, 1);
}
END_TEST

START_TEST(misplaced_record_is_found)
{
    records(1, 10, 1);
    memcpy(image[12], image[3], RECORD_SLOT_BYTES);
    ck_assert_uint_eq(checked(10).misplaced, 1);
}
END_TEST

START_TEST(crc_is_the_known_one)
{
    ck_assert_uint_eq(record_crc32("123456789", 9), 0xcbf43926);
}
END_TEST

static Suite *witness_suite(void)
{
    Suite *suite = suite_create("witness");
    TCase *taps = tcase_create("taps"), *asked = tcase_create("answers"),
          *log = tcase_create("log"), *disk = tcase_create("disk");

    tcase_add_checked_fixture(taps, dual_setup, dual_teardown);
    tcase_add_test(taps, one_tap_is_fine);
    tcase_add_test(taps, handover_is_fine);
    tcase_add_test(taps, return_after_the_gap_is_fine);
    tcase_add_test(taps, two_live_copies_are_found);
    tcase_add_test(taps, one_late_frame_of_the_old_copy_is_found);
    tcase_add_test(taps, late_frame_inside_the_new_interval_is_found);
    tcase_add_test(taps, order_of_arrival_does_not_matter);
    tcase_add_test(taps, old_epoch_frame_is_found_after_any_silence);
    tcase_add_test(taps, too_many_taps_are_not_forgotten);
    tcase_add_checked_fixture(asked, answers_setup, answers_teardown);
    tcase_add_test(asked, outage_is_the_longest_gap);
    tcase_add_test(asked, silence_until_the_end_is_an_outage);
    tcase_add_test(asked, lost_acknowledged_write_is_found);
    tcase_add_test(asked, overtaking_answer_is_not_a_loss);
    tcase_add_test(asked, older_epoch_answer_is_found);
    tcase_add_test(asked, strange_datagrams_do_not_count);
    tcase_add_test(asked, two_copies_that_take_one_question_are_found);
    tcase_add_checked_fixture(log, log_setup, log_teardown);
    tcase_add_test(log, sound_failover_log_passes);
    tcase_add_test(log, old_epoch_write_is_found);
    tcase_add_test(log, log_shows_lost_acknowledged_write);
    tcase_add_test(log, slow_old_write_that_lands_late_is_found);
    tcase_add_test(log, durable_lines_are_no_second_writer_and_no_loss);
    tcase_add_test(log, two_writers_of_one_epoch_are_found);
    tcase_add_test(log, vms_do_not_disturb_each_other);
    tcase_add_test(log, log_lines_are_read_strictly);
    tcase_add_checked_fixture(disk, disk_setup, NULL);
    tcase_add_test(disk, sound_disk_passes);
    tcase_add_test(disk, lost_tail_is_found);
    tcase_add_test(disk, hole_is_found);
    tcase_add_test(disk, every_torn_bit_of_header_and_body_is_found);
    tcase_add_test(disk, tail_torn_by_sector_is_found);
    tcase_add_test(disk, older_epoch_over_newer_is_found);
    tcase_add_test(disk, misplaced_record_is_found);
    tcase_add_test(disk, crc_is_the_known_one);
    suite_add_tcase(suite, taps);
    suite_add_tcase(suite, asked);
    suite_add_tcase(suite, log);
    suite_add_tcase(suite, disk);
    return suite;
}

UNIT_MAIN(witness_suite)
