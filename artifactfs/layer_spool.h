/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_LAYER_SPOOL_H
#define WFE_ARTIFACTFS_LAYER_SPOOL_H

/* A sink whose bytes go to a file without a name. */

#include <stdint.h>

#include "artifactfs/index.h"
#include "libcommon/error.h"
#include "libcommon/sink.h"

struct wfe_layer_spool {
    int fd;
    uint64_t length_bytes;
    uint64_t max_bytes;
    const struct wfe_index_patience *patience; /* borrowed; NULL: it does not end */
};
#define WFE_LAYER_SPOOL_INIT                                                                       \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/* Errors: WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL. */
int wfe_layer_spool_open(struct wfe_layer_spool *spool, const char *directory, uint64_t max_bytes,
    struct wfe_error *err);
void wfe_layer_spool_done(struct wfe_layer_spool *spool);
#define WFE_LAYER_SPOOL __attribute__((cleanup(wfe_layer_spool_done)))

/* A view of the spool. Errors when it is written to: WFE_ERROR_LIMIT, WFE_ERROR_SYSTEM,
 * WFE_ERROR_CANCELLED (EINTR: patience is over). */
struct wfe_sink wfe_layer_spool_sink(struct wfe_layer_spool *spool);

#endif
