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
 * written to can be read, at which Diff alone fails. With another snapshotter such a copy is none,
 * and wfe_diff_make() has to try its luck.
 *
 *     KEY        the volume: committed, so that others can be prepared on it, and written to
 *                all the same, through its path
 *     KEY-now    the copy of this moment
 *
 * In the directory lies an empty file KEY beside the others, so that a tar of it is nobody else's.
 *
 * Both snapshots are under the session's lease; a label of the container (wfe_volume_label()) keeps
 * the volume when the lease has run out.
 *
 * Threads: calls for one volume come one at a time.
 */

#include "executor/daemon/connect.h"
#include "executor/daemon/diff.h"
#include "executor/daemon/labels.h"

#define WFE_VOLUME_KEY_MAX 64
#define WFE_VOLUME_LABEL_MAX 160

struct wfe_volume {
    char key[WFE_VOLUME_KEY_MAX]; /* "" until something is there to be removed */
    char *directory;              /* its path on the daemon's machine; NULL: not made */
};

/*
 * Make a volume with empty files (mode 0600, root's). What it needs must be removed by
 * wfe_volume_remove() also when it fails. Errors: WFE_ERROR_INPUT (EOPNOTSUPP: the snapshotter
 * answers with something else than one bind mount), WFE_ERROR_CONTAINERD, WFE_ERROR_INTERNAL.
 */
int wfe_volume_make(const struct wfe_session *session, const char *key, const char *const *files,
    size_t file_count, struct wfe_volume *volume, struct wfe_error *err);

/* The label for a container that keeps the volume `key`; its strings are label_key, of
 * WFE_VOLUME_LABEL_MAX bytes, and key. */
struct wfe_label wfe_volume_label(
    const struct wfe_session *session, const char *key, char *label_key);

/* A tar of the volume's contents at this moment, for wfe_diff_read() and wfe_diff_drop() (ours).
 * With is_still nobody writes to it any more, and it is not copied first. Errors: as
 * wfe_diff_make(). */
int wfe_volume_diff(const struct wfe_session *session, const struct wfe_volume *volume,
    bool is_still, struct wfe_diff *ret, struct wfe_error *err);

/* Remove the snapshots, of which there may be none, and free what the struct holds. Never cancelled
 * by the session's token. Errors: WFE_ERROR_CONTAINERD, WFE_ERROR_TIMEOUT. */
int wfe_volume_remove(const struct wfe_session *session, struct wfe_volume *volume,
    int64_t timeout_ms, struct wfe_error *err);
/* The same in two halves. The first leaves *ret_call alone when nothing went out; the second takes
 * the call, or NULL, and does the rest. */
void wfe_volume_remove_start(const struct wfe_session *session, const struct wfe_volume *volume,
    int64_t timeout_ms, struct wfe_rpc_call **ret_call);
int wfe_volume_remove_finish(const struct wfe_session *session, struct wfe_volume *volume,
    struct wfe_rpc_call *call, int64_t timeout_ms, struct wfe_error *err);

#endif
