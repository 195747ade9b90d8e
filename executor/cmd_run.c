/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor/commands.h"
#include "executor/daemon/sharing.h"
#include "executor/image/registry_hosts.h"
#include "executor/parent.h"
#include "executor/run/run.h"
#include "executor/step/workflow_file.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/layer.h"
#include "libcommon/log.h"
#include "libcommon/store.h"

#define BINDINGS_MAX 256

enum {
    DATA = 1,
    STEP,
    STORE,
    ARTIFACT,
    INPUT,
    IO,
    INPUTS_AS,
    LIMIT,
    HOSTS_DIR,
    DOWNLOADS,
    RESULT,
    RAW,
    PROGRESS,
    QUIET,
    NO_DIE_WITH_PARENT
};

static const struct wfe_option OPTIONS[] = {
    {"data", 'd', "FILE", "workflow data, a JSON object (- is stdin)", DATA},
    {"step", 0, "NAME", "of a workflow, run this step only", STEP},
    {"store", 0, "DIR", "artifact store (default: $WFE_ARTIFACT_STORE, else XDG)", STORE},
    {"artifact", 0, "NAME=SOURCE", "bind an input: a directory, an archive, or sha256:DIGEST",
        ARTIFACT},
    {"input", 0, "NAME=TARGET", "add or override an entry of the step's inputs", INPUT},
    {"io", 0, "KIND", "how output comes back: auto, fifo, file or snapshot (default: auto)", IO},
    {"inputs-as", 0, "KIND", "how inputs go in: auto, layer or mount (default: auto)", INPUTS_AS},
    {"limit", 0, "NAME=N",
        "refuse an input of more entries, bytes or the like than N: see the manual", LIMIT},
    {"hosts-dir", 0, "DIR", "registries' hosts.toml (default: " WFE_REGISTRY_HOSTS_DIRECTORY ")",
        HOSTS_DIR},
    {"max-concurrent-downloads", 0, "N", "layers of an image at once, 1 to 16 (default: 3)",
        DOWNLOADS},
    {"result", 0, "FILE", "write the result there instead of stdout", RESULT},
    {"raw", 0, "DIR", "keep the raw output as DIR/STEP.stdout and .stderr", RAW},
    {"progress", 0, "KIND", "auto, plain or none (default: auto)", PROGRESS},
    {"quiet", 'q', NULL, "show neither progress nor the step's output", QUIET},
    {"no-die-with-parent", 0, NULL, "go on when the process that started us ends",
        NO_DIE_WITH_PARENT},
    WFE_OPTIONS_END,
};

/* NAME=VALUE of an option, split in a copy. */
struct pair {
    char *name; /* owns the text */
    const char *value;
};

struct parsed {
    const char *data_path, *step_name, *store, *result_path, *raw_directory, *hosts_directory;
    unsigned max_downloads;
    struct pair artifacts[BINDINGS_MAX], inputs[BINDINGS_MAX];
    size_t artifact_count, input_count;
    bool io_given;
    enum wfe_task_io_kind io;
    enum wfe_inputs_kind inputs_as;
    struct wfe_layer_limits limits;
    enum wfe_progress_mode progress;
    bool quiet;
    bool outlives_parent;
};

static int take_pair(
    const char *option, const char *value, struct pair *pairs, size_t *count, struct wfe_error *err)
{
    const char *equals = strchr(value, '=');
    if (!equals || equals == value || !equals[1])
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "--%s '%s': expected NAME=VALUE", option, value);
    if (*count == BINDINGS_MAX)
        return wfe_error_set(
            err, WFE_ERROR_LIMIT, E2BIG, "--%s: more than %d of them", option, BINDINGS_MAX);
    char *text = strdup(value);
    if (!text)
        return wfe_error_nomem(err);
    text[equals - value] = '\0';
    pairs[(*count)++] = (struct pair){.name = text, .value = text + (equals - value) + 1};
    return 0;
}

static int take_io(struct parsed *parsed, const char *value, struct wfe_error *err)
{
    parsed->io_given = true;
    if (strcmp(value, "fifo") == 0)
        parsed->io = WFE_TASK_IO_FIFO;
    else if (strcmp(value, "file") == 0)
        parsed->io = WFE_TASK_IO_FILE;
    else if (strcmp(value, "snapshot") == 0)
        parsed->io = WFE_TASK_IO_SNAPSHOT;
    else if (strcmp(value, "auto") == 0)
        parsed->io_given = false;
    else
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "--io '%s': expected auto, fifo, file or snapshot", value);
    return 0;
}

static int take_inputs_as(struct parsed *parsed, const char *value, struct wfe_error *err)
{
    static const char *const names[] = {
        [WFE_INPUTS_AUTO] = "auto", [WFE_INPUTS_LAYER] = "layer", [WFE_INPUTS_MOUNT] = "mount"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(value, names[i]) == 0) {
            parsed->inputs_as = (enum wfe_inputs_kind)i;
            return 0;
        }
    }
    return wfe_error_set(
        err, WFE_ERROR_INPUT, EINVAL, "--inputs-as '%s': expected auto, layer or mount", value);
}

static int take_option(void *context, int id, const char *value, struct wfe_error *err)
{
    struct parsed *parsed = context;
    switch (id) {
    case DATA:
        parsed->data_path = value;
        return 0;
    case STEP:
        parsed->step_name = value;
        return 0;
    case STORE:
        parsed->store = value;
        return 0;
    case ARTIFACT:
        return take_pair("artifact", value, parsed->artifacts, &parsed->artifact_count, err);
    case INPUT:
        return take_pair("input", value, parsed->inputs, &parsed->input_count, err);
    case IO:
        return take_io(parsed, value, err);
    case INPUTS_AS:
        return take_inputs_as(parsed, value, err);
    case LIMIT:
        return wfe_layer_limits_set(&parsed->limits, value, err);
    case HOSTS_DIR:
        parsed->hosts_directory = value;
        return 0;
    case DOWNLOADS:
        return wfe_command_take_downloads(value, &parsed->max_downloads, err);
    case RESULT:
        parsed->result_path = value;
        return 0;
    case RAW:
        parsed->raw_directory = value;
        return 0;
    case PROGRESS:
        if (wfe_progress_mode_parse(value, &parsed->progress) < 0)
            return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
                "--progress '%s': expected auto, plain or none", value);
        return 0;
    case QUIET:
        parsed->quiet = true;
        return 0;
    case NO_DIE_WITH_PARENT:
        parsed->outlives_parent = true;
        return 0;
    }
    return 0;
}

static void parsed_done(struct parsed *parsed)
{
    for (size_t i = 0; i < parsed->artifact_count; i++)
        free(parsed->artifacts[i].name);
    for (size_t i = 0; i < parsed->input_count; i++)
        free(parsed->inputs[i].name);
}

static int load_workflow(
    const struct parsed *parsed, const char *path, struct wfe_workflow **ret, struct wfe_error *err)
{
    struct wfe_workflow *workflow = NULL;
    int r = wfe_workflow_load(path, parsed->data_path, &workflow, err);
    if (r == 0 && parsed->step_name)
        r = wfe_workflow_select(workflow, parsed->step_name, err);
    for (size_t i = 0; r == 0 && i < parsed->input_count; i++)
        for (size_t s = 0; r == 0 && s < workflow->step_count; s++)
            r = wfe_step_set_input(
                &workflow->steps[s], parsed->inputs[i].name, parsed->inputs[i].value, err);
    if (r < 0) {
        wfe_workflow_free(workflow);
        return r;
    }
    *ret = workflow;
    return 0;
}

static int write_result(const struct parsed *parsed, const cJSON *result, struct wfe_error *err)
{
    WFE_FREE char *text = cJSON_PrintUnformatted(result);
    if (!text)
        return wfe_error_nomem(err);
    FILE *to = stdout;
    WFE_FCLOSE FILE *opened = NULL;
    if (parsed->result_path) {
        opened = fopen(parsed->result_path, "we");
        if (!opened)
            return wfe_error_system(err, errno, "%s", parsed->result_path);
        to = opened;
    }
    if (fprintf(to, "%s\n", text) < 0 || fflush(to) != 0)
        return wfe_error_system(err, errno, "write the result to %s",
            parsed->result_path ? parsed->result_path : "stdout");
    return 0;
}

static void log_rpc(void *context, const char *method, int grpc_status, int64_t duration_ns)
{
    (void)context;
    wfe_log(WFE_LOG_DEBUG, "rpc", "%s status=%d %.3f ms", method, grpc_status,
        (double)duration_ns / 1e6);
}

/* Run, and report; only what keeps the result from being written is an error. */
static int run_and_report(const struct parsed *parsed, struct wfe_workflow *workflow,
    const struct wfe_run_options *options, struct wfe_outcome *outcome, struct wfe_error *err)
{
    WFE_JSON cJSON *output_data = NULL;
    wfe_run(workflow, options, outcome, &output_data);
    if (outcome->kind == WFE_OUTCOME_CANCELLED)
        outcome->signal_number = wfe_stop_signal();
    /* Before the result: the live line must not stand in its way on a terminal. */
    wfe_progress_free(options->progress);
    if (outcome->kind != WFE_OUTCOME_DONE)
        fprintf(stderr, "wfe-containerd: %s\n", outcome->error.message);
    WFE_JSON cJSON *result = wfe_result_object(outcome, output_data);
    if (!result)
        return wfe_error_nomem(err);
    return write_result(parsed, result, err);
}

/* A failure before any step ran is still a result. */
static int report_refusal(const struct parsed *parsed, const struct wfe_error *refusal)
{
    fprintf(stderr, "wfe-containerd: %s\n", refusal->message);
    struct wfe_outcome outcome = {.kind = WFE_OUTCOME_FAILED, .error = *refusal};
    WFE_JSON cJSON *result = wfe_result_object(&outcome, NULL);
    struct wfe_error err = WFE_ERROR_INIT;
    if (!result || write_result(parsed, result, &err) < 0)
        fprintf(stderr, "wfe-containerd: %s\n", err.message);
    return wfe_outcome_exit_status(&outcome);
}

static int run(const struct wfe_globals *globals, struct parsed *parsed, const char *path)
{
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_workflow *workflow = NULL;
    if (load_workflow(parsed, path, &workflow, &err) < 0)
        return report_refusal(parsed, &err);
    WFE_FREE char *default_store = wfe_store_default_path();
    struct wfe_artifact_binding bindings[BINDINGS_MAX];
    for (size_t i = 0; i < parsed->artifact_count; i++)
        bindings[i] = (struct wfe_artifact_binding){
            .name = parsed->artifacts[i].name, .source = parsed->artifacts[i].value};
    struct wfe_run_options options = {
        .daemon = globals->daemon,
        .store_path = parsed->store ? parsed->store : default_store,
        .bindings = bindings,
        .binding_count = parsed->artifact_count,
        .raw_directory = parsed->raw_directory,
        .hosts_directory = parsed->hosts_directory,
        .max_downloads = parsed->max_downloads,
        .inputs_as = parsed->inputs_as,
        .limits = parsed->limits,
        .io_given = parsed->io_given,
        .io = parsed->io,
        .io_directory = wfe_sharing_io_directory(),
    };
    options.daemon.observer = wfe_log_enabled(WFE_LOG_DEBUG) ? log_rpc : NULL;
    int exit_status = WFE_EXIT_FAILURE;
    int r = options.store_path ? 0 : wfe_error_nomem(&err);
    if (r == 0 && options.raw_directory) {
        r = wfe_make_directories(options.raw_directory, 0777);
        if (r < 0)
            wfe_error_system(&err, -r, "%s", options.raw_directory);
    }
    if (r == 0 && !parsed->quiet) {
        r = wfe_progress_new(parsed->progress, &options.progress);
        if (r < 0)
            wfe_error_system(&err, -r, "progress display");
    }
    struct wfe_outcome outcome;
    if (r == 0)
        r = run_and_report(parsed, workflow, &options, &outcome, &err);
    if (r == 0)
        exit_status = wfe_outcome_exit_status(&outcome);
    else
        fprintf(stderr, "wfe-containerd: %s\n", err.message);
    wfe_workflow_free(workflow);
    return exit_status;
}

static struct parsed given;

static int main_run(const struct wfe_globals *globals, const char *path)
{
    struct wfe_error err = WFE_ERROR_INIT;
    if (!given.outlives_parent && !wfe_hangup_is_ignored() && wfe_parent_watch(&err) < 0)
        wfe_log(WFE_LOG_WARN, "run", "the step will not be stopped when our parent ends: %s",
            err.message);
    int exit_status = run(globals, &given, path);
    parsed_done(&given);
    return exit_status;
}

const struct wfe_command wfe_command_run = {
    .name = "run",
    .operand = "STEP",
    .summary = "Run the step, or the workflow's steps, of a YAML or JSON document (- is stdin)",
    .options = OPTIONS,
    .take = take_option,
    .state = &given,
    .main = main_run,
};
