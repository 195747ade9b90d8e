/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_SNAPSHOT_H
#define WFE_EXECUTOR_SNAPSHOT_H

/* Snapshots: a step's writable root, and layers applied into committed chains. */

#include <stdbool.h>

#include "executor/connect.h"
#include "executor/content.h"
#include "executor/image.h"

/* The mounts of an active snapshot, as the daemon gave them; free with wfe_mounts_free. */
struct wfe_mounts;
void wfe_mounts_free(struct wfe_mounts *mounts);

/* *ret: whether a committed or active snapshot of that name exists. */
int wfe_snapshot_exists(const struct wfe_session *session, const char *name, bool *ret,
    struct wfe_error *err);

/*
 * Make chain_id out of parent (NULL: none) and the blob `layer`: Prepare, Diff.Apply, check
 * that the tar's digest is diff_id, Commit. A chain that is there already is success and
 * applies nothing. On failure no snapshot is left. labels go onto the committed snapshot.
 * Errors: WFE_ERROR_INTEGRITY (other diffID), WFE_ERROR_CONTAINERD.
 */
int wfe_snapshot_apply(const struct wfe_session *session, const struct wfe_digest *parent,
    const struct wfe_descriptor *layer, const struct wfe_digest *diff_id,
    const struct wfe_digest *chain_id, const struct wfe_label *labels, size_t label_count,
    struct wfe_error *err);

#endif
