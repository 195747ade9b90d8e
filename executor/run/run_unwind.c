/* SPDX-License-Identifier: MIT */
#include "executor/run/run_parts.h"

#include "executor/unwind.h"
#include "libcommon/cleanup.h"

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
