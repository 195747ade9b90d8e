/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_STREAM_CHECKPOINTS_H
#define WFE_ARTIFACTFS_STREAM_CHECKPOINTS_H

/*
 * The checkpoints of a stream, in order, their windows compressed.
 *
 * The first one is the source's start. There are WFE_STREAM_MAX_CHECKPOINTS at most: one more, and
 * every other one is dropped and the spacing doubled.
 *
 * Threads: the caller locks.
 */

#include <stddef.h>
#include <stdint.h>

#include "artifactfs/limits.h"
#include "artifactfs/stream_decoder.h"

/* ZSTD_compressBound() of a window. */
#define WFE_CHECKPOINT_PACKED_BYTES (WFE_CHECKPOINT_WINDOW_BYTES + 1024)

struct wfe_packed_checkpoint {
    struct wfe_checkpoint place; /* its window is NULL */
    size_t packed_bytes;         /* 0: it has no window */
    unsigned char *packed;       /* NULL: at packed_at in windows_fd */
    uint64_t packed_at;
};

struct wfe_checkpoints {
    struct wfe_packed_checkpoint *items;
    size_t count;
    size_t allocated;
    uint64_t spacing_bytes;
    int windows_fd; /* -1: none lies in a file; else it is the checkpoints' own */
};

/* Each returns 0, or -ENOMEM with the checkpoints as they were. */
int wfe_checkpoints_init(struct wfe_checkpoints *checkpoints, uint64_t spacing_bytes);
/* Compress its window; *ret is the caller's. Needs no lock. */
int wfe_checkpoint_pack(const struct wfe_checkpoint *checkpoint, struct wfe_packed_checkpoint *ret);
/* Behind the last one; takes what packed holds, on failure too. */
int wfe_checkpoints_add(
    struct wfe_checkpoints *checkpoints, const struct wfe_packed_checkpoint *packed);

/* Take out the one at this decoded offset, which is not the first; none there is fine. */
void wfe_checkpoints_remove(struct wfe_checkpoints *checkpoints, uint64_t out);

/* Where the next one is due. */
uint64_t wfe_checkpoints_next(const struct wfe_checkpoints *checkpoints);

/* The last one at or before a decoded offset; a view. */
const struct wfe_packed_checkpoint *wfe_checkpoints_find(
    const struct wfe_checkpoints *checkpoints, uint64_t out);

/* Read a window that lies in a file, still packed, to bytes (WFE_CHECKPOINT_PACKED_BYTES), which
 * packed refers to then. Needs no lock. Errors: WFE_ERROR_INTEGRITY, WFE_ERROR_SYSTEM. */
int wfe_checkpoint_fetch(struct wfe_packed_checkpoint *packed, int windows_fd, unsigned char *bytes,
    struct wfe_error *err);
/* window has WFE_CHECKPOINT_WINDOW_BYTES and must outlive *ret; packed must not lie in a file.
 * Needs no lock. Errors: WFE_ERROR_INTEGRITY. */
int wfe_checkpoint_unpack(const struct wfe_packed_checkpoint *packed, unsigned char *window,
    struct wfe_checkpoint *ret, struct wfe_error *err);

void wfe_checkpoints_done(struct wfe_checkpoints *checkpoints);

#endif
