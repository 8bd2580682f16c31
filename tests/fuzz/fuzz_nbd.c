/* SPDX-License-Identifier: Apache-2.0 */
/* A network disk whose server sends any bytes: in the handshake, or (first byte odd)
 * after a good one; second bit: of a disk with epochs. No crash, no hang, each request is
 * answered once. libnbd itself is not instrumented; what it hands on is. */
#include "tests/fuzz/fuzz.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/blk_nbd.h"

#define REQUESTS 4
#define ROUNDS   64

/* Hello, and answers to STRUCTURED_REPLY (unknown) and GO (1 MiB; flush, trim, zeroes).
 */
static const uint8_t good[] =
    "NBDMAGICIHAVEOPT\0\3"
    "\0\3\xe8\x89\x04\x55\x65\xa9\0\0\0\x08\x80\0\0\1\0\0\0\0"
    "\0\3\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\3\0\0\0\x0c\0\0\0\0\0\0\0\x10\0\0\0\x65"
    "\0\3\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\1\0\0\0\0";

static unsigned answers;

static void on_done(void *ctx, unsigned disk, const struct blk_request *request,
                    uint32_t status, const uint8_t *data, uint32_t len)
{
    (void)ctx;
    BUG_ON(disk != 0 || (data != NULL && (status != 0 || len != request->len)));
    answers++;
}

static void drive(struct blk_nbd *blk)
{
    static const uint8_t bytes[1024];
    static const enum request_op op[REQUESTS] = {REQUEST_READ, REQUEST_WRITE,
                                                 REQUEST_FLUSH, REQUEST_READ};

    answers = 0;
    for (unsigned i = 0; i < REQUESTS; i++) {
        blk_nbd_submit(blk, 0,
                       &(struct blk_request){.op = op[i],
                                             .sector = i,
                                             .len = op[i] == REQUEST_FLUSH ? 0 : 1024,
                                             .data = bytes});
    }
    for (int i = 0; i < ROUNDS && blk_nbd_in_flight(blk) > 0; i++) {
        blk_nbd_push(blk);
        (void)blk_nbd_reap(blk, on_done, NULL);
    }
    BUG_ON(blk_nbd_in_flight(blk) > 0 || answers != REQUESTS);
}

FUZZ_ONE(data, len)
{
    struct blk_nbd_disk_conf conf = {
        .name = "fuzz", .export_name = "x", .sectors = 2048, .keep = true};
    struct vmm_error err;
    struct blk_nbd *blk;
    int fd[2];

    if (len < 1 || len > 60000) {
        return -1;
    }
    conf.by_epoch = (data[0] & 2) != 0;
    conf.epoch = 5;
    BUG_ON(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) < 0);
    BUG_ON(blk_nbd_open(&blk, &err) < 0);
    if (data[0] & 1) {
        BUG_ON(write(fd[1], good, sizeof good - 1) != (ssize_t)sizeof good - 1);
    }
    BUG_ON(write(fd[1], data + 1, len - 1) != (ssize_t)len - 1);
    shutdown(fd[1], SHUT_WR); /* the end follows: nobody waits */
    if (blk_nbd_take(blk, 0, fd[0], &conf, &err) == 0) {
        drive(blk);
    }
    blk_nbd_close(blk);
    close(fd[1]);
    return 0;
}
