/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_ARTIFACT_H
#define WFE_ARTIFACTFS_ARTIFACT_H

/*
 * One artifact of a mount: its file or directory, its index, and the scan that fills it.
 *
 * An index in the cache is taken; else a thread scans, and puts it there at the end. A blob whose
 * digest is known is hashed by a second thread at the same time, once: only then is its index kept.
 * A file without a digest is hashed to learn it: at once when it is small, else when somebody
 * asks.
 *
 * Threads: all functions may be called from any. The artifact's own threads take no signals.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "artifactfs/index.h"
#include "artifactfs/index_cache.h"
#include "libcommon/digest.h"
#include "libcommon/error.h"

struct wfe_artifact;

struct wfe_artifact_options {
    const char *path;                /* archive, directory or plain file */
    uint64_t offset_bytes;           /* an archive inside of the file at path */
    uint64_t length_bytes;           /* 0: up to its end */
    const struct wfe_digest *digest; /* of the bytes; NULL: not known, and not checked */
    const char *file_name; /* of the one file, when it is no archive; NULL: path's last component */
    struct wfe_index_cache *cache; /* borrowed for the artifact's life; NULL: none */
    uint64_t max_spool_bytes;      /* 0: WFE_SPOOL_MAX_BYTES */
    /* For so long, the artifact's threads work only while somebody waits for what they do: others
     * have more use for the processors. */
    unsigned quiet_ms;
    /* Told what went wrong or is odd, by a thread of the artifact's own; may be NULL. */
    void (*log)(void *context, const char *message);
    void *log_context;
};

enum wfe_artifact_state {
    WFE_ARTIFACT_SCANNING,
    WFE_ARTIFACT_GOOD,
    WFE_ARTIFACT_BROKEN, /* malformed, or not what its digest says */
};

/* Opens and starts. Errors: WFE_ERROR_INPUT (no file and no directory), WFE_ERROR_SYSTEM,
 * WFE_ERROR_INTERNAL, WFE_ERROR_ARCHIVE (nothing of it can be read). */
int wfe_artifact_open(
    const struct wfe_artifact_options *options, struct wfe_artifact **ret, struct wfe_error *err);
/* Ends the scan, where it runs. NULL is fine. No call may be under way. */
void wfe_artifact_free(struct wfe_artifact *artifact);

struct wfe_index *wfe_artifact_index(
    struct wfe_artifact *artifact); /* lives as long as the artifact */

/* reason ("" unless broken) is cut at its size. */
enum wfe_artifact_state wfe_artifact_state(
    struct wfe_artifact *artifact, char *reason, size_t reason_size);

/* What the file goes by, should it be no archive: with the ending of a compressed one. */
const char *wfe_artifact_file_name(const struct wfe_artifact *artifact);
/* The file or directory itself, opened again: a descriptor that is the caller's, with a position of
 * its own, and where in the file the artifact begins. Returns it or -errno. */
int wfe_artifact_reopen(const struct wfe_artifact *artifact, uint64_t *ret_offset_bytes);
/* Where temporary files go that are made of it. */
const char *wfe_artifact_spool_directory(const struct wfe_artifact *artifact);

/* Of the file; 0 for a directory. */
uint64_t wfe_artifact_size(const struct wfe_artifact *artifact);
/* What it was opened with, or what hashing has come to; false: not known (yet). */
bool wfe_artifact_digest(struct wfe_artifact *artifact, struct wfe_digest *ret);
/* The same, but a file that was not hashed yet is hashed now. Returns 0, -ENODATA (a directory, or
 * a file that is not what its digest says), -EIO or -EINTR (patience is over). */
int wfe_artifact_find_digest(struct wfe_artifact *artifact,
    const struct wfe_index_patience *patience, struct wfe_digest *ret);
/* application/vnd.oci.image.layer.v1.tar, …+gzip, …+zstd, application/zip,
 * application/octet-stream, inode/directory. Static. */
const char *wfe_artifact_media_type(struct wfe_artifact *artifact);

/*
 * Up to length bytes of a file at offset, fewer only at its end. What the scan has not come to yet
 * is waited for. Returns them, or -errno with err set: EIO (corrupt, truncated, not its
 * digest), EISDIR, EINVAL (no file), ENOENT (no such inode), EINTR (patience is over), ENOMEM.
 */
ssize_t wfe_artifact_read(struct wfe_artifact *artifact, uint32_t inode, void *buffer,
    size_t length, uint64_t offset, const struct wfe_index_patience *patience,
    struct wfe_error *err);

/* Where bytes of a file lie as they are: a descriptor that stays the artifact's, its offset, and
 * how many (at most length). Returns -1 where they don't (compressed, a hole, the file's end, or
 * they are to be refused): wfe_artifact_read() then. */
int wfe_artifact_map(struct wfe_artifact *artifact, uint32_t inode, uint64_t offset, size_t length,
    uint64_t *ret_fd_offset, size_t *ret_length);

static inline void wfe_cleanup_artifact(struct wfe_artifact **artifact)
{
    wfe_artifact_free(*artifact);
}
#define WFE_ARTIFACT __attribute__((cleanup(wfe_cleanup_artifact)))

#endif
