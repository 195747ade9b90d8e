/* SPDX-License-Identifier: MIT */
#include "executor/daemon/volume.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "executor/daemon/content.h"
#include "executor/daemon/snapshot.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/layer_tar.h"

#define MEDIA_TYPE "application/vnd.oci.image.layer.v1.tar"
#define TAR_MAX_BYTES (64 * 1024)
#define REMOVE_TIMEOUT_MS 30000

/* The session with the snapshotter of volumes. */
static struct wfe_session of_volumes(const struct wfe_session *session)
{
    struct wfe_session own = *session;
    if (session->has_native)
        own.snapshotter = WFE_NATIVE_SNAPSHOTTER;
    return own;
}

#define COPY_KEY_MAX (WFE_VOLUME_KEY_MAX + 8)

static void key_with(const struct wfe_volume *volume, const char *suffix, char *key)
{
    snprintf(key, COPY_KEY_MAX, "%s-%s", volume->key, suffix);
}

static int append(void *context, const void *data, size_t length, struct wfe_error *err)
{
    return wfe_buffer_append(context, data, length) < 0 ? wfe_error_nomem(err) : 0;
}

static int add_empty(struct wfe_tar_writer *writer, const char *name, struct wfe_error *err)
{
    struct wfe_tar_header header = {.path = name, .typeflag = '0', .mode = 0600};
    return wfe_tar_write_header(writer, &header, err);
}

/* A tar of empty files, and of the one that makes it ours. */
static int write_tar(const char *const *files, size_t count, const char *key,
    struct wfe_buffer *tar, struct wfe_error *err)
{
    WFE_TAR_WRITER struct wfe_tar_writer writer;
    wfe_tar_writer_init_part(
        &writer, (struct wfe_sink){.write = append, .context = tar}, TAR_MAX_BYTES);
    int r = add_empty(&writer, key, err);
    for (size_t i = 0; i < count && r == 0; i++)
        r = add_empty(&writer, files[i], err);
    return r < 0 ? r : wfe_tar_finish(&writer, err);
}

/* Where the files will be. */
static int take_directory(const struct wfe_session *session,
    const Snapshots__PrepareSnapshotResponse *prepared, char **ret, struct wfe_error *err)
{
    const Types__Mount *mount = prepared->n_mounts == 1 ? prepared->mounts[0] : NULL;
    if (!mount || strcmp(mount->type, "bind") != 0 || mount->source[0] != '/')
        return wfe_error_set(err, WFE_ERROR_INPUT, EOPNOTSUPP,
            "snapshotter '%s' answers with %s%s, which is no directory of the daemon's, and there "
            "is "
            "no snapshotter '%s'; a directory that both machines see does as well (WFE_IO_DIR)",
            session->snapshotter, mount ? "a mount of type " : "several mounts",
            mount ? mount->type : "", WFE_NATIVE_SNAPSHOTTER);
    char *directory = strdup(mount->source);
    if (!directory)
        return wfe_error_nomem(err);
    *ret = directory;
    return 0;
}

/* The tar goes while the snapshot is committed. */
static int fill_and_commit(const struct wfe_session *session, const char *active, const char *key,
    const Snapshots__PrepareSnapshotResponse *prepared, const struct wfe_buffer *tar,
    bool *ret_exists, struct wfe_error *err)
{
    struct wfe_descriptor blob = {.size_bytes = (int64_t)tar->length, .media_type = MEDIA_TYPE};
    int r = wfe_content_put(session, tar->data, tar->length, &blob.digest, err);
    if (r < 0)
        return r;
    r = wfe_snapshot_fill(session, prepared, &blob, &blob.digest, err);
    struct wfe_diff diff = {.digest = blob.digest};
    struct wfe_rpc_call *dropping = NULL;
    wfe_diff_drop_start(session, &diff, &dropping);
    if (r == 0)
        r = wfe_snapshot_commit(session, active, key, NULL, ret_exists, err);
    wfe_diff_drop_finish(session, &diff, dropping);
    return r;
}

static int make(const struct wfe_session *session, struct wfe_volume *volume,
    const struct wfe_buffer *tar, struct wfe_error *err)
{
    char active[COPY_KEY_MAX];
    key_with(volume, "new", active);
    WFE_MESSAGE Snapshots__PrepareSnapshotResponse *prepared = NULL;
    int r = wfe_snapshot_prepare(session, active, "", NULL, 0, &prepared, err);
    WFE_FREE char *directory = NULL;
    if (r == 0)
        r = take_directory(session, prepared, &directory, err);
    bool exists = false;
    if (r == 0)
        r = fill_and_commit(session, active, volume->key, prepared, tar, &exists, err);
    if (r < 0)
        return r;
    if (exists)
        return wfe_error_set(
            err, WFE_ERROR_CONTAINERD, EEXIST, "snapshot %s is there already", volume->key);
    volume->directory = wfe_steal(&directory);
    return 0;
}

int wfe_volume_make(const struct wfe_session *session, const char *key, const char *const *files,
    size_t file_count, struct wfe_volume *volume, struct wfe_error *err)
{
    assert(!volume->key[0] && strlen(key) < WFE_VOLUME_KEY_MAX);
    const struct wfe_session own = of_volumes(session);
    WFE_BUFFER struct wfe_buffer tar = WFE_BUFFER_INIT(TAR_MAX_BYTES);
    int r = write_tar(files, file_count, key, &tar, err);
    if (r < 0)
        return r;
    snprintf(volume->key, sizeof volume->key, "%s", key);
    r = make(&own, volume, &tar, err);
    if (r < 0)
        wfe_error_prefix(err, "volume for the step's output");
    return r;
}

struct wfe_label wfe_volume_label(
    const struct wfe_session *session, const char *key, char *label_key)
{
    const struct wfe_session own = of_volumes(session);
    snprintf(label_key, WFE_VOLUME_LABEL_MAX, "containerd.io/gc.ref.snapshot.%s/wfe-volume",
        own.snapshotter);
    return (struct wfe_label){label_key, key};
}

/* One that was left over by a request that was lost is in the way. */
static int prepare_copy(const struct wfe_session *session, const struct wfe_volume *volume,
    const char *copy, Snapshots__PrepareSnapshotResponse **ret, struct wfe_error *err)
{
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = wfe_snapshot_prepare(session, copy, volume->key, NULL, 0, ret, &failure);
    if (r == -EEXIST) {
        r = wfe_snapshot_remove(session, copy, REMOVE_TIMEOUT_MS, err);
        return r < 0 ? r : wfe_snapshot_prepare(session, copy, volume->key, NULL, 0, ret, err);
    }
    if (r < 0 && err)
        *err = failure;
    return r;
}

int wfe_volume_diff(const struct wfe_session *session, const struct wfe_volume *volume,
    bool is_still, struct wfe_diff *ret, struct wfe_error *err)
{
    assert(volume->directory);
    if (is_still) {
        Types__Mount mount = wfe_diff_bind(volume->directory);
        return wfe_diff_make(session, &(Types__Mount *){&mount}, 1, ret, err);
    }
    const struct wfe_session own = of_volumes(session);
    char copy[COPY_KEY_MAX];
    key_with(volume, "now", copy);
    WFE_MESSAGE Snapshots__PrepareSnapshotResponse *prepared = NULL;
    int r = prepare_copy(&own, volume, copy, &prepared, err);
    if (r == 0)
        r = wfe_diff_make(session, prepared->mounts, prepared->n_mounts, ret, err);
    wfe_snapshot_remove(&own, copy, REMOVE_TIMEOUT_MS, NULL);
    return r;
}

void wfe_volume_remove_start(const struct wfe_session *session, const struct wfe_volume *volume,
    int64_t timeout_ms, struct wfe_rpc_call **ret_call)
{
    if (!volume->directory)
        return;
    const struct wfe_session own = of_volumes(session);
    wfe_snapshot_remove_start(&own, volume->key, timeout_ms, ret_call, NULL);
}

int wfe_volume_remove_finish(const struct wfe_session *session, struct wfe_volume *volume,
    struct wfe_rpc_call *call, int64_t timeout_ms, struct wfe_error *err)
{
    if (!volume->key[0])
        return 0;
    const struct wfe_session own = of_volumes(session);
    char key[COPY_KEY_MAX];
    int r = call ? wfe_session_undo_finish(call, NULL) : -EBUSY;
    wfe_rpc_call_free(call);
    if (r < 0) {
        key_with(volume, "now", key);
        wfe_snapshot_remove(&own, key, timeout_ms, NULL);
        key_with(volume, "new", key);
        wfe_snapshot_remove(&own, key, timeout_ms, NULL);
        r = wfe_snapshot_remove(&own, volume->key, timeout_ms, err);
    }
    free(wfe_steal(&volume->directory));
    return r;
}

int wfe_volume_remove(const struct wfe_session *session, struct wfe_volume *volume,
    int64_t timeout_ms, struct wfe_error *err)
{
    struct wfe_rpc_call *call = NULL;
    wfe_volume_remove_start(session, volume, timeout_ms, &call);
    return wfe_volume_remove_finish(session, volume, call, timeout_ms, err);
}
