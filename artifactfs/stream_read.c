/* SPDX-License-Identifier: MIT */
#include "artifactfs/stream_parts.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/*
 * A read looks for its bytes among the pieces that were decoded lately. When they aren't there, the
 * decoder nearest in front of them goes on up to them, or one begins at the checkpoint nearest in
 * front, and all that is decoded on the way becomes pieces. A decoder that is nearest and busy is
 * waited for: most likely it decodes what is wanted, for a neighbour of the same sequential reader.
 */

/* On a long way, only what lies in the last bytes of it becomes pieces, lest it drives out all
 * others. */
#define KEPT_OF_WAY_BYTES (WFE_STREAM_CACHE_BYTES / 4)

static uint64_t piece_start(uint64_t offset)
{
    return offset - offset % WFE_STREAM_PIECE_BYTES;
}

void wfe_stream_reads_done(struct wfe_stream_reads *reads)
{
    for (size_t i = 0; i < WFE_STREAM_PIECES; i++)
        free(reads->pieces[i].data);
    for (size_t i = 0; i < WFE_STREAM_MAX_DECODERS; i++)
        wfe_decoder_free(reads->live[i].decoder);
}

static struct wfe_stream_piece *find_piece(struct wfe_stream_reads *reads, uint64_t offset)
{
    for (size_t i = 0; i < WFE_STREAM_PIECES; i++) {
        struct wfe_stream_piece *piece = &reads->pieces[i];
        if (piece->begin <= offset && offset < piece->end)
            return piece;
    }
    return NULL;
}

/* The piece unused for the longest, pinned and without contents. */
static struct wfe_stream_piece *take_piece(struct wfe_stream *stream)
{
    struct wfe_stream_piece *oldest = NULL;
    while (!oldest) {
        for (size_t i = 0; i < WFE_STREAM_PIECES; i++) {
            struct wfe_stream_piece *piece = &stream->reads.pieces[i];
            if (piece->pins == 0 && (!oldest || piece->used < oldest->used))
                oldest = piece;
        }
        if (!oldest)
            pthread_cond_wait(&stream->changed, &stream->lock);
    }
    oldest->pins = 1;
    oldest->begin = oldest->end = 0;
    return oldest;
}

static void unpin(struct wfe_stream *stream, struct wfe_stream_piece *piece)
{
    piece->pins--;
    if (piece->pins == 0)
        pthread_cond_broadcast(&stream->changed);
}

/* The decoder from which `offset` is nearest, when that is not farther than from a checkpoint. */
static struct wfe_stream_live *find_live(
    struct wfe_stream_reads *reads, uint64_t checkpoint, uint64_t offset)
{
    struct wfe_stream_live *best = NULL;
    for (size_t i = 0; i < WFE_STREAM_MAX_DECODERS; i++) {
        struct wfe_stream_live *live = &reads->live[i];
        if ((live->busy || live->decoder) && live->out >= checkpoint && live->out <= offset &&
            (!best || live->out > best->out))
            best = live;
    }
    return best;
}

/* One that is unused, else the one unused for the longest; NULL when all are busy. */
static struct wfe_stream_live *take_live(struct wfe_stream_reads *reads)
{
    struct wfe_stream_live *best = NULL;
    for (size_t i = 0; i < WFE_STREAM_MAX_DECODERS; i++) {
        struct wfe_stream_live *live = &reads->live[i];
        if (live->busy)
            continue;
        if (!live->decoder)
            return live;
        if (!best || live->used < best->used)
            best = live;
    }
    return best;
}

/* Where a decoder has to begin, as a copy that needs no lock. */
struct beginning {
    bool due;
    bool is_lost; /* its window was altered */
    struct wfe_packed_checkpoint packed;
    unsigned char bytes[WFE_CHECKPOINT_PACKED_BYTES];
};

static void copy_checkpoint(const struct wfe_packed_checkpoint *from, struct beginning *ret)
{
    ret->due = true;
    ret->packed = *from;
    if (from->packed) {
        memcpy(ret->bytes, from->packed, from->packed_bytes);
        ret->packed.packed = ret->bytes;
    }
}

/*
 * Either a piece with the byte at offset, pinned (*ret_piece), or else a decoder for the caller
 * alone, and where it has to begin. Waits as needed.
 */
static struct wfe_stream_live *find(struct wfe_stream *stream, uint64_t offset,
    struct wfe_stream_piece **ret_piece, struct beginning *ret_beginning)
{
    struct wfe_stream_reads *reads = &stream->reads;
    for (;;) {
        struct wfe_stream_piece *piece = find_piece(reads, offset);
        if (piece) {
            piece->pins++;
            piece->used = ++reads->tick;
            *ret_piece = piece;
            return NULL;
        }
        const struct wfe_packed_checkpoint *checkpoint =
            wfe_checkpoints_find(&stream->checkpoints, offset);
        struct wfe_stream_live *live = find_live(reads, checkpoint->place.out, offset);
        ret_beginning->due = !live;
        if (!live) {
            live = take_live(reads);
            if (live) {
                copy_checkpoint(checkpoint, ret_beginning);
                live->out = checkpoint->place.out;
            }
        }
        if (live && !live->busy) {
            live->busy = true;
            return live;
        }
        pthread_cond_wait(&stream->changed, &stream->lock);
    }
}

/* Unpack the window of where to begin. */
static int unpack(const struct wfe_stream *stream, struct beginning *beginning,
    unsigned char *window, struct wfe_checkpoint *ret, struct wfe_error *err)
{
    struct wfe_packed_checkpoint *packed = &beginning->packed;
    int r = 0;
    if (packed->packed_bytes > 0 && !packed->packed)
        r = wfe_checkpoint_fetch(packed, stream->checkpoints.windows_fd, beginning->bytes, err);
    if (r == 0)
        r = wfe_checkpoint_unpack(packed, window, ret, err);
    beginning->is_lost = r < 0;
    return r;
}

static int begin(const struct wfe_stream *stream, struct wfe_stream_live *live,
    struct beginning *beginning, struct wfe_error *err)
{
    struct wfe_checkpoint checkpoint;
    unsigned char window[WFE_CHECKPOINT_WINDOW_BYTES];
    int r = unpack(stream, beginning, window, &checkpoint, err);
    if (r == 0 && !live->decoder)
        r = wfe_stream_new_decoder(stream, &live->decoder, err);
    return r < 0 ? r : live->decoder->ops->start(live->decoder, &checkpoint, err);
}

/* Decode up to the end of the piece that the decoder is in, or of the data. A failure counts only
 * when nothing came before it. */
static int fill(const struct wfe_stream *stream, struct wfe_decoder *decoder, unsigned char *data,
    uint64_t *ret_end, struct wfe_error *err)
{
    uint64_t start = piece_start(decoder->out);
    uint64_t begin = decoder->out;
    uint64_t end = start + WFE_STREAM_PIECE_BYTES;
    if (atomic_load(&stream->progress) != WFE_STREAM_PASSING && end > wfe_stream_length(stream))
        end = wfe_stream_length(stream);
    while (decoder->out < end) {
        size_t length;
        int r = wfe_decoder_decode(decoder, data + (decoder->out - start),
            (size_t)(end - decoder->out), &length, decoder->out > begin ? NULL : err);
        if (r < 0 && decoder->out == begin)
            return r;
        if (r < 0 || length == 0)
            break;
    }
    *ret_end = decoder->out;
    return 0;
}

/* The next piece of a decoder, pinned. */
static int decode_piece(struct wfe_stream *stream, struct wfe_stream_live *live, bool keep,
    struct wfe_stream_piece **ret, struct wfe_error *err)
{
    pthread_mutex_lock(&stream->lock);
    struct wfe_stream_piece *piece = take_piece(stream);
    pthread_mutex_unlock(&stream->lock);

    int r = 0;
    uint64_t begin = live->decoder->out;
    uint64_t end = begin;
    if (!piece->data)
        piece->data = malloc(WFE_STREAM_PIECE_BYTES);
    if (!piece->data)
        r = wfe_error_nomem(err);
    if (r == 0)
        r = fill(stream, live->decoder, piece->data, &end, err);
    if (r == 0 && end == begin)
        r = wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL,
            "the data end at byte %" PRIu64 " now, before where they did", end);

    pthread_mutex_lock(&stream->lock);
    live->out = end;
    if (r == 0 && keep) {
        piece->begin = begin;
        piece->end = end;
        piece->used = ++stream->reads.tick;
        *ret = piece;
        pthread_cond_broadcast(&stream->changed);
    } else {
        piece->used = 0;
        unpin(stream, piece);
    }
    pthread_mutex_unlock(&stream->lock);
    return r;
}

static int decode_up_to(struct wfe_stream *stream, struct wfe_stream_live *live, uint64_t offset,
    struct beginning *beginning, struct wfe_stream_piece **ret, struct wfe_error *err)
{
    int r = beginning->due ? begin(stream, live, beginning, err) : 0;
    while (r == 0) {
        assert(live->decoder->out <= offset);
        bool keep = offset - live->decoder->out < KEPT_OF_WAY_BYTES;
        struct wfe_stream_piece *piece = NULL;
        r = decode_piece(stream, live, keep, &piece, err);
        if (r < 0 || !keep)
            continue;
        assert(piece);
        if (offset < piece->end) {
            *ret = piece;
            break;
        }
        pthread_mutex_lock(&stream->lock);
        unpin(stream, piece);
        pthread_mutex_unlock(&stream->lock);
    }
    return r;
}

/* Take the unused decoder that was used the longest ago from those that hold too much memory;
 * NULL: there is none. */
static struct wfe_decoder *take_surplus(
    struct wfe_stream_reads *reads, const struct wfe_stream_live *spare)
{
    uint64_t memory = 0;
    struct wfe_stream_live *oldest = NULL;
    for (size_t i = 0; i < WFE_STREAM_MAX_DECODERS; i++) {
        struct wfe_stream_live *live = &reads->live[i];
        if (live->busy || !live->decoder || live == spare)
            continue;
        memory += live->decoder->memory_bytes;
        if (!oldest || live->used < oldest->used)
            oldest = live;
    }
    if (memory <= WFE_STREAM_MAX_DECODERS_BYTES)
        return NULL;
    struct wfe_decoder *decoder = oldest->decoder;
    oldest->decoder = NULL;
    return decoder;
}

/* Let others have the decoder; one that failed is gone. */
static void release(struct wfe_stream *stream, struct wfe_stream_live *live, bool failed)
{
    struct wfe_decoder *unwanted = NULL;
    pthread_mutex_lock(&stream->lock);
    if (failed) {
        unwanted = live->decoder;
        live->decoder = NULL;
    }
    live->busy = false;
    live->used = ++stream->reads.tick;
    pthread_cond_broadcast(&stream->changed);
    if (!failed)
        unwanted = take_surplus(&stream->reads, live);
    pthread_mutex_unlock(&stream->lock);
    wfe_decoder_free(unwanted);
}

/* A checkpoint whose window was altered is of no use; the one before it leads there too. */
static void drop_checkpoint(struct wfe_stream *stream, uint64_t out)
{
    pthread_mutex_lock(&stream->lock);
    wfe_checkpoints_remove(&stream->checkpoints, out);
    stream->altered_windows = true;
    pthread_mutex_unlock(&stream->lock);
}

bool wfe_stream_has_altered_windows(struct wfe_stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    bool altered = stream->altered_windows;
    pthread_mutex_unlock(&stream->lock);
    return altered;
}

/* The piece with the byte at offset, pinned. */
static int get_piece(struct wfe_stream *stream, uint64_t offset, struct wfe_stream_piece **ret,
    struct wfe_error *err)
{
    for (;;) {
        struct beginning beginning;
        beginning.is_lost = false;
        pthread_mutex_lock(&stream->lock);
        struct wfe_stream_live *live = find(stream, offset, ret, &beginning);
        pthread_mutex_unlock(&stream->lock);
        if (!live)
            return 0;
        int r = decode_up_to(stream, live, offset, &beginning, ret, err);
        release(stream, live, r < 0);
        if (r == 0 || !beginning.is_lost)
            return r;
        drop_checkpoint(stream, beginning.packed.place.out);
    }
}

/* Up to length bytes at offset, as far as one piece has them. */
static ssize_t read_piece(struct wfe_stream *stream, unsigned char *buffer, size_t length,
    uint64_t offset, struct wfe_error *err)
{
    struct wfe_stream_piece *piece = NULL;
    int r = get_piece(stream, offset, &piece, err);
    if (r < 0)
        return r;
    if (length > piece->end - offset)
        length = (size_t)(piece->end - offset);
    memcpy(buffer, piece->data + (offset - piece_start(piece->begin)), length);
    pthread_mutex_lock(&stream->lock);
    unpin(stream, piece);
    pthread_mutex_unlock(&stream->lock);
    return (ssize_t)length;
}

static ssize_t read_spool(const struct wfe_stream *stream, void *buffer, size_t length,
    uint64_t offset, struct wfe_error *err)
{
    const struct wfe_source spool = {
        .fd = stream->spool, .length_bytes = wfe_stream_length(stream)};
    return wfe_source_read(&spool, buffer, length, offset, err);
}

ssize_t wfe_stream_read(
    struct wfe_stream *stream, void *buffer, size_t length, uint64_t offset, struct wfe_error *err)
{
    uint64_t known = wfe_stream_length(stream);
    if (offset >= known)
        return 0;
    if (length > known - offset)
        length = (size_t)(known - offset);
    if (stream->filter == WFE_STREAM_PLAIN)
        return wfe_source_read(&stream->source, buffer, length, offset, err);
    if (stream->spool >= 0)
        return read_spool(stream, buffer, length, offset, err);
    for (size_t got = 0; got < length;) {
        ssize_t n =
            read_piece(stream, (unsigned char *)buffer + got, length - got, offset + got, err);
        if (n < 0)
            return n;
        got += (size_t)n;
    }
    return (ssize_t)length;
}
