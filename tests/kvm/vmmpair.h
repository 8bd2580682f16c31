/* SPDX-License-Identifier: Apache-2.0 */
/* For programs of tests that play the agents of two gemel-vmm at their control sockets.
 * What goes wrong ends the program, with one JSON line. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/proto_ctl.h"

struct pair_end {
    const char *name;
    int fd;
    uint64_t seq, epoch;
    Gemel__VmmState state;
    Gemel__MigState move;
    uint8_t key[32], token[16];
    bool have_key;
    char text[512];
    uint64_t sent, missing, disk_sent, frozen_ms;
    uint32_t round;
    int memory_fd;
    bool gone; /* closed its socket, as it may */
    bool may_go;
    bool forgives; /* what is refused is text, and not the end */
    uint32_t ft_role, ft_reason;
    char ft_state[32], ft_text[512];
    bool ft_over;
    uint64_t ft_change, ft_exits, ft_replayed, ft_outputs, ft_released, ft_lag_us,
        ft_log_bytes, ft_diverged, ft_checkpoints, ft_pages, ft_stood_pages, ft_pause_us,
        ft_ack_us;
    uint64_t ft_verified, ft_barriers, ft_repairs, ft_repair_pages, ft_repair_states,
        ft_repair_outputs, ft_diverged_output, ft_diverged_data, ft_hashed_pages,
        ft_barrier_us, ft_barrier_max_us, ft_held_bytes;
    uint32_t ft_held;
};

/* An option and where it goes: bool, uint32_t, uint64_t, const char *; or what takes it.
 */
struct pair_option {
    const char *name;
    enum { PAIR_FLAG, PAIR_U32, PAIR_U64, PAIR_TEXT, PAIR_CALL } kind;
    void *to;
    void (*take)(char *text);
};
#define PAIR_OPTIONS_MAX 24

/* As getopt: what is no option stands in argv from optind on then. */
void pair_options(int argc, char **argv, const struct pair_option *table, size_t count);

__attribute__((noreturn)) void pair_die(const char *who, const char *why);
void pair_connect(struct pair_end *e, const char *path);
/* What has come, without waiting. */
void pair_hear(struct pair_end *e);
/* Until something has come of either, 1 s at most. */
void pair_wait(struct pair_end *a, struct pair_end *b);
void pair_ask(struct pair_end *e, Gemel__VmmRequest *rq, const int *fds, size_t count);
void pair_simple(struct pair_end *e, Gemel__VmmRequest__Kind kind);
void pair_prepare(struct pair_end *e, bool memory);
/* A network namespace, by its file; NULL: none. */
void pair_enter(const char *net);
double pair_ms(uint64_t ns);
