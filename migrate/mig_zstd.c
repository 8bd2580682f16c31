/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_zstd.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/bug.h"
#include "migrate/mig_ram.h"

#define PAGES_BYTES (MIG_RAM_PAGES_MAX * MIG_PAGE)
#define LEVEL       1

struct mig_zstd {
    ZSTD_CCtx *pack;
    ZSTD_DCtx *unpack;
    uint8_t *pages, *packed; /* PAGES_BYTES each: more than that is of no use */
};

void mig_zstd_free(struct mig_zstd *z)
{
    if (z == NULL) {
        return;
    }
    ZSTD_freeCCtx(z->pack);
    ZSTD_freeDCtx(z->unpack);
    free(z->pages);
    free(z->packed);
    free(z);
}

struct mig_zstd *mig_zstd_new(void)
{
    struct mig_zstd *z = calloc(1, sizeof *z);

    if (z == NULL) {
        return NULL;
    }
    z->pack = ZSTD_createCCtx();
    z->unpack = ZSTD_createDCtx();
    z->pages = malloc(PAGES_BYTES);
    z->packed = malloc(PAGES_BYTES);
    if (z->pack == NULL || z->unpack == NULL || z->pages == NULL || z->packed == NULL) {
        mig_zstd_free(z);
        return NULL;
    }
    return z;
}

uint32_t mig_zstd_pack(struct mig_zstd *z, const struct iovec *iov, size_t count,
                       const uint8_t **ret_data)
{
    size_t len = 0, got;

    for (size_t i = 0; i < count; i++) {
        BUG_ON(iov[i].iov_len > PAGES_BYTES - len);
        memcpy(z->pages + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    if (len == 0) {
        return 0;
    }
    got = ZSTD_compressCCtx(z->pack, z->packed, len - 1, z->pages, len, LEVEL);
    *ret_data = z->packed;
    return ZSTD_isError(got) ? 0 : (uint32_t)got;
}

uint8_t *mig_zstd_room(struct mig_zstd *z)
{
    return z->packed;
}

const char *mig_zstd_unpack(struct mig_zstd *z, uint32_t len, const struct iovec *iov,
                            size_t count)
{
    size_t want = 0, at = 0, got;

    for (size_t i = 0; i < count; i++) {
        want += iov[i].iov_len;
    }
    BUG_ON(want > PAGES_BYTES || len > PAGES_BYTES);
    got = ZSTD_decompressDCtx(z->unpack, z->pages, want, z->packed, len);
    if (ZSTD_isError(got)) {
        return "compressed pages that cannot be unpacked";
    }
    if (got != want) {
        return "compressed pages that are fewer than the frame says";
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(iov[i].iov_base, z->pages + at, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    return NULL;
}
