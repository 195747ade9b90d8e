/* SPDX-License-Identifier: MIT */
#include "executor/daemon/snapshot.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "diff.pb-c.h"
#include "executor/daemon/lease.h"
#include "libcommon/cleanup.h"

#define REMOVE_TIMEOUT_MS 30000

static const ProtobufCServiceDescriptor *const SNAPSHOTS = &snapshots__snapshots__descriptor;

int wfe_snapshot_exists(
    const struct wfe_session *session, const char *name, bool *ret, struct wfe_error *err)
{
    Snapshots__StatSnapshotRequest request = SNAPSHOTS__STAT_SNAPSHOT_REQUEST__INIT;
    request.snapshotter = (char *)session->snapshotter;
    request.key = (char *)name;
    struct wfe_rpc_context context = wfe_session_context(session);
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = wfe_rpc_unary(session->rpc, &context, (struct wfe_rpc_method){SNAPSHOTS, "Stat"},
        &request.base, NULL, &failure);
    if (r < 0 && r != -ENOENT) {
        if (err)
            *err = failure;
        return r;
    }
    *ret = r == 0;
    return 0;
}

int wfe_snapshot_prepare(const struct wfe_session *session, const char *key, const char *parent,
    const struct wfe_label *labels, size_t label_count, Snapshots__PrepareSnapshotResponse **ret,
    struct wfe_error *err)
{
    struct wfe_label_map map;
    wfe_label_map_init(
        &map, &snapshots__prepare_snapshot_request__labels_entry__descriptor, labels, label_count);
    Snapshots__PrepareSnapshotRequest request = SNAPSHOTS__PREPARE_SNAPSHOT_REQUEST__INIT;
    request.snapshotter = (char *)session->snapshotter;
    request.key = (char *)key;
    request.parent = (char *)parent;
    WFE_LABEL_MAP_ATTACH(&request, &map);
    struct wfe_rpc_context context = wfe_session_context(session);
    context.cancel = NULL;
    WFE_MESSAGE Snapshots__PrepareSnapshotResponse *prepared = NULL;
    int r = wfe_rpc_unary(session->rpc, &context, (struct wfe_rpc_method){SNAPSHOTS, "Prepare"},
        &request.base, (ProtobufCMessage **)&prepared, err);
    if (r < 0)
        return r;
    if (prepared->n_mounts == 0)
        return wfe_error_set(
            err, WFE_ERROR_CONTAINERD, EPROTO, "Snapshots/Prepare: the reply has no mounts");
    *ret = wfe_steal(&prepared);
    return 0;
}

int wfe_snapshot_view(const struct wfe_session *session, const char *key, const char *parent,
    Snapshots__ViewSnapshotResponse **ret, struct wfe_error *err)
{
    Snapshots__ViewSnapshotRequest request = SNAPSHOTS__VIEW_SNAPSHOT_REQUEST__INIT;
    request.snapshotter = (char *)session->snapshotter;
    request.key = (char *)key;
    request.parent = (char *)parent;
    struct wfe_rpc_context context = wfe_session_context(session);
    context.cancel = NULL;
    return wfe_rpc_unary(session->rpc, &context, (struct wfe_rpc_method){SNAPSHOTS, "View"},
        &request.base, (ProtobufCMessage **)ret, err);
}

static const char *option(const Types__Mount *mount, const char *key)
{
    size_t length = strlen(key);
    for (size_t i = 0; i < mount->n_options; i++)
        if (strncmp(mount->options[i], key, length) == 0)
            return mount->options[i] + length;
    return NULL;
}

const char *wfe_snapshot_layers(const Snapshots__PrepareSnapshotResponse *prepared)
{
    if (prepared->n_mounts != 1)
        return NULL;
    const Types__Mount *mount = prepared->mounts[0];
    if (strcmp(mount->type, "bind") == 0)
        return mount->source;
    return strcmp(mount->type, "overlay") == 0 ? option(mount, "lowerdir=") : NULL;
}

static Snapshots__RemoveSnapshotRequest removal(const struct wfe_session *session, const char *key)
{
    Snapshots__RemoveSnapshotRequest request = SNAPSHOTS__REMOVE_SNAPSHOT_REQUEST__INIT;
    request.snapshotter = (char *)session->snapshotter;
    request.key = (char *)key;
    return request;
}

int wfe_snapshot_remove_start(const struct wfe_session *session, const char *key,
    int64_t timeout_ms, struct wfe_rpc_call **ret_call, struct wfe_error *err)
{
    Snapshots__RemoveSnapshotRequest request = removal(session, key);
    return wfe_session_undo_start(session, (struct wfe_rpc_method){SNAPSHOTS, "Remove"},
        &request.base, timeout_ms, ret_call, err);
}

int wfe_snapshot_remove(
    const struct wfe_session *session, const char *key, int64_t timeout_ms, struct wfe_error *err)
{
    Snapshots__RemoveSnapshotRequest request = removal(session, key);
    return wfe_session_undo(
        session, (struct wfe_rpc_method){SNAPSHOTS, "Remove"}, &request.base, timeout_ms, err);
}

int wfe_snapshot_fill(const struct wfe_session *session,
    const Snapshots__PrepareSnapshotResponse *prepared, const struct wfe_descriptor *layer,
    const struct wfe_digest *diff_id, struct wfe_error *err)
{
    Types__Descriptor descriptor = TYPES__DESCRIPTOR__INIT;
    descriptor.media_type = (char *)layer->media_type;
    descriptor.digest = (char *)layer->digest.text;
    descriptor.size = layer->size_bytes;
    Diff__ApplyRequest request = DIFF__APPLY_REQUEST__INIT;
    request.diff = &descriptor;
    request.mounts = prepared->mounts;
    request.n_mounts = prepared->n_mounts;
    struct wfe_rpc_context context = wfe_session_context(session);
    WFE_MESSAGE ProtobufCMessage *reply = NULL;
    int r = wfe_rpc_unary(session->rpc, &context,
        (struct wfe_rpc_method){&diff__diff__descriptor, "Apply"}, &request.base, &reply, err);
    if (r < 0) {
        wfe_error_prefix(err, "apply layer %s", layer->digest.text);
        return r;
    }
    const Types__Descriptor *applied = ((Diff__ApplyResponse *)reply)->applied;
    if (!applied || strcmp(applied->digest, diff_id->text) != 0)
        return wfe_error_set(err, WFE_ERROR_INTEGRITY, EBADMSG,
            "layer %s unpacks to %s, expected %s", layer->digest.text,
            applied ? applied->digest : "nothing", diff_id->text);
    return 0;
}

int wfe_snapshot_commit(const struct wfe_session *session, const char *key, const char *name,
    const struct wfe_label *label, bool *ret_exists, struct wfe_error *err)
{
    struct wfe_label_map map;
    wfe_label_map_init(
        &map, &snapshots__commit_snapshot_request__labels_entry__descriptor, label, label ? 1 : 0);
    Snapshots__CommitSnapshotRequest request = SNAPSHOTS__COMMIT_SNAPSHOT_REQUEST__INIT;
    request.snapshotter = (char *)session->snapshotter;
    request.name = (char *)name;
    request.key = (char *)key;
    WFE_LABEL_MAP_ATTACH(&request, &map);
    struct wfe_rpc_context context = wfe_session_context(session);
    context.cancel = NULL;
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = wfe_rpc_unary(session->rpc, &context, (struct wfe_rpc_method){SNAPSHOTS, "Commit"},
        &request.base, NULL, &failure);
    if (r < 0 && r != -EEXIST) {
        if (err)
            *err = failure;
        return r;
    }
    *ret_exists = r == -EEXIST;
    return 0;
}

/* Add a label; the others stay as they are. */
static int add_label(const struct wfe_session *session, const char *name,
    const struct wfe_label *label, struct wfe_error *err)
{
    struct wfe_label_map map;
    wfe_label_map_init(&map, &snapshots__info__labels_entry__descriptor, label, 1);
    Snapshots__Info info = SNAPSHOTS__INFO__INIT;
    info.name = (char *)name;
    WFE_LABEL_MAP_ATTACH(&info, &map);
    WFE_FREE char *path = NULL;
    if (asprintf(&path, "labels.%s", label->key) < 0) {
        path = NULL;
        return wfe_error_nomem(err);
    }
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    mask.paths = &path;
    mask.n_paths = 1;
    Snapshots__UpdateSnapshotRequest request = SNAPSHOTS__UPDATE_SNAPSHOT_REQUEST__INIT;
    request.snapshotter = (char *)session->snapshotter;
    request.info = &info;
    request.update_mask = &mask;
    struct wfe_rpc_context context = wfe_session_context(session);
    context.cancel = NULL;
    return wfe_rpc_unary(session->rpc, &context, (struct wfe_rpc_method){SNAPSHOTS, "Update"},
        &request.base, NULL, err);
}

/* Leased before it is looked for again, so that the collector can't take it in between. */
static int hold_existing(const struct wfe_session *session, const char *name,
    const struct wfe_label *label, bool *ret_held, struct wfe_error *err)
{
    bool exists;
    int r = wfe_snapshot_exists(session, name, &exists, err);
    if (r < 0)
        return r;
    if (exists && session->lease) {
        char type[128];
        snprintf(type, sizeof type, "snapshots/%s", session->snapshotter);
        r = wfe_lease_add(session, type, name, err);
        if (r < 0)
            return r;
        r = wfe_snapshot_exists(session, name, &exists, err);
        if (r < 0)
            return r;
    }
    if (exists && label) {
        r = add_label(session, name, label, err);
        if (r < 0)
            return r;
    }
    *ret_held = exists;
    return 0;
}

static int apply_and_commit(const struct wfe_session *session, const char *key,
    const struct wfe_descriptor *layer, const Snapshots__PrepareSnapshotResponse *prepared,
    const struct wfe_digest *diff_id, const struct wfe_digest *chain_id,
    const struct wfe_label *label, bool *ret_exists, struct wfe_error *err)
{
    int r = wfe_snapshot_fill(session, prepared, layer, diff_id, err);
    if (r < 0)
        return r;
    return wfe_snapshot_commit(session, key, chain_id->text, label, ret_exists, err);
}

int wfe_snapshot_apply(const struct wfe_session *session, const struct wfe_digest *parent,
    const struct wfe_descriptor *layer, const struct wfe_digest *diff_id,
    const struct wfe_digest *chain_id, const struct wfe_label *label, struct wfe_error *err)
{
    bool held;
    int r = hold_existing(session, chain_id->text, label, &held, err);
    if (r < 0 || held)
        return r;

    char unique[WFE_UNIQUE_NAME_MAX], key[160];
    r = wfe_unique_name(unique, err);
    if (r < 0)
        return r;
    snprintf(key, sizeof key, "extract-%s %s", unique, chain_id->text);
    const struct wfe_label prepare_labels[] = {
        {"containerd.io/snapshot.ref", chain_id->text},
    };
    WFE_MESSAGE Snapshots__PrepareSnapshotResponse *prepared = NULL;
    struct wfe_error failure = WFE_ERROR_INIT;
    r = wfe_snapshot_prepare(
        session, key, parent ? parent->text : "", prepare_labels, 1, &prepared, &failure);
    /* A remote snapshotter may have the chain by itself and says so here. */
    if (r == -EEXIST)
        return hold_existing(session, chain_id->text, label, &held, err);
    bool exists = false;
    if (r == 0)
        r = apply_and_commit(
            session, key, layer, prepared, diff_id, chain_id, label, &exists, &failure);
    if (r < 0 || exists) {
        /* What can't be removed now goes with its lease. */
        wfe_snapshot_remove(session, key, REMOVE_TIMEOUT_MS, NULL);
    }
    if (r < 0) {
        if (err)
            *err = failure;
        return r;
    }
    if (exists) {
        r = hold_existing(session, chain_id->text, label, &held, err);
        if (r == 0 && !held)
            r = wfe_error_set(err, WFE_ERROR_CONTAINERD, EAGAIN,
                "snapshot %s was there and is gone: try again", chain_id->text);
    }
    return r;
}
