/* SPDX-License-Identifier: MIT */
#include "executor/run/run.h"

#include <stdlib.h>
#include <string.h>

#include "executor/daemon/sharing.h"
#include "executor/run/run_parts.h"
#include "executor/service/run_services.h"
#include "executor/service/service_data.h"
#include "libcommon/cleanup.h"
#include "libcommon/log.h"

/* Of a step, whose command runs in the last one alone. */
#define TRIES 3

static const char *find_address(const char *given, const struct wfe_step_config *config)
{
    const char *const candidates[] = {
        given,
        config ? config->containerd_addr : NULL,
        getenv("WFE_CONTAINERD_ADDR"),
        getenv("CONTAINERD_ADDRESS"),
    };
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++)
        if (candidates[i] && *candidates[i])
            return candidates[i];
    return WFE_STEP_DEFAULT_ADDRESS;
}

struct wfe_connect_options wfe_run_daemon(
    const struct wfe_connect_options *given, const struct wfe_step_config *config)
{
    struct wfe_connect_options options = *given;
    options.address = find_address(given->address, config);
    if (!config)
        return options;
    if (!options.tls.ca)
        options.tls.ca = config->tls_ca;
    if (!options.tls.cert && !options.tls.key) {
        options.tls.cert = config->tls_cert;
        options.tls.key = config->tls_key;
    }
    return options;
}

/* Whether a task could not be made since its daemon does not see the files for its output. */
static bool lacks_files(const struct step_run *run, const struct wfe_error *err)
{
    return run->task_made && !run->ended && run->io_kind == WFE_TASK_IO_FILE &&
           !run->options->io_given && strstr(err->message, wfe_task_io_stdout(run->io));
}

/* Whether the daemon was lost, which is told with what it means for who wants to try again. */
static bool judge_loss(const struct step_run *run, struct wfe_error *err)
{
    bool is_away = run->start_asked && err->kind == WFE_ERROR_TIMEOUT;
    if (!run->connected || !(wfe_rpc_is_lost(err) || is_away))
        return false;
    wfe_error_prefix(err, "%s",
        run->start_asked
            ? "the daemon was lost after the step had been started, so that a retry may "
              "do things twice"
            : "the daemon was lost before the step was started, so that a retry is safe");
    return !run->start_asked;
}

/* One try. ret_data: the step's output, NULL when its task never ran. */
static void try_step(
    struct step_run *run, const cJSON *data, struct wfe_outcome *outcome, cJSON **ret_data)
{
    int r = wfe_step_run_stages(run, data, &outcome->error);
    if (r < 0)
        outcome->kind = wfe_step_run_judge_failure(run, &outcome->error);
    if (r < 0 && run->mount && run->task_made && !run->ended)
        run->mount_fails = wfe_input_mount_is_unseen(run->mount, &outcome->error);
    run->io_unseen = r < 0 && lacks_files(run, &outcome->error);
    if (run->io_unseen)
        wfe_sharing_forget(&run->session);
    run->lost_early = r < 0 && judge_loss(run, &outcome->error);
    if (run->mount && run->ended) {
        run->mount_broke = wfe_input_mount_check(run->mount, &run->mount_error) < 0;
        wfe_input_mount_stop(run->mount);
    }
    if (run->connected)
        wfe_step_run_unwind(run);
    if (run->ended) {
        wfe_step_run_judge_end(run, outcome);
        struct wfe_error err = WFE_ERROR_INIT;
        if (wfe_step_run_collect_output(run, ret_data, &err) < 0 &&
            outcome->kind == WFE_OUTCOME_DONE) {
            outcome->kind = WFE_OUTCOME_FAILED;
            outcome->error = err;
        }
    }
    wfe_step_run_release(run);
}

/* Whether the step is worth another try, and how: the inputs could not be mounted, so they have to
 * be layers; the daemon shares less than was remembered; or it was lost, and what was made there
 * has been unmade since. */
static bool plan_again(
    const struct step_run *run, const struct wfe_outcome *outcome, struct step_run *next)
{
    const char *reason = outcome->error.kind != WFE_ERROR_NONE
                             ? outcome->error.message
                             : "a target is no plain directory of the image";
    if (run->mount_fails) {
        wfe_log(
            WFE_LOG_WARN, "inputs", "they can't be mounted and are applied as layers: %s", reason);
        next->inputs_as = WFE_INPUTS_LAYER;
    } else if (run->io_unseen) {
        wfe_log(WFE_LOG_INFO, "output", "the daemon's sharing has changed: %s", reason);
    } else if (run->lost_early) {
        wfe_log(WFE_LOG_WARN, "connect", "it is tried again: %s", reason);
    } else {
        return false;
    }
    return true;
}

static void run_step(const struct wfe_workflow *workflow, const struct wfe_step *step,
    const struct wfe_run_options *options, struct wfe_outcome *ret, cJSON **ret_data)
{
    const cJSON *data = workflow->data;
    /* The steps are where their services are. */
    const char *workflow_id = wfe_service_data_workflow(data);
    struct step_run next = {
        .options = options,
        .step = step,
        .name = step->name ? step->name : "unknown",
        .workflow_id = workflow_id ? workflow_id : workflow->id,
        .inputs_as = options->inputs_as,
    };
    wfe_log_set_step(step->name);
    wfe_progress_step(options->progress, step->name);
    struct wfe_outcome outcome;
    for (int tries = 1;; tries++) {
        struct step_run run = next;
        outcome = (struct wfe_outcome){.kind = WFE_OUTCOME_DONE};
        try_step(&run, data, &outcome, ret_data);
        if (tries == TRIES || !plan_again(&run, &outcome, &next))
            break;
    }
    if (outcome.kind != WFE_OUTCOME_DONE && step->name)
        wfe_error_prefix(&outcome.error, "step '%s'", step->name);
    wfe_log_set_step(NULL);
    wfe_progress_step(options->progress, NULL);
    *ret = outcome;
}

void wfe_run(struct wfe_workflow *workflow, const struct wfe_run_options *options,
    struct wfe_outcome *ret, cJSON **ret_output_data)
{
    struct wfe_outcome outcome = {.kind = WFE_OUTCOME_DONE};
    cJSON *output_data = cJSON_CreateObject();
    if (!output_data) {
        outcome.kind = WFE_OUTCOME_FAILED;
        wfe_error_nomem(&outcome.error);
    }
    struct wfe_run_services *services = NULL;
    if (outcome.kind == WFE_OUTCOME_DONE &&
        wfe_run_services_up(workflow, options, &services, &outcome.error) < 0)
        outcome.kind =
            outcome.error.kind == WFE_ERROR_CANCELLED ? WFE_OUTCOME_CANCELLED : WFE_OUTCOME_FAILED;
    for (size_t i = 0; i < workflow->step_count && outcome.kind == WFE_OUTCOME_DONE; i++) {
        WFE_JSON cJSON *step_data = NULL;
        run_step(workflow, &workflow->steps[i], options, &outcome, &step_data);
        if (step_data && (wfe_result_merge(output_data, step_data) < 0 ||
                             wfe_result_merge(workflow->data, step_data) < 0)) {
            outcome = (struct wfe_outcome){.kind = WFE_OUTCOME_FAILED};
            wfe_error_nomem(&outcome.error);
        }
    }
    struct wfe_error end = WFE_ERROR_INIT;
    if (wfe_run_services_ended(services, &end))
        outcome = (struct wfe_outcome){.kind = WFE_OUTCOME_FAILED, .error = end};
    wfe_run_services_down(services);
    *ret = outcome;
    *ret_output_data = output_data;
}
