/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_INDEX_CACHE_H
#define WFE_ARTIFACTFS_INDEX_CACHE_H

/*
 * Indexes kept on disk: <directory>/<key>.v<format version>.idx
 *
 * A file is written once, under a temporary name, and renamed; many mounts may read and write at
 * the same time. What is read is not trusted: a checksum covers the file, and every number is
 * checked against the tables that it points into. A file that does not pass is removed, and counts
 * as not there.
 *
 * The form: artifactfs/index_form.h.
 */

#include <stdint.h>
#include <sys/stat.h>

#include "artifactfs/index.h"
#include "artifactfs/stream.h"
#include "libcommon/digest.h"
#include "libcommon/error.h"

struct wfe_index_cache;

struct wfe_index_cache_options {
    const char
        *directory;     /* NULL: $XDG_CACHE_HOME/wfe, else ~/.cache/wfe; made when it is missing */
    uint64_t max_bytes; /* 0: WFE_CACHE_MAX_BYTES */
    uint64_t max_age_s; /* since the last use; 0: WFE_CACHE_MAX_AGE_S */
};

/* Errors: WFE_ERROR_SYSTEM (it can't be made or entered; one that can't be written to is fine),
 * WFE_ERROR_INTERNAL. */
int wfe_index_cache_open(const struct wfe_index_cache_options *options,
    struct wfe_index_cache **ret, struct wfe_error *err);
void wfe_index_cache_free(struct wfe_index_cache *cache);
const char *wfe_index_cache_directory(const struct wfe_index_cache *cache);

/* The identity of a file that has no digest: of its device, inode, size, mtime and ctime, of the
 * byte range within it, and of the name under which a file that is no archive is shown. */
void wfe_index_cache_key(const struct stat *st, uint64_t offset_bytes, uint64_t length_bytes,
    const char *file_name, struct wfe_digest *ret);

/*
 * The complete index stored under key for the file that st tells of, with what the stream needs
 * (wfe_stream_load()). st must be what wfe_index_cache_store() had (size, mtime; ctime and inode
 * are left alone: a store may be copied). Its use is noted (the file's times). Returns 0, or
 * -ENOENT (not there, or not good; the stream is untouched), or -errno with err set
 * (WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL).
 */
int wfe_index_cache_load(struct wfe_index_cache *cache, const struct wfe_digest *key,
    const struct stat *st, struct wfe_stream *stream, struct wfe_index **ret,
    struct wfe_error *err);

/*
 * Keep a complete index that is not broken and whose data lie in the stream (others: -ENOTSUP,
 * without err), then evict what is too old or, the longest unused first, too much. Errors:
 * WFE_ERROR_SYSTEM (full disk, read-only directory), WFE_ERROR_INTERNAL; nothing is left behind
 * then.
 */
int wfe_index_cache_store(struct wfe_index_cache *cache, const struct wfe_digest *key,
    const struct stat *st, const struct wfe_index *index, const struct wfe_stream *stream,
    struct wfe_error *err);

/* Remove what is stored under key, which turned out to be altered. */
void wfe_index_cache_forget(struct wfe_index_cache *cache, const struct wfe_digest *key);

#endif
