/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_STORE_INDEX_H
#define WFE_LIBCOMMON_STORE_INDEX_H

/*
 * Within the store: index.json, and the image (manifest and config) that stands for each
 * artifact in it, so that tools for images find every artifact under a tag.
 *
 * A descriptor in the index carries the artifact's name as its tag
 * (org.opencontainers.image.ref.name). A name that no tag may have stands in
 * org.opencontainers.image.title beside the tag "name-H", H being the first 16 digits of the
 * name's SHA-256; an artifact without a name has the tag "sha256-HEX". An artifact may have
 * several names, a name has one artifact.
 *
 * The image says nothing but what follows from the blob, so it is the same wherever and
 * whenever it is made. Any image of a single layer counts as an artifact, also one that
 * another tool has copied here.
 *
 * Writers hold the store's lock from load to save.
 */

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "libcommon/store_layout.h"
#include "libcommon/store_scan.h"

#define WFE_NAME_BYTES 256

/* A manifest or config to be written, and its digest. */
struct wfe_image_document {
    char text[1024];
    size_t length;
    struct wfe_digest digest;
};

struct wfe_image {
    struct wfe_image_document config;
    struct wfe_image_document manifest;
};

/* The image of one layer. media_type is one of libcommon/layer.h's. */
void wfe_image_make(
    const struct wfe_scan_result *layer, const char *media_type, struct wfe_image *ret);

/* What a descriptor of the index refers to. */
struct wfe_store_index_target {
    struct wfe_digest manifest;
    bool has_config;
    struct wfe_digest config;
    bool is_artifact;
    struct wfe_digest artifact;
};

/* Reads the manifest that the descriptor names; what it is when there is none, or it is none, is
 * left unsaid. Returns 0, -ENOMEM or -errno. */
int wfe_store_index_resolve(
    struct wfe_store *store, const cJSON *descriptor, struct wfe_store_index_target *ret);

/* The artifact name that the descriptor gives, "" for none. */
void wfe_store_index_name(const cJSON *descriptor, char ret[WFE_NAME_BYTES]);

/*
 * The index, with an array "manifests" in any case; a missing file is an empty index.
 * Errors: WFE_ERROR_INPUT (no image index), WFE_ERROR_LIMIT, WFE_ERROR_SYSTEM,
 * WFE_ERROR_INTERNAL.
 */
int wfe_store_index_load(struct wfe_store *store, cJSON **ret, struct wfe_error *err);
int wfe_store_index_save(struct wfe_store *store, const cJSON *index, struct wfe_error *err);
/* The array "manifests"; a view. */
cJSON *wfe_store_index_descriptors(const cJSON *index);

/*
 * List an artifact's image under `name`, or without one when name is "" and it has none
 * yet. An artifact that had the name before keeps its place without it. Sets *ret_changed.
 * Returns 0, -ENOMEM or -errno.
 */
int wfe_store_index_add(struct wfe_store *store, cJSON *index, const struct wfe_image *image,
    const struct wfe_digest *artifact, const char *name, bool *ret_changed);

#endif
