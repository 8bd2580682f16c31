/* SPDX-License-Identifier: Apache-2.0 */
/* Versions from the first byte. Numbers are never reused. */
#pragma once

#include <stdint.h>

/* agent <-> gemel-vmm, agent <-> gemel-fenced, gemel <-> agent (base/proto_ctl.proto) */
#define PROTO_CTL_VERSION     1
#define PROTO_CTL_VERSION_MIN 1
/* agent <-> agent (CPG). The cluster's level is the minimum of its members'. */
#define PROTO_CPG_VERSION     1
#define PROTO_CPG_VERSION_MIN 1
/* On disk */
#define CLAIM_VERSION        1
#define RECORD_LOG_VERSION   1
#define STATE_STREAM_VERSION 1

/* Feature bits, exchanged in every hello */
#define FEATURE_NONE UINT64_C(0)
