/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_STORE_META_H
#define WFE_LIBCOMMON_STORE_META_H

/* Within the store: meta/HEX.json, when an artifact was made, when it ends and whether the store
 * made it a layer; and what a blob is. */

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "libcommon/store_layout.h"

struct wfe_meta {
    struct timespec created;
    struct timespec expires;
    /* The tar's, of a layer that the store has made itself; the text "" for what was kept as it
     * came. */
    struct wfe_digest diff_id;
    bool recorded; /* false: there was no metadata that could be read */
};

struct timespec wfe_store_now(void);
bool wfe_meta_expired(const struct wfe_meta *meta, struct timespec now);

/* now, and expiry_s from now, held within the years that every reader can tell. */
void wfe_meta_begin(int64_t expiry_s, struct wfe_meta *ret);

/*
 * What meta/HEX.json says; unknown keys are ignored. A file that is missing or no metadata means:
 * made at `modified`, to end after the default expiry. Returns 0, -ENOMEM or -errno: one that can't
 * be read now may well say that the artifact has to stay.
 */
int wfe_meta_read(struct wfe_store *store, const struct wfe_digest *digest,
    const struct timespec *modified, struct wfe_meta *ret);

/* Errors: WFE_ERROR_SYSTEM. */
int wfe_meta_write(struct wfe_store *store, const struct wfe_digest *digest,
    const struct wfe_meta *meta, struct wfe_error *err);

struct wfe_blob {
    uint64_t size_bytes;
    struct timespec modified;
    struct wfe_meta meta;
    const char *media_type; /* a layer's, by the first bytes; static */
    bool is_document;       /* a manifest or config (JSON without metadata), no artifact */
};

/* Returns 0, -ENOENT, or -errno. */
int wfe_blob_examine(
    struct wfe_store *store, const struct wfe_digest *digest, struct wfe_blob *ret);

#endif
