/* SPDX-License-Identifier: MIT */

/* Whether a task's processes were killed for want of memory, by the counters of its cgroup. */

#include <stdio.h>
#include <string.h>

#include "cgroups_v1.pb-c.h"
#include "cgroups_v2.pb-c.h"
#include "executor/daemon/task.h"
#include "tasks.pb-c.h"

#define METRICS_TIMEOUT_MS 10000
#define FILTER_MAX 160

/* Newer versions of the daemon put a host in front of the type's name, or leave it away. */
static bool is_type(const Google__Protobuf__Any *any, const ProtobufCMessageDescriptor *type)
{
    const char *slash = strrchr(any->type_url, '/');
    return strcmp(slash ? slash + 1 : any->type_url, type->name) == 0;
}

static uint64_t kills_in(const Google__Protobuf__Any *any)
{
    uint64_t kills = 0;
    if (is_type(any, &cgroups_v1__metrics__descriptor)) {
        CgroupsV1__Metrics *metrics =
            cgroups_v1__metrics__unpack(NULL, any->value.len, any->value.data);
        if (metrics && metrics->memory_oom_control)
            kills = metrics->memory_oom_control->oom_kill;
        cgroups_v1__metrics__free_unpacked(metrics, NULL);
    } else if (is_type(any, &cgroups_v2__metrics__descriptor)) {
        CgroupsV2__Metrics *metrics =
            cgroups_v2__metrics__unpack(NULL, any->value.len, any->value.data);
        if (metrics && metrics->memory_events)
            kills = metrics->memory_events->oom_kill;
        cgroups_v2__metrics__free_unpacked(metrics, NULL);
    }
    return kills;
}

int wfe_task_oom_kills(
    const struct wfe_session *session, const char *id, uint64_t *ret, struct wfe_error *err)
{
    char filter[FILTER_MAX];
    char *filters[] = {filter};
    snprintf(filter, sizeof filter, "id==%s", id);
    Tasks__MetricsRequest request = TASKS__METRICS_REQUEST__INIT;
    request.filters = filters;
    request.n_filters = 1;
    struct wfe_rpc_context context = wfe_session_context(session);
    context.cancel = NULL;
    context.timeout_ms = METRICS_TIMEOUT_MS;
    WFE_MESSAGE ProtobufCMessage *reply = NULL;
    int r = wfe_rpc_unary(session->rpc, &context,
        (struct wfe_rpc_method){&tasks__tasks__descriptor, "Metrics"}, &request.base, &reply, err);
    if (r < 0)
        return r;
    const Tasks__MetricsResponse *response = (const Tasks__MetricsResponse *)reply;
    uint64_t kills = 0;
    for (size_t i = 0; i < response->n_metrics; i++) {
        const Google__Protobuf__Any *data = response->metrics[i]->data;
        if (data && strcmp(response->metrics[i]->id, id) == 0)
            kills += kills_in(data);
    }
    *ret = kills;
    return 0;
}
