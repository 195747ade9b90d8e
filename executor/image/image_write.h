/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_IMAGE_WRITE_H
#define WFE_EXECUTOR_IMAGE_WRITE_H

/*
 * What an image is to containerd besides its layers: configuration, manifest and index in the
 * content store, and its record. Labels and GC references are containerd's own, so that
 * `ctr images ls` and `ctr run` accept it and the collector keeps it.
 *
 * Each text is as long as its descriptor says. The session must hold a lease. Errors of all
 * functions: WFE_ERROR_CONTAINERD, WFE_ERROR_INTEGRITY, WFE_ERROR_INTERNAL.
 */

#include "executor/image/image.h"
#include "images.pb-c.h"

/* The configuration, which keeps the unpacked layers. */
int wfe_image_write_config(const struct wfe_session *session,
    const struct wfe_descriptor *descriptor, const char *json,
    const struct wfe_image_config *config, struct wfe_error *err);

/* The manifest, which keeps its configuration and its layers. */
int wfe_image_write_manifest(const struct wfe_session *session,
    const struct wfe_descriptor *descriptor, const char *json,
    const struct wfe_image_manifest *manifest, struct wfe_error *err);

/* An index, which keeps the one of its manifests that was brought in. */
int wfe_image_write_index(const struct wfe_session *session,
    const struct wfe_descriptor *descriptor, const char *json, const struct wfe_digest *manifest,
    struct wfe_error *err);

/* Create the record, or let it point to the target. It makes all of the image permanent, so it
 * comes last. */
int wfe_image_record(const struct wfe_session *session, const char *name,
    const struct wfe_descriptor *target, struct wfe_error *err);

/* The record of exactly that name, which the caller frees; NULL when there is none. */
int wfe_image_get_record(const struct wfe_session *session, const char *name,
    Images__GetImageResponse **ret, struct wfe_error *err);
/* The same in two halves; the call stays the caller's. */
int wfe_image_get_record_start(const struct wfe_session *session, const char *name,
    struct wfe_rpc_call **ret_call, struct wfe_error *err);
int wfe_image_get_record_finish(const char *name, struct wfe_rpc_call *call,
    Images__GetImageResponse **ret, struct wfe_error *err);

/* Delete the record; one that is gone already is success. Never cancelled by the session's token.
 */
int wfe_image_forget(const struct wfe_session *session, const char *name, struct wfe_error *err);

#endif
