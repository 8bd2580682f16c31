/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor: PID 1 of the lab's PID namespace, with the hub's network and a mount
 * namespace. It owns the power switches, the simulated BMCs and the switch's faults, and
 * answers requests on D/ctl.sock. Everything of a lab lives in or below its namespaces,
 * so its end (one SIGKILL) is the end of every process, link and mount.
 */
#pragma once

#include "lab/lab_conf.h"

/*
 * Starts it and returns its pid and start time in *lab. It begins its work only after
 * lab_super_go, so that it is on record before it makes anything; until then it dies with
 * *ret_lifeline.
 */
int lab_super_start(struct lab *lab, int not_for_it, int *ret_lifeline);
int lab_super_go(int lifeline);
/* Lets it live on without us. */
int lab_super_settle(int lifeline);
/* Ends a lab's processes, if they are still the recorded ones; returns when all are gone.
 */
int lab_super_kill(const struct lab *lab);
