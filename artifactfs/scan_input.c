/* SPDX-License-Identifier: MIT */
#include "artifactfs/scan_input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "libcommon/archive.h"
#include "libcommon/cleanup.h"

enum {
    BLOCK_BYTES = 256 * 1024,
    /* Formats are told by this much, but for one whose first header is longer. */
    HEAD_BYTES = 128 * 1024,
    MAX_HEAD_BYTES = 4 * 1024 * 1024,
    /* The longest tar without entries. */
    EMPTY_TAR_BYTES = 20 * 512,
};

static int cancelled(struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "the scan was cancelled");
}

static int grow_head(struct wfe_scan_input *input, size_t more)
{
    if (input->head_allocated - input->head_length >= more)
        return 0;
    size_t allocated = 2 * input->head_allocated + more;
    char *buffer = realloc(input->buffer, allocated);
    if (!buffer)
        return -ENOMEM;
    input->buffer = buffer;
    input->head_allocated = allocated;
    return 0;
}

/* Have so many bytes of the beginning, or all that there are. What comes before a failure is good;
 * the failure itself waits for the reader. */
static int read_head(struct wfe_scan_input *input, size_t length, struct wfe_error *err)
{
    while (input->head_length < length && !input->at_end) {
        const void *data;
        size_t n = 0;
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = wfe_stream_next(input->stream, &data, &n, &failure);
        if (r < 0 && input->head_length == 0) {
            if (err)
                *err = failure;
            return r;
        }
        if (r < 0)
            input->failure = failure;
        input->at_end = r < 0 || n == 0;
        if (n == 0 || r < 0)
            continue;
        if (grow_head(input, n) < 0)
            return wfe_error_nomem(err);
        memcpy(input->buffer + input->head_length, data, n);
        input->head_length += n;
    }
    return 0;
}

int wfe_scan_input_open(struct wfe_scan_input *input, struct wfe_stream *stream,
    struct wfe_cancel *cancel, struct wfe_error *err)
{
    *input = (struct wfe_scan_input){.stream = stream, .cancel = cancel};
    input->fd = wfe_stream_plain_fd(stream, &input->fd_offset);
    if (input->fd < 0)
        return read_head(input, HEAD_BYTES, err);
    input->size_bytes = wfe_stream_skip(stream, INT64_MAX);
    input->buffer = malloc(BLOCK_BYTES);
    return input->buffer ? 0 : wfe_error_nomem(err);
}

void wfe_scan_input_done(struct wfe_scan_input *input)
{
    free(input->buffer);
    input->buffer = NULL;
}

static ssize_t read_plain(
    const struct wfe_scan_input *input, void *data, size_t length, uint64_t position)
{
    uint64_t left = position < input->size_bytes ? input->size_bytes - position : 0;
    size_t n = left < length ? (size_t)left : length;
    ssize_t r;
    do {
        r = pread(input->fd, data, n, (off_t)(input->fd_offset + position));
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static void keep_tail(struct wfe_scan_input *input)
{
    size_t n = input->block_length;
    if (n >= sizeof input->tail) {
        memcpy(input->tail, input->block + n - sizeof input->tail, sizeof input->tail);
        input->tail_length = sizeof input->tail;
        return;
    }
    size_t room = sizeof input->tail - n;
    size_t kept = input->tail_length < room ? input->tail_length : room;
    memmove(input->tail, input->tail + input->tail_length - kept, kept);
    if (n > 0)
        memcpy(input->tail + kept, input->block, n);
    input->tail_length = kept + n;
}

/* The next block of the pass, empty at its end. */
static int next_block(struct wfe_scan_input *input)
{
    if (input->head_is_due) {
        input->head_is_due = false;
        input->block = input->buffer;
        input->block_length = input->head_length;
        input->block_offset = 0;
        if (input->block_length > 0)
            return 0;
    }
    keep_tail(input);
    input->block_offset += input->block_length;
    input->block_length = 0;
    if (input->failure.kind != WFE_ERROR_NONE)
        return -input->failure.errnum;
    if (input->at_end)
        return 0;
    const void *data;
    size_t length;
    int r = wfe_stream_next(input->stream, &data, &length, &input->failure);
    if (r < 0)
        return r;
    input->at_end = length == 0;
    input->block = data;
    input->block_length = length;
    return 0;
}

static int next_plain_block(struct wfe_scan_input *input)
{
    ssize_t n = read_plain(input, input->buffer, BLOCK_BYTES, input->position);
    input->block = input->buffer;
    input->block_offset = input->position;
    input->block_length = n < 0 ? 0 : (size_t)n;
    if (n < 0)
        return wfe_error_system(&input->failure, (int)-n, "read");
    input->position += (uint64_t)n;
    return 0;
}

/* Whether the scan may go on. */
static bool go_on(const struct wfe_scan_input *input)
{
    if (input->pause)
        input->pause(input->pause_context);
    return !wfe_cancel_requested(input->cancel);
}

static la_ssize_t read_callback(struct archive *reader, void *context, const void **ret)
{
    struct wfe_scan_input *input = context;
    int r;
    if (!go_on(input))
        r = cancelled(&input->failure);
    else
        r = input->fd >= 0 ? next_plain_block(input) : next_block(input);
    if (r < 0) {
        archive_set_error(reader, -r, "%s", input->failure.message);
        return ARCHIVE_FATAL;
    }
    *ret = input->block;
    return (la_ssize_t)input->block_length;
}

static la_int64_t skip_callback(struct archive *reader, void *context, la_int64_t request)
{
    (void)reader;
    struct wfe_scan_input *input = context;
    uint64_t left = input->position < input->size_bytes ? input->size_bytes - input->position : 0;
    uint64_t n = (uint64_t)request < left ? (uint64_t)request : left;
    input->position += n;
    return (la_int64_t)n;
}

static la_int64_t seek_callback(
    struct archive *reader, void *context, la_int64_t offset, int whence)
{
    struct wfe_scan_input *input = context;
    uint64_t start = whence == SEEK_SET   ? 0
                     : whence == SEEK_CUR ? input->position
                                          : input->size_bytes;
    la_int64_t position;
    if (__builtin_add_overflow((la_int64_t)start, offset, &position) || position < 0) {
        archive_set_error(reader, EINVAL, "seek to before the start");
        return ARCHIVE_FATAL;
    }
    input->position = (uint64_t)position;
    return position;
}

static struct archive *new_reader(void)
{
    struct archive *reader = archive_read_new();
    if (reader)
        wfe_archive_support_formats(reader);
    return reader;
}

int wfe_scan_input_reader(struct wfe_scan_input *input, struct archive **ret, struct wfe_error *err)
{
    WFE_ARCHIVE_READER struct archive *reader = new_reader();
    if (!reader)
        return wfe_error_nomem(err);
    input->head_is_due = true;
    input->position = 0;
    if (input->fd >= 0)
        input->failure = (struct wfe_error)WFE_ERROR_INIT;
    archive_read_set_callback_data(reader, input);
    archive_read_set_read_callback(reader, read_callback);
    if (input->fd >= 0) {
        archive_read_set_skip_callback(reader, skip_callback);
        archive_read_set_seek_callback(reader, seek_callback);
    }
    if (archive_read_open1(reader) != ARCHIVE_OK) {
        int r = wfe_archive_reader_failed(reader, err);
        if (input->failure.kind == WFE_ERROR_NONE)
            return r;
        if (err)
            *err = input->failure;
        return -input->failure.errnum;
    }
    *ret = wfe_steal(&reader);
    return 0;
}

/* The format by the first header; 0 when there is none. *ret_is_short: there might be one if more
 * of the beginning was known. */
static int probe(struct wfe_scan_input *input, int *ret_format, bool *ret_is_empty,
    bool *ret_is_short, struct wfe_error *err)
{
    WFE_ARCHIVE_READER struct archive *reader = NULL;
    *ret_format = 0;
    *ret_is_short = false;
    if (input->fd >= 0) {
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = wfe_scan_input_reader(input, &reader, &failure);
        if (r < 0 && failure.kind == WFE_ERROR_ARCHIVE)
            return 0;
        if (r < 0) {
            if (err)
                *err = failure;
            return r;
        }
    } else {
        reader = new_reader();
        if (!reader)
            return wfe_error_nomem(err);
        if (archive_read_open_memory(reader, input->buffer, input->head_length) != ARCHIVE_OK)
            return 0;
    }
    struct archive_entry *entry;
    int status = archive_read_next_header(reader, &entry);
    *ret_format = archive_format(reader) & ARCHIVE_FORMAT_BASE_MASK;
    *ret_is_empty = status == ARCHIVE_EOF;
    if (status == ARCHIVE_FATAL && *ret_format == 0) {
        if (input->failure.kind != WFE_ERROR_NONE && input->fd >= 0) {
            if (err)
                *err = input->failure;
            return -input->failure.errnum;
        }
        *ret_is_short = true;
    }
    return 0;
}

/* Whether all that there is are zeros, no more than a tar without entries has. */
static bool is_empty_tar(struct wfe_scan_input *input)
{
    const char *data = input->buffer;
    size_t length = input->head_length;
    if (input->fd >= 0) {
        ssize_t n = read_plain(input, input->buffer, BLOCK_BYTES, 0);
        length = n < 0 ? 0 : (size_t)n;
    }
    if (length == 0 || length > EMPTY_TAR_BYTES)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (data[i] != '\0')
            return false;
    }
    return true;
}

/* Of two formats the reader would first go through the table of all entries, which can take its
 * time; their first bytes will do. 0: another format. */
static int format_by_magic(struct wfe_scan_input *input)
{
    enum { MAGIC_BYTES = 6, USTAR_AT = 257 };
    char head[USTAR_AT + 5];
    if (input->fd < 0 || read_plain(input, head, sizeof head, 0) != (ssize_t)sizeof head ||
        memcmp(head + USTAR_AT, "ustar", 5) == 0)
        return 0;
    if (memcmp(head, "PK\003\004", 4) == 0)
        return ARCHIVE_FORMAT_ZIP;
    return memcmp(head, "7z\274\257\047\034", MAGIC_BYTES) == 0 ? ARCHIVE_FORMAT_7ZIP : 0;
}

int wfe_scan_input_probe(struct wfe_scan_input *input, int *ret_format, struct wfe_error *err)
{
    *ret_format = format_by_magic(input);
    if (*ret_format != 0)
        return 0;
    bool is_empty = false, is_short;
    for (;;) {
        int r = probe(input, ret_format, &is_empty, &is_short, err);
        if (r < 0)
            return r;
        if (!is_short || input->fd >= 0 || input->at_end || input->head_length >= MAX_HEAD_BYTES)
            break;
        r = read_head(input, 2 * input->head_length, err);
        if (r < 0)
            return r;
    }
    if (is_empty && *ret_format == ARCHIVE_FORMAT_TAR && !is_empty_tar(input))
        *ret_format = 0;
    return 0;
}

const char *wfe_scan_input_recent(
    struct wfe_scan_input *input, uint64_t offset, size_t length, char *scratch)
{
    uint64_t block_end = input->block_offset + input->block_length;
    if (offset >= input->block_offset && offset <= block_end && length <= block_end - offset)
        return input->block + (offset - input->block_offset);
    if (input->fd >= 0)
        return read_plain(input, scratch, length, offset) == (ssize_t)length ? scratch : NULL;
    if (offset < input->block_offset && input->block_offset - offset <= input->tail_length &&
        offset + length >= input->block_offset && offset + length <= block_end) {
        size_t n = (size_t)(input->block_offset - offset);
        memcpy(scratch, input->tail + input->tail_length - n, n);
        memcpy(scratch + n, input->block, length - n);
        return scratch;
    }
    return wfe_stream_read(input->stream, scratch, length, offset, NULL) == (ssize_t)length
               ? scratch
               : NULL;
}

int wfe_scan_input_drain(struct wfe_scan_input *input, struct wfe_error *err)
{
    int r = 0;
    if (input->fd >= 0)
        return 0;
    input->head_is_due = false;
    while (r == 0 && !input->at_end) {
        if (!go_on(input))
            return cancelled(err);
        r = next_block(input);
    }
    if (input->failure.kind == WFE_ERROR_NONE)
        return 0;
    if (err)
        *err = input->failure;
    return -input->failure.errnum;
}
