/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_NETNS_H
#define WFE_EXECUTOR_NETNS_H

/*
 * A network namespace that has a path, as `ip netns` makes them: a bind mount keeps it alive until
 * it is removed, whoever dies. Needs root.
 */

#include <stdbool.h>

#include "libcommon/error.h"

/* Make one at path, a file that is not there yet, with its loopback interface up. Errors:
 * WFE_ERROR_SYSTEM; nothing is left behind then. */
int wfe_netns_make(const char *path, struct wfe_error *err);

/* Whether there is one at path. */
bool wfe_netns_is_made(const char *path);

/* Remove it; what is not there, or not mounted, is fine. Returns 0 or -errno. */
int wfe_netns_remove(const char *path);

#endif
