/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_twinft.h"

#include <string.h>

void ha_twinft_keep(struct ha_twin_ft *ft, const struct conf_vm *conf)
{
    memset(ft, 0, sizeof *ft);
    ft->kept = true;
    ft->mode = (uint8_t)conf->ft_mode;
    ft->commit = (uint8_t)conf->ft_commit;
    ft->domains = (uint8_t)conf->ft_domains;
    ft->suspect_ms = conf->ft_suspect_ms;
    ft->on_count = (uint8_t)conf->ft_on_count;
    memcpy(ft->on, conf->ft_on, sizeof ft->on);
}

void ha_twinft_put_back(const struct ha_twin_ft *ft, struct conf_vm *conf)
{
    conf->ft_mode = (enum conf_ft_mode)ft->mode;
    conf->ft_commit = (enum conf_ft_commit)ft->commit;
    conf->ft_domains = (enum conf_ft_domains)ft->domains;
    conf->ft_suspect_ms = ft->suspect_ms;
    conf->ft_on_count = ft->on_count;
    memcpy(conf->ft_on, ft->on, sizeof conf->ft_on);
}

/* In a record
 * ------------------------------------------------------------------------------------ */

void ha_put_twinft(struct bytes_wr *wr, const struct ha_twin_ft *ft)
{
    bytes_wr_u8(wr, ft->mode);
    bytes_wr_u8(wr, ft->commit);
    bytes_wr_u8(wr, ft->domains);
    bytes_wr_u32(wr, ft->suspect_ms);
    bytes_wr_u8(wr, ft->on_count);
    for (unsigned i = 0; i < ft->on_count; i++) {
        bytes_wr_str(wr, ft->on[i]);
    }
}

bool ha_get_twinft(struct bytes_rd *rd, struct ha_twin_ft *ft)
{
    ft->kept = true;
    ft->mode = bytes_rd_u8(rd);
    ft->commit = bytes_rd_u8(rd);
    ft->domains = bytes_rd_u8(rd);
    ft->suspect_ms = bytes_rd_u32(rd);
    ft->on_count = bytes_rd_u8(rd);
    if (rd->failed || ft->on_count > ARRAY_SIZE(ft->on)) {
        return false;
    }
    for (unsigned i = 0; i < ft->on_count; i++) {
        bytes_rd_str(rd, ft->on[i], sizeof ft->on[i]);
    }
    return true;
}
