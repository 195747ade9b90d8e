/* SPDX-License-Identifier: MIT */
#include "executor/service/run_services.h"

#include <errno.h>
#include <stdlib.h>

#include "executor/daemon/connect.h"
#include "executor/service/service_data.h"
#include "executor/daemon/sharing.h"
#include "executor/service/services.h"
#include "libcommon/cleanup.h"

struct wfe_run_services {
    struct wfe_session session;
    bool connected;
    char own_id[WFE_UNIQUE_NAME_MAX]; /* for a workflow without an id */
    struct wfe_service *needed;       /* views of the workflow's */
    size_t count;
    struct wfe_services *services;
};

static int choose(
    struct wfe_run_services *run, const struct wfe_workflow *workflow, struct wfe_error *err)
{
    const cJSON *known = cJSON_GetObjectItemCaseSensitive(workflow->data, "services");
    run->needed = calloc(workflow->service_count + 1, sizeof *run->needed);
    if (!run->needed)
        return wfe_error_nomem(err);
    for (size_t i = 0; i < workflow->service_count; i++)
        if (!cJSON_GetObjectItemCaseSensitive(known, workflow->services[i].name))
            run->needed[run->count++] = workflow->services[i];
    return 0;
}

static int bring_up(struct wfe_run_services *run, const struct wfe_workflow *workflow,
    const struct wfe_run_options *options, struct wfe_error *err)
{
    struct wfe_connect_options connect_options = wfe_run_daemon(
        &options->daemon, workflow->step_count > 0 ? &workflow->steps[0].config : NULL);
    int r = wfe_connect(&connect_options, &run->session, err);
    if (r < 0)
        return r;
    run->connected = true;
    r = wfe_sharing_find(&run->session, options->io_directory, WFE_SHARING_REMEMBERED, err);
    /* Those that are on a bridge already are joined. */
    const char *workflow_id = wfe_service_data_workflow(workflow->data);
    if (!workflow_id)
        workflow_id = workflow->id;
    if (r == 0 && !workflow_id)
        r = wfe_unique_name(run->own_id, err);
    struct wfe_services_options services = {
        .session = &run->session,
        .services = run->needed,
        .count = run->count,
        .workflow_id = workflow_id ? workflow_id : run->own_id,
        .pull =
            {
                .registry.hosts_directory = options->hosts_directory,
                .max_downloads = options->max_downloads,
                .progress = options->progress,
            },
    };
    if (r == 0)
        r = wfe_services_up(&services, &run->services, err);
    return r < 0 ? r : wfe_services_watch(run->services, err);
}

/* The services that were up already stay in the data's list. */
static int merge_data(
    const struct wfe_run_services *run, struct wfe_workflow *workflow, struct wfe_error *err)
{
    WFE_JSON cJSON *data = wfe_services_data(run->services);
    cJSON *list = cJSON_GetObjectItemCaseSensitive(data, "services");
    const cJSON *known = cJSON_GetObjectItemCaseSensitive(workflow->data, "services");
    if (!data || (cJSON_IsObject(known) && wfe_result_merge(list, known) < 0) ||
        wfe_result_merge(workflow->data, data) < 0)
        return wfe_error_nomem(err);
    return 0;
}

int wfe_run_services_up(struct wfe_workflow *workflow, const struct wfe_run_options *options,
    struct wfe_run_services **ret, struct wfe_error *err)
{
    struct wfe_run_services *run = calloc(1, sizeof *run);
    if (!run)
        return wfe_error_nomem(err);
    int r = choose(run, workflow, err);
    if (r == 0 && run->count > 0)
        r = bring_up(run, workflow, options, err);
    if (r == 0 && run->count > 0)
        r = merge_data(run, workflow, err);
    if (r < 0 || run->count == 0) {
        wfe_run_services_down(run);
        run = NULL;
    }
    if (r == 0)
        *ret = run;
    return r;
}

bool wfe_run_services_ended(struct wfe_run_services *services, struct wfe_error *err)
{
    return services && wfe_services_ended(services->services, err);
}

void wfe_run_services_down(struct wfe_run_services *services)
{
    if (!services)
        return;
    wfe_services_down(services->services);
    if (services->connected)
        wfe_session_done(&services->session);
    free(services->needed);
    free(services);
}
