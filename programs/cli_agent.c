/* SPDX-License-Identifier: Apache-2.0 */
#include "programs/cli_agent.h"

#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <qb/qbipcc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "base/cli_wire.h"
#include "base/loop.h"
#include "base/text.h"
#include "base/units.h"
#include "base/version.h"
#include "programs/cli_table.h"

#define JSON_MAX   (64u << 20)
#define CONNECT_MS 5000
#define POLL_MS    200  /* how soon Ctrl-C is noticed */
#define GRACE_MS   2000 /* the agent answers its own timeout; only then do we give up */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signo)
{
    (void)signo;
    interrupted = 1;
}

void cli_question_of(const struct cli_call *call, struct cli_question *ret_question)
{
    *ret_question = (struct cli_question){
        .verb = call->verb->name,
        .object = call->object_count > 0 ? call->object[0] : "",
        .body = "",
        .reason = call->is_set[CLI_OPT_REASON] ? call->value[CLI_OPT_REASON] : "",
        .timeout_ms = call->timeout_ms,
        .wait = !call->verb->reads && !call->is_set[CLI_OPT_NO_WAIT],
        .dry_run = call->is_set[CLI_OPT_DRY_RUN],
    };
}

static void answer(struct cli_answer *ret_answer, enum cli_exit exit_code,
                   const char *format, ...) __attribute__((format(printf, 3, 4)));

static void answer(struct cli_answer *ret_answer, enum cli_exit exit_code,
                   const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (vasprintf(&ret_answer->text, format, args) < 0) {
        ret_answer->text = NULL;
    }
    va_end(args);
    ret_answer->exit_code = exit_code;
}

static void answer_no_connection(struct cli_answer *ret_answer, int error)
{
    if (error == EACCES || error == EPERM) {
        answer(ret_answer, CLI_NOT_PERMITTED,
               "you may not talk to the agent of this node; use sudo, or let an "
               "administrator add you to the group "
               "named in node.yaml (default gemel)");
    } else {
        answer(ret_answer, CLI_UNREACHABLE,
               "cannot reach gemeld, the agent of this node (%s); is it running? "
               "systemctl status gemeld corosync; "
               "on another node, gemel may still work",
               strerror(error));
    }
}

static size_t pack(const struct cli_question *question, void *buf)
{
    Gemel__CliRequest request = GEMEL__CLI_REQUEST__INIT;

    request.verb = (char *)(uintptr_t)question->verb;
    request.object = (char *)(uintptr_t)question->object;
    request.body = (char *)(uintptr_t)question->body;
    request.reason = (char *)(uintptr_t)question->reason;
    request.options = (char **)(uintptr_t)question->options;
    request.n_options = question->option_count;
    request.timeout_ms = question->timeout_ms;
    request.wait = question->wait;
    request.dry_run = question->dry_run;
    request.version = PROTO_CTL_VERSION;
    return cli_wire_pack_request(&request, buf);
}

/* Documents longer than one message come in parts. */
static int append_json(struct cli_answer *given, const char *part)
{
    size_t have = given->json != NULL ? strlen(given->json) : 0, more = strlen(part);
    char *grown;

    if (have + more > JSON_MAX) {
        return -EMSGSIZE;
    }
    grown = realloc(given->json, have + more + 1);
    if (grown == NULL) {
        return -ENOMEM;
    }
    memcpy(grown + have, part, more + 1);
    given->json = grown;
    return 0;
}

/* Into a pipe or a log, a line now and then. */
#define LINE_NS (5 * NSEC_PER_SEC)
#define SAME_NS (60 * NSEC_PER_SEC)

static bool bar_shown;
static uint64_t line_ns; /* when one was printed; 0: none yet */

/* What fits into one line of the terminal: a longer one could not be drawn anew. */
static void print_cut(const char *text, size_t used)
{
    struct winsize size;
    char line[512];

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > used) {
        size_t room = size.ws_col - used;

        if (strlen(text) >= room && room < sizeof line) {
            text_copy(line, room, text);
            text = line;
        }
    }
    cli_print_clean(text, stderr);
}

/* In a pipe: at once when it is new, then not more often than every LINE_NS, the same
 * line every SAME_NS. */
static bool worth_a_line(const char *text)
{
    static char last[512];
    uint64_t now_ns = loop_now_ns();
    bool same = strncmp(last, text, sizeof last - 1) == 0;

    if (line_ns != 0 && now_ns - line_ns < (same ? SAME_NS : LINE_NS)) {
        return false;
    }
    line_ns = now_ns;
    text_copy(last, sizeof last, text);
    return true;
}

/* "N % ...": a bar, on a terminal, drawn anew each time. Else, and without a percentage,
 * a line. */
static void show_progress(const char *text)
{
    enum { BAR = 24 };
    unsigned percent;
    int used = 0;

    if (sscanf(text, "%u %%%n", &percent, &used) != 1 || used == 0 || percent > 100) {
        cli_print_clean(text, stderr);
        fputc('\n', stderr);
        return;
    }
    if (!isatty(STDERR_FILENO)) {
        if (worth_a_line(text)) {
            cli_print_clean(text, stderr);
            fputc('\n', stderr);
        }
        return;
    }
    fputs("\r\033[K[", stderr);
    for (unsigned i = 0; i < BAR; i++) {
        fputc(i * 100 < percent * BAR ? '#' : '.', stderr);
    }
    fputs("] ", stderr);
    print_cut(text, BAR + 3);
    fflush(stderr);
    bar_shown = true;
}

static void end_progress(void)
{
    if (bar_shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    bar_shown = false;
}

/* One reply. True: it was the final one, or there will be none. */
static bool take_reply(const void *buf, size_t len, struct cli_answer *ret_answer)
{
    int r;

    struct ctl_msg msg;
    bool final;

    if (cli_wire_unpack_reply(buf, len, &msg) < 0) {
        answer(ret_answer, CLI_FAILED,
               "the agent's answer cannot be read; gemel and gemeld may be of different "
               "versions");
        return true;
    }
    final = msg.cli_reply->final;
    r = append_json(ret_answer, msg.cli_reply->json);
    if (r < 0) {
        answer(ret_answer, CLI_FAILED, "the agent's answer cannot be kept: %s",
               strerror(-r));
        final = true;
    } else if (final) {
        uint32_t code = msg.cli_reply->exit_code;

        answer(ret_answer, code < CLI_EXIT_COUNT ? (enum cli_exit)code : CLI_FAILED, "%s",
               msg.cli_reply->text);
    } else if (msg.cli_reply->text[0] != '\0') {
        show_progress(msg.cli_reply->text);
    }
    ctl_msg_free(&msg);
    return final;
}

static void await(struct qb_ipcc_connection *connection,
                  const struct cli_question *question, void *buf,
                  struct cli_answer *ret_answer)
{
    uint64_t deadline_ns =
        loop_now_ns() + (question->timeout_ms + GRACE_MS) * NSEC_PER_MSEC;
    bool moves = question->wait && strcmp(question->verb, "vm migrate") == 0;

    for (;;) {
        ssize_t got = qb_ipcc_recv(connection, buf, CLI_WIRE_MSG_MAX, POLL_MS);

        if (interrupted) {
            answer(ret_answer, CLI_TIMED_OUT,
                   "stopped waiting; %s goes on. gemel status and gemel events show how "
                   "it ends%s%s%s",
                   question->wait ? "what was accepted" : "the agent",
                   moves ? ". To give it up: gemel vm migrate " : "",
                   moves ? question->object : "", moves ? " --cancel" : "");
            return;
        }
        if (got > 0) {
            if (take_reply(buf, (size_t)got, ret_answer)) {
                return;
            }
        } else if (got != -ETIMEDOUT && got != -EAGAIN && got != -EINTR) {
            answer(ret_answer, CLI_UNREACHABLE,
                   "the agent of this node went away (%s) before it answered; what was "
                   "ordered may still happen: see "
                   "gemel events when it is back",
                   strerror((int)-got));
            return;
        } else if (loop_now_ns() > deadline_ns) {
            answer(ret_answer, CLI_TIMED_OUT,
                   "no answer within %u ms; the operation goes on. gemel explain %s "
                   "tells what it waits for; "
                   "--timeout waits longer",
                   question->timeout_ms, question->object);
            return;
        }
    }
}

/* An agent that is stopped accepts nobody, and the simple call would wait for it for
 * ever. */
static int connect_agent(const char *service, struct qb_ipcc_connection **ret_connection)
{
    struct qb_ipcc_connection *connection;
    struct pollfd pollfd = {.events = POLLIN};
    int r;

    errno = 0;
    connection = qb_ipcc_connect_async(service, CLI_WIRE_MSG_MAX, &pollfd.fd);
    if (connection == NULL) {
        return errno != 0 ? -errno : -ECONNREFUSED;
    }
    r = poll(&pollfd, 1, CONNECT_MS);
    if (r == 1) {
        r = qb_ipcc_connect_continue(connection); /* frees it on error */
        if (r == 0) {
            *ret_connection = connection;
        }
        return r;
    }
    r = r < 0 ? -errno : -ETIMEDOUT;
    qb_ipcc_disconnect(connection);
    return r;
}

static void ask(const struct cli_question *question, struct cli_answer *ret_answer)
{
    const char *service = getenv(CLI_WIRE_SERVICE_ENV);
    struct sigaction action = {.sa_handler = on_interrupt}, old;
    struct qb_ipcc_connection *connection = NULL;
    void *buf = NULL;
    size_t len;
    ssize_t sent;
    int r;

    *ret_answer = (struct cli_answer){0};
    buf = aligned_alloc(8, (CLI_WIRE_MSG_MAX + 7) & ~(size_t)7);
    if (buf == NULL) {
        answer(ret_answer, CLI_FAILED, "out of memory");
        goto out;
    }
    len = pack(question, buf);
    if (len == 0) {
        answer(ret_answer, CLI_USAGE,
               "the request is larger than %d bytes; definitions have at most %d",
               CTL_MSG_MAX, DEFINITION_MAX);
        goto out;
    }
    r = connect_agent(service != NULL ? service : CLI_WIRE_SERVICE, &connection);
    if (r < 0) {
        answer_no_connection(ret_answer, -r);
        goto out;
    }
    interrupted = 0;
    sigaction(SIGINT, &action, &old);
    sent = qb_ipcc_send(connection, buf, len);
    if (sent < 0) {
        answer_no_connection(ret_answer, (int)-sent);
    } else {
        await(connection, question, buf, ret_answer);
        end_progress();
    }
    sigaction(SIGINT, &old, NULL);
out:
    if (connection != NULL) {
        qb_ipcc_disconnect(connection);
    }
    free(buf);
    if (ret_answer->text == NULL) {
        ret_answer->text = strdup("");
    }
    if (ret_answer->json == NULL) {
        ret_answer->json = strdup("");
    }
}

/* Why the VM does not run yet, as its record has it. The caller frees it; NULL: not
 * known. */
static char *reason_of(const char *name)
{
    struct cli_question question = {.verb = "vm show",
                                    .object = name,
                                    .body = "",
                                    .reason = "",
                                    .timeout_ms = GRACE_MS};
    struct json_object *root = NULL, *value;
    struct cli_answer given;
    char *reason = NULL;

    ask(&question, &given);
    if (given.exit_code == CLI_DONE) {
        root = json_tokener_parse(given.json);
    }
    if (root != NULL && json_object_object_get_ex(root, "reason", &value) &&
        json_object_get_string_len(value) > 0) {
        reason = strdup(json_object_get_string(value));
    }
    json_object_put(root);
    cli_answer_free(&given);
    return reason;
}

void cli_ask(const struct cli_question *question, struct cli_answer *ret_answer)
{
    char *reason, *stopped;

    ask(question, ret_answer);
    if (!interrupted || ret_answer->exit_code != CLI_TIMED_OUT || !question->wait ||
        (strcmp(question->verb, "vm start") != 0 &&
         strcmp(question->verb, "vm resume") != 0)) {
        return;
    }
    reason = reason_of(question->object);
    if (reason != NULL) {
        stopped = ret_answer->text;
        answer(ret_answer, CLI_TIMED_OUT, "%s: %s; %s", question->object, reason,
               stopped);
        free(stopped);
        free(reason);
    }
}

void cli_answer_free(struct cli_answer *given)
{
    free(given->text);
    free(given->json);
    *given = (struct cli_answer){0};
}

/* The agent's document, or what there is to say instead. */
static void print_json(const struct cli_answer *given)
{
    struct json_object *root;

    if (given->json[0] != '\0') {
        printf("%s\n", given->json);
        return;
    }
    root = json_object_new_object();
    json_object_object_add(root, "exit_code", json_object_new_int((int)given->exit_code));
    json_object_object_add(root, "text", json_object_new_string(given->text));
    printf("%s\n", json_object_to_json_string_ext(
                       root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(root);
}

enum cli_exit cli_show_answer(const struct cli_call *call, const struct cli_answer *given)
{
    enum cli_exit r = given->exit_code;
    bool json = call->is_set[CLI_OPT_JSON];

    if (json) {
        print_json(given);
    }
    if (r == CLI_DONE && call->verb->render != NULL) {
        if (!json || call->verb->render == cli_render_status) {
            r = call->verb->render(call, given->json, stdout);
        }
    } else if (r == CLI_DONE && !json) {
        cli_print_clean(given->text[0] != '\0' ? given->text : "done", stdout);
        fputc('\n', stdout);
    } else if (r != CLI_DONE) {
        const char *text = given->text[0] != '\0' ? given->text : cli_exit_meaning[r];
        size_t verb_len = strlen(call->verb->name);
        /* Agents name the verb themselves in some places. */
        bool named =
            strncmp(text, call->verb->name, verb_len) == 0 && text[verb_len] == ':';

        cli_complain("%s%s%s", named ? "" : call->verb->name, named ? "" : ": ", text);
    }
    return r;
}
