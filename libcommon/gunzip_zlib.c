/* SPDX-License-Identifier: MIT */
#include "libcommon/gunzip_inflate.h"

#include <stdlib.h>

#include <zlib.h>

#define GZIP_WINDOW (16 + MAX_WBITS)

struct wfe_gunzip_inflate {
    z_stream stream;
};

struct wfe_gunzip_inflate *wfe_gunzip_inflate_new(void)
{
    struct wfe_gunzip_inflate *inflate = calloc(1, sizeof *inflate);
    if (!inflate || inflateInit2(&inflate->stream, GZIP_WINDOW) == Z_OK)
        return inflate;
    free(inflate);
    return NULL;
}

void wfe_gunzip_inflate_free(struct wfe_gunzip_inflate *inflate)
{
    if (!inflate)
        return;
    inflateEnd(&inflate->stream);
    free(inflate);
}

void wfe_gunzip_inflate_reset(struct wfe_gunzip_inflate *inflate)
{
    inflateReset(&inflate->stream);
}

enum wfe_gunzip_status wfe_gunzip_inflate_run(
    struct wfe_gunzip_inflate *gunzip, struct wfe_gunzip_buffers *buffers)
{
    z_stream *stream = &gunzip->stream;
    stream->next_in = (Bytef *)buffers->in; /* it is not written to */
    stream->avail_in = (uInt)buffers->in_bytes;
    stream->next_out = buffers->out;
    stream->avail_out = (uInt)buffers->out_bytes;
    int status = inflate(stream, Z_NO_FLUSH);
    buffers->in = stream->next_in;
    buffers->in_bytes = stream->avail_in;
    buffers->out = stream->next_out;
    buffers->out_bytes = stream->avail_out;
    if (status == Z_MEM_ERROR)
        return WFE_GUNZIP_NOMEM;
    if (status == Z_STREAM_END)
        return WFE_GUNZIP_END;
    return status == Z_OK || status == Z_BUF_ERROR ? WFE_GUNZIP_MORE : WFE_GUNZIP_BROKEN;
}
