/* SPDX-License-Identifier: Apache-2.0 */
/* What two gemel-vmm need to find and trust each other, for a migration (ha_vmmmove.c)
 * and for a twin (ha_vmmtwin.c). */
#pragma once

#include "base/proto_ctl.h"
#include "ha/ha_vmm_priv.h"

bool ha_moveend_known(const struct ha_move_end *end);
/* NULL: the cluster definition has none. */
const char *ha_moveend_address(const struct ha_vmm *vmm, uint32_t nodeid);
/* insecure_lab: no TLS. */
bool ha_moveend_plaintext(const struct ha_vmm *vmm);
unsigned ha_moveend_streams(void);
/* The offer of the end that is connected to: the VMM's key and token, and a listening
 * socket on this node's address. 0 or -errno, with a reason. */
int ha_moveend_listen(const struct ha_vmm *vmm, const Gemel__VmmReport *report,
                      const struct os_tcp_opts *opts, struct ha_move_end *ret_offer,
                      int *ret_fd, char why[static REASON_LEN_MAX + 1]);
