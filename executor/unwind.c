/* SPDX-License-Identifier: MIT */
#include "executor/unwind.h"

#include <errno.h>

#include "executor/daemon/container.h"
#include "executor/daemon/lease.h"
#include "executor/daemon/snapshot.h"
#include "executor/daemon/task.h"
#include "libcommon/log.h"

#define UNDO_TIMEOUT_MS 30000

static void undone(
    const struct wfe_holdings *holdings, const char *what, int r, const struct wfe_error *err)
{
    if (r >= 0)
        return;
    const char *service = holdings->service;
    wfe_log(WFE_LOG_WARN, "unwind", "%s%s%s%s is left behind for now: %s",
        service ? "service '" : "", service ? service : "", service ? "': " : "", what,
        err->message);
}

/* One thing that the daemon is asked to forget. */
struct undo {
    const char *what;
    int (*again)(const struct wfe_session *session, const char *id, struct wfe_error *err);
    bool is_due;
    struct wfe_rpc_call *call; /* in flight; NULL: it could not be asked, and failure says why */
    struct wfe_error failure;
};

static int delete_lease(const struct wfe_session *session, const char *id, struct wfe_error *err)
{
    return wfe_lease_delete(session, id, false, UNDO_TIMEOUT_MS, err);
}

static int delete_container(
    const struct wfe_session *session, const char *id, struct wfe_error *err)
{
    return wfe_container_delete(session, id, UNDO_TIMEOUT_MS, err);
}

/* What a daemon refused whose disk was full, it may do now that the snapshot is gone; and one that
 * was lost meanwhile may be back. */
static void undo_end(
    const struct wfe_session *session, const struct wfe_holdings *holdings, struct undo *undo)
{
    if (!undo->is_due)
        return;
    struct wfe_error err = undo->failure;
    int r = undo->call ? wfe_session_undo_finish(undo->call, &err) : -err.errnum;
    wfe_rpc_call_free(undo->call);
    if (r < 0 && (session->reached || !wfe_rpc_is_lost(&err)) && err.kind == WFE_ERROR_CONTAINERD) {
        err = (struct wfe_error)WFE_ERROR_INIT;
        r = undo->again(session, holdings->id, &err);
    }
    undone(holdings, undo->what, r, &err);
}

static void start_lease_deletion(
    const struct wfe_session *session, const struct wfe_holdings *holdings, struct undo *lease)
{
    lease->is_due = holdings->lease_made;
    if (lease->is_due)
        wfe_lease_delete_start(
            session, holdings->id, false, UNDO_TIMEOUT_MS, &lease->call, &lease->failure);
}

/* The order matters: without its container's record a task can't be deleted any more, and its root
 * is mounted until then. The lease holds nothing that the container does not hold as well, but for
 * what is collected through it, and is the only record where there is no container. */
void wfe_unwind(const struct wfe_session *session, const struct wfe_holdings *holdings)
{
    const char *id = holdings->id;
    struct wfe_error err = WFE_ERROR_INIT;
    struct undo lease = {.what = "the lease", .again = delete_lease},
                container = {.what = "the container", .again = delete_container};
    bool lease_first = !holdings->collect && holdings->container_made;
    if (lease_first)
        start_lease_deletion(session, holdings, &lease);
    bool task_gone = true;
    if (holdings->task_made) {
        err = (struct wfe_error)WFE_ERROR_INIT;
        int r = wfe_task_delete(session, id, NULL, &err);
        undone(holdings, "the task", r, &err);
        task_gone = r == 0;
    }
    if (task_gone && holdings->collect)
        holdings->collect(holdings->context);
    if (task_gone && holdings->release)
        holdings->release(holdings->context);
    if (!lease_first)
        start_lease_deletion(session, holdings, &lease);
    container.is_due = task_gone && holdings->container_made;
    if (container.is_due)
        wfe_container_delete_start(
            session, id, UNDO_TIMEOUT_MS, &container.call, &container.failure);
    if (task_gone && holdings->snapshot_made) {
        err = (struct wfe_error)WFE_ERROR_INIT;
        undone(holdings, "the snapshot", wfe_snapshot_remove(session, id, UNDO_TIMEOUT_MS, &err),
            &err);
    }
    if (task_gone && holdings->network) {
        err = (struct wfe_error)WFE_ERROR_INIT;
        undone(holdings, "the network", wfe_network_down(holdings->network, &err), &err);
    }
    undo_end(session, holdings, &container);
    undo_end(session, holdings, &lease);
}
