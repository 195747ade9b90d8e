/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_INPUT_LAYER_H
#define WFE_EXECUTOR_INPUT_LAYER_H

/*
 * One input as a snapshot on top of a chain.
 *
 * Its content is unpacked below the target's directory, from a blob that is kept in the daemon as
 * long as the image (input_blob.h): with another target or another image nothing is sent again.
 *
 * It is written as a layer below the target instead, whose blob goes once it is unpacked, where
 * limits are set, where the target's directory has xattrs, and with a snapshotter that keeps its
 * files in no directory.
 */

#include "executor/daemon/connect.h"
#include "executor/daemon/labels.h"
#include "executor/image/image.h"
#include "executor/run/progress.h"
#include "libcommon/digest.h"
#include "libcommon/store.h"

/* Everything is borrowed. */
struct wfe_input_layer {
    const struct wfe_session *session; /* holds a lease */
    const struct wfe_image *image;     /* refers to the result, which so lives as long as it does */
    struct wfe_progress *progress;
    const char *name;
    const char *target;              /* absolute path in the container */
    const char *path;                /* of a directory or an archive */
    const struct wfe_digest *digest; /* of the archive, when it is the store's; else NULL */
    struct wfe_store_status status;  /* when it is the store's */
    const struct wfe_layer_limits *limits;
    struct wfe_digest parent;      /* the chain below */
    const struct wfe_label *label; /* of the snapshot; NULL: none */
};

/* The chain with the input. Errors: those of wfe_inputs_apply(). */
int wfe_input_layer_apply(
    const struct wfe_input_layer *input, struct wfe_digest *ret_chain, struct wfe_error *err);

#endif
