/* SPDX-License-Identifier: MIT */
#include "artifactfs/layer_spool.h"

#include <errno.h>
#include <inttypes.h>

#include "artifactfs/stream_parts.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

int wfe_layer_spool_open(
    struct wfe_layer_spool *spool, const char *directory, uint64_t max_bytes, struct wfe_error *err)
{
    spool->max_bytes = max_bytes;
    return wfe_stream_spool_open(directory, &spool->fd, err);
}

void wfe_layer_spool_done(struct wfe_layer_spool *spool)
{
    wfe_cleanup_close(&spool->fd);
    spool->fd = -1;
}

static int write_spool(void *context, const void *data, size_t length, struct wfe_error *err)
{
    struct wfe_layer_spool *spool = context;
    const struct wfe_index_patience *patience = spool->patience;
    if (patience && patience->is_over && patience->is_over(patience->context))
        return wfe_error_set(err, WFE_ERROR_CANCELLED, EINTR, "interrupted");
    if (length > spool->max_bytes - spool->length_bytes)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG,
            "it takes more than the %" PRIu64 " bytes that a temporary file may have",
            spool->max_bytes);
    int r = wfe_write_all(spool->fd, data, length);
    if (r < 0)
        return wfe_error_system(err, -r, "write to a temporary file");
    spool->length_bytes += length;
    return 0;
}

struct wfe_sink wfe_layer_spool_sink(struct wfe_layer_spool *spool)
{
    return (struct wfe_sink){.write = write_spool, .context = spool};
}
