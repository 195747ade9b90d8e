/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_RUN_PARTS_H
#define WFE_EXECUTOR_RUN_PARTS_H

/* What run.c, run_stages.c, run_unwind.c and run_outcome.c share: a step on its way. */

#include "executor/daemon/connect.h"
#include "executor/daemon/lease_keeper.h"
#include "executor/daemon/task.h"
#include "executor/daemon/task_io.h"
#include "executor/image/image.h"
#include "executor/input/input_mount.h"
#include "executor/network/network.h"
#include "executor/run/run.h"
#include "executor/spec/user.h"
#include "snapshots.pb-c.h"

/* One step on its way. The flags say what has to be unmade: each is set before its request goes
 * out, since a request that fails may have been carried out all the same. */
struct step_run {
    const struct wfe_run_options *options;
    const struct wfe_step *step;
    const char *name;             /* the step's, or "unknown" */
    const char *workflow_id;      /* NULL: of no workflow */
    char id[WFE_UNIQUE_NAME_MAX]; /* of the container, its snapshot and its lease */
    struct wfe_session session;
    struct wfe_rpc_call *lease_call; /* in flight while the image is looked up */
    struct wfe_rpc_call *image_call; /* in flight while the connection is made; NULL: not asked */
    bool connected, lease_made, snapshot_made, container_made, task_made;
    bool start_asked; /* its command may have run */
    struct wfe_inputs inputs;
    enum wfe_inputs_kind inputs_as;
    struct wfe_input_mount *mount; /* NULL: the inputs are layers */
    bool mount_fails;              /* they have to be layers */
    bool mount_broke;              /* while the step ran: mount_error */
    struct wfe_error mount_error;
    struct wfe_image image;
    struct wfe_lease_keeper *lease_keeper;
    struct wfe_digest image_chain;
    struct wfe_network *network;  /* NULL: none of our making */
    struct wfe_digest root_chain; /* the image's with all inputs */
    Snapshots__PrepareSnapshotResponse *root;
    struct wfe_user user;
    cJSON *spec;
    enum wfe_task_io_kind io_kind;
    struct wfe_task_io *io;
    bool io_removing; /* its volume, while the rest is unmade */
    bool lost_early;  /* the daemon, before the step's command can have run */
    bool io_unseen;   /* what was remembered of the daemon's sharing is not so */
    struct wfe_task_end end;
    bool ended;       /* `end` is valid: the task ran */
    cJSON *artifacts; /* references to its outputs; NULL: none */
    bool artifacts_failed;
    struct wfe_error artifacts_error;
    uint64_t oom_kills;
};

/* The way of a step, as far as it comes. Nothing is unmade when it fails. */
int wfe_step_run_stages(struct step_run *run, const cJSON *data, struct wfe_error *err);

/* Await the lease, which is being made since the connection stands: the session's requests are
 * under it from then on. run is a struct step_run (executor/image/pull.h wants it like that). */
int wfe_step_run_hold_lease(void *run, struct wfe_error *err);

/* Unmake what the daemon holds of the step; what can't be unmade is logged. */
void wfe_step_run_unwind(struct step_run *run);

/* Free what this process holds of it. */
void wfe_step_run_release(struct step_run *run);

/* How a step ended whose stages failed with err. */
enum wfe_outcome_kind wfe_step_run_judge_failure(
    const struct step_run *run, const struct wfe_error *err);

/* How the step ended, when its task ran. */
void wfe_step_run_judge_end(const struct step_run *run, struct wfe_outcome *outcome);

/* The step's output as workflow data; after the task is deleted. The caller deletes *ret. */
int wfe_step_run_collect_output(struct step_run *run, cJSON **ret, struct wfe_error *err);

#endif
