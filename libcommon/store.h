/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_STORE_H
#define WFE_LIBCOMMON_STORE_H

/*
 * The artifact store: a directory in OCI image layout (OCI image spec, "Image
 * Layout") whose blobs are artifacts, each one image layer.
 *
 *     oci-layout             {"imageLayoutVersion":"1.0.0"}
 *     index.json             an image index: each artifact as an image of one layer
 *     blobs/sha256/HEX       the artifacts, and a manifest and a config for each
 *     meta/HEX.json          {"created_at":T,"expires_at":T,"diff_id":"sha256:…"},
 *                            T = {"secs_since_epoch":S,"nanos_since_epoch":N}; diff_id only of a
 *                            layer that put has made
 *     tmp/                   staging files
 *     .lock                  what writers lock
 *
 * An artifact put without index entry or metadata (by a tool that writes none) counts: it has
 * no name, was created when its blob was modified and has the default expiry. An image of
 * one layer that a tool copies into the layout is an artifact, its tag the name.
 *
 * Safe with many processes at once: a blob appears whole, by rename, after fsync;
 * a power cut between two system calls leaves the old or the new state. Readers take no lock.
 *
 * Threads: a handle may be shared.
 */

#include <stdbool.h>
#include <stdint.h>

#include "libcommon/digest.h"
#include "libcommon/error.h"
#include "libcommon/layer.h"

#define WFE_STORE_DEFAULT_EXPIRY_S (7 * 24 * 3600)

struct wfe_store;

struct wfe_store_entry {
    struct wfe_digest digest;
    uint64_t size_bytes;
    const char *media_type; /* static */
    char name[256];         /* a name given at put, "" when none */
    int64_t created_s;      /* seconds since the epoch */
    int64_t expires_s;
};

/* $WFE_ARTIFACT_STORE, else $XDG_DATA_HOME/wfe/artifacts, else ~/.local/share/wfe/artifacts.
 * Allocated; NULL when memory ran out. */
char *wfe_store_default_path(void);

/*
 * Whether an artifact may have that name: 1 to 255 bytes of UTF-8 without control characters
 * and slashes, neither "." nor "..", nor like a digest ("sha256:…", "sha256-…").
 * Errors: WFE_ERROR_INPUT.
 */
int wfe_store_check_name(const char *name, struct wfe_error *err);

/* The name that a path suggests: its last component without an archive's suffix (".tar.gz").
 * Returns 0, or -EINVAL when no name can be made of it (ret untouched). */
int wfe_store_suggest_name(const char *path, char ret[256]);

/*
 * Open the store at path; with create it is made when missing. Errors: WFE_ERROR_SYSTEM,
 * WFE_ERROR_INPUT (a directory that is no store, or of another layout version).
 */
int wfe_store_open(const char *path, bool create, struct wfe_store **ret, struct wfe_error *err);
void wfe_store_free(struct wfe_store *store);

/*
 * Put the directory or file at source_path, "-" for stdin. A tar (plain, gzip or zstd) is kept
 * byte for byte, once its checksums and its end were found whole; a directory, another archive
 * format or a plain file is made a layer first (tar+gzip) and obeys the layer's policy. A file
 * named like an archive that is none is refused.
 *
 * `name` may be NULL; another artifact that had it loses it. An artifact can have several
 * names. Putting what is there already renews its expiry, never to an earlier time.
 * `expiry_s` counts from now.
 *
 * Errors: WFE_ERROR_INPUT (name, or a source that is no file and no directory),
 * WFE_ERROR_ARCHIVE (malformed or cut off), WFE_ERROR_LIMIT, WFE_ERROR_SYSTEM,
 * WFE_ERROR_INTERNAL. An error leaves nothing behind, but for one while index.json is
 * written: then the artifact is there without its name.
 */
int wfe_store_put(struct wfe_store *store, const char *source_path, const char *name,
    int64_t expiry_s, struct wfe_store_entry *ret, struct wfe_error *err);

/* What wfe_store_put() makes of a source obeys these limits too; of a tar that is kept byte for
 * byte only its size is limited. */
void wfe_store_set_limits(struct wfe_store *store, const struct wfe_layer_limits *limits);

/*
 * The digest of what the user calls `text`: a name, a digest, or "sha256:" and 8 or more digits
 * that only one artifact begins with. That a whole digest is in the store is not checked.
 * Errors: WFE_ERROR_INPUT (ENOENT: no such name; EINVAL: not a digest, or several begin like
 * it), and those of wfe_store_list().
 */
int wfe_store_resolve(
    struct wfe_store *store, const char *text, struct wfe_digest *ret, struct wfe_error *err);

/*
 * The blob's path, allocated (caller frees), after its bytes were read and found to
 * match the digest. Errors: WFE_ERROR_INPUT (ENOENT: not in the store, or expired),
 * WFE_ERROR_INTEGRITY (the message names both digests), WFE_ERROR_SYSTEM.
 */
int wfe_store_get(struct wfe_store *store, const struct wfe_digest *digest, char **ret_path,
    struct wfe_error *err);

/* True when the blob is there and has not expired; its bytes are not read. */
bool wfe_store_exists(struct wfe_store *store, const struct wfe_digest *digest);

struct wfe_store_status {
    uint64_t size_bytes;
    const char *media_type; /* static */
    /* The tar's, of a layer that the store has made itself and that thus obeys the policy of
     * libcommon/layer.h as it is; the text "" for a tar that was kept as it came. */
    struct wfe_digest diff_id;
};

/* What is known of an artifact. Errors: as wfe_store_get(), but for WFE_ERROR_INTEGRITY. */
int wfe_store_stat(struct wfe_store *store, const struct wfe_digest *digest,
    struct wfe_store_status *ret, struct wfe_error *err);

/* Remove an artifact under all its names. Errors: WFE_ERROR_INPUT (ENOENT) when it is not there,
 * WFE_ERROR_SYSTEM, and those of wfe_store_list(). */
int wfe_store_remove(
    struct wfe_store *store, const struct wfe_digest *digest, struct wfe_error *err);

/* Remove a name, and the artifact unless it has other names. Errors: as wfe_store_remove(). */
int wfe_store_remove_name(struct wfe_store *store, const char *name, struct wfe_error *err);

/*
 * All artifacts, sorted by digest and name, expired ones included: one entry a name, and one for
 * an artifact without a name. Caller frees *ret with free().
 * Errors: WFE_ERROR_INPUT (index.json is no image index), WFE_ERROR_LIMIT,
 * WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL.
 */
int wfe_store_list(struct wfe_store *store, struct wfe_store_entry **ret, size_t *ret_count,
    struct wfe_error *err);

/*
 * Remove what has expired and staging files that no living process writes.
 * ret_removed counts artifacts, ret_bytes what was freed; both may be NULL. Where the index lists
 * images of several layers (another tool's), blobs without metadata are left alone.
 * Errors: as wfe_store_list().
 */
int wfe_store_gc(
    struct wfe_store *store, size_t *ret_removed, uint64_t *ret_bytes, struct wfe_error *err);

static inline void wfe_cleanup_store(struct wfe_store **store)
{
    wfe_store_free(*store);
}
#define WFE_STORE __attribute__((cleanup(wfe_cleanup_store)))

#endif
