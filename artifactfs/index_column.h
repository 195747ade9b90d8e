/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_INDEX_COLUMN_H
#define WFE_ARTIFACTFS_INDEX_COLUMN_H

/*
 * Columns of numbers in one zstd frame with a checksum (RFC 8878), written and read as a stream.
 *
 *     column  = { number | zeros }
 *     number  = varint, not 0
 *     zeros   = %x00 varint        how many more, less than WFE_COLUMN_MAX_ZEROS
 *     varint  = little-endian base 128, the top bit says that another byte follows
 *
 * Numbers are written as differences from what is expected, so that most are 0. A run of zeros is
 * short, so that what is read in takes memory in proportion to the content that was read.
 *
 * A failure sticks: what is written or read afterwards goes nowhere and comes out as 0, until
 * the owner asks. A writer or reader belongs to one thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <zstd.h>

#include "libcommon/error.h"
#include "libcommon/sink.h"

#define WFE_COLUMN_MAX_ZEROS 4096
#define WFE_COLUMN_CHUNK_BYTES ((size_t)64 * 1024)

struct wfe_column_writer {
    ZSTD_CCtx *zstd;
    struct wfe_sink sink;
    struct wfe_error *err;
    int result; /* 0, or the first failure, which is in err */
    uint32_t zeros;
    uint64_t content_bytes;
    size_t length;
    unsigned char data[WFE_COLUMN_CHUNK_BYTES];
    unsigned char packed[WFE_COLUMN_CHUNK_BYTES];
};

/* Errors here and below are the sink's, WFE_ERROR_INTERNAL, and WFE_ERROR_LIMIT past
 * WFE_CACHE_MAX_INDEX_BYTES. The sink and err must live as long as the writer. */
int wfe_column_writer_new(
    struct wfe_sink sink, struct wfe_column_writer **ret, struct wfe_error *err);
void wfe_column_writer_free(struct wfe_column_writer *writer);

void wfe_column_put(struct wfe_column_writer *writer, uint64_t number);
/* The end of a column; also before bytes. */
void wfe_column_end(struct wfe_column_writer *writer);
void wfe_column_put_bytes(struct wfe_column_writer *writer, const void *data, size_t length);
/* Ends the frame. Returns the writer's result. */
int wfe_column_writer_finish(struct wfe_column_writer *writer);

/* Where the frame comes from. */
struct wfe_column_source {
    /* Returns up to length bytes, 0 at the end, or -errno. */
    ssize_t (*read)(void *context, void *data, size_t length);
    void *context;
};

enum wfe_column_state {
    WFE_COLUMN_GOOD,
    WFE_COLUMN_MALFORMED,
    WFE_COLUMN_TOO_LARGE,
    WFE_COLUMN_NO_MEMORY,
    WFE_COLUMN_UNREADABLE, /* the source failed; errnum tells */
};

struct wfe_column_reader {
    ZSTD_DCtx *zstd;
    struct wfe_column_source source;
    enum wfe_column_state state;
    int errnum;
    bool is_over; /* the frame's end was decoded, and its checksum is right */
    uint32_t zeros;
    uint64_t content_bytes;
    uint64_t source_bytes;         /* read so far */
    const unsigned char *at, *end; /* in data */
    ZSTD_inBuffer in;
    unsigned char packed[WFE_COLUMN_CHUNK_BYTES];
    unsigned char data[WFE_COLUMN_CHUNK_BYTES];
};

/* Returns 0 or -ENOMEM. */
int wfe_column_reader_new(struct wfe_column_source source, struct wfe_column_reader **ret);
void wfe_column_reader_free(struct wfe_column_reader *reader);

uint64_t wfe_column_get_long(struct wfe_column_reader *reader);
static inline uint64_t wfe_column_get(struct wfe_column_reader *reader)
{
    if (reader->zeros > 0) {
        reader->zeros--;
        return 0;
    }
    if (reader->at<reader->end && * reader->at> 0 && *reader->at < 0x80)
        return *reader->at++;
    return wfe_column_get_long(reader);
}

/* The end of a column: whether all was good up to here. */
bool wfe_column_get_end(struct wfe_column_reader *reader);
/* Exactly length bytes; zeros on failure. */
void wfe_column_get_bytes(struct wfe_column_reader *reader, void *data, size_t length);
/* Whether nothing but the frame's right end follows. *ret_bytes: what the frame has in the source.
 */
bool wfe_column_is_at_end(struct wfe_column_reader *reader, uint64_t *ret_bytes);

/* A signed difference as a number that is small when it is near 0. */
static inline uint64_t wfe_column_fold(uint64_t difference)
{
    return difference << 1 ^ (difference >> 63 ? UINT64_MAX : 0);
}

static inline uint64_t wfe_column_unfold(uint64_t number)
{
    return number >> 1 ^ (number & 1 ? UINT64_MAX : 0);
}

static inline void wfe_cleanup_column_writer(struct wfe_column_writer **writer)
{
    wfe_column_writer_free(*writer);
}
#define WFE_COLUMN_WRITER __attribute__((cleanup(wfe_cleanup_column_writer)))

static inline void wfe_cleanup_column_reader(struct wfe_column_reader **reader)
{
    wfe_column_reader_free(*reader);
}
#define WFE_COLUMN_READER __attribute__((cleanup(wfe_cleanup_column_reader)))

#endif
