/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_STEP_PORTS_H
#define WFE_EXECUTOR_STEP_PORTS_H

/* The field `ports`: what of a step's network is published on the daemon's host. */

#include "executor/step/step_config.h"

#define WFE_STEP_MAX_PORTS 256

void wfe_step_read_ports(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config);

/* One more of them, for which config->ports has room. One that clashes is told. */
void wfe_step_add_port(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const struct wfe_step_port *port,
    struct wfe_step_config *config);

/* There are ports only with a bridge. node is the configuration that they stand in. */
void wfe_step_check_ports(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const struct wfe_step_config *config);

#endif
