/* SPDX-License-Identifier: MIT */
#include "executor/run/run_parts.h"

#include <errno.h>

#include "executor/daemon/container.h"
#include "executor/daemon/lease.h"
#include "executor/daemon/snapshot.h"
#include "libcommon/log.h"

#define UNDO_TIMEOUT_MS 30000

static void undone(const char *what, int r, const struct wfe_error *err)
{
    if (r < 0)
        wfe_log(WFE_LOG_WARN, "unwind", "%s is left behind for now: %s", what, err->message);
}

/* One thing that the daemon is asked to forget. */
struct undo {
    const char *what;
    int (*again)(const struct step_run *run, struct wfe_error *err);
    struct wfe_rpc_call *call; /* in flight; NULL: there is nothing to do, or it failed */
};

static int delete_lease(const struct step_run *run, struct wfe_error *err)
{
    return wfe_lease_delete(&run->session, run->id, false, UNDO_TIMEOUT_MS, err);
}

static int delete_container(const struct step_run *run, struct wfe_error *err)
{
    return wfe_container_delete(&run->session, run->id, UNDO_TIMEOUT_MS, err);
}

/* What a daemon refused whose disk was full, it may do now that the snapshot is gone. */
static void undo_end(const struct step_run *run, struct undo *undo)
{
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_session_undo_finish(undo->call, &err);
    wfe_rpc_call_free(undo->call);
    if (r < 0 && r != -EAGAIN && err.kind == WFE_ERROR_CONTAINERD) {
        err = (struct wfe_error)WFE_ERROR_INIT;
        r = undo->again(run, &err);
    }
    undone(undo->what, r, &err);
}

static void start_lease_deletion(const struct step_run *run, struct undo *lease)
{
    struct wfe_error err = WFE_ERROR_INIT;
    if (run->lease_made)
        undone(lease->what,
            wfe_lease_delete_start(
                &run->session, run->id, false, UNDO_TIMEOUT_MS, &lease->call, &err),
            &err);
}

/* The rest of its output, and where that was. */
static void end_io(struct step_run *run)
{
    struct wfe_error err = WFE_ERROR_INIT;
    if (!run->io)
        return;
    if (run->ended)
        wfe_task_io_drain(run->io);
    undone("its output's volume", wfe_task_io_remove(run->io, UNDO_TIMEOUT_MS, &err), &err);
}

/* Unmake what the daemon holds of the step. The order matters: without its container's record a
 * task can't be deleted any more, and its root is mounted until then. The lease holds nothing that
 * the container does not hold as well, but for output that is read through it. */
void wfe_step_run_unwind(struct step_run *run)
{
    struct wfe_error err;
    wfe_step_run_hold_lease(run, NULL);
    run->session.lease = NULL;
    struct undo lease = {.what = "the lease", .again = delete_lease},
                container = {.what = "the container", .again = delete_container};
    bool reads_by_lease = run->io && run->io_kind == WFE_TASK_IO_SNAPSHOT;
    if (!reads_by_lease)
        start_lease_deletion(run, &lease);
    bool task_gone = true;
    if (run->task_made) {
        err = (struct wfe_error)WFE_ERROR_INIT;
        int r = wfe_task_delete(&run->session, run->id, NULL, &err);
        undone("the task", r, &err);
        task_gone = r == 0;
    }
    if (task_gone && run->container_made) {
        err = (struct wfe_error)WFE_ERROR_INIT;
        undone(container.what,
            wfe_container_delete_start(
                &run->session, run->id, UNDO_TIMEOUT_MS, &container.call, &err),
            &err);
    }
    if (task_gone && run->snapshot_made) {
        err = (struct wfe_error)WFE_ERROR_INIT;
        undone("the snapshot", wfe_snapshot_remove(&run->session, run->id, UNDO_TIMEOUT_MS, &err),
            &err);
    }
    if (task_gone && run->network) {
        err = (struct wfe_error)WFE_ERROR_INIT;
        undone("the network", wfe_network_down(run->network, &err), &err);
    }
    if (task_gone)
        end_io(run);
    if (reads_by_lease)
        start_lease_deletion(run, &lease);
    undo_end(run, &container);
    undo_end(run, &lease);
}

void wfe_step_run_release(struct step_run *run)
{
    wfe_task_io_free(run->io);
    wfe_input_mount_free(run->mount);
    wfe_network_free(run->network);
    if (run->root)
        protobuf_c_message_free_unpacked(&run->root->base, NULL);
    cJSON_Delete(run->spec);
    wfe_user_done(&run->user);
    wfe_image_done(&run->image);
    wfe_inputs_done(&run->inputs);
    if (run->connected)
        wfe_session_done(&run->session);
}
