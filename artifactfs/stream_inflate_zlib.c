/* SPDX-License-Identifier: MIT */
#include "artifactfs/stream_inflate.h"

#include <errno.h>
#include <stdlib.h>

#include <zlib.h>

/* Without a header; windows of any size. */
enum { RAW_DEFLATE = -15 };

/* In z_stream.data_type, see inflate() in zlib's manual. */
enum { AT_BLOCK_END = 128, IN_LAST_BLOCK = 64, UNUSED_BITS = 7 };

struct wfe_inflate {
    z_stream z;
};

static bool can_stop(void)
{
    return true;
}

static struct wfe_inflate *create(void)
{
    struct wfe_inflate *inflate = calloc(1, sizeof *inflate);
    if (inflate && inflateInit2(&inflate->z, RAW_DEFLATE) != Z_OK) {
        free(inflate);
        return NULL;
    }
    return inflate;
}

static void free_inflate(struct wfe_inflate *inflate)
{
    inflateEnd(&inflate->z);
    free(inflate);
}

static int start(struct wfe_inflate *inflate, unsigned bits, unsigned char byte,
    const unsigned char *window, size_t window_bytes)
{
    if (inflateReset2(&inflate->z, RAW_DEFLATE) != Z_OK)
        return -ENOMEM;
    if (bits > 0 && inflatePrime(&inflate->z, (int)bits, byte >> (8 - bits)) != Z_OK)
        return -ENOMEM;
    if (window_bytes > 0 && inflateSetDictionary(&inflate->z, window, (uInt)window_bytes) != Z_OK)
        return -ENOMEM;
    return 0;
}

static enum wfe_inflate_status run(
    struct wfe_inflate *inflater, struct wfe_inflate_buffers *buffers, bool stop)
{
    z_stream *z = &inflater->z;
    z->next_in = (unsigned char *)buffers->in; /* it is not written to */
    z->avail_in = (uInt)buffers->in_bytes;
    z->next_out = buffers->out;
    z->avail_out = (uInt)buffers->out_bytes;
    int status = inflate(z, stop ? Z_BLOCK : Z_NO_FLUSH);
    buffers->in = z->next_in;
    buffers->in_bytes = z->avail_in;
    buffers->out = z->next_out;
    buffers->out_bytes = z->avail_out;
    switch (status) {
    case Z_STREAM_END:
        return WFE_INFLATE_END;
    case Z_OK:
    case Z_BUF_ERROR:
        return stop && (z->data_type & AT_BLOCK_END) && !(z->data_type & IN_LAST_BLOCK)
                   ? WFE_INFLATE_BLOCK
                   : WFE_INFLATE_MORE;
    case Z_MEM_ERROR:
        return WFE_INFLATE_NOMEM;
    default:
        return WFE_INFLATE_BROKEN;
    }
}

static unsigned unused_bits(const struct wfe_inflate *inflate)
{
    return (unsigned)inflate->z.data_type & UNUSED_BITS;
}

const struct wfe_inflate_ops wfe_inflate_zlib = {
    .is_exact = true,
    .can_stop = can_stop,
    .create = create,
    .free = free_inflate,
    .start = start,
    .run = run,
    .unused_bits = unused_bits,
};

#ifndef WFE_WITH_ISAL
uint32_t wfe_inflate_crc32(uint32_t crc, const unsigned char *data, size_t length)
{
    return (uint32_t)crc32_z(crc, data, length);
}
#endif
