/* SPDX-License-Identifier: MIT */
#include "libcommon/gunzip.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include <zlib.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define IN_BYTES (64 * 1024)
#define OUT_BYTES (256 * 1024)
#define MAGIC_1 0x1F
#define MAGIC_2 0x8B

struct wfe_gunzip {
    int fd;
    z_stream stream;
    bool in_member, any_member, source_ended;
    uint64_t source_bytes; /* read so far */
    unsigned char in[IN_BYTES];
    unsigned char out[OUT_BYTES];
};

int wfe_gunzip_new(int fd, struct wfe_gunzip **ret, struct wfe_error *err)
{
    struct wfe_gunzip *gunzip = calloc(1, sizeof *gunzip);
    if (!gunzip || inflateInit2(&gunzip->stream, 16 + MAX_WBITS) != Z_OK) {
        free(gunzip);
        return wfe_error_nomem(err);
    }
    gunzip->fd = fd;
    *ret = gunzip;
    return 0;
}

void wfe_gunzip_free(struct wfe_gunzip *gunzip)
{
    if (!gunzip)
        return;
    inflateEnd(&gunzip->stream);
    free(gunzip);
}

/* More of the file behind what is left of it. */
static int fill(struct wfe_gunzip *gunzip, struct wfe_error *err)
{
    z_stream *stream = &gunzip->stream;
    size_t left = stream->avail_in;
    for (size_t i = 0; i < left; i++)
        gunzip->in[i] = stream->next_in[i];
    ssize_t n = wfe_read_full(gunzip->fd, gunzip->in + left, IN_BYTES - left);
    if (n < 0)
        return wfe_error_system(err, (int)-n, "read");
    gunzip->source_bytes += (uint64_t)n;
    gunzip->source_ended = (size_t)n < IN_BYTES - left;
    stream->next_in = gunzip->in;
    stream->avail_in = (uInt)(left + (size_t)n);
    return 0;
}

static bool begins_member(const z_stream *stream)
{
    return stream->avail_in >= 2 && stream->next_in[0] == MAGIC_1 && stream->next_in[1] == MAGIC_2;
}

static int inflate_some(struct wfe_gunzip *gunzip, struct wfe_error *err)
{
    z_stream *stream = &gunzip->stream;
    int status = inflate(stream, Z_NO_FLUSH);
    unsigned long long at = gunzip->source_bytes - stream->avail_in;
    if (status == Z_MEM_ERROR)
        return wfe_error_nomem(err);
    if (status == Z_STREAM_END)
        gunzip->in_member = false;
    else if (status != Z_OK && status != Z_BUF_ERROR)
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EBADMSG, "gzip, below byte %llu: %s", at,
            stream->msg ? stream->msg : "malformed");
    else if (gunzip->source_ended && stream->avail_in == 0 && stream->avail_out == OUT_BYTES)
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EBADMSG,
            "cut off: the compressed stream has no end (%llu bytes)", at);
    return 0;
}

ssize_t wfe_gunzip_next(struct wfe_gunzip *gunzip, const void **ret_data, struct wfe_error *err)
{
    z_stream *stream = &gunzip->stream;
    stream->next_out = gunzip->out;
    stream->avail_out = OUT_BYTES;
    while (stream->avail_out == OUT_BYTES) {
        int r = 0;
        if (stream->avail_in < 2 && !gunzip->source_ended)
            r = fill(gunzip, err);
        if (r == 0 && !gunzip->in_member) {
            if (!begins_member(stream) && gunzip->any_member)
                return 0;
            inflateReset(stream);
            gunzip->in_member = gunzip->any_member = true;
        }
        if (r == 0)
            r = inflate_some(gunzip, err);
        if (r < 0)
            return r;
    }
    *ret_data = gunzip->out;
    return OUT_BYTES - (ssize_t)stream->avail_out;
}
