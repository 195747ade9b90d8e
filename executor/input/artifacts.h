/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_ARTIFACTS_H
#define WFE_EXECUTOR_ARTIFACTS_H

/*
 * A step's artifact inputs: names → sources (the artifact volume) → layers on top of the
 * image's chain.
 *
 * Each input becomes one snapshot of the chain (executor/input/input_layer.h), labelled with a
 * key over the chain below it, the artifact's digest and the target. The image's
 * configuration blob refers to it, so that it lives as long as the image does, and the next step
 * with the same image and inputs finds the whole chain by one question.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "executor/daemon/connect.h"
#include "executor/image/image.h"
#include "executor/run/progress.h"
#include "executor/step/step.h"
#include "libcommon/digest.h"
#include "libcommon/layer.h"
#include "libcommon/store.h"

/* --artifact NAME=SOURCE: a directory, an archive, or sha256:DIGEST. Borrowed strings. */
struct wfe_artifact_binding {
    const char *name;
    const char *source;
};

struct wfe_input {
    char *name;
    char *target;             /* absolute path in the container */
    bool stored;              /* digest names a blob of the store, else path is the source */
    struct wfe_digest digest; /* valid when stored */
    char *path;               /* a directory or an archive; NULL when stored */
};

/* The volume of one step, in the order in which the inputs are applied. */
struct wfe_inputs {
    struct wfe_input *items;
    size_t count;
    struct wfe_store *store;        /* NULL when no input is stored */
    struct wfe_layer_limits limits; /* the owner's to set: of what goes in as a layer */
};

/*
 * Find the source of each of the step's inputs: a binding, else an artifact reference in `data`
 * ({"__wfe_artifact":"sha256:…"} under the input's name). store_path is opened only when it is
 * needed. Nothing of an artifact is read. Errors: WFE_ERROR_INPUT, naming the
 * input: data is no object, the name is not in it, it is no reference, not in the store, expired.
 */
int wfe_inputs_resolve(const struct wfe_step_config *config, const cJSON *data,
    const struct wfe_artifact_binding *bindings, size_t binding_count, const char *store_path,
    struct wfe_inputs *ret, struct wfe_error *err);
void wfe_inputs_done(struct wfe_inputs *inputs);

/* How inputs go into a container. */
enum wfe_inputs_kind {
    WFE_INPUTS_AUTO,  /* large ones that the daemon has not got yet as mounts, where that works */
    WFE_INPUTS_LAYER, /* layers of the container's root file system */
    WFE_INPUTS_MOUNT, /* executor/input/input_mount.h */
};

/* Bytes of the stored inputs that the daemon has not got on top of the image's chain; directories
 * and archives outside of the store count nothing. Errors: as wfe_inputs_apply(). */
int wfe_inputs_missing_bytes(const struct wfe_session *session,
    const struct wfe_digest *image_chain, const struct wfe_inputs *inputs, uint64_t *ret,
    struct wfe_error *err);

/*
 * Bring the inputs into the daemon on top of the image's chain; ret is the chain with all of them.
 * What is there already is neither read nor sent again. The session must hold a lease.
 * Errors: WFE_ERROR_ARCHIVE, WFE_ERROR_INTEGRITY, WFE_ERROR_LIMIT, WFE_ERROR_SYSTEM,
 * WFE_ERROR_CONTAINERD, WFE_ERROR_CANCELLED; each names the input.
 */
int wfe_inputs_apply(const struct wfe_session *session, const struct wfe_image *image,
    const struct wfe_digest *image_chain, const struct wfe_inputs *inputs,
    struct wfe_progress *progress, struct wfe_digest *ret, struct wfe_error *err);

#endif
