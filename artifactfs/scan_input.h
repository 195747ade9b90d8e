/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_SCAN_INPUT_H
#define WFE_ARTIFACTFS_SCAN_INPUT_H

/*
 * The decoded bytes of a stream, as libarchive wants them.
 *
 * Those of a plain file are read where they lie, and can be sought in and skipped; the stream's
 * pass is over at once then. All others come from the pass, whose beginning is kept so that the
 * format can be found out before the reading begins.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "artifactfs/stream.h"
#include "libcommon/cancel.h"
#include "libcommon/error.h"

struct archive;

enum { WFE_SCAN_TAIL_BYTES = 16 * 1024 };

struct wfe_scan_input {
    struct wfe_stream *stream;
    struct wfe_cancel *cancel;
    void (*pause)(void *context); /* as in struct wfe_scan_options; set after opening */
    void *pause_context;
    /* A plain file. */
    int fd; /* -1: it is none */
    uint64_t fd_offset, size_bytes, position;
    /* A block of the plain file, or the beginning of the pass. */
    char *buffer;
    size_t head_length, head_allocated;
    bool head_is_due;
    bool at_end; /* of the pass */
    /* What libarchive was given last, and what came before that. */
    const char *block;
    size_t block_length;
    uint64_t block_offset;
    char tail[WFE_SCAN_TAIL_BYTES];
    size_t tail_length;
    /* Why the bytes ended early; WFE_ERROR_NONE: they did not. */
    struct wfe_error failure;
};

/* cancel may be NULL. wfe_scan_input_done() is due on failure too. */
int wfe_scan_input_open(struct wfe_scan_input *input, struct wfe_stream *stream,
    struct wfe_cancel *cancel, struct wfe_error *err);
void wfe_scan_input_done(struct wfe_scan_input *input);

/* libarchive's code of the format (without variant), or 0: no archive, as libcommon/archive.h has
 * it. The locale should be one of UTF-8. */
int wfe_scan_input_probe(struct wfe_scan_input *input, int *ret_format, struct wfe_error *err);

/* A libarchive reader at the start, for the one pass; in the thread's locale. */
int wfe_scan_input_reader(
    struct wfe_scan_input *input, struct archive **ret, struct wfe_error *err);

/* length bytes at offset that the reader went over lately, in scratch or where they are; NULL when
 * they can't be had any more. */
const char *wfe_scan_input_recent(
    struct wfe_scan_input *input, uint64_t offset, size_t length, char *scratch);

/* Go to the end of the pass. Errors: as wfe_stream_next(), and WFE_ERROR_CANCELLED. */
int wfe_scan_input_drain(struct wfe_scan_input *input, struct wfe_error *err);

#endif
