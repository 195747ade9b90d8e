/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_SHIM_H
#define WFE_EXECUTOR_SHIM_H

/*
 * Shims that their daemon has lost: when a client dies while its Tasks.Create starts the shim,
 * containerd 1.6 forgets the process and lets it run for ever. No request can end it, so this
 * looks for the process itself, which works where the daemon's processes can be seen.
 */

/* End the shim that was started for container `id` in the containerd namespace, if there is one.
 * Only for a container that has no task and is going to be deleted; ids must be unique over all
 * daemons (wfe_unique_name()). */
void wfe_shim_end(const char *namespace_, const char *id);

#endif
