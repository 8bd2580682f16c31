/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of an NBD server, for epoch_filter.sh: one command a line on stdin, one answer
 * a line on stdout. usage: nbd_owner URI-SOCKET EXPORT
 *
 *     description | write SECTOR BYTE COUNT | send SECTOR BYTE | wait | read SECTOR |
 * flush
 *
 * The first line out is "in", or "refused ERRNO-NAME"; then it ends. `send` does not wait
 * for the answer, `wait` waits for all of them. `write` writes COUNT times, until one
 * fails.
 */
#include <errno.h>
#include <libnbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR_LEN 512

static unsigned sent, answered, failed;
static int last_error;

static void say(const char *text, int error)
{
    printf("%s%s%s\n", text, error ? " " : "", error ? strerrorname_np(error) : "");
    fflush(stdout);
}

static int on_answer(void *ctx, int *error)
{
    (void)ctx;
    answered++;
    failed += *error != 0;
    last_error = *error ? *error : last_error;
    return 1;
}

static void send_one(struct nbd_handle *nbd, uint64_t sector, int byte)
{
    static uint8_t data[SECTOR_LEN];
    nbd_completion_callback callback = {.callback = on_answer};

    memset(data, byte, sizeof data);
    if (nbd_aio_pwrite(nbd, data, sizeof data, sector * SECTOR_LEN, callback, 0) < 0) {
        say("failed", nbd_get_errno());
        return;
    }
    sent++;
    while (nbd_aio_get_direction(nbd) & LIBNBD_AIO_DIRECTION_WRITE &&
           nbd_poll(nbd, 0) > 0) {
    }
    say("sent", 0);
}

static void wait_all(struct nbd_handle *nbd)
{
    while (answered < sent && nbd_poll(nbd, -1) >= 0) {
    }
    say(failed || answered < sent ? "failed" : "done", last_error);
}

static void write_many(struct nbd_handle *nbd, uint64_t sector, int byte, unsigned count)
{
    uint8_t data[SECTOR_LEN];

    memset(data, byte, sizeof data);
    for (unsigned i = 0; i < count; i++) {
        if (nbd_pwrite(nbd, data, sizeof data, sector * SECTOR_LEN, 0) < 0) {
            say("failed", nbd_get_errno());
            return;
        }
    }
    say("done", 0);
}

static void read_one(struct nbd_handle *nbd, uint64_t sector)
{
    uint8_t data[SECTOR_LEN];

    if (nbd_pread(nbd, data, sizeof data, sector * SECTOR_LEN, 0) < 0) {
        say("failed", nbd_get_errno());
        return;
    }
    printf("%u\n", data[0]);
    fflush(stdout);
}

static void do_line(struct nbd_handle *nbd, const char *line)
{
    unsigned long long sector;
    unsigned byte, count;

    if (sscanf(line, "write %llu %u %u", &sector, &byte, &count) == 3) {
        write_many(nbd, sector, (int)byte, count);
    } else if (sscanf(line, "send %llu %u", &sector, &byte) == 2) {
        send_one(nbd, sector, (int)byte);
    } else if (sscanf(line, "read %llu", &sector) == 1) {
        read_one(nbd, sector);
    } else if (strcmp(line, "wait\n") == 0) {
        wait_all(nbd);
    } else if (strcmp(line, "flush\n") == 0) {
        int r = nbd_flush(nbd, 0);

        say(r < 0 ? "failed" : "done", r < 0 ? nbd_get_errno() : 0);
    } else if (strcmp(line, "description\n") == 0) {
        char *text = nbd_get_export_description(nbd);

        say(text ? text : "none", 0);
        free(text);
    } else {
        say("what?", 0);
    }
}

int main(int argc, char **argv)
{
    struct nbd_handle *nbd = nbd_create();
    char line[128];

    if (argc != 3 || !nbd || nbd_set_export_name(nbd, argv[2]) < 0 ||
        nbd_set_full_info(nbd, true) < 0) {
        fprintf(stderr, "usage: nbd_owner SOCKET EXPORT\n");
        return 2;
    }
    if (nbd_connect_unix(nbd, argv[1]) < 0) {
        say("refused", nbd_get_errno() ? nbd_get_errno() : EPROTO);
        nbd_close(nbd);
        return 1;
    }
    say("in", 0);
    while (fgets(line, sizeof line, stdin)) {
        do_line(nbd, line);
    }
    nbd_close(nbd);
    return 0;
}
