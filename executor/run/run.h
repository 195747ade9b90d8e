/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_RUN_H
#define WFE_EXECUTOR_RUN_H

/*
 * The way of a step: connect → lease → image → artifacts → snapshot → spec → container →
 * task → outputs → result, and back again. Whatever was made is unmade in reverse order in
 * every way that a step can end; what could not be unmade is logged, and goes with its lease or
 * with the next executor's reclaiming.
 */

#include <cjson/cJSON.h>

#include "executor/daemon/connect.h"
#include "executor/input/artifacts.h"
#include "executor/run/progress.h"
#include "executor/run/result.h"
#include "executor/step/step.h"
#include "executor/daemon/connect.h"
#include "executor/daemon/task_io.h"

struct wfe_run_options {
    struct wfe_connect_options daemon; /* its address and TLS override the steps' own */
    const char *store_path;
    const struct wfe_artifact_binding *bindings;
    size_t binding_count;
    const char *raw_directory;   /* NULL: none */
    const char *hosts_directory; /* see executor/image/registry.h */
    unsigned max_downloads;      /* see executor/image/pull.h */
    bool io_given;               /* else: wfe_run_io_kind() */
    enum wfe_task_io_kind io;
    const char *io_directory; /* $WFE_IO_DIR, or NULL */
    enum wfe_inputs_kind inputs_as;
    struct wfe_layer_limits limits; /* of inputs that go in as layers */
    struct wfe_progress *progress;
};

/*
 * Run the workflow's steps in order, with its services beside them
 * (executor/service/run_services.h). Each step's output is merged into the workflow's data before
 * the next; the first step that fails ends it. *ret_output_data (caller deletes) holds the merged
 * output of the steps that ran. The outcome says how it ended; its signal_number is the caller's to
 * fill in.
 */
void wfe_run(struct wfe_workflow *workflow, const struct wfe_run_options *options,
    struct wfe_outcome *ret, cJSON **ret_output_data);

/* The way that output takes by default, of a session whose sharing is known: files in io_directory
 * where there is one and the daemon sees it, FIFOs on this machine, files in a directory that is
 * shared all the same, else a volume. */
enum wfe_task_io_kind wfe_run_io_kind(const struct wfe_session *session, const char *io_directory);

/* Where a step's daemon is. Its address: the given one, the step's (config may be NULL),
 * $WFE_CONTAINERD_ADDR, $CONTAINERD_ADDRESS, containerd's default. Its TLS files: those given, else
 * the step's. The strings are borrowed. */
struct wfe_connect_options wfe_run_daemon(
    const struct wfe_connect_options *given, const struct wfe_step_config *config);

#endif
