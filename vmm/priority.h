/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nice values of gemel-vmm's threads. Who tells others that this VM is there (heartbeats
 * of a twin, the lease, the control socket) has to get a processor soon on a busy host,
 * and needs it for a moment; the guest and its I/O have what the process was started
 * with. By thread, as Linux has it.
 */
#pragma once

#define PRIORITY_SOON (-10)

/* The process's first thread, before others are made and privileges are dropped: they
 * start with PRIORITY_SOON, if that may be. */
void priority_soon(void);
/* This thread goes back to what the process was started with. */
void priority_usual(void);
