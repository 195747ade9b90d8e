/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_RECLAIM_H
#define WFE_EXECUTOR_RECLAIM_H

/*
 * Finds what executors that died have left in the daemon's namespace, by the owner's label on
 * each container and lease, and removes it: task, container, snapshot, lease (and with
 * it uploads and layers), the directory of its output.
 *
 * An owner on another host or in another PID namespace can't be judged: its things count as
 * left behind once their lease has run out.
 */

#include <stddef.h>

#include "executor/connect.h"

struct wfe_reclaim_report {
    size_t steps;  /* containers with all that belongs to them */
    size_t leases; /* of steps that had no container yet */
    size_t failed; /* still there; the log says why */
};

/* Errors: WFE_ERROR_CONTAINERD when the daemon can't be asked. */
int wfe_reclaim(
    const struct wfe_session *session, struct wfe_reclaim_report *ret, struct wfe_error *err);

#endif
