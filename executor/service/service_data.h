/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_SERVICE_DATA_H
#define WFE_EXECUTOR_SERVICE_DATA_H

/*
 * What workflow data say of services: SVC_<NAME>_HOST, SVC_<NAME>_PORT (of the first port), and
 * services: {NAME: {host, ports}}, for those on a bridge with `workflow`, the one whose network
 * they are on.
 */

#include <cjson/cJSON.h>

#include "executor/step/step.h"

/* addresses[i]: that of services[i] on its bridge, NULL when it is on the host's network. NULL when
 * memory ran out; the caller deletes. */
cJSON *wfe_service_data(const struct wfe_service *services, const char *const *addresses,
    size_t count, const char *workflow_id);

/* The workflow whose network the services of the data are on, a view; NULL when none is on a
 * bridge. */
const char *wfe_service_data_workflow(const cJSON *data);

/* The data as a step on a bridge gets them: to it, the host of services on the host's network is at
 * `gateway`. NULL when memory ran out; the caller deletes. */
cJSON *wfe_service_data_behind(const cJSON *data, const char *gateway);

#endif
