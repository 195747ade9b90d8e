/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_VOLUME_H
#define WFE_EXECUTOR_VOLUME_H

/*
 * A directory of our own on the daemon's machine, where nothing else is shared with it: a snapshot
 * without a parent, which its snapshotter shows as a bind mount of a directory. What a container or
 * a shim writes there can be read with executor/daemon/diff.h.
 *
 * The snapshotter is "native" where the daemon has it, whatever the step's own is: it makes plain
 * directories, and a snapshot prepared on top of another is a copy of it. So files that are being
 * written to can be read, which Diff alone can't do. With another snapshotter such a copy is none,
 * and wfe_diff_make() has to try its luck.
 *
 *     KEY        the volume: committed, so that others can be prepared on it, and written to
 *                all the same, through its path
 *     KEY-now    the copy of this moment
 *
 * Both are under the session's lease; a container's label (wfe_volume_label()) keeps the volume
 * when the lease has run out.
 */

#include "executor/daemon/connect.h"
#include "executor/daemon/diff.h"
#include "executor/daemon/labels.h"

#define WFE_VOLUME_KEY_MAX 64

struct wfe_volume {
    char key[WFE_VOLUME_KEY_MAX];
    const char *snapshotter; /* the session's, or static */
    char *directory;         /* its path on the daemon's machine; absolute */
};

/* The snapshotter that volumes are made with. A view. */
const char *wfe_volume_snapshotter(const struct wfe_session *session);

/*
 * Make a volume with the contents of a tar (small: it is sent as one message). Errors:
 * WFE_ERROR_INPUT (EOPNOTSUPP: the snapshotter answers with something else than one bind mount),
 * WFE_ERROR_CONTAINERD, WFE_ERROR_CANCELLED. ret must be removed also when it fails, unless it
 * fails before (its key is "" then).
 */
int wfe_volume_make(const struct wfe_session *session, const char *key, const void *tar,
    size_t tar_length, struct wfe_volume *ret, struct wfe_error *err);

/* A tar of the volume's contents at this moment, while others write to it. Errors: as
 * wfe_diff_make(). */
int wfe_volume_diff(const struct wfe_session *session, const struct wfe_volume *volume,
    struct wfe_diff *ret, struct wfe_error *err);

/* Remove it and its copy; what is gone already is success. Never cancelled by the session's token.
 * Frees what the struct holds. Errors: WFE_ERROR_CONTAINERD, WFE_ERROR_TIMEOUT. */
int wfe_volume_remove(const struct wfe_session *session, struct wfe_volume *volume,
    int64_t timeout_ms, struct wfe_error *err);

#endif
