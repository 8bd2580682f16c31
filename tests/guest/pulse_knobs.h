/* SPDX-License-Identifier: Apache-2.0 */
/* pulse: its command line, words like key or key=value; see README.md for what they mean.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum fill_content { FILL_RANDOM, FILL_ZERO, FILL_MIXED };

struct knobs {
    uint32_t ip;         /* ip=10.0.0.5, host order; 0: none */
    uint64_t rate;       /* rate=50: records per second */
    uint64_t count;      /* count=N: power off after N records; 0: never */
    uint64_t reset;      /* reset=N: reset the machine after N records */
    uint64_t crash;      /* crash=N: triple fault after N records */
    uint64_t hang;       /* hang=N: stop for ever, interrupts off, after N records */
    uint64_t body;       /* body=BYTES: size of a record, header included */
    uint64_t dirty_rate; /* dirty=PAGES_PER_S:MIB */
    uint64_t dirty_mib;
    bool filled;   /* the first pass before anything else */
    bool progress; /* a 'd' on the debug port for each 256 pages dirtied, 'c': compute */
    uint64_t fill_mib; /* fill=MIB:CONTENT: memory behind that */
    enum fill_content fill_content;
    uint64_t tick_ms; /* tick=2: a byte on the debug port every 2 ms */
    uint64_t compute; /* compute=K: rounds of K thousand instructions without an exit */
    uint64_t epoch;   /* epoch=N: where fw_cfg does not say */
    const char *hostile; /* hostile=all */
    bool no_disk, no_net, quiet;
    bool no_flush; /* noflush: reports what is only written: the oracles must find that
                      out */
};

/* Cuts `cmdline` into words in place. A word that is not understood is reported on the
 * console and skipped. */
void knobs_parse(struct knobs *knobs, char *cmdline);
