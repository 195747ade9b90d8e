/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_LAYER_WINDOW_H
#define WFE_ARTIFACTFS_LAYER_WINDOW_H

/*
 * The layer of an artifact as a tar that is read at any offset and lies nowhere: where in it the
 * bytes of each of the artifact's entries begin is computed once, without reading any data, and
 * what is read is made again from there on.
 *
 * Memory: the plan's (libcommon/layer_plan.h), about 150 bytes an entry and its name.
 *
 * Threads: reads may come from any number of threads.
 */

#include <stddef.h>
#include <stdint.h>

#include "artifactfs/artifact.h"
#include "libcommon/error.h"

struct wfe_layer_window;

/*
 * The layer below prefix (NULL: none) of an artifact that is borrowed, and for which
 * wfe_artifact_source_new() has a source that seeks. Errors: those of
 * wfe_artifact_source_new() and of wfe_layer_write(), WFE_ERROR_CANCELLED (EINTR: patience is
 * over).
 */
int wfe_layer_window_new(struct wfe_artifact *artifact, const char *prefix,
    const struct wfe_index_patience *patience, struct wfe_layer_window **ret,
    struct wfe_error *err);
void wfe_layer_window_free(struct wfe_layer_window *window);

uint64_t wfe_layer_window_size(const struct wfe_layer_window *window);

/* Exactly length bytes, which lie within the size. Errors: as above, but WFE_ERROR_LIMIT. */
int wfe_layer_window_read(struct wfe_layer_window *window, void *buffer, size_t length,
    uint64_t offset, const struct wfe_index_patience *patience, struct wfe_error *err);

static inline void wfe_cleanup_layer_window(struct wfe_layer_window **window)
{
    wfe_layer_window_free(*window);
}
#define WFE_LAYER_WINDOW __attribute__((cleanup(wfe_cleanup_layer_window)))

#endif
