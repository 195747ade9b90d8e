/* SPDX-License-Identifier: MIT */

/*
 * Any bytes as a file, and as what a pass over it has saved: two bytes tell how many of those that
 * follow are the places, two more how many after them are the windows; the rest is the file.
 * Without saved ones, all that the pass gives can be read again and is the same; with them, they
 * are refused, or reads end well or in an error.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "artifactfs/stream.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    HEAD_BYTES = 4,
    MAX_DECODED_BYTES = 8 << 20,
    SPACING_BYTES = 16 * 1024,
    READ_BYTES = 50000,
};

static void expect(bool holds)
{
    if (!holds)
        abort();
}

static int to_nowhere(void *context, const void *data, size_t length, struct wfe_error *err)
{
    (void)data;
    (void)err;
    *(size_t *)context += length;
    return 0;
}

static struct wfe_stream *open_file(const uint8_t *data, size_t size)
{
    const struct wfe_stream_options options = {
        .spool_directory = "/tmp",
        .max_spool_bytes = MAX_DECODED_BYTES,
        .spacing_bytes = SPACING_BYTES,
    };
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    expect(fd >= 0 && wfe_write_all(fd, data, size) == 0);
    struct wfe_stream *stream = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_stream_open(fd, &options, &stream, &err);
    expect(r == 0 || err.kind == WFE_ERROR_ARCHIVE);
    return stream;
}

static void read_back(struct wfe_stream *stream, const struct wfe_buffer *passed)
{
    char buffer[READ_BYTES];
    for (size_t end = passed->length; end > 0;) {
        size_t length = end < sizeof buffer ? end : sizeof buffer;
        end -= length;
        expect(wfe_stream_read(stream, buffer, length, end, NULL) == (ssize_t)length);
        expect(memcmp(buffer, passed->data + end, length) == 0);
    }
}

static void pass_and_read(struct wfe_stream *stream)
{
    WFE_BUFFER struct wfe_buffer passed = WFE_BUFFER_INIT(2 * MAX_DECODED_BYTES);
    int r = 0;
    size_t length = 1;
    while (r == 0 && length > 0 && passed.length < MAX_DECODED_BYTES) {
        const void *data;
        r = wfe_stream_next(stream, &data, &length, NULL);
        if (r == 0 && length > 0)
            expect(wfe_buffer_append(&passed, data, length) == 0);
    }
    expect(wfe_stream_length(stream) == passed.length);
    read_back(stream, &passed);
    size_t saved = 0;
    struct wfe_sink sink = {.write = to_nowhere, .context = &saved};
    if (r == 0 && length == 0 && wfe_stream_save(stream, sink, NULL) == 0)
        wfe_stream_save_windows(stream, sink, NULL);
}

static void load_and_read(struct wfe_stream *stream, const uint8_t *places, size_t length,
    const uint8_t *windows, size_t windows_length)
{
    struct wfe_error err = WFE_ERROR_INIT;
    WFE_CLOSE int fd = memfd_create("windows", MFD_CLOEXEC);
    expect(fd >= 0 && wfe_write_all(fd, windows, windows_length) == 0);
    if (wfe_stream_load(stream, places, length, fd, 0, &err) < 0) {
        expect(err.kind == WFE_ERROR_INTEGRITY);
        return;
    }
    char buffer[READ_BYTES];
    uint64_t known = wfe_stream_length(stream);
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t offset = known / 20 * (i * 7 % 20);
        expect(
            wfe_stream_read(stream, buffer, sizeof buffer, offset, NULL) <= (ssize_t)sizeof buffer);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD_BYTES)
        return 0;
    size_t places = data[0] | (size_t)data[1] << 8, windows = data[2] | (size_t)data[3] << 8;
    data += HEAD_BYTES;
    size -= HEAD_BYTES;
    if (places + windows > size)
        return 0;
    struct wfe_stream *stream = open_file(data + places + windows, size - places - windows);
    if (stream && places > 0)
        load_and_read(stream, data, places, data + places, windows);
    else if (stream)
        pass_and_read(stream);
    wfe_stream_free(stream);
    return 0;
}
