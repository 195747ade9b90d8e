/* SPDX-License-Identifier: MIT */
#include "artifactfs/stream_parts.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/*
 * What a pass has found, on disk; all numbers as LEB128, 64 bits at most:
 *
 *     saved      = filter source-bytes decoded-bytes count checkpoint*
 *                  count is without the first checkpoint, the source's start; 0 for a stream
 *                  that is spooled
 *     checkpoint = out in form bits window-bytes [packed-bytes]
 *                  out and in as the difference to the checkpoint before; packed-bytes is there
 *                  when window-bytes is not 0
 *     windows    = packed*
 *                  in the order of their checkpoints: zstd frames with a checksum, each of
 *                  packed-bytes, that decode to window-bytes
 */

enum { VARINT_BYTES = 10 };

static size_t put_varint(unsigned char *to, uint64_t value)
{
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        to[n++] = (unsigned char)(value | 0x80);
    to[n++] = (unsigned char)value;
    return n;
}

/* Foreign bytes, up to end; a failure sticks. */
struct reader {
    const unsigned char *at;
    const unsigned char *end;
    bool failed;
};

/* 0 after a failure. */
static uint64_t get_varint(struct reader *reader)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && reader->at < reader->end; shift += 7) {
        uint64_t bits = *reader->at & 0x7f;
        if (bits << shift >> shift != bits)
            break;
        value |= bits << shift;
        if (!(*reader->at++ & 0x80))
            return value;
    }
    reader->failed = true;
    return 0;
}

static int save_place(const struct wfe_packed_checkpoint *before,
    const struct wfe_packed_checkpoint *packed, struct wfe_sink sink, struct wfe_error *err)
{
    const struct wfe_checkpoint *place = &packed->place;
    unsigned char head[6 * VARINT_BYTES];
    size_t n = put_varint(head, place->out - before->place.out);
    n += put_varint(head + n, place->in - before->place.in);
    n += put_varint(head + n, place->form);
    n += put_varint(head + n, place->bits);
    n += put_varint(head + n, place->window_bytes);
    if (place->window_bytes > 0)
        n += put_varint(head + n, packed->packed_bytes);
    return sink.write(sink.context, head, n, err);
}

int wfe_stream_save(const struct wfe_stream *stream, struct wfe_sink sink, struct wfe_error *err)
{
    assert(atomic_load(&stream->progress) == WFE_STREAM_COMPLETE);
    const struct wfe_checkpoints *checkpoints = &stream->checkpoints;
    unsigned char head[4 * VARINT_BYTES];
    size_t n = put_varint(head, stream->filter);
    n += put_varint(head + n, stream->source.length_bytes);
    n += put_varint(head + n, wfe_stream_length(stream));
    n += put_varint(head + n, checkpoints->count - 1);
    int r = sink.write(sink.context, head, n, err);
    for (size_t i = 1; r == 0 && i < checkpoints->count; i++)
        r = save_place(&checkpoints->items[i - 1], &checkpoints->items[i], sink, err);
    return r;
}

int wfe_stream_save_windows(
    const struct wfe_stream *stream, struct wfe_sink sink, struct wfe_error *err)
{
    const struct wfe_checkpoints *checkpoints = &stream->checkpoints;
    int r = 0;
    for (size_t i = 1; r == 0 && i < checkpoints->count; i++) {
        const struct wfe_packed_checkpoint *item = &checkpoints->items[i];
        assert(item->packed || item->packed_bytes == 0);
        if (item->packed)
            r = sink.write(sink.context, item->packed, item->packed_bytes, err);
    }
    return r;
}

/* Whether a decoder of this filter could have stopped there. */
static bool is_place_of(enum wfe_stream_filter filter, const struct wfe_checkpoint *place)
{
    bool in_byte = place->bits > 0;
    bool windowed = place->window_bytes > 0;
    if (place->in == 0 || place->bits > 7)
        return false;
    switch (filter) {
    case WFE_STREAM_GZIP:
        return place->form == 1 || (place->form == 0 && !in_byte && !windowed);
    case WFE_STREAM_BZIP2:
        return place->form >= '1' && place->form <= '9' && !windowed;
    case WFE_STREAM_ZSTD:
    case WFE_STREAM_XZ:
        return place->form == 0 && !in_byte && !windowed;
    case WFE_STREAM_PLAIN:
    case WFE_STREAM_OTHER:
        break;
    }
    return false;
}

/* The next checkpoint, its window still to come; the reader fails when there is none. */
static void load_checkpoint(struct reader *reader, const struct wfe_stream *stream,
    const struct wfe_checkpoint *before, uint64_t decoded_bytes, struct wfe_packed_checkpoint *ret)
{
    uint64_t out = get_varint(reader);
    uint64_t in = get_varint(reader);
    uint64_t form = get_varint(reader);
    uint64_t bits = get_varint(reader);
    uint64_t window_bytes = get_varint(reader);
    uint64_t packed_bytes = window_bytes > 0 ? get_varint(reader) : 0;
    if (reader->failed || out == 0 || out > decoded_bytes - before->out ||
        in >= stream->source.length_bytes - before->in || form > UINT8_MAX || bits > UINT8_MAX ||
        window_bytes > WFE_CHECKPOINT_WINDOW_BYTES || window_bytes > before->out + out ||
        packed_bytes > WFE_CHECKPOINT_PACKED_BYTES || (packed_bytes == 0) != (window_bytes == 0)) {
        reader->failed = true;
        return;
    }
    *ret = (struct wfe_packed_checkpoint){
        .place =
            {
                .out = before->out + out,
                .in = before->in + in,
                .form = (uint8_t)form,
                .bits = (uint8_t)bits,
                .window_bytes = (uint16_t)window_bytes,
            },
        .packed_bytes = (size_t)packed_bytes,
    };
    if (!is_place_of(stream->filter, &ret->place))
        reader->failed = true;
}

/* The windows begin at *windows_at, which is moved behind the last one. Returns 0 or -ENOMEM; the
 * reader tells of the rest. */
static int load_checkpoints(struct reader *reader, const struct wfe_stream *stream, uint64_t count,
    uint64_t decoded_bytes, struct wfe_checkpoints *checkpoints, uint64_t *windows_at)
{
    struct wfe_checkpoint before = checkpoints->items[0].place;
    for (; count > 0; count--) {
        struct wfe_packed_checkpoint packed;
        load_checkpoint(reader, stream, &before, decoded_bytes, &packed);
        if (reader->failed)
            return 0;
        packed.packed_at = *windows_at;
        if (wfe_checkpoints_add(checkpoints, &packed) < 0)
            return -ENOMEM;
        *windows_at += packed.packed_bytes;
        before = packed.place;
    }
    return 0;
}

/* Whether the file ends where the windows do. */
static bool is_end_of(int fd, uint64_t windows_end)
{
    struct stat st;
    return fstat(fd, &st) == 0 && (uint64_t)st.st_size == windows_end;
}

int wfe_stream_load(struct wfe_stream *stream, const void *data, size_t length, int windows_fd,
    uint64_t windows_offset_bytes, struct wfe_error *err)
{
    assert(atomic_load(&stream->progress) == WFE_STREAM_PASSING && wfe_stream_length(stream) == 0);
    struct reader reader = {.at = data, .end = (const unsigned char *)data + length};
    uint64_t filter = get_varint(&reader);
    uint64_t source_bytes = get_varint(&reader);
    uint64_t decoded_bytes = get_varint(&reader);
    uint64_t count = get_varint(&reader);
    bool plain = stream->filter == WFE_STREAM_PLAIN;
    if (reader.failed || filter != stream->filter || (stream->spool >= 0 && count > 0) ||
        source_bytes != stream->source.length_bytes || decoded_bytes > INT64_MAX ||
        (plain && decoded_bytes != source_bytes) || count >= WFE_STREAM_MAX_CHECKPOINTS)
        return wfe_error_set(
            err, WFE_ERROR_INTEGRITY, EINVAL, "saved checkpoints are not of this file");

    struct wfe_checkpoints checkpoints;
    if (wfe_checkpoints_init(&checkpoints, stream->checkpoints.spacing_bytes) < 0)
        return wfe_error_nomem(err);
    uint64_t windows_end = windows_offset_bytes;
    int r = load_checkpoints(&reader, stream, count, decoded_bytes, &checkpoints, &windows_end);
    if (r < 0)
        r = wfe_error_nomem(err);
    else if (reader.failed || reader.at != reader.end || !is_end_of(windows_fd, windows_end))
        r = wfe_error_set(err, WFE_ERROR_INTEGRITY, EINVAL, "saved checkpoints are corrupt");
    if (r == 0 && windows_end > windows_offset_bytes) {
        checkpoints.windows_fd = fcntl(windows_fd, F_DUPFD_CLOEXEC, 0);
        if (checkpoints.windows_fd < 0)
            r = wfe_error_system(err, errno, "dup");
    }
    if (r < 0) {
        wfe_checkpoints_done(&checkpoints);
        return r;
    }
    if (stream->spool >= 0) {
        wfe_checkpoints_done(&checkpoints);
        return 0;
    }
    pthread_mutex_lock(&stream->lock);
    wfe_checkpoints_done(&stream->checkpoints);
    stream->checkpoints = checkpoints;
    pthread_mutex_unlock(&stream->lock);
    atomic_store(&stream->length, decoded_bytes);
    wfe_stream_end_pass(stream, WFE_STREAM_COMPLETE);
    return 0;
}
