/* SPDX-License-Identifier: MIT */
#include "executor/run/run_parts.h"

#include "executor/run/output_artifacts.h"
#include "executor/unwind.h"
#include "libcommon/cleanup.h"
#include "libcommon/log.h"

#define UNDO_TIMEOUT_MS 30000

/* A daemon that was lost meanwhile is waited for by what a try unmakes. */
#define TAKE_TRIES 5

/* Where the output was goes with the rest. */
static void finish_io(struct step_run *run)
{
    struct wfe_error err = WFE_ERROR_INIT;
    if (run->io_removing && wfe_task_io_remove_finish(run->io, UNDO_TIMEOUT_MS, &err) < 0)
        wfe_log(
            WFE_LOG_WARN, "unwind", "its output's volume is left behind for now: %s", err.message);
}

static bool has_artifacts(const struct step_run *run)
{
    const struct wfe_task_end *end = &run->end;
    bool succeeded = run->ended && !end->timed_out && !end->cancelled && end->exit_status == 0;
    return succeeded && run->step->config.output_count > 0;
}

static void take_artifacts(struct step_run *run)
{
    wfe_progress_stage(run->options->progress, "taking the outputs");
    struct wfe_session session = run->session;
    session.lease = run->id;
    struct wfe_output_source source = {
        .session = &session,
        .root = run->root,
        .root_key = run->id,
        .chain = &run->root_chain,
    };
    const struct wfe_step_config *config = &run->step->config;
    for (int tries = 1; tries <= TAKE_TRIES; tries++) {
        run->artifacts_error = (struct wfe_error)WFE_ERROR_INIT;
        run->artifacts_failed =
            wfe_output_artifacts_take(&source, config->outputs, config->output_count,
                run->options->store_path, &run->artifacts, &run->artifacts_error) < 0;
        if (!run->artifacts_failed || !wfe_rpc_is_lost(&run->artifacts_error))
            break;
    }
}

static void collect(void *context)
{
    struct step_run *run = context;
    bool has_volume = run->io && run->io_kind == WFE_TASK_IO_SNAPSHOT;
    if (has_volume && run->ended)
        wfe_task_io_drain(run->io);
    if (has_artifacts(run))
        take_artifacts(run);
    if (has_volume)
        wfe_task_io_remove_start(run->io, UNDO_TIMEOUT_MS);
    run->io_removing = has_volume;
    wfe_lease_keeper_stop(wfe_steal(&run->lease_keeper));
}

static void release(void *context)
{
    struct step_run *run = context;
    wfe_input_mount_free(wfe_steal(&run->mount));
    if (run->io)
        wfe_task_io_unlink(run->io);
}

/* Unmake what the daemon and this machine hold of the step. */
void wfe_step_run_unwind(struct step_run *run)
{
    bool collects = (run->io && run->io_kind == WFE_TASK_IO_SNAPSHOT) || has_artifacts(run);
    struct wfe_holdings holdings = {
        .id = run->id,
        .lease_made = run->lease_made,
        .snapshot_made = run->snapshot_made,
        .container_made = run->container_made,
        .task_made = run->task_made,
        .network = run->network,
        .collect = collects ? collect : NULL,
        .release = release,
        .context = run,
    };
    wfe_step_run_hold_lease(run, NULL);
    if (!collects)
        wfe_lease_keeper_stop(wfe_steal(&run->lease_keeper));
    run->session.lease = NULL;
    wfe_unwind(&run->session, &holdings);
    finish_io(run);
    wfe_lease_keeper_stop(wfe_steal(&run->lease_keeper));
}

void wfe_step_run_release(struct step_run *run)
{
    wfe_task_io_free(run->io);
    wfe_input_mount_free(run->mount);
    wfe_network_free(run->network);
    if (run->root)
        protobuf_c_message_free_unpacked(&run->root->base, NULL);
    cJSON_Delete(run->spec);
    cJSON_Delete(run->artifacts);
    wfe_user_done(&run->user);
    wfe_rpc_call_free(run->image_call);
    wfe_image_done(&run->image);
    wfe_inputs_done(&run->inputs);
    if (run->connected)
        wfe_session_done(&run->session);
}
