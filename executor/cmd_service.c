/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/commands.h"
#include "executor/daemon/sharing.h"
#include "executor/run/run.h"
#include "executor/service/services.h"
#include "executor/step/workflow_file.h"
#include "libcommon/cleanup.h"

enum { WORKFLOW = 1, DATA };

static const struct wfe_option OPTIONS[] = {
    {"workflow", 'w', "ID", "the workflow's id, part of the containers' (required)", WORKFLOW},
    {"data", 'd', "FILE", "workflow data, a JSON object (- is stdin)", DATA},
    WFE_OPTIONS_END,
};

struct parsed {
    const char *workflow_id, *data_path;
};

static int take_option(void *context, int id, const char *value, struct wfe_error *err)
{
    (void)err;
    struct parsed *parsed = context;
    if (id == WORKFLOW)
        parsed->workflow_id = value;
    else
        parsed->data_path = value;
    return 0;
}

static int print_data(const struct wfe_services *services, struct wfe_error *err)
{
    WFE_JSON cJSON *data = wfe_services_data(services);
    WFE_FREE char *text = data ? cJSON_PrintUnformatted(data) : NULL;
    if (!text)
        return wfe_error_nomem(err);
    if (printf("%s\n", text) < 0 || fflush(stdout) != 0)
        return wfe_error_system(err, errno, "write to stdout");
    return 0;
}

/* What nobody was told of is not left running. */
static int bring_up(const struct wfe_services_options *options, struct wfe_error *err)
{
    struct wfe_services *services = NULL;
    int r = wfe_services_up(options, &services, err);
    if (r < 0)
        return r;
    r = print_data(services, err);
    if (r == 0)
        r = wfe_services_disown(services, err);
    if (r < 0)
        wfe_services_down(services);
    return r;
}

static int run(const struct wfe_globals *globals, const struct parsed *parsed, const char *verb,
    const char *path, struct wfe_error *err)
{
    bool up = strcmp(verb, "up") == 0;
    if (!up && strcmp(verb, "down") != 0)
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "found '%.60s'; allowed: up, down", verb);
    if (!parsed->workflow_id)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "--workflow ID is required");
    struct wfe_workflow *workflow = NULL;
    int r = wfe_workflow_load(path, parsed->data_path, &workflow, err);
    if (r < 0)
        return r;
    const struct wfe_step_config *first =
        workflow->step_count > 0 ? &workflow->steps[0].config : NULL;
    struct wfe_connect_options connect_options = wfe_run_daemon(&globals->daemon, first);
    struct wfe_session session;
    r = wfe_connect(&connect_options, &session, err);
    if (r == 0) {
        r = wfe_sharing_find(&session, wfe_sharing_io_directory(), WFE_SHARING_REMEMBERED, err);
        struct wfe_services_options options = {
            .session = &session,
            .services = workflow->services,
            .count = workflow->service_count,
            .workflow_id = parsed->workflow_id,
        };
        if (r == 0)
            r = up ? bring_up(&options, err) : wfe_services_remove(&options, err);
        wfe_session_done(&session);
    }
    wfe_workflow_free(workflow);
    return r;
}

static struct parsed given;

static int main_service(const struct wfe_globals *globals, char *const *operands)
{
    struct wfe_error err = WFE_ERROR_INIT;
    int r = run(globals, &given, operands[0], operands[1], &err);
    if (r < 0)
        wfe_command_fail(&wfe_command_service, &err);
    if (r < 0 && wfe_stop_signal() != 0)
        return 128 + wfe_stop_signal();
    return r < 0 ? WFE_EXIT_FAILURE : 0;
}

const struct wfe_command wfe_command_service = {
    .name = "service",
    .operand = "up|down FILE",
    .summary = "Bring a workflow's services up, or take them down",
    .options = OPTIONS,
    .take = take_option,
    .state = &given,
    .operand_count = 2,
    .main_all = main_service,
};
