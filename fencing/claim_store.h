/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claims on the directory that the hosts share: DIR/owner.N, made once by write, fsync
 * and link(2), and DIR/owner.N.released. What counts is the content read back, never a
 * return code: on NFS a link may have worked although it said EEXIST. These functions
 * block (hard mounts): call them from a worker thread (base/worker). Nothing is pruned
 * while the VM exists; temporary files of crashed attempts are, after a day.
 */
#pragma once

#include "fencing/claim.h"

/* The system calls whose failures matter; tests put their own in. NULL: the real ones. */
struct claim_store_ops {
    int (*link)(const char *from, const char *to); /* as link(2) */
    int (*sync)(int fd);                           /* as fsync(2) */
};

struct claim_found {
    bool have_claim, have_release;
    struct claim claim;           /* the highest */
    struct claim_release release; /* of it */
};

/*
 * Reads the highest claim of `vm` in `dir`. 0; -EBADMSG when a file there cannot be
 * trusted (ret_text names it and says why: it is never taken for "no claim"); -errno of
 * the file system. Whatever is called owner.* has to be a claim or a release, a release
 * has to have its claim.
 */
int claim_store_read(const char *dir, struct uuid vm, struct claim_found *ret_found,
                     char *ret_text, size_t text_cap);
/*
 * A directory whose highest claim is of another VM: that VM's, as claim_store_read would
 * give it to it. -EBADMSG as there, and if any claim in it is of `vm`: then that one was
 * here before, and this is no inheritance. -ENOENT: there is no claim.
 */
int claim_store_former(const char *dir, struct uuid vm, struct claim_found *ret_found,
                       char *ret_text, size_t text_cap);
/* Of the displaced owners in `claim`, those whose agents said since, by a release of
 * their last epoch, that they run no more and that what they wrote is out. The count;
 * what cannot be read is not in it. */
uint32_t claim_store_gave_up(const char *dir, const struct claim *claim,
                             struct claim_halt ret[static CLAIM_UNEXCLUDED_MAX]);
/*
 * Tries to make owner.<epoch>, and reads it back. 0 with *ret_outcome WON (and durable)
 * or LOST; an error means that the outcome is not known: call again with the same claim
 * (same attempt).
 */
int claim_store_link(const char *dir, const struct claim *claim,
                     enum claim_outcome *ret_outcome, char *ret_text, size_t text_cap);
int claim_store_link_with(const struct claim_store_ops *ops, const char *dir,
                          const struct claim *claim, enum claim_outcome *ret_outcome,
                          char *ret_text, size_t text_cap);
/* The same for a release; WON when the release read back says the same as this one. */
int claim_store_release(const char *dir, const struct claim_release *release,
                        enum claim_outcome *ret_outcome, char *ret_text, size_t text_cap);
int claim_store_release_with(const struct claim_store_ops *ops, const char *dir,
                             const struct claim_release *release,
                             enum claim_outcome *ret_outcome, char *ret_text,
                             size_t text_cap);
