/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a guest is, and how a back end stops it there (design 7.2). A position is a
 * number of completed exits and, for back ends that count, of instructions since the last
 * one.
 *
 * Exits: `steps` is always 0. That is what vmm/engine_tape.c does; any KVM can.
 *
 * Single steps (KVM_GUESTDBG_SINGLESTEP): exact, and some thousand times slower:
 * vmm/engine_steps.c, for `gemel-vmm --replay FILE --until N+K`. That it agrees with the
 * exits is shown by tests/kvm/steps.c, which lands by it, too. It counts as KVM reports
 * steps: a REP instruction is one step on kvm_pvm and one per iteration on VMX and SVM;
 * an STI and the instruction behind it can be one. So both sides must be hosts of one
 * kind. PUSHF, SYSCALL and frames of exceptions show TF where the hardware steps (not on
 * kvm_pvm): such instructions would have to be stepped over by a breakpoint. A log has
 * positions of exits only: nothing is applied between them.
 *
 * A back end that counts branches (PMU) would fill in the same; there is none, and
 * nothing here claims that one works.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ft_pos {
    uint64_t exits;
    uint64_t steps; /* since that exit */
};

enum ft_pos_kind { FT_POS_EXITS = 0, FT_POS_STEPS, FT_POS_KINDS };

/* How a back end of this host did in its self-test; 0 in `runs`: it was not tried. */
struct ft_pos_test {
    uint32_t runs, missed, elsewhere;
};

struct ft_pos_ops {
    const char *name;
    bool counts; /* `steps` may be other than 0 */
    /* Before the first entry. 0, or -EOPNOTSUPP with the reason in *ret_why. */
    int (*test)(void *ctx, struct ft_pos_test *ret_test, const char **ret_why);
    /* Where the guest is, which stands. */
    struct ft_pos (*where)(void *ctx);
    /* Runs it on to `to`, not before `where`. True: it stands there; false: an exit that
     * lies before `to` came first, which is to be served. */
    bool (*land)(void *ctx, struct ft_pos to);
};

static inline bool ft_pos_before(struct ft_pos a, struct ft_pos b)
{
    return a.exits < b.exits || (a.exits == b.exits && a.steps < b.steps);
}
