/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_HOST_H
#define WFE_EXECUTOR_HOST_H

/*
 * What the machine of the daemon has for a step's confinement, when that is this machine. Of
 * another one nothing is known, and nothing that might not be there is asked of its runtime.
 */

#include <stdbool.h>

#include "executor/step/step.h"
#include "libcommon/error.h"

struct wfe_host {
    const char *apparmor_profile; /* static; NULL: no AppArmor, or no profile for containers */
    bool limits_swap;             /* the kernel counts swap by cgroup */
};

/*
 * Whether each bind volume's source is on this machine, and something that a container can use: a
 * directory, a file, a socket, no device. What we may not look at is the daemon's to judge.
 * Errors: WFE_ERROR_INPUT, naming the field and the path.
 */
int wfe_host_check_volumes(const struct wfe_step_config *config, struct wfe_error *err);

/* Look at this machine. What can't be read is not there. */
struct wfe_host wfe_host_probe(void);

#endif
