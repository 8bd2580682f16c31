/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_key.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/bug.h"
#include "migrate/mig_tls.h"

struct mig_key {
    gnutls_certificate_credentials_t credentials; /* the pair, as a raw public key */
    struct mig_fingerprint fingerprint;
};

static int fail(struct vmm_error *err, const char *what, int code)
{
    return vmm_fail(err, code == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EIO,
                    "the key of a transfer: %s failed: %s", what, gnutls_strerror(code));
}

/* The first of everything, so that what a library does once is done: its start, random
 * numbers, the code for this processor. */
int mig_key_init(struct vmm_error *err)
{
    struct mig_key *key;
    int r = gnutls_global_init();

    if (r < 0) {
        return fail(err, "gnutls_global_init", r);
    }
    r = mig_key_new(&key, err);
    if (r < 0) {
        return r;
    }
    r = mig_tls_rehearse(key, err);
    mig_key_free(key);
    return r;
}

/* Of a SubjectPublicKeyInfo. */
static int fingerprint_of(const gnutls_datum_t *der, struct mig_fingerprint *ret)
{
    return gnutls_hash_fast(GNUTLS_DIG_SHA256, der->data, der->size, ret->b);
}

static int public_half(gnutls_privkey_t pair, gnutls_pcert_st *ret_pcert,
                       struct mig_fingerprint *ret_fingerprint)
{
    gnutls_pubkey_t public;
    int r = gnutls_pubkey_init(&public);

    if (r < 0) {
        return r;
    }
    r = gnutls_pubkey_import_privkey(public, pair, 0, 0);
    /* Takes `public`. */
    r = r < 0 ? r : gnutls_pcert_import_rawpk(ret_pcert, public, 0);
    if (r < 0) {
        gnutls_pubkey_deinit(public);
        return r;
    }
    r = fingerprint_of(&ret_pcert->cert, ret_fingerprint);
    if (r < 0) {
        gnutls_pcert_deinit(ret_pcert);
    }
    return r;
}

static int fill(struct mig_key *key)
{
    gnutls_privkey_t pair;
    gnutls_pcert_st *pcert;
    int r = gnutls_privkey_init(&pair);

    if (r < 0) {
        return r;
    }
    pcert = gnutls_malloc(sizeof *pcert); /* as gnutls_certificate_set_key wants it */
    r = pcert ? 0 : GNUTLS_E_MEMORY_ERROR;
    r = r < 0 ? r
              : gnutls_privkey_generate(pair, GNUTLS_PK_ECDSA,
                                        GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
                                        0);
    r = r < 0 ? r : public_half(pair, pcert, &key->fingerprint);
    if (r < 0) {
        gnutls_free(pcert);
        gnutls_privkey_deinit(pair);
        return r;
    }
    r = gnutls_certificate_set_key(key->credentials, NULL, 0, pcert, 1, pair);
    if (r < 0) {
        gnutls_pcert_deinit(pcert);
        gnutls_privkey_deinit(pair);
    }
    gnutls_free(pcert); /* its content was taken */
    return r < 0 ? r : 0;
}

int mig_key_new(struct mig_key **ret_key, struct vmm_error *err)
{
    struct mig_key *key = calloc(1, sizeof *key);
    int r;

    if (!key) {
        return vmm_fail(err, -ENOMEM, "the key of a transfer: out of memory");
    }
    r = gnutls_certificate_allocate_credentials(&key->credentials);
    if (r < 0) {
        free(key);
        return fail(err, "its container", r);
    }
    r = fill(key);
    if (r < 0) {
        mig_key_free(key);
        return fail(err, "making the pair", r);
    }
    mig_tls_set_verify(key->credentials);
    *ret_key = key;
    return 0;
}

void mig_key_free(struct mig_key *key)
{
    if (key) {
        gnutls_certificate_free_credentials(key->credentials);
        free(key);
    }
}

struct mig_fingerprint mig_key_fingerprint(const struct mig_key *key)
{
    return key->fingerprint;
}

gnutls_certificate_credentials_t mig_key_credentials(const struct mig_key *key)
{
    return key->credentials;
}

struct mig_token mig_token_new(void)
{
    struct mig_token token;

    BUG_ON(getrandom(token.b, sizeof token.b, 0) != (ssize_t)sizeof token.b);
    return token;
}
