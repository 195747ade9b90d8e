/* SPDX-License-Identifier: MIT */
#include "libcommon/compress.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include <zlib.h>
#include <zstd.h>

#include "libcommon/cleanup.h"

/* Levels at which time and size are in balance when the result crosses a network. */
enum { GZIP_LEVEL = 4, ZSTD_LEVEL = 1 };

enum { OUT_BYTES = 256 * 1024 };

struct wfe_compressor {
    struct wfe_sink sink;
    z_stream gzip;
    gz_header gzip_header;
    bool gzip_ready;
    ZSTD_CStream *zstd; /* NULL: gzip */
    unsigned char out[OUT_BYTES];
};

static int start_gzip(struct wfe_compressor *compressor)
{
    enum { GZIP_WRAPPER = 16, MEMORY_LEVEL = 9, OS_UNKNOWN = 255 };
    if (deflateInit2(&compressor->gzip, GZIP_LEVEL, Z_DEFLATED, MAX_WBITS + GZIP_WRAPPER,
            MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    compressor->gzip_ready = true;
    compressor->gzip_header.os = OS_UNKNOWN;
    return deflateSetHeader(&compressor->gzip, &compressor->gzip_header) == Z_OK ? 0 : -ENOMEM;
}

static int start_zstd(struct wfe_compressor *compressor)
{
    compressor->zstd = ZSTD_createCStream();
    if (!compressor->zstd)
        return -ENOMEM;
    size_t r = ZSTD_CCtx_setParameter(compressor->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL);
    if (!ZSTD_isError(r))
        r = ZSTD_CCtx_setParameter(compressor->zstd, ZSTD_c_checksumFlag, 1);
    return ZSTD_isError(r) ? -ENOMEM : 0;
}

int wfe_compressor_new(enum wfe_layer_compression compression, struct wfe_sink sink,
    struct wfe_compressor **ret, struct wfe_error *err)
{
    assert(compression != WFE_LAYER_NONE);
    WFE_COMPRESSOR struct wfe_compressor *compressor = calloc(1, sizeof *compressor);
    if (!compressor)
        return wfe_error_nomem(err);
    compressor->sink = sink;
    if ((compression == WFE_LAYER_ZSTD ? start_zstd : start_gzip)(compressor) < 0)
        return wfe_error_nomem(err);
    *ret = wfe_steal(&compressor);
    return 0;
}

void wfe_compressor_free(struct wfe_compressor *compressor)
{
    if (!compressor)
        return;
    if (compressor->gzip_ready)
        deflateEnd(&compressor->gzip);
    ZSTD_freeCStream(compressor->zstd);
    free(compressor);
}

static int pass_on(struct wfe_compressor *compressor, size_t length, struct wfe_error *err)
{
    if (length == 0)
        return 0;
    return compressor->sink.write(compressor->sink.context, compressor->out, length, err);
}

static int run_gzip(struct wfe_compressor *compressor, const void *data, size_t length, int flush,
    struct wfe_error *err)
{
    z_stream *gzip = &compressor->gzip;
    assert(length <= UINT_MAX);
    gzip->next_in = (z_const Bytef *)data;
    gzip->avail_in = (uInt)length;
    do {
        gzip->next_out = compressor->out;
        gzip->avail_out = OUT_BYTES;
        int status = deflate(gzip, flush);
        if (status == Z_STREAM_ERROR)
            return wfe_error_set(err, WFE_ERROR_INTERNAL, EINVAL, "deflate: bad state");
        int r = pass_on(compressor, OUT_BYTES - gzip->avail_out, err);
        if (r < 0)
            return r;
    } while (gzip->avail_out == 0);
    return 0;
}

static int run_zstd(struct wfe_compressor *compressor, const void *data, size_t length,
    ZSTD_EndDirective directive, struct wfe_error *err)
{
    ZSTD_inBuffer in = {.src = data, .size = length};
    size_t rest;
    do {
        ZSTD_outBuffer out = {.dst = compressor->out, .size = OUT_BYTES};
        rest = ZSTD_compressStream2(compressor->zstd, &out, &in, directive);
        if (ZSTD_isError(rest))
            return wfe_error_set(
                err, WFE_ERROR_INTERNAL, EINVAL, "zstd: %s", ZSTD_getErrorName(rest));
        int r = pass_on(compressor, out.pos, err);
        if (r < 0)
            return r;
    } while (directive == ZSTD_e_end ? rest > 0 : in.pos < in.size);
    return 0;
}

int wfe_compressor_write(
    struct wfe_compressor *compressor, const void *data, size_t length, struct wfe_error *err)
{
    if (compressor->zstd)
        return run_zstd(compressor, data, length, ZSTD_e_continue, err);
    return run_gzip(compressor, data, length, Z_NO_FLUSH, err);
}

int wfe_compressor_finish(struct wfe_compressor *compressor, struct wfe_error *err)
{
    if (compressor->zstd)
        return run_zstd(compressor, NULL, 0, ZSTD_e_end, err);
    return run_gzip(compressor, NULL, 0, Z_FINISH, err);
}
