/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_STEP_SERVICES_H
#define WFE_EXECUTOR_STEP_SERVICES_H

/*
 * A workflow's `services`: a map from name to {image, network: host | bridge, ports, env, memory,
 * cpu, command, args, readiness: {exec | tcp | http: {port, path}, interval, timeout, retries}}. Of
 * several kinds of readiness exec counts before tcp, and tcp before http; without any it is TCP on
 * the first port. With a bridge, a port may be one that is published, as a step's is.
 *
 * Limits: WFE_STEP_MAX_SERVICES, and 64 ports of each.
 */

#include "executor/step/step_reader.h"

#define WFE_STEP_MAX_SERVICES 64

/* Read them from the workflow's map, when there are any, into *workflow. */
void wfe_step_read_services(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_workflow *workflow);

void wfe_service_done(struct wfe_service *service);

#endif
