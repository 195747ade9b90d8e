/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_STREAM_DECODER_H
#define WFE_ARTIFACTFS_STREAM_DECODER_H

/*
 * What artifactfs/stream.h is made of, below its threads: the compressed bytes (source, input),
 * places to begin from (checkpoint), and decoders, one kind a filter.
 *
 * Threads: a source may be read by all; an input and a decoder belong to one at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "libcommon/error.h"

/* The compressed file. Offsets count from its first byte. */
struct wfe_source {
    int fd;
    uint64_t offset_bytes;
    uint64_t length_bytes;
};

/* Up to length bytes, fewer only at the end. Errors: WFE_ERROR_SYSTEM. */
ssize_t wfe_source_read(const struct wfe_source *source, void *data, size_t length, uint64_t offset,
    struct wfe_error *err);

/* A window over the source: the bytes between begin and end are to be taken. */
struct wfe_input {
    const struct wfe_source *source;
    unsigned char *data;
    size_t begin;
    size_t end;
    uint64_t next; /* offset of what follows data[end] */
};

/* Returns 0 or -ENOMEM. */
int wfe_input_init(struct wfe_input *input, const struct wfe_source *source);
void wfe_input_done(struct wfe_input *input);
/* The offset of data[begin]. */
uint64_t wfe_input_tell(const struct wfe_input *input);
void wfe_input_seek(struct wfe_input *input, uint64_t offset);
/* Read more once all is taken. *ret_left: the bytes to be taken, 0 at the source's end. */
int wfe_input_fill(struct wfe_input *input, size_t *ret_left, struct wfe_error *err);
/* Returns 1, 0 at the source's end, or -errno. */
int wfe_input_byte(struct wfe_input *input, unsigned char *ret, struct wfe_error *err);

#define WFE_CHECKPOINT_WINDOW_BYTES 32768

/*
 * A place from which decoding can begin.
 *
 *     filter  in                            bits                       form
 *     gzip    a member's header             0                          0
 *             first whole byte of a block   of the byte before it      1
 *                                           that are the block's
 *     zstd    a frame                       0                          0
 *     xz      a block                       0                          0
 *     bzip2   a stream's header             0                          0
 *             the byte a block begins in    before the block, in it    the level, '1' to '9'
 */
struct wfe_checkpoint {
    uint64_t out; /* decoded bytes before it */
    uint64_t in;
    uint8_t bits;
    uint8_t form;
    uint16_t window_bytes;       /* at most WFE_CHECKPOINT_WINDOW_BYTES */
    const unsigned char *window; /* the decoded bytes right before it */
};

struct wfe_decoder;

struct wfe_decoder_ops {
    void (*free)(struct wfe_decoder *decoder);
    /* Go there. After a failure the decoder can only be freed. */
    int (*start)(struct wfe_decoder *decoder, const struct wfe_checkpoint *checkpoint,
        struct wfe_error *err);
    /* The next bytes, from decoder->out on, which the caller moves on. Fewer than length at the
     * end, where it fails, and where it stops for a checkpoint; what is in *ret_length is good, in
     * a failure too. */
    int (*decode)(struct wfe_decoder *decoder, unsigned char *data, size_t length,
        size_t *ret_length, struct wfe_error *err);
    /* The checkpoint that decode() has stopped for; a view up to the next call. */
    void (*describe)(const struct wfe_decoder *decoder, struct wfe_checkpoint *ret);
};

/* The head of each filter's own struct. */
struct wfe_decoder {
    const struct wfe_decoder_ops *ops;
    uint64_t out;       /* offset of the byte that comes next */
    bool is_pass;       /* check all sums; set before start() */
    uint64_t stop_from; /* the pass stops at the first checkpoint from there on */
    bool stopped;       /* it has */
    size_t memory_bytes;
    struct wfe_error failure; /* comes when the bytes before it have gone out */
};

#define WFE_DECODER_NEVER UINT64_MAX

/*
 * The next bytes: *ret_length is 0 at the end only, or where decoder->stopped. Errors:
 * WFE_ERROR_ARCHIVE, WFE_ERROR_LIMIT, WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL; the same again when
 * called again.
 */
int wfe_decoder_decode(struct wfe_decoder *decoder, unsigned char *data, size_t length,
    size_t *ret_length, struct wfe_error *err);
/* NULL is fine. */
void wfe_decoder_free(struct wfe_decoder *decoder);

/* Decoders at the source's start, which they borrow. Errors: WFE_ERROR_INTERNAL; the others'
 * where it is said. */
int wfe_gzip_decoder_new(
    const struct wfe_source *source, struct wfe_decoder **ret, struct wfe_error *err);
int wfe_bzip2_decoder_new(
    const struct wfe_source *source, struct wfe_decoder **ret, struct wfe_error *err);
int wfe_zstd_decoder_new(
    const struct wfe_source *source, struct wfe_decoder **ret, struct wfe_error *err);

/* Whether the first frame is one that decodes to more than WFE_STREAM_MAX_FRAME_BYTES, or is not to
 * be made out. Errors: WFE_ERROR_SYSTEM. */
int wfe_zstd_is_solid(const struct wfe_source *source, bool *ret, struct wfe_error *err);

/* The blocks of an xz file, as its indexes list them. */
struct wfe_xz_blocks;
/* *ret is NULL when there is a block that decodes to more than WFE_STREAM_MAX_BLOCK_BYTES, or the
 * indexes are not to be made out or too large. Errors: WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL. */
int wfe_xz_blocks_read(
    const struct wfe_source *source, struct wfe_xz_blocks **ret, struct wfe_error *err);
void wfe_xz_blocks_free(struct wfe_xz_blocks *blocks);
/* With blocks (borrowed) it goes by them; without, it can't start anywhere but at the start. */
int wfe_xz_decoder_new(const struct wfe_source *source, const struct wfe_xz_blocks *blocks,
    struct wfe_decoder **ret, struct wfe_error *err);

/* What libarchive's filters decode; it can't start anywhere but at the start. *ret_filters (may be
 * NULL) is how many filters it found. Errors: WFE_ERROR_ARCHIVE, too. */
int wfe_other_decoder_new(const struct wfe_source *source, struct wfe_decoder **ret,
    int *ret_filters, struct wfe_error *err);

#endif
