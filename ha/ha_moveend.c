/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_moveend.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "ha/ha_text.h"

#define BACKLOG     32
#define STREAMS_MAX 4

bool ha_moveend_known(const struct ha_move_end *end)
{
    static const uint8_t none[HA_MOVE_KEY_LEN];

    return memcmp(end->key, none, sizeof none) != 0;
}

const char *ha_moveend_address(const struct ha_vmm *vmm, uint32_t nodeid)
{
    const struct conf_cluster *conf = vmm->ops->cluster(vmm->ctx);

    for (unsigned i = 0; conf != NULL && i < conf->node_count; i++) {
        if (conf->node[i].nodeid == nodeid) {
            return conf->node[i].addr;
        }
    }
    return NULL;
}

bool ha_moveend_plaintext(const struct ha_vmm *vmm)
{
    const struct conf_cluster *conf = vmm->ops->cluster(vmm->ctx);

    return conf != NULL && conf->insecure_lab;
}

unsigned ha_moveend_streams(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    return cpus < 2                     ? 1
           : cpus / 2 + 1 < STREAMS_MAX ? (unsigned)cpus / 2 + 1
                                        : STREAMS_MAX;
}

int ha_moveend_listen(const struct ha_vmm *vmm, const Gemel__VmmReport *report,
                      const struct os_tcp_opts *opts, struct ha_move_end *ret_offer,
                      int *ret_fd, char why[static REASON_LEN_MAX + 1])
{
    const char *address = ha_moveend_address(vmm, vmm->self.nodeid);
    int r;

    memcpy(ret_offer->key, report->mig_key.data, report->mig_key.len);
    memcpy(ret_offer->token, report->mig_token.data, report->mig_token.len);
    if (address == NULL) {
        ha_text_set(why, REASON_LEN_MAX + 1,
                    "this node has no address in the cluster definition", NULL);
        return -EADDRNOTAVAIL;
    }
    ha_text_set(ret_offer->address, sizeof ret_offer->address, address, NULL);
    r = os_tcp_listen(address, 0, 0, BACKLOG, opts, ret_fd, &ret_offer->port);
    if (r < 0) {
        ha_text_set(why, REASON_LEN_MAX + 1, "cannot listen on ", address, ": ",
                    strerror(-r), NULL);
    }
    return r;
}
