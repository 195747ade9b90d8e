/* SPDX-License-Identifier: MIT */
#include "executor/run/run_parts.h"

#include "executor/unwind.h"
#include "libcommon/cleanup.h"
#include "libcommon/log.h"

#define UNDO_TIMEOUT_MS 30000

/* The rest of its output, and where that was. */
static void end_io(void *context)
{
    struct step_run *run = context;
    struct wfe_error err = WFE_ERROR_INIT;
    if (run->ended)
        wfe_task_io_drain(run->io);
    if (wfe_task_io_remove(run->io, UNDO_TIMEOUT_MS, &err) < 0)
        wfe_log(
            WFE_LOG_WARN, "unwind", "its output's volume is left behind for now: %s", err.message);
}

/* Unmake what the daemon and this machine hold of the step. */
void wfe_step_run_unwind(struct step_run *run)
{
    struct wfe_holdings holdings = {
        .id = run->id,
        .lease_made = run->lease_made,
        .snapshot_made = run->snapshot_made,
        .container_made = run->container_made,
        .task_made = run->task_made,
        .network = run->network,
        .collect = run->io && run->io_kind == WFE_TASK_IO_SNAPSHOT ? end_io : NULL,
        .collect_context = run,
    };
    wfe_step_run_hold_lease(run, NULL);
    wfe_lease_keeper_stop(wfe_steal(&run->lease_keeper));
    run->session.lease = NULL;
    wfe_unwind(&run->session, &holdings);
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
