/* SPDX-License-Identifier: MIT */
#include "artifactfs/stream_parts.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libcommon/cleanup.h"

/* What the pass decodes at once. */
enum { PASS_BYTES = 256 * 1024 };

/* Checkpoints without a window cost next to nothing, so blocks of bzip2 (900 kB) and frames need
 * not be as far from each other. */
enum { WINDOWLESS_FACTOR = 8 };

/* The filter that the first bytes tell of. */
static int detect_magic(
    const struct wfe_source *source, enum wfe_stream_filter *ret, struct wfe_error *err)
{
    unsigned char head[10] = {0};
    ssize_t n = wfe_source_read(source, head, sizeof head, 0, err);
    if (n < 0)
        return (int)n;
    enum wfe_stream_filter filter = WFE_STREAM_PLAIN;
    if (memcmp(head, "\x1f\x8b\x08", 3) == 0)
        filter = WFE_STREAM_GZIP;
    else if (memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0)
        filter = WFE_STREAM_ZSTD;
    else if ((head[0] & 0xf0) == 0x50 && memcmp(head + 1, "\x2a\x4d\x18", 3) == 0)
        filter = WFE_STREAM_ZSTD;
    else if (memcmp(head,
                 "\xfd"
                 "7zXZ",
                 6) == 0)
        filter = WFE_STREAM_XZ;
    else if (memcmp(head, "BZh", 3) == 0 && head[3] >= '1' && head[3] <= '9' &&
             (memcmp(head + 4, "\x31\x41\x59\x26\x53\x59", 6) == 0 ||
                 memcmp(head + 4, "\x17\x72\x45\x38\x50\x90", 6) == 0))
        filter = WFE_STREAM_BZIP2;
    *ret = filter;
    return 0;
}

/* A filter that is not ours, and one below another, is libarchive's. ret_decoder is its decoder
 * then. */
static int detect(
    struct wfe_stream *stream, struct wfe_decoder **ret_decoder, struct wfe_error *err)
{
    enum wfe_stream_filter filter = WFE_STREAM_PLAIN;
    int r = detect_magic(&stream->source, &filter, err);
    if (r < 0)
        return r;
    struct wfe_decoder *other = NULL;
    struct wfe_error failure = WFE_ERROR_INIT;
    int filters = 0;
    r = wfe_other_decoder_new(&stream->source, &other, &filters, &failure);
    if (r < 0 && (filter == WFE_STREAM_PLAIN || failure.kind != WFE_ERROR_ARCHIVE))
        return wfe_error_set(err, failure.kind, failure.errnum, "%s", failure.message);
    bool is_other = r == 0 && filters > (filter == WFE_STREAM_PLAIN ? 0 : 1);
    if (is_other)
        *ret_decoder = other;
    else
        wfe_decoder_free(other);
    stream->filter = is_other ? WFE_STREAM_OTHER : filter;
    return 0;
}

/* Whether reads would have to decode too much before what they want. */
static int is_solid(struct wfe_stream *stream, bool *ret, struct wfe_error *err)
{
    int r = 0;
    switch (stream->filter) {
    case WFE_STREAM_PLAIN:
    case WFE_STREAM_GZIP:
    case WFE_STREAM_BZIP2:
        *ret = false;
        break;
    case WFE_STREAM_ZSTD:
        r = wfe_zstd_is_solid(&stream->source, ret, err);
        break;
    case WFE_STREAM_XZ:
        r = wfe_xz_blocks_read(&stream->source, &stream->blocks, err);
        *ret = !stream->blocks;
        break;
    case WFE_STREAM_OTHER:
        *ret = true;
        break;
    }
    return r;
}

int wfe_stream_new_decoder(
    const struct wfe_stream *stream, struct wfe_decoder **ret, struct wfe_error *err)
{
    switch (stream->filter) {
    case WFE_STREAM_GZIP:
        return wfe_gzip_decoder_new(&stream->source, ret, err);
    case WFE_STREAM_ZSTD:
        return wfe_zstd_decoder_new(&stream->source, ret, err);
    case WFE_STREAM_XZ:
        return wfe_xz_decoder_new(&stream->source, stream->blocks, ret, err);
    case WFE_STREAM_BZIP2:
        return wfe_bzip2_decoder_new(&stream->source, ret, err);
    case WFE_STREAM_PLAIN:
    case WFE_STREAM_OTHER:
        break;
    }
    assert(!"no decoder");
    return -EINVAL;
}

static int start_pass(struct wfe_stream *stream, struct wfe_error *err)
{
    if (stream->filter == WFE_STREAM_PLAIN)
        return 0;
    if (!stream->decoder) {
        int r = wfe_stream_new_decoder(stream, &stream->decoder, err);
        if (r < 0)
            return r;
    }
    assert(stream->decoder);
    stream->decoder->is_pass = true;
    stream->decoder->stop_from =
        stream->spool >= 0 ? WFE_DECODER_NEVER : wfe_checkpoints_next(&stream->checkpoints);
    return stream->decoder->ops->start(stream->decoder, &stream->checkpoints.items[0].place, err);
}

static int set_source(
    struct wfe_stream *stream, const struct wfe_stream_options *options, struct wfe_error *err)
{
    struct stat st;
    if (fstat(stream->source.fd, &st) < 0)
        return wfe_error_system(err, errno, "stat");
    uint64_t size = (uint64_t)st.st_size;
    if (options->offset_bytes > size || options->length_bytes > size - options->offset_bytes)
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "the file ends before its archive");
    stream->source.offset_bytes = options->offset_bytes;
    stream->source.length_bytes =
        options->length_bytes ? options->length_bytes : size - options->offset_bytes;
    return 0;
}

static int open_stream(
    struct wfe_stream *stream, const struct wfe_stream_options *options, struct wfe_error *err)
{
    bool solid = false;
    int r = set_source(stream, options, err);
    if (r == 0)
        r = detect(stream, &stream->decoder, err);
    if (r == 0)
        r = is_solid(stream, &solid, err);
    if (r == 0 && solid)
        r = wfe_stream_spool_open(options->spool_directory, &stream->spool, err);
    if (r < 0)
        return r;
    stream->max_spool_bytes =
        options->max_spool_bytes ? options->max_spool_bytes : WFE_SPOOL_MAX_BYTES;
    uint64_t spacing = options->spacing_bytes ? options->spacing_bytes : WFE_STREAM_SPACING_BYTES;
    if (stream->filter != WFE_STREAM_GZIP && spacing > WINDOWLESS_FACTOR)
        spacing /= WINDOWLESS_FACTOR;
    if (wfe_checkpoints_init(&stream->checkpoints, spacing) < 0)
        return wfe_error_nomem(err);
    stream->data = malloc(PASS_BYTES);
    return stream->data ? start_pass(stream, err) : wfe_error_nomem(err);
}

int wfe_stream_open(int fd, const struct wfe_stream_options *options, struct wfe_stream **ret,
    struct wfe_error *err)
{
    struct wfe_stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        close(fd);
        return wfe_error_nomem(err);
    }
    stream->source.fd = fd;
    stream->spool = stream->checkpoints.windows_fd = -1;
    pthread_mutex_init(&stream->lock, NULL);
    pthread_cond_init(&stream->changed, NULL);
    int r = open_stream(stream, options, err);
    if (r < 0)
        wfe_stream_free(stream);
    else
        *ret = stream;
    return r;
}

void wfe_stream_end_pass(struct wfe_stream *stream, enum wfe_stream_progress progress)
{
    wfe_decoder_free(wfe_steal(&stream->decoder));
    free(wfe_steal(&stream->data));
    atomic_store(&stream->progress, progress);
}

void wfe_stream_free(struct wfe_stream *stream)
{
    if (!stream)
        return;
    wfe_stream_end_pass(stream, WFE_STREAM_BROKEN);
    wfe_stream_reads_done(&stream->reads);
    wfe_checkpoints_done(&stream->checkpoints);
    wfe_xz_blocks_free(stream->blocks);
    pthread_cond_destroy(&stream->changed);
    pthread_mutex_destroy(&stream->lock);
    close(stream->source.fd);
    if (stream->spool >= 0)
        close(stream->spool);
    free(stream);
}

enum wfe_stream_filter wfe_stream_filter(const struct wfe_stream *stream)
{
    return stream->filter;
}

bool wfe_stream_needs_pass(const struct wfe_stream *stream)
{
    return atomic_load(&stream->progress) == WFE_STREAM_PASSING;
}

uint64_t wfe_stream_length(const struct wfe_stream *stream)
{
    return atomic_load(&stream->length);
}

/* The decoder has stopped for a checkpoint. */
static int add_checkpoint(struct wfe_stream *stream, struct wfe_error *err)
{
    struct wfe_checkpoint checkpoint;
    struct wfe_packed_checkpoint packed;
    stream->decoder->ops->describe(stream->decoder, &checkpoint);
    if (wfe_checkpoint_pack(&checkpoint, &packed) < 0)
        return wfe_error_nomem(err);
    pthread_mutex_lock(&stream->lock);
    int r = wfe_checkpoints_add(&stream->checkpoints, &packed);
    stream->decoder->stop_from = wfe_checkpoints_next(&stream->checkpoints);
    pthread_mutex_unlock(&stream->lock);
    return r < 0 ? wfe_error_nomem(err) : 0;
}

static int next_plain(struct wfe_stream *stream, size_t *ret_length, struct wfe_error *err)
{
    uint64_t at = atomic_load(&stream->length);
    ssize_t n = wfe_source_read(&stream->source, stream->data, PASS_BYTES, at, err);
    if (n < 0)
        return (int)n;
    if (n == 0 && at < stream->source.length_bytes)
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "the file has become shorter");
    *ret_length = (size_t)n;
    return 0;
}

static int next_decoded(struct wfe_stream *stream, size_t *ret_length, struct wfe_error *err)
{
    struct wfe_decoder *decoder = stream->decoder;
    int r;
    do {
        r = wfe_decoder_decode(decoder, stream->data, PASS_BYTES, ret_length, err);
        if (r == 0 && decoder->stopped)
            r = add_checkpoint(stream, err);
    } while (r == 0 && *ret_length == 0 && decoder->stopped);
    if (r == 0 && stream->spool >= 0)
        r = wfe_stream_spool_write(stream, stream->data, *ret_length, err);
    return r;
}

int wfe_stream_next(
    struct wfe_stream *stream, const void **ret_data, size_t *ret_length, struct wfe_error *err)
{
    const struct wfe_error *failure = &stream->failure;
    if (failure->kind != WFE_ERROR_NONE)
        return wfe_error_set(err, failure->kind, failure->errnum, "%s", failure->message);
    size_t length = 0;
    if (atomic_load(&stream->progress) == WFE_STREAM_PASSING) {
        int r = stream->decoder ? next_decoded(stream, &length, &stream->failure)
                                : next_plain(stream, &length, &stream->failure);
        if (r < 0) {
            wfe_stream_end_pass(stream, WFE_STREAM_BROKEN);
            return wfe_error_set(err, failure->kind, failure->errnum, "%s", failure->message);
        }
        if (length == 0)
            wfe_stream_end_pass(stream, WFE_STREAM_COMPLETE);
        else
            atomic_fetch_add(&stream->length, length);
    }
    *ret_data = stream->data;
    *ret_length = length;
    return 0;
}

uint64_t wfe_stream_skip(struct wfe_stream *stream, uint64_t bytes)
{
    if (stream->filter != WFE_STREAM_PLAIN)
        return 0;
    uint64_t left = stream->source.length_bytes - atomic_load(&stream->length);
    if (bytes > left)
        bytes = left;
    atomic_fetch_add(&stream->length, bytes);
    return bytes;
}

int wfe_stream_plain_fd(const struct wfe_stream *stream, uint64_t *ret_offset)
{
    if (stream->filter == WFE_STREAM_PLAIN) {
        *ret_offset = stream->source.offset_bytes;
        return stream->source.fd;
    }
    if (stream->spool >= 0 && atomic_load(&stream->progress) != WFE_STREAM_PASSING) {
        *ret_offset = 0;
        return stream->spool;
    }
    return -1;
}
