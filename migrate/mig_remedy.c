/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_remedy.h"

#include "base/limits.h"
#include "base/units.h"

uint64_t mig_remedy_round(uint64_t value)
{
    uint64_t unit = 1;

    while (value / unit >= 100) {
        unit *= 10;
    }
    return (value + unit - 1) / unit * unit;
}

void mig_remedy_begin(struct mig_text *t, bool *any)
{
    mig_text_add(t, *any ? ", or " : "; would do: ");
    *any = true;
}

void mig_remedy_downtime(struct mig_text *t, bool *any, uint64_t downtime_ns)
{
    uint64_t ms = mig_remedy_round((downtime_ns + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);

    if (ms <= MIGRATE_DOWNTIME_MAX_MS) {
        mig_remedy_begin(t, any);
        mig_text_add(t, "--downtime %ums", ms);
    }
}

void mig_remedy_slowdown(struct mig_text *t, bool *any, uint64_t permille)
{
    uint64_t percent = (permille + 9) / 10;

    if (percent <= MIGRATE_SLOWDOWN_MAX) {
        mig_text_add(t, "%s--max-slowdown %u, if its vCPUs are busy",
                     *any ? "; perhaps " : "; would do perhaps: ", percent);
        *any = true;
    }
}

void mig_remedy_rate(struct mig_text *t, bool *any, uint64_t bps)
{
    mig_remedy_begin(t, any);
    mig_text_add(t, "--rate %uMiB", mig_remedy_round((bps >> 20) + 1));
}
