/* SPDX-License-Identifier: MIT */
#include "executor/input/input_blob.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/daemon/content.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define READ_BYTES (256 * 1024)

/* A change of what the layer writer makes of an artifact must change the keys. */
#define KEY_VERSION "wfe-layer-1"
#define KEY_MAX 64

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

static struct counted_sink counted(const struct wfe_input_layer *input, struct wfe_sink to)
{
    return (struct counted_sink){
        .to = to, .cancel = input->session->cancel, .progress = input->progress};
}

static int write_layer(const struct wfe_input_layer *input, const char *prefix, struct wfe_sink to,
    struct wfe_layer_result *ret, struct wfe_error *err)
{
    struct counted_sink sink = counted(input, to);
    struct wfe_layer_options options = {
        .prefix = prefix,
        /* No slower than none, locally too: there is less to send, to check and to store. */
        .compression = to.write ? WFE_LAYER_ZSTD : WFE_LAYER_NONE,
        .limits = *input->limits,
    };
    return wfe_layer_write(input->path, &options,
        (struct wfe_sink){.write = write_counted, .context = &sink}, ret, err);
}

static void describe(struct wfe_input_blob *blob, const struct wfe_layer_result *result)
{
    blob->layer.digest = result->digest;
    blob->layer.size_bytes = (int64_t)result->size_bytes;
    snprintf(blob->layer.media_type, sizeof blob->layer.media_type, "%s", result->media_type);
    blob->diff_id = result->diff_id;
    blob->root = result->root;
}

/* key NULL: it is not to be found. */
static int commit(struct wfe_content_writer *writer, const struct wfe_input_blob *blob,
    const char *key, struct wfe_error *err)
{
    char value[512];
    snprintf(value, sizeof value, "%s %s %" PRIo32 " %" PRIu32 " %" PRIu32 " %" PRId64 " %d",
        blob->diff_id.text, blob->layer.media_type, blob->root.mode, blob->root.uid, blob->root.gid,
        blob->root.mtime_s, blob->root.has_xattrs);
    const struct wfe_label labels[] = {
        {"containerd.io/uncompressed", blob->diff_id.text}, {key, value}};
    return wfe_content_writer_commit(
        writer, &blob->layer.digest, blob->layer.size_bytes, labels, key ? 2 : 1, err);
}

/* The value of a label as commit() makes it. */
static bool read_label(const struct wfe_content_found *found, struct wfe_input_blob *ret)
{
    char diff_id[80];
    int has_xattrs;
    struct wfe_input_blob blob = {
        .layer = {.digest = found->digest, .size_bytes = found->size_bytes}};
    int count =
        sscanf(found->value, "%79s %127s %" SCNo32 " %" SCNu32 " %" SCNu32 " %" SCNd64 " %d",
            diff_id, blob.layer.media_type, &blob.root.mode, &blob.root.uid, &blob.root.gid,
            &blob.root.mtime_s, &has_xattrs);
    if (count != 7 || wfe_digest_parse(diff_id, &blob.diff_id) < 0)
        return false;
    blob.root.has_xattrs = has_xattrs != 0;
    *ret = blob;
    return true;
}

static void label_key(const struct wfe_digest *artifact, char key[KEY_MAX])
{
    char text[128];
    int length = snprintf(text, sizeof text, KEY_VERSION "\n%s", artifact->text);
    struct wfe_digest digest;
    wfe_digest_of(text, (size_t)length, &digest);
    snprintf(key, KEY_MAX, "wfe.layer.%.32s", wfe_digest_hex(&digest));
}

static int send_written(const struct wfe_input_layer *input, const char *prefix, const char *key,
    struct wfe_input_blob *ret, struct wfe_error *err)
{
    wfe_progress_stage(input->progress, "uploading input '%s'", input->name);
    WFE_CONTENT_WRITER struct wfe_content_writer *writer = NULL;
    bool known;
    int r = wfe_content_writer_open(input->session, NULL, &writer, &known, err);
    if (r < 0)
        return r;
    struct wfe_layer_result result;
    r = write_layer(input, prefix, wfe_content_writer_sink(writer), &result, err);
    if (r < 0)
        return r;
    describe(ret, &result);
    return commit(writer, ret, key, err);
}

static int bring_written(const struct wfe_input_layer *input, const struct wfe_digest *artifact,
    struct wfe_input_blob *ret, struct wfe_error *err)
{
    char key[KEY_MAX];
    label_key(artifact, key);
    struct wfe_content_found found;
    int r = wfe_content_find(input->session, key, &found, err);
    if (r < 0)
        return r;
    if (found.value[0] && read_label(&found, ret)) {
        WFE_CONTENT_WRITER struct wfe_content_writer *writer = NULL;
        bool known;
        r = wfe_content_writer_open(input->session, &found.digest, &writer, &known, err);
        if (r < 0 || known)
            return r;
    }
    return send_written(input, NULL, key, ret, err);
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

/* That it is what its digest says, the daemon checks too. */
static int bring_stored(
    const struct wfe_input_layer *input, struct wfe_input_blob *ret, struct wfe_error *err)
{
    struct wfe_layer_result result = {
        .digest = *input->digest,
        .diff_id = input->status.diff_id,
        .size_bytes = input->status.size_bytes,
        .media_type = input->status.media_type,
        .root = WFE_LAYER_NO_ROOT,
    };
    describe(ret, &result);
    wfe_progress_stage(input->progress, "uploading input '%s'", input->name);
    WFE_CONTENT_WRITER struct wfe_content_writer *writer = NULL;
    bool known;
    int r = wfe_content_writer_open(input->session, input->digest, &writer, &known, err);
    if (r < 0)
        return r;
    if (!known) {
        struct counted_sink sink = counted(input, wfe_content_writer_sink(writer));
        r = copy_file(
            input->path, (struct wfe_sink){.write = write_counted, .context = &sink}, err);
    }
    return r < 0 ? r : commit(writer, ret, NULL, err);
}

int wfe_input_digest(
    const struct wfe_input_layer *input, struct wfe_digest *ret, struct wfe_error *err)
{
    if (input->digest) {
        *ret = *input->digest;
        return 0;
    }
    wfe_progress_stage(input->progress, "reading input '%s'", input->name);
    struct wfe_layer_result result;
    /* Below a directory, whose entry has the root's attributes. */
    int r = write_layer(input, "root", (struct wfe_sink){.write = NULL}, &result, err);
    if (r < 0)
        return r;
    /* It is no digest of the bytes that an artifact of the store could have. */
    char text[128];
    int length = snprintf(text, sizeof text, "wfe-source\n%s", result.diff_id.text);
    wfe_digest_of(text, (size_t)length, ret);
    return 0;
}

int wfe_input_blob_bring(const struct wfe_input_layer *input, const struct wfe_digest *artifact,
    struct wfe_input_blob *ret, struct wfe_error *err)
{
    bool is_own_layer = input->digest && input->status.diff_id.text[0];
    return is_own_layer ? bring_stored(input, ret, err) : bring_written(input, artifact, ret, err);
}

int wfe_input_blob_bring_prefixed(
    const struct wfe_input_layer *input, struct wfe_input_blob *ret, struct wfe_error *err)
{
    return send_written(input, input->target, NULL, ret, err);
}

int wfe_input_blob_bring_target(const struct wfe_input_layer *input,
    const struct wfe_layer_root *root, struct wfe_input_blob *ret, struct wfe_error *err)
{
    WFE_CONTENT_WRITER struct wfe_content_writer *writer = NULL;
    bool known;
    int r = wfe_content_writer_open(input->session, NULL, &writer, &known, err);
    if (r < 0)
        return r;
    struct wfe_layer_options options = {.prefix = input->target};
    struct wfe_layer_result result;
    r = wfe_layer_write_root(root, &options, wfe_content_writer_sink(writer), &result, err);
    if (r < 0)
        return r;
    describe(ret, &result);
    return commit(writer, ret, NULL, err);
}
