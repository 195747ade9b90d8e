/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_IMAGE_H
#define WFE_EXECUTOR_IMAGE_H

/*
 * Images in containerd: name → manifest of the daemon's platform → configuration and
 * chainID of its unpacked layers.
 */

#include <stddef.h>

#include "executor/daemon/connect.h"
#include "libcommon/digest.h"
#include "libcommon/error.h"

/* An image's configuration is at most this large (containerd's own bound). */
#define WFE_IMAGE_JSON_MAX_BYTES (8 * 1024 * 1024)
#define WFE_IMAGE_MAX_LAYERS 512

/* The part of an OCI image configuration that a step needs; lists are NULL-terminated
 * and never NULL. */
struct wfe_image_config {
    char **env;
    char **entrypoint;
    char **cmd;
    char *working_dir; /* NULL when not set */
    char *user;        /* NULL when not set */
    char *os;
    char *architecture;
    char *variant; /* NULL when not set */
    struct wfe_digest *diff_ids;
    size_t layer_count;
};

struct wfe_descriptor {
    char media_type[256];
    struct wfe_digest digest;
    int64_t size_bytes;
};

struct wfe_image_manifest {
    struct wfe_descriptor config;
    struct wfe_descriptor *layers;
    size_t layer_count;
};

/* What a step needs of its image. */
struct wfe_image {
    char *name; /* as containerd's image store has it */
    struct wfe_image_manifest manifest;
    struct wfe_image_config config;
};

void wfe_image_done(struct wfe_image *image);
void wfe_image_config_done(struct wfe_image_config *config);
void wfe_image_manifest_done(struct wfe_image_manifest *manifest);

/* Whether a media type, OCI's or docker's, is an image index's or an image manifest's. */
bool wfe_image_is_index(const char *media_type);
bool wfe_image_is_manifest(const char *media_type);

/* Parse JSON of an OCI or docker kind; every digest is checked, and there is at least one layer.
 * Errors: WFE_ERROR_INPUT that names the field, WFE_ERROR_LIMIT, WFE_ERROR_INTERNAL. */
int wfe_image_config_parse(
    const char *json, size_t length, struct wfe_image_config *ret, struct wfe_error *err);
int wfe_image_manifest_parse(
    const char *json, size_t length, struct wfe_image_manifest *ret, struct wfe_error *err);
/* Whether manifest and configuration belong together, and run on the platform. Errors:
 * WFE_ERROR_INPUT (ENOENT: another platform). */
int wfe_image_check(const struct wfe_image_manifest *manifest,
    const struct wfe_image_config *config, const struct wfe_platform *platform,
    struct wfe_error *err);
/* The chainID of all layers; there is one at least. */
void wfe_image_chain(const struct wfe_image_config *config, struct wfe_digest *ret);
/* The manifest for platform out of an image index; the best variant wins
 * (executor/daemon/platform.h), an item that names no platform is the last resort; it may be an
 * index in the index. ENOENT: none fits, the message lists what there is. */
int wfe_image_index_select(const char *json, size_t length, const struct wfe_platform *platform,
    struct wfe_descriptor *ret, struct wfe_error *err);

/* "busybox" → "docker.io/library/busybox:latest", as docker does; a tag and a digest stay.
 * Allocated. Errors: WFE_ERROR_INPUT (not a reference), WFE_ERROR_INTERNAL. */
int wfe_image_normalize(const char *reference, char **ret, struct wfe_error *err);

/* The parts of a reference after normalization. */
struct wfe_reference {
    char host[256];       /* "docker.io", "localhost:5000" */
    char repository[256]; /* "library/busybox" */
    char tag[129];        /* "" for none: then there is a digest */
    char digest[72];      /* "" for none; it decides when there is a tag as well */
};
/* Errors: as wfe_image_normalize(). */
int wfe_image_split(const char *reference, struct wfe_reference *ret, struct wfe_error *err);

/*
 * Find reference in the image store, as it is written, then normalized, and read what it says.
 * Errors: WFE_ERROR_INPUT (ENOENT) when it is not there: the message says how to bring it in;
 * WFE_ERROR_INPUT (a malformed image, none for the daemon's platform), WFE_ERROR_INTEGRITY,
 * WFE_ERROR_CONTAINERD.
 */
int wfe_image_find(const struct wfe_session *session, const char *reference, struct wfe_image *ret,
    struct wfe_error *err);
/* The same in two halves: the store is asked as soon as wfe_connect_start() has returned. The call
 * stays the caller's. */
int wfe_image_find_start(const struct wfe_session *session, const char *reference,
    struct wfe_rpc_call **ret_call, struct wfe_error *err);
int wfe_image_find_finish(const struct wfe_session *session, const char *reference,
    struct wfe_rpc_call *call, struct wfe_image *ret, struct wfe_error *err);

/* Waits until the layer at an index is in the content store. Returns 0, or -errno with err set. */
typedef int wfe_image_awaiter(void *context, size_t index, struct wfe_error *err);

/*
 * Unpack the layers of an image, each into its chain, and give the blobs the labels that keep the
 * chains alive as long as the image. The blobs are in the content store: all of them with `await`
 * NULL, else each when it has returned for it. What is unpacked already costs one look, and no
 * layer is awaited. The session must hold a lease. Errors: as wfe_snapshot_apply(), await's.
 */
int wfe_image_unpack(const struct wfe_session *session, const struct wfe_image_manifest *manifest,
    const struct wfe_image_config *config, wfe_image_awaiter *await, void *await_context,
    struct wfe_digest *ret_chain_id, struct wfe_error *err);

#endif
