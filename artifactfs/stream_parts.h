/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_STREAM_PARTS_H
#define WFE_ARTIFACTFS_STREAM_PARTS_H

/* What the files of artifactfs/stream.h share. */

#include <pthread.h>
#include <stdatomic.h>

#include "artifactfs/stream.h"
#include "artifactfs/stream_checkpoints.h"
#include "artifactfs/stream_decoder.h"

/* What reads decode at once, and keep: a multiple of a FUSE read. */
#define WFE_STREAM_PIECE_BYTES 131072
#define WFE_STREAM_PIECES (WFE_STREAM_CACHE_BYTES / WFE_STREAM_PIECE_BYTES)

/* Decoded bytes [begin, end), which lie in one multiple of WFE_STREAM_PIECE_BYTES. */
struct wfe_stream_piece {
    uint64_t begin;
    uint64_t end;
    uint64_t used;
    unsigned pins;       /* who is at data without the lock */
    unsigned char *data; /* begin's at its place in a piece; NULL: never used so far */
};

/* A decoder that is kept for who reads on where it is. */
struct wfe_stream_live {
    struct wfe_decoder *decoder; /* NULL: unused; its reader's alone while it is busy */
    bool busy;                   /* a reader has it */
    uint64_t out;                /* where it is, or is about to begin */
    uint64_t used;
};

/* Of all readers; below stream->lock. */
struct wfe_stream_reads {
    struct wfe_stream_piece pieces[WFE_STREAM_PIECES];
    struct wfe_stream_live live[WFE_STREAM_MAX_DECODERS];
    uint64_t tick;
};

enum wfe_stream_progress { WFE_STREAM_PASSING, WFE_STREAM_COMPLETE, WFE_STREAM_BROKEN };

struct wfe_stream {
    struct wfe_source source;
    enum wfe_stream_filter filter;
    struct wfe_xz_blocks *blocks; /* of an xz file that is not solid */
    int spool;                    /* -1: not spooled */
    uint64_t max_spool_bytes;

    /* The pass, on its thread. */
    struct wfe_decoder *decoder;
    unsigned char *data;
    struct wfe_error failure;

    _Atomic uint64_t length;
    _Atomic enum wfe_stream_progress progress;

    pthread_mutex_t lock; /* the checkpoints and the reads */
    pthread_cond_t changed;
    struct wfe_checkpoints checkpoints;
    bool altered_windows;
    struct wfe_stream_reads reads;
};

/* A decoder of the stream, by checkpoints (and so not of a plain or a spooled one). */
int wfe_stream_new_decoder(
    const struct wfe_stream *stream, struct wfe_decoder **ret, struct wfe_error *err);

/* Release what the pass has; no more is due. */
void wfe_stream_end_pass(struct wfe_stream *stream, enum wfe_stream_progress progress);

void wfe_stream_reads_done(struct wfe_stream_reads *reads);

/* A file without a name in the directory. Errors: WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL. */
int wfe_stream_spool_open(const char *directory, int *ret, struct wfe_error *err);
/* Put decoded bytes behind the stream's length. Errors: WFE_ERROR_LIMIT, WFE_ERROR_SYSTEM. */
int wfe_stream_spool_write(
    const struct wfe_stream *stream, const void *data, size_t length, struct wfe_error *err);

#endif
