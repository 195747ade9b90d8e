/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_STREAM_H
#define WFE_ARTIFACTFS_STREAM_H

/*
 * The decoded bytes of a file that may be compressed, readable at any offset.
 *
 * One pass over the file (wfe_stream_next(), one thread) finds the end of the decoded bytes and
 * leaves checkpoints behind, from which decoding can begin:
 *
 *     filter   checkpoints                                          source
 *     plain    none needed                                          -
 *     gzip     block ends with up to 32 KiB of window (zran);       RFC 1951, RFC 1952
 *              member starts without one
 *     zstd     frames                                               RFC 8878
 *     xz       blocks                                               xz file format 1.1.0
 *     bzip2    blocks                                               -
 *     other    what libarchive decodes (lz4, lzma, compress, one    -
 *              filter below another, …): none
 *
 * Where reads would have too much to decode before what they want, wfe_stream_open() decides to
 * spool: the pass writes all that it decodes to a file, up to a limit, and reads are reads of that.
 * So it is with `other`, with zstd when the first frame decodes to more than
 * WFE_STREAM_MAX_FRAME_BYTES (what `tar --zstd` writes; a larger frame further on is decoded from
 * its start for each reader), and with xz when a block decodes to more than
 * WFE_STREAM_MAX_BLOCK_BYTES or the indexes at the end can't be read.
 *
 * What follows the last gzip member or bzip2 stream and doesn't begin as one is not looked at.
 *
 * Reads (wfe_stream_read()) may run in any number of threads, also during the pass, within the
 * bytes that it has gone over. The state of each sequential reader is kept alive for its next read,
 * and what was decoded lately is kept, so that neither neighbours nor sequential readers decode
 * twice.
 *
 * Memory is bounded: by WFE_STREAM_CACHE_BYTES and the live decoders, and for checkpoints by
 * WFE_STREAM_MAX_CHECKPOINTS: when there are more, every other one is dropped and the spacing
 * doubled.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "artifactfs/limits.h"
#include "libcommon/error.h"
#include "libcommon/sink.h"

enum wfe_stream_filter {
    WFE_STREAM_PLAIN,
    WFE_STREAM_GZIP,
    WFE_STREAM_ZSTD,
    WFE_STREAM_XZ,
    WFE_STREAM_BZIP2,
    WFE_STREAM_OTHER,
};

struct wfe_stream_options {
    uint64_t offset_bytes; /* where in fd the file begins; an archive inside of a plain tar */
    uint64_t length_bytes; /* 0: up to fd's end */
    const char *
        spool_directory; /* must exist; the spool file has no name there (O_TMPFILE, or unlinked) */
    uint64_t max_spool_bytes; /* 0: WFE_SPOOL_MAX_BYTES */
    uint64_t spacing_bytes;   /* between checkpoints at first; 0: WFE_STREAM_SPACING_BYTES */
};

struct wfe_stream;

/*
 * Open the regular file fd, which the stream takes, on failure too. The filter is told by the
 * file's first bytes. Errors: WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL, WFE_ERROR_ARCHIVE (a broken
 * head).
 */
int wfe_stream_open(int fd, const struct wfe_stream_options *options, struct wfe_stream **ret,
    struct wfe_error *err);
/* NULL is fine. No call may be under way. */
void wfe_stream_free(struct wfe_stream *stream);

enum wfe_stream_filter wfe_stream_filter(const struct wfe_stream *stream);

/*
 * The pass: the next decoded bytes, as a view that holds until the next call; *ret_length is 0 at
 * the end. One thread, from the start to the end, once. Errors: WFE_ERROR_ARCHIVE (corrupt or
 * truncated: what came before is good and stays readable), WFE_ERROR_LIMIT (spool or window),
 * WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL.
 */
int wfe_stream_next(
    struct wfe_stream *stream, const void **ret_data, size_t *ret_length, struct wfe_error *err);

/* Within the pass, pass over `bytes` without decoding them. Returns how many were passed over: all
 * (up to the end) where the file is plain, else 0. */
uint64_t wfe_stream_skip(struct wfe_stream *stream, uint64_t bytes);

/* Decoded bytes that the pass has gone over so far. Any thread. */
uint64_t wfe_stream_length(const struct wfe_stream *stream);

/*
 * Read up to length bytes at offset, fewer only at wfe_stream_length(). Returns the bytes read, or
 * -errno with err set (as wfe_stream_next(); bytes that the pass went over can still fail when
 * the file was changed since). Any thread.
 */
ssize_t wfe_stream_read(
    struct wfe_stream *stream, void *buffer, size_t length, uint64_t offset, struct wfe_error *err);

/*
 * A descriptor where the decoded bytes lie as they are (a plain file, or the spool), byte n at
 * *ret_offset + n; or -1. It stays the stream's. Settled once the pass has ended or
 * wfe_stream_load() succeeded; for a plain file at once.
 */
int wfe_stream_plain_fd(const struct wfe_stream *stream, uint64_t *ret_offset);

/*
 * Write what the pass has found, so that another stream on the same bytes can do without it; only
 * after the end. The form is this module's own; it changes only with WFE_INDEX_FORMAT_VERSION.
 */
int wfe_stream_save(const struct wfe_stream *stream, struct wfe_sink sink, struct wfe_error *err);

/* The windows of what wfe_stream_save() wrote, which are most of it and may lie apart. */
int wfe_stream_save_windows(
    const struct wfe_stream *stream, struct wfe_sink sink, struct wfe_error *err);

/*
 * Take what wfe_stream_save() wrote, instead of the pass; of a stream that is spooled, whose pass
 * is due all the same, see only that it fits. The windows lie in the file windows_fd
 * (borrowed) from an offset up to its end; they are read when they are needed, and one that was
 * altered is done without. All of it is foreign and is checked: WFE_ERROR_INTEGRITY. Other errors:
 * WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL.
 */
int wfe_stream_load(struct wfe_stream *stream, const void *data, size_t length, int windows_fd,
    uint64_t windows_offset_bytes, struct wfe_error *err);

/* Whether the pass is still to be made, or to be gone on with. Any thread. */
bool wfe_stream_needs_pass(const struct wfe_stream *stream);

/* Whether a window that was loaded turned out to be altered, so that what was saved should go. */
bool wfe_stream_has_altered_windows(struct wfe_stream *stream);

static inline void wfe_cleanup_stream(struct wfe_stream **stream)
{
    wfe_stream_free(*stream);
}
#define WFE_STREAM __attribute__((cleanup(wfe_cleanup_stream)))

#endif
