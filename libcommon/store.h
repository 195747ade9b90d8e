/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_STORE_H
#define WFE_LIBCOMMON_STORE_H

/*
 * The artifact store: a directory in OCI image layout (OCI image spec, "Image
 * Layout") whose blobs are artifacts, each one image layer.
 *
 *     oci-layout             {"imageLayoutVersion":"1.0.0"}
 *     index.json             an image index that lists the blobs
 *     blobs/sha256/HEX       the artifacts
 *     meta/HEX.json          {"created_at":T,"expires_at":T},
 *                            T = {"secs_since_epoch":S,"nanos_since_epoch":N}
 *     tmp/                   staging files
 *
 * Safe with many processes at once: a blob appears whole, by rename, after fsync;
 * a power cut between two system calls leaves the old or the new state.
 *
 * Threads: a handle may be shared.
 */

#include <stdbool.h>
#include <stdint.h>

#include "libcommon/digest.h"
#include "libcommon/error.h"

#define WFE_STORE_DEFAULT_EXPIRY_S (7 * 24 * 3600)

struct wfe_store;

struct wfe_store_entry {
    struct wfe_digest digest;
    uint64_t size_bytes;
    const char *media_type; /* static */
    char name[256];         /* the name given at put, "" when none */
    int64_t created_s;      /* seconds since the epoch */
    int64_t expires_s;
};

/* $WFE_ARTIFACT_STORE, else $XDG_DATA_HOME/wfe/artifacts, else ~/.local/share/wfe/artifacts.
 * Allocated; NULL when memory ran out. */
char *wfe_store_default_path(void);

/*
 * Open the store at path; with create it is made when missing. Errors: WFE_ERROR_SYSTEM,
 * WFE_ERROR_INPUT (a directory that is no store, or of another layout version).
 */
int wfe_store_open(const char *path, bool create, struct wfe_store **ret, struct wfe_error *err);
void wfe_store_free(struct wfe_store *store);

/*
 * Put the directory or file at source_path, "-" for stdin. A tar (plain, gzip or zstd) is kept
 * byte for byte; a directory, another archive format or a plain file is made a layer
 * first (tar+gzip). `name` is kept for ls and may be NULL. Putting what is there already renews
 * its expiry. `expiry_s` counts from now.
 */
int wfe_store_put(struct wfe_store *store, const char *source_path, const char *name,
    int64_t expiry_s, struct wfe_store_entry *ret, struct wfe_error *err);

/*
 * The blob's path, allocated (caller frees), after its bytes were read and found to
 * match the digest. Errors: WFE_ERROR_INPUT (ENOENT: not in the store, or expired),
 * WFE_ERROR_INTEGRITY (the message names both digests), WFE_ERROR_SYSTEM.
 */
int wfe_store_get(struct wfe_store *store, const struct wfe_digest *digest, char **ret_path,
    struct wfe_error *err);

/* True when the blob is there and has not expired; its bytes are not read. */
bool wfe_store_exists(struct wfe_store *store, const struct wfe_digest *digest);

/* Errors: WFE_ERROR_INPUT (ENOENT) when it is not there, WFE_ERROR_SYSTEM. */
int wfe_store_remove(
    struct wfe_store *store, const struct wfe_digest *digest, struct wfe_error *err);

/* All entries, sorted by digest, expired ones included; caller frees *ret with free(). */
int wfe_store_list(struct wfe_store *store, struct wfe_store_entry **ret, size_t *ret_count,
    struct wfe_error *err);

/* Remove what has expired and staging files that no living process writes.
 * ret_removed counts blobs, ret_bytes what was freed; both may be NULL. */
int wfe_store_gc(
    struct wfe_store *store, size_t *ret_removed, uint64_t *ret_bytes, struct wfe_error *err);

static inline void wfe_cleanup_store(struct wfe_store **store)
{
    wfe_store_free(*store);
}
#define WFE_STORE __attribute__((cleanup(wfe_cleanup_store)))

#endif
