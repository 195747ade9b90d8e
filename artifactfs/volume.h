/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_VOLUME_H
#define WFE_ARTIFACTFS_VOLUME_H

/*
 * An artifact volume: names → artifacts, from what the command line says.
 *
 *     source                             volume                                      opened
 *     ---------------------------------  ------------------------------------------  ----------
 *     an artifact store                  one artifact a blob, by the first 12        when looked
 *                                        digits of its digest, more where two        into
 *                                        blobs share them; expired ones are left out
 *     a volume package: a tar of         one artifact a member. A compressed         at once
 *     NAME.tar, NAME.tar.gz,             package's members are copied to a file
 *     NAME.tar.zst and nothing else      without a name first
 *     another archive, a directory,      a single artifact, which is the root        at once
 *     a file, or sha256:DIGEST of the
 *     store
 *     none: workflow data (JSON)         each {"__wfe_artifact":"sha256:…"} in them, at once
 *                                        by its key; below other keys by its path,
 *                                        "key.key"; or those alone that the inputs of
 *                                        a step document name
 *     none: bindings NAME=SOURCE         one artifact each; a binding wins over data at once
 *
 * More than WFE_VOLUME_OPENED_AT_ONCE artifacts are opened when looked into, whatever they come
 * from.
 *
 * A name is a folder's, so it obeys wfe_store_check_name() and is not ".wfe".
 *
 * Threads: any number once it is open.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "artifactfs/artifact.h"
#include "artifactfs/index_cache.h"
#include "libcommon/digest.h"
#include "libcommon/error.h"

#define WFE_VOLUME_OPENED_AT_ONCE 16
#define WFE_VOLUME_CONTROL_NAME ".wfe"

struct wfe_volume_binding {
    const char *name;
    const char *source; /* a path, or sha256:DIGEST */
};

struct wfe_volume_options {
    const char *source;      /* NULL: the volume is made of data and bindings */
    const char *store_path;  /* NULL: the default one; opened when it is needed */
    const char *data_path;   /* workflow data, or NULL; "-" is stdin */
    const char *inputs_path; /* a step document, or NULL: all that is in the data */
    const struct wfe_volume_binding *bindings;
    size_t binding_count;
    const char *mountpoint; /* resolved; sources that it would hide or hold are refused; or NULL */
    struct wfe_index_cache *cache; /* borrowed for the volume's life; NULL: none */
    uint64_t max_spool_bytes;      /* 0: WFE_SPOOL_MAX_BYTES */
    unsigned quiet_ms;             /* as in struct wfe_artifact_options */
    /* What went wrong or is odd about an artifact. Any thread; may be NULL. */
    void (*log)(void *context, const char *name, const char *message);
    void *log_context;
};

struct wfe_volume;

/* Errors: WFE_ERROR_INPUT, WFE_ERROR_SYSTEM, WFE_ERROR_ARCHIVE (a single archive of which nothing
 * can be read), WFE_ERROR_LIMIT, WFE_ERROR_INTERNAL. */
int wfe_volume_open(
    const struct wfe_volume_options *options, struct wfe_volume **ret, struct wfe_error *err);
/* Ends all scans. NULL is fine. No call may be under way. */
void wfe_volume_free(struct wfe_volume *volume);

/* Whether the tree of its only artifact is the root. */
bool wfe_volume_is_single(const struct wfe_volume *volume);

/* Artifacts have numbers from 0, in the order of their names. */
size_t wfe_volume_count(const struct wfe_volume *volume);
const char *wfe_volume_name(const struct wfe_volume *volume, size_t number);
/* The container path that a step's inputs give the artifact; NULL when none does. */
const char *wfe_volume_prefix(const struct wfe_volume *volume, size_t number);
/* When the file or directory was changed, in seconds since the epoch. */
int64_t wfe_volume_mtime(const struct wfe_volume *volume, size_t number);
/* Returns 0 or -ENOENT. */
int wfe_volume_find(const struct wfe_volume *volume, const char *name, size_t *ret_number);

/* Open it, unless it is open. Returns 0, or -EIO when it can't be (which is logged once). */
int wfe_volume_artifact(struct wfe_volume *volume, size_t number, struct wfe_artifact **ret);
/* NULL when it was not opened yet, or can't be. */
struct wfe_artifact *wfe_volume_opened(const struct wfe_volume *volume, size_t number);

/* As wfe_artifact_find_digest(), but without opening what is known without. */
int wfe_volume_find_digest(struct wfe_volume *volume, size_t number,
    const struct wfe_index_patience *patience, struct wfe_digest *ret);
/* NULL when it is not known without opening it. Static. */
const char *wfe_volume_media_type(struct wfe_volume *volume, size_t number);

/*
 * What .wfe/volume.json holds; NULL when memory ran out, the caller frees:
 *     {"artifacts":[{
 *       "name", "digest" (null: not known), "size" (bytes), "media_type" (null: not known),
 *       "state" ("unopened", "scanning", "good" or "broken"), "reason" (null unless broken),
 *       "entries", "problem_count", "problems" (the first ones),
 *       "stored_as" (names in the store, of a store's artifacts) }]}
 */
char *wfe_volume_describe(struct wfe_volume *volume);

static inline void wfe_cleanup_volume(struct wfe_volume **volume)
{
    wfe_volume_free(*volume);
}
#define WFE_VOLUME __attribute__((cleanup(wfe_cleanup_volume)))

#endif
