/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_DIGEST_H
#define WFE_LIBCOMMON_DIGEST_H

/*
 * SHA-256 digests in the form of the OCI image spec ("Digests"):
 * "sha256:" and 64 lower-case hexadecimal digits. Only that form passes
 * wfe_digest_parse(), so a struct wfe_digest is safe to become a path.
 */

#include <stdbool.h>
#include <stddef.h>

#include "libcommon/error.h"

#define WFE_DIGEST_HEX_LENGTH 64

struct wfe_digest {
    char text[7 + WFE_DIGEST_HEX_LENGTH + 1];
};

/* Checks the syntax of text and copies it. Returns 0 or -EINVAL (ret untouched). */
int wfe_digest_parse(const char *text, struct wfe_digest *ret);

bool wfe_digest_equal(const struct wfe_digest *a, const struct wfe_digest *b);

/* The 64 hexadecimal digits; a view into digest. */
const char *wfe_digest_hex(const struct wfe_digest *digest);

/* Streaming hash. */
struct wfe_hasher;

/* Returns 0, or -ENOMEM with ret untouched. */
int wfe_hasher_new(struct wfe_hasher **ret);
void wfe_hasher_free(struct wfe_hasher *hasher);
void wfe_hasher_update(struct wfe_hasher *hasher, const void *data, size_t length);
/* Ends the hash; the hasher starts anew afterwards. */
void wfe_hasher_final(struct wfe_hasher *hasher, struct wfe_digest *ret);

static inline void wfe_cleanup_hasher(struct wfe_hasher **hasher)
{
    wfe_hasher_free(*hasher);
}
#define WFE_HASHER __attribute__((cleanup(wfe_cleanup_hasher)))

/* The digest of one piece of memory. */
void wfe_digest_of(const void *data, size_t length, struct wfe_digest *ret);

/*
 * ChainID of a layer on top of parent (OCI image spec, "Layer ChainID"):
 * parent NULL means that diff_id is the first layer.
 */
void wfe_digest_chain(
    const struct wfe_digest *parent, const struct wfe_digest *diff_id, struct wfe_digest *ret);

#endif
