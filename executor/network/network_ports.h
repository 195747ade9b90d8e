/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_NETWORK_PORTS_H
#define WFE_EXECUTOR_NETWORK_PORTS_H

/* Published ports: kept from others on the host, and told to the plugin that leads them into the
 * container. */

#include <cjson/cJSON.h>

#include "executor/step/step.h"
#include "libcommon/error.h"

/*
 * Take the host's ports, as sockets that nothing arrives at: a port in use is told, and nobody else
 * gets them while they are held. fds: room for count descriptors, which the caller closes; -1 where
 * there is none. Errors: WFE_ERROR_SYSTEM.
 */
int wfe_network_ports_take(
    const struct wfe_step_port *ports, size_t count, int *fds, struct wfe_error *err);

/* {"portMappings": [{hostPort, containerPort, protocol, hostIP}]} (CNI conventions, "Dynamic Plugin
 * specific fields"); an empty object without ports. NULL when memory ran out. */
cJSON *wfe_network_ports_capability(const struct wfe_step_port *ports, size_t count);

/* The first of the ports that another one's capability has taken already; NULL when none is. */
const struct wfe_step_port *wfe_network_ports_find(
    const struct wfe_step_port *ports, size_t count, const cJSON *capability);

#endif
