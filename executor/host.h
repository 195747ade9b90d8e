/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_HOST_H
#define WFE_EXECUTOR_HOST_H

/*
 * What the machine of the daemon has for a step's confinement, when that is this machine. Of
 * another one nothing is known, and nothing that might not be there is asked of its runtime.
 */

#include <stdbool.h>

#include "executor/step.h"
#include "libcommon/error.h"

struct wfe_host {
    const char *apparmor_profile; /* static; NULL: no AppArmor, or no profile for containers */
    bool limits_swap;             /* the kernel counts swap by cgroup */
};

/* Look at this machine. What can't be read is not there. */
struct wfe_host wfe_host_probe(void);

#endif
