/* SPDX-License-Identifier: Apache-2.0 */
/* One question to the agent of this node, and its answer. */
#pragma once

#include "programs/cli.h"

struct cli_answer {
    enum cli_exit exit_code;
    char *text; /* one line for people; never NULL after cli_ask */
    char *json; /* "" if there is none */
};

struct cli_question {
    const char *verb, *object, *body, *reason;
    const char *options[32]; /* "key=value" */
    unsigned option_count;
    uint32_t timeout_ms;
    bool wait, dry_run;
};

/* The question that a call is. */
void cli_question_of(const struct cli_call *call, struct cli_question *ret_question);
/*
 * Asks, and waits for the final answer; progress goes to stderr. Failures of the way
 * (agent not there, timeout, Ctrl-C) are answers too, with their text. Free with
 * cli_answer_free.
 */
void cli_ask(const struct cli_question *question, struct cli_answer *ret_answer);
void cli_answer_free(struct cli_answer *answer);
/* Prints an answer as the call wants it; returns the exit code of the program. */
enum cli_exit cli_show_answer(const struct cli_call *call,
                              const struct cli_answer *answer);
