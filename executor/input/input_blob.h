/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_INPUT_BLOB_H
#define WFE_EXECUTOR_INPUT_BLOB_H

/*
 * The content of an input in the daemon's content store, as a layer that can be unpacked below any
 * directory.
 *
 * A layer that the store has made itself obeys our policy as it is: its blob goes to the daemon
 * unchanged. Anything else is written anew. That blob has a label "wfe.layer.<32 digits>", after
 * the digest of the artifact, by which later steps find it, those of other clients too.
 */

#include "executor/image/image.h"
#include "executor/input/input_layer.h"
#include "libcommon/digest.h"
#include "libcommon/layer.h"

struct wfe_input_blob {
    struct wfe_descriptor layer;
    struct wfe_digest diff_id;
    struct wfe_layer_root root; /* of the directory below which it is unpacked */
};

/* The digest of the input's artifact. One that is not the store's has a digest of what is in it,
 * for which it is read. Errors: those of wfe_layer_write(). */
int wfe_input_digest(
    const struct wfe_input_layer *input, struct wfe_digest *ret, struct wfe_error *err);

/* Sends the blob, unless the daemon has it, and puts it under the session's lease. Errors: those of
 * wfe_inputs_apply(). */
int wfe_input_blob_bring(const struct wfe_input_layer *input, const struct wfe_digest *artifact,
    struct wfe_input_blob *ret, struct wfe_error *err);

/* The same for a layer below the input's target, which serves this input only. */
int wfe_input_blob_bring_prefixed(
    const struct wfe_input_layer *input, struct wfe_input_blob *ret, struct wfe_error *err);

/* The same for a layer of the target's directories, the last one with the root's attributes. */
int wfe_input_blob_bring_target(const struct wfe_input_layer *input,
    const struct wfe_layer_root *root, struct wfe_input_blob *ret, struct wfe_error *err);

#endif
