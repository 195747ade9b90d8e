/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_PULL_LAYERS_H
#define WFE_EXECUTOR_PULL_LAYERS_H

/* The layers of an image that is pulled: fetched by a few threads, unpacked by the caller's. */

#include "executor/image/image.h"
#include "executor/image/pull.h"

struct wfe_pull_layers {
    const struct wfe_session *session; /* holds a lease */
    struct wfe_registry *registry;
    const struct wfe_reference *reference;
    const struct wfe_image_manifest *manifest;
    const struct wfe_image_config *config;
    unsigned max_downloads;
    const char *name; /* the image's, for people */
    struct wfe_progress *progress;
};

/* Returns when all layers are there and unpacked, or when one has failed and all have stopped.
 * Errors: as wfe_registry_blob() and wfe_image_unpack(). */
int wfe_pull_layers(const struct wfe_pull_layers *layers, struct wfe_error *err);

#endif
