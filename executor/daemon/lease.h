/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_LEASE_H
#define WFE_EXECUTOR_LEASE_H

/*
 * The lease that holds everything a step makes in containerd. It expires by itself, so that the
 * daemon's collector frees what a dead executor left even if nobody reclaims, and so that others
 * know what an owner whom they can't judge has left behind. A living executor renews it in time
 * (executor/daemon/lease_keeper.h).
 */

#include "executor/daemon/connect.h"

/* How long it lasts, unless $WFE_LEASE_DURATION says otherwise. */
#define WFE_LEASE_DURATION_MS (INT64_C(24) * 3600 * 1000)

/* As the environment says. Errors: WFE_ERROR_INPUT. */
int wfe_lease_duration(int64_t *ret_ms, struct wfe_error *err);

/* The id of the lease that takes turns with the lease `id`. Allocated; NULL when memory ran out. */
char *wfe_lease_renewed_id(const char *id);

/* Ask for the lease `id`, with the owner's label; the answer is taken from *ret_call by
 * wfe_lease_create_finish(), so that other requests can go out meanwhile. Errors:
 * WFE_ERROR_CONTAINERD, WFE_ERROR_SYSTEM (the owner can't be told), WFE_ERROR_INPUT
 * ($WFE_LEASE_DURATION). */
int wfe_lease_create_start(const struct wfe_session *session, const char *id,
    struct wfe_rpc_call **ret_call, struct wfe_error *err);
/* A lease that is there already (a retried request) is success. */
int wfe_lease_create_finish(struct wfe_rpc_call *call, struct wfe_error *err);

/* Whether a lease with these labels (see labels.h) has run out, by this machine's clock. */
bool wfe_lease_has_run_out(void *labels, size_t count);
/* Whether there is a lease `id`, or the one that renews it, which has not run out. Errors:
 * WFE_ERROR_CONTAINERD. */
int wfe_lease_is_alive(
    const struct wfe_session *session, const char *id, bool *ret, struct wfe_error *err);

/* Put a blob (type "content") or a snapshot ("snapshots/SNAPSHOTTER") that may exist already
 * under the session's lease; without a lease nothing happens. Errors: WFE_ERROR_CONTAINERD. */
int wfe_lease_add(
    const struct wfe_session *session, const char *type, const char *id, struct wfe_error *err);

/* Delete it, and not what renews it; one that is gone already is success. With sync the daemon has
 * collected what it held before this returns. Never cancelled by the session's token. */
int wfe_lease_delete(const struct wfe_session *session, const char *id, bool sync,
    int64_t timeout_ms, struct wfe_error *err);
/* Both. */
int wfe_lease_delete_all(
    const struct wfe_session *session, const char *id, int64_t timeout_ms, struct wfe_error *err);
/* Only ask for it: wfe_session_undo_finish() has the answer. */
int wfe_lease_delete_start(const struct wfe_session *session, const char *id, bool sync,
    int64_t timeout_ms, struct wfe_rpc_call **ret_call, struct wfe_error *err);

#endif
