/* SPDX-License-Identifier: Apache-2.0 */
/*
 * witness: looks at a running pulse from outside and says what was broken (design 12.2).
 * The oracles are in witness_checks.c, the taps in witness_taps.c; here are the
 * questions, the options, and the report.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "tests/guest/record.h"
#include "tests/guest/witness_checks.h"
#include "tests/guest/witness_taps.h"

#define NS_PER_MS        UINT64_C(1000000)
#define STORAGE_LOGS_MAX 64

enum exit_status { EXIT_OK = 0, EXIT_VIOLATION = 1, EXIT_USAGE = 2, EXIT_BLIND = 3 };

struct options {
    struct sockaddr_in target;
    bool has_target, has_mac, events;
    const char *from;
    uint8_t mac[6];
    uint64_t every_ms, seconds, gap_ms, outage_ms;
    const char *storage_log[STORAGE_LOGS_MAX], *vm, *progress;
    size_t storage_log_count;
};

struct witness {
    struct options options;
    struct dual taps_dual, writers;
    struct taps taps;
    struct answers answers;
    struct write_log log;
    int udp_fd, timer_fd, signal_fd, progress_fd;
    uint32_t token;
    uint64_t start_ns, end_ns, settled_ns, send_errors;
    size_t logs_unread;
    bool arp_set;
};

static struct witness witness; /* large: the questions asked are in it */

static const char usage_text[] =
    "usage: witness --target IP [options]        ask a pulse until SIGTERM, SIGINT or "
    "--seconds\n"
    "       witness check-disk IMG [--acked N] [--console LOG]\n"
    "\n"
    "  --target IP[:PORT]     the guest; port 7000 unless given. Without it only taps "
    "and log are watched\n"
    "  --from IFACE           ask through this interface\n"
    "  --mac MAC              the guest's: needed for --tap; with --from it is also set "
    "as a permanent\n"
    "                         neighbour, so that no ARP timer of this machine counts as "
    "outage\n"
    "  --every-ms N           a question every N ms (10)\n"
    "  --seconds N            stop after N seconds\n"
    "  --outage-ms N          list gaps between answers longer than this (100)\n"
    "  --tap NAME[@NETNS]     watch frames from the guest on this tap (again for more). "
    "NAME may be a\n"
    "                         pattern, NETNS a path like /run/netns/n1; both may come "
    "later\n"
    "  --gap-ms N             two events of one tap or node closer than this are one "
    "interval (1000)\n"
    "  --storage-log FILE     writes as the lab's storage logs them, read at the end "
    "(again for more)\n"
    "  --vm NAME              only this VM's lines of the storage log\n"
    "  --events               tell on stderr when answers begin, stop and come again\n"
    "  --progress FILE        keep in it: answers so far, highest record acknowledged, "
    "highest epoch\n"
    "\n"
    "  check-disk IMG         every record up to N must be on the disk image, whole and "
    "in its place;\n"
    "    --acked N            what was acknowledged (max_acked of a run)\n"
    "    --console LOG        take the highest seq=N line of a console log, if it is "
    "higher\n"
    "\n"
    "Prints one JSON object. Exit: 0 nothing broken, 1 something was, 2 usage, 3 an "
    "oracle saw nothing or\n"
    "was not complete (no answers, no frames, no log lines, dropped frames): no "
    "verdict.\n";

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double to_ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

/* Options
 * ------------------------------------------------------------------------------------ */

static bool parse_u64(const char *text, uint64_t max, uint64_t *ret_value)
{
    char *end;
    unsigned long long value;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value > max) {
        return false;
    }
    *ret_value = value;
    return true;
}

static bool parse_target(const char *text, struct sockaddr_in *ret_target)
{
    char ip[64];
    const char *colon = strchr(text, ':');
    uint64_t port = ANSWER_PORT;

    if (strlen(text) >= sizeof(ip)) {
        return false;
    }
    strcpy(ip, text);
    if (colon != NULL) {
        ip[colon - text] = '\0';
        if (!parse_u64(colon + 1, 65535, &port) || port == 0) {
            return false;
        }
    }
    *ret_target =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, ip, &ret_target->sin_addr) == 1;
}

static bool parse_mac(const char *text, uint8_t ret_mac[6])
{
    unsigned part[6];
    char rest;

    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &part[0], &part[1], &part[2], &part[3],
               &part[4], &part[5], &rest) != 6) {
        return false;
    }
    for (int i = 0; i < 6; i++) {
        ret_mac[i] = (uint8_t)part[i];
    }
    return true;
}

static int usage_error(const char *option, const char *value)
{
    fprintf(stderr, "witness: %s: '%s' is not understood; see witness --help\n", option,
            value);
    return EXIT_USAGE;
}

enum option_id {
    OPT_TARGET = 256,
    OPT_FROM,
    OPT_MAC,
    OPT_EVERY,
    OPT_SECONDS,
    OPT_OUTAGE,
    OPT_TAP,
    OPT_GAP,
    OPT_LOG,
    OPT_VM,
    OPT_EVENTS,
    OPT_PROGRESS,
    OPT_HELP,
};

static const struct option long_options[] = {
    {"target", required_argument, NULL, OPT_TARGET},
    {"from", required_argument, NULL, OPT_FROM},
    {"mac", required_argument, NULL, OPT_MAC},
    {"every-ms", required_argument, NULL, OPT_EVERY},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"outage-ms", required_argument, NULL, OPT_OUTAGE},
    {"tap", required_argument, NULL, OPT_TAP},
    {"gap-ms", required_argument, NULL, OPT_GAP},
    {"storage-log", required_argument, NULL, OPT_LOG},
    {"vm", required_argument, NULL, OPT_VM},
    {"events", no_argument, NULL, OPT_EVENTS},
    {"progress", required_argument, NULL, OPT_PROGRESS},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static bool option_set(struct witness *w, int id, char *value)
{
    struct options *o = &w->options;

    switch (id) {
    case OPT_TARGET:
        o->has_target = true;
        return parse_target(value, &o->target);
    case OPT_FROM:
        o->from = value;
        return strlen(value) < IFNAMSIZ;
    case OPT_MAC:
        o->has_mac = true;
        return parse_mac(value, o->mac);
    case OPT_EVERY:
        return parse_u64(value, 60000, &o->every_ms) && o->every_ms > 0;
    case OPT_SECONDS:
        return parse_u64(value, 1000000, &o->seconds) && o->seconds > 0;
    case OPT_OUTAGE:
        return parse_u64(value, 1000000, &o->outage_ms);
    case OPT_TAP:
        return taps_add(&w->taps, value) == 0;
    case OPT_GAP:
        return parse_u64(value, 1000000, &o->gap_ms);
    case OPT_LOG:
        if (o->storage_log_count == STORAGE_LOGS_MAX) {
            return false;
        }
        o->storage_log[o->storage_log_count++] = value;
        return true;
    case OPT_VM:
        o->vm = value;
        return true;
    case OPT_EVENTS:
        o->events = true;
        return true;
    case OPT_PROGRESS:
        o->progress = value;
        return true;
    default:
        return false;
    }
}

/* -1: go on. Otherwise the exit status. */
static int options_parse(struct witness *w, int argc, char **argv)
{
    struct options *o = &w->options;
    int id, index = 0;

    *o = (struct options){.every_ms = 10, .gap_ms = 1000, .outage_ms = 100};
    while ((id = getopt_long(argc, argv, "h", long_options, &index)) != -1) {
        if (id == OPT_HELP || id == 'h') {
            fputs(usage_text, stdout);
            return EXIT_OK;
        }
        if (id == '?') {
            return EXIT_USAGE;
        }
        if (!option_set(w, id, optarg)) {
            return usage_error(long_options[index].name, optarg != NULL ? optarg : "");
        }
    }
    if (optind < argc) {
        return usage_error("argument", argv[optind]);
    }
    if (!o->has_target && w->taps.spec_count == 0 && o->storage_log_count == 0) {
        fputs("witness: nothing to watch: give --target, --tap or --storage-log\n",
              stderr);
        return EXIT_USAGE;
    }
    if (w->taps.spec_count > 0 && !o->has_mac) {
        fputs("witness: --tap needs --mac, the guest's MAC address\n", stderr);
        return EXIT_USAGE;
    }
    return -1;
}

/* Questions
 * ------------------------------------------------------------------------------------ */

/* A permanent neighbour entry: the way to the guest does not depend on this machine's ARP
 * timers. */
static int neighbour_set(struct witness *w, bool add)
{
    struct arpreq request = {.arp_flags = ATF_COM | ATF_PERM};
    struct sockaddr_in address = w->options.target;

    address.sin_port = 0;
    memcpy(&request.arp_pa, &address, sizeof(address));
    request.arp_ha.sa_family = ARPHRD_ETHER;
    memcpy(request.arp_ha.sa_data, w->options.mac, 6);
    strcpy(request.arp_dev, w->options.from);
    return ioctl(w->udp_fd, add ? SIOCSARP : SIOCDARP, &request) == 0 ? 0 : -errno;
}

static int udp_open(struct witness *w)
{
    const struct options *o = &w->options;

    w->udp_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (w->udp_fd < 0) {
        perror("witness: UDP socket");
        return -errno;
    }
    if (o->from != NULL && setsockopt(w->udp_fd, SOL_SOCKET, SO_BINDTODEVICE, o->from,
                                      (socklen_t)strlen(o->from)) != 0) {
        fprintf(stderr, "witness: cannot ask through interface %s: %s\n", o->from,
                strerror(errno));
        return -errno;
    }
    if (o->from != NULL && o->has_mac) {
        int r = neighbour_set(w, true);

        w->arp_set = r == 0;
        if (r != 0) {
            fprintf(stderr,
                    "witness: no permanent neighbour on %s (%s): ARP may lengthen "
                    "outages by up to 1 s\n",
                    o->from, strerror(-r));
        }
    }
    return 0;
}

static void ask(struct witness *w)
{
    struct question question = {QUESTION_MAGIC, ++w->token};

    answers_asked(&w->answers, question.token, now_ns());
    if (sendto(w->udp_fd, &question, sizeof(question), 0,
               (struct sockaddr *)&w->options.target, sizeof(w->options.target)) < 0) {
        w->send_errors++;
    }
}

/* How far it is, for whoever waits: one line of fixed length, rewritten in place. */
static void progress_write(struct witness *w)
{
    char line[96];
    int len = snprintf(line, sizeof(line), "%20" PRIu64 " %20" PRIu64 " %20" PRIu64 "\n",
                       w->answers.count, w->answers.max_acked, w->answers.max_epoch);

    if (w->progress_fd >= 0 && pwrite(w->progress_fd, line, (size_t)len, 0) != len) {
        perror("witness: --progress");
    }
}

static void listen_to_answers(struct witness *w)
{
    for (;;) {
        struct sockaddr_in from;
        socklen_t from_len = sizeof(from);
        uint8_t bytes[64];
        bool first = w->answers.count == 0;
        uint64_t gap_ns;
        ssize_t len = recvfrom(w->udp_fd, bytes, sizeof(bytes), 0,
                               (struct sockaddr *)&from, &from_len);

        if (len < 0 && errno == EINTR) {
            continue;
        }
        if (len < 0) {
            return;
        }
        if (from.sin_addr.s_addr != w->options.target.sin_addr.s_addr) {
            w->answers.strange++;
            continue;
        }
        gap_ns = answers_got(&w->answers, bytes, (size_t)len, now_ns());
        progress_write(w);
        if (w->options.events && first && w->answers.count > 0) {
            fprintf(stderr,
                    "witness: t_ms=%.1f first answer acked=%" PRIu64 " epoch=%" PRIu64
                    "\n",
                    to_ms(w->answers.first_ns - w->start_ns), w->answers.max_acked,
                    w->answers.max_epoch);
        } else if (w->options.events && gap_ns > 0) {
            fprintf(stderr,
                    "witness: t_ms=%.1f answers again after %.1f ms, acked=%" PRIu64
                    " epoch=%" PRIu64 "\n",
                    to_ms(w->answers.last_ns - w->start_ns), to_ms(gap_ns),
                    w->answers.max_acked, w->answers.max_epoch);
        }
    }
}

/* The loop
 * ---------------------------------------------------------------------------------------
 */

static int timer_and_signals_open(struct witness *w)
{
    struct itimerspec period = {0};
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    w->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    w->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    period.it_interval.tv_sec = (time_t)(w->options.every_ms / 1000);
    period.it_interval.tv_nsec = (long)(w->options.every_ms % 1000 * NS_PER_MS);
    period.it_value = period.it_interval;
    if (w->signal_fd < 0 || w->timer_fd < 0 ||
        timerfd_settime(w->timer_fd, 0, &period, NULL) != 0) {
        perror("witness: timer");
        return -errno;
    }
    return 0;
}

/* Each period: a question; new taps; frames old enough that no socket can still hold
 * older ones are judged. */
static void on_timer(struct witness *w)
{
    uint64_t expirations, now = now_ns();

    if (read(w->timer_fd, &expirations, sizeof(expirations)) < 0) {
        return;
    }
    if (w->options.has_target) {
        ask(w);
    }
    if (w->taps.spec_count > 0) {
        taps_open(&w->taps);
    }
    if (now - w->settled_ns > 1000 * NS_PER_MS) {
        dual_settle(&w->taps_dual, w->settled_ns);
        w->settled_ns = now;
    }
}

static void watch(struct witness *w)
{
    uint64_t stop_ns = w->options.seconds > 0
                           ? w->start_ns + w->options.seconds * 1000 * NS_PER_MS
                           : UINT64_MAX;

    while (now_ns() < stop_ns) {
        struct pollfd fds[3 + TAP_SOCKETS_MAX] = {
            {.fd = w->signal_fd, .events = POLLIN},
            {.fd = w->timer_fd, .events = POLLIN},
            {.fd = w->udp_fd, .events = POLLIN},
        };
        uint32_t tap_count = w->taps.socket_count;

        for (uint32_t i = 0; i < tap_count; i++) {
            fds[3 + i] = (struct pollfd){.fd = w->taps.socket[i].fd, .events = POLLIN};
        }
        if (poll(fds, 3 + tap_count, 1000) < 0 && errno != EINTR) {
            perror("witness: poll");
            return;
        }
        if (fds[2].revents != 0) {
            listen_to_answers(w);
        }
        for (uint32_t i = 0; i < tap_count; i++) {
            if (fds[3 + i].revents != 0) {
                taps_read(&w->taps, &w->taps.socket[i]);
            }
        }
        if (fds[0].revents != 0) {
            return;
        }
        if (fds[1].revents != 0) {
            on_timer(w);
        }
    }
}

static void taps_finish(struct witness *w)
{
    for (uint32_t i = 0; i < w->taps.socket_count; i++) {
        taps_read(&w->taps, &w->taps.socket[i]);
    }
    dual_settle(&w->taps_dual, UINT64_MAX);
    taps_free(&w->taps);
}

static bool log_read_file(struct witness *w, const char *path)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t cap = 0;

    if (file == NULL) {
        fprintf(stderr, "witness: storage log %s: %s\n", path, strerror(errno));
        return false;
    }
    while (getline(&line, &cap, file) >= 0) {
        write_log_line(&w->log, line, w->options.vm);
    }
    free(line);
    fclose(file);
    return true;
}

static void logs_read(struct witness *w)
{
    for (size_t i = 0; i < w->options.storage_log_count; i++) {
        w->logs_unread += !log_read_file(w, w->options.storage_log[i]);
    }
    write_log_judge(&w->log, &w->writers);
}

/* The report
 * ----------------------------------------------------------------------------------- */

static void print_string(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            putchar('\\');
        }
        if ((unsigned char)*text >= 0x20) {
            putchar(*text);
        }
    }
    putchar('"');
}

static void print_outages(const struct witness *w)
{
    printf("\"outages\":[");
    for (uint32_t i = 0; i < w->answers.outage_count; i++) {
        const struct outage *o = &w->answers.outage[i];

        printf("%s{\"from_ms\":%.1f,\"ms\":%.1f,\"epoch\":%" PRIu64
               ",\"boot_changed\":%s,\"open\":%s}",
               i > 0 ? "," : "", to_ms(o->from_ns - w->start_ns), to_ms(o->len_ns),
               o->epoch, o->boot_changed ? "true" : "false", o->open ? "true" : "false");
    }
    printf("],");
}

static void print_emitters(const struct witness *w, const char *key,
                           const struct dual *dual)
{
    printf("\"%s\":[", key);
    for (uint32_t i = 0; i < dual->emitter_count; i++) {
        const struct emitter *e = &dual->emitter[i];

        printf("%s{\"name\":", i > 0 ? "," : "");
        print_string(e->name);
        /* The log may begin before we did. */
        printf(",\"events\":%" PRIu64 ",\"intervals\":%" PRIu64
               ",\"first_ms\":%.1f,\"last_ms\":%.1f}",
               e->events, e->intervals, ((double)e->first_ns - (double)w->start_ns) / 1e6,
               ((double)e->last_ns - (double)w->start_ns) / 1e6);
    }
    printf("],");
}

static void print_overlap(const struct witness *w, const char *key,
                          const struct dual *dual)
{
    if (dual->overlaps == 0) {
        return;
    }
    printf("\"%s\":{\"a\":", key);
    print_string(dual->first_overlap.a < dual->emitter_count
                     ? dual->emitter[dual->first_overlap.a].name
                     : "?");
    printf(",\"b\":");
    print_string(dual->first_overlap.b < dual->emitter_count
                     ? dual->emitter[dual->first_overlap.b].name
                     : "?");
    printf(",\"from_ms\":%.3f,\"to_ms\":%.3f},",
           ((double)dual->first_overlap.from_ns - (double)w->start_ns) / 1e6,
           ((double)dual->first_overlap.to_ns - (double)w->start_ns) / 1e6);
}

static const char *blind_reason(const struct witness *w)
{
    if (w->options.has_target && w->answers.count == 0) {
        return "no answer";
    }
    if (w->taps.spec_count > 0 && w->taps_dual.events == 0) {
        return "no frame of the guest on any tap";
    }
    if (w->taps.drops > 0 || w->taps_dual.lost_events > 0) {
        return "frames were dropped before they were judged";
    }
    if (w->options.storage_log_count > 0 && w->log.count == 0) {
        return "no write in the storage log";
    }
    if (w->logs_unread > 0) {
        return "a storage log could not be read";
    }
    if (w->writers.lost_events > 0 || w->log.bad_lines > w->options.storage_log_count) {
        return "storage log not understood"; /* one line of each may be cut short by a
                                                crash */
    }
    return NULL;
}

static bool is_violation(const struct witness *w)
{
    return w->answers.lost_acked > 0 || w->answers.epoch_backwards > 0 ||
           w->answers.two_boots > 0 || w->taps_dual.overlaps > 0 ||
           w->taps_dual.old_epoch_events > 0 || w->writers.overlaps > 0 ||
           w->log.old_epoch_writes > 0 || w->log.lost_acked_writes > 0;
}

static int report(struct witness *w)
{
    struct answers *a = &w->answers;
    const char *blind = blind_reason(w);
    bool violation = is_violation(w);
    uint64_t lost = a->lost_acked > w->log.lost_acked_writes ? a->lost_acked
                                                             : w->log.lost_acked_writes;

    printf("{\"verdict\":\"%s\",", violation       ? "violation"
                                   : blind != NULL ? "blind"
                                                   : "ok");
    if (blind != NULL) {
        printf("\"blind\":");
        print_string(blind);
        putchar(',');
    }
    printf("\"outage_ms\":%.1f,", to_ms(a->longest_gap_ns));
    print_outages(w);
    printf("\"answers\":%" PRIu64 ",\"asked\":%" PRIu32 ",\"send_errors\":%" PRIu64
           ",\"strange_answers\":%" PRIu64 ",\"duplicate_answers\":%" PRIu64
           ",\"two_boots_answered\":%" PRIu64 ",\"boots\":%" PRIu32 ",",
           a->count, w->token, w->send_errors, a->strange, a->duplicates, a->two_boots,
           a->boots);
    if (a->count > 0) {
        printf("\"first_answer_ms\":%.1f,\"last_answer_ms\":%.1f,",
               to_ms(a->first_ns - w->start_ns), to_ms(a->last_ns - w->start_ns));
        printf("\"rtt_us\":{\"p50\":%.0f,\"p99\":%.0f,\"max\":%.0f},",
               to_ms(answers_rtt(a, 50)) * 1e3, to_ms(answers_rtt(a, 99)) * 1e3,
               to_ms(answers_rtt(a, 100)) * 1e3);
    }
    printf("\"max_acked\":%" PRIu64 ",\"max_epoch\":%" PRIu64
           ",\"lost_acked_writes\":%" PRIu64 ",\"epoch_backwards\":%" PRIu64 ",",
           a->max_acked, a->max_epoch, lost, a->epoch_backwards);
    printf("\"dual_live\":%d,\"dual_overlaps\":%" PRIu64 ",\"old_epoch_frames\":%" PRIu64
           ",",
           w->taps_dual.overlaps > 0 || w->taps_dual.old_epoch_events > 0 ||
               w->writers.overlaps > 0 || a->two_boots > 0,
           w->taps_dual.overlaps, w->taps_dual.old_epoch_events);
    print_overlap(w, "first_overlap", &w->taps_dual);
    print_emitters(w, "taps", &w->taps_dual);
    printf("\"tap_drops\":%" PRIu64 ",\"unattributed_frames\":%" PRIu64 ",",
           w->taps.drops, w->taps.unattributed);
    printf("\"log_writes\":%zu,\"log_bad_lines\":%" PRIu64
           ",\"old_epoch_writes\":%" PRIu64 ",\"writer_overlaps\":%" PRIu64 ",",
           w->log.count, w->log.bad_lines, w->log.old_epoch_writes, w->writers.overlaps);
    print_overlap(w, "first_writer_overlap", &w->writers);
    print_emitters(w, "writers", &w->writers);
    printf("\"start_ns\":%" PRIu64 ",\"watched_ms\":%.1f}\n", w->start_ns,
           to_ms(w->end_ns - w->start_ns));
    return violation ? EXIT_VIOLATION : blind != NULL ? EXIT_BLIND : EXIT_OK;
}

static int run_watch(int argc, char **argv)
{
    struct witness *w = &witness;
    int status;

    w->udp_fd = w->progress_fd = -1;
    status = options_parse(w, argc, argv);
    if (status >= 0) {
        return status;
    }
    if (w->options.progress != NULL) {
        w->progress_fd =
            open(w->options.progress, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (w->progress_fd < 0) {
            fprintf(stderr, "witness: --progress %s: %s\n", w->options.progress,
                    strerror(errno));
            return EXIT_USAGE;
        }
        progress_write(w);
    }
    dual_init(&w->taps_dual, w->options.gap_ms * NS_PER_MS);
    dual_init(&w->writers, w->options.gap_ms * NS_PER_MS);
    answers_init(&w->answers, w->options.outage_ms * NS_PER_MS);
    write_log_init(&w->log);
    w->start_ns = w->settled_ns = now_ns();
    if (w->options.has_target || w->taps.spec_count > 0) {
        if ((w->options.has_target && udp_open(w) != 0) ||
            timer_and_signals_open(w) != 0 ||
            taps_start(&w->taps, &w->taps_dual, w->options.mac) != 0) {
            return EXIT_USAGE;
        }
        watch(w);
    }
    w->end_ns = now_ns();
    answers_end(&w->answers, w->end_ns);
    taps_finish(w);
    logs_read(w);
    if (w->arp_set) {
        neighbour_set(w, false);
    }
    status = report(w);
    dual_free(&w->taps_dual);
    dual_free(&w->writers);
    answers_free(&w->answers);
    write_log_free(&w->log);
    return status;
}

/* check-disk
 * ---------------------------------------------------------------------------------------
 */

static bool read_image_slot(void *ctx, uint64_t slot, uint8_t *bytes)
{
    const int *fd = ctx;

    return pread(*fd, bytes, RECORD_SLOT_BYTES, (off_t)(slot * RECORD_SLOT_BYTES)) ==
           RECORD_SLOT_BYTES;
}

/* The highest N of lines "seq=N ..."; whole lines only, for the last one may be cut. */
static int console_max_seq(const char *path, uint64_t *ret_seq)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t cap = 0;
    uint64_t max = 0;

    if (file == NULL) {
        fprintf(stderr, "witness: console log %s: %s\n", path, strerror(errno));
        return -errno;
    }
    while (getline(&line, &cap, file) >= 0) {
        uint64_t seq;

        if (strchr(line, '\n') != NULL && sscanf(line, "seq=%" SCNu64 " ", &seq) == 1 &&
            seq > max) {
            max = seq;
        }
    }
    free(line);
    fclose(file);
    *ret_seq = max;
    return 0;
}

static int disk_options(int argc, char **argv, const char **ret_image,
                        uint64_t *ret_acked)
{
    static const struct option disk_long[] = {
        {"acked", required_argument, NULL, 'a'},
        {"console", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    uint64_t acked = 0, seq = 0;
    int id;

    while ((id = getopt_long(argc, argv, "h", disk_long, NULL)) != -1) {
        if (id == 'h') {
            fputs(usage_text, stdout);
            return EXIT_OK;
        }
        if (id == 'a' && !parse_u64(optarg, UINT64_MAX, &acked)) {
            return usage_error("--acked", optarg);
        }
        if (id == '?' || (id == 'c' && console_max_seq(optarg, &seq) != 0)) {
            return EXIT_USAGE;
        }
    }
    if (optind + 1 != argc) {
        fputs("witness: check-disk needs one disk image\n", stderr);
        return EXIT_USAGE;
    }
    *ret_image = argv[optind];
    *ret_acked = acked > seq ? acked : seq;
    return -1;
}

static int run_check_disk(int argc, char **argv)
{
    struct disk_report d;
    const char *image;
    uint64_t acked;
    off_t bytes;
    bool violation;
    int fd, status = disk_options(argc, argv, &image, &acked);

    if (status >= 0) {
        return status;
    }
    fd = open(image, O_RDONLY | O_CLOEXEC);
    bytes = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    if (bytes < 0) {
        fprintf(stderr, "witness: disk image %s: %s\n", image, strerror(errno));
        return EXIT_USAGE;
    }
    if (disk_check(read_image_slot, &fd, (uint64_t)bytes / RECORD_SLOT_BYTES, acked,
                   &d) != 0) {
        fputs("witness: no memory for the disk's records\n", stderr);
        return EXIT_USAGE;
    }
    close(fd);
    violation = d.lost_acked > 0 || d.misplaced > 0 || d.epoch_backwards > 0;
    printf("{\"verdict\":\"%s\",\"acked\":%" PRIu64 ",\"newest\":%" PRIu64
           ",\"records\":%" PRIu64 ",\"slots\":%" PRIu64 ",\"lost_acked_writes\":%" PRIu64
           ",\"first_lost\":%" PRIu64 ",\"torn\":%" PRIu64 ",\"misplaced\":%" PRIu64
           ",\"epoch_backwards\":%" PRIu64 ",\"foreign\":%" PRIu64 "}\n",
           violation        ? "violation"
           : d.records == 0 ? "blind"
                            : "ok",
           acked, d.newest, d.records, d.slots, d.lost_acked, d.first_lost, d.torn,
           d.misplaced, d.epoch_backwards, d.foreign);
    return violation ? EXIT_VIOLATION : d.records == 0 ? EXIT_BLIND : EXIT_OK;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "check-disk") == 0) {
        return run_check_disk(argc - 1, argv + 1);
    }
    return run_watch(argc, argv);
}
