/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_SCAN_H
#define WFE_ARTIFACTFS_SCAN_H

/*
 * The one pass over an archive or a directory that fills its index.
 *
 * Formats are libarchive's (libcommon/archive.h), names as libcommon/layer.h has them. Where the
 * data of a file lie:
 *
 *     format                                data
 *     ------------------------------------  -----------------------------------------------
 *     tar in all its dialects, cpio, ar     in the decoded stream
 *     sparse files of a tar                 there, as extents; they are read to find these
 *     entries that a zip stores             there, when the sizes in their headers agree
 *     all others (7z, deflated zip, rar,    written to a spool file as they go by, under a limit
 *     iso, …)
 *     no archive: a plain or a compressed   one file, which the caller names: the decoded stream
 *     file
 *
 * Files of the stream are known as soon as their header went by, others once their data did.
 *
 *     case                                  here
 *     ------------------------------------  -----------------------------------------------
 *     the archive ends early, or is         the entries up to there; broken
 *     malformed
 *     an entry longer than the stream       stays, with its size; broken
 *     more entries, bytes in the spool, …   the entries up to there; broken, and an error
 *     than the limit
 *     data wrong or encrypted, where they   its size; reading fails (WFE_INDEX_NO_DATA);
 *     go to the spool                       reported
 *     uid, gid negative or above 2^32-2     65534; reported
 *     rdev                                  its lower 32 bits
 *     kind unknown                          a file
 *     xattr system.*, xfsroot.*, ACLs,      dropped
 *     file flags
 *     name that can't be converted          left out; reported
 *     data behind the end of the archive    ignored, but they must decode
 *
 * A broken archive is indexed as far as it is good (wfe_index_break()).
 */

#include <stdint.h>

#include "artifactfs/index.h"
#include "artifactfs/stream.h"
#include "libcommon/cancel.h"
#include "libcommon/error.h"

struct wfe_scan_options {
    const char *file_name; /* of the one file, when the source is no archive */
    int64_t file_mtime_s;  /* its time, likewise */
    uint32_t file_mtime_ns;
    const char *spool_directory;
    uint64_t max_spool_bytes;  /* 0: WFE_SPOOL_MAX_BYTES */
    struct wfe_cancel *cancel; /* ends the scan early (WFE_ERROR_CANCELLED); may be NULL */
    /* Called before the scan goes on; it may take its time. NULL: none. */
    void (*pause)(void *context);
    void *pause_context;
};

/*
 * Decide by the stream's first bytes where the data will lie. It reads the beginning of the pass
 * only as far as needed, and at once. The stream stays the caller's, and must live and be left to
 * the scan's pass until wfe_scan_free(). Errors: as wfe_stream_next() (when nothing can be read),
 * and WFE_ERROR_SYSTEM (the spool directory).
 */
struct wfe_scan;
int wfe_scan_open(struct wfe_stream *stream, const struct wfe_scan_options *options,
    struct wfe_scan **ret, struct wfe_error *err);
void wfe_scan_free(struct wfe_scan *scan);

/* The index that is filled; it becomes the caller's (call once), who frees it after
 * wfe_scan_free(). */
struct wfe_index *wfe_scan_take_index(struct wfe_scan *scan);

/*
 * Run to the end, once; afterwards the index is complete in any case. An archive that is malformed
 * or can't be read is no error but the index's `broken`. Errors: WFE_ERROR_CANCELLED,
 * WFE_ERROR_INTERNAL, WFE_ERROR_LIMIT (the index is complete and broken then, too).
 */
int wfe_scan_run(struct wfe_scan *scan, struct wfe_error *err);

/* The spool file of a WFE_INDEX_SPOOL index, -1 for others. It becomes the caller's (call once, any
 * time after wfe_scan_open()). Bytes that the index refers to are in it. */
int wfe_scan_take_spool(struct wfe_scan *scan);

/*
 * Index what is below a directory, and complete the index (of WFE_INDEX_FILES), on failure too.
 * The root has the directory's own attributes. Symbolic links are not followed, other file systems
 * are entered; names come in the order of their bytes, files with several names (st_dev, st_ino)
 * are hard links. fd stays the caller's. Errors: WFE_ERROR_SYSTEM (the directory itself),
 * WFE_ERROR_CANCELLED, WFE_ERROR_LIMIT, WFE_ERROR_INTERNAL. What can't be read below it is
 * reported.
 */
int wfe_scan_directory(
    int fd, struct wfe_index *index, struct wfe_cancel *cancel, struct wfe_error *err);

#endif
