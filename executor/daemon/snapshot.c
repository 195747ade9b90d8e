/* SPDX-License-Identifier: MIT */
#include "executor/daemon/snapshot.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

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

const char *wfe_snapshot_directory(const Snapshots__PrepareSnapshotResponse *prepared)
{
    const Types__Mount *mount = prepared->n_mounts == 1 ? prepared->mounts[0] : NULL;
    const char *directory = NULL;
    if (mount && strcmp(mount->type, "bind") == 0)
        directory = mount->source;
    else if (mount && strcmp(mount->type, "overlay") == 0)
        directory = option(mount, "upperdir=");
    return directory && directory[0] == '/' ? directory : NULL;
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

/* Since Linux 5.10. */
static bool kernel_has_volatile(void)
{
    struct utsname name;
    int major, minor;
    return uname(&name) == 0 && sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
           (major > 5 || (major == 5 && minor >= 10));
}

int wfe_snapshot_set_volatile(const struct wfe_session *session,
    Snapshots__PrepareSnapshotResponse *prepared, struct wfe_error *err)
{
    Types__Mount *mount = prepared->mounts[0];
    if (prepared->n_mounts != 1 || strcmp(mount->type, "overlay") != 0 ||
        !wfe_snapshot_directory(prepared) || !session->local || !kernel_has_volatile())
        return 0;
    char **options = realloc(mount->options, (mount->n_options + 1) * sizeof *options);
    if (!options)
        return wfe_error_nomem(err);
    mount->options = options;
    if (!(options[mount->n_options] = strdup("volatile")))
        return wfe_error_nomem(err);
    mount->n_options++;
    return 0;
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

int wfe_snapshot_fill_below(const struct wfe_session *session,
    const Snapshots__PrepareSnapshotResponse *prepared, const char *path,
    const struct wfe_descriptor *layer, const struct wfe_digest *diff_id, struct wfe_error *err)
{
    const char *directory = wfe_snapshot_directory(prepared);
    assert(directory && path[0] == '/');
    WFE_FREE char *source = NULL;
    if (asprintf(&source, "%s%s", directory, path) < 0) {
        source = NULL;
        return wfe_error_nomem(err);
    }
    char *options[] = {(char *)"rbind", (char *)"rw"};
    Types__Mount bind = TYPES__MOUNT__INIT;
    bind.type = (char *)"bind";
    bind.source = source;
    bind.options = options;
    bind.n_options = sizeof options / sizeof *options;
    Snapshots__PrepareSnapshotResponse below = *prepared;
    below.mounts = &(Types__Mount *){&bind};
    below.n_mounts = 1;
    return wfe_snapshot_fill(session, &below, layer, diff_id, err);
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

static int chain_is_gone(const struct wfe_digest *chain_id, struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_CONTAINERD, EAGAIN,
        "snapshot %s was there and is gone: try again", chain_id->text);
}

int wfe_extraction_begin(const struct wfe_session *session, const struct wfe_digest *parent,
    const struct wfe_digest *chain_id, const struct wfe_label *label, struct wfe_extraction *ret,
    struct wfe_error *err)
{
    struct wfe_extraction extraction = {.session = session, .chain_id = chain_id, .label = label};
    bool held;
    int r = hold_existing(session, chain_id->text, label, &held, err);
    if (r < 0 || held) {
        *ret = extraction;
        return r;
    }
    char unique[WFE_UNIQUE_NAME_MAX];
    r = wfe_unique_name(unique, err);
    if (r < 0)
        return r;
    snprintf(extraction.key, sizeof extraction.key, "extract-%s %s", unique, chain_id->text);
    const struct wfe_label reference = {"containerd.io/snapshot.ref", chain_id->text};
    struct wfe_error failure = WFE_ERROR_INIT;
    r = wfe_snapshot_prepare(session, extraction.key, parent ? parent->text : "", &reference, 1,
        &extraction.prepared, &failure);
    /* A remote snapshotter may have the chain by itself and says so here. */
    if (r == -EEXIST) {
        extraction.key[0] = '\0';
        r = hold_existing(session, chain_id->text, label, &held, err);
        if (r == 0 && !held)
            r = chain_is_gone(chain_id, err);
    } else if (r < 0 && err) {
        *err = failure;
    }
    *ret = extraction;
    if (r < 0)
        wfe_extraction_end(ret);
    return r;
}

int wfe_extraction_commit(struct wfe_extraction *extraction, struct wfe_error *err)
{
    const struct wfe_session *session = extraction->session;
    const char *name = extraction->chain_id->text;
    bool exists;
    int r = wfe_snapshot_commit(session, extraction->key, name, extraction->label, &exists, err);
    if (r < 0)
        return r;
    if (!exists) {
        extraction->key[0] = '\0';
        return 0;
    }
    bool held;
    r = hold_existing(session, name, extraction->label, &held, err);
    if (r == 0 && !held)
        r = chain_is_gone(extraction->chain_id, err);
    return r;
}

void wfe_extraction_end(struct wfe_extraction *extraction)
{
    /* What can't be removed now goes with its lease. */
    if (extraction->key[0])
        wfe_snapshot_remove(extraction->session, extraction->key, REMOVE_TIMEOUT_MS, NULL);
    extraction->key[0] = '\0';
    if (extraction->prepared)
        protobuf_c_message_free_unpacked(&extraction->prepared->base, NULL);
    extraction->prepared = NULL;
}

int wfe_snapshot_apply(const struct wfe_session *session, const struct wfe_digest *parent,
    const struct wfe_descriptor *layer, const struct wfe_digest *diff_id,
    const struct wfe_digest *chain_id, const struct wfe_label *label, struct wfe_error *err)
{
    WFE_EXTRACTION struct wfe_extraction extraction = WFE_EXTRACTION_INIT;
    int r = wfe_extraction_begin(session, parent, chain_id, label, &extraction, err);
    if (r < 0 || !extraction.prepared)
        return r;
    r = wfe_snapshot_fill(session, extraction.prepared, layer, diff_id, err);
    return r < 0 ? r : wfe_extraction_commit(&extraction, err);
}
