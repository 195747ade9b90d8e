/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_COMPRESS_H
#define WFE_LIBCOMMON_COMPRESS_H

/*
 * A sink that compresses what it gets and passes it on.
 *
 * The same pieces give the same bytes with the same version of the compressor: gzip has no
 * name, time or system in its header, zstd runs on one thread.
 */

#include "libcommon/error.h"
#include "libcommon/layer.h"
#include "libcommon/sink.h"

struct wfe_compressor;

/* compression: WFE_LAYER_GZIP or WFE_LAYER_ZSTD. Errors: WFE_ERROR_INTERNAL. */
int wfe_compressor_new(enum wfe_layer_compression compression, struct wfe_sink sink,
    struct wfe_compressor **ret, struct wfe_error *err);
void wfe_compressor_free(struct wfe_compressor *compressor);

/* Errors: what the sink returns, WFE_ERROR_INTERNAL. */
int wfe_compressor_write(
    struct wfe_compressor *compressor, const void *data, size_t length, struct wfe_error *err);
/* After the last byte. */
int wfe_compressor_finish(struct wfe_compressor *compressor, struct wfe_error *err);

static inline void wfe_cleanup_compressor(struct wfe_compressor **compressor)
{
    wfe_compressor_free(*compressor);
}
#define WFE_COMPRESSOR __attribute__((cleanup(wfe_cleanup_compressor)))

#endif
