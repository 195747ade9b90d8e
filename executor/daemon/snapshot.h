/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_SNAPSHOT_H
#define WFE_EXECUTOR_SNAPSHOT_H

/* Snapshots: a step's writable root, and layers applied into committed chains. */

#include <stdbool.h>
#include <stddef.h>

#include "executor/daemon/connect.h"
#include "executor/image/image.h"
#include "executor/daemon/labels.h"
#include "snapshots.pb-c.h"

/* *ret: whether a snapshot of that name exists. Errors: WFE_ERROR_CONTAINERD. */
int wfe_snapshot_exists(
    const struct wfe_session *session, const char *name, bool *ret, struct wfe_error *err);

/*
 * Prepare the active snapshot `key` on top of `parent` ("" for none). The reply holds its mounts;
 * free it with protobuf_c_message_free_unpacked. Errors: WFE_ERROR_CONTAINERD (ENOENT: no such
 * parent; EEXIST: the key is taken).
 */
int wfe_snapshot_prepare(const struct wfe_session *session, const char *key, const char *parent,
    const struct wfe_label *labels, size_t label_count, Snapshots__PrepareSnapshotResponse **ret,
    struct wfe_error *err);

/* The same for a read-only view of `parent`, under the session's lease. */
int wfe_snapshot_view(const struct wfe_session *session, const char *key, const char *parent,
    Snapshots__ViewSnapshotResponse **ret, struct wfe_error *err);

/* The directories of the daemon's machine that a prepared snapshot shows, the uppermost first and
 * without its own writable one, as "A:B:C" (part of `prepared`); NULL when its mounts are not
 * understood. */
const char *wfe_snapshot_layers(const Snapshots__PrepareSnapshotResponse *prepared);

/* The directory of the daemon's machine that takes what is written to a prepared snapshot, part of
 * `prepared`; NULL when its mounts are not understood. */
const char *wfe_snapshot_directory(const Snapshots__PrepareSnapshotResponse *prepared);

/*
 * Let what is written to a prepared snapshot be lost with the machine: nothing of it is brought to
 * the disk, neither for an fsync() in the container nor at its end, for which the kernel otherwise
 * waits ("volatile", Documentation/filesystems/overlayfs.rst). Once mounted, it can't be mounted
 * again. Nothing changes where the daemon's kernel is another one or too old. Errors:
 * WFE_ERROR_INTERNAL.
 */
int wfe_snapshot_set_volatile(const struct wfe_session *session,
    Snapshots__PrepareSnapshotResponse *prepared, struct wfe_error *err);

/* Diff.Apply of the blob `layer` onto a prepared snapshot. Errors: WFE_ERROR_INTEGRITY (the tar's
 * digest is not diff_id), WFE_ERROR_CONTAINERD. */
int wfe_snapshot_fill(const struct wfe_session *session,
    const Snapshots__PrepareSnapshotResponse *prepared, const struct wfe_descriptor *layer,
    const struct wfe_digest *diff_id, struct wfe_error *err);

/* The same below `path`, which is absolute and whose directories (no symbolic links) a layer that
 * was applied before has made; wfe_snapshot_directory() must know where. */
int wfe_snapshot_fill_below(const struct wfe_session *session,
    const Snapshots__PrepareSnapshotResponse *prepared, const char *path,
    const struct wfe_descriptor *layer, const struct wfe_digest *diff_id, struct wfe_error *err);

/* Commit the active snapshot `key` as `name`, with a label (NULL: none). *ret_exists: there was one
 * of that name already, and `key` is still active. Errors: WFE_ERROR_CONTAINERD. */
int wfe_snapshot_commit(const struct wfe_session *session, const char *key, const char *name,
    const struct wfe_label *label, bool *ret_exists, struct wfe_error *err);

/* Remove; one that is gone already is success. Never cancelled by the session's token. */
int wfe_snapshot_remove(
    const struct wfe_session *session, const char *key, int64_t timeout_ms, struct wfe_error *err);
/* Only ask for it: wfe_session_undo_finish() has the answer. */
int wfe_snapshot_remove_start(const struct wfe_session *session, const char *key,
    int64_t timeout_ms, struct wfe_rpc_call **ret_call, struct wfe_error *err);

/* A snapshot that is being filled, to become the chain chain_id. */
struct wfe_extraction {
    const struct wfe_session *session;
    const struct wfe_digest *chain_id;
    const struct wfe_label *label;
    char key[160]; /* "" when there is none to be removed */
    Snapshots__PrepareSnapshotResponse *prepared;
};
#define WFE_EXTRACTION_INIT                                                                        \
    {                                                                                              \
        .prepared = NULL                                                                           \
    }

/*
 * Prepare a snapshot on top of parent (NULL: none) that is to become chain_id with a label (NULL:
 * none); both are borrowed. When that chain is there already, it has the label, is under the
 * session's lease, and ret->prepared is NULL. Errors: WFE_ERROR_CONTAINERD.
 */
int wfe_extraction_begin(const struct wfe_session *session, const struct wfe_digest *parent,
    const struct wfe_digest *chain_id, const struct wfe_label *label, struct wfe_extraction *ret,
    struct wfe_error *err);
/* Somebody else's chain of that name does as well. Errors: WFE_ERROR_CONTAINERD. */
int wfe_extraction_commit(struct wfe_extraction *extraction, struct wfe_error *err);
/* Removes a snapshot that was not committed. */
void wfe_extraction_end(struct wfe_extraction *extraction);
#define WFE_EXTRACTION __attribute__((cleanup(wfe_extraction_end)))

/*
 * Make chain_id out of parent (NULL: none) and the blob `layer`: Prepare, Diff.Apply, check
 * that the tar's digest is diff_id, Commit. A chain that is there already is success,
 * applies nothing, and is put under the session's lease. It has the label then (NULL: none). On
 * failure no snapshot is left. Errors: WFE_ERROR_INTEGRITY (other diffID), WFE_ERROR_CONTAINERD.
 */
int wfe_snapshot_apply(const struct wfe_session *session, const struct wfe_digest *parent,
    const struct wfe_descriptor *layer, const struct wfe_digest *diff_id,
    const struct wfe_digest *chain_id, const struct wfe_label *label, struct wfe_error *err);

#endif
