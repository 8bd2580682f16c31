/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who the two ends of one transfer are: each VMM makes a key pair for it, its agent
 * publishes the fingerprint in an ordered command, and each end takes nobody but the
 * owner of the other one's key (design section 8). No certificate, no CA, no file. In
 * libmigrate_io; the types are plain, so that cores may pass them on.
 */
#pragma once

#include <stdint.h>

#include "vmm/vmm_error.h"

/* SHA-256 of a public key as it goes over the wire (SubjectPublicKeyInfo, DER). */
struct mig_fingerprint {
    uint8_t b[32];
};

/* Says that a connection belongs to this transfer, once per stream. A secret. */
struct mig_token {
    uint8_t b[16];
};

struct mig_key; /* ECDSA P-256; not changed after it was made: any thread may use it */

/* Before the sandbox, once, by main(): everything of the TLS library that opens files. */
int mig_key_init(struct vmm_error *err);
/* A new key pair. Opens nothing: may be called in the sandbox. */
int mig_key_new(struct mig_key **ret_key, struct vmm_error *err);
void mig_key_free(struct mig_key *key); /* NULL is fine */
struct mig_fingerprint mig_key_fingerprint(const struct mig_key *key);

/* 128 random bits of the kernel. */
struct mig_token mig_token_new(void);
