/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_CGROUP_H
#define WFE_EXECUTOR_CGROUP_H

/*
 * Cgroups that their daemon has lost: when a client dies while its Tasks.Create runs,
 * containerd 2.x kills the runtime half-way, and the container's first process stays, which no
 * daemon knows of. So this looks for the cgroup of its spec itself, which works where the daemon's
 * machine is this one.
 */

/* End what is in the cgroup of container `id` in the containerd namespace, and remove it. Only for
 * a container that has no task and is going to be deleted; ids must be unique over all daemons
 * (wfe_unique_name()). */
void wfe_cgroup_end(const char *namespace_, const char *id);

#endif
