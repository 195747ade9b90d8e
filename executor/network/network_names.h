/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_NETWORK_NAMES_H
#define WFE_EXECUTOR_NETWORK_NAMES_H

/*
 * The names of a workflow's services in the /etc/hosts of its containers.
 *
 * A container sees the file of its step's directory through a bind mount, so that is rewritten in
 * place, by one write, whenever a service comes or goes: also those that were there before it find
 * it by its name.
 */

#include "libcommon/error.h"

/*
 * Write the hosts of the containers of a group, or of the one named `only`, from what their states
 * say: `group`, `service`, and the addresses in `result`. The network's lock is held. Errors:
 * WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL; the others are written all the same.
 */
int wfe_network_names_write(const char *group, const char *only, struct wfe_error *err);

#endif
