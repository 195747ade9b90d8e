/* SPDX-License-Identifier: MIT */
#include "executor/input/input_layer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/daemon/content.h"
#include "executor/daemon/snapshot.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/layer.h"

#define READ_BYTES (256 * 1024)

struct counted_sink {
    struct wfe_sink to; /* write NULL: bytes are only counted */
    struct wfe_cancel *cancel;
    struct wfe_progress *progress;
    uint64_t bytes;
};

static int write_counted(void *context, const void *data, size_t length, struct wfe_error *err)
{
    struct counted_sink *sink = context;
    if (wfe_cancel_requested(sink->cancel))
        return wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "stopped");
    sink->bytes += length;
    wfe_progress_bytes(sink->progress, sink->bytes);
    return sink->to.write ? sink->to.write(sink->to.context, data, length, err) : 0;
}

static struct counted_sink counted(const struct wfe_input_layer *layer, struct wfe_sink to)
{
    return (struct counted_sink){
        .to = to, .cancel = layer->session->cancel, .progress = layer->progress};
}

/* The image's configuration refers to it: it lives as long as the image. kind: "content" or
 * "snapshot.NAME". */
static int anchor(const struct wfe_input_layer *layer, const char *kind,
    const struct wfe_digest *digest, struct wfe_error *err)
{
    char key[192];
    snprintf(key, sizeof key, "containerd.io/gc.ref.%s/wfe-%.16s", kind, wfe_digest_hex(digest));
    const struct wfe_label label = {key, digest->text};
    return wfe_content_label(layer->session, &layer->image->manifest.config.digest, &label, 1, err);
}

static int anchor_chain(
    const struct wfe_input_layer *layer, const struct wfe_digest *chain, struct wfe_error *err)
{
    char kind[128];
    snprintf(kind, sizeof kind, "snapshot.%s", layer->session->snapshotter);
    return anchor(layer, kind, chain, err);
}

static int commit_blob(struct wfe_content_writer *writer, const struct wfe_descriptor *blob,
    const struct wfe_digest *diff_id, struct wfe_error *err)
{
    const struct wfe_label label = {"containerd.io/uncompressed", diff_id->text};
    return wfe_content_writer_commit(writer, &blob->digest, blob->size_bytes, &label, 1, err);
}

static void describe(struct wfe_descriptor *blob, const struct wfe_digest *digest,
    uint64_t size_bytes, const char *media_type)
{
    blob->digest = *digest;
    blob->size_bytes = (int64_t)size_bytes;
    snprintf(blob->media_type, sizeof blob->media_type, "%s", media_type);
}

/* Rewritten */

static int write_layer(const struct wfe_input_layer *layer, struct wfe_sink to,
    struct wfe_layer_result *ret, struct wfe_error *err)
{
    struct counted_sink sink = counted(layer, to);
    bool crosses_wire = to.write && !layer->session->local;
    struct wfe_layer_options options = {
        .prefix = layer->target,
        /* zstd keeps up with a fast line, also where it finds nothing to save; gzip would not. */
        .compression = crosses_wire ? WFE_LAYER_ZSTD : WFE_LAYER_NONE,
        .limits = *layer->limits,
    };
    return wfe_layer_write(layer->path, &options,
        (struct wfe_sink){.write = write_counted, .context = &sink}, ret, err);
}

static int upload_layer(const struct wfe_input_layer *layer, struct wfe_descriptor *ret,
    struct wfe_digest *ret_diff_id, struct wfe_error *err)
{
    wfe_progress_stage(layer->progress, "uploading input '%s'", layer->name);
    WFE_CONTENT_WRITER struct wfe_content_writer *writer = NULL;
    bool known;
    int r = wfe_content_writer_open(layer->session, NULL, &writer, &known, err);
    if (r < 0)
        return r;
    struct wfe_layer_result result;
    r = write_layer(layer, wfe_content_writer_sink(writer), &result, err);
    if (r < 0)
        return r;
    describe(ret, &result.digest, result.size_bytes, result.media_type);
    *ret_diff_id = result.diff_id;
    return commit_blob(writer, ret, ret_diff_id, err);
}

static int apply_rewritten(
    const struct wfe_input_layer *layer, struct wfe_digest *ret_chain, struct wfe_error *err)
{
    if (!layer->digest) {
        /* A source without a digest: read it once to learn whether the daemon has it. */
        wfe_progress_stage(layer->progress, "reading input '%s'", layer->name);
        struct wfe_layer_result result;
        int r = write_layer(layer, (struct wfe_sink){.write = NULL}, &result, err);
        if (r < 0)
            return r;
        wfe_digest_chain(&layer->parent, &result.diff_id, ret_chain);
        bool exists;
        r = wfe_snapshot_exists(layer->session, ret_chain->text, &exists, err);
        if (r < 0 || exists)
            return r;
    }
    struct wfe_descriptor blob;
    struct wfe_digest diff_id;
    int r = upload_layer(layer, &blob, &diff_id, err);
    if (r < 0)
        return r;
    wfe_digest_chain(&layer->parent, &diff_id, ret_chain);
    wfe_progress_stage(layer->progress, "applying input '%s'", layer->name);
    r = wfe_snapshot_apply(
        layer->session, &layer->parent, &blob, &diff_id, ret_chain, layer->label, err);
    return r < 0 ? r : anchor_chain(layer, ret_chain, err);
}

/* As it is */

/* No chainID: that would be of a layer at the root. */
static int name_chain(const struct wfe_input_layer *layer, struct wfe_digest *ret)
{
    WFE_FREE char *text = NULL;
    int length = asprintf(
        &text, "wfe-input\n%s\n%s\n%s", layer->parent.text, layer->digest->text, layer->target);
    if (length < 0) {
        text = NULL;
        return -ENOMEM;
    }
    wfe_digest_of(text, (size_t)length, ret);
    return 0;
}

static int copy_file(const char *path, struct wfe_sink sink, struct wfe_error *err)
{
    WFE_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return wfe_error_system(err, errno, "open %s", path);
    WFE_FREE char *data = malloc(READ_BYTES);
    if (!data)
        return wfe_error_nomem(err);
    for (;;) {
        ssize_t n = wfe_read_full(fd, data, READ_BYTES);
        if (n < 0)
            return wfe_error_system(err, (int)-n, "read %s", path);
        if (n == 0)
            return 0;
        int r = sink.write(sink.context, data, (size_t)n, err);
        if (r < 0)
            return r;
    }
}

/* Unless the daemon has it. That it is what its digest says, the daemon checks too. */
static int upload_blob(
    const struct wfe_input_layer *layer, const struct wfe_descriptor *blob, struct wfe_error *err)
{
    wfe_progress_stage(layer->progress, "uploading input '%s'", layer->name);
    WFE_CONTENT_WRITER struct wfe_content_writer *writer = NULL;
    bool known;
    int r = wfe_content_writer_open(layer->session, &blob->digest, &writer, &known, err);
    if (r < 0)
        return r;
    if (!known) {
        struct counted_sink sink = counted(layer, wfe_content_writer_sink(writer));
        r = copy_file(
            layer->path, (struct wfe_sink){.write = write_counted, .context = &sink}, err);
    }
    return r < 0 ? r : commit_blob(writer, blob, &layer->status.diff_id, err);
}

/* A layer of the target's directories. */
static int upload_target(const struct wfe_input_layer *layer, struct wfe_descriptor *ret,
    struct wfe_digest *ret_diff_id, struct wfe_error *err)
{
    WFE_CONTENT_WRITER struct wfe_content_writer *writer = NULL;
    bool known;
    int r = wfe_content_writer_open(layer->session, NULL, &writer, &known, err);
    if (r < 0)
        return r;
    struct wfe_layer_options options = {.prefix = layer->target};
    struct wfe_layer_result result;
    r = wfe_layer_write_directories(&options, wfe_content_writer_sink(writer), &result, err);
    if (r < 0)
        return r;
    describe(ret, &result.digest, result.size_bytes, result.media_type);
    *ret_diff_id = result.diff_id;
    return commit_blob(writer, ret, ret_diff_id, err);
}

static int fill(const struct wfe_input_layer *layer,
    const Snapshots__PrepareSnapshotResponse *prepared, const struct wfe_descriptor *blob,
    struct wfe_error *err)
{
    wfe_progress_stage(layer->progress, "applying input '%s'", layer->name);
    const struct wfe_session *session = layer->session;
    struct wfe_descriptor target;
    struct wfe_digest target_diff_id;
    int r = upload_target(layer, &target, &target_diff_id, err);
    if (r == 0)
        r = wfe_snapshot_fill(session, prepared, &target, &target_diff_id, err);
    if (r == 0)
        r = wfe_snapshot_fill_below(
            session, prepared, layer->target, blob, &layer->status.diff_id, err);
    /* Once more, for the time of the last directory: it has changed with what came into it. */
    return r < 0 ? r : wfe_snapshot_fill(session, prepared, &target, &target_diff_id, err);
}

/* *ret_can: false when the snapshotter has no directory. */
static int apply_as_it_is(const struct wfe_input_layer *layer, bool *ret_can,
    struct wfe_digest *ret_chain, struct wfe_error *err)
{
    *ret_can = true;
    if (name_chain(layer, ret_chain) < 0)
        return wfe_error_nomem(err);
    WFE_EXTRACTION struct wfe_extraction extraction = WFE_EXTRACTION_INIT;
    int r = wfe_extraction_begin(
        layer->session, &layer->parent, ret_chain, layer->label, &extraction, err);
    if (r < 0)
        return r;
    if (extraction.prepared) {
        *ret_can = wfe_snapshot_directory(extraction.prepared) != NULL;
        if (!*ret_can)
            return 0;
        struct wfe_descriptor blob;
        describe(&blob, layer->digest, layer->status.size_bytes, layer->status.media_type);
        r = upload_blob(layer, &blob, err);
        if (r == 0)
            r = fill(layer, extraction.prepared, &blob, err);
        if (r == 0)
            r = wfe_extraction_commit(&extraction, err);
        if (r == 0)
            r = anchor(layer, "content", layer->digest, err);
    }
    return r < 0 ? r : anchor_chain(layer, ret_chain, err);
}

int wfe_input_layer_apply(
    const struct wfe_input_layer *layer, struct wfe_digest *ret_chain, struct wfe_error *err)
{
    bool applied = false;
    bool is_own_layer = layer->digest && layer->status.diff_id.text[0];
    if (is_own_layer && !wfe_layer_limits_are_set(layer->limits)) {
        int r = apply_as_it_is(layer, &applied, ret_chain, err);
        if (r < 0)
            return r;
    }
    return applied ? 0 : apply_rewritten(layer, ret_chain, err);
}
