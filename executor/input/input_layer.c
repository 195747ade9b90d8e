/* SPDX-License-Identifier: MIT */
#include "executor/input/input_layer.h"

#include <errno.h>
#include <stdio.h>

#include "executor/daemon/content.h"
#include "executor/daemon/snapshot.h"
#include "executor/input/input_blob.h"
#include "libcommon/cleanup.h"

/* The image's configuration refers to it: it lives as long as the image. kind: "content" or
 * "snapshot.NAME". */
static int anchor(const struct wfe_input_layer *input, const char *kind,
    const struct wfe_digest *digest, struct wfe_error *err)
{
    char key[192];
    snprintf(key, sizeof key, "containerd.io/gc.ref.%s/wfe-%.16s", kind, wfe_digest_hex(digest));
    const struct wfe_label label = {key, digest->text};
    return wfe_content_label(input->session, &input->image->manifest.config.digest, &label, 1, err);
}

static int anchor_chain(
    const struct wfe_input_layer *input, const struct wfe_digest *chain, struct wfe_error *err)
{
    char kind[128];
    snprintf(kind, sizeof kind, "snapshot.%s", input->session->snapshotter);
    return anchor(input, kind, chain, err);
}

/* No chainID: that would be of a layer at the root. */
static int name_chain(
    const struct wfe_input_layer *input, const struct wfe_digest *artifact, struct wfe_digest *ret)
{
    WFE_FREE char *text = NULL;
    int length =
        asprintf(&text, "wfe-input\n%s\n%s\n%s", input->parent.text, artifact->text, input->target);
    if (length < 0) {
        text = NULL;
        return -ENOMEM;
    }
    wfe_digest_of(text, (size_t)length, ret);
    return 0;
}

static int unpack(const struct wfe_input_layer *input,
    const Snapshots__PrepareSnapshotResponse *prepared, const struct wfe_input_blob *blob,
    struct wfe_error *err)
{
    wfe_progress_stage(input->progress, "applying input '%s'", input->name);
    return wfe_snapshot_fill(input->session, prepared, &blob->layer, &blob->diff_id, err);
}

static int fill_below_target(const struct wfe_input_layer *input,
    const Snapshots__PrepareSnapshotResponse *prepared, const struct wfe_input_blob *blob,
    struct wfe_error *err)
{
    struct wfe_input_blob target;
    int r = wfe_input_blob_bring_target(input, &blob->root, &target, err);
    if (r == 0)
        r = unpack(input, prepared, &target, err);
    if (r == 0)
        r = wfe_snapshot_fill_below(
            input->session, prepared, input->target, &blob->layer, &blob->diff_id, err);
    /* Once more, for the time of the last directory: it has changed with what came into it. */
    if (r == 0)
        r = unpack(input, prepared, &target, err);
    return r < 0 ? r : anchor(input, "content", &blob->layer.digest, err);
}

static int fill(const struct wfe_input_layer *input, const struct wfe_digest *artifact,
    const Snapshots__PrepareSnapshotResponse *prepared, struct wfe_error *err)
{
    struct wfe_input_blob blob;
    if (wfe_snapshot_directory(prepared) && !wfe_layer_limits_are_set(input->limits)) {
        int r = wfe_input_blob_bring(input, artifact, &blob, err);
        if (r < 0)
            return r;
        if (!blob.root.has_xattrs)
            return fill_below_target(input, prepared, &blob, err);
    }
    int r = wfe_input_blob_bring_prefixed(input, &blob, err);
    return r < 0 ? r : unpack(input, prepared, &blob, err);
}

int wfe_input_layer_apply(
    const struct wfe_input_layer *input, struct wfe_digest *ret_chain, struct wfe_error *err)
{
    struct wfe_digest artifact;
    int r = wfe_input_digest(input, &artifact, err);
    if (r < 0)
        return r;
    if (name_chain(input, &artifact, ret_chain) < 0)
        return wfe_error_nomem(err);
    WFE_EXTRACTION struct wfe_extraction extraction = WFE_EXTRACTION_INIT;
    r = wfe_extraction_begin(
        input->session, &input->parent, ret_chain, input->label, &extraction, err);
    if (r == 0 && extraction.prepared) {
        r = fill(input, &artifact, extraction.prepared, err);
        if (r == 0)
            r = wfe_extraction_commit(&extraction, err);
    }
    return r < 0 ? r : anchor_chain(input, ret_chain, err);
}
